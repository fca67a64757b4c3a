//! A disk that counts the calls that go through it, and stops or fails at a chosen one.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::disk::{Access, Disk, DiskFile, Stat};

/// What a disk is asked to do, for choosing where to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// [`Disk::open`].
    Open(Access),
    /// [`Disk::lstat`] or [`DiskFile::stat`].
    Stat,
    /// [`Disk::list`].
    List,
    /// [`Disk::make_dir`].
    MakeDir,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::exchange`].
    Exchange,
    /// [`Disk::hard_link`].
    HardLink,
    /// [`Disk::unlink`].
    Unlink,
    /// [`Disk::remove_dir`].
    RemoveDir,
    /// [`DiskFile::read_at`].
    Read,
    /// [`DiskFile::write`].
    Write,
    /// [`DiskFile::write_at`].
    WriteAt,
    /// [`DiskFile::set_length`].
    SetLength,
    /// [`DiskFile::sync`].
    Sync,
    /// [`DiskFile::set_mode`].
    SetMode,
    /// [`DiskFile::try_lock`].
    Lock,
}

impl Call {
    /// Whether a read-only file system refuses it.
    pub fn changes(self) -> bool {
        matches!(
            self,
            Self::Open(Access::CreateNew | Access::Append | Access::Modify)
                | Self::MakeDir
                | Self::Rename
                | Self::Exchange
                | Self::HardLink
                | Self::Unlink
                | Self::RemoveDir
                | Self::Write
                | Self::WriteAt
                | Self::SetLength
                | Self::SetMode
        )
    }

    /// Whether a full file system refuses it.
    pub fn takes_space(self) -> bool {
        matches!(
            self,
            Self::Open(Access::CreateNew)
                | Self::MakeDir
                | Self::HardLink
                | Self::Write
                | Self::WriteAt
                | Self::SetLength
        )
    }
}

/// What happens at a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It works.
    None,
    /// The process dies: this call and all later ones do nothing. Of a write, the first half is done.
    Stop,
    /// The call says that it worked and does nothing, like a disk that lies about `fsync`. Only for
    /// [`Call::Sync`].
    Skip,
    /// This call fails with an error number. Of a write, the first half is done.
    Error(i32),
    /// The process really dies, without unwinding. Of a write, the first half is done.
    Abort,
}

type Plan = Box<dyn Fn(usize, Call) -> Fault + Send + Sync>;

/// A disk whose calls are numbered from 0; a plan says which of them fail, and how.
#[derive(Clone)]
pub struct FaultDisk {
    disk: Arc<dyn Disk>,
    user: u32,
    shared: Arc<Shared>,
}

struct Shared {
    progress: Mutex<Progress>,
}

struct Progress {
    plan: Plan,
    calls: Vec<Call>,
    stopped: bool,
    paused: Duration,
    passed: Duration,
}

impl FaultDisk {
    /// A disk that works until it is told otherwise.
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            user: disk.user(),
            disk,
            shared: Arc::new(Shared {
                progress: Mutex::new(Progress {
                    plan: Box::new(|_, _| Fault::None),
                    calls: Vec::new(),
                    stopped: false,
                    paused: Duration::ZERO,
                    passed: Duration::ZERO,
                }),
            }),
        }
    }

    /// Lets the store believe that it runs as another user.
    #[must_use]
    pub fn running_as(self, user: u32) -> Self {
        Self { user, ..self }
    }

    /// Lets time pass, for whoever measures it.
    pub fn pass(&self, time: Duration) {
        self.shared.progress().passed += time;
    }

    /// From now on, follows `plan`, which is given each call and its number. The next call has number 0.
    pub fn follow(&self, plan: impl Fn(usize, Call) -> Fault + Send + Sync + 'static) {
        let mut progress = self.shared.progress();
        progress.plan = Box::new(plan);
        progress.calls.clear();
        progress.stopped = false;
    }

    /// From now on, applies `fault` at call number `step`, where the next call has number 0.
    pub fn fault_at(&self, step: usize, fault: Fault) {
        self.follow(move |number, _| if number == step { fault } else { Fault::None });
    }

    /// From now on, only counts.
    pub fn heal(&self) {
        self.follow(|_, _| Fault::None);
    }

    /// The calls since the plan was last set.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.progress().calls.clone()
    }

    /// How long the store would have waited.
    pub fn paused(&self) -> Duration {
        self.shared.progress().paused
    }

    fn step(&self, call: Call) -> io::Result<()> {
        self.shared.step(call)
    }
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, call: Call) -> Fault {
        let mut progress = self.progress();
        if progress.stopped {
            return Fault::Stop;
        }
        let fault = (progress.plan)(progress.calls.len(), call);
        progress.calls.push(call);
        progress.stopped = fault == Fault::Stop;
        fault
    }

    fn step(&self, call: Call) -> io::Result<()> {
        match self.next(call) {
            Fault::None => Ok(()),
            fault => Err(fail(fault)),
        }
    }

    /// Of the call at which the process dies, half is done; of those that follow, nothing.
    fn alive(&self) -> io::Result<()> {
        if self.progress().stopped {
            return Err(fail(Fault::Stop));
        }
        Ok(())
    }
}

fn fail(fault: Fault) -> io::Error {
    match fault {
        Fault::Error(number) => io::Error::from_raw_os_error(number),
        Fault::Abort => std::process::abort(),
        Fault::None | Fault::Skip | Fault::Stop => io::Error::other("the process has stopped"),
    }
}

impl fmt::Debug for FaultDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultDisk({} calls)", self.shared.progress().calls.len())
    }
}

impl Disk for FaultDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        self.step(Call::Open(access))?;
        Ok(Box::new(FaultFile {
            file: self.disk.open(path, access)?,
            shared: Arc::clone(&self.shared),
        }))
    }

    fn lstat(&self, path: &Path) -> io::Result<Stat> {
        self.step(Call::Stat)?;
        self.disk.lstat(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        self.step(Call::List)?;
        self.disk.list(directory)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.step(Call::MakeDir)?;
        self.disk.make_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(Call::Rename)?;
        self.disk.rename(from, to)
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.step(Call::Exchange)?;
        self.disk.exchange(one, other)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(Call::HardLink)?;
        self.disk.hard_link(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.step(Call::Unlink)?;
        self.disk.unlink(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.step(Call::RemoveDir)?;
        self.disk.remove_dir(path)
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.disk.canonicalize(path)
    }

    fn user(&self) -> u32 {
        self.user
    }

    fn now(&self) -> SystemTime {
        self.disk.now()
    }

    fn monotonic(&self) -> Instant {
        self.disk.monotonic() + self.shared.progress().passed
    }

    fn pause(&self, duration: Duration) {
        self.shared.progress().paused += duration;
    }
}

struct FaultFile {
    file: Box<dyn DiskFile>,
    shared: Arc<Shared>,
}

impl fmt::Debug for FaultFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl DiskFile for FaultFile {
    fn stat(&self) -> io::Result<Stat> {
        self.shared.step(Call::Stat)?;
        self.file.stat()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.shared.step(Call::Read)?;
        self.file.read_at(buffer, offset)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.shared.alive()?;
        match self.shared.next(Call::Write) {
            Fault::None => self.file.write(bytes),
            fault => {
                self.file.write(&bytes[..bytes.len() / 2])?;
                Err(fail(fault))
            }
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.shared.alive()?;
        match self.shared.next(Call::WriteAt) {
            Fault::None => self.file.write_at(bytes, offset),
            fault => {
                self.file.write_at(&bytes[..bytes.len() / 2], offset)?;
                Err(fail(fault))
            }
        }
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.shared.step(Call::SetLength)?;
        self.file.set_length(length)
    }

    fn sync(&self) -> io::Result<()> {
        match self.shared.next(Call::Sync) {
            Fault::None => self.file.sync(),
            Fault::Skip => Ok(()),
            fault => Err(fail(fault)),
        }
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.shared.step(Call::SetMode)?;
        self.file.set_mode(mode)
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.shared.step(Call::Lock)?;
        self.file.try_lock()
    }
}
