//! `scripts/demo.sh`, the first command of the README.

use std::fs;
use std::process::Command;

use comity_testkit::foreign::{Finished, Program, run};
use tempfile::TempDir;

use crate::home::{COMITY, assert_says};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/demo.sh");

/// Runs the demonstration with this binary, and insists that it leaves nothing behind.
fn demo(binary: &str) -> Option<Finished> {
    Program::find("socat")?;
    let folder = TempDir::new().expect("a folder");
    let mut command = Command::new(DEMO);
    command
        .env("COMITY_DEMO_BINARY", binary)
        // Settings of whoever runs it do not disturb it.
        .env("COMITY_TRUST", "pin")
        .env("COMITY_ACCEPT", "invite")
        .env("TMPDIR", folder.path());
    let finished = run(&mut command, b"");
    let left = fs::read_dir(folder.path()).expect("the folder").count();
    assert_eq!(left, 0, "{}{}", finished.out(), finished.err());
    Some(finished)
}

#[test]
fn the_demonstration_shows_the_main_job() {
    let Some(finished) = demo(COMITY) else { return };
    let shown = finished.expect_success().out();
    assert_says(
        &shown,
        &[
            "alice$ comity serve hello=unix:hello.sock",
            "bob$ comity join COMITY-INVITE-",
            "bob$ echo good morning | comity connect alice/hello",
            "hello from alice, you said good morning",
            "refused us: the invitation is used",
            "refused us: we are not known there yet",
            "Everything went as it should",
        ],
    );
}

#[test]
fn the_demonstration_fails_when_the_binary_does_nothing() {
    let Some(finished) = demo("true") else { return };
    assert!(!finished.status.success());
    assert_says(&finished.err(), &["demo: FAILED"]);
}
