//! Single rules, their boundaries, and a canonical test for every reason that a decision can have.

use comity_certs::{CLOCK_TOLERANCE, ChainError, PresentedChain, Purpose};
use comity_identity::{PeerId, UnixTime};
use comity_trust::{
    AllowRule, Edit, EditError, Evidence, How, Invited, Invitee, KnownPin, Mode, Origin, Outcome,
    Phase, Pin, Reason, Rule, Side, Warning, What, authorise, explain,
};
use rcgen::ExtendedKeyUsagePurpose;

use crate::world::{
    Ask, BEGIN, Ca, DAY, DIALLED, END, HOST, NOW, Says, added, foreign, known, name, native,
    nobody, pin,
};

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

/// Reasons that other crates give.
const NOT_DECIDED_HERE: [Reason; 3] = [Reason::NoSuchService, Reason::Busy, Reason::StoreError];

#[test]
fn every_reason_has_its_canonical_case() {
    let ca = Ca::new("corp");
    let vouched = ca.leaf(&Says::name(&[HOST]));
    let (serving, dialling) = (native(1, Purpose::Serve), native(1, Purpose::Dial));
    let other = native(2, Purpose::Serve);
    let empty: [&[u8]; 0] = [];
    let malformed = PresentedChain::parse(&empty).expect_err("empty");
    let limit = PresentedChain::parse(&[[0]; 9]).expect_err("nine certificates");
    let tofu = |chain, known| Ask::dial(Mode::CaOrTofu, chain, known);
    let by_ca = |chain, line| Ask::accept(Mode::Ca, chain, known(&[line]));
    let met = Ask::accept(Mode::Tofu, &dialling, nobody()).accepted();
    let unauthorised = authorise("pg", &AllowRule::Granted, &met).expect_err("first use");
    let mut found = vec![Reason::from(&malformed), Reason::from(&limit), unauthorised];
    for ask in [
        tofu(&serving, nobody()).own(serving.leaf().key),
        tofu(
            &serving,
            known(&[format!("@revoked both x {}", pin(&serving))]),
        ),
        Ask::dial(Mode::Pin, &serving, nobody()),
        Ask::accept(Mode::Enroll, &dialling, nobody()),
        tofu(
            &serving,
            known(&[format!("dial {DIALLED} {}", pin(&other))]),
        ),
        tofu(&serving, nobody()).at(UnixTime::NEVER),
        tofu(&serving, nobody()).at(UnixTime::from_secs(0)),
        Ask::dial(
            Mode::Ca,
            &ca.leaf(&Says::default()),
            known(&[ca.line("dial", "*", "")]),
        ),
        tofu(&serving, known(&[format!("@ca-verified dial {DIALLED}")])),
        tofu(
            &serving,
            known(&[format!(
                "dial {DIALLED} {} not-after={BEGIN} successor={}",
                pin(&serving),
                other.peer_id()
            )]),
        ),
        tofu(
            &serving,
            known(&[format!("dial {DIALLED} {} forked={NOW}", pin(&serving))]),
        ),
        by_ca(&vouched, ca.line("accept", "*", "roles=admin")),
        by_ca(&vouched, ca.line("accept", "*", "networks=corp")),
        by_ca(&vouched, ca.line("accept", "*.corp", "")),
        tofu(&dialling, nobody()),
        Ask::accept(Mode::Invite, &dialling, nobody()).invited(Invited::Invalid),
    ] {
        found.push(ask.refused().reason);
    }
    let decided_elsewhere = |r: &&Reason| !NOT_DECIDED_HERE.contains(r);
    let expected: Vec<Reason> = Reason::ALL
        .iter()
        .filter(decided_elsewhere)
        .copied()
        .collect();
    found.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn chains_that_cannot_be_read_have_a_reason() {
    let nothing: [&[u8]; 0] = [];
    let error = PresentedChain::parse(&nothing).expect_err("empty");
    assert_eq!(Reason::from(&error), Reason::Malformed);
    let many = ChainError::TooManyCertificates { found: 9 };
    assert_eq!(Reason::from(&many), Reason::Limit);
}

#[test]
fn a_changed_key_names_all_that_is_known() {
    let peer = native(1, Purpose::Serve);
    let (first, second) = (native(2, Purpose::Serve), native(3, Purpose::Serve));
    let known = known(&[
        format!(
            "dial {DIALLED} {} origin=first-use added=2026-03-02T09:14:07Z \
             confirmed=2026-03-03T00:00:00Z/words",
            pin(&first)
        ),
        format!("dial *.example:7117 {}", pin(&second)),
    ]);
    let refusal = Ask::dial(Mode::CaOrTofu, &peer, known).refused();
    assert_eq!(refusal.reason, Reason::Changed);
    assert_eq!(refusal.presented, peer.peer_id());
    let Evidence::Changed { name, known, .. } = refusal.evidence else {
        panic!("{refusal:?}");
    };
    assert_eq!(name, Some(crate::world::name(DIALLED)));
    let [a, b]: [KnownPin; 2] = known.try_into().expect("two");
    assert_eq!((a.line, a.pin), (2, Pin::from(first.peer_id())));
    assert_eq!(a.added, "2026-03-02T09:14:07Z".parse().ok());
    assert_eq!(a.origin, Some(Origin::FirstUse));
    assert_eq!(a.confirmed.expect("confirmed").how, "words");
    assert_eq!((b.line, b.pin), (3, Pin::from(second.peer_id())));
}

#[test]
fn several_keys_of_one_name_are_all_accepted() {
    let chains = [native(1, Purpose::Serve), native(2, Purpose::Serve)];
    let known = known(&[
        format!("dial {DIALLED} {}", pin(&chains[0])),
        format!("dial {DIALLED} {}", pin(&chains[1])),
    ]);
    for (chain, line) in chains.iter().zip([2, 3]) {
        let recognition = Ask::dial(Mode::Pin, chain, known.clone()).accepted();
        assert_eq!(recognition.how, How::Pin { line });
    }
}

#[test]
fn the_same_key_in_a_new_certificate_passes_a_key_pin_and_not_a_certificate_pin() {
    // T02: a native peer renews its leaf below the same identity.
    let (before, after) = (native(1, Purpose::Serve), native(1, Purpose::Serve));
    assert_ne!(before.leaf().fingerprint, after.leaf().fingerprint);
    let node = known(&[format!("dial {DIALLED} {}", pin(&before))]);
    assert_eq!(Ask::dial(Mode::Pin, &after, node).word(), "pin");
    let certificate = format!("dial {DIALLED} cert {}", before.leaf().fingerprint);
    let certificate = known(&[certificate]);
    assert_eq!(
        Ask::dial(Mode::Pin, &before, certificate.clone()).word(),
        "pin"
    );
    assert_eq!(Ask::dial(Mode::Pin, &after, certificate).word(), "changed");
}

#[test]
fn a_pin_never_matches_what_is_merely_present_in_the_chain() {
    let ca = Ca::new("corp");
    let chain = ca.leaf_with_root(&Says::name(&[HOST]));
    for line in [
        format!("dial {DIALLED} key {}", ca.anchor.key()),
        format!("dial {DIALLED} cert {}", ca.anchor.fingerprint()),
        format!("dial {DIALLED} node {}", ca.anchor.key()),
    ] {
        assert_eq!(
            Ask::dial(Mode::Pin, &chain, known(&[line])).word(),
            "changed"
        );
    }
    // And a node's identity is no plain key.
    let node = native(1, Purpose::Serve);
    let line = format!("dial {DIALLED} key {}", node.peer_id().key_hash());
    assert_eq!(
        Ask::dial(Mode::Pin, &node, known(&[line])).word(),
        "changed"
    );
}

#[test]
fn a_revoked_key_anywhere_in_the_chain_refuses_it() {
    let ca = Ca::new("corp");
    let chain = ca.leaf_with_root(&Says::name(&[HOST]));
    for revoked in [
        format!("key {}", ca.anchor.key()),
        format!("node {}", ca.anchor.key()),
        format!("cert {}", ca.anchor.fingerprint()),
    ] {
        let known = known(&[
            format!("dial {DIALLED} {}", pin(&chain)),
            format!("@revoked accept other {revoked} not-after=2020-01-01T00:00:00Z"),
        ]);
        let refusal = Ask::dial(Mode::Pin, &chain, known).refused();
        assert_eq!(refusal.evidence, Evidence::Revoked { line: 3 });
    }
}

#[test]
fn a_revoked_certificate_does_not_come_back_with_its_signature_negated() {
    // ECDSA: anybody can turn (r, s) into (r, n - s), and so one form of a certificate into the
    // other. Whichever was revoked, the other one is presented here.
    let ca = Ca::new("corp");
    let chain = ca.leaf_with_root(&Says::name(&[HOST]));
    let others = chain.twin_fingerprints();
    assert_eq!(others.len(), 4, "leaf and root, each for two curves");
    for other in others {
        let revoked = format!("@revoked both x cert {other}");
        let listed = known(&[ca.line("dial", "*", ""), revoked]);
        let refusal = Ask::dial(Mode::CaOrPin, &chain, listed).refused();
        assert_eq!(refusal.evidence, Evidence::Revoked { line: 3 });
    }
    // The authority's own certificate, which the peer did not present.
    let alone = ca.leaf(&Says::name(&[HOST]));
    let other = ca.anchor.twin_fingerprints()[0];
    let revoked = format!("@revoked both x cert {other}");
    let listed = known(&[ca.line("dial", "*", ""), revoked]);
    assert_eq!(Ask::dial(Mode::Ca, &alone, listed).word(), "revoked");
}

#[test]
fn a_certificate_pin_never_matches_the_same_certificate_with_its_signature_negated() {
    let peer = foreign(&Says::name(&[HOST]));
    let others = peer.twin_fingerprints();
    assert!(!others.is_empty());
    for other in others {
        let pinned = known(&[format!("dial {DIALLED} cert {other}")]);
        assert_eq!(Ask::dial(Mode::Pin, &peer, pinned).word(), "changed");
        let pinned = known(&[format!("accept ops cert {other}")]);
        assert_eq!(Ask::accept(Mode::Pin, &peer, pinned).word(), "unknown");
    }
}

#[test]
fn a_revoked_root_of_the_system_recognises_nobody() {
    let ca = Ca::new("public");
    let chain = ca.leaf(&Says::name(&[HOST]));
    let known = known(&[format!("@revoked both x cert {}", ca.anchor.fingerprint())]);
    let ask = Ask::dial(Mode::CaOrTofu, &chain, known).roots(std::slice::from_ref(&ca.anchor));
    assert_eq!(ask.refused().evidence, Evidence::Revoked { line: 2 });
}

#[test]
fn revoking_one_authority_refuses_nobody_below_another() {
    let (good, bad) = (Ca::new("good"), Ca::new("bad"));
    let chain = good.leaf(&Says::name(&[HOST]));
    let known = known(&[
        good.line("dial", "*", ""),
        bad.line("dial", "*", ""),
        format!("@revoked both x key {}", bad.anchor.key()),
    ]);
    assert_eq!(Ask::dial(Mode::Ca, &chain, known).word(), "ca");
}

#[test]
fn what_is_below_a_revoked_authority_is_refused_also_where_another_one_vouches_for_it() {
    // Both certified the same intermediate CA. Whoever revokes one of them says that what it did
    // is not to be relied on; the other one has to issue anew.
    let (good, bad) = (Ca::new("good"), Ca::new("bad"));
    let middle = Ca::new("middle");
    let leaf = middle.leaf(&Says::name(&[HOST]));
    let by_both = [good.certify(&middle), bad.certify(&middle)];
    let chain = |above: &[Vec<u8>]| {
        let mut all = leaf.der().to_vec();
        all.extend_from_slice(above);
        PresentedChain::parse(&all).expect("chain")
    };
    let listed = known(&[
        good.line("dial", "*", ""),
        bad.line("dial", "*", ""),
        format!("@revoked both x key {}", bad.anchor.key()),
    ]);
    let word = |above: &[Vec<u8>]| Ask::dial(Mode::Ca, &chain(above), listed.clone()).word();
    assert_eq!(word(&by_both), "revoked");
    assert_eq!(word(&by_both[1..]), "revoked");
    // What the peer does not show cannot be seen.
    assert_eq!(word(&by_both[..1]), "ca");
}

#[test]
fn a_pinned_peer_below_a_revoked_authority_is_refused_whatever_its_dates_and_uses() {
    let ca = Ca::new("corp");
    let server = Says {
        usage: Some(ExtendedKeyUsagePurpose::ServerAuth),
        ..Says::name(&[HOST])
    };
    let revoked = format!("@revoked both x key {}", ca.anchor.key());
    let marked = ca.line("dial", "*", "").replace("@ca", "@revoked");
    for peer in [ca.leaf(&Says::name(&[HOST])), ca.leaf(&server)] {
        for authority in [
            vec![ca.line("both", "*", ""), revoked.clone()],
            // Listed for the other direction only.
            vec![ca.line("dial", "*", ""), revoked.clone()],
            // The marker of its line changed by hand.
            vec![marked.clone()],
        ] {
            let mut lines = authority;
            lines.push(format!("accept ops {}", pin(&peer)));
            let listed = known(&lines);
            for now in [BEGIN - SECOND, NOW, END + SECOND] {
                let ask = Ask::accept(Mode::Enroll, &peer, listed.clone()).at(now);
                assert_eq!(ask.word(), "revoked", "{listed:?} {now}");
            }
        }
    }
    let other = Ca::new("corp").leaf(&Says::name(&[HOST]));
    let lines = [marked, format!("accept ops {}", pin(&other))];
    assert_eq!(
        Ask::accept(Mode::Enroll, &other, known(&lines)).word(),
        "pin"
    );
}

#[test]
fn an_expected_id_is_accepted_and_no_other() {
    let peer = native(1, Purpose::Serve);
    let other = native(2, Purpose::Serve);
    for mode in [Mode::Pin, Mode::Tofu, Mode::CaOrTofu, Mode::CaThenPin] {
        let ask = Ask::dial(mode, &peer, nobody()).id(peer.peer_id());
        assert_eq!(ask.word(), "id", "{mode}");
    }
    for mode in Mode::ALL
        .into_iter()
        .filter(|m| m.valid_for(comity_trust::Direction::Dial))
    {
        let ask = Ask::dial(mode, &peer, nobody()).id(other.peer_id());
        assert_eq!(ask.word(), "unknown", "{mode}");
        let pinned = known(&[format!("dial ops {}", pin(&other))]);
        let ask = Ask::dial(mode, &peer, pinned).id(other.peer_id());
        assert_eq!(ask.word(), "changed", "{mode}");
    }
}

#[test]
fn an_expected_id_does_not_override_the_pin_of_the_name() {
    let (peer, other) = (native(1, Purpose::Serve), native(2, Purpose::Serve));
    let known = known(&[format!("dial {DIALLED} {}", pin(&other))]);
    let ask = Ask::dial(Mode::Tofu, &peer, known).id(peer.peer_id());
    assert_eq!(ask.word(), "changed");
}

#[test]
fn an_expected_id_is_recorded_as_confirmed_where_first_use_is() {
    let peer = native(1, Purpose::Serve);
    let ask = Ask::dial(Mode::CaOrTofu, &peer, nobody()).id(peer.peer_id());
    let entry = added(&ask.accepted()).expect("record");
    assert_eq!(entry.attributes.confirmed.expect("confirmed").how, "id");
    let ask = Ask::dial(Mode::Pin, &peer, nobody()).id(peer.peer_id());
    assert_eq!(ask.accepted().record, None);
}

#[test]
fn first_use_records_what_it_saw() {
    let peer = native(1, Purpose::Serve);
    let entry = added(&Ask::dial(Mode::Tofu, &peer, nobody()).accepted()).expect("record");
    assert_eq!(entry.side, Side::Dial);
    assert_eq!(entry.what, What::Pin(Pin::from(peer.peer_id())));
    assert_eq!(entry.names.exact().collect::<Vec<_>>(), [&name(DIALLED)]);
    assert_eq!(entry.attributes.added, Some(NOW));
    assert_eq!(entry.attributes.origin, Some(Origin::FirstUse));
    assert_eq!(entry.attributes.next, peer.next());
    let known = nobody().with(Edit::Add(Box::new(entry))).expect("added");
    assert_eq!(Ask::dial(Mode::Pin, &peer, known).word(), "pin");
}

#[test]
fn of_two_first_uses_with_different_keys_one_wins() {
    // T61: both processes decided on the same empty file, but each adds under the lock.
    let (a, b) = (native(1, Purpose::Serve), native(2, Purpose::Serve));
    let record = |chain| {
        let ask = Ask::dial(Mode::Tofu, chain, nobody());
        added(&ask.accepted()).expect("record")
    };
    let (first, second) = (record(&a), record(&b));
    let known = nobody()
        .with(Edit::Add(Box::new(first.clone())))
        .expect("added");
    assert_eq!(
        known.with(Edit::Add(Box::new(second))),
        Err(EditError::NameTaken {
            name: name(DIALLED),
            line: 2
        })
    );
    assert_eq!(
        known.with(Edit::Add(Box::new(first))),
        Err(EditError::AlreadyThere { line: 2 })
    );
    assert_eq!(Ask::dial(Mode::Tofu, &b, known).word(), "changed");
}

#[test]
fn strangers_who_dial_us_get_a_label_made_of_their_id() {
    let peer = native(1, Purpose::Dial);
    let short = format!("peer-{}", peer.peer_id().short().to_lowercase());
    let entry = added(&Ask::accept(Mode::Tofu, &peer, nobody()).accepted()).expect("record");
    assert_eq!(entry.names.label(), Some(&name(&short)));
    // Somebody else has this label: it is not taken away.
    let other = native(2, Purpose::Dial);
    let known = known(&[format!("accept {short} {}", pin(&other))]);
    let entry = added(&Ask::accept(Mode::Tofu, &peer, known.clone()).accepted()).expect("record");
    let label = entry.names.label().expect("label").clone();
    assert!(label.as_str().len() > short.len() && label.as_str().starts_with(&short));
    assert!(known.with(Edit::Add(Box::new(entry))).is_ok());
}

#[test]
fn an_invited_peer_gets_what_the_inviter_chose_but_nobody_elses_label() {
    let peer = native(1, Purpose::Dial);
    let other = native(2, Purpose::Dial);
    let invitee = Invitee {
        label: Some(name("ops")),
        services: vec!["pg".into()],
        roles: vec!["reader".into()],
        networks: vec!["corp".into()],
    };
    let ask = |lines: &[String]| {
        Ask::accept(Mode::Enroll, &peer, known(lines)).invited(Invited::Proven(&invitee))
    };
    let recognition = ask(&[]).accepted();
    assert_eq!(recognition.how, How::Invited);
    assert!(recognition.grants.service("pg"));
    assert!(recognition.grants.membership("corp", Some("reader")));
    let entry = added(&recognition).expect("record");
    assert_eq!(entry.names.label(), Some(&name("ops")));
    assert_eq!(entry.attributes.origin, Some(Origin::Invite));
    let taken = ask(&[format!("accept ops {}", pin(&other))]).accepted();
    let label = added(&taken).expect("record").names.label().cloned();
    assert!(label.expect("label").as_str().starts_with("peer-"));
}

#[test]
fn native_leaves_have_a_tolerance_of_48_hours_both_ways_in_every_mode() {
    let peer = native(1, Purpose::Serve);
    let pinned = known(&[format!("dial {DIALLED} {}", pin(&peer))]);
    let (first, last) = (BEGIN - CLOCK_TOLERANCE, BEGIN + DAY * 30 + CLOCK_TOLERANCE);
    for mode in [
        Mode::Pin,
        Mode::Tofu,
        Mode::Record,
        Mode::CaOrRecord,
        Mode::Insecure,
    ] {
        for known in [pinned.clone(), nobody()] {
            if mode == Mode::Pin && known == nobody() {
                continue;
            }
            let at = |now| Ask::dial(mode, &peer, known.clone()).at(now);
            assert!(at(first).verdict().recognition().is_some(), "{mode}");
            assert_eq!(at(last).accepted().ends, last, "{mode}");
            assert_eq!(at(first - SECOND).word(), "not-yet-valid", "{mode}");
            assert_eq!(at(last + SECOND).word(), "expired", "{mode}");
        }
    }
}

#[test]
fn a_single_pinned_self_signed_certificate_may_be_outside_its_dates_with_a_warning() {
    let peer = foreign(&Says::name(&[HOST]));
    let pinned = known(&[format!("dial {DIALLED} {}", pin(&peer))]);
    let at = |now| {
        Ask::dial(Mode::Pin, &peer, pinned.clone())
            .at(now)
            .accepted()
    };
    assert_eq!((at(END).warnings, at(END).ends), (vec![], END));
    let expired = at(END + SECOND);
    assert_eq!(expired.warnings, [Warning::Expired { not_after: END }]);
    assert_eq!(expired.ends, UnixTime::NEVER);
    let early = at(BEGIN - SECOND);
    assert_eq!(early.warnings, [Warning::NotYetValid { not_before: BEGIN }]);
    // Nobody is met for the first time with such a certificate.
    let stranger = |now| Ask::dial(Mode::Tofu, &peer, nobody()).at(now);
    assert_eq!(stranger(END).word(), "first-use");
    assert_eq!(stranger(END + SECOND).word(), "expired");
    assert_eq!(stranger(BEGIN).word(), "first-use");
    assert_eq!(stranger(BEGIN - SECOND).word(), "not-yet-valid");
}

#[test]
fn a_pinned_certificate_that_a_ca_issued_follows_its_dates_also_when_it_is_sent_alone() {
    let ca = Ca::new("corp");
    let says = Says::name(&[HOST]);
    for peer in [ca.leaf_with_root(&says), ca.leaf(&says)] {
        let pinned = known(&[format!("dial {DIALLED} {}", pin(&peer))]);
        let at = |now| Ask::dial(Mode::Pin, &peer, pinned.clone()).at(now);
        assert_eq!(at(BEGIN - SECOND).word(), "not-yet-valid");
        assert_eq!(at(BEGIN).word(), "pin");
        assert_eq!(at(END).word(), "pin");
        assert_eq!(at(END + SECOND).word(), "expired");
    }
}

#[test]
fn ca_paths_are_judged_to_the_second() {
    let ca = Ca::new("corp");
    let peer = ca.leaf(&Says::name(&[HOST]));
    let listed = known(&[ca.line("dial", "*", "")]);
    let at = |now| Ask::dial(Mode::Ca, &peer, listed.clone()).at(now);
    assert_eq!(at(BEGIN).word(), "ca");
    assert_eq!(at(END).accepted().ends, END);
    assert_eq!(at(BEGIN - SECOND).word(), "not-yet-valid");
    assert_eq!(at(END + SECOND).word(), "expired");
}

#[test]
fn an_expired_own_ca_recognises_nobody() {
    // T05: 2026-03-15 is the CA's last day.
    let ca = Ca::until("corp", 2026);
    let peer = ca.leaf(&Says::name(&[HOST]));
    let listed = known(&[ca.line("dial", "*", "")]);
    let ask = Ask::dial(Mode::Ca, &peer, listed);
    let end = ca.anchor.not_after();
    assert_eq!(ask.accepted().ends, end);
    assert_eq!(ask.clone().at(end).word(), "ca");
    assert_eq!(ask.at(end + SECOND).word(), "expired");
}

#[test]
fn an_entry_that_ended_recognises_nobody_and_is_not_met_again() {
    let peer = native(1, Purpose::Serve);
    let line = format!(
        "dial {DIALLED} {} not-after=2026-03-02T00:00:00Z",
        pin(&peer)
    );
    let end: UnixTime = "2026-03-02T00:00:00Z".parse().expect("time");
    let ask = Ask::dial(Mode::CaOrTofu, &peer, known(&[line]));
    assert_eq!(ask.accepted().ends, end);
    assert_eq!(ask.clone().at(end).word(), "pin");
    let refusal = ask.clone().at(end + SECOND).refused();
    assert_eq!(refusal.reason, Reason::Expired);
    let ca = Ca::new("corp");
    let vouched = ca.leaf(&Says::name(&[HOST]));
    let listed = known(&[ca.line("dial", "*", "not-after=2026-03-02T00:00:00Z")]);
    let ask = Ask::dial(Mode::Ca, &vouched, listed);
    assert_eq!(ask.accepted().ends, end);
    assert_eq!(ask.at(end + SECOND).word(), "expired");
}

#[test]
fn leaves_for_the_other_direction_are_refused() {
    // T14.
    let (serving, dialling) = (native(1, Purpose::Serve), native(1, Purpose::Dial));
    let known = |side| known(&[format!("{side} {DIALLED} {}", pin(&serving))]);
    let ask = Ask::dial(Mode::Pin, &dialling, known("dial"));
    assert_eq!(ask.word(), "constraint");
    let ask = Ask::accept(Mode::Pin, &serving, known("accept"));
    assert_eq!(ask.word(), "constraint");
    let ca = Ca::new("corp");
    let client = ca.leaf(&Says {
        usage: Some(ExtendedKeyUsagePurpose::ClientAuth),
        ..Says::name(&[HOST])
    });
    let listed = crate::world::known(&[ca.line("dial", "*", "")]);
    assert_eq!(Ask::dial(Mode::Ca, &client, listed).word(), "constraint");
}

#[test]
fn a_ca_path_for_another_name_is_a_mismatch() {
    // T06, and T07: the same host at another port is another name to us, and one to the CA.
    let ca = Ca::new("corp");
    let other = ca.leaf(&Says::name(&["www.example"]));
    let listed = known(&[ca.line("dial", "*", "")]);
    assert_eq!(
        Ask::dial(Mode::Ca, &other, listed.clone()).word(),
        "name-mismatch"
    );
    let peer = ca.leaf(&Says::name(&[HOST]));
    let mut ask = Ask::dial(Mode::Ca, &peer, listed);
    assert_eq!(ask.word(), "ca");
    ask.expectation.server_name = None;
    assert_eq!(ask.word(), "name-mismatch");
}

#[test]
fn a_pin_is_for_its_port_only() {
    let peer = native(1, Purpose::Serve);
    let known = known(&[format!("dial {HOST}:22 {}", pin(&peer))]);
    assert_eq!(Ask::dial(Mode::Pin, &peer, known.clone()).word(), "unknown");
    let met = Ask::dial(Mode::Tofu, &peer, known).accepted();
    assert_eq!(
        met.warnings,
        [Warning::KnownElsewhere {
            line: 2,
            name: Some(name("db.example:22"))
        }]
    );
}

#[test]
fn a_ca_vouches_only_inside_its_scope() {
    let ca = Ca::new("corp");
    let peer = ca.leaf(&Says::name(&[HOST]));
    for (scope, word) in [
        ("*", "ca"),
        ("*.example", "ca"),
        ("db.example", "ca"),
        ("db.example:7117", "ca"),
        ("db.example:*", "ca"),
        ("db.example:22", "out-of-scope"),
        ("*.corp.example", "out-of-scope"),
        ("*.example,!db.example", "out-of-scope"),
        ("*,!db.example", "out-of-scope"),
        ("*:*", "ca"),
        ("?", "out-of-scope"),
        ("::", "out-of-scope"),
    ] {
        let listed = known(&[ca.line("dial", scope, "")]);
        assert_eq!(Ask::dial(Mode::Ca, &peer, listed).word(), word, "{scope}");
    }
    let accepting_only = known(&[ca.line("accept", "*.example", "")]);
    assert_eq!(Ask::dial(Mode::Ca, &peer, accepting_only).word(), "unknown");
}

#[test]
fn when_accepting_every_name_of_the_leaf_must_escape_the_exceptions() {
    let ca = Ca::new("corp");
    let says = |dns: &'static [&'static str]| {
        ca.leaf(&Says {
            networks: &["corp"],
            ..Says::name(dns)
        })
    };
    let (evil, both) = (
        says(&["evil.example"]),
        says(&["db.example", "evil.example"]),
    );
    let (good, none) = (says(&["db.example"]), says(&[]));
    let (wildcard, within) = (says(&["*.example"]), says(&["a.example", "b.example"]));
    for (scope, attributes, peer, word) in [
        ("*,!evil.example", "networks=corp", &evil, "out-of-scope"),
        ("*,!evil.example", "networks=corp", &both, "out-of-scope"),
        (
            "*,!evil.example",
            "networks=corp",
            &wildcard,
            "out-of-scope",
        ),
        ("*,!evil.example", "networks=corp", &good, "ca"),
        ("*,!evil.example", "networks=corp", &none, "out-of-scope"),
        ("*", "networks=corp", &none, "ca"),
        ("*.example,!evil.*", "", &both, "out-of-scope"),
        ("*.example,!evil.*", "", &evil, "out-of-scope"),
        ("*.example,!evil.*", "", &within, "ca"),
        // An exception says whom the authority is not for, and not whom it is for.
        ("*,!evil.example", "", &good, "out-of-scope"),
        ("*:*,!evil.example", "", &good, "out-of-scope"),
        // These are no way to write `*`.
        ("???", "networks=corp", &good, "out-of-scope"),
        (":", "networks=corp", &good, "out-of-scope"),
    ] {
        let listed = known(&[ca.line("accept", scope, attributes)]);
        assert_eq!(
            Ask::accept(Mode::Ca, peer, listed).word(),
            word,
            "{scope} {attributes}"
        );
    }
}

