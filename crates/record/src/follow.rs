//! What a bundle means for somebody who holds an older one.
//!
//! The order is that of the charters first: a charter is signed by a root, a bundle by an issuing
//! key, which may be stolen. A thief who publishes bundles with large sequences keeps readers only
//! until a charter revokes the key: then any bundle below that charter is newer.

use comity_identity::{KeyHash, NodeId};
use thiserror::Error;

use crate::bundle::Bundle;
use crate::cbor::FormatError;
use crate::charter::{Charter, KeyState, SuccessorFault};

/// What to do with a bundle that was offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follow {
    /// It is newer: keep it instead, and what [`Withdrawn::succeeded`] says.
    ///
    /// [`Withdrawn::succeeded`]: crate::Withdrawn::succeeded
    Newer,
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
    /// More was withdrawn over time than is remembered, and taking it would forget something.
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
    /// Two charters that cannot both be, somewhere in the histories.
    #[error("a charter with sequence {sequence} contradicts those that are known")]
    Charter {
        /// The sequence of the one that was offered.
        sequence: u64,
        /// The digest of the one that is held, of this sequence or the nearest.
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
        Ok(Follow::Newer)
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

/// The first offered charter that contradicts those that are held, if whoever signed it may still be
/// believed. What comes after it in the offered history proves nothing more.
fn forked_charter(held: &Bundle, offered: &Bundle) -> Option<Fork> {
    let mut before = None;
    for theirs in offered.charters() {
        if let Some(ours) = contradicted(held, theirs) {
            let fork = Fork::Charter {
                sequence: theirs.sequence(),
                held: ours.digest(),
                offered: theirs.digest(),
            };
            return is_evidence(held, before, ours, theirs).then_some(fork);
        }
        before = Some(theirs);
    }
    None
}

/// The held charter beside which another one cannot be: of the same sequence with another content, or
/// one between which and the other a step would be forbidden. A charter that the held history merely
/// leaves out contradicts none.
fn contradicted<'h>(held: &'h Bundle, theirs: &Charter) -> Option<&'h Charter> {
    let ours = held.charters();
    let next = ours.partition_point(|charter| charter.sequence() < theirs.sequence());
    let (earlier, later) = ours.split_at(next);
    match later.first() {
        Some(next) if next.digest() == theirs.digest() => return None,
        Some(next) if next.check_follows(theirs).is_err() => return Some(next),
        _ => {}
    }
    let last = earlier.last()?;
    theirs.check_follows(last).is_err().then_some(last)
}

/// A second charter is evidence if it might as well be the right one: whoever signed it was entitled
/// to, and either signed ours too or is active to this day. And only as long as that key counts
/// for anything in the charter that is held: a root that is revoked, or whose time is over, could
/// otherwise freeze the network for ever. It could also do so unseen, by sequences that the honest
/// history does not have: that is why all are compared, not equal ones.
fn is_evidence(held: &Bundle, before: Option<&Charter>, ours: &Charter, theirs: &Charter) -> bool {
    let current = held.charter();
    let founder = held.network().key_hash();
    let was_entitled = |signer: &KeyHash| match before {
        None => theirs.check_founding().is_ok() && *signer == founder,
        Some(before) => state_in(before, signer) == Some(KeyState::Active),
    };
    theirs.signers().iter().any(|signer| {
        let state = state_in(current, signer);
        was_entitled(signer)
            && state.is_some_and(|state| state.counts(held.issued()))
            && (state == Some(KeyState::Active) || ours.signers().contains(signer))
    })
}

fn state_in(charter: &Charter, key: &KeyHash) -> Option<KeyState> {
    charter.key(key).map(|key| key.state)
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
