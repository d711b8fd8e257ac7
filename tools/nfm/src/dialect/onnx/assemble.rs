//! The float model of a structure whose fields are known.

use std::collections::BTreeMap;

use super::{
    fields::{Part, Table},
    recognize::{Column, Layer, Source, Structure, Sum},
    slots::{Kind, Several},
};
use crate::{
    dialect::draft::{Draft, Rows},
    error::{Error, Result},
    float_model::{Dense, Stage},
    schema::FieldKind,
};

/// The tables, each taken out of the file when the first field asks for it.
struct Tables<'a> {
    tables: &'a [Table],
    values: Vec<Option<Vec<f32>>>,
}

/// Takes the rows of all fields, in their order.
pub(super) fn rows(
    draft: &mut Draft<'_>,
    parts: &[Part],
    tables: &[Table],
    structure: &Structure,
) -> Result<Rows> {
    let mut tables = Tables { tables, values: tables.iter().map(|_| None).collect() };
    let lanes: Vec<usize> = structure.lanes.keys().copied().collect();
    let owners =
        || parts.iter().filter(|part| part.field.table.is_none() && part.field.kind != FieldKind::Dense);
    let mut rows = Rows::default();
    for part in owners() {
        let number = part.slot.columns.first().filter(|_| part.slot.kind == Kind::Scaled);
        match (number, part.slot.linear) {
            (Some(column), _) => {
                rows.linear.push(narrow(structure.numbers.get(column).copied().unwrap_or(0.0)));
            }
            (None, None) => rows.linear.resize(rows.linear.len() + extent(part), 0.0),
            (None, Some(linear)) => {
                tables.copy(
                    draft,
                    part,
                    linear.source,
                    &[linear.source.lane],
                    linear.factor,
                    &mut rows.linear,
                )?;
            }
        }
    }
    if let Some(whole) = tables.whole(draft, owners(), &lanes)? {
        rows.embeddings = whole;
        return Ok(rows);
    }
    for part in owners() {
        let number = part.slot.columns.first().filter(|_| part.slot.kind == Kind::Scaled);
        match (number, part.slot.embeddings) {
            (Some(column), _) => {
                let weight = |weights: &BTreeMap<Column, f64>| weights.get(column).copied().unwrap_or(0.0);
                rows.embeddings.extend(structure.lanes.values().map(|weights| narrow(weight(weights))));
            }
            (None, None) => {
                draft.assume(format!("field `{}` takes no part in the Bi-Interaction", part.field.name));
                rows.embeddings.resize(rows.embeddings.len() + extent(part) * lanes.len(), 0.0);
            }
            (None, Some(source)) => tables.copy(draft, part, source, &lanes, 1.0, &mut rows.embeddings)?,
        }
    }
    Ok(rows)
}

fn extent(part: &Part) -> usize {
    part.field.kind.rows() as usize
}

impl Tables<'_> {
    /// The values of a table, which stay here.
    fn load(&mut self, draft: &mut Draft<'_>, table: usize) -> Result<(&Table, &mut Option<Vec<f32>>)> {
        let known = &self.tables[table];
        let values = &mut self.values[table];
        if values.is_none() {
            *values = Some(match &known.numbers {
                Some(numbers) => numbers.iter().copied().map(narrow).collect(),
                None => draft.tensors.take_f32(&known.name, &known.shape)?,
            });
        }
        Ok((known, values))
    }

    /// Appends these lanes of a field's rows, times a factor.
    fn copy(
        &mut self,
        draft: &mut Draft<'_>,
        part: &Part,
        source: Source,
        lanes: &[usize],
        factor: f64,
        into: &mut Vec<f32>,
    ) -> Result<()> {
        let file = draft.tensors.file.clone();
        let (table, values) = self.load(draft, source.table)?;
        let start =
            usize::try_from(source.offset).ok().map(|offset| offset.saturating_add(part.base as usize));
        let Some(start) = start.filter(|start| start.saturating_add(extent(part)) <= table.rows()) else {
            let problem = format!(
                "expected {} rows from row {} on for the field `{}`, found {} in all",
                extent(part),
                source.offset,
                part.field.name,
                table.rows()
            );
            return Err(Error::refused(&file, format!("tensor `{}`", table.name), problem));
        };
        let values = values.as_deref().unwrap_or_default();
        let padding = match &part.slot.kind {
            Kind::Many(Several { padding: Some(padding), .. }) => usize::try_from(*padding).ok(),
            _ => None,
        };
        for row in 0..extent(part) {
            let at = (start + row) * table.lanes();
            let value = |lane: &usize| {
                let value = values.get(at + lane).copied().unwrap_or(0.0);
                if padding == Some(row) { 0.0 } else { narrow(factor * f64::from(value)) }
            };
            into.extend(lanes.iter().map(value));
        }
        Ok(())
    }

    /// The one table that is all fields' rows in their order, which need not be copied then.
    fn whole<'p>(
        &mut self,
        draft: &mut Draft<'_>,
        mut owners: impl Iterator<Item = &'p Part>,
        lanes: &[usize],
    ) -> Result<Option<Vec<f32>>> {
        let mut next = 0;
        let mut only = None;
        let follows = |part: &Part| {
            let Some(source) = part.slot.embeddings else { return false };
            let start = usize::try_from(source.offset).ok().map(|offset| offset + part.base as usize);
            let is_next = start == Some(next) && *only.get_or_insert(source.table) == source.table;
            next += extent(part);
            is_next && !matches!(part.slot.kind, Kind::Many(Several { padding: Some(_), .. }))
        };
        let fits = owners.all(follows);
        let Some(only) = only.filter(|_| fits) else { return Ok(None) };
        let (table, values) = self.load(draft, only)?;
        let is_whole = next == table.rows() && lanes.iter().copied().eq(0..table.lanes());
        Ok(if is_whole { values.take() } else { None })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest f32 is what is asked for")]
fn narrow(x: f64) -> f32 {
    x as f32
}

/// Gives the draft its stages, and the first order's constants: for dense inputs in the order of their fields.
pub(super) fn stages(draft: &mut Draft<'_>, structure: &Structure, parts: &[Part]) {
    let dense = parts.iter().filter(|part| part.slot.kind == Kind::Dense);
    let dense: Vec<Column> = dense.filter_map(|part| part.slot.columns.first().copied()).collect();
    let weights = |of: &BTreeMap<Column, f64>| -> Vec<f64> {
        dense.iter().map(|column| of.get(column).copied().unwrap_or(0.0)).collect()
    };
    draft.bias = structure.bias;
    draft.dense_linear = weights(&structure.numbers);
    let joins = structure.base.iter().any(|sum| !sum.numbers.is_empty());
    if joins {
        draft.stages.push(Stage::Concat);
    }
    let row = |sum: &Sum| -> Vec<f64> {
        let lanes = structure.lanes.keys().map(|lane| sum.lanes.get(lane).copied().unwrap_or(0.0));
        lanes.chain(if joins { weights(&sum.numbers) } else { Vec::new() }).collect()
    };
    let weights = structure.base.iter().flat_map(row).collect();
    let bias = structure.base.iter().map(|sum| sum.constant).collect();
    draft.stages.push(Stage::Dense(Dense { weights, bias }));
    for (activation, Layer { weights, bias }) in &structure.layers {
        draft.stages.push(Stage::Activation(activation.clone()));
        draft.stages.push(Stage::Dense(Dense { weights: weights.clone(), bias: bias.clone() }));
    }
}
