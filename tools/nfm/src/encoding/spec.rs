//! How a field's raw values become ids or numbers, as the schema file says it.

/// The encoding of a field: by default ids that are encoded already, and numbers as they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoding {
    /// From a value to an id or a number; `None` of an id or a number that is taken as it is.
    pub encoder: Option<Encoder>,
    /// What becomes of a value that the encoder has no id or no legal number for.
    pub unseen: Policy,
    /// What becomes of a value that is not there.
    pub missing: Policy,
    /// The texts that stand for a value that is not there.
    pub missing_values: Vec<String>,
    /// What separates a text's several values.
    pub separator: char,
    /// Whether a text's values have weights, as `value:weight`; where that is not said, those of ids have.
    pub weighted: Option<bool>,
    /// The most values of a field that takes several; more are cut off.
    pub max_len: Option<u16>,
    /// Which values are kept of more than `max_len`.
    pub keep: Keep,
    /// The id that shorter sequences are filled up with, for models that let it take part.
    pub fill: Option<u32>,
}

impl Encoding {
    /// Whether raw values are anything but ids and numbers as they are: whether anything is said but the most values, which rows
    /// of ids have too.
    #[must_use]
    pub fn is_raw(&self) -> bool {
        *self != Self { max_len: self.max_len, ..Self::default() }
    }
}

impl Default for Encoding {
    fn default() -> Self {
        Self {
            encoder: None,
            unseen: Policy::Error,
            missing: Policy::Error,
            missing_values: vec![String::new()],
            separator: '|',
            weighted: None,
            max_len: None,
            keep: Keep::First,
            fill: None,
        }
    }
}

/// Which values of a sequence are kept that is longer than its `max_len`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// The first.
    #[default]
    First,
    /// The last.
    Last,
}

/// What becomes of a value that cannot be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// The row is refused.
    #[default]
    Error,
    /// No entry; a dense input is 0.
    Zero,
    /// The nearest legal id or number.
    Clamp,
    /// This id.
    Id(u32),
    /// This number, as it is after scaling.
    Number(f64),
}

/// From a value to an id or to a number.
#[derive(Debug, Clone, PartialEq)]
pub enum Encoder {
    /// Keys with ids.
    Vocabulary(Vocabulary),
    /// A hash of the value's text.
    Hash(Hash),
    /// A number's place among boundaries.
    Buckets(Buckets),
    /// A number, shifted and scaled.
    Number(Number),
}

/// Keys with ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// The keys.
    pub keys: Keys,
    /// Whether the device stores the keys, so that no unseen one can be taken for one of them; otherwise the odds are at most 2⁻³².
    pub exact: bool,
}

/// The keys of a vocabulary, each with its id.
#[derive(Debug, Clone, PartialEq)]
pub enum Keys {
    /// Texts.
    Text(Vec<(String, u32)>),
    /// Integers.
    Int(Vec<(i64, u32)>),
}

impl Keys {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(keys) => keys.len(),
            Self::Int(keys) => keys.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ids, in the order of the keys.
    #[must_use]
    pub fn ids(&self) -> Vec<u32> {
        match self {
            Self::Text(keys) => keys.iter().map(|(_, id)| *id).collect(),
            Self::Int(keys) => keys.iter().map(|(_, id)| *id).collect(),
        }
    }
}

/// A hash of a value's text: of a text itself, and of a number's decimal text as TensorFlow prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hash {
    /// Which one, and how its buckets are numbered.
    pub function: HashFunction,
    /// How many buckets there are; `None` for as many as the field has rows.
    pub buckets: Option<u32>,
    /// What is hashed before the text, by the two of Murmur: `carrier=` as scikit-learn's `FeatureHasher` has it.
    pub prefix: String,
    /// What a text cell of digits is.
    pub values: HashedValues,
}

/// Which hash function, and how its buckets are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HashFunction {
    /// `tf.strings.to_hash_bucket_fast`; DeepCTR's `Hash`.
    Farmhash64,
    /// DeepCTR's `Hash` with `mask_zero`: 0 for the text of zero, the others from 1 on.
    Farmhash64MaskZero,
    /// `MurmurHash3_x86_32` of seed 0.
    #[serde(rename = "murmur3_32")]
    Murmur3,
    /// scikit-learn's `FeatureHasher`: signed.
    FeatureHasher,
    /// FNV-1a of 32 bits.
    #[serde(rename = "fnv1a_32")]
    Fnv1a32,
    /// FNV-1a of 64 bits.
    #[serde(rename = "fnv1a_64")]
    Fnv1a64,
    /// xxHash of 64 bits, seed 0.
    #[serde(rename = "xxh64")]
    Xxh64,
}

/// What the cells of a text file are to a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HashedValues {
    /// Texts, hashed as they stand; so are integers, whose text is their decimal.
    #[default]
    Text,
    /// Real numbers of 32 bits, hashed by the text that TensorFlow prints of them: 1.5 by `1.500000`.
    Float,
}

/// A number's place among boundaries.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets {
    /// Ascending; n of them make n + 1 buckets.
    pub boundaries: Vec<f64>,
    /// The end that belongs to a bucket.
    pub closed: Closed,
    /// Each bucket's id, `None` where it has none (unseen); empty where the id is the bucket's number.
    pub ids: Vec<Option<u32>>,
}

/// Which end of a bucket belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Closed {
    /// The lower: a boundary starts a bucket, as in scikit-learn's `KBinsDiscretizer` and `tf.bucketize`.
    #[default]
    Left,
    /// The upper: a boundary ends a bucket, as in `pandas.cut`.
    Right,
}

/// A number x, shifted and scaled: `(of(x) − offset) · factor`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number {
    /// What is scaled.
    pub of: Of,
    /// How.
    pub scale: Scale,
    /// The range of results that are legal; others are unseen.
    pub clip: Option<[f64; 2]>,
    /// What results are rounded to multiples of: a power of two from 2⁻¹⁵ to 1.
    pub step: Option<f64>,
}

impl Number {
    /// A number that is taken as it is.
    pub const AS_IT_IS: Self = Self { of: Of::Value, scale: Scale::Identity, clip: None, step: None };
}

/// What is scaled of a number x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    /// x
    #[default]
    Value,
    /// ln(1 + x)
    Log1p,
    /// ln(x)
    Log,
}

/// How a number is scaled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Not at all.
    Identity,
    /// `low + (x − min) · (high − low) / (max − min + epsilon)`, as scikit-learn's `MinMaxScaler` with its `feature_range`.
    MinMax {
        /// The smallest number.
        min: f64,
        /// The largest number.
        max: f64,
        /// What the smallest becomes.
        low: f64,
        /// What the largest becomes.
        high: f64,
        /// What some trainers add to the span.
        epsilon: f64,
    },
    /// `(x − mean) / std`, as scikit-learn's `StandardScaler`.
    Standard {
        /// The mean.
        mean: f64,
        /// The standard deviation.
        std: f64,
    },
}

impl Scale {
    /// `(offset, factor)` of `(x − offset) · factor`; not finite where the span is 0.
    #[must_use]
    pub fn offset_and_factor(self) -> (f64, f64) {
        match self {
            Self::Identity => (0.0, 1.0),
            Self::MinMax { min, max, low, high, epsilon } => {
                let factor = (high - low) / (max - min + epsilon);
                (min - low / factor, factor)
            }
            Self::Standard { mean, std } => (mean, std.recip()),
        }
    }
}
