//! `comity network create|invite|members|remove`: where the authority is.

use std::collections::BTreeSet;

use comity_agent::network::{Entry, enter_membership, location_at};
use comity_agent::{Offer, public_identity};
use comity_authority::{
    Admission, Authority, AuthorityError, Member, MemberState, NewAuthority, Selector,
};
use comity_identity::{Algorithm, KeyHash, NodeId, PeerId};
use comity_record::Location;
use comity_store::{
    Change, Deed, Home, Invitation, InvitationId, Invitations, NetworkStore, PeerStore,
};
use comity_tls::LeafProfile;
use comity_tls::network::{Grant, VerifiedGrant};
use comity_trust::{Edit, KnownPeers, Name, Reason};
use serde_json::{Value, json};

use super::join::{days_text, roles_text, tell_other_name};
use super::{is_ours, named, network_failure};
use crate::Outcome;
use crate::args::Invite;
use crate::args::network::{NetworkCreate, NetworkInvite, NetworkMembers, NetworkRemove};
use crate::commands::ca::founding::check_free;
use crate::commands::{identity, invite};
use crate::context::{Context, identity_failure, now, store_failure};
use crate::root_key::NewRoot;
use crate::shell::{Exit, Failure, chain};

/// The role of a founder who names none: nothing means anything by itself, and a rule can name it.
const FOUNDER: &str = "admin";

pub(super) fn create(context: &Context, args: &NetworkCreate) -> Outcome {
    check_words(&args.name, &args.roles)?;
    let addresses = invite::own_addresses(&args.addr)?;
    let home = identity::home_with_identity(context)?;
    check_free(&home, &args.name)?;
    let node = context.node(&home, LeafProfile::default(), "comity network create")?;
    let root = NewRoot::make(&args.root, Algorithm::EcdsaP256)?;
    let (network, ourselves) = (root.network(), node.endpoint.credentials().node_id());
    let new = NewAuthority {
        locations: locations(&addresses, &network, &ourselves)?,
        ..NewAuthority::named(&args.name)
    };
    // Before anything is founded: an authority whose root nobody has cannot be mended.
    let kept = root.keep(&home)?;
    let command = "comity network create";
    let mut authority = Authority::create(&home, &new, &root.key, now(), command)
        .map_err(|error| authority_failure(&error))?;
    root.say_where(context, &kept);
    let roles = match args.roles.is_empty() {
        true => vec![FOUNDER.to_owned()],
        false => args.roles.clone(),
    };
    let admission = Admission {
        label: own_label(context, &home)?,
        roles: roles.clone(),
        ..Admission::default()
    };
    let credentials = node.endpoint.credentials();
    let granted = authority
        .certify(credentials.root(), &admission, now())
        .map_err(|error| authority_failure(&error))?;
    let grant = Grant {
        network,
        membership: granted.membership,
        bundle: granted.bundle,
    };
    let verified = VerifiedGrant::verify(grant, &network, credentials, now())
        .map_err(|error| Failure::of("our own membership does not hold", &error))?;
    let entered = enter_membership(&node.endpoint, &verified, &Entry::default())
        .map_err(|error| network_failure(&error))?;
    let places: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let label = &entered.label;
    context.shell.answer(
        network,
        &json!({
            "id": network.to_string(), "hex": network.to_hex(), "label": label, "name": args.name,
            "words": network.words().to_string(), "root": kept, "roles": roles,
            "addresses": places, "node": ourselves.to_string(),
        }),
    );
    let shell = context.shell;
    shell.say(format_args!("founded the network {label}"));
    shell.say(format_args!("  {}", network.words()));
    tell_other_name(context, label, &args.name);
    shell.say(format_args!(
        "we are its first member, as {}; members reach us at {}",
        roles.join(", "),
        places.join(", ")
    ));
    shell.say(format_args!(
        "next: `comity serve`, which admits members, and `comity network invite {label} --role ROLE`"
    ));
    Ok(Exit::Yes)
}

