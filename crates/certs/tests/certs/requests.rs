//! Certificate signing requests.

use comity_certs::limits::{MAX_CSR_ATTRIBUTES, MAX_CSR_BYTES, MAX_SANS};
use comity_certs::{Csr, CsrError, MintError, mint_csr, read_csr};
use comity_identity::{Algorithm, SignError, Signer};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use crate::certificates::{TestKey, elements, pem, tlv};

const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];

/// A request in parts, to be signed again.
struct Raw {
    version: Vec<u8>,
    subject: Vec<u8>,
    spki: Vec<u8>,
    attributes: Vec<u8>,
    algorithm: Vec<u8>,
}

impl Raw {
    fn of(request: &[u8]) -> Self {
        let parts = elements(request);
        let fields = elements(parts[0]);
        Self {
            version: fields[0].to_vec(),
            subject: fields[1].to_vec(),
            spki: fields[2].to_vec(),
            attributes: fields[3].to_vec(),
            algorithm: parts[1].to_vec(),
        }
    }

    fn sign(&self, key: &TestKey) -> Vec<u8> {
        let info = tlv(
            0x30,
            &[&self.version, &self.subject, &self.spki, &self.attributes],
        );
        let signature = key.sign(&info).expect("a software key");
        let signature = tlv(0x03, &[&[0], &signature]);
        tlv(0x30, &[&info, &self.algorithm, &signature])
    }
}

fn attribute(kind: &[u8], values: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &[&tlv(0x06, &[kind]), &tlv(0x31, values)])
}

/// An attribute that asks for these extensions: arc below 2.5.29, and value.
fn extensions(list: &[(u8, &[u8])]) -> Vec<u8> {
    let list: Vec<Vec<u8>> = list
        .iter()
        .map(|(arc, value)| tlv(0x30, &[&[0x06, 3, 0x55, 0x1d, *arc], &tlv(0x04, &[value])]))
        .collect();
    let list: Vec<&[u8]> = list.iter().map(Vec::as_slice).collect();
    attribute(EXTENSION_REQUEST, &[&tlv(0x30, &list)])
}

fn names(count: usize) -> Vec<u8> {
    let names: Vec<Vec<u8>> = (0..count)
        .map(|i| tlv(0x82, &[format!("n{i}").as_bytes()]))
        .collect();
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    tlv(0x30, &names)
}

/// Reads a sound request in which these are the attributes.
fn with_attributes(attributes: &[&[u8]]) -> Result<Csr, CsrError> {
    let key = TestKey::generate(Algorithm::EcdsaP256);
    let mut raw = Raw::of(&mint_csr(&key, "db").expect("sound"));
    raw.attributes = tlv(0xa0, attributes);
    read_csr(&raw.sign(&key))
}

#[test]
fn our_own_requests_are_read_in_both_forms() {
    for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
        let key = TestKey::generate(algorithm);
        let der = mint_csr(&key, "db 1").expect("a sound name");
        let csr = read_csr(&der).expect("our own");
        assert_eq!(csr.subject, "CN=db 1");
        assert_eq!(csr.spki, key.spki());
        assert!(csr.dns.is_empty() && csr.ips.is_empty() && csr.uris.is_empty());
        let armoured = pem("CERTIFICATE REQUEST", &der);
        assert_eq!(read_csr(armoured.as_bytes()), Ok(csr.clone()));
        // Tools write a readable dump before the block.
        let dumped = format!("Certificate Request:\n    Data:\n{armoured}");
        assert_eq!(read_csr(dumped.as_bytes()), Ok(csr));
    }
    let key = TestKey::generate(Algorithm::EcdsaP256);
    assert!(mint_csr(&key, &"n".repeat(64)).is_ok());
    for name in ["", "a\nb", &"n".repeat(65)] {
        assert!(matches!(mint_csr(&key, name), Err(MintError::Name { .. })));
    }
}

