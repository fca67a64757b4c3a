//! Bundles: what an authority publishes about itself.
//!
//! 1. A reader knows the id of the network, the hash of the founding root's key. The bundle brings
//!    the charters from the founding one on, so that the reader walks from that key to those of
//!    today however long it was away.
//! 2. It is signed by a key that is active in the last of its charters: an issuing key can publish
//!    withdrawals every day while the roots lie in a safe.
//! 3. It ends soon. Who is kept from newer ones knows after at most 90 days that it knows nothing.
//!
//! A stolen issuing key can publish bundles until a charter revokes it. It cannot add a key, bring
//! one back, or take a withdrawal back, and what it withdraws counts until then: see [`Bundle::follow`]
//! and [`Withdrawn::succeeded`](crate::Withdrawn::succeeded).

use std::time::Duration;

use comity_certs::{Anchor, CLOCK_TOLERANCE};
use comity_identity::{KeyHash, NodeId, Signer, UnixTime, VerifyError, verify};
use minicbor::Decoder;
use thiserror::Error;

use crate::cbor::{self, FormatError, MapWriter};
use crate::charter::{AuthorityKey, Charter, CharterError, KeyState, SuccessorFault};
use crate::envelope::{SigningError, check_sequence, needed, read_envelope, read_time};
use crate::limits::{
    MAX_BUNDLE_BYTES, MAX_BUNDLE_LIFETIME, MAX_CHARTERS, MAX_LOCATIONS, MAX_WITHDRAWALS,
    MIN_REFRESH,
};
use crate::location::Location;
use crate::withdrawal::{self, Withdrawal, WithdrawnWhat};

const DOMAIN: &str = "comity bundle v1";

const VERSION: u8 = 1;

/// What an authority published at one time. Holding one means that everything in it was signed by
/// whom it must be, from the founding root on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    content: Content,
    charters: Vec<Charter>,
    bytes: Vec<u8>,
    digest: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    network: NodeId,
    name: String,
    sequence: u64,
    issued: UnixTime,
    expires: UnixTime,
    refresh: Duration,
    locations: Vec<Location>,
    withdrawn: Vec<Withdrawal>,
    signer: KeyHash,
}

/// What a bundle says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleRequest {
    /// What the network is called: a label as in metadata, not its identity.
    pub name: String,
    /// At least 1, and larger in every later bundle.
    pub sequence: u64,
    /// When it is made.
    pub issued: UnixTime,
    /// The last second at which it recognises new members, at most
    /// [`MAX_BUNDLE_LIFETIME`] later.
    pub expires: UnixTime,
    /// How often readers should look for a newer one, at least [`MIN_REFRESH`] and at most its
    /// life; whole seconds.
    pub refresh: Duration,
    /// Where it can be fetched, best first.
    pub locations: Vec<Location>,
    /// The charters from the founding one on, as [`Charter::append`] keeps them; never empty.
    pub charters: Vec<Charter>,
    /// What was withdrawn, in any order; of two for one thing the earlier is kept.
    pub withdrawn: Vec<Withdrawal>,
}

/// How fresh a bundle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Freshness {
    /// In the first half of its life.
    Fresh,
    /// In the second half: somebody should look why it was not replaced.
    PastHalf,
    /// Over: it recognises no new member. Its withdrawals go on.
    Expired,
    /// Made in the future by more than [`CLOCK_TOLERANCE`]: it recognises no new member. Otherwise
    /// a thief could make one that is good for years.
    NotYetValid,
}

/// Why a bundle was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BundleError {
    /// It cannot be read.
    #[error("the bundle is refused: {0}")]
    Format(#[from] FormatError),
    /// A version that this code does not speak.
    #[error("the bundle has version {found}, and {VERSION} is accepted")]
    Version {
        /// Its version.
        found: u8,
    },
    /// It is of another network than was asked for.
    #[error("the bundle is of the network {}, not {}", found.short(), expected.short())]
    WrongNetwork {
        /// Which one was asked for.
        expected: NodeId,
        /// Whose it is.
        found: NodeId,
    },
    /// It ends before it begins, or lives too long.
    #[error("the bundle is from {issued} to {expires}")]
    Lifetime {
        /// When it was made.
        issued: UnixTime,
        /// When it ends.
        expires: UnixTime,
    },
    /// It asks to be fetched too often, or more seldom than it lives.
    #[error("the bundle asks to be fetched every {} seconds", refresh.as_secs())]
    Refresh {
        /// What it asks for.
        refresh: Duration,
    },
    /// One of the charters does not hold by itself.
    #[error("charter {} of the bundle: {cause}", index + 1)]
    Charter {
        /// Its place.
        index: usize,
        /// What is wrong with it.
        cause: CharterError,
    },
    /// A charter does not follow the one before, or the first does not begin at the founding root.
    #[error("charter {} of the bundle does not follow: {fault}", index + 1)]
    History {
        /// Its place.
        index: usize,
        /// What does not fit.
        fault: SuccessorFault,
    },
    /// Its signer is not an active key of its last charter.
    #[error("the key {} that signed the bundle is not an active one", signer.short())]
    NotEntitled {
        /// That key.
        signer: KeyHash,
    },
    /// The signature does not hold.
    #[error("the bundle is not signed by the key {}: {cause}", signer.short())]
    Signature {
        /// The key that should have made it.
        signer: KeyHash,
        /// What is wrong with it.
        cause: VerifyError,
    },
}

