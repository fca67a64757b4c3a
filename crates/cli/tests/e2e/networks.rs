//! `comity network`: founding, joining, removing, and what members may do.

use std::fs;
use std::time::{Duration, Instant};

use comity_testkit::foreign::{Finished, Listening, Running, free_port};

use crate::backend;
use crate::home::{Home, assert_says, expect_exit};
use crate::terminal::at_terminal;

/// From the news of a withdrawal to the end of the connection.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A network and the node that founded it, which serves.
struct Hub {
    home: Home,
    serving: Listening,
    /// The network's id.
    id: String,
}

impl Hub {
    /// Founds a network and lets its node serve, with these arguments as well.
    fn serving(name: &str, args: &[&str]) -> Self {
        let home = Home::empty();
        let address = format!("127.0.0.1:{}", free_port());
        let id = found(&home, name, &address);
        let serve = [&["serve", "--listen", &address], args].concat();
        let serving =
            Listening::start_on_its_own_port(&mut home.command(&serve), b"", "listening on ");
        Self { home, serving, id }
    }

    fn new(name: &str) -> Self {
        Self::serving(name, &[])
    }

    /// An invitation to the network `acme`.
    fn invite(&self, label: &str, roles: &[&str]) -> String {
        let mut args = vec!["network", "invite", "acme", "--as", label];
        args.extend(roles.iter().flat_map(|role| ["--role", role]));
        self.home.yes(&args)
    }

    /// A new node that joined `acme` with these roles.
    fn member(&self, label: &str, roles: &[&str]) -> Home {
        let member = Home::empty();
        member.yes(&["network", "join", &self.invite(label, roles), "--as", "hub"]);
        member
    }
}

/// Founds a network at an address and gives its id.
fn found(home: &Home, name: &str, address: &str) -> String {
    let passphrase = home.beside("passphrase");
    fs::write(&passphrase, "correct horse\n").expect("a file");
    let passphrase = passphrase.display().to_string();
    let mut args = vec!["network", "create", name, "--addr", address];
    args.extend(["--root-passphrase-file", &passphrase]);
    home.yes(&args)
}

/// What an echo service behind `serving` gives back to `from`.
fn say(from: &Home, serving: &Listening, service: &str) -> Finished {
    from.talk(
        &["connect", &format!("{}/{service}", serving.address)],
        b"hello",
    )
}

/// An open connection to the echo service behind `serving` that has carried bytes both ways.
fn open_connection(from: &Home, serving: &Listening, service: &str) -> Running {
    let open = from.start(&["connect", &format!("{}/{service}", serving.address)]);
    open.write(b"open\n");
    open.wait_for("open");
    open
}

/// A service of this home for members of `acme` in the role `db`.
fn serve_echo(home: &Home, who: &str) -> Listening {
    let target = format!("echo={}", backend::echo());
    home.serve(&[&target, "--allow", &format!("echo={who}")])
}

#[test]
fn members_that_never_met_recognise_each_other_by_their_network() {
    let hub = Hub::new("acme");
    let web = Home::empty();
    let invitation = hub.invite("web", &["web"]);
    let joined = web.run(&["network", "join", &invitation]).expect_success();
    assert_says(
        &joined.err(),
        &[
            "made an identity",
            "joined the network acme",
            &hub.id,
            "our role    web",
            "invited by",
        ],
    );
    let db = hub.member("db", &["db"]);
    let serving = serve_echo(&web, "acme/db");
    assert_eq!(say(&db, &serving, "echo").expect_success().out(), "hello");
    assert_eq!(
        db.known_peers().matches(" node ").count(),
        1,
        "only the inviter is pinned"
    );
    let members = hub.home.yes(&["network", "members", "acme"]);
    assert_says(
        &members,
        &[
            &db.id(),
            &web.id(),
            "role db; 36",
            "role admin",
            "(this node)",
        ],
    );
}

