//! Values that are encoded already: ids of a field's table, and numbers as they are.

use super::{
    Problem, Row, finite,
    named::{Named, found, number},
    push_sequence, quote, unless_all_one, whole,
};
use crate::{
    encoding::raw::RawValue,
    schema::{Field, FieldKind},
};

/// The row of a value for each field.
pub(super) fn row(fields: &[Field], named: &Named) -> Result<Row, Problem> {
    let mut row = Row { label: named.label, ..Row::default() };
    let mut values = Vec::new();
    for (field, value) in fields.iter().zip(&named.values) {
        add(field, value, &mut row, &mut values).map_err(|text| Problem::of_value(&field.name, text))?;
    }
    row.values = unless_all_one(values);
    Ok(row)
}

/// Adds what a field's value says.
fn add(field: &Field, value: &RawValue, row: &mut Row, values: &mut Vec<f64>) -> Result<(), String> {
    let finite = || number(value).map_err(|found| format!("expected a finite number, found {found}"));
    match field.kind {
        FieldKind::Dense => row.dense.push(finite()?),
        FieldKind::Scaled => {
            row.ids.push(field.first);
            values.push(finite()?);
        }
        FieldKind::Id { .. } | FieldKind::Ids { .. } => {
            for (id, value) in entries(field, value)? {
                row.ids.push(id);
                values.push(value);
            }
        }
        FieldKind::Sequence(sequence) => {
            let mut entries = entries(field, value)?;
            let padding = sequence.padding.map(|padding| field.first + padding);
            entries.retain(|(id, _)| Some(*id) != padding);
            push_sequence(row, values, &sequence, &entries)?;
        }
    }
    Ok(())
}

/// The entries of a value, `(global id, value)`.
fn entries(field: &Field, value: &RawValue) -> Result<Vec<(u32, f64)>, String> {
    match value {
        RawValue::Missing => Ok(Vec::new()),
        RawValue::Text(cell) if cell.is_empty() => Ok(Vec::new()),
        RawValue::Text(cell) => cell.split('|').map(|entry| of_text(field, entry.trim())).collect(),
        RawValue::List(list) => list.iter().map(|(value, weight)| Ok((id(field, value)?, *weight))).collect(),
        value => Ok(vec![(id(field, value)?, 1.0)]),
    }
}

/// An entry of a cell, `id` or `id:value`.
fn of_text(field: &Field, entry: &str) -> Result<(u32, f64), String> {
    let Some((id, value)) = entry.split_once(':') else { return Ok((id_of_text(field, entry, entry)?, 1.0)) };
    let value = finite(value)
        .ok_or_else(|| format!("expected `id:value` with a finite value, found {}", quote(entry)))?;
    Ok((id_of_text(field, id, entry)?, value))
}

fn id_of_text(field: &Field, id: &str, entry: &str) -> Result<u32, String> {
    global(field, whole(id)).ok_or_else(|| no_id(field, &found(&RawValue::Text(entry.into()))))
}

/// A value as a global id.
fn id(field: &Field, value: &RawValue) -> Result<u32, String> {
    let id = match value {
        RawValue::Text(text) => whole(text),
        RawValue::Int(number) => u64::try_from(*number).ok(),
        RawValue::Missing | RawValue::Float(_) | RawValue::List(_) => None,
    };
    global(field, id).ok_or_else(|| no_id(field, &found(value)))
}

/// The row of a field's id in the one table, unless the field has no such id.
fn global(field: &Field, id: Option<u64>) -> Option<u32> {
    let id = id.filter(|id| *id < u64::from(field.kind.rows()))?;
    // first + id < 2³², which the layout checked.
    u32::try_from(u64::from(field.first).saturating_add(id)).ok()
}

fn no_id(field: &Field, found: &str) -> String {
    format!("expected a whole number from 0 to below {} as the id, found {found}", field.kind.rows())
}
