//! The native profile: what is accepted is exactly what is minted.

use comity_certs::{
    CertificateFault, ChainError, Form, MAX_LEAF_VALIDITY, PresentedChain, ProfileFault, Purpose,
    SanName, Usages,
};
use comity_identity::{Algorithm, KeyHash, PeerId, Signer, VerifyError};

use crate::certificates::{
    DAY, Foreign, ForeignKey, LeafOptions, Node, RawCertificate, TODAY, TestKey, content, elements,
    tlv,
};

const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
const SKI: &[u8] = &[0x55, 0x1d, 14];
const AKI: &[u8] = &[0x55, 0x1d, 35];
const EKU: &[u8] = &[0x55, 0x1d, 37];
/// 2.25.1869571449.2
const NEXT_KEY: &[u8] = &[0x69, 0x86, 0xfb, 0xbd, 0xca, 0x79, 2];
/// 1.3.6.1.4.1.32473.1, reserved for documentation.
const UNKNOWN: &[u8] = &[0x2b, 6, 1, 4, 1, 0x81, 0xfd, 0x59, 1];

#[test]
fn a_minted_chain_is_recognised_as_its_node() {
    for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
        let node = Node::with_algorithm(algorithm);
        for (credential, purpose) in [(&node.serve, Purpose::Serve), (&node.dial, Purpose::Dial)] {
            let chain = PresentedChain::parse(&credential.chain).expect("our own profile");
            assert_eq!(chain.form(), Form::Native);
            assert_eq!(chain.peer_id(), PeerId::Node(node.id()));
            assert_eq!(chain.next(), Some(KeyHash::of_spki(node.next.spki())));
            assert_eq!(chain.der(), credential.chain);
            assert_eq!(chain.keys()[0], chain.leaf().key);
            assert_eq!(chain.keys()[1], node.id().key_hash());
            assert_eq!(chain.fingerprints()[0], chain.leaf().fingerprint);
            assert_eq!(chain.fingerprints().len(), 2);
            assert!(!chain.leaf().is_ca && !chain.leaf().self_signed);
            let serve = purpose == Purpose::Serve;
            let listed = Usages::Listed {
                serve,
                dial: !serve,
                any: false,
            };
            assert_eq!(chain.leaf().usages, listed);
        }
    }
}

#[test]
fn a_root_without_commitment_is_native_too() {
    let chain = forge(|root, _| root.extensions.retain(|(oid, ..)| oid != NEXT_KEY));
    assert_eq!(chain.expect("optional").next(), None);
}

#[test]
fn cross_certificates_between_leaf_and_root_are_kept() {
    let (node, network) = (Node::new(), Foreign::authority("network").root());
    let mut cross = RawCertificate::of(&node.root);
    cross.issuer = RawCertificate::of(&network.der).subject;
    let cross = cross.sign(&TestKey::generate(Algorithm::EcdsaP256));
    let [leaf, root] = [&node.serve.chain[0], &node.root];
    let chain = PresentedChain::parse(&[leaf, &cross, root]).expect("a native chain");
    assert_eq!(chain.peer_id(), PeerId::Node(node.id()));
    assert_eq!(chain.der()[1], cross);
    assert_eq!(chain.keys().len(), 3);
}

#[test]
fn renewed_leaves_have_the_same_identity_and_another_fingerprint() {
    // T02
    let node = Node::new();
    let renewed = node.leaf(Purpose::Serve, &LeafOptions::default());
    let before = PresentedChain::parse(&node.serve.chain).expect("native");
    let after = PresentedChain::parse(&renewed.chain).expect("native");
    assert_eq!(before.peer_id(), after.peer_id());
    assert_ne!(before.fingerprints()[0], after.fingerprints()[0]);
    assert_ne!(before.leaf().key, after.leaf().key);
}

