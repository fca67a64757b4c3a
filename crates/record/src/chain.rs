//! A history of successions, as it is stapled to a connection.

use thiserror::Error;

use comity_identity::NodeId;
use minicbor::Decoder;

use crate::cbor::{self, FormatError};
use crate::envelope::read_envelope;
use crate::limits::{MAX_STATEMENTS, MAX_SUCCESSION_BYTES};
use crate::succession::{OLD_KEY, StatementError, Succession, UnverifiedSuccession};

/// 1 to 16 succession statements, oldest first, each of which follows the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuccessionChain(Vec<Succession>);

/// Why a history of successions was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SuccessionChainError {
    /// It cannot be read.
    #[error("it is refused: {0}")]
    Format(#[from] FormatError),
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// One of the statements does not hold by itself.
    #[error("statement {} of it: {cause}", index + 1)]
    Statement {
        /// Its place, the oldest being 0.
        index: usize,
        /// What is wrong with it.
        cause: StatementError,
    },
    /// A statement does not follow the one before: it is about another key or network, does not
    /// name that statement or the next sequence, is older, or its new key is not the committed one.
    #[error("statement {} of it does not follow the one before: {fault}", index + 1)]
    Disconnected {
        /// Its place, the oldest being 0.
        index: usize,
        /// What does not fit.
        fault: LinkFault,
    },
}

/// Why one succession statement does not follow another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LinkFault {
    /// Its old key is not the new key of the one before.
    #[error("it is about another key")]
    Key,
    /// It is for another network.
    #[error("it is for another network")]
    Network,
    /// Its sequence is not one more.
    #[error("its sequence is not the next one")]
    Sequence,
    /// It names another statement before it.
    #[error("it names another statement before it")]
    Previous,
    /// The statement before committed to another key.
    #[error("its new key is not the one that was committed to")]
    Commitment,
    /// It leads back to a key that was given up.
    #[error("it leads back to a key that was given up")]
    Returned,
}

impl SuccessionChain {
    /// A history of one statement.
    pub fn new(statement: Succession) -> Self {
        Self(vec![statement])
    }

    /// Reads a history: all signatures are verified, the oldest first. Of a stranger's, see
    /// [`UnverifiedSuccessionChain`].
    ///
    /// # Errors
    /// When it is past a limit, not in its one form, or a statement does not hold or does not
    /// follow the one before.
    pub fn parse(bytes: &[u8]) -> Result<Self, SuccessionChainError> {
        UnverifiedSuccessionChain::parse(bytes)?.verify(|_| false)
    }

    /// The keys that what looks like a history says to come from, oldest first, without verifying
    /// anything: whoever knows none of them has no reason to read it, which costs two signatures for
    /// each statement. What [`SuccessionChain::parse`] reads has all its old keys in here.
    pub fn claimed_keys(bytes: &[u8]) -> Vec<NodeId> {
        let mut keys = Vec::new();
        let within = bytes.len() <= MAX_SUCCESSION_BYTES;
        let mut claim = |d: &mut Decoder<'_>| {
            keys.extend(claimed_key(d.bytes()?));
            Ok(())
        };
        match within && cbor::read_array(bytes, "statements", MAX_STATEMENTS, &mut claim).is_ok() {
            true => keys,
            false => Vec::new(),
        }
    }

    /// The exact bytes, at most [`MAX_SUCCESSION_BYTES`].
    pub fn encode(&self) -> Vec<u8> {
        cbor::write(|e| {
            e.array(self.0.len() as u64)?;
            for statement in &self.0 {
                e.bytes(statement.bytes())?;
            }
            Ok(e)
        })
    }

    /// Adds the newest statement; beyond [`MAX_STATEMENTS`] the oldest is dropped.
    ///
    /// # Errors
    /// When it does not follow the last one.
    pub fn push(&mut self, statement: Succession) -> Result<(), LinkFault> {
        check_link(self.0.iter(), &statement)?;
        self.0.push(statement);
        if self.0.len() > MAX_STATEMENTS {
            self.0.remove(0);
        }
        Ok(())
    }

    /// The statements, oldest first; never empty.
    pub fn statements(&self) -> &[Succession] {
        &self.0
    }

    /// The newest statement.
    pub fn last(&self) -> &Succession {
        self.0.last().expect("a chain is never empty")
    }

    /// The identity in which the history ends.
    pub fn current(&self) -> NodeId {
        self.last().new()
    }

    /// The statements from the one whose old key is `known` on: what somebody who knows that key has
    /// to follow. `None` if it is not in the history, or already the current one.
    pub fn since(&self, known: &NodeId) -> Option<&[Succession]> {
        let place = self.0.iter().position(|s| s.old() == *known)?;
        Some(&self.0[place..])
    }
}

