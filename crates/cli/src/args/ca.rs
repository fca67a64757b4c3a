//! What can be typed after `comity ca`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{KeyAlgorithm, parse_duration, parse_text};

/// Be an authority: keys, certificates, withdrawals
///
/// An authority has a founding root, which belongs offline, and issuing keys, which the root
/// delegates and which stay here. `comity network create` makes one together with a network of nodes;
/// `comity ca init` makes one for certificates alone.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Ca {
    #[command(subcommand)]
    pub(crate) command: CaCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    Init(CaInit),
    List(CaList),
    Show(CaShow),
    Issued(CaIssued),
    Issue(CaIssue),
    Certify(CaCertify),
    Withdraw(CaWithdraw),
    Delegate(CaDelegate),
    RollIssuing(CaRollIssuing),
    RollRoot(CaRollRoot),
    RevokeKey(CaRevokeKey),
    Refresh(CaRefresh),
    Bundle(CaBundle),
    Inspect(CaInspect),
}

/// Where the root key is, and what opens it. Only commands that need it have these.
#[derive(Clone, Debug, Args)]
pub(crate) struct RootKey {
    /// File of the sealed root key [default: where it was made]
    #[arg(long = "root", value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// File that holds the passphrase of the root key
    #[arg(long = "root-passphrase-file", value_name = "FILE", env = "COMITY_ROOT_PASSPHRASE_FILE", hide_env_values = true, value_hint = clap::ValueHint::FilePath)]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// Make an authority
///
/// Makes the root key, sealed with a passphrase, and an issuing key. The root belongs on removable
/// storage: it is needed again only to change keys.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity ca init acme --root /media/usb/acme-root.key
  comity ca init acme --location https://acme.example/bundle   where others fetch its bundle")]
pub(crate) struct CaInit {
    /// Name of the authority: a label, not an identity
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) root: RootKey,
    /// Algorithm of its keys
    #[arg(long, value_enum, default_value_t = KeyAlgorithm::P256)]
    pub(crate) algorithm: KeyAlgorithm,
    /// Years that the root is valid
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) years: u32,
    /// URL where its bundle can be fetched; may be given several times
    #[arg(long = "location", value_name = "URL")]
    pub(crate) locations: Vec<String>,
}

/// List the authorities of this home
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  comity ca list\n  comity ca list --json")]
pub(crate) struct CaList {}

/// Show an authority: keys with their states, bundle, counts
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity ca show acme
  comity ca show acme --certificate > acme-root.pem   for `comity ca certify` of others, and -CAfile of OpenSSL")]
pub(crate) struct CaShow {
    /// The authority: its name, or its full network id
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Only its root certificate, PEM
    #[arg(long)]
    pub(crate) certificate: bool,
}

/// List what was issued, with the days that are left
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity ca issued acme                  what is valid, soonest end first
  comity ca issued acme --expiring 30d   exit code 1 when something ends within 30 days
  comity ca issued acme --all            with what has expired or was withdrawn")]
pub(crate) struct CaIssued {
    /// The authority
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Only what ends within this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) expiring: Option<Duration>,
    /// Also what has expired or was withdrawn
    #[arg(long)]
    pub(crate) all: bool,
}

/// What kind of certificate is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Template {
    /// Named as the authority itself: what an organisation's own servers present to partners
    Organisation,
    /// Signed by the authority directly, for peers that take no name constraints: Go, SPIFFE, gRPC
    Leaf,
    /// A server and a client certificate in the files that P2PFL reads
    P2pfl,
}

/// For which side of a connection a leaf is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PurposeArg {
    /// Servers
    Serve,
    /// Clients
    Dial,
    /// Both
    Both,
}

/// Issue a certificate to a program that is not Comity
///
/// The key is made here, unless --csr brings one. Nodes of Comity need none of this: they are
/// certified when they join (`comity network invite`), or with `comity ca certify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity ca issue acme --template leaf --dns db1.example --out db1      db1.crt and db1.key
  comity ca issue acme --template leaf --csr db1.csr --out db1          db1.crt, for the key of the request
  comity ca issue acme --template organisation --by-root --out server   for partners that certified our root
  comity ca issue acme --template p2pfl --ip 192.0.2.7 --out node7      ca.crt, server.crt, client.crt and keys")]
pub(crate) struct CaIssue {
    /// The authority
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// What kind of certificate
    #[arg(long, value_enum)]
    pub(crate) template: Template,
    /// File with a certificate request (PKCS#10, PEM or DER), instead of a key made here
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) csr: Option<PathBuf>,
    /// Common name of the subject
    #[arg(long, value_name = "CN")]
    pub(crate) subject: Option<String>,
    /// DNS name; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) dns: Vec<String>,
    /// IP address; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip: Vec<IpAddr>,
    /// URI, such as a SPIFFE id; may be given several times
    #[arg(long, value_name = "URI")]
    pub(crate) uri: Vec<String>,
    /// Role that the certificate attests; may be given several times
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    /// Which side of a connection it is for
    #[arg(long, value_enum, default_value_t = PurposeArg::Both)]
    pub(crate) purpose: PurposeArg,
    /// How long it is valid [default: 30d; 365d for `organisation`]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) valid: Option<Duration>,
    /// Sign with the root, as `organisation` always is
    #[arg(long)]
    pub(crate) by_root: bool,
    #[command(flatten)]
    pub(crate) root: RootKey,
    /// Where to: PATH.crt and PATH.key; for `p2pfl` a new folder
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    pub(crate) out: PathBuf,
}

