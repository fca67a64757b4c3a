//! `comity trust pending|approve|deny`: strangers wait until somebody lets them in.

use crate::backend::{self, Recorder};
use crate::home::{Home, assert_says, expect_exit};

/// A server, and a stranger who knows its id and knocked once.
fn knocked(target: &str) -> (Home, Home, comity_testkit::foreign::Listening) {
    let (server, stranger) = (Home::new(), Home::new());
    let serving = server.serve(&[target]);
    let address = serving.address.to_string();
    stranger.yes(&["trust", "add", "server", &server.id(), "--addr", &address]);
    let said = expect_exit(stranger.talk(&["connect", "server"], b"let me in"), 1, &[]).err();
    assert_says(
        &said,
        &[
            "(pending)",
            &stranger.id(),
            "comity trust approve ID --for SERVICE",
        ],
    );
    (server, stranger, serving)
}

#[test]
fn an_approved_peer_gets_in() {
    let (server, stranger, _serving) = knocked(&backend::echo().to_string());
    let id = stranger.id();
    let waiting = server.yes(&["trust", "pending"]);
    assert_says(
        &waiting,
        &[&id, &stranger.yes(&["id", "--words"]), "from 127.0.0.1"],
    );
    let approved = server.json(&[
        "trust", "approve", &id, "--as", "laptop", "--for", "default",
    ]);
    assert_eq!(approved["label"], "laptop");
    assert_eq!(
        stranger
            .talk(&["connect", "server"], b"in")
            .expect_success()
            .out(),
        "in"
    );
    assert_eq!(server.json(&["trust", "pending"]), serde_json::json!([]));
    let entry = &server.json(&["trust", "show", "laptop"])[0];
    assert_eq!(entry["origin"], "approved");
}

#[test]
fn approval_without_a_service_says_what_is_missing() {
    let (server, stranger, _serving) = knocked(&backend::echo().to_string());
    let finished = server.run(&["trust", "approve", &stranger.id(), "--as", "laptop"]);
    assert_says(
        &finished.expect_success().err(),
        &["it may use no service yet", "--for"],
    );
    assert_says(&stranger.no(&["connect", "server"]), &["(not-authorised)"]);
}

#[test]
fn a_denied_peer_stays_out_and_is_not_asked_about_again() {
    let recorder = Recorder::new();
    let (server, stranger, _serving) = knocked(&recorder.address.to_string());
    server.yes(&["trust", "deny", &stranger.id()]);
    assert_eq!(server.json(&["trust", "pending"]), serde_json::json!([]));
    assert_says(
        &server.no(&["trust", "deny", &stranger.id()]),
        &["does not wait"],
    );
    assert_says(&stranger.no(&["connect", "server"]), &["(unknown)"]);
    assert_eq!(server.json(&["trust", "pending"]), serde_json::json!([]));
    recorder.assert_untouched();
}

#[test]
fn approval_takes_the_full_id_of_somebody_who_waits() {
    let (server, stranger, _serving) = knocked(&backend::echo().to_string());
    let id = stranger.id();
    assert_says(
        &server.unable(&["trust", "approve", &id[..7]]),
        &["is no full id", "comity trust pending"],
    );
    let somebody = Home::new().id();
    assert_says(
        &server.no(&["trust", "approve", &somebody]),
        &["does not wait", "comity trust pending"],
    );
    server.yes(&["trust", "add", "laptop", &somebody]);
    let said = server.no(&["trust", "approve", &id, "--as", "laptop"]);
    assert_says(&said, &["`laptop` is another peer here"]);
    server.yes(&["trust", "approve", &id, "--as", "tablet"]);
}

#[test]
fn in_mode_tofu_strangers_are_remembered_and_may_do_nothing() {
    let recorder = Recorder::new();
    let (server, stranger) = (Home::new(), Home::new());
    let target = recorder.address.to_string();
    let serving = server.serve(&[&target, "--accept", "tofu"]);
    let address = serving.address.to_string();
    stranger.yes(&["trust", "add", "server", &server.id(), "--addr", &address]);
    assert_says(&stranger.no(&["connect", "server"]), &["(not-authorised)"]);
    let entry = &server.json(&["trust", "find", &stranger.id()])[0];
    assert_eq!(entry["origin"], "first-use");
    assert_eq!(entry["side"], "accept");
    assert_eq!(entry["services"], serde_json::json!([]));
    recorder.assert_untouched();
}

#[test]
fn in_mode_insecure_only_a_peer_named_by_its_id_may_use_a_service() {
    let (server, named, stranger) = (Home::new(), Home::new(), Home::new());
    let target = backend::greeter("in").to_string();
    let allow = format!("default={}", named.id());
    let args = [
        &target,
        "--accept",
        "insecure",
        "--i-mean-it",
        "--allow",
        &allow,
    ];
    let serving = server.serve(&args);
    let address = serving.address.to_string();
    for home in [&named, &stranger] {
        home.yes(&["trust", "add", "server", &server.id(), "--addr", &address]);
    }
    assert_says(&stranger.no(&["connect", "server"]), &["(not-authorised)"]);
    assert_eq!(named.yes(&["connect", "server"]), "in");
    serving.running.wait_for("accepted with a warning");
    assert_eq!(
        server.json(&["trust", "list"]),
        serde_json::json!([]),
        "nothing is remembered"
    );
}

#[test]
fn in_mode_invite_strangers_do_not_even_wait() {
    let (server, stranger) = (Home::new(), Home::new());
    let serving = server.serve(&[&backend::echo().to_string(), "--accept", "invite"]);
    let address = serving.address.to_string();
    stranger.yes(&["trust", "add", "server", &server.id(), "--addr", &address]);
    assert_says(
        &stranger.no(&["connect", "server"]),
        &["we are not known there (unknown)", "invitation"],
    );
    assert_eq!(server.json(&["trust", "pending"]), serde_json::json!([]));
}
