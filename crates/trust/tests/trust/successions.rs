//! Identities that follow one another, and those who remember an older key. T80 to T89 of the
//! project's security test list.

use comity_certs::{CLOCK_TOLERANCE, PresentedChain};
use comity_identity::{Algorithm, KeyHash, NodeId, PeerId, Signer, UnixTime};
use comity_record::{Succession, SuccessionChain, SuccessionRequest};
use comity_trust::{
    Edit, Evidence, Followed, How, Invited, Invitee, KnownPeers, MAX_LINEAGE, Mode, Origin,
    Outcome, Phase, ROLL_PAUSE, Reason, Rule, SUPERSEDED_KEPT, StepDetail, SuccessionFault,
    SuccessionPolicy, explain, follow,
};

use crate::certificates::{DAY, LeafOptions, Node, TODAY, TestKey};
use crate::world::{Ask, DIALLED, NOW, known, nobody};

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

/// When the old key of each statement ends, unless a test says otherwise.
fn overlap_end() -> UnixTime {
    TODAY + 14 * DAY
}

fn key() -> TestKey {
    TestKey::generate(Algorithm::EcdsaP256)
}

fn keys<const N: usize>() -> [TestKey; N] {
    std::array::from_fn(|_| key())
}

fn copy(key: &TestKey) -> TestKey {
    TestKey::of_pkcs8(&key.pkcs8())
}

fn id(key: &TestKey) -> NodeId {
    NodeId::of_spki(key.spki())
}

fn hash(key: &TestKey) -> KeyHash {
    KeyHash::of_spki(key.spki())
}

/// What a statement says where a test does not care.
fn request(sequence: u64, previous: Option<&Succession>) -> SuccessionRequest {
    SuccessionRequest {
        network: None,
        sequence,
        previous: match (sequence, previous) {
            (1, _) => None,
            (_, Some(previous)) => Some(previous.digest()),
            (_, None) => Some([7; 32]),
        },
        issued: TODAY,
        overlap_end: overlap_end(),
        next: None,
        reason: None,
    }
}

fn statement(old: &TestKey, new: &TestKey) -> Succession {
    request(1, None).sign(old, new).expect("a sound statement")
}

/// From each key to the next, from sequence 1 on.
fn history(keys: &[&TestKey]) -> SuccessionChain {
    let mut chain = SuccessionChain::new(statement(keys[0], keys[1]));
    for (sequence, pair) in (2..).zip(keys[1..].windows(2)) {
        let next = request(sequence, Some(chain.last())).sign(pair[0], pair[1]);
        chain
            .push(next.expect("a sound statement"))
            .expect("it follows");
    }
    chain
}

/// A node with this identity that staples `history`, and commits to `next`.
fn node_of(identity: &TestKey, next: &TestKey, staple: &[u8]) -> Node {
    let options = LeafOptions {
        not_before: TODAY - DAY,
        succession: staple.to_vec(),
        ..LeafOptions::default()
    };
    Node::of_keys(copy(identity), copy(next), &options)
}

fn serving(identity: &TestKey, history: &SuccessionChain) -> PresentedChain {
    PresentedChain::parse(&node_of(identity, &key(), &history.encode()).serve.chain).expect("chain")
}

/// The same, where the root commits to the key that will follow.
fn committing(identity: &TestKey, next: &TestKey, history: &SuccessionChain) -> PresentedChain {
    PresentedChain::parse(&node_of(identity, next, &history.encode()).serve.chain).expect("chain")
}

fn dialling(identity: &TestKey, history: &SuccessionChain) -> PresentedChain {
    PresentedChain::parse(&node_of(identity, &key(), &history.encode()).dial.chain).expect("chain")
}

/// A chain without a staple.
fn bare(identity: &TestKey) -> PresentedChain {
    PresentedChain::parse(&node_of(identity, &key(), &[]).serve.chain).expect("chain")
}

fn line(names: &str, key: &TestKey, attributes: &str) -> String {
    format!("{names} node {} {attributes}", id(key))
}

fn pinned(key: &TestKey) -> KnownPeers {
    known(&[line(
        &format!("dial {DIALLED}"),
        key,
        "for=pg origin=first-use",
    )])
}

fn dial<'a>(chain: &'a PresentedChain, known: &KnownPeers) -> Ask<'a> {
    Ask::dial(Mode::CaOrTofu, chain, known.clone())
}

fn fault(ask: &Ask<'_>) -> SuccessionFault {
    match ask.refused().evidence {
        Evidence::Changed {
            succession: Some(fault),
            ..
        }
        | Evidence::Succession(fault) => fault,
        other => panic!("{other:?}"),
    }
}

