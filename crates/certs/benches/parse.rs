//! What a presented chain costs before any decision. A handshake waits for it, so a native chain,
//! with its two signatures, is meant to stay well below 150 µs.

// By path instead of a dependency: the testkit needs every crate above this one to compile.
#[allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    reason = "a factory for all crates, impure, and no single one uses all of it"
)]
#[path = "../../testkit/src/certificates.rs"]
mod certificates;

use certificates::{Authority, Foreign, ForeignKey, LeafOptions, Node, TODAY};
use comity_certs::limits::{MAX_CERTIFICATES, MAX_SANS};
use comity_certs::{Anchor, Metadata, PresentedChain, Purpose, authority_above, verify_ca_path};
use comity_identity::Algorithm;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

#[divan::bench(args = [Algorithm::EcdsaP256, Algorithm::Ed25519])]
fn native_chain(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let chain = Node::with_algorithm(algorithm).serve.chain;
    bencher.bench(|| PresentedChain::parse(black_box(&chain)));
}

#[divan::bench]
fn native_chain_with_all_names_and_metadata(bencher: Bencher<'_, '_>) {
    let roles = (0..16).map(|i| format!("role-{i}")).collect();
    let options = LeafOptions {
        dns: (0..MAX_SANS).map(|i| format!("n{i}.example")).collect(),
        metadata: Metadata::new(vec!["fleet".into()], roles, vec![]).expect("within limits"),
        ..LeafOptions::default()
    };
    let chain = Node::with_options(Algorithm::EcdsaP256, &options)
        .serve
        .chain;
    bencher.bench(|| PresentedChain::parse(black_box(&chain)));
}

#[divan::bench]
fn foreign_self_signed(bencher: Bencher<'_, '_>) {
    let chain = Foreign::server("db1.example").self_signed().chain;
    bencher.bench(|| PresentedChain::parse(black_box(&chain)));
}

/// A full chain that looks native up to the last check.
#[divan::bench]
fn largest_refused_chain(bencher: Bencher<'_, '_>) {
    let node = Node::new();
    let mut chain = vec![node.serve.chain[0].clone(); MAX_CERTIFICATES - 1];
    chain.push(Node::new().root);
    bencher.bench(|| PresentedChain::parse(black_box(&chain)));
}

/// A public server: one intermediate, and as many roots as a system has.
#[divan::bench(args = [1, 144])]
fn ca_path(bencher: Bencher<'_, '_>, anchors: usize) {
    let root = Foreign::authority("root").root();
    let middle = Foreign::authority("middle").intermediate(&root);
    let leaf = Foreign::server("db1.example").issued_by(&middle);
    let chain = PresentedChain::parse(&leaf.followed_by(&[&middle.der]).chain).expect("sound");
    let mut anchors: Vec<Anchor> = (1..anchors)
        .map(|i| Foreign::authority(&format!("other {i}")).root())
        .map(|other| Anchor::from_der(&other.der).expect("a CA"))
        .collect();
    anchors.push(Anchor::from_der(&root.der).expect("a CA"));
    bencher.bench(|| verify_ca_path(black_box(&chain), &anchors, Purpose::Serve, TODAY));
}

/// The certificates that take a path search longest, from somebody whom no CA knows: three names
/// with two certificates each, in a circle through the anchor's name. At most a few milliseconds.
#[divan::bench(args = [ForeignKey::P256, ForeignKey::P384])]
fn hostile_ca_path(bencher: Bencher<'_, '_>, key: ForeignKey) {
    let (chain, anchor) = entangled(key);
    assert!(verify_ca_path(&chain, [&anchor], Purpose::Serve, TODAY).is_err());
    bencher.bench(|| verify_ca_path(black_box(&chain), [&anchor], Purpose::Serve, TODAY));
}

/// The same certificates, when the CA of this name is a revoked one.
#[divan::bench(args = [ForeignKey::P256, ForeignKey::P384])]
fn hostile_lineage(bencher: Bencher<'_, '_>, key: ForeignKey) {
    let (chain, anchor) = entangled(key);
    assert_eq!(authority_above(&chain, [&anchor]), None);
    bencher.bench(|| authority_above(black_box(&chain), [&anchor]));
}

fn entangled(key: ForeignKey) -> (PresentedChain, Anchor) {
    let authority = |name: &str| Foreign {
        key,
        ..Foreign::authority(name)
    };
    let [a, b, c]: [Authority; 3] = ["a", "b", "c"].map(|name| authority(name).root());
    let below = |name: &str, above: &Authority| authority(name).intermediate(above).der;
    let circle = [
        below("a", &b),
        below("a", &b),
        below("b", &c),
        below("b", &c),
        below("c", &a),
        below("c", &a),
        below("d", &a),
    ];
    let circle: Vec<&[u8]> = circle.iter().map(Vec::as_slice).collect();
    let leaf = Foreign::server("db1.example")
        .issued_by(&a)
        .followed_by(&circle);
    let chain = PresentedChain::parse(&leaf.chain).expect("sound");
    let anchor = Anchor::from_der(&authority("a").root().der).expect("a CA");
    (chain, anchor)
}
