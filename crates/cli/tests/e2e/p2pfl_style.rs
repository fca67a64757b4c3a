//! A network in the style of P2PFL: one root, and for each node a server and a client certificate. Both
//! sides always check, whether the other end is one of ours or OpenSSL.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use comity_certs::certificates_in_pem;
use comity_testkit::certificates::{Foreign, RawCertificate, TestKey, tlv};
use comity_testkit::foreign::tls::{Clients, PemFiles, openssl_client, openssl_server};
use comity_testkit::foreign::{Listening, Program, Running, run};

use crate::authorities::century;
use crate::backend::{self, Recorder};
use crate::home::{Home, assert_says, expect_exit};

/// ASN.1's UTCTime.
const UTC_TIME: u8 = 0x17;

/// The CA of a laboratory, which made certificates for two of its nodes.
struct Laboratory {
    ca: Home,
}

/// What a client shows, what our end says of it, and what the client sees.
struct Case {
    what: &'static str,
    shows: Option<PemFiles>,
    reason: &'static str,
    sees: Effect,
}

/// What becomes of a client of OpenSSL.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// The connection ends with this alert.
    Alert(&'static str),
    /// The handshake is over before a certificate can be judged: the connection is closed in order,
    /// without a byte.
    Close,
}

impl Laboratory {
    /// `None` without openssl.
    fn new() -> Option<Self> {
        Program::find("openssl")?;
        let ca = Home::empty();
        let (root, passphrase) = (ca.beside("root.key"), ca.beside("passphrase"));
        fs::write(&passphrase, "correct horse\n").expect("written");
        let (root, passphrase) = (text(&root), text(&passphrase));
        let mut args = vec!["ca", "init", "lab", "--root", &root];
        args.extend(["--root-passphrase-file", &passphrase]);
        ca.yes(&args);
        for node in ["node1", "node2"] {
            let (name, out) = (format!("{node}.lab.example"), text(&ca.beside(node)));
            let mut args = vec!["ca", "issue", "lab", "--template", "p2pfl", "--out", &out];
            args.extend(["--dns", &name, "--ip", "127.0.0.1"]);
            ca.yes(&args);
        }
        Some(Self { ca })
    }

    fn root(&self) -> PathBuf {
        self.ca.beside("node1").join("ca.crt")
    }

    /// One of the two certificates of a node, as its settings name them.
    fn certificate(&self, node: &str, side: &str) -> PemFiles {
        let at = |ending: &str| self.ca.beside(node).join(format!("{side}.{ending}"));
        PemFiles {
            chain: at("crt"),
            issuers: Some(at("crt")),
            key: at("key"),
        }
    }