#[test]
fn when_accepting_a_uri_can_be_the_name_inside_a_scope() {
    let ca = Ca::new("corp");
    let says = Says {
        uris: &["spiffe://corp/ns/db"],
        ..Says::default()
    };
    let peer = ca.leaf(&says);
    for (scope, word) in [
        ("spiffe://corp/*", "ca"),
        ("spiffe://other/*", "out-of-scope"),
        ("*.corp", "out-of-scope"),
    ] {
        let listed = known(&[ca.line("accept", scope, "")]);
        assert_eq!(Ask::accept(Mode::Ca, &peer, listed).word(), word, "{scope}");
    }
}

#[test]
fn below_name_constraints_a_uri_is_no_name_inside_a_scope() {
    let ca = Ca::new("corp");
    let says = Says {
        dns: &["laptop.dev.example"],
        uris: &["spiffe://corp/ns/db"],
        ..Says::default()
    };
    let only_uri = Says {
        dns: &[],
        ..says.clone()
    };
    let below = |constraint, says| ca.leaf_below_another(constraint, says);
    let (free, constrained) = (below(None, &says), below(Some("dev.example"), &says));
    let only_uri = below(Some("dev.example"), &only_uri);
    let uris = "spiffe://corp/*";
    for (peer, scope, word) in [
        (&free, uris, "ca"),
        (&constrained, uris, "out-of-scope"),
        (&only_uri, uris, "out-of-scope"),
        // The names that are limited count as before, and so does what a line excludes.
        (&constrained, "*.dev.example", "ca"),
        (&constrained, "*.dev.example,spiffe://corp/*", "ca"),
        (&constrained, "*.dev.example,!spiffe://*", "out-of-scope"),
        (&only_uri, "*.dev.example", "out-of-scope"),
    ] {
        let listed = known(&[ca.line("accept", scope, "")]);
        assert_eq!(Ask::accept(Mode::Ca, peer, listed).word(), word, "{scope}");
    }
    // Another line for the same authority can still recognise it.
    let listed = known(&[
        ca.line("accept", uris, ""),
        ca.line("accept", "*.dev.example", ""),
    ]);
    let recognition = Ask::accept(Mode::Ca, &constrained, listed).accepted();
    assert!(matches!(recognition.how, How::Ca { line: Some(3), .. }));
}

