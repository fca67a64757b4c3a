//! Minting leaves directly below an authority's key, for peers whose software refuses
//! cross-certificates, and below the root of any organisation.

use std::net::IpAddr;

use comity_identity::{KeyHash, NodeId, Signer, UnixTime};

use crate::anchor::{Anchor, AnchorError};
use crate::authority::{self, IssuerFault};
use crate::chain::{PresentedChain, Purpose};
use crate::keys::{KeyKind, accept_key};
use crate::metadata::Metadata;
use crate::mint::{
    MintError, Template, alternative_names, encode_error, invalid, metadata_extension,
};
use crate::mint_authority::check_validity;
use crate::native::{self, Expected, LEAF_CONSTRAINTS, LEAF_KEY_USAGE};
use crate::oid;
use crate::parsed::Parsed;
use crate::path::verify_ca_path;

/// The most characters of a common name (RFC 5280 appendix A.1, `ub-common-name`).
pub(crate) const MAX_COMMON_NAME: usize = 64;

/// `digitalSignature | keyEncipherment`: an RSA key may be asked to decrypt in TLS 1.2.
const RSA_KEY_USAGE: [u8; 4] = [0x03, 0x02, 0x05, 0xa0];

/// The subject of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafSubject<'a> {
    /// The same name as the issuer: an organisation's leaf below its own root, which is what name
    /// constraints above that root permit.
    AsIssuer,
    /// A common name of 1 to 64 characters without control characters.
    CommonName(&'a str),
    /// The common name is the node id in 64 lower-case hexadecimal digits.
    Node(NodeId),
}

/// What a leaf directly below an authority's key is made of, besides its issuer.
#[derive(Clone, Copy, Debug)]
pub struct DirectLeafRequest<'a> {
    /// Its subject.
    pub subject: LeafSubject<'a>,
    /// The DER SubjectPublicKeyInfo of its key: P-256, P-384, Ed25519, or RSA of 2048 to 4096 bits.
    pub spki: &'a [u8],
    /// What it is for; at least one.
    pub purposes: &'a [Purpose],
    /// Random bytes for the serial number; the top bit is cleared.
    pub serial: [u8; 16],
    /// First second at which it is valid.
    pub not_before: UnixTime,
    /// Last second at which it is valid, not after the issuer's.
    pub not_after: UnixTime,
    /// DNS names.
    pub dns: &'a [String],
    /// Addresses.
    pub ips: &'a [IpAddr],
    /// URIs.
    pub uris: &'a [String],
    /// What the authority attests. No extension is written for empty metadata.
    pub metadata: &'a Metadata,
}

/// Makes a leaf below the certificate of a CA, which must be of the signer's key. Returns its DER.
///
/// The result was verified below its issuer like a stranger's chain, name constraints included.
///
/// # Errors
/// When the issuer is not a CA's certificate, is a node's own root (whose leaves have a profile of
/// their own) or may not attest the metadata or a name; when a name, the key or the validity is not
/// acceptable, or the signer fails.
pub fn mint_direct_leaf(
    issuer_der: &[u8],
    signer: &dyn Signer,
    request: &DirectLeafRequest<'_>,
) -> Result<Vec<u8>, MintError> {
    let anchor = Anchor::from_der(issuer_der).map_err(issuer_fault)?;
    let issuer = Parsed::from_der(issuer_der).map_err(MintError::Root)?;
    if issuer.spki != signer.spki() {
        return Err(MintError::WrongSigner);
    }
    check_scope(&issuer, request.metadata)?;
    check_validity(request.not_before, request.not_after, issuer.not_after)?;
    let template = Template {
        issuer: issuer.subject.to_vec(),
        subject: subject(&issuer, request.subject)?,
        spki: request.spki,
        serial: request.serial,
        validity: (request.not_before, request.not_after),
        extensions: extensions(&issuer, request)?,
    };
    let leaf = template.sign(signer)?;
    check_own(&leaf, &anchor, request)?;
    Ok(leaf)
}

fn issuer_fault(error: AnchorError) -> MintError {
    match error {
        AnchorError::Certificate(fault) => MintError::Root(fault),
        AnchorError::TooLarge { .. } | AnchorError::NotCa | AnchorError::MayNotSign => {
            IssuerFault::NotCa.into()
        }
    }
}

