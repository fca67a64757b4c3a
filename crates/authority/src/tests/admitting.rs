//! Members: cross-certificates that every reader of the bundle finds a path through.

use std::time::Duration;

use comity_certs::{AuthorityRootRequest, mint_authority_root};
use comity_identity::{Fingerprint, KeyHash};
use comity_record::{SuccessionChain, SuccessionRequest};

use super::world::{DAY, HOUR, NOW, Node, World, admission, key};
use crate::{Admission, AuthorityError, Grant, MEMBER_LIFETIME, MemberState, Selector};

#[test]
fn a_member_is_recognised_by_whoever_has_the_bundle() {
    let mut world = World::new();
    let node = Node::new();
    let grant = world
        .authority
        .certify(&node.root, &admission("one"), NOW)
        .expect("a grant");
    assert_eq!(grant.membership.len(), 2);
    assert_eq!(grant.not_after, NOW + MEMBER_LIFETIME);
    let path = node.path(&grant, NOW);
    assert_eq!(path.cross.key, node.hash());
    assert_eq!(path.cross.serial, grant.serial);
    let attested = path.cross.metadata.expect("metadata");
    assert_eq!(attested.networks(), ["example"]);
    assert_eq!(attested.roles(), ["backup"]);
    let members = world.authority.members(NOW).expect("members");
    assert_eq!(members.len(), 1);
    assert_eq!(
        (members[0].label.as_str(), members[0].key),
        ("one", node.hash())
    );
    assert_eq!(
        (members[0].days_left, &members[0].state),
        (365, &MemberState::Active)
    );
    assert_eq!(members[0].roles, ["backup"]);
}

#[test]
fn another_organisations_root_is_cross_certified_like_a_nodes() {
    let mut world = World::new();
    let other = key();
    let request = AuthorityRootRequest {
        serial: [0x42; 16],
        not_before: NOW - DAY,
        not_after: NOW + DAY * 3650,
    };
    let root = mint_authority_root(&other, &request).expect("a root");
    world
        .authority
        .certify(&root, &admission("bank"), NOW)
        .expect("a grant");
    let members = world.authority.members(NOW).expect("members");
    assert_eq!(members[0].key, KeyHash::of_spki(other.spki()));
}

#[test]
fn asking_again_gives_the_same_membership_until_it_wants_renewal() {
    let mut world = World::new();
    let node = Node::new();
    let first = world
        .authority
        .certify(&node.root, &admission("one"), NOW)
        .expect("a grant");
    let again = world
        .again()
        .certify(&node.root, &admission("one"), NOW + DAY)
        .expect("the same");
    assert_eq!(again.serial, first.serial);
    let other_roles = Admission {
        roles: vec!["web".into()],
        ..admission("one")
    };
    let changed = world
        .authority
        .certify(&node.root, &other_roles, NOW + DAY)
        .expect("another");
    assert_ne!(changed.serial, first.serial);
    let late = NOW + MEMBER_LIFETIME / 3 * 2 + DAY;
    let renewed = world
        .authority
        .certify(&node.root, &other_roles, late)
        .expect("renewed");
    assert_ne!(renewed.serial, changed.serial);
}

#[test]
fn a_label_is_one_members_until_that_one_is_gone() {
    let mut world = World::new();
    let (one, two) = (Node::new(), Node::new());
    world
        .authority
        .certify(&one.root, &admission("one"), NOW)
        .expect("a grant");
    assert!(matches!(
        world.authority.certify(&two.root, &admission("one"), NOW),
        Err(AuthorityError::LabelTaken { key, .. }) if key == one.hash()
    ));
    let label = Selector::Label("one".into());
    world
        .authority
        .withdraw(&label, "left", NOW)
        .expect("withdrawn");
    world
        .authority
        .certify(&two.root, &admission("one"), NOW)
        .expect("free now");
    let nameless = Admission::default();
    world
        .authority
        .certify(&Node::new().root, &nameless, NOW)
        .expect("a label is made");
    for label in ["", "One", "a b"] {
        assert!(matches!(
            world.authority.certify(&two.root, &admission(label), NOW),
            Err(AuthorityError::Label(_))
        ));
    }
}

#[test]
fn a_validity_past_the_issuer_is_refused_and_the_default_stops_there() {
    let mut world = World::new();
    let asked = |lifetime| Admission {
        lifetime: Some(lifetime),
        ..admission("one")
    };
    let two_years = Duration::from_secs(2 * 365 * 86_400);
    let node = Node::new();
    match world
        .authority
        .certify(&node.root, &asked(two_years + HOUR), NOW)
    {
        Err(AuthorityError::PastIssuer { asked, end }) => {
            assert_eq!((asked, end), (NOW + two_years + HOUR, NOW + two_years));
        }
        other => panic!("{other:?}"),
    }
    let grant = world
        .authority
        .certify(&node.root, &asked(two_years), NOW)
        .expect("at the limit");
    assert_eq!(grant.not_after, NOW + two_years);
    let late = NOW + two_years - DAY * 10;
    let clamped = world
        .authority
        .certify(&Node::new().root, &admission("late"), late);
    assert_eq!(clamped.expect("a grant").not_after, NOW + two_years);
}

