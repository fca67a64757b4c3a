//! The other form of a certificate with an ECDSA signature.
//!
//! Whoever has an ECDSA signature (r, s) can write down a second one without any key: (r, n - s),
//! where n is the order of the curve. A certificate with it verifies as the first one does, says
//! the same, and has another fingerprint. So a certificate that was revoked by its fingerprint
//! would come back in this form. Our own signatures have exactly one form (low s); those of foreign
//! authorities have either, so a revocation is looked up under both fingerprints.
//!
//! Which curve the issuer's key is on does not stand in the certificate: each one that fits yields
//! a form. At most one of them verifies, and looking up the other finds nothing.

use comity_identity::Fingerprint;
use der::asn1::{AnyRef, UintRef};
use der::{Decode, Encode, Tag};

use crate::oid;
use crate::parsed::{self, content, parts};

/// The order of P-256 (SEC 2, section 2.4.2).
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// The order of P-384 (SEC 2, section 2.5.1).
const P384_ORDER: [u8; 48] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf,
    0x58, 0x1a, 0x0d, 0xb2, 0x48, 0xb0, 0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
];

/// The fingerprints of the other forms of a certificate: none unless its signature is ECDSA.
///
/// For revocations only. A pin is for the certificate as it was pinned.
pub(crate) fn fingerprints(certificate: &[u8]) -> Vec<Fingerprint> {
    twins(certificate)
        .unwrap_or_default()
        .iter()
        .map(|twin| Fingerprint::of_certificate(twin))
        .collect()
}

/// `None` when it is not a certificate with an ECDSA signature. Then it has no other form, because
/// nothing verifies it.
fn twins(certificate: &[u8]) -> Option<Vec<Vec<u8>>> {
    let what = "certificate";
    let [tbs, algorithm, signature] = parts(certificate, what).ok()?;
    if !is_ecdsa(content(algorithm, Tag::Sequence, what).ok()?) {
        return None;
    }
    let bits = content(signature, Tag::BitString, what).ok()?;
    let [r, s] = parts(bits.strip_prefix(&[0])?, what).ok()?;
    let s = UintRef::from_der(s).ok()?;
    let p256 = negated(s.as_bytes(), &P256_ORDER).map(Vec::from);
    let p384 = negated(s.as_bytes(), &P384_ORDER).map(Vec::from);
    p256.into_iter()
        .chain(p384)
        .map(|s| with_signature(tbs, algorithm, r, &s))
        .collect::<der::Result<Vec<_>>>()
        .ok()
}

/// `ecdsa-with-SHA256`, `-SHA384` and `-SHA512` differ in their last arc only.
fn is_ecdsa(algorithm: &[u8]) -> bool {
    let sha256 = oid::ECDSA_SHA256.as_bytes();
    let family = &sha256[..sha256.len() - 1];
    let mut reader = match der::SliceReader::new(algorithm) {
        Ok(reader) => reader,
        Err(_) => return false,
    };
    let kind = der::Reader::tlv_bytes(&mut reader);
    kind.is_ok_and(|kind| {
        parsed::content(kind, Tag::ObjectIdentifier, "algorithm")
            .is_ok_and(|oid| oid.starts_with(family))
    })
}

fn with_signature(tbs: &[u8], algorithm: &[u8], r: &[u8], s: &[u8]) -> der::Result<Vec<u8>> {
    let s = UintRef::new(s)?.to_der()?;
    let pair = AnyRef::new(Tag::Sequence, &[r, &s].concat())?.to_der()?;
    let bits = [&[0], pair.as_slice()].concat();
    let signature = AnyRef::new(Tag::BitString, &bits)?.to_der()?;
    AnyRef::new(Tag::Sequence, &[tbs, algorithm, &signature].concat())?.to_der()
}

