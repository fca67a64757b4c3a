//! The certificates of an authority's own keys: founding and later roots, issuing keys below them,
//! and the certificate that an old root gives a new one.
//!
//! As with the native profile there is one way to write each, and the same constants serve minting
//! and checking. The name says which key it is, so that no two generations share one: software
//! that finds certificates by name alone never has to choose between keys.

use comity_identity::{Algorithm, KeyHash, UnixTime, VerifyError};
use const_oid::ObjectIdentifier;
use der::asn1::AnyRef;
use thiserror::Error;

use crate::limits::{MAX_AUTHORITY_BYTES, MAX_DNS_CONSTRAINTS};
use crate::metadata::{Metadata, MetadataError};
use crate::names::SanName;
use crate::native::{self, Expected, ROOT_KEY_USAGE};
use crate::oid;
use crate::parsed::{self, CertificateFault, Parsed};

/// The organisation that marks an authority's own certificates.
pub(crate) const ORGANIZATION: &str = "Comity Networks";

/// The organisational unit of issuing keys.
const ISSUING_UNIT: &str = "Issuing";

/// `BasicConstraints { cA TRUE }`
const ROOT_CONSTRAINTS: [u8; 5] = [0x30, 0x03, 0x01, 0x01, 0xff];

/// The certificate of one of an authority's keys, in the exact profile.
///
/// Holding one means that the profile was kept and, for a root, that it signed itself. An issuing
/// key or a root certified by another counts only below that root:
/// [`AuthorityCertificate::check_issued_by`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityCertificate {
    kind: AuthorityKind,
    key: KeyHash,
    issuer_key: KeyHash,
    spki: Vec<u8>,
    serial: Vec<u8>,
    not_before: UnixTime,
    not_after: UnixTime,
    der: Vec<u8>,
}

/// What the key is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorityKind {
    /// A root that signed itself.
    Root,
    /// A root certified by another one, for peers that still start from that.
    Rollover,
    /// An issuing key.
    Issuing {
        /// How many CA certificates may stand below it: 1 to admit members, 0 to sign leaves only.
        path_length: u8,
        /// The networks and roles that it may attest; empty for any.
        scope: Metadata,
        /// The DNS names below which it may name leaves, lower case; empty for any.
        dns: Vec<String>,
    },
}

/// How a certificate breaks the profile of authority certificates.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AuthorityFault {
    /// Larger than [`MAX_AUTHORITY_BYTES`].
    #[error("it has {bytes} bytes, and {MAX_AUTHORITY_BYTES} are accepted")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not a certificate.
    #[error("it is refused: {0}")]
    Certificate(#[from] CertificateFault),
    /// A key that is neither P-256 nor Ed25519.
    #[error("its key is neither P-256 nor Ed25519")]
    Key,
    /// The subject is neither that of a root nor of an issuing key, of the certificate's own key.
    #[error("its subject is not the one of an authority's key")]
    Subject,
    /// The issuer is not the name of a root.
    #[error("its issuer is not the name of an authority's root")]
    Issuer,
    /// It ends before it begins.
    #[error("it ends before it begins")]
    Validity,
    /// The serial number is not positive or too long.
    #[error("its serial number is not a positive number of at most 20 bytes")]
    Serial,
    /// An extension is missing, is not the one of the profile, or has no place here.
    #[error("its extension {extension} is not the one of the profile")]
    Extension {
        /// Its object identifier.
        extension: String,
    },
    /// The scope of an issuing key is not acceptable.
    #[error("its scope is not valid: {0}")]
    Scope(#[from] MetadataError),
    /// The signature algorithm is not the one of the issuing root's key.
    #[error("its signature algorithm is not the one of its issuer's key")]
    SignatureAlgorithm,
    /// The signature is not one of the issuing root.
    #[error("it is not signed by its issuer: {0}")]
    Signature(VerifyError),
}

/// Why a certificate cannot issue another one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IssuerFault {
    /// It is not the certificate of a root, and one is needed.
    #[error("it is not a root")]
    NotRoot,
    /// It is not a CA certificate, or may not sign certificates.
    #[error("it is not a CA certificate")]
    NotCa,
    /// It allows no CA certificate below itself.
    #[error("it may only sign leaves")]
    LeavesOnly,
    /// It may not attest this network or role.
    #[error("it may not attest {what:?}")]
    OutOfScope {
        /// The network or role.
        what: String,
    },
}

