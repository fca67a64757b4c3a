//! The files of an authority: a directory for each, made in one step like the identity.
//!
//! ```text
//! <home>/authorities/<64 hex of the network id>/
//!   state          what the authority knows of itself; its own format, see the crate `authority`
//!   issued.redb    what it has signed, see `issued`
//!   <64 hex>.key   a private key, by the hash of its public half: issuing keys; the root's only if
//!                  the operator said that it may stay here
//! ```
//!
//! The state is what refers to keys, so a key is written before the state that needs it
//! ([`AuthorityFiles::add_key`]) and removed after the state that does not
//! ([`AuthorityFiles::remove_key`]). A key that nothing refers to does no harm.

use std::io;
use std::path::{Path, PathBuf};

use comity_identity::{KeyHash, NodeId};
use zeroize::Zeroizing;

use crate::atomic;
use crate::check::{self, Secrecy};
use crate::disk::Access;
use crate::error::StoreError;
use crate::home::{Home, HomeFile, make_directory};
use crate::issued::IssuedLedger;
use crate::lock::HomeLock;

/// Most authorities in one home; somebody who runs more of them has more machines, too.
pub const MAX_AUTHORITIES: usize = 64;

/// Bytes of a state. Its largest part is a charter history of at most 16 times 32 certificates, and
/// 10,000 withdrawals; a bundle, which contains them, is at most a megabyte.
pub const MAX_STATE_BYTES: u64 = 8 << 20;

const STATE: &str = "state";
const ISSUED: &str = "issued.redb";

/// The directory of an authority, checked.
#[derive(Clone, Debug)]
pub struct AuthorityFiles {
    home: Home,
    network: NodeId,
    directory: PathBuf,
}

/// What a new authority begins with.
#[derive(Clone)]
pub struct NewAuthorityFiles {
    /// Its state.
    pub state: Vec<u8>,
    /// Its private keys, plain or sealed, by the hashes of their public halves.
    pub keys: Vec<(KeyHash, Zeroizing<Vec<u8>>)>,
}

impl AuthorityFiles {
    /// Makes the directory of an authority, with an empty ledger; afterwards, and after a crash at
    /// any moment, it is there as a whole or not at all.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if there is one already, [`StoreError::Full`] beyond
    /// [`MAX_AUTHORITIES`], or when it cannot be written.
    pub fn create(
        home: &Home,
        lock: &HomeLock,
        network: NodeId,
        files: &NewAuthorityFiles,
    ) -> Result<Self, StoreError> {
        let all = all_directory(home);
        make_directory(home.disk(), &all)?;
        atomic::remove_leftovers(home.disk(), &all);
        if Self::list(home)?.len() >= MAX_AUTHORITIES {
            let limit = MAX_AUTHORITIES;
            return Err(StoreError::Full { path: all, limit });
        }
        let directory = all.join(network.to_hex());
        if home.disk().lstat(&directory).is_ok() {
            return Err(StoreError::Exists { path: directory });
        }
        let temporary = atomic::temporary_name(&all)?;
        let disk = home.disk();
        let made = fill(home, &temporary, files).and_then(|()| {
            lock.check(disk)?;
            disk.rename(&temporary, &directory)
                .map_err(StoreError::io("install", &directory))
        });
        if let Err(error) = made {
            atomic::remove_tree(disk, &temporary);
            return Err(error);
        }
        atomic::sync_directory(disk, &all)?;
        Self::open(home, network)
    }

    /// Opens the directory of an authority.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is none, or when it cannot be relied upon.
    pub fn open(home: &Home, network: NodeId) -> Result<Self, StoreError> {
        let directory = all_directory(home).join(network.to_hex());
        for path in [&all_directory(home), &directory] {
            check_directory(home, path)?;
        }
        Ok(Self {
            home: home.clone(),
            network,
            directory,
        })
    }

    /// The authorities of a home.
    ///
    /// # Errors
    /// When the directory that holds them cannot be relied upon.
    pub fn list(home: &Home) -> Result<Vec<NodeId>, StoreError> {
        let all = all_directory(home);
        match check_directory(home, &all) {
            Err(StoreError::Missing { .. }) => return Ok(Vec::new()),
            outcome => outcome?,
        }
        let names = home.disk().list(&all);
        let names = names.map_err(StoreError::io("list", &all))?;
        let mut found: Vec<NodeId> = names.iter().filter_map(|name| network_of(name)).collect();
        found.sort();
        Ok(found)
    }

