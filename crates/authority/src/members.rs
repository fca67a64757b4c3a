//! Who is a member, and what was issued.

use std::collections::HashMap;
use std::time::Duration;

use comity_certs::Metadata;
use comity_identity::{KeyHash, UnixTime};
use comity_store::{IssuedCertificate, IssuedState, Serial};

use crate::admit::age;
use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::withdraw::Selector;

/// The template of cross-certificates in the ledger.
pub const MEMBER: &str = "member";

/// The template of the certificates of issuing keys in the ledger. They end with their key, by a charter,
/// and not by a withdrawal.
pub const ISSUING: &str = "issuing";

/// Certificates read from the ledger at a time.
const PAGE: usize = 1024;

/// A member, by its newest membership.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// What it is called.
    pub label: String,
    /// The key that was certified; of a node, its id.
    pub key: KeyHash,
    /// The roles that are attested.
    pub roles: Vec<String>,
    /// The serial number of its cross-certificate.
    pub serial: Serial,
    /// The last second of its membership.
    pub not_after: UnixTime,
    /// Whole days until then; 0 when they are over.
    pub days_left: u64,
    /// Whether it counts.
    pub state: MemberState,
}

/// Whether a membership counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MemberState {
    /// It does.
    Active,
    /// It does until `at`: another key follows.
    Superseded {
        /// The key that follows.
        by: KeyHash,
        /// Its last second.
        at: UnixTime,
    },
    /// It is over.
    Expired,
    /// It was withdrawn.
    Withdrawn,
}

impl Authority {
    /// All members, also those that were, by label.
    ///
    /// # Errors
    /// When the state or the ledger cannot be read.
    pub fn members(&mut self, now: UnixTime) -> Result<Vec<Member>, AuthorityError> {
        self.reload()?;
        let mut newest: HashMap<KeyHash, IssuedCertificate> = HashMap::new();
        self.each(|certificate| {
            if certificate.about.template != MEMBER || certificate.der.is_empty() {
                return;
            }
            let rank = |c: &IssuedCertificate| (self.counts(c, now), age(c));
            match newest.get(&certificate.about.key) {
                Some(known) if rank(known) >= rank(&certificate) => {}
                _ => drop(newest.insert(certificate.about.key, certificate)),
            }
        })?;
        let mut members: Vec<Member> = newest.values().map(|c| self.member(c, now)).collect();
        members.sort_by(|a, b| (&a.label, a.key).cmp(&(&b.label, b.key)));
        Ok(members)
    }

    /// Certificates that count and end within this time, the first to end first.
    ///
    /// # Errors
    /// When the state or the ledger cannot be read.
    pub fn expiring(
        &mut self,
        within: Duration,
        now: UnixTime,
    ) -> Result<Vec<IssuedCertificate>, AuthorityError> {
        self.reload()?;
        let session = self.files.issued().open()?;
        let mut found = session.ending(now, now + within, usize::MAX)?;
        found.retain(|certificate| self.counts(certificate, now));
        Ok(found)
    }

    /// What was issued under a serial number, for a key, or to a label.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn find(&self, selector: &Selector) -> Result<Vec<IssuedCertificate>, AuthorityError> {
        let session = self.files.issued().open()?;
        Ok(match selector {
            Selector::Serial(serial) => session.by_serial(serial)?.into_iter().collect(),
            Selector::Key(key) => session.by_key(key)?,
            // The authority's own keys have no label that anybody gave them.
            Selector::Label(label) => {
                let mut found = session.by_label(label)?;
                found.retain(|certificate| certificate.about.template != ISSUING);
                found
            }
        })
    }

    /// Everything in the ledger, a page at a time.
    pub(crate) fn each(
        &self,
        mut see: impl FnMut(IssuedCertificate),
    ) -> Result<(), AuthorityError> {
        let mut last: Option<Serial> = None;
        loop {
            // Others may work between two pages.
            let page = self.files.issued().open()?.page(last.as_ref(), PAGE)?;
            let Some(end) = page.last() else {
                return Ok(());
            };
            last = Some(end.serial);
            page.into_iter().for_each(&mut see);
        }
    }

    pub(crate) fn member(&self, certificate: &IssuedCertificate, now: UnixTime) -> Member {
        let about = &certificate.about;
        let attested = Metadata::from_der(&about.attested).unwrap_or_default();
        Member {
            label: about.label.clone(),
            key: about.key,
            roles: attested.roles().to_vec(),
            serial: certificate.serial,
            not_after: about.not_after,
            days_left: now.until(about.not_after).as_secs() / crate::DAY.as_secs(),
            state: self.member_state(certificate, now),
        }
    }

    fn member_state(&self, certificate: &IssuedCertificate, now: UnixTime) -> MemberState {
        let key = certificate.about.key;
        if matches!(certificate.state, IssuedState::Withdrawn { .. })
            || self.state.withdrew_key(&key)
            || self
                .state
                .withdrew(&certificate.about.issuer, &certificate.serial)
        {
            return MemberState::Withdrawn;
        }
        if now > certificate.about.not_after {
            return MemberState::Expired;
        }
        let mut scheduled = self.state.scheduled.iter();
        match scheduled.find(|s| s.key == key && !s.done) {
            Some(end) => MemberState::Superseded {
                by: end.successor,
                at: end.at,
            },
            None => MemberState::Active,
        }
    }
}