impl AuthorityCertificate {
    /// Reads one of an authority's certificates.
    ///
    /// # Errors
    /// When it is not exactly of the profile, or a root did not sign itself.
    pub fn from_der(der: &[u8]) -> Result<Self, AuthorityFault> {
        if der.len() > MAX_AUTHORITY_BYTES {
            return Err(AuthorityFault::TooLarge { bytes: der.len() });
        }
        let parsed = Parsed::from_der(der)?;
        let algorithm = Algorithm::of_spki(parsed.spki).map_err(|_| AuthorityFault::Key)?;
        let key = KeyHash::of_spki(parsed.spki);
        let issuer_key = root_named(parsed.issuer)?;
        if parsed.not_before > parsed.not_after {
            return Err(AuthorityFault::Validity);
        }
        native::check_serial(&parsed, "certificate").map_err(|_| AuthorityFault::Serial)?;
        let kind = read_kind(&parsed, &key, &issuer_key)?;
        if kind == AuthorityKind::Root {
            check_signature(&parsed, parsed.spki, algorithm)?;
        }
        Ok(Self {
            kind,
            key,
            issuer_key,
            spki: parsed.spki.to_vec(),
            serial: parsed.serial.to_vec(),
            not_before: parsed.not_before,
            not_after: parsed.not_after,
            der: der.to_vec(),
        })
    }

    /// Checks that `root` signed this certificate. Dates are not judged.
    ///
    /// # Errors
    /// When it names another issuer, or the signature is not that of the root's key.
    pub fn check_issued_by(&self, root: &Self) -> Result<(), AuthorityFault> {
        if root.kind != AuthorityKind::Root || self.issuer_key != root.key {
            return Err(AuthorityFault::Issuer);
        }
        let parsed = Parsed::from_der(&self.der)?;
        let algorithm = Algorithm::of_spki(&root.spki).map_err(|_| AuthorityFault::Key)?;
        check_signature(&parsed, &root.spki, algorithm)
    }

    /// What the key is for.
    pub fn kind(&self) -> &AuthorityKind {
        &self.kind
    }

    /// Hash of its SubjectPublicKeyInfo.
    pub fn key(&self) -> KeyHash {
        self.key
    }

    /// Hash of the key that it names as its issuer's.
    pub fn issuer_key(&self) -> KeyHash {
        self.issuer_key
    }

    /// Its DER SubjectPublicKeyInfo: P-256 or Ed25519.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The content bytes of its serial number.
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// First second at which it is valid.
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// Last second at which it is valid.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// The certificate.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its subject as DER.
    pub(crate) fn subject(&self) -> Vec<u8> {
        match self.kind {
            AuthorityKind::Root | AuthorityKind::Rollover => root_name(&self.key),
            AuthorityKind::Issuing { .. } => issuing_name(&self.key),
        }
    }

    /// Checks that it may attest what the metadata says.
    pub(crate) fn check_scope(&self, said: &Metadata) -> Result<(), IssuerFault> {
        match &self.kind {
            AuthorityKind::Issuing { scope, .. } => check_scope(scope, said),
            AuthorityKind::Root | AuthorityKind::Rollover => Ok(()),
        }
    }
}

/// Checks that networks and roles are among those of a scope; an empty list in it limits nothing.
pub(crate) fn check_scope(scope: &Metadata, said: &Metadata) -> Result<(), IssuerFault> {
    for (allowed, found) in [
        (scope.networks(), said.networks()),
        (scope.roles(), said.roles()),
    ] {
        let outside = found.iter().find(|name| !allowed.contains(name));
        if let Some(what) = outside.filter(|_| !allowed.is_empty()) {
            let what = what.clone();
            return Err(IssuerFault::OutOfScope { what });
        }
    }
    Ok(())
}

/// The DER of the name of a root: `O=Comity Networks, serialNumber=<hash of its key>`.
pub(crate) fn root_name(key: &KeyHash) -> Vec<u8> {
    name(&[
        attribute(&oid::ORGANIZATION, 0x0c, ORGANIZATION),
        attribute(&oid::SERIAL_NUMBER, 0x13, &key.to_hex()),
    ])
}

