//! Paths to trusted CAs.

use std::collections::BTreeSet;
use std::time::Duration;

use comity_certs::limits::{MAX_PATH_SIGNATURES, MAX_SAME_SUBJECT};
use comity_certs::{Anchor, CaError, CaPath, PresentedChain, Purpose, verify_ca_path};
use comity_identity::{Algorithm, KeyHash, Signer, UnixTime};
use rcgen::{
    CustomExtension, DistinguishedName, DnType, GeneralSubtree, KeyUsagePurpose, NameConstraints,
};

use crate::certificates::{
    Authority, Credential, DAY, Foreign, Node, RawCertificate, TODAY, TestKey,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_leaf_below_a_trusted_ca_has_a_path() {
    let ca = Foreign::authority("root").root();
    let leaf = Foreign::server("db1.example").issued_by(&ca);
    let path = verify(&leaf.chain, &[&ca], Purpose::Serve, TODAY).expect("a path");
    let anchor = anchor(&ca);
    assert_eq!(path.anchor, anchor.fingerprint());
    assert_eq!(path.keys, [key(&leaf.chain[0]), anchor.key()]);
    assert_eq!(path.not_after, TODAY + 365 * DAY);
}

#[test]
fn intermediates_are_found_in_any_order_and_extra_certificates_do_not_matter() {
    // T18
    let root = Foreign::authority("root").root();
    let middle = Foreign::authority("middle").intermediate(&root);
    let low = Foreign {
        not_after: TODAY + 9 * DAY,
        ..Foreign::authority("low")
    };
    let low = low.intermediate(&middle);
    let stranger = Foreign::authority("stranger").root();
    let leaf = Foreign::server("db1.example").issued_by(&low);
    for others in [
        vec![&low.der, &middle.der],
        vec![&middle.der, &low.der],
        vec![&low.der, &stranger.der, &middle.der, &root.der],
        vec![&leaf.chain[0], &low.der, &low.der, &middle.der, &middle.der],
    ] {
        let others: Vec<&[u8]> = others.into_iter().map(Vec::as_slice).collect();
        let chain = leaf.clone().followed_by(&others).chain;
        let path = verify(&chain, &[&root], Purpose::Serve, TODAY).expect("a path");
        let keys = [&leaf.chain[0], &low.der, &middle.der, &root.der].map(|c| key(c));
        assert_eq!(path.keys, keys, "only and all keys of the path, leaf first");
        assert_eq!(path.not_after, TODAY + 9 * DAY, "the earliest end");
    }
}

#[test]
fn a_missing_intermediate_is_an_unknown_issuer() {
    // T17
    let root = Foreign::authority("root").root();
    let middle = Foreign::authority("middle").intermediate(&root);
    let leaf = Foreign::server("db1.example").issued_by(&middle);
    let error = verify(&leaf.chain, &[&root], Purpose::Serve, TODAY);
    let issuer = "CN=middle".to_owned();
    assert_eq!(error, Err(CaError::UnknownIssuer { issuer }));
}

#[test]
fn strangers_have_no_path() {
    let [ours, theirs] = [(); 2].map(|()| Foreign::authority("same name").root());
    let leaf = Foreign::server("db1.example").issued_by(&theirs);
    let issuer = "CN=same name".to_owned();
    // Same name, another key: the signature does not fit, which says more than unknown.
    let error = verify(&leaf.chain, &[&ours], Purpose::Serve, TODAY);
    assert_eq!(error, Err(CaError::BadSignature));
    let error = verify(&leaf.chain, &[], Purpose::Serve, TODAY);
    assert_eq!(error, Err(CaError::UnknownIssuer { issuer }));
    let own = Foreign::server("db1.example").self_signed();
    let error = verify(&own.chain, &[&ours], Purpose::Serve, TODAY);
    let issuer = "CN=db1.example".to_owned();
    assert_eq!(error, Err(CaError::UnknownIssuer { issuer }));
    // Two roots with one name: the right one is found.
    assert!(verify(&leaf.chain, &[&ours, &theirs], Purpose::Serve, TODAY).is_ok());
}

#[test]
fn validity_is_exact_to_the_second() {
    // T03, T04
    let root = Foreign::authority("root").root();
    let leaf = Foreign {
        not_before: TODAY,
        not_after: TODAY + DAY,
        ..Foreign::server("db1.example")
    };
    let leaf = leaf.issued_by(&root);
    let at = |now| verify(&leaf.chain, &[&root], Purpose::Serve, now).map(|_| ());
    assert_eq!(at(TODAY), Ok(()));
    assert_eq!(at(TODAY + DAY), Ok(()));
    let (not_before, not_after) = (TODAY, TODAY + DAY);
    assert_eq!(
        at(TODAY - SECOND),
        Err(CaError::NotYetValid {
            index: 0,
            not_before
        })
    );
    assert_eq!(
        at(TODAY + DAY + SECOND),
        Err(CaError::Expired {
            index: 0,
            not_after
        })
    );
}

#[test]
fn an_expired_intermediate_is_named() {
    let root = Foreign::authority("root").root();
    let middle = Foreign {
        not_after: TODAY + DAY,
        ..Foreign::authority("middle")
    };
    let middle = middle.intermediate(&root);
    let leaf = Foreign::server("db1.example").issued_by(&middle);
    let chain = leaf.followed_by(&[&middle.der]).chain;
    let error = verify(&chain, &[&root], Purpose::Serve, TODAY + DAY + SECOND);
    let not_after = TODAY + DAY;
    assert_eq!(
        error,
        Err(CaError::Expired {
            index: 1,
            not_after
        })
    );
}

#[test]
fn an_anchor_outside_its_validity_vouches_for_nobody() {
    // T05
    let root = Foreign {
        not_before: TODAY,
        not_after: TODAY + DAY,
        ..Foreign::authority("old")
    };
    let root = root.root();
    let leaf = Foreign::server("db1.example").issued_by(&root);
    let at = |now| verify(&leaf.chain, &[&root], Purpose::Serve, now);
    assert_eq!(at(TODAY).expect("valid").not_after, TODAY + DAY);
    assert!(at(TODAY + DAY).is_ok());
    let (anchor, subject) = (anchor(&root).fingerprint(), "CN=old".to_owned());
    let expired = CaError::AnchorExpired {
        anchor,
        subject: subject.clone(),
        not_after: TODAY + DAY,
    };
    assert_eq!(at(TODAY + DAY + SECOND), Err(expired));
    let early = CaError::AnchorNotYetValid {
        anchor,
        subject,
        not_before: TODAY,
    };
    assert_eq!(at(TODAY - SECOND), Err(early));
}

#[test]
fn an_expired_anchor_does_not_hide_a_valid_one() {
    let old = Foreign {
        not_after: TODAY - SECOND,
        ..Foreign::authority("root")
    };
    let old = old.root();
    let renewed = Foreign::authority("root").cross(&old, &old);
    let leaf = Foreign::server("db1.example").issued_by(&old);
    let chain = PresentedChain::parse(&leaf.chain).expect("sound");
    let anchors = [&old.der, &renewed].map(|der| Anchor::from_der(der).expect("a CA"));
    let path = verify_ca_path(&chain, &anchors, Purpose::Serve, TODAY).expect("a path");
    assert_eq!(path.anchor, anchors[1].fingerprint());
}

#[test]
fn a_leaf_serves_or_dials_as_its_extended_key_usage_says() {
    // T14, T15
    let root = Foreign::authority("root").root();
    let both = Foreign {
        purposes: vec![Purpose::Serve, Purpose::Dial],
        ..Foreign::default()
    };
    for (leaf, serves, dials) in [
        (Foreign::server("db1.example"), true, false),
        (Foreign::client("laptop"), false, true),
        (both, true, true),
        (Foreign::default(), true, true),
    ] {
        let chain = leaf.issued_by(&root).chain;
        for (purpose, allowed) in [(Purpose::Serve, serves), (Purpose::Dial, dials)] {
            let expected = match allowed {
                true => Ok(()),
                false => Err(CaError::WrongPurpose { purpose }),
            };
            let path = verify(&chain, &[&root], purpose, TODAY).map(|_| ());
            assert_eq!(path, expected, "{purpose:?}");
        }
    }
}

#[test]
fn a_limited_anchor_limits_what_is_below() {
    let root = Foreign {
        purposes: vec![Purpose::Serve],
        ..Foreign::authority("servers only")
    };
    let root = root.root();
    let chain = Foreign::default().issued_by(&root).chain;
    assert!(verify(&chain, &[&root], Purpose::Serve, TODAY).is_ok());
    let purpose = Purpose::Dial;
    let error = verify(&chain, &[&root], purpose, TODAY);
    assert_eq!(error, Err(CaError::WrongPurpose { purpose }));
}

#[test]
fn a_leaf_that_could_issue_is_refused() {
    // T16
    let root = Foreign::authority("root").root();
    let ca = Foreign::authority("db1.example").intermediate(&root);
    let error = verify(&[ca.der], &[&root], Purpose::Serve, TODAY);
    assert_eq!(error, Err(CaError::LeafIsCa));
    for (usages, expected) in [
        (vec![KeyUsagePurpose::DigitalSignature], None),
        (
            vec![
                KeyUsagePurpose::DigitalSignature,
                KeyUsagePurpose::KeyCertSign,
            ],
            Some(CaError::LeafMaySign),
        ),
        (
            vec![KeyUsagePurpose::KeyEncipherment],
            Some(CaError::LeafKeyUsage),
        ),
    ] {
        let leaf = Foreign {
            key_usages: usages,
            ..Foreign::server("db1.example")
        };
        let chain = leaf.issued_by(&root).chain;
        let error = verify(&chain, &[&root], Purpose::Serve, TODAY).err();
        assert_eq!(error, expected);
    }
}

#[test]
fn a_trusted_ca_that_presents_itself_is_refused() {
    let root = Foreign::authority("root").root();
    let error = verify(
        std::slice::from_ref(&root.der),
        &[&root],
        Purpose::Serve,
        TODAY,
    );
    assert_eq!(error, Err(CaError::LeafIsCa));
}

#[test]
fn a_leaf_cannot_issue() {
    let root = Foreign::authority("root").root();
    let no_ca = Foreign {
        ca: None,
        ..Foreign::authority("no CA")
    };
    let no_ca = no_ca.intermediate(&root);
    let leaf = Foreign::server("db1.example").issued_by(&no_ca);
    let chain = leaf.followed_by(&[&no_ca.der]).chain;
    let error = verify(&chain, &[&root], Purpose::Serve, TODAY);
    assert_eq!(error, Err(CaError::IssuerNotCa));

    let no_sign = Foreign {
        key_usages: vec![KeyUsagePurpose::DigitalSignature],
        ..Foreign::authority("no keyCertSign")
    };
    let no_sign = no_sign.intermediate(&root);
    let leaf = Foreign::server("db1.example").issued_by(&no_sign);
    let chain = leaf.followed_by(&[&no_sign.der]).chain;
    let error = verify(&chain, &[&root], Purpose::Serve, TODAY);
    assert_eq!(error, Err(CaError::IssuerMayNotSign { index: 1 }));
}

#[test]
fn path_lengths_are_kept_in_intermediates_and_in_the_anchor() {
    // T13
    let limited = |length: u8| Foreign {
        ca: Some(Some(length)),
        ..Foreign::authority(&format!("at most {length} below"))
    };
    for (root, middle, allowed) in [
        (limited(1), limited(0), true),
        (limited(0), Foreign::authority("middle"), false),
        (limited(2), limited(1), true),
    ] {
        let root = root.root();
        let middle = middle.intermediate(&root);
        let leaf = Foreign::server("db1.example").issued_by(&middle);
        check_length(leaf.followed_by(&[&middle.der]), &root, allowed);
    }
    for (length, allowed) in [(1, true), (0, false)] {
        let root = Foreign::authority("root").root();
        let middle = limited(length).intermediate(&root);
        let low = Foreign::authority("low").intermediate(&middle);
        let leaf = Foreign::server("db1.example").issued_by(&low);
        check_length(leaf.followed_by(&[&low.der, &middle.der]), &root, allowed);
    }
}

fn check_length(leaf: Credential, root: &Authority, allowed: bool) {
    let path = verify(&leaf.chain, &[root], Purpose::Serve, TODAY).map(|_| ());
    let expected = match allowed {
        true => Ok(()),
        false => Err(CaError::PathLength),
    };
    assert_eq!(path, expected);
}

#[test]
fn names_outside_the_constraints_of_a_ca_are_refused() {
    let permitted = |subtree| Foreign {
        name_constraints: Some(NameConstraints {
            permitted_subtrees: vec![subtree],
            excluded_subtrees: vec![],
        }),
        ..Foreign::authority("constrained")
    };
    let root = permitted(GeneralSubtree::DnsName("good.example".into())).root();
    let inside = Foreign::server("db1.good.example").issued_by(&root);
    assert!(verify(&inside.chain, &[&root], Purpose::Serve, TODAY).is_ok());
    let outside = Foreign::server("db1.bad.example").issued_by(&root);
    let error = verify(&outside.chain, &[&root], Purpose::Serve, TODAY);
    assert_eq!(error, Err(CaError::NameConstraint));
    // Constraints that are not implemented are violated by everything.
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "db1.good.example");
    let named = permitted(GeneralSubtree::DirectoryName(name)).root();
    let leaf = Foreign::server("db1.good.example").issued_by(&named);
    let path = verify(&leaf.chain, &[&named], Purpose::Serve, TODAY);
    assert_eq!(path, Err(CaError::NameConstraint));
}

