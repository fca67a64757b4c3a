//! What an authority publishes.

use std::time::Duration;

use comity_certs::CLOCK_TOLERANCE;
use comity_identity::{Algorithm, KeyHash, NodeId, UnixTime, VerifyError};
use comity_record::limits::{
    MAX_BUNDLE_BYTES, MAX_BUNDLE_LIFETIME, MAX_CHARTERS, MAX_LOCATIONS, MAX_WITHDRAWALS,
    MIN_REFRESH,
};
use comity_record::{
    Bundle, BundleError, BundleRequest, Charter, CharterError, FormatError, Freshness, KeyState,
    Location, SigningError, SuccessorFault, Withdrawal, WithdrawnWhat,
};

use crate::certificates::{DAY, TODAY};
use crate::raw::{BUNDLE, CHARTER, Raw, bytes, encoded, number, text};
use crate::world::{ACTIVE, Held, NEXT, Org, RETIRING, REVOKED, SECOND, bundle, charter, request};

fn sign(request: &BundleRequest, signer: &Held) -> Result<Bundle, BundleError> {
    match request.sign(&signer.key) {
        Ok(bundle) => Ok(bundle),
        Err(SigningError::Refused(error)) => Err(error),
        Err(SigningError::Sign(error)) => panic!("{error}"),
    }
}

fn certificate(issuer: u8, serial: &[u8]) -> Withdrawal {
    Withdrawal {
        what: WithdrawnWhat::Certificate {
            issuer: KeyHash::from_bytes([issuer; 32]),
            serial: serial.to_vec(),
        },
        at: TODAY,
    }
}

fn withdrawn_key(key: u8) -> Withdrawal {
    Withdrawal {
        what: WithdrawnWhat::Key(KeyHash::from_bytes([key; 32])),
        at: TODAY,
    }
}

#[test]
fn a_bundle_says_what_was_asked_for() {
    let org = Org::new();
    let id = NodeId::from_bytes([7; 32]);
    let locations: Vec<Location> = [
        "https://ca.example/b",
        &format!("https://192.0.2.1:7117/c#{id}"),
    ]
    .iter()
    .map(|text| text.parse().expect("a location"))
    .collect();
    let asked = BundleRequest {
        locations: locations.clone(),
        withdrawn: vec![
            withdrawn_key(9),
            certificate(5, &[1, 2]),
            certificate(5, &[1]),
        ],
        ..org.request()
    };
    let made = sign(&asked, &org.issuing).expect("a sound request");
    let read = Bundle::parse(made.bytes()).expect("our own");
    assert_eq!(read, made);
    assert_eq!(
        Bundle::parse_of(&org.root.network(), made.bytes()),
        Ok(made)
    );
    assert_eq!(read.network(), org.root.network());
    assert_eq!((read.name(), read.sequence()), ("fleet", 1));
    assert_eq!((read.issued(), read.expires()), (TODAY, TODAY + 30 * DAY));
    assert_eq!(read.refresh(), DAY);
    assert_eq!(read.locations(), locations);
    assert_eq!(read.charters(), std::slice::from_ref(&org.founding));
    assert_eq!(read.charter(), &org.founding);
    assert_eq!(read.signer(), org.issuing.hash());
    let sorted = [
        certificate(5, &[1]),
        certificate(5, &[1, 2]),
        withdrawn_key(9),
    ];
    assert_eq!(read.withdrawn(), sorted);
    assert_eq!(read.key_state(&org.root.hash()), Some(ACTIVE));
    assert_eq!(read.key_state(&KeyHash::from_bytes([1; 32])), None);
}

#[test]
fn withdrawals_are_found_by_issuer_and_serial_and_by_key() {
    let org = Org::new();
    let withdrawn = [
        certificate(5, &[1]),
        certificate(5, &[3, 3]),
        certificate(7, &[2]),
        withdrawn_key(1),
        withdrawn_key(9),
    ];
    let bundle = org.bundle_with(1, &[&org.founding], &org.issuing, &withdrawn);
    let hash = |byte| KeyHash::from_bytes([byte; 32]);
    for (issuer, serial, key, expected) in [
        (5, &[1][..], 0, true),
        (5, &[3, 3], 0, true),
        (7, &[2], 0, true),
        (0, &[0], 1, true),
        (0, &[0], 9, true),
        (5, &[2], 0, false),
        (5, &[3], 0, false),
        (5, &[0, 1], 0, false),
        (7, &[1], 0, false),
        (6, &[1], 0, false),
        (9, &[], 5, false),
        (1, &[], 7, false),
    ] {
        let found = bundle.is_withdrawn(&hash(issuer), serial, &hash(key));
        assert_eq!(found, expected, "{issuer} {serial:?} {key}");
    }
    assert!(!org.bundle(1).is_withdrawn(&hash(5), &[1], &hash(1)));
}