    /// Whose files they are.
    pub fn network(&self) -> NodeId {
        self.network
    }

    /// The home they are in.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Where they are, for messages.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The state.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if it is gone, or when it cannot be relied upon.
    pub fn state(&self) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let path = self.directory.join(STATE);
        let found = self.home.read_at(&path, Secrecy::Public, MAX_STATE_BYTES)?;
        match found {
            Some(content) => Ok(content.bytes),
            None => Err(StoreError::Missing { path }),
        }
    }

    /// Replaces the state. When this returns, it is durable.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] above [`MAX_STATE_BYTES`], or when it cannot be written; it then has
    /// either content.
    pub fn replace_state(&self, lock: &HomeLock, state: &[u8]) -> Result<(), StoreError> {
        let path = self.directory.join(STATE);
        if state.len() as u64 > MAX_STATE_BYTES {
            let limit = MAX_STATE_BYTES;
            return Err(StoreError::TooLarge { path, limit });
        }
        let disk = self.home.disk();
        atomic::remove_leftovers(disk, &self.directory);
        atomic::replace(disk, lock, &path, state, atomic::Previous::Drop)
    }

    /// Keeps a private key, durably. One that is there already is replaced.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add_key(&self, lock: &HomeLock, key: &KeyHash, text: &[u8]) -> Result<(), StoreError> {
        let path = self.key_path(key);
        let disk = self.home.disk();
        atomic::replace(disk, lock, &path, text, atomic::Previous::Drop)
    }

    /// A private key, plain or sealed; `None` if it is not kept here.
    ///
    /// # Errors
    /// When it cannot be relied upon.
    pub fn key(&self, key: &KeyHash) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let limit = HomeFile::IdentityKey.limit();
        let found = self
            .home
            .read_at(&self.key_path(key), Secrecy::Secret, limit)?;
        Ok(found.map(|content| content.bytes))
    }

    /// Removes a private key; one that is not there is no error.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove_key(&self, lock: &HomeLock, key: &KeyHash) -> Result<(), StoreError> {
        let path = self.key_path(key);
        let disk = self.home.disk();
        lock.check(disk)?;
        match disk.unlink(&path) {
            Ok(()) => atomic::sync_directory(disk, &self.directory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StoreError::io("remove", &path)(error)),
        }
    }

    /// What it has signed.
    pub fn issued(&self) -> IssuedLedger {
        IssuedLedger::at(&self.home, self.directory.join(ISSUED))
    }

    fn key_path(&self, key: &KeyHash) -> PathBuf {
        self.directory.join(format!("{}.key", key.to_hex()))
    }
}

fn all_directory(home: &Home) -> PathBuf {
    home.root().join("authorities")
}

fn check_directory(home: &Home, path: &Path) -> Result<(), StoreError> {
    match home.disk().lstat(path) {
        Ok(stat) => check::directory(path, &stat, home.disk().user()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Missing {
            path: path.to_owned(),
        }),
        Err(error) => Err(StoreError::io("look at", path)(error)),
    }
}

/// Only the form that we write names an authority.
fn network_of(name: &std::ffi::OsStr) -> Option<NodeId> {
    let name = name.to_str()?;
    let network: NodeId = name.parse().ok()?;
    (network.to_hex() == name).then_some(network)
}

fn fill(home: &Home, temporary: &Path, files: &NewAuthorityFiles) -> Result<(), StoreError> {
    let disk = home.disk();
    disk.make_dir(temporary)
        .map_err(StoreError::io("make", temporary))?;
    let handle = disk
        .open(temporary, Access::Directory)
        .map_err(StoreError::io("open", temporary))?;
    handle
        .set_mode(0o700)
        .map_err(StoreError::io("set the mode of", temporary))?;
    atomic::write_new(disk, &temporary.join(STATE), &files.state)?;
    for (key, text) in &files.keys {
        let name = format!("{}.key", key.to_hex());
        atomic::write_new(disk, &temporary.join(name), text)?;
    }
    IssuedLedger::create(home, &temporary.join(ISSUED))?;
    handle
        .sync()
        .map_err(StoreError::io("synchronise", temporary))
}
