//! `comity trust rotate`: a listed CA is replaced by another, with overlap.
//!
//! All three states count: a CA that is listed as the next one already recognises what it issues, so
//! its owner may begin whenever it likes, and one that retires still does until its last second.

use std::path::Path;
use std::sync::Arc;

use comity_certs::{Anchor, CertificateKind, describe};
use comity_identity::{Fingerprint, KeyHash, UnixTime};
use comity_store::PeerStore;
use comity_trust::{
    Attributes, CaState, Edit, Entry, KnownPeers, Name, NameItem, Names, Origin, Pattern, What,
};
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::rotation::TrustRotate;
use crate::commands::memory::{apply, refuse_revoked};
use crate::context::{Context, now};
use crate::shell::{Exit, Failure};

pub(crate) fn rotate(context: &Context, args: &TrustRotate) -> Outcome {
    let home = context.open_home()?;
    let store = context.store(&home, "comity trust rotate")?;
    let step = step(context, args)?;
    let known = &store.snapshot().known;
    let listed = listed(known, &args.name)?;
    let affected = match &step {
        Step::Retire(hash, _) => affected(known, find(&listed, &args.name, hash)?),
        Step::List(_) | Step::Activate(_) => Vec::new(),
    };
    if args.dry_run {
        let planned = step.edits(known, &args.name)?;
        show(context, args, &planned, &affected, true);
        return Ok(Exit::Yes);
    }
    let planned = step.take(&store, &args.name)?;
    show(context, args, &planned, &affected, false);
    Ok(Exit::Yes)
}

/// One of the three steps.
enum Step {
    List(Vec<Arc<Anchor>>),
    Activate(String),
    /// With its last second.
    Retire(String, UnixTime),
}

fn step(context: &Context, args: &TrustRotate) -> Result<Step, Failure> {
    Ok(match (&args.ca, &args.activate, &args.retire) {
        (Some(path), ..) => Step::List(anchors(context, path)?),
        (_, Some(hash), _) => Step::Activate(hash.clone()),
        (.., Some(hash)) => Step::Retire(hash.clone(), now() + args.overlap),
        // The arguments need one of them.
        _ => return Err(Failure::unable("name one of --ca, --activate and --retire")),
    })
}

fn anchors(context: &Context, path: &Path) -> Result<Vec<Arc<Anchor>>, Failure> {
    let anchors = context.anchors(path)?;
    anchors.iter().try_for_each(refuse_own_kind)?;
    Ok(anchors.into_iter().map(Arc::new).collect())
}

/// A root of a node or a network, listed as a CA, would vouch for whatever it likes, and not for what its
/// profile allows.
fn refuse_own_kind(anchor: &Anchor) -> Result<(), Failure> {
    let description = describe(anchor.der());
    let (kind, hint) = match description.map(|d| d.kind) {
        Ok(CertificateKind::NodeRoot(node)) => (
            "the root of a Comity node",
            format!("its operator runs `comity identity roll`; its id is {node}"),
        ),
        Ok(CertificateKind::Authority(_)) => (
            "a key of a Comity network",
            "networks follow their own keys: `comity network import FILE` takes its bundle"
                .to_owned(),
        ),
        _ => return Ok(()),
    };
    Err(Failure::no(format!(
        "{} is {kind}, and no CA that is listed",
        anchor_name(anchor)
    ))
    .hint(hint))
}

/// What a step came to, or would.
struct Planned {
    edits: Vec<(Edit, String)>,
}

