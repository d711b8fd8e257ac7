//! The columns that a graph takes, each with what it is for.

use super::{
    Checked,
    machine::Machine,
    recognize::{Column, Entry, Factor, First, Source, Structure, Term},
};
use crate::schema::Pooling;

/// One field as the graph has it.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// The ids, or the number.
    pub(super) columns: Vec<Column>,
    pub(super) kind: Kind,
    /// Where the embeddings are; `None` for a field of the first order alone.
    pub(super) embeddings: Option<Source>,
    /// Where the first-order weights are; `None` for a field without.
    pub(super) linear: Option<Linear>,
}

/// What the columns of a field hold.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// One id.
    One,
    /// Ids, each a term of its own.
    Many(Several),
    /// Ids that are one term.
    Sequence(Several, Pooling),
    /// A number that the layers or the first order take.
    Dense,
    /// A number times a row.
    Scaled,
}

/// What stands beside several ids.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Several {
    /// A value for each; none where all are one.
    pub(super) values: Vec<Column>,
    /// The id that is no entry.
    pub(super) padding: Option<i64>,
    /// Where the number of entries is.
    pub(super) length: Option<Column>,
}

/// The first-order weights of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Linear {
    pub(super) source: Source,
    /// What they are multiplied with.
    pub(super) factor: f64,
    pub(super) pooling: Pooling,
}

/// The fields of a structure, in the order of the graph's inputs.
pub(super) fn slots(structure: &Structure, machine: &Machine<'_>) -> Checked<Vec<Slot>> {
    let mut slots = Vec::new();
    for group in &structure.groups {
        let terms = group.iter().filter_map(|at| structure.terms.get(*at)).collect::<Vec<_>>();
        slots.push(slot(&terms)?);
    }
    for first in &structure.first {
        add_first(&mut slots, first, machine)?;
    }
    let mut slots = merged(slots);
    slots.iter_mut().for_each(|slot| pad(slot, machine));
    let deep = structure.base.iter().flat_map(|sum| sum.numbers.keys());
    let mut dense: Vec<Column> = structure.numbers.keys().chain(deep).copied().collect();
    dense.sort_unstable();
    dense.dedup();
    for column in dense {
        let is_scaled = slots.iter().any(|slot| slot.kind == Kind::Scaled && slot.columns == [column]);
        if !is_scaled {
            slots.push(Slot { columns: vec![column], kind: Kind::Dense, embeddings: None, linear: None });
        } else if structure.base.iter().any(|sum| sum.numbers.contains_key(&column)) {
            return Err(
                "expected a number that joins z or one that scales a row, found one that does both".into()
            );
        }
    }
    slots.sort_by_key(|slot| slot.columns.first().copied());
    Ok(slots)
}

/// The field of terms that are one sum.
fn slot(terms: &[&(Term, Option<Source>)]) -> Checked<Slot> {
    if let [(Term::Number(column), _)] = terms {
        return Ok(Slot { columns: vec![*column], kind: Kind::Scaled, embeddings: None, linear: None });
    }
    let pooling = match terms {
        [(term, _)] => term.entries().1,
        _ => Some(Pooling::Sum),
    };
    if terms.len() > 1 && terms.iter().any(|(term, _)| term.entries().1.is_some()) {
        return Err("expected the sum of rows, found one of what is pooled already".into());
    }
    let mut entries: Vec<&Entry> = terms.iter().flat_map(|(term, _)| term.entries().0).collect();
    entries.sort_by_key(|entry| entry.column);
    let embeddings = terms.first().and_then(|(_, source)| *source);
    let home = |source: &Option<Source>| source.map(|source| (source.table, source.offset));
    if terms.iter().any(|(_, source)| home(source) != home(&embeddings)) {
        return Err("expected rows of one table to be pooled, found several".into());
    }
    let columns: Vec<Column> = entries.iter().map(|entry| entry.column).collect();
    let several = several(&entries)?;
    let kind = match pooling {
        None if several == Several::default() => Kind::One,
        None if several.length.is_none() => Kind::Many(several),
        pooling => Kind::Sequence(several, pooling.unwrap_or(Pooling::Sum)),
    };
    Ok(Slot { columns, kind, embeddings, linear: None })
}

/// What stands beside entries, which is of one kind for all.
fn several(entries: &[&Entry]) -> Checked<Several> {
    let mut several = Several::default();
    for (index, entry) in entries.iter().enumerate() {
        for factor in &entry.factors {
            match *factor {
                Factor::Value(column) => several.values.push(column),
                Factor::Padding(id) if several.padding.is_none_or(|other| other == id) => {
                    several.padding = Some(id);
                }
                Factor::Within(column, limit)
                    if usize::try_from(limit) == Ok(index)
                        && several.length.is_none_or(|other| other == column) =>
                {
                    several.length = Some(column);
                }
                _ => return Err("expected one kind of mask over all entries, found several".into()),
            }
        }
    }
    let counts = entries.iter().map(|entry| entry.factors.len());
    if several.values.len() % entries.len().max(1) != 0
        || several.values.len() > entries.len()
        || counts.clone().any(|count| Some(count) != counts.clone().next())
    {
        return Err("expected one value for each entry, or none".into());
    }
    Ok(several)
}

