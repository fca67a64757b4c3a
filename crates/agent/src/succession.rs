//! The identity of a home, handed from one key to the next, and what it says about that.
//!
//! 1. The root of every identity commits to the hash of the key that will follow, so nobody who steals
//!    today's key can choose a successor. A roll takes that key and no other.
//! 2. The committed key becomes the identity, and another one is made and committed to by its root.
//! 3. Both keys sign a statement that the one follows the other; it is added to the history of such
//!    statements, which every leaf carries from then on.
//! 4. Key, root, next key and history take effect in one step of the file system. Before it the old
//!    identity is in force, after it the new one, whenever the process stops.

use std::path::{Path, PathBuf};
use std::time::Duration;

use comity_certs::{MintError, RootRequest, mint_root};
use comity_identity::{KeyHash, NodeId, Signer, UnixTime};
use comity_keys::{KeyError, NoPassphrase, SoftwareKey, needs_passphrase};
use comity_record::{
    KeyRevocation, KeyRevocationRequest, LinkFault, SigningError, StatementError, Succession,
    SuccessionChain, SuccessionChainError, SuccessionRequest,
};
use comity_store::{Home, HomeFile, IdentityFiles, StoreError};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::AskPassphrase;
use crate::armour::{ArmourError, REVOCATION, SUCCESSION, read_blocks, write_block};
use crate::identity::{self, IdentityError, encode_certificate, encode_key, random_serial};

/// Statements in one file: what one person might send another about all their machines.
pub const MAX_FILE_STATEMENTS: usize = 64;

/// What a roll takes besides the home.
#[derive(Clone, Copy, Debug)]
pub struct RollRequest<'a> {
    /// The text of the file with the committed next key; without it, the one that lies in the home.
    pub next_key: Option<&'a str>,
    /// For how long peers that follow go on to accept the old key, at most 90 days.
    pub overlap: Duration,
    /// One word for people, such as `routine`.
    pub reason: &'a str,
}

/// What a roll would come to, as far as it can be known without a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RollPlan {
    /// The identity of today.
    pub old: NodeId,
    /// The identity to which it commits; `None` where its root commits to none.
    pub new: Option<NodeId>,
    /// The number that the change of key will have: 1 for the first.
    pub sequence: u64,
    /// The last change, if it is so recent that the key before this one is still accepted.
    pub overlapping: Option<Succession>,
    /// The next key's file in the home, if it is there.
    pub next_key: Option<PathBuf>,
}

/// What a roll has done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rolled {
    /// The statement that both keys signed.
    pub statement: Succession,
    /// The statements that travel with every connection now, oldest first.
    pub history: SuccessionChain,
    /// Where the new next key lies. It belongs offline.
    pub next_key: PathBuf,
}

