//! `comity ca init|list|show|refresh|bundle`: an authority and its root key.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use comity_testkit::foreign::Program;
use serde_json::Value;

use crate::home::{Home, assert_says, expect_exit};
use crate::terminal::at_terminal;

/// A home with an authority, and what opens its root key.
pub(crate) struct Ca {
    pub(crate) home: Home,
    name: &'static str,
    passphrase: String,
    /// The file of the root key.
    pub(crate) root: String,
}

impl Ca {
    pub(crate) fn new(name: &'static str) -> Self {
        let home = Home::empty();
        let passphrase = write(&home.beside("passphrase"), "correct horse\n");
        let root = shown(&home.beside("root.key"));
        let ca = Self {
            home,
            name,
            passphrase,
            root,
        };
        ca.rooted(&["init"], &[]);
        ca
    }

    /// `comity ca COMMAND NAME REST`.
    pub(crate) fn yes(&self, command: &str, rest: &[&str]) -> String {
        self.home.yes(&self.words(command, rest))
    }

    pub(crate) fn no(&self, command: &str, rest: &[&str]) -> String {
        self.home.no(&self.words(command, rest))
    }

    pub(crate) fn json(&self, command: &str, rest: &[&str]) -> Value {
        self.home.json(&self.words(command, rest))
    }

    pub(crate) fn words<'a>(&'a self, command: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
        [&["ca", command, self.name], rest].concat()
    }

    /// `comity ca COMMAND NAME REST` with the root key.
    pub(crate) fn rooted(&self, command: &[&str], rest: &[&str]) -> String {
        self.home.yes(&self.rooted_words(command, rest))
    }

    pub(crate) fn rooted_words<'a>(
        &'a self,
        command: &[&'a str],
        rest: &[&'a str],
    ) -> Vec<&'a str> {
        let root = [
            "--root",
            &self.root,
            "--root-passphrase-file",
            &self.passphrase,
        ];
        [&["ca"], command, &[self.name], &root, rest].concat()
    }

    /// A path beside the home.
    pub(crate) fn at(&self, name: &str) -> String {
        shown(&self.home.beside(name))
    }

    /// A file with the root certificate.
    pub(crate) fn certificate(&self) -> String {
        self.certificate_in(&format!("{}.pem", self.name))
    }

    /// The root certificate of now, in a file of this name.
    pub(crate) fn certificate_in(&self, name: &str) -> String {
        let text = self.yes("show", &["--certificate"]);
        write(&self.home.beside(name), &(text + "\n"))
    }

    /// The network id.
    pub(crate) fn id(&self) -> String {
        text(&self.json("show", &[])["network"])
    }
}

pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

pub(crate) fn write(path: &Path, text: &str) -> String {
    fs::write(path, text).expect("written");
    shown(path)
}

/// The text of a value in an answer.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// What OpenSSL says about a certificate below a root, in its strict mode. `None` without it.
pub(crate) fn openssl_verify(root: &str, chain: &str, rest: &[&str]) -> Option<Result<(), String>> {
    let args = [
        &[
            "verify",
            "-x509_strict",
            "-CAfile",
            root,
            "-untrusted",
            chain,
        ],
        rest,
        &[chain],
    ]
    .concat();
    let mut openssl = Program::find("openssl")?.command();
    let finished = comity_testkit::foreign::run(openssl.args(args), b"");
    Some(match finished.status.success() {
        true => Ok(()),
        false => Err(finished.err()),
    })
}

#[test]
fn an_authority_has_a_sealed_root_and_an_issuing_key() {
    let ca = Ca::new("acme");
    let key = fs::read_to_string(&ca.root).expect("a key");
    assert_says(&key, &["BEGIN COMITY SEALED KEY"]);
    let mode = fs::metadata(&ca.root).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let shown = ca.json("show", &[]);
    let keys = shown["keys"].as_array().expect("keys");
    // They come in the order of their hashes.
    let of = |role: &str| keys.iter().find(|key| key["role"] == role).expect("one");
    let (root, issuing) = (of("root"), of("issuing"));
    assert_eq!(keys.len(), 2);
    assert_eq!(root["kept"], "not in this home");
    assert_eq!(issuing["kept"], "kept here");
    // The id of the network is the hash of its founding root's key.
    assert_eq!(root["key"], shown["network"]);
    assert_says(&ca.home.yes(&["ca", "list"]), &["acme", &ca.id()]);
    let root = ca.certificate();
    if let Some(judged) = openssl_verify(&root, &root, &[]) {
        assert_eq!(judged, Ok(()));
    }
}

