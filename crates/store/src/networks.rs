//! The authorities that a home recognises or follows, with their bundles: the file `networks`.
//!
//! - A bundle is verified when it comes and again whenever the file is read, so nobody who can write
//!   the file can invent one; and it never takes the place of a newer one.
//! - Withdrawals are for ever. What a later bundle leaves out stays in `withdrawn`, with the key that
//!   said it, until a charter revokes that key.
//! - Two bundles of one sequence mean that somebody else has the authority's key. The one that came
//!   first stays, the withdrawals of both count, and nothing else is taken from that authority until a
//!   person decides ([`NetworkStore::settle`]), or a charter revokes a key that signed one of the two.
//!   Two charters that contradict each other are for a person only.
//! - A file that is missing where there was one before is an error: without it the withdrawn would
//!   be members again. That there was one is told by `networks.present`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comity_identity::{KeyHash, NodeId, UnixTime};
use comity_record::{
    Bundle, BundleError, Follow, FollowError, Fork, KeyState, Location, Withdrawal, Withdrawn,
};
use comity_trust::{Authority, Networks, Standing};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::audit::{AuditLog, Deed};
use crate::claim::harmless;
use crate::error::StoreError;
use crate::home::{Home, HomeFile};
use crate::ledger::Ledger;

/// Most authorities in one home.
pub const MAX_NETWORKS: usize = 64;

/// Most certificates of one membership: a chain has room for eight, with leaf and root.
pub const MAX_MEMBERSHIP: usize = 6;

/// Bytes of one certificate of a membership.
pub const MAX_MEMBERSHIP_DER: usize = 16 << 10;

/// The authorities of a home.
#[derive(Debug)]
pub struct NetworkStore {
    ledger: Ledger<NetworkRecord>,
    audit: AuditLog,
    read: Mutex<Option<Known>>,
}

/// The entries that were verified last, and what they came to.
#[derive(Debug)]
struct Known {
    entries: Arc<Vec<NetworkRecord>>,
    networks: Arc<Networks>,
}

/// One authority.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkRecord {
    /// The network's id, for ever: the hash of its founding root's key.
    #[serde(with = "crate::as_text")]
    pub network: NodeId,
    /// What it is called here; no other network has this label.
    pub label: String,
    /// What its word counts for here.
    #[serde(with = "standing")]
    pub standing: Standing,
    /// Its newest bundle.
    #[serde(with = "base64")]
    pub bundle: Vec<u8>,
    /// Our own membership, in DER: cross-certificates, then the certificates of the issuing keys.
    #[serde(default, with = "base64_list", skip_serializing_if = "Vec::is_empty")]
    pub membership: Vec<Vec<u8>>,
    /// What it withdrew and the bundle does not say (any more), by signer.
    #[serde(
        default,
        with = "withdrawals",
        skip_serializing_if = "Withdrawn::is_empty"
    )]
    pub withdrawn: Withdrawn,
    /// Since when it is frozen, because two of its bundles contradict each other.
    #[serde(default, with = "optional", skip_serializing_if = "Option::is_none")]
    pub forked: Option<UnixTime>,
    /// If these are two bundles of one sequence: who signed the one that is not held.
    #[serde(
        default,
        with = "optional_key",
        skip_serializing_if = "Option::is_none"
    )]
    pub rival: Option<KeyHash>,
    /// When it was entered.
    #[serde(with = "crate::as_text")]
    pub added: UnixTime,
    /// When its newest bundle was last had from where one asks for it.
    #[serde(with = "crate::as_text")]
    pub refreshed: UnixTime,
    /// Where the operator said its bundle is, besides the places that it names itself.
    #[serde(default, with = "optional", skip_serializing_if = "Option::is_none")]
    pub source: Option<Location>,
}

/// What became of a bundle that was offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Updated {
    /// It is newer than what was held, and is held now.
    Newer,
    /// It is the one that is held.
    Same,
}

