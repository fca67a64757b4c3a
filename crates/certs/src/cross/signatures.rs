//! Signatures, each verified once and all within a budget.

use comity_identity::KeyHash;
use der::asn1::BitStringRef;
use der::{Decode, Tag};

use crate::keys::SIGNATURES;
use crate::limits::MAX_CROSS_SIGNATURES;
use crate::parsed::{Parsed, content, parts};

/// What was found out about signatures.
#[derive(Debug, Default)]
pub(super) struct Signatures {
    /// The place of a certificate, a key, and whether the key signed it.
    known: Vec<(usize, KeyHash, bool)>,
}

/// The budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exhausted;

impl Signatures {
    /// Whether the key in `spki`, whose hash is `key`, signed the certificate at `index`.
    pub(super) fn verify(
        &mut self,
        index: usize,
        certificate: &Parsed<'_>,
        key: KeyHash,
        spki: &[u8],
    ) -> Result<bool, Exhausted> {
        let same = |known: &&(usize, KeyHash, bool)| (known.0, known.1) == (index, key);
        if let Some((.., verified)) = self.known.iter().find(same) {
            return Ok(*verified);
        }
        if self.known.len() >= MAX_CROSS_SIGNATURES {
            return Err(Exhausted);
        }
        let verified = is_signed_by(certificate, spki).is_some();
        self.known.push((index, key, verified));
        Ok(verified)
    }
}

/// Signature and key have to be of kinds that belong together.
fn is_signed_by(certificate: &Parsed<'_>, spki: &[u8]) -> Option<()> {
    let what = "public key";
    let [algorithm, key] = parts(spki, what).ok()?;
    let algorithm = content(algorithm, Tag::Sequence, what).ok()?;
    let key = BitStringRef::from_der(key).ok()?.as_bytes()?;
    let kind = SIGNATURES.iter().find(|known| {
        known.signature_alg_id().as_ref() == certificate.signature_algorithm
            && known.public_key_alg_id().as_ref() == algorithm
    })?;
    kind.verify_signature(key, certificate.tbs, certificate.signature)
        .ok()
}
