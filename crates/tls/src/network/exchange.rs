//! The sub-protocol `network` as a state machine: frames, holdings and time in; frames, bundles
//! and time-outs out. The order of events is in [`crate::network`].

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use comity_identity::NodeId;
use thiserror::Error;

use crate::frame::{ContentError, FrameType};
use crate::live::Role;
use crate::network::budget::Bucket;
use crate::network::wire::{
    Assembly, CHUNK, Chunk, Grant, MAX_SHARED, Standing, decode_sync, encode_sync, max_total,
};

/// How often a dialer sends SYNC while nothing else happens. Shorter than what routers forget an
/// idle connection after, and rare enough for thousands of subscribers.
pub const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// How long the answer to a SYNC may take, and an acceptor waits for the first one.
pub const ANSWER: Duration = Duration::from_secs(30);

/// After this time without a SYNC an acceptor takes the dialer for gone: two were lost.
pub const SILENCE: Duration = Duration::from_secs(2 * KEEP_ALIVE.as_secs() + ANSWER.as_secs());

/// How long all parts of one object may take: two megabytes at 200 kbit/s.
pub const ASSEMBLY: Duration = Duration::from_secs(90);

/// Between two bundles of one network in one direction. The first leaves at once; of what changes
/// meanwhile, only the newest is sent.
pub const PUSH_GAP: Duration = Duration::from_secs(2);

/// Bundles of one network that are taken at once, and the time in which one more is allowed: twice
/// what [`PUSH_GAP`] lets an honest peer send. Each costs us some hundred signatures at worst.
const BUNDLES: (u32, Duration) = (4, Duration::from_secs(1));

/// Likewise for grants, which are a matter of months.
const GRANTS: (u32, Duration) = (4, Duration::from_secs(60));

/// Likewise for the SYNCs that an acceptor answers.
const SYNCS: (u32, Duration) = (4, Duration::from_secs(30));

/// One side of an open connection that exchanges bundles.
#[derive(Debug)]
pub struct Exchange {
    role: Role,
    shares: BTreeMap<NodeId, Share>,
    outgoing: VecDeque<Outgoing>,
    incoming: Option<Assembly>,
    /// The newest SYNC that waits to be sent: a peer that asks and never reads makes nothing grow.
    sync: Option<Vec<u8>>,
    events: VecDeque<Event>,
    sync_budget: Bucket,
    timers: Timers,
    closed: bool,
}

/// A network that we may talk of on this connection.
#[derive(Debug)]
struct Share {
    held: Holding,
    /// What the other side holds, once it named the network. Nothing is sent before.
    theirs: Option<Standing>,
    /// The last bundle that came from there. It need not go back.
    received: Option<[u8; 32]>,
    push_at: Instant,
    bundles: Bucket,
    grants: Bucket,
}

#[derive(Debug)]
struct Outgoing {
    kind: FrameType,
    network: NodeId,
    content: Arc<[u8]>,
    offset: usize,
}

/// When something happens although nothing arrives.
#[derive(Debug, Default)]
struct Timers {
    /// The other side's SYNC is overdue.
    heard_by: Option<Instant>,
    /// The object that is coming in takes too long.
    whole_by: Option<Instant>,
    /// The dialer's next SYNC.
    sync_at: Option<Instant>,
}

/// A bundle that we hold.
#[derive(Clone, PartialEq, Eq)]
pub struct Holding {
    standing: Standing,
    bundle: Arc<[u8]>,
}

/// What happens to an exchange.
#[derive(Debug)]
pub enum Input {
    /// A frame arrived.
    Frame(FrameType, Vec<u8>),
    /// This is what we hold, of the networks that the other side may hear of. Beyond the first
    /// [`MAX_SHARED`] they are left out. Networks that are missing are not talked of any more.
    Holdings(Vec<Holding>),
    /// To be sent to the dialer.
    Grant(Grant),
}

