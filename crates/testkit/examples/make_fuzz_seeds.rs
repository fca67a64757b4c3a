//! Writes the first seeds of the fuzz corpus: `cargo run -p comity-testkit --example
//! make_fuzz_seeds`.
//!
//! Seeds come from `tests/vectors`, from the certificate factory, and from the tables below. Files
//! that are there already are left alone: keys of the factory are random, and a corpus should only
//! change where somebody meant it to.

use std::fs;
use std::path::{Path, PathBuf};

use comity_certs::{
    AuthorityRootRequest, IssuingRequest, Metadata, mint_authority_root, mint_issuing,
};
use comity_identity::{Algorithm, KeyHash, NodeId, Signer, UnixTime, has_low_s};
use comity_keys::SoftwareKey;
use comity_record::{
    BundleRequest, CharterKey, CharterRequest, KeyRevocationRequest, KeyState, SuccessionRequest,
    Withdrawal, WithdrawnWhat,
};
use comity_testkit::certificates::{Credential, Foreign, LeafOptions, Node, TestKey, pem};
use comity_testkit::fuzzing::{join, signer};
use comity_tls::frame::FrameType;
use comity_tls::hello::{Hello, InvitationProof, SubProtocol, encode_accept, encode_refuse};
use comity_tls::network::{CHUNK, Chunk, Grant, Standing, encode_sync};
use comity_trust::Name;
use comity_trust::Reason;
use comity_trust::invitation::{Invitation, InvitationId, InvitationSecret};
use data_encoding::{BASE32_NOPAD, BASE64, HEXLOWER};

/// The kinds of identity key.
const ALGORITHMS: [(&str, Algorithm); 2] = [
    ("p256", Algorithm::EcdsaP256),
    ("ed25519", Algorithm::Ed25519),
];

fn main() {
    texts();
    certificates();
    decisions();
    signatures();
    invitations();
    frames();
    records();
    payloads();
    exchanges();
    keys();
    files();
}

/// Seeds that are text, one per line of the tables.
fn texts() {
    let id = NodeId::from_bytes([7; 32]);
    let key = "ab".repeat(32);
    write_all(
        "hash_text",
        &[
            &id.to_string(),
            &format!("key:{}", id.to_string().to_lowercase().replace('-', " ")),
            &format!("SHA256:{key}"),
            "MFZWI3D-BONSGYC",
        ],
    );
    let words = id.words().to_string();
    write_all(
        "words",
        &[
            &words,
            &words.to_uppercase().replace(' ', ", "),
            &words.replacen(' ', "x ", 1),
        ],
    );
    write_all(
        "time",
        &[
            "2026-03-02T09:14:07Z",
            "9999-12-31T23:59:59.999-23:59",
            "2016-12-31T23:59:60Z",
            "1969-12-31T23:59:59Z",
        ],
    );
    write_all(
        "tunnel_target",
        &["5432", "[::1]:80", "unix:/run/app.sock", "db.example:05432"],
    );
    write_all(
        "token",
        &[
            "ca-or-tofu",
            "INSECURE_NO_VALIDATION",
            "not-authorised",
            "db-1.internal",
            "first-use",
        ],
    );
    write_all(
        "allow_rule",
        &[
            "ops-db",
            "fleet/reader",
            "network:both",
            "label:both",
            &id.to_string(),
            "both",
        ],
    );
    write_all(
        "peer_argument",
        &[
            "OPS-DB",
            "New.Example.:443",
            "[2001:DB8::1]:7117",
            &id.to_hex(),
            "opsdb",
            "comity-invite-AIAAAAAA",
        ],
    );
    write_all(
        "name",
        &[
            "ops-db\nDB1.Example.:7117\n*.corp.example\n!secret.corp.example:5432",
            "bücher.example:443\n192.0.2.1:22\n[2001:db8::0001]:7117\n日本",
            "spiffe://corp/*\n*a*a*a*b\n?:*\nxn--bcher-kva.example",
            "127.1:80\n[fe80::1%eth0]:1\nexample",
        ],
    );
    known_peers(&id, &key);
}

