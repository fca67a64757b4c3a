//! What can go wrong between us and the disk.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use comity_trust::ParseError;
use thiserror::Error;

/// Why something could not be read or made durable. Whoever decides about trust refuses on any of
/// them (reason `store-error`).
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no home at this path.
    #[error("there is no Comity home at {}", path.display())]
    NoHome {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Somebody else could have changed, or could read, what we were about to rely on.
    #[error("refusing {}: {flaw}", path.display())]
    Insecure {
        /// The offending file or directory, perhaps a parent of what was asked for.
        path: PathBuf,
        /// What is wrong with it.
        flaw: Flaw,
        /// A command that puts it right.
        remedy: String,
    },
    /// A system call failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Another process has held the lock for too long.
    #[error("cannot lock {}: another process has held it for {waited:?}", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
    /// The lock file was removed or replaced while we held it: another process may hold the new one.
    /// Nothing was changed.
    #[error("{} was removed or replaced while it was held", path.display())]
    LockLost {
        /// The lock file.
        path: PathBuf,
    },
    /// A file is larger than anything we would have written.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit that it exceeds.
        limit: u64,
    },
    /// A file's content is not what belongs there.
    #[error("cannot read {}: {cause}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        cause: String,
    },
    /// `known_peers` is not understood.
    #[error("cannot read {}:{}:{}: {}", path.display(), error.line, error.column, error.cause)]
    KnownPeers {
        /// The file.
        path: PathBuf,
        /// Which line, and why.
        error: Box<ParseError>,
    },
    /// An editor saved the file while we were changing it, again and again.
    #[error("{} was edited while it was being changed", path.display())]
    Edited {
        /// The file.
        path: PathBuf,
    },
    /// A file that was there before is gone: without it every known peer would look new.
    #[error("{} is missing, although it was there before", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Something has that name already, and it is not replaced.
    #[error("{} exists already", path.display())]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// A bounded file has no room for another entry.
    #[error("{} is full: it holds {limit} entries", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// Its limit.
        limit: usize,
    },
    /// As many unconfirmed keys as an acceptor remembers at first use are there. No fault of the disk:
    /// strangers came, and further ones are refused (reason `busy`).
    #[error(
        "no further peer is recorded at first use: {} holds {limit} of them that nobody confirmed",
        path.display()
    )]
    FirstUsesFull {
        /// The file.
        path: PathBuf,
        /// The limit, [`crate::MAX_FIRST_USES`].
        limit: usize,
    },
    /// With one more entry, the file would reach into what is kept for changes by the operator.
    #[error(
        "no further peer is recorded at first use: {} would become larger than {limit} bytes",
        path.display()
    )]
    FirstUseReserve {
        /// The file.
        path: PathBuf,
        /// How large first use may make it: [`crate::FIRST_USE_RESERVE`] less than is read.
        limit: usize,
    },
    /// The system has no random numbers to give.
    #[error("cannot get random bytes: {cause}")]
    Entropy {
        /// What the system said.
        cause: String,
    },
}

impl StoreError {
    /// A command or an action that puts it right, where one is known.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Insecure { remedy, .. } => Some(remedy.clone()),
            Self::NoHome { path } => Some(format!("run `comity init --home {}`", quoted(path))),
            Self::Locked { path, .. } => {
                Some(format!("see who holds it: `fuser -v {}`", quoted(path)))
            }
            Self::Missing { path } => Some(format!(
                "restore it, perhaps with `cp -p {0}.old {0}`",
                quoted(path)
            )),
            Self::KnownPeers { error, .. } => error.hint.clone(),
            Self::LockLost { path } => Some(format!(
                "leave {} in its place, and try again",
                quoted(path)
            )),
            Self::FirstUsesFull { .. } | Self::FirstUseReserve { .. } => Some(
                "see who they are with `comity trust list`, and confirm or remove them".to_owned(),
            ),
            Self::Edited { .. } => Some("save the file and try again".to_owned()),
            _ => None,
        }
    }

    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            doing,
            path,
            source: Arc::new(source),
        }
    }
}

/// What makes a file or directory unfit to be relied upon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Flaw {
    /// The group or everybody may write to it.
    WritableByOthers {
        /// Its permission bits.
        mode: u32,
    },
    /// It holds a secret that the group or everybody may read.
    ReadableByOthers {
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs neither to us nor to root.
    ForeignOwner {
        /// To whom it belongs.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// It is a symbolic link.
    Symlink,
    /// It is a directory, FIFO, socket or device.
    NotAFile,
    /// It is not a directory.
    NotADirectory,
    /// It holds a secret and has a second name somewhere.
    HardLinked {
        /// How many names it has.
        links: u64,
    },
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WritableByOthers { mode } => {
                write!(f, "other users can write to it (mode {mode:04o})")
            }
            Self::ReadableByOthers { mode } => {
                write!(
                    f,
                    "it is secret and other users can read it (mode {mode:04o})"
                )
            }
            Self::ForeignOwner { owner, user } => {
                write!(f, "it belongs to user {owner}, and we run as user {user}")
            }
            Self::Symlink => f.write_str("it is a symbolic link"),
            Self::NotAFile => f.write_str("it is not a regular file"),
            Self::NotADirectory => f.write_str("it is not a directory"),
            Self::HardLinked { links } => {
                write!(f, "it is secret and has {links} names (hard links)")
            }
        }
    }
}

/// A path as it can be pasted into a shell.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%,:=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
