//! The fields of a model: those of its graph, in the order and with the names that a schema gives.

use super::{
    machine::Program,
    recognize::{Column, Structure},
    slots::{Kind, Several, Slot},
};
use crate::{
    dialect::Hints,
    error::{Error, Result},
    schema::{Field, FieldKind, Order, Pooling, Sequence, Weights, lay_out},
};

/// A field with what the graph has for it.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) field: Field,
    pub(super) slot: Slot,
    /// What is added to the field's id to have the graph's.
    pub(super) base: u32,
}

/// A table that ids look up.
#[derive(Debug)]
pub(super) struct Table {
    /// The name of its tensor or value.
    pub(super) name: String,
    /// Its rows first.
    pub(super) shape: Vec<usize>,
    /// What it holds, where it is not a tensor of the file.
    pub(super) numbers: Option<Vec<f64>>,
}

impl Table {
    pub(super) fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(0)
    }

    pub(super) fn lanes(&self) -> usize {
        self.shape.iter().skip(1).product()
    }
}

/// Puts fields and slots together.
pub(super) struct Matcher<'a, 't> {
    pub(super) program: &'a Program<'t>,
    pub(super) tables: &'a [Table],
    pub(super) structure: &'a Structure,
}

impl Matcher<'_, '_> {
    /// The parts in the order of the schema, or else of the graph's inputs.
    pub(super) fn parts(
        &self,
        slots: Vec<Slot>,
        hints: &Hints,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Part>> {
        let said = hints.schema_fields();
        if said.is_empty() {
            return self.made_up(slots, notes);
        }
        let slots = self.split(slots, said);
        if slots.len() != said.len() {
            let names: Vec<String> = slots.iter().map(|slot| self.name(slot, &slots)).collect();
            let problem = format!(
                "the graph takes {} fields ({}), the schema has {}",
                slots.len(),
                names.join(", "),
                said.len()
            );
            return Err(self.refuse("schema", problem));
        }
        let slots = self.in_order(slots, said)?;
        let mut parts: Vec<Part> = Vec::new();
        for (slot, field) in slots.iter().zip(said) {
            let base = self.cut(&parts, slot, &slots, said);
            let field = self.field(slot, field, base.is_some())?;
            parts.push(Part { field, slot: slot.clone(), base: base.unwrap_or(0) });
        }
        self.check_shared(&mut parts, notes)?;
        Ok(parts)
    }

    fn refuse(&self, place: &str, problem: impl Into<String>) -> Error {
        Error::refused(&self.program.tensors.file, place, problem)
    }

    /// The input's name, and the column's place in it where others have some too.
    fn name(&self, slot: &Slot, slots: &[Slot]) -> String {
        let Some(first) = slot.columns.first() else { return String::new() };
        let of_input =
            |other: &&Slot| other.columns.first().is_some_and(|column| column.input == first.input);
        let name = &self.program.graph.inputs[first.input].name;
        if slots.iter().filter(of_input).count() == 1 {
            name.clone()
        } else {
            format!("{name}_{}", first.position)
        }
    }

    /// Several ids of one table apart, where the schema has as many fields.
    fn split(&self, slots: Vec<Slot>, said: &[Field]) -> Vec<Slot> {
        let is_plain = |slot: &Slot| {
            matches!(&slot.kind, Kind::Many(several) if *several == Several::default())
                && self.most(slot).is_some()
        };
        let apart: usize = slots.iter().map(|slot| if is_plain(slot) { slot.columns.len() } else { 1 }).sum();
        if apart != said.len() || apart == slots.len() {
            return slots;
        }
        let one =
            |slot: &Slot, column: &Column| Slot { columns: vec![*column], kind: Kind::One, ..slot.clone() };
        let parts = |slot: Slot| {
            let columns = if is_plain(&slot) { slot.columns.as_slice() } else { &[] };
            let parts: Vec<Slot> = columns.iter().map(|column| one(&slot, column)).collect();
            if parts.is_empty() { vec![slot] } else { parts }
        };
        slots.into_iter().flat_map(parts).collect()
    }

    /// Slots in the order of the fields: by the names of inputs and tables, where these name fields, else as they are.
    fn in_order(&self, slots: Vec<Slot>, said: &[Field]) -> Result<Vec<Slot>> {
        let claims = self.claims(&slots, said);
        let is_dense = |slot: &Slot| slot.kind == Kind::Dense;
        let mut open = slots.iter().zip(&claims).filter(|(slot, claim)| is_dense(slot) && claim.is_none());
        let of_field = |(at, field): (usize, &Field)| {
            let claimed = claims.iter().position(|claim| *claim == Some(at)).map(|slot| &slots[slot]);
            let next =
                || if field.kind == FieldKind::Dense { open.next().map(|(slot, _)| slot) } else { None };
            claimed.or_else(next).cloned()
        };
        if let Some(ordered) = said.iter().enumerate().map(of_field).collect() {
            return Ok(ordered);
        }
        let wrong = |(at, claim): (usize, &Option<usize>)| {
            claim.filter(|claim| *claim != at).map(|claim| (at, claim))
        };
        match claims.iter().enumerate().find_map(wrong) {
            Some((at, claim)) => {
                let problem = format!(
                    "the graph has `{}` in its place; order the fields as the graph has its columns",
                    said[claim].name
                );
                Err(self.refuse(&format!("schema, field `{}`", said[at].name), problem))
            }
            None => Ok(slots),
        }
    }

    /// For each slot the field that the name of its input, or a part of its table's name, is.
    fn claims(&self, slots: &[Slot], said: &[Field]) -> Vec<Option<usize>> {
        let field = |name: &str| said.iter().position(|field| field.name == name);
        let table = |slot: &Slot| {
            slot.embeddings.or(slot.linear.map(|linear| linear.source)).map(|source| source.table)
        };
        let claim = |slot: &Slot| {
            let by_input = field(&self.name(slot, slots));
            let own = slots.iter().filter(|other| table(other) == table(slot)).count() == 1;
            let name =
                table(slot).filter(|_| own).and_then(|table| self.tables.get(table)).map(|table| &table.name);
            let parts = name.into_iter().flat_map(|name| name.split(['.', '/', ':']));
            by_input.or_else(|| parts.filter_map(field).next_back())
        };
        let claims: Vec<Option<usize>> = slots.iter().map(claim).collect();
        let is_only = |claim: &Option<usize>| claims.iter().filter(|other| *other == claim).count() == 1;
        claims.iter().map(|claim| claim.filter(|_| is_only(claim))).collect()
    }

    /// Rows that a field can choose from: up to those of the next field in the same table.
    fn extent(&self, slot: &Slot) -> usize {
        let Some(source) = slot.embeddings.or(slot.linear.map(|linear| linear.source)) else { return 1 };
        let offsets = self.structure.terms.iter().filter_map(|(_, other)| *other);
        let firsts = self.structure.first.iter().map(|first| first.source);
        let next =
            offsets.chain(firsts).filter(|other| other.table == source.table && other.offset > source.offset);
        let end = next.map(|other| other.offset).min().and_then(|offset| usize::try_from(offset).ok());
        let rows = self.tables.get(source.table).map_or(0, Table::rows);
        let start = usize::try_from(source.offset).unwrap_or(0);
        end.unwrap_or(rows).min(rows).saturating_sub(start)
    }

    /// Where the rows of a field start in a table that the schema cuts into those of several; `None` where it does not.
    fn cut(&self, before: &[Part], slot: &Slot, slots: &[Slot], said: &[Field]) -> Option<u32> {
        let is_mate = |other: &Slot| other.kind == Kind::One && other.embeddings == slot.embeddings;
        let mates: Vec<&Field> =
            slots.iter().zip(said).filter(|(other, _)| is_mate(other)).map(|(_, field)| field).collect();
        let total: u64 = mates.iter().map(|field| u64::from(field.kind.rows())).sum();
        let is_cut = mates.len() > 1 && mates.iter().all(|field| field.table.is_none());
        if !is_cut || slot.kind != Kind::One || slot.embeddings.is_none() || total != self.extent(slot) as u64
        {
            return None;
        }
        let earlier = before.iter().filter(|part| is_mate(&part.slot));
        Some(earlier.map(|part| part.field.kind.rows()).fold(0, u32::saturating_add))
    }

    /// The schema's field, with what the graph knows of it.
    fn field(&self, slot: &Slot, said: &Field, is_cut: bool) -> Result<Field> {
        let place = format!("schema, field `{}`", said.name);
        let mut field = said.clone();
        let found = self.kind(slot);
        let fits = match (&slot.kind, said.kind) {
            (Kind::One, FieldKind::Id { .. })
            | (Kind::Many(_), FieldKind::Ids { .. })
            | (Kind::Scaled, FieldKind::Scaled) => true,
            (Kind::Dense, FieldKind::Dense) => return self.only(slot, said).map(|()| field),
            (Kind::Sequence(several, pooling), FieldKind::Sequence(said)) => {
                self.check_sequence(&place, slot, several, *pooling, said)?;
                if let FieldKind::Sequence(found) = found {
                    field.kind =
                        FieldKind::Sequence(Sequence { max_len: said.max_len.or(found.max_len), ..found });
                }
                true
            }
            _ => false,
        };
        if !fits {
            let problem =
                format!("the graph has {} there, the schema {}", name_of(found), name_of(said.kind));
            return Err(self.refuse(&place, problem));
        }
        let (rows, extent) = (said.kind.rows() as usize, self.extent(slot));
        if rows != extent && !is_cut {
            return Err(self.refuse(&place, format!("the schema says {rows} rows, the graph has {extent}")));
        }
        Ok(field)
    }

    /// Whether the schema's dense input is of the orders that the graph has it in.
    fn only(&self, slot: &Slot, said: &Field) -> Result<()> {
        let column = slot.columns.first();
        let deep = self
            .structure
            .base
            .iter()
            .any(|sum| column.is_some_and(|column| sum.numbers.contains_key(column)));
        let linear = column.is_some_and(|column| self.structure.numbers.contains_key(column));
        match said.only {
            Some(Order::Linear) if deep => Err(self.refuse(
                &format!("schema, field `{}`", said.name),
                "`only` is linear, but the graph's layers take it",
            )),
            Some(Order::Deep) if linear => Err(self.refuse(
                &format!("schema, field `{}`", said.name),
                "`only` is deep, but the graph's first order takes it",
            )),
            _ => Ok(()),
        }
    }

    fn check_sequence(
        &self,
        place: &str,
        slot: &Slot,
        several: &Several,
        pooling: Pooling,
        said: Sequence,
    ) -> Result<()> {
        let linear = slot.linear.map_or(pooling, |linear| linear.pooling);
        for (what, found, said) in
            [("pooling", pooling, said.pooling), ("linear_pooling", linear, said.linear)]
        {
            if found != said {
                let problem = format!("the graph's {what} is {}, the schema's {}", found.name(), said.name());
                return Err(self.refuse(place, problem));
            }
        }
        if said.padding.is_some_and(|padding| several.padding != Some(i64::from(padding))) {
            let found = several.padding.map_or("none".into(), |padding| padding.to_string());
            return Err(self
                .refuse(place, format!("the graph's padding is {found}, the schema's {:?}", said.padding)));
        }
        if said.weights == Weights::Softmax {
            return Err(self.refuse(place, "the graph's weights are raw, the schema's softmax"));
        }
        if let (Some(most), Some(len)) = (self.most(slot), said.max_len)
            && len > most
        {
            return Err(
                self.refuse(place, format!("the graph takes at most {most} ids, the schema says {len}"))
            );
        }
        Ok(())
    }

    /// A field that uses another's table must do so in the graph. One that shares its embeddings alone has a copy of them.
    fn check_shared(&self, parts: &mut [Part], notes: &mut Vec<String>) -> Result<()> {
        let linear = |slot: &Slot| slot.linear.map(|linear| (linear.source, linear.factor));
        for at in 0..parts.len() {
            let Some(table) = parts[at].field.table.clone() else { continue };
            let owner = parts.iter().find(|other| other.field.name == table).map(|owner| &owner.slot);
            let Part { field, slot, .. } = &parts[at];
            let Some(owner) = owner.filter(|owner| owner.embeddings == slot.embeddings) else {
                let problem = format!("the graph has another table for it than for `{table}`");
                return Err(self.refuse(&format!("schema, field `{}`", field.name), problem));
            };
            if linear(owner) != linear(slot) {
                let name = &field.name;
                notes.push(format!(
                    "field `{name}` has a copy of the table of `{table}`: their first-order weights differ"
                ));
                parts[at].field.table = None;
            }
        }
        let mut fields: Vec<Field> = parts.iter().map(|part| part.field.clone()).collect();
        lay_out(&mut fields).map_err(|problem| self.refuse("schema", problem))?;
        parts.iter_mut().zip(fields).for_each(|(part, field)| part.field = field);
        Ok(())
    }

    /// The most ids of a field, where the graph has a limit.
    fn most(&self, slot: &Slot) -> Option<u16> {
        let is_open = slot.columns.iter().any(|column| self.program.is_open(column.input));
        u16::try_from(slot.columns.len()).ok().filter(|_| !is_open)
    }

    /// The most active entries of a row, where several ids are a field and the graph has a limit.
    pub(super) fn most_active(&self, parts: &[Part]) -> Option<u16> {
        let ids = || parts.iter().filter(|part| part.slot.kind != Kind::Dense);
        let is_many = ids().any(|part| matches!(part.slot.kind, Kind::Many(_)));
        let most = ids().try_fold(0_u16, |most, part| most.checked_add(self.most(&part.slot)?));
        most.filter(|_| is_many)
    }

    /// What the graph knows of a field.
    fn kind(&self, slot: &Slot) -> FieldKind {
        let rows = u32::try_from(self.extent(slot)).unwrap_or(u32::MAX);
        match &slot.kind {
            Kind::One => FieldKind::Id { rows },
            Kind::Many(_) => FieldKind::Ids { rows },
            Kind::Dense => FieldKind::Dense,
            Kind::Scaled => FieldKind::Scaled,
            Kind::Sequence(several, pooling) => FieldKind::Sequence(Sequence {
                rows,
                pooling: *pooling,
                linear: slot.linear.map_or(*pooling, |linear| linear.pooling),
                max_len: self.most(slot),
                padding: several.padding.and_then(|padding| u32::try_from(padding).ok()),
                weights: Weights::Raw,
            }),
        }
    }

    /// The fields where no schema says them.
    fn made_up(&self, slots: Vec<Slot>, notes: &mut Vec<String>) -> Result<Vec<Part>> {
        let names: Vec<String> = slots.iter().map(|slot| self.name(slot, &slots)).collect();
        if slots.len() > self.program.graph.inputs.len() {
            notes.push(
                "fields are called after the places in the graph's inputs; a schema can name them".into(),
            );
        }
        let mut fields: Vec<Field> = Vec::new();
        for (at, slot) in slots.iter().enumerate() {
            let same = |other: &&Slot| {
                other.embeddings.is_some()
                    && (other.embeddings, other.linear) == (slot.embeddings, slot.linear)
            };
            let owner = slots[..at].iter().position(|other| same(&other));
            let table = owner.and_then(|owner| names.get(owner).cloned());
            fields.push(Field { table, ..Field::new(names[at].clone(), self.kind(slot)) });
        }
        lay_out(&mut fields).map_err(|problem| self.refuse("fields", problem))?;
        Ok(fields.into_iter().zip(slots).map(|(field, slot)| Part { field, slot, base: 0 }).collect())
    }
}

fn name_of(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Id { .. } => "an id",
        FieldKind::Ids { .. } => "ids that are terms of their own",
        FieldKind::Dense => "a dense input",
        FieldKind::Scaled => "a number that scales a row",
        FieldKind::Sequence(_) => "a sequence",
    }
}
