//! T24, T26: what a certificate says about its owner is a claim, whatever characters it is made of.

use comity_certs::{Metadata, Purpose};
use comity_identity::PeerId;
use comity_testkit::certificates::{
    Credential, Foreign, LeafOptions, Node, RawCertificate, TestKey, tlv,
};
use comity_testkit::world::{
    Face, Machine, accept_reason, anchor_line, bare_client, bare_server, by_name, call, dial_bare,
    hello_frame, pin_line, speaking_comity,
};
use comity_tls::hello::{Hello, SubProtocol};
use comity_trust::{Mode, Reason};

const NAME: &str = "db.example:7117";

/// Names that would do harm if they were written down, shown or matched as they are.
const HOSTILE: [&str; 11] = [
    "a name with spaces",
    "two\nboth evil node lines",
    "carriage\rreturn",
    "# a comment",
    "@revoked both *",
    "nul\0byte",
    "\u{202e}txet desrever\u{202c}",
    "\u{1f608}",
    "\u{1b}[31mred",
    "both,names",
    "\"quoted\" \\ 100%",
];

// T24
#[tokio::test]
async fn hostile_common_names_leave_no_trace_in_what_we_know() {
    let mut names: Vec<Option<String>> = HOSTILE.map(|name| Some(name.to_owned())).into();
    names.push(None);
    names.push(Some(String::new()));
    for common_name in names {
        let foreign = Foreign {
            common_name: common_name.clone(),
            ..Foreign::default()
        };
        let face = Face::of(&foreign.self_signed());
        let us = Machine::new();
        let server = bare_server(&face);
        let (outcome, _) = dial_bare(&us.dialer(), by_name(NAME, Mode::Tofu), server, b"").await;
        let peer = outcome.expect("first use");
        assert!(peer.label.is_none() && peer.attested.is_empty());
        shown_harmlessly(peer.claimed.common_name.as_deref());
        let client = bare_client(Some(&face));
        let (outcome, _) = call(&us.acceptor(Mode::Tofu), client, b"").await;
        let (peer, _) = outcome.expect("first use");
        assert!(peer.attested.is_empty());
        let known = us.known();
        // The header, the name we dialled, and a label made of the key.
        assert_eq!(known.lines().count(), 3, "{known}");
        let id = PeerId::from(&face).key_hash().to_string();
        let label = known.lines().nth(2).and_then(|l| l.split(' ').nth(1));
        let label = label
            .and_then(|l| l.strip_prefix("peer-"))
            .expect("a label");
        assert!(id.to_lowercase().starts_with(label), "{known}");
        if let Some(name) = common_name.filter(|name| !name.is_empty()) {
            assert!(!known.contains(&name), "{known}");
        }
    }
}

// T24: the queue shows a claim to the operator, escaped.
#[tokio::test]
async fn hostile_names_wait_for_approval_in_escaped_form() {
    for name in HOSTILE {
        let us = Machine::new();
        let foreign = Foreign {
            common_name: Some(name.to_owned()),
            ..Foreign::default()
        };
        let client = bare_client(Some(&Face::of(&foreign.self_signed())));
        let (outcome, saw) = call(&us.acceptor(Mode::Enroll), client, b"").await;
        assert_eq!(accept_reason(outcome), Reason::Pending);
        assert_eq!(saw.data, b"");
        // A node says its name in HELLO instead.
        let hello = Hello {
            claimed_name: Some(name.to_owned()),
            ..Hello::new(SubProtocol::Tunnel)
        };
        let client = speaking_comity(bare_client(Some(&Face::of(&Node::new().dial))));
        let (outcome, _) = call(&us.acceptor(Mode::Enroll), client, &hello_frame(&hello)).await;
        assert_eq!(accept_reason(outcome), Reason::Pending);
        let waiting = us.endpoint.pending().list(us.clock.clock().now());
        let waiting = waiting.expect("readable");
        assert_eq!(waiting.len(), 2);
        for request in waiting {
            shown_harmlessly(request.claimed_label.as_deref());
        }
        assert_eq!(us.known(), "");
    }
}

// T24
#[tokio::test]
async fn a_common_name_of_64_kilobytes_ends_the_handshake() {
    let foreign = Foreign {
        common_name: Some("x".repeat(64 * 1024)),
        ..Foreign::default()
    };
    let face = Face::of(&foreign.self_signed());
    let us = Machine::new();
    let before = us.memory();
    let server = bare_server(&face);
    let (outcome, _) = dial_bare(&us.dialer(), by_name(NAME, Mode::Tofu), server, b"").await;
    assert!(outcome.is_err());
    let (outcome, _) = call(&us.acceptor(Mode::Tofu), bare_client(Some(&face)), b"").await;
    assert!(outcome.is_err());
    assert_eq!(us.memory(), before);
}

