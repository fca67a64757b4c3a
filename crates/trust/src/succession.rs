//! Following an identity from a key that we remember to the one that it has today.
//!
//! A statement says that one key is followed by another; both signed it, which `comity-record` has
//! verified before any of this is asked. Here it is compared with what we remember:
//!
//! 1. The entry names the old key by itself (a pin, not a CA), and that key is not revoked, nor any
//!    on the way to the new one.
//! 2. No other successor of the same key was followed before. Two of them mean that somebody else
//!    has the key, and nobody can say which of them is the owner: everything that came of the key is
//!    frozen until a person decides. Once the overlap is over, the old key says nothing any more:
//!    whoever finds it in a backup years later is refused, and freezes nobody.
//! 3. If a next key was committed to, it is that one. Whoever steals today's key cannot name a
//!    successor then, nor freeze anything by trying.
//! 4. The sequence is higher than the one that led to the old key, so that no old statement is
//!    played again, and the statement is not from the future.
//! 5. An entry that followed its peer already waits a day before it does so again by itself: keys cost
//!    a peer nothing, and each of them is a line of ours.
//! 6. No person compared the old key; otherwise a person decides again. No setting changes that.
//!
//! Every line of the key follows at once, and a node that was away for several steps ends with the
//! same lines as one that followed each of them.

use std::time::Duration;

use comity_certs::CLOCK_TOLERANCE;
use comity_identity::{KeyHash, NodeId, PeerId, UnixTime};
use comity_record::{Succession, SuccessionChain};
use thiserror::Error;

use crate::edit::{Edit, Succeeded};
use crate::entry::{Attributes, Confirmed, Entry, Origin, Pin, What};
use crate::known_peers::KnownPeers;
use crate::reason::Reason;
use crate::verdict::SuccessionPolicy;

/// How long an entry that followed its peer waits before it follows again by itself. Whoever changes
/// keys every few weeks notices nothing; a peer that makes keys for sport writes no more than a few
/// lines a day. What happened in between is followed at once then, up to 16 steps.
pub const ROLL_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// Most lines for the keys that one entry had one after the other: those that a presented history can
/// name, 16 steps and the key before them, so that each of these is refused for the right reason.
pub const MAX_LINEAGE: usize = comity_record::limits::MAX_STATEMENTS + 1;

/// How long the line of a replaced key is kept after its overlap. Afterwards that key is anybody's.
pub const SUPERSEDED_KEPT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Why an entry does not follow a history of successions.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SuccessionFault {
    /// It cannot be read, or one of its signatures does not hold.
    #[error("the statements it presents are not valid")]
    Malformed,
    /// It ends at another key than the one that presents it.
    #[error("the statements lead to {current}")]
    OtherKey {
        /// Where it ends.
        current: NodeId,
    },
    /// It is for one network only, and says nothing of what we remember ourselves.
    #[error("the statements count in the network {network} only")]
    Network {
        /// Which.
        network: NodeId,
    },
    /// A statement that is older than the entry.
    #[error("statement {found} is older than the entry, which followed statement {known}")]
    Replayed {
        /// The line.
        line: usize,
        /// The sequence that led to its key.
        known: u64,
        /// The sequence of the statement.
        found: u64,
    },
    /// A statement from the future.
    #[error("a statement is dated {issued}")]
    FromTheFuture {
        /// When it says that it was made.
        issued: UnixTime,
    },
    /// The key committed to another successor.
    #[error("the key committed to another successor")]
    Commitment {
        /// The line.
        line: usize,
        /// The hash of the key to which it committed.
        committed: KeyHash,
    },
    /// A key on the way is revoked.
    #[error("a key that it comes from is revoked")]
    Revoked {
        /// The line that revokes it.
        line: usize,
    },
    /// The entry followed another successor before.
    #[error("two statements name different successors of {key}")]
    Forked {
        /// The key with two successors.
        key: NodeId,
        /// Every line of that key and of what we followed from it.
        lines: Vec<usize>,
        /// Whether all of these lines say so already.
        frozen: bool,
    },
    /// A key that was replaced for good, and its overlap is over: it names no successor any more.
    #[error("the key that signed it was replaced by {successor}, and ended at {not_after}")]
    Superseded {
        /// The line of that key.
        line: usize,
        /// Its successor, as the entry has it.
        successor: NodeId,
        /// The last second of the overlap.
        not_after: UnixTime,
    },
    /// The entry followed the peer to another key just before.
    #[error("it is the second change of the key within a day; it is followed from {until} on")]
    TooSoon {
        /// The line.
        line: usize,
        /// When it is followed.
        until: UnixTime,
    },
    /// It is valid; a person compared the old key, so a person decides.
    #[error("it is the successor of a key that was confirmed by hand")]
    Undecided {
        /// The line.
        line: usize,
        /// The key of today.
        successor: NodeId,
    },
    /// It is valid, but the policy follows nobody.
    #[error("statements of succession are not followed here")]
    NotFollowed,
}

