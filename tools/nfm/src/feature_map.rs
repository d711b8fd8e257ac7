//! FuxiCTR's `feature_map.json` as a schema: it has the fields in their order, and how sequences are pooled.

use serde_json::Value;

use crate::{
    error::{Error, Result},
    schema::{Field, FieldKind, Pooling, Schema, Sequence, VERSION, Weights, lay_out},
};

/// The schema in a feature map; `None` for another file.
///
/// # Errors
///
/// Names the feature whose type or encoder is not supported.
pub(crate) fn schema(file: &str, json: &Value) -> Result<Option<Schema>> {
    let Some(features) =
        json.get("features").and_then(Value::as_array).filter(|_| json.get("labels").is_some())
    else {
        return Ok(None);
    };
    let mut fields = Vec::new();
    for (name, feature) in features.iter().filter_map(Value::as_object).flatten() {
        let field = field(name, feature);
        fields.extend(field.map_err(|problem| Error::refused(file, format!("feature `{name}`"), problem))?);
    }
    lay_out(&mut fields).map_err(|problem| Error::refused(file, "features", problem))?;
    Ok(Some(Schema { schema_version: VERSION, fields, ..Schema::default() }))
}

/// A feature's field; `None` for one that is no input.
fn field(name: &str, feature: &Value) -> core::result::Result<Option<Field>, String> {
    let text = |key: &str| feature.get(key).and_then(Value::as_str);
    let number = |key: &str| feature.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    let table = text("share_embedding").map(str::to_owned);
    let rows = || match (&table, number("vocab_size")) {
        (Some(_), _) => Ok(0),
        (None, Some(rows)) => Ok(rows),
        (None, None) => Err("expected a vocab_size, found none".to_owned()),
    };
    let kind = match text("type") {
        Some("meta") => return Ok(None),
        Some("numeric") => FieldKind::Scaled,
        Some("categorical") => FieldKind::Id { rows: rows()? },
        Some("sequence") => FieldKind::Sequence(Sequence {
            rows: rows()?,
            pooling: pooling(feature)?,
            linear: Pooling::Sum,
            max_len: number("max_len").and_then(|len| u16::try_from(len).ok()),
            padding: number("padding_idx"),
            weights: Weights::Raw,
        }),
        kind => {
            let kind = kind.unwrap_or("none");
            return Err(format!("expected a numeric, categorical or sequence feature, found {kind}"));
        }
    };
    let has_own_rows = matches!(text("pretrain_usage"), Some("sum" | "concat"));
    if has_own_rows
        && number("oov_idx").zip(number("vocab_size")).is_some_and(|(oov, rows)| rows.saturating_sub(oov) > 1)
    {
        return Err("ids after its oov_idx have pretrained embeddings alone, which is not supported".into());
    }
    Ok(Some(Field { table, ..Field::new(name, kind) }))
}

fn pooling(feature: &Value) -> core::result::Result<Pooling, String> {
    match feature.get("feature_encoder") {
        None => Ok(Pooling::Mean),
        Some(Value::String(encoder)) if encoder == "layers.MaskedAveragePooling()" => Ok(Pooling::Mean),
        Some(Value::String(encoder)) if encoder == "layers.MaskedSumPooling()" => Ok(Pooling::Sum),
        Some(encoder) => Err(format!(
            "expected layers.MaskedAveragePooling() or layers.MaskedSumPooling() as its encoder, found {encoder}, which is not \
             supported"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_feature_map_says_that_no_schema_can_is_refused_by_feature() {
        for (feature, essential) in [
            (r#"{"type":"embedding"}"#, "found embedding"),
            (r#"{"type":"categorical"}"#, "vocab_size"),
            (r#"{"type":"sequence","vocab_size":4,"feature_encoder":null}"#, "found null"),
            (r#"{"type":"categorical","share_embedding":"b"}"#, "found `b`"),
            (
                r#"{"type":"categorical","vocab_size":4,"oov_idx":1,"pretrain_usage":"sum"}"#,
                "ids after its oov_idx",
            ),
        ] {
            let text = format!(r#"{{"labels":["y"],"features":[{{"a":{feature}}}]}}"#);
            let message = schema("map.json", &serde_json::from_str(&text).unwrap()).unwrap_err().to_string();
            assert!(message.contains("`a`") && message.contains(essential), "{essential}: {message}");
        }
        assert_eq!(schema("s.json", &serde_json::json!({"schema_version": 1})).unwrap(), None);
    }
}
