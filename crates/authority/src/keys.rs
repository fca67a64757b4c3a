//! The authority's own keys: announced, used, retired, revoked. A root signs each step.
//!
//! A key is next, then active, then retiring, then gone. Its certificates count in all of these, so a
//! reader who has seen the bundle in which it was next knows it before it signs anything. A step is
//! one charter: after a crash it was made or it was not, and the step can be repeated.

use std::sync::Arc;
use std::time::Duration;

use comity_certs::{
    AuthorityKind, AuthorityRootRequest, IssuingRequest, Metadata, RolloverRequest,
    mint_authority_root, mint_issuing, mint_rollover, read_csr,
};
use comity_identity::{Algorithm, KeyHash, NodeId, Signer, UnixTime};
use comity_keys::SoftwareKey;
use comity_record::{AuthorityKey, Charter, CharterKey, CharterRequest, KeyRole, KeyState};
use comity_store::{HomeLock, Reservation};
use zeroize::Zeroizing;

use crate::admit::sign_reserved;
use crate::authority::{Authority, random_serial, state_word};
use crate::error::AuthorityError;
use crate::found::key_text;
use crate::members::{ISSUING, MEMBER, Member};
use crate::state::State;
use crate::{BACKDATED, ISSUING_LIFETIME, ROOT_LIFETIME};

/// An issuing key that is wanted.
#[derive(Clone, Debug)]
pub struct KeyOrder<'a> {
    /// Its kind, if it is made here.
    pub algorithm: Algorithm,
    /// Seals it, if it is made here.
    pub passphrase: Option<&'a str>,
    /// How long its certificate is valid, at most until the root's end: [`ISSUING_LIFETIME`].
    pub lifetime: Duration,
    /// 1 to admit members, 0 to sign leaves only.
    pub path_length: u8,
    /// The networks and roles that it may attest; empty for any.
    pub scope: Metadata,
    /// The DNS names below which it may name leaves, with path length 0; empty for any.
    pub dns: Vec<String>,
}

impl Default for KeyOrder<'_> {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::EcdsaP256,
            passphrase: None,
            lifetime: ISSUING_LIFETIME,
            path_length: 1,
            scope: Metadata::default(),
            dns: Vec::new(),
        }
    }
}

/// What hangs on a key of the authority.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Affected {
    /// Issuing keys below it, if it is a root.
    pub issuing_keys: Vec<KeyHash>,
    /// How many certificates that count it issued, itself or through them.
    pub certificates: u64,
    /// The members among those whose certificates they are.
    pub members: Vec<Member>,
}

impl Authority {
    /// Makes an issuing key and announces it. Returns its hash.
    ///
    /// # Errors
    /// [`AuthorityError::NotOurRoot`] if the signer is no active root; when readers would not follow,
    /// no active key signs the bundle, or something cannot be written.
    pub fn announce_key(
        &mut self,
        root: &dyn Signer,
        order: &KeyOrder<'_>,
        now: UnixTime,
    ) -> Result<KeyHash, AuthorityError> {
        self.add_key(root, order, KeyState::Next, None, now)
    }

    /// Replaces the issuing keys that are kept here at once: a new one is in use, and they retire.
    /// For members that come back before they have seen the new bundle, announce the key first.
    ///
    /// # Errors
    /// As [`Authority::announce_key`].
    pub fn roll_issuing(
        &mut self,
        root: &dyn Signer,
        order: &KeyOrder<'_>,
        overlap: Duration,
        now: UnixTime,
    ) -> Result<KeyHash, AuthorityError> {
        self.add_key(root, order, KeyState::Active, Some(now + overlap), now)
    }

