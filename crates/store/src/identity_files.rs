//! The identity of a node, made in one step.
//!
//! A key without its certificate is useless, and a certificate without its key is worse: it looks
//! like an identity. So the files are written into a temporary directory, each synchronised, then
//! the directory, and then one rename gives it the name `identity`. A crash before that leaves
//! nothing that anybody reads, and the next attempt starts over with fresh keys; a crash after it
//! leaves everything.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::atomic;
use crate::check;
use crate::disk::{Access, DiskFile};
use crate::error::StoreError;
use crate::home::{Home, HomeFile};
use crate::lock::HomeLock;

/// The files that make an identity. Their format is that of the crates that made them.
#[derive(Clone)]
pub struct IdentityFiles {
    /// The identity key, plain or sealed.
    pub key: Zeroizing<Vec<u8>>,
    /// The root certificate of the identity key.
    pub certificate: Vec<u8>,
    /// The next identity key, unless it was taken offline.
    pub next_key: Option<Zeroizing<Vec<u8>>>,
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
        let directory = self.identity_directory();
        match self.disk().lstat(&directory) {
            Ok(stat) => check::directory(&directory, &stat, self.disk().user())?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("look at", &directory)(error)),
        }
        let key = self.require(HomeFile::IdentityKey)?;
        let certificate = self.require(HomeFile::IdentityCertificate)?;
        let next_key = self.read(HomeFile::NextKey)?.map(|content| content.bytes);
        Ok(Some(IdentityFiles {
            key,
            certificate: certificate.to_vec(),
            next_key,
        }))
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

    fn install_identity(&self, lock: &HomeLock, files: &IdentityFiles) -> Result<(), StoreError> {
        let disk = self.disk();
        let temporary = atomic::temporary_name(self.root())?;
        disk.make_dir(&temporary)
            .map_err(StoreError::io("make", &temporary))?;
        let installed = self.fill(&temporary, files).and_then(|()| {
            let directory = self.identity_directory();
            lock.check(disk)?;
            disk.rename(&temporary, &directory)
                .map_err(StoreError::io("install", &directory))
        });
        if let Err(error) = installed {
            atomic::remove_tree(disk, &temporary);
            return Err(error);
        }
        atomic::sync_directory(disk, self.root())
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
        ];
        for (file, content) in contents {
            if let (Some(content), Some(name)) = (content, self.path(file).file_name()) {
                atomic::write_new(disk, &temporary.join(name), content)?;
            }
        }
        handle
            .sync()
            .map_err(StoreError::io("synchronise", temporary))
    }

    fn require(&self, file: HomeFile) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        match self.read(file)? {
            Some(content) => Ok(content.bytes),
            None => Err(StoreError::Missing {
                path: self.path(file),
            }),
        }
    }
}
