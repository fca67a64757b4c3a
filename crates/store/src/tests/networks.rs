//! The authorities of a home, with bundles that are signed as they are in the world.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use comity_certs::{AuthorityRootRequest, mint_authority_root};
use comity_identity::{Algorithm, KeyHash, NodeId, Signer, UnixTime};
use comity_keys::SoftwareKey;
use comity_record::{
    Bundle, BundleRequest, Charter, CharterKey, CharterRequest, KeyState, Withdrawal, Withdrawn,
    WithdrawnWhat,
};

use comity_trust::Standing;

use super::support::{
    DAY, MODEL_HOME, TestHome, child, child_task, model_home, open_on, succeeded,
};
use crate::audit::AuditLog;
use crate::error::StoreError;
use crate::fault::{Fault, FaultDisk};
use crate::home::{Home, HomeFile};
use crate::networks::{
    MAX_MEMBERSHIP, MAX_MEMBERSHIP_DER, MAX_NETWORKS, NetworkError, NetworkRecord, NetworkStore,
    Updated,
};
use crate::peers::{Health, POLL_EVERY, PeerStore};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_network_is_entered_found_relabelled_and_removed() {
    let test = TestHome::in_memory();
    let store = store(&test.home);
    assert!(store.list().expect("none").is_empty());
    let one = org(1);
    store.add(record(one, "one", 1)).expect("entered");
    let found = store.find(&one.id).expect("read").expect("there");
    assert_eq!(found, record(one, "one", 1));
    store.relabel(&one.id, "uno").expect("relabelled");
    store
        .set_standing(&one.id, Standing::Followed)
        .expect("changed");
    store
        .set_membership(&one.id, vec![vec![1; 10]])
        .expect("changed");
    let found = super_store(&test.home)
        .find(&one.id)
        .expect("read")
        .expect("there");
    assert_eq!(
        (found.label.as_str(), found.standing),
        ("uno", Standing::Followed)
    );
    assert_eq!(found.membership, [vec![1; 10]]);
    assert_eq!(store.remove(&one.id).expect("removed"), found);
    assert!(store.list().expect("none").is_empty());
    let unknown = store.remove(&one.id);
    assert!(matches!(unknown, Err(NetworkError::Unknown(id)) if id == one.id));
    let log = AuditLog::new(&test.home, "test").tail(10).expect("a log");
    let actions: Vec<&str> = log.lines.iter().map(|line| line.action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "network-add",
            "network-label",
            "network-standing",
            "network-membership",
            "network-remove"
        ]
    );
}

#[test]
fn two_networks_of_one_name_stay_apart_and_need_two_labels() {
    let test = TestHome::in_memory();
    let store = store(&test.home);
    store.add(record(org(1), "ops", 1)).expect("entered");
    match store.add(record(org(2), "ops", 1)) {
        Err(NetworkError::LabelTaken { network, .. }) => assert_eq!(network, org(1).id),
        other => panic!("{other:?}"),
    }
    store.add(record(org(2), "ops-2", 1)).expect("entered");
    assert!(matches!(
        store.add(record(org(1), "again", 1)),
        Err(NetworkError::Known { label, .. }) if label == "ops"
    ));
    assert!(matches!(
        store.relabel(&org(2).id, "ops"),
        Err(NetworkError::LabelTaken { .. })
    ));
    assert!(matches!(
        store.relabel(&org(2).id, "a:b"),
        Err(NetworkError::Label(_))
    ));
}

#[test]
fn a_bundle_that_does_not_hold_or_is_anothers_is_refused() {
    let test = TestHome::in_memory();
    let store = store(&test.home);
    let mut foreign = record(org(1), "one", 1);
    foreign.network = org(2).id;
    assert!(matches!(
        store.add(foreign),
        Err(NetworkError::Bundle { .. })
    ));
    store.add(record(org(1), "one", 1)).expect("entered");
    let mut cut = bundle(org(1), 2, &[]);
    cut.pop();
    for bytes in [cut, bundle(org(2), 2, &[]), Vec::new()] {
        assert!(matches!(
            store.update_bundle(&org(1).id, &bytes, DAY),
            Err(NetworkError::Bundle { .. })
        ));
    }
    assert!(matches!(
        store.update_bundle(&org(2).id, &bundle(org(2), 2, &[]), DAY),
        Err(NetworkError::Unknown(_))
    ));
}

