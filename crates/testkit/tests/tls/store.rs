//! T60, T65 to T68, T72: the gate and the memory behind it.

use std::fs;
use std::sync::Arc;

use comity_identity::PeerId;
use comity_store::disk::{Access, OsDisk};
use comity_store::fault::{Call, Fault, FaultDisk};
use comity_store::{Home, HomeFile, PeerStore, StoreError, UpdateError};
use comity_testkit::certificates::Node;
use comity_testkit::world::{
    Face, LISTENER, Machine, accept_frame, accept_reason, bare_client, bare_server, by_name, call,
    dial_bare, dial_reason, hello_frame, pin_line, refuse_frame, speaking_comity,
};
use comity_tls::hello::{Hello, SubProtocol};
use comity_tls::{ALPN_COMITY, DialError};
use comity_trust::{Mode, Reason};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Barrier;
use tokio_rustls::LazyConfigAcceptor;

const NAME: &str = "db.example:7117";
const OTHER: &str = "other.example:7117";

fn comity_server(node: &Node) -> ServerConfig {
    let mut server = bare_server(&Face::of(&node.serve));
    server.alpn_protocols = vec![ALPN_COMITY.to_vec()];
    server
}

/// Answers a dialer only after the other server was dialled as well, so that neither dialer has
/// seen what the other one remembers when its own handshake begins. Gives what it heard.
async fn serve_together(io: DuplexStream, node: &Node, together: &Barrier) -> Vec<u8> {
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), io).await;
    let start = start.expect("a ClientHello");
    together.wait().await;
    let mut heard = Vec::new();
    if let Ok(mut tls) = start.into_stream(Arc::new(comity_server(node))).await {
        drop(tls.write_all(&accept_frame()).await);
        drop(tls.flush().await);
        drop(tls.read_to_end(&mut heard).await);
    }
    heard
}

// T60, and T61 with two processes of one home.
#[tokio::test]
async fn of_two_first_uses_with_different_keys_exactly_one_wins() {
    for round in 0..8 {
        let us = Machine::new();
        let process = us.restarted();
        let dialers = match round % 2 {
            0 => [us.dialer(), us.dialer()],
            _ => [us.dialer(), process.dialer()],
        };
        let (first, second) = (Node::new(), Node::new());
        let together = Barrier::new(2);
        let one = async |dialer: &comity_tls::Dialer, node: &Node| {
            let (near, far) = tokio::io::duplex(64 * 1024);
            let dialling = async {
                let request = by_name(NAME, Mode::Tofu);
                // The connection is closed at once, so that the server hears its end.
                dialer
                    .handshake(near, Some(LISTENER), request)
                    .await
                    .map(drop)
            };
            tokio::join!(dialling, serve_together(far, node, &together))
        };
        let (one, two) = tokio::join!(one(&dialers[0], &first), one(&dialers[1], &second));
        let won = [one.0.is_ok(), two.0.is_ok()];
        assert!(won == [true, false] || won == [false, true], "{won:?}");
        let (winner, loser) = match won[0] {
            true => ((&first, one.1), two),
            false => ((&second, two.1), one),
        };
        assert_eq!(dial_reason(loser.0), Reason::Changed);
        // The winner got HELLO, the loser nothing at all.
        assert_eq!(winner.1, hello_frame(&Hello::new(SubProtocol::Tunnel)));
        assert_eq!(loser.1, b"");
        let known = us.known();
        assert_eq!(known.lines().count(), 2, "{known}");
        assert!(known.contains(&winner.0.id().to_string()), "{known}");
    }
}

/// A node with a pinned peer on a disk whose faults begin when they are told.
fn on_faulty_disk() -> (Machine, Node, FaultDisk) {
    let disk = FaultDisk::new(Arc::new(OsDisk));
    let (us, peer) = (Machine::on(Arc::new(disk.clone())), Node::new());
    us.write_known(&pin_line("both", NAME, PeerId::Node(peer.id()), ""));
    let us = us.restarted();
    (us, peer, disk)
}

/// Known peers keep working in both directions; strangers are refused without a word and without
/// a trace.
async fn only_known_peers_get_in(us: &Machine, peer: &Node, what: &str) {
    let known = us.known();
    let server = bare_server(&Face::of(&peer.serve));
    let (outcome, _) = dial_bare(&us.dialer(), by_name(NAME, Mode::Tofu), server, b"").await;
    assert!(outcome.is_ok(), "{what}: {outcome:?}");
    let client = bare_client(Some(&Face::of(&peer.dial)));
    let (outcome, _) = call(&us.acceptor(Mode::Tofu), client, b"").await;
    assert!(outcome.is_ok(), "{what}: {outcome:?}");
    let stranger = Node::new();
    for mode in [Mode::Tofu, Mode::CaOrTofu, Mode::Record] {
        let server = comity_server(&stranger);
        let request = by_name(OTHER, mode);
        let (outcome, saw) = dial_bare(&us.dialer(), request, server, &accept_frame()).await;
        assert!(
            matches!(outcome, Err(DialError::Store(_))),
            "{what}: {outcome:?}"
        );
        assert_eq!(saw.data, b"", "{what}: HELLO was sent");
        let client = speaking_comity(bare_client(Some(&Face::of(&stranger.dial))));
        let hello = hello_frame(&Hello::new(SubProtocol::Tunnel));
        let (outcome, saw) = call(&us.acceptor(mode), client, &hello).await;
        assert_eq!(accept_reason(outcome), Reason::StoreError, "{what}");
        // How we are is nobody's business.
        assert_eq!(saw.data, refuse_frame(Reason::Busy), "{what}");
    }
    assert_eq!(us.known(), known, "{what}");
}

