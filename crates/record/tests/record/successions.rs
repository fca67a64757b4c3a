//! One identity key follows another.

use comity_identity::{Algorithm, KeyHash, NodeId, Signer, UnixTime, VerifyError};
use comity_record::limits::{MAX_OVERLAP, MAX_REASON, MAX_STATEMENT_BYTES};
use comity_record::{FormatError, SigningError, StatementError, Succession, SuccessionRequest};

use crate::certificates::{DAY, TODAY, TestKey};
use crate::raw::{self, Raw, SUCCESSION, bytes, encoded, number, text};
use crate::world::{SECOND, after, first, key};

fn sign(request: &SuccessionRequest) -> Result<Succession, StatementError> {
    match request.sign(&key(), &key()) {
        Ok(statement) => Ok(statement),
        Err(SigningError::Refused(error)) => Err(error),
        Err(SigningError::Sign(error)) => panic!("{error}"),
    }
}

#[test]
fn a_statement_says_what_was_asked_for() {
    for old in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
        for new in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
            let (old, new) = (TestKey::generate(old), TestKey::generate(new));
            let request = SuccessionRequest {
                network: Some(NodeId::from_bytes([3; 32])),
                sequence: 2,
                previous: Some([4; 32]),
                next: Some(KeyHash::from_bytes([5; 32])),
                ..first()
            };
            let statement = request.sign(&old, &new).expect("a sound request");
            let read = Succession::parse(statement.bytes()).expect("our own");
            assert_eq!(read, statement);
            assert_eq!(read.old(), NodeId::of_spki(old.spki()));
            assert_eq!(read.new(), NodeId::of_spki(new.spki()));
            assert_eq!((read.old_spki(), read.new_spki()), (old.spki(), new.spki()));
            assert_eq!(read.network(), request.network);
            assert_eq!(read.sequence(), 2);
            assert_eq!(read.previous(), request.previous);
            assert_eq!(
                (read.issued(), read.overlap_end()),
                (TODAY, TODAY + 30 * DAY)
            );
            assert_eq!(read.next(), request.next);
            assert_eq!(read.reason(), Some("routine"));
        }
    }
}

#[test]
fn a_statement_without_the_proof_of_the_new_key_is_refused() {
    // T86: somebody claims another's key as their own next one, or the thief of nothing but a
    // public key names himself.
    let (old, new, thief) = (key(), key(), key());
    let sound = first().sign(&old, &new).expect("a sound request");
    let raw = Raw::of(sound.bytes());
    for (signers, refused) in [
        ([&old, &thief], "new"),
        ([&old, &old], "new"),
        ([&thief, &new], "old"),
        ([&new, &old], "old"),
    ] {
        let error = StatementError::Signature {
            key: refused,
            cause: VerifyError::BadSignature,
        };
        let forged = raw.signed(SUCCESSION, &signers);
        assert_eq!(Succession::parse(&forged), Err(error));
    }
    for signers in [vec![], vec![&old], vec![&old, &new, &old]] {
        let forged = raw.signed(SUCCESSION, &signers);
        assert_eq!(Succession::parse(&forged), Err(FormatError::Shape.into()));
    }
    assert!(Succession::parse(&raw.signed(SUCCESSION, &[&old, &new])).is_ok());
}

#[test]
fn a_signature_for_another_kind_of_object_does_not_count() {
    let (old, new) = (key(), key());
    let sound = first().sign(&old, &new).expect("a sound request");
    let raw = Raw::of(sound.bytes());
    for domain in [raw::REVOCATION, raw::BUNDLE, "", "comity succession v2"] {
        let forged = raw.signed(domain, &[&old, &new]);
        let refused = Succession::parse(&forged);
        assert!(
            matches!(refused, Err(StatementError::Signature { .. })),
            "{domain}"
        );
    }
}

