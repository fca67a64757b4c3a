//! Nodes with everything that a node has: keys, home, endpoint, clock.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use comity_certs::Anchor;
use comity_identity::{Algorithm, NodeId, PeerId, SignError, Signer, UnixTime};
use comity_record::SuccessionChain;
use comity_store::disk::{Disk, OsDisk};
use comity_store::{Home, HomeFile};
use comity_tls::{
    AcceptError, Acceptor, AcceptorConfig, Clock, Connection, Credentials, DialError, DialRequest,
    Dialer, Endpoint, LeafProfile, PeerInfo, PeerStream, Wish,
};
use comity_trust::{Expectation, HEADER, Mode, Name, Target};
use data_encoding::BASE64;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};

use crate::certificates::Node;

/// The moment at which every machine's clock stands first: a day after everything was minted.
pub const NOW: UnixTime = UnixTime::from_secs(1_772_323_200 + 24 * 3600);

/// Where connections over pipes seem to come from.
pub const CALLER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 4711);

/// Where they seem to go.
pub const LISTENER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 7117);

/// Room in a pipe: more than any handshake has in flight.
const PIPE: usize = 256 * 1024;

/// A clock that stands until it is set.
#[derive(Clone, Debug)]
pub struct HandClock(Arc<AtomicU64>);

impl HandClock {
    /// Stands at `time`.
    pub fn at(time: UnixTime) -> Self {
        Self(Arc::new(AtomicU64::new(time.as_secs())))
    }

    /// Puts it to `time`.
    pub fn set(&self, time: UnixTime) {
        self.0.store(time.as_secs(), Ordering::Release);
    }

    /// Moves it on.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), Ordering::AcqRel);
    }

    /// For an endpoint.
    pub fn clock(&self) -> Clock {
        let hand = self.clone();
        Clock::new(move || UnixTime::from_secs(hand.0.load(Ordering::Acquire)))
    }
}

/// A node on a machine of its own.
pub struct Machine {
    /// Its keys and further certificates.
    pub node: Arc<Node>,
    /// Its clock.
    pub clock: HandClock,
    /// Its home.
    pub home: Home,
    /// Its side of every connection.
    pub endpoint: Endpoint,
    folder: Arc<TempDir>,
}

/// A node's identity key, shared with its [`Credentials`].
struct Identity(Arc<Node>);

impl Signer for Identity {
    fn algorithm(&self) -> Algorithm {
        self.0.identity.algorithm()
    }

    fn spki(&self) -> &[u8] {
        self.0.identity.spki()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.0.identity.sign(message)
    }
}

impl Machine {
    /// A node that knows nobody.
    pub fn new() -> Self {
        Self::on(Arc::new(OsDisk))
    }

    /// A node that knows whom these lines of `known_peers` say.
    pub fn knowing(lines: &str) -> Self {
        let machine = Self::new();
        machine.write_known(lines);
        machine.restarted()
    }

    /// A node whose home is on a disk with faults.
    pub fn on(disk: Arc<dyn Disk>) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("a folder"));
        let home = Home::create_on(disk, &folder.path().join("home")).expect("a home");
        Self::start(Arc::new(Node::new()), HandClock::at(NOW), home, folder)
    }

    /// The same node after its process was started anew.
    pub fn restarted(&self) -> Self {
        let (node, folder) = (Arc::clone(&self.node), Arc::clone(&self.folder));
        Self::start(node, self.clock.clone(), self.home.clone(), folder)
    }

    fn start(node: Arc<Node>, clock: HandClock, home: Home, folder: Arc<TempDir>) -> Self {
        let credentials = Credentials::new(
            Arc::new(Identity(Arc::clone(&node))),
            node.root.clone(),
            LeafProfile::default(),
            clock.clock().now(),
        );
        let endpoint = Endpoint::open(&home, credentials.expect("sound keys"), "test")
            .expect("a sound home")
            .with_clock(clock.clock())
            .with_roots(Vec::new());
        Self {
            node,
            clock,
            home,
            endpoint,
            folder,
        }
    }

    /// The same machine, which takes these CAs for those of the system.
    #[must_use]
    pub fn with_roots(mut self, roots: Vec<Anchor>) -> Self {
        self.endpoint = self.endpoint.with_roots(roots);
        self
    }

    /// The same machine, which tells in its leaves how it came by its key.
    #[must_use]
    pub fn stapling(mut self, history: &SuccessionChain) -> Self {
        let profile = LeafProfile {
            succession: history.encode(),
            ..LeafProfile::default()
        };
        let (identity, root) = (Identity(Arc::clone(&self.node)), self.node.root.clone());
        let now = self.clock.clock().now();
        let credentials = Credentials::new(Arc::new(identity), root, profile, now);
        self.endpoint = Endpoint::open(&self.home, credentials.expect("sound keys"), "test")
            .expect("a sound home")
            .with_clock(self.clock.clock())
            .with_roots(Vec::new());
        self
    }

    /// Its id.
    pub fn id(&self) -> NodeId {
        self.node.id()
    }

    /// Its dialer.
    pub fn dialer(&self) -> Dialer {
        Dialer::new(self.endpoint.clone())
    }

    /// An acceptor of it, with default limits.
    pub fn acceptor(&self, mode: Mode) -> Acceptor {
        let config = AcceptorConfig {
            mode,
            ..AcceptorConfig::default()
        };
        Acceptor::new(self.endpoint.clone(), config)
    }

    /// Replaces `known_peers` as an editor does: a new file under the old name.
    pub fn write_known(&self, lines: &str) {
        let path = self.home.path(HomeFile::KnownPeers);
        let edited = path.with_extension("edited");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&edited)
            .expect("a writable home");
        file.write_all(format!("{HEADER}\n{lines}").as_bytes())
            .expect("written");
        fs::rename(&edited, &path).expect("renamed");
    }

    /// What `known_peers` says, or nothing when there is none.
    pub fn known(&self) -> String {
        fs::read_to_string(self.home.path(HomeFile::KnownPeers)).unwrap_or_default()
    }

    /// Everything it remembers: each file of its home with its content. The lock is no memory.
    pub fn memory(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        read_below(self.home.root(), &mut files);
        files.retain(|path, content| !(path.ends_with("lock") || content.is_empty()));
        files
    }

    /// Whether the file of the queue holds this text.
    pub fn waits(&self, text: &str) -> bool {
        fs::read_to_string(self.home.path(HomeFile::Pending)).is_ok_and(|file| file.contains(text))
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

fn read_below(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_below(&path, files);
        } else {
            let content = fs::read(&path).expect("readable");
            files.insert(path, content);
        }
    }
}