/// What the file says once the gate wrote what the verdict tells it to.
fn written(ask: &Ask<'_>) -> KnownPeers {
    let verdict = ask.verdict();
    let record = match (verdict.recognition(), verdict.refusal()) {
        (Some(recognition), _) => recognition.record.clone(),
        (None, refusal) => refusal.and_then(|refusal| refusal.record.clone()),
    };
    ask.known.with(*record.expect("a record")).expect("written")
}

#[test]
fn a_successor_gets_the_names_and_grants_of_the_key_that_named_it() {
    let [old, new] = keys();
    let chain = serving(&new, &history(&[&old, &new]));
    let before = known(&[line(
        &format!("both ops,{DIALLED}"),
        &old,
        "addr=192.0.2.1:7117 for=pg roles=reader networks=lab origin=approved \
         added=2026-01-01T00:00:00Z confirmed=2026-01-01T00:00:00Z/invite x-note=rack",
    )]);
    let peer = dial(&chain, &before).accepted();
    assert_eq!(
        (peer.how, peer.peer),
        (How::Pin { line: 2 }, PeerId::Node(id(&new)))
    );
    assert_eq!(peer.label.as_deref(), Some("ops"));
    assert!(peer.grants.service("pg") && peer.grants.membership("lab", Some("reader")));
    let after = written(&dial(&chain, &before));
    let (old_line, new_line) = (after.entry(2).expect("old"), after.entry(3).expect("new"));
    assert_eq!(old_line.node(), Some(id(&old)));
    assert_eq!(old_line.attributes.successor, Some(id(&new)));
    assert_eq!(old_line.attributes.not_after, Some(overlap_end()));
    assert_eq!(new_line.node(), Some(id(&new)));
    let (a, b) = (&old_line.attributes, &new_line.attributes);
    assert_eq!(
        (&a.addr, &a.services, &a.roles, &a.networks),
        (&b.addr, &b.services, &b.roles, &b.networks)
    );
    assert_eq!(
        (&a.confirmed, &a.extra, &old_line.names),
        (&b.confirmed, &b.extra, &new_line.names)
    );
    assert_eq!(
        (b.seq, b.origin, b.added),
        (Some(1), Some(Origin::Succession), Some(NOW))
    );
    assert_eq!(b.next, chain.next(), "what the new root commits to");
    // It is a pin now, and nothing more is written.
    let again = dial(&chain, &after).accepted();
    assert_eq!((again.how, again.record), (How::Pin { line: 3 }, None));
}

#[test]
fn both_keys_count_during_the_overlap_and_the_old_one_not_one_second_longer() {
    // T80, T82
    let [old, new] = keys();
    let chain = serving(&new, &history(&[&old, &new]));
    let after = written(&dial(&chain, &pinned(&old)));
    let outgoing = bare(&old);
    let ask = dial(&outgoing, &after);
    let peer = ask.accepted();
    assert_eq!((peer.how, peer.ends), (How::Pin { line: 2 }, overlap_end()));
    for phase in [Phase::Certificate, Phase::Gate, Phase::Established] {
        let ask = ask.clone().phase(phase);
        assert_eq!(ask.clone().at(overlap_end()).word(), "pin");
        let refusal = ask.at(overlap_end() + SECOND).refused();
        assert_eq!(refusal.reason, Reason::Superseded);
        let expected = Evidence::Superseded {
            line: 2,
            successor: id(&new),
            not_after: overlap_end(),
        };
        assert_eq!(refusal.evidence, expected);
    }
    let later = dial(&chain, &after).at(overlap_end() + SECOND);
    assert_eq!(later.word(), "pin");
}

#[test]
fn a_peer_that_was_away_for_three_steps_ends_with_the_lines_of_one_that_was_not() {
    // T81
    let [a, b, c, d] = keys();
    let steps: [&[&TestKey]; 3] = [&[&a, &b], &[&a, &b, &c], &[&a, &b, &c, &d]];
    let mut present = pinned(&a);
    let last = key();
    let days = [NOW, NOW + DAY, NOW + 2 * DAY];
    for ((keys, [identity, next]), day) in steps
        .iter()
        .zip([[&b, &c], [&c, &d], [&d, &last]])
        .zip(days)
    {
        let chain = committing(identity, next, &history(keys));
        present = written(&dial(&chain, &present).at(day));
    }
    let chain = serving(&d, &history(steps[2]));
    let away = written(&dial(&chain, &pinned(&a)));
    let summary = |known: &KnownPeers| -> Vec<_> {
        let entries = known.entries().map(|(_, entry)| {
            let attributes = &entry.attributes;
            (
                entry.node(),
                attributes.successor,
                attributes.seq,
                attributes.not_after,
            )
        });
        entries.collect()
    };
    assert_eq!(summary(&away), summary(&present));
    let sequences: Vec<_> = away.entries().map(|(_, e)| e.attributes.seq).collect();
    assert_eq!(sequences, [None, Some(1), Some(2), Some(3)]);
    // A key in between that shows up late is superseded, not unknown.
    let late = bare(&b);
    let ask = dial(&late, &away).at(overlap_end() + SECOND);
    assert_eq!(ask.word(), "superseded");
}