// T24: names that a peer claims to have elsewhere are no names of ours.
#[tokio::test]
async fn a_caller_does_not_become_a_label_by_claiming_it() {
    let (ops, stranger) = (Node::new(), Foreign::client("ops"));
    let us = Machine::knowing(&pin_line("accept", "ops", PeerId::Node(ops.id()), "for=*"));
    let client = bare_client(Some(&Face::of(&stranger.self_signed())));
    let (outcome, _) = call(&us.acceptor(Mode::Tofu), client, b"").await;
    let (peer, _) = outcome.expect("first use");
    assert_ne!(peer.label.as_deref(), Some("ops"));
    assert!(!peer.attested.service("web"));
}

fn shown_harmlessly(text: Option<&str>) {
    let Some(text) = text else { return };
    let harmful = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!text.chars().any(harmful), "{text:?}");
}

// T26
#[tokio::test]
async fn roles_that_a_node_claims_are_shown_and_grant_nothing() {
    let metadata = Metadata::new(
        vec!["corp".to_owned()],
        vec!["admin".to_owned()],
        Vec::new(),
    );
    let options = LeafOptions {
        metadata: metadata.expect("within limits"),
        ..LeafOptions::default()
    };
    let node = Node::new();
    let pinned = pin_line("both", NAME, PeerId::Node(node.id()), "");
    let face = Face::of(&node.leaf(Purpose::Dial, &options));
    for (lines, mode) in [(pinned.as_str(), Mode::Pin), ("", Mode::Tofu)] {
        let us = Machine::knowing(lines);
        let (outcome, _) = call(&us.acceptor(mode), bare_client(Some(&face)), b"").await;
        let (peer, _) = outcome.expect("accepted");
        assert_eq!(peer.claimed.roles, ["admin"]);
        assert_eq!(peer.claimed.networks, ["corp"]);
        assert!(peer.attested.is_empty());
        assert!(!us.known().contains("admin") && !us.known().contains("corp"));
    }
}

// T26
#[tokio::test]
async fn roles_in_uris_count_only_from_a_ca_listed_for_them() {
    let uri = "spiffe://corp/role/admin";
    let foreign = |uris: &[&str]| Foreign {
        uris: uris.iter().map(|u| (*u).to_owned()).collect(),
        ..Foreign::client("caller")
    };
    let root = Foreign::authority("root").root();
    for uris in [&[uri][..], &[], &[uri, uri], &["spiffe://other/role/admin"]] {
        let claims = foreign(uris);
        let us = Machine::new();
        let client = bare_client(Some(&Face::of(&claims.self_signed())));
        let (outcome, _) = call(&us.acceptor(Mode::Tofu), client, b"").await;
        assert!(outcome.expect("first use").0.attested.is_empty());
        // A listed CA attests roles through the metadata extension only, never through a name.
        let line = anchor_line("accept", "*", &root.der, "networks=corp roles=admin");
        let us = Machine::knowing(&line);
        let client = bare_client(Some(&Face::of(&claims.issued_by(&root))));
        let (outcome, _) = call(&us.acceptor(Mode::Ca), client, b"").await;
        let reason = accept_reason(outcome);
        assert!(
            matches!(reason, Reason::WrongNetwork | Reason::WrongRole),
            "{reason}"
        );
    }
}

// T24: a second subject alternative name extension, or bytes that are no text in a name.
#[tokio::test]
async fn names_that_are_not_even_text_are_refused_or_ignored() {
    use comity_identity::Signer as _;
    let key = TestKey::generate(comity_identity::Algorithm::EcdsaP256);
    let template = Foreign::default().self_signed();
    let mut raw = RawCertificate::of(&template.chain[0]);
    raw.spki = key.spki().to_vec();
    let common_name = tlv(0x06, &[&[0x55, 0x04, 0x03]]);
    let not_utf8 = tlv(0x0c, &[&[0xff, 0xfe, 0x80]]);
    raw.subject = tlv(
        0x30,
        &[&tlv(0x31, &[&tlv(0x30, &[&common_name, &not_utf8])])],
    );
    raw.issuer = raw.subject.clone();
    let credential = Credential {
        chain: vec![raw.sign(&key)],
        key: key.pkcs8(),
    };
    let us = Machine::new();
    let client = bare_client(Some(&Face::of(&credential)));
    let (outcome, _) = call(&us.acceptor(Mode::Tofu), client, b"").await;
    match outcome {
        Ok((peer, _)) => shown_harmlessly(peer.claimed.common_name.as_deref()),
        Err(error) => assert_eq!(accept_reason::<()>(Err(error)), Reason::Malformed),
    }
    assert!(!us.known().contains('\u{fffd}'));
}
