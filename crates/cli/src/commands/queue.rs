//! `comity trust pending|approve|deny`: the queue of those who want to be known.

use comity_identity::PeerId;
use comity_store::{PeerStore, Pending, PendingRequest};
use comity_tls::{Admittance, ServiceName};
use comity_trust::{Name, Origin, Reason};
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::{TrustApprove, TrustDeny};
use crate::context::{Context, now, store_failure};
use crate::shell::{Exit, Failure};

pub(crate) fn pending(context: &Context) -> Outcome {
    let home = context.open_home()?;
    let queue = Pending::new(&home, "comity trust pending");
    let waiting = queue.list(now()).map_err(|error| store_failure(&error))?;
    let value: Vec<Value> = waiting.iter().map(request_json).collect();
    if waiting.is_empty() && !context.shell.json {
        context.shell.say("nobody waits");
        return Ok(Exit::Yes);
    }
    let text: Vec<String> = waiting.iter().map(describe).collect();
    context.shell.answer(text.join("\n"), &value);
    context.shell.say(
        "compare the id with its operator, then: comity trust approve ID --as LABEL --for SERVICE",
    );
    Ok(Exit::Yes)
}

/// What a stranger says of itself stands in quotes: it is a claim.
fn describe(request: &PendingRequest) -> String {
    let claimed = match request.claimed_label.as_deref() {
        Some(label) => format!("calls itself \"{label}\""),
        None => "gives no name".to_owned(),
    };
    let service = request.service.as_deref().unwrap_or("default");
    format!(
        "{}\n  {}\n  {claimed}, wants \"{service}\", from {}, first {}, last {}",
        request.peer,
        request.peer.key_hash().words(),
        request.address,
        request.first_seen,
        request.last_seen,
    )
}

fn request_json(request: &PendingRequest) -> Value {
    json!({
        "id": request.peer.to_string(),
        "words": request.peer.key_hash().words().to_string(),
        "claimed_label": request.claimed_label,
        "service": request.service,
        "address": request.address.to_string(),
        "first_seen": request.first_seen.to_string(),
        "last_seen": request.last_seen.to_string(),
        "count": request.count,
    })
}

pub(crate) fn approve(context: &Context, args: &TrustApprove) -> Outcome {
    let home = context.open_home()?;
    let peer = full_id(&args.id)?;
    for service in args.grants.services.iter().filter(|s| *s != "*") {
        service
            .parse::<ServiceName>()
            .map_err(|e| Failure::unable(format!("--for {service}: {e}")))?;
    }
    let queue = Pending::new(&home, "comity trust approve");
    let waiting = queue.list(now()).map_err(|error| store_failure(&error))?;
    let request = waiting.iter().find(|r| r.peer == peer).ok_or_else(|| {
        Failure::no("this peer does not wait")
            .hint("`comity trust pending` shows who does; `comity trust add` needs nobody to wait")
            .because(Reason::Unknown)
    })?;
    let label = match &args.label {
        Some(label) => {
            let name =
                Name::label(label).map_err(|e| Failure::unable(format!("--as {label}: {e}")))?;
            Some(name.to_string())
        }
        None => request.claimed_label.as_ref().map(|c| claimed(c, peer)),
    };
    let store = context.store(&home, "comity trust approve")?;
    refuse_taken(&store, args.label.as_deref(), peer)?;
    let admittance = Admittance {
        peer,
        wanted_label: label.as_deref(),
        services: &args.grants.services,
        roles: &args.grants.roles,
        networks: &args.grants.networks,
        next: None,
        origin: Origin::Approved,
        now: now(),
    };
    let (_, snapshot) = store
        .decide_and_record(|known| ((), admittance.change(known)))
        .map_err(|error| Failure::of("the peer could not be entered", &error))?;
    queue.remove(&peer).map_err(|error| store_failure(&error))?;
    let named = snapshot
        .known
        .pins_of(peer)
        .find_map(|(_, entry)| entry.display_name().map(ToString::to_string))
        .unwrap_or_default();
    context.shell.answer(
        format_args!("approved {named}"),
        &json!({ "label": named, "id": peer.to_string(), "services": args.grants.services }),
    );
    if args.grants.services.is_empty() && args.grants.roles.is_empty() {
        context
            .shell
            .say("it may use no service yet: grant some with --for, or `comity serve --allow`");
    }
    Ok(Exit::Yes)
}

/// The label of a peer whom the operator gave none: what it calls itself, and the beginning of its
/// id. The bare claim would do for reading, but rules name labels (`--allow ssh=laptop`): a stranger
/// must not get what a rule gives by calling itself so and being approved for something else.
fn claimed(claim: &str, peer: PeerId) -> String {
    format!("{claim}-{}", peer.short().to_lowercase())
}

/// A label given by the operator is meant: a number behind it would surprise.
fn refuse_taken(store: &PeerStore, label: Option<&str>, peer: PeerId) -> Result<(), Failure> {
    let Some(name) = label.and_then(|l| Name::label(l).ok()) else {
        return Ok(());
    };
    let known = &store.snapshot().known;
    let others = super::memory::peers_named(known, &name);
    match others.iter().any(|other| *other != peer) {
        true => Err(Failure::no(format!("`{name}` is another peer here"))
            .hint("choose another label with --as")),
        false => Ok(()),
    }
}

pub(crate) fn deny(context: &Context, args: &TrustDeny) -> Outcome {
    let home = context.open_home()?;
    let peer = full_id(&args.id)?;
    let queue = Pending::new(&home, "comity trust deny");
    match queue
        .deny(&peer, now())
        .map_err(|error| store_failure(&error))?
    {
        Some(_) => {
            context
                .shell
                .answer("denied", &json!({ "denied": peer.to_string() }));
            Ok(Exit::Yes)
        }
        None => Err(Failure::no("this peer does not wait").because(Reason::Unknown)),
    }
}

/// Only a full id: a short one could be somebody else's.
fn full_id(text: &str) -> Result<PeerId, Failure> {
    text.parse().map_err(|error| {
        Failure::unable(format!("`{text}` is no full id: {error}"))
            .hint("`comity trust pending` shows the full ids")
    })
}
