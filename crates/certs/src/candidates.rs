//! Which presented certificates can lie on a path, found by comparing names before any signature is
//! checked.
//!
//! Path building tries every order of certificates whose names fit: seven with one and the same
//! name are thousands of orders, and each costs time even where no signature is verified. Whoever
//! presents certificates chooses their names, so what does not lie between leaf and anchor is
//! dropped, and few of one name are kept.

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
}

impl<'a> Candidates<'a> {
    /// Keeps what lies between the leaf (the first certificate) and an anchor: each certificate's
    /// issuer is the subject of the next, and the last one's issuer an anchor. No anchors are left
    /// when there is no such sequence.
    ///
    /// Of several certificates with one subject the first [`MAX_SAME_SUBJECT`] are kept. Their
    /// order is that in which the peer presented them, so that an honest peer, whose certificates
    /// stand in the order of its path, loses nothing.
    pub(crate) fn between(certificates: &[Parsed<'_>], anchors: &[&'a Anchor]) -> Self {
        let above = above_leaf(certificates);
        let linked = below_anchors(certificates, &above, anchors);
        let intermediates = few_of_one_name(certificates, &linked);
        let issuers: Vec<&[u8]> = std::iter::once(0)
            .chain(intermediates.iter().copied())
            .map(|index| certificates[index].issuer)
            .collect();
        let is_issuer = |anchor: &&&Anchor| issuers.iter().any(|name| names(anchor, name));
        Self {
            anchors: anchors.iter().filter(is_issuer).copied().collect(),
            intermediates,
        }
    }
}

/// The certificates that are above the leaf by their names, each once.
pub(crate) fn above_leaf(certificates: &[Parsed<'_>]) -> Vec<usize> {
    let mut reached = vec![0];
    let mut next = 0;
    while let Some(&below) = reached.get(next) {
        next += 1;
        for (index, certificate) in certificates.iter().enumerate() {
            let again = |&known: &usize| certificates[known].is_copy_of(certificate);
            if certificate.subject == certificates[below].issuer && !reached.iter().any(again) {
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

fn few_of_one_name(certificates: &[Parsed<'_>], linked: &[usize]) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    for &index in linked {
        let subject = certificates[index].subject;
        let same = kept.iter().filter(|&&k| certificates[k].subject == subject);
        if same.count() < MAX_SAME_SUBJECT {
            kept.push(index);
        }
    }
    kept
}

/// Whether this is the anchor's name. The TLS library leaves out the header of the SEQUENCE.
fn names(anchor: &Anchor, name: &[u8]) -> bool {
    content(name, Tag::Sequence, "issuer")
        .is_ok_and(|name| name == anchor.trust_anchor().subject.as_ref())
}
