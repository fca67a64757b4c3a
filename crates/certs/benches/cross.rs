//! What a path below a cross-certificate costs: a handshake with a member waits for it. A good
//! chain is meant to stay below 400 µs, the worst one within limits below 5 ms.

// By path instead of a dependency: the testkit needs every crate above this one to compile.
#[allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    reason = "a factory for all crates, impure, and no single one uses all of it"
)]
#[path = "../../testkit/src/certificates.rs"]
mod certificates;

use certificates::{
    DAY, Foreign, ForeignKey, Node, RawCertificate, TODAY, TestKey, random_serial, tlv,
};
use comity_certs::{
    Anchor, AuthorityRootRequest, CrossError, CrossRequest, Metadata, PresentedChain, Purpose,
    Rollover, cross_paths, mint_authority_root, mint_cross, verify_cross_path,
};
use comity_identity::Algorithm;
use divan::{Bencher, black_box};
use rcgen::{CustomExtension, KeyUsagePurpose};

const SUBJECT_KEY_IDENTIFIER: [u8; 3] = [0x55, 0x1d, 14];
const NAME_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 30];
const AUTHORITY_KEY_IDENTIFIER: [u8; 3] = [0x55, 0x1d, 35];

fn main() {
    divan::main();
}

/// Leaf, cross-certificate and own root, parsed (with both signatures of a native chain) and
/// verified, below one of several networks that the verifier knows.
#[divan::bench(args = [1, 64])]
fn member(bencher: Bencher<'_, '_>, networks: usize) {
    let node = Node::new();
    let networks: Vec<Network> = (0..networks).map(|_| Network::new()).collect();
    let chain = native(&node, &networks[..1]);
    let anchors: Vec<Anchor> = networks.into_iter().map(|network| network.anchor).collect();
    bencher.bench(|| {
        let chain = PresentedChain::parse(black_box(&chain)).expect("sound");
        verify(&chain, &anchors).expect("a member")
    });
}

/// The verification alone, of a chain that nobody has asked about.
#[divan::bench]
fn member_after_parsing(bencher: Bencher<'_, '_>) {
    let node = Node::new();
    let network = Network::new();
    let chain = native(&node, std::slice::from_ref(&network));
    let anchors = [network.anchor];
    bencher
        .with_inputs(|| PresentedChain::parse(&chain).expect("sound"))
        .bench_refs(|chain| verify(black_box(chain), &anchors).expect("a member"));
}

/// A member of five networks, all of which the verifier knows.
#[divan::bench]
fn member_of_five_networks(bencher: Bencher<'_, '_>) {
    let node = Node::new();
    let networks: Vec<Network> = (0..5).map(|_| Network::new()).collect();
    let chain = native(&node, &networks);
    let anchors: Vec<Anchor> = networks.into_iter().map(|network| network.anchor).collect();
    let find = |chain: &mut PresentedChain| {
        cross_paths(
            black_box(&*chain),
            &anchors,
            Purpose::Dial,
            Rollover::Refused,
            TODAY,
        )
    };
    let fresh = || PresentedChain::parse(&chain).expect("sound");
    assert_eq!(find(&mut fresh()).len(), 5);
    bencher.with_inputs(fresh).bench_refs(find);
}

/// Seven cross-certificates without key identifiers, below three authorities that share a name and
/// signed none of them: every signature of the budget is verified.
#[divan::bench(args = [ForeignKey::P256, ForeignKey::P384])]
fn hostile_signatures(bencher: Bencher<'_, '_>, key: ForeignKey) {
    let (chain, anchors) = below_many(key);
    let search = || verify(black_box(&chain), &anchors);
    assert_eq!(search(), Err(CrossError::TooComplex));
    bencher.bench(search);
}

/// Seven certificates of one name that all fit one another: every step of the budget is taken.
#[divan::bench]
fn hostile_steps(bencher: Bencher<'_, '_>) {
    let (chain, anchor) = entangled();
    let search = || {
        let (purpose, rollover) = (Purpose::Dial, Rollover::Accepted);
        verify_cross_path(black_box(&chain), [&anchor], purpose, rollover, TODAY)
    };
    assert_eq!(search(), Err(CrossError::TooComplex));
    bencher.bench(search);
}

