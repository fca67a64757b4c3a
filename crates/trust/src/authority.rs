//! What CAs say of a peer: the listed ones (`@ca`) inside their scope, and the system's for names.
//!
//! A path consists of presented certificates, whose keys were compared with the revoked ones before
//! any CA is asked, and an anchor. Revoked anchors are never offered to the search, so no path found
//! here has a revoked key in it.

use comity_certs::{
    Anchor, CaError, CaPath, Form, Metadata, SanName, authority_above, verify_ca_path,
};
use comity_identity::{Fingerprint, UnixTime};
use rustls_pki_types::ServerName;

use crate::decide::purpose_of;
use crate::entry::Entry;
use crate::grants::{EVERYTHING, Grants};
use crate::mode::Direction;
use crate::name::canonical_host;
use crate::reason::Reason;
use crate::verdict::Query;

/// Most path searches for the grants of one peer: each may verify
/// [`comity_certs::limits::MAX_PATH_SIGNATURES`] signatures.
const MAX_ATTESTING_PATHS: usize = 4;

/// A CA path inside the scope of its authority.
pub(crate) struct Vouched {
    pub(crate) anchor: Fingerprint,
    /// The line that lists the authority; `None` for system roots.
    pub(crate) line: Option<usize>,
    pub(crate) not_after: UnixTime,
}

/// Why no CA recognises a peer.
pub(crate) enum CaRefusal {
    /// A key in the path is revoked.
    Revoked { line: usize },
    /// No CA that we know has anything to do with it.
    Stranger(CaError),
    /// A path with a fault.
    Path(Reason, CaError),
    /// A path to an authority that is not listed for this peer.
    Scope { reason: Reason, line: usize },
    /// A path to an authority whose line has ended.
    EntryOver { line: usize, not_after: UnixTime },
    /// A path, but not for the name dialled.
    Name { expected: Option<String> },
}

/// Whether a CA recognises the peer.
pub(crate) fn vouch(query: &Query<'_>) -> Result<Vouched, CaRefusal> {
    let listed = Listed::of(query);
    let system: &[Anchor] = match query.direction {
        Direction::Dial => query.system_roots,
        Direction::Accept => &[],
    };
    let unrevoked = |anchor: &&Anchor| query.known.revocation_of_anchor(anchor).is_none();
    let anchors = listed.in_scope.iter().filter_map(|(_, e)| e.anchor());
    let path = search(query, anchors.chain(system.iter().filter(unrevoked)))
        .map_err(|error| listed.explain(query, system, error))?;
    let line = listed.line_for(query, &path)?;
    check_name(query)?;
    Ok(Vouched {
        anchor: path.anchor,
        line,
        not_after: end(query, line, path.not_after),
    })
}

/// The revocation of a listed authority that issued what the peer presents, even if the mode does
/// not ask authorities: revoking a CA withdraws everything below it, pinned or not, also what
/// another authority vouches for.
///
/// Neither the dates nor the uses of a certificate let it escape. An authority counts on whichever
/// side it is listed, because its revocation counts on both.
pub(crate) fn below_revoked(query: &Query<'_>) -> Option<usize> {
    if query.known.revokes_nothing() {
        return None;
    }
    let revoked: Vec<(usize, &Anchor)> = query.known.revoked_authorities().collect();
    let anchor = authority_above(query.chain, revoked.iter().map(|(_, anchor)| *anchor))?;
    revoked
        .iter()
        .find(|(_, revoked)| revoked.fingerprint() == anchor)
        .map(|(line, _)| *line)
}

