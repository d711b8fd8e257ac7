//! mlgb's NFM in torch, as a whole pickled model.
//!
//! `y = t₀ (linear(x ++ e) + b) + t · mlp(z) + c`, where `e` are the lanes of all fields' embeddings, one field after the other,
//! `z` is the bi-interaction of `e · s` with a scale for each lane of each field, and `t₀`, `t` and `c` are the task layer. So
//! `V = e · s`, and a row's first-order weight is `t₀` times what `linear` makes of its lanes. Dense inputs are first-order only.
//!
//! The tables stand in a plain dict, so a `state_dict` has none. Batch norm and layer norm are made anew in each call, without
//! parameters or statistics of training. Each activation carries a map of all activations, whose tensors take no part in a score.

use super::{
    Dialect, Hints,
    draft::{Draft, Stored, extent, id_field},
};
use crate::{
    error::{Error, Result},
    float_model::{Dense, FloatModel, Stage},
    schema::{Field, Task},
    tensors::{Fact, Tensors},
};

pub(super) const DIALECT: Dialect = Dialect {
    name: "mlgb",
    about: "mlgb's NFM for torch, saved as a whole model",
    recognizes: |tensors| tensors.entries.contains_key(LINEAR) && tensors.entries.contains_key(TASK),
    import,
};

const LINEAR: &str = "nfm_fn.linear_fn.linear_fn.weight";
const LINEAR_BIAS: &str = "nfm_fn.linear_fn.linear_fn.bias";
const SCALES: &str = "nfm_fn.fbi_fn.fbi_fn.fbi_weight";
const TASK: &str = "task_fn.linear_fn.linear_fn.weight";
const TASK_BIAS: &str = "task_fn.linear_fn.linear_fn.bias";
const LAYERS: &str = "nfm_fn.dnn_fn.dnn_fn_list";
/// Every activation that an activation could have been.
const UNUSED: &str = ".activation_map.";
const TABLES: &str = "input_fn.embed_cate_fn";

