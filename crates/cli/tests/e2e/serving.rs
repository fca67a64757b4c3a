//! `comity serve` and `comity connect`: the main job.

use comity_testkit::foreign::{Listening, Program, Running};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::backend::{self, Recorder};
use crate::home::{COMITY, Home, Pair, assert_says, expect_exit, quoted_command};

#[test]
fn a_service_is_reached_by_invitation_and_a_third_node_is_refused_and_told_why() {
    let echo = backend::echo().to_string();
    let pair = Pair::new(&[&format!("echo={echo}")], &["echo"]);
    let finished = pair.connect("server/echo", b"hello").expect_success();
    assert_eq!(finished.out(), "hello");
    assert_eq!(finished.err(), "", "a connection that works says nothing");

    let third = Home::new();
    let address = pair.serving.address.to_string();
    let peer = format!("{address}/echo");
    let finished = third.talk(&["connect", &peer, "--trust", "tofu"], b"let me in");
    let finished = expect_exit(finished, 1, &["connect"]);
    assert_eq!(finished.out(), "");
    assert_says(
        &finished.err(),
        &[
            "refused us",
            "wait for approval",
            "(pending)",
            "comity trust approve",
        ],
    );
    let waiting = pair.server.json(&["trust", "pending"]);
    assert_eq!(waiting[0]["id"], third.id());
    assert_eq!(waiting[0]["service"], "echo");
}

#[test]
fn several_services_share_a_port_and_each_is_granted_for_itself() {
    let [db, web, plain] = ["db\n", "web\n", "default\n"].map(backend::greeter);
    let targets = [format!("db={db}"), format!("web={web}"), plain.to_string()];
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let pair = Pair::new(&targets, &["db", "default"]);
    assert_eq!(
        pair.connect("server/db", b"").expect_success().out(),
        "db\n"
    );
    assert_eq!(
        pair.connect("server", b"").expect_success().out(),
        "default\n"
    );
    assert_eq!(
        pair.connect("server/default", b"").expect_success().out(),
        "default\n"
    );
    // A stranger's question which services exist gets one answer, there or not.
    for service in ["web", "nothing"] {
        let peer = format!("server/{service}");
        let said = expect_exit(pair.connect(&peer, b""), 1, &[&peer]).err();
        assert_says(&said, &["no such service, or not for us (not-authorised)"]);
    }
    pair.serving.running.wait_for("reason=\"no-such-service\"");
}

#[test]
fn allow_admits_by_label_by_id_and_by_network_and_role() {
    let [label, id, member, operator] = ["l", "i", "m", "o"].map(backend::greeter);
    let (server, client) = (Home::new(), Home::new());
    let client_id = client.id();
    let entry = [
        "trust",
        "add",
        "laptop",
        &client_id,
        "--network",
        "corp",
        "--role",
        "reader",
    ];
    server.yes(&entry);
    let targets = [
        format!("label={label}"),
        format!("id={id}"),
        format!("member={member}"),
        format!("operator={operator}"),
    ];
    let allow_id = format!("id={client_id}");
    let mut args: Vec<&str> = targets.iter().map(String::as_str).collect();
    for allow in [
        "label=laptop",
        &allow_id,
        "member=corp",
        "operator=corp/operator",
    ] {
        args.extend(["--allow", allow]);
    }
    let serving = server.serve(&args);
    client.yes(&[
        "trust",
        "add",
        "server",
        &server.id(),
        "--addr",
        &serving.address.to_string(),
    ]);
    for (service, greeting) in [("label", "l"), ("id", "i"), ("member", "m")] {
        let peer = format!("server/{service}");
        assert_eq!(client.yes(&["connect", &peer]), greeting, "{service}");
    }
    let said = client.no(&["connect", "server/operator"]);
    assert_says(&said, &["(not-authorised)"]);
    // The operator sees the exact reason, which would tell a stranger too much.
    serving.running.wait_for("reason=\"wrong-role\"");
}