/// The DER of the name of an issuing key:
/// `O=Comity Networks, OU=Issuing, serialNumber=<hash of its key>`.
pub(crate) fn issuing_name(key: &KeyHash) -> Vec<u8> {
    name(&[
        attribute(&oid::ORGANIZATION, 0x0c, ORGANIZATION),
        attribute(&oid::ORGANIZATIONAL_UNIT, 0x0c, ISSUING_UNIT),
        attribute(&oid::SERIAL_NUMBER, 0x13, &key.to_hex()),
    ])
}

/// `SEQUENCE { SET { SEQUENCE { oid, string } } … }`
fn name(attributes: &[Vec<u8>]) -> Vec<u8> {
    short(0x30, &attributes.concat())
}

/// `SET { SEQUENCE { oid, string } }` with the string type `tag`.
pub(crate) fn attribute(kind: &ObjectIdentifier, tag: u8, text: &str) -> Vec<u8> {
    let kind = short(0x06, kind.as_bytes());
    let text = short(tag, text.as_bytes());
    short(0x31, &short(0x30, &[kind, text].concat()))
}

/// A DER element whose content has less than 64 kB.
pub(crate) fn short(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    let head = match (high, low) {
        (0, 0..0x80) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [head.as_slice(), content].concat()
}

/// The extensions of a root, in the order in which we write them.
pub(crate) fn root_extensions(key: &KeyHash) -> Vec<Expected> {
    vec![
        (oid::BASIC_CONSTRAINTS, true, ROOT_CONSTRAINTS.to_vec()),
        (oid::KEY_USAGE, true, ROOT_KEY_USAGE.to_vec()),
        native::key_identifier(key.as_bytes()),
    ]
}

/// The extensions of a root that another one certifies.
pub(crate) fn rollover_extensions(key: &KeyHash, issuer: &KeyHash) -> Vec<Expected> {
    let mut extensions = root_extensions(key);
    extensions.push(native::authority_key_identifier(issuer.as_bytes()));
    extensions
}

/// The extensions of an issuing key that are always there.
pub(crate) fn issuing_extensions(
    key: &KeyHash,
    issuer: &KeyHash,
    path_length: u8,
) -> Vec<Expected> {
    let constraints = vec![0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, path_length];
    vec![
        (oid::BASIC_CONSTRAINTS, true, constraints),
        (oid::KEY_USAGE, true, ROOT_KEY_USAGE.to_vec()),
        native::key_identifier(key.as_bytes()),
        native::authority_key_identifier(issuer.as_bytes()),
    ]
}

/// `NameConstraints { permittedSubtrees { dNSName … } }`
pub(crate) fn dns_constraints(dns: &[String]) -> Vec<u8> {
    let subtree = |name: &String| short(0x30, &short(0x82, name.as_bytes()));
    let subtrees: Vec<u8> = dns.iter().flat_map(subtree).collect();
    short(0x30, &short(0xa0, &subtrees))
}

/// Whether a text can stand in [`dns_constraints`]: a lower-case DNS name without wildcard.
pub(crate) fn is_dns_constraint(name: &str) -> bool {
    !name.contains('*') && matches!(SanName::dns(name), Some(SanName::Dns(dns)) if dns == name)
}

/// The key of the root that has this name.
fn root_named(name: &[u8]) -> Result<KeyHash, AuthorityFault> {
    let attributes = parsed::attributes(name, "issuer")?;
    let key = attributes
        .last()
        .and_then(|(_, value)| std::str::from_utf8(value.value()).ok())
        .filter(|digits| digits.len() == 64)
        .and_then(|digits| digits.parse().ok())
        .ok_or(AuthorityFault::Issuer)?;
    // Compared with what we would write, so that only that is accepted.
    match root_name(&key) == name {
        true => Ok(key),
        false => Err(AuthorityFault::Issuer),
    }
}

fn read_kind(
    parsed: &Parsed<'_>,
    key: &KeyHash,
    issuer: &KeyHash,
) -> Result<AuthorityKind, AuthorityFault> {
    if parsed.subject == root_name(key) {
        return match key == issuer {
            true => check_extensions(parsed, &root_extensions(key)).map(|()| AuthorityKind::Root),
            false => check_extensions(parsed, &rollover_extensions(key, issuer))
                .map(|()| AuthorityKind::Rollover),
        };
    }
    match parsed.subject == issuing_name(key) {
        true => read_issuing(parsed, key, issuer),
        false => Err(AuthorityFault::Subject),
    }
}

fn read_issuing(
    parsed: &Parsed<'_>,
    key: &KeyHash,
    issuer: &KeyHash,
) -> Result<AuthorityKind, AuthorityFault> {
    let path_length = match parsed.basic_constraints()?.path_len {
        Some(1) => 1,
        Some(0) => 0,
        _ => return Err(extension(&oid::BASIC_CONSTRAINTS)),
    };
    let mut expected = issuing_extensions(key, issuer, path_length);
    let scope = match parsed.extension(&oid::METADATA) {
        Some(found) => Metadata::from_der(found.value)?,
        None => Metadata::default(),
    };
    if !scope.is_empty() {
        expected.push((oid::METADATA, false, scope.to_der()?));
    }
    let dns = read_dns_constraints(parsed)?;
    if !dns.is_empty() {
        // Below a member's cross-certificate nothing would compare them with all names.
        if path_length != 0 {
            return Err(extension(&oid::NAME_CONSTRAINTS));
        }
        expected.push((oid::NAME_CONSTRAINTS, true, dns_constraints(&dns)));
    }
    check_extensions(parsed, &expected)?;
    Ok(AuthorityKind::Issuing {
        path_length,
        scope,
        dns,
    })
}

fn read_dns_constraints(parsed: &Parsed<'_>) -> Result<Vec<String>, AuthorityFault> {
    let Some(found) = parsed.extension(&oid::NAME_CONSTRAINTS) else {
        return Ok(Vec::new());
    };
    let fault = || extension(&oid::NAME_CONSTRAINTS);
    let what = "name constraints";
    let [permitted] = parsed::parts(found.value, what)?;
    let mut names = Vec::new();
    for subtree in parsed::tagged_elements(permitted, 0xa0, what)? {
        let [name] = parsed::parts(subtree, what)?;
        let name = AnyRef::try_from(name).map_err(|_| fault())?;
        let text = std::str::from_utf8(name.value()).map_err(|_| fault())?;
        if !is_dns_constraint(text) || names.len() == MAX_DNS_CONSTRAINTS {
            return Err(fault());
        }
        names.push(text.to_owned());
    }
    // Whether these were dNSNames is seen when the whole is compared with what we would write.
    match names.is_empty() {
        true => Err(fault()),
        false => Ok(names),
    }
}

/// Exactly the expected extensions, in any order. Unknown ones that are not critical and not of
/// X.509 itself may come with later versions.
fn check_extensions(parsed: &Parsed<'_>, expected: &[Expected]) -> Result<(), AuthorityFault> {
    for (kind, critical, value) in expected {
        let found = parsed.extension(kind);
        if !found.is_some_and(|e| e.critical == *critical && e.value == value) {
            return Err(extension(kind));
        }
    }
    for found in &parsed.extensions {
        let is_expected = expected
            .iter()
            .any(|(kind, ..)| kind.as_bytes() == found.oid);
        let is_known = found.oid.starts_with(&oid::ID_CE) || found.oid == oid::METADATA.as_bytes();
        if !is_expected && (found.critical || is_known) {
            return Err(AuthorityFault::Extension {
                extension: oid::display(found.oid),
            });
        }
    }
    Ok(())
}

fn extension(kind: &ObjectIdentifier) -> AuthorityFault {
    AuthorityFault::Extension {
        extension: oid::display(kind.as_bytes()),
    }
}

fn check_signature(
    parsed: &Parsed<'_>,
    spki: &[u8],
    algorithm: Algorithm,
) -> Result<(), AuthorityFault> {
    if parsed.signature_algorithm != native::signature_algorithm(algorithm).1 {
        return Err(AuthorityFault::SignatureAlgorithm);
    }
    comity_identity::verify(spki, parsed.tbs, parsed.signature).map_err(AuthorityFault::Signature)
}
