//! Paths below cross-certificates: one good chain, and every way to spoil it.

use std::time::Duration;

use comity_certs::limits::{
    MAX_CERTIFICATES, MAX_CROSS_SIGNATURES, MAX_NAME_ATTRIBUTES, MAX_SANS, MAX_SUBTREES,
};
use comity_certs::{
    Anchor, AuthorityRootRequest, CertificateFault, ChainError, ConstraintFault, CrossError,
    CrossPath, CrossRequest, Form, Issued, IssuingRequest, Metadata, OwnPath, PresentedChain,
    Purpose, Rollover, cross_paths, mint_authority_root, mint_cross, mint_issuing,
    verify_cross_path, verify_own_path,
};
use comity_identity::{Algorithm, Fingerprint, KeyHash, Signer, UnixTime};
use proptest::prelude::*;

use crate::certificates::{DAY, Node, RawCertificate, TODAY, TestKey, content, random_serial, tlv};

const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 14];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 30];
const CERTIFICATE_POLICIES: &[u8] = &[0x55, 0x1d, 32];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 35];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];

/// Somebody with a name and a key that signs certificates.
pub(crate) struct Party {
    pub(crate) name: Vec<u8>,
    pub(crate) key: TestKey,
}

/// What one side presents, and the anchor of the other. Each certificate is signed when the verdict
/// is asked for, so that a test changes what they say and not whether signatures are right.
pub(crate) struct Presented {
    pub(crate) authority: Party,
    pub(crate) node: Party,
    pub(crate) root: RawCertificate,
    pub(crate) cross: RawCertificate,
    pub(crate) leaf: RawCertificate,
    pub(crate) more: Vec<Vec<u8>>,
    pub(crate) purpose: Purpose,
    pub(crate) rollover: Rollover,
    pub(crate) now: UnixTime,
}

impl Party {
    pub(crate) fn new(name: Vec<u8>) -> Self {
        Self::with(name, Algorithm::EcdsaP256)
    }

    fn with(name: Vec<u8>, algorithm: Algorithm) -> Self {
        let key = TestKey::generate(algorithm);
        Self { name, key }
    }

    pub(crate) fn spki(&self) -> &[u8] {
        self.key.spki()
    }

    fn id(&self) -> Vec<u8> {
        KeyHash::of_spki(self.spki()).as_bytes().to_vec()
    }

    fn hash(&self) -> KeyHash {
        KeyHash::of_spki(self.spki())
    }

    /// Its self-signed root, which allows one CA below.
    pub(crate) fn root(&self) -> RawCertificate {
        let mut root = certificate(self, &self.name, self.spki(), &ca(Some(1)));
        root.extensions
            .retain(|(oid, ..)| oid != AUTHORITY_KEY_IDENTIFIER);
        root
    }

    /// Its certificate for another one's name and key, which may sign for that name only.
    pub(crate) fn cross(&self, other: &Self) -> RawCertificate {
        let mut cross = certificate(self, &other.name, other.spki(), &ca(Some(0)));
        cross.extensions.push(only(&other.name));
        cross
    }

    /// A leaf of its own name.
    pub(crate) fn leaf(&self) -> RawCertificate {
        let key = TestKey::generate(Algorithm::EcdsaP256);
        let usages = [1, 2].map(|last| tlv(6, &[&[0x2b, 6, 1, 5, 5, 7, 3, last]]));
        let extensions = [
            (BASIC_CONSTRAINTS.to_vec(), true, vec![0x30, 0]),
            (KEY_USAGE.to_vec(), true, vec![3, 2, 7, 0x80]),
            (
                EXTENDED_KEY_USAGE.to_vec(),
                false,
                tlv(0x30, &[&usages.concat()]),
            ),
        ];
        certificate(self, &self.name, key.spki(), &extensions)
    }
}

type Extension = (Vec<u8>, bool, Vec<u8>);

fn certificate(
    issuer: &Party,
    subject: &[u8],
    spki: &[u8],
    extensions: &[Extension],
) -> RawCertificate {
    // `ecdsa-with-SHA256` or `Ed25519`
    let algorithm: &[u8] = match issuer.key.algorithm() {
        Algorithm::EcdsaP256 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
        Algorithm::Ed25519 => &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70],
    };
    let mut serial = random_serial();
    serial[0] = serial[0] & 0x3f | 0x40;
    let own = KeyHash::of_spki(spki);
    let own = tlv(4, &[own.as_bytes()]);
    let above = tlv(0x30, &[&tlv(0x80, &[&issuer.id()])]);
    let mut extensions = extensions.to_vec();
    extensions.push((SUBJECT_KEY_IDENTIFIER.to_vec(), false, own));
    extensions.push((AUTHORITY_KEY_IDENTIFIER.to_vec(), false, above));
    RawCertificate {
        version: vec![0xa0, 3, 2, 1, 2],
        serial: tlv(2, &[&serial]),
        inner_algorithm: algorithm.to_vec(),
        outer_algorithm: algorithm.to_vec(),
        issuer: issuer.name.clone(),
        not_before: time(TODAY - DAY),
        not_after: time(TODAY + DAY),
        subject: subject.to_vec(),
        spki: spki.to_vec(),
        extensions,
        rest: Vec::new(),
    }
}

fn ca(path_length: Option<u8>) -> [Extension; 2] {
    let constraints = match path_length {
        None => vec![0x30, 3, 1, 1, 0xff],
        Some(length) => vec![0x30, 6, 1, 1, 0xff, 2, 1, length],
    };
    [
        (BASIC_CONSTRAINTS.to_vec(), true, constraints),
        (KEY_USAGE.to_vec(), true, vec![3, 2, 1, 6]),
    ]
}

/// Critical name constraints that permit one directory name.
fn only(name: &[u8]) -> Extension {
    (
        NAME_CONSTRAINTS.to_vec(),
        true,
        permitted(&[directory(name)]),
    )
}

fn directory(name: &[u8]) -> Vec<u8> {
    tlv(0xa4, &[name])
}

fn permitted(bases: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &[&subtrees(0xa0, bases)])
}

fn excluded(bases: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &[&subtrees(0xa1, bases)])
}

fn subtrees(tag: u8, bases: &[Vec<u8>]) -> Vec<u8> {
    let subtrees: Vec<u8> = bases.iter().flat_map(|base| tlv(0x30, &[base])).collect();
    tlv(tag, &[&subtrees])
}

/// A name of RDNs with one attribute each: the last arc below 2.5.4, the string type, the text.
pub(crate) fn name(attributes: &[(u8, u8, &str)]) -> Vec<u8> {
    let relative = |&(kind, tag, text): &(u8, u8, &str)| tlv(0x31, &[&attribute(kind, tag, text)]);
    tlv(
        0x30,
        &[&attributes.iter().flat_map(relative).collect::<Vec<u8>>()],
    )
}

fn attribute(kind: u8, tag: u8, text: &str) -> Vec<u8> {
    tlv(
        0x30,
        &[&tlv(6, &[&[0x55, 4, kind]]), &tlv(tag, &[text.as_bytes()])],
    )
}

/// UTCTime, which has two digits of the year.
fn time(time: UnixTime) -> Vec<u8> {
    let text = time.to_string().replace(['-', ':', 'T'], "");
    tlv(0x17, &[&text.as_bytes()[2..]])
}

fn org(unit: &str, serial: &str) -> Vec<u8> {
    name(&[(10, 0x0c, "Example"), (11, 0x0c, unit), (5, 0x13, serial)])
}

impl Presented {
    pub(crate) fn new(authority: Party, node: Party) -> Self {
        Self {
            root: authority.root(),
            cross: authority.cross(&node),
            leaf: node.leaf(),
            authority,
            node,
            more: Vec::new(),
            purpose: Purpose::Dial,
            rollover: Rollover::Refused,
            now: TODAY,
        }
    }

    fn good() -> Self {
        Self::new(
            Party::new(org("authority", "a1")),
            Party::new(org("node", "b2")),
        )
    }

    pub(crate) fn anchor(&self) -> Anchor {
        Anchor::from_der(&self.root.sign(&self.authority.key)).expect("a CA")
    }

    pub(crate) fn chain(&self) -> PresentedChain {
        let mut chain = vec![
            self.leaf.sign(&self.node.key),
            self.cross.sign(&self.authority.key),
        ];
        chain.extend(self.more.iter().cloned());
        PresentedChain::parse(&chain).expect("readable")
    }

    fn verify(&self) -> Result<CrossPath, CrossError> {
        verify_cross_path(
            &self.chain(),
            [&self.anchor()],
            self.purpose,
            self.rollover,
            self.now,
        )
    }
}

