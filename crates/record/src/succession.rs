//! Succession of an identity: the statement that one key is followed by another.
//!
//! 1. The holder of the old key names the new one, and both keys sign. The old key's signature is
//!    the authority, the new key's the proof that its holder agrees: without it anybody could
//!    claim somebody else's key as their next one.
//! 2. Each statement names the digest of the one before, so that a history has one order and two
//!    statements of one sequence are evidence of a stolen key.
//! 3. It may commit to the key after the next. Whoever steals today's key cannot name a successor
//!    then that anybody follows.
//!
//! Here it is only seen whether a statement holds by itself. Whether to follow it is decided by
//! those who remember the old key.

use comity_identity::{KeyHash, NodeId, Signer, UnixTime, VerifyError, verify};
use minicbor::Decoder;
use thiserror::Error;

use crate::cbor::{self, FormatError, MapWriter};
use crate::envelope::{SigningError, needed, read_envelope, read_time};
use crate::limits::{MAX_OVERLAP, MAX_REASON, MAX_STATEMENT_BYTES};

const DOMAIN: &str = "comity succession v1";

const VERSION: u8 = 1;

/// The field of the old key.
pub(crate) const OLD_KEY: u64 = 3;

/// A statement that one identity key is followed by another. Holding one means that both keys
/// signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    content: Content,
    bytes: Vec<u8>,
    digest: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    network: Option<NodeId>,
    old_spki: Vec<u8>,
    new_spki: Vec<u8>,
    sequence: u64,
    previous: Option<[u8; 32]>,
    issued: UnixTime,
    overlap_end: UnixTime,
    next: Option<KeyHash>,
    reason: Option<String>,
}

/// What a succession statement says, besides the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuccessionRequest {
    /// The network in which it counts; `None` for everywhere.
    pub network: Option<NodeId>,
    /// 1 for the first change of key, and one more for each.
    pub sequence: u64,
    /// The digest of the statement before; none for the first.
    pub previous: Option<[u8; 32]>,
    /// When it is made.
    pub issued: UnixTime,
    /// The last second at which the old key counts, at most [`MAX_OVERLAP`] later.
    pub overlap_end: UnixTime,
    /// The hash of the key that will follow the new one.
    pub next: Option<KeyHash>,
    /// A word for people, such as `routine`: 1 to [`MAX_REASON`] characters `a-z 0-9 - _ .`.
    pub reason: Option<String>,
}

/// Why a statement about a key was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StatementError {
    /// It cannot be read.
    #[error("it is refused: {0}")]
    Format(#[from] FormatError),
    /// A version that this code does not speak.
    #[error("it has version {found}, and {VERSION} is accepted")]
    Version {
        /// Its version.
        found: u8,
    },
    /// The old key and the new one are the same, or the committed next key is one of them.
    #[error("it names one key twice")]
    SameKey,
    /// Sequence 0, or a first statement that has one before it, or a later one that has none.
    #[error("its sequence {sequence} does not fit the statement before it")]
    Sequence {
        /// What it says.
        sequence: u64,
    },
    /// The old key would count for longer than [`MAX_OVERLAP`], or end before the statement.
    #[error("it is from {issued}, and the old key would count until {overlap_end}")]
    Overlap {
        /// When it was made.
        issued: UnixTime,
        /// Until when the old key would count.
        overlap_end: UnixTime,
    },
    /// The signature of one of the keys does not hold.
    #[error("the {key} key did not sign it: {cause}")]
    Signature {
        /// `old`, `new` or `revoking`.
        key: &'static str,
        /// What is wrong with the signature.
        cause: VerifyError,
    },
}

impl SuccessionRequest {
    /// Makes the statement: the old key says it, the new one agrees.
    ///
    /// # Errors
    /// When a signer fails, or the request would be refused by a reader.
    pub fn sign(
        &self,
        old: &dyn Signer,
        new: &dyn Signer,
    ) -> Result<Succession, SigningError<StatementError>> {
        let payload = self.payload(old.spki(), new.spki());
        let message = cbor::message(DOMAIN, &payload);
        let signatures = [old.sign(&message)?, new.sign(&message)?];
        let bytes = cbor::write(|e| {
            e.array(3)?
                .bytes(&payload)?
                .bytes(&signatures[0])?
                .bytes(&signatures[1])
        });
        Succession::parse(&bytes).map_err(SigningError::Refused)
    }

    fn payload(&self, old_spki: &[u8], new_spki: &[u8]) -> Vec<u8> {
        let mut map = MapWriter::new();
        map.field(1, |e| e.u8(VERSION));
        if let Some(network) = &self.network {
            map.field(2, |e| e.bytes(network.as_bytes()));
        }
        map.field(OLD_KEY, |e| e.bytes(old_spki));
        map.field(4, |e| e.bytes(new_spki));
        map.field(5, |e| e.u64(self.sequence));
        if let Some(previous) = &self.previous {
            map.field(6, |e| e.bytes(previous));
        }
        map.field(7, |e| e.u64(self.issued.as_secs()));
        map.field(8, |e| e.u64(self.overlap_end.as_secs()));
        if let Some(next) = &self.next {
            map.field(9, |e| e.bytes(next.as_bytes()));
        }
        if let Some(reason) = &self.reason {
            map.field(10, |e| e.str(reason));
        }
        map.finish()
    }
}

