//! `comity identity roll|export|revoke` and `comity trust import|follow`: keys that follow one another.

use std::fs;
use std::net::SocketAddr;

use comity_testkit::foreign::{Listening, Running};
use serde_json::json;

use crate::backend;
use crate::home::{Home, Pair, assert_says, expect_exit, invite, quoted_command};
use crate::terminal::at_terminal;

/// A server that a client knows by an invitation, and the client by the server.
struct Stage {
    server: Home,
    client: Home,
    serving: Option<Listening>,
    echo: String,
}

impl Stage {
    fn new() -> Self {
        let echo = backend::echo().to_string();
        let Pair {
            server,
            client,
            serving,
        } = Pair::new(&[&echo], &["default"]);
        Self {
            server,
            client,
            serving: Some(serving),
            echo,
        }
    }

    /// The server's key changes while it does not serve; then it serves again.
    fn roll_server(&mut self) {
        self.serving = None;
        self.server.yes(&["identity", "roll"]);
        self.serve();
    }

    fn serve(&mut self) {
        self.serving = None;
        self.serving = Some(self.server.serve(&[&self.echo]));
    }

    fn address(&self) -> String {
        self.serving
            .as_ref()
            .expect("it serves")
            .address
            .to_string()
    }

    fn connect(&self, input: &[u8]) -> comity_testkit::foreign::Finished {
        self.connect_to(&self.address(), input)
    }

    fn connect_to(&self, address: &str, input: &[u8]) -> comity_testkit::foreign::Finished {
        let args = ["connect", "server", "--addr", address];
        self.client.talk(&args, input)
    }

    fn assert_connects(&self) {
        let finished = self.connect(b"still there").expect_success();
        assert_eq!(finished.out(), "still there");
    }

    fn refused(&self) -> String {
        expect_exit(self.connect(b"secret"), 1, &["connect"]).err()
    }
}

/// A copy of a home, as a thief or a restored backup has it.
fn copy(home: &Home) -> Home {
    let copy = Home::empty();
    let status = std::process::Command::new("cp")
        .arg("-a")
        .args([home.path(), copy.path()])
        .status();
    assert!(status.expect("cp").success());
    copy
}

/// The keys of the entries of a label, in the order of the file.
fn keys(home: &Home, label: &str) -> Vec<String> {
    let entries = home.json(&["trust", "show", label]);
    let entries = entries.as_array().expect("entries").iter();
    entries
        .map(|e| e["what"].as_str().expect("a key").to_owned())
        .collect()
}

#[test]
fn a_server_that_rolled_while_its_peer_was_away_is_followed() {
    let mut stage = Stage::new();
    let old = stage.server.id();
    stage.roll_server();
    let new = stage.server.id();
    assert_ne!(old, new);
    let said = stage.connect(b"x").expect_success().err();
    assert_says(
        &said,
        &["server has a new key, for which the old one signed", &new],
    );
    stage.assert_connects();
    assert_eq!(keys(&stage.client, "server"), [old.clone(), new.clone()]);
    let entries = stage.client.json(&["trust", "show", "server"]);
    assert_eq!(entries[0]["successor"], new);
    assert_eq!(entries[1]["origin"], "succession");
    assert_eq!(entries[1]["seq"], 1);
    assert_eq!(entries[1]["addresses"], entries[0]["addresses"]);
    assert!(
        entries[1]["next"].is_string(),
        "it knows the key after this one"
    );
    assert_says(&stage.client.yes(&["trust", "list"]), &["(old)"]);
}

#[test]
fn a_client_that_rolled_keeps_what_it_was_granted() {
    let stage = Stage::new();
    let old = stage.client.id();
    stage.client.yes(&["identity", "roll"]);
    let new = stage.client.id();
    stage.assert_connects();
    assert_eq!(keys(&stage.server, "client"), [old, new]);
    let entries = stage.server.json(&["trust", "show", "client"]);
    assert_eq!(entries[1]["services"], json!(["default"]));
}

#[test]
fn both_ends_may_roll_at_once() {
    let mut stage = Stage::new();
    stage.client.yes(&["identity", "roll"]);
    stage.roll_server();
    stage.assert_connects();
}

