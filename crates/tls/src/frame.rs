//! The frames of `comity/1`, before application data flows.
//!
//! After the TLS handshake and the gate on both sides:
//!
//! 1. The dialer sends HELLO: which sub-protocol and service it wants, and what it can prove. It
//!    speaks first because it has already judged the acceptor; the acceptor learns nothing of the
//!    dialer's wishes before that.
//! 2. The acceptor decides on live state and answers ACCEPT or REFUSE. A TLS 1.3 client finishes
//!    its handshake before the server has judged it, so without this answer a refusal would look
//!    like a connection that opens and dies.
//! 3. After ACCEPT the connection belongs to the sub-protocol. For `tunnel` the bytes that follow
//!    are the service's own, without framing.
//!
//! A frame is one byte of type, two bytes of length (big-endian) and a body of that length, which
//! is one deterministic CBOR map (RFC 8949 section 4.2.1) with integer keys. Keys that a reader
//! does not know are skipped, so that later versions can add some.

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest body: 16 kB, the budget of a HELLO. What is longer comes in parts.
pub const MAX_BODY: usize = 16 * 1024;

/// What a frame is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameType {
    /// The dialer's request.
    Hello,
    /// The acceptor's yes.
    Accept,
    /// The acceptor's no, with a token.
    Refuse,
    /// A part of a membership, from an issuer of the network ([`crate::network`]).
    Grant,
    /// What the sender holds of the networks that both are in.
    Sync,
    /// A part of a network's bundle.
    Bundle,
    /// A step of the live comparison ([`crate::live`]).
    Live,
}

impl FrameType {
    const fn code(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Accept => 2,
            Self::Refuse => 3,
            Self::Grant => 4,
            Self::Sync => 5,
            Self::Bundle => 6,
            Self::Live => 16,
        }
    }

    const fn of_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Hello),
            2 => Some(Self::Accept),
            3 => Some(Self::Refuse),
            4 => Some(Self::Grant),
            5 => Some(Self::Sync),
            6 => Some(Self::Bundle),
            16 => Some(Self::Live),
            _ => None,
        }
    }
}

/// Why a frame could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The connection ended or failed.
    #[error("the connection ended before a whole frame arrived")]
    Io(#[from] std::io::Error),
    /// A type this version does not know.
    #[error("unknown frame type {code}")]
    UnknownType {
        /// The type byte.
        code: u8,
    },
    /// Another type than the protocol expects here.
    #[error("expected {expected:?}, got {found:?}")]
    Unexpected {
        /// What the protocol expects next.
        expected: FrameType,
        /// What came.
        found: FrameType,
    },
    /// A body over [`MAX_BODY`].
    #[error("a frame of {length} bytes is over the limit of {MAX_BODY}")]
    TooLong {
        /// The announced length.
        length: usize,
    },
    /// A body that is not the one deterministic encoding of what the type holds.
    #[error("the frame's content is malformed: {0}")]
    Content(#[from] ContentError),
}

/// What is wrong with the CBOR of a body.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContentError {
    /// Not CBOR of the expected shape.
    #[error("not the expected CBOR")]
    Shape,
    /// Keys out of order or repeated, an overlong integer, or bytes after the map.
    #[error("not deterministic CBOR")]
    NotDeterministic,
    /// A required key is absent.
    #[error("key {key} is missing")]
    Missing {
        /// The absent key.
        key: u64,
    },
    /// A value over its limit or outside its alphabet.
    #[error("key {key} holds an inadmissible value")]
    Value {
        /// The offending key.
        key: u64,
    },
}

impl From<minicbor::decode::Error> for ContentError {
    fn from(_: minicbor::decode::Error) -> Self {
        Self::Shape
    }
}

/// Writes one frame.
///
/// # Errors
/// When the body is over [`MAX_BODY`] or the connection fails.
pub async fn write_frame<W: AsyncWrite + Unpin>(
    writer: &mut W,
    kind: FrameType,
    body: &[u8],
) -> Result<(), FrameError> {
    let frame = encode(kind, body)?;
    writer.write_all(&frame).await?;
    writer.flush().await?;
    Ok(())
}

/// Reads one frame, of whatever known type. Never buffers beyond the frame: the bytes after it
/// belong to the sub-protocol.
///
/// # Errors
/// When the type is unknown, the length over the limit, or the connection ends.
pub async fn read_frame<R: AsyncRead + Unpin>(
    reader: &mut R,
) -> Result<(FrameType, Vec<u8>), FrameError> {
    let mut header = [0; 3];
    reader.read_exact(&mut header).await?;
    let (kind, length) = decode_header(header)?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await?;
    Ok((kind, body))
}

