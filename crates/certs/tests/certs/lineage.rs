//! Whether an authority issued a chain, whatever its dates and uses.

use comity_certs::limits::MAX_PATH_SIGNATURES;
use comity_certs::{Anchor, PresentedChain, authority_above};
use comity_identity::Fingerprint;
use rcgen::{CustomExtension, GeneralSubtree, KeyUsagePurpose, NameConstraints};

use crate::certificates::{Authority, DAY, Foreign, ForeignKey, Node, TODAY};

#[test]
fn whatever_an_authority_signed_is_below_it_at_any_time_and_for_any_use() {
    let old = Foreign {
        not_after: TODAY - DAY,
        ..Foreign::authority("corp")
    };
    let nowhere = Foreign {
        ca: Some(Some(0)),
        name_constraints: Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("nowhere.example".into())],
            excluded_subtrees: vec![],
        }),
        ..Foreign::authority("corp")
    };
    for authority in [Foreign::authority("corp"), old.clone(), nowhere] {
        let authority = authority.root();
        let expired = Foreign {
            not_after: TODAY - DAY,
            ..Foreign::server("db1.example")
        };
        let may_sign = Foreign {
            key_usages: vec![KeyUsagePurpose::KeyCertSign],
            ..Foreign::server("db1.example")
        };
        for leaf in [
            Foreign::server("db1.example"),
            Foreign::client("laptop"),
            expired,
            may_sign,
            Foreign::authority("sub"),
        ] {
            let leaf = leaf.issued_by(&authority);
            assert_eq!(
                above(&leaf.chain, &[&authority]),
                Some(fingerprint(&authority))
            );
        }
        // Certificates in between that could not be on a path: expired, or not for issuing.
        let no_ca = Foreign {
            ca: None,
            key_usages: vec![KeyUsagePurpose::DigitalSignature],
            ..Foreign::authority("middle")
        };
        for middle in [Foreign::authority("middle"), old.clone(), no_ca] {
            let middle = middle.intermediate(&authority);
            let low = Foreign::authority("low").intermediate(&middle);
            let leaf = Foreign::server("db1.example").issued_by(&low);
            for others in [[&low.der, &middle.der], [&middle.der, &low.der]] {
                let others = others.map(Vec::as_slice);
                let chain = leaf.clone().followed_by(&others).chain;
                assert_eq!(above(&chain, &[&authority]), Some(fingerprint(&authority)));
            }
        }
    }
}

#[test]
fn certificates_put_around_an_intermediate_do_not_hide_it() {
    let corp = Foreign::authority("corp").root();
    let middle = Foreign::authority("middle").intermediate(&corp);
    let leaf = Foreign::client("laptop").issued_by(&middle);
    let fake_corp = Foreign::authority("corp").root();
    let mut others: Vec<Vec<u8>> = (0..5)
        .map(|_| Foreign::authority("middle").root().der)
        .collect();
    others.push(Foreign::authority("middle").intermediate(&fake_corp).der);
    others.push(middle.der.clone());
    let others: Vec<&[u8]> = others.iter().map(Vec::as_slice).collect();
    let chain = leaf.clone().followed_by(&others).chain;
    assert_eq!(above(&chain, &[&corp]), Some(fingerprint(&corp)));
    // What is not presented cannot be seen.
    assert_eq!(above(&leaf.chain, &[&corp]), None);
}

#[test]
fn nobody_is_below_an_authority_that_signed_nothing_for_them() {
    let corp = Foreign::authority("corp").root();
    let same_name = Foreign::authority("corp").root();
    let leaf = Foreign::server("db1.example").issued_by(&same_name);
    assert_eq!(above(&leaf.chain, &[&corp]), None);
    let ed25519 = Foreign {
        key: ForeignKey::Ed25519,
        ..Foreign::authority("corp")
    };
    assert_eq!(
        above(&leaf.chain, &[&ed25519.root()]),
        None,
        "another kind of key"
    );
    let with_root = leaf.clone().followed_by(&[&same_name.der, &corp.der]);
    assert_eq!(above(&with_root.chain, &[&corp]), None, "merely present");
    let own = Foreign::server("db1.example").self_signed();
    assert_eq!(above(&own.chain, &[&corp]), None);
    assert_eq!(above(&Node::new().serve.chain, &[&corp]), None);
    assert_eq!(above(&leaf.chain, &[]), None);
}

