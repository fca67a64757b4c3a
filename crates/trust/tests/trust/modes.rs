//! The table of the crate documentation, cell by cell.

use comity_certs::{PresentedChain, Purpose};
use comity_trust::{Direction, Invited, Invitee, KnownPeers, Mode, What};

use crate::world::{Ask, Ca, DIALLED, HOST, Says, added, foreign, known, native, nobody, pin};

/// One row: a situation, and what each mode makes of it, in the order of [`Mode::ALL`].
struct Row<'a> {
    situation: &'static str,
    ask: Ask<'a>,
    expected: &'static str,
}

fn check(rows: &[Row<'_>]) {
    for row in rows {
        let direction = row.ask.direction;
        let modes = Mode::ALL.into_iter().filter(|m| m.valid_for(direction));
        let expected: Vec<&str> = row.expected.split_whitespace().collect();
        assert_eq!(expected.len(), modes.clone().count(), "{}", row.situation);
        for (mode, expected) in modes.zip(expected) {
            let ask = Ask {
                mode,
                ..row.ask.clone()
            };
            assert_eq!(
                ask.word(),
                expected,
                "{direction} {mode}, {}",
                row.situation
            );
        }
    }
}

fn dial<'a>(chain: &'a PresentedChain, known: KnownPeers) -> Ask<'a> {
    Ask::dial(Mode::Ca, chain, known)
}

fn accept<'a>(chain: &'a PresentedChain, known: KnownPeers) -> Ask<'a> {
    Ask::accept(Mode::Ca, chain, known)
}

fn pinned(side: &str, chain: &PresentedChain) -> String {
    format!("{side} ops-db,{DIALLED} {}", pin(chain))
}

fn ca_verified() -> String {
    format!("@ca-verified dial {DIALLED}")
}

// Columns:  ca  pin  tofu  record  insecure  ca-or-pin  ca-or-tofu  ca-or-record  ca-and-pin
//           ca-then-pin
const DIAL_KNOWN: &str = "unknown pin pin pin insecure pin pin pin unknown pin";
const DIAL_KNOWN_CA: &str = "ca pin pin pin insecure pin pin pin pin pin";
const DIAL_OTHER: &str =
    "changed changed changed record insecure changed changed record changed changed";
const DIAL_CA: &str = "ca unknown first-use record insecure ca ca ca unknown ca";
const DIAL_STRANGER: &str =
    "unknown unknown first-use record insecure unknown first-use record unknown unknown";
const DIAL_WAS_CA: &str =
    "downgrade downgrade downgrade record insecure downgrade downgrade record unknown downgrade";

