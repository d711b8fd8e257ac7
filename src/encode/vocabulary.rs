//! Vocabularies: a key's id, from six bytes of flash a key.
//!
//! A key is hashed to 64 bits. The high half chooses one of about as many buckets as there are keys; the low half, the
//! *remainder*, is what is stored, in the order of the buckets. Which remainders are a bucket's is told by a bit for each key and
//! each bucket. `FORMAT.md` has the layout and the odds.

use super::{
    error::{EmitEncodersError, EncodersError, Part, at_most, exactly},
    hash::half_sip_1_3,
};

/// The most keys.
pub const MAX_KEYS: u32 = (1 << 24) - 1;
/// The most keys in a bucket: what bounds a lookup.
const MAX_RUN: u32 = 16;
/// The words before the first part of a table.
const HEADER: usize = 3;
/// Buckets of an entry of the directory.
const GROUP: u32 = 64;
/// Seeds that are tried.
const SEEDS: u32 = 64;

/// A table from keys to ids, borrowed from a section that was checked.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary<'a> {
    keys: u32,
    seed: u32,
    id_bits: u32,
    kind: KeyKind,
    /// The whole table.
    words: &'a [u32],
    directory: &'a [u32],
    runs: &'a [u32],
    remainders: &'a [u32],
    ids: &'a [u32],
    exact: Exact<'a>,
}

/// What keys are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyKind {
    /// UTF-8; integers are looked up by their decimal text.
    Text,
    /// Integers, which are hashed as eight bytes.
    Integer,
}

/// The keys themselves, where they are stored.
#[derive(Clone, Copy, Debug)]
enum Exact<'a> {
    No,
    /// Where each text starts, and where the last ends, in bytes.
    Texts {
        ends: &'a [u32],
        bytes: &'a [u32],
    },
    /// Two words a key, low first.
    Integers(&'a [u32]),
}

/// How many buckets there are for `keys` keys: more, so that an unseen key meets less than one remainder on average.
const fn buckets(keys: u32) -> u32 {
    keys + keys / 64 + 1
}

/// How many words have `bits` bits.
const fn words_of(bits: u32) -> usize {
    bits.div_ceil(32) as usize
}

