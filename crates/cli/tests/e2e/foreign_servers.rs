//! `comity connect` dials programs that are not ours: OpenSSL, GnuTLS, stunnel, and ssh through it.

use comity_testkit::certificates::{Credential, Foreign};
use comity_testkit::foreign::ssh::SshServer;
use comity_testkit::foreign::tls::{
    Clients, PemFiles, gnutls_server, openssl_server, stunnel_server,
};
use comity_testkit::foreign::{Finished, Listening};
use tempfile::TempDir;

use crate::authorities::{expired, files, id_of, loopback};
use crate::backend::{self, Recorder};
use crate::home::{COMITY, Home, Pair, assert_says, expect_exit};

/// A client, and the certificate of the foreign server it knows by key.
struct Stage {
    client: Home,
    folder: TempDir,
    credential: Credential,
}

impl Stage {
    fn new() -> Self {
        Self::with(&loopback())
    }

    fn with(server: &Foreign) -> Self {
        Self {
            client: Home::new(),
            folder: TempDir::new().expect("a folder"),
            credential: server.self_signed(),
        }
    }

    fn files(&self) -> PemFiles {
        files(&self.folder, "server", &self.credential)
    }

    /// Certificate of the same names with another key.
    fn impostor(&self) -> PemFiles {
        files(&self.folder, "impostor", &loopback().self_signed())
    }

    /// Pins the server's key and dials it by label.
    fn connect(&self, server: &Listening, input: &[u8]) -> Finished {
        self.connect_with(server, input, &[])
    }

    fn connect_with(&self, server: &Listening, input: &[u8], flags: &[&str]) -> Finished {
        let address = server.address.to_string();
        // A second time the entry is there already.
        self.client
            .run(&["trust", "add", "foreign", &id_of(&self.credential)]);
        let args = ["connect", "foreign", "--addr", &address];
        self.client.talk(&[&args, flags].concat(), input)
    }
}

#[test]
fn openssl_accepts_our_chain_and_we_its_pinned_key() {
    let stage = Stage::new();
    let root = stage.client.root();
    let Some(server) = openssl_server(
        &stage.files(),
        Clients::IssuedBy(&root),
        &["-rev", "-Verify", "2"],
    ) else {
        return;
    };
    let finished = stage.connect(&server, b"olleh\n").expect_success();
    assert_eq!(finished.out(), "hello\n");
}

#[test]
fn an_openssl_server_that_wants_somebody_else_is_said_to_refuse_us() {
    let stage = Stage::new();
    let other = Home::new();
    let clients = Clients::IssuedBy(&other.root());
    let Some(server) = openssl_server(&stage.files(), clients, &["-rev"]) else {
        return;
    };
    let said = expect_exit(stage.connect(&server, b"olleh\n"), 1, &["connect"]).err();
    assert_says(&said, &["ended the TLS handshake (alert", "comity id"]);
}

#[test]
fn an_impostor_with_the_right_name_gets_neither_our_certificate_nor_a_byte() {
    let stage = Stage::new();
    let Some(server) = openssl_server(&stage.impostor(), Clients::Any, &[]) else {
        return;
    };
    let said = expect_exit(stage.connect(&server, b"secret\n"), 1, &["connect"]).err();
    assert_says(
        &said,
        &[
            "its key is not the one we know",
            "no data was sent",
            "comity trust replace foreign key:",
        ],
    );
    server.running.wait_for("ERROR");
    let seen = server.running.said();
    assert!(
        !seen.contains("Comity Nodes") && !seen.contains("secret"),
        "{seen}"
    );
}

#[test]
fn a_foreign_server_has_no_named_services() {
    let stage = Stage::new();
    let Some(server) = openssl_server(&stage.files(), Clients::Any, &["-rev"]) else {
        return;
    };
    stage
        .client
        .yes(&["trust", "add", "foreign", &id_of(&stage.credential)]);
    let args = [
        "connect",
        "foreign/db",
        "--addr",
        &server.address.to_string(),
    ];
    assert_says(
        &stage.client.unable(&args),
        &["is not a Comity node", "leave out the /SERVICE"],
    );
}

#[test]
fn a_pinned_server_certificate_that_expired_is_accepted_with_a_warning_and_no_other() {
    let stage = Stage::with(&expired(loopback()));
    let Some(server) = openssl_server(&stage.files(), Clients::Any, &["-rev"]) else {
        return;
    };
    let finished = stage.connect(&server, b"olleh\n").expect_success();
    assert_eq!(finished.out(), "hello\n");
    assert_says(
        &finished.err(),
        &["warning", "its pinned certificate expired at"],
    );
    let stranger = Home::new();
    let address = server.address.to_string();
    let said = stranger.no(&["connect", &address, "--trust", "tofu"]);
    assert_says(&said, &["expired", "no data was sent"]);
}

#[test]
fn first_use_of_a_foreign_server_pins_its_key() {
    let stage = Stage::new();
    let Some(server) = openssl_server(&stage.files(), Clients::Any, &["-rev"]) else {
        return;
    };
    let address = server.address.to_string();
    let args = ["connect", &address, "--as", "foreign", "--trust", "tofu"];
    stage.client.talk(&args, b"olleh\n").expect_success();
    let entry = &stage.client.json(&["trust", "show", "foreign"])[0];
    assert_eq!(entry["what"], id_of(&stage.credential));
    // The same key in another certificate is the same peer; the certificate as pin would not be.
    assert_says(
        &stage.client.yes(&["trust", "scan", &address]),
        &["a foreign peer", "localhost"],
    );
}

