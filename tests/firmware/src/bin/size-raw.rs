//! Parses a model and its encoders, builds a sample of raw values and scores it on the fixed path: no float, no way to panic. It is
//! measured, never run.
#![no_std]
#![no_main]

use core::{hint::black_box, panic::PanicInfo};

use embedded_nfm::{
    Model, Q16,
    encode::{Encoders, FieldIndex, SampleBuilder, SampleMemory, Value},
    scratch_len,
};
use firmware::models;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    black_box(models::F32);
    let mut scratch = [0_u32; scratch_len(models::FIXED)];
    let mut memory = SampleMemory::<Q16, 4, 1, 4>::new();
    if let Ok(model) = &Model::parse(black_box(models::FIXED)) {
        let fields = &model.info().fields;
        if let Ok(encoders) = Encoders::parse(model.info().encoders, fields) {
            let mut sample = SampleBuilder::new(encoders, fields, &mut memory);
            let _ = sample.set(FieldIndex(0), black_box(Value::Text("UA")));
            let _ = sample.set(FieldIndex(1), black_box(Value::Int(7)));
            if let Ok(sample) = sample.finish()
                && let Ok(score) = model.score(&sample, &mut scratch)
            {
                black_box(score.to_bits());
            }
        }
    }
    loop {}
}