fn known_peers(id: &NodeId, key: &str) {
    let authority = BASE64.encode(&Foreign::authority("Corp").root().der);
    let documents = [
        "comity-known-peers v1\n".to_owned(),
        format!(
            "comity-known-peers v1\n# ours\n\n\
             both ops-db,db1.example:5432 node {id} addr=192.0.2.1:7117 for=db,* next={key} seq=3 \
             origin=invite added=2026-03-02T09:14:07Z confirmed=2026-03-03T09:14:07Z/words x-note=a%20b\n\
             dial *.corp.example,!secret.corp.example key SHA256:{key} not-after=2027-01-01T00:00:00Z\n\
             accept laptop cert {key} roles=reader networks=fleet\n"
        ),
        format!(
            "comity-known-peers v1\r\n@revoked both * key {key}\r\n\
             @ca-verified dial www.example:443\r\n@ca both *.corp.example,spiffe://corp/* ca {authority} networks=fleet roles=*"
        ),
        format!("comity-known-peers v1\ndial b%C3%BCro node {id}\ndial b%c3%bcro key {key}\n"),
        format!("comity-known-peers v1\nboth db node {id} fro=all\n"),
    ];
    let documents: Vec<&str> = documents.iter().map(String::as_str).collect();
    write_all("known_peers", &documents);
    write_all("known_peers_file", &documents[1..]);
    write(
        "known_peers_file",
        "not-utf-8",
        b"comity-known-peers v1\n# \xff\n",
    );
}

/// Chains, authorities, roots and metadata.
fn certificates() {
    for (name, text) in vectors("certificate") {
        let chain = certificates_in(&text);
        write("chain", &name, &join(&chain));
        if name.starts_with("native-p256") || name.starts_with("native-root") {
            write("root", &name, chain.last().expect("a certificate"));
        }
    }
    for (name, text) in vectors("metadata") {
        let hex: String = body(&text).split_whitespace().collect();
        write(
            "metadata",
            &name,
            &HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal"),
        );
    }
    let node = Node::with_algorithm(Algorithm::Ed25519);
    write("root", "ed25519", &node.root);
    let root = Foreign::authority("Corp").root();
    let below = Foreign {
        ca: Some(Some(0)),
        ..Foreign::authority("Corp issuing")
    }
    .intermediate(&root);
    let leaf = Foreign::server("db.example").issued_by(&below);
    write(
        "chain",
        "public",
        &join(&leaf.clone().followed_by(&[&below.der, &root.der]).chain),
    );
    for (name, der) in [
        ("root", &root.der),
        ("issuing", &below.der),
        ("node", &node.root),
        ("leaf", &leaf.chain[0]),
    ] {
        write("anchor", name, der);
    }
    let file = format!(
        "Corp\n{}\n{}",
        pem("CERTIFICATE", &root.der),
        pem("CERTIFICATE", &below.der)
    );
    write_all(
        "ca_file",
        &[
            &file,
            &pem("CERTIFICATE", &node.root),
            &file.replacen('M', "*", 1),
            &leaf.chain_pem(),
            "nothing",
        ],
    );
}

/// Documents that speak of the peer, see `fuzzing::decision`.
fn decisions() {
    let metadata = Metadata::new(vec!["fleet".into()], vec!["reader".into()], Vec::new());
    let options = LeafOptions {
        metadata: metadata.expect("labels"),
        ..LeafOptions::default()
    };
    let node = Node::with_options(Algorithm::EcdsaP256, &options);
    let root = Foreign::authority("Corp").root();
    let host = Foreign::server("db.example")
        .issued_by(&root)
        .followed_by(&[&root.der]);
    let guest = Foreign::client("laptop").self_signed();
    // Mode, choices (see `Question::new`), document, chain.
    let cases: [(&str, u8, u8, &str, &Credential); 11] = [
        (
            "dial-pinned",
            6,
            0b1010,
            "both db.example:5432 $NODE for=db\n",
            &node.serve,
        ),
        (
            "dial-changed",
            6,
            0b1010,
            "both db.example:5432 key $OTHER\n",
            &node.serve,
        ),
        ("dial-first-use", 6, 0b1010, "# nobody\n", &node.serve),
        ("dial-expected", 1, 0b1_0010, "\n", &node.serve),
        (
            "dial-ca",
            0,
            0b1010,
            "@ca dial * $CA networks=fleet roles=*\n",
            &host,
        ),
        (
            "dial-ca-then-pin",
            9,
            0b1010,
            "@ca dial *.example,db.example $CA\n",
            &host,
        ),
        (
            "dial-downgrade",
            6,
            0b1010,
            "@ca-verified dial db.example:5432\n",
            &host,
        ),
        (
            "accept-revoked-last",
            10,
            0b011,
            "both fleet-1 $NODE\n@revoked both * $LAST\n",
            &node.dial,
        ),
        (
            "accept-enrolled",
            10,
            0b0011,
            "accept laptop $CERT roles=reader networks=fleet\n",
            &guest,
        ),
        (
            "accept-stranger-invited",
            11,
            0b100_0011,
            "# nobody\n",
            &guest,
        ),
        (
            "accept-entry-over",
            11,
            0b100_0011,
            "accept other $KEY not-after=2026-01-01T00:00:00Z\n",
            &guest,
        ),
    ];
    for (name, mode, choices, document, credential) in cases {
        let other = document.replace("$OTHER", &"ab".repeat(32));
        let document = format!("comity-known-peers v1\n{other}");
        let length = u16::try_from(document.len()).expect("a short document");
        let mut seed = vec![mode, choices];
        seed.extend_from_slice(&length.to_be_bytes());
        seed.extend_from_slice(document.as_bytes());
        seed.extend_from_slice(&join(&credential.chain));
        write("decision", name, &seed);
    }
}