#[test]
fn who_answers_at_an_address_is_said_and_may_be_limited_to_a_network() {
    let (acme, other) = (Hub::new("acme"), Hub::new("acme"));
    let (web, db) = (acme.member("web", &["web"]), acme.member("db", &["db"]));
    let invitation = other.invite("db", &["db"]);
    db.run(&["network", "join", &invitation]).expect_success();
    let serving = serve_echo(&web, "acme/db");
    let place = format!("{}/echo", serving.address);
    let met = db.talk(&["connect", &place], b"hello").expect_success();
    let met = met.err();
    assert_says(&met, &[&web.id(), "member of acme as web"]);
    let met = db.talk(&["connect", &place, "--network", "acme"], b"hello");
    assert_eq!(met.expect_success().out(), "hello");
    let args = ["connect", &place, "--network", "acme-2"];
    let refused = expect_exit(db.talk(&args, b"hello"), 1, &["connect"]);
    assert_says(&refused.err(), &["not in the network that was asked for"]);
    let args = ["connect", &place, "--network", "nowhere"];
    let refused = expect_exit(db.talk(&args, b"hello"), 1, &["connect"]);
    assert_says(&refused.err(), &["no network `nowhere`", "network list"]);
}

#[test]
fn another_role_is_refused_and_both_ends_say_why() {
    let hub = Hub::new("acme");
    let (web, guest) = (hub.member("web", &["web"]), hub.member("guest", &["guest"]));
    let serving = serve_echo(&web, "acme/db");
    let refused = expect_exit(say(&guest, &serving, "echo"), 1, &["connect"]);
    assert_says(&refused.err(), &["(not-authorised)"]);
    serving.running.wait_for("reason=\"wrong-role\"");
    // A stranger is told nothing of networks.
    let refused = expect_exit(say(&Home::new(), &serving, "echo"), 1, &["connect"]);
    assert_says(&refused.err(), &["its key is not known here"]);
}

#[test]
fn two_networks_of_one_name_stay_apart() {
    let (first, second) = (Hub::new("acme"), Hub::new("acme"));
    let server = first.member("server", &[]);
    let invitation = second.invite("server", &["web"]);
    let joined = server
        .run(&["join", &invitation, "--as", "other-hub"])
        .expect_success();
    assert_says(
        &joined.err(),
        &["calls itself acme, and is called acme-2 here"],
    );
    let list = server.yes(&["network", "list"]);
    assert_says(
        &list,
        &[
            &format!("acme  {}", first.id),
            &format!("acme-2  {}", second.id),
        ],
    );
    let (ours, theirs) = (
        first.member("ours", &["db"]),
        second.member("theirs", &["db"]),
    );
    for (who, of_first) in [
        ("acme/db".to_owned(), true),
        (format!("{}/db", first.id), true),
        ("acme-2/db".to_owned(), false),
        (format!("{}/db", second.id), false),
    ] {
        let serving = serve_echo(&server, &who);
        let (admitted, refused) = match of_first {
            true => (&ours, &theirs),
            false => (&theirs, &ours),
        };
        // They share one network with the server, and it shows them that one.
        assert_eq!(
            say(admitted, &serving, "echo").expect_success().out(),
            "hello",
            "{who}"
        );
        expect_exit(say(refused, &serving, "echo"), 1, &[&who]);
    }
}

#[test]
fn a_removed_member_is_cut_off_everywhere_within_a_second_and_stays_out() {
    let target = format!("echo={}", backend::echo());
    let hub = Hub::serving("acme", &[&target, "--allow", "echo=acme"]);
    let (web, thief) = (hub.member("web", &[]), hub.member("thief", &[]));
    let invitation = hub.invite("again", &[]);
    let serving = serve_echo(&web, "acme");
    let at_hub = open_connection(&thief, &hub.serving, "echo");
    let at_web = open_connection(&thief, &serving, "echo");
    let planned = hub
        .home
        .yes(&["network", "remove", "acme", "thief", "--dry-run"]);
    assert_says(
        &planned,
        &[&thief.id(), "one certificate", "within a second"],
    );
    assert_says(
        &hub.home.yes(&["network", "members", "acme"]),
        &["thief", "days left"],
    );
    assert_eq!(
        hub.home.yes(&["network", "remove", "acme", "thief"]),
        "removed thief"
    );
    let since = Instant::now();
    for open in [at_hub, at_web] {
        open.wait_for("was cut off");
        assert!(since.elapsed() < AT_ONCE * 2, "{:?}", since.elapsed());
    }
    serving.running.wait_for("reason=\"revoked\"");
    expect_exit(say(&thief, &serving, "echo"), 1, &["connect"]);
    expect_exit(say(&thief, &hub.serving, "echo"), 1, &["connect"]);
    let said = thief.unable(&["network", "refresh"]);
    assert_says(&said, &["(unknown)", "may have removed this node"]);
    assert_says(
        &hub.home.no(&["network", "remove", "acme", "thief"]),
        &["any more"],
    );
    assert!(
        !hub.home.known_peers().contains(&thief.id()),
        "its pin is gone, too"
    );
    // Whoever was removed may be invited anew, by a person who means it.
    thief.yes(&["join", &invitation]);
    assert_eq!(
        say(&thief, &serving, "echo").expect_success().out(),
        "hello"
    );
}

