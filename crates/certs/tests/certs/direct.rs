//! Leaves directly below an authority's key.

use std::net::IpAddr;

use comity_certs::{
    Anchor, CaError, DirectLeafRequest, IssuerFault, LeafSubject, Metadata, MintError,
    PresentedChain, Purpose, Usages, mint_direct_leaf, verify_ca_path,
};
use comity_identity::{Algorithm, KeyHash, NodeId, Signer};

use crate::authority::{ANYTHING, Held, scope};
use crate::certificates::{
    DAY, Foreign, ForeignKey, Node, RawCertificate, TODAY, TestKey, random_serial,
};

const BOTH: [Purpose; 2] = [Purpose::Serve, Purpose::Dial];

fn request<'a>(spki: &'a [u8], subject: LeafSubject<'a>) -> DirectLeafRequest<'a> {
    DirectLeafRequest {
        subject,
        spki,
        purposes: &BOTH,
        serial: random_serial(),
        not_before: TODAY,
        not_after: TODAY + 30 * DAY,
        dns: &[],
        ips: &[],
        uris: &[],
        metadata: &ANYTHING,
    }
}

/// The SubjectPublicKeyInfo of a fresh key.
fn spki(key: ForeignKey) -> Vec<u8> {
    let certificate = Foreign {
        key,
        ..Foreign::default()
    };
    RawCertificate::of(&certificate.self_signed().chain[0]).spki
}

fn key_usage(leaf: &[u8]) -> Vec<u8> {
    RawCertificate::of(leaf)
        .extension_mut(&[0x55, 0x1d, 15])
        .2
        .clone()
}

#[test]
fn a_leaf_says_what_was_asked_for() {
    let root = Held::root(Algorithm::EcdsaP256);
    let leaves = root.issuing(0);
    let metadata = scope(&["fleet"], &["writer"]);
    let dns = ["db1.example".to_owned(), "*.db1.example".to_owned()];
    let ips: [IpAddr; 2] = ["192.0.2.7", "2001:db8::7"].map(|ip| ip.parse().expect("an address"));
    let uris = ["spiffe://fleet/workload/db".to_owned()];
    for issuer in [&root, &leaves] {
        let key = spki(ForeignKey::P256);
        let asked = DirectLeafRequest {
            dns: &dns,
            ips: &ips,
            uris: &uris,
            metadata: &metadata,
            ..request(&key, LeafSubject::CommonName("db 1"))
        };
        let leaf = mint_direct_leaf(&issuer.der, &issuer.key, &asked).expect("sound");
        let chain = PresentedChain::parse(&[&leaf]).expect("our own");
        assert_eq!(chain.leaf().key, KeyHash::of_spki(&key));
        assert_eq!(chain.leaf().common_name.as_deref(), Some("db 1"));
        let names: Vec<String> = chain.leaf().names.iter().map(ToString::to_string).collect();
        let expected = [
            "db1.example",
            "*.db1.example",
            "192.0.2.7",
            "2001:db8::7",
            &uris[0],
        ];
        assert_eq!(names, expected);
        assert_eq!(chain.leaf().metadata, Some(metadata.clone()));
        assert!(!chain.leaf().is_ca);
        let anchor = Anchor::from_der(&issuer.der).expect("a CA");
        for purpose in BOTH {
            assert!(verify_ca_path(&chain, [&anchor], purpose, TODAY).is_ok());
        }
    }
}

#[test]
fn every_accepted_kind_of_key_is_certified_and_rsa_may_decrypt() {
    let root = Held::root(Algorithm::Ed25519);
    for key in [
        ForeignKey::P256,
        ForeignKey::P384,
        ForeignKey::Ed25519,
        ForeignKey::Rsa2048,
    ] {
        let spki = spki(key);
        let asked = request(&spki, LeafSubject::CommonName("db"));
        let leaf = mint_direct_leaf(&root.der, &root.key, &asked).expect("sound");
        let expected = match key {
            ForeignKey::Rsa2048 => vec![0x03, 0x02, 0x05, 0xa0],
            _ => vec![0x03, 0x02, 0x07, 0x80],
        };
        assert_eq!(key_usage(&leaf), expected);
    }
    for spki in [spki(ForeignKey::P521), b"no key".to_vec()] {
        let asked = request(&spki, LeafSubject::CommonName("db"));
        assert!(mint_direct_leaf(&root.der, &root.key, &asked).is_err());
    }
}

