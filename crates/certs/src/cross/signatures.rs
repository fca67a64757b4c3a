//! Signatures, each verified once and all within a budget.
//!
//! A connection asks about its chain several times: in the handshake, after it, and at every change
//! of what is known of authorities. Which key signed which certificate does not change in between, so
//! the chain itself remembers what held.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comity_identity::{Fingerprint, KeyHash, UnixTime};

use super::{CrossPath, Rollover};
use crate::chain::Purpose;
use crate::limits::MAX_CROSS_SIGNATURES;
use crate::parsed::Parsed;
use crate::verify::verifies;

/// What is known to hold of a chain. Copies of the chain share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holding(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// The place of a certificate, and the key that signed it.
    signatures: Vec<(usize, KeyHash)>,
    /// The last question about its paths, and the answer.
    paths: Option<(Asked, Vec<CrossPath>)>,
}

/// All that the paths of a chain depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) anchors: Vec<Fingerprint>,
    pub(super) purpose: Purpose,
    pub(super) rollover: Rollover,
    pub(super) now: UnixTime,
}

impl Holding {
    /// Notes that `key` signed the certificate at `index`.
    pub(crate) fn note(&self, index: usize, key: KeyHash) {
        let mut known = self.known();
        // More than one chain can have in one search; after that, they are verified again.
        if known.signatures.len() < MAX_CROSS_SIGNATURES {
            known.signatures.push((index, key));
        }
    }

    /// The answer to a question, which within one handshake is asked twice.
    pub(super) fn paths(
        &self,
        asked: Asked,
        search: impl FnOnce() -> Vec<CrossPath>,
    ) -> Vec<CrossPath> {
        if let Some((_, paths)) = self.known().paths.as_ref().filter(|(a, _)| *a == asked) {
            return paths.clone();
        }
        let paths = search();
        self.known().paths = Some((asked, paths.clone()));
        paths
    }

    fn contains(&self, index: usize, key: KeyHash) -> bool {
        self.known().signatures.contains(&(index, key))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
        holding: &Holding,
        index: usize,
        certificate: &Parsed<'_>,
        key: KeyHash,
        spki: &[u8],
    ) -> Result<bool, Exhausted> {
        let same = |known: &&(usize, KeyHash, bool)| (known.0, known.1) == (index, key);
        if let Some((.., verified)) = self.known.iter().find(same) {
            return Ok(*verified);
        }
        if holding.contains(index, key) {
            return Ok(true);
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
        if verified {
            holding.note(index, key);
        }
        Ok(verified)
    }
}
