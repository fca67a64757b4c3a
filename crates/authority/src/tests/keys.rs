//! The authority's own keys are replaced without a member being cut off.

use comity_certs::AuthorityKind;
use comity_identity::KeyHash;
use comity_keys::SoftwareKey;
use comity_record::{
    Bundle, CharterError, CharterKey, Follow, KeyRole, KeyState, SigningError, SuccessorFault,
};
use comity_trust::AuthorityDoubt;

use super::world::{DAY, HOUR, NOW, Node, ROOT, World, admission, key, network, signer};
use crate::{Affected, Authority, AuthorityError, KeyOrder, LeafOrder};

#[test]
fn an_issuing_key_is_announced_used_retired_and_dropped_and_members_stay_members() {
    let mut world = World::new();
    let node = Node::new();
    let old = issuing(&world.authority, KeyState::Active);
    let first = world
        .authority
        .certify(&node.root, &admission("one"), NOW)
        .expect("a grant");
    let before = world.authority.bundle().expect("a bundle").clone();

    let next = world
        .authority
        .announce_key(signer(), &KeyOrder::default(), NOW + HOUR);
    let next = next.expect("announced");
    assert_eq!(issuing(&world.authority, KeyState::Next), next);
    let again = world
        .authority
        .certify(&node.root, &admission("one"), NOW + HOUR)
        .expect("a grant");
    assert_eq!(again.serial, first.serial, "nothing changed for members");

    world
        .authority
        .activate_key(signer(), &next, DAY * 400, NOW + DAY)
        .expect("active");
    assert_eq!(issuing(&world.authority, KeyState::Active), next);
    let bundle = world.authority.bundle().expect("a bundle").clone();
    assert_eq!(
        bundle.key_state(&old),
        Some(KeyState::Retiring {
            until: NOW + DAY * 401
        })
    );
    assert_eq!(bundle.signer(), next);
    node.path_below(&first.membership, &bundle, NOW + DAY)
        .expect("the old one counts");
    // Whoever asks gets one by the new key.
    let mut other = world.again();
    let renewed = other
        .renew(&node.root, None, &[], NOW + DAY)
        .expect("due")
        .expect("a grant");
    node.path(&renewed, NOW + DAY);
    assert!(matches!(
        Bundle::follow(&before, &bundle),
        Ok(Follow::Newer)
    ));

    assert!(matches!(
        world.authority.drop_key(signer(), &old, NOW + DAY * 401),
        Err(AuthorityError::KeyState {
            from: "retiring",
            ..
        })
    ));
    // The overlap is over; the certificate is good for two years.
    let early = world.authority.drop_key(signer(), &old, NOW + DAY * 402);
    let Err(AuthorityError::Successor(SuccessorFault::KeyDropped { key })) = early else {
        panic!("{early:?}");
    };
    assert_eq!(key, old);
    world
        .authority
        .drop_key(signer(), &old, NOW + DAY * 731)
        .expect("over");
    assert!(world.authority.charter().key(&old).is_none());
    assert!(world.authority.files().key(&old).expect("read").is_none());
    assert!(world.authority.files().key(&next).expect("read").is_some());
}

#[test]
fn an_issuing_key_is_rolled_in_one_step() {
    let mut world = World::new();
    let old = issuing(&world.authority, KeyState::Active);
    let new = world
        .authority
        .roll_issuing(signer(), &KeyOrder::default(), DAY * 30, NOW + HOUR)
        .expect("rolled");
    assert_eq!(issuing(&world.authority, KeyState::Active), new);
    let until = NOW + HOUR + DAY * 30;
    let state = world.authority.charter().key(&old).expect("there").state;
    assert_eq!(state, KeyState::Retiring { until });
    let node = Node::new();
    let grant = world
        .again()
        .certify(&node.root, &admission("one"), NOW + HOUR)
        .expect("a grant");
    node.path(&grant, NOW + HOUR);
}

