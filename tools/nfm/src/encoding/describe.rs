//! Encoders in words, for `nfm inspect` and for messages.

use embedded_nfm::encode::{
    Encoder, Encoders, F32Scaling, FieldEncoder, KeyKind, Of, Padding, Policy, Scaling, SequenceRule,
    hash::Rule,
};

use super::{raw::PathNumber, section::FIXED_RANGE};
use crate::schema::Field;

/// A line for each field.
pub(super) fn fields<V: PathNumber>(fields: &[Field], encoders: &Encoders<'_, V>) -> Vec<String> {
    (0..).zip(fields).map(|(at, field)| line::<V>(field, &encoders.encoder(at))).collect()
}

fn line<V: PathNumber>(field: &Field, encoder: &FieldEncoder<'_>) -> String {
    let policy = |policy| policy_text::<V>(policy, &encoder.encoder);
    let mut line = encoder_text(&encoder.encoder);
    line += &format!("; unseen: {}; missing: {}", policy(encoder.unseen), policy(encoder.missing));
    if field.kind.takes_several() {
        line += &sequence_text(encoder.sequence);
    }
    line
}

fn encoder_text(encoder: &Encoder<'_>) -> String {
    match encoder {
        Encoder::Id => "ids as they are".into(),
        Encoder::Vocabulary(table) => {
            let kind = if table.kind() == KeyKind::Integer { "integers" } else { "texts" };
            let odds = if table.is_exact() { "exact" } else { "exact to 2^-32" };
            format!("vocabulary of {} {kind}, {odds}", table.keys())
        }
        Encoder::Hash(hashing) => {
            let after = if hashing.prefix.is_empty() { "" } else { ", after " };
            format!(
                "{} hash into {} buckets{after}{}",
                rule_name(hashing.rule),
                hashing.buckets,
                hashing.prefix
            )
        }
        Encoder::Buckets(buckets) => {
            let end = if buckets.right_closed { "right" } else { "left" };
            let ids = if buckets.ids.is_empty() { "" } else { " with ids of their own" };
            format!("{} buckets closed on the {end}{ids}", buckets.boundaries.len() + 1)
        }
        Encoder::Number(scaling) => number_text(scaling.of, scaling.step, &fixed_parts(scaling)),
        Encoder::F32Number(scaling) => {
            let F32Scaling { of, step, offset, scale, min, max } = *scaling;
            let range = (min > f32::MIN || max < f32::MAX).then(|| [min.into(), max.into()]);
            number_text(of, step, &Parts { offset: offset.into(), scale: scale.into(), range })
        }
    }
}

const fn rule_name(rule: Rule) -> &'static str {
    match rule {
        Rule::Fingerprint64 => "farmhash64",
        Rule::Fingerprint64MaskZero => "farmhash64_mask_zero",
        Rule::Murmur3 => "murmur3_32",
        Rule::FeatureHasher => "feature_hasher",
        Rule::Fnv1a32 => "fnv1a_32",
        Rule::Fnv1a64 => "fnv1a_64",
        Rule::Xx64 => "xxh64",
    }
}

/// A scaling of either path: `(x − offset) · scale`, and the range where there is one.
struct Parts {
    offset: f64,
    scale: f64,
    range: Option<[f64; 2]>,
}

fn fixed_parts(scaling: &Scaling) -> Parts {
    let Scaling { offset, scale, fraction, min, max, .. } = *scaling;
    let steps = f64::from(fraction).exp2();
    #[expect(clippy::cast_precision_loss, reason = "a number for people")]
    let offset = offset as f64 / steps;
    let scale = f64::from(scale.multiplier) * steps / f64::from(scale.shift + 16).exp2();
    let range = ([min, max] != FIXED_RANGE).then(|| [min.to_f64(), max.to_f64()]);
    Parts { offset, scale, range }
}

fn number_text(of: Of, step: u8, parts: &Parts) -> String {
    let of = match of {
        Of::Value => "x",
        Of::Ln1p => "ln(1 + x)",
        Of::Ln => "ln(x)",
    };
    let (offset, scale) = (short(parts.offset), short(parts.scale));
    let mut text = match (offset.as_str(), scale.as_str()) {
        ("0", "1") => of.to_owned(),
        ("0", _) => format!("{of} · {scale}"),
        (_, "1") => format!("{of} − {offset}"),
        _ => format!("({of} − {offset}) · {scale}"),
    };
    if let Some([min, max]) = parts.range {
        text += &format!(" in {} ..= {}", short(min), short(max));
    }
    if step > 0 {
        text += &format!(", in steps of {}", short(f64::from(i16::from(step) - 16).exp2()));
    }
    text
}

/// A number with six digits.
fn short(number: f64) -> String {
    let rounded = format!("{number:.5e}").parse().unwrap_or(number);
    // Not −0.
    (rounded + 0.0).to_string()
}

fn policy_text<V: PathNumber>(policy: Policy, encoder: &Encoder<'_>) -> String {
    match policy {
        Policy::Error => "error".into(),
        Policy::Zero => "zero".into(),
        Policy::Clamp => "clamp".into(),
        Policy::Use(bits) => match encoder {
            Encoder::Number(_) | Encoder::F32Number(_) => short(V::from_bits(bits).to_f64()),
            Encoder::Id | Encoder::Vocabulary(_) | Encoder::Hash(_) | Encoder::Buckets(_) => {
                format!("id {bits}")
            }
        },
    }
}

fn sequence_text(rule: SequenceRule) -> String {
    let mut text = String::new();
    if rule.max_len < u16::MAX {
        let which = if rule.keep_last { "last" } else { "first" };
        text += &format!("; the {which} {}", rule.max_len);
    }
    match rule.padding {
        Padding::None => {}
        Padding::Skip(id) => text += &format!("; id {id} is left out"),
        Padding::Fill(id) => text += &format!("; filled up with id {id}"),
    }
    text
}
