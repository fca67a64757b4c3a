//! Strangers cannot fill `known_peers`, nor lock the operator out of it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use comity_trust::{
    Confirmed, Edit, Entry, HEADER, KnownPeers, MAX_FILE_BYTES, Name, Names, Origin, Pin, Side,
    Succeeded, What,
};

use super::support::{DAY, MODEL_HOME, model_home, node, open_on, peer};
use crate::audit::{AuditLog, Deed};
use crate::error::StoreError;
use crate::fault::{Call, FaultDisk, ModelDisk};
use crate::first_use::{ByPeer, FIRST_USE_RESERVE, MAX_FIRST_USES};
use crate::home::Home;
use crate::peers::{Change, PeerStore, UpdateError};

#[test]
fn strangers_are_recorded_up_to_the_limit_and_not_one_further() {
    let (disk, home) = model_home();
    put_first_uses(&disk, MAX_FIRST_USES - 1);
    let store = open(&home);
    record(&store, Side::Accept, 5000).expect("the last place");
    let before = disk.content(&known_peers());
    let refused = record(&store, Side::Accept, 5001).expect_err("full");
    assert!(
        matches!(&refused, UpdateError::Store(StoreError::FirstUsesFull {
        limit: MAX_FIRST_USES,
        path,
    }) if *path == known_peers())
    );
    assert_eq!(disk.content(&known_peers()), before);
    let log = AuditLog::new(&home, "test").tail(10).expect("the log");
    assert_eq!(log.lines.len(), 1, "a refusal leaves no line either");
}

#[test]
fn a_stranger_beyond_the_limit_writes_nothing() {
    let (disk, _) = model_home();
    put_first_uses(&disk, MAX_FIRST_USES);
    let counting = FaultDisk::new(Arc::new(disk));
    let store = open(&open_on(counting.clone()));
    counting.heal();
    for key in 5000..5010 {
        record(&store, Side::Accept, key).expect_err("full");
    }
    let lock_only = [Call::Open(crate::disk::Access::Append)];
    let changes: Vec<_> = counting
        .calls()
        .into_iter()
        .filter(|c| c.changes())
        .collect();
    assert_eq!(changes, lock_only.repeat(10));
}

#[test]
fn with_all_places_taken_the_operator_and_the_dialler_go_on() {
    let (disk, home) = model_home();
    put_first_uses(&disk, MAX_FIRST_USES);
    let store = open(&home);
    record(&store, Side::Dial, 5000).expect("whom we dial is our choice");
    change(&store, Edit::Add(Box::new(revocation(1)))).expect("revoked");
    let invited = entry(Side::Both, 5001, Origin::Invite);
    change(&store, Edit::Add(Box::new(invited))).expect("invited");
    record(&store, Side::Accept, 5002).expect_err("still full");
}

#[test]
fn an_entry_that_is_removed_or_confirmed_makes_room() {
    let (disk, home) = model_home();
    put_first_uses(&disk, MAX_FIRST_USES);
    let store = open(&home);
    change(&store, Edit::Remove { lines: vec![2] }).expect("removed");
    record(&store, Side::Accept, 5000).expect("a free place");
    record(&store, Side::Accept, 5001).expect_err("full");
    let confirmed = Confirmed {
        at: DAY,
        how: "hand".into(),
    };
    change(&store, Edit::Confirm { line: 2, confirmed }).expect("confirmed");
    record(&store, Side::Accept, 5001).expect("a free place");
    record(&store, Side::Accept, 5002).expect_err("full");
}

#[test]
fn a_stranger_makes_no_room_for_another_by_changing_its_key() {
    let (disk, home) = model_home();
    put_first_uses(&disk, MAX_FIRST_USES);
    let store = open(&home);
    change(&store, succession(Side::Accept, 0, 5000)).expect("followed");
    record(&store, Side::Accept, 5001).expect_err("still full");
    // Nor once the line of its first key is gone.
    change(&store, Edit::Remove { lines: vec![2] }).expect("removed");
    record(&store, Side::Accept, 5001).expect_err("still full");
}