/// Adds the networks and roles in the leaf's metadata that a listed authority above it may attest.
/// Returns when the earliest of the paths used ends.
///
/// The leaf's own word counts for nothing: without a path, what it says is a claim.
pub(crate) fn attest(query: &Query<'_>, grants: &mut Grants) -> Option<UnixTime> {
    let metadata = signed_metadata(query)?;
    let listed = Listed::of(query);
    let mut candidates: Vec<(usize, &Entry)> = listed
        .in_scope
        .into_iter()
        .filter(|(_, entry)| {
            let attributes = &entry.attributes;
            overlap(&attributes.networks, metadata.networks())
                .next()
                .is_some()
                || overlap(&attributes.roles, metadata.roles())
                    .next()
                    .is_some()
        })
        .collect();
    let mut earliest = None;
    for _ in 0..MAX_ATTESTING_PATHS {
        let anchors = candidates.iter().filter_map(|(_, entry)| entry.anchor());
        let Ok(path) = search(query, anchors) else {
            break;
        };
        // An authority that may issue for some names only was not trusted with networks and roles:
        // name constraints cannot say which of these it may give.
        let attesting = candidates
            .iter()
            .filter(|(_, entry)| is_anchor(entry, path.anchor) && !path.constrained);
        for (line, entry) in attesting {
            let attributes = &entry.attributes;
            let networks: Vec<&str> = overlap(&attributes.networks, metadata.networks()).collect();
            let roles: Vec<&str> = overlap(&attributes.roles, metadata.roles()).collect();
            grants.add_statement(&networks, &roles, query.networks);
            let ends = end(query, Some(*line), path.not_after);
            earliest = Some(earliest.map_or(ends, |e: UnixTime| e.min(ends)));
        }
        candidates.retain(|(_, entry)| !is_anchor(entry, path.anchor));
    }
    earliest
}

