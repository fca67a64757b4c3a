//! `comity trust list|find|show|add|remove|replace|revoke|verify`: what is remembered.

use std::sync::Arc;

use comfy_table::{ContentArrangement, Table, presets};
use comity_certs::Anchor;
use comity_identity::{Fingerprint, KeyHash, ParseHashError, PeerId, Words};
use comity_store::{Change, Deed, Home, PeerStore, UpdateError};
use comity_trust::{
    CaState, Confirmed, Edit, EditError, Entry, KnownPeers, Name, NameItem, Names, NamesError,
    Origin, Pattern, Pin, Reason, Side, What,
};
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::{
    SideArg, TrustAdd, TrustFind, TrustRemove, TrustReplace, TrustRevoke, TrustShow, TrustVerify,
};
use crate::commands::rotate;
use crate::context::{Context, now, store_failure};
use crate::messages::pin_text;
use crate::shell::{Exit, Failure, chain};

pub(crate) fn list(context: &Context) -> Outcome {
    let home = context.open_home()?;
    let store = context.store(&home, "comity trust list")?;
    let known = &store.snapshot().known;
    let mut entries: Vec<(usize, &Entry)> = known.entries().collect();
    // What nobody confirmed wants attention first.
    entries.sort_by_key(|(line, entry)| (entry.attributes.confirmed.is_some(), *line));
    show_entries(
        context,
        &entries,
        "nobody is known yet: `comity invite`, or `comity trust add`",
    );
    Ok(Exit::Yes)
}

pub(crate) fn find(context: &Context, args: &TrustFind) -> Outcome {
    let home = context.open_home()?;
    let store = context.store(&home, "comity trust find")?;
    let known = &store.snapshot().known;
    let found = matching(known, &args.what)?;
    show_entries(context, &found, "nothing is known of it");
    Ok(if found.is_empty() {
        Exit::No
    } else {
        Exit::Yes
    })
}

pub(crate) fn show(context: &Context, args: &TrustShow) -> Outcome {
    let home = context.open_home()?;
    let store = context.store(&home, "comity trust show")?;
    let known = &store.snapshot().known;
    let found = found_or_no(known, &args.peer)?;
    let value: Vec<Value> = found.iter().map(|(line, e)| entry_json(*line, e)).collect();
    let text: Vec<String> = found
        .iter()
        .map(|(line, e)| details(known, *line, e))
        .collect();
    context.shell.answer(text.join("\n\n"), &value);
    Ok(Exit::Yes)
}

pub(crate) fn add(context: &Context, args: &TrustAdd) -> Outcome {
    let home = context.open_home()?;
    let names = names(args)?;
    if args.ca.is_some() {
        refuse_ca_for_everybody(context, args, &names)?;
    }
    let mut entries = Vec::new();
    match &args.ca {
        Some(path) => {
            for anchor in context.anchors(path)? {
                entries.push(entry(args, &names, What::Ca(Arc::new(anchor)))?);
            }
        }
        None => {
            let pin = parse_pin(args.id.as_deref().unwrap_or_default())?;
            entries.push(entry(args, &names, What::Pin(pin))?);
        }
    }
    let store = context.store(&home, "comity trust add")?;
    // All of them before the first one is added.
    for entry in &entries {
        refuse_revoked(&store.snapshot().known, &entry.what)?;
    }
    for entry in &entries {
        let edit = match args.also {
            true => Edit::AddKey(Box::new(entry.clone())),
            false => Edit::Add(Box::new(entry.clone())),
        };
        apply(&store, entry_peer(entry), "add", &args.name, |known| {
            refuse_revoked(known, &entry.what)?;
            Ok(edit.clone())
        })?;
    }
    forget_pending(&home, &entries);
    let value: Vec<Value> = entries
        .iter()
        .map(|e| json!({ "names": e.names.to_string(), "what": what_text(&e.what) }))
        .collect();
    context
        .shell
        .answer(format_args!("added {}", args.name), &value);
    Ok(Exit::Yes)
}

/// When we accept, nobody was asked for, so a CA counts only for those its line names.
fn refuse_ca_for_everybody(
    context: &Context,
    args: &TrustAdd,
    names: &Names,
) -> Result<(), Failure> {
    const NEEDED: &str = "when we accept, a CA must be limited to names, --network or --role";
    let grants = &args.grants;
    let everybody = |item: &NameItem| item.to_string().bytes().all(|b| b"*?:".contains(&b));
    if !names.items().iter().any(everybody)
        || !grants.networks.is_empty()
        || !grants.roles.is_empty()
    {
        return Ok(());
    }
    match args.side {
        SideArg::Accept => Err(Failure::unable(NEEDED)
            .hint("name whom it may vouch for, such as `*.corp.example` instead of `*`")),
        SideArg::Both => {
            context
                .shell
                .warn(format_args!("{NEEDED}; this one counts only when we dial"));
            Ok(())
        }
        SideArg::Dial => Ok(()),
    }
}

