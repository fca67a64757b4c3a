//! The certificates of an authority's own keys.

use std::time::Duration;

use comity_certs::limits::{MAX_AUTHORITY_BYTES, MAX_DNS_CONSTRAINTS};
use comity_certs::{
    AuthorityCertificate, AuthorityFault, AuthorityKind, AuthorityRootRequest, IssuerFault,
    IssuingRequest, Metadata, MintError, RolloverRequest, mint_authority_root, mint_issuing,
    mint_rollover,
};
use comity_identity::{Algorithm, KeyHash, NodeId, Signer, UnixTime, VerifyError};

use crate::certificates::{DAY, Foreign, Node, RawCertificate, TODAY, TestKey, random_serial, tlv};

const ALGORITHMS: [Algorithm; 2] = [Algorithm::EcdsaP256, Algorithm::Ed25519];

const SECOND: Duration = Duration::from_secs(1);

/// Content bytes of 2.5.29.x.
fn id_ce(arc: u8) -> Vec<u8> {
    vec![0x55, 0x1d, arc]
}

/// A key of an authority and its certificate.
pub(crate) struct Held {
    pub(crate) key: TestKey,
    pub(crate) der: Vec<u8>,
}

impl Held {
    pub(crate) fn root(algorithm: Algorithm) -> Self {
        let key = TestKey::generate(algorithm);
        let der = mint_authority_root(&key, &root_request()).expect("a sound request");
        Self { key, der }
    }

    pub(crate) fn issuing(&self, path_length: u8) -> Self {
        self.issuing_with(Algorithm::EcdsaP256, path_length, &Metadata::default(), &[])
    }

    pub(crate) fn issuing_with(
        &self,
        algorithm: Algorithm,
        path_length: u8,
        scope: &Metadata,
        dns: &[String],
    ) -> Self {
        let key = TestKey::generate(algorithm);
        let request = IssuingRequest {
            path_length,
            scope,
            dns,
            ..issuing_request(&key)
        };
        let der = mint_issuing(&self.der, &self.key, &request).expect("a sound request");
        Self { key, der }
    }
}

pub(crate) fn root_request() -> AuthorityRootRequest {
    AuthorityRootRequest {
        serial: random_serial(),
        not_before: TODAY,
        not_after: TODAY + 20 * 365 * DAY,
    }
}

pub(crate) static ANYTHING: std::sync::LazyLock<Metadata> =
    std::sync::LazyLock::new(Metadata::default);

fn issuing_request(key: &TestKey) -> IssuingRequest<'_> {
    IssuingRequest {
        spki: key.spki(),
        serial: random_serial(),
        not_before: TODAY,
        not_after: TODAY + 2 * 365 * DAY,
        path_length: 1,
        scope: &ANYTHING,
        dns: &[],
    }
}

pub(crate) fn scope(networks: &[&str], roles: &[&str]) -> Metadata {
    let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    Metadata::new(owned(networks), owned(roles), Vec::new()).expect("within limits")
}

#[test]
fn a_root_is_named_by_its_key_and_certifies_without_limit() {
    for algorithm in ALGORITHMS {
        let root = Held::root(algorithm);
        let read = AuthorityCertificate::from_der(&root.der).expect("our own");
        assert_eq!(*read.kind(), AuthorityKind::Root);
        assert_eq!(read.key(), KeyHash::of_spki(root.key.spki()));
        assert_eq!(read.issuer_key(), read.key());
        assert_eq!(read.spki(), root.key.spki());
        assert_eq!(
            (read.not_before(), read.not_after()),
            (TODAY, TODAY + 7300 * DAY)
        );
        assert_eq!(read.der(), root.der);
        let raw = RawCertificate::of(&root.der);
        let id = read.key().to_hex();
        // SEQUENCE { SET { O }, SET { serialNumber } }
        let name = |kind: u8, tag, text: &str| {
            let kind = tlv(0x06, &[&[0x55, 0x04, kind]]);
            tlv(0x31, &[&tlv(0x30, &[&kind, &tlv(tag, &[text.as_bytes()])])])
        };
        let organization = name(10, 0x0c, "Comity Networks");
        let subject = tlv(0x30, &[&organization, &name(5, 0x13, &id)]);
        assert_eq!((&raw.subject, &raw.issuer), (&subject, &subject));
        let constraints = (id_ce(19), true, vec![0x30, 0x03, 0x01, 0x01, 0xff]);
        let usage = (id_ce(15), true, vec![0x03, 0x02, 0x01, 0x06]);
        let hash = [&[0x04, 0x20], read.key().as_bytes().as_slice()].concat();
        assert_eq!(
            raw.extensions,
            [constraints, usage, (id_ce(14), false, hash.clone())]
        );

        let issuing = root.issuing(1);
        let below = AuthorityCertificate::from_der(&issuing.der).expect("our own");
        let raw = RawCertificate::of(&issuing.der);
        let unit = name(11, 0x0c, "Issuing");
        let own = below.key().to_hex();
        let expected = tlv(0x30, &[&organization, &unit, &name(5, 0x13, &own)]);
        assert_eq!((raw.subject, raw.issuer), (expected, subject));
    }
}

