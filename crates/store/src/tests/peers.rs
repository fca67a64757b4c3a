//! `known_peers` under several writers, an editor, bad content and lost power.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use comity_identity::NodeId;
use comity_trust::{Edit, EditError, Entry, HEADER, KnownPeers, Name, Names, Pin, Side, What};
use nix::libc::{EACCES, EIO, ENOSPC, EROFS};

use super::support::{
    MODEL_HOME, TestHome, child, child_task, model_home, names, node, open_on, os_disk, peer,
    succeeded,
};
use crate::audit::{AuditLog, Deed};
use crate::disk::Access;
use crate::error::{Flaw, StoreError};
use crate::fault::{Call, Fault, FaultDisk};
use crate::home::{Home, HomeFile};
use crate::peers::{Change, Health, POLL_EVERY, PeerStore, Snapshot, UpdateError};
use crate::stamp::SETTLED_AFTER;

#[test]
fn a_new_home_knows_nobody_and_writes_nothing() {
    let test = TestHome::new();
    let store = open(&test.home);
    assert_eq!(labels(&store.snapshot()), [""; 0]);
    assert!(matches!(store.snapshot().health, Health::Fresh));
    assert_eq!(names(test.path()), [""; 0]);
}

#[test]
fn a_change_is_in_the_file_the_snapshot_and_the_log() {
    let test = TestHome::new();
    let store = open(&test.home);
    let epoch = store.snapshot().epoch;
    let after = add(&store, "ops-db", 1).expect("added");
    assert_eq!(labels(&after), ["ops-db"]);
    assert_eq!(labels(&store.snapshot()), ["ops-db"]);
    assert!(after.epoch > epoch);
    assert_eq!(labels(&open(&test.home).snapshot()), ["ops-db"]);
    let log = AuditLog::new(&test.home, "test").tail(10).expect("the log");
    assert_eq!(log.lines.len(), 1);
    assert_eq!(log.lines[0].action, "add");
    assert_eq!(log.lines[0].peer, Some(peer(1).to_string()));
    assert_eq!(
        names(test.path()),
        ["audit.log", "known_peers", "known_peers.present", "lock"]
    );
}

#[test]
fn a_decision_without_a_change_writes_nothing() {
    let test = TestHome::new();
    let store = open(&test.home);
    let (count, _) = store
        .decide_and_record(|known| (known.entries().count(), None))
        .expect("decided");
    assert_eq!(count, 0);
    assert_eq!(names(test.path()), ["lock"]);
}

#[test]
fn a_change_that_does_not_fit_is_an_error_and_writes_nothing() {
    let test = TestHome::new();
    let store = open(&test.home);
    add(&store, "ops-db", 1).expect("added");
    let before = fs::read(store.path()).expect("the file");
    assert!(matches!(
        add(&store, "ops-db", 2),
        Err(UpdateError::Edit(EditError::NameTaken { line: 2, .. }))
    ));
    assert_eq!(fs::read(store.path()).expect("the file"), before);
    let log = AuditLog::new(&test.home, "test").tail(10).expect("the log");
    assert_eq!(log.lines.len(), 1);
}

// T60
#[test]
fn of_two_threads_at_first_use_with_different_keys_exactly_one_wins() {
    let test = TestHome::new();
    let store = open(&test.home);
    let wins: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let store = &store;
                scope.spawn(move || first_use(store, number))
            })
            .collect();
        let outcomes = threads.into_iter().map(|t| t.join().expect("a thread"));
        outcomes.map(usize::from).sum()
    });
    assert_eq!(wins, 1);
    assert_eq!(labels(&store.snapshot()), ["first"]);
}

// T61
#[test]
fn of_many_processes_at_first_use_with_different_keys_exactly_one_wins() {
    let test = TestHome::new();
    let children: Vec<_> = (1..=8)
        .map(|n| child("tests::peers::child_at_first_use", test.path(), n))
        .collect();
    children.into_iter().for_each(succeeded);
    let won: Vec<_> = names(test.path())
        .into_iter()
        .filter(|n| n.starts_with("won-"))
        .collect();
    assert_eq!(won.len(), 1, "{won:?}");
    let number: u32 = won[0]["won-".len()..].parse().expect("a number");
    let store = open(&test.home);
    let snapshot = store.snapshot();
    let (_, entry) = snapshot.known.entries().next().expect("an entry");
    assert_eq!(entry.pin(), Some(&Pin::Node(node(number))));
}