/// The verdict on the good chain with one thing changed.
fn changed(change: impl FnOnce(&mut Presented)) -> Result<CrossPath, CrossError> {
    let mut presented = Presented::good();
    change(&mut presented);
    presented.verify()
}

fn set(certificate: &mut RawCertificate, oid: &[u8], critical: bool, value: Vec<u8>) {
    certificate.extensions.retain(|(kind, ..)| kind != oid);
    certificate.extensions.push((oid.to_vec(), critical, value));
}

fn without(certificate: &mut RawCertificate, oid: &[u8]) {
    certificate.extensions.retain(|(kind, ..)| kind != oid);
}

fn unconstrained(fault: ConstraintFault) -> CrossError {
    CrossError::Unconstrained { index: 1, fault }
}

#[test]
fn a_good_chain_says_who_signed_what_and_until_when() {
    let mut presented = Presented::good();
    let metadata = Metadata::new(vec!["fleet".into()], vec!["db".into()], vec![]);
    let metadata = metadata.expect("within limits");
    let der = metadata.to_der().expect("within limits");
    set(&mut presented.cross, &oid_of_metadata(), false, der);
    presented.cross.not_after = time(TODAY + Duration::from_secs(60));
    let path = presented.verify().expect("a good chain");
    let chain = presented.chain();
    let serial = |certificate: &RawCertificate| certificate.serial[2..].to_vec();
    let (authority, node) = (presented.authority.hash(), presented.node.hash());
    assert_eq!(path.cross.issuer_key, authority);
    assert_eq!(path.cross.key, node);
    assert_eq!(path.cross.serial, serial(&presented.cross));
    assert_eq!(path.cross.subject, presented.node.name);
    assert_eq!(path.cross.metadata, Some(metadata));
    assert_eq!(path.cross.not_before, TODAY - DAY);
    assert_eq!(path.cross.not_after, TODAY + Duration::from_secs(60));
    // Signatures on P-256 differ each time, so only its length can be compared.
    assert_ne!(path.cross.fingerprint, Fingerprint::of_certificate(b""));
    assert_eq!(path.keys, [chain.leaf().key, node, authority]);
    let issued = [
        (node, &presented.leaf, chain.leaf().key),
        (authority, &presented.cross, node),
    ];
    let issued = issued.map(|(issuer_key, certificate, key)| Issued {
        issuer_key,
        serial: serial(certificate),
        key,
    });
    assert_eq!(path.issued, issued);
    assert_eq!(path.not_after, path.cross.not_after);
}

#[test]
fn every_kind_of_key_signs_and_is_certified() {
    for above in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
        for below in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
            let authority = Party::with(org("authority", "a1"), above);
            let node = Party::with(org("node", "b2"), below);
            let presented = Presented::new(authority, node);
            assert!(presented.verify().is_ok(), "{above:?} {below:?}");
        }
    }
}

#[test]
fn the_root_of_a_node_is_the_end_of_its_own_path() {
    let presented = Presented::good();
    let own =
        |change: fn(&mut RawCertificate, &mut RawCertificate)| -> Result<OwnPath, CrossError> {
            let (mut leaf, mut root) = (presented.node.leaf(), presented.node.root());
            change(&mut leaf, &mut root);
            let chain = PresentedChain::parse(&[leaf.sign(&presented.node.key)]).expect("readable");
            let anchor = Anchor::from_der(&root.sign(&presented.node.key)).expect("a CA");
            verify_own_path(&chain, [&anchor], Purpose::Serve, Rollover::Refused, TODAY)
        };
    let path = own(|_, _| {}).expect("a good chain");
    assert_eq!(path.keys.last(), Some(&presented.node.hash()));
    assert_eq!(path.issued.len(), 1);
    assert_eq!(path.not_after, TODAY + DAY);
    assert_eq!(
        own(|leaf, _| leaf.subject = org("node", "b3")),
        Err(CrossError::OtherSubject)
    );
    let shorter = |leaf: &mut RawCertificate, _: &mut RawCertificate| {
        leaf.subject = name(&[(10, 0x0c, "Example"), (11, 0x0c, "node")]);
    };
    assert_eq!(own(shorter), Err(CrossError::OtherSubject));
    // Without a cross-certificate it is nobody's member, and below one it is not its own root.
    let chain = presented.chain();
    let anchor = presented.anchor();
    let verdict = verify_own_path(&chain, [&anchor], Purpose::Dial, Rollover::Refused, TODAY);
    assert_eq!(verdict, Err(CrossError::NotOwnRoot));
    let root = Anchor::from_der(&presented.node.root().sign(&presented.node.key)).expect("a CA");
    let verdict = verify_cross_path(&chain, [&root], Purpose::Dial, Rollover::Refused, TODAY);
    assert_eq!(verdict, Err(CrossError::NoCrossCertificate));
}

#[test]
fn a_members_native_chain_is_verified_with_its_own_root_at_the_end() {
    let network = Network::new();
    let member = Node::new();
    let cross = network.cross(&member.root);
    let [leaf, root] = [&member.dial.chain[0], &member.dial.chain[1]];
    let verify = |chain: &[&Vec<u8>]| {
        let chain = PresentedChain::parse(chain).expect("a native chain");
        assert_eq!(chain.form(), Form::Native);
        let anchor = Anchor::from_der(&network.root).expect("a CA");
        verify_cross_path(&chain, [&anchor], Purpose::Dial, Rollover::Refused, TODAY)
    };
    for chain in [
        [leaf, &cross, &network.issuing_certificate, root],
        [leaf, &network.issuing_certificate, &cross, root],
    ] {
        let path = verify(&chain).expect("a good chain");
        assert_eq!(path.cross.key, member.id().key_hash());
        assert_eq!(
            path.cross.issuer_key,
            KeyHash::of_spki(network.issuing.spki())
        );
        let attested = path.cross.metadata.expect("attested");
        assert_eq!(attested.networks(), ["fleet"]);
    }
    assert!(
        verify(&[leaf, &cross, root]).is_err(),
        "the issuing key is not known"
    );
    let other = Node::new();
    let stolen = verify(&[
        &other.dial.chain[0],
        &cross,
        &network.issuing_certificate,
        &other.root,
    ]);
    assert!(
        matches!(stolen, Err(CrossError::UnknownIssuer { .. })),
        "{stolen:?}"
    );
}

/// A network as Comity makes them: a root, and an issuing key that admits members of `fleet`.
struct Network {
    root: Vec<u8>,
    issuing: TestKey,
    issuing_certificate: Vec<u8>,
    metadata: Metadata,
}

impl Network {
    fn new() -> Self {
        let founding = TestKey::generate(Algorithm::EcdsaP256);
        let issuing = TestKey::generate(Algorithm::EcdsaP256);
        let request = AuthorityRootRequest {
            serial: random_serial(),
            not_before: TODAY - DAY,
            not_after: TODAY + 3650 * DAY,
        };
        let root = mint_authority_root(&founding, &request).expect("a sound request");
        let metadata = Metadata::new(vec!["fleet".into()], vec![], vec![]).expect("within limits");
        let request = IssuingRequest {
            spki: issuing.spki(),
            serial: random_serial(),
            not_before: TODAY - DAY,
            not_after: TODAY + 365 * DAY,
            path_length: 1,
            scope: &metadata,
            dns: &[],
        };
        let issuing_certificate = mint_issuing(&root, &founding, &request).expect("sound");
        Self {
            root,
            issuing,
            issuing_certificate,
            metadata,
        }
    }

    fn cross(&self, member: &[u8]) -> Vec<u8> {
        let request = CrossRequest {
            root: member,
            serial: random_serial(),
            not_before: TODAY - DAY,
            not_after: TODAY + 90 * DAY,
            metadata: &self.metadata,
        };
        mint_cross(&self.issuing_certificate, &self.issuing, &request).expect("a sound request")
    }
}

#[test]
fn nobody_is_known_without_an_anchor_or_below_a_strangers() {
    let presented = Presented::good();
    let unknown = CrossError::UnknownIssuer {
        issuer: "O=Example, OU=node, serialNumber=b2".to_owned(),
    };
    let chain = presented.chain();
    let none = verify_cross_path(&chain, [], Purpose::Dial, Rollover::Refused, TODAY);
    assert_eq!(none, Err(unknown.clone()));
    let stranger = Presented::good().anchor();
    let other = verify_cross_path(&chain, [&stranger], Purpose::Dial, Rollover::Refused, TODAY);
    // Key identifiers tell that it is another key, before any signature does.
    assert_eq!(other, Err(unknown));
    assert!(cross_paths(&chain, [&stranger], Purpose::Dial, Rollover::Refused, TODAY).is_empty());
}

