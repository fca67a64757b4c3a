//! Opening connections to peers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use comity_certs::{ChainError, PresentedChain};
use comity_identity::{NodeId, PeerId};
use comity_store::UpdateError;
use comity_trust::invitation::{Invitation, JoinStatement};
use comity_trust::{Direction, Expectation, Mode, Phase, Reason, Refusal, SuccessionPolicy};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConnection};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::{TlsConnector, TlsStream};

use crate::config::{self, ALPN_COMITY, Offer, Versions, refuse_old_comity};
use crate::endpoint::Endpoint;
use crate::enrolment::JOIN_EXPORTER;
use crate::frame::{FrameError, FrameType, read_frame, write_frame};
use crate::gate::{GateError, Matter, Memory};
use crate::hello::{
    Hello, InvitationProof, ServiceName, SubProtocol, decode_accept, decode_refuse,
};
use crate::live::{self, LiveContext, Role};
use crate::network::{Grant, GrantError, VerifiedGrant, receive_grant};
use crate::peer::PeerInfo;
use crate::stream::PeerStream;
use crate::verifier::{DialVerifier, Evidence};

/// From the TCP connection to ACCEPT.
const DIAL_TIMEOUT: Duration = Duration::from_secs(20);

/// The name handed to rustls where none is dialled; it never leaves the process (RFC 2606).
const NO_NAME: &str = "peer.invalid";

/// Opens connections.
#[derive(Clone, Debug)]
pub struct Dialer {
    endpoint: Endpoint,
}

/// Whom to dial, and what to accept there.
#[derive(Clone, Debug)]
pub struct DialRequest {
    /// Whom we expect.
    pub expectation: Expectation,
    /// Whether the expected server name is sent as SNI: when the user dialled a host name, and not
    /// when the user named a peer.
    pub sni: bool,
    /// What is accepted.
    pub mode: Mode,
    /// What for.
    pub wish: Wish,
    /// Which ALPN is offered.
    pub alpn: Alpn,
    /// Which protocol versions.
    pub versions: Versions,
    /// The network that the dial is about, if it is about one: its membership is presented first.
    /// Without it, the one in which the peer must be.
    pub network: Option<NodeId>,
    /// Whether an entry of `known_peers` follows the peer to its next key. Default: those that no
    /// person confirmed.
    pub succession: SuccessionPolicy,
}

impl DialRequest {
    /// A request with the defaults: `comity/1`, TLS 1.3 alone, and SNI where a server name is
    /// expected.
    pub fn new(expectation: Expectation, mode: Mode, wish: Wish) -> Self {
        Self {
            sni: expectation.server_name.is_some(),
            expectation,
            mode,
            wish,
            alpn: Alpn::default(),
            versions: Versions::default(),
            network: None,
            succession: SuccessionPolicy::default(),
        }
    }

    /// The same request for one of a peer's addresses. A CA is asked to vouch for the host and port
    /// that are dialled, also where the user named a peer; the host's name is then not sent.
    #[must_use]
    pub fn at_host(&self, host: &str, port: u16) -> Self {
        let mut request = self.clone();
        request.expectation = expectation_at(&self.expectation, host, port);
        request
    }

    fn offer(&self) -> Offer {
        Offer {
            alpn: match &self.alpn {
                Alpn::Comity => vec![ALPN_COMITY.to_vec()],
                Alpn::None => Vec::new(),
                Alpn::Other(protocol) => vec![protocol.clone()],
            },
            sni: self.sni && self.expectation.server_name.is_some(),
            versions: self.versions,
        }
    }
}

/// What is expected of whoever answers at a peer's address: what was expected of the peer, and that a
/// CA, where one is asked, vouches for this host and port.
pub fn expectation_at(expectation: &Expectation, host: &str, port: u16) -> Expectation {
    let mut here = expectation.clone();
    if here.server_name.is_none() && here.name.is_some() {
        here.server_name = ServerName::try_from(host.to_owned()).ok();
    }
    here.port = Some(port);
    here
}

/// What the connection is for.
#[derive(Clone, Debug)]
pub enum Wish {
    /// A service's bytes; `None` asks for the default one.
    Service(Option<ServiceName>),
    /// To redeem an invitation; the text is what we suggest to be called.
    Join(Arc<Invitation>, Option<String>),
    /// The live comparison.
    Verify,
    /// Bundles and memberships, see [`Connection::exchange_bundles`].
    Network,
}

/// What is offered in ALPN. The offer never depends on what the store knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Alpn {
    /// `comity/1`. A foreign peer that selects nothing gets the bytes as they are. The default.
    #[default]
    Comity,
    /// No ALPN at all, for foreign servers that refuse unknown protocols.
    None,
    /// One foreign protocol.
    Other(Vec<u8>),
}

