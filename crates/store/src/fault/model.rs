//! A disk in memory that can lose power.
//!
//! What a file system promises after a power loss is little: the content of a file as of its last
//! `fsync`, and the names in a directory as of the last `fsync` of that directory. Anything newer
//! may or may not be there. The model keeps both: what programs see, and what is certain; and from
//! any moment it makes every disk that the next start might find:
//!
//! - of the changes to a directory since its last `fsync`, any subset (a rename happens completely or
//!   not at all, as on every journalling file system);
//! - of the content of a file since its last `fsync`, nothing, the first half, or everything;
//! - of a file that is written in place: of the writes since its last `fsync` none, all, every
//!   second one, or the others.
//!
//! Real file systems keep more order than this. A write that survives here survives there.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::disk::{Access, Disk, DiskFile, Kind, Stat};

/// A disk in memory; clones are the same disk.
#[derive(Clone, Debug)]
pub struct ModelDisk(Arc<Mutex<State>>);

#[derive(Clone, Debug)]
struct State {
    nodes: Vec<Node>,
    /// Ticks with every change, so that every change has its own time.
    clock: u64,
    /// What the monotonic clock always says: time passes only by [`crate::fault::FaultDisk::pass`].
    started: Instant,
    locked: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Node {
    mode: u32,
    modified: u64,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    File {
        content: Vec<u8>,
        certain: Vec<u8>,
        /// What was done in place since `certain`; such a file is not only appended to.
        in_place: Vec<InPlace>,
    },
    Directory {
        names: Names,
        certain: Names,
        /// Each entry is one change that happens completely or not at all.
        uncertain: Vec<Vec<(OsString, Option<usize>)>>,
    },
}

#[derive(Clone, Debug)]
enum InPlace {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl InPlace {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => {
                let end = offset + bytes.len();
                // A length that got lost: the write, which came later, did not.
                content.resize(content.len().max(end), 0);
                content[*offset..end].copy_from_slice(bytes);
            }
            Self::Length(length) => content.resize(*length, 0),
        }
    }
}

type Names = BTreeMap<OsString, usize>;

const ROOT: usize = 0;

/// 2026-03-01T00:00:00Z: when the model's clock starts.
const EPOCH: u64 = 1_772_323_200;

impl Default for ModelDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl ModelDisk {
    /// A disk with nothing but its root directory.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            nodes: vec![Node::directory(0o755)],
            clock: 0,
            started: Instant::now(),
            locked: Vec::new(),
        })))
    }

    /// Every disk that may be found when the power goes now.
    pub fn after_power_loss(&self) -> Vec<Self> {
        let state = self.state();
        let mut found = vec![State {
            locked: Vec::new(),
            ..state.clone()
        }];
        for index in 0..state.nodes.len() {
            let choices = state.nodes[index].body.survivors();
            found = found
                .into_iter()
                .flat_map(|disk| {
                    choices.iter().map(move |body| {
                        let mut disk = disk.clone();
                        disk.nodes[index].body = body.clone();
                        disk
                    })
                })
                .collect();
        }
        found
            .into_iter()
            .map(|state| Self(Arc::new(Mutex::new(state))))
            .collect()
    }

    /// The content of a file, if it is there.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let node = state.find(path).ok()?;
        match &state.nodes[node].body {
            Body::File { content, .. } => Some(content.clone()),
            Body::Directory { .. } => None,
        }
    }

    /// Puts a file in place, durable, as an editor would.
    pub fn put(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let modified = state.tick();
        let (directory, name) = state.place(path)?;
        state.nodes.push(Node {
            mode: 0o600,
            modified,
            body: Body::File {
                content: content.to_vec(),
                certain: content.to_vec(),
                in_place: Vec::new(),
            },
        });
        let node = state.nodes.len() - 1;
        state.rename_in(directory, vec![(name, Some(node))])?;
        state.make_certain(directory);
        Ok(())
    }

    /// Overwrites a file in place and in the tick of the clock in which it was written last, so that
    /// it looks the same if the length is the same.
    pub fn overwrite_unseen(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let node = state.find(path)?;
        let Body::File {
            content: old,
            certain,
            ..
        } = &mut state.nodes[node].body
        else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        *old = content.to_vec();
        *certain = content.to_vec();
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    fn directory(mode: u32) -> Self {
        Self {
            mode,
            modified: 0,
            body: Body::Directory {
                names: Names::new(),
                certain: Names::new(),
                uncertain: Vec::new(),
            },
        }
    }
}

