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
    Direction, Edit, Entry, Expectation, Invited, Invitee, KnownPeers, Mode, Networks, Phase, Pin,
    Query, Reason, Recognition, Refusal, Succeeded, SuccessionPolicy, Verdict, What, decide,
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
    pub(crate) succession: SuccessionPolicy,
}

/// A peer that passed the gate.
#[derive(Clone, Debug)]
pub(crate) struct Passed {
    pub(crate) recognition: Recognition,
    /// The snapshot on which that rests. While it is the newest, there is nothing to ask again, and
    /// the signatures of a path need not be verified once more.
    pub(crate) epoch: u64,
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

/// In the audit log: an entry followed its peer to another key.
const SUCCESSION: &str = "succession";

/// In the audit log: an entry is frozen.
const FORKED: &str = "forked";

/// In the audit log: an entry learned the next key of its peer.
const NEXT_NOTED: &str = "next-key";

/// What a decision rests on besides the peer's chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory<'a> {
    known: &'a KnownPeers,
    networks: &'a Networks,
}

impl<'a> Memory<'a> {
    pub(crate) fn of(snapshot: &'a Snapshot) -> Self {
        Self {
            known: &snapshot.known,
            networks: &snapshot.networks,
        }
    }
}

impl Matter {
    /// Decides in `phase` on what `memory` says.
    pub(crate) fn decide(
        &self,
        chain: &PresentedChain,
        memory: Memory<'_>,
        phase: Phase,
        now: UnixTime,
    ) -> Verdict {
        self.ask(chain, memory, phase, Invited::No, now)
    }

    /// Decides as the gate would about a peer that proved an invitation.
    pub(crate) fn decide_invited(
        &self,
        chain: &PresentedChain,
        memory: Memory<'_>,
        invitee: &Invitee,
        now: UnixTime,
    ) -> Verdict {
        self.ask(chain, memory, Phase::Gate, Invited::Proven(invitee), now)
    }

    fn ask(
        &self,
        chain: &PresentedChain,
        memory: Memory<'_>,
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
            known: memory.known,
            system_roots: roots,
            own: &own,
            networks: memory.networks,
            succession: self.succession,
            invited,
            now,
        })
    }

    /// Decides after the handshake; records what the mode remembers.
    pub(crate) async fn pass(&self, chain: &Arc<PresentedChain>) -> Result<Passed, GateError> {
        let matter = self.clone();
        let chain = Arc::clone(chain);
        let decision = tokio::task::spawn_blocking(move || matter.pass_blocking(&chain));
        decision.await.map_err(|_| GateError::Interrupted)?
    }

    fn pass_blocking(&self, chain: &PresentedChain) -> Result<Passed, GateError> {
        let now = self.endpoint.clock.now();
        let snapshot = self.endpoint.store.poll_changes();
        let verdict = self.decide(chain, Memory::of(&snapshot), Phase::Gate, now);
        if recording(&verdict).is_none() {
            return accepted(verdict, snapshot.epoch);
        }
        // What is to be completed, by the last decision that was taken.
        let mut completed = completes(&verdict).then_some(verdict);
        let recorded = self.endpoint.store.decide_and_record(|known| {
            let networks = &snapshot.networks;
            let verdict = self.decide(chain, Memory { known, networks }, Phase::Gate, now);
            let change = recording(&verdict);
            completed = completes(&verdict).then(|| verdict.clone());
            (verdict, change)
        });
        let (verdict, after) = match (recorded, completed) {
            // Whom we know already is recognised, whether or not the file can be written.
            (Err(error), Some(verdict)) => {
                tracing::debug!(%error, "the next key of a known peer could not be noted");
                return accepted(verdict, snapshot.epoch);
            }
            (recorded, _) => recorded?,
        };
        raise_alarm(&verdict);
        accepted(verdict, after.epoch)
    }

    /// Freezes entries about whose key two statements contradict each other, where a dial ended in the
    /// callback, which records nothing. What is frozen only refuses more, and the statements prove
    /// themselves, whoever presents them: the peer need not have its key for that.
    pub(crate) async fn remember_fork(&self, chain: &PresentedChain) {
        let (matter, chain) = (self.clone(), chain.clone());
        let remembered =
            tokio::task::spawn_blocking(move || matter.remember_fork_blocking(&chain)).await;
        if let Ok(Err(error)) = remembered {
            tracing::error!(%error, "contradicting statements of succession could not be written down");
        }
    }

    fn remember_fork_blocking(&self, chain: &PresentedChain) -> Result<(), UpdateError> {
        let now = self.endpoint.clock.now();
        let snapshot = self.endpoint.store.poll_changes();
        let (verdict, _) = self.endpoint.store.decide_and_record(|known| {
            let networks = &snapshot.networks;
            let verdict = self.decide(chain, Memory { known, networks }, Phase::Gate, now);
            // A key that was not proved is neither remembered nor followed.
            let change = verdict.refusal().and_then(|_| recording(&verdict));
            (verdict, change)
        })?;
        raise_alarm(&verdict);
        Ok(())
    }

    /// Enters the connection into the registry, and asks once more if the store changed between the
    /// gate and now.
    pub(crate) fn enter(&self, chain: &Arc<PresentedChain>, passed: &Passed) -> Arc<Session> {
        let matter = self.clone();
        let chain = Arc::clone(chain);
        let question = move |snapshot: &Snapshot, now: UnixTime| {
            matter.decide(&chain, Memory::of(snapshot), Phase::Established, now)
        };
        let endpoint = &self.endpoint;
        let question = Box::new(question);
        let session = endpoint.registry.enter(&passed.recognition, question);
        if let Err(reason) = self.ask_again(&session, passed) {
            session.end(reason);
        }
        session
    }

    /// Asks the question of an open connection, and its rule, if the store changed since the gate.
    /// What changes later is the registry's affair.
    pub(crate) fn ask_again(&self, session: &Session, passed: &Passed) -> Result<(), Reason> {
        let snapshot = self.endpoint.store.snapshot();
        match snapshot.epoch == passed.epoch {
            true => Ok(()),
            false => session.ask(&snapshot, self.endpoint.clock.now()),
        }
    }
}

