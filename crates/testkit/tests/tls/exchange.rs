//! Bundles and memberships on their way: on connections that stay, with an invitation, over HTTPS.

use std::sync::Arc;
use std::time::Duration;

use comity_identity::{NodeId, PeerId};
use comity_record::{Bundle, SuccessionChain, SuccessionRequest};
use comity_store::NetworkError;
use comity_testkit::certificates::{DAY, TODAY};
use comity_testkit::world::{
    CALLER, LISTENER, Machine, NOW, Network, accept_reason, by_id, dial_reason, in_time, pin_line,
    record_of,
};
use comity_tls::network::{
    ExchangeError, Farewell, Fetched, Grant, VerifiedGrant, Violation, answer_http, fetch_bundle,
};
use comity_tls::{
    ALPN_HTTP1, AcceptError, Acceptor, Alpn, Connection, DialError, DialRequest, Ended, PeerStream,
    Wish,
};
use comity_trust::{Expectation, Mode, Reason, Standing};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// What is promised from the arrival of a bundle to the end of a connection.
const AT_ONCE: Duration = Duration::from_secs(1);

const PIPE: usize = 64 * 1024;

type Exchanged = Result<(), ExchangeError>;

/// A member of the network whose upkeep runs.
fn member(network: &Network) -> (Machine, JoinSet<()>) {
    let machine = Machine::new();
    machine.becomes_member(network, "mesh", &[]);
    let upkeep = machine.endpoint.upkeep();
    (machine, upkeep)
}

fn asking(machine: &Machine, wish: Wish) -> DialRequest {
    let mut request = by_id(PeerId::Node(machine.id()), Mode::Pin);
    request.wish = wish;
    request
}

/// Opens a connection over which the two exchange bundles; what it ends with, on both sides.
async fn exchanging(
    dialer: &Machine,
    acceptor: &Machine,
    about: Option<NodeId>,
) -> (
    JoinHandle<Result<Farewell, ExchangeError>>,
    JoinHandle<Result<Exchanged, AcceptError>>,
) {
    let (near, far) = tokio::io::duplex(PIPE);
    let accepting = acceptor.acceptor(Mode::Invite);
    let accepted = tokio::spawn(async move {
        let incoming = accepting.accept(far, Some(CALLER)).await?;
        incoming.exchange_bundles().await
    });
    let mut request = asking(acceptor, Wish::Network);
    request.network = about;
    let dialing = dialer.dialer();
    let dialled = dialing.handshake(near, Some(LISTENER), request);
    let connection = in_time(dialled).await.expect("accepted");
    let endpoint = dialer.endpoint.clone();
    let dialled = tokio::spawn(async move { connection.exchange_bundles(&endpoint, about).await });
    (dialled, accepted)
}

/// Gives a bundle to a machine, as whatever brings it.
async fn give(machine: &Machine, bundle: &Bundle) {
    let (endpoint, network) = (machine.endpoint.clone(), bundle.network());
    let bytes = bundle.bytes().to_vec();
    let taken = tokio::task::spawn_blocking(move || endpoint.take_bundle(&network, &bytes));
    taken.await.expect("no panic").expect("taken");
}

fn sequence(machine: &Machine, network: &Network) -> u64 {
    let snapshot = machine.endpoint.store().snapshot();
    let authority = snapshot.networks.get(&network.id());
    authority.map_or(0, |authority| authority.bundle.sequence())
}

/// Waits until the machine remembers what it shall.
async fn until(machine: &Machine, what: impl Fn() -> bool) {
    let mut snapshots = machine.endpoint.store().watch();
    in_time(async {
        while !what() {
            snapshots.changed().await.expect("the store lives");
        }
    })
    .await;
}

