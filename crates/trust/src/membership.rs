//! What authorities say of a peer by cross-certificates, and whether that counts here.
//!
//! `comity-certs` verifies the path: names, constraints, signatures, dates. Whether it counts is
//! asked of the registry, which must agree:
//!
//! 1. The key that issued the cross-certificate is one of the authority's own, neither revoked nor
//!    retired for good, and may say what it says by the certificate that the authority lists for it
//!    now: the peer may bring an older and wider one. An intermediate certificate that only the peer brings along is none.
//! 2. Nothing on the path was withdrawn by the authority whose key issued it. Nobody withdraws what
//!    another one's keys issued.
//! 3. Where the peer is a node, the certified key is its own.
//!
//! A path that passes proves who the peer is: the certified key, below which everything carries that
//! key's name. Whether it recognises a newcomer depends on the freshness of the bundle as well.

use std::collections::{BTreeMap, BTreeSet};

use comity_certs::{
    Anchor, CrossCertificate, CrossError, CrossPath, Form, Issued, Rollover, cross_paths,
    verify_cross_path,
};
use comity_identity::{KeyHash, NodeId, PeerId, UnixTime};

use crate::decide::purpose_of;
use crate::mode::Phase;
use crate::networks::{Authority, AuthorityDoubt};
use crate::reason::Reason;
use crate::verdict::{Evidence, Query};

/// Most authorities that are asked one by one about keys that several of them list: each search may
/// verify [`comity_certs::limits::MAX_CROSS_SIGNATURES`] signatures. One of each key is asked before
/// a second of any, so that those who list one key do not keep the others from being asked.
const MAX_CLAIMANTS: usize = 4;

/// One network that a peer is in, as its authority attests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    /// The network.
    pub network: NodeId,
    /// What it is called here.
    pub label: String,
    /// The roles that the cross-certificate attests.
    pub roles: Vec<String>,
    /// The last second of the path, the leaf, the authority's certificate and the overlap of keys that
    /// are being retired included.
    pub not_after: UnixTime,
    /// The cross-certificate: its issuer's key, its serial number, and what it says.
    pub cross: CrossCertificate,
}

/// What the presented cross-certificates come to.
#[derive(Default)]
pub(crate) struct Members {
    /// Paths that count, of one and the same certified key.
    valid: Vec<Member>,
    /// Paths by authorities that we know which do not count, the most serious first.
    refused: Vec<Fault>,
}

/// Why a cross-certificate does not count.
#[derive(Clone)]
pub(crate) struct Fault {
    pub(crate) reason: Reason,
    pub(crate) evidence: Evidence,
}

pub(crate) struct Member {
    pub(crate) membership: Membership,
    /// Why it recognises no newcomer.
    doubt: Option<Fault>,
}

impl Members {
    /// Asks every authority. Costs nothing to speak of where no presented certificate names one.
    pub(crate) fn of(query: &Query<'_>) -> Self {
        let mut members = Self::default();
        if query.networks.recognised().next().is_none() || query.chain.der().len() < 2 {
            return members;
        }
        let all = query.networks.recognised().flat_map(anchors);
        let mut contested: BTreeMap<KeyHash, BTreeSet<NodeId>> = BTreeMap::new();
        for path in search(query, all) {
            let claims = |a: &&Authority| a.bundle.key(&path.cross.issuer_key).is_some();
            let claimants: Vec<&Authority> = query.networks.recognised().filter(claims).collect();
            match claimants.as_slice() {
                [authority] => members.judge(query, authority, path),
                [] => members.unknown_issuer(query, &path),
                several => {
                    let listing = contested.entry(path.cross.issuer_key).or_default();
                    listing.extend(several.iter().map(|authority| authority.id()));
                }
            }
        }
        let contested = in_turn(&contested).into_iter();
        let contested = contested.filter_map(|id| query.networks.get(&id));
        for authority in contested.take(MAX_CLAIMANTS) {
            // By its own certificate for the key: another authority's might have a wider scope.
            for path in search(query, anchors(authority)) {
                if authority.bundle.key(&path.cross.issuer_key).is_some() {
                    members.judge(query, authority, path);
                }
            }
        }
        members
            .refused
            .sort_by_key(|fault| fault.reason != Reason::Revoked);
        members.keep_one_key(query);
        members
    }

    /// The key that all of them certify.
    pub(crate) fn key(&self) -> Option<NodeId> {
        let first = self.valid.first()?;
        Some(NodeId::from_bytes(*first.membership.cross.key.as_bytes()))
    }

    /// The last second for which a path proves the key.
    pub(crate) fn proven_until(&self) -> Option<UnixTime> {
        let ends = self.valid.iter().map(|member| member.membership.not_after);
        ends.max()
    }