#[test]
fn joining_twice_gives_the_same_and_a_second_invitation_adds_to_it() {
    let hub = Hub::new("acme");
    let invitation = hub.invite("web", &["web"]);
    let member = Home::empty();
    let first = member.json(&["network", "join", &invitation]);
    assert_eq!(first["network"]["id"], hub.id);
    assert_eq!(first["network"]["new"], true);
    let again = member.json(&["network", "join", &invitation]);
    assert_eq!(again["network"]["new"], false);
    assert_eq!(again["network"]["until"], first["network"]["until"]);
    let more = member.json(&["join", &hub.invite("other", &["db"])]);
    assert_eq!(more["network"]["roles"], serde_json::json!(["db", "web"]));
    let members = hub.home.yes(&["network", "members", "acme"]);
    assert_says(&members, &["role db, web"]);
    // Another machine cannot use what is used up.
    assert_says(
        &Home::empty().no(&["join", &invitation]),
        &["(invite-invalid)"],
    );
}

#[test]
fn only_the_node_with_the_issuing_key_invites_and_others_say_who_has_it() {
    let hub = Hub::new("acme");
    let member = hub.member("web", &[]);
    for command in [
        &["network", "invite", "acme"][..],
        &["network", "members", "acme"],
    ] {
        let said = member.no(command);
        assert_says(
            &said,
            &["is not here", "ask whoever runs hub", &hub.home.id()],
        );
    }
    assert_says(
        &member.no(&["network", "invite", "nosuch"]),
        &["comity network list"],
    );
    let said = hub.home.no(&["network", "invite", "acme", "--as", "web"]);
    assert_says(
        &said,
        &["is a member of this network already", &member.id()],
    );
    let said = hub
        .home
        .unable(&["network", "invite", "acme", "--role", "Web"]);
    assert_says(&said, &["lower-case letters"]);
}

#[test]
fn whoever_leaves_knows_nobody_any_more() {
    let hub = Hub::new("acme");
    let (web, db) = (hub.member("web", &[]), hub.member("db", &[]));
    let serving = serve_echo(&web, "acme");
    let open = open_connection(&db, &serving, "echo");
    assert_eq!(web.yes(&["network", "leave", "acme"]), "left acme");
    let since = Instant::now();
    open.wait_for("was cut off");
    assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
    expect_exit(say(&db, &serving, "echo"), 1, &["connect"]);
    assert_eq!(web.yes(&["network", "list"]), "");
    // The inviter is still pinned: that was said by a person.
    assert_says(&web.yes(&["trust", "list"]), &["hub"]);
    assert_says(
        &hub.home.no(&["network", "leave", "acme"]),
        &["is in this home"],
    );
}

#[test]
fn a_bundle_is_imported_by_the_id_that_its_people_told() {
    let hub = Hub::new("acme");
    let file = hub.home.beside("acme.pem").display().to_string();
    hub.home.yes(&["network", "export", "acme", "--out", &file]);
    let other = Home::new();
    let said = other.no(&["network", "import", &file]);
    let command = format!("comity network import {file} --confirm {}", hub.id);
    assert_says(&said, &["new here", &hub.id, &command]);
    let said = other.no(&["network", "import", &file, "--confirm", &other.id()]);
    assert_says(
        &said,
        &["another network than the one that was confirmed", &hub.id],
    );
    assert_says(
        &other.unable(&["network", "import", &file, "--confirm", "MFZW"]),
        &["full id"],
    );
    assert_eq!(other.yes(&["network", "list"]), "", "nothing was kept");
    let taken = other.json(&["network", "import", &file, "--confirm", &hub.id]);
    assert_eq!(taken["standing"], "followed");
    // Members are strangers until somebody says otherwise.
    let serving = serve_echo(&other, "acme");
    let member = hub.member("web", &[]);
    let dial = [
        "connect",
        &format!("{}/echo", serving.address),
        "--trust",
        "tofu",
    ];
    expect_exit(member.talk(&dial, b"hello"), 1, &dial);
    assert_eq!(
        other.yes(&["network", "import", &file, "--recognise"]),
        "unchanged acme"
    );
    let finished = member.talk(&dial, b"hello").expect_success();
    assert_eq!(finished.out(), "hello");
}

