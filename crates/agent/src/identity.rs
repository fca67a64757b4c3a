//! Making and loading a node's identity.

use std::sync::Arc;
use std::time::SystemTime;

use comity_certs::{MintError, RootRequest, mint_root};
use comity_identity::{Algorithm, KeyHash, NodeId, UnixTime};
use comity_keys::{KeyError, NoPassphrase, SoftwareKey};
use comity_store::{Home, HomeFile, IdentityFiles, StoreError};
use pem_rfc7468::LineEnding;
use thiserror::Error;
use zeroize::Zeroizing;

const CERTIFICATE_LABEL: &str = "CERTIFICATE";

/// A loaded identity: the key is proven to belong to the certificate.
#[derive(Clone)]
pub struct Identity {
    /// The identity key.
    pub key: Arc<SoftwareKey>,
    /// Its DER root certificate.
    pub root: Vec<u8>,
    /// The statements by which it followed others, which its leaves carry; empty for a first identity.
    pub succession: Vec<u8>,
}

/// What is known of an identity without its key, which may be sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublicIdentity {
    /// The node id.
    pub id: NodeId,
    /// Hash of the next identity key, to which the root commits.
    pub next: Option<KeyHash>,
}

/// What `init` did.
#[derive(Debug)]
pub struct Initialised {
    /// The identity that the home has now.
    pub identity: PublicIdentity,
    /// False when it was there before.
    pub created: bool,
}

/// Why there is no usable identity.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The home could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody ran `init` here.
    #[error("there is no identity in {home}")]
    Missing {
        /// The home.
        home: String,
    },
    /// The key could not be made, read or sealed.
    #[error("the identity key: {0}")]
    Key(#[from] KeyError),
    /// The root certificate could not be made.
    #[error("the root certificate: {0}")]
    Mint(#[from] MintError),
    /// The root certificate is damaged, or belongs to another key.
    #[error("{path} is not the root certificate of the identity key: {cause}")]
    Certificate {
        /// The file.
        path: String,
        /// What is wrong.
        cause: String,
    },
    /// The system gave no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Entropy(getrandom::Error),
}

/// Makes the identity of a home, or finds it made: the identity key, the next identity key, and the
/// root that commits to it. With a passphrase both keys are sealed.
///
/// # Errors
/// When the home is unsafe or full, or the keys cannot be made; then nothing is left behind.
pub fn initialise(
    home: &Home,
    algorithm: Algorithm,
    passphrase: Option<&str>,
) -> Result<Initialised, IdentityError> {
    let established = home.establish_identity(|| make(algorithm, passphrase))?;
    Ok(Initialised {
        identity: public_of(home, &established.files.certificate)?,
        created: established.created,
    })
}

fn make(algorithm: Algorithm, passphrase: Option<&str>) -> Result<IdentityFiles, IdentityError> {
    let key = SoftwareKey::generate(algorithm)?;
    let next = SoftwareKey::generate(algorithm)?;
    let root = mint_root(
        &key,
        &RootRequest {
            next: Some(KeyHash::of_spki(next.spki())),
            serial: random_serial()?,
            not_before: UnixTime::from(SystemTime::now()),
        },
    )?;
    Ok(IdentityFiles {
        key: encode_key(&key, passphrase)?,
        certificate: encode_certificate(&root),
        next_key: Some(encode_key(&next, passphrase)?),
        succession: None,
    })
}

/// The text of a key as a home keeps it: sealed, if there is a passphrase.
pub(crate) fn encode_key(
    key: &SoftwareKey,
    passphrase: Option<&str>,
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let text = match passphrase {
        Some(passphrase) => key.seal(passphrase)?,
        None => key.encode_plain()?,
    };
    Ok(Zeroizing::new(text.as_bytes().to_vec()))
}

pub(crate) fn encode_certificate(der: &[u8]) -> Vec<u8> {
    let text = pem_rfc7468::encode_string(CERTIFICATE_LABEL, LineEnding::LF, der);
    text.expect("a certificate of ours fits into memory")
        .into_bytes()
}

pub(crate) fn random_serial() -> Result<[u8; 16], IdentityError> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(IdentityError::Entropy)?;
    Ok(serial)
}

/// What is known of a home's identity without its key.
///
/// # Errors
/// When there is none, or its root certificate is damaged.
pub fn public(home: &Home) -> Result<PublicIdentity, IdentityError> {
    let files = home.identity()?.ok_or_else(|| missing(home))?;
    public_of(home, &files.certificate)
}

/// Loads the identity; asks for the passphrase only if the key is sealed.
///
/// # Errors
/// When there is none, the passphrase is wrong, or key and certificate do not belong together.
pub fn load(
    home: &Home,
    passphrase: &mut dyn FnMut() -> Result<Zeroizing<String>, NoPassphrase>,
) -> Result<Identity, IdentityError> {
    let files = home.identity()?.ok_or_else(|| missing(home))?;
    let public = public_of(home, &files.certificate)?;
    let key = key_of(home, &files, public.id, passphrase)?;
    Ok(Identity {
        key: Arc::new(key),
        root: root_der(home, &files.certificate)?,
        succession: files.succession.unwrap_or_default(),
    })
}

/// The key of an identity, which must be that of its root.
pub(crate) fn key_of(
    home: &Home,
    files: &IdentityFiles,
    id: NodeId,
    passphrase: &mut dyn FnMut() -> Result<Zeroizing<String>, NoPassphrase>,
) -> Result<SoftwareKey, IdentityError> {
    let text = std::str::from_utf8(&files.key).map_err(|_| KeyError::NotPem)?;
    let key = SoftwareKey::decode(text, passphrase)?;
    match NodeId::of_spki(key.spki()) == id {
        true => Ok(key),
        false => Err(not_the_root(home, "it certifies another key")),
    }
}

pub(crate) fn public_of(home: &Home, certificate: &[u8]) -> Result<PublicIdentity, IdentityError> {
    let root = root_der(home, certificate)?;
    let (id, next) =
        comity_certs::read_root(&root).map_err(|error| not_the_root(home, &error.to_string()))?;
    Ok(PublicIdentity { id, next })
}

pub(crate) fn root_der(home: &Home, certificate: &[u8]) -> Result<Vec<u8>, IdentityError> {
    match pem_rfc7468::decode_vec(certificate) {
        Ok((CERTIFICATE_LABEL, der)) => Ok(der),
        Ok((label, _)) => Err(not_the_root(home, &format!("it is a PEM {label}"))),
        Err(error) => Err(not_the_root(home, &error.to_string())),
    }
}

fn not_the_root(home: &Home, cause: &str) -> IdentityError {
    IdentityError::Certificate {
        path: home
            .path(HomeFile::IdentityCertificate)
            .display()
            .to_string(),
        cause: cause.to_owned(),
    }
}

pub(crate) fn missing(home: &Home) -> IdentityError {
    IdentityError::Missing {
        home: home.root().display().to_string(),
    }
}
