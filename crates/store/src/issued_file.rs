//! The database of issued certificates as a file of the home: opened as every other file is, locked
//! by us, and reached through [`crate::disk`], so that tests can cut its power, too.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use redb::{Builder, Database, StorageBackend};

use crate::check::{self, Secrecy};
use crate::claim::harmless;
use crate::disk::{Access, Disk, DiskFile};
use crate::error::StoreError;
use crate::home::why_not_a_file;
use crate::lock::{FIRST_PAUSE, LOCK_WAIT, LONGEST_PAUSE, still_there};

/// Memory for pages. The upper levels of the trees over a million certificates fit into a fraction
/// of it; redb's own default of a gigabyte is more than a node has to give.
const CACHE_BYTES: usize = 32 << 20;

/// Characters of what the database says about a damaged file.
const MAX_CAUSE: usize = 256;

/// Makes a new database at `path` and what `fill` puts into it, durable except for its name.
pub(crate) fn create(
    disk: &dyn Disk,
    path: &Path,
    fill: impl FnOnce(&Database) -> Result<(), redb::Error>,
) -> Result<(), StoreError> {
    let file = disk
        .open(path, Access::CreateNew)
        .map_err(StoreError::io("create", path))?;
    file.set_mode(0o600)
        .map_err(StoreError::io("set the mode of", path))?;
    let database = database(file, path)?;
    fill(&database).map_err(|error| fault(path, error))?;
    drop(database);
    // Its last writes, which mark it as closed.
    disk.open(path, Access::Read)
        .and_then(|file| file.sync())
        .map_err(StoreError::io("synchronise", path))
}

/// Opens the database at `path`, once no other process has it. It is held until it is dropped.
pub(crate) fn open(disk: &dyn Disk, path: &Path) -> Result<Database, StoreError> {
    let mut waited = Duration::ZERO;
    let mut pause = FIRST_PAUSE;
    loop {
        let file = match disk.open(path, Access::Modify) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let path = path.to_owned();
                return Err(StoreError::Missing { path });
            }
            Err(error) => return Err(why_not_a_file(disk, path, error)),
        };
        let stat = file.stat().map_err(StoreError::io("look at", path))?;
        check::file(path, &stat, disk.user(), Secrecy::Public)?;
        if stat.size == 0 {
            // The database would take it for a new one.
            return Err(damaged(path, "it is empty"));
        }
        let locked = file.try_lock().map_err(StoreError::io("lock", path))?;
        // A copy that was put in its place is locked for itself.
        if locked && still_there(disk, path, &*file)? {
            return database(file, path);
        }
        if waited >= LOCK_WAIT {
            let path = path.to_owned();
            return Err(StoreError::Locked { path, waited });
        }
        disk.pause(pause);
        waited += pause;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What the database says, as what goes wrong between us and the disk.
pub(crate) fn fault(path: &Path, error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(source) if source.kind() != io::ErrorKind::InvalidData => {
            StoreError::io("use", path)(source)
        }
        other => damaged(path, &other.to_string()),
    }
}

fn damaged(path: &Path, cause: &str) -> StoreError {
    StoreError::Damaged {
        path: path.to_owned(),
        cause: harmless(cause, MAX_CAUSE),
    }
}

fn database(file: Box<dyn DiskFile>, path: &Path) -> Result<Database, StoreError> {
    Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(Backend(file))
        .map_err(|error| fault(path, error))
}

/// The file below the database. It holds our lock; redb's own, by ranges, is not needed.
struct Backend(Box<dyn DiskFile>);

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.stat().map(|stat| stat.size)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < out.len() {
            match self.0.read_at(&mut out[filled..], offset + filled as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_length(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(data, offset)
    }
}
