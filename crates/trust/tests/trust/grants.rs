//! What a recognised peer may do, and what its own word is worth (nothing).

use comity_certs::Purpose;
use comity_trust::{AllowRule, AllowRuleError, How, Mode, Networks, Phase, Reason, authorise};

use crate::world::{
    Ask, Ca, HOST, NOW, Says, cross_certified, foreign, known, metadata, native, native_with,
    nobody, pin,
};

fn member() -> Says {
    Says {
        networks: &["corp", "other"],
        roles: &["admin", "reader"],
        ..Says::name(&["laptop.example"])
    }
}

#[test]
fn local_entries_grant_services_roles_and_networks() {
    let peer = native(1, Purpose::Dial);
    let known = known(&[
        format!(
            "accept ops {} for=pg,ssh roles=reader networks=corp",
            pin(&peer)
        ),
        format!("both laptop {} for=web", pin(&peer)),
        format!("dial elsewhere {} for=root", pin(&peer)),
        format!(
            "accept over {} for=old not-after=2026-02-01T00:00:00Z",
            pin(&peer)
        ),
    ]);
    let recognition = Ask::accept(Mode::Pin, &peer, known).accepted();
    let services: Vec<&str> = recognition
        .grants
        .services
        .iter()
        .map(String::as_str)
        .collect();
    assert_eq!(services, ["pg", "ssh", "web"]);
    assert!(recognition.grants.membership("corp", Some("reader")));
    assert_eq!(recognition.label.as_deref(), Some("ops"));
    assert_eq!(recognition.labels, ["ops", "laptop"]);
}

#[test]
fn a_listed_ca_attests_only_what_it_is_scoped_for() {
    let ca = Ca::new("corp");
    let peer = ca.leaf(&member());
    let listed = known(&[ca.line("accept", "*", "networks=corp roles=reader for=pg")]);
    let grants = Ask::accept(Mode::Ca, &peer, listed).accepted().grants;
    assert_eq!(Vec::from_iter(&grants.networks), ["corp"]);
    assert_eq!(Vec::from_iter(&grants.roles), ["reader"]);
    assert!(grants.membership("corp", Some("reader")));
    assert!(!grants.membership("corp", Some("admin")));
    assert!(!grants.membership("other", None));
    assert!(grants.service("pg"));
}

#[test]
fn a_role_of_one_authority_says_nothing_about_the_network_of_another() {
    let ca = Ca::new("corp");
    let peer = ca.leaf(&member());
    let listed = known(&[
        ca.line("accept", "*", "networks=corp"),
        ca.line("accept", "*", "networks=other roles=admin"),
    ]);
    let grants = Ask::accept(Mode::Ca, &peer, listed).accepted().grants;
    assert!(grants.membership("corp", None));
    assert!(!grants.membership("corp", Some("admin")));
    assert!(grants.membership("other", Some("admin")));
}

#[test]
fn a_leaf_without_what_the_line_demands_is_refused() {
    let ca = Ca::new("corp");
    let plain = ca.leaf(&Says::name(&["laptop.example"]));
    for (attributes, word) in [
        ("networks=corp", "wrong-network"),
        ("roles=admin", "wrong-role"),
        ("networks=corp roles=admin", "wrong-network"),
    ] {
        let listed = known(&[ca.line("accept", "*", attributes)]);
        assert_eq!(Ask::accept(Mode::Ca, &plain, listed).word(), word);
    }
    let half = ca.leaf(&Says {
        networks: &["corp"],
        ..Says::default()
    });
    let listed = known(&[ca.line("accept", "*", "networks=corp roles=admin")]);
    assert_eq!(Ask::accept(Mode::Ca, &half, listed).word(), "wrong-role");
}

#[test]
fn claims_grant_nothing() {
    // T26: metadata in certificates that nobody scoped for it signed.
    let ca = Ca::new("corp");
    let node = native_with(1, Purpose::Dial, &metadata(&["corp"], &["admin"]));
    let single = foreign(&member());
    let foreign_ca = ca.leaf(&member());
    for peer in [&node, &single, &foreign_ca] {
        assert!(peer.leaf().metadata.is_some());
        let pinned = known(&[format!("accept ops {}", pin(peer))]);
        let grants = Ask::accept(Mode::Pin, peer, pinned).accepted().grants;
        assert!(grants.is_empty(), "{grants:?}");
    }
    let scoped_for_names = known(&[ca.line("accept", "*.example", "")]);
    let grants = Ask::accept(Mode::Ca, &foreign_ca, scoped_for_names)
        .accepted()
        .grants;
    assert!(grants.is_empty(), "{grants:?}");
}

