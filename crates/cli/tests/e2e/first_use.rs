//! The first contact, on a terminal and without, and what happens when the key changes later.

use std::fs;

use comity_testkit::foreign::{Listening, run};

use crate::backend::{self, Recorder};
use crate::home::{Home, assert_says, expect_exit, quoted_command};
use crate::network::Network;
use crate::terminal::at_terminal;

/// A server that knows the client, so that only the client's first use is at stake.
struct Stage {
    server: Home,
    client: Home,
    serving: Listening,
}

impl Stage {
    fn new() -> Self {
        let (server, client) = (Home::new(), Home::new());
        server.yes(&["trust", "add", "client", &client.id(), "--for", "default"]);
        let serving = server.serve(&[&backend::echo().to_string()]);
        Self {
            server,
            client,
            serving,
        }
    }

    fn address(&self) -> String {
        self.serving.address.to_string()
    }

    /// What the client says when it meets the server first, at a terminal, and is answered so.
    fn asked(&self, answer: &str) -> Option<(i32, String)> {
        // Standard input carries data: the question goes to the terminal itself.
        let line = format!(
            "echo through | comity connect {} --as server",
            self.address()
        );
        let running = at_terminal(&self.client, &line)?;
        running.wait_for("Trust it from now on? (yes / no / paste the id or words)");
        let shown = running.said();
        assert_says(
            &shown,
            &[
                "is not known here",
                &self.server.id(),
                &self.server.yes(&["id", "--words"]),
            ],
        );
        running.write(format!("{answer}\n").as_bytes());
        let finished = running.finish();
        Some((finished.status.code().unwrap_or(-1), finished.out()))
    }

    fn entry(&self) -> serde_json::Value {
        let finished = self.client.run(&["trust", "find", "server", "--json"]);
        let value: serde_json::Value = serde_json::from_slice(&finished.stdout).expect("JSON");
        value[0].clone()
    }
}

#[test]
fn a_yes_at_the_terminal_is_remembered_as_first_use() {
    let stage = Stage::new();
    let Some((code, said)) = stage.asked("yes") else {
        return;
    };
    assert_eq!(code, 0, "{said}");
    let told = format!("first use: remembered {} as server", stage.server.id());
    assert_says(&said, &["through", &told]);
    let entry = stage.entry();
    assert_eq!(entry["what"], stage.server.id());
    assert_eq!(entry["origin"], "first-use");
    assert!(entry["confirmed"].is_null(), "nobody compared anything");
    assert_eq!(entry["addresses"], serde_json::json!([stage.address()]));
    // It is known now: no question, no terminal.
    let again = stage
        .client
        .talk(&["connect", "server"], b"again")
        .expect_success();
    assert_eq!(again.out(), "again");
}

#[test]
fn a_no_at_the_terminal_is_a_refusal_and_remembers_nothing() {
    let stage = Stage::new();
    let Some((code, said)) = stage.asked("no") else {
        return;
    };
    assert_eq!(code, 1, "{said}");
    assert_says(&said, &["its key is not known here", "no data was sent"]);
    assert!(stage.entry().is_null());
    assert_eq!(
        stage.server.json(&["trust", "pending"]),
        serde_json::json!([])
    );
}

#[test]
fn the_pasted_id_or_words_are_compared_and_the_entry_is_confirmed() {
    for (form, how) in [("id", "/id"), ("words", "/words"), ("hex", "/id")] {
        let stage = Stage::new();
        let text = stage.server.json(&["id"])[form]
            .as_str()
            .expect("a text")
            .to_owned();
        let Some((code, said)) = stage.asked(&text) else {
            return;
        };
        assert_eq!(code, 0, "{said}");
        let confirmed = stage.entry()["confirmed"]
            .as_str()
            .expect("confirmed")
            .to_owned();
        assert!(confirmed.ends_with(how), "{confirmed}");
    }
}

