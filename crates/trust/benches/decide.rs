//! Loading 100,000 entries (at most 300 ms), editing them (100 ms) and deciding among them (5 µs).
//! Parsing the peer's certificates is not part of a decision. (T73)
//!
//! Among the same entries: a member of a network (at most 400 µs, which is two signatures and what
//! the validator needs), and a pinned peer where authorities are known that say nothing of it.

// By path instead of a dependency: the testkit needs every crate above this one to compile.
#[allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a factory for all crates, which makes keys; no single one uses all of it"
)]
#[path = "../../testkit/src/authorities.rs"]
mod authorities;
#[allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a factory for all crates, which makes keys; no single one uses all of it"
)]
#[path = "../../testkit/src/certificates.rs"]
mod certificates;

use std::hint::black_box;
use std::sync::LazyLock;

use comity_certs::PresentedChain;
use comity_identity::{KeyHash, UnixTime};
use comity_trust::{
    Direction, Edit, Entry, Expectation, Invited, KnownPeers, Mode, Name, Names, Networks, Phase,
    Pin, Query, Side, Standing, SuccessionPolicy, Verdict, What, decide,
};
use divan::Bencher;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use authorities::{CrossOptions, Organisation};
use certificates::Node;

const ENTRIES: u32 = 100_000;

/// 2026-03-01T12:00:00Z.
const NOW: UnixTime = UnixTime::from_secs(1_772_366_400);

fn main() {
    divan::main();
}

static PEER: LazyLock<PresentedChain> = LazyLock::new(|| {
    let mut params = CertificateParams::new(vec!["peer50000.example".to_owned()]).expect("params");
    params.not_before = date_time_ymd(2026, 2, 1);
    params.not_after = date_time_ymd(2026, 4, 1);
    let key = KeyPair::generate().expect("key");
    let certificate = params.self_signed(&key).expect("certificate");
    PresentedChain::parse(&[certificate.der()]).expect("chain")
});

/// A file as it grows in use: a label and an address per peer, grants, dates; the peer is in the
/// middle, and one key in a hundred is revoked.
static TEXT: LazyLock<String> = LazyLock::new(|| {
    let mut text = String::from("comity-known-peers v1\n");
    for number in 0..ENTRIES {
        let pin = if number == ENTRIES / 2 {
            Pin::from(PEER.peer_id())
        } else {
            Pin::Key(KeyHash::of_spki(&number.to_be_bytes()))
        };
        let marker = if number % 100 == 7 { "@revoked " } else { "" };
        text.push_str(&format!(
            "{marker}both peer{number},peer{number}.example:7117 {pin} addr=192.0.2.1:7117 for=pg \
             origin=first-use added=2026-02-02T09:14:07Z\n"
        ));
    }
    text
});

static KNOWN: LazyLock<KnownPeers> = LazyLock::new(|| KnownPeers::parse(&TEXT).expect("text"));

static NETWORKS: Networks = Networks::empty();

static ORGANISATION: LazyLock<Organisation> = LazyLock::new(|| Organisation::new("corp"));

static WITH_AUTHORITY: LazyLock<Networks> =
    LazyLock::new(|| Networks::new(vec![ORGANISATION.authority(Standing::Recognised)]));

static MEMBER: LazyLock<PresentedChain> = LazyLock::new(|| {
    let node = Node::new();
    let cross = ORGANISATION.certify(&node.root, &CrossOptions::roles(&["reader"]));
    let chain = node
        .dial
        .with_memberships(&[&cross, &ORGANISATION.issuing[0].der]);
    PresentedChain::parse(&chain).expect("chain")
});

fn expecting(name: &str) -> Expectation {
    let name = Name::parse(name).expect("name");
    Expectation {
        server_name: name.server_name(),
        name: Some(name),
        ..Expectation::default()
    }
}

fn ask(direction: Direction, mode: Mode, expectation: &Expectation) -> Verdict {
    ask_of(&PEER, &NETWORKS, direction, mode, expectation)
}

fn ask_of(
    chain: &PresentedChain,
    networks: &Networks,
    direction: Direction,
    mode: Mode,
    expectation: &Expectation,
) -> Verdict {
    decide(&Query {
        direction,
        mode,
        phase: Phase::Gate,
        chain,
        expectation,
        known: &KNOWN,
        system_roots: &[],
        own: &[],
        networks,
        succession: SuccessionPolicy::default(),
        invited: Invited::No,
        now: NOW,
    })
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn load(bencher: Bencher<'_, '_>) {
    LazyLock::force(&TEXT);
    bencher.bench_local(|| KnownPeers::parse(black_box(&TEXT)).expect("text"));
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn add_one_entry(bencher: Bencher<'_, '_>) {
    let names = Names::one(Name::parse("newcomer").expect("name"));
    let pin = What::Pin(Pin::Key(KeyHash::of_spki(b"new")));
    let entry = Box::new(Entry::new(Side::Both, names, pin));
    LazyLock::force(&KNOWN);
    bencher.bench_local(|| KNOWN.with(Edit::Add(entry.clone())).expect("added"));
}

#[divan::bench]
fn dial_a_known_peer(bencher: Bencher<'_, '_>) {
    let expectation = expecting("peer50000.example:7117");
    assert!(
        ask(Direction::Dial, Mode::CaOrTofu, &expectation)
            .recognition()
            .is_some()
    );
    bencher.bench_local(|| ask(Direction::Dial, Mode::CaOrTofu, black_box(&expectation)));
}

#[divan::bench]
fn dial_a_changed_peer(bencher: Bencher<'_, '_>) {
    let expectation = expecting("peer49999.example:7117");
    assert!(
        ask(Direction::Dial, Mode::CaOrTofu, &expectation)
            .refusal()
            .is_some()
    );
    bencher.bench_local(|| ask(Direction::Dial, Mode::CaOrTofu, black_box(&expectation)));
}

#[divan::bench]
fn meet_a_stranger(bencher: Bencher<'_, '_>) {
    let expectation = expecting("new.example:7117");
    assert!(
        ask(Direction::Dial, Mode::Tofu, &expectation)
            .recognition()
            .is_some()
    );
    bencher.bench_local(|| ask(Direction::Dial, Mode::Tofu, black_box(&expectation)));
}

#[divan::bench]
fn accept_a_known_peer(bencher: Bencher<'_, '_>) {
    let expectation = Expectation::default();
    assert!(
        ask(Direction::Accept, Mode::Enroll, &expectation)
            .recognition()
            .is_some()
    );
    bencher.bench_local(|| ask(Direction::Accept, Mode::Enroll, black_box(&expectation)));
}

#[divan::bench]
fn accept_a_known_peer_beside_an_authority(bencher: Bencher<'_, '_>) {
    let expectation = Expectation::default();
    let ask = || {
        ask_of(
            &PEER,
            &WITH_AUTHORITY,
            Direction::Accept,
            Mode::Enroll,
            black_box(&expectation),
        )
    };
    assert!(ask().recognition().is_some());
    bencher.bench_local(ask);
}

#[divan::bench]
fn accept_a_member(bencher: Bencher<'_, '_>) {
    let expectation = Expectation::default();
    let ask = || {
        ask_of(
            &MEMBER,
            &WITH_AUTHORITY,
            Direction::Accept,
            Mode::Enroll,
            black_box(&expectation),
        )
    };
    assert!(
        ask()
            .recognition()
            .is_some_and(|peer| peer.memberships.len() == 1)
    );
    bencher.bench_local(ask);
}
