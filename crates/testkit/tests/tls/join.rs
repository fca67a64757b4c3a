//! Invitations: proven on the connection they came on, used by one key, and never twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use comity_certs::Purpose;
use comity_identity::PeerId;
use comity_store::disk::OsDisk;
use comity_store::fault::{Fault, FaultDisk};
use comity_store::{self as store, InvitationKey};
use comity_testkit::certificates::{DAY, Foreign, LeafOptions, Node, TODAY, random_serial};
use comity_testkit::world::{
    Face, Machine, Meeting, Middle, NOW, Network, accept_reason, accepting, bare_client, by_id,
    by_name, call, dial_reason, hello_frame, in_time, meet, meet_over, pin_line, refuse_frame,
    speaking_comity,
};
use comity_tls::hello::{Hello, InvitationProof, SubProtocol};
use comity_tls::network::{Grant, GrantError, VerifiedGrant};
use comity_tls::{ALPN_COMITY, DialError, DialRequest, Wish};
use comity_trust::invitation::{Invitation, InvitationId, InvitationSecret, JoinStatement};
use comity_trust::{Mode, Name, Reason};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

/// The exporter label of the join proof, as `docs/formats.md` gives it.
const EXPORTER: &[u8] = b"EXPORTER-comity-join-v1";

/// What the inviter chooses.
#[derive(Clone, Default)]
struct Offer {
    label: Option<&'static str>,
    services: &'static [&'static str],
}

/// Gives out an invitation that is good for a day.
fn invite(inviter: &Machine, offer: &Offer) -> Arc<Invitation> {
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(&random_serial());
    let invitation = Invitation {
        addresses: vec![Name::parse("192.0.2.1:7117").expect("an address")],
        inviter: inviter.id(),
        network: None,
        network_id: None,
        id: InvitationId(random_serial()),
        secret: InvitationSecret::new(seed),
        expires: NOW + DAY,
        label: None,
    };
    let kept = store::Invitation {
        id: store::InvitationId(invitation.id.0),
        key: InvitationKey(invitation.secret.public_key().expect("a key")),
        label: offer.label.map(str::to_owned),
        services: offer.services.iter().map(|s| (*s).to_owned()).collect(),
        roles: Vec::new(),
        networks: Vec::new(),
        network_id: None,
        created: NOW,
        expires: invitation.expires,
        consumed: None,
    };
    let created = inviter.endpoint.invitations().create(kept, NOW);
    created.expect("created");
    Arc::new(invitation)
}

fn joining(invitation: &Arc<Invitation>, name: Option<&str>) -> DialRequest {
    let mut request = by_id(PeerId::Node(invitation.inviter), Mode::Pin);
    request.wish = Wish::Join(Arc::clone(invitation), name.map(str::to_owned));
    request
}

async fn join(
    joiner: &Machine,
    inviter: &Machine,
    invitation: &Arc<Invitation>,
    name: Option<&str>,
) -> Meeting {
    let request = joining(invitation, name);
    meet(&joiner.dialer(), request, &inviter.acceptor(Mode::Enroll)).await
}

fn refused(meeting: Meeting) -> (Reason, Reason) {
    let told = match meeting.dialled {
        Err(DialError::RefusedByPeer(Some(reason))) => reason,
        other => panic!("{other:?}"),
    };
    (accept_reason(meeting.accepted), told)
}

const INVALID: (Reason, Reason) = (Reason::InviteInvalid, Reason::InviteInvalid);

fn is_unused(inviter: &Machine, invitation: &Invitation) -> bool {
    let id = store::InvitationId(invitation.id.0);
    let kept = inviter.endpoint.invitations().find(&id);
    kept.expect("readable").expect("there").consumed.is_none()
}