#[test]
fn what_a_node_writes_into_its_leaf_stays_a_claim_below_a_ca_that_cross_certified_its_root() {
    let ca = Ca::new("corp");
    let says = Says {
        networks: &["corp"],
        roles: &["admin"],
        ..Says::name(&[HOST])
    };
    let (serving, dialling) = [Purpose::Serve, Purpose::Dial]
        .map(|p| cross_certified(&ca, p, &says))
        .into();
    let line = |names: &str, attributes: &str| ca.line("both", names, attributes);
    for (attributes, word) in [
        ("networks=corp", "wrong-network"),
        ("roles=admin", "wrong-role"),
    ] {
        let listed = known(&[line("*", attributes)]);
        assert_eq!(Ask::accept(Mode::Ca, &dialling, listed).word(), word);
    }
    let listed = known(&[line("*.example", "")]);
    let ask = Ask::accept(Mode::Ca, &dialling, listed.clone());
    assert_eq!(ask.word(), "out-of-scope");
    assert_eq!(
        Ask::dial(Mode::Ca, &serving, listed).word(),
        "name-mismatch"
    );
    // A pin recognises it, and the CA above attests nothing of what it says.
    let entry = |side: &str, name: &str| format!("{side} {name} {}", pin(&serving));
    let all = line("*", "networks=* roles=*");
    let pinned = known(&[entry("accept", "ops"), all.clone()]);
    let accepted = Ask::accept(Mode::Enroll, &dialling, pinned).accepted();
    assert!(accepted.grants.is_empty(), "{:?}", accepted.grants);
    let pinned = known(&[entry("dial", "db.example:7117"), all]);
    let dialled = Ask::dial(Mode::Pin, &serving, pinned).accepted();
    assert!(dialled.grants.is_empty(), "{:?}", dialled.grants);
    // The path is there: it is the leaf's word that does not count.
    let path = comity_certs::verify_ca_path(&dialling, [&ca.anchor], Purpose::Dial, NOW);
    assert!(path.is_ok(), "{path:?}");
}

#[test]
fn a_ca_with_name_constraints_gives_nobody_a_network_or_role() {
    let ca = Ca::new("corp");
    let says = Says {
        networks: &["corp"],
        roles: &["admin"],
        ..Says::name(&["laptop.dev.example"])
    };
    let (free, constrained) = (
        ca.leaf_below_another(None, &says),
        ca.leaf_below_another(Some("dev.example"), &says),
    );
    let scoped = |names: &str, attributes: &str| known(&[ca.line("accept", names, attributes)]);
    for (attributes, word) in [
        ("networks=corp", "wrong-network"),
        ("roles=admin", "wrong-role"),
    ] {
        let listed = scoped("*", attributes);
        assert_eq!(Ask::accept(Mode::Ca, &free, listed.clone()).word(), "ca");
        assert_eq!(Ask::accept(Mode::Ca, &constrained, listed).word(), word);
    }
    // Names are what it is trusted with, whatever other line lists the same authority.
    let listed = known(&[
        ca.line("accept", "*", "networks=corp"),
        ca.line("accept", "*.dev.example", ""),
    ]);
    let recognition = Ask::accept(Mode::Ca, &constrained, listed).accepted();
    assert!(matches!(recognition.how, How::Ca { line: Some(3), .. }));
    assert!(recognition.grants.is_empty());
    // Nor does it give a pinned peer any.
    for (peer, attested) in [(&free, true), (&constrained, false)] {
        let pinned = known(&[
            format!("accept ops {}", pin(peer)),
            ca.line("accept", "*", "networks=* roles=*"),
        ]);
        let grants = Ask::accept(Mode::Pin, peer, pinned).accepted().grants;
        assert_eq!(grants.membership("corp", Some("admin")), attested);
        assert_eq!(grants.is_empty(), !attested);
    }
}

#[test]
fn system_roots_attest_nothing_but_the_name() {
    let ca = Ca::new("public");
    let says = Says {
        dns: &["db.example"],
        ..member()
    };
    let peer = ca.leaf(&says);
    let ask = Ask::dial(Mode::Ca, &peer, nobody()).roots(std::slice::from_ref(&ca.anchor));
    assert!(ask.accepted().grants.is_empty());
}

#[test]
fn a_pinned_peer_keeps_what_a_listed_ca_attests_and_loses_it_with_the_line() {
    let ca = Ca::new("corp");
    let peer = ca.leaf(&member());
    let pinned = format!("accept ops {}", pin(&peer));
    let with = known(&[pinned.clone(), ca.line("accept", "*", "networks=corp")]);
    let live = |known| Ask::accept(Mode::Enroll, &peer, known).phase(Phase::Established);
    let rule = AllowRule::Network {
        network: "corp".into(),
        role: None,
    };
    assert_eq!(authorise("pg", &rule, &live(with).accepted()), Ok(()));
    // A service restricted to a network needs live membership, pin or not.
    let without = live(known(&[pinned])).accepted();
    assert_eq!(authorise("pg", &rule, &without), Err(Reason::WrongNetwork));
}

