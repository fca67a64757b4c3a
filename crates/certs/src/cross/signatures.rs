//! Signatures, each verified once and all within a budget.

use comity_identity::KeyHash;

use crate::limits::MAX_CROSS_SIGNATURES;
use crate::parsed::Parsed;
use crate::verify::verifies;

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
        let verified = verifies(
            spki,
            certificate.signature_algorithm,
            certificate.tbs,
            certificate.signature,
        );
        self.known.push((index, key, verified));
        Ok(verified)
    }
}