#[test]
fn an_issuing_key_says_what_it_may_do() {
    let limits = scope(&["fleet", "lab"], &["reader"]);
    let dns = ["example".to_owned(), "corp.example".to_owned()];
    for above in ALGORITHMS {
        let root = Held::root(above);
        for own in ALGORITHMS {
            for (path_length, scope, dns) in [
                (1, &Metadata::default(), &[][..]),
                (1, &limits, &[]),
                (0, &Metadata::default(), &[]),
                (0, &limits, &dns),
            ] {
                let issuing = root.issuing_with(own, path_length, scope, dns);
                let read = AuthorityCertificate::from_der(&issuing.der).expect("our own");
                let expected = AuthorityKind::Issuing {
                    path_length,
                    scope: scope.clone(),
                    dns: dns.to_vec(),
                };
                assert_eq!(*read.kind(), expected);
                let root = AuthorityCertificate::from_der(&root.der).expect("our own");
                assert_eq!(read.issuer_key(), root.key());
                assert_eq!(read.check_issued_by(&root), Ok(()));
            }
        }
    }
}

#[test]
fn an_old_root_certifies_a_new_one() {
    let (old, new) = (
        Held::root(Algorithm::EcdsaP256),
        Held::root(Algorithm::Ed25519),
    );
    let request = RolloverRequest {
        new_root_der: &new.der,
        serial: random_serial(),
        not_before: TODAY,
        not_after: TODAY + 365 * DAY,
    };
    let der = mint_rollover(&old.der, &old.key, &request).expect("a sound request");
    let read = AuthorityCertificate::from_der(&der).expect("our own");
    assert_eq!(*read.kind(), AuthorityKind::Rollover);
    assert_eq!(read.key(), KeyHash::of_spki(new.key.spki()));
    let [raw, of_new, of_old] = [&der, &new.der, &old.der].map(|der| RawCertificate::of(der));
    assert_eq!((raw.subject, raw.issuer), (of_new.subject, of_old.subject));
    let old_read = AuthorityCertificate::from_der(&old.der).expect("our own");
    let new_read = AuthorityCertificate::from_der(&new.der).expect("our own");
    assert_eq!(read.check_issued_by(&old_read), Ok(()));
    assert_eq!(read.check_issued_by(&new_read), Err(AuthorityFault::Issuer));
    // Not for itself, not by somebody else, not for longer than either, not for an issuing key.
    let own = RolloverRequest {
        new_root_der: &old.der,
        ..request
    };
    let not_root = |result| matches!(result, Err(MintError::Issuer(IssuerFault::NotRoot)));
    assert!(not_root(mint_rollover(&old.der, &old.key, &own)));
    assert!(not_root(mint_rollover(&der, &new.key, &request)));
    let issuing = old.issuing(1);
    assert!(not_root(mint_rollover(
        &issuing.der,
        &issuing.key,
        &request
    )));
    let below = RolloverRequest {
        new_root_der: &issuing.der,
        ..request
    };
    assert!(not_root(mint_rollover(&new.der, &new.key, &below)));
    let refused = mint_rollover(&old.der, &new.key, &request);
    assert!(matches!(refused, Err(MintError::WrongSigner)));
    let long = RolloverRequest {
        not_after: TODAY + 7300 * DAY + SECOND,
        ..request
    };
    let refused = mint_rollover(&old.der, &old.key, &long);
    assert!(matches!(refused, Err(MintError::Validity { .. })));
}