/// Why the networks were not changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The file could not be read or made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No such network is known here.
    #[error("no network {0} is known here")]
    Unknown(NodeId),
    /// It is known already.
    #[error("the network {network} is known already, as {label}")]
    Known {
        /// Which.
        network: NodeId,
        /// What it is called.
        label: String,
    },
    /// Another network has the label.
    #[error("another network is called {label}: {network}")]
    LabelTaken {
        /// The label.
        label: String,
        /// Who has it.
        network: NodeId,
    },
    /// A text that cannot be a label.
    #[error("{0:?} cannot be a label")]
    Label(String),
    /// There are [`MAX_NETWORKS`].
    #[error("{MAX_NETWORKS} networks are known here, and there is no room for another")]
    TooMany,
    /// A membership is too large.
    #[error("a membership of {found} {what}, at most {limit} are possible")]
    Membership {
        /// `certificates` or `bytes`.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A membership that does not take the place of the one that is held.
    #[error("the membership of {network} is refused: {cause}")]
    MembershipRefused {
        /// Of which network.
        network: NodeId,
        /// Why.
        cause: String,
    },
    /// A bundle that cannot be verified.
    #[error("the bundle of {network}: {error}")]
    Bundle {
        /// Whose it should be.
        network: NodeId,
        /// What is wrong with it.
        error: Box<BundleError>,
    },
    /// A bundle that does not follow the one that is held.
    #[error("the bundle of {network} is refused: {error}")]
    Follow {
        /// Whose it is.
        network: NodeId,
        /// Why.
        error: Box<FollowError>,
    },
    /// Two of its bundles contradict each other, and nobody has decided yet.
    #[error(
        "the network {network} is frozen since {since}: two of its bundles contradict each other"
    )]
    Frozen {
        /// Which.
        network: NodeId,
        /// Since when.
        since: UnixTime,
    },
}

impl NetworkStore {
    /// The networks of `home`; changes are logged on behalf of `command`.
    pub fn new(home: &Home, command: &str) -> Self {
        Self {
            ledger: Ledger::new(home, HomeFile::Networks),
            audit: AuditLog::new(home, command),
            read: Mutex::new(None),
        }
    }

    /// All networks, in the order in which they were entered. The bundles among them were verified.
    ///
    /// # Errors
    /// When the file cannot be read, a bundle in it does not hold, or it is missing and should be
    /// there.
    pub fn list(&self) -> Result<Vec<NetworkRecord>, StoreError> {
        let mut read = self.read();
        self.follow_file(&mut read)?;
        Ok(read
            .as_ref()
            .map_or_else(Vec::new, |known| known.entries.to_vec()))
    }

    /// One network.
    ///
    /// # Errors
    /// As [`NetworkStore::list`].
    pub fn find(&self, network: &NodeId) -> Result<Option<NetworkRecord>, StoreError> {
        let all = self.list()?;
        Ok(all.into_iter().find(|record| record.network == *network))
    }

    /// What decisions read. The same value until the file changes.
    ///
    /// # Errors
    /// As [`NetworkStore::list`].
    pub fn networks(&self) -> Result<Arc<Networks>, StoreError> {
        self.follow_file(&mut self.read())
    }

    /// Enters a network.
    ///
    /// # Errors
    /// When its bundle does not hold or is another network's, the network or the label is known
    /// already, something exceeds its limit, or the file cannot be written.
    pub fn add(&self, record: NetworkRecord) -> Result<(), NetworkError> {
        check_label(&record.label)?;
        check_membership(&record.membership)?;
        verified(&record.network, &record.bundle)?;
        self.change("network-add", &record.network.clone(), move |all| {
            if let Some(known) = all.iter().find(|r| r.network == record.network) {
                let label = known.label.clone();
                let network = record.network;
                return Err(NetworkError::Known { network, label });
            }
            check_free(all, &record.label)?;
            if all.len() >= MAX_NETWORKS {
                return Err(NetworkError::TooMany);
            }
            let detail = record.label.clone();
            all.push(record);
            Ok(((), detail))
        })
    }

    /// Takes the bundle that was given where one asks for it, and remembers that one has asked.
    ///
    /// # Errors
    /// When it does not hold, is older than what is held, or contradicts it
    /// ([`NetworkError::Frozen`]); what it withdraws counts even then, as long as it holds by itself and
    /// the key that signed it is an active one.
    /// Or when the file cannot be written.
    pub fn update_bundle(
        &self,
        network: &NodeId,
        bytes: &[u8],
        now: UnixTime,
    ) -> Result<Updated, NetworkError> {
        self.take_from(network, bytes, true, now)
    }

    /// Takes a bundle that somebody shows, whoever it is: it proves itself. That there is no newer one
    /// it does not prove, so it is asked for as soon as before: a member who was removed could show
    /// an old one for ever.
    ///
    /// # Errors
    /// As [`NetworkStore::update_bundle`].
    pub fn hear_bundle(
        &self,
        network: &NodeId,
        bytes: &[u8],
        now: UnixTime,
    ) -> Result<Updated, NetworkError> {
        self.take_from(network, bytes, false, now)
    }

