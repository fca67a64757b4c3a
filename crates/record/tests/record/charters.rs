//! An authority's keys, and who may change them.

use comity_certs::AuthorityFault;
use comity_identity::{Algorithm, KeyHash, NodeId, Signer, UnixTime, VerifyError};
use comity_record::limits::{
    MAX_CHARTER_BYTES, MAX_CHARTER_KEYS, MAX_CHARTER_SIGNATURES, MAX_CHARTERS,
};
use comity_record::{
    Charter, CharterError, CharterKey, FormatError, KeyRole, KeyState, SigningError, SuccessorFault,
};

use crate::certificates::{DAY, Node, TODAY, TestKey};
use crate::raw::{BUNDLE, CHARTER, Raw, charter_envelope, encoded, envelope, message, number};
use crate::world::{
    ACTIVE, FURTHEST, Held, NEXT, Org, RETIRING, REVOKED, SECOND, charter, charter_request,
    try_charter,
};

#[test]
fn a_charter_says_what_was_asked_for() {
    let root = Held::root_with(Algorithm::Ed25519);
    let (issuing, old) = (Held::issuing_below(&root), Held::issuing_below(&root));
    let keys = [(&root, ACTIVE), (&issuing, NEXT), (&old, RETIRING)];
    let made = charter(&root, 7, &keys, &[&root]);
    let read = Charter::parse(made.bytes()).expect("our own");
    assert_eq!(read, made);
    assert_eq!(read.network(), root.network());
    assert_eq!((read.sequence(), read.issued()), (7, TODAY));
    assert_eq!(read.signers(), [root.hash()]);
    assert_eq!(read.keys().len(), 3);
    for (held, state) in keys {
        let key = read.key(&held.hash()).expect("in it");
        assert_eq!((key.state, key.key()), (state, held.hash()));
        assert_eq!(key.certificate.der(), held.der);
        assert_eq!(key.details().spki(), held.key.spki());
        let is_root = held.hash() == root.hash();
        assert_eq!(key.role == KeyRole::Root, is_root);
        assert_eq!(key.scope().is_none(), is_root);
    }
    assert_eq!(read.key(&KeyHash::from_bytes([1; 32])), None);
    assert_eq!(read.check_founding(), Ok(()));
}

#[test]
fn certificates_by_a_key_count_until_it_is_retired_or_revoked() {
    let until = TODAY + DAY;
    for (state, before, after) in [
        (NEXT, true, true),
        (ACTIVE, true, true),
        (KeyState::Retiring { until }, true, false),
        (REVOKED, false, false),
    ] {
        assert_eq!(state.counts(until), before, "{state:?}");
        assert_eq!(state.counts(until + SECOND), after, "{state:?}");
    }
}

#[test]
fn only_the_founding_root_begins_a_history() {
    let (root, thief) = (Held::root(), Held::root());
    let keys = [(&root, ACTIVE), (&thief, ACTIVE)];
    let not_founded = Err(SuccessorFault::NotFounded);
    // Signed by somebody else, with the founder named; and without the founder in it.
    let by_thief = charter(&root, 1, &keys, &[&thief]);
    assert_eq!(by_thief.check_founding(), not_founded);
    let without = charter(&root, 1, &[(&thief, ACTIVE)], &[&root, &thief]);
    assert_eq!(without.check_founding(), not_founded);
    for state in [NEXT, RETIRING, REVOKED] {
        let keys = [(&root, state), (&thief, ACTIVE)];
        let unused = charter(&root, 1, &keys, &[&root, &thief]);
        assert_eq!(unused.check_founding(), not_founded, "{state:?}");
    }
    for signers in [&[&root][..], &[&root, &thief]] {
        let both = charter(&root, 1, &keys, signers);
        assert_eq!(both.check_founding(), Ok(()));
    }
}

