//! Whether a file has changed since it was read, without reading it.
//!
//! File times advance in ticks of up to some milliseconds (two seconds on old file systems), and
//! inode numbers are reused at once. A file that changed shortly before it was read may change again
//! and look the same; so the looks of a file prove something only once it has looked the same for
//! longer than a tick. Until then it is read again now and then.
//!
//! How long that was is told by the monotonic clock. A file's own times cannot tell it: they are
//! another clock's, perhaps another machine's, and a copied file or a clock that was set back leaves
//! times in the future, with which no file would ever count as old.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::atomic::Presence;
use crate::disk::{Disk, Stat};

/// A file that has looked the same for this long, and was read after it, cannot change any more and
/// still look the same.
pub(crate) const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// How often a file that has not settled is read again, however often somebody asks. A change that
/// cannot be seen is noticed this late, which leaves most of a second for acting on it.
pub(crate) const REREAD_EVERY: Duration = Duration::from_millis(200);

/// What a file looked like when it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    looks: Option<Looks>,
    /// When it was first seen to look so.
    since: Instant,
    /// When reading it began.
    read: Instant,
}

/// What a look at a file tells about the content that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sight {
    /// It is still that.
    Unchanged,
    /// Nothing speaks against it, and it was read so lately that this is good enough for now.
    Unsettled,
    /// It must be read again.
    Unknown,
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
    /// The file that was opened after `started` and read, or that was not there. Its predecessor
    /// tells how long it has looked so.
    pub(crate) fn of(
        stat: Option<&Stat>,
        before: Option<Self>,
        started: Instant,
        disk: &dyn Disk,
    ) -> Self {
        let looks = stat.map(Looks::of);
        let same = before.filter(|before| before.looks == looks);
        Self {
            looks,
            // After the look, in case we were stopped in between.
            since: same.map_or_else(|| disk.monotonic(), |before| before.since),
            read: started,
        }
    }

    /// Which file it was.
    pub(crate) fn presence(&self) -> Presence {
        match self.looks {
            None => Presence::Absent,
            Some(looks) => Presence::File {
                device: looks.device,
                inode: looks.inode,
                size: looks.size,
                modified: looks.modified,
            },
        }
    }

    /// Looks at the file.
    pub(crate) fn look(&self, disk: &dyn Disk, path: &Path) -> Sight {
        let looks = match disk.lstat(path) {
            Ok(stat) => Some(Looks::of(&stat)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => return Sight::Unknown,
        };
        let settled = self.read.saturating_duration_since(self.since) >= SETTLED_AFTER;
        if looks != self.looks {
            Sight::Unknown
        } else if settled || looks.is_none() {
            Sight::Unchanged
        } else if disk.monotonic().saturating_duration_since(self.read) < REREAD_EVERY {
            Sight::Unsettled
        } else {
            Sight::Unknown
        }
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
