//! The exchange over real connections: bytes, the store and the clock.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use comity_certs::PresentedChain;
use comity_identity::{Fingerprint, NodeId};
use comity_record::{FollowError, SuccessionChain};
use comity_store::{NetworkError, Snapshot};
use comity_trust::{Reason, Recognition};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::acceptor::{AcceptError, Incoming};
use crate::dialer::Connection;
use crate::endpoint::Endpoint;
use crate::frame::{self, FrameError};
use crate::memberships::Membership;
use crate::network::exchange::{Event, Exchange, Input, Violation};
use crate::network::grant::{GrantError, VerifiedGrant};
use crate::network::wire::Grant;
use crate::session::{EndWatch, Ended, Recognised};
use crate::stream::PeerStream;

/// How often an issuer is asked whether a membership wants renewal, while the peer stays and the keys
/// of the network are the same.
const RENEWAL_EVERY: Duration = Duration::from_secs(3600);

/// Bytes read at once: a frame.
const READ: usize = 16 * 1024;

/// How long the last bytes of a connection that we leave may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// How an exchange of bundles came to a good end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Farewell {
    /// The peer closed.
    Closed,
    /// We presented another membership when we dialled than we would now, and closed. What the peer
    /// tells us depends on what we presented: whoever dials again at once misses nothing.
    Renewed,
}

/// Why an exchange of bundles ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[source] io::Error),
    /// Something that is no frame.
    #[error("the peer broke the protocol: {0}")]
    Frame(#[from] FrameError),
    /// Frames that do not belong there.
    #[error("the peer broke the protocol: {0}")]
    Violation(Violation),
    /// The peer's authority ended.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// A bundle that does not hold.
    #[error("the peer sent a bundle of {} that does not hold: {cause}", network.short())]
    Bundle {
        /// Of which network it is said to be.
        network: NodeId,
        /// What is wrong with it.
        cause: String,
    },
    /// A membership that does not hold.
    #[error("the peer sent a membership that does not hold: {0}")]
    Grant(#[from] GrantError),
    /// It could not be remembered.
    #[error("cannot remember it: {0}")]
    Store(String),
}

impl From<io::Error> for ExchangeError {
    /// A stream that ended says so inside.
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|e| e.downcast_ref::<Ended>()) {
            Some(ended) => Self::Ended(*ended),
            None => Self::Io(error),
        }
    }
}

impl<IO> Incoming<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    /// Answers a request for the sub-protocol `network`: ACCEPT to a member of one of our networks,
    /// as long as there is a seat, and then exchanges bundles until the connection ends.
    ///
    /// Somebody who is no member, but is known to us, is accepted where there is an
    /// [`Issuer`](crate::network::Issuer): it may have a new key, or a membership that is over.
    ///
    /// # Errors
    /// Outside, as [`Incoming::accept`]; inside, why the exchange ended. `Ok(Ok(()))` when the peer
    /// closed.
    pub async fn exchange_bundles(self) -> Result<Result<(), ExchangeError>, AcceptError> {
        let endpoint = self.endpoint().clone();
        let Some(_seat) = endpoint.subscribers.seat(self.recognition().peer) else {
            return Err(self.refuse(Reason::Busy).await);
        };
        let issues = endpoint.issuer.get().is_some();
        let rule = move |recognition: &Recognition| {
            let is_known = issues && recognition.how.may_grant();
            match is_known || !recognition.memberships.is_empty() {
                true => Ok(()),
                false => Err(Reason::NotAuthorised),
            }
        };
        let chain = Arc::clone(self.chain());
        let (stream, _) = self.accept(rule).await?;
        let recognised = stream.recognised();
        let snapshots = endpoint.store.watch();
        let holdings = endpoint
            .holdings
            .shared_with(&recognised.now(), None, &snapshots.borrow());
        let exchange = Exchange::accepting(holdings, Instant::now().into_std());
        let desk = Desk {
            endpoint,
            about: None,
            chain: Some(chain),
            renewals: HashMap::new(),
            given: Vec::new(),
            shown: None,
            recognised,
            snapshots,
        };
        Ok(desk.run(stream, exchange).await.map(drop))
    }
}

