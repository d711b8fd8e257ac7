//! Fields of a model that does not exist, sections for them, and short ways to encode values.

use embedded_nfm::encode::{
    EncodeError, Encoder, Encoders, FieldEncoder, Number, Policy, SampleBuilder, SampleMemory, SequenceRule,
    Slot, Slots, Value, emit_encoders,
};

/// Fields of these names and slots.
pub(crate) struct Fields(pub(crate) Vec<(&'static str, Slot)>);

impl Slots for Fields {
    fn count(&self) -> u16 {
        u16::try_from(self.0.len()).expect("few")
    }
    fn slot(&self, field: u16) -> Option<Slot> {
        self.0.get(usize::from(field)).map(|(_, slot)| *slot)
    }
    fn name(&self, field: u16) -> &str {
        self.0.get(usize::from(field)).map_or("", |(name, _)| name)
    }
}

pub(crate) const fn ids(first: u32, rows: u32) -> Slot {
    Slot::Ids { first, rows, many: false }
}

pub(crate) const fn many(first: u32, rows: u32) -> Slot {
    Slot::Ids { first, rows, many: true }
}

/// An encoder that refuses what is unseen or missing.
pub(crate) const fn strict(encoder: Encoder<'_>) -> FieldEncoder<'_> {
    FieldEncoder { encoder, unseen: Policy::Error, missing: Policy::Error, sequence: SequenceRule::SINGLE }
}

/// The words of a section.
pub(crate) fn section(encoders: &[FieldEncoder<'_>]) -> Vec<u32> {
    let mut words = vec![0xdead_beef; 1 << 16];
    let len = emit_encoders(encoders, &mut words).expect("room for it");
    words.truncate(len);
    words
}

/// The ids of a sample, and its values where not all are one.
type Entries<V> = (Vec<u32>, Option<Vec<V>>);

/// The entries that one value of one field gives.
pub(crate) fn encoded<V: Number>(
    encoder: FieldEncoder<'_>,
    slot: Slot,
    value: Value<'_>,
) -> Result<Entries<V>, String> {
    let (words, fields) = (section(&[encoder]), Fields(vec![("x", slot)]));
    let encoders = Encoders::parse(bytemuck::cast_slice(&words), &fields).map_err(|e| e.to_string())?;
    let mut memory = SampleMemory::<V, 1, 1, 1>::new();
    let mut builder = SampleBuilder::new(encoders, &fields, &mut memory);
    let text = |e: EncodeError<'_>| e.to_string();
    builder.set("x", value).map_err(text)?;
    let sample = builder.finish().map_err(text)?;
    Ok((sample.ids().to_vec(), sample.values().map(<[V]>::to_vec)))
}

/// Encodes many values of a field of ids, and gives each one's id.
pub(crate) fn each_id<'v>(
    encoder: Encoder<'_>,
    rows: u32,
    values: impl Iterator<Item = Value<'v>>,
) -> Vec<u32> {
    let (words, fields) = (section(&[strict(encoder)]), Fields(vec![("x", ids(0, rows))]));
    let encoders =
        Encoders::<f32>::parse(bytemuck::cast_slice(&words), &fields).unwrap_or_else(|e| panic!("{e}"));
    let mut memory = SampleMemory::<f32, 1, 0, 1>::new();
    let mut builder = SampleBuilder::new(encoders, &fields, &mut memory);
    let mut id = |value: Value<'v>| {
        builder.clear();
        builder.set("x", value).unwrap_or_else(|e| panic!("{value:?}: {e}"));
        builder.finish().unwrap_or_else(|e| panic!("{e}")).ids()[0]
    };
    values.map(&mut id).collect()
}

/// Encodes many values of a dense field.
pub(crate) fn each_number<'v, V: Number>(
    encoder: FieldEncoder<'_>,
    values: impl Iterator<Item = Value<'v>>,
) -> Vec<V> {
    let (words, fields) = (section(&[encoder]), Fields(vec![("x", Slot::Dense { position: 0 })]));
    let encoders =
        Encoders::<V>::parse(bytemuck::cast_slice(&words), &fields).unwrap_or_else(|e| panic!("{e}"));
    let mut memory = SampleMemory::<V, 0, 1, 1>::new();
    let mut builder = SampleBuilder::new(encoders, &fields, &mut memory);
    let mut number = |value: Value<'v>| {
        builder.clear();
        builder.set("x", value).unwrap_or_else(|e| panic!("{value:?}: {e}"));
        builder.finish().unwrap_or_else(|e| panic!("{e}")).dense()[0]
    };
    values.map(&mut number).collect()
}
