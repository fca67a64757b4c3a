//! `comity ca issue|issued|withdraw`: certificates for programs that are not Comity. OpenSSL judges
//! them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use comity_testkit::foreign::{Program, run};

use crate::authority_founding::{Ca, openssl_verify, text};
use crate::home::assert_says;

const LEAF: [&str; 2] = ["--template", "leaf"];

fn issue(ca: &Ca, rest: &[&str]) -> serde_json::Value {
    ca.json("issue", rest)
}

fn assert_accepted(root: &str, certificate: &str, rest: &[&str]) {
    if let Some(judged) = openssl_verify(root, certificate, rest) {
        assert_eq!(judged, Ok(()), "{certificate} {rest:?}");
    }
}

fn assert_refused(root: &str, certificate: &str, rest: &[&str]) {
    if let Some(judged) = openssl_verify(root, certificate, rest) {
        assert!(judged.is_err(), "{certificate} {rest:?}");
    }
}

#[test]
fn a_leaf_with_a_key_made_here_is_one_that_openssl_accepts() {
    let ca = Ca::new("acme");
    let out = ca.at("db1");
    let names = [
        "--dns",
        "db1.example",
        "--ip",
        "192.0.2.7",
        "--uri",
        "spiffe://acme/db1",
    ];
    let made = issue(
        &ca,
        &[&LEAF[..], &names, &["--role", "db", "--out", &out]].concat(),
    );
    let (certificate, key) = (format!("{out}.crt"), format!("{out}.key"));
    assert_eq!(made["key"], key);
    let mode = fs::metadata(&key).expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let root = ca.certificate();
    for purpose in ["sslserver", "sslclient"] {
        assert_accepted(&root, &certificate, &["-purpose", purpose]);
    }
    assert_accepted(&root, &certificate, &["-verify_hostname", "db1.example"]);
    assert_accepted(&root, &certificate, &["-verify_ip", "192.0.2.7"]);
    assert_refused(&root, &certificate, &["-verify_hostname", "db2.example"]);
    assert_refused(&Ca::new("acme").certificate(), &certificate, &[]);
    let said = ca.home.json(&["ca", "inspect", &certificate]);
    assert_eq!(said["found"][0]["roles"][0], "db");
    assert_eq!(said["found"][0]["signed_by"][0], 2);
}

#[test]
fn a_leaf_is_for_the_side_that_was_asked_for() {
    let ca = Ca::new("acme");
    let root = ca.certificate();
    for (purpose, good, bad) in [
        ("serve", "sslserver", "sslclient"),
        ("dial", "sslclient", "sslserver"),
    ] {
        let out = ca.at(purpose);
        ca.yes(
            "issue",
            &[&LEAF[..], &["--purpose", purpose, "--out", &out]].concat(),
        );
        let certificate = format!("{out}.crt");
        assert_accepted(&root, &certificate, &["-purpose", good]);
        assert_refused(&root, &certificate, &["-purpose", bad]);
    }
}

#[test]
fn of_a_request_only_key_and_names_are_taken_and_they_are_shown() {
    let ca = Ca::new("acme");
    let Some(openssl) = Program::find("openssl") else {
        return;
    };
    let (request, key) = (ca.at("web.csr"), ca.at("web.key"));
    let made = run(
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
            "/O=Somebody Else/CN=root",
            "-addext",
            "subjectAltName=DNS:web.example",
            "-addext",
            "basicConstraints=critical,CA:TRUE",
        ]),
        b"",
    );
    made.expect_success();
    let out = ca.at("web");
    let order = [&LEAF[..], &["--csr", &request, "--out", &out]].concat();
    let finished = ca.home.run(&ca.words("issue", &order)).expect_success();
    assert_says(
        &finished.err(),
        &["the request asks for DNS web.example", "they are signed"],
    );
    let root = ca.certificate();
    let certificate = format!("{out}.crt");
    assert_accepted(&root, &certificate, &["-verify_hostname", "web.example"]);
    let said = ca.home.json(&["ca", "inspect", &certificate]);
    assert_eq!(said["found"][0]["ca"], false);
    assert!(!text(&said["found"][0]["subject"]).contains("Somebody"));
    // The operator's names replace those of the request.
    let other = ca.at("other");
    let order = ["--csr", &request, "--dns", "other.example", "--out", &other];
    let finished = ca
        .home
        .run(&ca.words("issue", &[&LEAF[..], &order].concat()));
    assert_says(
        &finished.expect_success().err(),
        &["the names given here are signed instead"],
    );
    let certificate = format!("{other}.crt");
    assert_accepted(&root, &certificate, &["-verify_hostname", "other.example"]);
    assert_refused(&root, &certificate, &["-verify_hostname", "web.example"]);
}

