//! T32 to T36, T38 to T40: versions, ALPN, and what is said after the handshake, as far as TLS is
//! concerned.

use std::sync::Arc;

use comity_identity::PeerId;
use comity_testkit::certificates::{Foreign, Node};
use comity_testkit::world::{
    CALLER, Face, LISTENER, Machine, accept_frame, accept_reason, accepting, bare_client,
    bare_client_with, bare_server, bare_server_with, by_name, call, dial_bare, hello_frame, meet,
    pin_line, refuse_frame, speaking_comity,
};
use comity_tls::hello::{Hello, SubProtocol};
use comity_tls::{
    ALPN_COMITY, ALPN_HTTP1, AcceptError, Acceptor, AcceptorConfig, Alpn, DialError, Request,
    Versions, Wish,
};
use comity_trust::{Mode, Reason};
use rustls::AlertDescription;
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const NAME: &str = "db.example:7117";

fn acceptor_with(us: &Machine, versions: Versions) -> Acceptor {
    let config = AcceptorConfig {
        mode: Mode::Pin,
        versions,
        ..AcceptorConfig::default()
    };
    Acceptor::new(us.endpoint.clone(), config)
}

/// A foreign peer and a machine that pins it.
fn pinned() -> (Machine, Face) {
    let face = Face::of(&Foreign::server("db.example").self_signed());
    let us = Machine::knowing(&pin_line("both", NAME, PeerId::from(&face), ""));
    (us, face)
}

// T32
#[tokio::test]
async fn tls_1_2_is_spoken_only_where_the_operator_says_so() {
    let (us, face) = pinned();
    for (versions, spoken) in [(Versions::Tls13, false), (Versions::Tls12Too, true)] {
        let mut request = by_name(NAME, Mode::Pin);
        request.versions = versions;
        let server = bare_server_with(&face, &[&TLS12]);
        let (outcome, _) = dial_bare(&us.dialer(), request, server, b"").await;
        match (spoken, outcome) {
            (true, outcome) => assert!(outcome.is_ok(), "{outcome:?}"),
            (false, Err(DialError::Alert(AlertDescription::ProtocolVersion))) => {}
            (false, outcome) => panic!("{outcome:?}"),
        }
        let client = bare_client_with(Some(&face), &[&TLS12]);
        let (outcome, saw) = call(&acceptor_with(&us, versions), client, b"").await;
        match spoken {
            true => assert!(outcome.is_ok(), "{outcome:?}"),
            false => {
                assert!(matches!(outcome, Err(AcceptError::Handshake(_))));
                assert_eq!(saw.alert, Some(AlertDescription::ProtocolVersion));
            }
        }
    }
}

// T32: where TLS 1.2 is allowed, comity/1 still is not spoken on it.
#[tokio::test]
async fn comity_is_never_spoken_over_tls_1_2() {
    let (us, face) = pinned();
    let client = speaking_comity(bare_client_with(Some(&face), &[&TLS12]));
    let hello = hello_frame(&Hello::new(SubProtocol::Tunnel));
    let acceptor = acceptor_with(&us, Versions::Tls12Too);
    let (outcome, saw) = call(&acceptor, client, &hello).await;
    assert!(
        matches!(outcome, Err(AcceptError::Handshake(_))),
        "{outcome:?}"
    );
    assert_eq!(saw.data, b"");
    let mut request = by_name(NAME, Mode::Pin);
    request.versions = Versions::Tls12Too;
    let mut server = bare_server_with(&face, &[&TLS12]);
    server.alpn_protocols = vec![ALPN_COMITY.to_vec()];
    let (outcome, saw) = dial_bare(&us.dialer(), request, server, &accept_frame()).await;
    assert!(
        matches!(outcome, Err(DialError::Handshake(_))),
        "{outcome:?}"
    );
    assert_eq!(saw.data, b"");
}

