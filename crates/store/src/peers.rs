//! `known_peers` on disk, and the snapshot of it that decisions read.
//!
//! The file belongs to its readers and writers alike: several processes of ours, and the operator
//! with an editor. So every change starts from what the file says *now*, under the home's lock, and
//! is one operation on it; what memory holds is never laid over the file. A line that somebody added
//! by hand stays, and one that somebody deleted stays deleted.
//!
//! Reading is free: a decision takes the current [`Snapshot`] without a lock. A snapshot follows the
//! file within twice [`POLL_EVERY`]; if the file has become unreadable, the last good snapshot stays, with
//! its [`Health`] saying so: known peers keep working, and everything that would have to be
//! recorded is refused.
//!
//! The authorities of the file `networks` ([`NetworkStore`]) are in the snapshot, too, and follow their
//! file in the same way: whoever watches snapshots learns of a new bundle as of a removed peer.
//!
//! A file that is missing where there was one before is never taken for an empty one. Otherwise
//! deleting it would make every peer look new, and the next one in the middle would be
//! remembered as the right one. That there was one is told by `known_peers.present` or by
//! `known_peers.old`.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use comity_trust::{Edit, EditError, KnownPeers, Networks};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::atomic::{self, Presence};
use crate::audit::{AuditLog, Deed};
use crate::error::StoreError;
use crate::first_use::ByPeer;
use crate::home::{Home, HomeFile};
use crate::lock::HomeLock;
use crate::networks::NetworkStore;
use crate::stamp::{self, Sight, Stamp};

/// How often the file is looked at, and at most read where looking proves nothing. Whoever is removed
/// from it loses their connections within a second of the change; twice this, the longest that a
/// change stays unnoticed, leaves most of that second for closing them.
pub const POLL_EVERY: Duration = stamp::REREAD_EVERY;

/// How often a change is worked out anew because an editor saved the file in the middle of it.
pub const ATTEMPTS: usize = 3;

/// The peers that a home knows.
///
/// Everything that changes or re-reads the file blocks: from asynchronous code, call it in
/// `spawn_blocking`. [`PeerStore::snapshot`] and [`PeerStore::watch`] do not block.
pub struct PeerStore {
    home: Home,
    audit: AuditLog,
    networks: NetworkStore,
    current: ArcSwap<Snapshot>,
    watchers: watch::Sender<Arc<Snapshot>>,
    /// Held while the file is read or replaced and the snapshot follows it, so that snapshots
    /// appear in the order of the file's contents; never held while waiting for the home's lock, so that
    /// a stuck process cannot delay the news that a peer was removed.
    seen: Mutex<Seen>,
}

/// What the file said at some moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The document.
    pub known: KnownPeers,
    /// The authorities that count.
    pub networks: Arc<Networks>,
    /// Grows with every change of the others, within one process.
    pub epoch: u64,
    /// Whether `known` and `networks` are what their files say.
    pub health: Health,
}

/// Whether a snapshot is what the file says.
#[derive(Clone, Debug)]
pub enum Health {
    /// It is.
    Fresh,
    /// A file cannot be relied upon any more; this is what it said before.
    LastGood {
        /// What is wrong with which of them.
        error: Arc<StoreError>,
    },
    /// `known_peers` is gone; this is what it said before.
    Missing,
}

/// One change, and what the audit log says about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The change.
    pub edit: Edit,
    /// For the log.
    pub deed: Deed,
}

/// Why a change did not happen.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The file could not be read or made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The change does not fit what the file says.
    #[error(transparent)]
    Edit(#[from] EditError),
}

enum Content {
    /// There is no file.
    Absent,
    /// It is what the snapshot says.
    Same,
    /// It says something else.
    Changed(KnownPeers),
}

/// A content that was read, and what became of it. The same bytes are not parsed twice, which a
/// stranger could otherwise make us do with every connection that wants something recorded.
struct Said {
    bytes: Vec<u8>,
    /// Why it is not what the snapshot says.
    error: Option<StoreError>,
}