#[test]
fn what_is_no_root_makes_no_member() {
    let mut world = World::new();
    let node = Node::new();
    let leaf = node.chain(&[], NOW).remove(0);
    for bad in [&b"x"[..], &[], &leaf] {
        assert!(matches!(
            world.authority.certify(bad, &admission("one"), NOW),
            Err(AuthorityError::NotARoot { .. })
        ));
    }
    assert!(world.authority.members(NOW).expect("members").is_empty());
}

#[test]
fn renewal_comes_at_two_thirds_and_for_members_only() {
    let mut world = World::new();
    let node = Node::new();
    assert!(matches!(
        world.authority.renew(&node.root, None, &[], NOW),
        Err(AuthorityError::NotFound(_))
    ));
    let first = world
        .authority
        .certify(&node.root, &admission("one"), NOW)
        .expect("a grant");
    let due = NOW - HOUR + (MEMBER_LIFETIME + HOUR) / 3 * 2;
    let early = due - HOUR;
    assert!(
        world
            .authority
            .renew(&node.root, None, &shown(&first), early)
            .expect("no need")
            .is_none()
    );
    let renewed = world
        .authority
        .renew(&node.root, None, &[], due)
        .expect("due")
        .expect("a grant");
    assert_ne!(renewed.serial, first.serial);
    assert_eq!(
        node.path(&first, due).cross.metadata,
        node.path(&renewed, due).cross.metadata
    );
    world
        .authority
        .withdraw(&Selector::Key(node.hash()), "left", due)
        .expect("withdrawn");
    assert!(matches!(
        world.authority.renew(&node.root, None, &[], due),
        Err(AuthorityError::NotFound(_))
    ));
}

#[test]
fn a_renewed_membership_that_was_lost_on_its_way_is_given_again() {
    let mut world = World::new();
    let node = Node::new();
    let first = world
        .authority
        .certify(&node.root, &admission("one"), NOW)
        .expect("a grant");
    let late = NOW + MEMBER_LIFETIME - DAY;
    let mut renewal = |presented: &[Fingerprint]| {
        let renewed = world.authority.renew(&node.root, None, presented, late);
        renewed.expect("a member")
    };
    let lost = renewal(&shown(&first)).expect("due");
    assert_ne!(lost.serial, first.serial);
    // The connection broke before it came: the member still shows the old one.
    let again = renewal(&shown(&first)).expect("given again");
    assert_eq!(again.membership, lost.membership);
    assert_eq!(renewal(&shown(&lost)), None);
    // A key that follows a member's loses its first membership as easily.
    let node = Node::new();
    let first = world
        .authority
        .certify(&node.root, &admission("two"), NOW)
        .expect("a grant");
    let (new, chain) = succeed(node, None);
    let mut renewal = |presented: &[Fingerprint]| {
        let renewed = (world.authority).renew(&new.0.root, Some(&chain), presented, NOW);
        renewed.expect("followed")
    };
    let lost = renewal(&shown(&first)).expect("a grant");
    let again = renewal(&shown(&first)).expect("given again");
    assert_eq!(again.membership, lost.membership);
    assert_eq!(renewal(&shown(&lost)), None);
}

#[test]
fn a_member_that_changes_its_key_stays_one_and_the_old_key_ends_with_the_overlap() {
    let mut world = World::new();
    let old = Node::new();
    world
        .authority
        .certify(&old.root, &admission("one"), NOW)
        .expect("a grant");
    let (new, chain) = succeed(old, None);
    let grant = world
        .authority
        .renew(&new.0.root, Some(&chain), &[], NOW + HOUR);
    let grant = grant.expect("followed").expect("a grant");
    let path = new.0.path(&grant, NOW + HOUR);
    assert_eq!(path.cross.metadata.expect("metadata").roles(), ["backup"]);
    // Asking again gives the same, and no second membership.
    assert!(
        world
            .again()
            .renew(&new.0.root, Some(&chain), &shown(&grant), NOW + HOUR)
            .expect("no need")
            .is_none()
    );

    let members = world.authority.members(NOW + HOUR).expect("members");
    let state = |key| {
        members
            .iter()
            .find(|m| m.key == key)
            .expect("there")
            .state
            .clone()
    };
    assert_eq!(state(new.0.hash()), MemberState::Active);
    assert_eq!(
        state(new.1),
        MemberState::Superseded {
            by: new.0.hash(),
            at: NOW + DAY * 7
        }
    );
    // Until the overlap is over, both count; then the old one is withdrawn.
    let last = world
        .authority
        .refresh(NOW + DAY * 7)
        .expect("time")
        .expect("a bundle");
    assert!(last.withdrawn().is_empty());
    let ended = world
        .authority
        .refresh(NOW + DAY * 7 + HOUR)
        .expect("time")
        .expect("a bundle");
    assert_eq!(ended.withdrawn().len(), 1);
    let after = world
        .authority
        .refresh(NOW + DAY * 9)
        .expect("time")
        .expect("a bundle");
    assert_eq!(after.withdrawn().len(), 1);
    let members = world.authority.members(NOW + DAY * 9).expect("members");
    let gone = members.iter().find(|m| m.key == new.1).expect("there");
    assert_eq!(gone.state, MemberState::Withdrawn);
}

