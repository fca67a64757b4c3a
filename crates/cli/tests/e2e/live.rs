//! `comity verify --live`: four words on both screens.

use std::net::{SocketAddr, TcpStream};

use comity_testkit::foreign::{Finished, Running};
use serde_json::Value;

use crate::backend;
use crate::home::{Home, Pair, assert_says};
use crate::terminal::at_terminal;

/// Waits for a call from `peer`, and says where.
pub(crate) fn wait_for_call(home: &Home, peer: &str) -> (Running, SocketAddr) {
    let waiting = home.start(&["verify", "--live", peer, "--listen", "127.0.0.1:0"]);
    let line = waiting.wait_for_line(&format!("waiting for {peer} on "));
    let address = line.rsplit(' ').next().and_then(|word| word.parse().ok());
    (waiting, address.expect("an address"))
}

/// Calls `peer` at this address.
pub(crate) fn call(home: &Home, peer: &str, address: SocketAddr) -> Running {
    home.start(&["verify", "--live", peer, "--addr", &address.to_string()])
}

/// Waits until both have their words on the screen and lets both answer. Gives the words, and how
/// it ended, of each.
pub(crate) fn answer(sides: [(Running, &str); 2]) -> [(String, Finished); 2] {
    for (side, answer) in &sides {
        side.wait_for("Does the other screen show the same four words? (yes / no)");
        side.write(format!("{answer}\n").as_bytes());
    }
    sides.map(|(side, _)| {
        let finished = side.finish();
        (finished.out().trim().to_owned(), finished)
    })
}

/// How `home` confirmed its entry for `peer`.
pub(crate) fn confirmed(home: &Home, peer: &str) -> Option<String> {
    let entry = &home.json(&["trust", "show", peer])[0];
    entry["confirmed"].as_str().map(str::to_owned)
}

fn pair() -> Pair {
    Pair::new(&[&backend::echo().to_string()], &["default"])
}

#[test]
fn two_people_who_see_the_same_words_confirm_each_other() {
    let pair = pair();
    let how = confirmed(&pair.server, "client").expect("confirmed by invitation");
    assert!(how.ends_with("/invite"), "{how}");
    let (waiting, address) = wait_for_call(&pair.server, "client");
    let calling = call(&pair.client, "server", address);
    let [(theirs, waited), (ours, called)] = answer([(waiting, "yes"), (calling, "yes")]);
    assert_eq!(ours, theirs);
    for finished in [waited, called] {
        assert_says(
            &finished.err(),
            &["the words agree; the entry is marked as confirmed"],
        );
        finished.expect_success();
    }
    assert_eq!(ours.split(' ').count(), 4, "{ours}");
    for (home, peer) in [(&pair.server, "client"), (&pair.client, "server")] {
        let confirmed = confirmed(home, peer).expect("confirmed");
        assert!(confirmed.ends_with("/live"), "{confirmed}");
    }
}

#[test]
fn at_a_terminal_the_words_are_shown_and_the_answer_is_typed_there() {
    let pair = pair();
    let (waiting, address) = wait_for_call(&pair.server, "client");
    let line = format!("comity verify --live server --addr {address} </dev/null");
    let Some(calling) = at_terminal(&pair.client, &line) else {
        return;
    };
    let [(theirs, waited), (shown, called)] = answer([(waiting, "yes"), (calling, "yes")]);
    waited.expect_success();
    called.expect_success();
    assert_says(&shown, &[&theirs]);
}

#[test]
fn one_no_is_a_no_on_both_sides() {
    for (theirs, ours) in [("yes", "no"), ("no", "yes"), ("", "yes")] {
        let pair = pair();
        let (waiting, address) = wait_for_call(&pair.server, "client");
        let calling = call(&pair.client, "server", address);
        for (_, finished) in answer([(waiting, theirs), (calling, ours)]) {
            assert_eq!(finished.status.code(), Some(1), "{}", finished.err());
            assert_says(
                &finished.err(),
                &["the words were not confirmed on both sides", "trust verify"],
            );
        }
        for (home, peer) in [(&pair.server, "client"), (&pair.client, "server")] {
            let how = confirmed(home, peer).expect("confirmed by invitation");
            assert!(how.ends_with("/invite"), "{how}");
        }
    }
}