struct Seen {
    /// What the file looked like when it was read last, well or badly.
    stamp: Option<Stamp>,
    /// What it said then.
    said: Option<Said>,
    /// There was a file, so there must be one.
    present: bool,
    /// Whether `known_peers` can be relied upon.
    known: Health,
    /// Whether `networks` can be relied upon.
    networks: Health,
}

impl PeerStore {
    /// Reads the files of `home`; changes are logged on behalf of `command`. A home that never had
    /// them knows nobody.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if one of them was there before; otherwise when it cannot be relied upon or
    /// understood. There is no last good copy at the start, so all of these are final.
    pub fn open(home: &Home, command: &str) -> Result<Self, StoreError> {
        let snapshot = Arc::new(Snapshot {
            known: KnownPeers::empty(),
            networks: Arc::new(Networks::empty()),
            epoch: 0,
            health: Health::Fresh,
        });
        let store = Self {
            home: home.clone(),
            audit: AuditLog::new(home, command),
            networks: NetworkStore::new(home, command),
            current: ArcSwap::new(Arc::clone(&snapshot)),
            watchers: watch::Sender::new(snapshot),
            seen: Mutex::new(Seen {
                stamp: None,
                said: None,
                present: false,
                known: Health::Fresh,
                networks: Health::Fresh,
            }),
        };
        store.refresh(&mut store.seen())?;
        store.refresh_networks(&mut store.seen())?;
        store.mark_if_unmarked();
        store.networks.mark();
        Ok(store)
    }

    /// Opens the store of a home whose file is missing, beginning with an empty one: every peer must
    /// be recognised anew. A file that is there is opened as it is.
    ///
    /// # Errors
    /// As [`PeerStore::open`], and when the new file cannot be made durable.
    pub fn reinitialise(home: &Home, command: &str) -> Result<Self, StoreError> {
        match Self::open(home, command) {
            Err(StoreError::Missing { .. }) => {}
            outcome => return outcome,
        }
        let lock = home.lock()?;
        // Unless somebody has restored it in the meantime.
        if home.read(HomeFile::KnownPeers)?.is_none() {
            let deed = Deed {
                action: "reinitialise".into(),
                peer: None,
                detail: "known_peers was missing and begins anew".into(),
            };
            AuditLog::new(home, command).append(&lock, &deed)?;
            let empty = KnownPeers::empty().to_text();
            home.replace(&lock, HomeFile::KnownPeers, empty.as_bytes())?;
        }
        drop(lock);
        Self::open(home, command)
    }

    /// What the file said when it was read last.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The authorities, for changing them. The snapshot follows within twice [`POLL_EVERY`], or at
    /// once with [`PeerStore::poll_changes`].
    pub fn networks(&self) -> &NetworkStore {
        &self.networks
    }