#[test]
fn a_charter_is_signed_by_a_root_that_was_active_before() {
    let (root, other) = (Held::root(), Held::root());
    let issuing = Held::issuing_below(&root);
    for (state, entitled) in [
        (ACTIVE, true),
        // Announced, retired and revoked roots sign nothing: whoever finds one of these keys
        // must not take the authority over.
        (NEXT, false),
        (RETIRING, false),
        (REVOKED, false),
    ] {
        let keys = [(&root, ACTIVE), (&other, state), (&issuing, ACTIVE)];
        let before = charter(&root, 1, &keys, &[&root, &other]);
        let after = charter(&root, 2, &keys, &[&other]);
        let expected = match entitled {
            true => Ok(()),
            false => Err(SuccessorFault::NotEntitled),
        };
        assert_eq!(after.check_follows(&before), expected, "{state:?}");
        // An issuing key never does, however active it is, nor does a stranger.
        let after = charter(&root, 2, &keys, &[&issuing]);
        let refused = after.check_follows(&before);
        assert_eq!(refused, Err(SuccessorFault::NotEntitled));
        let after = charter(&root, 2, &keys, &[&Held::root()]);
        let refused = after.check_follows(&before);
        assert_eq!(refused, Err(SuccessorFault::NotEntitled));
    }
}

#[test]
fn a_new_root_is_entitled_by_an_old_one_only() {
    let (root, new) = (Held::root(), Held::root());
    let before = charter(&root, 1, &[(&root, ACTIVE)], &[&root]);
    for state in [NEXT, ACTIVE, RETIRING] {
        let keys = [(&root, ACTIVE), (&new, state)];
        let with = charter(&root, 2, &keys, &[&root]);
        assert_eq!(with.check_follows(&before), Ok(()));
        let alone = charter(&root, 2, &keys, &[&new]);
        let fault = SuccessorFault::NotEntitled;
        assert_eq!(alone.check_follows(&before), Err(fault));
    }
}

#[test]
fn no_authority_lists_a_key_whose_holder_did_not_ask_for_it() {
    // A hostile authority declares the key of somebody else revoked, or in use, or over.
    let (root, thief) = (Held::root(), Held::root());
    let elsewhere = Held::root().network();
    for victim in [Held::root(), Held::issuing_below(&root)] {
        let own = CharterKey::proof(&victim.key, &root.network()).expect("a request");
        let by_thief = CharterKey::proof(&thief.key, &root.network()).expect("a request");
        let other_network = CharterKey::proof(&victim.key, &elsewhere).expect("a request");
        let name = comity_certs::mint_csr(&victim.key, "build").expect("a request");
        let mut text = b"-----BEGIN CERTIFICATE REQUEST-----\n".to_vec();
        text.extend(data_encoding::BASE64.encode(&own).bytes());
        text.extend(b"\n-----END CERTIFICATE REQUEST-----\n");
        let mut broken = own.clone();
        *broken.last_mut().expect("bytes") ^= 1;
        for state in [NEXT, ACTIVE, RETIRING, REVOKED] {
            let with = |proof: &[u8]| {
                let keys = [(&root, ACTIVE), (&victim, state)];
                let mut request = charter_request(&root, 1, &keys);
                request.keys[1].proof = proof.to_vec();
                request.sign(&[&root.key]).map(|_| ())
            };
            assert!(with(&own).is_ok());
            for proof in [
                &by_thief,
                &other_network,
                &name,
                &text,
                &broken,
                &Vec::new(),
            ] {
                let Err(SigningError::Refused(refused)) = with(proof) else {
                    panic!("it is accepted");
                };
                let expected = CharterError::Possession {
                    key: victim.hash(),
                    network: root.network(),
                };
                assert_eq!(refused, expected);
            }
        }
    }
}

#[test]
fn sequences_of_charters_increase() {
    let root = Held::root();
    let with = |sequence| charter(&root, sequence, &[(&root, ACTIVE)], &[&root]);
    let before = with(5);
    assert_eq!(with(6).check_follows(&before), Ok(()));
    assert_eq!(with(FURTHEST).check_follows(&before), Ok(()));
    for sequence in [1, 4, 5] {
        let fault = SuccessorFault::Sequence {
            before: 5,
            sequence,
        };
        assert_eq!(with(sequence).check_follows(&before), Err(fault));
    }
    let zero = try_charter(&root, 0, &[(&root, ACTIVE)], &[&root]);
    assert_eq!(zero, Err(FormatError::Value { key: 3 }.into()));
}

#[test]
fn a_charter_of_another_network_follows_nothing() {
    let (root, other) = (Held::root(), Held::root());
    let keys = [(&root, ACTIVE), (&other, ACTIVE)];
    let ours = charter(&root, 1, &keys, &[&root, &other]);
    let theirs = charter(&other, 2, &keys, &[&root, &other]);
    assert_eq!(theirs.check_follows(&ours), Err(SuccessorFault::Network));
}

