//! Verifying a presented chain below trusted CAs.
//!
//! rustls-webpki builds and checks the path, among few certificates and within a budget for hostile
//! input, both of which it gets from here. It leaves some things to its caller, which are checked
//! here: the validity, path length and uses of the anchor, keyCertSign and the digitalSignature bit
//! of the leaf, and keyCertSign of issuers.

use std::cell::RefCell;

use comity_identity::{Fingerprint, KeyHash, UnixTime};
use rustls_pki_types::{CertificateDer, TrustAnchor};
use thiserror::Error;
use webpki::{EndEntityCert, VerifiedPath};

use crate::anchor::Anchor;
use crate::budget::Budget;
use crate::candidates::Candidates;
use crate::chain::{PresentedChain, Purpose};
use crate::names;
use crate::oid;
use crate::parsed::Parsed;

/// A verified path from the leaf to an anchor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaPath {
    /// The anchor it ends at.
    pub anchor: Fingerprint,
    /// The hash of every key on the path, leaf first, anchor last.
    pub keys: Vec<KeyHash>,
    /// The earliest end of validity on the path, the anchor's included.
    pub not_after: UnixTime,
    /// Whether a certificate between leaf and anchor has name constraints. Its holder is trusted
    /// with some names only, and what else the leaf says is its word.
    pub constrained: bool,
}

/// Why there is no path. When several things are wrong, the most useful one to know.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CaError {
    /// No trusted CA issued it, or an intermediate certificate is missing.
    #[error("no trusted CA issued it (its issuer is {issuer:?})")]
    UnknownIssuer {
        /// The issuer it names, escaped and bounded.
        issuer: String,
    },
    /// A presented certificate has expired.
    #[error("certificate {} of the chain expired at {not_after}", index + 1)]
    Expired {
        /// Its place, the leaf being 0.
        index: usize,
        /// When.
        not_after: UnixTime,
    },
    /// A presented certificate is not valid yet.
    #[error("certificate {} of the chain is not valid before {not_before}", index + 1)]
    NotYetValid {
        /// Its place, the leaf being 0.
        index: usize,
        /// When it begins.
        not_before: UnixTime,
    },
    /// There is a path, but to an anchor that has expired.
    #[error("the trusted CA {subject:?} expired at {not_after}")]
    AnchorExpired {
        /// Which one.
        anchor: Fingerprint,
        /// Its subject, escaped and bounded.
        subject: String,
        /// When.
        not_after: UnixTime,
    },
    /// There is a path, but to an anchor that is not valid yet.
    #[error("the trusted CA {subject:?} is not valid before {not_before}")]
    AnchorNotYetValid {
        /// Which one.
        anchor: Fingerprint,
        /// Its subject, escaped and bounded.
        subject: String,
        /// When it begins.
        not_before: UnixTime,
    },
    /// The leaf says CA:TRUE: it could have issued itself any name.
    #[error("the leaf is a CA certificate")]
    LeafIsCa,
    /// The leaf's key usage includes signing certificates.
    #[error("the leaf's key usage allows signing certificates")]
    LeafMaySign,
    /// The leaf's key usage lacks digitalSignature, which TLS 1.3 demands (RFC 8446 section
    /// 4.4.2.2).
    #[error("the leaf's key usage does not allow signatures")]
    LeafKeyUsage,
    /// The leaf, or a CA above it, is not for this purpose.
    #[error("it is not meant for {}", match purpose { Purpose::Serve => "servers", Purpose::Dial => "clients" })]
    WrongPurpose {
        /// What was asked for.
        purpose: Purpose,
    },
    /// A certificate that is not a CA's issued another one.
    #[error("a certificate in the path was issued by one that is not a CA's")]
    IssuerNotCa,
    /// A CA certificate in the path may not sign certificates.
    #[error("certificate {} of the chain issued another one, but its key usage forbids it", index + 1)]
    IssuerMayNotSign {
        /// Its place, the leaf being 0.
        index: usize,
    },
    /// More CAs below one another than one of them allows.
    #[error("a CA in the path allows fewer CAs below itself")]
    PathLength,
    /// A name outside the constraints of a CA. Constraints on names other than DNS names and
    /// addresses are always taken as violated.
    #[error("a name in it is outside the constraints of a CA above it")]
    NameConstraint,
    /// A signature does not verify.
    #[error("a signature in the path is wrong")]
    BadSignature,
    /// A signature algorithm or key that is not accepted.
    #[error("a signature in the path is of a kind that is not accepted")]
    UnsupportedAlgorithm,
    /// Checking it would take too much work: too many signatures, or more certificates of one name
    /// than are tried.
    #[error("the certificates are too entangled to be checked")]
    TooComplex,
    /// A certificate in the path cannot be used.
    #[error("a certificate in the path cannot be used: {cause}")]
    Unusable {
        /// What the TLS library said.
        cause: String,
    },
}