#[test]
fn a_changed_leaf_has_no_path() {
    let root = Foreign::authority("root").root();
    let leaf = Foreign::server("db1.example")
        .issued_by(&root)
        .chain
        .remove(0);
    let mut changed = RawCertificate::of(&leaf);
    changed.spki = TestKey::generate(Algorithm::EcdsaP256).spki().to_vec();
    let changed = changed.with_signature(&signature_of(&leaf));
    let error = verify(&[changed], &[&root], Purpose::Serve, TODAY);
    assert_eq!(error, Err(CaError::BadSignature));
}

#[test]
fn seven_cas_of_one_name_cost_a_bounded_number_of_signatures() {
    // T19: each of them could have issued any other, by name, and none is trusted. Two of them are
    // tried, so that an authority of this name is asked five times: about the leaf, each of the
    // two, and each above the other. Every question is one signature.
    let issuer = Foreign::authority("loop").root();
    let ring: Vec<Vec<u8>> = (0..7)
        .map(|_| Foreign::authority("loop").root().der)
        .collect();
    let keys: BTreeSet<KeyHash> = ring.iter().map(|der| key(der)).collect();
    assert_eq!(
        keys.len(),
        7,
        "distinct keys, or they would be taken for a loop"
    );
    let leaf = Foreign::server("db1.example").issued_by(&issuer);
    let ring: Vec<&[u8]> = ring.iter().map(Vec::as_slice).collect();
    for (presented, authorities, expected) in [
        (MAX_SAME_SUBJECT, 1, CaError::BadSignature),
        (
            MAX_SAME_SUBJECT,
            MAX_PATH_SIGNATURES / 5,
            CaError::BadSignature,
        ),
        (
            MAX_SAME_SUBJECT,
            MAX_PATH_SIGNATURES / 5 + 1,
            CaError::TooComplex,
        ),
        (MAX_SAME_SUBJECT + 1, 1, CaError::TooComplex),
        (7, 1, CaError::TooComplex),
    ] {
        let trusted: Vec<Authority> = (0..authorities)
            .map(|_| Foreign::authority("loop").root())
            .collect();
        let trusted: Vec<&Authority> = trusted.iter().collect();
        let chain = leaf.clone().followed_by(&ring[..presented]).chain;
        let error = verify(&chain, &trusted, Purpose::Serve, TODAY);
        assert_eq!(error, Err(expected), "{presented} {authorities}");
    }
}