impl<IO> Connection<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    /// Exchanges bundles on a connection that was dialled with
    /// [`Wish::Network`](crate::Wish::Network), until it ends. `about` is talked of whether or not
    /// the acceptor showed us a membership of it. Ends as well once our own membership of it, or of
    /// any network if it is about none, is another one than was presented: see
    /// [`Farewell::Renewed`].
    ///
    /// # Errors
    /// Why it ended.
    pub async fn exchange_bundles(
        self,
        endpoint: &Endpoint,
        about: Option<NodeId>,
    ) -> Result<Farewell, ExchangeError> {
        let recognised = self.stream.recognised();
        let snapshots = endpoint.store.watch();
        let holdings = endpoint
            .holdings
            .shared_with(&recognised.now(), about, &snapshots.borrow());
        let exchange = Exchange::dialing(holdings, Instant::now().into_std());
        let desk = Desk {
            endpoint: endpoint.clone(),
            about,
            chain: None,
            renewals: HashMap::new(),
            given: Vec::new(),
            shown: Some(endpoint.credentials.memberships_of(about)),
            recognised,
            snapshots,
        };
        desk.run(self.stream, exchange).await
    }
}

/// What one exchange is done with.
struct Desk {
    endpoint: Endpoint,
    about: Option<NodeId>,
    /// What the dialer presented, where we accepted.
    chain: Option<Arc<PresentedChain>>,
    /// When an issuer was asked last, and in which charter its keys stood then.
    renewals: HashMap<NodeId, (Instant, u64)>,
    /// What it got here: it has not shown these, and has them.
    given: Vec<Fingerprint>,
    /// Where we dialled: the memberships that we presented, of the network that it is about.
    shown: Option<Vec<Membership>>,
    recognised: Recognised,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

/// The bytes of one connection.
struct Line<IO> {
    reader: ReadHalf<PeerStream<IO>>,
    writer: WriteHalf<PeerStream<IO>>,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    sent: usize,
    flushed: bool,
}

impl Desk {
    async fn run<IO>(
        mut self,
        stream: PeerStream<IO>,
        mut exchange: Exchange,
    ) -> Result<Farewell, ExchangeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let end: EndWatch = stream.end_watch();
        let mut line = Line::new(stream);
        loop {
            while let Some(event) = exchange.poll_event() {
                self.act(event, &mut exchange).await?;
            }
            if self.has_another_membership() {
                line.leave().await;
                return Ok(Farewell::Renewed);
            }
            line.fill(&mut exchange)?;
            let timeout = exchange.poll_timeout().map(Instant::from_std);
            tokio::select! {
                // Bytes come last: a peer that always has some must not hold up anything else.
                biased;
                ended = end.ended() => return Err(ended.into()),
                changed = self.snapshots.changed() => match changed {
                    Ok(()) => self.reconsider(&mut exchange),
                    // The store is gone, and with it this process.
                    Err(_) => return Ok(Farewell::Closed),
                },
                () = self.recognised.changed() => self.reconsider(&mut exchange),
                () = sleep_until(timeout) => exchange.handle_timeout(now()),
                moved = line.step() => match moved? {
                    Moved::Closed => return Ok(Farewell::Closed),
                    Moved::Read => line.deliver(&mut exchange)?,
                    Moved::Written => {}
                },
            }
        }
    }

    /// Whether we would present something else now. An acceptor that let us in by a pin shares no
    /// bundle before it has seen the membership, so that withdrawals would never arrive here. It is
    /// looked at whenever anything happens, which is every [`KEEP_ALIVE`](super::KEEP_ALIVE) at least:
    /// a membership may also come by another process.
    fn has_another_membership(&self) -> bool {
        let presented = self.endpoint.credentials.memberships_of(self.about);
        self.shown.as_ref().is_some_and(|shown| *shown != presented)
    }

