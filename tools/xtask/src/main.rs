//! Chores of the repository: `cargo xtask …`.

mod frappe;
mod on_target;
mod process;
mod readme;
mod test;
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, tests and measures embedded-nfm.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs every check and test, and installs what they need
    Test,
    /// Measures rows per second on this machine
    Bench {
        /// Write the table into the README
        #[arg(long)]
        readme: bool,
    },
    /// Runs the demo
    Demo {
        /// Write the table into the README
        #[arg(long)]
        readme: bool,
    },
    /// Trains the paper's NFM and the FM on Frappe, converts both, and checks what quantization cost
    Frappe(frappe::Frappe),
    /// Runs the library on emulated microcontrollers: the same bits, instructions, stack, flash, and what they may cost
    OnTarget(on_target::OnTarget),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Test => test::run(),
        Command::Bench { readme } => {
            figures("bench", readme, &["bench", "--quiet", "--package", "nfm", "--bench", "score"])
        }
        Command::Demo { readme } => {
            figures("demo", readme, &["run", "--quiet", "--release", "--package", "nfm", "--", "demo"])
        }
        Command::Frappe(frappe) => frappe.run(),
        Command::OnTarget(on_target) => on_target.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Runs cargo, prints what it prints, and puts it into the README where that is asked for.
fn figures(name: &str, readme: bool, arguments: &[&str]) -> process::Result<()> {
    let text = process::output(process::own_cargo().args(arguments))?;
    print!("{text}");
    if readme { readme::update(name, &text) } else { Ok(()) }
}
