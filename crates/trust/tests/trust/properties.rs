//! What holds for every input.

use std::sync::LazyLock;

use comity_certs::{PresentedChain, Purpose};
use comity_identity::{KeyHash, UnixTime};
use comity_trust::{
    AllowRule, Direction, Edit, Entry, How, Invited, Invitee, KnownPeers, Mode, Name, NameItem,
    Names, Networks, Pattern, Phase, Pin, Side, Target, Verdict, What, invitation::Invitation,
    resolve,
};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::world::{Ask, Ca, DIALLED, HOST, Says, foreign, known, name, native, pin};

/// Chains of every kind, for both directions.
struct Peers {
    chains: Vec<PresentedChain>,
    /// Lines that say something about them.
    lines: Vec<String>,
    roots: Vec<comity_certs::Anchor>,
}

static PEERS: LazyLock<Peers> = LazyLock::new(|| {
    let (listed, public) = (Ca::new("listed"), Ca::new("public"));
    let member = Says {
        networks: &["corp"],
        roles: &["admin"],
        ..Says::name(&[HOST])
    };
    let chains = vec![
        native(1, Purpose::Serve),
        native(1, Purpose::Dial),
        native(2, Purpose::Serve),
        native(2, Purpose::Dial),
        foreign(&Says::name(&[HOST])),
        foreign(&Says::name(&["other.example"])),
        listed.leaf(&member),
        listed.leaf_with_root(&member),
        public.leaf(&Says::name(&[HOST])),
    ];
    let mut lines = vec![
        format!("@ca-verified dial {DIALLED}"),
        listed.line("both", "*.example", ""),
        listed.line("accept", "*", "networks=corp roles=admin for=pg"),
        format!("@revoked both x key {}", listed.anchor.key()),
        format!("@revoked both x cert {}", public.anchor.fingerprint()),
    ];
    for (index, chain) in chains.iter().enumerate() {
        lines.push(format!("dial {DIALLED} {} for=ssh", pin(chain)));
        lines.push(format!(
            "both *.example:7117 cert {}",
            chain.leaf().fingerprint
        ));
        lines.push(format!("accept label{index} {} for=pg", pin(chain)));
        lines.push(format!("@revoked both x key {}", chain.leaf().key));
    }
    Peers {
        chains,
        lines,
        roots: vec![public.anchor],
    }
});

static INVITEE: LazyLock<Invitee> = LazyLock::new(Invitee::default);

prop_compose! {
    fn any_ask()(
        dialling in any::<bool>(),
        mode in select(Mode::ALL.to_vec()),
        phase in select(vec![Phase::Certificate, Phase::Gate, Phase::Established]),
        chain in 0..PEERS.chains.len(),
        lines in subsequence(PEERS.lines.clone(), 0..6),
        roots in any::<bool>(),
        invited in 0..3,
        expected in prop::option::weighted(0.2, 0..PEERS.chains.len()),
        now in prop_oneof![4 => Just(crate::world::NOW), 1 => any::<u32>().prop_map(|s| UnixTime::from_secs(s.into()))],
    ) -> Ask<'static> {
        let chain = &PEERS.chains[chain];
        let known = known(&lines);
        let ask = if dialling {
            Ask::dial(mode, chain, known)
        } else {
            Ask::accept(mode, chain, known)
        };
        let invited = match invited {
            0 => Invited::No,
            1 => Invited::Invalid,
            _ => Invited::Proven(&INVITEE),
        };
        let mut ask = ask.phase(phase).at(now).invited(invited);
        if roots {
            ask = ask.roots(&PEERS.roots);
        }
        if let Some(expected) = expected {
            ask = ask.id(PEERS.chains[expected].peer_id());
        }
        ask
    }
}

/// Whether the dialled name has pins for dialling, and none of them is this peer's.
fn is_changed(ask: &Ask<'_>) -> bool {
    if ask.direction == Direction::Accept {
        return false;
    }
    let pins = ask.known.pins_named(&name(DIALLED), Some(Direction::Dial));
    let matches = |entry: &Entry| entry.pin().is_some_and(|p| p.matches(ask.chain));
    !pins.is_empty() && !pins.iter().any(|(_, entry)| matches(entry))
}