impl BundleError {
    /// Whether a limit was exceeded, rather than a rule broken.
    pub fn is_limit(&self) -> bool {
        match self {
            Self::Format(fault) => fault.is_limit(),
            Self::Charter { cause, .. } => {
                matches!(cause, CharterError::Format(fault) if fault.is_limit())
            }
            _ => false,
        }
    }
}

impl BundleRequest {
    /// Makes the bundle.
    ///
    /// # Errors
    /// When the signer fails, or the request would be refused by a reader.
    pub fn sign(&self, signer: &dyn Signer) -> Result<Bundle, SigningError<BundleError>> {
        let payload = self
            .payload(&KeyHash::of_spki(signer.spki()))
            .map_err(|fault| SigningError::Refused(fault.into()))?;
        let signature = signer.sign(&cbor::message(DOMAIN, &payload))?;
        let bytes = cbor::write(|e| e.array(2)?.bytes(&payload)?.bytes(&signature));
        Bundle::parse(&bytes).map_err(SigningError::Refused)
    }

    fn payload(&self, signer: &KeyHash) -> Result<Vec<u8>, FormatError> {
        let network = self.charters.first().map(Charter::network);
        let network = network.ok_or(FormatError::Missing { key: 9 })?;
        let mut withdrawn: Vec<&Withdrawal> = self.withdrawn.iter().collect();
        withdrawn.sort_by(|a, b| (&a.what, a.at).cmp(&(&b.what, b.at)));
        withdrawn.dedup_by(|a, b| a.what == b.what);
        let mut map = MapWriter::new();
        map.field(1, |e| e.u8(VERSION));
        map.field(2, |e| e.bytes(network.as_bytes()));
        map.field(3, |e| e.str(&self.name));
        map.field(4, |e| e.u64(self.sequence));
        map.field(5, |e| e.u64(self.issued.as_secs()));
        map.field(6, |e| e.u64(self.expires.as_secs()));
        map.field(7, |e| e.u64(self.refresh.as_secs()));
        map.field(8, |e| {
            e.array(self.locations.len() as u64)?;
            for location in &self.locations {
                e.str(&location.to_string())?;
            }
            Ok(e)
        });
        map.field(9, |e| {
            e.array(self.charters.len() as u64)?;
            for charter in &self.charters {
                e.bytes(charter.bytes())?;
            }
            Ok(e)
        });
        map.field(10, |e| {
            e.array(withdrawn.len() as u64)?;
            for entry in &withdrawn {
                withdrawal::write(e, entry)?;
            }
            Ok(e)
        });
        map.field(11, |e| e.bytes(signer.as_bytes()));
        Ok(map.finish())
    }
}

