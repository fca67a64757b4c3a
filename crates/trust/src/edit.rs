//! Changes to a `known_peers` document, as values.

use comity_identity::{KeyHash, UnixTime};
use thiserror::Error;

use crate::entry::{Confirmed, Entry, Side};
use crate::known_peers::{KnownPeers, Line, MAX_FILE_BYTES, MAX_LINES};
use crate::line::Cause;
use crate::name::Name;

/// One change. It names lines of the very document that it is applied to: whoever edits a file
/// computes the edit under the file's lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Edit {
    /// Adds a line at the end. A pin is refused when one of its names already has another key.
    Add(Box<Entry>),
    /// Adds a further key for names that already have one, because the operator says so.
    AddKey(Box<Entry>),
    /// Puts an entry in the place of another.
    Replace {
        /// The line, from 1.
        line: usize,
        /// The new entry.
        entry: Box<Entry>,
    },
    /// Notes that the key of an entry was compared.
    Confirm {
        /// The line, from 1.
        line: usize,
        /// When and how.
        confirmed: Confirmed,
    },
    /// Removes entries; comments around them stay.
    Remove {
        /// The lines, from 1.
        lines: Vec<usize>,
    },
    /// Lets the names of a key follow verified statements to its successors: every line of the key
    /// in one edit, or none.
    Succeed {
        /// What becomes of each line.
        lines: Vec<Succeeded>,
    },
    /// Notes to which next key the root of a known key commits. An entry that names one, or that has a
    /// successor, stays as it is: the first commitment binds.
    NoteNext {
        /// The lines, from 1.
        lines: Vec<usize>,
        /// The hash of the next key.
        next: KeyHash,
    },
    /// Notes that statements about these keys contradict each other. What is noted already stays.
    Freeze {
        /// The lines, from 1.
        lines: Vec<usize>,
        /// When it was seen.
        at: UnixTime,
    },
}

/// One line of a key that was succeeded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Succeeded {
    /// The line, from 1.
    pub line: usize,
    /// What it becomes: the old key with its `successor=` and the end of the overlap.
    pub old: Entry,
    /// What is added below it, the key of today last. One line for each step, so that a node which
    /// was away has the same lines as one that followed each step on its day.
    pub new: Vec<Entry>,
    /// Lines of keys before that one which go, from 1: no history is kept for ever.
    pub dropped: Vec<usize>,
}

/// Why an edit is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EditError {
    /// There is no entry on that line.
    #[error("there is no entry on line {line}")]
    NoEntry {
        /// The line named.
        line: usize,
    },
    /// The name already has another key. A name never replaces somebody else's entry.
    #[error("{name} already has another key (line {line})")]
    NameTaken {
        /// The name.
        name: Name,
        /// The line that has it.
        line: usize,
    },
    /// The same key is already there under the same name.
    #[error("the entry is already there (line {line})")]
    AlreadyThere {
        /// The line.
        line: usize,
    },
    /// The entry has no line that would be read back as this entry.
    #[error("the entry cannot be written down{}", .cause.as_ref().map(|c| format!(": {c}")).unwrap_or_default())]
    Unrepresentable {
        /// Why its line would be refused, or nothing if it would be read as something else.
        cause: Option<Box<Cause>>,
    },
    /// The file would become larger than is ever read.
    #[error("the file would be larger than {MAX_FILE_BYTES} bytes")]
    FileTooLarge,
    /// The file would have more lines than are ever read.
    #[error("the file would have more than {MAX_LINES} lines")]
    TooManyLines,
}

impl Edit {
    pub(crate) fn apply(self, known: &KnownPeers) -> Result<KnownPeers, EditError> {
        let mut lines = known.lines().to_vec();
        match self {
            Self::Add(entry) => {
                check_names(known, &entry, None)?;
                append(&mut lines, &entry)?;
            }
            Self::AddKey(entry) => {
                check_duplicate(known, &entry)?;
                append(&mut lines, &entry)?;
            }
            Self::Replace { line, entry } => {
                check_names(known, &entry, Some(entry_at(known, line)?))?;
                put(&mut lines, line, &entry)?;
            }
            Self::Confirm { line, confirmed } => {
                let mut entry = entry_at(known, line)?.clone();
                entry.attributes.confirmed = Some(confirmed);
                put(&mut lines, line, &entry)?;
            }
            Self::Remove { lines: removed } => {
                for &line in &removed {
                    entry_at(known, line)?;
                }
                let mut number = 0;
                lines.retain(|_| {
                    number += 1;
                    !removed.contains(&number)
                });
            }
            Self::Succeed { lines: succeeded } => succeed(known, &mut lines, succeeded)?,
            Self::NoteNext { lines: noted, next } => {
                for line in noted {
                    let mut entry = entry_at(known, line)?.clone();
                    if entry.attributes.successor.is_none() {
                        entry.attributes.next.get_or_insert(next);
                        put(&mut lines, line, &entry)?;
                    }
                }
            }
            Self::Freeze { lines: frozen, at } => {
                for line in frozen {
                    let mut entry = entry_at(known, line)?.clone();
                    entry.attributes.forked.get_or_insert(at);
                    put(&mut lines, line, &entry)?;
                }
            }
        }
        if lines.len() > MAX_LINES {
            return Err(EditError::TooManyLines);
        }
        if lines.iter().map(|line| line.text().len()).sum::<usize>() > MAX_FILE_BYTES {
            return Err(EditError::FileTooLarge);
        }
        Ok(KnownPeers::of_lines(lines))
    }
}