#[test]
fn sixteen_steps_are_followed_at_once() {
    let keys: [TestKey; 17] = keys();
    let all: Vec<&TestKey> = keys.iter().collect();
    let chain = serving(&keys[16], &history(&all));
    let after = written(&dial(&chain, &pinned(&keys[0])));
    assert_eq!(after.entries().count(), 17);
    // Known from the middle of it.
    let from_middle = pinned(&keys[9]);
    let after = written(&dial(&chain, &from_middle));
    assert_eq!(after.entries().count(), 8);
}

#[test]
fn two_successors_of_one_key_freeze_everything_that_came_of_it() {
    // T83
    let [old, first, second, third] = keys();
    let chain = committing(&first, &third, &history(&[&old, &first]));
    let followed = written(&dial(&chain, &pinned(&old)));
    let chain = serving(&third, &history(&[&old, &first, &third]));
    let followed = written(&dial(&chain, &followed).at(NOW + DAY));
    let rival = serving(&second, &history(&[&old, &second]));
    let ask = dial(&rival, &followed);
    let refusal = ask.refused();
    assert_eq!(refusal.reason, Reason::Forked);
    let lines = vec![2, 3, 4];
    assert_eq!(
        refusal.record.as_deref(),
        Some(&Edit::Freeze {
            lines: lines.clone(),
            at: NOW
        })
    );
    assert_eq!(refusal.evidence, Evidence::Forked { lines, since: None });
    for phase in [Phase::Certificate, Phase::Established] {
        assert_eq!(ask.clone().phase(phase).refused().record, None);
    }
    // Nobody is recognised now: neither of the two, nor the old key, in any phase.
    let frozen = written(&ask);
    let old_chain = bare(&old);
    for chain in [&chain, &rival, &old_chain] {
        let refusal = dial(chain, &frozen).refused();
        assert_eq!(refusal.reason, Reason::Forked);
        assert_eq!(refusal.record, None, "it is written already");
    }
    for chain in [&chain, &old_chain] {
        assert_eq!(
            dial(chain, &frozen).phase(Phase::Established).word(),
            "forked"
        );
    }
    // A mode that only records goes on with a warning.
    let recorded = Ask {
        mode: Mode::Record,
        ..dial(&rival, &frozen)
    }
    .accepted();
    assert_eq!((recorded.how, recorded.record), (How::Recorded, None));
    // A person decides: the lines go, and the key that is the owner's is entered again.
    let lines = vec![2, 3, 4];
    let decided = frozen.with(Edit::Remove { lines }).expect("removed");
    assert_eq!(dial(&chain, &decided).word(), "first-use");
}

#[test]
fn a_fork_is_seen_when_either_side_dials_us() {
    let [old, first, second] = keys();
    let lines = [line("both ops", &old, "")];
    let chain = dialling(&first, &history(&[&old, &first]));
    let accept = |chain, known: &KnownPeers| Ask::accept(Mode::Enroll, chain, known.clone());
    let followed = written(&accept(&chain, &known(&lines)));
    let rival = dialling(&second, &history(&[&old, &second]));
    let frozen = written(&accept(&rival, &followed));
    assert_eq!(accept(&chain, &frozen).word(), "forked");
    assert_eq!(accept(&rival, &frozen).word(), "forked");
}

#[test]
fn a_fork_between_committed_keys_freezes_and_a_thief_without_the_committed_key_cannot() {
    let [old, committed, thief] = keys();
    let attributes = format!("next={} origin=first-use", hash(&committed));
    let lines = [line(&format!("dial {DIALLED}"), &old, &attributes)];
    let stolen = serving(&thief, &history(&[&old, &thief]));
    // T88: before the owner moves, and after.
    let expected = SuccessionFault::Commitment {
        line: 2,
        committed: hash(&committed),
    };
    let ask = dial(&stolen, &known(&lines)).refused();
    assert_eq!((ask.reason, ask.record), (Reason::Changed, None));
    assert_eq!(fault(&dial(&stolen, &known(&lines))), expected);
    let chain = serving(&committed, &history(&[&old, &committed]));
    let followed = written(&dial(&chain, &known(&lines)));
    let ask = dial(&stolen, &followed).refused();
    assert_eq!(
        (ask.reason, ask.record),
        (Reason::Changed, None),
        "it froze nothing"
    );
    assert_eq!(dial(&chain, &followed).word(), "pin");
    // Both sides hold the committed key and name different ones after it: nobody knows the owner.
    let [mine, theirs] = keys();
    let with_next = |next: &TestKey| {
        let first = SuccessionRequest {
            next: Some(hash(next)),
            ..request(1, None)
        };
        let first = first.sign(&old, &committed).expect("a sound statement");
        let mut chain = SuccessionChain::new(first);
        let second = request(2, Some(chain.last())).sign(&committed, next);
        chain
            .push(second.expect("a sound statement"))
            .expect("it follows");
        serving(next, &chain)
    };
    let (mine, theirs) = (with_next(&mine), with_next(&theirs));
    let followed = written(&dial(&mine, &known(&lines)));
    let refusal = dial(&theirs, &followed).refused();
    assert_eq!(refusal.reason, Reason::Forked);
    assert!(
        matches!(refusal.record.as_deref(), Some(Edit::Freeze { lines, .. }) if lines.len() == 3)
    );
}

