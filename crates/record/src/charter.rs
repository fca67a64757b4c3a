//! Charters: an authority's keys, and what each of them is for.
//!
//! 1. The first charter is signed by the founding root, whose hash is the id of the network. Nobody
//!    else can begin a history.
//! 2. Every other one is signed by a root that is *active* in the one before. A root that is
//!    retiring signs no charters although its certificates still count: whoever finds an old root
//!    key takes over no reader that has seen the retirement. Who has not cannot tell the thief's
//!    charter from the genuine one.
//! 3. Every key in it, in whatever state, comes with a request of its holder to be a key of this
//!    network: an authority that lists the key of somebody else could otherwise declare it revoked,
//!    and be believed where that key's own network is not known.
//! 4. The state of a key never goes back, nor is the end of its overlap put off. A revoked key stays
//!    in every later charter, any other one until its certificate is over: it cannot leave and come
//!    back as if nothing had been.
//! 5. Charters that change no root may be left out of a history. That is why each step is judged
//!    between the two charters that are there, and why a charter does not name the one before.

use std::sync::Arc;

use comity_certs::{
    Anchor, AnchorError, AuthorityCertificate, AuthorityFault, AuthorityKind, Csr, Metadata,
    MintError, mint_csr, read_csr,
};
use comity_identity::{KeyHash, NodeId, Signer, UnixTime, VerifyError, verify};
use minicbor::Decoder;
use thiserror::Error;

use crate::cbor::{self, FormatError, MapWriter};
use crate::envelope::{SigningError, check_sequence, needed, read_time};
use crate::limits::{MAX_CHARTER_BYTES, MAX_CHARTER_KEYS, MAX_CHARTER_SIGNATURES, MAX_CHARTERS};

const DOMAIN: &str = "comity charter v1";

const VERSION: u8 = 1;

/// What a key of an authority may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyRole {
    /// Sign charters, issuing keys, and anything else.
    Root,
    /// Sign cross-certificates, leaves and bundles.
    Issuing,
}

/// Where a key is in its life. States follow each other in this order and never go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyState {
    /// Announced: certificates by it count already, so that readers know it before it is used.
    Next,
    /// In use.
    Active,
    /// Not used any more; certificates by it count until then, and for ever not as a signer of
    /// charters and bundles.
    Retiring {
        /// The last second at which certificates by it count.
        until: UnixTime,
    },
    /// Nothing by it counts.
    Revoked,
}

/// One key of an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityKey {
    /// What it may do.
    pub role: KeyRole,
    /// Where it is in its life.
    pub state: KeyState,
    /// Its certificate, as a trust anchor.
    pub certificate: Arc<Anchor>,
    proof: Arc<[u8]>,
    details: Arc<AuthorityCertificate>,
}

/// An authority's keys at one time.
///
/// Holding one means that its signatures hold, that every certificate in it is of the profile and,
/// unless revoked, signed by a root in it, and that one root is active. Whether its signers were
/// entitled is seen beside the charter before: [`Charter::check_founding`] and
/// [`Charter::check_follows`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charter {
    network: NodeId,
    sequence: u64,
    issued: UnixTime,
    keys: Vec<AuthorityKey>,
    signers: Vec<KeyHash>,
    bytes: Vec<u8>,
    digest: [u8; 32],
}

/// What a charter says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharterRequest {
    /// The hash of the founding root's key.
    pub network: NodeId,
    /// At least 1, and larger in every later charter.
    pub sequence: u64,
    /// When it is made.
    pub issued: UnixTime,
    /// The keys, in any order, each once.
    pub keys: Vec<CharterKey>,
}

/// One key in a [`CharterRequest`]; its role is in the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CharterKey {
    /// Where it is in its life.
    pub state: KeyState,
    /// Its certificate as DER, as [`comity_certs::mint_authority_root`] or
    /// [`comity_certs::mint_issuing`] makes it.
    pub certificate: Vec<u8>,
    /// That whoever holds the key wants it to be one of this network, as [`CharterKey::proof`] makes
    /// it.
    pub proof: Vec<u8>,
}

