//! Somebody in the middle who ends TLS on both legs with faces of its own and passes the plain
//! bytes on, reading along.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::world::{Face, bare_client, bare_server};

/// The faces that are shown on both legs.
pub struct Middle {
    to_dialer: ServerConfig,
    to_acceptor: ClientConfig,
}

/// What the one in the middle got to know.
#[derive(Debug, Default)]
pub struct Overheard {
    /// Whether the dialer finished its handshake.
    pub dialer_came: bool,
    /// Whether the acceptor finished its handshake.
    pub acceptor_came: bool,
    /// Application bytes of the dialer.
    pub out: Vec<u8>,
    /// Application bytes of the acceptor.
    pub back: Vec<u8>,
}

impl Middle {
    /// Shows `serving` to the dialer and `dialling` to the acceptor.
    pub fn new(serving: &Face, dialling: &Face) -> Self {
        Self {
            to_dialer: bare_server(serving),
            to_acceptor: bare_client(Some(dialling)),
        }
    }

    /// Speaks these protocols on both legs.
    #[must_use]
    pub fn speaking(mut self, alpn: &[u8]) -> Self {
        self.to_dialer.alpn_protocols = vec![alpn.to_vec()];
        self.to_acceptor.alpn_protocols = vec![alpn.to_vec()];
        self
    }

    /// Starts its work. Gives the ends for dialer and acceptor, and what it will have overheard
    /// when both are closed.
    pub fn start(self) -> (DuplexStream, DuplexStream, JoinHandle<Overheard>) {
        let (dialer, front) = tokio::io::duplex(256 * 1024);
        let (acceptor, back) = tokio::io::duplex(256 * 1024);
        let work = tokio::spawn(async move {
            let mut heard = Overheard::default();
            // How a leg ends is not its business: what it heard is.
            drop(self.relay(front, back, &mut heard).await);
            heard
        });
        (dialer, acceptor, work)
    }

    async fn relay(
        self,
        front: DuplexStream,
        back: DuplexStream,
        heard: &mut Overheard,
    ) -> io::Result<()> {
        let front = TlsAcceptor::from(Arc::new(self.to_dialer)).accept(front);
        let front = front.await?;
        heard.dialer_came = true;
        let name = ServerName::try_from("peer.invalid").expect("a name");
        let back = TlsConnector::from(Arc::new(self.to_acceptor)).connect(name, back);
        let back = back.await?;
        heard.acceptor_came = true;
        let (front_read, front_write) = tokio::io::split(front);
        let (back_read, back_write) = tokio::io::split(back);
        tokio::join!(
            pass(front_read, back_write, &mut heard.out),
            pass(back_read, front_write, &mut heard.back),
        );
        Ok(())
    }
}

async fn pass<R, W>(mut from: ReadHalf<R>, mut to: WriteHalf<W>, heard: &mut Vec<u8>)
where
    R: tokio::io::AsyncRead,
    W: tokio::io::AsyncWrite,
{
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        heard.extend_from_slice(&chunk[..read]);
        let passed = async {
            to.write_all(&chunk[..read]).await?;
            to.flush().await
        };
        if passed.await.is_err() {
            break;
        }
    }
    drop(to.shutdown().await);
}