#[test]
fn a_name_once_recognised_by_a_ca_is_remembered_once() {
    let ca = Ca::new("corp");
    let peer = ca.leaf(&Says::name(&[HOST]));
    let listed = known(&[ca.line("dial", "*", "")]);
    let record = Ask::dial(Mode::CaOrTofu, &peer, listed.clone()).accepted();
    let entry = added(&record).expect("record");
    assert_eq!(entry.what, What::CaVerified);
    let remembered = listed.with(Edit::Add(Box::new(entry))).expect("added");
    let again = Ask::dial(Mode::CaOrTofu, &peer, remembered.clone()).accepted();
    assert_eq!(again.record, None);
    // T53.
    let stranger = foreign(&Says::name(&[HOST]));
    let refusal = Ask::dial(Mode::CaOrTofu, &stranger, remembered.clone()).refused();
    assert!(matches!(
        refusal.evidence,
        Evidence::Downgrade {
            line: 3,
            ca: Some(_)
        }
    ));
    // A certificate of the same CA that expired is no stranger's.
    let late = Ask::dial(Mode::CaOrTofu, &peer, remembered).at(END + SECOND);
    assert_eq!(late.word(), "expired");
}

#[test]
fn a_peer_that_a_ca_still_vouches_for_has_not_fallen_back() {
    let ca = Ca::new("corp");
    let peer = ca.leaf(&Says::name(&[HOST]));
    let known = known(&[
        ca.line("dial", "*", ""),
        format!("@ca-verified dial {DIALLED}"),
    ]);
    assert_eq!(
        Ask::dial(Mode::Tofu, &peer, known.clone()).word(),
        "first-use"
    );
    assert_eq!(Ask::dial(Mode::Pin, &peer, known).word(), "unknown");
}

