//! An authority's files are there completely or not at all; and files that leave the home.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use comity_identity::{KeyHash, NodeId};
use zeroize::Zeroizing;

use super::support::{MODEL_HOME, TestHome, model_home, names, node, open_on};
use crate::authority_files::{AuthorityFiles, MAX_AUTHORITIES, MAX_STATE_BYTES, NewAuthorityFiles};
use crate::disk::Disk;
use crate::error::{Flaw, StoreError};
use crate::export::{Exported, export, export_on};
use crate::fault::{Fault, FaultDisk, ModelDisk};
use crate::home::Home;

#[test]
fn an_authority_is_made_once_and_its_keys_are_secret() {
    let test = TestHome::in_memory();
    assert!(AuthorityFiles::list(&test.home).expect("none").is_empty());
    let files = create(&test.home, node(1)).expect("made");
    assert_eq!(files.state().expect("read").as_slice(), b"state");
    let key = files.key(&key(1)).expect("read").expect("there");
    assert_eq!(key.as_slice(), b"issuing key");
    assert!(files.key(&self::key(2)).expect("read").is_none());
    assert_eq!(
        names(files.directory()),
        [
            format!("{}.key", self::key(1).to_hex()),
            "issued.redb".into(),
            "state".into()
        ]
    );
    let mode = |name: &str| {
        let metadata = std::fs::metadata(files.directory().join(name)).expect("there");
        metadata.permissions().mode() & 0o7777
    };
    assert_eq!(mode("."), 0o700);
    for name in names(files.directory()) {
        assert_eq!(mode(&name), 0o600, "{name}");
    }
    assert!(matches!(
        create(&test.home, node(1)),
        Err(StoreError::Exists { .. })
    ));
    assert_eq!(AuthorityFiles::list(&test.home).expect("one"), [node(1)]);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let test = TestHome::in_memory();
    let files = create(&test.home, node(1)).expect("made");
    let path = files.directory().join(format!("{}.key", key(1).to_hex()));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("changed");
    assert!(matches!(
        files.key(&key(1)),
        Err(StoreError::Insecure {
            flaw: Flaw::ReadableByOthers { .. },
            ..
        })
    ));
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let test = TestHome::in_memory();
    let files = create(&test.home, node(1)).expect("made");
    for path in [
        files.directory(),
        files.directory().parent().expect("authorities"),
    ] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o770)).expect("changed");
        assert!(matches!(
            AuthorityFiles::open(&test.home, node(1)),
            Err(StoreError::Insecure {
                flaw: Flaw::WritableByOthers { .. },
                ..
            })
        ));
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o700)).expect("changed");
    }
}

#[test]
fn an_authority_that_was_never_made_is_missing() {
    let test = TestHome::in_memory();
    for _ in 0..2 {
        assert!(matches!(
            AuthorityFiles::open(&test.home, node(2)),
            Err(StoreError::Missing { .. })
        ));
        create(&test.home, node(1))
            .or_else(|_| AuthorityFiles::open(&test.home, node(1)))
            .expect("another one");
    }
}

#[test]
fn keys_are_added_replaced_and_removed() {
    let test = TestHome::in_memory();
    let files = create(&test.home, node(1)).expect("made");
    let lock = test.home.lock().expect("the lock");
    for text in [b"one", b"two"] {
        files.add_key(&lock, &key(2), text).expect("kept");
        let found = files.key(&key(2)).expect("read").expect("there");
        assert_eq!(found.as_slice(), text);
    }
    for _ in 0..2 {
        files.remove_key(&lock, &key(2)).expect("gone");
        assert!(files.key(&key(2)).expect("read").is_none());
    }
}

#[test]
fn a_state_is_replaced_up_to_its_limit() {
    let test = TestHome::in_memory();
    let files = create(&test.home, node(1)).expect("made");
    let lock = test.home.lock().expect("the lock");
    let largest = vec![b'x'; usize::try_from(MAX_STATE_BYTES).expect("small")];
    files.replace_state(&lock, &largest).expect("at the limit");
    assert_eq!(files.state().expect("read").len(), largest.len());
    let larger = [largest, vec![b'x']].concat();
    assert!(matches!(
        files.replace_state(&lock, &larger),
        Err(StoreError::TooLarge { .. })
    ));
}

#[test]
fn a_home_has_so_many_authorities_and_no_more() {
    let test = TestHome::in_memory();
    create(&test.home, node(0)).expect("made");
    let all = test.path().join("authorities");
    for number in 1..MAX_AUTHORITIES - 1 {
        let name = node(u32::try_from(number).expect("small")).to_hex();
        std::fs::create_dir(all.join(name)).expect("made");
    }
    // Neither a short form nor anything else is an authority.
    std::fs::create_dir(all.join("notes")).expect("made");
    std::fs::create_dir(all.join(node(999).to_string())).expect("made");
    create(&test.home, node(1000)).expect("the last one");
    assert!(matches!(
        create(&test.home, node(1001)),
        Err(StoreError::Full {
            limit: MAX_AUTHORITIES,
            ..
        })
    ));
}

