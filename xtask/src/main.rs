//! Chores of the workspace: `cargo xtask setup`, `cargo xtask test`.
//!
//! Each is a script under `scripts/` that also runs by itself, so that a machine without a
//! built workspace can start there. The checks of the workspace's own rules are in `tests/tidy.rs`.

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
}

impl Chore {
    fn script(&self) -> &'static str {
        match self {
            Self::Setup => "scripts/setup.sh",
            Self::Test => "scripts/test.sh",
        }
    }
}

fn main() -> ExitCode {
    let script = Chore::parse().script();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    match Command::new(root.join(script)).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            complain(&format!("{script}: {status}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            complain(&format!("cannot start {script}: {error}"));
            ExitCode::from(2)
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a program for people, and this is its only message"
)]
fn complain(message: &str) {
    eprintln!("xtask: {message}");
}