/// A line about a key and names that appear in no question.
fn unrelated(number: u8) -> Entry {
    let names = Names::one(name(&format!("unrelated{number}")));
    let key = KeyHash::from_bytes([number; 32]);
    Entry::new(Side::Both, names, What::Pin(Pin::Key(key)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_mode_but_insecure_and_record_accepts_a_changed_key(ask in any_ask()) {
        let lenient = matches!(ask.mode, Mode::Insecure | Mode::Record | Mode::CaOrRecord);
        if is_changed(&ask) && !lenient {
            prop_assert!(ask.verdict().refusal().is_some());
        }
    }

    #[test]
    fn nothing_revoked_is_ever_recognised(ask in any_ask()) {
        if ask.known.revocation_of(ask.chain).is_some() {
            match ask.verdict() {
                Verdict::Accept(recognition) => {
                    prop_assert_eq!(recognition.how, How::Provisional);
                    prop_assert!(recognition.grants.is_empty());
                }
                Verdict::Refuse(refusal) => {
                    prop_assert!(["revoked", "unknown"].contains(&refusal.reason.token()));
                }
            }
        }
    }

    #[test]
    fn a_refusal_stays_one_when_an_unrelated_entry_is_added(
        ask in any_ask(),
        number in any::<u8>(),
    ) {
        let edit = Edit::Add(Box::new(unrelated(number)));
        let more = Ask { known: ask.known.with(edit).expect("added").into(), ..ask.clone() };
        if ask.verdict().refusal().is_some() {
            prop_assert_eq!(ask.word(), more.word());
        }
    }

    #[test]
    fn an_expected_id_is_never_anybody_else(ask in any_ask()) {
        if let (Some(id), Verdict::Accept(recognition)) = (ask.expectation.id, ask.verdict()) {
            prop_assert!(recognition.peer == id || recognition.how == How::Provisional);
        }
    }

    #[test]
    fn only_the_gate_records_and_what_it_records_can_be_added(ask in any_ask()) {
        if let Some(edit) = ask.verdict().recognition().and_then(|r| r.record.clone()) {
            prop_assert_eq!(ask.phase, Phase::Gate);
            prop_assert_ne!(ask.mode, Mode::Insecure);
            let after = ask.known.with(*edit);
            prop_assert!(after.is_ok(), "{after:?}");
            // And the peer is still recognised by what was recorded.
            let later = Ask { known: after.expect("added").into(), ..ask.clone() };
            let live = later.phase(Phase::Established).verdict();
            prop_assert!(live.recognition().is_some(), "{live:?}");
        }
    }

    #[test]
    fn whoever_is_recognised_now_is_so_until_it_ends(ask in any_ask()) {
        if let Verdict::Accept(recognition) = ask.verdict() {
            prop_assert!(recognition.ends >= ask.now || recognition.how == How::Provisional);
        }
    }

    #[test]
    fn a_document_reads_back(entries in prop::collection::vec(any_entry(), 0..8)) {
        let mut known = KnownPeers::empty();
        let mut expected = Vec::new();
        for entry in entries {
            if let Ok(next) = known.with(Edit::Add(Box::new(entry.clone()))) {
                known = next;
                expected.push(entry);
            }
        }
        let again = KnownPeers::parse(&known.to_text()).expect("our own text");
        prop_assert_eq!(&again, &known);
        let read: Vec<Entry> = again.entries().map(|(_, e)| e.clone()).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn no_text_panics_and_what_is_accepted_reads_back(text in any_text()) {
        if let Ok(known) = KnownPeers::parse(&text) {
            prop_assert_eq!(known.to_text(), text);
        }
    }

    #[test]
    fn no_name_target_or_invitation_panics(text in "(COMITY-INVITE-)?\\PC{0,80}") {
        let known = KnownPeers::empty();
        prop_assert!(Invitation::parse(&text).is_err());
        let target = resolve(&text, &known);
        let nobody_known = !matches!(target, Ok(Target::Known { .. } | Target::Invitation(_)));
        prop_assert!(nobody_known);
        if let Ok(rule) = AllowRule::parse(&text, &known, &Networks::empty()) {
            prop_assert_eq!(AllowRule::parse(&rule.to_string(), &known, &Networks::empty()), Ok(rule));
        }
        if let Ok(name) = Name::parse(&text) {
            // One spelling: reading it again changes nothing.
            prop_assert_eq!(Name::parse(name.as_str()), Ok(name.clone()));
            let safe = |c: char| !c.is_whitespace() && !c.is_control() && !",#@%*?!".contains(c);
            prop_assert!(name.as_str().chars().all(safe));
        }
    }
}

fn any_text() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        select(PEERS.lines.clone()),
        "[ -~\\t]{0,60}",
        "\\PC{0,30}",
        "(@revoked |@ca )?(dial|accept|both) [a-z*!,.:0-9%]{1,20} (node|key|cert|ca) [A-Za-z0-9=/+-]{0,70}( [a-z-]{1,9}=[!-~]{0,20}){0,3}",
    ];
    let cut = any::<prop::sample::Index>();
    (prop::collection::vec(line, 0..5), any::<bool>(), cut).prop_map(|(lines, crlf, cut)| {
        let end = if crlf { "\r\n" } else { "\n" };
        let text = format!("comity-known-peers v1{end}{}", lines.join(end));
        let mut at = 22 + cut.index(text.len() - 21);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text[..at].to_owned()
    })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let item = prop_oneof![
        "[a-zäλж][a-z0-9_-]{0,12}".prop_map(|text| NameItem::Exact(name(&text))),
        "[a-z]{1,9}\\.example:[1-9][0-9]{0,3}".prop_map(|text| NameItem::Exact(name(&text))),
        "!?[a-z*?.]{1,9}\\*".prop_map(|t| NameItem::Pattern(Pattern::parse(&t).expect("pattern"))),
    ];
    let names = prop::collection::vec(item, 1..4)
        .prop_filter_map("only negations", |items| Names::new(items).ok());
    let hash = any::<u8>().prop_map(|n| KeyHash::from_bytes([n; 32]));
    let what = (hash, 0..2).prop_map(|(hash, kind)| match kind {
        0 => What::Pin(Pin::Key(hash)),
        _ => What::Revoked(Pin::Key(hash)),
    });
    let side = select(vec![Side::Dial, Side::Accept, Side::Both]);
    let values = || prop::collection::vec("\\PC{1,12}", 0..3);
    (
        side,
        names,
        what,
        values(),
        values(),
        "\\PC{0,20}",
        any::<u32>(),
    )
        .prop_map(|(side, names, what, services, roles, note, added)| {
            let mut entry = Entry::new(side, names, what);
            entry.attributes.services = services;
            entry.attributes.roles = roles;
            entry.attributes.added = Some(UnixTime::from_secs(added.into()));
            entry.attributes.extra = vec![("x-note".into(), note)];
            entry
        })
}
