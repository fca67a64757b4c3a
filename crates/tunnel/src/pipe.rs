//! Copying between a tunnel and a local connection, with half-close.
//!
//! When one side has finished sending, the other side is told so and may go on sending: `ssh`,
//! `rsync` and many database protocols depend on it. A side that fails ends both.

use std::io;
use std::time::Duration;

use comity_tls::PeerStream;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// Bytes per direction. One TLS record. Larger ones would cost their size for
/// every idle connection.
const BUFFER: usize = 16 * 1024;

/// How long the peer's last words are awaited after a write failed. They are there already, or lost.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Bytes that went through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Copied {
    /// From the first to the second.
    pub sent: u64,
    /// From the second to the first.
    pub received: u64,
}

/// Copies between a peer and a local connection, until both have finished sending or the peer's
/// authority ends. The end is not left to the copying: a direction that waits for the local side, or
/// that was finished, does not look at the peer's stream any more.
///
/// # Errors
/// When either side fails, or the authority ended; the caller then drops both.
pub async fn pipe_peer<IO, B>(peer: &mut PeerStream<IO>, local: &mut B) -> io::Result<Copied>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let watch = peer.end_watch();
    tokio::select! {
        biased;
        ended = watch.ended() => Err(io::Error::new(io::ErrorKind::PermissionDenied, ended)),
        copied = pipe(peer, local) => copied,
    }
}

/// As [`pipe_standard`], until the peer's authority ends.
///
/// # Errors
/// As [`pipe_standard`], and when the authority ended.
pub async fn pipe_peer_standard<IO, I, O>(
    peer: PeerStream<IO>,
    input: I,
    output: O,
) -> io::Result<Copied>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
{
    let watch = peer.end_watch();
    tokio::select! {
        biased;
        ended = watch.ended() => Err(io::Error::new(io::ErrorKind::PermissionDenied, ended)),
        copied = pipe_standard(peer, input, output) => copied,
    }
}

/// Copies in both directions until both sides have finished sending.
///
/// # Errors
/// When either side fails.
async fn pipe<A, B>(first: &mut A, second: &mut B) -> io::Result<Copied>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (sent, received) =
        tokio::io::copy_bidirectional_with_sizes(first, second, BUFFER, BUFFER).await?;
    Ok(Copied { sent, received })
}

/// Copies standard input to `stream` and `stream` to standard output.
///
/// The end of the input is passed on; the answer is still awaited. The end of the answer ends the
/// call, even when the input is open: nobody reads what would still be typed.
///
/// # Errors
/// When the stream fails. A closed standard output is a normal end.
async fn pipe_standard<S, I, O>(stream: S, mut input: I, mut output: O) -> io::Result<Copied>
where
    S: AsyncRead + AsyncWrite + Unpin,
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
{
    let (mut from_peer, mut to_peer) = tokio::io::split(stream);
    let upward = async {
        let sent = tokio::io::copy(&mut input, &mut to_peer).await?;
        to_peer.shutdown().await?;
        Ok::<u64, io::Error>(sent)
    };
    let downward = async {
        let received = copy_flushing(&mut from_peer, &mut output).await?;
        Ok::<u64, io::Error>(received)
    };
    tokio::pin!(upward, downward);
    let mut copied = Copied::default();
    tokio::select! {
        sent = &mut upward => match sent {
            Ok(sent) => {
                copied.sent = sent;
                copied.received = downward.await?;
            }
            // A peer that refuses says why and closes: what it said may still wait to be read, and
            // is the better answer than a broken pipe.
            Err(broken) => {
                let last_words = tokio::time::timeout(LAST_WORDS, downward).await;
                return Err(match last_words {
                    Ok(Err(refusal)) => refusal,
                    _ => broken,
                });
            }
        },
        received = &mut downward => copied.received = received?,
    }
    Ok(copied)
}

/// Copies and flushes after each read, because a person or a protocol waits for every byte.
async fn copy_flushing<R, W>(from: &mut R, to: &mut W) -> io::Result<u64>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    use tokio::io::AsyncReadExt;
    let mut buffer = vec![0; BUFFER];
    let mut total = 0;
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(total);
        }
        let written = async {
            to.write_all(&buffer[..read]).await?;
            to.flush().await
        };
        match written.await {
            Ok(()) => total += read as u64,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(total),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncReadExt, ReadBuf};

    use super::*;

    #[tokio::test]
    async fn each_direction_closes_by_itself() {
        let (mut client, mut near) = tokio::io::duplex(64);
        let (mut far, mut server) = tokio::io::duplex(64);
        let copy = tokio::spawn(async move { pipe(&mut near, &mut far).await });
        client.write_all(b"question").await.expect("open");
        client.shutdown().await.expect("open");
        let mut question = String::new();
        server.read_to_string(&mut question).await.expect("ends");
        assert_eq!(question, "question");
        server.write_all(b"answer").await.expect("still open");
        server.shutdown().await.expect("open");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("ends");
        assert_eq!(answer, "answer");
        let copied = copy.await.expect("no panic").expect("no error");
        assert_eq!(
            copied,
            Copied {
                sent: 8,
                received: 6
            }
        );
    }

    #[tokio::test]
    async fn the_answer_is_awaited_after_the_input_ends() {
        let (stream, mut peer) = tokio::io::duplex(64);
        let mut output = Vec::new();
        let standard = pipe_standard(stream, &b"in"[..], &mut output);
        let remote = async {
            let mut got = String::new();
            peer.read_to_string(&mut got).await.expect("ends");
            peer.write_all(b"out").await.expect("still open");
            drop(peer);
            got
        };
        let (copied, got) = tokio::join!(standard, remote);
        assert_eq!(got, "in");
        assert_eq!(
            copied.expect("no error"),
            Copied {
                sent: 2,
                received: 3
            }
        );
        assert_eq!(output, b"out");
    }

    /// A connection whose peer said why and closed.
    struct Refusing;

    impl AsyncRead for Refusing {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::Error::other("refused")))
        }
    }

    impl AsyncWrite for Refusing {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_refusal_that_waits_to_be_read_is_told_instead_of_a_broken_pipe() {
        // Whichever direction the scheduler looks at first.
        for _ in 0..50 {
            let outcome = pipe_standard(Refusing, &b"question"[..], Vec::new()).await;
            assert_eq!(outcome.expect_err("refused").to_string(), "refused");
        }
    }

    #[tokio::test]
    async fn the_end_of_the_answer_ends_the_call_while_the_input_is_open() {
        let (stream, peer) = tokio::io::duplex(64);
        let (_open, input) = tokio::io::duplex(64);
        drop(peer);
        let copied = pipe_standard(stream, input, Vec::new()).await;
        assert_eq!(copied.expect("no error").received, 0);
    }
}
