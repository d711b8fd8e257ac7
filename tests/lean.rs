//! Models that need a feature which a build leaves out are refused by its name; all others score the same.

use embedded_nfm::{Feature, Model, ParseError, Q16, Sample, ScoreError};

const ALL: [Feature; 5] =
    [Feature::Activations, Feature::AnyLayout, Feature::DenseInputs, Feature::Nibbles, Feature::Values];

/// A golden blob that needs more than one feature, and the one that is looked at first.
fn first_missing(needs: &[Feature]) -> Option<Feature> {
    [Feature::Values, Feature::Nibbles, Feature::DenseInputs, Feature::Activations, Feature::AnyLayout]
        .into_iter()
        .find(|feature| needs.contains(feature) && !feature.is_built())
}

fn assert_parses_or_names_what_is_missing(blob: &[u8], needs: &[Feature]) {
    let found = Model::parse(blob).map(|_| ());
    let expected = first_missing(needs).map_or(Ok(()), |feature| Err(ParseError::FeatureMissing { feature }));
    assert_eq!(found, expected);
}

#[test]
fn a_model_is_refused_by_the_name_of_what_it_needs() {
    assert_parses_or_names_what_is_missing(embedded_nfm::include_model!("golden/tiny.nfm"), &[]);
    let wide = [Feature::Activations, Feature::DenseInputs, Feature::Values];
    assert_parses_or_names_what_is_missing(embedded_nfm::include_model!("golden/wide.nfm"), &wide);
    let dsp = [Feature::Activations, Feature::AnyLayout, Feature::DenseInputs, Feature::Values];
    assert_parses_or_names_what_is_missing(embedded_nfm::include_model!("golden/wide-dsp.nfm"), &dsp);
    let nibbles = [Feature::Activations, Feature::DenseInputs, Feature::Nibbles, Feature::Values];
    assert_parses_or_names_what_is_missing(embedded_nfm::include_model!("golden/wide-i4.nfm"), &nibbles);
}

/// The parts of a model that needs one feature: `change` makes it so.
fn refused(change: impl FnOnce(&mut embedded_nfm::FixedParts<'static>)) -> Option<ParseError> {
    let blob = embedded_nfm::include_model!("golden/tiny.nfm");
    let mut parts = Model::parse(blob).unwrap().parts().clone();
    change(&mut parts);
    Model::new(parts).err()
}

#[test]
fn parts_are_refused_by_the_name_of_what_they_need() {
    let missing = |feature: Feature| (!feature.is_built()).then_some(ParseError::FeatureMissing { feature });
    let values = refused(|parts| parts.max_value = Q16::from_bits(2 << 16));
    assert_eq!(values, missing(Feature::Values));
    let activation = refused(|parts| parts.layers[0].activation = embedded_nfm::Activation::Identity);
    assert_eq!(activation, missing(Feature::Activations));
}

#[test]
fn a_sample_with_values_needs_the_feature() {
    let model = Model::parse(embedded_nfm::include_model!("golden/tiny.nfm")).unwrap();
    let mut scratch = [0; 32];
    let one_hot = model.score(&Sample::new(&[0, 3]), &mut scratch);
    let ones = [Q16::ONE; 2];
    let with_values = model.score(&Sample::new(&[0, 3]).with_values(&ones), &mut scratch);
    let missing = Err(ScoreError::FeatureMissing { feature: Feature::Values });
    assert_eq!(with_values, if Feature::Values.is_built() { one_hot } else { missing });
}

#[test]
fn a_feature_has_the_name_that_cargo_gives_it() {
    let manifest = include_str!("../Cargo.toml");
    for feature in ALL {
        assert!(manifest.contains(&format!("\n{} = []\n", feature.name())), "{feature}");
    }
}