#[test]
fn of_several_authorities_the_one_above_is_found() {
    let others = ["corp", "other"].map(|name| Foreign::authority(name).root());
    let corp = Foreign::authority("corp").root();
    let leaf = Foreign::server("db1.example").issued_by(&corp);
    let all = [&others[0], &others[1], &corp];
    assert_eq!(above(&leaf.chain, &all), Some(fingerprint(&corp)));
}

#[test]
fn what_cannot_be_verified_counts_as_below() {
    // P-521 is not accepted anywhere.
    let corp = Foreign {
        key: ForeignKey::P521,
        ..Foreign::authority("corp")
    };
    let corp = corp.root();
    let leaf = Foreign::server("db1.example").issued_by(&corp);
    assert_eq!(above(&leaf.chain, &[&corp]), Some(fingerprint(&corp)));
}

#[test]
fn revoked_generations_of_one_name_do_not_speak_for_the_living_one() {
    let living = Foreign::authority("corp").root();
    let leaf = Foreign::server("db1.example").issued_by(&living);
    let mut revoked: Vec<Authority> = (0..2 * MAX_PATH_SIGNATURES)
        .map(|_| Foreign::authority("corp").root())
        .collect();
    let chain = leaf.followed_by(&[&living.der]).chain;
    assert_eq!(above(&chain, &revoked.iter().collect::<Vec<_>>()), None);
    // After all of them the one that did sign is still found, and it is the one named.
    let expected = fingerprint(&living);
    revoked.push(living);
    let all: Vec<&Authority> = revoked.iter().collect();
    assert_eq!(above(&chain, &all), Some(expected));
}

#[test]
fn one_signature_more_than_are_verified_for_an_authority_counts_as_below() {
    // The authority and each certificate of its name that it signed are asked about the leaf and
    // about each certificate of their name that nobody signed; the authority also about those that
    // it did sign. One below `sub` is asked about by `sub` alone, which makes two more.
    let corp = Foreign::authority("corp").root();
    let sub = Foreign::authority("sub").intermediate(&corp);
    let other_sub = Foreign::authority("sub").root();
    let below_sub = Foreign::authority("corp").intermediate(&other_sub);
    let stranger = Foreign::authority("corp").root();
    let leaf = Foreign::server("db1.example").issued_by(&stranger);
    let with = |signed: usize, unsigned: usize| {
        let signed = (0..signed).map(|_| Foreign::authority("corp").intermediate(&corp).der);
        let unsigned = (0..unsigned).map(|_| Foreign::authority("corp").root().der);
        let mut others: Vec<Vec<u8>> = signed.chain(unsigned).collect();
        others.extend([sub.der.clone(), below_sub.der.clone()]);
        let others: Vec<&[u8]> = others.iter().map(Vec::as_slice).collect();
        above(&leaf.clone().followed_by(&others).chain, &[&corp])
    };
    assert_eq!((1 + 4) * (1 + 1) + 4 + 2, MAX_PATH_SIGNATURES);
    assert_eq!(with(4, 1), None);
    assert_eq!((1 + 3) * (1 + 2) + 3 + 2, MAX_PATH_SIGNATURES + 1);
    assert_eq!(with(3, 2), Some(fingerprint(&corp)));
}

#[test]
fn a_wrong_key_identifier_does_not_hide_who_signed() {
    // Whoever holds the authority's key chooses what the leaf says of it.
    let corp = Foreign::authority("corp").root();
    let mut key_id = vec![0x30, 0x16, 0x80, 0x14];
    key_id.extend([0x5a; 20]);
    let leaf = Foreign {
        extensions: vec![CustomExtension::from_oid_content(&[2, 5, 29, 35], key_id)],
        ..Foreign::server("db1.example")
    };
    let leaf = leaf.issued_by(&corp);
    assert_eq!(above(&leaf.chain, &[&corp]), Some(fingerprint(&corp)));
}

fn above(chain: &[Vec<u8>], authorities: &[&Authority]) -> Option<Fingerprint> {
    let chain = PresentedChain::parse(chain).expect("sound certificates");
    let anchors: Vec<Anchor> = authorities
        .iter()
        .map(|authority| Anchor::from_der(&authority.der).expect("a CA"))
        .collect();
    authority_above(&chain, &anchors)
}

fn fingerprint(authority: &Authority) -> Fingerprint {
    Fingerprint::of_certificate(&authority.der)
}