/// Verifies that one of the anchors vouches for the leaf, at the time `now`.
///
/// The name is not checked: that is [`PresentedChain::matches_name`].
///
/// # Errors
/// When there is no path on which everything is valid at `now` and meant for `purpose`.
pub fn verify_ca_path<'a>(
    chain: &PresentedChain,
    anchors: impl IntoIterator<Item = &'a Anchor>,
    purpose: Purpose,
    now: UnixTime,
) -> Result<CaPath, CaError> {
    let anchors: Vec<&Anchor> = anchors.into_iter().collect();
    if anchors.is_empty() {
        // A stranger's certificates cost nothing where no CA is trusted.
        return Err(unknown_issuer(&read(&chain.der()[0])?));
    }
    let certificates = chain.der().iter().map(|der| read(der));
    let search = Search {
        chain,
        certificates: certificates.collect::<Result<_, _>>()?,
        purpose,
        now,
        budget: Budget::new(),
    };
    check_leaf(&search.certificates[0])?;
    let (usable, others): (Vec<&Anchor>, Vec<&Anchor>) = anchors
        .into_iter()
        .partition(|a| a.not_before() <= now && now <= a.not_after());
    search
        .path_to(&usable)
        .map_err(|error| search.explain_by_anchor_validity(error, &others))
}

fn read(der: &[u8]) -> Result<Parsed<'_>, CaError> {
    Parsed::from_der(der).map_err(|fault| CaError::Unusable {
        cause: fault.to_string(),
    })
}

fn check_leaf(leaf: &Parsed<'_>) -> Result<(), CaError> {
    let unusable = |fault: crate::CertificateFault| CaError::Unusable {
        cause: fault.to_string(),
    };
    if leaf.basic_constraints().map_err(unusable)?.ca {
        return Err(CaError::LeafIsCa);
    }
    match leaf.key_usage().map_err(unusable)? {
        Some(usage) if usage.key_cert_sign => Err(CaError::LeafMaySign),
        Some(usage) if !usage.digital_signature => Err(CaError::LeafKeyUsage),
        _ => Ok(()),
    }
}

/// One question: is there a path for this chain?
struct Search<'c> {
    chain: &'c PresentedChain,
    certificates: Vec<Parsed<'c>>,
    purpose: Purpose,
    now: UnixTime,
    budget: Budget,
}

