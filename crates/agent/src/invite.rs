//! Giving out invitations.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime};

use comity_identity::{NodeId, UnixTime};
use comity_store::{Home, Invitation as Kept, InvitationId, InvitationKey, Invitations};
use comity_trust::invitation::{self, Invitation, InvitationError, InvitationSecret};
use comity_trust::{DEFAULT_PORT, Name};
use thiserror::Error;

/// What an invitation offers.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The network that the joiner becomes a member of, with the roles below: its name, and its id.
    pub network: Option<(String, NodeId)>,
    /// What the joiner will be called here.
    pub label: Option<String>,
    /// Services it may use.
    pub services: Vec<String>,
    /// Roles it gets.
    pub roles: Vec<String>,
    /// Where we are reached.
    pub addresses: Vec<Name>,
    /// What we suggest to be called there.
    pub our_label: Option<Name>,
    /// For how long it is good.
    pub lifetime: Duration,
}

/// Why no invitation was made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InviteError {
    /// It could not be entered into the store.
    #[error(transparent)]
    Store(#[from] comity_store::InviteError),
    /// It has no text form.
    #[error(transparent)]
    Invitation(#[from] InvitationError),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Entropy(getrandom::Error),
}

/// Makes an invitation. Its public half is durable in the store before this returns; its secret is
/// in the returned value alone.
///
/// # Errors
/// When it cannot be stored, or has no text form.
pub fn invite(
    home: &Home,
    inviter: NodeId,
    offer: &Offer,
    command: &str,
) -> Result<Invitation, InviteError> {
    let mut id = [0; 16];
    let mut secret = [0; 32];
    getrandom::fill(&mut id).map_err(InviteError::Entropy)?;
    getrandom::fill(&mut secret).map_err(InviteError::Entropy)?;
    let now = UnixTime::from(SystemTime::now());
    let invitation = Invitation {
        addresses: offer.addresses.clone(),
        inviter,
        network: offer.network.as_ref().map(|(name, _)| name.clone()),
        network_id: offer.network.as_ref().map(|(_, id)| *id),
        id: invitation::InvitationId(id),
        secret: InvitationSecret::new(secret),
        expires: now + offer.lifetime,
        label: offer.our_label.clone(),
    };
    // Before it is stored: what has no text form must not occupy a place.
    invitation.to_text()?;
    let kept = Kept {
        id: InvitationId(id),
        key: InvitationKey(invitation.secret.public_key()?),
        label: offer.label.clone(),
        services: offer.services.clone(),
        roles: offer.roles.clone(),
        networks: Vec::new(),
        network_id: invitation.network_id,
        created: now,
        expires: invitation.expires,
        consumed: None,
    };
    Invitations::new(home, command).create(kept, now)?;
    Ok(invitation)
}

/// The addresses by which this machine is probably reached from elsewhere: those of the interfaces
/// that lead out, for each IP family, with the default port. No packet is sent.
pub fn likely_addresses() -> Vec<Name> {
    // Documentation addresses (RFC 5737, RFC 3849): routed like any other, owned by nobody.
    let probes = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    probes
        .into_iter()
        .filter_map(|(local, remote)| local_address(local, remote))
        .filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
        .filter_map(|ip| Name::parse(&SocketAddr::new(ip, DEFAULT_PORT).to_string()).ok())
        .collect()
}

/// Connecting a datagram socket only asks the routing table.
fn local_address(local: &str, remote: &str) -> Option<IpAddr> {
    let socket = UdpSocket::bind(local).ok()?;
    socket.connect(remote).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