/// T81 of the trust reference, and the limit: sixteen changes are caught up with, seventeen are not.
#[test]
fn sixteen_changes_are_caught_up_with_and_seventeen_are_not() {
    let mut stage = Stage::new();
    let later = Home::new();
    stage.serving = None;
    let first = stage.server.id();
    stage.server.yes(&["identity", "roll"]);
    stage.serve();
    let invitation = invite(
        &stage.server,
        stage.serving.as_ref().expect("it serves"),
        "later",
        &["default"],
    );
    later.yes(&["join", &invitation, "--as", "server"]);
    stage.serving = None;
    for _ in 0..16 {
        stage.server.yes(&["identity", "roll"]);
    }
    stage.serve();
    let address = stage.address();
    let finished = later.talk(&["connect", "server", "--addr", &address], b"caught up");
    assert_eq!(finished.expect_success().out(), "caught up");
    assert_eq!(keys(&later, "server").len(), 17, "a line for each step");
    let said = stage.refused();
    assert_says(
        &said,
        &[
            "its key is not the one we know",
            &first,
            "the last 16 changes of its key",
            "earlier statements are gone",
            "none of these keys is the one that is known here",
            "comity trust replace server",
        ],
    );
    assert_eq!(keys(&stage.client, "server"), [first]);
    let said = stage
        .client
        .no(&["trust", "follow", "server", "--addr", &address]);
    assert_says(
        &said,
        &[
            "say nothing of the key of server",
            "earlier statements are gone",
        ],
    );
    stage
        .client
        .paste(quoted_command(&said, "compare the new id"))
        .expect_success();
    stage.assert_connects();
}

#[test]
fn a_peer_that_was_away_for_three_changes_catches_up() {
    let mut stage = Stage::new();
    let mut ids = vec![stage.server.id()];
    stage.serving = None;
    for _ in 0..3 {
        stage.server.yes(&["identity", "roll"]);
        ids.push(stage.server.id());
    }
    stage.serve();
    stage.assert_connects();
    assert_eq!(keys(&stage.client, "server"), ids);
}

/// A client to whom a person told the server's id.
fn confirmed() -> Stage {
    let stage = Stage::new();
    stage.client.yes(&["trust", "remove", "server"]);
    let (id, address) = (stage.server.id(), stage.address());
    stage
        .client
        .yes(&["trust", "add", "server", &id, "--addr", &address]);
    stage
}

#[test]
fn a_key_that_a_person_confirmed_is_followed_when_a_person_says_so() {
    let mut stage = confirmed();
    let old = stage.server.id();
    stage.roll_server();
    let (new, address) = (stage.server.id(), stage.address());
    let before = stage.client.known_peers();
    let said = stage.refused();
    assert_says(
        &said,
        &[
            "its key is not the one we know",
            &old,
            &new,
            "change 1",
            "routine",
            "a valid statement of the old key says so",
            "no data was sent",
            &format!("comity trust follow server --confirm {new}"),
        ],
    );
    assert_eq!(stage.client.known_peers(), before, "nothing is written");
    let follow = ["trust", "follow", "server", "--addr", &address];
    let said = stage.client.no(&follow);
    assert_says(&said, &["a person confirmed the key of server", &new]);
    // Somebody else's id, or a slip.
    let said = stage
        .client
        .no(&[&follow[..], &["--confirm", &old]].concat());
    assert_says(&said, &["another key than the one that was confirmed"]);
    stage
        .client
        .unable(&[&follow[..], &["--confirm", &new[..20]]].concat());
    assert_eq!(stage.client.known_peers(), before);
    let told = stage
        .client
        .json(&[&follow[..], &["--confirm", &new]].concat());
    assert_eq!(told["key"], new);
    assert_eq!(told["followed"], true);
    stage.assert_connects();
    let again = stage
        .client
        .json(&[&follow[..], &["--confirm", &new]].concat());
    assert_eq!(again["followed"], false);
}

