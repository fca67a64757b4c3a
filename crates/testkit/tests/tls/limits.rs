//! T42 and the budgets after the handshake: whatever a stranger can make us do ends.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use comity_identity::PeerId;
use comity_store::{MAX_PER_PREFIX, MAX_WAITING};
use comity_testkit::certificates::{Foreign, Node};
use comity_testkit::world::{
    CALLER, Face, LISTENER, Machine, accept_reason, bare_client, bare_server, by_id, by_name, call,
    hello_frame, meet, pin_line, refuse_frame, speaking_comity,
};
use comity_tls::frame::{FrameError, MAX_BODY};
use comity_tls::hello::{Hello, SubProtocol};
use comity_tls::{AcceptError, Acceptor, AcceptorConfig, Alpn, DialError, Limits, Request, Wish};
use comity_trust::{AllowRule, Mode, Name, Reason};
use comity_tunnel::{Capacity, Service, Services, Target, serve};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

const NAME: &str = "db.example:7117";

fn acceptor_with(us: &Machine, mode: Mode, limits: Limits) -> Acceptor {
    let config = AcceptorConfig {
        mode,
        limits,
        ..AcceptorConfig::default()
    };
    Acceptor::new(us.endpoint.clone(), config)
}

// T42
#[tokio::test]
async fn a_thousand_stalled_connections_do_not_delay_an_honest_one() {
    // A thousand clients and the servers' ends of those that are not evicted yet.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(8192), hard).expect("a limit");
    let (alice, bob) = (Machine::new(), Machine::new());
    alice.write_known(&pin_line("both", "bob", PeerId::Node(bob.id()), ""));
    bob.write_known(&pin_line("both", "alice", PeerId::Node(alice.id()), ""));
    let acceptor = acceptor_with(&bob, Mode::Pin, Limits::default());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    let address = listener.local_addr().expect("bound");
    let serving = tokio::spawn(async move {
        loop {
            let (tcp, remote) = listener.accept().await.expect("a connection");
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let incoming = acceptor.accept(tcp, Some(remote)).await?;
                let (mut stream, _) = incoming.accept(|_| Ok(())).await?;
                let mut heard = [0; 4];
                stream
                    .read_exact(&mut heard)
                    .await
                    .map_err(AcceptError::Io)?;
                stream.write_all(&heard).await.map_err(AcceptError::Io)?;
                stream.flush().await.map_err(AcceptError::Io)
            });
        }
    });
    let mut stalled = Vec::new();
    for number in 0..1000 {
        let mut tcp = TcpStream::connect(address).await.expect("connected");
        // Some say nothing, some stop in the middle of a ClientHello.
        if number % 2 == 0 {
            drop(tcp.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]).await);
        }
        stalled.push(tcp);
    }
    let started = std::time::Instant::now();
    let host = address.ip().to_string();
    let dialled = alice
        .dialer()
        .dial(&host, address.port(), by_name("bob", Mode::Pin))
        .await;
    let mut connection = dialled.expect("served");
    connection.stream.write_all(b"ping").await.expect("open");
    connection.stream.flush().await.expect("open");
    let mut heard = [0; 4];
    connection
        .stream
        .read_exact(&mut heard)
        .await
        .expect("open");
    // A handshake takes some 20 ms in an unoptimised build; the stalled ones have ten seconds each.
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(&heard, b"ping");
    serving.abort();
}

// T42
#[tokio::test(start_paused = true)]
async fn a_handshake_has_ten_seconds_however_it_is_spent() {
    let us = Machine::new();
    let before = us.memory();
    let acceptor = us.acceptor(Mode::Tofu);
    // Silent from the beginning, and one byte at a time.
    for pause in [Duration::from_secs(3600), Duration::from_millis(900)] {
        let (mut near, far) = tokio::io::duplex(1024);
        let started = Instant::now();
        let dripping = tokio::spawn(async move {
            for byte in [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]
                .into_iter()
                .chain([3; 500])
            {
                tokio::time::sleep(pause).await;
                if near.write_all(&[byte]).await.is_err() {
                    return;
                }
            }
        });
        let outcome = acceptor.accept(far, Some(CALLER)).await;
        assert!(matches!(outcome, Err(AcceptError::Timeout)), "{outcome:?}");
        assert_eq!(started.elapsed().as_secs(), 10);
        dripping.abort();
    }
    assert_eq!(us.memory(), before);
}