#[test]
fn ca_then_pin_accepts_only_the_first_key_ever_after() {
    let ca = Ca::new("corp");
    let (first, second) = (ca.leaf(&Says::name(&[HOST])), ca.leaf(&Says::name(&[HOST])));
    let listed = known(&[ca.line("dial", "*", "")]);
    let met = Ask::dial(Mode::CaThenPin, &first, listed.clone()).accepted();
    let entry = added(&met).expect("record");
    assert_eq!(entry.attributes.origin, Some(Origin::Ca));
    let pinned = listed.with(Edit::Add(Box::new(entry))).expect("added");
    assert_eq!(
        Ask::dial(Mode::CaThenPin, &first, pinned.clone()).word(),
        "pin"
    );
    assert_eq!(
        Ask::dial(Mode::CaThenPin, &second, pinned).word(),
        "changed"
    );
}

#[test]
fn record_reports_what_tofu_would_have_refused_and_records_no_contradiction() {
    let (peer, other) = (native(1, Purpose::Serve), native(2, Purpose::Serve));
    let known = known(&[format!("dial {DIALLED} {}", pin(&other))]);
    for mode in [Mode::Record, Mode::CaOrRecord] {
        let recognition = Ask::dial(mode, &peer, known.clone()).accepted();
        let tofu = Ask::dial(Mode::Tofu, &peer, known.clone()).refused();
        assert_eq!(recognition.warnings, [Warning::WouldRefuse(Box::new(tofu))]);
        assert_eq!(recognition.record, None);
        let met = Ask::dial(mode, &peer, nobody()).accepted();
        assert!(met.record.is_some() && met.warnings.is_empty());
    }
}