impl Succession {
    /// Reads a statement and verifies both its signatures.
    ///
    /// # Errors
    /// When it is not in its one form, past a limit, says something that no statement may say, or
    /// is not signed by both keys.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        UnverifiedSuccession::read(bytes)?.verify()
    }

    /// The identity that ends.
    pub fn old(&self) -> NodeId {
        NodeId::of_spki(&self.content.old_spki)
    }

    /// The identity that follows.
    #[allow(
        clippy::new_ret_no_self,
        reason = "a statement has an old key and a new one, and no other words fit as well"
    )]
    pub fn new(&self) -> NodeId {
        NodeId::of_spki(&self.content.new_spki)
    }

    /// The DER SubjectPublicKeyInfo of the old key.
    pub fn old_spki(&self) -> &[u8] {
        &self.content.old_spki
    }

    /// The DER SubjectPublicKeyInfo of the new key.
    pub fn new_spki(&self) -> &[u8] {
        &self.content.new_spki
    }

    /// The network in which it counts; `None` for everywhere.
    pub fn network(&self) -> Option<NodeId> {
        self.content.network
    }

    /// 1 for the first change of key of this identity, and one more for each.
    pub fn sequence(&self) -> u64 {
        self.content.sequence
    }

    /// The digest of the statement before; none for the first.
    pub fn previous(&self) -> Option<[u8; 32]> {
        self.content.previous
    }

    /// When it was made, as its maker says.
    pub fn issued(&self) -> UnixTime {
        self.content.issued
    }

    /// The last second at which the old key counts.
    pub fn overlap_end(&self) -> UnixTime {
        self.content.overlap_end
    }

    /// The hash of the key that must follow the new one.
    pub fn next(&self) -> Option<KeyHash> {
        self.content.next
    }

    /// A word for people.
    pub fn reason(&self) -> Option<&str> {
        self.content.reason.as_deref()
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of what was signed. Two statements of one sequence with different digests are a fork;
    /// the same one signed twice is not.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

/// A statement whose signatures nobody has verified: anybody can have made it.
#[derive(Clone, Debug)]
pub(crate) struct UnverifiedSuccession(Succession);

impl UnverifiedSuccession {
    /// Reads a statement without verifying its signatures.
    ///
    /// # Errors
    /// When it is not in its one form, past a limit, or says something that no statement may say.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, StatementError> {
        cbor::within("bytes", bytes.len(), MAX_STATEMENT_BYTES).map_err(StatementError::Format)?;
        let (payload, [_, _]) = read_envelope(bytes)?;
        let content = read_content(payload)?;
        content.check()?;
        Ok(Self(Succession {
            content,
            bytes: bytes.to_vec(),
            digest: cbor::digest(&cbor::message(DOMAIN, payload)),
        }))
    }

    /// What it claims to say.
    pub(crate) fn claimed(&self) -> &Succession {
        &self.0
    }

    /// # Errors
    /// When it is not signed by both keys.
    pub(crate) fn verify(self) -> Result<Succession, StatementError> {
        let Succession { content, bytes, .. } = &self.0;
        let (payload, [by_old, by_new]) = read_envelope(bytes)?;
        let message = cbor::message(DOMAIN, payload);
        for (key, spki, signature) in [
            ("old", &content.old_spki, by_old),
            ("new", &content.new_spki, by_new),
        ] {
            verify(spki, &message, signature)
                .map_err(|cause| StatementError::Signature { key, cause })?;
        }
        Ok(self.0)
    }
}

impl Content {
    fn check(&self) -> Result<(), StatementError> {
        let (old, new) = (
            KeyHash::of_spki(&self.old_spki),
            KeyHash::of_spki(&self.new_spki),
        );
        if old == new || self.next.is_some_and(|next| next == old || next == new) {
            return Err(StatementError::SameKey);
        }
        let sequence = self.sequence;
        if sequence == 0 || (sequence == 1) != self.previous.is_none() {
            return Err(StatementError::Sequence { sequence });
        }
        let (issued, overlap_end) = (self.issued, self.overlap_end);
        match issued <= overlap_end && issued.until(overlap_end) <= MAX_OVERLAP {
            true => Ok(()),
            false => Err(StatementError::Overlap {
                issued,
                overlap_end,
            }),
        }
    }
}

fn read_content(payload: &[u8]) -> Result<Content, StatementError> {
    let (mut version, mut old_spki, mut new_spki) = (None, None, None);
    let (mut sequence, mut issued, mut overlap_end) = (None, None, None);
    let (mut network, mut previous, mut next, mut reason) = (None, None, None, None);
    cbor::read_map(payload, |key, d| {
        match key {
            1 => version = Some(d.u8()?),
            2 => network = Some(NodeId::from_bytes(cbor::hash(d, key)?)),
            OLD_KEY => old_spki = Some(d.bytes()?.to_vec()),
            4 => new_spki = Some(d.bytes()?.to_vec()),
            5 => sequence = Some(d.u64()?),
            6 => previous = Some(cbor::hash(d, key)?),
            7 => issued = Some(read_time(d, key)?),
            8 => overlap_end = Some(read_time(d, key)?),
            9 => next = Some(KeyHash::from_bytes(cbor::hash(d, key)?)),
            10 => reason = Some(read_reason(d, key)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    check_version(version)?;
    Ok(Content {
        network,
        old_spki: needed(old_spki, 3)?,
        new_spki: needed(new_spki, 4)?,
        sequence: needed(sequence, 5)?,
        previous,
        issued: needed(issued, 7)?,
        overlap_end: needed(overlap_end, 8)?,
        next,
        reason,
    })
}

pub(crate) fn check_version(version: Option<u8>) -> Result<(), StatementError> {
    match needed(version, 1)? {
        VERSION => Ok(()),
        found => Err(StatementError::Version { found }),
    }
}

pub(crate) fn read_reason(d: &mut Decoder<'_>, key: u64) -> Result<String, FormatError> {
    let reason = d.str()?;
    match reason.len() <= MAX_REASON && comity_certs::is_label(reason) {
        true => Ok(reason.to_owned()),
        false => Err(FormatError::Value { key }),
    }
}
