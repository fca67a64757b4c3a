//! Signatures that were found to hold in earlier handshakes.
//!
//! A member presents the same cross-certificate for a year, and whoever serves many members sees few
//! different ones. That a key signed a certificate is true for ever, so it is verified once.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use comity_identity::{Fingerprint, KeyHash};

/// Signatures in a [`SignatureCache`]: some 300 kB. Peers whose signatures do not hold put nothing in,
/// and members push out each other's at worst, which costs a verification.
pub const MAX_CACHED_SIGNATURES: usize = 2048;

/// A whole certificate and the key that signed it; both by hash, so nothing else can be meant. Only
/// what holds is in it.
#[derive(Debug, Default)]
pub struct SignatureCache(Mutex<Cached>);

#[derive(Debug, Default)]
struct Cached {
    known: HashSet<(Fingerprint, KeyHash)>,
    /// Oldest first.
    order: VecDeque<(Fingerprint, KeyHash)>,
}

impl SignatureCache {
    pub(super) fn contains(&self, certificate: Fingerprint, key: KeyHash) -> bool {
        self.cached().known.contains(&(certificate, key))
    }

    pub(super) fn insert(&self, certificate: Fingerprint, key: KeyHash) {
        let mut cached = self.cached();
        if !cached.known.insert((certificate, key)) {
            return;
        }
        cached.order.push_back((certificate, key));
        if cached.order.len() > MAX_CACHED_SIGNATURES
            && let Some(oldest) = cached.order.pop_front()
        {
            cached.known.remove(&oldest);
        }
    }

    /// How many signatures are known.
    pub fn len(&self) -> usize {
        self.cached().order.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn cached(&self) -> MutexGuard<'_, Cached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(number: usize) -> (Fingerprint, KeyHash) {
        let bytes = number.to_be_bytes();
        (
            Fingerprint::of_certificate(&bytes),
            KeyHash::of_spki(&bytes),
        )
    }

    #[test]
    fn the_oldest_signature_makes_room() {
        let cache = SignatureCache::default();
        for number in 0..=MAX_CACHED_SIGNATURES {
            let (certificate, key) = signature(number);
            cache.insert(certificate, key);
            cache.insert(certificate, key);
        }
        assert_eq!(cache.len(), MAX_CACHED_SIGNATURES);
        let knows = |number| {
            let (certificate, key) = signature(number);
            cache.contains(certificate, key)
        };
        assert!(!knows(0) && knows(1) && knows(MAX_CACHED_SIGNATURES));
        // Another key, or another certificate, is another signature.
        assert!(!cache.contains(signature(1).0, signature(2).1));
    }
}