// T42: the same budget goes on until HELLO is complete.
#[tokio::test(start_paused = true)]
async fn a_slow_hello_shares_the_ten_seconds() {
    let us = Machine::new();
    let before = us.memory();
    let acceptor = us.acceptor(Mode::Enroll);
    let hello = hello_frame(&Hello::new(SubProtocol::Tunnel));
    for said in [0, 1, 3, hello.len() - 1] {
        let client = speaking_comity(bare_client(Some(&Face::of(&Node::new().dial))));
        let started = Instant::now();
        let (outcome, saw) = call(&acceptor, client, &hello[..said]).await;
        assert!(matches!(outcome, Err(AcceptError::Timeout)), "{outcome:?}");
        assert_eq!(started.elapsed().as_secs(), 10);
        assert_eq!(saw.data, b"");
    }
    assert_eq!(us.memory(), before);
}

#[tokio::test(start_paused = true)]
async fn a_dialer_waits_twenty_seconds_for_a_handshake_and_for_an_answer() {
    let node = Node::new();
    let us = Machine::knowing(&pin_line("dial", NAME, PeerId::Node(node.id()), ""));
    let (near, far) = tokio::io::duplex(64 * 1024);
    let started = Instant::now();
    let outcome = us
        .dialer()
        .handshake(near, Some(LISTENER), by_name(NAME, Mode::Pin))
        .await;
    assert!(matches!(outcome, Err(DialError::Timeout)), "{outcome:?}");
    assert_eq!(started.elapsed().as_secs(), 20);
    drop(far);
    // It shakes hands and then says nothing.
    let mut server = bare_server(&Face::of(&node.serve));
    server.alpn_protocols = vec![comity_tls::ALPN_COMITY.to_vec()];
    let (near, far) = tokio::io::duplex(64 * 1024);
    let started = Instant::now();
    let silent = tokio::spawn(async move {
        let mut tls = TlsAcceptor::from(Arc::new(server))
            .accept(far)
            .await
            .expect("a handshake");
        drop(tls.read_to_end(&mut Vec::new()).await);
    });
    let outcome = us
        .dialer()
        .handshake(near, Some(LISTENER), by_name(NAME, Mode::Pin))
        .await;
    assert!(matches!(outcome, Err(DialError::Timeout)), "{outcome:?}");
    assert_eq!(started.elapsed().as_secs(), 20);
    silent.await.expect("ended");
}

#[tokio::test]
async fn the_oldest_pending_handshake_makes_room_and_is_told_by_the_close() {
    let us = Machine::new();
    let limits = Limits {
        pending_per_prefix: 2,
        ..Limits::default()
    };
    let acceptor = acceptor_with(&us, Mode::Pin, limits);
    let mut pipes = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let (near, far) = tokio::io::duplex(1024);
        let acceptor = acceptor.clone();
        pipes.push(near);
        let task = tokio::spawn(async move { acceptor.accept(far, Some(CALLER)).await.map(drop) });
        waiting.push(task);
        tokio::task::yield_now().await;
    }
    let evicted = waiting.remove(0).await.expect("finished");
    assert!(matches!(evicted, Err(AcceptError::Busy)));
    assert_eq!(pipes[0].read(&mut [0; 8]).await.expect("closed"), 0);
    assert!(waiting.iter().all(|task| !task.is_finished()));
    drop(pipes);
    for task in waiting {
        assert!(task.await.expect("finished").is_err());
    }
}

#[tokio::test]
async fn a_prefix_that_comes_too_often_is_turned_away_before_any_handshake() {
    let us = Machine::new();
    let limits = Limits {
        burst_per_prefix: 2.0,
        rate_per_prefix: 0.0,
        ..Limits::default()
    };
    let acceptor = acceptor_with(&us, Mode::Pin, limits);
    let client = || bare_client(Some(&Face::of(&Foreign::client("x").self_signed())));
    for _ in 0..2 {
        let (outcome, _) = call(&acceptor, client(), b"").await;
        assert_eq!(accept_reason(outcome), Reason::Unknown);
    }
    let (outcome, saw) = call(&acceptor, client(), b"").await;
    assert!(matches!(outcome, Err(AcceptError::Busy)));
    assert!(saw.certificates.is_empty() && saw.failure.is_some());
}

