//! A checkpoint of no dialect, by a map that its user writes: which tensor has which role.
//!
//! ```toml
//! map_version = 1
//! bias = ["const"]                       # constants, added up
//! dense = 2                              # dense inputs, which join z; 0 where it is left out
//! dense_linear = "wide.dense"            # their first-order weights
//!
//! [[tables]]                             # one a field, in the order of the fields, or one for all
//! field = "user"
//! embeddings = "tables.user"
//! stored = "lane-row"                    # [lanes, rows]; `row-lane`, [rows, lanes], where it is left out
//! linear = "wide.user"                   # [rows], [rows, 1] or [1, rows]; no first order where it is left out
//!
//! [[stages]]                             # what happens to z, in order
//! batch_norm = { gamma = "bn.scale", beta = "bn.shift", mean = "bn.mu", variance = "bn.sigma2", eps = 1e-3 }
//! [[stages]]
//! weights = "layer1.weights"
//! bias = "layer1.bias"                   # none where it is left out
//! stored = "in-out"                      # `out-in` where it is left out
//! [[stages]]
//! activation = "tanh"
//! ```
//!
//! The last stage must leave one number; without stages z is summed. A vector of weights is a layer of one output. A key that is
//! not listed here is an error, and so is a tensor that the map leaves out, unless `ignore = ["step"]` names it.

use std::{fs, path::Path};

use serde::Deserialize;

use super::{
    Hints,
    draft::{BnNames, Draft, Rows, Stored, id_field, transposed},
};
use crate::{
    error::{Error, Result},
    float_model::{Activation, Dense, FloatModel, Stage},
    schema::{Field, FieldKind, Task},
    tensors::Tensors,
};

