//! Withdrawing certificates and keys.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use comity_identity::{KeyHash, NodeId, UnixTime};
use comity_record::{Withdrawal, WithdrawnWhat};
use comity_store::{IssuedCertificate, LedgerError, MAX_WORD, Serial};

use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::state::{Gone, MAX_AUTOMATIC, MAX_SCHEDULED, Scheduled, State};
use crate::{DAY, MAX_SUCCESSIONS, MEMBER_LIFETIME};

/// How long after the end of a certificate its withdrawal stays in the bundle: longer than any clock
/// is wrong, so that nobody for whom it is still valid misses it.
const KEPT_AFTER_END: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selector {
    /// One certificate.
    Serial(Serial),
    /// Everything for a key.
    Key(KeyHash),
    /// Everything that has a label.
    Label(String),
}

impl Authority {
    /// Withdraws certificates and publishes that at once. Returns those that counted before, also
    /// such of which it is not known whether they were ever signed.
    ///
    /// A withdrawn certificate can be followed by another one: whoever was removed may come back.
    /// For a key that was stolen, see [`Authority::withdraw_key`].
    ///
    /// # Errors
    /// [`AuthorityError::NotFound`] if there is nothing to withdraw; when no issuing key is at hand;
    /// or when it cannot be written. If it was written and not published, [`Authority::refresh`]
    /// publishes it.
    pub fn withdraw(
        &mut self,
        selector: &Selector,
        reason: &str,
        now: UnixTime,
    ) -> Result<Vec<IssuedCertificate>, AuthorityError> {
        check_reason(reason)?;
        self.change_with(now, |authority, _, state| {
            let found = authority.counting(selector, now)?;
            if found.is_empty() {
                return Err(AuthorityError::NotFound(selector.to_string()));
            }
            found.iter().for_each(|c| state.withdraw(c, reason, now));
            Ok(found)
        })
    }

    /// Withdraws everything that was issued for a member, under whichever of its keys, and publishes
    /// that at once: the keys that it has given up count until their overlap is over, and the one it
    /// has gone on to counts by what it was given for them. See [`Authority::keys_of_member`].
    ///
    /// # Errors
    /// As [`Authority::withdraw`].
    pub fn remove(
        &mut self,
        key: &KeyHash,
        reason: &str,
        now: UnixTime,
    ) -> Result<Vec<IssuedCertificate>, AuthorityError> {
        check_reason(reason)?;
        self.change_with(now, |authority, _, state| {
            let mut found = Vec::new();
            for key in state.linked(*key) {
                found.extend(authority.counting(&Selector::Key(key), now)?);
            }
            if found.is_empty() {
                return Err(AuthorityError::NotFound(Selector::Key(*key).to_string()));
            }
            found.iter().for_each(|c| state.withdraw(c, reason, now));
            Ok(found)
        })
    }

    /// All keys that a member has or had, as far as they are known to follow one another.
    pub fn keys_of_member(&self, key: &KeyHash) -> Vec<KeyHash> {
        self.state.linked(*key).into_iter().collect()
    }

    /// Withdraws a key for ever, with everything that was issued for it, and publishes that at once:
    /// nobody who has the key becomes a member again.
    ///
    /// # Errors
    /// As [`Authority::withdraw`]; a key for which nothing was issued can be withdrawn, too.
    pub fn withdraw_key(
        &mut self,
        key: &KeyHash,
        reason: &str,
        now: UnixTime,
    ) -> Result<Vec<IssuedCertificate>, AuthorityError> {
        check_reason(reason)?;
        self.change_with(now, |authority, _, state| {
            let found = authority.counting(&Selector::Key(*key), now)?;
            found.iter().for_each(|c| state.withdraw(c, reason, now));
            if !state.withdrew_key(key) {
                let what = WithdrawnWhat::Key(*key);
                let what = Withdrawal { what, at: now };
                let (ends, by) = (None, None);
                state.withdrawn.push(Gone { what, ends, by });
            }
            Ok(found)
        })
    }

    /// The keys of members whose planned end has come.
    pub(crate) fn ended_keys(&self, now: UnixTime) -> Vec<KeyHash> {
        let ended = self.state.scheduled.iter();
        ended
            .filter(|entry| !entry.done && entry.at < now)
            .map(|entry| entry.key)
            .collect()
    }

    /// Withdraws the certificates of keys that others follow, as far as there is room for what nobody
    /// asked for; the others are tried again a day later.
    pub(crate) fn end_keys(
        &mut self,
        keys: &[KeyHash],
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        self.change_with(now, |authority, _, state| {
            for key in keys {
                let found = authority.counting(&Selector::Key(*key), now)?;
                let fits = state.has_room(found.len(), now);
                if fits {
                    found
                        .iter()
                        .for_each(|c| state.withdraw(c, "superseded", now));
                } else {
                    tracing::error!(
                        network = state.name, key = %key.short(),
                        "a key still counts that was to end: there is no room for its withdrawal"
                    );
                }
                let entries = state.scheduled.iter_mut();
                for entry in entries.filter(|entry| entry.key == *key && !entry.done) {
                    entry.done = fits;
                    entry.at = if fits { entry.at } else { now + DAY };
                }
            }
            Ok(())
        })
    }

