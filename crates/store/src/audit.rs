//! The log of every change of trust.
//!
//! One JSON object per line, appended in one write and synchronised, by the holder of the home's
//! lock. Nobody can forge a line: every text is an escaped JSON string without control characters.
//!
//! The line comes before the change it describes, so that no change is ever without its line; if the
//! change then fails, a second line with `"failed"` in its action says so, and a crash in between
//! leaves a line too many rather than one too few. A line that a crash cut short is closed
//! before the next one is written, and reading counts it as damaged.
//!
//! The file is never shortened by us. It may be rotated by others, by renaming it.

use comity_identity::{PeerId, UnixTime};
use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::claim::harmless;
use crate::disk::Access;
use crate::error::StoreError;
use crate::home::{Home, HomeFile};
use crate::lock::HomeLock;

/// Longest text of a field, in characters. Details name a key and a label; anything longer was
/// written by somebody who wants to fill the log.
const MAX_FIELD: usize = 256;

/// Longest line: five fields of escaped text, and the rest.
const MAX_LINE: u64 = 16 << 10;

/// The append-only log of a home.
#[derive(Clone, Debug)]
pub struct AuditLog {
    home: Home,
    command: String,
}

/// What was done, for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deed {
    /// A word for it, such as `add` or `first-use`.
    pub action: String,
    /// Whom it concerns.
    pub peer: Option<PeerId>,
    /// Anything else worth knowing, such as the label.
    pub detail: String,
}

/// One line of the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditLine {
    /// When, as RFC 3339 in UTC.
    pub time: String,
    /// Which process.
    pub pid: u32,
    /// On behalf of which user.
    pub uid: u32,
    /// What that process was told to do.
    pub command: String,
    /// What was done.
    pub action: String,
    /// Whom it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Anything else worth knowing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// The end of the log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AuditTail {
    /// The last lines, oldest first.
    pub lines: Vec<AuditLine>,
    /// How many lines among them could not be read.
    pub damaged: usize,
}

impl AuditLog {
    /// The log of `home`, for writing on behalf of `command` (such as `comity trust add`).
    pub fn new(home: &Home, command: &str) -> Self {
        Self {
            home: home.clone(),
            command: harmless(command, MAX_FIELD),
        }
    }

    /// Appends one line. When this returns, it is durable.
    ///
    /// # Errors
    /// When it cannot be written; the change that it describes must then not happen.
    pub fn append(&self, _proof: &HomeLock, deed: &Deed) -> Result<(), StoreError> {
        let path = self.home.path(HomeFile::AuditLog);
        let missing = || StoreError::NoHome {
            path: self.home.root().to_owned(),
        };
        let mut file = self
            .home
            .open_file(HomeFile::AuditLog, Access::Append)?
            .ok_or_else(missing)?;
        let size = file.stat().map_err(StoreError::io("look at", &path))?.size;
        let mut line = Vec::new();
        if size > 0 && !ends_with_newline(&*file, size).map_err(StoreError::io("read", &path))? {
            line.push(b'\n');
        }
        serde_json::to_writer(&mut line, &self.line(deed)).map_err(|error| StoreError::Io {
            doing: "write",
            path: path.clone(),
            source: std::sync::Arc::new(error.into()),
        })?;
        line.push(b'\n');
        let written = file.write(&line).map_err(StoreError::io("write", &path))?;
        if written < line.len() {
            // The rest in a second write could land behind somebody else's line.
            let full = std::io::ErrorKind::StorageFull.into();
            return Err(StoreError::io("write", &path)(full));
        }
        file.sync().map_err(StoreError::io("synchronise", &path))?;
        if size == 0 {
            atomic::sync_directory(self.home.disk(), self.home.root())?;
        }
        Ok(())
    }

    /// At most the last `count` lines, and none older than the last megabyte.
    ///
    /// # Errors
    /// When the log cannot be read. No log is an empty one.
    pub fn tail(&self, count: usize) -> Result<AuditTail, StoreError> {
        let path = self.home.path(HomeFile::AuditLog);
        let Some(file) = self.home.open_file(HomeFile::AuditLog, Access::Read)? else {
            return Ok(AuditTail::default());
        };
        let size = file.stat().map_err(StoreError::io("look at", &path))?.size;
        let wanted = MAX_LINE
            .saturating_mul(count as u64)
            .min(HomeFile::AuditLog.limit());
        let start = size.saturating_sub(wanted);
        let mut bytes = vec![0; usize::try_from(size - start).unwrap_or(0)];
        let mut filled = 0;
        while filled < bytes.len() {
            match file
                .read_at(&mut bytes[filled..], start + filled as u64)
                .map_err(StoreError::io("read", &path))?
            {
                0 => break,
                count => filled += count,
            }
        }
        bytes.truncate(filled);
        Ok(read_lines(&bytes, start > 0, count))
    }

    /// What to append when the change that was announced did not happen.
    pub(crate) fn append_failure(&self, proof: &HomeLock, deed: &Deed, error: &StoreError) {
        let failure = Deed {
            action: format!("{} failed", deed.action),
            peer: deed.peer,
            detail: error.to_string(),
        };
        if let Err(error) = self.append(proof, &failure) {
            tracing::warn!(%error, action = failure.action, "the audit log misses a failure");
        }
    }

    fn line(&self, deed: &Deed) -> AuditLine {
        AuditLine {
            time: UnixTime::from(self.home.disk().now()).to_string(),
            pid: std::process::id(),
            uid: self.home.disk().user(),
            command: self.command.clone(),
            action: harmless(&deed.action, MAX_FIELD),
            peer: deed.peer.map(|peer| peer.to_string()),
            detail: harmless(&deed.detail, MAX_FIELD),
        }
    }
}

fn ends_with_newline(file: &dyn crate::disk::DiskFile, size: u64) -> std::io::Result<bool> {
    let mut last = [0];
    Ok(file.read_at(&mut last, size - 1)? == 1 && last == *b"\n")
}

fn read_lines(bytes: &[u8], cut: bool, count: usize) -> AuditTail {
    let mut lines: Vec<&[u8]> = bytes
        .split(|&b| b == b'\n')
        // The first one began before what was read.
        .skip(usize::from(cut))
        .filter(|line| !line.is_empty())
        .collect();
    lines.drain(..lines.len().saturating_sub(count));
    let mut tail = AuditTail::default();
    for line in lines {
        match serde_json::from_slice(line) {
            Ok(line) => tail.lines.push(line),
            Err(_) => tail.damaged += 1,
        }
    }
    tail
}
