//! An authority is founded once, and its root key is not here.

use comity_certs::{AuthorityCertificate, AuthorityKind};
use comity_identity::{KeyHash, Signer};
use comity_record::{Freshness, KeyRole, KeyState};
use comity_store::{NetworkStore, StoreError};
use comity_trust::Standing;
use zeroize::Zeroizing;

use super::world::{DAY, HOUR, NOW, Node, ROOT, World, admission, key, network, open};
use crate::{Authority, AuthorityError, BUNDLE_LIFETIME, NewAuthority};

#[test]
fn a_founded_authority_is_recognised_at_once_by_its_own_home() {
    let world = World::new();
    assert_eq!(world.authority.network(), network());
    assert_eq!(world.authority.name(), "example");
    assert_eq!(Authority::list(&world.home).expect("a list"), [network()]);
    let networks = world.networks();
    let known = networks.by_label("example").expect("registered");
    assert_eq!(
        (known.id(), known.standing),
        (network(), Standing::Recognised)
    );
    assert_eq!(known.bundle.standing(NOW + HOUR), Freshness::Fresh);
    assert_eq!(known.bundle.expires(), NOW + BUNDLE_LIFETIME);
    assert_eq!(known.bundle.sequence(), NOW.as_secs());
    let keys = known.bundle.charter().keys();
    assert_eq!(keys.len(), 2);
    assert!(keys.iter().all(|key| key.state == KeyState::Active));
    let issuing = keys
        .iter()
        .find(|key| key.role == KeyRole::Issuing)
        .expect("one");
    assert!(matches!(
        issuing.details().kind(),
        AuthorityKind::Issuing { path_length: 1, .. }
    ));
    assert_eq!(known.bundle.signer(), issuing.key());
}

#[test]
fn the_root_key_is_nowhere_in_the_home() {
    let world = World::new();
    let secret = ROOT.to_pkcs8_der().expect("the key");
    let secret = &secret[30..60];
    let mut folders = vec![world.home.root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read(&path).expect("a file");
            assert!(!text.windows(secret.len()).any(|w| w == secret), "{path:?}");
            let root = KeyHash::of_spki(ROOT.spki()).to_hex();
            assert!(!path.to_string_lossy().ends_with(&format!("{root}.key")));
        }
    }
}

#[test]
fn one_root_founds_one_authority_in_a_home() {
    let world = World::new();
    let again = NewAuthority::named("other");
    assert!(matches!(
        Authority::create(&world.home, &again, &*ROOT, NOW, "test"),
        Err(AuthorityError::Store(StoreError::Exists { .. }))
    ));
    let other = Authority::create(
        &world.home,
        &NewAuthority::named("example"),
        &key(),
        NOW,
        "test",
    )
    .expect("another root of the same name");
    let networks = world.networks();
    assert_eq!(
        networks.get(&other.network()).expect("there").label,
        "example-2"
    );
}

#[test]
fn a_name_that_is_no_label_founds_nothing() {
    let world = World::new();
    for name in ["", "Example", "a b", "a:b", &"x".repeat(65)] {
        let new = NewAuthority::named(name);
        assert!(matches!(
            Authority::create(&world.home, &new, &key(), NOW, "test"),
            Err(AuthorityError::Label(_))
        ));
    }
    assert_eq!(Authority::list(&world.home).expect("a list").len(), 1);
}

#[test]
fn a_sealed_issuing_key_signs_once_it_is_unlocked() {
    let world = World::new();
    let new = NewAuthority {
        passphrase: Some("correct horse"),
        ..NewAuthority::named("sealed")
    };
    let root = key();
    let created = Authority::create(&world.home, &new, &root, NOW, "test").expect("founded");
    let mut authority = Authority::open(&world.home, created.network(), "test").expect("opened");
    let node = Node::new();
    assert!(matches!(
        authority.certify(&node.root, &admission("one"), NOW),
        Err(AuthorityError::Sealed(_))
    ));
    assert!(matches!(
        authority.refresh(NOW + DAY * 2),
        Err(AuthorityError::Sealed(_))
    ));
    let mut wrong = |_: &KeyHash| Ok(Zeroizing::new("wrong".to_owned()));
    assert!(matches!(
        authority.unlock(&mut wrong),
        Err(AuthorityError::Key(_))
    ));
    let mut asked = 0;
    authority
        .unlock(&mut |_| {
            asked += 1;
            Ok(Zeroizing::new("correct horse".to_owned()))
        })
        .expect("unlocked");
    assert_eq!(asked, 1);
    authority
        .certify(&node.root, &admission("one"), NOW)
        .expect("a member");
}

#[test]
fn an_authority_that_is_not_there_cannot_be_opened() {
    let world = World::new();
    let other = comity_identity::NodeId::of_spki(b"another");
    assert!(matches!(
        Authority::open(&world.home, other, "test"),
        Err(AuthorityError::Store(StoreError::Missing { .. }))
    ));
}

#[test]
fn a_bundle_is_made_anew_once_a_day_and_its_sequence_never_stays_behind_the_clock() {
    let mut world = World::new();
    assert!(
        world
            .authority
            .refresh(NOW + HOUR * 23)
            .expect("no need")
            .is_none()
    );
    let newer = world
        .authority
        .refresh(NOW + DAY)
        .expect("time")
        .expect("a bundle");
    assert_eq!(newer.sequence(), (NOW + DAY).as_secs());
    assert!(
        world
            .authority
            .refresh(NOW + DAY)
            .expect("no need")
            .is_none()
    );
    // Two changes in one second, and one with a clock that was set back.
    for now in [NOW + DAY, NOW + DAY, NOW] {
        let before = world.authority.bundle().expect("a bundle").sequence();
        world
            .authority
            .set_locations(Vec::new(), now)
            .expect("changed");
        let after = world.authority.bundle().expect("a bundle").sequence();
        assert_eq!(after, before + 1);
    }
    let known = world.networks();
    let held = known.get(&network()).expect("there");
    assert_eq!(
        held.bundle.sequence(),
        world.authority.bundle().expect("one").sequence()
    );
}

#[test]
fn a_home_that_forgot_the_network_gets_it_again_with_the_next_bundle() {
    let mut world = World::new();
    let store = NetworkStore::new(&world.home, "test");
    store.remove(&network()).expect("forgotten");
    world.authority.refresh(NOW + DAY).expect("time");
    assert!(world.networks().get(&network()).is_some());
}

#[test]
fn the_certificates_of_an_authority_are_of_the_profile() {
    let world = World::new();
    let root = world.authority.root().details();
    assert_eq!(root.kind(), &AuthorityKind::Root);
    AuthorityCertificate::from_der(root.der()).expect("the profile");
    assert_eq!(root.not_before(), NOW - HOUR);
    assert_eq!(open(&world.home).root().key(), root.key());
    let signer: &dyn Signer = &*ROOT;
    assert_eq!(root.key(), KeyHash::of_spki(signer.spki()));
}
