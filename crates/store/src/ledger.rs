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
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::claim::harmless;
use crate::error::StoreError;
use crate::home::{Home, HomeFile};
use crate::lock::HomeLock;
use crate::stamp::Stamp;

const VERSION: u32 = 1;

/// Characters of what the parser says about a damaged file: a field's name, what was expected
/// instead, and the place.
const MAX_CAUSE: usize = 256;

/// One such file.
pub(crate) struct Ledger<T> {
    home: Home,
    file: HomeFile,
    cache: Mutex<Option<(Stamp, Arc<Vec<T>>)>>,
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

    /// The entries as of now; read again only if the file has changed, so that whoever knocks a
    /// thousand times a second costs one `stat` each time.
    pub(crate) fn entries(&self) -> Result<Arc<Vec<T>>, StoreError> {
        let path = self.home.path(self.file);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((stamp, entries)) = &*cache
            && stamp.still_describes(self.home.disk(), &path)
        {
            return Ok(Arc::clone(entries));
        }
        let (stamp, entries) = self.read()?;
        let entries = Arc::new(entries);
        *cache = Some((stamp, Arc::clone(&entries)));
        Ok(entries)
    }

    /// Changes the entries under the lock, starting from what the file says now. When this returns,
    /// the change is durable. Nothing is written if `change` changed nothing.
    pub(crate) fn update<R>(
        &self,
        change: impl FnOnce(&HomeLock, &mut Vec<T>) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let lock = self.home.lock()?;
        let (_, before) = self.read()?;
        let mut after = before.clone();
        let result = change(&lock, &mut after)?;
        if after != before {
            self.write(&lock, after)?;
        }
        Ok(result)
    }

    fn read(&self) -> Result<(Stamp, Vec<T>), StoreError> {
        let Some(content) = self.home.read(self.file)? else {
            return Ok((Stamp::absent(), Vec::new()));
        };
        // The parser quotes the file, control characters and all.
        let damaged = |cause: String| StoreError::Damaged {
            path: self.home.path(self.file),
            cause: harmless(&cause, MAX_CAUSE),
        };
        let envelope: Envelope<Vec<T>> =
            serde_json::from_slice(&content.bytes).map_err(|e| damaged(e.to_string()))?;
        if envelope.version != VERSION {
            return Err(damaged(format!(
                "version {} is not known, only {VERSION}",
                envelope.version
            )));
        }
        let stamp = Stamp::of(&content.stat, self.home.disk().now());
        Ok((stamp, envelope.entries))
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
        self.home.replace(lock, self.file, &text)
    }
}

impl<T> fmt::Debug for Ledger<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ledger({})", self.home.path(self.file).display())
    }
}
