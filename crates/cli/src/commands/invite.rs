//! `comity invite` and `comity join`.

use std::io::{self, BufRead, IsTerminal, Read};
use std::net::IpAddr;
use std::sync::Arc;

use comity_agent::{
    Offer, Planned, invite as make, likely_addresses, machine_label, public_identity,
};
use comity_identity::{KeyHash, NodeId, PeerId};
use comity_store::{Change, Deed, Home, InvitationId, Invitations, PeerStore, UpdateError};
use comity_tls::{DialError, Dialer, Endpoint, LeafProfile, ServiceName, free_label};
use comity_trust::invitation::{Invitation, InvitationError};
use comity_trust::{Confirmed, Reason};
use comity_trust::{Edit, Entry, KnownPeers, Name, Names, Origin, Pin, Side, What};
use nix::sys::termios::{FlushArg, tcflush};
use serde_json::json;
use zeroize::Zeroizing;

use crate::Outcome;
use crate::args::{Invite, Join};
use crate::commands::network::join::JoinedNetwork;
use crate::commands::network::network_failure;
use crate::commands::{block_on, identity};
use crate::context::{Context, identity_failure, now, store_failure};
use crate::messages::{Subject, dial_failure, not_the_inviter};
use crate::shell::{Exit, Failure, chain};

/// Bytes read of a pasted invitation: many times what one has, with line breaks and all.
const MAX_PASTED: u64 = 16 * 1024;

pub(crate) fn invite(context: &Context, args: &Invite) -> Outcome {
    let home = context.open_home()?;
    if args.list {
        return list(context, &Invitations::new(&home, "comity invite"));
    }
    if let Some(id) = &args.withdraw {
        return withdraw(context, &Invitations::new(&home, "comity invite"), id);
    }
    let offer = offer(context, &home, args)?;
    hand_out(context, &home, &offer, args.qr)
}

/// Makes an invitation and shows it.
pub(crate) fn hand_out(context: &Context, home: &Home, offer: &Offer, as_qr: bool) -> Outcome {
    let inviter = public_identity(home).map_err(|error| identity_failure(&error))?;
    let invitation = make(home, inviter.id, offer, "comity invite")
        .map_err(|error| Failure::unable(chain(&error)))?;
    let text = invitation.to_text().map_err(Failure::unable)?;
    let addresses: Vec<&str> = invitation.addresses.iter().map(Name::as_str).collect();
    let value = json!({
        "invitation": text.as_str(), "id": invitation.id.to_string(),
        "expires": invitation.expires.to_string(), "addresses": addresses,
        "services": offer.services, "roles": offer.roles, "label": offer.label,
        "network": offer.network.as_ref().map(|(name, id)| json!({ "name": name, "id": id.to_string() })),
    });
    context.shell.answer_or(text.as_str(), &value, |failure| {
        let id = &invitation.id;
        failure
            .detail(format!("the invitation {id} was made, and nobody has it"))
            .hint(format!("withdraw it: `comity invite --withdraw {id}`"))
    });
    if as_qr && !context.shell.json {
        context.shell.print(identity::qr(&text)?);
    }
    context.shell.say(format_args!(
        "grants {}; good once, until {}; reaches us at {}",
        granted(offer),
        invitation.expires,
        addresses.join(", ")
    ));
    context
        .shell
        .say("on the other machine run `comity join`, and paste it there");
    Ok(Exit::Yes)
}

/// What an invitation is good for.
fn granted(offer: &Offer) -> String {
    let mut granted = Vec::new();
    if let Some((name, _)) = &offer.network {
        granted.push(match offer.roles.as_slice() {
            [] => format!("membership of {name}, without a role"),
            roles => format!("membership of {name} as {}", roles.join(", ")),
        });
    }
    match offer.services.as_slice() {
        [] if offer.network.is_some() => {}
        [] => granted.push("no service yet (name some with --for)".to_owned()),
        services => granted.push(services.join(", ")),
    }
    granted.join("; and here ")
}

