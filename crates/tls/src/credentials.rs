//! What we present: two leaves signed by the identity key, one for serving and one for dialling,
//! renewed while listeners and dialers run, and the memberships of networks above them.
//!
//! Leaf keys never touch the disk: a process makes its own at start and a fresh one at every
//! renewal, so a stolen disk image holds no key that a live connection uses. Handshakes read
//! the current pair at the moment they need it; connections that are already open keep the
//! certificate they were opened with and end with it.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use comity_certs::{
    LEAF_LIFETIME, LeafRequest, Metadata, MintError, Purpose, mint_leaf, renewal_time,
};
use comity_identity::{KeyHash, NodeId, Signer, UnixTime};
use comity_keys::{KeyError, LeafKey};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use thiserror::Error;

use crate::clock::Clock;
use crate::config;
use crate::memberships::{Membership, known_to_peer, select};

/// Leaves are valid from an hour before they are made: foreign peers judge dates exactly, and
/// clocks differ. Native peers tolerate more by themselves.
const BACKDATE: Duration = Duration::from_secs(3600);

/// Pause after a failed renewal. A third of a leaf's life remains, so there is time.
const RETRY: Duration = Duration::from_secs(600);

/// Longest uninterrupted sleep until a renewal: a machine that was suspended, or whose clock was
/// set, notices within this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(600);

/// What the leaves say besides the key. All but the succession are claims, which peers show but do
/// not act on.
#[derive(Clone, Debug, Default)]
pub struct LeafProfile {
    /// DNS names, for foreign clients that check one.
    pub dns: Vec<String>,
    /// Addresses, likewise.
    pub ips: Vec<IpAddr>,
    /// Network, roles and free pairs.
    pub metadata: Metadata,
    /// The statements by which our identity key followed others, as the home keeps them; empty
    /// without any. They prove themselves: peers that were away follow them to the present key.
    pub succession: Vec<u8>,
}

/// Our identity and the current pair of leaves. Shared by every dialer and acceptor of a node.
pub struct Credentials {
    identity: Arc<dyn Signer>,
    root: Vec<u8>,
    profile: LeafProfile,
    current: ArcSwap<Presented>,
    /// Held while what is presented is replaced, so that a renewal and a new membership do not
    /// undo each other.
    replacing: Mutex<()>,
    warned: AtomicBool,
}

/// What handshakes present at some moment.
struct Presented {
    leaves: Arc<Leaves>,
    memberships: Vec<Membership>,
    /// The chains of a node that is asked for no network in particular.
    serve: Arc<CertifiedKey>,
    dial: Arc<CertifiedKey>,
    /// Whether there was no room for everything.
    incomplete: bool,
}

struct Leaves {
    serve: Leaf,
    dial: Leaf,
    renew_at: UnixTime,
}

struct Leaf {
    certificate: Vec<u8>,
    key: Arc<dyn SigningKey>,
    hash: KeyHash,
}

