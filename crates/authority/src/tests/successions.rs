//! Members whose keys follow one another: honestly, too often, or after they were removed.

use std::sync::Arc;
use std::time::Duration;

use comity_certs::CLOCK_TOLERANCE;
use comity_identity::{KeyHash, NodeId, UnixTime};
use comity_keys::SoftwareKey;
use comity_record::limits::MAX_WITHDRAWALS;
use comity_record::{SuccessionChain, SuccessionRequest, Withdrawal, WithdrawnWhat};
use comity_store::{Change, Deed, PeerStore};
use comity_trust::{Edit, HEADER, KnownPeers};

use super::world::{DAY, HOUR, NOW, Node, World, admission};
use crate::state::{Gone, MAX_AUTOMATIC, MAX_SCHEDULED, Scheduled};
use crate::{
    AuthorityError, Grant, MAX_SUCCESSIONS, MEMBER_LIFETIME, MemberState, Selector, check_state,
};

const SECOND: Duration = Duration::from_secs(1);

/// A node and how it came by its key.
struct Rolling {
    node: Node,
    history: Option<SuccessionChain>,
}

impl Rolling {
    fn member(world: &mut World, label: &str) -> Self {
        let node = Node::new();
        let granted = world.authority.certify(&node.root, &admission(label), NOW);
        granted.expect("a grant");
        Self {
            node,
            history: None,
        }
    }

    fn hash(&self) -> KeyHash {
        self.node.hash()
    }

    /// Goes on to its next key, and says the old one's hash.
    fn roll(&mut self, issued: UnixTime, overlap: Duration) -> KeyHash {
        let next = Node::with_key(copy(&self.node.next));
        let last = self.history.as_ref().map(SuccessionChain::last);
        let request = SuccessionRequest {
            network: None,
            sequence: last.map_or(1, |last| last.sequence() + 1),
            previous: last.map(comity_record::Succession::digest),
            issued,
            overlap_end: issued + overlap,
            next: None,
            reason: None,
        };
        let statement = request.sign(&self.node.key, &next.key).expect("signed");
        match &mut self.history {
            None => self.history = Some(SuccessionChain::new(statement)),
            Some(history) => history.push(statement).expect("it follows"),
        }
        std::mem::replace(&mut self.node, next).hash()
    }

    fn renew(&self, world: &mut World, now: UnixTime) -> Result<Option<Grant>, AuthorityError> {
        let (root, history) = (&self.node.root, self.history.as_ref());
        world.authority.renew(root, history, &[], now)
    }

    fn state(&self, world: &mut World, now: UnixTime) -> Option<MemberState> {
        state_of(world, self.hash(), now)
    }
}

fn state_of(world: &mut World, key: KeyHash, now: UnixTime) -> Option<MemberState> {
    let members = world.authority.members(now).expect("members");
    let member = members.into_iter().find(|member| member.key == key);
    member.map(|member| member.state)
}

