//! The grammar of one line of `known_peers`. `docs/formats.md` has the ABNF.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use comity_certs::{Anchor, AnchorError};
use comity_identity::{ParseHashError, UnixTime};
use data_encoding::BASE64;
use thiserror::Error;

use crate::entry::{Attributes, CaState, Confirmed, Entry, Origin, Pin, Side, What};
use crate::escape::{escape_into, unescape};
use crate::name::{Name, NameError};
use crate::nearest::nearest;
use crate::pattern::{MAX_NAMES, NameItem, Names, NamesError, Pattern};

/// Longest line: an authority's certificate of 16 kB in base64, and its names.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// Most attributes of one entry: thirteen are defined, the rest is for `x-`.
pub const MAX_ATTRIBUTES: usize = 64;

/// Most items of one attribute that is a list.
pub const MAX_VALUES: usize = 64;

/// Longest item of such a list, unescaped: the longest `host:port` has 259 bytes.
pub const MAX_VALUE_BYTES: usize = 512;

/// Longest name of an `x-` attribute and of the word in `confirmed=`.
const MAX_WORD_BYTES: usize = 40;

const REVOKED: &str = "@revoked";
const CA: &str = "@ca";
const CA_VERIFIED: &str = "@ca-verified";

const ATTRIBUTES: [&str; 13] = [
    "addr",
    "for",
    "roles",
    "networks",
    "next",
    "seq",
    "origin",
    "added",
    "confirmed",
    "not-after",
    "successor",
    "forked",
    "state",
];

