//! Building for microcontrollers: with rustup's target where it is installed, else with Debian's compiler and library
//! sources.

use std::{path::Path, process::Command};

use crate::process::{Result, output, own_cargo, program, root, run};

/// Debian packages of the second way.
const PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld"];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_LINKER: &str = "/usr/bin/ld.lld";

/// A cargo that can build for `target`, with everything set but the subcommand's own arguments.
pub(crate) fn cargo_for(target: &str, subcommand: &str) -> Result<Command> {
    cargo_for_all(&[target], subcommand)
}

/// A cargo that can build for all `targets` at once, with everything set but the subcommand's own arguments.
pub(crate) fn cargo_for_all(targets: &[&str], subcommand: &str) -> Result<Command> {
    let mut cargo = if targets.iter().all(|target| has_rustup_target(target)) {
        let mut cargo = own_cargo();
        cargo.arg(subcommand);
        cargo
    } else {
        debian_cargo(targets, subcommand)?
    };
    cargo.args(targets.iter().flat_map(|target| ["--target", target]));
    cargo.env("CARGO_TARGET_DIR", root().join("target/embedded"));
    Ok(cargo)
}

/// Debian's cargo; its library sources match its compiler, and building them needs the unstable flag: nothing of the project
/// does.
fn debian_cargo(targets: &[&str], subcommand: &str) -> Result<Command> {
    install(
        &PACKAGES,
        [DEBIAN_CARGO, DEBIAN_RUSTC, DEBIAN_LINKER].iter().all(|path| Path::new(path).exists()),
    )?;
    let mut cargo = program(DEBIAN_CARGO);
    cargo
        .args([subcommand, "-Z", "build-std=core"])
        .env("RUSTC", DEBIAN_RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env_remove("RUSTUP_TOOLCHAIN");
    for target in targets {
        let target = target.to_uppercase().replace(['-', '.'], "_");
        cargo.env(format!("CARGO_TARGET_{target}_LINKER"), DEBIAN_LINKER);
    }
    Ok(cargo)
}

/// Lints the library, or another manifest's package, for those `targets` that rustup has installed: Debian's clippy cannot read
/// its own compiler's library.
pub(crate) fn lint_for_installed(targets: &[&str], arguments: &[&str]) -> Result<()> {
    for target in targets {
        if !has_rustup_target(target) {
            println!("skipped: lints for {target}; rustup target add {target}");
            continue;
        }
        let mut cargo = cargo_for(target, "clippy")?;
        run(cargo.arg("--quiet").args(arguments).args(["--", "--deny", "warnings"]))?;
    }
    Ok(())
}

/// Name and version of the compiler that [`cargo_for_all`] uses.
pub(crate) fn compiler_for_all(targets: &[&str]) -> Result<String> {
    let rustup = targets.iter().all(|target| has_rustup_target(target));
    let mut rustc = if rustup {
        program(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
    } else {
        program(DEBIAN_RUSTC)
    };
    let version = output(rustc.arg("--version"))?;
    Ok(version.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

fn has_rustup_target(target: &str) -> bool {
    let mut rustc = program(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let libdir = output(rustc.args(["--print", "target-libdir", "--target", target]));
    libdir.is_ok_and(|libdir| {
        Path::new(libdir.trim()).join("..").join("lib").read_dir().is_ok_and(|mut d| d.next().is_some())
    })
}

/// Installs Debian packages, quietly, unless `present`.
pub(crate) fn install(packages: &[&str], present: bool) -> Result<()> {
    if present {
        return Ok(());
    }
    let advice = format!("install them: apt-get install {}", packages.join(" "));
    if !Path::new("/usr/bin/apt-get").exists() {
        return Err(format!("these Debian packages (or their like) are missing; {advice}"));
    }
    eprintln!("installing {}", packages.join(" "));
    let apt = |arguments: &[&str]| {
        let mut command = program("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
        output(&mut command)
    };
    apt(&["update", "-q"])
        .and_then(|_| apt(&[&["install", "-q", "-y", "--no-install-recommends"][..], packages].concat()))
        .map_err(|e| format!("{e}\n{advice}"))?;
    Ok(())
}

/// Builds the library for a target, as a user's release build would.
pub(crate) fn build_library(target: &str, features: &[&str]) -> Result<()> {
    let mut cargo = cargo_for(target, "build")?;
    run(cargo.args(["--quiet", "--release", "--package", "embedded-nfm", "--features", &features.join(",")]))
}
