//! Cross-certificates: who is recognised by them, what they grant, and what takes both away.

use comity_certs::{Metadata, PresentedChain};
use comity_identity::{NodeId, PeerId};
use comity_record::KeyState;
use comity_trust::{
    AllowRule, AllowRuleError, Authority, AuthorityDoubt, Direction, Evidence, How, Membership,
    Mode, Networks, Outcome, Phase, Pin, Reason, Rule, Standing, StepDetail, authorise, explain,
};

use crate::authorities::{CrossOptions, Organisation, serial_of};
use crate::certificates::{DAY, Node, TODAY, TestKey};
use crate::world::{Ask, Ca, DIALLED, HOST, NOW, Says, known, nobody, pin};

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

/// Modes in which a cross-certificate recognises somebody.
const COUNTING: [Mode; 7] = [
    Mode::Enroll,
    Mode::Invite,
    Mode::Tofu,
    Mode::Record,
    Mode::CaOrTofu,
    Mode::CaOrPin,
    Mode::CaOrRecord,
];

fn networks(authorities: Vec<Authority>) -> Networks {
    Networks::new(authorities)
}

fn recognising(organisation: &Organisation) -> Networks {
    networks(vec![organisation.authority(Standing::Recognised)])
}

fn chain(certificates: &[Vec<u8>]) -> PresentedChain {
    PresentedChain::parse(certificates).expect("chain")
}

/// A node, and the certificate that an organisation gave it.
struct Member {
    node: Node,
    cross: Vec<u8>,
    issuing: Vec<u8>,
}

impl Member {
    fn of(organisation: &Organisation, roles: &[&str]) -> Self {
        Self::with(organisation, &CrossOptions::roles(roles))
    }

    fn with(organisation: &Organisation, options: &CrossOptions) -> Self {
        let node = Node::new();
        let cross = organisation.certify(&node.root, options);
        Self {
            node,
            cross,
            issuing: organisation.issuing[0].der.clone(),
        }
    }

    fn dialling(&self) -> PresentedChain {
        chain(
            &self
                .node
                .dial
                .with_memberships(&[&self.cross, &self.issuing]),
        )
    }

    fn serving(&self) -> PresentedChain {
        chain(
            &self
                .node
                .serve
                .with_memberships(&[&self.cross, &self.issuing]),
        )
    }
}

/// A leaf of `other` with a cross-certificate by `ours`.
fn cross_certified(ours: &Organisation, other: &Organisation) -> Vec<Vec<u8>> {
    let cross = ours.certify(&other.root.der, &CrossOptions::roles(&["partner"]));
    other
        .leaf()
        .with_memberships(&[&cross, &ours.issuing[0].der])
}

fn accept<'a>(chain: &'a PresentedChain, networks: &Networks) -> Ask<'a> {
    Ask::accept(Mode::Enroll, chain, nobody()).networks(networks)
}

fn network_rule(text: &str, networks: &Networks) -> AllowRule {
    AllowRule::parse(text, &nobody(), networks).expect("a rule")
}

#[test]
fn a_member_is_recognised_and_gets_its_roles_under_the_label_and_the_id() {
    let corp = Organisation::new("corp");
    let member = Member::of(&corp, &["reader", "writer"]);
    let networks = recognising(&corp);
    let presented = member.dialling();
    let peer = accept(&presented, &networks).accepted();
    assert_eq!(peer.how, How::CrossCertificate { network: corp.id() });
    assert_eq!(peer.peer, PeerId::Node(member.node.id()));
    assert_eq!(peer.record, None, "membership never writes a pin");
    let id = corp.id().to_string();
    for rule in [
        "corp",
        "corp/reader",
        "network:corp/writer",
        &id,
        &format!("{id}/reader"),
    ] {
        let rule = network_rule(rule, &networks);
        assert_eq!(authorise("pg", &rule, &peer), Ok(()), "{rule}");
    }
    let other_role = network_rule("corp/admin", &networks);
    assert_eq!(authorise("pg", &other_role, &peer), Err(Reason::WrongRole));
    let elsewhere = network_rule("network:else", &networks);
    assert_eq!(
        authorise("pg", &elsewhere, &peer),
        Err(Reason::WrongNetwork)
    );
    assert_eq!(
        authorise("pg", &AllowRule::Granted, &peer),
        Err(Reason::NotAuthorised)
    );
    let [membership]: &[Membership; 1] = peer.memberships.as_slice().try_into().expect("one");
    assert_eq!(membership.label, "corp");
    assert_eq!(membership.cross.serial, serial_of(&member.cross));
    assert_eq!(membership.cross.issuer_key, corp.issuing[0].hash());
    assert_eq!(peer.ends, membership.not_after);
}

#[test]
fn cross_certificates_recognise_in_the_modes_that_say_so() {
    let corp = Organisation::new("corp");
    let member = Member::of(&corp, &[]);
    let networks = recognising(&corp);
    for direction in [Direction::Dial, Direction::Accept] {
        for mode in Mode::ALL
            .into_iter()
            .filter(|mode| mode.valid_for(direction))
        {
            let (serving, dialling) = (member.serving(), member.dialling());
            let ask = match direction {
                Direction::Dial => Ask::dial(mode, &serving, nobody()),
                Direction::Accept => Ask::accept(mode, &dialling, nobody()),
            };
            let recognised = ask.networks(&networks).word() == "cross-certificate";
            assert_eq!(recognised, COUNTING.contains(&mode), "{direction} {mode}");
        }
    }
}

#[test]
fn whatever_recognised_a_peer_its_networks_are_granted() {
    let corp = Organisation::new("corp");
    let member = Member::of(&corp, &["reader"]);
    let networks = recognising(&corp);
    let presented = member.dialling();
    let pinned = known(&[format!("both ops {}", pin(&presented))]);
    for mode in [Mode::Pin, Mode::CaOrPin, Mode::Enroll, Mode::CaThenPin] {
        let peer = Ask::accept(mode, &presented, pinned.clone())
            .networks(&networks)
            .accepted();
        assert_eq!(peer.how.token(), "pin", "{mode}");
        assert!(peer.grants.membership("corp", Some("reader")), "{mode}");
    }
    // First use and `insecure` still grant nothing.
    let met = Ask::accept(Mode::Insecure, &presented, nobody()).networks(&networks);
    assert!(met.accepted().grants.is_empty());
}

