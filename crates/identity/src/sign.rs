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

/// Whether a P-256 signature (DER `ECDSA-Sig-Value`) has s at most half the group order.
///
/// Ask only of a signature that verified, or that this process made: nothing else about its
/// encoding is checked, and bytes too short to hold an s are simply not low.
pub fn has_low_s(signature: &[u8]) -> bool {
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
    s.len() < 32 || s.len() == 32 && s <= P256_HALF_ORDER.as_slice()
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    /// RFC 6979 appendix A.2.5: the P-256 key.
    const P256_POINT: &str = "04\
        60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6\
        7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";

    /// RFC 6979 appendix A.2.5: r and s over "test" with SHA-256; s is low.
    const TEST: (&str, &str) = (
        "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367",
        "019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083",
    );

    /// RFC 6979 appendix A.2.5: r and s over "sample" with SHA-256; s is high.
    const SAMPLE: (&str, &str) = (
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716",
        "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
    );

    /// RFC 8032 section 7.1, test 2.
    const ED25519_KEY: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    const ED25519_MESSAGE: &[u8] = &[0x72];
    const ED25519_SIGNATURE: &str = "\
        92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
        085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

    fn hex(text: &str) -> Vec<u8> {
        HEXLOWER.decode(text.as_bytes()).expect("hex")
    }

    fn p256() -> Vec<u8> {
        Algorithm::EcdsaP256.spki(&hex(P256_POINT))
    }

    fn ed25519() -> Vec<u8> {
        Algorithm::Ed25519.spki(&hex(ED25519_KEY))
    }

    /// `SEQUENCE { INTEGER r, INTEGER s }` of two unsigned big-endian numbers.
    fn ecdsa_signature(r: &[u8], s: &[u8]) -> Vec<u8> {
        let integers = [r, s].map(|number| {
            let start = number
                .iter()
                .position(|&b| b != 0)
                .unwrap_or(number.len() - 1);
            let sign: &[u8] = if number[start] >= 0x80 { &[0] } else { &[] };
            let value = [sign, &number[start..]].concat();
            let length = u8::try_from(value.len()).expect("short");
            [&[0x02, length], value.as_slice()].concat()
        });
        let body = integers.concat();
        [
            &[0x30, u8::try_from(body.len()).expect("short")],
            body.as_slice(),
        ]
        .concat()
    }

    fn rfc_6979((r, s): (&str, &str)) -> Vec<u8> {
        ecdsa_signature(&hex(r), &hex(s))
    }

    #[test]
    fn good_signatures_verify() {
        assert_eq!(verify(&p256(), b"test", &rfc_6979(TEST)), Ok(()));
        let signature = hex(ED25519_SIGNATURE);
        assert_eq!(verify(&ed25519(), ED25519_MESSAGE, &signature), Ok(()));
    }

    #[test]
    fn a_malleated_copy_is_refused_although_it_verifies() {
        // The RFC's own signature over "sample" happens to have a high s.
        assert_eq!(
            verify(&p256(), b"sample", &rfc_6979(SAMPLE)),
            Err(VerifyError::HighS)
        );
    }

    #[test]
    fn wrong_messages_keys_and_signatures_are_refused() {
        let (ecdsa, eddsa) = (rfc_6979(TEST), hex(ED25519_SIGNATURE));
        let mut other_r = ecdsa.clone();
        other_r[10] ^= 1;
        let mut other_half = eddsa.clone();
        other_half[63] ^= 1;
        let mut other_key = ed25519();
        other_key[20] ^= 1;
        let cases: [(&[u8], &[u8], &[u8]); 10] = [
            (&p256(), b"tesu", &ecdsa),
            (&p256(), b"test", &other_r),
            (&p256(), b"test", &ecdsa[..ecdsa.len() - 1]),
            (&p256(), b"test", &[ecdsa.as_slice(), &[0]].concat()),
            (&p256(), b"test", &[]),
            (&p256(), ED25519_MESSAGE, &eddsa),
            (&ed25519(), b"r\0", &eddsa),
            (&ed25519(), ED25519_MESSAGE, &other_half),
            (&other_key, ED25519_MESSAGE, &eddsa),
            (&ed25519(), b"test", &ecdsa),
        ];
        for (number, (spki, message, signature)) in cases.into_iter().enumerate() {
            assert_eq!(
                verify(spki, message, signature),
                Err(VerifyError::BadSignature),
                "case {number}"
            );
        }
    }

    #[test]
    fn a_signature_has_one_encoding() {
        // A superfluous zero before s is BER, and would be a second encoding of one statement.
        let (r, s) = (hex(TEST.0), hex(TEST.1));
        let mut padded = ecdsa_signature(&r, &s);
        let s_length = 4 + usize::from(padded[3]) + 1;
        padded.insert(s_length + 1, 0);
        padded[s_length] += 1;
        padded[1] += 1;
        assert_eq!(
            verify(&p256(), b"test", &padded),
            Err(VerifyError::BadSignature)
        );
    }

    #[test]
    fn the_kind_of_a_key_is_read_from_its_exact_encoding() {
        assert_eq!(Algorithm::of_spki(&p256()), Ok(Algorithm::EcdsaP256));
        assert_eq!(Algorithm::of_spki(&ed25519()), Ok(Algorithm::Ed25519));
    }

    #[test]
    fn keys_of_other_kinds_and_encodings_are_refused() {
        let point = hex(P256_POINT);
        let compressed = [
            hex("3039301306072a8648ce3d020106082a8648ce3d030107032200"),
            vec![3],
            point[1..33].to_vec(),
        ]
        .concat();
        let p384 = [
            hex("3076301006072a8648ce3d020106052b81040022036200"),
            vec![4; 97],
        ]
        .concat();
        let x25519 = [hex("302a300506032b656e032100"), vec![9; 32]].concat();
        let hybrid = {
            let mut spki = p256();
            spki[26] = 6;
            spki
        };
        let long = [p256(), vec![0]].concat();
        let cases: [&[u8]; 9] = [
            &[],
            &P256_PREFIX,
            &ED25519_PREFIX,
            &compressed,
            &p384,
            &x25519,
            &hybrid,
            &long,
            &p256()[..90],
        ];
        for spki in cases {
            assert_eq!(
                Algorithm::of_spki(spki),
                Err(VerifyError::UnsupportedKey),
                "{spki:02x?}"
            );
            assert_eq!(
                verify(spki, b"test", &rfc_6979(TEST)),
                Err(VerifyError::UnsupportedKey)
            );
        }
    }

    #[test]
    fn a_point_off_the_curve_verifies_nothing() {
        let mut spki = p256();
        spki[60] ^= 1;
        assert_eq!(
            verify(&spki, b"test", &rfc_6979(TEST)),
            Err(VerifyError::BadSignature)
        );
    }

    #[test]
    fn low_s_ends_exactly_at_half_the_order() {
        let mut next = P256_HALF_ORDER;
        next[31] += 1;
        assert!(has_low_s(&ecdsa_signature(&[1], &P256_HALF_ORDER)));
        assert!(!has_low_s(&ecdsa_signature(&[1], &next)));
        assert!(has_low_s(&ecdsa_signature(&[0xff; 32], &[1])));
        assert!(!has_low_s(&ecdsa_signature(&[1], &[0xff; 32])));
    }

    #[test]
    fn what_is_no_signature_has_no_low_s() {
        for bytes in [&[][..], &[0x30], &[0x30, 2, 2, 0xff], &[0x30, 4, 2, 1, 1]] {
            assert!(!has_low_s(bytes), "{bytes:02x?}");
        }
        assert!(!has_low_s(&ecdsa_signature(&[1], &[1; 33])));
    }
}
