//! Other programs, run from the repository's root.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What went wrong, for people.
pub(crate) type Result<T> = core::result::Result<T, String>;

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A program that runs in the repository's root.
pub(crate) fn program(name: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root());
    command
}

/// The cargo that runs this.
pub(crate) fn own_cargo() -> Command {
    program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a program; an error when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}")) }
}

/// Runs a program and gives what it printed; an error with what it complained when it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    if output.status.success() {
        return String::from_utf8(output.stdout).map_err(|e| format!("{command:?}: {e}"));
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{command:?} ended with {}\n{}{complaint}",
        output.status,
        String::from_utf8_lossy(&output.stdout)
    ))
}

/// Runs cargo with these arguments.
pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Result<()> {
    run(own_cargo().args(arguments))
}