#[test]
fn no_state_goes_back() {
    let states = [NEXT, ACTIVE, RETIRING, REVOKED];
    let root = Held::root();
    for held in [Held::issuing_below(&root), Held::root()] {
        for (was, before) in states.into_iter().enumerate() {
            for (is, after) in states.into_iter().enumerate() {
                let keys = |state| [(&root, ACTIVE), (&held, state)];
                let before = charter(&root, 1, &keys(before), &[&root, &held]);
                let after = charter(&root, 2, &keys(after), &[&root]);
                let expected = match is >= was {
                    true => Ok(()),
                    false => Err(SuccessorFault::StateWentBack { key: held.hash() }),
                };
                assert_eq!(after.check_follows(&before), expected, "{was} -> {is}");
            }
        }
    }
}

#[test]
fn the_end_of_an_overlap_is_never_put_off() {
    let root = Held::root();
    let held = Held::issuing_below(&root);
    let until = |seconds| KeyState::Retiring {
        until: TODAY + SECOND * seconds,
    };
    let with = |sequence, state| {
        charter(
            &root,
            sequence,
            &[(&root, ACTIVE), (&held, state)],
            &[&root],
        )
    };
    let before = with(1, until(100));
    for (seconds, expected) in [(0, true), (99, true), (100, true), (101, false)] {
        let after = with(2, until(seconds));
        let expected = match expected {
            true => Ok(()),
            false => Err(SuccessorFault::StateWentBack { key: held.hash() }),
        };
        assert_eq!(after.check_follows(&before), expected, "{seconds}");
    }
}

#[test]
fn a_revoked_key_stays_and_any_other_as_long_as_its_certificate() {
    // Otherwise it could leave while it is retiring, and come back active.
    let root = Held::root();
    let end = TODAY + 2 * 365 * DAY;
    let held = Held::issuing_below(&root);
    for (issued, is_over) in [(TODAY, false), (end, false), (end + SECOND, true)] {
        let mut without = charter_request(&root, 2, &[(&root, ACTIVE)]);
        without.issued = issued;
        let without = without.sign(&[&root.key]).expect("sound");
        for state in [NEXT, ACTIVE, RETIRING, REVOKED] {
            let before = charter(&root, 1, &[(&root, ACTIVE), (&held, state)], &[&root]);
            let expected = match is_over && state != REVOKED {
                true => Ok(()),
                false => Err(SuccessorFault::KeyDropped { key: held.hash() }),
            };
            assert_eq!(
                without.check_follows(&before),
                expected,
                "{state:?} {issued}"
            );
        }
    }
}

#[test]
fn one_root_is_always_active() {
    let root = Held::root();
    let issuing = Held::issuing_below(&root);
    for state in [NEXT, RETIRING, REVOKED] {
        let keys = [(&root, state), (&issuing, REVOKED)];
        let refused = try_charter(&root, 1, &keys, &[&root]);
        assert_eq!(refused, Err(CharterError::NoActiveRoot), "{state:?}");
    }
    let refused = try_charter(&root, 1, &[], &[&root]);
    assert_eq!(refused, Err(CharterError::NoActiveRoot));
}

#[test]
fn an_issuing_key_needs_its_root_in_the_charter() {
    let (root, other) = (Held::root(), Held::root());
    let below_other = Held::issuing_below(&other);
    let absent = || CharterError::IssuerAbsent {
        key: below_other.hash(),
        issuer: other.hash(),
    };
    for state in [NEXT, ACTIVE, RETIRING] {
        let keys = [(&root, ACTIVE), (&below_other, state)];
        let refused = try_charter(&root, 1, &keys, &[&root]);
        assert_eq!(refused, Err(absent()), "{state:?}");
        let keys = [(&root, ACTIVE), (&other, REVOKED), (&below_other, state)];
        let refused = try_charter(&root, 1, &keys, &[&root]);
        assert_eq!(refused, Err(absent()), "{state:?}");
        let keys = [(&root, ACTIVE), (&other, RETIRING), (&below_other, state)];
        assert!(try_charter(&root, 1, &keys, &[&root]).is_ok());
    }
    // What is revoked needs nobody to vouch for it.
    let keys = [(&root, ACTIVE), (&below_other, REVOKED)];
    assert!(try_charter(&root, 1, &keys, &[&root]).is_ok());
}