#[tokio::test]
async fn a_joiner_is_known_by_what_the_inviter_chose() {
    let (inviter, joiner) = (Machine::new(), Machine::new());
    let offer = Offer {
        label: Some("laptop"),
        services: &["web", "ssh"],
    };
    let invitation = invite(&inviter, &offer);
    let (connection, _, peer) = join(&joiner, &inviter, &invitation, Some("boss"))
        .await
        .open();
    assert!(connection.accepted);
    assert_eq!(peer.label.as_deref(), Some("laptop"));
    assert!(peer.attested.service("web") && peer.attested.service("ssh"));
    assert!(!peer.attested.service("db"));
    assert!(!inviter.known().contains("boss"));
    // From now on it is known without the invitation.
    let request = by_id(PeerId::Node(inviter.id()), Mode::Pin);
    let again = meet(&joiner.dialer(), request, &inviter.acceptor(Mode::Enroll)).await;
    assert_eq!(again.open().2.label.as_deref(), Some("laptop"));
}

#[tokio::test]
async fn a_claimed_label_neither_takes_over_an_entry_nor_a_rule() {
    let (inviter, joiner, known) = (Machine::new(), Machine::new(), Node::new());
    inviter.write_known(&pin_line(
        "both",
        "laptop",
        PeerId::Node(known.id()),
        "for=ssh",
    ));
    let invitation = invite(&inviter, &Offer::default());
    let (_, _, peer) = join(&joiner, &inviter, &invitation, Some("laptop"))
        .await
        .open();
    let label = peer.label.expect("a label");
    assert_eq!(
        label,
        format!("laptop-{}", joiner.id().short().to_lowercase())
    );
    assert!(peer.attested.is_empty());
    assert!(
        inviter
            .known()
            .contains(&format!("both laptop node {}", known.id()))
    );
    // Nor does it become the bare `laptop` where nobody has that label (any more): a rule may
    // still name it.
    let (inviter, joiner) = (Machine::new(), Machine::new());
    let invitation = invite(&inviter, &Offer::default());
    let (_, _, peer) = join(&joiner, &inviter, &invitation, Some("laptop"))
        .await
        .open();
    assert_ne!(peer.label.as_deref(), Some("laptop"));
}

#[tokio::test]
async fn a_label_that_the_inviter_chose_twice_is_not_taken_over_either() {
    let (inviter, first, second) = (Machine::new(), Machine::new(), Machine::new());
    let offer = Offer {
        label: Some("laptop"),
        services: &[],
    };
    for (joiner, label) in [(&first, "laptop"), (&second, "laptop-2")] {
        let invitation = invite(&inviter, &offer);
        let (_, _, peer) = join(joiner, &inviter, &invitation, None).await.open();
        assert_eq!(peer.label.as_deref(), Some(label));
    }
}

#[tokio::test]
async fn hostile_claimed_names_become_no_labels() {
    for name in [
        "two\nlines",
        "a b",
        "@revoked",
        "x:7117",
        "\u{202e}",
        &"n".repeat(64),
    ] {
        let (inviter, joiner) = (Machine::new(), Machine::new());
        let invitation = invite(&inviter, &Offer::default());
        let (_, _, peer) = join(&joiner, &inviter, &invitation, Some(name))
            .await
            .open();
        let label = peer.label.expect("a label");
        assert!(label.starts_with("peer-"), "{label}");
        assert_eq!(inviter.known().lines().count(), 2);
        assert!(!inviter.known().contains(name));
    }
}

