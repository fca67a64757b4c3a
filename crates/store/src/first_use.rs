//! What strangers may add to `known_peers`.
//!
//! Where an acceptor remembers whoever comes (`tofu`, `ca-or-tofu`, `record`), every new key is a
//! line, a line in the audit log, and a rewriting of the whole file, and keys cost a stranger
//! nothing. So there is an end to it, and long before the file is full: the operator must be able to
//! revoke somebody whatever strangers do.

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
pub(crate) struct FirstUse {
    side: Side,
}

impl FirstUse {
    /// The first use that this edit records, if it is one.
    pub(crate) fn of(edit: &Edit) -> Option<Self> {
        let (Edit::Add(entry) | Edit::AddKey(entry)) = edit else {
            return None;
        };
        let first_use = entry.attributes.origin == Some(Origin::FirstUse);
        first_use.then_some(Self { side: entry.side })
    }

    /// Whether there is room for one more entry.
    pub(crate) fn check_count(self, known: &KnownPeers, path: &Path) -> Result<(), StoreError> {
        let counted = || known.entries().filter(|(_, entry)| counts(entry)).count();
        if self.side != Side::Accept || counted() < MAX_FIRST_USES {
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

/// Whether an entry takes one of the [`MAX_FIRST_USES`] places.
fn counts(entry: &Entry) -> bool {
    entry.side == Side::Accept
        && entry.attributes.origin == Some(Origin::FirstUse)
        && entry.attributes.confirmed.is_none()
}