/// Whether all that is to be written is something more about a peer that an entry recognises.
fn completes(verdict: &Verdict) -> bool {
    let record = verdict.recognition().and_then(|r| r.record.as_deref());
    matches!(record, Some(Edit::NoteNext { .. }))
}

/// What the verdict wants remembered.
fn recording(verdict: &Verdict) -> Option<Change> {
    let (edit, how, peer) = match verdict {
        Verdict::Accept(accepted) => (&accepted.record, accepted.how.token(), accepted.peer),
        Verdict::Refuse(refused) => (&refused.record, refused.reason.token(), refused.presented),
    };
    let edit = Edit::clone(edit.as_deref()?);
    let (action, detail) = match &edit {
        Edit::Add(entry) => (how, name_of(entry)),
        Edit::Succeed { lines } => (SUCCESSION, lines.first().map(succeeded).unwrap_or_default()),
        Edit::Freeze { lines, .. } => (FORKED, format!("lines {lines:?}")),
        Edit::NoteNext { next, .. } => (NEXT_NOTED, next.to_string()),
        _ => (how, String::new()),
    };
    Some(Change {
        deed: Deed {
            action: action.to_owned(),
            peer: Some(peer),
            detail,
        },
        edit,
    })
}

fn name_of(entry: &Entry) -> String {
    let name = entry.display_name();
    name.map(ToString::to_string).unwrap_or_default()
}

/// Whom the peer was before, and whom it is now.
fn succeeded(line: &Succeeded) -> String {
    let id = |entry: &Entry| match &entry.what {
        What::Pin(Pin::Node(id)) => id.to_string(),
        _ => String::new(),
    };
    let new = line.new.last().map(id).unwrap_or_default();
    format!("{} {} -> {new}", name_of(&line.old), id(&line.old))
}

/// A fork means that somebody else has a key: it must wake whoever reads the log.
fn raise_alarm(verdict: &Verdict) {
    if let Some(refusal) = verdict.refusal()
        && matches!(refusal.record.as_deref(), Some(Edit::Freeze { .. }))
    {
        tracing::error!(
            peer = %refusal.presented,
            "statements of succession contradict each other: somebody else has the key of this peer. \
             It is refused until `comity trust replace`, `remove` or `revoke` decides"
        );
    }
}

fn accepted(verdict: Verdict, epoch: u64) -> Result<Passed, GateError> {
    match verdict {
        Verdict::Accept(recognition) => Ok(Passed { recognition, epoch }),
        Verdict::Refuse(refusal) => Err(GateError::Refused(Box::new(refusal))),
    }
}
