//! Chains of successions.

use comity_identity::{Algorithm, KeyHash, NodeId, Signer};
use comity_record::limits::{MAX_STATEMENTS, MAX_SUCCESSION_BYTES};
use comity_record::{
    FormatError, LinkFault, StatementError, Succession, SuccessionChain, SuccessionChainError,
    SuccessionRequest, UnverifiedSuccessionChain,
};

use crate::certificates::TestKey;
use crate::raw::{self, Raw, SUCCESSION, bytes, encoded, number};
use crate::world::{after, first, key};

/// A history of `steps` changes, each statement as large as they come.
fn history(steps: usize) -> (Vec<TestKey>, Vec<Succession>) {
    let keys: Vec<TestKey> = (0..=steps + 1).map(|_| key()).collect();
    let mut statements: Vec<Succession> = Vec::new();
    for step in 0..steps {
        let request = match statements.last() {
            None => first(),
            Some(before) => after(before),
        };
        let request = SuccessionRequest {
            network: Some(NodeId::from_bytes([9; 32])),
            next: Some(KeyHash::of_spki(keys[step + 2].spki())),
            reason: Some("sixteen-letters-".to_owned()),
            ..request
        };
        let statement = request.sign(&keys[step], &keys[step + 1]).expect("sound");
        statements.push(statement);
    }
    (keys, statements)
}

fn encode(statements: &[&Succession]) -> Vec<u8> {
    encoded(|e| {
        drop(e.array(statements.len() as u64));
        for statement in statements {
            drop(e.bytes(statement.bytes()));
        }
    })
}

#[test]
fn a_peer_that_was_away_for_sixteen_changes_catches_up() {
    // T81, and every limit of it.
    let (keys, statements) = history(MAX_STATEMENTS);
    let encoded = encode(&statements.iter().collect::<Vec<_>>());
    assert!(encoded.len() <= MAX_SUCCESSION_BYTES, "{}", encoded.len());
    let chain = SuccessionChain::parse(&encoded).expect("sixteen");
    assert_eq!(chain.statements(), statements);
    assert_eq!(chain.encode(), encoded);
    assert_eq!(chain.current(), NodeId::of_spki(keys[16].spki()));
    for (step, key) in keys.iter().take(16).enumerate() {
        let since = chain.since(&NodeId::of_spki(key.spki())).expect("known");
        assert_eq!(since, &statements[step..]);
    }
    // Who knows the current key, or none of them, has nothing to follow.
    assert_eq!(chain.since(&chain.current()), None);
    assert_eq!(chain.since(&NodeId::from_bytes([1; 32])), None);
}

#[test]
fn seventeen_statements_are_refused_when_read_and_the_oldest_is_dropped_when_added() {
    let (_, statements) = history(MAX_STATEMENTS + 1);
    let all = encode(&statements.iter().collect::<Vec<_>>());
    let limit = |what, found, limit| FormatError::Limit { what, found, limit };
    let refused = SuccessionChain::parse(&all);
    let statements_17 = limit("statements", 17, 16);
    assert_eq!(refused, Err(statements_17.into()));

    let mut chain = SuccessionChain::new(statements[0].clone());
    for statement in &statements[1..] {
        chain.push(statement.clone()).expect("it follows");
    }
    assert_eq!(chain.statements(), &statements[1..]);
    assert_eq!(chain.last(), &statements[16]);
    let read = SuccessionChain::parse(&chain.encode());
    assert_eq!(read, Ok(chain));
}

#[test]
fn bytes_are_limited_exactly() {
    let padded =
        |length: usize| encoded(|e| drop(e.array(1).and_then(|e| e.bytes(&vec![0; length]))));
    let at = padded(MAX_SUCCESSION_BYTES - 4);
    assert_eq!(at.len(), MAX_SUCCESSION_BYTES);
    assert!(matches!(
        SuccessionChain::parse(&at),
        Err(SuccessionChainError::Statement { index: 0, .. })
    ));
    let over = padded(MAX_SUCCESSION_BYTES - 3);
    assert!(matches!(
        SuccessionChain::parse(&over),
        Err(SuccessionChainError::Format(FormatError::Limit {
            what: "bytes",
            ..
        }))
    ));
}