#[test]
fn an_active_issuing_key_or_root_signs_and_no_other() {
    let root = Held::root();
    let other_root = Held::root();
    let issuing = Held::issuing_below(&root);
    for (state, entitled) in [
        (ACTIVE, true),
        (NEXT, false),
        (RETIRING, false),
        (REVOKED, false),
    ] {
        let keys = [(&root, ACTIVE), (&issuing, state), (&other_root, state)];
        let founding = charter(&root, 1, &keys, &[&root, &other_root]);
        for signer in [&issuing, &other_root] {
            let made = sign(&request(1, &[&founding], &[]), signer);
            if entitled {
                assert!(made.is_ok());
            } else {
                let signer = signer.hash();
                assert_eq!(made, Err(BundleError::NotEntitled { signer }), "{state:?}");
            }
        }
        assert!(sign(&request(1, &[&founding], &[]), &root).is_ok());
    }
    let org = Org::new();
    let stranger = Held::root();
    let refused = sign(&org.request(), &stranger);
    let signer = stranger.hash();
    assert_eq!(refused, Err(BundleError::NotEntitled { signer }));
}

#[test]
fn the_signature_is_by_the_key_that_is_named() {
    let org = Org::new();
    let made = org.bundle(1);
    let error = BundleError::Signature {
        signer: org.issuing.hash(),
        cause: VerifyError::BadSignature,
    };
    // By another active key, and for another kind of object.
    let raw = Raw::of(made.bytes());
    for forged in [
        raw.signed(BUNDLE, &[&org.root.key]),
        raw.signed(CHARTER, &[&org.issuing.key]),
    ] {
        assert_eq!(Bundle::parse(&forged), Err(error.clone()));
    }
}

#[test]
fn a_bundle_of_another_network_is_refused_before_its_signatures() {
    let org = Org::new();
    let made = org.bundle(1);
    let expected = NodeId::from_bytes([1; 32]);
    let error = BundleError::WrongNetwork {
        expected,
        found: org.root.network(),
    };
    // Even with charters that are no charters: they are not looked at.
    let garbage = encoded(|e| drop(e.array(1).and_then(|e| e.bytes(b"garbage"))));
    let forged = Raw::of(made.bytes()).with(9, garbage);
    let forged = forged.signed(BUNDLE, &[&org.issuing.key]);
    for bytes in [made.bytes(), &forged] {
        assert_eq!(Bundle::parse_of(&expected, bytes), Err(error.clone()));
    }
    // The id in the payload and the one of its charters are one.
    let other = Raw::of(made.bytes()).with(2, bytes(expected.as_bytes()));
    let other = other.signed(BUNDLE, &[&org.issuing.key]);
    let error = BundleError::History {
        index: 0,
        fault: SuccessorFault::Network,
    };
    assert_eq!(Bundle::parse(&other), Err(error));
}

#[test]
fn a_history_is_walked_from_the_founding_root() {
    let org = Org::new();
    let (root, new) = (&org.root, Held::root());
    let keys = [(root, ACTIVE), (&new, ACTIVE), (&org.issuing, ACTIVE)];
    let second = charter(root, 2, &keys, &[root, &new]);
    let keys = [(root, REVOKED), (&new, ACTIVE), (&org.issuing, REVOKED)];
    let third = charter(root, 3, &keys, &[&new]);
    let full = bundle(1, &[&org.founding, &second, &third], &new, &[]);
    assert_eq!(full.charters().len(), 3);
    // T81 for authorities: without the step between, the last charter proves nothing.
    let refused = |charters: &[&Charter]| sign(&request(1, charters, &[]), &new);
    let history = |index, fault| Err(BundleError::History { index, fault });
    assert_eq!(
        refused(&[&org.founding, &third]),
        history(1, SuccessorFault::NotEntitled)
    );
    assert_eq!(refused(&[&third]), history(0, SuccessorFault::NotFounded));
    let back = SuccessorFault::Sequence {
        before: 3,
        sequence: 2,
    };
    assert_eq!(
        refused(&[&org.founding, &second, &third, &second]),
        history(3, back)
    );
    let empty = refused(&[]);
    assert_eq!(empty, Err(FormatError::Missing { key: 9 }.into()));
}