#[test]
#[ignore = "runs as a child process of of_many_processes_at_first_use"]
fn child_at_first_use() {
    let Some((path, number)) = child_task() else {
        return;
    };
    let home = Home::open(&path).expect("the home");
    if first_use(&open(&home), u32::try_from(number).expect("small")) {
        fs::write(path.join(format!("won-{number}")), "").expect("a file");
    }
}

/// Additions by each of the hundred processes: see `a_hundred_processes_lose_no_addition`.
const ADDITIONS: &str = "COMITY_STORE_TEST_ADDITIONS";

// T62. Every process reads and parses what the others have added since its last turn: some seconds of
// work for ten thousand additions. Those are made where nothing may be left out; otherwise each
// process adds ten.
#[test]
fn a_hundred_processes_lose_no_addition() {
    let all = std::env::var_os("COMITY_REQUIRE").is_some_and(|v| v == "all");
    let each = if all { 100 } else { 10 };
    let test = TestHome::in_memory();
    let children: Vec<_> = (0..100)
        .map(|number| {
            let mut command =
                super::support::command("tests::peers::child_that_adds", test.path(), number);
            command
                .env(ADDITIONS, each.to_string())
                .spawn()
                .expect("a child process")
        })
        .collect();
    children.into_iter().for_each(succeeded);
    let mut found = labels(&open(&test.home).snapshot());
    let mut expected: Vec<_> = (0..100)
        .flat_map(|process| (0..each).map(move |n| format!("p{process}-{n}")))
        .collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
#[ignore = "runs as a child process of a_hundred_processes_lose_no_addition"]
fn child_that_adds() {
    let Some((path, process)) = child_task() else {
        return;
    };
    let each: u32 = std::env::var(ADDITIONS)
        .expect("a number")
        .parse()
        .expect("a number");
    let store = open(&Home::open(&path).expect("the home"));
    for n in 0..each {
        let key = u32::try_from(process).expect("small") * 1000 + n;
        let label = format!("p{process}-{n}");
        loop {
            match add(&store, &label, key) {
                Ok(_) => break,
                // With a hundred at once, somebody waits longer than a gate would.
                Err(UpdateError::Store(StoreError::Locked { .. })) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

// T63
#[test]
fn what_was_edited_by_hand_stays_and_what_was_deleted_stays_deleted() {
    let test = TestHome::new();
    let store = open(&test.home);
    for (label, key) in [("one", 1), ("two", 2), ("three", 3)] {
        add(&store, label, key).expect("added");
    }
    let text = fs::read_to_string(store.path()).expect("the file");
    let edited: String = text
        .lines()
        .filter(|line| !line.contains("two"))
        .map(|line| format!("{line}\n"))
        .collect::<String>()
        + "# a comment,   with  spaces\n"
        + &line_of("by-hand", 4)
        + "\n";
    fs::write(store.path(), &edited).expect("edited");
    add(&store, "four", 5).expect("added");
    let after = fs::read_to_string(store.path()).expect("the file");
    assert!(after.starts_with(&edited), "every byte of the edit is kept");
    assert_eq!(
        labels(&store.snapshot()),
        ["one", "three", "by-hand", "four"]
    );
}

// T63
#[test]
fn an_edit_in_the_middle_of_a_change_is_noticed_and_kept() {
    let test = TestHome::new();
    let store = open(&test.home);
    add(&store, "one", 1).expect("added");
    let mut asked = 0;
    let (known, _) = store
        .decide_and_record(|known| {
            asked += 1;
            if asked == 1 {
                // The editor saves between our reading and our writing.
                let text = known.to_text() + &line_of("by-hand", 2) + "\n";
                fs::write(store.path(), text).expect("edited");
            }
            (known.entries().count(), Some(addition("two", 3)))
        })
        .expect("recorded");
    assert_eq!(
        (asked, known),
        (2, 2),
        "decided again on what the editor saved"
    );
    assert_eq!(labels(&store.snapshot()), ["one", "by-hand", "two"]);
}

#[test]
fn a_change_whose_lock_was_removed_is_an_error_in_the_log_and_not_made() {
    let test = TestHome::new();
    let store = open(&test.home);
    add(&store, "one", 1).expect("added");
    let mut asked = 0;
    let result = store.decide_and_record(|_| {
        asked += 1;
        if asked == 1 {
            fs::remove_file(test.home.path(HomeFile::Lock)).expect("removed");
            // Another process takes the new lock and makes its change.
            add(&open(&test.home), "two", 2).expect("added");
        }
        ((), Some(addition("three", 3)))
    });
    assert!(matches!(
        result,
        Err(UpdateError::Store(StoreError::LockLost { .. }))
    ));
    assert_eq!(labels(&store.poll_changes()), ["one", "two"]);
    let log = AuditLog::new(&test.home, "test").tail(10).expect("the log");
    assert_eq!(log.lines.last().expect("a line").action, "add failed");
}

#[test]
fn an_editor_that_never_stops_is_an_error_and_wins() {
    let test = TestHome::new();
    let store = open(&test.home);
    add(&store, "one", 1).expect("added");
    let mut asked = 0;
    let result = store.decide_and_record(|known| {
        asked += 1;
        fs::write(store.path(), known.to_text() + "# again\n").expect("edited");
        ((), Some(addition("two", 2)))
    });
    assert!(matches!(
        result,
        Err(UpdateError::Store(StoreError::Edited { .. }))
    ));
    assert_eq!(asked, crate::peers::ATTEMPTS);
    assert_eq!(labels(&store.poll_changes()), ["one"]);
}

// T64
#[test]
fn a_corrupt_line_refuses_the_start_and_names_file_and_line() {
    for bad in ["nonsense\n", "dial ops-db node 12345\n", "\u{0}\n"] {
        let test = TestHome::new();
        let text = format!("{HEADER}\n{}\n{bad}", line_of("one", 1));
        fs::write(test.home.path(HomeFile::KnownPeers), text).expect("a file");
        let error = PeerStore::open(&test.home, "test").expect_err("refused");
        assert!(matches!(&error, StoreError::KnownPeers { error, .. } if error.line == 3));
        let place = format!("{}:3:", test.home.path(HomeFile::KnownPeers).display());
        assert!(error.to_string().contains(&place), "{error}");
    }
    for bad in [&b""[..], b"\xff\xfe", b"\n"] {
        let test = TestHome::new();
        fs::write(test.home.path(HomeFile::KnownPeers), bad).expect("a file");
        assert!(PeerStore::open(&test.home, "test").is_err(), "{bad:?}");
    }
}

// T64
#[test]
fn a_corrupt_line_at_reload_keeps_the_last_good_copy_and_refuses_first_use() {
    let test = TestHome::new();
    let store = open(&test.home);
    add(&store, "one", 1).expect("added");
    let good = fs::read_to_string(store.path()).expect("the file");
    let bad = format!("{good}nonsense\n");
    fs::write(store.path(), &bad).expect("edited");

    let snapshot = store.poll_changes();
    assert_eq!(labels(&snapshot), ["one"]);
    assert!(matches!(&snapshot.health, Health::LastGood { error }
        if matches!(&**error, StoreError::KnownPeers { error, .. } if error.line == 3)));
    let epoch = snapshot.epoch;
    assert_eq!(
        store.poll_changes().epoch,
        epoch,
        "one alarm, not five a second"
    );
    assert!(add(&store, "two", 2).is_err());
    assert_eq!(
        fs::read_to_string(store.path()).expect("the file"),
        bad,
        "untouched"
    );

    fs::write(store.path(), good).expect("edited");
    let snapshot = store.poll_changes();
    assert!(matches!(snapshot.health, Health::Fresh));
    assert!(snapshot.epoch > epoch);
    add(&store, "two", 2).expect("added");
}

// T65 to T68
#[test]
fn whatever_fails_first_use_is_refused_and_known_peers_keep_working() {
    type Plan = fn(usize, Call) -> Fault;
    let unreadable: Plan = |_, call| match call {
        Call::Read => Fault::Error(EACCES),
        _ => Fault::None,
    };
    let read_only: Plan = |_, call| match call.changes() {
        true => Fault::Error(EROFS),
        false => Fault::None,
    };
    let full: Plan = |_, call| match call.takes_space() {
        true => Fault::Error(ENOSPC),
        false => Fault::None,
    };
    let broken: Plan = |_, call| match call {
        Call::Sync => Fault::Error(EIO),
        _ => Fault::None,
    };
    for (what, plan) in [
        ("unreadable", unreadable),
        ("read-only", read_only),
        ("full", full),
        ("broken", broken),
    ] {
        let test = TestHome::new();
        let disk = FaultDisk::new(os_disk());
        let home = Home::open_on(Arc::new(disk.clone()), test.path()).expect("the home");
        let store = open(&home);
        add(&store, "one", 1).expect("added");
        disk.follow(plan);
        let refused = add(&store, "two", 2).expect_err(what);
        assert!(
            matches!(refused, UpdateError::Store(StoreError::Io { .. })),
            "{what}: {refused}"
        );
        store.poll_changes();
        assert_eq!(labels(&store.snapshot()), ["one"], "{what}");
        assert_eq!(labels(&open(&test.home).snapshot()), ["one"], "{what}");
        disk.heal();
        add(&store, "two", 2).expect(what);
        assert_eq!(labels(&store.snapshot()), ["one", "two"], "{what}");
    }
}

// T67, on a file system that is really full
#[test]
fn a_full_file_system_refuses_first_use_and_keeps_what_is_known() {
    let Some(small) = SmallFileSystem::mount() else {
        return super::support::left_out("a full file system needs root to mount one");
    };
    let home = Home::create(&small.0.path().join("home")).expect("a home");
    let store = open(&home);
    add(&store, "one", 1).expect("added");
    let filler = small.0.path().join("filler");
    // Until nothing fits any more.
    drop(fs::write(&filler, vec![b'x'; 1 << 20]));
    let before = fs::read(store.path()).expect("the file");
    assert!(matches!(
        add(&store, "two", 2),
        Err(UpdateError::Store(StoreError::Io { .. }))
    ));
    assert_eq!(fs::read(store.path()).expect("the file"), before);
    assert_eq!(labels(&store.poll_changes()), ["one"]);
    assert_eq!(labels(&open(&home).snapshot()), ["one"]);
    fs::remove_file(filler).expect("removed");
    add(&store, "two", 2).expect("added");
    assert_eq!(labels(&store.snapshot()), ["one", "two"]);
}

/// A file system of 64 kB, gone when dropped.
struct SmallFileSystem(tempfile::TempDir);

impl SmallFileSystem {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs"])
            .arg(directory.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(directory)),
            _ => None,
        }
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        // If this fails, the temporary directory cannot be removed and stays to be found.
        drop(Command::new("umount").arg(self.0.path()).status());
    }
}

// T66
#[test]
fn a_read_only_home_can_be_opened_and_read() {
    let test = TestHome::new();
    fs::write(
        test.home.path(HomeFile::KnownPeers),
        format!("{HEADER}\n{}\n", line_of("one", 1)),
    )
    .expect("a file");
    let disk = FaultDisk::new(os_disk());
    disk.follow(|_, call| match call.changes() {
        true => Fault::Error(EROFS),
        false => Fault::None,
    });
    let home = Home::open_on(Arc::new(disk), test.path()).expect("the home");
    assert_eq!(labels(&open(&home).snapshot()), ["one"]);
}

// T68
#[test]
fn a_held_lock_refuses_first_use_and_nothing_else() {
    let (disk, home) = model_home();
    let store = open(&home);
    add(&store, "one", 1).expect("added");
    let _held = home.lock().expect("the lock");
    assert!(matches!(
        add(&store, "two", 2),
        Err(UpdateError::Store(StoreError::Locked { .. }))
    ));
    assert_eq!(labels(&store.snapshot()), ["one"]);
    // News by hand arrive all the same: a stuck process must not keep a removed peer in.
    disk.put(&known_peers(), format!("{HEADER}\n").as_bytes())
        .expect("edited");
    assert_eq!(labels(&store.poll_changes()), [""; 0]);
}

/// The calls of one change of `known_peers`: the lock (7), a look (1), reading (5), the audit line
/// (6), the new file (4), the previous one (3), the last look (1), the lock once more (2), the change
/// (3), the marker (1). And the networks are looked at (1).
const STEPS: usize = 34;

// T69
#[test]
fn power_loss_at_every_step_of_a_change_leaves_the_old_or_the_new_document() {
    let mut seen = (0, 0);
    for step in 0..=STEPS {
        let (disk, home) = model_home();
        add(&open(&home), "one", 1).expect("added");
        add(&open(&home), "two", 2).expect("added");
        let faulty = FaultDisk::new(Arc::new(disk.clone()));
        let store = open(&open_on(faulty.clone()));
        faulty.fault_at(step, Fault::Stop);
        let acknowledged = add(&store, "three", 3).is_ok();
        if step == STEPS {
            assert_eq!(faulty.calls().len(), STEPS, "{:?}", faulty.calls());
        }
        for found in disk.after_power_loss() {
            let home = open_on(found);
            let found = labels(&open(&home).snapshot());
            match found.len() {
                2 => seen.0 += 1,
                _ => seen.1 += 1,
            }
            assert_eq!(found, ["one", "two", "three"][..found.len()]);
            assert!(
                found.len() == 3 || (found.len() == 2 && !acknowledged),
                "{found:?}"
            );
            // No change is without its line.
            let log = AuditLog::new(&home, "test").tail(10).expect("the log");
            assert!(log.lines.len() >= found.len());
        }
    }
    assert!(
        seen.0 > 0 && seen.1 > 0,
        "both outcomes were tried: {seen:?}"
    );
}

// T69
#[test]
fn power_loss_at_the_very_first_change_never_leaves_a_home_that_refuses() {
    for step in 0..48 {
        let (disk, home) = model_home();
        drop(home);
        let faulty = FaultDisk::new(Arc::new(disk.clone()));
        let store = open(&open_on(faulty.clone()));
        faulty.fault_at(step, Fault::Stop);
        let acknowledged = add(&store, "one", 1).is_ok();
        for found in disk.after_power_loss() {
            let store = open(&open_on(found));
            let known = labels(&store.snapshot());
            assert!(
                known == ["one"] || (known.is_empty() && !acknowledged),
                "{known:?}"
            );
            add(&store, "two", 2).expect("life goes on");
        }
    }
}

#[test]
fn an_error_at_every_step_is_reported_or_harmless() {
    for error in [EIO, ENOSPC] {
        for step in 0..STEPS {
            let (disk, home) = model_home();
            add(&open(&home), "one", 1).expect("added");
            add(&open(&home), "two", 2).expect("added");
            let faulty = FaultDisk::new(Arc::new(disk.clone()));
            let store = open(&open_on(faulty.clone()));
            faulty.fault_at(step, Fault::Error(error));
            let result = add(&store, "three", 3);
            let on_disk = labels(&open(&open_on(disk)).snapshot());
            if result.is_ok() {
                assert_eq!(on_disk, ["one", "two", "three"], "step {step}");
            }
            assert_eq!(on_disk, ["one", "two", "three"][..on_disk.len()]);
            assert_eq!(labels(&store.poll_changes()), on_disk, "step {step}");
            assert!(matches!(store.snapshot().health, Health::Fresh));
        }
    }
}

// T70
#[test]
fn a_link_or_a_file_that_others_can_write_refuses_the_start_with_a_remedy() {
    let test = TestHome::new();
    add(&open(&test.home), "one", 1).expect("added");
    let path = test.home.path(HomeFile::KnownPeers);
    fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("a mode");
    let error = PeerStore::open(&test.home, "test").expect_err("refused");
    assert!(
        matches!(&error, StoreError::Insecure { path: named, flaw: Flaw::WritableByOthers { mode: 0o666 }, .. } if *named == path)
    );
    assert_eq!(
        error.remedy(),
        Some(format!("chmod go-w {}", path.display()))
    );
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");

    let elsewhere = test.path().join("elsewhere");
    fs::rename(&path, &elsewhere).expect("moved");
    symlink(&elsewhere, &path).expect("a link");
    let error = PeerStore::open(&test.home, "test").expect_err("refused");
    assert!(matches!(
        error,
        StoreError::Insecure {
            flaw: Flaw::Symlink,
            ..
        }
    ));
}

// T70
#[test]
fn a_file_that_becomes_insecure_while_running_keeps_the_last_good_copy() {
    let test = TestHome::new();
    let store = open(&test.home);
    add(&store, "one", 1).expect("added");
    let path = store.path();
    fs::set_permissions(&path, Permissions::from_mode(0o602)).expect("a mode");
    let snapshot = store.poll_changes();
    assert_eq!(labels(&snapshot), ["one"]);
    assert!(matches!(&snapshot.health, Health::LastGood { error }
        if matches!(**error, StoreError::Insecure { .. })));
    assert!(add(&store, "two", 2).is_err());
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
    assert!(matches!(store.poll_changes().health, Health::Fresh));

    // Somebody points it to a file of their own: neither read nor replaced.
    let target = test.path().join("target");
    fs::write(&target, format!("{HEADER}\n{}\n", line_of("evil", 6))).expect("a file");
    fs::remove_file(&path).expect("removed");
    symlink(&target, &path).expect("a link");
    let snapshot = store.poll_changes();
    assert_eq!(labels(&snapshot), ["one"]);
    assert!(matches!(snapshot.health, Health::LastGood { .. }));
    assert!(add(&store, "two", 2).is_err());
    assert!(fs::symlink_metadata(&path).expect("a link").is_symlink());
}

// T72
#[test]
fn a_file_deleted_under_a_running_node_refuses_first_use_until_it_is_back() {
    let test = TestHome::new();
    let store = open(&test.home);
    add(&store, "one", 1).expect("added");
    let text = fs::read(store.path()).expect("the file");
    fs::remove_file(store.path()).expect("deleted");

    let snapshot = store.poll_changes();
    assert_eq!(labels(&snapshot), ["one"], "known peers keep working");
    assert!(matches!(snapshot.health, Health::Missing));
    assert_eq!(store.poll_changes().epoch, snapshot.epoch, "one alarm");
    assert!(matches!(
        add(&store, "two", 2),
        Err(UpdateError::Store(StoreError::Missing { .. }))
    ));
    assert!(!store.path().exists(), "and nothing is made in its place");

    fs::write(store.path(), text).expect("restored");
    assert!(matches!(store.poll_changes().health, Health::Fresh));
    add(&store, "two", 2).expect("added");
}

// T72
#[test]
fn a_file_deleted_before_the_first_look_at_it_is_missing_for_every_process() {
    let test = TestHome::new();
    let store = open(&test.home);
    add(&open(&test.home), "one", 1).expect("added");
    fs::remove_file(store.path()).expect("deleted");
    // This process never saw the file; the marker tells.
    assert!(matches!(
        add(&store, "two", 2),
        Err(UpdateError::Store(StoreError::Missing { .. }))
    ));
}

// T72
#[test]
fn a_file_missing_at_the_start_refuses_until_it_is_explicitly_begun_anew() {
    for marker_goes_too in [false, true] {
        let test = TestHome::new();
        let store = open(&test.home);
        add(&store, "one", 1).expect("added");
        add(&store, "two", 2).expect("added");
        fs::remove_file(store.path()).expect("deleted");
        if marker_goes_too {
            // `known_peers.old` tells the same.
            fs::remove_file(test.home.path(HomeFile::KnownPeersPresent)).expect("deleted");
        }
        let error = PeerStore::open(&test.home, "test").expect_err("refused");
        assert!(matches!(&error, StoreError::Missing { .. }));
        let path = store.path();
        let path = path.display();
        assert_eq!(
            error.remedy(),
            Some(format!(
                "restore it, perhaps with `cp -p {path}.old {path}`"
            ))
        );

        let anew = PeerStore::reinitialise(&test.home, "comity trust check").expect("anew");
        assert_eq!(labels(&anew.snapshot()), [""; 0]);
        let old = fs::read_to_string(test.path().join("known_peers.old")).expect("a file");
        assert!(old.contains("one"), "what can be restored stays: {old}");
        add(&anew, "three", 3).expect("added");
        assert_eq!(labels(&open(&test.home).snapshot()), ["three"]);
        // The node that was running follows.
        assert_eq!(labels(&store.poll_changes()), ["three"]);
        let log = AuditLog::new(&test.home, "test").tail(10).expect("the log");
        assert!(log.lines.iter().any(|line| line.action == "reinitialise"));
    }
}

#[test]
fn beginning_anew_never_throws_a_file_away() {
    let test = TestHome::new();
    add(&open(&test.home), "one", 1).expect("added");
    let store = PeerStore::reinitialise(&test.home, "test").expect("opened");
    assert_eq!(labels(&store.snapshot()), ["one"]);
    fs::write(store.path(), "nonsense\n").expect("edited");
    assert!(PeerStore::reinitialise(&test.home, "test").is_err());
    assert_eq!(fs::read(store.path()).expect("the file"), b"nonsense\n");
}

#[test]
fn a_file_put_there_by_hand_is_missed_when_it_goes() {
    let test = TestHome::new();
    let path = test.home.path(HomeFile::KnownPeers);
    fs::write(&path, format!("{HEADER}\n")).expect("a file");
    drop(open(&test.home));
    fs::remove_file(&path).expect("deleted");
    assert!(matches!(
        PeerStore::open(&test.home, "test"),
        Err(StoreError::Missing { .. })
    ));
}

#[test]
fn an_unchanged_file_is_not_read_again() {
    let (disk, home) = model_home();
    add(&open(&home), "one", 1).expect("added");
    let counting = FaultDisk::new(Arc::new(disk.clone()));
    let store = open(&open_on(counting.clone()));
    let polled = |times: usize| {
        counting.heal();
        (0..times).for_each(|_| drop(store.poll_changes()));
        let calls = counting.calls();
        assert!(calls.len() >= times, "each time, it is looked at");
        calls.iter().filter(|c| matches!(c, Call::Open(_))).count()
    };
    let epoch = store.snapshot().epoch;
    // A file just changed may change unseen: then it is read now and then, and no more often.
    assert_eq!(polled(1000), 0);
    for _ in 0..3 {
        counting.pass(POLL_EVERY - Duration::from_millis(1));
        assert_eq!(polled(1000), 0);
        counting.pass(Duration::from_millis(1));
        assert_eq!(polled(1000), 1);
    }
    // Once it has settled, never again.
    counting.pass(SETTLED_AFTER);
    assert_eq!(polled(1000), 1);
    for _ in 0..10 {
        counting.pass(SETTLED_AFTER);
        assert_eq!(polled(100), 0);
        assert_eq!(
            counting.calls(),
            [Call::Stat; 200],
            "known_peers and networks"
        );
    }
    assert_eq!(store.snapshot().epoch, epoch);

    // What looks different is read at once.
    let text = format!("{HEADER}\n{}\n", line_of("two", 2));
    disk.put(&known_peers(), text.as_bytes()).expect("edited");
    assert_eq!(labels(&store.poll_changes()), ["two"]);
}

#[test]
fn a_file_with_times_in_the_future_settles_like_any_other() {
    let test = TestHome::new();
    add(&open(&test.home), "one", 1).expect("added");
    let disk = FaultDisk::new(os_disk());
    let home = Home::open_on(Arc::new(disk.clone()), test.path()).expect("the home");
    let store = open(&home);
    let next_year = std::time::SystemTime::now() + Duration::from_secs(365 * 24 * 60 * 60);
    let file = fs::File::options().write(true).open(store.path());
    let file = file.expect("the file");
    file.set_modified(next_year).expect("a time");
    disk.heal();
    store.poll_changes();
    disk.pass(SETTLED_AFTER);
    store.poll_changes();
    assert!(disk.calls().contains(&Call::Read));
    disk.pass(POLL_EVERY);
    disk.heal();
    store.poll_changes();
    assert_eq!(disk.calls(), [Call::Stat; 2], "known_peers and networks");
}

#[test]
fn a_change_that_cannot_be_seen_is_noticed_at_the_next_reading() {
    let (disk, home) = model_home();
    add(&open(&home), "one", 1).expect("added");
    let passing = FaultDisk::new(Arc::new(disk.clone()));
    let store = open(&open_on(passing.clone()));
    let text = disk.content(&known_peers()).expect("the file");
    let text = String::from_utf8(text).expect("text");
    let rounds = ["two", "one", "two"];
    for label in rounds {
        // In place and in the same tick: inode, size and times stay.
        let changed = text.replace("one", label);
        disk.overwrite_unseen(&known_peers(), changed.as_bytes())
            .expect("edited");
        passing.pass(POLL_EVERY);
        assert_eq!(labels(&store.poll_changes()), [label]);
    }
    // Nor does it matter for a change of ours, whenever that comes.
    disk.overwrite_unseen(&known_peers(), text.replace("one", "six").as_bytes())
        .expect("edited");
    add(&store, "seven", 7).expect("added");
    assert_eq!(labels(&store.snapshot()), ["six", "seven"]);
}

#[test]
fn a_settled_file_is_not_read_for_a_change_and_a_bad_one_not_again_and_again() {
    let (disk, home) = model_home();
    add(&open(&home), "one", 1).expect("added");
    let counting = FaultDisk::new(Arc::new(disk.clone()));
    let store = open(&open_on(counting.clone()));
    let reads = |store: &PeerStore| {
        counting.heal();
        let outcome = store.decide_and_record(|known| (known.entries().count(), None));
        let opened = Call::Open(Access::Read);
        let reads = counting.calls().iter().filter(|c| **c == opened).count();
        (reads, outcome.map(|(count, _)| count).ok())
    };
    assert_eq!(reads(&store), (1, Some(1)));
    counting.pass(SETTLED_AFTER);
    assert_eq!(reads(&store), (1, Some(1)));
    assert_eq!(reads(&store), (0, Some(1)));

    disk.put(&known_peers(), b"nonsense\n").expect("edited");
    assert_eq!(reads(&store), (1, None));
    counting.pass(SETTLED_AFTER);
    assert_eq!(reads(&store), (1, None));
    assert_eq!(reads(&store), (0, None));
    assert!(matches!(store.snapshot().health, Health::LastGood { .. }));
}

#[test]
fn a_change_of_the_same_length_right_after_a_look_is_seen() {
    let test = TestHome::new();
    let disk = FaultDisk::new(os_disk());
    let home = Home::open_on(Arc::new(disk.clone()), test.path()).expect("the home");
    let store = open(&home);
    add(&store, "one", 1).expect("added");
    let text = fs::read_to_string(store.path()).expect("the file");
    for round in 0..20 {
        let (from, to) = if round % 2 == 0 {
            ("one", "two")
        } else {
            ("two", "one")
        };
        // In place, so that the inode stays, too.
        fs::write(store.path(), text.replace("one", to)).expect("edited");
        disk.pass(POLL_EVERY);
        assert_eq!(labels(&store.poll_changes()), [to], "after {from}");
    }
}

// T76
#[tokio::test(start_paused = true)]
async fn a_change_by_anybody_reaches_the_watchers_within_a_second() {
    let test = TestHome::new();
    let store = Arc::new(open(&test.home));
    add(&store, "one", 1).expect("added");
    let mut watcher = store.watch();
    let reloading = tokio::spawn(Arc::clone(&store).reload_loop());

    // Another process adds, an editor empties the file, and somebody breaks it.
    add(&open(&test.home), "two", 2).expect("added");
    let edited = format!("{HEADER}\n");
    for (content, expected) in [
        (None, &["one", "two"][..]),
        (Some(edited.as_str()), &[]),
        (Some("nonsense\n"), &[]),
    ] {
        if let Some(content) = content {
            fs::write(store.path(), content).expect("edited");
        }
        let start = tokio::time::Instant::now();
        watcher.changed().await.expect("news");
        assert!(start.elapsed() <= 2 * POLL_EVERY, "{:?}", start.elapsed());
        assert_eq!(labels(&watcher.borrow_and_update()), expected);
    }
    assert!(matches!(store.snapshot().health, Health::LastGood { .. }));
    reloading.abort();
}

#[test]
fn epochs_grow_and_watchers_see_the_newest_snapshot() {
    let test = TestHome::new();
    let store = open(&test.home);
    let watcher = store.watch();
    let mut last = store.snapshot().epoch;
    for n in 0..5 {
        let epoch = add(&store, &format!("p{n}"), n).expect("added").epoch;
        assert!(epoch > last);
        last = epoch;
    }
    assert_eq!(watcher.borrow().epoch, last);
    assert_eq!(labels(&watcher.borrow()).len(), 5);
}

fn open(home: &Home) -> PeerStore {
    PeerStore::open(home, "test").expect("the store")
}

fn add(store: &PeerStore, label: &str, key: u32) -> Result<Arc<Snapshot>, UpdateError> {
    store.update(|_| Ok(addition(label, key)))
}

fn addition(label: &str, key: u32) -> Change {
    Change {
        edit: Edit::Add(Box::new(entry(label, node(key)))),
        deed: Deed {
            action: "add".into(),
            peer: Some(peer(key)),
            detail: label.into(),
        },
    }
}

/// What a gate does at first use: whoever comes second is refused.
fn first_use(store: &PeerStore, key: u32) -> bool {
    let name = name("first");
    let (recognised, _) = store
        .decide_and_record(|known| {
            if known.pins_named(&name, None).is_empty() {
                (true, Some(addition("first", key)))
            } else {
                (false, None)
            }
        })
        .expect("decided");
    recognised
}

fn entry(label: &str, id: NodeId) -> Entry {
    Entry::new(
        Side::Both,
        Names::one(name(label)),
        What::Pin(Pin::Node(id)),
    )
}

/// The line of an entry, as the file has it.
fn line_of(label: &str, key: u32) -> String {
    let add = Edit::Add(Box::new(entry(label, node(key))));
    let text = KnownPeers::empty().with(add).expect("an entry").to_text();
    text.lines().nth(1).expect("a line").to_owned()
}

fn name(label: &str) -> Name {
    Name::label(label).expect("a label")
}

fn labels(snapshot: &Snapshot) -> Vec<String> {
    let names = snapshot.known.entries().map(|(_, e)| e.display_name());
    names.flatten().map(|n| n.as_str().to_owned()).collect()
}

fn known_peers() -> std::path::PathBuf {
    Path::new(MODEL_HOME).join("known_peers")
}
