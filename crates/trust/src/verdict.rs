//! What goes into a decision and what comes out of it.

use comity_certs::{Anchor, CaError, CrossError, Issued, PresentedChain};
use comity_identity::{Fingerprint, KeyHash, NodeId, PeerId, UnixTime};
use rustls_pki_types::ServerName;

use crate::edit::Edit;
use crate::entry::{Confirmed, Origin, Pin};
use crate::grants::Grants;
use crate::known_peers::KnownPeers;
use crate::membership::Membership;
use crate::mode::{Direction, Mode, Phase};
use crate::name::Name;
use crate::networks::{AuthorityDoubt, Networks};
use crate::reason::Reason;
use crate::succession::SuccessionFault;

/// Whom we expect. Everything is absent by default, which fits accepting.
#[derive(Clone, Debug, Default)]
pub struct Expectation {
    /// The name under which the peer is remembered: the `host:port` dialled, or a label. A name
    /// that the peer claims does not belong here.
    pub name: Option<Name>,
    /// The only id that is accepted, if there is one. It acts as a pin.
    pub id: Option<PeerId>,
    /// The name that a CA must vouch for when we dial. Without one no CA path is accepted there.
    pub server_name: Option<ServerName<'static>>,
    /// The port dialled, for authorities that are listed for some ports only. Where it is absent, the
    /// port of the name counts.
    pub port: Option<u16>,
    /// A network in which the peer must be, whatever recognises it. Whoever dials an address with
    /// nothing but this meets some member, and learns from the answer which one.
    pub network: Option<NodeId>,
}

/// What an inviter chose for whoever proves an invitation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Invitee {
    /// A label, used if nobody has it.
    pub label: Option<Name>,
    /// Services granted.
    pub services: Vec<String>,
    /// Roles granted.
    pub roles: Vec<String>,
    /// Networks granted.
    pub networks: Vec<String>,
}

/// What became of the invitation that the peer presented.
#[derive(Clone, Copy, Debug, Default)]
pub enum Invited<'a> {
    /// It presented none.
    #[default]
    No,
    /// It presented one that is unknown, used, expired or not proven.
    Invalid,
    /// It proved one of ours, which is not consumed by somebody else.
    Proven(&'a Invitee),
}

/// When an entry of `known_peers` follows a verified statement to another key.
///
/// Whatever it says: a revoked key has no successor, a commitment (`next=`) binds, and statements
/// that contradict what was followed before freeze the entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SuccessionPolicy {
    /// Entries that no person confirmed follow; for others a person decides. The default.
    #[default]
    Auto,
    /// A person decides about every entry.
    Ask,
    /// No entry follows.
    Never,
    /// A person decided: this successor and no other, whoever confirmed the entry.
    Accept(NodeId),
}

/// One question: is this peer recognised?
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Who opened the connection.
    pub direction: Direction,
    /// What is allowed.
    pub mode: Mode,
    /// When it is asked.
    pub phase: Phase,
    /// What the peer presented.
    pub chain: &'a PresentedChain,
    /// Whom we expect.
    pub expectation: &'a Expectation,
    /// What we remember.
    pub known: &'a KnownPeers,
    /// Public CAs. They attest nothing but the name of a server, and count only when dialling.
    pub system_roots: &'a [Anchor],
    /// The hashes of our own identity and leaf keys.
    pub own: &'a [KeyHash],
    /// The authorities whose cross-certificates count, and those whose withdrawals do.
    pub networks: &'a Networks,
    /// Whether an entry follows the statements of its key to another one.
    pub succession: SuccessionPolicy,
    /// What became of the peer's invitation.
    pub invited: Invited<'a>,
    /// The time by which certificates are judged.
    pub now: UnixTime,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// We know who this is.
    Accept(Recognition),
    /// We do not talk.
    Refuse(Refusal),
}

impl Verdict {
    /// The recognition of an accepted peer.
    pub fn recognition(&self) -> Option<&Recognition> {
        match self {
            Self::Accept(recognition) => Some(recognition),
            Self::Refuse(_) => None,
        }
    }

    /// The refusal of a refused one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Accept(_) => None,
            Self::Refuse(refusal) => Some(refusal),
        }
    }
}

/// A recognised peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recognition {
    /// Who it is.
    pub peer: PeerId,
    /// By what.
    pub how: How,
    /// The label of the entry that names its key: what logs and people call it.
    pub label: Option<String>,
    /// Every label of every such entry, for rules that name a label.
    pub labels: Vec<String>,
    /// What the gate must write (under the lock, after deciding again on what the file then says)
    /// before anything else happens: an [`Edit::Add`] or an [`Edit::Succeed`]. Always `None` in the
    /// other phases.
    pub record: Option<Box<Edit>>,
    /// What the operator should know.
    pub warnings: Vec<Warning>,
    /// The last second of this recognition: the end of a certificate, of the path above it, or of
    /// an entry. For native leaves this includes the tolerance for clocks.
    pub ends: UnixTime,
    /// What it may do.
    pub grants: Grants,
    /// The networks that it is in, by cross-certificates that count now. They are granted already.
    pub memberships: Vec<Membership>,
}