fn entry_at(known: &KnownPeers, line: usize) -> Result<&Entry, EditError> {
    known.entry(line).ok_or(EditError::NoEntry { line })
}

/// Refuses a pin whose names belong to another key. Labels are one space for both directions, so
/// that a label means one peer; a `host:port` may differ between them. Names that `replaced`
/// already had are not taken away from anybody.
fn check_names(
    known: &KnownPeers,
    entry: &Entry,
    replaced: Option<&Entry>,
) -> Result<(), EditError> {
    if replaced.is_none() {
        check_duplicate(known, entry)?;
    }
    let Some(pin) = entry.pin() else {
        return Ok(());
    };
    for name in entry.names.exact() {
        if replaced.is_some_and(|old| old.names.exact().any(|n| n == name)) {
            continue;
        }
        let taken = known.lines_named(name).find(|(_, other)| {
            other.pin().is_some_and(|known| known != pin)
                && (name.is_label() || other.side.overlaps(entry.side))
        });
        if let Some((line, _)) = taken {
            let name = name.clone();
            return Err(EditError::NameTaken { name, line });
        }
    }
    Ok(())
}

/// Two processes that meet a peer at the same time record it once.
fn check_duplicate(known: &KnownPeers, entry: &Entry) -> Result<(), EditError> {
    for name in entry.names.exact() {
        let same = known.lines_named(name).find(|(_, other)| {
            other.what == entry.what
                && other.names == entry.names
                && (other.side == entry.side || other.side == Side::Both)
        });
        if let Some((line, _)) = same {
            return Err(EditError::AlreadyThere { line });
        }
    }
    Ok(())
}

/// Names are not checked: the old key gave its own to the new one, and signed that it did.
fn succeed(
    known: &KnownPeers,
    lines: &mut Vec<Line>,
    mut succeeded: Vec<Succeeded>,
) -> Result<(), EditError> {
    // From the end of the file, so that what is added or goes moves none of the lines still to be
    // changed.
    let mut dropped: Vec<usize> = succeeded
        .iter()
        .flat_map(|one| one.dropped.clone())
        .collect();
    dropped.retain(|line| succeeded.iter().all(|one| one.line != *line));
    dropped.sort_unstable_by(|a, b| b.cmp(a));
    dropped.dedup();
    let mut dropped = dropped.into_iter().peekable();
    succeeded.sort_by_key(|one| std::cmp::Reverse(one.line));
    for one in succeeded {
        while let Some(line) = dropped.next_if(|line| *line > one.line) {
            drop_line(known, lines, line)?;
        }
        succeed_one(known, lines, one)?;
    }
    dropped.try_for_each(|line| drop_line(known, lines, line))
}

fn drop_line(known: &KnownPeers, lines: &mut Vec<Line>, line: usize) -> Result<(), EditError> {
    entry_at(known, line)?;
    lines.remove(line - 1);
    Ok(())
}

fn succeed_one(
    known: &KnownPeers,
    lines: &mut Vec<Line>,
    succeeded: Succeeded,
) -> Result<(), EditError> {
    let Succeeded { line, old, new, .. } = succeeded;
    if entry_at(known, line)?.what != old.what {
        return Err(EditError::NoEntry { line });
    }
    put(lines, line, &old)?;
    let mut above = line;
    for entry in &new {
        // A key that the operator entered already is not entered again.
        if check_duplicate(known, entry).is_err() {
            continue;
        }
        if !lines[above - 1].text().ends_with('\n') {
            lines[above - 1] = lines[above - 1].ended();
        }
        let end = end_of(lines[above - 1].text());
        lines.insert(above, Line::of_entry(entry, end)?);
        above += 1;
    }
    Ok(())
}

fn append(lines: &mut Vec<Line>, entry: &Entry) -> Result<(), EditError> {
    let end = end_of(lines.last().map_or("\n", Line::text));
    if let Some(last) = lines.last_mut().filter(|l| !l.text().ends_with('\n')) {
        *last = last.ended();
    }
    lines.push(Line::of_entry(entry, end)?);
    Ok(())
}

fn put(lines: &mut [Line], line: usize, entry: &Entry) -> Result<(), EditError> {
    let place = line.checked_sub(1).and_then(|index| lines.get_mut(index));
    let place = place.ok_or(EditError::NoEntry { line })?;
    let end = if place.text().ends_with('\n') {
        end_of(place.text())
    } else {
        ""
    };
    *place = Line::of_entry(entry, end)?;
    Ok(())
}

/// The line end of the file around: what other lines have, new ones get.
fn end_of(line: &str) -> &'static str {
    if line.ends_with("\r\n") { "\r\n" } else { "\n" }
}