#[test]
fn a_commitment_in_the_statement_becomes_the_one_of_the_entry() {
    let [old, new, after] = keys();
    let committing = SuccessionRequest {
        next: Some(hash(&after)),
        ..request(1, None)
    };
    let first = committing.sign(&old, &new).expect("a sound statement");
    let chain = serving(&new, &SuccessionChain::new(first));
    let followed = written(&dial(&chain, &pinned(&old)));
    let entry = followed.entry(3).expect("new");
    assert_eq!(entry.attributes.next, Some(hash(&after)));
    assert_ne!(chain.next(), Some(hash(&after)));
}

#[test]
fn an_old_statement_is_not_played_again() {
    // T84: the entry came to its key by statement 4.
    let [old, new] = keys();
    for (sequence, follows) in [(3, false), (4, false), (5, true)] {
        let lines = [line(
            &format!("dial {DIALLED}"),
            &old,
            "seq=4 origin=first-use",
        )];
        let single = request(sequence, None)
            .sign(&old, &new)
            .expect("a sound statement");
        let chain = serving(&new, &SuccessionChain::new(single));
        let ask = dial(&chain, &known(&lines));
        if follows {
            assert_eq!(ask.word(), "pin");
            continue;
        }
        assert_eq!(ask.word(), "changed");
        let expected = SuccessionFault::Replayed {
            line: 2,
            known: 4,
            found: sequence,
        };
        assert_eq!(fault(&ask), expected);
    }
}

#[test]
fn a_successor_that_was_removed_does_not_come_back_by_itself() {
    let [old, new] = keys();
    let chain = serving(&new, &history(&[&old, &new]));
    let followed = written(&dial(&chain, &pinned(&old)));
    let removed = followed
        .with(Edit::Remove { lines: vec![3] })
        .expect("removed");
    for phase in [Phase::Gate, Phase::Established] {
        assert_eq!(dial(&chain, &removed).phase(phase).word(), "changed");
    }
    // When accepting it is a stranger, whom the operator may let in again.
    let lines = [line("both ops", &old, &format!("successor={}", id(&new)))];
    let incoming = dialling(&new, &history(&[&old, &new]));
    let ask = Ask::accept(Mode::Enroll, &incoming, known(&lines));
    assert_eq!(ask.word(), "pending");
}

#[test]
fn a_revoked_key_has_no_successor_wherever_it_stands_on_the_way() {
    // T85
    let [a, b, c] = keys();
    let chain = serving(&c, &history(&[&a, &b, &c]));
    for revoked in [&a, &b, &c] {
        let lines = [
            line(&format!("dial {DIALLED}"), &a, ""),
            format!("@revoked both x node {}", id(revoked)),
        ];
        let refusal = dial(&chain, &known(&lines)).refused();
        assert_eq!(refusal.reason, Reason::Revoked);
        assert_eq!(refusal.evidence, Evidence::Revoked { line: 3 });
    }
    // One that the entry has left behind counts no more for it.
    let lines = [
        line(&format!("dial {DIALLED}"), &b, ""),
        format!("@revoked both x node {}", id(&a)),
    ];
    assert_eq!(dial(&chain, &known(&lines)).word(), "pin");
}

#[test]
fn a_statement_that_the_new_key_did_not_sign_is_nothing() {
    // T86: the old key claims a key whose holder never agreed.
    let [old, new] = keys();
    let mut forged = statement(&old, &new).bytes().to_vec();
    *forged.last_mut().expect("a signature") ^= 1;
    let staple = [
        &[0x81, 0x59][..],
        &u16::try_from(forged.len()).expect("short").to_be_bytes(),
        &forged,
    ]
    .concat();
    let chain = PresentedChain::parse(&node_of(&new, &key(), &staple).serve.chain).expect("chain");
    let ask = dial(&chain, &pinned(&old));
    assert_eq!(ask.word(), "changed");
    assert_eq!(fault(&ask), SuccessionFault::Malformed);
    // When accepting it is a lie about somebody we know.
    let chain = PresentedChain::parse(&node_of(&new, &key(), &staple).dial.chain).expect("chain");
    let lines = [line("both ops", &old, "")];
    let ask = Ask::accept(Mode::Enroll, &chain, known(&lines));
    assert_eq!(ask.word(), "malformed");
    // Who knows none of the keys does not look at it.
    assert_eq!(
        Ask::accept(Mode::Enroll, &chain, nobody()).word(),
        "pending"
    );
}