#[test]
fn a_revoked_ca_attests_nothing() {
    let ca = Ca::new("corp");
    let peer = ca.leaf(&member());
    let known = known(&[
        format!("accept ops {}", pin(&peer)),
        ca.line("accept", "*", "networks=corp"),
        format!("@revoked both x key {}", ca.anchor.key()),
    ]);
    assert_eq!(Ask::accept(Mode::Enroll, &peer, known).word(), "revoked");
}

#[test]
fn rules_authorise_whom_they_name() {
    let peer = native(1, Purpose::Dial);
    let known = known(&[format!(
        "accept ops,backup {} for=pg roles=reader networks=corp",
        pin(&peer)
    )]);
    let recognition = Ask::accept(Mode::Pin, &peer, known.clone()).accepted();
    let parse = |text: &str| AllowRule::parse(text, &known, &Networks::empty()).expect("rule");
    let id = peer.peer_id().to_string();
    let denied = Err(Reason::NotAuthorised);
    for (rule, service, expected) in [
        (AllowRule::Granted, "pg", Ok(())),
        (AllowRule::Granted, "ssh", denied),
        (parse("ops"), "ssh", Ok(())),
        (parse("backup"), "ssh", Ok(())),
        (parse("someone"), "ssh", denied),
        (parse(&id), "ssh", Ok(())),
        (parse(&"ab".repeat(32)), "ssh", denied),
        (parse("corp"), "ssh", Ok(())),
        (parse("corp/reader"), "ssh", Ok(())),
        (parse("corp/admin"), "ssh", Err(Reason::WrongRole)),
        (parse("other/reader"), "ssh", Err(Reason::WrongNetwork)),
    ] {
        assert_eq!(authorise(service, &rule, &recognition), expected, "{rule}");
    }
}

#[test]
fn everything_is_granted_by_an_asterisk() {
    let peer = native(1, Purpose::Dial);
    let known = known(&[format!("accept ops {} for=*", pin(&peer))]);
    let recognition = Ask::accept(Mode::Pin, &peer, known).accepted();
    assert_eq!(authorise("any", &AllowRule::Granted, &recognition), Ok(()));
}

#[test]
fn first_use_grants_no_service_except_to_an_id_that_the_rule_names() {
    let peer = native(1, Purpose::Dial);
    let network = AllowRule::Network {
        network: "corp".into(),
        role: None,
    };
    for mode in [Mode::Tofu, Mode::Record, Mode::Insecure] {
        let ask = Ask::accept(mode, &peer, nobody());
        let recognition = ask.accepted();
        for rule in [AllowRule::Granted, network.clone()] {
            assert_eq!(
                authorise("pg", &rule, &recognition),
                Err(Reason::NotAuthorised),
                "{mode} {rule}"
            );
        }
        let id = AllowRule::Id(peer.peer_id());
        assert_eq!(authorise("pg", &id, &recognition), Ok(()));
        let provisional = ask.phase(Phase::Certificate).accepted();
        assert_eq!(
            authorise("pg", &id, &provisional),
            Err(Reason::NotAuthorised)
        );
    }
}

#[test]
fn a_word_that_is_a_label_and_a_network_must_be_told_apart() {
    // Whoever is let in under the label of a network must not get what is meant for its members.
    let peer = native(1, Purpose::Dial);
    let ca = Ca::new("corp");
    let known = known(&[
        format!("accept corp {}", pin(&peer)),
        ca.line("accept", "*", "networks=corp,mesh"),
    ]);
    assert!(matches!(
        AllowRule::parse("corp", &known, &Networks::empty()),
        Err(AllowRuleError::Ambiguous(_))
    ));
    for (text, shown) in [
        ("label:corp", "label:corp"),
        ("network:corp", "network:corp"),
        ("corp/reader", "network:corp/reader"),
        ("mesh", "network:mesh"),
        ("nobody", "label:nobody"),
    ] {
        let rule = AllowRule::parse(text, &known, &Networks::empty()).expect("rule");
        assert_eq!(rule.to_string(), shown);
    }
    for text in ["", "corp/", "/reader", "a/b/c", "db.example:7117", "a b"] {
        assert!(
            AllowRule::parse(text, &known, &Networks::empty()).is_err(),
            "{text:?}"
        );
    }
}
