//! What a peer presented, taken apart before anything is decided about it.
//!
//! Order of work: count and size first, then the structure of every certificate, then either the
//! exact native profile with both its signatures, or the looser rules for foreign leaves. Nothing
//! here is trust: a [`PresentedChain`] says whose certificate this would be, and only the handshake
//! proves that the peer holds the key.

use std::sync::Arc;

use comity_identity::{Fingerprint, KeyHash, PeerId, UnixTime};
use const_oid::ObjectIdentifier;
use rustls_pki_types::{CertificateDer, ServerName};
use thiserror::Error;
use webpki::EndEntityCert;

use crate::cross::{Holding, SignatureCache};
use crate::keys::{self, accept_key, accept_signature};
use crate::limits::{MAX_CERTIFICATES, MAX_CHAIN_BYTES, MAX_SUCCESSION_BYTES};
use crate::metadata::Metadata;
use crate::names::{self, SanName};
use crate::native::{self, NativeFacts, ProfileFault};
use crate::oid;
use crate::parsed::{CertificateFault, Parsed};
use crate::twin;

/// The critical extensions we understand in a leaf: those that are read here or by the TLS
/// library. CRL distribution points say where to look and constrain nothing.
const KNOWN_CRITICAL: [ObjectIdentifier; 5] = [
    oid::KEY_USAGE,
    oid::SUBJECT_ALT_NAME,
    oid::BASIC_CONSTRAINTS,
    oid::CRL_DISTRIBUTION_POINTS,
    oid::EXTENDED_KEY_USAGE,
];

/// The certificates a peer presented.
///
/// Holding one means that the limits were kept, every certificate is well-formed, the leaf's key
/// and signature algorithm are accepted and, if the chain is native, that it has the exact profile
/// and that its root signed itself and the leaf. It does **not** mean that the peer owns the key,
/// that any certificate is valid at this time, or that anybody vouches for it.
#[derive(Clone, Debug)]
pub struct PresentedChain {
    certificates: Vec<Vec<u8>>,
    keys: Vec<KeyHash>,
    fingerprints: Vec<Fingerprint>,
    peer_id: PeerId,
    next: Option<KeyHash>,
    leaf: Leaf,
    holding: Holding,
}

/// Whether a chain is one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// A node's own root and a leaf signed by it.
    Native,
    /// Anything else: known by the key in its leaf.
    Foreign,
}

/// What the leaf says. All of it but the key is the peer's claim.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leaf {
    /// Hash of its SubjectPublicKeyInfo.
    pub key: KeyHash,
    /// Hash of the whole certificate.
    pub fingerprint: Fingerprint,
    /// First second at which it is valid.
    pub not_before: UnixTime,
    /// Last second at which it is valid.
    pub not_after: UnixTime,
    /// Usable names of its SubjectAltName.
    pub names: Vec<SanName>,
    /// The first common name of its subject, escaped and bounded: for display only, never matched.
    pub common_name: Option<String>,
    /// Whether its BasicConstraints say CA:TRUE, as `openssl req -x509` makes them.
    pub is_ca: bool,
    /// What its ExtendedKeyUsage allows.
    pub usages: Usages,
    /// Its metadata extension, if there is one.
    pub metadata: Option<Metadata>,
    /// Whether subject and issuer are one and its signature verifies with its own key.
    pub self_signed: bool,
    /// The succession statements in a native leaf, at most
    /// [`MAX_SUCCESSION_BYTES`](crate::limits::MAX_SUCCESSION_BYTES) and otherwise unread: who
    /// verifies them decides what they are worth. `None` in any other leaf.
    pub succession: Option<Vec<u8>>,
}

/// What a leaf is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Accepting connections: `serverAuth`.
    Serve,
    /// Opening connections: `clientAuth`.
    Dial,
}

/// The content of ExtendedKeyUsage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Usages {
    /// No such extension: every use is allowed (RFC 5280 section 4.2.1.12).
    Absent,
    /// The uses that are named.
    Listed {
        /// `serverAuth` is among them.
        serve: bool,
        /// `clientAuth` is among them.
        dial: bool,
        /// `anyExtendedKeyUsage` is among them.
        any: bool,
    },
}

impl Usages {
    /// Whether a certificate with these usages may be used for `purpose`.
    ///
    /// `anyExtendedKeyUsage` alone allows neither: the TLS library and most others read it so.
    pub fn allows(self, purpose: Purpose) -> bool {
        match (self, purpose) {
            (Self::Absent, _) => true,
            (Self::Listed { serve, .. }, Purpose::Serve) => serve,
            (Self::Listed { dial, .. }, Purpose::Dial) => dial,
        }
    }
}