    /// Uses an announced key from now on; the issuing keys that are kept here retire, and what they
    /// signed counts until the overlap ends.
    ///
    /// # Errors
    /// As [`Authority::announce_key`]; [`AuthorityError::KeyState`] if it was not announced.
    pub fn activate_key(
        &mut self,
        root: &dyn Signer,
        key: &KeyHash,
        overlap: Duration,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        let until = now + overlap;
        self.amend(&[root], now, |authority, _, state| {
            let mut keys = keys_of(state.charter());
            let index = place(state.charter(), key)?;
            if keys[index].state != KeyState::Next {
                return Err(wrong_state(*key, keys[index].state, "active"));
            }
            authority.retire_own(state.charter(), &mut keys, until)?;
            keys[index].state = KeyState::Active;
            Ok(keys)
        })
    }

    /// Lets a key sign nothing more; what it signed counts until `until`.
    ///
    /// # Errors
    /// As [`Authority::announce_key`]; [`AuthorityError::KeyState`] if it is retiring or revoked.
    pub fn retire_key(
        &mut self,
        root: &dyn Signer,
        key: &KeyHash,
        until: UnixTime,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        self.set_key_state(root, key, KeyState::Retiring { until }, now)
    }

    /// Revokes a key, for ever: nothing that it signed counts any more. The issuing keys that a root
    /// certified are revoked with it, unless another root certified them again. Its private half is
    /// removed if it is kept here; a key that is revoked already only loses that.
    ///
    /// # Errors
    /// As [`Authority::announce_key`].
    pub fn revoke_key(
        &mut self,
        root: &dyn Signer,
        key: &KeyHash,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        let revoked = self.set_key_state(root, key, KeyState::Revoked, now);
        // Also when a crash, or a disk that is full, came between the two.
        if !self.is_revoked(key) {
            return revoked;
        }
        for key in with_those_below(self.charter(), key) {
            self.forget_key(&key)?;
        }
        match revoked {
            Err(AuthorityError::KeyState { .. }) => Ok(()),
            revoked => revoked,
        }
    }

    /// Whether [`Authority::revoke_key`] could be done: what a dry run says has to be true.
    ///
    /// # Errors
    /// As [`Authority::revoke_key`].
    pub fn check_revocation(&self, key: &KeyHash, now: UnixTime) -> Result<(), AuthorityError> {
        if self.is_revoked(key) {
            return Ok(());
        }
        let keys = with_state(self.charter(), key, KeyState::Revoked)?;
        // Whose signature it has is not looked at here, and the root's is not at hand.
        let anybody = SoftwareKey::generate(Algorithm::Ed25519)?;
        next_charter(self.network(), self.charter(), keys, now).sign(&[&anybody])?;
        Ok(())
    }

    fn is_revoked(&self, key: &KeyHash) -> bool {
        let known = self.charter().key(key);
        known.is_some_and(|known| known.state == KeyState::Revoked)
    }

    /// Leaves out a key whose overlap and certificate are over, and removes its private half if that is kept here.
    ///
    /// # Errors
    /// As [`Authority::announce_key`]; [`AuthorityError::KeyState`] unless it retired and that is over,
    /// [`AuthorityError::Successor`] while its certificate is not: it could come back as another one.
    pub fn drop_key(
        &mut self,
        root: &dyn Signer,
        key: &KeyHash,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        let dropped = self.amend(&[root], now, |_, _, state| {
            let mut keys = keys_of(state.charter());
            let index = place(state.charter(), key)?;
            match keys[index].state {
                KeyState::Retiring { until } if until < now => drop(keys.remove(index)),
                from => return Err(wrong_state(*key, from, "dropped")),
            }
            Ok(keys)
        });
        if self.charter().key(key).is_none() {
            self.forget_key(key)?;
        }
        dropped
    }