/// Network names and roles stand in certificates, where capitals are none.
fn check_words(name: &str, roles: &[String]) -> Result<(), Failure> {
    for (what, word) in std::iter::once(("the name", name))
        .chain(roles.iter().map(|role| ("--role", role.as_str())))
    {
        if !comity_certs::is_label(word) {
            return Err(Failure::unable(format!("{what} `{word}` cannot be used"))
                .hint("lower-case letters, digits, `-`, `_` and `.`; a letter or digit first, at most 63 in all"));
        }
    }
    Ok(())
}

fn locations(
    addresses: &[Name],
    network: &NodeId,
    server: &NodeId,
) -> Result<Vec<Location>, Failure> {
    let places = addresses.iter().map(|address| {
        location_at(address, network, server)
            .map_err(|error| Failure::unable(format!("--addr {address}: {error}")))
    });
    places.collect()
}

/// What the founder is called among its members: as it calls itself elsewhere.
fn own_label(context: &Context, home: &Home) -> Result<Option<String>, Failure> {
    let configured = context.config(home)?.name().map(|setting| setting.value);
    let label = configured.or_else(comity_agent::machine_label);
    let label = label.map(|label| label.to_lowercase());
    Ok(label.filter(|label| comity_certs::is_label(label)))
}

pub(super) fn invite(context: &Context, args: &NetworkInvite) -> Outcome {
    check_words("x", &args.roles)?;
    let home = context.open_home()?;
    let networks = NetworkStore::new(&home, "comity network invite");
    let record = named(&networks, &args.name)?;
    let mut authority = open(&home, &record.network, "comity network invite")?;
    if let Some(label) = &args.label {
        check_member_label(&mut authority, label)?;
    }
    let ourselves = public_identity(&home).map_err(|error| identity_failure(&error))?;
    let addresses = match args.addr.is_empty() {
        true => reached_at(&authority, &ourselves.id),
        false => args.addr.clone(),
    };
    let plain = Invite {
        services: args.services.clone(),
        roles: args.roles.clone(),
        label: args.label.clone(),
        addr: addresses,
        expires: args.expires,
        qr: args.qr,
        list: false,
        withdraw: None,
    };
    let offer = Offer {
        network: Some((authority.name().to_owned(), record.network)),
        ..invite::offer(context, &home, &plain)?
    };
    invite::hand_out(context, &home, &offer, args.qr)
}

/// The label of a joiner stands in its certificate, and no two members share one.
fn check_member_label(authority: &mut Authority, label: &str) -> Result<(), Failure> {
    if !comity_certs::is_label(label) {
        return Err(Failure::unable(format!("--as {label}: no member can be called so"))
            .hint("lower-case letters, digits, `-`, `_` and `.`; a letter or digit first, at most 63 in all"));
    }
    let members = authority
        .members(now())
        .map_err(|error| authority_failure(&error))?;
    match members.iter().find(|m| m.label == label && is_live(m)) {
        None => Ok(()),
        Some(member) => Err(
            Failure::no(format!("`{label}` is a member of this network already"))
                .detail(format!(
                    "it is {}",
                    NodeId::from_bytes(*member.key.as_bytes())
                ))
                .hint("choose another label with --as"),
        ),
    }
}

/// Where the network says that this node is.
fn reached_at(authority: &Authority, ourselves: &NodeId) -> Vec<String> {
    let ours = authority.locations().iter();
    ours.filter(|place| place.node() == Some(*ourselves))
        .map(|place| match place.host().contains(':') {
            true => format!("[{}]:{}", place.host(), place.port()),
            false => format!("{}:{}", place.host(), place.port()),
        })
        .collect()
}

pub(super) fn members(context: &Context, args: &NetworkMembers) -> Outcome {
    let home = context.open_home()?;
    let networks = NetworkStore::new(&home, "comity network members");
    let record = named(&networks, &args.name)?;
    let mut authority = open(&home, &record.network, "comity network members")?;
    let members = authority
        .members(now())
        .map_err(|error| authority_failure(&error))?;
    let ourselves = public_identity(&home)
        .ok()
        .map(|public| public.id.key_hash());
    let values: Vec<Value> = members.iter().map(member_json).collect();
    let lines: Vec<String> = members
        .iter()
        .map(|member| member_text(member, Some(member.key) == ourselves))
        .collect();
    match lines.is_empty() && !context.shell.json {
        true => context.shell.say("no members"),
        false => context.shell.answer(lines.join("\n"), &values),
    }
    Ok(Exit::Yes)
}