#[test]
fn an_issuing_certificate_that_its_root_did_not_sign_is_refused() {
    let (root, thief) = (Held::root(), Held::root());
    let mut issuing = Held::issuing_below(&root);
    let forged = crate::certificates::RawCertificate::of(&issuing.der);
    issuing.der = forged.sign(&thief.key);
    let keys = [(&root, ACTIVE), (&issuing, ACTIVE)];
    let refused = try_charter(&root, 1, &keys, &[&root]);
    assert!(matches!(
        refused,
        Err(CharterError::Certificate {
            cause: AuthorityFault::Signature(VerifyError::BadSignature),
            ..
        })
    ));
}

#[test]
fn certificates_that_are_no_authoritys_are_refused() {
    let root = Held::root();
    let node = Node::new();
    let node = Held {
        key: TestKey::generate(Algorithm::EcdsaP256),
        der: node.root,
    };
    let refused = try_charter(&root, 1, &[(&root, ACTIVE), (&node, ACTIVE)], &[&root]);
    assert!(matches!(refused, Err(CharterError::Certificate { .. })));
}

#[test]
fn a_certificate_has_the_role_that_is_written() {
    let root = Held::root();
    let issuing = Held::issuing_below(&root);
    let sound = charter(&root, 1, &[(&root, ACTIVE), (&issuing, ACTIVE)], &[&root]);
    for role in [0, 1] {
        let mut keys = [&root, &issuing];
        keys.sort_unstable_by_key(|held| held.hash());
        let list = encoded(|e| {
            drop(e.array(2));
            for held in keys {
                let proof = CharterKey::proof(&held.key, &root.network()).expect("a request");
                let e = e
                    .array(5)
                    .and_then(|e| e.u8(role)?.u8(1)?.u64(0)?.bytes(&held.der));
                drop(e.and_then(|e| e.bytes(&proof)));
            }
        });
        let forged = Raw::of(sound.bytes()).with(5, list);
        let refused = Charter::parse(&forged.signed_charter(&[&root.key]));
        assert!(matches!(refused, Err(CharterError::Role { .. })));
    }
}

#[test]
fn keys_are_listed_once_and_in_order() {
    let root = Held::root();
    let issuing = Held::issuing_below(&root);
    let sound = charter(&root, 1, &[(&root, ACTIVE), (&issuing, ACTIVE)], &[&root]);
    let mut sorted = [(&root, 0), (&issuing, 1)];
    sorted.sort_unstable_by_key(|(held, _)| held.hash());
    let list = |keys: &[(&Held, u8)], state: u8, until: u64| {
        encoded(|e| {
            drop(e.array(keys.len() as u64));
            for (held, role) in keys {
                let proof = CharterKey::proof(&held.key, &root.network()).expect("a request");
                let e = e.array(5).and_then(|e| e.u8(*role)?.u8(state)?.u64(until));
                drop(e.and_then(|e| e.bytes(&held.der)?.bytes(&proof)));
            }
        })
    };
    let parse = |value| {
        let raw = Raw::of(sound.bytes()).with(5, value);
        Charter::parse(&raw.signed_charter(&[&root.key]))
    };
    assert!(parse(list(&sorted, 1, 0)).is_ok());
    let [first, second] = sorted;
    for keys in [[second, first], [first, first]] {
        let refused = parse(list(&keys, 1, 0));
        assert_eq!(refused, Err(FormatError::NotDeterministic.into()));
    }
    // A state has one spelling, and there are four.
    for (state, until) in [(0, 1), (1, 1), (3, 1), (4, 0)] {
        let refused = parse(list(&sorted, state, until));
        assert_eq!(refused, Err(FormatError::Value { key: 5 }.into()));
    }
    let late = UnixTime::NEVER.as_secs() + 1;
    let refused = parse(list(&sorted, 2, late));
    assert_eq!(refused, Err(FormatError::Value { key: 5 }.into()));
}