impl Bundle {
    /// Reads a bundle of whatever network, and verifies everything in it from that network's founding
    /// root on. Dates are not judged: [`Bundle::standing`].
    ///
    /// # Errors
    /// When it is past a limit, not in its one form, or not signed by whom it must be.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        Self::read(bytes, None)
    }

    /// The same for one network: the bundle of another costs no signature.
    ///
    /// # Errors
    /// As [`Bundle::parse`], and when it is of another network.
    pub fn parse_of(network: &NodeId, bytes: &[u8]) -> Result<Self, BundleError> {
        Self::read(bytes, Some(network))
    }

    fn read(bytes: &[u8], expected: Option<&NodeId>) -> Result<Self, BundleError> {
        cbor::within("bytes", bytes.len(), MAX_BUNDLE_BYTES)?;
        let (payload, [signature]) = read_envelope(bytes)?;
        let (content, charters) = read_content(payload)?;
        if let Some(expected) = expected.filter(|id| **id != content.network) {
            return Err(BundleError::WrongNetwork {
                expected: *expected,
                found: content.network,
            });
        }
        content.check()?;
        let charters = walk(&content.network, &charters)?;
        let message = cbor::message(DOMAIN, payload);
        let bundle = Self {
            content,
            charters,
            bytes: bytes.to_vec(),
            digest: cbor::digest(&message),
        };
        bundle.check_signature(&message, signature)?;
        Ok(bundle)
    }

    /// The hash of the founding root's key: the identity of the network.
    pub fn network(&self) -> NodeId {
        self.content.network
    }

    /// What the network is called.
    pub fn name(&self) -> &str {
        &self.content.name
    }

    /// Larger in every later bundle.
    pub fn sequence(&self) -> u64 {
        self.content.sequence
    }

    /// When it was made, as its maker says.
    pub fn issued(&self) -> UnixTime {
        self.content.issued
    }

    /// The last second at which it recognises new members.
    pub fn expires(&self) -> UnixTime {
        self.content.expires
    }

    /// How often to look for a newer one.
    pub fn refresh(&self) -> Duration {
        self.content.refresh
    }

    /// Where it can be fetched, best first.
    pub fn locations(&self) -> &[Location] {
        &self.content.locations
    }

    /// The charters from the founding one on; never empty.
    pub fn charters(&self) -> &[Charter] {
        &self.charters
    }

    /// The charter that counts.
    pub fn charter(&self) -> &Charter {
        self.charters.last().expect("a bundle has a charter")
    }

    /// What was withdrawn, in the order of [`WithdrawnWhat`].
    pub fn withdrawn(&self) -> &[Withdrawal] {
        &self.content.withdrawn
    }

    /// The key that signed it.
    pub fn signer(&self) -> KeyHash {
        self.content.signer
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of what was signed.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The certificates of the keys that count at the time `now`, for verifying paths.
    pub fn anchors(&self, now: UnixTime) -> impl Iterator<Item = &Anchor> {
        let keys = self.charter().keys().iter();
        keys.filter(move |key| key.state.counts(now))
            .map(|key| key.certificate.as_ref())
    }

    /// The key with this hash, whatever its state.
    pub fn key(&self, key: &KeyHash) -> Option<&AuthorityKey> {
        self.charter().key(key)
    }

    /// The state of the key with this hash.
    pub fn key_state(&self, key: &KeyHash) -> Option<KeyState> {
        self.key(key).map(|key| key.state)
    }

    /// Whether this bundle withdraws a certificate, or any for its key. Earlier bundles may have
    /// withdrawn more: [`Withdrawn`](crate::Withdrawn) remembers all of them.
    pub fn is_withdrawn(&self, issuer: &KeyHash, serial: &[u8], key: &KeyHash) -> bool {
        self.lists(|what| match what {
            WithdrawnWhat::Certificate {
                issuer: i,
                serial: s,
            } => (i, s.as_slice()).cmp(&(issuer, serial)),
            WithdrawnWhat::Key(_) => std::cmp::Ordering::Greater,
        }) || self.lists(|what| match what {
            WithdrawnWhat::Certificate { .. } => std::cmp::Ordering::Less,
            WithdrawnWhat::Key(k) => k.cmp(key),
        })
    }

    /// How fresh it is.
    pub fn standing(&self, now: UnixTime) -> Freshness {
        let (issued, expires) = (self.issued(), self.expires());
        if now > expires {
            Freshness::Expired
        } else if issued > now + CLOCK_TOLERANCE {
            Freshness::NotYetValid
        } else if issued.until(now) >= issued.until(expires) / 2 {
            Freshness::PastHalf
        } else {
            Freshness::Fresh
        }
    }

    /// Whether exactly this is in its list.
    pub(crate) fn withdraws(&self, what: &WithdrawnWhat) -> bool {
        self.lists(|listed| listed.cmp(what))
    }

    fn lists(&self, order: impl Fn(&WithdrawnWhat) -> std::cmp::Ordering) -> bool {
        let withdrawn = &self.content.withdrawn;
        withdrawn.binary_search_by(|w| order(&w.what)).is_ok()
    }

    fn check_signature(&self, message: &[u8], signature: &[u8]) -> Result<(), BundleError> {
        let signer = self.signer();
        let key = self
            .key(&signer)
            .filter(|key| key.state == KeyState::Active)
            .ok_or(BundleError::NotEntitled { signer })?;
        verify(key.details().spki(), message, signature)
            .map_err(|cause| BundleError::Signature { signer, cause })
    }
}

impl Freshness {
    /// Whether a bundle this fresh recognises members that were not recognised before.
    pub fn recognises(self) -> bool {
        matches!(self, Self::Fresh | Self::PastHalf)
    }
}

