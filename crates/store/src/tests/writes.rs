//! A replaced file has its old content or the new one, whatever happens on the way.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc::{EIO, ENOSPC, EROFS, SIGABRT};

use super::support::{
    MODEL_HOME, TestHome, child, child_task, model_home, names, open_on, os_disk,
};
use crate::disk::Access;
use crate::error::StoreError;
use crate::fault::{Call, Fault, FaultDisk, ModelDisk};
use crate::home::{Home, HomeFile};
use crate::lock::LOCK_WAIT;

const OLD: &[u8] = b"the old content, of some length\n";
const NEW: &[u8] = b"and the new content, which is longer\n";

/// The calls of taking the lock and replacing one file whose previous content is kept.
const CALLS: [Call; 19] = [
    // The lock: open it, check it, take it, see that it is still the one, look for leftovers.
    Call::Open(Access::Append),
    Call::Stat,
    Call::Lock,
    Call::Stat,
    Call::Stat,
    Call::List,
    Call::List,
    // The temporary file.
    Call::Open(Access::CreateNew),
    Call::SetMode,
    Call::Write,
    Call::Sync,
    // The previous content.
    Call::HardLink,
    Call::Rename,
    Call::Unlink,
    // The lock once more.
    Call::Stat,
    Call::Stat,
    // The change, and its durability.
    Call::Rename,
    Call::Open(Access::Directory),
    Call::Sync,
];

const STEPS: usize = CALLS.len();

#[test]
fn a_write_has_nineteen_steps() {
    let (disk, home) = model_home();
    replace(&home, OLD).expect("a write");
    let (counting, home) = faulty(&disk);
    replace(&home, NEW).expect("a write");
    assert_eq!(counting.calls(), CALLS);
}

// T69
#[test]
fn power_loss_at_every_step_leaves_old_or_new_content() {
    let mut seen = (0, 0);
    for step in 0..=STEPS {
        let disk = written_once();
        let acknowledged = replace_until(&disk, step).is_ok();
        assert_eq!(acknowledged, step == STEPS);
        for found in disk.after_power_loss() {
            let content = content(&found);
            if acknowledged {
                assert_eq!(content.as_deref(), Some(NEW), "acknowledged and lost");
            }
            match content.as_deref() {
                Some(OLD) => seen.0 += 1,
                Some(NEW) => seen.1 += 1,
                other => panic!("power loss at step {step} left {other:?}"),
            }
        }
    }
    assert!(
        seen.0 > 0 && seen.1 > 0,
        "both outcomes were tried: {seen:?}"
    );
}

#[test]
fn the_model_loses_what_was_not_synchronised() {
    // The same write without the two `fsync`s must be caught, or the test above proves nothing.
    let disk = written_once();
    let (lazy, home) = faulty(&disk);
    lazy.follow(|_, call| match call {
        Call::Sync => Fault::Skip,
        _ => Fault::None,
    });
    replace(&home, NEW).expect("a write");
    let found: Vec<_> = disk.after_power_loss().iter().map(content).collect();
    assert!(
        found.contains(&Some(Vec::new())),
        "an empty file: {found:?}"
    );
    assert!(
        found.contains(&Some(OLD.to_vec())),
        "a lost rename: {found:?}"
    );
}

#[test]
fn power_loss_at_the_first_write_leaves_nothing_or_everything() {
    for step in 0..=STEPS {
        let (disk, _) = model_home();
        let written = replace_until(&disk, step).is_ok();
        for found in disk.after_power_loss() {
            match content(&found).as_deref() {
                None => assert!(!written, "acknowledged and lost"),
                content => assert_eq!(content, Some(NEW)),
            }
        }
    }
}

#[test]
fn a_write_after_power_loss_at_any_step_works_and_leaves_no_rubbish() {
    for step in 0..=STEPS {
        let disk = written_once();
        // What is in the file is the subject of another test.
        drop(replace_until(&disk, step));
        for found in disk.after_power_loss() {
            let home = open_on(found.clone());
            replace(&home, b"third").expect("a write");
            assert_eq!(content(&found).as_deref(), Some(&b"third"[..]));
            let names = crate::disk::Disk::list(&found, Path::new(MODEL_HOME)).expect("names");
            assert!(
                !names.iter().any(|n| n.to_string_lossy().contains("tmp")),
                "{names:?}"
            );
        }
    }
}