/// A HELLO whose body has exactly this many bytes, most of them under a key of later versions.
fn hello_of(length: usize) -> Vec<u8> {
    let mut body = Hello::new(SubProtocol::Tunnel).encode();
    body[0] += 1;
    // Key 99 and a byte string with a two-byte length.
    let fill = length - body.len() - 5;
    body.extend([0x18, 99, 0x59]);
    body.extend(u16::try_from(fill).expect("two bytes").to_be_bytes());
    body.extend(std::iter::repeat_n(0, fill));
    assert_eq!(body.len(), length);
    let length = u16::try_from(length).expect("two bytes");
    [&[1], &length.to_be_bytes()[..], &body].concat()
}

#[tokio::test]
async fn hello_is_read_up_to_16_kilobytes_and_not_one_byte_more() {
    let node = Node::new();
    let us = Machine::knowing(&pin_line("accept", "caller", PeerId::Node(node.id()), ""));
    let client = || speaking_comity(bare_client(Some(&Face::of(&node.dial))));
    let (outcome, _) = call(&us.acceptor(Mode::Pin), client(), &hello_of(MAX_BODY)).await;
    let (_, request) = outcome.expect("accepted");
    assert_eq!(request, Request::Comity(Hello::new(SubProtocol::Tunnel)));
    let (outcome, saw) = call(&us.acceptor(Mode::Pin), client(), &hello_of(MAX_BODY + 1)).await;
    assert!(matches!(
        outcome,
        Err(AcceptError::Protocol(FrameError::TooLong { length })) if length == MAX_BODY + 1
    ));
    assert_eq!(saw.data, b"");
}

#[tokio::test]
async fn garbage_in_place_of_hello_ends_the_connection_and_queues_nobody() {
    let us = Machine::new();
    let before = us.memory();
    let frame = |kind: u8, body: &[u8]| {
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        [&[kind], &length[..], body].concat()
    };
    let tunnel = Hello::new(SubProtocol::Tunnel).encode();
    let mut version_2 = tunnel.clone();
    version_2[2] = 2;
    for garbage in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 64],
        vec![0xff; 64],
        frame(1, b""),
        frame(1, &[0xa0]),
        frame(1, &[0xbf, 0xff]),
        frame(1, &[0xa1, 5, 0x9a, 0xff, 0xff, 0xff, 0xff]),
        frame(1, &[0x9f; 200]),
        frame(1, &version_2),
        frame(1, &[tunnel.as_slice(), &[0]].concat()),
        frame(2, &tunnel),
        frame(3, &tunnel),
        frame(16, &tunnel),
        frame(99, &tunnel),
    ] {
        let client = speaking_comity(bare_client(Some(&Face::of(&Node::new().dial))));
        let (outcome, saw) = call(&us.acceptor(Mode::Enroll), client, &garbage).await;
        assert!(
            matches!(outcome, Err(AcceptError::Protocol(_))),
            "{garbage:?}: {outcome:?}"
        );
        assert_eq!(saw.data, b"");
        assert_eq!(us.memory(), before);
    }
}

#[tokio::test]
async fn bytes_that_are_no_tls_end_the_connection() {
    let us = Machine::new();
    let before = us.memory();
    for garbage in [
        &b"SSH-2.0-scanner\r\n"[..],
        &[0; 512],
        &[0xff; 512],
        &[0x16; 20_000],
    ] {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        near.write_all(garbage).await.expect("open");
        near.shutdown().await.expect("open");
        let outcome = us.acceptor(Mode::Tofu).accept(far, Some(CALLER)).await;
        assert!(
            matches!(outcome, Err(AcceptError::Handshake(_))),
            "{outcome:?}"
        );
    }
    assert_eq!(us.memory(), before);
}

/// A stranger that asks to be let in, from this address.
async fn knock(acceptor: &Acceptor, remote: SocketAddr) -> (Reason, Vec<u8>) {
    let client = speaking_comity(bare_client(Some(&Face::of(&Node::new().dial))));
    let call = comity_testkit::world::Call {
        config: Arc::new(client),
        early: &[],
        say: &hello_frame(&Hello::new(SubProtocol::Tunnel)),
    };
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (outcome, saw) = tokio::join!(acceptor.accept(far, Some(remote)), call.speak(near));
    (accept_reason(outcome), saw.data)
}

/// Every prefix in a network of its own, so that only the prefix and the whole queue are full.
fn caller(prefix: usize, host: usize) -> SocketAddr {
    let byte = |n: usize| u8::try_from(n).expect("a byte");
    let ip = Ipv4Addr::new(100, byte(prefix), 0, byte(host + 1));
    SocketAddr::new(ip.into(), 4711)
}

