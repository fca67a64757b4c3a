//! What every command has: help with examples, answers for programs, exit codes.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use comity_testkit::foreign::{Program, Running, run};
use serde_json::Value;

use crate::backend;
use crate::home::{COMITY, Home, Pair, assert_says, expect_exit, quoted_command};
use crate::live::wait_for_call;

/// Every command that does something.
const COMMANDS: &[&str] = &[
    "init",
    "id",
    "identity roll",
    "identity export",
    "identity revoke",
    "serve",
    "connect",
    "invite",
    "join",
    "verify",
    "trust list",
    "trust find",
    "trust show",
    "trust add",
    "trust remove",
    "trust replace",
    "trust revoke",
    "trust import",
    "trust follow",
    "trust rotate",
    "trust verify",
    "trust explain",
    "trust pending",
    "trust approve",
    "trust deny",
    "trust scan",
    "trust check",
    "ca init",
    "ca list",
    "ca show",
    "ca issued",
    "ca issue",
    "ca certify",
    "ca withdraw",
    "ca delegate",
    "ca roll-issuing",
    "ca roll-root",
    "ca revoke-key",
    "ca refresh",
    "ca bundle",
    "ca inspect",
    "network create",
    "network list",
    "network show",
    "network invite",
    "network join",
    "network members",
    "network remove",
    "network leave",
    "network refresh",
    "network import",
    "network export",
    "config show",
    "completions",
    "man",
    "--help",
];

#[test]
fn every_command_has_help_with_examples() {
    let home = Home::empty();
    for command in COMMANDS.iter().filter(|c| **c != "--help") {
        let mut args: Vec<&str> = command.split(' ').collect();
        args.push("--help");
        let help = home.yes(&args);
        assert_says(&help, &["Usage: comity", "Examples:", "  comity "]);
    }
    assert_says(
        &home.yes(&["--help"]),
        &["Exit codes: 0 done or yes; 1 the answer is no"],
    );
    assert_says(&home.yes(&["--version"]), &["comity "]);
}

#[test]
fn every_command_of_the_help_is_in_our_list() {
    let home = Home::empty();
    let listed = |args: &[&str], prefix: &str| -> Vec<String> {
        let help = home.yes(args);
        let (_, commands) = help.split_once("Commands:\n").expect("commands");
        let commands = commands.lines().take_while(|line| !line.is_empty());
        let names = commands.filter_map(|line| line.split_whitespace().next());
        names.map(|name| format!("{prefix}{name}")).collect()
    };
    let groups = ["identity", "ca", "network", "trust", "config"];
    let top = listed(&["--help"], "")
        .into_iter()
        .filter(|c| !groups.contains(&c.as_str()));
    let inner = groups
        .iter()
        .flat_map(|group| listed(&[group, "--help"], &format!("{group} ")));
    for command in top.chain(inner) {
        assert!(
            COMMANDS.contains(&command.as_str()),
            "{command} is not tested here"
        );
    }
}

#[test]
fn what_cannot_be_understood_exits_with_2_and_an_answered_no_with_1() {
    let home = Home::new();
    for args in [
        &["frobnicate"][..],
        &["trust"],
        &["trust", "add"],
        &["connect"],
        &["connect", "a b"],
        &["id", "--words", "--hex"],
        &["serve", "80", "--accept", "nonsense"],
        &["connect", "x", "--trust", "enroll"],
        &["verify", "somebody"],
        &["man", "/nowhere/at/all"],
    ] {
        home.unable(args);
    }
    for args in [
        &["connect", "somebody"][..],
        &["trust", "find", "somebody"],
        &["trust", "remove", "somebody"],
        &["trust", "verify", "somebody", "x"],
        &["verify", "--live", "somebody", "--listen", "127.0.0.1:0"],
    ] {
        home.no(args);
    }
}

#[test]
fn a_failure_is_json_too_with_reason_and_hints() {
    let home = Home::new();
    let finished = expect_exit(
        home.run(&["connect", "somebody", "--json"]),
        1,
        &["connect"],
    );
    let value: Value = serde_json::from_slice(&finished.stdout).expect("JSON");
    assert_eq!(value["ok"], false);
    assert_eq!(value["reason"], "unknown");
    assert!(value["message"].is_string() && value["details"].is_array());
    assert!(value["hints"][0].is_string());
    let nobody = backend::nobody().to_string();
    let finished = home.run(&["connect", &nobody, "--trust", "tofu", "--json"]);
    let value: Value = serde_json::from_slice(&finished.stdout).expect("JSON");
    assert_eq!(value["reason"], Value::Null);
}

