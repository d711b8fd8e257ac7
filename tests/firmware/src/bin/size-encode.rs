//! Parses encoders, and builds a sample of the fixed path with every one of them. It is measured, never run.
#![no_std]
#![no_main]

use core::{hint::black_box, panic::PanicInfo};

use embedded_nfm::{
    Q16,
    encode::{Encoders, FieldIndex, SampleBuilder, SampleMemory, Slot, Slots, Value},
};
use firmware::models;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

/// Fields that the compiler knows nothing of.
struct Fields;

impl Slots for Fields {
    fn count(&self) -> u16 {
        black_box(2)
    }
    fn slot(&self, field: u16) -> Option<Slot> {
        black_box(Some(Slot::Scaled { row: field.into() }))
    }
    fn name(&self, _: u16) -> &str {
        black_box("field")
    }
}

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    black_box(models::FIXED);
    black_box(models::F32);
    let mut memory = SampleMemory::<Q16, 4, 1, 4>::new();
    if let Ok(encoders) = Encoders::parse(black_box(&[]), &Fields) {
        let mut builder = SampleBuilder::new(encoders, &Fields, &mut memory);
        let _ = builder.set("field", black_box(Value::Int(7)));
        let _ = builder.set_weighted(FieldIndex(1), black_box([(Value::Text("UA"), Q16::ONE)]));
        if let Ok(sample) = builder.finish() {
            black_box(sample.ids());
        }
    }
    loop {}
}
