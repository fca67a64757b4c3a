//! What strangers may add to `known_peers`.
//!
//! Where an acceptor remembers whoever comes (`tofu`, `ca-or-tofu`, `record`), every new key is a
//! line, a line in the audit log, and a rewriting of the whole file, and keys cost a stranger
//! nothing. So there is an end to it, and long before the file is full: the operator must be able to
//! revoke somebody whatever strangers do.
//!
//! A peer that is known already writes as well, where its entry follows it from key to key. How often
//! and how many lines of it stay is bounded in `comity-trust`; here, whoever was remembered at first
//! use keeps their place among the strangers, and no succession uses the reserve either.

use std::path::Path;

use comity_trust::{Edit, Entry, KnownPeers, MAX_FILE_BYTES, Origin, Side};

use crate::error::StoreError;

/// Keys that an acceptor remembers at first use and nobody confirmed. More machines than anybody
/// enters by hand, in some 200 kB; whoever has more of them invites or approves them. An entry that
/// is confirmed or removed makes room for another.
pub const MAX_FIRST_USES: usize = 1024;

/// The end of the file that first use, in either direction, leaves to the operator: room for five
/// thousand revocations.
pub const FIRST_USE_RESERVE: usize = 1 << 20;

/// An addition that a peer caused by coming.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ByPeer {
    /// A key that is met for the first time, on this side.
    FirstUse(Side),
    /// More about a key that is known: its successors, or the next key to which it commits.
    Known,
}

impl ByPeer {
    /// Whether this edit writes what a peer caused.
    pub(crate) fn of(edit: &Edit) -> Option<Self> {
        match edit {
            Edit::Add(entry) | Edit::AddKey(entry) => {
                let first_use = entry.attributes.origin == Some(Origin::FirstUse);
                first_use.then_some(Self::FirstUse(entry.side))
            }
            Edit::Succeed { .. } | Edit::NoteNext { .. } => Some(Self::Known),
            _ => None,
        }
    }

    /// Whether there is room for one more entry.
    pub(crate) fn check_count(self, known: &KnownPeers, path: &Path) -> Result<(), StoreError> {
        let counted = || known.entries().filter(|(_, entry)| counts(entry)).count();
        if self != Self::FirstUse(Side::Accept) || counted() < MAX_FIRST_USES {
            return Ok(());
        }
        Err(StoreError::FirstUsesFull {
            path: path.to_owned(),
            limit: MAX_FIRST_USES,
        })
    }

    /// Whether a file of `size` bytes leaves the operator their reserve.
    pub(crate) fn check_size(self, size: usize, path: &Path) -> Result<(), StoreError> {
        let limit = MAX_FILE_BYTES - FIRST_USE_RESERVE;
        if size <= limit {
            return Ok(());
        }
        Err(StoreError::FirstUseReserve {
            path: path.to_owned(),
            limit,
        })
    }
}

/// Whether an entry takes one of the [`MAX_FIRST_USES`] places: the key that a peer has today, however
/// it got to it. Otherwise a stranger would make room for the next one by changing keys until the line
/// of its first one is gone.
fn counts(entry: &Entry) -> bool {
    let attributes = &entry.attributes;
    entry.side == Side::Accept
        && matches!(
            attributes.origin,
            Some(Origin::FirstUse | Origin::Succession)
        )
        && attributes.successor.is_none()
        && attributes.confirmed.is_none()
}
