//! Replacing a file so that a crash at any moment leaves the old content or the new one.
//!
//! 1. Make a temporary file of mode 0600 in the same directory; nobody reads it under its name.
//! 2. Write the whole new content to it.
//! 3. Synchronise it. A rename that reaches the disk before the content would leave an empty file.
//! 4. Where the previous content is kept: give the present file a second, temporary name and rename
//!    that over `.old`. So there is an `.old` at every moment, and where there is no present file,
//!    the last one that was stays in reach.
//! 5. See that the lock is still ours: where somebody removed the lock file, another writer may
//!    hold a new one.
//! 6. Rename the temporary file over the present one, which is atomic.
//! 7. Synchronise the directory: only now is the change durable, and may be acknowledged.
//!
//! The caller holds the home's lock, so every temporary file that is there at the start was left by
//! a process that died.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

use crate::disk::{Access, Disk, DiskFile, Kind, Stat};
use crate::error::StoreError;
use crate::lock::HomeLock;

/// What happens to the content that is replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Previous {
    /// It stays, under the name with `.old` appended.
    Keep,
    /// It goes.
    Drop,
}

/// How all our temporary names begin; nothing else in a home begins so.
const TEMPORARY: &str = ".comity-tmp-";

/// Replaces the file at `path`; see the description of the module.
pub(crate) fn replace(
    disk: &dyn Disk,
    lock: &HomeLock,
    path: &Path,
    content: &[u8],
    previous: Previous,
) -> Result<(), StoreError> {
    install(disk, lock, path, content, || match previous {
        Previous::Keep => keep_previous(disk, path),
        Previous::Drop => Ok(()),
    })
}

/// Replaces a file that people edit, and keeps the previous content; but refuses if it is not the
/// one any more that the new content was worked out from. Editors know no lock: what remains of
/// the race is the moment between the last look and the rename.
pub(crate) fn replace_unless_edited(
    disk: &dyn Disk,
    lock: &HomeLock,
    path: &Path,
    content: &[u8],
    read: &Presence,
) -> Result<(), StoreError> {
    install(disk, lock, path, content, || {
        keep_previous(disk, path)?;
        let now = match disk.lstat(path) {
            Ok(stat) => Presence::of(&stat),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Presence::Absent,
            Err(error) => return Err(StoreError::io("look at", path)(error)),
        };
        if now == *read {
            Ok(())
        } else {
            let path = path.to_owned();
            Err(StoreError::Edited { path })
        }
    })
}

/// Which file was there, and with which content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Presence {
    /// None.
    Absent,
    /// This one. The time of its last change is not part of it: giving it a second name is one.
    File {
        device: u64,
        inode: u64,
        size: u64,
        modified: i128,
    },
}

impl Presence {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self::File {
            device: stat.device,
            inode: stat.inode,
            size: stat.size,
            modified: stat.modified,
        }
    }
}

fn install(
    disk: &dyn Disk,
    lock: &HomeLock,
    path: &Path,
    content: &[u8],
    before_rename: impl FnOnce() -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let directory = parent(path);
    let temporary = temporary_name(directory)?;
    let installed = write_new(disk, &temporary, content).and_then(|()| {
        before_rename()?;
        lock.check(disk)?;
        disk.rename(&temporary, path)
            .map_err(StoreError::io("replace", path))
    });
    if let Err(error) = installed {
        // A full disk should not stay full because of us. If this fails, too, the next writer
        // removes it.
        ignore(disk.unlink(&temporary));
        return Err(error);
    }
    sync_directory(disk, directory)
}

/// Makes a new file of mode 0600 and synchronises its content, but not its name.
pub(crate) fn write_new(disk: &dyn Disk, path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let mut file = disk
        .open(path, Access::CreateNew)
        .map_err(StoreError::io("create", path))?;
    // The umask may have taken bits away from 0600.
    file.set_mode(0o600)
        .map_err(StoreError::io("set the mode of", path))?;
    write_all(&mut *file, content).map_err(StoreError::io("write", path))?;
    file.sync().map_err(StoreError::io("synchronise", path))
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    disk.open(path, Access::Directory)
        .and_then(|handle| handle.sync())
        .map_err(StoreError::io("synchronise", path))
}

/// Removes what dead writers left in a directory of ours. Failing is harmless: the names are never
/// read.
pub(crate) fn remove_leftovers(disk: &dyn Disk, directory: &Path) {
    let Ok(names) = disk.list(directory) else {
        return;
    };
    for name in names.iter().filter(|name| is_temporary(name)) {
        let path = directory.join(name);
        tracing::debug!(path = %path.display(), "removing what an interrupted write left behind");
        match disk.lstat(&path) {
            Ok(stat) if stat.kind == Kind::Directory => remove_tree(disk, &path),
            _ => ignore(disk.unlink(&path)),
        }
    }
}

/// A name that no other writer has, in the directory of what it will replace.
pub(crate) fn temporary_name(directory: &Path) -> Result<PathBuf, StoreError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| StoreError::Entropy {
        cause: error.to_string(),
    })?;
    Ok(directory.join(format!("{TEMPORARY}{}", HEXLOWER.encode(&random))))
}

fn is_temporary(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
}

/// The directories we make are flat.
pub(crate) fn remove_tree(disk: &dyn Disk, directory: &Path) {
    for name in disk.list(directory).unwrap_or_default() {
        ignore(disk.unlink(&directory.join(name)));
    }
    ignore(disk.remove_dir(directory));
}

fn keep_previous(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    let mut old = path.as_os_str().to_owned();
    old.push(".old");
    let second = temporary_name(parent(path))?;
    match disk.hard_link(path, &second) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::io("keep", path)(error)),
    }
    let kept = disk.rename(&second, Path::new(&old));
    // Renaming a name to another one of the same file does nothing at all (rename(2)): that is so
    // where the last write stopped right here.
    match disk.unlink(&second) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => ignore(Err(error)),
        _ => {}
    }
    kept.map_err(StoreError::io("keep", path))
}

pub(crate) fn write_all(file: &mut dyn DiskFile, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// For cleaning up, where the error that matters was already found.
fn ignore(result: io::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "could not clean up");
    }
}
