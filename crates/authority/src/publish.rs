//! Publishing: a change of the state, and the bundle that says so.
//!
//! 1. Under the home's lock: the state is read, completed and changed, gets the next sequence, and is
//!    made durable. From here on the change will be published, whatever happens.
//! 2. The bundle is signed and made durable in the state.
//! 3. The home's own list of networks gets it, so that connections of this machine follow at once.
//! 4. The ledger is told of withdrawals.
//!
//! What a crash cuts off is done by the next change, or by [`Authority::refresh`].

use comity_identity::UnixTime;
use comity_record::limits::{MAX_WITHDRAWALS, MIN_REFRESH};
use comity_record::{Bundle, BundleRequest, Location, WithdrawnWhat};
use comity_store::{HomeLock, NetworkError, NetworkRecord, Updated};
use comity_trust::Standing;

use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::state::{Gone, State};
use crate::{BUNDLE_LIFETIME, BUNDLE_REFRESH};

/// How long after the end of a certificate its withdrawal stays in the bundle: longer than any clock
/// is wrong, so that nobody for whom it is still valid misses it.
const KEPT_AFTER_END: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 60 * 60);

impl Authority {
    /// Publishes a new bundle if it is time: the last one is older than the refresh hint, was not
    /// completed, or the planned end of a member's key has come. Returns it.
    ///
    /// # Errors
    /// When no issuing key is at hand, or something cannot be written.
    pub fn refresh(&mut self, now: UnixTime) -> Result<Option<Bundle>, AuthorityError> {
        self.reload()?;
        let bundle = self.state.current_bundle();
        let due = self.is_behind()?
            || bundle.is_none_or(|bundle| now >= bundle.issued() + BUNDLE_REFRESH);
        let ended = self.ended_keys(now);
        if !ended.is_empty() {
            self.end_keys(&ended, now)?;
        } else if due {
            self.change(now, |_| Ok(()))?;
        } else {
            self.hand_over(now)?;
            return Ok(None);
        }
        Ok(self.state.bundle.clone())
    }

    /// Whether this home has seen a newer bundle than the state has: it is an old copy.
    fn is_behind(&self) -> Result<bool, AuthorityError> {
        let networks = self.networks.networks()?;
        let known = networks.get(&self.state.network);
        Ok(known.is_some_and(|known| known.bundle.sequence() > self.state.sequence))
    }

    /// Says where the bundle can be fetched, and publishes that.
    ///
    /// # Errors
    /// When there are more than [`comity_record::limits::MAX_LOCATIONS`], no issuing key is at hand,
    /// or something cannot be written.
    pub fn set_locations(
        &mut self,
        locations: Vec<Location>,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        self.change(now, |state| {
            state.locations = locations;
            Ok(())
        })
    }

    /// Changes the state and publishes it.
    pub(crate) fn change<R>(
        &mut self,
        now: UnixTime,
        change: impl FnOnce(&mut State) -> Result<R, AuthorityError>,
    ) -> Result<R, AuthorityError> {
        self.change_with(now, |_, _, state| change(state))
    }

    /// As [`Authority::change`], for what has to do something else under the lock.
    pub(crate) fn change_with<R>(
        &mut self,
        now: UnixTime,
        change: impl FnOnce(&Self, &HomeLock, &mut State) -> Result<R, AuthorityError>,
    ) -> Result<R, AuthorityError> {
        let home = self.home().clone();
        let lock = home.lock()?;
        self.reload()?;
        let mut state = self.state.clone();
        let result = change(self, &lock, &mut state)?;
        make_room(&mut state.withdrawn, now)?;
        self.advance(&mut state, now)?;
        // Before anything is written: a change that cannot be signed is none.
        let bundle = self.sign(&state, now)?;
        let sequence = state.sequence;
        match self.finish(lock, state, bundle, now) {
            Ok(()) => Ok(result),
            // The state on the disk says whether it will be published, and not what failed after it.
            Err(error) if self.reload().is_ok() && self.state.sequence == sequence => {
                Err(AuthorityError::Unfinished {
                    network: self.network(),
                    cause: Box::new(error),
                })
            }
            Err(error) => Err(error),
        }
    }

    fn finish(
        &mut self,
        lock: HomeLock,
        mut state: State,
        bundle: Bundle,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        self.install(&lock, state.clone())?;
        state.bundle = Some(bundle);
        self.install(&lock, state)?;
        drop(lock);
        self.hand_over(now)
    }