#[test]
fn a_request_that_its_key_did_not_sign_gets_nothing() {
    let ca = Ca::new("acme");
    let Some(openssl) = Program::find("openssl") else {
        return;
    };
    let (request, key) = (ca.at("web.der"), ca.at("web.key"));
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
            "-outform",
            "DER",
            "-out",
            &request,
            "-subj",
            "/CN=web",
        ]),
        b"",
    )
    .expect_success();
    let mut der = fs::read(&request).expect("a request");
    let last = der.last_mut().expect("bytes");
    *last ^= 1;
    fs::write(&request, der).expect("written");
    let out = ca.at("web");
    let said = ca.no(
        "issue",
        &[&LEAF[..], &["--csr", &request, "--out", &out]].concat(),
    );
    assert_says(&said, &["the request in", "is refused"]);
    assert!(!Path::new(&format!("{out}.crt")).exists());
    assert_eq!(
        ca.json("issued", &["--all"]).as_array().map(Vec::len),
        Some(0)
    );
}

#[test]
fn an_organisations_leaf_has_the_name_of_its_root() {
    let ca = Ca::new("acme");
    let out = ca.at("server");
    ca.rooted(
        &["issue"],
        &[
            "--template",
            "organisation",
            "--dns",
            "b.example",
            "--out",
            &out,
        ],
    );
    let (root, certificate) = (ca.certificate(), format!("{out}.crt"));
    assert_accepted(&root, &certificate, &["-verify_hostname", "b.example"]);
    let said = ca.home.json(&["ca", "inspect", &certificate]);
    assert_eq!(said["found"][0]["subject"], said["found"][0]["issuer"]);
    let said = ca.home.unable(&ca.words(
        "issue",
        &[&LEAF[..], &["--by-root", "--out", &out]].concat(),
    ));
    assert_says(
        &said,
        &["only `--template organisation` is signed by the root"],
    );
}

#[test]
fn p2pfl_gets_the_files_of_its_settings() {
    let ca = Ca::new("acme");
    let folder = ca.at("node7");
    let order = ["--template", "p2pfl", "--ip", "127.0.0.1", "--out", &folder];
    ca.yes("issue", &order);
    let mut names: Vec<String> = fs::read_dir(&folder)
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "ca.crt",
            "client.crt",
            "client.key",
            "server.crt",
            "server.key"
        ]
    );
    let file = |name: &str| format!("{folder}/{name}");
    for (side, good, bad) in [
        ("server", "sslserver", "sslclient"),
        ("client", "sslclient", "sslserver"),
    ] {
        let certificate = file(&format!("{side}.crt"));
        assert_accepted(
            &file("ca.crt"),
            &certificate,
            &["-purpose", good, "-verify_ip", "127.0.0.1"],
        );
        assert_refused(&file("ca.crt"), &certificate, &["-purpose", bad]);
        let mode = fs::metadata(file(&format!("{side}.key")))
            .expect("a key")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let said = ca.home.unable(&ca.words("issue", &order));
    assert_says(&said, &["node7 is there already"]);
}

#[test]
fn a_name_that_cannot_be_takes_no_serial_number_and_leaves_no_folder() {
    let ca = Ca::new("acme");
    let before = ca.json("issued", &["--all"]);
    let out = ca.at("node7");
    for (template, name) in [
        ("p2pfl", &["--dns", "a b"][..]),
        ("leaf", &["--subject", "x\ncomity: error: forged"]),
        ("leaf", &["--uri", "no uri"]),
    ] {
        let order = [&["--template", template, "--out", &out], name].concat();
        let said = ca.home.unable(&ca.words("issue", &order));
        assert_says(&said, &["is not a valid"]);
        assert!(!said.contains("\ncomity: error: forged"), "{said}");
        assert!(!Path::new(&out).exists(), "{name:?}");
    }
    assert_eq!(ca.json("issued", &["--all"]), before);
    let said = ca
        .home
        .unable(&ca.words("withdraw", &["db1", "--reason", "a\nb"]));
    assert_says(&said, &["--reason", "on one line"]);
}