impl Search<'_> {
    fn path_to(&self, anchors: &[&Anchor]) -> Result<CaPath, CaError> {
        let unusable = |cause: webpki::Error| CaError::Unusable {
            cause: names::escape(&cause.to_string()),
        };
        let candidates = Candidates::between(&self.certificates, anchors);
        let anchors = candidates.anchors.as_slice();
        if anchors.is_empty() {
            return Err(match candidates.cut {
                true => CaError::TooComplex,
                false => self.unknown_issuer(),
            });
        }
        let der = |index: usize| CertificateDer::from(self.chain.der()[index].as_slice());
        let leaf = der(0);
        let leaf = EndEntityCert::try_from(&leaf).map_err(unusable)?;
        let intermediates: Vec<_> = candidates.intermediates.into_iter().map(der).collect();
        let trust_anchors: Vec<TrustAnchor<'_>> = anchors.iter().map(|a| borrow(a)).collect();
        let usage = match self.purpose {
            Purpose::Serve => webpki::KeyUsage::server_auth(),
            Purpose::Dial => webpki::KeyUsage::client_auth(),
        };
        // The search goes on after a candidate that we refuse, so both outcomes are remembered.
        let found = RefCell::new(Err(None));
        let check = |path: &VerifiedPath<'_>| match self.check_path(path, anchors) {
            Ok(path) => {
                *found.borrow_mut() = Ok(path);
                Ok(())
            }
            Err(error) => {
                *found.borrow_mut() = Err(Some(error));
                // Ranks low, so that what is wrong with other candidates is not hidden.
                Err(webpki::Error::UnknownIssuer)
            }
        };
        let verified = leaf.verify_for_usage(
            &self.budget.algorithms(),
            &trust_anchors,
            &intermediates,
            pki_time(self.now),
            usage,
            None,
            Some(&check),
        );
        match (verified.map(|_| ()), found.into_inner()) {
            (Ok(()), Ok(path)) => Ok(path),
            // What was not looked at could have been the path, whatever is wrong with the rest.
            (Err(_), _) if candidates.cut || self.budget.is_exceeded() => Err(CaError::TooComplex),
            (Err(webpki::Error::UnknownIssuer), Err(Some(ours))) => Err(ours),
            (Err(error), _) => Err(self.explain(&error)),
            (Ok(()), Err(_)) => Err(CaError::Unusable {
                cause: "the path was not offered for checking".to_owned(),
            }),
        }
    }

    /// Our own conditions on a path that is otherwise right.
    fn check_path(&self, path: &VerifiedPath<'_>, anchors: &[&Anchor]) -> Result<CaPath, CaError> {
        let mut places = vec![0];
        for issuer in path.intermediate_certificates() {
            let index = self.place(&issuer.der())?;
            self.check_issuer(index)?;
            places.push(index);
        }
        // Several anchors may have one name and key, such as a root and its renewed self.
        let mut error = None;
        for anchor in anchors.iter().filter(|a| is_same(a, path.anchor())) {
            match self.check_anchor(anchor, places.len() - 1) {
                Ok(()) => return Ok(self.describe(&places, anchor)),
                Err(e) => error = Some(e),
            }
        }
        Err(error.unwrap_or_else(|| self.unknown_issuer()))
    }

    fn place(&self, der: &[u8]) -> Result<usize, CaError> {
        self.chain
            .der()
            .iter()
            .position(|presented| presented == der)
            .ok_or_else(|| self.unknown_issuer())
    }

    fn check_issuer(&self, index: usize) -> Result<(), CaError> {
        match self.certificates[index].key_usage() {
            Ok(Some(usage)) if !usage.key_cert_sign => Err(CaError::IssuerMayNotSign { index }),
            Ok(_) => Ok(()),
            Err(fault) => Err(CaError::Unusable {
                cause: fault.to_string(),
            }),
        }
    }

    /// webpki takes an anchor as a name and a key; its other limits are as binding as those of any
    /// CA certificate.
    fn check_anchor(&self, anchor: &Anchor, intermediates: usize) -> Result<(), CaError> {
        let purpose = self.purpose;
        if !anchor.allows(purpose) {
            return Err(CaError::WrongPurpose { purpose });
        }
        match anchor.path_len() {
            Some(limit) if u32::try_from(intermediates).is_ok_and(|n| n > limit) => {
                Err(CaError::PathLength)
            }
            _ => Ok(()),
        }
    }

    fn describe(&self, places: &[usize], anchor: &Anchor) -> CaPath {
        let mut keys: Vec<KeyHash> = places.iter().map(|&i| self.chain.keys()[i]).collect();
        keys.push(anchor.key());
        let presented = places.iter().map(|&i| self.certificates[i].not_after).min();
        CaPath {
            anchor: anchor.fingerprint(),
            keys,
            not_after: presented.map_or(anchor.not_after(), |end| end.min(anchor.not_after())),
            constrained: places[1..].iter().any(|&i| {
                let constraints = self.certificates[i].extension(&oid::NAME_CONSTRAINTS);
                constraints.is_some()
            }),
        }
    }

    /// If a path to an anchor outside its validity exists, that is what the operator
    /// needs to know.
    fn explain_by_anchor_validity(&self, error: CaError, others: &[&Anchor]) -> CaError {
        if !matches!(error, CaError::UnknownIssuer { .. }) || others.is_empty() {
            return error;
        }
        let Ok(path) = self.path_to(others) else {
            return error;
        };
        let anchor = others.iter().find(|a| a.fingerprint() == path.anchor);
        let Some(anchor) = anchor else { return error };
        let subject = anchor.subject().to_owned();
        match self.now > anchor.not_after() {
            true => CaError::AnchorExpired {
                anchor: anchor.fingerprint(),
                subject,
                not_after: anchor.not_after(),
            },
            false => CaError::AnchorNotYetValid {
                anchor: anchor.fingerprint(),
                subject,
                not_before: anchor.not_before(),
            },
        }
    }

    fn explain(&self, error: &webpki::Error) -> CaError {
        use webpki::Error as E;
        match error {
            E::UnknownIssuer => self.unknown_issuer(),
            E::CertExpired { not_after, .. } => {
                let not_after = our_time(*not_after);
                CaError::Expired {
                    index: self.first(|c| c.not_after == not_after),
                    not_after,
                }
            }
            E::CertNotValidYet { not_before, .. } => {
                let not_before = our_time(*not_before);
                CaError::NotYetValid {
                    index: self.first(|c| c.not_before == not_before),
                    not_before,
                }
            }
            E::CaUsedAsEndEntity => CaError::LeafIsCa,
            E::EndEntityUsedAsCa => CaError::IssuerNotCa,
            E::RequiredEkuNotFoundContext(_) => CaError::WrongPurpose {
                purpose: self.purpose,
            },
            E::PathLenConstraintViolated => CaError::PathLength,
            E::NameConstraintViolation | E::MalformedNameConstraint => CaError::NameConstraint,
            E::InvalidSignatureForPublicKey => CaError::BadSignature,
            E::UnsupportedSignatureAlgorithmContext(_)
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
                CaError::UnsupportedAlgorithm
            }
            E::MaximumNameConstraintComparisonsExceeded
            | E::MaximumPathBuildCallsExceeded
            | E::MaximumPathDepthExceeded
            | E::MaximumSignatureChecksExceeded => CaError::TooComplex,
            other => CaError::Unusable {
                cause: names::escape(&other.to_string()),
            },
        }
    }

    fn first(&self, is_it: impl Fn(&Parsed<'_>) -> bool) -> usize {
        self.certificates.iter().position(is_it).unwrap_or_default()
    }

    fn unknown_issuer(&self) -> CaError {
        unknown_issuer(&self.certificates[0])
    }
}

fn unknown_issuer(leaf: &Parsed<'_>) -> CaError {
    CaError::UnknownIssuer {
        issuer: names::distinguished_name(leaf.issuer),
    }
}

fn borrow(anchor: &Anchor) -> TrustAnchor<'_> {
    let anchor = anchor.trust_anchor();
    TrustAnchor {
        subject: anchor.subject.as_ref().into(),
        subject_public_key_info: anchor.subject_public_key_info.as_ref().into(),
        name_constraints: anchor.name_constraints.as_ref().map(|c| c.as_ref().into()),
    }
}

fn is_same(anchor: &Anchor, found: &TrustAnchor<'_>) -> bool {
    anchor.trust_anchor() == found
}

fn pki_time(time: UnixTime) -> rustls_pki_types::UnixTime {
    let since_epoch = std::time::Duration::from_secs(time.as_secs());
    rustls_pki_types::UnixTime::since_unix_epoch(since_epoch)
}

fn our_time(time: rustls_pki_types::UnixTime) -> UnixTime {
    UnixTime::from_secs(time.as_secs())
}
