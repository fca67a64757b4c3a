//! Signatures, each verified once and all within a budget.
//!
//! A connection asks about its chain several times: in the handshake, after it, and at every change
//! of what is known of authorities. Which key signed which certificate does not change in between, so
//! the chain itself remembers what held.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comity_identity::{Fingerprint, KeyHash, UnixTime};

use super::cache::SignatureCache;
use super::{CrossPath, Rollover};
use crate::chain::{PresentedChain, Purpose};
use crate::limits::MAX_CROSS_SIGNATURES;
use crate::parsed::Parsed;
use crate::verify::verifies;

/// What is known to hold of a chain. Copies of the chain share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holding {
    known: Arc<Mutex<Known>>,
    cache: Option<Arc<SignatureCache>>,
}

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

    /// What other chains had counts as well, and what this one has counts for others.
    pub(crate) fn share(&mut self, cache: Arc<SignatureCache>) {
        self.cache = Some(cache);
    }

    fn contains(&self, index: usize, certificate: Fingerprint, key: KeyHash) -> bool {
        let cached = || {
            let cache = self.cache.as_ref();
            cache.is_some_and(|cache| cache.contains(certificate, key))
        };
        self.known().signatures.contains(&(index, key)) || cached()
    }

    fn found(&self, index: usize, certificate: Fingerprint, key: KeyHash) {
        self.note(index, key);
        // A leaf lives for a month and is seen less often than what is above it.
        if let Some(cache) = self.cache.as_ref().filter(|_| index > 0) {
            cache.insert(certificate, key);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
        chain: &PresentedChain,
        index: usize,
        certificate: &Parsed<'_>,
        key: KeyHash,
        spki: &[u8],
    ) -> Result<bool, Exhausted> {
        let same = |known: &&(usize, KeyHash, bool)| (known.0, known.1) == (index, key);
        if let Some((.., verified)) = self.known.iter().find(same) {
            return Ok(*verified);
        }
        let (holding, fingerprint) = (chain.holding(), chain.fingerprints()[index]);
        if holding.contains(index, fingerprint, key) {
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
            holding.found(index, fingerprint, key);
        }
        Ok(verified)
    }
}
