//! T41, T43: we do not talk to ourselves, and the wire does not tell whom we know.

use comity_certs::Purpose;
use comity_identity::PeerId;
use comity_testkit::certificates::{LeafOptions, Node};
use comity_testkit::world::{
    ClientHello, Face, Machine, accept_reason, bare_client, bare_server, by_id, by_name, call,
    client_hello, dial_bare, dial_reason, meet, pin_line,
};
use comity_tls::{AcceptError, Alpn, DialRequest};
use comity_trust::{Mode, Reason};

const NAME: &str = "db.example:7117";

// T41
#[tokio::test]
async fn our_own_connection_reflected_to_our_own_port_is_refused() {
    for mode in [Mode::Insecure, Mode::Tofu, Mode::Record, Mode::CaOrTofu] {
        let us = Machine::new();
        let before = us.memory();
        let meeting = meet(&us.dialer(), by_name(NAME, mode), &us.acceptor(mode)).await;
        assert_eq!(dial_reason(meeting.dialled), Reason::SelfPeer);
        assert!(matches!(meeting.accepted, Err(AcceptError::Handshake(_))));
        assert_eq!(us.memory(), before);
    }
}

// T41: also with a pin, with a leaf that was renewed since, and in either direction.
#[tokio::test]
async fn whoever_presents_our_own_identity_is_refused() {
    let us = Machine::new();
    us.write_known(&pin_line("both", NAME, PeerId::Node(us.id()), "for=*"));
    let us = us.restarted();
    let options = LeafOptions::default();
    for mode in [Mode::Insecure, Mode::Tofu, Mode::Pin] {
        // Leaves that another process of ours could have made.
        let [serve, dial] =
            [Purpose::Serve, Purpose::Dial].map(|p| Face::of(&us.node.leaf(p, &options)));
        let request = by_name(NAME, mode);
        let (outcome, saw) = dial_bare(&us.dialer(), request, bare_server(&serve), b"").await;
        assert_eq!(dial_reason(outcome), Reason::SelfPeer, "{mode}");
        assert_eq!(saw.data, b"");
        let request = by_id(PeerId::Node(us.id()), mode);
        let (outcome, _) = dial_bare(&us.dialer(), request, bare_server(&serve), b"").await;
        assert_eq!(dial_reason(outcome), Reason::SelfPeer, "{mode}");
        let (outcome, _) = call(&us.acceptor(mode), bare_client(Some(&dial)), b"").await;
        assert_eq!(accept_reason(outcome), Reason::SelfPeer, "{mode}");
    }
    let renewed = us.endpoint.credentials().renew(us.clock.clock().now());
    renewed.expect("renewed");
    let request = by_name(NAME, Mode::Pin);
    let meeting = meet(&us.dialer(), request, &us.acceptor(Mode::Pin)).await;
    assert_eq!(dial_reason(meeting.dialled), Reason::SelfPeer);
}

/// What a dialer that knows these lines says first.
async fn says_with(lines: &str, request: DialRequest) -> ClientHello {
    client_hello(&Machine::knowing(lines).dialer(), request).await
}

