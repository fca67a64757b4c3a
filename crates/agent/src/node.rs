//! A node, put together from its home: identity, memory, credentials.

use std::path::Path;
use std::time::SystemTime;

use comity_certs::Anchor;
use comity_identity::UnixTime;
use comity_keys::NoPassphrase;
use comity_store::{Home, HomeFile, NetworkError, StoreError};
use comity_tls::{Credentials, CredentialsError, Endpoint, LeafProfile};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::identity::{self, IdentityError};
use crate::settings::{ConfigError, ConfigFile};

/// A node that can dial and accept.
#[derive(Debug)]
pub struct Node {
    /// Where it lives.
    pub home: Home,
    /// Its side of every connection.
    pub endpoint: Endpoint,
}

/// Asks for a passphrase, when one is needed.
pub type AskPassphrase<'a> = &'a mut dyn FnMut() -> Result<Zeroizing<String>, NoPassphrase>;

/// Why a node could not be put together.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NodeError {
    /// Its identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// What it remembers cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its leaves could not be made.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Its memberships cannot be read.
    #[error(transparent)]
    Networks(#[from] NetworkError),
}

impl Node {
    /// Opens the node in `home`. `command` stands in the audit log beside what it changes.
    ///
    /// # Errors
    /// When there is no identity, the home is unsafe, or a file cannot be read.
    pub fn open(
        home: &Home,
        passphrase: AskPassphrase<'_>,
        profile: LeafProfile,
        command: &str,
    ) -> Result<Self, NodeError> {
        let identity = identity::load(home, passphrase)?;
        // Peers that knew an older key of ours follow it by these.
        let profile = LeafProfile {
            succession: identity.succession,
            ..profile
        };
        let now = UnixTime::from(SystemTime::now());
        let credentials = Credentials::new(identity.key, identity.root, profile, now)?;
        let endpoint = Endpoint::open(home, credentials, command)?;
        endpoint.present_memberships()?;
        Ok(Self {
            home: home.clone(),
            endpoint,
        })
    }

    /// The same node with these CAs instead of the system's.
    #[must_use]
    pub fn with_roots(mut self, roots: Vec<Anchor>) -> Self {
        self.endpoint = self.endpoint.with_roots(roots);
        self
    }
}

/// The operator's configuration; empty when there is no file.
///
/// # Errors
/// When the file is unsafe, or not understood.
pub fn read_config(home: &Home) -> Result<ConfigFile, ReadConfigError> {
    let path = home.path(HomeFile::Config);
    let Some(content) = home.read(HomeFile::Config)? else {
        return Ok(ConfigFile::default());
    };
    let text = String::from_utf8(content.bytes.to_vec()).map_err(|error| ConfigError {
        line: 1,
        message: error.to_string(),
        path: path.clone(),
    })?;
    Ok(ConfigFile::parse(path, text)?)
}

/// Why the configuration cannot be used.
#[derive(Debug, Error)]
pub enum ReadConfigError {
    /// The file could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was not understood.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// The machine's name, as a label to suggest: its first part, with what no label may have left out.
pub fn machine_label() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?;
    let name = name.to_string_lossy();
    let first = name.split('.').next().unwrap_or_default();
    let label: String = first
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '_')
        .take(63)
        .collect();
    (!label.is_empty()).then_some(label)
}

/// Reads a file that the operator named, at most four megabytes of it.
///
/// # Errors
/// The system's error, or one that says that the file is too large.
pub fn read_named_file(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    const LIMIT: u64 = 4 << 20;
    let mut text = String::new();
    let read = std::fs::File::open(path)?
        .take(LIMIT + 1)
        .read_to_string(&mut text)?;
    if read as u64 > LIMIT {
        return Err(std::io::Error::other("the file is larger than 4 MB"));
    }
    Ok(text)
}
