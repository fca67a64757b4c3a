//! Revocation of an identity by its owner: the last thing that a key says.

use comity_identity::{KeyHash, NodeId, Signer, UnixTime, verify};

use crate::cbor::{self, MapWriter};
use crate::envelope::{SigningError, needed, read_envelope, read_time};
use crate::limits::MAX_STATEMENT_BYTES;
use crate::succession::{StatementError, check_version, read_reason};

const DOMAIN: &str = "comity key revocation v1";

/// A statement that an identity key must not be trusted any more. Holding one means that the key
/// in it signed it.
///
/// It counts if that key is the revoked one itself, or the one to which it committed; the latter
/// only the reader can know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRevocation {
    key: NodeId,
    signer: Vec<u8>,
    at: UnixTime,
    reason: Option<String>,
    bytes: Vec<u8>,
}

/// What a revocation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRevocationRequest {
    /// The identity that is revoked.
    pub key: NodeId,
    /// When.
    pub at: UnixTime,
    /// A word for people, as in a succession.
    pub reason: Option<String>,
}

impl KeyRevocationRequest {
    /// Makes the statement, signed by the key itself or by its committed next one.
    ///
    /// # Errors
    /// When the signer fails, or the request would be refused by a reader.
    pub fn sign(&self, signer: &dyn Signer) -> Result<KeyRevocation, SigningError<StatementError>> {
        let mut map = MapWriter::new();
        map.field(1, |e| e.u8(1));
        map.field(2, |e| e.bytes(self.key.as_bytes()));
        map.field(3, |e| e.bytes(signer.spki()));
        map.field(4, |e| e.u64(self.at.as_secs()));
        if let Some(reason) = &self.reason {
            map.field(5, |e| e.str(reason));
        }
        let payload = map.finish();
        let signature = signer.sign(&cbor::message(DOMAIN, &payload))?;
        let bytes = cbor::write(|e| e.array(2)?.bytes(&payload)?.bytes(&signature));
        KeyRevocation::parse(&bytes).map_err(SigningError::Refused)
    }
}

impl KeyRevocation {
    /// Reads a statement and verifies its signature.
    ///
    /// # Errors
    /// When it is not in its one form, past a limit, or not signed by the key in it.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        cbor::within("bytes", bytes.len(), MAX_STATEMENT_BYTES)?;
        let (payload, [signature]) = read_envelope(bytes)?;
        let (mut version, mut key_id, mut signer) = (None, None, None);
        let (mut at, mut reason) = (None, None);
        cbor::read_map(payload, |key, d| {
            match key {
                1 => version = Some(d.u8()?),
                2 => key_id = Some(NodeId::from_bytes(cbor::hash(d, key)?)),
                3 => signer = Some(d.bytes()?.to_vec()),
                4 => at = Some(read_time(d, key)?),
                5 => reason = Some(read_reason(d, key)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        check_version(version)?;
        let revocation = Self {
            key: needed(key_id, 2)?,
            signer: needed(signer, 3)?,
            at: needed(at, 4)?,
            reason,
            bytes: bytes.to_vec(),
        };
        let message = cbor::message(DOMAIN, payload);
        verify(&revocation.signer, &message, signature).map_err(|cause| {
            StatementError::Signature {
                key: "revoking",
                cause,
            }
        })?;
        Ok(revocation)
    }

    /// The identity that is revoked.
    pub fn key(&self) -> NodeId {
        self.key
    }

    /// The key that says so.
    pub fn signer(&self) -> KeyHash {
        KeyHash::of_spki(&self.signer)
    }

    /// Its DER SubjectPublicKeyInfo.
    pub fn signer_spki(&self) -> &[u8] {
        &self.signer
    }

    /// Whether it counts for somebody who knows that the key committed to `next`, or knows of no
    /// commitment.
    pub fn counts(&self, next: Option<KeyHash>) -> bool {
        let signer = self.signer();
        signer == self.key.key_hash() || next == Some(signer)
    }

    /// When, as its maker says.
    pub fn at(&self) -> UnixTime {
        self.at
    }

    /// A word for people.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
