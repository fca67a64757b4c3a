//! T50 to T53, T55: somebody in the middle who ends TLS on both legs.

use comity_certs::Anchor;
use comity_identity::PeerId;
use comity_testkit::certificates::{Foreign, Node};
use comity_testkit::world::{
    CALLER, Face, LISTENER, Machine, Middle, NOW, Overheard, accepting, bare_server, by_id,
    by_name, dial_bare, dial_reason, meet, meet_over, pin_line,
};
use comity_tls::{ALPN_COMITY, AcceptError, DialError, DialRequest, Wish, live};
use comity_trust::{Direction, Mode, Reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const NAME: &str = "db.example:7117";

/// Dials through somebody in the middle; he ends with what he overheard.
async fn refused_through(
    us: &Machine,
    request: DialRequest,
    serving: &Face,
    far: &Machine,
) -> (Reason, Overheard) {
    let eve = Node::new();
    let before = us.memory();
    let middle = Middle::new(serving, &Face::of(&eve.dial)).speaking(ALPN_COMITY);
    let (near, end, work) = middle.start();
    let acceptor = far.acceptor(Mode::Insecure);
    let meeting = meet_over(&us.dialer(), near, request, &acceptor, end).await;
    assert!(meeting.accepted.is_err());
    assert_eq!(us.memory(), before);
    (dial_reason(meeting.dialled), work.await.expect("finished"))
}

fn heard_nothing(heard: &Overheard) {
    assert!(heard.out.is_empty() && heard.back.is_empty());
    assert!(!heard.dialer_came, "our certificate has left");
}

// T50
#[tokio::test]
async fn at_first_use_the_one_in_the_middle_is_believed_and_the_comparison_shows_it() {
    let (alice, bob, eve) = (Machine::new(), Machine::new(), Node::new());
    let middle = Middle::new(&Face::of(&eve.serve), &Face::of(&eve.dial)).speaking(ALPN_COMITY);
    let (near, far, work) = middle.start();
    let request = by_name(NAME, Mode::Tofu);
    let acceptor = bob.acceptor(Mode::Tofu);
    let meeting = meet_over(&alice.dialer(), near, request, &acceptor, far).await;
    let (connection, accepted, peer) = meeting.open();
    // Each believes to talk to the other, and both know the key in between.
    assert_eq!(connection.peer.id, PeerId::Node(eve.id()));
    assert_eq!(peer.id, PeerId::Node(eve.id()));
    // What alice has on her screen is not what bob reads out: id, words, hexadecimal.
    let (shown, real) = (connection.peer.id.key_hash(), bob.id());
    assert_ne!(shown.to_string(), real.to_string());
    assert_ne!(shown.words().to_string(), real.words().to_string());
    drop((connection, accepted));
    work.await.expect("finished");
    // And she remembers the wrong one, which makes the right one changed: that shows it, too.
    let direct = meet(&alice.dialer(), by_name(NAME, Mode::Tofu), &acceptor).await;
    assert_eq!(dial_reason(direct.dialled), Reason::Changed);
}

// T50: whoever was told the id beforehand is safe at first use.
#[tokio::test]
async fn an_id_told_beforehand_keeps_the_one_in_the_middle_out() {
    let (alice, bob, eve) = (Machine::new(), Machine::new(), Node::new());
    let request = by_id(PeerId::Node(bob.id()), Mode::Tofu);
    let (reason, heard) = refused_through(&alice, request, &Face::of(&eve.serve), &bob).await;
    assert_eq!(reason, Reason::Unknown);
    heard_nothing(&heard);
}

// T51
#[tokio::test]
async fn later_the_one_in_the_middle_is_a_changed_peer_and_hears_nothing() {
    let (alice, bob, eve) = (Machine::new(), Machine::new(), Node::new());
    let first = meet(
        &alice.dialer(),
        by_name(NAME, Mode::Tofu),
        &bob.acceptor(Mode::Tofu),
    )
    .await;
    first.open();
    for mode in [
        Mode::Tofu,
        Mode::CaOrTofu,
        Mode::Pin,
        Mode::CaOrPin,
        Mode::Ca,
    ] {
        let request = by_name(NAME, mode);
        let (reason, heard) = refused_through(&alice, request, &Face::of(&eve.serve), &bob).await;
        assert_eq!(reason, Reason::Changed, "{mode}");
        heard_nothing(&heard);
    }
}

// T51, from the other end: he shows bob his own key, which bob does not know.
#[tokio::test]
async fn an_acceptor_takes_the_one_in_the_middle_for_whom_he_is() {
    let (alice, bob, eve) = (Machine::new(), Machine::new(), Node::new());
    bob.write_known(&pin_line(
        "both",
        "alice",
        PeerId::Node(alice.id()),
        "for=*",
    ));
    let middle = Middle::new(&Face::of(&eve.serve), &Face::of(&eve.dial)).speaking(ALPN_COMITY);
    let (near, far, work) = middle.start();
    let request = by_name(NAME, Mode::Insecure);
    let acceptor = bob.acceptor(Mode::Enroll);
    let meeting = meet_over(&alice.dialer(), near, request, &acceptor, far).await;
    assert!(matches!(
        meeting.accepted,
        Err(AcceptError::Refused { peer, reason: Reason::Pending }) if peer == PeerId::Node(eve.id())
    ));
    assert!(matches!(
        meeting.dialled,
        Err(DialError::RefusedByPeer(Some(Reason::Pending)))
    ));
    work.await.expect("finished");
}

// T52
#[tokio::test]
async fn a_valid_certificate_of_a_public_ca_does_not_beat_a_pin() {
    let root = Foreign::authority("public").root();
    let vouched = Face::of(&Foreign::server("db.example").issued_by(&root));
    let (alice, bob) = (Machine::new(), Machine::new());
    alice.write_known(&pin_line("dial", NAME, PeerId::Node(bob.id()), ""));
    let alice = alice.with_roots(vec![Anchor::from_der(&root.der).expect("a CA")]);
    for mode in [
        Mode::Ca,
        Mode::Pin,
        Mode::CaOrPin,
        Mode::CaOrTofu,
        Mode::CaThenPin,
        Mode::CaAndPin,
    ] {
        let request = by_name(NAME, mode);
        let (reason, heard) = refused_through(&alice, request, &vouched, &bob).await;
        assert_eq!(reason, Reason::Changed, "{mode}");
        heard_nothing(&heard);
    }
    // Where nothing is pinned, that certificate is good enough: so it was the pin.
    let stranger = Machine::new().with_roots(vec![Anchor::from_der(&root.der).expect("a CA")]);
    let request = by_name(NAME, Mode::CaOrTofu);
    let (outcome, _) = dial_bare(&stranger.dialer(), request, bare_server(&vouched), b"").await;
    assert!(outcome.is_ok());
}

// T53
#[tokio::test]
async fn a_name_once_verified_by_a_ca_does_not_fall_back_to_an_unknown_key() {
    let root = Foreign::authority("public").root();
    let vouched = Face::of(&Foreign::server("db.example").issued_by(&root));
    let alice = Machine::new().with_roots(vec![Anchor::from_der(&root.der).expect("a CA")]);
    let request = by_name(NAME, Mode::CaOrTofu);
    let (outcome, _) = dial_bare(&alice.dialer(), request, bare_server(&vouched), b"").await;
    assert!(outcome.is_ok());
    assert!(alice.known().contains("@ca-verified"), "{}", alice.known());
    let (bob, eve) = (Machine::new(), Node::new());
    let own = Face::of(&Foreign::server("db.example").self_signed());
    let other = Foreign::authority("somebody else's").root();
    let unknown_ca = Face::of(&Foreign::server("db.example").issued_by(&other));
    for face in [&own, &unknown_ca, &Face::of(&eve.serve)] {
        for mode in [Mode::CaOrTofu, Mode::Tofu, Mode::Ca, Mode::CaOrPin] {
            let request = by_name(NAME, mode);
            let (reason, heard) = refused_through(&alice, request, face, &bob).await;
            assert_eq!(reason, Reason::Downgrade, "{mode}");
            heard_nothing(&heard);
        }
    }
    // An authority that only bears the name of ours: its signature is wrong, which comes first.
    let namesake = Foreign::authority("public").root();
    let namesake = Face::of(&Foreign::server("db.example").issued_by(&namesake));
    let request = by_name(NAME, Mode::CaOrTofu);
    let (reason, heard) = refused_through(&alice, request, &namesake, &bob).await;
    assert_eq!(reason, Reason::Malformed);
    heard_nothing(&heard);
}

/// Runs the live comparison over a meeting and gives the words on both screens.
async fn compare(alice: &Machine, bob: &Machine, middle: Option<Middle>) -> [[&'static str; 4]; 2] {
    let (near, far, work) = match middle {
        Some(middle) => {
            let (near, far, work) = middle.start();
            (near, far, Some(work))
        }
        None => {
            let (near, far) = tokio::io::duplex(64 * 1024);
            (near, far, None)
        }
    };
    let (dialer, acceptor) = (alice.dialer(), bob.acceptor(Mode::Tofu));
    let dialling = async {
        let mut request = by_name(NAME, Mode::Tofu);
        request.wish = Wish::Verify;
        let connection = dialer.handshake(near, Some(LISTENER), request).await;
        let mut connection = connection.expect("accepted");
        let context = connection.live.expect("what the words are made of");
        let words = live::exchange(&mut connection.stream, &context).await;
        connection.stream.shutdown().await.ok();
        words.expect("words")
    };
    let accepting = async {
        let incoming = acceptor
            .accept(far, Some(CALLER))
            .await
            .expect("recognised");
        let context = incoming.live_context().expect("exported");
        let (mut stream, _) = incoming.accept(|_| Ok(())).await.expect("recognised");
        let words = live::exchange(&mut stream, &context).await;
        stream.shutdown().await.ok();
        words.expect("words")
    };
    let (ours, theirs) = tokio::join!(dialling, accepting);
    if let Some(work) = work {
        let heard = work.await.expect("finished");
        // He passed every frame on, and it did not help.
        assert!(!heard.out.is_empty() && !heard.back.is_empty());
    }
    [ours, theirs]
}

// T55
#[tokio::test]
async fn the_live_comparison_shows_the_same_words_on_both_screens() {
    let (alice, bob) = (Machine::new(), Machine::new());
    let [ours, theirs] = compare(&alice, &bob, None).await;
    assert_eq!(ours, theirs);
    // Fresh ones each time.
    let [again, _] = compare(&alice, &bob, None).await;
    assert_ne!(ours, again);
}

// T55
#[tokio::test]
async fn with_somebody_in_the_middle_the_words_differ() {
    let eve = Node::new();
    let middle = Middle::new(&Face::of(&eve.serve), &Face::of(&eve.dial)).speaking(ALPN_COMITY);
    let [ours, theirs] = compare(&Machine::new(), &Machine::new(), Some(middle)).await;
    assert_ne!(ours, theirs);
}

// A man in the middle who does not end TLS is a wire: bytes that he changes end the connection.
#[tokio::test]
async fn a_flipped_bit_on_the_wire_ends_the_connection() {
    let (alice, bob) = (Machine::new(), Machine::new());
    alice.write_known(&pin_line("both", "bob", PeerId::Node(bob.id()), ""));
    bob.write_known(&pin_line("both", "alice", PeerId::Node(alice.id()), ""));
    let (near, mut wire_near) = tokio::io::duplex(64 * 1024);
    let (far, mut wire_far) = tokio::io::duplex(64 * 1024);
    let (dialer, acceptor) = (alice.dialer(), bob.acceptor(Mode::Pin));
    let meeting = async {
        tokio::join!(
            dialer.handshake(near, Some(LISTENER), by_name("bob", Mode::Pin)),
            accepting(&acceptor, far)
        )
    };
    let (dialled, accepted) = tokio::select! {
        met = meeting => met,
        _ = tokio::io::copy_bidirectional(&mut wire_near, &mut wire_far) => panic!("closed"),
    };
    let mut stream = dialled.expect("accepted").stream;
    let (mut accepted, peer) = accepted.expect("recognised");
    assert_eq!(peer.direction, Direction::Accept);
    stream.write_all(b"transfer 100").await.expect("open");
    stream.flush().await.expect("open");
    let mut record = [0; 256];
    let length = wire_near.read(&mut record).await.expect("open");
    record[length - 1] ^= 1;
    wire_far.write_all(&record[..length]).await.expect("open");
    let mut heard = Vec::new();
    assert!(accepted.read_to_end(&mut heard).await.is_err());
    assert!(heard.is_empty());
    assert!(peer.ends > NOW);
}