#[test]
fn an_authority_is_named_by_its_name_or_its_full_id() {
    let ca = Ca::new("acme");
    let by_id = ca.home.json(&["ca", "show", &ca.id()]);
    assert_eq!(by_id["name"], "acme");
    let said = ca.home.no(&["ca", "show", "acne"]);
    assert_says(&said, &["no authority `acne`", "there are: acme"]);
    let said = Home::new().no(&["ca", "show", "acme"]);
    assert_says(&said, &["`comity ca init acme` makes one"]);
}

#[test]
fn an_authority_from_an_old_copy_keeps_nobody_from_the_others() {
    let ca = Ca::new("acme");
    let other = ca.at("other.key");
    let words = ["ca", "init", "other", "--root", &other];
    ca.home
        .yes(&[&words[..], &["--root-passphrase-file", &ca.passphrase]].concat());
    let hex = text(&ca.json("show", &[])["hex"]);
    let state = ca.home.path().join("authorities").join(hex).join("state");
    let old = fs::read(&state).expect("a state");
    ca.rooted(&["roll-issuing"], &["--now"]);
    fs::write(&state, old).expect("restored");
    let finished = expect_exit(ca.home.run(&["ca", "list"]), 2, &["ca", "list"]);
    assert!(finished.out().contains("other"));
    assert_says(
        &finished.err(),
        &["the authority acme", "it is an old copy"],
    );
    ca.home.yes(&["ca", "show", "other"]);
    let said = ca.home.unable(&["ca", "show", "acme"]);
    assert_says(&said, &["the authority acme", "it is an old copy"]);
    let checked = ca.home.run(&["trust", "check"]);
    let checked = expect_exit(checked, 1, &["trust", "check"]).out();
    assert_says(&checked, &["the authority acme", "it is an old copy"]);
}

#[test]
fn a_ledger_that_is_lost_is_said_to_be_one() {
    let ca = Ca::new("acme");
    let hex = text(&ca.json("show", &[])["hex"]);
    let folder = ca.home.path().join("authorities").join(hex);
    fs::remove_file(folder.join("issued.redb")).expect("removed");
    let said = ca.home.unable(&ca.words("issued", &[]));
    assert_says(
        &said,
        &[
            "issued.redb is missing",
            "what this authority issued",
            "from a backup",
        ],
    );
    assert!(!said.contains("known_peers"), "{said}");
}

#[test]
fn the_places_of_a_bundle_can_be_changed() {
    let ca = Ca::new("acme");
    let place = "https://acme.example/bundle";
    ca.yes("refresh", &["--location", place]);
    assert_eq!(ca.json("show", &[])["locations"][0], place);
    // Without one they stay as they are.
    ca.yes("refresh", &[]);
    assert_eq!(ca.json("show", &[])["locations"][0], place);
    ca.home
        .unable(&ca.words("refresh", &["--location", "nowhere"]));
}

#[test]
fn a_second_authority_of_one_name_is_not_made_by_mistake() {
    let ca = Ca::new("acme");
    let other = ca.at("other.key");
    let words = ["ca", "init", "acme", "--root", &other];
    let said = ca
        .home
        .no(&[&words[..], &["--root-passphrase-file", &ca.passphrase]].concat());
    assert_says(
        &said,
        &["there is an authority acme here already", &ca.id()],
    );
    assert!(!Path::new(&other).exists());
}

#[test]
fn a_root_key_is_never_overwritten() {
    let ca = Ca::new("acme");
    let before = fs::read(&ca.root).expect("a key");
    let other = Ca {
        name: "other",
        ..ca
    };
    let said = other.home.unable(&other.rooted_words(&["init"], &[]));
    assert_says(&said, &["is there already", "never overwritten"]);
    assert_eq!(fs::read(&other.root).expect("a key"), before);
    assert_eq!(
        other.home.json(&["ca", "list"]).as_array().map(Vec::len),
        Some(1)
    );
}

