//! Names from certificates. They are a stranger's words: checked, bounded and escaped before
//! anybody sees them, and never more than claims.

use std::fmt;
use std::net::IpAddr;

use der::asn1::AnyRef;
use der::{Tag, TagNumber, Tagged};

use crate::limits::{MAX_DNS_NAME, MAX_SHOWN_NAME, MAX_URI};
use crate::oid;
use crate::parsed::{self, CertificateFault, Parsed};

/// Attributes of a distinguished name that are shown. Names in practice have at most ten.
const MAX_SHOWN_ATTRIBUTES: usize = 16;

/// A name in a SubjectAltName extension, in one of the forms that mean something here.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SanName {
    /// A DNS name in lower case without final dot, possibly with `*` as its first label.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
    /// A URI made of the characters of RFC 3986.
    Uri(String),
}

impl SanName {
    /// A DNS name as certificates present it: labels of letters, digits, `-` and `_`, of which the
    /// first may be `*`; lower-cased. `None` when it is anything else.
    pub fn dns(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let rest = name.strip_prefix("*.").unwrap_or(&name);
        let valid = name.len() <= MAX_DNS_NAME && rest.split('.').all(is_dns_label);
        valid.then_some(Self::Dns(name))
    }

    /// A URI: a scheme, a colon, and only characters of RFC 3986. `None` when it is anything else.
    pub fn uri(uri: &str) -> Option<Self> {
        let (scheme, rest) = uri.split_once(':')?;
        let valid = uri.len() <= MAX_URI
            && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
            && rest
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&b));
        valid.then(|| Self::Uri(uri.to_owned()))
    }
}

impl fmt::Display for SanName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) | Self::Uri(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// The usable names of a certificate. Entries of other kinds, and DNS names and URIs with
/// characters that have no business there, are left out: nothing is ever matched against them.
pub(crate) fn subject_alt_names(
    certificate: &Parsed<'_>,
) -> Result<Vec<SanName>, CertificateFault> {
    Ok(usable(certificate.general_names()?))
}

/// The usable ones of these names.
pub(crate) fn usable(names: Vec<AnyRef<'_>>) -> Vec<SanName> {
    names.into_iter().filter_map(san_name).collect()
}

/// The first common name of the subject, escaped and bounded, for display only.
pub(crate) fn common_name(certificate: &Parsed<'_>) -> Result<Option<String>, CertificateFault> {
    let attributes = parsed::attributes(certificate.subject, "subject")?;
    Ok(attributes
        .into_iter()
        .find(|(kind, _)| *kind == oid::COMMON_NAME.as_bytes())
        .map(|(_, value)| shown(value)))
}

/// A distinguished name on one line, escaped and bounded, for display only: RDNs in the order of the
/// certificate, `+` between the attributes of one, and `…` where there are more than are shown.
pub(crate) fn distinguished_name(name: &[u8]) -> String {
    shown_relative_names(name).unwrap_or_default()
}

fn shown_relative_names(name: &[u8]) -> Result<String, CertificateFault> {
    let what = "name";
    let mut shown = String::new();
    let mut left = MAX_SHOWN_ATTRIBUTES;
    for relative in parsed::elements(name, Tag::Sequence, what)? {
        for (place, attribute) in parsed::elements(relative, Tag::Set, what)?
            .into_iter()
            .enumerate()
        {
            if !shown.is_empty() {
                shown.push_str(if place == 0 { ", " } else { "+" });
            }
            if left == 0 {
                shown.push('…');
                return Ok(shown);
            }
            left -= 1;
            let (kind, value) = parsed::attribute(attribute, what)?;
            shown.push_str(&attribute_name(kind));
            shown.push('=');
            shown.push_str(&shown_value(value));
        }
    }
    Ok(shown)
}

/// A value in a distinguished name. What separates values is escaped (RFC 4514 section 2.4), so that
/// none reads as several.
fn shown_value(value: AnyRef<'_>) -> String {
    let mut text = escape_each(&shown(value), ",+=\";<>");
    if text.len() > 1 && text.ends_with(' ') {
        text.insert(text.len() - 1, '\\');
    }
    if text.starts_with([' ', '#']) {
        text.insert(0, '\\');
    }
    text
}

/// As [`escape`], for a text that stands in a list: it reads as one entry.
pub(crate) fn escape_entry(text: &str) -> String {
    escape_each(&escape(text), ",")
}

/// For an escaped text: in it no backslash stands for itself.
fn escape_each(escaped: &str, separators: &str) -> String {
    let mut text = String::new();
    for c in escaped.chars() {
        if separators.contains(c) {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// Makes a stranger's text safe to print: visible ASCII and single spaces stay, everything else is
/// written as `\u{…}`, and what is longer than [`MAX_SHOWN_NAME`] ends in `…`.
///
/// Other scripts are escaped too: right-to-left marks and look-alike letters could make one name
/// read as another, and control characters could write to the terminal.
pub fn escape(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        let escaped = match c {
            '\\' => "\\\\".to_owned(),
            ' '..='~' => c.to_string(),
            c => c.escape_unicode().to_string(),
        };
        if shown.len() + escaped.len() > MAX_SHOWN_NAME {
            shown.push('…');
            break;
        }
        shown.push_str(&escaped);
    }
    shown
}

fn is_dns_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// GeneralName (RFC 5280 section 4.2.1.6): [2] dNSName, [6] URI, [7] iPAddress.
fn san_name(name: AnyRef<'_>) -> Option<SanName> {
    let Tag::ContextSpecific {
        constructed: false,
        number,
    } = name.tag()
    else {
        return None;
    };
    let text = || std::str::from_utf8(name.value()).ok();
    match number {
        TagNumber(2) => SanName::dns(text()?),
        TagNumber(6) => SanName::uri(text()?),
        TagNumber(7) => ip_address(name.value()).map(SanName::Ip),
        _ => None,
    }
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// A DirectoryString as text. Only UTF-8 and its ASCII subsets are read as text; the other string
/// types of X.520 are historic, and whatever is not UTF-8 shows as replacement characters.
fn shown(value: AnyRef<'_>) -> String {
    // No more than can be shown is decoded: a common name may have 16 kB.
    let bytes = value.value();
    let bytes = &bytes[..bytes.len().min(4 * MAX_SHOWN_NAME)];
    escape(&String::from_utf8_lossy(bytes))
}

fn attribute_name(kind: &[u8]) -> String {
    match kind {
        [0x55, 0x04, 3] => "CN".to_owned(),
        [0x55, 0x04, 5] => "serialNumber".to_owned(),
        [0x55, 0x04, 6] => "C".to_owned(),
        [0x55, 0x04, 7] => "L".to_owned(),
        [0x55, 0x04, 8] => "ST".to_owned(),
        [0x55, 0x04, 10] => "O".to_owned(),
        [0x55, 0x04, 11] => "OU".to_owned(),
        kind => oid::display(kind),
    }
}