#[test]
fn a_successor_that_was_not_committed_to_gets_nothing() {
    let mut world = World::new();
    let old = Node::new();
    world
        .authority
        .certify(&old.root, &admission("one"), NOW)
        .expect("a grant");
    let committed = KeyHash::of_spki(old.next.spki());
    let (thief, chain) = succeed(old, Some(key()));
    match world.authority.renew(&thief.0.root, Some(&chain), &[], NOW) {
        Err(AuthorityError::Forked { known, claimed, .. }) => {
            assert_eq!((known, claimed), (committed, thief.0.id()));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.authority.members(NOW).expect("members").len(), 1);
}

#[test]
fn of_two_successors_the_first_stays_the_one() {
    let mut world = World::new();
    // A root that commits to nothing: nobody can tell the two apart.
    let old = key();
    let request = comity_certs::RootRequest {
        next: None,
        serial: [0x42; 16],
        not_before: NOW - DAY,
    };
    let root = comity_certs::mint_root(&old, &request).expect("a root");
    world
        .authority
        .certify(&root, &admission("one"), NOW)
        .expect("a grant");
    let (first, second) = (Node::new(), Node::new());
    let chain =
        |new: &Node| SuccessionChain::new(statement(None).sign(&old, &new.key).expect("signed"));
    world
        .authority
        .renew(&first.root, Some(&chain(&first)), &[], NOW)
        .expect("followed");
    match world
        .authority
        .renew(&second.root, Some(&chain(&second)), &[], NOW)
    {
        Err(AuthorityError::Forked { known, .. }) => assert_eq!(known, first.hash()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_statement_about_somebody_else_or_another_network_helps_nobody() {
    let mut world = World::new();
    let (member, stranger) = (Node::new(), Node::new());
    world
        .authority
        .certify(&member.root, &admission("one"), NOW)
        .expect("a grant");
    let ((new, _), chain) = succeed(stranger, None);
    assert!(matches!(
        world.authority.renew(&new.root, Some(&chain), &[], NOW),
        Err(AuthorityError::NoSuccessor(_))
    ));
    // A statement that ends at another key than the one that shows it.
    assert!(matches!(
        world
            .authority
            .renew(&Node::new().root, Some(&chain), &[], NOW),
        Err(AuthorityError::NoSuccessor(_))
    ));
    let other = comity_identity::NodeId::of_spki(b"another network");
    let successor = Node::with_key(member.next);
    let statement = statement(Some(other))
        .sign(&member.key, &successor.key)
        .expect("signed");
    assert!(matches!(
        world.authority.renew(
            &successor.root,
            Some(&SuccessionChain::new(statement)),
            &[],
            NOW
        ),
        Err(AuthorityError::NoSuccessor(_))
    ));
}

/// The node that follows another one, the hash of the old key, and the statement of both.
fn succeed(
    old: Node,
    instead: Option<comity_keys::SoftwareKey>,
) -> ((Node, KeyHash), SuccessionChain) {
    let hash = old.hash();
    let new = Node::with_key(instead.unwrap_or(old.next));
    let statement = statement(None).sign(&old.key, &new.key).expect("signed");
    ((new, hash), SuccessionChain::new(statement))
}

fn statement(network: Option<comity_identity::NodeId>) -> SuccessionRequest {
    SuccessionRequest {
        network,
        sequence: 1,
        previous: None,
        issued: NOW,
        overlap_end: NOW + DAY * 7,
        next: None,
        reason: None,
    }
}

/// What a node presents that has this membership.
fn shown(grant: &Grant) -> Vec<Fingerprint> {
    let membership = grant.membership.iter();
    membership
        .map(|der| Fingerprint::of_certificate(der))
        .collect()
}
