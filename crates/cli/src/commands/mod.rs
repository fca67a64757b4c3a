//! The commands, one file for each subject.

mod ca;
mod check;
mod config;
mod connect;
mod identity;
mod identity_roll;
mod inspect;
mod invite;
mod memory;
mod network;
mod queue;
mod rotate;
mod serve;
mod socket_file;
pub(crate) mod statements;
mod verify;

use std::future::Future;

use crate::Outcome;
use crate::args::{Command, TrustCommand};
use crate::context::Context;
use crate::shell::Failure;

pub(crate) fn run(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Init(args) => identity::init(context, &args),
        Command::Id(args) => identity::id(context, &args),
        Command::Serve(args) => serve::serve(context, &args),
        Command::Connect(args) => connect::connect(context, &args),
        Command::Identity(args) => identity_roll::identity(context, &args),
        Command::Invite(args) => invite::invite(context, &args),
        Command::Join(args) => invite::join(context, &args),
        Command::Network(args) => network::network(context, args),
        Command::Verify(args) => verify::verify(context, &args),
        Command::Trust(args) => trust(context, args.command),
        Command::Ca(args) => ca::run(context, args),
        Command::Config(_) => config::show(context),
        Command::Completions(args) => config::completions(context, &args),
        Command::Man(args) => config::man(context, &args),
    }
}

fn trust(context: &Context, command: TrustCommand) -> Outcome {
    match command {
        TrustCommand::List(_) => memory::list(context),
        TrustCommand::Find(args) => memory::find(context, &args),
        TrustCommand::Show(args) => memory::show(context, &args),
        TrustCommand::Add(args) => memory::add(context, &args),
        TrustCommand::Remove(args) => memory::remove(context, &args),
        TrustCommand::Replace(args) => memory::replace(context, &args),
        TrustCommand::Revoke(args) => memory::revoke(context, &args),
        TrustCommand::Import(args) => statements::import(context, &args),
        TrustCommand::Follow(args) => statements::follow_peer(context, &args),
        TrustCommand::Rotate(args) => rotate::rotate(context, &args),
        TrustCommand::Verify(args) => memory::verify(context, &args),
        TrustCommand::Explain(args) => inspect::explain(context, &args),
        TrustCommand::Scan(args) => inspect::scan(context, &args),
        TrustCommand::Check(args) => check::check(context, &args),
        TrustCommand::Pending(_) => queue::pending(context),
        TrustCommand::Approve(args) => queue::approve(context, &args),
        TrustCommand::Deny(args) => queue::deny(context, &args),
    }
}

/// Runs a command's asynchronous part.
fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::unable(format!("cannot start: {error}")))?;
    let output = runtime.block_on(future);
    // Reading standard input blocks a thread that nothing can interrupt.
    runtime.shutdown_background();
    Ok(output)
}
