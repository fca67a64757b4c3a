//! Who is at the other end, in two parts that never mix: what is attested, and what is claimed.

use std::net::SocketAddr;

use comity_certs::{PresentedChain, SanName};
use comity_identity::{KeyHash, PeerId, UnixTime};
use comity_trust::{Direction, Grants, How, Membership, Recognition, Warning};
use rustls::ProtocolVersion;

/// The peer of an accepted connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerInfo {
    /// The peer's key. This is its identity.
    pub id: PeerId,
    /// The hash of the key that may succeed its own, to which its root commits: what a pin of it
    /// remembers.
    pub next: Option<KeyHash>,
    /// What we call it, if we have a label for it.
    pub label: Option<String>,
    /// By which rule it was recognised.
    pub how: How,
    /// What an authority scoped for it signed, or we granted: policy may read it.
    pub attested: Grants,
    /// The networks that it is in, by certificates that count: attested as well.
    pub memberships: Vec<Membership>,
    /// What the peer says of itself: for display, never for policy.
    pub claimed: Claims,
    /// What was accepted with a warning.
    pub warnings: Vec<Warning>,
    /// Who opened the connection.
    pub direction: Direction,
    /// The peer's address, where the transport has one.
    pub remote: Option<SocketAddr>,
    /// The TLS version: `TLSv1.3`, or `TLSv1.2` where that was allowed.
    pub tls: &'static str,
    /// When the connection ends at the latest.
    pub ends: UnixTime,
}

/// What a peer says of itself.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Claims {
    /// Names in its certificate.
    pub names: Vec<SanName>,
    /// The common name in its certificate, escaped and bounded.
    pub common_name: Option<String>,
    /// Networks in its certificate's metadata.
    pub networks: Vec<String>,
    /// Roles in its certificate's metadata.
    pub roles: Vec<String>,
    /// Free pairs in its certificate's metadata.
    pub pairs: Vec<(String, String)>,
}

impl PeerInfo {
    pub(crate) fn new(
        chain: &PresentedChain,
        recognition: Recognition,
        direction: Direction,
        remote: Option<SocketAddr>,
        version: Option<ProtocolVersion>,
    ) -> Self {
        Self {
            id: recognition.peer,
            next: chain.next(),
            label: recognition.label,
            how: recognition.how,
            attested: recognition.grants,
            memberships: recognition.memberships,
            claimed: Claims::of(chain),
            warnings: recognition.warnings,
            direction,
            remote,
            tls: match version {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            ends: recognition.ends,
        }
    }

    /// The label, or else the beginning of the id: for logs and messages.
    pub fn display(&self) -> String {
        self.label.clone().unwrap_or_else(|| self.id.short())
    }
}

impl Claims {
    fn of(chain: &PresentedChain) -> Self {
        let leaf = chain.leaf();
        let mut claims = Self {
            names: leaf.names.clone(),
            common_name: leaf.common_name.clone(),
            ..Self::default()
        };
        if let Some(metadata) = &leaf.metadata {
            claims.networks = metadata.networks().to_vec();
            claims.roles = metadata.roles().to_vec();
            claims.pairs = metadata.pairs().to_vec();
        }
        claims
    }
}