#[test]
fn an_allowed_id_that_is_not_known_waits_for_approval_and_serve_says_so() {
    let (server, client) = (Home::new(), Home::new());
    let id = client.id();
    let greeter = backend::greeter("in").to_string();
    let serving = server.serve(&[&greeter, "--allow", &format!("default={id}")]);
    client.yes(&[
        "trust",
        "add",
        "server",
        &server.id(),
        "--addr",
        &serving.address.to_string(),
    ]);
    assert_says(&client.no(&["connect", "server"]), &["(pending)"]);
    let said = serving.running.said();
    assert_says(&said, &["this id is not known here yet"]);
    let remedy = quoted_command(&said, "not known here yet").replace("LABEL", "laptop");
    server.paste(&remedy).expect_success();
    assert_eq!(client.yes(&["connect", "server"]), "in");
}

#[test]
fn a_network_alone_never_opens_a_service_without_allow() {
    let recorder = Recorder::new();
    let (server, client) = (Home::new(), Home::new());
    server.yes(&["trust", "add", "laptop", &client.id(), "--network", "corp"]);
    let serving = server.serve(&[&recorder.address.to_string()]);
    client.yes(&[
        "trust",
        "add",
        "server",
        &server.id(),
        "--addr",
        &serving.address.to_string(),
    ]);
    let said = expect_exit(client.talk(&["connect", "server"], b"let me in"), 1, &[]).err();
    assert_says(&said, &["(not-authorised)"]);
    recorder.assert_untouched();
}

#[test]
fn a_backend_that_is_down_is_a_refusal_with_a_reason() {
    let down = backend::nobody().to_string();
    let pair = Pair::new(&[&down], &["default"]);
    let said = expect_exit(pair.connect("server", b"anyone?"), 1, &[]).err();
    assert_says(&said, &["busy, or the service behind it is down (busy)"]);
    pair.serving.running.wait_for("the backend is not there");
}

#[test]
fn the_backend_learns_address_and_attested_identity_through_a_proxy_header() {
    let recorder = Recorder::new();
    let target = recorder.address.to_string();
    let (server, client) = (Home::new(), Home::new());
    let id = client.id();
    let grants = ["--for", "default", "--network", "corp", "--role", "reader"];
    server.yes(&[&["trust", "add", "laptop", &id][..], &grants].concat());
    let serving = server.serve(&[&target, "--proxy-protocol", "v2"]);
    client.yes(&[
        "trust",
        "add",
        "server",
        &server.id(),
        "--addr",
        &serving.address.to_string(),
    ]);
    client
        .talk(&["connect", "server"], b"payload")
        .expect_success();
    let received = recorder.next();
    let (header, payload) = parse_proxy_header(&received);
    assert_eq!(payload, b"payload");
    assert_eq!(header.command, 0x21);
    assert_eq!(header.family, 0x11);
    assert_eq!(header.addresses[..8], [127, 0, 0, 1, 127, 0, 0, 1]);
    assert_eq!(header.addresses[10..], serving.address.port().to_be_bytes());
    let field = |kind| {
        header
            .fields
            .iter()
            .find(|(k, _)| *k == kind)
            .map(|(_, v)| v.as_slice())
    };
    assert_eq!(field(0xe0), Some(id.as_bytes()));
    assert_eq!(field(0xe1), Some(&b"laptop"[..]));
    assert_eq!(field(0xe2), Some(&b"corp"[..]));
    assert_eq!(field(0xe3), Some(&b"corp/reader"[..]));
    assert!(field(0x20).is_some(), "a certificate was presented");
}

/// A header of the PROXY protocol version 2, read by the letter of its specification.
struct ProxyHeader {
    command: u8,
    family: u8,
    addresses: [u8; 12],
    fields: Vec<(u8, Vec<u8>)>,
}

fn parse_proxy_header(bytes: &[u8]) -> (ProxyHeader, &[u8]) {
    let length = |at: &[u8]| usize::from(u16::from_be_bytes([at[0], at[1]]));
    assert_eq!(bytes[..12], *b"\r\n\r\n\0\r\nQUIT\n");
    let (content, payload) = bytes[16..].split_at(length(&bytes[14..]));
    let (addresses, mut rest) = content.split_at(12);
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (value, after) = rest[3..].split_at(length(&rest[1..]));
        fields.push((rest[0], value.to_vec()));
        rest = after;
    }
    let header = ProxyHeader {
        command: bytes[12],
        family: bytes[13],
        addresses: addresses.try_into().expect("two IPv4 addresses and ports"),
        fields,
    };
    (header, payload)
}