#[test]
fn whatever_is_stapled_by_strangers_and_by_pinned_peers_is_not_looked_at() {
    let identity = key();
    for staple in [&b"nonsense"[..], &[0x80], &[0x81, 0x41, 0x00], &[0xff; 100]] {
        let node = node_of(&identity, &key(), staple);
        let chain = PresentedChain::parse(&node.serve.chain).expect("chain");
        assert_eq!(dial(&chain, &pinned(&identity)).word(), "pin");
        assert_eq!(dial(&chain, &nobody()).word(), "first-use");
        let ask = dial(&chain, &pinned(&key()));
        assert_eq!(ask.word(), "changed");
        assert!(matches!(
            ask.refused().evidence,
            Evidence::Changed {
                succession: None,
                ..
            }
        ));
    }
}

#[test]
fn somebody_elses_statements_make_nobody_the_successor() {
    let [old, new, thief] = keys();
    let chain = serving(&thief, &history(&[&old, &new]));
    let ask = dial(&chain, &pinned(&old));
    assert_eq!(ask.word(), "changed");
    assert_eq!(fault(&ask), SuccessionFault::OtherKey { current: id(&new) });
}

#[test]
fn a_statement_for_one_network_says_nothing_of_what_we_remember() {
    // T87
    let [old, new] = keys();
    let network = NodeId::from_bytes([9; 32]);
    let single = SuccessionRequest {
        network: Some(network),
        ..request(1, None)
    };
    let chain = SuccessionChain::new(single.sign(&old, &new).expect("a sound statement"));
    let chain = serving(&new, &chain);
    let ask = dial(&chain, &pinned(&old));
    assert_eq!(ask.word(), "wrong-network");
    assert_eq!(fault(&ask), SuccessionFault::Network { network });
}

#[test]
fn clocks_may_differ_by_two_days_and_not_one_second_more() {
    // T89
    let [old, new] = keys();
    for (ahead, follows) in [(CLOCK_TOLERANCE, true), (CLOCK_TOLERANCE + SECOND, false)] {
        let issued = NOW + ahead;
        let single = SuccessionRequest {
            issued,
            ..request(1, None)
        };
        let chain = SuccessionChain::new(single.sign(&old, &new).expect("a sound statement"));
        let chain = serving(&new, &chain);
        let known = pinned(&old);
        let ask = dial(&chain, &known);
        if follows {
            assert_eq!(ask.word(), "pin");
        } else {
            assert_eq!(ask.word(), "not-yet-valid");
            assert_eq!(fault(&ask), SuccessionFault::FromTheFuture { issued });
        }
    }
}

#[test]
fn what_a_person_confirmed_a_person_decides_again() {
    let [old, new] = keys();
    let chain = serving(&new, &history(&[&old, &new]));
    let confirmed = |how: &str| {
        let attributes = format!("confirmed=2026-01-01T00:00:00Z{how}");
        known(&[line(&format!("dial {DIALLED}"), &old, &attributes)])
    };
    for how in ["", "/hand", "/words", "/live", "/id"] {
        let known = confirmed(how);
        let ask = dial(&chain, &known);
        let refusal = ask.refused();
        assert_eq!(
            (refusal.reason, refusal.record),
            (Reason::Changed, None),
            "{how}"
        );
        let successor = id(&new);
        assert_eq!(
            fault(&ask),
            SuccessionFault::Undecided { line: 2, successor }
        );
        // The person saw this very successor.
        let decided = ask.clone().succession(SuccessionPolicy::Accept(successor));
        assert_eq!(decided.word(), "pin");
        assert!(
            written(&decided)
                .entry(3)
                .is_some_and(|e| e.node() == Some(successor))
        );
        let another = ask.succession(SuccessionPolicy::Accept(id(&old)));
        assert_eq!(another.word(), "changed");
    }
    let invited = confirmed("/invite");
    assert_eq!(dial(&chain, &invited).word(), "pin");
}

