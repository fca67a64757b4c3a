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

use comity_authority::{Authority, AuthorityError};
use comity_certs::{Anchor, MintError, RootRequest, mint_root};
use comity_identity::{Fingerprint, KeyHash, NodeId, Signer, UnixTime};
use comity_keys::{KeyError, NoPassphrase, SoftwareKey, needs_passphrase};
use comity_record::{
    KeyRevocation, KeyRevocationRequest, LinkFault, SigningError, StatementError, Succession,
    SuccessionChain, SuccessionChainError, SuccessionRequest,
};
use comity_store::{
    AuthorityFiles, Home, HomeFile, IdentityFiles, NetworkError, NetworkStore, StoreError,
};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::AskPassphrase;
use crate::armour::{ArmourError, REVOCATION, SUCCESSION, read_blocks, write_block};
use crate::identity::{self, IdentityError, encode_certificate, encode_key, random_serial};
use crate::network::name_ourselves;

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
    /// The clock is behind something that happened here. A statement with such a date would never be
    /// followed, or end the old key before anybody knows the new one.
    #[error("the clock says {now}, and {what} was at {known}")]
    Clock {
        /// What the clock says.
        now: UnixTime,
        /// What is later.
        what: &'static str,
        /// When that was.
        known: UnixTime,
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
    check_clock(home, &before, now)?;
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

/// Why our own membership of a network was not issued anew.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReissueError {
    /// The authority did not issue it.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] NetworkError),
    /// The identity for which it would be cannot be used.
    #[error(transparent)]
    Identity(#[from] RollError),
}

/// Issues this node's membership of a network anew for its present key, where the authority is in this
/// home and the key follows a member's; its bundle names the present id from then on. Says whether a
/// membership was needed. `comity serve` does the same
/// when it next runs, so a roll that was interrupted before this leaves nothing undone.
///
/// # Errors
/// When the authority cannot issue it, as with a sealed issuing key, or it cannot be stored.
pub fn reissue_membership(
    home: &Home,
    network: NodeId,
    command: &str,
    now: UnixTime,
) -> Result<bool, ReissueError> {
    let files = home.identity().map_err(RollError::from)?;
    let files = files.ok_or_else(|| RollError::from(identity::missing(home)))?;
    let root = identity::root_der(home, &files.certificate).map_err(RollError::from)?;
    let history = history_of(home, &files)?;
    let mut authority = Authority::open(home, network, command)?;
    if let Some(history) = &history {
        name_ourselves(&mut authority, history, now)?;
    }
    let networks = NetworkStore::new(home, command);
    let held = networks.find(&network).map_err(NetworkError::from)?;
    let held = held.map(|record| record.membership);
    let held: Vec<Fingerprint> = held
        .iter()
        .flatten()
        .map(|der| Fingerprint::of_certificate(der))
        .collect();
    let Some(grant) = authority.renew(&root, history.as_ref(), &held, now)? else {
        return Ok(false);
    };
    networks.update_bundle(&network, &grant.bundle, now)?;
    networks.set_membership(&network, grant.membership)?;
    Ok(true)
}

/// Whether the authority of a network is in this home.
///
/// # Errors
/// When the directory of the authorities cannot be relied upon.
pub fn is_authority_of(home: &Home, network: &NodeId) -> Result<bool, StoreError> {
    Ok(AuthorityFiles::list(home)?.contains(network))
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

/// Refuses a clock that contradicts what this home knows to have happened.
fn check_clock(home: &Home, files: &IdentityFiles, now: UnixTime) -> Result<(), RollError> {
    let history = history_of(home, files)?;
    let last = history.map(|history| ("the last change of key", history.last().issued()));
    let root = identity::root_der(home, &files.certificate)?;
    let made = Anchor::from_der(&root).ok();
    let made = made.map(|root| ("the making of this identity", root.not_before()));
    // A list that cannot be read is no reason to keep a key that may be stolen.
    let networks = NetworkStore::new(home, "comity identity roll").list();
    let networks = networks.unwrap_or_default();
    let fetched = networks.iter().map(|record| record.refreshed).max();
    let fetched = fetched.map(|at| ("the last word of a network", at));
    match [last, made, fetched]
        .into_iter()
        .flatten()
        .find(|(_, at)| *at > now)
    {
        Some((what, known)) => Err(RollError::Clock { now, what, known }),
        None => Ok(()),
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

#[cfg(test)]
mod tests {
    use comity_identity::Algorithm;

    use super::*;

    /// 2026-03-01.
    const TODAY: u64 = 1_772_323_200;

    const NO_PASSPHRASE: fn() -> Result<Zeroizing<String>, NoPassphrase> = || {
        Err(NoPassphrase {
            cause: "nobody is asked".to_owned(),
        })
    };

    fn today() -> UnixTime {
        UnixTime::from_secs(TODAY)
    }

    fn days(n: u64) -> Duration {
        Duration::from_secs(n * 86_400)
    }

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::create(&folder.path().join("home")).expect("a home");
        home.establish_identity(|| Ok::<_, StoreError>(first_identity()))
            .expect("an identity");
        (folder, home)
    }

    /// As it was made today.
    fn first_identity() -> IdentityFiles {
        let generate = || SoftwareKey::generate(Algorithm::EcdsaP256).expect("a key");
        let (key, next) = (generate(), generate());
        let request = RootRequest {
            next: Some(KeyHash::of_spki(next.spki())),
            serial: [7; 16],
            not_before: today(),
        };
        let root = mint_root(&key, &request).expect("a root");
        IdentityFiles {
            key: encode_key(&key, None).expect("text"),
            certificate: encode_certificate(&root),
            next_key: Some(encode_key(&next, None).expect("text")),
            succession: None,
        }
    }

    fn request(next_key: Option<&str>) -> RollRequest<'_> {
        RollRequest {
            next_key,
            overlap: days(30),
            reason: "routine",
        }
    }

    fn roll_on(home: &Home, request: &RollRequest<'_>, now: UnixTime) -> Result<Rolled, RollError> {
        roll(
            home,
            request,
            &mut { NO_PASSPHRASE },
            &mut { NO_PASSPHRASE },
            now,
        )
    }

    fn next_key(home: &Home) -> String {
        let files = home.identity().expect("readable").expect("there");
        let next = files.next_key.expect("a next key");
        String::from_utf8(next.to_vec()).expect("text")
    }

    #[test]
    fn the_committed_key_becomes_the_identity_and_another_one_is_committed_to() {
        let (_folder, home) = home();
        let plan = plan_roll(&home, today()).expect("a plan");
        assert_eq!((plan.sequence, plan.overlapping.is_some()), (1, false));
        let rolled = roll_on(&home, &request(None), today()).expect("rolled");
        let public = identity::public(&home).expect("an identity");
        assert_eq!(Some(public.id), plan.new);
        assert_eq!(rolled.statement.old(), plan.old);
        assert_eq!(rolled.statement.new(), public.id);
        assert_eq!(rolled.statement.next(), public.next);
        assert_eq!(rolled.statement.overlap_end(), today() + days(30));
        let loaded = identity::load(&home, &mut { NO_PASSPHRASE }).expect("usable");
        assert_eq!(loaded.succession, rolled.history.encode());
        let previous = home.previous_identity().expect("readable").expect("kept");
        let before = identity::public_of(&home, &previous.certificate).expect("a root");
        assert_eq!(before.id, plan.old);
    }

    #[test]
    fn todays_key_does_not_lie_in_the_clear_where_yesterdays_is_kept() {
        let (_folder, home) = home();
        let next = next_key(&home);
        roll_on(&home, &request(None), today()).expect("rolled");
        let previous = home.previous_identity().expect("readable").expect("kept");
        assert!(previous.next_key.is_none());
        assert_ne!(previous.key.to_vec(), next.as_bytes());
    }

    #[test]
    fn a_clock_that_is_behind_the_making_of_the_identity_or_the_last_roll_rolls_nothing() {
        let (_folder, home) = home();
        let second = Duration::from_secs(1);
        let refused = |now| {
            let before = identity::public(&home).expect("an identity");
            let Err(RollError::Clock { known, .. }) = roll_on(&home, &request(None), now) else {
                panic!("rolled on {now}");
            };
            assert_eq!(identity::public(&home).expect("an identity"), before);
            known
        };
        // A machine whose clock has no battery.
        refused(UnixTime::from_secs(0));
        assert_eq!(refused(today() - second), today());
        let later = today() + days(10);
        roll_on(&home, &request(None), later).expect("rolled");
        assert_eq!(refused(later - second), later);
        roll_on(&home, &request(None), later).expect("at the same second");
    }

    #[test]
    fn a_clock_that_is_behind_the_last_word_of_a_network_rolls_nothing() {
        let (_folder, home) = home();
        let root = SoftwareKey::generate(Algorithm::EcdsaP256).expect("a key");
        let new = comity_authority::NewAuthority::named("acme");
        let later = today() + days(3);
        Authority::create(&home, &new, &root, later, "test").expect("an authority");
        let refused = roll_on(&home, &request(None), today() + days(2));
        let Err(RollError::Clock { known, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(known, later);
        roll_on(&home, &request(None), later).expect("rolled");
    }

    #[test]
    fn each_step_names_the_one_before_and_sixteen_are_kept() {
        let (_folder, home) = home();
        for step in 1..=18 {
            let plan = plan_roll(&home, today()).expect("a plan");
            assert_eq!(plan.sequence, step);
            assert_eq!(plan.overlapping.is_some(), step > 1);
            let rolled = roll_on(&home, &request(None), today()).expect("rolled");
            let kept = usize::try_from(step.min(16)).expect("small");
            assert_eq!(rolled.history.statements().len(), kept);
        }
        let history = history(&home).expect("readable").expect("there");
        assert_eq!(history.last().sequence(), 18);
        let plan = plan_roll(&home, today() + days(30) + Duration::from_secs(1)).expect("a plan");
        assert!(plan.overlapping.is_none(), "the overlap is over");
    }

    #[test]
    fn no_other_key_than_the_committed_one_becomes_the_identity() {
        let (_folder, home) = home();
        let before = identity::public(&home).expect("an identity");
        let other = SoftwareKey::generate(Algorithm::EcdsaP256).expect("a key");
        let text = other.encode_plain().expect("text");
        let refused = roll_on(&home, &request(Some(&text)), today());
        assert!(
            matches!(refused, Err(RollError::NotCommitted { .. })),
            "{refused:?}"
        );
        assert_eq!(identity::public(&home).expect("an identity"), before);
    }

    #[test]
    fn the_same_key_is_taken_once() {
        let (_folder, home) = home();
        let next = next_key(&home);
        let rolled = roll_on(&home, &request(Some(&next)), today()).expect("rolled");
        let again = roll_on(&home, &request(Some(&next)), today());
        let Err(RollError::AlreadyRolled { current }) = again else {
            panic!("{again:?}");
        };
        assert_eq!(current, rolled.statement.new());
    }

    #[test]
    fn an_overlap_of_ninety_days_is_possible_and_no_longer_one() {
        let (_folder, home) = home();
        let wanted = |overlap| RollRequest {
            overlap,
            ..request(None)
        };
        let before = identity::public(&home).expect("an identity");
        let refused = roll_on(&home, &wanted(days(90) + Duration::from_secs(1)), today());
        assert!(
            matches!(refused, Err(RollError::Statement(_))),
            "{refused:?}"
        );
        assert_eq!(identity::public(&home).expect("an identity"), before);
        roll_on(&home, &wanted(days(90)), today()).expect("rolled");
    }

    #[test]
    fn a_key_that_is_put_aside_sealed_is_never_kept_in_the_clear() {
        let (_folder, home) = home();
        let text = next_key(&home);
        let next = SoftwareKey::decode(&text, &mut { NO_PASSPHRASE }).expect("a key");
        let sealed = next.seal("offline").expect("sealed");
        let mut ask = || Ok(Zeroizing::new("offline".to_owned()));
        let request = request(Some(&sealed));
        roll(&home, &request, &mut { NO_PASSPHRASE }, &mut ask, today()).expect("rolled");
        let files = home.identity().expect("readable").expect("there");
        for key in [&files.key, files.next_key.as_ref().expect("a next key")] {
            let text = std::str::from_utf8(key).expect("text");
            assert!(comity_keys::is_sealed(text));
        }
    }

    #[test]
    fn a_history_of_another_node_is_refused() {
        let (_folder, home) = home();
        let (_other_folder, other) = self::home();
        let theirs = roll_on(&other, &request(None), today()).expect("rolled");
        let path = home.path(HomeFile::Succession);
        std::fs::write(&path, theirs.history.encode()).expect("written");
        let refused = roll_on(&home, &request(None), today());
        let Err(RollError::History { cause, .. }) = refused else {
            panic!("{refused:?}");
        };
        let current = theirs.statement.new();
        assert_eq!(cause, HistoryFault::AnotherNode { current });
    }

    #[test]
    fn the_key_itself_and_the_committed_one_revoke() {
        let (_folder, home) = home();
        let public = identity::public(&home).expect("an identity");
        let own = revoke(&home, Some("lost"), &mut { NO_PASSPHRASE }, today()).expect("made");
        assert_eq!((own.key(), own.counts(None)), (public.id, true));
        let next = next_key(&home);
        let by_next = revoke_by_next_key(&home, &next, None, &mut { NO_PASSPHRASE }, today());
        let by_next = by_next.expect("made");
        assert!(!by_next.counts(None));
        assert!(by_next.counts(public.next));
        let other = SoftwareKey::generate(Algorithm::Ed25519).expect("a key");
        let text = other.encode_plain().expect("text");
        let refused = revoke_by_next_key(&home, &text, None, &mut { NO_PASSPHRASE }, today());
        assert!(
            matches!(refused, Err(RollError::NotCommitted { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn statements_survive_their_text_and_others_are_refused() {
        let (_folder, home) = home();
        let rolled = roll_on(&home, &request(None), today()).expect("rolled");
        let revocation = revoke(&home, None, &mut { NO_PASSPHRASE }, today()).expect("made");
        let statements = [
            Statement::Succession(rolled.history),
            Statement::Revocation(revocation),
        ];
        let text: String = statements.iter().map(Statement::encode).collect();
        assert_eq!(Statement::read(&text).expect("two"), statements);
        let certificate = write_block(crate::armour::CERTIFICATE, b"x");
        assert!(matches!(
            Statement::read(&certificate),
            Err(StatementFileError::Stranger { .. })
        ));
        let one = statements[1].encode();
        let most = one.repeat(MAX_FILE_STATEMENTS);
        assert_eq!(
            Statement::read(&most).expect("statements").len(),
            MAX_FILE_STATEMENTS
        );
        assert_eq!(
            Statement::read(&(most + &one)),
            Err(StatementFileError::TooMany)
        );
    }
}
