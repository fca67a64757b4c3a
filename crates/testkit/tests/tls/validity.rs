//! T03 to T05: time, to the second, on a clock set by hand.

use std::time::Duration;

use comity_certs::{Anchor, CLOCK_TOLERANCE, Purpose};
use comity_identity::{PeerId, UnixTime};
use comity_testkit::certificates::{DAY, Foreign, LeafOptions, Node, TODAY};
use comity_testkit::world::{
    Face, Machine, accept_reason, anchor_line, bare_client, bare_server, by_name, call, dial_bare,
    dial_reason, pin_line,
};
use comity_tls::PeerInfo;
use comity_trust::{Mode, Reason, Warning};

const NAME: &str = "db.example:7117";
const SECOND: Duration = Duration::from_secs(1);

async fn dial_at(us: &Machine, mode: Mode, face: &Face, now: UnixTime) -> Result<PeerInfo, Reason> {
    us.clock.set(now);
    let before = us.memory();
    let server = bare_server(face);
    let (outcome, saw) = dial_bare(&us.dialer(), by_name(NAME, mode), server, b"").await;
    outcome.map_err(|error| {
        assert_eq!(saw.data, b"");
        assert_eq!(us.memory(), before);
        dial_reason::<()>(Err(error))
    })
}

async fn accept_at(
    us: &Machine,
    mode: Mode,
    face: &Face,
    now: UnixTime,
) -> Result<PeerInfo, Reason> {
    us.clock.set(now);
    let before = us.memory();
    let client = bare_client(Some(face));
    let (outcome, _) = call(&us.acceptor(mode), client, b"").await;
    outcome.map(|(peer, _)| peer).map_err(|error| {
        assert_eq!(us.memory(), before);
        accept_reason::<()>(Err(error))
    })
}

// T03, T04
#[tokio::test]
async fn a_nodes_leaf_is_tolerated_for_48_hours_and_not_a_second_more() {
    let options = LeafOptions {
        not_before: TODAY + 10 * DAY,
        not_after: TODAY + 20 * DAY,
        ..LeafOptions::default()
    };
    let node = Node::new();
    let [serve, dial] =
        [Purpose::Serve, Purpose::Dial].map(|purpose| Face::of(&node.leaf(purpose, &options)));
    let (first, last) = (
        options.not_before - CLOCK_TOLERANCE,
        options.not_after + CLOCK_TOLERANCE,
    );
    assert_eq!(CLOCK_TOLERANCE, 2 * DAY);
    for (now, want) in [
        (first - SECOND, Err(Reason::NotYetValid)),
        (first, Ok(())),
        (last, Ok(())),
        (last + SECOND, Err(Reason::Expired)),
    ] {
        let known = pin_line("both", NAME, PeerId::Node(node.id()), "");
        for (mode, lines) in [
            (Mode::Pin, known.as_str()),
            (Mode::Tofu, ""),
            (Mode::Insecure, ""),
        ] {
            let us = Machine::knowing(lines);
            let dialled = dial_at(&us, mode, &serve, now).await;
            assert_eq!(dialled.map(drop), want, "{mode} {now}");
            let accepted = accept_at(&us, mode, &dial, now).await;
            assert_eq!(accepted.map(drop), want, "{mode} {now}");
        }
    }
}

// T03: whoever is over does not get into the queue, and an invitation would not help it.
#[tokio::test]
async fn an_expired_node_does_not_wait_for_approval() {
    let node = Node::new();
    let us = Machine::new();
    let late = TODAY + 40 * DAY;
    let face = Face::of(&node.dial);
    assert_eq!(
        accept_at(&us, Mode::Enroll, &face, late).await.map(drop),
        Err(Reason::Expired)
    );
}

// T03, T04
#[tokio::test]
async fn a_single_pinned_certificate_outside_its_dates_is_accepted_with_a_warning() {
    let template = Foreign {
        not_before: TODAY,
        not_after: TODAY + DAY,
        ..Foreign::default()
    };
    let face = Face::of(&template.self_signed());
    let pinned = pin_line("both", NAME, PeerId::from(&face), "");
    for (now, warned) in [
        (template.not_before - SECOND, true),
        (template.not_before, false),
        (template.not_after, false),
        (template.not_after + SECOND, true),
    ] {
        let us = Machine::knowing(&pinned);
        let dialled = dial_at(&us, Mode::Pin, &face, now).await.expect("accepted");
        let accepted = accept_at(&us, Mode::Pin, &face, now).await;
        for peer in [dialled, accepted.expect("accepted")] {
            assert_eq!(!peer.warnings.is_empty(), warned, "{now}");
            let fits = peer
                .warnings
                .iter()
                .all(|w| matches!(w, Warning::Expired { .. } | Warning::NotYetValid { .. }));
            assert!(fits);
        }
        // A stranger's is enforced to the second.
        let want = match (now < template.not_before, warned) {
            (_, false) => Ok(()),
            (true, true) => Err(Reason::NotYetValid),
            (false, true) => Err(Reason::Expired),
        };
        let us = Machine::new();
        assert_eq!(dial_at(&us, Mode::Tofu, &face, now).await.map(drop), want);
        let us = Machine::new();
        assert_eq!(accept_at(&us, Mode::Tofu, &face, now).await.map(drop), want);
    }
}

// T03, T04
#[tokio::test]
async fn a_path_to_a_ca_is_judged_to_the_second() {
    let root = Foreign::authority("root").root();
    let [server, client] = [Purpose::Serve, Purpose::Dial].map(|purpose| {
        let leaf = Foreign {
            purposes: vec![purpose],
            not_before: TODAY,
            not_after: TODAY + DAY,
            ..Foreign::server("db.example")
        };
        Face::of(&leaf.issued_by(&root))
    });
    for (now, want) in [
        (TODAY - SECOND, Err(Reason::NotYetValid)),
        (TODAY, Ok(())),
        (TODAY + DAY, Ok(())),
        (TODAY + DAY + SECOND, Err(Reason::Expired)),
    ] {
        check_ca(&root.der, &server, &client, now, want).await;
    }
}

// T05
#[tokio::test]
async fn an_expired_ca_of_our_own_vouches_for_nobody() {
    let authority = Foreign {
        not_before: TODAY,
        not_after: TODAY + DAY,
        ..Foreign::authority("own")
    };
    let root = authority.root();
    let [server, client] = [Purpose::Serve, Purpose::Dial].map(|purpose| {
        let leaf = Foreign {
            purposes: vec![purpose],
            ..Foreign::server("db.example")
        };
        Face::of(&leaf.issued_by(&root))
    });
    for (now, want) in [
        (TODAY - SECOND, Err(Reason::NotYetValid)),
        (TODAY, Ok(())),
        (TODAY + DAY, Ok(())),
        (TODAY + DAY + SECOND, Err(Reason::Expired)),
    ] {
        check_ca(&root.der, &server, &client, now, want).await;
    }
}

async fn check_ca(
    root: &[u8],
    server: &Face,
    client: &Face,
    now: UnixTime,
    want: Result<(), Reason>,
) {
    let system = Machine::new().with_roots(vec![Anchor::from_der(root).expect("a CA")]);
    let dialled = dial_at(&system, Mode::Ca, server, now).await;
    assert_eq!(dialled.map(drop), want, "{now}");
    let listed = Machine::knowing(&anchor_line("both", "*.example", root, ""));
    let dialled = dial_at(&listed, Mode::Ca, server, now).await;
    assert_eq!(dialled.map(drop), want, "{now}");
    let accepted = accept_at(&listed, Mode::Ca, client, now).await;
    assert_eq!(accepted.map(drop), want, "{now}");
}
