//! Names of peers: labels and `host:port`, in one canonical spelling each.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use comity_identity::text::parse_hash;
use icu_properties::CodePointMapData;
use icu_properties::props::{GeneralCategory, GeneralCategoryGroup};
use idna::AsciiDenyList;
use rustls_pki_types::ServerName;
use thiserror::Error;

use crate::invitation;

/// Longest label, in characters: one DNS label, so that a host's short name always fits.
pub const MAX_LABEL_CHARS: usize = 63;

/// Longest host name without the trailing dot (RFC 1035 section 2.3.4).
const MAX_HOST_BYTES: usize = 253;

/// Longest part of a host name between two dots (RFC 1035 section 2.3.4).
const MAX_HOST_LABEL_BYTES: usize = 63;

/// Longer input is refused before it is looked at: no spelling of an accepted name needs more.
const MAX_INPUT_BYTES: usize = 1024;

/// What we call a peer: a label, or the `host:port` at which we dial it.
///
/// A label is 1 to 63 letters (of any script), digits, `-` and `_`, begins with a letter or digit,
/// and is kept in lower case. A `host:port` is kept as it would be dialled: lower case, A-labels,
/// no trailing dot, IPv6 in brackets and canonical (an IPv4-mapped one as IPv4), the port always
/// written. So equal names have
/// equal text, and no name contains white space, a comma, `#`, `@` or a control character.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing there.
    #[error("the name is empty")]
    Empty,
    /// Longer than a label or host name may be.
    #[error("the name is too long ({found} characters)")]
    TooLong {
        /// How long it is.
        found: usize,
    },
    /// A character that neither a label nor a host contains.
    #[error("a label has letters, digits, '-' and '_', not {found:?}")]
    Character {
        /// The offending character.
        found: char,
    },
    /// Begins with `-` or `_`.
    #[error("a label begins with a letter or a digit")]
    Start,
    /// A full id is looked up as an id and cannot be somebody's label.
    #[error("this is an id, not a label")]
    LooksLikeId,
    /// Would be read as an invitation.
    #[error("this is an invitation, not a label")]
    LooksLikeInvitation,
    /// A host without a port; there is no default, because identities are remembered per port.
    #[error("{host} has no port, write {host}:{}", crate::target::DEFAULT_PORT)]
    NoPort {
        /// The host.
        host: String,
    },
    /// The port is not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// The host is neither an address nor a DNS name.
    #[error("the host is neither an IP address nor a DNS name")]
    Host,
    /// An IPv6 address outside of brackets.
    #[error("an IPv6 address is written in brackets: [2001:db8::1]:7117")]
    Brackets,
}

impl Name {
    /// Reads a label or a `host:port` in any spelling.
    ///
    /// # Errors
    /// When it is neither; a host without a port is [`NameError::NoPort`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.len() > MAX_INPUT_BYTES {
            return Err(NameError::TooLong { found: text.len() });
        }
        if let Some((host, port)) = split_port(text)? {
            let canonical = canonical_host(host)?;
            // Names in files are canonical already, and there are many of them.
            return Ok(if canonical == host {
                Self(Arc::from(text))
            } else {
                Self(Arc::from(format!("{canonical}:{port}")))
            });
        }
        if text.contains('.') || text.starts_with('[') {
            return Err(no_port(text));
        }
        Self::label(text)
    }

    /// Reads a label.
    ///
    /// # Errors
    /// When it is longer than 63 characters, contains anything but letters, digits, `-` and `_`,
    /// or could be mistaken for an id or an invitation.
    pub fn label(text: &str) -> Result<Self, NameError> {
        if text.len() > MAX_INPUT_BYTES {
            return Err(NameError::TooLong { found: text.len() });
        }
        let label = if text
            .bytes()
            .any(|b| b.is_ascii_uppercase() || !b.is_ascii())
        {
            Cow::Owned(text.to_lowercase())
        } else {
            Cow::Borrowed(text)
        };
        check_label(&label)?;
        Ok(Self(Arc::from(label)))
    }

    /// The name of a peer that is dialled at `host`, which may be a DNS name in any spelling, an
    /// IPv4 address, or an IPv6 address with or without brackets.
    ///
    /// # Errors
    /// When the host is none of these, or the port is 0.
    pub fn host_port(host: &str, port: u16) -> Result<Self, NameError> {
        if port == 0 {
            return Err(NameError::Port);
        }
        let host = canonical_host(host)?;
        Ok(Self(Arc::from(format!("{host}:{port}"))))
    }

    /// Whether this is a label rather than a `host:port`.
    pub fn is_label(&self) -> bool {
        !self.0.contains(':')
    }

    /// The host of a `host:port`; IPv6 addresses are in brackets.
    pub fn host(&self) -> Option<&str> {
        self.0.rsplit_once(':').map(|(host, _)| host)
    }

    /// The port of a `host:port`.
    pub fn port(&self) -> Option<u16> {
        self.0.rsplit_once(':').and_then(|(_, p)| p.parse().ok())
    }

    /// The name that a certificate for this host must have.
    pub fn server_name(&self) -> Option<ServerName<'static>> {
        let host = self.host()?;
        let host = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        ServerName::try_from(host.to_owned()).ok()
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({})", self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