    /// Those that count at this point of the connection.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Membership> {
        let live = self.valid.iter().filter(|member| member.doubt.is_none());
        live.map(|member| &member.membership)
    }

    /// Why others do not, the most serious first: withdrawals and revocations, then what else the
    /// registry has against a path, then what it has against an authority at the moment.
    pub(crate) fn faults(&self) -> impl Iterator<Item = &Fault> {
        let doubts = self.valid.iter().filter_map(|member| member.doubt.as_ref());
        self.refused.iter().chain(doubts)
    }

    /// The withdrawal or revocation that stands against the only identity which the peer showed.
    pub(crate) fn withdrawn(&self) -> Option<&Fault> {
        let first = self.refused.first().filter(|_| self.valid.is_empty());
        first.filter(|fault| fault.reason == Reason::Revoked)
    }

    fn judge(&mut self, query: &Query<'_>, authority: &Authority, path: CrossPath) {
        let keys_end = match registry_agrees(query, authority, &path) {
            Ok(keys_end) => keys_end,
            Err(fault) => return self.refused.push(*fault),
        };
        let network = authority.id();
        let doubt = match query.phase {
            // Who was recognised stays until something is withdrawn or ends.
            Phase::Established => None,
            Phase::Certificate | Phase::Gate => authority
                .recognises_newcomers(query.now)
                .err()
                .map(|doubt| doubted(authority, doubt)),
        };
        let metadata = path.cross.metadata.as_ref();
        let membership = Membership {
            network,
            label: authority.label.clone(),
            roles: metadata.map(|m| m.roles().to_vec()).unwrap_or_default(),
            not_after: path.not_after.min(keys_end),
            cross: path.cross,
        };
        self.valid.push(Member { membership, doubt });
    }

    /// A path to an authority that does not list the issuer.
    fn unknown_issuer(&mut self, query: &Query<'_>, path: &CrossPath) {
        let is_above =
            |a: &&Authority| anchors(a).any(|anchor| anchor.fingerprint() == path.anchor);
        if let Some(authority) = query.networks.recognised().find(is_above) {
            let key = path.cross.issuer_key;
            let doubt = AuthorityDoubt::KeyUnknown { key };
            self.refused.push(doubted(authority, doubt));
        }
    }

    /// One leaf has one issuer, but below a cross-certificate keys may have replaced each other, and
    /// different networks may have certified different ones of these. The peer is the one that the
    /// caller expects or that we know, or else the one that the shortest path proves.
    fn keep_one_key(&mut self, query: &Query<'_>) {
        let is_known = |member: &&Member| {
            let id = PeerId::Node(NodeId::from_bytes(*member.membership.cross.key.as_bytes()));
            match query.expectation.id {
                Some(expected) => expected == id,
                None => query.known.pins_of(id).next().is_some(),
            }
        };
        let chosen = self.valid.iter().find(is_known).or(self.valid.first());
        let Some(key) = chosen.map(|member| member.membership.cross.key) else {
            return;
        };
        self.valid
            .retain(|member| member.membership.cross.key == key);
    }
}

/// One network of each key, then a second of each, and so on; each network once.
fn in_turn(contested: &BTreeMap<KeyHash, BTreeSet<NodeId>>) -> Vec<NodeId> {
    let mut lists: Vec<_> = contested.values().map(BTreeSet::iter).collect();
    let mut turns = Vec::new();
    let longest = contested.values().map(BTreeSet::len).max().unwrap_or(0);
    for _ in 0..longest {
        for id in lists.iter_mut().filter_map(Iterator::next) {
            if !turns.contains(id) {
                turns.push(*id);
            }
        }
    }
    turns
}

/// Why no path could be verified, for a peer that shows certificates by an authority we know.
pub(crate) fn path_fault(query: &Query<'_>) -> Option<(Reason, CrossError)> {
    let all = query.networks.recognised().flat_map(anchors);
    let purpose = purpose_of(query.direction);
    let error = verify_cross_path(query.chain, all, purpose, rollover(query), query.now).err()?;
    let reason = match &error {
        CrossError::UnknownIssuer { .. }
        | CrossError::NoCrossCertificate
        | CrossError::NotOwnRoot => return None,
        CrossError::Expired { .. } | CrossError::AnchorExpired { .. } => Reason::Expired,
        CrossError::NotYetValid { .. } | CrossError::AnchorNotYetValid { .. } => {
            Reason::NotYetValid
        }
        CrossError::OutOfScope { .. } => Reason::OutOfScope,
        CrossError::TooComplex => Reason::Limit,
        CrossError::BadSignature { .. } | CrossError::Certificate { .. } => Reason::Malformed,
        _ => Reason::Constraint,
    };
    Some((reason, error))
}