/// A revocation beats every entry: one that is made in spite of it would only look like a grant.
pub(crate) fn refuse_revoked(known: &KnownPeers, what: &What) -> Result<(), Failure> {
    let (subject, line) = match what {
        What::Pin(pin) => ("key", revocation(known, pin)),
        What::Ca(anchor) => ("CA", known.revocation_of_anchor(anchor)),
        What::Revoked(_) | What::CaVerified => return Ok(()),
    };
    match line {
        None => Ok(()),
        Some(line) => Err(
            Failure::no(format!("this {subject} is revoked (known_peers:{line})"))
                .hint("a revocation is permanent; only removing the line by hand undoes it")
                .because(Reason::Revoked),
        ),
    }
}

fn revocation(known: &KnownPeers, pin: &Pin) -> Option<usize> {
    match pin {
        Pin::Node(id) => known.revocation_of_key(&id.key_hash()),
        Pin::Key(hash) => known.revocation_of_key(hash),
        Pin::Cert(fingerprint) => known.revocation_of_certificate(fingerprint),
    }
}

/// The names of an entry; for a CA always patterns, which may name hosts without ports.
fn names(args: &TrustAdd) -> Result<Names, Failure> {
    let wrong = |error: NamesError| Failure::unable(format!("`{}`: {error}", args.name));
    if args.ca.is_none() {
        return args.name.parse().map_err(wrong);
    }
    let items = args
        .name
        .split(',')
        .map(|item| Pattern::parse(item.trim()).map(NameItem::Pattern));
    let items = items.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    Names::new(items).map_err(wrong)
}

fn entry(args: &TrustAdd, names: &Names, what: What) -> Result<Entry, Failure> {
    let side = match args.side {
        SideArg::Dial => Side::Dial,
        SideArg::Accept => Side::Accept,
        SideArg::Both => Side::Both,
    };
    let mut entry = Entry::new(side, names.clone(), what);
    entry.attributes.addr = args
        .addr
        .iter()
        .map(|text| Name::parse(text).map_err(|e| Failure::unable(format!("--addr {text}: {e}"))))
        .collect::<Result<_, _>>()?;
    entry.attributes.services = args.grants.services.clone();
    entry.attributes.roles = args.grants.roles.clone();
    entry.attributes.networks = args.grants.networks.clone();
    entry.attributes.origin = Some(Origin::Hand);
    entry.attributes.added = Some(now());
    if entry.pin().is_some() {
        // Who types a full id has it from somewhere else than the connection.
        entry.attributes.confirmed = Some(Confirmed {
            at: now(),
            how: "hand".to_owned(),
        });
    }
    Ok(entry)
}

/// A peer that is added by hand need not wait any more. The queue tidies itself otherwise.
fn forget_pending(home: &Home, entries: &[Entry]) {
    let pending = comity_store::Pending::new(home, "comity trust add");
    for peer in entries.iter().filter_map(entry_peer) {
        if let Err(error) = pending.remove(&peer) {
            tracing::debug!(error = %error, "the queue was not tidied");
        }
    }
}

pub(crate) fn remove(context: &Context, args: &TrustRemove) -> Outcome {
    let home = context.open_home()?;
    let store = context.store(&home, "comity trust remove")?;
    let (mut removed, mut left) = (Vec::new(), Vec::new());
    apply(&store, None, "remove", &args.peer, |known| {
        let found = found_or_no(known, &args.peer)?;
        let (lines, others) = named_by(&found, &args.peer);
        if lines.is_empty() {
            return Err(nothing_to_remove(&args.peer, &others));
        }
        removed = owned(&lines);
        left = owned(&others);
        Ok(Edit::Remove {
            lines: lines.iter().map(|(line, _)| *line).collect(),
        })
    })?;
    let value: Vec<Value> = removed.iter().map(|(l, e)| entry_json(*l, e)).collect();
    let lines = removed.iter().map(|(line, e)| line_text(*line, e));
    let count = match removed.len() {
        1 => "1 line".to_owned(),
        n => format!("{n} lines"),
    };
    let text: Vec<String> = std::iter::once(format!("removed {} ({count})", args.peer))
        .chain(lines)
        .collect();
    context.shell.answer(text.join("\n"), &value);
    for (line, entry) in &left {
        let text = line_text(*line, entry);
        context
            .shell
            .say(format_args!("still there: {}", text.trim()));
    }
    Ok(Exit::Yes)
}

