//! `comity ca certify`: nothing is signed before a person has said whose key it is.

use std::fs;
use std::path::Path;

use crate::authority_founding::{Ca, openssl_verify, shown, text, write};
use crate::home::{Home, assert_says};
use crate::terminal::at_terminal;

/// The root certificate of a node, in a file of the authority's folder.
fn root_of(node: &Home, ca: &Ca) -> String {
    let file = ca.home.beside("node.pem");
    write(&file, &(node.yes(&["id", "--certificate"]) + "\n"))
}

fn nothing_was_signed(ca: &Ca) {
    assert_eq!(
        ca.json("issued", &["--all"]).as_array().map(Vec::len),
        Some(0)
    );
}

#[test]
fn a_node_is_certified_for_the_id_that_its_owner_told() {
    let (ca, node) = (Ca::new("acme"), Home::new());
    let (file, out) = (root_of(&node, &ca), ca.at("package.pem"));
    let order = [
        &file,
        "--role",
        "partner",
        "--as",
        "b",
        "--out",
        &out,
        "--confirm",
        &node.id(),
    ];
    let finished = ca.home.run(&ca.words("certify", &order)).expect_success();
    assert_says(
        &finished.err(),
        &[
            &ca.id(),
            &node.id(),
            &node.yes(&["id", "--words"]),
            "Whoever recognises acme will recognise everything",
            "in the role partner",
        ],
    );
    let said = ca.home.json(&["ca", "inspect", &out]);
    let found = said["found"].as_array().expect("a list");
    let kinds: Vec<String> = found.iter().map(|entry| text(&entry["kind"])).collect();
    assert_eq!(kinds, ["certificate", "certificate", "bundle"]);
    assert_eq!(found[0]["what"], "cross-certificate");
    assert_eq!(found[0]["key"], node.id());
    assert_eq!(found[0]["roles"][0], "partner");
    assert_eq!(found[0]["path_length"], 0);
    assert_eq!(found[0]["permitted"].as_array().map(Vec::len), Some(1));
    // Each link holds, up to the root in the bundle.
    assert_eq!(found[0]["signed_by"][0], 2);
    assert_eq!(found[1]["signed_by"], "bundle");
    assert_eq!(said["holds"], true);
}

#[test]
fn nothing_is_certified_that_could_not_be_written() {
    let (ca, node) = (Ca::new("acme"), Home::new());
    let pem = root_of(&node, &ca);
    for out in [pem.clone(), ca.at("no-folder/b.pem")] {
        let order = [pem.as_str(), "--confirm", &node.id(), "--out", &out];
        ca.home.unable(&ca.words("certify", &order));
    }
    nothing_was_signed(&ca);
}

#[test]
fn another_id_words_or_a_bare_yes_sign_nothing() {
    let (ca, node, other) = (Ca::new("acme"), Home::new(), Home::new());
    let file = root_of(&node, &ca);
    let said = ca.no("certify", &[&file]);
    assert_says(
        &said,
        &["is not confirmed", "nothing was signed", "--confirm ID"],
    );
    // The hint must not hand out what should come from somebody else.
    assert!(!said.contains(&node.id()), "{said}");
    let said = ca.no("certify", &[&file, "--confirm", &other.id()]);
    assert_says(
        &said,
        &[
            "that is not the id of",
            &node.id(),
            &other.id(),
            "nothing was signed",
        ],
    );
    let words = node.yes(&["id", "--words"]);
    let short = &node.id()[..7];
    for (given, says) in [
        ("yes", "is no full id"),
        (short, "is no full id"),
        (&words, "twelve words"),
    ] {
        let said = ca
            .home
            .unable(&ca.words("certify", &[&file, "--confirm", given]));
        assert_says(&said, &[says, "nothing was signed"]);
    }
    nothing_was_signed(&ca);
}

#[test]
fn at_the_terminal_the_id_is_pasted_and_yes_is_not_enough() {
    let (ca, node, other) = (Ca::new("acme"), Home::new(), Home::new());
    let (file, out) = (root_of(&node, &ca), ca.at("package.pem"));
    let line = format!("comity ca certify acme '{file}' --out '{out}'");
    let Some(session) = at_terminal(&ca.home, &line) else {
        return;
    };
    session.wait_for("Paste the full id");
    session.write(b"yes\n");
    session.wait_for("That is no full id.");
    session.wait_for("as its owner told you (nothing to stop):");
    session.write(b"\n");
    let finished = session.finish();
    assert_eq!(finished.status.code(), Some(1));
    assert_says(
        &finished.out(),
        &[&node.yes(&["id", "--words"]), "was not confirmed"],
    );
    nothing_was_signed(&ca);
    for (id, code) in [(other.id(), 1), (node.id(), 0)] {
        let Some(session) = at_terminal(&ca.home, &line) else {
            return;
        };
        session.wait_for("Paste the full id");
        session.write(format!("{id}\n").as_bytes());
        assert_eq!(session.finish().status.code(), Some(code));
        assert_eq!(Path::new(&out).exists(), code == 0);
    }
}

