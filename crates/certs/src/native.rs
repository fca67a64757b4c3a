//! The native profile: a node's self-signed root and a leaf that it signed.
//!
//! There is exactly one way to write each of these certificates, apart from serial numbers, times,
//! names, and unknown extensions that are not critical. The same constants serve minting and
//! checking, so the two cannot drift apart.

use std::time::Duration;

use comity_identity::{Algorithm, KeyHash, NodeId, UnixTime, VerifyError};
use const_oid::ObjectIdentifier;
use der::Tag;
use thiserror::Error;

use crate::chain::{ChainError, Purpose};
use crate::names::{self, SanName};
use crate::oid;
use crate::parsed::{self, CertificateFault, Parsed};
use crate::renewal::{CLOCK_TOLERANCE, LEAF_LIFETIME};

/// The organisation that marks a native chain.
pub(crate) const ORGANIZATION: &str = "Comity Nodes";

/// The longest validity of a native leaf: its lifetime, and a beginning in the past for peers
/// whose clocks are behind.
pub const MAX_LEAF_VALIDITY: Duration =
    Duration::from_secs(LEAF_LIFETIME.as_secs() + CLOCK_TOLERANCE.as_secs());

/// `BasicConstraints { cA TRUE, pathLenConstraint 0 }`
pub(crate) const ROOT_CONSTRAINTS: [u8; 8] = [0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00];
/// `BasicConstraints {}`
pub(crate) const LEAF_CONSTRAINTS: [u8; 2] = [0x30, 0x00];
/// `keyCertSign | cRLSign`
pub(crate) const ROOT_KEY_USAGE: [u8; 4] = [0x03, 0x02, 0x01, 0x06];
/// `digitalSignature`
pub(crate) const LEAF_KEY_USAGE: [u8; 4] = [0x03, 0x02, 0x07, 0x80];

/// How a chain that claims to be native breaks the profile.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProfileFault {
    /// One certificate only: a root presented as leaf, or a leaf without its root.
    #[error("it is a single certificate, not a leaf and its root")]
    Alone,
    /// More than one self-issued node certificate.
    #[error("it has more than one node root")]
    SecondRoot,
    /// The root's key is neither P-256 nor Ed25519.
    #[error("the root's key is neither P-256 nor Ed25519")]
    RootKey,
    /// The subject is not exactly that of the root's own key.
    #[error("the root's subject is not the one of its own key")]
    RootSubject,
    /// The root's issuer is not its subject.
    #[error("the root's issuer is not its subject")]
    RootIssuer,
    /// The root's end is not 99991231235959Z.
    #[error("the root ends at {not_after}, not 9999-12-31T23:59:59Z")]
    RootExpiry {
        /// When it ends.
        not_after: UnixTime,
    },
    /// The commitment to the next key is not the OCTET STRING of a hash, or is critical.
    #[error("the root's commitment to the next key is not a hash")]
    Commitment,
    /// The leaf's subject is not the root's.
    #[error("the leaf's subject is not the root's")]
    LeafSubject,
    /// The leaf's issuer is not the root's subject.
    #[error("the leaf's issuer is not the root")]
    LeafIssuer,
    /// The leaf's key is not on P-256, or is the identity key itself.
    #[error("the leaf's key is not a P-256 key of its own")]
    LeafKey,
    /// The leaf is valid for longer than [`MAX_LEAF_VALIDITY`], or ends before it begins.
    #[error("the leaf is valid from {not_before} to {not_after}, and 32 days are accepted")]
    LeafValidity {
        /// When it begins.
        not_before: UnixTime,
        /// When it ends.
        not_after: UnixTime,
    },
    /// A SPIFFE id that is not the node's own, or a second one.
    #[error("the leaf's SPIFFE id is not that of the node")]
    Spiffe,
    /// The serial number is not positive or too long (RFC 5280 section 4.1.2.2).
    #[error("the {certificate}'s serial number is not a positive number of at most 20 bytes")]
    Serial {
        /// `root` or `leaf`.
        certificate: &'static str,
    },
    /// An extension is missing, differs in a byte or in being critical, or has no place here.
    #[error("the {certificate}'s extension {extension} is not the one of the profile")]
    Extension {
        /// `root` or `leaf`.
        certificate: &'static str,
        /// Its object identifier.
        extension: String,
    },
    /// The signature algorithm is not the one of the root's key.
    #[error("the {certificate}'s signature algorithm is not the one of the root's key")]
    SignatureAlgorithm {
        /// `root` or `leaf`.
        certificate: &'static str,
    },
    /// The root key did not make this signature.
    #[error("the {certificate} is not signed by the root's key: {cause}")]
    Signature {
        /// `root` or `leaf`.
        certificate: &'static str,
        /// What is wrong with the signature.
        cause: VerifyError,
    },
}