fn member_text(member: &Member, is_us: bool) -> String {
    let state = match &member.state {
        MemberState::Active => days_text(now(), member.not_after),
        MemberState::Superseded { by, at } => {
            format!("until {at}: {} follows it", by.short())
        }
        MemberState::Expired => format!("over since {}", member.not_after),
        MemberState::Withdrawn => "removed".to_owned(),
    };
    let us = if is_us { "  (this node)" } else { "" };
    format!(
        "{}  {}\n  role {}; {state}{us}",
        member.label,
        NodeId::from_bytes(*member.key.as_bytes()),
        roles_text(&member.roles)
    )
}

fn member_json(member: &Member) -> Value {
    json!({
        "label": member.label, "id": NodeId::from_bytes(*member.key.as_bytes()).to_string(),
        "roles": member.roles, "not_after": member.not_after.to_string(),
        "days_left": member.days_left,
        "state": match member.state {
            MemberState::Active => "active",
            MemberState::Superseded { .. } => "superseded",
            MemberState::Expired => "expired",
            MemberState::Withdrawn => "withdrawn",
        },
    })
}

pub(super) fn remove(context: &Context, args: &NetworkRemove) -> Outcome {
    let home = context.open_home()?;
    let networks = NetworkStore::new(&home, "comity network remove");
    let record = named(&networks, &args.name)?;
    let mut authority = open(&home, &record.network, "comity network remove")?;
    let (member, keys) = member_named(&mut authority, &record.label, &args.member)?;
    let ourselves = public_identity(&home).map_err(|error| identity_failure(&error))?;
    if keys.contains(&ourselves.id.key_hash()) {
        return Err(Failure::no(
            "that is this node: the network could not go on without it",
        ));
    }
    let store = context.store(&home, "comity network remove")?;
    let invitations = Invitations::new(&home, "comity network remove");
    let ends = Ends::of(&authority, &store, &invitations, &keys)?;
    if ends.is_nothing() {
        return Err(Failure::no(format!(
            "`{}` is no member of {} any more",
            args.member, record.label
        )));
    }
    let peer = peer_of(&member.key);
    let value = json!({
        "network": record.network.to_string(), "member": member.label, "id": peer.to_string(),
        "keys": keys.iter().map(|key| peer_of(key).to_string()).collect::<Vec<_>>(),
        "certificates": ends.certificates, "pins": ends.pins,
        "invitations": ends.invitations.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "dry_run": args.dry_run,
    });
    let lines = consequences(&record.label, &member, &keys, &ends);
    if args.dry_run {
        context.shell.answer(lines.join("\n"), &value);
        context.shell.say("nothing was changed (--dry-run)");
        return Ok(Exit::Yes);
    }
    ends.bring_about(&mut authority, &store, &invitations, &member, &keys)?;
    context
        .shell
        .answer(format_args!("removed {}", member.label), &value);
    lines.iter().for_each(|line| context.shell.say(line));
    Ok(Exit::Yes)
}

/// What ends here when a member is removed. Each part can be left over from a removal that was
/// interrupted.
struct Ends {
    certificates: usize,
    pins: BTreeSet<String>,
    /// Those that it has used: whoever is recognised otherwise would be admitted by one again.
    invitations: Vec<InvitationId>,
    is_pinned: bool,
}

