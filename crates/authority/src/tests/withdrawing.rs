//! A withdrawal is published at once and never forgotten.

use comity_record::WithdrawnWhat;
use comity_store::{IssuedState, MAX_WORD};

use super::world::{DAY, HOUR, NOW, Node, World, admission, network};
use crate::{AuthorityError, LeafOrder, MemberState, Selector};

#[test]
fn a_withdrawn_membership_is_in_the_bundle_and_on_this_machine_at_once() {
    let mut world = World::new();
    let node = Node::new();
    let grant = world
        .authority
        .certify(&node.root, &admission("one"), NOW)
        .expect("a grant");
    let label = Selector::Label("one".into());
    let gone = world
        .authority
        .withdraw(&label, "left", NOW + HOUR)
        .expect("withdrawn");
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].serial, grant.serial);
    let path = node.path(&grant, NOW + HOUR);
    let networks = world.networks();
    let known = networks.get(&network()).expect("there");
    let issued = path
        .issued
        .iter()
        .find(|i| i.key == node.hash())
        .expect("the cross-certificate");
    assert!(known.withdrew(issued));
    let found = world
        .authority
        .find(&Selector::Serial(grant.serial))
        .expect("found");
    let reason = "left".to_owned();
    assert_eq!(
        found[0].state,
        IssuedState::Withdrawn {
            at: NOW + HOUR,
            reason
        }
    );
    let members = world.again().members(NOW + HOUR).expect("members");
    assert_eq!(members[0].state, MemberState::Withdrawn);
    // Once is enough.
    assert!(matches!(
        world.authority.withdraw(&label, "left", NOW + HOUR),
        Err(AuthorityError::NotFound(_))
    ));
}

#[test]
fn a_member_that_was_removed_may_come_back_and_a_withdrawn_key_may_not() {
    let mut world = World::new();
    let node = Node::new();
    world
        .authority
        .certify(&node.root, &admission("one"), NOW)
        .expect("a grant");
    world
        .authority
        .withdraw(&Selector::Key(node.hash()), "left", NOW)
        .expect("withdrawn");
    world
        .authority
        .certify(&node.root, &admission("one"), NOW)
        .expect("back again");
    let gone = world
        .authority
        .withdraw_key(&node.hash(), "stolen", NOW)
        .expect("withdrawn");
    assert_eq!(gone.len(), 1);
    let bundle = world.authority.bundle().expect("a bundle");
    let keys = bundle
        .withdrawn()
        .iter()
        .filter(|w| w.what == WithdrawnWhat::Key(node.hash()));
    assert_eq!(keys.count(), 1);
    for mut authority in [world.again(), world.again()] {
        assert!(matches!(
            authority.certify(&node.root, &admission("one"), NOW),
            Err(AuthorityError::Withdrawn(key)) if key == node.hash()
        ));
        let order = LeafOrder {
            spki: Some(comity_identity::Signer::spki(&node.key).to_vec()),
            ..LeafOrder::named("one")
        };
        assert!(matches!(
            authority.issue(&order, NOW),
            Err(AuthorityError::Withdrawn(_))
        ));
    }
}

#[test]
fn withdrawals_stay_in_every_later_bundle() {
    let mut world = World::new();
    let node = Node::new();
    world
        .authority
        .certify(&node.root, &admission("one"), NOW)
        .expect("a grant");
    world
        .authority
        .withdraw(&Selector::Key(node.hash()), "left", NOW)
        .expect("withdrawn");
    for day in 1..4 {
        let bundle = world
            .again()
            .refresh(NOW + DAY * day)
            .expect("time")
            .expect("a bundle");
        assert_eq!(bundle.withdrawn().len(), 1);
    }
}

#[test]
fn nothing_is_withdrawn_for_what_was_never_issued_or_for_no_reason_at_all() {
    let mut world = World::new();
    let before = world.authority.bundle().expect("a bundle").sequence();
    let stranger = Node::new().hash();
    for selector in [
        Selector::Serial([0x41; 16]),
        Selector::Key(stranger),
        Selector::Label("nobody".into()),
    ] {
        assert!(matches!(
            world.authority.withdraw(&selector, "", NOW),
            Err(AuthorityError::NotFound(_))
        ));
    }
    let long = "x".repeat(MAX_WORD + 1);
    assert!(matches!(
        world.authority.withdraw_key(&stranger, &long, NOW),
        Err(AuthorityError::Ledger(_))
    ));
    assert_eq!(
        world.authority.bundle().expect("a bundle").sequence(),
        before
    );
    let longest = "x".repeat(MAX_WORD);
    world
        .authority
        .withdraw_key(&stranger, &longest, NOW)
        .expect("a key we never certified");
}

#[test]
fn what_ends_soon_is_listed_in_order_without_what_was_withdrawn() {
    let mut world = World::new();
    let leaf = |name: &str, days| LeafOrder {
        lifetime: Some(DAY * days),
        ..LeafOrder::named(name)
    };
    for (name, days) in [("c", 9), ("a", 3), ("b", 5), ("late", 20)] {
        world
            .authority
            .issue(&leaf(name, days), NOW)
            .expect("a leaf");
    }
    world
        .authority
        .withdraw(&Selector::Label("b".into()), "left", NOW)
        .expect("withdrawn");
    let ending = world.authority.expiring(DAY * 10, NOW).expect("a list");
    let labels: Vec<&str> = ending.iter().map(|c| c.about.label.as_str()).collect();
    assert_eq!(labels, ["a", "c"]);
}