/// Statements signed with a key of each kind, one copy malleated, and one over something else.
fn signatures() {
    for (name, algorithm) in ALGORITHMS {
        let key = TestKey::generate(algorithm);
        let message = b"statement".as_slice();
        let signature = key.sign(message).expect("a software key");
        write("signature", name, &join(&[key.spki(), message, &signature]));
        let other = b"another".as_slice();
        write(
            "signature",
            &format!("{name}-other"),
            &join(&[key.spki(), other, &signature]),
        );
        let high = (0..64)
            .map(|_| key.sign_once(message))
            .find(|s| !has_low_s(s));
        if let (Algorithm::EcdsaP256, Some(high)) = (algorithm, high) {
            write("signature", "high-s", &join(&[key.spki(), message, &high]));
        }
    }
}

fn invitations() {
    let name = |text: &str| Name::parse(text).expect("a name");
    let full = Invitation {
        addresses: vec![name("db1.example:7117"), name("[2001:db8::1]:7117")],
        inviter: NodeId::from_bytes([1; 32]),
        network: Some("corp".into()),
        network_id: Some(NodeId::from_bytes([5; 32])),
        id: InvitationId([2; 16]),
        secret: InvitationSecret::new([3; 32]),
        expires: UnixTime::from_secs(1_772_323_200),
        label: Some(name("ops-db")),
    };
    let bare = Invitation {
        addresses: vec![name("192.0.2.1:7117")],
        network: None,
        network_id: None,
        label: None,
        ..full.clone()
    };
    for (name, invitation) in [("full", full), ("bare", bare)] {
        let text = invitation.to_text().expect("a sound invitation");
        write("invitation", name, text.as_bytes());
        write(
            "peer_argument",
            &format!("invitation-{name}"),
            text.as_bytes(),
        );
        let spaced = text.to_lowercase().replace('a', "a \n").replace('o', "0");
        write("invitation", &format!("{name}-spaced"), spaced.as_bytes());
        let digits = text.rsplit('-').next().expect("a prefix");
        let bytes = BASE32_NOPAD.decode(digits.as_bytes()).expect("base32");
        // Without version, length and check.
        write("invitation_body", name, &bytes[3..bytes.len() - 4]);
    }
    write("invitation", "other-version", b"COMITY-INVITE-AIAAAAAA");
    write("invitation_body", "no-address", &[0; 92]);
}

/// Frames and what is in them.
fn frames() {
    let full = Hello {
        protocol: SubProtocol::Join,
        service: Some("db-1".parse().expect("a service name")),
        proof: Some(InvitationProof {
            id: [1; 16],
            signature: [2; 64],
        }),
        claimed_name: Some("laptop".to_owned()),
    };
    let full = full.encode();
    let short = Hello::new(SubProtocol::Tunnel).encode();
    let later = [&[0xa3], &short[1..], &[0x18, 99, 0x81, 0x65], b"later"].concat();
    let accept = encode_accept();
    let refuse = encode_refuse(Reason::NotAuthorised);
    for (name, body) in [("full", &full), ("short", &short), ("later", &later)] {
        write("hello", name, body);
        write(
            "frame",
            &format!("hello-{name}"),
            &framed(FrameType::Hello, body),
        );
    }
    write(
        "hello",
        "indefinite",
        &[&[0xbf], &short[1..], &[0xff]].concat(),
    );
    write("answer", "accept", &accept);
    write("answer", "refuse", &refuse);
    write(
        "answer",
        "unknown-token",
        &[&[0xa1, 1, 0x65], b"later".as_slice()].concat(),
    );
    let both = [
        framed(FrameType::Accept, &accept),
        b"application data".to_vec(),
    ]
    .concat();
    write("frame", "accept-and-data", &both);
    write("frame", "refuse", &framed(FrameType::Refuse, &refuse));
    write("frame", "too-long", &[1, 0x40, 0x01]);
    for (name, key) in [("commit", 1), ("nonce", 2), ("open", 3)] {
        let step = [&[0xa1, key, 0x58, 32], [key; 32].as_slice()].concat();
        write("live_step", name, &step);
        write(
            "frame",
            &format!("live-{name}"),
            &framed(FrameType::Live, &step),
        );
    }
    write("live_step", "answer", &[0xa1, 4, 0xf5]);
    write("live_step", "two-steps", &[0xa2, 4, 0xf5, 4, 0xf4]);
}

