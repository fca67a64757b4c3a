//! `comity ca delegate|roll-issuing|roll-root|revoke-key`: the authority's own keys.

use std::fs;

use comity_testkit::foreign::{Program, run};
use serde_json::Value;

use crate::authority_founding::{Ca, openssl_verify, text, write};
use crate::home::{Home, assert_says};

/// The keys of a role in a state.
fn keys(ca: &Ca, role: &str, state: &str) -> Vec<String> {
    let shown = ca.json("show", &[]);
    let keys = shown["keys"].as_array().expect("keys").iter();
    keys.filter(|key| key["role"] == role && key["state"] == state)
        .map(|key| text(&key["key"]))
        .collect()
}

/// Certifies a node under this label.
fn admit(ca: &Ca, node: &Home, label: &str) -> String {
    let pem = write(
        &ca.home.beside("node.pem"),
        &(node.yes(&["id", "--certificate"]) + "\n"),
    );
    let out = ca.at(&format!("{label}.pem"));
    ca.yes(
        "certify",
        &[&pem, "--as", label, "--confirm", &node.id(), "--out", &out],
    );
    out
}

fn labels(answer: &Value) -> Vec<String> {
    let members = answer["affected"][0]["members"].as_array();
    members
        .expect("members")
        .iter()
        .map(|member| text(&member["label"]))
        .collect()
}

#[test]
fn an_issuing_key_is_announced_before_it_is_used() {
    let (ca, node) = (Ca::new("acme"), Home::new());
    admit(&ca, &node, "b");
    let old = keys(&ca, "issuing", "active");
    let plan = ca.json("roll-issuing", &["--dry-run"]);
    assert_eq!(plan["step"], "announced");
    assert_eq!(labels(&plan), ["b"]);
    assert!(keys(&ca, "issuing", "next").is_empty());
    assert_says(&ca.rooted(&["roll-issuing"], &[]), &["announced key:"]);
    let next = keys(&ca, "issuing", "next");
    assert_eq!(
        (next.len(), keys(&ca, "issuing", "active")),
        (1, old.clone())
    );
    // Nobody who fetched a bundle this morning knows it yet.
    let said = ca.home.no(&ca.rooted_words(&["roll-issuing"], &[]));
    assert_says(&said, &["was announced", &next[0], "run this again from"]);
    ca.rooted(&["roll-issuing"], &["--now"]);
    assert_eq!(keys(&ca, "issuing", "active"), next);
    assert_eq!(keys(&ca, "issuing", "retiring"), old);
    // What is signed now is signed by the new key, below the same root.
    let leaf = ca.at("leaf");
    ca.yes("issue", &["--template", "leaf", "--out", &leaf]);
    let certificate = format!("{leaf}.crt");
    if let Some(judged) = openssl_verify(&ca.certificate(), &certificate, &[]) {
        assert_eq!(judged, Ok(()));
    }
    let said = ca.home.json(&["ca", "inspect", &certificate]);
    assert_eq!(said["found"][1]["key"], next[0]);
}

#[test]
fn a_stolen_issuing_key_is_revoked_once_another_one_can_say_so() {
    let (ca, node) = (Ca::new("acme"), Home::new());
    admit(&ca, &node, "b");
    let stolen = format!("key:{}", keys(&ca, "issuing", "active")[0]);
    let said = ca.home.no(&ca.rooted_words(&["revoke-key"], &[&stolen]));
    assert_says(
        &said,
        &["the only issuing key in use", "roll-issuing acme --now"],
    );
    ca.rooted(&["roll-issuing"], &["--now"]);
    let plan = ca.json("revoke-key", &[&stolen, "--dry-run"]);
    assert_eq!(labels(&plan), ["b"]);
    assert!(keys(&ca, "issuing", "revoked").is_empty());
    let said = ca.rooted(&["revoke-key"], &[&stolen]);
    assert_says(&said, &["revoked", &stolen, " b "]);
    assert_eq!(keys(&ca, "issuing", "revoked").len(), 1);
    // Again is no mistake: a crash may have left its file.
    ca.rooted(&["revoke-key"], &[&stolen]);
    assert_eq!(keys(&ca, "issuing", "revoked").len(), 1);
}

#[test]
fn a_new_root_is_below_the_old_one_and_the_network_keeps_its_id() {
    let (mut ca, node) = (Ca::new("acme"), Home::new());
    admit(&ca, &node, "b");
    let (id, old) = (ca.id(), ca.certificate());
    let before = ca.at("before");
    ca.yes("issue", &["--template", "leaf", "--out", &before]);
    let plan = ca.json("roll-root", &["--new-root", "unused", "--dry-run"]);
    assert_eq!(labels(&plan), ["b"]);
    let new_key = ca.at("root-2.key");
    ca.rooted(&["roll-root"], &["--new-root", &new_key]);
    assert_eq!(ca.id(), id);
    assert_eq!(keys(&ca, "root", "retiring"), [id]);
    let sealed = fs::read_to_string(&new_key).expect("a key");
    assert_says(&sealed, &["BEGIN COMITY SEALED KEY"]);
    // The old root signs nothing any more, the new one does, with the same passphrase.
    let said = ca.home.no(&ca.rooted_words(&["roll-issuing"], &[]));
    assert_says(&said, &["is another key"]);
    ca.root = new_key;
    ca.rooted(&["roll-issuing"], &[]);
    // Whoever starts from either root accepts what is issued now, and the old one what was before.
    let new = ca.certificate_in("acme-2.pem");
    let after = ca.at("after");
    ca.yes("issue", &["--template", "leaf", "--out", &after]);
    for (root, leaf) in [(&old, &before), (&old, &after), (&new, &after)] {
        if let Some(judged) = openssl_verify(root, &format!("{leaf}.crt"), &[]) {
            assert_eq!(judged, Ok(()), "{leaf} below {root}");
        }
    }
}

