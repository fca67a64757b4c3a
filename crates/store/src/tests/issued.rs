//! An issued serial number is never lost and never used twice.

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use comity_identity::{KeyHash, UnixTime};

use super::support::{
    DAY, TestHome, child, child_task, model_home, node, open_on, os_disk, succeeded,
};
use crate::authority_files::{AuthorityFiles, NewAuthorityFiles};
use crate::error::StoreError;
use crate::fault::{Call, Fault, FaultDisk, ModelDisk};
use crate::home::Home;
use crate::issued::{
    IssuedLedger, IssuedSession, IssuedState, LedgerError, MAX_ATTESTED, MAX_ISSUED_DER,
    MAX_ISSUED_LABEL, MAX_WORD, Reservation, Serial,
};
use crate::lock::LOCK_WAIT;

const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;

#[test]
fn a_certificate_is_reserved_then_recorded_then_withdrawn_and_found_by_serial_key_and_label() {
    let test = TestHome::in_memory();
    let ledger = ledger(&test.home);
    let session = ledger.open().expect("the ledger");
    let serial = session.reserve(&about(1)).expect("a serial");
    let found = session.by_serial(&serial).expect("read").expect("there");
    assert_eq!(found.state, IssuedState::Reserved);
    assert_eq!(found.about, about(1));
    session.record(&serial, b"certificate").expect("recorded");
    let found = session.by_serial(&serial).expect("read").expect("there");
    assert_eq!(
        (found.state, found.der),
        (IssuedState::Issued, b"certificate".to_vec())
    );

    let other = session.reserve(&about(2)).expect("a serial");
    let withdrawn = session
        .withdraw(&[serial, other], DAY, "lost")
        .expect("withdrawn");
    assert_eq!(withdrawn.len(), 2, "one that was perhaps never signed, too");
    let again = session
        .withdraw(&[serial], DAY, "again")
        .expect("no change");
    assert!(again.is_empty(), "the first withdrawal stays");
    drop(session);

    let session = ledger.open().expect("the ledger");
    let by_key = session.by_key(&key(1)).expect("read");
    assert_eq!(by_key, session.by_label("label-1").expect("read"));
    let reason = "lost".to_owned();
    assert_eq!(by_key[0].state, IssuedState::Withdrawn { at: DAY, reason });
    assert_eq!(by_key[0].der, b"certificate");
    assert!(session.by_key(&key(3)).expect("read").is_empty());
    assert_eq!(session.count().expect("read"), 2);
}

#[test]
fn a_withdrawn_reservation_stays_withdrawn_when_its_certificate_arrives() {
    let test = TestHome::in_memory();
    let session = ledger(&test.home).open().expect("the ledger");
    let serial = session.reserve(&about(1)).expect("a serial");
    session.withdraw(&[serial], DAY, "lost").expect("withdrawn");
    session.record(&serial, b"certificate").expect("recorded");
    let found = session.by_serial(&serial).expect("read").expect("there");
    assert!(matches!(found.state, IssuedState::Withdrawn { .. }));
    assert!(!found.counts(DAY));
    assert_eq!(found.der, b"certificate");
}

#[test]
fn nothing_is_recorded_without_a_reservation_nor_over_another_certificate() {
    let test = TestHome::in_memory();
    let session = ledger(&test.home).open().expect("the ledger");
    let unknown = [0x41; 16];
    assert!(matches!(
        session.record(&unknown, b"x"),
        Err(LedgerError::Unknown(serial)) if serial == unknown
    ));
    assert!(matches!(
        session.withdraw(&[unknown], DAY, ""),
        Err(LedgerError::Unknown(_))
    ));
    let serial = session.reserve(&about(1)).expect("a serial");
    session.record(&serial, b"one").expect("recorded");
    session.record(&serial, b"one").expect("nothing to do");
    assert!(matches!(
        session.record(&serial, b"two"),
        Err(LedgerError::Used(_))
    ));
    let known = session.by_serial(&serial).expect("read").expect("there");
    assert!(matches!(
        session.import(&[known]),
        Err(LedgerError::Used(_))
    ));
}

