//! `comity init` and `comity id`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use comity_testkit::foreign::run;

use crate::home::{Home, assert_says, quoted_command};

#[test]
fn init_a_second_time_changes_nothing_and_says_so() {
    let home = Home::empty();
    let first = home.json(&["init"]);
    assert_eq!(first["created"], true);
    let key = fs::read(home.path().join("identity/identity.key")).expect("a key");
    let again = home.run(&["init"]);
    assert_eq!(again.out().trim_end(), first["id"]);
    assert_says(
        &again.err(),
        &["had an identity already; nothing was changed"],
    );
    assert_eq!(home.json(&["init"])["created"], false);
    let after = fs::read(home.path().join("identity/identity.key")).expect("a key");
    assert_eq!(key, after);
}

#[test]
fn init_says_where_the_next_key_lies_and_that_it_belongs_offline() {
    let home = Home::empty();
    let said = home.run(&["init"]).err();
    let next = home.path().join("identity/next.key");
    assert_says(&said, &[&next.display().to_string(), "offline"]);
    assert!(next.exists());
    for secret in ["identity.key", "next.key"] {
        let file = fs::metadata(home.path().join("identity").join(secret)).expect("a file");
        assert_eq!(file.permissions().mode() & 0o777, 0o600, "{secret}");
    }
    // Everything still works without it, and `check` has nothing to remark any more.
    fs::remove_file(next).expect("moved away");
    assert_eq!(home.yes(&["trust", "check"]), "nothing is wrong");
}

#[test]
fn an_ed25519_identity_serves_and_dials_too() {
    let (server, client) = (Home::empty(), Home::empty());
    for home in [&server, &client] {
        home.yes(&["init", "--algorithm", "ed25519"]);
    }
    let echo = crate::backend::echo().to_string();
    let serving = server.serve(&[&echo]);
    let invitation = crate::home::invite(&server, &serving, "client", &["default"]);
    client.yes(&["join", &invitation, "--as", "server"]);
    let finished = client
        .talk(&["connect", "server"], b"over Ed25519")
        .expect_success();
    assert_eq!(finished.out(), "over Ed25519");
}

#[test]
fn a_sealed_key_opens_with_its_passphrase_and_with_no_other() {
    let home = Home::empty();
    let write = |name: &str, text: &str| {
        let path = home.beside(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let right = write("right", "correct horse\n");
    let wrong = write("wrong", "correct house\n");
    home.yes(&["init", "--seal", "--passphrase-file", &right]);
    let key = fs::read_to_string(home.path().join("identity/identity.key")).expect("a key");
    assert_says(&key, &["BEGIN COMITY SEALED KEY"]);
    // The id is public: it needs no passphrase.
    home.id();
    let echo = crate::backend::echo().to_string();
    let with = |file: &str| {
        home.run(&[
            "serve",
            &echo,
            "--listen",
            "nonsense",
            "--passphrase-file",
            file,
        ])
    };
    let finished = with(&wrong);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.err());
    assert_says(&finished.err(), &["the passphrase is wrong"]);
    // With the right one it gets further, to the address on which it cannot listen.
    assert_says(
        &with(&right).err(),
        &["`nonsense` is no address to listen on"],
    );
    let without = home.unable(&["serve", &echo]);
    assert_says(&without, &["passphrase", "--passphrase-file"]);
}

#[test]
fn an_empty_passphrase_seals_nothing() {
    let home = Home::empty();
    let file = home.beside("empty");
    fs::write(&file, "\n").expect("written");
    let file = file.display().to_string();
    home.unable(&["init", "--seal", "--passphrase-file", &file]);
    assert_says(&home.unable(&["id"]), &["comity init"]);
}

#[test]
fn a_home_that_others_can_write_is_refused_with_a_remedy_that_works() {
    let home = Home::empty();
    fs::create_dir(home.path()).expect("made");
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).expect("set");
    let said = home.unable(&["init"]);
    assert_says(&said, &["other users can write to it (mode 0777)"]);
    let remedy = said.split("hint: ").nth(1).expect("a hint").trim();
    assert!(remedy.starts_with("chmod 700 "), "{said}");
    run(std::process::Command::new("sh").args(["-c", remedy]), b"").expect_success();
    home.yes(&["init"]);
}

#[test]
fn commands_without_a_home_say_how_to_make_one() {
    let home = Home::empty();
    for args in [
        &["id"][..],
        &["trust", "list"],
        &["connect", "somebody"],
        &["serve", "80"],
        &["invite"],
    ] {
        let said = home.unable(args);
        assert_eq!(quoted_command(&said, "hint"), "comity init", "{said}");
    }
}

#[test]
fn an_id_can_be_respelled_from_every_form_that_is_an_id() {
    let home = Home::new();
    let all = home.json(&["id"]);
    let (id, hex, words) = (&all["id"], &all["hex"], &all["words"]);
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    assert_eq!(home.yes(&["id"]), text(id));
    assert_eq!(home.yes(&["id", "--hex"]), text(hex));
    assert_eq!(home.yes(&["id", "--words"]), text(words));
    assert_eq!(text(words).split(' ').count(), 12);
    assert_eq!(
        text(id).split('-').map(str::len).collect::<Vec<_>>(),
        [7; 8]
    );
    // Respelling somebody else's id needs no home.
    let nobody = Home::empty();
    assert_eq!(nobody.yes(&["id", "--hex", &text(id)]), text(hex));
    assert_eq!(nobody.yes(&["id", "--words", &text(id)]), text(words));
    let mangled = text(id)
        .to_lowercase()
        .replace('-', " ")
        .replace('i', "1")
        .replace('o', "0");
    assert_eq!(nobody.yes(&["id", "--hex", &mangled]), text(hex));
    assert_eq!(
        nobody.yes(&["id", &format!("key:{}", text(hex))]),
        format!("key:{}", text(id))
    );
    let qr = home.yes(&["id", "--qr"]);
    assert!(qr.lines().count() > 10 && qr.contains('█'), "{qr}");
}

#[test]
fn a_mistyped_id_is_refused_and_the_place_named() {
    let home = Home::new();
    let id = home.id();
    let (rest, last) = id.split_at(id.len() - 1);
    let wrong = format!("{rest}{}", if last == "A" { "C" } else { "A" });
    assert_says(
        &home.unable(&["id", &wrong]),
        &["groups 7 and 8", "mistyped"],
    );
    assert_says(
        &home.unable(&["trust", "add", "x", &wrong]),
        &["groups 7 and 8"],
    );
    assert_says(&home.unable(&["connect", &wrong]), &["groups 7 and 8"]);
    for text in ["", "MFZWI3D", "ability able about"] {
        home.unable(&["id", text]);
    }
}
