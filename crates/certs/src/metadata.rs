//! The metadata extension: networks, roles and free pairs in a certificate.
//!
//! In a certificate that its owner signed these are claims. They count only in a
//! certificate signed by an authority that is scoped for them, which is decided elsewhere.
//!
//! The schema, which `docs/formats.md` states for others:
//!
//! ```text
//! ComityMetadata ::= SEQUENCE {
//!     networks [0] IMPLICIT SEQUENCE OF UTF8String OPTIONAL,
//!     roles    [1] IMPLICIT SEQUENCE OF UTF8String OPTIONAL,
//!     pairs    [2] IMPLICIT SEQUENCE OF Pair OPTIONAL }
//! Pair ::= SEQUENCE { key UTF8String, value UTF8String }
//! ```
//!
//! Lists are strictly ascending by their bytes (pairs by key) and absent when empty, so that one
//! set of facts has one encoding and nothing is said twice.

use der::asn1::{AnyRef, Utf8StringRef};
use der::{Decode, Encode, Tag, TagNumber, Tagged};
use thiserror::Error;

use crate::limits::{
    MAX_METADATA_BYTES, MAX_METADATA_LABEL, MAX_METADATA_NETWORKS, MAX_METADATA_PAIRS,
    MAX_METADATA_ROLES, MAX_METADATA_VALUE,
};

/// The content of a metadata extension: within limits, sorted and without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    networks: Vec<String>,
    roles: Vec<String>,
    pairs: Vec<(String, String)>,
}

/// Why metadata was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// Not DER of the schema.
    #[error("it is not DER of the schema")]
    Malformed,
    /// Too many entries, or too many bytes.
    #[error("{found} {what}, and {limit} are accepted")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many are accepted.
        limit: usize,
    },
    /// A network, role or key that is empty, too long, or has other characters than lower-case
    /// letters, digits, `-`, `_` and `.`, or does not begin with a letter or digit.
    #[error("{text:?} is not a name of 1 to {MAX_METADATA_LABEL} characters a-z 0-9 - _ .")]
    Label {
        /// The name, escaped and bounded.
        text: String,
    },
    /// A value that is too long or has control characters.
    #[error("the value of {key:?} has control characters or more than {MAX_METADATA_VALUE} bytes")]
    Value {
        /// Its key.
        key: String,
    },
    /// Something said twice, or a list that is not in ascending order.
    #[error("{text:?} appears twice or out of order")]
    Order {
        /// The entry.
        text: String,
    },
}

impl Metadata {
    /// Metadata with the given content, sorted.
    ///
    /// # Errors
    /// When an entry is not acceptable, appears twice, or there are too many.
    pub fn new(
        mut networks: Vec<String>,
        mut roles: Vec<String>,
        mut pairs: Vec<(String, String)>,
    ) -> Result<Self, MetadataError> {
        networks.sort_unstable();
        roles.sort_unstable();
        pairs.sort_unstable();
        let metadata = Self {
            networks,
            roles,
            pairs,
        };
        metadata.check()?;
        // The limits of the parts add up to more than the limit of the whole.
        metadata.to_der()?;
        Ok(metadata)
    }

    /// Names of networks, in ascending order.
    pub fn networks(&self) -> &[String] {
        &self.networks
    }

