//! Cross-certificates: a CA certificate for somebody else's root.

use comity_certs::{
    Anchor, CrossRequest, IssuerFault, Metadata, MintError, PresentedChain, Purpose, Rollover,
    SubjectFault, mint_cross, verify_cross_path,
};
use comity_identity::{Algorithm, KeyHash, Signer};

use crate::authority::{ANYTHING, Held, scope};
use crate::certificates::{
    Credential, DAY, Foreign, ForeignKey, Node, RawCertificate, TODAY, TestKey, content, elements,
    random_serial, tlv,
};

/// Content bytes of 2.5.29.x.
fn id_ce(arc: u8) -> Vec<u8> {
    vec![0x55, 0x1d, arc]
}

fn request(root: &[u8]) -> CrossRequest<'_> {
    CrossRequest {
        root,
        serial: random_serial(),
        not_before: TODAY,
        not_after: TODAY + 365 * DAY,
        metadata: &ANYTHING,
    }
}

fn issuer() -> Held {
    Held::root(Algorithm::EcdsaP256).issuing(1)
}

/// What a mint of a cross-certificate for this root says.
fn refused(root: &[u8]) -> SubjectFault {
    let issuer = issuer();
    match mint_cross(&issuer.der, &issuer.key, &request(root)) {
        Err(MintError::Subject(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

/// A self-signed root of this key with one field changed.
fn edited(node: &Node, edit: impl Fn(&mut RawCertificate)) -> Vec<u8> {
    let mut raw = RawCertificate::of(&node.root);
    edit(&mut raw);
    raw.sign(&node.identity)
}

fn named(attributes: &[(u8, u8, &[u8])]) -> Vec<u8> {
    let sets: Vec<Vec<u8>> = attributes
        .iter()
        .map(|(kind, tag, text)| {
            let kind = tlv(0x06, &[&[0x55, 0x04, *kind]]);
            tlv(0x31, &[&tlv(0x30, &[&kind, &tlv(*tag, &[text])])])
        })
        .collect();
    let sets: Vec<&[u8]> = sets.iter().map(Vec::as_slice).collect();
    tlv(0x30, &sets)
}

/// A root of a fresh key with this subject.
fn root_named(subject: &[u8]) -> Vec<u8> {
    let node = Node::new();
    edited(&node, |raw| {
        raw.subject = subject.to_vec();
        raw.issuer = subject.to_vec();
    })
}

#[test]
fn a_member_presents_leaf_cross_certificate_and_root() {
    let metadata = scope(&["fleet"], &["writer"]);
    for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
        let root = Held::root(algorithm);
        let issuing = root.issuing(1);
        for issuer in [&root, &issuing] {
            for node in [Algorithm::EcdsaP256, Algorithm::Ed25519].map(Node::with_algorithm) {
                let asked = CrossRequest {
                    metadata: &metadata,
                    ..request(&node.root)
                };
                let cross = mint_cross(&issuer.der, &issuer.key, &asked).expect("sound");
                check_fields(&cross, issuer, &node, &metadata);
                let chain = [&node.serve.chain[0], &cross, &node.root];
                let chain = PresentedChain::parse(&chain).expect("a native chain");
                let anchor = Anchor::from_der(&issuer.der).expect("a CA");
                let path =
                    verify_cross_path(&chain, [&anchor], Purpose::Serve, Rollover::Refused, TODAY)
                        .expect("a member");
                assert_eq!(path.cross.key, node.id().key_hash());
                assert_eq!(path.cross.issuer_key, KeyHash::of_spki(issuer.key.spki()));
                assert_eq!(path.cross.metadata, Some(metadata.clone()));
            }
        }
    }
}

fn check_fields(cross: &[u8], issuer: &Held, node: &Node, metadata: &Metadata) {
    let (made, above) = (RawCertificate::of(cross), RawCertificate::of(&issuer.der));
    let root = RawCertificate::of(&node.root);
    assert_eq!(
        (made.issuer, made.subject.clone()),
        (above.subject, root.subject)
    );
    assert_eq!(made.spki, root.spki);
    let constraints = tlv(0xa4, &[&made.subject]);
    let constraints = tlv(0x30, &[&tlv(0xa0, &[&tlv(0x30, &[&constraints])])]);
    let authority = KeyHash::of_spki(issuer.key.spki());
    let aki = [&[0x30, 0x22, 0x80, 0x20], authority.as_bytes().as_slice()].concat();
    let ski = [&[0x04, 0x20], node.id().as_bytes().as_slice()].concat();
    let path_length_0 = vec![0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00];
    let mut expected = vec![
        (id_ce(14), false, ski),
        (id_ce(15), true, vec![0x03, 0x02, 0x01, 0x06]),
        (id_ce(19), true, path_length_0),
        (id_ce(30), true, constraints),
        (id_ce(35), false, aki),
        (
            comity_certs::oid::METADATA.as_bytes().to_vec(),
            false,
            metadata.to_der().expect("small"),
        ),
    ];
    let mut found = made.extensions;
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn roots_of_every_accepted_kind_are_certified_with_their_exact_subject() {
    let issuer = issuer();
    for key in [
        ForeignKey::P256,
        ForeignKey::P384,
        ForeignKey::Ed25519,
        ForeignKey::Rsa2048,
    ] {
        let root = Foreign {
            key,
            ..Foreign::authority("Corp")
        };
        let root = root.root().der;
        let cross = mint_cross(&issuer.der, &issuer.key, &request(&root)).expect("sound");
        let [made, theirs] = [&cross, &root].map(|der| RawCertificate::of(der));
        assert_eq!((&made.subject, &made.spki), (&theirs.subject, &theirs.spki));
        // Their leaves refer to the key by the name that the root gives it.
        let ski = |raw: &RawCertificate| {
            let found = raw.extensions.iter().find(|(oid, ..)| *oid == id_ce(14));
            found.map(|(.., value)| value.clone())
        };
        assert_eq!(ski(&made), ski(&theirs));
    }
}

#[test]
fn names_that_only_look_strange_are_certified_byte_by_byte() {
    // Two attributes in one RDN, an attribute twice, a TeletexString, mail addresses.
    let set = {
        let one = tlv(0x30, &[&[0x06, 3, 0x55, 4, 3], &[0x0c, 1, b'a']]);
        let two = tlv(0x30, &[&[0x06, 3, 0x55, 4, 11], &[0x0c, 1, b'b']]);
        tlv(0x30, &[&tlv(0x31, &[&one, &two])])
    };
    let issuer = issuer();
    for subject in [
        set,
        named(&[(10, 0x0c, b"a"), (10, 0x0c, b"a")]),
        named(&[(10, 0x14, b"T\xe9l\xe9")]),
        named(&[
            (10, 0x13, b"Swaptacular Nodes Registry"),
            (5, 0x13, b"1234abcd"),
        ]),
    ] {
        let root = root_named(&subject);
        let cross = mint_cross(&issuer.der, &issuer.key, &request(&root)).expect("sound");
        assert_eq!(RawCertificate::of(&cross).subject, subject);
    }
}

#[test]
fn the_root_proves_that_its_maker_holds_the_key() {
    let (node, thief) = (Node::new(), Node::new());
    let stolen = RawCertificate::of(&node.root).sign(&thief.identity);
    assert_eq!(refused(&stolen), SubjectFault::NotSelfSigned);
    // A certificate that somebody else issued for the key, with another issuer.
    let issued = edited(&node, |raw| raw.issuer = named(&[(10, 0x0c, b"Other")]));
    assert_eq!(refused(&issued), SubjectFault::NotSelfSigned);
    // An organisation's real CA, issued by another one.
    let above = Foreign::authority("Above").root();
    let below = Foreign::authority("Below").intermediate(&above);
    assert_eq!(refused(&below.der), SubjectFault::NotSelfSigned);
}

#[test]
fn what_is_no_ca_is_not_certified() {
    let leaf = Foreign::server("db.example").self_signed();
    assert_eq!(refused(&leaf.chain[0]), SubjectFault::NotCa);
    let node = Node::new();
    let may_not = edited(&node, |raw| {
        raw.subject = named(&[(10, 0x0c, b"Corp")]);
        raw.issuer.clone_from(&raw.subject);
        raw.extension_mut(&id_ce(15)).2 = vec![0x03, 0x02, 0x07, 0x80];
    });
    assert_eq!(refused(&may_not), SubjectFault::NotCa);
    assert_eq!(refused(&node.serve.chain[0]), SubjectFault::NotCa);
    // Without a key usage everything is allowed.
    let without = edited(&node, |raw| {
        raw.subject = named(&[(10, 0x0c, b"Corp")]);
        raw.issuer.clone_from(&raw.subject);
        raw.extensions.retain(|(oid, ..)| *oid != id_ce(15));
    });
    let issuer = issuer();
    assert!(mint_cross(&issuer.der, &issuer.key, &request(&without)).is_ok());
}

#[test]
fn a_root_with_constraints_of_its_own_is_not_certified() {
    let node = Node::new();
    let constrained = edited(&node, |raw| {
        raw.subject = named(&[(10, 0x0c, b"Corp")]);
        raw.issuer.clone_from(&raw.subject);
        let value = tlv(0x30, &[&tlv(0xa0, &[&tlv(0x30, &[&[0x82, 1, b'a']])])]);
        raw.extensions.push((id_ce(30), true, value));
    });
    assert_eq!(refused(&constrained), SubjectFault::Constrained);
}

#[test]
fn a_subject_that_permits_more_than_its_owner_is_refused() {
    assert_eq!(
        refused(&root_named(&named(&[]))),
        SubjectFault::EmptySubject
    );
    // The beginning of our own name would permit every authority's name.
    let organization = named(&[(10, 0x0c, b"Comity Networks")]);
    assert_eq!(
        refused(&root_named(&organization)),
        SubjectFault::OverlappingSubject
    );
    // And a name that begins with ours.
    let issuer = issuer();
    let ours = RawCertificate::of(&issuer.der).subject;
    let longer = [content(&ours), content(&named(&[(3, 0x0c, b"x")]))].concat();
    let root = root_named(&tlv(0x30, &[&longer]));
    let fault = mint_cross(&issuer.der, &issuer.key, &request(&root));
    assert!(matches!(
        fault,
        Err(MintError::Subject(SubjectFault::OverlappingSubject))
    ));
    let root = root_named(&ours);
    let fault = mint_cross(&issuer.der, &issuer.key, &request(&root));
    assert!(matches!(
        fault,
        Err(MintError::Subject(SubjectFault::OverlappingSubject))
    ));
    assert_eq!(elements(&ours).len(), 3);
}

#[test]
fn names_that_others_read_as_ours_are_refused() {
    // OpenSSL compares without case, white space and string type.
    for text in [
        &b"comity networks"[..],
        b" Comity  Networks ",
        b"COMITY\tNETWORKS",
        b"Comity Networks",
    ] {
        for tag in [0x0c, 0x13, 0x14, 0x16] {
            let root = root_named(&named(&[(10, tag, text), (3, 0x0c, b"x")]));
            let fault = refused(&root);
            assert_eq!(fault, SubjectFault::Authority, "{tag:02x} {text:?}");
        }
    }
    let wide: Vec<u8> = "Comity Networks".bytes().flat_map(|b| [0, b]).collect();
    assert_eq!(
        refused(&root_named(&named(&[(10, 0x1e, &wide)]))),
        SubjectFault::WideString
    );
    // A node's name belongs to its key, and its profile is exact.
    let node = Node::new();
    let other = Node::new();
    for text in [&b"Comity Nodes"[..], b"comity  nodes"] {
        let root = root_named(&named(&[(10, 0x0c, text)]));
        assert!(matches!(refused(&root), SubjectFault::Native(_)));
    }
    let borrowed = edited(&node, |raw| {
        raw.subject = RawCertificate::of(&other.root).subject;
        raw.issuer.clone_from(&raw.subject);
    });
    assert!(matches!(refused(&borrowed), SubjectFault::Native(_)));
}

#[test]
fn another_authoritys_root_is_certified_and_its_issuing_key_is_not() {
    let issuer = issuer();
    let other = Held::root(Algorithm::Ed25519);
    let cross = mint_cross(&issuer.der, &issuer.key, &request(&other.der)).expect("sound");
    assert_eq!(
        RawCertificate::of(&cross).subject,
        RawCertificate::of(&other.der).subject
    );
    let issuing = other.issuing(1);
    assert_eq!(refused(&issuing.der), SubjectFault::NotSelfSigned);
    // The issuer's own key under another name.
    let own = {
        let mut raw = RawCertificate::of(&Node::new().root);
        raw.spki = issuer.key.spki().to_vec();
        raw.subject = named(&[(10, 0x0c, b"Corp")]);
        raw.issuer.clone_from(&raw.subject);
        raw.sign(&issuer.key)
    };
    let fault = mint_cross(&issuer.der, &issuer.key, &request(&own));
    assert!(matches!(
        fault,
        Err(MintError::Subject(SubjectFault::SameKey))
    ));
}

#[test]
fn an_authority_does_not_certify_its_own_root() {
    let root = Held::root(Algorithm::EcdsaP256);
    let issuing = root.issuing(1);
    let fault = |der: &[u8], by: &Held| match mint_cross(&by.der, &by.key, &request(der)) {
        Err(MintError::Subject(fault)) => fault,
        other => panic!("{other:?}"),
    };
    assert_eq!(fault(&root.der, &issuing), SubjectFault::OwnRoot);
    assert_eq!(fault(&root.der, &root), SubjectFault::SameKey);
    // Nor its root's key under another name.
    let mut raw = RawCertificate::of(&Node::new().root);
    raw.spki = root.key.spki().to_vec();
    raw.subject = named(&[(10, 0x0c, b"Corp")]);
    raw.issuer.clone_from(&raw.subject);
    let renamed = raw.sign(&root.key);
    assert_eq!(fault(&renamed, &issuing), SubjectFault::OwnRoot);
}

#[test]
fn keys_and_signatures_that_are_not_accepted_are_not_certified() {
    let p521 = Foreign {
        key: ForeignKey::P521,
        ..Foreign::authority("Corp")
    };
    assert!(matches!(
        refused(&p521.root().der),
        SubjectFault::Certificate(_)
    ));
    let weak = Credential::of_vector("foreign-rsa-1024");
    assert!(matches!(
        refused(&weak.chain[0]),
        SubjectFault::Certificate(_)
    ));
    assert!(matches!(refused(b"nothing"), SubjectFault::Certificate(_)));
    let bytes = 16 * 1024 + 1;
    assert_eq!(refused(&vec![0; bytes]), SubjectFault::TooLarge { bytes });
    assert!(matches!(
        refused(&vec![0; bytes - 1]),
        SubjectFault::Certificate(_)
    ));
}

#[test]
fn only_an_issuer_that_may_do_so_certifies() {
    let root = Held::root(Algorithm::EcdsaP256);
    let node = Node::new();
    let leaves = root.issuing(0);
    let fault = mint_cross(&leaves.der, &leaves.key, &request(&node.root));
    assert!(matches!(
        fault,
        Err(MintError::Issuer(IssuerFault::LeavesOnly))
    ));
    let other = TestKey::generate(Algorithm::EcdsaP256);
    let fault = mint_cross(&root.der, &other, &request(&node.root));
    assert!(matches!(fault, Err(MintError::WrongSigner)));
    let fault = mint_cross(&node.root, &node.identity, &request(&node.root));
    assert!(matches!(fault, Err(MintError::Authority(_))));
    let long = CrossRequest {
        not_after: TODAY + 2 * 365 * DAY + std::time::Duration::from_secs(1),
        ..request(&node.root)
    };
    let issuing = root.issuing(1);
    let fault = mint_cross(&issuing.der, &issuing.key, &long);
    assert!(matches!(fault, Err(MintError::Validity { .. })));
}

#[test]
fn an_issuing_key_attests_what_is_in_its_scope_and_nothing_else() {
    let root = Held::root(Algorithm::EcdsaP256);
    let limits = scope(&["fleet"], &["reader", "writer"]);
    let issuing = root.issuing_with(Algorithm::EcdsaP256, 1, &limits, &[]);
    let node = Node::new();
    let attest = |metadata: &Metadata| {
        let asked = CrossRequest {
            metadata,
            ..request(&node.root)
        };
        mint_cross(&issuing.der, &issuing.key, &asked)
    };
    for metadata in [
        scope(&[], &[]),
        scope(&["fleet"], &[]),
        scope(&["fleet"], &["reader"]),
        scope(&[], &["reader", "writer"]),
    ] {
        assert!(attest(&metadata).is_ok());
    }
    for (metadata, outside) in [
        (scope(&["lab"], &[]), "lab"),
        (scope(&["fleet", "lab"], &[]), "lab"),
        (scope(&["fleet"], &["admin"]), "admin"),
    ] {
        let Err(MintError::Issuer(IssuerFault::OutOfScope { what })) = attest(&metadata) else {
            panic!("{metadata:?}");
        };
        assert_eq!(what, outside);
    }
    // A list that is empty limits nothing.
    let networks_only = root.issuing_with(Algorithm::EcdsaP256, 1, &scope(&["fleet"], &[]), &[]);
    let metadata = scope(&["fleet"], &["admin"]);
    let asked = CrossRequest {
        metadata: &metadata,
        ..request(&node.root)
    };
    assert!(mint_cross(&networks_only.der, &networks_only.key, &asked).is_ok());
}
