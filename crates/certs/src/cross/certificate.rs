//! What one certificate says that matters on a path, read once.

use comity_identity::{KeyHash, UnixTime};
use const_oid::ObjectIdentifier;

use super::constraints::{NameConstraints, alternative_directory_names, relative_names};
use super::error::{ConstraintFault, CrossError};
use super::identifiers::Identifiers;
use crate::chain::Purpose;
use crate::keys::{accept_key, accept_signature};
use crate::metadata::Metadata;
use crate::oid;
use crate::parsed::{CertificateFault, Parsed, malformed};

/// The critical extensions that are enforced in an issuer's certificate. Policies are not: one that
/// insists on them is refused.
const KNOWN_CRITICAL: [ObjectIdentifier; 5] = [
    oid::BASIC_CONSTRAINTS,
    oid::KEY_USAGE,
    oid::EXTENDED_KEY_USAGE,
    oid::NAME_CONSTRAINTS,
    oid::SUBJECT_ALT_NAME,
];

/// Bytes of a serial number (RFC 5280 section 4.1.2.2).
const MAX_SERIAL_BYTES: usize = 20;

/// A Name without RDNs, in its only DER.
const EMPTY_NAME: &[u8] = &[0x30, 0];

/// One certificate and what it says.
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    /// Its place in the presented chain; anchors come after the last one.
    pub(super) index: usize,
    pub(super) parsed: Parsed<'a>,
    pub(super) key: KeyHash,
    self_issued: bool,
    pub(super) identifiers: Identifiers<'a>,
    /// What it says as an issuer, or what keeps it from being one. For the leaf, what keeps it from
    /// being a leaf.
    pub(super) role: Result<Role<'a>, CrossError>,
}

/// What a certificate may do.
#[derive(Debug)]
pub(super) enum Role<'a> {
    /// Be used in a handshake.
    Leaf,
    /// Sign other certificates.
    Issuer(Issuer<'a>),
}

#[derive(Debug)]
pub(super) struct Issuer<'a> {
    pub(super) path_len: Option<u32>,
    pub(super) constraints: Option<NameConstraints<'a>>,
    /// Whether it can sign for nothing but its own name. A stranger's certificate may be a part of
    /// hundreds of candidates, so this is found out once.
    limited: Result<(), ConstraintFault>,
    pub(super) metadata: Option<Metadata>,
}

impl<'a> Certificate<'a> {
    pub(super) fn leaf(
        parsed: Parsed<'a>,
        key: KeyHash,
        purpose: Purpose,
    ) -> Result<Self, CertificateFault> {
        check_form(&parsed)?;
        let identifiers = Identifiers::of(&parsed)?;
        let role = check_leaf(&parsed, &identifiers, purpose).map(|()| Role::Leaf);
        Ok(Self {
            index: 0,
            self_issued: parsed.subject == parsed.issuer,
            parsed,
            key,
            identifiers,
            role,
        })
    }

    /// A presented certificate or, if it `is_anchor`, one of ours, of which neither the signature
    /// nor a KeyUsage is demanded: whoever lists it vouches for it.
    pub(super) fn issuer(
        index: usize,
        parsed: Parsed<'a>,
        key: KeyHash,
        purpose: Purpose,
        is_anchor: bool,
    ) -> Self {
        let mut role = read_issuer(index, &parsed, purpose, is_anchor).map(Role::Issuer);
        let identifiers = Identifiers::of(&parsed).unwrap_or_else(|fault| {
            role = Err(CrossError::Certificate { index, fault });
            Identifiers::default()
        });
        Self {
            index,
            self_issued: parsed.subject == parsed.issuer,
            parsed,
            key,
            identifiers,
            role,
        }
    }

    /// Whether subject and issuer are one (RFC 5280 section 3.2).
    pub(super) fn is_self_issued(&self) -> bool {
        self.self_issued
    }

    /// Whether by names and identifiers this could have signed `below`.
    pub(super) fn may_have_issued(&self, below: &Self) -> bool {
        self.parsed.subject == below.parsed.issuer
            && below.identifiers.fit(&self.parsed, &self.identifiers)
    }

    /// Whether above this one, which is not the leaf, a path may go on with `issuer`: a self-issued
    /// certificate replaces a key by another one. One that does not, such as the root that every
    /// native chain ends with, is no step.
    pub(super) fn replaced_by(&self, issuer: &Self) -> bool {
        !self.is_self_issued() || self.key != issuer.key
    }

    pub(super) fn check_time(&self, now: UnixTime) -> Result<(), CrossError> {
        let Parsed {
            not_before,
            not_after,
            ..
        } = self.parsed;
        let index = self.index;
        if now > not_after {
            return Err(CrossError::Expired { index, not_after });
        }
        match now < not_before {
            true => Err(CrossError::NotYetValid { index, not_before }),
            false => Ok(()),
        }
    }

    pub(super) fn as_issuer(&self) -> Result<&Issuer<'a>, CrossError> {
        match &self.role {
            Ok(Role::Issuer(issuer)) => Ok(issuer),
            Ok(Role::Leaf) => Err(CrossError::IssuerNotCa { index: self.index }),
            Err(error) => Err(error.clone()),
        }
    }

    /// Whether it can sign for nothing but its own name: what makes a cross-certificate.
    pub(super) fn check_limited_to_itself(&self) -> Result<(), CrossError> {
        let index = self.index;
        self.as_issuer()?
            .limited
            .map_err(|fault| CrossError::Unconstrained { index, fault })
    }
}

/// Exactly DER, and names of a bounded number of attributes, which are compared part by part. Whoever
/// is certified here has tools that write it; that others who read the same bytes see the same is
/// worth more.
fn check_form(certificate: &Parsed<'_>) -> Result<(), CertificateFault> {
    relative_names(certificate.issuer)?;
    relative_names(certificate.subject)?;
    certificate.refuse_lenient_forms()
}