// T33
#[tokio::test]
async fn a_peer_with_nothing_but_tls_1_3_is_fine_with_either_setting() {
    let (us, face) = pinned();
    for versions in [Versions::Tls13, Versions::Tls12Too] {
        let mut request = by_name(NAME, Mode::Pin);
        request.versions = versions;
        let server = bare_server_with(&face, &[&TLS13]);
        assert!(
            dial_bare(&us.dialer(), request, server, b"")
                .await
                .0
                .is_ok()
        );
        let client = bare_client_with(Some(&face), &[&TLS13]);
        let acceptor = acceptor_with(&us, versions);
        assert!(call(&acceptor, client, b"").await.0.is_ok());
    }
}

// T34
#[tokio::test]
async fn a_client_without_a_certificate_is_turned_away() {
    for mode in [Mode::Insecure, Mode::Tofu, Mode::Enroll] {
        let us = Machine::new();
        let before = us.memory();
        let (outcome, saw) = call(&us.acceptor(mode), bare_client(None), b"hello?").await;
        assert!(
            matches!(outcome, Err(AcceptError::Handshake(_))),
            "{outcome:?}"
        );
        assert_eq!(saw.alert, Some(AlertDescription::CertificateRequired));
        assert_eq!((saw.data.len(), us.memory()), (0, before));
    }
}

// T35
#[tokio::test]
async fn raw_public_keys_are_refused_cleanly_in_both_directions() {
    let node = Node::new();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(node.identity.pkcs8()));
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).expect("a key");
    let spki = key.public_key().expect("public").to_vec();
    let raw = Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], key));
    let us = Machine::knowing(&pin_line("both", NAME, PeerId::Node(node.id()), ""));
    let before = us.memory();
    for mode in [Mode::Pin, Mode::Insecure] {
        let mut client = bare_client_with(None, &[&TLS13]);
        client.client_auth_cert_resolver =
            Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&raw)));
        let (outcome, saw) = call(&us.acceptor(mode), client, b"hello?").await;
        assert!(
            matches!(outcome, Err(AcceptError::Handshake(_))),
            "{outcome:?}"
        );
        assert_eq!(saw.data, b"");
        let face = Face::of(&node.serve);
        let mut server = bare_server_with(&face, &[&TLS13]);
        let resolver = rustls::server::AlwaysResolvesServerRawPublicKeys::new(Arc::clone(&raw));
        server.cert_resolver = Arc::new(resolver);
        let (outcome, saw) = dial_bare(&us.dialer(), by_name(NAME, mode), server, b"").await;
        assert!(
            matches!(outcome, Err(DialError::Alert(_) | DialError::Handshake(_))),
            "{outcome:?}"
        );
        assert_eq!(saw.data, b"");
    }
    assert_eq!(us.memory(), before);
}

// T36
#[tokio::test]
async fn a_protocol_that_we_do_not_speak_ends_the_handshake() {
    let (us, face) = pinned();
    for foreign in [&b"h2"[..], b"comity/2", b"\x00"] {
        let mut client = bare_client(Some(&face));
        client.alpn_protocols = vec![foreign.to_vec()];
        let (outcome, saw) = call(&us.acceptor(Mode::Pin), client, b"").await;
        assert!(
            matches!(outcome, Err(AcceptError::Handshake(_))),
            "{outcome:?}"
        );
        assert_eq!(saw.alert, Some(AlertDescription::NoApplicationProtocol));
        let mut server = bare_server(&face);
        server.alpn_protocols = vec![foreign.to_vec()];
        let (outcome, _) = dial_bare(&us.dialer(), by_name(NAME, Mode::Pin), server, b"").await;
        assert!(
            matches!(
                outcome,
                Err(DialError::Alert(AlertDescription::NoApplicationProtocol))
            ),
            "{outcome:?}"
        );
    }
}