// T67
#[test]
fn an_error_at_every_step_leaves_old_or_new_content_and_says_so() {
    for error in [EIO, ENOSPC, EROFS] {
        for (step, call) in CALLS.into_iter().enumerate() {
            let disk = written_once();
            let (faulty, home) = faulty(&disk);
            faulty.fault_at(step, Fault::Error(error));
            let result = replace(&home, NEW);
            // Looking for leftovers is the one thing that may fail, and clearing them away.
            let failed = !matches!(call, Call::List | Call::Unlink);
            assert_eq!(result.is_err(), failed, "step {step}");
            let content = content(&disk).expect("a file");
            assert!(
                content == OLD || content == NEW,
                "step {step} left {content:?}"
            );
            if !failed {
                assert_eq!(content, NEW);
            }
            // The next one finds everything in order.
            replace(&open_on(disk.clone()), b"third").expect("a write");
        }
    }
}

// T69
#[test]
fn a_process_killed_at_every_step_leaves_old_or_new_content() {
    for step in 0..STEPS {
        let test = TestHome::new();
        replace(&test.home, OLD).expect("a write");
        let killed = child("tests::writes::child_that_is_killed", test.path(), step)
            .wait_with_output()
            .expect("a child process");
        assert_eq!(killed.status.signal(), Some(SIGABRT), "step {step}");
        let content = std::fs::read(test.home.path(HomeFile::KnownPeers)).expect("a file");
        assert!(
            content == OLD || content == NEW,
            "step {step} left {content:?}"
        );
        // The lock went with the process, and so does the rubbish with the next write.
        replace(&test.home, b"third").expect("a write");
        assert_eq!(
            names(test.path()),
            ["known_peers", "known_peers.old", "lock"]
        );
    }
}

#[test]
#[ignore = "runs as a child process of a_process_killed_at_every_step"]
fn child_that_is_killed() {
    let Some((home, step)) = child_task() else {
        return;
    };
    let disk = FaultDisk::new(os_disk());
    let home = Home::open_on(Arc::new(disk.clone()), &home).expect("the home");
    disk.fault_at(step, Fault::Abort);
    drop(replace(&home, NEW));
}

#[test]
fn the_previous_content_is_kept_beside_the_new_one() {
    let test = TestHome::new();
    replace(&test.home, OLD).expect("a write");
    replace(&test.home, NEW).expect("a write");
    let old = test.path().join("known_peers.old");
    assert_eq!(std::fs::read(old).expect("a file"), OLD);
}

#[test]
fn the_previous_content_outlives_a_file_that_is_gone() {
    let test = TestHome::new();
    replace(&test.home, OLD).expect("a write");
    replace(&test.home, NEW).expect("a write");
    std::fs::remove_file(test.home.path(HomeFile::KnownPeers)).expect("removed");
    replace(&test.home, b"third").expect("a write");
    let old = test.path().join("known_peers.old");
    assert_eq!(std::fs::read(old).expect("a file"), OLD);
}

#[test]
fn the_previous_content_is_there_at_every_step_of_a_write() {
    for step in 0..STEPS {
        let disk = written_once();
        replace(&open_on(disk.clone()), NEW).expect("a write");
        let (faulty, home) = faulty(&disk);
        faulty.fault_at(step, Fault::Stop);
        replace(&home, b"third").expect_err("stopped");
        for found in disk.after_power_loss() {
            let old = found.content(&Path::new(MODEL_HOME).join("known_peers.old"));
            let old = old.expect("the previous content");
            assert!(old == OLD || old == NEW, "step {step} left {old:?}");
        }
    }
}

// T68
#[test]
fn a_lock_that_is_held_too_long_is_an_error_that_names_the_file() {
    let (disk, home) = model_home();
    let _held = home.lock().expect("the lock");
    let (waiting, impatient) = faulty(&disk);
    match impatient.lock() {
        Err(StoreError::Locked { path, waited }) => {
            assert_eq!(path, home.path(HomeFile::Lock));
            assert!(waited >= LOCK_WAIT);
        }
        other => panic!("{other:?}"),
    }
    assert!(waiting.paused() >= LOCK_WAIT);
    let tries = waiting.calls().iter().filter(|c| **c == Call::Lock).count();
    assert!(tries < 1000, "{tries} tries are a busy loop");
    let opened = Call::Open(Access::Append);
    let opened = waiting.calls().iter().filter(|c| **c == opened).count();
    assert_eq!(opened, 1, "a try is one call");
}