#[test]
fn a_peer_is_reached_by_id_by_another_address_and_by_a_label_of_ones_own() {
    let greeter = backend::greeter("here").to_string();
    let (server, client) = (Home::new(), Home::new());
    server.yes(&["trust", "add", "client", &client.id(), "--for", "default"]);
    let serving = server.serve(&[&greeter]);
    let (id, address) = (server.id(), serving.address.to_string());
    // By id alone nobody says where; with --addr the id still decides who is accepted.
    assert_says(
        &client.unable(&["connect", &id]),
        &["no address", "--addr HOST:PORT"],
    );
    assert_eq!(client.yes(&["connect", &id, "--addr", &address]), "here");
    let other = Home::new();
    let said = client.no(&["connect", &other.id(), "--addr", &address]);
    assert_says(
        &said,
        &[
            "its key is not the one that was asked for",
            &other.id(),
            &id,
            "no data was sent",
        ],
    );
    // First contact by address, remembered under a label of our own: the label suffices later.
    client.yes(&["connect", &address, "--as", "mine", "--trust", "tofu"]);
    assert_eq!(client.yes(&["connect", "mine"]), "here");
    let down = backend::nobody().to_string();
    let said = client.unable(&["connect", "mine", "--addr", &down]);
    assert_says(&said, &["cannot reach", &down]);
}

#[test]
fn a_label_is_never_given_to_a_second_peer() {
    let greeter = backend::greeter("here").to_string();
    let client = Home::new();
    let homes = [Home::new(), Home::new()];
    let [first, second] = homes.each_ref().map(|home| {
        home.yes(&["trust", "add", "client", &client.id(), "--for", "default"]);
        home.serve(&[&greeter])
    });
    client.yes(&[
        "connect",
        &first.address.to_string(),
        "--as",
        "mine",
        "--trust",
        "tofu",
    ]);
    let args = [
        "connect",
        &second.address.to_string(),
        "--as",
        "mine",
        "--trust",
        "tofu",
    ];
    let said = client.no(&args);
    assert_says(
        &said,
        &[
            "its key is not the one we know",
            &homes[0].id(),
            &homes[1].id(),
        ],
    );
    assert_eq!(client.yes(&["connect", "mine"]), "here");
}

#[test]
fn an_unknown_label_suggests_the_nearest_and_a_host_its_port() {
    let client = Home::new();
    client.yes(&["trust", "add", "database", &Home::new().id()]);
    assert_says(
        &client.no(&["connect", "databse"]),
        &["did you mean database?"],
    );
    assert_says(
        &client.no(&["connect", "gitlab"]),
        &["if it is a host, write gitlab:7117"],
    );
}

#[test]
fn sigterm_sigint_and_sighup_end_a_server_cleanly_and_let_open_connections_finish() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let echo = backend::echo().to_string();
        let pair = Pair::new(&[&echo], &["default"]);
        let open = pair.client.start(&["connect", "server"]);
        open.write(b"before\n");
        open.wait_for("before");
        send(&pair.serving.running, signal);
        // The port is closed first: whoever comes now is told by the system.
        pair.serving.running.wait_for("stopping open=1");
        assert!(std::net::TcpStream::connect(pair.serving.address).is_err());
        open.write(b"after\n");
        open.wait_for("after");
        open.finish().expect_success();
        let Pair {
            serving: Listening { running, .. },
            ..
        } = pair;
        let finished = running.finish().expect_success();
        assert_says(&finished.err(), &["stopped"]);
    }
}

#[test]
fn a_connection_that_never_ends_does_not_keep_a_server_from_stopping() {
    let pair = Pair::new(&[&backend::echo().to_string()], &["default"]);
    let open = pair.client.start(&["connect", "server"]);
    open.write(b"for ever\n");
    open.wait_for("for ever");
    let Pair {
        serving: Listening { running, .. },
        ..
    } = pair;
    send(&running, Signal::SIGTERM);
    running.finish().expect_success();
    open.finish();
}

