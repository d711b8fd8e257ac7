//! Chooses the memory map of the emulated board.

use std::{env, fs, path::PathBuf};

fn main() {
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let (code, ram) = match target.as_str() {
        // QEMU's mps2-an505, the secure aliases.
        t if t.starts_with("thumbv8m") => ("0x10000000", "0x38000000"),
        // QEMU's mps2-an385 and -an386.
        t if t.starts_with("thumb") => ("0x00000000", "0x20000000"),
        // QEMU's riscv32 virt.
        _ => ("0x80000000", "0x80400000"),
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let memory = format!(
        "MEMORY {{ CODE : ORIGIN = {code}, LENGTH = 4M  RAM : ORIGIN = {ram}, LENGTH = 4M }}\n{}",
        include_str!("link.x")
    );
    fs::write(out.join("firmware.x"), memory).expect("OUT_DIR is writable");
    println!("cargo::rustc-link-arg-bins=-T{}", out.join("firmware.x").display());
    // Relocations tell xtask who calls whom.
    println!("cargo::rustc-link-arg-bins=--emit-relocs");
    println!("cargo::rerun-if-changed=link.x");
    println!("cargo::rerun-if-changed=build.rs");
}
