//! A model's own fields as the builder's.

use heapless::Vec;

use super::{
    builder::{SampleBuilder, Slot, Slots},
    section::Number,
    vocabulary::short,
};
use crate::{Field, FieldKind, Fields, Sequence};

impl Slots for Fields<'_> {
    fn count(&self) -> u16 {
        u16::try_from(self.len()).unwrap_or(u16::MAX)
    }

    fn slot(&self, field: u16) -> Option<Slot> {
        let kind = nth(self, field)?.kind;
        let (first, rows) = kind.rows();
        Some(match kind {
            FieldKind::Id { .. } => Slot::Ids { first, rows, many: false },
            FieldKind::Ids { .. } | FieldKind::Sequence { .. } => Slot::Ids { first, rows, many: true },
            FieldKind::Scaled { row } => Slot::Scaled { row },
            FieldKind::Dense => {
                let before = self.iter().take(field.into());
                let position = before.filter(|field| field.kind == FieldKind::Dense).count();
                Slot::Dense { position: u16::try_from(position).unwrap_or(u16::MAX) }
            }
        })
    }

    fn name(&self, field: u16) -> &str {
        nth(self, field).map_or("", |field| field.name)
    }

    fn find(&self, name: &str) -> Option<u16> {
        // One pass: a record of the manifest is found by decoding those before it.
        let position = self.iter().position(|field| field.name == name)?;
        u16::try_from(short(position)).ok()
    }
}

#[inline(never)]
fn nth<'a>(fields: &Fields<'a>, field: u16) -> Option<Field<'a>> {
    fields.iter().nth(field.into())
}

impl<V: Number> SampleBuilder<'_, '_, V, Fields<'_>> {
    /// The sequences of the sample that [`Self::finish`] gave, in the order of their entries; `None` where there are more
    /// than `N`.
    #[must_use]
    pub fn sequences<const N: usize>(&self) -> Option<Vec<Sequence, N>> {
        let mut sequences = Vec::new();
        for (field, span) in self.slots().iter().zip(self.spans()) {
            if let FieldKind::Sequence { pooling, linear, .. } = field.kind {
                let sequence = Sequence { start: span.start, len: span.len, pooling, linear };
                let before = |other: &Sequence| (other.start, other.len) < (sequence.start, sequence.len);
                let at = sequences.partition_point(before);
                sequences.insert(at, sequence).ok()?;
            }
        }
        Some(sequences)
    }
}