#[test]
fn a_stolen_issuing_key_is_revoked_and_what_it_signed_counts_no_more() {
    let mut world = World::new();
    let node = Node::new();
    let stolen = issuing(&world.authority, KeyState::Active);
    let grant = world
        .authority
        .certify(&node.root, &admission("one"), NOW)
        .expect("a grant");
    // The last key that signs bundles cannot be revoked before there is another one.
    assert!(matches!(
        world.authority.revoke_key(signer(), &stolen, NOW),
        Err(AuthorityError::NoIssuingKey)
    ));
    let affected = world.authority.affected(&stolen, NOW).expect("a preview");
    assert_eq!((affected.certificates, affected.members.len()), (1, 1));
    assert_eq!(affected.members[0].label, "one");
    world
        .authority
        .roll_issuing(signer(), &KeyOrder::default(), DAY, NOW)
        .expect("rolled");
    world
        .authority
        .revoke_key(signer(), &stolen, NOW)
        .expect("revoked");
    // The certificate of the stolen key still leads to the root; that it is revoked is in the bundle.
    let issuer = node.path(&grant, NOW).cross.issuer_key;
    let networks = world.networks();
    let known = networks.get(&network()).expect("there");
    assert!(matches!(
        known.key_counts(issuer, NOW),
        Err(AuthorityDoubt::KeyRevoked { key }) if key == stolen
    ));
    assert!(
        world
            .authority
            .files()
            .key(&stolen)
            .expect("read")
            .is_none()
    );
    // Again is no mistake: a full disk may have kept its private half.
    let lock = world.home.lock().expect("the lock");
    let files = world.authority.files();
    files.add_key(&lock, &stolen, b"left").expect("left");
    drop(lock);
    world
        .authority
        .revoke_key(signer(), &stolen, NOW)
        .expect("revoked already");
    assert!(
        world
            .authority
            .files()
            .key(&stolen)
            .expect("read")
            .is_none()
    );
    assert!(matches!(
        world.authority.retire_key(signer(), &stolen, NOW, NOW),
        Err(AuthorityError::KeyState {
            from: "revoked",
            ..
        })
    ));
    // The member gets another membership by the key that is in use.
    let fresh = world
        .authority
        .certify(&node.root, &admission("one"), NOW)
        .expect("a grant");
    node.path(&fresh, NOW);
}

#[test]
fn a_root_is_rolled_and_readers_of_the_old_one_follow() {
    let mut world = World::new();
    let node = Node::new();
    let grant = world
        .authority
        .certify(&node.root, &admission("one"), NOW)
        .expect("a grant");
    let before = world.authority.bundle().expect("a bundle").clone();
    let new = key();
    world
        .authority
        .roll_root(signer(), &new, DAY * 30, NOW + DAY)
        .expect("rolled");

    assert_eq!(
        world.authority.network(),
        network(),
        "the network keeps its id"
    );
    assert_eq!(world.authority.root().key(), KeyHash::of_spki(new.spki()));
    assert_eq!(world.authority.links().len(), 1);
    let bundle = world.authority.bundle().expect("a bundle").clone();
    assert!(matches!(
        Bundle::follow(&before, &bundle),
        Ok(Follow::Newer)
    ));
    // Whoever was away walks from the founding root.
    let read = Bundle::parse_of(&network(), bundle.bytes()).expect("from the founding root");
    assert_eq!(read.charters().len(), 2);
    node.path_below(&grant.membership, &bundle, NOW + DAY)
        .expect("still a member");
    let issuing = world
        .authority
        .charter()
        .keys()
        .iter()
        .find(|k| k.role == KeyRole::Issuing);
    assert_eq!(
        issuing.expect("one").details().issuer_key(),
        KeyHash::of_spki(new.spki())
    );

    // The old root signs no more, and stays as long as its certificate does; members stay.
    assert!(matches!(
        world
            .authority
            .announce_key(&*ROOT, &KeyOrder::default(), NOW + DAY),
        Err(AuthorityError::NotOurRoot(_))
    ));
    let old = network().key_hash();
    assert!(matches!(
        world.authority.drop_key(&new, &old, NOW + DAY * 32),
        Err(AuthorityError::Successor(SuccessorFault::KeyDropped { .. }))
    ));
    let bundle = world
        .again()
        .refresh(NOW + DAY * 33)
        .expect("time")
        .expect("a bundle");
    let read = Bundle::parse_of(&network(), bundle.bytes()).expect("from the founding root");
    assert!(matches!(Bundle::follow(&before, &read), Ok(Follow::Newer)));
    node.path_below(&grant.membership, &read, NOW + DAY * 33)
        .expect("still a member");
    let leaf = world
        .authority
        .issue(&LeafOrder::named("db1"), NOW + DAY * 33)
        .expect("a leaf");
    assert_eq!(leaf.root, world.authority.root().details().der());
}

#[test]
fn a_replaced_root_is_revoked_while_an_issuing_key_retires_below_it() {
    let mut world = World::new();
    let node = Node::new();
    let retiring = issuing(&world.authority, KeyState::Active);
    let grant = world
        .authority
        .certify(&node.root, &admission("one"), NOW)
        .expect("a grant");
    world
        .authority
        .roll_issuing(signer(), &KeyOrder::default(), DAY * 30, NOW)
        .expect("rolled");
    let new = key();
    world
        .authority
        .roll_root(signer(), &new, DAY * 30, NOW)
        .expect("rolled");
    let old = network().key_hash();
    world
        .authority
        .check_revocation(&old, NOW)
        .expect("possible");
    world
        .authority
        .revoke_key(&new, &old, NOW)
        .expect("revoked");
    // What the retiring key signed counts by the new root, until its overlap ends.
    let charter = world.authority.charter();
    let state = charter.key(&retiring).expect("there").state;
    assert!(matches!(state, KeyState::Retiring { .. }));
    let bundle = world.authority.bundle().expect("a bundle");
    let read = Bundle::parse_of(&network(), bundle.bytes()).expect("from the founding root");
    node.path_below(&grant.membership, &read, NOW)
        .expect("still a member");
}