#[test]
fn a_charter_that_does_not_hold_is_named() {
    let org = Org::new();
    let mut broken = org.founding.bytes().to_vec();
    let last = broken.len() - 1;
    broken[last] ^= 1;
    let list = encoded(|e| drop(e.array(1).and_then(|e| e.bytes(&broken))));
    let forged = Raw::of(org.bundle(1).bytes()).with(9, list);
    assert!(matches!(
        Bundle::parse(&forged.signed(BUNDLE, &[&org.issuing.key])),
        Err(BundleError::Charter {
            index: 0,
            cause: CharterError::Signature { .. }
        })
    ));
}

#[test]
fn a_bundle_lives_for_ninety_days_and_not_a_second_longer() {
    let org = Org::new();
    let until = |expires| {
        let asked = BundleRequest {
            expires,
            refresh: MIN_REFRESH,
            ..org.request()
        };
        sign(&asked, &org.issuing)
    };
    assert!(until(TODAY + MAX_BUNDLE_LIFETIME).is_ok());
    assert!(until(TODAY + MIN_REFRESH).is_ok());
    for expires in [
        TODAY - SECOND,
        TODAY,
        TODAY + MAX_BUNDLE_LIFETIME + SECOND,
        UnixTime::NEVER,
    ] {
        let error = BundleError::Lifetime {
            issued: TODAY,
            expires,
        };
        assert_eq!(until(expires), Err(error));
    }
}

#[test]
fn the_refresh_hint_neither_floods_nor_starves() {
    let org = Org::new();
    let every = |refresh| {
        let asked = BundleRequest {
            refresh,
            ..org.request()
        };
        sign(&asked, &org.issuing)
    };
    assert!(every(MIN_REFRESH).is_ok());
    assert!(every(30 * DAY).is_ok());
    for refresh in [
        Duration::ZERO,
        MIN_REFRESH - SECOND,
        30 * DAY + SECOND,
        Duration::from_secs(u64::MAX),
    ] {
        assert_eq!(every(refresh), Err(BundleError::Refresh { refresh }));
    }
}

#[test]
fn freshness_changes_at_half_life_and_at_the_end() {
    let org = Org::new();
    let bundle = org.bundle(1);
    let half = TODAY + 15 * DAY;
    let end = TODAY + 30 * DAY;
    for (now, expected) in [
        (TODAY, Freshness::Fresh),
        (half - SECOND, Freshness::Fresh),
        (half, Freshness::PastHalf),
        (end, Freshness::PastHalf),
        (end + SECOND, Freshness::Expired),
        // T89: a clock that is behind is tolerated, a bundle from next year is not.
        (TODAY - CLOCK_TOLERANCE, Freshness::Fresh),
        (TODAY - CLOCK_TOLERANCE - SECOND, Freshness::NotYetValid),
    ] {
        assert_eq!(bundle.standing(now), expected, "{now}");
    }
    let recognising = [Freshness::Fresh, Freshness::PastHalf];
    for freshness in recognising {
        assert!(freshness.recognises());
    }
    for freshness in [Freshness::Expired, Freshness::NotYetValid] {
        assert!(!freshness.recognises());
    }
}