#[test]
fn signatures_are_verified_up_to_the_limit_and_not_one_more() {
    let issuer = Foreign::authority("root").root();
    let leaf = Foreign::server("db1.example").issued_by(&issuer);
    let others: Vec<Authority> = (0..MAX_PATH_SIGNATURES)
        .map(|_| Foreign::authority("root").root())
        .collect();
    let with = |count: usize| {
        let mut trusted: Vec<&Authority> = others.iter().take(count).collect();
        trusted.push(&issuer);
        verify(&leaf.chain, &trusted, Purpose::Serve, TODAY).map(|_| ())
    };
    assert_eq!(with(MAX_PATH_SIGNATURES - 1), Ok(()));
    assert_eq!(with(MAX_PATH_SIGNATURES), Err(CaError::TooComplex));
}

#[test]
fn of_certificates_with_one_subject_the_first_two_are_tried() {
    let root = Foreign::authority("root").root();
    let middle = Foreign::authority("middle").intermediate(&root);
    // Signed by somebody else of the root's name.
    let fake_root = Foreign::authority("root").root();
    let fakes: Vec<Vec<u8>> = (0..MAX_SAME_SUBJECT)
        .map(|_| Foreign::authority("middle").intermediate(&fake_root).der)
        .collect();
    let leaf = Foreign::server("db1.example").issued_by(&middle);
    let with = |fakes: &[Vec<u8>]| {
        let mut others: Vec<&[u8]> = fakes.iter().map(Vec::as_slice).collect();
        others.push(&middle.der);
        let chain = leaf.clone().followed_by(&others).chain;
        verify(&chain, &[&root], Purpose::Serve, TODAY).map(|_| ())
    };
    assert_eq!(with(&fakes[1..]), Ok(()));
    assert_eq!(with(&fakes), Err(CaError::TooComplex));
    // One that lies on no path to the root is not counted, and a copy is not counted twice.
    let elsewhere = Foreign::authority("elsewhere").root();
    let aside = Foreign::authority("middle").intermediate(&elsewhere).der;
    assert_eq!(with(&vec![aside; 5]), Ok(()));
    assert_eq!(with(&vec![fakes[0].clone(); 5]), Ok(()));
}

