//! An authority that is at hand: its files, its state as it was read last, and the keys that are
//! unlocked.

use std::collections::HashMap;
use std::sync::Arc;

use comity_certs::{AuthorityCertificate, AuthorityKind};
use comity_identity::{KeyHash, NodeId, Signer, UnixTime};
use comity_keys::{NoPassphrase, SoftwareKey, needs_passphrase};
use comity_record::{AuthorityKey, Bundle, Charter, KeyRole, KeyState, Location};
use comity_store::{AuthorityFiles, Home, NetworkStore, StoreError};
use zeroize::Zeroizing;

use crate::error::AuthorityError;
use crate::state::State;

/// An authority of this home.
pub struct Authority {
    pub(crate) files: AuthorityFiles,
    pub(crate) networks: NetworkStore,
    pub(crate) state: State,
    /// The bytes that `state` was read from.
    read: Zeroizing<Vec<u8>>,
    keys: HashMap<KeyHash, Arc<dyn Signer>>,
}

/// The name of the state's file.
const STATE: &str = "state";

/// A key that signs, and its certificate.
pub(crate) struct Issuer {
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) certificate: AuthorityCertificate,
}

impl Authority {
    /// The authorities of a home.
    ///
    /// # Errors
    /// When the directory that holds them cannot be relied upon.
    pub fn list(home: &Home) -> Result<Vec<NodeId>, AuthorityError> {
        Ok(AuthorityFiles::list(home)?)
    }

    /// Opens an authority; changes are logged on behalf of `command`. Nothing is unlocked yet: keys
    /// in the clear are read when they are needed.
    ///
    /// # Errors
    /// When there is none, its files cannot be relied upon, or its state is an old copy.
    pub fn open(home: &Home, network: NodeId, command: &str) -> Result<Self, AuthorityError> {
        let files = AuthorityFiles::open(home, network)?;
        let networks = NetworkStore::new(home, command);
        let read = files.state()?;
        let state = parse(&files, &read)?;
        let authority = Self {
            files,
            networks,
            state,
            read,
            keys: HashMap::new(),
        };
        authority.check_age()?;
        Ok(authority)
    }

    /// The network's id.
    pub fn network(&self) -> NodeId {
        self.state.network
    }

    /// What the network calls itself.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Where its bundle can be fetched.
    pub fn locations(&self) -> &[Location] {
        &self.state.locations
    }

    /// Its keys and what they are for.
    pub fn charter(&self) -> &Charter {
        self.state.charter()
    }

    /// The certificates that its later roots got from those before them, in DER: for software that
    /// still starts from an old one.
    pub fn links(&self) -> &[Vec<u8>] {
        &self.state.links
    }

    /// The newest bundle that was made.
    pub fn bundle(&self) -> Option<&Bundle> {
        self.state.bundle.as_ref()
    }

    /// Its files, for messages.
    pub fn files(&self) -> &AuthorityFiles {
        &self.files
    }

    /// The certificate of the root that is in use; the newest, if there are several.
    pub fn root(&self) -> &AuthorityKey {
        let roots = self.charter().keys().iter();
        roots
            .filter(|key| key.role == KeyRole::Root && key.state == KeyState::Active)
            .max_by_key(|key| key.details().not_after())
            .expect("a charter has an active root")
    }

    /// Unlocks the issuing keys that are kept here and sealed, asking for a passphrase once for each.
    ///
    /// # Errors
    /// When a key cannot be read, or the passphrase is wrong.
    pub fn unlock(
        &mut self,
        ask: &mut dyn FnMut(&KeyHash) -> Result<Zeroizing<String>, NoPassphrase>,
    ) -> Result<(), AuthorityError> {
        for key in self.issuing_keys() {
            if self.keys.contains_key(&key) {
                continue;
            }
            let Some(text) = self.files.key(&key)? else {
                continue;
            };
            let signer = SoftwareKey::decode(as_text(&text), &mut || ask(&key))?;
            self.use_signer(Arc::new(signer))?;
        }
        Ok(())
    }

    /// Uses a key that is not kept here, such as one in hardware, for whatever it may sign.
    ///
    /// # Errors
    /// [`AuthorityError::UnknownKey`] if it is none of the authority's.
    pub fn use_signer(&mut self, signer: Arc<dyn Signer>) -> Result<(), AuthorityError> {
        let key = KeyHash::of_spki(signer.spki());
        if self.charter().key(&key).is_none() {
            return Err(AuthorityError::UnknownKey(key));
        }
        self.keys.insert(key, signer);
        Ok(())
    }

    /// The issuing keys that sign today, those for members first.
    fn issuing_keys(&self) -> Vec<KeyHash> {
        let mut keys: Vec<(u8, UnixTime, KeyHash)> = self
            .charter()
            .keys()
            .iter()
            .filter(|key| key.state == KeyState::Active)
            .filter_map(|key| match key.details().kind() {
                AuthorityKind::Issuing { path_length, .. } => {
                    Some((*path_length, key.details().not_after(), key.key()))
                }
                AuthorityKind::Root | AuthorityKind::Rollover => None,
            })
            .collect();
        keys.sort_by(|a, b| b.cmp(a));
        keys.into_iter().map(|(_, _, key)| key).collect()
    }

