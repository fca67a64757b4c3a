//! Which presented certificates can lie on a path, found by comparing names before any signature is
//! checked.
//!
//! Path building tries every order of certificates whose names fit: seven with one and the same
//! name are thousands of orders, and each costs time even where no signature is verified. Whoever
//! presents certificates chooses their names, so what does not lie between leaf and anchor is
//! dropped, and few of one name are kept.
//!
//! Key identifiers only decide which of too many are kept. Otherwise a wrong one excludes nothing:
//! an authority that cross-certifies another may derive the identifier of its key in another way
//! (RFC 4158 discusses it).

use der::Tag;

use crate::anchor::Anchor;
use crate::limits::MAX_SAME_SUBJECT;
use crate::parsed::{Parsed, content};

/// What is left to search.
pub(crate) struct Candidates<'a> {
    /// Places of intermediate certificates in the chain, in the order presented.
    pub(crate) intermediates: Vec<usize>,
    /// Anchors that issued the leaf or one of them, by name.
    pub(crate) anchors: Vec<&'a Anchor>,
    /// Whether a certificate was left out that could have been on a path.
    pub(crate) cut: bool,
}

impl<'a> Candidates<'a> {
    /// Keeps what lies between the leaf (the first certificate) and an anchor: each certificate's
    /// issuer is the subject of the next, and the last one's issuer an anchor. No anchors are left
    /// when there is no such sequence.
    ///
    /// Of more than [`MAX_SAME_SUBJECT`] certificates with one subject, first those are dropped
    /// that by their key identifiers issued nothing below, and then the first of the rest are kept.
    /// Their order is that in which the peer presented them, so that an honest peer, whose
    /// certificates stand in the order of its path, loses nothing.
    pub(crate) fn between(certificates: &[Parsed<'_>], anchors: &[&'a Anchor]) -> Self {
        let above = above_leaf(certificates);
        let linked = below_anchors(certificates, &above, anchors);
        let (intermediates, cut) = few_of_one_name(certificates, &linked);
        let issuers: Vec<&[u8]> = std::iter::once(0)
            .chain(intermediates.iter().copied())
            .map(|index| certificates[index].issuer)
            .collect();
        let is_issuer = |anchor: &&&Anchor| issuers.iter().any(|name| names(anchor, name));
        Self {
            anchors: anchors.iter().filter(is_issuer).copied().collect(),
            intermediates,
            cut,
        }
    }
}

/// The certificates that are above the leaf by their names, each once.
pub(crate) fn above_leaf(certificates: &[Parsed<'_>]) -> Vec<usize> {
    above_leaf_where(certificates, |_, _| true)
}

/// The same, upwards only from certificate to issuer as `may_issue` allows (issuer first).
fn above_leaf_where(
    certificates: &[Parsed<'_>],
    may_issue: impl Fn(&Parsed<'_>, &Parsed<'_>) -> bool,
) -> Vec<usize> {
    let mut reached = vec![0];
    let mut next = 0;
    while let Some(&below) = reached.get(next) {
        next += 1;
        let below = &certificates[below];
        for (index, certificate) in certificates.iter().enumerate() {
            let again = |&known: &usize| certificates[known].is_copy_of(certificate);
            let above = certificate.subject == below.issuer && may_issue(certificate, below);
            if above && !reached.iter().any(again) {
                reached.push(index);
            }
        }
    }
    reached.remove(0);
    reached.sort_unstable();
    reached
}

/// Those of them from which an anchor is reached.
pub(crate) fn below_anchors(
    certificates: &[Parsed<'_>],
    above: &[usize],
    anchors: &[&Anchor],
) -> Vec<usize> {
    let issued_by_anchor =
        |index: usize| anchors.iter().any(|a| names(a, certificates[index].issuer));
    let mut linked: Vec<usize> = Vec::new();
    // Each round adds a certificate or is the last one.
    while let Some(index) = above.iter().copied().find(|&index| {
        let issuer = certificates[index].issuer;
        !linked.contains(&index)
            && (issued_by_anchor(index)
                || linked.iter().any(|&i| certificates[i].subject == issuer))
    }) {
        linked.push(index);
    }
    linked.sort_unstable();
    linked
}

/// Those of them to search, and whether one that fits was left out.
fn few_of_one_name(certificates: &[Parsed<'_>], linked: &[usize]) -> (Vec<usize>, bool) {
    let fitting = above_leaf_where(certificates, |issuer, below| {
        !below.names_another_key_than(issuer)
    });
    let same_subject = |among: &[usize], index: usize| {
        let same = |other: &&usize| certificates[**other].subject == certificates[index].subject;
        among.iter().filter(same).count()
    };
    let mut kept: Vec<usize> = Vec::new();
    let mut cut = false;
    for &index in linked {
        let few = same_subject(linked, index) <= MAX_SAME_SUBJECT;
        if !few && !fitting.contains(&index) {
            continue;
        }
        match same_subject(&kept, index) < MAX_SAME_SUBJECT {
            true => kept.push(index),
            false => cut = true,
        }
    }
    (kept, cut)
}

/// Whether this is the anchor's name. The TLS library leaves out the header of the SEQUENCE.
fn names(anchor: &Anchor, name: &[u8]) -> bool {
    content(name, Tag::Sequence, "issuer")
        .is_ok_and(|name| name == anchor.trust_anchor().subject.as_ref())
}
