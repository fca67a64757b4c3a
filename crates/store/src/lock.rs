//! One writer at a time, across processes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::atomic;
use crate::disk::{Access, Disk, DiskFile};
use crate::error::StoreError;
use crate::home::{Home, HomeFile};

/// How long a writer waits for the others. A write takes milliseconds, so somebody who holds the
/// lock this long is stopped or stuck, and a connection that waits for its first use to be recorded
/// is better refused.
pub const LOCK_WAIT: Duration = Duration::from_secs(5);

/// The first pause between two tries; each is twice as long as the one before.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_micros(500);

/// The longest pause. Short against the wait, so that a hundred processes each get their turn, and
/// long against a `flock` call, so that they do not keep the processor busy.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_millis(8);

/// Proof that this process holds the lock of a home. Dropping it releases the lock, and so does the
/// end of the process, however it ends.
///
/// A file that is locked can still be removed, and the next process then locks a new one. So every
/// write asks once more whether the lock is the one that others see, right before the step that
/// others would notice. What remains is the moment between the two.
#[derive(Debug)]
pub struct HomeLock {
    handle: Box<dyn DiskFile>,
    path: PathBuf,
}

impl HomeLock {
    pub(crate) fn take(home: &Home) -> Result<Self, StoreError> {
        let path = home.path(HomeFile::Lock);
        let mut waited = Duration::ZERO;
        let mut pause = FIRST_PAUSE;
        let mut handle = open(home)?;
        loop {
            if handle.try_lock().map_err(StoreError::io("lock", &path))? {
                if still_there(home.disk(), &path, &*handle)? {
                    atomic::remove_leftovers(home.disk(), home.root());
                    atomic::remove_leftovers(home.disk(), &home.identity_directory());
                    return Ok(Self { handle, path });
                }
                handle = open(home)?;
            }
            if waited >= LOCK_WAIT {
                return Err(StoreError::Locked { path, waited });
            }
            home.disk().pause(pause);
            waited += pause;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether this is still the lock that other processes would wait for.
    pub(crate) fn check(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        if still_there(disk, &self.path, &*self.handle)? {
            return Ok(());
        }
        let path = self.path.clone();
        Err(StoreError::LockLost { path })
    }
}

fn open(home: &Home) -> Result<Box<dyn DiskFile>, StoreError> {
    let handle = home.open_file(HomeFile::Lock, Access::Append)?;
    handle.ok_or_else(|| StoreError::NoHome {
        path: home.root().to_owned(),
    })
}

/// Whether the locked file still has the name `lock`: if somebody removed it, the next process
/// would lock another file.
pub(crate) fn still_there(
    disk: &dyn Disk,
    path: &Path,
    handle: &dyn DiskFile,
) -> Result<bool, StoreError> {
    let ours = handle.stat().map_err(StoreError::io("look at", path))?;
    match disk.lstat(path) {
        Ok(named) => Ok((named.device, named.inode) == (ours.device, ours.inode)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io("look at", path)(error)),
    }
}
