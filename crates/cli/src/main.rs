//! The `comity` command: parse, run, map the outcome to an exit code.

mod args;
mod commands;
mod context;
mod messages;
mod shell;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::context::Context;
use crate::shell::{Exit, Failure, Shell};

/// What a command comes to.
type Outcome = Result<Exit, Failure>;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return tell_usage(&error).into(),
    };
    let shell = Shell {
        json: cli.global.json,
        quiet: cli.global.quiet,
    };
    context::start_logging(&cli);
    let outcome =
        Context::new(shell, &cli.global).and_then(|context| commands::run(&context, cli.command));
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            shell.fail(&failure);
            failure.exit.into()
        }
    }
}

/// Help and version are answers, when they can be written; everything else could not be understood.
fn tell_usage(error: &clap::Error) -> Exit {
    match error.print() {
        _ if error.use_stderr() => Exit::Unable,
        Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => Exit::Unable,
        _ => Exit::Yes,
    }
}
