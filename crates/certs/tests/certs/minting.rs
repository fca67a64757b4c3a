//! Minting refuses what it would refuse to read.

use std::time::Duration;

use comity_certs::limits::MAX_SUCCESSION_BYTES;
use comity_certs::{
    LEAF_LIFETIME, LeafRequest, Metadata, MintError, PresentedChain, ProfileFault, Purpose,
    RootRequest, SanName, mint_leaf, mint_root, renewal_time,
};
use comity_identity::{Algorithm, NodeId, SignError, Signer, UnixTime};

use crate::certificates::{
    DAY, Foreign, LeafOptions, Node, RawCertificate, TODAY, TestKey, random_serial,
};

#[test]
fn every_name_and_the_metadata_arrive() {
    let metadata = Metadata::new(vec!["fleet".into()], vec!["writer".into()], vec![]).expect("ok");
    let node = Node::new();
    let spiffe = format!("spiffe://fleet/node/{}", node.id().to_hex());
    let options = LeafOptions {
        dns: vec!["DB1.example".into(), "*.db1.example".into()],
        ips: vec![
            "192.0.2.7".parse().expect("v4"),
            "2001:db8::7".parse().expect("v6"),
        ],
        uris: vec![spiffe.clone()],
        metadata: metadata.clone(),
        ..LeafOptions::default()
    };
    let leaf = node.leaf(Purpose::Serve, &options);
    let chain = PresentedChain::parse(&leaf.chain).expect("our own");
    let expected = [
        SanName::Dns("db1.example".into()),
        SanName::Dns("*.db1.example".into()),
        SanName::Ip(options.ips[0]),
        SanName::Ip(options.ips[1]),
        SanName::Uri(spiffe),
    ];
    assert_eq!(chain.leaf().names, expected);
    assert_eq!(chain.leaf().metadata, Some(metadata));
    let plain = PresentedChain::parse(&node.serve.chain).expect("our own");
    assert_eq!(plain.leaf().metadata, None);
}

#[test]
fn serial_numbers_are_positive_whatever_the_entropy() {
    let key = TestKey::generate(Algorithm::EcdsaP256);
    let with = |serial| {
        let request = RootRequest {
            next: None,
            serial,
            not_before: TODAY,
        };
        mint_root(&key, &request)
    };
    let serial = |bytes| RawCertificate::of(&with(bytes).expect("positive")).serial;
    let [mut top, mut small] = [[0xff; 16], [0; 16]];
    assert_eq!(serial(top)[..4], [2, 16, 0x7f, 0xff]);
    small[15] = 1;
    assert_eq!(serial(small), [2, 1, 1]);
    small[14] = 0x80;
    assert_eq!(serial(small), [2, 3, 0, 0x80, 1]);
    assert!(matches!(with([0; 16]), Err(MintError::ZeroSerial)));
    top = [0; 16];
    top[0] = 0x80;
    assert!(matches!(with(top), Err(MintError::ZeroSerial)));
}

#[test]
fn unusable_names_are_refused() {
    for (dns, uri) in [
        ("a b", None),
        ("", None),
        ("ok.example", Some("no-scheme")),
        ("ok.example", Some("a:b c")),
    ] {
        let options = Options {
            dns: vec![dns.into()],
            uris: uri.into_iter().map(str::to_owned).collect(),
            ..Options::default()
        };
        assert!(
            matches!(mint(&options), Err(MintError::Name { .. })),
            "{dns:?} {uri:?}"
        );
    }
    let foreign_id = format!("spiffe://fleet/node/{}", NodeId::of_spki(b"other").to_hex());
    let options = Options {
        uris: vec![foreign_id],
        ..Options::default()
    };
    assert!(matches!(mint(&options), Err(MintError::SelfCheck(_))));
}

#[test]
fn sixty_four_names_are_minted_and_one_more_is_not() {
    let names = |count: usize| (0..count).map(|i| format!("n{i}.example")).collect();
    let options = |dns| Options {
        dns,
        uris: vec!["a:b".into()],
        ..Options::default()
    };
    assert!(mint(&options(names(63))).is_ok());
    let refused = mint(&options(names(64)));
    assert!(matches!(
        refused,
        Err(MintError::TooManyNames { found: 65 })
    ));
}

#[test]
fn a_leaf_is_not_minted_for_longer_than_peers_accept() {
    let until = |not_after| {
        mint(&Options {
            not_after,
            ..Options::default()
        })
    };
    assert!(until(TODAY + 32 * DAY).is_ok());
    for not_after in [
        TODAY + 32 * DAY + Duration::from_secs(1),
        TODAY - DAY,
        UnixTime::NEVER,
    ] {
        let fault = ProfileFault::LeafValidity {
            not_before: TODAY,
            not_after,
        };
        assert!(matches!(until(not_after), Err(MintError::Profile(f)) if f == fault));
    }
}

#[test]
fn succession_statements_travel_in_the_leaf_up_to_their_limit() {
    let node = Node::new();
    let key = TestKey::generate(Algorithm::EcdsaP256);
    let options = Options::default();
    let with = |succession: &[u8]| {
        let request = LeafRequest {
            succession,
            ..request(&key, &options)
        };
        mint_leaf(&node.root, &node.identity, &request)
    };
    let found = |leaf: Vec<u8>| {
        let chain = PresentedChain::parse(&[leaf, node.root.clone()]).expect("our own");
        chain.leaf().succession.clone()
    };
    assert_eq!(found(with(&[]).expect("none")), None);
    let largest = vec![7; MAX_SUCCESSION_BYTES];
    assert_eq!(found(with(&largest).expect("at the limit")), Some(largest));
    let refused = with(&vec![7; MAX_SUCCESSION_BYTES + 1]).expect_err("one past it");
    let MintError::SelfCheck(error) = refused else {
        panic!("{refused}");
    };
    assert!(error.is_limit(), "{error}");
}

