//! Verifying one signature of any accepted kind.

use der::Tag;

use crate::keys::SIGNATURES;
use crate::parsed::{CertificateFault, content, malformed, parts};

/// Whether `signature` over `message` verifies with the key in `spki`, by the algorithm whose
/// AlgorithmIdentifier has this content. What is no accepted key and algorithm verifies nothing.
pub(crate) fn verifies(spki: &[u8], algorithm: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Ok((key_algorithm, key)) = key_parts(spki) else {
        return false;
    };
    SIGNATURES
        .iter()
        .filter(|known| {
            known.signature_alg_id().as_ref() == algorithm
                && known.public_key_alg_id().as_ref() == key_algorithm
        })
        .any(|known| known.verify_signature(key, message, signature).is_ok())
}

/// The content of the key's AlgorithmIdentifier, and the bits of the key.
fn key_parts(spki: &[u8]) -> Result<(&[u8], &[u8]), CertificateFault> {
    let what = "public key";
    let [algorithm, key] = parts(spki, what)?;
    let algorithm = content(algorithm, Tag::Sequence, what)?;
    match content(key, Tag::BitString, what)? {
        [0, key @ ..] => Ok((algorithm, key)),
        _ => Err(malformed(what)),
    }
}