#[test]
fn anchors_are_the_keys_that_count_now() {
    let root = Held::root();
    let held: Vec<Held> = (0..3).map(|_| Held::issuing_below(&root)).collect();
    let retiring = KeyState::Retiring { until: TODAY + DAY };
    let keys = [
        (&root, ACTIVE),
        (&held[0], NEXT),
        (&held[1], retiring),
        (&held[2], REVOKED),
    ];
    let founding = charter(&root, 1, &keys, &[&root]);
    let bundle = bundle(1, &[&founding], &root, &[]);
    let at = |now| {
        let mut keys: Vec<KeyHash> = bundle.anchors(now).map(|anchor| anchor.key()).collect();
        keys.sort_unstable();
        keys
    };
    let expected = |held: &[&Held]| {
        let mut keys: Vec<KeyHash> = held.iter().map(|h| h.hash()).collect();
        keys.sort_unstable();
        keys
    };
    assert_eq!(at(TODAY + DAY), expected(&[&root, &held[0], &held[1]]));
    assert_eq!(at(TODAY + DAY + SECOND), expected(&[&root, &held[0]]));
}

#[test]
fn a_name_is_a_label() {
    let org = Org::new();
    let named = |name: &str| {
        let asked = BundleRequest {
            name: name.to_owned(),
            ..org.request()
        };
        sign(&asked, &org.issuing)
    };
    assert!(named(&"n".repeat(64)).is_ok());
    for name in ["", "Fleet", "a b", "\u{202e}fleet", &"n".repeat(65)] {
        let fault = FormatError::Value { key: 3 };
        assert_eq!(named(name), Err(fault.into()), "{name:?}");
    }
}

#[test]
fn eight_locations_are_accepted_and_one_more_is_not() {
    let org = Org::new();
    let with = |count: usize| {
        let location = |i| {
            format!("https://ca{i}.example/")
                .parse()
                .expect("a location")
        };
        let asked = BundleRequest {
            locations: (0..count).map(location).collect(),
            ..org.request()
        };
        sign(&asked, &org.issuing)
    };
    assert!(with(0).is_ok());
    assert!(with(MAX_LOCATIONS).is_ok());
    let limit = FormatError::Limit {
        what: "locations",
        found: 9,
        limit: MAX_LOCATIONS,
    };
    assert_eq!(with(9), Err(limit.into()));
}

#[test]
fn a_location_has_one_spelling_and_is_there_once() {
    let org = Org::new();
    let made = org.bundle(1);
    let with = |texts: &[&str]| {
        let list = encoded(|e| {
            drop(e.array(texts.len() as u64));
            for text in texts {
                drop(e.str(text));
            }
        });
        let raw = Raw::of(made.bytes()).with(8, list);
        Bundle::parse(&raw.signed(BUNDLE, &[&org.issuing.key]))
    };
    assert!(with(&["https://a.example/", "https://b.example/"]).is_ok());
    for texts in [
        &["https://a.example/", "https://a.example/"][..],
        &["https://A.example/"],
        &["https://a.example:443/"],
        &["http://a.example/"],
        &["https://a.example"],
    ] {
        let fault = FormatError::Value { key: 8 };
        assert_eq!(with(texts), Err(fault.into()), "{texts:?}");
    }
}

#[test]
fn ten_thousand_withdrawals_fit_and_one_more_does_not() {
    let org = Org::new();
    let list = |count: u32| -> Vec<Withdrawal> {
        (0..count)
            .map(|number| {
                let mut serial = [0x7f; 20];
                serial[..4].copy_from_slice(&number.to_be_bytes());
                certificate(5, &serial)
            })
            .collect()
    };
    let full = list(10_000);
    let made = org.bundle_with(1, &[&org.founding], &org.issuing, &full);
    assert_eq!(made.withdrawn().len(), MAX_WITHDRAWALS);
    assert!(made.bytes().len() <= MAX_BUNDLE_BYTES);
    let asked = request(1, &[&org.founding], &list(10_001));
    let limit = FormatError::Limit {
        what: "withdrawals",
        found: 10_001,
        limit: MAX_WITHDRAWALS,
    };
    let refused = sign(&asked, &org.issuing).expect_err("one too many");
    assert!(refused.is_limit());
    assert_eq!(refused, limit.into());
}

#[test]
fn sixteen_charters_are_read_and_one_more_is_not() {
    let root = Held::root();
    let charters: Vec<Charter> = (1..=17)
        .map(|sequence| charter(&root, sequence, &[(&root, ACTIVE)], &[&root]))
        .collect();
    let charters: Vec<&Charter> = charters.iter().collect();
    assert!(sign(&request(1, &charters[..MAX_CHARTERS], &[]), &root).is_ok());
    let limit = FormatError::Limit {
        what: "charters",
        found: 17,
        limit: MAX_CHARTERS,
    };
    assert_eq!(sign(&request(1, &charters, &[]), &root), Err(limit.into()));
}

