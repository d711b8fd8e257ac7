//! `cargo xtask test`: every check, in the order of how soon it tells something.

use std::time::Instant;

use crate::{
    on_target,
    process::{self, Result, cargo, own_cargo},
    toolchain::{build_library, lint_for_installed},
};

/// Targets that the library must build for.
const TARGETS: [&str; 2] = ["thumbv6m-none-eabi", "thumbv7em-none-eabihf"];

/// Targets with each kind of kernels in assembly.
const KINDS: [&str; 4] =
    ["thumbv6m-none-eabi", "thumbv7m-none-eabi", "thumbv7em-none-eabihf", "riscv32imac-unknown-none-elf"];

/// One check: what it shows, and how.
type Step = (&'static str, fn() -> Result<()>);

const STEPS: [Step; 12] = [
    ("format", || cargo(["fmt", "--all", "--check"])),
    ("format of the firmware", || cargo(["fmt", "--manifest-path", "tests/firmware/Cargo.toml", "--check"])),
    ("lints", || cargo(["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"])),
    ("tests", || cargo(["test", "--quiet", "--workspace"])),
    ("tests of the library, with every feature, optimized, with overflow checks", || {
        cargo([
            "test",
            "--quiet",
            "--package",
            "embedded-nfm",
            "--all-features",
            "--profile",
            "release-checked",
        ])
    }),
    ("lints of the library, with every feature", || {
        cargo(["clippy", "--quiet", "--all-targets", "--all-features", "--", "--deny", "warnings"])
    }),
    ("tests of the library, without features", || {
        cargo(["test", "--quiet", "--package", "embedded-nfm", "--no-default-features", "--test", "lean"])
    }),
    ("documentation", || {
        let mut doc = own_cargo();
        doc.args(["doc", "--quiet", "--workspace", "--no-deps", "--all-features"]);
        process::run(doc.env("RUSTDOCFLAGS", "--deny warnings"))
    }),
    ("the library for Cortex-M0 and Cortex-M4F", || {
        TARGETS.iter().try_for_each(|target| build_library(target, &["micromath"]))
    }),
    ("lints of the library and the firmware for each kind of core", lint_for_cores),
    ("on target: portable kernels", on_target::check_portable),
    ("on target: bits, panics, floats and budgets on five emulated cores", on_target::check),
];

/// Lints what only these targets compile: the kernels in assembly, and the programs that run on target.
fn lint_for_cores() -> Result<()> {
    lint_for_installed(&KINDS, &["--package", "embedded-nfm"])?;
    lint_for_installed(&KINDS, &["--package", "embedded-nfm", "--no-default-features"])?;
    lint_for_installed(&KINDS, &["--manifest-path", "tests/firmware/Cargo.toml", "--bins"])
}

/// Runs all steps; the first that fails ends it.
pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    for (name, step) in STEPS {
        let step_start = Instant::now();
        println!("── {name}");
        step().map_err(|problem| format!("{name}: {problem}"))?;
        println!("   {:.0} s", step_start.elapsed().as_secs_f64());
    }
    println!("── all {} steps passed in {:.0} s", STEPS.len(), start.elapsed().as_secs_f64());
    Ok(())
}