// What a chain remembers of its paths and signatures never answers another question.
#[test]
fn every_question_about_one_chain_gets_its_own_answer() {
    let presented = Presented::good();
    let chain = presented.chain();
    let (ours, stranger) = (presented.anchor(), Presented::good().anchor());
    let (dial, serve) = (Purpose::Dial, Purpose::Serve);
    let fresh = || PresentedChain::parse(chain.der()).expect("readable");
    let century = Duration::from_secs(100 * 365 * 24 * 3600);
    for _ in 0..2 {
        for (anchor, purpose, now, found) in [
            (&ours, dial, TODAY, 1),
            (&stranger, dial, TODAY, 0),
            (&ours, dial, TODAY + century, 0),
            (&ours, dial, UnixTime::from_secs(0), 0),
            (&ours, dial, TODAY, 1),
        ] {
            let paths = cross_paths(&chain, [anchor], purpose, Rollover::Refused, now);
            assert_eq!(paths.len(), found);
            // A chain that was never asked anything says the same.
            let fresh = cross_paths(&fresh(), [anchor], purpose, Rollover::Refused, now);
            assert_eq!(paths, fresh);
        }
        let served = |chain: &_| cross_paths(chain, [&ours], serve, Rollover::Refused, TODAY);
        assert_eq!(served(&chain), served(&fresh()));
    }
}

#[test]
fn a_signature_of_another_key_refuses_wherever_it_is() {
    let bad = |index| Err(CrossError::BadSignature { index });
    let forged = Presented::good();
    let verify = |leaf: &TestKey, cross: &TestKey| {
        let chain = [forged.leaf.sign(leaf), forged.cross.sign(cross)];
        let chain = PresentedChain::parse(&chain).expect("readable");
        let anchor = [&forged.anchor()];
        verify_cross_path(&chain, anchor, Purpose::Dial, Rollover::Refused, TODAY)
    };
    let (node, authority) = (&forged.node.key, &forged.authority.key);
    let other = TestKey::generate(Algorithm::EcdsaP256);
    assert!(verify(node, authority).is_ok());
    assert_eq!(verify(&other, authority), bad(0));
    assert_eq!(verify(node, &other), bad(1));
    assert_eq!(verify(authority, node), bad(1));
}

#[test]
fn the_leaf_has_to_be_one_and_to_say_what_it_is_for() {
    let missing = |extension| CrossError::Missing {
        index: 0,
        extension,
    };
    let leaf = |change: fn(&mut RawCertificate)| changed(|p| change(&mut p.leaf)).err();
    assert_eq!(leaf(|_| {}), None);
    assert_eq!(
        leaf(|l| without(l, BASIC_CONSTRAINTS)),
        Some(missing("basic constraints"))
    );
    assert_eq!(leaf(|l| without(l, KEY_USAGE)), Some(missing("key usage")));
    assert_eq!(
        leaf(|l| without(l, EXTENDED_KEY_USAGE)),
        Some(missing("extended key usage"))
    );
    assert_eq!(
        leaf(|l| without(l, AUTHORITY_KEY_IDENTIFIER)),
        Some(missing("authority key identifier"))
    );
    // What its own key is called is nobody's business.
    assert_eq!(leaf(|l| without(l, SUBJECT_KEY_IDENTIFIER)), None);
    assert_eq!(
        leaf(|l| l.extension_mut(AUTHORITY_KEY_IDENTIFIER).2 = vec![0x30, 0]),
        Some(missing("authority key identifier"))
    );
    assert_eq!(
        leaf(|l| l.extension_mut(BASIC_CONSTRAINTS).2 = vec![0x30, 3, 1, 1, 0xff]),
        Some(CrossError::LeafIsCa)
    );
    assert_eq!(
        leaf(|l| l.extension_mut(KEY_USAGE).2 = vec![3, 2, 2, 0x84]),
        Some(CrossError::LeafIsCa)
    );
    assert_eq!(
        leaf(|l| l.extension_mut(KEY_USAGE).2 = vec![3, 2, 5, 0x20]),
        Some(CrossError::LeafKeyUsage)
    );
    let usage = |last: &[u8]| {
        tlv(
            0x30,
            &[&tlv(6, &[&[&[0x2b, 6, 1, 5, 5, 7, 3], last].concat()])],
        )
    };
    let wrong = CrossError::WrongPurpose {
        index: 0,
        purpose: Purpose::Dial,
    };
    let used =
        |value: Vec<u8>| changed(|p| p.leaf.extension_mut(EXTENDED_KEY_USAGE).2 = value).err();
    assert_eq!(used(usage(&[2])), None);
    assert_eq!(used(usage(&[1])), Some(wrong.clone()));
    // `anyExtendedKeyUsage` is not the purpose.
    assert_eq!(
        used(tlv(0x30, &[&tlv(6, &[&[0x55, 0x1d, 37, 0]])])),
        Some(wrong)
    );
    let serve = changed(|p| {
        p.purpose = Purpose::Serve;
        p.leaf.extension_mut(EXTENDED_KEY_USAGE).2 = usage(&[2]);
    });
    assert!(matches!(
        serve,
        Err(CrossError::WrongPurpose { index: 0, .. })
    ));
}

#[test]
fn bits_of_a_key_usage_that_are_declared_unused_are_no_permissions() {
    let malformed = |index| {
        let fault = CertificateFault::Malformed { part: "key usage" };
        Some(CrossError::Certificate { index, fault })
    };
    let cross = |value: &[u8]| changed(|p| p.cross.extension_mut(KEY_USAGE).2 = value.to_vec());
    // Two bits are used: digitalSignature and nothing; keyCertSign is in the padding.
    for value in [&[3, 2, 6, 0x84][..], &[3, 2, 7, 0xff], &[3, 2, 3, 0x04]] {
        assert_eq!(cross(value).err(), malformed(1), "{value:02x?}");
    }
    // Octets of zeros that say nothing.
    for value in [&[3, 3, 0, 6, 0][..], &[3, 3, 7, 6, 0]] {
        assert_eq!(cross(value).err(), malformed(1), "{value:02x?}");
    }
    // The second octet is for decipherOnly; too few bits declared unused mislead nobody.
    for value in [&[3, 3, 7, 6, 0x80][..], &[3, 2, 0, 6], &[3, 2, 2, 4]] {
        assert_eq!(cross(value).err(), None, "{value:02x?}");
    }
    // Two public roots end theirs with zeros: an anchor is what its owner made.
    let verdict = changed(|p| p.root.extension_mut(KEY_USAGE).2 = vec![3, 3, 7, 6, 0]);
    assert!(verdict.is_ok(), "{verdict:?}");
    let mut presented = Presented::good();
    presented.root.extension_mut(KEY_USAGE).2 = vec![3, 2, 3, 0x04];
    let root = presented.root.sign(&presented.authority.key);
    assert!(Anchor::from_der(&root).is_err());
    // A chain with such a leaf is not even read.
    let mut presented = Presented::good();
    presented.leaf.extension_mut(KEY_USAGE).2 = vec![3, 2, 7, 0xff];
    let leaf = presented.leaf.sign(&presented.node.key);
    assert!(matches!(
        PresentedChain::parse(&[leaf]),
        Err(ChainError::Certificate { index: 0, .. })
    ));
}

#[test]
fn what_der_forbids_is_refused_though_it_means_one_thing_only() {
    let refused = |change: &dyn Fn(&mut RawCertificate)| {
        let fault = |verdict: Result<CrossPath, CrossError>, place| match verdict {
            Err(CrossError::Certificate { index, fault }) if index == place => fault,
            other => panic!("{other:?}"),
        };
        let leaf = fault(changed(|p| change(&mut p.leaf)), 0);
        let cross = fault(changed(|p| change(&mut p.cross)), 1);
        assert_eq!(leaf, cross);
        leaf
    };
    let malformed = |part| CertificateFault::Malformed { part };
    // GeneralizedTime before 2050.
    let general = |text: &str| tlv(0x18, &[text.as_bytes()]);
    let found = refused(&|c| c.not_after = general("20491231235959Z"));
    assert_eq!(found, malformed("validity"));
    let found = refused(&|c| c.not_before = general("20260228000000Z"));
    assert_eq!(found, malformed("validity"));
    // A FALSE that is written out.
    let found = refused(&write_every_criticality);
    assert_eq!(found, malformed("extensions"));
    // From 2050 on there is no other form.
    let verdict = changed(|p| p.leaf.not_after = general("20500101000000Z"));
    assert!(verdict.is_ok(), "{verdict:?}");
}