#[test]
fn policies_ask_for_all_or_follow_nobody_and_forks_are_seen_all_the_same() {
    let [old, new, rival] = keys();
    let chain = serving(&new, &history(&[&old, &new]));
    let known = pinned(&old);
    let ask = dial(&chain, &known).succession(SuccessionPolicy::Ask);
    let successor = id(&new);
    assert_eq!(
        fault(&ask),
        SuccessionFault::Undecided { line: 2, successor }
    );
    let never = dial(&chain, &known).succession(SuccessionPolicy::Never);
    assert_eq!(
        (never.word(), fault(&never)),
        ("changed", SuccessionFault::NotFollowed)
    );
    let followed = written(&dial(&chain, &known));
    let rival = serving(&rival, &history(&[&old, &rival]));
    for policy in [SuccessionPolicy::Ask, SuccessionPolicy::Never] {
        assert_eq!(dial(&rival, &followed).succession(policy).word(), "forked");
    }
}

#[test]
fn every_line_of_the_key_follows_in_one_edit_or_none_does() {
    let [old, new, unrelated] = keys();
    let lines = |second: &str| {
        known(&[
            line(&format!("dial {DIALLED}"), &old, "origin=first-use"),
            line("accept peer-old,*-old", &old, second),
            line("both other", &unrelated, ""),
            line("both ops", &old, "not-after=2026-03-08T00:00:00Z"),
            line("both gone", &old, "not-after=2026-02-01T00:00:00Z"),
        ])
    };
    let chain = serving(&new, &history(&[&old, &new]));
    let after = written(&dial(&chain, &lines("")));
    let summary: Vec<_> = after
        .entries()
        .map(|(_, entry)| {
            let owner = [&old, &new, &unrelated]
                .iter()
                .position(|k| entry.node() == Some(id(k)));
            (owner.expect("known"), entry.attributes.successor.is_some())
        })
        .collect();
    let expected = [
        (0, true),
        (1, false),
        (0, true),
        (1, false),
        (2, false),
        (0, true),
        (1, false),
        (0, false),
    ];
    assert_eq!(summary, expected);
    // An end that the operator set is nobody's to move.
    let ends: Vec<_> = after
        .entries()
        .map(|(_, e)| e.attributes.not_after)
        .collect();
    assert_eq!(ends[5], "2026-03-08T00:00:00Z".parse().ok());
    assert_eq!(ends[6], ends[5]);
    // One line that must not follow holds back all.
    for attributes in ["confirmed=2026-01-01T00:00:00Z/hand", "seq=9"] {
        assert_eq!(
            dial(&chain, &lines(attributes)).word(),
            "changed",
            "{attributes}"
        );
    }
    let committed = format!("next={}", hash(&unrelated));
    assert_eq!(dial(&chain, &lines(&committed)).word(), "changed");
}

#[test]
fn an_incoming_peer_is_followed_by_its_key() {
    let [old, new] = keys();
    let chain = dialling(&new, &history(&[&old, &new]));
    let lines = [line("both ops", &old, "for=pg")];
    let ask = Ask::accept(Mode::Enroll, &chain, known(&lines));
    let peer = ask.accepted();
    assert_eq!(
        (peer.how, peer.label.as_deref()),
        (How::Pin { line: 2 }, Some("ops"))
    );
    assert!(peer.grants.service("pg"));
    let after = written(&ask);
    let again = Ask::accept(Mode::Enroll, &chain, after).accepted();
    assert_eq!((again.how, again.record), (How::Pin { line: 3 }, None));
    // A line for the other direction is not recognised by, and follows nothing here.
    let other_side = [line("dial ops", &old, "")];
    let ask = Ask::accept(Mode::Enroll, &chain, known(&other_side));
    assert_eq!(ask.word(), "pending");
    // A proven invitation is for those whom nothing else recognises.
    let invitee = Invitee::default();
    let ask = Ask::accept(Mode::Enroll, &chain, known(&lines)).invited(Invited::Proven(&invitee));
    assert_eq!(ask.word(), "pin");
}

#[test]
fn a_pin_of_another_peer_under_the_dialled_name_is_not_moved() {
    let [old, new, other] = keys();
    let chain = serving(&new, &history(&[&old, &new]));
    let lines = [
        line(&format!("dial {DIALLED}"), &other, ""),
        line("dial elsewhere", &old, ""),
    ];
    let ask = dial(&chain, &known(&lines));
    assert_eq!(ask.word(), "changed");
    assert!(matches!(
        ask.refused().evidence,
        Evidence::Changed {
            succession: None,
            ..
        }
    ));
}

#[test]
fn an_expected_id_is_that_id_and_not_its_successor() {
    let [old, new] = keys();
    let chain = serving(&new, &history(&[&old, &new]));
    let known = pinned(&old);
    let ask = dial(&chain, &known);
    assert_eq!(ask.clone().id(PeerId::Node(id(&old))).word(), "changed");
    assert_eq!(ask.id(PeerId::Node(id(&new))).word(), "pin");
}

