//! From raw values to a sample: what a training pipeline did in Python, on the device.
//!
//! A model's *encoders* are a section of its blob, one encoder a field: [`Model::encoders`](crate::Model::encoders) checks it once, a
//! [`SampleBuilder`] turns raw values into a [`Sample`](crate::Sample). `src/encode/FORMAT.md` specifies the section.
//! `nfm convert --emit-rust` writes a module that has the builder of a model, its memory, and a constant for each field.
//!
//! | encoder | from | to | as in |
//! |---|---|---|---|
//! | [`Encoder::Id`] | an integer | that id | data that is encoded already |
//! | [`Encoder::Vocabulary`] | a text or an integer | the id in a [`Vocabulary`] | `LabelEncoder`, token maps |
//! | [`Encoder::Hash`] | a text or a number's text | a bucket of a [hash] | DeepCTR's `Hash`, `FeatureHasher` |
//! | [`Encoder::Buckets`] | a number | the bucket between two boundaries | `KBinsDiscretizer`, `tf.bucketize`, Criteo's `int(ln(v)²)` |
//! | [`Encoder::Number`], [`Encoder::F32Number`] | a number | a number, shifted and scaled | `MinMaxScaler`, `StandardScaler`, `log1p`, `log` |
//!
//! All are integer arithmetic but [`F32Scaling`], allocate nothing, and cannot panic; code that is not used is not linked.

mod builder;
mod decimal;
mod error;
mod fields;
pub mod hash;
mod numeric;
mod section;
mod vocabulary;

pub use builder::{
    EncodeError, FieldIndex, FieldKey, Problem, SampleBuilder, SampleMemory, SampleSlices, Slot, Slots, Span,
    Value,
};
pub use decimal::Decimal;
pub use error::{EmitEncodersError, EncodersError, Part};
pub use numeric::{Buckets, F32Scaling, Of, Scaling, ordered};
pub use section::{Encoder, Encoders, FieldEncoder, Number, Padding, Policy, SequenceRule, emit_encoders};
pub use vocabulary::{Entry, KeyKind, Keys, MAX_KEYS, Vocabulary, VocabularyParts};