impl SuccessionFault {
    /// The reason for which the peer that presents it is refused.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Forked { .. } => Reason::Forked,
            Self::Revoked { .. } => Reason::Revoked,
            Self::Superseded { .. } => Reason::Superseded,
            Self::TooSoon { .. } => Reason::Limit,
            Self::Network { .. } => Reason::WrongNetwork,
            Self::FromTheFuture { .. } => Reason::NotYetValid,
            Self::Malformed | Self::OtherKey { .. } => Reason::Malformed,
            Self::Replayed { .. }
            | Self::Commitment { .. }
            | Self::Undecided { .. }
            | Self::NotFollowed => Reason::Changed,
        }
    }

    /// What must be written about it: a fork is remembered.
    pub fn edit(&self, now: UnixTime) -> Option<Edit> {
        match self {
            Self::Forked {
                lines,
                frozen: false,
                ..
            } => Some(Edit::Freeze {
                lines: lines.clone(),
                at: now,
            }),
            _ => None,
        }
    }
}

/// Entries that follow a history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Followed {
    /// The key that we knew.
    pub from: NodeId,
    /// The key of today.
    pub to: NodeId,
    /// The lines that follow, in the order of the file.
    pub lines: Vec<usize>,
    /// What is to be written.
    pub edit: Edit,
}

/// Lets every entry of a key in `history` follow it, as `comity` does with statements from a file.
/// Where several keys of the history are known, the latest one counts.
///
/// # Errors
/// When no entry follows, or one of the same key must not. `Ok(None)` when no entry is about a key
/// in the history.
pub fn follow(
    known: &KnownPeers,
    history: &SuccessionChain,
    policy: SuccessionPolicy,
    now: UnixTime,
) -> Result<Option<Followed>, SuccessionFault> {
    let offer = Offer {
        known,
        history,
        policy,
        now,
        next: None,
        stapled: false,
    };
    let old = history.statements().iter().map(Succession::old);
    let lines: Vec<usize> = old.flat_map(|key| offer.lines_of(key)).collect();
    offer.follow(&lines)
}

/// What a peer, or a person, offers to those who remember an older key.
pub(crate) struct Offer<'a> {
    pub(crate) known: &'a KnownPeers,
    pub(crate) history: &'a SuccessionChain,
    pub(crate) policy: SuccessionPolicy,
    pub(crate) now: UnixTime,
    /// The key to which the presented root commits, for where the last statement names none.
    pub(crate) next: Option<KeyHash>,
    /// Whether the peer presents it: what a person brings is followed at any time.
    pub(crate) stapled: bool,
}