/// Waits until the machine presents a membership.
async fn presents_a_membership(machine: &Machine) {
    let presented = || !machine.endpoint.credentials().memberships().is_empty();
    in_time(async {
        while !presented() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A connection between two members that carries data.
async fn connected(
    dialer: &Machine,
    acceptor: &Machine,
) -> (Connection<DuplexStream>, PeerStream<DuplexStream>) {
    let (near, far) = tokio::io::duplex(PIPE);
    let accepting = acceptor.acceptor(Mode::Invite);
    let accepting = async {
        let incoming = accepting.accept(far, Some(CALLER)).await?;
        incoming.accept(|_| Ok(())).await
    };
    let request = asking(acceptor, Wish::Service(None));
    let dialer = dialer.dialer();
    let dialling = dialer.handshake(near, Some(LISTENER), request);
    let (dialled, accepted) = in_time(async { tokio::join!(dialling, accepting) }).await;
    (dialled.expect("accepted"), accepted.expect("recognised").0)
}

async fn end_of(stream: &mut PeerStream<DuplexStream>) -> Reason {
    let error = stream.read(&mut [0; 1]).await.expect_err("the end");
    let ended = error.get_ref().and_then(|e| e.downcast_ref::<Ended>());
    ended.expect("the reason").0
}

/// A grant of the certificates, as it is verified when it arrives.
fn granted(machine: &Machine, bundle: &Bundle, membership: &[Vec<u8>]) -> VerifiedGrant {
    let grant = Grant {
        network: bundle.network(),
        membership: membership.to_vec(),
        bundle: bundle.bytes().to_vec(),
    };
    let credentials = machine.endpoint.credentials();
    VerifiedGrant::verify(grant, &bundle.network(), credentials, NOW).expect("sound by itself")
}

#[test]
fn an_old_grant_takes_no_newer_membership_away() {
    let network = Network::new("fleet");
    let alice = Machine::new();
    let certify = |end| network.certify_until(&alice.node.root, &[], TODAY + end);
    let (old, new) = (certify(40 * DAY), certify(50 * DAY));
    alice.enters(&network, "mesh", new.clone());
    let old_bundle = network.bundle();
    let newer = network.publish(|_| ());
    for bundle in [&old_bundle, &newer] {
        let taken = alice.endpoint.take_grant(&granted(&alice, bundle, &old));
        assert!(matches!(taken, Err(NetworkError::MembershipRefused { .. })));
        // Nor does one with another beside it that does not hold, and would be presented.
        let forged = Network::new("fleet").certify(&alice.node.root, &[]);
        let both = [&forged[..1], &old].concat();
        let grant = Grant {
            network: network.id(),
            membership: both,
            bundle: bundle.bytes().to_vec(),
        };
        let credentials = alice.endpoint.credentials();
        assert!(VerifiedGrant::verify(grant, &network.id(), credentials, NOW).is_err());
    }
    let held = alice.endpoint.networks().find(&network.id());
    assert_eq!(held.expect("read").expect("known").membership, new);
    // The same again, and a newer one, are taken, also with the bundle of before.
    for membership in [new, certify(60 * DAY)] {
        let taken = alice
            .endpoint
            .take_grant(&granted(&alice, &old_bundle, &membership));
        taken.expect("newer");
        let held = alice.endpoint.networks().find(&network.id());
        assert_eq!(held.expect("read").expect("known").membership, membership);
    }
}

#[test]
fn a_withdrawn_membership_does_not_come_back_with_the_bundle_of_before() {
    let network = Network::new("fleet");
    let alice = Machine::new();
    alice.enters(&network, "mesh", Vec::new());
    let (old, membership) = (network.bundle(), network.certify(&alice.node.root, &[]));
    let withdrawn = network.withdraw(&alice.id());
    let takes = |bundle: &Bundle| {
        alice
            .endpoint
            .take_bundle(&network.id(), bundle.bytes())
            .expect("newer");
    };
    takes(&withdrawn);
    let grant = granted(&alice, &old, &membership);
    let refused = || {
        let taken = alice.endpoint.take_grant(&grant);
        assert!(
            matches!(taken, Err(NetworkError::MembershipRefused { .. })),
            "{taken:?}"
        );
        assert!(alice.endpoint.credentials().memberships().is_empty());
    };
    refused();
    // Nor once a later bundle does not say it any more.
    takes(&network.publish(|request| request.withdrawn.clear()));
    refused();
}

#[test]
fn no_membership_is_taken_from_a_frozen_network() {
    let network = Network::new("fleet");
    let alice = Machine::new();
    alice.enters(&network, "mesh", Vec::new());
    let forged = network.published(|request| request.refresh = 2 * DAY);
    let taken = alice.endpoint.take_bundle(&network.id(), forged.bytes());
    assert!(matches!(taken, Err(NetworkError::Frozen { .. })));
    let membership = network.certify(&alice.node.root, &[]);
    for bundle in [&network.bundle(), &forged] {
        let taken = alice
            .endpoint
            .take_grant(&granted(&alice, bundle, &membership));
        assert!(
            matches!(taken, Err(NetworkError::Frozen { .. })),
            "{taken:?}"
        );
    }
}

#[tokio::test]
async fn a_withdrawal_is_relayed_and_cuts_a_connection_between_two_others() {
    let network = Network::new("fleet");
    let (authority, _a) = member(&network);
    let (relay, _r) = member(&network);
    let (bob, _b) = member(&network);
    let (alice, _c) = member(&network);
    let links = [
        exchanging(&relay, &authority, None).await,
        exchanging(&bob, &relay, None).await,
    ];
    let (_dialled, mut accepted) = connected(&alice, &bob).await;
    // The authority knows nobody but the relay, and the relay nobody but bob.
    give(&authority, &network.withdraw(&alice.id())).await;
    let reason = tokio::time::timeout(AT_ONCE, end_of(&mut accepted)).await;
    assert_eq!(reason.expect("within a second"), Reason::Revoked);
    assert_eq!(sequence(&bob, &network), 2);
    for (dialled, accepted) in &links {
        assert!(!dialled.is_finished() && !accepted.is_finished());
    }
}

#[tokio::test]
async fn a_dialer_that_knows_more_tells_the_acceptor() {
    let network = Network::new("fleet");
    let (alice, _a) = member(&network);
    let (bob, _b) = member(&network);
    give(&alice, &network.publish(|_| ())).await;
    let (_dialled, _accepted) = exchanging(&alice, &bob, None).await;
    until(&bob, || sequence(&bob, &network) == 2).await;
}

#[tokio::test]
async fn a_member_whose_certificate_is_withdrawn_is_cut_from_the_exchange_itself() {
    let network = Network::new("fleet");
    let (alice, _a) = member(&network);
    let (bob, _b) = member(&network);
    let (_dialled, accepted) = exchanging(&alice, &bob, None).await;
    give(&bob, &network.withdraw(&alice.id())).await;
    let ended = tokio::time::timeout(AT_ONCE, accepted).await;
    let ended = ended.expect("within a second").expect("no panic");
    let exchanged = ended.expect("it was accepted");
    assert!(matches!(
        exchanged,
        Err(ExchangeError::Ended(Ended(Reason::Revoked)))
    ));
}

#[tokio::test]
async fn a_network_that_only_one_is_in_is_not_talked_of() {
    let (shared, private) = (Network::new("fleet"), Network::new("secret"));
    let (alice, _a) = member(&shared);
    let (bob, _b) = member(&shared);
    // Bob is in the private network, too; alice knows its bundle but is no member.
    bob.becomes_member(&private, "secret", &[]);
    alice.enters(&private, "secret", Vec::new());
    give(&bob, &private.publish(|_| ())).await;
    let (_d, _a) = exchanging(&alice, &bob, Some(private.id())).await;
    // What is shared arrives, behind what would have come before it.
    give(&bob, &shared.publish(|_| ())).await;
    until(&alice, || sequence(&alice, &shared) == 2).await;
    assert_eq!(sequence(&alice, &private), 1);
}

#[tokio::test]
async fn a_stranger_and_a_peer_without_membership_get_no_exchange() {
    let network = Network::new("fleet");
    let (bob, _b) = member(&network);
    for known in [false, true] {
        let alice = Machine::new();
        if known {
            let line = pin_line("both", "alice", PeerId::Node(alice.id()), "for=*");
            bob.write_known(&line);
            bob.endpoint.store().poll_changes();
        }
        let (near, far) = tokio::io::duplex(PIPE);
        let acceptor = bob.acceptor(Mode::Invite);
        let accepting = async {
            let incoming = acceptor.accept(far, Some(CALLER)).await?;
            incoming.exchange_bundles().await
        };
        let dialer = alice.dialer();
        let dialling = dialer.handshake(near, None, asking(&bob, Wish::Network));
        let (dialled, accepted) = in_time(async { tokio::join!(dialling, accepting) }).await;
        let reason = match known {
            true => Reason::NotAuthorised,
            false => Reason::Unknown,
        };
        assert_eq!(accept_reason(accepted), reason);
        assert!(matches!(dialled, Err(DialError::RefusedByPeer(Some(told))) if told == reason));
    }
}

#[tokio::test]
async fn the_fifth_exchange_of_one_peer_is_told_that_we_are_busy() {
    let network = Network::new("fleet");
    let (alice, _a) = member(&network);
    let (bob, _b) = member(&network);
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(exchanging(&alice, &bob, None).await);
    }
    let (near, far) = tokio::io::duplex(PIPE);
    let acceptor = bob.acceptor(Mode::Invite);
    let accepting = async {
        let incoming = acceptor.accept(far, Some(CALLER)).await?;
        incoming.exchange_bundles().await
    };
    let dialer = alice.dialer();
    let dialling = dialer.handshake(near, None, asking(&bob, Wish::Network));
    let (_, accepted) = in_time(async { tokio::join!(dialling, accepting) }).await;
    assert_eq!(accept_reason(accepted), Reason::Busy);
    drop(open);
}

/// Opens an exchange with `acceptor` on which we say what we like; our own SYNC is sent, and
/// theirs read.
async fn speaking(
    us: &Machine,
    acceptor: &Machine,
) -> (
    PeerStream<DuplexStream>,
    JoinHandle<Result<Exchanged, AcceptError>>,
) {
    let (near, far) = tokio::io::duplex(PIPE);
    let accepting = acceptor.acceptor(Mode::Invite);
    let accepted = tokio::spawn(async move {
        let incoming = accepting.accept(far, Some(CALLER)).await?;
        incoming.exchange_bundles().await
    });
    let dialer = us.dialer();
    let dialled = dialer.handshake(near, Some(LISTENER), asking(acceptor, Wish::Network));
    let connection = in_time(dialled).await.expect("accepted");
    (connection.stream, accepted)
}

fn frame(code: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("short").to_be_bytes();
    [&[code], length.as_slice(), body].concat()
}

/// A bundle as a BUNDLE frame that says it is of `network`.
fn bundle_frame(network: NodeId, bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() < comity_tls::network::CHUNK, "one part");
    let chunk = comity_tls::network::Chunk::of(network, bytes, 0);
    frame(6, &chunk.encode())
}

/// What an exchange ends with after we said this.
async fn said(us: &Machine, acceptor: &Machine, bytes: &[u8]) -> Exchanged {
    let (mut stream, accepted) = speaking(us, acceptor).await;
    stream.write_all(bytes).await.expect("written");
    stream.flush().await.expect("flushed");
    in_time(accepted)
        .await
        .expect("no panic")
        .expect("accepted")
}

#[tokio::test]
async fn bundles_that_do_not_hold_end_the_exchange_and_change_nothing() {
    let (network, other) = (Network::new("fleet"), Network::new("fleet"));
    let (alice, _a) = member(&network);
    let (bob, _b) = member(&network);
    let newer = network.publish(|_| ());
    let mut damaged = newer.bytes().to_vec();
    *damaged.last_mut().expect("bytes") ^= 1;
    for bytes in [b"garbage".as_slice(), &damaged, other.bundle().bytes()] {
        let ended = said(&alice, &bob, &bundle_frame(network.id(), bytes)).await;
        assert!(
            matches!(ended, Err(ExchangeError::Bundle { .. })),
            "{ended:?}"
        );
    }
    // One of a network that bob is not in, or alice is not.
    bob.becomes_member(&other, "other", &[]);
    let ended = said(
        &alice,
        &bob,
        &bundle_frame(other.id(), other.bundle().bytes()),
    )
    .await;
    assert!(matches!(
        ended,
        Err(ExchangeError::Violation(Violation::NotShared))
    ));
    assert_eq!(sequence(&bob, &network), 1);
}

#[tokio::test]
async fn an_old_bundle_is_ignored_and_its_bearer_stays() {
    let network = Network::new("fleet");
    let (alice, _a) = member(&network);
    let (bob, _b) = member(&network);
    let old = network.bundle();
    give(&bob, &network.withdraw(&NodeId::from_bytes([7; 32]))).await;
    let (mut stream, _accepted) = speaking(&alice, &bob).await;
    let sync = frame(5, &[0xa1, 1, 0x80]);
    let said = [bundle_frame(network.id(), old.bytes()), sync.clone()].concat();
    stream.write_all(&said).await.expect("written");
    stream.flush().await.expect("flushed");
    // What came behind it is answered.
    let mut answer = vec![0; sync.len()];
    in_time(stream.read_exact(&mut answer)).await.expect("open");
    assert_eq!(answer, sync);
    assert_eq!(sequence(&bob, &network), 2);
}

#[tokio::test]
async fn frames_out_of_place_and_endless_parts_end_the_exchange() {
    let network = Network::new("fleet");
    let (alice, _a) = member(&network);
    let (bob, _b) = member(&network);
    let whole = vec![0; 3 * comity_tls::network::CHUNK];
    let part = |offset| {
        let chunk = comity_tls::network::Chunk::of(network.id(), &whole, offset);
        frame(6, &chunk.encode())
    };
    let storm = vec![frame(5, &[0xa1, 1, 0x80]); 5].concat();
    for bytes in [
        frame(1, &[0xa0]),
        frame(4, &[0xa0]),
        frame(6, &[0xa0]),
        [part(0), part(0)].concat(),
        part(comity_tls::network::CHUNK),
        storm,
        vec![99, 0, 0],
        vec![6, 0xff, 0xff],
    ] {
        let ended = said(&alice, &bob, &bytes).await;
        assert!(
            matches!(
                ended,
                Err(ExchangeError::Violation(_) | ExchangeError::Frame(_))
            ),
            "{ended:?}"
        );
    }
}

#[tokio::test]
async fn a_fork_is_told_and_lets_nobody_in_any_more() {
    let network = Network::new("fleet");
    let (alice, _a) = member(&network);
    let (bob, _b) = member(&network);
    let (carol, _c) = member(&network);
    // The same sequence, another content: somebody else has the issuing key.
    let forged = network.published(|request| request.refresh = 2 * DAY);
    let carols = record_of(&network, "mesh", Vec::new());
    carol
        .endpoint
        .networks()
        .remove(&network.id())
        .expect("known");
    let forged_record = comity_store::NetworkRecord {
        bundle: forged.bytes().to_vec(),
        membership: network.certify(&carol.node.root, &[]),
        ..carols
    };
    carol.endpoint.networks().add(forged_record).expect("sound");
    carol.endpoint.store().poll_changes();
    let _exchange = exchanging(&carol, &bob, None).await;
    let frozen = |machine: &Machine| {
        let snapshot = machine.endpoint.store().snapshot();
        let authority = snapshot.networks.get(&network.id()).expect("known");
        authority.forked.is_some()
    };
    until(&bob, || frozen(&bob)).await;
    until(&carol, || frozen(&carol)).await;
    let (near, far) = tokio::io::duplex(PIPE);
    let acceptor = bob.acceptor(Mode::Invite);
    let dialer = alice.dialer();
    let dialling = dialer.handshake(near, None, asking(&bob, Wish::Service(None)));
    let (_, accepted) =
        in_time(async { tokio::join!(dialling, acceptor.accept(far, Some(CALLER))) }).await;
    assert_eq!(accept_reason(accepted), Reason::Forked);
}

#[tokio::test]
async fn a_membership_is_renewed_on_the_connection_and_presented_at_once() {
    let network = Arc::new(Network::new("fleet"));
    network.renew_all();
    let (issuer, _a) = member(&network);
    let issuer = issuer.with_issuer(Arc::clone(&network));
    let alice = Machine::new();
    let short = network.certify_until(&alice.node.root, &[], NOW + DAY);
    alice.enters(&network, "mesh", short);
    let _upkeep = alice.endpoint.upkeep();
    let (_dialled, _accepted) = exchanging(&alice, &issuer, None).await;
    let stored = || {
        let record = alice.endpoint.networks().find(&network.id());
        let record = record.expect("readable").expect("known");
        let cross = comity_certs::Anchor::from_der(&record.membership[0]);
        cross.expect("a certificate").not_after()
    };
    until(&alice, || stored() > NOW + 2 * DAY).await;
    // Also to peers to whom the old one would say nothing any more.
    let (bob, _b) = member(&network);
    for machine in [&alice, &bob] {
        machine.clock.set(NOW + 2 * DAY);
    }
    connected(&alice, &bob).await;
}

#[tokio::test]
async fn a_known_peer_with_a_membership_that_is_over_gets_a_new_one() {
    let network = Arc::new(Network::new("fleet"));
    network.renew_all();
    let alice = Machine::new();
    let over = network.certify_until(&alice.node.root, &[], NOW - Duration::from_secs(60));
    alice.enters(&network, "mesh", over);
    let _upkeep = alice.endpoint.upkeep();
    let (issuer, _a) = member(&network);
    issuer.write_known(&pin_line("both", "alice", PeerId::Node(alice.id()), ""));
    issuer.endpoint.store().poll_changes();
    let issuer = issuer.with_issuer(Arc::clone(&network));
    let about = Some(network.id());
    let (dialled, accepted) = exchanging(&alice, &issuer, about).await;
    // On this connection the issuer saw no member, and would never say what is withdrawn.
    let farewell = in_time(dialled).await.expect("no panic");
    assert_eq!(farewell.expect("a good end"), Farewell::Renewed);
    let exchanged = in_time(accepted).await.expect("no panic").expect("known");
    exchanged.expect("closed in order");
    presents_a_membership(&alice).await;
    let (dialled, _accepted) = exchanging(&alice, &issuer, about).await;
    let (carol, _c) = member(&network);
    let (_dialled, mut accepted) = connected(&carol, &alice).await;
    give(&issuer, &network.withdraw(&carol.id())).await;
    let reason = tokio::time::timeout(AT_ONCE, end_of(&mut accepted)).await;
    assert_eq!(reason.expect("within a second"), Reason::Revoked);
    assert!(!dialled.is_finished(), "what is presented is what is held");
}

#[tokio::test]
async fn an_issuer_is_asked_again_within_the_hour_only_after_its_keys_have_changed() {
    let network = Arc::new(Network::new("fleet"));
    let (issuer, _a) = member(&network);
    let issuer = issuer.with_issuer(Arc::clone(&network));
    let (alice, _b) = member(&network);
    let (mut stream, _accepted) = speaking(&alice, &issuer).await;
    let named = comity_tls::network::Standing {
        network: network.id(),
        charter: 9,
        sequence: 9,
        digest: [9; 32],
    };
    let sync = frame(5, &comity_tls::network::encode_sync(&[named]));
    let mut asked = Vec::new();
    for are_other_keys in [false, false, true, false] {
        if are_other_keys {
            give(&issuer, &network.amend_charter()).await;
        }
        stream.write_all(&sync).await.expect("written");
        stream.flush().await.expect("flushed");
        // The answer leaves after the issuer was asked.
        let mut answer = vec![0; sync.len()];
        in_time(stream.read_exact(&mut answer)).await.expect("open");
        assert_eq!(answer[0], 5);
        asked.push(network.asked());
    }
    assert_eq!(asked, [1, 1, 2, 2]);
}

/// Serves bundles over HTTPS on a port of this machine. Answers the port.
async fn serve_bundles(machine: &Machine, mode: Mode) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let acceptor: Acceptor = machine.acceptor(mode);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (tcp, remote) = listener.accept().await.expect("a connection");
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(incoming) = acceptor.accept(tcp, Some(remote)).await else {
                    return;
                };
                let Ok((stream, _)) = incoming.accept(|_| Ok(())).await else {
                    return;
                };
                drop(answer_http(acceptor.endpoint(), stream).await);
            });
        }
    });
    (port, tasks)
}

