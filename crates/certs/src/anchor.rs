//! Trusted CA certificates.

use comity_identity::{Fingerprint, KeyHash, UnixTime};
use const_oid::ObjectIdentifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use thiserror::Error;

use crate::chain::Purpose;
use crate::limits::{MAX_CA_FILE_BYTES, MAX_CA_FILE_CERTIFICATES, MAX_CHAIN_BYTES};
use crate::names;
use crate::oid;
use crate::parsed::{CertificateFault, Parsed};
use crate::twin;

/// The critical extensions that are enforced on the path below an anchor. Policies are not, so an
/// anchor that insists on them is refused.
const KNOWN_CRITICAL: [ObjectIdentifier; 5] = [
    oid::BASIC_CONSTRAINTS,
    oid::KEY_USAGE,
    oid::EXTENDED_KEY_USAGE,
    oid::NAME_CONSTRAINTS,
    oid::SUBJECT_ALT_NAME,
];

/// One CA certificate that somebody decided to trust.
///
/// It parses, says CA:TRUE and, if it has a KeyUsage, keyCertSign. Its own signature
/// is not checked: whoever lists it vouches for it.
#[derive(Clone, Debug)]
pub struct Anchor {
    der: Vec<u8>,
    trust_anchor: TrustAnchor<'static>,
    fingerprint: Fingerprint,
    twins: Vec<Fingerprint>,
    key: KeyHash,
    not_before: UnixTime,
    not_after: UnixTime,
    subject: String,
    issuer: Vec<u8>,
    path_len: Option<u32>,
    /// The uses it is limited to, if it has an ExtendedKeyUsage: serve and dial.
    usages: Option<(bool, bool)>,
}

/// Why a certificate cannot be a trust anchor.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AnchorError {
    /// Too large to be a CA certificate.
    #[error("it has {bytes} bytes, and {MAX_CHAIN_BYTES} are accepted")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It cannot be read.
    #[error("it is refused: {0}")]
    Certificate(#[from] CertificateFault),
    /// It does not say CA:TRUE: pin it instead.
    #[error("it is not a CA certificate")]
    NotCa,
    /// Its KeyUsage lacks keyCertSign.
    #[error("its key usage does not allow signing certificates")]
    MayNotSign,
}

/// Why a CA file cannot be used. Nothing of it is used then.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CaFileError {
    /// Larger than [`MAX_CA_FILE_BYTES`].
    #[error("it has {bytes} bytes, and {MAX_CA_FILE_BYTES} are accepted")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// More than [`MAX_CA_FILE_CERTIFICATES`].
    #[error("it has more than {MAX_CA_FILE_CERTIFICATES} certificates")]
    TooManyCertificates,
    /// No certificate in it.
    #[error("there is no certificate in it")]
    Empty,
    /// It is not valid PEM.
    #[error("certificate {number} in it is not valid PEM")]
    Pem {
        /// Counted from 1.
        number: usize,
    },
    /// One of the certificates cannot be an anchor.
    #[error("certificate {number} in it cannot be trusted as a CA: {cause}")]
    Anchor {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        cause: AnchorError,
    },
}

/// The DER certificates of a PEM file, in their order, with any text around them.
///
/// # Errors
/// When there is none, there are too many, or the armour is broken.
pub fn certificates_in_pem(text: &str) -> Result<Vec<Vec<u8>>, CaFileError> {
    if text.len() > MAX_CA_FILE_BYTES {
        return Err(CaFileError::TooLarge { bytes: text.len() });
    }
    let mut certificates = Vec::new();
    for (index, der) in CertificateDer::pem_slice_iter(text.as_bytes()).enumerate() {
        if index >= MAX_CA_FILE_CERTIFICATES {
            return Err(CaFileError::TooManyCertificates);
        }
        let der = der.map_err(|_| CaFileError::Pem { number: index + 1 })?;
        certificates.push(der.to_vec());
    }
    match certificates.is_empty() {
        true => Err(CaFileError::Empty),
        false => Ok(certificates),
    }
}