/// Which of the entries found for `what` are its own, and which only speak of it among others. A
/// peer's name stands for its keys; a CA or the memory of one protects everybody whom its pattern
/// matches, and goes only when it is named itself, by exactly this pattern or by id.
fn named_by<'k>(found: &[(usize, &'k Entry)], what: &str) -> (Lines<'k>, Lines<'k>) {
    let name = match parse_pin(what) {
        Ok(_) => None,
        Err(_) => Name::parse(what).ok(),
    };
    let is_own = |entry: &Entry| match (&entry.what, &name) {
        // A revocation is permanent: it does not go with the peer's other lines.
        (What::Revoked(_), _) => false,
        (What::Pin(_), Some(name)) => entry.names.exact().any(|n| n == name),
        (_, Some(name)) => entry.names.to_string() == name.as_str(),
        // An id, or a pattern, which was compared as a whole.
        (_, None) => true,
    };
    let (own, others): (Lines<'k>, Lines<'k>) = found.iter().partition(|(_, e)| is_own(e));
    let is_pin = |(_, entry): &(usize, &Entry)| entry.pin().is_some();
    if name.is_none() || !own.iter().any(is_pin) {
        return (own, others);
    }
    let (pins, memory): (Lines<'k>, Lines<'k>) = own.into_iter().partition(is_pin);
    (pins, others.into_iter().chain(memory).collect())
}

type Lines<'k> = Vec<(usize, &'k Entry)>;

fn owned(lines: &[(usize, &Entry)]) -> Vec<(usize, Entry)> {
    lines.iter().map(|(l, e)| (*l, (*e).clone())).collect()
}

fn line_text(line: usize, entry: &Entry) -> String {
    let what = short_what(&entry.what);
    format!("  {}  {what}  (known_peers:{line})", entry.names)
}

fn nothing_to_remove(what: &str, others: &[(usize, &Entry)]) -> Failure {
    if others
        .iter()
        .all(|(_, e)| matches!(e.what, What::Revoked(_)))
    {
        return Failure::no(format!("`{what}` is revoked, which stays"))
            .hint("remove the line from known_peers by hand, if you must")
            .because(Reason::Revoked);
    }
    let failure = Failure::no(format!(
        "no key is known as `{what}`, and only patterns match it"
    ));
    let with_lines = others.iter().fold(failure, |failure, (line, entry)| {
        failure.detail(line_text(*line, entry).trim())
    });
    with_lines
        .hint("name the one to remove by its exact pattern, or a CA by its key's id")
        .because(Reason::Unknown)
}

pub(crate) fn replace(context: &Context, args: &TrustReplace) -> Outcome {
    let home = context.open_home()?;
    let pin = parse_pin(&args.id)?;
    let store = context.store(&home, "comity trust replace")?;
    let detail = format!("{} by {}", args.peer, pin_text(&pin));
    apply(&store, pin_peer(&pin), "replace", &detail, |known| {
        refuse_revoked(known, &What::Pin(pin))?;
        let pins = pins_to_replace(known, &args.peer)?;
        let (line, old) = replaced(&pins, &pin);
        Ok(Edit::Replace {
            line,
            entry: Box::new(with_key(old, pin)),
        })
    })?;
    forget_others(&store, args, &pin)?;
    context.shell.answer(
        format_args!("{} has the key {} now", args.peer, pin_text(&pin)),
        &json!({ "peer": args.peer, "key": pin_text(&pin) }),
    );
    Ok(Exit::Yes)
}

/// The keys that a peer has here: one, or several that followed one another, of which none stays.
fn pins_to_replace<'k>(known: &'k KnownPeers, peer: &str) -> Result<Lines<'k>, Failure> {
    let found = found_or_no(known, peer)?;
    let pins: Lines<'k> = found
        .into_iter()
        .filter(|(_, e)| e.pin().is_some())
        .collect();
    let unrelated = pins.iter().filter(|(_, e)| !is_succession(e)).count();
    match pins.len() {
        0 => Err(Failure::no(format!("`{peer}` has no key to replace"))),
        n if n > 1 && unrelated > 0 => Err(Failure::unable(format!("`{peer}` has several keys"))
            .hint("remove the old one by its full id: `comity trust remove ID`, then `comity trust add --also`")),
        _ => Ok(pins),
    }
}

