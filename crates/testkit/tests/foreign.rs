//! The helpers for foreign programs, tried with one foreign program against another: what fails
//! here is the helper, not Comity.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use comity_testkit::foreign::ssh::SshServer;
use comity_testkit::foreign::tls::{
    Clients, PemFiles, curl, gnutls_client, gnutls_server, openssl_client, openssl_server,
    stunnel_client, stunnel_server, write_certificates,
};
use comity_testkit::foreign::{Listening, Program, Running, run};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

/// Two certification authorities, of which only the first is trusted, and what they issued.
struct World {
    folder: TempDir,
    anchors: PathBuf,
    server: PemFiles,
    client: PemFiles,
    stranger: PemFiles,
}

impl World {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let (ours, theirs) = (Authority::new(), Authority::new());
        let anchors = write_certificates(&folder.path().join("anchors.pem"), &[ours.der()]);
        Self {
            anchors,
            server: ours.issue(folder.path(), "server"),
            client: ours.issue(folder.path(), "client"),
            stranger: theirs.issue(folder.path(), "stranger"),
            folder,
        }
    }
}

struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        // Both have one name: only the key tells them apart.
        let mut params = params("authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).expect("a certificate");
        let issuer = Issuer::new(params, key);
        Self {
            certificate,
            issuer,
        }
    }

    fn der(&self) -> Vec<u8> {
        self.certificate.der().to_vec()
    }

    /// A leaf for loopback that serves and dials, with its issuer behind it.
    fn issue(&self, folder: &Path, name: &str) -> PemFiles {
        let key = KeyPair::generate().expect("a key");
        let mut params = params(name);
        params.subject_alt_names = ["localhost", "127.0.0.1"]
            .map(|name| match name.parse() {
                Ok(ip) => rcgen::SanType::IpAddress(ip),
                Err(_) => rcgen::SanType::DnsName(name.try_into().expect("ascii")),
            })
            .into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let leaf = params.signed_by(&key, &self.issuer).expect("a leaf");
        let chain = [leaf.der().to_vec(), self.der()];
        PemFiles::write(folder, name, &chain, &key.serialize_der())
    }
}

/// Foreign programs look at the real clock: a hundred years from the day of the other tests.
fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 3, 1);
    params.not_after = date_time_ymd(2126, 3, 1);
    params
}

/// A server that sends back what it receives, one connection after another, until the test ends.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut back = stream.try_clone().expect("a second handle");
            std::thread::spawn(move || std::io::copy(&mut stream, &mut back));
        }
    });
    address
}

/// Sends a line over plain TCP and gives what came back until the other side closed.
fn converse(address: SocketAddr, line: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.write_all(line.as_bytes()).expect("sent");
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("half-closed");
    let mut answer = String::new();
    // A refused tunnel resets the connection: the answer stays empty.
    drop(stream.read_to_string(&mut answer));
    answer
}

#[test]
fn openssl_talks_to_openssl_with_certificates_on_both_sides() {
    let world = World::new();
    let Some(server) = openssl_server(&world.server, Clients::IssuedBy(&world.anchors), &["-rev"])
    else {
        return;
    };
    let client = openssl_client(
        server.address,
        Some(&world.client),
        Some(&world.anchors),
        &["-tls1_3"],
    )
    .expect("openssl is there");
    client.wait_for("Verification: OK");
    client.write(b"olleh\n");
    client.wait_for("hello\n");
}

#[test]
fn an_openssl_server_sends_what_is_written_to_it() {
    let world = World::new();
    let Some(server) = openssl_server(&world.server, Clients::Any, &[]) else {
        return;
    };
    let client =
        openssl_client(server.address, Some(&world.stranger), None, &[]).expect("openssl is there");
    client.write(b"from the client\n");
    server.running.wait_for("from the client\n");
    server.running.write(b"from the server\n");
    client.wait_for("from the server\n");
}

#[test]
fn an_openssl_server_refuses_strangers_and_the_nameless() {
    let world = World::new();
    for credentials in [Some(&world.stranger), None] {
        let clients = Clients::IssuedBy(&world.anchors);
        let Some(server) = openssl_server(&world.server, clients, &["-rev"]) else {
            return;
        };
        let client = openssl_client(server.address, credentials, Some(&world.anchors), &[])
            .expect("openssl is there");
        client.write(b"olleh\n");
        client.wait_for("alert");
        assert!(!client.said().contains("hello"));
    }
}

