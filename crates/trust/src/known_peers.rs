//! `known_peers` as a document: every line kept as it was written, and indexes over its entries.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher as _, Hash};
use std::sync::Arc;

use comity_certs::{Anchor, PresentedChain};
use comity_identity::{Fingerprint, KeyHash, PeerId};

use crate::edit::{Edit, EditError};
use crate::entry::{Entry, Pin, What};
use crate::line::{Cause, LineError, parse_line, write_entry};
use crate::mode::Direction;
use crate::name::Name;

/// Largest file that is read: 100,000 entries take about 20 MB, and all of it is held in memory.
pub const MAX_FILE_BYTES: usize = 64 * 1024 * 1024;

/// Most lines. Each costs some dozens of bytes of memory, also a blank one that has one byte in the
/// file; ten times the entries that a file is expected to have leave room for comments.
pub const MAX_LINES: usize = 1_000_000;

/// The first line of a file.
pub const HEADER: &str = "comity-known-peers v1";

/// What we remember of peers: an immutable snapshot of the file.
///
/// Cheap to clone and to share. Lines count from 1, the header being the first.
#[derive(Clone)]
pub struct KnownPeers {
    lines: Arc<[Line]>,
    index: Arc<Index>,
}

/// Where and why a file is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// Why.
    pub cause: Cause,
    /// What may have been meant.
    pub hint: Option<String>,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: {}",
            self.line, self.column, self.cause
        )
    }
}

impl std::error::Error for ParseError {}