/// Why a line is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Cause {
    /// The first line is not `comity-known-peers v1`.
    #[error("the first line is not \"comity-known-peers v1\"")]
    Header,
    /// The file is larger than is ever read.
    #[error(
        "the file has {found} bytes; at most {} are read",
        crate::known_peers::MAX_FILE_BYTES
    )]
    FileTooLarge {
        /// Its size.
        found: usize,
    },
    /// The file has more lines than are ever read.
    #[error("more than {} lines", crate::known_peers::MAX_LINES)]
    TooManyLines,
    /// A longer line than any entry needs.
    #[error("the line has {found} bytes; at most {MAX_LINE_BYTES} are allowed")]
    LineTooLong {
        /// Its length.
        found: usize,
    },
    /// A control or non-ASCII character outside of a comment.
    #[error("unexpected character {found:?}")]
    Character {
        /// The character.
        found: char,
    },
    /// A word that begins with `@` and is no marker.
    #[error("unknown marker {found:?}")]
    Marker {
        /// The word.
        found: String,
    },
    /// Neither `dial`, `accept` nor `both`.
    #[error("expected dial, accept or both, found {found:?}")]
    Side {
        /// The word.
        found: String,
    },
    /// The line ends too early.
    #[error("the line ends before its {what}")]
    Missing {
        /// What should come next.
        what: &'static str,
    },
    /// The names are refused.
    #[error(transparent)]
    Names(#[from] NamesError),
    /// Not a kind of pin.
    #[error("expected node, key or cert, found {found:?}")]
    Kind {
        /// The word.
        found: String,
    },
    /// A certificate of an authority on a line that is not marked `@ca`, or the reverse.
    #[error("a line marked @ca has the kind ca, and no other line has it")]
    CaKind,
    /// `@ca-verified` remembers names that we dialled, exactly.
    #[error("@ca-verified is for the side dial and exact names")]
    CaVerified,
    /// Not a hash.
    #[error(transparent)]
    Hash(#[from] ParseHashError),
    /// Not base64 with padding.
    #[error("the certificate is not base64 of DER")]
    Base64,
    /// Not the certificate of an authority.
    #[error("not a certificate of an authority: {0}")]
    Anchor(#[from] AnchorError),
    /// A percent sign that does not escape UTF-8 text without control characters.
    #[error("a percent sign that escapes nothing allowed")]
    Escape,
    /// A word without `=` among the attributes.
    #[error("expected attribute=value, found {found:?}")]
    NotAnAttribute {
        /// The word.
        found: String,
    },
    /// An attribute that we do not know. It might restrict what we would then grant.
    #[error("unknown attribute {found:?}")]
    UnknownAttribute {
        /// Its name.
        found: String,
    },
    /// An attribute twice.
    #[error("the attribute {found:?} is there twice")]
    DuplicateAttribute {
        /// Its name.
        found: String,
    },
    /// An attribute that means nothing on a line of this kind.
    #[error("the attribute {attribute} is for {place}")]
    Misplaced {
        /// The attribute.
        attribute: &'static str,
        /// Where it would mean something.
        place: &'static str,
    },
    /// More attributes than a line may have.
    #[error("more than {MAX_ATTRIBUTES} attributes")]
    TooManyAttributes,
    /// An attribute's value is refused.
    #[error("the value of {attribute} is {problem}")]
    Value {
        /// The attribute.
        attribute: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An address of `addr=` is refused.
    #[error("an address of addr is refused: {0}")]
    Address(NameError),
}

/// A refused line: where in it, why, and what may have been meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LineError {
    /// Bytes before the offending one.
    pub(crate) offset: usize,
    pub(crate) cause: Cause,
    pub(crate) hint: Option<String>,
}

impl LineError {
    fn at(offset: usize, cause: impl Into<Cause>) -> Self {
        Self {
            offset,
            cause: cause.into(),
            hint: None,
        }
    }

    fn meant(mut self, found: &str, candidates: &[&'static str]) -> Self {
        self.hint = nearest(found, candidates).map(|word| format!("did you mean {word:?}?"));
        self
    }
}

/// Reads a line without its end; `None` for comments and blank lines.
pub(crate) fn parse_line(line: &str) -> Result<Option<Entry>, LineError> {
    if line.len() > MAX_LINE_BYTES {
        return Err(LineError::at(
            MAX_LINE_BYTES,
            Cause::LineTooLong { found: line.len() },
        ));
    }
    let mut fields = Fields { line, at: 0 };
    let Some((offset, first)) = fields.next() else {
        return Ok(None);
    };
    if first.starts_with('#') {
        return Ok(None);
    }
    check_characters(line)?;
    parse_entry(fields, offset, first).map(Some)
}

/// Writes an entry as one line without its end.
pub(crate) fn write_entry(entry: &Entry) -> String {
    let mut line = String::with_capacity(160);
    match entry.what {
        What::Revoked(_) => line.push_str("@revoked "),
        What::Ca(_) => line.push_str("@ca "),
        What::CaVerified => line.push_str("@ca-verified "),
        What::Pin(_) => {}
    }
    line.push_str(entry.side.token());
    for (index, item) in entry.names.items().iter().enumerate() {
        line.push(if index == 0 { ' ' } else { ',' });
        match item {
            NameItem::Exact(name) => escape_into(&mut line, name.as_str()),
            // Patterns contain nothing that needs an escape.
            NameItem::Pattern(pattern) => push(&mut line, format_args!("{pattern}")),
        }
    }
    let revoked = entry.revoked_authority.as_deref();
    match (&entry.what, entry.anchor().or(revoked)) {
        (_, Some(anchor)) => {
            line.push_str(" ca ");
            BASE64.encode_append(anchor.der(), &mut line);
        }
        (What::Pin(pin) | What::Revoked(pin), None) => push(&mut line, format_args!(" {pin}")),
        (What::Ca(_) | What::CaVerified, None) => {}
    }
    write_attributes(&mut line, &entry.attributes);
    line
}

fn write_attributes(line: &mut String, attributes: &Attributes) {
    let addresses = attributes.addr.iter().map(Name::as_str);
    write_list(line, "addr", addresses);
    write_list(line, "for", attributes.services.iter().map(String::as_str));
    write_list(line, "roles", attributes.roles.iter().map(String::as_str));
    write_list(
        line,
        "networks",
        attributes.networks.iter().map(String::as_str),
    );
    if let Some(next) = attributes.next {
        push(line, format_args!(" next={next}"));
    }
    if let Some(seq) = attributes.seq {
        push(line, format_args!(" seq={seq}"));
    }
    if let Some(origin) = attributes.origin {
        push(line, format_args!(" origin={origin}"));
    }
    if let Some(added) = attributes.added {
        push(line, format_args!(" added={added}"));
    }
    if let Some(confirmed) = &attributes.confirmed {
        line.push_str(" confirmed=");
        escape_into(line, &confirmed.to_string());
    }
    if let Some(not_after) = attributes.not_after {
        push(line, format_args!(" not-after={not_after}"));
    }
    if let Some(successor) = attributes.successor {
        push(line, format_args!(" successor={successor}"));
    }
    if let Some(forked) = attributes.forked {
        push(line, format_args!(" forked={forked}"));
    }
    if let Some(state) = attributes.state {
        push(line, format_args!(" state={state}"));
    }
    for (name, value) in &attributes.extra {
        line.push(' ');
        escape_into(line, name);
        line.push('=');
        escape_into(line, value);
    }
}

fn write_list<'a>(line: &mut String, name: &str, values: impl Iterator<Item = &'a str>) {
    for (index, value) in values.enumerate() {
        if index == 0 {
            push(line, format_args!(" {name}="));
        } else {
            line.push(',');
        }
        escape_into(line, value);
    }
}

fn push(line: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _infallible = line.write_fmt(arguments);
}

/// The words of a line and where they begin.
struct Fields<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (usize, &'a str);

    fn next(&mut self) -> Option<(usize, &'a str)> {
        let is_blank = |b: &u8| matches!(b, b' ' | b'\t');
        let rest = &self.line.as_bytes()[self.at..];
        let start = self.at + rest.iter().position(|b| !is_blank(b))?;
        let rest = &self.line.as_bytes()[start..];
        let end = start + rest.iter().position(is_blank).unwrap_or(rest.len());
        self.at = end;
        Some((start, &self.line[start..end]))
    }
}

impl<'a> Fields<'a> {
    fn expect(&mut self, what: &'static str) -> Result<(usize, &'a str), LineError> {
        let end = self.line.len();
        self.next()
            .ok_or_else(|| LineError::at(end, Cause::Missing { what }))
    }
}

/// Entries are printable ASCII; anything else is escaped.
fn check_characters(line: &str) -> Result<(), LineError> {
    let is_fine = |b: u8| b == b'\t' || (b' '..=b'~').contains(&b);
    // Without an early exit the compiler looks at many bytes at once.
    if line.bytes().fold(true, |fine, b| fine & is_fine(b)) {
        return Ok(());
    }
    let Some(offset) = line.bytes().position(|b| !is_fine(b)) else {
        return Ok(());
    };
    let found = line[offset..].chars().next().unwrap_or_default();
    let mut error = LineError::at(offset, Cause::Character { found });
    if !found.is_control() {
        let mut escaped = String::new();
        escape_into(&mut escaped, found.encode_utf8(&mut [0; 4]));
        error.hint = Some(format!("write it as {escaped}"));
    }
    Err(error)
}

fn parse_entry(mut fields: Fields<'_>, offset: usize, first: &str) -> Result<Entry, LineError> {
    let marker = first.starts_with('@').then_some(first);
    if let Some(found) = marker.filter(|m| ![REVOKED, CA, CA_VERIFIED].contains(m)) {
        let cause = Cause::Marker {
            found: shown(found),
        };
        return Err(LineError::at(offset, cause).meant(found, &[REVOKED, CA, CA_VERIFIED]));
    }
    let (side_offset, side_word) = match marker {
        Some(_) => fields.expect("side")?,
        None => (offset, first),
    };
    let side = parse_side(side_offset, side_word)?;
    let (names_offset, names_word) = fields.expect("names")?;
    let names = parse_names(names_offset, names_word, marker)?;
    let value = match marker {
        Some(CA_VERIFIED) if side == Side::Dial && names.are_exact() => None,
        Some(CA_VERIFIED) => return Err(LineError::at(side_offset, Cause::CaVerified)),
        _ => Some(parse_value(&mut fields, marker)?),
    };
    let line = fields.line;
    let attributes = parse_attributes(fields)?;
    let entry = match (value, marker) {
        (None, _) => Entry::new(side, names, What::CaVerified),
        (Some(Value::Authority(anchor)), Some(REVOKED)) => Entry::revoking(side, names, anchor),
        (Some(Value::Authority(anchor)), _) => Entry::new(side, names, What::Ca(anchor)),
        (Some(Value::Pin(pin)), Some(REVOKED)) => Entry::new(side, names, What::Revoked(pin)),
        (Some(Value::Pin(pin)), _) => Entry::new(side, names, What::Pin(pin)),
    };
    let entry = Entry {
        attributes,
        ..entry
    };
    match misplaced(&entry) {
        Some((attribute, place)) => {
            let is_it = |(_, word): &(usize, &str)| {
                let name = word.split_once('=').map(|(name, _)| name);
                name == Some(attribute)
            };
            let offset = Fields { line, at: 0 }.find(is_it).map_or(0, |(at, _)| at);
            let cause = Cause::Misplaced { attribute, place };
            Err(LineError::at(offset, cause))
        }
        None => Ok(entry),
    }
}

/// An attribute that a program would ignore here although a person meant something by it, and the
/// lines that it is for. What is on a line before it is marked `@revoked` may stay there.
fn misplaced(entry: &Entry) -> Option<(&'static str, &'static str)> {
    let attributes = &entry.attributes;
    let is_node = matches!(
        entry.what,
        What::Pin(Pin::Node(_)) | What::Revoked(Pin::Node(_))
    );
    let is_ca = entry.anchor().is_some() || entry.revoked_authority.is_some();
    let nodes = "lines of the kind node";
    if attributes.successor.is_some() && !is_node {
        Some(("successor", nodes))
    } else if attributes.forked.is_some() && !is_node {
        Some(("forked", nodes))
    } else if attributes.state.is_some() && !is_ca {
        Some(("state", "lines of the kind ca"))
    } else {
        None
    }
}

fn parse_side(offset: usize, word: &str) -> Result<Side, LineError> {
    match word {
        "dial" => Ok(Side::Dial),
        "accept" => Ok(Side::Accept),
        "both" => Ok(Side::Both),
        found => {
            let cause = Cause::Side {
                found: shown(found),
            };
            Err(LineError::at(offset, cause).meant(found, &["dial", "accept", "both"]))
        }
    }
}

/// The scope of an authority is always read as patterns: it may name hosts without ports.
fn parse_names(offset: usize, word: &str, marker: Option<&str>) -> Result<Names, LineError> {
    let scope = marker == Some(CA);
    let read_pattern = |text: &str| match marker {
        None => Pattern::for_peers(text),
        Some(_) => Pattern::parse(text),
    };
    let found = word.bytes().filter(|&b| b == b',').count() + 1;
    if found > MAX_NAMES {
        return Err(LineError::at(offset, NamesError::TooMany { found }));
    }
    let mut items = Vec::with_capacity(found);
    let mut at = offset;
    for text in word.split(',') {
        let plain = unescape(text).map_err(|p| LineError::at(at + p, Cause::Escape))?;
        let item = if scope || text.starts_with('!') || text.contains(['*', '?']) {
            read_pattern(&plain).map(NameItem::Pattern)
        } else {
            Name::parse(&plain)
                .map(NameItem::Exact)
                .map_err(NamesError::from)
        };
        items.push(item.map_err(|cause| LineError::at(at, cause))?);
        at += text.len() + 1;
    }
    Names::new(items).map_err(|cause| LineError::at(offset, cause))
}

/// What stands behind the names.
enum Value {
    Pin(Pin),
    Authority(Arc<Anchor>),
}

fn parse_value(fields: &mut Fields<'_>, marker: Option<&str>) -> Result<Value, LineError> {
    let (kind_offset, kind) = fields.expect("kind")?;
    let is_ca = kind == "ca";
    // A CA line whose marker became `@revoked` withdraws the authority and everything below it.
    if marker != Some(REVOKED) && is_ca != (marker == Some(CA)) {
        return Err(LineError::at(kind_offset, Cause::CaKind));
    }
    if !is_ca && !["node", "key", "cert"].contains(&kind) {
        let cause = Cause::Kind { found: shown(kind) };
        return Err(LineError::at(kind_offset, cause).meant(kind, &["node", "key", "cert"]));
    }
    let (offset, value) = fields.expect("value")?;
    let refused = |cause: Cause| LineError::at(offset, cause);
    Ok(Value::Pin(match kind {
        "node" => Pin::Node(value.parse().map_err(|e| refused(Cause::Hash(e)))?),
        "key" => Pin::Key(value.parse().map_err(|e| refused(Cause::Hash(e)))?),
        "cert" => Pin::Cert(value.parse().map_err(|e| refused(Cause::Hash(e)))?),
        _ => {
            let der = BASE64
                .decode(value.as_bytes())
                .map_err(|_| refused(Cause::Base64))?;
            let anchor = Anchor::from_der(&der).map_err(|e| refused(Cause::Anchor(e)))?;
            return Ok(Value::Authority(Arc::new(anchor)));
        }
    }))
}

fn parse_attributes(fields: Fields<'_>) -> Result<Attributes, LineError> {
    let mut attributes = Attributes::default();
    let mut seen: u16 = 0;
    for (index, (offset, word)) in fields.enumerate() {
        if index == MAX_ATTRIBUTES {
            return Err(LineError::at(offset, Cause::TooManyAttributes));
        }
        let Some((name, value)) = word.split_once('=') else {
            let cause = Cause::NotAnAttribute { found: shown(word) };
            return Err(LineError::at(offset, cause));
        };
        let duplicate = match ATTRIBUTES.iter().position(|known| *known == name) {
            Some(position) => {
                let bit = 1 << position;
                let duplicate = seen & bit != 0;
                seen |= bit;
                duplicate
            }
            None => attributes.extra.iter().any(|(known, _)| known == name),
        };
        if duplicate {
            let cause = Cause::DuplicateAttribute { found: shown(name) };
            return Err(LineError::at(offset, cause));
        }
        parse_attribute(&mut attributes, offset, name, value)?;
    }
    Ok(attributes)
}

fn parse_attribute(
    attributes: &mut Attributes,
    offset: usize,
    name: &str,
    value: &str,
) -> Result<(), LineError> {
    let at = offset + name.len() + 1;
    match name {
        "addr" => attributes.addr = parse_addresses(at, value)?,
        "for" => attributes.services = parse_list("for", at, value)?,
        "roles" => attributes.roles = parse_list("roles", at, value)?,
        "networks" => attributes.networks = parse_list("networks", at, value)?,
        "next" => {
            let next = value
                .parse()
                .map_err(|e| LineError::at(at, Cause::Hash(e)))?;
            attributes.next = Some(next);
        }
        "seq" => attributes.seq = Some(parse_sequence(at, value)?),
        "origin" => {
            let origin = value.parse().map_err(|_| {
                refuse_value(at, "origin", "no origin we know")
                    .meant(value, &Origin::ALL.map(Origin::token))
            })?;
            attributes.origin = Some(origin);
        }
        "added" => attributes.added = Some(parse_time("added", at, value)?),
        "confirmed" => attributes.confirmed = Some(parse_confirmed(at, value)?),
        "not-after" => attributes.not_after = Some(parse_time("not-after", at, value)?),
        "successor" => {
            let successor = value
                .parse()
                .map_err(|e| LineError::at(at, Cause::Hash(e)))?;
            attributes.successor = Some(successor);
        }
        "forked" => attributes.forked = Some(parse_time("forked", at, value)?),
        "state" => {
            let state = value.parse().map_err(|_| {
                refuse_value(at, "state", "no state we know")
                    .meant(value, &CaState::ALL.map(CaState::token))
            })?;
            attributes.state = Some(state);
        }
        _ if is_extra(name) => {
            let plain = unescape(value).map_err(|p| LineError::at(at + p, Cause::Escape))?;
            attributes.extra.push((name.to_owned(), plain.into_owned()));
        }
        _ => {
            let cause = Cause::UnknownAttribute { found: shown(name) };
            return Err(LineError::at(offset, cause).meant(name, &ATTRIBUTES));
        }
    }
    Ok(())
}

fn parse_addresses(at: usize, value: &str) -> Result<Vec<Name>, LineError> {
    parse_items("addr", at, value, |at, text| {
        let address = Name::parse(&text).map_err(|e| LineError::at(at, Cause::Address(e)))?;
        if address.is_label() {
            return Err(refuse_value(at, "addr", "not a list of host:port"));
        }
        Ok(address)
    })
}

fn parse_list(attribute: &'static str, at: usize, value: &str) -> Result<Vec<String>, LineError> {
    parse_items(attribute, at, value, |_, text| Ok(text.into_owned()))
}

fn parse_items<T>(
    attribute: &'static str,
    at: usize,
    value: &str,
    read: impl Fn(usize, Cow<'_, str>) -> Result<T, LineError>,
) -> Result<Vec<T>, LineError> {
    let count = value.bytes().filter(|&b| b == b',').count() + 1;
    if count > MAX_VALUES {
        return Err(refuse_value(at, attribute, "a list of more than 64 items"));
    }
    let mut items = Vec::with_capacity(count);
    let mut at = at;
    for text in value.split(',') {
        let plain = unescape(text).map_err(|p| LineError::at(at + p, Cause::Escape))?;
        if plain.is_empty() {
            return Err(refuse_value(at, attribute, "empty"));
        }
        if plain.len() > MAX_VALUE_BYTES {
            return Err(refuse_value(at, attribute, "longer than 512 bytes"));
        }
        items.push(read(at, plain)?);
        at += text.len() + 1;
    }
    Ok(items)
}

/// One spelling per number: `+7` and `007` would read back differently.
fn parse_sequence(at: usize, value: &str) -> Result<u64, LineError> {
    let canonical = value == "0" || !value.starts_with(['0', '+']);
    value
        .parse()
        .ok()
        .filter(|_| canonical)
        .ok_or_else(|| refuse_value(at, "seq", "not a number"))
}

fn parse_time(attribute: &'static str, at: usize, value: &str) -> Result<UnixTime, LineError> {
    value
        .parse()
        .map_err(|_| refuse_value(at, attribute, "not a time such as 2026-03-02T09:14:07Z"))
}

fn parse_confirmed(at: usize, value: &str) -> Result<Confirmed, LineError> {
    let (time, how) = value.split_once('/').unwrap_or((value, ""));
    let word = how.len() <= MAX_WORD_BYTES && how.bytes().all(is_word_byte);
    if !word || value.ends_with('/') {
        return Err(refuse_value(at, "confirmed", "not a time, or a time/how"));
    }
    Ok(Confirmed {
        at: parse_time("confirmed", at, time)?,
        how: how.to_owned(),
    })
}

fn is_extra(name: &str) -> bool {
    name.strip_prefix("x-").is_some_and(|rest| {
        !rest.is_empty() && name.len() <= MAX_WORD_BYTES && rest.bytes().all(is_word_byte)
    })
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

fn refuse_value(offset: usize, attribute: &'static str, problem: &'static str) -> LineError {
    LineError::at(offset, Cause::Value { attribute, problem })
}

/// What an error repeats of a word: enough to find it, not 64 kB of it.
fn shown(word: &str) -> String {
    word.chars().take(MAX_WORD_BYTES).collect()
}