/// Speaks as a joiner that proves what it likes, on two connections. Answers the reason on the
/// second.
async fn with_proof_of(
    inviter: &Machine,
    node: &Node,
    prove: impl Fn([u8; 32], [u8; 32]) -> InvitationProof,
) -> (Result<(), Reason>, Vec<u8>) {
    let config = Arc::new(speaking_comity(bare_client(Some(&Face::of(&node.dial)))));
    let acceptor = inviter.acceptor(Mode::Enroll);
    let name = || ServerName::try_from("peer.invalid").expect("a name");
    let exporter = |tls: &tokio_rustls::client::TlsStream<_>| {
        let session: &rustls::ClientConnection = tls.get_ref().1;
        session
            .export_keying_material([0; 32], EXPORTER, None)
            .expect("finished")
    };
    let (near, far) = tokio::io::duplex(64 * 1024);
    let dialling = async {
        let connector = TlsConnector::from(Arc::clone(&config));
        let tls = connector.connect(name(), near).await.expect("a handshake");
        exporter(&tls)
    };
    let (first, _) = tokio::join!(dialling, accepting(&acceptor, far));
    let (near, far) = tokio::io::duplex(64 * 1024);
    let dialling = async {
        let connector = TlsConnector::from(Arc::clone(&config));
        let mut tls = connector.connect(name(), near).await.expect("a handshake");
        let hello = Hello {
            proof: Some(prove(first, exporter(&tls))),
            ..Hello::new(SubProtocol::Join)
        };
        tls.write_all(&hello_frame(&hello)).await.expect("open");
        tls.flush().await.expect("open");
        let mut answer = Vec::new();
        drop(tls.read_to_end(&mut answer).await);
        answer
    };
    let judging = async {
        let accepted = accepting(&acceptor, far).await.map(drop);
        accepted.map_err(|error| accept_reason::<()>(Err(error)))
    };
    let (answer, accepted) = in_time(async { tokio::join!(dialling, judging) }).await;
    (accepted, answer)
}

#[tokio::test]
async fn a_proof_counts_on_its_own_connection_and_for_its_own_key_only() {
    let (inviter, node, other) = (Machine::new(), Node::new(), Node::new());
    let invitation = invite(&inviter, &Offer::default());
    let proof = |exporter, joiner: &Node, inviter, id| {
        let statement = JoinStatement {
            exporter,
            joiner: joiner.id(),
            inviter,
            invitation: id,
        };
        let signature = invitation.secret.sign(&statement).expect("signed");
        InvitationProof {
            id: invitation.id.0,
            signature,
        }
    };
    let (us, id) = (inviter.id(), invitation.id);
    type Prove<'a> = &'a dyn Fn([u8; 32], [u8; 32]) -> InvitationProof;
    let wrong: [Prove<'_>; 6] = [
        // Replayed from another connection.
        &|first, _| proof(first, &node, us, id),
        // Copied from another joiner.
        &|_, now| proof(now, &other, us, id),
        // Meant for another inviter, or for another invitation.
        &|_, now| proof(now, &node, other.id(), id),
        &|_, now| proof(now, &node, us, InvitationId([7; 16])),
        // One bit off.
        &|_, now| {
            let mut proof = proof(now, &node, us, id);
            proof.signature[0] ^= 1;
            proof
        },
        // For an invitation that was never given out.
        &|_, now| InvitationProof {
            id: [9; 16],
            ..proof(now, &node, us, id)
        },
    ];
    for prove in wrong {
        let (outcome, answer) = with_proof_of(&inviter, &node, prove).await;
        assert_eq!(outcome, Err(Reason::InviteInvalid));
        assert_eq!(answer, refuse_frame(Reason::InviteInvalid));
        assert!(is_unused(&inviter, &invitation));
        assert_eq!(inviter.known(), "");
    }
    let right = |_, now| proof(now, &node, us, id);
    assert_eq!(with_proof_of(&inviter, &node, right).await.0, Ok(()));
}

#[tokio::test]
async fn of_two_keys_with_one_invitation_exactly_one_joins() {
    for _ in 0..4 {
        let inviter = Machine::new();
        let invitation = invite(&inviter, &Offer::default());
        let (first, second) = (Machine::new(), Machine::new());
        let (one, two) = tokio::join!(
            join(&first, &inviter, &invitation, None),
            join(&second, &inviter, &invitation, None)
        );
        let joined = [one.accepted.is_ok(), two.accepted.is_ok()];
        assert!(
            joined == [true, false] || joined == [false, true],
            "{joined:?}"
        );
        assert_eq!([one.dialled.is_ok(), two.dialled.is_ok()], joined);
        assert_eq!(inviter.known().lines().count(), 2, "{}", inviter.known());
        let loser = if joined[0] { two } else { one };
        assert_eq!(refused(loser), INVALID);
    }
}