/// Why a presented chain was refused before any question of trust.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChainError {
    /// No certificate at all.
    #[error("the peer presented no certificate")]
    Empty,
    /// More than [`MAX_CERTIFICATES`].
    #[error("the peer presented {found} certificates, and {MAX_CERTIFICATES} are accepted")]
    TooManyCertificates {
        /// How many.
        found: usize,
    },
    /// More than [`MAX_CHAIN_BYTES`].
    #[error("the peer's certificates have {bytes} bytes, and {MAX_CHAIN_BYTES} are accepted")]
    TooLarge {
        /// Their sum.
        bytes: usize,
    },
    /// One certificate is not acceptable.
    #[error("certificate {} of the chain is refused: {fault}", index + 1)]
    Certificate {
        /// Its place, the leaf being 0.
        index: usize,
        /// What is wrong with it.
        fault: CertificateFault,
    },
    /// The chain says that it is a node's but breaks the profile. It is never taken for a foreign
    /// one: that would give one node two identities.
    #[error("the chain claims to be a node's, but {fault}")]
    NativeProfile {
        /// What breaks the profile.
        fault: ProfileFault,
    },
}

impl ChainError {
    /// Whether a limit was exceeded, rather than a rule broken.
    pub fn is_limit(&self) -> bool {
        match self {
            Self::TooManyCertificates { .. } | Self::TooLarge { .. } => true,
            Self::Certificate { fault, .. } => fault.is_limit(),
            Self::Empty | Self::NativeProfile { .. } => false,
        }
    }
}

