//! What all programs share: the start-up code, which is as short as these cores allow.
#![no_std]

#[cfg(target_arch = "arm")]
core::arch::global_asm!(
    ".section .vectors, \"a\"",
    ".word _stack_top",
    ".word reset",
    ".rept 14",
    ".word fault",
    ".endr",
    ".section .text.reset, \"ax\"",
    ".global reset",
    ".type reset, %function",
    ".thumb_func",
    "reset:",
    "ldr r0, =_bss_start",
    "ldr r1, =_bss_end",
    "movs r2, #0",
    "1: cmp r0, r1",
    "bhs 2f",
    "str r2, [r0]",
    "adds r0, #4",
    "b 1b",
    "2: ldr r0, =0xE000ED88", // CPACR: the FPU, ignored where there is none
    "ldr r1, =0x00F00000",
    "str r1, [r0]",
    "dsb",
    "isb",
    "bl main",
    ".type fault, %function",
    ".thumb_func",
    "fault: b fault",
    ".ltorg",
);

#[cfg(target_arch = "riscv32")]
core::arch::global_asm!(
    ".section .init, \"ax\"",
    ".global reset",
    "reset:",
    "la sp, _stack_top",
    "la t0, fault",
    "csrw mtvec, t0",
    "la t0, _bss_start",
    "la t1, _bss_end",
    "1: bgeu t0, t1, 2f",
    "sw zero, 0(t0)",
    "addi t0, t0, 4",
    "j 1b",
    "2: call main",
    ".balign 4",
    "fault: j fault",
);

/// The program that `$run` is: it ends with what that refuses, or with the place of a panic.
#[macro_export]
macro_rules! program {
    ($run:path) => {
        #[panic_handler]
        fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
            semihosting::eprintln!("{info}");
            semihosting::process::exit(1)
        }

        #[unsafe(no_mangle)]
        extern "C" fn main() -> ! {
            match $run() {
                Ok(()) => semihosting::process::exit(0),
                Err(problem) => {
                    semihosting::eprintln!("{problem}");
                    semihosting::process::exit(1)
                }
            }
        }
    };
}

pub mod drawn;
pub mod measure;

/// The models that lie in the `size-*` images.
pub mod models {
    /// For the fixed path.
    pub static FIXED: &[u8] = embedded_nfm::include_model!("../../golden/tiny.nfm");
    /// For the f32 path.
    pub static F32: &[u8] = embedded_nfm::include_model!("../../golden/tiny-f32.nfm");
}
