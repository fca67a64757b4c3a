//! The kinds of key and signature we accept from others.

use der::Decode;
use der::Tag;
use der::asn1::{BitStringRef, UintRef};
use rustls_pki_types::SignatureVerificationAlgorithm;
use thiserror::Error;
use webpki::aws_lc_rs as algorithms;

use crate::oid;
use crate::parsed::{CertificateFault, content, elements, malformed, parts};

/// Accepted RSA moduli, in bits: below, factoring is within reach of the well-funded; above, one
/// handshake costs more than a stranger should be able to make us spend.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// The content of the INTEGER 65537. Other exponents are slow or invite forgeries.
const RSA_EXPONENT: [u8; 3] = [1, 0, 1];

/// Why a public key was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyFault {
    /// An RSA modulus outside 2048 to 4096 bits.
    #[error("RSA with {bits} bits, accepted are 2048 to 4096")]
    RsaSize {
        /// Its length.
        bits: usize,
    },
    /// An RSA exponent other than 65537.
    #[error("RSA with another exponent than 65537")]
    RsaExponent,
    /// A curve other than P-256 and P-384, such as P-521.
    #[error("the curve {curve}, accepted are P-256 and P-384")]
    Curve {
        /// The object identifier of the curve, or `explicit parameters`.
        curve: String,
    },
    /// A point that is not in the uncompressed form, or has the wrong length.
    #[error("a curve point that is not in uncompressed form")]
    Point,
    /// An algorithm that is not accepted at all, such as Ed448.
    #[error("the key algorithm {algorithm}")]
    Algorithm {
        /// Its object identifier.
        algorithm: String,
    },
}

/// The kinds of accepted key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    P256,
    P384,
    Ed25519,
    Rsa,
}

/// The signature algorithms we accept in certificates: what the TLS library verifies on accepted
/// keys. P-521 is absent because no key of it is accepted; SHA-1 is not implemented there at all.
pub(crate) static SIGNATURES: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P256_SHA512,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ECDSA_P384_SHA512,
    algorithms::ED25519,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
    algorithms::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
    algorithms::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// Accepts a SubjectPublicKeyInfo by kind and size.
pub(crate) fn accept_key(spki: &[u8]) -> Result<KeyKind, CertificateFault> {
    let what = "public key";
    let [algorithm, key] = parts(spki, what)?;
    let algorithm = elements(algorithm, Tag::Sequence, what)?;
    let (kind, parameters) = algorithm.split_first().ok_or(malformed(what))?;
    let kind = content(kind, Tag::ObjectIdentifier, what)?;
    let key = BitStringRef::from_der(key)
        .ok()
        .and_then(|bits| bits.as_bytes())
        .ok_or(malformed(what))?;
    if kind == oid::EC_PUBLIC_KEY.as_bytes() {
        accept_curve(parameters, key)
    } else if kind == oid::ED25519.as_bytes() && parameters.is_empty() && key.len() == 32 {
        Ok(KeyKind::Ed25519)
    } else if kind == oid::RSA.as_bytes() {
        accept_rsa(key)
    } else {
        let algorithm = oid::display(kind);
        Err(KeyFault::Algorithm { algorithm }.into())
    }
}

/// Accepts the content of an AlgorithmIdentifier, parameters included: RSASSA-PSS without any
/// would mean SHA-1.
pub(crate) fn accept_signature(algorithm: &[u8]) -> Result<(), CertificateFault> {
    if SIGNATURES
        .iter()
        .any(|known| known.signature_alg_id().as_ref() == algorithm)
    {
        return Ok(());
    }
    let what = "signature algorithm";
    // Read as far as needed to name it.
    let mut reader = der::SliceReader::new(algorithm).map_err(|_| malformed(what))?;
    let kind = der::Reader::tlv_bytes(&mut reader).map_err(|_| malformed(what))?;
    Err(CertificateFault::UnsupportedSignature {
        oid: oid::display(content(kind, Tag::ObjectIdentifier, what)?),
    })
}

fn accept_curve(parameters: &[&[u8]], point: &[u8]) -> Result<KeyKind, CertificateFault> {
    let [curve] = parameters else {
        return Err(malformed("public key"));
    };
    let Ok(curve) = content(curve, Tag::ObjectIdentifier, "public key") else {
        // Explicit parameters let the sender choose the curve (CVE-2020-0601).
        let curve = "explicit parameters".to_owned();
        return Err(KeyFault::Curve { curve }.into());
    };
    let (kind, length) = if curve == oid::P256.as_bytes() {
        (KeyKind::P256, 65)
    } else if curve == oid::P384.as_bytes() {
        (KeyKind::P384, 97)
    } else {
        let curve = oid::display(curve);
        return Err(KeyFault::Curve { curve }.into());
    };
    match point.len() == length && point.first() == Some(&4) {
        true => Ok(kind),
        false => Err(KeyFault::Point.into()),
    }
}

fn accept_rsa(key: &[u8]) -> Result<KeyKind, CertificateFault> {
    let [modulus, exponent] = parts(key, "public key")?;
    let modulus = UintRef::from_der(modulus).map_err(|_| malformed("public key"))?;
    let exponent = UintRef::from_der(exponent).map_err(|_| malformed("public key"))?;
    let bits = bit_length(modulus.as_bytes());
    if !RSA_BITS.contains(&bits) {
        return Err(KeyFault::RsaSize { bits }.into());
    }
    match exponent.as_bytes() == RSA_EXPONENT {
        true => Ok(KeyKind::Rsa),
        false => Err(KeyFault::RsaExponent.into()),
    }
}

/// Bits of a big-endian number.
fn bit_length(bytes: &[u8]) -> usize {
    let significant = bytes.iter().skip_while(|&&byte| byte == 0).count();
    match bytes.get(bytes.len() - significant) {
        Some(first) => significant * 8 - first.leading_zeros() as usize,
        None => 0,
    }
}