/// Gives a term of the first order to the field of its columns.
fn add_first(slots: &mut Vec<Slot>, first: &First, machine: &Machine<'_>) -> Checked<()> {
    let (entries, pooling) = first.term.entries();
    for entry in entries {
        let at =
            slots.iter().position(|slot| slot.kind != Kind::Scaled && slot.columns.contains(&entry.column));
        let at = match at {
            Some(at) => at,
            None => {
                slots.push(alone(&first.term)?);
                slots.len() - 1
            }
        };
        let slot = &mut slots[at];
        let linear =
            Linear { source: first.source, factor: first.factor, pooling: pooling.unwrap_or(Pooling::Sum) };
        if pooling.is_some() && entries.len() != slot.columns.len()
            || slot.linear.is_some_and(|other| other != linear)
        {
            return Err(
                "expected the first order to have the fields of the Bi-Interaction, found others".into()
            );
        }
        if !has_factors(slot, entry, first.source, machine) {
            return Err(
                "expected the first order to have the values and masks of the Bi-Interaction, found others"
                    .into(),
            );
        }
        slot.linear = Some(linear);
    }
    Ok(())
}

/// A field of the first order alone.
fn alone(term: &Term) -> Checked<Slot> {
    slot(&[&(term.clone(), None)])
}

/// Whether an entry of the first order has the values and masks of its field. A row of zeros is as good as a mask.
fn has_factors(slot: &Slot, entry: &Entry, source: Source, machine: &Machine<'_>) -> bool {
    let several = several_of(slot);
    let at = slot.columns.iter().position(|column| *column == entry.column).unwrap_or(0);
    let mut expected: Vec<Factor> =
        several.values.get(at).map(|column| Factor::Value(*column)).into_iter().collect();
    expected.extend(several.padding.map(Factor::Padding));
    expected
        .extend(several.length.map(|column| Factor::Within(column, i64::try_from(at).unwrap_or(i64::MAX))));
    expected.sort_unstable();
    if let Some(padding) = several.padding
        && machine.is_zero(source, padding)
    {
        let is_mask = |factor: &&Factor| **factor != Factor::Padding(padding);
        return expected.iter().filter(is_mask).eq(entry.factors.iter().filter(is_mask));
    }
    expected == entry.factors
}

/// What is summed without a mask is padded with rows of zeros, where a table has one.
fn pad(slot: &mut Slot, machine: &Machine<'_>) {
    if let (Kind::Sequence(several, Pooling::Sum), Some(embeddings)) = (&mut slot.kind, slot.embeddings)
        && several.padding.is_none()
        && several.length.is_none()
    {
        let linear = slot.linear.map(|linear| linear.source);
        let sources: Vec<Source> = std::iter::once(embeddings).chain(linear).collect();
        several.padding = machine.zero_id(&sources);
    }
}

/// Ids of one input and one table that interact are one field of several; one that is masked alone is a sequence.
fn merged(slots: Vec<Slot>) -> Vec<Slot> {
    let mut merged: Vec<Slot> = Vec::new();
    for slot in slots {
        match merged.iter_mut().find(|other| is_joined(&slot, other)) {
            Some(other) => {
                let (mut all, more) = (several_of(other), several_of(&slot));
                all.values.extend(more.values);
                other.columns.extend(slot.columns);
                other.kind = Kind::Many(all);
            }
            None => merged.push(slot),
        }
    }
    for slot in &mut merged {
        match &slot.kind {
            Kind::Many(several) if slot.columns.len() == 1 && several.padding.is_some() => {
                slot.kind = Kind::Sequence(several.clone(), Pooling::Sum);
            }
            Kind::Many(_) => sort(slot),
            _ => {}
        }
    }
    merged
}

/// Whether two fields are parts of one of several ids.
fn is_joined(a: &Slot, b: &Slot) -> bool {
    let is_id = |slot: &Slot| matches!(slot.kind, Kind::One | Kind::Many(_)) && slot.embeddings.is_some();
    let about = |slot: &Slot| {
        let several = several_of(slot);
        let input = slot.columns.first().map(|column| column.input);
        (input, slot.embeddings, slot.linear, several.values.is_empty(), several.padding)
    };
    is_id(a) && is_id(b) && about(a) == about(b)
}

fn several_of(slot: &Slot) -> Several {
    match &slot.kind {
        Kind::Many(several) | Kind::Sequence(several, _) => several.clone(),
        _ => Several::default(),
    }
}

/// Sorts the columns of several ids, and their values with them.
fn sort(slot: &mut Slot) {
    let mut several = several_of(slot);
    let values = several.values.iter().copied().map(Some).chain(std::iter::repeat(None));
    let mut pairs: Vec<(Column, Option<Column>)> = slot.columns.iter().copied().zip(values).collect();
    pairs.sort_unstable();
    slot.columns = pairs.iter().map(|(column, _)| *column).collect();
    several.values = pairs.into_iter().filter_map(|(_, value)| value).collect();
    slot.kind = Kind::Many(several);
}