/// One line that pins `peer`.
pub fn pin_line(side: &str, name: &str, peer: PeerId, attributes: &str) -> String {
    let kind = match peer {
        PeerId::Node(_) => "node",
        PeerId::Key(_) => "key",
    };
    format!("{side} {name} {kind} {} {attributes}\n", peer.key_hash())
}

/// One line that lists a CA.
pub fn anchor_line(side: &str, names: &str, authority: &[u8], attributes: &str) -> String {
    let mut line = format!("@ca {side} {names} ca ");
    write!(line, "{} {attributes}", BASE64.encode(authority)).expect("a String");
    line.push('\n');
    line
}

/// Dials whoever answers at a `host:port`, or the peer of a label.
pub fn by_name(name: &str, mode: Mode) -> DialRequest {
    let name = Name::parse(name).expect("a name");
    let expectation = match name.is_label() {
        true => Expectation {
            name: Some(name),
            ..Expectation::default()
        },
        false => Target::Address(name).expectation(),
    };
    request(expectation, mode)
}

/// Dials the peer of this id.
pub fn by_id(id: PeerId, mode: Mode) -> DialRequest {
    let expectation = Expectation {
        id: Some(id),
        ..Expectation::default()
    };
    request(expectation, mode)
}

fn request(expectation: Expectation, mode: Mode) -> DialRequest {
    DialRequest::new(expectation, mode, Wish::Service(None))
}

/// Both ends of one connection between a dialer and an acceptor.
pub struct Meeting<IO = DuplexStream> {
    /// What the dialer came to.
    pub dialled: Result<Connection<IO>, DialError>,
    /// What the acceptor came to.
    pub accepted: Result<(PeerStream<IO>, PeerInfo), AcceptError>,
}

/// Connects the two through a pipe. Whoever is recognised is accepted.
pub async fn meet(dialer: &Dialer, request: DialRequest, acceptor: &Acceptor) -> Meeting {
    let (near, far) = tokio::io::duplex(PIPE);
    meet_over(dialer, near, request, acceptor, far).await
}

/// Connects the two over transports that lead to each other.
pub async fn meet_over<IO>(
    dialer: &Dialer,
    near: IO,
    request: DialRequest,
    acceptor: &Acceptor,
    far: IO,
) -> Meeting<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (dialled, accepted) = in_time(async {
        tokio::join!(
            dialer.handshake(near, Some(LISTENER), request),
            accepting(acceptor, far)
        )
    })
    .await;
    Meeting { dialled, accepted }
}

/// What a test waits for, with an end: where something is broken, it fails instead of hanging.
pub async fn in_time<T>(work: impl Future<Output = T>) -> T {
    // Longer than every timeout that is tested.
    const PATIENCE: Duration = Duration::from_secs(60);
    let outcome = tokio::time::timeout(PATIENCE, work).await;
    outcome.unwrap_or_else(|_| panic!("nothing happened in {PATIENCE:?}"))
}

/// Accepts whoever is recognised.
pub async fn accepting<IO>(
    acceptor: &Acceptor,
    io: IO,
) -> Result<(PeerStream<IO>, PeerInfo), AcceptError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let incoming = acceptor.accept(io, Some(CALLER)).await?;
    incoming.accept(|_| Ok(())).await
}

impl<IO> Meeting<IO> {
    /// Both ends, where both came to something.
    ///
    /// # Panics
    /// When one did not.
    pub fn open(self) -> (Connection<IO>, PeerStream<IO>, PeerInfo) {
        let dialled = self.dialled.unwrap_or_else(|error| panic!("{error}"));
        let (stream, peer) = self.accepted.unwrap_or_else(|error| panic!("{error}"));
        (dialled, stream, peer)
    }
}

/// The reason for which a dialer refused.
///
/// # Panics
/// When it did anything else.
pub fn dial_reason<T>(outcome: Result<T, DialError>) -> comity_trust::Reason {
    match outcome {
        Err(DialError::Refused { refusal, .. }) => refusal.reason,
        Err(DialError::BadChain(error)) => comity_trust::Reason::from(&error),
        Err(error) => panic!("not refused but failed: {error}"),
        Ok(_) => panic!("not refused"),
    }
}

/// The reason for which an acceptor refused.
///
/// # Panics
/// When it did anything else.
pub fn accept_reason<T>(outcome: Result<T, AcceptError>) -> comity_trust::Reason {
    match outcome {
        Err(AcceptError::Refused { reason, .. }) => reason,
        Err(AcceptError::BadChain(error)) => comity_trust::Reason::from(&error),
        Err(error) => panic!("not refused but failed: {error}"),
        Ok(_) => panic!("not refused"),
    }
}
