//! Verifying a presented chain below a cross-certificate.
//!
//! An authority recognises a node by certifying its key: a CA certificate that may sign for one
//! name only, the node's own. What a node presents is then, in any order above the leaf:
//!
//! 1. its leaf,
//! 2. where accepted, certificates by which an older key of the node certifies the next one,
//! 3. the cross-certificate: a CA with path length 0 and one critical name constraint, its subject,
//! 4. issuing certificates of the authority, if the anchor did not sign the cross-certificate,
//!
//! and the anchor is ours. Verifiers that are around either refuse every such chain or do not look
//! at the constraint, so this one is our own. It follows RFC 5280 section 6 and is stricter where
//! that leaves doubt: everything below the cross-certificate carries exactly its subject, byte for
//! byte; whatever is not understood refuses.
//!
//! Whether the cross-certificate is one that somebody recognises is not decided here: a
//! [`CrossPath`] is evidence, and the registry of who is recognised must agree.

mod cache;
mod certificate;
mod constraints;
mod error;
mod identifiers;
mod search;
mod signatures;

use comity_identity::{Fingerprint, KeyHash, UnixTime};

use crate::anchor::Anchor;
use crate::chain::{PresentedChain, Purpose};
use crate::metadata::Metadata;

pub use cache::{MAX_CACHED_SIGNATURES, SignatureCache};
pub use error::{ConstraintFault, CrossError};
use search::Search;
use signatures::Asked;

pub(crate) use constraints::relative_names;
pub(crate) use signatures::Holding;

/// Whether certificates by which one key certifies its successor under the same name count.
///
/// They do in the profile of seed 004, where nothing else can replace a key, and above a
/// cross-certificate while an authority replaces its root. A Comity node replaces its identity by a
/// statement of succession instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rollover {
    /// No self-issued certificate stands between leaf and anchor.
    Refused,
    /// They may stand below the cross-certificate and between it and the anchor.
    Accepted,
}

/// A verified path with a cross-certificate on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrossPath {
    /// The certificate by which the authority recognises the node.
    pub cross: CrossCertificate,
    /// The anchor the path ends at.
    pub anchor: Fingerprint,
    /// The hash of every key on the path, leaf first, anchor last.
    pub keys: Vec<KeyHash>,
    /// Every certificate on the path below the anchor, leaf first: what a list of withdrawn
    /// certificates is compared with.
    pub issued: Vec<Issued>,
    /// The earliest end of validity on the path, the anchor's included.
    pub not_after: UnixTime,
}

/// A verified path to the peer's own root, without a cross-certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPath {
    /// The root it ends at.
    pub anchor: Fingerprint,
    /// The hash of every key on the path, leaf first, root last.
    pub keys: Vec<KeyHash>,
    /// Every certificate on the path below the root, leaf first.
    pub issued: Vec<Issued>,
    /// The earliest end of validity on the path, the root's included.
    pub not_after: UnixTime,
}

/// A cross-certificate on a verified path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrossCertificate {
    /// Hash of the key that signed it.
    pub issuer_key: KeyHash,
    /// The content of its serial number.
    pub serial: Vec<u8>,
    /// The DER of its subject, which everything below carries.
    pub subject: Vec<u8>,
    /// Hash of the key that it certifies.
    pub key: KeyHash,
    /// What its issuer says about the node.
    pub metadata: Option<Metadata>,
    /// First second at which it is valid.
    pub not_before: UnixTime,
    /// Last second at which it is valid.
    pub not_after: UnixTime,
    /// Hash of the whole certificate. Anybody can make a second form of an ECDSA signature, so this
    /// must not be what is withdrawn.
    pub fingerprint: Fingerprint,
}

/// A certificate by what identifies it for ever: who issued it and under which number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Issued {
    /// Hash of the key that signed it.
    pub issuer_key: KeyHash,
    /// The content of its serial number.
    pub serial: Vec<u8>,
    /// Hash of the key in it.
    pub key: KeyHash,
}

/// Verifies that one of the anchors vouches for the leaf through a cross-certificate, at the time
/// `now`. Of several paths a shortest one is returned; see [`cross_paths`].
///
/// # Errors
/// When there is no such path, with the most useful thing to know about what came closest.
pub fn verify_cross_path<'a>(
    chain: &PresentedChain,
    anchors: impl IntoIterator<Item = &'a Anchor>,
    purpose: Purpose,
    rollover: Rollover,
    now: UnixTime,
) -> Result<CrossPath, CrossError> {
    let anchors: Vec<&Anchor> = anchors.into_iter().collect();
    let search = Search::new(chain, &anchors, purpose, rollover, now)?;
    search.cross_paths(Some(1)).into_first()
}

/// One path for every cross-certificate that has one, shortest first: a node that is a member of
/// several networks presents a cross-certificate for each. All are found within one budget of
/// [`MAX_CROSS_SIGNATURES`](crate::limits::MAX_CROSS_SIGNATURES) signatures; what is found when it
/// is used up counts.
pub fn cross_paths<'a>(
    chain: &PresentedChain,
    anchors: impl IntoIterator<Item = &'a Anchor>,
    purpose: Purpose,
    rollover: Rollover,
    now: UnixTime,
) -> Vec<CrossPath> {
    let anchors: Vec<&Anchor> = anchors.into_iter().collect();
    let asked = Asked {
        anchors: anchors.iter().map(|anchor| anchor.fingerprint()).collect(),
        purpose,
        rollover,
        now,
    };
    chain.holding().paths(asked, || {
        match Search::new(chain, &anchors, purpose, rollover, now) {
            Ok(search) => search.cross_paths(None).found,
            Err(_) => Vec::new(),
        }
    })
}

/// Verifies that the leaf was signed by an anchor of exactly its own name: what a client sees of a
/// server whose root it has registered.
///
/// # Errors
/// As [`verify_cross_path`].
pub fn verify_own_path<'a>(
    chain: &PresentedChain,
    anchors: impl IntoIterator<Item = &'a Anchor>,
    purpose: Purpose,
    rollover: Rollover,
    now: UnixTime,
) -> Result<OwnPath, CrossError> {
    let anchors: Vec<&Anchor> = anchors.into_iter().collect();
    let search = Search::new(chain, &anchors, purpose, rollover, now)?;
    search.own_paths().into_first()
}
