//! A model's own fields as the builder's, and the encoders in its blob.

use heapless::Vec;

use super::{
    builder::{SampleBuilder, Slot, Slots},
    error::EncodersError,
    section::{Encoders, Number},
    vocabulary::short,
};
use crate::{F32Model, FieldKind, Fields, Info, Model, Q16, Sequence};

impl<'a> Model<'a> {
    /// Checks the encoders in the model's blob, and gives them; `None` where it has none.
    ///
    /// # Errors
    ///
    /// [`EncodersError`] names the field, and the rule of `src/encode/FORMAT.md` that is broken.
    pub fn encoders(&self) -> Result<Option<Encoders<'a, Q16>>, EncodersError> {
        encoders(self.info())
    }
}

impl<'a> F32Model<'a> {
    /// Checks the encoders in the model's blob, and gives them; `None` where it has none.
    ///
    /// # Errors
    ///
    /// [`EncodersError`] names the field, and the rule of `src/encode/FORMAT.md` that is broken.
    pub fn encoders(&self) -> Result<Option<Encoders<'a, f32>>, EncodersError> {
        encoders(self.info())
    }
}

fn encoders<'a, V: Number>(info: &Info<'a>) -> Result<Option<Encoders<'a, V>>, EncodersError> {
    match info.encoders {
        [] => Ok(None),
        section => Encoders::parse(section, &info.fields).map(Some),
    }
}

impl Slots for Fields<'_> {
    fn count(&self) -> u16 {
        u16::try_from(self.len()).unwrap_or(u16::MAX)
    }

    fn slot(&self, field: u16) -> Option<Slot> {
        // One pass, which counts the dense inputs before the field: each record is decoded to find the next.
        let mut position = 0;
        let mut before = self.iter();
        for _ in 0..field {
            position += u16::from(before.next()?.kind == FieldKind::Dense);
        }
        let kind = before.next()?.kind;
        let (first, rows) = kind.rows();
        Some(match kind {
            FieldKind::Id { .. } => Slot::Ids { first, rows, many: false },
            FieldKind::Ids { .. } | FieldKind::Sequence { .. } => Slot::Ids { first, rows, many: true },
            FieldKind::Scaled { row } => Slot::Scaled { row },
            FieldKind::Dense => Slot::Dense { position },
        })
    }

    fn name(&self, field: u16) -> &str {
        self.iter().nth(field.into()).map_or("", |field| field.name)
    }

    fn find(&self, name: &str) -> Option<u16> {
        // One pass: a record of the manifest is found by decoding those before it.
        let position = self.iter().position(|field| field.name == name)?;
        u16::try_from(short(position)).ok()
    }
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