impl Ends {
    fn of(
        authority: &Authority,
        store: &PeerStore,
        invitations: &Invitations,
        keys: &[KeyHash],
    ) -> Result<Self, Failure> {
        let mut certificates = 0;
        for key in keys {
            let found = authority.find(&Selector::Key(*key));
            let found = found.map_err(|error| authority_failure(&error))?;
            certificates += found.iter().filter(|c| c.counts(now())).count();
        }
        let snapshot = store.snapshot();
        let known = &snapshot.known;
        let used_by = |invitation: &Invitation| {
            let of_network = invitation
                .network_id
                .is_none_or(|id| id == authority.network());
            let used = invitation.consumed.map(|used| used.by.key_hash());
            of_network && used.is_some_and(|by| keys.contains(&by))
        };
        let all = invitations.list().map_err(|error| store_failure(&error))?;
        Ok(Self {
            certificates,
            pins: keys
                .iter()
                .flat_map(|key| pins_of(known, peer_of(key)))
                .collect(),
            invitations: all.iter().filter(|i| used_by(i)).map(|i| i.id).collect(),
            is_pinned: keys
                .iter()
                .any(|key| known.pins_of(peer_of(key)).next().is_some()),
        })
    }

    fn is_nothing(&self) -> bool {
        self.certificates == 0 && !self.is_pinned && self.invitations.is_empty()
    }

    /// The way back first, then what it has.
    fn bring_about(
        &self,
        authority: &mut Authority,
        store: &PeerStore,
        invitations: &Invitations,
        member: &Member,
        keys: &[KeyHash],
    ) -> Result<(), Failure> {
        for id in &self.invitations {
            let withdrawn = invitations.withdraw(id);
            withdrawn.map_err(|error| store_failure(&error))?;
        }
        let removed = match authority.remove(&member.key, "removed", now()) {
            // It was withdrawn before, and that run got no further.
            Ok(_) | Err(AuthorityError::NotFound(_)) => Ok(()),
            // It is withdrawn: what is left to do here is done all the same.
            Err(error @ AuthorityError::Unfinished { .. }) => Err(authority_failure(&error)),
            Err(error) => return Err(authority_failure(&error)),
        };
        for key in keys {
            forget(store, peer_of(key), &member.label)?;
        }
        removed
    }
}

fn peer_of(key: &KeyHash) -> PeerId {
    PeerId::Node(NodeId::from_bytes(*key.as_bytes()))
}

/// What removing somebody ends, where, and when.
fn consequences(network: &str, member: &Member, keys: &[KeyHash], ends: &Ends) -> Vec<String> {
    let label = &member.label;
    let certificates = match ends.certificates {
        1 => "one certificate".to_owned(),
        several => format!("{several} certificates"),
    };
    let mut lines = vec![format!(
        "{label} ({}) loses {certificates} of {network}, for ever",
        NodeId::from_bytes(*member.key.as_bytes())
    )];
    for other in keys.iter().filter(|key| **key != member.key) {
        lines.push(format!("so does {}, another key of it", peer_of(other)));
    }
    if !ends.pins.is_empty() {
        let pins: Vec<&str> = ends.pins.iter().map(String::as_str).collect();
        let pins = pins.join(", ");
        lines.push(format!("its entry in known_peers here goes: {pins}"));
    }
    if !ends.invitations.is_empty() {
        lines.push("the invitation that it used lets nobody in again".to_owned());
    }
    lines.push("its connections to this node close within a second".to_owned());
    lines.push(
        "its connections to members that are subscribed to this node's `comity serve` close within a second of the news, others when they next fetch the bundle (a day at most, if they are online)"
            .to_owned(),
    );
    lines.push(format!(
        "whoever pinned {label} elsewhere still knows it: there, `comity trust remove`"
    ));
    lines
}

/// The labels under which a peer is pinned here.
fn pins_of(known: &KnownPeers, peer: PeerId) -> Vec<String> {
    let names = known
        .pins_of(peer)
        .filter_map(|(_, entry)| entry.display_name());
    let names: BTreeSet<String> = names.map(ToString::to_string).collect();
    names.into_iter().collect()
}

/// Removes every pin of a peer: an invitation gave it one beside the membership.
fn forget(store: &PeerStore, peer: PeerId, label: &str) -> Result<(), Failure> {
    let forgotten = store.decide_and_record(|known| {
        let lines: Vec<usize> = known.pins_of(peer).map(|(line, _)| line).collect();
        let change = Change {
            edit: Edit::Remove { lines },
            deed: Deed {
                action: "network-remove".to_owned(),
                peer: Some(peer),
                detail: label.to_owned(),
            },
        };
        ((), known.pins_of(peer).next().map(|_| change))
    });
    match forgotten {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::of(
            "removed from the network, but its entry here is still there",
            &error,
        )
        .hint(format!("remove that as well: `comity trust remove {peer}`"))),
    }
}

