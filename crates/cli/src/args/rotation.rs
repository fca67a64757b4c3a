//! What can be typed after `comity trust import|follow|rotate`: known keys that change.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::parse_duration;

/// Take in statements that a peer made about its keys
///
/// A succession moves labels and grants to the new key; where a person confirmed the old one, it needs
/// the new id: --confirm, or an answer on the terminal. A revocation ends a key for ever.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity trust import succession.pem       what `comity identity export` of a peer made
  comity trust import revocation.pem       what its `comity identity revoke` made
  comity trust import - < mail.txt")]
pub(crate) struct TrustImport {
    /// File with the statements, perhaps among other text; - for standard input
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// The full id of the new key, as its operator told you; for a key that a person confirmed
    #[arg(long, value_name = "ID")]
    pub(crate) confirm: Vec<String>,
    /// Say what would happen, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Accept the new key of a peer whose old key signed for it
///
/// `connect` refuses such a peer as `changed` when a person confirmed its old key. Asks the peer for
/// the statements, without showing it anything of us, or reads them from a file.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity trust follow db1                                 shows the keys and asks
  comity trust follow db1 --confirm QK5T2HX-7LMWPAE-…     the new id, as its operator told you
  comity trust follow laptop --file succession.pem        one that cannot be dialled")]
pub(crate) struct TrustFollow {
    /// The label or HOST:PORT of the peer
    #[arg(value_name = "PEER")]
    pub(crate) peer: String,
    /// The full id of the new key
    #[arg(long, value_name = "ID")]
    pub(crate) confirm: Option<String>,
    /// File with the statements, instead of asking the peer
    #[arg(long, value_name = "FILE", conflicts_with = "addr", value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// Address to ask, instead of the remembered ones
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) addr: Option<String>,
}

/// Replace a listed CA by another, with overlap
///
/// Three steps, days or weeks apart: list the new CA beside the old one (--ca), note that it issues
/// (--activate), and let the old one end (--retire). Both count until the end of the overlap, so nobody
/// is cut off who renews in time.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("step").required(true))]
#[command(after_help = "Examples:
  comity trust rotate '*.corp.example:*' --ca corp-2027.pem      the new CA, beside the old one
  comity trust rotate '*.corp.example:*' --activate NEW-HASH     it issues now
  comity trust rotate '*.corp.example:*' --retire OLD-HASH --dry-run   who would be cut off?
  comity trust rotate '*.corp.example:*' --retire OLD-HASH --overlap 30d
`comity trust show NAME` tells the hashes.")]
pub(crate) struct TrustRotate {
    /// The patterns of the CA, as `comity trust list` shows them
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// List the CA in this PEM file as the next one, with the scope of the present one
    #[arg(long, value_name = "FILE", group = "step", value_hint = clap::ValueHint::FilePath)]
    pub(crate) ca: Option<PathBuf>,
    /// The listed CA with this fingerprint or key begins to issue
    #[arg(long, value_name = "HASH", group = "step")]
    pub(crate) activate: Option<String>,
    /// The listed CA with this fingerprint or key ends after the overlap
    #[arg(long, value_name = "HASH", group = "step")]
    pub(crate) retire: Option<String>,
    /// How long a retired CA still counts
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = parse_duration)]
    pub(crate) overlap: Duration,
    /// Say who is affected, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
