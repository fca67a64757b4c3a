//! The search for paths, over the few certificates that were presented.
//!
//! What each certificate says by itself, and which ones may have issued which by names and key
//! identifiers, is read once. Candidates are followed upwards from the leaf, shortest first, which
//! then costs nothing to speak of. A complete candidate is checked for everything that needs neither
//! cryptography nor reading, then its signatures from the anchor downwards: a stranger, for whom no
//! anchor ever signed anything, cannot get past the first one. Scopes and constraints of issuers come
//! last, when it is certain that they are theirs.

use std::cell::RefCell;
use std::collections::VecDeque;

use comity_identity::{Fingerprint, KeyHash, UnixTime};
use der::Tag;

use super::certificate::{Certificate, Issuer};
use super::error::CrossError;
use super::signatures::Signatures;
use super::{CrossCertificate, CrossPath, Issued, OwnPath, Rollover};
use crate::anchor::Anchor;
use crate::chain::{PresentedChain, Purpose};
use crate::limits::MAX_CROSS_STEPS;
use crate::metadata::Metadata;
use crate::names;
use crate::parsed::{CertificateFault, Parsed, content};

pub(super) struct Search<'c> {
    chain: &'c PresentedChain,
    /// The presented certificates, leaf first, each once.
    certificates: Vec<Certificate<'c>>,
    /// Anchors that issued one of them, by name.
    anchors: Vec<(Certificate<'c>, Fingerprint)>,
    /// For each of the certificates, by place, what may have issued it.
    issuers: Vec<Issuers>,
    rollover: Rollover,
    now: UnixTime,
    signatures: RefCell<Signatures>,
}

/// Paths, and the most useful error of the candidates that were none.
pub(super) struct Outcome<P> {
    pub(super) found: Vec<P>,
    error: CrossError,
}

impl<P> Outcome<P> {
    pub(super) fn into_first(self) -> Result<P, CrossError> {
        self.found.into_iter().next().ok_or(self.error)
    }

    fn refuse(&mut self, error: CrossError) {
        if error.rank() > self.error.rank() {
            self.error = error;
        }
    }
}

/// What may have issued a certificate, by names and identifiers.
struct Issuers {
    /// Places in the presented certificates, the leaf's never.
    presented: Vec<usize>,
    /// Places in the anchors.
    anchors: Vec<usize>,
}

/// A complete candidate.
struct Candidate<'s, 'c> {
    /// Certificates from the leaf upwards.
    presented: Vec<&'s Certificate<'c>>,
    anchor: &'s Certificate<'c>,
    fingerprint: Fingerprint,
}

/// Why the search ends before everything was looked at.
enum Stop {
    Complete,
    TooComplex,
}

