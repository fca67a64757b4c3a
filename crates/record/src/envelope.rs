//! What all signed objects have in common: a payload in a byte string, and signatures beside it.

use comity_identity::{SignError, UnixTime};
use minicbor::Decoder;
use thiserror::Error;

use crate::cbor::{self, FormatError};
use crate::limits::MAX_SEQUENCE_LEAD;

/// Why an object could not be made.
#[derive(Debug, Error)]
pub enum SigningError<E: std::error::Error + 'static> {
    /// A key could not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// We would refuse our own object: the request is not acceptable, or a signer lied.
    #[error("it would be refused: {0}")]
    Refused(#[source] E),
}

/// `[payload, signature, …]`: the payload and `N` signatures.
pub(crate) fn read_envelope<const N: usize>(
    bytes: &[u8],
) -> Result<(&[u8], [&[u8]; N]), FormatError> {
    let mut decoder = Decoder::new(bytes);
    cbor::tuple(&mut decoder, 1 + N as u64)?;
    let payload = decoder.bytes()?;
    let mut signatures = [[].as_slice(); N];
    for signature in &mut signatures {
        *signature = decoder.bytes()?;
    }
    cbor::finished(&decoder, bytes)?;
    Ok((payload, signatures))
}

pub(crate) fn needed<T>(field: Option<T>, key: u64) -> Result<T, FormatError> {
    field.ok_or(FormatError::Missing { key })
}

/// The sequence in the field `key` of what was made at `issued`.
pub(crate) fn check_sequence(sequence: u64, issued: UnixTime, key: u64) -> Result<(), FormatError> {
    if sequence == 0 {
        return Err(FormatError::Value { key });
    }
    match sequence <= issued.as_secs().saturating_add(MAX_SEQUENCE_LEAD) {
        true => Ok(()),
        false => Err(FormatError::Sequence { sequence, issued }),
    }
}

/// Seconds since 1970. Later than the year 9999 is refused: it would come out as another number
/// than the one that was signed.
pub(crate) fn read_time(d: &mut Decoder<'_>, key: u64) -> Result<UnixTime, FormatError> {
    let seconds = d.u64()?;
    let time = UnixTime::from_secs(seconds);
    match time.as_secs() == seconds {
        true => Ok(time),
        false => Err(FormatError::Value { key }),
    }
}
