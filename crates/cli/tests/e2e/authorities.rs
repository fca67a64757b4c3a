//! CAs: private ones, the system's, alone and together with pins.

use std::path::PathBuf;

use comity_certs::PresentedChain;
use comity_testkit::certificates::{Authority, Credential, DAY, Foreign, TODAY};
use comity_testkit::foreign::tls::{
    Clients, PemFiles, openssl_client, openssl_server, write_certificates,
};
use comity_testkit::foreign::{Finished, Listening, Program, run};
use tempfile::TempDir;

use crate::backend;
use crate::home::{Home, assert_says, expect_exit};
use crate::network::Network;

/// The same, valid for a century: the binary looks at the real clock.
pub(crate) fn century(foreign: Foreign) -> Foreign {
    Foreign {
        not_after: TODAY + 36_500 * DAY,
        ..foreign
    }
}

/// A server certificate for loopback under both of its names, valid for a century.
pub(crate) fn loopback() -> Foreign {
    let ips = vec!["127.0.0.1".parse().expect("an address")];
    Foreign {
        ips,
        ..century(Foreign::server("localhost"))
    }
}

/// A certificate whose time is over.
pub(crate) fn expired(foreign: Foreign) -> Foreign {
    Foreign {
        not_before: TODAY - 30 * DAY,
        not_after: TODAY - DAY,
        ..foreign
    }
}

/// How a pin names the key of a foreign certificate.
pub(crate) fn id_of(credential: &Credential) -> String {
    PresentedChain::parse(&credential.chain)
        .expect("a chain")
        .peer_id()
        .to_string()
}

/// The files of a credential, for programs that are not ours.
pub(crate) fn files(folder: &TempDir, name: &str, credential: &Credential) -> PemFiles {
    PemFiles::write(folder.path(), name, &credential.chain, &credential.key)
}

/// A CA and what it issues.
struct Issuing {
    folder: TempDir,
    authority: Authority,
    file: PathBuf,
}

impl Issuing {
    fn new(authority: Foreign) -> Self {
        let folder = TempDir::new().expect("a folder");
        let authority = authority.root();
        let file = write_certificates(
            &folder.path().join("ca.pem"),
            std::slice::from_ref(&authority.der),
        );
        Self {
            folder,
            authority,
            file,
        }
    }

    fn private() -> Self {
        Self::new(century(Foreign::authority("Private CA")))
    }

    fn file(&self) -> String {
        self.file.display().to_string()
    }

    /// A server with this certificate that sends lines back reversed. `None` without openssl.
    fn server(&self, leaf: &Foreign) -> Option<(Listening, Credential)> {
        let credential = leaf.issued_by(&self.authority);
        let files = files(&self.folder, "server", &credential);
        Some((openssl_server(&files, Clients::Any, &["-rev"])?, credential))
    }
}

/// Dials `localhost` at this port, with these flags.
fn dial(home: &Home, server: &Listening, flags: &[&str]) -> Finished {
    let peer = format!("localhost:{}", server.address.port());
    home.talk(&[&["connect", &peer], flags].concat(), b"olleh\n")
}

fn assert_reversed(finished: Finished) {
    assert_eq!(finished.expect_success().out(), "hello\n");
}

fn refused(finished: Finished) -> String {
    expect_exit(finished, 1, &["connect"]).err()
}

#[test]
fn a_private_ca_vouches_for_the_name_that_was_dialled_and_for_no_other() {
    let (home, ca) = (Home::new(), Issuing::private());
    let Some((server, _)) = ca.server(&century(Foreign::server("localhost"))) else {
        return;
    };
    let flags = ["--trust", "ca", "--ca", &ca.file()];
    assert_reversed(dial(&home, &server, &flags));
    let address = server.address.to_string();
    let said = refused(home.talk(&[&["connect", &address][..], &flags].concat(), b"x"));
    assert_says(
        &said,
        &[
            "its certificate is for another name",
            "dialled    127.0.0.1",
            "names      localhost",
        ],
    );
    assert_says(&said, &["no data was sent"]);
}

#[test]
fn recognition_by_a_ca_writes_no_pin() {
    let (home, ca) = (Home::new(), Issuing::private());
    let Some((server, credential)) = ca.server(&loopback()) else {
        return;
    };
    assert_reversed(dial(&home, &server, &["--ca", &ca.file()]));
    assert!(
        !home.known_peers().contains(&id_of(&credential)),
        "{}",
        home.known_peers()
    );
}

