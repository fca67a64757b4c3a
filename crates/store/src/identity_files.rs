//! The identity of a node, made in one step.
//!
//! A key without its certificate is useless, and a certificate without its key is worse: it looks
//! like an identity. So the files are written into a temporary directory, each synchronised, then
//! the directory, and then one rename gives it the name `identity`. A crash before that leaves
//! nothing that anybody reads, and the next attempt starts over with fresh keys; a crash after it
//! leaves everything.
//!
//! An identity that is succeeded by another ([`Home::succeed_identity`]) is replaced in one step, too:
//!
//! 1. A copy of it is made, as above, and takes the name `identity.previous`. If an older one has that
//!    name, the two change places, and the older one goes: the overlap in which its key meant
//!    something is the one before the last. The copy has no next key: that one becomes the identity
//!    of today, perhaps sealed from then on, and must not lie there in the clear.
//! 2. The new identity is made, as above, under a temporary name.
//! 3. It changes places with `identity` (`renameat2` with `RENAME_EXCHANGE`), so at every moment there
//!    is an identity, the old one or the new one.
//! 4. What has the temporary name now, of which step 1 made the copy, is removed.
//!
//! A crash before step 3 leaves the old identity in force, perhaps with a copy of it beside it; a
//! crash after it, the new one, and the old one as `identity.previous`.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::atomic;
use crate::check;
use crate::disk::{Access, DiskFile};
use crate::error::StoreError;
use crate::home::{Home, HomeFile};
use crate::lock::HomeLock;
use crate::peers::ATTEMPTS;

/// The files that make an identity. Their format is that of the crates that made them.
#[derive(Clone)]
pub struct IdentityFiles {
    /// The identity key, plain or sealed.
    pub key: Zeroizing<Vec<u8>>,
    /// The root certificate of the identity key.
    pub certificate: Vec<u8>,
    /// The next identity key, unless it was taken offline.
    pub next_key: Option<Zeroizing<Vec<u8>>>,
    /// The statements by which it succeeded others; none for a first identity.
    pub succession: Option<Vec<u8>>,
}

/// An identity, and whether this call made it.
#[derive(Clone)]
pub struct Established {
    /// The identity that the home has now.
    pub files: IdentityFiles,
    /// `false` if it was there before, or if another process was faster.
    pub created: bool,
}

impl Home {
    /// The identity of this home, if it has one.
    ///
    /// # Errors
    /// When a file of it cannot be relied upon (see [`Home::read`]) or half of it is missing, which
    /// no crash of ours can cause.
    pub fn identity(&self) -> Result<Option<IdentityFiles>, StoreError> {
        self.read_identity(&self.identity_directory())
    }

    /// The identity that was in force before the last [`Home::succeed_identity`], without the key that
    /// followed it.
    ///
    /// # Errors
    /// As [`Home::identity`].
    pub fn previous_identity(&self) -> Result<Option<IdentityFiles>, StoreError> {
        self.read_identity(&self.previous_directory())
    }

    /// Replaces the identity by the one that `make` makes from it. When this returns, that is
    /// durable, and what it replaced is [`Home::previous_identity`]; the identity before that one
    /// is gone. Processes that run go on with the identity that they have loaded.
    ///
    /// `make` runs under the home's lock, so of two at once the second works from what the first
    /// has made: whatever asks a person for a passphrase comes before.
    ///
    /// # Errors
    /// What `make` says; [`StoreError::Missing`] if there is no identity; or when the files cannot
    /// be written, as where the file system cannot let two names change places. The old identity
    /// is in force then, unless synchronising the last step failed: then it is one of the two.
    pub fn succeed_identity<E: From<StoreError>>(
        &self,
        make: impl FnOnce(&IdentityFiles) -> Result<IdentityFiles, E>,
    ) -> Result<IdentityFiles, E> {
        let lock = self.lock()?;
        let before = self.identity()?.ok_or_else(|| StoreError::Missing {
            path: self.identity_directory(),
        })?;
        let after = make(&before)?;
        self.keep_identity(&lock, &before)?;
        self.swap_identity(&lock, &after)?;
        Ok(after)
    }

    /// The identity of this home; if it has none, the one that `make` makes. An existing identity is
    /// never changed. Of several processes at once, one makes it, and the others return that one.
    ///
    /// `make` runs under the home's lock: whatever asks a person for a passphrase comes before.
    ///
    /// # Errors
    /// What `make` says, or when the files cannot be written; then nothing was made.
    pub fn establish_identity<E: From<StoreError>>(
        &self,
        make: impl FnOnce() -> Result<IdentityFiles, E>,
    ) -> Result<Established, E> {
        if let Some(files) = self.identity()? {
            return Ok(Established {
                files,
                created: false,
            });
        }
        let lock = self.lock()?;
        if let Some(files) = self.identity()? {
            return Ok(Established {
                files,
                created: false,
            });
        }
        let files = make()?;
        self.install_identity(&lock, &files)?;
        Ok(Established {
            files,
            created: true,
        })
    }