#[test]
fn the_callback_follows_provisionally_and_a_live_connection_follows_nothing() {
    let [old, new] = keys();
    let chain = serving(&new, &history(&[&old, &new]));
    let known = pinned(&old);
    let callback = dial(&chain, &known).phase(Phase::Certificate).accepted();
    assert_eq!(callback.record, None);
    assert!(callback.grants.is_empty());
    assert_eq!(
        dial(&chain, &known).phase(Phase::Established).word(),
        "changed"
    );
}

#[test]
fn modes_that_ask_for_a_ca_follow_as_well() {
    let [old, new] = keys();
    let chain = serving(&new, &history(&[&old, &new]));
    for (mode, word) in [
        (Mode::Pin, "pin"),
        (Mode::Tofu, "pin"),
        (Mode::CaThenPin, "pin"),
        (Mode::Record, "pin"),
        // The pin is followed, and no CA vouches.
        (Mode::CaAndPin, "unknown"),
        (Mode::Ca, "unknown"),
    ] {
        let ask = Ask::dial(mode, &chain, pinned(&old));
        assert_eq!(ask.word(), word, "{mode}");
    }
}

#[test]
fn explain_shows_which_key_led_to_which() {
    let [old, new] = keys();
    let chain = serving(&new, &history(&[&old, &new]));
    let known = pinned(&old);
    let steps = explain(&dial(&chain, &known).query()).steps;
    let step = steps
        .iter()
        .find(|step| step.rule == Rule::Succession)
        .expect("a step");
    assert_eq!(step.outcome, Outcome::Recognised { line: Some(2) });
    let detail = StepDetail::Succession {
        from: id(&old),
        to: id(&new),
    };
    assert_eq!(step.detail.as_ref(), Some(&detail));
}

#[test]
fn statements_from_a_file_are_followed_without_a_connection() {
    let [old, new, other] = keys();
    let statements = history(&[&old, &new]);
    let before = pinned(&old);
    let followed = follow(&before, &statements, SuccessionPolicy::Auto, NOW).expect("follows");
    let Followed {
        from,
        to,
        lines,
        edit,
    } = followed.expect("a line");
    assert_eq!((from, to, lines), (id(&old), id(&new), vec![2]));
    let after = before.with(edit).expect("written");
    assert_eq!(dial(&bare(&new), &after).word(), "pin");
    let unknown = follow(&pinned(&other), &statements, SuccessionPolicy::Auto, NOW);
    assert_eq!(unknown, Ok(None));
    let never = follow(&before, &statements, SuccessionPolicy::Never, NOW);
    assert_eq!(never, Err(SuccessionFault::NotFollowed));
}

#[test]
fn an_entry_made_by_hand_learns_the_next_key_from_the_root_once() {
    let [peer, next, other] = keys();
    let committing = |next: &TestKey| {
        let node = node_of(&peer, next, &[]);
        let parse = |chain: &[Vec<u8>]| PresentedChain::parse(chain).expect("chain");
        (parse(&node.serve.chain), parse(&node.dial.chain))
    };
    let (serving, incoming) = committing(&next);
    let by_hand = known(&[
        line(
            &format!("dial {DIALLED}"),
            &peer,
            "confirmed=2026-01-01T00:00:00Z/hand",
        ),
        line("both ops", &peer, "for=pg"),
        line("both before", &peer, &format!("next={}", hash(&other))),
    ]);
    let expected = Edit::NoteNext {
        lines: vec![2, 3],
        next: hash(&next),
    };
    let accepting = Ask::accept(Mode::Enroll, &incoming, by_hand.clone());
    for ask in [dial(&serving, &by_hand), accepting] {
        assert_eq!(ask.accepted().record.as_deref(), Some(&expected));
        for phase in [Phase::Certificate, Phase::Established] {
            assert_eq!(ask.clone().phase(phase).accepted().record, None);
        }
    }
    let noted = written(&dial(&serving, &by_hand));
    let nexts: Vec<_> = noted.entries().map(|(_, e)| e.attributes.next).collect();
    let (first, before) = (Some(hash(&next)), Some(hash(&other)));
    assert_eq!(nexts, [first, first, before]);
    // Another root of the same key changes nothing.
    let (again, _) = committing(&other);
    assert_eq!(dial(&again, &noted).accepted().record, None);
}