#[test]
fn a_newer_bundle_is_taken_and_an_older_one_refused() {
    let test = TestHome::in_memory();
    let store = store(&test.home);
    let one = org(1);
    store.add(record(one, "one", 5)).expect("entered");
    let newer = bundle(one, 6, &[]);
    let updated = store
        .update_bundle(&one.id, &newer, DAY + HOUR)
        .expect("newer");
    assert_eq!(updated, Updated::Newer);
    let updated = store
        .update_bundle(&one.id, &newer, DAY + HOUR * 3)
        .expect("the same");
    assert_eq!(updated, Updated::Same);
    assert!(matches!(
        store.update_bundle(&one.id, &bundle(one, 5, &[]), DAY + HOUR * 4),
        Err(NetworkError::Follow { .. })
    ));
    let held = store.find(&one.id).expect("read").expect("there");
    assert_eq!(held.bundle, newer);
    assert_eq!(held.refreshed, DAY + HOUR * 3);
}

#[test]
fn a_removed_member_who_shows_an_old_bundle_keeps_nobody_from_asking() {
    let test = TestHome::in_memory();
    let store = store(&test.home);
    let one = org(1);
    store.add(record(one, "one", 5)).expect("entered");
    let entered = store.find(&one.id).expect("read").expect("there").refreshed;
    let (held, newer) = (bundle(one, 5, &[]), bundle(one, 6, &[]));
    for (bytes, updated) in [(&held, Updated::Same), (&newer, Updated::Newer)] {
        let heard = store.hear_bundle(&one.id, bytes, entered + HOUR * 20);
        assert_eq!(heard.expect("sound"), updated);
        let record = store.find(&one.id).expect("read").expect("there");
        assert_eq!((&record.bundle, record.refreshed), (bytes, entered));
    }
    let asked = store.update_bundle(&one.id, &newer, entered + HOUR * 21);
    assert_eq!(asked.expect("sound"), Updated::Same);
    let record = store.find(&one.id).expect("read").expect("there");
    assert_eq!(record.refreshed, entered + HOUR * 21);
}

#[test]
fn what_a_later_bundle_leaves_out_stays_withdrawn() {
    let test = TestHome::in_memory();
    let store = store(&test.home);
    let one = org(1);
    let (first, second) = (key_withdrawn(1), certificate_withdrawn(2));
    store.add(record(one, "one", 1)).expect("entered");
    for (sequence, list) in [
        (2, vec![first.clone()]),
        (3, vec![second.clone()]),
        (4, vec![]),
    ] {
        let newer = bundle(one, sequence, &list);
        store.update_bundle(&one.id, &newer, DAY).expect("newer");
    }
    let held = super_store(&test.home)
        .find(&one.id)
        .expect("read")
        .expect("there");
    let signer = KeyHash::of_spki(one.root.spki());
    let kept: Vec<Withdrawal> = held.withdrawn.by(&signer).collect();
    assert_eq!(kept, [second, first]);
    let networks = super_store(&test.home).networks().expect("read");
    let authority = networks.get(&one.id).expect("there");
    assert!(authority.bundle.withdrawn().is_empty());
    assert_eq!(authority.withdrawn.len(), 2);
}

#[test]
fn two_bundles_of_one_sequence_freeze_a_network_until_a_person_decides() {
    let test = TestHome::in_memory();
    let store = store(&test.home);
    let one = org(1);
    store.add(record(one, "one", 5)).expect("entered");
    let other = bundle(one, 5, &[key_withdrawn(1)]);
    let later = bundle(one, 6, &[key_withdrawn(2)]);
    let forked = store.update_bundle(&one.id, &other, DAY + HOUR);
    assert!(matches!(forked, Err(NetworkError::Frozen { since, .. }) if since == DAY + HOUR));
    // What holds by itself withdraws even now, and nothing else is taken.
    let frozen = store.update_bundle(&one.id, &later, DAY + HOUR * 2);
    assert!(matches!(frozen, Err(NetworkError::Frozen { since, .. }) if since == DAY + HOUR));
    let held = super_store(&test.home)
        .find(&one.id)
        .expect("read")
        .expect("there");
    assert_eq!(held.forked, Some(DAY + HOUR));
    assert_eq!(held.bundle, bundle(one, 5, &[]));
    assert_eq!(held.withdrawn.len(), 2);

    store
        .settle(&one.id, &other, DAY + HOUR * 3)
        .expect("decided");
    let held = store.find(&one.id).expect("read").expect("there");
    assert_eq!((held.forked, held.bundle), (None, other));
    let updated = store
        .update_bundle(&one.id, &later, DAY + HOUR * 4)
        .expect("newer");
    assert_eq!(updated, Updated::Newer);
    assert!(matches!(
        store.settle(&one.id, &bundle(one, 4, &[]), DAY),
        Err(NetworkError::Follow { .. })
    ));
}

