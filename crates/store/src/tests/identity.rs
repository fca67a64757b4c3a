//! An identity is there completely or not at all.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::support::{
    MODEL_HOME, TestHome, child, child_task, model_home, names, open_on, succeeded,
};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::fault::{Call, Fault, FaultDisk, ModelDisk};
use crate::home::{Home, HomeFile};
use crate::identity_files::{Established, IdentityFiles};

/// Looking for one (2), the lock (7), the directory (3), three files (4 each), its names, the lock
/// once more (2), the rename, the home's names (2), whether anything is left (1).
const STEPS: usize = 31;

/// The step after which an identity is durable.
const DURABLE: usize = STEPS - 1;

#[test]
fn an_identity_is_made_once_and_never_changed() {
    let test = TestHome::new();
    assert!(test.home.identity().expect("no error").is_none());
    let first = establish(&test.home, 1).expect("an identity");
    assert!(first.created);
    let second = establish(&test.home, 2).expect("an identity");
    assert!(!second.created);
    assert!(belongs_to(&second.files, 1));
    assert_eq!(
        names(&test.path().join("identity")),
        ["identity.crt", "identity.key", "next.key"]
    );
    assert_eq!(names(test.path()), ["identity", "lock"]);
}

#[test]
fn the_next_key_may_be_taken_offline_and_nothing_else() {
    let test = TestHome::new();
    establish(&test.home, 1).expect("an identity");
    std::fs::remove_file(test.home.path(HomeFile::NextKey)).expect("removed");
    let files = test.home.identity().expect("read").expect("there");
    assert!(files.next_key.is_none());
    std::fs::remove_file(test.home.path(HomeFile::IdentityCertificate)).expect("removed");
    assert!(matches!(
        test.home.identity(),
        Err(StoreError::Missing { path }) if path.ends_with("identity.crt")
    ));
    assert!(
        establish(&test.home, 2).is_err(),
        "half an identity is not replaced"
    );
}

#[test]
fn making_an_identity_has_a_known_number_of_steps() {
    let (disk, _) = model_home();
    let counting = FaultDisk::new(Arc::new(disk));
    let home = open_on(counting.clone());
    counting.heal();
    establish(&home, 1).expect("an identity");
    assert_eq!(counting.calls().len(), STEPS);
}

#[test]
fn power_loss_at_every_step_leaves_no_identity_or_a_whole_one_and_init_goes_on() {
    let mut seen = (0, 0);
    for step in 0..=STEPS {
        let (disk, _) = model_home();
        let faulty = FaultDisk::new(Arc::new(disk.clone()));
        let home = open_on(faulty.clone());
        faulty.fault_at(step, Fault::Stop);
        let acknowledged = establish(&home, 1).is_ok();
        assert_eq!(acknowledged, step >= DURABLE);
        for found in disk.after_power_loss() {
            let home = open_on(found.clone());
            let survived = home.identity().expect("no error").is_some();
            assert!(survived || !acknowledged, "acknowledged and lost");
            let now = establish(&home, 2).expect("init goes on");
            assert_eq!(now.created, !survived);
            assert!(belongs_to(&now.files, if survived { 1 } else { 2 }));
            let mut names = found.list(Path::new(MODEL_HOME)).expect("names");
            // The lock file may be lost with the power, and needs no second life.
            names.retain(|name| name != "lock");
            if !survived {
                assert_eq!(names, ["identity"], "the leftovers are gone");
                seen.0 += 1;
            } else {
                seen.1 += 1;
            }
        }
    }
    assert!(
        seen.0 > 0 && seen.1 > 0,
        "both outcomes were tried: {seen:?}"
    );
}

#[test]
fn an_error_at_every_step_leaves_no_identity_or_a_whole_one() {
    for step in 0..STEPS {
        let (disk, _) = model_home();
        let faulty = FaultDisk::new(Arc::new(disk.clone()));
        let home = open_on(faulty.clone());
        faulty.fault_at(step, Fault::Error(nix::libc::ENOSPC));
        let failed = establish(&home, 1).is_err();
        let home = open_on(disk);
        let there = home.identity().expect("no error").is_some();
        assert!(failed || there, "acknowledged and not there");
        let now = establish(&home, 2).expect("init goes on");
        assert!(belongs_to(&now.files, if there { 1 } else { 2 }));
    }
}

