//! Certificate signing requests (PKCS#10, RFC 2986).
//!
//! Only subject, key and alternative names are read. Nothing is ever copied from a request into a
//! certificate because it is there: whoever issues decides what to take.

use comity_identity::Signer;
use der::asn1::BitString;
use der::{Decode, Encode, Tag};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use std::net::IpAddr;
use thiserror::Error;
use x509_cert::name::Name;
use x509_cert::request::{CertReq, CertReqInfo, Version};

use crate::keys::{accept_key, accept_signature};
use crate::limits::{MAX_CSR_ATTRIBUTES, MAX_CSR_BYTES};
use crate::mint::{MintError, algorithm_oid, encode_error};
use crate::mint_direct::common_name;
use crate::names::{self, SanName};
use crate::oid;
use crate::parsed::{self, CertificateFault, Extension, malformed};
use crate::verify::verifies;

/// A request whose sender holds the key. What it says is a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Csr {
    /// The subject, escaped and bounded, for display only.
    pub subject: String,
    /// The DER SubjectPublicKeyInfo, of an accepted kind of key.
    pub spki: Vec<u8>,
    /// DNS names, in the order of the request.
    pub dns: Vec<String>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// URIs.
    pub uris: Vec<String>,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CsrError {
    /// Larger than [`MAX_CSR_BYTES`].
    #[error("it has {bytes} bytes, and {MAX_CSR_BYTES} are accepted")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Text without exactly one PEM block `CERTIFICATE REQUEST`, or a broken one.
    #[error("it is not one PEM block CERTIFICATE REQUEST")]
    Pem,
    /// It cannot be read, or its key or signature is of a kind that is not accepted.
    #[error("{0}")]
    Request(#[from] CertificateFault),
    /// More than [`MAX_CSR_ATTRIBUTES`] attributes.
    #[error("it has {found} attributes, and {MAX_CSR_ATTRIBUTES} are accepted")]
    TooManyAttributes {
        /// How many.
        found: usize,
    },
    /// The same attribute twice.
    #[error("it has an attribute twice")]
    DuplicateAttribute,
    /// A name that is none of DNS name, address and URI, or has characters that have no place in
    /// one. Leaving it out silently would give the sender something else than it asked for.
    #[error("it asks for a name that is no DNS name, address or URI")]
    Name,
    /// The signature is not one by the key in the request: the sender does not hold it.
    #[error("it is not signed by the key in it")]
    Signature,
}

/// Reads a request, PEM or DER, and verifies that its sender holds the key.
///
/// # Errors
/// When it is not a well-formed request with an acceptable key, signed by that key.
pub fn read_csr(input: &[u8]) -> Result<Csr, CsrError> {
    // Base64 makes four bytes of three; the rest is for line ends and a readable dump before it.
    if input.len() > 4 * MAX_CSR_BYTES {
        return Err(CsrError::TooLarge { bytes: input.len() });
    }
    match input.first() {
        Some(0x30) => read_der(input),
        _ => read_der(&unarmoured(input)?),
    }
}

/// Makes a request for the signer's key, with one common name and nothing else. Returns its DER.
///
/// # Errors
/// When the name has not 1 to 64 characters or has control characters, or the signer fails.
pub fn mint_csr(signer: &dyn Signer, name: &str) -> Result<Vec<u8>, MintError> {
    let info = CertReqInfo {
        version: Version::V1,
        subject: Name::from_der(&common_name(name)?).map_err(encode_error)?,
        public_key: SubjectPublicKeyInfoOwned::from_der(signer.spki()).map_err(encode_error)?,
        attributes: der::asn1::SetOfVec::new(),
    };
    let signature = signer.sign(&info.to_der().map_err(encode_error)?)?;
    let request = CertReq {
        info,
        algorithm: AlgorithmIdentifierOwned {
            oid: algorithm_oid(signer.algorithm()),
            parameters: None,
        },
        signature: BitString::from_bytes(&signature).map_err(encode_error)?,
    };
    let der = request.to_der().map_err(encode_error)?;
    match read_csr(&der) {
        Ok(_) => Ok(der),
        Err(error) => Err(encode_error(error)),
    }
}

fn unarmoured(text: &[u8]) -> Result<Vec<u8>, CsrError> {
    let mut blocks = CertificateSigningRequestDer::pem_slice_iter(text);
    match (blocks.next(), blocks.next()) {
        (Some(Ok(der)), None) => Ok(der.as_ref().to_vec()),
        _ => Err(CsrError::Pem),
    }
}

fn read_der(der: &[u8]) -> Result<Csr, CsrError> {
    if der.len() > MAX_CSR_BYTES {
        return Err(CsrError::TooLarge { bytes: der.len() });
    }
    let [info, algorithm, signature] = parsed::parts(der, "request")?;
    let algorithm = parsed::content(algorithm, Tag::Sequence, "signature algorithm")?;
    let signature = match parsed::content(signature, Tag::BitString, "signature")? {
        [0, signature @ ..] => signature,
        _ => return Err(malformed("signature").into()),
    };
    let [version, subject, spki, attributes] = parsed::parts(info, "request")?;
    if version != [0x02, 0x01, 0x00] {
        return Err(malformed("version").into());
    }
    parsed::attributes(subject, "subject")?;
    accept_key(spki)?;
    accept_signature(algorithm)?;
    let mut csr = Csr {
        subject: names::distinguished_name(subject),
        spki: spki.to_vec(),
        dns: Vec::new(),
        ips: Vec::new(),
        uris: Vec::new(),
    };
    for name in requested_names(attributes)? {
        match name {
            SanName::Dns(name) => csr.dns.push(name),
            SanName::Ip(address) => csr.ips.push(address),
            SanName::Uri(uri) => csr.uris.push(uri),
        }
    }
    match verifies(spki, algorithm, info, signature) {
        true => Ok(csr),
        false => Err(CsrError::Signature),
    }
}

/// The alternative names in `attributes [0] IMPLICIT SET OF Attribute`.
fn requested_names(attributes: &[u8]) -> Result<Vec<SanName>, CsrError> {
    let what = "attributes";
    let mut seen: Vec<&[u8]> = Vec::new();
    let mut names = Vec::new();
    for attribute in parsed::tagged_elements(attributes, 0xa0, what)? {
        let [kind, values] = parsed::parts(attribute, what)?;
        let kind = parsed::content(kind, Tag::ObjectIdentifier, what)?;
        if seen.contains(&kind) {
            return Err(CsrError::DuplicateAttribute);
        }
        seen.push(kind);
        if seen.len() > MAX_CSR_ATTRIBUTES {
            return Err(CsrError::TooManyAttributes { found: seen.len() });
        }
        let values = parsed::elements(values, Tag::Set, what)?;
        if kind == oid::EXTENSION_REQUEST.as_bytes() {
            let [extensions] = values[..] else {
                return Err(malformed(what).into());
            };
            names = names_in(&parsed::extension_list(extensions)?)?;
        }
    }
    Ok(names)
}

fn names_in(extensions: &[Extension<'_>]) -> Result<Vec<SanName>, CsrError> {
    let names = extensions
        .iter()
        .find(|e| e.oid == oid::SUBJECT_ALT_NAME.as_bytes());
    let Some(names) = names else {
        return Ok(Vec::new());
    };
    let listed = parsed::general_names(names.value)?;
    let found = listed.len();
    let usable = names::usable(listed);
    match usable.len() == found {
        true => Ok(usable),
        false => Err(CsrError::Name),
    }
}
