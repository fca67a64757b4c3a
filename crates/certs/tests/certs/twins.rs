//! Certificates whose ECDSA signature somebody without any key wrote in its other form.

use comity_certs::{Anchor, PresentedChain, Purpose, verify_ca_path};
use comity_identity::Fingerprint;

use crate::certificates::{Foreign, ForeignKey, TODAY, content, elements, tlv};

const P256: &str = "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551";
const P384: &str = "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973";

#[test]
fn the_other_form_of_a_certificate_verifies_and_is_known_by_the_first_ones_fingerprint() {
    for (key, order) in [(ForeignKey::P256, P256), (ForeignKey::P384, P384)] {
        let ca = Foreign {
            key,
            ..Foreign::authority("corp")
        };
        let ca = ca.root();
        let anchor = Anchor::from_der(&ca.der).expect("a CA");
        let leaf = Foreign::server("db1.example")
            .issued_by(&ca)
            .chain
            .remove(0);
        let other = negated(&leaf, order);
        assert_ne!(leaf, other);
        let chain = PresentedChain::parse(&[&other]).expect("sound");
        assert!(verify_ca_path(&chain, [&anchor], Purpose::Serve, TODAY).is_ok());
        let original = Fingerprint::of_certificate(&leaf);
        assert!(chain.twin_fingerprints().contains(&original));
        assert!(!chain.fingerprints().contains(&original));
        // The authority's own certificate has another form as well.
        let twin = Anchor::from_der(&negated(&ca.der, order)).expect("a CA");
        assert!(twin.twin_fingerprints().contains(&anchor.fingerprint()));
    }
}

#[test]
fn every_presented_certificate_has_its_other_form_looked_up() {
    let ca = Foreign::authority("corp").root();
    let middle = Foreign::authority("middle").intermediate(&ca);
    let leaf = Foreign::server("db1.example").issued_by(&middle);
    let originals = [&leaf.chain[0], &middle.der, &ca.der];
    let others = originals.map(|der| negated(der, P256));
    let chain = PresentedChain::parse(&others).expect("sound");
    for der in originals {
        let original = Fingerprint::of_certificate(der);
        assert!(chain.twin_fingerprints().contains(&original));
    }
}

#[test]
fn other_signatures_have_one_form() {
    for key in [ForeignKey::Ed25519, ForeignKey::Rsa2048] {
        let foreign = Foreign {
            key,
            ..Foreign::server("db1.example")
        };
        let chain = PresentedChain::parse(&foreign.self_signed().chain).expect("sound");
        assert_eq!(chain.twin_fingerprints(), []);
    }
}

/// The certificate with `n - s` in place of `s`.
fn negated(certificate: &[u8], order: &str) -> Vec<u8> {
    let order = data_encoding::HEXUPPER
        .decode(order.as_bytes())
        .expect("hex");
    let parts = elements(certificate);
    let signature = elements(&content(parts[2])[1..]);
    let s = difference(&order, content(signature[1]));
    let signature = tlv(0x30, &[signature[0], &integer(&s)]);
    let signature = tlv(0x03, &[&[0], &signature]);
    tlv(0x30, &[parts[0], parts[1], &signature])
}

fn difference(minuend: &[u8], subtrahend: &[u8]) -> Vec<u8> {
    let mut digits: Vec<i32> = minuend.iter().map(|&byte| i32::from(byte)).collect();
    let length = digits.len();
    for (place, &byte) in subtrahend.iter().rev().enumerate() {
        // A leading zero may stand before the digits.
        if let Some(place) = length.checked_sub(place + 1) {
            digits[place] -= i32::from(byte);
        }
    }
    for place in (1..length).rev() {
        while digits[place] < 0 {
            digits[place] += 256;
            digits[place - 1] -= 1;
        }
    }
    digits
        .into_iter()
        .map(|d| u8::try_from(d).expect("a byte"))
        .collect()
}

fn integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    let digits = &number[zeros..];
    match digits[0] {
        0x80.. => tlv(0x02, &[&[0], digits]),
        _ => tlv(0x02, &[digits]),
    }
}
