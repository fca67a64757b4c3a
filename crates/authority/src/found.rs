//! Founding an authority.

use std::time::Duration;

use comity_certs::{
    AuthorityRootRequest, IssuingRequest, Metadata, is_label, mint_authority_root, mint_issuing,
};
use comity_identity::{Algorithm, KeyHash, NodeId, Signer, UnixTime};
use comity_keys::{KeyError, SoftwareKey};
use comity_record::{BundleRequest, CharterKey, CharterRequest, KeyState, Location};
use comity_store::{AuthorityFiles, Home, NewAuthorityFiles};
use zeroize::Zeroizing;

use crate::authority::{Authority, encode_state, random_serial};
use crate::error::AuthorityError;
use crate::state::State;
use crate::{BACKDATED, BUNDLE_LIFETIME, BUNDLE_REFRESH, ISSUING_LIFETIME, ROOT_LIFETIME};

/// What a new authority is made of.
#[derive(Clone, Debug)]
pub struct NewAuthority<'a> {
    /// What the network calls itself: a label.
    pub name: String,
    /// The kind of its first issuing key.
    pub algorithm: Algorithm,
    /// Seals the issuing key; without one it lies in the clear, with mode 0600, so that a server
    /// can issue without a person beside it.
    pub passphrase: Option<&'a str>,
    /// Where the bundle will be fetched.
    pub locations: Vec<Location>,
    /// How long the root certificate is valid: [`ROOT_LIFETIME`] by default.
    pub root_lifetime: Duration,
    /// How long the issuing key's is valid, at most until the root's end: [`ISSUING_LIFETIME`].
    pub issuing_lifetime: Duration,
}

impl NewAuthority<'_> {
    /// An authority with the defaults.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            algorithm: Algorithm::EcdsaP256,
            passphrase: None,
            locations: Vec::new(),
            root_lifetime: ROOT_LIFETIME,
            issuing_lifetime: ISSUING_LIFETIME,
        }
    }
}

impl Authority {
    /// Founds an authority: a root certificate for the key that is brought, an issuing key, a
    /// charter that says so, and a first bundle. The home recognises its members from now on. The
    /// root key is not kept here: where it goes is for the caller to say.
    ///
    /// # Errors
    /// When the name is no label, the root has founded one here already, or something cannot be made
    /// or written. Then there is no authority.
    pub fn create(
        home: &Home,
        new: &NewAuthority<'_>,
        root: &dyn Signer,
        now: UnixTime,
        command: &str,
    ) -> Result<Self, AuthorityError> {
        if !is_label(&new.name) {
            return Err(AuthorityError::Label(new.name.escape_default().to_string()));
        }
        let issuing = SoftwareKey::generate(new.algorithm)?;
        let state = first_state(new, root, &issuing, now)?;
        let files = NewAuthorityFiles {
            state: encode_state(&state)?,
            keys: vec![(
                KeyHash::of_spki(issuing.spki()),
                key_text(&issuing, new.passphrase)?,
            )],
        };
        let lock = home.lock()?;
        AuthorityFiles::create(home, &lock, state.network, &files)?;
        drop(lock);
        let authority = Self::open(home, state.network, command)?;
        authority.register(now)?;
        Ok(authority)
    }
}

fn first_state(
    new: &NewAuthority<'_>,
    root: &dyn Signer,
    issuing: &SoftwareKey,
    now: UnixTime,
) -> Result<State, AuthorityError> {
    let network = NodeId::of_spki(root.spki());
    let not_before = now - BACKDATED;
    let root_end = now + new.root_lifetime;
    let root_der = mint_authority_root(
        root,
        &AuthorityRootRequest {
            serial: random_serial()?,
            not_before,
            not_after: root_end,
        },
    )?;
    let issuing_der = mint_issuing(
        &root_der,
        root,
        &IssuingRequest {
            spki: issuing.spki(),
            serial: random_serial()?,
            not_before,
            not_after: (now + new.issuing_lifetime).min(root_end),
            path_length: 1,
            scope: &Metadata::default(),
            dns: &[],
        },
    )?;
    let active = |certificate, proof| CharterKey {
        state: KeyState::Active,
        certificate,
        proof,
    };
    let root_proof = CharterKey::proof(root, &network)?;
    let issuing_proof = CharterKey::proof(issuing, &network)?;
    let charter = CharterRequest {
        network,
        sequence: now.as_secs().max(1),
        issued: now,
        keys: vec![
            active(root_der, root_proof),
            active(issuing_der, issuing_proof),
        ],
    };
    let charters = vec![charter.sign(&[root])?];
    let sequence = now.as_secs().max(1);
    let bundle = BundleRequest {
        name: new.name.clone(),
        sequence,
        issued: now,
        expires: now + BUNDLE_LIFETIME,
        refresh: BUNDLE_REFRESH,
        locations: new.locations.clone(),
        charters: charters.clone(),
        withdrawn: Vec::new(),
    };
    Ok(State {
        network,
        name: new.name.clone(),
        locations: new.locations.clone(),
        charters,
        links: Vec::new(),
        withdrawn: Vec::new(),
        unsettled: Vec::new(),
        scheduled: Vec::new(),
        sequence,
        bundle: Some(bundle.sign(issuing)?),
    })
}

/// A key as it lies in a file.
pub(crate) fn key_text(
    key: &SoftwareKey,
    passphrase: Option<&str>,
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let text = match passphrase {
        Some(passphrase) => key.seal(passphrase)?,
        None => key.encode_plain()?,
    };
    Ok(Zeroizing::new(text.as_bytes().to_vec()))
}
