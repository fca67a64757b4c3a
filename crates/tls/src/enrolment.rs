//! How a stranger becomes known to an acceptor: by an invitation, or by waiting for approval.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use comity_certs::PresentedChain;
use comity_identity::{KeyHash, NodeId, PeerId, UnixTime};
use comity_store::{
    Asked, Change, Consumed, Deed, Invitation, InvitationId, Knock, PeerStore, UpdateError,
};
use comity_trust::invitation::{self, JoinStatement};
use comity_trust::{
    Confirmed, Edit, Entry, Invitee, KnownPeers, Mode, Name, Names, Origin, Pin, Reason, Side,
    Verdict, What,
};

use crate::acceptor::Request;
use crate::endpoint::Endpoint;
use crate::gate::{GateError, Matter, Memory, Passed};
use crate::hello::InvitationProof;
use crate::network::{Grant, root_of};

/// The exporter label of the proof (RFC 8446 section 7.5): it binds the proof to one connection.
pub(crate) const JOIN_EXPORTER: &[u8] = b"EXPORTER-comity-join-v1";

/// How often a taken label is tried with a number behind it.
const LABEL_TRIES: u32 = 99;

/// A peer that is not known yet, and what it says.
#[derive(Clone, Debug)]
pub(crate) struct Newcomer {
    peer: PeerId,
    next: Option<KeyHash>,
    claimed_name: Option<String>,
    service: Option<String>,
    proof: Option<InvitationProof>,
    address: IpAddr,
}

impl Newcomer {
    pub(crate) fn new(
        chain: &PresentedChain,
        request: &Request,
        remote: Option<SocketAddr>,
    ) -> Self {
        let mut newcomer = Self {
            peer: chain.peer_id(),
            next: chain.next(),
            claimed_name: chain.leaf().common_name.clone(),
            service: None,
            proof: None,
            // Transports without addresses share one place in the queue's budget.
            address: remote.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |r| r.ip()),
        };
        if let Request::Comity(hello) = request {
            newcomer.claimed_name = hello.claimed_name.clone();
            newcomer.service = hello.service.as_ref().map(ToString::to_string);
            newcomer.proof = hello.proof.clone();
        }
        newcomer
    }
}

/// A peer that is let in.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    pub(crate) passed: Passed,
    /// The membership that its invitation is for.
    pub(crate) grant: Option<Grant>,
}

impl From<Passed> for Admitted {
    fn from(passed: Passed) -> Self {
        Self {
            passed,
            grant: None,
        }
    }
}

/// Whether a refusal for `reason` may be overcome by an invitation: only that of a stranger.
pub(crate) fn may_redeem(reason: Reason) -> bool {
    matches!(reason, Reason::Unknown | Reason::Pending)
}

/// Redeems the newcomer's invitation: verifies the proof, binds the invitation to the newcomer's
/// key, and enters the newcomer as a known peer; each durable before the next. A crash in between
/// leaves an invitation that the same key may redeem again.
///
/// If the invitation is for a network, its issuer then makes the newcomer a member. That happens
/// again whenever the same key asks again: a membership that was lost on its way is given anew, and
/// whether the key may still have one is the issuer's affair.
pub(crate) async fn redeem(
    matter: &Matter,
    chain: &Arc<PresentedChain>,
    newcomer: Newcomer,
    exporter: [u8; 32],
) -> Result<Admitted, Reason> {
    let task = {
        let (matter, chain) = (matter.clone(), Arc::clone(chain));
        move || redeem_blocking(&matter, &chain, &newcomer, &exporter)
    };
    let invitation = blocking(task).await?;
    match matter.pass(chain).await {
        Ok(passed) => {
            let (matter, chain) = (matter.clone(), Arc::clone(chain));
            let grant = blocking(move || admit(&matter.endpoint, &chain, &invitation)).await?;
            Ok(Admitted { passed, grant })
        }
        // It was entered once and has been removed since: the invitation is used up.
        Err(GateError::Refused(refusal)) if may_redeem(refusal.reason) => {
            Err(Reason::InviteInvalid)
        }
        Err(GateError::Refused(refusal)) => Err(refusal.reason),
        Err(_) => Err(Reason::StoreError),
    }
}

/// The membership that the invitation is for.
fn admit(
    endpoint: &Endpoint,
    chain: &PresentedChain,
    invitation: &Invitation,
) -> Result<Option<Grant>, Reason> {
    let Some(network) = &invitation.network_id else {
        return Ok(None);
    };
    let issuer = endpoint.issuer.get().ok_or(Reason::WrongNetwork)?;
    let root = root_of(chain).ok_or(Reason::Malformed)?;
    let (label, now) = (invitation.label.as_deref(), endpoint.clock.now());
    issuer
        .admit(network, root, &invitation.roles, label, now)
        .map(Some)
}

async fn blocking<T: Send + 'static>(
    task: impl FnOnce() -> Result<T, Reason> + Send + 'static,
) -> Result<T, Reason> {
    let outcome = tokio::task::spawn_blocking(task).await;
    outcome.unwrap_or(Err(Reason::StoreError))
}