#[test]
fn insecure_warns_on_every_connection_and_records_nothing() {
    let peer = native(1, Purpose::Serve);
    for known in [
        nobody(),
        known(&[format!("dial {DIALLED} {} for=*", pin(&peer))]),
    ] {
        let recognition = Ask::dial(Mode::Insecure, &peer, known).accepted();
        assert_eq!(recognition.warnings, [Warning::Insecure]);
        assert_eq!(recognition.record, None);
        assert!(recognition.grants.is_empty());
    }
}

#[test]
fn a_label_means_one_peer_in_both_directions() {
    let (peer, other) = (native(1, Purpose::Serve), native(2, Purpose::Serve));
    let accepting = known(&[format!("accept ops {}", pin(&other))]);
    let ask = Ask::dial(Mode::Tofu, &peer, accepting).named("ops");
    assert_eq!(ask.word(), "changed");
    // The key for accepting does not stand in for the one for dialling.
    let both = known(&[
        format!("accept ops {}", pin(&peer)),
        format!("dial ops {}", pin(&other)),
    ]);
    let ask = Ask::dial(Mode::Tofu, &peer, both).named("ops");
    assert_eq!(ask.word(), "changed");
}

#[test]
fn the_verifier_callback_neither_grants_nor_records() {
    let peer = native(1, Purpose::Serve);
    let ask = Ask::dial(Mode::Tofu, &peer, nobody()).phase(Phase::Certificate);
    let recognition = ask.accepted();
    assert_eq!((recognition.how, recognition.record), (How::FirstUse, None));
    let pinned = known(&[format!("dial {DIALLED} {} for=pg", pin(&peer))]);
    let ask = Ask::dial(Mode::Tofu, &peer, pinned).phase(Phase::Certificate);
    assert!(ask.accepted().grants.is_empty());
    let other = known(&[format!(
        "dial {DIALLED} {}",
        pin(&native(2, Purpose::Serve))
    )]);
    let ask = Ask::dial(Mode::Tofu, &peer, other).phase(Phase::Certificate);
    assert_eq!(ask.word(), "changed");
}