#[test]
fn a_server_under_nohup_outlives_its_terminal() {
    let Some(nohup) = Program::find("nohup") else {
        return;
    };
    let home = Home::new();
    let mut command = nohup.command();
    command.arg(COMITY).arg("--home").arg(home.path()).args([
        "serve",
        "1",
        "--listen",
        "127.0.0.1:0",
    ]);
    let serving = Listening::start_on_its_own_port(&mut command, b"", "listening on ");
    send(&serving.running, Signal::SIGHUP);
    // Answered by a server that has had every chance to end.
    let stranger = Home::new();
    for _ in 0..3 {
        stranger.yes(&["trust", "scan", &serving.address.to_string()]);
    }
    send(&serving.running, Signal::SIGTERM);
    serving.running.finish().expect_success();
}

#[test]
fn a_name_before_a_colon_is_said_to_be_read_as_a_host() {
    let home = Home::new();
    let serving = home.serve(&["nobody-has-this-name:5432", "other=localhost:5432"]);
    serving
        .running
        .wait_for("for a service called nobody-has-this-name write nobody-has-this-name=5432");
    let said = serving.running.said();
    assert!(!said.contains("service called localhost"), "{said}");
}

#[test]
fn a_server_listens_at_a_name() {
    let home = Home::new();
    let serving = home.start(&["serve", "1", "--listen", "localhost:0"]);
    let line = serving.wait_for_line("listening on ");
    let address = line.rsplit(' ').next().expect("an address");
    let address: std::net::SocketAddr = address.parse().expect("an address");
    assert!(address.ip().is_loopback(), "{address}");
}

/// Sends a signal to a program of ours.
pub(crate) fn send(running: &Running, signal: Signal) {
    let id = i32::try_from(running.id()).expect("a process id");
    kill(Pid::from_raw(id), signal).expect("our own child");
}

#[test]
fn a_configuration_file_replaces_the_flags() {
    let [db, web] = ["db", "web"].map(backend::greeter);
    let (server, client) = (Home::new(), Home::new());
    let id = client.id();
    let config = format!(
        "[serve]\nlisten = \"127.0.0.1:0\"\nservices = {{ db = \"{db}\", web = \"{web}\" }}\n\
         allow = {{ db = [\"{id}\"] }}\n"
    );
    std::fs::write(server.path().join("config.toml"), config).expect("written");
    server.yes(&["trust", "add", "client", &id]);
    let serving =
        Listening::start_on_its_own_port(&mut server.command(&["serve"]), b"", "listening on ");
    client.yes(&[
        "trust",
        "add",
        "server",
        &server.id(),
        "--addr",
        &serving.address.to_string(),
    ]);
    assert_eq!(client.yes(&["connect", "server/db"]), "db");
    assert_says(
        &client.no(&["connect", "server/web"]),
        &["(not-authorised)"],
    );
}

#[test]
fn what_cannot_be_served_is_refused_before_listening() {
    let home = Home::new();
    for (args, said) in [
        (&["serve"][..], "there is no service to serve"),
        (&["serve", "80", "81"], "two services are called `default`"),
        (&["serve", "nonsense"], "`nonsense` is no target"),
        (
            &["serve", "80", "--allow", "db=x"],
            "there is no service `db`",
        ),
        (
            &["serve", "80", "--listen", "localhost"],
            "`localhost` is no address to listen on",
        ),
        (&["serve", "80", "--accept", "insecure"], "--i-mean-it"),
        (
            &["serve", "80", "--accept", "ca-then-pin-x"],
            "ca-then-pin-x",
        ),
    ] {
        assert_says(&home.unable(args), &[said]);
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let said = home.unable(&["serve", "80", "--listen", &address]);
    assert_says(&said, &["cannot listen on", "another program has the port"]);
}

#[test]
fn a_local_port_says_at_once_when_the_peer_would_refuse() {
    let echo = backend::echo().to_string();
    let pair = Pair::new(&[&echo], &[]);
    let said = pair
        .client
        .no(&["connect", "server", "--listen", "127.0.0.1:0"]);
    assert_says(&said, &["(not-authorised)"]);
    assert_says(
        &pair
            .client
            .no(&["connect", "server", "--listen", "unix:/nowhere/x"]),
        &["(not-authorised)"],
    );
}