/// Lets an index keyed by names be asked with text.
impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

fn check_label(label: &str) -> Result<(), NameError> {
    let first = label.chars().next().ok_or(NameError::Empty)?;
    let length = label.chars().count();
    if length > MAX_LABEL_CHARS {
        // Distinguish the paste of an id, which deserves a better answer than its length.
        return Err(match parse_hash(label) {
            Ok(_) => NameError::LooksLikeId,
            Err(_) => NameError::TooLong { found: length },
        });
    }
    if let Some(found) = label.chars().find(|&c| !is_label_char(c)) {
        return Err(NameError::Character { found });
    }
    if !first.is_alphanumeric() {
        return Err(NameError::Start);
    }
    if invitation::has_prefix(label) {
        return Err(NameError::LooksLikeInvitation);
    }
    if length >= 56 && parse_hash(label).is_ok() {
        return Err(NameError::LooksLikeId);
    }
    Ok(())
}

/// Letters and digits of any script, `-` and `_`: no controls, no direction overrides, and no
/// combining marks. Some of these are letters to Unicode (Other_Alphabetic), and a terminal draws
/// them over the letter before, so that one label looks like another.
fn is_label_char(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '-' || c == '_';
    }
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    c.is_alphanumeric() && !GeneralCategoryGroup::Mark.contains(category)
}

/// Splits a port off; `None` when there is none.
fn split_port(text: &str) -> Result<Option<(&str, u16)>, NameError> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Ok(None);
    };
    if host.starts_with('[') && !host.ends_with(']') {
        // `[2001:db8::1]`: the colon is inside.
        return Ok(None);
    }
    if host.contains(':') && !host.starts_with('[') {
        return Err(NameError::Brackets);
    }
    Ok(Some((host, parse_port(port)?)))
}

/// Decimal digits without sign or leading zeros, so that one port has one spelling.
fn parse_port(text: &str) -> Result<u16, NameError> {
    if text.starts_with('0') || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NameError::Port);
    }
    text.parse().map_err(|_| NameError::Port)
}

fn no_port(host: &str) -> NameError {
    match canonical_host(host) {
        Ok(host) => NameError::NoPort {
            host: host.into_owned(),
        },
        Err(error) => error,
    }
}

/// The one spelling of a host.
pub(crate) fn canonical_host(host: &str) -> Result<Cow<'_, str>, NameError> {
    if let Some(address) = ipv6(host)? {
        // `::ffff:192.0.2.1` is how a socket for both versions shows 192.0.2.1: one peer.
        return Ok(Cow::Owned(match address.to_ipv4_mapped() {
            Some(address) => address.to_string(),
            None => format!("[{address}]"),
        }));
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() {
        return Err(NameError::Empty);
    }
    let host = if host.bytes().all(is_canonical_host_byte) && !host.contains("xn--") {
        Cow::Borrowed(host)
    } else {
        idna::domain_to_ascii_cow(host.as_bytes(), AsciiDenyList::URL)
            .map_err(|_| NameError::Host)?
    };
    check_dns_name(&host)?;
    Ok(host)
}

/// An IPv6 address, with or without brackets. Zones are refused: they name an interface of this
/// machine, not the peer.
fn ipv6(host: &str) -> Result<Option<Ipv6Addr>, NameError> {
    if let Some(rest) = host.strip_prefix('[') {
        let address = rest.strip_suffix(']').ok_or(NameError::Brackets)?;
        return address.parse().map(Some).map_err(|_| NameError::Host);
    }
    if host.contains(':') {
        return host.parse().map(Some).map_err(|_| NameError::Host);
    }
    Ok(None)
}

fn is_canonical_host_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
}