    /// Certifies the issuing key of another machine, and announces it as one in use. Returns its
    /// certificate. That machine signs with it; bundles and withdrawals stay here. The request is PKCS#10
    /// in DER or PEM, whose common name is the network's id in hexadecimal digits.
    ///
    /// # Errors
    /// As [`Authority::announce_key`], and when the request is not one of that key to be one of this
    /// network ([`CharterKey::proof`]), or the key not P-256 or Ed25519.
    pub fn delegate(
        &mut self,
        root: &dyn Signer,
        request: &[u8],
        order: &KeyOrder<'_>,
        now: UnixTime,
    ) -> Result<Vec<u8>, AuthorityError> {
        let spki = read_csr(request)?.spki;
        let proof = match pem_rfc7468::decode_vec(request) {
            Ok((_, der)) => der,
            Err(_) => request.to_vec(),
        };
        let mut made = Vec::new();
        self.amend(&[root], now, |authority, _, state| {
            let mut keys = keys_of(state.charter());
            made = authority.certify_issuing(state.charter(), root, &spki, order, now)?;
            keys.push(CharterKey {
                state: KeyState::Active,
                certificate: made.clone(),
                proof,
            });
            Ok(keys)
        })?;
        Ok(made)
    }

    /// Replaces the root: the old one certifies the new one, both sign the charter, the issuing keys
    /// get certificates by the new one, and the old one counts until the overlap ends. Returns the
    /// new root's certificate. The network keeps its id.
    ///
    /// # Errors
    /// As [`Authority::announce_key`].
    pub fn roll_root(
        &mut self,
        old: &dyn Signer,
        new: &dyn Signer,
        overlap: Duration,
        now: UnixTime,
    ) -> Result<Vec<u8>, AuthorityError> {
        let new_root = mint_authority_root(
            new,
            &AuthorityRootRequest {
                serial: random_serial()?,
                not_before: now - BACKDATED,
                not_after: now + ROOT_LIFETIME,
            },
        )?;
        let until = now + overlap;
        self.amend(&[old, new], now, |authority, _, state| {
            let charter = state.charter().clone();
            let old_root = root_of(&charter, old)?;
            let request = RolloverRequest {
                new_root_der: &new_root,
                serial: random_serial()?,
                not_before: (now - BACKDATED).max(old_root.details().not_before()),
                not_after: (now + ROOT_LIFETIME).min(old_root.details().not_after()),
            };
            let link = mint_rollover(old_root.details().der(), old, &request)?;
            state.links.push(link);
            let mut keys = authority.below(&charter, old_root.key(), &new_root, new, now)?;
            let index = place(&charter, &old_root.key())?;
            keys[index].state = KeyState::Retiring { until };
            keys.push(CharterKey {
                state: KeyState::Active,
                certificate: new_root.clone(),
                proof: CharterKey::proof(new, &state.network)?,
            });
            Ok(keys)
        })?;
        Ok(new_root)
    }

    /// What would no longer count if a key did not.
    ///
    /// # Errors
    /// [`AuthorityError::UnknownKey`] if it is none of the authority's, or when the ledger cannot be
    /// read.
    pub fn affected(&mut self, key: &KeyHash, now: UnixTime) -> Result<Affected, AuthorityError> {
        self.reload()?;
        let charter = self.charter();
        charter.key(key).ok_or(AuthorityError::UnknownKey(*key))?;
        let below = charter.keys().iter();
        let issuing_keys: Vec<KeyHash> = below
            .filter(|k| k.role == KeyRole::Issuing && k.details().issuer_key() == *key)
            .map(AuthorityKey::key)
            .collect();
        let mut affected = Affected {
            issuing_keys,
            ..Affected::default()
        };
        let mut members = Vec::new();
        self.each(|certificate| {
            let issuer = certificate.about.issuer;
            let hangs = issuer == *key || affected.issuing_keys.contains(&issuer);
            if !hangs || !self.counts(&certificate, now) {
                return;
            }
            affected.certificates += 1;
            if certificate.about.template == MEMBER {
                members.push(self.member(&certificate, now));
            }
        })?;
        members.sort_by(|a, b| (&a.label, a.key).cmp(&(&b.label, b.key)));
        affected.members = members;
        Ok(affected)
    }

    /// The root that a signer holds.
    pub(crate) fn active_root(&self, root: &dyn Signer) -> Result<&AuthorityKey, AuthorityError> {
        root_of(self.charter(), root)
    }

