//! What we remember, what people type to name a peer, and the decision over both.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use comity_certs::PresentedChain;
use comity_identity::{NodeId, PeerId, UnixTime};
use comity_tls::ServiceName;
use comity_trust::invitation::{Invitation, InvitationError, MAX_ADDRESSES, PREFIX};
use comity_trust::{
    AllowRule, Confirmed, Direction, Edit, EditError, Entry, Expectation, Invited, Invitee,
    KnownPeers, MAX_LABEL_CHARS, Mode, Name, NameItem, Names, Networks, Origin, Pattern, Phase,
    Query, Reason, Recognition, Succeeded, SuccessionPolicy, Target, Verdict, authorise, decide,
    explain, resolve,
};
use data_encoding::{BASE32_NOPAD, BASE64};

use super::{assert_printable, split, text};
use crate::certificates::TODAY;

/// Entries of one document that are edited: each edit copies the document.
const EDITED: usize = 8;

/// Lines below this length stay below the limit when everything in them is escaped.
const SHORT_LINE: usize = 16 * 1024;

/// `known_peers`: kept byte for byte, and readable after every edit.
pub fn known_peers(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let known = match KnownPeers::parse(text) {
        Ok(known) => known,
        Err(error) => {
            assert!(error.line >= 1 && error.column >= 1);
            assert!(error.line <= text.split_inclusive('\n').count().max(1));
            error.hint.iter().for_each(|hint| assert_printable(hint));
            return assert_printable(&error);
        }
    };
    assert_eq!(known.to_text(), text);
    for (line, entry) in known.entries().take(EDITED) {
        let length = text.lines().nth(line - 1).map_or(0, str::len);
        edit(&known, line, entry, length < SHORT_LINE);
    }
}

fn edit(known: &KnownPeers, line: usize, entry: &Entry, short: bool) {
    let confirmed = Confirmed {
        at: TODAY,
        how: "hand".into(),
    };
    let mut expected = entry.clone();
    expected.attributes.confirmed = Some(confirmed.clone());
    match known.with(Edit::Confirm { line, confirmed }) {
        Ok(after) => {
            assert_readable(&after);
            assert_eq!(after.entry(line), Some(&expected));
            assert_others_kept(known, &after, line);
        }
        Err(error) => assert!(!short, "{error}"),
    }
    let freeze = Edit::Freeze {
        lines: vec![line],
        at: TODAY,
    };
    match known.with(freeze) {
        Ok(after) => {
            assert_readable(&after);
            let frozen = after.entry(line).expect("the same line");
            let since = entry.attributes.forked.or(Some(TODAY));
            assert_eq!(frozen.attributes.forked, since);
            assert_others_kept(known, &after, line);
        }
        // Only a node's key can be claimed by two.
        Err(error) => assert!(!short || entry.node().is_none(), "{error}"),
    }
    let succeeded = Succeeded {
        line,
        old: entry.clone(),
        new: vec![entry.clone()],
        dropped: Vec::new(),
    };
    match known.with(Edit::Succeed {
        lines: vec![succeeded],
    }) {
        Ok(after) => {
            assert_readable(&after);
            assert!(after.line_count() - known.line_count() <= 1);
        }
        Err(error) => assert!(!short, "{error}"),
    }
    let entry = Box::new(entry.clone());
    let same = Edit::Replace {
        line,
        entry: entry.clone(),
    };
    match known.with(same) {
        Ok(after) => {
            assert_readable(&after);
            assert_eq!(after.entry(line), Some(&*entry));
            assert_others_kept(known, &after, line);
        }
        Err(error) => assert!(!short, "{error}"),
    }
    let after = known.with(Edit::Remove { lines: vec![line] });
    let after = after.expect("an entry of this line");
    assert_readable(&after);
    assert_eq!(after.line_count() + 1, known.line_count());
    match KnownPeers::empty().with(Edit::Add(entry.clone())) {
        Ok(after) => {
            assert_readable(&after);
            assert_eq!(after.entry(2), Some(&*entry));
        }
        Err(error) => assert!(!short, "{error}"),
    }
    match known.with(Edit::Add(entry)) {
        Ok(after) => assert_appended(known, &after),
        Err(EditError::AlreadyThere { line } | EditError::NameTaken { line, .. }) => {
            assert!(known.entry(line).is_some());
        }
        Err(error) => assert!(!short, "{error}"),
    }
}

