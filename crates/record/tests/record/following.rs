//! What a bundle means for somebody who holds an older one. Most of these are attacks.

use comity_identity::KeyHash;
use comity_record::{
    Bundle, BundleError, Charter, CharterError, Follow, FollowError, Fork, FormatError, KeyState,
    SigningError, SuccessorFault, Withdrawal, Withdrawn, WithdrawnWhat,
};

use crate::certificates::{DAY, TODAY};
use crate::world::{
    ACTIVE, FURTHEST, Held, Org, RETIRING, REVOKED, SECOND, bundle, charter, charter_request,
    request,
};

fn key(byte: u8, at: comity_identity::UnixTime) -> Withdrawal {
    Withdrawal {
        what: WithdrawnWhat::Key(KeyHash::from_bytes([byte; 32])),
        at,
    }
}

fn newer(held: &Bundle, offered: &Bundle) -> bool {
    matches!(Bundle::follow(held, offered), Ok(Follow::Newer))
}

#[test]
fn the_next_bundle_is_followed_and_the_same_one_is_the_same() {
    let org = Org::new();
    let (one, two) = (org.bundle(1), org.bundle(2));
    assert!(newer(&one, &two));
    assert!(newer(&one, &org.bundle(FURTHEST)));
    assert_eq!(Bundle::follow(&one, &one), Ok(Follow::Same));
    // The same content signed once more: ECDSA signatures are random.
    let again = org.bundle(1);
    assert_ne!(again.bytes(), one.bytes());
    assert_eq!(Bundle::follow(&one, &again), Ok(Follow::Same));
}

#[test]
fn an_old_bundle_is_refused() {
    // T84.
    let org = Org::new();
    let held = org.bundle(5);
    let refused = Bundle::follow(&held, &org.bundle(4));
    let error = FollowError::Rollback {
        held: 5,
        offered: 4,
    };
    assert_eq!(refused, Err(error));
}

#[test]
fn two_bundles_of_one_sequence_are_a_fork() {
    let org = Org::new();
    let held = org.bundle(5);
    let other = org.bundle_with(5, &[&org.founding], &org.issuing, &[key(1, TODAY)]);
    let fork = Fork::Bundle {
        sequence: 5,
        held: held.digest(),
        offered: other.digest(),
    };
    let refused = Bundle::follow(&held, &other);
    assert_eq!(refused, Err(FollowError::Fork(fork)));
}

#[test]
fn networks_of_one_name_stay_apart() {
    let (ours, theirs) = (Org::new(), Org::new());
    let refused = Bundle::follow(&ours.bundle(1), &theirs.bundle(2));
    let error = FollowError::WrongNetwork {
        held: ours.root.network(),
        offered: theirs.root.network(),
    };
    assert_eq!(refused, Err(error));
}

#[test]
fn no_withdrawal_is_ever_taken_back() {
    let org = Org::new();
    let early = [key(1, TODAY), key(2, TODAY + DAY)];
    let held = org.bundle_with(1, &[&org.founding], &org.issuing, &early);
    let late = [key(2, TODAY), key(3, TODAY)];
    let offered = org.bundle_with(2, &[&org.founding], &org.issuing, &late);
    assert!(newer(&held, &offered));
    let kept = Withdrawn::new().succeeded(&held, &offered).expect("few");
    let all: Vec<Withdrawal> = kept.by(&org.issuing.hash()).collect();
    assert_eq!(
        all,
        [key(1, TODAY)],
        "the offered one says the other itself"
    );
    // A thief of the issuing key publishes an empty list.
    let kept = kept.succeeded(&offered, &org.bundle(3)).expect("few");
    for byte in [1, 2, 3] {
        assert!(kept.contains(&org.root.hash(), &[1], &KeyHash::from_bytes([byte; 32])));
    }
    assert_eq!(kept.len(), 3);
}