/// Whether a line is one of several for keys that followed one another.
fn is_succession(entry: &Entry) -> bool {
    let attributes = &entry.attributes;
    attributes.successor.is_some() || attributes.origin == Some(Origin::Succession)
}

/// The line that gets the key: the one that has it, or else the newest.
fn replaced<'k>(pins: &Lines<'k>, pin: &Pin) -> (usize, &'k Entry) {
    let same = pins.iter().find(|(_, entry)| entry.pin() == Some(pin));
    *same.or(pins.last()).expect("there is one to replace")
}

/// The entry with another key, which a person says is the right one.
fn with_key(old: &Entry, pin: Pin) -> Entry {
    let mut entry = old.clone();
    entry.what = What::Pin(pin);
    let attributes = &mut entry.attributes;
    attributes.next = None;
    attributes.seq = None;
    attributes.successor = None;
    attributes.forked = None;
    if old.attributes.successor.is_some() {
        // The end of the overlap, which is none of the new key's.
        attributes.not_after = None;
    }
    attributes.origin = Some(Origin::Hand);
    attributes.added = Some(now());
    attributes.confirmed = Some(Confirmed {
        at: now(),
        how: "hand".to_owned(),
    });
    entry
}

/// Removes the other keys of one succession: where two of them contradict each other, a person has
/// decided now.
fn forget_others(store: &PeerStore, args: &TrustReplace, pin: &Pin) -> Result<(), Failure> {
    let others = |known: &KnownPeers| -> Vec<usize> {
        let found = matching(known, &args.peer).unwrap_or_default();
        let others = found.iter().filter(|(_, entry)| {
            entry.pin().is_some_and(|other| other != pin) && is_succession(entry)
        });
        others.map(|(line, _)| *line).collect()
    };
    if others(&store.snapshot().known).is_empty() {
        return Ok(());
    }
    apply(store, None, "remove", &args.peer, |known| {
        Ok(Edit::Remove {
            lines: others(known),
        })
    })
}

pub(crate) fn revoke(context: &Context, args: &TrustRevoke) -> Outcome {
    let home = context.open_home()?;
    let store = context.store(&home, "comity trust revoke")?;
    let pins = pins_to_revoke(&store.snapshot().known, &args.peer)?;
    let mut remarks = Vec::new();
    let mut changed = false;
    for pin in &pins {
        let revoked = revoke_pin(&store, pin, &args.peer)?;
        changed |= revoked.lines_added > 0;
        if let Some(line) = revoked.before {
            let pin = pin_text(pin);
            remarks.push(format!("{pin} is revoked already (known_peers:{line})"));
            if revoked.lines_added > 0 {
                remarks.push("what this CA issued is revoked now, listed or not".to_owned());
            }
        }
        remarks.extend(certificate_alone(&store.snapshot().known, pin));
    }
    let texts: Vec<String> = pins.iter().map(pin_text).collect();
    context.shell.answer(
        format_args!("revoked {}", texts.join(", ")),
        &json!({ "revoked": texts }),
    );
    for remark in &remarks {
        context.shell.say(remark);
    }
    if changed {
        context
            .shell
            .say("its open connections close within a second; the revocation is permanent");
    }
    Ok(Exit::Yes)
}

/// What revoking a key came to.
pub(crate) struct Revoked {
    /// The line that revoked it before.
    before: Option<usize>,
    lines_added: usize,
}

/// Revokes a key, and with that of a listed CA everything that it issued. What is revoked already
/// changes nothing.
pub(crate) fn revoke_pin(store: &PeerStore, pin: &Pin, named: &str) -> Result<Revoked, Failure> {
    let any: Names = "*".parse().map_err(Failure::unable)?;
    let deed = Deed {
        action: "revoke".to_owned(),
        peer: pin_peer(pin),
        detail: named.to_owned(),
    };
    let mut before = None;
    let mut lines_added = 0;
    // A change is one line; a CA may be listed with several certificates for its key.
    loop {
        let decided = store.decide_and_record(|known| {
            let change = missing_revocation(known, pin, &any).map(|entry| Change {
                edit: Edit::Add(Box::new(entry)),
                deed: deed.clone(),
            });
            ((revocation(known, pin), change.is_some()), change)
        });
        let (line, adds) = decided.map_err(|error| update_failure(&error))?.0;
        if lines_added == 0 {
            before = line;
        }
        if !adds {
            return Ok(Revoked {
                before,
                lines_added,
            });
        }
        lines_added += 1;
    }
}