    pub(crate) fn identity_directory(&self) -> PathBuf {
        // Part of `HomeFile::name`.
        self.root().join("identity")
    }

    fn previous_directory(&self) -> PathBuf {
        self.root().join("identity.previous")
    }

    /// Reads the files of a directory as they belong together: if another process exchanges it
    /// meanwhile, they are read again.
    fn read_identity(&self, directory: &Path) -> Result<Option<IdentityFiles>, StoreError> {
        let Some(mut before) = self.look_at_directory(directory)? else {
            return Ok(None);
        };
        for _ in 0..ATTEMPTS {
            let files = self.read_files(directory);
            let now = self.look_at_directory(directory)?;
            if now == Some(before) {
                return files.map(Some);
            }
            let path = directory.to_owned();
            before = now.ok_or(StoreError::Missing { path })?;
        }
        let path = directory.to_owned();
        Err(StoreError::Edited { path })
    }

    /// Which directory it is.
    fn look_at_directory(&self, directory: &Path) -> Result<Option<(u64, u64)>, StoreError> {
        match self.disk().lstat(directory) {
            Ok(stat) => {
                check::directory(directory, &stat, self.disk().user())?;
                Ok(Some((stat.device, stat.inode)))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("look at", directory)(error)),
        }
    }

    fn read_files(&self, directory: &Path) -> Result<IdentityFiles, StoreError> {
        let read = |file: HomeFile| {
            let found = self.read_in(directory, file)?;
            Ok::<_, StoreError>(found.map(|content| content.bytes))
        };
        let require = |file: HomeFile| {
            read(file)?.ok_or_else(|| StoreError::Missing {
                path: directory.join(file.base_name()),
            })
        };
        Ok(IdentityFiles {
            key: require(HomeFile::IdentityKey)?,
            certificate: require(HomeFile::IdentityCertificate)?.to_vec(),
            next_key: read(HomeFile::NextKey)?,
            succession: read(HomeFile::Succession)?.map(|bytes| bytes.to_vec()),
        })
    }

    /// Makes `identity.previous` a copy of what is in force, without its next key.
    fn keep_identity(&self, lock: &HomeLock, files: &IdentityFiles) -> Result<(), StoreError> {
        let previous = self.previous_directory();
        let older = self.look_at_directory(&previous)?.is_some();
        let kept = IdentityFiles {
            next_key: None,
            ..files.clone()
        };
        self.make_identity(&kept, |temporary| {
            lock.check(self.disk())?;
            if older {
                self.disk().exchange(temporary, &previous)
            } else {
                self.disk().rename(temporary, &previous)
            }
            .map_err(StoreError::io("replace", &previous))
        })
    }

    /// Puts a new identity in the place of the one in force.
    fn swap_identity(&self, lock: &HomeLock, files: &IdentityFiles) -> Result<(), StoreError> {
        let directory = self.identity_directory();
        self.make_identity(files, |temporary| {
            lock.check(self.disk())?;
            self.disk()
                .exchange(temporary, &directory)
                .map_err(StoreError::io("replace", &directory))
        })
    }

    fn install_identity(&self, lock: &HomeLock, files: &IdentityFiles) -> Result<(), StoreError> {
        let directory = self.identity_directory();
        self.make_identity(files, |temporary| {
            lock.check(self.disk())?;
            self.disk()
                .rename(temporary, &directory)
                .map_err(StoreError::io("install", &directory))
        })
    }

    /// Makes a directory with these files under a temporary name, lets `install` give it its own,
    /// and makes that durable. Whatever has the temporary name afterwards goes.
    fn make_identity(
        &self,
        files: &IdentityFiles,
        install: impl FnOnce(&Path) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let disk = self.disk();
        let temporary = atomic::temporary_name(self.root())?;
        disk.make_dir(&temporary)
            .map_err(StoreError::io("make", &temporary))?;
        let installed = self
            .fill(&temporary, files)
            .and_then(|()| install(&temporary))
            .and_then(|()| atomic::sync_directory(disk, self.root()));
        if disk.lstat(&temporary).is_ok() {
            atomic::remove_tree(disk, &temporary);
        }
        installed
    }

    fn fill(&self, temporary: &Path, files: &IdentityFiles) -> Result<(), StoreError> {
        let disk = self.disk();
        let handle: Box<dyn DiskFile> = disk
            .open(temporary, Access::Directory)
            .map_err(StoreError::io("open", temporary))?;
        handle
            .set_mode(0o700)
            .map_err(StoreError::io("set the mode of", temporary))?;
        let contents = [
            (HomeFile::IdentityKey, Some(files.key.as_slice())),
            (HomeFile::IdentityCertificate, Some(&files.certificate)),
            (
                HomeFile::NextKey,
                files.next_key.as_ref().map(|k| k.as_slice()),
            ),
            (HomeFile::Succession, files.succession.as_deref()),
        ];
        for (file, content) in contents {
            if let Some(content) = content {
                atomic::write_new(disk, &temporary.join(file.base_name()), content)?;
            }
        }
        handle
            .sync()
            .map_err(StoreError::io("synchronise", temporary))
    }
}
