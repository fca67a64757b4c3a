//! T30, T31: a certificate is public. Only a finished handshake proves whose it is.

use std::sync::Arc;

use comity_certs::{Anchor, Purpose};
use comity_identity::PeerId;
use comity_testkit::certificates::{Foreign, Node};
use comity_testkit::world::{
    Face, LISTENER, Limit, Machine, accepting, anchor_line, bare_client, bare_server, by_id,
    by_name, call, dial_bare, pin_line, tap,
};
use comity_tls::{AcceptError, AcceptorConfig, DialError, Versions};
use comity_trust::Mode;
use rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const NAME: &str = "db.example:7117";

// T30
#[tokio::test]
async fn a_copied_certificate_without_its_key_is_refused_and_not_remembered_by_a_dialer() {
    let node = Node::new();
    let root = Foreign::authority("root").root();
    let vouched = Foreign::server("db.example").issued_by(&root);
    for (mode, lines, chain) in [
        (Mode::Tofu, String::new(), &node.serve.chain),
        (Mode::Record, String::new(), &node.serve.chain),
        (Mode::Insecure, String::new(), &node.serve.chain),
        (
            Mode::Pin,
            pin_line("dial", NAME, PeerId::Node(node.id()), ""),
            &node.serve.chain,
        ),
        (Mode::CaOrTofu, String::new(), &vouched.chain),
        (Mode::CaThenPin, String::new(), &vouched.chain),
    ] {
        let anchors = vec![Anchor::from_der(&root.der).expect("a CA")];
        let us = Machine::knowing(&lines).with_roots(anchors);
        let before = us.memory();
        for versions in [Versions::Tls13, Versions::Tls12Too] {
            let mut request = by_name(NAME, mode);
            request.versions = versions;
            let server = bare_server(&Face::copied(chain));
            let (outcome, saw) = dial_bare(&us.dialer(), request, server, b"").await;
            assert!(
                matches!(outcome, Err(DialError::Handshake(_))),
                "{mode}: {outcome:?}"
            );
            assert_eq!(saw.data, b"", "{mode}");
            assert_eq!(us.memory(), before, "{mode}");
        }
    }
    // Nor by one who expects that very id.
    let us = Machine::new();
    let before = us.memory();
    let server = bare_server(&Face::copied(&node.serve.chain));
    let request = by_id(PeerId::Node(node.id()), Mode::Tofu);
    assert!(
        dial_bare(&us.dialer(), request, server, b"")
            .await
            .0
            .is_err()
    );
    assert_eq!(us.memory(), before);
}

// T30
#[tokio::test]
async fn a_copied_certificate_without_its_key_is_refused_and_not_remembered_by_an_acceptor() {
    let node = Node::new();
    let root = Foreign::authority("root").root();
    let vouched = Foreign {
        purposes: vec![Purpose::Dial],
        ..Foreign::server("db.example")
    };
    let vouched = vouched.issued_by(&root);
    let pinned = pin_line("both", "known", PeerId::Node(node.id()), "for=*");
    let listed = anchor_line("accept", "*.example", &root.der, "");
    for (mode, lines, chain) in [
        (Mode::Tofu, "", &node.dial.chain),
        (Mode::Record, "", &node.dial.chain),
        (Mode::Enroll, "", &node.dial.chain),
        (Mode::Insecure, "", &node.dial.chain),
        (Mode::Pin, pinned.as_str(), &node.dial.chain),
        (Mode::Ca, listed.as_str(), &vouched.chain),
        (Mode::CaThenPin, listed.as_str(), &vouched.chain),
    ] {
        for versions in [Versions::Tls13, Versions::Tls12Too] {
            let us = Machine::knowing(lines);
            let before = us.memory();
            let config = AcceptorConfig {
                mode,
                versions,
                ..AcceptorConfig::default()
            };
            let acceptor = comity_tls::Acceptor::new(us.endpoint.clone(), config);
            let client = bare_client(Some(&Face::copied(chain)));
            let (outcome, saw) = call(&acceptor, client, b"let me in").await;
            assert!(
                matches!(outcome, Err(AcceptError::Handshake(_))),
                "{mode}: {outcome:?}"
            );
            assert_eq!(saw.data, b"", "{mode}");
            assert_eq!(us.memory(), before, "{mode}");
        }
    }
}

/// Small enough that certificate, proof and end of a handshake come in records of their own.
const FRAGMENT: usize = 256;

// T31
#[tokio::test]
async fn a_dialer_whose_handshake_is_cut_off_anywhere_remembers_nothing() {
    let server = Foreign::server("db.example").self_signed();
    let mut config = bare_server(&Face::of(&server));
    config.max_fragment_size = Some(FRAGMENT);
    let config = Arc::new(config);
    let us = Machine::new();
    let before = us.memory();
    let mut records = 0;
    loop {
        let (near, dialer_end) = tokio::io::duplex(64 * 1024);
        let (far, acceptor_end) = tokio::io::duplex(64 * 1024);
        let serving = TlsAcceptor::from(Arc::clone(&config)).accept(far);
        let (dialer, request) = (us.dialer(), by_name(NAME, Mode::Tofu));
        let dialling = dialer.handshake(near, Some(LISTENER), request);
        let limit = Limit {
            back: records,
            ..Limit::NONE
        };
        let both = async {
            let (dialled, served) = tokio::join!(dialling, serving);
            drop(served);
            dialled.is_ok()
        };
        let (dialled, _) = tokio::join!(both, tap(dialer_end, acceptor_end, limit));
        if dialled {
            break;
        }
        assert_eq!(us.memory(), before, "cut after {records} records");
        records += 1;
    }
    assert!(records >= 4, "the handshake came in {records} records");
    assert_ne!(us.memory(), before);
}

// T31
#[tokio::test]
async fn an_acceptor_whose_handshake_is_cut_off_anywhere_remembers_nothing() {
    let mut config = bare_client(Some(&Face::of(&Node::new().dial)));
    config.max_fragment_size = Some(FRAGMENT);
    let connector = TlsConnector::from(Arc::new(config));
    let us = Machine::new();
    let acceptor = us.acceptor(Mode::Tofu);
    let before = us.memory();
    let mut records = 0;
    loop {
        let (near, dialer_end) = tokio::io::duplex(64 * 1024);
        let (far, acceptor_end) = tokio::io::duplex(64 * 1024);
        let name = ServerName::try_from("peer.invalid").expect("a name");
        let dialling = connector.connect(name, near);
        let limit = Limit {
            out: records,
            ..Limit::NONE
        };
        let both = async {
            let (dialled, accepted) = tokio::join!(dialling, accepting(&acceptor, far));
            drop(dialled);
            accepted.is_ok()
        };
        let (accepted, _) = tokio::join!(both, tap(dialer_end, acceptor_end, limit));
        if accepted {
            break;
        }
        assert_eq!(us.memory(), before, "cut after {records} records");
        records += 1;
    }
    assert!(records >= 5, "the handshake came in {records} records");
    assert_ne!(us.memory(), before);
}
