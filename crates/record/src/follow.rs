//! What a bundle means for somebody who holds an older one.
//!
//! The order is that of the charters first: a charter is signed by a root, a bundle by an issuing
//! key, which may be stolen. A thief who publishes bundles with the largest of all sequences keeps
//! readers only until a charter revokes the key: then any bundle below that charter is newer.

use comity_identity::NodeId;
use thiserror::Error;

use crate::bundle::Bundle;
use crate::cbor::FormatError;
use crate::charter::{Charter, KeyState, SuccessorFault};
use crate::withdrawal::Withdrawn;

/// What to do with a bundle that was offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follow {
    /// It is newer: keep it instead. What both withdrew goes on.
    Newer(Withdrawn),
    /// It is the one that is held.
    Same,
}

/// Why an offered bundle is not followed. The one that is held goes on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FollowError {
    /// It is of another network.
    #[error("the bundle is of the network {}, not {}", offered.short(), held.short())]
    WrongNetwork {
        /// Whose bundle is held.
        held: NodeId,
        /// Whose was offered.
        offered: NodeId,
    },
    /// It is older.
    #[error("the bundle has sequence {offered}, and {held} is known")]
    Rollback {
        /// The sequence that is held.
        held: u64,
        /// The one that was offered.
        offered: u64,
    },
    /// Its keys are older, whatever the sequence of the bundle.
    #[error("the bundle has the charter {offered}, and {held} is known")]
    CharterRollback {
        /// The sequence of the charter that is held.
        held: u64,
        /// The one that was offered.
        offered: u64,
    },
    /// Its keys do not follow from those that are held. The bundle proves nothing about them: it may
    /// come from whoever has an old root.
    #[error("the charter {offered} does not follow the charter {held} that is known: {fault}")]
    NotASuccessor {
        /// The sequence of the charter that is held.
        held: u64,
        /// The one that was offered.
        offered: u64,
        /// What does not fit.
        fault: SuccessorFault,
    },
    /// Entitled keys signed two different things for one sequence: a key is stolen, or there are two
    /// copies of the authority. A person has to decide.
    #[error("{0}")]
    Fork(Fork),
    /// More was withdrawn over time than is remembered.
    #[error("the bundle cannot be followed: {0}")]
    Limit(FormatError),
}

/// Two different things for one sequence, and the digests of both.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fork {
    /// Two bundles.
    #[error("there are two bundles with sequence {sequence}")]
    Bundle {
        /// Their sequence.
        sequence: u64,
        /// The digest of the one that is held.
        held: [u8; 32],
        /// The digest of the one that was offered.
        offered: [u8; 32],
    },
    /// Two charters, somewhere in the histories.
    #[error("there are two charters with sequence {sequence}")]
    Charter {
        /// Their sequence.
        sequence: u64,
        /// The digest of the one that is held.
        held: [u8; 32],
        /// The digest of the one that was offered.
        offered: [u8; 32],
    },
}

impl Bundle {
    /// Compares an offered bundle with the one that is held.
    ///
    /// # Errors
    /// When it must not replace the one that is held.
    pub fn follow(held: &Self, offered: &Self) -> Result<Follow, FollowError> {
        if held.network() != offered.network() {
            return Err(FollowError::WrongNetwork {
                held: held.network(),
                offered: offered.network(),
            });
        }
        if held.digest() == offered.digest() {
            return Ok(Follow::Same);
        }
        check_charters(held, offered)?;
        check_sequence(held, offered)?;
        let mut withdrawn = Withdrawn::new();
        withdrawn
            .extend(held.withdrawn().iter().chain(offered.withdrawn()))
            .map_err(FollowError::Limit)?;
        Ok(Follow::Newer(withdrawn))
    }
}

fn check_charters(held: &Bundle, offered: &Bundle) -> Result<(), FollowError> {
    if let Some(fork) = forked_charter(held, offered) {
        return Err(FollowError::Fork(fork));
    }
    let (ours, theirs) = (held.charter(), offered.charter());
    if theirs.sequence() < ours.sequence() {
        return Err(FollowError::CharterRollback {
            held: ours.sequence(),
            offered: theirs.sequence(),
        });
    }
    // The first charter after ours must follow from ours: what came before it in the offered history
    // counts for nothing, because an old root may have written it.
    let mut later = offered.charters().iter();
    let next = later.find(|charter| charter.sequence() > ours.sequence());
    let fault = match next {
        Some(next) => next.check_follows(ours).err(),
        // Of one sequence, but not ours, and no fork: its signer is not entitled any more.
        None if theirs.digest() != ours.digest() => Some(SuccessorFault::NotEntitled),
        None => None,
    };
    match fault {
        None => Ok(()),
        Some(fault) => Err(FollowError::NotASuccessor {
            held: ours.sequence(),
            offered: theirs.sequence(),
            fault,
        }),
    }
}

/// Two charters of one sequence, both signed by those who may.
fn forked_charter(held: &Bundle, offered: &Bundle) -> Option<Fork> {
    let mut charters = held.charters().iter().enumerate();
    charters.find_map(|(index, ours)| {
        let mut offered = offered.charters().iter();
        let theirs = offered.find(|charter| charter.sequence() == ours.sequence())?;
        let before = index.checked_sub(1).map(|i| &held.charters()[i]);
        let is_evidence = match before {
            // Both begin the history, so the founding root signed both.
            None => theirs.check_founding().is_ok(),
            Some(before) => is_evidence(held.charter(), before, ours, theirs),
        };
        let fork = theirs.digest() != ours.digest() && is_evidence;
        fork.then(|| Fork::Charter {
            sequence: ours.sequence(),
            held: ours.digest(),
            offered: theirs.digest(),
        })
    })
}

/// A second charter is evidence if it might as well be the right one: it follows the same charter,
/// and whoever signed it either signed ours too or is active to this day. A root that another one
/// retired or revoked since could otherwise freeze the network for ever.
fn is_evidence(current: &Charter, before: &Charter, ours: &Charter, theirs: &Charter) -> bool {
    let is_active_in = |charter: &Charter, signer| {
        let key = charter.key(signer);
        key.is_some_and(|key| key.state == KeyState::Active)
    };
    theirs.check_follows(before).is_ok()
        && theirs
            .signers()
            .iter()
            .filter(|signer| is_active_in(before, signer))
            .any(|signer| ours.signers().contains(signer) || is_active_in(current, signer))
}

fn check_sequence(held: &Bundle, offered: &Bundle) -> Result<(), FollowError> {
    let (ours, theirs) = (held.sequence(), offered.sequence());
    // Whoever signed ours may not sign any more: its sequences bind nobody.
    let disowned = offered.key_state(&held.signer()) != Some(KeyState::Active);
    if theirs > ours || disowned && offered.charter().sequence() > held.charter().sequence() {
        return Ok(());
    }
    if theirs < ours {
        return Err(FollowError::Rollback {
            held: ours,
            offered: theirs,
        });
    }
    Err(FollowError::Fork(Fork::Bundle {
        sequence: ours,
        held: held.digest(),
        offered: offered.digest(),
    }))
}
