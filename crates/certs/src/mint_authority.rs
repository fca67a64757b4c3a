//! Minting an authority's own certificates. Entropy and time come in as arguments.

use comity_identity::{Algorithm, KeyHash, Signer, UnixTime};

use crate::authority::{self, AuthorityCertificate, AuthorityFault, AuthorityKind, IssuerFault};
use crate::limits::MAX_DNS_CONSTRAINTS;
use crate::metadata::Metadata;
use crate::mint::{MintError, Template, invalid, metadata_extension};
use crate::oid;

/// What an authority's root is made of, besides its key.
#[derive(Clone, Copy, Debug)]
pub struct AuthorityRootRequest {
    /// Random bytes for the serial number; the top bit is cleared.
    pub serial: [u8; 16],
    /// First second at which it is valid.
    pub not_before: UnixTime,
    /// Last second at which it is valid.
    pub not_after: UnixTime,
}

/// What the certificate of an issuing key is made of, besides the root.
#[derive(Clone, Copy, Debug)]
pub struct IssuingRequest<'a> {
    /// The DER SubjectPublicKeyInfo of the issuing key: P-256 or Ed25519.
    pub spki: &'a [u8],
    /// Random bytes for the serial number; the top bit is cleared.
    pub serial: [u8; 16],
    /// First second at which it is valid.
    pub not_before: UnixTime,
    /// Last second at which it is valid, not after the root's.
    pub not_after: UnixTime,
    /// How many CA certificates may stand below it: 1 to admit members, 0 to sign leaves only.
    pub path_length: u8,
    /// The networks and roles that it may attest; an empty list of either allows any.
    pub scope: &'a Metadata,
    /// DNS names below which it may name leaves, lower case, only with path length 0; empty for
    /// any.
    pub dns: &'a [String],
}

/// What the certificate of a new root by an old one is made of.
#[derive(Clone, Copy, Debug)]
pub struct RolloverRequest<'a> {
    /// The new root's own certificate.
    pub new_root_der: &'a [u8],
    /// Random bytes for the serial number; the top bit is cleared.
    pub serial: [u8; 16],
    /// First second at which it is valid.
    pub not_before: UnixTime,
    /// Last second at which it is valid, not after that of either root.
    pub not_after: UnixTime,
}

/// Makes the self-signed root of an authority. Returns its DER. The hash of its key is the id of
/// the network that it founds.
///
/// # Errors
/// When it would end before it begins, or the signer fails or signs with another key than it says.
pub fn mint_authority_root(
    signer: &dyn Signer,
    request: &AuthorityRootRequest,
) -> Result<Vec<u8>, MintError> {
    let key = KeyHash::of_spki(signer.spki());
    check_validity(request.not_before, request.not_after, UnixTime::NEVER)?;
    let template = Template {
        issuer: authority::root_name(&key),
        subject: authority::root_name(&key),
        spki: signer.spki(),
        serial: request.serial,
        validity: (request.not_before, request.not_after),
        extensions: authority::root_extensions(&key),
    };
    let root = template.sign(signer)?;
    AuthorityCertificate::from_der(&root)?;
    Ok(root)
}

/// Makes the certificate of an issuing key below a root. Returns its DER.
///
/// # Errors
/// When the issuer is not a root of the signer's key, the request does not fit the profile, or the
/// signer fails.
pub fn mint_issuing(
    root_der: &[u8],
    signer: &dyn Signer,
    request: &IssuingRequest<'_>,
) -> Result<Vec<u8>, MintError> {
    let root = root_of(root_der, signer)?;
    check_validity(request.not_before, request.not_after, root.not_after())?;
    check_key(request.spki)?;
    let key = KeyHash::of_spki(request.spki);
    let mut extensions = authority::issuing_extensions(&key, &root.key(), request.path_length);
    extensions.extend(metadata_extension(request.scope)?);
    if !request.dns.is_empty() {
        check_dns(request.dns)?;
        let value = authority::dns_constraints(request.dns);
        extensions.push((oid::NAME_CONSTRAINTS, true, value));
    }
    let template = Template {
        issuer: root.subject(),
        subject: authority::issuing_name(&key),
        spki: request.spki,
        serial: request.serial,
        validity: (request.not_before, request.not_after),
        extensions,
    };
    sign_below(&root, template, signer)
}

/// Makes a certificate for the name and key of a new root by an old one. Returns its DER.
///
/// Presented between the two it leads peers that still start from the old root to the new one.
///
/// # Errors
/// When either is not a root, they are of one key, the old one is not the signer's, the validity
/// is longer than that of either, or the signer fails.
pub fn mint_rollover(
    old_root_der: &[u8],
    old_signer: &dyn Signer,
    request: &RolloverRequest<'_>,
) -> Result<Vec<u8>, MintError> {
    let old = root_of(old_root_der, old_signer)?;
    let new = AuthorityCertificate::from_der(request.new_root_der)?;
    if *new.kind() != AuthorityKind::Root || new.key() == old.key() {
        return Err(IssuerFault::NotRoot.into());
    }
    let end = old.not_after().min(new.not_after());
    check_validity(request.not_before, request.not_after, end)?;
    let template = Template {
        issuer: old.subject(),
        subject: new.subject(),
        spki: new.spki(),
        serial: request.serial,
        validity: (request.not_before, request.not_after),
        extensions: authority::rollover_extensions(&new.key(), &old.key()),
    };
    sign_below(&old, template, old_signer)
}

/// Checks that a certificate ends not before it begins and not after its issuer.
pub(crate) fn check_validity(
    not_before: UnixTime,
    not_after: UnixTime,
    issuer: UnixTime,
) -> Result<(), MintError> {
    match not_before <= not_after && not_after <= issuer {
        true => Ok(()),
        false => Err(MintError::Validity {
            not_before,
            not_after,
            issuer,
        }),
    }
}

fn root_of(der: &[u8], signer: &dyn Signer) -> Result<AuthorityCertificate, MintError> {
    let root = AuthorityCertificate::from_der(der)?;
    if *root.kind() != AuthorityKind::Root {
        return Err(IssuerFault::NotRoot.into());
    }
    match root.spki() == signer.spki() {
        true => Ok(root),
        false => Err(MintError::WrongSigner),
    }
}

fn check_key(spki: &[u8]) -> Result<(), MintError> {
    Algorithm::of_spki(spki)
        .map(|_| ())
        .map_err(|_| AuthorityFault::Key.into())
}

fn check_dns(dns: &[String]) -> Result<(), MintError> {
    if dns.len() > MAX_DNS_CONSTRAINTS {
        return Err(MintError::TooManyNames { found: dns.len() });
    }
    match dns.iter().find(|name| !authority::is_dns_constraint(name)) {
        Some(name) => Err(invalid("DNS name", name)),
        None => Ok(()),
    }
}

fn sign_below(
    root: &AuthorityCertificate,
    template: Template<'_>,
    signer: &dyn Signer,
) -> Result<Vec<u8>, MintError> {
    let der = template.sign(signer)?;
    AuthorityCertificate::from_der(&der)?.check_issued_by(root)?;
    Ok(der)
}