impl Body {
    fn durable(content: Vec<u8>) -> Self {
        Self::File {
            certain: content.clone(),
            content,
            in_place: Vec::new(),
        }
    }

    /// What may be left of it after a power loss.
    fn survivors(&self) -> Vec<Self> {
        match self {
            Self::File {
                certain, in_place, ..
            } if !in_place.is_empty() => {
                let some = |kept: fn(usize) -> bool| {
                    let mut content = certain.clone();
                    let all = in_place.iter().enumerate();
                    all.filter(|(number, _)| kept(*number))
                        .for_each(|(_, change)| change.apply(&mut content));
                    Self::durable(content)
                };
                vec![
                    Self::durable(certain.clone()),
                    some(|number| number % 2 == 0),
                    some(|number| number % 2 == 1),
                    some(|_| true),
                ]
            }
            Self::File {
                content, certain, ..
            } => {
                let half = match content.strip_prefix(certain.as_slice()) {
                    Some(added) => [certain, &added[..added.len() / 2]].concat(),
                    None => content[..content.len() / 2].to_vec(),
                };
                let mut states = vec![certain.clone(), half, content.clone()];
                states.dedup();
                states.into_iter().map(Self::durable).collect()
            }
            Self::Directory {
                certain, uncertain, ..
            } => (0_u32..1 << uncertain.len())
                .map(|subset| {
                    let mut names = certain.clone();
                    for (number, change) in uncertain.iter().enumerate() {
                        if subset >> number & 1 == 1 {
                            apply(&mut names, change);
                        }
                    }
                    Self::Directory {
                        certain: names.clone(),
                        names,
                        uncertain: Vec::new(),
                    }
                })
                .collect(),
        }
    }
}

