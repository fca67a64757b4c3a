//! Whether one certificate issued another, for people who look at a chain. Nothing here is a
//! verdict: neither dates nor permissions are judged.

use crate::keys::accept_key;
use crate::limits::MAX_CHAIN_BYTES;
use crate::parsed::{CertificateFault, Parsed, malformed};
use crate::verify::verifies;

/// How one certificate stands to another that may have issued it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// It names the other as its issuer, and the other's key signed it.
    Holds,
    /// It names the other as its issuer, but the other's key did not sign it, or is of a kind that is
    /// not accepted.
    NotSigned,
    /// It names another issuer.
    Elsewhere,
}

/// Whether `issuer` issued a certificate.
///
/// # Errors
/// When either is larger than a chain may be, or not a certificate at all.
pub fn link(certificate: &[u8], issuer: &[u8]) -> Result<Link, CertificateFault> {
    if certificate.len().max(issuer.len()) > MAX_CHAIN_BYTES {
        return Err(malformed("size"));
    }
    let (certificate, issuer) = (Parsed::from_der(certificate)?, Parsed::from_der(issuer)?);
    if certificate.issuer != issuer.subject {
        return Ok(Link::Elsewhere);
    }
    let signed = accept_key(issuer.spki).is_ok()
        && verifies(
            issuer.spki,
            certificate.signature_algorithm,
            certificate.tbs,
            certificate.signature,
        );
    match signed {
        true => Ok(Link::Holds),
        false => Ok(Link::NotSigned),
    }
}