/// The next line without which `pin` is not revoked for good. The line of a CA carries its
/// certificate: by the key alone, what it issued would be known only while the CA is listed.
fn missing_revocation(known: &KnownPeers, pin: &Pin, names: &Names) -> Option<Entry> {
    let has_certificate = |anchor: &Anchor| {
        let kept = |entry: &Entry| {
            let kept = entry.revoked_authority.as_deref();
            kept.is_some_and(|kept| kept.der() == anchor.der())
        };
        known.entries().any(|(_, entry)| kept(entry))
    };
    let unkept = known.entries().find_map(|(_, entry)| match &entry.what {
        What::Ca(anchor) if is_key_of(pin, anchor) && !has_certificate(anchor) => Some(anchor),
        _ => None,
    });
    let mut entry = match (unkept, revocation(known, pin)) {
        (Some(anchor), _) => Entry::revoking(Side::Both, names.clone(), Arc::clone(anchor)),
        (None, None) => Entry::new(Side::Both, names.clone(), What::Revoked(*pin)),
        (None, Some(_)) => return None,
    };
    entry.attributes.origin = Some(Origin::Hand);
    entry.attributes.added = Some(now());
    Some(entry)
}

fn is_key_of(pin: &Pin, anchor: &Anchor) -> bool {
    !matches!(pin, Pin::Cert(_)) && pin_hash(pin) == anchor.key()
}

/// What is left open when only one certificate of a listed CA is revoked.
fn certificate_alone(known: &KnownPeers, pin: &Pin) -> Option<String> {
    let Pin::Cert(fingerprint) = pin else {
        return None;
    };
    let mut anchors = known.entries().filter_map(|(_, entry)| entry.anchor());
    let anchor = anchors.find(|anchor| {
        anchor.fingerprint() == *fingerprint || anchor.twin_fingerprints().contains(fingerprint)
    })?;
    Some(format!(
        "what this CA issued is refused only while it is listed; for ever: `comity trust revoke key:{}`",
        anchor.key()
    ))
}

/// The keys that `peer` stands for. A CA goes only when it is named itself, by exactly its pattern
/// or by an id of its own, and never with a peer whom its pattern matches.
fn pins_to_revoke(known: &KnownPeers, peer: &str) -> Result<Vec<Pin>, Failure> {
    if let Ok(pin) = parse_pin(peer) {
        return Ok(vec![key_of_listed(known, pin)]);
    }
    let found = found_or_no(known, peer)?;
    let mut pins: Vec<Pin> = found
        .iter()
        .filter_map(|(_, entry)| entry.pin().copied())
        .collect();
    if pins.is_empty() {
        let (own, _) = named_by(&found, peer);
        let anchors = own.iter().filter_map(|(_, entry)| entry.anchor());
        pins = anchors.map(|anchor| Pin::Key(anchor.key())).collect();
    }
    // The same key under two names, or for two sides, is revoked once.
    let mut seen = std::collections::HashSet::new();
    pins.retain(|pin| seen.insert(*pin));
    match pins.is_empty() {
        true => Err(Failure::no(format!("`{peer}` has no key to revoke"))
            .hint("name a CA by its exact pattern or by its key's id")),
        false => Ok(pins),
    }
}

/// A CA is listed by its certificate's fingerprint, which looks like a key's id: without `cert:` in
/// front it stands for the key, instead of for one that nobody has.
fn key_of_listed(known: &KnownPeers, pin: Pin) -> Pin {
    if matches!(pin, Pin::Cert(_)) {
        return pin;
    }
    let shown = Fingerprint::from_bytes(*pin_hash(&pin).as_bytes());
    let mut anchors = known.entries().filter_map(|(_, entry)| entry.anchor());
    anchors
        .find(|anchor| anchor.fingerprint() == shown)
        .map_or(pin, |anchor| Pin::Key(anchor.key()))
}

