//! `cargo xtask test`: every check, in the order of how soon it tells something.

use std::time::Instant;

use crate::{
    on_target,
    process::{self, Result, cargo, own_cargo},
    toolchain::build_library,
};

/// Targets that the library must build for.
const TARGETS: [&str; 2] = ["thumbv6m-none-eabi", "thumbv7em-none-eabihf"];

/// One check: what it shows, and how.
type Step = (&'static str, fn() -> Result<()>);

const STEPS: [Step; 8] = [
    ("format", || cargo(["fmt", "--all", "--check"])),
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
    ("documentation", || {
        let mut doc = own_cargo();
        doc.args(["doc", "--quiet", "--workspace", "--no-deps", "--all-features"]);
        process::run(doc.env("RUSTDOCFLAGS", "--deny warnings"))
    }),
    ("the library for Cortex-M0 and Cortex-M4F", || {
        TARGETS.iter().try_for_each(|target| build_library(target, &["micromath"]))
    }),
    ("on target: bits, panics, floats and budgets on five emulated cores", on_target::check),
];

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
