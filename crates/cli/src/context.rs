//! What the commands share: where the home is, how to open it, and how to ask for a passphrase.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use comity_agent::{
    ConfigFile, IdentityError, Node, NodeError, ReadConfigError, Setting, Source, Surroundings,
    read_config, read_named_file,
};
use comity_certs::Anchor;
use comity_identity::UnixTime;
use comity_keys::{KeyError, NoPassphrase};
use comity_store::{Home, PeerStore, StoreError};
use comity_tls::LeafProfile;
use comity_trust::{Direction, Mode, Reason};
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

use crate::args::{Cli, Command, Global};
use crate::shell::{Failure, Shell, chain, no_terminal};

/// The file in which an authority lists what it issued.
const LEDGER: &str = "issued.redb";

/// The surroundings of a command.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) shell: Shell,
    pub(crate) home: Setting<PathBuf>,
    passphrase_file: Option<PathBuf>,
}

impl Context {
    pub(crate) fn new(shell: Shell, global: &Global) -> Result<Self, Failure> {
        let home = Surroundings::of_process()
            .home(global.home.as_deref())
            .map_err(Failure::unable)?;
        Ok(Self {
            shell,
            home,
            passphrase_file: global.passphrase_file.clone(),
        })
    }

    /// The home, which must exist.
    pub(crate) fn open_home(&self) -> Result<Home, Failure> {
        Home::open(&self.home.value).map_err(|error| store_failure(&error))
    }

    /// The home, made if need be.
    pub(crate) fn create_home(&self) -> Result<Home, Failure> {
        Home::create(&self.home.value).map_err(|error| store_failure(&error))
    }

    pub(crate) fn config(&self, home: &Home) -> Result<ConfigFile, Failure> {
        read_config(home).map_err(|error| match &error {
            ReadConfigError::Store(error) => store_failure(error),
            ReadConfigError::Config(_) => Failure::of("the configuration is refused", &error),
        })
    }

    pub(crate) fn store(&self, home: &Home, command: &str) -> Result<PeerStore, Failure> {
        PeerStore::open(home, command).map_err(|error| store_failure(&error))
    }

    /// The node, with its key. Asks for a passphrase if the key is sealed.
    pub(crate) fn node(
        &self,
        home: &Home,
        profile: LeafProfile,
        command: &str,
    ) -> Result<Node, Failure> {
        Node::open(home, &mut || self.passphrase(), profile, command).map_err(|e| node_failure(&e))
    }

    /// The passphrase: from the file, or typed.
    pub(crate) fn passphrase(&self) -> Result<Zeroizing<String>, NoPassphrase> {
        let no = |cause: String| NoPassphrase { cause };
        match &self.passphrase_file {
            Some(path) => {
                let text = read_named_file(path)
                    .map_err(|error| no(format!("{}: {error}", path.display())))?;
                let text = Zeroizing::new(text);
                let line = text.lines().next().unwrap_or_default();
                Ok(Zeroizing::new(line.to_owned()))
            }
            None if no_terminal() => Err(no(
                "there is no terminal to ask at; --passphrase-file names a file with it".to_owned(),
            )),
            None => rpassword::prompt_password("passphrase of the identity key: ")
                .map(Zeroizing::new)
                .map_err(|error| no(format!("{error}; --passphrase-file names a file with it"))),
        }
    }

    /// A new passphrase, typed twice, or from the file.
    pub(crate) fn new_passphrase(&self) -> Result<Zeroizing<String>, Failure> {
        let first = self.passphrase().map_err(Failure::unable)?;
        if self.passphrase_file.is_none() {
            let second = rpassword::prompt_password("the same again: ")
                .map(Zeroizing::new)
                .map_err(Failure::unable)?;
            if first != second {
                return Err(Failure::unable("the two passphrases differ"));
            }
        }
        Ok(first)
    }

    pub(crate) fn anchors(&self, path: &Path) -> Result<Vec<Anchor>, Failure> {
        let text = read_named_file(path)
            .map_err(|error| Failure::unable(format!("cannot read {}: {error}", path.display())))?;
        Anchor::read_pem(&text)
            .map_err(|error| Failure::of(format!("{} has no usable CA", path.display()), &error))
    }
}

/// What a variable says; nothing when it is empty.
pub(crate) fn environment(name: &str) -> Option<String> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
    Some(value.to_string_lossy().into_owned())
}

/// The wall time.
pub(crate) fn now() -> UnixTime {
    UnixTime::from(SystemTime::now())
}