#[test]
fn withdrawing_one_unknown_serial_withdraws_none_of_the_others() {
    let test = TestHome::in_memory();
    let session = ledger(&test.home).open().expect("the ledger");
    let serial = session.reserve(&about(1)).expect("a serial");
    session
        .withdraw(&[serial, [0x41; 16]], DAY, "")
        .expect_err("one is unknown");
    let found = session.by_serial(&serial).expect("read").expect("there");
    assert_eq!(found.state, IssuedState::Reserved);
}

#[test]
fn texts_and_certificates_are_taken_up_to_their_limits() {
    let test = TestHome::in_memory();
    let session = ledger(&test.home).open().expect("the ledger");
    let sized = |template, label| Reservation {
        attested: vec![7; MAX_ATTESTED],
        template: "t".repeat(template),
        label: "l".repeat(label),
        ..about(1)
    };
    let serial = session
        .reserve(&sized(MAX_WORD, MAX_ISSUED_LABEL))
        .expect("at the limit");
    for (template, label) in [(MAX_WORD + 1, 1), (1, MAX_ISSUED_LABEL + 1)] {
        assert!(matches!(
            session.reserve(&sized(template, label)),
            Err(LedgerError::TooLong { .. })
        ));
    }
    let attested = Reservation {
        attested: vec![7; MAX_ATTESTED + 1],
        ..about(1)
    };
    assert!(session.reserve(&attested).is_err());
    assert!(
        session
            .record(&serial, &vec![1; MAX_ISSUED_DER + 1])
            .is_err()
    );
    session
        .record(&serial, &vec![1; MAX_ISSUED_DER])
        .expect("at the limit");
    assert!(
        session
            .withdraw(&[serial], DAY, &"r".repeat(MAX_WORD + 1))
            .is_err()
    );
    session
        .withdraw(&[serial], DAY, &"r".repeat(MAX_WORD))
        .expect("at the limit");
}

#[test]
fn pages_show_every_certificate_once_and_endings_come_in_order() {
    let test = TestHome::in_memory();
    let session = ledger(&test.home).open().expect("the ledger");
    let serials: HashSet<Serial> = (0..25)
        .map(|number| session.reserve(&about(number)).expect("a serial"))
        .collect();
    let mut seen = Vec::new();
    loop {
        let page = session.page(seen.last(), 10).expect("a page");
        assert!(page.len() <= 10);
        if page.is_empty() {
            break;
        }
        seen.extend(page.iter().map(|c| c.serial));
    }
    assert_eq!(seen.len(), 25);
    assert_eq!(seen.iter().copied().collect::<HashSet<_>>(), serials);

    // Number n ends n days after the day.
    let day = Duration::from_secs(86_400);
    let ending = session.ending(DAY, DAY + day * 3, 10).expect("read");
    let labels: Vec<&str> = ending.iter().map(|c| c.about.label.as_str()).collect();
    assert_eq!(labels, ["label-0", "label-1", "label-2"]);
    assert_eq!(
        session.ending(DAY, UnixTime::NEVER, 4).expect("read").len(),
        4
    );
}

#[test]
fn a_serial_number_is_the_content_of_an_integer_as_it_stands() {
    let test = TestHome::in_memory();
    let session = ledger(&test.home).open().expect("the ledger");
    for _ in 0..50 {
        let serial = session.reserve(&about(1)).expect("a serial");
        assert!((0x40..0x80).contains(&serial[0]));
    }
}

#[test]
fn a_ledger_that_is_gone_is_an_error_and_never_an_empty_one() {
    let test = TestHome::in_memory();
    let ledger = ledger(&test.home);
    let path = files(&test.home).directory().join("issued.redb");
    std::fs::remove_file(&path).expect("removed");
    assert!(matches!(ledger.open(), Err(StoreError::Missing { path: gone }) if gone == path));
    for content in ["", "not a database"] {
        std::fs::write(&path, content).expect("written");
        match ledger.open() {
            Err(StoreError::Damaged { path: bad, .. }) => assert_eq!(bad, path),
            other => panic!("{content:?}: {other:?}"),
        }
    }
}

#[test]
fn a_ledger_that_is_held_too_long_is_an_error_that_names_the_file() {
    let (disk, home) = model_home();
    let _held = ledger(&home).open().expect("the ledger");
    let waiting = FaultDisk::new(Arc::new(disk));
    let home = open_on(waiting.clone());
    match files(&home).issued().open() {
        Err(StoreError::Locked { path, .. }) => assert!(path.ends_with("issued.redb")),
        other => panic!("{other:?}"),
    }
    assert!(waiting.paused() >= LOCK_WAIT);
}