#[test]
fn another_machines_issuing_key_is_delegated_within_its_scope() {
    let mut world = World::new();
    let other = key();
    let order = KeyOrder {
        path_length: 0,
        dns: vec!["branch.example".into()],
        ..KeyOrder::default()
    };
    let certificate = world
        .authority
        .delegate(signer(), &request(&other), &order, NOW)
        .expect("delegated");
    let known = world
        .authority
        .charter()
        .key(&KeyHash::of_spki(other.spki()))
        .expect("there");
    assert_eq!(known.details().der(), certificate);
    assert!(matches!(
        known.details().kind(),
        AuthorityKind::Issuing { path_length: 0, dns, .. } if dns == &["branch.example"]
    ));
    // Rolling our own leaves it alone.
    let rolled = world
        .authority
        .roll_issuing(signer(), &KeyOrder::default(), DAY, NOW + HOUR);
    rolled.expect("rolled");
    let known = world
        .authority
        .charter()
        .key(&KeyHash::of_spki(other.spki()))
        .expect("there");
    assert_eq!(known.state, KeyState::Active);
}

#[test]
fn only_an_active_root_changes_keys() {
    let mut world = World::new();
    let stranger = key();
    let before = world.authority.charter().sequence();
    let issuing = issuing(&world.authority, KeyState::Active);
    let order = KeyOrder::default();
    let refused = [
        world
            .authority
            .announce_key(&stranger, &order, NOW)
            .map(|_| ()),
        world
            .authority
            .roll_issuing(&stranger, &order, DAY, NOW)
            .map(|_| ()),
        world.authority.revoke_key(&stranger, &issuing, NOW),
        world
            .authority
            .delegate(&stranger, &request(&stranger), &order, NOW)
            .map(|_| ()),
        world
            .authority
            .roll_root(&stranger, &key(), DAY, NOW)
            .map(|_| ()),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(AuthorityError::NotOurRoot(_))));
    }
    let unknown = KeyHash::of_spki(b"unknown");
    assert!(matches!(
        world.authority.activate_key(signer(), &unknown, DAY, NOW),
        Err(AuthorityError::UnknownKey(_))
    ));
    assert!(matches!(
        world.authority.activate_key(signer(), &issuing, DAY, NOW),
        Err(AuthorityError::KeyState { from: "active", .. })
    ));
    assert_eq!(world.authority.charter().sequence(), before);
}

#[test]
fn a_preview_of_a_root_counts_what_hangs_on_its_issuing_keys() {
    let mut world = World::new();
    for number in 0..3 {
        let label = format!("n{number}");
        let root = Node::new().root;
        world
            .authority
            .certify(&root, &admission(&label), NOW)
            .expect("a grant");
    }
    world
        .authority
        .issue(&LeafOrder::named("leaf"), NOW)
        .expect("a leaf");
    let issuing = issuing(&world.authority, KeyState::Active);
    let affected = world
        .authority
        .affected(&network().key_hash(), NOW)
        .expect("a preview");
    assert_eq!(affected.issuing_keys, [issuing]);
    assert_eq!((affected.certificates, affected.members.len()), (4, 3));
    let later = world
        .authority
        .affected(&issuing, NOW + DAY * 800)
        .expect("a preview");
    assert_eq!(later, Affected::default(), "what is over is not affected");
}

fn issuing(authority: &Authority, state: KeyState) -> KeyHash {
    let mut keys = authority.charter().keys().iter();
    keys.find(|key| key.role == KeyRole::Issuing && key.state == state)
        .expect("an issuing key in this state")
        .key()
}

#[test]
fn a_key_whose_holder_did_not_ask_for_this_network_is_not_delegated() {
    // What somebody sent to another authority is public there.
    let mut world = World::new();
    let other = key();
    let elsewhere = comity_identity::NodeId::from_bytes([7; 32]);
    for request in [
        CharterKey::proof(&other, &elsewhere).expect("a request"),
        comity_certs::mint_csr(&other, "build").expect("a request"),
    ] {
        let order = KeyOrder::default();
        let refused = world.authority.delegate(signer(), &request, &order, NOW);
        let Err(AuthorityError::Charter(SigningError::Refused(error))) = refused else {
            panic!("{refused:?}");
        };
        assert!(matches!(error, CharterError::Possession { .. }), "{error}");
    }
    let text = pem_rfc7468::encode_string(
        "CERTIFICATE REQUEST",
        pem_rfc7468::LineEnding::LF,
        &request(&other),
    );
    let order = KeyOrder::default();
    let text = text.expect("PEM");
    let made = world
        .authority
        .delegate(signer(), text.as_bytes(), &order, NOW);
    made.expect("delegated");
}

fn request(key: &SoftwareKey) -> Vec<u8> {
    CharterKey::proof(key, &network()).expect("a request")
}