    /// A key that is in use and at hand, for members if they can be admitted with any.
    pub(crate) fn issuer(&mut self) -> Result<Issuer, AuthorityError> {
        let mut sealed = None;
        for key in self.issuing_keys() {
            match self.signer(&key) {
                Ok(Some(signer)) => return self.issuer_with(signer),
                Ok(None) => {}
                Err(AuthorityError::Sealed(key)) => sealed = Some(key),
                Err(error) => return Err(error),
            }
        }
        Err(sealed.map_or(AuthorityError::NoIssuingKey, AuthorityError::Sealed))
    }

    pub(crate) fn issuer_with(&self, signer: Arc<dyn Signer>) -> Result<Issuer, AuthorityError> {
        let key = KeyHash::of_spki(signer.spki());
        let known = self.charter().key(&key);
        let known = known.ok_or(AuthorityError::UnknownKey(key))?;
        if known.state != KeyState::Active {
            return Err(AuthorityError::KeyState {
                key,
                from: state_word(known.state),
                to: "used",
            });
        }
        let certificate = known.details().clone();
        Ok(Issuer {
            signer,
            certificate,
        })
    }

    fn signer(&mut self, key: &KeyHash) -> Result<Option<Arc<dyn Signer>>, AuthorityError> {
        if let Some(signer) = self.keys.get(key) {
            return Ok(Some(Arc::clone(signer)));
        }
        let Some(text) = self.files.key(key)? else {
            return Ok(None);
        };
        if needs_passphrase(as_text(&text)) {
            return Err(AuthorityError::Sealed(*key));
        }
        let signer = SoftwareKey::decode(as_text(&text), &mut || {
            Err(NoPassphrase {
                cause: "the key is in the clear".to_owned(),
            })
        })?;
        if KeyHash::of_spki(signer.spki()) != *key {
            return Err(AuthorityError::UnknownKey(KeyHash::of_spki(signer.spki())));
        }
        let signer: Arc<dyn Signer> = Arc::new(signer);
        self.keys.insert(*key, Arc::clone(&signer));
        Ok(Some(signer))
    }

    /// Follows the state that another process may have written.
    pub(crate) fn reload(&mut self) -> Result<(), AuthorityError> {
        let read = self.files.state()?;
        if *read != *self.read {
            self.state = parse(&self.files, &read)?;
            self.read = read;
        }
        self.check_age()
    }

    /// Makes a state the one that counts, durably. It is read back before: what the next process would
    /// not understand must not be written, because nothing could be withdrawn after that.
    pub(crate) fn install(
        &mut self,
        lock: &comity_store::HomeLock,
        state: State,
    ) -> Result<(), AuthorityError> {
        let bytes = encode_state(&state)?;
        parse(&self.files, &bytes)?;
        self.files.replace_state(lock, &bytes)?;
        self.state = state;
        self.read = Zeroizing::new(bytes);
        Ok(())
    }

    /// Remembers a key that was made just now.
    pub(crate) fn keep_signer(&mut self, key: KeyHash, signer: Arc<dyn Signer>) {
        self.keys.insert(key, signer);
    }

    pub(crate) fn drop_signer(&mut self, key: &KeyHash) {
        self.keys.remove(key);
    }

    pub(crate) fn home(&self) -> &Home {
        self.files.home()
    }

    /// Whether this state is behind what this home has published.
    fn check_age(&self) -> Result<(), AuthorityError> {
        let networks = self.networks.networks()?;
        let Some(known) = networks.get(&self.network()) else {
            return Ok(());
        };
        let published = known.bundle.charter().sequence();
        let state = self.charter().sequence();
        if published > state {
            return Err(AuthorityError::OldCopy { state, published });
        }
        Ok(())
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.network().short())
    }
}

/// A key's state as a word.
pub(crate) const fn state_word(state: KeyState) -> &'static str {
    match state {
        KeyState::Next => "next",
        KeyState::Active => "active",
        KeyState::Retiring { .. } => "retiring",
        KeyState::Revoked => "revoked",
    }
}

pub(crate) fn encode_state(state: &State) -> Result<Vec<u8>, AuthorityError> {
    state.encode().map_err(|error| AuthorityError::State {
        path: STATE.into(),
        error,
    })
}

fn parse(files: &AuthorityFiles, bytes: &[u8]) -> Result<State, AuthorityError> {
    let fault = |error| AuthorityError::State {
        path: files.directory().join(STATE),
        error,
    };
    let state = State::parse(bytes).map_err(fault)?;
    if state.network != files.network() {
        let text = "it is another network's".to_owned();
        return Err(fault(crate::state::StateError(text)));
    }
    Ok(state)
}

/// Keys are text; what is not is no key.
fn as_text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("")
}

/// 16 random bytes for the serial number of a certificate that is in no ledger.
pub(crate) fn random_serial() -> Result<[u8; 16], AuthorityError> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(|error| StoreError::Entropy {
        cause: error.to_string(),
    })?;
    serial[0] = serial[0] & 0x3f | 0x40;
    Ok(serial)
}