#[test]
fn a_history_has_no_holes_and_one_order() {
    let (_, s) = history(3);
    for (statements, index, fault) in [
        (vec![&s[1], &s[0]], 1, LinkFault::Key),
        (vec![&s[0], &s[2]], 1, LinkFault::Key),
        (vec![&s[0], &s[0]], 1, LinkFault::Key),
        (vec![&s[0], &s[1], &s[1]], 2, LinkFault::Key),
    ] {
        let refused = SuccessionChain::parse(&encode(&statements));
        let error = SuccessionChainError::Disconnected { index, fault };
        assert_eq!(refused, Err(error));
    }
    assert!(SuccessionChain::parse(&encode(&[&s[1], &s[2]])).is_ok());
    let refused = SuccessionChain::parse(&encode(&[]));
    assert_eq!(refused, Err(SuccessionChainError::Empty));
}

#[test]
fn every_link_is_checked() {
    let keys = [key(), key(), key()];
    let start = SuccessionRequest {
        next: Some(KeyHash::of_spki(keys[2].spki())),
        ..first()
    };
    let one = start.sign(&keys[0], &keys[1]).expect("sound");
    let good = after(&one);
    let stranger = key();
    let cases = [
        (
            SuccessionRequest {
                network: Some(NodeId::from_bytes([1; 32])),
                ..good.clone()
            },
            [&keys[1], &keys[2]],
            LinkFault::Network,
        ),
        (
            SuccessionRequest {
                sequence: 3,
                ..good.clone()
            },
            [&keys[1], &keys[2]],
            LinkFault::Sequence,
        ),
        (
            SuccessionRequest {
                previous: Some([0; 32]),
                ..good.clone()
            },
            [&keys[1], &keys[2]],
            LinkFault::Previous,
        ),
        // T88: a thief of the first key cannot name a key of his own.
        (good.clone(), [&keys[1], &stranger], LinkFault::Commitment),
        (good.clone(), [&stranger, &keys[2]], LinkFault::Key),
    ];
    for (request, [old, new], fault) in cases {
        let two = request.sign(old, new).expect("sound by itself");
        let mut chain = SuccessionChain::new(one.clone());
        assert_eq!(chain.push(two.clone()), Err(fault));
        assert_eq!(chain.statements().len(), 1, "what is refused is not added");
        let refused = SuccessionChain::parse(&encode(&[&one, &two]));
        let error = SuccessionChainError::Disconnected { index: 1, fault };
        assert_eq!(refused, Err(error));
    }
    let two = good.sign(&keys[1], &keys[2]).expect("sound");
    assert_eq!(SuccessionChain::new(one).push(two), Ok(()));
}

#[test]
fn no_history_leads_back_to_a_key_that_was_given_up() {
    let keys = [key(), key(), key()];
    let one = first().sign(&keys[0], &keys[1]).expect("sound");
    let back = after(&one)
        .sign(&keys[1], &keys[0])
        .expect("sound by itself");
    let mut chain = SuccessionChain::new(one.clone());
    assert_eq!(chain.push(back), Err(LinkFault::Returned));
    let two = after(&one).sign(&keys[1], &keys[2]).expect("sound");
    let back = after(&two)
        .sign(&keys[2], &keys[0])
        .expect("sound by itself");
    chain.push(two).expect("it follows");
    assert_eq!(chain.push(back), Err(LinkFault::Returned));
}

#[test]
fn the_sequence_ends_without_wrapping() {
    let keys = [key(), key(), key()];
    let last = SuccessionRequest {
        sequence: u64::MAX,
        previous: Some([1; 32]),
        ..first()
    };
    let last = last.sign(&keys[0], &keys[1]).expect("sound");
    let again = SuccessionRequest {
        previous: Some(last.digest()),
        sequence: u64::MAX,
        ..first()
    };
    let again = again.sign(&keys[1], &keys[2]).expect("sound");
    let mut chain = SuccessionChain::new(last);
    assert_eq!(chain.push(again), Err(LinkFault::Sequence));
}

#[test]
fn one_bad_statement_refuses_the_history_and_is_named() {
    let (_, statements) = history(3);
    let mut bytes = statements[1].bytes().to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let forged = encoded(|e| {
        drop(e.array(3));
        drop(e.bytes(statements[0].bytes()));
        drop(e.bytes(&bytes));
        drop(e.bytes(statements[2].bytes()));
    });
    assert!(matches!(
        SuccessionChain::parse(&forged),
        Err(SuccessionChainError::Statement {
            index: 1,
            cause: StatementError::Signature { .. }
        })
    ));
}