#[test]
fn whoever_finds_a_key_long_after_its_overlap_freezes_nothing() {
    let [old, new, thief] = keys();
    let chain = serving(&new, &history(&[&old, &new]));
    let rival = serving(&thief, &history(&[&old, &thief]));
    let rival_dialling = dialling(&thief, &history(&[&old, &thief]));
    let lines = [line(
        &format!("both ops,{DIALLED}"),
        &old,
        "origin=approved",
    )];
    let followed = written(&dial(&chain, &known(&lines)));
    let later = overlap_end() + SECOND;
    for ask in [
        dial(&rival, &followed),
        Ask::accept(Mode::Enroll, &rival_dialling, followed.clone()),
    ] {
        // While the old key counts, nobody knows whose word is the owner's.
        let during = ask.clone().at(overlap_end()).refused();
        assert_eq!(during.reason, Reason::Forked);
        assert!(matches!(
            during.record.as_deref(),
            Some(Edit::Freeze { .. })
        ));
        let refusal = ask.at(later).refused();
        assert_eq!((refusal.reason, refusal.record), (Reason::Superseded, None));
        let expected = Evidence::Superseded {
            line: 2,
            successor: id(&new),
            not_after: overlap_end(),
        };
        assert_eq!(refusal.evidence, expected);
    }
    assert_eq!(dial(&chain, &followed).at(later).word(), "pin");
    let rivals = history(&[&old, &thief]);
    let by_file = follow(&followed, &rivals, SuccessionPolicy::Auto, later);
    assert!(matches!(
        by_file,
        Err(SuccessionFault::Superseded { line: 2, .. })
    ));
}

#[test]
fn a_peer_that_makes_keys_for_sport_is_followed_once_a_day() {
    let [a, b, c] = keys();
    let lines = [line(
        "accept guest",
        &a,
        "origin=invite added=2026-03-01T00:00:00Z",
    )];
    let accept = |chain, known: &KnownPeers| Ask::accept(Mode::Invite, chain, known.clone());
    let first = node_of(&b, &c, &history(&[&a, &b]).encode()).dial.chain;
    let first = PresentedChain::parse(&first).expect("chain");
    // The first change is followed at once, however young the entry is.
    let followed = written(&accept(&first, &known(&lines)));
    let second = dialling(&c, &history(&[&a, &b, &c]));
    let until = NOW + ROLL_PAUSE;
    let ask = accept(&second, &followed);
    for now in [NOW, until - SECOND] {
        let refusal = ask.clone().at(now).refused();
        assert_eq!((refusal.reason, refusal.record), (Reason::Limit, None));
        let expected = SuccessionFault::TooSoon { line: 3, until };
        assert_eq!(fault(&ask.clone().at(now)), expected);
    }
    assert_eq!(ask.clone().at(until).word(), "pin");
    // An entry that a wrong clock dated bounds nothing.
    assert_eq!(ask.at(NOW - SECOND).word(), "pin");
    // A person may follow at any time.
    let by_file = follow(
        &followed,
        &history(&[&a, &b, &c]),
        SuccessionPolicy::Auto,
        NOW,
    );
    assert!(matches!(by_file, Ok(Some(_))));
}

#[test]
fn a_peer_that_goes_on_making_keys_keeps_no_more_lines_than_a_history_names() {
    let keys: [TestKey; MAX_LINEAGE + 2] = keys();
    let mut present = pinned(&keys[0]);
    let mut now = NOW;
    let mut chain = SuccessionChain::new(statement(&keys[0], &keys[1]));
    for (step, pair) in keys.windows(2).enumerate() {
        if step > 0 {
            let sequence = u64::try_from(step).expect("few") + 1;
            let next = request(sequence, Some(chain.last())).sign(&pair[0], &pair[1]);
            chain
                .push(next.expect("a sound statement"))
                .expect("it follows");
        }
        let serving = committing(&pair[1], keys.get(step + 2).unwrap_or(&keys[0]), &chain);
        present = written(&dial(&serving, &present).at(now));
        now = now + ROLL_PAUSE;
        let entries = present.entries().count();
        assert_eq!(entries, (step + 2).min(MAX_LINEAGE), "step {step}");
    }
    // The oldest went, and those of other names stay.
    assert!(present.pins_of(PeerId::Node(id(&keys[1]))).next().is_none());
    assert!(present.pins_of(PeerId::Node(id(&keys[2]))).next().is_some());
}

#[test]
fn the_line_of_a_replaced_key_goes_a_year_after_its_overlap_unless_it_is_frozen() {
    let [a, b, c] = keys();
    let end = NOW - SUPERSEDED_KEPT;
    for (end, mark, kept) in [
        (end, "", true),
        (end - SECOND, "", false),
        (end - SECOND, " forked=2026-01-01T00:00:00Z", true),
    ] {
        let old = format!("successor={} not-after={end}{mark}", id(&b));
        let lines = [
            line(&format!("dial {DIALLED}"), &a, &old),
            line(&format!("dial {DIALLED}"), &b, "origin=first-use"),
        ];
        let chain = serving(&c, &history(&[&b, &c]));
        let ask = dial(&chain, &known(&lines));
        let followed = written(&ask);
        let is_there = followed.pins_of(PeerId::Node(id(&a))).next().is_some();
        assert_eq!(is_there, kept, "{end}{mark}");
        assert_eq!(followed.entries().count(), 2 + usize::from(kept));
    }
}
