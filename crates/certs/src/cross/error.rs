//! Why a chain has no path through a cross-certificate.

use comity_identity::{Fingerprint, UnixTime};
use thiserror::Error;

use crate::chain::Purpose;
use crate::limits::{MAX_CROSS_SIGNATURES, MAX_CROSS_STEPS};
use crate::parsed::CertificateFault;

/// Why there is no path. When several things are wrong, the most useful one to know.
///
/// An `index` is a place in the presented chain, the leaf being 0; the anchor comes after the last.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CrossError {
    /// No anchor is above the leaf, or a certificate in between is missing.
    #[error("no authority that we recognise vouches for it (its issuer is {issuer:?})")]
    UnknownIssuer {
        /// The issuer the leaf names, escaped and bounded.
        issuer: String,
    },
    /// The leaf is below an anchor, but not through a cross-certificate.
    #[error("there is no cross-certificate between it and the authority")]
    NoCrossCertificate,
    /// The leaf is below an anchor, but the anchor is not its own root.
    #[error("the root above it is not its own")]
    NotOwnRoot,
    /// Only a self-issued certificate completes the path, and those are not accepted.
    #[error("certificate {} replaces a key, which is not accepted here", index + 1)]
    Rollover {
        /// Its place.
        index: usize,
    },
    /// A certificate, or the anchor, has expired.
    #[error("certificate {} of the path expired at {not_after}", index + 1)]
    Expired {
        /// Its place.
        index: usize,
        /// When.
        not_after: UnixTime,
    },
    /// A certificate, or the anchor, is not valid yet.
    #[error("certificate {} of the path is not valid before {not_before}", index + 1)]
    NotYetValid {
        /// Its place.
        index: usize,
        /// When it begins.
        not_before: UnixTime,
    },
    /// The anchor has expired.
    #[error("the authority's certificate expired at {not_after}")]
    AnchorExpired {
        /// Which one.
        anchor: Fingerprint,
        /// When.
        not_after: UnixTime,
    },
    /// The anchor is not valid yet.
    #[error("the authority's certificate is not valid before {not_before}")]
    AnchorNotYetValid {
        /// Which one.
        anchor: Fingerprint,
        /// When it begins.
        not_before: UnixTime,
    },
    /// An extension that the profile demands is missing.
    #[error("certificate {} of the chain lacks its {extension}", index + 1)]
    Missing {
        /// Its place.
        index: usize,
        /// What is missing.
        extension: &'static str,
    },
    /// A certificate that names its own key as its issuer's, although another key signed it.
    #[error("certificate {} of the chain names its own key as its issuer's", index + 1)]
    NamesItself {
        /// Its place.
        index: usize,
    },
    /// The leaf says CA:TRUE, or may sign certificates.
    #[error("the leaf may act as a CA")]
    LeafIsCa,
    /// The leaf's key usage lacks digitalSignature, which TLS 1.3 demands.
    #[error("the leaf's key usage does not allow signatures")]
    LeafKeyUsage,
    /// A certificate, or the anchor, is not for this purpose.
    #[error("certificate {} of the path is not meant for {}", index + 1, match purpose { Purpose::Serve => "servers", Purpose::Dial => "clients" })]
    WrongPurpose {
        /// Its place.
        index: usize,
        /// What was asked for.
        purpose: Purpose,
    },
    /// A certificate that is not a CA's issued another one.
    #[error("certificate {} of the chain issued another one, but is not a CA's", index + 1)]
    IssuerNotCa {
        /// Its place.
        index: usize,
    },
    /// A CA certificate whose key usage does not allow signing certificates.
    #[error("certificate {} of the chain issued another one, but its key usage forbids it", index + 1)]
    IssuerMayNotSign {
        /// Its place.
        index: usize,
    },
    /// More CAs below a certificate, or the anchor, than it allows.
    #[error("certificate {} of the path allows fewer CAs below itself", index + 1)]
    PathLength {
        /// Its place.
        index: usize,
    },
    /// The leaf's names are not exactly those of the cross-certificate or root above it.
    #[error("the leaf's subject is not exactly the one it was recognised for")]
    OtherSubject,
    /// The cross-certificate, or a certificate below it, is not limited to its own name.
    #[error("certificate {} of the chain is not limited to its own name: {fault}", index + 1)]
    Unconstrained {
        /// Its place.
        index: usize,
        /// How.
        fault: ConstraintFault,
    },
    /// A name outside the constraints of a certificate above it.
    #[error("a name in certificate {} of the chain is outside the constraints of an authority", index + 1)]
    NameConstraint {
        /// The place of the certificate with the name.
        index: usize,
    },
    /// The cross-certificate attests more than its issuer may.
    #[error("certificate {} of the chain attests {attested:?}, which its issuer may not", index + 1)]
    OutOfScope {
        /// The place of the cross-certificate.
        index: usize,
        /// The first network or role that is outside, escaped and bounded.
        attested: String,
    },
    /// A signature does not verify.
    #[error("the signature of certificate {} of the chain is wrong", index + 1)]
    BadSignature {
        /// Its place.
        index: usize,
    },
    /// Checking it would take more than [`MAX_CROSS_SIGNATURES`] signatures or
    /// [`MAX_CROSS_STEPS`] steps.
    #[error("the certificates are too entangled to be checked")]
    TooComplex,
    /// A certificate, or the anchor, cannot be used.
    #[error("certificate {} of the path is refused: {fault}", index + 1)]
    Certificate {
        /// Its place.
        index: usize,
        /// What is wrong with it.
        fault: CertificateFault,
    },
}