#[test]
fn a_caller_with_another_key_is_sent_away_and_the_right_one_still_awaited() {
    let pair = pair();
    let (waiting, address) = wait_for_call(&pair.server, "client");
    let stranger = Home::new();
    stranger.yes(&["trust", "add", "server", &pair.server.id()]);
    let finished = call(&stranger, "server", address).finish();
    assert_eq!(finished.status.code(), Some(1), "{}", finished.err());
    waiting.wait_for("another caller was sent away");
    let calling = call(&pair.client, "server", address);
    for (_, finished) in answer([(waiting, "yes"), (calling, "yes")]) {
        finished.expect_success();
    }
}

#[test]
fn a_caller_who_says_nothing_does_not_keep_the_awaited_one_out() {
    let pair = pair();
    let (waiting, address) = wait_for_call(&pair.server, "client");
    let silent = TcpStream::connect(address).expect("connected");
    let calling = call(&pair.client, "server", address);
    for (_, finished) in answer([(waiting, "yes"), (calling, "yes")]) {
        finished.expect_success();
    }
    drop(silent);
}

#[test]
fn a_second_call_of_the_same_peer_is_turned_away() {
    let pair = pair();
    let (waiting, address) = wait_for_call(&pair.server, "client");
    let calling = call(&pair.client, "server", address);
    waiting.wait_for("Does the other screen show");
    let second = call(&pair.client, "server", address).finish();
    assert_eq!(second.status.code(), Some(2), "{}", second.err());
    for (_, finished) in answer([(waiting, "yes"), (calling, "yes")]) {
        finished.expect_success();
    }
}

#[test]
fn a_peer_that_is_revoked_during_the_comparison_is_not_confirmed() {
    let pair = pair();
    let (waiting, address) = wait_for_call(&pair.server, "client");
    let calling = call(&pair.client, "server", address);
    for side in [&waiting, &calling] {
        side.wait_for("Does the other screen show");
    }
    pair.server.yes(&["trust", "revoke", "client"]);
    let [(_, waited), (_, called)] = answer([(waiting, "yes"), (calling, "yes")]);
    assert_eq!(waited.status.code(), Some(1), "{}", waited.err());
    assert_says(&waited.err(), &["the peer's key is revoked"]);
    assert_ne!(called.status.code(), Some(0), "{}", called.out());
    let how = confirmed(&pair.server, "client").expect("confirmed by invitation");
    assert!(how.ends_with("/invite"), "{how}");
}

#[test]
fn a_server_that_does_not_wait_for_a_call_says_how_to() {
    let pair = pair();
    let said = pair.client.no(&["verify", "--live", "server"]);
    assert_says(
        &said,
        &[
            "server does not wait for our call (not-authorised)",
            "comity verify --live OUR-LABEL --listen",
            "--addr",
        ],
    );
}

#[test]
fn the_words_are_shown_to_the_quiet_and_programs_get_one_document() {
    for (said, code) in [("yes", 0), ("no", 1)] {
        let pair = pair();
        let (waiting, address) = wait_for_call(&pair.server, "client");
        let address = address.to_string();
        let calling = pair.client.start(&[
            "verify", "--live", "server", "--addr", &address, "--json", "--quiet",
        ]);
        let [(words, _), (answered, finished)] = answer([(waiting, "yes"), (calling, said)]);
        assert_eq!(finished.status.code(), Some(code), "{}", finished.err());
        assert_says(&finished.err(), &[&words]);
        let value: Value = serde_json::from_str(&answered).expect("one document");
        assert_eq!(value["same"], said == "yes");
        assert_eq!(value["words"], words);
    }
}