#[test]
fn power_loss_at_every_step_leaves_no_authority_or_a_whole_one_and_it_can_be_made_then() {
    let steps = {
        let (_, counting, home) = counting();
        create(&home, node(1)).expect("made");
        counting.calls().len()
    };
    let mut seen = (0, 0);
    for step in 0..=steps {
        let (disk, faulty, home) = counting();
        faulty.fault_at(step, Fault::Stop);
        let acknowledged = create(&home, node(1)).is_ok();
        for found in disk.after_power_loss() {
            let home = open_on(found.clone());
            let there = AuthorityFiles::list(&home).expect("a list");
            assert!(there == [node(1)] || !acknowledged, "acknowledged and lost");
            if there.is_empty() {
                create(&home, node(1)).expect("it goes on");
                seen.0 += 1;
            } else {
                seen.1 += 1;
            }
            let files = AuthorityFiles::open(&home, node(1)).expect("whole");
            assert_eq!(files.state().expect("read").as_slice(), b"state");
            assert!(files.key(&key(1)).expect("read").is_some());
            assert_eq!(
                files
                    .issued()
                    .open()
                    .expect("a ledger")
                    .count()
                    .expect("read"),
                0
            );
            let all = Path::new(MODEL_HOME).join("authorities");
            if there.is_empty() {
                assert_eq!(found.list(&all).expect("names").len(), 1, "no leftovers");
            }
        }
    }
    assert!(
        seen.0 > 0 && seen.1 > 0,
        "both outcomes were tried: {seen:?}"
    );
}

#[test]
fn an_exported_file_is_new_unless_it_may_be_replaced_and_secrets_are_secret() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("root.key");
    export(&path, b"one", Exported::Secret, false).expect("written");
    let mode = |path: &Path| {
        let metadata = std::fs::metadata(path).expect("there");
        metadata.permissions().mode() & 0o7777
    };
    assert_eq!(mode(&path), 0o600);
    assert!(matches!(
        export(&path, b"two", Exported::Secret, false),
        Err(StoreError::Exists { path: there }) if there == path
    ));
    assert_eq!(std::fs::read(&path).expect("there"), b"one");
    export(&path, b"two", Exported::Public, true).expect("replaced");
    assert_eq!(std::fs::read(&path).expect("there"), b"two");
    assert_eq!(mode(&path), 0o644);
    assert_eq!(names(folder.path()), ["root.key"]);
}

#[test]
fn an_exported_file_takes_no_name_of_a_link_or_a_directory() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("target"), &link).expect("a link");
    for path in [link, folder.path().to_owned()] {
        for overwrite in [false, true] {
            assert!(matches!(
                export(&path, b"one", Exported::Public, overwrite),
                Err(StoreError::Exists { .. })
            ));
        }
    }
    assert_eq!(names(folder.path()), ["link"], "the link led to nothing");
}

#[test]
fn an_exported_file_that_cannot_be_completed_is_removed() {
    for overwrite in [false, true] {
        for step in 0..9 {
            let (disk, _) = model_home();
            let path = Path::new(MODEL_HOME).join("out");
            if overwrite {
                disk.put(&path, b"one").expect("a file");
            }
            let faulty = FaultDisk::new(Arc::new(disk.clone()));
            faulty.fault_at(step, Fault::Error(nix::libc::ENOSPC));
            let written = export_on(&faulty, &path, b"two", Exported::Secret, overwrite);
            let content = disk.content(&path);
            match written {
                Ok(()) => assert_eq!(content.as_deref(), Some(&b"two"[..])),
                // Only the name was not made durable.
                Err(_) if step > 5 => {}
                Err(_) if overwrite => assert_eq!(content.as_deref(), Some(&b"one"[..])),
                Err(_) => assert_eq!(content, None, "step {step}"),
            }
            let names = disk.list(Path::new(MODEL_HOME)).expect("names");
            let left = names.iter().any(|n| n.to_string_lossy().contains("tmp"));
            assert!(!left, "step {step}");
        }
    }
}

fn counting() -> (ModelDisk, FaultDisk, Home) {
    let (disk, _) = model_home();
    let faulty = FaultDisk::new(Arc::new(disk.clone()));
    let home = open_on(faulty.clone());
    faulty.heal();
    (disk, faulty, home)
}

fn create(home: &Home, network: NodeId) -> Result<AuthorityFiles, StoreError> {
    let lock = home.lock()?;
    let new = NewAuthorityFiles {
        state: b"state".to_vec(),
        keys: vec![(key(1), Zeroizing::new(b"issuing key".to_vec()))],
    };
    AuthorityFiles::create(home, &lock, network, &new)
}

fn key(number: u32) -> KeyHash {
    KeyHash::of_spki(&number.to_be_bytes())
}