#[test]
fn there_are_so_many_networks_and_no_more() {
    let test = TestHome::in_memory();
    let store = store(&test.home);
    for number in 1..=MAX_NETWORKS {
        let number = u8::try_from(number).expect("small");
        store
            .add(record(org(number), &format!("n{number}"), 1))
            .expect("entered");
    }
    let one_more = record(org(100), "one-more", 1);
    assert!(matches!(store.add(one_more), Err(NetworkError::TooMany)));
    assert_eq!(store.list().expect("read").len(), MAX_NETWORKS);
}

#[test]
fn a_membership_has_its_limits() {
    let test = TestHome::in_memory();
    let store = store(&test.home);
    let one = org(1);
    store.add(record(one, "one", 1)).expect("entered");
    let largest = vec![vec![1; MAX_MEMBERSHIP_DER]; MAX_MEMBERSHIP];
    store
        .set_membership(&one.id, largest.clone())
        .expect("at the limit");
    let more = vec![vec![1; 10]; MAX_MEMBERSHIP + 1];
    for membership in [more, vec![vec![1; MAX_MEMBERSHIP_DER + 1]]] {
        assert!(matches!(
            store.set_membership(&one.id, membership),
            Err(NetworkError::Membership { .. })
        ));
    }
    let held = store.find(&one.id).expect("read").expect("there");
    assert_eq!(held.membership, largest);
}

#[test]
fn a_file_that_was_changed_by_hand_into_something_else_is_refused() {
    let test = TestHome::in_memory();
    let one = org(1);
    store(&test.home)
        .add(record(one, "one", 1))
        .expect("entered");
    let path = test.home.path(HomeFile::Networks);
    let text = std::fs::read_to_string(&path).expect("a file");
    let entry = text.split_once("[\n").expect("entries").1;
    let entry = entry.rsplit_once("  ]").expect("their end").0.trim_end();
    let other = data_encoding::BASE64.encode(&bundle(org(2), 1, &[]));
    let held = data_encoding::BASE64.encode(&bundle(one, 1, &[]));
    for bad in [
        text.replace("recognised", "worshipped"),
        text.replace("\"one\"", "\"a:b\""),
        text.replace("\"forked\"", "\"x\""),
        text.replace("\"added\"", "\"x\""),
        text.replace("\"version\": 1", "\"version\": 2"),
        text.replace(&held, &other),
        text.replace(&held, "AAAA"),
        text.replace(&held, "?"),
        text.replace(entry, &format!("{entry},\n{entry}")),
        text.replace(
            "\"label\"",
            "\"withdrawn\": [\"key:00@1970-01-01T00:00:00Z\"], \"label\"",
        ),
        "not JSON".to_owned(),
    ] {
        if bad == text {
            continue;
        }
        std::fs::write(&path, &bad).expect("written");
        assert!(
            matches!(store(&test.home).list(), Err(StoreError::Damaged { .. })),
            "{bad}"
        );
        assert!(PeerStore::open(&test.home, "test").is_err(), "{bad}");
    }
}