#[test]
fn without_root_the_key_lies_in_the_home_and_a_line_says_that_it_should_not() {
    let home = Home::empty();
    let passphrase = write(&home.beside("passphrase"), "correct horse\n");
    let args = ["ca", "init", "acme", "--root-passphrase-file", &passphrase];
    let made = expect_exit(home.run(&args), 0, &args);
    let network: comity_identity::NodeId = made.out().trim().parse().expect("an id");
    let key: PathBuf = home.path().join(format!("root-{}.key", network.to_hex()));
    assert!(key.exists());
    assert_says(
        &made.err(),
        &[&shown(&key), "belongs offline", "--root FILE"],
    );
    // It is found there as long as it was not moved.
    let order = [
        "--template",
        "organisation",
        "--out",
        &shown(&home.beside("one")),
    ];
    let args = [
        &["ca", "issue", "acme"],
        &order[..],
        &["--root-passphrase-file", &passphrase],
    ];
    home.yes(&args.concat());
    let moved = shown(&home.beside("moved.key"));
    fs::rename(&key, &moved).expect("moved");
    let order = [
        "--template",
        "organisation",
        "--out",
        &shown(&home.beside("two")),
    ];
    let args = [
        &["ca", "issue", "acme"],
        &order[..],
        &["--root-passphrase-file", &passphrase],
    ]
    .concat();
    assert_says(
        &home.unable(&args),
        &["the root key is needed", "--root FILE"],
    );
    home.yes(&[&args[..], &["--root", &moved]].concat());
}

#[test]
fn the_root_key_opens_with_its_passphrase_and_for_its_authority_alone() {
    let ca = Ca::new("acme");
    let wrong = write(&ca.home.beside("wrong"), "correct house\n");
    let order = ["--template", "organisation", "--out", &ca.at("leaf")];
    let args = [&["ca", "issue", "acme", "--root", &ca.root], &order[..]].concat();
    let said = ca
        .home
        .no(&[&args[..], &["--root-passphrase-file", &wrong]].concat());
    assert_says(&said, &["the passphrase of", "is wrong"]);
    assert_says(&ca.home.unable(&args), &["--root-passphrase-file"]);
    let other = Ca::new("other");
    let args = [
        "ca",
        "issue",
        "acme",
        "--root",
        &other.root,
        "--root-passphrase-file",
        &other.passphrase,
    ];
    let said = ca.home.no(&[&args[..], &order[..]].concat());
    assert_says(&said, &["is another key", &ca.id()]);
    assert!(!Path::new(&ca.at("leaf.crt")).exists());
}

#[test]
fn at_a_terminal_the_passphrase_is_typed_twice() {
    let home = Home::empty();
    let root = home.beside("root.key");
    let line = format!("comity ca init acme --root '{}'", root.display());
    let Some(session) = at_terminal(&home, &line) else {
        return;
    };
    session.wait_for("new passphrase for the root key: ");
    session.write(b"one\n");
    session.wait_for("the same again: ");
    session.write(b"two\n");
    let finished = session.finish();
    assert_eq!(finished.status.code(), Some(2));
    assert_says(&finished.out(), &["the two passphrases differ"]);
    assert!(!root.exists());
    let Some(session) = at_terminal(&home, &line) else {
        return;
    };
    session.wait_for("new passphrase for the root key: ");
    session.write(b"one\n");
    session.wait_for("the same again: ");
    session.write(b"one\n");
    assert_eq!(session.finish().status.code(), Some(0));
    assert!(root.exists());
}

#[test]
fn a_refreshed_bundle_has_a_higher_number() {
    let ca = Ca::new("acme");
    let before = ca.json("show", &[])["bundle"]["sequence"].as_u64();
    let after = ca.json("refresh", &[])["sequence"].as_u64();
    assert!(before < after, "{before:?} {after:?}");
    let file = ca.at("acme-bundle.pem");
    ca.yes("bundle", &["--out", &file]);
    let said = ca.home.json(&["ca", "inspect", &file]);
    assert_eq!(said["found"][0]["kind"], "bundle");
    assert_eq!(said["found"][0]["sequence"].as_u64(), after);
    assert_eq!(said["found"][0]["network"], ca.id());
    // A file of the operator's is never overwritten.
    let said = ca.home.unable(&ca.words("bundle", &["--out", &file]));
    assert_says(&said, &["is there already"]);
}

#[test]
fn names_and_locations_that_cannot_be_are_refused_before_a_key_is_made() {
    let home = Home::empty();
    let passphrase = write(&home.beside("passphrase"), "correct horse\n");
    let root = shown(&home.beside("root.key"));
    let known = ["--root", &root, "--root-passphrase-file", &passphrase];
    for (name, rest, says) in [
        ("Acme", [].as_slice(), "cannot be the name of an authority"),
        ("a.b", &[], "cannot be the name of an authority"),
        (
            "acme",
            &["--location", "http://acme.example/"],
            "is no location",
        ),
        (
            "acme",
            &["--location", "https://acme.example"],
            "is no location",
        ),
    ] {
        let args = [&["ca", "init", name], &known[..], rest].concat();
        assert_says(&home.unable(&args), &[says]);
        assert!(!Path::new(&root).exists(), "{name} {rest:?}");
    }
}
