//! The conversion: a float model and, where there are any, rows to calibrate with; a `.nfm` file's bytes out.

use embedded_nfm as device;

use crate::{
    calibrate::{Calibration, Ranges, bounds},
    encoding::section,
    error::{Error, Result},
    float_model::FloatModel,
    fold::{Folded, fold},
    model_file::{Blob, Scorer},
    quantize::{Options, Sizes, quantize},
    rows::{Row, Rows},
};

/// A converted model.
#[derive(Debug, Clone)]
pub struct Converted {
    /// The `.nfm` file.
    pub blob: Blob,
    /// Bytes of its parts.
    pub sizes: Sizes,
    /// The ranges that quantization used.
    pub ranges: Ranges,
}

/// Calibrates with rows, whose values may widen what the model accepts where the user set no limit.
///
/// # Errors
///
/// When there is no row, or one that the model cannot score.
pub fn calibrate(model: &mut FloatModel, rows: Rows<'_>, file: &str, widen_values: bool) -> Result<Ranges> {
    let folded = fold(model);
    let ranges = see(model, &folded, rows, file, widen_values)?;
    if ranges.value > model.max_value {
        model.max_value = ranges.value.log2().ceil().exp2();
        model.assumptions.push(format!("values are at most {} in magnitude, as in {file}", model.max_value));
    }
    Ok(ranges)
}

fn see(
    model: &FloatModel,
    folded: &Folded,
    mut rows: Rows<'_>,
    file: &str,
    widen_values: bool,
) -> Result<Ranges> {
    let mut calibration = Calibration::new(model, folded);
    while let Some(row) = rows.next() {
        let row = row?;
        let accepted = model.accepts(&row).and_then(|()| within_limits(model, &row, widen_values));
        accepted.map_err(|problem| Error::refused(file, rows.place(), problem))?;
        calibration.see(&row);
    }
    calibration.finish().ok_or_else(|| Error::refused(file, "", "no row to calibrate with"))
}

/// Whether `row` keeps to what the converted model is proved for.
fn within_limits(model: &FloatModel, row: &Row, widen_values: bool) -> core::result::Result<(), String> {
    let (active, most) = (row.ids.len(), model.max_active);
    if active > usize::from(most) {
        return Err(format!("expected at most {most} active entries, found {active}; say --max-active"));
    }
    let mut values = (0..active).map(|position| (position, row.value(position)));
    match values.find(|(_, value)| value.abs() > model.max_value) {
        Some((position, value)) if !widen_values => {
            let most = model.max_value;
            Err(format!(
                "entry {position}: expected a value of at most {most}, found {value}; say --max-value"
            ))
        }
        _ => Ok(()),
    }
}

/// Converts a model; without ranges the weights' own bounds are used. The result was parsed again.
///
/// # Errors
///
/// Names the part of the checkpoint that no legal code can hold, and the remedy.
pub fn convert(
    name: &str,
    file: &str,
    model: &FloatModel,
    ranges: Option<Ranges>,
    options: Options,
) -> Result<Converted> {
    model.check(file)?;
    let folded = fold(model);
    if !folded.is_finite() {
        let problem = "a weight is beyond the range of f64 after batch norm is folded into it: is its variance almost 0?";
        return Err(Error::refused(file, "conversion", problem));
    }
    let ranges = ranges.unwrap_or_else(|| bounds(model, &folded));
    let (bytes, sizes) = quantize(name, model, &folded, &ranges, options)
        .map_err(|problem| Error::refused(file, "conversion", problem))?;
    let blob = Blob::new(&bytes);
    let refused =
        |e: device::ParseError| Error::refused(file, "conversion", format!("the result is refused: {e}"));
    Scorer::parse(&blob).map_err(refused)?;
    let (blob, sizes) = add_encoders(model, options, blob, sizes)
        .map_err(|problem| Error::refused(file, "encoders", problem))?;
    Ok(Converted { blob, sizes, ranges })
}

/// The model file with the section of encoders, where the schema has any.
fn add_encoders(
    model: &FloatModel,
    options: Options,
    blob: Blob,
    sizes: Sizes,
) -> core::result::Result<(Blob, Sizes), String> {
    if !model.fields.iter().any(|field| field.encoding.is_raw()) {
        return Ok((blob, sizes));
    }
    let path = if options.is_fixed() { section::Path::Fixed } else { section::Path::F32 };
    let words = section::section(&model.fields, path)?;
    let bytes = with_encoders(&blob, bytemuck::cast_slice(&words))?;
    let encoders = 4 * words.len();
    Ok((Blob::new(&bytes), Sizes { encoders, total: sizes.total + encoders, ..sizes }))
}

/// The model file with this section of encoders at its end; both are checked.
fn with_encoders(blob: &Blob, section: &[u8]) -> core::result::Result<Vec<u8>, String> {
    let mut bytes = vec![0; blob.bytes().len() + section.len()];
    match Scorer::parse(blob).map_err(|e| e.to_string())? {
        Scorer::Fixed(model, _) => {
            let mut parts = model.parts().clone();
            parts.info.encoders = section;
            let model = device::Model::new(parts).map_err(|e| e.to_string())?;
            model.encoders().map_err(|e| e.to_string())?;
            model.emit(&mut bytes).map_err(|e| e.to_string())?;
        }
        Scorer::F32(model, _) => {
            let mut parts = model.parts().clone();
            parts.info.encoders = section;
            let model = device::F32Model::new(parts).map_err(|e| e.to_string())?;
            model.encoders().map_err(|e| e.to_string())?;
            model.emit(&mut bytes).map_err(|e| e.to_string())?;
        }
        Scorer::Oracle(_) => return Err("a checkpoint has no section of encoders".into()),
    }
    Ok(bytes)
}