#[test]
fn what_a_thief_withdrew_counts_no_more_once_his_key_is_revoked() {
    let robbed = Robbed::new();
    let (org, victim) = (&robbed.org, KeyHash::from_bytes([1; 32]));
    let kept_of = |held: &Bundle, before: &Withdrawn| {
        let offered = bundle(
            9,
            &[&org.founding, &robbed.revoking],
            &robbed.fresh,
            &[key(2, TODAY)],
        );
        assert!(newer(held, &offered));
        before.succeeded(held, &offered).expect("few")
    };
    // In the bundle that is held, and in one before it.
    let thief = org.bundle_with(5, &[&org.founding], &org.issuing, &[key(1, TODAY)]);
    assert!(kept_of(&thief, &Withdrawn::new()).is_empty());
    let before = Withdrawn::new()
        .succeeded(&thief, &org.bundle(6))
        .expect("few");
    assert!(before.contains(&org.root.hash(), &[1], &victim));
    assert!(kept_of(&org.bundle(6), &before).is_empty());
    // What another key said stays, also if the thief said it as well.
    let root = org.bundle_with(7, &[&org.founding], &org.root, &[key(1, TODAY)]);
    let kept = kept_of(&root, &before);
    assert!(kept.contains(&org.root.hash(), &[1], &victim));
    assert_eq!(kept.len(), 1);
}

/// An authority whose issuing key was stolen and revoked.
struct Robbed {
    org: Org,
    fresh: Held,
    revoking: Charter,
}

impl Robbed {
    fn new() -> Self {
        let org = Org::new();
        let fresh = Held::issuing_below(&org.root);
        let keys = [
            (&org.root, ACTIVE),
            (&org.issuing, REVOKED),
            (&fresh, ACTIVE),
        ];
        let revoking = charter(&org.root, 2, &keys, &[&org.root]);
        Self {
            org,
            fresh,
            revoking,
        }
    }

    fn honest(&self, sequence: u64) -> Bundle {
        bundle(
            sequence,
            &[&self.org.founding, &self.revoking],
            &self.fresh,
            &[],
        )
    }
}

#[test]
fn a_stolen_issuing_key_is_worth_nothing_once_a_charter_says_so() {
    let robbed = Robbed::new();
    let held = robbed.honest(10);
    // The thief signs below the old charter, in which his key is active.
    let stolen = robbed.org.bundle(FURTHEST);
    let error = FollowError::CharterRollback {
        held: 2,
        offered: 1,
    };
    assert_eq!(Bundle::follow(&held, &stolen), Err(error));
    // Below the new one it is not even a bundle.
    let charters = [&robbed.org.founding, &robbed.revoking];
    let refused = request(11, &charters, &[]).sign(&robbed.org.issuing.key);
    assert!(refused.is_err());
}

#[test]
fn a_thief_cannot_use_the_sequences_up() {
    let robbed = Robbed::new();
    // The last of all sequences, from the thief, reached this reader first.
    let held = robbed.org.bundle(FURTHEST);
    assert!(newer(&held, &robbed.honest(2)));
    // From there on sequences count again.
    let refused = Bundle::follow(&robbed.honest(2), &robbed.honest(1));
    assert!(matches!(refused, Err(FollowError::Rollback { .. })));
}

#[test]
fn a_newer_charter_alone_does_not_make_an_older_bundle_newer() {
    let org = Org::new();
    let keys = [(&org.root, ACTIVE), (&org.issuing, ACTIVE)];
    let second = charter(&org.root, 2, &keys, &[&org.root]);
    let charters = [&org.founding, &second];
    let held = org.bundle(5);
    let older = bundle(4, &charters, &org.issuing, &[]);
    let error = FollowError::Rollback {
        held: 5,
        offered: 4,
    };
    assert_eq!(Bundle::follow(&held, &older), Err(error));
    let same = bundle(5, &charters, &org.issuing, &[]);
    assert!(matches!(
        Bundle::follow(&held, &same),
        Err(FollowError::Fork(Fork::Bundle { sequence: 5, .. }))
    ));
    assert!(newer(&held, &bundle(6, &charters, &org.issuing, &[])));
}