fn redeem_blocking(
    matter: &Matter,
    chain: &PresentedChain,
    newcomer: &Newcomer,
    exporter: &[u8; 32],
) -> Result<Invitation, Reason> {
    // The other modes say themselves whom they let in.
    if !matches!(matter.mode, Mode::Enroll | Mode::Invite) {
        return Err(Reason::InviteInvalid);
    }
    let endpoint = &matter.endpoint;
    let (Some(proof), PeerId::Node(joiner)) = (&newcomer.proof, newcomer.peer) else {
        return Err(Reason::InviteInvalid);
    };
    let id = InvitationId(proof.id);
    let found = endpoint.invitations.find(&id).map_err(store_error)?;
    let invitation = found.ok_or(Reason::InviteInvalid)?;
    let inviter = endpoint.credentials.node_id();
    let statement = JoinStatement {
        exporter: *exporter,
        joiner,
        inviter,
        invitation: invitation::InvitationId(proof.id),
    };
    statement
        .verify(&invitation.key.0, &proof.signature)
        .map_err(|_| Reason::InviteInvalid)?;
    if invitation.network_id.is_some() && endpoint.issuer.get().is_none() {
        // Where the authority's key is, it can still be redeemed.
        return Err(Reason::WrongNetwork);
    }
    let now = endpoint.clock.now();
    would_be_let_in(matter, chain, &invitation, now)?;
    let consumed = endpoint.invitations.consume(&id, &joiner, now);
    let invitation = match consumed.map_err(store_error)? {
        Consumed::First(invitation) => invitation,
        Consumed::Retry(invitation) if !was_entered(&invitation) => invitation,
        // Its answer was lost, or what it got was taken from it since: nothing is entered twice, and
        // the gate decides on what is left.
        Consumed::Retry(invitation) => return Ok(invitation),
        Consumed::Refused(cause) => {
            tracing::info!(peer = %joiner.short(), %cause, "invitation refused");
            return Err(Reason::InviteInvalid);
        }
    };
    enter(&endpoint.store, newcomer, &joiner, &invitation, now).map_err(store_error)?;
    // Failing to note either harms nothing now: the peer is known, and is told so.
    if let Err(error) = endpoint.invitations.settle(&id, &joiner) {
        tracing::warn!(%error, "an invitation could be used again by the peer that joined with it");
    }
    // It may have waited for approval before it was invited.
    if let Err(error) = endpoint.pending.remove(&newcomer.peer) {
        tracing::warn!(error = %error, "the queue still lists a peer that joined");
    }
    Ok(invitation)
}

/// Whether a proven invitation lets this chain in at all. An invitation is not used up, and nothing
/// is recorded, for a peer that the gate would refuse afterwards.
fn would_be_let_in(
    matter: &Matter,
    chain: &PresentedChain,
    invitation: &Invitation,
    now: UnixTime,
) -> Result<(), Reason> {
    let label = |text: &String| Name::label(text).ok();
    let (roles, networks) = of_the_pin(invitation);
    let invitee = Invitee {
        label: invitation.label.as_ref().and_then(label),
        services: invitation.services.clone(),
        roles: roles.to_vec(),
        networks: networks.to_vec(),
    };
    let snapshot = matter.endpoint.store.poll_changes();
    match matter.decide_invited(chain, Memory::of(&snapshot), &invitee, now) {
        Verdict::Accept(_) => Ok(()),
        Verdict::Refuse(refusal) => Err(refusal.reason),
    }
}

/// The roles and networks that the joiner's entry gets. Those of a network come by its membership,
/// and end with that: an entry would outlive it.
fn of_the_pin(invitation: &Invitation) -> (&[String], &[String]) {
    match invitation.network_id {
        Some(_) => (&[], &[]),
        None => (&invitation.roles, &invitation.networks),
    }
}

fn was_entered(invitation: &Invitation) -> bool {
    invitation.consumed.is_some_and(|c| c.entered)
}

fn enter(
    store: &PeerStore,
    newcomer: &Newcomer,
    joiner: &NodeId,
    invitation: &Invitation,
    now: UnixTime,
) -> Result<(), UpdateError> {
    let peer = PeerId::Node(*joiner);
    let claimed = newcomer.claimed_name.as_deref();
    let suffixed = claimed.map(|name| label_of_claim(name, peer));
    let (roles, networks) = of_the_pin(invitation);
    let admission = Admittance {
        peer,
        wanted_label: invitation.label.as_deref().or(suffixed.as_deref()),
        services: &invitation.services,
        roles,
        networks,
        next: newcomer.next,
        origin: Origin::Invite,
        now,
    };
    store
        .decide_and_record(|known| ((), admission.change(known)))
        .map(drop)
}

/// The label of a joiner whom the inviter gave none: what it calls itself, and the beginning of its
/// id. The bare claim would do for reading, but rules name labels (`--allow ssh=laptop`), and a rule
/// outlives the peer it was made for: whoever is invited next must not become `laptop` by saying so.
fn label_of_claim(claim: &str, peer: PeerId) -> String {
    format!("{claim}-{}", peer.short().to_lowercase())
}

