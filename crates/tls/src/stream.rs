//! The byte stream of an accepted connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use crate::session::{EndWatch, Ended, Recognised, Session};

/// A mutually authenticated byte stream that ends when its peer's authority does.
///
/// Reading and writing fail with [`io::ErrorKind::PermissionDenied`] and an [`Ended`] inside once
/// the peer was revoked or removed, or its certificate has run out. Shutting down the write half
/// leaves the read half open, as TCP does.
#[derive(Debug)]
pub struct PeerStream<IO> {
    tls: Box<TlsStream<IO>>,
    session: Arc<Session>,
}

impl<IO> PeerStream<IO> {
    pub(crate) fn new(tls: Box<TlsStream<IO>>, session: Arc<Session>) -> Self {
        Self { tls, session }
    }

    /// Why the connection may not go on, once that is so.
    pub fn ended(&self) -> Option<Ended> {
        self.session.ended()
    }

    /// Something that waits for the end, for tasks that may be busy elsewhere when it comes.
    pub fn end_watch(&self) -> EndWatch {
        EndWatch::new(Arc::clone(&self.session))
    }

    /// How the peer is recognised, now and later.
    pub fn recognised(&self) -> Recognised {
        self.session.recognised()
    }

    /// The transport below TLS.
    pub fn transport(&self) -> &IO {
        self.tls.get_ref().0
    }

    fn check(&self) -> io::Result<()> {
        match self.session.ended() {
            Some(ended) => Err(io::Error::new(io::ErrorKind::PermissionDenied, ended)),
            None => Ok(()),
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for PeerStream<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Registered before the check: an end between the two still wakes us.
        self.session.watch_reading(cx.waker());
        self.check()?;
        Pin::new(&mut self.tls).poll_read(cx, buffer)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for PeerStream<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.session.watch_writing(cx.waker());
        self.check()?;
        Pin::new(&mut self.tls).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.watch_writing(cx.waker());
        self.check()?;
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.watch_writing(cx.waker());
        self.check()?;
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.session.watch_writing(cx.waker());
        self.check()?;
        Pin::new(&mut self.tls).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session(ended: {:?})", self.ended())
    }
}
