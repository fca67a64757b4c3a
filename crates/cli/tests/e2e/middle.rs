//! Somebody sits in between, with a node, certificates and keys of their own.

use std::net::SocketAddr;
use std::time::Duration;

use comity_agent::Node;
use comity_keys::NoPassphrase;
use comity_testkit::certificates::Foreign;
use comity_testkit::foreign::Listening;
use comity_testkit::foreign::tls::{Clients, openssl_server, write_certificates};
use comity_tls::{Acceptor, AcceptorConfig, DialRequest, Dialer, LeafProfile, Wish};
use comity_trust::{Expectation, Mode};
use tempfile::TempDir;

use crate::authorities::{century, files, loopback};
use crate::backend::{self, Recorder};
use crate::home::{Home, assert_says, expect_exit, quoted_command};
use crate::live::{answer, call, confirmed, wait_for_call};
use crate::network::Network;

/// A node in the middle: whoever reaches it is passed on to the real server, in the middle's name.
struct Middle {
    home: Home,
    serving: Listening,
    _onward: Listening,
}

impl Middle {
    /// `real` knows the middle as an ordinary client.
    fn before(real: &Home, serving: &Listening, victim: &Home) -> Self {
        let home = Home::new();
        real.yes(&["trust", "add", "mallory", &home.id(), "--for", "*"]);
        home.yes(&["trust", "add", "victim", &victim.id(), "--for", "*"]);
        home.yes(&[
            "trust",
            "add",
            "real",
            &real.id(),
            "--addr",
            &serving.address.to_string(),
        ]);
        let onward = home.connect_on_port(&["real"]);
        let serving = home.serve(&[&onward.address.to_string()]);
        Self {
            home,
            serving,
            _onward: onward,
        }
    }
}

/// A server, its client, and the network between them.
struct Stage {
    server: Home,
    client: Home,
    serving: Listening,
    network: Network,
}

impl Stage {
    fn new(target: SocketAddr) -> Self {
        let (server, client) = (Home::new(), Home::new());
        server.yes(&["trust", "add", "client", &client.id(), "--for", "default"]);
        let serving = server.serve(&[&target.to_string()]);
        let network = Network::leading_to(serving.address);
        Self {
            server,
            client,
            serving,
            network,
        }
    }

    fn middle(&self) -> Middle {
        Middle::before(&self.server, &self.serving, &self.client)
    }
}

#[test]
fn at_first_use_everything_works_but_the_comparison_finds_the_middle() {
    let stage = Stage::new(backend::echo());
    let middle = stage.middle();
    stage.network.lead_to(middle.serving.address);
    let address = stage.network.address.to_string();
    let args = ["connect", &address, "--as", "server", "--trust", "tofu"];
    let finished = stage.client.talk(&args, b"overheard").expect_success();
    assert_eq!(
        finished.out(),
        "overheard",
        "first use cannot see the middle"
    );
    let entry = &stage.client.json(&["trust", "show", "server"])[0];
    assert_eq!(entry["what"], middle.home.id());
    // What the real operator says on the phone, in each form.
    for form in ["id", "words", "hex"] {
        let told = stage.server.json(&["id"])[form]
            .as_str()
            .expect("a text")
            .to_owned();
        let said = stage.client.no(&["trust", "verify", "server", &told]);
        assert_says(
            &said,
            &["`server` has another key", "somebody sat in between"],
        );
    }
    assert_eq!(confirmed(&stage.client, "server"), None);
}

#[test]
fn later_the_middle_is_a_changed_key_and_gets_nothing() {
    let recorder = Recorder::new();
    let stage = Stage::new(recorder.address);
    let address = stage.network.address.to_string();
    let args = ["connect", &address, "--as", "server", "--trust", "tofu"];
    stage.client.talk(&args, b"before").err();
    assert_eq!(recorder.next(), b"before");
    let middle = stage.middle();
    assert_eq!(
        recorder.next(),
        b"",
        "the middle's own look at the real server"
    );
    stage.network.lead_to(middle.serving.address);
    for peer in ["server", &address] {
        let finished = stage.client.talk(&["connect", peer], b"secret");
        let said = expect_exit(finished, 1, &["connect", peer]).err();
        assert_says(&said, &[&middle.home.id(), "no data was sent"]);
    }
    let finished = stage.client.talk(&["connect", "server"], b"secret");
    let said = expect_exit(finished, 1, &["connect"]).err();
    assert_says(
        &said,
        &["its key is not the one we know", &stage.server.id()],
    );
    recorder.assert_untouched();
}