#[test]
fn at_a_terminal_connect_asks_about_the_new_key() {
    for (answer, followed) in [("yes", true), ("no", false)] {
        let mut stage = confirmed();
        stage.roll_server();
        let line = format!(
            "comity connect server --addr {} < /dev/null",
            stage.address()
        );
        let Some(running) = at_terminal(&stage.client, &line) else {
            return;
        };
        running.wait_for("Follow it?");
        running.write(format!("{answer}\n").as_bytes());
        let finished = running.finish();
        assert_eq!(finished.status.success(), followed, "{}", finished.out());
        assert_eq!(
            keys(&stage.client, "server").len(),
            if followed { 2 } else { 1 }
        );
        if followed {
            stage.assert_connects();
        }
    }
}

#[test]
fn a_confirmed_client_that_rolled_is_told_what_its_peer_must_do() {
    let stage = Stage::new();
    let old = stage.client.id();
    stage.server.yes(&["trust", "remove", "client"]);
    stage
        .server
        .yes(&["trust", "add", "client", &old, "--for", "default"]);
    stage.client.yes(&["identity", "roll"]);
    let new = stage.client.id();
    let said = stage.refused();
    assert_says(
        &said,
        &["our key changed", "comity trust follow OUR-LABEL", &new],
    );
    // Its operator gets the statements as a file: the client cannot be dialled.
    let file = stage.client.beside("succession.pem").display().to_string();
    stage.client.yes(&["identity", "export", "--out", &file]);
    let said = stage.server.no(&["trust", "import", &file]);
    assert_says(&said, &["a person decides", &format!("--confirm {new}")]);
    let follow = [
        "trust",
        "follow",
        "client",
        "--file",
        &file,
        "--confirm",
        &new,
    ];
    stage.server.yes(&follow);
    stage.assert_connects();
}

#[test]
fn statements_from_a_file_move_an_entry_without_a_connection() {
    let mut stage = Stage::new();
    stage.serving = None;
    let said = stage.server.no(&["identity", "export"]);
    assert_says(&said, &["never changed"]);
    stage.server.yes(&["identity", "roll", "--reason", "moved"]);
    let pem = stage.server.yes(&["identity", "export"]);
    let mailed = format!("Dear all,\n\n{pem}\n\nyours\n");
    let dry = stage
        .client
        .talk(&["trust", "import", "-", "--dry-run"], mailed.as_bytes());
    assert_says(
        &dry.expect_success().out(),
        &["followed by known_peers:2", "moved"],
    );
    assert_eq!(
        keys(&stage.client, "server").len(),
        1,
        "nothing was changed"
    );
    let import = || {
        stage
            .client
            .talk(&["trust", "import", "-"], mailed.as_bytes())
            .expect_success()
            .out()
    };
    assert_says(&import(), &["succession to", "followed by known_peers:2"]);
    assert_says(&import(), &["followed already"]);
    assert_eq!(keys(&stage.client, "server")[1], stage.server.id());
    // Nobody there knows any of these keys.
    let stranger = Home::new();
    let finished = stranger.talk(&["trust", "import", "-"], mailed.as_bytes());
    assert_says(
        &expect_exit(finished, 1, &[]).err(),
        &["nobody is known here"],
    );
    assert_eq!(stranger.known_peers(), "");
    // A statement that was changed on the way is none.
    let spoilt = mailed.replacen(
        "COMITY SUCCESSION-----\n",
        "COMITY SUCCESSION-----\nAAAA",
        1,
    );
    let finished = stage
        .client
        .talk(&["trust", "import", "-"], spoilt.as_bytes());
    assert_says(
        &expect_exit(finished, 2, &[]).err(),
        &["no usable statements"],
    );
}