/// Moves the extensions to where they are written as given, FALSE included.
fn write_every_criticality(certificate: &mut RawCertificate) {
    let written = |(oid, critical, value): (Vec<u8>, bool, Vec<u8>)| {
        let critical = [1, 1, if critical { 0xff } else { 0 }];
        tlv(0x30, &[&tlv(6, &[&oid]), &critical, &tlv(4, &[&value])])
    };
    let extensions = std::mem::take(&mut certificate.extensions);
    let extensions: Vec<u8> = extensions.into_iter().flat_map(written).collect();
    certificate.rest = tlv(0xa3, &[&tlv(0x30, &[&extensions])]);
}

#[test]
fn a_path_length_without_ca_is_refused() {
    let fault = CertificateFault::PathLengthWithoutCa;
    for value in [&[0x30, 3, 2, 1, 0][..], &[0x30, 3, 2, 1, 5]] {
        let verdict = changed(|p| p.leaf.extension_mut(BASIC_CONSTRAINTS).2 = value.to_vec());
        let fault = fault.clone();
        assert_eq!(verdict, Err(CrossError::Certificate { index: 0, fault }));
    }
    for value in [&[0x30, 3, 1, 1, 0][..], &[0x30, 6, 1, 1, 0, 2, 1, 0]] {
        let verdict = changed(|p| p.leaf.extension_mut(BASIC_CONSTRAINTS).2 = value.to_vec());
        let fault = CertificateFault::Malformed {
            part: "basic constraints",
        };
        assert_eq!(verdict, Err(CrossError::Certificate { index: 0, fault }));
    }
}

#[test]
fn attributes_of_one_rdn_are_in_the_order_of_der() {
    let of_two = |first: u8, second: u8| {
        let both = [attribute(first, 0x0c, "x"), attribute(second, 0x0c, "y")].concat();
        let name = tlv(0x30, &[&tlv(0x31, &[&both])]);
        Presented::new(Party::new(org("authority", "a1")), Party::new(name)).verify()
    };
    assert!(of_two(3, 11).is_ok());
    let fault = CertificateFault::Malformed { part: "name" };
    assert_eq!(
        of_two(11, 3),
        Err(CrossError::Certificate { index: 0, fault })
    );
}

#[test]
fn a_leaf_that_names_its_own_key_as_its_issuers_is_refused() {
    let verdict = changed(|p| {
        let above = p.leaf.extension_mut(AUTHORITY_KEY_IDENTIFIER).2[4..].to_vec();
        p.leaf.extension_mut(SUBJECT_KEY_IDENTIFIER).2 = tlv(4, &[&above]);
    });
    assert_eq!(verdict, Err(CrossError::NamesItself { index: 0 }));
}

#[test]
fn identifiers_that_contradict_each_other_lead_nowhere() {
    let unknown = |verdict: Result<CrossPath, CrossError>| {
        assert!(
            matches!(verdict, Err(CrossError::UnknownIssuer { .. })),
            "{verdict:?}"
        );
    };
    let other = tlv(0x30, &[&tlv(0x80, &[&[7; 32]])]);
    unknown(changed(|p| {
        p.leaf.extension_mut(AUTHORITY_KEY_IDENTIFIER).2 = other.clone()
    }));
    unknown(changed(|p| {
        p.cross.extension_mut(AUTHORITY_KEY_IDENTIFIER).2 = other.clone()
    }));
    unknown(changed(|p| {
        p.root.extension_mut(SUBJECT_KEY_IDENTIFIER).2 = tlv(4, &[&[7; 32]])
    }));
    // Those that say nothing contradict nothing: the signature decides.
    assert!(changed(|p| without(&mut p.cross, AUTHORITY_KEY_IDENTIFIER)).is_ok());
    assert!(changed(|p| without(&mut p.cross, SUBJECT_KEY_IDENTIFIER)).is_ok());
    assert!(changed(|p| without(&mut p.root, SUBJECT_KEY_IDENTIFIER)).is_ok());
    // Issuer and serial number have to be those of the issuer's certificate.
    let by_number = |p: &mut Presented, serial: &[u8], issuer: &[u8]| {
        let key = tlv(0x80, &[&p.authority.id()]);
        let issuer = tlv(0xa1, &[&directory(issuer)]);
        let value = tlv(0x30, &[&key, &issuer, &tlv(0x82, &[serial])]);
        p.cross.extension_mut(AUTHORITY_KEY_IDENTIFIER).2 = value;
    };
    let named = |serial: fn(&Presented) -> Vec<u8>, issuer: fn(&Presented) -> Vec<u8>| {
        changed(|p| {
            let (serial, issuer) = (serial(p), issuer(p));
            by_number(p, &serial, &issuer);
        })
    };
    let serial = |p: &Presented| p.root.serial[2..].to_vec();
    let issuer = |p: &Presented| p.authority.name.clone();
    assert!(named(serial, issuer).is_ok());
    unknown(named(|_| vec![7], issuer));
    unknown(named(serial, |p| p.node.name.clone()));
}

#[test]
fn the_leafs_subject_is_exactly_the_one_of_the_cross_certificate() {
    let names = [
        (
            "shorter",
            name(&[(10, 0x0c, "Example"), (11, 0x0c, "node")]),
        ),
        (
            "longer",
            name(&[
                (10, 0x0c, "Example"),
                (11, 0x0c, "node"),
                (5, 0x13, "b2"),
                (3, 0x0c, "x"),
            ]),
        ),
        (
            "a second serial number",
            name(&[
                (10, 0x0c, "Example"),
                (11, 0x0c, "node"),
                (5, 0x13, "b2"),
                (5, 0x13, "b3"),
            ]),
        ),
        ("another", org("node", "b3")),
        ("the authority's own", org("authority", "a1")),
        ("in capitals", org("node", "B2")),
        ("with spaces", org("node", " b2")),
        (
            "of another string type",
            name(&[(10, 0x0c, "Example"), (11, 0x0c, "node"), (5, 0x0c, "b2")]),
        ),
        (
            "in another order",
            name(&[(11, 0x0c, "node"), (10, 0x0c, "Example"), (5, 0x13, "b2")]),
        ),
        (
            "with a NUL",
            name(&[(10, 0x0c, "Example"), (11, 0x0c, "node"), (5, 0x0c, "b2\0")]),
        ),
        ("empty", name(&[])),
        ("with a last RDN of two", {
            let both = [attribute(3, 0x0c, "x"), attribute(5, 0x13, "b2")].concat();
            let first = name(&[(10, 0x0c, "Example"), (11, 0x0c, "node")]);
            tlv(0x30, &[&first[2..], &tlv(0x31, &[&both])])
        }),
    ];
    for (what, subject) in names {
        let verdict = changed(|p| p.leaf.subject = subject);
        assert_eq!(verdict, Err(CrossError::OtherSubject), "{what}");
    }
    // The issuer as well: names are chained byte for byte.
    let verdict = changed(|p| p.leaf.issuer = org("NODE", "b2"));
    assert!(matches!(verdict, Err(CrossError::UnknownIssuer { .. })));
}

#[test]
fn directory_names_among_the_alternative_names_are_the_subject_and_others_are_claims() {
    let with = |names: &[Vec<u8>]| {
        let names = tlv(0x30, &[&names.concat()]);
        changed(|p| set(&mut p.leaf, SUBJECT_ALT_NAME, false, names)).err()
    };
    let own = directory(&org("node", "b2"));
    assert_eq!(with(std::slice::from_ref(&own)), None);
    assert_eq!(
        with(&[
            tlv(0x82, &[b"anything.example"]),
            tlv(0x86, &[b"spiffe://x/node"])
        ]),
        None
    );
    let outside = Some(CrossError::NameConstraint { index: 0 });
    assert_eq!(with(&[own, directory(&org("node", "b3"))]), outside);
    let longer = name(&[
        (10, 0x0c, "Example"),
        (11, 0x0c, "node"),
        (5, 0x13, "b2"),
        (3, 0x0c, "x"),
    ]);
    assert_eq!(with(&[directory(&longer)]), outside);
}