impl KnownPeers {
    /// A file with nothing but its header.
    pub fn empty() -> Self {
        Self::of_lines(vec![Line::Other(format!("{HEADER}\n").into())])
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// At the first line that is not understood: an unknown word might restrict what a tolerant
    /// reader would then grant.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > MAX_FILE_BYTES {
            return Err(at_start(Cause::FileTooLarge { found: text.len() }, None));
        }
        let mut lines: Vec<Line> = Vec::with_capacity(text.len() / 160 + 1);
        for (index, line) in text.split_inclusive('\n').enumerate() {
            if index == MAX_LINES {
                return Err(ParseError {
                    line: index + 1,
                    ..at_start(Cause::TooManyLines, None)
                });
            }
            let content = without_end(line);
            let entry = if index == 0 {
                check_header(content)?;
                None
            } else {
                parse_line(content).map_err(|e| place(index + 1, content, e))?
            };
            lines.push(match (entry, lines.last()) {
                (Some(entry), _) => Line::written(line, entry),
                // A run of blank lines is one text.
                (None, Some(Line::Other(last))) if **last == *line => Line::Other(last.clone()),
                (None, _) => Line::Other(line.into()),
            });
        }
        if lines.is_empty() {
            // An empty file is a write that was cut off, not a file without entries.
            return Err(at_start(Cause::Header, None));
        }
        Ok(Self::of_lines(lines))
    }

    /// The file, byte for byte as it was read where no edit touched it.
    pub fn to_text(&self) -> String {
        let length = self.lines.iter().map(|line| line.text().len()).sum();
        let mut text = String::with_capacity(length);
        for line in self.lines.iter() {
            text.push_str(line.text());
        }
        text
    }

    /// The document after one edit. Lines that the edit does not name stay byte-identical, except
    /// that a last line without an end gains one when something is added below it.
    ///
    /// # Errors
    /// When the edit names a line that is no entry, would give somebody else's name away, or
    /// cannot be written down.
    pub fn with(&self, edit: Edit) -> Result<Self, EditError> {
        edit.apply(self)
    }

    /// Every entry and its line.
    pub fn entries(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.lines
            .iter()
            .enumerate()
            .filter_map(|(index, line)| line.entry().map(|entry| (index + 1, entry)))
    }

    /// The entry on a line, counted from 1.
    pub fn entry(&self, line: usize) -> Option<&Entry> {
        self.lines.get(line.checked_sub(1)?)?.entry()
    }

    /// How many lines there are.
    pub fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// The pins whose names match, exactly or by pattern, in the order of the file. `direction`
    /// limits them to the entries that count in it.
    pub fn pins_named(&self, name: &Name, direction: Option<Direction>) -> Vec<(usize, &Entry)> {
        let patterns = self.at(self.index.patterns.iter().copied());
        let mut found: Vec<_> = self
            .lines_named(name)
            .chain(patterns)
            .filter(|(_, entry)| entry.pin().is_some() && entry.names.matches(name))
            .filter(|(_, entry)| direction.is_none_or(|d| entry.side.covers(d)))
            .collect();
        found.sort_unstable_by_key(|(line, _)| *line);
        // A line with patterns is also found by its exact names.
        found.dedup_by_key(|(line, _)| *line);
        found
    }

    /// The pins of one peer id.
    pub fn pins_of(&self, peer: PeerId) -> impl Iterator<Item = (usize, &Entry)> {
        self.pinned(Pin::from(peer))
    }

    /// The pins that a presented chain matches, in the order node, key, certificate. `peer` is who
    /// that chain proves.
    pub(crate) fn pins_matching(
        &self,
        peer: PeerId,
        chain: &PresentedChain,
        direction: Direction,
    ) -> Vec<(usize, &Entry)> {
        let leaf = chain.leaf();
        let node = match peer {
            PeerId::Node(id) => Some(Pin::Node(id)),
            PeerId::Key(_) => None,
        };
        node.into_iter()
            .chain([Pin::Key(leaf.key), Pin::Cert(leaf.fingerprint)])
            .flat_map(|pin| self.pinned(pin))
            .filter(|(_, entry)| entry.side.covers(direction))
            .collect()
    }

    /// The line that revokes this key.
    pub fn revocation_of_key(&self, key: &KeyHash) -> Option<usize> {
        self.index.revoked_keys.get(key).map(|&line| line as usize)
    }

    /// The line that revokes this certificate.
    pub fn revocation_of_certificate(&self, fingerprint: &Fingerprint) -> Option<usize> {
        let line = self.index.revoked_certificates.get(fingerprint);
        line.map(|&line| line as usize)
    }

    /// The line that revokes anything the peer presented. A revoked certificate is recognised with
    /// either of the two signatures that it can have.
    pub fn revocation_of(&self, chain: &PresentedChain) -> Option<usize> {
        let keys = chain.keys().iter();
        let twins = match self.index.revoked_certificates.is_empty() {
            true => Vec::new(),
            false => chain.twin_fingerprints(),
        };
        let certificates = chain.fingerprints().iter().chain(&twins);
        keys.filter_map(|key| self.revocation_of_key(key))
            .chain(certificates.filter_map(|f| self.revocation_of_certificate(f)))
            .min()
    }

    /// The line that revokes an authority by its key, or by its certificate with either of the two
    /// signatures that it can have.
    pub fn revocation_of_anchor(&self, anchor: &Anchor) -> Option<usize> {
        let twins = anchor.twin_fingerprints().iter();
        self.revocation_of_key(&anchor.key())
            .or_else(|| self.revocation_of_certificate(&anchor.fingerprint()))
            .or_else(|| {
                twins
                    .filter_map(|f| self.revocation_of_certificate(f))
                    .next()
            })
    }

    /// The authorities of which we have the certificate and that are revoked, with the line that
    /// revokes them: those marked `@ca` on any side whose key or certificate is revoked elsewhere,
    /// and those whose own line is marked `@revoked`.
    pub(crate) fn revoked_authorities(&self) -> impl Iterator<Item = (usize, &Anchor)> {
        let listed = self
            .at(self.index.authorities.iter().copied())
            .filter_map(|(_, entry)| {
                let anchor = entry.anchor()?;
                Some((self.revocation_of_anchor(anchor)?, anchor))
            });
        let marked = self.at(self.index.revoked_authorities.iter().copied());
        listed.chain(marked.filter_map(|(line, entry)| {
            let anchor = entry.revoked_authority.as_deref()?;
            Some((line, anchor))
        }))
    }

    /// Whether nothing at all is revoked, which saves looking.
    pub(crate) fn revokes_nothing(&self) -> bool {
        self.index.revoked_keys.is_empty() && self.index.revoked_certificates.is_empty()
    }

    /// The lines marked `@ca` that count in `direction`.
    pub fn authorities(&self, direction: Direction) -> impl Iterator<Item = (usize, &Entry)> {
        self.at(self.index.authorities.iter().copied())
            .filter(move |(_, entry)| entry.side.covers(direction))
    }

    /// The line which remembers that this name was once recognised by a CA.
    pub fn ca_verified(&self, name: &Name) -> Option<usize> {
        self.lines_named(name)
            .find(|(_, entry)| matches!(entry.what, What::CaVerified))
            .map(|(line, _)| line)
    }

    /// Whether anybody is pinned under exactly this name, whatever else the line says.
    pub fn has_pin_named(&self, name: &Name) -> bool {
        self.lines_named(name)
            .any(|(_, entry)| entry.pin().is_some())
    }

    /// Every network that an entry grants or an authority may attest.
    pub fn names_network(&self, network: &str) -> bool {
        self.entries().any(|(_, entry)| {
            let networks = &entry.attributes.networks;
            networks.iter().any(|known| known == network)
        })
    }

    /// Pins and CA-verified memories that have exactly this name among theirs.
    pub(crate) fn lines_named(&self, name: &Name) -> impl Iterator<Item = (usize, &Entry)> {
        self.at(self.index.names.candidates(name.as_str()))
            .filter(move |(_, entry)| entry.names.exact().any(|known| known == name))
    }

    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines
    }

    pub(crate) fn of_lines(lines: Vec<Line>) -> Self {
        let index = Arc::new(Index::over(&lines));
        Self {
            lines: lines.into(),
            index,
        }
    }

    fn pinned(&self, pin: Pin) -> impl Iterator<Item = (usize, &Entry)> {
        self.at(self.index.pins.candidates(&pin))
            .filter(move |(_, entry)| entry.pin() == Some(&pin))
    }

    fn at(&self, lines: impl Iterator<Item = u32>) -> impl Iterator<Item = (usize, &Entry)> {
        lines.filter_map(|line| {
            let line = line as usize;
            self.entry(line).map(|entry| (line, entry))
        })
    }
}