impl<'c> Search<'c> {
    /// # Errors
    /// When no anchor is given or the leaf cannot be read.
    pub(super) fn new(
        chain: &'c PresentedChain,
        anchors: &[&'c Anchor],
        purpose: Purpose,
        rollover: Rollover,
        now: UnixTime,
    ) -> Result<Self, CrossError> {
        let certificates = read_chain(chain, purpose)?;
        let mut search = Self {
            chain,
            certificates,
            anchors: Vec::new(),
            issuers: Vec::new(),
            rollover,
            now,
            signatures: RefCell::default(),
        };
        for anchor in anchors {
            if search.is_issuer(anchor) {
                let certificate = read_anchor(anchor, chain, purpose)?;
                search.anchors.push((certificate, anchor.fingerprint()));
            }
        }
        search.issuers = search
            .certificates
            .iter()
            .map(|c| search.issuers_of(c))
            .collect();
        Ok(search)
    }

    /// Paths through cross-certificates, one for each, at most `limit`.
    pub(super) fn cross_paths(&self, limit: Option<usize>) -> Outcome<CrossPath> {
        let mut outcome = self.nothing_found();
        let mut seen: Vec<usize> = Vec::new();
        let stop = self.each_candidate(|candidate| {
            let Some(cross) = candidate.cross() else {
                outcome.refuse(CrossError::NoCrossCertificate);
                return Ok(());
            };
            let index = candidate.presented[cross].index;
            if seen.contains(&index) {
                return Ok(());
            }
            match self.cross_path(&candidate, cross) {
                Ok(path) => {
                    seen.push(index);
                    outcome.found.push(path);
                }
                Err(CrossError::TooComplex) => return Err(Stop::TooComplex),
                Err(error) => outcome.refuse(error),
            }
            match limit == Some(outcome.found.len()) {
                true => Err(Stop::Complete),
                false => Ok(()),
            }
        });
        if let Err(Stop::TooComplex) = stop {
            outcome.refuse(CrossError::TooComplex);
        }
        outcome
    }

    /// The first path to the leaf's own root.
    pub(super) fn own_paths(&self) -> Outcome<OwnPath> {
        let mut outcome = self.nothing_found();
        let stop = self.each_candidate(|candidate| match self.own_path(&candidate) {
            Ok(path) => {
                outcome.found.push(path);
                Err(Stop::Complete)
            }
            Err(CrossError::TooComplex) => Err(Stop::TooComplex),
            Err(error) => {
                outcome.refuse(error);
                Ok(())
            }
        });
        if let Err(Stop::TooComplex) = stop {
            outcome.refuse(CrossError::TooComplex);
        }
        outcome
    }

    fn nothing_found<P>(&self) -> Outcome<P> {
        Outcome {
            found: Vec::new(),
            error: CrossError::UnknownIssuer {
                issuer: names::distinguished_name(self.certificates[0].parsed.issuer),
            },
        }
    }

    fn is_issuer(&self, anchor: &Anchor) -> bool {
        // The TLS library leaves out the header of the SEQUENCE.
        let subject = anchor.trust_anchor().subject.as_ref();
        self.certificates.iter().any(|certificate| {
            content(certificate.parsed.issuer, Tag::Sequence, "issuer")
                .is_ok_and(|issuer| issuer == subject)
        })
    }

    /// Shows every sequence of presented certificates from the leaf to an anchor, shortest first.
    fn each_candidate<'s>(
        &'s self,
        mut show: impl FnMut(Candidate<'s, 'c>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let mut steps = 0;
        let mut partial = VecDeque::from([vec![0]]);
        while let Some(path) = partial.pop_front() {
            steps += 1;
            if steps > MAX_CROSS_STEPS {
                return Err(Stop::TooComplex);
            }
            let (last, below) = match path.as_slice() {
                [.., last] => (*last, path.len() - 1),
                [] => continue,
            };
            let goes_on = |issuer: &Certificate<'_>| {
                below == 0 || self.certificates[last].replaced_by(issuer)
            };
            let Issuers { presented, anchors } = &self.issuers[last];
            for (anchor, fingerprint) in anchors.iter().map(|place| &self.anchors[*place]) {
                if goes_on(anchor) {
                    show(Candidate {
                        presented: path
                            .iter()
                            .map(|place| &self.certificates[*place])
                            .collect(),
                        anchor,
                        fingerprint: *fingerprint,
                    })?;
                }
            }
            for next in presented {
                if !path.contains(next) && goes_on(&self.certificates[*next]) {
                    partial.push_back([path.as_slice(), &[*next]].concat());
                }
            }
        }
        Ok(())
    }

    fn issuers_of(&self, certificate: &Certificate<'_>) -> Issuers {
        let places =
            |fits: &dyn Fn(usize) -> bool, from, to| (from..to).filter(|p| fits(*p)).collect();
        let presented = |place: usize| self.certificates[place].may_have_issued(certificate);
        let anchors = |place: usize| self.anchors[place].0.may_have_issued(certificate);
        Issuers {
            presented: places(&presented, 1, self.certificates.len()),
            anchors: places(&anchors, 0, self.anchors.len()),
        }
    }

    fn cross_path(
        &self,
        candidate: &Candidate<'_, '_>,
        cross: usize,
    ) -> Result<CrossPath, CrossError> {
        candidate.check_subject(candidate.presented[cross])?;
        self.check_each(candidate)?;
        self.check_rollover(candidate)?;
        for certificate in &candidate.presented[1..=cross] {
            certificate.check_limited_to_itself()?;
        }
        candidate.check_path_lengths()?;
        self.check_signatures(candidate)?;
        candidate.check_scope(cross)?;
        candidate.check_constraints(cross + 1)?;
        let issued = candidate.issued();
        let certificate = candidate.presented[cross];
        Ok(CrossPath {
            cross: CrossCertificate {
                issuer_key: issued[cross].issuer_key,
                serial: certificate.parsed.serial.to_vec(),
                subject: certificate.parsed.subject.to_vec(),
                key: certificate.key,
                metadata: certificate.as_issuer()?.metadata.clone(),
                not_before: certificate.parsed.not_before,
                not_after: certificate.parsed.not_after,
                fingerprint: self.chain.fingerprints()[certificate.index],
            },
            anchor: candidate.fingerprint,
            keys: candidate.keys(),
            issued,
            not_after: candidate.not_after(),
        })
    }

