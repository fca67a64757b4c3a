//! The directory that holds everything a node keeps.
//!
//! ```text
//! <home>/                  0700
//!   identity/              made in one step, see `identity_files`
//!     identity.key         the identity key
//!     identity.crt         its root certificate
//!     next.key             the next identity key; may be taken offline
//!     succession           the statements by which it succeeded others
//!   identity.previous/     the identity before that one
//!   known_peers            who we know, see `peers`; with known_peers.old, the content before
//!   known_peers.present    says that a known_peers was here
//!   networks               the authorities that we recognise or follow, see `networks`
//!   networks.present       says that a networks was here
//!   authorities/<network id>/   an authority of ours, see `authority_files`
//!   pending                who asks to be known
//!   invitations            public halves of what we gave out
//!   audit.log              every change of trust
//!   config.toml            the operator's, never written by us
//!   lock                   held for every write
//! ```
//!
//! One lock serves all files: writes are rare and short, and with one lock no order of locks can be
//! wrong.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::atomic;
use crate::check::{self, Secrecy};
use crate::disk::{Access, Disk, DiskFile, OsDisk, Stat};
use crate::error::{Flaw, StoreError};
use crate::lock::HomeLock;

/// The files of a home.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum HomeFile {
    /// The identity key.
    IdentityKey,
    /// The root certificate of the identity key.
    IdentityCertificate,
    /// The next identity key.
    NextKey,
    /// The statements by which the identity succeeded others.
    Succession,
    /// Who we know.
    KnownPeers,
    /// The empty file that says that there was a [`HomeFile::KnownPeers`].
    KnownPeersPresent,
    /// The authorities that we recognise or follow, with their bundles.
    Networks,
    /// The empty file that says that there was a [`HomeFile::Networks`].
    NetworksPresent,
    /// Who asks to be known.
    Pending,
    /// Public halves of invitations.
    Invitations,
    /// Every change of trust.
    AuditLog,
    /// The operator's configuration.
    Config,
    /// Held for every write.
    Lock,
}

impl HomeFile {
    /// The file's place below the home.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IdentityKey => "identity/identity.key",
            Self::IdentityCertificate => "identity/identity.crt",
            Self::NextKey => "identity/next.key",
            Self::Succession => "identity/succession",
            Self::KnownPeers => "known_peers",
            Self::KnownPeersPresent => "known_peers.present",
            Self::Networks => "networks",
            Self::NetworksPresent => "networks.present",
            Self::Pending => "pending",
            Self::Invitations => "invitations",
            Self::AuditLog => "audit.log",
            Self::Config => "config.toml",
            Self::Lock => "lock",
        }
    }

    /// The most we read of it: many times what we would write, and little enough that a file that
    /// somebody swapped for a huge one does no harm.
    pub const fn limit(self) -> u64 {
        match self {
            // A sealed RSA key in PEM, as an import may have left it, is under 8 kB.
            Self::IdentityKey | Self::IdentityCertificate | Self::NextKey => 64 << 10,
            // Up to 16 statements, of which what fits into a certificate counts: 8 kB.
            Self::Succession => 64 << 10,
            // What its parser reads.
            Self::KnownPeers => comity_trust::MAX_FILE_BYTES as u64,
            Self::KnownPeersPresent | Self::NetworksPresent | Self::Lock => 4 << 10,
            // 64 networks with the largest bundle there is, and a few with all the withdrawals that
            // are remembered of one.
            Self::Networks => 256 << 20,
            // 512 entries of at most 2 kB.
            Self::Pending | Self::Config => 1 << 20,
            // 1024 entries of at most 9 kB.
            Self::Invitations => 16 << 20,
            // Only its end is read.
            Self::AuditLog => 1 << 20,
        }
    }

    /// The file's name in its directory.
    pub(crate) fn base_name(self) -> &'static str {
        let name = self.name();
        name.rsplit_once('/').map_or(name, |(_, last)| last)
    }

    const fn secrecy(self) -> Secrecy {
        match self {
            Self::IdentityKey | Self::NextKey => Secrecy::Secret,
            _ => Secrecy::Public,
        }
    }
}

/// An opened home: its owner, its mode and every directory above it were checked.
///
/// Everything here blocks: from asynchronous code, call it in `spawn_blocking`.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
    disk: Arc<dyn Disk>,
}

/// A file as it was read: through a checked handle, within its limit.
#[derive(Clone)]
pub struct FileContent {
    /// The bytes; wiped when dropped, since some files are secret.
    pub bytes: Zeroizing<Vec<u8>>,
    /// The file as it was when it was opened.
    pub stat: Stat,
}

