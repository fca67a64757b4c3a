//! What can be typed. Checked here for form only; the commands touch the world.

pub(crate) mod ca;
pub(crate) mod identity;
pub(crate) mod network;
pub(crate) mod rotation;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{FalseyValueParser, Resettable};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use comity_identity::Algorithm;
use comity_store::MAX_WORD;
use comity_trust::Mode;

/// Mutual recognition for peers.
///
/// Machines that share no authority recognise each other by key and talk over mutual TLS. Start
/// with `comity init`; then `comity serve` on one machine and `comity connect` on another.
#[derive(Debug, Parser)]
#[command(
    name = "comity",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
#[command(
    after_help = "Exit codes: 0 done or yes; 1 the answer is no (refused, unknown, changed); \
    2 could not answer.\nEverything about a command, with examples: `comity COMMAND --help`."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Reads the command line and the environment. An empty variable counts as unset, as everywhere
    /// with us.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        let matches = without_empty_variables(Self::command()).try_get_matches()?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut Self::command()))
    }
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| {
            let empty = |name| std::env::var_os(name).is_some_and(|value| value.is_empty());
            match arg.get_env().is_some_and(empty) {
                true => arg.env(Resettable::Reset),
                false => arg,
            }
        })
        .mut_subcommands(without_empty_variables)
}

/// Flags of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Folder of the identity and of what is remembered [default: XDG state directory]
    #[arg(long, global = true, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) home: Option<PathBuf>,
    /// File that holds the passphrase of a sealed identity key
    #[arg(long, global = true, value_name = "FILE", env = "COMITY_PASSPHRASE_FILE", hide_env_values = true, value_hint = clap::ValueHint::FilePath)]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Answer as JSON on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say less (-q) on standard error: only errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Say more on standard error; -vv also what the libraries do
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Log as JSON lines
    #[arg(long, global = true, env = "COMITY_LOG_JSON", hide = true, value_parser = FalseyValueParser::new())]
    pub(crate) log_json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(Init),
    Id(Id),
    Identity(identity::Identity),
    Serve(Serve),
    Connect(Connect),
    Invite(Invite),
    Join(Join),
    Network(network::Network),
    Verify(Verify),
    Trust(Trust),
    Ca(ca::Ca),
    Config(Config),
    Completions(Completions),
    Man(Man),
}

/// Make this machine's identity
///
/// Makes an identity key, its root certificate, and the next identity key, to which the
/// root commits: a thief of today's key alone cannot pose as your successor. Does nothing, and
/// says so, when there is an identity already.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity init                      make an identity in the default home
  comity init --seal               ask for a passphrase and seal both keys with it
  comity init --home ./node-a      make one elsewhere")]
