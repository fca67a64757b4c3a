//! An identity is there completely or not at all.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::support::{
    MODEL_HOME, TestHome, child, child_task, model_home, names, open_on, succeeded,
};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::fault::{Fault, FaultDisk};
use crate::home::{Home, HomeFile};
use crate::identity_files::{Established, IdentityFiles};

/// Looking for one (2), the lock (7), the directory (3), three files (4 each), its names, the lock
/// once more (2), the rename, the home's names (2).
const STEPS: usize = 30;

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
        assert_eq!(acknowledged, step == STEPS);
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

/// Makes an identity whose every byte is `number`.
pub(super) fn establish(home: &Home, number: u8) -> Result<Established, StoreError> {
    home.establish_identity(|| {
        Ok(IdentityFiles {
            key: Zeroizing::new(vec![number; 100]),
            certificate: vec![number; 50],
            next_key: Some(Zeroizing::new(vec![number; 70])),
        })
    })
}

fn belongs_to(files: &IdentityFiles, number: u8) -> bool {
    let all = |bytes: &[u8], length| bytes == vec![number; length];
    all(&files.key, 100)
        && all(&files.certificate, 50)
        && files.next_key.as_ref().is_none_or(|key| all(key, 70))
}