#[test]
fn an_openssl_client_refuses_a_server_it_does_not_trust() {
    let world = World::new();
    let Some(server) = openssl_server(&world.stranger, Clients::Anonymous, &["-rev"]) else {
        return;
    };
    let client =
        openssl_client(server.address, None, Some(&world.anchors), &[]).expect("openssl is there");
    assert!(!client.finish().status.success());
}

#[test]
fn gnutls_talks_to_gnutls_with_certificates_on_both_sides() {
    let world = World::new();
    let clients = Clients::IssuedBy(&world.anchors);
    let Some(server) = gnutls_server(&world.server, clients, &[]) else {
        return;
    };
    let client = gnutls_client(
        server.address,
        Some(&world.client),
        Some(&world.anchors),
        &["--priority=NORMAL:-VERS-ALL:+VERS-TLS1.3"],
    )
    .expect("gnutls is there");
    client.wait_for("Handshake was completed");
    client.write(b"hello\n");
    client.wait_for("\nhello\n");
    assert!(client.finish().status.success());
}

#[test]
fn a_gnutls_server_refuses_strangers_and_the_nameless() {
    let world = World::new();
    let clients = Clients::IssuedBy(&world.anchors);
    let Some(server) = gnutls_server(&world.server, clients, &[]) else {
        return;
    };
    for credentials in [Some(&world.stranger), None] {
        let client = gnutls_client(server.address, credentials, Some(&world.anchors), &[])
            .expect("gnutls is there");
        client.write(b"hello\n");
        let finished = client.finish();
        assert!(!finished.status.success(), "{}", finished.out());
        assert!(!finished.out().contains("\nhello\n"));
    }
}

#[test]
fn a_gnutls_client_refuses_a_server_it_does_not_trust() {
    let world = World::new();
    let Some(server) = gnutls_server(&world.stranger, Clients::Anonymous, &[]) else {
        return;
    };
    let client =
        gnutls_client(server.address, None, Some(&world.anchors), &[]).expect("gnutls is there");
    assert!(!client.finish().status.success());
}

#[test]
fn openssl_and_gnutls_talk_to_each_other() {
    let world = World::new();
    let clients = Clients::IssuedBy(&world.anchors);
    let Some(gnutls) = gnutls_server(&world.server, clients, &[]) else {
        return;
    };
    let client = openssl_client(
        gnutls.address,
        Some(&world.client),
        Some(&world.anchors),
        &[],
    )
    .expect("openssl is there");
    client.write(b"hello\n");
    client.wait_for("hello\n");

    let openssl = openssl_server(&world.server, clients, &["-rev"]).expect("openssl is there");
    let client = gnutls_client(
        openssl.address,
        Some(&world.client),
        Some(&world.anchors),
        &[],
    )
    .expect("gnutls is there");
    client.write(b"olleh\n");
    client.wait_for("\nhello\n");
}

#[test]
fn two_stunnels_carry_a_plain_connection() {
    let world = World::new();
    let clients = Clients::IssuedBy(&world.anchors);
    let Some(server) = stunnel_server(echo(), &world.server, clients, &[]) else {
        return;
    };
    for (credentials, answer) in [
        (Some(&world.client), "hello"),
        (Some(&world.stranger), ""),
        (None, ""),
    ] {
        let client = stunnel_client(
            server.address,
            credentials,
            Some(&world.anchors),
            &["checkHost = localhost"],
        )
        .expect("stunnel is there");
        assert_eq!(converse(client.address, "hello"), answer);
    }
}

#[test]
fn a_stunnel_that_asks_for_any_certificate_refuses_none() {
    let world = World::new();
    let Some(server) = stunnel_server(echo(), &world.server, Clients::Any, &[]) else {
        return;
    };
    for (credentials, answer) in [(Some(&world.stranger), "hello"), (None, "")] {
        let client =
            stunnel_client(server.address, credentials, None, &[]).expect("stunnel is there");
        assert_eq!(converse(client.address, "hello"), answer);
    }
}

#[test]
fn a_stunnel_client_refuses_a_server_it_does_not_trust() {
    let world = World::new();
    let Some(server) = stunnel_server(echo(), &world.stranger, Clients::Anonymous, &[]) else {
        return;
    };
    let client =
        stunnel_client(server.address, None, Some(&world.anchors), &[]).expect("stunnel is there");
    assert_eq!(converse(client.address, "hello"), "");
}