impl Offer<'_> {
    /// The lines to be changed if one of `candidates` is to be recognised as the key of today.
    pub(crate) fn follow(&self, candidates: &[usize]) -> Result<Option<Followed>, SuccessionFault> {
        self.not_forked()?;
        let Some(steps) = self.steps(candidates) else {
            return Ok(None);
        };
        self.steps_hold(steps)?;
        let from = steps[0].old();
        let mut changed = Vec::new();
        for line in self.lines_of(from) {
            let Some(entry) = self.open_entry(line) else {
                continue;
            };
            self.entry_agrees(line, entry, &steps[0])?;
            self.not_too_soon(line, entry)?;
            changed.push((line, entry));
        }
        self.policy_agrees(&changed)?;
        Ok(Some(Followed {
            from,
            to: self.history.current(),
            lines: changed.iter().map(|(line, _)| *line).collect(),
            edit: Edit::Succeed {
                lines: changed
                    .iter()
                    .map(|(line, entry)| self.succeeded(*line, entry, steps))
                    .collect(),
            },
        }))
    }

    /// The statements from the latest key that one of the candidates has, and that was not followed
    /// before: a successor that the operator removed does not come back.
    fn steps(&self, candidates: &[usize]) -> Option<&[Succession]> {
        let statements = self.history.statements();
        let has = |statement: &Succession| {
            let mut open = candidates.iter().filter_map(|line| self.open_entry(*line));
            open.any(|entry| entry.node() == Some(statement.old()))
        };
        let start = statements.iter().rposition(has)?;
        Some(&statements[start..])
    }

    /// An entry that can still follow.
    fn open_entry(&self, line: usize) -> Option<&Entry> {
        let entry = self.known.entry(line)?;
        let open = entry.attributes.successor.is_none() && !entry.is_over(self.now);
        Some(entry).filter(|_| open)
    }

    fn lines_of(&self, key: NodeId) -> impl Iterator<Item = usize> + '_ {
        let lines = self.known.pins_of(PeerId::Node(key));
        lines.map(|(line, _)| line)
    }

    /// Refuses when a key of the history is frozen, or somebody who holds it said two things for one
    /// sequence. What is over contradicts nobody: that key is everybody's who finds it.
    fn not_forked(&self) -> Result<(), SuccessionFault> {
        let mut superseded = None;
        for statement in self.history.statements() {
            let (old, new) = (statement.old(), statement.new());
            let frozen = |a: &Attributes| a.forked.is_some();
            let other_successor = |a: &Attributes| {
                // Where the key committed to one successor, a statement for another is a thief's
                // who has not that one, and proves nothing.
                let binding = a.next.is_some_and(|next| next != new.key_hash());
                a.successor.is_some_and(|known| known != new) && !binding
            };
            // Both keys signed both of these: one of them is a thief's who has both.
            let other_commitment = |a: &Attributes| {
                let of_this_step =
                    a.origin == Some(Origin::Succession) && a.seq == Some(statement.sequence());
                let both = a.next.zip(statement.next());
                of_this_step && both.is_some_and(|(known, said)| known != said)
            };
            let contradicting = self
                .entries_of(old)
                .filter(|(_, e)| frozen(&e.attributes) || other_successor(&e.attributes));
            let recommitting = self
                .entries_of(new)
                .filter(|(_, e)| other_commitment(&e.attributes));
            for (line, entry) in contradicting.chain(recommitting) {
                match self.superseded(line, entry) {
                    Some(fault) if !frozen(&entry.attributes) => superseded = Some(fault),
                    _ => return Err(self.fork(old, new)),
                }
            }
        }
        superseded.map_or(Ok(()), Err)
    }

    /// That the key of this entry was replaced, where its overlap is over.
    fn superseded(&self, line: usize, entry: &Entry) -> Option<SuccessionFault> {
        let (successor, not_after) = entry.attributes.successor.zip(entry.attributes.not_after)?;
        entry
            .is_over(self.now)
            .then_some(SuccessionFault::Superseded {
                line,
                successor,
                not_after,
            })
    }

    fn entries_of(&self, key: NodeId) -> impl Iterator<Item = (usize, &Entry)> {
        self.known.pins_of(PeerId::Node(key))
    }

    /// Every line of the two keys and of the keys that were followed from them.
    fn fork(&self, key: NodeId, new: NodeId) -> SuccessionFault {
        let known = |key: &NodeId| self.lines_of(*key).next().is_some();
        let mut keys: Vec<NodeId> = [key, new].into_iter().filter(known).collect();
        let mut lines = Vec::new();
        let mut done = 0;
        while let Some(&key) = keys.get(done) {
            done += 1;
            for line in self.lines_of(key) {
                lines.push(line);
                let successor = self.known.entry(line).and_then(|e| e.attributes.successor);
                keys.extend(successor.filter(|next| !keys.contains(next)));
            }
        }
        lines.sort_unstable();
        lines.dedup();
        let is_frozen = |line: &usize| {
            let entry = self.known.entry(*line);
            entry.is_some_and(|entry| entry.attributes.forked.is_some())
        };
        let frozen = lines.iter().all(is_frozen);
        SuccessionFault::Forked { key, lines, frozen }
    }

    /// What must hold of the statements, whoever remembers their keys.
    fn steps_hold(&self, steps: &[Succession]) -> Result<(), SuccessionFault> {
        for step in steps {
            if let Some(network) = step.network() {
                return Err(SuccessionFault::Network { network });
            }
            for key in [step.old(), step.new()] {
                if let Some(line) = self.known.revocation_of_key(&key.key_hash()) {
                    return Err(SuccessionFault::Revoked { line });
                }
            }
            let issued = step.issued();
            if self.now + CLOCK_TOLERANCE < issued {
                return Err(SuccessionFault::FromTheFuture { issued });
            }
        }
        Ok(())
    }

    /// What must hold of the first statement for everybody who remembers its key.
    fn entry_agrees(
        &self,
        line: usize,
        entry: &Entry,
        first: &Succession,
    ) -> Result<(), SuccessionFault> {
        let attributes = &entry.attributes;
        if let Some(committed) = attributes.next
            && committed != first.new().key_hash()
        {
            return Err(SuccessionFault::Commitment { line, committed });
        }
        let found = first.sequence();
        match attributes.seq {
            Some(known) if found <= known => Err(SuccessionFault::Replayed { line, known, found }),
            _ => Ok(()),
        }
    }

    fn not_too_soon(&self, line: usize, entry: &Entry) -> Result<(), SuccessionFault> {
        let attributes = &entry.attributes;
        let decided = matches!(self.policy, SuccessionPolicy::Accept(_));
        let Some(added) = attributes.added.filter(|_| self.stapled && !decided) else {
            return Ok(());
        };
        let until = added + ROLL_PAUSE;
        // An entry from the future was written by a clock that was wrong, and bounds nothing.
        let pausing = (added..until).contains(&self.now);
        match attributes.origin {
            Some(Origin::Succession) if pausing => Err(SuccessionFault::TooSoon { line, until }),
            _ => Ok(()),
        }
    }

    fn policy_agrees(&self, lines: &[(usize, &Entry)]) -> Result<(), SuccessionFault> {
        let successor = self.history.current();
        let confirmed = |entry: &Entry| {
            let confirmed = entry.attributes.confirmed.as_ref();
            confirmed.is_some_and(Confirmed::by_a_person)
        };
        let undecided = match self.policy {
            SuccessionPolicy::Never => return Err(SuccessionFault::NotFollowed),
            SuccessionPolicy::Accept(accepted) if accepted == successor => None,
            SuccessionPolicy::Accept(_) | SuccessionPolicy::Ask => lines.first(),
            SuccessionPolicy::Auto => lines.iter().find(|(_, entry)| confirmed(entry)),
        };
        match undecided {
            Some(&(line, _)) => Err(SuccessionFault::Undecided { line, successor }),
            None => Ok(()),
        }
    }

    fn succeeded(&self, line: usize, entry: &Entry, steps: &[Succession]) -> Succeeded {
        let new = steps.iter().enumerate().map(|(index, step)| {
            let mut new = entry.clone();
            new.what = What::Pin(Pin::Node(step.new()));
            let attributes = &mut new.attributes;
            attributes.next = step.next();
            attributes.seq = Some(step.sequence());
            attributes.origin = Some(Origin::Succession);
            attributes.added = Some(self.now);
            match steps.get(index + 1) {
                Some(following) => hand_over(&mut new, following),
                None => attributes.next = attributes.next.or(self.next),
            }
            new
        });
        let new: Vec<Entry> = new.collect();
        let dropped = self.outlived(entry, MAX_LINEAGE.saturating_sub(new.len() + 1));
        let mut old = entry.clone();
        hand_over(&mut old, &steps[0]);
        Succeeded {
            line,
            old,
            new,
            dropped,
        }
    }

    /// The lines of earlier keys that `entry` leaves behind: all but the last `kept`, and those whose
    /// end is long past. A frozen one waits for a person.
    fn outlived(&self, entry: &Entry, kept: usize) -> Vec<usize> {
        let mut dropped = Vec::new();
        let mut seen: Vec<NodeId> = entry.node().into_iter().collect();
        let mut place = 0;
        while let Some(key) = seen.get(place).copied() {
            let is_before = |(_, earlier): &(usize, &Entry)| {
                let attributes = &earlier.attributes;
                attributes.successor == Some(key)
                    && earlier.names == entry.names
                    && earlier.side == entry.side
            };
            let Some((line, earlier)) = self.known.entries().find(is_before) else {
                break;
            };
            let end = earlier.attributes.not_after.unwrap_or(UnixTime::NEVER);
            let outlived = place >= kept || end + SUPERSEDED_KEPT < self.now;
            if outlived && earlier.attributes.forked.is_none() {
                dropped.push(line);
            }
            place += 1;
            seen.extend(earlier.node().filter(|node| !seen.contains(node)));
        }
        dropped
    }
}

/// The end of an entry whose key has a successor: never later than it was.
fn hand_over(entry: &mut Entry, step: &Succession) {
    let attributes = &mut entry.attributes;
    attributes.successor = Some(step.new());
    let end = step.overlap_end();
    attributes.not_after = Some(attributes.not_after.map_or(end, |known| known.min(end)));
}
