//! One entry of `known_peers`: what we remember of one peer or authority.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use comity_certs::{Anchor, PresentedChain};
use comity_identity::{Fingerprint, KeyHash, NodeId, PeerId, UnixTime};
use thiserror::Error;

use crate::mode::Direction;
use crate::name::Name;
use crate::pattern::Names;

/// The directions in which an entry counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// When we dial.
    Dial,
    /// When the peer dials us.
    Accept,
    /// Both.
    Both,
}

impl Side {
    /// `dial`, `accept` or `both`.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Dial => "dial",
            Self::Accept => "accept",
            Self::Both => "both",
        }
    }

    /// Whether an entry of this side counts in `direction`.
    pub const fn covers(self, direction: Direction) -> bool {
        match self {
            Self::Both => true,
            Self::Dial => matches!(direction, Direction::Dial),
            Self::Accept => matches!(direction, Direction::Accept),
        }
    }

    /// Whether there is a direction in which both count.
    pub const fn overlaps(self, other: Self) -> bool {
        (self.covers(Direction::Dial) && other.covers(Direction::Dial))
            || (self.covers(Direction::Accept) && other.covers(Direction::Accept))
    }
}

impl From<Direction> for Side {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Dial => Self::Dial,
            Direction::Accept => Self::Accept,
        }
    }
}

/// A remembered key or certificate.
///
/// A pin matches what a peer *is*, never a certificate that is merely present in its chain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Pin {
    /// The identity key of a native node.
    Node(NodeId),
    /// The key of the leaf.
    Key(KeyHash),
    /// The leaf, byte for byte; it ends with every renewal.
    Cert(Fingerprint),
}

impl Pin {
    /// `node`, `key` or `cert`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Node(_) => "node",
            Self::Key(_) => "key",
            Self::Cert(_) => "cert",
        }
    }

    /// Whether the presented peer is the one remembered.
    pub fn matches(&self, chain: &PresentedChain) -> bool {
        match self {
            Self::Node(id) => chain.peer_id() == PeerId::Node(*id),
            Self::Key(key) => chain.leaf().key == *key,
            Self::Cert(fingerprint) => chain.leaf().fingerprint == *fingerprint,
        }
    }
}

impl From<PeerId> for Pin {
    fn from(peer: PeerId) -> Self {
        match peer {
            PeerId::Node(id) => Self::Node(id),
            PeerId::Key(key) => Self::Key(key),
        }
    }
}

/// The kind and the grouped text form: `node MFZWI3D-...`.
impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(hash) => write!(f, "node {hash}"),
            Self::Key(hash) => write!(f, "key {hash}"),
            Self::Cert(hash) => write!(f, "cert {hash}"),
        }
    }
}

/// What a line says about its names.
#[derive(Clone, Debug)]
pub enum What {
    /// They have this key or certificate.
    Pin(Pin),
    /// This authority may vouch for them (`@ca`). The entry's networks and roles are what it may
    /// attest.
    Ca(Arc<Anchor>),
    /// Never accept this key or certificate, whatever the names and the side (`@revoked`).
    Revoked(Pin),
    /// They were once recognised by a CA (`@ca-verified`), and never fall back to an unknown key.
    CaVerified,
}

impl PartialEq for What {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pin(a), Self::Pin(b)) | (Self::Revoked(a), Self::Revoked(b)) => a == b,
            (Self::Ca(a), Self::Ca(b)) => a.der() == b.der(),
            (Self::CaVerified, Self::CaVerified) => true,
            _ => false,
        }
    }
}

impl Eq for What {}

/// How an entry came to be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// The first key seen under the name; nobody confirmed it.
    FirstUse,
    /// The operator wrote it.
    Hand,
    /// An invitation that we gave or took.
    Invite,
    /// The operator approved it from the queue.
    Approved,
    /// Imported from another tool.
    Import,
    /// A CA vouched for it at first contact.
    Ca,
    /// A succession statement of the previous key.
    Succession,
}

impl Origin {
    /// Every origin.
    pub const ALL: [Self; 7] = [
        Self::FirstUse,
        Self::Hand,
        Self::Invite,
        Self::Approved,
        Self::Import,
        Self::Ca,
        Self::Succession,
    ];

    /// The word in the file.
    pub const fn token(self) -> &'static str {
        match self {
            Self::FirstUse => "first-use",
            Self::Hand => "hand",
            Self::Invite => "invite",
            Self::Approved => "approved",
            Self::Import => "import",
            Self::Ca => "ca",
            Self::Succession => "succession",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// A word that is no [`Origin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no such origin")]
pub struct ParseOriginError;

impl FromStr for Origin {
    type Err = ParseOriginError;

    fn from_str(text: &str) -> Result<Self, ParseOriginError> {
        Self::ALL
            .into_iter()
            .find(|origin| origin.token() == text)
            .ok_or(ParseOriginError)
    }
}

/// Where a listed CA stands in a rotation. It counts in all of them: what differs is what people
/// do next. A CA that no longer counts is on a line marked `@revoked`, or on none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum CaState {
    /// Listed ahead of the day on which it begins to issue.
    Next,
    /// It issues. What a line without `state=` means.
    #[default]
    Active,
    /// It issues no more; what it issued counts until `not-after=`.
    Retiring,
}

impl CaState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Next, Self::Active, Self::Retiring];

    /// The word in the file.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Retiring => "retiring",
        }
    }
}

impl fmt::Display for CaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// A word that is no [`CaState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no such state")]
pub struct ParseCaStateError;

impl FromStr for CaState {
    type Err = ParseCaStateError;