#[test]
fn a_peer_in_two_networks_has_both_and_no_role_crosses_over() {
    let (a, b) = (Organisation::new("alpha"), Organisation::new("beta"));
    let node = Node::new();
    let cross_a = a.certify(&node.root, &CrossOptions::roles(&["admin"]));
    let cross_b = b.certify(&node.root, &CrossOptions::roles(&["reader"]));
    let presented = chain(&node.dial.with_memberships(&[
        &cross_a,
        &cross_b,
        &a.issuing[0].der,
        &b.issuing[0].der,
    ]));
    let both = networks(vec![
        a.authority(Standing::Recognised),
        b.authority(Standing::Recognised),
    ]);
    let peer = accept(&presented, &both).accepted();
    let grants = &peer.grants;
    assert!(grants.membership("alpha", Some("admin")));
    assert!(grants.membership("beta", Some("reader")));
    assert!(!grants.membership("beta", Some("admin")));
    assert!(!grants.membership("alpha", Some("reader")));
    // Known to one of them only.
    let peer = accept(&presented, &recognising(&b)).accepted();
    assert!(peer.grants.networks.contains("beta") && !peer.grants.networks.contains("alpha"));
    assert!(!peer.grants.roles.contains("admin"));
}

#[test]
fn two_networks_of_one_name_stay_apart_by_id() {
    let (ours, theirs) = (Organisation::new("corp"), Organisation::new("corp"));
    let member = Member::of(&theirs, &["admin"]);
    let presented = member.dialling();
    // Only ours is known: theirs is a stranger's.
    assert_eq!(accept(&presented, &recognising(&ours)).word(), "pending");
    // Both are known, and theirs is called differently here.
    let renamed = Authority {
        label: "corp-2".to_owned(),
        ..theirs.authority(Standing::Recognised)
    };
    let both = networks(vec![ours.authority(Standing::Recognised), renamed]);
    let peer = accept(&presented, &both).accepted();
    assert!(!peer.grants.membership("corp", None));
    assert!(peer.grants.membership("corp-2", Some("admin")));
    let rule = network_rule(&format!("{}/admin", ours.id()), &both);
    assert_eq!(authorise("pg", &rule, &peer), Err(Reason::WrongNetwork));
    // Both by one label: a label that means two networks means none, and ids go on.
    let same = networks(vec![
        ours.authority(Standing::Recognised),
        theirs.authority(Standing::Recognised),
    ]);
    let peer = accept(&presented, &same).accepted();
    assert!(!peer.grants.membership("corp", None));
    assert!(
        peer.grants
            .membership(&theirs.id().to_string(), Some("admin"))
    );
    assert!(same.by_label("corp").is_none());
}

#[test]
fn a_rule_goes_on_meaning_the_network_that_its_word_meant_when_it_was_read() {
    let (ours, theirs) = (Organisation::new("staff"), Organisation::new("staff"));
    let (member, hostile) = (
        Member::of(&ours, &["admin"]),
        Member::of(&theirs, &["admin"]),
    );
    let rules = ["staff/admin", "network:staff/admin", "staff"]
        .map(|text| network_rule(text, &recognising(&ours)));
    // Ours is renamed, and the other one takes its word.
    let renamed = Authority {
        label: "people".to_owned(),
        ..ours.authority(Standing::Recognised)
    };
    let later = networks(vec![renamed, theirs.authority(Standing::Recognised)]);
    let (good, bad) = (member.dialling(), hostile.dialling());
    let (good, bad) = (
        accept(&good, &later).accepted(),
        accept(&bad, &later).accepted(),
    );
    assert!(bad.grants.membership("staff", Some("admin")));
    for rule in &rules {
        assert_eq!(authorise("ssh", rule, &good), Ok(()), "{rule}");
        assert_eq!(
            authorise("ssh", rule, &bad),
            Err(Reason::WrongNetwork),
            "{rule}"
        );
    }
}

#[test]
fn a_followed_authority_recognises_nobody_and_grants_nothing() {
    let corp = Organisation::new("corp");
    let member = Member::of(&corp, &["admin"]);
    let followed = networks(vec![corp.authority(Standing::Followed)]);
    let presented = member.dialling();
    assert_eq!(accept(&presented, &followed).word(), "pending");
    let pinned = known(&[format!("both ops {}", pin(&presented))]);
    let peer = Ask::accept(Mode::Enroll, &presented, pinned).networks(&followed);
    assert!(peer.accepted().grants.networks.is_empty());
}

#[test]
fn an_issuer_that_is_in_no_charter_recognises_nobody() {
    let corp = Organisation::new("corp");
    let key = TestKey::generate(comity_identity::Algorithm::EcdsaP256);
    let der = corp.issuing_certificate(&key, &Metadata::default());
    let stray = crate::authorities::Held { key, der };
    let node = Node::new();
    let cross = Organisation::certify_by(&stray, &node.root, &CrossOptions::default());
    let presented = chain(&node.dial.with_memberships(&[&cross, &stray.der]));
    let refusal = Ask::accept(Mode::CaOrPin, &presented, nobody())
        .networks(&recognising(&corp))
        .refused();
    assert_eq!(refusal.reason, Reason::Unknown);
    let doubt = AuthorityDoubt::KeyUnknown { key: stray.hash() };
    assert_eq!(refusal.evidence, doubted(&corp, doubt));
}

fn doubted(organisation: &Organisation, doubt: AuthorityDoubt) -> Evidence {
    Evidence::Authority {
        network: organisation.id(),
        label: organisation.name.clone(),
        doubt,
    }
}

