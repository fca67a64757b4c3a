//! `comity ca inspect`: what others hand over, in words. Nothing in it reaches the terminal as it is.

use std::fs;
use std::process::Command;

use comity_certs::certificates_in_pem;
use comity_testkit::certificates::{Foreign, pem};
use comity_testkit::foreign::run;

use crate::authority_founding::{Ca, text, write};
use crate::home::{Home, assert_says};

#[test]
fn a_chain_shows_who_signed_whom_in_any_order() {
    let home = Home::empty();
    let root = Foreign::authority("private CA").root();
    let middle = Foreign::authority("middle").intermediate(&root);
    let leaf = Foreign::server("db1.example").issued_by(&middle).chain[0].clone();
    let file = [&root.der, &leaf, &middle.der].map(|der| pem("CERTIFICATE", der));
    let file = write(&home.beside("chain.pem"), &file.concat());
    let said = home.json(&["ca", "inspect", &file]);
    let signed: Vec<String> = (0..3)
        .map(|i| said["found"][i]["signed_by"].to_string())
        .collect();
    assert_eq!(signed, ["\"itself\"", "[3]", "[1]"]);
    assert_eq!(said["holds"], true);
    let words = home.yes(&["ca", "inspect", &file]);
    assert_says(
        &words,
        &[
            "certificate 2 of 3",
            "DNS db1.example",
            "certificate 3; it holds",
            "days left",
        ],
    );
}

#[test]
fn a_forged_link_is_an_answered_no() {
    let home = Home::empty();
    let ca = Foreign::authority("private CA").root();
    let leaf = Foreign::server("db1.example").issued_by(&ca).chain[0].clone();
    let mut broken = leaf.clone();
    let last = broken.last_mut().expect("bytes");
    *last ^= 1;
    let file = [&broken, &ca.der]
        .map(|der| pem("CERTIFICATE", der))
        .concat();
    let file = write(&home.beside("broken.pem"), &file);
    let finished = home.run(&["ca", "inspect", &file]);
    assert_eq!(finished.status.code(), Some(1));
    assert_says(&finished.out(), &["NOT by the issuer that it names"]);
    // Alone, nothing is known about it, and that is said.
    let file = write(&home.beside("alone.pem"), &pem("CERTIFICATE", &leaf));
    assert_says(
        &home.yes(&["ca", "inspect", &file]),
        &["not in this file: not checked"],
    );
}

#[test]
fn what_a_stranger_wrote_is_escaped() {
    let home = Home::empty();
    let hostile = Foreign::authority("evil\u{1b}[2J\u{202e}CA\n  permits  all").root();
    let file = write(&home.beside("evil.pem"), &pem("CERTIFICATE", &hostile.der));
    for flags in [&[][..], &["--json"]] {
        let finished = home.run(&[&["ca", "inspect", &file], flags].concat());
        let said = finished.out() + &finished.err();
        assert!(
            said.chars().all(|c| c == '\n' || !c.is_control()),
            "{said:?}"
        );
        assert!(!said.contains('\u{202e}'), "{said:?}");
        assert!(!said.contains("\n  permits  all"), "{said}");
    }
}

#[test]
fn binary_files_and_standard_input_are_read_too() {
    let ca = Ca::new("acme");
    let pem_file = ca.certificate();
    let certificate = fs::read_to_string(&pem_file).expect("PEM");
    let der = certificates_in_pem(&certificate)
        .expect("a certificate")
        .remove(0);
    let file = ca.home.beside("root.der");
    fs::write(&file, &der).expect("written");
    for finished in [
        ca.home.run(&["ca", "inspect", &file.display().to_string()]),
        ca.home.talk(&["ca", "inspect", "-"], &der),
        ca.home
            .talk(&["ca", "inspect", "-"], certificate.as_bytes()),
    ] {
        assert_says(
            &finished.expect_success().out(),
            &["root of a network", &ca.id()],
        );
    }
    // A bundle as a server hands it out.
    let bundle = ca.yes("bundle", &[]);
    let base64: String = bundle
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    let mut decoder = Command::new("base64");
    let bytes = run(decoder.arg("--decode"), base64.as_bytes())
        .expect_success()
        .stdout;
    let finished = ca
        .home
        .talk(&["ca", "inspect", "-"], &bytes)
        .expect_success();
    assert_says(
        &finished.out(),
        &[
            "bundle of the network acme",
            &ca.id(),
            "it holds, from the founding root on",
        ],
    );
}