impl Home {
    /// Opens a home that exists.
    ///
    /// # Errors
    /// [`StoreError::NoHome`] if it does not; [`StoreError::Insecure`] if it is a symbolic link,
    /// belongs to somebody else, or if others can write to it or replace it from a directory above.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_on(Arc::new(OsDisk), path)
    }

    /// Makes the home, and the directories above it that are missing, with mode 0700 whatever the
    /// umask; or opens it, if it exists.
    ///
    /// # Errors
    /// As [`Home::open`], and when it cannot be made.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        Self::create_on(Arc::new(OsDisk), path)
    }

    /// [`Home::open`] on another disk.
    ///
    /// # Errors
    /// As [`Home::open`].
    pub fn open_on(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, StoreError> {
        let (parent, name) = split(path)?;
        let parent = disk.canonicalize(&parent).map_err(|source| match source {
            missing if missing.kind() == io::ErrorKind::NotFound => StoreError::NoHome {
                path: path.to_owned(),
            },
            source => StoreError::io("look at", &parent)(source),
        })?;
        check::parents(&*disk, &parent)?;
        let root = parent.join(name);
        let handle = match disk.open(&root, Access::Directory) {
            Ok(handle) => handle,
            Err(error) => return Err(why_not_a_directory(&*disk, &root, error)),
        };
        let stat = handle.stat().map_err(StoreError::io("look at", &root))?;
        check::directory(&root, &stat, disk.user())?;
        Ok(Self { root, disk })
    }

    /// [`Home::create`] on another disk.
    ///
    /// # Errors
    /// As [`Home::create`].
    pub fn create_on(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, StoreError> {
        let absolute = std::path::absolute(path).map_err(StoreError::io("find", path))?;
        let mut missing = Vec::new();
        for directory in absolute.ancestors() {
            match disk.lstat(directory) {
                Ok(_) => {
                    if !missing.is_empty() {
                        // Nothing is made where `open_on` would refuse it.
                        let found = disk
                            .canonicalize(directory)
                            .map_err(StoreError::io("look at", directory))?;
                        check::parents(&*disk, &found)?;
                    }
                    sync_name_of_existing(&*disk, directory)?;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(directory),
                Err(error) => return Err(StoreError::io("look at", directory)(error)),
            }
        }
        for directory in missing.into_iter().rev() {
            make_directory(&*disk, directory)?;
        }
        Self::open_on(disk, path)
    }

    /// The directory itself, without links.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a file is, for messages. Reading goes through [`Home::read`], which checks.
    pub fn path(&self, file: HomeFile) -> PathBuf {
        self.root.join(file.name())
    }

    /// Reads a file, or `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::Insecure`] if it is not a regular file, or others could have changed it (or,
    /// for a key, could read it); [`StoreError::TooLarge`] above [`HomeFile::limit`]; or the
    /// system's error.
    pub fn read(&self, file: HomeFile) -> Result<Option<FileContent>, StoreError> {
        self.read_at(&self.path(file), file.secrecy(), file.limit())
    }

    /// Reads a file of `identity/` from the directory that stands in for it.
    pub(crate) fn read_in(
        &self,
        directory: &Path,
        file: HomeFile,
    ) -> Result<Option<FileContent>, StoreError> {
        let path = directory.join(file.base_name());
        self.read_at(&path, file.secrecy(), file.limit())
    }

    pub(crate) fn read_at(
        &self,
        path: &Path,
        secrecy: Secrecy,
        limit: u64,
    ) -> Result<Option<FileContent>, StoreError> {
        let Some(handle) = self.open_at(path, Access::Read, secrecy)? else {
            return Ok(None);
        };
        let stat = handle.stat().map_err(StoreError::io("look at", path))?;
        let bytes = read_all(&*handle, path, stat.size, limit)?;
        Ok(Some(FileContent { bytes, stat }))
    }

    /// Takes the home's lock; it is released when the value is dropped.
    ///
    /// # Errors
    /// [`StoreError::Locked`] after [`crate::LOCK_WAIT`], or the system's error.
    pub fn lock(&self) -> Result<HomeLock, StoreError> {
        HomeLock::take(self)
    }

    /// Replaces a file: afterwards, and after a crash at any moment, it has its old content or the
    /// new one, complete. When this returns, the new content is durable. `known_peers` is changed by
    /// [`crate::PeerStore`], which keeps what others wrote.
    ///
    /// # Errors
    /// [`StoreError::LockLost`] if somebody removed the lock file meanwhile; the file then has its
    /// old content. Or the system's error; the file then has either content.
    pub fn replace(
        &self,
        lock: &HomeLock,
        file: HomeFile,
        content: &[u8],
    ) -> Result<(), StoreError> {
        let keep = match file {
            HomeFile::KnownPeers => atomic::Previous::Keep,
            _ => atomic::Previous::Drop,
        };
        atomic::replace(&*self.disk, lock, &self.path(file), content, keep)
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Opens and checks a file; `None` if it is not there.
    pub(crate) fn open_file(
        &self,
        file: HomeFile,
        access: Access,
    ) -> Result<Option<Box<dyn DiskFile>>, StoreError> {
        self.open_at(&self.path(file), access, file.secrecy())
    }

    fn open_at(
        &self,
        path: &Path,
        access: Access,
        secrecy: Secrecy,
    ) -> Result<Option<Box<dyn DiskFile>>, StoreError> {
        let handle = match self.disk.open(path, access) {
            Ok(handle) => handle,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(why_not_a_file(self.disk(), path, error)),
        };
        let stat = handle.stat().map_err(StoreError::io("look at", path))?;
        check::file(path, &stat, self.disk.user(), secrecy)?;
        if access == Access::Append && stat.mode & 0o600 != 0o600 {
            // It was made just now, under a umask that takes bits from its owner.
            handle
                .set_mode(0o600)
                .map_err(StoreError::io("set the mode of", path))?;
        }
        Ok(Some(handle))
    }
}

/// The directory that holds the home, and the home's name in it.
fn split(path: &Path) -> Result<(PathBuf, PathBuf), StoreError> {
    let absolute = std::path::absolute(path).map_err(StoreError::io("find", path))?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => Ok((parent.to_owned(), PathBuf::from(name))),
        // The root directory, or a path that ends in `..`.
        _ => Err(check::insecure(path, Flaw::NotADirectory)),
    }
}

/// Makes one directory, durable before it is used.
pub(crate) fn make_directory(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    match disk.make_dir(path) {
        Ok(()) => {
            let handle = disk
                .open(path, Access::Directory)
                .map_err(StoreError::io("open", path))?;
            handle
                .set_mode(0o700)
                .map_err(StoreError::io("set the mode of", path))?;
        }
        // Another process was faster; `open_on` checks what it made. Whether its name is durable
        // already, only that process knows.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(StoreError::io("make", path)(error)),
    }
    match path.parent() {
        Some(parent) => atomic::sync_directory(disk, parent),
        None => Ok(()),
    }
}

/// Makes the name of a directory durable that another process may have made a moment ago.
fn sync_name_of_existing(disk: &dyn Disk, path: &Path) -> Result<(), StoreError> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    match atomic::sync_directory(disk, parent) {
        // Where we may not look, or nothing can be written, no process of ours has made it.
        Err(StoreError::Io { source, .. })
            if matches!(
                source.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            Ok(())
        }
        outcome => outcome,
    }
}

pub(crate) fn why_not_a_directory(disk: &dyn Disk, path: &Path, error: io::Error) -> StoreError {
    match disk.lstat(path) {
        Ok(stat) => match check::directory(path, &stat, disk.user()) {
            Err(flaw) => flaw,
            Ok(()) => StoreError::io("open", path)(error),
        },
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => StoreError::NoHome {
            path: path.to_owned(),
        },
        Err(_) => StoreError::io("open", path)(error),
    }
}

pub(crate) fn why_not_a_file(disk: &dyn Disk, path: &Path, error: io::Error) -> StoreError {
    // A link gives ELOOP and a socket ENXIO: say what it is instead.
    match disk.lstat(path) {
        Ok(stat) => match check::file(path, &stat, disk.user(), Secrecy::Public) {
            Err(flaw) => flaw,
            Ok(()) => StoreError::io("open", path)(error),
        },
        Err(_) => StoreError::io("open", path)(error),
    }
}

pub(crate) fn read_all(
    handle: &dyn DiskFile,
    path: &Path,
    size: u64,
    limit: u64,
) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let too_large = || StoreError::TooLarge {
        path: path.to_owned(),
        limit,
    };
    if size > limit {
        return Err(too_large());
    }
    // The file may grow while we read: the limit holds for what we read, not for what it said.
    let mut room = usize::try_from(size).map_err(|_| too_large())?.max(4096) + 1;
    let mut bytes = Zeroizing::new(vec![0; room]);
    let mut filled = 0;
    loop {
        if filled == room {
            if filled as u64 > limit {
                return Err(too_large());
            }
            // A fresh buffer rather than a grown one, which would leave an unwiped copy behind.
            room *= 2;
            let mut larger = Zeroizing::new(vec![0; room]);
            larger[..filled].copy_from_slice(&bytes);
            bytes = larger;
        }
        match handle.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(StoreError::io("read", path)(error)),
        }
    }
    if filled as u64 > limit {
        return Err(too_large());
    }
    bytes.truncate(filled);
    Ok(bytes)
}