#[test]
fn a_malleated_signature_is_refused() {
    let (old, new) = (key(), key());
    let sound = first().sign(&old, &new).expect("a sound request");
    let payload = raw::payload(sound.bytes());
    let message = raw::message(SUCCESSION, payload);
    let by_new = new.sign(&message).expect("a software key");
    // About every second signature has a high s.
    let high = std::iter::repeat_with(|| old.sign_once(&message))
        .find(|signature| !comity_identity::has_low_s(signature))
        .expect("endless");
    let error = StatementError::Signature {
        key: "old",
        cause: VerifyError::HighS,
    };
    let forged = raw::envelope(payload, &[high, by_new]);
    assert_eq!(Succession::parse(&forged), Err(error));
}

#[test]
fn one_statement_signed_twice_has_one_digest() {
    let (old, new) = (key(), key());
    let [one, two] = [(); 2].map(|()| first().sign(&old, &new).expect("a sound request"));
    assert_ne!(one.bytes(), two.bytes());
    assert_eq!(one.digest(), two.digest());
    let other = SuccessionRequest {
        issued: TODAY + SECOND,
        ..first()
    };
    let other = other.sign(&old, &new).expect("a sound request");
    assert_ne!(one.digest(), other.digest());
}

#[test]
fn a_key_does_not_succeed_itself_and_commits_to_a_third() {
    let (old, new) = (key(), key());
    let refused = first().sign(&old, &old);
    let same = SigningError::Refused(StatementError::SameKey);
    assert_eq!(refused.expect_err("one key").to_string(), same.to_string());
    for committed in [&old, &new] {
        let request = SuccessionRequest {
            next: Some(KeyHash::of_spki(committed.spki())),
            ..first()
        };
        let refused = request.sign(&old, &new).expect_err("a key twice");
        assert_eq!(refused.to_string(), same.to_string());
    }
}

#[test]
fn the_first_statement_and_no_other_has_none_before_it() {
    for (sequence, previous) in [(0, None), (0, Some([1; 32])), (1, Some([1; 32])), (2, None)] {
        let request = SuccessionRequest {
            sequence,
            previous,
            ..first()
        };
        assert_eq!(sign(&request), Err(StatementError::Sequence { sequence }));
    }
    let last = SuccessionRequest {
        sequence: u64::MAX,
        previous: Some([1; 32]),
        ..first()
    };
    assert!(sign(&last).is_ok());
}

#[test]
fn the_old_key_goes_on_for_ninety_days_and_not_a_second_longer() {
    let until = |overlap_end| {
        sign(&SuccessionRequest {
            overlap_end,
            ..first()
        })
    };
    assert!(until(TODAY).is_ok());
    assert!(until(TODAY + MAX_OVERLAP).is_ok());
    for overlap_end in [
        TODAY - SECOND,
        TODAY + MAX_OVERLAP + SECOND,
        UnixTime::NEVER,
    ] {
        let error = StatementError::Overlap {
            issued: TODAY,
            overlap_end,
        };
        assert_eq!(until(overlap_end), Err(error));
    }
}

#[test]
fn a_reason_is_one_short_word() {
    let with = |reason: &str| {
        sign(&SuccessionRequest {
            reason: Some(reason.to_owned()),
            ..first()
        })
    };
    assert!(with(&"r".repeat(MAX_REASON)).is_ok());
    let fault = FormatError::Value { key: 10 };
    for reason in [
        "r".repeat(MAX_REASON + 1).as_str(),
        "",
        "two words",
        "\u{1b}[2J",
        "Ä",
    ] {
        assert_eq!(with(reason), Err(fault.clone().into()), "{reason:?}");
    }
}