    fn own_path(&self, candidate: &Candidate<'_, '_>) -> Result<OwnPath, CrossError> {
        if candidate.cross().is_some() {
            return Err(CrossError::NotOwnRoot);
        }
        candidate.check_subject(candidate.anchor)?;
        self.check_each(candidate)?;
        self.check_rollover(candidate)?;
        for certificate in &candidate.presented[1..] {
            certificate.check_limited_to_itself()?;
        }
        candidate.check_path_lengths()?;
        self.check_signatures(candidate)?;
        candidate.check_constraints(candidate.presented.len())?;
        Ok(OwnPath {
            anchor: candidate.fingerprint,
            keys: candidate.keys(),
            issued: candidate.issued(),
            not_after: candidate.not_after(),
        })
    }

    /// What each certificate says by itself, and its time.
    fn check_each(&self, candidate: &Candidate<'_, '_>) -> Result<(), CrossError> {
        for certificate in &candidate.presented {
            certificate.role.as_ref().map_err(Clone::clone)?;
            certificate.check_time(self.now)?;
            if certificate.is_self_issued() && certificate.index > 0 {
                certificate
                    .identifiers
                    .check_not_self_signed(certificate.index)?;
            }
        }
        candidate.anchor.as_issuer()?;
        let anchor = candidate.fingerprint;
        candidate
            .anchor
            .check_time(self.now)
            .map_err(|error| match error {
                CrossError::Expired { not_after, .. } => {
                    CrossError::AnchorExpired { anchor, not_after }
                }
                CrossError::NotYetValid { not_before, .. } => {
                    CrossError::AnchorNotYetValid { anchor, not_before }
                }
                other => other,
            })
    }

    fn check_rollover(&self, candidate: &Candidate<'_, '_>) -> Result<(), CrossError> {
        let links = candidate.links();
        for ((below, _), (certificate, issuer)) in links.iter().zip(links.iter().skip(1)) {
            if !certificate.is_self_issued() {
                continue;
            }
            let index = certificate.index;
            if self.rollover == Rollover::Refused {
                return Err(CrossError::Rollover { index });
            }
            // Certificates of one name are told apart by nothing else.
            below.identifiers.check_authority(below.index)?;
            issuer.identifiers.check_own(issuer.index)?;
        }
        Ok(())
    }

    /// From the anchor downwards.
    fn check_signatures(&self, candidate: &Candidate<'_, '_>) -> Result<(), CrossError> {
        let mut signatures = self.signatures.borrow_mut();
        for (certificate, issuer) in candidate.links().into_iter().rev() {
            let index = certificate.index;
            let verified = signatures.verify(
                self.chain,
                index,
                &certificate.parsed,
                issuer.key,
                issuer.parsed.spki,
            );
            match verified {
                Ok(true) => {}
                Ok(false) => return Err(CrossError::BadSignature { index }),
                Err(_) => return Err(CrossError::TooComplex),
            }
        }
        Ok(())
    }
}

impl<'s, 'c> Candidate<'s, 'c> {
    /// The place on the path of the first certificate above the leaf that somebody else issued: all
    /// below it carry its name.
    fn cross(&self) -> Option<usize> {
        let above = self.presented.iter().enumerate().skip(1);
        above
            .filter(|(_, certificate)| !certificate.is_self_issued())
            .map(|(place, _)| place)
            .next()
    }

    /// Each certificate with its issuer, leaf first.
    fn links(&self) -> Vec<(&'s Certificate<'c>, &'s Certificate<'c>)> {
        let issuers = self.presented[1..].iter().copied().chain([self.anchor]);
        self.presented.iter().copied().zip(issuers).collect()
    }

    /// The certificates between leaf and `certificate` are self-issued, so that they have its name;
    /// the leaf must as well.
    fn check_subject(&self, certificate: &Certificate<'_>) -> Result<(), CrossError> {
        match self.presented[0].parsed.subject == certificate.parsed.subject {
            true => Ok(()),
            false => Err(CrossError::OtherSubject),
        }
    }