fn check_leaf(
    leaf: &Parsed<'_>,
    identifiers: &Identifiers<'_>,
    purpose: Purpose,
) -> Result<(), CrossError> {
    let refused = |fault| CrossError::Certificate { index: 0, fault };
    let missing = |extension| CrossError::Missing {
        index: 0,
        extension,
    };
    check_serial(leaf).map_err(refused)?;
    if leaf.basic_constraints().map_err(refused)?.ca {
        return Err(CrossError::LeafIsCa);
    }
    if leaf.extension(&oid::BASIC_CONSTRAINTS).is_none() {
        return Err(missing("basic constraints"));
    }
    let usage = leaf.key_usage().map_err(refused)?;
    let usage = usage.ok_or(missing("key usage"))?;
    if usage.key_cert_sign {
        return Err(CrossError::LeafIsCa);
    }
    if !usage.digital_signature {
        return Err(CrossError::LeafKeyUsage);
    }
    match allows(leaf, purpose).map_err(refused)? {
        None => return Err(missing("extended key usage")),
        Some(false) => return Err(CrossError::WrongPurpose { index: 0, purpose }),
        Some(true) => {}
    }
    // A leaf on a path is always self-issued.
    identifiers.check_not_itself(0)?;
    // Subtrees of the subject would be within the constraint, but they are other names.
    let names = alternative_directory_names(leaf).map_err(refused)?;
    match names.iter().all(|name| *name == leaf.subject) {
        true => Ok(()),
        false => Err(CrossError::NameConstraint { index: 0 }),
    }
}

fn read_issuer<'a>(
    index: usize,
    certificate: &Parsed<'a>,
    purpose: Purpose,
    is_anchor: bool,
) -> Result<Issuer<'a>, CrossError> {
    let refused = |fault| CrossError::Certificate { index, fault };
    accept_key(certificate.spki).map_err(refused)?;
    if !is_anchor {
        accept_signature(certificate.signature_algorithm).map_err(refused)?;
        check_serial(certificate).map_err(refused)?;
    }
    certificate
        .refuse_unknown_critical(&KNOWN_CRITICAL)
        .map_err(refused)?;
    let basic = certificate.basic_constraints().map_err(refused)?;
    if !basic.ca {
        return Err(CrossError::IssuerNotCa { index });
    }
    match certificate.key_usage().map_err(refused)? {
        Some(usage) if !usage.key_cert_sign => return Err(CrossError::IssuerMayNotSign { index }),
        None if !is_anchor => {
            let extension = "key usage";
            return Err(CrossError::Missing { index, extension });
        }
        _ => {}
    }
    if !is_anchor {
        check_form(certificate).map_err(refused)?;
    }
    // In an issuer, uses are a limit on everything below where there are any.
    if allows(certificate, purpose).map_err(refused)? == Some(false) {
        return Err(CrossError::WrongPurpose { index, purpose });
    }
    let constraints = certificate
        .extension(&oid::NAME_CONSTRAINTS)
        .map(|e| NameConstraints::from_der(e.value))
        .transpose()
        .map_err(refused)?;
    let metadata = certificate
        .extension(&oid::METADATA)
        .map(|e| Metadata::from_der(e.value).map_err(CertificateFault::Metadata))
        .transpose()
        .map_err(refused)?;
    Ok(Issuer {
        path_len: basic.path_len,
        limited: limited_to_itself(certificate, basic.path_len, constraints.as_ref()),
        constraints,
        metadata,
    })
}

/// Whether it can sign for nothing but its own name: what makes a cross-certificate.
fn limited_to_itself(
    certificate: &Parsed<'_>,
    path_len: Option<u32>,
    constraints: Option<&NameConstraints<'_>>,
) -> Result<(), ConstraintFault> {
    let critical = |oid| certificate.extension(oid).is_some_and(|e| e.critical);
    let constraints = constraints.ok_or(ConstraintFault::Missing)?;
    if !critical(&oid::NAME_CONSTRAINTS) {
        return Err(ConstraintFault::NotCritical);
    }
    let name = constraints
        .only_directory_name()
        .ok_or(ConstraintFault::NotOneName)?;
    if name != certificate.subject || name == EMPTY_NAME {
        return Err(ConstraintFault::NotItsSubject);
    }
    if !critical(&oid::BASIC_CONSTRAINTS) {
        return Err(ConstraintFault::BasicConstraints);
    }
    match path_len {
        Some(0) => Ok(()),
        _ => Err(ConstraintFault::PathLength),
    }
}

/// Whether the purpose is among the extended key usages, `None` without any.
/// `anyExtendedKeyUsage` does not count, in an issuer's certificate neither: OpenSSL reads it so.
fn allows(certificate: &Parsed<'_>, purpose: Purpose) -> Result<Option<bool>, CertificateFault> {
    let wanted = match purpose {
        Purpose::Serve => oid::SERVER_AUTH,
        Purpose::Dial => oid::CLIENT_AUTH,
    };
    let usages = certificate.extended_key_usage()?;
    Ok(usages.map(|usages| usages.contains(&wanted.as_bytes())))
}

/// A positive number: it is what the certificate is withdrawn by.
fn check_serial(certificate: &Parsed<'_>) -> Result<(), CertificateFault> {
    let positive = match certificate.serial {
        // A first zero byte is only there to keep the number positive.
        [0, second, ..] => *second >= 0x80,
        [first, ..] => (1..0x80).contains(first),
        [] => false,
    };
    match positive && certificate.serial.len() <= MAX_SERIAL_BYTES {
        true => Ok(()),
        false => Err(malformed("serial number")),
    }
}
