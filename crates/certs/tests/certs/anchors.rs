//! Which certificates can be trusted as a CA, and CA files.

use comity_certs::limits::{MAX_CA_FILE_BYTES, MAX_CHAIN_BYTES};
use comity_certs::{Anchor, AnchorError, CaFileError, CertificateFault, Purpose};
use comity_identity::{Algorithm, Fingerprint, KeyHash};
use rcgen::KeyUsagePurpose;

use crate::certificates::{DAY, Foreign, RawCertificate, TODAY, TestKey, pem};

#[test]
fn an_anchor_remembers_what_its_certificate_says() {
    let authority = Foreign::authority("private\nCA").root();
    let anchor = Anchor::from_der(&authority.der).expect("a CA");
    assert_eq!(
        anchor.fingerprint(),
        Fingerprint::of_certificate(&authority.der)
    );
    let spki = RawCertificate::of(&authority.der).spki;
    assert_eq!(anchor.key(), KeyHash::of_spki(&spki));
    assert_eq!(anchor.not_before(), TODAY - DAY);
    assert_eq!(anchor.not_after(), TODAY + 3650 * DAY);
    assert_eq!(anchor.subject(), "CN=private\\u{a}CA");
    assert_eq!(anchor.der(), authority.der);
    assert!(anchor.allows(Purpose::Serve) && anchor.allows(Purpose::Dial));
}

#[test]
fn an_anchor_may_be_limited_to_a_purpose() {
    let limited = Foreign {
        purposes: vec![Purpose::Serve],
        ..Foreign::authority("servers only")
    };
    let anchor = Anchor::from_der(&limited.root().der).expect("a CA");
    assert!(anchor.allows(Purpose::Serve) && !anchor.allows(Purpose::Dial));
}

#[test]
fn what_is_not_a_ca_cannot_be_an_anchor() {
    let leaf = Foreign::server("db1.example").self_signed();
    assert_eq!(Anchor::from_der(&leaf.chain[0]), Err(AnchorError::NotCa));
    let no_sign = Foreign {
        key_usages: vec![KeyUsagePurpose::CrlSign],
        ..Foreign::authority("crl only")
    };
    assert_eq!(
        Anchor::from_der(&no_sign.root().der),
        Err(AnchorError::MayNotSign)
    );
    let unspecified = Foreign {
        key_usages: vec![],
        ..Foreign::authority("no key usage")
    };
    assert!(Anchor::from_der(&unspecified.root().der).is_ok());
}

#[test]
fn an_anchor_that_insists_on_what_is_not_enforced_is_refused() {
    let mut certificate = RawCertificate::of(&Foreign::authority("policies").root().der);
    certificate
        .extensions
        .push((vec![0x55, 0x1d, 36], true, vec![0x30, 0]));
    let der = certificate.sign(&TestKey::generate(Algorithm::EcdsaP256));
    let fault = CertificateFault::UnknownCritical {
        oid: "2.5.29.36".into(),
    };
    assert_eq!(Anchor::from_der(&der), Err(AnchorError::Certificate(fault)));
}

#[test]
fn an_anchor_is_bounded_in_size() {
    let too_large = vec![0x30; MAX_CHAIN_BYTES + 1];
    let bytes = MAX_CHAIN_BYTES + 1;
    assert_eq!(
        Anchor::from_der(&too_large),
        Err(AnchorError::TooLarge { bytes })
    );
    assert!(matches!(
        Anchor::from_der(&too_large[1..]),
        Err(AnchorError::Certificate(_))
    ));
}

#[test]
fn a_ca_file_has_several_certificates_with_text_around_them() {
    let [one, two] = ["one", "two"].map(|name| Foreign::authority(name).root().der);
    let text = format!(
        "# our CAs\n\nIssuer: one\n{}\n  some text, even é\n{}trailing",
        pem("CERTIFICATE", &one),
        pem("CERTIFICATE", &two).replace('\n', "\r\n"),
    );
    let anchors = Anchor::read_pem(&text).expect("two CAs");
    let der: Vec<&[u8]> = anchors.iter().map(Anchor::der).collect();
    assert_eq!(der, [one, two]);
}

#[test]
fn a_ca_file_is_used_whole_or_not_at_all() {
    let ca = pem("CERTIFICATE", &Foreign::authority("one").root().der);
    let leaf = pem("CERTIFICATE", &Foreign::default().self_signed().chain[0]);
    let not_ca = CaFileError::Anchor {
        number: 2,
        cause: AnchorError::NotCa,
    };
    let cut = &ca[..ca.len() / 2];
    for (text, error) in [
        (String::new(), CaFileError::Empty),
        ("no certificate".to_owned(), CaFileError::Empty),
        (pem("PRIVATE KEY", b"key"), CaFileError::Empty),
        (format!("{ca}{leaf}"), not_ca),
        (format!("{ca}{cut}"), CaFileError::Pem { number: 2 }),
        (ca.replacen("\nM", "\n!", 1), CaFileError::Pem { number: 1 }),
    ] {
        assert_eq!(Anchor::read_pem(&text), Err(error));
    }
}

#[test]
fn a_ca_file_is_bounded() {
    let ca = pem("CERTIFICATE", &Foreign::authority("one").root().der);
    let padded = |bytes: usize| format!("{ca}{}", "#".repeat(bytes - ca.len()));
    assert!(Anchor::read_pem(&padded(MAX_CA_FILE_BYTES)).is_ok());
    let bytes = MAX_CA_FILE_BYTES + 1;
    assert_eq!(
        Anchor::read_pem(&padded(bytes)),
        Err(CaFileError::TooLarge { bytes })
    );
    let full = ca.repeat(1024);
    assert_eq!(Anchor::read_pem(&full).map(|a| a.len()), Ok(1024));
    let error = Anchor::read_pem(&ca.repeat(1025));
    assert_eq!(error, Err(CaFileError::TooManyCertificates));
}