/// The lines marked `@ca` that count in this direction, by whether they may vouch for the peer.
struct Listed<'q> {
    in_scope: Vec<(usize, &'q Entry)>,
    out_of_scope: Vec<(usize, &'q Entry, Reason)>,
    over: Vec<(usize, &'q Entry, UnixTime)>,
    revoked: Vec<(usize, &'q Anchor)>,
}

impl<'q> Listed<'q> {
    fn of(query: &Query<'q>) -> Self {
        let mut listed = Self {
            in_scope: Vec::new(),
            out_of_scope: Vec::new(),
            over: Vec::new(),
            revoked: Vec::new(),
        };
        for (line, entry) in query.known.authorities(query.direction) {
            let Some(anchor) = entry.anchor() else {
                continue;
            };
            let over = entry
                .attributes
                .not_after
                .filter(|_| entry.is_over(query.now));
            if let Some(line) = query.known.revocation_of_anchor(anchor) {
                listed.revoked.push((line, anchor));
            } else if let Some(not_after) = over {
                listed.over.push((line, entry, not_after));
            } else {
                match scope(query, entry) {
                    Ok(()) => listed.in_scope.push((line, entry)),
                    Err(reason) => listed.out_of_scope.push((line, entry, reason)),
                }
            }
        }
        listed
    }

    /// The first line that lists the anchor of a path and recognises the peer; none for the roots of
    /// the system.
    fn line_for(&self, query: &Query<'_>, path: &CaPath) -> Result<Option<usize>, CaRefusal> {
        let mut refusal = None;
        for &(line, entry) in &self.in_scope {
            if !is_anchor(entry, path.anchor) {
                continue;
            }
            match beyond_constraints(query, entry).filter(|_| path.constrained) {
                None => return Ok(Some(line)),
                Some(reason) => refusal = refusal.or(Some(CaRefusal::Scope { reason, line })),
            }
        }
        refusal.map_or(Ok(None), Err)
    }

    /// The most useful reason why no authority in scope vouches: first those authorities that would
    /// have, were they not excluded.
    fn explain(&self, query: &Query<'_>, system: &[Anchor], error: CaError) -> CaRefusal {
        let system_revoked = system.iter().filter_map(|anchor| {
            let line = query.known.revocation_of_anchor(anchor)?;
            Some((line, anchor))
        });
        let revoked: Vec<_> = self.revoked.iter().copied().chain(system_revoked).collect();
        if let Some(path) = find(query, revoked.iter().map(|(_, anchor)| *anchor))
            && let Some((line, _)) = revoked.iter().find(|(_, a)| a.fingerprint() == path.anchor)
        {
            return CaRefusal::Revoked { line: *line };
        }
        let anchors = self.out_of_scope.iter().filter_map(|(_, e, _)| e.anchor());
        if let Some(path) = find(query, anchors)
            && let Some(&(line, _, reason)) = self
                .out_of_scope
                .iter()
                .find(|(_, entry, _)| is_anchor(entry, path.anchor))
        {
            return CaRefusal::Scope { reason, line };
        }
        let anchors = self.over.iter().filter_map(|(_, entry, _)| entry.anchor());
        if let Some(path) = find(query, anchors)
            && let Some(&(line, _, not_after)) = self
                .over
                .iter()
                .find(|(_, entry, _)| is_anchor(entry, path.anchor))
        {
            return CaRefusal::EntryOver { line, not_after };
        }
        classify(query, error)
    }
}

/// Whether a listed authority may vouch for this peer.
///
/// When dialling, its names must cover the name dialled. When accepting nobody was asked for, so
/// the line must say whom it means: names (other than everybody), networks or roles; and whatever
/// it says, the leaf must have one of each, and no name that the line excludes.
fn scope(query: &Query<'_>, entry: &Entry) -> Result<(), Reason> {
    match query.direction {
        Direction::Dial => covers_dialled(query, entry),
        Direction::Accept => covers_presented(query, entry),
    }
}

fn covers_dialled(query: &Query<'_>, entry: &Entry) -> Result<(), Reason> {
    if entry.names.are_unrestricted() && entry.names.items().len() == 1 {
        return Ok(());
    }
    let host = query.expectation.server_name.as_ref().and_then(host_of);
    let expectation = query.expectation;
    let of_name = || expectation.name.as_ref().and_then(|name| name.port());
    let port = expectation.port.or_else(of_name);
    match host {
        Some(host) if entry.names.cover_host(&host, port) => Ok(()),
        _ => Err(Reason::OutOfScope),
    }
}

fn covers_presented(query: &Query<'_>, entry: &Entry) -> Result<(), Reason> {
    let attributes = &entry.attributes;
    let scope = &entry.names;
    if scope.mean_anybody() && attributes.networks.is_empty() && attributes.roles.is_empty() {
        return Err(Reason::OutOfScope);
    }
    let names = signed_names(query);
    // The peer chooses which of its names it goes by: none of them may be excluded.
    let excluded = names.iter().any(|name| scope.exclude(name));
    let covered = scope.are_unrestricted() || names.iter().any(|name| scope.cover(name));
    if excluded || !covered {
        return Err(Reason::OutOfScope);
    }
    let (networks, roles) =
        signed_metadata(query).map_or((&[][..], &[][..]), |m| (m.networks(), m.roles()));
    let has_one = |allowed: &[String], stated: &[String]| {
        allowed.is_empty() || overlap(allowed, stated).next().is_some()
    };
    if !has_one(&attributes.networks, networks) {
        return Err(Reason::WrongNetwork);
    }
    if !has_one(&attributes.roles, roles) {
        return Err(Reason::WrongRole);
    }
    Ok(())
}

/// The reason to refuse a peer below a CA with name constraints where the line recognises it by
/// something that these do not limit: metadata, or a URI alone.
///
/// Constraints on DNS names and addresses say nothing of URIs (RFC 5280 section 4.2.1.10: names of
/// a kind that no constraint is about are all acceptable), and with constraints on URIs there is no
/// path. Whoever was given `dev.example` could otherwise write any workload's SPIFFE id.
fn beyond_constraints(query: &Query<'_>, entry: &Entry) -> Option<Reason> {
    let attributes = &entry.attributes;
    let limited = |name: &&SanName| !matches!(name, SanName::Uri(_));
    let covered = || {
        let mut names = signed_names(query).iter().filter(limited);
        names.any(|name| entry.names.cover(name))
    };
    match query.direction {
        Direction::Dial => None,
        Direction::Accept if !attributes.networks.is_empty() => Some(Reason::WrongNetwork),
        Direction::Accept if !attributes.roles.is_empty() => Some(Reason::WrongRole),
        Direction::Accept if !covered() => Some(Reason::OutOfScope),
        Direction::Accept => None,
    }
}

/// A CA vouches for a name, so when dialling there must be one, and the leaf must be for it.
fn check_name(query: &Query<'_>) -> Result<(), CaRefusal> {
    if query.direction == Direction::Accept {
        return Ok(());
    }
    match &query.expectation.server_name {
        Some(name) if !writes_itself(query) && query.chain.matches_name(name) => Ok(()),
        name => Err(CaRefusal::Name {
            expected: name.as_ref().map(|name| name.to_str().into_owned()),
        }),
    }
}

/// The names in the leaf, as far as somebody other than the peer put them there.
fn signed_names<'q>(query: &Query<'q>) -> &'q [SanName] {
    if writes_itself(query) {
        return &[];
    }
    &query.chain.leaf().names
}

/// The metadata in the leaf, if somebody other than the peer put it there.
fn signed_metadata<'q>(query: &Query<'q>) -> Option<&'q Metadata> {
    if writes_itself(query) {
        return None;
    }
    query.chain.leaf().metadata.as_ref()
}

