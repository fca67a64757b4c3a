//! What every dialer and acceptor of one node shares.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use comity_certs::{Anchor, SignatureCache};
use comity_identity::NodeId;
use comity_record::{Bundle, FollowError};
use comity_store::{
    Home, Invitations, NetworkError, NetworkStore, PeerStore, Pending, Snapshot, StoreError,
    Updated,
};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::credentials::Credentials;
use crate::limits::Subscribers;
use crate::memberships::Membership;
use crate::network::{Grant, Holding, Holdings, Issuer, Issuers, VerifiedGrant};
use crate::session::Registry;

/// How often memberships are looked at although nothing changed: one may be over.
const MEMBERSHIPS_EVERY: Duration = Duration::from_secs(3600);

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
    pub(crate) issuer: Issuers,
    pub(crate) holdings: Arc<Holdings>,
    pub(crate) subscribers: Subscribers,
    pub(crate) signatures: Arc<SignatureCache>,
    granting: Arc<Mutex<()>>,
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
            issuer: Issuers::default(),
            holdings: Arc::default(),
            subscribers: Subscribers::default(),
            signatures: Arc::default(),
            granting: Arc::default(),
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

    /// The same endpoint, which makes peers members of networks: invitations to a network are
    /// redeemed, and memberships renewed. Without an issuer, neither is.
    #[must_use]
    pub fn with_issuer(mut self, issuer: Arc<dyn Issuer>) -> Self {
        self.issuer = Issuers::of(issuer);
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

    /// The networks that we know.
    pub fn networks(&self) -> &NetworkStore {
        self.store.networks()
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
    /// open connections, renewal of leaves, memberships. Dropping the set stops them.
    pub fn upkeep(&self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let store = Arc::clone(&self.store);
        tasks.spawn(async move { match store.reload_loop().await {} });
        let (registry, snapshots) = (self.registry.clone(), self.store.watch());
        tasks.spawn(registry.run(snapshots, self.clock.clone()));
        tasks.spawn(Arc::clone(&self.credentials).keep_fresh(self.clock.clone()));
        tasks.spawn(self.clone().follow_memberships());
        tasks
    }

    /// Takes a bundle that somebody showed, whoever it was: it proves itself, but does not keep us
    /// from asking for a newer one. When this returns, decisions rest on it. Blocks.
    ///
    /// # Errors
    /// See [`NetworkStore::hear_bundle`].
    pub fn hear_bundle(&self, network: &NodeId, bytes: &[u8]) -> Result<Updated, NetworkError> {
        let snapshot = self.store.snapshot();
        if let Some(held) = snapshot.networks.get(network).map(|a| &a.bundle) {
            if held.bytes() == bytes {
                return Ok(Updated::Same);
            }
            // What is older costs nobody the lock of the home.
            let offered = Bundle::parse_of(network, bytes).map_err(|error| {
                let (network, error) = (*network, Box::new(error));
                NetworkError::Bundle { network, error }
            })?;
            if let Err(error @ FollowError::Rollback { .. }) = Bundle::follow(held, &offered) {
                let (network, error) = (*network, Box::new(error));
                return Err(NetworkError::Follow { network, error });
            }
        }
        let heard = self
            .networks()
            .hear_bundle(network, bytes, self.clock.now());
        self.raise_alarm(network, &heard);
        self.store.poll_changes();
        heard
    }

    /// A fork must wake whoever reads the log: once, and not as often as a member shows it.
    fn raise_alarm(&self, network: &NodeId, taken: &Result<Updated, NetworkError>) {
        let snapshot = self.store.snapshot();
        let known = snapshot
            .networks
            .get(network)
            .is_some_and(|a| a.forked.is_some());
        if let (Err(NetworkError::Frozen { since, .. }), false) = (taken, known) {
            tracing::error!(
                network = %network, %since,
                "two bundles of a network contradict each other: somebody else has a key of its authority"
            );
        }
    }

    /// Takes the bundle that was given where we asked for it. When this returns, decisions rest on
    /// it. Blocks.
    ///
    /// # Errors
    /// See [`NetworkStore::update_bundle`].
    pub fn take_bundle(&self, network: &NodeId, bytes: &[u8]) -> Result<Updated, NetworkError> {
        let taken = self
            .networks()
            .update_bundle(network, bytes, self.clock.now());
        self.raise_alarm(network, &taken);
        // Also what was refused may have withdrawn something.
        self.store.poll_changes();
        taken
    }

    /// The bundle of a network that we hold, as decisions see it.
    pub fn holding(&self, network: &NodeId) -> Option<Holding> {
        self.holdings.get(network, &self.store.snapshot())
    }

    /// Keeps a membership that was verified, in place of the one that we have of that network, and
    /// presents it from now on. Blocks.
    ///
    /// # Errors
    /// [`NetworkError::MembershipRefused`] for one that is older than what we have or does not hold by
    /// the newest bundle; [`NetworkError::Frozen`] while nobody can tell whose word it is. Or when the
    /// network is not known here, or the membership cannot be made durable.
    pub fn take_grant(&self, verified: &VerifiedGrant) -> Result<(), NetworkError> {
        let Grant {
            network,
            membership,
            bundle,
        } = verified.grant();
        // One at a time: of two, the newer stays.
        let granting = self.granting.lock().unwrap_or_else(PoisonError::into_inner);
        match self.take_bundle(network, bundle) {
            // The newer one that we hold decides about the membership.
            Ok(_) | Err(NetworkError::Follow { .. }) => {}
            Err(error) => return Err(error),
        }
        let unknown = || NetworkError::Unknown(*network);
        let held = self.networks().find(network)?.ok_or_else(unknown)?;
        let networks = self.networks().networks()?;
        let authority = networks.get(network).ok_or_else(unknown)?;
        if let Some(since) = authority.forked {
            let network = *network;
            return Err(NetworkError::Frozen { network, since });
        }
        let (credentials, now) = (&self.credentials, self.clock.now());
        verified
            .follows(&held.membership, authority, credentials, now)
            .map_err(|error| NetworkError::MembershipRefused {
                network: *network,
                cause: error.to_string(),
            })?;
        self.networks()
            .set_membership(network, membership.clone())?;
        drop(granting);
        self.present_memberships()
    }

    /// Presents the memberships that the home has. [`Endpoint::upkeep`] does it whenever they
    /// change; whoever does without calls it once. Blocks.
    ///
    /// # Errors
    /// When they cannot be read; what is presented then stays.
    pub fn present_memberships(&self) -> Result<(), NetworkError> {
        let (node, now) = (self.credentials.node_id(), self.clock.now());
        let records = self.networks().list()?;
        let memberships = records.iter().filter_map(|record| {
            let (network, standing) = (record.network, record.standing);
            Membership::of(network, standing, &record.membership, &node, now)
        });
        self.credentials.set_memberships(memberships.collect());
        Ok(())
    }

    /// Presents the memberships again whenever what is known of networks changes, and now and then,
    /// because they end. Runs until the store is gone.
    async fn follow_memberships(self) {
        let mut snapshots = self.store.watch();
        loop {
            let endpoint = self.clone();
            let presented = tokio::task::spawn_blocking(move || endpoint.present_memberships());
            match presented.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "memberships cannot be read"),
                Err(error) => tracing::warn!(%error, "memberships cannot be read"),
            }
            let before = Arc::clone(&snapshots.borrow_and_update().networks);
            let changed = async {
                while snapshots.changed().await.is_ok() {
                    if !Arc::ptr_eq(&before, &snapshots.borrow_and_update().networks) {
                        return;
                    }
                }
                std::future::pending().await
            };
            drop(tokio::time::timeout(MEMBERSHIPS_EVERY, changed).await);
        }
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
