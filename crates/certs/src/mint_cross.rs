//! Minting cross-certificates: a CA certificate for the root of another organisation or node.
//!
//! 1. The root is taken as its owner made it, self-signature included: it proves that whoever made
//!    the name holds the key.
//! 2. Its subject becomes the only permitted name, so that its holder can certify nobody but
//!    itself.
//! 3. A name that is the beginning of ours, or begins with ours, is refused: directory name
//!    constraints permit whole subtrees, and one of the two would contain the other.

use comity_identity::{KeyHash, Signer, UnixTime};
use const_oid::ObjectIdentifier;
use der::asn1::AnyRef;
use der::{Tag, Tagged};
use thiserror::Error;

use crate::authority::{self, AuthorityCertificate, AuthorityKind, IssuerFault};
use crate::chain::ChainError;
use crate::keys::{accept_key, accept_signature};
use crate::limits::{MAX_CHAIN_BYTES, MAX_NAME_ATTRIBUTES};
use crate::metadata::Metadata;
use crate::mint::{MintError, Template, metadata_extension};
use crate::mint_authority::check_validity;
use crate::native::{self, Expected};
use crate::oid;
use crate::parsed::{self, CertificateFault, Parsed};
use crate::verify::verifies;

/// What a cross-certificate is made of, besides its issuer.
#[derive(Clone, Copy, Debug)]
pub struct CrossRequest<'a> {
    /// The self-signed root of the other, native or foreign: its subject and key are certified.
    pub root: &'a [u8],
    /// Random bytes for the serial number; the top bit is cleared.
    pub serial: [u8; 16],
    /// First second at which it is valid.
    pub not_before: UnixTime,
    /// Last second at which it is valid, not after the issuer's.
    pub not_after: UnixTime,
    /// What the authority attests: networks, roles, pairs. No extension is written for none.
    pub metadata: &'a Metadata,
}

/// Why a root cannot be cross-certified.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SubjectFault {
    /// Too large for a chain.
    #[error("it has {bytes} bytes, and {MAX_CHAIN_BYTES} are accepted")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It cannot be read, or its key or signature is of a kind that is not accepted.
    #[error("{0}")]
    Certificate(#[from] CertificateFault),
    /// It is not self-signed: issuer and subject differ, or its own key did not sign it.
    #[error("it did not sign itself")]
    NotSelfSigned,
    /// It does not say CA:TRUE, or its key usage does not allow signing certificates.
    #[error("it is not a CA certificate")]
    NotCa,
    /// It has name constraints of its own, which would be lost.
    #[error("it has name constraints of its own")]
    Constrained,
    /// Its subject is empty: every name is below it.
    #[error("its subject is empty")]
    EmptySubject,
    /// A string of its subject is a BMPString or UniversalString, which could spell our name in
    /// bytes that are not compared.
    #[error("its subject has a string of two or four bytes for a character")]
    WideString,
    /// Its subject begins with the issuer's, or the issuer's with it, or they are one.
    #[error("its subject and the issuer's are one, or one begins with the other")]
    OverlappingSubject,
    /// Its key is the issuer's.
    #[error("its key is the one of the issuer")]
    SameKey,
    /// Its key is the root that certified the issuer: the authority would be a member of itself.
    /// Other keys of the authority are not known here; whoever holds its charter refuses them.
    #[error("its key is the root above the issuer")]
    OwnRoot,
    /// It claims to be a node's root, but is not.
    #[error("it claims to be a node's root, but {0}")]
    Native(ChainError),
    /// It claims to be an authority's, but is not the root of one.
    #[error("it claims to be an authority's root, but is not exactly that")]
    Authority,
}

/// Makes a cross-certificate. Returns its DER.
///
/// # Errors
/// When the issuer is not one of an authority's certificates that may sign CA certificates, is not
/// the signer's or may not attest the metadata; when the root cannot be cross-certified, the
/// validity is longer than the issuer's, or the signer fails.
pub fn mint_cross(
    issuer_der: &[u8],
    signer: &dyn Signer,
    request: &CrossRequest<'_>,
) -> Result<Vec<u8>, MintError> {
    let issuer = AuthorityCertificate::from_der(issuer_der)?;
    check_issuer(&issuer, signer, request.metadata)?;
    check_validity(request.not_before, request.not_after, issuer.not_after())?;
    let root = checked_root(request.root, &issuer)?;
    let template = Template {
        issuer: issuer.subject(),
        subject: root.subject.to_vec(),
        spki: root.spki,
        serial: request.serial,
        validity: (request.not_before, request.not_after),
        extensions: extensions(&root, &issuer, request.metadata)?,
    };
    let der = template.sign(signer)?;
    check_own(&der, &root, &issuer)?;
    Ok(der)
}

fn check_issuer(
    issuer: &AuthorityCertificate,
    signer: &dyn Signer,
    metadata: &Metadata,
) -> Result<(), MintError> {
    if issuer.spki() != signer.spki() {
        return Err(MintError::WrongSigner);
    }
    match issuer.kind() {
        AuthorityKind::Issuing { path_length: 0, .. } => Err(IssuerFault::LeavesOnly.into()),
        // It is the same key as the root's, which has a certificate of its own.
        AuthorityKind::Rollover => Err(IssuerFault::NotRoot.into()),
        AuthorityKind::Root | AuthorityKind::Issuing { .. } => Ok(issuer.check_scope(metadata)?),
    }
}

