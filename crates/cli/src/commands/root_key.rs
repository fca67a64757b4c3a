//! The root key of an authority: made, kept sealed where the operator says, and opened again for the
//! few commands that need it.

use std::path::{Path, PathBuf};

use comity_agent::read_named_file;
use comity_identity::{Algorithm, NodeId};
use comity_keys::{KeyError, NoPassphrase, SoftwareKey};
use comity_store::{Exported, Home, export};
use zeroize::Zeroizing;

use crate::args::ca::RootKey;
use crate::context::{Context, store_failure};
use crate::shell::{Failure, no_terminal};

/// The name of a root key that stays in its authority's directory until somebody moves it.
const DEFAULT_NAME: &str = "root.key";

/// A root key that was made, sealed, and is in no file yet.
pub(crate) struct NewRoot {
    pub(crate) key: SoftwareKey,
    sealed: Zeroizing<String>,
    /// Where the operator wants it.
    file: Option<PathBuf>,
}

impl NewRoot {
    /// Makes a root key; asks twice for its passphrase.
    pub(crate) fn make(args: &RootKey, algorithm: Algorithm) -> Result<Self, Failure> {
        if let Some(path) = args.file.as_deref().filter(|path| path.exists()) {
            return Err(Failure::no(format!("{} is there already", path.display()))
                .hint("choose another name with --root, or move that file away"));
        }
        let passphrase = new_passphrase(args)?;
        let key = SoftwareKey::generate(algorithm).map_err(Failure::unable)?;
        let sealed = key.seal(&passphrase).map_err(Failure::unable)?;
        Ok(Self {
            key,
            sealed,
            file: args.file.clone(),
        })
    }

    /// The id of the network that it founds.
    pub(crate) fn network(&self) -> NodeId {
        NodeId::of_spki(self.key.spki())
    }

    /// Keeps it in the file that the operator named, before anything is founded: an authority whose
    /// root nobody has cannot be mended.
    pub(crate) fn keep_if_named(&self) -> Result<(), Failure> {
        match &self.file {
            Some(path) => self.write(path),
            None => Ok(()),
        }
    }

    /// Keeps it in the directory of its authority, unless it has its place, and says where it is.
    pub(crate) fn keep(&self, context: &Context, home: &Home) -> Result<PathBuf, Failure> {
        let path = match &self.file {
            Some(path) => path.clone(),
            None => {
                let path = default_place(home, &self.network());
                self.write(&path).map_err(|failure| {
                    failure.detail(
                        "the authority was founded, and its root key is lost: found another one",
                    )
                })?;
                path
            }
        };
        context.shell.say(format_args!(
            "{} is the root key: it belongs offline. Move it to removable storage, and pass --root FILE when a command asks for it",
            path.display()
        ));
        Ok(path)
    }

    fn write(&self, path: &Path) -> Result<(), Failure> {
        export(path, self.sealed.as_bytes(), Exported::Sealed, false)
            .map_err(|error| store_failure(&error))
    }
}

/// Opens the root key of a network: from `--root`, or from where it was made.
pub(crate) fn open(home: &Home, network: &NodeId, args: &RootKey) -> Result<SoftwareKey, Failure> {
    let path = match &args.file {
        Some(path) => path.clone(),
        None => default_place(home, network),
    };
    let text = read_named_file(&path)
        .map(Zeroizing::new)
        .map_err(|error| {
            let failure = Failure::unable(format!(
                "cannot read the root key {}: {error}",
                path.display()
            ));
            failure.hint("bring the medium that it is on, and say where: `--root FILE`")
        })?;
    SoftwareKey::decode(&text, &mut || passphrase(args)).map_err(|error| match error {
        KeyError::WrongPassphrase => Failure::no("the passphrase of the root key is wrong"),
        error => Failure::unable(format!("the root key {}: {error}", path.display())),
    })
}

/// Where a root key is that nobody moved.
fn default_place(home: &Home, network: &NodeId) -> PathBuf {
    let authorities = home.root().join("authorities");
    authorities.join(network.to_hex()).join(DEFAULT_NAME)
}

fn new_passphrase(args: &RootKey) -> Result<Zeroizing<String>, Failure> {
    let first = passphrase(args).map_err(|error| {
        Failure::unable(format!("the root key needs a passphrase: {}", error.cause))
    })?;
    if first.is_empty() {
        return Err(Failure::unable("an empty passphrase protects nothing"));
    }
    if args.passphrase_file.is_none() {
        let second = rpassword::prompt_password("the same again: ").map(Zeroizing::new);
        if first != second.map_err(Failure::unable)? {
            return Err(Failure::unable("the two passphrases differ"));
        }
    }
    Ok(first)
}

fn passphrase(args: &RootKey) -> Result<Zeroizing<String>, NoPassphrase> {
    let no = |cause: String| NoPassphrase { cause };
    let named = "--root-passphrase-file names a file with it";
    match &args.passphrase_file {
        Some(path) => {
            let text = read_named_file(path).map(Zeroizing::new);
            let text = text.map_err(|error| no(format!("{}: {error}", path.display())))?;
            Ok(Zeroizing::new(
                text.lines().next().unwrap_or_default().to_owned(),
            ))
        }
        None if no_terminal() => Err(no(format!("there is no terminal to ask at; {named}"))),
        None => rpassword::prompt_password("passphrase of the root key: ")
            .map(Zeroizing::new)
            .map_err(|error| no(format!("{error}; {named}"))),
    }
}
