//! Authority ends at once: open connections follow the store and their certificates.
//!
//! Every connection that passed the gate is entered in a [`Registry`] with the question that the
//! gate asked. When the store publishes a new snapshot, the registry asks again for each
//! connection; when the answer is no, or the peer's certificate has run out, the connection's
//! streams fail from that moment and whoever waits on them is woken. The loop also looks once a
//! second, so that a clock that was set, or a machine that slept, does not prolong anything.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use comity_identity::{PeerId, UnixTime};
use comity_store::Snapshot;
use comity_trust::{Reason, Recognition, Verdict};
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;

use crate::clock::Clock;

/// How often expiry is looked at, whatever else happens.
const TICK: Duration = Duration::from_secs(1);

/// Why a connection that was accepted may not go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the connection was ended: {0}")]
pub struct Ended(pub Reason);

/// Asks the gate's question again, on the present snapshot and time.
pub(crate) type Question = Box<dyn Fn(&Snapshot, UnixTime) -> Verdict + Send + Sync>;

/// What the application granted on the strength of the recognition, asked again as well.
pub(crate) type Rule = Box<dyn Fn(&Recognition) -> Result<(), Reason> + Send + Sync>;

/// The open connections of a node.
#[derive(Clone, Default)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    sessions: Mutex<HashMap<u64, Weak<Session>>>,
    next: AtomicU64,
}

/// One connection that passed the gate.
pub(crate) struct Session {
    id: u64,
    shared: Weak<Shared>,
    peer: PeerId,
    question: Question,
    rule: OnceLock<Rule>,
    /// As the question was answered last: what the peer is a member of changes while it is
    /// connected.
    recognition: watch::Sender<Arc<Recognition>>,
    /// Seconds since 1970. Only ever earlier: an entry that was given an end while the connection
    /// was open counts, and nothing prolongs a connection beyond its certificate.
    ends: AtomicU64,
    ended: OnceLock<Ended>,
    reading: AtomicWaker,
    writing: AtomicWaker,
    gone: Notify,
}

/// Learns when a connection may not go on, beside whoever reads and writes it.
///
/// A task that waits for something else than the peer, such as a backend that does not read, is not
/// woken by the stream's own end: it must wait for this as well, and let go of the stream.
#[derive(Clone, Debug)]
pub struct EndWatch(Arc<Session>);

impl EndWatch {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self(session)
    }

    /// Waits until the connection may not go on, and says why.
    pub async fn ended(&self) -> Ended {
        loop {
            let gone = self.0.gone.notified();
            tokio::pin!(gone);
            // Registered before the look: an end between the two still wakes us.
            gone.as_mut().enable();
            if let Some(ended) = self.0.ended() {
                return ended;
            }
            gone.await;
        }
    }
}

/// How the peer of an open connection is recognised, at every moment. What it is granted and a
/// member of changes while it is connected.
#[derive(Clone, Debug)]
pub struct Recognised(watch::Receiver<Arc<Recognition>>);

impl Recognised {
    /// How it is recognised now.
    pub fn now(&self) -> Arc<Recognition> {
        Arc::clone(&self.0.borrow())
    }

    /// Waits until that changes. For ever, once the connection is gone.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl Registry {
    /// An empty registry. Connections follow the store only while [`Registry::run`] runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many connections are open.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether no connection is open.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Enforces every change of the store and every expiry on the open connections. Runs until
    /// the store is gone.
    pub async fn run(self, mut snapshots: watch::Receiver<Arc<Snapshot>>, clock: Clock) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let (registry, now) = (self.clone(), clock.now());
                    let snapshot = Arc::clone(&snapshots.borrow_and_update());
                    // Paths below a CA are verified again, which costs signatures.
                    let checked = tokio::task::spawn_blocking(move || registry.recheck(&snapshot, now));
                    if checked.await.is_err() {
                        // Deny on error: a check that died ends what it was to check.
                        self.end_all(Reason::StoreError);
                    }
                }
                _ = tick.tick() => self.expire(clock.now()),
            }
        }
    }

    /// Asks the question of every open connection again.
    pub fn recheck(&self, snapshot: &Snapshot, now: UnixTime) {
        for session in self.open() {
            if let Err(reason) = session.ask(snapshot, now) {
                session.end(reason);
            }
        }
    }

    /// Ends the connections whose certificate has run out.
    pub fn expire(&self, now: UnixTime) {
        for session in self.open() {
            if session.ends.load(Ordering::Acquire) < now.as_secs() {
                session.end(Reason::Expired);
            }
        }
    }

    fn end_all(&self, reason: Reason) {
        for session in self.open() {
            session.end(reason);
        }
    }

    pub(crate) fn enter(&self, recognition: &Recognition, question: Question) -> Arc<Session> {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let session = Arc::new(Session {
            id,
            shared: Arc::downgrade(&self.shared),
            peer: recognition.peer,
            question,
            rule: OnceLock::new(),
            recognition: watch::Sender::new(Arc::new(recognition.clone())),
            ends: AtomicU64::new(recognition.ends.as_secs()),
            ended: OnceLock::new(),
            reading: AtomicWaker::new(),
            writing: AtomicWaker::new(),
            gone: Notify::new(),
        });
        self.lock().insert(id, Arc::downgrade(&session));
        session
    }

    fn open(&self) -> Vec<Arc<Session>> {
        self.lock().values().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Weak<Session>>> {
        self.shared
            .sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry({} open)", self.len())
    }
}

impl Session {
    /// Binds what the application granted to the connection. The first rule stays.
    pub(crate) fn bind(&self, rule: Rule) {
        drop(self.rule.set(rule));
    }

    /// Whether the connection would still be accepted.
    pub(crate) fn ask(&self, snapshot: &Snapshot, now: UnixTime) -> Result<(), Reason> {
        match (self.question)(snapshot, now) {
            Verdict::Accept(recognition) => {
                let ends = recognition.ends.as_secs();
                self.ends.fetch_min(ends, Ordering::AcqRel);
                let ruled = self.rule.get().map_or(Ok(()), |rule| rule(&recognition));
                self.recognition.send_if_modified(|known| {
                    let changed = **known != recognition;
                    *known = Arc::new(recognition);
                    changed
                });
                ruled
            }
            Verdict::Refuse(refusal) => Err(refusal.reason),
        }
    }

    pub(crate) fn end(&self, reason: Reason) {
        if self.ended.set(Ended(reason)).is_ok() {
            tracing::info!(peer = %self.peer.short(), reason = reason.token(), "connection ended");
            self.reading.wake();
            self.writing.wake();
            self.gone.notify_waiters();
        }
    }

    pub(crate) fn recognised(&self) -> Recognised {
        Recognised(self.recognition.subscribe())
    }

    pub(crate) fn ended(&self) -> Option<Ended> {
        self.ended.get().copied()
    }

    pub(crate) fn watch_reading(&self, waker: &std::task::Waker) {
        self.reading.register(waker);
    }

    pub(crate) fn watch_writing(&self, waker: &std::task::Waker) {
        self.writing.register(waker);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared
                .sessions
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&self.id);
        }
    }
}