fn import(tensors: &mut Tensors, hints: &Hints) -> Result<FloatModel> {
    let mut draft = Draft::new(tensors, hints);
    let known = tables(draft.tensors)?;
    refuse_other_graphs(draft.tensors)?;
    let dim = draft.columns(&table_name(0))?;
    let (linear, dense) = linear(&mut draft, known.len() * dim)?;
    let fields = draft.fields_of_tables(&known, dense)?;
    let scale = layers(&mut draft, dim)?;
    draft.bias = draft.number(TASK_BIAS)? + scale * draft.number(LINEAR_BIAS)?;
    draft.dense_linear = linear.iter().take(dense).map(|w| scale * w).collect();
    let lane_weights: Vec<f64> = linear.iter().skip(dense).map(|w| scale * w).collect();
    let lane_scales = draft.tensors.take(SCALES, &[1, known.len(), dim])?;
    let rows = draft.rows(&fields, |draft, field| {
        let name = draft.table_name(field);
        let index = known.iter().position(|table| table.name == name).unwrap_or(known.len());
        let table = draft.tensors.take(&table_name(index), &[extent(field), dim])?;
        let of_field =
            |lanes: &[f64]| lanes.iter().copied().skip(index * dim).take(dim).collect::<Vec<f64>>();
        let (weights, scales) = (of_field(&lane_weights), of_field(&lane_scales));
        let first =
            table.chunks_exact(dim).map(|row| row.iter().zip(&weights).map(|(e, w)| e * w).sum::<f64>());
        let second = table.iter().zip(scales.iter().cycle()).map(|(e, s)| e * s);
        Ok((first.map(rounded).collect(), second.map(rounded).collect()))
    })?;
    skip_unused_activations(&mut draft);
    draft.finish(DIALECT.name, fields, dim, rows, ("task_fn.task_name", Task::Binary))
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest f32 is what is asked for")]
const fn rounded(value: f64) -> f32 {
    value as f32
}

fn table_name(index: usize) -> String {
    format!("{TABLES}.embed_fn_map.{index}.weight")
}

/// The fields in the order of the model, by the names that it has for them.
fn tables(tensors: &Tensors) -> Result<Vec<Field>> {
    let mut known = Vec::new();
    while let Some(shape) = tensors.shape(&table_name(known.len())) {
        let fact = format!("{TABLES}.sparse_feature_names.{}.feature_name", known.len());
        let name = match tensors.facts.get(&fact) {
            Some(Fact::Text(name)) => name.clone(),
            _ => format!("field_{}", known.len()),
        };
        known.push(id_field(name, shape.first().copied().unwrap_or(0)));
    }
    if known.is_empty() {
        let problem = "missing: mlgb keeps its embedding tables outside of the state_dict; save the whole model, with \
                       torch.save(model, path)";
        return Err(tensors.refuse(&table_name(0), problem));
    }
    Ok(known)
}

/// Modes of interaction, norms and inputs that have no place in a blob.
fn refuse_other_graphs(tensors: &Tensors) -> Result<()> {
    let refuse = |place: &str, problem: String| Err(Error::refused(&tensors.file, place, problem));
    if let Some(Fact::Text(mode)) = tensors.facts.get("nfm_fn.fbi_fn.fbi_mode")
        && mode != "FM3D"
    {
        return refuse("fbi_mode", format!("`{mode}` is no bi-interaction of NFM; supported is FM3D"));
    }
    for (name, fact) in tensors.facts.iter().filter(|(name, _)| !name.contains(UNUSED)) {
        match fact {
            Fact::Text(class) if name.starts_with(LAYERS) && class.ends_with(".BatchNormalizationLayer") => {
                let problem = "mlgb makes a new batch norm in each call, which normalizes with the statistics of the batch; a \
                               score of one row is not defined: train with dnn_if_bn=False";
                return refuse(name, problem.into());
            }
            Fact::Text(class) if name.starts_with(LAYERS) && class.ends_with(".LayerNormalizationLayer") => {
                let problem = "LayerNorm is not supported: train with dnn_if_ln=False";
                return refuse(name, problem.into());
            }
            Fact::Bool(true)
                if name.starts_with("input_fn.") && OTHER_INPUTS.iter().any(|of| name.ends_with(of)) =>
            {
                let problem = "multivalued, sequential and embedded dense inputs of mlgb are not supported";
                return refuse(name, problem.into());
            }
            _ => {}
        }
    }
    Ok(())
}

const OTHER_INPUTS: [&str; 3] = [".inputs_if_multivalued", ".inputs_if_sequential", ".inputs_if_embed_dense"];

/// The first order's weights, of the dense inputs and then of `lanes`, and how many dense inputs there are.
fn linear(draft: &mut Draft<'_>, lanes: usize) -> Result<(Vec<f64>, usize)> {
    let inputs = draft.columns(LINEAR)?;
    let Some(dense) = inputs.checked_sub(lanes) else {
        let problem = format!("expected at least {lanes} inputs (the lanes of all fields), found {inputs}");
        return Err(draft.tensors.refuse(LINEAR, problem));
    };
    Ok((draft.tensors.take(LINEAR, &[1, inputs])?, dense))
}

/// The hidden layers and the projection; gives what the task layer multiplies the first order with.
fn layers(draft: &mut Draft<'_>, dim: usize) -> Result<f64> {
    let mut width = dim;
    for layer in 0.. {
        let weights = format!("{LAYERS}.{layer}.0.linear_fn.weight");
        let bias = format!("{LAYERS}.{layer}.0.linear_fn.bias");
        if draft.tensors.shape(&weights).is_none() {
            break;
        }
        width = draft.dense(&weights, Some(&bias), Stored::OutIn, width)?;
        draft.activation(&format!("{LAYERS}.{layer}.4.activation_fn"))?;
    }
    let (task, outputs) = draft.matrix(TASK, Stored::OutIn, width + 1)?;
    match task.split_first() {
        Some((scale, projection)) if outputs == 1 => {
            draft.stages.push(Stage::Dense(Dense { weights: projection.to_vec(), bias: vec![0.0] }));
            Ok(*scale)
        }
        _ => Err(draft.tensors.refuse(TASK, format!("expected one output, found {outputs}"))),
    }
}

/// Leaves out the tensors of the activations that each activation could have been.
fn skip_unused_activations(draft: &mut Draft<'_>) {
    let names = draft.tensors.entries.keys();
    let unused: Vec<String> = names.filter(|name| name.contains(UNUSED)).cloned().collect();
    unused.iter().for_each(|name| draft.skip(name));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{
        import,
        tests::{refusal, tensors},
    };

    const SHAPES: [(&str, &[usize]); 9] = [
        (LINEAR, &[1, 5]),
        (LINEAR_BIAS, &[1]),
        (SCALES, &[1, 2, 2]),
        ("nfm_fn.dnn_fn.dnn_fn_list.0.0.linear_fn.weight", &[3, 2]),
        ("nfm_fn.dnn_fn.dnn_fn_list.0.0.linear_fn.bias", &[3]),
        (TASK, &[1, 4]),
        (TASK_BIAS, &[1]),
        ("input_fn.embed_cate_fn.embed_fn_map.0.weight", &[2, 2]),
        ("input_fn.embed_cate_fn.embed_fn_map.1.weight", &[3, 2]),
    ];

    fn with_fact(name: &str, fact: Fact) -> Tensors {
        let mut tensors = tensors(&SHAPES);
        tensors.facts.insert(name.into(), fact);
        tensors
    }

    #[test]
    fn the_task_layer_and_the_scales_are_folded() {
        let mut tensors = with_fact("task_fn.task_name", Fact::Text("regression".into()));
        for (name, values) in [
            (LINEAR, vec![3.0, 1.0, 2.0, 4.0, 8.0]),
            (SCALES, vec![1.0, 2.0, 3.0, 4.0]),
            (TASK, vec![2.0, 1.0, 1.0, 1.0]),
        ] {
            tensors.entries.get_mut(name).unwrap().values = crate::tensors::Values::F32(values);
        }
        let model = import(tensors, &Hints::default()).unwrap();
        // Every other number is 1/2: 2 · (1/2 · 1 + 1/2 · 2) = 3 for field 0, and 12 for field 1.
        assert_eq!(model.linear, [3.0, 3.0, 12.0, 12.0, 12.0]);
        assert_eq!(model.embeddings, [0.5, 1.0, 0.5, 1.0, 1.5, 2.0, 1.5, 2.0, 1.5, 2.0]);
        assert_eq!((model.dense_linear.as_slice(), model.bias), ([6.0].as_slice(), 0.5 + 2.0 * 0.5));
    }

    #[test]
    fn other_graphs_are_refused_by_name() {
        let text = |text: &str| Fact::Text(text.into());
        for (name, fact, essential) in [
            ("nfm_fn.fbi_fn.fbi_mode", text("HOFM"), "`HOFM` is no bi-interaction"),
            ("nfm_fn.dnn_fn.dnn_fn_list.0.1.__class__", text("f.BatchNormalizationLayer"), "dnn_if_bn=False"),
            ("nfm_fn.dnn_fn.dnn_fn_list.0.2.__class__", text("f.LayerNormalizationLayer"), "dnn_if_ln=False"),
            ("input_fn.input_fn.inputs_if_sequential", Fact::Bool(true), "sequential"),
            ("task_fn.task_name", text("multiclass"), "`multiclass`"),
        ] {
            let message = refusal(with_fact(name, fact), &Hints::default());
            assert!(message.contains(essential), "{essential}: {message}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_tensor() {
        let [table_0, table_1] = [SHAPES[7].0, SHAPES[8].0];
        let without = |but: &[&str], more: &[(&str, &[usize])]| {
            let kept = SHAPES.iter().filter(|(name, _)| !but.contains(name));
            tensors(&kept.chain(more).copied().collect::<Vec<_>>())
        };
        for (tensors, essential) in [
            (without(&[table_0, table_1], &[]), "torch.save(model, path)"),
            (without(&[LINEAR], &[(LINEAR, &[1, 3])]), "expected at least 4 inputs"),
            (without(&[SCALES], &[]), SCALES),
            (without(&[TASK], &[(TASK, &[3, 4])]), "expected one output, found 3"),
            (without(&[table_1], &[(table_1, &[3, 1])]), table_1),
            (without(&[], &[("nfm_fn.more.weight", &[1])]), "tensors left over"),
        ] {
            let message = refusal(tensors, &Hints::default());
            assert!(message.contains(essential), "{essential}: {message}");
        }
    }
}