/// An open connection to a recognised peer.
#[derive(Debug)]
pub struct Connection<IO> {
    /// The bytes.
    pub stream: PeerStream<IO>,
    /// Who is there.
    pub peer: PeerInfo,
    /// Whether the peer spoke `comity/1` and answered ACCEPT. Without it, a foreign peer may still
    /// refuse us with an alert on the first read.
    pub accepted: bool,
    /// What the live comparison needs, if that was the wish.
    pub live: Option<LiveContext>,
    /// The membership that an invitation brought, if it was for a network.
    pub grant: Option<Box<VerifiedGrant>>,
}

/// What came of an invitation.
#[derive(Debug)]
pub struct Joined {
    /// Who invited us.
    pub inviter: PeerInfo,
    /// Our membership, if the invitation was for a network. To be stored and presented.
    pub grant: Option<Box<VerifiedGrant>>,
}

/// Why there is no connection.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DialError {
    /// Nobody answered at the address.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// We refused the peer. No data was sent.
    #[error("refused the peer: {}", refusal.reason)]
    Refused {
        /// Why, with evidence.
        refusal: Box<Refusal>,
        /// What it presented.
        chain: Box<PresentedChain>,
    },
    /// The peer presented something that is not a certificate chain within limits.
    #[error("the peer's certificate is unusable: {0}")]
    BadChain(ChainError),
    /// The peer refused us, and said why; `None` for a token of a later version.
    #[error("the peer refused us: {}", .0.map_or("for a reason this version does not know", Reason::token))]
    RefusedByPeer(Option<Reason>),
    /// The peer ended the TLS handshake with an alert.
    #[error("the peer ended the handshake: {0:?}")]
    Alert(AlertDescription),
    /// The peer is no Comity node, but the wish needs one.
    #[error("the peer does not speak comity/1")]
    NotComity,
    /// The handshake failed otherwise.
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[source] io::Error),
    /// The peer closed the connection before it answered.
    #[error("the peer closed the connection without an answer")]
    Closed,
    /// The peer broke the protocol after the handshake.
    #[error("the peer broke the protocol: {0}")]
    Protocol(#[source] FrameError),
    /// It took longer than 20 seconds.
    #[error("the peer did not answer in {} seconds", DIAL_TIMEOUT.as_secs())]
    Timeout,
    /// The peer accepted our invitation, but the membership that it gave us for it does not hold.
    #[error("the membership that the peer gave us does not hold: {0}")]
    Grant(#[from] GrantError),
    /// What we remember could not be read, or the first key not be recorded. No data was sent.
    #[error("cannot decide: {0}")]
    Store(#[from] UpdateError),
    /// A fault of this program.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Dialer {
    /// A dialer of this endpoint.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Dials `host:port`, trying each of the host's addresses, and shakes hands.
    ///
    /// # Errors
    /// See [`DialError`]. Unless the error is one of the peer's or of the connection after ACCEPT,
    /// no application data was sent.
    pub async fn dial(
        &self,
        host: &str,
        port: u16,
        request: DialRequest,
    ) -> Result<Connection<TcpStream>, DialError> {
        let connect = async {
            let tcp = TcpStream::connect((host, port)).await.map_err(|source| {
                DialError::Unreachable {
                    address: format!("{host}:{port}"),
                    source,
                }
            })?;
            // A refusal to set it costs speed only.
            drop(tcp.set_nodelay(true));
            Ok::<_, DialError>(tcp)
        };
        let started = Instant::now();
        let tcp = tokio::time::timeout(DIAL_TIMEOUT, connect)
            .await
            .map_err(|_| DialError::Timeout)??;
        let remote = tcp.peer_addr().ok();
        let left = DIAL_TIMEOUT.saturating_sub(started.elapsed());
        self.handshake_within(left, tcp, remote, request).await
    }

    /// Redeems an invitation at one of its addresses, and so joins the network that it is for, if
    /// it is for one. Nothing is recorded here: not the inviter, and not the membership.
    ///
    /// # Errors
    /// See [`DialError`]. After [`DialError::Grant`], and whenever the answer was lost, the
    /// invitation is ours: it may be redeemed again.
    pub async fn join(
        &self,
        host: &str,
        port: u16,
        invitation: Arc<Invitation>,
        name: Option<String>,
    ) -> Result<Joined, DialError> {
        let expectation = Expectation {
            id: Some(PeerId::Node(invitation.inviter)),
            ..Expectation::default()
        };
        let wish = Wish::Join(invitation, name);
        let request = DialRequest::new(expectation, Mode::Pin, wish);
        let connection = self.dial(host, port, request).await?;
        Ok(Joined {
            inviter: connection.peer,
            grant: connection.grant,
        })
    }

    /// Shakes hands over a transport of the caller's.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn handshake<IO>(
        &self,
        io: IO,
        remote: Option<SocketAddr>,
        request: DialRequest,
    ) -> Result<Connection<IO>, DialError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        self.handshake_within(DIAL_TIMEOUT, io, remote, request)
            .await
    }

    async fn handshake_within<IO>(
        &self,
        time: Duration,
        io: IO,
        remote: Option<SocketAddr>,
        request: DialRequest,
    ) -> Result<Connection<IO>, DialError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let network = match &request.wish {
            Wish::Join(invitation, _) => invitation.network_id,
            _ => None,
        };
        let shaken = tokio::time::timeout(time, self.shake_hands(io, remote, request));
        let mut connection = shaken.await.map_err(|_| DialError::Timeout)??;
        if let Some(network) = network {
            // It has a time of its own: a bundle may be large, and a connection slow.
            let grant = receive_grant(&mut connection.stream, network)
                .await
                .map_err(frame_error)?;
            connection.grant = Some(Box::new(self.verify_grant(grant, network).await?));
        }
        Ok(connection)
    }

    async fn verify_grant(
        &self,
        grant: Grant,
        network: NodeId,
    ) -> Result<VerifiedGrant, DialError> {
        let credentials = Arc::clone(&self.endpoint.credentials);
        let now = self.endpoint.clock.now();
        let verify = move || VerifiedGrant::verify(grant, &network, &credentials, now);
        let verified = tokio::task::spawn_blocking(verify).await;
        Ok(verified.map_err(|error| DialError::Internal(error.to_string()))??)
    }

    async fn shake_hands<IO>(
        &self,
        io: IO,
        remote: Option<SocketAddr>,
        request: DialRequest,
    ) -> Result<Connection<IO>, DialError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let offer = request.offer();
        let network = request.network.or(request.expectation.network);
        let matter = Matter {
            endpoint: self.endpoint.clone(),
            direction: Direction::Dial,
            mode: request.mode,
            expectation: request.expectation,
            succession: request.succession,
        };
        let (mut tls, chain) = self.connect(io, &matter, offer, network).await?;
        let chain = Arc::new(chain);
        let passed = matter
            .pass(&chain)
            .await
            .map_err(|e| gate_error(e, &chain))?;
        let speaks_comity = tls.get_ref().1.alpn_protocol() == Some(ALPN_COMITY);
        let needs_comity = !matches!(request.wish, Wish::Service(None));
        let accepted = if speaks_comity {
            let hello = self.hello(&request.wish, tls.get_ref().1, passed.recognition.peer)?;
            open(&mut tls, &hello).await?;
            true
        } else if needs_comity {
            return Err(DialError::NotComity);
        } else {
            false
        };
        let live = match request.wish {
            Wish::Verify => Some(LiveContext {
                role: Role::Dialer,
                exporter: export(tls.get_ref().1, live::EXPORTER_LABEL)?,
                dialer: PeerId::Node(self.endpoint.credentials.node_id()),
                acceptor: passed.recognition.peer,
            }),
            _ => None,
        };
        let session = matter.enter(&chain, &passed);
        let version = tls.get_ref().1.protocol_version();
        let peer = PeerInfo::new(&chain, passed.recognition, Direction::Dial, remote, version);
        Ok(Connection {
            stream: PeerStream::new(Box::new(TlsStream::Client(tls)), session),
            peer,
            accepted,
            live,
            grant: None,
        })
    }

    async fn connect<IO>(
        &self,
        io: IO,
        matter: &Matter,
        offer: Offer,
        network: Option<NodeId>,
    ) -> Result<(tokio_rustls::client::TlsStream<IO>, PresentedChain), DialError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let judge = {
            let (matter, snapshot) = (matter.clone(), self.endpoint.latest().await);
            let now = self.endpoint.clock.now();
            move |chain: &PresentedChain| {
                matter.decide(chain, Memory::of(&snapshot), Phase::Certificate, now)
            }
        };
        let signatures = &self.endpoint.signatures;
        let verifier = Arc::new(DialVerifier::new(Box::new(judge), signatures));
        let name = matter.expectation.server_name.clone();
        let no_name = || ServerName::try_from(NO_NAME).expect("a valid name");
        let config = config::client(
            Arc::clone(&verifier),
            self.endpoint.credentials.client_resolver(network),
            offer,
        )
        .map_err(|error| DialError::Internal(error.to_string()))?;
        let connector = TlsConnector::from(Arc::new(config));
        let outcome = connector.connect(name.unwrap_or_else(no_name), io).await;
        let outcome = outcome.and_then(|tls| refuse_old_comity(tls.get_ref().1).map(|()| tls));
        match (outcome, verifier.seen.take()) {
            (Ok(tls), Evidence::Chain(chain)) => Ok((tls, chain)),
            (Ok(_), _) => Err(DialError::Internal("no chain was verified".to_owned())),
            (Err(_), Evidence::Refused(chain, refusal)) => {
                if is_new_fork(&refusal) {
                    matter.remember_fork(&chain).await;
                }
                Err(DialError::Refused {
                    refusal,
                    chain: Box::new(chain),
                })
            }
            (Err(_), Evidence::Unreadable(error)) => Err(DialError::BadChain(error)),
            (Err(error), _) => Err(handshake_error(error)),
        }
    }

    fn hello(
        &self,
        wish: &Wish,
        tls: &ClientConnection,
        acceptor: PeerId,
    ) -> Result<Hello, DialError> {
        Ok(match wish {
            Wish::Service(service) => Hello {
                service: service.clone(),
                ..Hello::new(SubProtocol::Tunnel)
            },
            Wish::Verify => Hello::new(SubProtocol::Verify),
            Wish::Network => Hello::new(SubProtocol::Network),
            Wish::Join(invitation, name) => {
                let PeerId::Node(inviter) = acceptor else {
                    return Err(DialError::NotComity);
                };
                let exporter = export(tls, JOIN_EXPORTER)?;
                let joiner = self.endpoint.credentials.node_id();
                let statement = JoinStatement {
                    exporter,
                    joiner,
                    inviter,
                    invitation: invitation.id,
                };
                let signature = invitation
                    .secret
                    .sign(&statement)
                    .map_err(|error| DialError::Internal(error.to_string()))?;
                Hello {
                    proof: Some(InvitationProof {
                        id: invitation.id.0,
                        signature,
                    }),
                    claimed_name: name.clone(),
                    ..Hello::new(SubProtocol::Join)
                }
            }
        })
    }
}