#[test]
fn a_pasted_id_of_another_key_ends_it_with_an_alarm() {
    let stage = Stage::new();
    let other = stage.client.id();
    let Some((code, said)) = stage.asked(&other) else {
        return;
    };
    assert_eq!(code, 1, "{said}");
    assert_says(
        &said,
        &[
            "the pasted id is not the one that answered",
            "somebody may sit in between",
        ],
    );
    assert_says(&said, &["answered   ", "pasted     ", "no data was sent"]);
    assert!(stage.entry().is_null());
}

#[test]
fn an_unclear_answer_is_asked_again() {
    let stage = Stage::new();
    let line = format!(
        "echo through | comity connect {} --as server",
        stage.address()
    );
    let Some(running) = at_terminal(&stage.client, &line) else {
        return;
    };
    running.wait_for("Trust it from now on?");
    running.write(b"yep\n");
    // An answer counts from the question on, also the second time.
    running.wait_for("Please type yes or no, or paste the id.\r\nTrust it from now on?");
    running.write(b"yes\n");
    running.wait_for("through");
    running.finish().expect_success();
}

#[test]
fn what_was_typed_before_the_question_is_not_its_answer() {
    let stage = Stage::new();
    let line = format!(
        "read -r first; comity connect {} --as server </dev/null",
        stage.address()
    );
    let Some(running) = at_terminal(&stage.client, &line) else {
        return;
    };
    // Both lines reach the terminal at once, and the shell takes one of them.
    running.write(b"first\nyes\n");
    running.wait_for("Trust it from now on?");
    running.write(b"no\n");
    let finished = running.finish();
    assert_eq!(finished.status.code(), Some(1), "{}", finished.out());
    assert!(stage.entry().is_null());
}

#[test]
fn without_a_terminal_the_first_use_is_refused_with_both_ways_on() {
    let stage = Stage::new();
    let address = stage.address();
    let finished = stage.client.talk(&["connect", &address], b"data");
    let said = expect_exit(finished, 1, &["connect"]).err();
    assert_says(
        &said,
        &[
            "its key is not known here",
            &stage.server.id(),
            "no data was sent",
            "--trust tofu",
        ],
    );
    assert!(
        stage
            .client
            .known_peers()
            .lines()
            .all(|line| !line.contains(&stage.server.id()))
    );
    // The first remedy works when pasted.
    let remedy = quoted_command(&said, "compare the id with its operator");
    stage.client.paste(remedy).expect_success();
    let finished = stage
        .client
        .talk(&["connect", &address], b"data")
        .expect_success();
    assert_eq!(finished.out(), "data");
}

#[test]
fn ca_or_tofu_asks_whoever_chose_it_and_refuses_where_nobody_can_be_asked() {
    let stage = Stage::new();
    let address = stage.address();
    let dial = ["connect", &address];
    let mut chosen = stage.client.command(&dial);
    chosen.env("COMITY_TRUST", "ca-or-tofu");
    let config = stage.client.path().join("config.toml");
    fs::write(&config, "[dial]\ntrust = \"ca-or-tofu\"\n").expect("written");
    let by_file = run(&mut stage.client.command(&dial), b"data");
    fs::remove_file(&config).expect("there");
    let by_flag = [&dial[..], &["--trust", "ca-or-tofu"]].concat();
    for refused in [
        by_file,
        run(&mut chosen, b"data"),
        stage.client.talk(&by_flag, b"data"),
    ] {
        let said = expect_exit(refused, 1, &dial).err();
        assert_says(&said, &["its key is not known here", "no data was sent"]);
    }
    assert_eq!(stage.client.known_peers(), "");
}