    fn take_from(
        &self,
        network: &NodeId,
        bytes: &[u8],
        asked: bool,
        now: UnixTime,
    ) -> Result<Updated, NetworkError> {
        if let Some(held) = self.find(network)?
            && held.bundle == bytes
            && held.forked.is_none()
            && (!asked || now < held.refreshed + REFRESH_NOTED)
        {
            return Ok(Updated::Same);
        }
        let offered = verified(network, bytes)?;
        self.change("network-bundle", network, |all| {
            let record = find_mut(all, network)?;
            let held = verified(network, &record.bundle)?;
            let before = record.refreshed;
            let outcome = take(record, &held, &offered, now);
            if !asked {
                record.refreshed = before;
            }
            Ok((outcome, format!("sequence {}", offered.sequence())))
        })?
    }

    /// Decides between two bundles that contradict each other: from now on this one is held, and the
    /// network is no longer frozen. What the other one withdrew stays withdrawn
    /// unless the key that signed it is revoked by this one.
    ///
    /// # Errors
    /// When it does not hold, the network is not frozen and the bundle does not follow, or the file
    /// cannot be written.
    pub fn settle(
        &self,
        network: &NodeId,
        bytes: &[u8],
        now: UnixTime,
    ) -> Result<(), NetworkError> {
        let chosen = verified(network, bytes)?;
        self.change("network-settle", network, |all| {
            let record = find_mut(all, network)?;
            let held = verified(network, &record.bundle)?;
            if chosen.sequence() < held.sequence() {
                let error = Bundle::follow(&held, &chosen).err().map(Box::new);
                if let Some(error) = error {
                    let network = *network;
                    return Err(NetworkError::Follow { network, error });
                }
            }
            replace(record, &held, &chosen, now)?;
            Ok(((), format!("sequence {}", chosen.sequence())))
        })
    }

    /// Replaces our own membership of a network: cross-certificates, then issuing certificates.
    ///
    /// # Errors
    /// [`NetworkError::Membership`] above the limits, or when the file cannot be written.
    pub fn set_membership(
        &self,
        network: &NodeId,
        membership: Vec<Vec<u8>>,
    ) -> Result<(), NetworkError> {
        check_membership(&membership)?;
        self.change("network-membership", network, |all| {
            let record = find_mut(all, network)?;
            let detail = format!("{} certificates", membership.len());
            record.membership = membership;
            Ok(((), detail))
        })
    }

    /// Calls a network something else.
    ///
    /// # Errors
    /// When the label is none, or is another network's; or when the file cannot be written.
    pub fn relabel(&self, network: &NodeId, label: &str) -> Result<(), NetworkError> {
        check_label(label)?;
        self.change("network-label", network, |all| {
            if find_mut(all, network)?.label == label {
                return Ok(((), label.to_owned()));
            }
            check_free(all, label)?;
            label.clone_into(&mut find_mut(all, network)?.label);
            Ok(((), label.to_owned()))
        })
    }

    /// Lets the word of a network count for more or less.
    ///
    /// # Errors
    /// When it is not known, or the file cannot be written.
    pub fn set_standing(&self, network: &NodeId, to: Standing) -> Result<(), NetworkError> {
        self.change("network-standing", network, |all| {
            let record = find_mut(all, network)?;
            record.standing = to;
            Ok(((), to.token().to_owned()))
        })
    }

    /// Forgets a network: its members are strangers from now on, and so is everything it withdrew.
    /// Returns what was known.
    ///
    /// # Errors
    /// When it is not known, or the file cannot be written.
    pub fn remove(&self, network: &NodeId) -> Result<NetworkRecord, NetworkError> {
        self.change("network-remove", network, |all| {
            let place = all.iter().position(|record| record.network == *network);
            let removed = all.remove(place.ok_or(NetworkError::Unknown(*network))?);
            let detail = removed.label.clone();
            Ok((removed, detail))
        })
    }