// T36
#[tokio::test]
async fn foreign_peers_reach_the_default_service_with_http_or_with_no_protocol_at_all() {
    let (us, face) = pinned();
    for (offer, want) in [
        (vec![], None),
        (vec![ALPN_HTTP1.to_vec()], Some(ALPN_HTTP1.to_vec())),
        (
            vec![b"h2".to_vec(), ALPN_HTTP1.to_vec()],
            Some(ALPN_HTTP1.to_vec()),
        ),
    ] {
        let mut client = bare_client(Some(&face));
        client.alpn_protocols = offer;
        let (outcome, saw) = call(&us.acceptor(Mode::Pin), client, b"").await;
        let (_, request) = outcome.expect("accepted");
        assert_eq!(request, Request::Foreign(want.clone()));
        assert_eq!(saw.alpn, want);
    }
    // A server that selects nothing gets plain bytes, if that is all we want.
    let server = || bare_server(&face);
    let (outcome, saw) = dial_bare(&us.dialer(), by_name(NAME, Mode::Pin), server(), b"").await;
    assert!(outcome.is_ok());
    assert_eq!(saw.alpn, None);
    let mut request = by_name(NAME, Mode::Pin);
    request.alpn = Alpn::None;
    assert!(
        dial_bare(&us.dialer(), request, server(), b"")
            .await
            .0
            .is_ok()
    );
    for wish in [
        Wish::Service(Some("web".parse().expect("a name"))),
        Wish::Verify,
    ] {
        let mut request = by_name(NAME, Mode::Pin);
        request.wish = wish;
        let (outcome, saw) = dial_bare(&us.dialer(), request, server(), b"").await;
        assert!(matches!(outcome, Err(DialError::NotComity)), "{outcome:?}");
        assert_eq!(saw.data, b"");
    }
}

// T38
#[tokio::test]
async fn early_data_is_ignored() {
    let (us, face) = pinned();
    let mut earning = bare_client_with(Some(&face), &[&TLS13]);
    earning.enable_early_data = true;
    let config = Arc::new(earning);
    // Another server of the same name hands out a ticket that allows early data.
    let mut generous = bare_server_with(&Face::of(&Node::new().serve), &[&TLS13]);
    generous.send_tls13_tickets = 2;
    generous.max_early_data_size = 1024;
    let earned = comity_testkit::world::Call {
        config: Arc::clone(&config),
        early: &[],
        say: &[],
    };
    let earned = earned.bare(Arc::new(generous)).await;
    assert!(earned.tickets > 0);
    let early = comity_testkit::world::Call {
        config,
        early: b"GET /transfer HTTP/1.1\r\n\r\n",
        say: b"later",
    };
    let (near, far) = tokio::io::duplex(256 * 1024);
    let acceptor = us.acceptor(Mode::Pin);
    let listening = async {
        let (mut stream, _) = accepting(&acceptor, far).await.expect("recognised");
        let mut heard = vec![0; 5];
        stream.read_exact(&mut heard).await.expect("open");
        stream.shutdown().await.expect("open");
        heard
    };
    let (heard, saw) = tokio::join!(listening, early.speak(near));
    assert_eq!(heard, b"later");
    assert!(!saw.early_data_accepted);
    assert_eq!(saw.kind, Some(rustls::HandshakeKind::Full));
}

// T39
#[tokio::test]
async fn a_dialer_learns_of_its_refusal_in_words_and_before_it_has_sent_anything() {
    let (alice, bob) = (Machine::new(), Machine::new());
    alice.write_known(&pin_line("both", "bob", PeerId::Node(bob.id()), ""));
    for (mode, told) in [
        (Mode::Pin, Reason::Unknown),
        (Mode::Enroll, Reason::Pending),
        (Mode::Ca, Reason::Unknown),
    ] {
        let request = by_name("bob", Mode::Pin);
        let meeting = meet(&alice.dialer(), request, &bob.acceptor(mode)).await;
        assert!(
            matches!(meeting.dialled, Err(DialError::RefusedByPeer(Some(reason))) if reason == told),
            "{:?}",
            meeting.dialled
        );
        assert_eq!(accept_reason(meeting.accepted), told);
    }
    // One who is known here, but may not do what it asks, is told only after it said what that is.
    bob.write_known(&pin_line("both", "alice", PeerId::Node(alice.id()), ""));
    let (near, far) = tokio::io::duplex(256 * 1024);
    let (dialer, acceptor) = (alice.dialer(), bob.acceptor(Mode::Pin));
    let mut request = by_name("bob", Mode::Pin);
    request.wish = Wish::Service(Some("secret".parse().expect("a name")));
    let refusing = async {
        let incoming = acceptor.accept(far, Some(CALLER)).await.expect("known");
        let wanted = incoming.request.clone();
        incoming.refuse(Reason::NoSuchService).await;
        wanted
    };
    let (dialled, wanted) = tokio::join!(dialer.handshake(near, Some(LISTENER), request), refusing);
    // Coarser than what we know: which services exist is nobody's business.
    assert!(matches!(
        dialled,
        Err(DialError::RefusedByPeer(Some(Reason::NotAuthorised)))
    ));
    let Request::Comity(hello) = wanted else {
        panic!("{wanted:?}");
    };
    assert_eq!(hello.service.expect("asked").as_str(), "secret");
}

