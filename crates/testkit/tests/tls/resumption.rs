//! T37: every connection is a full handshake. Resumed sessions would pass no verifier.

use std::sync::Arc;

use comity_identity::PeerId;
use comity_testkit::certificates::Node;
use comity_testkit::world::accept_reason;
use comity_testkit::world::{
    Call, Face, Machine, bare_client, bare_client_with, bare_server, by_name, call_with,
    dial_bare_with, pin_line,
};
use comity_tls::{Acceptor, AcceptorConfig, Versions};
use comity_trust::{Mode, Reason};
use rustls::client::Resumption;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ServerConfig};

const NAME: &str = "db.example:7117";

/// A client that keeps every ticket and session it gets.
fn keeping(node: &Node) -> Call<'static> {
    let mut config = bare_client(Some(&Face::of(&node.dial)));
    config.resumption = Resumption::in_memory_sessions(64);
    Call {
        config: Arc::new(config),
        early: &[],
        say: b"",
    }
}

/// A server that hands out tickets.
fn generous(node: &Node) -> ServerConfig {
    let mut server = bare_server(&Face::of(&node.serve));
    server.send_tls13_tickets = 2;
    server
}

// T37
#[tokio::test]
async fn no_tickets_are_given_and_every_handshake_is_full() {
    let node = Node::new();
    let us = Machine::knowing(&pin_line("accept", "caller", PeerId::Node(node.id()), ""));
    let client = keeping(&node);
    for _ in 0..4 {
        let (outcome, saw) = call_with(&us.acceptor(Mode::Pin), &client).await;
        assert!(outcome.is_ok());
        assert_eq!((saw.kind, saw.tickets), (Some(HandshakeKind::Full), 0));
    }
}

// T37
#[tokio::test]
async fn nothing_of_an_earlier_session_helps_a_peer_that_was_revoked_or_removed() {
    let node = Node::new();
    let pinned = pin_line("accept", "caller", PeerId::Node(node.id()), "");
    let us = Machine::knowing(&pinned);
    let client = keeping(&node);
    assert!(call_with(&us.acceptor(Mode::Pin), &client).await.0.is_ok());
    us.write_known(&(pinned.clone() + &format!("@revoked both * node {}\n", node.id())));
    let (outcome, saw) = call_with(&us.acceptor(Mode::Pin), &client).await;
    assert_eq!(accept_reason(outcome), Reason::Revoked);
    assert_eq!(saw.kind, Some(HandshakeKind::Full));
    us.write_known("");
    let (outcome, _) = call_with(&us.acceptor(Mode::Pin), &client).await;
    assert_eq!(accept_reason(outcome), Reason::Unknown);
    // After a restart.
    let (outcome, saw) = call_with(&us.restarted().acceptor(Mode::Pin), &client).await;
    assert_eq!(accept_reason(outcome), Reason::Unknown);
    assert_eq!(saw.kind, Some(HandshakeKind::Full));
}

// T37: across listeners, and after the mode was changed.
#[tokio::test]
async fn a_session_with_one_acceptor_is_none_with_another() {
    let node = Node::new();
    let us = Machine::new();
    let client = keeping(&node);
    assert!(
        call_with(&us.acceptor(Mode::Insecure), &client)
            .await
            .0
            .is_ok()
    );
    let (outcome, saw) = call_with(&us.acceptor(Mode::Pin), &client).await;
    assert_eq!(accept_reason(outcome), Reason::Unknown);
    assert_eq!(saw.kind, Some(HandshakeKind::Full));
}

// T37
#[tokio::test]
async fn nothing_of_an_earlier_session_helps_after_the_certificate_has_expired() {
    let node = Node::new();
    let us = Machine::knowing(&pin_line("accept", "caller", PeerId::Node(node.id()), ""));
    let client = keeping(&node);
    assert!(call_with(&us.acceptor(Mode::Pin), &client).await.0.is_ok());
    us.clock
        .advance(std::time::Duration::from_secs(40 * 24 * 3600));
    let (outcome, saw) = call_with(&us.acceptor(Mode::Pin), &client).await;
    assert_eq!(accept_reason(outcome), Reason::Expired);
    assert_eq!(saw.kind, Some(HandshakeKind::Full));
}

// T37: a ticket that somebody else gave out under our name.
#[tokio::test]
async fn tickets_of_others_are_declined() {
    let node = Node::new();
    let us = Machine::new();
    let client = keeping(&node);
    let generous = Arc::new(generous(&Node::new()));
    assert!(client.bare(Arc::clone(&generous)).await.tickets > 0);
    // It works where it was given ...
    let resumed = client.bare(generous).await.kind;
    assert_eq!(resumed, Some(HandshakeKind::Resumed));
    // ... and not here.
    let (outcome, saw) = call_with(&us.acceptor(Mode::Pin), &client).await;
    assert_eq!(accept_reason(outcome), Reason::Unknown);
    assert_eq!(saw.kind, Some(HandshakeKind::Full));
}

// T37
#[tokio::test]
async fn a_dialer_resumes_nothing_either() {
    let node = Node::new();
    let us = Machine::knowing(&pin_line("dial", NAME, PeerId::Node(node.id()), ""));
    let generous = Arc::new(generous(&node));
    for _ in 0..3 {
        let server = Arc::clone(&generous);
        let request = by_name(NAME, Mode::Pin);
        let (outcome, saw) = dial_bare_with(&us.dialer(), request, server, b"").await;
        assert!(outcome.is_ok());
        assert_eq!(saw.kind, Some(HandshakeKind::Full));
    }
}

// T37: the same with the session ids of TLS 1.2.
#[tokio::test]
async fn nothing_is_resumed_over_tls_1_2_either() {
    let node = Node::new();
    let us = Machine::knowing(&pin_line("accept", "caller", PeerId::Node(node.id()), ""));
    let config = AcceptorConfig {
        mode: Mode::Pin,
        versions: Versions::Tls12Too,
        ..AcceptorConfig::default()
    };
    let acceptor = Acceptor::new(us.endpoint.clone(), config);
    for versions in [&[&TLS12][..], &[&TLS13]] {
        let mut config = bare_client_with(Some(&Face::of(&node.dial)), versions);
        config.resumption = Resumption::in_memory_sessions(64);
        let client = Call {
            config: Arc::new(config),
            early: &[],
            say: b"",
        };
        for _ in 0..3 {
            let (outcome, saw) = call_with(&acceptor, &client).await;
            assert!(outcome.is_ok());
            assert_eq!(saw.kind, Some(HandshakeKind::Full));
        }
    }
}