    /// Makes one change under the lock, from what the file says now, and logs it.
    fn change<R>(
        &self,
        action: &str,
        network: &NodeId,
        change: impl FnOnce(&mut Vec<NetworkRecord>) -> Result<(R, String), NetworkError>,
    ) -> Result<R, NetworkError> {
        // A file that is gone is not begun anew.
        self.networks()?;
        let changed = self.ledger.update(|lock, all| {
            let before = all.clone();
            let (result, detail) = match change(all) {
                Ok(made) => made,
                Err(error) => {
                    *all = before;
                    return Ok(Err(error));
                }
            };
            if *all != before {
                self.audit.append(
                    lock,
                    &Deed {
                        action: action.into(),
                        peer: None,
                        detail: format!("network {}: {detail}", network.to_hex()),
                    },
                )?;
            }
            Ok(Ok(result))
        })?;
        self.mark();
        changed
    }
}

/// That one has asked and was given the bundle that is held is written down at most this often.
const REFRESH_NOTED: std::time::Duration = std::time::Duration::from_secs(3600);

impl NetworkStore {
    /// Reads the file if it changed, and verifies what is new in it.
    fn follow_file(&self, read: &mut Option<Known>) -> Result<Arc<Networks>, StoreError> {
        let entries = self.ledger.entries()?;
        if let Some(known) = read.as_ref().filter(|k| Arc::ptr_eq(&k.entries, &entries)) {
            return Ok(Arc::clone(&known.networks));
        }
        if entries.is_empty() && self.is_missing() {
            return Err(StoreError::Missing { path: self.path() });
        }
        let before = read.as_ref().map(|known| &*known.networks);
        let networks = Arc::new(self.verify(&entries, before)?);
        *read = Some(Known {
            entries,
            networks: Arc::clone(&networks),
        });
        Ok(networks)
    }

    fn verify(
        &self,
        entries: &[NetworkRecord],
        before: Option<&Networks>,
    ) -> Result<Networks, StoreError> {
        let damaged = |cause: String| StoreError::Damaged {
            path: self.path(),
            cause,
        };
        if entries.len() > MAX_NETWORKS {
            let found = entries.len();
            return Err(damaged(format!("{found} networks, at most {MAX_NETWORKS}")));
        }
        let mut authorities: Vec<Authority> = Vec::new();
        for record in entries {
            let twice = |a: &Authority| a.label == record.label || a.id() == record.network;
            if authorities.iter().any(twice) {
                return Err(damaged(format!("{} is there twice", record.label)));
            }
            let authority = check_label(&record.label)
                .and_then(|()| check_membership(&record.membership))
                .and_then(|()| authority(record, before))
                .map_err(|error| damaged(error.to_string()))?;
            authorities.push(authority);
        }
        Ok(Networks::new(authorities))
    }

    /// Whether there was a file, and is none.
    fn is_missing(&self) -> bool {
        let home = self.ledger.home();
        let there = |file| match home.disk().lstat(&home.path(file)) {
            Ok(_) => true,
            // Whatever cannot be told counts as yes.
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        };
        !there(HomeFile::Networks) && there(HomeFile::NetworksPresent)
    }

