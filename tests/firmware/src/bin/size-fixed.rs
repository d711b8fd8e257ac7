//! Parses and scores on the fixed path, and nothing else: no float, no text, no way to panic.
#![no_std]
#![no_main]

use core::{hint::black_box, panic::PanicInfo};

use embedded_nfm::{Model, Sample, scratch_len};
use firmware::models;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    black_box(models::F32);
    let mut scratch = [0_u32; scratch_len(models::FIXED)];
    let mut place = None;
    if Model::parse_into(black_box(models::FIXED), &mut place).is_ok()
        && let Some(model) = &place
    {
        // What is measured is for models and samples of any size.
        let (ids, scratch) = (black_box(&[0, 3][..]), black_box(&mut scratch[..]));
        if let Ok(score) = model.score(&Sample::new(ids), scratch) {
            black_box(score.to_bits());
        }
    }
    #[cfg(feature = "broken-panic")]
    black_box(black_box(&[1, 2][..])[black_box(3)]);
    #[cfg(feature = "broken-float")]
    black_box(black_box(1.5_f32) * black_box(2.5_f32));
    loop {}
}
