//! A peer that comes with another key, and the statement that it is the same.

use comity_certs::Purpose;
use comity_identity::{NodeId, PeerId, Signer};
use comity_record::{Succession, SuccessionChain, SuccessionRequest};
use comity_store::HomeFile;
use comity_testkit::certificates::{DAY, LeafOptions, Node};
use comity_testkit::world::{
    Face, Machine, NOW, accept_reason, bare_client, call, hello_frame, pin_line, speaking_comity,
};
use comity_tls::hello::{Hello, SubProtocol};
use comity_tls::{AcceptError, PeerInfo};
use comity_trust::{Mode, Reason};

/// The statement by which `new` follows `old`.
fn statement(old: &dyn Signer, new: &dyn Signer, reason: &str) -> Succession {
    let request = SuccessionRequest {
        network: None,
        sequence: 1,
        previous: None,
        issued: NOW,
        overlap_end: NOW + DAY,
        next: None,
        reason: Some(reason.to_owned()),
    };
    request.sign(old, new).expect("a sound request")
}

/// A node as it calls with this statement in its leaf.
fn face(node: &Node, statement: Succession) -> Face {
    let options = LeafOptions {
        succession: SuccessionChain::new(statement).encode(),
        ..LeafOptions::default()
    };
    Face::of(&node.leaf(Purpose::Dial, &options))
}

async fn calls(bob: &Machine, face: &Face) -> Result<PeerInfo, AcceptError> {
    let config = speaking_comity(bare_client(Some(face)));
    let hello = hello_frame(&Hello::new(SubProtocol::Tunnel));
    let (outcome, _) = call(&bob.acceptor(Mode::Invite), config, &hello).await;
    outcome.map(|(peer, _)| peer)
}

fn knowing(node: NodeId, attributes: &str) -> Machine {
    Machine::knowing(&pin_line("both", "alice", PeerId::Node(node), attributes))
}

fn log_of(machine: &Machine) -> String {
    let path = machine.home.path(HomeFile::AuditLog);
    std::fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test]
async fn an_entry_follows_its_peer_to_the_next_key_and_the_log_says_so() {
    let (old, new) = (Node::new(), Node::new());
    let bob = knowing(old.id(), "for=web");
    let statement = statement(&old.identity, &new.identity, "routine");
    let peer = calls(&bob, &face(&new, statement))
        .await
        .expect("recognised");
    assert_eq!(peer.id, PeerId::Node(new.id()));
    assert_eq!(peer.label.as_deref(), Some("alice"));
    assert!(peer.attested.service("web"));
    let known = bob.known();
    assert!(
        known.contains(&format!("successor={}", new.id())),
        "{known}"
    );
    assert!(known.contains("origin=succession"), "{known}");
    let log = log_of(&bob);
    assert!(log.contains("\"succession\""), "{log}");
    assert!(
        log.contains(&format!("{} -> {}", old.id(), new.id())),
        "{log}"
    );
    // From now on it needs no statement.
    calls(&bob, &Face::of(&new.dial)).await.expect("recognised");
}

#[tokio::test]
async fn contradicting_statements_freeze_the_entry_until_a_person_decides() {
    let (old, new, thief) = (Node::new(), Node::new(), Node::new());
    let bob = knowing(old.id(), "");
    let honest = face(&new, statement(&old.identity, &new.identity, "routine"));
    calls(&bob, &honest).await.expect("recognised");
    let forged = face(&thief, statement(&old.identity, &thief.identity, "routine"));
    assert_eq!(accept_reason(calls(&bob, &forged).await), Reason::Forked);
    assert_eq!(bob.known().matches("forked=").count(), 2, "{}", bob.known());
    assert!(log_of(&bob).contains("\"forked\""));
    // Nobody gets in by either key, nor by asking again.
    for face in [&honest, &forged] {
        assert_eq!(accept_reason(calls(&bob, face).await), Reason::Forked);
    }
    assert_eq!(log_of(&bob).matches("\"forked\"").count(), 1);
}

#[tokio::test]
async fn a_statement_that_somebody_else_signed_changes_nothing() {
    let (old, thief) = (Node::new(), Node::new());
    let bob = knowing(old.id(), "");
    let before = bob.memory();
    // Signed by another key than the one that is known; and for another one than the bearer's.
    let own = statement(&Node::new().identity, &thief.identity, "routine");
    let others = statement(&old.identity, &Node::new().identity, "routine");
    for stated in [own, others] {
        let refused = calls(&bob, &face(&thief, stated)).await;
        let reason = accept_reason(refused);
        assert!(
            matches!(reason, Reason::Unknown | Reason::Malformed),
            "{reason}"
        );
        assert_eq!(bob.memory(), before);
    }
}

#[tokio::test]
async fn an_entry_that_a_person_confirmed_waits_for_that_person() {
    let (old, new) = (Node::new(), Node::new());
    let bob = knowing(old.id(), "confirmed=2026-03-01T00:00:00Z/hand");
    let before = bob.known();
    let stated = face(&new, statement(&old.identity, &new.identity, "routine"));
    assert_eq!(accept_reason(calls(&bob, &stated).await), Reason::Changed);
    assert_eq!(bob.known(), before);
}