/// A map file's content.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Map {
    map_version: u32,
    #[serde(default)]
    bias: Vec<String>,
    #[serde(default)]
    dense: usize,
    dense_linear: Option<String>,
    tables: Vec<Table>,
    #[serde(default)]
    stages: Vec<MapStage>,
    #[serde(default)]
    ignore: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    field: String,
    embeddings: String,
    #[serde(default)]
    stored: TableStored,
    linear: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TableStored {
    #[default]
    RowLane,
    LaneRow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum LayerStored {
    #[default]
    OutIn,
    InOut,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum MapStage {
    BatchNorm {
        batch_norm: Norm,
    },
    Layer {
        weights: String,
        bias: Option<String>,
        #[serde(default)]
        stored: LayerStored,
    },
    Activation {
        activation: String,
    },
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Norm {
    gamma: String,
    beta: String,
    mean: String,
    variance: String,
    eps: Option<f64>,
}

impl Map {
    /// Reads a map file.
    ///
    /// # Errors
    ///
    /// Names the line and what is wrong in it.
    pub fn read(path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        let map: Self =
            toml::from_str(&text).map_err(|e| Error::refused(&file, "", e.to_string().trim().to_owned()))?;
        if map.map_version != 1 {
            return Err(Error::refused(
                &file,
                "map_version",
                format!("expected 1, found {}", map.map_version),
            ));
        }
        if map.tables.is_empty() {
            return Err(Error::refused(&file, "tables", "expected one at least, found none"));
        }
        Ok(map)
    }

    /// Makes the model that it says.
    pub(super) fn import(&self, tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
        let mut draft = Draft::new(tensors, hints);
        self.ignore.iter().for_each(|name| draft.skip(name));
        let [a, b] = extents(&draft, &self.tables[0].embeddings)?;
        let dim = if self.tables[0].stored == TableStored::RowLane { b } else { a };
        let fields = self.fields(&mut draft)?;
        for name in &self.bias {
            draft.bias += draft.number(name)?;
        }
        if self.dense > 0 {
            draft.stages.push(Stage::Concat);
            draft.dense_linear = match &self.dense_linear {
                Some(name) => vector(&mut draft, name, self.dense)?,
                None => vec![0.0; self.dense],
            };
        }
        let width = self.stages(&mut draft, dim)?;
        if self.stages.is_empty() {
            draft.sum(dim + self.dense);
        } else if width != 1 {
            let problem = format!("expected the last stage to leave one number, found {width}");
            return Err(Error::refused(&draft.tensors.file, "map", problem));
        }
        let rows = match self.tables.as_slice() {
            [one] => {
                let (linear, embeddings) = take(&mut draft, one, dim)?;
                Rows { linear, embeddings }
            }
            tables => draft.rows(&fields, |draft, field| {
                let name = draft.table_name(field);
                let table = tables.iter().find(|table| table.field == name);
                table.map_or_else(|| Ok((Vec::new(), Vec::new())), |table| take(draft, table, dim))
            })?,
        };
        draft.finish("map", fields, dim, rows, ("config.task", Task::Binary))
    }

    fn fields(&self, draft: &mut Draft<'_>) -> Result<Vec<Field>> {
        let mut known = Vec::new();
        for table in &self.tables {
            let [a, b] = extents(draft, &table.embeddings)?;
            known.push(id_field(&table.field, if table.stored == TableStored::RowLane { a } else { b }));
        }
        match known.as_slice() {
            [only] => {
                let name = only.name.clone();
                draft.fields_of_one_table(only.kind.rows() as usize, self.dense, |rows| {
                    vec![Field::new(name, FieldKind::Ids { rows })]
                })
            }
            _ => draft.fields_of_tables(&known, self.dense),
        }
    }

    /// The stages; gives the last one's width.
    fn stages(&self, draft: &mut Draft<'_>, dim: usize) -> Result<usize> {
        let mut width = dim + self.dense;
        for stage in &self.stages {
            match stage {
                MapStage::BatchNorm { batch_norm: Norm { gamma, beta, mean, variance, eps } } => {
                    let place = gamma.clone();
                    let [gamma, beta, mean, variance] = [gamma, beta, mean, variance].map(Clone::clone);
                    draft.batch_norm(&BnNames { place, gamma, beta, mean, variance }, width, *eps)?;
                }
                MapStage::Layer { weights, bias, stored } => {
                    width = layer(draft, weights, bias.as_deref(), *stored, width)?;
                }
                MapStage::Activation { activation } => {
                    let known = Activation::by_name(activation).ok_or_else(|| {
                        let problem =
                            format!("`{activation}` is not supported; supported are {}", Activation::NAMES);
                        Error::refused(&draft.tensors.file, "map", problem)
                    })?;
                    draft.stages.push(Stage::Activation(known));
                }
            }
        }
        Ok(width)
    }
}

/// The extents of a matrix.
fn extents(draft: &Draft<'_>, name: &str) -> Result<[usize; 2]> {
    match draft.tensors.shape(name) {
        Some(&[a, b]) => Ok([a, b]),
        Some(shape) => Err(draft.tensors.refuse(name, format!("expected a matrix, found {shape:?}"))),
        None => Err(draft.tensors.refuse(name, "missing, but the map names it")),
    }
}

/// A vector, whichever of its extents is 1.
fn vector(draft: &mut Draft<'_>, name: &str, len: usize) -> Result<Vec<f64>> {
    let shape = draft.tensors.shape(name).map_or_else(|| vec![len], <[usize]>::to_vec);
    if !matches!(shape.as_slice(), [n] | [n, 1] | [1, n] if *n == len) {
        return Err(draft
            .tensors
            .refuse(name, format!("expected [{len}], [{len}, 1] or [1, {len}], found {shape:?}")));
    }
    draft.tensors.take(name, &shape)
}

fn layer(
    draft: &mut Draft<'_>,
    weights: &str,
    bias: Option<&str>,
    stored: LayerStored,
    inputs: usize,
) -> Result<usize> {
    if draft.tensors.shape(weights).is_some_and(|shape| shape.len() == 1) {
        let weights = vector(draft, weights, inputs)?;
        let bias = bias.map_or(Ok(0.0), |name| draft.number(name))?;
        draft.stages.push(Stage::Dense(Dense { weights, bias: vec![bias] }));
        return Ok(1);
    }
    let stored = if stored == LayerStored::OutIn { Stored::OutIn } else { Stored::InOut };
    draft.dense(weights, bias, stored, inputs)
}

/// A table's first-order weights and embeddings, by rows.
fn take(draft: &mut Draft<'_>, table: &Table, dim: usize) -> Result<(Vec<f32>, Vec<f32>)> {
    let shape = extents(draft, &table.embeddings)?;
    let (rows, lanes) =
        if table.stored == TableStored::RowLane { (shape[0], shape[1]) } else { (shape[1], shape[0]) };
    if lanes != dim {
        return Err(draft.tensors.refuse(&table.embeddings, format!("expected {dim} lanes, found {lanes}")));
    }
    let linear = match &table.linear {
        Some(name) => narrow(&vector(draft, name, rows)?),
        None => vec![0.0; rows],
    };
    if table.stored == TableStored::RowLane {
        return Ok((linear, draft.tensors.take_f32(&table.embeddings, &shape)?));
    }
    let embeddings = draft.tensors.take(&table.embeddings, &shape)?;
    Ok((linear, narrow(&transposed(&embeddings, lanes, rows))))
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest f32 is what is asked for")]
fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

/// A map to start from, for a checkpoint that no dialect recognizes: its tensors, each under the role that its shape suggests.
#[must_use]
pub fn starting_point(tensors: &Tensors) -> String {
    let mut text = String::from("map_version = 1\n");
    let mut tables = String::new();
    let mut stages = String::new();
    let (mut constants, mut vectors) = (Vec::new(), Vec::new());
    let largest =
        tensors.entries.values().filter_map(|tensor| tensor.shape.iter().max()).max().copied().unwrap_or(0);
    for (name, tensor) in &tensors.entries {
        match tensor.shape.as_slice() {
            [] | [1] => constants.push(format!("{name:?}")),
            [a, b] if name.to_lowercase().contains("emb") || *a.max(b) == largest => {
                let stored = if a >= b { "row-lane" } else { "lane-row" };
                tables.push_str(&format!(
                    "\n[[tables]]\nfield = {name:?}\nembeddings = {name:?}   # {a} × {b}\nstored = \"{stored}\"\n"
                ));
            }
            [a, b] => stages.push_str(&format!(
                "\n[[stages]]\nweights = {name:?}   # {a} × {b}\nstored = \"out-in\"\n[[stages]]\nactivation = \"relu\"\n"
            )),
            shape => vectors.push(format!("# {name:?} {shape:?}: a bias, first-order weights, or part of a batch norm?\n")),
        }
    }
    text.push_str(&format!("bias = [{}]\n", constants.join(", ")));
    text.extend(vectors);
    text + &tables + &stages
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::dialect::tests::tensors;

    fn read(text: &str) -> Result<Map> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Map::read(file.path())
    }

    fn import(text: &str, shapes: &[(&str, &[usize])]) -> Result<FloatModel> {
        let hints = Hints { map: Some(read(text).unwrap()), ..Hints::default() };
        crate::dialect::import(tensors(shapes), &hints)
    }

    const FM: &str =
        "map_version = 1\nbias = [\"b\"]\n[[tables]]\nfield = \"f\"\nembeddings = \"e\"\nlinear = \"w\"\n";

    #[test]
    fn a_map_says_what_each_tensor_is() {
        let model = import(FM, &[("e", &[4, 2]), ("w", &[1, 4]), ("b", &[])]).unwrap();
        assert_eq!((model.rows(), model.dim, model.linear.as_slice()), (4, 2, &[0.5; 4][..]));
        let message =
            import(FM, &[("e", &[4, 2]), ("w", &[4]), ("b", &[]), ("x", &[3])]).unwrap_err().to_string();
        assert!(message.contains("no place for `x`"), "{message}");
        let ignoring = FM.replace("bias", "ignore = [\"x\"]\nbias");
        assert_eq!(
            import(&ignoring, &[("e", &[4, 2]), ("w", &[4]), ("b", &[]), ("x", &[3])]).unwrap().skipped,
            ["x"]
        );
    }

    #[test]
    fn what_is_no_map_is_refused_with_its_line() {
        for (text, essential) in [
            ("map_version = 2\ntables = []\n", "expected 1, found 2"),
            ("map_version = 1\ntables = []\n", "expected one at least"),
            ("map_version = 1\nlayers = 3\n", "unknown field `layers`"),
            ("map_version = 1\n[[tables]]\nfield = \"f\"\n", "missing field `embeddings`"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(essential), "{message}");
        }
        let message = import(FM, &[("e", &[4, 2]), ("w", &[3]), ("b", &[])]).unwrap_err().to_string();
        assert!(message.contains("tensor `w`: expected [4]"), "{message}");
        let message = import(FM, &[("w", &[4]), ("b", &[])]).unwrap_err().to_string();
        assert!(message.contains("tensor `e`: missing, but the map names it"), "{message}");
    }
}