pub(crate) fn offer(context: &Context, home: &Home, args: &Invite) -> Result<Offer, Failure> {
    for service in &args.services {
        if service != "*" {
            service
                .parse::<ServiceName>()
                .map_err(|e| Failure::unable(format!("--for {service}: {e}")))?;
        }
    }
    if let Some(label) = &args.label {
        let name = Name::label(label).map_err(|e| Failure::unable(format!("--as {label}: {e}")))?;
        // Who joins would quietly be called by another name than the one that was chosen.
        let store = context.store(home, "comity invite")?;
        if store.snapshot().known.has_pin_named(&name) {
            return Err(Failure::no(format!("`{label}` is another peer here"))
                .hint("choose another label with --as, or remove that peer first"));
        }
    }
    let addresses = own_addresses(&args.addr)?;
    let our_name = context.config(home)?.name().map(|s| s.value);
    Ok(Offer {
        network: None,
        label: args.label.clone(),
        services: args.services.clone(),
        roles: args.roles.clone(),
        addresses,
        our_label: our_name
            .or_else(machine_label)
            .and_then(|l| Name::label(&l).ok()),
        lifetime: args.expires,
    })
}

/// Where we are reached: as typed, or else what looks like it.
pub(crate) fn own_addresses(typed: &[String]) -> Result<Vec<Name>, Failure> {
    let addresses = typed
        .iter()
        .map(|text| match Name::parse(text) {
            Ok(name) if leads_nowhere(&name) => Err(Failure::unable(format!(
                "--addr {text}: nobody reaches this machine there"
            ))
            .hint("name the address that others dial")),
            Ok(name) if !name.is_label() => Ok(name),
            Ok(_) => Err(Failure::unable(format!(
                "--addr {text}: expected HOST:PORT"
            ))),
            Err(error) => Err(Failure::unable(format!("--addr {text}: {error}"))),
        })
        .collect::<Result<Vec<Name>, Failure>>()?;
    let addresses = match addresses.is_empty() {
        true => likely_addresses(),
        false => addresses,
    };
    match addresses.is_empty() {
        false => Ok(addresses),
        true => Err(
            Failure::unable("this machine has no address that leads elsewhere")
                .hint("say where we are reached: `--addr HOST:PORT`"),
        ),
    }
}

/// An address to listen on, such as 0.0.0.0, or a port that is none.
fn leads_nowhere(name: &Name) -> bool {
    let unspecified = |host: &str| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address = bare.parse::<IpAddr>();
        address.is_ok_and(|address| address.to_canonical().is_unspecified())
    };
    name.port() == Some(0) || name.host().is_some_and(unspecified)
}

fn list(context: &Context, invitations: &Invitations) -> Outcome {
    let now = now();
    let open = invitations.list().map_err(|e| store_failure(&e))?;
    let rows: Vec<_> = open
        .iter()
        .map(|i| {
            let state = match &i.consumed {
                Some(consumed) => format!("used by {} at {}", consumed.by.short(), consumed.at),
                None if i.expires <= now => format!("expired {}", i.expires),
                None => format!("open until {}", i.expires),
            };
            (i, state)
        })
        .collect();
    let value: Vec<_> = rows
        .iter()
        .map(|(i, state)| {
            json!({ "id": i.id.to_string(), "state": state, "label": i.label,
                "services": i.services, "roles": i.roles,
                "network": i.network_id.map(|id| id.to_string()), "created": i.created.to_string(),
                "expires": i.expires.to_string(),
                "used_by": i.consumed.as_ref().map(|c| c.by.to_string()) })
        })
        .collect();
    let lines: Vec<String> = rows
        .iter()
        .map(|(i, state)| {
            let network = i.network_id.map(|id| format!("network {} ", id.short()));
            let network = network.unwrap_or_default();
            format!("{}  {state}  for {network}{}", i.id, i.services.join(","))
                + &i.label
                    .as_ref()
                    .map(|l| format!("  as {l}"))
                    .unwrap_or_default()
        })
        .collect();
    match lines.is_empty() && !context.shell.json {
        true => context.shell.say("no invitations"),
        false => context.shell.answer(lines.join("\n"), &value),
    }
    Ok(Exit::Yes)
}

fn withdraw(context: &Context, invitations: &Invitations, id: &str) -> Outcome {
    let id: InvitationId = id.parse().map_err(|_| {
        Failure::unable(format!(
            "`{id}` is no invitation's id, see `comity invite --list`"
        ))
    })?;
    match invitations.withdraw(&id).map_err(|e| store_failure(&e))? {
        Some(_) => {
            context
                .shell
                .answer("withdrawn", &json!({ "withdrawn": id.to_string() }));
            Ok(Exit::Yes)
        }
        None => Err(Failure::no("there is no such invitation").because(Reason::InviteInvalid)),
    }
}