#[test]
fn an_older_bundle_is_refused_and_a_newer_one_taken() {
    let hub = Hub::new("acme");
    let (old, new) = (hub.home.beside("old.pem"), hub.home.beside("new.pem"));
    let (old, new) = (old.display().to_string(), new.display().to_string());
    hub.home.yes(&["network", "export", "acme", "--out", &old]);
    let removed = hub.member("removed", &[]);
    hub.home.yes(&["network", "remove", "acme", "removed"]);
    hub.home.yes(&["network", "export", "acme", "--out", &new]);
    let other = Home::new();
    other.yes(&[
        "network",
        "import",
        &new,
        "--confirm",
        &hub.id,
        "--recognise",
    ]);
    assert_says(
        &other.no(&["network", "import", &old]),
        &["a newer bundle of acme is held"],
    );
    assert_eq!(other.yes(&["network", "import", &new]), "unchanged acme");
    let serving = serve_echo(&other, "acme");
    let dial = [
        "connect",
        &format!("{}/echo", serving.address),
        "--trust",
        "tofu",
    ];
    expect_exit(removed.talk(&dial, b"hello"), 1, &dial);
    serving.running.wait_for("reason=\"revoked\"");
}

#[test]
fn what_was_made_for_another_node_is_not_taken() {
    let hub = Hub::new("acme");
    let member = hub.member("web", &[]);
    let record = fs::read_to_string(member.path().join("networks")).expect("the networks");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    let line = &record["entries"][0];
    let pem = |label: &str, base64: &str| {
        format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n")
    };
    let certificates = line["membership"].as_array().expect("certificates").iter();
    let mut package: String = certificates
        .map(|der| pem("CERTIFICATE", der.as_str().expect("base64")))
        .collect();
    package += &pem("COMITY BUNDLE", line["bundle"].as_str().expect("base64"));
    let other = Home::new();
    let args = ["network", "import", "-", "--confirm", &hub.id];
    let said = expect_exit(other.talk(&args, package.as_bytes()), 1, &args).err();
    assert_says(&said, &["refused", &other.id(), "comity id --certificate"]);
    assert_eq!(other.yes(&["network", "list"]), "", "nothing was kept");
    // Whose it is may take it as often as they like.
    expect_exit(member.talk(&args, package.as_bytes()), 0, &args);
}

#[test]
fn a_new_identity_keeps_its_membership() {
    let hub = Hub::new("acme");
    let (web, db) = (hub.member("web", &["web"]), hub.member("db", &["db"]));
    let before = db.id();
    db.yes(&["identity", "roll"]);
    assert_ne!(db.id(), before);
    let refreshed = db.yes(&["network", "refresh", "acme"]);
    assert_says(&refreshed, &["membership renewed"]);
    let serving = serve_echo(&web, "acme/db");
    assert_eq!(say(&db, &serving, "echo").expect_success().out(), "hello");
    let members = hub.home.yes(&["network", "members", "acme"]);
    assert_says(&members, &[&db.id(), &before, "follows it"]);
}

#[test]
fn members_of_a_retired_issuing_key_are_renewed_when_they_refresh() {
    let hub = Hub::new("acme");
    let (web, db) = (hub.member("web", &["web"]), hub.member("db", &["db"]));
    let passphrase = hub.home.beside("passphrase").display().to_string();
    let roll = ["ca", "roll-issuing", "acme", "--now", "--overlap", "1h"];
    hub.home
        .yes(&[&roll[..], &["--root-passphrase-file", &passphrase]].concat());
    for member in [&web, &db] {
        let refreshed = member.yes(&["network", "refresh", "acme"]);
        assert_says(&refreshed, &["new bundle", "membership renewed"]);
        let shown = member.yes(&["network", "show", "acme"]);
        assert!(!shown.contains("issuing key ends"), "{shown}");
        let again = member.yes(&["network", "refresh", "acme"]);
        assert!(!again.contains("membership renewed"), "{again}");
    }
    let serving = serve_echo(&web, "acme/db");
    assert_eq!(say(&db, &serving, "echo").expect_success().out(), "hello");
}

