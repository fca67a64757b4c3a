//! The gate: the decision after the handshake, on live state.
//!
//! The handshake has proved that the peer owns the key of the chain it presented. The gate decides
//! once more, against the store as it is on disk now. When the decision wants something recorded
//! (a first key, a CA-verified name), it decides a last time under the store's lock and records in
//! the same step: of two connections that bring different first keys, exactly one wins. A
//! record that cannot be made durable refuses the peer.

use std::sync::Arc;

use comity_certs::{Form, PresentedChain};
use comity_identity::UnixTime;
use comity_store::{Change, Deed, Snapshot, StoreError, UpdateError};
use comity_trust::{
    Direction, Edit, Entry, Expectation, Invited, Invitee, KnownPeers, Mode, Networks, Phase,
    Query, Recognition, Refusal, SuccessionPolicy, Verdict, decide,
};
use thiserror::Error;

use crate::endpoint::Endpoint;
use crate::session::Session;

/// What is asked about every chain on one connection.
#[derive(Clone, Debug)]
pub(crate) struct Matter {
    pub(crate) endpoint: Endpoint,
    pub(crate) direction: Direction,
    pub(crate) mode: Mode,
    pub(crate) expectation: Expectation,
}

/// Why the gate stayed shut.
#[derive(Debug, Error)]
pub(crate) enum GateError {
    #[error("refused: {}", .0.reason)]
    Refused(Box<Refusal>),
    #[error(transparent)]
    Store(#[from] UpdateError),
    #[error("the decision was interrupted")]
    Interrupted,
}

impl GateError {
    /// Whether strangers have used up the room for first uses: their doing, and no fault of ours.
    pub(crate) fn is_out_of_room(&self) -> bool {
        matches!(
            self,
            Self::Store(UpdateError::Store(
                StoreError::FirstUsesFull { .. } | StoreError::FirstUseReserve { .. }
            ))
        )
    }
}

impl Matter {
    /// Decides in `phase` on what `known` says.
    pub(crate) fn decide(
        &self,
        chain: &PresentedChain,
        known: &KnownPeers,
        phase: Phase,
        now: UnixTime,
    ) -> Verdict {
        self.ask(chain, known, phase, Invited::No, now)
    }

    /// Decides as the gate would about a peer that proved an invitation.
    pub(crate) fn decide_invited(
        &self,
        chain: &PresentedChain,
        known: &KnownPeers,
        invitee: &Invitee,
        now: UnixTime,
    ) -> Verdict {
        self.ask(chain, known, Phase::Gate, Invited::Proven(invitee), now)
    }

    fn ask(
        &self,
        chain: &PresentedChain,
        known: &KnownPeers,
        phase: Phase,
        invited: Invited<'_>,
        now: UnixTime,
    ) -> Verdict {
        let own = self.endpoint.credentials.own_keys();
        // The system's roots say nothing about native chains, and nothing when accepting.
        // Reading them takes time, so modes without a CA do without.
        let without_ca = matches!(self.mode, Mode::Pin | Mode::Tofu | Mode::Insecure);
        let asked =
            chain.form() == Form::Foreign && self.direction == Direction::Dial && !without_ca;
        let roots = if asked { self.endpoint.roots() } else { &[] };
        decide(&Query {
            direction: self.direction,
            mode: self.mode,
            phase,
            chain,
            expectation: &self.expectation,
            known,
            system_roots: roots,
            own: &own,
            networks: &Networks::empty(),
            succession: SuccessionPolicy::default(),
            invited,
            now,
        })
    }

    /// Decides after the handshake; records what the mode remembers.
    pub(crate) async fn pass(&self, chain: &Arc<PresentedChain>) -> Result<Recognition, GateError> {
        let matter = self.clone();
        let chain = Arc::clone(chain);
        let decision = tokio::task::spawn_blocking(move || matter.pass_blocking(&chain));
        decision.await.map_err(|_| GateError::Interrupted)?
    }

    fn pass_blocking(&self, chain: &PresentedChain) -> Result<Recognition, GateError> {
        let now = self.endpoint.clock.now();
        let snapshot = self.endpoint.store.poll_changes();
        let verdict = self.decide(chain, &snapshot.known, Phase::Gate, now);
        if recording(&verdict).is_none() {
            return accepted(verdict);
        }
        let (verdict, _) = self.endpoint.store.decide_and_record(|known| {
            let verdict = self.decide(chain, known, Phase::Gate, now);
            let change = recording(&verdict);
            (verdict, change)
        })?;
        accepted(verdict)
    }

    /// Enters the connection into the registry, and asks once more in case the store changed
    /// between the gate and now.
    pub(crate) fn enter(
        &self,
        chain: &Arc<PresentedChain>,
        recognition: &Recognition,
    ) -> Arc<Session> {
        let matter = self.clone();
        let chain = Arc::clone(chain);
        let question = move |snapshot: &Snapshot, now: UnixTime| {
            matter.decide(&chain, &snapshot.known, Phase::Established, now)
        };
        let endpoint = &self.endpoint;
        let session = endpoint.registry.enter(recognition, Box::new(question));
        if let Err(reason) = session.ask(&endpoint.store.snapshot(), endpoint.clock.now()) {
            session.end(reason);
        }
        session
    }
}

/// What the verdict wants remembered.
fn recording(verdict: &Verdict) -> Option<Change> {
    let (edit, action, peer) = match verdict {
        Verdict::Accept(accepted) => (&accepted.record, accepted.how.token(), accepted.peer),
        Verdict::Refuse(refused) => (&refused.record, refused.reason.token(), refused.presented),
    };
    let edit = Edit::clone(edit.as_deref()?);
    let (entry, action) = match &edit {
        Edit::Add(entry) => (Some(&**entry), action),
        Edit::Succeed { lines } => (lines.first().map(|line| &line.old), "succeed"),
        _ => (None, action),
    };
    let name = entry.and_then(Entry::display_name);
    Some(Change {
        deed: Deed {
            action: action.to_owned(),
            peer: Some(peer),
            detail: name.map(ToString::to_string).unwrap_or_default(),
        },
        edit,
    })
}

fn accepted(verdict: Verdict) -> Result<Recognition, GateError> {
    match verdict {
        Verdict::Accept(recognition) => Ok(recognition),
        Verdict::Refuse(refusal) => Err(GateError::Refused(Box::new(refusal))),
    }
}
