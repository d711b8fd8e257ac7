//! Raw values give the ids and numbers that the pipelines' own libraries give for them.
#![expect(clippy::cast_possible_truncation, reason = "drawn numbers are cut to the type under test")]

mod builders;
mod document;
mod drawn;
mod fields;
mod hashes;
mod numbers;
mod sections;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "these tests need no models")]
mod support;
mod vocabularies;
