//! `comity trust rotate` and `comity trust check`: a CA is replaced by another, with overlap.

use comity_testkit::certificates::{Authority, Foreign};
use comity_testkit::foreign::tls::{Clients, openssl_server, write_certificates};
use comity_testkit::foreign::{Finished, Listening};
use tempfile::TempDir;

use crate::authorities::{century, files};
use crate::authority_founding::Ca;
use crate::home::{Home, assert_says, expect_exit};

const NAMES: &str = "localhost:*";

/// An organisation with two generations of its CA.
struct Organisation {
    folder: TempDir,
    old: Authority,
    new: Authority,
}

impl Organisation {
    fn new() -> Self {
        Self {
            folder: TempDir::new().expect("a folder"),
            old: century(Foreign::authority("Corp CA 2026")).root(),
            new: century(Foreign::authority("Corp CA 2027")).root(),
        }
    }

    fn file(&self, name: &str, authority: &Authority) -> String {
        let path = self.folder.path().join(name);
        let file = write_certificates(&path, std::slice::from_ref(&authority.der));
        file.display().to_string()
    }

    /// Its server, with a certificate of this generation. `None` without openssl.
    fn server(&self, name: &str, authority: &Authority) -> Option<Listening> {
        let credential = century(Foreign::server("localhost")).issued_by(authority);
        let files = files(&self.folder, name, &credential);
        openssl_server(&files, Clients::Any, &["-rev"])
    }
}

fn dial(home: &Home, server: &Listening) -> Finished {
    let peer = format!("localhost:{}", server.address.port());
    home.talk(&["connect", &peer, "--trust", "ca"], b"olleh\n")
}

fn assert_recognised(home: &Home, server: &Listening) {
    assert_eq!(dial(home, server).expect_success().out(), "hello\n");
}

/// The fingerprints of the listed CAs, with their states.
fn listed(home: &Home) -> Vec<(String, String)> {
    let entries = home.json(&["trust", "find", NAMES]);
    let entries = entries.as_array().expect("entries").iter();
    let cas = entries.filter(|e| e["state"].is_string());
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    cas.map(|e| (text(&e["what"]).replace("ca ", ""), text(&e["state"])))
        .collect()
}

#[test]
fn a_listed_ca_is_replaced_without_cutting_off_whoever_renews_in_time() {
    let (home, corp) = (Home::new(), Organisation::new());
    let Some(old_server) = corp.server("old", &corp.old) else {
        return;
    };
    let new_server = corp.server("new", &corp.new).expect("openssl is there");
    let (old, new) = (
        corp.file("old.pem", &corp.old),
        corp.file("new.pem", &corp.new),
    );
    home.yes(&["trust", "add", NAMES, "--ca", &old, "--side", "dial"]);
    assert_recognised(&home, &old_server);
    expect_exit(dial(&home, &new_server), 1, &["connect"]);
    // Next: both count.
    let dry = home.yes(&["trust", "rotate", NAMES, "--ca", &new, "--dry-run"]);
    assert_says(&dry, &["is listed as the next CA"]);
    assert_eq!(listed(&home).len(), 1);
    home.yes(&["trust", "rotate", NAMES, "--ca", &new]);
    assert_recognised(&home, &old_server);
    assert_recognised(&home, &new_server);
    let states = listed(&home);
    assert_eq!(states[0].1, "active");
    assert_eq!(states[1].1, "next");
    let (old_hash, new_hash) = (&states[0].0, &states[1].0);
    // The only one that issues does not retire.
    let said = home.no(&["trust", "rotate", NAMES, "--retire", old_hash]);
    assert_says(&said, &["no other CA is active", "--activate", new_hash]);
    home.yes(&["trust", "rotate", NAMES, "--activate", new_hash]);
    assert_eq!(listed(&home)[1].1, "active");
    let again = home.yes(&["trust", "rotate", NAMES, "--activate", new_hash]);
    assert_says(&again, &["it is so already"]);
    // Retiring: who was recognised by a CA under these names is named.
    let dry = home.yes(&["trust", "rotate", NAMES, "--retire", old_hash, "--dry-run"]);
    let peer = format!("localhost:{}", old_server.address.port());
    assert_says(&dry, &["retires; it counts until", &peer]);
    assert_eq!(listed(&home)[0].1, "active", "nothing was changed");
    home.yes(&[
        "trust",
        "rotate",
        NAMES,
        "--retire",
        old_hash,
        "--overlap",
        "1s",
    ]);
    let said = loop {
        let finished = dial(&home, &old_server);
        match finished.status.code() {
            // Within the overlap.
            Some(0) => {}
            _ => break expect_exit(finished, 1, &["connect"]).err(),
        }
    };
    assert_says(&said, &["ended at"]);
    assert_recognised(&home, &new_server);
}