#[test]
fn only_its_root_issued_an_issuing_key() {
    let (root, other) = (
        Held::root(Algorithm::EcdsaP256),
        Held::root(Algorithm::EcdsaP256),
    );
    let issuing = root.issuing(1);
    let read = |held: &Held| AuthorityCertificate::from_der(&held.der).expect("our own");
    let refused = read(&issuing).check_issued_by(&read(&other));
    assert_eq!(refused, Err(AuthorityFault::Issuer));
    let refused = read(&issuing).check_issued_by(&read(&issuing));
    assert_eq!(refused, Err(AuthorityFault::Issuer));
    // Everything right but the signature.
    let forged = RawCertificate::of(&issuing.der).sign(&other.key);
    let forged = AuthorityCertificate::from_der(&forged).expect("the issuer is not asked yet");
    let bad = AuthorityFault::Signature(VerifyError::BadSignature);
    assert_eq!(forged.check_issued_by(&read(&root)), Err(bad));
    let ed25519 = Held::root(Algorithm::Ed25519);
    let mut raw = RawCertificate::of(&issuing.der);
    let algorithm = RawCertificate::of(&ed25519.der).inner_algorithm;
    raw.inner_algorithm = algorithm.clone();
    raw.outer_algorithm = algorithm;
    let other_kind = AuthorityCertificate::from_der(&raw.sign(&root.key)).expect("not asked yet");
    let refused = other_kind.check_issued_by(&read(&root));
    assert_eq!(refused, Err(AuthorityFault::SignatureAlgorithm));
}

#[test]
fn a_root_signed_itself() {
    let (root, thief) = (
        Held::root(Algorithm::EcdsaP256),
        Held::root(Algorithm::EcdsaP256),
    );
    let raw = RawCertificate::of(&root.der);
    let refused = AuthorityCertificate::from_der(&raw.sign(&thief.key));
    let bad = AuthorityFault::Signature(VerifyError::BadSignature);
    assert_eq!(refused, Err(bad));
    // A malleated copy would be a second form of the same certificate.
    let high = std::iter::repeat_with(|| root.key.sign_once(&raw.tbs()))
        .find(|signature| !comity_identity::has_low_s(signature))
        .expect("endless");
    let refused = AuthorityCertificate::from_der(&raw.with_signature(&high));
    let high_s = AuthorityFault::Signature(VerifyError::HighS);
    assert_eq!(refused, Err(high_s));
}

