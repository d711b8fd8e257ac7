//! The program that the test compiles with modules of its models. It prints their scores of a row.

mod kinds;
mod kinds_f32 {
    include!("kinds_f32.rs");
}
mod limited;
mod weird;

use embedded_nfm::encode::Problem;

fn main() {
    weird();
    // The same values for both paths of arithmetic.
    macro_rules! kinds {
        ($module:ident, $number:expr) => {{
            use $module::{SCRATCH_LEN, SEQUENCES, field};
            let model = $module::model().unwrap();
            let mut memory = $module::Memory::new();
            let mut sample = $module::builder(&model, &mut memory).unwrap();
            let number: fn(f32) -> $module::Number = $number;
            sample.set(field::ID, 2).unwrap();
            sample.set(field::DENSE, 0.5_f32).unwrap();
            sample.set_weighted(field::TAGS, [(0, number(1.5)), (4, number(-1.0))]).unwrap();
            sample.set_weighted(field::HISTORY, [(1, number(1.0)), (5, number(2.0))]).unwrap();
            sample.finish().unwrap();
            let sequences = sample.sequences::<SEQUENCES>().unwrap();
            let mut scratch = [Default::default(); SCRATCH_LEN];
            let score = model.score_sequences(&sample.sample(), &sequences, &mut scratch).unwrap();
            println!("{}", f64::from(score.to_f32()));
        }};
    }
    trait ToF32 {
        fn to_f32(self) -> f32;
    }
    impl ToF32 for f32 {
        fn to_f32(self) -> f32 {
            self
        }
    }
    kinds!(kinds, |x| embedded_nfm::Q16::from_bits((x * 65536.0) as i32));
    kinds!(kinds_f32, |x| x);
    limited();
}

/// Every field of these has id 0, 1 or 2, in turn.
fn weird() {
    let model = weird::model().unwrap();
    let mut memory = weird::Memory::new();
    let mut sample = weird::builder(&model, &mut memory).unwrap();
    use weird::field::*;
    const LONG: embedded_nfm::encode::FieldIndex =
        A_FIELD_WITH_A_NAME_THAT_IS_MUCH_TOO_LONG_FOR_ANY_LINE_OF_ANY_WIDTH_THAT_SOMEBODY_WOULD_LIKE_TO_READ;
    let fields = [
        TYPE, SELF, FIELD_1ST, GR_E, FIELD_4, FIELD_5, A_B_6_6, A_B_7, A_B_6_8, X_PUB_CONST_Y_U8_0, BACK_TICK,
        LEFT_TO_RIGHT, CAMEL_CASE, USER_ID_0, FIELD_14, A_FIELD_WITH_A_NAME_THAT_IS_JUST_TOO_LONG_FOR_A_LINE, LONG,
        QUOTED, FIELD_18, C1,
    ];
    for (at, field) in fields.into_iter().enumerate() {
        sample.set(field, at as u32 % 3).unwrap();
    }
    let score = model.score(&sample.finish().unwrap(), &mut [0; weird::SCRATCH_LEN]).unwrap();
    println!("{}", score.to_f64());
}

/// As many entries as there may be while a sample is built, also of values that are none in the end; and not one more.
fn limited() {
    use limited::{Memory, SCRATCH_LEN, SEQUENCES, field};
    let model = limited::model().unwrap();
    let mut memory = Memory::new();
    let mut sample = limited::builder(&model, &mut memory).unwrap();
    sample.set(field::ID, 0).unwrap();
    sample.set_sequence(field::HISTORY, [1, 2, 3, 4, 5, 5]).unwrap();
    sample.set_sequence(field::MORE, [5, 0, 5]).unwrap();
    assert_eq!(sample.finish().unwrap().ids().len(), 1 + 4 + 1);
    assert_eq!(sample.sequences::<SEQUENCES>().unwrap().len(), 2);
    assert!(model.score(&sample.sample(), &mut [0; SCRATCH_LEN]).is_err(), "the model takes 3 entries");

    let fields = &model.info().fields;
    let encoders = model.encoders().unwrap().unwrap();
    let mut short = embedded_nfm::encode::SampleMemory::<_, { limited::MAX_ENTRIES - 1 }, 0, { limited::FIELDS }>::new();
    let mut sample = embedded_nfm::encode::SampleBuilder::new(encoders, fields, &mut short);
    sample.set(field::ID, 0).unwrap();
    sample.set_sequence(field::HISTORY, [1, 2, 3, 4]).unwrap();
    let error = sample.set_sequence(field::MORE, [5, 5]).unwrap_err();
    assert_eq!(error.problem, Problem::TooManyEntries { max: 6 });
}