#[test]
fn curl_gets_a_page_with_a_certificate_and_none_without() {
    let world = World::new();
    let clients = Clients::IssuedBy(&world.anchors);
    let Some(server) = openssl_server(&world.server, clients, &["-www"]) else {
        return;
    };
    let url = format!("https://{}/", server.address);
    let with = curl(&url, Some(&world.client), Some(&world.anchors), &[]);
    let page = with.expect("curl is there").expect_success().out();
    assert!(page.contains("TLSv1.3"), "{page}");
    let without = curl(&url, None, Some(&world.anchors), &[]).expect("curl is there");
    assert_eq!(without.status.code(), Some(56), "{}", without.err());
    let untrusted = write_certificates(&world.folder.path().join("none.pem"), &[]);
    let without = curl(&url, Some(&world.client), Some(&untrusted), &[]).expect("curl is there");
    assert!(!without.status.success());
}

#[test]
fn curl_takes_the_chain_of_a_gnutls_web_server() {
    let world = World::new();
    let Some(server) = gnutls_server(&world.server, Clients::Anonymous, &["--http"]) else {
        return;
    };
    let url = format!("https://{}/", server.address);
    let page = curl(&url, None, Some(&world.anchors), &[]).expect("curl is there");
    assert!(page.expect_success().out().contains("GnuTLS"));
}

#[test]
fn ssh_runs_a_command_directly_and_through_a_proxy_command() {
    let Some(server) = SshServer::start() else {
        return;
    };
    let direct = server.ssh(None, "cat; exit 3", b"hello");
    assert_eq!(direct.status.code(), Some(3), "{}", direct.err());
    assert_eq!(direct.out(), "hello");

    let Some(_) = Program::find("nc") else {
        return;
    };
    let proxied = server.ssh(Some("nc -N %h %p"), "cat", b"hello");
    assert_eq!(proxied.expect_success().out(), "hello");
    assert!(!server.ssh(Some("false"), "cat", b"hello").status.success());
}

#[test]
fn a_program_ends_with_its_guard_and_not_before() {
    let mut running = Running::start(&mut Command::new("cat"));
    running.write(b"hello\n");
    assert_eq!(running.wait_for_line("hello"), "hello");
    assert!(running.is_running());
    let process = PathBuf::from(format!("/proc/{}", running.id()));
    assert!(process.exists());
    drop(running);
    assert!(!process.exists());
}

#[test]
fn both_streams_and_the_status_are_kept() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "cat; echo problem >&2; exit 7"]);
    let finished = run(&mut shell, b"hello");
    assert_eq!(finished.status.code(), Some(7));
    assert_eq!(
        (finished.out(), finished.err()),
        ("hello".into(), "problem\n".into())
    );
}

#[test]
fn a_program_that_reads_nothing_does_not_block_the_test() {
    let input = vec![b'x'; 1 << 20];
    assert!(run(&mut Command::new("true"), &input).status.success());
}

#[test]
#[should_panic(expected = "ended without \"ready\":\nnot today")]
fn waiting_for_what_never_comes_ends_with_the_program_and_shows_what_it_said() {
    Running::start(Command::new("echo").arg("not today")).wait_for("ready");
}

#[test]
#[should_panic(expected = "ended without \"connection to 127.0.0.1:")]
fn waiting_for_a_port_ends_with_the_program() {
    // Nobody listens on port 1.
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    Running::start(&mut Command::new("true")).wait_until_connects(address);
}

#[test]
fn a_server_without_a_message_is_ready_when_it_connects() {
    let mut running = Running::start(&mut Command::new("cat"));
    running.wait_until_connects(echo());
}

#[test]
fn a_server_whose_port_was_taken_gets_another() {
    let mut ports = Vec::new();
    let listening = Listening::start_on_free_port(
        |port| {
            ports.push(port);
            let mut shell = Command::new("sh");
            shell.args([
                "-c",
                if ports.len() < 3 {
                    "echo bind: Address already in use >&2; exit 1"
                } else {
                    "echo ready; cat"
                },
            ]);
            shell
        },
        "ready",
    );
    assert_eq!(listening.address.port(), ports[2]);
}

#[test]
#[should_panic(expected = "5 free ports in a row")]
fn a_server_that_never_gets_a_port_is_given_up() {
    Listening::start_on_free_port(
        |_| {
            let mut shell = Command::new("sh");
            shell.args(["-c", "echo Address already in use"]);
            shell
        },
        "ready",
    );
}