    /// A client certificate that the laboratory's issuing key signed, and whose time is over. Its CA
    /// itself makes none.
    fn expired(&self) -> PemFiles {
        let id = self.ca.json(&["network", "show", "lab"])["hex"].clone();
        let authority = self.ca.path().join("authorities");
        let authority = authority.join(id.as_str().expect("hex digits"));
        let entries = fs::read_dir(authority).expect("the authority").flatten();
        let is_key = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "key");
        let key = entries.map(|entry| entry.path()).find(is_key);
        let issuing = TestKey::of_pkcs8(&der_of(&key.expect("an issuing key")));
        let good = self.certificate("node1", "client");
        let chain = fs::read_to_string(&good.chain).expect("a chain");
        let mut chain = certificates_in_pem(&chain).expect("a chain");
        let mut leaf = RawCertificate::of(&chain[0]);
        leaf.not_before = tlv(UTC_TIME, &[b"260201000000Z"]);
        leaf.not_after = tlv(UTC_TIME, &[b"260228000000Z"]);
        chain[0] = leaf.sign(&issuing);
        PemFiles::write(self.ca.folder(), "expired", &chain, &der_of(&good.key))
    }

    /// A client certificate of the right name by somebody else's CA.
    fn foreign(&self) -> PemFiles {
        let other = century(Foreign::authority("Other Lab")).root();
        let leaf = Foreign {
            dns: vec!["node1.lab.example".to_owned()],
            ..century(Foreign::client("node1.lab.example"))
        };
        let credential = leaf.issued_by(&other);
        PemFiles::write(
            self.ca.folder(),
            "foreign",
            &credential.chain,
            &credential.key,
        )
    }

    fn cases(&self) -> [Case; 4] {
        [
            Case {
                what: "missing",
                shows: None,
                reason: "peer sent no certificates",
                sees: Effect::Alert("tlsv13 alert certificate required"),
            },
            Case {
                what: "expired",
                shows: Some(self.expired()),
                reason: "reason=\"expired\"",
                sees: Effect::Close,
            },
            Case {
                what: "foreign",
                shows: Some(self.foreign()),
                reason: "reason=\"unknown\"",
                sees: Effect::Close,
            },
            Case {
                what: "wrong role",
                shows: Some(self.certificate("node2", "server")),
                reason: "reason=\"constraint\"",
                sees: Effect::Close,
            },
        ]
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A private key as PKCS#8 in DER.
fn der_of(key: &Path) -> Vec<u8> {
    let mut command = Program::find("openssl").expect("it is there").command();
    command.args(["pkcs8", "-topk8", "-nocrypt", "-outform", "DER", "-in"]);
    run(command.arg(key), b"").expect_success().stdout
}

/// OpenSSL as a client that judges nobody.
fn dial(server: SocketAddr, shows: Option<&PemFiles>) -> Running {
    openssl_client(server, shows, None, &[]).expect("openssl is there")
}

/// A node of ours that accepts whom the laboratory certified.
fn serve(lab: &Laboratory, backend: SocketAddr) -> (Home, Listening) {
    let home = Home::new();
    let root = text(&lab.root());
    let mut args = vec!["trust", "add", "*.lab.example", "--ca", &root];
    args.extend(["--side", "accept", "--for", "default"]);
    home.yes(&args);
    let serving = home.serve(&["-v", &backend.to_string(), "--accept", "ca"]);
    (home, serving)
}

#[test]
fn clients_without_the_right_certificate_are_refused_by_reason_and_see_it() {
    let Some(lab) = Laboratory::new() else {
        return;
    };
    let backend = Recorder::new();
    let (_home, serving) = serve(&lab, backend.address);
    for Case {
        what,
        shows,
        reason,
        sees,
    } in lab.cases()
    {
        let client = dial(serving.address, shows.as_ref());
        client.write(b"let me in\n");
        let finished = client.finish();
        serving.running.wait_for(reason);
        assert_eq!(finished.out(), "", "{what}");
        match sees {
            Effect::Alert(alert) => assert_says(&finished.err(), &[alert]),
            Effect::Close => {
                assert!(finished.status.success(), "{what}: {}", finished.err());
                assert!(!finished.err().contains("alert"), "{}", finished.err());
            }
        }
    }
    backend.assert_untouched();
}

#[test]
fn a_client_of_the_laboratory_reaches_a_node_of_ours() {
    let Some(lab) = Laboratory::new() else {
        return;
    };
    let (_home, serving) = serve(&lab, backend::echo());
    let client = dial(serving.address, Some(&lab.certificate("node1", "client")));
    client.write(b"there and back\n");
    client.wait_for("there and back");
    serving.running.wait_for("how=\"ca\"");
}

#[test]
fn servers_without_the_right_certificate_get_nothing_from_us_and_are_told() {
    let Some(lab) = Laboratory::new() else {
        return;
    };
    let home = Home::new();
    let root = text(&lab.root());
    let dial = |server: &Listening, host: &str| {
        let peer = format!("{host}:{}", server.address.port());
        let args = ["connect", &peer, "--trust", "ca", "--ca", &root];
        home.talk(&args, b"olleh\n")
    };
    let serve = |shows: &PemFiles| openssl_server(shows, Clients::Any, &["-rev"]).expect("there");
    let good = serve(&lab.certificate("node2", "server"));
    assert_eq!(dial(&good, "127.0.0.1").expect_success().out(), "hello\n");
    for (what, shows, host, says) in [
        (
            "wrong role",
            lab.certificate("node2", "client"),
            "127.0.0.1",
            "it is not meant for servers",
        ),
        (
            "wrong name",
            lab.certificate("node2", "server"),
            "localhost",
            "its certificate is for another name",
        ),
        ("expired", lab.expired(), "127.0.0.1", "expired"),
        (
            "foreign",
            lab.foreign(),
            "127.0.0.1",
            "no CA vouches for it",
        ),
    ] {
        let server = serve(&shows);
        let refused = expect_exit(dial(&server, host), 1, &[what]);
        assert_says(&refused.err(), &[says, "no data was sent"]);
        server.running.wait_for("tlsv1 alert access denied");
        assert!(!server.running.said().contains("olleh"), "{what}");
    }
    // A server that knows the laboratory alone does not know us.
    let strict = openssl_server(
        &lab.certificate("node2", "server"),
        Clients::IssuedBy(&lab.root()),
        &["-rev"],
    );
    let strict = strict.expect("openssl is there");
    let refused = expect_exit(dial(&strict, "127.0.0.1"), 1, &["connect"]);
    assert_says(&refused.err(), &["alert UnknownCA"]);
    strict.running.wait_for("certificate verify failed");
}

#[test]
fn two_nodes_without_comity_verify_each_other() {
    let Some(lab) = Laboratory::new() else {
        return;
    };
    let root = lab.root();
    let strict = ["-x509_strict", "-rev"];
    let server = openssl_server(
        &lab.certificate("node1", "server"),
        Clients::IssuedBy(&root),
        &strict,
    )
    .expect("openssl is there");
    let dial = |shows: Option<&PemFiles>, name: &str| {
        let extra = ["-x509_strict", "-verify_hostname", name];
        openssl_client(server.address, shows, Some(&root), &extra).expect("openssl is there")
    };
    let node2 = lab.certificate("node2", "client");
    let client = dial(Some(&node2), "node1.lab.example");
    client.wait_for("Verification: OK");
    client.write(b"olleh\n");
    client.wait_for("hello");
    drop(client);
    let refused = |shows: Option<&PemFiles>, name: &str, says: &str| {
        let client = dial(shows, name);
        client.write(b"olleh\n");
        client.wait_for(says);
        assert!(!client.finish().out().contains("hello"));
    };
    refused(Some(&node2), "node2.lab.example", "hostname mismatch");
    refused(None, "node1.lab.example", "certificate required");
    let server_certificate = lab.certificate("node2", "server");
    refused(
        Some(&server_certificate),
        "node1.lab.example",
        "alert unsupported certificate",
    );
    refused(
        Some(&lab.expired()),
        "node1.lab.example",
        "alert certificate expired",
    );
    refused(
        Some(&lab.foreign()),
        "node1.lab.example",
        "alert unknown ca",
    );
}