// T65 to T67
#[tokio::test]
async fn where_nothing_can_be_remembered_first_use_is_refused_and_known_peers_get_in() {
    const ACCESS: i32 = 13;
    const INPUT_OUTPUT: i32 = 5;
    const NO_SPACE: i32 = 28;
    const READ_ONLY: i32 = 30;
    type Failing = fn(Call) -> bool;
    let faults: [(&str, Failing, i32); 6] = [
        ("unreadable", |c| c == Call::Open(Access::Read), ACCESS),
        (
            "unreadable in the middle",
            |c| c == Call::Read,
            INPUT_OUTPUT,
        ),
        ("read-only", Call::changes, READ_ONLY),
        ("full", Call::takes_space, NO_SPACE),
        ("never durable", |c| c == Call::Sync, INPUT_OUTPUT),
        ("locked by a fault", |c| c == Call::Lock, INPUT_OUTPUT),
    ];
    for (what, failing, error) in faults {
        let (us, peer, disk) = on_faulty_disk();
        // An editor saves the file, so that it must be read again.
        us.write_known(&pin_line("both", NAME, PeerId::Node(peer.id()), "for=web"));
        disk.follow(move |_, call| match failing(call) {
            true => Fault::Error(error),
            false => Fault::None,
        });
        only_known_peers_get_in(&us, &peer, what).await;
        disk.heal();
        let server = bare_server(&Face::of(&Node::new().serve));
        let (outcome, _) = dial_bare(&us.dialer(), by_name(OTHER, Mode::Tofu), server, b"").await;
        assert!(outcome.is_ok(), "{what}, healed: {outcome:?}");
    }
}

// T64
#[tokio::test]
async fn a_file_that_is_not_understood_leaves_the_last_good_one_in_force() {
    let (us, peer, _) = on_faulty_disk();
    us.write_known("this is no entry\n");
    only_known_peers_get_in(&us, &peer, "damaged").await;
    assert!(PeerStore::open(&us.home, "test").is_err());
}

// T68
#[tokio::test]
async fn while_another_process_is_stuck_with_the_lock_first_use_is_refused() {
    let (us, peer, disk) = on_faulty_disk();
    let other = Home::open(us.home.root()).expect("the home");
    let lock = other.lock().expect("free");
    only_known_peers_get_in(&us, &peer, "locked").await;
    // Nobody slept: the disk only counts how long it would have been.
    assert!(disk.paused() >= comity_store::LOCK_WAIT);
    drop(lock);
    let server = bare_server(&Face::of(&Node::new().serve));
    let (outcome, _) = dial_bare(&us.dialer(), by_name(OTHER, Mode::Tofu), server, b"").await;
    assert!(outcome.is_ok());
}

// T72
#[tokio::test]
async fn a_file_that_vanished_is_not_taken_for_an_empty_one() {
    let (us, peer, _) = on_faulty_disk();
    fs::remove_file(us.home.path(HomeFile::KnownPeers)).expect("removed");
    let server = || comity_server(&Node::new());
    let request = by_name(OTHER, Mode::Tofu);
    let (outcome, saw) = dial_bare(&us.dialer(), request, server(), &accept_frame()).await;
    assert!(
        matches!(
            outcome,
            Err(DialError::Store(UpdateError::Store(
                StoreError::Missing { .. }
            )))
        ),
        "{outcome:?}"
    );
    assert_eq!(saw.data, b"");
    only_known_peers_get_in(&us, &peer, "missing").await;
    // A new process has no last good copy, and does not begin anew by itself.
    let opened = PeerStore::open(&us.home, "test");
    assert!(matches!(opened, Err(StoreError::Missing { .. })));
    PeerStore::reinitialise(&us.home, "test").expect("told to");
    let us = us.restarted();
    let server = bare_server(&Face::of(&Node::new().serve));
    let (outcome, _) = dial_bare(&us.dialer(), by_name(OTHER, Mode::Tofu), server, b"").await;
    assert!(outcome.is_ok());
}

// A process that does not follow its file sees at each dial what it says then.
#[tokio::test]
async fn without_upkeep_every_dial_looks_at_the_file() {
    let (us, peer) = (Machine::new(), Node::new());
    let dial = async || {
        let server = bare_server(&Face::of(&peer.serve));
        dial_bare(&us.dialer(), by_name(NAME, Mode::Pin), server, b"")
            .await
            .0
    };
    assert_eq!(dial_reason(dial().await), Reason::Unknown);
    us.write_known(&pin_line("dial", NAME, PeerId::Node(peer.id()), ""));
    assert!(dial().await.is_ok());
    us.write_known(&format!("@revoked both * node {}\n", peer.id()));
    assert_eq!(dial_reason(dial().await), Reason::Revoked);
}