#[test]
fn a_root_differs_from_the_profile_in_nothing() {
    let root = Held::root(Algorithm::EcdsaP256);
    let parse = |edit: &dyn Fn(&mut RawCertificate)| {
        let mut raw = RawCertificate::of(&root.der);
        edit(&mut raw);
        AuthorityCertificate::from_der(&raw.sign(&root.key))
    };
    assert!(parse(&|_| ()).is_ok());
    let extension = |arc: u8| {
        let extension = format!("2.5.29.{arc}");
        Err(AuthorityFault::Extension { extension })
    };
    // Values: with a path length, not a CA, another usage, another key identifier.
    for (arc, value) in [
        (19, &[0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00][..]),
        (19, &[0x30, 0x00]),
        (15, &[0x03, 0x02, 0x02, 0x04]),
        (15, &[0x03, 0x02, 0x01, 0x86]),
        (14, &[0x04, 0x01, 0x00]),
    ] {
        let changed = parse(&|raw| raw.extension_mut(&id_ce(arc)).2 = value.to_vec());
        assert_eq!(changed, extension(arc));
    }
    for arc in [14, 15, 19] {
        let flipped = parse(&|raw| {
            let found = raw.extension_mut(&id_ce(arc));
            found.1 = !found.1;
        });
        assert_eq!(flipped, extension(arc));
        let dropped = parse(&|raw| raw.extensions.retain(|(oid, ..)| *oid != id_ce(arc)));
        assert_eq!(dropped, extension(arc));
    }
    // What has no place: names, uses, constraints, policies; a scope, which only issuing keys have.
    for (arc, value) in [
        (17, &[0x30, 0x03, 0x82, 0x01, b'a'][..]),
        (37, &[0x30, 0x00]),
        (30, &[0x30, 0x00]),
        (32, &[0x30, 0x00]),
        (35, &[0x30, 0x00]),
    ] {
        let added = parse(&|raw| raw.extensions.push((id_ce(arc), false, value.to_vec())));
        assert_eq!(added, extension(arc));
    }
    let metadata = comity_certs::oid::METADATA.as_bytes().to_vec();
    let scoped = scope(&["fleet"], &[]).to_der().expect("small");
    let added = parse(&|raw| {
        raw.extensions
            .push((metadata.clone(), false, scoped.clone()))
    });
    assert!(matches!(added, Err(AuthorityFault::Extension { .. })));
    // Unknown ones elsewhere may come with later versions, unless they are critical.
    let unknown = vec![0x69, 0x86, 0xfb, 0xbd, 0xca, 0x79, 99];
    let added = parse(&|raw| raw.extensions.push((unknown.clone(), false, vec![1])));
    assert!(added.is_ok());
    let added = parse(&|raw| raw.extensions.push((unknown.clone(), true, vec![1])));
    assert!(matches!(added, Err(AuthorityFault::Extension { .. })));
    let reordered = parse(&|raw| raw.extensions.reverse());
    assert!(reordered.is_ok());
}

#[test]
fn names_dates_and_serials_are_those_of_the_profile() {
    let root = Held::root(Algorithm::EcdsaP256);
    let other = Held::root(Algorithm::EcdsaP256);
    let node = Node::new();
    let parse = |edit: &dyn Fn(&mut RawCertificate)| {
        let mut raw = RawCertificate::of(&root.der);
        edit(&mut raw);
        AuthorityCertificate::from_der(&raw.sign(&root.key))
    };
    let name_of = |der: &[u8]| RawCertificate::of(der).subject;
    // Somebody else's name; a node's name; no name; a name with something more.
    let longer = {
        let own = name_of(&root.der);
        let more = tlv(
            0x31,
            &[&tlv(0x30, &[&[0x06, 3, 0x55, 4, 3], &[0x0c, 1, b'x']])],
        );
        tlv(0x30, &[crate::certificates::content(&own), &more])
    };
    for name in [
        name_of(&other.der),
        name_of(&node.root),
        vec![0x30, 0],
        longer,
    ] {
        let subject = parse(&|raw| raw.subject = name.clone());
        assert_eq!(subject, Err(AuthorityFault::Subject));
    }
    for name in [
        name_of(&node.root),
        vec![0x30, 0],
        name_of(&root.issuing(1).der),
    ] {
        let issuer = parse(&|raw| raw.issuer = name.clone());
        assert_eq!(issuer, Err(AuthorityFault::Issuer));
    }
    let backwards = parse(&|raw| std::mem::swap(&mut raw.not_before, &mut raw.not_after));
    assert_eq!(backwards, Err(AuthorityFault::Validity));
    for serial in [&[2, 1, 0][..], &[2, 1, 0x80], &[2, 2, 0, 1]] {
        let changed = parse(&|raw| raw.serial = serial.to_vec());
        assert_eq!(changed, Err(AuthorityFault::Serial), "{serial:?}");
    }
    let long = [&[2, 21][..], &[1; 21]].concat();
    assert_eq!(
        parse(&|raw| raw.serial = long.clone()),
        Err(AuthorityFault::Serial)
    );
    let longest = [&[2, 20][..], &[1; 20]].concat();
    assert!(parse(&|raw| raw.serial = longest.clone()).is_ok());
    let foreign = Foreign::authority("ca").root().der;
    assert!(AuthorityCertificate::from_der(&foreign).is_err());
    assert!(AuthorityCertificate::from_der(&node.root).is_err());
    assert!(AuthorityCertificate::from_der(b"nothing").is_err());
}