/// What is written is what a reader of the file will see.
fn assert_readable(known: &KnownPeers) {
    let again = KnownPeers::parse(&known.to_text()).expect("our own text");
    assert_eq!(&again, known);
    assert!(again.entries().eq(known.entries()));
}

fn assert_appended(before: &KnownPeers, after: &KnownPeers) {
    assert_readable(after);
    assert_eq!(after.line_count(), before.line_count() + 1);
    assert!(after.to_text().starts_with(&before.to_text()));
}

fn assert_others_kept(before: &KnownPeers, after: &KnownPeers, line: usize) {
    let (before, after) = (before.to_text(), after.to_text());
    let others = |text: &str| {
        let lines = text.split_inclusive('\n').enumerate();
        let others = lines.filter(|(index, _)| index + 1 != line);
        others.map(|(_, text)| text.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(others(&before), others(&after));
}

/// Names and patterns: lines of them, each read in every way.
pub fn name(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let mut items = Vec::new();
    for word in text.lines().take(64) {
        for name in [
            Name::parse(word),
            Name::label(word),
            Name::host_port(word, 7117),
        ] {
            match name {
                Ok(name) => {
                    assert_canonical(&name);
                    items.push(NameItem::Exact(name));
                }
                Err(error) => assert_printable(&error),
            }
        }
        match Pattern::parse(word) {
            Ok(pattern) => {
                assert_eq!(Pattern::parse(&pattern.to_string()).as_ref(), Ok(&pattern));
                items.push(NameItem::Pattern(pattern));
            }
            Err(error) => assert_printable(&error),
        }
    }
    let exact: Vec<Name> = items.iter().filter_map(exact).collect();
    match Names::new(items) {
        Ok(names) => {
            let excluded = |item: &NameItem| matches!(item, NameItem::Pattern(p) if p.is_negated());
            if !names.items().iter().any(excluded) {
                assert!(exact.iter().all(|name| names.matches(name)));
            }
        }
        Err(error) => assert_printable(&error),
    }
}

fn exact(item: &NameItem) -> Option<Name> {
    match item {
        NameItem::Exact(name) => Some(name.clone()),
        NameItem::Pattern(_) => None,
    }
}

/// Equal names have equal text, and no text that could break a line of `known_peers`.
fn assert_canonical(name: &Name) {
    let text = name.as_str();
    assert_eq!(Name::parse(text).as_ref(), Ok(name));
    let breaks = |c: char| c.is_whitespace() || c.is_control() || [',', '#', '@'].contains(&c);
    assert!(!text.contains(breaks), "{text:?}");
    if name.is_label() {
        assert!((1..=MAX_LABEL_CHARS).contains(&text.chars().count()));
        assert_eq!(Name::label(text).as_ref(), Ok(name));
        assert!(text.parse::<PeerId>().is_err(), "{text} is an id");
        assert_eq!((name.host(), name.port()), (None, None));
    } else {
        let (host, port) = (name.host().expect("a host"), name.port().expect("a port"));
        assert!(text.is_ascii() && host.len() <= 253 && port != 0);
        assert_eq!(Name::host_port(host, port).as_ref(), Ok(name));
        assert!(Name::label(text).is_err());
    }
}

/// The text of an invitation.
pub fn invitation(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Some(invitation) = read_invitation(text) {
        let lower = text.to_ascii_lowercase();
        assert_eq!(Invitation::parse(&lower).as_ref(), Ok(&invitation));
    }
}

/// What an invitation says: the bytes between its header and its check, in both versions.
pub fn invitation_body(data: &[u8]) {
    let Ok(length) = u16::try_from(data.len()) else {
        return;
    };
    for version in [1, 2] {
        let mut bytes = vec![version];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(data);
        let checked = [b"comity invitation check v1\0".as_slice(), &bytes].concat();
        bytes.extend_from_slice(&digest(&SHA256, &checked).as_ref()[..4]);
        let text = format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes));
        if let Some(invitation) = read_invitation(&text) {
            assert_eq!(invitation.network_id.is_some(), version == 2);
        }
        let known = &*KNOWN;
        assert!(!matches!(
            resolve(&text, known),
            Ok(Target::Address(_) | Target::Known { .. })
        ));
        assert_ne!(Invitation::parse(&text), Err(InvitationError::Check));
    }
}