/// Why an identity was not succeeded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RollError {
    /// The present identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The files could not be read or replaced. The old identity is in force.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no next key in the home.
    #[error("the next key is not in {path}")]
    NoNextKey {
        /// Where it would be.
        path: PathBuf,
    },
    /// The next key cannot be read.
    #[error("the next key: {0}")]
    NextKey(#[source] KeyError),
    /// It is another key than the one that was committed to.
    #[error("the next key has the hash {found}, and the identity committed to {committed}")]
    NotCommitted {
        /// The committed one.
        committed: KeyHash,
        /// The given one.
        found: KeyHash,
    },
    /// The given key is the identity already.
    #[error("the given key is this node's identity already")]
    AlreadyRolled {
        /// The identity.
        current: NodeId,
    },
    /// Another process succeeded the identity in the meantime.
    #[error("another process changed the identity in the meantime")]
    Interfered,
    /// The history of the identity cannot be read.
    #[error("the statements in {path} cannot be used: {cause}")]
    History {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        cause: HistoryFault,
    },
    /// The statement could not be made.
    #[error("the statement: {0}")]
    Statement(#[from] SigningError<StatementError>),
    /// The new root certificate could not be made.
    #[error("the root certificate: {0}")]
    Mint(#[from] MintError),
}

/// What is wrong with the history of an identity.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HistoryFault {
    /// It does not hold.
    #[error(transparent)]
    Chain(#[from] SuccessionChainError),
    /// The statement that was made does not follow it.
    #[error(transparent)]
    Link(#[from] LinkFault),
    /// It ends at another identity than the one in force.
    #[error("they lead to {current}, which is not this node's identity")]
    AnotherNode {
        /// Where they lead.
        current: NodeId,
    },
}

/// Says what [`roll`] would come to. Needs no key and no passphrase.
///
/// # Errors
/// When there is no identity, or a file of it cannot be read.
pub fn plan_roll(home: &Home, now: UnixTime) -> Result<RollPlan, RollError> {
    let public = identity::public(home)?;
    let history = history(home)?;
    let last = history.as_ref().map(SuccessionChain::last);
    let next_key = home.path(HomeFile::NextKey);
    Ok(RollPlan {
        old: public.id,
        new: public.next.map(node_of),
        sequence: next_sequence(last),
        overlapping: last.filter(|last| now <= last.overlap_end()).cloned(),
        next_key: next_key.exists().then_some(next_key),
    })
}

/// Makes the committed next key the identity of the home.
///
/// The new keys are sealed if one of the old ones was: the key that becomes the identity under the
/// passphrase that opened it, or else under that of the present identity, and the new next key under
/// the same one. A passphrase is asked for before anything is locked or changed; that of the next key
/// only if that of the identity does not open it.
///
/// # Errors
/// Then the old identity is in force, except after an error of the store that says that the last step
/// may have happened.
pub fn roll(
    home: &Home,
    request: &RollRequest<'_>,
    passphrase: AskPassphrase<'_>,
    next_passphrase: AskPassphrase<'_>,
    now: UnixTime,
) -> Result<Rolled, RollError> {
    let before = home.identity()?.ok_or_else(|| identity::missing(home))?;
    let public = identity::public_of(home, &before.certificate)?;
    let next_text = next_key_text(home, &before, request.next_key)?;
    let mut opened = Opened::default();
    let key = opened.identity(home, &before, public.id, passphrase)?;
    let next = opened.next(&next_text, next_passphrase)?;
    check_commitment(public.id, public.next, &next)?;
    let after = SoftwareKey::generate(next.algorithm()).map_err(RollError::NextKey)?;
    let statement = statement(home, &before, request, [&key, &next, &after], now)?;
    let history = extended(home, &before, &statement)?;
    let files = files(&next, &after, &history, opened.passphrase(), now)?;
    home.succeed_identity(|found| match same(found, &before) {
        true => Ok(files),
        false => Err(RollError::Interfered),
    })?;
    Ok(Rolled {
        statement,
        history,
        next_key: home.path(HomeFile::NextKey),
    })
}

/// The statements by which the identity of a home followed others; `None` for a first identity.
///
/// # Errors
/// When there is no identity, or its statements do not hold or lead to another one.
pub fn history(home: &Home) -> Result<Option<SuccessionChain>, RollError> {
    let files = home.identity()?.ok_or_else(|| identity::missing(home))?;
    history_of(home, &files)
}

/// Makes the statement that the identity of a home must not be trusted any more.
///
/// # Errors
/// When there is no identity, or its key cannot be opened.
pub fn revoke(
    home: &Home,
    reason: Option<&str>,
    passphrase: AskPassphrase<'_>,
    now: UnixTime,
) -> Result<KeyRevocation, RollError> {
    let identity = identity::load(home, passphrase)?;
    let key = NodeId::of_spki(identity.key.spki());
    revocation(key, identity.key.as_ref(), reason, now)
}

/// The same, signed by the committed next key in `next_key`: for a node that lost its key.
///
/// # Errors
/// When there is no identity, the key cannot be opened, or it is not the committed one: nobody would
/// believe it.
pub fn revoke_by_next_key(
    home: &Home,
    next_key: &str,
    reason: Option<&str>,
    next_passphrase: AskPassphrase<'_>,
    now: UnixTime,
) -> Result<KeyRevocation, RollError> {
    let public = identity::public(home)?;
    let next = SoftwareKey::decode(next_key, next_passphrase).map_err(RollError::NextKey)?;
    check_commitment(public.id, public.next, &next)?;
    revocation(public.id, &next, reason, now)
}

fn revocation(
    key: NodeId,
    signer: &dyn Signer,
    reason: Option<&str>,
    now: UnixTime,
) -> Result<KeyRevocation, RollError> {
    let request = KeyRevocationRequest {
        key,
        at: now,
        reason: reason.map(str::to_owned),
    };
    Ok(request.sign(signer)?)
}

/// A statement from a file. Holding one means that its signatures hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Statement {
    /// Keys that followed one another.
    Succession(SuccessionChain),
    /// A key that ends.
    Revocation(KeyRevocation),
}

/// Why a file with statements cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StatementFileError {
    /// Its PEM blocks cannot be read.
    #[error(transparent)]
    Armour(#[from] ArmourError),
    /// More than [`MAX_FILE_STATEMENTS`].
    #[error("it has more than {MAX_FILE_STATEMENTS} statements")]
    TooMany,
    /// A block that is no statement.
    #[error("a PEM block `{label}` is no statement about a key")]
    Stranger {
        /// Its label.
        label: String,
    },
    /// Successions that do not hold.
    #[error("the succession is refused: {0}")]
    Succession(#[from] SuccessionChainError),
    /// A revocation that does not hold.
    #[error("the revocation: {0}")]
    Revocation(#[from] StatementError),
}

impl Statement {
    /// Reads the statements in a text, with anything around them, and verifies them.
    ///
    /// # Errors
    /// When there is none, there are too many, or one of them does not hold.
    pub fn read(text: &str) -> Result<Vec<Self>, StatementFileError> {
        let blocks = read_blocks(text)?;
        if blocks.len() > MAX_FILE_STATEMENTS {
            return Err(StatementFileError::TooMany);
        }
        let read = blocks.into_iter().map(|block| match block.label.as_str() {
            SUCCESSION => Ok(Self::Succession(SuccessionChain::parse(&block.content)?)),
            REVOCATION => Ok(Self::Revocation(KeyRevocation::parse(&block.content)?)),
            _ => Err(StatementFileError::Stranger { label: block.label }),
        });
        read.collect()
    }

    /// The text of it.
    pub fn encode(&self) -> String {
        match self {
            Self::Succession(history) => write_block(SUCCESSION, &history.encode()),
            Self::Revocation(revocation) => write_block(REVOCATION, revocation.bytes()),
        }
    }
}

/// The passphrases that opened the keys.
#[derive(Default)]
struct Opened {
    identity: Option<Zeroizing<String>>,
    next: Option<Zeroizing<String>>,
}

impl Opened {
    fn identity(
        &mut self,
        home: &Home,
        files: &IdentityFiles,
        id: NodeId,
        passphrase: AskPassphrase<'_>,
    ) -> Result<SoftwareKey, RollError> {
        let mut ask = || {
            let typed = passphrase()?;
            self.identity = Some(typed.clone());
            Ok(typed)
        };
        Ok(identity::key_of(home, files, id, &mut ask)?)
    }

    /// Both keys were probably sealed at once, with one passphrase; nobody is asked for it twice.
    fn next(
        &mut self,
        text: &str,
        passphrase: AskPassphrase<'_>,
    ) -> Result<SoftwareKey, RollError> {
        if let Some(known) = &self.identity
            && needs_passphrase(text)
        {
            match SoftwareKey::decode(text, &mut || Ok(known.clone())) {
                Err(KeyError::WrongPassphrase) => {}
                opened => return opened.map_err(RollError::NextKey),
            }
        }
        let mut ask = || -> Result<_, NoPassphrase> {
            let typed = passphrase()?;
            self.next = Some(typed.clone());
            Ok(typed)
        };
        SoftwareKey::decode(text, &mut ask).map_err(RollError::NextKey)
    }

    /// What the new keys are sealed with, if they are: a roll never leaves a key less protected.
    fn passphrase(&self) -> Option<&str> {
        let passphrase = self.next.as_ref().or(self.identity.as_ref());
        passphrase.map(|text| text.as_str())
    }
}

fn next_key_text(
    home: &Home,
    files: &IdentityFiles,
    given: Option<&str>,
) -> Result<Zeroizing<String>, RollError> {
    if let Some(given) = given {
        return Ok(Zeroizing::new(given.to_owned()));
    }
    let found = files
        .next_key
        .as_ref()
        .ok_or_else(|| RollError::NoNextKey {
            path: home.path(HomeFile::NextKey),
        })?;
    let text = std::str::from_utf8(found).map_err(|_| RollError::NextKey(KeyError::NotPem))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn check_commitment(
    current: NodeId,
    committed: Option<KeyHash>,
    next: &SoftwareKey,
) -> Result<(), RollError> {
    let found = KeyHash::of_spki(next.spki());
    if found == current.key_hash() {
        return Err(RollError::AlreadyRolled { current });
    }
    match committed {
        Some(committed) if committed != found => Err(RollError::NotCommitted { committed, found }),
        _ => Ok(()),
    }
}

fn statement(
    home: &Home,
    files: &IdentityFiles,
    request: &RollRequest<'_>,
    [old, new, after]: [&SoftwareKey; 3],
    now: UnixTime,
) -> Result<Succession, RollError> {
    let history = history_of(home, files)?;
    let last = history.as_ref().map(SuccessionChain::last);
    let request = SuccessionRequest {
        network: None,
        sequence: next_sequence(last),
        previous: last.map(Succession::digest),
        issued: now,
        overlap_end: now + request.overlap,
        next: Some(KeyHash::of_spki(after.spki())),
        reason: Some(request.reason.to_owned()),
    };
    Ok(request.sign(old, new)?)
}

fn next_sequence(last: Option<&Succession>) -> u64 {
    last.map_or(1, |last| last.sequence().saturating_add(1))
}

fn extended(
    home: &Home,
    files: &IdentityFiles,
    statement: &Succession,
) -> Result<SuccessionChain, RollError> {
    let statement = statement.clone();
    match history_of(home, files)? {
        None => Ok(SuccessionChain::new(statement)),
        Some(mut history) => match history.push(statement) {
            Ok(()) => Ok(history),
            Err(fault) => Err(bad_history(home, fault.into())),
        },
    }
}

fn history_of(home: &Home, files: &IdentityFiles) -> Result<Option<SuccessionChain>, RollError> {
    let Some(bytes) = &files.succession else {
        return Ok(None);
    };
    let history = SuccessionChain::parse(bytes).map_err(|error| bad_history(home, error.into()))?;
    let current = history.current();
    match current == identity::public_of(home, &files.certificate)?.id {
        true => Ok(Some(history)),
        false => Err(bad_history(home, HistoryFault::AnotherNode { current })),
    }
}

fn bad_history(home: &Home, cause: HistoryFault) -> RollError {
    RollError::History {
        path: home.path(HomeFile::Succession),
        cause,
    }
}

fn files(
    key: &SoftwareKey,
    next: &SoftwareKey,
    history: &SuccessionChain,
    passphrase: Option<&str>,
    now: UnixTime,
) -> Result<IdentityFiles, RollError> {
    let root = mint_root(
        key,
        &RootRequest {
            next: Some(KeyHash::of_spki(next.spki())),
            serial: random_serial()?,
            not_before: now,
        },
    )?;
    let encode = |key| encode_key(key, passphrase).map_err(IdentityError::Key);
    Ok(IdentityFiles {
        key: encode(key)?,
        certificate: encode_certificate(&root),
        next_key: Some(encode(next)?),
        succession: Some(history.encode()),
    })
}

/// Whether two readings of the files are of one identity.
fn same(found: &IdentityFiles, before: &IdentityFiles) -> bool {
    found.certificate == before.certificate && found.succession == before.succession
}

fn node_of(hash: KeyHash) -> NodeId {
    NodeId::from_bytes(*hash.as_bytes())
}

/// Reads the text of a key file that the operator named.
///
/// # Errors
/// The system's error, or one that says that the file is too large.
pub fn read_key_file(path: &Path) -> std::io::Result<Zeroizing<String>> {
    crate::node::read_named_file(path).map(Zeroizing::new)
}