/// What an exchange wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A bundle arrived as a whole. Nothing in it is verified. One that cannot be verified is a
    /// reason to end the connection; one that is older is none: ours may have come meanwhile.
    Bundle {
        /// The network that it is said to be of. We hold one of it.
        network: NodeId,
        /// The bundle.
        bytes: Vec<u8>,
    },
    /// A grant arrived as a whole. Nothing in it is verified.
    Grant(Grant),
    /// The dialer named these networks. Whoever issues for one of them looks whether the dialer's
    /// membership wants renewal.
    Named(Vec<NodeId>),
    /// The connection is over.
    Closed(Violation),
}

/// Why an exchange ended.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum Violation {
    /// A frame that cannot be read.
    #[error("a frame is malformed: {0}")]
    Malformed(ContentError),
    /// A frame that has no place here.
    #[error("a frame of type {0:?} has no place here")]
    Unexpected(FrameType),
    /// Something about a network that we do not share.
    #[error("the peer sent something about a network that we do not share")]
    NotShared,
    /// A part that does not follow the one before.
    #[error("the parts of a bundle or grant do not fit together")]
    Parts,
    /// More than an honest peer sends.
    #[error("the peer sends more than it may")]
    Storm,
    /// An object that takes too long.
    #[error("a bundle or grant took too long")]
    Slow,
    /// No SYNC.
    #[error("the peer fell silent")]
    Silent,
}

impl Holding {
    /// A bundle of `network` that we verified.
    pub fn new(network: NodeId, charter: u64, sequence: u64, bundle: Arc<[u8]>) -> Self {
        let standing = Standing {
            network,
            charter,
            sequence,
            digest: hash(&bundle),
        };
        Self { standing, bundle }
    }

    /// Of which network.
    pub fn network(&self) -> NodeId {
        self.standing.network
    }

    /// The bundle's bytes.
    pub fn bundle(&self) -> &[u8] {
        &self.bundle
    }

    /// What distinguishes it from every other bundle, as an HTTP entity tag.
    pub(crate) fn entity_tag(&self) -> String {
        let digest: String = self
            .standing
            .digest
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        format!("\"{}-{digest}\"", self.standing.sequence)
    }
}

impl fmt::Debug for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Standing {
            network, sequence, ..
        } = self.standing;
        write!(f, "Holding({} at {sequence})", network.short())
    }
}

impl Exchange {
    /// The dialer's side, which names all of `holdings`.
    pub fn dialing(holdings: Vec<Holding>, now: Instant) -> Self {
        let mut exchange = Self::new(Role::Dialer, holdings, now);
        exchange.send_sync(now);
        exchange
    }

    /// The acceptor's side. Only what the dialer names is talked of.
    pub fn accepting(holdings: Vec<Holding>, now: Instant) -> Self {
        let mut exchange = Self::new(Role::Acceptor, holdings, now);
        exchange.timers.heard_by = Some(now + ANSWER);
        exchange
    }

    fn new(role: Role, holdings: Vec<Holding>, now: Instant) -> Self {
        let mut exchange = Self {
            role,
            shares: BTreeMap::new(),
            outgoing: VecDeque::new(),
            incoming: None,
            sync: None,
            events: VecDeque::new(),
            sync_budget: Bucket::full(SYNCS, now),
            timers: Timers::default(),
            closed: false,
        };
        exchange.hold(holdings, now);
        exchange
    }

    /// Something happened. After the end, nothing matters any more.
    pub fn handle_input(&mut self, input: Input, now: Instant) {
        if self.closed {
            return;
        }
        let outcome = match input {
            Input::Frame(kind, body) => self.receive(kind, &body, now),
            Input::Holdings(holdings) => {
                self.hold(holdings, now);
                Ok(())
            }
            Input::Grant(grant) => {
                self.outgoing.push_back(Outgoing::new(
                    FrameType::Grant,
                    grant.network,
                    grant.encode().into(),
                ));
                Ok(())
            }
        };
        match outcome {
            Ok(()) => self.push_due(now),
            Err(violation) => self.close(violation),
        }
    }

