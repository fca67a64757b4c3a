//! Every system call that a write makes, behind one trait.
//!
//! A crash-safe write is a matter of which call comes before which, so tests must be able to stop
//! between any two of them. Production code has one implementation, [`OsDisk`]; the tests' disks
//! count the calls, fail at a chosen one, or forget what was not yet synchronised.
//!
//! Paths are whole paths rather than names below an open directory: [`crate::Home`] has checked
//! that nobody but us (and root) can change a directory on the way to our files, so there is no
//! one to swap a component between two calls.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::libc;

/// The calls that the store makes. Methods named like a system call behave like it.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens one file or directory. A symbolic link as the last component is an error, nothing
    /// blocks (a FIFO opens at once) and no child process inherits the handle.
    ///
    /// # Errors
    /// What the system call says.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>>;

    /// What is at `path`, without following a link.
    ///
    /// # Errors
    /// What the system call says.
    fn lstat(&self, path: &Path) -> io::Result<Stat>;

    /// The names in a directory, in no order.
    ///
    /// # Errors
    /// What the system call says.
    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>>;

    /// Makes a directory of mode 0700 (or less, by the umask).
    ///
    /// # Errors
    /// What the system call says.
    fn make_dir(&self, path: &Path) -> io::Result<()>;

    /// Renames within one file system, replacing a file atomically.
    ///
    /// # Errors
    /// What the system call says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Lets two names of one directory change places, in one step (`renameat2` with
    /// `RENAME_EXCHANGE`).
    ///
    /// # Errors
    /// What the system call says: `EINVAL` or `ENOSYS` where the file system cannot do it.
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()>;

    /// Gives the file at `from` a second name.
    ///
    /// # Errors
    /// What the system call says.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a name of a file.
    ///
    /// # Errors
    /// What the system call says.
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// What the system call says.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// The path without links and dots.
    ///
    /// # Errors
    /// What the system call says.
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf>;

    /// The effective user: the one that files must belong to.
    fn user(&self) -> u32;

    /// Wall time, for the log.
    fn now(&self) -> SystemTime;

    /// Time that nobody sets, for measuring how long something was so.
    fn monotonic(&self) -> Instant;

    /// Waits before a lock is tried again. Tests only count.
    fn pause(&self, duration: Duration);
}

/// An open file or directory; dropping it closes it and releases its lock.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// What this handle refers to, whatever happened to its name since.
    ///
    /// # Errors
    /// What the system call says.
    fn stat(&self) -> io::Result<Stat>;

    /// Reads at an offset; 0 is the end of the file.
    ///
    /// # Errors
    /// What the system call says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes some of `bytes` at the end.
    ///
    /// # Errors
    /// What the system call says.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at an offset, for the one file that is changed in place: a database,
    /// which does so in an order of its own.
    ///
    /// # Errors
    /// What the system call says. Some of the bytes may have been written then.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file off, or lengthens it with zeros.
    ///
    /// # Errors
    /// What the system call says.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Makes content (of a file) or names (of a directory) survive a power loss.
    ///
    /// # Errors
    /// What the system call says.
    fn sync(&self) -> io::Result<()>;

    /// Sets the permission bits, whatever the umask.
    ///
    /// # Errors
    /// What the system call says.
    fn set_mode(&self, mode: u32) -> io::Result<()>;

    /// Takes the exclusive advisory lock (`flock`); `false` if another handle has it.
    ///
    /// # Errors
    /// What the system call says.
    fn try_lock(&self) -> io::Result<bool>;
}

/// How to open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// For reading only.
    Read,
    /// A directory, to look at it or to synchronise its names.
    Directory,
    /// For reading and for writing at the end; made with mode 0600 if it is not there.
    Append,
    /// A new file of mode 0600 (or less, by the umask); an error if the name is taken.
    CreateNew,
    /// An existing file, for reading and for writing anywhere in it.
    Modify,
}

/// What is known about a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// What kind of file.
    pub kind: Kind,
    /// The permission bits, with sticky, setuid and setgid (`mode & 0o7777`).
    pub mode: u32,
    /// The owner.
    pub owner: u32,
    /// How many names it has.
    pub links: u64,
    /// Bytes.
    pub size: u64,
    /// With `inode`, which file.
    pub device: u64,
    /// With `device`, which file.
    pub inode: u64,
    /// When its content last changed, in nanoseconds since 1970.
    pub modified: i128,
    /// When its content or its inode last changed, in nanoseconds since 1970.
    pub changed: i128,
}

/// The kinds of file that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe, which would block a reader or feed it from elsewhere.
    Fifo,
    /// A socket or a device.
    Other,
}

/// The disk of this machine.
#[derive(Clone, Copy, Default, Debug)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        // std opens everything with O_CLOEXEC.
        let mut flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        let mut options = OpenOptions::new();
        match access {
            Access::Read => options.read(true),
            Access::Directory => {
                flags |= libc::O_DIRECTORY;
                options.read(true)
            }
            Access::Append => options.read(true).append(true).create(true),
            Access::CreateNew => options.read(true).write(true).create_new(true),
            Access::Modify => options.read(true).write(true),
        };
        let file = options.custom_flags(flags).mode(0o600).open(path)?;
        Ok(Box::new(file))
    }

    fn lstat(&self, path: &Path) -> io::Result<Stat> {
        fs::symlink_metadata(path).map(|m| Stat::from(&m))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(directory)?
            .map(|entry| entry.map(|e| e.file_name()))
            .collect()
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        let flags = RenameFlags::RENAME_EXCHANGE;
        Ok(renameat2(AT_FDCWD, one, AT_FDCWD, other, flags)?)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }

    fn user(&self) -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }

    fn pause(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

impl DiskFile for File {
    fn stat(&self) -> io::Result<Stat> {
        self.metadata().map(|m| Stat::from(&m))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(self, bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.set_permissions(fs::Permissions::from_mode(mode))
    }

    fn try_lock(&self) -> io::Result<bool> {
        match File::try_lock(self) {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl From<&fs::Metadata> for Stat {
    fn from(metadata: &fs::Metadata) -> Self {
        let kind = metadata.file_type();
        Self {
            kind: if kind.is_file() {
                Kind::File
            } else if kind.is_dir() {
                Kind::Directory
            } else if kind.is_symlink() {
                Kind::Symlink
            } else if kind.is_fifo() {
                Kind::Fifo
            } else {
                Kind::Other
            },
            mode: metadata.mode() & 0o7777,
            owner: metadata.uid(),
            links: metadata.nlink(),
            size: metadata.size(),
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

fn nanoseconds(seconds: i64, fraction: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(fraction)
}