#[test]
fn a_cross_certificate_permits_exactly_its_own_name() {
    let own = || directory(&org("node", "b2"));
    let constrained =
        |value: Vec<u8>| changed(|p| p.cross.extension_mut(NAME_CONSTRAINTS).2 = value).err();
    let not_one = Some(unconstrained(ConstraintFault::NotOneName));
    let not_its = Some(unconstrained(ConstraintFault::NotItsSubject));
    let malformed = |verdict: Option<CrossError>| {
        assert!(
            matches!(verdict, Some(CrossError::Certificate { index: 1, .. })),
            "{verdict:?}"
        );
    };
    assert_eq!(constrained(permitted(&[own()])), None);
    // Wider, narrower, in other words, or of everybody.
    let wider = name(&[(10, 0x0c, "Example"), (11, 0x0c, "node")]);
    assert_eq!(constrained(permitted(&[directory(&wider)])), not_its);
    assert_eq!(
        constrained(permitted(&[directory(&org("node", "b22"))])),
        not_its
    );
    assert_eq!(
        constrained(permitted(&[directory(&org("node", "B2"))])),
        not_its
    );
    assert_eq!(constrained(permitted(&[directory(&name(&[]))])), not_its);
    // More than one, or something else.
    let dns = || tlv(0x82, &[b"example"]);
    assert_eq!(constrained(permitted(&[own(), own()])), not_one);
    assert_eq!(constrained(permitted(&[own(), dns()])), not_one);
    assert_eq!(constrained(permitted(&[dns()])), not_one);
    assert_eq!(constrained(excluded(&[dns()])), not_one);
    let both = tlv(
        0x30,
        &[&subtrees(0xa0, &[own()]), &subtrees(0xa1, &[dns()])],
    );
    assert_eq!(constrained(both), not_one);
    // Written in a way that RFC 5280 forbids.
    malformed(constrained(permitted(
        &[[own(), vec![0x80, 1, 0]].concat()],
    )));
    malformed(constrained(permitted(
        &[[own(), vec![0x81, 1, 5]].concat()],
    )));
    malformed(constrained(tlv(0x30, &[])));
    malformed(constrained(tlv(0x30, &[&tlv(0xa0, &[])])));
    malformed(constrained([permitted(&[own()]), vec![5, 0]].concat()));
    malformed(constrained(tlv(
        0x30,
        &[&subtrees(0xa1, &[dns()]), &subtrees(0xa0, &[own()])],
    )));
    malformed(constrained(permitted(&[tlv(0x84, &[&org("node", "b2")])])));
    malformed(constrained(permitted(&[tlv(0xa9, &[&org("node", "b2")])])));
    // `SEQUENCE` with a length in more bytes than it needs.
    let der = permitted(&[own()]);
    malformed(constrained([&[0x30, 0x81, der[1]], &der[2..]].concat()));
}

#[test]
fn a_cross_certificate_that_is_not_limited_to_itself_counts_for_nothing() {
    let cross = |change: fn(&mut RawCertificate)| changed(|p| change(&mut p.cross)).err();
    assert_eq!(
        cross(|c| without(c, NAME_CONSTRAINTS)),
        Some(unconstrained(ConstraintFault::Missing))
    );
    assert_eq!(
        cross(|c| c.extension_mut(NAME_CONSTRAINTS).1 = false),
        Some(unconstrained(ConstraintFault::NotCritical))
    );
    assert_eq!(
        cross(|c| c.extension_mut(BASIC_CONSTRAINTS).1 = false),
        Some(unconstrained(ConstraintFault::BasicConstraints))
    );
    for value in [
        vec![0x30, 3, 1, 1, 0xff],
        vec![0x30, 6, 1, 1, 0xff, 2, 1, 1],
    ] {
        let verdict = changed(|p| p.cross.extension_mut(BASIC_CONSTRAINTS).2 = value);
        assert_eq!(verdict, Err(unconstrained(ConstraintFault::PathLength)));
    }
    for value in [vec![0x30, 0], vec![0x30, 3, 1, 1, 0]] {
        let verdict = changed(|p| p.cross.extension_mut(BASIC_CONSTRAINTS).2 = value);
        assert_eq!(verdict, Err(CrossError::IssuerNotCa { index: 1 }));
    }
    assert_eq!(
        cross(|c| without(c, BASIC_CONSTRAINTS)),
        Some(CrossError::IssuerNotCa { index: 1 })
    );
    assert_eq!(
        cross(|c| c.extension_mut(KEY_USAGE).2 = vec![3, 2, 1, 2]),
        Some(CrossError::IssuerMayNotSign { index: 1 })
    );
    let missing = CrossError::Missing {
        index: 1,
        extension: "key usage",
    };
    assert_eq!(cross(|c| without(c, KEY_USAGE)), Some(missing));
    let empty = changed(|p| {
        p.node.name = name(&[]);
        p.cross = p.authority.cross(&p.node);
        p.leaf = p.node.leaf();
    });
    assert_eq!(empty, Err(unconstrained(ConstraintFault::NotItsSubject)));
}

#[test]
fn what_is_not_understood_refuses_in_every_certificate() {
    let policies = || tlv(0x30, &[&tlv(0x30, &[&tlv(6, &[&[0x55, 0x1d, 32, 0]])])]);
    let refused = |verdict: Result<CrossPath, CrossError>| {
        assert!(
            matches!(verdict, Err(CrossError::Certificate { index: 1, .. })),
            "{verdict:?}"
        );
    };
    refused(changed(|p| {
        set(&mut p.cross, CERTIFICATE_POLICIES, true, policies())
    }));
    assert!(changed(|p| set(&mut p.cross, CERTIFICATE_POLICIES, false, policies())).is_ok());
    for serial in [
        vec![2, 1, 0],
        vec![2, 1, 0xff],
        vec![2, 0],
        tlv(2, &[&[1; 21]]),
    ] {
        refused(changed(|p| p.cross.serial = serial.clone()));
    }
    assert!(changed(|p| p.cross.serial = tlv(2, &[&[1; 20]])).is_ok());
    refused(changed(|p| {
        set(&mut p.cross, &oid_of_metadata(), false, vec![0x30, 1, 0])
    }));
    refused(changed(|p| {
        p.cross.extension_mut(AUTHORITY_KEY_IDENTIFIER).2 = vec![5, 0]
    }));
    // SHA-1: refused whoever made the signature.
    let sha1 = vec![0x30, 9, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1];
    refused(changed(|p| {
        p.cross.inner_algorithm = sha1.clone();
        p.cross.outer_algorithm = sha1.clone();
    }));
}

#[test]
fn validity_includes_both_ends_and_not_a_second_more() {
    let second = Duration::from_secs(1);
    let at = |change: fn(&mut Presented, UnixTime), ends: bool, offset: i8| {
        changed(|p| {
            change(p, TODAY);
            p.now = match (ends, offset) {
                (_, 0) => TODAY,
                (true, _) => TODAY + second,
                (false, _) => TODAY - second,
            };
        })
        .err()
    };
    let expired = |index| CrossError::Expired {
        index,
        not_after: TODAY,
    };
    let early = |index| CrossError::NotYetValid {
        index,
        not_before: TODAY,
    };
    assert_eq!(at(|p, t| p.leaf.not_after = time(t), true, 0), None);
    assert_eq!(
        at(|p, t| p.leaf.not_after = time(t), true, 1),
        Some(expired(0))
    );
    assert_eq!(at(|p, t| p.cross.not_after = time(t), true, 0), None);
    assert_eq!(
        at(|p, t| p.cross.not_after = time(t), true, 1),
        Some(expired(1))
    );
    assert_eq!(at(|p, t| p.leaf.not_before = time(t), false, 0), None);
    assert_eq!(
        at(|p, t| p.leaf.not_before = time(t), false, 1),
        Some(early(0))
    );
    assert_eq!(
        at(|p, t| p.cross.not_before = time(t), false, 1),
        Some(early(1))
    );
    assert_eq!(at(|p, t| p.root.not_after = time(t), true, 0), None);
    assert!(matches!(
        at(|p, t| p.root.not_after = time(t), true, 1),
        Some(CrossError::AnchorExpired {
            not_after: TODAY,
            ..
        })
    ));
    assert!(matches!(
        at(|p, t| p.root.not_before = time(t), false, 1),
        Some(CrossError::AnchorNotYetValid {
            not_before: TODAY,
            ..
        })
    ));
}

