//! Signing with, and verifying against, an identity key.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use thiserror::Error;

/// The algorithms an identity key may have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256; signatures are DER `ECDSA-Sig-Value` with low s. The default.
    EcdsaP256,
    /// Ed25519 (RFC 8032).
    Ed25519,
}

/// Something that holds a private key and signs with it: software, a TPM, a PKCS#11 token.
///
/// Calls may block on hardware: call from a blocking thread.
pub trait Signer: Send + Sync {
    /// What kind of signature [`Signer::sign`] makes.
    fn algorithm(&self) -> Algorithm;

    /// The DER SubjectPublicKeyInfo of the key.
    fn spki(&self) -> &[u8];

    /// Signs `message`.
    ///
    /// # Errors
    /// When the key cannot be reached or refuses.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// A key that could not sign.
#[derive(Debug, Error)]
#[error("cannot sign with the identity key: {cause}")]
pub struct SignError {
    /// What the key store said.
    pub cause: String,
}

/// Why a signature was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The SubjectPublicKeyInfo is not that of an accepted key type.
    #[error("the key is neither P-256 nor Ed25519")]
    UnsupportedKey,
    /// The signature does not verify.
    #[error("the signature is wrong")]
    BadSignature,
    /// A valid ECDSA signature with high s: somebody's malleated copy of ours.
    #[error("the signature is a malleated copy")]
    HighS,
}

/// `SEQUENCE { SEQUENCE { id-ecPublicKey, prime256v1 }, BIT STRING` of an uncompressed point.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// `SEQUENCE { SEQUENCE { id-Ed25519 }, BIT STRING` of 32 bytes (RFC 8410).
const ED25519_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Half the order of P-256: the largest s of a low-s signature.
const P256_HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xde, 0x73, 0x7d, 0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
];

impl Algorithm {
    /// The algorithm of an identity key.
    ///
    /// # Errors
    /// When the SubjectPublicKeyInfo is of any other kind of key, or not in its one DER encoding.
    pub fn of_spki(spki: &[u8]) -> Result<Self, VerifyError> {
        if spki.len() == P256_PREFIX.len() + 65 && spki.starts_with(&P256_PREFIX) && spki[26] == 4 {
            Ok(Self::EcdsaP256)
        } else if spki.len() == ED25519_PREFIX.len() + 32 && spki.starts_with(&ED25519_PREFIX) {
            Ok(Self::Ed25519)
        } else {
            Err(VerifyError::UnsupportedKey)
        }
    }

    /// The DER SubjectPublicKeyInfo for a raw public key: an uncompressed point (65 bytes) or an
    /// Ed25519 key (32 bytes).
    pub fn spki(self, public_key: &[u8]) -> Vec<u8> {
        let prefix: &[u8] = match self {
            Self::EcdsaP256 => &P256_PREFIX,
            Self::Ed25519 => &ED25519_PREFIX,
        };
        [prefix, public_key].concat()
    }
}

/// Verifies `signature` over `message` by the identity key in `spki`, strictly: ECDSA signatures
/// must have low s, so that one statement has one signature per signing.
///
/// # Errors
/// When the key is of another kind, or the signature does not hold.
pub fn verify(spki: &[u8], message: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
    let (algorithm, key): (&dyn VerificationAlgorithm, &[u8]) = match Algorithm::of_spki(spki)? {
        Algorithm::EcdsaP256 => (
            &signature::ECDSA_P256_SHA256_ASN1,
            &spki[P256_PREFIX.len()..],
        ),
        Algorithm::Ed25519 => (&signature::ED25519, &spki[ED25519_PREFIX.len()..]),
    };
    UnparsedPublicKey::new(algorithm, key)
        .verify(message, signature)
        .map_err(|_| VerifyError::BadSignature)?;
    if Algorithm::of_spki(spki)? == Algorithm::EcdsaP256 && !has_low_s(signature) {
        return Err(VerifyError::HighS);
    }
    Ok(())
}

/// Whether a DER `ECDSA-Sig-Value` that already verified has s at most half the group order.
pub(crate) fn has_low_s(signature: &[u8]) -> bool {
    // SEQUENCE { INTEGER r, INTEGER s } is at most 72 bytes for P-256: lengths are one byte each.
    let s = signature
        .get(3)
        .and_then(|&r_len| signature.get(4 + usize::from(r_len)..))
        .and_then(|s| s.get(2..));
    let Some(s) = s else { return false };
    let s = match s {
        [0, rest @ ..] => rest,
        s => s,
    };
    s.len() < 32 || s <= P256_HALF_ORDER.as_slice()
}