/// The mode in force: flag (or its environment variable), file, default.
pub(crate) fn mode_setting(
    flag: Option<Mode>,
    from_file: Result<Option<Setting<Mode>>, comity_agent::ConfigError>,
    flag_name: &'static str,
    default: Mode,
) -> Result<Setting<Mode>, Failure> {
    match flag {
        Some(mode) => Ok(Setting::new(mode, Source::Flag(flag_name))),
        None => {
            let from_file =
                from_file.map_err(|error| Failure::of("the configuration is refused", &error))?;
            Ok(from_file.unwrap_or(Setting::new(default, Source::Default)))
        }
    }
}

/// Refuses a mode of the other direction, and one that needs to be meant.
pub(crate) fn check_mode(mode: Mode, direction: Direction, meant: bool) -> Result<(), Failure> {
    if !mode.valid_for(direction) {
        let modes: Vec<&str> = Mode::ALL
            .iter()
            .filter(|m| m.valid_for(direction))
            .map(|m| m.token())
            .collect();
        return Err(
            Failure::unable(format!("mode `{mode}` does not exist when we {direction}"))
                .hint(format!("modes here: {}", modes.join(", "))),
        );
    }
    if mode.needs_second_word() && !meant {
        return Err(Failure::unable(format!(
            "mode `{mode}` accepts whoever answers, and anybody can answer"
        ))
        .hint("if that is what you want, add --i-mean-it"));
    }
    Ok(())
}

/// A store that refuses to answer, with the remedy it knows.
pub(crate) fn store_failure(error: &StoreError) -> Failure {
    let failure = Failure::unable(chain(error));
    match error {
        StoreError::NoHome { .. } => failure.hint("`comity init` makes one"),
        StoreError::Insecure { remedy, .. } => {
            failure.hint(remedy.clone()).because(Reason::StoreError)
        }
        StoreError::Missing { path } if path.ends_with(LEDGER) => failure
            .detail("it lists what this authority issued: without it nothing could be withdrawn by its name")
            .hint("restore it, or the whole home, from a backup: nothing else has what is in it")
            .because(Reason::StoreError),
        StoreError::Missing { .. } => failure
            .detail("starting with an empty one would make every peer look new")
            .hint("restore it, perhaps from known_peers.old; or start anew: `comity trust check --forget-missing`")
            .because(Reason::StoreError),
        _ => failure.because(Reason::StoreError),
    }
}

pub(crate) fn identity_failure(error: &IdentityError) -> Failure {
    match error {
        IdentityError::Store(error) => store_failure(error),
        IdentityError::Missing { .. } => Failure::unable(error).hint("`comity init` makes one"),
        IdentityError::Key(KeyError::WrongPassphrase) => Failure::no("the passphrase is wrong"),
        _ => Failure::unable(chain(error)),
    }
}

pub(crate) fn node_failure(error: &NodeError) -> Failure {
    match error {
        NodeError::Identity(error) => identity_failure(error),
        NodeError::Store(error) => store_failure(error),
        _ => Failure::unable(chain(error)),
    }
}

/// Logs go to standard error: a server tells what it does, a command only what is wrong.
pub(crate) fn start_logging(shell: Shell, cli: &Cli) {
    let usual = match cli.command {
        Command::Serve(_) => "info",
        _ => "error",
    };
    let level = match (cli.global.quiet, cli.global.verbose) {
        (true, _) => "error".to_owned(),
        (false, 0) => format!(
            "warn,comity_tls={usual},comity_tunnel={usual},comity_store={usual},comity_agent={usual},comity_authority={usual}"
        ),
        (false, 1) => {
            "info,comity_tls=debug,comity_tunnel=debug,comity_store=debug,comity_agent=debug,comity_authority=debug".to_owned()
        },
        (false, _) => "trace".to_owned(),
    };
    let asked =
        environment("COMITY_LOG").map(|text| EnvFilter::try_new(&text).map_err(|e| (text, e)));
    let filter = match asked {
        Some(Ok(filter)) => filter,
        Some(Err((text, error))) => {
            shell.warn(format_args!("COMITY_LOG={text} is ignored: {error}"));
            EnvFilter::new(level)
        }
        None => EnvFilter::new(level),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    if cli.global.log_json {
        builder.json().init();
    } else {
        use std::io::IsTerminal;
        let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        builder.with_ansi(ansi).compact().init();
    }
}
