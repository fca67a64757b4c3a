//! Accepting connections from peers, and strangers.
//!
//! 1. A place among the pending handshakes, or the connection is dropped.
//! 2. The TLS handshake, which refuses only malformed chains.
//! 3. The gate: recognised or not, on live state.
//! 4. Over `comity/1`: HELLO. A peer that was not recognised may carry an invitation here; one that
//!    asks to be enrolled is put into the queue.
//! 5. The application decides what the peer may do, and answers ACCEPT or REFUSE through
//!    [`Incoming`].
//!
//! All of it within one timeout, because until the answer a stranger occupies the place.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use comity_certs::{ChainError, PresentedChain};
use comity_identity::PeerId;
use comity_trust::{Direction, Expectation, Mode, Reason, Recognition, SuccessionPolicy};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsStream, server};

use crate::config::{self, ALPN_COMITY, ALPN_HTTP1, Versions, refuse_old_comity};
use crate::endpoint::Endpoint;
use crate::enrolment::{self, Admitted, Newcomer};
use crate::frame::{FrameError, FrameType, expect_frame, write_frame};
use crate::gate::{GateError, Matter, Passed};
use crate::hello::{Hello, SubProtocol, encode_accept, encode_refuse};
use crate::limits::{Admission, Limits, Place};
use crate::live::{self, LiveContext, Role};
use crate::network::{Grant, send_grant};
use crate::peer::PeerInfo;
use crate::session::{Ended, Rule};
use crate::stream::PeerStream;
use crate::verifier::{AcceptVerifier, Evidence};

/// How long a refusal may take to reach the peer.
const FAREWELL: Duration = Duration::from_secs(2);

/// The longest HTTP request head that is read before it is answered with a refusal.
const MAX_REQUEST_HEAD: u64 = 16 * 1024;

/// Bytes of a refused request's body that are read and forgotten.
const MAX_DRAINED: u64 = 1024 * 1024;

/// How an acceptor behaves.
#[derive(Clone, Debug)]
pub struct AcceptorConfig {
    /// What is recognised beyond pins. Default [`Mode::Enroll`].
    pub mode: Mode,
    /// Budgets against strangers.
    pub limits: Limits,
    /// Foreign protocols that may be selected in ALPN besides `comity/1`. Default `http/1.1`.
    pub foreign_alpn: Vec<Vec<u8>>,
    /// Protocol versions. Default TLS 1.3 alone.
    pub versions: Versions,
    /// Whether entries of `known_peers` follow a peer to its next key. Default: those that no
    /// person confirmed.
    pub succession: SuccessionPolicy,
}

impl Default for AcceptorConfig {
    fn default() -> Self {
        Self {
            mode: Mode::Enroll,
            limits: Limits::default(),
            foreign_alpn: vec![ALPN_HTTP1.to_vec()],
            versions: Versions::default(),
            succession: SuccessionPolicy::default(),
        }
    }
}

/// Accepts connections. Share one between all listeners of a node: its budgets are shared with it.
#[derive(Clone, Debug)]
pub struct Acceptor {
    endpoint: Endpoint,
    config: Arc<AcceptorConfig>,
    admission: Arc<Admission>,
}

/// A recognised peer that awaits an answer.
#[derive(Debug)]
pub struct Incoming<IO> {
    tls: server::TlsStream<IO>,
    chain: Arc<PresentedChain>,
    matter: Matter,
    passed: Passed,
    /// The membership that it joined for.
    grant: Option<Grant>,
    /// Who it is.
    pub peer: PeerInfo,
    /// What it asks for.
    pub request: Request,
    /// Held until the answer, and given back with it.
    place: Place,
    deadline: Instant,
}

/// What a recognised peer asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// It speaks `comity/1`.
    Comity(Hello),
    /// It is foreign and speaks this ALPN protocol, or none. It wants the default service.
    Foreign(Option<Vec<u8>>),
}