#[test]
fn certificates_whose_key_identifiers_do_not_fit_displace_none_that_do() {
    let root = Foreign::authority("root").root();
    let middle = Foreign::authority("middle").intermediate(&root);
    let others: Vec<Vec<u8>> = (0..5)
        .map(|_| Foreign::authority("middle").intermediate(&root).der)
        .collect();
    let naming = |extension: Vec<u8>| {
        let leaf = Foreign {
            extensions: vec![CustomExtension::from_oid_content(
                &[2, 5, 29, 35],
                extension,
            )],
            ..Foreign::server("db1.example")
        };
        leaf.issued_by(&middle)
    };
    let with = |leaf: &Credential, decoys: usize| {
        let mut others: Vec<&[u8]> = others[..decoys].iter().map(Vec::as_slice).collect();
        others.push(&middle.der);
        let chain = leaf.clone().followed_by(&others).chain;
        verify(&chain, &[&root], Purpose::Serve, TODAY).map(|_| ())
    };
    let named = naming(authority_key_identifier(&key_identifier(&middle)));
    for decoys in 0..=5 {
        assert_eq!(with(&named, decoys), Ok(()), "{decoys}");
    }
    // Without an identifier, or with one that cannot be read, all of them may have signed.
    for unnamed in [vec![0x30, 0x00], vec![0x30, 0x03, 0x80, 0x05, 0x00]] {
        let unnamed = naming(unnamed);
        assert_eq!(with(&unnamed, MAX_SAME_SUBJECT - 1), Ok(()));
        assert_eq!(with(&unnamed, MAX_SAME_SUBJECT), Err(CaError::TooComplex));
    }
    // While they are few, an identifier that fits none of them excludes none; then all are dropped.
    let wrong = naming(authority_key_identifier(&[0x5a; 20]));
    assert_eq!(with(&wrong, MAX_SAME_SUBJECT - 1), Ok(()));
    let issuer = "CN=middle".to_owned();
    let error = Err(CaError::UnknownIssuer { issuer });
    assert_eq!(with(&wrong, MAX_SAME_SUBJECT), error);
}