pub(crate) fn join(context: &Context, args: &Join) -> Outcome {
    let text = match args.invitation.as_deref() {
        None | Some("-") => pasted(context)?,
        Some(text) => Zeroizing::new(text.to_owned()),
    };
    let invitation = Invitation::parse(&text)
        .map_err(|error| Failure::unable(format!("this is no usable invitation: {error}")))?;
    let home = match &invitation.network_id {
        Some(_) => identity::home_with_identity(context)?,
        None => context.open_home()?,
    };
    let node = context.node(&home, LeafProfile::default(), "comity join")?;
    let inviter = invitation.inviter;
    let joined = redeem(context, &node.endpoint, invitation, args)?;
    let label = &joined.inviter;
    let value = json!({
        "label": label, "id": inviter.to_string(),
        "network": joined.network.as_ref().map(|n| n.json()),
    });
    context.shell.answer(label, &value);
    match &joined.network {
        Some(network) => network.tell(context, label, inviter),
        None => context.shell.say(format_args!(
            "joined; reach its services with `comity connect {label}/SERVICE`"
        )),
    }
    Ok(Exit::Yes)
}

/// The invitation from standard input: all of it, or what a person pastes until it is whole.
fn pasted(context: &Context) -> Result<Zeroizing<String>, Failure> {
    let lost = |error: io::Error| Failure::unable(format!("cannot read the invitation: {error}"));
    let mut text = Zeroizing::new(String::new());
    let mut input = io::stdin().lock().take(MAX_PASTED);
    if !io::stdin().is_terminal() {
        input.read_to_string(&mut text).map_err(lost)?;
        return Ok(text);
    }
    context
        .shell
        .tell("paste the invitation, then press Enter (Ctrl-D gives up):");
    while wants_more(&text) {
        if input.read_line(&mut text).map_err(lost)? == 0 {
            break;
        }
    }
    // What is left of the paste must not become the shell's next command.
    tcflush(io::stdin(), FlushArg::TCIFLUSH).map_err(|error| lost(error.into()))?;
    Ok(text)
}

/// Whether further lines could make an invitation of this. A slip in it is said at once.
fn wants_more(text: &str) -> bool {
    match Invitation::parse(text) {
        Err(InvitationError::Length { expected, found }) => found < expected,
        Err(InvitationError::Prefix) => text.trim().is_empty(),
        _ => false,
    }
}

/// What came of an invitation.
#[derive(Debug)]
pub(crate) struct Redeemed {
    /// What the inviter is called here, which this endpoint knows from now on.
    pub(crate) inviter: String,
    /// The network that we are in now, if it was for one.
    pub(crate) network: Option<JoinedNetwork>,
}

/// Redeems an invitation: keeps the membership that it brings, and remembers the inviter.
pub(crate) fn redeem(
    context: &Context,
    endpoint: &Endpoint,
    invitation: Invitation,
    args: &Join,
) -> Result<Redeemed, Failure> {
    if invitation.expires <= now() {
        return Err(
            Failure::no(format!("the invitation expired at {}", invitation.expires))
                .hint("ask for a new one")
                .because(Reason::InviteInvalid),
        );
    }
    let config = context.config(&context.open_home()?)?;
    let suggested = args.name.clone().or(config.name().map(|s| s.value));
    let suggested = suggested.or_else(machine_label);
    let subject = Subject {
        typed: "the inviter".to_owned(),
        address: invitation.addresses.first().map(ToString::to_string),
    };
    let invitation = Arc::new(invitation);
    let route = Planned::of_invitation(Arc::clone(&invitation), suggested, args.addr.as_deref())
        .map_err(Failure::unable)?;
    // Before dialling: an invitation that was used up for a name we cannot take would be lost.
    let wanted = wanted_label(args, &invitation, &endpoint.store().snapshot().known)?;
    // An invitation is redeemed by our key alone. A membership that was withdrawn would speak against
    // us, also where somebody invites us anew; and others are nobody's business.
    endpoint.credentials().set_memberships(Vec::new());
    let dialer = Dialer::new(endpoint.clone());
    let dialled = block_on(async { route.dial(&dialer).await })?;
    let connection = dialled.map_err(|error| join_failure(&subject, &invitation, &error))?;
    let again = "run the same command again: the invitation still counts for this machine";
    let typed = args.addr.as_deref();
    let network = match &connection.grant {
        Some(grant) => Some(
            JoinedNetwork::enter(endpoint, grant, &invitation, typed).map_err(|error| {
                network_failure(&error)
                    .detail("the inviter has made us a member, but the membership was not kept")
                    .hint(again)
            })?,
        ),
        None => None,
    };
    let inviter = remember(
        endpoint.store(),
        &invitation,
        typed,
        &wanted,
        connection.peer.next,
    )
    .map_err(|error| {
        Failure::of("joined, but the inviter could not be remembered", &error).hint(again)
    })?;
    endpoint
        .present_memberships()
        .map_err(|error| network_failure(&error))?;
    Ok(Redeemed { inviter, network })
}