// T39
#[tokio::test]
async fn a_revoked_caller_is_told_no_more_than_a_stranger() {
    let node = Node::new();
    let revoked = format!("@revoked both * node {}\n", node.id());
    let hello = hello_frame(&Hello::new(SubProtocol::Tunnel));
    let answer = async |us: &Machine, mode| {
        let client = speaking_comity(bare_client(Some(&Face::of(&node.dial))));
        let (outcome, saw) = call(&us.acceptor(mode), client, &hello).await;
        (accept_reason(outcome), saw.data)
    };
    let stranger = answer(&Machine::new(), Mode::Pin).await;
    let revoked = answer(&Machine::knowing(&revoked), Mode::Pin).await;
    assert_eq!((stranger.0, revoked.0), (Reason::Unknown, Reason::Revoked));
    assert_eq!(stranger.1, revoked.1);
    assert_eq!(stranger.1, refuse_frame(Reason::Unknown));
}

// T39: a connection is not open before the peer says ACCEPT.
#[tokio::test]
async fn a_dialer_is_not_connected_before_the_peer_accepts() {
    let node = Node::new();
    let us = Machine::knowing(&pin_line("dial", NAME, PeerId::Node(node.id()), ""));
    let comity = || {
        let mut server = bare_server(&Face::of(&node.serve));
        server.alpn_protocols = vec![ALPN_COMITY.to_vec()];
        server
    };
    let (near, far) = tokio::io::duplex(256 * 1024);
    let (dialer, request) = (us.dialer(), by_name(NAME, Mode::Pin));
    let dialling = dialer.handshake(near, Some(LISTENER), request);
    tokio::pin!(dialling);
    let mut server = tokio::select! {
        biased;
        _ = &mut dialling => panic!("nobody has accepted"),
        server = TlsAcceptor::from(Arc::new(comity())).accept(far) => server.expect("a handshake"),
    };
    let hello = hello_frame(&Hello::new(SubProtocol::Tunnel));
    let mut heard = vec![0; hello.len()];
    tokio::select! {
        biased;
        _ = &mut dialling => panic!("nobody has accepted"),
        read = server.read_exact(&mut heard) => { read.expect("a HELLO"); }
    }
    // Exactly HELLO, and nothing behind it until ACCEPT.
    assert_eq!(heard, hello);
    server.write_all(&accept_frame()).await.expect("open");
    server.flush().await.expect("open");
    assert!(dialling.await.expect("accepted").accepted);
}