fn authority_key_identifier(id: &[u8]) -> Vec<u8> {
    let length = u8::try_from(id.len()).expect("short");
    [&[0x30, length + 2, 0x80, length], id].concat()
}

fn key_identifier(authority: &Authority) -> Vec<u8> {
    // The object identifier of SubjectKeyIdentifier, and the tag of its OCTET STRING.
    let header = [0x06, 0x03, 0x55, 0x1d, 0x0e, 0x04];
    let place = authority.der.windows(6).position(|w| w == header);
    let value = place
        .map(|at| &authority.der[at + 7..])
        .expect("a CA has one");
    value[2..2 + usize::from(value[1])].to_vec()
}

#[test]
fn without_trusted_cas_nothing_is_looked_for() {
    // Not even what is wrong with the leaf, which costs more to find out.
    let root = Foreign::authority("root").root();
    let ca = Foreign::authority("db1.example").intermediate(&root);
    let error = verify(&[ca.der], &[], Purpose::Serve, TODAY);
    let issuer = "CN=root".to_owned();
    assert_eq!(error, Err(CaError::UnknownIssuer { issuer }));
}

#[test]
fn a_path_tells_whether_a_ca_below_the_anchor_is_constrained() {
    let constrained = || Foreign {
        name_constraints: Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("good.example".into())],
            excluded_subtrees: vec![],
        }),
        ..Foreign::authority("constrained")
    };
    let leaf = Foreign::server("db1.good.example");
    let root = Foreign::authority("root").root();
    for (middle, expected) in [
        (constrained().intermediate(&root), true),
        (Foreign::authority("middle").intermediate(&root), false),
    ] {
        let chain = leaf.issued_by(&middle).followed_by(&[&middle.der]).chain;
        let path = verify(&chain, &[&root], Purpose::Serve, TODAY).expect("a path");
        assert_eq!(path.constrained, expected);
    }
    // Whoever lists an authority decides what it is trusted with.
    let root = constrained().root();
    let path = verify(
        &leaf.issued_by(&root).chain,
        &[&root],
        Purpose::Serve,
        TODAY,
    );
    assert!(!path.expect("a path").constrained);
}