#[test]
fn the_largest_statement_fits_and_one_byte_more_does_not() {
    let (old, new) = (key(), key());
    let full = SuccessionRequest {
        network: Some(NodeId::from_bytes([3; 32])),
        sequence: u64::MAX,
        previous: Some([4; 32]),
        issued: UnixTime::NEVER - DAY,
        overlap_end: UnixTime::NEVER,
        next: Some(KeyHash::from_bytes([5; 32])),
        reason: Some("r".repeat(MAX_REASON)),
    };
    let full = full.sign(&old, &new).expect("every field fits");
    let raw = Raw::of(full.bytes());
    // Ed25519 signatures have one length; P-256 ones vary by a byte or two.
    let (old, new) = [Algorithm::Ed25519; 2].map(TestKey::generate).into();
    let raw = raw.with(3, bytes(old.spki())).with(4, bytes(new.spki()));
    let padded = |length: usize| {
        let raw = raw.clone().with(200, bytes(&vec![0; length]));
        raw.signed(SUCCESSION, &[&old, &new])
    };
    let room = MAX_STATEMENT_BYTES - padded(100).len() + 100;
    assert_eq!(padded(room).len(), MAX_STATEMENT_BYTES);
    assert!(Succession::parse(&padded(room)).is_ok());
    let limit = FormatError::Limit {
        what: "bytes",
        found: MAX_STATEMENT_BYTES + 1,
        limit: MAX_STATEMENT_BYTES,
    };
    assert!(limit.is_limit());
    assert_eq!(Succession::parse(&padded(room + 1)), Err(limit.into()));
}

#[test]
fn unknown_fields_are_covered_and_passed_on_from_128_and_refused_below() {
    let (old, new) = (key(), key());
    let sound = first().sign(&old, &new).expect("a sound request");
    let raw = Raw::of(sound.bytes());
    let signed = |key| {
        let raw = raw.clone().with(key, text("later"));
        raw.signed(SUCCESSION, &[&old, &new])
    };
    for key in [11, 127] {
        let unknown = FormatError::Unknown { key };
        assert_eq!(Succession::parse(&signed(key)), Err(unknown.into()));
    }
    for key in [128, u64::MAX] {
        let bytes = signed(key);
        let read = Succession::parse(&bytes).expect("ignored");
        assert_eq!(read.bytes(), bytes);
        assert_ne!(read.digest(), sound.digest());
    }
    // Covered: the same signatures without the field do not hold.
    let with = Raw::of(&signed(128));
    let mut forged = signed(128);
    let at = forged
        .windows(5)
        .position(|w| w == b"later")
        .expect("there");
    forged[at] ^= 1;
    assert!(matches!(
        Succession::parse(&forged),
        Err(StatementError::Signature { .. })
    ));
    assert!(with.0.contains_key(&128));
}

#[test]
fn every_needed_field_is_needed() {
    let (old, new) = (key(), key());
    let sound = first().sign(&old, &new).expect("a sound request");
    for key in [1, 3, 4, 5, 7, 8] {
        let raw = Raw::of(sound.bytes()).without(key);
        let refused = Succession::parse(&raw.signed(SUCCESSION, &[&old, &new]));
        assert_eq!(refused, Err(FormatError::Missing { key }.into()));
    }
}

#[test]
fn values_of_another_kind_or_version_are_refused() {
    let (old, new) = (key(), key());
    let sound = first().sign(&old, &new).expect("a sound request");
    let with = |key, value| {
        let raw = Raw::of(sound.bytes()).with(key, value);
        Succession::parse(&raw.signed(SUCCESSION, &[&old, &new]))
    };
    assert_eq!(
        with(1, number(2)),
        Err(StatementError::Version { found: 2 })
    );
    for key in [2, 6, 9] {
        for length in [0, 31, 33] {
            let value = FormatError::Value { key };
            assert_eq!(with(key, bytes(&vec![7; length])), Err(value.into()));
        }
    }
    for key in [7, 8] {
        // Past the year 9999, and past what the type holds.
        for late in [UnixTime::NEVER.as_secs() + 1, u64::MAX] {
            let value = FormatError::Value { key };
            assert_eq!(with(key, number(late)), Err(value.into()));
        }
    }
    for key in [1, 2, 3, 4, 5, 6, 7, 8, 9] {
        assert_eq!(
            with(key, text("x")),
            Err(FormatError::Shape.into()),
            "{key}"
        );
    }
    assert_eq!(with(10, number(1)), Err(FormatError::Shape.into()));
}