#[test]
fn the_anchors_own_limits_hold() {
    let root =
        |oid: &'static [u8], value: Vec<u8>| changed(|p| set(&mut p.root, oid, true, value)).err();
    let length = |length| vec![0x30, 6, 1, 1, 0xff, 2, 1, length];
    assert_eq!(root(BASIC_CONSTRAINTS, length(1)), None);
    assert_eq!(
        root(BASIC_CONSTRAINTS, length(0)),
        Some(CrossError::PathLength { index: 2 })
    );
    let usage = |last| tlv(0x30, &[&tlv(6, &[&[0x2b, 6, 1, 5, 5, 7, 3, last]])]);
    assert_eq!(root(EXTENDED_KEY_USAGE, usage(2)), None);
    let wrong = CrossError::WrongPurpose {
        index: 2,
        purpose: Purpose::Dial,
    };
    assert_eq!(root(EXTENDED_KEY_USAGE, usage(1)), Some(wrong));
    let inside = directory(&name(&[(10, 0x0c, "Example")]));
    assert_eq!(
        root(NAME_CONSTRAINTS, permitted(std::slice::from_ref(&inside))),
        None
    );
    let outside = directory(&name(&[(10, 0x0c, "Other")]));
    let refused = Some(CrossError::NameConstraint { index: 0 });
    assert_eq!(
        root(NAME_CONSTRAINTS, permitted(std::slice::from_ref(&outside))),
        refused
    );
    assert_eq!(root(NAME_CONSTRAINTS, excluded(&[inside])), refused);
    assert_eq!(root(NAME_CONSTRAINTS, excluded(&[outside])), None);
}

/// An issuing certificate between the authority's root and the cross-certificate.
fn issued(
    change: impl FnOnce(&mut RawCertificate, &mut Presented),
) -> Result<CrossPath, CrossError> {
    let mut presented = Presented::good();
    let issuing = Party::new(org("issuing", "c3"));
    let authority = &presented.authority;
    let mut middle = certificate(authority, &issuing.name, issuing.spki(), &ca(Some(1)));
    presented.root.extension_mut(BASIC_CONSTRAINTS).2 = vec![0x30, 6, 1, 1, 0xff, 2, 1, 2];
    presented.cross = issuing.cross(&presented.node);
    change(&mut middle, &mut presented);
    let chain = [
        presented.leaf.sign(&presented.node.key),
        presented.cross.sign(&issuing.key),
        middle.sign(&presented.authority.key),
    ];
    let chain = PresentedChain::parse(&chain).expect("readable");
    let anchor = presented.anchor();
    verify_cross_path(
        &chain,
        [&anchor],
        presented.purpose,
        presented.rollover,
        presented.now,
    )
}

#[test]
fn an_issuing_certificate_may_stand_between_within_its_limits() {
    let path = issued(|_, _| {}).expect("a good chain");
    assert_eq!((path.keys.len(), path.issued.len()), (4, 3));
    let length = |length| vec![0x30, 6, 1, 1, 0xff, 2, 1, length];
    let verdict = issued(|m, _| m.extension_mut(BASIC_CONSTRAINTS).2 = length(0));
    assert_eq!(verdict, Err(CrossError::PathLength { index: 2 }));
    let verdict = issued(|_, p| p.root.extension_mut(BASIC_CONSTRAINTS).2 = length(1));
    assert_eq!(verdict, Err(CrossError::PathLength { index: 3 }));
    let verdict = issued(|m, _| m.not_after = time(TODAY - DAY));
    assert!(matches!(verdict, Err(CrossError::Expired { index: 2, .. })));
    let verdict = issued(|m, _| m.extension_mut(KEY_USAGE).2 = vec![3, 2, 1, 2]);
    assert_eq!(verdict, Err(CrossError::IssuerMayNotSign { index: 2 }));
    let verdict = issued(|m, _| without(m, KEY_USAGE));
    assert!(matches!(verdict, Err(CrossError::Missing { index: 2, .. })));
    let verdict = issued(|m, _| m.extension_mut(BASIC_CONSTRAINTS).2 = vec![0x30, 0]);
    assert_eq!(verdict, Err(CrossError::IssuerNotCa { index: 2 }));
    let verdict = issued(|_, p| p.cross.not_after = time(TODAY));
    assert_eq!(verdict.map(|path| path.not_after), Ok(TODAY));
}

// T27
#[test]
fn constraints_of_an_issuing_certificate_hold_for_everything_below() {
    let constrained = |value: Vec<u8>, alternative: Vec<Vec<u8>>| {
        issued(|m, p| {
            set(m, NAME_CONSTRAINTS, true, value);
            if !alternative.is_empty() {
                let names = tlv(0x30, &[&alternative.concat()]);
                set(&mut p.leaf, SUBJECT_ALT_NAME, false, names);
            }
        })
        .err()
    };
    let prefix = |unit: &str| directory(&name(&[(10, 0x0c, "Example"), (11, 0x0c, unit)]));
    let dns = |text: &str| tlv(0x82, &[text.as_bytes()]);
    let refused = Some(CrossError::NameConstraint { index: 0 });
    // Directory names: whole RDNs from the left, folded.
    let table = [
        (permitted(&[prefix("node")]), None),
        (permitted(&[prefix("NODE")]), None),
        (permitted(&[prefix("  node ")]), None),
        (
            permitted(&[directory(&name(&[
                (10, 0x13, "example"),
                (11, 0x13, "node"),
            ]))]),
            None,
        ),
        (permitted(&[prefix("nod")]), refused.clone()),
        (
            permitted(&[directory(&name(&[(10, 0x14, "Example")]))]),
            refused.clone(),
        ),
        (
            permitted(&[directory(&name(&[(11, 0x0c, "node")]))]),
            refused.clone(),
        ),
        (permitted(&[prefix("other"), prefix("node")]), None),
        (permitted(&[directory(&name(&[]))]), None),
        (excluded(&[prefix("other")]), None),
        (excluded(&[prefix("Node")]), refused.clone()),
        (excluded(&[directory(&name(&[]))]), refused.clone()),
        // Whether these are the same cannot be told, so they are.
        (
            excluded(&[directory(&name(&[(10, 0x1e, "\0E\0x")]))]),
            refused.clone(),
        ),
        (
            excluded(&[directory(&name(&[(10, 0x0c, "Exämple")]))]),
            refused.clone(),
        ),
        (
            excluded(&[directory(&name(&[(10, 0x0c, "Example"), (5, 0x13, "b2")]))]),
            None,
        ),
        // Constraints of other forms, and no name of theirs.
        (permitted(&[dns("example")]), None),
        (permitted(&[tlv(0x86, &[b"example"])]), None),
    ];
    for (value, expected) in table {
        assert_eq!(constrained(value.clone(), vec![]), expected, "{value:02x?}");
    }
    let both = tlv(
        0x30,
        &[
            &subtrees(0xa0, &[prefix("node")]),
            &subtrees(0xa1, &[prefix("node")]),
        ],
    );
    assert_eq!(constrained(both, vec![]), refused);
    // Host names: whole labels from the right.
    let table = [
        ("example", "a.example", true),
        ("example", "EXAMPLE", true),
        ("example", "an-example", false),
        ("example", "example.org", false),
        ("example", "*.example", true),
        (".example", "a.example", true),
        (".example", "example", false),
        ("", "anything", true),
        ("a.example", "*.example", false),
    ];
    for (base, host, inside) in table {
        let expected = if inside { None } else { refused.clone() };
        let value = permitted(&[dns(base)]);
        assert_eq!(
            constrained(value, vec![dns(host)]),
            expected,
            "{base} {host}"
        );
    }
    for (base, host, outside) in [
        ("example", "a.example", false),
        ("example", "other", true),
        ("a.example", "*.example", false),
        ("example", "a.example.", false),
        ("example", "a.ex\u{e4}mple", false),
    ] {
        let expected = if outside { None } else { refused.clone() };
        let value = excluded(&[dns(base)]);
        assert_eq!(
            constrained(value, vec![dns(host)]),
            expected,
            "{base} {host}"
        );
    }
    // Of other forms nothing is compared.
    for name in [
        tlv(0x86, &[b"https://example/"]),
        tlv(0x87, &[&[192, 0, 2, 1]]),
    ] {
        let base = [&name[..1], &[1, 0]].concat();
        assert_eq!(
            constrained(permitted(std::slice::from_ref(&base)), vec![name.clone()]),
            refused
        );
        assert_eq!(constrained(excluded(&[base]), vec![name]), refused);
    }
}

#[test]
fn as_many_subtrees_as_the_limit_are_compared_and_one_more_is_refused() {
    let bases = |count: usize| {
        let mut bases = vec![tlv(0x82, &[b"example"]); count - 1];
        bases.push(directory(&name(&[(10, 0x0c, "Example")])));
        permitted(&bases)
    };
    assert!(issued(|m, _| set(m, NAME_CONSTRAINTS, true, bases(MAX_SUBTREES))).is_ok());
    let error = issued(|m, _| set(m, NAME_CONSTRAINTS, true, bases(MAX_SUBTREES + 1)));
    let error = error.expect_err("too many");
    assert!(error.is_limit(), "{error:?}");
}