impl Content {
    fn check(&self) -> Result<(), BundleError> {
        let (issued, expires, refresh) = (self.issued, self.expires, self.refresh);
        let life = issued.until(expires);
        if issued >= expires || life > MAX_BUNDLE_LIFETIME {
            return Err(BundleError::Lifetime { issued, expires });
        }
        match (MIN_REFRESH..=life).contains(&refresh) {
            true => Ok(()),
            false => Err(BundleError::Refresh { refresh }),
        }
    }
}

/// From the founding root to the keys of today.
fn walk(network: &NodeId, encoded: &[&[u8]]) -> Result<Vec<Charter>, BundleError> {
    let mut charters: Vec<Charter> = Vec::with_capacity(encoded.len());
    for (index, bytes) in encoded.iter().enumerate() {
        let charter =
            Charter::parse(bytes).map_err(|cause| BundleError::Charter { index, cause })?;
        let step = match charters.last() {
            None if charter.network() != *network => Err(SuccessorFault::Network),
            None => charter.check_founding(),
            Some(before) => charter.check_follows(before),
        };
        step.map_err(|fault| BundleError::History { index, fault })?;
        charters.push(charter);
    }
    Ok(charters)
}

fn read_content(payload: &[u8]) -> Result<(Content, Vec<&[u8]>), BundleError> {
    let (mut version, mut network, mut name, mut sequence) = (None, None, None, None);
    let (mut issued, mut expires, mut refresh) = (None, None, None);
    let (mut locations, mut charters, mut withdrawn, mut signer) = (None, None, None, None);
    cbor::read_map(payload, |key, d| {
        match key {
            1 => version = Some(d.u8()?),
            2 => network = Some(NodeId::from_bytes(cbor::hash(d, key)?)),
            3 => name = Some(read_name(d, key)?),
            4 => sequence = Some(d.u64()?),
            5 => issued = Some(read_time(d, key)?),
            6 => expires = Some(read_time(d, key)?),
            7 => refresh = Some(Duration::from_secs(d.u64()?)),
            8 => locations = Some(read_locations(d, key)?),
            9 => charters = Some(read_charters(d, key)?),
            10 => withdrawn = Some(read_withdrawn(d, key)?),
            11 => signer = Some(KeyHash::from_bytes(cbor::hash(d, key)?)),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    match needed(version, 1)? {
        VERSION => {}
        found => return Err(BundleError::Version { found }),
    }
    let (sequence, issued) = (needed(sequence, 4)?, needed(issued, 5)?);
    check_sequence(sequence, issued, 4)?;
    let content = Content {
        network: needed(network, 2)?,
        name: needed(name, 3)?,
        sequence,
        issued,
        expires: needed(expires, 6)?,
        refresh: needed(refresh, 7)?,
        locations: needed(locations, 8)?,
        withdrawn: needed(withdrawn, 10)?,
        signer: needed(signer, 11)?,
    };
    Ok((content, needed(charters, 9)?))
}

fn read_name(d: &mut Decoder<'_>, key: u64) -> Result<String, FormatError> {
    let name = d.str()?;
    match comity_certs::is_label(name) {
        true => Ok(name.to_owned()),
        false => Err(FormatError::Value { key }),
    }
}

fn read_locations(d: &mut Decoder<'_>, key: u64) -> Result<Vec<Location>, FormatError> {
    let count = cbor::array(d, "locations", MAX_LOCATIONS)?;
    let mut locations: Vec<Location> = Vec::with_capacity(count);
    for _ in 0..count {
        let text = d.str()?;
        let location: Location = text.parse().map_err(|_| FormatError::Value { key })?;
        // One place has one spelling, and is there once.
        if location.to_string() != text || locations.contains(&location) {
            return Err(FormatError::Value { key });
        }
        locations.push(location);
    }
    Ok(locations)
}

fn read_charters<'b>(d: &mut Decoder<'b>, key: u64) -> Result<Vec<&'b [u8]>, FormatError> {
    let count = cbor::array(d, "charters", MAX_CHARTERS)?;
    if count == 0 {
        return Err(FormatError::Value { key });
    }
    (0..count).map(|_| Ok(d.bytes()?)).collect()
}

fn read_withdrawn(d: &mut Decoder<'_>, key: u64) -> Result<Vec<Withdrawal>, FormatError> {
    let count = cbor::array(d, "withdrawals", MAX_WITHDRAWALS)?;
    let mut withdrawn: Vec<Withdrawal> = Vec::new();
    for _ in 0..count {
        let withdrawal = withdrawal::read(d, key)?;
        if withdrawn.last().is_some_and(|w| w.what >= withdrawal.what) {
            return Err(FormatError::NotDeterministic);
        }
        withdrawn.push(withdrawal);
    }
    Ok(withdrawn)
}