impl CharterKey {
    /// A request, signed by the key, to be one of a network: PKCS#10 as DER, whose subject is the id
    /// of the network in hexadecimal digits as its only common name. Other software can make it too.
    ///
    /// # Errors
    /// When the signer fails.
    pub fn proof(signer: &dyn Signer, network: &NodeId) -> Result<Vec<u8>, MintError> {
        mint_csr(signer, &network.to_hex())
    }
}

/// Why a charter was refused by itself.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CharterError {
    /// It cannot be read.
    #[error("it is refused: {0}")]
    Format(#[from] FormatError),
    /// A version that this code does not speak.
    #[error("it has version {found}, and {VERSION} is accepted")]
    Version {
        /// Its version.
        found: u8,
    },
    /// A certificate is not one of an authority.
    #[error("certificate {} of it: {cause}", index + 1)]
    Certificate {
        /// Its place.
        index: usize,
        /// What is wrong with it.
        cause: AuthorityFault,
    },
    /// A certificate cannot be a trust anchor.
    #[error("certificate {} of it: {cause}", index + 1)]
    Anchor {
        /// Its place.
        index: usize,
        /// What is wrong with it.
        cause: AnchorError,
    },
    /// A certificate is not for the role that its key is said to have.
    #[error("certificate {} of it is not one of this role", index + 1)]
    Role {
        /// Its place.
        index: usize,
    },
    /// There is no request of a key's holder to be one of this network.
    #[error(
        "the key {} comes without a request of its own with the common name {}",
        key.short(),
        network.to_hex()
    )]
    Possession {
        /// That key.
        key: KeyHash,
        /// The network.
        network: NodeId,
    },
    /// The root that issued an issuing key is not in the charter, or revoked.
    #[error("the root {issuer} of the issuing key {} is not in it, or revoked", key.short(), issuer = issuer.short())]
    IssuerAbsent {
        /// The issuing key.
        key: KeyHash,
        /// The root that its certificate names.
        issuer: KeyHash,
    },
    /// No root is active: nobody could ever sign another charter.
    #[error("no root in it is active")]
    NoActiveRoot,
    /// Nobody signed it.
    #[error("nobody signed it")]
    Unsigned,
    /// One of its signatures does not hold.
    #[error("the signature of {} does not hold: {cause}", signer.short())]
    Signature {
        /// The key that should have made it.
        signer: KeyHash,
        /// What is wrong with it.
        cause: VerifyError,
    },
}

/// Why a charter does not follow another, or does not begin a history.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SuccessorFault {
    /// It is of another network.
    #[error("it is of another network")]
    Network,
    /// Its sequence is not larger.
    #[error("its sequence {sequence} does not follow {before}")]
    Sequence {
        /// The sequence before.
        before: u64,
        /// Its own.
        sequence: u64,
    },
    /// The founding root is not an active root in the first charter, or did not sign it.
    #[error("the founding root did not found it")]
    NotFounded,
    /// No root that is active in the charter before signed it.
    #[error("no root that was active before signed it")]
    NotEntitled,
    /// A key has another role than before.
    #[error("the key {} changed its role", key.short())]
    RoleChanged {
        /// That key.
        key: KeyHash,
    },
    /// The state of a key went back.
    #[error("the state of the key {} went back", key.short())]
    StateWentBack {
        /// That key.
        key: KeyHash,
    },
    /// A key is not in it any more that is revoked, or whose certificate is not over when it is made.
    #[error("the key {} is missing in it", key.short())]
    KeyDropped {
        /// That key.
        key: KeyHash,
    },
    /// More charters than a bundle can carry, and none that could be left out.
    #[error("its history would have more than {MAX_CHARTERS} charters")]
    HistoryFull,
}