#[test]
fn a_valid_certificate_of_a_ca_does_not_help_against_a_pin() {
    let stage = Stage::new(backend::echo());
    let ca = century(Foreign::authority("Public CA")).root();
    let folder = TempDir::new().expect("a folder");
    let anchors = write_certificates(&folder.path().join("ca.pem"), std::slice::from_ref(&ca.der));
    let leaf = files(&folder, "middle", &loopback().issued_by(&ca));
    let Some(middle) = openssl_server(&leaf, Clients::Any, &[]) else {
        return;
    };
    let peer = format!("localhost:{}", stage.network.address.port());
    stage
        .client
        .talk(&["connect", &peer, "--trust", "tofu"], b"")
        .expect_success();
    stage.network.lead_to(middle.address);
    for mode in ["ca-or-tofu", "ca-or-pin", "ca-then-pin", "tofu", "pin"] {
        let args = [
            "connect",
            &peer,
            "--trust",
            mode,
            "--ca",
            &anchors.display().to_string(),
        ];
        let said = expect_exit(stage.client.talk(&args, b"secret"), 1, &args).err();
        assert_says(
            &said,
            &[
                "its key is not the one we know",
                &stage.server.id(),
                "no data was sent",
            ],
        );
    }
    let seen = middle.running.said();
    assert!(
        !seen.contains("secret") && !seen.contains("Comity Nodes"),
        "{seen}"
    );
}

#[test]
fn joining_through_the_middle_is_refused_and_the_invitation_stays_good() {
    let stage = Stage::new(backend::echo());
    let middle = stage.middle();
    stage.network.lead_to(middle.serving.address);
    let address = stage.network.address.to_string();
    let invitation = stage
        .server
        .yes(&["invite", "--addr", &address, "--for", "default"]);
    let joiner = Home::new();
    let said = joiner.no(&["join", &invitation, "--as", "server"]);
    assert_says(&said, &["its key is not the one that made the invitation"]);
    assert_says(
        &said,
        &[&stage.server.id(), &middle.home.id(), "no data was sent"],
    );
    assert!(!joiner.known_peers().contains(&middle.home.id()));
    assert_eq!(
        middle.home.json(&["trust", "pending"]),
        serde_json::json!([])
    );
    stage.network.lead_to(stage.serving.address);
    joiner.yes(&["join", &invitation, "--as", "server"]);
    assert_eq!(
        joiner
            .talk(&["connect", "server"], b"x")
            .expect_success()
            .out(),
        "x"
    );
}

#[test]
fn on_a_live_comparison_the_words_differ_on_both_legs_and_nothing_is_confirmed() {
    // Alice and Bob both met Mallory at first use, each taking her for the other.
    let [alice, bob, mallory] = [Home::new(), Home::new(), Home::new()];
    let known_by_hand = |home: &Home, label: &str| {
        home.yes(&["trust", "add", label, &mallory.id()]);
        let unconfirmed: String = home
            .known_peers()
            .lines()
            .map(|line| {
                line.split(" confirmed=")
                    .next()
                    .unwrap_or_default()
                    .to_owned()
                    + "\n"
            })
            .collect();
        std::fs::write(home.path().join("known_peers"), unconfirmed).expect("written");
    };
    known_by_hand(&alice, "bob");
    known_by_hand(&bob, "alice");
    let (waiting, address) = wait_for_call(&bob, "alice");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let relay = runtime.block_on(relay_live(&mallory, address));
    let calling = call(&alice, "bob", relay);
    // Alice sees that the words differ, and says so. Whatever Bob says, nothing is marked.
    let [(theirs, bob_ended), (ours, alice_ended)] = answer([(waiting, "yes"), (calling, "no")]);
    assert_eq!((ours.split(' ').count(), theirs.split(' ').count()), (4, 4));
    assert_ne!(ours, theirs);
    for finished in [bob_ended, alice_ended] {
        assert_eq!(finished.status.code(), Some(1), "{}", finished.err());
        let said = finished.err();
        assert_says(&said, &["somebody may sit in between"]);
        assert!(quoted_command(&said, "compare ids").starts_with("comity trust verify"));
    }
    assert_eq!(confirmed(&alice, "bob"), None);
    assert_eq!(confirmed(&bob, "alice"), None);
    runtime.shutdown_timeout(Duration::ZERO);
}

/// Mallory's own program: it takes Alice's call, makes one to Bob, and passes every byte on, in the
/// hope that both derive the same words. Answers where it waits.
async fn relay_live(mallory: &Home, bob: SocketAddr) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("bound");
    let home = comity_store::Home::open(&mallory.path()).expect("a home");
    let no_passphrase = || {
        Err(NoPassphrase {
            cause: "there is none".to_owned(),
        })
    };
    let node = Node::open(
        &home,
        &mut { no_passphrase },
        LeafProfile::default(),
        "mallory",
    );
    let endpoint = node.expect("a node").endpoint;
    let config = AcceptorConfig {
        mode: Mode::Insecure,
        ..AcceptorConfig::default()
    };
    let acceptor = Acceptor::new(endpoint.clone(), config);
    tokio::spawn(async move {
        let (tcp, remote) = listener.accept().await.expect("Alice calls");
        let incoming = acceptor
            .accept(tcp, Some(remote))
            .await
            .expect("anybody may");
        let (mut alice, _) = incoming.accept(|_| Ok(())).await.expect("she waits");
        let request = DialRequest::new(Expectation::default(), Mode::Insecure, Wish::Verify);
        let dialled = Dialer::new(endpoint)
            .dial("127.0.0.1", bob.port(), request)
            .await;
        let mut bob = dialled.expect("Bob knows Mallory").stream;
        // It ends with whoever hangs up first.
        drop(tokio::io::copy_bidirectional(&mut alice, &mut bob).await);
    });
    address
}