impl Anchor {
    /// Reads a CA certificate.
    ///
    /// # Errors
    /// When it cannot be read, is not a CA certificate, may not sign certificates, or has a
    /// critical extension that is not enforced here.
    pub fn from_der(der: &[u8]) -> Result<Self, AnchorError> {
        if der.len() > MAX_CHAIN_BYTES {
            return Err(AnchorError::TooLarge { bytes: der.len() });
        }
        let parsed = Parsed::from_der(der)?;
        parsed.refuse_unknown_critical(&KNOWN_CRITICAL)?;
        let constraints = parsed.basic_constraints()?;
        if !constraints.ca {
            return Err(AnchorError::NotCa);
        }
        if parsed
            .key_usage()?
            .is_some_and(|usage| !usage.key_cert_sign)
        {
            return Err(AnchorError::MayNotSign);
        }
        let certificate = CertificateDer::from(der);
        let trust_anchor = webpki::anchor_from_trusted_cert(&certificate)
            .map_err(|e| CertificateFault::Unusable {
                cause: names::escape(&e.to_string()),
            })?
            .to_owned();
        Ok(Self {
            der: der.to_vec(),
            trust_anchor,
            fingerprint: Fingerprint::of_certificate(der),
            twins: twin::fingerprints(der),
            key: KeyHash::of_spki(parsed.spki),
            not_before: parsed.not_before,
            not_after: parsed.not_after,
            subject: names::distinguished_name(parsed.subject),
            issuer: parsed.issuer.to_vec(),
            path_len: constraints.path_len,
            usages: usages(&parsed)?,
        })
    }

    /// Reads a CA file: PEM certificates one after the other, with any text around them.
    ///
    /// # Errors
    /// When there is none, or any of them cannot be an anchor: a file is used whole or not at all.
    pub fn read_pem(text: &str) -> Result<Vec<Self>, CaFileError> {
        certificates_in_pem(text)?
            .iter()
            .enumerate()
            .map(|(index, der)| {
                let number = index + 1;
                Self::from_der(der).map_err(|cause| CaFileError::Anchor { number, cause })
            })
            .collect()
    }

    /// Hash of the certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// As [`PresentedChain::twin_fingerprints`](crate::PresentedChain::twin_fingerprints): the
    /// certificate may have been listed from what a peer presented.
    pub fn twin_fingerprints(&self) -> &[Fingerprint] {
        &self.twins
    }

    /// Hash of its SubjectPublicKeyInfo.
    pub fn key(&self) -> KeyHash {
        self.key
    }

    /// First second at which it is valid.
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// Last second at which it is valid.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// Its subject, escaped and bounded, for display only.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Its issuer's name in DER, as TLS peers name the authorities that they trust.
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer
    }

    /// The certificate.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether it may vouch for certificates with this purpose.
    pub fn allows(&self, purpose: Purpose) -> bool {
        match (self.usages, purpose) {
            (None, _) => true,
            (Some((serve, _)), Purpose::Serve) => serve,
            (Some((_, dial)), Purpose::Dial) => dial,
        }
    }

    /// How many CA certificates may stand between it and a leaf.
    pub(crate) fn path_len(&self) -> Option<u32> {
        self.path_len
    }

    /// Name, key and name constraints, without copying.
    pub(crate) fn trust_anchor(&self) -> &TrustAnchor<'static> {
        &self.trust_anchor
    }
}

impl PartialEq for Anchor {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Anchor {}

/// An anchor limited to some uses limits everything below it. Unlike in a leaf,
/// `anyExtendedKeyUsage` in a CA certificate is no limit.
fn usages(parsed: &Parsed<'_>) -> Result<Option<(bool, bool)>, CertificateFault> {
    let Some(listed) = parsed.extended_key_usage()? else {
        return Ok(None);
    };
    let has = |usage: &ObjectIdentifier| listed.iter().any(|oid| *oid == usage.as_bytes());
    let any = has(&oid::ANY_USAGE);
    Ok(Some((
        any || has(&oid::SERVER_AUTH),
        any || has(&oid::CLIENT_AUTH),
    )))
}