impl<'a> Vocabulary<'a> {
    /// The table at the start of `words`, whose ids are below `rows`.
    ///
    /// # Errors
    ///
    /// [`EncodersError`] names the rule of `FORMAT.md` that is broken.
    ///
    /// # Examples
    ///
    /// ```
    /// use embedded_nfm::encode::{Entry, Keys, Vocabulary, VocabularyParts};
    ///
    /// let parts = VocabularyParts { keys: Keys::Text(&["AA", "DL", "UA"]), ids: &[0, 1, 2], exact: false };
    /// let (mut scratch, mut words) = ([Entry::default(); 3], [0; 16]);
    /// let len = parts.emit(&mut scratch, &mut words)?;
    ///
    /// let carriers = Vocabulary::parse(&words[..len], 3)?;
    /// assert_eq!(carriers.id_of_text("UA"), Some(2));
    /// assert_eq!(carriers.id_of_text("XX"), None);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn parse(words: &'a [u32], rows: u32) -> Result<Self, EncodersError> {
        let [keys, _, header, ..] = *words else {
            return Err(EncodersError::new(Part::Length, short(words.len()), short(HEADER)));
        };
        at_most(Part::Keys, keys, MAX_KEYS)?;
        at_most(Part::IdBits, header & 0xff, 31)?;
        at_most(Part::Kind, header >> 8 & 0xff, 1)?;
        at_most(Part::Kind, header >> 16 & 0xff, 1)?;
        at_most(Part::Reserved, header >> 24, 0)?;
        let (table, needed) = Self::cut(words);
        at_most(Part::Length, short(needed), short(words.len()))?;
        table.check_runs()?;
        table.check_ids(rows)?;
        table.check_exact()?;
        Ok(table)
    }

    /// The table at the start of words that were checked, and its length; of others, something as harmless.
    pub(super) fn cut(words: &'a [u32]) -> (Self, usize) {
        let mut rest = Cutter { words, needed: 0 };
        let (keys, seed, header) = match rest.take(HEADER) {
            [keys, seed, header] => (*keys & MAX_KEYS, *seed, *header),
            _ => (0, 0, 0),
        };
        let id_bits = header & 0x1f;
        let buckets = buckets(keys);
        let directory = rest.take(buckets.div_ceil(GROUP) as usize);
        let runs = rest.take(words_of(keys + buckets));
        let remainders = rest.take(keys as usize);
        let ids = rest.take(words_of(keys * id_bits));
        let kind = if header >> 8 & 1 == 0 { KeyKind::Text } else { KeyKind::Integer };
        let exact = match kind {
            _ if header >> 16 & 1 == 0 => Exact::No,
            KeyKind::Integer => Exact::Integers(rest.take(keys as usize * 2)),
            KeyKind::Text => {
                let ends = rest.take(keys as usize + 1);
                let bytes = ends.last().map_or(0, |end| end.div_ceil(4));
                Exact::Texts { ends, bytes: rest.take(bytes as usize) }
            }
        };
        let words = Cutter { words, needed: 0 }.take(rest.needed);
        (Self { keys, seed, id_bits, kind, words, directory, runs, remainders, ids, exact }, rest.needed)
    }

    /// The table's words.
    pub(super) fn words(&self) -> &'a [u32] {
        self.words
    }

    /// How many keys there are.
    #[must_use]
    pub const fn keys(&self) -> u32 {
        self.keys
    }

    /// What keys are.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Whether keys are stored, so that no unseen key is ever taken for one.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        !matches!(self.exact, Exact::No)
    }

    /// The id of a text; `None` where it is not in the vocabulary, or where that one is of integers.
    ///
    /// # Accuracy
    ///
    /// Every key of the vocabulary gives its id. Another text gives `None` but with a probability of 2⁻³² over the choice of
    /// the seed, or always where the table [is exact](Self::is_exact).
    #[must_use]
    pub fn id_of_text(&self, text: &str) -> Option<u32> {
        if self.kind == KeyKind::Text { self.id(text.as_bytes()) } else { None }
    }

    /// The id of an integer; by its decimal text where the vocabulary is of texts. As for [`Self::id_of_text`] otherwise.
    #[must_use]
    pub fn id_of_int(&self, number: i64) -> Option<u32> {
        match self.kind {
            KeyKind::Text => self.id(super::Decimal::of_int(number).as_bytes()),
            KeyKind::Integer => self.id(&number.to_le_bytes()),
        }
    }

    #[inline(never)]
    fn id(&self, key: &[u8]) -> Option<u32> {
        let (bucket, remainder) = place(key, self.seed, buckets(self.keys));
        let mut bit = self.start(bucket);
        while self.run(bit) {
            let position = bit - bucket;
            let found = self.remainders.get(position as usize).copied();
            if found == Some(remainder) && self.is_key(position, key) {
                return Some(self.stored_id(position));
            }
            bit += 1;
        }
        None
    }

    /// The first of a bucket's bits in `runs`: behind that many zeros.
    fn start(&self, bucket: u32) -> u32 {
        let bit = self.directory.get((bucket / GROUP) as usize).copied().unwrap_or_default();
        let mut zeros = bucket % GROUP;
        if zeros == 0 {
            return bit;
        }
        let mut index = bit / 32;
        // Bits before the group are ones, and so no zeros.
        let mut before = (1 << (bit % 32)) - 1;
        while let Some(word) = self.runs.get(index as usize) {
            let mut word = word | before;
            let here = word.count_zeros();
            if here >= zeros {
                // Fills the lowest zeros until the last one of those wanted is the lowest.
                (1..zeros).for_each(|_| word |= word.wrapping_add(1));
                return index * 32 + word.trailing_ones() + 1;
            }
            (zeros, index, before) = (zeros - here, index + 1, 0);
        }
        bit
    }

    /// Whether a bit of `runs` is set; `false` behind them.
    fn run(&self, bit: u32) -> bool {
        self.runs.get((bit / 32) as usize).is_some_and(|word| word >> (bit % 32) & 1 == 1)
    }

    /// Whether the key at a position is `key`, as far as keys are stored.
    fn is_key(&self, position: u32, key: &[u8]) -> bool {
        let at = position as usize;
        match self.exact {
            Exact::No => true,
            Exact::Integers(words) => {
                let stored = words.get(at * 2..at * 2 + 2).unwrap_or_default();
                bytemuck::cast_slice::<u32, u8>(stored) == key
            }
            Exact::Texts { ends, bytes } => {
                let Some([start, end]) = ends.get(at..).and_then(<[u32]>::first_chunk) else {
                    return false;
                };
                bytemuck::cast_slice::<u32, u8>(bytes).get(*start as usize..*end as usize) == Some(key)
            }
        }
    }

    fn stored_id(&self, position: u32) -> u32 {
        let bit = position * self.id_bits;
        let (index, shift) = ((bit / 32) as usize, bit % 32);
        let low = self.ids.get(index).copied().unwrap_or_default() >> shift;
        // Shifted in two steps: by 32 it is no shift.
        let high = self.ids.get(index + 1).copied().unwrap_or_default() << (31 - shift) << 1;
        (low | high) & ((1 << self.id_bits) - 1)
    }

    /// Checks that the bits tell for each bucket which remainders are its own, and that these ascend.
    #[inline(never)]
    fn check_runs(&self) -> Result<(), EncodersError> {
        let (mut bucket, mut position, mut run, mut before) = (0, 0, 0, 0);
        for bit in 0..short(self.runs.len()) * 32 {
            if run == 0 && bucket % GROUP == 0 && bucket < buckets(self.keys) {
                let stated = self.directory.get((bucket / GROUP) as usize).copied().unwrap_or_default();
                exactly(Part::Directory, stated, bit)?;
            }
            if !self.run(bit) {
                (bucket, run) = (bucket + 1, 0);
                continue;
            }
            run += 1;
            at_most(Part::Runs, run, MAX_RUN)?;
            at_most(Part::Runs, bucket + 1, buckets(self.keys))?;
            at_most(Part::Runs, short(position) + 1, self.keys)?;
            let this = self.remainders.get(position).copied().unwrap_or_default();
            if run > 1 && before >= this {
                return Err(EncodersError::new(Part::Remainders, before, this));
            }
            before = this;
            position += 1;
        }
        exactly(Part::Runs, short(position), self.keys)
    }

    #[inline(never)]
    fn check_ids(&self, rows: u32) -> Result<(), EncodersError> {
        let mut ids = (0..self.keys).map(|position| self.stored_id(position));
        ids.try_for_each(|id| at_most(Part::Id, id.saturating_add(1), rows))?;
        // The bits behind the last id.
        let used = self.keys * self.id_bits % 32;
        let rest = self.ids.last().map_or(0, |last| if used == 0 { 0 } else { last >> used });
        at_most(Part::Reserved, rest, 0)
    }

    #[inline(never)]
    fn check_exact(&self) -> Result<(), EncodersError> {
        let Exact::Texts { ends, bytes } = self.exact else {
            return Ok(());
        };
        exactly(Part::Texts, ends.first().copied().unwrap_or_default(), 0)?;
        for pair in ends.windows(2) {
            if let [start, end] = *pair {
                at_most(Part::Texts, start, end)?;
            }
        }
        let used = ends.last().map_or(0, |end| end % 4 * 8);
        let rest = bytes.last().map_or(0, |last| if used == 0 { 0 } else { last >> used });
        at_most(Part::Reserved, rest, 0)
    }
}