#[test]
fn of_several_processes_that_init_at_once_one_makes_the_identity_and_all_use_it() {
    let test = TestHome::new();
    let children: Vec<_> = (1..=8)
        .map(|number| child("tests::identity::child_that_inits", test.path(), number))
        .collect();
    children.into_iter().for_each(succeeded);
    let makers: Vec<String> = names(test.path())
        .into_iter()
        .filter(|name| name.starts_with("maker-"))
        .collect();
    assert_eq!(makers.len(), 1, "{makers:?}");
    let number = makers[0]["maker-".len()..].parse().expect("a number");
    let files = test.home.identity().expect("read").expect("there");
    assert!(belongs_to(&files, number));
}

#[test]
#[ignore = "runs as a child process of of_several_processes_that_init_at_once"]
fn child_that_inits() {
    let Some((path, number)) = child_task() else {
        return;
    };
    let home = Home::open(&path).expect("the home");
    let identity = establish(&home, u8::try_from(number).expect("small")).expect("an identity");
    let maker = identity.files.key[0];
    assert!(belongs_to(&identity.files, maker), "nobody sees a mixture");
    assert_eq!(identity.created, usize::from(maker) == number);
    if identity.created {
        std::fs::write(path.join(format!("maker-{number}")), "").expect("a file");
    }
}

#[test]
fn an_identity_is_succeeded_and_the_one_before_it_is_kept() {
    let test = TestHome::new();
    establish(&test.home, 1).expect("an identity");
    for number in 2..=4 {
        let after = succeed(&test.home, number).expect("succeeded");
        assert!(belongs_to(&after, number));
        let now = test.home.identity().expect("read").expect("there");
        assert!(belongs_to(&now, number));
        assert_eq!(now.succession, Some(vec![number; 30]));
        let previous = test.home.previous_identity().expect("read").expect("there");
        assert!(belongs_to(&previous, number - 1));
        assert!(previous.next_key.is_none(), "it is the key of today");
        assert_eq!(
            names(test.path()),
            ["identity", "identity.previous", "lock"]
        );
    }
}

#[test]
fn a_home_without_an_identity_has_nothing_to_succeed() {
    let test = TestHome::new();
    assert!(matches!(
        succeed(&test.home, 2),
        Err(StoreError::Missing { path }) if path.ends_with("identity")
    ));
    assert!(test.home.previous_identity().expect("read").is_none());
}

#[test]
fn what_cannot_be_made_leaves_the_identity_alone() {
    let test = TestHome::new();
    establish(&test.home, 1).expect("an identity");
    let refused: Result<_, StoreError> = test.home.succeed_identity(|before| {
        assert!(belongs_to(before, 1));
        Err(StoreError::Entropy {
            cause: "none today".into(),
        })
    });
    assert!(refused.is_err());
    assert_eq!(names(test.path()), ["identity", "lock"]);
}

#[test]
fn power_loss_at_every_step_of_a_succession_leaves_the_old_identity_or_the_new_one_and_both_keys() {
    for older in [false, true] {
        let steps = succession_steps(older);
        let mut seen = (0, 0);
        for step in 0..=steps {
            let (disk, faulty, home) = ready_to_succeed(older);
            faulty.fault_at(step, Fault::Stop);
            let acknowledged = succeed(&home, 3).is_ok();
            // While the last directory is emptied, any of its names may survive: what they are
            // makes no difference, so not every combination is tried.
            let found = disk.after_power_loss();
            let every = found.len().div_ceil(24);
            for found in found.into_iter().step_by(every) {
                let home = open_on(found);
                let now = home.identity().expect("whole").expect("there");
                let previous = home.previous_identity().expect("whole or none");
                if belongs_to(&now, 3) {
                    let previous = previous.expect("what was replaced");
                    assert!(belongs_to(&previous, 2), "older {older}, step {step}");
                    seen.1 += 1;
                } else {
                    assert!(belongs_to(&now, 2), "older {older}, step {step}");
                    assert!(!acknowledged, "acknowledged and lost");
                    seen.0 += 1;
                }
                succeed(&home, 4).expect("it goes on");
                let now = home.identity().expect("read").expect("there");
                assert!(belongs_to(&now, 4));
            }
        }
        assert!(
            seen.0 > 0 && seen.1 > 0,
            "both outcomes were tried: {seen:?}"
        );
    }
}