/// T83: two statements about one key. Nobody can tell which of the two is the owner's.
#[test]
fn contradicting_statements_freeze_the_entry_until_a_person_decides() {
    let mut stage = confirmed();
    stage.roll_server();
    let twin = copy(&stage.server);
    // Known by hand: nothing says to which key it committed, so both of the next ones may be right.
    let second = stage.server.id();
    stage.client.yes(&["trust", "replace", "server", &second]);
    stage.roll_server();
    let (ours, address) = (stage.server.id(), stage.address());
    stage.client.yes(&[
        "trust",
        "follow",
        "server",
        "--addr",
        &address,
        "--confirm",
        &ours,
    ]);
    stage.assert_connects();
    // The copy has the same next key; only the step after that differs.
    twin.yes(&["identity", "roll"]);
    assert_eq!(twin.id(), ours, "both took the committed key");
    twin.yes(&["identity", "roll"]);
    let theirs = twin.id();
    // An entry without a commitment: as of old versions, or where the line was written by hand.
    let text = stage.client.known_peers();
    let without: Vec<&str> = text
        .split(' ')
        .filter(|w| !w.starts_with("next="))
        .collect();
    fs::write(stage.client.path().join("known_peers"), without.join(" ")).expect("written");
    stage.roll_server();
    let (ours, address) = (stage.server.id(), stage.address());
    stage.client.yes(&[
        "trust",
        "follow",
        "server",
        "--addr",
        &address,
        "--confirm",
        &ours,
    ]);
    stage.assert_connects();
    let forger = twin.serve(&[&stage.echo]);
    let finished = stage.connect_to(&forger.address.to_string(), b"secret");
    let said = expect_exit(finished, 1, &["connect"]).err();
    assert_says(
        &said,
        &[
            "two keys claim to follow one that is known",
            &theirs,
            "frozen     known_peers:",
            "all of these keys are refused until a person decides",
            "comity trust replace server ID",
            "comity trust remove server",
        ],
    );
    // The one that was followed first is refused as well, also as a client's key.
    let said = stage.refused();
    assert_says(&said, &["two keys claim to follow", "frozen"]);
    let finished = stage.client.run(&["trust", "check"]);
    assert_eq!(finished.status.code(), Some(1));
    assert_says(&finished.out(), &["WRONG", "it is frozen"]);
    assert_says(&stage.client.yes(&["trust", "list"]), &["FORKED"]);
    // A person asked, and knows which one it is.
    stage.client.yes(&["trust", "replace", "server", &ours]);
    assert_eq!(keys(&stage.client, "server"), [ours]);
    stage.assert_connects();
    let finished = stage.connect_to(&forger.address.to_string(), b"secret");
    expect_exit(finished, 1, &["connect"]);
}

/// Whoever has a copy of the whole home has the committed next key as well: what it says of itself
/// afterwards contradicts what the owner says.
#[test]
fn a_copy_of_a_home_that_rolls_on_its_own_is_noticed() {
    let mut stage = Stage::new();
    stage.roll_server();
    let thief = copy(&stage.server);
    stage.assert_connects();
    stage.roll_server();
    // The second change within a day waits for a person.
    let (successor, address) = (stage.server.id(), stage.address());
    let follow = ["trust", "follow", "server", "--confirm", &successor];
    let at = ["--addr", &address];
    stage.client.yes(&[&follow[..], &at[..]].concat());
    stage.assert_connects();
    thief.yes(&["identity", "roll"]);
    thief.yes(&["identity", "roll"]);
    let forger = thief.serve(&[&stage.echo]);
    let finished = stage.connect_to(&forger.address.to_string(), b"secret");
    let said = expect_exit(finished, 1, &["connect"]).err();
    assert_says(&said, &["two keys claim to follow", "no data was sent"]);
    assert_says(&stage.refused(), &["two keys claim to follow"]);
    // Forgotten, and known again by another invitation.
    stage.client.yes(&["trust", "remove", "server"]);
    assert!(!stage.client.known_peers().contains("forked="));
    let serving = stage.serving.as_ref().expect("it serves");
    let invitation = invite(&stage.server, serving, "again", &["default"]);
    stage.client.yes(&["join", &invitation, "--as", "server"]);
    stage.assert_connects();
}

/// An invitation names a key, so nothing helps but a new one.
#[test]
fn an_invitation_of_an_inviter_that_rolled_is_asked_for_again() {
    let mut stage = Stage::new();
    let serving = stage.serving.as_ref().expect("it serves");
    let invitation = invite(&stage.server, serving, "later", &["default"]);
    let invited_by = stage.server.id();
    stage.roll_server();
    let later = Home::new();
    let said = later.no(&["join", &invitation, "--addr", &stage.address()]);
    assert_says(
        &said,
        &[
            "not the one that made the invitation",
            &invited_by,
            &stage.server.id(),
            "ask for a new invitation",
        ],
    );
    assert!(!said.contains("trust replace"), "{said}");
}