#[test]
fn every_answer_for_programs_has_its_fields() {
    let home = Home::new();
    let peer = Home::new().id();
    let serving = home.serve(&[&backend::echo().to_string()]);
    let fields = |args: &[&str], names: &[&str]| {
        let value = home.json(args);
        let object = if value.is_array() {
            value[0].clone()
        } else {
            value
        };
        for name in names {
            assert!(
                object.get(name).is_some(),
                "{args:?} has no {name}: {object}"
            );
        }
    };
    fields(&["init"], &["id", "hex", "created", "home", "next"]);
    fields(&["id"], &["id", "hex", "words"]);
    fields(&["trust", "add", "db1", &peer], &["names", "what"]);
    let entry = [
        "line",
        "names",
        "side",
        "what",
        "words",
        "addresses",
        "services",
        "roles",
        "networks",
        "next",
        "origin",
        "added",
        "confirmed",
        "not_after",
        "seq",
        "successor",
        "forked",
        "state",
    ];
    fields(&["trust", "list"], &entry);
    fields(&["trust", "find", "db1"], &entry);
    fields(&["trust", "show", "db1"], &entry);
    fields(&["trust", "verify", "db1", &peer], &["same", "key", "how"]);
    fields(&["trust", "replace", "db1", &peer], &["peer", "key"]);
    fields(&["trust", "revoke", "db1"], &["revoked"]);
    fields(&["trust", "remove", "db1"], &entry);
    fields(&["trust", "check"], &["ok", "findings", "expiries"]);
    fields(&["config", "show"], &["name", "value", "source"]);
    let address = serving.address.to_string();
    fields(
        &["trust", "scan", &address],
        &[
            "address",
            "id",
            "words",
            "hex",
            "kind",
            "certificate",
            "not_before",
            "not_after",
            "names",
            "verified",
        ],
    );
    let offered = [
        "invitation",
        "id",
        "expires",
        "addresses",
        "services",
        "roles",
        "label",
    ];
    fields(
        &["invite", "--addr", &address, "--for", "default"],
        &offered,
    );
    let open = [
        "id", "state", "label", "services", "roles", "created", "expires", "used_by",
    ];
    fields(&["invite", "--list"], &open);
    let stranger = Home::new();
    stranger.no(&["connect", &address, "--trust", "tofu"]);
    let waiting = [
        "id",
        "words",
        "claimed_label",
        "service",
        "address",
        "first_seen",
        "last_seen",
        "count",
    ];
    fields(&["trust", "pending"], &waiting);
    let id = stranger.id();
    fields(
        &["trust", "approve", &id, "--as", "laptop"],
        &["label", "id", "services"],
    );
}

#[test]
fn a_server_answers_programs_with_its_address() {
    let home = Home::new();
    let target = backend::echo().to_string();
    let args = [
        "serve",
        &format!("echo={target}"),
        "--listen",
        "127.0.0.1:0",
        "--json",
    ];
    let serving = home.start(&args);
    let value: Value = serde_json::from_str(&serving.wait_for_line("{")).expect("one line");
    assert!(
        value["listening"]
            .as_str()
            .is_some_and(|a| a.starts_with("127.0.0.1:"))
    );
    assert_eq!(value["id"], home.id());
    assert_eq!(value["services"], serde_json::json!(["echo"]));
}

#[test]
fn a_local_port_is_announced_to_programs_in_one_line() {
    let pair = Pair::new(&[&backend::echo().to_string()], &["default"]);
    let args = ["connect", "server", "--listen", "127.0.0.1:0", "--json"];
    let forward = pair.client.start(&args);
    let value: Value = serde_json::from_str(&forward.wait_for_line("{")).expect("one line");
    assert_eq!(value["peer"], "server");
}

#[test]
fn a_failure_after_data_is_told_to_programs_on_standard_error() {
    let pair = Pair::new(&[&backend::greeter("data").to_string()], &["default"]);
    let full = format!(
        "exec {COMITY} --home {} connect server --json >/dev/full",
        pair.client.path().display()
    );
    let finished = run(Command::new("sh").args(["-c", &full]), b"");
    assert_eq!(finished.status.code(), Some(2), "{}", finished.err());
    assert_says(&finished.err(), &["\"ok\": false"]);
}