fn location(port: u16, network: &Network, server: NodeId) -> comity_record::Location {
    let path = format!("/comity/networks/{}/bundle", network.id().to_hex());
    let text = format!("https://127.0.0.1:{port}{path}#{server}");
    text.parse().expect("a location")
}

#[tokio::test]
async fn a_bundle_is_fetched_from_a_location_that_names_its_server() {
    let network = Network::new("fleet");
    let (alice, _a) = member(&network);
    let (bob, _b) = member(&network);
    let (port, _server) = serve_bundles(&bob, Mode::Invite).await;
    let place = location(port, &network, bob.id());
    let fetched = fetch_bundle(&alice.endpoint, &place, None).await;
    let bundle = network.bundle();
    assert_eq!(
        fetched.expect("fetched"),
        Fetched::Bundle(bundle.bytes().to_vec())
    );
    // What is held already is not sent again, until it changes.
    let held = || alice.endpoint.holding(&network.id()).expect("held");
    let fetched = fetch_bundle(&alice.endpoint, &place, Some(&held())).await;
    assert_eq!(fetched.expect("answered"), Fetched::Unchanged);
    let newer = network.publish(|_| ());
    give(&bob, &newer).await;
    let fetched = fetch_bundle(&alice.endpoint, &place, Some(&held())).await;
    assert_eq!(
        fetched.expect("fetched"),
        Fetched::Bundle(newer.bytes().to_vec())
    );
}

