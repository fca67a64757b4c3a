//! Rotation of listed CAs, what ends when, and who would be cut off.

use comity_identity::{KeyHash, NodeId, UnixTime};
use comity_record::{Freshness, KeyState};
use comity_trust::{
    Affected, Ending, Expiry, How, Mode, Networks, OwnMembership, Reason, Severity, Standing,
    WARN_BEFORE, affected_by_ca_end, affected_by_revocation, expiries,
};

use crate::authorities::Organisation;
use crate::certificates::TODAY;
use crate::world::{Ask, Ca, DAY, DIALLED, HOST, NOW, Says, known, name};

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

#[test]
fn a_listed_ca_counts_in_every_state_and_a_retiring_one_until_its_end() {
    let ca = Ca::new("corp");
    let leaf = ca.leaf(&Says::name(&[HOST]));
    for state in ["", "state=next", "state=active", "state=retiring"] {
        let lines = [ca.line("dial", "*", state)];
        assert_eq!(
            Ask::dial(Mode::Ca, &leaf, known(&lines)).word(),
            "ca",
            "{state}"
        );
    }
    let end = NOW + DAY;
    let lines = [ca.line("dial", "*", &format!("not-after={end} state=retiring"))];
    let ask = Ask::dial(Mode::Ca, &leaf, known(&lines));
    assert_eq!(ask.clone().at(end).word(), "ca");
    assert_eq!(ask.at(end + SECOND).refused().reason, Reason::Expired);
}

#[test]
fn a_ca_is_rotated_by_adding_the_next_activating_it_and_retiring_the_old_one() {
    let (old, new) = (Ca::new("corp 1"), Ca::new("corp 2"));
    let (by_old, by_new) = (
        old.leaf(&Says::name(&[HOST])),
        new.leaf(&Says::name(&[HOST])),
    );
    let end = NOW + DAY;
    let steps = [
        (vec![old.line("dial", "*", "")], (true, false)),
        (
            vec![
                old.line("dial", "*", ""),
                new.line("dial", "*", "state=next"),
            ],
            (true, true),
        ),
        (
            vec![
                old.line("dial", "*", &format!("not-after={end} state=retiring")),
                new.line("dial", "*", "state=active"),
            ],
            (true, true),
        ),
        (
            vec![
                old.line("dial", "*", "").replacen("@ca", "@revoked", 1),
                new.line("dial", "*", "state=active"),
            ],
            (false, true),
        ),
    ];
    for (lines, (first, second)) in steps {
        for (leaf, counts) in [(&by_old, first), (&by_new, second)] {
            let ask = Ask::dial(Mode::Ca, leaf, known(&lines));
            let recognised = ask.verdict().recognition().is_some();
            assert_eq!(recognised, counts, "{lines:?}");
        }
    }
    // The line that recognises is the one of the authority that issued.
    let lines = [
        old.line("dial", "*", ""),
        new.line("dial", "*", "state=next"),
    ];
    let peer = Ask::dial(Mode::Ca, &by_new, known(&lines)).accepted();
    assert!(matches!(peer.how, How::Ca { line: Some(3), .. }));
}

fn severities(found: &[Expiry]) -> Vec<(UnixTime, Severity)> {
    found.iter().map(|e| (e.at, e.severity)).collect()
}

#[test]
fn what_ends_is_listed_by_its_time_and_said_when_it_is_near() {
    let ca = Ca::new("corp");
    let near = NOW + WARN_BEFORE;
    let successor = node(2);
    let known = known(&[
        ca.line("dial", "*", &format!("not-after={}", near + SECOND)),
        format!("both ops node {} not-after={near}", node(1)),
        format!(
            "both db node {} not-after={} successor={successor}",
            node(1),
            NOW + DAY
        ),
        format!("both gone node {} not-after={}", node(3), NOW - SECOND),
        format!("both web node {}", node(4)),
        "@ca-verified dial db.example:1 not-after=2026-03-02T00:00:00Z".to_owned(),
        format!(
            "@revoked both x node {} not-after=2026-03-02T00:00:00Z",
            node(5)
        ),
    ]);
    let found = expiries(&known, &Networks::empty(), &[], NOW);
    assert_eq!(
        severities(&found),
        [
            (NOW - SECOND, Severity::Over),
            (NOW + DAY, Severity::Notice),
            (near, Severity::Warning),
            (near + SECOND, Severity::Notice),
        ]
    );
    let overlap = Ending::Overlap {
        line: 4,
        name: Some(name("db")),
        successor,
    };
    assert_eq!(found[1].what, overlap);
    assert_eq!(
        found[2].what,
        Ending::Entry {
            line: 3,
            name: Some(name("ops"))
        }
    );
    assert!(matches!(&found[3].what, Ending::Ca { line: 2, subject, .. } if subject == "CN=corp"));
    // A revoked CA ends nothing any more, and a retiring one ends as it should.
    let revoked = format!("@revoked both x key {}", ca.anchor.key());
    let lines = [ca.line("dial", "*", ""), revoked];
    assert!(expiries(&crate::world::known(&lines), &Networks::empty(), &[], NOW).is_empty());
    let lines = [ca.line(
        "dial",
        "*",
        &format!("not-after={} state=retiring", NOW + DAY),
    )];
    let retiring = expiries(&crate::world::known(&lines), &Networks::empty(), &[], NOW);
    assert_eq!(retiring[0].severity, Severity::Notice);
}