#[test]
fn when_accepting_the_verifier_callback_decides_nothing() {
    let peer = native(1, Purpose::Dial);
    let revoked = known(&[format!("@revoked both x {}", pin(&peer))]);
    for mode in Mode::ALL {
        let ask = Ask::accept(mode, &peer, revoked.clone()).own(peer.leaf().key);
        let recognition = ask.phase(Phase::Certificate).accepted();
        assert_eq!(recognition.how, How::Provisional);
        assert_eq!(recognition.record, None);
        assert!(recognition.grants.is_empty());
    }
}

#[test]
fn a_live_connection_ends_when_its_entry_is_removed() {
    let ca = Ca::new("corp");
    let peer = native(1, Purpose::Serve);
    let vouched = ca.leaf(&Says::name(&[HOST]));
    let listed = known(&[ca.line("dial", "*", "")]);
    let live = |mode, chain, known| Ask::dial(mode, chain, known).phase(Phase::Established);
    for mode in [
        Mode::Pin,
        Mode::Tofu,
        Mode::CaOrTofu,
        Mode::Record,
        Mode::CaOrRecord,
    ] {
        let pinned = known(&[format!("dial {DIALLED} {}", pin(&peer))]);
        assert_eq!(live(mode, &peer, pinned).word(), "pin", "{mode}");
        assert_eq!(live(mode, &peer, nobody()).word(), "unknown", "{mode}");
    }
    for (mode, word) in [
        (Mode::Ca, "ca"),
        (Mode::CaOrTofu, "ca"),
        (Mode::CaThenPin, "unknown"),
    ] {
        assert_eq!(live(mode, &vouched, listed.clone()).word(), word, "{mode}");
        assert_eq!(live(mode, &vouched, nobody()).word(), "unknown", "{mode}");
    }
    assert_eq!(live(Mode::Insecure, &peer, nobody()).word(), "insecure");
    let dialler = native(1, Purpose::Dial);
    let invitee = Invitee::default();
    for mode in [Mode::Enroll, Mode::Invite, Mode::Tofu] {
        let ask = Ask::accept(mode, &dialler, nobody())
            .phase(Phase::Established)
            .invited(Invited::Proven(&invitee));
        assert_eq!(ask.word(), "unknown", "{mode}");
    }
}

