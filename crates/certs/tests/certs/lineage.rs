//! Whether an authority issued a chain, whatever its dates and uses.

use comity_certs::limits::MAX_PATH_SIGNATURES;
use comity_certs::{Anchor, PresentedChain, authority_above};
use comity_identity::Fingerprint;
use rcgen::{GeneralSubtree, KeyUsagePurpose, NameConstraints};

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
    // And one signature more than are verified.
    let issuer = Foreign::authority("corp").root();
    let leaf = Foreign::server("db1.example").issued_by(&issuer);
    let others: Vec<Authority> = (0..=MAX_PATH_SIGNATURES)
        .map(|_| Foreign::authority("corp").root())
        .collect();
    let others: Vec<&Authority> = others.iter().collect();
    assert_eq!(above(&leaf.chain, &others[1..]), None);
    assert!(above(&leaf.chain, &others).is_some());
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