#[test]
fn a_retiring_issuer_counts_until_its_end_and_not_one_second_longer() {
    let mut corp = Organisation::new("corp");
    let member = Member::of(&corp, &[]);
    let until = NOW + DAY;
    corp.set_state(0, KeyState::Retiring { until });
    let networks = recognising(&corp);
    let presented = member.dialling();
    let ask = accept(&presented, &networks);
    assert_eq!(ask.clone().at(until).word(), "cross-certificate");
    let refusal = ask.at(until + SECOND).refused();
    assert_eq!(refusal.reason, Reason::Expired);
    let key = corp.issuing[0].hash();
    let doubt = AuthorityDoubt::KeyRetired { key, until };
    assert_eq!(refusal.evidence, doubted(&corp, doubt));
}

#[test]
fn whoever_connects_by_a_retiring_key_does_not_stay_connected_after_its_end() {
    let mut corp = Organisation::new("corp");
    let member = Member::of(&corp, &["reader"]);
    let until = NOW + DAY;
    corp.set_state(0, KeyState::Retiring { until });
    let networks = recognising(&corp);
    let presented = member.dialling();
    let pinned = known(&[format!("both ops {}", pin(&presented))]);
    // Recognised by the cross-certificate, or by a pin beside which it grants.
    for known in [nobody(), pinned] {
        let ask = Ask::accept(Mode::Enroll, &presented, known).networks(&networks);
        for phase in [Phase::Gate, Phase::Established] {
            let peer = ask.clone().phase(phase).accepted();
            assert_eq!(peer.ends, until, "{phase:?} {}", peer.how.token());
            assert_eq!(peer.memberships[0].not_after, until);
        }
    }
}

#[test]
fn a_partner_below_a_root_that_retires_does_not_stay_connected_after_its_end() {
    let (ours, partner) = (Organisation::new("ours"), Organisation::new("partner"));
    let presented = chain(&cross_certified(&ours, &partner));
    let until = NOW + DAY;
    // The key is listed by whoever runs it now.
    let mut theirs = Organisation::new("theirs");
    theirs.claim(&partner.root.key);
    theirs.set_state(1, KeyState::Retiring { until });
    let networks = networks(vec![
        ours.authority(Standing::Recognised),
        theirs.authority(Standing::Followed),
    ]);
    let ask = accept(&presented, &networks);
    assert_eq!(ask.accepted().ends, until);
    let refusal = ask.at(until + SECOND).refused();
    assert_eq!(refusal.reason, Reason::Expired);
}

#[test]
fn an_entry_that_grants_ends_the_connection_that_another_one_recognised() {
    let node = Node::new();
    let presented = chain(&node.dial.chain);
    let end = NOW + DAY;
    let lines = [
        format!("both ops {}", pin(&presented)),
        format!("accept guest {} for=pg not-after={end}", pin(&presented)),
    ];
    let ask = Ask::accept(Mode::Enroll, &presented, known(&lines));
    let peer = ask.accepted();
    assert!(peer.grants.service("pg"));
    assert_eq!((peer.how, peer.ends), (How::Pin { line: 2 }, end));
    let later = ask.at(end + SECOND).accepted();
    assert!(later.grants.is_empty() && later.ends > end);
}

#[test]
fn a_revoked_issuer_takes_its_members_along_and_the_next_one_recognises_new_ones() {
    let mut corp = Organisation::new("corp");
    let before = Member::of(&corp, &["reader"]);
    let next = corp.add_issuing(&Metadata::default());
    corp.set_state(0, KeyState::Revoked);
    let networks = recognising(&corp);
    let presented = before.dialling();
    for phase in [Phase::Gate, Phase::Established] {
        let refusal = accept(&presented, &networks).phase(phase).refused();
        assert_eq!(refusal.reason, Reason::Revoked);
        let key = corp.issuing[0].hash();
        let doubt = AuthorityDoubt::KeyRevoked { key };
        assert_eq!(refusal.evidence, doubted(&corp, doubt));
    }
    let issuer = &corp.issuing[next];
    let cross = Organisation::certify_by(issuer, &before.node.root, &CrossOptions::default());
    let again = chain(&before.node.dial.with_memberships(&[&cross, &issuer.der]));
    assert_eq!(accept(&again, &networks).word(), "cross-certificate");
}

#[test]
fn an_issuer_that_is_next_counts_before_it_is_active() {
    let mut corp = Organisation::new("corp");
    let place = corp.add_issuing_as(&Metadata::default(), KeyState::Next);
    let (issuer, node) = (&corp.issuing[place], Node::new());
    let cross = Organisation::certify_by(issuer, &node.root, &CrossOptions::default());
    let presented = chain(&node.dial.with_memberships(&[&cross, &issuer.der]));
    let networks = recognising(&corp);
    assert_eq!(accept(&presented, &networks).word(), "cross-certificate");
}

/// Withdrawing by serial number or by key ends a membership at once, in every phase.
#[test]
fn what_was_withdrawn_recognises_nobody_and_is_no_stranger_either() {
    type Withdraw = fn(&mut Organisation, &Member);
    let ways: [(&str, Withdraw); 2] = [
        ("serial", |corp, member| {
            corp.withdraw(corp.issuing[0].hash(), &member.cross);
        }),
        ("key", |corp, member| {
            corp.withdraw_key(member.node.id().key_hash());
        }),
    ];
    for (way, withdraw) in ways {
        let mut corp = Organisation::new("corp");
        let member = Member::of(&corp, &["reader"]);
        withdraw(&mut corp, &member);
        let networks = recognising(&corp);
        let (presented, serving) = (member.dialling(), member.serving());
        for phase in [Phase::Gate, Phase::Established] {
            let refusal = accept(&presented, &networks).phase(phase).refused();
            assert_eq!(refusal.reason, Reason::Revoked, "{way}");
            assert!(
                matches!(&refusal.evidence, Evidence::Withdrawn { network, label, .. }
                    if *network == corp.id() && label == "corp"),
                "{way}: {refusal:?}"
            );
        }
        for mode in [Mode::Tofu, Mode::CaOrTofu] {
            let ask = Ask::dial(mode, &serving, nobody()).networks(&networks);
            assert_eq!(ask.clone().word(), "revoked", "{way} {mode}");
            assert_eq!(
                ask.phase(Phase::Certificate).word(),
                "revoked",
                "{way} {mode}"
            );
        }
        // A pin is ours: it goes on, without the network.
        let pinned = known(&[format!("both ops {} networks=corp", pin(&presented))]);
        let peer = Ask::accept(Mode::Enroll, &presented, pinned).networks(&networks);
        let peer = peer.accepted();
        assert_eq!(peer.how.token(), "pin");
        assert_eq!(
            authorise("pg", &network_rule("corp", &networks), &peer),
            Err(Reason::WrongNetwork),
            "{way}: local words are no membership"
        );
    }
}

