//! Key identifiers: which key says it signed which certificate.
//!
//! They prove nothing, because whoever signs chooses them. But where they contradict each other
//! other verifiers do not try the signature, so neither is it tried here, and among several
//! certificates of one name they choose without costing a signature.

use der::asn1::AnyRef;
use der::{Decode, Tag, TagNumber, Tagged};

use super::error::CrossError;
use crate::limits::MAX_SANS;
use crate::oid;
use crate::parsed::{CertificateFault, Parsed, content, elements, malformed};

/// The identifiers of one certificate.
#[derive(Clone, Debug, Default)]
pub(super) struct Identifiers<'a> {
    /// SubjectKeyIdentifier.
    own: Option<&'a [u8]>,
    /// AuthorityKeyIdentifier, of which the key identifier may be absent.
    authority: Option<Authority<'a>>,
}

#[derive(Clone, Debug, Default)]
struct Authority<'a> {
    key: Option<&'a [u8]>,
    /// Issuer and serial number of the issuer's certificate. The names are the content of
    /// GeneralNames.
    certificate: Option<(Vec<AnyRef<'a>>, &'a [u8])>,
}

impl<'a> Identifiers<'a> {
    pub(super) fn of(certificate: &Parsed<'a>) -> Result<Self, CertificateFault> {
        let own = certificate
            .extension(&oid::SUBJECT_KEY_IDENTIFIER)
            .map(|e| content(e.value, Tag::OctetString, "key identifier"))
            .transpose()?;
        let authority = certificate
            .extension(&oid::AUTHORITY_KEY_IDENTIFIER)
            .map(|e| authority(e.value))
            .transpose()?;
        Ok(Self { own, authority })
    }

    /// For an issuer's certificate whose own issuer has its name: that it has both identifiers and
    /// they differ. Without them nothing tells the two apart.
    pub(super) fn check_not_self_signed(&self, index: usize) -> Result<(), CrossError> {
        self.check_own(index)?;
        self.check_not_itself(index)
    }

    /// For a leaf whose issuer has its name: that it says which key signed it, and not that it was
    /// its own. What its own key is called does not matter, because it signs nothing.
    pub(super) fn check_not_itself(&self, index: usize) -> Result<(), CrossError> {
        let authority = self.check_authority(index)?;
        match self.own == Some(authority) {
            true => Err(CrossError::NamesItself { index }),
            false => Ok(()),
        }
    }

    /// The key identifier in the AuthorityKeyIdentifier, which has to be there.
    pub(super) fn check_authority(&self, index: usize) -> Result<&'a [u8], CrossError> {
        let extension = "authority key identifier";
        let authority = self.authority.as_ref().and_then(|a| a.key);
        authority.ok_or(CrossError::Missing { index, extension })
    }

    /// The SubjectKeyIdentifier, which has to be there.
    pub(super) fn check_own(&self, index: usize) -> Result<&'a [u8], CrossError> {
        let extension = "subject key identifier";
        self.own.ok_or(CrossError::Missing { index, extension })
    }

    /// Whether they leave open that the certificate with `issuer_ids` signed this one.
    pub(super) fn fit(&self, issuer: &Parsed<'_>, issuer_ids: &Identifiers<'_>) -> bool {
        let Some(authority) = &self.authority else {
            return true;
        };
        let key = match (authority.key, issuer_ids.own) {
            (Some(wanted), Some(found)) => wanted == found,
            _ => true,
        };
        key && match &authority.certificate {
            None => true,
            Some((names, serial)) => *serial == issuer.serial && is_named(issuer.issuer, names),
        }
    }
}

/// Whether a directory name among the general names is exactly this one.
fn is_named(name: &[u8], names: &[AnyRef<'_>]) -> bool {
    let directory_name = Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(4),
    };
    names
        .iter()
        .any(|n| n.tag() == directory_name && n.value() == name)
}

/// `SEQUENCE { keyIdentifier [0], authorityCertIssuer [1], authorityCertSerialNumber [2] }`, all
/// implicit and optional, the last two together (RFC 5280 section 4.2.1.1).
fn authority(value: &[u8]) -> Result<Authority<'_>, CertificateFault> {
    let what = "authority key identifier";
    let mut fields = elements(value, Tag::Sequence, what)?.into_iter().peekable();
    let mut next = |tag: u8| {
        fields
            .next_if(|field| field.first() == Some(&tag))
            .map(|field| AnyRef::from_der(field).map_err(|_| malformed(what)))
            .transpose()
    };
    let (key, issuer, serial) = (next(0x80)?, next(0xa1)?, next(0x82)?);
    if fields.next().is_some() {
        return Err(malformed(what));
    }
    let certificate = match (issuer, serial) {
        (None, None) => None,
        (Some(issuer), Some(serial)) => Some((any_elements(issuer.value())?, serial.value())),
        _ => return Err(malformed(what)),
    };
    Ok(Authority {
        key: key.map(|key| key.value()),
        certificate,
    })
}

fn any_elements(bytes: &[u8]) -> Result<Vec<AnyRef<'_>>, CertificateFault> {
    let what = "authority key identifier";
    let mut reader = der::SliceReader::new(bytes).map_err(|_| malformed(what))?;
    let mut found = Vec::new();
    while !der::Reader::is_finished(&reader) {
        found.push(AnyRef::decode(&mut reader).map_err(|_| malformed(what))?);
        if found.len() > MAX_SANS {
            return Err(CertificateFault::TooManyNames { found: found.len() });
        }
    }
    Ok(found)
}
