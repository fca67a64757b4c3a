//! One certificate in words, for people who want to know what it is. Nothing here is a verdict.
//!
//! Whatever a stranger wrote is escaped and bounded. A part that cannot be read says so instead of
//! refusing the rest: what is refused elsewhere is what people look at most.

use comity_identity::{Fingerprint, KeyHash, NodeId, UnixTime};
use der::asn1::{AnyRef, BitStringRef, UintRef};
use der::{Decode, Tag, TagNumber, Tagged};

use crate::authority::{AuthorityCertificate, AuthorityKind};
use crate::keys::{KeyKind, accept_key};
use crate::limits::{MAX_CHAIN_BYTES, MAX_SANS};
use crate::metadata::Metadata;
use crate::mint_cross::permitted_name;
use crate::names::{self, SanName, escape_entry};
use crate::native;
use crate::oid;
use crate::parsed::{self, CertificateFault, Extension, Parsed};
use crate::verify::verifies;

/// What one certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// Which of our profiles it has, if any.
    pub kind: CertificateKind,
    /// Its subject, escaped and bounded.
    pub subject: String,
    /// Its issuer, escaped and bounded.
    pub issuer: String,
    /// Whether subject and issuer are one and its own key signed it.
    pub self_signed: bool,
    /// The content of its serial number in hexadecimal digits, at most 21 bytes of it.
    pub serial: String,
    /// First second at which it is valid.
    pub not_before: UnixTime,
    /// Last second at which it is valid.
    pub not_after: UnixTime,
    /// The kind of its key, such as `P-256` or `RSA 3072`, or why it is not accepted.
    pub key_kind: String,
    /// Hash of its SubjectPublicKeyInfo: the node id, if it is an identity key.
    pub key: KeyHash,
    /// Hash of the whole certificate.
    pub fingerprint: Fingerprint,
    /// The signature algorithm, by name or object identifier.
    pub signature_algorithm: String,
    /// CA:TRUE.
    pub is_ca: bool,
    /// How many CA certificates may stand below it; `None` for any number.
    pub path_length: Option<u32>,
    /// What its KeyUsage allows; `None` without that extension.
    pub key_usage: Option<Vec<&'static str>>,
    /// What its ExtendedKeyUsage allows; `None` without that extension.
    pub extended_key_usage: Option<Vec<String>>,
    /// The names of its SubjectAltName, each with its kind, escaped and bounded.
    pub names: Vec<String>,
    /// Its name constraints; `None` without that extension.
    pub name_constraints: Option<Constraints>,
    /// What its metadata extension says: attested, if an authority signed it, or claimed.
    pub metadata: Option<Metadata>,
    /// The hash of the next identity key, to which a node's root commits.
    pub next: Option<KeyHash>,
    /// Bytes of succession statements in it.
    pub succession: Option<usize>,
    /// SubjectKeyIdentifier in hexadecimal digits.
    pub subject_key_identifier: Option<String>,
    /// The key identifier in AuthorityKeyIdentifier in hexadecimal digits.
    pub authority_key_identifier: Option<String>,
    /// The object identifiers of the extensions that are marked critical.
    pub critical: Vec<String>,
    /// The object identifiers of the extensions that are not explained above.
    pub unknown: Vec<String>,
    /// Extensions that are there but cannot be read, by their object identifier.
    pub unreadable: Vec<String>,
}

/// Which of our profiles a certificate has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateKind {
    /// The root of a node, self-signed.
    NodeRoot(NodeId),
    /// A leaf in the name of a node.
    NodeLeaf,
    /// One of an authority's own keys.
    Authority(AuthorityKind),
    /// A CA certificate that may sign for its own subject only: what an authority gives a member.
    Cross,
    /// Another CA certificate.
    Ca,
    /// Any other.
    Leaf,
}

/// Name constraints in words, each subtree with its kind, escaped and bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    /// Names must be below one of these, if there is any of their kind.
    pub permitted: Vec<String>,
    /// Names must not be below any of these.
    pub excluded: Vec<String>,
}

