//! Files that the operator named: certificates, bundles and keys that leave the home.
//!
//! They may stand on removable storage, which knows neither links nor modes. So a new file is made
//! under its own name and only ever by us (`O_EXCL`); after a crash it may be cut short, and nothing
//! has said that it was written. One that is replaced is replaced in one step.

use std::io;
use std::path::{Path, PathBuf};

use crate::atomic;
use crate::check::{self, Secrecy};
use crate::disk::{Access, Disk, Kind, OsDisk};
use crate::error::StoreError;

/// Who may read a file that is made outside the home.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exported {
    /// Everybody: mode 0644.
    Public,
    /// A secret that is sealed: mode 0600 where the file system knows modes.
    Sealed,
    /// A secret in the clear: mode 0600, and refused where that cannot be had.
    Secret,
}

/// Writes a file that the operator named. When this returns, it is durable.
///
/// # Errors
/// [`StoreError::Exists`] if there is something of that name and `overwrite` is not set, or if it is
/// no regular file; [`StoreError::Insecure`] if others could read a secret; or the system's error.
/// Nothing is left behind then.
pub fn export(
    path: &Path,
    content: &[u8],
    exported: Exported,
    overwrite: bool,
) -> Result<(), StoreError> {
    export_on(&OsDisk, path, content, exported, overwrite)
}

pub(crate) fn export_on(
    disk: &dyn Disk,
    path: &Path,
    content: &[u8],
    exported: Exported,
    overwrite: bool,
) -> Result<(), StoreError> {
    let exists = || StoreError::Exists {
        path: path.to_owned(),
    };
    let directory = directory_of(path);
    match disk.lstat(path) {
        Ok(stat) if !overwrite || stat.kind != Kind::File => Err(exists()),
        Ok(_) => {
            let temporary = atomic::temporary_name(&directory)?;
            write(disk, &temporary, content, exported).and_then(|()| {
                disk.rename(&temporary, path).map_err(|error| {
                    remove(disk, &temporary);
                    StoreError::io("replace", path)(error)
                })
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write(disk, path, content, exported)
        }
        Err(error) => Err(StoreError::io("look at", path)(error)),
    }?;
    atomic::sync_directory(disk, &directory)
}

/// Makes a new file; if it cannot be completed, it is removed.
fn write(
    disk: &dyn Disk,
    path: &Path,
    content: &[u8],
    exported: Exported,
) -> Result<(), StoreError> {
    let mut file = disk.open(path, Access::CreateNew).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            return StoreError::Exists {
                path: path.to_owned(),
            };
        }
        StoreError::io("create", path)(error)
    })?;
    let mut complete = || {
        // Before the content: nobody shall have it open by then.
        let mode = file.set_mode(match exported {
            Exported::Public => 0o644,
            Exported::Sealed | Exported::Secret => 0o600,
        });
        if exported == Exported::Secret {
            mode.map_err(StoreError::io("set the mode of", path))?;
            let stat = file.stat().map_err(StoreError::io("look at", path))?;
            check::file(path, &stat, disk.user(), Secrecy::Secret)?;
        }
        atomic::write_all(&mut *file, content).map_err(StoreError::io("write", path))?;
        file.sync().map_err(StoreError::io("synchronise", path))
    };
    complete().inspect_err(|_| remove(disk, path))
}

fn remove(disk: &dyn Disk, path: &Path) {
    if let Err(error) = disk.unlink(path) {
        tracing::debug!(%error, path = %path.display(), "could not remove half a file");
    }
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