#[test]
fn its_size_is_limited_exactly() {
    let root = Held::root_with(Algorithm::Ed25519);
    let founding = charter(&root, 1, &[(&root, ACTIVE)], &[&root]);
    let made = bundle(1, &[&founding], &root, &[]);
    let padded = |length: usize| {
        let raw = Raw::of(made.bytes()).with(128, bytes(&vec![0; length]));
        raw.signed(BUNDLE, &[&root.key])
    };
    let room = MAX_BUNDLE_BYTES - padded(1_000_000).len() + 1_000_000;
    assert_eq!(padded(room).len(), MAX_BUNDLE_BYTES);
    assert!(Bundle::parse(&padded(room)).is_ok());
    let refused = Bundle::parse(&padded(room + 1)).expect_err("one byte too many");
    assert!(refused.is_limit());
}

#[test]
fn withdrawals_are_listed_once_and_in_order() {
    let org = Org::new();
    let made = org.bundle(1);
    let key = |byte: u8, at: u64| {
        encoded(|e| {
            drop(
                e.array(3)
                    .and_then(|e| e.u8(1)?.bytes(&[byte; 32])?.u64(at)),
            )
        })
    };
    let serial = |serial: &[u8]| {
        let write = |e: &mut minicbor::Encoder<Vec<u8>>| {
            drop(
                e.array(4)
                    .and_then(|e| e.u8(0)?.bytes(&[5; 32])?.bytes(serial)?.u64(1)),
            );
        };
        encoded(write)
    };
    let with = |entries: &[Vec<u8>]| {
        let head = encoded(|e| drop(e.array(entries.len() as u64)));
        let raw = Raw::of(made.bytes()).with(10, [head, entries.concat()].concat());
        Bundle::parse(&raw.signed(BUNDLE, &[&org.issuing.key]))
    };
    assert!(with(&[serial(&[1]), serial(&[1; 20]), key(1, 5), key(2, 5)]).is_ok());
    for entries in [
        &[key(2, 5), key(1, 5)][..],
        &[key(1, 5), key(1, 6)],
        &[key(1, 5), serial(&[1])],
        &[serial(&[2]), serial(&[1])],
    ] {
        assert_eq!(with(entries), Err(FormatError::NotDeterministic.into()));
    }
    let unknown = encoded(|e| drop(e.array(3).and_then(|e| e.u8(2)?.bytes(&[1; 32])?.u64(1))));
    let short = encoded(|e| drop(e.array(3).and_then(|e| e.u8(1)?.bytes(&[1; 31])?.u64(1))));
    let longer = encoded(|e| {
        drop(
            e.array(4)
                .and_then(|e| e.u8(1)?.bytes(&[1; 32])?.u64(1)?.u64(1)),
        )
    });
    for entry in [serial(&[]), serial(&[1; 21]), unknown, short, longer] {
        let fault = FormatError::Value { key: 10 };
        assert_eq!(with(&[entry]), Err(fault.into()));
    }
}

#[test]
fn every_field_is_needed_and_unknown_ones_are_refused_below_128() {
    let org = Org::new();
    let made = org.bundle(1);
    let raw = Raw::of(made.bytes());
    for key in 1..=11 {
        let refused = Bundle::parse(&raw.clone().without(key).signed(BUNDLE, &[&org.issuing.key]));
        assert_eq!(refused, Err(FormatError::Missing { key }.into()));
    }
    let with = |key, value| {
        let raw = raw.clone().with(key, value);
        Bundle::parse(&raw.signed(BUNDLE, &[&org.issuing.key]))
    };
    assert_eq!(with(1, number(2)), Err(BundleError::Version { found: 2 }));
    assert_eq!(
        with(4, number(0)),
        Err(FormatError::Value { key: 4 }.into())
    );
    for key in [12, 127] {
        let unknown = FormatError::Unknown { key };
        assert_eq!(with(key, text("x")), Err(unknown.into()));
    }
    let later = with(128, text("x")).expect("ignored");
    assert_eq!(Raw::of(later.bytes()).0[&128], text("x"));
}