fn apply(names: &mut Names, change: &[(OsString, Option<usize>)]) {
    for (name, node) in change {
        match node {
            Some(node) => {
                names.insert(name.clone(), *node);
            }
            None => {
                names.remove(name);
            }
        }
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut node = ROOT;
        for component in path.iter().filter(|c| *c != OsStr::new("/")) {
            let Body::Directory { names, .. } = &self.nodes[node].body else {
                return Err(io::ErrorKind::NotADirectory.into());
            };
            node = *names.get(component).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    /// The directory of a path, and the name in it.
    fn place(&self, path: &Path) -> io::Result<(usize, OsString)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        Ok((self.find(parent)?, name.to_owned()))
    }

    fn rename_in(
        &mut self,
        directory: usize,
        change: Vec<(OsString, Option<usize>)>,
    ) -> io::Result<()> {
        let modified = self.tick();
        self.nodes[directory].modified = modified;
        let Body::Directory {
            names, uncertain, ..
        } = &mut self.nodes[directory].body
        else {
            return Err(io::ErrorKind::NotADirectory.into());
        };
        apply(names, &change);
        uncertain.push(change);
        Ok(())
    }

    fn make_certain(&mut self, node: usize) {
        match &mut self.nodes[node].body {
            Body::File {
                content,
                certain,
                in_place,
            } => {
                certain.clone_from(content);
                in_place.clear();
            }
            Body::Directory {
                names,
                certain,
                uncertain,
            } => {
                certain.clone_from(names);
                uncertain.clear();
            }
        }
    }

    fn stat(&self, node: usize) -> Stat {
        let links = self
            .nodes
            .iter()
            .filter_map(|n| match &n.body {
                Body::Directory { names, .. } => Some(names),
                Body::File { .. } => None,
            })
            .flat_map(Names::values)
            .filter(|&&n| n == node)
            .count();
        let Node {
            mode,
            modified,
            body,
        } = &self.nodes[node];
        let time = i128::from(EPOCH) * 1_000_000_000 + i128::from(*modified);
        let (kind, size) = match body {
            Body::File { content, .. } => (Kind::File, content.len() as u64),
            Body::Directory { .. } => (Kind::Directory, 0),
        };
        Stat {
            kind,
            mode: *mode,
            owner: 0,
            links: links as u64,
            size,
            device: 1,
            inode: node as u64,
            modified: time,
            changed: time,
        }
    }

    fn create(&mut self, path: &Path) -> io::Result<usize> {
        let (directory, name) = self.place(path)?;
        let modified = self.tick();
        self.nodes.push(Node {
            mode: 0o600,
            modified,
            body: Body::File {
                content: Vec::new(),
                certain: Vec::new(),
                in_place: Vec::new(),
            },
        });
        let node = self.nodes.len() - 1;
        self.rename_in(directory, vec![(name, Some(node))])?;
        Ok(node)
    }
}

impl Disk for ModelDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        let node = match (state.find(path), access) {
            (Ok(_), Access::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Ok(node), _) => node,
            (Err(error), Access::CreateNew | Access::Append)
                if error.kind() == io::ErrorKind::NotFound =>
            {
                state.create(path)?
            }
            (Err(error), _) => return Err(error),
        };
        Ok(Box::new(ModelFile {
            disk: self.clone(),
            node,
            holds_lock: false.into(),
        }))
    }

    fn lstat(&self, path: &Path) -> io::Result<Stat> {
        let state = self.state();
        state.find(path).map(|node| state.stat(node))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let state = self.state();
        let node = state.find(directory)?;
        match &state.nodes[node].body {
            Body::Directory { names, .. } => Ok(names.keys().cloned().collect()),
            Body::File { .. } => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (directory, name) = state.place(path)?;
        state.nodes.push(Node::directory(0o700));
        let node = state.nodes.len() - 1;
        state.rename_in(directory, vec![(name, Some(node))])
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let node = state.find(from)?;
        let (directory, old_name) = state.place(from)?;
        let (target, new_name) = state.place(to)?;
        assert_eq!(directory, target, "the store renames within a directory");
        if let Ok(existing) = state.find(to) {
            if existing == node {
                // Two names of one file: both stay.
                return Ok(());
            }
            if let Body::Directory { names, .. } = &state.nodes[existing].body
                && !names.is_empty()
            {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
        }
        state.rename_in(directory, vec![(old_name, None), (new_name, Some(node))])
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        let mut state = self.state();
        let (first, second) = (state.find(one)?, state.find(other)?);
        let (directory, name) = state.place(one)?;
        let (target, other_name) = state.place(other)?;
        assert_eq!(directory, target, "the store exchanges within a directory");
        let change = vec![(name, Some(second)), (other_name, Some(first))];
        state.rename_in(directory, change)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let node = state.find(from)?;
        if state.find(to).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (directory, name) = state.place(to)?;
        state.rename_in(directory, vec![(name, Some(node))])
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.find(path)?;
        let (directory, name) = state.place(path)?;
        state.rename_in(directory, vec![(name, None)])
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        if !self.list(path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.unlink(path)
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.lstat(path).map(|_| path.to_owned())
    }

    fn user(&self) -> u32 {
        0
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
            + Duration::from_secs(EPOCH)
            + Duration::from_nanos(self.state().clock)
    }

    fn monotonic(&self) -> Instant {
        self.state().started
    }

    fn pause(&self, _duration: Duration) {}
}

#[derive(Debug)]
struct ModelFile {
    disk: ModelDisk,
    node: usize,
    holds_lock: std::sync::atomic::AtomicBool,
}

impl DiskFile for ModelFile {
    fn stat(&self) -> io::Result<Stat> {
        Ok(self.disk.state().stat(self.node))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let Body::File { content, .. } = &state.nodes[self.node].body else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        let start = usize::try_from(offset).map_or(content.len(), |o| o.min(content.len()));
        let count = buffer.len().min(content.len() - start);
        buffer[..count].copy_from_slice(&content[start..start + count]);
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        let modified = state.tick();
        let node = &mut state.nodes[self.node];
        node.modified = modified;
        let Body::File { content, .. } = &mut node.body else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        content.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.change_in_place(InPlace::Write(offset, bytes.to_vec()))
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.change_in_place(InPlace::Length(length))
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.state().make_certain(self.node);
        Ok(())
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.disk.state().nodes[self.node].mode = mode;
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.disk.state();
        if state.locked.contains(&self.node) {
            return Ok(false);
        }
        state.locked.push(self.node);
        self.holds_lock
            .store(true, std::sync::atomic::Ordering::Relaxed);
        Ok(true)
    }
}

impl ModelFile {
    fn change_in_place(&self, change: InPlace) -> io::Result<()> {
        let mut state = self.disk.state();
        let modified = state.tick();
        let node = &mut state.nodes[self.node];
        node.modified = modified;
        let Body::File {
            content, in_place, ..
        } = &mut node.body
        else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        change.apply(content);
        in_place.push(change);
        Ok(())
    }
}

impl Drop for ModelFile {
    fn drop(&mut self) {
        if *self.holds_lock.get_mut() {
            let node = self.node;
            self.disk.state().locked.retain(|&held| held != node);
        }
    }
}