/// A history of which each statement follows the one before, but which nobody may have signed.
///
/// A stranger can make fifteen statements about keys of its own and append a sixteenth about
/// somebody else's: everything that costs no signature is checked first, and then the statement of
/// the key that one knows, which nobody else can sign.
#[derive(Clone, Debug)]
pub struct UnverifiedSuccessionChain(Vec<UnverifiedSuccession>);

impl UnverifiedSuccessionChain {
    /// Reads a history without verifying a signature.
    ///
    /// # Errors
    /// When it is past a limit, not in its one form, or a statement says what none may say or does
    /// not follow the one before.
    pub fn parse(bytes: &[u8]) -> Result<Self, SuccessionChainError> {
        cbor::within("bytes", bytes.len(), MAX_SUCCESSION_BYTES)?;
        let mut encoded: Vec<&[u8]> = Vec::new();
        cbor::read_array(bytes, "statements", MAX_STATEMENTS, |d| {
            encoded.push(d.bytes()?);
            Ok(())
        })?;
        let mut statements: Vec<UnverifiedSuccession> = Vec::new();
        for (index, bytes) in encoded.into_iter().enumerate() {
            let statement = UnverifiedSuccession::read(bytes)
                .map_err(|cause| SuccessionChainError::Statement { index, cause })?;
            let before = statements.iter().map(UnverifiedSuccession::claimed);
            check_link(before, statement.claimed())
                .map_err(|fault| SuccessionChainError::Disconnected { index, fault })?;
            statements.push(statement);
        }
        match statements.is_empty() {
            true => Err(SuccessionChainError::Empty),
            false => Ok(Self(statements)),
        }
    }

    /// The identity in which it claims to end.
    pub fn current(&self) -> NodeId {
        let last = self.0.last().expect("a chain is never empty");
        last.claimed().new()
    }

    /// Verifies all signatures, beginning with those of the first statement whose old key
    /// `is_known`; those of the statements before it come last.
    ///
    /// # Errors
    /// At the first signature that does not hold.
    pub fn verify(
        self,
        is_known: impl Fn(&NodeId) -> bool,
    ) -> Result<SuccessionChain, SuccessionChainError> {
        let known = self.0.iter().position(|s| is_known(&s.claimed().old()));
        let mut older = self.0;
        let newer = older.split_off(known.unwrap_or_default());
        let first = older.len();
        let newer = verified(newer, first)?;
        let mut statements = verified(older, 0)?;
        statements.extend(newer);
        Ok(SuccessionChain(statements))
    }
}

fn verified(
    statements: Vec<UnverifiedSuccession>,
    first: usize,
) -> Result<Vec<Succession>, SuccessionChainError> {
    let verify = |(place, statement): (usize, UnverifiedSuccession)| {
        let index = first + place;
        let verified = statement.verify();
        verified.map_err(|cause| SuccessionChainError::Statement { index, cause })
    };
    statements.into_iter().enumerate().map(verify).collect()
}

fn claimed_key(statement: &[u8]) -> Option<NodeId> {
    let (payload, [_, _]) = read_envelope(statement).ok()?;
    let mut old = None;
    let read = cbor::read_map(payload, |key, d| {
        if key == OLD_KEY {
            old = Some(NodeId::of_spki(d.bytes()?));
        } else {
            d.skip()?;
        }
        Ok(true)
    });
    read.ok().and(old)
}

fn check_link<'s>(
    before: impl DoubleEndedIterator<Item = &'s Succession> + Clone,
    statement: &Succession,
) -> Result<(), LinkFault> {
    let Some(last) = before.clone().next_back() else {
        return Ok(());
    };
    if statement.old_spki() != last.new_spki() {
        return Err(LinkFault::Key);
    }
    if statement.network() != last.network() {
        return Err(LinkFault::Network);
    }
    if last.sequence().checked_add(1) != Some(statement.sequence()) {
        return Err(LinkFault::Sequence);
    }
    if statement.previous() != Some(last.digest()) {
        return Err(LinkFault::Previous);
    }
    if last
        .next()
        .is_some_and(|next| next != statement.new().key_hash())
    {
        return Err(LinkFault::Commitment);
    }
    match before.into_iter().any(|s| s.old() == statement.new()) {
        true => Err(LinkFault::Returned),
        false => Ok(()),
    }
}