/// What recognised a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum How {
    /// A pin.
    Pin {
        /// The line that has it.
        line: usize,
    },
    /// The id that the caller expects.
    Expected,
    /// A CA.
    Ca {
        /// Which one.
        anchor: Fingerprint,
        /// The line that lists it; `None` for system roots.
        line: Option<usize>,
    },
    /// A certificate for its key by an authority that we recognise.
    CrossCertificate {
        /// The network of that authority.
        network: NodeId,
    },
    /// A proven invitation.
    Invited,
    /// The first key under this name.
    FirstUse,
    /// A mode that refuses hardly anybody and remembers.
    Recorded,
    /// A mode that refuses hardly anybody and remembers nothing.
    Insecure,
    /// Nothing yet: the gate decides.
    Provisional,
}

impl How {
    /// The word for it in logs and JSON.
    pub const fn token(&self) -> &'static str {
        match self {
            Self::Pin { .. } => "pin",
            Self::Expected => "id",
            Self::Ca { .. } => "ca",
            Self::CrossCertificate { .. } => "cross-certificate",
            Self::Invited => "invite",
            Self::FirstUse => "first-use",
            Self::Recorded => "record",
            Self::Insecure => "insecure",
            Self::Provisional => "provisional",
        }
    }

    /// Whether somebody we trust said who this is. First use and the modes that refuse hardly
    /// anybody grant nothing.
    pub const fn may_grant(&self) -> bool {
        matches!(
            self,
            Self::Pin { .. }
                | Self::Expected
                | Self::CrossCertificate { .. }
                | Self::Ca { .. }
                | Self::Invited
        )
    }
}

/// Something about an accepted peer that the operator should know.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Warning {
    /// The mode does not check who the peer is.
    Insecure,
    /// The mode accepted what `tofu` would have refused.
    WouldRefuse(Box<Refusal>),
    /// A pinned foreign certificate has expired.
    Expired {
        /// When.
        not_after: UnixTime,
    },
    /// A pinned foreign certificate is not valid yet.
    NotYetValid {
        /// When it will be.
        not_before: UnixTime,
    },
    /// The key is also known under other names.
    KnownElsewhere {
        /// The line.
        line: usize,
        /// Its first name, if it has an exact one.
        name: Option<Name>,
    },
    /// First use, although the certificate is not self-signed and no CA we know vouches for it.
    CaRefused(Box<Refusal>),
}

/// A refused peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Why, from the closed table.
    pub reason: Reason,
    /// Who was refused.
    pub presented: PeerId,
    /// What the reason rests on.
    pub evidence: Evidence,
    /// What the gate must write although the peer is refused (under the lock, after deciding again
    /// on what the file then says): an [`Edit::Freeze`]. Always `None` in the other phases.
    pub record: Option<Box<Edit>>,
}

/// What a refusal rests on.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Evidence {
    /// The reason says it all.
    None,
    /// The mode has no meaning in this direction.
    Mode {
        /// The mode.
        mode: Mode,
        /// The direction.
        direction: Direction,
    },
    /// A revocation.
    Revoked {
        /// The line.
        line: usize,
    },
    /// Another key than the one we know or were told.
    Changed {
        /// The name under which it is known.
        name: Option<Name>,
        /// The id that the caller expects.
        expected: Option<PeerId>,
        /// What we know instead.
        known: Vec<KnownPin>,
        /// The leaf that was presented, for comparison with certificate pins.
        fingerprint: Fingerprint,
        /// Why the statements of succession that it presents do not make it the known one, where
        /// it presents any. [`SuccessionFault::Undecided`] is for a person to decide.
        succession: Option<SuccessionFault>,
    },
    /// The key gave its names to a successor, and the overlap is over.
    Superseded {
        /// The line.
        line: usize,
        /// The successor.
        successor: NodeId,
        /// The last second of the overlap.
        not_after: UnixTime,
    },
    /// Statements about the key contradict each other. A person must find out which of the keys is
    /// the owner's, and replace, remove or revoke.
    Forked {
        /// The lines of the key and of what was followed from it.
        lines: Vec<usize>,
        /// Since when, if it was known before.
        since: Option<UnixTime>,
    },
    /// A statement of succession that does not count.
    Succession(SuccessionFault),
    /// A certificate on the path was withdrawn by the authority whose key issued it.
    Withdrawn {
        /// The network of that authority.
        network: NodeId,
        /// What it is called here.
        label: String,
        /// The certificate.
        certificate: Issued,
    },
    /// A cross-certificate that is sound, by an authority that does not count for it now.
    Authority {
        /// Its network.
        network: NodeId,
        /// What it is called here.
        label: String,
        /// Why.
        doubt: AuthorityDoubt,
    },
    /// A cross-certificate for another key than the node's own.
    OtherMember {
        /// The network of its authority.
        network: NodeId,
        /// The key that it certifies.
        certified: KeyHash,
    },
    /// A cross-certificate that names an authority of ours, without a path that holds.
    Cross(CrossError),
    /// It is not in the network that the caller demands.
    Network {
        /// That network.
        network: NodeId,
    },
    /// Nothing names the key.
    Unknown {
        /// The id that the caller expects.
        expected: Option<PeerId>,
        /// Where the key is known under another name.
        elsewhere: Vec<usize>,
        /// Why no CA recognised it, where CAs were asked.
        ca: Option<CaError>,
    },
    /// A certificate whose time is over.
    Expired {
        /// Its last second.
        not_after: UnixTime,
    },
    /// A certificate whose time has not come.
    NotYetValid {
        /// Its first second.
        not_before: UnixTime,
    },
    /// An entry whose `not-after=` has passed.
    EntryExpired {
        /// The line.
        line: usize,
        /// Its last second.
        not_after: UnixTime,
    },
    /// No path to a CA, or one that does not hold.
    Ca(CaError),
    /// A leaf of a node that is for the other direction.
    Purpose,
    /// A CA path, but the leaf is not for the name dialled.
    NameMismatch {
        /// The name, if one was given.
        expected: Option<String>,
    },
    /// A CA path to an authority that is not listed for this peer.
    Scope {
        /// The line that lists the authority.
        line: usize,
    },
    /// The name was recognised by a CA before.
    Downgrade {
        /// The line that remembers it.
        line: usize,
        /// Why no CA recognises it now, where CAs were asked.
        ca: Option<CaError>,
    },
}