#[test]
fn tofu_accepts_the_first_key_without_a_question_says_so_and_pins_it() {
    let stage = Stage::new();
    let address = stage.address();
    let tofu = ["connect", &address, "--trust", "tofu"];
    let quiet = [&tofu[..], &["--quiet"]].concat();
    let finished = stage.client.talk(&quiet, b"data").expect_success();
    let said = format!("first use: remembered {} as {address}\n", stage.server.id());
    assert_eq!((finished.out().as_str(), finished.err()), ("data", said));
    let again = stage.client.talk(&tofu, b"data").expect_success();
    assert_eq!(again.err(), "", "it is said once");
    let entry = &stage.client.json(&["trust", "find", &address])[0];
    assert_eq!(entry["what"], stage.server.id());
    assert_eq!(entry["side"], "dial");
    // From now on a plain connect takes it, and only it.
    assert_eq!(
        stage
            .client
            .talk(&["connect", &address], b"x")
            .expect_success()
            .out(),
        "x"
    );
}

#[test]
fn a_changed_key_gets_the_whole_message_and_its_remedy_works_when_pasted() {
    let stage = Stage::new();
    let network = Network::leading_to(stage.serving.address);
    let address = network.address.to_string();
    let args = ["connect", &address, "--as", "db1", "--trust", "tofu"];
    stage.client.talk(&args, b"").expect_success();
    stage
        .client
        .yes(&["trust", "verify", "db1", &stage.server.id()]);
    let known = stage.client.json(&["trust", "show", "db1"])[0].clone();
    let text = |name: &str| known[name].as_str().expect("a text").to_owned();

    let recorder = Recorder::new();
    let replacement = Home::new();
    replacement.yes(&[
        "trust",
        "add",
        "client",
        &stage.client.id(),
        "--for",
        "default",
    ]);
    let serving = replacement.serve(&[&recorder.address.to_string()]);
    network.lead_to(serving.address);
    // Silent acceptance is for first use alone.
    for trust in [
        &[][..],
        &["--trust", "tofu"],
        &["--trust", "pin"],
        &["--trust", "ca-or-tofu"],
    ] {
        let finished = stage
            .client
            .talk(&[&["connect", "db1"], trust].concat(), b"secret");
        let said = expect_exit(finished, 1, trust).err();
        let (id, words) = (replacement.id(), replacement.yes(&["id", "--words"]));
        let (at, how) = text("confirmed")
            .split_once('/')
            .map(|(a, h)| (a.to_owned(), h.to_owned()))
            .expect("both");
        let line = format!(
            "known      {}  first seen {}, confirmed {at} ({how}) (known_peers:{})",
            text("what"),
            text("added"),
            known["line"]
        );
        assert_says(
            &said,
            &[
                &format!("refused db1 ({address}): its key is not the one we know"),
                &line,
                &text("words"),
                &format!("presented  {id}"),
                &words,
                "no data was sent",
                &format!(
                    "if its operator confirms the change, run `comity trust replace db1 {id}`"
                ),
            ],
        );
    }
    recorder.assert_untouched();
    let said = stage.client.no(&["connect", "db1"]);
    stage
        .client
        .paste(quoted_command(&said, "if its operator confirms"))
        .expect_success();
    stage.client.talk(&["connect", "db1"], b"hello").err();
    assert_eq!(recorder.next(), b"hello");
}

#[test]
fn of_two_processes_that_meet_different_keys_at_first_use_exactly_one_wins() {
    // T61. Whoever is second is refused, whichever that is, and its service gets no byte.
    let client = Home::new();
    let recorders = [Recorder::new(), Recorder::new()];
    let servers = recorders.each_ref().map(|recorder| {
        let server = Home::new();
        server.yes(&["trust", "add", "client", &client.id(), "--for", "default"]);
        let serving = server.serve(&[&recorder.address.to_string()]);
        (server, serving)
    });
    for round in 0..5 {
        let label = format!("peer{round}");
        let dialling = servers.each_ref().map(|(_, serving)| {
            let address = serving.address.to_string();
            client.start(&["connect", &address, "--as", &label, "--trust", "tofu"])
        });
        for side in &dialling {
            side.write(b"mine");
        }
        let ended = dialling.map(|side| side.finish());
        let codes = ended.each_ref().map(|finished| finished.status.code());
        let winner = codes
            .iter()
            .position(|code| *code == Some(0))
            .expect("one wins");
        assert_eq!(codes[1 - winner], Some(1), "{}", ended[1 - winner].err());
        assert_says(
            &ended[1 - winner].err(),
            &["its key is not the one we know", "no data was sent"],
        );
        assert_eq!(recorders[winner].next(), b"mine");
        recorders[1 - winner].assert_untouched();
        let known = client.json(&["trust", "find", &label]);
        assert_eq!(known.as_array().map(Vec::len), Some(1));
        assert_eq!(known[0]["what"], servers[winner].0.id());
    }
}