/// Describes a certificate.
///
/// # Errors
/// When it is larger than a chain may be, or not a certificate at all.
pub fn describe(der: &[u8]) -> Result<Description, CertificateFault> {
    if der.len() > MAX_CHAIN_BYTES {
        return Err(parsed::malformed("size"));
    }
    let parsed = Parsed::from_der(der)?;
    let mut unreadable = Vec::new();
    let constraints = note(
        &mut unreadable,
        parsed.basic_constraints(),
        &oid::BASIC_CONSTRAINTS,
    );
    let constraints = constraints.unwrap_or_default();
    let mut description = Description {
        kind: kind(der, &parsed, constraints.ca),
        subject: names::distinguished_name(parsed.subject),
        issuer: names::distinguished_name(parsed.issuer),
        self_signed: is_self_signed(&parsed),
        serial: hex(&parsed.serial[..parsed.serial.len().min(21)]),
        not_before: parsed.not_before,
        not_after: parsed.not_after,
        key_kind: key_kind(parsed.spki),
        key: KeyHash::of_spki(parsed.spki),
        fingerprint: Fingerprint::of_certificate(der),
        signature_algorithm: signature_algorithm(parsed.signature_algorithm),
        is_ca: constraints.ca,
        path_length: constraints.path_len,
        key_usage: None,
        extended_key_usage: None,
        names: Vec::new(),
        name_constraints: None,
        metadata: None,
        next: None,
        succession: None,
        subject_key_identifier: parsed.key_identifier().map(identifier),
        authority_key_identifier: parsed.authority_key_identifier().map(identifier),
        critical: Vec::new(),
        unknown: Vec::new(),
        unreadable,
    };
    for extension in &parsed.extensions {
        description.add(extension);
    }
    Ok(description)
}