#[test]
fn an_authority_attests_only_what_its_own_certificate_allows() {
    let metadata = |networks: &[&str], roles: &[&str]| {
        let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
        let metadata = Metadata::new(owned(networks), owned(roles), vec![]);
        metadata.and_then(|m| m.to_der()).expect("within limits")
    };
    let scoped = |scope: Vec<u8>, said: Vec<u8>| {
        issued(|m, p| {
            set(m, &oid_of_metadata(), false, scope);
            set(&mut p.cross, &oid_of_metadata(), false, said);
        })
        .err()
    };
    let outside = |attested: &str| {
        Some(CrossError::OutOfScope {
            index: 1,
            attested: attested.to_owned(),
        })
    };
    let scope = metadata(&["fleet", "lab"], &["db"]);
    assert_eq!(scoped(scope.clone(), metadata(&["fleet"], &["db"])), None);
    assert_eq!(
        scoped(scope.clone(), metadata(&["fleet", "lab"], &[])),
        None
    );
    assert_eq!(
        scoped(scope.clone(), metadata(&["fleet", "other"], &[])),
        outside("other")
    );
    assert_eq!(
        scoped(scope, metadata(&["fleet"], &["db", "web"])),
        outside("web")
    );
    // What a list does not name it does not limit.
    assert_eq!(
        scoped(metadata(&["fleet"], &[]), metadata(&["fleet"], &["web"])),
        None
    );
    assert_eq!(
        scoped(metadata(&[], &["db"]), metadata(&["any"], &["web"])),
        outside("web")
    );
    // The anchor's scope counts as well.
    let verdict = changed(|p| {
        set(
            &mut p.root,
            &oid_of_metadata(),
            false,
            metadata(&["fleet"], &[]),
        );
        set(
            &mut p.cross,
            &oid_of_metadata(),
            false,
            metadata(&["lab"], &[]),
        );
    });
    assert_eq!(verdict.err(), outside("lab"));
}

/// A chain on which keys were replaced `steps` times below the cross-certificate.
fn rolled(steps: usize, change: impl Fn(&mut RawCertificate)) -> Presented {
    let mut presented = Presented::good();
    presented.rollover = Rollover::Accepted;
    for _ in 0..steps {
        let next = Party::new(presented.node.name.clone());
        let mut step = presented.node.cross(&next);
        change(&mut step);
        presented.more.push(step.sign(&presented.node.key));
        presented.node = next;
    }
    presented.leaf = presented.node.leaf();
    presented
}

#[test]
fn a_key_that_certifies_its_successor_counts_where_that_is_accepted() {
    let mut presented = rolled(1, |_| {});
    let path = presented.verify().expect("a good chain");
    assert_eq!(path.keys.len(), 4);
    // The certified key is the first one: what identifies the node does not change.
    assert_ne!(path.cross.key, presented.node.hash());
    presented.rollover = Rollover::Refused;
    assert_eq!(presented.verify(), Err(CrossError::Rollover { index: 2 }));
    assert!(rolled(4, |_| {}).verify().is_ok());
}

#[test]
fn a_successor_is_as_limited_as_the_cross_certificate() {
    let fault = |fault| Err(CrossError::Unconstrained { index: 2, fault });
    let verdict = rolled(1, |step| without(step, NAME_CONSTRAINTS)).verify();
    assert_eq!(verdict, fault(ConstraintFault::Missing));
    let longer = |step: &mut RawCertificate| {
        step.extension_mut(BASIC_CONSTRAINTS).2 = vec![0x30, 3, 1, 1, 0xff];
    };
    assert_eq!(
        rolled(1, longer).verify(),
        fault(ConstraintFault::PathLength)
    );
    let renamed = |step: &mut RawCertificate| step.subject = org("node", "b3");
    assert!(rolled(1, renamed).verify().is_err());
    let missing = rolled(1, |step| without(step, AUTHORITY_KEY_IDENTIFIER)).verify();
    assert!(
        matches!(missing, Err(CrossError::Missing { index: 2, .. })),
        "{missing:?}"
    );
}

#[test]
fn a_leaf_never_issues_another_one() {
    let mut presented = Presented::good();
    presented.rollover = Rollover::Accepted;
    // The leaf's key signs another leaf of the same name.
    let thief = Party::new(presented.node.name.clone());
    let mut stolen = presented.node.leaf();
    stolen.spki = thief.spki().to_vec();
    stolen.extension_mut(SUBJECT_KEY_IDENTIFIER).2 = tlv(4, &[&thief.id()]);
    presented.more.push(stolen.sign(&presented.node.key));
    presented.leaf = thief.leaf();
    presented.node = thief;
    assert_eq!(
        presented.verify(),
        Err(CrossError::IssuerNotCa { index: 2 })
    );
}

#[test]
fn an_authority_below_a_cross_certificate_is_refused() {
    let mut presented = Presented::good();
    let sub = Party::new(org("sub", "d4"));
    let below = certificate(&presented.node, &sub.name, sub.spki(), &ca(None));
    presented.more.push(below.sign(&presented.node.key));
    presented.leaf = sub.leaf();
    presented.node = sub;
    assert!(presented.verify().is_err());
    // Even where it is a cross-certificate itself.
    let mut presented = Presented::good();
    let sub = Party::new(org("sub", "d4"));
    presented
        .more
        .push(presented.node.cross(&sub).sign(&presented.node.key));
    presented.leaf = sub.leaf();
    presented.node = sub;
    assert_eq!(presented.verify(), Err(CrossError::PathLength { index: 1 }));
}

#[test]
fn a_replaced_key_of_the_authority_bridges_to_the_new_anchor() {
    let mut presented = Presented::good();
    presented.rollover = Rollover::Accepted;
    let new = Party::new(presented.authority.name.clone());
    let old_by_new = certificate(&new, &new.name, presented.authority.spki(), &ca(Some(1)));
    presented.more.push(old_by_new.sign(&new.key));
    let chain = presented.chain();
    let anchor = Anchor::from_der(&new.root().sign(&new.key)).expect("a CA");
    let verify = |rollover| verify_cross_path(&chain, [&anchor], Purpose::Dial, rollover, TODAY);
    assert_eq!(
        verify(Rollover::Accepted).map(|path| path.keys.len()),
        Ok(4)
    );
    assert_eq!(
        verify(Rollover::Refused),
        Err(CrossError::Rollover { index: 2 })
    );
}

#[test]
fn beside_certificates_of_one_name_identifiers_are_needed() {
    let mut presented = Presented::good();
    presented.rollover = Rollover::Accepted;
    let new = Party::new(presented.authority.name.clone());
    let old_by_new = certificate(&new, &new.name, presented.authority.spki(), &ca(Some(1)));
    presented.more.push(old_by_new.sign(&new.key));
    without(&mut presented.cross, AUTHORITY_KEY_IDENTIFIER);
    let chain = presented.chain();
    let anchor = Anchor::from_der(&new.root().sign(&new.key)).expect("a CA");
    let verdict = verify_cross_path(&chain, [&anchor], Purpose::Dial, Rollover::Accepted, TODAY);
    // Others try the anchor first, whose name fits as well.
    let missing = matches!(verdict, Err(CrossError::Missing { index: 1, .. }));
    assert!(missing, "{verdict:?}");
}