pub(crate) struct Init {
    /// Algorithm of the identity key
    #[arg(long, value_enum, default_value_t = KeyAlgorithm::P256)]
    pub(crate) algorithm: KeyAlgorithm,
    /// Seal the keys with a passphrase (asked for, or from --passphrase-file)
    #[arg(long)]
    pub(crate) seal: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum KeyAlgorithm {
    /// ECDSA on P-256: every TLS stack, TPM and token takes it
    P256,
    /// Ed25519
    Ed25519,
}

impl From<KeyAlgorithm> for Algorithm {
    fn from(algorithm: KeyAlgorithm) -> Self {
        match algorithm {
            KeyAlgorithm::P256 => Self::EcdsaP256,
            KeyAlgorithm::Ed25519 => Self::Ed25519,
        }
    }
}

/// Show this machine's id, or another spelling of a given one
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity id                        eight groups of seven characters
  comity id --words                twelve words, to compare on the phone
  comity id --qr                   for a camera
  comity id --hex                  SHA-256 of the public key, as other tools print it
  comity id --certificate > a.pem  our root certificate, for whoever certifies us with `comity ca certify`")]
pub(crate) struct Id {
    /// Twelve words, for comparison
    #[arg(long, group = "form")]
    pub(crate) words: bool,
    /// A QR code in the terminal
    #[arg(long, group = "form")]
    pub(crate) qr: bool,
    /// 64 hexadecimal digits
    #[arg(long, group = "form")]
    pub(crate) hex: bool,
    /// This machine's root certificate, PEM
    #[arg(long, group = "form", conflicts_with = "id")]
    pub(crate) certificate: bool,
    /// Another id to respell, instead of this machine's
    #[arg(value_name = "ID")]
    pub(crate) id: Option<String>,
}

/// Put local services behind mutual TLS
///
/// Listens on one port and hands each authorised peer's connection to the service it asked for. A
/// TARGET is a port on 127.0.0.1, HOST:PORT, or unix:PATH. A TARGET without NAME is the default
/// service, which programs that are not Comity also reach (openssl, curl, stunnel with a client
/// certificate).
///
/// Who may use a service: by default peers approved or invited for it (`comity invite --for`,
/// `comity trust approve --for`). --allow adds WHO: a label, a full id, or NETWORK[/ROLE].
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity serve 5432                         PostgreSQL on 127.0.0.1:5432, default service
  comity serve db=5432 web=unix:/run/w.sock two services on one port
  comity serve 8080 --allow default=laptop  the peer labelled `laptop` may use it
  comity serve 8080 --proxy-protocol v2     tell the backend who connects")]
pub(crate) struct Serve {
    /// Services: [NAME=]PORT, [NAME=]HOST:PORT or [NAME=]unix:PATH
    #[arg(value_name = "[NAME=]TARGET")]
    pub(crate) targets: Vec<String>,
    /// Address to listen on; port 0 picks a free one [default: [::]:7117]
    #[arg(long, value_name = "ADDR", env = "COMITY_LISTEN")]
    pub(crate) listen: Option<String>,
    /// Also admit WHO to the service NAME
    #[arg(long, value_name = "NAME=WHO")]
    pub(crate) allow: Vec<String>,
    /// What happens with peers we do not know: enroll, invite, pin, tofu, ca, ... [default: enroll]
    #[arg(long, value_name = "MODE", env = "COMITY_ACCEPT")]
    pub(crate) accept: Option<Mode>,
    /// Begin each connection to the backend with a PROXY header
    #[arg(long, value_name = "VERSION", value_enum)]
    pub(crate) proxy_protocol: Option<ProxyVersion>,
    /// DNS name or IP address for our certificate, for foreign clients that check one
    #[arg(long = "name", value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Also allow TLS 1.2, for a foreign client that has nothing better
    #[arg(long)]
    pub(crate) tls12: bool,
    /// Required by --accept insecure and record: says that you mean it
    #[arg(long)]
    pub(crate) i_mean_it: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProxyVersion {
    V2,
}

/// Reach a service of a peer
///
/// Connects standard input and output to the service (as an ssh ProxyCommand does), or with
/// --listen gives it a local port or socket. PEER is a label, a full id, HOST:PORT, or an
/// invitation. At first contact with an unknown peer it asks on the terminal, and refuses where
/// there is none.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity connect db1                           the default service of the peer labelled db1
  comity connect db1/metrics --listen 9100     a local port for its service `metrics`
  comity connect db1 --listen unix:/run/user/1000/db1   a socket that only you may use
  comity connect db.example:7117 --as db1      first contact by address, remembered as db1
  comity connect web.example:7117/site --network acme   whoever answers must be a member of acme
  ssh -o ProxyCommand='comity connect %h/ssh' host
  comity connect foreign.example:443 --trust ca --ca corp.pem")]
pub(crate) struct Connect {
    /// Whom, and which service: PEER[/SERVICE]
    #[arg(value_name = "PEER[/SERVICE]")]
    pub(crate) peer: String,
    /// Listen locally instead of using standard input and output: unix:PATH, PORT or ADDR:PORT
    ///
    /// Whoever connects there uses the peer's service in our name. A unix:PATH is open to this user
    /// alone, which is better on a machine with others; a port is open to all of them.
    #[arg(long, value_name = "LOCAL")]
    pub(crate) listen: Option<String>,
    #[command(flatten)]
    pub(crate) dial: DialOptions,
    /// Accept only a member of this network: its name here, or its full id
    ///
    /// At a HOST:PORT that is not pinned, any member of any network that is recognised here may
    /// answer otherwise; who it was is said on standard error.
    #[arg(long, value_name = "NETWORK")]
    pub(crate) network: Option<String>,
    /// Offer this ALPN protocol instead of Comity's own; `none` offers none
    #[arg(long, value_name = "PROTOCOL")]
    pub(crate) alpn: Option<String>,
    /// Also allow TLS 1.2, for a foreign server that has nothing better
    #[arg(long)]
    pub(crate) tls12: bool,
}

/// How a peer is dialled.
#[derive(Clone, Debug, Args)]
pub(crate) struct DialOptions {
    /// What to accept: ca-or-tofu, pin, tofu, ca, ca-and-pin, ... [default: ca-or-tofu]
    #[arg(long, value_name = "MODE", env = "COMITY_TRUST")]
    pub(crate) trust: Option<Mode>,
    /// PEM file of CAs to use instead of the system's
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) ca: Option<PathBuf>,
    /// Remember the peer under this label, or look it up under it
    #[arg(long = "as", value_name = "LABEL")]
    pub(crate) label: Option<String>,
    /// Address to dial, instead of the remembered ones
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) addr: Option<String>,
    /// Required by --trust insecure and record: says that you mean it
    #[arg(long)]
    pub(crate) i_mean_it: bool,
}

