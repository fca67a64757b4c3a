//! What can be typed after `comity network`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::ca::RootKey;
use super::{Join, parse_duration};

/// Networks: found one, let machines in, throw them out
///
/// A network is an authority that certifies its members. Members recognise one another without
/// having met; `--allow NAME=NETWORK/ROLE` of `comity serve` opens a service to them.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Network {
    #[command(subcommand)]
    pub(crate) command: NetworkCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    Create(NetworkCreate),
    List(NetworkList),
    Show(NetworkShow),
    Invite(NetworkInvite),
    /// Join a network with an invitation; the same as `comity join`
    Join(Join),
    Members(NetworkMembers),
    Remove(NetworkRemove),
    Leave(NetworkLeave),
    Refresh(NetworkRefresh),
    Import(NetworkImport),
    Export(NetworkExport),
}

/// Found a network
///
/// Makes its authority and certifies this node as its first member; makes this node's identity too if
/// there is none. The root key is sealed with a passphrase and belongs offline: it is needed again
/// only to change keys.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity network create acme
  comity network create acme --root /media/usb/acme-root.key --addr hub.example:7117")]
pub(crate) struct NetworkCreate {
    /// Name of the network: a label; two networks of one name stay apart by id
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) root: RootKey,
    /// Address where members reach this node's `serve` [default: this machine's addresses, port 7117]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) addr: Vec<String>,
    /// Role of this node; may be given several times [default: admin]
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
}

/// List the networks known here
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  comity network list\n  comity network list --json")]
pub(crate) struct NetworkList {}

/// Show a network: id, keys, bundle, this node's membership
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  comity network show acme")]
pub(crate) struct NetworkShow {
    /// Its name here, or its full id
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// Let one machine into the network, with one pasted text
///
/// Only where the network's issuing key is. This node's `comity serve` must be reachable when the
/// invitation is used.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity network invite acme --role web
  comity network invite acme --role web --for db --as web1    also: may use our service db")]
pub(crate) struct NetworkInvite {
    /// The network
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Role that the joiner gets in the network; may be given several times
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    /// Service of this node that the joiner may use; may be given several times
    #[arg(long = "for", value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// What to call the joiner here
    #[arg(long = "as", value_name = "LABEL")]
    pub(crate) label: Option<String>,
    /// Address where our `serve` is reached [default: as the network was created with]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) addr: Vec<String>,
    /// How long it may be used: 30m, 24h, 7d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_duration)]
    pub(crate) expires: Duration,
    /// Also show it as a QR code
    #[arg(long)]
    pub(crate) qr: bool,
}

/// List the members that were certified here
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  comity network members acme")]
pub(crate) struct NetworkMembers {
    /// The network
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// Remove a member; its connections close everywhere
///
/// Withdraws all its certificates. Whoever is connected to this node's `serve` hears of it at once, the
/// others when they next fetch the bundle.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity network remove acme web1 --dry-run
  comity network remove acme web1")]
pub(crate) struct NetworkRemove {
    /// The network
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The member: its label in `comity network members`, or its full id
    #[arg(value_name = "MEMBER")]
    pub(crate) member: String,
    /// Say what would be cut off, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Leave a network: forget it, and our membership
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  comity network leave acme")]
pub(crate) struct NetworkLeave {
    /// Its name here, or its full id
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// Fetch the newest bundle, and renew our membership, now
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  comity network refresh\n  comity network refresh acme")]
pub(crate) struct NetworkRefresh {
    /// Its name here, or its full id [default: every network]
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// Take in what another authority made: our cross-certificate, or its bundle
///
/// A bundle alone is followed: what that authority withdraws no longer counts here. Its members are
/// recognised only with --recognise.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity network import us-by-b.pem              what `comity ca certify` of b made for us
  comity network import b.pem --confirm MFZWI3D-…    b's bundle, by the id that b's people told us")]
pub(crate) struct NetworkImport {
    /// File; - for standard input
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// What to call the network here [default: its own name]
    #[arg(long = "as", value_name = "LABEL")]
    pub(crate) label: Option<String>,
    /// Recognise whom the authority certifies
    #[arg(long)]
    pub(crate) recognise: bool,
    /// Its full network id, as its people told you; needed for one that is new here
    #[arg(long, value_name = "ID")]
    pub(crate) confirm: Option<String>,
}

/// Print a network's bundle, for `comity network import` elsewhere
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  comity network export acme > acme.pem")]
pub(crate) struct NetworkExport {
    /// Its name here, or its full id
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// File for it [default: standard output]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
}