/// How a cross-certificate fails to be limited to its own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum ConstraintFault {
    /// It has no name constraints.
    #[error("it has no name constraints")]
    Missing,
    /// They are not critical, so that others may ignore them.
    #[error("its name constraints are not critical")]
    NotCritical,
    /// There is not exactly one permitted directory name, or something else besides.
    #[error("its name constraints are not a single permitted directory name")]
    NotOneName,
    /// The permitted name is not byte for byte its subject, or its subject is empty.
    #[error("the name it permits is not its subject")]
    NotItsSubject,
    /// The path length is not 0: it could let others sign for its name.
    #[error("its path length is not 0")]
    PathLength,
    /// BasicConstraints are not critical.
    #[error("its basic constraints are not critical")]
    BasicConstraints,
}

impl CrossError {
    /// Whether a limit was exceeded, rather than a rule broken.
    pub fn is_limit(&self) -> bool {
        match self {
            Self::TooComplex => true,
            Self::Certificate { fault, .. } => fault.is_limit(),
            _ => false,
        }
    }

    /// How much this tells of what is wrong: of several paths, the one that came closest to being
    /// right explains best.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::UnknownIssuer { .. } => 0,
            Self::NoCrossCertificate | Self::NotOwnRoot => 1,
            Self::BadSignature { .. } => 2,
            Self::Certificate { .. } | Self::IssuerNotCa { .. } | Self::IssuerMayNotSign { .. } => {
                3
            }
            Self::PathLength { .. }
            | Self::OtherSubject
            | Self::Unconstrained { .. }
            | Self::NameConstraint { .. }
            | Self::OutOfScope { .. } => 4,
            Self::WrongPurpose { .. }
            | Self::Missing { .. }
            | Self::NamesItself { .. }
            | Self::LeafIsCa
            | Self::LeafKeyUsage => 5,
            Self::Rollover { .. } => 6,
            Self::AnchorExpired { .. } | Self::AnchorNotYetValid { .. } => 7,
            Self::Expired { .. } | Self::NotYetValid { .. } => 8,
            // What was not looked at could have been the path, whatever is wrong with the rest.
            Self::TooComplex => 9,
        }
    }
}

// The limits are named in the documentation above.
const _: (usize, usize) = (MAX_CROSS_SIGNATURES, MAX_CROSS_STEPS);