#[test]
fn a_node_of_a_network_serves_without_services_and_another_does_not() {
    let said = Home::new().unable(&["serve"]);
    assert_says(
        &said,
        &["there is no service to serve", "comity network create"],
    );
    let hub = Hub::new("acme");
    hub.serving
        .running
        .wait_for("admits members, and hands out bundles");
    let member = hub.member("web", &[]);
    let serving = member.serve(&[]);
    serving.running.wait_for("no service: ");
    let said = member.unable(&["serve", "--allow", "default=acme"]);
    assert_says(&said, &["there is no service `default`"]);
}

#[test]
fn an_allow_rule_for_a_network_that_nobody_knows_is_said() {
    let hub = Hub::new("acme");
    let member = hub.member("web", &[]);
    let target = backend::echo().to_string();
    let serving = member.serve(&[&target, "--allow", "acmee/web", "--allow", "acme/web"]);
    serving
        .running
        .wait_for("--allow default=acmee/web: no network of that name or id");
    assert!(!serving.running.said().contains("default=acme/web:"));
}

#[test]
fn bundles_are_handed_out_beside_a_service_that_speaks_http_to_members_alone() {
    let web = backend::web().to_string();
    let hub = Hub::serving("acme", &[&web, "--allow", "acme"]);
    let member = hub.member("web", &[]);
    let hex = hub.home.json(&["network", "show", "acme"])["hex"].clone();
    let path = format!("/comity/networks/{}/bundle", hex.as_str().expect("hex"));
    let get = |from: &Home, path: &str| {
        let peer = hub.serving.address.to_string();
        let args = ["connect", &peer, "--alpn", "http/1.1"];
        let request = format!("GET {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n");
        let finished = from.talk(&args, request.as_bytes());
        String::from_utf8_lossy(&finished.stdout).into_owned()
    };
    let answer = get(&member, &path);
    assert_says(
        &answer,
        &[
            "HTTP/1.1 200 OK",
            "content-type: application/cbor",
            "etag: ",
        ],
    );
    assert_says(&get(&member, "/"), &["hello from the backend"]);
    assert_says(&get(&member, &path.replace("/bundle", "/other")), &["404"]);
    // A pinned guest is no member: whatever it asks for, it asks the service, and is not let in.
    let guest = Home::new();
    let address = hub.serving.address.to_string();
    guest.yes(&["join", &hub.home.yes(&["invite", "--addr", &address])]);
    let answer = get(&guest, &path);
    assert!(!answer.contains("200"), "{answer}");
}

#[test]
fn a_root_key_that_was_named_is_sealed_where_the_operator_said() {
    let home = Home::empty();
    let (root, passphrase) = (home.beside("acme-root.key"), home.beside("passphrase"));
    fs::write(&passphrase, "correct horse\n").expect("a file");
    let (root, passphrase) = (root.display().to_string(), passphrase.display().to_string());
    let mut args = vec!["network", "create", "acme", "--addr", "127.0.0.1:7117"];
    let said = home.unable(&args);
    assert_says(
        &said,
        &["the root key needs a passphrase", "--root-passphrase-file"],
    );
    args.extend(["--root", &root, "--root-passphrase-file", &passphrase]);
    let finished = expect_exit(home.run(&args), 0, &args);
    assert_says(&finished.err(), &["offline", &root]);
    let key = fs::read_to_string(&root).expect("the root key");
    assert_says(&key, &["-----BEGIN "]);
    assert!(!key.contains("BEGIN PRIVATE KEY"), "it is sealed");
    let said = home.no(&args);
    assert_says(&said, &["there is an authority acme here already"]);
    for nowhere in ["0.0.0.0:7117", "[::]:7117"] {
        let words = ["network", "create", "beta", "--addr", nowhere];
        assert_says(&home.unable(&words), &["nobody reaches this machine there"]);
    }
    let said = home.unable(&[
        "network",
        "create",
        "Acme",
        "--root-passphrase-file",
        &passphrase,
    ]);
    assert_says(&said, &["the name `Acme` cannot be used", "lower-case"]);
    assert_eq!(
        home.yes(&["network", "list"]).lines().count(),
        3,
        "one network"
    );
}