#[test]
fn a_snapshot_follows_the_networks_and_says_when_their_file_is_bad() {
    let test = TestHome::in_memory();
    let one = org(1);
    let peers = PeerStore::open(&test.home, "test").expect("opened");
    let watcher = peers.watch();
    let before = peers.snapshot();
    // Another process enters a network.
    store(&test.home)
        .add(record(one, "one", 1))
        .expect("entered");
    let after = peers.poll_changes();
    assert!(after.epoch > before.epoch);
    assert!(watcher.has_changed().expect("open"));
    assert!(Arc::ptr_eq(&after.networks, &peers.poll_changes().networks));
    assert_eq!(peers.snapshot().epoch, after.epoch, "nothing changed");

    let path = test.home.path(HomeFile::Networks);
    let good = std::fs::read(&path).expect("a file");
    std::fs::write(&path, "not JSON").expect("written");
    let bad = peers.poll_changes();
    assert!(
        matches!(&bad.health, Health::LastGood { error } if error.to_string().contains("networks"))
    );
    assert!(
        Arc::ptr_eq(&bad.networks, &after.networks),
        "the last good copy"
    );
    std::fs::remove_file(&path).expect("removed");
    let gone = peers.poll_changes();
    assert!(
        matches!(&gone.health, Health::LastGood { error } if matches!(**error, StoreError::Missing { .. }))
    );
    assert!(Arc::ptr_eq(&gone.networks, &after.networks));
    std::fs::write(&path, good).expect("written");
    assert!(matches!(peers.poll_changes().health, Health::Fresh));
}

#[test]
fn a_file_that_is_gone_is_an_error_at_the_start_and_for_every_change() {
    let test = TestHome::in_memory();
    store(&test.home)
        .add(record(org(1), "one", 1))
        .expect("entered");
    std::fs::remove_file(test.home.path(HomeFile::Networks)).expect("removed");
    let fresh = store(&test.home);
    assert!(matches!(fresh.list(), Err(StoreError::Missing { .. })));
    assert!(matches!(
        fresh.add(record(org(2), "two", 1)),
        Err(NetworkError::Store(StoreError::Missing { .. }))
    ));
    assert!(matches!(
        PeerStore::open(&test.home, "test"),
        Err(StoreError::Missing { path }) if path.ends_with("networks")
    ));
}

#[test]
fn an_emptied_list_is_a_file_and_not_a_missing_one() {
    let test = TestHome::in_memory();
    let store = store(&test.home);
    store.add(record(org(1), "one", 1)).expect("entered");
    store.remove(&org(1).id).expect("removed");
    assert!(super_store(&test.home).list().expect("read").is_empty());
    PeerStore::open(&test.home, "test").expect("opened");
}

#[test]
fn a_bundle_that_arrives_is_noticed_by_whoever_polls_within_a_second() {
    assert!(POLL_EVERY * 2 < Duration::from_secs(1));
    let test = TestHome::in_memory();
    let one = org(1);
    store(&test.home)
        .add(record(one, "one", 1))
        .expect("entered");
    let peers = PeerStore::open(&test.home, "test").expect("opened");
    let before = peers.snapshot();
    let newer = bundle(one, 2, &[key_withdrawn(1)]);
    store(&test.home)
        .update_bundle(&one.id, &newer, DAY)
        .expect("newer");
    let after = peers.poll_changes();
    assert!(after.epoch > before.epoch);
    assert!(!Arc::ptr_eq(&after.networks, &before.networks));
}

#[test]
fn power_loss_at_every_step_leaves_the_old_bundle_or_the_new_one() {
    let one = org(1);
    let newer = bundle(one, 2, &[key_withdrawn(1)]);
    let ready = || {
        let (disk, home) = model_home();
        store(&home).add(record(one, "one", 1)).expect("entered");
        let faulty = FaultDisk::new(Arc::new(disk.clone()));
        let home = open_on(faulty.clone());
        faulty.heal();
        (disk, faulty, store(&home))
    };
    let steps = {
        let (_, counting, store) = ready();
        store.update_bundle(&one.id, &newer, DAY).expect("newer");
        counting.calls().len()
    };
    let mut seen = (0, 0);
    for step in 0..=steps {
        let (disk, faulty, store) = ready();
        faulty.fault_at(step, Fault::Stop);
        let acknowledged = store.update_bundle(&one.id, &newer, DAY).is_ok();
        for found in disk.after_power_loss() {
            let store = super_store(&open_on(found));
            let held = store.find(&one.id).expect("read").expect("there");
            if held.bundle == newer {
                seen.1 += 1;
            } else {
                assert!(
                    !acknowledged,
                    "acknowledged and lost in {MODEL_HOME} at {step}"
                );
                seen.0 += 1;
            }
            store
                .update_bundle(&one.id, &bundle(one, 3, &[]), DAY)
                .expect("it goes on");
        }
    }
    assert!(
        seen.0 > 0 && seen.1 > 0,
        "both outcomes were tried: {seen:?}"
    );
}

