//! What every dialer and acceptor of one node shares.

use std::sync::{Arc, OnceLock};

use comity_certs::Anchor;
use comity_store::{Home, Invitations, PeerStore, Pending, Snapshot, StoreError};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::credentials::Credentials;
use crate::session::Registry;

/// A node's side of every connection: its credentials, its memory, its open connections and its
/// clock. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) store: Arc<PeerStore>,
    pub(crate) registry: Registry,
    pub(crate) clock: Clock,
    pub(crate) invitations: Arc<Invitations>,
    pub(crate) pending: Arc<Pending>,
    roots: Roots,
}

/// Who may vouch for names besides the CAs listed in `known_peers`.
#[derive(Clone, Debug)]
enum Roots {
    /// The system's, read at the first question that needs them.
    System(Arc<OnceLock<Vec<Anchor>>>),
    /// These and no others.
    Given(Arc<Vec<Anchor>>),
}

impl Endpoint {
    /// An endpoint on the machine's clock, with the system's roots.
    ///
    /// Open connections follow the store, and leaves are renewed, only while the tasks of
    /// [`Endpoint::upkeep`] run. A process that makes a single short connection can do without.
    ///
    /// `command` stands in the audit log beside what this endpoint changes.
    ///
    /// # Errors
    /// When what the home remembers cannot be relied upon.
    pub fn open(
        home: &Home,
        credentials: Arc<Credentials>,
        command: &str,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            credentials,
            store: Arc::new(PeerStore::open(home, command)?),
            invitations: Arc::new(Invitations::new(home, command)),
            pending: Arc::new(Pending::new(home, command)),
            registry: Registry::new(),
            clock: Clock::system(),
            roots: Roots::System(Arc::default()),
        })
    }

    /// The same endpoint on another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The same endpoint with these roots instead of the system's.
    #[must_use]
    pub fn with_roots(mut self, roots: Vec<Anchor>) -> Self {
        self.roots = Roots::Given(Arc::new(roots));
        self
    }

    /// Our credentials.
    pub fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    /// What we remember.
    pub fn store(&self) -> &Arc<PeerStore> {
        &self.store
    }

    /// Invitations we gave out.
    pub fn invitations(&self) -> &Arc<Invitations> {
        &self.invitations
    }

    /// Who waits for approval.
    pub fn pending(&self) -> &Arc<Pending> {
        &self.pending
    }

    /// The open connections.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Starts the tasks that keep the endpoint honest: live reload of the store, enforcement on
    /// open connections, renewal of leaves. Dropping the set stops them.
    pub fn upkeep(&self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let store = Arc::clone(&self.store);
        tasks.spawn(async move { match store.reload_loop().await {} });
        let (registry, snapshots) = (self.registry.clone(), self.store.watch());
        tasks.spawn(registry.run(snapshots, self.clock.clone()));
        tasks.spawn(Arc::clone(&self.credentials).keep_fresh(self.clock.clone()));
        tasks
    }

    /// What the store says now, whether or not [`Endpoint::upkeep`] runs: a process that dials twice
    /// does not judge the second peer by what it remembered at the first.
    pub(crate) async fn latest(&self) -> Arc<Snapshot> {
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || store.poll_changes()).await {
            Ok(snapshot) => snapshot,
            // The gate looks again, and refuses when it cannot.
            Err(_) => self.store.snapshot(),
        }
    }

    /// The roots that vouch for public names. Reads and parses the system's at the first call,
    /// which takes some ten milliseconds.
    pub fn roots(&self) -> &[Anchor] {
        match &self.roots {
            Roots::Given(roots) => roots,
            Roots::System(roots) => roots.get_or_init(system_roots),
        }
    }
}

/// The system's CAs. One that cannot be used is left out, as every TLS library does: it can only
/// make us refuse more.
fn system_roots() -> Vec<Anchor> {
    let loaded = rustls_native_certs::load_native_certs();
    for error in &loaded.errors {
        tracing::debug!(error = %error, "a system root could not be read");
    }
    loaded
        .certs
        .iter()
        .filter_map(|der| Anchor::from_der(der).ok())
        .collect()
}
