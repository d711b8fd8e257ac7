//! Calls as regions that the plugin counts, the stack that they take, and files of the host.

use core::{arch::asm, ffi::CStr};

use semihosting::{
    fs::File,
    io::{self, Read},
};

/// What the unused stack holds.
const PAINT: u32 = 0xA5C3_965A;

unsafe extern "C" {
    static mut _stack_limit: u32;
}

/// Bytes that start where any type may.
#[repr(C, align(16))]
pub struct Buffer<const N: usize>(pub [u8; N]);

/// The whole file.
pub fn read<'b>(path: &CStr, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let mut file = File::open(path)?;
    let mut len = 0;
    loop {
        let rest = buffer.get_mut(len..).unwrap_or_default();
        match file.read(rest)? {
            0 => return Ok(buffer.get(..len).unwrap_or_default()),
            read => len += read,
        }
    }
}

/// The regions that show that the plugin counts right: a function that does nothing, and one of three nops.
pub fn calibrate() {
    measure(empty as *const (), [0; 4]);
    measure(three_nops as *const (), [0; 4]);
}

/// A function that does nothing.
pub extern "C" fn empty() {}

extern "C" fn three_nops() {
    // SAFETY: does nothing.
    unsafe { asm!("nop", "nop", "nop", options(nomem, nostack, preserves_flags)) };
}

/// Calls a function of up to four addresses as a counted region, and gives how many bytes of stack it wrote to.
pub fn measure(function: *const (), arguments: [usize; 4]) -> usize {
    let limit = &raw mut _stack_limit;
    let words = (stack_pointer() - limit.addr()) / 4;
    for word in 0..words {
        // SAFETY: below the stack pointer and within the stack; these cores have no red zone, and no interrupt is enabled.
        unsafe { limit.add(word).write_volatile(PAINT) };
    }
    // SAFETY: `function` has the C ABI, and callers give the addresses that its parameters ask for.
    unsafe { call(function, arguments) };
    // SAFETY: as above.
    let painted = |word: &usize| unsafe { limit.add(*word).read_volatile() } == PAINT;
    (words - (0..words).take_while(painted).count()) * 4
}

#[inline(always)]
fn stack_pointer() -> usize {
    let pointer: usize;
    // SAFETY: reads a register.
    unsafe {
        #[cfg(target_arch = "arm")]
        asm!("mov {}, sp", out(reg) pointer, options(nomem, nostack, preserves_flags));
        #[cfg(target_arch = "riscv32")]
        asm!("mv {}, sp", out(reg) pointer, options(nomem, nostack, preserves_flags));
    }
    pointer
}

/// A call between the plugin's markers, so that the compiler can move nothing between them.
///
/// They are aligned, since QEMU misses a marker at the end of a page.
///
/// # Safety
///
/// `function` must have the C ABI and parameters that are addresses of what `arguments` point to.
#[inline(always)]
unsafe fn call(function: *const (), [a, b, c, d]: [usize; 4]) {
    // SAFETY: by this function's own contract.
    unsafe {
        #[cfg(target_arch = "arm")]
        asm!(
            ".p2align 5", "mov r9, r9", "blx {}", "mov r10, r10",
            in(reg) function, in("r0") a, in("r1") b, in("r2") c, in("r3") d, clobber_abi("C"),
        );
        #[cfg(target_arch = "riscv32")]
        asm!(
            ".p2align 5", "slti x0, x0, 1", "jalr ra, 0({})", "slti x0, x0, 2",
            in(reg) function, in("a0") a, in("a1") b, in("a2") c, in("a3") d, clobber_abi("C"),
        );
    }
}