    /// Changes what no bundle says.
    pub(crate) fn note<R>(
        &mut self,
        change: impl FnOnce(&mut State) -> Result<R, AuthorityError>,
    ) -> Result<R, AuthorityError> {
        let home = self.home().clone();
        let lock = home.lock()?;
        self.reload()?;
        let mut state = self.state.clone();
        let result = change(&mut state)?;
        if state != self.state {
            self.install(&lock, state)?;
        }
        Ok(result)
    }

    /// The next sequence: larger than the last one and what this home has seen, and never behind the
    /// clock, so that a state from an old copy goes on above what it has forgotten.
    fn advance(&self, state: &mut State, now: UnixTime) -> Result<(), AuthorityError> {
        let mut floor = state.sequence;
        if let Some(known) = self.networks.networks()?.get(&state.network) {
            floor = floor.max(known.bundle.sequence());
            for withdrawal in known.withdrawn.iter() {
                let known = state
                    .withdrawn
                    .iter()
                    .any(|g| g.what.what == withdrawal.what);
                if !known {
                    let (what, ends) = (withdrawal, None);
                    state.withdrawn.push(Gone { what, ends });
                }
            }
        }
        state.sequence = floor.saturating_add(1).max(now.as_secs());
        Ok(())
    }

    fn sign(&mut self, state: &State, now: UnixTime) -> Result<Bundle, AuthorityError> {
        let request = BundleRequest {
            name: state.name.clone(),
            sequence: state.sequence,
            issued: now,
            expires: now + BUNDLE_LIFETIME,
            refresh: BUNDLE_REFRESH.max(MIN_REFRESH),
            locations: state.locations.clone(),
            charters: state.charters.clone(),
            withdrawn: state.withdrawn.iter().map(|g| g.what.clone()).collect(),
        };
        // The keys of the new charter sign, so its state is looked at as if it were ours already.
        let before = std::mem::replace(&mut self.state, state.clone());
        let issuer = self.issuer();
        self.state = before;
        Ok(request.sign(&*issuer?.signer)?)
    }

    /// Gives the bundle to the home's list of networks, and withdrawals to the ledger.
    fn hand_over(&mut self, now: UnixTime) -> Result<(), AuthorityError> {
        let Some(bundle) = self.state.current_bundle() else {
            return Ok(());
        };
        match self
            .networks
            .update_bundle(&self.state.network, bundle.bytes(), now)
        {
            Ok(Updated::Newer | Updated::Same) => {}
            Err(NetworkError::Unknown(_)) => self.register(now)?,
            Err(error) => return Err(error.into()),
        }
        self.settle(now)
    }

    /// Tells the ledger what the state withdrew.
    fn settle(&mut self, now: UnixTime) -> Result<(), AuthorityError> {
        if self.state.unsettled.is_empty() {
            return Ok(());
        }
        let told = self.state.unsettled.clone();
        let session = self.files.issued().open()?;
        for (serial, reason) in &told {
            session.withdraw(&[*serial], now, reason)?;
        }
        drop(session);
        self.note(|state| {
            state.unsettled.retain(|entry| !told.contains(entry));
            Ok(())
        })
    }

    /// Enters the network in the home's list, under its name or one like it.
    pub(crate) fn register(&self, now: UnixTime) -> Result<(), AuthorityError> {
        let bundle = self.state.current_bundle();
        let Some(bundle) = bundle.map(|b| b.bytes().to_vec()) else {
            return Ok(());
        };
        let mut record = NetworkRecord {
            network: self.state.network,
            label: self.state.name.clone(),
            standing: Standing::Recognised,
            bundle,
            membership: Vec::new(),
            withdrawn: Vec::new(),
            forked: None,
            added: now,
            refreshed: now,
            source: None,
        };
        let mut number = 2;
        loop {
            match self.networks.add(record.clone()) {
                Ok(()) | Err(NetworkError::Known { .. }) => return Ok(()),
                Err(NetworkError::LabelTaken { .. }) => {
                    record.label = format!("{}-{number}", self.state.name);
                    number += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Leaves out withdrawals that nobody needs any more, if there would be too many: those of
/// certificates that have ended, the oldest first.
fn make_room(withdrawn: &mut Vec<Gone>, now: UnixTime) -> Result<(), AuthorityError> {
    if withdrawn.len() <= MAX_WITHDRAWALS {
        return Ok(());
    }
    let needed = |gone: &Gone| match (&gone.what.what, gone.ends) {
        (WithdrawnWhat::Certificate { .. }, Some(ends)) => now <= ends + KEPT_AFTER_END,
        _ => true,
    };
    withdrawn.retain(needed);
    if withdrawn.len() > MAX_WITHDRAWALS {
        let limit = MAX_WITHDRAWALS;
        return Err(AuthorityError::TooManyWithdrawals { limit });
    }
    Ok(())
}
