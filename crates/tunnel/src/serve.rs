//! The serving side: one port in front of several services.
//!
//! A peer is authorised for one service per connection. The backend is reached before the peer is
//! told ACCEPT, so that a backend that is down is a refusal with a reason and not a connection that
//! opens and dies.
//!
//! Members of our networks get bundles on the same port: by the sub-protocol `network`, and over
//! `http/1.1`, which they share with the default service. There the first request tells which of the
//! two is meant, and it is looked at for members alone: nobody else would get a bundle.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use comity_tls::hello::SubProtocol;
use comity_tls::network::{answer_http, is_bundle_request};
use comity_tls::{ALPN_HTTP1, AcceptError, Acceptor, Incoming, PeerInfo, Request, ServiceName};
use comity_trust::{AllowRule, Reason, Recognition, authorise};
use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::capacity::{Capacity, Seats};
use crate::logging::LogBudget;
use crate::pipe::{Copied, pipe_peer};
use crate::proxy::ProxyHeader;
use crate::target::{Backend, Target};

/// The name of the service that a TARGET without a name stands for.
pub const DEFAULT_SERVICE: &str = "default";

/// How long a backend may take to answer a connection. It is on this machine, or near it.
const BACKEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause after the system refused a new connection (it is out of descriptors): trying at once
/// would only turn the core.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A silent connection is probed after this time, so that a peer that lost power does not hold a
/// backend connection for ever.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How long open connections may go on after a request to stop.
pub const DRAIN: Duration = Duration::from_secs(3);

/// One service and who may use it.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name; [`DEFAULT_SERVICE`] for the one that foreign peers reach.
    pub name: ServiceName,
    /// Where its bytes go.
    pub target: Target,
    /// Who may use it: whoever one of these rules admits.
    pub rules: Vec<AllowRule>,
    /// Whether each connection begins with a PROXY header.
    pub proxy_header: bool,
}

/// The services behind one acceptor.
#[derive(Clone, Debug)]
pub struct Services(Vec<Service>);

/// A list of services that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ServicesError {
    /// Nothing to serve.
    #[error("there is no service to serve")]
    Empty,
    /// Two services of one name.
    #[error("two services are called `{0}`")]
    Duplicate(ServiceName),
}