#[tokio::test]
async fn another_server_at_the_place_is_refused_and_strangers_get_nothing() {
    let (network, other) = (Network::new("fleet"), Network::new("other"));
    let (alice, _a) = member(&network);
    let (bob, _b) = member(&network);
    bob.becomes_member(&other, "other", &[]);
    let (port, _server) = serve_bundles(&bob, Mode::Invite).await;
    let eve = Machine::new();
    let (hers, _hers) = serve_bundles(&eve, Mode::Insecure).await;
    let elsewhere = location(hers, &network, bob.id());
    let refused = fetch_bundle(&alice.endpoint, &elsewhere, None).await;
    match refused {
        Err(comity_tls::network::FetchError::Dial(error)) => {
            assert_eq!(dial_reason::<()>(Err(error)), Reason::Unknown);
        }
        other => panic!("{other:?}"),
    }
    let status = |fetched| match fetched {
        Err(comity_tls::network::FetchError::Status { status, reason }) => (status, reason),
        other => panic!("{other:?}"),
    };
    // A network that alice is not in looks like one that does not exist.
    for unknown in [&other, &Network::new("nowhere")] {
        let place = location(port, unknown, bob.id());
        let fetched = fetch_bundle(&alice.endpoint, &place, None).await;
        assert_eq!(status(fetched), (404, None));
    }
    let stranger = Machine::new();
    let place = location(port, &network, bob.id());
    let fetched = fetch_bundle(&stranger.endpoint, &place, None).await;
    assert_eq!(status(fetched), (403, Some(Reason::Unknown)));
}

