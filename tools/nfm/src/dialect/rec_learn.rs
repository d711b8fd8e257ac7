//! RecLearn's NFM (TensorFlow 2): a table per field, batch norm on z where its user chose it, relu, a projection with a bias. It
//! has no first order and no other constant.
//!
//! Keras calls the tables `embedding`, `embedding_1` …: a schema's fields take them in this order. RecLearn before November 2021
//! normalised with the statistics of the batch even when it predicted (issue 48), which no converter can repeat; its checkpoints
//! look the same.

use super::{
    Dialect, Hints,
    draft::{BnNames, Draft, Stored, extent, id_field},
};
use crate::{
    error::{Error, Result},
    float_model::{Activation, FloatModel},
    schema::{Field, FieldKind, Task},
    tensors::Tensors,
};

pub(super) const DIALECT: Dialect = Dialect {
    name: "reclearn",
    about: "RecLearn's NFM",
    recognizes: |tensors| {
        weight(tensors, "mlp/dense", 0).is_some() && weight(tensors, "embedding", 0).is_some()
    },
    import,
};

/// Keras's default.
const EPS: f64 = 1e-3;

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let tables = numbered(draft.tensors, "embedding");
    let dim = draft.columns(tables.first().map_or("embedding/embeddings", String::as_str))?;
    let fields = fields(&mut draft, &tables)?;
    let norm = |name: &str| draft.tensors.entries.keys().find(|tensor| tensor.ends_with(name)).cloned();
    if let Some(variance) =
        norm("batch_normalization/moving_variance").or_else(|| norm("batch_normalization/3"))
    {
        let place = variance.rsplit_once('/').map_or("", |(place, _)| place).to_owned();
        let named = BnNames::keras(&place);
        let by_position = BnNames::of(&place, ["0", "1", "2", "3"], '/');
        let names = if draft.tensors.shape(&named.variance).is_some() { named } else { by_position };
        draft.batch_norm(&names, dim, Some(EPS))?;
    }
    let layers = numbered(draft.tensors, "mlp/dense");
    let mut width = dim;
    for kernel in &layers {
        width = draft.dense(kernel, Some(&bias_of(kernel)), Stored::InOut, width)?;
        draft.activation_or("mlp", Activation::Relu)?;
    }
    let head = head(draft.tensors)?;
    draft.head(&head, Some(&bias_of(&head)), Stored::InOut, width)?;
    // A field has a table, and both stand in the same order.
    let mut tables = tables.iter();
    let rows = draft.rows(&fields, |draft, field| {
        let table = tables.next().map_or("", String::as_str);
        Ok((vec![0.0; extent(field)], draft.tensors.take_f32(table, &[extent(field), dim])?))
    })?;
    draft.finish(DIALECT.name, fields, dim, rows, ("config.task", Task::Binary))
}

/// The schema's fields, which take the tables in their order, or one a table.
fn fields(draft: &mut Draft<'_>, tables: &[String]) -> Result<Vec<Field>> {
    let said = draft.hints.schema_fields();
    let named = tables.iter().enumerate().map(|(at, table)| {
        let name = said.get(at).map_or_else(|| format!("field_{at}"), |field| field.name.clone());
        id_field(name, draft.tensors.rows(table))
    });
    let known: Vec<Field> = named.collect();
    if said.iter().any(|field| field.kind == FieldKind::Dense || field.table.is_some()) {
        let problem = "expected fields with a table each, as a RecLearn model has";
        return Err(Error::refused(&draft.tensors.file, "schema", problem));
    }
    if said.is_empty() {
        draft.assume("the fields' names are not in the checkpoint: field_0 … in the order of its tables; a schema can name them");
    }
    draft.fields_of_tables(&known, 0)
}

/// The kernel of the layer outside of the perceptron.
fn head(tensors: &Tensors) -> Result<String> {
    let is_head = |name: &&String| {
        let layer = name.strip_prefix("nfm/").unwrap_or(name);
        layer.starts_with("dense") && (layer.ends_with("/kernel") || layer.ends_with("/0"))
    };
    tensors.entries.keys().find(is_head).cloned().ok_or_else(|| tensors.refuse("dense/kernel", "missing"))
}

/// The first weights of the layers `name`, `name_1`, `name_2` …, as far as there are.
fn numbered(tensors: &Tensors, name: &str) -> Vec<String> {
    (0..).map_while(|at| weight(tensors, name, at)).collect()
}

/// The first weight of the layer that Keras called `name` or `name_<at>`: by its name, or by its position.
fn weight(tensors: &Tensors, name: &str, at: usize) -> Option<String> {
    let layer = if at == 0 { name.to_owned() } else { format!("{name}_{at}") };
    let forms = ["kernel", "embeddings", "0"].map(|weight| format!("{layer}/{weight}"));
    let prefixed = forms.clone().map(|form| format!("nfm/{form}"));
    forms.into_iter().chain(prefixed).find(|form| tensors.shape(form).is_some())
}

/// The bias beside a kernel.
fn bias_of(kernel: &str) -> String {
    match kernel.strip_suffix("/kernel") {
        Some(layer) => format!("{layer}/bias"),
        None => format!("{}/1", kernel.trim_end_matches("/0")),
    }
}

#[cfg(test)]
mod tests {
    use crate::dialect::{
        Hints, import,
        tests::{refusal, tensors},
    };

    const SHAPES: [(&str, &[usize]); 6] = [
        ("embedding/embeddings", &[2, 3]),
        ("embedding_1/embeddings", &[4, 3]),
        ("mlp/dense/kernel", &[3, 5]),
        ("mlp/dense/bias", &[5]),
        ("dense_1/kernel", &[5, 1]),
        ("dense_1/bias", &[1]),
    ];

    #[test]
    fn there_is_no_first_order() {
        let model = import(tensors(&SHAPES), &Hints::default()).unwrap();
        assert_eq!((model.linear.as_slice(), model.fields[1].name.as_str()), (&[0.0; 6][..], "field_1"));
    }

    #[test]
    fn a_projection_that_is_missing_is_asked_for() {
        let message = refusal(tensors(&SHAPES[..4]), &Hints::default());
        assert!(message.contains("`dense/kernel`: missing"), "{message}");
    }
}