#[test]
fn the_subject_is_the_issuers_a_common_name_or_a_node_id() {
    let root = Held::root(Algorithm::EcdsaP256);
    let key = spki(ForeignKey::P256);
    let mint = |subject| mint_direct_leaf(&root.der, &root.key, &request(&key, subject));
    let own = mint(LeafSubject::AsIssuer).expect("sound");
    let (raw, above) = (RawCertificate::of(&own), RawCertificate::of(&root.der));
    assert_eq!(
        (&raw.subject, &raw.issuer),
        (&above.subject, &above.subject)
    );
    let node = NodeId::from_bytes([7; 32]);
    let leaf = mint(LeafSubject::Node(node)).expect("sound");
    let chain = PresentedChain::parse(&[&leaf]).expect("our own");
    assert_eq!(chain.leaf().common_name, Some(node.to_hex()));
    let longest = "ü".repeat(64);
    assert!(mint(LeafSubject::CommonName(&longest)).is_ok());
    for name in ["", "a\nb", &"ü".repeat(65)] {
        let refused = mint(LeafSubject::CommonName(name));
        assert!(matches!(refused, Err(MintError::Name { .. })), "{name:?}");
    }
}

#[test]
fn purposes_are_those_that_were_asked_for() {
    let root = Held::root(Algorithm::EcdsaP256);
    let key = spki(ForeignKey::P256);
    for (purposes, serve, dial) in [
        (&[Purpose::Serve][..], true, false),
        (&[Purpose::Dial], false, true),
        (&BOTH, true, true),
        (&[Purpose::Dial, Purpose::Dial], false, true),
    ] {
        let asked = DirectLeafRequest {
            purposes,
            ..request(&key, LeafSubject::CommonName("db"))
        };
        let leaf = mint_direct_leaf(&root.der, &root.key, &asked).expect("sound");
        let chain = PresentedChain::parse(&[&leaf]).expect("our own");
        let any = false;
        assert_eq!(chain.leaf().usages, Usages::Listed { serve, dial, any });
    }
    let asked = DirectLeafRequest {
        purposes: &[],
        ..request(&key, LeafSubject::CommonName("db"))
    };
    let refused = mint_direct_leaf(&root.der, &root.key, &asked);
    assert!(matches!(refused, Err(MintError::NoPurpose)));
}

#[test]
fn an_issuing_key_names_what_it_may_and_attests_what_it_may() {
    let root = Held::root(Algorithm::EcdsaP256);
    let limits = scope(&["fleet"], &[]);
    let domain = ["corp.example".to_owned()];
    let leaves = root.issuing_with(Algorithm::EcdsaP256, 0, &limits, &domain);
    let key = spki(ForeignKey::P256);
    let named = |name: &str| {
        let dns = [name.to_owned()];
        let asked = DirectLeafRequest {
            dns: &dns,
            ..request(&key, LeafSubject::CommonName("db"))
        };
        mint_direct_leaf(&leaves.der, &leaves.key, &asked)
    };
    for name in ["corp.example", "db.corp.example", "a.b.corp.example"] {
        assert!(named(name).is_ok(), "{name}");
    }
    for name in [
        "example",
        "xcorp.example",
        "db.example",
        "corp.example.evil",
    ] {
        let refused = named(name);
        assert!(
            matches!(refused, Err(MintError::Path(CaError::NameConstraint))),
            "{name}: {refused:?}"
        );
    }
    let attest = |metadata: &Metadata| {
        let asked = DirectLeafRequest {
            metadata,
            ..request(&key, LeafSubject::CommonName("db"))
        };
        mint_direct_leaf(&leaves.der, &leaves.key, &asked)
    };
    assert!(attest(&scope(&["fleet"], &["anything"])).is_ok());
    assert!(matches!(
        attest(&scope(&["lab"], &[])),
        Err(MintError::Issuer(IssuerFault::OutOfScope { .. }))
    ));
}