/// An authority that went from root one to root two.
struct Rolled {
    one: Held,
    two: Held,
    charters: Vec<Charter>,
}

impl Rolled {
    fn new() -> Self {
        let (one, two) = (Held::root(), Held::root());
        let founding = charter(&one, 1, &[(&one, ACTIVE)], &[&one]);
        let both = [(&one, ACTIVE), (&two, ACTIVE)];
        let both = charter(&one, 2, &both, &[&one, &two]);
        let retired = [(&one, RETIRING), (&two, ACTIVE)];
        let retired = charter(&one, 3, &retired, &[&two]);
        let revoked = [(&one, REVOKED), (&two, ACTIVE)];
        let revoked = charter(&one, 4, &revoked, &[&two]);
        let charters = vec![founding, both, retired, revoked];
        Self { one, two, charters }
    }

    fn held(&self, charters: usize) -> Bundle {
        let charters: Vec<&Charter> = self.charters.iter().take(charters).collect();
        bundle(charters.len() as u64, &charters, &self.two, &[])
    }
}

#[test]
fn a_reader_that_was_away_catches_up_over_every_change_of_root() {
    let rolled = Rolled::new();
    let founding = bundle(1, &[&rolled.charters[0]], &rolled.one, &[]);
    let now = rolled.held(4);
    assert!(newer(&founding, &now));
    for charters in 2..4 {
        assert!(newer(&rolled.held(charters), &now));
        assert!(newer(&founding, &rolled.held(charters)));
    }
}

#[test]
fn a_stolen_retired_root_takes_nothing_over() {
    let rolled = Rolled::new();
    let (one, mine) = (&rolled.one, Held::root());
    let keys = [(one, ACTIVE), (&mine, ACTIVE)];
    // The thief goes on from the founding charter, where the stolen root was all there was.
    for sequence in [3, 4, 5, FURTHEST] {
        let taken = charter(one, sequence, &keys, &[one, &mine]);
        let offered = bundle(99, &[&rolled.charters[0], &taken], &mine, &[]);
        for held in [rolled.held(3), rolled.held(4)] {
            let refused = Bundle::follow(&held, &offered);
            let sequence = held.charter().sequence();
            assert!(
                matches!(
                    refused,
                    Err(FollowError::NotASuccessor { .. } | FollowError::CharterRollback { .. })
                ),
                "{sequence}: {refused:?}"
            );
        }
    }
    // Or from the last charter in which it was active, with the genuine one after it.
    let keys = [(one, ACTIVE), (&rolled.two, RETIRING), (&mine, ACTIVE)];
    let taken = charter(one, 9, &keys, &[one, &mine]);
    let offered = bundle(
        99,
        &[&rolled.charters[0], &rolled.charters[1], &taken],
        &mine,
        &[],
    );
    let error = FollowError::NotASuccessor {
        held: 4,
        offered: 9,
        fault: SuccessorFault::NotEntitled,
    };
    assert_eq!(Bundle::follow(&rolled.held(4), &offered), Err(error));
}

#[test]
fn a_revoked_root_does_not_come_back_by_a_history_that_leaves_its_revocation_out() {
    let rolled = Rolled::new();
    // Signed by the good root, but as if charter 4 had never been: a copy of the authority that was
    // restored from an old disk.
    let keys = [(&rolled.one, ACTIVE), (&rolled.two, ACTIVE)];
    let again = charter(&rolled.one, 5, &keys, &[&rolled.two]);
    let charters = [&rolled.charters[0], &rolled.charters[1], &again];
    let offered = bundle(99, &charters, &rolled.two, &[]);
    let fork = Fork::Charter {
        sequence: 5,
        held: rolled.charters[3].digest(),
        offered: again.digest(),
    };
    let refused = Bundle::follow(&rolled.held(4), &offered);
    assert_eq!(refused, Err(FollowError::Fork(fork)));
}