impl PresentedChain {
    /// Reads the certificates a peer presented, leaf first.
    ///
    /// # Errors
    /// When a limit is exceeded, a certificate is malformed or has an unacceptable key, or the
    /// chain claims to be native without being so exactly.
    pub fn parse<C: AsRef<[u8]>>(certificates: &[C]) -> Result<Self, ChainError> {
        check_limits(certificates)?;
        let parsed = certificates
            .iter()
            .enumerate()
            .map(|(index, der)| {
                Parsed::from_der(der.as_ref())
                    .map_err(|fault| ChainError::Certificate { index, fault })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let native = native::recognise(&parsed)?;
        let keys: Vec<KeyHash> = parsed.iter().map(|c| KeyHash::of_spki(c.spki)).collect();
        let fingerprints: Vec<Fingerprint> = certificates
            .iter()
            .map(|der| Fingerprint::of_certificate(der.as_ref()))
            .collect();
        let leaf = read_leaf(
            &parsed,
            certificates[0].as_ref(),
            keys[0],
            fingerprints[0],
            &native,
        )
        .map_err(|fault| ChainError::Certificate { index: 0, fault })?;
        let (peer_id, next) = match native {
            Some(facts) => (PeerId::Node(facts.node), facts.next),
            None => (PeerId::Key(leaf.key), None),
        };
        let holding = Holding::default();
        if let PeerId::Node(node) = peer_id {
            // The profile was checked above, and with it that the root signed the leaf.
            holding.note(0, node.key_hash());
        }
        Ok(Self {
            certificates: certificates.iter().map(|c| c.as_ref().to_vec()).collect(),
            keys,
            fingerprints,
            peer_id,
            next,
            leaf,
            holding,
        })
    }

    /// The same chain, which takes signatures of cross-certificates that are in `cache` as verified,
    /// and enters there what it verifies.
    #[must_use]
    pub fn sharing(mut self, cache: &Arc<SignatureCache>) -> Self {
        self.holding.share(Arc::clone(cache));
        self
    }

    /// Which of its signatures are known to hold.
    pub(crate) fn holding(&self) -> &Holding {
        &self.holding
    }

    /// Who this is, if the peer proves that it holds the key.
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Whether it is a node's own chain.
    pub fn form(&self) -> Form {
        match self.peer_id {
            PeerId::Node(_) => Form::Native,
            PeerId::Key(_) => Form::Foreign,
        }
    }

    /// What the leaf says.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// The hash of the next identity key, to which a native root commits.
    pub fn next(&self) -> Option<KeyHash> {
        self.next
    }

    /// The hash of every presented key, leaf first: a revoked one anywhere refuses the chain. A
    /// pin must never be compared with any but the identity of the chain.
    pub fn keys(&self) -> &[KeyHash] {
        &self.keys
    }

    /// The hash of every presented certificate, leaf first.
    pub fn fingerprints(&self) -> &[Fingerprint] {
        &self.fingerprints
    }

    /// The fingerprints that the presented certificates would have with the other signature that
    /// anybody can derive from an ECDSA one: a certificate that was revoked by its fingerprint is
    /// presented like this by somebody who tries to get around it.
    ///
    /// For revocations only; a pin must never be compared with these.
    pub fn twin_fingerprints(&self) -> Vec<Fingerprint> {
        let certificates = self.certificates.iter();
        certificates
            .flat_map(|der| twin::fingerprints(der))
            .collect()
    }

    /// The certificates as presented, leaf first.
    pub fn der(&self) -> &[Vec<u8>] {
        &self.certificates
    }

    /// Whether the leaf is for `name`, by RFC 9525: only the SubjectAltName counts, `*` stands for
    /// exactly one whole first label, and an IP address matches only an IP entry.
    pub fn matches_name(&self, name: &ServerName<'_>) -> bool {
        let der = CertificateDer::from(self.certificates[0].as_slice());
        EndEntityCert::try_from(&der)
            .is_ok_and(|leaf| leaf.verify_is_valid_for_subject_name(name).is_ok())
    }
}

fn check_limits<C: AsRef<[u8]>>(certificates: &[C]) -> Result<(), ChainError> {
    let found = certificates.len();
    if found == 0 {
        return Err(ChainError::Empty);
    }
    if found > MAX_CERTIFICATES {
        return Err(ChainError::TooManyCertificates { found });
    }
    let bytes = certificates.iter().map(|c| c.as_ref().len()).sum();
    if bytes > MAX_CHAIN_BYTES {
        return Err(ChainError::TooLarge { bytes });
    }
    Ok(())
}

fn read_leaf(
    chain: &[Parsed<'_>],
    der: &[u8],
    key: KeyHash,
    fingerprint: Fingerprint,
    native: &Option<NativeFacts>,
) -> Result<Leaf, CertificateFault> {
    let leaf = &chain[0];
    accept_key(leaf.spki)?;
    accept_signature(leaf.signature_algorithm)?;
    leaf.refuse_unknown_critical(&KNOWN_CRITICAL)?;
    // Read for its structure; what it says is judged with CA paths.
    leaf.key_usage()?;
    let names = names::subject_alt_names(leaf)?;
    let usable = CertificateDer::from(der);
    // What the TLS library cannot read would fail later with less to say about it.
    let usable = EndEntityCert::try_from(&usable).map_err(|e| CertificateFault::Unusable {
        cause: names::escape(&e.to_string()),
    })?;
    Ok(Leaf {
        key,
        fingerprint,
        not_before: leaf.not_before,
        not_after: leaf.not_after,
        names,
        common_name: names::common_name(leaf)?,
        is_ca: leaf.basic_constraints()?.ca,
        usages: usages(leaf)?,
        metadata: metadata(leaf)?,
        self_signed: native.is_none() && is_self_signed(leaf, &usable),
        succession: match native {
            Some(_) => succession(leaf)?,
            None => None,
        },
    })
}

fn usages(leaf: &Parsed<'_>) -> Result<Usages, CertificateFault> {
    let Some(listed) = leaf.extended_key_usage()? else {
        return Ok(Usages::Absent);
    };
    let has = |usage: &ObjectIdentifier| listed.iter().any(|oid| *oid == usage.as_bytes());
    Ok(Usages::Listed {
        serve: has(&oid::SERVER_AUTH),
        dial: has(&oid::CLIENT_AUTH),
        any: has(&oid::ANY_USAGE),
    })
}

fn metadata(leaf: &Parsed<'_>) -> Result<Option<Metadata>, CertificateFault> {
    match leaf.extension(&oid::METADATA) {
        None => Ok(None),
        Some(extension) => Ok(Some(Metadata::from_der(extension.value)?)),
    }
}

fn succession(leaf: &Parsed<'_>) -> Result<Option<Vec<u8>>, CertificateFault> {
    let Some(extension) = leaf.extension(&oid::SUCCESSION) else {
        return Ok(None);
    };
    let bytes = extension.value.len();
    match bytes <= MAX_SUCCESSION_BYTES {
        true => Ok(Some(extension.value.to_vec())),
        false => Err(CertificateFault::SuccessionTooLarge { bytes }),
    }
}

fn is_self_signed(leaf: &Parsed<'_>, usable: &EndEntityCert<'_>) -> bool {
    leaf.subject == leaf.issuer
        && keys::SIGNATURES
            .iter()
            .filter(|known| known.signature_alg_id().as_ref() == leaf.signature_algorithm)
            .any(|known| {
                usable
                    .verify_signature(*known, leaf.tbs, leaf.signature)
                    .is_ok()
            })
}