pub(crate) fn verify(context: &Context, args: &TrustVerify) -> Outcome {
    let home = context.open_home()?;
    let store = context.store(&home, "comity trust verify")?;
    let text = args.text.join(" ");
    let known = &store.snapshot().known;
    let pins: Vec<(usize, Pin)> = found_or_no(known, &args.peer)?
        .iter()
        .filter_map(|(line, entry)| entry.pin().map(|pin| (*line, *pin)))
        .collect();
    let mut confirmed = None;
    for (_, pin) in &pins {
        match compares(&text, pin_hash(pin)) {
            Err(cause) => return Err(Failure::unable(format!("`{text}` {cause}"))),
            Ok((true, how)) => confirmed = Some((*pin, how)),
            Ok((false, _)) => {}
        }
    }
    let Some((pin, how)) = confirmed else {
        let mut failure =
            Failure::no(format!("`{}` has another key", args.peer)).because(Reason::Changed);
        for (line, pin) in &pins {
            failure = failure.detail(format!(
                "known      {}  (known_peers:{line})",
                pin_text(pin)
            ));
        }
        return Err(failure.detail(format!("told       {text}")).hint(
            "if you were told right, somebody sat in between when it was first seen: remove it",
        ));
    };
    apply(&store, pin_peer(&pin), "confirm", &args.peer, |known| {
        let line = known
            .entries()
            .find(|(_, e)| e.pin() == Some(&pin))
            .map(|(line, _)| line);
        let line = line.ok_or_else(|| Failure::no("the entry was removed meanwhile"))?;
        Ok(Edit::Confirm {
            line,
            confirmed: Confirmed {
                at: now(),
                how: how.to_owned(),
            },
        })
    })?;
    context.shell.answer(
        format_args!("yes: {} has this key; marked as confirmed", args.peer),
        &json!({ "same": true, "key": pin_text(&pin), "how": how }),
    );
    Ok(Exit::Yes)
}

/// Whether a typed id, hexadecimal digits or words are those of `hash`, and which they were; what
/// is wrong with it when the text is none of these.
pub(crate) fn compares(text: &str, hash: KeyHash) -> Result<(bool, &'static str), String> {
    let bare = text.trim();
    let bare = ["node:", "key:", "cert:"]
        .iter()
        .find_map(|prefix| bare.strip_prefix(prefix))
        .unwrap_or(bare);
    // Words first: twelve of them may have as many letters as an id.
    if let Ok(words) = bare.parse::<Words>() {
        return Ok((words == hash.words(), "words"));
    }
    match bare.parse::<KeyHash>() {
        Ok(typed) => Ok((typed == hash, "id")),
        // An id with a slip in it is not another id.
        Err(error @ (ParseHashError::CheckCharacter { .. } | ParseHashError::TrailingBits)) => {
            Err(format!("is no id: {error}"))
        }
        Err(_) => Err("is neither an id nor twelve words".to_owned()),
    }
}

/// The keys that are pinned under a name.
pub(crate) fn peers_named(known: &KnownPeers, name: &Name) -> Vec<PeerId> {
    let mut peers: Vec<PeerId> = known
        .pins_named(name, None)
        .into_iter()
        .filter_map(|(_, entry)| entry_peer(entry))
        .collect();
    peers.sort_unstable();
    peers.dedup();
    peers
}

/// Makes one change, with its line in the audit log.
pub(crate) fn apply(
    store: &PeerStore,
    peer: Option<PeerId>,
    action: &str,
    detail: &str,
    mut edit: impl FnMut(&KnownPeers) -> Result<Edit, Failure>,
) -> Result<(), Failure> {
    let mut refused = None;
    let outcome = store.decide_and_record(|known| match edit(known) {
        Ok(edit) => {
            let deed = Deed {
                action: action.to_owned(),
                peer,
                detail: detail.to_owned(),
            };
            ((), Some(Change { edit, deed }))
        }
        Err(failure) => {
            refused = Some(failure);
            ((), None)
        }
    });
    match (outcome, refused) {
        (_, Some(failure)) => Err(failure),
        (Ok(_), None) => Ok(()),
        (Err(error), None) => Err(update_failure(&error)),
    }
}

fn update_failure(error: &UpdateError) -> Failure {
    match error {
        UpdateError::Store(error) => store_failure(error),
        UpdateError::Edit(EditError::NameTaken { name, .. }) => Failure::no(chain(error))
            .hint(format!("if its key changed: `comity trust replace {name} ID`; if it has a second one: --also")),
        UpdateError::Edit(EditError::AlreadyThere { .. }) => Failure::no(chain(error)),
        _ => Failure::unable(chain(error)),
    }
}

pub(crate) fn found_or_no<'k>(
    known: &'k KnownPeers,
    what: &str,
) -> Result<Vec<(usize, &'k Entry)>, Failure> {
    let found = matching(known, what)?;
    match found.is_empty() {
        true => Err(Failure::no(format!("nothing is known of `{what}`"))
            .hint("`comity trust list` shows who is known")
            .because(Reason::Unknown)),
        false => Ok(found),
    }
}