/// A node signs its leaves itself. An authority that cross-certified its root vouches for the key,
/// and has seen nothing of what the leaf says: names and metadata stay claims, even on a path.
fn writes_itself(query: &Query<'_>) -> bool {
    query.chain.form() == Form::Native
}

fn classify(query: &Query<'_>, error: CaError) -> CaRefusal {
    let reason = match &error {
        CaError::UnknownIssuer { .. } => return CaRefusal::Stranger(error),
        // A certificate that signs itself, as `openssl req -x509` makes them, is refused as a leaf
        // before its issuer is looked for; but what matters is that nobody vouches for it.
        CaError::LeafIsCa | CaError::LeafMaySign if query.chain.leaf().self_signed => {
            return CaRefusal::Stranger(error);
        }
        // So are the dates of a leaf below its owner's own root, as every node's is.
        CaError::Expired { .. } | CaError::NotYetValid { .. }
            if query.chain.leaf().self_signed || query.chain.form() == Form::Native =>
        {
            return CaRefusal::Stranger(error);
        }
        CaError::Expired { .. } | CaError::AnchorExpired { .. } => Reason::Expired,
        CaError::NotYetValid { .. } | CaError::AnchorNotYetValid { .. } => Reason::NotYetValid,
        CaError::BadSignature | CaError::Unusable { .. } => Reason::Malformed,
        CaError::TooComplex => Reason::Limit,
        _ => Reason::Constraint,
    };
    CaRefusal::Path(reason, error)
}

/// What both lists have, where `*` among the allowed stands for everything.
fn overlap<'s>(allowed: &[String], stated: &'s [String]) -> impl Iterator<Item = &'s str> {
    stated
        .iter()
        .filter(move |s| allowed.iter().any(|a| a == *s || a == EVERYTHING))
        .map(String::as_str)
}

fn end(query: &Query<'_>, line: Option<usize>, path: UnixTime) -> UnixTime {
    let entry = line.and_then(|line| query.known.entry(line));
    let end = entry.and_then(|entry| entry.attributes.not_after);
    end.map_or(path, |end| end.min(path))
}

/// A path to one of the anchors, without spending anything when there are none.
fn find<'a>(query: &Query<'_>, anchors: impl Iterator<Item = &'a Anchor>) -> Option<CaPath> {
    let mut anchors = anchors.peekable();
    anchors.peek()?;
    search(query, anchors).ok()
}

fn search<'a>(
    query: &Query<'_>,
    anchors: impl Iterator<Item = &'a Anchor>,
) -> Result<CaPath, CaError> {
    verify_ca_path(query.chain, anchors, purpose_of(query.direction), query.now)
}

fn is_anchor(entry: &Entry, anchor: Fingerprint) -> bool {
    entry.anchor().is_some_and(|a| a.fingerprint() == anchor)
}

fn host_of(name: &ServerName<'static>) -> Option<String> {
    canonical_host(&name.to_str()).ok().map(|h| h.into_owned())
}