/// An issuing key may attest what its own certificate says; a root says nothing and may attest all.
fn check_scope(issuer: &Parsed<'_>, said: &Metadata) -> Result<(), MintError> {
    let Some(extension) = issuer.extension(&oid::METADATA) else {
        return Ok(());
    };
    let scope = Metadata::from_der(extension.value)?;
    Ok(authority::check_scope(&scope, said)?)
}

fn subject(issuer: &Parsed<'_>, subject: LeafSubject<'_>) -> Result<Vec<u8>, MintError> {
    match subject {
        LeafSubject::AsIssuer => Ok(issuer.subject.to_vec()),
        LeafSubject::Node(node) => common_name(&node.to_hex()),
        LeafSubject::CommonName(name) => common_name(name),
    }
}

/// The DER of a name that is one common name.
pub(crate) fn common_name(name: &str) -> Result<Vec<u8>, MintError> {
    let length = name.chars().count();
    if !(1..=MAX_COMMON_NAME).contains(&length) || name.chars().any(char::is_control) {
        return Err(invalid("common name", name));
    }
    let attribute = authority::attribute(&oid::COMMON_NAME, 0x0c, name);
    Ok(authority::short(0x30, &attribute))
}

fn extensions(
    issuer: &Parsed<'_>,
    request: &DirectLeafRequest<'_>,
) -> Result<Vec<Expected>, MintError> {
    let key = KeyHash::of_spki(request.spki);
    let usage = match accept_key(request.spki).map_err(encode_error)? {
        KeyKind::Rsa => RSA_KEY_USAGE,
        KeyKind::P256 | KeyKind::P384 | KeyKind::Ed25519 => LEAF_KEY_USAGE,
    };
    let mut extensions = vec![
        (oid::BASIC_CONSTRAINTS, true, LEAF_CONSTRAINTS.to_vec()),
        (oid::KEY_USAGE, true, usage.to_vec()),
        (
            oid::EXTENDED_KEY_USAGE,
            false,
            extended_key_usage(request.purposes)?,
        ),
        authority_key_identifier(issuer),
        native::key_identifier(key.as_bytes()),
    ];
    extensions.extend(alternative_names(request.dns, request.ips, request.uris)?);
    extensions.extend(metadata_extension(request.metadata)?);
    Ok(extensions)
}

fn extended_key_usage(purposes: &[Purpose]) -> Result<Vec<u8>, MintError> {
    let usage = |purpose, oid: const_oid::ObjectIdentifier| match purposes.contains(&purpose) {
        true => authority::short(0x06, oid.as_bytes()),
        false => Vec::new(),
    };
    let usages = [
        usage(Purpose::Serve, oid::SERVER_AUTH),
        usage(Purpose::Dial, oid::CLIENT_AUTH),
    ];
    match purposes.is_empty() {
        true => Err(MintError::NoPurpose),
        false => Ok(authority::short(0x30, &usages.concat())),
    }
}

/// What the issuer calls its own key, or its hash as we would write it.
fn authority_key_identifier(issuer: &Parsed<'_>) -> Expected {
    let hash = KeyHash::of_spki(issuer.spki);
    let own = issuer.key_identifier().filter(|id| id.len() <= 64);
    let id = own.unwrap_or(hash.as_bytes());
    let value = authority::short(0x30, &authority::short(0x80, id));
    (oid::AUTHORITY_KEY_IDENTIFIER, false, value)
}

fn check_own(
    leaf: &[u8],
    anchor: &Anchor,
    request: &DirectLeafRequest<'_>,
) -> Result<(), MintError> {
    let chain = PresentedChain::parse(&[leaf]).map_err(MintError::SelfCheck)?;
    if chain.leaf().key != KeyHash::of_spki(request.spki) {
        return Err(MintError::WrongSigner);
    }
    // A leaf may begin before its issuer: whoever checks it then is told that the issuer does not
    // count yet.
    let then = request.not_before.max(anchor.not_before());
    for purpose in request.purposes {
        verify_ca_path(&chain, [anchor], *purpose, then)?;
    }
    Ok(())
}
