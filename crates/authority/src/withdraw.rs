//! Withdrawing certificates and keys.

use comity_identity::{KeyHash, UnixTime};
use comity_record::{Withdrawal, WithdrawnWhat};
use comity_store::{IssuedCertificate, LedgerError, MAX_WORD, Serial};

use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::state::{Gone, State};

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
        let found = self.counting(selector, now)?;
        if found.is_empty() {
            return Err(AuthorityError::NotFound(match selector {
                Selector::Serial(serial) => data_encoding::HEXLOWER.encode(serial),
                Selector::Key(key) => format!("for {}", key.short()),
                Selector::Label(label) => format!("called {}", label.escape_default()),
            }));
        }
        self.change(now, |state| {
            found.iter().for_each(|c| state.withdraw(c, reason, now));
            Ok(())
        })?;
        Ok(found)
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
        let found = self.counting(&Selector::Key(*key), now)?;
        self.change(now, |state| {
            found.iter().for_each(|c| state.withdraw(c, reason, now));
            if !state.withdrew_key(key) {
                let what = WithdrawnWhat::Key(*key);
                let what = Withdrawal { what, at: now };
                state.withdrawn.push(Gone { what, ends: None });
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The keys of members whose planned end has come.
    pub(crate) fn ended_keys(&self, now: UnixTime) -> Vec<KeyHash> {
        let ended = self.state.scheduled.iter();
        ended
            .filter(|entry| !entry.done && entry.at < now)
            .map(|entry| entry.key)
            .collect()
    }

    /// Withdraws the certificates of keys that others follow.
    pub(crate) fn end_keys(
        &mut self,
        keys: &[KeyHash],
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        let mut found = Vec::new();
        for key in keys {
            found.extend(self.counting(&Selector::Key(*key), now)?);
        }
        self.change(now, |state| {
            found
                .iter()
                .for_each(|c| state.withdraw(c, "superseded", now));
            for entry in &mut state.scheduled {
                entry.done |= keys.contains(&entry.key);
            }
            Ok(())
        })
    }

    fn counting(
        &mut self,
        selector: &Selector,
        now: UnixTime,
    ) -> Result<Vec<IssuedCertificate>, AuthorityError> {
        self.reload()?;
        let mut found = self.find(selector)?;
        found.retain(|certificate| self.counts(certificate, now));
        Ok(found)
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
        });
        self.unsettled.push((certificate.serial, reason.to_owned()));
    }

    /// Forgets planned ends that came long ago, where there would be too many.
    pub(crate) fn make_room_for_schedule(&mut self, now: UnixTime) {
        if self.scheduled.len() >= crate::state::MAX_SCHEDULED {
            self.scheduled
                .retain(|entry| !entry.done || now < entry.at + crate::MEMBER_LIFETIME);
        }
    }
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