#[test]
fn only_a_ca_of_the_signers_key_issues() {
    let root = Held::root(Algorithm::EcdsaP256);
    let key = spki(ForeignKey::P256);
    let asked = request(&key, LeafSubject::CommonName("db"));
    let other = TestKey::generate(Algorithm::EcdsaP256);
    let refused = mint_direct_leaf(&root.der, &other, &asked);
    assert!(matches!(refused, Err(MintError::WrongSigner)));
    let leaf = mint_direct_leaf(&root.der, &root.key, &asked).expect("sound");
    let refused = mint_direct_leaf(&leaf, &root.key, &asked);
    assert!(matches!(
        refused,
        Err(MintError::Issuer(IssuerFault::NotCa))
    ));
    let refused = mint_direct_leaf(b"nothing", &root.key, &asked);
    assert!(matches!(refused, Err(MintError::Root(_))));
    // The leaves of a node have a profile of their own.
    let node = Node::new();
    for subject in [LeafSubject::CommonName("db"), LeafSubject::AsIssuer] {
        let refused = mint_direct_leaf(&node.root, &node.identity, &request(&key, subject));
        assert!(matches!(refused, Err(MintError::SelfCheck(_))));
    }
}

#[test]
fn a_leaf_ends_with_its_issuer_at_the_latest() {
    let root = Held::root(Algorithm::EcdsaP256);
    let key = spki(ForeignKey::P256);
    let end = TODAY + 20 * 365 * DAY;
    let until = |not_before, not_after| {
        let asked = DirectLeafRequest {
            not_before,
            not_after,
            ..request(&key, LeafSubject::CommonName("db"))
        };
        mint_direct_leaf(&root.der, &root.key, &asked)
    };
    assert!(until(TODAY, end).is_ok());
    // Backdated to before its issuer, for clocks that are behind.
    assert!(until(TODAY - DAY, end).is_ok());
    let second = std::time::Duration::from_secs(1);
    for (from, to) in [(TODAY, end + second), (TODAY, TODAY - second)] {
        assert!(matches!(until(from, to), Err(MintError::Validity { .. })));
    }
    // Over before the issuer begins: nobody could ever use it.
    let refused = until(TODAY - 2 * DAY, TODAY - DAY);
    assert!(matches!(
        refused,
        Err(MintError::Path(CaError::Expired { .. }))
    ));
}

#[test]
fn one_root_signs_a_server_and_a_client_certificate_for_each_node() {
    let root = Held::root(Algorithm::EcdsaP256);
    let anchor = Anchor::from_der(&root.der).expect("a CA");
    let key = TestKey::generate(Algorithm::EcdsaP256);
    for (purpose, other) in [
        (Purpose::Serve, Purpose::Dial),
        (Purpose::Dial, Purpose::Serve),
    ] {
        let purposes = [purpose];
        let asked = DirectLeafRequest {
            purposes: &purposes,
            ..request(key.spki(), LeafSubject::CommonName("node-1"))
        };
        let leaf = mint_direct_leaf(&root.der, &root.key, &asked).expect("sound");
        let chain = PresentedChain::parse(&[&leaf]).expect("our own");
        assert!(verify_ca_path(&chain, [&anchor], purpose, TODAY).is_ok());
        let refused = verify_ca_path(&chain, [&anchor], other, TODAY);
        assert_eq!(refused, Err(CaError::WrongPurpose { purpose: other }));
    }
}