#[test]
fn an_issuing_key_differs_from_the_profile_in_nothing() {
    let root = Held::root(Algorithm::EcdsaP256);
    let leaves = root.issuing_with(
        Algorithm::EcdsaP256,
        0,
        &scope(&["fleet"], &[]),
        &["example".to_owned()],
    );
    let parse = |edit: &dyn Fn(&mut RawCertificate)| {
        let mut raw = RawCertificate::of(&leaves.der);
        edit(&mut raw);
        AuthorityCertificate::from_der(&raw.sign(&root.key))
    };
    assert!(parse(&|_| ()).is_ok());
    let constraints_fault = Err(AuthorityFault::Extension {
        extension: "2.5.29.19".to_owned(),
    });
    for value in [
        &[0x30, 0x03, 0x01, 0x01, 0xff][..],
        &[0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x02],
        &[0x30, 0x00],
    ] {
        let changed = parse(&|raw| raw.extension_mut(&id_ce(19)).2 = value.to_vec());
        assert_eq!(changed, constraints_fault);
    }
    let extension = |arc: u8| {
        let extension = format!("2.5.29.{arc}");
        Err(AuthorityFault::Extension { extension })
    };
    // Names limit only what signs leaves: below a member nothing would compare them.
    let path_length_1 = [0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x01].to_vec();
    let changed = parse(&|raw| raw.extension_mut(&id_ce(19)).2.clone_from(&path_length_1));
    assert_eq!(changed, extension(30));
    let permitted = |name: &[u8]| tlv(0x30, &[&tlv(0xa0, &[&tlv(0x30, &[name])])]);
    for value in [
        permitted(&[0x82, 3, b'*', b'.', b'a']),
        permitted(&[0x82, 1, b'A']),
        permitted(&[0x82, 0]),
        permitted(&[0x81, 1, b'a']),
        permitted(&[0x86, 1, b'a']),
        permitted(&[]),
        tlv(0x30, &[&[0xa0, 0]]),
        tlv(0x30, &[&[0xa1, 0]]),
        tlv(0x30, &[&tlv(0xa1, &[&tlv(0x30, &[&[0x82, 1, b'a']])])]),
        vec![0x30, 0],
    ] {
        let changed = parse(&|raw| raw.extension_mut(&id_ce(30)).2.clone_from(&value));
        assert!(changed.is_err(), "{value:02x?}");
    }
    for arc in [14, 15, 19, 30, 35] {
        let flipped = parse(&|raw| {
            let found = raw.extension_mut(&id_ce(arc));
            found.1 = !found.1;
        });
        assert_eq!(flipped, extension(arc));
    }
    // A limit that is dropped is a certificate without that limit, which the root's signature
    // would not cover: here it was signed again.
    let dropped = parse(&|raw| raw.extensions.retain(|(oid, ..)| *oid != id_ce(30)));
    assert!(dropped.is_ok());
    let metadata = comity_certs::oid::METADATA.as_bytes();
    let empty = parse(&|raw| raw.extension_mut(metadata).2 = vec![0x30, 0]);
    assert!(matches!(empty, Err(AuthorityFault::Extension { .. })));
    let garbage = parse(&|raw| raw.extension_mut(metadata).2 = vec![0x30, 1]);
    assert!(matches!(garbage, Err(AuthorityFault::Scope(_))));
}