/// A key's bucket and remainder.
fn place(key: &[u8], seed: u32, buckets: u32) -> (u32, u32) {
    let [low, high] = half_sip_1_3(key, [seed, 0]);
    (((u64::from(high) * u64::from(buckets)) >> 32) as u32, low)
}

/// Words that are cut part by part.
pub(super) struct Cutter<'a> {
    pub(super) words: &'a [u32],
    /// How many the parts have together, also where they are not there.
    pub(super) needed: usize,
}

impl<'a> Cutter<'a> {
    pub(super) fn take(&mut self, len: usize) -> &'a [u32] {
        self.needed = self.needed.saturating_add(len);
        match self.words.split_at_checked(len) {
            Some((part, rest)) => {
                self.words = rest;
                part
            }
            None => {
                self.words = &[];
                &[]
            }
        }
    }
}

pub(super) fn short(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// What a vocabulary is made of.
#[derive(Clone, Copy, Debug)]
pub struct VocabularyParts<'k> {
    /// The keys, no two the same.
    pub keys: Keys<'k>,
    /// Each key's id.
    pub ids: &'k [u32],
    /// Whether keys are stored and compared: no unseen key is ever taken for one, for the bytes of all keys more.
    pub exact: bool,
}

/// The keys of a vocabulary.
#[derive(Clone, Copy, Debug)]
pub enum Keys<'k> {
    /// Of [`KeyKind::Text`].
    Text(&'k [&'k str]),
    /// Of [`KeyKind::Integer`].
    Integer(&'k [i64]),
}

