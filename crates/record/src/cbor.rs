//! Deterministic CBOR (RFC 8949 section 4.2.1) as all signed objects use it: maps with unsigned
//! integers as keys.
//!
//! Signed bytes are kept as they came, never encoded again, so fields that a reader does not know
//! stay covered by the signature and are passed on. Whether it may go on without knowing them is
//! in the key: below [`FIRST_OPTIONAL_KEY`] it must refuse, because the field may restrict what the
//! rest means; from there on it may ignore the field.

use aws_lc_rs::digest;
use comity_identity::UnixTime;
use minicbor::{Decoder, Encoder};
use thiserror::Error;

/// The least key that a reader which does not know it ignores.
pub(crate) const FIRST_OPTIONAL_KEY: u64 = 128;

/// Why bytes are not one of our signed objects, before any signature is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Larger than anything that is accepted, or too many of something.
    #[error("it has {found} {what}, and {limit} are accepted")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many are accepted.
        limit: usize,
    },
    /// Not CBOR of the expected shape.
    #[error("it is not CBOR of the expected shape")]
    Shape,
    /// CBOR that is not in its one deterministic form.
    #[error("it is not deterministic CBOR")]
    NotDeterministic,
    /// A field that must be there is missing.
    #[error("field {key} is missing")]
    Missing {
        /// Its key.
        key: u64,
    },
    /// A field has a value that is not acceptable.
    #[error("field {key} has a value that is not acceptable")]
    Value {
        /// Its key.
        key: u64,
    },
    /// A sequence further ahead of its time than
    /// [`MAX_SEQUENCE_LEAD`](crate::limits::MAX_SEQUENCE_LEAD): honest ones count seconds, or steps.
    #[error("the sequence {sequence} is too far ahead of {issued}")]
    Sequence {
        /// The sequence.
        sequence: u64,
        /// When the object was made, as it says.
        issued: UnixTime,
    },
    /// A field that this version does not know and must not ignore.
    #[error("field {key} is not known and must not be ignored")]
    Unknown {
        /// Its key.
        key: u64,
    },
}

impl FormatError {
    /// Whether a limit was exceeded, rather than a rule broken.
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::Limit { .. } | Self::Sequence { .. })
    }
}

impl From<minicbor::decode::Error> for FormatError {
    fn from(_: minicbor::decode::Error) -> Self {
        Self::Shape
    }
}

/// Refuses what is too large, before it is read.
pub(crate) fn within(what: &'static str, found: usize, limit: usize) -> Result<(), FormatError> {
    match found <= limit {
        true => Ok(()),
        false => Err(FormatError::Limit { what, found, limit }),
    }
}

/// What a signature covers: a domain string, a zero byte, and the payload. Domains contain no zero
/// byte, so no two kinds of object can be taken for each other.
pub(crate) fn message(domain: &str, payload: &[u8]) -> Vec<u8> {
    [domain.as_bytes(), &[0], payload].concat()
}

/// SHA-256 of what is signed: two objects with one digest say the same, whatever their signatures.
pub(crate) fn digest(message: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, message).as_ref());
    bytes
}

/// Walks a map with strictly ascending keys. `field` reads the values of the keys it knows and
/// answers `false` for others.
pub(crate) fn read_map<'b>(
    payload: &'b [u8],
    mut field: impl FnMut(u64, &mut Decoder<'b>) -> Result<bool, FormatError>,
) -> Result<(), FormatError> {
    let mut decoder = Decoder::new(payload);
    let count = decoder.map()?.ok_or(FormatError::NotDeterministic)?;
    let mut previous = None;
    for _ in 0..count {
        let key = decoder.u64()?;
        if previous.is_some_and(|p| p >= key) {
            return Err(FormatError::NotDeterministic);
        }
        previous = Some(key);
        if field(key, &mut decoder)? {
            continue;
        }
        if key < FIRST_OPTIONAL_KEY {
            return Err(FormatError::Unknown { key });
        }
        decoder.skip()?;
    }
    finished(&decoder, payload)
}

/// Walks an array of at most `limit` elements that fills `bytes` completely.
pub(crate) fn read_array<'b>(
    bytes: &'b [u8],
    what: &'static str,
    limit: usize,
    mut element: impl FnMut(&mut Decoder<'b>) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    let mut decoder = Decoder::new(bytes);
    for _ in 0..array(&mut decoder, what, limit)? {
        element(&mut decoder)?;
    }
    finished(&decoder, bytes)
}