// T43
#[tokio::test]
async fn a_client_hello_does_not_tell_whether_the_peer_is_known() {
    let (known, other) = (Node::new(), Node::new());
    let pinned = |name: &str| {
        pin_line(
            "dial",
            name,
            PeerId::Node(known.id()),
            "addr=db.example:7117",
        )
    };
    let verified = format!("@ca-verified dial {NAME} added=2026-02-01T00:00:00Z\n");
    let revoked = format!("@revoked both * node {}\n", known.id());
    let others: String = (0..100)
        .map(|n| pin_line("both", &format!("peer{n}"), PeerId::Node(other.id()), ""))
        .collect();
    for mode in [
        Mode::Pin,
        Mode::Tofu,
        Mode::CaOrTofu,
        Mode::Ca,
        Mode::Insecure,
    ] {
        // By the name of a host.
        let unknown = says_with("", by_name(NAME, mode)).await;
        for lines in [
            pinned(NAME),
            verified.clone(),
            revoked.clone(),
            others.clone(),
        ] {
            let hello = says_with(&lines, by_name(NAME, mode)).await;
            assert_eq!(hello, unknown, "{mode} {lines}");
        }
        assert!(unknown.sni().is_some(), "the user typed a host name");
        // By label, and by id.
        let by_label = says_with(&pinned("db"), by_name("db", mode)).await;
        let unknown_label = says_with("", by_name("db", mode)).await;
        let id = PeerId::Node(known.id());
        let by_known_id = says_with(&pinned("db"), by_id(id, mode)).await;
        let by_unknown_id = says_with("", by_id(id, mode)).await;
        for hello in [&by_label, &unknown_label, &by_known_id, &by_unknown_id] {
            assert_eq!(hello.sni(), None, "{mode}");
            assert_eq!(hello, &by_label, "{mode}");
        }
        // The name of the host is all that tells the two ways apart.
        let mut without_name = unknown.clone();
        let sni = without_name.extensions.remove(&0).expect("a name");
        without_name.length -= sni.len() + 4;
        assert_eq!(without_name, by_label, "{mode}");
    }
}

// T43: an address is sent by no means.
#[tokio::test]
async fn an_ip_address_is_never_sent_as_a_name() {
    for name in ["192.0.2.1:7117", "[2001:db8::1]:7117"] {
        let hello = says_with("", by_name(name, Mode::Tofu)).await;
        assert_eq!(hello.sni(), None, "{name}");
    }
}

// T43: the offer of protocols is what the user chose, whoever the peer is.
#[tokio::test]
async fn the_offered_protocol_follows_the_request_alone() {
    const ALPN: u16 = 16;
    let node = Node::new();
    let pinned = pin_line("dial", NAME, PeerId::Node(node.id()), "");
    for (alpn, offered) in [
        (Alpn::Comity, Some(&b"\x00\x09\x08comity/1"[..])),
        (Alpn::None, None),
        (Alpn::Other(b"h2".to_vec()), Some(b"\x00\x03\x02h2")),
    ] {
        for lines in ["", &pinned] {
            let mut request = by_name(NAME, Mode::Tofu);
            request.alpn = alpn.clone();
            let hello = says_with(lines, request).await;
            assert_eq!(hello.extensions.get(&ALPN).map(Vec::as_slice), offered);
        }
    }
}

// A stranger that calls learns nothing of whom we know before it has proved its key: no list of
// authorities in the request for its certificate, and no difference in our answers to a known and
// an unknown certificate during the handshake.
#[tokio::test]
async fn the_request_for_a_certificate_names_no_authorities() {
    use std::sync::{Arc, Mutex};

    use rustls::SignatureScheme;
    use rustls::client::ResolvesClientCert;
    use rustls::sign::CertifiedKey;

    #[derive(Debug)]
    struct Asked(Face, Arc<Mutex<Option<usize>>>);

    impl ResolvesClientCert for Asked {
        fn resolve(
            &self,
            authorities: &[&[u8]],
            schemes: &[SignatureScheme],
        ) -> Option<Arc<CertifiedKey>> {
            *self.1.lock().expect("unpoisoned") = Some(authorities.len());
            ResolvesClientCert::resolve(&self.0, authorities, schemes)
        }

        fn has_certs(&self) -> bool {
            true
        }
    }

    let root = comity_testkit::certificates::Foreign::authority("secret partner").root();
    let line = comity_testkit::world::anchor_line("accept", "*.example", &root.der, "");
    let us = Machine::knowing(&line);
    let asked = Arc::new(Mutex::new(None));
    let face = Face::of(&Node::new().dial);
    let mut client = bare_client(None);
    client.client_auth_cert_resolver = Arc::new(Asked(face, Arc::clone(&asked)));
    let (outcome, _) = call(&us.acceptor(Mode::Ca), client, b"").await;
    assert_eq!(accept_reason(outcome), Reason::Unknown);
    assert_eq!(*asked.lock().expect("unpoisoned"), Some(0));
}