    /// What may be talked of has changed, or may have.
    fn reconsider(&mut self, exchange: &mut Exchange) {
        let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
        let recognition = self.recognised.now();
        let holdings = self
            .endpoint
            .holdings
            .shared_with(&recognition, self.about, &snapshot);
        exchange.handle_input(Input::Holdings(holdings), now());
    }

    async fn act(&mut self, event: Event, exchange: &mut Exchange) -> Result<(), ExchangeError> {
        match event {
            Event::Bundle { network, bytes } => self.take_bundle(network, bytes).await,
            Event::Grant(grant) => self.take_grant(grant).await,
            Event::Named(networks) => {
                for network in networks {
                    if let Some(grant) = self.renew(network).await {
                        exchange.handle_input(Input::Grant(grant), now());
                    }
                }
                Ok(())
            }
            Event::Closed(violation) => Err(ExchangeError::Violation(violation)),
        }
    }

    async fn take_bundle(&self, network: NodeId, bytes: Vec<u8>) -> Result<(), ExchangeError> {
        let endpoint = self.endpoint.clone();
        // Only where we asked, an answer says that there is nothing newer.
        let asked = self.about == Some(network);
        let taken = tokio::task::spawn_blocking(move || match asked {
            true => endpoint.take_bundle(&network, &bytes),
            false => endpoint.hear_bundle(&network, &bytes),
        });
        match taken.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => refused(network, error),
            Err(error) => Err(ExchangeError::Store(error.to_string())),
        }
    }

    async fn take_grant(&self, grant: Grant) -> Result<(), ExchangeError> {
        let endpoint = self.endpoint.clone();
        let taken = tokio::task::spawn_blocking(move || {
            let network = grant.network;
            let now = endpoint.clock.now();
            let verified = VerifiedGrant::verify(grant, &network, &endpoint.credentials, now)?;
            match endpoint.take_grant(&verified) {
                // Its news may be good all the same.
                Err(
                    error @ (NetworkError::MembershipRefused { .. } | NetworkError::Frozen { .. }),
                ) => {
                    tracing::warn!(network = %network.short(), %error, "a membership was refused");
                    Ok(())
                }
                taken => taken.map_err(|error| ExchangeError::Store(error.to_string())),
            }
        });
        taken
            .await
            .map_err(|e| ExchangeError::Store(e.to_string()))?
    }

    /// A new membership for the dialer, if it wants one and we issue for the network.
    async fn renew(&mut self, network: NodeId) -> Option<Grant> {
        self.endpoint.issuer.get()?;
        let chain = Arc::clone(self.chain.as_ref()?);
        // A membership by a key that retires wants renewal at once, whatever its age. Members ask in
        // their own rhythm, so that they do not all come in one second.
        let charter = self.charter_of(&network);
        let asked = self.renewals.get(&network);
        if asked.is_some_and(|(at, of)| *of == charter && at.elapsed() < RENEWAL_EVERY) {
            return None;
        }
        self.renewals.insert(network, (Instant::now(), charter));
        let (endpoint, peer) = (self.endpoint.clone(), self.recognised.now().peer);
        let mut presented = chain.fingerprints().to_vec();
        presented.extend(&self.given);
        let renewed = tokio::task::spawn_blocking(move || {
            let root = root_of(&chain)?;
            let staple = chain.leaf().succession.as_deref();
            let succession = staple.and_then(|bytes| SuccessionChain::parse(bytes).ok());
            let (issuer, now) = (endpoint.issuer.get()?, endpoint.clock.now());
            match issuer.renew(&network, root, succession.as_ref(), &presented, now) {
                Ok(grant) => grant,
                Err(reason) => {
                    tracing::info!(
                        peer = %peer.short(), network = %network.short(), reason = reason.token(),
                        "membership not renewed"
                    );
                    None
                }
            }
        });
        let grant = renewed.await.ok().flatten()?;
        let membership = grant.membership.iter();
        self.given
            .extend(membership.map(|der| Fingerprint::of_certificate(der)));
        Some(grant)
    }

    /// The sequence of the newest charter that is known of a network, 0 if it is not known.
    fn charter_of(&self, network: &NodeId) -> u64 {
        let snapshot = self.snapshots.borrow();
        let authority = snapshot.networks.get(network);
        authority.map_or(0, |authority| authority.bundle.charter().sequence())
    }
}