/// A pin as a refusal shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownPin {
    /// The line.
    pub line: usize,
    /// The pin.
    pub pin: Pin,
    /// How it came to be.
    pub origin: Option<Origin>,
    /// Since when.
    pub added: Option<UnixTime>,
    /// When and how it was compared.
    pub confirmed: Option<Confirmed>,
}

/// A verdict and how it came about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// The same as [`crate::decide`] returns.
    pub verdict: Verdict,
    /// The rules in the order in which they were tried.
    pub steps: Vec<Step>,
}

/// One rule that was tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Which.
    pub rule: Rule,
    /// What came of it.
    pub outcome: Outcome,
    /// What it came of, where that is more than a line.
    pub detail: Option<StepDetail>,
}

/// What a rule looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StepDetail {
    /// A cross-certificate that counts: its network, issuer, serial number and roles.
    Membership(Box<Membership>),
    /// Statements that led from a key we knew to the one presented.
    Succession {
        /// The key that we knew.
        from: NodeId,
        /// The key presented.
        to: NodeId,
    },
    /// Why something does not count.
    Evidence(Box<Evidence>),
}

/// The rules, in the order of precedence.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Rule {
    /// Whether mode and direction fit.
    Mode,
    /// Whether the verifier callback may decide anything.
    Phase,
    /// Never ourselves.
    NotSelf,
    /// Never a revoked key.
    NotRevoked,
    /// An expected id, and no other.
    ExpectedId,
    /// The leaf of a node is for this direction.
    Purpose,
    /// A pin for the name or key.
    Pin,
    /// Verified statements from a pinned key to the one presented.
    Succession,
    /// A proven invitation.
    Invitation,
    /// A cross-certificate by an authority that we recognise.
    CrossCertificate,
    /// A CA path within scope.
    Ca,
    /// Never back from a CA to an unknown key.
    NoDowngrade,
    /// Certificates are valid now.
    Validity,
    /// An entry must be there once it was recorded.
    StillThere,
    /// The first key under a name.
    FirstUse,
    /// No check at all.
    Insecure,
    /// What local entries and authorities grant.
    Grants,
}

impl Rule {
    /// The word for it in `explain` and JSON.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Mode => "mode",
            Self::Phase => "phase",
            Self::NotSelf => "not-self",
            Self::NotRevoked => "not-revoked",
            Self::ExpectedId => "expected-id",
            Self::Purpose => "purpose",
            Self::Pin => "pin",
            Self::Ca => "ca",
            Self::NoDowngrade => "no-downgrade",
            Self::Succession => "succession",
            Self::Invitation => "invitation",
            Self::CrossCertificate => "cross-certificate",
            Self::Validity => "validity",
            Self::StillThere => "still-there",
            Self::FirstUse => "first-use",
            Self::Insecure => "insecure",
            Self::Grants => "grants",
        }
    }
}

/// What came of a rule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// It has nothing against the peer.
    Passed,
    /// It does not speak of this peer.
    DoesNotApply,
    /// It recognised the peer.
    Recognised {
        /// The line that did, if one did.
        line: Option<usize>,
    },
    /// It speaks against the peer: the verdict, unless the mode only records.
    Refused(Reason),
    /// It did not recognise the peer, and the next rule is tried.
    Failed(Reason),
}
