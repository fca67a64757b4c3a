//! The audit log keeps every line, and only ours.

use std::fs;
use std::sync::Arc;

use super::support::{TestHome, model_home, open_on, peer};
use crate::audit::{AuditLog, Deed};
use crate::error::StoreError;
use crate::fault::{Call, Fault, FaultDisk};
use crate::home::{Home, HomeFile};

#[test]
fn a_line_says_when_who_and_what() {
    let (_, home) = model_home();
    let log = AuditLog::new(&home, "comity trust add");
    append(
        &log,
        &home,
        &Deed {
            action: "add".into(),
            peer: Some(peer(1)),
            detail: "ops-db".into(),
        },
    )
    .expect("a line");
    let tail = log.tail(10).expect("the log");
    assert_eq!(tail.damaged, 0);
    let line = &tail.lines[0];
    assert_eq!(line.time, "2026-03-01T00:00:00Z");
    assert_eq!(line.pid, std::process::id());
    assert_eq!(line.uid, 0);
    assert_eq!(line.command, "comity trust add");
    assert_eq!(line.action, "add");
    assert_eq!(line.peer.as_deref(), Some(peer(1).to_string().as_str()));
    assert_eq!(line.detail, "ops-db");
}

// T24
#[test]
fn a_hostile_name_cannot_forge_a_line() {
    let test = TestHome::new();
    let log = AuditLog::new(&test.home, "test\n{}");
    let forged = "x\"}\n{\"time\":\"\",\"pid\":1,\"uid\":0,\"command\":\"\",\"action\":\"add\"}\n\u{2028}\r\0\u{1b}[2K";
    append(&log, &test.home, &deed(forged)).expect("a line");
    let bytes = fs::read(test.home.path(HomeFile::AuditLog)).expect("the log");
    assert_eq!(bytes.iter().filter(|b| **b == b'\n').count(), 1);
    assert!(
        bytes
            .iter()
            .all(|b| *b == b'\n' || (b' '..=b'~').contains(b))
    );
    assert_eq!(log.tail(10).expect("the log").lines.len(), 1);
}

#[test]
fn the_longest_line_fits_and_a_longer_text_is_cut() {
    let test = TestHome::new();
    let log = AuditLog::new(&test.home, &"\u{10ffff}".repeat(1000));
    let long = "\u{10ffff}".repeat(1000);
    let deed = Deed {
        action: long.clone(),
        peer: Some(peer(1)),
        detail: long,
    };
    append(&log, &test.home, &deed).expect("a line");
    append(&log, &test.home, &deed).expect("a line");
    let size = fs::metadata(test.home.path(HomeFile::AuditLog))
        .expect("the log")
        .len();
    assert!(size <= 2 * 16_384, "{size}");
    assert_eq!(log.tail(1).expect("the log").lines.len(), 1);
}

#[test]
fn the_tail_is_the_last_lines_oldest_first() {
    let test = TestHome::new();
    let log = AuditLog::new(&test.home, "test");
    for number in 0..20 {
        append(&log, &test.home, &deed(&number.to_string())).expect("a line");
    }
    let tail = |count| -> Vec<String> {
        let tail = log.tail(count).expect("the log");
        tail.lines.into_iter().map(|line| line.detail).collect()
    };
    assert_eq!(tail(3), ["17", "18", "19"]);
    assert_eq!(tail(20).len(), 20);
    assert_eq!(tail(100).len(), 20);
    assert!(tail(0).is_empty());
}

#[test]
fn a_line_that_was_cut_short_spoils_no_other() {
    let test = TestHome::new();
    let log = AuditLog::new(&test.home, "test");
    append(&log, &test.home, &deed("first")).expect("a line");
    let path = test.home.path(HomeFile::AuditLog);
    let mut bytes = fs::read(&path).expect("the log");
    let half = bytes[..bytes.len() / 2].to_vec();
    bytes.extend(half);
    fs::write(&path, bytes).expect("the log");
    append(&log, &test.home, &deed("second")).expect("a line");
    let tail = log.tail(10).expect("the log");
    let details: Vec<_> = tail.lines.iter().map(|l| l.detail.as_str()).collect();
    assert_eq!(details, ["first", "second"]);
    assert_eq!(tail.damaged, 1);
}

#[test]
fn power_loss_at_every_step_keeps_the_earlier_lines() {
    for step in 0..20 {
        let (disk, home) = model_home();
        let log = AuditLog::new(&home, "test");
        append(&log, &home, &deed("first")).expect("a line");
        let faulty = FaultDisk::new(Arc::new(disk.clone()));
        let stopping = open_on(faulty.clone());
        faulty.fault_at(step, Fault::Stop);
        let written = append(
            &AuditLog::new(&stopping, "test"),
            &stopping,
            &deed("second"),
        );
        for found in disk.after_power_loss() {
            let home = open_on(found);
            let log = AuditLog::new(&home, "test");
            append(&log, &home, &deed("third")).expect("a line");
            let lines = log.tail(10).expect("the log").lines;
            let details: Vec<_> = lines.iter().map(|l| l.detail.as_str()).collect();
            assert_eq!(details[0], "first");
            assert_eq!(*details.last().expect("lines"), "third");
            if written.is_ok() {
                assert_eq!(details, ["first", "second", "third"]);
            }
        }
    }
}

// T67
#[test]
fn a_line_that_does_not_fit_on_the_disk_is_an_error() {
    let (disk, _) = model_home();
    let faulty = FaultDisk::new(Arc::new(disk));
    let home = open_on(faulty.clone());
    faulty.follow(|_, call| match call {
        Call::Write => Fault::Error(nix::libc::ENOSPC),
        _ => Fault::None,
    });
    let log = AuditLog::new(&home, "test");
    assert!(append(&log, &home, &deed("lost")).is_err());
    faulty.heal();
    append(&log, &home, &deed("kept")).expect("a line");
    let tail = log.tail(10).expect("the log");
    assert_eq!((tail.lines.len(), tail.damaged), (1, 1));
}

pub(super) fn deed(detail: &str) -> Deed {
    Deed {
        action: "test".into(),
        peer: None,
        detail: detail.into(),
    }
}

fn append(log: &AuditLog, home: &Home, deed: &Deed) -> Result<(), StoreError> {
    log.append(&home.lock()?, deed)
}
