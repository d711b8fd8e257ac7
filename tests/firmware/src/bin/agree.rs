//! Compares this target's scores of drawn models with their definition.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use firmware::drawn::{CASES, Drawn};
use semihosting::{eprintln, println, process::exit};

static mut DRAWN: Drawn = Drawn::new();

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    eprintln!("{info}");
    exit(1)
}

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    // SAFETY: main runs once, and nothing else names this static.
    let drawn = unsafe { &mut *&raw mut DRAWN };
    let (scores, differ) = drawn.agree(0x9E37_79B9, &mut |line| println!("{line}"));
    println!("{scores} scores, {differ} differ");
    exit(if differ == 0 && scores > CASES { 0 } else { 1 })
}
