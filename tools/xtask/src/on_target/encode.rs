//! What encoding a value costs: lookups in a vocabulary of ten thousand keys, and each hash.

use std::{
    fs,
    path::{Path, PathBuf},
};

use embedded_nfm::encode::{
    Encoder, Entry, FieldEncoder, Keys, Policy, SequenceRule, Vocabulary, VocabularyParts, emit_encoders,
    hash::{fingerprint64, fnv1a_32, fnv1a_64, half_sip_1_3, murmur3_32, xx64},
};

use crate::process::Result;

/// Keys of the vocabulary.
const KEYS: u32 = 10_000;
/// Keys that are encoded, of which every fourth is in no vocabulary.
const PROBES: u32 = 200;
/// The most instructions of a lookup of six characters on a Cortex-M4.
const MOST_INSTRUCTIONS: u64 = 600;

/// How many cases there are.
pub(crate) const COUNT: usize = 3 + HASHES.len();

/// Keys, and what encoding each must give.
pub(crate) struct Case {
    /// `vocabulary-10000`, or `hash`.
    pub(crate) model: &'static str,
    /// Which lookup, or which hash: what the firmware's `what.txt` says.
    pub(crate) what: &'static str,
    section: Vec<u32>,
    keys: Vec<String>,
    expected: Vec<i32>,
}

pub(crate) fn cases() -> Result<Vec<Case>> {
    let texts: Vec<String> = (0..KEYS).map(tail_number).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let ints: Vec<i64> = (0..KEYS).map(flight_number).collect();
    let texts = section(Keys::Text(&texts))?;
    let ints = section(Keys::Integer(&ints))?;
    let mut cases = vec![
        lookups("text", &texts, tail_number),
        lookups("set", &texts, tail_number),
        lookups("int", &ints, |i| flight_number(i).to_string()),
    ];
    for (what, hash) in HASHES {
        let keys: Vec<String> = (0..PROBES).map(tail_number).collect();
        let expected = keys.iter().map(|key| hash(key.as_bytes())).collect();
        cases.push(Case { model: "hash", what, section: Vec::new(), keys, expected });
    }
    Ok(cases)
}

type Hash = fn(&[u8]) -> i32;

#[expect(clippy::cast_possible_truncation, reason = "the firmware gives the low half")]
const HASHES: [(&str, Hash); 6] = [
    ("fingerprint64", |key| fingerprint64(key) as i32),
    ("murmur3", |key| murmur3_32(key.iter().copied(), 0).cast_signed()),
    ("fnv1a_32", |key| fnv1a_32(key).cast_signed()),
    ("fnv1a_64", |key| fnv1a_64(key) as i32),
    ("xx64", |key| xx64(key) as i32),
    ("half_sip", |key| half_sip_1_3(key, [0, 0])[0].cast_signed()),
];

/// Six characters.
fn tail_number(i: u32) -> String {
    format!("N{i:05}")
}

fn flight_number(i: u32) -> i64 {
    i64::from(i) * 7_919 - 1_000_000
}

/// An id that neither is nor follows the order of the keys.
fn id(i: u32) -> u32 {
    i * 7 % KEYS
}

fn lookups(what: &'static str, section: &[u32], key: impl Fn(u32) -> String) -> Case {
    let probes = (0..PROBES).map(|i| if i % 4 == 3 { KEYS + i } else { i * (KEYS / PROBES) });
    let keys = probes.clone().map(key).collect();
    let expected = probes.map(|i| if i < KEYS { id(i).cast_signed() } else { -1 }).collect();
    Case { model: "vocabulary-10000", what, section: section.to_vec(), keys, expected }
}

/// A section of one field with a vocabulary.
fn section(keys: Keys<'_>) -> Result<Vec<u32>> {
    let ids: Vec<u32> = (0..KEYS).map(id).collect();
    let parts = VocabularyParts { keys, ids: &ids, exact: false };
    let mut table = vec![0; parts.encoded_len()];
    parts.emit(&mut vec![Entry::default(); ids.len()], &mut table).map_err(|e| e.to_string())?;
    let table = Vocabulary::parse(&table, KEYS).map_err(|e| e.to_string())?;
    let field = FieldEncoder {
        encoder: Encoder::Vocabulary(table),
        unseen: Policy::Error,
        missing: Policy::Error,
        sequence: SequenceRule::SINGLE,
    };
    let mut words = vec![0; parts.encoded_len() + 16];
    let len = emit_encoders(&[field], &mut words).map_err(|e| e.to_string())?;
    words.truncate(len);
    Ok(words)
}

impl Case {
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.model, self.what)
    }

    /// Writes what the firmware reads into a folder of its own, and gives the folder.
    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf> {
        let folder = folder.join(self.name());
        let put = |file: &str, bytes: &[u8]| fs::write(folder.join(file), bytes);
        let section: Vec<u8> = self.section.iter().flat_map(|word| word.to_le_bytes()).collect();
        fs::create_dir_all(&folder)
            .and_then(|()| put("encoders.bin", &section))
            .and_then(|()| put("keys.txt", self.keys.join("\n").as_bytes()))
            .and_then(|()| put("what.txt", self.what.as_bytes()))
            .map_err(|e| format!("{}: {e}", folder.display()))?;
        Ok(folder)
    }

    /// Whether `found` is the host's.
    pub(crate) fn agree(&self, found: &[i32]) -> Result<()> {
        let differs = found.iter().zip(&self.expected).position(|(a, b)| a != b);
        match differs {
            None if found.len() == self.expected.len() => Ok(()),
            None => Err(format!("gives {} results instead of {}", found.len(), self.expected.len())),
            Some(at) => {
                Err(format!("gives {} instead of {} for {:?}", found[at], self.expected[at], self.keys[at]))
            }
        }
    }

    /// Whether the slowest lookup by text is as fast as promised.
    pub(crate) fn check_speed(&self, core: &str, most: u64) -> Result<()> {
        if core != "Cortex-M4F" || self.what != "text" || most <= MOST_INSTRUCTIONS {
            return Ok(());
        }
        Err(format!("a lookup takes up to {most} instructions; {MOST_INSTRUCTIONS} are promised"))
    }
}
