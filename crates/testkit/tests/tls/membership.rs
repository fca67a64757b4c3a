//! Members of one network recognise each other without a pin, until their authority takes it back.

use comity_certs::Purpose;
use comity_identity::PeerId;
use comity_store::Updated;
use comity_testkit::certificates::{DAY, Foreign, LeafOptions, Node, TODAY};
use comity_testkit::world::{
    Face, Machine, Middle, NOW, Network, accept_reason, bare_client, bare_server, by_id, by_name,
    call, dial_bare, dial_reason, hello_frame, in_time, meet, meet_over, pin_line, speaking_comity,
};
use comity_tls::hello::{Hello, SubProtocol};
use comity_tls::{ALPN_COMITY, AcceptError, Acceptor, DialRequest, Ended, PeerStream, Wish};
use comity_trust::{AllowRule, How, Mode, Reason, authorise};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const NAME: &str = "db.example:7117";

/// What is promised from the arrival of a bundle to the end of a connection.
const AT_ONCE: std::time::Duration = std::time::Duration::from_secs(1);

/// Two members of a network that know nothing else of each other.
fn members(network: &Network) -> (Machine, Machine) {
    let (alice, bob) = (Machine::new(), Machine::new());
    alice.becomes_member(network, "mesh", &["reader"]);
    bob.becomes_member(network, "mesh", &["server"]);
    (alice, bob)
}

fn to(machine: &Machine) -> DialRequest {
    by_id(PeerId::Node(machine.id()), Mode::Pin)
}

/// Any member of the network, at an address.
fn some_member(network: &Network) -> DialRequest {
    let mut request = by_name(NAME, Mode::CaOrPin);
    request.expectation.network = Some(network.id());
    request
}

async fn ended(stream: &mut PeerStream<DuplexStream>) -> Reason {
    let read = in_time(stream.read(&mut [0; 1])).await;
    let error = read.expect_err("the end");
    let ended = error.get_ref().and_then(|e| e.downcast_ref::<Ended>());
    ended.expect("the reason").0
}

#[tokio::test]
async fn members_recognise_each_other_and_remember_nothing() {
    let network = Network::new("fleet");
    let (alice, bob) = members(&network);
    let (before_alice, before_bob) = (alice.known(), bob.known());
    let request = some_member(&network);
    let meeting = meet(&alice.dialer(), request, &bob.acceptor(Mode::Enroll)).await;
    let (connection, _, peer) = meeting.open();
    let by_certificate = How::CrossCertificate {
        network: network.id(),
    };
    assert_eq!(peer.how, by_certificate);
    assert_eq!(connection.peer.how, by_certificate);
    assert_eq!(peer.how.token(), "cross-certificate");
    assert_eq!(peer.id, PeerId::Node(alice.id()));
    assert_eq!(connection.peer.id, PeerId::Node(bob.id()));
    let membership = &peer.memberships[0];
    assert_eq!(membership.network, network.id());
    assert_eq!(membership.label, "mesh");
    assert_eq!(membership.roles, ["reader"]);
    assert_eq!((alice.known(), bob.known()), (before_alice, before_bob));
}

#[tokio::test]
async fn a_rule_for_a_network_and_role_admits_its_members_alone() {
    let network = Network::new("fleet");
    let (alice, bob) = members(&network);
    for (role, admitted) in [("reader", Ok(())), ("admin", Err(Reason::WrongRole))] {
        let networks = &bob.endpoint.store().snapshot().networks;
        let rule = AllowRule::parse(
            &format!("mesh/{role}"),
            &bob.endpoint.store().snapshot().known,
            networks,
        );
        let rule = rule.expect("a rule");
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (dialer, acceptor) = (alice.dialer(), bob.acceptor(Mode::Enroll));
        let accepting = async {
            let incoming = acceptor.accept(far, None).await?;
            incoming
                .accept(move |recognition| authorise("db", &rule, recognition))
                .await
        };
        let dialling = dialer.handshake(near, None, some_member(&network));
        let (_, accepted) = in_time(async { tokio::join!(dialling, accepting) }).await;
        match admitted {
            Ok(()) => assert!(accepted.is_ok()),
            Err(reason) => assert_eq!(accept_reason(accepted), reason),
        }
    }
}