#[test]
fn a_bundle_that_was_changed_does_not_hold() {
    let ca = Ca::new("acme");
    let bundle = ca.yes("bundle", &[]);
    let mut lines: Vec<String> = bundle.lines().map(str::to_owned).collect();
    let middle = lines.len() / 2;
    let swapped: String = lines[middle]
        .chars()
        .map(|c| {
            if c.is_ascii_lowercase() {
                c.to_ascii_uppercase()
            } else {
                c
            }
        })
        .collect();
    lines[middle] = swapped;
    let file = write(&ca.home.beside("changed.pem"), &(lines.join("\n") + "\n"));
    let finished = ca.home.run(&["ca", "inspect", &file]);
    assert_eq!(finished.status.code(), Some(1));
    assert_says(&finished.out(), &["bundle, which does not hold", "refused"]);
}

#[test]
fn a_private_key_is_not_shown() {
    let home = Home::new();
    let key = home.path().join("identity/identity.key");
    let said = home.unable(&["ca", "inspect", &key.display().to_string()]);
    assert_says(&said, &["is a private key"]);
    let secret = fs::read_to_string(&key).expect("a key");
    let inside = secret.lines().nth(1).expect("base64");
    assert!(!said.contains(inside));
}

#[test]
fn what_is_nothing_of_this_kind_is_said_to_be_unreadable() {
    let home = Home::empty();
    for (bytes, says) in [
        (b"hello\n".as_slice(), "no PEM block"),
        (&[0xff, 0xfe, 0x00], "neither PEM nor DER"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "does not end"),
        (b"", "no PEM block"),
    ] {
        let finished = home.talk(&["ca", "inspect", "-"], bytes);
        assert_eq!(finished.status.code(), Some(2), "{bytes:?}");
        assert_says(&finished.err(), &[says]);
    }
    // Something that claims to be a certificate and is none is an answered no.
    for bytes in [&[0x30, 0x03, 0x02, 0x01, 0x00][..], &[0x82, 0x40, 0x40]] {
        let finished = home.talk(&["ca", "inspect", "-"], bytes);
        assert_eq!(finished.status.code(), Some(1), "{bytes:?}");
        assert_says(&finished.out(), &["which does not hold"]);
    }
    assert_says(
        &home.unable(&["ca", "inspect", "/nonexistent"]),
        &["cannot read"],
    );
}

#[test]
fn statements_about_an_identity_are_explained() {
    let home = Home::new();
    let old = home.id();
    let revocation = home.yes(&["identity", "revoke"]);
    let said = home
        .talk(&["ca", "inspect", "-"], revocation.as_bytes())
        .expect_success();
    assert_says(
        &said.out(),
        &[
            "revocation of an identity",
            &old,
            "by the revoked key itself",
        ],
    );
    home.yes(&["identity", "roll"]);
    let statements = home.yes(&["identity", "export"]);
    let said = home
        .talk(&["ca", "inspect", "-"], statements.as_bytes())
        .expect_success();
    assert_says(
        &said.out(),
        &["succession of an identity", &old, &home.id(), "they hold"],
    );
    let value = home.talk(&["ca", "inspect", "-", "--json"], statements.as_bytes());
    let value: serde_json::Value = serde_json::from_str(&value.out()).expect("JSON");
    assert_eq!(text(&value["found"][0]["current"]), home.id());
}