    fn add_key(
        &mut self,
        root: &dyn Signer,
        order: &KeyOrder<'_>,
        state: KeyState,
        retire: Option<UnixTime>,
        now: UnixTime,
    ) -> Result<KeyHash, AuthorityError> {
        let key = SoftwareKey::generate(order.algorithm)?;
        let hash = KeyHash::of_spki(key.spki());
        let text: Zeroizing<Vec<u8>> = key_text(&key, order.passphrase)?;
        let spki = key.spki().to_vec();
        let proof = CharterKey::proof(&key, &self.network())?;
        self.keep_signer(hash, Arc::new(key));
        self.amend(&[root], now, |authority, lock, known| {
            let certificate =
                authority.certify_issuing(known.charter(), root, &spki, order, now)?;
            // A key that nothing refers to does no harm; the other way round it would.
            authority.files.add_key(lock, &hash, &text)?;
            let mut keys = keys_of(known.charter());
            if let Some(until) = retire {
                authority.retire_own(known.charter(), &mut keys, until)?;
            }
            keys.push(CharterKey {
                state,
                certificate,
                proof,
            });
            Ok(keys)
        })?;
        Ok(hash)
    }

    fn set_key_state(
        &mut self,
        root: &dyn Signer,
        key: &KeyHash,
        to: KeyState,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        self.amend(&[root], now, |_, _, state| {
            with_state(state.charter(), key, to)
        })
    }

    /// Makes a new charter, signs and publishes it.
    fn amend(
        &mut self,
        roots: &[&dyn Signer],
        now: UnixTime,
        keys: impl FnOnce(&Self, &HomeLock, &mut State) -> Result<Vec<CharterKey>, AuthorityError>,
    ) -> Result<(), AuthorityError> {
        self.change_with(now, |authority, lock, state| {
            if let Some(root) = roots.first() {
                root_of(state.charter(), *root)?;
            }
            let keys = keys(authority, lock, state)?;
            let charter = next_charter(state.network, state.charter(), keys, now).sign(roots)?;
            state.charters = Charter::append(&state.charters, charter)?;
            Ok(())
        })
    }

    fn certify_issuing(
        &self,
        charter: &Charter,
        root: &dyn Signer,
        spki: &[u8],
        order: &KeyOrder<'_>,
        now: UnixTime,
    ) -> Result<Vec<u8>, AuthorityError> {
        let root_key = root_of(charter, root)?;
        let end = root_key.details().not_after();
        let about = Reservation {
            template: ISSUING.to_owned(),
            key: KeyHash::of_spki(spki),
            issuer: root_key.key(),
            label: ISSUING.to_owned(),
            not_before: (now - BACKDATED).max(root_key.details().not_before()),
            not_after: (now + order.lifetime).min(end),
            attested: order.scope.to_der()?,
            next: None,
        };
        let session = self.files.issued().open()?;
        let made = sign_reserved(&session, about, |serial, about| {
            let request = IssuingRequest {
                spki,
                serial,
                not_before: about.not_before,
                not_after: about.not_after,
                path_length: order.path_length,
                scope: &order.scope,
                dns: &order.dns,
            };
            mint_issuing(root_key.details().der(), root, &request)
        })?;
        Ok(made.der)
    }

    /// The keys of a charter, where those below the old root are certified by the new one.
    fn below(
        &self,
        charter: &Charter,
        old: KeyHash,
        new_root: &[u8],
        new: &dyn Signer,
        now: UnixTime,
    ) -> Result<Vec<CharterKey>, AuthorityError> {
        let mut keys = keys_of(charter);
        for (key, entry) in charter.keys().iter().zip(&mut keys) {
            let details = key.details();
            let AuthorityKind::Issuing {
                path_length,
                scope,
                dns,
            } = details.kind()
            else {
                continue;
            };
            // One that retires, too: it goes on to count when the old root is dropped or revoked.
            let is_over = key.state == KeyState::Revoked || details.not_after() <= now;
            if is_over || details.issuer_key() != old {
                continue;
            }
            let request = IssuingRequest {
                spki: details.spki(),
                serial: random_serial()?,
                not_before: now - BACKDATED,
                not_after: details.not_after().min(now + ROOT_LIFETIME),
                path_length: *path_length,
                scope,
                dns,
            };
            entry.certificate = mint_issuing(new_root, new, &request)?;
        }
        Ok(keys)
    }