/// `order - s`, for 0 < s < order; all numbers big-endian, `s` without leading zeros.
///
/// Signatures are public: the time that this takes tells nobody anything.
fn negated<const N: usize>(s: &[u8], order: &[u8; N]) -> Option<[u8; N]> {
    let mut padded = [0; N];
    padded
        .get_mut(N.checked_sub(s.len())?..)?
        .copy_from_slice(s);
    if padded == [0; N] || padded >= *order {
        return None;
    }
    let mut difference = [0; N];
    let mut borrow = false;
    for index in (0..N).rev() {
        let (value, first) = order[index].overflowing_sub(padded[index]);
        let (value, second) = value.overflowing_sub(u8::from(borrow));
        difference[index] = value;
        borrow = first || second;
    }
    Some(difference)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A big-endian number without leading zeros, as it stands in an INTEGER.
    fn trimmed(number: &[u8]) -> &[u8] {
        let zeros = number.iter().take_while(|&&byte| byte == 0).count();
        &number[zeros..]
    }

    fn minus_one<const N: usize>(order: &[u8; N]) -> [u8; N] {
        let mut less = *order;
        less[N - 1] -= 1;
        less
    }

    fn check_order<const N: usize>(order: &[u8; N]) {
        let mut one = [0; N];
        one[N - 1] = 1;
        assert_eq!(negated(&[1], order), Some(minus_one(order)));
        assert_eq!(negated(&minus_one(order), order), Some(one));
        assert_eq!(negated(&[], order), None, "zero");
        assert_eq!(negated(order, order), None, "the order itself");
        assert_eq!(negated(&[0xff; N], order), None, "more than the order");
        let mut longer = vec![1];
        longer.extend_from_slice(&[0; N]);
        assert_eq!(negated(&longer, order), None, "a byte too long");
    }

    #[test]
    fn numbers_from_one_to_the_order_have_a_negative() {
        check_order(&P256_ORDER);
        check_order(&P384_ORDER);
    }

    #[test]
    fn negating_twice_changes_nothing_and_borrows_run_through_all_bytes() {
        for first in 0..=u8::MAX {
            for length in 1..=32 {
                let mut s = vec![first.wrapping_mul(31); length];
                s[0] = first;
                let Some(other) = negated(trimmed(&s), &P256_ORDER) else {
                    assert!(trimmed(&s).is_empty() || s.as_slice() >= &P256_ORDER[..]);
                    continue;
                };
                let again = negated(trimmed(&other), &P256_ORDER).expect("in range");
                assert_eq!(trimmed(&again), trimmed(&s));
            }
        }
        // 2^256 - n, by hand: n's low half is subtracted, with a borrow into the high half.
        let mut s = [0; 32];
        s[15] = 1;
        let other = negated(trimmed(&s), &P256_ORDER).expect("in range");
        let mut expected = P256_ORDER;
        expected[15] -= 1;
        assert_eq!(other, expected);
    }

    #[test]
    fn what_is_no_certificate_with_an_ecdsa_signature_has_no_other_form() {
        let ecdsa = [
            0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
        ];
        let signature = |bits: &[u8]| {
            let bits = AnyRef::new(Tag::BitString, bits).expect("short");
            let bits = bits.to_der().expect("short");
            let all = [&[0x30, 0x00], ecdsa.as_slice(), &bits].concat();
            let all = AnyRef::new(Tag::Sequence, &all).expect("short");
            all.to_der().expect("short")
        };
        let sound = [0, 0x30, 6, 2, 1, 5, 2, 1, 7];
        // A small s is below both orders.
        assert_eq!(fingerprints(&signature(&sound)).len(), 2);
        for bits in [
            &[][..],
            &[0],
            &[1, 0x30, 6, 2, 1, 5, 2, 1, 7],
            &[0, 0x30, 6, 2, 1, 5, 2, 1, 0],
            &[0, 0x30, 6, 2, 1, 5, 2, 1, 0x80],
            &[0, 0x30, 3, 2, 1, 5],
            &[0, 0x30, 6, 2, 1, 5, 2, 1, 7, 0],
        ] {
            assert_eq!(fingerprints(&signature(bits)), [], "{bits:?}");
        }
        assert_eq!(fingerprints(b""), []);
        let ed25519 = signature(&sound).iter().map(|b| b ^ 1).collect::<Vec<_>>();
        assert_eq!(fingerprints(&ed25519), []);
    }
}
