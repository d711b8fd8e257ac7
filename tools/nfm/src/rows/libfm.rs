//! libFM and libSVM text: `label id:value …`.

use super::{Layout, Problem, Row, finite, push_sequence, quote, unless_all_one, whole};

/// Whether a text whose first line is `line` has this format: it starts with a number, or with an entry whose label
/// is missing (so that [`LibFm::parse`] can say that).
pub(super) fn recognises(line: &str) -> bool {
    let Some(first) = line.split_whitespace().next() else { return false };
    let entry = || first.split_once(':').and_then(|(id, value)| whole(id).zip(finite(value)));
    first.parse::<f64>().is_ok() || entry().is_some()
}

/// Parses lines.
pub(super) struct LibFm {
    layout: Layout,
    dense: Vec<Option<f64>>,
}

impl LibFm {
    /// A parser, unless the fields of ids cannot be told apart by them.
    pub(super) fn new(layout: Layout) -> Result<Self, Problem> {
        for (field, _) in layout.sequences() {
            let shares =
                layout.fields.iter().find(|other| other.name != field.name && other.rows() == field.rows());
            if let Some(other) = shares {
                let (name, other) = (quote(&field.name), quote(&other.name));
                return Err(Problem::new(format!(
                    "expected CSV, because the sequence {name} shares its table with {other} and ids cannot tell them apart, found libFM text"
                )));
            }
        }
        let dense = vec![None; layout.dense_len];
        Ok(Self { layout, dense })
    }

    /// The row in `line`; `None` when there is only a comment.
    pub(super) fn parse(&mut self, line: &str) -> Result<Option<Row>, Problem> {
        let line = line.split_once('#').map_or(line, |(row, _comment)| row);
        let mut words = line.split_whitespace();
        let Some(label) = words.next() else { return Ok(None) };
        let label = finite(label).ok_or_else(|| {
            Problem::new(format!("expected a label (a finite number) first, found {}", quote(label)))
        })?;
        let mut row = Row { label: Some(label), ..Row::default() };
        let mut values = Vec::new();
        self.dense.fill(None);
        for word in words {
            let (id, value) = entry(word)?;
            match id.checked_sub(self.layout.total_rows) {
                None => {
                    // id < total_rows ≤ 2³²
                    row.ids.push(u32::try_from(id).map_err(|_| self.out_of_range(word))?);
                    values.push(value);
                }
                Some(input) => {
                    let index = usize::try_from(input).map_err(|_| self.out_of_range(word))?;
                    let Some(dense) = self.dense.get_mut(index) else { return Err(self.out_of_range(word)) };
                    if dense.replace(value).is_some() {
                        let name = self.layout.dense().nth(index).map_or("", |slot| &slot.name);
                        return Err(Problem::new(format!(
                            "expected the dense input {} once, found id {id} a second time",
                            quote(name)
                        )));
                    }
                }
            }
        }
        for ((value, slot), id) in self.dense.iter().zip(self.layout.dense()).zip(self.layout.total_rows..) {
            let Some(value) = value else {
                return Err(Problem::new(format!(
                    "expected a value for the dense input {} (id {id}), found none",
                    quote(&slot.name)
                )));
            };
            row.dense.push(*value);
        }
        self.gather_sequences(&mut row, &mut values)?;
        row.values = unless_all_one(values);
        Ok(Some(row))
    }

    /// Moves the entries of sequences behind the others, each sequence's together.
    fn gather_sequences(&self, row: &mut Row, values: &mut Vec<f64>) -> Result<(), Problem> {
        for (field, sequence) in self.layout.sequences() {
            let all = row.ids.drain(..).zip(values.drain(..));
            let (mine, others): (Vec<_>, Vec<_>) =
                all.partition(|(id, _)| field.rows().contains(&(*id).into()));
            (row.ids, *values) = others.into_iter().unzip();
            let padding = sequence.padding.map(|padding| field.first + padding);
            let mine: Vec<_> = mine.into_iter().filter(|(id, _)| Some(*id) != padding).collect();
            push_sequence(row, values, &sequence, &mine)
                .map_err(|text| Problem::of_value(&field.name, text))?;
        }
        Ok(())
    }

    fn out_of_range(&self, word: &str) -> Problem {
        let Layout { total_rows, dense_len, .. } = self.layout;
        let dense = match dense_len {
            0 => String::new(),
            n => format!(" or one of the {n} dense inputs after them"),
        };
        Problem::new(format!(
            "expected an id below {total_rows}{dense} (ids count from 0), found {}",
            quote(word)
        ))
    }
}

/// Parses `id:value`.
fn entry(word: &str) -> Result<(u64, f64), Problem> {
    let problem = |expected: &str| Problem::new(format!("expected {expected}, found {}", quote(word)));
    let (id, value) = word.split_once(':').ok_or_else(|| problem("`id:value`"))?;
    let id = whole(id).ok_or_else(|| problem("`id:value` with a whole number from 0 as the id"))?;
    let value = finite(value).ok_or_else(|| problem("`id:value` with a finite number as the value"))?;
    Ok((id, value))
}