#[test]
fn what_an_issuing_key_is_asked_for_is_checked() {
    let root = Held::root(Algorithm::EcdsaP256);
    let key = TestKey::generate(Algorithm::EcdsaP256);
    let mint = |request: &IssuingRequest<'_>| mint_issuing(&root.der, &root.key, request);
    let end = TODAY + 20 * 365 * DAY;
    let until = |not_before, not_after| {
        mint(&IssuingRequest {
            not_before,
            not_after,
            ..issuing_request(&key)
        })
    };
    assert!(until(TODAY, end).is_ok());
    assert!(until(TODAY, TODAY).is_ok());
    for (from, to) in [
        (TODAY, end + SECOND),
        (TODAY, UnixTime::NEVER),
        (TODAY + SECOND, TODAY),
    ] {
        assert!(matches!(until(from, to), Err(MintError::Validity { .. })));
    }
    let path_length = mint(&IssuingRequest {
        path_length: 2,
        ..issuing_request(&key)
    });
    assert!(matches!(path_length, Err(MintError::Authority(_))));
    for spki in [&b"no key"[..], &[]] {
        let refused = mint(&IssuingRequest {
            spki,
            ..issuing_request(&key)
        });
        assert!(matches!(
            refused,
            Err(MintError::Authority(AuthorityFault::Key))
        ));
    }
    let dns = |path_length, dns: &[String]| {
        mint(&IssuingRequest {
            path_length,
            dns,
            ..issuing_request(&key)
        })
    };
    let names = |count: usize| {
        (0..count)
            .map(|i| format!("n{i}.example"))
            .collect::<Vec<_>>()
    };
    assert!(dns(0, &names(MAX_DNS_CONSTRAINTS)).is_ok());
    let refused = dns(0, &names(MAX_DNS_CONSTRAINTS + 1));
    assert!(matches!(
        refused,
        Err(MintError::TooManyNames { found: 17 })
    ));
    assert!(matches!(dns(1, &names(1)), Err(MintError::Authority(_))));
    for name in ["*.example", "Example", "a b", "", ".example"] {
        let refused = dns(0, &[name.to_owned()]);
        assert!(matches!(refused, Err(MintError::Name { .. })), "{name:?}");
    }
    let other = Held::root(Algorithm::EcdsaP256);
    let refused = mint_issuing(&root.der, &other.key, &issuing_request(&key));
    assert!(matches!(refused, Err(MintError::WrongSigner)));
    let node = Node::new();
    let refused = mint_issuing(&node.root, &node.identity, &issuing_request(&key));
    assert!(matches!(refused, Err(MintError::Authority(_))));
    let below = root.issuing(1);
    let refused = mint_issuing(&below.der, &below.key, &issuing_request(&key));
    assert!(matches!(
        refused,
        Err(MintError::Issuer(IssuerFault::NotRoot))
    ));
}

#[test]
fn a_root_ends_after_it_begins_and_has_a_serial_number() {
    let key = TestKey::generate(Algorithm::EcdsaP256);
    let backwards = AuthorityRootRequest {
        not_after: TODAY - SECOND,
        ..root_request()
    };
    let refused = mint_authority_root(&key, &backwards);
    assert!(matches!(refused, Err(MintError::Validity { .. })));
    let zero = AuthorityRootRequest {
        serial: [0; 16],
        ..root_request()
    };
    assert!(matches!(
        mint_authority_root(&key, &zero),
        Err(MintError::ZeroSerial)
    ));
    let never = AuthorityRootRequest {
        not_after: UnixTime::NEVER,
        ..root_request()
    };
    assert!(mint_authority_root(&key, &never).is_ok());
}

#[test]
fn its_size_is_limited_exactly() {
    let root = Held::root(Algorithm::Ed25519);
    let padded = |length: usize| {
        let mut raw = RawCertificate::of(&root.der);
        let unknown = vec![0x69, 0x86, 0xfb, 0xbd, 0xca, 0x79, 99];
        raw.extensions.push((unknown, false, vec![0; length]));
        raw.sign(&root.key)
    };
    let room = MAX_AUTHORITY_BYTES - padded(2000).len() + 2000;
    assert_eq!(padded(room).len(), MAX_AUTHORITY_BYTES);
    assert!(AuthorityCertificate::from_der(&padded(room)).is_ok());
    let bytes = MAX_AUTHORITY_BYTES + 1;
    let refused = AuthorityCertificate::from_der(&padded(room + 1));
    assert_eq!(refused, Err(AuthorityFault::TooLarge { bytes }));
}

#[test]
fn the_network_id_is_the_hash_of_the_founding_key() {
    let root = Held::root(Algorithm::EcdsaP256);
    let id = NodeId::of_spki(root.key.spki());
    let read = AuthorityCertificate::from_der(&root.der).expect("our own");
    assert_eq!(read.key(), id.key_hash());
}