/// Seven certificates whose names have as many parts, and which have nearly as many bytes, as there
/// may be, and whose key identifiers are as demanded: candidates are right but for their signatures.
#[divan::bench]
fn hostile_candidates(bencher: Bencher<'_, '_>) {
    let (chain, anchor) = alternating();
    let search = || {
        let (purpose, rollover) = (Purpose::Dial, Rollover::Accepted);
        verify_cross_path(black_box(&chain), [&anchor], purpose, rollover, TODAY)
    };
    assert_eq!(search(), Err(CrossError::BadSignature { index: 1 }));
    bencher.bench(search);
}

fn verify(
    chain: &PresentedChain,
    anchors: &[Anchor],
) -> Result<comity_certs::CrossPath, CrossError> {
    verify_cross_path(chain, anchors, Purpose::Dial, Rollover::Refused, TODAY)
}

struct Network {
    key: TestKey,
    root: Vec<u8>,
    anchor: Anchor,
}

impl Network {
    fn new() -> Self {
        let key = TestKey::generate(Algorithm::EcdsaP256);
        let request = AuthorityRootRequest {
            serial: random_serial(),
            not_before: TODAY - DAY,
            not_after: TODAY + 3650 * DAY,
        };
        let root = mint_authority_root(&key, &request).expect("a sound request");
        let anchor = Anchor::from_der(&root).expect("a CA");
        Self { key, root, anchor }
    }
}

fn native(node: &Node, networks: &[Network]) -> Vec<Vec<u8>> {
    let metadata = Metadata::new(vec!["fleet".into()], vec!["db".into()], vec![]);
    let metadata = metadata.expect("within limits");
    let cross = |network: &Network| {
        let request = CrossRequest {
            root: &node.root,
            serial: random_serial(),
            not_before: TODAY - DAY,
            not_after: TODAY + 90 * DAY,
            metadata: &metadata,
        };
        mint_cross(&network.root, &network.key, &request).expect("a sound request")
    };
    let [leaf, root] = node.dial.chain.as_slice() else {
        panic!("a native chain");
    };
    let crosses: Vec<Vec<u8>> = networks.iter().map(cross).collect();
    [vec![leaf.clone()], crosses, vec![root.clone()]].concat()
}

fn below_many(key: ForeignKey) -> (PresentedChain, Vec<Anchor>) {
    let authority = |name: &str| Foreign {
        key,
        ..Foreign::authority(name)
    };
    let mut name = rcgen::DistinguishedName::new();
    name.push(rcgen::DnType::CommonName, "n");
    let limited = Foreign {
        ca: Some(Some(0)),
        name_constraints: Some(rcgen::NameConstraints {
            permitted_subtrees: vec![rcgen::GeneralSubtree::DirectoryName(name)],
            excluded_subtrees: Vec::new(),
        }),
        ..authority("n")
    };
    let (node, stranger) = (authority("n").root(), authority("a").root());
    let crosses: Vec<Vec<u8>> = (0..7).map(|_| limited.cross(&node, &stranger)).collect();
    let own = RawCertificate::of(&crosses[0])
        .extension_mut(&SUBJECT_KEY_IDENTIFIER)
        .2
        .clone();
    let extension = |oid: &[u64], value: Vec<u8>| CustomExtension::from_oid_content(oid, value);
    let leaf = Foreign {
        key_usages: vec![KeyUsagePurpose::DigitalSignature],
        extensions: vec![
            extension(&[2, 5, 29, 19], vec![0x30, 0]),
            extension(&[2, 5, 29, 14], vec![4, 1, 7]),
            extension(&[2, 5, 29, 35], tlv(0x30, &[&tlv(0x80, &[&own[2..]])])),
        ],
        ..Foreign::client("n")
    };
    let crosses: Vec<&[u8]> = crosses.iter().map(Vec::as_slice).collect();
    let chain = leaf.issued_by(&node).followed_by(&crosses).chain;
    let anchors = (0..3).map(|_| Anchor::from_der(&authority("a").root().der).expect("a CA"));
    (
        PresentedChain::parse(&chain).expect("sound"),
        anchors.collect(),
    )
}