    /// Roles, in ascending order.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// Pairs of key and value, in ascending order of their keys. Values are UTF-8 without control
    /// characters, but in any script: escape them for display.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// Whether there is nothing in it; no extension is written then.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.roles.is_empty() && self.pairs.is_empty()
    }

    /// The DER of the extension's value.
    ///
    /// # Errors
    /// When it has more than [`MAX_METADATA_BYTES`] bytes.
    pub fn to_der(&self) -> Result<Vec<u8>, MetadataError> {
        self.encode()
            .map_err(|_| MetadataError::Malformed)
            .and_then(|der| match der.len() <= MAX_METADATA_BYTES {
                true => Ok(der),
                false => Err(too_large(der.len())),
            })
    }

    /// Reads the extension's value.
    ///
    /// # Errors
    /// When it is not the one encoding of acceptable metadata.
    pub fn from_der(der: &[u8]) -> Result<Self, MetadataError> {
        if der.len() > MAX_METADATA_BYTES {
            return Err(too_large(der.len()));
        }
        let metadata = Self::decode(der)?;
        metadata.check()?;
        Ok(metadata)
    }

    fn encode(&self) -> der::Result<Vec<u8>> {
        let mut content = Vec::new();
        encode_list(&mut content, 0, &encode_strings(&self.networks)?)?;
        encode_list(&mut content, 1, &encode_strings(&self.roles)?)?;
        let mut pairs = Vec::new();
        for (key, value) in &self.pairs {
            let mut pair = Vec::new();
            Utf8StringRef::new(key)?.encode_to_vec(&mut pair)?;
            Utf8StringRef::new(value)?.encode_to_vec(&mut pair)?;
            AnyRef::new(Tag::Sequence, &pair)?.encode_to_vec(&mut pairs)?;
        }
        encode_list(&mut content, 2, &pairs)?;
        AnyRef::new(Tag::Sequence, &content)?.to_der()
    }

    fn decode(der: &[u8]) -> Result<Self, MetadataError> {
        let mut metadata = Self::default();
        let mut next = 0;
        for list in elements(AnyRef::from_der(der)?, Tag::Sequence)? {
            let Tag::ContextSpecific {
                constructed: true,
                number: TagNumber(number),
            } = list.tag()
            else {
                return Err(MetadataError::Malformed);
            };
            let entries = elements(list, list.tag())?;
            // Each list at most once, in order, and absent rather than empty.
            if number < next || entries.is_empty() {
                return Err(MetadataError::Malformed);
            }
            next = number + 1;
            match number {
                0 => metadata.networks = decode_strings(&entries)?,
                1 => metadata.roles = decode_strings(&entries)?,
                2 => metadata.pairs = decode_pairs(&entries)?,
                _ => return Err(MetadataError::Malformed),
            }
        }
        Ok(metadata)
    }

    fn check(&self) -> Result<(), MetadataError> {
        within("networks", self.networks.len(), MAX_METADATA_NETWORKS)?;
        within("roles", self.roles.len(), MAX_METADATA_ROLES)?;
        within("pairs", self.pairs.len(), MAX_METADATA_PAIRS)?;
        ascending(self.networks.iter())?;
        ascending(self.roles.iter())?;
        ascending(self.pairs.iter().map(|(key, _)| key))?;
        for (key, value) in &self.pairs {
            if value.len() > MAX_METADATA_VALUE || value.chars().any(char::is_control) {
                return Err(MetadataError::Value { key: key.clone() });
            }
        }
        Ok(())
    }
}

impl From<der::Error> for MetadataError {
    fn from(_: der::Error) -> Self {
        Self::Malformed
    }
}

/// Whether `text` may be the name of a network, a role, or the key of a pair.
pub fn is_label(text: &str) -> bool {
    text.len() <= MAX_METADATA_LABEL
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
}

fn too_large(found: usize) -> MetadataError {
    MetadataError::Limit {
        what: "bytes",
        found,
        limit: MAX_METADATA_BYTES,
    }
}

fn within(what: &'static str, found: usize, limit: usize) -> Result<(), MetadataError> {
    match found <= limit {
        true => Ok(()),
        false => Err(MetadataError::Limit { what, found, limit }),
    }
}

fn ascending<'a>(labels: impl Iterator<Item = &'a String>) -> Result<(), MetadataError> {
    let mut previous: Option<&String> = None;
    for label in labels {
        if !is_label(label) {
            return Err(MetadataError::Label {
                text: crate::names::escape(label),
            });
        }
        if previous.is_some_and(|previous| previous >= label) {
            return Err(MetadataError::Order {
                text: label.clone(),
            });
        }
        previous = Some(label);
    }
    Ok(())
}

fn encode_strings(strings: &[String]) -> der::Result<Vec<u8>> {
    let mut content = Vec::new();
    for string in strings {
        Utf8StringRef::new(string)?.encode_to_vec(&mut content)?;
    }
    Ok(content)
}

fn encode_list(to: &mut Vec<u8>, number: u32, content: &[u8]) -> der::Result<()> {
    if content.is_empty() {
        return Ok(());
    }
    let tag = Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(number),
    };
    AnyRef::new(tag, content)?.encode_to_vec(to)?;
    Ok(())
}

fn elements<'a>(list: AnyRef<'a>, tag: Tag) -> der::Result<Vec<AnyRef<'a>>> {
    list.tag().assert_eq(tag)?;
    let mut reader = der::SliceReader::new(list.value())?;
    let mut elements = Vec::new();
    while !der::Reader::is_finished(&reader) {
        elements.push(AnyRef::decode(&mut reader)?);
    }
    Ok(elements)
}

fn decode_strings(entries: &[AnyRef<'_>]) -> Result<Vec<String>, MetadataError> {
    entries.iter().map(|entry| decode_string(*entry)).collect()
}

fn decode_string(entry: AnyRef<'_>) -> Result<String, MetadataError> {
    Ok(entry.decode_as::<Utf8StringRef<'_>>()?.as_str().to_owned())
}

fn decode_pairs(entries: &[AnyRef<'_>]) -> Result<Vec<(String, String)>, MetadataError> {
    entries
        .iter()
        .map(|entry| match elements(*entry, Tag::Sequence)?.as_slice() {
            [key, value] => Ok((decode_string(*key)?, decode_string(*value)?)),
            _ => Err(MetadataError::Malformed),
        })
        .collect()
}
