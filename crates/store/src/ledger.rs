//! A small versioned JSON file of entries: what [`crate::Pending`] and [`crate::Invitations`] share.
//!
//! ```json
//! {
//!   "version": 1,
//!   "entries": [ ... ]
//! }
//! ```
//!
//! An unknown version, field or value refuses the whole file: guessing at what an entry means is how
//! an expired invitation comes back to life.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::claim::harmless;
use crate::error::StoreError;
use crate::home::{Home, HomeFile};
use crate::lock::HomeLock;
use crate::stamp::{Sight, Stamp};

const VERSION: u32 = 1;

/// Characters of what the parser says about a damaged file: a field's name, what was expected
/// instead, and the place.
const MAX_CAUSE: usize = 256;

/// One such file.
pub(crate) struct Ledger<T> {
    home: Home,
    file: HomeFile,
    cache: Mutex<Option<Read<T>>>,
}

/// What the file said when it was read or written last. That it is damaged is remembered, too:
/// finding out costs as much as reading a good one.
struct Read<T> {
    stamp: Stamp,
    entries: Result<Arc<Vec<T>>, StoreError>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<T> {
    version: u32,
    entries: T,
}

impl<T: Serialize + DeserializeOwned + Clone + PartialEq> Ledger<T> {
    pub(crate) fn new(home: &Home, file: HomeFile) -> Self {
        Self {
            home: home.clone(),
            file,
            cache: Mutex::new(None),
        }
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// The entries as of now, so that whoever knocks a thousand times a second costs one `stat` each
    /// time. A file that another process may have changed unseen is read again five times a second,
    /// until it has settled (see [`crate::stamp`]).
    pub(crate) fn entries(&self) -> Result<Arc<Vec<T>>, StoreError> {
        let mut cache = self.cache();
        if let Some(read) = cache.as_ref().filter(|r| self.look(r) != Sight::Unknown) {
            return read.entries.clone();
        }
        self.read(&mut cache)
    }

    /// Changes the entries under the lock, starting from what the file says now. When this returns,
    /// the change is durable. Nothing is written if `change` changed nothing.
    pub(crate) fn update<R>(
        &self,
        change: impl FnOnce(&HomeLock, &mut Vec<T>) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let lock = self.home.lock()?;
        let before = self.certain_entries()?;
        let mut after = before.to_vec();
        let result = change(&lock, &mut after)?;
        if after != *before {
            self.write(&lock, after)?;
        }
        Ok(result)
    }

    fn certain_entries(&self) -> Result<Arc<Vec<T>>, StoreError> {
        let mut cache = self.cache();
        if let Some(read) = cache.as_ref().filter(|r| self.look(r) == Sight::Unchanged) {
            return read.entries.clone();
        }
        self.read(&mut cache)
    }

    fn look(&self, read: &Read<T>) -> Sight {
        read.stamp
            .look(self.home.disk(), &self.home.path(self.file))
    }

    fn read(&self, cache: &mut Option<Read<T>>) -> Result<Arc<Vec<T>>, StoreError> {
        let before = cache.take().map(|read| read.stamp);
        let disk = self.home.disk();
        let started = disk.monotonic();
        let content = self.home.read(self.file)?;
        let stat = content.as_ref().map(|content| &content.stat);
        let stamp = Stamp::of(stat, before, started, disk);
        let entries = match &content {
            None => Ok(Arc::default()),
            Some(content) => self.parse(&content.bytes).map(Arc::new),
        };
        *cache = Some(Read {
            stamp,
            entries: entries.clone(),
        });
        entries
    }

    fn parse(&self, bytes: &[u8]) -> Result<Vec<T>, StoreError> {
        // The parser quotes the file, control characters and all.
        let damaged = |cause: String| StoreError::Damaged {
            path: self.home.path(self.file),
            cause: harmless(&cause, MAX_CAUSE),
        };
        let envelope: Envelope<Vec<T>> =
            serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
        if envelope.version != VERSION {
            return Err(damaged(format!(
                "version {} is not known, only {VERSION}",
                envelope.version
            )));
        }
        Ok(envelope.entries)
    }

    fn write(&self, lock: &HomeLock, entries: Vec<T>) -> Result<(), StoreError> {
        let envelope = Envelope {
            version: VERSION,
            entries,
        };
        let path = self.home.path(self.file);
        let mut text = serde_json::to_vec_pretty(&envelope).map_err(|error| StoreError::Io {
            doing: "write",
            path: path.clone(),
            source: std::sync::Arc::new(error.into()),
        })?;
        text.push(b'\n');
        if text.len() as u64 > self.file.limit() {
            // What we could not read back is not written.
            return Err(StoreError::TooLarge {
                path,
                limit: self.file.limit(),
            });
        }
        self.home.replace(lock, self.file, &text)?;
        self.remember(envelope.entries);
        Ok(())
    }

    /// Takes what was just written for what a reader would find, so that the next knock does not
    /// parse it. Should somebody without the lock be at work, the next reading corrects it.
    fn remember(&self, entries: Vec<T>) {
        let disk = self.home.disk();
        let stat = disk.lstat(&self.home.path(self.file)).ok();
        *self.cache() = stat.map(|stat| Read {
            stamp: Stamp::of(Some(&stat), None, disk.monotonic(), disk),
            entries: Ok(Arc::new(entries)),
        });
    }

    fn cache(&self) -> MutexGuard<'_, Option<Read<T>>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Ledger<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ledger({})", self.home.path(self.file).display())
    }
}