#[tokio::test]
async fn a_membership_that_comes_while_listening_is_presented_without_a_restart() {
    let network = Network::new("fleet");
    let (alice, bob) = (Machine::new(), Machine::new());
    alice.becomes_member(&network, "mesh", &[]);
    bob.write_known(&pin_line("both", "alice", PeerId::Node(alice.id()), ""));
    let _upkeep = bob.endpoint.upkeep();
    let acceptor = bob.acceptor(Mode::Enroll);
    let first = meet(&alice.dialer(), some_member(&network), &acceptor).await;
    assert_eq!(dial_reason(first.dialled), Reason::Unknown);
    // The file of the home changes, as another process does it.
    let another = bob.restarted();
    let membership = network.certify(&bob.node.root, &[]);
    another.enters(&network, "mesh", membership);
    in_time(async {
        while bob.endpoint.credentials().memberships().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let second = meet(&alice.dialer(), some_member(&network), &acceptor).await;
    second.open();
}

#[tokio::test]
async fn a_withdrawal_cuts_live_connections_within_a_second_of_its_arrival() {
    let network = Network::new("fleet");
    let (alice, bob) = members(&network);
    let _upkeep = (alice.endpoint.upkeep(), bob.endpoint.upkeep());
    let request = some_member(&network);
    let meeting = meet(&alice.dialer(), request, &bob.acceptor(Mode::Enroll)).await;
    let (mut dialled, mut accepted, _) = meeting.open();
    let bundle = network.withdraw(&alice.id());
    let (endpoint, id) = (bob.endpoint.clone(), network.id());
    let bytes = bundle.bytes().to_vec();
    let taken = tokio::task::spawn_blocking(move || endpoint.take_bundle(&id, &bytes));
    assert_eq!(
        taken.await.expect("no panic").expect("taken"),
        Updated::Newer
    );
    let reason = tokio::time::timeout(AT_ONCE, ended(&mut accepted)).await;
    assert_eq!(reason.expect("within a second"), Reason::Revoked);
    // The other side sees the connection close, and does not come in again.
    drop(accepted);
    let read = dialled.stream.read(&mut [0; 1]).await;
    assert!(matches!(read, Ok(0) | Err(_)));
    let again = meet(
        &alice.dialer(),
        some_member(&network),
        &bob.acceptor(Mode::Enroll),
    )
    .await;
    assert_eq!(accept_reason(again.accepted), Reason::Revoked);
}

#[tokio::test]
async fn an_expired_bundle_lets_nobody_in_and_cuts_nobody_off() {
    let network = Network::new("fleet");
    let (alice, bob) = members(&network);
    let request = some_member(&network);
    let meeting = meet(&alice.dialer(), request, &bob.acceptor(Mode::Enroll)).await;
    let (_dialled, accepted, _) = meeting.open();
    // The bundle is over after thirty days; both leaves are fresh.
    let later = TODAY + 31 * DAY;
    for machine in [&alice, &bob] {
        machine.clock.set(later);
        machine
            .endpoint
            .credentials()
            .renew(later)
            .expect("sound keys");
    }
    bob.endpoint
        .registry()
        .recheck(&bob.endpoint.store().snapshot(), NOW + DAY);
    assert_eq!(accepted.ended(), None);
    let again = meet(&alice.dialer(), to(&bob), &bob.acceptor(Mode::Enroll)).await;
    assert_eq!(accept_reason(again.accepted), Reason::Expired);
}

#[tokio::test]
async fn networks_of_one_name_are_two_networks() {
    let (ours, theirs) = (Network::new("fleet"), Network::new("fleet"));
    let (alice, bob) = (Machine::new(), Machine::new());
    alice.becomes_member(&theirs, "fleet", &["admin"]);
    bob.becomes_member(&ours, "fleet", &[]);
    let meeting = meet(&alice.dialer(), to(&bob), &bob.acceptor(Mode::Enroll)).await;
    assert_eq!(accept_reason(meeting.accepted), Reason::Pending);
    // Neither does it help to be in both: each is what its own authority says.
    alice.becomes_member(&ours, "ours", &["reader"]);
    let meeting = meet(&alice.dialer(), to(&bob), &bob.acceptor(Mode::Enroll)).await;
    let (_, _, peer) = meeting.open();
    assert_eq!(peer.memberships.len(), 1);
    assert_eq!(peer.memberships[0].roles, ["reader"]);
    assert!(!peer.attested.membership("fleet", Some("admin")));
}

#[tokio::test]
async fn the_network_that_is_dialled_about_is_shown_although_there_is_no_room_for_all() {
    let networks: Vec<Network> = (0..4).map(|n| Network::new(&format!("net-{n}"))).collect();
    let alice = Machine::new();
    for (n, network) in networks.iter().enumerate() {
        alice.becomes_member(network, &format!("net-{n}"), &[]);
    }
    for (n, network) in networks.iter().enumerate() {
        let bob = Machine::new();
        bob.becomes_member(network, "mesh", &[]);
        for about in [None, Some(network.id())] {
            let mut request = to(&bob);
            request.network = about;
            let meeting = meet(&alice.dialer(), request, &bob.acceptor(Mode::Invite)).await;
            match (n, about) {
                (3, None) => assert_eq!(accept_reason(meeting.accepted), Reason::Unknown),
                _ => drop(meeting.open()),
            }
        }
    }
}

/// A node with these certificates between its leaf and its own root.
fn face_with(node: &Node, between: &[Vec<u8>], purpose: Purpose) -> Face {
    let mut credential = node.leaf(purpose, &LeafOptions::default());
    let root = credential.chain.pop().expect("its root");
    credential.chain.extend_from_slice(between);
    credential.chain.push(root);
    Face::of(&credential)
}

/// Dials `bob` as this face; answers the reason for which he refuses.
async fn refusal_of(bob: &Acceptor, face: &Face) -> Reason {
    let config = speaking_comity(bare_client(Some(face)));
    let hello = hello_frame(&Hello::new(SubProtocol::Tunnel));
    accept_reason(call(bob, config, &hello).await.0)
}

#[tokio::test]
async fn somebody_elses_cross_certificate_makes_nobody_a_member() {
    let network = Network::new("fleet");
    let (alice, bob) = members(&network);
    let acceptor = bob.acceptor(Mode::Invite);
    let stolen = network.certify(&alice.node.root, &["admin"]);
    let eve = Node::new();
    // With her own root at the end, and without the key of the certified one.
    let face = face_with(&eve, &stolen, Purpose::Dial);
    assert_eq!(refusal_of(&acceptor, &face).await, Reason::Unknown);
    // With alice's root as well.
    let both = [stolen.clone(), vec![alice.node.root.clone()]].concat();
    let face = face_with(&eve, &both, Purpose::Dial);
    assert_eq!(refusal_of(&acceptor, &face).await, Reason::Unknown);
    // With alice's whole chain, but her own leaf key: the handshake fails, there is no proof.
    let mut credential = alice.node.leaf(Purpose::Dial, &LeafOptions::default());
    credential.chain.splice(1..1, stolen.clone());
    let config = speaking_comity(bare_client(Some(&Face::copied(&credential.chain))));
    let hello = hello_frame(&Hello::new(SubProtocol::Tunnel));
    let (accepted, _) = call(&acceptor, config, &hello).await;
    assert!(matches!(accepted, Err(AcceptError::Handshake(_))));
}

#[tokio::test]
async fn a_leaf_of_a_foreign_key_below_a_stolen_cross_certificate_is_refused() {
    let network = Network::new("fleet");
    let (alice, bob) = members(&network);
    let stolen = network.certify(&alice.node.root, &[]);
    let mut foreign = Foreign::client("eve").self_signed();
    foreign.chain.extend(stolen);
    let reason = refusal_of(&bob.acceptor(Mode::Invite), &Face::of(&foreign)).await;
    assert_eq!(reason, Reason::Unknown);
}

#[tokio::test]
async fn a_member_of_another_network_in_the_middle_hears_nothing() {
    let (ours, other) = (Network::new("fleet"), Network::new("fleet"));
    let (alice, bob) = members(&ours);
    let eve = Node::new();
    let hers = other.certify(&eve.root, &["admin"]);
    for between in [hers, vec![ours.issuing.clone()], vec![ours.root.clone()]] {
        let before = alice.memory();
        let serving = face_with(&eve, &between, Purpose::Serve);
        let dialling = face_with(&eve, &between, Purpose::Dial);
        let middle = Middle::new(&serving, &dialling).speaking(ALPN_COMITY);
        let (near, end, work) = middle.start();
        let acceptor = bob.acceptor(Mode::Insecure);
        let request = some_member(&ours);
        let meeting = meet_over(&alice.dialer(), near, request, &acceptor, end).await;
        dial_reason(meeting.dialled);
        let heard = work.await.expect("finished");
        assert!(heard.out.is_empty() && heard.back.is_empty());
        assert!(!heard.dialer_came, "our certificate has left");
        assert_eq!(alice.memory(), before);
    }
}

#[tokio::test]
async fn a_member_in_the_middle_is_whom_it_is_and_not_whom_was_dialled() {
    let network = Network::new("fleet");
    let (alice, bob) = members(&network);
    let eve = Node::new();
    let hers = network.certify(&eve.root, &[]);
    let serving = face_with(&eve, &hers, Purpose::Serve);
    // An id keeps even another member out, before it learns who is calling.
    let (dialled, saw) = dial_bare(&alice.dialer(), to(&bob), bare_server(&serving), b"").await;
    assert_eq!(dial_reason(dialled), Reason::Unknown);
    assert!(saw.certificates.is_empty());
}

#[tokio::test]
async fn data_flows_between_members() {
    let network = Network::new("fleet");
    let (alice, bob) = members(&network);
    let mut request = to(&bob);
    request.wish = Wish::Service(None);
    let meeting = meet(&alice.dialer(), request, &bob.acceptor(Mode::Invite)).await;
    let (mut dialled, mut accepted, _) = meeting.open();
    dialled.stream.write_all(b"hello").await.expect("written");
    dialled.stream.flush().await.expect("flushed");
    let mut heard = [0; 5];
    in_time(accepted.read_exact(&mut heard))
        .await
        .expect("read");
    assert_eq!(&heard, b"hello");
}