/// Reads one frame that must be of type `expected`.
///
/// # Errors
/// As [`read_frame`], and when the type differs.
pub async fn expect_frame<R: AsyncRead + Unpin>(
    reader: &mut R,
    expected: FrameType,
) -> Result<Vec<u8>, FrameError> {
    let (found, body) = read_frame(reader).await?;
    if found != expected {
        return Err(FrameError::Unexpected { expected, found });
    }
    Ok(body)
}

/// Takes the first frame off `buffer`, if it is there as a whole. What may arrive in pieces, beside
/// other events, is read this way instead of with [`read_frame`].
///
/// # Errors
/// When the type is unknown or the length over the limit.
pub(crate) fn take_frame(buffer: &mut Vec<u8>) -> Result<Option<(FrameType, Vec<u8>)>, FrameError> {
    let Some(header) = buffer.first_chunk::<3>() else {
        return Ok(None);
    };
    let (kind, length) = decode_header(*header)?;
    if buffer.len() < 3 + length {
        return Ok(None);
    }
    let rest = buffer.split_off(3 + length);
    let body = std::mem::replace(buffer, rest).split_off(3);
    Ok(Some((kind, body)))
}

pub(crate) fn encode(kind: FrameType, body: &[u8]) -> Result<Vec<u8>, FrameError> {
    let length = u16::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= MAX_BODY)
        .ok_or(FrameError::TooLong { length: body.len() })?;
    let mut frame = Vec::with_capacity(3 + body.len());
    frame.push(kind.code());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(body);
    Ok(frame)
}

fn decode_header([code, high, low]: [u8; 3]) -> Result<(FrameType, usize), FrameError> {
    let kind = FrameType::of_code(code).ok_or(FrameError::UnknownType { code })?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_BODY {
        return Err(FrameError::TooLong { length });
    }
    Ok((kind, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frame_leaves_the_bytes_after_it_alone() {
        let mut wire = encode(FrameType::Accept, &[0xa0]).expect("short");
        wire.extend_from_slice(b"application data");
        let mut reader = wire.as_slice();
        let (kind, body) = read_frame(&mut reader).await.expect("a frame");
        assert_eq!((kind, body.as_slice()), (FrameType::Accept, &[0xa0][..]));
        assert_eq!(reader, b"application data");
    }

    #[test]
    fn frames_are_taken_off_a_buffer_once_they_are_whole() {
        let wire = [
            encode(FrameType::Sync, &[0xa0; 5]).expect("short"),
            encode(FrameType::Bundle, &[]).expect("short"),
        ]
        .concat();
        let mut buffer = Vec::new();
        let mut taken = Vec::new();
        for byte in wire {
            buffer.push(byte);
            taken.extend(take_frame(&mut buffer).expect("sound"));
        }
        assert!(buffer.is_empty());
        assert_eq!(
            taken,
            [
                (FrameType::Sync, vec![0xa0; 5]),
                (FrameType::Bundle, Vec::new())
            ]
        );
        assert!(take_frame(&mut vec![9, 0, 0]).is_err());
    }

    #[tokio::test]
    async fn the_longest_body_passes_and_one_byte_more_does_not() {
        let mut wire = encode(FrameType::Hello, &[0; MAX_BODY]).expect("at the limit");
        assert!(read_frame(&mut wire.as_slice()).await.is_ok());
        assert!(matches!(
            encode(FrameType::Hello, &[0; MAX_BODY + 1]),
            Err(FrameError::TooLong { .. })
        ));
        let over = u16::try_from(MAX_BODY + 1).expect("fits").to_be_bytes();
        wire[1..3].copy_from_slice(&over);
        assert!(matches!(
            read_frame(&mut wire.as_slice()).await,
            Err(FrameError::TooLong { .. })
        ));
    }

    #[tokio::test]
    async fn unknown_unexpected_and_truncated_frames_are_refused() {
        assert!(matches!(
            read_frame(&mut [9, 0, 0].as_slice()).await,
            Err(FrameError::UnknownType { code: 9 })
        ));
        assert!(matches!(
            expect_frame(&mut [2, 0, 0].as_slice(), FrameType::Hello).await,
            Err(FrameError::Unexpected { .. })
        ));
        for cut in [&[1][..], &[1, 0, 4, 1, 2, 3][..]] {
            let mut cut = cut;
            assert!(matches!(read_frame(&mut cut).await, Err(FrameError::Io(_))));
        }
    }
}