/// What is said on a connection that exchanges bundles.
fn exchanges() {
    let network = NodeId::from_bytes([1; 32]);
    let standing = |of| Standing {
        network: NodeId::from_bytes([of; 32]),
        charter: 1,
        sequence: 5,
        digest: [of; 32],
    };
    let sync = encode_sync(&[standing(1), standing(3)]);
    let grant = Grant {
        network,
        membership: vec![vec![1; 100], vec![2; 100]],
        bundle: vec![3; 300],
    };
    let whole = grant.encode();
    let part = |bytes: &[u8], offset| Chunk::of(network, bytes, offset).encode();
    let long = vec![4; CHUNK + 10];
    write("network_frame", "sync", &sync);
    write("network_frame", "sync-of-none", &encode_sync(&[]));
    write("network_frame", "grant", &whole);
    write("network_frame", "part", &part(b"a bundle", 0));
    write("network_frame", "last-part", &part(&long, CHUNK));
    let timed = |frames: &[(FrameType, Vec<u8>)]| -> Vec<u8> {
        let framed = frames.iter().map(|(kind, body)| framed(*kind, body));
        framed.flat_map(|frame| [vec![1], frame].concat()).collect()
    };
    let (answer, bundle) = (
        (FrameType::Sync, sync),
        (FrameType::Bundle, part(b"a bundle", 0)),
    );
    let parts = [0, CHUNK].map(|offset| (FrameType::Bundle, part(&long, offset)));
    let granted = (FrameType::Grant, part(&whole, 0));
    for (name, role, frames) in [
        (
            "accepting",
            1,
            vec![answer.clone(), bundle.clone(), bundle.clone()],
        ),
        ("dialing", 0, vec![answer.clone(), granted.clone(), bundle]),
        ("parts", 0, [vec![answer.clone()], parts.to_vec()].concat()),
        ("granting-an-acceptor", 1, vec![answer, granted]),
    ] {
        write("exchange", name, &[vec![role], timed(&frames)].concat());
    }
}

/// Signed objects and authority certificates as they are, from the vectors.
fn records() {
    const FEW: [&str; 9] = [
        "p256",
        "no-possession",
        "chain",
        "chain-commitment",
        "revocation",
        "revocation-forged",
        "simple",
        "rollover",
        "withdrawn-order",
    ];
    for folder in ["succession", "bundle"] {
        for (name, text) in vectors(folder) {
            if !FEW.contains(&name.as_str()) {
                continue;
            }
            let object = body(&text).trim_end().as_bytes();
            let target = match text.lines().find_map(|line| line.strip_prefix("kind: ")) {
                Some("statement") => "succession",
                Some("chain") => "succession_chain",
                Some("revocation") => "key_revocation",
                _ => "bundle",
            };
            write(
                target,
                &name,
                &HEXLOWER.decode(object).expect("hexadecimal"),
            );
        }
    }
    write("succession_chain", "empty", &[0x80]);
    for (name, text) in vectors("csr") {
        write("csr", &name, body(&text).as_bytes());
        if name == "names-p384" {
            write("csr", "der", &unarmoured(body(&text)));
        }
    }
    for (name, text) in vectors("authority-certificate") {
        let certificates = certificates_in(&text);
        write("authority", &name, &certificates[0]);
        if name.starts_with("issuing") {
            write("description", &name, &certificates[0]);
        }
    }
    for (name, text) in vectors("certificate") {
        if name == "native-p256-serve" || name == "foreign-rsa-1024" {
            for (number, der) in certificates_in(&text).iter().enumerate() {
                write("description", &format!("{name}-{number}"), der);
            }
        }
    }
    write_all(
        "location",
        &[
            "https://ca.example/bundle",
            "https://[2001:DB8::1]:7117/a?b=c",
            &format!("https://192.0.2.1:443/x#{}", NodeId::from_bytes([7; 32])),
            "https://127.1/",
        ],
    );
}