#[test]
fn succession_statements_are_not_read_elsewhere_and_not_when_critical() {
    let node = Node::new();
    let arc = comity_certs::oid::SUCCESSION.as_bytes().to_vec();
    let mut raw = RawCertificate::of(&node.serve.chain[0]);
    raw.extensions.push((arc.clone(), true, vec![1]));
    let leaf = raw.sign(&node.identity);
    assert!(PresentedChain::parse(&[&leaf, &node.root]).is_err());
    let key = TestKey::generate(Algorithm::EcdsaP256);
    let mut raw = RawCertificate::of(&Foreign::default().self_signed().chain[0]);
    raw.spki = key.spki().to_vec();
    raw.extensions.push((arc, false, vec![1]));
    let chain = PresentedChain::parse(&[raw.sign(&key)]).expect("a foreign leaf");
    assert_eq!(chain.leaf().succession, None);
}

#[test]
fn only_the_key_of_the_root_signs_leaves() {
    let (node, other) = (Node::new(), Node::new());
    let key = TestKey::generate(Algorithm::EcdsaP256);
    let options = Options::default();
    let request = request(&key, &options);
    let refused = mint_leaf(&node.root, &other.identity, &request);
    assert!(matches!(refused, Err(MintError::WrongSigner)));
    let foreign = Foreign::authority("ca").root().der;
    let refused = mint_leaf(&foreign, &other.identity, &request);
    assert!(matches!(refused, Err(MintError::WrongSigner)));
    let refused = mint_leaf(b"no root", &other.identity, &request);
    assert!(matches!(refused, Err(MintError::Root(_))));
}

#[test]
fn a_leaf_key_that_peers_refuse_is_not_certified() {
    let node = Node::new();
    let ed25519 = TestKey::generate(Algorithm::Ed25519);
    let options = Options::default();
    for spki in [ed25519.spki(), node.identity.spki(), b"no key"] {
        let request = LeafRequest {
            spki,
            ..request(&ed25519, &options)
        };
        assert!(mint_leaf(&node.root, &node.identity, &request).is_err());
    }
}

#[test]
fn a_signer_that_lies_or_fails_gets_no_certificate() {
    let key = TestKey::generate(Algorithm::EcdsaP256);
    let request = RootRequest {
        next: None,
        serial: random_serial(),
        not_before: TODAY,
    };
    for (answer, expected) in [
        (None, "cannot sign with the identity key: unplugged"),
        (
            Some(vec![]),
            "the certificate does not fit the profile: the root is not signed by the root's key: the signature is wrong",
        ),
        (
            Some(vec![0; 70]),
            "the certificate does not fit the profile: the root is not signed by the root's key: the signature is wrong",
        ),
    ] {
        let error =
            mint_root(&Broken { key: &key, answer }, &request).expect_err("a broken signer");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn leaves_are_renewed_after_two_thirds_or_a_little_earlier() {
    let end = TODAY + LEAF_LIFETIME;
    assert_eq!(renewal_time(TODAY, end, 0.0), TODAY + 20 * DAY);
    assert_eq!(renewal_time(TODAY, end, 1.0), TODAY + 17 * DAY);
    let middle = renewal_time(TODAY, end, 0.5);
    assert!(TODAY + 17 * DAY < middle && middle < TODAY + 20 * DAY);
    // Whatever the caller's generator says, the renewal stays inside the leaf's life.
    for jitter in [-1.0, 2.0, f64::NAN, f64::INFINITY] {
        let time = renewal_time(TODAY, end, jitter);
        assert!(
            TODAY + 17 * DAY <= time && time <= TODAY + 20 * DAY,
            "{jitter}"
        );
    }
    assert_eq!(renewal_time(end, TODAY, 0.5), end);
}

#[derive(Clone)]
struct Options {
    dns: Vec<String>,
    uris: Vec<String>,
    not_after: UnixTime,
    metadata: Metadata,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dns: Vec::new(),
            uris: Vec::new(),
            not_after: TODAY + LEAF_LIFETIME,
            metadata: Metadata::default(),
        }
    }
}

fn mint(options: &Options) -> Result<Vec<u8>, MintError> {
    let node = Node::new();
    let key = TestKey::generate(Algorithm::EcdsaP256);
    mint_leaf(&node.root, &node.identity, &request(&key, options))
}

fn request<'a>(key: &'a TestKey, options: &'a Options) -> LeafRequest<'a> {
    LeafRequest {
        spki: key.spki(),
        purpose: Purpose::Serve,
        serial: random_serial(),
        not_before: TODAY,
        not_after: options.not_after,
        dns: &options.dns,
        ips: &[],
        uris: &options.uris,
        metadata: &options.metadata,
        succession: &[],
    }
}

struct Broken<'a> {
    key: &'a TestKey,
    answer: Option<Vec<u8>>,
}

impl Signer for Broken<'_> {
    fn algorithm(&self) -> Algorithm {
        self.key.algorithm()
    }

    fn spki(&self) -> &[u8] {
        self.key.spki()
    }

    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignError> {
        self.answer.clone().ok_or(SignError {
            cause: "unplugged".into(),
        })
    }
}
