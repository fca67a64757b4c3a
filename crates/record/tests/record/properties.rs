//! What holds for all inputs.

use std::sync::LazyLock;

use comity_identity::{Algorithm, KeyHash, NodeId, UnixTime};
use comity_record::{
    Bundle, Charter, KeyRevocation, KeyRevocationRequest, Location, Succession, SuccessionChain,
    SuccessionRequest, Withdrawal, WithdrawnWhat,
};
use proptest::prelude::*;

use crate::certificates::{DAY, TODAY, TestKey};
use crate::world::{ACTIVE, Held, Org, RETIRING, after, charter, first, request};

/// One sound object of each kind.
struct Sound {
    succession: Vec<u8>,
    chain: Vec<u8>,
    revocation: Vec<u8>,
    charter: Vec<u8>,
    bundle: Vec<u8>,
}

static SOUND: LazyLock<Sound> = LazyLock::new(|| {
    let keys = [
        Algorithm::EcdsaP256,
        Algorithm::Ed25519,
        Algorithm::EcdsaP256,
    ];
    let keys = keys.map(TestKey::generate);
    let one = first().sign(&keys[0], &keys[1]).expect("sound");
    let two = after(&one).sign(&keys[1], &keys[2]).expect("sound");
    let mut chain = SuccessionChain::new(one.clone());
    chain.push(two).expect("it follows");
    let revocation = KeyRevocationRequest {
        key: one.new(),
        at: TODAY,
        reason: None,
    };
    let org = Org::new();
    let new = Held::root_with(Algorithm::Ed25519);
    let below = Held::issuing_below(&new);
    let keys_of_two = [
        (&org.root, RETIRING),
        (&org.issuing, RETIRING),
        (&new, ACTIVE),
        (&below, ACTIVE),
    ];
    let second = charter(&org.root, 2, &keys_of_two, &[&org.root, &new]);
    let withdrawn = [
        Withdrawal {
            what: WithdrawnWhat::Certificate {
                issuer: org.issuing.hash(),
                serial: vec![1, 2, 3],
            },
            at: TODAY,
        },
        Withdrawal {
            what: WithdrawnWhat::Key(KeyHash::from_bytes([1; 32])),
            at: TODAY,
        },
    ];
    let bundle = request(3, &[&org.founding, &second], &withdrawn);
    let bundle = bundle.sign(&below.key).expect("sound");
    Sound {
        succession: one.bytes().to_vec(),
        chain: chain.encode(),
        revocation: revocation.sign(&keys[1]).expect("sound").bytes().to_vec(),
        charter: second.bytes().to_vec(),
        bundle: bundle.bytes().to_vec(),
    }
});

/// Everything reads `bytes`; whatever accepts them gives them back.
fn read(bytes: &[u8]) -> bool {
    let mut accepted = false;
    let mut same = |written: &[u8]| {
        assert_eq!(written, bytes);
        accepted = true;
    };
    if let Ok(read) = Succession::parse(bytes) {
        same(read.bytes());
    }
    if let Ok(read) = SuccessionChain::parse(bytes) {
        same(&read.encode());
    }
    if let Ok(read) = KeyRevocation::parse(bytes) {
        same(read.bytes());
    }
    if let Ok(read) = Charter::parse(bytes) {
        same(read.bytes());
    }
    if let Ok(read) = Bundle::parse(bytes) {
        same(read.bytes());
    }
    accepted
}

#[test]
fn sound_objects_are_accepted_and_changed_by_one_bit_refused() {
    let sound = &*SOUND;
    for bytes in [
        &sound.succession,
        &sound.chain,
        &sound.revocation,
        &sound.charter,
        &sound.bundle,
    ] {
        assert!(read(bytes));
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1 << (place % 8);
            assert!(!read(&changed), "byte {place}");
        }
        for length in 0..bytes.len() {
            assert!(!read(&bytes[..length]), "cut to {length}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(!read(&bytes));
    }

    #[test]
    fn no_change_of_a_sound_object_is_accepted(
        which in 0..5_usize,
        place in any::<prop::sample::Index>(),
        replaced in 0..8_usize,
        by in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        let sound = &*SOUND;
        let original = [
            &sound.succession,
            &sound.chain,
            &sound.revocation,
            &sound.charter,
            &sound.bundle,
        ][which];
        let start = place.index(original.len());
        let end = (start + replaced).min(original.len());
        let mut changed = original.clone();
        changed.splice(start..end, by);
        prop_assert!(changed == *original || !read(&changed));
    }

    #[test]
    fn a_location_that_is_read_has_one_spelling(text in "https://[a-zA-Z0-9.:\\[\\]-]{1,20}/[!-~]{0,20}") {
        if let Ok(location) = text.parse::<Location>() {
            let written = location.to_string();
            prop_assert_eq!(written.parse::<Location>(), Ok(location));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_sound_request_is_read_back(
        network in proptest::option::of(any::<[u8; 32]>()),
        previous in any::<[u8; 32]>(),
        sequence in 1..u64::MAX,
        issued in 0..UnixTime::NEVER.as_secs() - 90 * 86400,
        overlap in 0..=90_u32 * 86400,
        next in proptest::option::of(any::<[u8; 32]>()),
        reason in proptest::option::of("[a-z0-9][a-z0-9._-]{0,15}"),
    ) {
        let issued = UnixTime::from_secs(issued);
        let asked = SuccessionRequest {
            network: network.map(NodeId::from_bytes),
            sequence,
            previous: (sequence > 1).then_some(previous),
            issued,
            overlap_end: issued + DAY * overlap / 86400,
            next: next.map(KeyHash::from_bytes),
            reason,
        };
        let keys = [Algorithm::Ed25519; 2].map(TestKey::generate);
        let made = asked.sign(&keys[0], &keys[1]).expect("a sound request");
        let found = SuccessionRequest {
            network: made.network(),
            sequence: made.sequence(),
            previous: made.previous(),
            issued: made.issued(),
            overlap_end: made.overlap_end(),
            next: made.next(),
            reason: made.reason().map(str::to_owned),
        };
        prop_assert_eq!(found, asked);
    }
}