impl Description {
    /// Every field that is there, with its name, in the order in which people look for them.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            ("kind", self.kind.to_string()),
            ("subject", self.subject.clone()),
            ("issuer", self.issuer.clone()),
            ("self-signed", yes(self.self_signed)),
            ("serial", self.serial.clone()),
            ("not before", self.not_before.to_string()),
            ("not after", self.not_after.to_string()),
            ("key", self.key_kind.clone()),
            ("key hash", self.key.to_string()),
            ("fingerprint", self.fingerprint.to_hex()),
            ("signed with", self.signature_algorithm.clone()),
            ("may certify", self.may_certify()),
        ];
        lines.extend(self.optional_lines());
        lines
    }

    fn optional_lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        let mut list = |name, items: &[String]| {
            if !items.is_empty() {
                lines.push((name, items.join(", ")));
            }
        };
        if let Some(usage) = &self.key_usage {
            list(
                "key usage",
                &usage.iter().map(|u| (*u).to_owned()).collect::<Vec<_>>(),
            );
        }
        list(
            "extended key usage",
            self.extended_key_usage.as_deref().unwrap_or_default(),
        );
        list("names", &self.names);
        if let Some(constraints) = &self.name_constraints {
            list("permitted names", &constraints.permitted);
            list("excluded names", &constraints.excluded);
        }
        if let Some(metadata) = &self.metadata {
            list("networks", metadata.networks());
            list("roles", metadata.roles());
            let pair = |(key, value): &(String, String)| format!("{key}={}", escape_entry(value));
            list(
                "pairs",
                &metadata.pairs().iter().map(pair).collect::<Vec<_>>(),
            );
        }
        let text = |text: &Option<String>| text.clone().into_iter().collect::<Vec<_>>();
        list("next key", &text(&self.next.map(|next| next.to_string())));
        let bytes = self
            .succession
            .map(|bytes| format!("{bytes} bytes of statements"));
        list("succession", &text(&bytes));
        list("subject key id", &text(&self.subject_key_identifier));
        list("authority key id", &text(&self.authority_key_identifier));
        list("critical", &self.critical);
        list("unknown extensions", &self.unknown);
        list("unreadable extensions", &self.unreadable);
        lines
    }

    fn may_certify(&self) -> String {
        match (self.is_ca, self.path_length) {
            (false, _) => "nothing".to_owned(),
            (true, None) => "leaves and any number of CAs below one another".to_owned(),
            (true, Some(0)) => "leaves only".to_owned(),
            (true, Some(1)) => "leaves, and CAs that certify leaves only".to_owned(),
            (true, Some(length)) => format!("leaves and up to {length} CAs below one another"),
        }
    }

    fn add(&mut self, extension: &Extension<'_>) {
        let name = oid::display(extension.oid);
        if extension.critical {
            self.critical.push(name.clone());
        }
        let value = extension.value;
        let is = |oid: &const_oid::ObjectIdentifier| extension.oid == oid.as_bytes();
        let read = if is(&oid::KEY_USAGE) {
            set(&mut self.key_usage, key_usage(value))
        } else if is(&oid::EXTENDED_KEY_USAGE) {
            set(&mut self.extended_key_usage, extended_key_usage(value))
        } else if is(&oid::SUBJECT_ALT_NAME) {
            let names = parsed::general_names(value).ok();
            names.map(|names| self.names = names.into_iter().map(general_name).collect())
        } else if is(&oid::NAME_CONSTRAINTS) {
            set(&mut self.name_constraints, name_constraints(value))
        } else if is(&oid::METADATA) {
            set(&mut self.metadata, Metadata::from_der(value).ok())
        } else if is(&oid::NEXT_KEY) {
            set(&mut self.next, commitment(value))
        } else if is(&oid::SUCCESSION) {
            set(&mut self.succession, Some(value.len()))
        } else if is(&oid::SUBJECT_KEY_IDENTIFIER) {
            self.subject_key_identifier.as_ref().map(|_| ())
        } else if is(&oid::AUTHORITY_KEY_IDENTIFIER) {
            // It may name its issuer in another way, which nobody uses.
            Some(())
        } else if is(&oid::BASIC_CONSTRAINTS) {
            // Read, or noted, before.
            Some(())
        } else {
            self.unknown.push(name);
            return;
        };
        if read.is_none() {
            self.unreadable.push(name);
        }
    }
}

impl std::fmt::Display for CertificateKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NodeRoot(node) => write!(f, "root of the node {node}"),
            Self::NodeLeaf => f.write_str("leaf of a node"),
            Self::Authority(AuthorityKind::Root) => f.write_str("root of a network"),
            Self::Authority(AuthorityKind::Rollover) => {
                f.write_str("root of a network, certified by another root of it")
            }
            Self::Authority(AuthorityKind::Issuing { .. }) => {
                f.write_str("issuing key of a network")
            }
            Self::Cross => f.write_str("cross-certificate"),
            Self::Ca => f.write_str("CA"),
            Self::Leaf => f.write_str("leaf"),
        }
    }
}

fn kind(der: &[u8], parsed: &Parsed<'_>, is_ca: bool) -> CertificateKind {
    if let Ok((node, _)) = native::read_root(der) {
        return CertificateKind::NodeRoot(node);
    }
    if let Ok(authority) = AuthorityCertificate::from_der(der) {
        return CertificateKind::Authority(authority.kind().clone());
    }
    if is_cross_certificate(parsed) {
        return CertificateKind::Cross;
    }
    let in_a_nodes_name =
        native::has_organization(parsed.subject, native::ORGANIZATION, "subject").unwrap_or(false);
    match (is_ca, in_a_nodes_name) {
        (true, _) => CertificateKind::Ca,
        (false, true) => CertificateKind::NodeLeaf,
        (false, false) => CertificateKind::Leaf,
    }
}

