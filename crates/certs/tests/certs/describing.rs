//! Certificates in words.

use comity_certs::{
    AuthorityKind, CertificateKind, Constraints, CrossRequest, DirectLeafRequest, LeafSubject,
    Metadata, Purpose, describe, mint_cross, mint_direct_leaf,
};
use comity_identity::{Algorithm, KeyHash, Signer};

use crate::authority::{ANYTHING, Held, scope};
use crate::certificates::{
    Credential, DAY, Foreign, ForeignKey, LeafOptions, Node, RawCertificate, TODAY, TestKey,
    random_serial, tlv,
};

#[test]
fn each_of_our_profiles_is_named() {
    let root = Held::root(Algorithm::Ed25519);
    let issuing = root.issuing(1);
    let node = Node::new();
    let cross = CrossRequest {
        root: &node.root,
        serial: random_serial(),
        not_before: TODAY,
        not_after: TODAY + DAY,
        metadata: &scope(&["fleet"], &["writer"]),
    };
    let cross = mint_cross(&issuing.der, &issuing.key, &cross).expect("sound");
    let issuing_kind = AuthorityKind::Issuing {
        path_length: 1,
        scope: Metadata::default(),
        dns: Vec::new(),
    };
    let foreign = Foreign::server("db.example").self_signed();
    for (der, kind, self_signed, certifies) in [
        (
            &node.root,
            CertificateKind::NodeRoot(node.id()),
            true,
            "leaves only",
        ),
        (
            &node.serve.chain[0],
            CertificateKind::NodeLeaf,
            false,
            "nothing",
        ),
        (
            &root.der,
            CertificateKind::Authority(AuthorityKind::Root),
            true,
            "leaves and any number of CAs below one another",
        ),
        (
            &issuing.der,
            CertificateKind::Authority(issuing_kind),
            false,
            "leaves, and CAs that certify leaves only",
        ),
        (&cross, CertificateKind::Cross, false, "leaves only"),
        (
            &Foreign::authority("Corp").root().der,
            CertificateKind::Ca,
            true,
            "leaves and any number of CAs below one another",
        ),
        (&foreign.chain[0], CertificateKind::Leaf, true, "nothing"),
    ] {
        let found = describe(der).expect("a certificate");
        assert_eq!(found.kind, kind);
        assert_eq!(found.self_signed, self_signed, "{kind}");
        let lines = found.lines();
        assert!(
            lines.contains(&("may certify", certifies.to_owned())),
            "{lines:?}"
        );
    }
    let found = describe(&cross).expect("a certificate");
    let permitted = format!(
        "directory O=Comity Nodes, serialNumber={}",
        node.id().to_hex()
    );
    let constraints = Constraints {
        permitted: vec![permitted],
        excluded: Vec::new(),
    };
    assert_eq!(found.name_constraints, Some(constraints));
    assert_eq!(found.metadata, Some(scope(&["fleet"], &["writer"])));
    assert_eq!(found.critical, ["2.5.29.19", "2.5.29.15", "2.5.29.30"]);
    assert_eq!(
        found.authority_key_identifier,
        Some(KeyHash::of_spki(issuing.key.spki()).to_hex())
    );
    assert_eq!(found.path_length, Some(0));
}

#[test]
fn only_what_others_cannot_read_in_another_way_is_a_cross_certificate() {
    let issuing = Held::root(Algorithm::EcdsaP256).issuing(1);
    let node = Node::new();
    let request = CrossRequest {
        root: &node.root,
        serial: random_serial(),
        not_before: TODAY,
        not_after: TODAY + DAY,
        metadata: &ANYTHING,
    };
    let cross = mint_cross(&issuing.der, &issuing.key, &request).expect("sound");
    let kind = |change: &dyn Fn(&mut RawCertificate)| {
        let mut raw = RawCertificate::of(&cross);
        change(&mut raw);
        describe(&raw.sign(&issuing.key))
            .expect("a certificate")
            .kind
    };
    let (basic, constraints) = ([0x55, 0x1d, 19], [0x55, 0x1d, 30]);
    assert_eq!(kind(&|_| {}), CertificateKind::Cross);
    for change in [
        &|c: &mut RawCertificate| c.extension_mut(&constraints).1 = false,
        &|c: &mut RawCertificate| c.extension_mut(&basic).1 = false,
        &|c: &mut RawCertificate| c.extension_mut(&basic).2 = vec![0x30, 3, 1, 1, 0xff],
        &|c: &mut RawCertificate| c.extension_mut(&basic).2 = vec![0x30, 6, 1, 1, 0xff, 2, 1, 1],
        &|c: &mut RawCertificate| c.issuer = c.subject.clone(),
    ] as [&dyn Fn(&mut RawCertificate); 5]
    {
        assert_eq!(kind(change), CertificateKind::Ca);
    }
}