#[tokio::test]
async fn a_full_queue_says_busy_and_a_full_prefix_leaves_room_for_others() {
    let us = Machine::new();
    let limits = Limits {
        burst_per_prefix: 1e6,
        ..Limits::default()
    };
    let acceptor = acceptor_with(&us, Mode::Enroll, limits);
    let pending = (Reason::Pending, refuse_frame(Reason::Pending));
    let busy = (Reason::Busy, refuse_frame(Reason::Busy));
    for prefix in 0..MAX_WAITING / MAX_PER_PREFIX {
        for host in 0..MAX_PER_PREFIX {
            assert_eq!(knock(&acceptor, caller(prefix, host)).await, pending);
        }
        assert_eq!(knock(&acceptor, caller(prefix, MAX_PER_PREFIX)).await, busy);
    }
    assert_eq!(knock(&acceptor, caller(200, 0)).await, busy);
    let waiting = us.endpoint.pending().list(us.clock.clock().now());
    assert_eq!(waiting.expect("readable").len(), MAX_WAITING);
}

#[tokio::test]
async fn whom_the_operator_denied_is_a_stranger_and_does_not_come_back() {
    let (us, stranger) = (Machine::new(), Machine::new());
    let ask = async || {
        let request = by_name(NAME, Mode::Tofu);
        let meeting = meet(&stranger.dialer(), request, &us.acceptor(Mode::Enroll)).await;
        accept_reason(meeting.accepted)
    };
    assert_eq!(ask().await, Reason::Pending);
    let (id, now) = (PeerId::Node(stranger.id()), us.clock.clock().now());
    us.endpoint.pending().deny(&id, now).expect("written");
    assert_eq!(ask().await, Reason::Unknown);
    assert!(
        us.endpoint
            .pending()
            .list(now)
            .expect("readable")
            .is_empty()
    );
}

#[tokio::test]
async fn a_tunnel_refuses_other_sub_protocols_and_services_alike() {
    let (alice, bob) = (Machine::new(), Machine::new());
    bob.write_known(&pin_line(
        "both",
        "alice",
        PeerId::Node(alice.id()),
        "for=web",
    ));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    let target: Target = backend
        .local_addr()
        .expect("bound")
        .to_string()
        .parse()
        .expect("a target");
    let service = |name: &str, rule| Service {
        name: name.parse().expect("a name"),
        target: target.clone(),
        rules: vec![rule],
        proxy_header: false,
    };
    let others = AllowRule::Label(Name::label("nobody").expect("a label"));
    let services = Services::new(vec![
        service("web", AllowRule::Granted),
        service("ssh", AllowRule::Granted),
        service("db", others),
    ]);
    let address = listener.local_addr().expect("bound");
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(
        listener,
        bob.acceptor(Mode::Pin),
        services.expect("sound"),
        Capacity::of_process(),
        stop.clone(),
    ));
    let named = |name: &str| Wish::Service(Some(name.parse().expect("a name")));
    let dial = async |wish| {
        let mut request = by_id(PeerId::Node(bob.id()), Mode::Pin);
        request.wish = wish;
        request.alpn = Alpn::Comity;
        alice
            .dialer()
            .dial("127.0.0.1", address.port(), request)
            .await
    };
    for wish in [
        Wish::Verify,
        Wish::Service(None),
        named("nothing"),
        named("ssh"),
        named("db"),
    ] {
        let outcome = dial(wish.clone()).await;
        assert!(
            matches!(
                outcome,
                Err(DialError::RefusedByPeer(Some(Reason::NotAuthorised)))
            ),
            "{wish:?}: {outcome:?}"
        );
    }
    assert!(dial(named("web")).await.is_ok());
    // Reserved for later.
    for protocol in [SubProtocol::Mesh, SubProtocol::Link] {
        let client = speaking_comity(bare_client(Some(&Face::of(&alice.node.dial))));
        let mut tcp = TcpStream::connect(address).await.expect("connected");
        tcp.set_nodelay(true).expect("set");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let name = rustls::pki_types::ServerName::try_from("peer.invalid").expect("a name");
        let mut tls = connector
            .connect(name, &mut tcp)
            .await
            .expect("a handshake");
        tls.write_all(&hello_frame(&Hello::new(protocol)))
            .await
            .expect("open");
        tls.flush().await.expect("open");
        let mut answer = Vec::new();
        drop(tls.read_to_end(&mut answer).await);
        assert_eq!(answer, refuse_frame(Reason::NotAuthorised));
    }
    stop.cancel();
    drop(backend);
    serving.await.expect("stopped");
}