#[test]
fn a_person_confirms_a_new_network_at_the_terminal() {
    let hub = Hub::new("acme");
    let other = Home::new();
    let file = other.beside("acme.pem").display().to_string();
    hub.home.yes(&["network", "export", "acme", "--out", &file]);
    for (typed, code) in [("\n".to_owned(), 1), (format!("{}\n", hub.id), 0)] {
        let Some(terminal) = at_terminal(&other, &format!("comity network import {file}")) else {
            return;
        };
        terminal.wait_for("Its full id");
        terminal.write(typed.as_bytes());
        assert_eq!(terminal.finish().status.code(), Some(code), "{typed}");
    }
    assert_says(&other.yes(&["network", "list"]), &[&hub.id, "followed"]);
}

/// Copies a home with everything in it, as a backup does, or a thief.
fn copy_of(home: &Home) -> Home {
    let copy = Home::empty();
    let (from, to) = (home.path(), copy.path());
    let copied = std::process::Command::new("cp")
        .args(["-a", "--"])
        .args([&from, &to])
        .status();
    assert!(copied.expect("cp").success());
    copy
}

/// Two bundles of one network with the same sequence and different contents: what happens when two
/// have the key of its authority. Files with them, and the network's id.
fn fork(folder: &Home) -> (String, String, String) {
    let hub = Hub::new("acme");
    for label in ["one", "two"] {
        hub.member(label, &[]);
    }
    let sequence = |home: &Home| {
        let shown = home.json(&["network", "show", "acme"]);
        shown["bundle"]["sequence"].as_u64().expect("a number")
    };
    // Sequences follow the clock, unless they are ahead of it already: then the next is one more.
    let ahead = (0..200).any(|_| {
        hub.home.yes(&["ca", "refresh", "acme"]);
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a date");
        sequence(&hub.home) > now.as_secs() + 10
    });
    assert!(ahead, "200 changes took longer than 190 seconds");
    let thief = copy_of(&hub.home);
    hub.home.yes(&["network", "remove", "acme", "one"]);
    thief.yes(&["network", "remove", "acme", "two"]);
    assert_eq!(sequence(&hub.home), sequence(&thief));
    let export = |home: &Home, name: &str| {
        let path = folder.beside(name).display().to_string();
        home.yes(&["network", "export", "acme", "--out", &path]);
        path
    };
    (
        export(&hub.home, "ours.pem"),
        export(&thief, "theirs.pem"),
        hub.id,
    )
}

#[test]
fn bundles_that_contradict_each_other_freeze_the_network_until_a_person_decides() {
    let home = Home::new();
    let (ours, theirs, id) = fork(&home);
    home.yes(&["network", "import", &ours, "--confirm", &id, "--recognise"]);
    let said = home.no(&["network", "import", &theirs]);
    assert_says(
        &said,
        &["contradict each other", &format!("--confirm {id}")],
    );
    assert_says(
        &home.yes(&["network", "list"]),
        &["! frozen since", "somebody else has a key"],
    );
    let shown = home
        .run(&["network", "show", "acme"])
        .expect_success()
        .err();
    assert_says(
        &shown,
        &[&format!("comity network import FILE --confirm {id}")],
    );
    // Neither is taken without the id, and both are looked at.
    for file in [&ours, &theirs] {
        assert_says(
            &home.no(&["network", "import", file]),
            &["the one that counts"],
        );
    }
    home.yes(&["network", "import", &theirs, "--confirm", &id]);
    let shown = home.json(&["network", "show", "acme"]);
    assert!(shown["forked"].is_null(), "{shown}");
    assert_eq!(shown["standing"], "recognised");
    // What either of them withdrew stays withdrawn.
    let withdrawn = shown["bundle"]["withdrawn"].as_u64().expect("a number");
    assert_eq!(withdrawn % 2, 0, "{withdrawn}");
}
