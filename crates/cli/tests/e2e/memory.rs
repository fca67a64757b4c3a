//! `comity trust list|find|show|add|remove|replace|revoke|verify|explain|scan|check`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use comity_certs::Anchor;
use comity_testkit::certificates::Foreign;
use comity_testkit::foreign::Finished;
use comity_testkit::foreign::tls::write_certificates;
use serde_json::{Value, json};

use crate::authorities::{century, id_of};
use crate::backend;
use crate::home::{Home, Pair, assert_says, expect_exit, quoted_command};

#[test]
fn what_is_added_is_listed_found_and_shown_with_its_grants() {
    let (home, id) = (Home::new(), Home::new().id());
    let args = [
        "trust",
        "add",
        "db1",
        &id,
        "--addr",
        "db1.example:7117",
        "--for",
        "db",
        "--role",
        "reader",
        "--network",
        "corp",
        "--side",
        "accept",
    ];
    assert_eq!(home.yes(&args), "added db1");
    for found in ["list", "find db1", "show db1"] {
        let mut args = vec!["trust"];
        args.extend(found.split(' '));
        let entry = &home.json(&args)[0];
        assert_eq!(entry["names"], "db1", "{found}");
        assert_eq!(entry["what"], id, "{found}");
        assert_eq!(entry["side"], "accept", "{found}");
        assert_eq!(entry["addresses"], json!(["db1.example:7117"]), "{found}");
        assert_eq!(entry["services"], json!(["db"]), "{found}");
        assert_eq!(entry["roles"], json!(["reader"]), "{found}");
        assert_eq!(entry["networks"], json!(["corp"]), "{found}");
        assert_eq!(entry["origin"], "hand", "{found}");
        let confirmed = entry["confirmed"]
            .as_str()
            .expect("who types an id has compared it");
        assert!(confirmed.ends_with("/hand"), "{confirmed}");
    }
    assert_says(&home.yes(&["trust", "find", &id]), &["db1"]);
    assert_says(
        &home.yes(&["trust", "show", "db1"]),
        &["known_peers:2", &id, "db1.example:7117"],
    );
    assert_says(
        &home.no(&["trust", "find", "db2"]),
        &["nothing is known of it"],
    );
    assert_says(
        &home.no(&["trust", "show", "db2"]),
        &["nothing is known of `db2`", "trust list"],
    );
}