#[tokio::test]
async fn a_member_of_another_network_that_stands_where_a_server_was_learns_nothing() {
    let (network, other) = (Network::new("fleet"), Network::new("other"));
    let (alice, _a) = member(&network);
    alice.becomes_member(&other, "other", &[]);
    let (eve, _e) = member(&other);
    let server = Machine::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let acceptor = eve.acceptor(Mode::Insecure);
    let met = tokio::spawn(async move {
        let (tcp, remote) = listener.accept().await.expect("a connection");
        acceptor.accept(tcp, Some(remote)).await
    });
    let request = DialRequest::new(Expectation::default(), Mode::Pin, Wish::Network);
    let dialler = alice.dialer();
    let place = ("127.0.0.1", port);
    let dialled = in_time(dialler.dial_place(place, server.id(), request)).await;
    assert_eq!(dial_reason(dialled), Reason::Unknown);
    // Not even who it was that called.
    let met = in_time(met).await.expect("no panic");
    assert!(matches!(met, Err(AcceptError::Handshake(_))), "{met:?}");
}

/// What becomes of a dial to the place of `server`, where `there` answers.
async fn at_the_place(
    caller: &Machine,
    server: NodeId,
    there: &Machine,
) -> Result<Connection<tokio::net::TcpStream>, DialError> {
    let (port, _serving) = serve_bundles(there, Mode::Insecure).await;
    let request = DialRequest::new(Expectation::default(), Mode::Pin, Wish::Service(None));
    let dialer = caller.dialer();
    in_time(dialer.dial_place(("127.0.0.1", port), server, request)).await
}