#[test]
fn a_pin_counts_if_a_person_confirmed_it() {
    let (ca, node) = (Ca::new("acme"), Home::new());
    let file = root_of(&node, &ca);
    let id = node.id();
    ca.home.yes(&["trust", "add", "b", &id]);
    let known = ca.home.path().join("known_peers");
    let pinned = fs::read_to_string(&known).expect("known_peers");
    let confirmed = pinned
        .split_whitespace()
        .find(|word| word.starts_with("confirmed="))
        .expect("added by hand, the pin is confirmed");
    // An invitation shows that a secret was passed on; nobody compared the key.
    let invited = format!("{}/invite", confirmed.split('/').next().expect("a time"));
    for line in [
        pinned.replace(confirmed, &invited),
        pinned.replace(&format!(" {confirmed}"), ""),
    ] {
        fs::write(&known, line).expect("written");
        assert_says(&ca.no("certify", &[&file]), &["is not confirmed"]);
    }
    nothing_was_signed(&ca);
    fs::write(&known, &pinned).expect("written");
    let finished = ca.home.run(&ca.words("certify", &[&file])).expect_success();
    assert_says(
        &finished.err(),
        &["its key is pinned here", "was confirmed"],
    );
    assert_says(
        &finished.out(),
        &["BEGIN CERTIFICATE", "BEGIN COMITY BUNDLE"],
    );
}

#[test]
fn a_revoked_key_is_certified_for_nobody() {
    let (ca, node) = (Ca::new("acme"), Home::new());
    let file = root_of(&node, &ca);
    ca.home.yes(&["trust", "revoke", &node.id()]);
    let said = ca.no("certify", &[&file, "--confirm", &node.id()]);
    assert_says(&said, &["its key is revoked here", "nothing was signed"]);
    nothing_was_signed(&ca);
}

#[test]
fn another_organisations_root_is_certified_and_openssl_follows() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let (root, leaf) = (theirs.certificate(), theirs.at("server"));
    theirs.rooted(
        &["issue"],
        &[
            "--template",
            "organisation",
            "--dns",
            "b.example",
            "--out",
            &leaf,
        ],
    );
    let out = ours.at("package.pem");
    ours.yes(
        "certify",
        &[&root, "--confirm", &theirs.id(), "--out", &out],
    );
    let package = fs::read_to_string(&out).expect("a package");
    let chain = fs::read_to_string(format!("{leaf}.crt")).expect("a leaf") + &package;
    let chain = write(&ours.home.beside("chain.pem"), &chain);
    let anchor = ours.certificate();
    if let Some(judged) = openssl_verify(&anchor, &chain, &["-verify_hostname", "b.example"]) {
        assert_eq!(judged, Ok(()));
    }
    // Under any other name their root certifies nobody for us: a leaf of their issuing key is refused.
    let direct = theirs.at("direct");
    theirs.yes(
        "issue",
        &["--template", "leaf", "--dns", "b.example", "--out", &direct],
    );
    let chain = fs::read_to_string(format!("{direct}.crt")).expect("a leaf") + &package;
    let chain = write(&ours.home.beside("direct.pem"), &chain);
    if let Some(judged) = openssl_verify(&anchor, &chain, &[]) {
        assert!(judged.is_err());
    }
}

#[test]
fn what_is_no_root_is_not_certified() {
    let ca = Ca::new("acme");
    let leaf = ca.at("leaf");
    ca.yes("issue", &["--template", "leaf", "--out", &leaf]);
    let nothing = write(&ca.home.beside("nothing"), "nothing\n");
    let node = Home::new();
    let key = shown(&node.path().join("identity/identity.key"));
    for (file, says) in [
        (format!("{leaf}.crt"), "one root is certified"),
        (nothing, "no PEM block"),
        (key, "is a private key"),
        (ca.certificate(), "one of acme's own keys"),
    ] {
        assert_says(&ca.no("certify", &[&file, "--confirm", &ca.id()]), &[says]);
    }
    assert_eq!(
        ca.json("issued", &["--all"]).as_array().map(Vec::len),
        Some(1)
    );
}