impl fmt::Debug for KnownPeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KnownPeers({} lines)", self.lines.len())
    }
}

/// The empty file.
impl Default for KnownPeers {
    fn default() -> Self {
        Self::empty()
    }
}

/// Two snapshots are equal when their files are.
impl PartialEq for KnownPeers {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&Line, &Line)| a.text() == b.text();
        self.lines.len() == other.lines.len() && self.lines.iter().zip(other.lines.iter()).all(same)
    }
}

impl Eq for KnownPeers {}

/// One line with its end, and what it says.
///
/// Blank lines and comments, of which a file may have many more than entries, are no larger than
/// their text needs; copying a line copies no text.
#[derive(Clone)]
pub(crate) enum Line {
    Other(Arc<str>),
    Entry(Arc<Written>),
}

/// An entry and how it is written.
pub(crate) struct Written {
    text: Box<str>,
    entry: Entry,
}

impl Line {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Other(text) => text,
            Self::Entry(written) => &written.text,
        }
    }

    pub(crate) fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Other(_) => None,
            Self::Entry(written) => Some(&written.entry),
        }
    }

    /// The same line with an end.
    pub(crate) fn ended(&self) -> Self {
        let text = format!("{}\n", self.text());
        match self.entry() {
            Some(entry) => Self::written(&text, entry.clone()),
            None => Self::Other(text.into()),
        }
    }

    fn written(text: &str, entry: Entry) -> Self {
        let text = text.into();
        Self::Entry(Arc::new(Written { text, entry }))
    }

    /// The line for an entry, proven by reading it back.
    ///
    /// # Errors
    /// When what would be written is not read as this very entry.
    pub(crate) fn of_entry(entry: &Entry, end: &str) -> Result<Self, EditError> {
        let content = write_entry(entry);
        let read = parse_line(&content).map_err(|e| EditError::Unrepresentable {
            cause: Some(Box::new(e.cause)),
        })?;
        match read {
            Some(read) if read == *entry => Ok(Self::written(&(content + end), read)),
            _ => Err(EditError::Unrepresentable { cause: None }),
        }
    }
}

/// Lines by the hash of something on them, sorted: building it is one sort, and looking something
/// up one binary search, with far fewer cache misses than a table of owned keys. Different things
/// may have one hash, so whoever looks something up compares.
///
/// The hash is keyed at random, because names may be a stranger's choice.
#[derive(Default)]
struct LineIndex {
    hashing: RandomState,
    sorted: Vec<(u64, u32)>,
}

