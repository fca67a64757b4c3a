//! A count of the signatures that a stranger's certificates make us verify.
//!
//! rustls-webpki has a budget of a hundred signatures for one search, which is several times what a
//! handshake costs. The algorithms handed to it are wrapped, so that ours is much smaller: when it
//! is used up, no further signature verifies.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

use crate::keys::SIGNATURES;
use crate::limits::MAX_PATH_SIGNATURES;

/// How many signatures may still be verified.
#[derive(Debug)]
pub(crate) struct Budget {
    asked: Arc<AtomicUsize>,
    algorithms: Vec<Counted>,
}

impl Budget {
    pub(crate) fn new() -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = |algorithm: &&'static dyn SignatureVerificationAlgorithm| Counted {
            algorithm: *algorithm,
            asked: Arc::clone(&asked),
        };
        Self {
            algorithms: SIGNATURES.iter().map(counted).collect(),
            asked,
        }
    }

    /// The accepted algorithms, each of which draws on this budget.
    pub(crate) fn algorithms(&self) -> Vec<&dyn SignatureVerificationAlgorithm> {
        self.algorithms
            .iter()
            .map(|counted| counted as &dyn SignatureVerificationAlgorithm)
            .collect()
    }

    /// Whether a signature was left unverified.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.asked.load(Ordering::Relaxed) > MAX_PATH_SIGNATURES
    }
}

/// An algorithm that counts.
struct Counted {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    // Atomic because the trait asks for it; a search runs in one thread.
    asked: Arc<AtomicUsize>,
}

impl SignatureVerificationAlgorithm for Counted {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        if self.asked.fetch_add(1, Ordering::Relaxed) >= MAX_PATH_SIGNATURES {
            return Err(InvalidSignature);
        }
        let algorithm = self.algorithm;
        algorithm.verify_signature(public_key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.algorithm.fmt(f)
    }
}