impl KeyState {
    /// Whether certificates by a key in this state count at the time `now`.
    pub fn counts(self, now: UnixTime) -> bool {
        match self {
            Self::Next | Self::Active => true,
            Self::Retiring { until } => now <= until,
            Self::Revoked => false,
        }
    }

    fn rank(self) -> u8 {
        match self {
            Self::Next => 0,
            Self::Active => 1,
            Self::Retiring { .. } => 2,
            Self::Revoked => 3,
        }
    }

    fn until(self) -> UnixTime {
        match self {
            Self::Retiring { until } => until,
            Self::Next | Self::Active | Self::Revoked => UnixTime::from_secs(0),
        }
    }
}

impl AuthorityKey {
    /// Hash of its SubjectPublicKeyInfo.
    pub fn key(&self) -> KeyHash {
        self.details.key()
    }

    /// What the profile says about its certificate.
    pub fn details(&self) -> &AuthorityCertificate {
        &self.details
    }

    /// The request of its holder to be a key of this network, as DER.
    pub fn proof(&self) -> &[u8] {
        &self.proof
    }

    /// The networks and roles to which an issuing key is limited; `None` for a root, and empty
    /// lists allow any.
    pub fn scope(&self) -> Option<&Metadata> {
        match self.details.kind() {
            AuthorityKind::Issuing { scope, .. } => Some(scope),
            AuthorityKind::Root | AuthorityKind::Rollover => None,
        }
    }

    fn is_active_root(&self) -> bool {
        self.role == KeyRole::Root && self.state == KeyState::Active
    }
}

impl CharterRequest {
    /// Makes the charter, signed by each of the signers in any order.
    ///
    /// # Errors
    /// When a signer fails, or the request would be refused by a reader.
    pub fn sign(&self, signers: &[&dyn Signer]) -> Result<Charter, SigningError<CharterError>> {
        let payload = self.payload().map_err(SigningError::Refused)?;
        let message = cbor::message(DOMAIN, &payload);
        let mut signatures = Vec::with_capacity(signers.len());
        for signer in signers {
            let key = KeyHash::of_spki(signer.spki());
            signatures.push((key, signer.spki(), signer.sign(&message)?));
        }
        signatures.sort_unstable();
        signatures.dedup_by_key(|(key, ..)| *key);
        let bytes = cbor::write(|e| {
            e.array(2)?
                .bytes(&payload)?
                .array(signatures.len() as u64)?;
            for (_, spki, signature) in &signatures {
                e.array(2)?.bytes(spki)?.bytes(signature)?;
            }
            Ok(e)
        });
        Charter::parse(&bytes).map_err(SigningError::Refused)
    }

    fn payload(&self) -> Result<Vec<u8>, CharterError> {
        let mut keys = Vec::with_capacity(self.keys.len());
        for (index, key) in self.keys.iter().enumerate() {
            let details = AuthorityCertificate::from_der(&key.certificate)
                .map_err(|cause| CharterError::Certificate { index, cause })?;
            let role = role_of(&details).ok_or(CharterError::Role { index })?;
            keys.push((details.key(), role, key));
        }
        keys.sort_unstable_by_key(|(hash, ..)| *hash);
        let mut map = MapWriter::new();
        map.field(1, |e| e.u8(VERSION));
        map.field(2, |e| e.bytes(self.network.as_bytes()));
        map.field(3, |e| e.u64(self.sequence));
        map.field(4, |e| e.u64(self.issued.as_secs()));
        map.field(5, |e| {
            e.array(keys.len() as u64)?;
            for (_, role, key) in &keys {
                let role = match role {
                    KeyRole::Root => 0,
                    KeyRole::Issuing => 1,
                };
                e.array(5)?.u8(role)?.u8(key.state.rank())?;
                e.u64(key.state.until().as_secs())?
                    .bytes(&key.certificate)?
                    .bytes(&key.proof)?;
            }
            Ok(e)
        });
        Ok(map.finish())
    }
}