/// Let one machine in, with one pasted text
///
/// Prints an invitation: our addresses, our id, and a secret that works once. Who joins with it
/// recognises us by id, and is recognised by us from then on. We keep only the public half.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity invite --for db                        whoever joins may use the service `db`
  comity invite --for db --as laptop            and is called `laptop` here
  comity invite --addr host.example:7117        where we can be reached
  comity invite --list                          what is open")]
pub(crate) struct Invite {
    /// Service the joiner may use; may be given several times; `default` is the unnamed one
    #[arg(long = "for", value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Role the joiner gets; may be given several times
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    /// What to call the joiner [default: the name it suggests, with the beginning of its id]
    #[arg(long = "as", value_name = "LABEL")]
    pub(crate) label: Option<String>,
    /// Address where our `serve` is reached [default: this machine's addresses, port 7117]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) addr: Vec<String>,
    /// How long it may be used: 30m, 24h, 7d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_duration)]
    pub(crate) expires: Duration,
    /// Also show it as a QR code
    #[arg(long)]
    pub(crate) qr: bool,
    /// List open invitations instead
    #[arg(long, conflicts_with_all = ["services", "roles", "label", "addr", "qr", "withdraw"])]
    pub(crate) list: bool,
    /// Withdraw an open invitation by its id instead
    #[arg(long, value_name = "ID", conflicts_with_all = ["services", "roles", "label", "addr", "qr"])]
    pub(crate) withdraw: Option<String>,
}

/// Redeem an invitation
///
/// Asks for it, or reads it from standard input: on the command line it would stay in the shell's
/// history, and other users of this machine could see it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity join                        paste the invitation; the inviter gets the label it suggests
  comity join --as db1               … the label db1
  comity join - < invitation.txt     from a file")]
pub(crate) struct Join {
    /// The invitation; - or nothing for standard input
    #[arg(value_name = "INVITATION")]
    pub(crate) invitation: Option<String>,
    /// What to call the inviter
    #[arg(long = "as", value_name = "LABEL")]
    pub(crate) label: Option<String>,
    /// What we suggest to be called [default: the machine's name]
    #[arg(long, value_name = "LABEL")]
    pub(crate) name: Option<String>,
    /// Address to dial instead of those in the invitation
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) addr: Option<String>,
}

/// Compare four words with the person at the other end
///
/// Both run this command while they talk on the phone: one waits (--listen), the other
/// dials. Both screens show four words. When they are the same, nobody sits in between.
/// Without a terminal the words go to standard error, and a line `yes` or `no` is read.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity verify --live laptop --listen [::]:7118    wait for the peer
  comity verify --live db1 --addr db1.example:7118  dial it")]
pub(crate) struct Verify {
    /// Compare now, with both people present (the only way so far; for pasted ids see
    /// `comity trust verify`)
    #[arg(long, required = true)]
    pub(crate) live: bool,
    /// With whom: a label, a full id, or HOST:PORT
    #[arg(value_name = "PEER")]
    pub(crate) peer: String,
    /// Wait for the peer at this address instead of dialling
    #[arg(long, value_name = "ADDR", conflicts_with = "addr")]
    pub(crate) listen: Option<String>,
    /// Address to dial, instead of the remembered ones
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) addr: Option<String>,
}

/// Who is known, and why
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Trust {
    #[command(subcommand)]
    pub(crate) command: TrustCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TrustCommand {
    List(TrustList),
    Find(TrustFind),
    Show(TrustShow),
    Add(TrustAdd),
    Remove(TrustRemove),
    Replace(TrustReplace),
    Revoke(TrustRevoke),
    Import(rotation::TrustImport),
    Follow(rotation::TrustFollow),
    Rotate(rotation::TrustRotate),
    Verify(TrustVerify),
    Explain(TrustExplain),
    Pending(TrustPending),
    Approve(TrustApprove),
    Deny(TrustDeny),
    Scan(TrustScan),
    Check(TrustCheck),
}

/// List what is known, unconfirmed entries first
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  comity trust list\n  comity trust list --json")]
pub(crate) struct TrustList {}

/// Find the entries for a name or id; exit code 1 when there is none
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  comity trust find db1\n  comity trust find db.example:7117\n  comity trust find MFZWI3D-…"
)]
pub(crate) struct TrustFind {
    /// A label, HOST:PORT, or an id
    pub(crate) what: String,
}