    /// Retires the active issuing keys whose private halves are kept here.
    fn retire_own(
        &self,
        charter: &Charter,
        keys: &mut [CharterKey],
        until: UnixTime,
    ) -> Result<(), AuthorityError> {
        for (key, entry) in charter.keys().iter().zip(keys) {
            let active = key.role == KeyRole::Issuing && key.state == KeyState::Active;
            if active && self.files.key(&key.key())?.is_some() {
                entry.state = KeyState::Retiring { until };
            }
        }
        Ok(())
    }

    /// Removes a private key that nothing refers to any more.
    fn forget_key(&mut self, key: &KeyHash) -> Result<(), AuthorityError> {
        let home = self.home().clone();
        let lock = home.lock()?;
        self.drop_signer(key);
        Ok(self.files.remove_key(&lock, key)?)
    }
}

fn root_of<'c>(
    charter: &'c Charter,
    root: &dyn Signer,
) -> Result<&'c AuthorityKey, AuthorityError> {
    let key = KeyHash::of_spki(root.spki());
    charter
        .key(&key)
        .filter(|known| known.role == KeyRole::Root && known.state == KeyState::Active)
        .ok_or(AuthorityError::NotOurRoot(key))
}

fn keys_of(charter: &Charter) -> Vec<CharterKey> {
    let keys = charter.keys().iter();
    keys.map(|key| CharterKey {
        state: key.state,
        certificate: key.details().der().to_vec(),
        proof: key.proof().to_vec(),
    })
    .collect()
}

fn place(charter: &Charter, key: &KeyHash) -> Result<usize, AuthorityError> {
    let mut keys = charter.keys().iter();
    keys.position(|known| known.key() == *key)
        .ok_or(AuthorityError::UnknownKey(*key))
}

/// The keys of a charter, where one has another state.
fn with_state(
    charter: &Charter,
    key: &KeyHash,
    to: KeyState,
) -> Result<Vec<CharterKey>, AuthorityError> {
    let mut keys = keys_of(charter);
    let from = keys[place(charter, key)?].state;
    let allowed = match from {
        KeyState::Next | KeyState::Active => true,
        KeyState::Retiring { .. } => to == KeyState::Revoked,
        KeyState::Revoked => false,
    };
    if !allowed {
        return Err(wrong_state(*key, from, state_word(to)));
    }
    let changed = match to {
        KeyState::Revoked => with_those_below(charter, key),
        _ => vec![*key],
    };
    for key in changed {
        keys[place(charter, &key)?].state = to;
    }
    Ok(keys)
}

/// A key, and if it is a root the issuing keys whose certificates are by it.
fn with_those_below(charter: &Charter, key: &KeyHash) -> Vec<KeyHash> {
    let keys = charter.keys().iter();
    let below = keys.filter(|k| k.role == KeyRole::Issuing && k.details().issuer_key() == *key);
    std::iter::once(*key)
        .chain(below.map(AuthorityKey::key))
        .collect()
}

fn next_charter(
    network: NodeId,
    charter: &Charter,
    keys: Vec<CharterKey>,
    now: UnixTime,
) -> CharterRequest {
    CharterRequest {
        network,
        sequence: (charter.sequence() + 1).max(now.as_secs()),
        issued: now,
        keys,
    }
}

fn wrong_state(key: KeyHash, from: KeyState, to: &'static str) -> AuthorityError {
    AuthorityError::KeyState {
        key,
        from: state_word(from),
        to,
    }
}
