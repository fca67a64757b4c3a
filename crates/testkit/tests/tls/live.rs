//! T72, T76 and the ends of connections: authority ends at once, on both sides, whatever the
//! connection is doing.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use comity_certs::Purpose;
use comity_identity::PeerId;
use comity_store::HomeFile;
use comity_testkit::certificates::{DAY, Foreign, LeafOptions, Node};
use comity_testkit::world::{
    CALLER, Face, LISTENER, Machine, NOW, accept_reason, accepting, anchor_line, bare_client,
    bare_server, by_name, in_time, meet, pin_line,
};
use comity_tls::{Connection, Ended, PeerStream};
use comity_trust::{AllowRule, Mode, Reason, authorise};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsConnector;

/// What the issue promises from the change of the file to the end of the connection.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Two nodes that know each other, and their open connection.
struct Pair {
    alice: Machine,
    bob: Machine,
    dialled: Connection<DuplexStream>,
    accepted: PeerStream<DuplexStream>,
}

const SERVICE: &str = "web";

async fn pair() -> Pair {
    let (alice, bob) = (Machine::new(), Machine::new());
    alice.write_known(&pin_line("both", "bob", PeerId::Node(bob.id()), ""));
    bob.write_known(&pin_line(
        "both",
        "alice",
        PeerId::Node(alice.id()),
        "for=web",
    ));
    let (alice, bob) = (alice.restarted(), bob.restarted());
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (dialer, acceptor) = (alice.dialer(), bob.acceptor(Mode::Enroll));
    let accepting = async {
        let incoming = acceptor.accept(far, Some(CALLER)).await?;
        let rule = |recognition: &_| authorise(SERVICE, &AllowRule::Granted, recognition);
        incoming.accept(rule).await
    };
    let request = by_name("bob", Mode::Pin);
    let (dialled, accepted) =
        tokio::join!(dialer.handshake(near, Some(LISTENER), request), accepting);
    Pair {
        alice,
        bob,
        dialled: dialled.expect("accepted"),
        accepted: accepted.expect("recognised").0,
    }
}