/// The member that has this label or full id, and all its keys: a live one, or else whoever was one.
fn member_named(
    authority: &mut Authority,
    network: &str,
    text: &str,
) -> Result<(Member, Vec<KeyHash>), Failure> {
    let members = authority
        .members(now())
        .map_err(|error| authority_failure(&error))?;
    let key = text.parse::<NodeId>().ok().map(|id| id.key_hash());
    let (live, gone): (Vec<Member>, Vec<Member>) = members
        .into_iter()
        .filter(|member| member.label == text || Some(member.key) == key)
        .partition(is_live);
    let named = if live.is_empty() { gone } else { live };
    // The newest key of several that follow one another.
    let newest = named.iter().find(|m| m.state == MemberState::Active);
    let Some(member) = newest.or(named.first()).cloned() else {
        return Err(Failure::no(format!("`{text}` is no member of {network}"))
            .hint(format!("`comity network members {network}` shows who is"))
            .because(Reason::Unknown));
    };
    let keys = authority.keys_of_member(&member.key);
    if named.iter().all(|other| keys.contains(&other.key)) {
        return Ok((member, keys));
    }
    let failure = Failure::no(format!(
        "several keys are called `{text}`: name one by its full id"
    ));
    Err(named.iter().fold(failure, |failure, member| {
        failure.detail(peer_of(&member.key))
    }))
}

fn is_live(member: &Member) -> bool {
    matches!(
        member.state,
        MemberState::Active | MemberState::Superseded { .. }
    )
}

/// The authority of a network, which has to be in this home.
pub(super) fn open(home: &Home, network: &NodeId, command: &str) -> Result<Authority, Failure> {
    if !is_ours(home, network)? {
        return Err(elsewhere(home, network));
    }
    Authority::open(home, *network, command).map_err(|error| authority_failure(&error))
}

/// The key that signs members is on another machine: says on which.
fn elsewhere(home: &Home, network: &NodeId) -> Failure {
    let failure = Failure::no("the key that signs members of this network is not here")
        .because(Reason::NotAuthorised);
    let store = PeerStore::open(home, "comity network");
    let Ok(snapshot) = store.map(|store| store.snapshot()) else {
        return failure;
    };
    let Some(authority) = snapshot.networks.get(network) else {
        return failure;
    };
    let nodes: BTreeSet<NodeId> = authority
        .bundle
        .locations()
        .iter()
        .filter_map(Location::node)
        .collect();
    let failure = nodes.iter().fold(failure, |failure, node| {
        let known = pins_of(&snapshot.known, PeerId::Node(*node));
        let label = known
            .first()
            .map(|label| format!("{label}, "))
            .unwrap_or_default();
        failure.detail(format!("ask whoever runs {label}{node}"))
    });
    failure.hint(format!(
        "there: `comity network invite {}`",
        authority.bundle.name()
    ))
}

/// Why an authority did not do it.
pub(super) fn authority_failure(error: &AuthorityError) -> Failure {
    match error {
        AuthorityError::Store(error) => store_failure(error),
        AuthorityError::Network(error) => network_failure(error),
        AuthorityError::Sealed(_) => Failure::unable(chain(error))
            .hint("its passphrase is needed; `comity network create` makes issuing keys that are not sealed"),
        AuthorityError::NoIssuingKey => Failure::no(chain(error))
            .hint("its certificate may be over: `comity ca roll-issuing NAME` makes another one"),
        AuthorityError::Withdrawn(key) => withdrawn(*key),
        AuthorityError::NotFound(_) => Failure::no(chain(error)).because(Reason::Unknown),
        _ => Failure::unable(chain(error)),
    }
}

fn withdrawn(key: KeyHash) -> Failure {
    Failure::no(format!("the key {} was withdrawn for ever", key.short())).because(Reason::Revoked)
}