    /// Remembers that there is a file. If this fails, the next change tries again.
    pub(crate) fn mark(&self) {
        let home = self.ledger.home();
        let there = |file| home.disk().lstat(&home.path(file)).is_ok();
        if there(HomeFile::NetworksPresent) || !there(HomeFile::Networks) {
            return;
        }
        let text = b"Without this file, a missing networks would be taken for a new one.\n";
        let marked = home
            .lock()
            .and_then(|lock| home.replace(&lock, HomeFile::NetworksPresent, text));
        if let Err(error) = marked {
            tracing::debug!(%error, "could not mark that networks exists");
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.ledger.home().path(HomeFile::Networks)
    }

    fn read(&self) -> MutexGuard<'_, Option<Known>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What decisions read of one record. A bundle that was verified before is not verified again.
fn authority(record: &NetworkRecord, before: Option<&Networks>) -> Result<Authority, NetworkError> {
    let known = before.and_then(|networks| networks.get(&record.network));
    let bundle = match known.filter(|known| known.bundle.bytes() == record.bundle) {
        Some(known) => Arc::clone(&known.bundle),
        None => Arc::new(verified(&record.network, &record.bundle)?),
    };
    Ok(Authority {
        label: record.label.clone(),
        standing: record.standing,
        bundle,
        withdrawn: Arc::new(record.withdrawn.clone()),
        forked: record.forked,
    })
}

/// Takes a bundle that holds by itself, if it follows the one that is held.
fn take(
    record: &mut NetworkRecord,
    held: &Bundle,
    offered: &Bundle,
    now: UnixTime,
) -> Result<Updated, NetworkError> {
    let network = record.network;
    let follows = Bundle::follow(held, offered);
    if let Some(since) = record.forked
        && !(follows == Ok(Follow::Newer) && heals(record, held, offered))
    {
        remember(record, held, offered);
        return Err(NetworkError::Frozen { network, since });
    }
    match follows {
        Ok(Follow::Same) => {
            record.refreshed = now;
            Ok(Updated::Same)
        }
        Ok(Follow::Newer) => {
            replace(record, held, offered, now)?;
            Ok(Updated::Newer)
        }
        Err(FollowError::Fork(fork)) => {
            tracing::warn!(network = %network.to_hex(), %fork, "two bundles contradict each other");
            record.forked = Some(now);
            record.rival = matches!(fork, Fork::Bundle { .. }).then(|| offered.signer());
            remember(record, held, offered);
            let since = now;
            Err(NetworkError::Frozen { network, since })
        }
        Err(error) => {
            remember(record, held, offered);
            let error = Box::new(error);
            Err(NetworkError::Follow { network, error })
        }
    }
}

/// Whether a charter, which only a root can sign, says that one of the two keys that contradicted
/// each other is not the authority's. Whichever it is, the other one never did.
fn heals(record: &NetworkRecord, held: &Bundle, offered: &Bundle) -> bool {
    let Some(rival) = record.rival else {
        return false;
    };
    let is_revoked = |key: KeyHash| offered.key_state(&key) == Some(KeyState::Revoked);
    is_revoked(rival) || is_revoked(held.signer())
}

/// Holds another bundle from now on.
fn replace(
    record: &mut NetworkRecord,
    held: &Bundle,
    by: &Bundle,
    now: UnixTime,
) -> Result<(), NetworkError> {
    let withdrawn = record.withdrawn.succeeded(held, by).map_err(|fault| {
        let error = Box::new(FollowError::Limit(fault));
        let network = record.network;
        NetworkError::Follow { network, error }
    })?;
    record.withdrawn = withdrawn;
    record.bundle = by.bytes().to_vec();
    record.forked = None;
    record.rival = None;
    record.refreshed = now;
    Ok(())
}

/// What `bytes` say, if they are a bundle of this network.
fn verified(network: &NodeId, bytes: &[u8]) -> Result<Bundle, NetworkError> {
    let fault = |error| NetworkError::Bundle {
        network: *network,
        error: Box::new(error),
    };
    Bundle::parse_of(network, bytes).map_err(fault)
}

/// Keeps what a bundle withdraws that is not held, if its signer may speak for the authority today,
/// and as far as there is room: to know a withdrawal is never wrong. Who was kept from a newer bundle
/// and gets an older one afterwards learns from both.
fn remember(record: &mut NetworkRecord, held: &Bundle, offered: &Bundle) {
    let signer = offered.signer();
    if offered.network() != held.network() || held.key_state(&signer) != Some(KeyState::Active) {
        return;
    }
    let known = |w: &&Withdrawal| signer == held.signer() && held.withdrawn().contains(w);
    let news = offered.withdrawn().iter().filter(|w| !known(w));
    if let Err(fault) = record.withdrawn.extend(signer, news) {
        let network = record.network.to_hex();
        tracing::warn!(network, %fault, "more was withdrawn than is remembered");
    }
}

fn find_mut<'a>(
    all: &'a mut [NetworkRecord],
    network: &NodeId,
) -> Result<&'a mut NetworkRecord, NetworkError> {
    all.iter_mut()
        .find(|record| record.network == *network)
        .ok_or(NetworkError::Unknown(*network))
}

fn check_label(label: &str) -> Result<(), NetworkError> {
    if comity_certs::is_label(label) {
        return Ok(());
    }
    Err(NetworkError::Label(harmless(label, 64)))
}

fn check_free(all: &[NetworkRecord], label: &str) -> Result<(), NetworkError> {
    match all.iter().find(|record| record.label == label) {
        None => Ok(()),
        Some(record) => Err(NetworkError::LabelTaken {
            label: label.to_owned(),
            network: record.network,
        }),
    }
}

fn check_membership(membership: &[Vec<u8>]) -> Result<(), NetworkError> {
    let largest = membership.iter().map(Vec::len).max().unwrap_or(0);
    for (what, found, limit) in [
        ("certificates", membership.len(), MAX_MEMBERSHIP),
        ("bytes", largest, MAX_MEMBERSHIP_DER),
    ] {
        if found > limit {
            return Err(NetworkError::Membership { what, found, limit });
        }
    }
    Ok(())
}