/// Why the stream ends when it is read.
async fn reads_until_end(stream: &mut PeerStream<DuplexStream>) -> Reason {
    let error = loop {
        match in_time(stream.read(&mut [0; 256])).await {
            Ok(0) => panic!("closed by the peer"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    reason_of(&error)
}

fn reason_of(error: &std::io::Error) -> Reason {
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    let ended = error.get_ref().and_then(|e| e.downcast_ref::<Ended>());
    ended.expect("the reason").0
}

// T76: with the real loop that looks at the real file, in real time.
#[tokio::test]
async fn a_change_by_hand_ends_an_idle_connection_within_a_second() {
    let id = |machine: &Machine| PeerId::Node(machine.id());
    type Edit = fn(&Pair, PeerId) -> String;
    let edits: [(Edit, Reason); 5] = [
        (|_, _| String::new(), Reason::Unknown),
        (
            |_, id| {
                pin_line("both", "alice", id, "for=web")
                    + &format!("@revoked both * node {}\n", id.key_hash())
            },
            Reason::Revoked,
        ),
        // The grant is withdrawn, or given for something else.
        (
            |_, id| pin_line("both", "alice", id, ""),
            Reason::NotAuthorised,
        ),
        (
            |_, id| pin_line("both", "alice", id, "for=ssh"),
            Reason::NotAuthorised,
        ),
        // The entry has ended.
        (
            |_, id| {
                pin_line(
                    "both",
                    "alice",
                    id,
                    "for=web not-after=2026-03-01T00:00:00Z",
                )
            },
            Reason::Expired,
        ),
    ];
    for (edit, reason) in edits {
        let mut pair = pair().await;
        let _upkeep = pair.bob.endpoint.upkeep();
        let text = edit(&pair, id(&pair.alice));
        let started = Instant::now();
        pair.bob.write_known(&text);
        let ended = tokio::time::timeout(AT_ONCE, reads_until_end(&mut pair.accepted)).await;
        assert_eq!(ended.expect("within a second"), reason);
        assert!(started.elapsed() < AT_ONCE);
        // The peer sees the connection close when it is dropped, as a tunnel does at once.
        drop(pair.accepted);
        let read = pair.dialled.stream.read(&mut [0; 1]).await;
        assert!(matches!(read, Ok(0) | Err(_)));
    }
}

// T76: the dialling side follows its own file.
#[tokio::test]
async fn a_dialer_drops_a_peer_that_it_no_longer_knows() {
    for (lines, reason) in [("", Reason::Unknown), ("revoked", Reason::Revoked)] {
        let mut pair = pair().await;
        let _upkeep = pair.alice.endpoint.upkeep();
        match lines {
            "" => pair.alice.write_known(""),
            _ => pair
                .alice
                .write_known(&format!("@revoked both * node {}\n", pair.bob.id())),
        }
        let stream = &mut pair.dialled.stream;
        let ended = tokio::time::timeout(AT_ONCE, reads_until_end(stream)).await;
        assert_eq!(ended.expect("within a second"), reason);
        let written = pair.dialled.stream.write(b"more").await;
        assert_eq!(reason_of(&written.expect_err("ended")), reason);
        let shut = pair.dialled.stream.shutdown().await;
        assert_eq!(reason_of(&shut.expect_err("ended")), reason);
    }
}

// T76: a connection under full load, and one whose peer takes nothing.
#[tokio::test]
async fn busy_and_stuck_connections_end_like_idle_ones() {
    for taking in [true, false] {
        let pair = pair().await;
        let _upkeep = pair.bob.endpoint.upkeep();
        let (mut stream, mut accepted) = (pair.dialled.stream, pair.accepted);
        let consuming = tokio::spawn(async move {
            while taking && matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {}
            stream
        });
        let writing = tokio::spawn(async move {
            loop {
                let written = accepted.write_all(&[7; 16 * 1024]).await;
                if let Err(error) = written {
                    return reason_of(&error);
                }
            }
        });
        tokio::task::yield_now().await;
        pair.bob.write_known("");
        let ended = tokio::time::timeout(AT_ONCE, writing).await;
        assert_eq!(
            ended.expect("within a second").expect("no panic"),
            Reason::Unknown
        );
        drop(consuming.await);
    }
}

// T76: both halves of a split stream, in two tasks.
#[tokio::test]
async fn both_halves_of_a_stream_are_woken() {
    let pair = pair().await;
    let _upkeep = pair.bob.endpoint.upkeep();
    let (mut read, mut write) = tokio::io::split(pair.accepted);
    let reading = tokio::spawn(async move { read.read(&mut [0; 16]).await.map(drop) });
    let writing = tokio::spawn(async move {
        loop {
            write.write_all(&[7; 16 * 1024]).await?;
        }
        #[expect(unreachable_code, reason = "gives the block its type")]
        Ok::<(), std::io::Error>(())
    });
    pair.bob.write_known("");
    for half in [reading, writing] {
        let ended = tokio::time::timeout(AT_ONCE, half)
            .await
            .expect("within a second");
        let error = ended.expect("no panic").expect_err("ended");
        assert_eq!(reason_of(&error), Reason::Unknown);
    }
    drop(pair.dialled);
}

// T72, T64
#[tokio::test]
async fn a_file_that_vanishes_or_breaks_ends_nothing_until_it_is_back() {
    let mut pair = pair().await;
    let bob = &pair.bob;
    let store = Arc::clone(bob.endpoint.store());
    let good = bob.known();
    let look = || {
        let snapshot = store.poll_changes();
        bob.endpoint.registry().recheck(&snapshot, NOW);
    };
    std::fs::remove_file(bob.home.path(HomeFile::KnownPeers)).expect("removed");
    look();
    assert!(pair.accepted.ended().is_none());
    bob.write_known("nonsense\n");
    look();
    assert!(pair.accepted.ended().is_none());
    bob.write_known(good.trim_start_matches("comity-known-peers v1\n"));
    look();
    assert!(pair.accepted.ended().is_none());
    bob.write_known("");
    look();
    assert_eq!(reads_until_end(&mut pair.accepted).await, Reason::Unknown);
}

// The rule that the application bound is asked again, and only what it refuses ends.
#[tokio::test]
async fn a_rule_bound_at_accept_is_asked_at_every_change() {
    let (alice, bob) = (Machine::new(), Machine::new());
    alice.write_known(&pin_line("both", "bob", PeerId::Node(bob.id()), ""));
    let line = pin_line("both", "alice", PeerId::Node(alice.id()), "");
    bob.write_known(&line);
    let allowed = Arc::new(AtomicBool::new(true));
    let rule = {
        let allowed = Arc::clone(&allowed);
        move |_: &_| match allowed.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err(Reason::WrongRole),
        }
    };
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (dialer, acceptor) = (alice.dialer(), bob.acceptor(Mode::Pin));
    let accepting = async {
        let incoming = acceptor.accept(far, Some(CALLER)).await.expect("known");
        incoming.accept(rule).await.expect("allowed")
    };
    let request = by_name("bob", Mode::Pin);
    let (dialled, (mut stream, _)) =
        tokio::join!(dialer.handshake(near, Some(LISTENER), request), accepting);
    let look = || {
        let snapshot = bob.endpoint.store().poll_changes();
        bob.endpoint.registry().recheck(&snapshot, NOW);
    };
    bob.write_known(&(line.clone() + "# a comment\n"));
    look();
    assert!(stream.ended().is_none());
    allowed.store(false, Ordering::Release);
    look();
    assert_eq!(reads_until_end(&mut stream).await, Reason::WrongRole);
    assert_eq!(bob.endpoint.registry().len(), 1);
    drop((dialled, stream));
    assert!(bob.endpoint.registry().is_empty());
}

#[tokio::test]
async fn a_rule_that_says_no_at_once_is_told_to_the_dialer() {
    let (alice, bob) = (Machine::new(), Machine::new());
    alice.write_known(&pin_line("both", "bob", PeerId::Node(bob.id()), ""));
    bob.write_known(&pin_line("both", "alice", PeerId::Node(alice.id()), ""));
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (dialer, acceptor) = (alice.dialer(), bob.acceptor(Mode::Pin));
    let accepting = async {
        let incoming = acceptor.accept(far, Some(CALLER)).await?;
        incoming.accept(|_| Err(Reason::NotAuthorised)).await
    };
    let request = by_name("bob", Mode::Pin);
    let (dialled, accepted) =
        tokio::join!(dialer.handshake(near, Some(LISTENER), request), accepting);
    assert_eq!(accept_reason(accepted), Reason::NotAuthorised);
    assert!(matches!(
        dialled,
        Err(comity_tls::DialError::RefusedByPeer(Some(
            Reason::NotAuthorised
        )))
    ));
    assert!(bob.endpoint.registry().is_empty());
}

// A connection never outlives its certificate, to the second of the tick that looks.
#[tokio::test(start_paused = true)]
async fn connections_end_with_their_certificate() {
    let node = Node::new();
    let options = LeafOptions {
        not_before: NOW,
        not_after: NOW + DAY,
        ..LeafOptions::default()
    };
    let foreign = Foreign {
        not_after: NOW + DAY,
        ..Foreign::default()
    };
    // A node's with the tolerance for clocks, a foreign one exactly.
    for (credential, last) in [
        (node.leaf(Purpose::Dial, &options), NOW + 3 * DAY),
        (foreign.self_signed(), NOW + DAY),
    ] {
        let face = Face::of(&credential);
        let us = Machine::knowing(&pin_line("accept", "caller", PeerId::from(&face), ""));
        let _upkeep = us.endpoint.upkeep();
        let (near, far) = tokio::io::duplex(64 * 1024);
        let connector = TlsConnector::from(Arc::new(bare_client(Some(&face))));
        let name = ServerName::try_from("peer.invalid").expect("a name");
        let acceptor = us.acceptor(Mode::Pin);
        let (client, accepted) =
            tokio::join!(connector.connect(name, near), accepting(&acceptor, far));
        let (mut stream, peer) = accepted.expect("valid");
        assert_eq!(peer.ends, last);
        us.clock.set(last);
        let five = Duration::from_secs(5);
        let read = tokio::time::timeout(five, stream.read(&mut [0; 1])).await;
        assert!(read.is_err(), "it is the last second");
        us.clock.advance(Duration::from_secs(1));
        let started = tokio::time::Instant::now();
        assert_eq!(reads_until_end(&mut stream).await, Reason::Expired);
        assert!(started.elapsed() <= AT_ONCE);
        drop(client);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dialled_connection_ends_with_the_certificate_of_its_server() {
    let foreign = Foreign {
        not_after: NOW + DAY,
        ..Foreign::server("db.example")
    };
    let face = Face::of(&foreign.self_signed());
    let us = Machine::knowing(&pin_line(
        "dial",
        "db.example:7117",
        PeerId::from(&face),
        "",
    ));
    let _upkeep = us.endpoint.upkeep();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let dialer = us.dialer();
    let request = by_name("db.example:7117", Mode::Pin);
    let server = tokio_rustls::TlsAcceptor::from(Arc::new(bare_server(&face))).accept(far);
    let (dialled, server) = tokio::join!(dialer.handshake(near, Some(LISTENER), request), server);
    let mut stream = dialled.expect("accepted").stream;
    us.clock.set(NOW + DAY + Duration::from_secs(1));
    assert_eq!(reads_until_end(&mut stream).await, Reason::Expired);
    drop(server);
}

// An end that an entry was given later counts when it comes, without a further change.
#[tokio::test(start_paused = true)]
async fn an_entry_that_is_given_an_end_ends_the_connection_then() {
    let mut pair = pair().await;
    let _upkeep = pair.bob.endpoint.upkeep();
    let id = PeerId::Node(pair.alice.id());
    let ends = "for=web not-after=2026-03-02T12:00:00Z";
    pair.bob.write_known(&pin_line("both", "alice", id, ends));
    let five = Duration::from_secs(5);
    let read = tokio::time::timeout(five, pair.accepted.read(&mut [0; 1])).await;
    assert!(read.is_err(), "it has not come yet");
    pair.bob.clock.set(NOW + DAY / 2);
    let read = tokio::time::timeout(five, pair.accepted.read(&mut [0; 1])).await;
    assert!(read.is_err(), "it is the last second");
    pair.bob.clock.advance(Duration::from_secs(1));
    assert_eq!(reads_until_end(&mut pair.accepted).await, Reason::Expired);
}

// What a first use recorded is a pin like any other: removing it ends what it let in.
#[tokio::test]
async fn removing_what_a_first_use_recorded_ends_its_connection() {
    let (alice, bob) = (Machine::new(), Machine::new());
    let request = by_name("db.example:7117", Mode::Tofu);
    let meeting = meet(&alice.dialer(), request, &bob.acceptor(Mode::Tofu)).await;
    let (mut dialled, mut accepted, _) = meeting.open();
    for (machine, stream) in [(&alice, &mut dialled.stream), (&bob, &mut accepted)] {
        machine.write_known("");
        let snapshot = machine.endpoint.store().poll_changes();
        machine.endpoint.registry().recheck(&snapshot, NOW);
        assert_eq!(reads_until_end(stream).await, Reason::Unknown);
    }
}

#[tokio::test]
async fn removing_or_narrowing_a_listed_ca_ends_whom_it_let_in() {
    let root = Foreign::authority("root").root();
    let client = Foreign {
        purposes: vec![Purpose::Dial],
        ..Foreign::server("db.example")
    };
    let face = Face::of(&client.issued_by(&root));
    let listed = |names: &str| anchor_line("accept", names, &root.der, "");
    for (lines, reason) in [
        (String::new(), Reason::Unknown),
        (listed("*.other"), Reason::OutOfScope),
    ] {
        let us = Machine::knowing(&listed("*.example"));
        let (near, far) = tokio::io::duplex(64 * 1024);
        let connector = TlsConnector::from(Arc::new(bare_client(Some(&face))));
        let name = ServerName::try_from("peer.invalid").expect("a name");
        let acceptor = us.acceptor(Mode::Ca);
        let (client, accepted) =
            tokio::join!(connector.connect(name, near), accepting(&acceptor, far));
        let (mut stream, _) = accepted.expect("vouched for");
        us.write_known(&lines);
        let snapshot = us.endpoint.store().poll_changes();
        us.endpoint.registry().recheck(&snapshot, NOW);
        assert_eq!(reads_until_end(&mut stream).await, reason);
        drop(client);
    }
}

// Half-close is no end: what was asked for still arrives.
#[tokio::test]
async fn a_shut_down_write_half_leaves_the_read_half_open() {
    let mut pair = pair().await;
    pair.dialled
        .stream
        .write_all(b"request")
        .await
        .expect("open");
    pair.dialled.stream.shutdown().await.expect("open");
    let mut heard = Vec::new();
    pair.accepted.read_to_end(&mut heard).await.expect("open");
    assert_eq!(heard, b"request");
    pair.accepted.write_all(b"answer").await.expect("open");
    pair.accepted.shutdown().await.expect("open");
    heard.clear();
    pair.dialled
        .stream
        .read_to_end(&mut heard)
        .await
        .expect("open");
    assert_eq!(heard, b"answer");
}