/// The entries that a label, `HOST:PORT` or id stands for.
fn matching<'k>(known: &'k KnownPeers, what: &str) -> Result<Vec<(usize, &'k Entry)>, Failure> {
    if let Ok(pin) = parse_pin(what) {
        let same = |entry: &Entry| match &entry.what {
            What::Pin(other) | What::Revoked(other) => pin_hash(other) == pin_hash(&pin),
            What::Ca(anchor) => anchor.key() == pin_hash(&pin),
            What::CaVerified => false,
        };
        return Ok(known.entries().filter(|(_, entry)| same(entry)).collect());
    }
    // A pattern finds the entry that has just this pattern.
    if what.contains(['*', '?', '!']) {
        return Ok(known
            .entries()
            .filter(|(_, entry)| entry.names.to_string() == what)
            .collect());
    }
    let name = Name::parse(what).map_err(|error| Failure::unable(format!("`{what}`: {error}")))?;
    Ok(known
        .entries()
        .filter(|(_, entry)| !matches!(entry.what, What::Revoked(_)) && entry.names.matches(&name))
        .collect())
}

/// A full id; `key:` or `cert:` in front for a foreign peer's key or certificate.
fn parse_pin(text: &str) -> Result<Pin, Failure> {
    let wrong = |error: comity_identity::ParseHashError| {
        Failure::unable(format!("`{text}` is no full id: {error}"))
    };
    match text.strip_prefix("cert:") {
        Some(hash) => hash.parse().map(Pin::Cert).map_err(wrong),
        None => text.parse::<PeerId>().map(Pin::from).map_err(wrong),
    }
}

fn pin_hash(pin: &Pin) -> KeyHash {
    match pin {
        Pin::Node(id) => id.key_hash(),
        Pin::Key(hash) => *hash,
        Pin::Cert(fingerprint) => KeyHash::from_bytes(*fingerprint.as_bytes()),
    }
}

fn pin_peer(pin: &Pin) -> Option<PeerId> {
    match pin {
        Pin::Node(id) => Some(PeerId::Node(*id)),
        Pin::Key(hash) => Some(PeerId::Key(*hash)),
        Pin::Cert(_) => None,
    }
}

fn entry_peer(entry: &Entry) -> Option<PeerId> {
    entry.pin().and_then(pin_peer)
}

fn show_entries(context: &Context, entries: &[(usize, &Entry)], none: &str) {
    let value: Vec<Value> = entries
        .iter()
        .map(|(line, e)| entry_json(*line, e))
        .collect();
    if entries.is_empty() && !context.shell.json {
        context.shell.say(none);
        return;
    }
    context.shell.answer(table(entries), &value);
}

fn table(entries: &[(usize, &Entry)]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "NAME",
        "SIDE",
        "WHAT",
        "FOR",
        "ROLES",
        "ORIGIN",
        "CONFIRMED",
        "LINE",
    ]);
    for (line, entry) in entries {
        let attributes = &entry.attributes;
        table.add_row([
            entry.names.to_string(),
            entry.side.token().to_owned(),
            format!("{}{}", short_what(&entry.what), standing(entry)),
            dash(attributes.services.join(",")),
            dash(attributes.roles.join(",")),
            dash(attributes.origin.map(|o| o.to_string()).unwrap_or_default()),
            match (&entry.what, &attributes.confirmed) {
                (_, Some(confirmed)) => confirmed.to_string(),
                (What::Pin(_), None) => "NO".to_owned(),
                _ => "-".to_owned(),
            },
            line.to_string(),
        ]);
    }
    let text = table.to_string();
    text.lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}

fn dash(text: String) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

fn short_what(what: &What) -> String {
    match what {
        What::Pin(Pin::Node(id)) => format!("node {}…", id.short()),
        What::Pin(Pin::Key(hash)) => format!("key {}…", hash.short()),
        What::Pin(Pin::Cert(hash)) => format!("cert {}…", hash.short()),
        What::Revoked(pin) => format!("REVOKED {}…", pin_hash(pin).short()),
        What::Ca(anchor) => format!("CA {}", anchor.subject()),
        What::CaVerified => "seen with a CA".to_owned(),
    }
}

/// What else there is to know of a key or CA at first sight: most have nothing.
fn standing(entry: &Entry) -> String {
    let attributes = &entry.attributes;
    match (attributes.forked, attributes.successor, attributes.state) {
        (Some(_), ..) => " FORKED".to_owned(),
        (None, Some(_), _) => " (old)".to_owned(),
        (None, None, Some(state)) if state != CaState::Active => format!(" ({state})"),
        _ => String::new(),
    }
}

fn what_text(what: &What) -> String {
    match what {
        What::Pin(pin) => pin_text(pin),
        What::Revoked(pin) => format!("revoked {}", pin_text(pin)),
        What::Ca(anchor) => format!("ca {}", anchor.fingerprint()),
        What::CaVerified => "ca-verified".to_owned(),
    }
}