/// The length of an array that begins here, at most `limit`.
pub(crate) fn array(
    decoder: &mut Decoder<'_>,
    what: &'static str,
    limit: usize,
) -> Result<usize, FormatError> {
    let count = decoder.array()?.ok_or(FormatError::NotDeterministic)?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    within(what, count, limit)?;
    Ok(count)
}

/// An array of exactly `count` elements begins here.
pub(crate) fn tuple(decoder: &mut Decoder<'_>, count: u64) -> Result<(), FormatError> {
    match decoder.array()? {
        Some(found) if found == count => Ok(()),
        _ => Err(FormatError::Shape),
    }
}

/// 32 bytes, as the value of the field `key`.
pub(crate) fn hash(decoder: &mut Decoder<'_>, key: u64) -> Result<[u8; 32], FormatError> {
    let bytes = decoder.bytes()?.try_into();
    bytes.map_err(|_| FormatError::Value { key })
}

/// The whole input was read, and every head in it has its shortest form.
pub(crate) fn finished(decoder: &Decoder<'_>, input: &[u8]) -> Result<(), FormatError> {
    match decoder.position() == input.len() && has_shortest_heads(input) {
        true => Ok(()),
        false => Err(FormatError::NotDeterministic),
    }
}

/// What fields are written with.
pub type VecEncoder = Encoder<Vec<u8>>;

/// What writing to a vector answers: it cannot fail.
pub type Written<'a> = Result<
    &'a mut VecEncoder,
    minicbor::encode::Error<<Vec<u8> as minicbor::encode::Write>::Error>,
>;

/// Writes something that is no map.
pub(crate) fn write(value: impl FnOnce(&mut VecEncoder) -> Written<'_>) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    value(&mut encoder).expect("writing to a Vec cannot fail");
    encoder.into_writer()
}

/// Collects the fields of a map, because CBOR wants their number before them. Keys are written in
/// ascending order by the caller.
#[derive(Debug)]
pub struct MapWriter {
    count: u64,
    fields: VecEncoder,
}

impl MapWriter {
    /// A map without fields.
    #[allow(
        clippy::new_without_default,
        reason = "an empty map says nothing; fields follow"
    )]
    pub fn new() -> Self {
        Self {
            count: 0,
            fields: Encoder::new(Vec::new()),
        }
    }

    /// Adds a field.
    pub fn field(
        &mut self,
        key: u64,
        value: impl FnOnce(&mut VecEncoder) -> Written<'_>,
    ) -> &mut Self {
        self.count += 1;
        self.fields
            .u64(key)
            .and_then(value)
            .expect("writing to a Vec cannot fail");
        self
    }

    /// The map.
    pub fn finish(&self) -> Vec<u8> {
        let mut body = write(|e| e.map(self.count));
        body.extend_from_slice(self.fields.writer());
        body
    }
}

/// Whether every length and integer of well-formed CBOR has its shortest form, and nothing an
/// indefinite length. This holds for ignored values as well: what one version ignores, another
/// reads.
pub fn has_shortest_heads(mut rest: &[u8]) -> bool {
    // The content of arrays, maps and tags follows their heads, so one pass sees every head.
    while let [head, after @ ..] = rest {
        let (major, short) = (head >> 5, head & 0x1f);
        let (width, least) = match short {
            ..24 => (0, 0),
            // Simple values below 32 have the short form (section 3.3).
            24 if major == 7 => (1, 32),
            // Floating-point numbers are not integers; nothing that is read here has any.
            25..=27 if major == 7 => (1 << (short - 24), 0),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            _ => return false,
        };
        let Some((argument, content)) = after.split_at_checked(width) else {
            return false;
        };
        let long = argument
            .iter()
            .fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        if long < least {
            return false;
        }
        let value = if width == 0 { short.into() } else { long };
        let skipped = match major {
            2 | 3 => usize::try_from(value).ok(),
            _ => Some(0),
        };
        let Some(next) = skipped.and_then(|length| content.get(length..)) else {
            return false;
        };
        rest = next;
    }
    true
}