#[test]
fn another_key_under_a_nodes_subject_is_refused() {
    // T01
    let (node, thief) = (Node::new(), Node::new());
    let mut root = RawCertificate::of(&thief.root);
    let mut leaf = RawCertificate::of(&thief.serve.chain[0]);
    let subject = RawCertificate::of(&node.root).subject;
    for certificate in [&mut root, &mut leaf] {
        certificate.subject.clone_from(&subject);
        certificate.issuer.clone_from(&subject);
    }
    let chain = [leaf.sign(&thief.identity), root.sign(&thief.identity)];
    assert_eq!(refusal(&chain), ProfileFault::RootSubject);
}

#[test]
fn a_leaf_below_another_nodes_root_is_refused() {
    let (node, thief) = (Node::new(), Node::new());
    let chain = [thief.serve.chain[0].clone(), node.root.clone()];
    assert_eq!(refusal(&chain), ProfileFault::LeafIssuer);
}

#[test]
fn native_claims_in_the_wrong_order_or_number_are_refused() {
    // T18
    let node = Node::new();
    let [leaf, root] = [node.serve.chain[0].clone(), node.root.clone()];
    let foreign = Foreign::server("db1.example").self_signed().chain[0].clone();
    for (chain, fault) in [
        (vec![root.clone()], ProfileFault::Alone),
        (vec![leaf.clone()], ProfileFault::Alone),
        (vec![root.clone(), leaf.clone()], ProfileFault::RootSubject),
        (
            vec![leaf.clone(), root.clone(), root.clone()],
            ProfileFault::SecondRoot,
        ),
        (
            vec![leaf.clone(), foreign.clone()],
            ProfileFault::RootSubject,
        ),
        (
            vec![foreign.clone(), root.clone()],
            ProfileFault::LeafIssuer,
        ),
        (vec![root.clone(), root.clone()], ProfileFault::LeafKey),
    ] {
        assert_eq!(refusal(&chain), fault, "{} certificates", chain.len());
    }
}

#[test]
fn whatever_reads_like_a_node_is_held_to_the_profile() {
    // However the string is encoded, and with other attributes around it.
    for (tag, text) in [
        (0x0c, b"Comity Nodes"),
        (0x13, b"Comity Nodes"),
        (0x16, b"comity nodes"),
        (0x14, b"COMITY NODES"),
    ] {
        let attribute = tlv(0x30, &[&[6, 3, 0x55, 4, 10], &tlv(tag, &[text])]);
        let name = tlv(0x30, &[&tlv(0x31, &[&attribute])]);
        let key = TestKey::generate(Algorithm::EcdsaP256);
        let mut certificate = RawCertificate::of(&Node::new().root);
        certificate.spki = key.spki().to_vec();
        certificate.issuer.clone_from(&name);
        certificate.subject = name;
        let alone = [certificate.sign(&key)];
        assert_eq!(refusal(&alone), ProfileFault::Alone, "{tag:#x}");
    }
}

