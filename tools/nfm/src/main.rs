//! The `nfm` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    nfm::cli::run()
}