#[test]
fn an_answer_that_cannot_be_written_was_not_given() {
    let home = Home::new();
    let to_full = |args: &str| {
        let line = format!(
            "exec {COMITY} --home {} {args} >/dev/full",
            home.path().display()
        );
        run(Command::new("sh").args(["-c", &line]), b"")
    };
    for args in [
        "id",
        "id --json",
        "id --qr",
        "trust list --json",
        "completions bash",
        "man",
        "--help",
        "--version",
    ] {
        let finished = to_full(args);
        assert_eq!(
            finished.status.code(),
            Some(2),
            "{args}: {}",
            finished.err()
        );
    }
    let finished = to_full("invite --addr host.example:7117");
    assert_eq!(finished.status.code(), Some(2), "{}", finished.err());
    let said = finished.err();
    assert!(!said.contains("COMITY-INVITE-"), "{said}");
    let withdraw = quoted_command(&said, "withdraw it");
    home.paste(withdraw).expect_success();
    assert_eq!(home.json(&["invite", "--list"]), serde_json::json!([]));
}

#[test]
fn config_show_says_where_each_setting_comes_from() {
    let home = Home::new();
    let config =
        "name = \"web1\"\n\n[dial]\ntrust = \"pin\"\n\n[serve]\nlisten = \"127.0.0.1:9\"\n";
    fs::write(home.path().join("config.toml"), config).expect("written");
    let mut command = home.command(&["config", "show", "--json"]);
    command.env("COMITY_ACCEPT", "invite");
    let finished = run(&mut command, b"").expect_success();
    let rows: Value = serde_json::from_slice(&finished.stdout).expect("JSON");
    let row = |name: &str| {
        let row = rows
            .as_array()
            .expect("rows")
            .iter()
            .find(|row| row["name"] == name);
        let row = row.unwrap_or_else(|| panic!("no {name} in {rows}"));
        format!("{} {}", row["value"], row["source"]).replace('"', "")
    };
    let file = home.path().join("config.toml").display().to_string();
    assert_eq!(row("home"), format!("{} --home", home.path().display()));
    assert_eq!(row("name"), format!("web1 {file}:1"));
    assert_eq!(row("dial.trust"), format!("pin {file}:4"));
    assert_eq!(row("serve.listen"), format!("127.0.0.1:9 {file}:7"));
    assert_eq!(row("serve.accept"), "invite environment COMITY_ACCEPT");
    assert_says(
        &home.yes(&["config", "show"]),
        &["dial.trust", "pin", "config.toml:4"],
    );
}

#[test]
fn config_show_falls_back_to_defaults_only_where_there_is_no_home() {
    let none = Home::empty();
    assert_says(
        &none.yes(&["config", "show"]),
        &["config.toml", "not there"],
    );
    let home = Home::new();
    assert_says(&home.yes(&["config", "show"]), &["not there"]);
    fs::write(home.path().join("config.toml"), "").expect("written");
    let shown = home.yes(&["config", "show"]);
    assert!(!shown.contains("not there"), "{shown}");
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).expect("set");
    assert_says(&home.unable(&["config", "show"]), &["chmod"]);
}

#[test]
fn an_empty_variable_counts_as_unset_and_a_switch_may_be_off() {
    let home = Home::new();
    let mut command = home.command(&["config", "show", "--json"]);
    for name in [
        "COMITY_HOME",
        "COMITY_TRUST",
        "COMITY_ACCEPT",
        "COMITY_LISTEN",
        "COMITY_PASSPHRASE_FILE",
        "COMITY_LOG",
        "COMITY_LOG_JSON",
    ] {
        command.env(name, "");
    }
    let finished = run(&mut command, b"").expect_success();
    assert_eq!(finished.err(), "");
    assert!(
        !finished.out().contains("environment"),
        "{}",
        finished.out()
    );
    for (command, variable) in [
        (&["connect", "x"][..], "COMITY_TRUST"),
        (&["serve", "1", "--listen", "256.0.0.1:1"], "COMITY_ACCEPT"),
    ] {
        let mut command = home.command(command);
        let said = run(command.env(variable, ""), b"").err();
        assert!(!said.contains("a value is required"), "{said}");
        assert!(!said.contains("no such trust mode"), "{said}");
    }
}

#[test]
fn logs_are_json_when_the_environment_says_so_and_a_bad_filter_is_said() {
    let home = Home::new();
    let start = |name: &str, value: &str| {
        let args = ["serve", "1", "--listen", "127.0.0.1:0"];
        let serving = Running::start(home.command(&args).env(name, value));
        serving.wait_for("listening on ");
        let address = serving.wait_for_line("listening on ");
        let address = address.rsplit(' ').next().expect("an address").to_owned();
        // Whoever speaks no TLS is worth a line.
        drop(Home::new().run(&["connect", &address, "--trust", "tofu"]));
        serving
    };
    for (value, json) in [("1", true), ("true", true), ("0", false), ("false", false)] {
        let serving = start("COMITY_LOG_JSON", value);
        serving.wait_for("waits for approval");
        assert_eq!(serving.said().contains("{\"timestamp\""), json, "{value}");
    }
    let serving = start("COMITY_LOG", "comity_tls=loudly");
    assert_says(
        &serving.said(),
        &["COMITY_LOG=comity_tls=loudly is ignored"],
    );
    serving.wait_for("waits for approval");
}