fn join_failure(subject: &Subject, invitation: &Invitation, error: &DialError) -> Failure {
    if let DialError::Refused { refusal, .. } = error {
        let other = not_the_inviter(PeerId::Node(invitation.inviter), refusal);
        return other.unwrap_or_else(|| dial_failure(subject, error));
    }
    let Some(name) = &invitation.network else {
        return dial_failure(subject, error);
    };
    match error {
        DialError::RefusedByPeer(Some(reason @ Reason::WrongNetwork)) => Failure::no(format!(
            "the inviter cannot make us a member of {name} ({})",
            reason.token()
        ))
        .detail("it has not, or no longer, the key that signs members")
        .hint("ask for an invitation from a node that has it")
        .because(*reason),
        DialError::RefusedByPeer(Some(reason @ Reason::Revoked)) => Failure::no(format!(
            "the inviter will not make us a member of {name}: our key was removed from it ({})",
            reason.token()
        ))
        .hint("a removed key stays out; `comity init --home DIR` makes another node")
        .because(*reason),
        _ => dial_failure(subject, error),
    }
}

fn wanted_label(args: &Join, invitation: &Invitation, known: &KnownPeers) -> Result<Name, Failure> {
    if let Some(label) = &args.label {
        let name = Name::label(label).map_err(|e| Failure::unable(format!("--as {label}: {e}")))?;
        let other = known
            .pins_named(&name, None)
            .into_iter()
            .any(|(_, entry)| entry.pin() != Some(&Pin::Node(invitation.inviter)));
        if other {
            return Err(Failure::unable(format!("`{label}` is another peer here"))
                .hint("choose another label with --as"));
        }
        return Ok(name);
    }
    let suggested = invitation.label.as_ref().map(Name::as_str);
    Ok(free_label(
        suggested,
        PeerId::Node(invitation.inviter),
        known,
    ))
}

fn remember(
    store: &PeerStore,
    invitation: &Invitation,
    address: Option<&str>,
    label: &Name,
    next: Option<KeyHash>,
) -> Result<String, UpdateError> {
    let pin = Pin::Node(invitation.inviter);
    let (named, _) = store.decide_and_record(|known| {
        let existing = known
            .pins_of(PeerId::Node(invitation.inviter))
            .find(|(_, entry)| entry.side != Side::Accept);
        match existing {
            Some((line, entry)) => {
                let mut merged = entry.clone();
                add_addresses(&mut merged, invitation, address);
                let name = merged.display_name().unwrap_or(label).to_string();
                let edit = Edit::Replace {
                    line,
                    entry: Box::new(merged.clone()),
                };
                (
                    name,
                    (merged != *entry).then(|| change(invitation.inviter, edit, label)),
                )
            }
            None => {
                let mut entry = Entry::new(Side::Both, Names::one(label.clone()), What::Pin(pin));
                entry.attributes.origin = Some(Origin::Invite);
                entry.attributes.next = next;
                entry.attributes.added = Some(now());
                entry.attributes.confirmed = Some(Confirmed {
                    at: now(),
                    how: "invite".to_owned(),
                });
                add_addresses(&mut entry, invitation, address);
                let edit = Edit::Add(Box::new(entry));
                (
                    label.to_string(),
                    Some(change(invitation.inviter, edit, label)),
                )
            }
        }
    })?;
    Ok(named)
}

fn add_addresses(entry: &mut Entry, invitation: &Invitation, address: Option<&str>) {
    let given = address.and_then(|text| Name::parse(text).ok());
    let addresses = given.iter().chain(&invitation.addresses);
    for address in addresses {
        if !entry.attributes.addr.contains(address) {
            entry.attributes.addr.push(address.clone());
        }
    }
}

fn change(inviter: NodeId, edit: Edit, label: &Name) -> Change {
    Change {
        edit,
        deed: Deed {
            action: "join".to_owned(),
            peer: Some(PeerId::Node(inviter)),
            detail: label.to_string(),
        },
    }
}