#[test]
fn a_member_that_changes_its_key_every_few_seconds_is_followed_a_few_times_and_bricks_nothing() {
    let mut world = World::new();
    let mut member = Rolling::member(&mut world, "restless");
    let mut now = NOW;
    for _ in 0..MAX_SUCCESSIONS {
        member.roll(now, SECOND);
        member.renew(&mut world, now).expect("followed");
        now = now + 2 * SECOND;
        world.authority.refresh(now).expect("the old key ends");
    }
    let last = member.hash();
    member.roll(now, SECOND);
    match member.renew(&mut world, now) {
        Err(AuthorityError::TooOften { key, until }) => {
            assert_eq!(key.key_hash(), last);
            assert_eq!(until, NOW + SECOND + MEMBER_LIFETIME);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.authority.state.scheduled.len(), MAX_SUCCESSIONS);
    check_state(&world.authority.files().state().expect("a state")).expect("readable");
    let removed = world
        .again()
        .remove(&last, "removed", now)
        .expect("removed");
    assert_eq!(removed.len(), 1);
}

#[test]
fn a_member_is_not_followed_further_while_its_last_overlap_is_open() {
    let mut world = World::new();
    let mut member = Rolling::member(&mut world, "one");
    member.roll(NOW, DAY);
    member.renew(&mut world, NOW).expect("followed");
    member.roll(NOW + DAY, DAY);
    assert!(matches!(
        member.renew(&mut world, NOW + DAY),
        Err(AuthorityError::TooOften { until, .. }) if until == NOW + DAY
    ));
    let grant = member.renew(&mut world, NOW + DAY + SECOND);
    grant.expect("the overlap is over").expect("a grant");
}

#[test]
fn a_statement_dated_long_ago_counts_from_today() {
    let mut world = World::new();
    let mut member = Rolling::member(&mut world, "one");
    member.roll(NOW - MEMBER_LIFETIME * 3, SECOND);
    member.renew(&mut world, NOW).expect("followed");
    assert_eq!(world.authority.state.scheduled[0].at, NOW);
}

#[test]
fn a_member_that_was_away_for_several_changes_of_key_is_one_member_with_all_of_them() {
    let mut world = World::new();
    let mut member = Rolling::member(&mut world, "one");
    let first = member.roll(NOW, DAY);
    let second = member.roll(NOW + HOUR, DAY);
    let grant = member.renew(&mut world, NOW + HOUR * 2);
    grant.expect("followed").expect("a grant");
    let mut all = vec![first, second, member.hash()];
    all.sort();
    for key in &all {
        assert_eq!(world.authority.keys_of_member(key), all);
    }
    let stranger = Rolling::member(&mut world, "other");
    let key = stranger.hash();
    assert_eq!(world.authority.keys_of_member(&key), [key]);
}

#[test]
fn so_many_planned_ends_are_kept_in_mind_and_one_more_is_refused_without_being_written() {
    let mut world = World::new();
    let (mut one, mut two) = (
        Rolling::member(&mut world, "one"),
        Rolling::member(&mut world, "two"),
    );
    let planned = |n: usize| Scheduled {
        key: KeyHash::of_spki(&n.to_be_bytes()),
        successor: KeyHash::of_spki(&[&n.to_be_bytes()[..], b"next"].concat()),
        sequence: 1,
        at: NOW + DAY,
        done: false,
    };
    let fill = |state: &mut crate::state::State| {
        state.scheduled = (1..MAX_SCHEDULED).map(planned).collect();
        Ok(())
    };
    world.authority.note(fill).expect("one below the limit");
    one.roll(NOW, DAY);
    one.renew(&mut world, NOW).expect("at the limit");
    two.roll(NOW, DAY);
    assert!(matches!(
        two.renew(&mut world, NOW),
        Err(AuthorityError::TooManySuccessions {
            limit: MAX_SCHEDULED
        })
    ));
    // Whatever forgets to ask.
    let forced = world.authority.note(|state| {
        state.scheduled.push(planned(0));
        Ok(())
    });
    assert!(matches!(forced, Err(AuthorityError::State { .. })));
    let mut again = world.again();
    assert_eq!(again.state.scheduled.len(), MAX_SCHEDULED);
    again.remove(&one.hash(), "removed", NOW).expect("removed");
}

#[test]
fn keys_that_end_by_themselves_leave_room_for_removing_members() {
    let mut world = World::new();
    let (mut one, mut two) = (
        Rolling::member(&mut world, "one"),
        Rolling::member(&mut world, "two"),
    );
    let gone = |n: usize| Gone {
        what: Withdrawal {
            what: WithdrawnWhat::Key(KeyHash::of_spki(&n.to_be_bytes())),
            at: NOW,
        },
        ends: None,
        by: None,
    };
    let fill = |state: &mut crate::state::State| {
        state.withdrawn = (1..MAX_AUTOMATIC).map(gone).collect();
        Ok(())
    };
    world.authority.note(fill).expect("one below the limit");
    let old = [one.roll(NOW, SECOND), two.roll(NOW, SECOND)];
    for member in [&one, &two] {
        member.renew(&mut world, NOW).expect("followed");
    }
    let later = NOW + HOUR;
    let bundle = world.authority.refresh(later).expect("a bundle goes on");
    assert_eq!(bundle.expect("new").withdrawn().len(), MAX_AUTOMATIC);
    let ended = old.map(|key| state_of(&mut world, key, later));
    assert_eq!(ended[0], Some(MemberState::Withdrawn));
    // It is tried again, and not at every look.
    assert_eq!(
        ended[1],
        Some(MemberState::Superseded {
            by: two.hash(),
            at: later + DAY
        })
    );
    assert_eq!(world.authority.refresh(later + HOUR).expect("quiet"), None);
    world
        .authority
        .remove(&two.hash(), "removed", later)
        .expect("room is left for people");
    const { assert!(MAX_AUTOMATIC + 2 <= MAX_WITHDRAWALS) };
    assert_eq!(two.state(&mut world, later), Some(MemberState::Withdrawn));
}

#[test]
fn removing_a_member_ends_the_key_it_had_before_and_the_one_it_has_gone_on_to() {
    for by_old in [true, false] {
        let mut world = World::new();
        let mut member = Rolling::member(&mut world, "one");
        let old = member.roll(NOW, DAY * 90);
        member.renew(&mut world, NOW).expect("followed");
        let named = if by_old { old } else { member.hash() };
        let removed = world.authority.remove(&named, "removed", NOW + HOUR);
        assert_eq!(removed.expect("removed").len(), 2);
        for key in [old, member.hash()] {
            let state = state_of(&mut world, key, NOW + HOUR);
            assert_eq!(state, Some(MemberState::Withdrawn));
        }
        assert!(matches!(
            world.authority.remove(&named, "removed", NOW + HOUR),
            Err(AuthorityError::NotFound(_))
        ));
    }
}

#[test]
fn a_member_that_was_removed_does_not_come_back_by_an_old_key_that_still_counts() {
    let mut world = World::new();
    let mut member = Rolling::member(&mut world, "one");
    member.roll(NOW, DAY * 90);
    member.renew(&mut world, NOW).expect("followed");
    // Only the new key, as `comity ca withdraw` does.
    let selector = Selector::Key(member.hash());
    let withdrawn = world.authority.withdraw(&selector, "removed", NOW + HOUR);
    withdrawn.expect("withdrawn");
    let refused = |member: &Rolling, world: &mut World, now| {
        matches!(member.renew(world, now), Err(AuthorityError::Withdrawn(_)))
    };
    assert!(refused(&member, &mut world, NOW + HOUR));
    // Nor by going on to yet another one.
    member.roll(NOW + HOUR, DAY);
    assert!(refused(&member, &mut world, NOW + HOUR));
}

#[test]
fn a_statement_of_tomorrow_is_believed_and_one_of_next_year_is_not() {
    let mut world = World::new();
    let mut early = Rolling::member(&mut world, "early");
    let mut late = Rolling::member(&mut world, "late");
    early.roll(NOW + CLOCK_TOLERANCE, DAY);
    early.renew(&mut world, NOW).expect("at the limit");
    late.roll(NOW + CLOCK_TOLERANCE + SECOND, DAY);
    assert!(matches!(
        late.renew(&mut world, NOW),
        Err(AuthorityError::FromTheFuture { issued }) if issued == NOW + CLOCK_TOLERANCE + SECOND
    ));
}

#[test]
fn an_old_statement_is_not_played_again_to_an_authority() {
    let mut world = World::new();
    let mut member = Rolling::member(&mut world, "one");
    for _ in 0..2 {
        member.roll(NOW, SECOND);
    }
    let thief = {
        let request = SuccessionRequest {
            network: None,
            sequence: 1,
            previous: None,
            issued: NOW,
            overlap_end: NOW + DAY,
            next: None,
            reason: None,
        };
        let next = Node::with_key(copy(&member.node.next));
        let statement = request.sign(&member.node.key, &next.key).expect("signed");
        Rolling {
            node: next,
            history: Some(SuccessionChain::new(statement)),
        }
    };
    member.renew(&mut world, NOW).expect("followed");
    assert!(matches!(
        thief.renew(&mut world, NOW + HOUR),
        Err(AuthorityError::Replayed { known: 2, found: 1 })
    ));
}

#[test]
fn a_key_that_is_revoked_in_the_home_of_an_authority_is_no_way_to_a_membership() {
    for revoked in 0..3 {
        let mut world = World::new();
        let mut member = Rolling::member(&mut world, "one");
        let mut keys = vec![member.roll(NOW, DAY), member.roll(NOW, DAY)];
        keys.push(member.hash());
        revoke(&world, keys[revoked]);
        assert!(matches!(
            member.renew(&mut world, NOW),
            Err(AuthorityError::Revoked { key, .. }) if key == keys[revoked]
        ));
        assert!(world.authority.state.scheduled.is_empty());
    }
}

#[test]
fn a_membership_made_while_the_clock_was_ahead_is_replaced_once_it_is_right() {
    let mut world = World::new();
    let member = Rolling::member(&mut world, "one");
    let ahead = NOW + MEMBER_LIFETIME - DAY;
    let future = member.renew(&mut world, ahead).expect("due").expect("new");
    let grant = member.renew(&mut world, NOW).expect("a member");
    let grant = grant.expect("given again");
    assert_ne!(grant.serial, future.serial);
    member.node.path(&grant, NOW);
}

#[test]
fn a_bundle_made_while_the_clock_was_a_year_ahead_is_replaced_once_it_is_right() {
    let mut world = World::new();
    let ahead = NOW + CLOCK_TOLERANCE + HOUR;
    let future = world.authority.refresh(ahead).expect("due").expect("new");
    // As far as clocks may be wrong, it is good enough.
    let quiet = world.authority.refresh(NOW + HOUR).expect("no need");
    assert_eq!(quiet, None);
    let bundle = world.authority.refresh(NOW).expect("due").expect("new");
    assert_eq!(bundle.issued(), NOW);
    assert!(bundle.sequence() > future.sequence());
    let networks = world.networks();
    let known = networks.get(&bundle.network()).expect("known");
    assert_eq!(known.bundle, Arc::new(bundle));
}

fn copy(key: &SoftwareKey) -> SoftwareKey {
    let text = key.encode_plain().expect("text");
    SoftwareKey::decode(&text, &mut || unreachable!("it is in the clear")).expect("a key")
}

fn revoke(world: &World, key: KeyHash) {
    let node = NodeId::from_bytes(*key.as_bytes());
    let text = format!("{HEADER}\n@revoked both * node {node}\n");
    let parsed = KnownPeers::parse(&text).expect("a line");
    let entry = parsed.entry(2).expect("an entry").clone();
    let store = PeerStore::open(&world.home, "test").expect("a store");
    let change = Change {
        edit: Edit::Add(Box::new(entry)),
        deed: Deed {
            action: "revoke".to_owned(),
            peer: None,
            detail: String::new(),
        },
    };
    let revoked = store.decide_and_record(|_| ((), Some(change.clone())));
    revoked.expect("written");
}
