//! Foreign leaves: any subject, but sound structure and accepted keys.

use comity_certs::limits::{MAX_CERTIFICATES, MAX_CHAIN_BYTES, MAX_EXTENSIONS, MAX_SANS};
use comity_certs::{
    CertificateFault, ChainError, Form, KeyFault, PresentedChain, Purpose, SanName, Usages,
};
use comity_identity::{Algorithm, Fingerprint, KeyHash, PeerId, Signer, UnixTime};
use rcgen::CustomExtension;

use crate::certificates::{
    Credential, DAY, Foreign, ForeignKey, RawCertificate, TODAY, TestKey, random_serial, tlv,
};

#[test]
fn a_foreign_peer_is_known_by_the_key_in_its_leaf() {
    let foreign = Foreign::server("db1.example").self_signed();
    let spki = RawCertificate::of(&foreign.chain[0]).spki;
    let chain = PresentedChain::parse(&foreign.chain).expect("a sound certificate");
    assert_eq!(chain.form(), Form::Foreign);
    assert_eq!(chain.peer_id(), PeerId::Key(KeyHash::of_spki(&spki)));
    assert_eq!(chain.next(), None);
    let leaf = chain.leaf();
    assert_eq!(
        leaf.fingerprint,
        Fingerprint::of_certificate(&foreign.chain[0])
    );
    assert_eq!(
        (leaf.not_before, leaf.not_after),
        (TODAY - DAY, TODAY + 365 * DAY)
    );
    assert_eq!(leaf.names, [SanName::Dns("db1.example".into())]);
    assert_eq!(leaf.common_name.as_deref(), Some("db1.example"));
    assert!(leaf.self_signed && !leaf.is_ca);
}

#[test]
fn one_key_in_two_certificates_is_one_peer() {
    // T02
    let key = TestKey::generate(Algorithm::EcdsaP256);
    let mut certificate = RawCertificate::of(&Foreign::default().self_signed().chain[0]);
    certificate.spki = key.spki().to_vec();
    let first = certificate.sign(&key);
    certificate.serial = tlv(2, &[&[1], &random_serial()]);
    let [first, second] =
        [first, certificate.sign(&key)].map(|c| PresentedChain::parse(&[c]).expect("sound"));
    assert_eq!(first.peer_id(), second.peer_id());
    assert_ne!(first.fingerprints(), second.fingerprints());
}

#[test]
fn accepted_keys_are_accepted() {
    for key in [ForeignKey::P256, ForeignKey::P384, ForeignKey::Ed25519] {
        let foreign = Foreign {
            key,
            ..Foreign::default()
        };
        let chain = PresentedChain::parse(&foreign.self_signed().chain);
        assert!(
            chain.expect("an accepted key").leaf().self_signed,
            "{key:?}"
        );
    }
}

#[test]
fn p521_is_not_accepted() {
    // T23; the other weak keys are in tests/vectors/certificate.
    let foreign = Foreign {
        key: ForeignKey::P521,
        ..Foreign::default()
    };
    let curve = "1.3.132.0.35".to_owned();
    assert_eq!(
        fault(&foreign.self_signed().chain),
        CertificateFault::UnsupportedKey(KeyFault::Curve { curve })
    );
}

#[test]
fn every_weak_key_that_handshake_tests_use_is_refused() {
    // T23
    for name in [
        "rsa-1024",
        "rsa-e3",
        "ed448",
        "p521",
        "secp256k1",
        "sha1",
        "version-1",
    ] {
        let credential = Credential::of_vector(&format!("foreign-{name}"));
        assert!(PresentedChain::parse(&credential.chain).is_err(), "{name}");
    }
}