/// Why a pair of leaves could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// A leaf key could not be generated.
    #[error("cannot make a leaf key")]
    Key(#[from] KeyError),
    /// The certificate could not be made or signed.
    #[error("cannot make a leaf certificate")]
    Mint(#[from] MintError),
    /// The TLS library refused the key.
    #[error("the TLS library refuses the leaf key")]
    Tls(#[from] rustls::Error),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Entropy(getrandom::Error),
}

impl Credentials {
    /// Mints the first pair of leaves.
    ///
    /// `root` is the DER root certificate of `identity`. The call signs twice with the identity
    /// key, which may block on hardware.
    ///
    /// # Errors
    /// When the identity key cannot sign, or the root is not its root.
    pub fn new(
        identity: Arc<dyn Signer>,
        root: Vec<u8>,
        profile: LeafProfile,
        now: UnixTime,
    ) -> Result<Arc<Self>, CredentialsError> {
        let leaves = Leaves::mint(identity.as_ref(), &root, &profile, now)?;
        let presented = Presented::new(Arc::new(leaves), Vec::new(), &root);
        Ok(Arc::new(Self {
            identity,
            root,
            profile,
            current: ArcSwap::from_pointee(presented),
            replacing: Mutex::new(()),
            warned: AtomicBool::new(false),
        }))
    }

    /// Our root certificate, in DER.
    pub fn root(&self) -> &[u8] {
        &self.root
    }

    /// Presents these memberships in all handshakes from now on, the first ones where there is not
    /// room for all.
    ///
    /// A peer that names an authority of one of them in its handshake (RFC 8446 section 4.2.4) is
    /// shown that one first: programs that are not Comity may look at one alone. Otherwise a dialler
    /// that is asked for a network presents that one first, see
    /// [`DialRequest::network`](crate::DialRequest::network).
    pub fn set_memberships(&self, memberships: Vec<Membership>) {
        let replacing = self.replacing.lock();
        let _replacing = replacing.unwrap_or_else(PoisonError::into_inner);
        let current = self.current.load();
        if current.memberships == memberships {
            return;
        }
        let leaves = Arc::clone(&current.leaves);
        let presented = Presented::new(leaves, memberships, &self.root);
        if presented.incomplete && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                networks = presented.memberships.len(),
                "a chain has no room for all memberships: peers of the last ones may not be shown theirs"
            );
        }
        self.current.store(Arc::new(presented));
    }

    /// The networks whose memberships may be presented.
    pub fn memberships(&self) -> Vec<NodeId> {
        let current = self.current.load();
        current.memberships.iter().map(|m| m.network).collect()
    }

    /// What may be presented of one network, or of all.
    pub(crate) fn memberships_of(&self, network: Option<NodeId>) -> Vec<Membership> {
        let current = self.current.load();
        let wanted = |m: &&Membership| network.is_none_or(|network| m.network == network);
        current.memberships.iter().filter(wanted).cloned().collect()
    }

    /// Our node id.
    pub fn node_id(&self) -> NodeId {
        NodeId::of_spki(self.identity.spki())
    }

    /// The hashes of our own keys. A peer that presents one of them is our reflection.
    pub fn own_keys(&self) -> Vec<KeyHash> {
        let mut keys = vec![self.node_id().key_hash()];
        let current = self.current.load();
        keys.extend([current.leaves.serve.hash, current.leaves.dial.hash]);
        keys
    }

    /// The chain that we would present with these certificates and no others.
    pub(crate) fn chain_with(&self, membership: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let current = self.current.load();
        let mut chain = vec![current.leaves.serve.certificate.clone()];
        chain.extend_from_slice(membership);
        chain.push(self.root.clone());
        chain
    }

    /// When the current pair wants renewal: two thirds into its life, with jitter, so that
    /// machines that started together do not renew together.
    pub fn renew_at(&self) -> UnixTime {
        self.current.load().leaves.renew_at
    }

    /// Replaces the pair. Handshakes from now on present the new one; open connections are not
    /// touched. On failure the old pair stays.
    ///
    /// # Errors
    /// As [`Credentials::new`].
    pub fn renew(&self, now: UnixTime) -> Result<(), CredentialsError> {
        let leaves = Leaves::mint(self.identity.as_ref(), &self.root, &self.profile, now)?;
        let replacing = self.replacing.lock();
        let _replacing = replacing.unwrap_or_else(PoisonError::into_inner);
        let memberships = self.current.load().memberships.clone();
        let presented = Presented::new(Arc::new(leaves), memberships, &self.root);
        self.current.store(Arc::new(presented));
        Ok(())
    }

    /// Renews the pair whenever it is time. Runs until it is dropped.
    pub async fn keep_fresh(self: Arc<Self>, clock: Clock) {
        loop {
            let wait = clock.now().until(self.renew_at());
            if !wait.is_zero() {
                tokio::time::sleep(wait.min(LONGEST_SLEEP)).await;
                continue;
            }
            let renewed = tokio::task::spawn_blocking({
                let (credentials, now) = (Arc::clone(&self), clock.now());
                move || credentials.renew(now)
            });
            match renewed.await {
                Ok(Ok(())) => tracing::info!(next = %self.renew_at(), "leaf certificates renewed"),
                Ok(Err(error)) => {
                    tracing::warn!(error = %error, "leaf certificates could not be renewed");
                    tokio::time::sleep(RETRY).await;
                }
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    pub(crate) fn server_resolver(self: &Arc<Self>) -> Arc<dyn ResolvesServerCert> {
        Arc::new(Resolver(Arc::clone(self)))
    }

    /// For one dial, which is about `network`, if it is about one.
    pub(crate) fn client_resolver(
        self: &Arc<Self>,
        network: Option<NodeId>,
    ) -> Arc<dyn ResolvesClientCert> {
        Arc::new(DialResolver {
            credentials: Arc::clone(self),
            network,
        })
    }

    fn dial_chain<'h>(
        &self,
        network: Option<NodeId>,
        hints: impl Iterator<Item = &'h [u8]>,
    ) -> Arc<CertifiedKey> {
        let current = self.current.load();
        let network = known_to_peer(&current.memberships, hints).or(network);
        match network {
            Some(network) => self.chain_of(&current, &current.leaves.dial, network),
            None => Arc::clone(&current.dial),
        }
    }

    fn serve_chain<'h>(&self, hints: impl Iterator<Item = &'h [u8]>) -> Arc<CertifiedKey> {
        let current = self.current.load();
        match known_to_peer(&current.memberships, hints) {
            Some(network) => self.chain_of(&current, &current.leaves.serve, network),
            None => Arc::clone(&current.serve),
        }
    }

    /// The chain that shows this network first.
    fn chain_of(&self, presented: &Presented, leaf: &Leaf, network: NodeId) -> Arc<CertifiedKey> {
        let memberships = &presented.memberships;
        Arc::new(chain(leaf, memberships, Some(network), &self.root).0)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.node_id().short())
    }
}