#[test]
fn no_value_of_a_name_reads_as_several() {
    let attribute = |kind: u8, text: &str| {
        let kind = tlv(6, &[&[0x55, 4, kind]]);
        tlv(0x30, &[&kind, &tlv(0x0c, &[text.as_bytes()])])
    };
    let shown = |relative: &[Vec<u8>]| {
        let key = TestKey::generate(Algorithm::EcdsaP256);
        let mut raw = RawCertificate::of(&Foreign::default().self_signed().chain[0]);
        let sets: Vec<u8> = relative.iter().flat_map(|r| tlv(0x31, &[r])).collect();
        raw.subject = tlv(0x30, &[&sets]);
        describe(&raw.sign(&key)).expect("a certificate").subject
    };
    for (value, expected) in [
        ("a, O=Corp", r"CN=a\, O\=Corp"),
        ("a+O=Corp", r"CN=a\+O\=Corp"),
        (r"a\, b", r"CN=a\\\, b"),
        (r#"a;"<>"#, r#"CN=a\;\"\<\>"#),
        (" a ", r"CN=\ a\ "),
        ("#a", r"CN=\#a"),
        (" ", r"CN=\ "),
        ("", "CN="),
    ] {
        assert_eq!(shown(&[attribute(3, value)]), expected);
    }
    let (name, unit) = (attribute(3, "a"), attribute(11, "b"));
    let two = [name.clone(), unit.clone()];
    assert_eq!(shown(&two), "CN=a, OU=b");
    assert_eq!(shown(&[two.concat(), name.clone()]), "CN=a+OU=b, CN=a");
    // Nothing is left out in silence.
    let names = |count: usize| shown(&vec![name.clone(); count]);
    assert_eq!(names(16), vec!["CN=a"; 16].join(", "));
    assert_eq!(names(17), format!("{}, …", vec!["CN=a"; 16].join(", ")));
    assert_eq!(
        shown(&[name.repeat(17)]),
        format!("{}+…", vec!["CN=a"; 16].join("+"))
    );
}

#[test]
fn no_entry_of_a_list_reads_as_several() {
    let leaf = Foreign {
        dns: vec!["a.example, DNS b.example".into()],
        ..Foreign::default()
    };
    let found = describe(&leaf.self_signed().chain[0]).expect("a certificate");
    assert_eq!(found.names, [r"DNS a.example\, DNS b.example"]);
    let pair = [("note".to_owned(), "x, admin=yes".to_owned())];
    let metadata = Metadata::new(vec![], vec![], pair.to_vec()).expect("within limits");
    let issuing = Held::root(Algorithm::EcdsaP256).issuing(1);
    let node = Node::new();
    let request = CrossRequest {
        root: &node.root,
        serial: random_serial(),
        not_before: TODAY,
        not_after: TODAY + DAY,
        metadata: &metadata,
    };
    let cross = mint_cross(&issuing.der, &issuing.key, &request).expect("sound");
    let lines = describe(&cross).expect("a certificate").lines();
    let expected = ("pairs", r"note=x\, admin=yes".to_owned());
    assert!(lines.contains(&expected), "{lines:?}");
}

#[test]
fn every_field_of_a_leaf_is_there() {
    let node = Node::new();
    let options = LeafOptions {
        dns: vec!["db1.example".into()],
        ips: vec!["2001:db8::7".parse().expect("v6")],
        uris: vec!["https://db1.example/".into()],
        metadata: Metadata::new(
            vec!["fleet".into()],
            vec!["writer".into()],
            vec![("site".into(), "Z\u{fc}rich".into())],
        )
        .expect("within limits"),
        succession: vec![0x80],
        ..LeafOptions::default()
    };
    let leaf = node.leaf(Purpose::Serve, &options);
    let found = describe(&leaf.chain[0]).expect("our own");
    assert_eq!(found.key_kind, "P-256");
    assert_eq!(found.signature_algorithm, "ECDSA with SHA-256");
    assert_eq!(found.key_usage, Some(vec!["digital signature"]));
    assert_eq!(found.extended_key_usage, Some(vec!["servers".to_owned()]));
    assert_eq!(
        found.names,
        [
            "DNS db1.example",
            "IP 2001:db8::7",
            "URI https://db1.example/"
        ]
    );
    assert_eq!(found.succession, Some(1));
    assert_eq!(found.metadata, Some(options.metadata));
    assert_eq!(
        (found.not_before, found.not_after),
        (TODAY, TODAY + 30 * DAY)
    );
    assert!(found.unknown.is_empty() && found.unreadable.is_empty());
    let serial = RawCertificate::of(&leaf.chain[0]).serial;
    let hex: String = serial[2..].iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(found.serial, hex);
    let lines = found.lines();
    let names: Vec<&str> = lines.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "kind",
            "subject",
            "issuer",
            "self-signed",
            "serial",
            "not before",
            "not after",
            "key",
            "key hash",
            "fingerprint",
            "signed with",
            "may certify",
            "key usage",
            "extended key usage",
            "names",
            "networks",
            "roles",
            "pairs",
            "succession",
            "subject key id",
            "authority key id",
            "critical",
        ]
    );
    assert!(lines.contains(&("pairs", "site=Z\\u{fc}rich".to_owned())));
    let root = describe(&node.root).expect("our own");
    assert_eq!(root.next, Some(KeyHash::of_spki(node.next.spki())));
    assert_eq!(
        root.key_usage,
        Some(vec!["certificate signing", "CRL signing"])
    );
}