/// Show one peer: its keys, words, grants, and how it came to be known
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  comity trust show db1")]
pub(crate) struct TrustShow {
    /// A label, HOST:PORT, or an id
    pub(crate) peer: String,
}

/// Pin a peer by its id, or trust a CA for some names
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity trust add db1 MFZWI3D-… --addr db1.example:7117
  comity trust add laptop MFZWI3D-… --for db --role admin
  comity trust add web.example:443 key:QK5T2HX-…       a foreign peer's key
  comity trust add '*.corp.example:*' --ca corp.pem    a CA, for these names only")]
pub(crate) struct TrustAdd {
    /// A label, HOST:PORT, or (with --ca) patterns; several separated by commas
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The full id; `key:` or `cert:` in front of a foreign peer's key or certificate hash
    #[arg(value_name = "ID", required_unless_present = "ca")]
    pub(crate) id: Option<String>,
    /// Trust the CAs in this PEM file for the names, instead of pinning an id
    #[arg(long, value_name = "FILE", conflicts_with = "id", value_hint = clap::ValueHint::FilePath)]
    pub(crate) ca: Option<PathBuf>,
    /// For which direction it counts
    #[arg(long, value_enum, default_value_t = SideArg::Both)]
    pub(crate) side: SideArg,
    /// Where the peer is reached; may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) addr: Vec<String>,
    #[command(flatten)]
    pub(crate) grants: GrantOptions,
    /// Add a second key to a name that has one
    #[arg(long)]
    pub(crate) also: bool,
}

/// What a peer may do here.
#[derive(Clone, Debug, Args)]
pub(crate) struct GrantOptions {
    /// Service the peer may use; may be given several times; `*` for all
    #[arg(long = "for", value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Role of the peer (for a CA: role it may attest)
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    /// Network of the peer (for a CA: network it may attest)
    #[arg(long = "network", value_name = "NETWORK")]
    pub(crate) networks: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SideArg {
    /// When we dial
    Dial,
    /// When we accept
    Accept,
    /// Both
    Both,
}

/// Forget a peer; its open connections close
///
/// A name stands for the keys that are known by exactly this name. A CA stays, whoever it vouches
/// for, until it is named by its own pattern or id. Says which lines were removed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity trust remove db1
  comity trust remove MFZWI3D-…
  comity trust remove '*.corp.example:*'    the CA that was added for exactly this pattern")]
pub(crate) struct TrustRemove {
    /// A label, HOST:PORT, an id, or a whole pattern
    pub(crate) peer: String,
}

/// Put a new key in the place of a known one, keeping names and grants
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  comity trust replace db1 QK5T2HX-7LMWPAE-…")]
pub(crate) struct TrustReplace {
    /// The label or HOST:PORT whose key changed
    pub(crate) peer: String,
    /// The new key's full id
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// Refuse a key for ever, whoever vouches for it; its open connections close
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  comity trust revoke db1\n  comity trust revoke key:QK5T2HX-…")]
pub(crate) struct TrustRevoke {
    /// A label, HOST:PORT, an id, or a CA's whole pattern
    pub(crate) peer: String,
}

/// Compare a known peer's key with what its operator told you
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity trust verify db1 MFZWI3D-BONSGYC-…        the id, pasted
  comity trust verify db1 'ability able about …'   twelve words, dictated
Exit code 0 and the entry is marked as confirmed when they are the same; 1 when not.")]
pub(crate) struct TrustVerify {
    /// A label, HOST:PORT, or an id
    pub(crate) peer: String,
    /// Id, hexadecimal digits, or twelve words
    #[arg(required = true, num_args = 1..=12, value_name = "TEXT")]
    pub(crate) text: Vec<String>,
}

/// Say what would happen with a peer, rule by rule
///
/// Without --cert the peer is dialled for its certificate, and learns nothing of us: the handshake
/// ends before our own certificate would leave. Nothing is remembered.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity trust explain db1                          would we recognise db1 when dialling?
  comity trust explain db.example:7117 --cert db.pem
  comity trust explain laptop --accept enroll --cert laptop.pem
                                                    … and laptop when it dials us?
  comity trust explain laptop --accept enroll --cert laptop.pem --service db")]
pub(crate) struct TrustExplain {
    /// A label, HOST:PORT, or an id
    pub(crate) peer: String,
    /// PEM file with the chain the peer would present
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) cert: Option<PathBuf>,
    /// Explain dialling in this mode [default: as `connect`]
    #[arg(long, value_name = "MODE", conflicts_with = "accept")]
    pub(crate) trust: Option<Mode>,
    /// Explain accepting, in this mode
    #[arg(long, value_name = "MODE")]
    pub(crate) accept: Option<Mode>,
    /// Address to ask for the certificate, instead of the remembered ones
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "cert")]
    pub(crate) addr: Option<String>,
    /// Also say whether it may use this service of ours
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Option<String>,
    /// PEM file of CAs to use instead of the system's
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) ca: Option<PathBuf>,
}

