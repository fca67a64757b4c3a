//! T01, T02, T06 to T23: certificates of every kind, presented in a real handshake.

use comity_certs::{Anchor, Purpose};
use comity_identity::{Fingerprint, KeyHash, NodeId, PeerId};
use comity_testkit::certificates::{
    Authority, Credential, Foreign, ForeignKey, Node, RawCertificate, TestKey, elements,
};
use comity_testkit::world::{
    Face, Machine, accept_reason, anchor_line, bare_client, bare_server, by_id, by_name, call,
    dial_bare, dial_reason, meet, pin_line,
};
use comity_tls::{AcceptError, DialError};
use comity_trust::{Evidence, Mode, Reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HOST: &str = "db.example";
const NAME: &str = "db.example:7117";

/// Presents `face` to our dialer; it refuses, sends nothing, and remembers nothing.
async fn refused_as_server(us: &Machine, mode: Mode, face: &Face) -> Reason {
    let before = us.memory();
    let (outcome, saw) = dial_bare(&us.dialer(), by_name(NAME, mode), bare_server(face), b"").await;
    assert_eq!(saw.data, b"");
    assert_eq!(us.memory(), before);
    dial_reason(outcome)
}

/// Presents `face` to our acceptor; it refuses, and remembers nothing.
async fn refused_as_client(us: &Machine, mode: Mode, face: &Face) -> Reason {
    let before = us.memory();
    let (outcome, saw) = call(&us.acceptor(mode), bare_client(Some(face)), b"hello?").await;
    assert_eq!(saw.data, b"");
    assert_eq!(us.memory(), before);
    accept_reason(outcome)
}

/// A machine that dials with these roots as the system's.
fn with_root(authority: &Authority) -> Machine {
    Machine::new().with_roots(vec![Anchor::from_der(&authority.der).expect("a CA")])
}

fn face(credential: &Credential) -> Face {
    Face::of(credential)
}

// T01
#[tokio::test]
async fn another_key_under_one_subject_is_a_changed_peer() {
    let (first, second) = (Foreign::server(HOST), Foreign::server(HOST));
    let (first, second) = (face(&first.self_signed()), face(&second.self_signed()));
    let us = Machine::knowing(&pin_line(
        "dial",
        NAME,
        PeerId::from(&first),
        "added=2026-02-01T00:00:00Z",
    ));
    let (outcome, _) = dial_bare(
        &us.dialer(),
        by_name(NAME, Mode::Tofu),
        bare_server(&first),
        b"",
    )
    .await;
    assert!(outcome.is_ok());
    let before = us.memory();
    let (outcome, saw) = dial_bare(
        &us.dialer(),
        by_name(NAME, Mode::Tofu),
        bare_server(&second),
        b"",
    )
    .await;
    let Err(DialError::Refused { refusal, .. }) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(refusal.reason, Reason::Changed);
    assert_eq!(refusal.presented, PeerId::from(&second));
    let Evidence::Changed { known, .. } = refusal.evidence else {
        panic!("{:?}", refusal.evidence);
    };
    assert_eq!(known.len(), 1);
    assert_eq!((known[0].line, known[0].added.is_some()), (2, true));
    assert_eq!(saw.data, b"");
    assert_eq!(us.memory(), before);
    // When it calls us, its key is its identity: it is nobody.
    assert_eq!(
        refused_as_client(&us, Mode::Pin, &second).await,
        Reason::Unknown
    );
}

// T02
#[tokio::test]
async fn one_key_in_a_new_certificate_passes_a_key_pin_and_not_a_certificate_pin() {
    let key = TestKey::generate(comity_identity::Algorithm::EcdsaP256);
    let (old, new) = (single(&key, "old"), single(&key, "new"));
    let id = PeerId::from(&face(&old));
    assert_eq!(id, PeerId::from(&face(&new)));
    let by_certificate = |side: &str| {
        let hash = Fingerprint::of_certificate(&old.chain[0]);
        format!("{side} {NAME} cert {hash}\n")
    };
    let (by_key, by_cert) = (
        Machine::knowing(&pin_line("dial", NAME, id, "")),
        Machine::knowing(&by_certificate("dial")),
    );
    for (us, accepted) in [(by_key, true), (by_cert, false)] {
        let request = || by_name(NAME, Mode::Pin);
        let (outcome, _) = dial_bare(&us.dialer(), request(), bare_server(&face(&old)), b"").await;
        assert!(outcome.is_ok());
        let (outcome, _) = dial_bare(&us.dialer(), request(), bare_server(&face(&new)), b"").await;
        match accepted {
            true => assert!(outcome.is_ok()),
            false => assert_eq!(dial_reason(outcome), Reason::Changed),
        }
    }
    let (by_key, by_cert) = (
        Machine::knowing(&pin_line("accept", "caller", id, "")),
        Machine::knowing(&by_certificate("accept").replace(NAME, "caller")),
    );
    for (us, accepted) in [(by_key, true), (by_cert, false)] {
        let (outcome, _) = call(&us.acceptor(Mode::Pin), bare_client(Some(&face(&new))), b"").await;
        match accepted {
            true => assert!(outcome.is_ok()),
            false => assert_eq!(accept_reason(outcome), Reason::Unknown),
        }
    }
}

/// A self-signed certificate of this key.
fn single(key: &TestKey, common_name: &str) -> Credential {
    use comity_identity::Signer as _;
    let template = Foreign {
        common_name: Some(common_name.to_owned()),
        ..Foreign::default()
    };
    let mut raw = RawCertificate::of(&template.self_signed().chain[0]);
    raw.spki = key.spki().to_vec();
    Credential {
        chain: vec![raw.sign(key)],
        key: key.pkcs8(),
    }
}

// T06
#[tokio::test]
async fn a_ca_certificate_for_another_host_is_a_mismatch() {
    let root = Foreign::authority("public").root();
    let us = with_root(&root);
    let other = face(&Foreign::server("other.example").issued_by(&root));
    for mode in [Mode::Ca, Mode::CaOrPin] {
        assert_eq!(
            refused_as_server(&us, mode, &other).await,
            Reason::NameMismatch
        );
    }
    let right = face(&Foreign::server(HOST).issued_by(&root));
    let (outcome, _) = dial_bare(
        &us.dialer(),
        by_name(NAME, Mode::Ca),
        bare_server(&right),
        b"",
    )
    .await;
    assert!(outcome.is_ok());
}

// T06: the common name is never a name.
#[tokio::test]
async fn a_common_name_is_no_name_of_a_server() {
    let root = Foreign::authority("public").root();
    let mut only_common_name = Foreign::server(HOST);
    only_common_name.dns.clear();
    let presented = face(&only_common_name.issued_by(&root));
    assert_eq!(
        refused_as_server(&with_root(&root), Mode::Ca, &presented).await,
        Reason::NameMismatch
    );
}

// T07
#[tokio::test]
async fn a_pin_is_for_its_port() {
    let presented = face(&Foreign::server(HOST).self_signed());
    let us = Machine::knowing(&pin_line(
        "dial",
        "db.example:7118",
        PeerId::from(&presented),
        "",
    ));
    assert_eq!(
        refused_as_server(&us, Mode::Pin, &presented).await,
        Reason::Unknown
    );
}

// T08
#[tokio::test]
async fn the_address_behind_a_name_does_not_matter() {
    // A name that was pinned is recognised wherever it leads, and another key is not, although it
    // answers at the same address: pipes here have one address for everybody.
    let (known, other) = (Node::new(), Node::new());
    let us = Machine::knowing(&pin_line("dial", NAME, PeerId::Node(known.id()), ""));
    let server = bare_server(&face(&known.serve));
    let (outcome, _) = dial_bare(&us.dialer(), by_name(NAME, Mode::Pin), server, b"").await;
    assert_eq!(outcome.expect("accepted").id, PeerId::Node(known.id()));
    assert_eq!(
        refused_as_server(&us, Mode::Tofu, &face(&other.serve)).await,
        Reason::Changed
    );
}

// T09
#[tokio::test]
async fn spellings_of_one_name_share_its_pin() {
    let (known, other) = (Node::new(), Node::new());
    for (pinned, spellings) in [
        ("db.example:7117", ["DB.Example:7117", "db.example.:7117"]),
        (
            "xn--bcher-kva.example:7117",
            ["bücher.example:7117", "BÜCHER.example.:7117"],
        ),
        (
            "[2001:db8::1]:7117",
            ["[2001:DB8:0:0::1]:7117", "[2001:0db8::0001]:7117"],
        ),
    ] {
        let us = Machine::knowing(&pin_line("dial", pinned, PeerId::Node(known.id()), ""));
        for spelling in spellings {
            let request = || by_name(spelling, Mode::Tofu);
            let server = |node: &Node| bare_server(&face(&node.serve));
            let (outcome, _) = dial_bare(&us.dialer(), request(), server(&known), b"").await;
            assert!(outcome.is_ok(), "{spelling}");
            let (outcome, _) = dial_bare(&us.dialer(), request(), server(&other), b"").await;
            assert_eq!(dial_reason(outcome), Reason::Changed, "{spelling}");
        }
    }
}

/// A self-signed certificate changed by `change` and signed again.
fn changed(change: impl FnOnce(&mut RawCertificate)) -> Credential {
    let key = TestKey::generate(comity_identity::Algorithm::EcdsaP256);
    let template = single(&key, "foreign");
    let mut raw = RawCertificate::of(&template.chain[0]);
    change(&mut raw);
    Credential {
        chain: vec![raw.sign(&key)],
        key: template.key,
    }
}

/// Even pinned, it is refused for what it is.
async fn refused_though_pinned(credential: &Credential, reason: Reason) {
    let tbs = elements(elements(&credential.chain[0])[0]);
    // Without a version, everything is one place further ahead.
    let spki = tbs[if tbs[0][0] == 0xa0 { 6 } else { 5 }];
    let pin = PeerId::Key(KeyHash::of_spki(spki));
    let us = Machine::knowing(&pin_line("both", NAME, pin, ""));
    // Before any signature of its key is looked at: the copy will do.
    let copied = Face::copied(&credential.chain);
    for mode in [Mode::Pin, Mode::Insecure] {
        assert_eq!(refused_as_server(&us, mode, &copied).await, reason);
        assert_eq!(refused_as_client(&us, mode, &copied).await, reason);
    }
}

// T10
#[tokio::test]
async fn a_version_1_certificate_is_refused_even_where_it_is_pinned() {
    let old = Credential::of_vector("foreign-version-1");
    refused_though_pinned(&old, Reason::Malformed).await;
}

// T11, T12
#[tokio::test]
async fn an_unknown_critical_extension_is_refused_and_an_uncritical_one_is_not() {
    let unknown = |critical| vec![(vec![0x2a, 0x03, 0x04], critical, vec![0x05, 0x00])];
    let critical = changed(|raw| raw.extensions = unknown(true));
    refused_though_pinned(&critical, Reason::Malformed).await;
    let uncritical = face(&changed(|raw| raw.extensions = unknown(false)));
    let us = Machine::knowing(&pin_line("both", NAME, PeerId::from(&uncritical), ""));
    let (outcome, _) = dial_bare(
        &us.dialer(),
        by_name(NAME, Mode::Pin),
        bare_server(&uncritical),
        b"",
    )
    .await;
    assert!(outcome.is_ok());
    let (outcome, _) = call(&us.acceptor(Mode::Pin), bare_client(Some(&uncritical)), b"").await;
    assert!(outcome.is_ok());
}

/// Whether a path is accepted, when dialling and when accepting.
async fn check_path(
    server: &Credential,
    client: &Credential,
    root: &Authority,
    want: Option<Reason>,
) {
    let us = with_root(root);
    let dialled = by_name(NAME, Mode::Ca);
    let (outcome, _) = dial_bare(&us.dialer(), dialled, bare_server(&face(server)), b"").await;
    match want {
        None => assert!(outcome.is_ok(), "{outcome:?}"),
        Some(reason) => assert_eq!(dial_reason(outcome), reason),
    }
    let us = Machine::knowing(&anchor_line("accept", "*.example", &root.der, ""));
    let (outcome, _) = call(
        &us.acceptor(Mode::Ca),
        bare_client(Some(&face(client))),
        b"",
    )
    .await;
    match want {
        None => assert!(outcome.is_ok(), "{outcome:?}"),
        Some(reason) => assert_eq!(accept_reason(outcome), reason),
    }
}

fn client_of(host: &str) -> Foreign {
    Foreign {
        purposes: vec![Purpose::Dial],
        ..Foreign::server(host)
    }
}

fn below(leaf: &Foreign, issuer: &Authority, rest: &[&Authority]) -> Credential {
    let chain: Vec<&[u8]> = rest.iter().map(|a| a.der.as_slice()).collect();
    leaf.issued_by(issuer).followed_by(&chain)
}

// T13
#[tokio::test]
async fn a_path_longer_than_its_ca_allows_is_refused() {
    for (length, want) in [(1, None), (0, Some(Reason::Constraint))] {
        let mut limited = Foreign::authority("limited");
        limited.ca = Some(Some(length));
        let root = Foreign::authority("root").root();
        let limited = limited.intermediate(&root);
        let middle = Foreign::authority("middle").intermediate(&limited);
        let [server, client] = [Foreign::server(HOST), client_of(HOST)]
            .map(|leaf| below(&leaf, &middle, &[&middle, &limited]));
        check_path(&server, &client, &root, want).await;
    }
}

// T14
#[tokio::test]
async fn certificates_for_the_other_direction_are_refused() {
    let root = Foreign::authority("root").root();
    let [server, client] = [client_of(HOST), Foreign::server(HOST)].map(|l| l.issued_by(&root));
    check_path(&server, &client, &root, Some(Reason::Constraint)).await;
    // A node's leaves, even pinned, even where nothing else is checked.
    let node = Node::new();
    let us = Machine::knowing(&pin_line("both", NAME, PeerId::Node(node.id()), ""));
    for mode in [Mode::Pin, Mode::Tofu, Mode::Insecure] {
        assert_eq!(
            refused_as_server(&us, mode, &face(&node.dial)).await,
            Reason::Constraint
        );
        assert_eq!(
            refused_as_client(&us, mode, &face(&node.serve)).await,
            Reason::Constraint
        );
    }
}

// T15
#[tokio::test]
async fn a_certificate_without_extended_key_usage_serves_and_dials() {
    let root = Foreign::authority("root").root();
    let mut leaf = Foreign::server(HOST);
    leaf.purposes.clear();
    let credential = leaf.issued_by(&root);
    check_path(&credential, &credential, &root, None).await;
}

// T16
#[tokio::test]
async fn a_ca_is_no_leaf_below_a_ca_but_may_be_pinned() {
    let root = Foreign::authority("root").root();
    let [server, client] = [Foreign::server(HOST), client_of(HOST)].map(|mut leaf| {
        leaf.ca = Some(None);
        leaf.issued_by(&root)
    });
    check_path(&server, &client, &root, Some(Reason::Constraint)).await;
    // What `openssl req -x509` makes.
    let mut own = Foreign::server(HOST);
    own.ca = Some(None);
    own.purposes.clear();
    let own = face(&own.self_signed());
    let us = Machine::knowing(&pin_line("both", NAME, PeerId::from(&own), ""));
    let (outcome, _) = dial_bare(
        &us.dialer(),
        by_name(NAME, Mode::Pin),
        bare_server(&own),
        b"",
    )
    .await;
    assert!(outcome.is_ok());
    let (outcome, _) = call(&us.acceptor(Mode::Pin), bare_client(Some(&own)), b"").await;
    assert!(outcome.is_ok());
}

// T17
#[tokio::test]
async fn without_its_intermediate_a_leaf_is_a_strangers() {
    let root = Foreign::authority("root").root();
    let middle = Foreign::authority("middle").intermediate(&root);
    let [server, client] = [Foreign::server(HOST), client_of(HOST)].map(|l| l.issued_by(&middle));
    check_path(&server, &client, &root, Some(Reason::Unknown)).await;
}

// T18
#[tokio::test]
async fn the_order_and_surplus_of_intermediates_do_not_matter() {
    let root = Foreign::authority("root").root();
    let stranger = Foreign::authority("stranger").root();
    let upper = Foreign::authority("upper").intermediate(&root);
    let lower = Foreign::authority("lower").intermediate(&upper);
    for rest in [
        vec![&upper, &lower],
        vec![&lower, &lower, &upper, &upper],
        vec![&stranger, &lower, &root, &upper],
    ] {
        let [server, client] =
            [Foreign::server(HOST), client_of(HOST)].map(|leaf| below(&leaf, &lower, &rest));
        check_path(&server, &client, &root, None).await;
    }
    // Not so for a node: its chain has one form (leaf, then root), or is nobody's.
    let node = Node::new();
    for chain in [
        vec![node.root.clone(), node.serve.chain[0].clone()],
        vec![node.serve.chain[0].clone()],
        [node.serve.chain.clone(), vec![node.root.clone()]].concat(),
    ] {
        refused_though_pinned(
            &Credential {
                chain,
                key: Vec::new(),
            },
            Reason::Malformed,
        )
        .await;
    }
}

// T19
#[tokio::test]
async fn a_loop_of_cross_signed_cas_is_given_up_at_once() {
    let template = Foreign::authority("loop");
    let trusted = Foreign::authority("trusted").root();
    let [first, second, third] = [(); 3].map(|()| template.root());
    let mut crossed = Vec::new();
    for (subject, issuer) in [(&first, &second), (&second, &third), (&third, &first)] {
        crossed.push(template.cross(subject, issuer));
        crossed.push(template.cross(issuer, subject));
    }
    let crossed: Vec<&[u8]> = crossed.iter().map(Vec::as_slice).collect();
    let [server, client] = [Foreign::server(HOST), client_of(HOST)]
        .map(|leaf| leaf.issued_by(&first).followed_by(&crossed));
    let started = std::time::Instant::now();
    check_path(&server, &client, &trusted, Some(Reason::Unknown)).await;
    // Two handshakes and four path searches, in an unoptimised build on a busy machine.
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

// T20
#[tokio::test]
async fn more_than_the_tls_library_takes_ends_the_handshake() {
    let large = [vec![0x2a, 0x03, 0x04], vec![0; 70_000]];
    let large = changed(|raw| raw.extensions = vec![(large[0].clone(), false, large[1].clone())]);
    let us = Machine::new();
    let before = us.memory();
    let server = bare_server(&face(&large));
    let (outcome, saw) = dial_bare(&us.dialer(), by_name(NAME, Mode::Tofu), server, b"").await;
    assert!(
        matches!(outcome, Err(DialError::Handshake(_))),
        "{outcome:?}"
    );
    assert_eq!(saw.data, b"");
    let (outcome, _) = call(
        &us.acceptor(Mode::Tofu),
        bare_client(Some(&face(&large))),
        b"",
    )
    .await;
    assert!(
        matches!(outcome, Err(AcceptError::Handshake(_))),
        "{outcome:?}"
    );
    assert_eq!(us.memory(), before);
}

// T20: below the library's limit and above ours.
#[tokio::test]
async fn more_than_16_kilobytes_are_over_the_limit() {
    let large = vec![(vec![0x2a, 0x03, 0x04], false, vec![0; 16 * 1024])];
    let large = changed(|raw| raw.extensions = large);
    refused_though_pinned(&large, Reason::Limit).await;
}

// T21
#[tokio::test]
async fn more_than_64_names_are_over_the_limit() {
    for (count, want) in [(64, None), (65, Some(Reason::Limit))] {
        let many = Foreign {
            dns: (0..count).map(|n| format!("h{n}.example")).collect(),
            ..Foreign::default()
        };
        let many = many.self_signed();
        match want {
            Some(reason) => refused_though_pinned(&many, reason).await,
            None => {
                let us = Machine::new();
                let server = bare_server(&face(&many));
                let request = by_name(NAME, Mode::Tofu);
                let (outcome, _) = dial_bare(&us.dialer(), request, server, b"").await;
                assert!(outcome.is_ok());
            }
        }
    }
}

// T22
#[tokio::test]
async fn more_than_8_certificates_are_over_the_limit() {
    let one = Foreign::server(HOST).self_signed();
    for (copies, want) in [(7, None), (8, Some(Reason::Limit))] {
        let rest = vec![one.chain[0].as_slice(); copies];
        let many = one.clone().followed_by(&rest);
        match want {
            Some(reason) => refused_though_pinned(&many, reason).await,
            None => {
                let us = Machine::new();
                let server = bare_server(&face(&many));
                let request = by_name(NAME, Mode::Tofu);
                let (outcome, _) = dial_bare(&us.dialer(), request, server, b"").await;
                assert!(outcome.is_ok());
            }
        }
    }
}

// T23
#[tokio::test]
async fn weak_and_unusual_keys_are_refused_even_where_they_are_pinned() {
    for vector in [
        "foreign-rsa-1024",
        "foreign-rsa-2040",
        "foreign-rsa-4104",
        "foreign-rsa-e3",
        "foreign-p521",
        "foreign-secp256k1",
        "foreign-ed448",
        "foreign-sha1",
        "foreign-explicit-curve",
        "foreign-rsa-pss-key",
    ] {
        refused_though_pinned(&Credential::of_vector(vector), Reason::Malformed).await;
    }
}

// T23: those that are accepted.
#[tokio::test]
async fn every_accepted_kind_of_key_shakes_hands_in_both_directions() {
    let made = [ForeignKey::P256, ForeignKey::P384, ForeignKey::Ed25519].map(|key| {
        Foreign {
            key,
            ..Foreign::default()
        }
        .self_signed()
    });
    let read = ["foreign-rsa-2048", "foreign-rsa-4096"].map(Credential::of_vector);
    for credential in made.iter().chain(&read) {
        let face = face(credential);
        let us = Machine::knowing(&pin_line("both", NAME, PeerId::from(&face), ""));
        let (outcome, _) = dial_bare(
            &us.dialer(),
            by_name(NAME, Mode::Pin),
            bare_server(&face),
            b"",
        )
        .await;
        assert!(outcome.is_ok(), "{outcome:?}");
        let (outcome, _) = call(&us.acceptor(Mode::Pin), bare_client(Some(&face)), b"").await;
        assert!(outcome.is_ok(), "{outcome:?}");
    }
    // And a node with the other kind of identity.
    let node = Node::with_algorithm(comity_identity::Algorithm::Ed25519);
    let us = Machine::knowing(&pin_line("both", NAME, PeerId::Node(node.id()), ""));
    let request = by_id(PeerId::Node(node.id()), Mode::Pin);
    let server = bare_server(&face(&node.serve));
    assert!(
        dial_bare(&us.dialer(), request, server, b"")
            .await
            .0
            .is_ok()
    );
}

#[tokio::test]
async fn two_nodes_that_know_each_other_talk_and_know_with_whom() {
    let (alice, bob) = (Machine::new(), Machine::new());
    alice.write_known(&pin_line("both", "bob", PeerId::Node(bob.id()), "for=web"));
    bob.write_known(&pin_line(
        "both",
        "alice",
        PeerId::Node(alice.id()),
        "for=ssh roles=ops",
    ));
    let meeting = meet(
        &alice.dialer(),
        by_name("bob", Mode::Pin),
        &bob.acceptor(Mode::Enroll),
    )
    .await;
    let (connection, _, peer) = meeting.open();
    assert!(connection.accepted);
    assert_eq!(connection.peer.id, PeerId::Node(bob.id()));
    assert_eq!(connection.peer.label.as_deref(), Some("bob"));
    assert_eq!(peer.id, PeerId::Node(alice.id()));
    assert_eq!(peer.label.as_deref(), Some("alice"));
    assert!(peer.attested.service("ssh") && peer.attested.roles.contains("ops"));
    assert!(!peer.attested.service("web"));
}

// A pin never matches what is merely present: an attacker appends the victim's root to its chain.
#[tokio::test]
async fn a_known_root_behind_a_foreign_leaf_is_nobody() {
    let victim = Node::new();
    let us = Machine::knowing(&pin_line("both", NAME, PeerId::Node(victim.id()), ""));
    let attacker = Foreign::server(HOST).self_signed();
    let posing = attacker.followed_by(&[&victim.root]);
    let (server, client) = (
        refused_as_server(&us, Mode::Pin, &face(&posing)).await,
        refused_as_client(&us, Mode::Pin, &face(&posing)).await,
    );
    // Ending in a node's root it claims to be native, which it is not.
    assert_eq!((server, client), (Reason::Malformed, Reason::Malformed));
}

#[tokio::test]
async fn a_node_signed_by_another_key_under_a_known_subject_is_refused() {
    let (victim, attacker) = (Node::new(), Node::new());
    let mut root = RawCertificate::of(&attacker.root);
    let known = RawCertificate::of(&victim.root);
    root.subject = known.subject.clone();
    root.issuer = known.issuer;
    let mut leaf = RawCertificate::of(&attacker.serve.chain[0]);
    leaf.subject = known.subject.clone();
    leaf.issuer = known.subject;
    let posing = Credential {
        chain: vec![leaf.sign(&attacker.identity), root.sign(&attacker.identity)],
        key: attacker.serve.key.clone(),
    };
    let us = Machine::knowing(&pin_line("both", NAME, PeerId::Node(victim.id()), ""));
    assert_eq!(
        refused_as_server(&us, Mode::Tofu, &face(&posing)).await,
        Reason::Malformed
    );
    assert_eq!(
        refused_as_client(&us, Mode::Tofu, &face(&posing)).await,
        Reason::Malformed
    );
}

// An id is that of the identity key: presenting that key itself as a leaf is somebody else.
#[tokio::test]
async fn an_expected_id_is_met_by_that_node_only() {
    let (right, wrong) = (Node::new(), Node::new());
    let us = Machine::new();
    let expected = |id: NodeId| by_id(PeerId::Node(id), Mode::Tofu);
    let server = |node: &Node| bare_server(&face(&node.serve));
    let before = us.memory();
    let (outcome, _) = dial_bare(&us.dialer(), expected(right.id()), server(&right), b"").await;
    assert!(outcome.is_ok());
    let (outcome, saw) = dial_bare(&us.dialer(), expected(right.id()), server(&wrong), b"").await;
    assert_eq!(dial_reason(outcome), Reason::Unknown);
    assert_eq!((saw.data.len(), us.memory()), (0, before));
}

#[tokio::test]
async fn a_revoked_key_anywhere_in_the_chain_refuses_it_in_both_directions() {
    let root = Foreign::authority("root").root();
    let middle = Foreign::authority("middle").intermediate(&root);
    let revoked = RawCertificate::of(&middle.der).spki;
    let line = format!("@revoked both * key {}\n", KeyHash::of_spki(&revoked));
    let [server, client] = [Foreign::server(HOST), client_of(HOST)]
        .map(|leaf| face(&below(&leaf, &middle, &[&middle])));
    for (mode, lines) in [
        (Mode::CaOrTofu, line.clone()),
        (Mode::Insecure, line.clone()),
        (
            Mode::Pin,
            pin_line("both", NAME, PeerId::from(&server), "")
                + &pin_line("accept", "caller", PeerId::from(&client), "")
                + &line,
        ),
    ] {
        let us = Machine::knowing(&lines);
        assert_eq!(refused_as_server(&us, mode, &server).await, Reason::Revoked);
        assert_eq!(refused_as_client(&us, mode, &client).await, Reason::Revoked);
    }
}

#[tokio::test]
async fn renewed_leaves_are_presented_from_then_on_and_open_connections_go_on() {
    let (alice, bob) = (Machine::new(), Machine::new());
    alice.write_known(&pin_line("both", "bob", PeerId::Node(bob.id()), ""));
    bob.write_known(&pin_line("both", "alice", PeerId::Node(alice.id()), ""));
    let acceptor = bob.acceptor(Mode::Pin);
    let meeting = meet(&alice.dialer(), by_name("bob", Mode::Pin), &acceptor).await;
    let (mut connection, mut stream, _) = meeting.open();
    let presented = async || {
        let client = bare_client(Some(&Face::of(&alice.node.dial)));
        call(&acceptor, client, b"").await.1.certificates
    };
    let before = presented().await;
    let renewed = bob.endpoint.credentials().renew(bob.clock.clock().now());
    renewed.expect("renewed");
    let after = presented().await;
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1..], after[1..]);
    connection
        .stream
        .write_all(b"still here")
        .await
        .expect("open");
    connection.stream.flush().await.expect("open");
    let mut heard = [0; 10];
    stream.read_exact(&mut heard).await.expect("open");
    assert_eq!(&heard, b"still here");
}