#[test]
fn a_connection_by_id_lives_on_without_an_entry() {
    let peer = native(1, Purpose::Serve);
    let mut ask = Ask::dial(Mode::CaOrTofu, &peer, nobody()).id(peer.peer_id());
    ask.expectation.name = None;
    assert_eq!(ask.clone().phase(Phase::Established).word(), "id");
    let named = Ask::dial(Mode::CaOrTofu, &peer, nobody()).id(peer.peer_id());
    assert_eq!(named.phase(Phase::Established).word(), "unknown");
}

#[test]
fn a_node_that_no_ca_issued_is_unknown_to_cas_whatever_its_dates() {
    // Within the tolerance for clocks the leaf counts as valid; to a CA path it has expired.
    let peer = native(1, Purpose::Serve);
    let late = BEGIN + DAY * 30 + CLOCK_TOLERANCE;
    assert_eq!(
        Ask::dial(Mode::Ca, &peer, nobody()).at(late).word(),
        "unknown"
    );
    let remembered = known(&[format!("@ca-verified dial {DIALLED}")]);
    let ask = Ask::dial(Mode::CaOrTofu, &peer, remembered).at(late);
    assert_eq!(ask.word(), "downgrade");
}

#[test]
fn an_expired_stranger_is_not_queued() {
    let peer = native(1, Purpose::Dial);
    let late = BEGIN + DAY * 30 + CLOCK_TOLERANCE + SECOND;
    assert_eq!(
        Ask::accept(Mode::Enroll, &peer, nobody()).at(late).word(),
        "expired"
    );
}

#[test]
fn explain_tells_the_rules_in_order_and_the_same_verdict() {
    let peer = native(1, Purpose::Serve);
    let ask = Ask::dial(Mode::CaOrTofu, &peer, nobody());
    let explanation = explain(&ask.query());
    assert_eq!(explanation.verdict, ask.verdict());
    let rules: Vec<Rule> = explanation.steps.iter().map(|step| step.rule).collect();
    assert_eq!(
        rules,
        [
            Rule::NotSelf,
            Rule::NotRevoked,
            Rule::Purpose,
            Rule::Pin,
            Rule::Ca,
            Rule::FirstUse
        ]
    );
    assert_eq!(
        explanation.steps[4].outcome,
        Outcome::Failed(Reason::Unknown)
    );
}

#[test]
fn a_native_key_presented_as_a_plain_key_is_somebody_else() {
    let peer = foreign(&Says::name(&[HOST]));
    let PeerId::Key(key) = peer.peer_id() else {
        panic!("foreign");
    };
    let known = known(&[format!("dial {DIALLED} node {key}")]);
    assert_eq!(Ask::dial(Mode::Tofu, &peer, known).word(), "changed");
}