/// List the peers that wait for approval
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  comity trust pending\n  comity trust approve MFZWI3D-… --as laptop --for db"
)]
pub(crate) struct TrustPending {}

/// Approve a waiting peer
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  comity trust approve MFZWI3D-… --as laptop --for db\n\nTakes the full id: a short one could be somebody else's."
)]
pub(crate) struct TrustApprove {
    /// The full id, as `comity trust pending` shows it
    pub(crate) id: String,
    /// What to call it [default: the name it suggests, with the beginning of its id]
    #[arg(long = "as", value_name = "LABEL")]
    pub(crate) label: Option<String>,
    #[command(flatten)]
    pub(crate) grants: GrantOptions,
}

/// Turn a waiting peer away for a week
///
/// It leaves the list, and is not put there again for seven days: until then it is told only that
/// it is not known. `comity trust add` lets it in all the same, `comity trust revoke` keeps it out
/// for ever.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  comity trust deny MFZWI3D-…\n  comity trust revoke MFZWI3D-…   for ever, instead"
)]
pub(crate) struct TrustDeny {
    /// The full id
    pub(crate) id: String,
}

/// Show the key that answers at an address; verifies nothing
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  comity trust scan db.example:7117\n\nThe answer is what somebody on the way may have put there: compare it with the peer's\noperator before you add it."
)]
pub(crate) struct TrustScan {
    /// HOST:PORT
    #[arg(value_name = "HOST:PORT")]
    pub(crate) addr: String,
    /// Also allow TLS 1.2
    #[arg(long)]
    pub(crate) tls12: bool,
}

/// Check files, permissions and dates; exit code 1 when something wants attention
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  comity trust check\n  comity trust check --forget-missing   start anew after known_peers was lost"
)]
pub(crate) struct TrustCheck {
    /// Accept that known_peers is gone, and start with an empty one
    #[arg(long)]
    pub(crate) forget_missing: bool,
}

/// Show settings
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Config {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show every setting and where it came from
    #[command(after_help = "Examples:\n  comity config show\n  comity config show --json")]
    Show,
}

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comity completions bash > /etc/bash_completion.d/comity
  comity completions zsh > ~/.zfunc/_comity
  comity completions fish > ~/.config/fish/completions/comity.fish")]
pub(crate) struct Completions {
    /// Which shell
    pub(crate) shell: clap_complete::Shell,
}

/// Write the manual pages into a folder
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  comity man /usr/local/share/man/man1")]
pub(crate) struct Man {
    /// An existing folder; without one the main page goes to standard output
    #[arg(value_hint = clap::ValueHint::DirPath)]
    pub(crate) folder: Option<PathBuf>,
}

/// A reason as it stands in a statement that peers read.
fn parse_word(text: &str) -> Result<String, String> {
    use comity_record::limits::MAX_REASON;
    match text.len() <= MAX_REASON && comity_certs::is_label(text) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "one word of at most {MAX_REASON} characters a-z 0-9 - _ . is possible, a letter or digit first"
        )),
    }
}

/// A reason as it stands in a ledger.
fn parse_text(text: &str) -> Result<String, String> {
    match text.len() <= MAX_WORD && !text.chars().any(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err(format!("at most {MAX_WORD} bytes on one line are possible")),
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time; write 30m, 24h or 7d");
    let unit_at = text.len() - text.chars().next_back().map_or(0, char::len_utf8);
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match number.checked_mul(seconds) {
        Some(total) if total > 0 && total <= 366 * 86_400 => Ok(Duration::from_secs(total)),
        _ => Err(format!("`{text}` is not between one second and a year")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let help = command.get_after_help().map(ToString::to_string);
            let group = command.get_subcommands().next().is_some();
            assert!(
                group || help.is_some_and(|h| h.contains("Examples:")),
                "{path} has no examples"
            );
            for sub in command.get_subcommands() {
                check(sub, &path);
            }
        }
        check(&Cli::command(), "");
    }

    #[test]
    fn durations_are_bounded() {
        assert_eq!(parse_duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(
            parse_duration("366d"),
            Ok(Duration::from_secs(366 * 86_400))
        );
        for text in [
            "",
            "24",
            "h",
            "0h",
            "367d",
            "1w",
            "-1h",
            "99999999999999999999d",
            "é",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
