//! `comity invite` and `comity join`.

use crate::backend::{self, Recorder};
use crate::home::{Home, Pair, assert_says, expect_exit, invite};
use crate::terminal::at_terminal;

#[test]
fn an_invitation_works_once_and_again_only_for_the_same_node() {
    let echo = backend::echo().to_string();
    let server = Home::new();
    let serving = server.serve(&[&echo]);
    let invitation = invite(&server, &serving, "laptop", &["default"]);
    let (first, second) = (Home::new(), Home::new());
    let joined = first.json(&["join", &invitation, "--as", "server"]);
    assert_eq!(joined["label"], "server");
    assert_eq!(joined["id"], server.id());
    let said = second.no(&["join", &invitation]);
    assert_says(
        &said,
        &[
            "used, expired, withdrawn or wrong (invite-invalid)",
            "ask for a new one",
        ],
    );
    assert_eq!(
        second.known_peers(),
        "",
        "nothing is remembered of a refusal"
    );
    // A join whose answer was lost may be repeated.
    assert_eq!(first.yes(&["join", &invitation]), "server");
    let finished = first.talk(&["connect", "server"], b"in").expect_success();
    assert_eq!(finished.out(), "in");
    let list = server.yes(&["invite", "--list"]);
    assert_says(&list, &["used by", "as laptop"]);
}

#[test]
fn an_invitation_that_was_withdrawn_opens_nothing() {
    let recorder = Recorder::new();
    let server = Home::new();
    let serving = server.serve(&[&recorder.address.to_string()]);
    let address = serving.address.to_string();
    let made = server.json(&[
        "invite", "--addr", &address, "--for", "default", "--role", "reader",
    ]);
    let (text, id) = (made["invitation"].as_str(), made["id"].as_str());
    let (text, id) = (text.expect("a text"), id.expect("a text"));
    assert_eq!(made["addresses"][0], address);
    assert_eq!(made["services"][0], "default");
    assert_eq!(made["roles"][0], "reader");
    assert_says(&server.yes(&["invite", "--list"]), &[id, "open until"]);
    server.yes(&["invite", "--withdraw", id]);
    assert_says(
        &server.no(&["invite", "--withdraw", id]),
        &["no such invitation"],
    );
    assert_says(
        &server.unable(&["invite", "--withdraw", "xyz"]),
        &["comity invite --list"],
    );
    let joiner = Home::new();
    assert_says(&joiner.no(&["join", text]), &["(invite-invalid)"]);
    let said = expect_exit(joiner.talk(&["connect", text], b"let me in"), 1, &[]).err();
    assert_says(&said, &["(invite-invalid)"]);
    recorder.assert_untouched();
}

#[test]
fn an_expired_invitation_is_refused_without_dialling() {
    let server = Home::new();
    // Nobody listens there: an answer that came from the network would be another one.
    let address = backend::nobody().to_string();
    let text = server.yes(&["invite", "--addr", &address, "--expires", "1s"]);
    let joiner = Home::new();
    let said = loop {
        let finished = joiner.run(&["join", &text]);
        match finished.status.code() {
            // Still good, and nobody there.
            Some(2) => assert_says(&finished.err(), &["cannot reach"]),
            _ => break expect_exit(finished, 1, &["join"]).err(),
        }
    };
    assert_says(&said, &["the invitation expired at", "ask for a new one"]);
    assert_says(&server.yes(&["invite", "--list"]), &["expired"]);
}

#[test]
fn connect_takes_an_invitation_and_joins_first() {
    let echo = backend::echo().to_string();
    let server = Home::new();
    let serving = server.serve(&[&format!("echo={echo}")]);
    let invitation = invite(&server, &serving, "laptop", &["echo"]);
    let client = Home::new();
    let peer = format!("{invitation}/echo");
    let finished = client
        .talk(&["connect", &peer, "--as", "home"], b"at once")
        .expect_success();
    assert_eq!(finished.out(), "at once");
    let finished = client
        .talk(&["connect", "home/echo"], b"and later")
        .expect_success();
    assert_eq!(finished.out(), "and later");
}

#[test]
fn an_invitation_is_read_from_standard_input_and_survives_line_breaks() {
    let echo = backend::echo().to_string();
    let server = Home::new();
    let serving = server.serve(&[&echo]);
    let invitation = invite(&server, &serving, "laptop", &["default"]);
    let (head, tail) = invitation.split_at(60);
    let mailed = format!("\n  {head}\n  {tail}\n");
    let joiner = Home::new();
    joiner
        .talk(&["join", "-", "--as", "server"], mailed.as_bytes())
        .expect_success();
    joiner
        .talk(&["join", "--as", "server"], mailed.as_bytes())
        .expect_success();
    assert_eq!(
        joiner
            .talk(&["connect", "server"], b"x")
            .expect_success()
            .out(),
        "x"
    );
}

#[test]
fn a_mistyped_invitation_never_reaches_the_network() {
    let server = Home::new();
    let address = backend::nobody().to_string();
    let text = server.yes(&["invite", "--addr", &address]);
    let joiner = Home::new();
    let middle = text.len() / 2;
    let other = if text.as_bytes()[middle] == b'A' {
        "B"
    } else {
        "A"
    };
    let wrong = format!("{}{other}{}", &text[..middle], &text[middle + 1..]);
    for wrong in [&wrong, &text[..text.len() - 1], "COMITY-INVITE-", "hello"] {
        let said = joiner.unable(&["join", wrong]);
        assert_says(&said, &["this is no usable invitation"]);
    }
}