fn always(word: &'static str) -> &'static str {
    match word {
        "revoked" => {
            "revoked revoked revoked revoked revoked revoked revoked revoked revoked revoked"
        }
        _ => "self self self self self self self self self self",
    }
}

fn always_accepting(word: &'static str) -> &'static str {
    match word {
        "revoked" => {
            "revoked revoked revoked revoked revoked revoked revoked revoked revoked revoked revoked revoked"
        }
        _ => "self self self self self self self self self self self self",
    }
}

#[test]
fn dialling_a_native_peer_follows_the_table() {
    let peer = native(1, Purpose::Serve);
    let other = native(2, Purpose::Serve);
    let stranger = || dial(&peer, nobody());
    check(&[
        Row {
            situation: "known",
            ask: dial(&peer, known(&[pinned("dial", &peer)])),
            expected: DIAL_KNOWN,
        },
        Row {
            situation: "other",
            ask: dial(&peer, known(&[pinned("both", &other)])),
            expected: DIAL_OTHER,
        },
        Row {
            situation: "stranger",
            ask: stranger(),
            expected: DIAL_STRANGER,
        },
        Row {
            situation: "pinned for accepting only",
            ask: dial(&peer, known(&[pinned("accept", &peer)])),
            expected: DIAL_STRANGER,
        },
        Row {
            situation: "was CA",
            ask: dial(&peer, known(&[ca_verified()])),
            expected: DIAL_WAS_CA,
        },
        Row {
            situation: "revoked",
            ask: dial(
                &peer,
                known(&[
                    pinned("dial", &peer),
                    format!("@revoked both x {}", pin(&peer)),
                ]),
            ),
            expected: always("revoked"),
        },
        Row {
            situation: "ourselves",
            ask: stranger().own(peer.peer_id().key_hash()),
            expected: always("self"),
        },
        Row {
            situation: "our own leaf",
            ask: stranger().own(peer.leaf().key),
            expected: always("self"),
        },
    ]);
}

#[test]
fn dialling_a_foreign_peer_follows_the_table() {
    let ca = Ca::new("corp");
    let peer = foreign(&Says::name(&[HOST]));
    let other = foreign(&Says::name(&[HOST]));
    let vouched = ca.leaf(&Says::name(&[HOST]));
    let listed = || ca.line("dial", "*.example", "");
    check(&[
        Row {
            situation: "known",
            ask: dial(&peer, known(&[pinned("both", &peer)])),
            expected: DIAL_KNOWN,
        },
        Row {
            situation: "known, CA",
            ask: dial(&vouched, known(&[pinned("dial", &vouched), listed()])),
            expected: DIAL_KNOWN_CA,
        },
        Row {
            situation: "other",
            ask: dial(&peer, known(&[pinned("dial", &other)])),
            expected: DIAL_OTHER,
        },
        Row {
            situation: "other, CA",
            ask: dial(&vouched, known(&[pinned("dial", &other), listed()])),
            expected: DIAL_OTHER,
        },
        Row {
            situation: "CA, listed",
            ask: dial(&vouched, known(&[listed()])),
            expected: DIAL_CA,
        },
        Row {
            situation: "CA, of the system",
            ask: dial(&vouched, nobody()).roots(std::slice::from_ref(&ca.anchor)),
            expected: DIAL_CA,
        },
        Row {
            situation: "stranger",
            ask: dial(&peer, known(&[listed()])),
            expected: DIAL_STRANGER,
        },
        Row {
            situation: "was CA",
            ask: dial(&peer, known(&[ca_verified(), listed()])),
            expected: DIAL_WAS_CA,
        },
        Row {
            situation: "revoked key",
            ask: dial(
                &vouched,
                known(&[
                    listed(),
                    format!("@revoked both x key {}", vouched.leaf().key),
                ]),
            ),
            expected: always("revoked"),
        },
        Row {
            situation: "revoked certificate",
            ask: dial(
                &vouched,
                known(&[format!(
                    "@revoked both x cert {}",
                    vouched.leaf().fingerprint
                )]),
            ),
            expected: always("revoked"),
        },
        Row {
            situation: "revoked CA",
            ask: dial(
                &vouched,
                known(&[
                    pinned("dial", &vouched),
                    listed(),
                    format!("@revoked both x key {}", ca.anchor.key()),
                ]),
            ),
            expected: always("revoked"),
        },
        Row {
            situation: "ourselves",
            ask: dial(&peer, known(&[pinned("dial", &peer)])).own(peer.leaf().key),
            expected: always("self"),
        },
    ]);
}

#[test]
fn accepting_a_peer_follows_the_table() {
    let ca = Ca::new("corp");
    let peer = native(1, Purpose::Dial);
    let other = native(2, Purpose::Dial);
    let single = foreign(&Says::name(&["laptop.example"]));
    let vouched = ca.leaf(&Says::name(&["laptop.example"]));
    let listed = || ca.line("accept", "*.example", "");
    // ... ca-then-pin  enroll  invite
    let pinned_row = "unknown pin pin pin insecure pin pin pin unknown pin pin pin";
    let stranger_row = "unknown unknown first-use record insecure unknown first-use record \
                        unknown unknown pending unknown";
    check(&[
        Row {
            situation: "known node",
            ask: accept(&peer, known(&[format!("accept ops {}", pin(&peer))])),
            expected: pinned_row,
        },
        Row {
            situation: "known foreign peer",
            ask: accept(&single, known(&[format!("both ops {}", pin(&single))])),
            expected: pinned_row,
        },
        Row {
            situation: "known, listed CA",
            ask: accept(
                &vouched,
                known(&[format!("accept ops {}", pin(&vouched)), listed()]),
            ),
            expected: "ca pin pin pin insecure pin pin pin pin pin pin pin",
        },
        Row {
            situation: "listed CA",
            ask: accept(&vouched, known(&[listed()])),
            expected: "ca unknown first-use record insecure ca ca ca unknown ca ca ca",
        },
        Row {
            situation: "a CA listed without names, networks or roles",
            ask: accept(&vouched, known(&[ca.line("accept", "*", "")])),
            expected: "out-of-scope unknown first-use record insecure out-of-scope first-use \
                       record unknown out-of-scope pending out-of-scope",
        },
        Row {
            situation: "a CA of the system",
            ask: accept(&vouched, nobody()).roots(std::slice::from_ref(&ca.anchor)),
            expected: stranger_row,
        },
        Row {
            situation: "stranger",
            ask: accept(&peer, known(&[format!("accept ops {}", pin(&other))])),
            expected: stranger_row,
        },
        Row {
            situation: "pinned for dialling only",
            ask: accept(&peer, known(&[format!("dial ops {}", pin(&peer))])),
            expected: stranger_row,
        },
        Row {
            situation: "revoked",
            ask: accept(
                &peer,
                known(&[
                    format!("accept ops {}", pin(&peer)),
                    format!("@revoked dial ops {}", pin(&peer)),
                ]),
            ),
            expected: always_accepting("revoked"),
        },
        Row {
            situation: "ourselves",
            ask: accept(&peer, nobody()).own(peer.peer_id().key_hash()),
            expected: always_accepting("self"),
        },
    ]);
}

#[test]
fn an_invitation_counts_in_the_modes_that_have_them() {
    let peer = native(1, Purpose::Dial);
    let invitee = Invitee::default();
    let ca = Ca::new("corp");
    let vouched = ca.leaf(&Says::name(&["laptop.example"]));
    check(&[
        Row {
            situation: "proven",
            ask: accept(&peer, nobody()).invited(Invited::Proven(&invitee)),
            expected: "unknown unknown first-use record insecure unknown first-use record \
                       unknown unknown invite invite",
        },
        Row {
            situation: "invalid",
            ask: accept(&peer, nobody()).invited(Invited::Invalid),
            expected: "unknown unknown first-use record insecure unknown first-use record \
                       unknown unknown invite-invalid invite-invalid",
        },
        Row {
            situation: "proven, listed CA",
            ask: accept(&vouched, known(&[ca.line("accept", "*.example", "")]))
                .invited(Invited::Proven(&invitee)),
            expected: "ca unknown first-use record insecure ca ca ca unknown ca invite invite",
        },
        Row {
            situation: "invalid, listed CA",
            ask: accept(&vouched, known(&[ca.line("accept", "*.example", "")]))
                .invited(Invited::Invalid),
            expected: "ca unknown first-use record insecure ca ca ca unknown ca ca ca",
        },
        Row {
            situation: "proven, but revoked",
            ask: accept(&peer, known(&[format!("@revoked both x {}", pin(&peer))]))
                .invited(Invited::Proven(&invitee)),
            expected: always_accepting("revoked"),
        },
        Row {
            situation: "invalid, but known",
            ask: accept(&peer, known(&[format!("accept ops {}", pin(&peer))]))
                .invited(Invited::Invalid),
            expected: "unknown pin pin pin insecure pin pin pin unknown pin pin pin",
        },
    ]);
}

#[test]
fn what_is_recorded_follows_the_table() {
    let ca = Ca::new("corp");
    let vouched = ca.leaf(&Says::name(&[HOST]));
    let listed = known(&[ca.line("both", "*.example", "")]);
    for (direction, expected) in [
        (
            Direction::Dial,
            "memory none pin pin none memory memory memory none pin",
        ),
        (
            Direction::Accept,
            "none none pin pin none none none none none pin none none",
        ),
    ] {
        let modes = Mode::ALL.into_iter().filter(|m| m.valid_for(direction));
        for (mode, expected) in modes.zip(expected.split(' ')) {
            let ask = match direction {
                Direction::Dial => Ask::dial(mode, &vouched, listed.clone()),
                Direction::Accept => Ask::accept(mode, &vouched, listed.clone()),
            };
            let record = ask.verdict().recognition().and_then(added);
            let found = match record.map(|entry| entry.what) {
                None => "none",
                Some(What::CaVerified) => "memory",
                Some(What::Pin(_)) => "pin",
                Some(other) => panic!("{other:?}"),
            };
            assert_eq!(found, expected, "{direction} {mode}");
        }
    }
}

#[test]
fn modes_without_meaning_in_a_direction_refuse_everybody() {
    let peer = native(1, Purpose::Serve);
    for mode in [Mode::Enroll, Mode::Invite] {
        let ask = Ask::dial(mode, &peer, known(&[pinned("both", &peer)]));
        assert_eq!(ask.word(), "unknown");
    }
}