impl Step {
    /// The changes of this step, each with what is said about it.
    fn edits(&self, known: &KnownPeers, name: &str) -> Result<Planned, Failure> {
        let listed = listed(known, name)?;
        let edits = match self {
            Self::List(anchors) => {
                let template = template(&listed, name)?;
                let new = anchors.iter().filter(|new| !is_listed(&listed, new));
                let edits = new.map(|anchor| next_entry(known, template, anchor));
                edits.collect::<Result<Vec<_>, _>>()?
            }
            Self::Activate(hash) => {
                let (line, entry) = find(&listed, name, hash)?;
                activated(line, entry).into_iter().collect()
            }
            Self::Retire(hash, end) => {
                let retiring = find(&listed, name, hash)?;
                check_successor(&listed, retiring, name)?;
                vec![retired(retiring, *end)]
            }
        };
        Ok(Planned { edits })
    }

    /// Makes the changes, each worked out from what the file says then.
    fn take(&self, store: &PeerStore, name: &str) -> Result<Planned, Failure> {
        let planned = self.edits(&store.snapshot().known, name)?;
        for index in 0..planned.edits.len() {
            apply(store, None, "rotate", name, |known| match self {
                // What was listed by the first change is not planned any more.
                Self::List(_) => first_edit(self.edits(known, name)?),
                Self::Activate(_) | Self::Retire(..) => self
                    .edits(known, name)?
                    .edits
                    .into_iter()
                    .nth(index)
                    .map(|(edit, _)| edit)
                    .ok_or_else(changed_meanwhile),
            })?;
        }
        Ok(planned)
    }
}

fn first_edit(planned: Planned) -> Result<Edit, Failure> {
    let first = planned.edits.into_iter().next();
    first.map(|(edit, _)| edit).ok_or_else(changed_meanwhile)
}

fn changed_meanwhile() -> Failure {
    Failure::no("the entry was changed meanwhile")
}

/// The CAs that are listed for exactly these patterns.
fn listed<'k>(known: &'k KnownPeers, name: &str) -> Result<Vec<(usize, &'k Entry)>, Failure> {
    let written = patterns(name).map_or_else(|| name.to_owned(), |names| names.to_string());
    let entries = known
        .entries()
        .filter(|(_, entry)| entry.anchor().is_some() && entry.names.to_string() == written);
    let listed: Vec<_> = entries.collect();
    match listed.is_empty() {
        true => Err(Failure::no(format!("no CA is listed for `{name}`"))
            .hint("`comity trust list` shows the patterns of each; `comity trust add PATTERN --ca FILE` lists the first")),
        false => Ok(listed),
    }
}

fn patterns(name: &str) -> Option<Names> {
    let items = name
        .split(',')
        .map(|item| Pattern::parse(item.trim()).map(NameItem::Pattern));
    Names::new(items.collect::<Result<Vec<_>, _>>().ok()?).ok()
}

/// The CA with this fingerprint, or with this key.
fn find<'k>(
    listed: &[(usize, &'k Entry)],
    name: &str,
    hash: &str,
) -> Result<(usize, &'k Entry), Failure> {
    let found: Vec<(usize, &Entry)> = listed
        .iter()
        .filter(|(_, entry)| entry.anchor().is_some_and(|anchor| is_named(anchor, hash)))
        .copied()
        .collect();
    match found.as_slice() {
        [one] => Ok(*one),
        [] => {
            let mut failure = Failure::no(format!(
                "no CA with the hash `{hash}` is listed for `{name}`"
            ));
            for (line, entry) in listed {
                failure = failure.detail(anchor_text(*line, entry));
            }
            Err(failure)
        }
        _ => Err(Failure::unable(format!(
            "several certificates of the key `{hash}` are listed for `{name}`"
        ))
        .hint("name one by its fingerprint: `comity trust show` tells it")),
    }
}

fn is_named(anchor: &Anchor, hash: &str) -> bool {
    let bare = hash.strip_prefix("cert:").unwrap_or(hash);
    let is_certificate = bare.parse::<Fingerprint>() == Ok(anchor.fingerprint());
    let bare = hash.strip_prefix("key:").unwrap_or(hash);
    is_certificate || bare.parse::<KeyHash>() == Ok(anchor.key())
}

fn is_listed(listed: &[(usize, &Entry)], new: &Anchor) -> bool {
    let mut anchors = listed.iter().filter_map(|(_, entry)| entry.anchor());
    anchors.any(|anchor| anchor.der() == new.der())
}

/// The entry whose scope the next CA gets: that of those that issue, which must agree.
fn template<'k>(listed: &[(usize, &'k Entry)], name: &str) -> Result<&'k Entry, Failure> {
    let issuing = listed
        .iter()
        .filter(|(_, entry)| state(entry) == CaState::Active);
    let issuing: Vec<&Entry> = issuing.map(|(_, entry)| *entry).collect();
    let scope = |entry: &Entry| {
        let attributes = &entry.attributes;
        (
            entry.side,
            attributes.roles.clone(),
            attributes.networks.clone(),
        )
    };
    match issuing.as_slice() {
        [] => Ok(listed[0].1),
        [first, rest @ ..] if rest.iter().all(|other| scope(other) == scope(first)) => Ok(first),
        _ => Err(Failure::unable(format!(
            "the CAs that are listed for `{name}` may attest different things"
        ))
        .hint("say what the new one may: `comity trust add … --ca FILE --role … --network …`")),
    }
}