/// T82: after the overlap the old key is refused, and says why.
#[test]
fn the_old_key_ends_with_the_overlap() {
    let stage = Stage::new();
    let twin = copy(&stage.server);
    let Stage {
        server,
        client,
        serving,
        echo,
    } = stage;
    drop(serving);
    server.yes(&["identity", "roll", "--overlap", "1s"]);
    let serving = server.serve(&[&echo]);
    let connect = |address: SocketAddr| {
        let address = address.to_string();
        client.talk(&["connect", "server", "--addr", &address], b"x")
    };
    connect(serving.address).expect_success();
    let old = twin.serve(&[&echo]);
    let said = loop {
        let finished = connect(old.address);
        match finished.status.code() {
            // Still within the overlap.
            Some(0) => {}
            _ => break expect_exit(finished, 1, &["connect"]).err(),
        }
    };
    assert_says(
        &said,
        &[
            "its key was replaced by a successor",
            &server.id(),
            "restart its `comity serve`",
            "no data was sent",
        ],
    );
    connect(serving.address).expect_success();
}

#[test]
fn a_process_with_the_old_key_is_told_that_it_was_superseded() {
    let stage = Stage::new();
    let twin = copy(&stage.client);
    stage.client.yes(&["identity", "roll", "--overlap", "1s"]);
    stage.assert_connects();
    let address = stage.address();
    let said = loop {
        let finished = twin.talk(&["connect", "server", "--addr", &address], b"x");
        match finished.status.code() {
            Some(0) => {}
            _ => break expect_exit(finished, 1, &["connect"]).err(),
        }
    };
    assert_says(
        &said,
        &[
            "(superseded)",
            "start it again after `comity identity roll`",
        ],
    );
}

/// T85.
#[test]
fn a_revoked_key_cannot_name_a_successor() {
    let mut stage = Stage::new();
    stage.serving = None;
    let old = stage.server.id();
    let revocation = stage.server.yes(&["identity", "revoke"]);
    let import = || {
        stage
            .client
            .talk(&["trust", "import", "-"], revocation.as_bytes())
    };
    assert_says(
        &import().expect_success().out(),
        &["revocation of", &old, "the key itself"],
    );
    assert_says(&import().expect_success().out(), &["revoked already"]);
    stage.roll_server();
    assert_says(&stage.refused(), &["a key it presents is revoked"]);
    let succession = stage.server.yes(&["identity", "export"]);
    let finished = stage
        .client
        .talk(&["trust", "import", "-"], succession.as_bytes());
    let said = expect_exit(finished, 1, &["trust", "import"]).err();
    assert_says(&said, &["a revoked key has no successor"]);
    assert_eq!(keys(&stage.client, "server"), [old]);
}

#[test]
fn the_next_key_revokes_where_it_was_committed_to() {
    let stage = Stage::new();
    let next = stage.client.beside("next.key");
    fs::rename(stage.client.path().join("identity/next.key"), &next).expect("moved offline");
    let next = next.display().to_string();
    // The identity key is lost: the file has its name, and nothing that is of use.
    let key = stage.client.path().join("identity/identity.key");
    fs::write(&key, "lost").expect("written");
    let client = stage.server.json(&["trust", "show", "client"])[0]["what"].clone();
    let revocation = stage
        .client
        .yes(&["identity", "revoke", "--by-next-key", &next]);
    let import = |home: &Home| home.talk(&["trust", "import", "-"], revocation.as_bytes());
    // Where nothing is known of a commitment, anybody could have signed it.
    let other = Home::new();
    other.yes(&["trust", "add", "client", client.as_str().expect("an id")]);
    let said = expect_exit(import(&other), 1, &["trust", "import"]).err();
    assert_says(&said, &["does not count here", "comity trust revoke"]);
    assert_says(
        &import(&stage.server).expect_success().out(),
        &["another key", "for ever"],
    );
    assert_says(&stage.server.known_peers(), &["@revoked"]);
    // A key that was never committed to revokes nothing.
    let stranger = Home::new();
    let foreign = stranger
        .path()
        .join("identity/next.key")
        .display()
        .to_string();
    let said = stage
        .client
        .no(&["identity", "revoke", "--by-next-key", &foreign]);
    assert_says(&said, &["this is not the next key of this node"]);
}