#[test]
fn bundles_are_warned_of_from_their_half_life() {
    let mut corp = Organisation::new("corp");
    corp.set_state(0, KeyState::Retiring { until: NOW + DAY });
    let networks = Networks::new(vec![corp.authority(Standing::Recognised)]);
    let at = |now| {
        let found = expiries(&crate::world::nobody(), &networks, &[], now);
        let is_bundle = |expiry: &&Expiry| matches!(expiry.what, Ending::Bundle { .. });
        found.iter().find(is_bundle).cloned().expect("a bundle")
    };
    let (issued, life) = (corp.issued, corp.lifetime);
    for (now, severity, freshness) in [
        (
            issued + life / 2 - SECOND,
            Severity::Notice,
            Freshness::Fresh,
        ),
        (issued + life / 2, Severity::Warning, Freshness::PastHalf),
        (issued + life, Severity::Warning, Freshness::PastHalf),
        (issued + life + SECOND, Severity::Over, Freshness::Expired),
    ] {
        let expiry = at(now);
        assert_eq!(expiry.severity, severity, "{now}");
        let (network, label) = (corp.id(), "corp".to_owned());
        assert_eq!(
            expiry.what,
            Ending::Bundle {
                network,
                label,
                freshness
            }
        );
    }
    let found = expiries(&crate::world::nobody(), &networks, &[], NOW);
    let retiring = found.iter().find(|e| {
        matches!(
            e.what,
            Ending::AuthorityKey {
                state: KeyState::Retiring { .. },
                ..
            }
        )
    });
    let retiring = retiring.expect("the issuing key");
    assert_eq!(
        (retiring.at, retiring.severity),
        (NOW + DAY, Severity::Notice)
    );
    assert_eq!(found.len(), 3, "the bundle, the root and the issuing key");
}

#[test]
fn our_own_membership_is_warned_of_when_it_should_have_been_renewed() {
    let network = node(9);
    let own = OwnMembership {
        network,
        not_before: TODAY,
        not_after: TODAY + DAY * 100,
    };
    for (after, severity) in [
        (DAY * 75, Severity::Notice),
        (DAY * 75 + SECOND, Severity::Warning),
        (DAY * 100, Severity::Warning),
        (DAY * 100 + SECOND, Severity::Over),
    ] {
        let found = expiries(
            &crate::world::nobody(),
            &Networks::empty(),
            &[own],
            TODAY + after,
        );
        assert_eq!(severities(&found), [(own.not_after, severity)]);
        let label = network.to_string();
        assert_eq!(found[0].what, Ending::Membership { network, label });
    }
    assert!(Severity::Notice < Severity::Warning && Severity::Warning < Severity::Over);
}

#[test]
fn the_end_of_a_ca_cuts_off_the_names_that_no_other_one_covers() {
    let (old, new) = (Ca::new("corp 1"), Ca::new("corp 2"));
    let memory = ["@ca-verified dial db.example:7117,web.example:443".to_owned()];
    let with = |lines: &[String]| known(&[&memory, lines].concat());
    let alone = with(&[old.line("dial", "*.example", "networks=lab roles=reader")]);
    let affected = affected_by_ca_end(&alone, &old.anchor, NOW);
    assert_eq!(
        affected,
        Affected {
            lines: vec![3],
            dialled: vec![name("db.example:7117"), name("web.example:443")],
            attested: vec!["lab".into(), "reader".into()],
            ..Affected::default()
        }
    );
    let both = with(&[
        old.line("dial", "*.example", "networks=lab roles=reader"),
        new.line("dial", "db.example", "networks=* state=next"),
    ]);
    let affected = affected_by_ca_end(&both, &old.anchor, NOW);
    assert_eq!(affected.dialled, [name("web.example:443")]);
    assert_eq!(affected.attested, ["reader"]);
    let covered = with(&[old.line("dial", "*.example", ""), new.line("dial", "*", "")]);
    let affected = affected_by_ca_end(&covered, &old.anchor, NOW);
    assert_eq!((affected.lines, affected.dialled.len()), (vec![3], 0));
    // A line that is over covers nothing.
    let over = with(&[
        old.line("dial", "*.example", ""),
        new.line("dial", "*", "not-after=2026-02-01T00:00:00Z"),
    ]);
    assert_eq!(affected_by_ca_end(&over, &old.anchor, NOW).dialled.len(), 2);
}

#[test]
fn the_revocation_of_a_key_cuts_off_its_pins_its_cas_and_its_networks() {
    let known = known(&[
        format!("both ops,{DIALLED} node {}", node(1)),
        format!("dial {DIALLED} node {}", node(2)),
        format!("accept ops-old node {}", node(1)),
    ]);
    let none = Networks::empty();
    let affected = affected_by_revocation(&known, &none, node(1).key_hash(), NOW);
    assert_eq!(affected.lines, [2, 4]);
    // The address has another key, and the labels have none.
    assert_eq!(affected.names, [name("ops"), name("ops-old")]);
    let nobody = affected_by_revocation(&known, &none, node(7).key_hash(), NOW);
    assert!(nobody.is_nothing());
    let corp = Organisation::new("corp");
    let networks = Networks::new(vec![corp.authority(Standing::Recognised)]);
    let issuing: KeyHash = corp.issuing[0].hash();
    let affected = affected_by_revocation(&known, &networks, issuing, NOW);
    assert_eq!(
        (affected.networks.as_slice(), affected.is_nothing()),
        ([corp.id()].as_slice(), false)
    );
}