fn check_dns_name(host: &str) -> Result<(), NameError> {
    if host.len() > MAX_HOST_BYTES {
        return Err(NameError::TooLong { found: host.len() });
    }
    let part_is_fine = |part: &str| {
        (1..=MAX_HOST_LABEL_BYTES).contains(&part.len())
            && part.bytes().all(is_canonical_host_byte)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if !host.split('.').all(part_is_fine) {
        return Err(NameError::Host);
    }
    // `127.1` and `0x7f.1` are addresses to some resolvers; a name whose last part is numeric must
    // be an address in its one spelling.
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err(NameError::Host);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> Result<String, NameError> {
        Name::parse(text).map(|name| name.to_string())
    }

    #[test]
    fn all_spellings_of_one_name_are_equal() {
        for (canonical_text, spellings) in [
            (
                "db1.example:7117",
                &["DB1.Example:7117", "db1.example.:7117"][..],
            ),
            (
                "xn--bcher-kva.example:443",
                &["bücher.example:443", "BÜCHER.example.:443"],
            ),
            (
                "[2001:db8::1]:7117",
                &["[2001:0DB8:0::1]:7117", "[2001:db8:0:0:0:0:0:1]:7117"],
            ),
            (
                "192.0.2.1:22",
                &[
                    "192.0.2.1:22",
                    "[::ffff:192.0.2.1]:22",
                    "[::ffff:c000:201]:22",
                ],
            ),
            ("ops-db", &["OPS-DB", "Ops-db"]),
            ("büro_2", &["BÜRO_2"]),
        ] {
            assert_eq!(canonical(canonical_text).as_deref(), Ok(canonical_text));
            for spelling in spellings {
                assert_eq!(canonical(spelling).as_deref(), Ok(canonical_text));
            }
        }
        assert_ne!(canonical("db1.example:7117"), canonical("db1.example:7118"));
    }

    #[test]
    fn what_is_no_name_is_refused_with_its_cause() {
        let id = "ab".repeat(32);
        for (text, error) in [
            ("", NameError::Empty),
            ("a b", NameError::Character { found: ' ' }),
            ("a\nb", NameError::Character { found: '\n' }),
            ("a\0", NameError::Character { found: '\0' }),
            ("a#b", NameError::Character { found: '#' }),
            ("@ca", NameError::Character { found: '@' }),
            ("a\u{202e}b", NameError::Character { found: '\u{202e}' }),
            ("😀", NameError::Character { found: '😀' }),
            // Combining marks: two that Unicode calls alphabetic, a vowel sign, an accent, and
            // one that encloses.
            ("ps\u{363}db", NameError::Character { found: '\u{363}' }),
            ("a\u{345}", NameError::Character { found: '\u{345}' }),
            ("א\u{5b8}", NameError::Character { found: '\u{5b8}' }),
            ("क\u{93e}", NameError::Character { found: '\u{93e}' }),
            ("e\u{301}", NameError::Character { found: '\u{301}' }),
            ("a\u{20dd}", NameError::Character { found: '\u{20dd}' }),
            ("-x", NameError::Start),
            (&id, NameError::LooksLikeId),
            (
                "db1.example",
                NameError::NoPort {
                    host: "db1.example".into(),
                },
            ),
            (
                "[::1]",
                NameError::NoPort {
                    host: "[::1]".into(),
                },
            ),
            ("db1.example:0", NameError::Port),
            ("db1.example:+5", NameError::Port),
            ("db1.example:080", NameError::Port),
            ("db1.example:65536", NameError::Port),
            ("db1.example:", NameError::Port),
            ("a b.example:5", NameError::Host),
            ("127.1:80", NameError::Host),
            ("2001:db8::1:80", NameError::Brackets),
            ("[fe80::1%eth0]:80", NameError::Host),
            (":80", NameError::Empty),
            ("a..b:80", NameError::Host),
        ] {
            assert_eq!(Name::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn letters_of_any_script_without_marks_are_labels() {
        for text in ["é", "名前", "ほげ", "אבג", "مرحبا", "ไทย", "żółć", "ⅷ", "٣"]
        {
            assert!(Name::label(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn lengths_are_refused_one_past_the_limit() {
        assert!(Name::parse(&"z".repeat(MAX_LABEL_CHARS)).is_ok());
        assert_eq!(
            Name::parse(&"z".repeat(MAX_LABEL_CHARS + 1)),
            Err(NameError::TooLong {
                found: MAX_LABEL_CHARS + 1
            })
        );
        let longest = format!(
            "{}.{}",
            format!("{}.", "a".repeat(62)).repeat(3),
            "b".repeat(63)
        );
        let longest = longest.replacen("..", ".", 1);
        assert_eq!(longest.len(), 252);
        assert!(Name::host_port(&longest, 1).is_ok());
        assert!(Name::host_port(&format!("c{longest}"), 1).is_ok());
        assert!(Name::host_port(&format!("cc{longest}"), 1).is_err());
        assert_eq!(
            Name::parse(&"a".repeat(64 * 1024)),
            Err(NameError::TooLong { found: 64 * 1024 })
        );
    }
}