/// Whether it is all that a cross-certificate has to be. One that others may read in another way is
/// only a CA's: people would rely on the word.
fn is_cross_certificate(parsed: &Parsed<'_>) -> bool {
    let constrained = parsed
        .extension(&oid::NAME_CONSTRAINTS)
        .is_some_and(|e| e.critical && e.value == permitted_name(parsed.subject));
    let basic = parsed.extension(&oid::BASIC_CONSTRAINTS);
    let leaves_only = parsed::BasicConstraints {
        ca: true,
        path_len: Some(0),
    };
    constrained
        && basic.is_some_and(|e| e.critical)
        && parsed.basic_constraints() == Ok(leaves_only)
        && parsed.issuer != parsed.subject
}

fn is_self_signed(parsed: &Parsed<'_>) -> bool {
    parsed.subject == parsed.issuer
        && accept_key(parsed.spki).is_ok()
        && verifies(
            parsed.spki,
            parsed.signature_algorithm,
            parsed.tbs,
            parsed.signature,
        )
}

fn key_kind(spki: &[u8]) -> String {
    match accept_key(spki) {
        Ok(KeyKind::P256) => "P-256".to_owned(),
        Ok(KeyKind::P384) => "P-384".to_owned(),
        Ok(KeyKind::Ed25519) => "Ed25519".to_owned(),
        Ok(KeyKind::Rsa) => match rsa_bits(spki) {
            Some(bits) => format!("RSA {bits}"),
            None => "RSA".to_owned(),
        },
        Err(fault) => format!("not accepted: {fault}"),
    }
}

/// Of an accepted key.
fn rsa_bits(spki: &[u8]) -> Option<usize> {
    let [_, key] = parsed::parts(spki, "public key").ok()?;
    let key = BitStringRef::from_der(key).ok()?.as_bytes()?;
    let [modulus, _] = parsed::parts(key, "public key").ok()?;
    let modulus = UintRef::from_der(modulus).ok()?;
    let first = modulus.as_bytes().first()?;
    Some(8 * modulus.as_bytes().len() - first.leading_zeros() as usize)
}

/// The names of RFC 5758 and 8017 for what is common.
fn signature_algorithm(algorithm: &[u8]) -> String {
    let Ok(mut reader) = der::SliceReader::new(algorithm) else {
        return "unreadable".to_owned();
    };
    let kind = der::Reader::tlv_bytes(&mut reader)
        .ok()
        .and_then(|kind| parsed::content(kind, Tag::ObjectIdentifier, "algorithm").ok());
    let Some(kind) = kind else {
        return "unreadable".to_owned();
    };
    let text = oid::display(kind);
    let name = match text.as_str() {
        "1.2.840.10045.4.3.2" => "ECDSA with SHA-256",
        "1.2.840.10045.4.3.3" => "ECDSA with SHA-384",
        "1.2.840.10045.4.3.4" => "ECDSA with SHA-512",
        "1.2.840.113549.1.1.5" => "RSA with SHA-1",
        "1.2.840.113549.1.1.10" => "RSASSA-PSS",
        "1.2.840.113549.1.1.11" => "RSA with SHA-256",
        "1.2.840.113549.1.1.12" => "RSA with SHA-384",
        "1.2.840.113549.1.1.13" => "RSA with SHA-512",
        "1.3.101.112" => "Ed25519",
        _ => return text,
    };
    name.to_owned()
}

/// The bits of RFC 5280 section 4.2.1.3, the first one first.
fn key_usage(value: &[u8]) -> Option<Vec<&'static str>> {
    const BITS: [&str; 9] = [
        "digital signature",
        "non-repudiation",
        "key encipherment",
        "data encipherment",
        "key agreement",
        "certificate signing",
        "CRL signing",
        "encipher only",
        "decipher only",
    ];
    let bits = parsed::key_usage_bits(value).ok()?;
    let used = bits.bits().zip(BITS).filter(|(bit, _)| *bit);
    Some(used.map(|(_, name)| name).collect())
}