#[tokio::test]
async fn a_server_with_a_new_key_is_found_by_its_own_word_or_by_a_pin_of_its_name() {
    let (alice, old) = (Machine::new(), Machine::new());
    let new = Machine::new();
    assert!(at_the_place(&alice, old.id(), &new).await.is_err());
    let request = |network| SuccessionRequest {
        network,
        sequence: 1,
        previous: None,
        issued: NOW,
        overlap_end: NOW + DAY,
        next: None,
        reason: None,
    };
    let told = |network| {
        let statement = request(network).sign(&old.node.identity, &new.node.identity);
        SuccessionChain::new(statement.expect("a sound request"))
    };
    let (of_all, of_one) = (told(None), told(Some(NodeId::from_bytes([7; 32]))));
    let id = PeerId::Node(new.id());
    let new = new.stapling(&of_all);
    let found = at_the_place(&alice, old.id(), &new)
        .await
        .expect("its own word");
    assert_eq!(found.peer.id, id);
    // Another server, or a key that was revoked, has no word in it.
    let other = NodeId::from_bytes([9; 32]);
    assert!(at_the_place(&alice, other, &new).await.is_err());
    let thief = Machine::knowing(&pin_line(
        "@revoked both",
        "hub",
        PeerId::Node(old.id()),
        "",
    ));
    assert!(at_the_place(&thief, old.id(), &new).await.is_err());
    // Nor has a statement that counts in one network only.
    let new = new.stapling(&of_one);
    assert!(at_the_place(&alice, old.id(), &new).await.is_err());
    // But a person may have written it down.
    let lines = [
        pin_line("both", "hub", PeerId::Node(old.id()), ""),
        pin_line("both", "hub", id, ""),
    ];
    let knowing = Machine::knowing(&lines.concat());
    let found = at_the_place(&knowing, old.id(), &new).await.expect("a pin");
    assert_eq!(found.peer.id, id);
    let lines = [
        pin_line("both", "hub", PeerId::Node(old.id()), ""),
        pin_line("both", "another", id, ""),
    ];
    let knowing = Machine::knowing(&lines.concat());
    assert!(at_the_place(&knowing, old.id(), &new).await.is_err());
}