/// Payloads that the fixed keys of the fuzz bodies sign: key 1 is the founding root, key 2 issues.
fn payloads() {
    let (root, issuing) = (signer(1), signer(2));
    let begin = UnixTime::from_secs(1_772_323_200);
    let year = std::time::Duration::from_secs(365 * 24 * 3600);
    let root_request = AuthorityRootRequest {
        serial: [1; 16],
        not_before: begin,
        not_after: begin + 20 * year,
    };
    let root_der = mint_authority_root(&root, &root_request).expect("sound");
    let issuing_request = IssuingRequest {
        spki: issuing.spki(),
        serial: [2; 16],
        not_before: begin,
        not_after: begin + 2 * year,
        path_length: 1,
        scope: &Metadata::default(),
        dns: &[],
    };
    let issuing_der = mint_issuing(&root_der, &root, &issuing_request).expect("sound");
    let network = NodeId::of_spki(root.spki());
    let key = |certificate, key: &dyn Signer| CharterKey {
        state: KeyState::Active,
        certificate,
        proof: CharterKey::proof(key, &network).expect("sound"),
    };
    let charter = CharterRequest {
        network: NodeId::of_spki(root.spki()),
        sequence: 1,
        issued: begin,
        keys: vec![key(root_der, &root), key(issuing_der, &issuing)],
    };
    let charter = charter.sign(&[&root]).expect("sound");
    let bundle = BundleRequest {
        name: "fleet".to_owned(),
        sequence: 1,
        issued: begin,
        expires: begin + year / 12,
        refresh: year / 365,
        locations: vec!["https://ca.example/bundle".parse().expect("a location")],
        charters: vec![charter.clone()],
        withdrawn: vec![Withdrawal {
            what: WithdrawnWhat::Key(KeyHash::from_bytes([7; 32])),
            at: begin,
        }],
    };
    let bundle = bundle.sign(&issuing).expect("sound");
    let succession = SuccessionRequest {
        network: None,
        sequence: 1,
        previous: None,
        issued: begin,
        overlap_end: begin + year / 12,
        next: Some(KeyHash::from_bytes([3; 32])),
        reason: Some("routine".to_owned()),
    };
    let succession = succession.sign(&root, &issuing).expect("sound");
    let revocation = KeyRevocationRequest {
        key: NodeId::of_spki(root.spki()),
        at: begin,
        reason: None,
    };
    let revocation = revocation.sign(&root).expect("sound");
    for (target, object) in [
        ("charter", charter.bytes()),
        ("bundle", bundle.bytes()),
        ("succession", succession.bytes()),
        ("key_revocation", revocation.bytes()),
    ] {
        write(target, "whole", object);
        write(target, "payload", payload(object));
        write(target, "cut-off", &object[..object.len() - 1]);
    }
}