fn store_error(error: impl std::fmt::Display) -> Reason {
    tracing::error!(%error, "a newcomer could not be entered");
    Reason::StoreError
}

/// Puts the newcomer into the queue for approval, if that is the mode, and answers the reason it is
/// told.
pub(crate) async fn queue(matter: &Matter, newcomer: Newcomer, reason: Reason) -> Reason {
    if matter.mode != Mode::Enroll || reason != Reason::Pending {
        return reason;
    }
    let (pending, now) = (
        Arc::clone(&matter.endpoint.pending),
        matter.endpoint.clock.now(),
    );
    let peer = newcomer.peer;
    let asked = tokio::task::spawn_blocking(move || {
        let knock = Knock {
            peer: newcomer.peer,
            label: newcomer.claimed_name.as_deref(),
            address: newcomer.address,
            service: newcomer.service.as_deref(),
        };
        pending.ask(&knock, now)
    });
    match asked.await {
        Ok(Ok(Asked::Queued)) => {
            tracing::info!(%peer, "a new peer waits for approval, see `comity trust pending`");
            Reason::Pending
        }
        Ok(Ok(Asked::Waiting)) => Reason::Pending,
        Ok(Ok(Asked::Denied)) => Reason::Unknown,
        Ok(Ok(Asked::QueueFull | Asked::PrefixFull)) => Reason::Busy,
        Ok(Err(error)) => store_error(error),
        Err(_) => Reason::StoreError,
    }
}

/// A peer that is let in, with what it may do.
#[derive(Clone, Copy, Debug)]
pub struct Admittance<'a> {
    /// Its key.
    pub peer: PeerId,
    /// What it shall be called, if that is free.
    pub wanted_label: Option<&'a str>,
    /// Services granted.
    pub services: &'a [String],
    /// Roles granted.
    pub roles: &'a [String],
    /// Networks it is counted to.
    pub networks: &'a [String],
    /// Its committed next key.
    pub next: Option<KeyHash>,
    /// How it came to be known.
    pub origin: Origin,
    /// When.
    pub now: UnixTime,
}

impl Admittance<'_> {
    /// The change of `known_peers` that lets the peer in: a new entry, or the grants added to the
    /// entry that it has. `None` when nothing changes. A label that belongs to another key is
    /// never taken over; the peer gets the label with a number.
    pub fn change(&self, known: &KnownPeers) -> Option<Change> {
        let existing = known
            .pins_of(self.peer)
            .find(|(_, entry)| entry.side != Side::Dial);
        let Some((line, entry)) = existing else {
            let entry = self.entry(known);
            return Some(Change {
                deed: self.deed(&entry),
                edit: Edit::Add(Box::new(entry)),
            });
        };
        let mut merged = entry.clone();
        merge(&mut merged.attributes.services, self.services);
        merge(&mut merged.attributes.roles, self.roles);
        merge(&mut merged.attributes.networks, self.networks);
        (merged != *entry).then(|| Change {
            deed: self.deed(&merged),
            edit: Edit::Replace {
                line,
                entry: Box::new(merged),
            },
        })
    }

    fn deed(&self, entry: &Entry) -> Deed {
        let name = entry.display_name().map(ToString::to_string);
        Deed {
            action: self.origin.token().to_owned(),
            peer: Some(self.peer),
            detail: format!(
                "{} services={} roles={} networks={}",
                name.unwrap_or_default(),
                self.services.join(","),
                self.roles.join(","),
                self.networks.join(","),
            ),
        }
    }

    fn entry(&self, known: &KnownPeers) -> Entry {
        let label = free_label(self.wanted_label, self.peer, known);
        let mut entry = Entry::new(
            Side::Both,
            Names::one(label),
            What::Pin(Pin::from(self.peer)),
        );
        entry.attributes.services = self.services.to_vec();
        entry.attributes.roles = self.roles.to_vec();
        entry.attributes.networks = self.networks.to_vec();
        entry.attributes.next = self.next;
        entry.attributes.origin = Some(self.origin);
        entry.attributes.added = Some(self.now);
        if self.origin == Origin::Invite {
            // The invitation travelled over a channel that both sides trust, and was proven.
            entry.attributes.confirmed = Some(Confirmed {
                at: self.now,
                how: "invite".to_owned(),
            });
        }
        entry
    }
}

/// The label that a peer gets: the wanted one, if it is a label and nobody else has it; else the
/// same with a number; else one made of its id.
pub fn free_label(wanted: Option<&str>, peer: PeerId, known: &KnownPeers) -> Name {
    let numbered = |wanted: &str| -> Option<Name> {
        let numbered = (2..LABEL_TRIES).map(|n| format!("{wanted}-{n}"));
        std::iter::once(wanted.to_owned())
            .chain(numbered)
            .filter_map(|label| Name::label(&label).ok())
            .find(|label| !known.has_pin_named(label))
    };
    wanted
        .filter(|label| Name::label(label).is_ok())
        .and_then(numbered)
        .unwrap_or_else(|| comity_trust::free_label(known, peer))
}

fn merge(into: &mut Vec<String>, more: &[String]) {
    for item in more {
        if !into.contains(item) {
            into.push(item.clone());
        }
    }
}