// T39: what comes instead of an answer.
#[tokio::test]
async fn whatever_is_no_answer_is_no_connection() {
    let node = Node::new();
    let us = Machine::knowing(&pin_line("dial", NAME, PeerId::Node(node.id()), ""));
    let later = [3, 0, 8, 0xa1, 1, 0x65, b'l', b'a', b't', b'e', b'r'];
    for (answer, want) in [
        (&b""[..], "closed"),
        (&[2], "closed"),
        (&[2, 0, 1], "closed"),
        (&[2, 0, 0], "protocol"),
        (&[2, 0, 3, 0xa1, 1, 2], "protocol"),
        (&[2, 0x40, 1], "protocol"),
        (&[1, 0, 1, 0xa0], "protocol"),
        (&[16, 0, 1, 0xa0], "protocol"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "protocol"),
        (&later, "refused"),
    ] {
        let mut server = bare_server(&Face::of(&node.serve));
        server.alpn_protocols = vec![ALPN_COMITY.to_vec()];
        let (near, far) = tokio::io::duplex(256 * 1024);
        let (dialer, request) = (us.dialer(), by_name(NAME, Mode::Pin));
        let serving = async {
            let mut tls = TlsAcceptor::from(Arc::new(server)).accept(far).await?;
            tls.write_all(answer).await?;
            tls.shutdown().await
        };
        let (outcome, served) =
            tokio::join!(dialer.handshake(near, Some(LISTENER), request), serving);
        served.expect("served");
        let found = match outcome {
            Err(DialError::Closed) => "closed",
            Err(DialError::Protocol(_)) => "protocol",
            Err(DialError::RefusedByPeer(None)) => "refused",
            other => panic!("{answer:?}: {other:?}"),
        };
        assert_eq!(found, want, "{answer:?}");
    }
}

// T40
#[tokio::test]
async fn keys_are_updated_under_a_running_stream() {
    let (us, face) = pinned();
    let (near, far) = tokio::io::duplex(256 * 1024);
    let acceptor = us.acceptor(Mode::Pin);
    let connector = TlsConnector::from(Arc::new(bare_client(Some(&face))));
    let name = ServerName::try_from("peer.invalid").expect("a name");
    let (client, accepted) = tokio::join!(connector.connect(name, near), accepting(&acceptor, far));
    let (mut client, mut stream) = (client.expect("open"), accepted.expect("open").0);
    for round in 0_u8..5 {
        client.get_mut().1.refresh_traffic_keys().expect("TLS 1.3");
        client.write_all(&[round; 1000]).await.expect("open");
        client.flush().await.expect("open");
        let mut heard = [0; 1000];
        stream.read_exact(&mut heard).await.expect("open");
        assert_eq!(heard, [round; 1000]);
        // And back, under the keys that the update asked us for.
        stream.write_all(&heard).await.expect("open");
        stream.flush().await.expect("open");
        client.read_exact(&mut heard).await.expect("open");
        assert_eq!(heard, [round; 1000]);
    }
}

#[tokio::test]
async fn both_sides_prefer_the_hybrid_key_exchange() {
    let (us, face) = pinned();
    let (near, far) = tokio::io::duplex(256 * 1024);
    let acceptor = us.acceptor(Mode::Pin);
    let connector = TlsConnector::from(Arc::new(bare_client(Some(&face))));
    let name = ServerName::try_from("peer.invalid").expect("a name");
    let (client, accepted) = tokio::join!(connector.connect(name, near), accepting(&acceptor, far));
    drop(accepted);
    let group = client
        .expect("open")
        .get_ref()
        .1
        .negotiated_key_exchange_group();
    let group = group.expect("a group").name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
}

// A refusal in HTTP, with the body of the request already under way.
#[tokio::test]
async fn a_refused_http_client_reads_403_and_the_reason() {
    let us = Machine::new();
    for request in [
        &b"GET / HTTP/1.1\r\nHost: db\r\n\r\n"[..],
        b"POST / HTTP/1.1\r\nHost: db\r\nContent-Length: 9\r\n\r\nsome body",
        b"no request at all",
    ] {
        let mut client = bare_client(Some(&Face::of(&Foreign::client("x").self_signed())));
        client.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
        // The client closes its write half after the request, so that even the last one ends.
        let call = comity_testkit::world::Call {
            config: Arc::new(client),
            early: &[],
            say: request,
        };
        let (near, far) = tokio::io::duplex(256 * 1024);
        let acceptor = us.acceptor(Mode::Enroll);
        let (outcome, saw) = tokio::join!(accepting(&acceptor, far), call.speak_and_close(near));
        assert_eq!(accept_reason(outcome), Reason::Pending);
        let answer = String::from_utf8(saw.data).expect("text");
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
        assert!(answer.contains("Comity-Reason: pending\r\n"), "{answer}");
        assert!(answer.ends_with("refused: pending\n"), "{answer}");
    }
}