fn next_entry(
    known: &KnownPeers,
    template: &Entry,
    anchor: &Arc<Anchor>,
) -> Result<(Edit, String), Failure> {
    let what = What::Ca(Arc::clone(anchor));
    refuse_revoked(known, &what)?;
    let mut entry = Entry::new(template.side, template.names.clone(), what);
    entry.attributes = Attributes {
        roles: template.attributes.roles.clone(),
        networks: template.attributes.networks.clone(),
        services: template.attributes.services.clone(),
        origin: Some(Origin::Hand),
        added: Some(now()),
        state: Some(CaState::Next),
        ..Attributes::default()
    };
    let text = format!("{} is listed as the next CA", anchor_name(anchor));
    Ok((Edit::Add(Box::new(entry)), text))
}

/// Nothing to do for one that issues already.
fn activated(line: usize, entry: &Entry) -> Option<(Edit, String)> {
    if state(entry) == CaState::Active {
        return None;
    }
    let mut active = entry.clone();
    if state(entry) == CaState::Retiring {
        active.attributes.not_after = None;
    }
    active.attributes.state = None;
    let text = format!(
        "{} is active",
        entry.anchor().map_or_else(String::new, anchor_name)
    );
    let entry = Box::new(active);
    Some((Edit::Replace { line, entry }, text))
}

/// Whoever retires the last CA that issues cuts everybody off at the end of the overlap.
fn check_successor(
    listed: &[(usize, &Entry)],
    (retiring, _): (usize, &Entry),
    name: &str,
) -> Result<(), Failure> {
    let others = || listed.iter().filter(|(line, _)| *line != retiring);
    if others().any(|(_, entry)| state(entry) == CaState::Active) {
        return Ok(());
    }
    let failure = Failure::no(format!("no other CA is active for `{name}`"));
    let next = others().find(|(_, entry)| state(entry) == CaState::Next);
    Err(match next.and_then(|(_, entry)| entry.anchor()) {
        Some(next) => failure.hint(format!(
            "once the next one issues: `comity trust rotate '{name}' --activate {}`",
            next.fingerprint()
        )),
        None => failure
            .hint(format!(
                "list its successor first: `comity trust rotate '{name}' --ca FILE`"
            ))
            .hint(format!(
                "or forget it, and whom it vouches for: `comity trust remove '{name}'`"
            )),
    })
}

