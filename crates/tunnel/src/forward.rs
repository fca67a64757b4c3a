//! The dialling side: standard input and output, or a local port, connected to a peer's service.

use std::io;
use std::sync::Arc;

use comity_tls::{Connection, DialError, DialRequest, Dialer};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::pipe::pipe_peer;
use crate::serve::ACCEPT_PAUSE;
use crate::target::Backend;

/// Where and how one peer is dialled.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its addresses, in order of preference.
    pub addresses: Vec<(String, u16)>,
    /// Whom we expect there, and what for.
    pub request: DialRequest,
}

impl Route {
    /// Dials the addresses in turn until one answers. A refusal is an answer: the next address
    /// would be the same peer, or somebody else's.
    ///
    /// # Errors
    /// See [`DialError`]; when no address answers, the error of the first.
    pub async fn dial(&self, dialer: &Dialer) -> Result<Connection<TcpStream>, DialError> {
        let mut first = None;
        for (host, port) in &self.addresses {
            match dialer
                .dial(host, *port, self.request.at_host(host, *port))
                .await
            {
                Err(error @ (DialError::Unreachable { .. } | DialError::Timeout)) => {
                    first.get_or_insert(error);
                }
                outcome => return outcome,
            }
        }
        Err(first.unwrap_or(DialError::Unreachable {
            address: "the peer".to_owned(),
            source: io::Error::new(io::ErrorKind::AddrNotAvailable, "no address is known"),
        }))
    }
}

/// A local port or socket that stands for the peer's service.
#[derive(Debug)]
pub enum LocalListener {
    /// A TCP port.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl LocalListener {
    async fn accept(&self) -> io::Result<Backend> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Backend::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Backend::Unix(listener.accept().await?.0)),
        }
    }
}

/// Dials the peer anew for each local connection, until `stop` is cancelled. `report` hears of
/// each dial that failed, since the local client only sees its connection close.
pub async fn forward(
    listener: LocalListener,
    dialer: Dialer,
    route: Arc<Route>,
    stop: CancellationToken,
    report: impl Fn(DialError) + Clone + Send + 'static,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
        };
        let mut local = match accepted {
            Ok(local) => local,
            Err(error) => {
                tracing::warn!(error = %error, "a local connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (dialer, route, report) = (dialer.clone(), Arc::clone(&route), report.clone());
        connections.spawn(async move {
            match route.dial(&dialer).await {
                Ok(mut connection) => {
                    if let Err(error) = pipe_peer(&mut connection.stream, &mut local).await {
                        tracing::info!(error = %error, "a forwarded connection failed");
                    }
                }
                Err(error) => report(error),
            }
        });
    }
}