#[test]
fn a_server_without_tls_1_3_needs_a_word_of_the_operator() {
    let stage = Stage::new();
    let Some(server) = openssl_server(&stage.files(), Clients::Any, &["-rev", "-tls1_2"]) else {
        return;
    };
    let said = expect_exit(stage.connect(&server, b"olleh\n"), 1, &["connect"]).err();
    assert_says(&said, &["--tls12"]);
    let finished = stage
        .connect_with(&server, b"olleh\n", &["--tls12"])
        .expect_success();
    assert_eq!(finished.out(), "hello\n");
}

#[test]
fn a_protocol_of_theirs_can_be_offered() {
    let stage = Stage::new();
    let extra = ["-www", "-alpn", "http/1.1"];
    let Some(server) = openssl_server(&stage.files(), Clients::Any, &extra) else {
        return;
    };
    let request = b"GET / HTTP/1.0\r\n\r\n";
    let finished = stage
        .connect_with(&server, request, &["--alpn", "http/1.1"])
        .expect_success();
    assert_says(&finished.out(), &["HTTP/1.0 200 ok"]);
    let finished = stage
        .connect_with(&server, request, &["--alpn", "none"])
        .expect_success();
    assert_says(&finished.out(), &["HTTP/1.0 200 ok"]);
    // A server that insists on its own protocols refuses ours, and the hint says how to go on.
    let said = expect_exit(stage.connect(&server, request), 1, &["connect"]).err();
    assert_says(&said, &["it does not know `comity/1`", "--alpn none"]);
}

#[test]
fn a_service_without_tls_is_an_error_and_not_a_refusal() {
    let stage = Stage::new();
    let address = backend::greeter("220 this is mail\r\n").to_string();
    stage
        .client
        .unable(&["connect", &address, "--trust", "tofu"]);
}

#[test]
fn gnutls_accepts_our_chain_and_we_its_pinned_key() {
    let stage = Stage::new();
    let root = stage.client.root();
    let Some(server) = gnutls_server(&stage.files(), Clients::IssuedBy(&root), &[]) else {
        return;
    };
    let finished = stage.connect(&server, b"echo\n");
    assert_says(&finished.out(), &["echo\n"]);
}

#[test]
fn gnutls_servers_that_are_wrong_or_want_somebody_else_get_nothing() {
    let stage = Stage::new();
    let Some(impostor) = gnutls_server(&stage.impostor(), Clients::Any, &[]) else {
        return;
    };
    let finished = expect_exit(stage.connect(&impostor, b"secret\n"), 1, &["connect"]);
    assert_says(&finished.err(), &["its key is not the one we know"]);
    let other = Home::new();
    let strict =
        gnutls_server(&stage.files(), Clients::IssuedBy(&other.root()), &[]).expect("there");
    let finished = stage.connect(&strict, b"echo\n");
    assert_ne!(finished.status.code(), Some(0), "{}", finished.err());
    assert_eq!(finished.out(), "");
}

#[test]
fn stunnel_accepts_our_chain_and_we_its_pinned_key() {
    let stage = Stage::new();
    let (root, backend) = (stage.client.root(), backend::echo());
    let Some(server) = stunnel_server(backend, &stage.files(), Clients::IssuedBy(&root), &[])
    else {
        return;
    };
    let finished = stage.connect(&server, b"through stunnel").expect_success();
    assert_eq!(finished.out(), "through stunnel");
}

#[test]
fn stunnel_servers_that_are_wrong_or_want_somebody_else_get_nothing() {
    let stage = Stage::new();
    let recorder = Recorder::new();
    let Some(impostor) = stunnel_server(recorder.address, &stage.impostor(), Clients::Any, &[])
    else {
        return;
    };
    expect_exit(stage.connect(&impostor, b"secret"), 1, &["connect"]);
    let other = Home::new();
    let clients = Clients::IssuedBy(&other.root());
    let strict = stunnel_server(recorder.address, &stage.files(), clients, &[]);
    expect_exit(
        stage.connect(&strict.expect("there"), b"secret"),
        1,
        &["connect"],
    );
    recorder.assert_untouched();
}

#[test]
fn ssh_goes_through_connect_as_its_proxy_command() {
    let Some(sshd) = SshServer::start() else {
        return;
    };
    let pair = Pair::new(&[&format!("ssh={}", sshd.listening.address)], &["ssh"]);
    let proxy = |service: &str| {
        format!(
            "env COMITY_NO_TERMINAL=1 '{COMITY}' --home '{}' connect server/{service}",
            pair.client.path().display()
        )
    };
    let finished = sshd.ssh(Some(&proxy("ssh")), "cat; echo from afar", b"into ssh\n");
    assert_eq!(finished.expect_success().out(), "into ssh\nfrom afar\n");
    // A refusal is told through ssh, which shows what its proxy says.
    let finished = sshd.ssh(Some(&proxy("other")), "true", b"");
    assert!(!finished.status.success());
    assert_says(&finished.err(), &["(not-authorised)"]);
}