#[test]
fn two_charters_of_one_sequence_by_one_root_are_a_fork() {
    let org = Org::new();
    let mine = Held::root();
    let keys = [(&org.root, ACTIVE), (&org.issuing, ACTIVE)];
    let honest = charter(&org.root, 2, &keys, &[&org.root]);
    let keys = [
        (&org.root, RETIRING),
        (&org.issuing, REVOKED),
        (&mine, ACTIVE),
    ];
    let taken = charter(&org.root, 2, &keys, &[&org.root, &mine]);
    let honest_bundle = bundle(2, &[&org.founding, &honest], &org.issuing, &[]);
    let taken_bundle = bundle(3, &[&org.founding, &taken], &mine, &[]);
    // Whichever came first: a reader that met the thief first learns of it as well.
    for (held, offered, ours, theirs) in [
        (&honest_bundle, &taken_bundle, &honest, &taken),
        (&taken_bundle, &honest_bundle, &taken, &honest),
    ] {
        let fork = Fork::Charter {
            sequence: 2,
            held: ours.digest(),
            offered: theirs.digest(),
        };
        let refused = Bundle::follow(held, offered);
        assert_eq!(refused, Err(FollowError::Fork(fork)));
    }
    // A thief who revokes the genuine root is not contradicted by it where he came first: no more
    // than a thief is by whom a root was stolen that the authority revoked.
    let keys = [
        (&org.root, REVOKED),
        (&org.issuing, REVOKED),
        (&mine, ACTIVE),
    ];
    let taken = charter(&org.root, 2, &keys, &[&org.root, &mine]);
    let taken = bundle(3, &[&org.founding, &taken], &mine, &[]);
    let seen = Bundle::follow(&honest_bundle, &taken);
    assert!(matches!(seen, Err(FollowError::Fork(_))), "{seen:?}");
    let unseen = Bundle::follow(&taken, &honest_bundle);
    assert!(
        matches!(unseen, Err(FollowError::NotASuccessor { .. })),
        "{unseen:?}"
    );
}