/// What a checked native chain says.
#[derive(Clone, Debug)]
pub(crate) struct NativeFacts {
    pub(crate) node: NodeId,
    pub(crate) next: Option<KeyHash>,
}

/// `Some` when the chain is native, `None` when it does not claim to be.
pub(crate) fn recognise(chain: &[Parsed<'_>]) -> Result<Option<NativeFacts>, ChainError> {
    let (Some(leaf), Some(last)) = (chain.first(), chain.last()) else {
        return Ok(None);
    };
    let claims = claims_native(leaf.issuer, 0, "issuer")?
        || claims_native(last.subject, chain.len() - 1, "subject")?
        || claims_native(last.issuer, chain.len() - 1, "issuer")?;
    if !claims {
        return Ok(None);
    }
    check(chain)
        .map(Some)
        .map_err(|fault| ChainError::NativeProfile { fault })
}

/// Reads a node's root certificate by itself: the node id and the committed hash of its next key.
///
/// # Errors
/// When it is not a certificate, or not a root of the native profile.
pub fn read_root(der: &[u8]) -> Result<(NodeId, Option<KeyHash>), ChainError> {
    let root =
        Parsed::from_der(der).map_err(|fault| ChainError::Certificate { index: 0, fault })?;
    let facts = check_root(&root).map_err(|fault| ChainError::NativeProfile { fault })?;
    Ok((facts.node, facts.next))
}

/// Checks that one certificate is a native root.
pub(crate) fn check_root(root: &Parsed<'_>) -> Result<NativeFacts, ProfileFault> {
    let algorithm = Algorithm::of_spki(root.spki).map_err(|_| ProfileFault::RootKey)?;
    let node = NodeId::of_spki(root.spki);
    if root.subject != subject(&node) {
        return Err(ProfileFault::RootSubject);
    }
    if root.issuer != root.subject {
        return Err(ProfileFault::RootIssuer);
    }
    if root.not_after != UnixTime::NEVER {
        let not_after = root.not_after;
        return Err(ProfileFault::RootExpiry { not_after });
    }
    check_serial(root, "root")?;
    check_extensions(root, "root", &root_extensions(&node), &[oid::NEXT_KEY])?;
    let next = commitment(root)?;
    check_signature(root, "root", root.spki, algorithm)?;
    Ok(NativeFacts { node, next })
}

/// The DER of the subject of a node: `O=Comity Nodes, serialNumber=<id>`.
pub(crate) fn subject(node: &NodeId) -> Vec<u8> {
    // SEQUENCE { SET { SEQUENCE { 2.5.4.10, UTF8String } }, SET { SEQUENCE { 2.5.4.5, Printable } } }
    const ORGANIZATION_ATTRIBUTE: [u8; 13] = [
        0x30, 0x62, 0x31, 0x15, 0x30, 0x13, 0x06, 0x03, 0x55, 0x04, 0x0a, 0x0c, 0x0c,
    ];
    const SERIAL_ATTRIBUTE: [u8; 11] = [
        0x31, 0x49, 0x30, 0x47, 0x06, 0x03, 0x55, 0x04, 0x05, 0x13, 0x40,
    ];
    [
        &ORGANIZATION_ATTRIBUTE,
        ORGANIZATION.as_bytes(),
        &SERIAL_ATTRIBUTE,
        node.to_hex().as_bytes(),
    ]
    .concat()
}

/// Kind, whether critical, and exact value of an extension.
pub(crate) type Expected = (ObjectIdentifier, bool, Vec<u8>);

/// The extensions every native root has.
pub(crate) fn root_extensions(node: &NodeId) -> Vec<Expected> {
    vec![
        (oid::BASIC_CONSTRAINTS, true, ROOT_CONSTRAINTS.to_vec()),
        (oid::KEY_USAGE, true, ROOT_KEY_USAGE.to_vec()),
        key_identifier(node.as_bytes()),
    ]
}

/// The extensions every native leaf has.
pub(crate) fn leaf_extensions(node: &NodeId, key: &KeyHash, purpose: Purpose) -> Vec<Expected> {
    vec![
        (oid::BASIC_CONSTRAINTS, true, LEAF_CONSTRAINTS.to_vec()),
        (oid::KEY_USAGE, true, LEAF_KEY_USAGE.to_vec()),
        (oid::EXTENDED_KEY_USAGE, false, extended_key_usage(purpose)),
        authority_key_identifier(node.as_bytes()),
        key_identifier(key.as_bytes()),
    ]
}

/// The value of the commitment to the next key: `OCTET STRING (SIZE (32))`.
pub(crate) fn commitment_value(next: &KeyHash) -> Vec<u8> {
    [&[0x04, 0x20], next.as_bytes().as_slice()].concat()
}

/// The content of the AlgorithmIdentifier with which a key of this kind signs certificates.
pub(crate) fn signature_algorithm(algorithm: Algorithm) -> (ObjectIdentifier, Vec<u8>) {
    let oid = match algorithm {
        Algorithm::EcdsaP256 => oid::ECDSA_SHA256,
        Algorithm::Ed25519 => oid::ED25519,
    };
    let length = u8::try_from(oid.as_bytes().len()).unwrap_or(u8::MAX);
    let content = [&[0x06, length], oid.as_bytes()].concat();
    (oid, content)
}

/// Whether a name has the organisation of native chains, however it is encoded: a chain that looks
/// native to a person is held to the profile.
fn claims_native(name: &[u8], index: usize, what: &'static str) -> Result<bool, ChainError> {
    has_organization(name, ORGANIZATION, what)
        .map_err(|fault| ChainError::Certificate { index, fault })
}

/// Whether a name has this organisation, in whatever string type, case and white space: OpenSSL
/// compares names without these differences.
pub(crate) fn has_organization(
    name: &[u8],
    organization: &str,
    what: &'static str,
) -> Result<bool, CertificateFault> {
    Ok(parsed::attributes(name, what)?.iter().any(|(kind, value)| {
        *kind == oid::ORGANIZATION.as_bytes()
            && words(value.value()).eq(words(organization.as_bytes()))
    }))
}

/// The words of a string, in lower case.
fn words(text: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    text.split(|byte| matches!(byte, b'\t'..=b'\r' | b' '))
        .filter(|word| !word.is_empty())
        .map(<[u8]>::to_ascii_lowercase)
}

fn check(chain: &[Parsed<'_>]) -> Result<NativeFacts, ProfileFault> {
    let [leaf, middle @ .., root] = chain else {
        return Err(ProfileFault::Alone);
    };
    let facts = check_root(root)?;
    // Cross-certificates have a node's subject and another issuer.
    if middle
        .iter()
        .any(|c| c.subject == c.issuer && c.subject == root.subject)
    {
        return Err(ProfileFault::SecondRoot);
    }
    check_leaf(leaf, root, &facts.node)?;
    Ok(facts)
}

fn check_leaf(leaf: &Parsed<'_>, root: &Parsed<'_>, node: &NodeId) -> Result<(), ProfileFault> {
    if leaf.issuer != root.subject {
        return Err(ProfileFault::LeafIssuer);
    }
    if leaf.subject != root.subject {
        return Err(ProfileFault::LeafSubject);
    }
    if Algorithm::of_spki(leaf.spki) != Ok(Algorithm::EcdsaP256) || leaf.spki == root.spki {
        return Err(ProfileFault::LeafKey);
    }
    check_validity(leaf.not_before, leaf.not_after)?;
    check_serial(leaf, "leaf")?;
    check_leaf_extensions(leaf, node)?;
    check_spiffe(leaf, node)?;
    let algorithm = Algorithm::of_spki(root.spki).map_err(|_| ProfileFault::RootKey)?;
    check_signature(leaf, "leaf", root.spki, algorithm)
}

/// Checks the validity of a leaf, for minting as well.
pub(crate) fn check_validity(
    not_before: UnixTime,
    not_after: UnixTime,
) -> Result<(), ProfileFault> {
    match not_before <= not_after && not_before.until(not_after) <= MAX_LEAF_VALIDITY {
        true => Ok(()),
        false => Err(ProfileFault::LeafValidity {
            not_before,
            not_after,
        }),
    }
}

fn check_leaf_extensions(leaf: &Parsed<'_>, node: &NodeId) -> Result<(), ProfileFault> {
    let key = KeyHash::of_spki(leaf.spki);
    let optional = [oid::SUBJECT_ALT_NAME, oid::METADATA];
    let serves = leaf
        .extension(&oid::EXTENDED_KEY_USAGE)
        .is_some_and(|e| e.value == extended_key_usage(Purpose::Serve));
    let purpose = match serves {
        true => Purpose::Serve,
        false => Purpose::Dial,
    };
    check_extensions(
        leaf,
        "leaf",
        &leaf_extensions(node, &key, purpose),
        &optional,
    )
}

/// Every expected extension is there exactly; besides the optional ones, which must not be
/// critical, no other extension of X.509 itself is. Unknown extensions elsewhere may come with
/// later versions and are harmless while not critical.
fn check_extensions(
    certificate: &Parsed<'_>,
    name: &'static str,
    expected: &[Expected],
    optional: &[ObjectIdentifier],
) -> Result<(), ProfileFault> {
    let fault = |oid: &[u8]| ProfileFault::Extension {
        certificate: name,
        extension: oid::display(oid),
    };
    for (oid, critical, value) in expected {
        let found = certificate.extension(oid);
        if !found.is_some_and(|e| e.critical == *critical && e.value == value) {
            return Err(fault(oid.as_bytes()));
        }
    }
    for extension in &certificate.extensions {
        if expected
            .iter()
            .any(|(oid, ..)| oid.as_bytes() == extension.oid)
        {
            continue;
        }
        let is_optional = optional.iter().any(|oid| oid.as_bytes() == extension.oid);
        if extension.critical || (!is_optional && extension.oid.starts_with(&oid::ID_CE)) {
            return Err(fault(extension.oid));
        }
    }
    Ok(())
}

pub(crate) fn check_serial(
    certificate: &Parsed<'_>,
    name: &'static str,
) -> Result<(), ProfileFault> {
    let positive = match certificate.serial {
        // A first zero byte is only there to keep the number positive.
        [0, second, ..] => *second >= 0x80,
        [first, ..] => (1..0x80).contains(first),
        [] => false,
    };
    match positive && certificate.serial.len() <= 20 {
        true => Ok(()),
        false => Err(ProfileFault::Serial { certificate: name }),
    }
}

pub(crate) fn commitment(root: &Parsed<'_>) -> Result<Option<KeyHash>, ProfileFault> {
    let Some(extension) = root.extension(&oid::NEXT_KEY) else {
        return Ok(None);
    };
    parsed::content(extension.value, Tag::OctetString, "commitment")
        .ok()
        .and_then(|hash| <[u8; 32]>::try_from(hash).ok())
        .map(|hash| Some(KeyHash::from_bytes(hash)))
        .ok_or(ProfileFault::Commitment)
}

/// `spiffe://<network>/node/<64 hex of the node's own id>`, at most once. Whether the
/// network is right depends on the path and is decided there.
fn check_spiffe(leaf: &Parsed<'_>, node: &NodeId) -> Result<(), ProfileFault> {
    // A malformed extension gets a better error where the leaf is read.
    let names = names::subject_alt_names(leaf).unwrap_or_default();
    let mut ids = names.iter().filter_map(|name| match name {
        SanName::Uri(uri) => spiffe_path(uri),
        _ => None,
    });
    match (ids.next(), ids.next()) {
        (None, _) => Ok(()),
        (Some(id), None) if is_own_spiffe(id, node) => Ok(()),
        _ => Err(ProfileFault::Spiffe),
    }
}

fn spiffe_path(uri: &str) -> Option<&str> {
    let (scheme, rest) = uri.split_once(':')?;
    scheme.eq_ignore_ascii_case("spiffe").then_some(rest)
}

fn is_own_spiffe(rest: &str, node: &NodeId) -> bool {
    let Some((network, path)) = rest.strip_prefix("//").and_then(|r| r.split_once('/')) else {
        return false;
    };
    crate::metadata::is_label(network) && path == format!("node/{}", node.to_hex())
}

fn check_signature(
    certificate: &Parsed<'_>,
    name: &'static str,
    spki: &[u8],
    algorithm: Algorithm,
) -> Result<(), ProfileFault> {
    if certificate.signature_algorithm != signature_algorithm(algorithm).1 {
        return Err(ProfileFault::SignatureAlgorithm { certificate: name });
    }
    comity_identity::verify(spki, certificate.tbs, certificate.signature).map_err(|cause| {
        ProfileFault::Signature {
            certificate: name,
            cause,
        }
    })
}

/// SubjectKeyIdentifier by method 4 of RFC 7093: SHA-256 over the SubjectPublicKeyInfo.
pub(crate) fn key_identifier(hash: &[u8; 32]) -> Expected {
    let value = [&[0x04, 0x20], hash.as_slice()].concat();
    (oid::SUBJECT_KEY_IDENTIFIER, false, value)
}

pub(crate) fn authority_key_identifier(hash: &[u8; 32]) -> Expected {
    let value = [&[0x30, 0x22, 0x80, 0x20], hash.as_slice()].concat();
    (oid::AUTHORITY_KEY_IDENTIFIER, false, value)
}

/// `SEQUENCE { id-kp-serverAuth }` or `SEQUENCE { id-kp-clientAuth }`
fn extended_key_usage(purpose: Purpose) -> Vec<u8> {
    let usage = match purpose {
        Purpose::Serve => oid::SERVER_AUTH,
        Purpose::Dial => oid::CLIENT_AUTH,
    };
    [&[0x30, 0x0a, 0x06, 0x08], usage.as_bytes()].concat()
}