impl Services {
    /// No service at all: for a node that only admits members and hands out bundles.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// A list with one service of each name.
    ///
    /// # Errors
    /// When it is empty, or two have one name.
    pub fn new(services: Vec<Service>) -> Result<Self, ServicesError> {
        if services.is_empty() {
            return Err(ServicesError::Empty);
        }
        for (index, service) in services.iter().enumerate() {
            if services[..index].iter().any(|s| s.name == service.name) {
                return Err(ServicesError::Duplicate(service.name.clone()));
            }
        }
        Ok(Self(services))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The services.
    pub fn iter(&self) -> impl Iterator<Item = &Service> {
        self.0.iter()
    }

    /// The service a peer asks for. Without a name that is the default one, or the only one.
    fn find(&self, name: Option<&ServiceName>) -> Option<&Service> {
        match name {
            Some(name) => self.0.iter().find(|s| s.name == *name),
            None if self.0.len() == 1 => self.0.first(),
            None => self.0.iter().find(|s| s.name.as_str() == DEFAULT_SERVICE),
        }
    }
}

impl Service {
    fn admits(&self, recognition: &Recognition) -> Result<(), Reason> {
        let mut refused = Reason::NotAuthorised;
        for rule in &self.rules {
            match authorise(self.name.as_str(), rule, recognition) {
                Ok(()) => return Ok(()),
                // A rule that nearly fits says more than one that does not.
                Err(Reason::NotAuthorised) => {}
                Err(reason) => refused = reason,
            }
        }
        Err(refused)
    }
}

/// What every connection of one listener shares.
struct Hall {
    acceptor: Acceptor,
    services: Services,
    seats: Seats,
    refusals: LogBudget,
}

/// Serves on one listener until `stop` is cancelled; open connections then have [`DRAIN`] left.
pub async fn serve(
    listener: TcpListener,
    acceptor: Acceptor,
    services: Services,
    capacity: Capacity,
    stop: CancellationToken,
) {
    let hall = Arc::new(Hall {
        acceptor,
        services,
        seats: Seats::new(capacity),
        refusals: LogBudget::default(),
    });
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((tcp, remote)) => {
                let hall = Arc::clone(&hall);
                connections.spawn(async move { one(tcp, remote, &hall).await });
            }
            Err(error) => {
                if hall.refusals.allows(Instant::now()) {
                    tracing::warn!(error = %error, "a connection could not be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tracing::info!(open = connections.len(), "stopping");
    let drained = async { while connections.join_next().await.is_some() {} };
    drop(tokio::time::timeout(DRAIN, drained).await);
}

/// Serves one connection and says in the log what became of it.
async fn one(tcp: TcpStream, remote: SocketAddr, hall: &Hall) {
    prepare(&tcp);
    let local = tcp.local_addr().ok();
    let incoming = match hall.acceptor.accept(tcp, Some(remote)).await {
        Ok(incoming) => incoming,
        Err(error) => return hall.log_refused(remote, &error),
    };
    match answer(incoming, hall, local).await {
        Ok(Some((peer, copied))) => tracing::info!(
            peer = %peer.display(), sent = copied.sent, received = copied.received, "closed"
        ),
        Ok(None) => {}
        Err(error) => hall.log_refused(remote, &error),
    }
}

fn prepare(tcp: &TcpStream) {
    // Both are about speed and tidiness; a socket that refuses them still works.
    drop(tcp.set_nodelay(true));
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    drop(SockRef::from(tcp).set_tcp_keepalive(&keepalive));
}

impl Hall {
    /// Strangers cause refusals at will, so only so many are written down.
    fn log_refused(&self, remote: SocketAddr, error: &AcceptError) {
        match error {
            AcceptError::Refused { peer, reason } if self.refusals.allows(Instant::now()) => {
                tracing::info!(%remote, peer = %peer, reason = reason.token(), "refused");
            }
            other => tracing::debug!(%remote, error = %other, "no connection"),
        }
    }
}

async fn answer<IO>(
    mut incoming: Incoming<IO>,
    hall: &Hall,
    local: Option<SocketAddr>,
) -> Result<Option<(PeerInfo, Copied)>, AcceptError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if wants_bundle(&mut incoming).await {
        return hand_out(incoming, hall).await;
    }
    let wanted = match &incoming.request {
        Request::Comity(hello) => match hello.protocol {
            SubProtocol::Tunnel => hello.service.clone(),
            SubProtocol::Join => {
                let (mut stream, peer) = incoming.accept(|_| Ok(())).await?;
                tracing::info!(peer = %peer.display(), id = %peer.id, "joined by invitation");
                stream.shutdown().await.map_err(AcceptError::Io)?;
                return Ok(None);
            }
            SubProtocol::Network => return exchange(incoming).await,
            SubProtocol::Mesh | SubProtocol::Link | SubProtocol::Verify => {
                return Err(incoming.refuse(Reason::NoSuchService).await);
            }
        },
        Request::Foreign(_) => None,
    };
    let Some(service) = hall.services.find(wanted.as_ref()) else {
        return Err(incoming.refuse(Reason::NoSuchService).await);
    };
    if let Err(reason) = service.admits(incoming.recognition()) {
        return Err(incoming.refuse(reason).await);
    }
    let Some(_seat) = hall.seats.take(incoming.peer.id) else {
        if hall.refusals.allows(Instant::now()) {
            tracing::warn!(peer = %incoming.peer.display(), "no seat is free for another tunnel");
        }
        return Err(incoming.refuse(Reason::Busy).await);
    };
    let backend = tokio::time::timeout(BACKEND_TIMEOUT, service.target.connect()).await;
    let backend = match backend {
        Ok(Ok(backend)) => backend,
        failed => {
            let cause = match failed {
                Ok(Err(error)) => error.to_string(),
                _ => "no answer".to_owned(),
            };
            tracing::warn!(service = %service.name, target = %service.target, cause, "the backend is not there");
            return Err(incoming.refuse(Reason::Busy).await);
        }
    };
    tunnel(incoming, service.clone(), backend, local)
        .await
        .map(Some)
}

/// Exchanges bundles with a member until either side leaves.
async fn exchange<IO>(incoming: Incoming<IO>) -> Result<Option<(PeerInfo, Copied)>, AcceptError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let peer = incoming.peer.display();
    tracing::debug!(%peer, "exchanges bundles");
    if let Err(error) = incoming.exchange_bundles().await? {
        tracing::debug!(%peer, %error, "no longer exchanges bundles");
    }
    Ok(None)
}

/// Whether the peer's first request is for the bundle of a network.
async fn wants_bundle<IO>(incoming: &mut Incoming<IO>) -> bool
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let is_http = matches!(&incoming.request, Request::Foreign(Some(p)) if p == ALPN_HTTP1);
    let is_member = !incoming.recognition().memberships.is_empty();
    is_http && is_member && is_bundle_request(incoming.first_bytes().await)
}

/// Answers requests for bundles.
async fn hand_out<IO>(
    incoming: Incoming<IO>,
    hall: &Hall,
) -> Result<Option<(PeerInfo, Copied)>, AcceptError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(_seat) = hall.seats.take(incoming.peer.id) else {
        return Err(incoming.refuse(Reason::Busy).await);
    };
    let members = |peer: &Recognition| match peer.memberships.is_empty() {
        true => Err(Reason::NotAuthorised),
        false => Ok(()),
    };
    let (stream, peer) = incoming.accept(members).await?;
    if let Err(error) = answer_http(hall.acceptor.endpoint(), stream).await {
        tracing::debug!(peer = %peer.display(), %error, "a request for a bundle broke off");
    }
    Ok(None)
}

async fn tunnel<IO>(
    incoming: Incoming<IO>,
    service: Service,
    mut backend: Backend,
    local: Option<SocketAddr>,
) -> Result<(PeerInfo, Copied), AcceptError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (name, proxy_header) = (service.name.clone(), service.proxy_header);
    let (mut stream, peer) = incoming
        .accept(move |recognition| service.admits(recognition))
        .await?;
    for warning in &peer.warnings {
        tracing::warn!(peer = %peer.display(), ?warning, "accepted with a warning");
    }
    tracing::info!(peer = %peer.display(), id = %peer.id, service = %name, how = peer.how.token(), "accepted");
    if proxy_header {
        backend
            .write_all(&header(&peer, local))
            .await
            .map_err(AcceptError::Io)?;
    }
    let copied = pipe_peer(&mut stream, &mut backend).await;
    let copied = copied.map_err(AcceptError::Io)?;
    Ok((peer, copied))
}

fn header(peer: &PeerInfo, local: Option<SocketAddr>) -> Vec<u8> {
    ProxyHeader {
        tls: peer.tls,
        source: peer.remote,
        destination: local,
        peer: &peer.id.to_string(),
        label: peer.label.as_deref(),
        attested: &peer.attested,
    }
    .encode()
}