#[test]
fn an_error_at_every_step_of_a_succession_leaves_one_whole_identity() {
    for older in [false, true] {
        for step in 0..succession_steps(older) {
            let (disk, faulty, home) = ready_to_succeed(older);
            faulty.fault_at(step, Fault::Error(nix::libc::EIO));
            let failed = succeed(&home, 3).is_err();
            let home = open_on(disk);
            let now = home.identity().expect("whole").expect("there");
            assert!(
                belongs_to(&now, 3) || (failed && belongs_to(&now, 2)),
                "step {step}"
            );
            let lock = home.lock().expect("the lock");
            drop(lock);
            let names = home.disk().list(Path::new(MODEL_HOME)).expect("names");
            let left = names.iter().any(|n| n.to_string_lossy().contains("tmp"));
            assert!(!left, "step {step}: {names:?}");
        }
    }
}

#[test]
fn a_file_system_that_cannot_exchange_names_keeps_the_old_identity() {
    let (disk, faulty, home) = ready_to_succeed(false);
    faulty.follow(|_, call| match call {
        Call::Exchange => Fault::Error(nix::libc::EINVAL),
        _ => Fault::None,
    });
    match succeed(&home, 3) {
        Err(StoreError::Io { path, .. }) => assert!(path.ends_with("identity")),
        other => panic!("{:?}", other.map(|_| ())),
    }
    let now = open_on(disk).identity().expect("read").expect("there");
    assert!(belongs_to(&now, 2));
}

#[test]
fn a_reader_never_sees_a_mixture_of_two_identities() {
    let (_, faulty, home) = ready_to_succeed(false);
    let calls = {
        home.identity().expect("read");
        faulty.calls().len()
    };
    for step in 0..calls {
        let (disk, faulty, home) = ready_to_succeed(false);
        let other = open_on(disk);
        faulty.follow(move |number, _| {
            if number == step {
                succeed(&other, 3).expect("succeeded");
            }
            Fault::None
        });
        let files = home.identity().expect("read").expect("there");
        assert!(
            belongs_to(&files, 2) || belongs_to(&files, 3),
            "step {step}"
        );
    }
}

/// A home whose identity has number 2, perhaps with an older one beside it, and a disk that counts.
fn ready_to_succeed(older: bool) -> (ModelDisk, FaultDisk, Home) {
    let (disk, home) = model_home();
    establish(&home, if older { 1 } else { 2 }).expect("an identity");
    if older {
        succeed(&home, 2).expect("succeeded");
    }
    let faulty = FaultDisk::new(Arc::new(disk.clone()));
    let home = open_on(faulty.clone());
    faulty.heal();
    (disk, faulty, home)
}

fn succession_steps(older: bool) -> usize {
    let (_, counting, home) = ready_to_succeed(older);
    succeed(&home, 3).expect("succeeded");
    counting.calls().len()
}

fn succeed(home: &Home, number: u8) -> Result<IdentityFiles, StoreError> {
    home.succeed_identity(|_| {
        Ok(IdentityFiles {
            succession: Some(vec![number; 30]),
            ..files_of(number)
        })
    })
}

/// Makes an identity whose every byte is `number`.
pub(super) fn establish(home: &Home, number: u8) -> Result<Established, StoreError> {
    home.establish_identity(|| Ok(files_of(number)))
}

fn files_of(number: u8) -> IdentityFiles {
    IdentityFiles {
        key: Zeroizing::new(vec![number; 100]),
        certificate: vec![number; 50],
        next_key: Some(Zeroizing::new(vec![number; 70])),
        succession: None,
    }
}

fn belongs_to(files: &IdentityFiles, number: u8) -> bool {
    let all = |bytes: &[u8], length| bytes == vec![number; length];
    all(&files.key, 100)
        && all(&files.certificate, 50)
        && files.next_key.as_ref().is_none_or(|key| all(key, 70))
        && files.succession.as_ref().is_none_or(|s| all(s, 30))
}