#[test]
fn what_a_ca_does_not_cover_is_refused_with_the_cause() {
    let ca = Issuing::private();
    let other = Issuing::private();
    let over = Issuing::new(expired(Foreign::authority("Old CA")));
    for (issuing, leaf, trusted, cause) in [
        (&ca, expired(loopback()), &ca, "expired"),
        (&ca, loopback(), &other, "no CA vouches for it"),
        (&over, loopback(), &over, "expired"),
        (
            &ca,
            Foreign {
                purposes: Foreign::client("x").purposes,
                ..loopback()
            },
            &ca,
            "no CA vouches for it",
        ),
    ] {
        let home = Home::new();
        let Some((server, _)) = issuing.server(&leaf) else {
            return;
        };
        let said = refused(dial(
            &home,
            &server,
            &["--trust", "ca", "--ca", &trusted.file()],
        ));
        assert_says(&said, &[cause, "no data was sent"]);
        assert!(
            !said.contains("trust add"),
            "a pin is no remedy in mode ca:\n{said}"
        );
    }
}

#[test]
fn the_system_roots_are_those_of_the_machine() {
    let (home, ca) = (Home::new(), Issuing::private());
    let Some((server, _)) = ca.server(&loopback()) else {
        return;
    };
    refused(dial(&home, &server, &["--trust", "ca"]));
    let peer = format!("localhost:{}", server.address.port());
    for (mode, code) in [("ca", 0), ("ca-or-pin", 0), ("pin", 1)] {
        let args = ["connect", &peer, "--trust", mode];
        let mut command = home.command(&args);
        command.env("SSL_CERT_FILE", &ca.file);
        expect_exit(run(&mut command, b"olleh\n"), code, &args);
    }
    // --ca replaces them.
    let other = Issuing::private();
    let args = ["connect", &peer, "--trust", "ca", "--ca", &other.file()];
    let mut command = home.command(&args);
    command.env("SSL_CERT_FILE", &ca.file);
    expect_exit(run(&mut command, b""), 1, &args);
}

#[test]
fn ca_and_pin_wants_both() {
    let (home, ca, other) = (Home::new(), Issuing::private(), Issuing::private());
    let Some((server, credential)) = ca.server(&loopback()) else {
        return;
    };
    let name = format!("localhost:{}", server.address.port());
    let flags = ["--trust", "ca-and-pin", "--ca", &ca.file()];
    refused(dial(&home, &server, &flags));
    home.yes(&["trust", "add", &name, &id_of(&credential)]);
    assert_reversed(dial(&home, &server, &flags));
    let said = refused(dial(
        &home,
        &server,
        &["--trust", "ca-and-pin", "--ca", &other.file()],
    ));
    assert_says(&said, &["no CA vouches for it"]);
    let another = id_of(&loopback().issued_by(&ca.authority));
    home.yes(&["trust", "replace", &name, &another]);
    assert_says(
        &refused(dial(&home, &server, &flags)),
        &["its key is not the one we know"],
    );
}

#[test]
fn ca_then_pin_asks_the_ca_once_and_the_pin_ever_after() {
    let (home, ca, other) = (Home::new(), Issuing::private(), Issuing::private());
    let Some((first, credential)) = ca.server(&loopback()) else {
        return;
    };
    let (second, _) = ca.server(&loopback()).expect("openssl is there");
    let network = Network::leading_to(first.address);
    let peer = format!("localhost:{}", network.address.port());
    let dial = |ca: &Issuing| {
        home.talk(
            &[
                "connect",
                &peer,
                "--trust",
                "ca-then-pin",
                "--ca",
                &ca.file(),
            ],
            b"olleh\n",
        )
    };
    refused(dial(&other));
    assert_eq!(home.json(&["trust", "list"]), serde_json::json!([]));
    assert_reversed(dial(&ca));
    let entry = &home.json(&["trust", "find", &peer])[0];
    assert_eq!(entry["what"], id_of(&credential));
    assert_eq!(entry["origin"], "ca");
    // Pinned: no CA is needed any more.
    assert_reversed(dial(&other));
    // Another key of the same CA is another key.
    network.lead_to(second.address);
    assert_says(
        &refused(dial(&ca)),
        &["its key is not the one we know", "no data was sent"],
    );
}

#[test]
fn who_was_seen_with_a_ca_never_falls_back_to_an_unknown_key() {
    let (home, ca) = (Home::new(), Issuing::private());
    let Some((real, _)) = ca.server(&loopback()) else {
        return;
    };
    let folder = TempDir::new().expect("a folder");
    let own = loopback().self_signed();
    let fake = openssl_server(&files(&folder, "fake", &own), Clients::Any, &["-rev"]);
    let fake = fake.expect("openssl is there");
    let network = Network::leading_to(real.address);
    let peer = format!("localhost:{}", network.address.port());
    let dial = |trust: &str| {
        home.talk(
            &["connect", &peer, "--trust", trust, "--ca", &ca.file()],
            b"olleh\n",
        )
    };
    assert_reversed(dial("ca-or-tofu"));
    network.lead_to(fake.address);
    for mode in ["ca-or-tofu", "tofu"] {
        let said = refused(dial(mode));
        assert_says(
            &said,
            &[
                "a CA used to vouch for this name",
                &id_of(&own),
                "known_peers:2",
            ],
        );
    }
    // Its remedy is a pin, by hand.
    home.yes(&["trust", "add", &peer, &id_of(&own)]);
    assert_reversed(dial("ca-or-tofu"));
}