#[test]
fn points_and_keys_in_unusual_forms_are_not_accepted() {
    let p256 = [
        0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d,
        3, 1, 7,
    ];
    let ed25519 = [0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
    let ed25519_null = [0x30, 7, 6, 3, 0x2b, 0x65, 0x70, 5, 0];
    let key = |algorithm: &[u8], bits: &[u8]| tlv(0x30, &[algorithm, &tlv(3, &[bits])]);
    let algorithm = |algorithm: &str| KeyFault::Algorithm {
        algorithm: algorithm.into(),
    };
    for (spki, fault) in [
        (
            key(&p256, &[&[0, 2], [7; 32].as_slice()].concat()),
            KeyFault::Point,
        ),
        (
            key(&p256, &[&[0, 6], [7; 64].as_slice()].concat()),
            KeyFault::Point,
        ),
        (
            key(&p256, &[&[0, 4], [7; 63].as_slice()].concat()),
            KeyFault::Point,
        ),
        (key(&p256, &[0, 0]), KeyFault::Point),
        (
            key(&ed25519, &[&[0], [7; 31].as_slice()].concat()),
            algorithm("1.3.101.112"),
        ),
        (
            key(&ed25519_null, &[&[0], [7; 32].as_slice()].concat()),
            algorithm("1.3.101.112"),
        ),
    ] {
        let mut certificate = sound();
        certificate.spki = spki;
        assert_eq!(
            fault_of(&certificate),
            CertificateFault::UnsupportedKey(fault)
        );
    }
}

#[test]
fn a_self_issued_leaf_with_another_signature_is_not_self_signed() {
    let certificate = RawCertificate::of(&Foreign::default().self_signed().chain[0]);
    let other = TestKey::generate(Algorithm::EcdsaP256);
    let chain = PresentedChain::parse(&[certificate.sign(&other)]).expect("sound");
    assert!(!chain.leaf().self_signed);
}

#[test]
fn a_ca_certificate_as_leaf_is_reported_as_such() {
    // T16: `openssl req -x509` makes them; a pin may accept it, a CA path does not.
    let authority = Foreign::authority("private").root();
    let chain = PresentedChain::parse(&[&authority.der]).expect("sound");
    assert!(chain.leaf().is_ca && chain.leaf().self_signed);
}

#[test]
fn usages_are_reported() {
    // T14, T15
    let usages = |foreign: Foreign| {
        let chain = PresentedChain::parse(&foreign.self_signed().chain).expect("sound");
        chain.leaf().usages
    };
    let absent = usages(Foreign::default());
    assert_eq!(absent, Usages::Absent);
    assert!(absent.allows(Purpose::Serve) && absent.allows(Purpose::Dial));
    let serve = usages(Foreign::server("a.example"));
    assert!(serve.allows(Purpose::Serve) && !serve.allows(Purpose::Dial));
    let dial = usages(Foreign::client("a"));
    assert!(!dial.allows(Purpose::Serve) && dial.allows(Purpose::Dial));
    let any = usages(Foreign {
        extensions: vec![CustomExtension::from_oid_content(
            &[2, 5, 29, 37],
            vec![0x30, 6, 6, 4, 0x55, 0x1d, 37, 0],
        )],
        ..Foreign::default()
    });
    assert_eq!(
        any,
        Usages::Listed {
            serve: false,
            dial: false,
            any: true
        }
    );
    assert!(!any.allows(Purpose::Serve) && !any.allows(Purpose::Dial));
}

#[test]
fn an_empty_extended_key_usage_is_malformed() {
    let mut certificate = sound();
    certificate
        .extensions
        .push((vec![0x55, 0x1d, 37], false, vec![0x30, 0]));
    assert_eq!(fault_of(&certificate), malformed("extended key usage"));
}

#[test]
fn unknown_critical_extensions_are_refused_and_others_are_not() {
    // T11, T12
    let unknown = vec![0x2b, 6, 1, 4, 1, 0x81, 0xfd, 0x59, 1];
    // A UUID below 2.25, as other programs use: an arc of 128 bits.
    let large = [&[0x69], [0x83; 18].as_slice(), &[1]].concat();
    for (oid, text) in [
        (unknown, "1.3.6.1.4.1.32473.1"),
        (vec![0x55, 0x1d, 30], "2.5.29.30"),
        (large, "0x6983838383838383838383838383838383838301"),
    ] {
        let mut certificate = sound();
        certificate
            .extensions
            .push((oid.clone(), true, vec![0x30, 0]));
        let refused = CertificateFault::UnknownCritical { oid: text.into() };
        assert_eq!(fault_of(&certificate), refused);
        certificate.extension_mut(&oid).1 = false;
        assert!(
            PresentedChain::parse(&[sign(&certificate)]).is_ok(),
            "{text}"
        );
    }
}

#[test]
fn duplicate_extensions_are_refused() {
    let mut certificate = sound();
    let san = (
        vec![0x55, 0x1d, 17],
        false,
        tlv(0x30, &[&tlv(0x82, &[b"a.example"])]),
    );
    certificate.extensions.extend([san.clone(), san]);
    let oid = "2.5.29.17".to_owned();
    assert_eq!(
        fault_of(&certificate),
        CertificateFault::DuplicateExtension { oid }
    );
}

#[test]
fn certificates_before_version_3_are_refused() {
    // T10
    for version in [
        vec![],
        vec![0xa0, 3, 2, 1, 0],
        vec![0xa0, 3, 2, 1, 1],
        vec![0xa0, 3, 2, 1, 3],
    ] {
        let mut certificate = sound();
        certificate.version = version;
        assert_eq!(fault_of(&certificate), CertificateFault::Version);
    }
}

#[test]
fn two_signature_algorithms_in_one_certificate_are_refused() {
    let mut certificate = sound();
    certificate.inner_algorithm = tlv(0x30, &[&[6, 3, 0x2b, 0x65, 0x70]]);
    assert_eq!(fault_of(&certificate), CertificateFault::AlgorithmMismatch);
}

#[test]
fn rsa_pss_without_parameters_means_sha_1_and_is_refused() {
    // T23
    let mut certificate = sound();
    let pss = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
    for parameters in [&[][..], &[0x30, 0]] {
        certificate.inner_algorithm = tlv(0x30, &[&pss, parameters]);
        certificate.outer_algorithm = certificate.inner_algorithm.clone();
        let oid = "1.2.840.113549.1.1.10".to_owned();
        assert_eq!(
            fault_of(&certificate),
            CertificateFault::UnsupportedSignature { oid }
        );
    }
}

#[test]
fn no_certificate_is_an_error_of_its_own() {
    assert!(matches!(
        PresentedChain::parse::<&[u8]>(&[]),
        Err(ChainError::Empty)
    ));
}

#[test]
fn eight_certificates_are_read_and_nine_are_not() {
    // T22
    let leaf = sign(&sound());
    let chain = PresentedChain::parse(&[&leaf; MAX_CERTIFICATES]).expect("at the limit");
    assert_eq!(chain.keys().len(), MAX_CERTIFICATES);
    let error = PresentedChain::parse(&[&leaf; MAX_CERTIFICATES + 1]).expect_err("past it");
    assert_eq!(error, ChainError::TooManyCertificates { found: 9 });
    assert!(error.is_limit());
}

#[test]
fn sixteen_kilobytes_are_read_and_one_byte_more_is_not() {
    // T20
    let leaf = sound();
    let padded = |bytes: usize| {
        let mut certificate = leaf.clone();
        let oid = vec![0x2b, 6, 1, 4, 1, 0x81, 0xfd, 0x59, 1];
        certificate.extensions.push((oid, false, vec![0; bytes]));
        let key = TestKey::generate(Algorithm::Ed25519);
        certificate.spki = key.spki().to_vec();
        certificate.inner_algorithm = tlv(0x30, &[&[6, 3, 0x2b, 0x65, 0x70]]);
        certificate.outer_algorithm = certificate.inner_algorithm.clone();
        // Ed25519 signatures have one length, so sizes can be computed.
        certificate.sign(&key)
    };
    let overhead = padded(10_000).len() - 10_000;
    let largest = padded(MAX_CHAIN_BYTES - overhead);
    assert_eq!(largest.len(), MAX_CHAIN_BYTES);
    assert!(PresentedChain::parse(&[largest]).is_ok());
    let error = PresentedChain::parse(&[padded(MAX_CHAIN_BYTES - overhead + 1)]);
    let error = error.expect_err("past the limit");
    assert_eq!(
        error,
        ChainError::TooLarge {
            bytes: MAX_CHAIN_BYTES + 1
        }
    );
    assert!(error.is_limit());
    // The limit is on the sum, and holds before anything is parsed.
    let halves = [
        vec![0; MAX_CHAIN_BYTES / 2],
        vec![0; MAX_CHAIN_BYTES / 2 + 1],
    ];
    let error = PresentedChain::parse(&halves).expect_err("past the limit");
    assert_eq!(
        error,
        ChainError::TooLarge {
            bytes: MAX_CHAIN_BYTES + 1
        }
    );
    let garbage = PresentedChain::parse(&[vec![0; MAX_CHAIN_BYTES]]).expect_err("not DER");
    assert!(!garbage.is_limit());
}

#[test]
fn sixty_four_names_are_read_and_one_more_is_not() {
    // T21
    let with = |count: usize| {
        let foreign = Foreign {
            dns: (0..count).map(|i| format!("n{i}.example")).collect(),
            ..Foreign::default()
        };
        PresentedChain::parse(&foreign.self_signed().chain)
    };
    assert_eq!(
        with(MAX_SANS).expect("at the limit").leaf().names.len(),
        MAX_SANS
    );
    let error = with(MAX_SANS + 1).expect_err("past the limit");
    assert!(error.is_limit());
    let fault = CertificateFault::TooManyNames {
        found: MAX_SANS + 1,
    };
    assert_eq!(error, ChainError::Certificate { index: 0, fault });
}

#[test]
fn thirty_two_extensions_are_read_and_one_more_is_not() {
    let with = |count: usize| {
        let mut certificate = sound();
        certificate.extensions.clear();
        for number in 0..count {
            let number = u8::try_from(number).expect("few");
            let oid = vec![0x2b, 6, 1, 4, 1, 0x81, 0xfd, 0x59, number];
            certificate.extensions.push((oid, false, vec![]));
        }
        PresentedChain::parse(&[sign(&certificate)])
    };
    assert!(with(MAX_EXTENSIONS).is_ok());
    let error = with(MAX_EXTENSIONS + 1).expect_err("past the limit");
    let fault = CertificateFault::TooManyExtensions;
    assert!(error.is_limit());
    assert_eq!(error, ChainError::Certificate { index: 0, fault });
}

#[test]
fn times_are_reported_to_the_second() {
    // T03, T04: they are judged elsewhere, with the clock as an argument.
    for (not_before, not_after) in [
        (TODAY, TODAY),
        (TODAY - DAY, UnixTime::NEVER),
        (TODAY, TODAY - DAY),
    ] {
        let foreign = Foreign {
            not_before,
            not_after,
            ..Foreign::default()
        };
        let chain = PresentedChain::parse(&foreign.self_signed().chain).expect("sound");
        assert_eq!(chain.leaf().not_before, not_before);
        assert_eq!(chain.leaf().not_after, not_after);
    }
}

#[test]
fn certificates_after_the_leaf_must_be_sound_too() {
    let leaf = sign(&sound());
    let error = PresentedChain::parse(&[leaf.as_slice(), &leaf, &leaf[..leaf.len() - 1]]);
    let fault = malformed("outer structure");
    assert_eq!(
        error.expect_err("cut off"),
        ChainError::Certificate { index: 2, fault }
    );
}

#[test]
fn every_presented_key_is_reported_in_order() {
    // T18: extra and duplicated certificates change nothing but the list.
    let leaf = sign(&sound());
    let other = Foreign::authority("other").root().der;
    let chain = PresentedChain::parse(&[&leaf, &other, &leaf]).expect("sound");
    assert_eq!(chain.peer_id(), PeerId::Key(chain.keys()[0]));
    assert_eq!(chain.keys()[0], chain.keys()[2]);
    assert_ne!(chain.keys()[0], chain.keys()[1]);
    assert_eq!(chain.fingerprints()[1], Fingerprint::of_certificate(&other));
}

/// A sound self-issued certificate, in parts.
fn sound() -> RawCertificate {
    RawCertificate::of(&Foreign::default().self_signed().chain[0])
}

/// Signed by some key: whether the signature is right is not asked of foreign certificates.
fn sign(certificate: &RawCertificate) -> Vec<u8> {
    certificate.sign(&TestKey::generate(Algorithm::EcdsaP256))
}

fn fault_of(certificate: &RawCertificate) -> CertificateFault {
    fault(&[sign(certificate)])
}

fn fault(chain: &[Vec<u8>]) -> CertificateFault {
    match PresentedChain::parse(chain) {
        Err(ChainError::Certificate { index: 0, fault }) => fault,
        other => panic!("expected a refused leaf, got {other:?}"),
    }
}

fn malformed(part: &'static str) -> CertificateFault {
    CertificateFault::Malformed { part }
}