/// Why a connection came to nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// Too many connections from the peer's prefix, or its place was needed.
    #[error("over the limit for pending connections")]
    Busy,
    /// It took longer than the limit.
    #[error("the handshake took too long")]
    Timeout,
    /// The peer presented no usable chain.
    #[error("the peer's certificate is unusable: {0}")]
    BadChain(ChainError),
    /// The TLS handshake failed otherwise, often by the peer's decision about us.
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[source] io::Error),
    /// The peer broke the protocol after the handshake.
    #[error("the peer broke the protocol: {0}")]
    Protocol(#[source] FrameError),
    /// We refused the peer, and told it so where it can be told.
    #[error("refused {peer}: {reason}")]
    Refused {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: Reason,
    },
    /// The connection failed while the answer was under way.
    #[error("the connection failed: {0}")]
    Io(#[source] io::Error),
    /// A fault of this program.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Acceptor {
    /// An acceptor of this endpoint.
    pub fn new(endpoint: Endpoint, config: AcceptorConfig) -> Self {
        let admission = Arc::new(Admission::new(config.limits.clone()));
        Self {
            endpoint,
            config: Arc::new(config),
            admission,
        }
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Shakes hands with whoever is at the other end of `io`, and recognises or refuses it.
    ///
    /// # Errors
    /// See [`AcceptError`]. A refused peer has been told when this returns.
    pub async fn accept<IO>(
        &self,
        io: IO,
        remote: Option<SocketAddr>,
    ) -> Result<Incoming<IO>, AcceptError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let now = Instant::now();
        let place = self
            .admission
            .admit(remote.map(|a| a.ip()), now)
            .ok_or(AcceptError::Busy)?;
        let evicted = place.evicted.clone();
        let timeout = self.admission.limits().handshake_timeout;
        let recognised = self.recognise(io, remote, place, now + timeout);
        tokio::select! {
            biased;
            () = evicted.cancelled() => Err(AcceptError::Busy),
            outcome = tokio::time::timeout(timeout, recognised) => {
                outcome.map_err(|_| AcceptError::Timeout)?
            }
        }
    }

    async fn recognise<IO>(
        &self,
        io: IO,
        remote: Option<SocketAddr>,
        place: Place,
        deadline: Instant,
    ) -> Result<Incoming<IO>, AcceptError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut tls, chain) = self.handshake(io).await?;
        let chain = Arc::new(chain);
        let matter = Matter {
            endpoint: self.endpoint.clone(),
            direction: Direction::Accept,
            mode: self.config.mode,
            expectation: Expectation::default(),
            succession: self.config.succession,
        };
        let verdict = matter.pass(&chain).await;
        let request = match tls.get_ref().1.alpn_protocol() {
            Some(ALPN_COMITY) => Request::Comity(read_hello(&mut tls).await?),
            other => Request::Foreign(other.map(<[u8]>::to_vec)),
        };
        let newcomer = || Newcomer::new(&chain, &request, remote);
        let admitted = match verdict {
            Ok(passed) if !wants_to_join(&request) => Ok(Admitted::from(passed)),
            // An invitation counts for a peer that is known already, too: it may carry grants.
            Ok(_) => enrolment::redeem(&matter, &chain, newcomer(), exporter(&tls)?).await,
            Err(GateError::Refused(refusal)) if enrolment::may_redeem(refusal.reason) => {
                match wants_to_join(&request) {
                    true => enrolment::redeem(&matter, &chain, newcomer(), exporter(&tls)?).await,
                    false => Err(enrolment::queue(&matter, newcomer(), refusal.reason).await),
                }
            }
            Err(GateError::Refused(refusal)) => Err(refusal.reason),
            Err(error) if error.is_out_of_room() => {
                tracing::debug!(%error, "no room for another first use");
                Err(Reason::Busy)
            }
            Err(error) => {
                tracing::error!(error = %error, "a peer could not be judged");
                Err(Reason::StoreError)
            }
        };
        match admitted {
            Ok(Admitted { passed, grant }) => Ok(Incoming {
                peer: PeerInfo::new(
                    &chain,
                    passed.recognition.clone(),
                    Direction::Accept,
                    remote,
                    tls.get_ref().1.protocol_version(),
                ),
                tls,
                chain,
                matter,
                passed,
                grant,
                request,
                place,
                deadline,
            }),
            Err(reason) => {
                say_no(&mut tls, &request, reason).await;
                Err(AcceptError::Refused {
                    peer: chain.peer_id(),
                    reason,
                })
            }
        }
    }

    async fn handshake<IO>(
        &self,
        io: IO,
    ) -> Result<(server::TlsStream<IO>, PresentedChain), AcceptError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let verifier = Arc::new(AcceptVerifier::new(&self.endpoint.signatures));
        let mut alpn = vec![ALPN_COMITY.to_vec()];
        alpn.extend(self.config.foreign_alpn.iter().cloned());
        let config = config::server(
            Arc::clone(&verifier),
            self.endpoint.credentials.server_resolver(),
            alpn,
            self.config.versions,
        )
        .map_err(|error| AcceptError::Internal(error.to_string()))?;
        let outcome = TlsAcceptor::from(Arc::new(config)).accept(io).await;
        let outcome = outcome.and_then(|tls| refuse_old_comity(tls.get_ref().1).map(|()| tls));
        match (outcome, verifier.seen.take()) {
            (Ok(tls), Evidence::Chain(chain)) => Ok((tls, chain)),
            (Ok(_), _) => Err(AcceptError::Internal("no chain was verified".to_owned())),
            (Err(_), Evidence::Unreadable(error)) => Err(AcceptError::BadChain(error)),
            (Err(error), _) => Err(AcceptError::Handshake(error)),
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Incoming<IO> {
    /// Answers ACCEPT, and to a peer that joins a network, its membership. While the connection is
    /// open, `rule` is asked again on the peer's recognition whenever the store changes: what it
    /// refuses ends the connection, also while the membership is under way.
    ///
    /// # Errors
    /// When the connection fails, or the peer's authority ended meanwhile.
    pub async fn accept(
        mut self,
        rule: impl Fn(&Recognition) -> Result<(), Reason> + Send + Sync + 'static,
    ) -> Result<(PeerStream<IO>, PeerInfo), AcceptError> {
        if let Err(reason) = rule(&self.passed.recognition) {
            return Err(self.refuse(reason).await);
        }
        let session = self.matter.enter(&self.chain, &self.passed);
        session.bind(Box::new(rule) as Rule);
        // What changed while the rule was not bound yet is noticed here.
        if let Err(reason) = self.matter.ask_again(&session, &self.passed) {
            return Err(self.refuse(reason).await);
        }
        if matches!(self.request, Request::Comity(_)) {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let body = encode_accept();
            let answer = write_frame(&mut self.tls, FrameType::Accept, &body);
            match tokio::time::timeout(left.max(FAREWELL), answer).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(AcceptError::Protocol(error)),
                Err(_) => return Err(AcceptError::Timeout),
            }
        }
        // It was answered: whatever follows takes no room from those who wait for that.
        drop(self.place);
        let mut stream = PeerStream::new(Box::new(TlsStream::Server(self.tls)), session);
        if let Some(grant) = self.grant {
            let end = stream.end_watch();
            tokio::select! {
                biased;
                Ended(reason) = end.ended() => {
                    let peer = self.passed.recognition.peer;
                    return Err(AcceptError::Refused { peer, reason });
                }
                sent = send_grant(&mut stream, &grant) => sent?,
            }
        }
        Ok((stream, self.peer))
    }

    /// Answers REFUSE, or what comes nearest in the peer's protocol, and closes. Returns the error
    /// that says so.
    pub async fn refuse(mut self, reason: Reason) -> AcceptError {
        say_no(&mut self.tls, &self.request, reason).await;
        AcceptError::Refused {
            peer: self.passed.recognition.peer,
            reason,
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.matter.endpoint
    }

    pub(crate) fn chain(&self) -> &Arc<PresentedChain> {
        &self.chain
    }

    /// The first bytes of a foreign peer, which stay there to be read: what came in one record. None
    /// when it sends nothing before its time to shake hands is over, or has closed.
    pub async fn first_bytes(&mut self) -> &[u8] {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, self.tls.fill_buf()).await {
            Ok(Ok(bytes)) => bytes,
            // Whoever reads next meets the same error.
            Ok(Err(_)) | Err(_) => &[],
        }
    }

    /// How the peer was recognised, for [`comity_trust::authorise`].
    pub fn recognition(&self) -> &Recognition {
        &self.passed.recognition
    }

    /// What the live comparison needs.
    ///
    /// # Errors
    /// When the TLS library refuses to export.
    pub fn live_context(&self) -> Result<LiveContext, AcceptError> {
        Ok(LiveContext {
            role: Role::Acceptor,
            exporter: export(&self.tls, live::EXPORTER_LABEL)?,
            dialer: self.passed.recognition.peer,
            acceptor: PeerId::Node(self.matter.endpoint.credentials.node_id()),
        })
    }
}