/// A reservation that was acknowledged is there after any crash, and a certificate as well.
#[test]
fn power_loss_at_every_step_loses_no_serial_that_was_acknowledged() {
    let (disk, home) = model_home();
    let first = ledger(&home)
        .open()
        .expect("the ledger")
        .reserve(&about(1))
        .expect("a serial");
    let steps = {
        let (faulty, home) = faulty(&copy(&disk));
        issue_one(&home, &mut Vec::new()).expect("issued");
        faulty.calls().len()
    };
    assert!(steps > 20, "{steps}");
    let mut outcomes = HashSet::new();
    for step in 0..=steps {
        let disk = copy(&disk);
        let (faulty, home) = faulty(&disk);
        faulty.fault_at(step, Fault::Stop);
        let mut acknowledged = Vec::new();
        drop(issue_one(&home, &mut acknowledged));
        for found in disk.after_power_loss() {
            let session = files(&open_on(found)).issued().open().expect("the ledger");
            let there = |serial: &Serial| session.by_serial(serial).expect("read");
            assert!(there(&first).is_some(), "step {step}");
            for (serial, state) in &acknowledged {
                let certificate = there(serial).expect("acknowledged");
                if *state == IssuedState::Issued {
                    assert_eq!(certificate.der, b"certificate", "step {step}");
                }
            }
            outcomes.insert((acknowledged.len(), session.count().expect("read")));
            session.reserve(&about(3)).expect("it goes on");
        }
    }
    // Nothing, a serial that nobody heard of, one that was acknowledged, and a certificate.
    assert!(outcomes.len() >= 4, "{outcomes:?}");
}

#[test]
fn an_error_at_every_step_acknowledges_nothing_that_is_not_there() {
    let (disk, home) = model_home();
    drop(ledger(&home));
    let steps = {
        let (faulty, home) = faulty(&copy(&disk));
        issue_one(&home, &mut Vec::new()).expect("issued");
        faulty.calls().len()
    };
    for step in 0..steps {
        let disk = copy(&disk);
        let (faulty, home) = faulty(&disk);
        faulty.fault_at(step, Fault::Error(nix::libc::ENOSPC));
        let mut acknowledged = Vec::new();
        drop(issue_one(&home, &mut acknowledged));
        let session = files(&open_on(disk)).issued().open().expect("the ledger");
        for (serial, _) in &acknowledged {
            assert!(
                session.by_serial(serial).expect("read").is_some(),
                "step {step}"
            );
        }
    }
}

#[test]
fn a_process_killed_at_every_write_loses_nothing_and_leaves_no_lock() {
    let (disk, home) = model_home();
    drop(ledger(&home));
    let (counting, home) = faulty(&disk);
    issue_one(&home, &mut Vec::new()).expect("issued");
    let calls = counting.calls();
    let steps = calls
        .iter()
        .enumerate()
        .filter(|(_, call)| matches!(call, Call::WriteAt | Call::Sync | Call::SetLength));
    for (step, _) in steps {
        let test = TestHome::in_memory();
        drop(ledger(&test.home));
        let killed = child("tests::issued::child_that_is_killed", test.path(), step)
            .wait_with_output()
            .expect("a child process");
        assert_eq!(killed.status.signal(), Some(SIGABRT), "step {step}");
        let session = files(&test.home).issued().open().expect("the ledger");
        for serial in acknowledged_in(test.path()) {
            assert!(
                session.by_serial(&serial).expect("read").is_some(),
                "step {step}"
            );
        }
    }
}

#[test]
#[ignore = "runs as a child process of a_process_killed_at_every_write"]
fn child_that_is_killed() {
    let Some((path, step)) = child_task() else {
        return;
    };
    let disk = FaultDisk::new(os_disk());
    let home = Home::open_on(Arc::new(disk.clone()), &path).expect("the home");
    let session = {
        disk.fault_at(step, Fault::Abort);
        files(&home).issued().open().expect("the ledger")
    };
    let serial = session.reserve(&about(1)).expect("a serial");
    std::fs::write(path.join(format!("acknowledged-{}", hex(&serial))), "").expect("a file");
    session.record(&serial, b"certificate").expect("recorded");
    drop(session);
}

