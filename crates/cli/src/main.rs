//! The `comity` command: parse, run, map the outcome to an exit code.

mod args;
mod commands;
mod confirmation;
mod context;
mod messages;
mod redact;
mod remaining;
mod root_key;
mod shell;

use std::io::Write;
use std::process::ExitCode;

use crate::args::network::NetworkCommand;
use crate::args::{Cli, Command};
use crate::context::Context;
use crate::redact::{looks_like_invitation, without_invitations};
use crate::shell::{Exit, Failure, Shell};

/// What a command comes to.
type Outcome = Result<Exit, Failure>;

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => return tell_usage(&error).into(),
    };
    let shell = Shell {
        json: cli.global.json,
        quiet: cli.global.quiet,
    };
    context::start_logging(shell, &cli);
    let outcome = refuse_invitations(&cli.command)
        .and_then(|()| Context::new(shell, &cli.global))
        .and_then(|context| commands::run(&context, cli.command));
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
    if error.use_stderr() {
        let text = error.render().ansi().to_string();
        // Nobody is left to tell that standard error is closed.
        drop(write!(anstream::stderr(), "{}", without_invitations(&text)));
        return Exit::Unable;
    }
    match error.print() {
        Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => Exit::Unable,
        _ => Exit::Yes,
    }
}

/// Only few commands take an invitation. Elsewhere it would be quoted, or written down.
fn refuse_invitations(command: &Command) -> Result<(), Failure> {
    let takes_one = match command {
        Command::Join(_) | Command::Connect(_) => true,
        Command::Network(network) => matches!(network.command, NetworkCommand::Join(_)),
        _ => false,
    };
    let given = std::env::args_os().any(|word| looks_like_invitation(&word.to_string_lossy()));
    match given && !takes_one {
        true => Err(Failure::unable("this command takes no invitation")
            .hint("redeem it first: `comity join` asks for it")),
        false => Ok(()),
    }
}
