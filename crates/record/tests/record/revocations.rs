//! The last thing that a key says.

use comity_identity::{Algorithm, KeyHash, NodeId, Signer, VerifyError};
use comity_record::limits::MAX_STATEMENT_BYTES;
use comity_record::{FormatError, KeyRevocation, KeyRevocationRequest, StatementError, Succession};

use crate::certificates::{TODAY, TestKey};
use crate::raw::{REVOCATION, Raw, SUCCESSION, bytes, number};
use crate::world::{first, key};

fn request(key: &TestKey) -> KeyRevocationRequest {
    KeyRevocationRequest {
        key: NodeId::of_spki(key.spki()),
        at: TODAY,
        reason: Some("compromise".to_owned()),
    }
}

#[test]
fn a_key_revokes_itself_whatever_was_committed_to() {
    for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
        let key = TestKey::generate(algorithm);
        let made = request(&key).sign(&key).expect("a sound request");
        let read = KeyRevocation::parse(made.bytes()).expect("our own");
        assert_eq!(read, made);
        assert_eq!(read.key(), NodeId::of_spki(key.spki()));
        assert_eq!(read.signer(), read.key().key_hash());
        assert_eq!(read.signer_spki(), key.spki());
        assert_eq!((read.at(), read.reason()), (TODAY, Some("compromise")));
        assert!(read.counts(None));
        assert!(read.counts(Some(KeyHash::from_bytes([1; 32]))));
    }
}

#[test]
fn the_committed_next_key_revokes_and_a_stranger_does_not() {
    let (lost, next) = (key(), key());
    let made = request(&lost).sign(&next).expect("a sound request");
    assert!(made.counts(Some(KeyHash::of_spki(next.spki()))));
    assert!(!made.counts(None));
    assert!(!made.counts(Some(KeyHash::of_spki(key().spki()))));
}

#[test]
fn the_signature_is_by_the_key_in_it() {
    let (lost, other) = (key(), key());
    let made = request(&lost).sign(&lost).expect("a sound request");
    let raw = Raw::of(made.bytes());
    let error = StatementError::Signature {
        key: "revoking",
        cause: VerifyError::BadSignature,
    };
    let forged = raw.signed(REVOCATION, &[&other]);
    assert_eq!(KeyRevocation::parse(&forged), Err(error.clone()));
    // A key that signs something else does not say that it ends.
    let forged = raw.signed(SUCCESSION, &[&lost]);
    assert_eq!(KeyRevocation::parse(&forged), Err(error));
}

#[test]
fn every_field_is_needed_and_checked() {
    let lost = key();
    let made = request(&lost).sign(&lost).expect("a sound request");
    let raw = Raw::of(made.bytes());
    for key in [1, 2, 3, 4] {
        let refused = KeyRevocation::parse(&raw.clone().without(key).signed(REVOCATION, &[&lost]));
        assert_eq!(refused, Err(FormatError::Missing { key }.into()));
    }
    assert!(KeyRevocation::parse(&raw.clone().without(5).signed(REVOCATION, &[&lost])).is_ok());
    let with = |key, value| {
        let raw = raw.clone().with(key, value);
        KeyRevocation::parse(&raw.signed(REVOCATION, &[&lost]))
    };
    assert_eq!(
        with(1, number(9)),
        Err(StatementError::Version { found: 9 })
    );
    assert_eq!(
        with(6, number(1)),
        Err(FormatError::Unknown { key: 6 }.into())
    );
    assert_eq!(
        with(2, bytes(&[1; 31])),
        Err(FormatError::Value { key: 2 }.into())
    );
    assert!(with(128, number(1)).is_ok());
}

#[test]
fn its_size_is_limited_exactly() {
    let lost = TestKey::generate(Algorithm::Ed25519);
    let made = request(&lost).sign(&lost).expect("a sound request");
    let padded = |length: usize| {
        let raw = Raw::of(made.bytes()).with(128, bytes(&vec![0; length]));
        raw.signed(REVOCATION, &[&lost])
    };
    // One length of head for all of these.
    let room = MAX_STATEMENT_BYTES - padded(256).len() + 256;
    assert_eq!(padded(room).len(), MAX_STATEMENT_BYTES);
    assert!(KeyRevocation::parse(&padded(room)).is_ok());
    assert!(matches!(
        KeyRevocation::parse(&padded(room + 1)),
        Err(StatementError::Format(FormatError::Limit { .. }))
    ));
}

#[test]
fn a_revocation_is_no_succession_and_the_other_way_round() {
    let (old, new) = (key(), key());
    let revocation = request(&old).sign(&old).expect("sound");
    let succession = first().sign(&old, &new).expect("sound");
    assert!(Succession::parse(revocation.bytes()).is_err());
    assert!(KeyRevocation::parse(succession.bytes()).is_err());
}