#[tokio::test]
async fn a_joiner_whose_answer_was_lost_may_ask_again() {
    let (inviter, joiner) = (Machine::new(), Machine::new());
    let offer = Offer {
        label: Some("laptop"),
        services: &["web"],
    };
    let invitation = invite(&inviter, &offer);
    join(&joiner, &inviter, &invitation, None).await.open();
    let before = inviter.memory();
    let (_, _, peer) = join(&joiner, &inviter.restarted(), &invitation, None)
        .await
        .open();
    assert_eq!(peer.label.as_deref(), Some("laptop"));
    assert_eq!(inviter.memory(), before);
    // Somebody else may not.
    assert_eq!(
        refused(join(&Machine::new(), &inviter, &invitation, None).await),
        INVALID
    );
}

#[tokio::test]
async fn what_was_taken_from_a_joiner_does_not_come_back_with_its_invitation() {
    let (inviter, joiner) = (Machine::new(), Machine::new());
    let offer = Offer {
        label: Some("laptop"),
        services: &["web", "ssh"],
    };
    let invitation = invite(&inviter, &offer);
    join(&joiner, &inviter, &invitation, None).await.open();
    // A grant is withdrawn: the peer is still known, and has what is left.
    inviter.write_known(&pin_line(
        "both",
        "laptop",
        PeerId::Node(joiner.id()),
        "for=web",
    ));
    let (_, _, peer) = join(&joiner, &inviter, &invitation, None).await.open();
    assert!(peer.attested.service("web") && !peer.attested.service("ssh"));
    // It is removed, then revoked.
    inviter.write_known("");
    assert_eq!(
        refused(join(&joiner, &inviter, &invitation, None).await),
        INVALID
    );
    assert_eq!(inviter.known().lines().count(), 1);
    inviter.write_known(&format!("@revoked both * node {}\n", joiner.id()));
    let revoked = refused(join(&joiner, &inviter, &invitation, None).await);
    assert_eq!(revoked, (Reason::Revoked, Reason::Unknown));
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_join_lets_the_same_key_try_again_and_no_other() {
    let disk = FaultDisk::new(Arc::new(OsDisk));
    let joiner = Machine::new();
    let mut stopped = 0;
    for step in 0.. {
        let inviter = Machine::on(Arc::new(disk.clone()));
        // Written once before, so that every round takes the same steps.
        inviter.write_known("");
        let inviter = inviter.restarted();
        let invitation = invite(&inviter, &Offer::default());
        let changes = AtomicUsize::new(0);
        disk.follow(move |_, call| {
            match call.changes() && changes.fetch_add(1, Ordering::Relaxed) == step {
                true => Fault::Stop,
                false => Fault::None,
            }
        });
        let meeting = join(&joiner, &inviter, &invitation, None).await;
        let told = meeting.dialled.is_ok();
        let reached = disk.calls().iter().filter(|c| c.changes()).count() > step;
        disk.heal();
        let inviter = inviter.restarted();
        if told {
            // ACCEPT was said: then it is durable.
            assert!(
                inviter.known().contains(&joiner.id().to_string()),
                "step {step}"
            );
        }
        let stranger = Machine::new();
        let used = !is_unused(&inviter, &invitation);
        if used {
            assert_eq!(
                refused(join(&stranger, &inviter, &invitation, None).await),
                INVALID,
                "step {step}"
            );
        }
        let again = join(&joiner, &inviter, &invitation, None).await;
        assert!(again.accepted.is_ok(), "step {step}: {:?}", again.accepted);
        if !reached {
            break;
        }
        stopped += usize::from(!told);
    }
    assert!(stopped >= 4, "only {stopped} steps stopped a join");
}

#[tokio::test]
async fn an_invitation_counts_until_the_second_it_expires() {
    for (at, good) in [
        (NOW + DAY - std::time::Duration::from_secs(1), true),
        (NOW + DAY, false),
    ] {
        let (inviter, joiner) = (Machine::new(), Machine::new());
        let invitation = invite(&inviter, &Offer::default());
        inviter.clock.set(at);
        let meeting = join(&joiner, &inviter, &invitation, None).await;
        match good {
            true => assert!(meeting.accepted.is_ok()),
            false => assert_eq!(refused(meeting), INVALID),
        }
    }
}

#[tokio::test]
async fn an_invitation_counts_in_the_modes_that_have_them() {
    for mode in Mode::ALL {
        let (inviter, joiner) = (Machine::new(), Machine::new());
        let invitation = invite(&inviter, &Offer::default());
        let request = joining(&invitation, None);
        let meeting = meet(&joiner.dialer(), request, &inviter.acceptor(mode)).await;
        let counts = matches!(mode, Mode::Enroll | Mode::Invite);
        assert_eq!(meeting.accepted.is_ok(), counts, "{mode}");
        assert_eq!(meeting.dialled.is_ok(), counts, "{mode}");
        assert_eq!(is_unused(&inviter, &invitation), !counts, "{mode}");
    }
}

#[tokio::test]
async fn an_invitation_is_not_used_up_by_somebody_whom_the_gate_refuses() {
    let (inviter, node) = (Machine::new(), Node::new());
    let invitation = invite(&inviter, &Offer::default());
    let expired = LeafOptions {
        not_before: TODAY - 40 * DAY,
        not_after: TODAY - 10 * DAY,
        ..LeafOptions::default()
    };
    let late = node.leaf(Purpose::Dial, &expired);
    let foreign = Foreign::client("laptop").self_signed();
    for (mode, credential, want) in [
        (Mode::Enroll, &late, Reason::Expired),
        (Mode::Invite, &late, Reason::Expired),
        // A key that is no node's has no id to sign.
        (Mode::Enroll, &foreign, Reason::InviteInvalid),
    ] {
        let config = speaking_comity(bare_client(Some(&Face::of(credential))));
        let acceptor = inviter.acceptor(mode);
        let (near, far) = tokio::io::duplex(64 * 1024);
        let dialling = async {
            let name = ServerName::try_from("peer.invalid").expect("a name");
            let connector = TlsConnector::from(Arc::new(config));
            let mut tls = connector.connect(name, near).await.expect("a handshake");
            let exporter = tls
                .get_ref()
                .1
                .export_keying_material([0; 32], EXPORTER, None);
            let statement = JoinStatement {
                exporter: exporter.expect("finished"),
                joiner: node.id(),
                inviter: inviter.id(),
                invitation: invitation.id,
            };
            let hello = Hello {
                proof: Some(InvitationProof {
                    id: invitation.id.0,
                    signature: invitation.secret.sign(&statement).expect("signed"),
                }),
                ..Hello::new(SubProtocol::Join)
            };
            drop(tls.write_all(&hello_frame(&hello)).await);
            drop(tls.flush().await);
            drop(tls.read_to_end(&mut Vec::new()).await);
        };
        let ((), accepted) = tokio::join!(dialling, accepting(&acceptor, far));
        assert_eq!(accept_reason(accepted), want, "{mode}");
        assert!(is_unused(&inviter, &invitation), "{mode}");
        assert_eq!(inviter.known(), "", "{mode}");
    }
}

#[tokio::test]
async fn a_known_peer_gains_what_a_further_invitation_says_and_keeps_its_label() {
    let (inviter, joiner) = (Machine::new(), Machine::new());
    inviter.write_known(&pin_line(
        "both",
        "laptop",
        PeerId::Node(joiner.id()),
        "for=web",
    ));
    let offer = Offer {
        label: Some("other"),
        services: &["ssh"],
    };
    let invitation = invite(&inviter, &offer);
    let (_, _, peer) = join(&joiner, &inviter, &invitation, None).await.open();
    assert_eq!(peer.label.as_deref(), Some("laptop"));
    assert!(peer.attested.service("web") && peer.attested.service("ssh"));
    assert_eq!(inviter.known().lines().count(), 2);
}

#[tokio::test]
async fn whoever_joins_leaves_the_queue() {
    let (inviter, joiner) = (Machine::new(), Machine::new());
    let request = by_id(PeerId::Node(inviter.id()), Mode::Pin);
    let meeting = meet(&joiner.dialer(), request, &inviter.acceptor(Mode::Enroll)).await;
    assert_eq!(refused(meeting), (Reason::Pending, Reason::Pending));
    let id = joiner.id().to_string();
    assert!(inviter.waits(&id));
    let invitation = invite(&inviter, &Offer::default());
    join(&joiner, &inviter, &invitation, None).await.open();
    assert!(!inviter.waits(&id));
}

// A proxy in the middle of a join: the joiner expects the inviter's id and says nothing to it.
#[tokio::test]
async fn nobody_in_the_middle_gets_to_see_an_invitation() {
    let (inviter, joiner, eve) = (Machine::new(), Machine::new(), Node::new());
    let invitation = invite(&inviter, &Offer::default());
    let middle = Middle::new(&Face::of(&eve.serve), &Face::of(&eve.dial)).speaking(ALPN_COMITY);
    let (near, far, work) = middle.start();
    let request = joining(&invitation, None);
    let acceptor = inviter.acceptor(Mode::Enroll);
    let meeting = meet_over(&joiner.dialer(), near, request, &acceptor, far).await;
    assert_eq!(dial_reason(meeting.dialled), Reason::Unknown);
    let heard = work.await.expect("finished");
    assert!(!heard.dialer_came && heard.out.is_empty());
    assert!(is_unused(&inviter, &invitation));
}

// And where the joiner is careless enough to believe anybody, what is overheard is of no use.
#[tokio::test]
async fn an_invitation_passed_on_by_somebody_in_the_middle_is_refused() {
    let (inviter, joiner, eve) = (Machine::new(), Machine::new(), Node::new());
    let invitation = invite(&inviter, &Offer::default());
    let middle = Middle::new(&Face::of(&eve.serve), &Face::of(&eve.dial)).speaking(ALPN_COMITY);
    let (near, far, work) = middle.start();
    let mut request = by_name("db.example:7117", Mode::Insecure);
    request.wish = Wish::Join(Arc::clone(&invitation), None);
    let acceptor = inviter.acceptor(Mode::Enroll);
    let meeting = meet_over(&joiner.dialer(), near, request, &acceptor, far).await;
    assert!(matches!(
        meeting.dialled,
        Err(DialError::RefusedByPeer(Some(Reason::InviteInvalid)))
    ));
    assert_eq!(accept_reason(meeting.accepted), Reason::InviteInvalid);
    let heard = work.await.expect("finished");
    assert!(!heard.out.is_empty());
    // Played back word for word by its own hand.
    let client = speaking_comity(bare_client(Some(&Face::of(&eve.dial))));
    let (outcome, _) = call(&inviter.acceptor(Mode::Enroll), client, &heard.out).await;
    assert_eq!(accept_reason(outcome), Reason::InviteInvalid);
    assert!(is_unused(&inviter, &invitation));
    assert_eq!(inviter.known(), "");
}

/// Gives out an invitation to a network, with a role.
fn invite_to(inviter: &Machine, network: &Network) -> Arc<Invitation> {
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(&random_serial());
    let invitation = Invitation {
        addresses: vec![Name::parse("192.0.2.1:7117").expect("an address")],
        inviter: inviter.id(),
        network: Some("fleet".to_owned()),
        network_id: Some(network.id()),
        id: InvitationId(random_serial()),
        secret: InvitationSecret::new(seed),
        expires: NOW + DAY,
        label: None,
    };
    let kept = store::Invitation {
        id: store::InvitationId(invitation.id.0),
        key: InvitationKey(invitation.secret.public_key().expect("a key")),
        label: Some("laptop".to_owned()),
        services: vec!["web".to_owned()],
        roles: vec!["reader".to_owned()],
        networks: vec!["fleet".to_owned()],
        network_id: Some(network.id()),
        created: NOW,
        expires: invitation.expires,
        consumed: None,
    };
    let created = inviter.endpoint.invitations().create(kept, NOW);
    created.expect("created");
    Arc::new(invitation)
}

/// An inviter that issues for its network.
fn issuer() -> (Machine, Arc<Network>) {
    let network = Arc::new(Network::new("fleet"));
    let inviter = Machine::new();
    inviter.becomes_member(&network, "fleet", &[]);
    (inviter.with_issuer(Arc::clone(&network)), network)
}

#[tokio::test]
async fn an_invitation_to_a_network_brings_a_membership_that_holds() {
    let (inviter, network) = issuer();
    let (joiner, other) = (Machine::new(), Machine::new());
    let invitation = invite_to(&inviter, &network);
    let (connection, _, peer) = join(&joiner, &inviter, &invitation, None).await.open();
    // The entry has the label and the services; role and network come by membership alone.
    assert_eq!(peer.label.as_deref(), Some("laptop"));
    assert!(peer.attested.service("web"));
    assert!(!peer.attested.membership("fleet", None));
    let line = inviter.known();
    assert!(line.contains("for=web"), "{line}");
    assert!(
        !line.contains("roles=") && !line.contains("networks="),
        "{line}"
    );
    // Another member, who never heard of the joiner, knows it by what it got.
    let grant = connection.grant.expect("a membership");
    joiner.enters(&network, "fleet", grant.grant().membership.clone());
    other.becomes_member(&network, "mesh", &[]);
    let request = by_id(PeerId::Node(other.id()), Mode::Pin);
    let meeting = meet(&joiner.dialer(), request, &other.acceptor(Mode::Invite)).await;
    let (_, _, peer) = meeting.open();
    assert!(peer.attested.membership("mesh", Some("reader")));
}

#[tokio::test]
async fn the_same_key_gets_its_membership_again_and_another_key_nothing() {
    let (inviter, network) = issuer();
    let (joiner, thief) = (Machine::new(), Machine::new());
    let invitation = invite_to(&inviter, &network);
    for times in 1..=2 {
        let (connection, ..) = join(&joiner, &inviter, &invitation, None).await.open();
        assert!(connection.grant.is_some());
        assert_eq!(network.admitted(), times);
    }
    let meeting = join(&thief, &inviter, &invitation, None).await;
    assert_eq!(refused(meeting), INVALID);
    assert_eq!(network.admitted(), 2);
    // It was entered once.
    assert_eq!(inviter.known().matches(" node ").count(), 1);
}

#[tokio::test]
async fn whoever_does_not_issue_for_the_network_leaves_the_invitation_unused() {
    let network = Network::new("fleet");
    let (inviter, joiner) = (Machine::new(), Machine::new());
    inviter.becomes_member(&network, "fleet", &[]);
    let invitation = invite_to(&inviter, &network);
    let refused = refused(join(&joiner, &inviter, &invitation, None).await);
    assert_eq!(refused, (Reason::WrongNetwork, Reason::NotAuthorised));
    assert!(is_unused(&inviter, &invitation));
    assert!(!inviter.known().contains("laptop"));
}

#[tokio::test]
async fn a_key_that_the_issuer_withdrew_does_not_come_in_by_an_invitation() {
    let (inviter, network) = issuer();
    let joiner = Machine::new();
    network.refuse(joiner.id());
    let invitation = invite_to(&inviter, &network);
    let (reason, told) = refused(join(&joiner, &inviter, &invitation, None).await);
    assert_eq!((reason, told), (Reason::Revoked, Reason::Unknown));
}

/// What a joiner says of the membership that `grant` makes of the network's own.
async fn verdict_on(change: impl Fn(&Network, &Machine, &mut Grant)) -> GrantError {
    let network = Network::new("fleet");
    let joiner = Machine::new();
    let mut grant = Grant {
        network: network.id(),
        membership: network.certify(&joiner.node.root, &[]),
        bundle: network.bundle().bytes().to_vec(),
    };
    change(&network, &joiner, &mut grant);
    let credentials = joiner.endpoint.credentials();
    let verified = VerifiedGrant::verify(grant, &network.id(), credentials, NOW);
    verified.expect_err("it does not hold")
}

#[tokio::test]
async fn a_membership_that_peers_would_not_believe_is_not_believed() {
    let other = Network::new("fleet");
    let error = verdict_on(|_, _, grant| grant.network = other.id()).await;
    assert!(matches!(error, GrantError::WrongNetwork { .. }));
    let error = verdict_on(|_, _, grant| grant.bundle = other.bundle().bytes().to_vec()).await;
    assert!(matches!(error, GrantError::WrongNetwork { .. }));
    let error = verdict_on(|_, _, grant| grant.bundle.truncate(100)).await;
    assert!(matches!(error, GrantError::Bundle(_)));
    let error = verdict_on(|network, _, grant| {
        let over = network.published(|request| {
            request.expires = NOW - DAY / 2;
            request.refresh = DAY / 4;
        });
        grant.bundle = over.bytes().to_vec();
    })
    .await;
    assert!(matches!(error, GrantError::NotFresh { .. }));
    let error = verdict_on(|_, joiner, grant| {
        grant.membership = other.certify(&joiner.node.root, &[]);
    })
    .await;
    assert!(matches!(error, GrantError::Path(_)), "{error}");
    let error = verdict_on(|network, _, grant| {
        grant.membership = network.certify(&Node::new().root, &[]);
    })
    .await;
    assert!(
        matches!(error, GrantError::Path(_) | GrantError::WrongKey),
        "{error}"
    );
    let error = verdict_on(|network, joiner, grant| {
        let end = NOW - DAY / 2;
        grant.membership = network.certify_until(&joiner.node.root, &[], end);
    })
    .await;
    assert!(matches!(error, GrantError::Path(_)));
    let error = verdict_on(|network, joiner, grant| {
        grant.bundle = network.withdraw(&joiner.id()).bytes().to_vec();
    })
    .await;
    assert!(matches!(error, GrantError::Withdrawn));
    let error = verdict_on(|_, _, grant| grant.membership[0] = b"garbage".to_vec()).await;
    assert!(matches!(error, GrantError::Chain(_)));
    let error = verdict_on(|_, _, grant| {
        grant.membership = vec![grant.membership[1].clone(); 7];
    })
    .await;
    assert!(matches!(error, GrantError::Chain(_)));
}

#[tokio::test]
async fn an_inviter_that_sends_no_membership_is_no_network() {
    // It consumes the invitation, and closes after ACCEPT.
    let network = Network::new("fleet");
    let (inviter, joiner) = (Machine::new(), Machine::new());
    let mut invitation = Arc::unwrap_or_clone(invite(&inviter, &Offer::default()));
    invitation.network = Some("fleet".to_owned());
    invitation.network_id = Some(network.id());
    let request = joining(&Arc::new(invitation), None);
    let (near, far) = tokio::io::duplex(64 * 1024);
    let acceptor = inviter.acceptor(Mode::Enroll);
    let accepting = async {
        let (mut stream, _) = accepting(&acceptor, far).await?;
        stream.shutdown().await.ok();
        Ok::<_, comity_tls::AcceptError>(())
    };
    let dialer = joiner.dialer();
    let dialling = dialer.handshake(near, None, request);
    let (dialled, accepted) = in_time(async { tokio::join!(dialling, accepting) }).await;
    accepted.expect("it was accepted");
    assert!(matches!(dialled, Err(DialError::Closed)));
}