#[test]
fn a_lock_file_that_was_removed_while_waiting_excludes_nobody_and_is_given_up() {
    let test = TestHome::new();
    let disk = FaultDisk::new(os_disk());
    let home = Home::open_on(Arc::new(disk.clone()), test.path()).expect("the home");
    let path = home.path(HomeFile::Lock);
    let removed = AtomicBool::new(false);
    disk.follow(move |_, call| {
        // Between opening the file and locking it.
        if call == Call::Lock && !removed.swap(true, Ordering::Relaxed) {
            std::fs::remove_file(&path).expect("removed");
        }
        Fault::None
    });
    let _held = home.lock().expect("the lock");
    let impatient = FaultDisk::new(os_disk());
    let other = Home::open_on(Arc::new(impatient), test.path()).expect("the home");
    assert!(matches!(other.lock(), Err(StoreError::Locked { .. })));
}

#[test]
fn whoever_lost_the_lock_changes_nothing() {
    let test = TestHome::new();
    replace(&test.home, OLD).expect("a write");
    let lock = test.home.lock().expect("the lock");
    std::fs::remove_file(test.home.path(HomeFile::Lock)).expect("removed");
    // Now another writer gets in.
    replace(&test.home, NEW).expect("a write");
    let late = test.home.replace(&lock, HomeFile::KnownPeers, b"third");
    let path = test.home.path(HomeFile::Lock);
    assert!(matches!(late, Err(StoreError::LockLost { path: lost }) if lost == path));
    let content = std::fs::read(test.home.path(HomeFile::KnownPeers)).expect("a file");
    assert_eq!(content, NEW);
    let rubbish = names(test.path()).into_iter().any(|n| n.contains("tmp"));
    assert!(!rubbish);
}

#[test]
fn a_lock_file_that_was_removed_or_replaced_stops_a_write_until_its_last_step() {
    let last_look = CALLS
        .iter()
        .rposition(|c| *c == Call::Stat)
        .expect("a look");
    let taken = 5;
    for replaced in [false, true] {
        for step in taken..=last_look {
            let test = TestHome::new();
            replace(&test.home, OLD).expect("a write");
            let disk = FaultDisk::new(os_disk());
            let home = Home::open_on(Arc::new(disk.clone()), test.path()).expect("the home");
            let path = home.path(HomeFile::Lock);
            disk.follow(move |number, _| {
                if number == step {
                    std::fs::remove_file(&path).expect("removed");
                    if replaced {
                        std::fs::write(&path, "").expect("replaced");
                    }
                }
                Fault::None
            });
            let written = replace(&home, NEW);
            assert!(
                matches!(written, Err(StoreError::LockLost { .. })),
                "step {step}: {written:?}"
            );
            let content = std::fs::read(home.path(HomeFile::KnownPeers)).expect("a file");
            assert_eq!(content, OLD, "step {step}");
        }
    }
}

fn replace(home: &Home, content: &[u8]) -> Result<(), StoreError> {
    let lock = home.lock()?;
    home.replace(&lock, HomeFile::KnownPeers, content)
}

fn written_once() -> ModelDisk {
    let (disk, home) = model_home();
    replace(&home, OLD).expect("a write");
    disk
}

fn faulty(disk: &ModelDisk) -> (FaultDisk, Home) {
    let faulty = FaultDisk::new(Arc::new(disk.clone()));
    let home = open_on(faulty.clone());
    faulty.heal();
    (faulty, home)
}

/// A write by a process that stops at a step.
fn replace_until(disk: &ModelDisk, step: usize) -> Result<(), StoreError> {
    let (faulty, home) = faulty(disk);
    faulty.fault_at(step, Fault::Stop);
    replace(&home, NEW)
}

fn content(disk: &ModelDisk) -> Option<Vec<u8>> {
    disk.content(&Path::new(MODEL_HOME).join("known_peers"))
}