#[test]
fn a_succession_leaves_the_operator_the_end_of_the_file() {
    let limit = MAX_FILE_BYTES - FIRST_USE_RESERVE;
    let known = line_of(&entry(Side::Dial, 1, Origin::FirstUse));
    let (disk, home) = model_home();
    let text = |size: usize| {
        let mut text = format!("{HEADER}\n{known}");
        while text.len() < size {
            let length = (size - text.len()).min(32 << 10);
            writeln!(text, "{:#<1$}", "", length - 1).expect("a string takes everything");
        }
        text
    };
    let edit = succession(Side::Dial, 1, 5000);
    let before = KnownPeers::parse(&text(0)).expect("a line");
    let added = before.with(edit.clone()).expect("followed").to_text().len() - text(0).len();
    for (size, fits) in [(limit - added, true), (limit - added + 1, false)] {
        let text = text(size);
        disk.put(&known_peers(), text.as_bytes()).expect("edited");
        match change(&open(&home), edit.clone()) {
            Ok(()) => assert!(fits),
            Err(UpdateError::Store(StoreError::FirstUseReserve { limit: l, .. })) => {
                assert!(!fits && l == limit);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// The first line after the header, followed to another key.
fn succession(side: Side, from: u32, to: u32) -> Edit {
    let mut old = entry(side, from, Origin::FirstUse);
    let mut new = entry(side, to, Origin::Succession);
    new.names = old.names.clone();
    let What::Pin(Pin::Node(successor)) = new.what else {
        panic!("a node");
    };
    old.attributes.successor = Some(successor);
    old.attributes.not_after = Some(DAY);
    Edit::Succeed {
        lines: vec![Succeeded {
            line: 2,
            old,
            new: vec![new],
            dropped: Vec::new(),
        }],
    }
}

#[test]
fn a_further_key_at_first_use_counts_as_well() {
    let (disk, home) = model_home();
    put_first_uses(&disk, MAX_FIRST_USES);
    let entry = entry(Side::Accept, 5000, Origin::FirstUse);
    let refused = change(&open(&home), Edit::AddKey(Box::new(entry)));
    assert!(matches!(
        refused,
        Err(UpdateError::Store(StoreError::FirstUsesFull { .. }))
    ));
}

#[test]
fn first_use_leaves_the_operator_the_end_of_the_file() {
    let limit = MAX_FILE_BYTES - FIRST_USE_RESERVE;
    let line = line_of(&entry(Side::Dial, 1, Origin::FirstUse)).len();
    let (disk, home) = model_home();
    put_padded(&disk, limit - line);
    let store = open(&home);
    record(&store, Side::Dial, 1).expect("up to the reserve");
    let refused = record(&store, Side::Dial, 2).expect_err("one entry further");
    assert!(matches!(
        refused,
        UpdateError::Store(StoreError::FirstUseReserve { limit: l, .. }) if l == limit
    ));
    assert_eq!(size(&disk), limit);
    change(&store, Edit::Add(Box::new(revocation(1)))).expect("revoked");
}

#[test]
fn the_reserve_begins_at_the_byte_and_for_both_sides() {
    let limit = MAX_FILE_BYTES - FIRST_USE_RESERVE;
    for side in [Side::Accept, Side::Dial, Side::Both] {
        let added = Edit::Add(Box::new(entry(side, 1, Origin::FirstUse)));
        let first_use = ByPeer::of(&added).expect("first use");
        assert!(first_use.check_size(limit, &known_peers()).is_ok());
        assert!(first_use.check_size(limit + 1, &known_peers()).is_err());
    }
    for origin in Origin::ALL {
        let added = Edit::Add(Box::new(entry(Side::Accept, 1, origin)));
        let expected = origin == Origin::FirstUse;
        assert_eq!(ByPeer::of(&added).is_some(), expected, "{origin}");
    }
}

#[test]
fn the_operator_may_use_the_reserve_to_its_last_byte() {
    let line = line_of(&revocation(1)).len();
    let (disk, home) = model_home();
    put_padded(&disk, MAX_FILE_BYTES - line);
    let store = open(&home);
    change(&store, Edit::Add(Box::new(revocation(1)))).expect("revoked");
    assert_eq!(size(&disk), MAX_FILE_BYTES);
    change(&store, Edit::Add(Box::new(revocation(2)))).expect_err("full");
}

fn open(home: &Home) -> PeerStore {
    PeerStore::open(home, "test").expect("the store")
}

fn record(store: &PeerStore, side: Side, key: u32) -> Result<(), UpdateError> {
    change(
        store,
        Edit::Add(Box::new(entry(side, key, Origin::FirstUse))),
    )
}

fn change(store: &PeerStore, edit: Edit) -> Result<(), UpdateError> {
    let deed = Deed {
        action: "test".into(),
        peer: Some(peer(1)),
        detail: String::new(),
    };
    let change = || Change {
        edit: edit.clone(),
        deed: deed.clone(),
    };
    store
        .decide_and_record(|_| ((), Some(change())))
        .map(|((), _)| ())
}

fn entry(side: Side, key: u32, origin: Origin) -> Entry {
    let name = Name::label(&format!("p{key}")).expect("a label");
    let mut entry = Entry::new(side, Names::one(name), What::Pin(Pin::Node(node(key))));
    entry.attributes.origin = Some(origin);
    entry
}

fn revocation(key: u32) -> Entry {
    let name = Name::label("somebody").expect("a label");
    Entry::new(
        Side::Both,
        Names::one(name),
        What::Revoked(Pin::Node(node(key))),
    )
}

fn line_of(entry: &Entry) -> String {
    let known = KnownPeers::empty().with(Edit::Add(Box::new(entry.clone())));
    let text = known.expect("an entry").to_text();
    text.split_inclusive('\n')
        .nth(1)
        .expect("a line")
        .to_owned()
}

fn put_first_uses(disk: &ModelDisk, count: usize) {
    let keys = 0..u32::try_from(count).expect("small");
    let lines = keys.map(|key| line_of(&entry(Side::Accept, key, Origin::FirstUse)));
    let text = format!("{HEADER}\n{}", lines.collect::<String>());
    disk.put(&known_peers(), text.as_bytes()).expect("edited");
}

/// A file of so many bytes, made of comments.
fn put_padded(disk: &ModelDisk, size: usize) {
    let mut text = format!("{HEADER}\n");
    while text.len() < size {
        let length = (size - text.len()).min(32 << 10);
        writeln!(text, "{:#<1$}", "", length - 1).expect("a string takes everything");
    }
    disk.put(&known_peers(), text.as_bytes()).expect("edited");
}

fn size(disk: &ModelDisk) -> usize {
    disk.content(&known_peers()).expect("the file").len()
}

fn known_peers() -> PathBuf {
    Path::new(MODEL_HOME).join("known_peers")
}