#[test]
fn signers_are_listed_once_and_in_order_and_each_must_have_signed() {
    let (root, other) = (Held::root(), Held::root());
    let keys = [(&root, ACTIVE), (&other, ACTIVE)];
    let sound = charter(&root, 1, &keys, &[&other, &root, &root]);
    assert_eq!(sound.signers().len(), 2);
    let payload = Raw::of(sound.bytes()).payload();
    let mut signers = [&root.key, &other.key];
    signers.sort_unstable_by_key(|key| KeyHash::of_spki(key.spki()));
    assert!(Charter::parse(&charter_envelope(&payload, &signers)).is_ok());
    let [first, second] = signers;
    for signers in [[second, first], [first, first]] {
        let refused = Charter::parse(&charter_envelope(&payload, &signers));
        assert_eq!(refused, Err(FormatError::NotDeterministic.into()));
    }
    let refused = Charter::parse(&charter_envelope(&payload, &[]));
    assert_eq!(refused, Err(CharterError::Unsigned));
    // A good signature beside a bad one does not help.
    let good = first
        .sign(&message(CHARTER, &payload))
        .expect("a software key");
    let bad = second
        .sign(&message(BUNDLE, &payload))
        .expect("a software key");
    let forged = encoded(|e| {
        drop(e.array(2).and_then(|e| e.bytes(&payload)?.array(2)));
        drop(e.array(2).and_then(|e| e.bytes(first.spki())?.bytes(&good)));
        drop(e.array(2).and_then(|e| e.bytes(second.spki())?.bytes(&bad)));
    });
    let error = CharterError::Signature {
        signer: KeyHash::of_spki(second.spki()),
        cause: VerifyError::BadSignature,
    };
    assert_eq!(Charter::parse(&forged), Err(error));
    // The envelope of other objects is none of a charter.
    let forged = envelope(&payload, &[good]);
    assert_eq!(Charter::parse(&forged), Err(FormatError::Shape.into()));
}

#[test]
fn thirty_two_keys_are_accepted_and_one_more_is_not() {
    let root = Held::root();
    let issuing: Vec<Held> = (0..MAX_CHARTER_KEYS)
        .map(|_| Held::issuing_below(&root))
        .collect();
    let mut keys: Vec<_> = issuing.iter().map(|held| (held, ACTIVE)).collect();
    keys.push((&root, ACTIVE));
    let limit = FormatError::Limit {
        what: "keys",
        found: 33,
        limit: MAX_CHARTER_KEYS,
    };
    assert_eq!(try_charter(&root, 1, &keys, &[&root]), Err(limit.into()));
    let full = charter(&root, 1, &keys[1..], &[&root]);
    assert_eq!(full.keys().len(), MAX_CHARTER_KEYS);
    assert!(full.bytes().len() <= MAX_CHARTER_BYTES);
}

#[test]
fn eight_signatures_are_accepted_and_one_more_is_not() {
    let roots: Vec<Held> = (0..=MAX_CHARTER_SIGNATURES).map(|_| Held::root()).collect();
    let keys: Vec<_> = roots.iter().map(|root| (root, ACTIVE)).collect();
    let signers: Vec<&Held> = roots.iter().collect();
    let limit = FormatError::Limit {
        what: "signatures",
        found: 9,
        limit: MAX_CHARTER_SIGNATURES,
    };
    let refused = try_charter(&roots[0], 1, &keys, &signers);
    assert_eq!(refused, Err(limit.into()));
    assert!(try_charter(&roots[0], 1, &keys[..8], &signers[..8]).is_ok());
}

#[test]
fn its_size_is_limited_exactly() {
    let root = Held::root_with(Algorithm::Ed25519);
    let sound = charter(&root, 1, &[(&root, ACTIVE)], &[&root]);
    let padded = |length: usize| {
        let value = crate::raw::bytes(&vec![0; length]);
        Raw::of(sound.bytes())
            .with(128, value)
            .signed_charter(&[&root.key])
    };
    // Heads of the same length on both sides.
    let room = MAX_CHARTER_BYTES - padded(60_000).len() + 60_000;
    assert_eq!(padded(room).len(), MAX_CHARTER_BYTES);
    assert!(Charter::parse(&padded(room)).is_ok());
    let over = padded(room + 1);
    assert!(matches!(
        Charter::parse(&over),
        Err(CharterError::Format(FormatError::Limit {
            what: "bytes",
            ..
        }))
    ));
}

#[test]
fn every_field_is_needed_and_unknown_ones_are_refused_below_128() {
    let root = Held::root();
    let sound = charter(&root, 1, &[(&root, ACTIVE)], &[&root]);
    let raw = Raw::of(sound.bytes());
    for key in 1..=5 {
        let refused = Charter::parse(&raw.clone().without(key).signed_charter(&[&root.key]));
        assert_eq!(refused, Err(FormatError::Missing { key }.into()));
    }
    let with = |key, value| {
        let raw = raw.clone().with(key, value);
        Charter::parse(&raw.signed_charter(&[&root.key]))
    };
    assert_eq!(with(1, number(2)), Err(CharterError::Version { found: 2 }));
    for key in [6, 127] {
        let unknown = FormatError::Unknown { key };
        assert_eq!(with(key, number(1)), Err(unknown.into()));
    }
    let later = with(128, number(1)).expect("ignored");
    assert_eq!(Raw::of(later.bytes()).0[&128], number(1));
}