#[test]
fn withdrawals_of_earlier_bundles_go_on() {
    let mut corp = Organisation::new("corp");
    let member = Member::of(&corp, &[]);
    let published = corp.authority(Standing::Recognised);
    corp.withdraw(corp.issuing[0].hash(), &member.cross);
    let remembered = Authority {
        withdrawn: corp.authority(Standing::Recognised).withdrawn,
        ..published
    };
    let presented = member.dialling();
    assert_eq!(
        accept(&presented, &networks(vec![remembered])).word(),
        "revoked"
    );
}

#[test]
fn nobody_withdraws_what_another_authority_issued() {
    let corp = Organisation::new("corp");
    let member = Member::of(&corp, &["reader"]);
    let mut rival = Organisation::new("rival");
    rival.withdraw(corp.issuing[0].hash(), &member.cross);
    rival.withdraw_key(member.node.id().key_hash());
    rival.withdraw_key(corp.issuing[0].hash());
    let presented = member.dialling();
    for standing in [Standing::Recognised, Standing::Followed] {
        let both = networks(vec![
            rival.authority(standing),
            corp.authority(Standing::Recognised),
        ]);
        let peer = accept(&presented, &both).accepted();
        assert!(peer.grants.membership("corp", Some("reader")));
    }
    // Not even by listing that authority's key as its own.
    rival.claim(&corp.issuing[0].key);
    for order in [true, false] {
        let mut both = vec![
            rival.authority(Standing::Recognised),
            corp.authority(Standing::Recognised),
        ];
        if order {
            both.reverse();
        }
        let peer = accept(&presented, &networks(both)).accepted();
        assert!(peer.grants.membership("corp", Some("reader")));
        assert!(!peer.grants.membership("rival", None));
    }
}

#[test]
fn an_authority_that_lists_anothers_key_widens_nothing() {
    let scope = Metadata::new(vec![], vec!["reader".into()], vec![]).expect("metadata");
    let corp = Organisation::with_scope("corp", &scope);
    let mut rival = Organisation::new("rival");
    rival.claim(&corp.issuing[0].key);
    // With the rival's certificate for it, the key may say anything, in the rival's network.
    let node = Node::new();
    let wide = &rival.issuing[1];
    let cross = Organisation::certify_by(wide, &node.root, &CrossOptions::roles(&["admin"]));
    let presented = chain(&node.dial.with_memberships(&[&cross, &wide.der]));
    let both = networks(vec![
        rival.authority(Standing::Recognised),
        corp.authority(Standing::Recognised),
    ]);
    let peer = accept(&presented, &both).accepted();
    assert!(peer.grants.membership("rival", Some("admin")));
    assert!(!peer.grants.membership("corp", None), "{:?}", peer.grants);
}

#[test]
fn an_issuer_attests_what_its_scope_names() {
    let scope = Metadata::new(vec![], vec!["reader".into()], vec![]).expect("metadata");
    let corp = Organisation::with_scope("corp", &scope);
    let member = Member::of(&corp, &["reader"]);
    let peer = accept(&member.dialling(), &recognising(&corp)).accepted();
    assert!(peer.grants.membership("corp", Some("reader")));
}