#[test]
fn a_ca_in_known_peers_vouches_for_the_names_it_is_listed_for() {
    let (home, ca) = (Home::new(), Issuing::private());
    let Some((server, _)) = ca.server(&loopback()) else {
        return;
    };
    home.yes(&[
        "trust",
        "add",
        "*.example",
        "--ca",
        &ca.file(),
        "--side",
        "dial",
    ]);
    refused(dial(&home, &server, &["--trust", "ca"]));
    home.yes(&[
        "trust",
        "add",
        "localhost",
        "--ca",
        &ca.file(),
        "--side",
        "dial",
    ]);
    assert_reversed(dial(&home, &server, &["--trust", "ca"]));
    assert_says(
        &home.yes(&["trust", "list"]),
        &["CA ", "Private CA", "*.example"],
    );
    let not_a_ca = ca.folder.path().join("leaf.pem");
    let leaf = loopback().self_signed();
    write_certificates(&not_a_ca, &leaf.chain);
    let said = home.unable(&["trust", "add", "x", "--ca", &not_a_ca.display().to_string()]);
    assert_says(&said, &["leaf.pem has no usable CA"]);
}

#[test]
fn a_ca_listed_for_one_port_counts_for_the_label_that_is_dialled_there() {
    let (home, ca) = (Home::new(), Issuing::private());
    let Some((server, credential)) = ca.server(&loopback()) else {
        return;
    };
    let port = server.address.port();
    let address = format!("localhost:{port}");
    home.yes(&[
        "trust",
        "add",
        &address,
        "--ca",
        &ca.file(),
        "--side",
        "dial",
    ]);
    home.yes(&[
        "trust",
        "add",
        "db1",
        &id_of(&credential),
        "--addr",
        &address,
    ]);
    let connect = ["connect", "db1", "--trust", "ca-and-pin"];
    assert_reversed(home.talk(&connect, b"olleh\n"));
    home.yes(&["trust", "explain", "db1", "--trust", "ca-and-pin"]);
    // At another port the authority is out of its scope, and `explain` says so as well.
    let network = Network::leading_to(server.address);
    let elsewhere = format!("localhost:{}", network.address.port());
    let flags = ["--trust", "ca-and-pin", "--addr", &elsewhere];
    home.no(&[&["connect", "db1"], &flags[..]].concat());
    home.no(&[&["trust", "explain", "db1"], &flags[..]].concat());
}

#[test]
fn a_listed_ca_admits_the_clients_it_issued_for_what_its_line_grants() {
    let (server, ca, other) = (Home::new(), Issuing::private(), Issuing::private());
    if Program::find("openssl").is_none() {
        return;
    }
    let add = |names| {
        let file = ca.file();
        let args = [
            "trust", "add", names, "--ca", &file, "--side", "accept", "--for", "default",
        ];
        server.run(&args)
    };
    let said = expect_exit(add("*"), 2, &["trust", "add"]).err();
    assert_says(
        &said,
        &["a CA must be limited to names, --network or --role"],
    );
    add("*.corp.example").expect_success();
    let serving = server.serve(&[
        &backend::greeter("welcome\n").to_string(),
        "--accept",
        "ca-or-pin",
    ]);
    let named = |name: &str, leaf: fn(&str) -> Foreign| Foreign {
        dns: vec![name.to_owned()],
        ..leaf(name)
    };
    let client = |issuing: &Issuing, leaf: Foreign| {
        let credential = leaf.issued_by(&issuing.authority);
        let files = files(&issuing.folder, "client", &credential);
        openssl_client(serving.address, Some(&files), None, &[]).expect("openssl is there")
    };
    let inside = || named("laptop.corp.example", Foreign::client);
    client(&ca, century(inside())).wait_for("welcome");
    for refused in [
        client(&other, century(inside())),
        client(&ca, expired(inside())),
        client(&ca, century(named("laptop.corp.example", Foreign::server))),
        client(&ca, century(named("laptop.example", Foreign::client))),
    ] {
        let said = refused.finish().out();
        assert!(!said.contains("welcome"), "{said}");
    }
}
