//! The live comparison: two people, on the phone, compare four words on both screens.
//!
//! Four words hold 44 bits. That suffices only because a commitment leaves an attacker in the
//! middle a single try: without it he could search for key shares and nonces that show the same
//! words on both legs. The steps, each one frame of type LIVE after ACCEPT:
//!
//! 1. The dialer sends the hash of its nonce. From here on it cannot choose.
//! 2. The acceptor sends its nonce. It did not know the dialer's.
//! 3. The dialer opens: it sends its nonce. The acceptor checks it against the hash.
//! 4. Both derive the words from the TLS exporter of *their* connection, both ids in role order,
//!    and both nonces. With somebody in the middle there are two connections, and the words
//!    differ but for one chance in 2^44.
//! 5. Each person says whether the words are the same, and each side sends that answer. Only
//!    when both say yes is the comparison good.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use comity_identity::{PeerId, four_words};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::frame::{ContentError, FrameError, FrameType, expect_frame, write_frame};
use crate::hello::{MapWriter, read_map};

/// The exporter label of the comparison.
pub(crate) const EXPORTER_LABEL: &[u8] = b"EXPORTER-comity-live-v1";

const COMMIT_DOMAIN: &[u8] = b"comity live commit v1\0";
const WORDS_DOMAIN: &[u8] = b"comity live words v1\0";

/// How long the nonces may take: they need no person.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the other person may take to answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// Who opened the connection that is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// We dialled.
    Dialer,
    /// We accepted.
    Acceptor,
}

/// What the words are derived from besides the nonces.
#[derive(Debug)]
pub struct LiveContext {
    /// Our side.
    pub role: Role,
    /// Exporter of this connection under the comparison's own label.
    pub exporter: [u8; 32],
    /// The dialer's id.
    pub dialer: PeerId,
    /// The acceptor's id.
    pub acceptor: PeerId,
}

/// Why a comparison came to no words.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LiveError {
    /// The connection or a frame failed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The opened nonce is not the one committed to: somebody tries to choose the words.
    #[error("the peer opened another nonce than it committed to")]
    Commitment,
    /// The peer did not answer in time.
    #[error("the peer did not answer in time")]
    Timeout,
    /// The system gave no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Entropy(getrandom::Error),
}

/// Steps 1 to 4: exchanges nonces and answers the four words.
///
/// # Errors
/// When the connection fails, the peer takes over ten seconds, or breaks its commitment.
pub async fn exchange<S>(
    stream: &mut S,
    context: &LiveContext,
) -> Result<[&'static str; 4], LiveError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(LiveError::Entropy)?;
    let steps = exchange_with(stream, context, nonce);
    tokio::time::timeout(EXCHANGE_TIMEOUT, steps)
        .await
        .map_err(|_| LiveError::Timeout)?
}

async fn exchange_with<S>(
    stream: &mut S,
    context: &LiveContext,
    nonce: [u8; 32],
) -> Result<[&'static str; 4], LiveError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (dialer_nonce, acceptor_nonce) = match context.role {
        Role::Dialer => {
            send(stream, Step::Commit(commitment(&nonce))).await?;
            let Step::Nonce(theirs) = receive(stream).await? else {
                return Err(unexpected());
            };
            send(stream, Step::Open(nonce)).await?;
            (nonce, theirs)
        }
        Role::Acceptor => {
            let Step::Commit(committed) = receive(stream).await? else {
                return Err(unexpected());
            };
            send(stream, Step::Nonce(nonce)).await?;
            let Step::Open(theirs) = receive(stream).await? else {
                return Err(unexpected());
            };
            if commitment(&theirs) != committed {
                return Err(LiveError::Commitment);
            }
            (theirs, nonce)
        }
    };
    Ok(derive_words(context, &dialer_nonce, &acceptor_nonce))
}

/// Step 5: sends our person's answer and awaits the other's. True when both said yes.
///
/// # Errors
/// When the connection fails or the other person takes over five minutes.
pub async fn confirm<S>(stream: &mut S, same: bool) -> Result<bool, LiveError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send(stream, Step::Answer(same)).await?;
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, receive(stream))
        .await
        .map_err(|_| LiveError::Timeout)??;
    match answer {
        Step::Answer(theirs) => Ok(same && theirs),
        _ => Err(unexpected()),
    }
}

fn commitment(nonce: &[u8; 32]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &[COMMIT_DOMAIN, nonce].concat()).as_ref());
    hash
}

fn derive_words(
    context: &LiveContext,
    dialer_nonce: &[u8; 32],
    acceptor_nonce: &[u8; 32],
) -> [&'static str; 4] {
    let (dialer, acceptor) = (context.dialer.key_hash(), context.acceptor.key_hash());
    let info = [
        WORDS_DOMAIN,
        dialer.as_bytes(),
        acceptor.as_bytes(),
        dialer_nonce.as_slice(),
        acceptor_nonce.as_slice(),
    ];
    let mut material = [0; 32];
    Salt::new(HKDF_SHA256, &[])
        .extract(&context.exporter)
        .expand(&info, HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut material))
        .expect("one block of HKDF output is within its limit");
    four_words(&material)
}

enum Step {
    Commit([u8; 32]),
    Nonce([u8; 32]),
    Open([u8; 32]),
    Answer(bool),
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, step: Step) -> Result<(), LiveError> {
    let mut map = MapWriter::new();
    match step {
        Step::Commit(hash) => map.field(1, |e| e.bytes(&hash)),
        Step::Nonce(nonce) => map.field(2, |e| e.bytes(&nonce)),
        Step::Open(nonce) => map.field(3, |e| e.bytes(&nonce)),
        Step::Answer(same) => map.field(4, |e| e.bool(same)),
    };
    Ok(write_frame(stream, FrameType::Live, &map.finish()).await?)
}

async fn receive<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Step, LiveError> {
    let body = expect_frame(stream, FrameType::Live).await?;
    Ok(decode_step(&body).map_err(FrameError::Content)?)
}

fn decode_step(body: &[u8]) -> Result<Step, ContentError> {
    let mut step = None;
    read_map(body, |key, d| {
        let mut value = || -> Result<[u8; 32], ContentError> {
            d.bytes()?
                .try_into()
                .map_err(|_| ContentError::Value { key })
        };
        let found = match key {
            1 => Step::Commit(value()?),
            2 => Step::Nonce(value()?),
            3 => Step::Open(value()?),
            4 => Step::Answer(d.bool()?),
            _ => return Ok(false),
        };
        if step.replace(found).is_some() {
            return Err(ContentError::Shape);
        }
        Ok(true)
    })?;
    step.ok_or(ContentError::Shape)
}

fn unexpected() -> LiveError {
    LiveError::Frame(FrameError::Content(ContentError::Shape))
}

/// Decodes a step of the comparison, for the fuzz target.
#[doc(hidden)]
pub fn fuzz_decode(body: &[u8]) -> bool {
    decode_step(body).is_ok()
}

#[cfg(test)]
mod tests;
