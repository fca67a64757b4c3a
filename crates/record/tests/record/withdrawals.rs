//! What is remembered of withdrawals.

use comity_identity::KeyHash;
use comity_record::limits::MAX_REMEMBERED_WITHDRAWALS;
use comity_record::{FormatError, Withdrawal, Withdrawn, WithdrawnWhat};

use crate::certificates::{DAY, TODAY};
use crate::world::{ACTIVE, Org, REVOKED, bundle, charter};

const SIGNER: KeyHash = KeyHash::from_bytes([3; 32]);

fn certificate(serial: u32) -> Withdrawal {
    Withdrawal {
        what: WithdrawnWhat::Certificate {
            issuer: KeyHash::from_bytes([5; 32]),
            serial: serial.to_be_bytes().to_vec(),
        },
        at: TODAY,
    }
}

fn key(byte: u8) -> Withdrawal {
    Withdrawal {
        what: WithdrawnWhat::Key(KeyHash::from_bytes([byte; 32])),
        at: TODAY,
    }
}

#[test]
fn what_was_withdrawn_once_is_withdrawn_for_ever() {
    let hash = |byte| KeyHash::from_bytes([byte; 32]);
    let mut all = Withdrawn::new();
    assert!(all.is_empty());
    all.extend(SIGNER, &[certificate(1), key(9)]).expect("few");
    all.extend(SIGNER, &[]).expect("none");
    all.extend(SIGNER, &[certificate(2)]).expect("few");
    assert_eq!(all.len(), 3);
    assert!(all.contains(&hash(5), &[0, 0, 0, 1], &hash(0)));
    assert!(all.contains(&hash(5), &[0, 0, 0, 2], &hash(0)));
    assert!(all.contains(&hash(0), &[], &hash(9)));
    // Another issuer's certificate of the same number, another number, the issuer's own key.
    assert!(!all.contains(&hash(6), &[0, 0, 0, 1], &hash(0)));
    assert!(!all.contains(&hash(5), &[0, 0, 0, 3], &hash(0)));
    assert!(!all.contains(&hash(9), &[0, 0, 0, 3], &hash(5)));
    let listed: Vec<Withdrawal> = all.by(&SIGNER).collect();
    assert_eq!(listed, [certificate(1), certificate(2), key(9)]);
}

#[test]
fn of_two_for_one_thing_the_earlier_time_is_kept() {
    let later = |mut withdrawal: Withdrawal| {
        withdrawal.at = TODAY + DAY;
        withdrawal
    };
    for (first, second) in [
        (later(key(1)), key(1)),
        (key(1), later(key(1))),
        (later(certificate(1)), certificate(1)),
        (certificate(1), later(certificate(1))),
    ] {
        let mut all = Withdrawn::new();
        all.extend(SIGNER, &[first, second]).expect("few");
        assert_eq!(all.len(), 1);
        assert!(all.iter().all(|(_, withdrawal)| withdrawal.at == TODAY));
    }
}

#[test]
fn a_hundred_thousand_are_remembered_and_one_more_is_not() {
    let mut all = Withdrawn::new();
    let many: Vec<Withdrawal> = (0..100_000).map(certificate).collect();
    all.extend(SIGNER, &many).expect("at the limit");
    assert_eq!(all.len(), MAX_REMEMBERED_WITHDRAWALS);
    // Nothing new in it: no limit is in the way.
    all.extend(SIGNER, &many[..10]).expect("known already");
    let limit = FormatError::Limit {
        what: "withdrawals",
        found: 100_001,
        limit: MAX_REMEMBERED_WITHDRAWALS,
    };
    assert_eq!(all.extend(SIGNER, &[key(1)]), Err(limit));
    assert_eq!(all.len(), MAX_REMEMBERED_WITHDRAWALS);
    // A thief who filled his room leaves that of the others alone.
    let other = KeyHash::from_bytes([4; 32]);
    all.extend(other, &[key(1)]).expect("the first of another");
    assert_eq!(all.len(), MAX_REMEMBERED_WITHDRAWALS + 1);
}

#[test]
fn junk_by_a_stolen_key_takes_no_withdrawal_back() {
    let org = Org::new();
    let junk: Vec<Withdrawal> = (0..100_000).map(certificate).collect();
    let mut kept = Withdrawn::new();
    kept.extend(org.issuing.hash(), &junk)
        .expect("at the limit");
    let held = org.bundle_with(5, &[&org.founding], &org.issuing, &[key(1)]);
    let limit = FormatError::Limit {
        what: "withdrawals",
        found: 100_001,
        limit: MAX_REMEMBERED_WITHDRAWALS,
    };
    assert_eq!(kept.succeeded(&held, &org.bundle(6)), Err(limit));
    let repeated = org.bundle_with(6, &[&org.founding], &org.issuing, &[key(1), key(2)]);
    assert_eq!(kept.succeeded(&held, &repeated), Ok(kept.clone()));
    // Another key of the authority has room of its own, and the charter that revokes this one ends it.
    let by_root = org.bundle_with(5, &[&org.founding], &org.root, &[key(1)]);
    let other = kept.succeeded(&by_root, &org.bundle(6)).expect("room");
    assert_eq!(other.len(), 100_001);
    let keys = [(&org.root, ACTIVE), (&org.issuing, REVOKED)];
    let revoking = charter(&org.root, 2, &keys, &[&org.root]);
    let healed = bundle(2, &[&org.founding, &revoking], &org.root, &[key(1)]);
    let after = kept.succeeded(&held, &healed).expect("room again");
    assert!(after.is_empty());
}