#[test]
fn a_history_keeps_what_is_needed_to_follow_the_roots() {
    let org = Org::new();
    let root = &org.root;
    let mut history = Charter::append(&[], org.founding.clone()).expect("founding");
    // Issuing keys change every day: no reader needs any of these steps.
    let mut issuing: Vec<Held> = Vec::new();
    for sequence in 2..28 {
        issuing.push(Held::issuing_below(root));
        let (last, old) = issuing.split_last().expect("one");
        let mut keys = vec![(root, ACTIVE), (&org.issuing, RETIRING), (last, ACTIVE)];
        keys.extend(old.iter().map(|held| (held, RETIRING)));
        let added = charter(root, sequence, &keys, &[root]);
        history = Charter::append(&history, added).expect("it follows");
    }
    let sequences = |history: &[Charter]| history.iter().map(Charter::sequence).collect::<Vec<_>>();
    assert_eq!(sequences(&history), [1, 27]);
    // A change of roots stays.
    let mut old = vec![(&org.issuing, RETIRING)];
    old.extend(issuing.iter().map(|held| (held, RETIRING)));
    let (new, years) = (Held::root(), TODAY + 21 * 365 * DAY);
    let below_new = Held::issuing_below(&new);
    let both = [(root, ACTIVE), (&new, ACTIVE)];
    let only_new = [(root, RETIRING), (&new, ACTIVE), (&below_new, ACTIVE)];
    for (sequence, keys, issued, expected) in [
        (40, [&old[..], &both].concat(), TODAY, &[1, 40][..]),
        (41, [&old[..], &only_new].concat(), TODAY, &[1, 40, 41]),
        // All certificates of the old one are over.
        (42, only_new[1..].to_vec(), years, &[1, 40, 41, 42]),
    ] {
        let mut request = charter_request(root, sequence, &keys);
        request.issued = issued;
        let signer = if sequence == 40 { root } else { &new };
        let added = request.sign(&[&signer.key]).expect("sound");
        history = Charter::append(&history, added).expect("it follows");
        assert_eq!(sequences(&history), expected);
    }
    // Whatever is left out, each step is one.
    for pair in history.windows(2) {
        assert_eq!(pair[1].check_follows(&pair[0]), Ok(()));
    }
    let stranger = charter(root, 43, &[(root, ACTIVE)], &[root]);
    let refused = Charter::append(&history, stranger);
    assert_eq!(refused, Err(SuccessorFault::NotEntitled));
}

#[test]
fn sixteen_charters_fit_a_history_and_one_more_does_not() {
    let mut roots = vec![Held::root()];
    let first = charter(&roots[0], 1, &[(&roots[0], ACTIVE)], &[&roots[0]]);
    let mut history = Charter::append(&[], first).expect("founding");
    for sequence in 2..=17 {
        roots.push(Held::root());
        let (new, old) = roots.split_last().expect("two roots");
        let mut keys: Vec<(&Held, KeyState)> = old.iter().map(|root| (root, RETIRING)).collect();
        keys.push((new, ACTIVE));
        let added = charter(&roots[0], sequence, &keys, &[&old[old.len() - 1], new]);
        let longer = Charter::append(&history, added);
        if sequence == 17 {
            assert_eq!(longer, Err(SuccessorFault::HistoryFull));
        } else {
            history = longer.expect("it follows");
        }
    }
    assert_eq!(history.len(), MAX_CHARTERS);
}

#[test]
fn one_charter_signed_twice_has_one_digest() {
    let root = Held::root();
    let request = charter_request(&root, 1, &[(&root, ACTIVE)]);
    let [one, two] = [(); 2].map(|()| request.sign(&[&root.key]).expect("sound"));
    assert_ne!(one.bytes(), two.bytes());
    assert_eq!(one.digest(), two.digest());
    assert_eq!(one.network(), NodeId::of_spki(root.key.spki()));
}

#[test]
fn a_request_without_a_signer_makes_nothing() {
    let root = Held::root();
    let refused = charter_request(&root, 1, &[(&root, ACTIVE)]).sign(&[]);
    assert!(matches!(
        refused,
        Err(SigningError::Refused(CharterError::Unsigned))
    ));
}
