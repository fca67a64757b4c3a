//! One encoding only: what other readers might read differently is refused.

use comity_certs::{CertificateFault, ChainError, PresentedChain};
use comity_identity::Algorithm;

use crate::certificates::{Foreign, RawCertificate, TestKey, content, elements, tlv};

#[test]
fn anything_around_the_certificate_is_refused() {
    let certificate = Foreign::default().self_signed().chain[0].clone();
    for (der, part) in [
        (vec![], "outer structure"),
        ([certificate.as_slice(), &[0]].concat(), "outer structure"),
        (
            [certificate.as_slice(), &certificate].concat(),
            "outer structure",
        ),
        (b"-----BEGIN CERTIFICATE-----".to_vec(), "outer structure"),
        (
            tlv(0x30, &[&elements(&certificate).concat(), &[5, 0]]),
            "outer structure",
        ),
        (tlv(0x31, &[content(&certificate)]), "outer structure"),
    ] {
        assert_eq!(fault(&der), malformed(part), "{} bytes", der.len());
    }
}

#[test]
fn lengths_have_one_encoding() {
    let certificate = Foreign::default().self_signed().chain[0].clone();
    let inside = content(&certificate);
    let length = u16::try_from(inside.len()).expect("short").to_be_bytes();
    // Indefinite, and one byte more than needed.
    let indefinite = [&[0x30, 0x80], inside, &[0, 0]].concat();
    let padded = [&[0x30, 0x83, 0], length.as_slice(), inside].concat();
    let huge = [&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], inside].concat();
    for der in [indefinite, padded, huge] {
        assert_eq!(fault(&der), malformed("outer structure"));
    }
}

#[test]
fn fields_have_their_type_and_nothing_follows_them() {
    let cases: [(&str, Change, CertificateFault); 14] = [
        (
            "serial number as bytes",
            |c| c.serial[0] = 4,
            malformed("serial number"),
        ),
        ("issuer as set", |c| c.issuer[0] = 0x31, malformed("issuer")),
        (
            "subject as set",
            |c| c.subject[0] = 0x31,
            malformed("subject"),
        ),
        (
            "date without seconds",
            |c| c.not_after = tlv(0x17, &[b"2603010000Z"]),
            malformed("validity"),
        ),
        (
            "date in a zone",
            |c| c.not_after = tlv(0x17, &[b"260301000000+0100"]),
            malformed("validity"),
        ),
        (
            "date with fractions",
            |c| c.not_after = tlv(0x18, &[b"20260301000000.5Z"]),
            malformed("validity"),
        ),
        (
            "a thirteenth month",
            |c| c.not_after = tlv(0x17, &[b"261301000000Z"]),
            malformed("validity"),
        ),
        (
            "a date as text",
            |c| c.not_after[0] = 0x0c,
            malformed("validity"),
        ),
        (
            "key without algorithm",
            |c| c.spki = tlv(0x30, &[&tlv(0x30, &[]), &[3, 1, 0]]),
            malformed("public key"),
        ),
        (
            "key with unused bits",
            |c| c.spki[25] = 1,
            malformed("public key"),
        ),
        (
            "a unique identifier",
            |c| c.rest = vec![0x82, 2, 0, 1],
            malformed("signed part"),
        ),
        (
            "something after the extensions",
            |c| c.rest = vec![5, 0],
            malformed("signed part"),
        ),
        (
            "key usage of another type",
            |c| push(c, 15, vec![4, 1, 0x80]),
            malformed("key usage"),
        ),
        (
            "names of another type",
            |c| push(c, 17, tlv(0x31, &[])),
            malformed("subject alternative name"),
        ),
    ];
    for (name, change, expected) in cases {
        let mut certificate = sound();
        change(&mut certificate);
        assert_eq!(fault(&sign(&certificate)), expected, "{name}");
    }
}

#[test]
fn booleans_are_true_or_false() {
    let with = |critical: &[u8]| {
        let mut certificate = sound();
        certificate.extensions.clear();
        let extension = tlv(0x30, &[&[6, 3, 0x2b, 6, 1], critical, &[4, 0]]);
        certificate.rest = tlv(0xa3, &[&tlv(0x30, &[&extension])]);
        PresentedChain::parse(&[sign(&certificate)])
    };
    assert!(with(&[]).is_ok());
    // The default written out: not DER, but found in old certificates and harmless.
    assert!(with(&[1, 1, 0]).is_ok());
    for critical in [
        &[1, 1, 1][..],
        &[1, 2, 0xff, 0xff],
        &[1, 0],
        &[1, 1, 0, 1, 1, 0xff],
    ] {
        assert!(with(critical).is_err(), "{critical:?}");
    }
}

#[test]
fn path_lengths_too_large_for_us_are_refused_by_the_tls_library_only_where_they_matter() {
    // A leaf with a path length but without CA:TRUE is found in practice.
    let mut certificate = sound();
    push(&mut certificate, 19, vec![0x30, 3, 2, 1, 0]);
    let chain = PresentedChain::parse(&[sign(&certificate)]).expect("harmless");
    assert!(!chain.leaf().is_ca);
    let mut certificate = sound();
    push(&mut certificate, 19, vec![0x30, 6, 1, 1, 0xff, 2, 1, 0xff]);
    assert_eq!(fault(&sign(&certificate)), malformed("basic constraints"));
}

type Change = fn(&mut RawCertificate);

fn sound() -> RawCertificate {
    let mut certificate = RawCertificate::of(&Foreign::default().self_signed().chain[0]);
    push(&mut certificate, 99, vec![5, 0]);
    certificate
}

fn push(certificate: &mut RawCertificate, id_ce: u8, value: Vec<u8>) {
    certificate
        .extensions
        .push((vec![0x55, 0x1d, id_ce], false, value));
}

fn sign(certificate: &RawCertificate) -> Vec<u8> {
    certificate.sign(&TestKey::generate(Algorithm::EcdsaP256))
}

fn fault(der: &[u8]) -> CertificateFault {
    match PresentedChain::parse(&[der]) {
        Err(ChainError::Certificate { index: 0, fault }) => fault,
        other => panic!("expected a refused leaf, got {other:?}"),
    }
}

const fn malformed(part: &'static str) -> CertificateFault {
    CertificateFault::Malformed { part }
}