#[test]
fn kinds_of_key_are_named_and_those_that_are_refused_explained() {
    for (key, expected) in [
        (ForeignKey::P384, "P-384"),
        (ForeignKey::Ed25519, "Ed25519"),
        (ForeignKey::Rsa2048, "RSA 2048"),
        (
            ForeignKey::P521,
            "not accepted: its key is not accepted: the curve 1.3.132.0.35, accepted are P-256 and P-384",
        ),
    ] {
        let certificate = Foreign {
            key,
            ..Foreign::default()
        };
        let found = describe(&certificate.self_signed().chain[0]).expect("a certificate");
        assert_eq!(found.key_kind, expected);
    }
    let weak = Credential::of_vector("foreign-rsa-1024");
    let found = describe(&weak.chain[0]).expect("a certificate");
    assert!(
        found.key_kind.contains("RSA with 1024 bits"),
        "{}",
        found.key_kind
    );
    assert!(!found.self_signed, "such signatures are not verified");
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_described() {
    let node = Node::new();
    let mut raw = RawCertificate::of(&node.root);
    let arcs = [14, 15, 17, 19, 30, 37];
    raw.extensions.clear();
    for arc in arcs {
        raw.extensions
            .push((vec![0x55, 0x1d, arc], true, vec![0xff]));
    }
    let own = |arc: u8| vec![0x69, 0x86, 0xfb, 0xbd, 0xca, 0x79, arc];
    raw.extensions.push((own(1), false, vec![0xff]));
    raw.extensions.push((own(2), false, vec![0xff]));
    raw.extensions.push((own(77), false, vec![0xff]));
    let found = describe(&raw.sign(&node.identity)).expect("a certificate");
    let mut unreadable = found.unreadable.clone();
    unreadable.sort();
    let mut expected: Vec<String> = arcs.iter().map(|arc| format!("2.5.29.{arc}")).collect();
    expected.extend([
        "2.25.1869571449.1".to_owned(),
        "2.25.1869571449.2".to_owned(),
    ]);
    expected.sort();
    assert_eq!(unreadable, expected);
    assert_eq!(found.unknown, ["2.25.1869571449.77"]);
    assert_eq!(found.critical.len(), arcs.len());
    assert!(!found.is_ca);
}

#[test]
fn constraints_of_every_kind_are_shown() {
    let key = TestKey::generate(Algorithm::EcdsaP256);
    let mut raw = RawCertificate::of(&Foreign::authority("Corp").root().der);
    raw.spki = key.spki().to_vec();
    let subtree = |base: &[u8]| tlv(0x30, &[base]);
    let permitted = [
        subtree(&[0x82, 1, b'a']),
        subtree(&[0x87, 8, 10, 0, 0, 0, 255, 0, 0, 0]),
        tlv(0x30, &[&[0x86, 1, b'u'], &[0x80, 1, 1]]),
    ];
    let value = tlv(
        0x30,
        &[
            &tlv(0xa0, &[&permitted.concat()]),
            &tlv(0xa1, &[&subtree(&[0x81, 3, 0x1b, b'@', b'x'])]),
        ],
    );
    raw.extensions.push((vec![0x55, 0x1d, 30], true, value));
    let found = describe(&raw.sign(&key)).expect("a certificate");
    let expected = Constraints {
        permitted: vec![
            "DNS a".to_owned(),
            "IP 0x0a000000ff000000".to_owned(),
            "URI u (with a minimum or maximum)".to_owned(),
        ],
        excluded: vec!["mail \\u{1b}@x".to_owned()],
    };
    assert_eq!(found.name_constraints, Some(expected));
}

#[test]
fn a_leaf_that_an_authority_signed_directly_is_a_leaf() {
    let root = Held::root(Algorithm::EcdsaP256);
    let key = TestKey::generate(Algorithm::EcdsaP256);
    let request = DirectLeafRequest {
        subject: LeafSubject::AsIssuer,
        spki: key.spki(),
        purposes: &[Purpose::Serve, Purpose::Dial],
        serial: random_serial(),
        not_before: TODAY,
        not_after: TODAY + DAY,
        dns: &[],
        ips: &[],
        uris: &[],
        metadata: &ANYTHING,
    };
    let leaf = mint_direct_leaf(&root.der, &root.key, &request).expect("sound");
    let found = describe(&leaf).expect("our own");
    assert_eq!(found.kind, CertificateKind::Leaf);
    assert_eq!(found.subject, found.issuer);
    assert!(!found.self_signed);
    assert_eq!(
        found.extended_key_usage,
        Some(vec!["servers".to_owned(), "clients".to_owned()])
    );
}

#[test]
fn what_is_no_certificate_is_refused() {
    assert!(describe(b"nothing").is_err());
    assert!(describe(&[]).is_err());
    assert!(describe(&vec![0x30; 16 * 1024 + 1]).is_err());
}