/// The first byte string of an envelope.
fn payload(object: &[u8]) -> &[u8] {
    let (start, length) = match object {
        [_, 0x58, length, ..] => (3, usize::from(*length)),
        [_, 0x59, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
        _ => panic!("an envelope of another length"),
    };
    &object[start..start + length]
}

fn framed(kind: FrameType, body: &[u8]) -> Vec<u8> {
    let code = match kind {
        FrameType::Hello => 1,
        FrameType::Accept => 2,
        FrameType::Refuse => 3,
        FrameType::Grant => 4,
        FrameType::Sync => 5,
        FrameType::Bundle => 6,
        FrameType::Live => 16,
    };
    let length = u16::try_from(body.len()).expect("a short body");
    [&[code], length.to_be_bytes().as_slice(), body].concat()
}

fn keys() {
    for (name, text) in vectors("sealed-key") {
        let text = body(&text);
        write("key_file", &name, text.as_bytes());
        write("sealed_key", &name, &unarmoured(text));
    }
    for (name, algorithm) in ALGORITHMS {
        let key = SoftwareKey::generate(algorithm).expect("entropy");
        let plain = key.encode_plain().expect("a software key");
        let der = unarmoured(&plain);
        write("key_file", &format!("plain-{name}"), plain.as_bytes());
        write("pkcs8_key", name, &der);
        write(
            "pkcs8_key",
            &format!("{name}-cut-off"),
            &der[..der.len() - 1],
        );
        let encrypted = key.encode_pbes2("passphrase").expect("a software key");
        write("key_file", &format!("pbes2-{name}"), encrypted.as_bytes());
        let der = unarmoured(&encrypted);
        write("pbes2_key", name, &der);
        write(
            "pbes2_key",
            &format!("{name}-cut-off"),
            &der[..der.len() - 1],
        );
    }
}

/// Files of a home that are JSON.
fn files() {
    let id = NodeId::from_bytes([9; 32]);
    let key = "ab".repeat(32);
    let request = format!(
        r#"{{"peer":"{id}","claimed_label":"laptop","service":"db","address":"192.0.2.1","first_seen":"2026-02-28T00:00:00Z","last_seen":"2026-02-28T12:00:00Z","count":3}}"#
    );
    let denied = request.replace("\"count\":3", "\"count\":1,\"denied\":true");
    let foreign = request
        .replace(&id.to_string(), &format!("key:{id}"))
        .replace("192.0.2.1", "2001:db8::1");
    write_all(
        "pending_file",
        &[
            &envelope(1, &[&request, &foreign]),
            &envelope(1, &[&denied]),
            &envelope(2, &[]),
            &envelope(1, &[&request.replace("count", "counts")]),
        ],
    );
    let id = "0123456789abcdef".repeat(2);
    let unused = format!(
        r#"{{"id":"{id}","key":"{key}","label":"laptop","services":["db"],"roles":[],"networks":["fleet"],"created":"2026-02-28T00:00:00Z","expires":"2026-03-02T00:00:00Z"}}"#
    );
    let visitor = NodeId::from_bytes([7; 32]);
    let used = unused.replacen(
        '}',
        &format!(r#","consumed":{{"by":"{visitor}","at":"2026-02-28T01:00:00Z"}}}}"#),
        1,
    );
    write_all(
        "invitations_file",
        &[
            &envelope(1, &[&unused]),
            &envelope(1, &[&used]),
            &envelope(1, &[&unused.replace("2026-03-02", "2026-02-28"), &used]),
            &envelope(1, &[&unused.replace(&id, "short")]),
        ],
    );
    let line = r#"{"time":"2026-03-01T00:00:00Z","pid":1,"uid":0,"command":"comity trust add","action":"add","peer":"x","detail":"y"}"#;
    write_all(
        "audit_log",
        &[
            &format!("{line}\n{line}\n"),
            &format!("{line}\n{}", &line[..40]),
            "",
            "no JSON\n\n{}\n",
        ],
    );
}

fn envelope(version: u32, entries: &[&str]) -> String {
    format!(
        "{{\"version\":{version},\"entries\":[{}]}}\n",
        entries.join(",")
    )
}

/// Name and content of every vector of one kind.
fn vectors(kind: &str) -> Vec<(String, String)> {
    let folder = root().join("tests/vectors").join(kind);
    let mut vectors: Vec<_> = fs::read_dir(folder)
        .expect("a folder of vectors")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            (name, fs::read_to_string(path).expect("a vector"))
        })
        .collect();
    vectors.sort();
    vectors
}

/// What follows the header of a vector.
fn body(vector: &str) -> &str {
    vector.split_once("\n\n").expect("a header and a body").1
}

/// The certificates in a text, some of which are followed by a key.
fn certificates_in(text: &str) -> Vec<Vec<u8>> {
    let blocks = text.split("-----BEGIN CERTIFICATE-----\n").skip(1);
    let armoured = blocks.filter_map(|block| block.split("---").next());
    armoured.map(unarmoured).collect()
}

/// The bytes in the only PEM block of a text.
fn unarmoured(text: &str) -> Vec<u8> {
    let digits: String = text
        .lines()
        .filter(|line| !line.starts_with("---"))
        .collect();
    BASE64.decode(digits.as_bytes()).expect("base64")
}

fn write_all(target: &str, seeds: &[&str]) {
    for (number, seed) in (1..).zip(seeds) {
        write(target, &format!("seed-{number}"), seed.as_bytes());
    }
}

fn write(target: &str, name: &str, seed: &[u8]) {
    let folder = root().join("fuzz/corpus").join(target);
    fs::create_dir_all(&folder).expect("a writable tree");
    let path = folder.join(name);
    if !path.exists() {
        fs::write(path, seed).expect("a writable tree");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