fn read_invitation(text: &str) -> Option<Invitation> {
    let invitation = match Invitation::parse(text) {
        Ok(invitation) => invitation,
        Err(error) => {
            assert_printable(&error);
            return None;
        }
    };
    assert!((1..=MAX_ADDRESSES).contains(&invitation.addresses.len()));
    for address in &invitation.addresses {
        assert!(!address.is_label());
        assert_canonical(address);
    }
    invitation.label.iter().for_each(assert_canonical);
    invitation
        .network
        .iter()
        .for_each(|network| assert_printable(network));
    let again = invitation.to_text().expect("it was read");
    assert_eq!(Invitation::parse(&again).as_ref(), Ok(&invitation));
    Some(invitation)
}

/// The PEER of the command line.
pub fn peer_argument(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let known = &*KNOWN;
    match resolve(text, known) {
        Ok(Target::Known { label, addresses }) => {
            assert!(known.has_pin_named(&label));
            assert!(addresses.iter().all(|address| !address.is_label()));
        }
        Ok(Target::Id { id, .. }) => {
            let again = resolve(&id.to_string(), known).expect("an id");
            assert_eq!(again.expectation().id, Some(id));
        }
        Ok(Target::Address(name)) => {
            assert_eq!(resolve(name.as_str(), known), Ok(Target::Address(name)));
        }
        Ok(Target::Invitation(invitation)) => {
            assert_eq!(Invitation::parse(text).as_ref(), Ok(&*invitation));
        }
        Err(error) => assert_printable(&error),
    }
}

/// The WHO of `--allow`.
pub fn allow_rule(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let known = &*KNOWN;
    match AllowRule::parse(text, known, &NO_NETWORKS) {
        Ok(rule) => {
            assert_ne!(rule, AllowRule::Granted, "that is never spelt out");
            assert_eq!(
                AllowRule::parse(&rule.to_string(), known, &NO_NETWORKS),
                Ok(rule)
            );
        }
        Err(error) => assert_printable(&error),
    }
}

/// The closed lists of words: modes, reasons, origins; and names of services.
pub fn token(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match text.parse::<Mode>() {
        Ok(mode) => assert_eq!(mode.token().parse(), Ok(mode)),
        Err(error) => assert_printable(&error),
    }
    if let Ok(reason) = text.parse::<Reason>() {
        assert_eq!(reason.token().parse(), Ok(reason));
    }
    if let Ok(origin) = text.parse::<Origin>() {
        assert_eq!(origin.token(), text);
    }
    if let Ok(service) = text.parse::<ServiceName>() {
        assert_eq!(service.as_str(), text);
        assert_printable(&service);
    }
}

/// What the arguments are resolved against.
static KNOWN: LazyLock<KnownPeers> = LazyLock::new(|| {
    let id = NodeId::from_bytes([7; 32]);
    let key = "ab".repeat(32);
    let text = format!(
        "comity-known-peers v1\n\
         both ops-db,db1.example:5432 node {id} addr=192.0.2.1:7117 for=db networks=fleet,both\n\
         accept laptop,both key {key} roles=reader\n"
    );
    KnownPeers::parse(&text).expect("a sound document")
});

/// The decision over a chain and a document, in one mode, direction and phase.
///
/// Two bytes of choices, the length of the document in two bytes, the document, and the chain. In
/// the document `$NODE`, `$KEY`, `$CERT`, `$LAST` and `$CA` stand for the pins of what is
/// presented, the key of its last certificate, and that certificate as an authority, so that a
/// document can speak of its peer.
pub fn decision(data: &[u8]) {
    let Some(([mode, choices, high, low], rest)) = data.split_first_chunk() else {
        return;
    };
    let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
    let (document, rest) = rest.split_at(length);
    let Ok(chain) = PresentedChain::parse(&split(rest)) else {
        return;
    };
    let Some(Ok(known)) = text(document).map(|t| KnownPeers::parse(&fill_in(t, &chain))) else {
        return;
    };
    let question = Question::new(*mode, *choices, &chain);
    assert_sound(&question.query(&chain, &known), *choices);
}

fn fill_in(document: &str, chain: &PresentedChain) -> String {
    let last = chain.der().last().expect("never empty");
    let last_key = chain.keys().last().expect("never empty");
    let leaf = chain.leaf();
    document
        .replace("$NODE", &format!("node {}", chain.peer_id().key_hash()))
        .replace("$KEY", &format!("key {}", leaf.key))
        .replace("$CERT", &format!("cert {}", leaf.fingerprint))
        .replace("$LAST", &format!("key {last_key}"))
        .replace("$CA", &format!("ca {}", BASE64.encode(last)))
}