#[test]
fn keys_of_other_kinds_sign_nothing() {
    let (old, new) = (key(), key());
    let sound = first().sign(&old, &new).expect("a sound request");
    for (field, name) in [(3, "old"), (4, "new")] {
        let raw = Raw::of(sound.bytes()).with(field, bytes(b"no key"));
        let error = StatementError::Signature {
            key: name,
            cause: VerifyError::UnsupportedKey,
        };
        let refused = Succession::parse(&raw.signed(SUCCESSION, &[&old, &new]));
        assert_eq!(refused, Err(error));
    }
}

#[test]
fn a_second_encoding_of_one_statement_is_refused() {
    let (old, new) = (key(), key());
    let sound = first().sign(&old, &new).expect("a sound request");
    let long = Raw::of(sound.bytes()).with(5, vec![0x18, 1]);
    let refused = Succession::parse(&long.signed(SUCCESSION, &[&old, &new]));
    assert_eq!(refused, Err(FormatError::NotDeterministic.into()));
    // Inside a value that is ignored as well.
    for value in [vec![0x81, 0x18, 1], vec![0x9f, 0xff], vec![0xf8, 0x14]] {
        let raw = Raw::of(sound.bytes()).with(128, value);
        let refused = Succession::parse(&raw.signed(SUCCESSION, &[&old, &new]));
        assert_eq!(refused, Err(FormatError::NotDeterministic.into()));
    }
    let trailing = [sound.bytes(), &[0]].concat();
    let refused = Succession::parse(&trailing);
    assert_eq!(refused, Err(FormatError::NotDeterministic.into()));
    // Keys out of order and twice.
    let payload = raw::payload(sound.bytes()).to_vec();
    for fields in [[(5, 1), (3, 1)], [(1, 1), (1, 1)]] {
        let mut disordered = encoded(|e| drop(e.map(2)));
        for (key, value) in fields {
            disordered.extend(encoded(|e| drop(e.u64(key).and_then(|e| e.u64(value)))));
        }
        if fields[0].0 == 5 {
            // The second key is seen to be too small before its value is read.
            let forged = raw::signed(SUCCESSION, &disordered, &[&old, &new]);
            let refused = Succession::parse(&forged);
            assert_eq!(refused, Err(FormatError::NotDeterministic.into()));
        } else {
            let forged = raw::signed(SUCCESSION, &disordered, &[&old, &new]);
            assert!(Succession::parse(&forged).is_err());
        }
    }
    assert!(Succession::parse(&raw::signed(SUCCESSION, &payload, &[&old, &new])).is_ok());
}

#[test]
fn a_signer_that_fails_or_lies_makes_no_statement() {
    struct Broken<'a>(&'a TestKey, Option<Vec<u8>>);
    impl Signer for Broken<'_> {
        fn algorithm(&self) -> Algorithm {
            self.0.algorithm()
        }
        fn spki(&self) -> &[u8] {
            self.0.spki()
        }
        fn sign(&self, _: &[u8]) -> Result<Vec<u8>, comity_identity::SignError> {
            self.1.clone().ok_or(comity_identity::SignError {
                cause: "unplugged".into(),
            })
        }
    }
    let (old, new) = (key(), key());
    let error = first()
        .sign(&Broken(&old, None), &new)
        .expect_err("unplugged");
    assert!(matches!(error, SigningError::Sign(_)));
    let error = first()
        .sign(&old, &Broken(&new, Some(vec![0; 70])))
        .expect_err("a lie");
    assert!(matches!(
        error,
        SigningError::Refused(StatementError::Signature { key: "new", .. })
    ));
}

#[test]
fn what_follows_names_the_statement_before() {
    let keys = [key(), key(), key()];
    let one = first().sign(&keys[0], &keys[1]).expect("sound");
    let two = after(&one).sign(&keys[1], &keys[2]).expect("sound");
    assert_eq!(two.previous(), Some(one.digest()));
    assert_eq!(two.sequence(), 2);
}