    /// Time passed, at least until [`Exchange::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        let due = |timer: Option<Instant>| timer.is_some_and(|at| at <= now);
        if due(self.timers.heard_by) {
            return self.close(Violation::Silent);
        }
        if due(self.timers.whole_by) {
            return self.close(Violation::Slow);
        }
        if due(self.timers.sync_at) {
            self.send_sync(now);
        }
        self.push_due(now);
    }

    /// When [`Exchange::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        let waiting = self.shares.values().filter(|share| share.has_news());
        [
            self.timers.heard_by,
            self.timers.whole_by,
            self.timers.sync_at,
        ]
        .into_iter()
        .flatten()
        .chain(waiting.map(|share| share.push_at))
        .min()
    }

    /// The next frame to send.
    pub fn poll_transmit(&mut self) -> Option<(FrameType, Vec<u8>)> {
        if self.closed {
            return None;
        }
        // A SYNC does not wait for the rest of an object.
        if let Some(body) = self.sync.take() {
            return Some((FrameType::Sync, body));
        }
        let outgoing = self.outgoing.front_mut()?;
        let chunk = Chunk::of(outgoing.network, &outgoing.content, outgoing.offset);
        let frame = (outgoing.kind, chunk.encode());
        outgoing.offset += CHUNK;
        if outgoing.offset >= outgoing.content.len() {
            self.outgoing.pop_front();
        }
        Some(frame)
    }

    /// What is to be done.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn receive(&mut self, kind: FrameType, body: &[u8], now: Instant) -> Result<(), Violation> {
        match (kind, self.role) {
            (FrameType::Sync, _) => self.receive_sync(body, now),
            (FrameType::Bundle, _) | (FrameType::Grant, Role::Dialer) => {
                self.receive_part(kind, body, now)
            }
            _ => Err(Violation::Unexpected(kind)),
        }
    }

    fn receive_sync(&mut self, body: &[u8], now: Instant) -> Result<(), Violation> {
        match self.role {
            Role::Acceptor if !self.sync_budget.take(now) => return Err(Violation::Storm),
            // It answers, and never asks.
            Role::Dialer if self.timers.heard_by.is_none() => {
                return Err(Violation::Unexpected(FrameType::Sync));
            }
            _ => {}
        }
        let standings = decode_sync(body).map_err(Violation::Malformed)?;
        for standing in &standings {
            // What we do not share, the other side does not learn whether we hold.
            if let Some(share) = self.shares.get_mut(&standing.network) {
                share.theirs = Some(*standing);
            }
        }
        match self.role {
            Role::Dialer => {
                self.timers.heard_by = None;
                self.timers.sync_at = Some(now + KEEP_ALIVE);
            }
            Role::Acceptor => {
                self.timers.heard_by = Some(now + SILENCE);
                let named: Vec<NodeId> = standings.iter().map(|s| s.network).collect();
                let shared = named.iter().filter_map(|network| self.shares.get(network));
                let ours: Vec<Standing> = shared.map(|share| share.held.standing).collect();
                self.sync = Some(encode_sync(&ours));
                self.events.push_back(Event::Named(named));
            }
        }
        Ok(())
    }

    fn receive_part(
        &mut self,
        kind: FrameType,
        body: &[u8],
        now: Instant,
    ) -> Result<(), Violation> {
        let chunk = Chunk::decode(body, max_total(kind)).map_err(Violation::Malformed)?;
        let share = self.shares.get_mut(&chunk.network);
        let share = share.ok_or(Violation::NotShared)?;
        if let Some(assembly) = &mut self.incoming {
            assembly.add(kind, &chunk).ok_or(Violation::Parts)?;
        } else {
            let budget = match kind {
                FrameType::Grant => &mut share.grants,
                _ => &mut share.bundles,
            };
            if !budget.take(now) {
                return Err(Violation::Storm);
            }
            self.incoming = Some(Assembly::begin(kind, &chunk).ok_or(Violation::Parts)?);
            self.timers.whole_by = Some(now + ASSEMBLY);
        }
        match self.incoming.take_if(|assembly| assembly.is_whole()) {
            Some(assembly) => self.receive_whole(assembly),
            None => Ok(()),
        }
    }

    fn receive_whole(&mut self, assembly: Assembly) -> Result<(), Violation> {
        self.timers.whole_by = None;
        let (kind, network) = (assembly.kind, assembly.network);
        let bytes = assembly.into_bytes();
        if kind == FrameType::Grant {
            let grant = Grant::decode(&bytes).map_err(Violation::Malformed)?;
            if grant.network != network {
                return Err(Violation::Parts);
            }
            self.events.push_back(Event::Grant(grant));
            return Ok(());
        }
        if let Some(share) = self.shares.get_mut(&network) {
            share.received = Some(hash(&bytes));
        }
        self.events.push_back(Event::Bundle { network, bytes });
        Ok(())
    }

    fn hold(&mut self, mut holdings: Vec<Holding>, now: Instant) {
        holdings.truncate(MAX_SHARED);
        let mut before = std::mem::take(&mut self.shares);
        for held in holdings {
            let share = match before.remove(&held.network()) {
                Some(mut share) => {
                    if share.received == Some(held.standing.digest) {
                        share.theirs = Some(held.standing);
                    }
                    share.held = held;
                    share
                }
                None => Share::new(held, now),
            };
            self.shares.insert(share.held.network(), share);
        }
        // What is on its way is finished or, if not begun, forgotten: it is not theirs any more.
        let shares = &self.shares;
        self.outgoing.retain(|out| {
            out.kind == FrameType::Grant || out.offset > 0 || shares.contains_key(&out.network)
        });
        let half_sent = self
            .outgoing
            .front_mut()
            .filter(|out| out.kind == FrameType::Bundle && !shares.contains_key(&out.network));
        if half_sent.is_some() {
            self.close(Violation::NotShared);
        }
    }

    /// Queues what the other side does not have yet and may have now.
    fn push_due(&mut self, now: Instant) {
        for share in self.shares.values_mut() {
            if !share.has_news() || share.push_at > now {
                continue;
            }
            share.theirs = Some(share.held.standing);
            share.push_at = now + PUSH_GAP;
            let network = share.held.network();
            let content = Arc::clone(&share.held.bundle);
            let next = Outgoing::new(FrameType::Bundle, network, content);
            let waits = |out: &&mut Outgoing| {
                out.kind == FrameType::Bundle && out.network == network && out.offset == 0
            };
            match self.outgoing.iter_mut().find(waits) {
                // A slow connection gets the newest, and not all that were new once.
                Some(waiting) => *waiting = next,
                None => self.outgoing.push_back(next),
            }
        }
    }

    fn send_sync(&mut self, now: Instant) {
        let ours: Vec<Standing> = self.shares.values().map(|s| s.held.standing).collect();
        self.sync = Some(encode_sync(&ours));
        self.timers.sync_at = None;
        self.timers.heard_by = Some(now + ANSWER);
    }

    fn close(&mut self, violation: Violation) {
        self.closed = true;
        self.outgoing.clear();
        self.sync = None;
        self.incoming = None;
        self.events.push_back(Event::Closed(violation));
    }
}

impl Share {
    fn new(held: Holding, now: Instant) -> Self {
        Self {
            held,
            theirs: None,
            received: None,
            push_at: now,
            bundles: Bucket::full(BUNDLES, now),
            grants: Bucket::full(GRANTS, now),
        }
    }

    /// Whether we hold something that the other side wants to see: a newer bundle, or another one
    /// of the same sequence.
    fn has_news(&self) -> bool {
        let ours = &self.held.standing;
        self.theirs.is_some_and(|theirs| {
            let order = |standing: &Standing| (standing.charter, standing.sequence);
            match order(ours).cmp(&order(&theirs)) {
                Ordering::Greater => true,
                Ordering::Equal => ours.digest != theirs.digest,
                Ordering::Less => false,
            }
        })
    }
}

impl Outgoing {
    fn new(kind: FrameType, network: NodeId, content: Arc<[u8]>) -> Self {
        Self {
            kind,
            network,
            content,
            offset: 0,
        }
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests;