#[test]
fn the_order_of_what_is_presented_besides_the_leaf_changes_nothing() {
    let mut good = rolled(1, |_| {});
    // The node's own root, somebody else's cross-certificate, and the authority's root.
    good.more.push(good.node.root().sign(&good.node.key));
    let stranger = Presented::good();
    good.more.push(stranger.cross.sign(&stranger.authority.key));
    good.more.push(good.root.sign(&good.authority.key));
    let mut bad = Presented::good();
    bad.cross.extension_mut(NAME_CONSTRAINTS).1 = false;
    bad.more.push(bad.node.root().sign(&bad.node.key));
    bad.more.push(stranger.cross.sign(&stranger.authority.key));
    for (presented, expected) in [(good, true), (bad, false)] {
        let chain = presented.chain();
        let (leaf, others) = chain.der().split_first().expect("a leaf");
        for order in orders(others) {
            let chain = [vec![leaf.clone()], order].concat();
            let chain = PresentedChain::parse(&chain).expect("readable");
            let anchor = presented.anchor();
            let verdict =
                verify_cross_path(&chain, [&anchor], Purpose::Dial, presented.rollover, TODAY);
            match verdict {
                Ok(path) => assert!(expected, "{path:?}"),
                Err(CrossError::Unconstrained { fault, .. }) => {
                    assert_eq!((fault, expected), (ConstraintFault::NotCritical, false));
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}

fn orders(of: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    if of.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (index, first) in of.iter().enumerate() {
        let rest = [&of[..index], &of[index + 1..]].concat();
        for mut order in orders(&rest) {
            order.insert(0, first.clone());
            all.push(order);
        }
    }
    all
}

#[test]
fn a_member_of_five_networks_is_found_in_each_of_them() {
    let mut presented = Presented::good();
    presented.more.clear();
    let networks: Vec<Party> = (0..4)
        .map(|n| Party::new(org("authority", &format!("a{n}"))))
        .collect();
    // One of them has the name of the first network and another key.
    let twin = Party::new(org("authority", "a1"));
    let all: Vec<&Party> = networks.iter().chain([&twin]).collect();
    presented.authority = Party::new(org("authority", "unrecognised"));
    presented.cross = presented.authority.cross(&presented.node);
    for network in &all {
        let cross = network.cross(&presented.node);
        presented.more.push(cross.sign(&network.key));
    }
    presented
        .more
        .push(presented.node.root().sign(&presented.node.key));
    assert_eq!(presented.chain().der().len(), MAX_CERTIFICATES);
    let anchors: Vec<Anchor> = all
        .iter()
        .map(|network| Anchor::from_der(&network.root().sign(&network.key)).expect("a CA"))
        .collect();
    let chain = presented.chain();
    for rollover in [Rollover::Refused, Rollover::Accepted] {
        let paths = cross_paths(&chain, &anchors, Purpose::Dial, rollover, TODAY);
        let found: Vec<KeyHash> = paths.iter().map(|path| path.cross.issuer_key).collect();
        let expected: Vec<KeyHash> = all.iter().map(|network| network.hash()).collect();
        assert_eq!(found, expected);
        assert!(paths.iter().all(|path| path.keys.len() == 3));
    }
    let some = cross_paths(
        &chain,
        &anchors[2..3],
        Purpose::Dial,
        Rollover::Refused,
        TODAY,
    );
    assert_eq!(some.len(), 1);
}

/// Anchors of one name and without identifiers, of which the last one signed the cross-certificate.
fn among_anchors(count: usize) -> Result<CrossPath, CrossError> {
    let mut presented = Presented::good();
    without(&mut presented.cross, AUTHORITY_KEY_IDENTIFIER);
    let mut anchors: Vec<Anchor> = (1..count)
        .map(|_| Party::new(presented.authority.name.clone()))
        .map(|other| Anchor::from_der(&other.root().sign(&other.key)).expect("a CA"))
        .collect();
    anchors.push(presented.anchor());
    let chain = presented.chain();
    verify_cross_path(&chain, &anchors, Purpose::Dial, Rollover::Refused, TODAY)
}

#[test]
fn as_many_signatures_as_the_budget_are_verified_and_not_one_more() {
    // One for each anchor, and one for the leaf.
    assert!(among_anchors(MAX_CROSS_SIGNATURES - 1).is_ok());
    let error = among_anchors(MAX_CROSS_SIGNATURES).expect_err("one too many");
    assert_eq!(error, CrossError::TooComplex);
    assert!(error.is_limit());
}

#[test]
fn certificates_that_all_name_one_another_are_too_entangled() {
    let mut presented = Presented::good();
    presented.rollover = Rollover::Accepted;
    let keys: Vec<Party> = (0..6)
        .map(|_| Party::new(presented.node.name.clone()))
        .collect();
    for key in &keys {
        let mut step = presented.node.cross(key);
        without(&mut step, AUTHORITY_KEY_IDENTIFIER);
        without(&mut step, SUBJECT_KEY_IDENTIFIER);
        presented.more.push(step.sign(&presented.node.key));
    }
    without(&mut presented.cross, SUBJECT_KEY_IDENTIFIER);
    presented.leaf.not_after = time(TODAY - DAY);
    assert_eq!(presented.verify(), Err(CrossError::TooComplex));
    // A path is found all the same where there is one, shortest first.
    presented.leaf.not_after = time(TODAY + DAY);
    assert_eq!(presented.verify().map(|path| path.keys.len()), Ok(3));
}

#[test]
fn names_of_as_many_attributes_as_the_limit_are_read_and_one_more_is_refused() {
    let named = |attributes: usize| {
        let long = name(&vec![(11, 0x0c, "unit"); attributes]);
        Presented::new(Party::new(org("authority", "a1")), Party::new(long))
    };
    assert!(named(MAX_NAME_ATTRIBUTES).verify().is_ok());
    // Whether they are in RDNs of their own or in one does not matter.
    let together = vec![attribute(11, 0x0c, "unit"); MAX_NAME_ATTRIBUTES + 1].concat();
    let together = tlv(0x30, &[&tlv(0x31, &[&together])]);
    let one = Presented::new(Party::new(org("authority", "a1")), Party::new(together));
    for presented in [named(MAX_NAME_ATTRIBUTES + 1), one] {
        let error = presented.verify().expect_err("one too many");
        assert!(error.is_limit(), "{error:?}");
    }
}

/// Every order of these is a candidate, and each candidate has all the names: 62 RDNs once took
/// twenty milliseconds.
#[test]
fn long_names_in_entangled_certificates_are_refused_as_they_are_read() {
    let entangled = |attributes: usize| {
        // The shortest there are: an object identifier of one byte, and no text.
        let part = [0x31, 7, 0x30, 5, 6, 1, 0x2a, 0x13, 0];
        let long = tlv(0x30, &[&part.repeat(attributes)]);
        let mut presented =
            Presented::new(Party::new(org("authority", "a1")), Party::new(long.clone()));
        presented.rollover = Rollover::Accepted;
        for step in 0..6_u8 {
            let (mut own, mut above) = (presented.node.id(), presented.node.id());
            own[0] = step % 2;
            above[0] = (step + 1) % 2;
            let mut step = presented.node.cross(&Party::new(long.clone()));
            set(&mut step, SUBJECT_KEY_IDENTIFIER, false, tlv(4, &[&own]));
            let above = tlv(0x30, &[&tlv(0x80, &[&above])]);
            set(&mut step, AUTHORITY_KEY_IDENTIFIER, false, above);
            presented.more.push(step.sign(&presented.node.key));
        }
        presented.verify()
    };
    let error = entangled(62).expect_err("refused");
    let fault = CertificateFault::NameTooLong;
    assert_eq!(error, CrossError::Certificate { index: 0, fault });
}

#[test]
fn as_many_names_of_an_issuer_as_the_limit_are_compared_and_one_more_is_refused() {
    let identified = |count: usize| {
        changed(|p| {
            let issuer = tlv(0xa1, &[&directory(&p.authority.name).repeat(count)]);
            let serial = content(&p.root.serial).to_vec();
            let named = tlv(0x30, &[&issuer, &tlv(0x82, &[&serial])]);
            set(&mut p.cross, AUTHORITY_KEY_IDENTIFIER, false, named);
        })
    };
    assert!(identified(MAX_SANS).is_ok());
    let error = identified(MAX_SANS + 1).expect_err("one too many");
    assert!(error.is_limit(), "{error:?}");
}

#[test]
fn a_certificate_that_is_presented_twice_counts_once() {
    let mut presented = rolled(1, |_| {});
    let copy = presented.more[0].clone();
    presented.more.extend([copy.clone(), copy.clone(), copy]);
    let path = presented.verify().expect("a good chain");
    assert_eq!(path.keys.len(), 4);
}

#[test]
fn messages_name_places_and_can_be_printed() {
    let error = CrossError::WrongPurpose {
        index: 0,
        purpose: Purpose::Dial,
    };
    assert_eq!(
        error.to_string(),
        "certificate 1 of the path is not meant for clients"
    );
    let error = unconstrained(ConstraintFault::NotCritical);
    assert_eq!(
        error.to_string(),
        "certificate 2 of the chain is not limited to its own name: its name constraints are not critical"
    );
}

fn oid_of_metadata() -> Vec<u8> {
    comity_certs::oid::METADATA.as_bytes().to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_change_to_any_byte_is_refused_or_changes_nothing(
        certificate in 0..2_usize,
        place in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let presented = Presented::good();
        let mut der = presented.chain().der().to_vec();
        let place = place.index(der[certificate].len());
        let changed = der[certificate][place] != value;
        der[certificate][place] = value;
        let anchor = presented.anchor();
        let accepted = PresentedChain::parse(&der).is_ok_and(|chain| {
            verify_cross_path(&chain, [&anchor], Purpose::Dial, Rollover::Accepted, TODAY).is_ok()
        });
        prop_assert_eq!(accepted, !changed);
    }

    #[test]
    fn constraints_of_any_bytes_never_panic_and_permit_nobody_else(
        value in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let verdict = changed(|p| p.cross.extension_mut(NAME_CONSTRAINTS).2 = value);
        prop_assert!(verdict.is_err());
    }
}