#[test]
fn a_key_that_was_never_confirmed_is_said_to_be_so() {
    let stage = Stage::new();
    let network = Network::leading_to(stage.serving.address);
    let address = network.address.to_string();
    stage
        .client
        .talk(&["connect", &address, "--trust", "tofu"], b"")
        .expect_success();
    let other = Home::new();
    let serving = other.serve(&[&backend::echo().to_string()]);
    network.lead_to(serving.address);
    let said = stage.client.no(&["connect", &address]);
    assert_says(
        &said,
        &[
            "never confirmed (known_peers:2)",
            &format!("comity trust replace {address} {}", other.id()),
        ],
    );
}

#[test]
fn modes_that_accept_anybody_need_to_be_meant_and_warn_each_time() {
    let stage = Stage::new();
    let address = stage.address();
    for mode in ["insecure", "record"] {
        let args = ["connect", &address, "--trust", mode];
        assert_says(&stage.client.unable(&args), &["--i-mean-it"]);
        let meant = ["connect", &address, "--trust", mode, "--i-mean-it"];
        for _ in 0..2 {
            let finished = stage.client.talk(&meant, b"data").expect_success();
            assert_eq!(finished.out(), "data");
            if mode == "insecure" {
                assert_says(&finished.err(), &["warning", "without any check"]);
            }
        }
    }
}

#[test]
fn a_peer_that_is_named_by_its_full_id_is_pinned_under_the_label_it_is_given() {
    let stage = Stage::new();
    let (id, address) = (stage.server.id(), stage.address());
    let named = ["connect", &id, "--addr", &address, "--as", "db1"];
    let finished = stage.client.talk(&named, b"data").expect_success();
    assert_eq!(finished.out(), "data");
    let entry = &stage.client.json(&["trust", "show", "db1"])[0];
    assert_eq!(entry["what"], id);
    assert_eq!(entry["origin"], "hand");
    assert_eq!(entry["addresses"], serde_json::json!([address]));
    let confirmed = entry["confirmed"].as_str().expect("the id was named");
    assert!(confirmed.ends_with("/id"), "{confirmed}");
    for args in [&named[..], &["connect", "db1"]] {
        let again = stage.client.talk(args, b"again").expect_success();
        assert_eq!(again.out(), "again");
    }
    assert_eq!(
        stage
            .client
            .json(&["trust", "list"])
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    // A label renames nobody, and is taken from nobody.
    let other = Home::new().id();
    for (args, said) in [
        (
            &["connect", "db1", "--as", "db2"][..],
            "`db1` is a label already",
        ),
        (
            &["connect", &id, "--addr", &address, "--as", "db2"],
            "this id is known as `db1` already",
        ),
        (
            &["connect", &other, "--addr", &address, "--as", "db1"],
            "`db1` is another peer here",
        ),
    ] {
        assert_says(&stage.client.unable(args), &[said]);
    }
}

#[test]
fn another_key_than_the_one_that_was_named_is_not_asked_about() {
    let stage = Stage::new();
    let other = Home::new().id();
    let line = format!(
        "echo through | comity connect {other} --addr {} --as server",
        stage.address()
    );
    let Some(running) = at_terminal(&stage.client, &line) else {
        return;
    };
    let finished = running.finish();
    assert_eq!(finished.status.code(), Some(1), "{}", finished.out());
    assert_says(
        &finished.out(),
        &["its key is not the one that was asked for"],
    );
    assert!(stage.entry().is_null());
}