fn wants_to_join(request: &Request) -> bool {
    matches!(request, Request::Comity(hello) if hello.protocol == SubProtocol::Join)
}

async fn read_hello<S: AsyncRead + Unpin>(tls: &mut S) -> Result<Hello, AcceptError> {
    let body = expect_frame(tls, FrameType::Hello)
        .await
        .map_err(AcceptError::Protocol)?;
    Hello::decode(&body).map_err(|error| AcceptError::Protocol(FrameError::Content(error)))
}

fn exporter<IO>(tls: &server::TlsStream<IO>) -> Result<[u8; 32], AcceptError> {
    export(tls, enrolment::JOIN_EXPORTER)
}

fn export<IO>(tls: &server::TlsStream<IO>, label: &[u8]) -> Result<[u8; 32], AcceptError> {
    tls.get_ref()
        .1
        .export_keying_material([0; 32], label, None)
        .map_err(|error| AcceptError::Internal(error.to_string()))
}

/// Tells the peer no in its own protocol: REFUSE, an HTTP status, or a close.
async fn say_no<S>(tls: &mut S, request: &Request, reason: Reason)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let farewell = async {
        match request {
            Request::Comity(_) => {
                write_frame(tls, FrameType::Refuse, &encode_refuse(reason)).await?;
            }
            Request::Foreign(Some(alpn)) if alpn == ALPN_HTTP1 => {
                return refuse_http(tls, reason).await;
            }
            Request::Foreign(_) => {}
        }
        tls.shutdown().await?;
        Ok::<(), FrameError>(())
    };
    // A peer that does not take its refusal is gone, or slow: both are its own affair.
    drop(tokio::time::timeout(FAREWELL, farewell).await);
}

/// Reads the head of the first request, so that closing does not reset the connection under the
/// response, and answers 403 with the reason's token.
async fn refuse_http<S>(tls: &mut S, reason: Reason) -> Result<(), FrameError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::new();
    let mut limited = (&mut *tls).take(MAX_REQUEST_HEAD);
    // A body may have come along with the head.
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut chunk = [0; 1024];
        let read = limited.read(&mut chunk).await?;
        if read == 0 {
            break;
        }
        head.extend_from_slice(&chunk[..read]);
    }
    let token = reason.wire_token();
    let body = format!("refused: {token}\n");
    let response = format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\nComity-Reason: {token}\r\n\r\n{body}",
        body.len()
    );
    tls.write_all(response.as_bytes()).await?;
    tls.shutdown().await?;
    drain(tls).await;
    Ok(())
}

/// Reads on until the peer closes: a connection that is closed with unread bytes of a request's
/// body is reset, and the reset destroys the response on its way.
async fn drain<S: AsyncRead + Unpin>(tls: &mut S) {
    let mut chunk = [0; 1024];
    let mut limited = tls.take(MAX_DRAINED);
    while matches!(limited.read(&mut chunk).await, Ok(1..)) {}
}