/// Leaf, a cross-certificate that names the anchor, and six certificates of one name that point at
/// each other in turn.
fn alternating() -> (PresentedChain, Anchor) {
    let (node, network) = (Node::new(), Network::new());
    let [leaf, cross, _] = native(&node, std::slice::from_ref(&network))
        .try_into()
        .expect("three");
    let part = [0x31, 14, 0x30, 12, 6, 1, 0x2a, 0x13, 7];
    let name = tlv(0x30, &[&[&part, b"exampl3".as_slice()].concat().repeat(32)]);
    let constraints = tlv(0x30, &[&tlv(0xa0, &[&tlv(0x30, &[&tlv(0xa4, &[&name])])])]);
    let identify = |certificate: &mut RawCertificate, own: u8, above: u8| {
        certificate.extension_mut(&SUBJECT_KEY_IDENTIFIER).2 = tlv(4, &[&[own]]);
        certificate.extension_mut(&AUTHORITY_KEY_IDENTIFIER).2 =
            tlv(0x30, &[&tlv(0x80, &[&[above]])]);
    };
    let mut leaf = RawCertificate::of(&leaf);
    (leaf.subject, leaf.issuer) = (name.clone(), name.clone());
    identify(&mut leaf, 9, 0);
    let mut cross = RawCertificate::of(&cross);
    cross.subject = name.clone();
    cross.extension_mut(&NAME_CONSTRAINTS).2 = constraints;
    let mut step = cross.clone();
    step.issuer = name;
    cross.extension_mut(&SUBJECT_KEY_IDENTIFIER).2 = tlv(4, &[&[0]]);
    let steps = (0..6).map(|number| {
        let mut step = step.clone();
        step.spki =
            comity_identity::Signer::spki(&TestKey::generate(Algorithm::EcdsaP256)).to_vec();
        identify(&mut step, number % 2, (number + 1) % 2);
        step.sign(&node.identity)
    });
    let chain = [leaf.sign(&node.identity), cross.sign(&node.identity)];
    let chain: Vec<Vec<u8>> = chain.into_iter().chain(steps).collect();
    (
        PresentedChain::parse(&chain).expect("sound"),
        network.anchor,
    )
}

fn entangled() -> (PresentedChain, Anchor) {
    let (node, network) = (Node::new(), Network::new());
    let [leaf, cross, _] = native(&node, std::slice::from_ref(&network))
        .try_into()
        .expect("three");
    // Not a node's name, so that the certificates need not be those of one.
    let name = RawCertificate::of(&Foreign::default().self_signed().chain[0]).subject;
    let constraints = tlv(0x30, &[&tlv(0xa0, &[&tlv(0x30, &[&tlv(0xa4, &[&name])])])]);
    let mut leaf = RawCertificate::of(&leaf);
    (leaf.subject, leaf.issuer) = (name.clone(), name.clone());
    let mut cross = RawCertificate::of(&cross);
    cross.subject = name.clone();
    cross.extension_mut(&NAME_CONSTRAINTS).2 = constraints;
    let mut step = cross.clone();
    step.issuer = name;
    let steps = (0..6).map(|_| {
        let mut step = step.clone();
        step.spki =
            comity_identity::Signer::spki(&TestKey::generate(Algorithm::EcdsaP256)).to_vec();
        step.extensions
            .retain(|(oid, ..)| *oid != SUBJECT_KEY_IDENTIFIER && *oid != AUTHORITY_KEY_IDENTIFIER);
        step.sign(&node.identity)
    });
    // The network did not sign it, which is found out once.
    let chain = [leaf.sign(&node.identity), cross.sign(&node.identity)];
    let chain: Vec<Vec<u8>> = chain.into_iter().chain(steps).collect();
    (
        PresentedChain::parse(&chain).expect("sound"),
        network.anchor,
    )
}