    /// Self-issued certificates do not count (RFC 5280 section 6.1.4 (l)).
    fn check_path_lengths(&self) -> Result<(), CrossError> {
        let mut below = 0_u32;
        for (_, issuer) in self.links() {
            if issuer
                .as_issuer()?
                .path_len
                .is_some_and(|limit| below > limit)
            {
                let index = issuer.index;
                return Err(CrossError::PathLength { index });
            }
            below += u32::from(!issuer.is_self_issued());
        }
        Ok(())
    }

    /// Authorities may limit each other to networks and roles: the cross-certificate attests
    /// nothing else.
    fn check_scope(&self, cross: usize) -> Result<(), CrossError> {
        let index = self.presented[cross].index;
        let Some(attested) = &self.presented[cross].as_issuer()?.metadata else {
            return Ok(());
        };
        for (_, issuer) in &self.links()[cross..] {
            let Issuer { metadata, .. } = issuer.as_issuer()?;
            if let Some(attested) = metadata.as_ref().and_then(|m| outside(attested, m)) {
                let attested = names::escape(attested);
                return Err(CrossError::OutOfScope { index, attested });
            }
        }
        Ok(())
    }

    /// The constraints of the issuers from the place `first` of the path on, the anchor's included,
    /// hold for every certificate below. Self-issued ones are exempt, the leaf never is (RFC 5280
    /// section 6.1.3 (b)).
    fn check_constraints(&self, first: usize) -> Result<(), CrossError> {
        let issuers = self.presented.iter().copied().chain([self.anchor]);
        for (place, issuer) in issuers.enumerate().skip(first) {
            let Some(constraints) = &issuer.as_issuer()?.constraints else {
                continue;
            };
            for (below, certificate) in self.presented[..place].iter().enumerate() {
                let index = certificate.index;
                let exempt = below > 0 && certificate.is_self_issued();
                let refused = |fault| CrossError::Certificate { index, fault };
                if !exempt
                    && !constraints
                        .permit(&certificate.parsed, below == 0)
                        .map_err(refused)?
                {
                    return Err(CrossError::NameConstraint { index });
                }
            }
        }
        Ok(())
    }

    fn issued(&self) -> Vec<Issued> {
        let issued = |(certificate, issuer): (&Certificate<'_>, &Certificate<'_>)| Issued {
            issuer_key: issuer.key,
            serial: certificate.parsed.serial.to_vec(),
            key: certificate.key,
        };
        self.links().into_iter().map(issued).collect()
    }

    fn keys(&self) -> Vec<KeyHash> {
        let all = self.presented.iter().copied().chain([self.anchor]);
        all.map(|certificate| certificate.key).collect()
    }

    fn not_after(&self) -> UnixTime {
        let ends = self.presented.iter().map(|c| c.parsed.not_after);
        ends.fold(self.anchor.parsed.not_after, UnixTime::min)
    }
}

/// A network or role that is not in the scope, where the scope names any.
fn outside<'m>(attested: &'m Metadata, scope: &Metadata) -> Option<&'m String> {
    let outside = |attested: &'m [String], scope: &[String]| {
        attested
            .iter()
            .find(|name| !scope.is_empty() && !scope.contains(name))
    };
    outside(attested.networks(), scope.networks()).or(outside(attested.roles(), scope.roles()))
}

fn read_chain(
    chain: &PresentedChain,
    purpose: Purpose,
) -> Result<Vec<Certificate<'_>>, CrossError> {
    let mut certificates: Vec<Certificate<'_>> = Vec::new();
    for (index, (der, key)) in chain.der().iter().zip(chain.keys()).enumerate() {
        let refused = |fault: CertificateFault| CrossError::Certificate { index, fault };
        let parsed = Parsed::from_der(der).map_err(refused)?;
        if certificates.iter().any(|c| c.parsed.is_copy_of(&parsed)) {
            continue;
        }
        certificates.push(match index {
            0 => Certificate::leaf(parsed, *key, purpose).map_err(refused)?,
            _ => Certificate::issuer(index, parsed, *key, purpose, false),
        });
    }
    Ok(certificates)
}

fn read_anchor<'c>(
    anchor: &'c Anchor,
    chain: &PresentedChain,
    purpose: Purpose,
) -> Result<Certificate<'c>, CrossError> {
    let index = chain.der().len();
    let parsed =
        Parsed::from_der(anchor.der()).map_err(|fault| CrossError::Certificate { index, fault })?;
    Ok(Certificate::issuer(
        index,
        parsed,
        anchor.key(),
        purpose,
        true,
    ))
}