#[test]
fn of_many_processes_that_enter_networks_none_is_lost() {
    let test = TestHome::new();
    let children: Vec<_> = (1..=8)
        .map(|number| child("tests::networks::child_that_enters", test.path(), number))
        .collect();
    children.into_iter().for_each(succeeded);
    assert_eq!(store(&test.home).list().expect("read").len(), 8);
}

#[test]
#[ignore = "runs as a child process of of_many_processes_that_enter_networks"]
fn child_that_enters() {
    let Some((path, number)) = child_task() else {
        return;
    };
    let home = Home::open(&path).expect("the home");
    let number = u8::try_from(number).expect("small");
    let record = record(org(number), &format!("n{number}"), 1);
    store(&home).add(record).expect("entered");
}

fn store(home: &Home) -> NetworkStore {
    NetworkStore::new(home, "test")
}

/// Another process's view.
fn super_store(home: &Home) -> NetworkStore {
    NetworkStore::new(home, "another test")
}

/// An authority with one key, its root.
struct Org {
    id: NodeId,
    root: SoftwareKey,
    charter: Charter,
}

fn org(number: u8) -> &'static Org {
    static ORGS: [OnceLock<Org>; 101] = [const { OnceLock::new() }; 101];
    ORGS[usize::from(number)].get_or_init(|| {
        let root = SoftwareKey::generate(Algorithm::EcdsaP256).expect("a key");
        let certificate = mint_authority_root(
            &root,
            &AuthorityRootRequest {
                serial: [0x41; 16],
                not_before: DAY,
                not_after: DAY + Duration::from_secs(20 * 365 * 86_400),
            },
        )
        .expect("a root");
        let id = NodeId::of_spki(root.spki());
        let charter = CharterRequest {
            network: id,
            sequence: 1,
            issued: DAY,
            keys: vec![CharterKey {
                state: KeyState::Active,
                certificate,
                proof: CharterKey::proof(&root, &id).expect("a proof"),
            }],
        };
        let charter = charter.sign(&[&root as &dyn Signer]).expect("a charter");
        Org { id, root, charter }
    })
}

/// The same bytes for the same content: a signature is made once.
fn bundle(org: &Org, sequence: u64, withdrawn: &[Withdrawal]) -> Vec<u8> {
    use std::collections::HashMap;
    use std::sync::Mutex;
    type Made = Mutex<HashMap<(NodeId, u64, String), Vec<u8>>>;
    static MADE: OnceLock<Made> = OnceLock::new();
    let key = (org.id, sequence, format!("{withdrawn:?}"));
    let mut made = MADE.get_or_init(Made::default).lock().expect("no panic");
    made.entry(key)
        .or_insert_with(|| {
            let request = BundleRequest {
                name: "ops".into(),
                sequence,
                issued: DAY,
                expires: DAY + Duration::from_secs(30 * 86_400),
                refresh: Duration::from_secs(86_400),
                locations: Vec::new(),
                charters: vec![org.charter.clone()],
                withdrawn: withdrawn.to_vec(),
            };
            let bundle: Bundle = request.sign(&org.root).expect("a bundle");
            bundle.bytes().to_vec()
        })
        .clone()
}

fn record(org: &Org, label: &str, sequence: u64) -> NetworkRecord {
    NetworkRecord {
        network: org.id,
        label: label.into(),
        standing: Standing::Recognised,
        bundle: bundle(org, sequence, &[]),
        membership: Vec::new(),
        withdrawn: Withdrawn::new(),
        forked: None,
        rival: None,
        added: DAY,
        refreshed: DAY,
        source: None,
    }
}

fn key_withdrawn(number: u8) -> Withdrawal {
    Withdrawal {
        what: WithdrawnWhat::Key(KeyHash::of_spki(&[number])),
        at: UnixTime::from_secs(1_772_000_000),
    }
}

fn certificate_withdrawn(number: u8) -> Withdrawal {
    Withdrawal {
        what: WithdrawnWhat::Certificate {
            issuer: KeyHash::of_spki(b"issuer"),
            serial: vec![number; 16],
        },
        at: UnixTime::from_secs(1_772_000_000),
    }
}