fn entry_json(line: usize, entry: &Entry) -> Value {
    let attributes = &entry.attributes;
    json!({
        "line": line,
        "names": entry.names.to_string(),
        "side": entry.side.token(),
        "what": what_text(&entry.what),
        "words": entry.pin().map(|pin| pin_hash(pin).words().to_string()),
        "addresses": attributes.addr.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "services": attributes.services,
        "roles": attributes.roles,
        "networks": attributes.networks,
        "next": attributes.next.map(|n| n.to_string()),
        "origin": attributes.origin.map(|o| o.token()),
        "added": attributes.added.map(|t| t.to_string()),
        "confirmed": attributes.confirmed.as_ref().map(|c| c.to_string()),
        "not_after": attributes.not_after.map(|t| t.to_string()),
        "seq": attributes.seq,
        "successor": attributes.successor.map(|id| id.to_string()),
        "forked": attributes.forked.map(|t| t.to_string()),
        "state": entry.anchor().map(|_| attributes.state.unwrap_or_default().token()),
    })
}

fn details(known: &KnownPeers, line: usize, entry: &Entry) -> String {
    let attributes = &entry.attributes;
    let mut rows = vec![format!("{}  (known_peers:{line})", entry.names)];
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            rows.push(format!("  {name:<10} {value}"));
        }
    };
    match &entry.what {
        What::Ca(anchor) => {
            row("CA", anchor.subject().to_owned());
            row("fingerprint", anchor.fingerprint().to_string());
            row("key", pin_text(&Pin::Key(anchor.key())));
            row("valid", validity(anchor));
            row("state", rotate::state(entry).to_string());
        }
        what => row("key", what_text(what)),
    }
    row(
        "words",
        entry
            .pin()
            .map(|pin| pin_hash(pin).words().to_string())
            .unwrap_or_default(),
    );
    let revoked = entry.pin().and_then(|pin| revocation(known, pin));
    row(
        "REVOKED",
        revoked.map_or_else(String::new, |line| format!("known_peers:{line}")),
    );
    row("side", entry.side.token().to_owned());
    let addresses: Vec<&str> = attributes.addr.iter().map(Name::as_str).collect();
    row("addresses", addresses.join(", "));
    row("services", attributes.services.join(", "));
    row("roles", attributes.roles.join(", "));
    row("networks", attributes.networks.join(", "));
    row(
        "origin",
        attributes.origin.map(|o| o.to_string()).unwrap_or_default(),
    );
    row(
        "added",
        attributes.added.map(|t| t.to_string()).unwrap_or_default(),
    );
    row(
        "confirmed",
        match (&attributes.confirmed, entry.pin()) {
            (Some(confirmed), _) => confirmed.to_string(),
            (None, Some(_)) => "never; `comity trust verify` does".to_owned(),
            (None, None) => String::new(),
        },
    );
    row(
        "FORKED",
        attributes.forked.map_or_else(String::new, |since| {
            format!("since {since}: two keys claim to follow one; refused until `comity trust replace` or `remove`")
        }),
    );
    row(
        "successor",
        attributes
            .successor
            .map(|id| id.to_string())
            .unwrap_or_default(),
    );
    row(
        "change",
        attributes
            .seq
            .map(|seq| seq.to_string())
            .unwrap_or_default(),
    );
    row(
        "next key",
        attributes.next.map(|n| n.to_string()).unwrap_or_default(),
    );
    row(
        "until",
        attributes
            .not_after
            .map(|t| t.to_string())
            .unwrap_or_default(),
    );
    rows.join("\n")
}

fn validity(anchor: &Anchor) -> String {
    format!("{} to {}", anchor.not_before(), anchor.not_after())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_compared_in_every_spelling() {
        let hash = KeyHash::of_spki(b"key");
        let other = KeyHash::of_spki(b"other");
        for text in [hash.to_string(), hash.to_hex(), format!("key:{hash}")] {
            assert_eq!(compares(&text, hash), Ok((true, "id")), "{text}");
            assert_eq!(compares(&text, other), Ok((false, "id")), "{text}");
        }
        let words = hash.words().to_string();
        assert_eq!(compares(&words, hash), Ok((true, "words")));
        assert_eq!(compares(&words, other), Ok((false, "words")));
        assert!(compares("maybe", hash).is_err());
        // 56 letters, as many as an id has.
        let long = "novel pass useless vessel dust loud stool lion web face riot finger";
        assert_eq!(compares(long, hash), Ok((false, "words")));
    }
}
