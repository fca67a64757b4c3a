//! Whether a file has changed since it was read, without reading it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::disk::{Disk, Stat};

/// File times advance in ticks of up to some milliseconds (two seconds on old file systems), and
/// inode numbers are reused at once. A file that changed this shortly before it was read may change
/// again and look the same, so its stamp proves nothing.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// What a file looked like when it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    looks: Option<Looks>,
    settled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Looks {
    device: u64,
    inode: u64,
    size: u64,
    modified: i128,
    changed: i128,
    mode: u32,
    owner: u32,
}

impl Stamp {
    /// There was no file.
    pub(crate) const fn absent() -> Self {
        Self {
            looks: None,
            settled: true,
        }
    }

    /// The file that was opened at `now`, before it was read.
    pub(crate) fn of(stat: &Stat, now: SystemTime) -> Self {
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |d| d.as_nanos());
        let newest = stat.modified.max(stat.changed);
        let age = i128::try_from(now).unwrap_or(i128::MAX) - newest;
        Self {
            looks: Some(Looks::of(stat)),
            settled: age > i128::try_from(SETTLED_AFTER.as_nanos()).unwrap_or(i128::MAX),
        }
    }

    /// Whether the file is certainly the one that was read. `false` may be a false alarm.
    pub(crate) fn still_describes(&self, disk: &dyn Disk, path: &Path) -> bool {
        let looks = match disk.lstat(path) {
            Ok(stat) => Some(Looks::of(&stat)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(_) => return false,
        };
        self.settled && self.looks == looks
    }
}

impl Looks {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.device,
            inode: stat.inode,
            size: stat.size,
            modified: stat.modified,
            changed: stat.changed,
            mode: stat.mode,
            owner: stat.owner,
        }
    }
}