impl Leaves {
    fn mint(
        identity: &dyn Signer,
        root: &[u8],
        profile: &LeafProfile,
        now: UnixTime,
    ) -> Result<Self, CredentialsError> {
        let not_before = now - BACKDATE;
        let not_after = not_before + LEAF_LIFETIME;
        let mint = |purpose| {
            let key = LeafKey::generate()?;
            let certificate = mint_leaf(
                root,
                identity,
                &LeafRequest {
                    spki: key.spki(),
                    purpose,
                    serial: random()?,
                    not_before,
                    not_after,
                    dns: &profile.dns,
                    ips: &profile.ips,
                    uris: &[],
                    metadata: &profile.metadata,
                    succession: &profile.succession,
                },
            )?;
            let pkcs8 = PrivatePkcs8KeyDer::from(key.pkcs8_der().to_vec());
            let provider = config::provider().key_provider;
            Ok::<_, CredentialsError>(Leaf {
                certificate,
                hash: KeyHash::of_spki(key.spki()),
                key: provider.load_private_key(PrivateKeyDer::Pkcs8(pkcs8))?,
            })
        };
        let (serve, dial) = (mint(Purpose::Serve)?, mint(Purpose::Dial)?);
        let jitter = f64::from(u32::from_be_bytes(random()?)) / f64::from(u32::MAX);
        Ok(Self {
            serve,
            dial,
            renew_at: renewal_time(not_before, not_after, jitter),
        })
    }
}

impl Presented {
    fn new(leaves: Arc<Leaves>, memberships: Vec<Membership>, root: &[u8]) -> Self {
        let presented = |leaf| chain(leaf, &memberships, None, root);
        let (serve, serve_incomplete) = presented(&leaves.serve);
        let (dial, dial_incomplete) = presented(&leaves.dial);
        Self {
            leaves,
            memberships,
            serve: Arc::new(serve),
            dial: Arc::new(dial),
            incomplete: serve_incomplete || dial_incomplete,
        }
    }
}

/// Leaf, memberships, own root, in the order that every verifier takes; and whether something was
/// left out.
fn chain(
    leaf: &Leaf,
    memberships: &[Membership],
    network: Option<NodeId>,
    root: &[u8],
) -> (CertifiedKey, bool) {
    let selection = select(memberships, network, &leaf.certificate, root);
    let chain = std::iter::once(leaf.certificate.as_slice())
        .chain(selection.certificates)
        .chain([root])
        .map(|der| CertificateDer::from(der.to_vec()))
        .collect();
    let certified = CertifiedKey::new(chain, Arc::clone(&leaf.key));
    (certified, selection.incomplete)
}

fn random<const N: usize>() -> Result<[u8; N], CredentialsError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(CredentialsError::Entropy)?;
    Ok(bytes)
}

/// Hands rustls the pair that is current at the moment of the handshake.
#[derive(Debug)]
struct Resolver(Arc<Credentials>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let hints = hello.certificate_authorities().unwrap_or_default();
        Some(self.0.serve_chain(hints.iter().map(AsRef::as_ref)))
    }
}

/// The same for one dial.
#[derive(Debug)]
struct DialResolver {
    credentials: Arc<Credentials>,
    network: Option<NodeId>,
}

impl ResolvesClientCert for DialResolver {
    fn resolve(&self, roots: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let hints = roots.iter().copied();
        Some(self.credentials.dial_chain(self.network, hints))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