#[test]
fn nothing_is_overwritten_and_nothing_is_signed_then() {
    let ca = Ca::new("acme");
    for there in ["db1.crt", "db1.key"] {
        let path = ca.at(there);
        fs::write(&path, "mine").expect("written");
        let said = ca
            .home
            .unable(&ca.words("issue", &[&LEAF[..], &["--out", &ca.at("db1")]].concat()));
        assert_says(&said, &[&path, "is there already"]);
        assert_eq!(fs::read_to_string(&path).expect("the file"), "mine");
        fs::remove_file(&path).expect("removed");
    }
    assert_eq!(
        ca.json("issued", &["--all"]).as_array().map(Vec::len),
        Some(0)
    );
}

#[test]
fn what_ends_soon_is_an_answered_no() {
    let ca = Ca::new("acme");
    for (name, valid) in [("short", "2d"), ("long", "20d")] {
        let out = ca.at(name);
        ca.yes(
            "issue",
            &[&LEAF[..], &["--valid", valid, "--out", &out]].concat(),
        );
    }
    let all = ca.json("issued", &[]);
    let labels: Vec<String> = all
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| text(&entry["label"]))
        .collect();
    assert_eq!(labels, ["short", "long"]);
    assert_eq!(
        ca.json("issued", &["--expiring", "1d"])
            .as_array()
            .map(Vec::len),
        Some(0)
    );
    let finished = ca.home.run(&ca.words("issued", &["--expiring", "3d"]));
    assert_eq!(finished.status.code(), Some(1));
    assert_says(&finished.out(), &["short"]);
    assert!(!finished.out().contains("long"));
}

#[test]
fn a_withdrawal_says_before_what_it_will_do_and_goes_into_the_bundle() {
    let ca = Ca::new("acme");
    let serials: Vec<String> = ["one", "two"]
        .iter()
        .map(|name| {
            let out = ca.at(name);
            text(&issue(&ca, &[&LEAF[..], &["--out", &out]].concat())["serial"])
        })
        .collect();
    let said = ca.yes("withdraw", &[&serials[0], "--dry-run"]);
    assert_says(&said, &["would withdraw", &serials[0]]);
    assert_eq!(ca.json("show", &[])["withdrawn"], 0);
    assert_says(
        &ca.yes("withdraw", &[&serials[0], "--reason", "lost"]),
        &["withdrew", &serials[0]],
    );
    assert_says(&ca.yes("withdraw", &["two"]), &[&serials[1]]);
    let file = ca.at("bundle.pem");
    ca.yes("bundle", &["--out", &file]);
    let bundle = &ca.home.json(&["ca", "inspect", &file])["found"][0];
    let mut withdrawn: Vec<String> = bundle["withdrawn"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| text(&entry["serial"]))
        .collect();
    withdrawn.sort();
    let mut expected = serials.clone();
    expected.sort();
    assert_eq!(withdrawn, expected);
    assert_eq!(ca.json("issued", &[]).as_array().map(Vec::len), Some(0));
    assert_says(&ca.yes("issued", &["--all"]), &["withdrawn", "lost"]);
    assert_says(
        &ca.no("withdraw", &[&serials[0]]),
        &["no certificate of this network is"],
    );
    assert_says(
        &ca.no("withdraw", &["three", "--dry-run"]),
        &["nothing that counts is `three`"],
    );
}

#[test]
fn a_withdrawn_key_gets_nothing_any_more() {
    let ca = Ca::new("acme");
    let Some(openssl) = Program::find("openssl") else {
        return;
    };
    let (request, key) = (ca.at("web.csr"), ca.at("web.key"));
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
            "/CN=web",
        ]),
        b"",
    )
    .expect_success();
    let hash = text(&ca.home.json(&["ca", "inspect", &request])["found"][0]["key"]);
    let out = ca.at("web");
    ca.yes(
        "issue",
        &[&LEAF[..], &["--csr", &request, "--out", &out]].concat(),
    );
    let what = format!("key:{hash}");
    assert_says(&ca.yes("withdraw", &[&what]), &["for ever"]);
    let again = ca.at("again");
    let said = ca.no(
        "issue",
        &[&LEAF[..], &["--csr", &request, "--out", &again]].concat(),
    );
    assert_says(&said, &["was withdrawn"]);
    assert!(!Path::new(&format!("{again}.crt")).exists());
}