/// A server that issues and a command line take turns, and one of them dies by SIGKILL.
#[test]
fn two_processes_that_issue_at_once_never_share_a_serial_even_if_they_are_killed() {
    let test = TestHome::in_memory();
    drop(ledger(&test.home));
    let issuing = |number| child("tests::issued::child_that_issues", test.path(), number);
    let mut killed = issuing(0);
    let others: Vec<_> = (1..=2).map(issuing).collect();
    while acknowledged_in(test.path()).len() < 10 {
        std::thread::yield_now();
    }
    killed.kill().expect("SIGKILL");
    let ended = killed.wait().expect("a child process");
    assert_eq!(ended.signal(), Some(SIGKILL), "it was still at work");
    others.into_iter().for_each(succeeded);
    let session = files(&test.home).issued().open().expect("the ledger");
    let acknowledged = acknowledged_in(test.path());
    assert!(acknowledged.len() >= 2 * PER_CHILD);
    for serial in &acknowledged {
        assert!(session.by_serial(serial).expect("read").is_some());
    }
}

const PER_CHILD: usize = 20;

#[test]
#[ignore = "runs as a child process of two_processes_that_issue_at_once"]
fn child_that_issues() {
    let Some((path, number)) = child_task() else {
        return;
    };
    let home = Home::open(&path).expect("the home");
    // The first one goes on until it is killed.
    let count = if number == 0 { usize::MAX } else { PER_CHILD };
    for _ in 0..count {
        let session = files(&home).issued().open().expect("the ledger");
        let serial = session.reserve(&about(1)).expect("a serial");
        // A name can be taken once.
        let name = path.join(format!("acknowledged-{}", hex(&serial)));
        std::fs::File::create_new(name).expect("a serial of its own");
        session.record(&serial, b"certificate").expect("recorded");
    }
}

/// Reserves and records one certificate, and notes what was acknowledged.
fn issue_one(
    home: &Home,
    acknowledged: &mut Vec<(Serial, IssuedState)>,
) -> Result<(), LedgerError> {
    let session: IssuedSession = AuthorityFiles::open(home, node(1))?.issued().open()?;
    let serial = session.reserve(&about(2))?;
    acknowledged.push((serial, IssuedState::Reserved));
    session.record(&serial, b"certificate")?;
    acknowledged.push((serial, IssuedState::Issued));
    Ok(())
}

fn acknowledged_in(home: &Path) -> Vec<Serial> {
    super::support::names(home)
        .iter()
        .filter_map(|name| name.strip_prefix("acknowledged-"))
        .map(|hex| {
            let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("hex");
            bytes.try_into().expect("a serial")
        })
        .collect()
}

fn hex(serial: &Serial) -> String {
    data_encoding::HEXLOWER.encode(serial)
}

/// What the disk holds after everything that was done to it.
fn copy(disk: &ModelDisk) -> ModelDisk {
    disk.after_power_loss().pop().expect("a disk")
}

fn faulty(disk: &ModelDisk) -> (FaultDisk, Home) {
    let faulty = FaultDisk::new(Arc::new(disk.clone()));
    let home = open_on(faulty.clone());
    // Opening the files is not what is tested.
    faulty.heal();
    (faulty, home)
}

fn files(home: &Home) -> AuthorityFiles {
    AuthorityFiles::open(home, node(1)).expect("the authority's files")
}

/// Makes the files of an authority and gives its ledger.
fn ledger(home: &Home) -> IssuedLedger {
    let lock = home.lock().expect("the lock");
    let new = NewAuthorityFiles {
        state: b"state".to_vec(),
        keys: Vec::new(),
    };
    AuthorityFiles::create(home, &lock, node(1), &new)
        .expect("the files of an authority")
        .issued()
}

fn key(number: u32) -> KeyHash {
    KeyHash::of_spki(&number.to_be_bytes())
}

fn about(number: u32) -> Reservation {
    Reservation {
        template: "member".into(),
        key: key(number),
        issuer: key(1000),
        label: format!("label-{number}"),
        not_before: DAY,
        not_after: DAY + Duration::from_secs(86_400) * number,
        attested: vec![7; 20],
        next: number.is_multiple_of(2).then(|| key(number + 1)),
    }
}