#[test]
fn a_node_has_a_path_to_its_own_root_only_if_that_is_trusted() {
    let node = Node::new();
    let chain = PresentedChain::parse(&node.serve.chain).expect("native");
    let own = Anchor::from_der(&node.root).expect("a CA");
    let other = Anchor::from_der(&Node::new().root).expect("a CA");
    assert!(verify_ca_path(&chain, [&own], Purpose::Serve, TODAY).is_ok());
    assert!(verify_ca_path(&chain, [&own], Purpose::Dial, TODAY).is_err());
    let error = verify_ca_path(&chain, [&other], Purpose::Serve, TODAY);
    assert!(matches!(error, Err(CaError::UnknownIssuer { .. })));
}

fn verify(
    chain: &[Vec<u8>],
    anchors: &[&Authority],
    purpose: Purpose,
    now: UnixTime,
) -> Result<CaPath, CaError> {
    let chain = PresentedChain::parse(chain).expect("sound certificates");
    let anchors: Vec<Anchor> = anchors.iter().map(|a| anchor(a)).collect();
    verify_ca_path(&chain, &anchors, purpose, now)
}

fn anchor(authority: &Authority) -> Anchor {
    Anchor::from_der(&authority.der).expect("a CA")
}

fn key(certificate: &[u8]) -> KeyHash {
    KeyHash::of_spki(&RawCertificate::of(certificate).spki)
}

fn signature_of(certificate: &[u8]) -> Vec<u8> {
    use crate::certificates::{content, elements};
    content(elements(certificate)[2])[1..].to_vec()
}
