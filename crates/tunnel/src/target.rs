//! What stands behind a service: a TCP address or a Unix socket of this machine.

use std::fmt;
use std::io;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Where the bytes of a service go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// A host and port; names are resolved at each connection.
    Tcp {
        /// Host name or address, IPv6 without brackets.
        host: String,
        /// Port, not 0.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// A text that is no target.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is no target; write a port, HOST:PORT, or unix:PATH")]
pub struct TargetError {
    /// The text, at most 100 characters of it.
    pub text: String,
}

impl FromStr for Target {
    type Err = TargetError;

    /// Reads `5432` (on 127.0.0.1), `host:5432`, `[::1]:5432`, `unix:/run/app.sock` or an absolute
    /// path.
    fn from_str(text: &str) -> Result<Self, TargetError> {
        let error = || TargetError {
            text: text.chars().take(100).collect(),
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return (!path.is_empty())
                .then(|| Self::Unix(path.into()))
                .ok_or_else(error);
        }
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("127.0.0.1", text));
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => Some(v6).filter(|text| is_v6(text)),
            None => Some(host).filter(|text| is_host(text)),
        };
        match (host, port.parse()) {
            (Some(host), Ok(port)) if port != 0 => Ok(Self::Tcp {
                host: host.to_owned(),
                port,
            }),
            _ => Err(error()),
        }
    }
}

/// An IPv6 address, possibly with a zone: link-local backends have one.
fn is_v6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "0"));
    address.parse::<Ipv6Addr>().is_ok() && is_host(zone)
}

/// What a resolver may be asked. Without the characters that mean something else in a target, so
/// that what is printed is read as the same target.
fn is_host(text: &str) -> bool {
    let foreign = |c: char| c.is_whitespace() || c.is_control() || "[]:/%".contains(c);
    !text.is_empty() && !text.contains(foreign)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Target {
    /// Connects to the service.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(&self) -> io::Result<Backend> {
        match self {
            Self::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                // The tunnel forwards whole reads: waiting to fill a segment only adds delay.
                stream.set_nodelay(true)?;
                Ok(Backend::Tcp(stream))
            }
            Self::Unix(path) => Ok(Backend::Unix(UnixStream::connect(path).await?)),
        }
    }
}

/// A connection of this machine: to a service, or from a local client.
#[derive(Debug)]
pub enum Backend {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Backend::Tcp($stream) => $call,
            Backend::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Backend {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Backend {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_printed() {
        for (text, printed) in [
            ("5432", "127.0.0.1:5432"),
            ("db.example:5432", "db.example:5432"),
            ("[::1]:80", "[::1]:80"),
            ("[fe80::1%eth0]:80", "[fe80::1%eth0]:80"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
            ("/run/app.sock", "unix:/run/app.sock"),
        ] {
            let target: Target = text.parse().expect("a target");
            assert_eq!(target.to_string(), printed);
        }
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for text in [
            "",
            "host",
            ":80",
            "host:0",
            "host:99999",
            "::1:80",
            "unix:",
            "a b:80",
            "[host]:80",
            "[[::1]]:80",
            "[/run/app.sock]:80",
            "[::1%]:80",
            "a/b:80",
            "a\0:80",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text:?}");
        }
    }
}
