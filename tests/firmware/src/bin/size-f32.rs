//! Parses and scores on the f32 path, and nothing else.
#![no_std]
#![no_main]

use core::{hint::black_box, panic::PanicInfo};

use embedded_nfm::{F32Model, Sample, scratch_len};
use firmware::models;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    black_box(models::FIXED);
    let mut scratch = [0.0; scratch_len(models::F32)];
    if let Ok(model) = F32Model::parse(black_box(models::F32)) {
        // What is measured is for models and samples of any size.
        let (ids, scratch) = (black_box(&[0, 3][..]), black_box(&mut scratch[..]));
        if let Ok(score) = model.score(&Sample::new(ids), scratch) {
            black_box(score.to_bits());
        }
    }
    loop {}
}