#[test]
fn a_label_that_is_taken_costs_no_invitation() {
    let echo = backend::echo().to_string();
    let pair = Pair::new(&[&echo], &["default"]);
    let other = Home::new();
    let serving = other.serve(&[&echo]);
    let invitation = invite(&other, &serving, "laptop", &["default"]);
    let said = pair.client.unable(&["join", &invitation, "--as", "server"]);
    assert_says(&said, &["`server` is another peer here", "--as"]);
    pair.client.yes(&["join", &invitation, "--as", "other"]);
}

#[test]
fn no_invitation_is_made_for_a_label_that_is_taken() {
    let server = Home::new();
    server.yes(&["trust", "add", "laptop", &Home::new().id()]);
    let said = server.no(&["invite", "--addr", "host.example:7117", "--as", "laptop"]);
    assert_says(&said, &["`laptop` is another peer here", "--as"]);
    assert_eq!(server.json(&["invite", "--list"]), serde_json::json!([]));
}

#[test]
fn a_role_given_with_the_invitation_is_attested_from_then_on() {
    let server = Home::new();
    let serving = server.serve(&[&backend::echo().to_string()]);
    let address = serving.address.to_string();
    let args = [
        "invite", "--addr", &address, "--role", "reader", "--role", "writer", "--as", "laptop",
    ];
    let joiner = Home::new();
    joiner.yes(&["join", &server.yes(&args)]);
    let entry = &server.json(&["trust", "show", "laptop"])[0];
    assert_eq!(entry["roles"], serde_json::json!(["reader", "writer"]));
    assert_eq!(entry["origin"], "invite");
    assert_eq!(entry["what"], joiner.id());
}

#[test]
fn nonsense_is_never_offered() {
    let server = Home::new();
    for (args, said) in [
        (&["invite", "--for", "a/b"][..], "a/b"),
        (&["invite", "--as", "a.b"], "--as a.b"),
        (
            &["invite", "--addr", "host"],
            "--addr host: expected HOST:PORT",
        ),
        (&["invite", "--expires", "2w"], "write 30m, 24h or 7d"),
    ] {
        assert_says(&server.unable(args), &[said]);
    }
    assert_eq!(server.json(&["invite", "--list"]), serde_json::json!([]));
}

#[test]
fn at_a_terminal_join_asks_for_the_invitation() {
    let server = Home::new();
    let serving = server.serve(&[&backend::echo().to_string()]);
    let invitation = invite(&server, &serving, "laptop", &["default"]);
    let joiner = Home::new();
    let Some(joining) = at_terminal(&joiner, "comity join --as server") else {
        return;
    };
    joining.wait_for("paste the invitation, then press Enter");
    let (head, tail) = invitation.split_at(60);
    joining.write(format!("\n{head}\n  {tail}\n").as_bytes());
    joining.wait_for("joined; reach its services");
    joining.finish().expect_success();
    // A slip is said, and nobody is left waiting for more.
    let Some(joining) = at_terminal(&joiner, "comity join") else {
        return;
    };
    joining.wait_for("paste the invitation");
    let (rest, last) = invitation.split_at(invitation.len() - 1);
    let other = if last == "A" { "B" } else { "A" };
    joining.write(format!("{rest}{other}\n").as_bytes());
    joining.wait_for("something in the invitation is mistyped");
    assert_eq!(joining.finish().status.code(), Some(2));
}

#[test]
fn no_message_quotes_an_invitation_that_could_be_used() {
    let server = Home::new();
    let address = backend::nobody().to_string();
    let text = server.yes(&["invite", "--addr", &address]);
    let home = Home::new();
    let body = text.trim_start_matches("COMITY-INVITE-");
    let lower = text.to_lowercase();
    for args in [
        &[text.as_str()][..],
        &["trust", &text],
        &["trust", "find", &text],
        &["trust", "find", &lower],
        &["trust", "add", &text, &server.id()],
        &["trust", "add", "db1", &text],
        &["trust", "remove", &text],
        &["trust", "scan", &text],
        &["trust", "explain", &text],
        &["trust", "approve", &text],
        &["id", &text],
        &["verify", "--live", &text],
        &["serve", "80", "--allow", &text],
        &["connect", &text, "--as", &text],
        &["connect", &text, "--addr", &text],
        &["connect", &text],
        &["connect", "db1", "--trust", &text],
        &["join", &text, "--as", &text],
        &["join", &text, "--addr", &text],
        &["join", &text, "again", &text],
    ] {
        for json in [&[][..], &["--json"]] {
            let finished = home.run(&[args, json].concat());
            assert_ne!(finished.status.code(), Some(0), "{args:?}");
            let said = finished.out() + &finished.err();
            assert!(!said.to_uppercase().contains(&body[..40]), "{said}");
        }
    }
    assert_says(
        &home.unable(&["trust", "find", &text]),
        &["this command takes no invitation", "comity join"],
    );
    assert!(!home.known_peers().contains(&body[..40]));
}