/// HELLO out, ACCEPT or REFUSE in.
async fn open<S>(tls: &mut S, hello: &Hello) -> Result<(), DialError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // The acceptor may have refused our certificate already; its alert is the better answer.
    let written = write_frame(tls, FrameType::Hello, &hello.encode()).await;
    let answer = match (read_frame(tls).await, written) {
        (Ok(answer), _) => answer,
        (Err(read), Ok(()) | Err(FrameError::Io(_))) => return Err(frame_error(read)),
        (Err(_), Err(write)) => return Err(frame_error(write)),
    };
    match answer {
        (FrameType::Accept, body) => {
            decode_accept(&body).map_err(|e| DialError::Protocol(FrameError::Content(e)))
        }
        (FrameType::Refuse, body) => {
            let reason =
                decode_refuse(&body).map_err(|e| DialError::Protocol(FrameError::Content(e)))?;
            Err(DialError::RefusedByPeer(reason))
        }
        (found, _) => Err(DialError::Protocol(FrameError::Unexpected {
            expected: FrameType::Accept,
            found,
        })),
    }
}

fn export(tls: &ClientConnection, label: &[u8]) -> Result<[u8; 32], DialError> {
    tls.export_keying_material([0; 32], label, None)
        .map_err(|error| DialError::Internal(error.to_string()))
}

fn gate_error(error: GateError, chain: &PresentedChain) -> DialError {
    match error {
        GateError::Refused(refusal) => DialError::Refused {
            refusal,
            chain: Box::new(chain.clone()),
        },
        GateError::Store(error) => DialError::Store(error),
        GateError::Interrupted => DialError::Internal("the decision was interrupted".to_owned()),
    }
}

/// The alert inside an I/O error of the TLS library, if the peer sent one.
pub fn alert_of(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

fn is_new_fork(refusal: &Refusal) -> bool {
    let evidence = &refusal.evidence;
    matches!(evidence, comity_trust::Evidence::Forked { since: None, .. })
}

fn handshake_error(error: io::Error) -> DialError {
    match alert_of(&error) {
        Some(alert) => DialError::Alert(alert),
        None if error.kind() == io::ErrorKind::UnexpectedEof => DialError::Closed,
        None => DialError::Handshake(error),
    }
}

fn frame_error(error: FrameError) -> DialError {
    match error {
        FrameError::Io(error) => match alert_of(&error) {
            Some(alert) => DialError::Alert(alert),
            None => DialError::Closed,
        },
        other => DialError::Protocol(other),
    }
}
