//! What can be typed after `comity identity`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{parse_duration, parse_word};

/// Replace this node's key, or declare it stolen
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Identity {
    #[command(subcommand)]
    pub(crate) command: IdentityCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IdentityCommand {
    Roll(IdentityRoll),
    Export(IdentityExport),
    Revoke(IdentityRevoke),
}

/// Make the next key this node's identity
///
/// The key that `comity init` put aside becomes the identity, and another one is put aside. Peers learn of
/// it from a statement that both keys sign, also those who are away for up to sixteen changes. The id
/// changes; labels and grants follow.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity identity roll --dry-run                       who is affected?
  comity identity roll --next-key /media/usb/next.key  if it was taken offline
  comity identity roll --overlap 1h --reason compromise   if somebody else may have the old key")]
pub(crate) struct IdentityRoll {
    /// File of the next key [default: where `comity init` put it]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) next_key: Option<PathBuf>,
    /// File that holds the passphrase of the next key, where it is another than that of the identity
    #[arg(long, value_name = "FILE", env = "COMITY_NEXT_PASSPHRASE_FILE", hide_env_values = true, value_hint = clap::ValueHint::FilePath)]
    pub(crate) next_passphrase_file: Option<PathBuf>,
    /// How long peers go on to accept the old key, at most 90d
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = parse_duration)]
    pub(crate) overlap: Duration,
    /// One word that peers are shown: routine, compromise, ...
    #[arg(long, value_name = "WORD", default_value = "routine", value_parser = parse_word)]
    pub(crate) reason: String,
    /// Say what would happen, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Print the statements by which this node's keys followed one another
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity identity export > succession.pem
  comity trust import succession.pem     elsewhere")]
pub(crate) struct IdentityExport {
    /// File for them [default: standard output]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
}

/// Make a statement that this node's key is stolen
///
/// Whoever imports it refuses the key for ever. It changes nothing here: keep it in a safe place for
/// the day on which the key is lost, or give it to your peers.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity identity revoke > revocation.pem
  comity identity revoke --by-next-key /media/usb/next.key > revocation.pem   without the key itself
  comity trust import revocation.pem     elsewhere")]
pub(crate) struct IdentityRevoke {
    /// Sign with the next key in this file instead of the identity key
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) by_next_key: Option<PathBuf>,
    /// File that holds the passphrase of that next key
    #[arg(long, value_name = "FILE", env = "COMITY_NEXT_PASSPHRASE_FILE", hide_env_values = true, requires = "by_next_key", value_hint = clap::ValueHint::FilePath)]
    pub(crate) next_passphrase_file: Option<PathBuf>,
    /// One word that peers are shown
    #[arg(long, value_name = "WORD", default_value = "compromise", value_parser = parse_word)]
    pub(crate) reason: String,
    /// File for it [default: standard output]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
}
