//! Scores on the f32 path with a model that comes from elsewhere, so that `parse` is not part of the image. It is
//! measured, never run.
#![no_std]
#![no_main]

use core::{hint::black_box, panic::PanicInfo, ptr};

use embedded_nfm::{F32Model, Sample, scratch_len};
use firmware::models;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    black_box(models::FIXED);
    black_box(models::F32);
    let mut scratch = [0.0; scratch_len(models::F32)];
    // SAFETY: never run; the compiler cannot know where the model comes from, and that is all that matters.
    let model = unsafe { black_box(ptr::null::<F32Model<'static>>()).as_ref() };
    if let Some(model) = model {
        // What is measured is for models and samples of any size.
        let (ids, scratch) = (black_box(&[0, 3][..]), black_box(&mut scratch[..]));
        if let Ok(score) = model.score(&Sample::new(ids), scratch) {
            black_box(score.to_bits());
        }
    }
    loop {}
}
