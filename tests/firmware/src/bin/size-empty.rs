//! Start-up and a model, and no call of the library: what the other `size-*` images are compared with.
#![no_std]
#![no_main]

use core::{hint::black_box, panic::PanicInfo};

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    black_box(firmware::models::FIXED);
    black_box(firmware::models::F32);
    loop {}
}