#[test]
fn an_issuing_key_that_was_limited_says_nothing_by_its_older_certificate() {
    let limits: [fn(&mut comity_certs::IssuingRequest<'_>); 2] = [
        |request| request.path_length = 0,
        |request| request.not_after = NOW - SECOND,
    ];
    let reader = Metadata::new(vec![], vec!["reader".into()], vec![]).expect("metadata");
    let network = Metadata::new(vec!["other".into()], vec![], vec![]).expect("metadata");
    for (scope, limit) in [
        (&reader, None),
        (&network, None),
        (&Metadata::default(), Some(limits[0])),
        (&Metadata::default(), Some(limits[1])),
    ] {
        let mut corp = Organisation::new("corp");
        let options = CrossOptions {
            networks: vec!["corp".into()],
            ..CrossOptions::roles(&["admin"])
        };
        let member = Member::with(&corp, &options);
        let presented = member.dialling();
        let word = accept(&presented, &recognising(&corp)).word();
        assert_eq!(word, "cross-certificate");
        // The same key, certified anew; the member shows the certificate from before.
        let key = &corp.issuing[0].key;
        let mut request = comity_certs::IssuingRequest {
            spki: comity_identity::Signer::spki(key),
            serial: [0x44; 16],
            not_before: TODAY - DAY,
            not_after: TODAY + 365 * DAY,
            path_length: 1,
            scope,
            dns: &[],
        };
        if let Some(limit) = limit {
            limit(&mut request);
        }
        let narrow = comity_certs::mint_issuing(&corp.root.der, &corp.root.key, &request);
        let is_over = request.not_after < NOW;
        corp.issuing[0].der = narrow.expect("a sound request");
        corp.set_state(0, KeyState::Active);
        let refusal = accept(&presented, &recognising(&corp)).refused();
        let expected = match is_over {
            true => Reason::Expired,
            false => Reason::OutOfScope,
        };
        assert_eq!(refusal.reason, expected);
    }
}

#[test]
fn authorities_that_share_one_key_keep_no_other_from_being_asked() {
    // Two honest ones share a key; eight hostile ones share another, and come first by their ids.
    let mut all: Vec<Organisation> = (0..10)
        .map(|number| Organisation::new(&format!("n{number}")))
        .collect();
    all.sort_by_key(Organisation::id);
    let share = |group: &mut [Organisation]| {
        let (first, others) = group.split_first_mut().expect("some");
        others
            .iter_mut()
            .for_each(|other| other.claim(&first.issuing[0].key));
    };
    share(&mut all[..8]);
    share(&mut all[8..]);
    let node = Node::new();
    let (hostile, honest) = (&all[0], &all[8]);
    let crosses =
        [hostile, honest].map(|o| o.certify(&node.root, &CrossOptions::roles(&["reader"])));
    let presented = chain(&node.dial.with_memberships(&[
        &crosses[0],
        &crosses[1],
        &hostile.issuing[0].der,
        &honest.issuing[0].der,
    ]));
    let registered = all.iter().map(|o| o.authority(Standing::Recognised));
    let peer = accept(&presented, &networks(registered.collect())).accepted();
    assert!(peer.grants.membership(&honest.name, Some("reader")));
}

#[test]
fn an_expired_bundle_recognises_no_newcomer_but_keeps_who_is_there() {
    let corp = Organisation::new("corp");
    let member = Member::of(&corp, &["reader"]);
    let networks = recognising(&corp);
    let presented = member.dialling();
    let expires = corp.bundle().expires();
    // The leaf lives longer than the bundle: it began a day later.
    let ask = accept(&presented, &networks);
    assert_eq!(ask.clone().at(expires).word(), "cross-certificate");
    let over = ask.at(expires + SECOND);
    let refusal = over.refused();
    assert_eq!(refusal.reason, Reason::Expired);
    let doubt = AuthorityDoubt::BundleExpired { expires };
    assert_eq!(refusal.evidence, doubted(&corp, doubt));
    let peer = over.clone().phase(Phase::Established).accepted();
    assert!(peer.grants.membership("corp", Some("reader")));
    // Pinned: recognised, and in no network until the bundle is refreshed.
    let pinned = known(&[format!("both ops {}", pin(&presented))]);
    let at_gate = Ask::accept(Mode::Enroll, &presented, pinned)
        .networks(&networks)
        .at(expires + SECOND);
    assert!(at_gate.accepted().grants.networks.is_empty());
    let live = at_gate.phase(Phase::Established).accepted();
    assert!(live.grants.membership("corp", Some("reader")));
    // First use is for strangers.
    let serving = member.serving();
    let ask = Ask::dial(Mode::CaOrTofu, &serving, nobody())
        .networks(&networks)
        .at(expires + SECOND);
    assert_eq!(ask.word(), "expired");
    let recorded = Ask {
        mode: Mode::CaOrRecord,
        ..ask
    }
    .accepted();
    assert_eq!((recorded.how, recorded.record), (How::Recorded, None));
}

#[test]
fn a_bundle_from_the_future_recognises_no_newcomer() {
    let mut corp = Organisation::new("corp");
    let member = Member::of(&corp, &[]);
    corp.issued = NOW + 3 * DAY;
    let refusal = accept(&member.dialling(), &recognising(&corp)).refused();
    assert_eq!(refusal.reason, Reason::NotYetValid);
    let issued = corp.issued;
    let doubt = AuthorityDoubt::BundleNotYetValid { issued };
    assert_eq!(refusal.evidence, doubted(&corp, doubt));
}

#[test]
fn a_forked_authority_recognises_no_newcomer_until_a_person_decides() {
    let corp = Organisation::new("corp");
    let member = Member::of(&corp, &["reader"]);
    let forked = networks(vec![Authority {
        forked: Some(TODAY),
        ..corp.authority(Standing::Recognised)
    }]);
    let presented = member.dialling();
    let ask = accept(&presented, &forked);
    let refusal = ask.refused();
    assert_eq!(refusal.reason, Reason::Forked);
    let doubt = AuthorityDoubt::Forked { since: TODAY };
    assert_eq!(refusal.evidence, doubted(&corp, doubt));
    let live = ask.phase(Phase::Established).accepted();
    assert!(live.grants.membership("corp", Some("reader")));
}

#[test]
fn another_networks_doubts_do_not_hurt_a_member_of_two() {
    let (a, b) = (Organisation::new("alpha"), Organisation::new("beta"));
    let node = Node::new();
    let crosses = [&a, &b].map(|org| org.certify(&node.root, &CrossOptions::roles(&["r"])));
    let presented = chain(&node.dial.with_memberships(&[
        &crosses[0],
        &crosses[1],
        &a.issuing[0].der,
        &b.issuing[0].der,
    ]));
    let forked = Authority {
        forked: Some(TODAY),
        ..a.authority(Standing::Recognised)
    };
    let both = networks(vec![forked, b.authority(Standing::Recognised)]);
    let peer = accept(&presented, &both).accepted();
    assert_eq!(peer.how, How::CrossCertificate { network: b.id() });
    assert!(!peer.grants.networks.contains("alpha"));
    // Withdrawn from one of them.
    let mut a = a;
    a.withdraw(a.issuing[0].hash(), &crosses[0]);
    let both = networks(vec![
        a.authority(Standing::Recognised),
        b.authority(Standing::Recognised),
    ]);
    let peer = accept(&presented, &both).accepted();
    assert!(!peer.grants.networks.contains("alpha"));
}

#[test]
fn a_key_of_an_authority_that_is_revoked_here_recognises_nobody() {
    let corp = Organisation::new("corp");
    let member = Member::of(&corp, &[]);
    let node = &member.node;
    // The issuing certificate is left out, so that its key is on the path only.
    let presented = chain(&node.dial.with_memberships(&[&member.cross]));
    let networks = recognising(&corp);
    assert_eq!(accept(&presented, &networks).word(), "cross-certificate");
    let revoked = known(&[format!("@revoked both x key {}", corp.issuing[0].hash())]);
    let refusal = Ask::accept(Mode::Enroll, &presented, revoked)
        .networks(&networks)
        .refused();
    assert_eq!(refusal.evidence, Evidence::Revoked { line: 2 });
}

#[test]
fn a_network_with_an_authority_is_granted_by_nothing_else() {
    let corp = Organisation::new("corp");
    let networks = recognising(&corp);
    let stranger = Node::new();
    let presented = chain(&stranger.dial.chain);
    let id = corp.id();
    let pinned = known(&[format!(
        "both ops {} networks=corp,other,{id},{} roles=admin",
        pin(&presented),
        id.to_hex()
    )]);
    let peer = Ask::accept(Mode::Enroll, &presented, pinned)
        .networks(&networks)
        .accepted();
    assert!(peer.grants.membership("other", Some("admin")));
    let granted: Vec<_> = peer.grants.networks.iter().collect();
    assert_eq!(granted, ["other"]);
    for rule in [
        "corp",
        "corp/admin",
        &id.to_string(),
        &format!("{}/admin", id.to_hex()),
    ] {
        let rule = network_rule(rule, &networks);
        let refused = authorise("pg", &rule, &peer);
        assert_eq!(refused, Err(Reason::WrongNetwork), "{rule}");
    }
    // Nor by a listed CA that may attest everything.
    let ca = Ca::new("ca");
    let says = Says {
        networks: &["corp", "other"],
        roles: &["admin"],
        ..Says::name(&[HOST])
    };
    let leaf = ca.leaf(&says);
    let listed = known(&[ca.line("accept", "*.example,db.example", "networks=* roles=*")]);
    let peer = Ask::accept(Mode::Enroll, &leaf, listed)
        .networks(&networks)
        .accepted();
    assert_eq!(peer.how.token(), "ca");
    assert!(peer.grants.membership("other", Some("admin")));
    assert!(!peer.grants.membership("corp", None));
}

#[test]
fn a_rule_names_a_network_by_label_or_id_and_guesses_nothing() {
    let corp = Organisation::new("corp");
    let networks = recognising(&corp);
    let parse = |text: &str, lines: &[String]| AllowRule::parse(text, &known(lines), &networks);
    let id = corp.id();
    let expected = |role: Option<&str>| AllowRule::Network {
        network: id.to_string(),
        role: role.map(str::to_owned),
    };
    assert_eq!(parse(&id.to_string(), &[]), Ok(expected(None)));
    assert_eq!(parse(&id.to_hex(), &[]), Ok(expected(None)));
    let with_role = format!("{}/reader", id.to_hex());
    assert_eq!(parse(&with_role, &[]), Ok(expected(Some("reader"))));
    let stranger = NodeId::from_bytes([9; 32]);
    let as_peer = AllowRule::Id(PeerId::Node(stranger));
    assert_eq!(parse(&stranger.to_string(), &[]), Ok(as_peer));
    assert!(matches!(parse("corp", &[]), Ok(AllowRule::Network { .. })));
    let taken = [format!("both corp node {stranger}")];
    assert!(matches!(
        parse("corp", &taken),
        Err(AllowRuleError::Ambiguous(_))
    ));
    assert!(matches!(
        parse("label:corp", &taken),
        Ok(AllowRule::Label(_))
    ));
    for rule in [parse("network:corp/a", &[]), parse(&with_role, &[])] {
        let rule = rule.expect("a rule");
        assert_eq!(parse(&rule.to_string(), &[]).as_ref(), Ok(&rule));
    }
}

#[test]
fn whoever_takes_a_name_that_nobody_permitted_it_is_no_stranger_either() {
    let (corp, partner) = (Organisation::new("corp"), Organisation::new("partner"));
    let cross = corp.certify(&partner.root.der, &CrossOptions::roles(&["partner"]));
    let forged = partner.leaf_in_the_name_of("corp");
    let presented = chain(&forged.with_memberships(&[&cross, &corp.issuing[0].der]));
    let networks = recognising(&corp);
    for mode in [Mode::Enroll, Mode::Invite] {
        let refusal = Ask::accept(mode, &presented, nobody())
            .networks(&networks)
            .refused();
        assert_eq!(refusal.reason, Reason::Constraint, "{mode}");
    }
    let refusal = Ask::dial(Mode::Tofu, &presented, nobody())
        .networks(&networks)
        .refused();
    assert_eq!(refusal.reason, Reason::Constraint);
    // For whoever does not know the authority, it is a key like any other.
    let refusal = accept(&presented, &Networks::empty()).refused();
    assert_eq!(refusal.reason, Reason::Pending);
}

#[test]
fn names_in_a_members_leaf_grant_nothing() {
    let (corp, partner) = (Organisation::new("corp"), Organisation::new("partner"));
    let victim = Node::new();
    let cross = corp.certify(&partner.root.der, &CrossOptions::default());
    let uri = format!("spiffe://corp/node/{}", victim.id().to_hex());
    let leaf = partner.leaf_naming(&[HOST], &[&uri]);
    let presented = chain(&leaf.with_memberships(&[&cross, &corp.issuing[0].der]));
    let pinned = known(&[format!("both victim node {} for=*", victim.id())]);
    let peer = Ask::accept(Mode::Enroll, &presented, pinned)
        .networks(&recognising(&corp))
        .accepted();
    assert_eq!(peer.peer, PeerId::Node(partner.id()));
    assert!(peer.labels.is_empty() && peer.grants.services.is_empty());
    assert!(peer.grants.roles.is_empty());
}

#[test]
fn a_cross_certificate_for_another_node_grants_nothing() {
    let corp = Organisation::new("corp");
    let member = Member::of(&corp, &["admin"]);
    let other = Node::new();
    let presented = chain(
        &other
            .dial
            .with_memberships(&[&member.cross, &member.issuing]),
    );
    let networks = recognising(&corp);
    assert_eq!(accept(&presented, &networks).word(), "pending");
    let pinned = known(&[format!("both ops {}", pin(&presented))]);
    let peer = Ask::accept(Mode::Enroll, &presented, pinned)
        .networks(&networks)
        .accepted();
    assert_eq!(peer.how.token(), "pin");
    assert!(peer.grants.is_empty() && peer.memberships.is_empty());
}

#[test]
fn an_organisation_is_known_by_its_root_behind_any_leaf() {
    let (corp, partner) = (Organisation::new("corp"), Organisation::new("partner"));
    let networks = recognising(&corp);
    let root = PeerId::Node(partner.id());
    for _ in 0..2 {
        let presented = chain(&cross_certified(&corp, &partner));
        let peer = accept(&presented, &networks).accepted();
        assert_eq!((peer.peer, peer.how.token()), (root, "cross-certificate"));
        assert!(peer.grants.membership("corp", Some("partner")));
        // Dialled by its id, and by a name that is pinned to it.
        let by_id = Ask::dial(Mode::CaOrTofu, &presented, nobody()).networks(&networks);
        assert_eq!(by_id.id(root).word(), "id");
        let pinned = known(&[format!("both {DIALLED} {} for=pg", Pin::from(root))]);
        let by_name = Ask::dial(Mode::CaOrTofu, &presented, pinned.clone()).networks(&networks);
        assert_eq!(by_name.accepted().how, How::Pin { line: 2 });
        let accepted = Ask::accept(Mode::Enroll, &presented, pinned).networks(&networks);
        assert!(accepted.accepted().grants.service("pg"));
    }
    // Where cross-certificates do not count, nothing proves the root.
    let presented = chain(&cross_certified(&corp, &partner));
    let pinned = known(&[format!("both {DIALLED} {}", Pin::from(root))]);
    for mode in [Mode::Pin, Mode::Ca, Mode::CaAndPin, Mode::CaThenPin] {
        let ask = Ask::dial(mode, &presented, pinned.clone()).networks(&networks);
        assert_eq!(ask.clone().word(), "changed", "{mode}");
        assert_eq!(ask.id(root).word(), "changed", "{mode}");
    }
    // Nor where the authority is not ours.
    let ask = Ask::dial(Mode::CaOrTofu, &presented, pinned);
    assert_eq!(ask.word(), "changed");
}

#[test]
fn a_pinned_organisation_goes_on_when_the_bundle_is_over() {
    let (corp, partner) = (Organisation::new("corp"), Organisation::new("partner"));
    let presented = chain(&cross_certified(&corp, &partner));
    let over = corp.bundle().expires() + SECOND;
    let pinned = known(&[format!("both partner node {}", partner.id())]);
    let ask = Ask::accept(Mode::Enroll, &presented, pinned)
        .networks(&recognising(&corp))
        .at(over);
    let peer = ask.accepted();
    assert_eq!((peer.how.token(), peer.grants.networks.len()), ("pin", 0));
    assert!(peer.ends <= presented.leaf().not_after);
}

#[test]
fn an_organisation_that_we_follow_withdraws_its_leaf() {
    let corp = Organisation::new("corp");
    let mut partner = Organisation::new("partner");
    let certificates = cross_certified(&corp, &partner);
    let presented = chain(&certificates);
    let root = partner.root.hash();
    type Withdraw<'a> = &'a dyn Fn(&mut Organisation);
    let by_serial = |partner: &mut Organisation| partner.withdraw(root, &certificates[0]);
    let by_key = |partner: &mut Organisation| partner.withdraw_key(presented.leaf().key);
    let ways: [Withdraw<'_>; 2] = [&by_serial, &by_key];
    for withdraw in ways {
        withdraw(&mut partner);
        let both = networks(vec![
            corp.authority(Standing::Recognised),
            partner.authority(Standing::Followed),
        ]);
        let leaf_key = presented.leaf().key;
        for lines in [
            vec![],
            vec![format!("both partner node {}", partner.id())],
            vec![format!("both partner key {leaf_key}")],
        ] {
            for phase in [Phase::Gate, Phase::Established] {
                let ask = Ask::accept(Mode::Enroll, &presented, known(&lines))
                    .networks(&both)
                    .phase(phase);
                assert_eq!(ask.word(), "revoked", "{lines:?}");
            }
        }
        // Another leaf of the same organisation goes on.
        let other = chain(&cross_certified(&corp, &partner));
        assert_eq!(accept(&other, &both).word(), "cross-certificate");
    }
}

#[test]
fn nobody_else_withdraws_a_leaf_below_a_founding_root() {
    let (corp, partner) = (Organisation::new("corp"), Organisation::new("partner"));
    let mut rival = Organisation::new("rival");
    let certificates = cross_certified(&corp, &partner);
    rival.claim(&partner.root.key);
    rival.withdraw(partner.root.hash(), &certificates[0]);
    let all = networks(vec![
        rival.authority(Standing::Followed),
        corp.authority(Standing::Recognised),
        partner.authority(Standing::Followed),
    ]);
    let presented = chain(&certificates);
    assert_eq!(accept(&presented, &all).word(), "cross-certificate");
    // Where we do not follow the owner, whoever claims the key is believed that it is lost.
    let without = networks(vec![
        rival.authority(Standing::Followed),
        corp.authority(Standing::Recognised),
    ]);
    assert_eq!(accept(&presented, &without).word(), "revoked");
}

#[test]
fn a_name_without_a_pin_meets_some_member_and_remembers_nothing() {
    let corp = Organisation::new("corp");
    let networks = recognising(&corp);
    let (first, second) = (Member::of(&corp, &[]), Member::of(&corp, &[]));
    for member in [&first, &second] {
        let presented = member.serving();
        let peer = Ask::dial(Mode::CaOrTofu, &presented, nobody())
            .networks(&networks)
            .accepted();
        assert_eq!(peer.how, How::CrossCertificate { network: corp.id() });
        assert_eq!(
            (peer.peer, peer.record),
            (PeerId::Node(member.node.id()), None)
        );
    }
    // A name that is pinned is nobody else's, member or not.
    let pinned = known(&[format!("dial {DIALLED} node {}", first.node.id())]);
    let presented = second.serving();
    let ask = Ask::dial(Mode::CaOrTofu, &presented, pinned).networks(&networks);
    assert_eq!(ask.word(), "changed");
    // Nor is one that a CA vouched for.
    let remembered = known(&[format!("@ca-verified dial {DIALLED}")]);
    let ask = Ask::dial(Mode::CaOrTofu, &presented, remembered).networks(&networks);
    assert_eq!(ask.word(), "downgrade");
    // An expected id is that one.
    let ask = Ask::dial(Mode::CaOrTofu, &presented, nobody()).networks(&networks);
    assert_eq!(ask.id(PeerId::Node(first.node.id())).word(), "unknown");
}

#[test]
fn whoever_demands_a_network_gets_its_members_only() {
    let (corp, other) = (Organisation::new("corp"), Organisation::new("other"));
    let member = Member::of(&corp, &[]);
    let both = networks(vec![
        corp.authority(Standing::Recognised),
        other.authority(Standing::Recognised),
    ]);
    let serving = member.serving();
    let lines = [format!("dial {DIALLED} node {}", member.node.id())];
    for known in [nobody(), known(&lines)] {
        let ask = Ask::dial(Mode::CaOrTofu, &serving, known).networks(&both);
        for phase in [Phase::Certificate, Phase::Gate, Phase::Established] {
            let ask = ask.clone().phase(phase);
            assert!(
                ask.clone()
                    .demanding(corp.id())
                    .verdict()
                    .recognition()
                    .is_some()
            );
            let refusal = ask.demanding(other.id()).refused();
            assert_eq!(refusal.reason, Reason::WrongNetwork);
            let network = other.id();
            assert_eq!(refusal.evidence, Evidence::Network { network });
        }
    }
    let stranger = Node::new();
    let presented = chain(&stranger.serve.chain);
    for mode in [Mode::Tofu, Mode::Record, Mode::Insecure] {
        let ask = Ask::dial(mode, &presented, nobody()).networks(&both);
        assert_eq!(ask.demanding(corp.id()).word(), "wrong-network", "{mode}");
    }
}

#[test]
fn a_leaf_for_the_other_direction_is_no_membership() {
    let corp = Organisation::new("corp");
    let member = Member::of(&corp, &[]);
    let serving = member.serving();
    let ask = accept(&serving, &recognising(&corp));
    assert_eq!(ask.word(), "constraint");
}

#[test]
fn an_expired_cross_certificate_is_said_where_strangers_are_not_met() {
    let corp = Organisation::new("corp");
    let not_after = NOW + DAY;
    let options = CrossOptions {
        not_after,
        ..CrossOptions::default()
    };
    let member = Member::with(&corp, &options);
    let networks = recognising(&corp);
    let presented = member.dialling();
    let ask = Ask::accept(Mode::CaOrPin, &presented, nobody()).networks(&networks);
    let peer = ask.clone().at(not_after).accepted();
    assert_eq!(peer.ends, not_after);
    let refusal = ask.at(not_after + SECOND).refused();
    assert_eq!(refusal.reason, Reason::Expired);
    assert!(
        matches!(refusal.evidence, Evidence::Cross(_)),
        "{refusal:?}"
    );
}

#[test]
fn the_verifier_callback_grants_no_network() {
    let corp = Organisation::new("corp");
    let member = Member::of(&corp, &["reader"]);
    let serving = member.serving();
    let peer = Ask::dial(Mode::CaOrTofu, &serving, nobody())
        .networks(&recognising(&corp))
        .phase(Phase::Certificate)
        .accepted();
    assert!(peer.grants.is_empty() && peer.memberships.is_empty());
}

#[test]
fn explain_shows_the_path_of_a_member_and_why_another_is_none() {
    let corp = Organisation::new("corp");
    let member = Member::of(&corp, &["reader"]);
    let networks = recognising(&corp);
    let presented = member.dialling();
    let steps = explain(&accept(&presented, &networks).query()).steps;
    let recognised = steps
        .iter()
        .find(|step| step.rule == Rule::CrossCertificate);
    let recognised = recognised.expect("a step");
    assert_eq!(recognised.outcome, Outcome::Recognised { line: None });
    let Some(StepDetail::Membership(membership)) = &recognised.detail else {
        panic!("{recognised:?}");
    };
    assert_eq!(membership.label, "corp");
    assert_eq!(membership.roles, ["reader"]);
    assert_eq!(membership.cross.issuer_key, corp.issuing[0].hash());
    let forked = Networks::new(vec![Authority {
        forked: Some(TODAY),
        ..corp.authority(Standing::Recognised)
    }]);
    let pinned = known(&[format!("both ops {}", pin(&presented))]);
    let ask = Ask::accept(Mode::Enroll, &presented, pinned).networks(&forked);
    let steps = explain(&ask.query()).steps;
    let failed = steps.iter().any(|step| {
        step.rule == Rule::Grants
            && step.outcome == Outcome::Failed(Reason::Forked)
            && matches!(step.detail, Some(StepDetail::Evidence(_)))
    });
    assert!(failed, "{steps:?}");
}

#[test]
fn our_own_root_behind_a_cross_certificate_is_ourselves() {
    let (corp, us) = (Organisation::new("corp"), Organisation::new("us"));
    let presented = chain(&cross_certified(&corp, &us));
    let ask = accept(&presented, &recognising(&corp)).own(us.root.hash());
    assert_eq!(ask.word(), "self");
}

#[test]
fn of_two_authorities_with_one_id_the_first_counts() {
    let corp = Organisation::new("corp");
    let second = Authority {
        label: "copy".to_owned(),
        ..corp.authority(Standing::Followed)
    };
    let networks = Networks::new(vec![corp.authority(Standing::Recognised), second]);
    assert_eq!(networks.iter().count(), 1);
    assert_eq!(
        networks.get(&corp.id()).map(|a| a.label.as_str()),
        Some("corp")
    );
    assert!(!networks.is_empty() && Networks::empty().is_empty());
    assert!(networks.reserves("corp") && !networks.reserves("copy"));
    assert!(Networks::empty().reserves(&corp.id().to_hex()));
}