    fn from_str(text: &str) -> Result<Self, ParseCaStateError> {
        Self::ALL
            .into_iter()
            .find(|state| state.token() == text)
            .ok_or(ParseCaStateError)
    }
}

/// When and how a person or a machine compared the key over another channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Confirmed {
    /// When.
    pub at: UnixTime,
    /// How, in one word of lower-case letters, digits and `-`: `hand`, `words`, `live`, `id`.
    /// Empty when the file does not say.
    pub how: String,
}

impl Confirmed {
    /// The word of an invitation: a secret was compared, and nobody looked at the key.
    pub const INVITE: &'static str = "invite";

    /// Whether a person compared this very key, so that no program may move the entry to another.
    pub fn by_a_person(&self) -> bool {
        self.how != Self::INVITE
    }
}

impl fmt::Display for Confirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)?;
        if !self.how.is_empty() {
            write!(f, "/{}", self.how)?;
        }
        Ok(())
    }
}

/// What else a line says. Everything is empty by default.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Attributes {
    /// `addr=`: where to dial, in order of preference.
    pub addr: Vec<Name>,
    /// `for=`: services granted; `*` grants all.
    pub services: Vec<String>,
    /// `roles=`: roles granted; on a CA, the roles it may attest.
    pub roles: Vec<String>,
    /// `networks=`: networks granted; on a CA, the networks it may attest.
    pub networks: Vec<String>,
    /// `next=`: the hash of the identity key that may succeed this one.
    pub next: Option<KeyHash>,
    /// `seq=`: the last succession taken.
    pub seq: Option<u64>,
    /// `origin=`: how the entry came to be.
    pub origin: Option<Origin>,
    /// `added=`: when.
    pub added: Option<UnixTime>,
    /// `confirmed=`: when and how it was compared.
    pub confirmed: Option<Confirmed>,
    /// `not-after=`: after this second the entry recognises nobody (a withdrawal never ends).
    pub not_after: Option<UnixTime>,
    /// `successor=`: the node to which this key handed over. Until `not-after=` both count.
    pub successor: Option<NodeId>,
    /// `forked=`: since when two statements contradict each other. The entry recognises nobody
    /// until a person decides.
    pub forked: Option<UnixTime>,
    /// `state=`: where a listed CA stands in a rotation; without it, [`CaState::Active`].
    pub state: Option<CaState>,
    /// `x-...=`: what other programs and people keep here.
    pub extra: Vec<(String, String)>,
}

/// One entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// In which directions it counts.
    pub side: Side,
    /// Whom it names; on a CA, whom it may vouch for.
    pub names: Names,
    /// What it says about them.
    pub what: What,
    /// The certificate on a line `@revoked … ca`, as the marker of a CA line is changed by hand. The
    /// line revokes the authority's key; with the certificate we also know what is below it.
    pub revoked_authority: Option<Arc<Anchor>>,
    /// What else.
    pub attributes: Attributes,
}

impl Entry {
    /// An entry without attributes.
    pub fn new(side: Side, names: Names, what: What) -> Self {
        Self {
            side,
            names,
            what,
            revoked_authority: None,
            attributes: Attributes::default(),
        }
    }

    /// The revocation of an authority's key that also withdraws everything below it.
    pub fn revoking(side: Side, names: Names, authority: Arc<Anchor>) -> Self {
        let key = Pin::Key(authority.key());
        Self {
            revoked_authority: Some(authority),
            ..Self::new(side, names, What::Revoked(key))
        }
    }

    /// The pin of a pin line.
    pub fn pin(&self) -> Option<&Pin> {
        match &self.what {
            What::Pin(pin) => Some(pin),
            What::Ca(_) | What::Revoked(_) | What::CaVerified => None,
        }
    }

    /// The authority of a CA line.
    pub fn anchor(&self) -> Option<&Anchor> {
        match &self.what {
            What::Ca(anchor) => Some(anchor),
            What::Pin(_) | What::Revoked(_) | What::CaVerified => None,
        }
    }

    /// The name that people see: the first label, or else the first exact name.
    pub fn display_name(&self) -> Option<&Name> {
        self.names.label().or_else(|| self.names.exact().next())
    }

    /// The node that a pin line names by its identity key.
    pub fn node(&self) -> Option<NodeId> {
        match self.pin() {
            Some(Pin::Node(id)) => Some(*id),
            _ => None,
        }
    }

    /// Whether its own `not-after=` has passed.
    pub fn is_over(&self, now: UnixTime) -> bool {
        self.attributes.not_after.is_some_and(|end| end < now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_back() {
        for origin in Origin::ALL {
            assert_eq!(origin.to_string().parse(), Ok(origin));
        }
        assert_eq!("guess".parse::<Origin>(), Err(ParseOriginError));
    }

    #[test]
    fn states_are_read_back() {
        for state in CaState::ALL {
            assert_eq!(state.to_string().parse(), Ok(state));
        }
        assert_eq!("revoked".parse::<CaState>(), Err(ParseCaStateError));
        assert_eq!(CaState::default(), CaState::Active);
    }

    #[test]
    fn an_invitation_is_no_comparison_by_a_person() {
        let confirmed = |how: &str| Confirmed {
            at: UnixTime::from_secs(0),
            how: how.to_owned(),
        };
        assert!(!confirmed("invite").by_a_person());
        for how in ["", "hand", "words", "live", "id"] {
            assert!(confirmed(how).by_a_person(), "{how}");
        }
    }

    #[test]
    fn sides_cover_their_directions() {
        assert!(Side::Both.overlaps(Side::Dial));
        assert!(!Side::Accept.overlaps(Side::Dial));
        assert!(Side::from(Direction::Accept).covers(Direction::Accept));
        assert!(!Side::Accept.covers(Direction::Dial));
    }
}