fn checked_root<'a>(
    der: &'a [u8],
    issuer: &AuthorityCertificate,
) -> Result<Parsed<'a>, SubjectFault> {
    if der.len() > MAX_CHAIN_BYTES {
        return Err(SubjectFault::TooLarge { bytes: der.len() });
    }
    let root = Parsed::from_der(der)?;
    accept_key(root.spki)?;
    accept_signature(root.signature_algorithm)?;
    if root.spki == issuer.spki() {
        return Err(SubjectFault::SameKey);
    }
    if KeyHash::of_spki(root.spki) == issuer.issuer_key() {
        return Err(SubjectFault::OwnRoot);
    }
    check_ca(&root)?;
    check_subject(&root, &issuer.subject())?;
    let signed = verifies(
        root.spki,
        root.signature_algorithm,
        root.tbs,
        root.signature,
    );
    if root.issuer != root.subject || !signed {
        return Err(SubjectFault::NotSelfSigned);
    }
    check_claims(&root, der)?;
    Ok(root)
}

fn check_ca(root: &Parsed<'_>) -> Result<(), SubjectFault> {
    let may_sign = root.key_usage()?.is_none_or(|usage| usage.key_cert_sign);
    if !root.basic_constraints()?.ca || !may_sign {
        return Err(SubjectFault::NotCa);
    }
    match root.extension(&oid::NAME_CONSTRAINTS) {
        Some(_) => Err(SubjectFault::Constrained),
        None => Ok(()),
    }
}

fn check_subject(root: &Parsed<'_>, issuer: &[u8]) -> Result<(), SubjectFault> {
    // Read attribute by attribute, so that it is a name and not only a SEQUENCE.
    let attributes = parsed::attributes(root.subject, "subject")?;
    if attributes.len() > MAX_NAME_ATTRIBUTES {
        return Err(CertificateFault::NameTooLong.into());
    }
    if attributes.is_empty() {
        return Err(SubjectFault::EmptySubject);
    }
    // OpenSSL takes the same text in any type for one name; only bytes are compared here.
    let wide = |(_, value): &(_, AnyRef<'_>)| {
        matches!(value.tag(), Tag::BmpString) || value.tag().number().value() == 28
    };
    if attributes.iter().any(wide) {
        return Err(SubjectFault::WideString);
    }
    let theirs = parsed::elements(root.subject, Tag::Sequence, "subject")?;
    let ours = parsed::elements(issuer, Tag::Sequence, "issuer")?;
    match theirs.iter().zip(&ours).all(|(a, b)| a == b) {
        true => Err(SubjectFault::OverlappingSubject),
        false => Ok(()),
    }
}

/// A name that people and programs read as a node's or an authority's belongs to its key.
fn check_claims(root: &Parsed<'_>, der: &[u8]) -> Result<(), SubjectFault> {
    if native::has_organization(root.subject, native::ORGANIZATION, "subject")? {
        native::read_root(der).map_err(SubjectFault::Native)?;
    }
    if native::has_organization(root.subject, authority::ORGANIZATION, "subject")?
        && !AuthorityCertificate::from_der(der).is_ok_and(|a| *a.kind() == AuthorityKind::Root)
    {
        return Err(SubjectFault::Authority);
    }
    Ok(())
}

fn extensions(
    root: &Parsed<'_>,
    issuer: &AuthorityCertificate,
    metadata: &Metadata,
) -> Result<Vec<Expected>, MintError> {
    let key = KeyHash::of_spki(root.spki);
    let mut extensions = authority::issuing_extensions(&key, &issuer.key(), 0);
    // What the root calls its own key is what its leaves refer to.
    if let Some(own) = own_key_identifier(root) {
        extensions.retain(|(kind, ..)| *kind != oid::SUBJECT_KEY_IDENTIFIER);
        extensions.push((oid::SUBJECT_KEY_IDENTIFIER, false, own));
    }
    let constraints = permitted_name(root.subject);
    extensions.push((oid::NAME_CONSTRAINTS, true, constraints));
    extensions.extend(metadata_extension(metadata)?);
    Ok(extensions)
}

/// The value of the root's SubjectKeyIdentifier, if it is one: at most 64 bytes, as any hash has.
fn own_key_identifier(root: &Parsed<'_>) -> Option<Vec<u8>> {
    let value = root.extension(&oid::SUBJECT_KEY_IDENTIFIER)?.value;
    let content = parsed::content(value, Tag::OctetString, "key identifier").ok()?;
    (1..=64).contains(&content.len()).then(|| value.to_vec())
}

/// `NameConstraints { permittedSubtrees { directoryName subject } }`
pub(crate) fn permitted_name(subject: &[u8]) -> Vec<u8> {
    let directory_name = authority::short(0xa4, subject);
    let subtree = authority::short(0x30, &directory_name);
    authority::short(0x30, &authority::short(0xa0, &subtree))
}

/// The encoder read subject and key and wrote them again: they must have come out byte by byte, or
/// the certificate would be for somebody else.
fn check_own(
    der: &[u8],
    root: &Parsed<'_>,
    issuer: &AuthorityCertificate,
) -> Result<(), MintError> {
    let own = |fault| MintError::SelfCheck(ChainError::Certificate { index: 0, fault });
    let made = Parsed::from_der(der).map_err(own)?;
    if made.subject != root.subject || made.spki != root.spki || made.issuer != issuer.subject() {
        return Err(own(parsed::malformed("subject")));
    }
    let known: [ObjectIdentifier; 3] = [
        oid::BASIC_CONSTRAINTS,
        oid::KEY_USAGE,
        oid::NAME_CONSTRAINTS,
    ];
    made.refuse_unknown_critical(&known).map_err(own)?;
    comity_identity::verify(issuer.spki(), made.tbs, made.signature)
        .map_err(|cause| MintError::Authority(authority::AuthorityFault::Signature(cause)))
}