impl LineIndex {
    fn push(&mut self, key: &(impl Hash + ?Sized), line: u32) {
        self.sorted.push((self.hashing.hash_one(key), line));
    }

    fn sort(&mut self) {
        self.sorted.sort_unstable();
        // The same name twice on one line is one line.
        self.sorted.dedup();
    }

    /// Lines that may have the key, in the order of the file.
    fn candidates<K: Hash + ?Sized>(&self, key: &K) -> impl Iterator<Item = u32> + use<'_, K> {
        let hash = self.hashing.hash_one(key);
        let start = self.sorted.partition_point(|(known, _)| *known < hash);
        let rest = self.sorted[start..].iter();
        rest.take_while(move |(known, _)| *known == hash)
            .map(|(_, line)| *line)
    }
}

#[derive(Default)]
struct Index {
    pins: LineIndex,
    /// Pins and CA-verified memories by each of their exact names.
    names: LineIndex,
    /// Pins with patterns among their names: these are searched as well.
    patterns: Vec<u32>,
    revoked_keys: HashMap<KeyHash, u32>,
    revoked_certificates: HashMap<Fingerprint, u32>,
    authorities: Vec<u32>,
    /// Revocations that have the certificate of an authority.
    revoked_authorities: Vec<u32>,
}

impl Index {
    fn over(lines: &[Line]) -> Self {
        let mut index = Self::default();
        for (number, line) in (1..).zip(lines) {
            if let Some(entry) = line.entry() {
                index.add(number, entry);
            }
        }
        index.pins.sort();
        index.names.sort();
        index
    }

    fn add(&mut self, line: u32, entry: &Entry) {
        if entry.revoked_authority.is_some() {
            self.revoked_authorities.push(line);
        }
        match &entry.what {
            What::Pin(pin) => {
                self.pins.push(pin, line);
                self.add_names(line, entry);
            }
            What::CaVerified => self.add_names(line, entry),
            What::Ca(_) => self.authorities.push(line),
            What::Revoked(Pin::Node(id)) => {
                self.revoked_keys.entry(id.key_hash()).or_insert(line);
            }
            What::Revoked(Pin::Key(key)) => {
                self.revoked_keys.entry(*key).or_insert(line);
            }
            What::Revoked(Pin::Cert(fingerprint)) => {
                self.revoked_certificates
                    .entry(*fingerprint)
                    .or_insert(line);
            }
        }
    }

    fn add_names(&mut self, line: u32, entry: &Entry) {
        if !entry.names.are_exact() {
            self.patterns.push(line);
        }
        for name in entry.names.exact() {
            self.names.push(name.as_str(), line);
        }
    }
}

fn without_end(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}

fn check_header(line: &str) -> Result<(), ParseError> {
    if line.trim_end_matches([' ', '\t']) == HEADER {
        return Ok(());
    }
    let hint = if line.starts_with('\u{feff}') {
        Some("remove the byte order mark".to_owned())
    } else if line.starts_with("comity-known-peers ") {
        Some("the file was written by another version of comity".to_owned())
    } else {
        None
    };
    Err(at_start(Cause::Header, hint))
}

fn at_start(cause: Cause, hint: Option<String>) -> ParseError {
    ParseError {
        line: 1,
        column: 1,
        cause,
        hint,
    }
}

fn place(line: usize, content: &str, error: LineError) -> ParseError {
    let before = content.char_indices().filter(|(at, _)| *at < error.offset);
    ParseError {
        line,
        column: before.count() + 1,
        cause: error.cause,
        hint: error.hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_and_comments_take_little_memory() {
        assert_eq!(size_of::<Line>(), size_of::<Arc<str>>());
        let known = KnownPeers::parse(&format!("{HEADER}\n\n\n\n#\n")).expect("parsed");
        let [_, Line::Other(a), Line::Other(b), Line::Other(c), _] = known.lines() else {
            panic!("five lines");
        };
        assert!(Arc::ptr_eq(a, b) && Arc::ptr_eq(b, c), "one text");
    }
}