impl Charter {
    /// Reads a charter and verifies its signatures and certificates.
    ///
    /// # Errors
    /// When it is not in its one form, past a limit, or a signature or certificate does not hold.
    pub fn parse(bytes: &[u8]) -> Result<Self, CharterError> {
        cbor::within("bytes", bytes.len(), MAX_CHARTER_BYTES)?;
        let (payload, signatures) = read_envelope(bytes)?;
        let mut version = None;
        let (mut network, mut sequence, mut issued, mut keys) = (None, None, None, None);
        cbor::read_map(payload, |key, d| {
            match key {
                1 => version = Some(d.u8()?),
                2 => network = Some(NodeId::from_bytes(cbor::hash(d, key)?)),
                3 => sequence = Some(d.u64()?),
                4 => issued = Some(read_time(d, key)?),
                5 => keys = Some(read_keys(d)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        match needed(version, 1)? {
            VERSION => {}
            found => return Err(CharterError::Version { found }),
        }
        let (sequence, issued) = (needed(sequence, 3)?, needed(issued, 4)?);
        check_sequence(sequence, issued, 3)?;
        // Before the certificates, which cost more.
        let message = cbor::message(DOMAIN, payload);
        let signers = check_signatures(&message, &signatures)?;
        let charter = Self {
            network: needed(network, 2)?,
            sequence,
            issued,
            keys: certified(needed(keys, 5)?)?,
            signers,
            bytes: bytes.to_vec(),
            digest: cbor::digest(&message),
        };
        charter.check()?;
        Ok(charter)
    }

    /// The hash of the founding root's key.
    pub fn network(&self) -> NodeId {
        self.network
    }

    /// Larger in every later charter.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When it was made, as its makers say.
    pub fn issued(&self) -> UnixTime {
        self.issued
    }

    /// The keys, in ascending order of their hashes.
    pub fn keys(&self) -> &[AuthorityKey] {
        &self.keys
    }

    /// The key with this hash.
    pub fn key(&self, key: &KeyHash) -> Option<&AuthorityKey> {
        let place = self.keys.binary_search_by_key(key, AuthorityKey::key);
        place.ok().map(|place| &self.keys[place])
    }

    /// The hashes of the keys that signed it, ascending.
    pub fn signers(&self) -> &[KeyHash] {
        &self.signers
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of what was signed.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Checks that it begins the history of its network: the founding root is active in it and
    /// signed it.
    ///
    /// # Errors
    /// When that is not so.
    pub fn check_founding(&self) -> Result<(), SuccessorFault> {
        let founder = self.network.key_hash();
        let is_active = self.key(&founder).is_some_and(AuthorityKey::is_active_root);
        if !is_active || !self.is_signed_by(&founder) {
            return Err(SuccessorFault::NotFounded);
        }
        Ok(())
    }

    /// Checks that it may follow `before`, directly or with others between that change no root.
    ///
    /// # Errors
    /// When it is of another network or no later, no entitled root signed it, a key changed its
    /// role or went back in its life, or one is missing that must be there.
    pub fn check_follows(&self, before: &Self) -> Result<(), SuccessorFault> {
        if self.network != before.network {
            return Err(SuccessorFault::Network);
        }
        if self.sequence <= before.sequence {
            return Err(SuccessorFault::Sequence {
                before: before.sequence,
                sequence: self.sequence,
            });
        }
        if !self.is_signed_by_active_root_of(before) {
            return Err(SuccessorFault::NotEntitled);
        }
        before.keys.iter().try_for_each(|key| self.check_state(key))
    }

    /// The history of a bundle after `charter` was added: the charter before it is left out where
    /// nobody needs it to follow the roots.
    ///
    /// # Errors
    /// When it may not follow, or the history would be too long.
    pub fn append(history: &[Self], charter: Self) -> Result<Vec<Self>, SuccessorFault> {
        let mut history = history.to_vec();
        match history.last() {
            None => charter.check_founding()?,
            Some(last) => charter.check_follows(last)?,
        }
        if let [.., before, last] = history.as_slice()
            && before.has_roots_of(last)
            && charter.check_follows(before).is_ok()
        {
            history.pop();
        }
        history.push(charter);
        match history.len() <= MAX_CHARTERS {
            true => Ok(history),
            false => Err(SuccessorFault::HistoryFull),
        }
    }

    /// Whether one of its signers is an active root of `before`.
    pub(crate) fn is_signed_by_active_root_of(&self, before: &Self) -> bool {
        self.signers
            .iter()
            .any(|signer| before.key(signer).is_some_and(AuthorityKey::is_active_root))
    }

    fn is_signed_by(&self, key: &KeyHash) -> bool {
        self.signers.binary_search(key).is_ok()
    }

    fn check_state(&self, before: &AuthorityKey) -> Result<(), SuccessorFault> {
        let key = before.key();
        let Some(now) = self.key(&key) else {
            let is_over = before.details.not_after() < self.issued;
            return match before.state != KeyState::Revoked && is_over {
                true => Ok(()),
                false => Err(SuccessorFault::KeyDropped { key }),
            };
        };
        if now.role != before.role {
            return Err(SuccessorFault::RoleChanged { key });
        }
        let (from, to) = (before.state, now.state);
        let is_put_off = from.rank() == to.rank() && to.until() > from.until();
        match to.rank() >= from.rank() && !is_put_off {
            true => Ok(()),
            false => Err(SuccessorFault::StateWentBack { key }),
        }
    }

    fn has_roots_of(&self, other: &Self) -> bool {
        fn roots(charter: &Charter) -> impl Iterator<Item = (KeyHash, KeyState)> {
            let roots = charter.keys.iter().filter(|k| k.role == KeyRole::Root);
            roots.map(|k| (k.key(), k.state))
        }
        roots(self).eq(roots(other))
    }

    fn check(&self) -> Result<(), CharterError> {
        if !self.keys.iter().any(AuthorityKey::is_active_root) {
            return Err(CharterError::NoActiveRoot);
        }
        for (index, key) in self.keys.iter().enumerate() {
            self.check_possession(key)?;
            // What is revoked needs nobody to vouch for it; its root may be gone.
            if key.role == KeyRole::Issuing && key.state != KeyState::Revoked {
                self.check_issuer(index, key)?;
            }
        }
        Ok(())
    }

    fn check_possession(&self, key: &AuthorityKey) -> Result<(), CharterError> {
        let subject = format!("CN={}", self.network.to_hex());
        // As DER: text would have many forms.
        let request = match key.proof.first() {
            Some(0x30) => read_csr(&key.proof).ok(),
            _ => None,
        };
        let is_own = |r: &Csr| r.spki == key.details.spki() && r.subject == subject;
        match request.is_some_and(|request| is_own(&request)) {
            true => Ok(()),
            false => Err(CharterError::Possession {
                key: key.key(),
                network: self.network,
            }),
        }
    }

    fn check_issuer(&self, index: usize, key: &AuthorityKey) -> Result<(), CharterError> {
        let issuer = key.details.issuer_key();
        let root = self
            .key(&issuer)
            .filter(|root| root.state != KeyState::Revoked)
            .ok_or(CharterError::IssuerAbsent {
                key: key.key(),
                issuer,
            })?;
        key.details
            .check_issued_by(&root.details)
            .map_err(|cause| CharterError::Certificate { index, cause })
    }
}

fn role_of(details: &AuthorityCertificate) -> Option<KeyRole> {
    match details.kind() {
        AuthorityKind::Root => Some(KeyRole::Root),
        AuthorityKind::Issuing { .. } => Some(KeyRole::Issuing),
        AuthorityKind::Rollover => None,
    }
}

/// A key as it is written.
struct Written<'b> {
    role: KeyRole,
    state: KeyState,
    certificate: &'b [u8],
    proof: &'b [u8],
}

fn read_keys<'b>(d: &mut Decoder<'b>) -> Result<Vec<Written<'b>>, FormatError> {
    let count = cbor::array(d, "keys", MAX_CHARTER_KEYS)?;
    let mut keys = Vec::with_capacity(count);
    for _ in 0..count {
        cbor::tuple(d, 5)?;
        let fault = FormatError::Value { key: 5 };
        let role = match d.u8()? {
            0 => KeyRole::Root,
            1 => KeyRole::Issuing,
            _ => return Err(fault),
        };
        let rank = d.u8()?;
        let until = read_time(d, 5)?;
        let state = match (rank, until.as_secs()) {
            (0, 0) => KeyState::Next,
            (1, 0) => KeyState::Active,
            (2, _) => KeyState::Retiring { until },
            (3, 0) => KeyState::Revoked,
            _ => return Err(fault),
        };
        let (certificate, proof) = (d.bytes()?, d.bytes()?);
        keys.push(Written {
            role,
            state,
            certificate,
            proof,
        });
    }
    Ok(keys)
}

/// Reads the certificates; each key once and in order.
fn certified(written: Vec<Written<'_>>) -> Result<Vec<AuthorityKey>, CharterError> {
    let mut keys: Vec<AuthorityKey> = Vec::with_capacity(written.len());
    for (index, key) in written.into_iter().enumerate() {
        let details = AuthorityCertificate::from_der(key.certificate)
            .map_err(|cause| CharterError::Certificate { index, cause })?;
        if role_of(&details) != Some(key.role) {
            return Err(CharterError::Role { index });
        }
        if keys.last().is_some_and(|last| last.key() >= details.key()) {
            return Err(FormatError::NotDeterministic.into());
        }
        let certificate = Anchor::from_der(key.certificate)
            .map_err(|cause| CharterError::Anchor { index, cause })?;
        keys.push(AuthorityKey {
            role: key.role,
            state: key.state,
            certificate: Arc::new(certificate),
            proof: key.proof.into(),
            details: Arc::new(details),
        });
    }
    Ok(keys)
}

type Signatures<'b> = Vec<(&'b [u8], &'b [u8])>;

/// `[payload, [[key, signature], …]]`
fn read_envelope(bytes: &[u8]) -> Result<(&[u8], Signatures<'_>), FormatError> {
    let mut decoder = Decoder::new(bytes);
    cbor::tuple(&mut decoder, 2)?;
    let payload = decoder.bytes()?;
    let count = cbor::array(&mut decoder, "signatures", MAX_CHARTER_SIGNATURES)?;
    let mut signatures = Vec::with_capacity(count);
    for _ in 0..count {
        cbor::tuple(&mut decoder, 2)?;
        signatures.push((decoder.bytes()?, decoder.bytes()?));
    }
    cbor::finished(&decoder, bytes)?;
    Ok((payload, signatures))
}

/// The hashes of the keys that signed: ascending, each once.
fn check_signatures(
    message: &[u8],
    signatures: &Signatures<'_>,
) -> Result<Vec<KeyHash>, CharterError> {
    let mut signers: Vec<KeyHash> = Vec::with_capacity(signatures.len());
    for (spki, signature) in signatures {
        let signer = KeyHash::of_spki(spki);
        if signers.last().is_some_and(|last| *last >= signer) {
            return Err(FormatError::NotDeterministic.into());
        }
        verify(spki, message, signature)
            .map_err(|cause| CharterError::Signature { signer, cause })?;
        signers.push(signer);
    }
    match signers.is_empty() {
        true => Err(CharterError::Unsigned),
        false => Ok(signers),
    }
}