#[tokio::test]
async fn whoever_is_recognised_but_was_not_meant_is_told_nothing_of_the_network_asked_about() {
    let (network, other) = (Network::new("fleet"), Network::new("other"));
    let (alice, _a) = member(&network);
    alice.becomes_member(&other, "other", &[]);
    let (eve, _e) = member(&other);
    let (near, far) = tokio::io::duplex(PIPE);
    let acceptor = eve.acceptor(Mode::Invite);
    let accepting = async {
        let incoming = acceptor.accept(far, Some(CALLER)).await?;
        incoming.accept(|_| Ok(())).await
    };
    let request = DialRequest::new(Expectation::default(), Mode::CaOrPin, Wish::Network);
    let dialer = alice.dialer();
    let dialling = dialer.handshake(near, Some(LISTENER), request);
    let (dialled, accepted) = in_time(async { tokio::join!(dialling, accepting) }).await;
    let (connection, (mut stream, _)) = (dialled.expect("open"), accepted.expect("open"));
    let (endpoint, about) = (alice.endpoint.clone(), network.id());
    let _exchange =
        tokio::spawn(async move { connection.exchange_bundles(&endpoint, Some(about)).await });
    let mut head = [0; 3];
    in_time(stream.read_exact(&mut head))
        .await
        .expect("a frame");
    let mut body = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    in_time(stream.read_exact(&mut body)).await.expect("a SYNC");
    let named = comity_tls::network::decode_sync(&body).expect("a SYNC");
    let named: Vec<NodeId> = named.iter().map(|standing| standing.network).collect();
    assert_eq!(named, [other.id()]);
}