#[test]
fn a_root_that_another_one_revoked_cannot_freeze_the_network() {
    let (one, two) = (Held::root(), Held::root());
    let keys = [(&one, ACTIVE), (&two, ACTIVE)];
    let founding = charter(&one, 1, &keys, &[&one, &two]);
    let revoked = charter(&one, 2, &[(&one, REVOKED), (&two, ACTIVE)], &[&two]);
    let held = bundle(2, &[&founding, &revoked], &two, &[]);
    let mine = Held::root();
    let keys = [(&one, ACTIVE), (&two, REVOKED), (&mine, ACTIVE)];
    let taken = charter(&one, 2, &keys, &[&one, &mine]);
    let offered = bundle(3, &[&founding, &taken], &mine, &[]);
    let refused = Bundle::follow(&held, &offered);
    assert!(
        matches!(refused, Err(FollowError::NotASuccessor { .. })),
        "{refused:?}"
    );
    // The other way round nobody can know which of the two is the thief.
    let refused = Bundle::follow(&offered, &held);
    assert!(
        matches!(refused, Err(FollowError::NotASuccessor { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_second_founding_charter_is_a_fork() {
    let org = Org::new();
    let keys = [(&org.root, ACTIVE)];
    let other = charter(&org.root, 1, &keys, &[&org.root]);
    let offered = bundle(2, &[&other], &org.root, &[]);
    let refused = Bundle::follow(&org.bundle(1), &offered);
    assert!(matches!(
        refused,
        Err(FollowError::Fork(Fork::Charter { sequence: 1, .. }))
    ));
}

#[test]
fn a_history_that_left_steps_out_is_followed_and_one_that_has_them_as_well() {
    // The authority leaves out what changed no root; a reader may hold exactly that.
    let org = Org::new();
    let fresh = Held::issuing_below(&org.root);
    let keys = [
        (&org.root, ACTIVE),
        (&org.issuing, ACTIVE),
        (&fresh, ACTIVE),
    ];
    let second = charter(&org.root, 2, &keys, &[&org.root]);
    let keys = [
        (&org.root, ACTIVE),
        (&org.issuing, REVOKED),
        (&fresh, ACTIVE),
    ];
    let third = charter(&org.root, 3, &keys, &[&org.root]);
    let held = bundle(2, &[&org.founding, &second], &fresh, &[]);
    let short = bundle(3, &[&org.founding, &third], &fresh, &[]);
    let long = bundle(3, &[&org.founding, &second, &third], &fresh, &[]);
    assert!(newer(&held, &short));
    assert!(newer(&held, &long));
    assert!(newer(&org.bundle(1), &short));
}

#[test]
fn a_founding_root_that_was_given_up_cannot_freeze_its_network() {
    // It is stolen years later, and signs a second beginning.
    let (one, two) = (Held::root(), Held::root());
    let keys = [(&one, ACTIVE), (&two, ACTIVE)];
    let founding = charter(&one, 1, &keys, &[&one, &two]);
    let again = charter(&one, 1, &[(&one, ACTIVE)], &[&one]);
    let offered = bundle(9, &[&again], &one, &[]);
    let is_fork = |held: &Bundle| {
        matches!(
            Bundle::follow(held, &offered),
            Err(FollowError::Fork(Fork::Charter { sequence: 1, .. }))
        )
    };
    let now = TODAY + 30 * DAY;
    let over = KeyState::Retiring {
        until: now - SECOND,
    };
    let still = KeyState::Retiring { until: now };
    for (state, expected) in [
        (ACTIVE, true),
        (still, true),
        (over, false),
        (REVOKED, false),
    ] {
        let second = charter(&one, 2, &[(&one, state), (&two, ACTIVE)], &[&two]);
        let mut held = request(2, &[&founding, &second], &[]);
        (held.issued, held.expires) = (now, now + DAY);
        let held = held.sign(&two.key).expect("a sound bundle");
        assert_eq!(is_fork(&held), expected, "{state:?}");
    }
}

#[test]
fn a_retired_root_that_is_stolen_cannot_freeze_the_network_after_its_time() {
    // It signs another charter in place of the one that retired it, which it had signed itself.
    let (one, two, mine) = (Held::root(), Held::root(), Held::root());
    let founding = charter(&one, 1, &[(&one, ACTIVE)], &[&one]);
    let keys = [(&one, RETIRING), (&two, ACTIVE)];
    let retired = charter(&one, 2, &keys, &[&one, &two]);
    let revoked = charter(&one, 3, &[(&one, REVOKED), (&two, ACTIVE)], &[&two]);
    let taken = charter(&one, 2, &[(&one, ACTIVE), (&mine, ACTIVE)], &[&one, &mine]);
    let offered = bundle(9, &[&founding, &taken], &mine, &[]);
    let is_fork =
        |held: &Bundle| matches!(Bundle::follow(held, &offered), Err(FollowError::Fork(_)));
    assert!(is_fork(&bundle(2, &[&founding, &retired], &two, &[])));
    let mut late = request(3, &[&founding, &retired], &[]);
    (late.issued, late.expires) = (TODAY + 31 * DAY, TODAY + 32 * DAY);
    assert!(!is_fork(&late.sign(&two.key).expect("a sound bundle")));
    assert!(!is_fork(&bundle(
        3,
        &[&founding, &retired, &revoked],
        &two,
        &[]
    )));
}

#[test]
fn a_thief_who_avoids_the_sequences_of_the_genuine_charters_is_seen() {
    // The root is stolen. The honest history is 1, 5, 9; his goes through 3, 7 or 12.
    let org = Org::new();
    let (two, mine) = (Held::root(), Held::root());
    let keys = [
        (&org.root, ACTIVE),
        (&org.issuing, RETIRING),
        (&two, ACTIVE),
    ];
    let fifth = charter(&org.root, 5, &keys, &[&org.root, &two]);
    let keys = [
        (&org.root, ACTIVE),
        (&org.issuing, RETIRING),
        (&two, RETIRING),
    ];
    let ninth = charter(&org.root, 9, &keys, &[&org.root]);
    let honest = bundle(9, &[&org.founding, &fifth, &ninth], &org.root, &[]);
    let keys = [
        (&org.root, ACTIVE),
        (&org.issuing, RETIRING),
        (&two, REVOKED),
        (&mine, ACTIVE),
    ];
    for (after, sequence) in [
        (&[&org.founding][..], 3),
        (&[&org.founding], 7),
        (&[&org.founding, &fifth], 7),
    ] {
        let taken = charter(&org.root, sequence, &keys, &[&org.root, &mine]);
        let charters = [after, &[&taken]].concat();
        let taken = bundle(99, &charters, &mine, &[]);
        for (held, offered) in [(&honest, &taken), (&taken, &honest)] {
            let refused = Bundle::follow(held, offered);
            assert!(
                matches!(refused, Err(FollowError::Fork(Fork::Charter { .. }))),
                "{sequence}: {refused:?}"
            );
        }
    }
}

#[test]
fn old_bundles_of_an_honest_history_are_no_fork() {
    // Whoever replays them, in whatever order: each is the past or the future of the other.
    let (root, two) = (Held::root(), Held::root());
    let issuing: Vec<Held> = (0..4).map(|_| Held::issuing_below(&root)).collect();
    let mut history: Vec<Charter> = Vec::new();
    let mut bundles: Vec<Bundle> = Vec::new();
    for step in 0..12 {
        let mut keys: Vec<(&Held, KeyState)> = Vec::new();
        for (place, held) in issuing.iter().enumerate().take(step / 2 + 1) {
            let state = [ACTIVE, RETIRING, REVOKED][(step / 2).saturating_sub(place).min(2)];
            keys.push((held, state));
        }
        keys.push((&root, ACTIVE));
        if step >= 5 {
            keys.push((&two, if step < 9 { ACTIVE } else { RETIRING }));
        }
        let sequence = 1 + step as u64;
        let added = charter(&root, sequence, &keys, &[&root, &two]);
        history = Charter::append(&history, added).expect("it follows");
        let charters: Vec<&Charter> = history.iter().collect();
        bundles.push(bundle(sequence, &charters, &root, &[]));
    }
    for (place, held) in bundles.iter().enumerate() {
        for (other, offered) in bundles.iter().enumerate() {
            let found = Bundle::follow(held, offered);
            let expected = match other.cmp(&place) {
                std::cmp::Ordering::Greater => newer(held, offered),
                std::cmp::Ordering::Equal => found == Ok(Follow::Same),
                std::cmp::Ordering::Less => {
                    matches!(found, Err(FollowError::CharterRollback { .. }))
                }
            };
            assert!(expected, "{place} -> {other}: {found:?}");
        }
    }
}

#[test]
fn no_sequence_runs_away_from_the_clock() {
    // T84: one bundle of a thief with the last of all sequences would end the network.
    let org = Org::new();
    assert_eq!(FURTHEST, TODAY.as_secs() + (1 << 32));
    assert!(
        request(FURTHEST, &[&org.founding], &[])
            .sign(&org.issuing.key)
            .is_ok()
    );
    let ahead = |sequence| FormatError::Sequence {
        sequence,
        issued: TODAY,
    };
    for sequence in [FURTHEST + 1, u64::MAX] {
        let refused = request(sequence, &[&org.founding], &[]).sign(&org.issuing.key);
        let Err(SigningError::Refused(refused)) = refused else {
            panic!("{sequence} is accepted");
        };
        assert_eq!(refused, BundleError::Format(ahead(sequence)));
        assert!(refused.is_limit());
        let refused =
            charter_request(&org.root, sequence, &[(&org.root, ACTIVE)]).sign(&[&org.root.key]);
        assert!(
            matches!(refused, Err(SigningError::Refused(CharterError::Format(f))) if f == ahead(sequence))
        );
    }
}