/// Fifteen statements of a stranger about keys of its own, and a sixteenth that it signed for a known
/// key. The first is not signed either, which shows where reading began.
#[test]
fn a_strangers_history_costs_no_signature_before_the_one_of_the_known_key() {
    let known = key();
    let keys: Vec<TestKey> = (0..=MAX_STATEMENTS).map(|_| key()).collect();
    let sound = first().sign(&keys[0], &keys[1]).expect("sound");
    let mut previous: Option<[u8; 32]> = None;
    let mut forged = Vec::new();
    for step in 0..MAX_STATEMENTS {
        let named = |place: usize| match place == MAX_STATEMENTS - 1 {
            true => bytes(known.spki()),
            false => bytes(keys[place].spki()),
        };
        let mut raw = Raw::of(sound.bytes())
            .with(3, named(step))
            .with(4, named(step + 1))
            .with(5, number(step as u64 + 1));
        if let Some(digest) = &previous {
            raw = raw.with(6, bytes(digest));
        }
        let message = raw::message(SUCCESSION, &raw.payload());
        previous = Some(*KeyHash::of_spki(&message).as_bytes());
        let by_old = if step == 0 { 2 } else { step };
        forged.push(raw.signed(SUCCESSION, &[&keys[by_old], &keys[step + 1]]));
    }
    let history = encoded(|e| {
        drop(e.array(forged.len() as u64));
        for statement in &forged {
            drop(e.bytes(statement));
        }
    });
    let known = NodeId::of_spki(known.spki());
    let refused = |is_known: &dyn Fn(&NodeId) -> bool| {
        let read = UnverifiedSuccessionChain::parse(&history).expect("each follows the one before");
        assert_eq!(read.current(), NodeId::of_spki(keys[16].spki()));
        match read.verify(is_known) {
            Err(SuccessionChainError::Statement { index, cause }) => (index, cause),
            other => panic!("{other:?}"),
        }
    };
    for (is_known, place) in [(true, 15), (false, 0)] {
        let (index, cause) = refused(&|key| is_known && *key == known);
        assert_eq!(index, place);
        assert!(matches!(
            cause,
            StatementError::Signature { key: "old", .. }
        ));
    }
}

#[test]
fn what_costs_no_signature_is_checked_first() {
    let (_, statements) = history(3);
    let mut forged = statements[0].bytes().to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    // The second is missing, and the signature of the first is wrong.
    let bytes = encoded(|e| {
        drop(e.array(2));
        drop(e.bytes(&forged));
        drop(e.bytes(statements[2].bytes()));
    });
    let (index, fault) = (1, LinkFault::Key);
    assert_eq!(
        SuccessionChain::parse(&bytes),
        Err(SuccessionChainError::Disconnected { index, fault })
    );
}

#[test]
fn a_genuine_history_is_verified_from_any_key_of_it() {
    let (keys, statements) = history(4);
    let bytes = encode(&statements.iter().collect::<Vec<_>>());
    for key in &keys {
        let key = NodeId::of_spki(key.spki());
        let read = UnverifiedSuccessionChain::parse(&bytes).expect("sound");
        let chain = read.verify(|known| *known == key).expect("genuine");
        assert_eq!(chain.statements(), statements);
    }
}

#[test]
fn keys_of_both_kinds_follow_each_other() {
    let keys = [Algorithm::Ed25519, Algorithm::EcdsaP256, Algorithm::Ed25519];
    let keys = keys.map(TestKey::generate);
    let one = first().sign(&keys[0], &keys[1]).expect("sound");
    let two = after(&one).sign(&keys[1], &keys[2]).expect("sound");
    let mut chain = SuccessionChain::new(one);
    assert_eq!(chain.push(two), Ok(()));
}

#[test]
fn hostile_lengths_do_not_allocate() {
    for bytes in [
        &[0x9a, 0xff, 0xff, 0xff, 0xff][..],
        &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x81, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x9f, 0xff],
        &[],
        &[0x80, 0],
        &[0x98, 0],
    ] {
        assert!(SuccessionChain::parse(bytes).is_err(), "{bytes:02x?}");
    }
}
