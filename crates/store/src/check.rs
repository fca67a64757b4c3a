//! Who else could have changed, or could read, what we are about to rely on.
//!
//! The rules, for a process of user U:
//!
//! 1. Whatever we rely on belongs to U or to root. Root can change anything anyway, and system
//!    configuration is often root's. A process *of root* relies on nothing that an ordinary user
//!    owns: working on another user's home as root would follow what that user planted there.
//! 2. Neither the group nor everybody may write to it.
//! 3. A secret may not even be read by them, and has exactly one name: a second name keeps a copy
//!    alive that we do not know of. Other files may have several, because each replacement makes a
//!    new file and `.old` is a second name for a moment.
//! 4. Links, FIFOs, sockets and devices are refused where a file is expected.
//! 5. The same holds for every directory on the way, except that one that others can write to
//!    passes if it is sticky (`/tmp`): there, nobody can rename what is not theirs.

use std::path::Path;

use crate::disk::{Disk, Kind, Stat};
use crate::error::{Flaw, StoreError, quoted};

/// What a file may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Secrecy {
    /// Others may read it.
    Public,
    /// Nobody else may read it.
    Secret,
}

/// The bits with which the group or everybody may write.
const WRITABLE: u32 = 0o022;

/// The bits with which the group or everybody may do anything.
const ANY: u32 = 0o077;

const STICKY: u32 = 0o1000;

/// Checks an open regular file.
pub(crate) fn file(
    path: &Path,
    stat: &Stat,
    user: u32,
    secrecy: Secrecy,
) -> Result<(), StoreError> {
    if stat.kind != Kind::File {
        return Err(insecure(path, wrong_kind(stat.kind, Flaw::NotAFile)));
    }
    owner(path, stat, user)?;
    if stat.mode & WRITABLE != 0 {
        return Err(insecure(path, Flaw::WritableByOthers { mode: stat.mode }));
    }
    if secrecy == Secrecy::Secret {
        if stat.mode & ANY != 0 {
            return Err(insecure(path, Flaw::ReadableByOthers { mode: stat.mode }));
        }
        if stat.links > 1 {
            return Err(insecure(path, Flaw::HardLinked { links: stat.links }));
        }
    }
    Ok(())
}

/// Checks a directory of ours.
pub(crate) fn directory(path: &Path, stat: &Stat, user: u32) -> Result<(), StoreError> {
    if stat.kind != Kind::Directory {
        return Err(insecure(path, wrong_kind(stat.kind, Flaw::NotADirectory)));
    }
    owner(path, stat, user)?;
    if stat.mode & WRITABLE != 0 {
        return Err(StoreError::Insecure {
            path: path.to_owned(),
            flaw: Flaw::WritableByOthers { mode: stat.mode },
            remedy: format!("chmod 700 {}", quoted(path)),
        });
    }
    Ok(())
}

/// Checks every directory from `path`, which has no links in it, up to the root.
pub(crate) fn parents(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    let user = disk.user();
    for ancestor in path.ancestors() {
        let stat = disk
            .lstat(ancestor)
            .map_err(StoreError::io("look at", ancestor))?;
        if stat.kind != Kind::Directory {
            return Err(insecure(
                ancestor,
                wrong_kind(stat.kind, Flaw::NotADirectory),
            ));
        }
        owner(ancestor, &stat, user)?;
        if stat.mode & WRITABLE != 0 && stat.mode & STICKY == 0 {
            return Err(insecure(
                ancestor,
                Flaw::WritableByOthers { mode: stat.mode },
            ));
        }
    }
    Ok(())
}

fn owner(path: &Path, stat: &Stat, user: u32) -> Result<(), StoreError> {
    if stat.owner == user || stat.owner == 0 {
        return Ok(());
    }
    let owner = stat.owner;
    Err(insecure(path, Flaw::ForeignOwner { owner, user }))
}

fn wrong_kind(kind: Kind, otherwise: Flaw) -> Flaw {
    match kind {
        Kind::Symlink => Flaw::Symlink,
        _ => otherwise,
    }
}

pub(crate) fn insecure(path: &Path, flaw: Flaw) -> StoreError {
    let name = quoted(path);
    let remedy = match flaw {
        Flaw::WritableByOthers { .. } => format!("chmod go-w {name}"),
        Flaw::ReadableByOthers { .. } => format!("chmod 600 {name}"),
        Flaw::ForeignOwner { owner, user: 0 } => {
            format!("run as its owner: `sudo -u '#{owner}' comity ...`, or `chown 0 {name}`")
        }
        Flaw::ForeignOwner { user, .. } => format!("chown {user} {name}"),
        Flaw::Symlink => {
            format!("put the real file or directory in the place of the link {name}")
        }
        Flaw::NotAFile | Flaw::NotADirectory => format!("move {name} away"),
        Flaw::HardLinked { .. } => {
            format!(
                "find the other name, and if it is harmless: cp -p {name} {name}.copy && mv {name}.copy {name}"
            )
        }
    };
    StoreError::Insecure {
        path: path.to_owned(),
        flaw,
        remedy,
    }
}