    /// What counts of it, by the state as it is now.
    fn counting(
        &self,
        selector: &Selector,
        now: UnixTime,
    ) -> Result<Vec<IssuedCertificate>, AuthorityError> {
        let mut found = self.find(selector)?;
        found.retain(|certificate| self.counts(certificate, now));
        Ok(found)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial(serial) => f.write_str(&data_encoding::HEXLOWER.encode(serial)),
            Self::Key(key) => write!(f, "for {}", key.short()),
            Self::Label(label) => write!(f, "called {}", label.escape_default()),
        }
    }
}

impl State {
    fn withdraw(&mut self, certificate: &IssuedCertificate, reason: &str, now: UnixTime) {
        let about = &certificate.about;
        if self.withdrew(&about.issuer, &certificate.serial) {
            return;
        }
        let what = WithdrawnWhat::Certificate {
            issuer: about.issuer,
            serial: certificate.serial.to_vec(),
        };
        self.withdrawn.push(Gone {
            what: Withdrawal { what, at: now },
            ends: Some(about.not_after),
            by: None,
        });
        self.unsettled.push((certificate.serial, reason.to_owned()));
    }

    /// Keeps a planned end in mind. Those that came long ago are forgotten where there would be too
    /// many.
    pub(crate) fn plan(&mut self, entry: Scheduled, now: UnixTime) -> Result<(), AuthorityError> {
        if self.scheduled.len() >= MAX_SCHEDULED {
            self.scheduled
                .retain(|entry| !entry.done || now < entry.at + MEMBER_LIFETIME);
        }
        if self.scheduled.len() >= MAX_SCHEDULED {
            let limit = MAX_SCHEDULED;
            return Err(AuthorityError::TooManySuccessions { limit });
        }
        self.scheduled.push(entry);
        Ok(())
    }

    /// Whether a member may go on to another key, see [`AuthorityError::TooOften`].
    pub(crate) fn check_pace(&self, key: KeyHash, now: UnixTime) -> Result<(), AuthorityError> {
        let past = self.ends_before(key);
        let recent = past.iter().filter(|at| now < **at + MEMBER_LIFETIME);
        match recent.clone().nth(MAX_SUCCESSIONS - 1) {
            None => Ok(()),
            Some(oldest) => Err(too_often(key, *oldest + MEMBER_LIFETIME)),
        }
    }

    /// Whether the key that a member had before still counts, see [`AuthorityError::TooOften`].
    pub(crate) fn check_overlap(&self, key: KeyHash, now: UnixTime) -> Result<(), AuthorityError> {
        match self.ends_before(key).first() {
            Some(at) if now <= *at => Err(too_often(key, *at)),
            _ => Ok(()),
        }
    }

    /// When the keys before this one end, the latest one first.
    fn ends_before(&self, key: KeyHash) -> Vec<UnixTime> {
        let (mut ends, mut seen, mut current) = (Vec::new(), BTreeSet::from([key]), key);
        while let Some(before) = self.before(&current)
            && seen.insert(before.key)
        {
            ends.push(before.at);
            current = before.key;
        }
        ends
    }

    /// How a key came to follow another one.
    pub(crate) fn before(&self, key: &KeyHash) -> Option<&Scheduled> {
        let mut scheduled = self.scheduled.iter();
        scheduled.find(|entry| entry.successor == *key)
    }

    /// This key, those that it follows and those that follow it, however many steps away.
    pub(crate) fn linked(&self, key: KeyHash) -> BTreeSet<KeyHash> {
        let mut linked = BTreeSet::from([key]);
        let mut open = vec![key];
        while let Some(key) = open.pop() {
            for entry in &self.scheduled {
                let other = match key {
                    _ if entry.key == key => entry.successor,
                    _ if entry.successor == key => entry.key,
                    _ => continue,
                };
                if linked.insert(other) {
                    open.push(other);
                }
            }
        }
        linked
    }

    /// Makes room for withdrawals that come by themselves, if there can be any.
    fn has_room(&mut self, count: usize, now: UnixTime) -> bool {
        if self.withdrawn.len() + count > MAX_AUTOMATIC {
            self.withdrawn.retain(|gone| gone.is_needed(now));
        }
        self.withdrawn.len() + count <= MAX_AUTOMATIC
    }
}

impl Gone {
    /// Whether somebody may still take for valid what was withdrawn.
    pub(crate) fn is_needed(&self, now: UnixTime) -> bool {
        match (&self.what.what, self.ends) {
            (WithdrawnWhat::Certificate { .. }, Some(ends)) => now <= ends + KEPT_AFTER_END,
            _ => true,
        }
    }
}

fn too_often(key: KeyHash, until: UnixTime) -> AuthorityError {
    let key = NodeId::from_bytes(*key.as_bytes());
    AuthorityError::TooOften { key, until }
}

/// Reasons are words of the operator's, in a file of lines.
fn check_reason(reason: &str) -> Result<(), AuthorityError> {
    if reason.len() > MAX_WORD {
        return Err(AuthorityError::Ledger(LedgerError::TooLong {
            what: "a reason",
            found: reason.len(),
            limit: MAX_WORD,
        }));
    }
    Ok(())
}