#[tokio::test]
async fn only_the_one_path_and_method_is_answered() {
    let network = Network::new("fleet");
    let (alice, _a) = member(&network);
    let (bob, _b) = member(&network);
    let (port, _server) = serve_bundles(&bob, Mode::Invite).await;
    let id = network.id().to_hex();
    for (method, path, status) in [
        ("GET", format!("/comity/networks/{id}/bundle"), "200"),
        ("HEAD", format!("/comity/networks/{id}/bundle"), "200"),
        ("POST", format!("/comity/networks/{id}/bundle"), "405"),
        (
            "GET",
            format!("/comity/networks/{}/bundle", id.to_uppercase()),
            "404",
        ),
        ("GET", format!("/comity/networks/{id}/bundle/"), "404"),
        ("GET", format!("/comity/networks/{id}"), "404"),
        (
            "GET",
            format!("/comity/networks/{}/bundle", network.id()),
            "404",
        ),
        ("GET", "/".to_owned(), "404"),
    ] {
        let mut request = asking(&bob, Wish::Service(None));
        request.alpn = Alpn::Other(ALPN_HTTP1.to_vec());
        let dialled = alice.dialer().dial("127.0.0.1", port, request).await;
        let mut stream = dialled.expect("accepted").stream;
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("written");
        stream.flush().await.expect("flushed");
        let mut answer = Vec::new();
        in_time(stream.read_to_end(&mut answer))
            .await
            .expect("read");
        let answer = String::from_utf8_lossy(&answer);
        let line = answer.lines().next().unwrap_or_default();
        assert!(
            line.starts_with(&format!("HTTP/1.1 {status} ")),
            "{method} {path}: {line}"
        );
    }
}

#[tokio::test]
async fn a_network_that_is_only_followed_is_not_handed_to_its_members() {
    // Following is about what another organisation withdrew, and recognises nobody.
    let network = Network::new("theirs");
    let (alice, _a) = member(&network);
    let bob = Machine::new();
    bob.write_known(&pin_line("both", "alice", PeerId::Node(alice.id()), ""));
    let followed = comity_store::NetworkRecord {
        standing: Standing::Followed,
        ..record_of(&network, "theirs", Vec::new())
    };
    bob.endpoint.networks().add(followed).expect("sound");
    bob.endpoint.store().poll_changes();
    let (port, _server) = serve_bundles(&bob, Mode::Invite).await;
    let place = location(port, &network, bob.id());
    let fetched = fetch_bundle(&alice.endpoint, &place, None).await;
    assert!(matches!(
        fetched,
        Err(comity_tls::network::FetchError::Status { status: 404, .. })
    ));
}

#[test]
fn a_member_who_pushes_what_is_held_does_not_put_off_the_next_question() {
    let network = Network::new("fleet");
    let alice = Machine::new();
    alice.becomes_member(&network, "mesh", &[]);
    let refreshed = || {
        let record = alice.endpoint.networks().find(&network.id());
        record.expect("read").expect("known").refreshed
    };
    let before = refreshed();
    alice.clock.set(NOW + 5 * DAY);
    let bundle = network.bundle();
    let heard = alice.endpoint.hear_bundle(&network.id(), bundle.bytes());
    assert_eq!(heard.expect("sound"), comity_store::Updated::Same);
    assert_eq!(refreshed(), before);
    let asked = alice.endpoint.take_bundle(&network.id(), bundle.bytes());
    assert_eq!(asked.expect("sound"), comity_store::Updated::Same);
    assert_eq!(refreshed(), NOW + 5 * DAY);
}