#[test]
fn a_replaced_root_is_revoked_as_its_dry_run_says() {
    let mut ca = Ca::new("acme");
    ca.rooted(&["roll-issuing"], &["--now"]);
    let (old, new_key) = (format!("key:{}", ca.id()), ca.at("root-2.key"));
    ca.rooted(&["roll-root"], &["--new-root", &new_key]);
    ca.root = new_key;
    assert_says(
        &ca.yes("revoke-key", &[&old, "--dry-run"]),
        &["would revoke"],
    );
    assert_says(&ca.rooted(&["revoke-key"], &[&old]), &["revoked key:"]);
    assert_eq!(keys(&ca, "issuing", "retiring").len(), 1);
}

#[test]
fn a_key_of_the_authority_itself_is_revoked_and_not_withdrawn() {
    let ca = Ca::new("acme");
    let issuing = keys(&ca, "issuing", "active").remove(0);
    for key in [format!("key:{issuing}"), format!("key:{}", ca.id())] {
        for flags in [&[][..], &["--dry-run"]] {
            let said = ca.no("withdraw", &[&[key.as_str()][..], flags].concat());
            let hint = format!("comity ca revoke-key acme {key}");
            assert_says(&said, &["is a key of the authority itself", &hint]);
        }
    }
    ca.rooted(&["roll-issuing"], &["--now"]);
    let listed = ca.json("issued", &[]);
    let rolled = listed.as_array().expect("a list").iter();
    let serials: Vec<String> = rolled.map(|row| text(&row["serial"])).collect();
    let said = ca.no("withdraw", &[&serials[0]]);
    assert_says(&said, &["is a key of the authority itself"]);
    // Nobody gave it that label.
    assert_says(&ca.no("withdraw", &["issuing"]), &["issuing"]);
    assert_eq!(keys(&ca, "issuing", "active").len(), 1);
}

#[test]
fn the_root_in_use_is_not_revoked() {
    let ca = Ca::new("acme");
    let root = format!("key:{}", ca.id());
    let said = ca.home.no(&ca.rooted_words(&["revoke-key"], &[&root]));
    assert_says(&said, &["the root in use", "roll-root acme --new-root"]);
    let other = format!("key:{}", Ca::new("other").id());
    let said = ca.home.no(&ca.rooted_words(&["revoke-key"], &[&other]));
    assert_says(&said, &["is none of acme's keys"]);
}

#[test]
fn another_machine_issues_within_its_scope() {
    let ca = Ca::new("acme");
    let network: comity_identity::NodeId = ca.id().parse().expect("an id");
    let network = network.to_hex();
    let Some(openssl) = Program::find("openssl") else {
        return;
    };
    let (request, key) = (ca.at("build.csr"), ca.at("build.key"));
    run(
        openssl.command().args([
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            &key,
            "-out",
            &request,
            "-subj",
            &format!("/CN={network}"),
        ]),
        b"",
    )
    .expect_success();
    let out = ca.at("build-issuing.pem");
    let limits = [
        "--path-length",
        "0",
        "--may-attest-role",
        "builder",
        "--dns",
        "build.example",
    ];
    let order = [&["--csr", &request, "--out", &out], &limits[..]].concat();
    ca.rooted(&["delegate"], &order);
    let root = ca.certificate();
    if let Some(judged) = openssl_verify(&root, &out, &[]) {
        assert_eq!(judged, Ok(()));
    }
    let said = ca.home.json(&["ca", "inspect", &out]);
    let made = &said["found"][0];
    assert_says(
        &text(&made["permits"]),
        &["certifies no member", "role builder"],
    );
    assert_eq!(
        (&made["path_length"], &made["roles"][0]),
        (&0.into(), &"builder".into())
    );
    assert_eq!(made["permitted"][0], "DNS build.example");
    let said = ca.yes("show", &[]);
    assert_says(
        &said,
        &["kept on another machine", "DNS names below build.example"],
    );
    // Whoever has lost the certificate gets the same again, and nothing is overwritten.
    let said = ca.home.unable(&ca.rooted_words(&["delegate"], &order));
    assert_says(&said, &["is there already"]);
    let before = fs::read_to_string(&out).expect("a certificate");
    fs::remove_file(&out).expect("lost");
    ca.rooted(&["delegate"], &order);
    assert_eq!(fs::read_to_string(&out).expect("a certificate"), before);
    // It is revoked like any other, and the authority goes on.
    let stolen = format!("key:{}", text(&made["key"]));
    ca.rooted(&["revoke-key"], &[&stolen]);
    ca.yes("issue", &["--template", "leaf", "--out", &ca.at("leaf")]);
}