#[test]
fn roots_off_the_profile_are_refused() {
    let extension = |oid: &str| ProfileFault::Extension {
        certificate: "root",
        extension: oid.to_owned(),
    };
    let cases: [(&str, Change, ProfileFault); 25] = [
        (
            "upper-case id",
            |root| hex_of(root).make_ascii_uppercase(),
            ProfileFault::RootSubject,
        ),
        (
            "another id",
            |root| hex_of(root).reverse(),
            ProfileFault::RootSubject,
        ),
        (
            "other issuer",
            |root| root.issuer = tlv(0x30, &[]),
            ProfileFault::RootIssuer,
        ),
        (
            "an end",
            |root| root.not_after = tlv(0x17, &[b"360301000000Z"]),
            ProfileFault::RootExpiry {
                not_after: "2036-03-01T00:00:00Z".parse().expect("a time"),
            },
        ),
        (
            "an end one second early",
            |root| root.not_after = tlv(0x18, &[b"99991231235958Z"]),
            ProfileFault::RootExpiry {
                not_after: "9999-12-31T23:59:58Z".parse().expect("a time"),
            },
        ),
        (
            "zero serial",
            |root| root.serial = vec![2, 1, 0],
            ProfileFault::Serial {
                certificate: "root",
            },
        ),
        (
            "negative serial",
            |root| root.serial = vec![2, 1, 0x80],
            ProfileFault::Serial {
                certificate: "root",
            },
        ),
        (
            "long serial",
            |root| root.serial = tlv(2, &[&[1; 21]]),
            ProfileFault::Serial {
                certificate: "root",
            },
        ),
        (
            "padded serial",
            |root| root.serial = vec![2, 2, 0, 1],
            ProfileFault::Serial {
                certificate: "root",
            },
        ),
        (
            "no constraints",
            |root| remove(root, BASIC_CONSTRAINTS),
            extension("2.5.29.19"),
        ),
        (
            "not critical",
            |root| root.extension_mut(BASIC_CONSTRAINTS).1 = false,
            extension("2.5.29.19"),
        ),
        (
            "no CA",
            |root| root.extension_mut(BASIC_CONSTRAINTS).2 = vec![0x30, 0],
            extension("2.5.29.19"),
        ),
        (
            "no path length",
            |root| root.extension_mut(BASIC_CONSTRAINTS).2 = vec![0x30, 3, 1, 1, 0xff],
            extension("2.5.29.19"),
        ),
        (
            "path length 1",
            |root| root.extension_mut(BASIC_CONSTRAINTS).2 = vec![0x30, 6, 1, 1, 0xff, 2, 1, 1],
            extension("2.5.29.19"),
        ),
        (
            "no key usage",
            |root| remove(root, KEY_USAGE),
            extension("2.5.29.15"),
        ),
        (
            "key usage not critical",
            |root| root.extension_mut(KEY_USAGE).1 = false,
            extension("2.5.29.15"),
        ),
        (
            "more key usages",
            |root| root.extension_mut(KEY_USAGE).2 = vec![3, 2, 1, 0x86],
            extension("2.5.29.15"),
        ),
        (
            "no key id",
            |root| remove(root, SKI),
            extension("2.5.29.14"),
        ),
        (
            "wrong key id",
            |root| flip_last(&mut root.extension_mut(SKI).2),
            extension("2.5.29.14"),
        ),
        (
            "extended key usage",
            |root| {
                root.extensions
                    .push((EKU.to_vec(), false, vec![0x30, 6, 6, 4, 0x55, 0x1d, 37, 0]))
            },
            extension("2.5.29.37"),
        ),
        (
            "unknown critical",
            |root| root.extensions.push((UNKNOWN.to_vec(), true, vec![5, 0])),
            extension("1.3.6.1.4.1.32473.1"),
        ),
        (
            "critical commitment",
            |root| root.extension_mut(NEXT_KEY).1 = true,
            extension("2.25.1869571449.2"),
        ),
        (
            "short commitment",
            |root| root.extension_mut(NEXT_KEY).2 = tlv(4, &[&[7; 31]]),
            ProfileFault::Commitment,
        ),
        (
            "commitment of another type",
            |root| root.extension_mut(NEXT_KEY).2 = tlv(3, &[&[7; 32]]),
            ProfileFault::Commitment,
        ),
        (
            "another algorithm",
            |root| {
                let ecdsa_sha384 = [0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
                root.inner_algorithm = ecdsa_sha384.to_vec();
                root.outer_algorithm = ecdsa_sha384.to_vec();
            },
            ProfileFault::SignatureAlgorithm {
                certificate: "root",
            },
        ),
    ];
    for (name, change, fault) in cases {
        assert_eq!(forged_fault(|root, _| change(root)), fault, "{name}");
    }
}

#[test]
fn leaves_off_the_profile_are_refused() {
    let extension = |oid: &str| ProfileFault::Extension {
        certificate: "leaf",
        extension: oid.to_owned(),
    };
    let cases: [(&str, Change, ProfileFault); 20] = [
        (
            "other issuer",
            |leaf| flip_last(&mut leaf.issuer),
            ProfileFault::LeafIssuer,
        ),
        (
            "other subject",
            |leaf| flip_last(&mut leaf.subject),
            ProfileFault::LeafSubject,
        ),
        (
            "empty subject",
            |leaf| leaf.subject = tlv(0x30, &[]),
            ProfileFault::LeafSubject,
        ),
        (
            "zero serial",
            |leaf| leaf.serial = vec![2, 1, 0],
            ProfileFault::Serial {
                certificate: "leaf",
            },
        ),
        (
            "CA",
            |leaf| leaf.extension_mut(BASIC_CONSTRAINTS).2 = vec![0x30, 3, 1, 1, 0xff],
            extension("2.5.29.19"),
        ),
        (
            "no constraints",
            |leaf| remove(leaf, BASIC_CONSTRAINTS),
            extension("2.5.29.19"),
        ),
        // DER omits the default, and there is one way to write it.
        (
            "explicit FALSE",
            |leaf| leaf.extension_mut(BASIC_CONSTRAINTS).2 = vec![0x30, 3, 1, 1, 0],
            extension("2.5.29.19"),
        ),
        (
            "constraints not critical",
            |leaf| leaf.extension_mut(BASIC_CONSTRAINTS).1 = false,
            extension("2.5.29.19"),
        ),
        (
            "keyCertSign",
            |leaf| leaf.extension_mut(KEY_USAGE).2 = vec![3, 2, 2, 0x84],
            extension("2.5.29.15"),
        ),
        (
            "key usage not critical",
            |leaf| leaf.extension_mut(KEY_USAGE).1 = false,
            extension("2.5.29.15"),
        ),
        // T15
        (
            "no extended key usage",
            |leaf| remove(leaf, EKU),
            extension("2.5.29.37"),
        ),
        (
            "two extended key usages",
            |leaf| {
                let both = [&[0x30, 20][..], &usage(1), &usage(2)].concat();
                leaf.extension_mut(EKU).2 = both;
            },
            extension("2.5.29.37"),
        ),
        (
            "any usage",
            |leaf| leaf.extension_mut(EKU).2 = vec![0x30, 6, 6, 4, 0x55, 0x1d, 37, 0],
            extension("2.5.29.37"),
        ),
        (
            "code signing",
            |leaf| leaf.extension_mut(EKU).2 = [&[0x30, 10][..], &usage(3)].concat(),
            extension("2.5.29.37"),
        ),
        (
            "critical extended key usage",
            |leaf| leaf.extension_mut(EKU).1 = true,
            extension("2.5.29.37"),
        ),
        (
            "no authority key id",
            |leaf| remove(leaf, AKI),
            extension("2.5.29.35"),
        ),
        (
            "wrong authority key id",
            |leaf| flip_last(&mut leaf.extension_mut(AKI).2),
            extension("2.5.29.35"),
        ),
        (
            "wrong key id",
            |leaf| flip_last(&mut leaf.extension_mut(SKI).2),
            extension("2.5.29.14"),
        ),
        (
            "name constraints",
            |leaf| {
                leaf.extensions
                    .push((vec![0x55, 0x1d, 30], false, vec![0x30, 0]))
            },
            extension("2.5.29.30"),
        ),
        (
            "unknown critical",
            |leaf| leaf.extensions.push((UNKNOWN.to_vec(), true, vec![5, 0])),
            extension("1.3.6.1.4.1.32473.1"),
        ),
    ];
    for (name, change, fault) in cases {
        assert_eq!(forged_fault(|_, leaf| change(leaf)), fault, "{name}");
    }
}

#[test]
fn unknown_extensions_that_are_not_critical_are_accepted() {
    // T12
    let chain = forge(|root, leaf| {
        for certificate in [root, leaf] {
            certificate
                .extensions
                .push((UNKNOWN.to_vec(), false, vec![5, 0]));
        }
    });
    assert_eq!(chain.expect("unknown is harmless").form(), Form::Native);
}

#[test]
fn a_leaf_key_must_be_p256_and_not_the_identity_key() {
    let node = Node::new();
    let ed25519 = TestKey::generate(Algorithm::Ed25519).spki().to_vec();
    let p384 = Foreign {
        key: ForeignKey::P384,
        ..Foreign::default()
    };
    let p384 = RawCertificate::of(&p384.self_signed().chain[0]).spki;
    for spki in [ed25519, p384, node.identity.spki().to_vec()] {
        let mut leaf = RawCertificate::of(&node.serve.chain[0]);
        leaf.spki = spki;
        let chain = [leaf.sign(&node.identity), node.root.clone()];
        assert_eq!(refusal(&chain), ProfileFault::LeafKey);
    }
}

#[test]
fn a_root_key_must_be_an_identity_key() {
    let p384 = Foreign {
        key: ForeignKey::P384,
        ..Foreign::default()
    };
    let p384 = RawCertificate::of(&p384.self_signed().chain[0]).spki;
    let fault = forged_fault(|root, _| root.spki.clone_from(&p384));
    assert_eq!(fault, ProfileFault::RootKey);
}

#[test]
fn a_leaf_lives_at_most_32_days() {
    let node = Node::new();
    let until = |not_after| {
        let options = LeafOptions {
            not_after,
            ..LeafOptions::default()
        };
        node.leaf(Purpose::Serve, &options)
    };
    let longest = until(TODAY + MAX_LEAF_VALIDITY);
    assert_eq!(MAX_LEAF_VALIDITY, 32 * DAY);
    assert!(PresentedChain::parse(&longest.chain).is_ok());
    assert!(PresentedChain::parse(&until(TODAY).chain).is_ok());

    let too_long = forged_fault(|_, leaf| leaf.not_after = tlv(0x17, &[b"260402000001Z"]));
    let reversed = forged_fault(|_, leaf| leaf.not_after = tlv(0x17, &[b"260228235959Z"]));
    for fault in [too_long, reversed] {
        assert!(
            matches!(fault, ProfileFault::LeafValidity { .. }),
            "{fault}"
        );
    }
}

#[test]
fn both_signatures_must_be_by_the_root_key() {
    let (node, thief) = (Node::new(), Node::new());
    let [leaf, root] = [&node.serve.chain[0], &node.root].map(|c| RawCertificate::of(c));
    let signature = |certificate| ProfileFault::Signature {
        certificate,
        cause: VerifyError::BadSignature,
    };
    let chain = [leaf.sign(&thief.identity), node.root.clone()];
    assert_eq!(refusal(&chain), signature("leaf"));
    let chain = [node.serve.chain[0].clone(), root.sign(&thief.identity)];
    assert_eq!(refusal(&chain), signature("root"));
    // The right signature over a changed leaf.
    let mut changed = leaf.clone();
    flip_last(&mut changed.serial);
    let original = content(elements(&node.serve.chain[0])[2])[1..].to_vec();
    let chain = [changed.with_signature(&original), node.root.clone()];
    assert_eq!(refusal(&chain), signature("leaf"));
}

#[test]
fn malleated_signatures_are_refused() {
    let node = Node::new();
    let leaf = RawCertificate::of(&node.serve.chain[0]);
    let high = (0..)
        .map(|_| node.identity.sign_once(&leaf.tbs()))
        .find(|s| comity_identity::verify(node.identity.spki(), &leaf.tbs(), s).is_err())
        .expect("about every second signature has high s");
    let chain = [leaf.with_signature(&high), node.root.clone()];
    let fault = ProfileFault::Signature {
        certificate: "leaf",
        cause: VerifyError::HighS,
    };
    assert_eq!(refusal(&chain), fault);
}

#[test]
fn a_nodes_own_spiffe_id_is_accepted_and_no_other() {
    let node = Node::new();
    let other = Node::new().id().to_hex();
    let own = node.id().to_hex();
    let with = |uris: &[String]| {
        let names: Vec<Vec<u8>> = uris.iter().map(|u| tlv(0x86, &[u.as_bytes()])).collect();
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let mut leaf = RawCertificate::of(&node.serve.chain[0]);
        let san = (vec![0x55, 0x1d, 17], false, tlv(0x30, &names));
        leaf.extensions.push(san);
        PresentedChain::parse(&[leaf.sign(&node.identity), node.root.clone()])
    };
    let good = format!("spiffe://fleet.example/node/{own}");
    let chain = with(std::slice::from_ref(&good)).expect("its own id");
    assert_eq!(chain.leaf().names, [SanName::Uri(good.clone())]);
    assert!(with(&["https://db1.example/".to_owned(), good.clone()]).is_ok());
    for bad in [
        vec![format!("spiffe://fleet.example/node/{other}")],
        vec![format!(
            "spiffe://fleet.example/node/{}",
            own.to_uppercase()
        )],
        vec![format!("spiffe://fleet.example/node/{own}/")],
        vec![format!("spiffe://fleet.example/node/{own}?x")],
        vec![format!("spiffe://Fleet.example/node/{own}")],
        vec![format!("spiffe:///node/{own}")],
        vec![format!("SPIFFE://fleet.example/node/{other}")],
        vec![format!("spiffe://fleet.example/{own}")],
        vec!["spiffe:".to_owned()],
        vec![good.clone(), good.clone()],
    ] {
        let expected = ChainError::NativeProfile {
            fault: ProfileFault::Spiffe,
        };
        assert_eq!(with(&bad).expect_err("not its own"), expected, "{bad:?}");
    }
}

#[test]
fn a_malformed_metadata_claim_refuses_the_chain() {
    let metadata = vec![0x69, 0x86, 0xfb, 0xbd, 0xca, 0x79, 1];
    let chain = forge(|_, leaf| leaf.extensions.push((metadata.clone(), false, vec![5, 0])));
    assert!(matches!(
        chain,
        Err(ChainError::Certificate {
            index: 0,
            fault: CertificateFault::Metadata(_)
        })
    ));
}

type Change = fn(&mut RawCertificate);

/// A fresh node's chain after a change, with signatures that are right.
fn forge(
    change: impl Fn(&mut RawCertificate, &mut RawCertificate),
) -> Result<PresentedChain, ChainError> {
    let node = Node::new();
    let mut root = RawCertificate::of(&node.root);
    let mut leaf = RawCertificate::of(&node.serve.chain[0]);
    change(&mut root, &mut leaf);
    PresentedChain::parse(&[leaf.sign(&node.identity), root.sign(&node.identity)])
}

fn forged_fault(change: impl Fn(&mut RawCertificate, &mut RawCertificate)) -> ProfileFault {
    match forge(change) {
        Err(ChainError::NativeProfile { fault }) => fault,
        other => panic!("expected a broken profile, got {other:?}"),
    }
}

fn refusal(chain: &[Vec<u8>]) -> ProfileFault {
    match PresentedChain::parse(chain) {
        Err(ChainError::NativeProfile { fault }) => fault,
        other => panic!("expected a broken profile, got {other:?}"),
    }
}

fn remove(certificate: &mut RawCertificate, oid: &[u8]) {
    certificate.extensions.retain(|(kind, ..)| kind != oid);
}

fn flip_last(bytes: &mut [u8]) {
    *bytes.last_mut().expect("not empty") ^= 1;
}

/// The 64 hexadecimal digits at the end of subject and issuer; changing the subject alone is enough.
fn hex_of(root: &mut RawCertificate) -> &mut [u8] {
    let start = root.subject.len() - 64;
    &mut root.subject[start..]
}

/// An extended key usage: the last number of its object identifier.
fn usage(number: u8) -> [u8; 10] {
    [6, 8, 0x2b, 6, 1, 5, 5, 7, 3, number]
}