/// Certify another's root or node: a cross-certificate
///
/// Whoever recognises this authority then recognises what that key issues under its own name, and
/// nothing else. The key must be known for certain: give its full id with --confirm, as its owner
/// told you, or compare it here on the terminal. A pin that a person confirmed will do.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity id --certificate > b.pem                        on their node; or their CA's root certificate
  comity ca certify acme b.pem --role partner --as b --confirm MFZWI3D-… --out b-by-acme.pem
  comity network import b-by-acme.pem                    on their node, if it is one of Comity")]
pub(crate) struct CaCertify {
    /// The authority
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// File with the self-signed root certificate of the other
    #[arg(value_name = "CERT", value_hint = clap::ValueHint::FilePath)]
    pub(crate) certificate: PathBuf,
    /// Role that it gets; may be given several times
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    /// What to call it in the list of members
    #[arg(long = "as", value_name = "LABEL")]
    pub(crate) label: Option<String>,
    /// How long it is valid [default: 365d, or as long as the issuing key]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) valid: Option<Duration>,
    /// Its full id, as its owner told you
    #[arg(long, value_name = "ID")]
    pub(crate) confirm: Option<String>,
    /// File for the cross-certificate and what belongs to it [default: standard output]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
}

/// Withdraw a certificate, or everything of one key or member
///
/// Goes into the authority's next bundle at once; connections that rest on it close within a second
/// of its arrival.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity ca withdraw acme 1f0c…          one certificate, by its serial number
  comity ca withdraw acme key:QK5T2HX-…  everything that was issued to this key, for ever
  comity ca withdraw acme db1 --dry-run  what would be cut off?")]
pub(crate) struct CaWithdraw {
    /// The authority
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Serial number, key:HASH, or the label it was issued under
    #[arg(value_name = "WHAT")]
    pub(crate) what: String,
    /// Why, for the ledger
    #[arg(long, value_name = "TEXT", value_parser = parse_text)]
    pub(crate) reason: Option<String>,
    /// Say what would be withdrawn, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Let another machine issue: certify its issuing key
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  openssl req -new -key build.key -subj /CN=ID -out build.csr    there; ID in hex: comity ca show acme --json
  comity ca delegate acme --csr build.csr --may-attest-role builder --out build-issuing.pem")]
pub(crate) struct CaDelegate {
    /// The authority
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// File with the other machine's certificate request
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) csr: PathBuf,
    #[command(flatten)]
    pub(crate) root: RootKey,
    /// CAs allowed below it: 1 for members, 0 for leaves alone
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    pub(crate) path_length: u8,
    /// Role that it may attest; may be given several times [default: any]
    #[arg(long = "may-attest-role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    /// DNS domain that its leaves may be for; may be given several times [default: any]
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns: Vec<String>,
    /// How long it is valid
    #[arg(long, value_name = "TIME", default_value = "366d", value_parser = parse_duration)]
    pub(crate) valid: Duration,
    /// File for the issuing certificate
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) out: PathBuf,
}

/// Replace the issuing key, with overlap
///
/// In two steps, so that nobody is cut off: the first time it announces a new key, which everybody hears
/// of with the next bundle; the second time, a day later, the new key is used and the old one retires.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity ca roll-issuing acme --dry-run      who hangs on the old key?
  comity ca roll-issuing acme --root /media/usb/acme-root.key
  comity ca roll-issuing acme --root /media/usb/acme-root.key   again, a day later
  comity ca roll-issuing acme --root /media/usb/acme-root.key --now   at once, if the old key is stolen")]
pub(crate) struct CaRollIssuing {
    /// The authority
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) root: RootKey,
    /// How long certificates of the old key go on to count
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = parse_duration)]
    pub(crate) overlap: Duration,
    /// Use the new key without announcing it first
    #[arg(long)]
    pub(crate) now: bool,
    /// Say what would happen, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Replace the root, with overlap
///
/// The old root certifies the new one, and both sign the new list of keys: whoever was away catches
/// up. The network id stays.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity ca roll-root acme --root /media/usb/acme-root.key --new-root /media/usb/acme-root-2.key")]
pub(crate) struct CaRollRoot {
    /// The authority
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) root: RootKey,
    /// File for the new root key, sealed with the same passphrase
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) new_root: PathBuf,
    /// How long the old root goes on to count
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = parse_duration)]
    pub(crate) overlap: Duration,
    /// Say what would happen, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Revoke a stolen issuing key or old root for ever
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity ca revoke-key acme key:QK5T2HX-… --dry-run
  comity ca revoke-key acme key:QK5T2HX-… --root /media/usb/acme-root.key")]
pub(crate) struct CaRevokeKey {
    /// The authority
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The key, as `comity ca show` prints it
    #[arg(value_name = "key:HASH")]
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) root: RootKey,
    /// Say what would be cut off, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Sign a fresh bundle now; `comity serve` does it daily
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity ca refresh acme
  comity ca refresh acme --location https://acme.example/bundle   it has moved; all others are forgotten")]
pub(crate) struct CaRefresh {
    /// The authority
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// URL where its bundle can be fetched from now on, instead of those before; may be given several
    /// times. `comity ca show` prints the present ones
    #[arg(long = "location", value_name = "URL")]
    pub(crate) locations: Vec<String>,
}

/// Print the authority's bundle, for a web server or a mail
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity ca bundle acme > acme.pem
  comity network import acme.pem    elsewhere")]
pub(crate) struct CaBundle {
    /// The authority
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// File for it [default: standard output]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
}

/// Explain a certificate, chain, request, bundle or statement in words
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity ca inspect server.crt
  openssl s_client -connect host:443 -showcerts </dev/null | comity ca inspect -")]
pub(crate) struct CaInspect {
    /// File, PEM or DER; - for standard input
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: PathBuf,
}