#[test]
fn requests_of_other_tools_are_read() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let key = KeyPair::generate_for(algorithm).expect("entropy");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Corp");
        params.subject_alt_names = vec![
            SanType::DnsName("DB.example".try_into().expect("ASCII")),
            SanType::IpAddress("192.0.2.1".parse().expect("an address")),
            SanType::URI("spiffe://corp/db".try_into().expect("ASCII")),
        ];
        let request = params.serialize_request(&key).expect("sound");
        let csr = read_csr(request.der()).expect("sound");
        assert_eq!(csr.subject, "O=Corp");
        assert_eq!(csr.dns, ["db.example"]);
        assert_eq!(
            csr.ips,
            ["192.0.2.1".parse::<std::net::IpAddr>().expect("an address")]
        );
        assert_eq!(csr.uris, ["spiffe://corp/db"]);
    }
}

#[test]
fn who_does_not_hold_the_key_gets_nothing() {
    let (key, thief) = (
        TestKey::generate(Algorithm::EcdsaP256),
        TestKey::generate(Algorithm::EcdsaP256),
    );
    let sound = mint_csr(&key, "db").expect("sound");
    let raw = Raw::of(&sound);
    assert!(read_csr(&raw.sign(&key)).is_ok());
    assert_eq!(read_csr(&raw.sign(&thief)), Err(CsrError::Signature));
    // Nor who names another algorithm than the key's.
    let ed25519 = TestKey::generate(Algorithm::Ed25519);
    let mut other = Raw::of(&sound);
    other.algorithm = Raw::of(&mint_csr(&ed25519, "db").expect("sound")).algorithm;
    assert_eq!(read_csr(&other.sign(&key)), Err(CsrError::Signature));
    // A field changed after signing.
    let at = sound
        .windows(2)
        .rposition(|w| w == b"db")
        .expect("the name");
    let mut changed = sound.clone();
    changed[at] = b'e';
    assert_eq!(read_csr(&changed), Err(CsrError::Signature));
}

#[test]
fn nothing_but_names_is_taken_from_a_request() {
    let csr = with_attributes(&[
        // challengePassword, and extensions of which only the names count: it asks to be a CA.
        &attribute(
            &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x07],
            &[&[0x0c, 1, b'x']],
        ),
        &extensions(&[(17, &names(2)), (19, &[0x30, 0x03, 0x01, 0x01, 0xff])]),
    ]);
    assert_eq!(csr.expect("ignored").dns, ["n0", "n1"]);
    assert!(with_attributes(&[]).expect("sound").dns.is_empty());
}

#[test]
fn what_is_said_twice_is_refused() {
    let one = extensions(&[(17, &names(1))]);
    assert_eq!(
        with_attributes(&[&one, &one]),
        Err(CsrError::DuplicateAttribute)
    );
    let twice = extensions(&[(17, &names(1)), (17, &names(2))]);
    assert!(matches!(
        with_attributes(&[&twice]),
        Err(CsrError::Request(_))
    ));
    let list = tlv(0x30, &[]);
    let two_values = attribute(EXTENSION_REQUEST, &[&list, &list]);
    assert!(matches!(
        with_attributes(&[&two_values]),
        Err(CsrError::Request(_))
    ));
    let no_value = attribute(EXTENSION_REQUEST, &[]);
    assert!(matches!(
        with_attributes(&[&no_value]),
        Err(CsrError::Request(_))
    ));
}

#[test]
fn names_that_could_not_be_given_are_refused_and_not_left_out() {
    for name in [
        &[0x81, 3, b'a', b'@', b'b'][..],
        &[0x82, 3, b'a', b' ', b'b'],
        &[0x82, 0],
        &[0x86, 1, b'a'],
        &[0x87, 1, 1],
        &[0xa4, 2, 0x30, 0],
    ] {
        let request = extensions(&[(17, &tlv(0x30, &[name]))]);
        assert_eq!(
            with_attributes(&[&request]),
            Err(CsrError::Name),
            "{name:02x?}"
        );
    }
}