fn search<'a>(query: &Query<'_>, anchors: impl Iterator<Item = &'a Anchor>) -> Vec<CrossPath> {
    let purpose = purpose_of(query.direction);
    cross_paths(query.chain, anchors, purpose, rollover(query), query.now)
}

/// Every key of the authority, so that a path by one that was given up is found and refused for that
/// reason.
fn anchors(authority: &Authority) -> impl Iterator<Item = &Anchor> {
    let keys = authority.bundle.charter().keys().iter();
    keys.map(|key| key.certificate.as_ref())
}

/// An organisation replaces its root by a certificate below its own name; a node has statements of
/// succession for that, and nothing self-issued in its chain but its root.
fn rollover(query: &Query<'_>) -> Rollover {
    match query.chain.form() {
        Form::Native => Rollover::Refused,
        Form::Foreign => Rollover::Accepted,
    }
}

/// Whether the path counts here, and the last second until which its keys are the authorities' own.
fn registry_agrees(
    query: &Query<'_>,
    authority: &Authority,
    path: &CrossPath,
) -> Result<UnixTime, Box<Fault>> {
    let native = query.chain.form() == Form::Native;
    if native && query.chain.peer_id().key_hash() != path.cross.key {
        let evidence = Evidence::OtherMember {
            network: authority.id(),
            certified: path.cross.key,
        };
        return Err(fault(Reason::OutOfScope, evidence));
    }
    if let Some(line) = revoked_here(query, &path.keys) {
        return Err(fault(Reason::Revoked, Evidence::Revoked { line }));
    }
    let issuer = path.cross.issuer_key;
    let mut ends = authority
        .key_counts(issuer, query.now)
        .and_then(|()| authority.key_attests(issuer, path.cross.metadata.as_ref(), query.now))
        .map_err(|doubt| Box::new(doubted(authority, doubt)))?
        .min(authority.key_ends(issuer));
    let is_cross = |issued: &Issued| {
        issued.issuer_key == path.cross.issuer_key && issued.serial == path.cross.serial
    };
    let (below, above) = match path.issued.iter().position(is_cross) {
        Some(cross) => path.issued.split_at(cross),
        None => (&[][..], path.issued.as_slice()),
    };
    for issued in above {
        not_withdrawn(authority, issued)?;
    }
    // A node signs its leaves itself, and withdraws none.
    for issued in below.iter().filter(|_| !native) {
        for owner in query.networks.owners(issued.issuer_key) {
            match owner.key_counts(issued.issuer_key, query.now) {
                Err(
                    doubt @ (AuthorityDoubt::KeyRevoked { .. } | AuthorityDoubt::KeyRetired { .. }),
                ) => {
                    return Err(Box::new(doubted(owner, doubt)));
                }
                _ => not_withdrawn(owner, issued)?,
            }
            ends = ends.min(owner.key_ends(issued.issuer_key));
        }
    }
    Ok(ends)
}

fn revoked_here(query: &Query<'_>, keys: &[KeyHash]) -> Option<usize> {
    let mut lines = keys
        .iter()
        .filter_map(|key| query.known.revocation_of_key(key));
    lines.next()
}

fn not_withdrawn(authority: &Authority, issued: &Issued) -> Result<(), Box<Fault>> {
    if !authority.withdrew(issued) {
        return Ok(());
    }
    let evidence = Evidence::Withdrawn {
        network: authority.id(),
        label: authority.label.clone(),
        certificate: issued.clone(),
    };
    Err(fault(Reason::Revoked, evidence))
}

fn fault(reason: Reason, evidence: Evidence) -> Box<Fault> {
    Box::new(Fault { reason, evidence })
}

fn doubted(authority: &Authority, doubt: AuthorityDoubt) -> Fault {
    let reason = match doubt {
        AuthorityDoubt::BundleExpired { .. } | AuthorityDoubt::KeyRetired { .. } => Reason::Expired,
        AuthorityDoubt::BundleNotYetValid { .. } => Reason::NotYetValid,
        AuthorityDoubt::Forked { .. } => Reason::Forked,
        AuthorityDoubt::KeyUnknown { .. } => Reason::Unknown,
        AuthorityDoubt::KeyRevoked { .. } => Reason::Revoked,
        AuthorityDoubt::KeyLimited { .. } => Reason::OutOfScope,
    };
    let evidence = Evidence::Authority {
        network: authority.id(),
        label: authority.label.clone(),
        doubt,
    };
    Fault { reason, evidence }
}