/// What lives as long as a query.
struct Question {
    mode: Mode,
    direction: Direction,
    phase: Phase,
    expectation: Expectation,
    invitee: Option<Invitee>,
}

impl Question {
    fn new(mode: u8, choices: u8, chain: &PresentedChain) -> Self {
        let chosen = |bit: u8| choices >> bit & 1 == 1;
        let name = Name::parse("db.example:5432").expect("a name");
        let id = match (chosen(4), chosen(5)) {
            (false, _) => None,
            (true, false) => Some(chain.peer_id()),
            (true, true) => Some(STRANGER),
        };
        Self {
            mode: Mode::ALL[usize::from(mode) % Mode::ALL.len()],
            direction: [Direction::Dial, Direction::Accept][usize::from(choices & 1)],
            phase: [
                Phase::Certificate,
                Phase::Gate,
                Phase::Established,
                Phase::Gate,
            ][usize::from(choices >> 1 & 3)],
            expectation: Expectation {
                port: None,
                server_name: name.server_name().filter(|_| chosen(3)),
                name: Some(name).filter(|_| chosen(3)),
                id,
                network: None,
            },
            invitee: chosen(6).then(Invitee::default),
        }
    }

    fn query<'a>(&'a self, chain: &'a PresentedChain, known: &'a KnownPeers) -> Query<'a> {
        Query {
            direction: self.direction,
            mode: self.mode,
            phase: self.phase,
            chain,
            expectation: &self.expectation,
            known,
            system_roots: &[],
            own: &[],
            networks: &NO_NETWORKS,
            succession: SuccessionPolicy::default(),
            invited: self.invitee.as_ref().map_or(Invited::No, Invited::Proven),
            now: TODAY,
        }
    }
}

static NO_NETWORKS: Networks = Networks::empty();

/// An id that no chain has.
const STRANGER: PeerId = PeerId::Node(NodeId::from_bytes([7; 32]));

/// What holds of every decision.
fn assert_sound(query: &Query<'_>, choices: u8) {
    let explanation = explain(query);
    let verdict = decide(query);
    assert_eq!(
        explanation.verdict, verdict,
        "explain says what decide does"
    );
    let recognition = match &verdict {
        Verdict::Accept(recognition) => recognition,
        Verdict::Refuse(refusal) => {
            assert_eq!(refusal.presented, query.chain.peer_id());
            if let Some(record) = &refusal.record {
                assert_eq!(query.phase, Phase::Gate, "only the gate records");
                let after = query.known.with(Edit::clone(record));
                assert_readable(&after.expect("what the gate must write"));
            }
            return;
        }
    };
    assert_eq!(recognition.peer, query.chain.peer_id());
    if query.direction == Direction::Accept && query.phase == Phase::Certificate {
        // Every chain passes here and nothing is decided.
        assert!(!recognition.how.may_grant() && recognition.record.is_none());
        return;
    }
    assert_eq!(
        query.known.revocation_of(query.chain),
        None,
        "a revoked peer is never accepted"
    );
    if query.direction == Direction::Dial && choices >> 4 & 1 == 1 {
        assert_eq!(query.expectation.id, Some(recognition.peer));
    }
    assert!(recognition.ends >= query.now || query.mode == Mode::Insecure || warned(recognition));
    if !recognition.how.may_grant() {
        let refused = authorise("db", &AllowRule::Granted, recognition);
        assert_eq!(refused, Err(Reason::NotAuthorised));
    }
    assert_recorded(query, recognition);
}

/// A pinned foreign certificate and the modes that record may go on after their time.
fn warned(recognition: &Recognition) -> bool {
    !recognition.warnings.is_empty() || recognition.ends == UnixTime::NEVER
}

/// What the gate is told to record can be recorded, and carries the connection afterwards.
fn assert_recorded(query: &Query<'_>, recognition: &Recognition) {
    let Some(record) = &recognition.record else {
        return;
    };
    assert_eq!(query.phase, Phase::Gate, "only the gate records");
    let after = query.known.with(Edit::clone(record));
    let after = after.expect("what the gate must add");
    assert_readable(&after);
    let later = Query {
        phase: Phase::Established,
        known: &after,
        ..*query
    };
    if let Verdict::Refuse(refusal) = decide(&later) {
        panic!("recorded, then refused: {refusal:?}");
    }
}