/// Whether a bundle that was refused ends the connection.
fn refused(network: NodeId, error: NetworkError) -> Result<(), ExchangeError> {
    match error {
        // A newer one came from elsewhere while this was under way; or an authority is frozen, and
        // whoever tells us more of it does nothing wrong.
        NetworkError::Follow { error, .. }
            if matches!(
                *error,
                FollowError::Rollback { .. } | FollowError::CharterRollback { .. }
            ) =>
        {
            tracing::debug!(network = %network.short(), %error, "an older bundle was shown");
            Ok(())
        }
        NetworkError::Frozen { .. } => Ok(()),
        NetworkError::Bundle { error, .. } => {
            let cause = error.to_string();
            Err(ExchangeError::Bundle { network, cause })
        }
        NetworkError::Follow { error, .. } => {
            let cause = error.to_string();
            Err(ExchangeError::Bundle { network, cause })
        }
        other => Err(ExchangeError::Store(other.to_string())),
    }
}

/// The peer's own root, which stands last in its chain.
pub(crate) fn root_of(chain: &PresentedChain) -> Option<&[u8]> {
    let last = chain.der().last()?;
    let anchor = comity_certs::Anchor::from_der(last).ok()?;
    (anchor.key() == chain.peer_id().key_hash()).then_some(last.as_slice())
}

enum Moved {
    Read,
    Written,
    Closed,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Line<IO> {
    fn new(stream: PeerStream<IO>) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            reader,
            writer,
            inbox: Vec::new(),
            outbox: Vec::new(),
            sent: 0,
            flushed: true,
        }
    }

    /// Takes the next frame, once the one before has left.
    fn fill(&mut self, exchange: &mut Exchange) -> Result<(), ExchangeError> {
        if self.outbox.is_empty()
            && let Some((kind, body)) = exchange.poll_transmit()
        {
            self.outbox = frame::encode(kind, &body)?;
            self.sent = 0;
        }
        Ok(())
    }

    fn deliver(&mut self, exchange: &mut Exchange) -> Result<(), ExchangeError> {
        while let Some((kind, body)) = frame::take_frame(&mut self.inbox)? {
            exchange.handle_input(Input::Frame(kind, body), now());
        }
        Ok(())
    }

    /// Closes, so that the peer knows that nothing was cut off.
    async fn leave(&mut self) {
        let closed = tokio::time::timeout(FAREWELL, self.writer.shutdown()).await;
        if let Ok(Err(error)) = closed {
            tracing::debug!(%error, "the connection was gone before it was closed");
        }
    }

    /// Moves some bytes in one direction, whichever is ready. May be dropped at any time. Both are
    /// tried always: two sides that only wrote would wait for each other for ever.
    async fn step(&mut self) -> io::Result<Moved> {
        self.inbox.reserve(READ);
        let mut reader = (&mut self.reader).take(READ as u64);
        let writes = async {
            match (&self.outbox[self.sent..], self.flushed) {
                ([], true) => std::future::pending().await,
                ([], false) => self.writer.flush().await.map(|()| 0),
                (rest, _) => self.writer.write(rest).await,
            }
        };
        tokio::select! {
            read = reader.read_buf(&mut self.inbox) => Ok(match read? {
                0 => Moved::Closed,
                _ => Moved::Read,
            }),
            wrote = writes => {
                let wrote = wrote?;
                self.sent += wrote;
                self.flushed = wrote == 0;
                if self.sent == self.outbox.len() {
                    self.outbox.clear();
                    self.sent = 0;
                }
                Ok(Moved::Written)
            }
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