    /// Follows the snapshots. A slow follower sees the newest one and may miss some before it.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.watchers.subscribe()
    }

    /// The file, for messages that name a line in it.
    pub fn path(&self) -> PathBuf {
        self.home.path(HomeFile::KnownPeers)
    }

    /// Takes one decision on what the file says now, and makes the change that follows from it, if
    /// any, durable before returning. No other process of ours changes the file in between; if an
    /// editor does, which knows no lock, `decide` is asked again about what the file then says, up to
    /// [`ATTEMPTS`] times. `decide` must not use this store.
    ///
    /// The gate uses this for first use: of two processes that meet one name with two keys, the
    /// second one's decision sees the first one's entry.
    ///
    /// # Errors
    /// When the file cannot be locked, read, changed or made durable. The caller then refuses.
    /// [`StoreError::FirstUsesFull`] and [`StoreError::FirstUseReserve`] when the change would add
    /// an entry of first use, or follow a peer to its next key, and there is no room for it; nothing is
    /// written or logged then.
    pub fn decide_and_record<D>(
        &self,
        mut decide: impl FnMut(&KnownPeers) -> (D, Option<Change>),
    ) -> Result<(D, Arc<Snapshot>), UpdateError> {
        self.transact(|known| Ok::<_, UpdateError>(decide(known)))
    }

    /// Makes one change, worked out from what the file says now, durable before returning. As in
    /// [`PeerStore::decide_and_record`], `change` may be asked again.
    ///
    /// # Errors
    /// What `change` says; or when the file cannot be locked, read, changed or made durable.
    pub fn update<E: From<StoreError> + From<EditError>>(
        &self,
        mut change: impl FnMut(&KnownPeers) -> Result<Change, E>,
    ) -> Result<Arc<Snapshot>, E> {
        let ((), snapshot) = self.transact(|known| Ok::<_, E>(((), Some(change(known)?))))?;
        Ok(snapshot)
    }

    /// Looks at the file, and reads it if it looks different from when it was read last. Returns the
    /// snapshot that is current afterwards; what is wrong with the file is in its [`Health`].
    ///
    /// For some seconds after a change another one may look the same. The file is then read at most
    /// once per [`POLL_EVERY`], so that asking at every connection costs microseconds.
    pub fn poll_changes(&self) -> Arc<Snapshot> {
        let mut seen = self.seen();
        if self.look(&seen) == Sight::Unknown {
            // The outcome, good or bad, is in the snapshot.
            drop(self.refresh(&mut seen));
        }
        drop(self.refresh_networks(&mut seen));
        self.snapshot()
    }

    /// Looks at the file every [`POLL_EVERY`], for ever. To be spawned once per process that decides.
    pub async fn reload_loop(self: Arc<Self>) -> Infallible {
        let mut ticks = tokio::time::interval(POLL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let store = Arc::clone(&self);
            let polled = tokio::task::spawn_blocking(move || store.poll_changes()).await;
            if let Err(error) = polled {
                tracing::warn!(%error, "could not look at known_peers");
            }
        }
    }

    fn transact<D, E: From<StoreError> + From<EditError>>(
        &self,
        mut decide: impl FnMut(&KnownPeers) -> Result<(D, Option<Change>), E>,
    ) -> Result<(D, Arc<Snapshot>), E> {
        let lock = self.home.lock()?;
        let mut seen = self.seen();
        let mut attempt = 1;
        loop {
            let present = self.refresh_unless_settled(&mut seen)?;
            // A change of known peers does not wait until the networks are in order.
            drop(self.refresh_networks(&mut seen));
            let before = self.snapshot();
            let (decision, change) = decide(&before.known)?;
            let Some(Change { edit, deed }) = change else {
                return Ok((decision, before));
            };
            let by_peer = ByPeer::of(&edit);
            if let Some(by_peer) = by_peer {
                by_peer.check_count(&before.known, &self.path())?;
            }
            let after = before.known.with(edit)?;
            let text = after.to_text();
            if let Some(by_peer) = by_peer {
                by_peer.check_size(text.len(), &self.path())?;
            }
            match self.install(&lock, &mut seen, present, (after, text), &deed) {
                Ok(()) => return Ok((decision, self.snapshot())),
                Err(StoreError::Edited { .. }) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn install(
        &self,
        lock: &HomeLock,
        seen: &mut Seen,
        present: Presence,
        (known, text): (KnownPeers, String),
        deed: &Deed,
    ) -> Result<(), StoreError> {
        self.audit.append(lock, deed)?;
        let path = self.path();
        let disk = self.home.disk();
        if let Err(error) =
            atomic::replace_unless_edited(disk, lock, &path, text.as_bytes(), &present)
        {
            // Whether the file is old or new, the next look at it tells.
            seen.stamp = None;
            self.audit.append_failure(lock, deed, &error);
            return Err(error);
        }
        self.mark(lock);
        // An editor may be at work already, so the next look reads the file again.
        seen.stamp = None;
        seen.said = Some(Said {
            bytes: text.into_bytes(),
            error: None,
        });
        seen.present = true;
        seen.known = Health::Fresh;
        self.publish(seen, known);
        Ok(())
    }

    fn look(&self, seen: &Seen) -> Sight {
        let look = |stamp: Stamp| stamp.look(self.home.disk(), &self.path());
        seen.stamp.map_or(Sight::Unknown, look)
    }

    /// As [`PeerStore::refresh`], without reading a file that is certainly the one that was read.
    fn refresh_unless_settled(&self, seen: &mut Seen) -> Result<Presence, StoreError> {
        match (&seen.said, &seen.stamp) {
            (Some(said), Some(stamp)) if self.look(seen) == Sight::Unchanged => {
                said.outcome().map(|()| stamp.presence())
            }
            _ => self.refresh(seen),
        }
    }

    /// Reads the file and lets the snapshot follow it. Returns the file that was read.
    fn refresh(&self, seen: &mut Seen) -> Result<Presence, StoreError> {
        let (presence, content) = match self.read(seen) {
            Ok(read) => read,
            Err(error) => {
                self.keep_last_good(seen, &error);
                return Err(error);
            }
        };
        match content {
            Content::Same => self.recovered(seen),
            Content::Changed(known) => {
                seen.known = Health::Fresh;
                self.publish(seen, known);
            }
            Content::Absent if seen.present || self.was_present() => {
                seen.present = true;
                self.gone(seen);
                return Err(StoreError::Missing { path: self.path() });
            }
            Content::Absent => self.recovered(seen),
        }
        seen.present |= presence != Presence::Absent;
        Ok(presence)
    }

    /// Reads the file. A content that was read before is not parsed again.
    fn read(&self, seen: &mut Seen) -> Result<(Presence, Content), StoreError> {
        let before = seen.stamp.take();
        let disk = self.home.disk();
        let started = disk.monotonic();
        let content = self.home.read(HomeFile::KnownPeers)?;
        let stat = content.as_ref().map(|content| &content.stat);
        seen.stamp = Some(Stamp::of(stat, before, started, disk));
        let Some(mut content) = content else {
            seen.said = None;
            return Ok((Presence::Absent, Content::Absent));
        };
        let presence = Presence::of(&content.stat);
        // Nothing in it is secret, and wiping megabytes takes time.
        let bytes = std::mem::take(&mut *content.bytes);
        if let Some(said) = seen.said.as_ref().filter(|said| said.bytes == bytes) {
            return said.outcome().map(|()| (presence, Content::Same));
        }
        let parsed = self.parse(&bytes);
        seen.said = Some(Said {
            bytes,
            error: parsed.as_ref().err().cloned(),
        });
        parsed.map(|known| (presence, Content::Changed(known)))
    }

    fn parse(&self, bytes: &[u8]) -> Result<KnownPeers, StoreError> {
        let text = std::str::from_utf8(bytes).map_err(|error| StoreError::Damaged {
            path: self.path(),
            cause: format!("byte {} is not UTF-8", error.valid_up_to()),
        })?;
        KnownPeers::parse(text).map_err(|error| StoreError::KnownPeers {
            path: self.path(),
            error: Box::new(error),
        })
    }

    /// Lets the snapshot follow the networks.
    fn refresh_networks(&self, seen: &mut Seen) -> Result<(), StoreError> {
        let current = self.snapshot();
        match self.networks.networks() {
            Ok(networks) => {
                let fresh = matches!(seen.networks, Health::Fresh);
                if !fresh || !Arc::ptr_eq(&networks, &current.networks) {
                    seen.networks = Health::Fresh;
                    self.publish_both(seen, current.known.clone(), networks);
                }
                Ok(())
            }
            Err(error) => {
                if !seen.networks.is_last_good_after(&error) {
                    let text = error.to_string();
                    tracing::warn!(error = text, "the last good copy of networks stays");
                    seen.networks = Health::last_good(&error);
                    self.publish(seen, current.known.clone());
                }
                Err(error)
            }
        }
    }

    /// The file is what the snapshot says, perhaps again.
    fn recovered(&self, seen: &mut Seen) {
        if !matches!(seen.known, Health::Fresh) {
            seen.known = Health::Fresh;
            self.publish(seen, self.snapshot().known.clone());
        }
    }

    fn gone(&self, seen: &mut Seen) {
        if !matches!(seen.known, Health::Missing) {
            let path = self.path();
            tracing::warn!(path = %path.display(), "known_peers is missing: first use is refused");
            seen.known = Health::Missing;
            self.publish(seen, self.snapshot().known.clone());
        }
    }

    fn keep_last_good(&self, seen: &mut Seen, error: &StoreError) {
        if seen.known.is_last_good_after(error) {
            return;
        }
        tracing::warn!(
            error = error.to_string(),
            "known_peers cannot be read: the last good copy stays"
        );
        seen.known = Health::last_good(error);
        self.publish(seen, self.snapshot().known.clone());
    }

    fn publish(&self, seen: &Seen, known: KnownPeers) {
        self.publish_both(seen, known, Arc::clone(&self.snapshot().networks));
    }

    fn publish_both(&self, seen: &Seen, known: KnownPeers, networks: Arc<Networks>) {
        let health = match &seen.known {
            Health::Fresh => &seen.networks,
            worse => worse,
        };
        let snapshot = Arc::new(Snapshot {
            known,
            networks,
            epoch: self.snapshot().epoch + 1,
            health: health.clone(),
        });
        self.current.store(Arc::clone(&snapshot));
        self.watchers.send_replace(snapshot);
    }

    /// Whether the file was ever there.
    fn was_present(&self) -> bool {
        let old = self.home.root().join("known_peers.old");
        [self.home.path(HomeFile::KnownPeersPresent), old]
            .iter()
            .any(|path| match self.home.disk().lstat(path) {
                Ok(_) => true,
                // Whatever cannot be told counts as yes, so that it refuses.
                Err(error) => error.kind() != io::ErrorKind::NotFound,
            })
    }

    /// Remembers that there is a file. If this fails, the next change tries again, and
    /// `known_peers.old` tells the same.
    fn mark(&self, lock: &HomeLock) {
        let marker = self.home.path(HomeFile::KnownPeersPresent);
        if self.home.disk().lstat(&marker).is_ok() {
            return;
        }
        let text = b"Without this file, a missing known_peers would be taken for a new one.\n";
        if let Err(error) = self.home.replace(lock, HomeFile::KnownPeersPresent, text) {
            tracing::debug!(%error, "could not mark that known_peers exists");
        }
    }

    /// For a file that was put there by hand, or whose first writer died right after it.
    fn mark_if_unmarked(&self) {
        let marker = self.home.path(HomeFile::KnownPeersPresent);
        if !self.seen().present || self.home.disk().lstat(&marker).is_ok() {
            return;
        }
        match self.home.lock() {
            Ok(lock) => self.mark(&lock),
            // A home that cannot be written can still be read.
            Err(error) => tracing::debug!(%error, "could not mark that known_peers exists"),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Health {
    fn last_good(error: &StoreError) -> Self {
        let error = Arc::new(error.clone());
        Self::LastGood { error }
    }

    /// Whether that is known already.
    fn is_last_good_after(&self, new: &StoreError) -> bool {
        let text = new.to_string();
        matches!(self, Self::LastGood { error } if error.to_string() == text)
    }
}

impl Said {
    fn outcome(&self) -> Result<(), StoreError> {
        self.error.clone().map_or(Ok(()), Err)
    }
}

impl fmt::Debug for PeerStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerStore({})", self.path().display())
    }
}