#[test]
fn a_dry_run_names_who_is_affected_and_changes_nothing() {
    let home = Home::new();
    let id = home.id();
    let told = home.json(&["identity", "roll", "--dry-run"]);
    assert_eq!(told["old"], id);
    let said = home.yes(&["identity", "roll", "--dry-run"]);
    assert_says(
        &said,
        &[
            "nothing was changed",
            "restarted",
            "follow by themselves",
            "comity trust follow OUR-LABEL --confirm",
        ],
    );
    assert_eq!(home.id(), id);
    // It said which id comes next.
    assert_eq!(told["new"], home.yes(&["identity", "roll"]));
    assert_says(
        &home.unable(&["identity", "roll", "--overlap", "91d"]),
        &["longer than 90 days"],
    );
    home.yes(&["identity", "roll", "--overlap", "90d"]);
}

#[test]
fn a_next_key_that_was_taken_offline_is_named_by_its_file() {
    let home = Home::new();
    let offline = home.beside("next.key");
    fs::rename(home.path().join("identity/next.key"), &offline).expect("moved offline");
    let offline = offline.display().to_string();
    let said = home.unable(&["identity", "roll"]);
    assert_says(
        &said,
        &["the next key is not in this home", "--next-key FILE"],
    );
    let stranger = Home::new();
    let foreign = stranger
        .path()
        .join("identity/next.key")
        .display()
        .to_string();
    let said = home.no(&["identity", "roll", "--next-key", &foreign]);
    assert_says(&said, &["this is not the next key of this node"]);
    let new = home.yes(&["identity", "roll", "--next-key", &offline]);
    assert_eq!(home.id(), new);
    // Whoever does not know whether it was done runs it again.
    let again = home.json(&["identity", "roll", "--next-key", &offline]);
    assert_eq!(again["already"], true);
    assert_eq!(home.id(), new);
}

#[test]
fn sealed_keys_stay_sealed() {
    let home = Home::empty();
    let file = home.beside("passphrase");
    fs::write(&file, "correct horse\n").expect("written");
    let file = file.display().to_string();
    home.yes(&["init", "--seal", "--passphrase-file", &file]);
    let old = home.id();
    assert_says(&home.unable(&["identity", "roll"]), &["passphrase"]);
    assert_eq!(home.id(), old);
    home.yes(&["identity", "roll", "--passphrase-file", &file]);
    assert_ne!(home.id(), old);
    for name in ["identity.key", "next.key"] {
        let key = fs::read_to_string(home.path().join("identity").join(name)).expect("a key");
        assert_says(&key, &["BEGIN COMITY SEALED KEY"]);
    }
    home.yes(&["identity", "revoke", "--passphrase-file", &file]);
}

/// The store's tests stop it at every single step; this is the whole program.
#[test]
fn a_roll_that_was_killed_leaves_an_identity_and_the_next_one_goes_on() {
    let home = Home::new();
    for _ in 0..8 {
        let before = home.id();
        let running: Running = home.start(&["identity", "roll"]);
        // Killed wherever it is.
        drop(running);
        let between = home.id();
        let after = home.yes(&["identity", "roll"]);
        assert_ne!(after, between);
        let told = home.run(&["identity", "export", "--json"]).expect_success();
        let told: serde_json::Value = serde_json::from_slice(&told.stdout).expect("JSON");
        assert_eq!(told["current"], after);
        let statements = told["statements"].as_array().expect("statements");
        let last = statements.last().expect("one");
        assert_eq!(last["old"], between);
        assert!(between == before || statements[statements.len() - 2]["old"] == before);
    }
}