#[test]
fn a_name_keeps_its_key_unless_a_second_one_is_meant() {
    let (home, old, new) = (Home::new(), Home::new().id(), Home::new().id());
    home.yes(&["trust", "add", "db1", &old]);
    let said = home.no(&["trust", "add", "db1", &new]);
    assert_says(&said, &["db1", "comity trust replace db1", "--also"]);
    assert_says(
        &home.no(&["trust", "add", "db1", &old]),
        &["already there (line 2)"],
    );
    home.yes(&["trust", "add", "db1", &new, "--also"]);
    assert_eq!(
        home.json(&["trust", "find", "db1"])
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    let third = Home::new().id();
    assert_says(
        &home.unable(&["trust", "replace", "db1", &third]),
        &["several keys", "--also"],
    );
    home.yes(&["trust", "remove", &old]);
    home.yes(&["trust", "replace", "db1", &third]);
    assert_eq!(home.json(&["trust", "show", "db1"])[0]["what"], third);
}

#[test]
fn remove_takes_all_lines_of_a_peer_and_says_what_it_did() {
    let (home, id) = (Home::new(), Home::new().id());
    home.yes(&["trust", "add", "db1", &id]);
    home.yes(&["trust", "add", "db1.example:7117", &id]);
    assert_says(&home.yes(&["trust", "remove", &id]), &["(2 lines)"]);
    assert_says(
        &home.no(&["trust", "remove", &id]),
        &["nothing is known of"],
    );
    assert_eq!(home.json(&["trust", "list"]), json!([]));
}

#[test]
fn removing_a_peer_leaves_the_authorities_that_only_match_its_name() {
    let (home, id) = (Home::new(), Home::new().id());
    let folder = Home::empty();
    let ca = century(Foreign::authority("Corp CA")).root();
    let pem = folder.beside("ca.pem");
    write_certificates(&pem, std::slice::from_ref(&ca.der));
    let pem = pem.display().to_string();
    let (host, pattern) = ("db1.corp.example:7117", "*.corp.example:*");
    home.yes(&["trust", "add", pattern, "--ca", &pem, "--side", "dial"]);
    home.yes(&["trust", "add", host, &id, "--side", "dial"]);
    let seen = format!("{}@ca-verified dial {host}\n", home.known_peers());
    fs::write(home.path().join("known_peers"), seen).expect("written");
    let finished = home.run(&["trust", "remove", host]).expect_success();
    assert_says(&finished.out(), &["(1 line)", &id[..7], "known_peers:3"]);
    assert_says(&finished.err(), &["still there", pattern, "seen with a CA"]);
    let what = |home: &Home| home.known_peers().lines().skip(1).count();
    assert_eq!(what(&home), 2, "the CA and the memory of one stay");
    // Now the name is that of the memory alone.
    assert_says(&home.yes(&["trust", "remove", host]), &["seen with a CA"]);
    let said = home.no(&["trust", "remove", host]);
    assert_says(&said, &["only patterns match it", pattern, "known_peers:2"]);
    assert_eq!(what(&home), 1);
    assert_says(&home.yes(&["trust", "remove", pattern]), &["Corp CA"]);
    assert_eq!(what(&home), 0);
}

#[test]
fn a_revocation_stays_whatever_is_removed_or_added() {
    let (home, id) = (Home::new(), Home::new().id());
    home.yes(&["trust", "add", "db1", &id]);
    assert_eq!(
        home.json(&["trust", "revoke", "db1"])["revoked"],
        json!([id])
    );
    assert_says(
        &home.yes(&["trust", "show", "db1"]),
        &["REVOKED    known_peers:3"],
    );
    // Twice is as good as once.
    let before = home.known_peers();
    let again = home.run(&["trust", "revoke", "db1"]).expect_success();
    assert_says(&again.err(), &["is revoked already (known_peers:3)"]);
    assert_eq!(home.known_peers(), before);
    home.yes(&["trust", "remove", "db1"]);
    for args in [
        &["trust", "add", "db1", &id][..],
        &["trust", "add", "db1", &id, "--also"],
    ] {
        assert_says(&home.no(args), &["this key is revoked (known_peers:2)"]);
    }
    home.yes(&["trust", "add", "db2", &Home::new().id()]);
    assert_says(
        &home.no(&["trust", "replace", "db2", &id]),
        &["this key is revoked"],
    );
    let said = home.no(&["trust", "remove", &id]);
    assert_says(&said, &["is revoked, which stays"]);
    assert_says(&home.known_peers(), &["revoked"]);
    assert_says(&home.yes(&["trust", "list"]), &["REVOKED"]);
    assert_says(
        &home.no(&["trust", "revoke", "nobody"]),
        &["nothing is known of `nobody`"],
    );
}

/// A CA that is listed for this pattern, and a pinned peer whose certificate it issued.
struct Below {
    home: Home,
    authority: Anchor,
    authority_file: String,
    peer_file: String,
    /// Where the files are.
    _folder: Home,
}

impl Below {
    const PATTERN: &'static str = "*.corp.example:*";

    fn new() -> Self {
        let (home, folder) = (Home::new(), Home::empty());
        let issuing = century(Foreign::authority("Corp CA")).root();
        let peer = century(Foreign::client("laptop")).issued_by(&issuing);
        let file = |name: &str, der: &Vec<u8>| {
            let path = write_certificates(&folder.beside(name), std::slice::from_ref(der));
            path.display().to_string()
        };
        let below = Self {
            authority: Anchor::from_der(&issuing.der).expect("a CA"),
            authority_file: file("ca.pem", &issuing.der),
            peer_file: file("laptop.pem", &peer.chain[0]),
            home,
            _folder: folder,
        };
        below.list_authority().expect_success();
        below.home.yes(&["trust", "add", "laptop", &id_of(&peer)]);
        below.assert_accepted();
        below
    }

    fn key(&self) -> String {
        format!("key:{}", self.authority.key())
    }

    fn list_authority(&self) -> Finished {
        let add = ["trust", "add", Self::PATTERN, "--ca", &self.authority_file];
        self.home.run(&add)
    }

    fn explain(&self) -> Finished {
        let of = ["trust", "explain", "laptop", "--cert", &self.peer_file];
        self.home.run(&[&of[..], &["--accept", "pin"]].concat())
    }

    fn assert_accepted(&self) {
        assert_says(&self.explain().expect_success().out(), &["accepted"]);
    }

    fn assert_revoked(&self) {
        let finished = expect_exit(self.explain(), 1, &["trust", "explain"]);
        assert_says(&finished.out(), &["refused: revoked"]);
    }
}

#[test]
fn what_a_revoked_ca_issued_stays_refused_when_the_ca_is_listed_no_more() {
    let by_key: fn(&Below) -> String = Below::key;
    let by_fingerprint: fn(&Below) -> String = |below| below.authority.fingerprint().to_string();
    let by_pattern: fn(&Below) -> String = |_| Below::PATTERN.to_owned();
    for named in [by_key, by_fingerprint, by_pattern] {
        let below = Below::new();
        let revoke = ["trust", "revoke", &named(&below)];
        assert_eq!(below.home.json(&revoke)["revoked"], json!([below.key()]));
        below.assert_revoked();
        below.home.yes(&["trust", "remove", &below.key()]);
        assert!(!below.home.known_peers().contains("@ca"));
        below.assert_revoked();
    }
}

#[test]
fn revoking_a_ca_again_adds_the_certificate_that_its_line_lacks() {
    let below = Below::new();
    let line = format!("@revoked both * key {}\n", below.authority.key());
    let known = format!("{}{line}", below.home.known_peers());
    fs::write(below.home.path().join("known_peers"), known).expect("written");
    let revoke = ["trust", "revoke", &below.key()];
    let finished = below.home.run(&revoke).expect_success();
    assert_says(
        &finished.err(),
        &["is revoked already (known_peers:4)", "listed or not"],
    );
    let known = below.home.known_peers();
    below.home.yes(&revoke);
    assert_eq!(below.home.known_peers(), known, "twice is as good as once");
    below.home.yes(&["trust", "remove", Below::PATTERN]);
    below.assert_revoked();
}

#[test]
fn a_ca_is_not_revoked_with_a_peer_that_its_pattern_matches() {
    let below = Below::new();
    let host = "db1.corp.example:7117";
    let said = below.home.no(&["trust", "revoke", host]);
    assert_says(&said, &["has no key to revoke", "exact pattern"]);
    below.home.yes(&["trust", "add", host, &Home::new().id()]);
    below.home.yes(&["trust", "revoke", host]);
    below.assert_accepted();
}

#[test]
fn revoking_one_certificate_of_a_ca_says_what_that_leaves_open() {
    let below = Below::new();
    let certificate = format!("cert:{}", below.authority.fingerprint());
    let finished = below.home.run(&["trust", "revoke", &certificate]);
    let said = finished.expect_success().err();
    assert_says(&said, &["only while it is listed"]);
    let remedy = quoted_command(&said, "for ever");
    below.home.paste(remedy).expect_success();
    below.home.yes(&["trust", "remove", Below::PATTERN]);
    below.assert_revoked();
}

#[test]
fn a_ca_whose_key_or_certificate_is_revoked_is_not_added() {
    let below = Below::new();
    below.home.yes(&["trust", "remove", Below::PATTERN]);
    let twins = below.authority.twin_fingerprints();
    assert!(!twins.is_empty(), "its signature is ECDSA");
    let own = below.authority.fingerprint();
    let certificates = std::iter::once(&own).chain(twins);
    let by = std::iter::once(format!("key {}", below.authority.key()))
        .chain(certificates.map(|fingerprint| format!("cert {fingerprint}")));
    let without = below.home.known_peers();
    for revoked in by {
        let known = format!("{without}@revoked both * {revoked}\n");
        fs::write(below.home.path().join("known_peers"), &known).expect("written");
        let finished = expect_exit(below.list_authority(), 1, &["trust", "add"]);
        let said = finished.err();
        assert_says(&said, &["this CA is revoked (known_peers:3)", "permanent"]);
        assert_eq!(below.home.known_peers(), known);
    }
    fs::write(below.home.path().join("known_peers"), without).expect("written");
    below.list_authority().expect_success();
}

#[test]
fn a_revoked_key_is_refused_when_dialling_with_the_line_that_says_so() {
    let pair = Pair::new(&[&backend::echo().to_string()], &["default"]);
    let id = pair.server.id();
    pair.client.yes(&["trust", "revoke", &id]);
    let said = pair.client.no(&["connect", "server"]);
    assert_says(
        &said,
        &[
            "a key it presents is revoked",
            "known_peers:3",
            "no data was sent",
        ],
    );
    // Asking to trust on first use does not help it either.
    let address = pair.serving.address.to_string();
    assert_says(
        &pair.client.no(&["connect", &address, "--trust", "tofu"]),
        &["is revoked"],
    );
}

#[test]
fn verify_confirms_the_right_id_or_words_and_nothing_else() {
    let echo = backend::echo().to_string();
    let (server, client) = (Home::new(), Home::new());
    let serving = server.serve(&[&echo]);
    client.no(&[
        "connect",
        &serving.address.to_string(),
        "--as",
        "server",
        "--trust",
        "tofu",
    ]);
    let (id, words) = (server.id(), server.yes(&["id", "--words"]));
    let confirmed = || client.json(&["trust", "show", "server"])[0]["confirmed"].clone();
    assert_eq!(confirmed(), Value::Null);
    assert_says(&client.yes(&["trust", "list"]), &["NO"]);
    let other = client.yes(&["id", "--words"]);
    let said = client.no(&["trust", "verify", "server", &other]);
    assert_says(
        &said,
        &[
            "`server` has another key",
            &id,
            "known_peers:2",
            &other,
            "sat in between",
        ],
    );
    client.no(&["trust", "verify", "server", &client.id()]);
    assert_eq!(confirmed(), Value::Null);
    assert_says(
        &client.unable(&["trust", "verify", "server", "maybe"]),
        &["neither an id nor twelve words"],
    );
    let (rest, last) = id.split_at(id.len() - 1);
    let mistyped = format!("{rest}{}", if last == "A" { "C" } else { "A" });
    assert_says(
        &client.unable(&["trust", "verify", "server", &mistyped]),
        &["mistyped"],
    );
    // Twelve words, in one argument or in twelve.
    client.yes(&["trust", "verify", "server", &words]);
    assert!(confirmed().as_str().expect("a text").ends_with("/words"));
    let mut args = vec!["trust", "verify", "server"];
    args.extend(words.split(' '));
    client.yes(&args);
    let hex = server.yes(&["id", "--hex"]);
    client.yes(&["trust", "verify", "server", &hex]);
    assert_eq!(
        client.json(&["trust", "verify", "server", &id])["how"],
        "id"
    );
    assert!(confirmed().as_str().expect("a text").ends_with("/id"));
}

#[test]
fn explain_says_which_rule_decides_and_tells_the_peer_nothing() {
    let pair = Pair::new(&[&backend::echo().to_string()], &["default"]);
    let said = pair.client.yes(&["trust", "explain", "server"]);
    assert_says(
        &said,
        &[
            "server when we dial, in mode ca-or-tofu: accepted, by pin",
            "known_peers:2",
        ],
    );
    let answer = pair.client.json(&["trust", "explain", "server"]);
    assert_eq!(answer["accepted"], true);
    assert_eq!(answer["label"], "server");
    assert_eq!(answer["presented"], pair.server.id());
    // A stranger to a stranger: refused, and the other side has no record of having been asked.
    let stranger = Home::new();
    let address = pair.serving.address.to_string();
    let finished = stranger.run(&["trust", "explain", &address, "--trust", "pin", "--json"]);
    assert_eq!(finished.status.code(), Some(1));
    let answer: Value = serde_json::from_slice(&finished.stdout).expect("JSON");
    assert_eq!(answer["accepted"], false);
    assert_eq!(answer["reason"], "unknown");
    assert_eq!(stranger.known_peers(), "", "explaining remembers nothing");
    assert_eq!(pair.server.json(&["trust", "pending"]), json!([]));
}

#[test]
fn explain_judges_a_certificate_from_a_file_in_both_directions_and_for_a_service() {
    let (home, folder) = (Home::new(), Home::empty());
    let client = century(Foreign::client("laptop")).self_signed();
    let path = folder.beside("laptop.pem");
    fs::write(&path, client.chain_pem()).expect("written");
    let path = path.display().to_string();
    let explain = |more: &[&str]| {
        let args = [
            "trust", "explain", "laptop", "--accept", "enroll", "--cert", &path,
        ];
        home.run(&[&args[..], more].concat())
    };
    let finished = explain(&[]);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.out());
    assert_says(
        &finished.out(),
        &["laptop when we accept, in mode enroll: refused: pending"],
    );
    let presents = finished.out();
    let id = presents
        .lines()
        .find_map(|l| l.trim().strip_prefix("presents"))
        .expect("an id")
        .trim();
    home.yes(&[
        "trust", "add", "laptop", id, "--side", "accept", "--for", "web",
    ]);
    for (service, code, verdict) in [("web", 0, "web: yes"), ("db", 1, "db: no (not-authorised)")] {
        let finished = explain(&["--service", service]);
        assert_eq!(finished.status.code(), Some(code), "{}", finished.out());
        assert_says(&finished.out(), &["accepted, by pin", verdict]);
    }
    let said = home.unable(&["trust", "explain", "laptop"]);
    assert_says(
        &said,
        &["no address of laptop is known", "--addr HOST:PORT"],
    );
    let nobody = backend::nobody().to_string();
    let said = home.unable(&["trust", "explain", "laptop", "--addr", &nobody]);
    assert_says(&said, &["cannot reach", &nobody]);
    let said = home.unable(&["trust", "explain", "laptop", "--accept", "enroll"]);
    assert_says(&said, &["--cert FILE"]);
    let not_pem = folder.beside("not.pem");
    fs::write(&not_pem, "hello").expect("written");
    let not_pem = not_pem.display().to_string();
    home.unable(&[
        "trust", "explain", "laptop", "--accept", "pin", "--cert", &not_pem,
    ]);
}