#[test]
fn every_limit_holds_at_the_limit_and_not_beyond() {
    let at = extensions(&[(17, &names(MAX_SANS))]);
    assert_eq!(
        with_attributes(&[&at]).expect("64 names").dns.len(),
        MAX_SANS
    );
    let over = extensions(&[(17, &names(MAX_SANS + 1))]);
    assert!(matches!(
        with_attributes(&[&over]),
        Err(CsrError::Request(_))
    ));

    let many: Vec<Vec<u8>> = (0..=8)
        .map(|i| attribute(&[0x2a, i], &[&[0x05, 0]]))
        .collect();
    let many: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
    assert!(with_attributes(&many[..MAX_CSR_ATTRIBUTES]).is_ok());
    let found = MAX_CSR_ATTRIBUTES + 1;
    assert_eq!(
        with_attributes(&many),
        Err(CsrError::TooManyAttributes { found })
    );

    let key = TestKey::generate(Algorithm::Ed25519);
    let padded = |length: usize| {
        let mut raw = Raw::of(&mint_csr(&key, "db").expect("sound"));
        let filler = attribute(&[0x2a, 3], &[&tlv(0x04, &[&vec![0; length]])]);
        raw.attributes = tlv(0xa0, &[&filler]);
        raw.sign(&key)
    };
    let room = MAX_CSR_BYTES - padded(1000).len() + 1000;
    assert_eq!(padded(room).len(), MAX_CSR_BYTES);
    assert!(read_csr(&padded(room)).is_ok());
    let bytes = MAX_CSR_BYTES + 1;
    assert_eq!(
        read_csr(&padded(room + 1)),
        Err(CsrError::TooLarge { bytes })
    );
    // As text as well, and the text itself.
    let text = pem("CERTIFICATE REQUEST", &padded(room + 1));
    assert_eq!(read_csr(text.as_bytes()), Err(CsrError::TooLarge { bytes }));
    let bytes = 4 * MAX_CSR_BYTES + 1;
    assert_eq!(
        read_csr(&vec![b' '; bytes]),
        Err(CsrError::TooLarge { bytes })
    );
    assert_eq!(read_csr(&vec![b' '; bytes - 1]), Err(CsrError::Pem));
}

#[test]
fn text_is_one_block_of_the_right_kind() {
    let key = TestKey::generate(Algorithm::EcdsaP256);
    let der = mint_csr(&key, "db").expect("sound");
    let block = pem("CERTIFICATE REQUEST", &der);
    for text in [
        String::new(),
        format!("{block}{block}"),
        pem("CERTIFICATE", &der),
        block.replace("-----END CERTIFICATE REQUEST-----", ""),
        block.replacen('M', "!", 1),
    ] {
        assert_eq!(read_csr(text.as_bytes()), Err(CsrError::Pem), "{text}");
    }
}

#[test]
fn what_is_no_request_is_refused() {
    let key = TestKey::generate(Algorithm::EcdsaP256);
    let sound = mint_csr(&key, "db").expect("sound");
    for length in 1..sound.len() {
        assert!(read_csr(&sound[..length]).is_err(), "{length}");
    }
    assert!(read_csr(&[&sound[..], &[0]].concat()).is_err());
    let mut raw = Raw::of(&sound);
    raw.version = vec![2, 1, 1];
    assert!(matches!(
        read_csr(&raw.sign(&key)),
        Err(CsrError::Request(_))
    ));
    let mut raw = Raw::of(&sound);
    raw.subject = vec![0x30, 2, 0x31, 1];
    assert!(read_csr(&raw.sign(&key)).is_err());
    let mut raw = Raw::of(&sound);
    raw.attributes = vec![0x31, 0];
    assert!(matches!(
        read_csr(&raw.sign(&key)),
        Err(CsrError::Request(_))
    ));
    let mut raw = Raw::of(&sound);
    raw.attributes = Vec::new();
    assert!(matches!(
        read_csr(&raw.sign(&key)),
        Err(CsrError::Request(_))
    ));
    let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).expect("entropy");
    let request = CertificateParams::default()
        .serialize_request(&p521)
        .expect("sound");
    assert!(matches!(read_csr(request.der()), Err(CsrError::Request(_))));
}

#[test]
fn a_signer_that_fails_makes_no_request() {
    struct Broken(TestKey);
    impl Signer for Broken {
        fn algorithm(&self) -> Algorithm {
            self.0.algorithm()
        }
        fn spki(&self) -> &[u8] {
            self.0.spki()
        }
        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
            match message.len() {
                0 => self.0.sign(message),
                _ => Ok(vec![0; 64]),
            }
        }
    }
    let broken = Broken(TestKey::generate(Algorithm::EcdsaP256));
    assert!(matches!(
        mint_csr(&broken, "db"),
        Err(MintError::Encode { .. })
    ));
}
