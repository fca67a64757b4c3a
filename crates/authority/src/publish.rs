//! Publishing: a change of the state, and the bundle that says so.
//!
//! 1. Under the home's lock: the state is read, completed and changed, gets the next sequence, and is
//!    made durable. From here on the change will be published, whatever happens.
//! 2. The bundle is signed and made durable in the state.
//! 3. The home's own list of networks gets it, so that connections of this machine follow at once.
//! 4. The ledger is told of withdrawals.
//!
//! What a crash cuts off is done by the next change, or by [`Authority::refresh`].

use std::collections::BTreeSet;
use std::sync::Arc;

use comity_certs::CLOCK_TOLERANCE;
use comity_identity::{KeyHash, Signer, UnixTime};
use comity_record::limits::{MAX_WITHDRAWALS, MIN_REFRESH};
use comity_record::{Bundle, BundleRequest, KeyState, Location, Withdrawn, WithdrawnWhat};
use comity_store::{HomeLock, NetworkError, NetworkRecord, Updated};
use comity_trust::{self as trust, Standing};

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
        // A clock that was ahead for a moment left a bundle that nobody can use for a long time.
        let is_due = |bundle: &Bundle| {
            now >= bundle.issued() + BUNDLE_REFRESH || bundle.issued() > now + CLOCK_TOLERANCE
        };
        let due = self.is_behind()? || bundle.is_none_or(is_due);
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
        Ok(known.is_some_and(|known| is_ahead(&self.state, &known.bundle)))
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
        let signer = self.signer_of(&state)?;
        self.advance(&mut state, &KeyHash::of_spki(signer.spki()), now)?;
        make_room(&mut state.withdrawn, now)?;
        // Before anything is written: a change that cannot be signed is none.
        let bundle = sign(&state, &*signer, now)?;
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
    ///
    /// What a key said that is not in use any more is no reason to go on above it: if it was stolen,
    /// the thief chose how high it went, and a charter that does not let it sign begins anew.
    fn advance(
        &self,
        state: &mut State,
        signer: &KeyHash,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        let state_of = |key: &KeyHash| state.charter().key(key).map(|key| key.state);
        let is_given_up = |key: KeyHash| matches!(state_of(&key), None | Some(KeyState::Revoked));
        let is_own = !state
            .bundle
            .as_ref()
            .is_some_and(|b| is_given_up(b.signer()));
        let mut floor = if is_own { state.sequence } else { 0 };
        let learned = state.withdrawn.iter().filter_map(|gone| gone.by);
        let lost: BTreeSet<KeyHash> = learned.filter(|by| is_given_up(*by)).collect();
        state
            .withdrawn
            .retain(|gone| gone.by.is_none_or(|by| !lost.contains(&by)));
        let networks = self.networks.networks()?;
        if let Some(known) = networks
            .get(&state.network)
            .filter(|k| is_ahead(state, &k.bundle))
        {
            floor = floor.max(known.bundle.sequence());
            remember(state, known, signer);
        }
        state.sequence = floor.saturating_add(1).max(now.as_secs());
        // It is not the last word any more, and must not be taken for it after a crash.
        state.bundle = state
            .bundle
            .take()
            .filter(|b| b.sequence() < state.sequence);
        Ok(())
    }

    /// The key that signs for this state, which need not be published yet.
    fn signer_of(&mut self, state: &State) -> Result<Arc<dyn Signer>, AuthorityError> {
        // The keys of the new charter sign, so its state is looked at as if it were ours already.
        let before = std::mem::replace(&mut self.state, state.clone());
        let issuer = self.issuer();
        self.state = before;
        Ok(issuer?.signer)
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
            // It is published all the same: whoever revokes the key of a thief must get that far.
            Err(error @ NetworkError::Frozen { .. }) => {
                tracing::warn!(%error, "this home does not follow its own authority");
            }
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
            withdrawn: Withdrawn::new(),
            forked: None,
            rival: None,
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

/// Whether a home has seen a newer bundle than the state has, by a key that signs for it: then the
/// state is an old copy, or that key is stolen.
fn is_ahead(state: &State, known: &Bundle) -> bool {
    let signer = state.charter().key(&known.signer());
    let is_active = signer.is_some_and(|key| key.state == KeyState::Active);
    is_active && known.sequence() > state.sequence
}

/// Takes back what an old copy has forgotten. Only what the key withdrew that signs again now: what
/// another one said, which may be stolen, is not repeated in the name of this one, and what this one
/// said is left out when it is revoked. As far as there is room; it is the least that could be lost.
fn remember(state: &mut State, known: &trust::Authority, signer: &KeyHash) {
    let mut listed: BTreeSet<WithdrawnWhat> = state
        .withdrawn
        .iter()
        .map(|g| g.what.what.clone())
        .collect();
    let newest = known.bundle.withdrawn().iter().cloned();
    let newest = newest.filter(|_| known.bundle.signer() == *signer);
    for what in newest.chain(known.withdrawn.by(signer)) {
        if listed.len() < MAX_WITHDRAWALS && listed.insert(what.what.clone()) {
            let (ends, by) = (None, Some(*signer));
            state.withdrawn.push(Gone { what, ends, by });
        }
    }
}

fn sign(state: &State, signer: &dyn Signer, now: UnixTime) -> Result<Bundle, AuthorityError> {
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
    Ok(request.sign(signer)?)
}

/// Leaves out withdrawals that nobody needs any more, if there would be too many: those of
/// certificates that have ended, then those that were only taken back from this home.
fn make_room(withdrawn: &mut Vec<Gone>, now: UnixTime) -> Result<(), AuthorityError> {
    if withdrawn.len() <= MAX_WITHDRAWALS {
        return Ok(());
    }
    let needed = |gone: &Gone| match (&gone.what.what, gone.ends) {
        (WithdrawnWhat::Certificate { .. }, Some(ends)) => now <= ends + KEPT_AFTER_END,
        _ => true,
    };
    withdrawn.retain(needed);
    let mut surplus = withdrawn.len().saturating_sub(MAX_WITHDRAWALS);
    withdrawn.retain(|gone| {
        let is_left_out = surplus > 0 && gone.by.is_some();
        surplus -= usize::from(is_left_out);
        !is_left_out
    });
    if surplus > 0 {
        let limit = MAX_WITHDRAWALS;
        return Err(AuthorityError::TooManyWithdrawals { limit });
    }
    Ok(())
}