fn extended_key_usage(value: &[u8]) -> Option<Vec<String>> {
    let what = "extended key usage";
    let usages = parsed::elements(value, Tag::Sequence, what).ok()?;
    let usages = usages.into_iter().take(MAX_SANS).map(|usage| {
        let usage = parsed::content(usage, Tag::ObjectIdentifier, what).ok()?;
        Some(usage_name(usage))
    });
    usages.collect()
}

fn usage_name(usage: &[u8]) -> String {
    if usage == oid::SERVER_AUTH.as_bytes() {
        "servers".to_owned()
    } else if usage == oid::CLIENT_AUTH.as_bytes() {
        "clients".to_owned()
    } else if usage == oid::ANY_USAGE.as_bytes() {
        "any".to_owned()
    } else {
        oid::display(usage)
    }
}

fn name_constraints(value: &[u8]) -> Option<Constraints> {
    let what = "name constraints";
    let mut constraints = Constraints::default();
    for list in parsed::elements(value, Tag::Sequence, what).ok()? {
        let tag = *list.first()?;
        let subtrees = parsed::tagged_elements(list, tag, what).ok()?;
        let names = subtrees.into_iter().take(MAX_SANS).map(subtree);
        let names = names.collect::<Option<Vec<String>>>()?;
        match tag {
            0xa0 => constraints.permitted.extend(names),
            0xa1 => constraints.excluded.extend(names),
            _ => return None,
        }
    }
    Some(constraints)
}

/// A base and, which nobody uses, a minimum and a maximum.
fn subtree(der: &[u8]) -> Option<String> {
    let what = "name constraints";
    let parts = parsed::elements(der, Tag::Sequence, what).ok()?;
    let base = AnyRef::from_der(parts.first()?).ok()?;
    let name = match base.tag() {
        // An address and a mask, which is no address.
        Tag::ContextSpecific {
            number: TagNumber(7),
            ..
        } => format!("IP 0x{}", hex(&base.value()[..base.value().len().min(32)])),
        _ => general_name(base),
    };
    match parts.len() {
        1 => Some(name),
        _ => Some(format!("{name} (with a minimum or maximum)")),
    }
}

/// A GeneralName of RFC 5280 section 4.2.1.6 with its kind.
fn general_name(name: AnyRef<'_>) -> String {
    let Tag::ContextSpecific {
        number: TagNumber(number),
        ..
    } = name.tag()
    else {
        return "unreadable name".to_owned();
    };
    let text = || escape_entry(&String::from_utf8_lossy(head(name.value())));
    match number {
        1 => format!("mail {}", text()),
        2 => format!("DNS {}", text()),
        4 => format!("directory {}", names::distinguished_name(name.value())),
        6 => format!("URI {}", text()),
        7 => match names::usable(vec![name]).first() {
            Some(SanName::Ip(address)) => format!("IP {address}"),
            _ => "unreadable IP".to_owned(),
        },
        number => format!("name of kind {number}"),
    }
}

/// No more than can be shown is decoded.
fn head(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(4 * crate::limits::MAX_SHOWN_NAME)]
}

fn commitment(value: &[u8]) -> Option<KeyHash> {
    let hash = parsed::content(value, Tag::OctetString, "commitment").ok()?;
    hash.try_into().ok().map(KeyHash::from_bytes)
}

/// What a key is called in two extensions: 20 or 32 bytes, and never much more.
fn identifier(bytes: &[u8]) -> String {
    hex(&bytes[..bytes.len().min(64)])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn yes(answer: bool) -> String {
    match answer {
        true => "yes".to_owned(),
        false => "no".to_owned(),
    }
}

/// Keeps what could be read.
fn set<T>(field: &mut Option<T>, value: Option<T>) -> Option<()> {
    *field = value;
    field.as_ref().map(|_| ())
}

/// Keeps what could be read, and which extension could not.
fn note<T>(
    unreadable: &mut Vec<String>,
    read: Result<T, CertificateFault>,
    extension: &const_oid::ObjectIdentifier,
) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(_) => {
            unreadable.push(oid::display(extension.as_bytes()));
            None
        }
    }
}
