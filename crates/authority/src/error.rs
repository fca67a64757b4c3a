//! Why an authority did not do what it was asked.

use std::path::PathBuf;

use comity_certs::{CsrError, MetadataError, MintError};
use comity_identity::{KeyHash, NodeId, UnixTime};
use comity_keys::{KeyError, NoPassphrase};
use comity_record::{BundleError, CharterError, SigningError, SuccessorFault};
use comity_store::{LedgerError, NetworkError, StoreError};
use thiserror::Error;

use crate::state::StateError;

/// Why an authority did not do what it was asked. Nothing has changed then, except for serial numbers
/// that were reserved in vain, and with [`AuthorityError::Unfinished`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// A file could not be read or made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger of issued certificates.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The home's list of networks.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The state of the authority is not understood.
    #[error("cannot read {}: {error}", path.display())]
    State {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        error: StateError,
    },
    /// The state is older than what this home has published, as a restored copy is: the keys in it
    /// are no longer the authority's.
    #[error(
        "the state has charter {state}, and charter {published} was published: it is an old copy"
    )]
    OldCopy {
        /// The sequence of the charter in the state.
        state: u64,
        /// The sequence of the one that was published.
        published: u64,
    },
    /// What was asked is done and will be published, and something after that failed: this home's own
    /// list of networks or the ledger does not know of it. [`Authority::refresh`] completes it.
    ///
    /// [`Authority::refresh`]: crate::Authority::refresh
    #[error("it is done, but this home's own copy is not: {cause}")]
    Unfinished {
        /// Of which authority.
        network: NodeId,
        /// What failed.
        cause: Box<Self>,
    },
    /// A certificate was not made.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// A request for a certificate is not acceptable.
    #[error(transparent)]
    Request(#[from] CsrError),
    /// A bundle was not made.
    #[error(transparent)]
    Bundle(#[from] SigningError<BundleError>),
    /// A charter was not made.
    #[error(transparent)]
    Charter(#[from] SigningError<CharterError>),
    /// A change of keys that readers would not follow.
    #[error("readers would not follow: {0}")]
    Successor(#[from] SuccessorFault),
    /// A private key could not be made or read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Grants that cannot stand in a certificate.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A name that cannot be a label.
    #[error("{0:?} cannot be a label")]
    Label(String),
    /// Another member has the label.
    #[error("{label} is the label of another member, {key}")]
    LabelTaken {
        /// The label.
        label: String,
        /// Whose it is.
        key: KeyHash,
    },
    /// What was brought is no root certificate.
    #[error("it is not a root certificate: {cause}")]
    NotARoot {
        /// What is wrong with it.
        cause: String,
    },
    /// The key was withdrawn, for ever.
    #[error("the key {} was withdrawn", .0.short())]
    Withdrawn(KeyHash),
    /// No issuing key that is in use is at hand here.
    #[error("no active issuing key is kept here")]
    NoIssuingKey,
    /// The issuing key is sealed, and nobody has unlocked it.
    #[error("the issuing key {} is sealed", .0.short())]
    Sealed(KeyHash),
    /// The key that was brought is no active root of this authority.
    #[error("the key {} is not an active root of this network", .0.short())]
    NotOurRoot(KeyHash),
    /// No key of the authority has this hash.
    #[error("the key {} is none of this network", .0.short())]
    UnknownKey(KeyHash),
    /// A change that a key's state does not allow.
    #[error("the key {} cannot become {to}: it is {from}", key.short())]
    KeyState {
        /// Which key.
        key: KeyHash,
        /// Its state.
        from: &'static str,
        /// What was asked.
        to: &'static str,
    },
    /// A validity that the issuer's does not cover.
    #[error("it would be valid until {asked}, and its issuer is until {end}")]
    PastIssuer {
        /// The end that was asked for.
        asked: UnixTime,
        /// The issuer's end.
        end: UnixTime,
    },
    /// Nothing in the ledger is what was meant.
    #[error("no certificate of this network is {0}")]
    NotFound(String),
    /// As many withdrawals as a bundle holds, all of them of certificates that are still valid.
    #[error("a bundle holds {limit} withdrawals, and there are as many")]
    TooManyWithdrawals {
        /// How many there may be.
        limit: usize,
    },
    /// A member changes its key faster than an authority follows: its last overlap is not over, or it
    /// changed [`MAX_SUCCESSIONS`](crate::MAX_SUCCESSIONS) times within a year.
    #[error("the member {} changes its key too often: its next change can be followed after {until}", key.short())]
    TooOften {
        /// The key that is to be followed.
        key: NodeId,
        /// When the next change is followed.
        until: UnixTime,
    },
    /// A statement of succession that was made later than now.
    #[error("the statement that the key follows a member's is dated {issued}")]
    FromTheFuture {
        /// When it says that it was made.
        issued: UnixTime,
    },
    /// A statement of succession that is older than the one by which the member got its key.
    #[error("statement {found} is older than statement {known}, by which the member got its key")]
    Replayed {
        /// The sequence that is known.
        known: u64,
        /// The one that came.
        found: u64,
    },
    /// A key between the member's and the one that follows is revoked in this home.
    #[error("the key {} is revoked in line {line} of known_peers", key.short())]
    Revoked {
        /// The key.
        key: KeyHash,
        /// The line.
        line: usize,
    },
    /// As many members change their keys at one time as an authority keeps in mind.
    #[error("{limit} keys have a planned end, and more cannot be kept in mind")]
    TooManySuccessions {
        /// How many there may be.
        limit: usize,
    },
    /// No statement proves that the key follows a member's.
    #[error("nothing proves that {} follows a member", .0.short())]
    NoSuccessor(NodeId),
    /// The member's key has another successor already, or committed to one: somebody has stolen it.
    #[error("the member {} was to be followed by {}, and {} says it is", old.short(), known.short(), claimed.short())]
    Forked {
        /// The key that is followed.
        old: NodeId,
        /// By whom, as far as we know.
        known: KeyHash,
        /// By whom, as is claimed.
        claimed: NodeId,
    },
}

impl From<NoPassphrase> for AuthorityError {
    fn from(error: NoPassphrase) -> Self {
        Self::Key(error.into())
    }
}
