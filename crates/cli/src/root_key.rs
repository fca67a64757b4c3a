//! The root key of an authority: sealed in a file of its own, which the operator carries away.
//!
//! Nothing that runs needs it. It is opened for one command, and wiped when that ends.

use std::path::{Path, PathBuf};

use comity_agent::read_named_file;
use comity_identity::{Algorithm, KeyHash, NodeId};
use comity_keys::{KeyError, NoPassphrase, SoftwareKey};
use comity_store::{Exported, Home, StoreError, export};
use zeroize::Zeroizing;

use crate::args::ca::RootKey;
use crate::context::{Context, store_failure};
use crate::shell::{Failure, chain, no_terminal};

/// A root key that was made, sealed, and is in no file yet.
pub(crate) struct NewRoot {
    pub(crate) key: SoftwareKey,
    /// The text of its file.
    sealed: Zeroizing<String>,
    /// Where the operator wants it.
    file: Option<PathBuf>,
}

/// A root key that was opened, and what it was sealed with.
pub(crate) struct OpenRoot {
    pub(crate) key: SoftwareKey,
    /// `None` for a key in the clear.
    pub(crate) passphrase: Option<Zeroizing<String>>,
}

impl NewRoot {
    /// Makes a root key, sealed with a passphrase that is typed twice or stands in a file.
    pub(crate) fn make(args: &RootKey, algorithm: Algorithm) -> Result<Self, Failure> {
        if let Some(path) = &args.file {
            check_new(path)?;
        }
        let passphrase = new_passphrase(args)?;
        Self::generate(algorithm, &passphrase, args.file.clone())
    }

    /// Makes one that is sealed with a known passphrase.
    pub(crate) fn generate(
        algorithm: Algorithm,
        passphrase: &str,
        file: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let cannot = |error| Failure::of("cannot make the root key", &error);
        let key = SoftwareKey::generate(algorithm).map_err(cannot)?;
        let sealed = key.seal(passphrase).map_err(cannot)?;
        Ok(Self { key, sealed, file })
    }

    /// The id of the network that it founds.
    pub(crate) fn network(&self) -> NodeId {
        NodeId::of_spki(self.key.spki())
    }

    /// Keeps it, durably, where the operator wants it, or in the home. To be called before anything
    /// says that the key is in use: an authority whose root key is lost can never change again.
    pub(crate) fn keep(&self, home: &Home) -> Result<PathBuf, Failure> {
        let path = match &self.file {
            Some(path) => path.clone(),
            None => in_home(home, &KeyHash::of_spki(self.key.spki())),
        };
        export(&path, self.sealed.as_bytes(), Exported::Sealed, false).map_err(
            |error| match &error {
                StoreError::Exists { .. } => is_there(&path),
                _ => store_failure(&error),
            },
        )?;
        Ok(path)
    }

    /// Says that it belongs elsewhere.
    pub(crate) fn say_where(&self, context: &Context, path: &Path) {
        let path = path.display();
        context.shell.say(match self.file {
            Some(_) => format!(
                "{path} is the root key, sealed. Keep it offline; it is needed only to change keys, with \
                 --root {path}"
            ),
            None => format!(
                "{path} is the root key, sealed. It belongs offline: move it to removable storage, and \
                 pass --root FILE when a command asks for it"
            ),
        });
    }
}

/// Opens the root key of an authority: the file that was named, or the one in the home. It must be
/// the key `expected`.
pub(crate) fn open(home: &Home, args: &RootKey, expected: &KeyHash) -> Result<OpenRoot, Failure> {
    let path = match &args.file {
        Some(path) => path.clone(),
        None => in_home(home, expected),
    };
    let text = read_named_file(&path).map(Zeroizing::new);
    let text = text.map_err(|error| {
        let cause = format!("{}: {}", path.display(), chain(&error));
        Failure::unable(format!("the root key is needed: {cause}"))
            .hint("bring the medium that it is on, and say where: `--root FILE`")
    })?;
    let mut passphrase = None;
    let key = SoftwareKey::decode(&text, &mut || {
        let given = ask(args, "passphrase of the root key: ")?;
        passphrase = Some(given.clone());
        Ok(given)
    });
    let key = key.map_err(|error| match error {
        KeyError::WrongPassphrase => {
            Failure::no(format!("the passphrase of {} is wrong", path.display()))
        }
        KeyError::NoPassphrase(error) => Failure::unable(format!(
            "the root key {} is sealed, and its passphrase cannot be had: {}",
            path.display(),
            error.cause
        )),
        error => Failure::of(format!("{} is no usable key", path.display()), &error),
    })?;
    let found = KeyHash::of_spki(key.spki());
    match found == *expected {
        true => Ok(OpenRoot { key, passphrase }),
        false => Err(Failure::no(format!("{} is another key", path.display()))
            .detail(format!("found     key:{found}"))
            .detail(format!("the root  key:{expected}"))),
    }
}

/// Where a root key is when the operator names no place: in the home, which is no good place for long.
pub(crate) fn in_home(home: &Home, key: &KeyHash) -> PathBuf {
    home.root().join(format!("root-{}.key", key.to_hex()))
}

/// Says before anything is asked that a key is never overwritten.
pub(crate) fn check_new(path: &Path) -> Result<(), Failure> {
    match path.symlink_metadata() {
        Ok(_) => Err(is_there(path)),
        Err(_) => Ok(()),
    }
}

fn is_there(path: &Path) -> Failure {
    Failure::unable(format!("{} is there already", path.display()))
        .hint("a key is never overwritten: choose another name, or move that file away")
}

/// A new passphrase for a root key.
pub(crate) fn new_passphrase(args: &RootKey) -> Result<Zeroizing<String>, Failure> {
    let first = ask(args, "new passphrase for the root key: ").map_err(|error| {
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

fn ask(args: &RootKey, prompt: &str) -> Result<Zeroizing<String>, NoPassphrase> {
    let no = |cause: String| NoPassphrase { cause };
    let named = "--root-passphrase-file names a file with it";
    match &args.passphrase_file {
        Some(path) => {
            let text = read_named_file(path).map(Zeroizing::new);
            let text = text.map_err(|error| no(format!("{}: {error}", path.display())))?;
            let line = text.lines().next().unwrap_or_default();
            Ok(Zeroizing::new(line.to_owned()))
        }
        None if no_terminal() => Err(no(format!("there is no terminal to ask at; {named}"))),
        None => rpassword::prompt_password(prompt)
            .map(Zeroizing::new)
            .map_err(|error| no(format!("{error}; {named}"))),
    }
}