fn retired((line, entry): (usize, &Entry), end: UnixTime) -> (Edit, String) {
    let mut retiring = entry.clone();
    let known = retiring.attributes.not_after;
    let end = known.map_or(end, |known| known.min(end));
    retiring.attributes.not_after = Some(end);
    retiring.attributes.state = Some(CaState::Retiring);
    let name = entry.anchor().map_or_else(String::new, anchor_name);
    let text = match known {
        Some(known) if known == end => format!(
            "{name} retires already; it counts until {end}, as before: that end comes only nearer"
        ),
        Some(known) => format!("{name} retires; it counts until {end}, and not until {known}"),
        None => format!("{name} retires; it counts until {end}"),
    };
    let entry = Box::new(retiring);
    (Edit::Replace { line, entry }, text)
}

pub(crate) fn state(entry: &Entry) -> CaState {
    entry.attributes.state.unwrap_or_default()
}

/// A peer that a CA vouched for, and whom this one may have vouched for.
struct Affected {
    line: usize,
    name: String,
    /// Whether the key is pinned, so that no CA is needed for it.
    pinned: bool,
}

/// Which peers were recognised by a CA under a name that this one covers. Which of several CAs it was
/// is not remembered; whoever renews in time below another one notices nothing.
fn affected(known: &KnownPeers, (_, ca): (usize, &Entry)) -> Vec<Affected> {
    let by_ca = known.entries().filter(|(_, entry)| match &entry.what {
        What::CaVerified => true,
        What::Pin(_) => entry.attributes.origin == Some(Origin::Ca),
        What::Ca(_) | What::Revoked(_) => false,
    });
    let covered = |name: &Name| ca.names.matches(name);
    by_ca
        .filter(|(_, entry)| entry.names.exact().any(covered))
        .map(|(line, entry)| Affected {
            line,
            name: entry.names.to_string(),
            pinned: matches!(entry.what, What::Pin(_)) || is_pinned(known, entry),
        })
        .collect()
}

fn is_pinned(known: &KnownPeers, entry: &Entry) -> bool {
    entry.names.exact().any(|name| known.has_pin_named(name))
}

fn anchor_name(anchor: &Anchor) -> String {
    format!("{} ({})", anchor.subject(), anchor.fingerprint().short())
}

fn anchor_text(line: usize, entry: &Entry) -> String {
    let anchor = entry.anchor();
    let text = anchor.map_or_else(String::new, |a| {
        format!("{}  {}", a.fingerprint(), a.subject())
    });
    format!("{:<9} {text} (known_peers:{line})", state(entry).token())
}

fn show(
    context: &Context,
    args: &TrustRotate,
    planned: &Planned,
    affected: &[Affected],
    dry_run: bool,
) {
    let mut lines: Vec<String> = planned.edits.iter().map(|(_, text)| text.clone()).collect();
    if lines.is_empty() {
        lines.push("it is so already".to_owned());
    }
    if args.retire.is_some() {
        lines.extend(affected_lines(affected));
    }
    let value = json!({
        "name": args.name, "dry_run": dry_run,
        "changes": planned.edits.iter().map(|(_, text)| text).collect::<Vec<_>>(),
        "affected": affected.iter().map(|a| json!({
            "line": a.line, "name": a.name, "pinned": a.pinned,
        })).collect::<Vec<Value>>(),
    });
    context.shell.answer(lines.join("\n"), &value);
    if dry_run {
        context.shell.say("nothing was changed");
        return;
    }
    if args.ca.is_some() {
        context.shell.say(
            "it counts from now on, beside the present one; `comity trust rotate NAME --activate HASH` notes that it issues",
        );
    }
}

fn affected_lines(affected: &[Affected]) -> Vec<String> {
    if affected.is_empty() {
        return vec!["no peer is remembered that a CA vouched for under these names".to_owned()];
    }
    let mut lines = vec![
        "a CA vouched for these peers; those that it was have to show a certificate of another one by then:".to_owned(),
    ];
    lines.extend(affected.iter().map(|a| match a.pinned {
        true => format!(
            "  {}  pinned, goes on by its key (known_peers:{})",
            a.name, a.line
        ),
        false => format!("  {}  (known_peers:{})", a.name, a.line),
    }));
    lines
}