#[test]
fn scan_shows_who_answers_and_says_that_this_verifies_nothing() {
    let server = Home::new();
    let serving = server.serve(&[&backend::echo().to_string(), "--name", "db1.example"]);
    let (home, address) = (Home::new(), serving.address.to_string());
    let finished = home.run(&["trust", "scan", &address]).expect_success();
    assert_says(
        &finished.out(),
        &[
            &server.id(),
            &server.yes(&["id", "--words"]),
            "a Comity node",
            "db1.example",
        ],
    );
    assert_says(&finished.err(), &["this verifies nothing"]);
    let answer = home.json(&["trust", "scan", &address]);
    assert_eq!(answer["id"], server.id());
    assert_eq!(answer["verified"], false);
    assert_eq!(answer["names"], json!(["db1.example"]));
    assert_eq!(home.known_peers(), "");
    assert_says(
        &home.unable(&["trust", "scan", &backend::nobody().to_string()]),
        &["cannot reach"],
    );
}

#[test]
fn check_finds_what_wants_attention_and_names_remedies_that_work() {
    let home = Home::new();
    let peer = Home::new().id();
    home.yes(&["trust", "add", "db1", &peer]);
    fs::remove_file(home.path().join("identity/next.key")).expect("moved offline");
    assert_eq!(
        home.json(&["trust", "check"]),
        json!({ "ok": true, "findings": [], "expiries": [] })
    );
    // A file that others can write.
    let path = home.path().join("known_peers");
    let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
    mode(0o666);
    let finished = home.run(&["trust", "check"]);
    assert_eq!(finished.status.code(), Some(1));
    assert_says(
        &finished.out(),
        &["WRONG", "other users can write to it", "chmod"],
    );
    mode(0o600);
    // A line that means nothing.
    let good = home.known_peers();
    fs::write(&path, format!("{good}both db2 nodes {peer}\n")).expect("written");
    let finished = home.run(&["trust", "check"]);
    assert_says(&finished.out(), &["WRONG", "known_peers:3"]);
    assert_says(&home.unable(&["connect", "db1"]), &["known_peers:3"]);
    // A file that is gone: nobody may look new because of it.
    fs::remove_file(&path).expect("lost");
    let address = backend::nobody().to_string();
    let said = home.unable(&["connect", &address, "--trust", "tofu"]);
    home.paste(quoted_command(&said, "start anew"))
        .expect_success();
    assert_eq!(home.json(&["trust", "list"]), json!([]));
}

#[test]
fn an_expired_entry_and_a_ca_that_ends_soon_are_named_by_check() {
    let home = Home::new();
    let peer = Home::new().id();
    home.yes(&["trust", "add", "db1", &peer]);
    let line = home
        .known_peers()
        .replace("origin=hand", "origin=hand not-after=2026-03-02T00:00:00Z");
    fs::write(home.path().join("known_peers"), line).expect("written");
    let finished = home.run(&["trust", "check"]);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.out());
    assert_says(
        &finished.out(),
        &["the entry of db1 has ended (known_peers:2)"],
    );
    let remedy = finished.out();
    let remedy = remedy
        .lines()
        .find(|l| l.contains("comity trust remove"))
        .expect("a remedy")
        .trim();
    home.paste(remedy).expect_success();
    home.yes(&["trust", "check"]);
}