#[test]
fn the_end_of_a_ca_that_retires_only_comes_nearer_and_both_are_said() {
    let (home, corp) = (Home::new(), Organisation::new());
    let (old, new) = (
        corp.file("old.pem", &corp.old),
        corp.file("new.pem", &corp.new),
    );
    home.yes(&["trust", "add", NAMES, "--ca", &old, "--side", "dial"]);
    home.yes(&["trust", "rotate", NAMES, "--ca", &new]);
    let states = listed(&home);
    home.yes(&["trust", "rotate", NAMES, "--activate", &states[1].0]);
    let retire = |overlap: &str| {
        let words = ["trust", "rotate", NAMES, "--retire", &states[0].0];
        home.yes(&[&words[..], &["--overlap", overlap]].concat())
    };
    retire("30d");
    assert_says(&retire("60d"), &["retires already", "as before"]);
    assert_says(&retire("10d"), &["it counts until", "and not until"]);
}

#[test]
fn a_root_of_comity_is_no_ca_that_is_listed() {
    let (home, corp) = (Home::new(), Organisation::new());
    let old = corp.file("old.pem", &corp.old);
    home.yes(&["trust", "add", NAMES, "--ca", &old, "--side", "dial"]);
    let node = Home::new();
    let ca = Ca::new("acme");
    let root = node.root().display().to_string();
    for (file, kind) in [
        (root, "the root of a Comity node"),
        (ca.certificate(), "a key of a Comity network"),
    ] {
        let said = home.no(&["trust", "rotate", NAMES, "--ca", &file]);
        assert_says(&said, &[kind]);
    }
    assert_eq!(listed(&home).len(), 1);
}

#[test]
fn nothing_that_is_not_listed_is_rotated() {
    let (home, corp) = (Home::new(), Organisation::new());
    let (old, new) = (
        corp.file("old.pem", &corp.old),
        corp.file("new.pem", &corp.new),
    );
    let said = home.no(&["trust", "rotate", NAMES, "--ca", &new]);
    assert_says(&said, &["no CA is listed for `localhost:*`"]);
    home.yes(&["trust", "add", NAMES, "--ca", &old, "--side", "dial"]);
    let stranger = Home::new().id();
    let said = home.no(&["trust", "rotate", NAMES, "--retire", &stranger]);
    assert_says(&said, &["no CA with the hash", "Corp CA 2026"]);
    home.unable(&["trust", "rotate", NAMES]);
    home.unable(&[
        "trust", "rotate", NAMES, "--ca", &new, "--retire", &stranger,
    ]);
    // A CA that is revoked does not come back as somebody's successor.
    home.yes(&[
        "trust",
        "add",
        "other.example:*",
        "--ca",
        &new,
        "--side",
        "dial",
    ]);
    home.yes(&["trust", "revoke", "other.example:*"]);
    let said = home.no(&["trust", "rotate", NAMES, "--ca", &new]);
    assert_says(&said, &["this CA is revoked"]);
}

#[test]
fn the_next_ca_has_the_scope_of_the_present_one() {
    let (home, corp) = (Home::new(), Organisation::new());
    let (old, new) = (
        corp.file("old.pem", &corp.old),
        corp.file("new.pem", &corp.new),
    );
    let add = [
        "trust", "add", "*", "--ca", &old, "--side", "accept", "--role", "worker",
    ];
    home.yes(&add);
    home.yes(&["trust", "rotate", "*", "--ca", &new]);
    let entries = home.json(&["trust", "find", "*"]);
    assert_eq!(entries[1]["roles"], serde_json::json!(["worker"]));
    assert_eq!(entries[1]["side"], "accept");
}

#[test]
fn check_says_what_ends_when_and_worst_first() {
    let home = Home::new();
    let peer = Home::new().id();
    let now = std::time::SystemTime::now();
    let soon = comity_identity::UnixTime::from(now) + std::time::Duration::from_secs(86_400);
    let later = comity_identity::UnixTime::from(now) + std::time::Duration::from_secs(100 * 86_400);
    for (name, end) in [("later", later), ("soon", soon)] {
        home.yes(&["trust", "add", name, &peer, "--also"]);
        let text = home.known_peers();
        let line = text.lines().last().expect("a line");
        let text = text.replace(line, &format!("{line} not-after={end}"));
        std::fs::write(home.path().join("known_peers"), text).expect("written");
    }
    let finished = home.run(&["trust", "check", "--json"]);
    assert_eq!(finished.status.code(), Some(1));
    let told: serde_json::Value = serde_json::from_slice(&finished.stdout).expect("JSON");
    let expiries = told["expiries"].as_array().expect("expiries");
    assert_eq!(expiries.len(), 2);
    assert_eq!(expiries[0]["name"], "soon");
    assert_eq!(expiries[0]["attention"], true);
    assert_eq!(expiries[1]["name"], "later");
    assert_eq!(expiries[1]["attention"], false);
    // The hundredth day may have begun in the meantime.
    let days = expiries[1]["days_left"].as_i64().expect("days");
    assert!((99..=100).contains(&days), "{days}");
    let said = home.run(&["trust", "check"]).out();
    assert_says(
        &said,
        &[
            "WRONG   the entry of soon ends",
            "comity trust remove soon",
            "SOON",
            "later",
        ],
    );
}
