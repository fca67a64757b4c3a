//! Chores of the workspace: `cargo xtask setup`, `cargo xtask test`, and judgements of our
//! certificate validator by cases and verifiers that are not ours.
//!
//! Setup and tests are scripts under `scripts/` that also run by themselves, so that a machine
//! without a built workspace can start there. The checks of the workspace's own rules are in
//! `tests/tidy.rs`.

mod judge;

use std::path::Path;
use std::process::{Command, ExitCode};

use clap::Parser;

/// Chores of the workspace.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Chore {
    /// Install what the build and the tests need (Debian 12).
    Setup,
    /// Run the whole test command: formatting, tests, examples, lints.
    Test,
    /// Judge a folder of certificate chains: exit 0 when every verdict is the expected one, 1 when
    /// one differs, 2 when the folder cannot be judged.
    #[command(subcommand)]
    Judge(judge::Corpus),
    /// Compare our verdicts with OpenSSL's on many mutated chains; needs libssl-dev and pkg-config.
    Differential {
        /// How many mutants.
        #[arg(long, default_value_t = 20_000)]
        mutants: u32,
        /// Which ones: the same seed makes the same mutations.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

fn main() -> ExitCode {
    match Chore::parse() {
        Chore::Setup => script("scripts/setup.sh"),
        Chore::Test => script("scripts/test.sh"),
        Chore::Judge(corpus) => judge::run(&corpus),
        Chore::Differential { mutants, seed } => differential(mutants, seed),
    }
}

fn script(script: &str) -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    run(script, Command::new(root.join(script)))
}

/// In a process of its own, so that nothing else of the workspace needs OpenSSL's headers.
fn differential(mutants: u32, seed: u64) -> ExitCode {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["run", "--quiet", "--locked", "--release"])
        .args(["--package", "comity-differential", "--"])
        .args([mutants.to_string(), seed.to_string()]);
    run("the differential", command)
}

fn run(name: &str, mut command: Command) -> ExitCode {
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            complain(&format!("{name}: {status}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            complain(&format!("cannot start {name}: {error}"));
            ExitCode::from(2)
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a program for people, and this is how it complains"
)]
fn complain(message: &str) {
    eprintln!("xtask: {message}");
}