/// What building a vocabulary needs a slice of: one for each key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    bucket: u32,
    remainder: u32,
    key: u32,
}

impl Keys<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Text(keys) => keys.len(),
            Self::Integer(keys) => keys.len(),
        }
    }

    /// Gives the bytes of a key to `action`.
    fn with<T>(&self, key: u32, action: impl FnOnce(&[u8]) -> T) -> T {
        let at = key as usize;
        match self {
            Self::Text(keys) => action(keys.get(at).copied().unwrap_or_default().as_bytes()),
            Self::Integer(keys) => action(&keys.get(at).copied().unwrap_or_default().to_le_bytes()),
        }
    }

    /// Bytes of all keys.
    fn bytes(&self) -> usize {
        (0..short(self.len())).map(|key| self.with(key, <[u8]>::len)).sum()
    }
}

impl VocabularyParts<'_> {
    /// How many words [`Self::emit`] writes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let keys = short(self.keys.len()).min(MAX_KEYS);
        let exact = match self.keys {
            _ if !self.exact => 0,
            Keys::Text(_) => keys as usize + 1 + self.keys.bytes().div_ceil(4),
            Keys::Integer(_) => keys as usize * 2,
        };
        let runs = words_of(keys + buckets(keys));
        let directory = buckets(keys).div_ceil(GROUP) as usize;
        HEADER + directory + runs + keys as usize + words_of(keys * self.id_bits()) + exact
    }

    fn id_bits(&self) -> u32 {
        self.ids.iter().max().map_or(0, |id| u32::BITS - id.leading_zeros())
    }

    /// Writes the table to the start of `out`, and gives its length in words.
    ///
    /// # Errors
    ///
    /// When two keys are the same, when an id is 2³¹ or more, and when `scratch` has not one entry for each key or `out` is
    /// shorter than [`Self::encoded_len`].
    pub fn emit(&self, scratch: &mut [Entry], out: &mut [u32]) -> Result<usize, EmitEncodersError> {
        let expected = self.keys.len();
        for got in [self.ids.len(), scratch.len()] {
            if got != expected {
                return Err(EmitEncodersError::Count { expected, got });
            }
        }
        at_most(Part::Keys, short(expected), MAX_KEYS)?;
        at_most(Part::IdBits, self.id_bits(), 31)?;
        let (needed, got) = (self.encoded_len(), out.len());
        let out = out.get_mut(..needed).ok_or(EmitEncodersError::BufferTooShort { needed, got })?;
        let seed = self.separate(scratch)?;
        self.write(seed, scratch, out);
        Ok(needed)
    }

    /// Sorts the keys by a seed that separates them.
    fn separate(&self, scratch: &mut [Entry]) -> Result<u32, EmitEncodersError> {
        let buckets = buckets(short(self.keys.len()));
        for seed in 0..SEEDS {
            for (key, entry) in (0..).zip(scratch.iter_mut()) {
                let (bucket, remainder) = self.keys.with(key, |bytes| place(bytes, seed, buckets));
                *entry = Entry { bucket, remainder, key };
            }
            scratch.sort_unstable();
            if self.is_separated(scratch)? {
                return Ok(seed);
            }
        }
        Err(EmitEncodersError::NoSeed)
    }

    /// Whether all differ and no bucket has too many; fails with the same key twice, which no seed separates.
    fn is_separated(&self, entries: &[Entry]) -> Result<bool, EmitEncodersError> {
        for pair in entries.windows(2) {
            if let [a, b] = pair
                && (a.bucket, a.remainder) == (b.bucket, b.remainder)
            {
                let (first, second) = (a.key, b.key);
                let same = self.keys.with(first, |a| self.keys.with(second, |b| a == b));
                return if same { Err(EmitEncodersError::SameKey { first, second }) } else { Ok(false) };
            }
        }
        let full = |run: &[Entry]| run.first().map(|a| a.bucket) == run.last().map(|b| b.bucket);
        Ok(!entries.windows(MAX_RUN as usize + 1).any(full))
    }

    fn write(&self, seed: u32, entries: &[Entry], out: &mut [u32]) {
        let keys = short(entries.len());
        let buckets = buckets(keys);
        let kind = if matches!(self.keys, Keys::Text(_)) { 0 } else { 1 << 8 };
        let header = self.id_bits() | kind | u32::from(self.exact) << 16;
        out.fill(0);
        let mut out = Words { out };
        out.part(HEADER).iter_mut().zip([keys, seed, header]).for_each(|(to, word)| *to = word);
        let directory = out.part(buckets.div_ceil(GROUP) as usize);
        for (group, to) in (0..).zip(directory) {
            let before = entries.partition_point(|entry| entry.bucket < group * GROUP);
            *to = group * GROUP + short(before);
        }
        let runs = out.part(words_of(keys + buckets));
        for (position, entry) in (0..).zip(entries) {
            put_bits(runs, position + entry.bucket, 1);
        }
        out.part(entries.len()).iter_mut().zip(entries).for_each(|(to, entry)| *to = entry.remainder);
        let ids = out.part(words_of(keys * self.id_bits()));
        for (position, entry) in (0..).zip(entries) {
            let id = self.ids.get(entry.key as usize).copied().unwrap_or_default();
            put_bits(ids, position * self.id_bits(), id);
        }
        if self.exact {
            self.write_keys(entries, out.out);
        }
    }

    fn write_keys(&self, entries: &[Entry], out: &mut [u32]) {
        let texts = matches!(self.keys, Keys::Text(_));
        let (ends, bytes) =
            out.split_at_mut_checked(if texts { entries.len() + 1 } else { 0 }).unwrap_or_default();
        let bytes = bytemuck::cast_slice_mut::<u32, u8>(bytes);
        let mut end = 0;
        for (position, entry) in entries.iter().enumerate() {
            self.keys.with(entry.key, |key| {
                let to = bytes.iter_mut().skip(end);
                to.zip(key).for_each(|(to, &byte)| *to = byte);
                end += key.len();
            });
            if let Some(to) = ends.get_mut(position + 1) {
                *to = short(end);
            }
        }
    }
}

/// Words that are written part by part.
struct Words<'o> {
    out: &'o mut [u32],
}

impl<'o> Words<'o> {
    fn part(&mut self, len: usize) -> &'o mut [u32] {
        let (part, rest) = core::mem::take(&mut self.out).split_at_mut_checked(len).unwrap_or_default();
        self.out = rest;
        part
    }
}

/// Puts the bits of `value` over zeros.
fn put_bits(words: &mut [u32], bit: u32, value: u32) {
    let shifted = u64::from(value) << (bit % 32);
    let halves = bytemuck::cast::<[u8; 8], [u32; 2]>(shifted.to_le_bytes());
    for (word, half) in words.iter_mut().skip((bit / 32) as usize).zip(halves) {
        *word |= half;
    }
}