#[test]
fn a_configuration_with_a_typo_stops_everything_and_names_the_line() {
    let home = Home::new();
    fs::write(home.path().join("config.toml"), "[serve]\nlissen = \"x\"\n").expect("written");
    for args in [&["serve", "80"][..], &["config", "show"], &["connect", "x"]] {
        assert_says(&home.unable(args), &["config.toml:2", "lissen"]);
    }
}

#[test]
fn the_environment_names_the_home() {
    let home = Home::new();
    let mut command = Command::new(crate::home::COMITY);
    command
        .env_clear()
        .env("COMITY_HOME", home.path())
        .arg("id");
    assert_eq!(
        run(&mut command, b"").expect_success().out().trim(),
        home.id()
    );
    let mut command = Command::new(crate::home::COMITY);
    command
        .env_clear()
        .env("XDG_STATE_HOME", home.folder())
        .env("HOME", "/")
        .arg("id");
    let said = expect_exit(run(&mut command, b""), 2, &["id"]).err();
    let expected = home.beside("comity").display().to_string();
    assert_says(&said, &[&expected, "comity init"]);
}

#[test]
fn completions_are_valid_for_their_shells() {
    let home = Home::empty();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.yes(&["completions", shell]);
        assert_says(&script, &["comity", "approve"]);
    }
    let script = home.yes(&["completions", "bash"]);
    if let Some(bash) = Program::find("bash") {
        run(bash.command().arg("-n"), script.as_bytes()).expect_success();
    }
    home.unable(&["completions", "csh"]);
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let home = Home::empty();
    let folder = home.beside("man1");
    fs::create_dir(&folder).expect("made");
    home.yes(&["man", &folder.display().to_string()]);
    for command in COMMANDS.iter().filter(|c| **c != "--help") {
        let page = folder.join(format!("comity-{}.1", command.replace(' ', "-")));
        let text = fs::read_to_string(&page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
        assert_says(&text, &[".TH", "Examples"]);
    }
    assert_says(&home.yes(&["man"]), &[".TH comity 1"]);
}

#[test]
fn a_reader_that_goes_away_is_a_normal_end() {
    let home = Home::new();
    for n in 0..3 {
        home.yes(&["trust", "revoke", &format!("key:{n:064x}")]);
    }
    let command = format!(
        "{} --home {} trust list | true",
        crate::home::COMITY,
        home.path().display()
    );
    let finished = run(
        Command::new("bash").args(["-o", "pipefail", "-c", &command]),
        b"",
    );
    assert_eq!(finished.err(), "");
    finished.expect_success();
}

/// Runs `comity ARGS` with a standard output that nobody reads. Gives its exit code.
fn exit_unread(home: &Home, args: &[&str], input: &[u8]) -> Option<i32> {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = home.command(args);
    let command = command.stdin(Stdio::piped()).stdout(writer);
    let mut child = command.stderr(Stdio::null()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A command that asks nothing may have ended already.
    drop(stdin.write_all(input));
    drop(stdin);
    child.wait().expect("a child of ours").code()
}

#[test]
fn a_refusal_that_nobody_reads_is_a_refusal() {
    let home = Home::new();
    for (args, code) in [
        (&["--json", "trust", "list"][..], 0),
        (&["id"], 0),
        (&["man"], 0),
        (&["--json", "trust", "show", "nobody"], 1),
        (&["--json", "trust", "find", "nobody"], 1),
        (&["--json", "connect", "nobody"], 1),
        (&["--json", "connect", "a b"], 2),
    ] {
        assert_eq!(exit_unread(&home, args, b""), Some(code), "{args:?}");
    }
}

#[test]
fn words_that_differ_are_a_no_to_a_reader_that_went_away() {
    let pair = Pair::new(&[&backend::echo().to_string()], &["default"]);
    for (word, code) in [("no\n", 1), ("yes\n", 0)] {
        let (waiting, address) = wait_for_call(&pair.server, "client");
        waiting.write(b"yes\n");
        let address = address.to_string();
        let args = ["verify", "--live", "server", "--addr", &address];
        let ended = exit_unread(&pair.client, &args, word.as_bytes());
        assert_eq!(ended, Some(code), "{word}");
        assert_eq!(waiting.finish().status.code(), Some(code), "{word}");
    }
}
