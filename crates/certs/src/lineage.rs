//! Whether an authority issued what a peer presented, at any time and for any use.
//!
//! This is the question after an authority was revoked: whatever it signed is withdrawn. It is not
//! the question of [`crate::verify_ca_path`], which looks for a path that holds now: there an
//! expired leaf has no path, and here it would escape.

use comity_identity::Fingerprint;
use der::asn1::BitStringRef;
use der::{Decode, Tag};
use rustls_pki_types::SignatureVerificationAlgorithm;

use crate::anchor::Anchor;
use crate::candidates::{above_leaf, below_anchors};
use crate::chain::PresentedChain;
use crate::keys::SIGNATURES;
use crate::limits::MAX_PATH_SIGNATURES;
use crate::parsed::{Parsed, content, parts};

/// The first of `authorities` that issued the leaf, directly or through presented certificates.
///
/// Only names and signatures count: not dates, not uses, not constraints, and not whether a
/// certificate in between may issue. When in doubt the answer is yes: for a signature of a kind
/// that cannot be verified, and when one authority takes more than [`MAX_PATH_SIGNATURES`].
///
/// Each authority has that many for itself: how many are revoked is the operator's choice, and all
/// generations of one CA's name are asked about every peer of the living one. Key identifiers are
/// not compared: who holds a stolen authority key writes what it likes into them, and a wrong one
/// would hide what it signed.
///
/// An intermediate certificate that the peer does not present cannot be seen, and neither can what
/// is below it. Without it the authority vouches for nobody; but a pinned peer can hide like this
/// that it is below, and its own key must be revoked.
pub fn authority_above<'a>(
    chain: &PresentedChain,
    authorities: impl IntoIterator<Item = &'a Anchor>,
) -> Option<Fingerprint> {
    let mut authorities = authorities.into_iter().peekable();
    authorities.peek()?;
    let certificates = chain.der().iter().map(|der| Parsed::from_der(der));
    let Ok(certificates) = certificates.collect::<Result<Vec<_>, _>>() else {
        // They were read when the chain was; whatever this is, it speaks for nobody.
        return authorities.next().map(Anchor::fingerprint);
    };
    let above = above_leaf(&certificates);
    let is_above = |authority: &&Anchor| {
        let mut lineage = Lineage {
            certificates: &certificates,
            above: &above,
            left: MAX_PATH_SIGNATURES,
        };
        lineage.begins_with(authority)
    };
    authorities.find(is_above).map(Anchor::fingerprint)
}

type Algorithm = &'static dyn SignatureVerificationAlgorithm;

/// The search below one authority.
struct Lineage<'c> {
    certificates: &'c [Parsed<'c>],
    /// The certificates above the leaf by their names.
    above: &'c [usize],
    /// Signatures that may still be verified for this authority.
    left: usize,
}

impl Lineage<'_> {
    /// From the authority down, so that nobody whom it did not sign anything for makes us verify
    /// more than what names the authority as its issuer.
    fn begins_with(&mut self, authority: &Anchor) -> bool {
        let Ok(authority_certificate) = Parsed::from_der(authority.der()) else {
            return true;
        };
        let linked = below_anchors(self.certificates, self.above, &[authority]);
        let mut unproven: Vec<usize> = std::iter::once(0).chain(linked).collect();
        let mut issuers = vec![&authority_certificate];
        let mut proven = Vec::new();
        while let Some(issuer) = issuers.pop() {
            for &index in &unproven {
                let certificate = &self.certificates[index];
                if certificate.issuer != issuer.subject
                    || !self.may_have_signed(issuer, certificate)
                {
                    continue;
                }
                if index == 0 {
                    return true;
                }
                proven.push(index);
            }
            unproven.retain(|index| !proven.contains(index));
            issuers.extend(proven.drain(..).map(|index| &self.certificates[index]));
        }
        false
    }

    fn may_have_signed(&mut self, issuer: &Parsed<'_>, certificate: &Parsed<'_>) -> bool {
        let Some((key_algorithm, key)) = public_key(issuer.spki) else {
            return true;
        };
        let of_key = |known: &Algorithm| known.public_key_alg_id().as_ref() == key_algorithm;
        let of_signature = |known: &Algorithm| {
            known.signature_alg_id().as_ref() == certificate.signature_algorithm
        };
        if !SIGNATURES.iter().any(of_key) || !SIGNATURES.iter().any(of_signature) {
            return true;
        }
        // At most one algorithm fits both; none means that a key of another kind signed.
        let Some(algorithm) = SIGNATURES.iter().find(|a| of_key(a) && of_signature(a)) else {
            return false;
        };
        let Some(left) = self.left.checked_sub(1) else {
            return true;
        };
        self.left = left;
        algorithm
            .verify_signature(key, certificate.tbs, certificate.signature)
            .is_ok()
    }
}

/// The content of the AlgorithmIdentifier, and the key itself.
fn public_key(spki: &[u8]) -> Option<(&[u8], &[u8])> {
    let [algorithm, key] = parts(spki, "public key").ok()?;
    let algorithm = content(algorithm, Tag::Sequence, "public key").ok()?;
    let key = BitStringRef::from_der(key).ok()?.as_bytes()?;
    Some((algorithm, key))
}