mod standing {
    //! A standing as a word.

    use super::{Deserialize, Standing};
    use serde::{Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(standing: &Standing, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(standing.token())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Standing, D::Error> {
        let text = String::deserialize(from)?;
        [Standing::Recognised, Standing::Followed]
            .into_iter()
            .find(|standing| standing.token() == text)
            .ok_or_else(|| de::Error::unknown_variant(&text, &["recognised", "followed"]))
    }
}

mod base64 {
    //! Bytes as text (RFC 4648 section 4).

    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        BASE64.decode(text.as_bytes()).map_err(de::Error::custom)
    }
}

mod base64_list {
    //! Several of them.

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Item(#[serde(with = "super::base64")] Vec<u8>);

    pub(super) fn serialize<S: Serializer>(list: &[Vec<u8>], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|bytes| Item(bytes.clone())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Vec<u8>>, D::Error> {
        let items = Vec::<Item>::deserialize(from)?;
        Ok(items.into_iter().map(|item| item.0).collect())
    }
}

mod optional {
    //! Something that has a text form, or nothing.

    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.collect_str(value),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(de::Error::custom))
            .transpose()
    }
}

mod optional_key {
    //! A key's hash as hexadecimal digits, or nothing.

    use comity_identity::KeyHash;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        key: &Option<KeyHash>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match key {
            Some(key) => to.serialize_str(&key.to_hex()),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<KeyHash>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| super::withdrawals::hash(&text).ok_or(super::withdrawals::EXPECTED))
            .transpose()
            .map_err(de::Error::custom)
    }
}

mod withdrawals {
    //! For each signer, as the hexadecimal digits of its hash, what it withdrew as
    //! `key:<hex>@<time>` and `certificate:<issuer key in hex>:<serial in hex>@<time>`.

    use std::collections::BTreeMap;

    use comity_identity::{KeyHash, UnixTime};
    use comity_record::{Withdrawal, Withdrawn, WithdrawnWhat};
    use data_encoding::HEXLOWER;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) const EXPECTED: &str = "expected the hash of a key";

    pub(super) fn serialize<S: Serializer>(all: &Withdrawn, to: S) -> Result<S::Ok, S::Error> {
        let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (signer, withdrawal) in all.iter() {
            let said = texts.entry(signer.to_hex()).or_default();
            said.push(text(&withdrawal));
        }
        to.collect_map(texts)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Withdrawn, D::Error> {
        let mut all = Withdrawn::new();
        for (signer, texts) in BTreeMap::<String, Vec<String>>::deserialize(from)? {
            let signer = hash(&signer).ok_or_else(|| de::Error::custom(EXPECTED))?;
            let read = |text: &String| {
                parse(text).ok_or_else(|| de::Error::custom("expected what was withdrawn"))
            };
            let said: Vec<Withdrawal> = texts.iter().map(read).collect::<Result<_, _>>()?;
            all.extend(signer, &said).map_err(de::Error::custom)?;
        }
        Ok(all)
    }

    fn text(withdrawal: &Withdrawal) -> String {
        let at = withdrawal.at;
        match &withdrawal.what {
            WithdrawnWhat::Key(key) => format!("key:{}@{at}", key.to_hex()),
            WithdrawnWhat::Certificate { issuer, serial } => {
                let serial = HEXLOWER.encode(serial);
                format!("certificate:{}:{serial}@{at}", issuer.to_hex())
            }
        }
    }

    fn parse(text: &str) -> Option<Withdrawal> {
        let (what, at) = text.split_once('@')?;
        let at: UnixTime = at.parse().ok()?;
        let what = match what.split_once(':')? {
            ("key", key) => WithdrawnWhat::Key(hash(key)?),
            ("certificate", rest) => {
                let (issuer, serial) = rest.split_once(':')?;
                let issuer = hash(issuer)?;
                let serial = HEXLOWER.decode(serial.as_bytes()).ok()?;
                WithdrawnWhat::Certificate { issuer, serial }
            }
            _ => return None,
        };
        Some(Withdrawal { what, at })
    }

    pub(super) fn hash(text: &str) -> Option<KeyHash> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok()?;
        Some(KeyHash::from_bytes(bytes.try_into().ok()?))
    }
}
