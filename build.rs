//! Selects the kernels written for the target's instruction set: by its name, for stable Rust does not tell Arm's extensions.

fn main() {
    let target = std::env::var("TARGET").unwrap_or_default();
    // To measure the kernels in Rust: no build has to set it.
    let portable = std::env::var_os("NFM_KERNELS").is_some_and(|kernels| kernels == "portable");
    let kernels = match target.as_str() {
        t if portable && has_dsp(t) => "halves",
        _ if portable => "none",
        t if t.starts_with("thumbv6m-") || t.starts_with("thumbv8m.base-") => "armv6m",
        t if has_dsp(t) => "armv7em",
        t if t.starts_with("thumbv7m-") || t.starts_with("thumbv8m.main-") => "armv7m",
        // Not RV32E, which has half of the registers, nor RV32I, which cannot multiply.
        t if t.starts_with("riscv32im") => "riscv32",
        _ => "none",
    };
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=NFM_KERNELS");
    println!(
        "cargo:rustc-check-cfg=cfg(nfm_kernels, values(\"armv6m\", \"armv7m\", \"armv7em\", \"riscv32\", \"halves\", \"none\"))"
    );
    println!("cargo:rustc-cfg=nfm_kernels=\"{kernels}\"");
}

/// Armv8-M with an FPU: among these cores none lacks the DSP extension; without an FPU some do.
fn has_dsp(target: &str) -> bool {
    target.starts_with("thumbv7em-") || target == "thumbv8m.main-none-eabihf"
}
