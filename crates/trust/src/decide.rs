//! The decision: one function for the verifier callback, the gate, live connections and `explain`.
//!
//! The rules run in the order of precedence, and the first that speaks decides. Every path that
//! does not end in a recognition refuses.

use std::cell::OnceCell;

use comity_certs::{CLOCK_TOLERANCE, Form, Purpose};
use comity_identity::{NodeId, PeerId, UnixTime};
use comity_record::{SuccessionChain, UnverifiedSuccessionChain};

use crate::authority::{self, CaRefusal, Vouched};
use crate::edit::Edit;
use crate::entry::{Attributes, Confirmed, Entry, Origin, Pin, Side, What};
use crate::grants::Grants;
use crate::known_peers::KnownPeers;
use crate::membership::{self, Fault, Members};
use crate::mode::{Direction, Mode, Phase};
use crate::name::Name;
use crate::pattern::Names;
use crate::reason::Reason;
use crate::succession::{Followed, Offer, SuccessionFault};
use crate::verdict::{
    Evidence, Explanation, How, Invited, Invitee, KnownPin, Outcome, Query, Recognition, Refusal,
    Rule, Step, StepDetail, Verdict, Warning,
};

/// Whether the peer is recognised, by what, and what it may do.
///
/// It is a function of its argument alone. At the gate the caller must ask it under the lock of the
/// store, with what the file says then, and add [`Recognition::record`] before it lets go.
pub fn decide(query: &Query<'_>) -> Verdict {
    Decision::new(query, None).verdict()
}

/// The same as [`decide`], with every rule that was tried.
pub fn explain(query: &Query<'_>) -> Explanation {
    let mut decision = Decision::new(query, Some(Vec::new()));
    let verdict = decision.verdict();
    Explanation {
        verdict,
        steps: decision.steps.unwrap_or_default(),
    }
}

/// How the word in `confirmed=` says that the caller gave the id beforehand.
const CONFIRMED_BY_ID: &str = "id";

struct Decision<'q> {
    query: &'q Query<'q>,
    steps: Option<Vec<Step>>,
    warnings: Vec<Warning>,
    /// A contradiction was turned into a warning: nothing of this peer is recorded.
    contradicted: bool,
    /// Entries that follow the statements which the peer presents.
    followed: Option<Followed>,
    /// What cross-certificates come to, once somebody asked.
    members: OnceCell<Members>,
}

/// What the pins say.
enum Pinned<'q> {
    /// Nothing: no pin for the name, or (without a name) for the key.
    Silent,
    /// The peer is the one remembered.
    Matched(usize, &'q Entry),
}

impl<'q> Decision<'q> {
    fn new(query: &'q Query<'q>, steps: Option<Vec<Step>>) -> Self {
        Self {
            query,
            steps,
            warnings: Vec::new(),
            contradicted: false,
            followed: None,
            members: OnceCell::new(),
        }
    }

    fn verdict(&mut self) -> Verdict {
        match self.recognise().and_then(|peer| self.in_the_network(peer)) {
            Ok(recognition) => Verdict::Accept(recognition),
            Err(refusal) => Verdict::Refuse(*refusal),
        }
    }

    /// The network that the caller demands, whoever the peer is.
    fn in_the_network(&mut self, peer: Recognition) -> Result<Recognition, Box<Refusal>> {
        let Some(network) = self.query.expectation.network else {
            return Ok(peer);
        };
        let proven = peer.how == How::Provisional
            || self.members().live().any(|live| live.network == network);
        if proven {
            return Ok(peer);
        }
        let Fault { reason, evidence } = match self.members().faults().next() {
            Some(fault) => fault.clone(),
            None => Fault {
                reason: Reason::WrongNetwork,
                evidence: Evidence::Network { network },
            },
        };
        Err(self.refuse(Rule::CrossCertificate, reason, evidence))
    }

    fn recognise(&mut self) -> Result<Recognition, Box<Refusal>> {
        self.mode_fits()?;
        if let Some(recognition) = self.wait_for_the_gate() {
            return Ok(recognition);
        }
        self.not_ourselves()?;
        self.not_revoked()?;
        self.expected_id()?;
        self.right_purpose()?;
        if self.query.mode == Mode::Insecure {
            return self.without_checks();
        }
        let pinned = self.pins()?;
        if self.query.mode.pin_suffices() {
            if let Pinned::Matched(line, entry) = pinned {
                return self.by_pin(line, entry);
            }
            if self.query.expectation.id.is_some() && !self.contradicted {
                return self.by_expected_id();
            }
        }
        self.beyond_pins(&pinned)
    }

    /// The rules for a peer that no pin recognises, or not alone.
    fn beyond_pins(&mut self, pinned: &Pinned<'q>) -> Result<Recognition, Box<Refusal>> {
        let mode = self.query.mode;
        if mode == Mode::CaAndPin {
            return self.by_ca_and_pin(pinned);
        }
        self.still_there()?;
        if let Some(recognition) = self.by_invitation()? {
            return Ok(recognition);
        }
        if let Some(recognition) = self.by_cross_certificate()? {
            return Ok(recognition);
        }
        let mut ca = None;
        if mode.ca_suffices() && !self.contradicted {
            match authority::vouch(self.query) {
                Ok(vouched) => return self.by_ca(vouched),
                Err(refusal) => ca = Some(self.ca_failed(refusal)?),
            }
        }
        self.no_failed_invitation()?;
        self.no_doubtful_member()?;
        self.no_forged_member()?;
        self.no_downgrade(ca.as_deref())?;
        if mode.first_use() {
            return self.by_first_use(ca);
        }
        Err(self.stranger(ca))
    }

    fn mode_fits(&mut self) -> Result<(), Box<Refusal>> {
        let Query {
            mode, direction, ..
        } = *self.query;
        if mode.valid_for(direction) {
            return Ok(());
        }
        Err(self.refuse(
            Rule::Mode,
            Reason::Unknown,
            Evidence::Mode { mode, direction },
        ))
    }

    /// When accepting, the verifier callback lets every well-formed chain through: the peer has
    /// not proved anything yet, and a refusal at this point could not tell it why.
    fn wait_for_the_gate(&mut self) -> Option<Recognition> {
        let query = self.query;
        if query.phase != Phase::Certificate || query.direction != Direction::Accept {
            return None;
        }
        self.step(Rule::Phase, Outcome::Recognised { line: None });
        Some(Recognition {
            peer: query.chain.peer_id(),
            how: How::Provisional,
            label: None,
            labels: Vec::new(),
            record: None,
            warnings: Vec::new(),
            ends: self.end_of_leaf(),
            grants: Grants::default(),
            memberships: Vec::new(),
        })
    }

    fn not_ourselves(&mut self) -> Result<(), Box<Refusal>> {
        let chain = self.query.chain;
        let presented = [self.peer().key_hash(), chain.leaf().key];
        if presented.iter().any(|key| self.query.own.contains(key)) {
            return Err(self.refuse(Rule::NotSelf, Reason::SelfPeer, Evidence::None));
        }
        self.step(Rule::NotSelf, Outcome::Passed);
        Ok(())
    }

    fn not_revoked(&mut self) -> Result<(), Box<Refusal>> {
        let query = self.query;
        let line = query.known.revocation_of(query.chain);
        let line = line.or_else(|| authority::below_revoked(query));
        match line {
            Some(line) => Err(self.revoked(line)),
            None => self.not_withdrawn(),
        }
    }

    /// A foreign chain is nobody without the cross-certificate that says whose it is: where that, or
    /// the leaf below it, was withdrawn, its key is no stranger's and no pin's either. A node has a
    /// key of its own, and loses its membership only.
    fn not_withdrawn(&mut self) -> Result<(), Box<Refusal>> {
        let fault = self.foreign_members().and_then(Members::withdrawn);
        if let Some(Fault { reason, evidence }) = fault.cloned() {
            return Err(self.refuse(Rule::NotRevoked, reason, evidence));
        }
        self.step(Rule::NotRevoked, Outcome::Passed);
        Ok(())
    }

    fn revoked(&mut self, line: usize) -> Box<Refusal> {
        self.refuse(
            Rule::NotRevoked,
            Reason::Revoked,
            Evidence::Revoked { line },
        )
    }

    /// The caller's id binds every mode: whoever names an id wants that peer and no other.
    fn expected_id(&mut self) -> Result<(), Box<Refusal>> {
        let Some(expected) = self.query.expectation.id else {
            return Ok(());
        };
        if expected == self.peer() {
            self.step(Rule::ExpectedId, Outcome::Passed);
            return Ok(());
        }
        let mut known = self.named();
        if known.is_empty() {
            known = self.query.known.pins_of(expected).collect();
        }
        if known.is_empty() {
            let evidence = self.unknown(None);
            return Err(self.refuse(Rule::ExpectedId, Reason::Unknown, evidence));
        }
        let evidence = self.changed(&known, None);
        Err(self.refuse(Rule::ExpectedId, Reason::Changed, evidence))
    }

    /// A node has one leaf for serving and one for dialling; one used for the other is misused.
    fn right_purpose(&mut self) -> Result<(), Box<Refusal>> {
        let chain = self.query.chain;
        if chain.form() == Form::Foreign {
            return Ok(());
        }
        if chain.leaf().usages.allows(purpose_of(self.query.direction)) {
            self.step(Rule::Purpose, Outcome::Passed);
            return Ok(());
        }
        Err(self.refuse(Rule::Purpose, Reason::Constraint, Evidence::Purpose))
    }

    /// What we remember under the expected name when dialling (there the name is what the user
    /// asked for), or for the key itself (a name that the other side claims means nothing).
    fn pins(&mut self) -> Result<Pinned<'q>, Box<Refusal>> {
        let query = self.query;
        let matching = |(_, entry): &(usize, &Entry)| {
            entry.side.covers(query.direction) && self.pin_matches(entry)
        };
        let named = self.named();
        let candidates: Vec<_> = if self.dialled_name().is_some() {
            named.iter().copied().filter(matching).collect()
        } else {
            query
                .known
                .pins_matching(self.peer(), query.chain, query.direction)
        };
        if !candidates.is_empty() || named.iter().any(|(_, e)| self.pin_matches(e)) {
            return self.first_valid(&candidates);
        }
        self.by_succession(&named)
    }

    /// None of the names dialled, or none of all we know, has the key. It may be the successor of
    /// one that has.
    fn by_succession(&mut self, named: &[(usize, &'q Entry)]) -> Result<Pinned<'q>, Box<Refusal>> {
        let refusal = match self.succession(named) {
            Ok(Some(followed)) => {
                let line = followed.lines.first().copied();
                let detail = StepDetail::Succession {
                    from: followed.from,
                    to: followed.to,
                };
                self.step_with(Rule::Succession, Outcome::Recognised { line }, detail);
                self.followed = Some(followed);
                return Ok(
                    match line.and_then(|l| Some((l, self.query.known.entry(l)?))) {
                        Some((line, entry)) => Pinned::Matched(line, entry),
                        None => Pinned::Silent,
                    },
                );
            }
            Ok(None) if named.is_empty() => {
                self.step(Rule::Pin, Outcome::DoesNotApply);
                return Ok(Pinned::Silent);
            }
            Ok(None) => {
                let evidence = self.changed(named, None);
                self.refuse(Rule::Pin, Reason::Changed, evidence)
            }
            Err(fault) => self.not_the_successor(fault, named),
        };
        self.contradict(refusal)?;
        Ok(Pinned::Silent)
    }

    /// The entries that follow what is stapled to the leaf, if that concerns any of them.
    ///
    /// A live connection follows nothing: what it rests on was written at the gate, and must still
    /// be there.
    fn succession(
        &self,
        named: &[(usize, &'q Entry)],
    ) -> Result<Option<Followed>, SuccessionFault> {
        let query = self.query;
        let chain = query.chain;
        let PeerId::Node(presented) = chain.peer_id() else {
            return Ok(None);
        };
        let Some(stapled) = &chain.leaf().succession else {
            return Ok(None);
        };
        if query.phase == Phase::Established {
            return Ok(None);
        }
        let candidates = self.older_lines(stapled, named);
        if candidates.is_empty() {
            return Ok(None);
        }
        let claimed =
            UnverifiedSuccessionChain::parse(stapled).map_err(|_| SuccessionFault::Malformed)?;
        if claimed.current() != presented {
            let current = claimed.current();
            return Err(SuccessionFault::OtherKey { current });
        }
        // A stranger's statements about its own keys are not worth a signature before the one that
        // a key of ours must have signed.
        let is_ours = |key: &NodeId| {
            let mut entries = candidates
                .iter()
                .filter_map(|line| query.known.entry(*line));
            entries.any(|entry| entry.node() == Some(*key))
        };
        let history = claimed
            .verify(is_ours)
            .map_err(|_| SuccessionFault::Malformed)?;
        let offer = Offer {
            known: query.known,
            history: &history,
            policy: query.succession,
            now: query.now,
            next: chain.next(),
            stapled: true,
        };
        offer.follow(&candidates)
    }

    /// The lines of keys that the peer says it had. Reading that costs no signature: those are
    /// verified only for somebody who is known under one of them.
    fn older_lines(&self, stapled: &[u8], named: &[(usize, &'q Entry)]) -> Vec<usize> {
        let query = self.query;
        let claimed = SuccessionChain::claimed_keys(stapled);
        if self.dialled_name().is_some() {
            let is_claimed = |(_, entry): &&(usize, &Entry)| {
                let node = entry.node();
                node.is_some_and(|node| claimed.contains(&node))
            };
            return named
                .iter()
                .filter(is_claimed)
                .map(|(line, _)| *line)
                .collect();
        }
        let pins = claimed
            .iter()
            .flat_map(|key| query.known.pins_of(PeerId::Node(*key)));
        pins.filter(|(_, entry)| entry.side.covers(query.direction))
            .map(|(line, _)| line)
            .collect()
    }

    fn not_the_successor(
        &mut self,
        fault: SuccessionFault,
        named: &[(usize, &Entry)],
    ) -> Box<Refusal> {
        // Whoever dials a name must hear first that its key is not the known one.
        let reason = match fault.reason() {
            Reason::Malformed if !named.is_empty() => Reason::Changed,
            reason => reason,
        };
        let record = fault.edit(self.query.now);
        let evidence = match fault {
            SuccessionFault::Forked { lines, .. } => Evidence::Forked { lines, since: None },
            SuccessionFault::Revoked { line } => Evidence::Revoked { line },
            SuccessionFault::Superseded {
                line,
                successor,
                not_after,
            } => Evidence::Superseded {
                line,
                successor,
                not_after,
            },
            fault if reason == Reason::Changed => self.changed(named, Some(fault)),
            fault => Evidence::Succession(fault),
        };
        let mut refusal = self.refuse(Rule::Succession, reason, evidence);
        if self.query.phase == Phase::Gate {
            refusal.record = record.map(Box::new);
        }
        refusal
    }

    /// The first entry that has not ended. One that has is not forgotten: the peer does not become
    /// a stranger who may be met for the first time.
    fn first_valid(
        &mut self,
        candidates: &[(usize, &'q Entry)],
    ) -> Result<Pinned<'q>, Box<Refusal>> {
        let now = self.query.now;
        if let Some(refusal) = self.forked(candidates) {
            self.contradict(refusal)?;
            return Ok(Pinned::Silent);
        }
        if let Some(&(line, entry)) = candidates.iter().find(|(_, entry)| !entry.is_over(now)) {
            self.step(Rule::Pin, Outcome::Recognised { line: Some(line) });
            return Ok(Pinned::Matched(line, entry));
        }
        let Some(&(line, entry)) = candidates.first() else {
            self.step(Rule::Pin, Outcome::DoesNotApply);
            return Ok(Pinned::Silent);
        };
        let not_after = entry.attributes.not_after.unwrap_or(now);
        let refusal = match entry.attributes.successor {
            Some(successor) => {
                let evidence = Evidence::Superseded {
                    line,
                    successor,
                    not_after,
                };
                self.refuse(Rule::Pin, Reason::Superseded, evidence)
            }
            None => {
                let evidence = Evidence::EntryExpired { line, not_after };
                self.refuse(Rule::Pin, Reason::Expired, evidence)
            }
        };
        self.contradict(refusal)?;
        Ok(Pinned::Silent)
    }

    /// While nobody knows which of two successors is the owner's, none of its keys recognises
    /// anybody.
    fn forked(&mut self, candidates: &[(usize, &Entry)]) -> Option<Box<Refusal>> {
        let forked = |(_, entry): &&(usize, &Entry)| entry.attributes.forked.is_some();
        let (line, entry) = candidates.iter().find(forked)?;
        let evidence = Evidence::Forked {
            lines: vec![*line],
            since: entry.attributes.forked,
        };
        Some(self.refuse(Rule::Pin, Reason::Forked, evidence))
    }

    fn by_pin(&mut self, line: usize, entry: &Entry) -> Result<Recognition, Box<Refusal>> {
        let ends = self.pinned_leaf_is_valid()?;
        let ends = entry.attributes.not_after.map_or(ends, |end| ends.min(end));
        Ok(self.recognised(How::Pin { line }, ends, None))
    }

    /// The caller's id is a pin that is not written down yet.
    fn by_expected_id(&mut self) -> Result<Recognition, Box<Refusal>> {
        self.still_there()?;
        let ends = self.pinned_leaf_is_valid()?;
        let name = self.dialled_name().cloned();
        let records = self.query.mode.first_use() || self.query.mode == Mode::CaThenPin;
        let record = name.filter(|_| records).map(|name| {
            let mut entry = self.pin_entry(Names::one(name), Origin::FirstUse);
            entry.attributes.confirmed = Some(Confirmed {
                at: self.query.now,
                how: CONFIRMED_BY_ID.to_owned(),
            });
            add(entry)
        });
        self.step(Rule::ExpectedId, Outcome::Recognised { line: None });
        Ok(self.recognised(How::Expected, ends, record))
    }

    fn by_ca_and_pin(&mut self, pinned: &Pinned<'q>) -> Result<Recognition, Box<Refusal>> {
        let (how, entry) = match pinned {
            Pinned::Matched(line, entry) => (How::Pin { line: *line }, Some(*entry)),
            Pinned::Silent if self.query.expectation.id.is_some() => (How::Expected, None),
            Pinned::Silent => return Err(self.stranger(None)),
        };
        match authority::vouch(self.query) {
            Ok(vouched) => {
                let line = vouched.line;
                self.step(Rule::Ca, Outcome::Recognised { line });
                self.native_leaf_is_valid()?;
                let end = entry.and_then(|entry| entry.attributes.not_after);
                let ends = vouched.not_after.min(end.unwrap_or(UnixTime::NEVER));
                Ok(self.recognised(how, ends, None))
            }
            Err(refusal) => {
                let refusal = self.ca_failed(refusal)?;
                Err(self.as_downgrade(&refusal).unwrap_or(refusal))
            }
        }
    }

    fn by_ca(&mut self, vouched: Vouched) -> Result<Recognition, Box<Refusal>> {
        let line = vouched.line;
        self.step(Rule::Ca, Outcome::Recognised { line });
        self.native_leaf_is_valid()?;
        let record = if self.query.mode == Mode::CaThenPin {
            Some(self.pin_entry(self.names_to_record(), Origin::Ca))
        } else {
            self.dialled_name().and_then(|name| self.ca_memory(name))
        };
        let record = record.map(add);
        let how = How::Ca {
            anchor: vouched.anchor,
            line,
        };
        Ok(self.recognised(how, vouched.not_after, record))
    }

    /// The line which remembers that a CA vouched for this name, unless there is one.
    fn ca_memory(&self, name: &Name) -> Option<Entry> {
        if self.query.known.ca_verified(name).is_some() {
            return None;
        }
        let mut entry = Entry::new(Side::Dial, Names::one(name.clone()), What::CaVerified);
        entry.attributes.added = Some(self.query.now);
        Some(entry)
    }

    /// Before any CA: whoever proves an invitation is to have what the inviter chose.
    fn by_invitation(&mut self) -> Result<Option<Recognition>, Box<Refusal>> {
        let Invited::Proven(invitee) = self.invited() else {
            return Ok(None);
        };
        let ends = self.stranger_leaf_is_valid()?;
        self.step(Rule::Invitation, Outcome::Recognised { line: None });
        let record = self.invited_entry(invitee);
        Ok(Some(self.recognised(How::Invited, ends, Some(add(record)))))
    }

    /// A member of a network whose authority we recognise. It is not the one that a name means: any
    /// member can answer at any address, so nothing is remembered, and a name that a CA vouched for
    /// is asked of CAs.
    fn by_cross_certificate(&mut self) -> Result<Option<Recognition>, Box<Refusal>> {
        if !self.asks_networks() || self.ca_memory_line().is_some() {
            return Ok(None);
        }
        let Some(member) = self.members().live().next().cloned() else {
            return self.no_withdrawn_member().map(|()| None);
        };
        let how = How::CrossCertificate {
            network: member.network,
        };
        let ends = member.not_after;
        let detail = StepDetail::Membership(Box::new(member));
        let outcome = Outcome::Recognised { line: None };
        self.step_with(Rule::CrossCertificate, outcome, detail);
        self.native_leaf_is_valid()?;
        Ok(Some(self.recognised(how, ends, None)))
    }

    fn asks_networks(&self) -> bool {
        self.query.mode.cross_suffices() && !self.contradicted
    }

    /// Whoever was a member and is not any more is no stranger to be met for the first time.
    fn no_withdrawn_member(&mut self) -> Result<(), Box<Refusal>> {
        let fault = self.members().withdrawn().cloned();
        self.no_fault(fault)
    }

    /// After CAs were asked: nor is a member of whose authority we know too little at the moment.
    fn no_doubtful_member(&mut self) -> Result<(), Box<Refusal>> {
        let asked = self.asks_networks().then(|| self.members());
        let fault = asked.and_then(|members| members.faults().next().cloned());
        self.no_fault(fault)
    }

    /// Nor is whoever names itself as no authority of ours permits. Nobody does that by accident, and a
    /// person who is asked to approve its key would not learn of it.
    fn no_forged_member(&mut self) -> Result<(), Box<Refusal>> {
        if !self.asks_networks() {
            return Ok(());
        }
        match membership::path_fault(self.query) {
            Some((reason @ Reason::Constraint, error)) => {
                let evidence = Evidence::Cross(error);
                let refusal = self.refuse(Rule::CrossCertificate, reason, evidence);
                self.contradict(refusal)
            }
            _ => Ok(()),
        }
    }

    fn no_fault(&mut self, fault: Option<Fault>) -> Result<(), Box<Refusal>> {
        let Some(Fault { reason, evidence }) = fault else {
            return Ok(());
        };
        let refusal = self.refuse(Rule::CrossCertificate, reason, evidence);
        self.contradict(refusal)
    }

    /// After everything that could recognise the peer without its invitation.
    fn no_failed_invitation(&mut self) -> Result<(), Box<Refusal>> {
        match self.invited() {
            Invited::Invalid => {
                Err(self.refuse(Rule::Invitation, Reason::InviteInvalid, Evidence::None))
            }
            Invited::No | Invited::Proven(_) => Ok(()),
        }
    }

    /// The peer's invitation, where the mode honours any. On a live connection what it led to must
    /// be on file.
    fn invited(&self) -> Invited<'q> {
        if self.query.mode.honours_invitations() && self.query.phase != Phase::Established {
            self.query.invited
        } else {
            Invited::No
        }
    }

    /// A name that a CA recognised before and that shows an unknown key now.
    fn no_downgrade(&mut self, ca: Option<&Refusal>) -> Result<(), Box<Refusal>> {
        let Some(line) = self.ca_memory_line() else {
            return Ok(());
        };
        let refusal = match ca {
            Some(refusal) => match self.as_downgrade(refusal) {
                Some(downgrade) => downgrade,
                None => Box::new(refusal.clone()),
            },
            // The mode does not ask CAs, but one still vouches: nothing fell back.
            None if authority::vouch(self.query).is_ok() => return Ok(()),
            None => {
                let evidence = Evidence::Downgrade { line, ca: None };
                self.refusal(Reason::Downgrade, evidence)
            }
        };
        self.step(Rule::NoDowngrade, Outcome::Refused(refusal.reason));
        self.contradict(refusal)
    }

    /// The more useful name for the failure of a CA path, where one was seen before: unless
    /// the path has a fault of its own, such as its time, the peer is somebody else.
    fn as_downgrade(&self, refusal: &Refusal) -> Option<Box<Refusal>> {
        let line = self.ca_memory_line()?;
        let ca = match &refusal.evidence {
            Evidence::Unknown { ca, .. } => ca.clone(),
            _ => return None,
        };
        Some(self.refusal(Reason::Downgrade, Evidence::Downgrade { line, ca }))
    }

    fn ca_memory_line(&self) -> Option<usize> {
        let name = self.dialled_name()?;
        self.query.known.ca_verified(name)
    }

    fn by_first_use(&mut self, ca: Option<Box<Refusal>>) -> Result<Recognition, Box<Refusal>> {
        let query = self.query;
        let ends = self.stranger_leaf_is_valid()?;
        if let Some(refusal) = ca.filter(|_| !query.chain.leaf().self_signed)
            && query.chain.form() == Form::Foreign
        {
            self.warnings.push(Warning::CaRefused(refusal));
        }
        self.warn_of_other_names();
        let how = if query.mode.records_only() {
            How::Recorded
        } else {
            How::FirstUse
        };
        self.step(Rule::FirstUse, Outcome::Recognised { line: None });
        let record = (!self.contradicted)
            .then(|| add(self.pin_entry(self.names_to_record(), Origin::FirstUse)));
        Ok(self.recognised(how, ends, record))
    }

    fn without_checks(&mut self) -> Result<Recognition, Box<Refusal>> {
        let ends = self.stranger_leaf_is_valid()?;
        self.warnings.push(Warning::Insecure);
        self.step(Rule::Insecure, Outcome::Recognised { line: None });
        Ok(self.recognised(How::Insecure, ends, None))
    }

    /// Refuses somebody whom no rule recognised, for the most useful reason.
    fn stranger(&mut self, ca: Option<Box<Refusal>>) -> Box<Refusal> {
        let query = self.query;
        if query.mode == Mode::Enroll && query.phase != Phase::Established {
            // The queue is for those who could be let in if somebody approved.
            if let Err(refusal) = self.stranger_leaf_is_valid() {
                return refusal;
            }
            let evidence = self.unknown(None);
            return self.refuse(Rule::FirstUse, Reason::Pending, evidence);
        }
        match ca {
            Some(refusal) if refusal.reason != Reason::Unknown => refusal,
            ca => self.broken_path().or(ca).unwrap_or_else(|| {
                let evidence = self.unknown(None);
                self.refuse(Rule::FirstUse, Reason::Unknown, evidence)
            }),
        }
    }

    /// Cross-certificates that name an authority of ours, and why they have no path.
    fn broken_path(&mut self) -> Option<Box<Refusal>> {
        if !self.asks_networks() {
            return None;
        }
        let (reason, error) = membership::path_fault(self.query)?;
        Some(self.refuse(Rule::CrossCertificate, reason, Evidence::Cross(error)))
    }

    /// A live connection whose entry was removed ends, in every mode that had recorded it: it is
    /// not met for the first time again.
    fn still_there(&mut self) -> Result<(), Box<Refusal>> {
        let query = self.query;
        let records = query.mode.first_use() || query.mode == Mode::CaThenPin;
        if query.phase != Phase::Established || !records || self.contradicted {
            return Ok(());
        }
        // A CA goes on recognising whom it recognised, unless the mode pins at first contact.
        if query.mode != Mode::CaThenPin
            && query.mode.ca_suffices()
            && authority::vouch(query).is_ok()
        {
            return Ok(());
        }
        // So does an authority, which never wrote anything.
        if query.mode.cross_suffices() && self.members().live().next().is_some() {
            return Ok(());
        }
        if query.expectation.id.is_some() && self.dialled_name().is_none() {
            return Ok(());
        }
        let evidence = self.unknown(None);
        Err(self.refuse(Rule::StillThere, Reason::Unknown, evidence))
    }
}

/// Validity in time.
impl Decision<'_> {
    /// Native leaves are renewed every few weeks, and their expiry ends what a stolen leaf key can
    /// do: it is enforced in every mode, with a tolerance for clocks both ways.
    fn native_leaf_is_valid(&mut self) -> Result<UnixTime, Box<Refusal>> {
        let leaf = self.query.chain.leaf();
        let now = self.query.now;
        if self.query.chain.form() == Form::Native {
            if leaf.not_after + CLOCK_TOLERANCE < now {
                return Err(self.expired());
            }
            if now + CLOCK_TOLERANCE < leaf.not_before {
                return Err(self.not_yet_valid());
            }
        }
        Ok(self.end_of_leaf())
    }

    /// A single self-signed foreign certificate that is pinned is a key with decoration: its owner
    /// has nobody to renew it, so its dates only warn. One that a CA issued follows its dates
    /// exactly.
    fn pinned_leaf_is_valid(&mut self) -> Result<UnixTime, Box<Refusal>> {
        let ends = self.native_leaf_is_valid()?;
        let query = self.query;
        let leaf = query.chain.leaf();
        // Whoever has an issuer can have it renewed, also if it does not send the issuer along.
        let single = query.chain.der().len() == 1 && leaf.self_signed;
        if query.chain.form() == Form::Native {
            return Ok(ends);
        }
        if !single {
            return self.stranger_leaf_is_valid();
        }
        if leaf.not_after < query.now {
            let not_after = leaf.not_after;
            self.warnings.push(Warning::Expired { not_after });
            return Ok(UnixTime::NEVER);
        }
        if query.now < leaf.not_before {
            let not_before = leaf.not_before;
            self.warnings.push(Warning::NotYetValid { not_before });
        }
        Ok(ends)
    }

    /// Whoever is not pinned presents a certificate that is valid now.
    fn stranger_leaf_is_valid(&mut self) -> Result<UnixTime, Box<Refusal>> {
        let ends = self.native_leaf_is_valid()?;
        let query = self.query;
        let leaf = query.chain.leaf();
        if query.chain.form() == Form::Native {
            return Ok(ends);
        }
        let refusal = if leaf.not_after < query.now {
            self.expired()
        } else if query.now < leaf.not_before {
            self.not_yet_valid()
        } else {
            return Ok(ends);
        };
        if query.mode == Mode::Insecure {
            self.warn_of(refusal);
        } else {
            self.soften(refusal)?;
        }
        Ok(UnixTime::NEVER)
    }

    fn end_of_leaf(&self) -> UnixTime {
        let leaf = self.query.chain.leaf();
        match self.query.chain.form() {
            Form::Native => leaf.not_after + CLOCK_TOLERANCE,
            // The path that proves who it is ends no later than the leaf.
            Form::Foreign => {
                let proven = self.foreign_members().and_then(Members::proven_until);
                proven.unwrap_or(leaf.not_after)
            }
        }
    }

    fn expired(&mut self) -> Box<Refusal> {
        let not_after = self.query.chain.leaf().not_after;
        self.refuse(
            Rule::Validity,
            Reason::Expired,
            Evidence::Expired { not_after },
        )
    }

    fn not_yet_valid(&mut self) -> Box<Refusal> {
        let not_before = self.query.chain.leaf().not_before;
        self.refuse(
            Rule::Validity,
            Reason::NotYetValid,
            Evidence::NotYetValid { not_before },
        )
    }
}

/// Building blocks.
impl<'q> Decision<'q> {
    fn dialled_name(&self) -> Option<&'q Name> {
        let query = self.query;
        match query.direction {
            Direction::Dial => query.expectation.name.as_ref(),
            Direction::Accept => None,
        }
    }

    /// The pins for the dialled name: those for dialling or, for a label without any, those for
    /// accepting, because a label means one peer in both directions.
    fn named(&self) -> Vec<(usize, &'q Entry)> {
        let Some(name) = self.dialled_name() else {
            return Vec::new();
        };
        let known = self.query.known;
        let named = known.pins_named(name, Some(Direction::Dial));
        if named.is_empty() && name.is_label() {
            return known.pins_named(name, None);
        }
        named
    }

    fn pin_matches(&self, entry: &Entry) -> bool {
        match entry.pin() {
            Some(Pin::Node(id)) => self.peer() == PeerId::Node(*id),
            Some(pin) => pin.matches(self.query.chain),
            None => false,
        }
    }

    /// Who the chain proves: a node by its own root; anybody else by the cross-certificate above its
    /// leaf, where these count; and otherwise the key in the leaf.
    fn peer(&self) -> PeerId {
        let certified = self.foreign_members().and_then(Members::key);
        certified.map_or_else(|| self.query.chain.peer_id(), PeerId::Node)
    }

    /// What cross-certificates say of a chain that has no identity of its own.
    fn foreign_members(&self) -> Option<&Members> {
        let foreign = self.query.chain.form() == Form::Foreign;
        (foreign && self.query.mode.cross_suffices()).then(|| self.members())
    }

    fn members(&self) -> &Members {
        self.members.get_or_init(|| Members::of(self.query))
    }

    fn recognised(&mut self, how: How, ends: UnixTime, record: Option<Edit>) -> Recognition {
        let query = self.query;
        let at_gate = query.phase == Phase::Gate;
        let mut entries = query
            .known
            .pins_matching(self.peer(), query.chain, query.direction);
        let followed = self.followed.take();
        for line in followed.iter().flat_map(|followed| &followed.lines) {
            let entry = query.known.entry(*line).map(|entry| (*line, entry));
            entries.extend(entry.filter(|(_, entry)| entry.side.covers(query.direction)));
        }
        let record = followed
            .map(|followed| followed.edit)
            .or(record)
            .or_else(|| self.next_to_note(how));
        let labels: Vec<String> = entries
            .iter()
            .filter(|(_, entry)| !entry.is_over(query.now))
            .flat_map(|(_, entry)| entry.names.exact())
            .filter(|name| name.is_label())
            .map(Name::to_string)
            .collect();
        let mut recognition = Recognition {
            peer: self.peer(),
            how,
            label: self.label_of(how).or_else(|| labels.first().cloned()),
            labels,
            record: record.filter(|_| at_gate).map(Box::new),
            warnings: std::mem::take(&mut self.warnings),
            ends,
            grants: Grants::default(),
            memberships: Vec::new(),
        };
        // The verifier callback grants nothing.
        if query.phase != Phase::Certificate && how.may_grant() {
            self.grant(&mut recognition, &entries);
            self.step(Rule::Grants, Outcome::Passed);
            self.show_memberships(&recognition);
        }
        recognition
    }

    /// Entries of this key that do not say which key comes next: those that were made by hand, before
    /// anybody had seen the root. Without it, whoever finds the key after its owner left it could name
    /// a successor of their own.
    fn next_to_note(&self, how: How) -> Option<Edit> {
        if self.contradicted || !how.may_grant() {
            return None;
        }
        let next = self.query.chain.next()?;
        let is_open = |entry: &Entry| {
            let attributes = &entry.attributes;
            let says_nothing = attributes.next.is_none() && attributes.successor.is_none();
            let is_node = entry.node().is_some();
            is_node && says_nothing && attributes.forked.is_none() && !entry.is_over(self.query.now)
        };
        let pins = self.query.known.pins_of(self.peer());
        let lines: Vec<usize> = pins
            .filter(|(_, entry)| is_open(entry))
            .map(|(line, _)| line)
            .collect();
        (!lines.is_empty()).then_some(Edit::NoteNext { lines, next })
    }

    fn label_of(&self, how: How) -> Option<String> {
        let How::Pin { line } = how else { return None };
        let entry = self.query.known.entry(line)?;
        entry.names.label().map(Name::to_string)
    }

    fn grant(&self, recognition: &mut Recognition, entries: &[(usize, &Entry)]) {
        let query = self.query;
        let grants = &mut recognition.grants;
        for (_, entry) in entries.iter().filter(|(_, e)| !e.is_over(query.now)) {
            grants.add_local(entry, query.networks);
            // What an entry grants ends with it, whatever recognised the peer: the connection is
            // judged anew then.
            let end = entry.attributes.not_after.unwrap_or(UnixTime::NEVER);
            recognition.ends = recognition.ends.min(end);
        }
        for member in self.members().live() {
            grants.add_membership(member, query.networks);
            recognition.ends = recognition.ends.min(member.not_after);
            recognition.memberships.push(member.clone());
        }
        if let Some(Edit::Add(entry)) = recognition.record.as_deref()
            && recognition.how == How::Invited
        {
            grants.add_local(entry, query.networks);
        }
        if let How::Ca {
            line: Some(line), ..
        } = recognition.how
            && let Some(entry) = query.known.entry(line)
        {
            grants.add_services(&entry.attributes.services);
        }
        if let Some(end) = authority::attest(query, grants) {
            recognition.ends = recognition.ends.min(end);
        }
    }

    /// The name under which a new key is remembered: the one we dialled, never one that it claims.
    fn names_to_record(&self) -> Names {
        Names::one(match self.dialled_name() {
            Some(name) => name.clone(),
            None => free_label(self.query.known, self.peer()),
        })
    }

    fn pin_entry(&self, names: Names, origin: Origin) -> Entry {
        let query = self.query;
        let attributes = Attributes {
            next: query.chain.next(),
            origin: Some(origin),
            added: Some(query.now),
            ..Attributes::default()
        };
        let pin = What::Pin(Pin::from(self.peer()));
        Entry {
            attributes,
            ..Entry::new(query.direction.into(), names, pin)
        }
    }

    fn invited_entry(&self, invitee: &Invitee) -> Entry {
        let known = self.query.known;
        let free = |label: &&Name| !known.has_pin_named(label);
        let label = match invitee.label.as_ref().filter(free) {
            Some(label) => label.clone(),
            None => free_label(known, self.peer()),
        };
        let mut entry = self.pin_entry(Names::one(label), Origin::Invite);
        entry.attributes.services.clone_from(&invitee.services);
        entry.attributes.roles.clone_from(&invitee.roles);
        entry.attributes.networks.clone_from(&invitee.networks);
        entry
    }

    fn changed(&self, known: &[(usize, &Entry)], succession: Option<SuccessionFault>) -> Evidence {
        let known = known.iter().filter_map(|(line, entry)| {
            Some(KnownPin {
                line: *line,
                pin: *entry.pin()?,
                origin: entry.attributes.origin,
                added: entry.attributes.added,
                confirmed: entry.attributes.confirmed.clone(),
            })
        });
        Evidence::Changed {
            name: self.dialled_name().cloned(),
            expected: self.query.expectation.id,
            known: known.collect(),
            fingerprint: self.query.chain.leaf().fingerprint,
            succession,
        }
    }

    fn unknown(&self, ca: Option<comity_certs::CaError>) -> Evidence {
        let query = self.query;
        let elsewhere = query
            .known
            .pins_matching(self.peer(), query.chain, query.direction);
        Evidence::Unknown {
            expected: query.expectation.id,
            elsewhere: elsewhere.into_iter().map(|(line, _)| line).collect(),
            ca,
        }
    }

    fn warn_of_other_names(&mut self) {
        let query = self.query;
        for (line, entry) in query
            .known
            .pins_matching(self.peer(), query.chain, query.direction)
        {
            let name = entry.display_name().cloned();
            self.warnings.push(Warning::KnownElsewhere { line, name });
        }
    }

    /// Turns the failure of a CA path into a refusal; a revoked key in the path is final.
    fn ca_failed(&mut self, refusal: CaRefusal) -> Result<Box<Refusal>, Box<Refusal>> {
        let (reason, evidence) = match refusal {
            CaRefusal::Revoked { line } => return Err(self.revoked(line)),
            CaRefusal::Stranger(error) => (Reason::Unknown, self.unknown(Some(error))),
            CaRefusal::Path(reason, error) => (reason, Evidence::Ca(error)),
            CaRefusal::Scope { reason, line } => (reason, Evidence::Scope { line }),
            CaRefusal::EntryOver { line, not_after } => {
                (Reason::Expired, Evidence::EntryExpired { line, not_after })
            }
            CaRefusal::Name { expected } => {
                (Reason::NameMismatch, Evidence::NameMismatch { expected })
            }
        };
        self.step(Rule::Ca, Outcome::Failed(reason));
        Ok(self.refusal(reason, evidence))
    }

    /// Refuses, unless the mode only records; then nothing of this peer is recorded either.
    fn contradict(&mut self, refusal: Box<Refusal>) -> Result<(), Box<Refusal>> {
        self.soften(refusal)?;
        self.contradicted = true;
        Ok(())
    }

    /// Refuses, unless the mode only records.
    fn soften(&mut self, refusal: Box<Refusal>) -> Result<(), Box<Refusal>> {
        if !self.query.mode.records_only() {
            return Err(refusal);
        }
        self.warn_of(refusal);
        Ok(())
    }

    fn warn_of(&mut self, mut refusal: Box<Refusal>) {
        // What is recorded is recorded of those who are refused.
        refusal.record = None;
        self.warnings.push(Warning::WouldRefuse(refusal));
    }

    fn refuse(&mut self, rule: Rule, reason: Reason, evidence: Evidence) -> Box<Refusal> {
        self.step(rule, Outcome::Refused(reason));
        self.refusal(reason, evidence)
    }

    fn refusal(&self, reason: Reason, evidence: Evidence) -> Box<Refusal> {
        Box::new(Refusal {
            reason,
            presented: self.peer(),
            evidence,
            record: None,
        })
    }

    fn step(&mut self, rule: Rule, outcome: Outcome) {
        self.push_step(rule, outcome, None);
    }

    fn step_with(&mut self, rule: Rule, outcome: Outcome, detail: StepDetail) {
        self.push_step(rule, outcome, Some(detail));
    }

    fn push_step(&mut self, rule: Rule, outcome: Outcome, detail: Option<StepDetail>) {
        if let Some(steps) = &mut self.steps {
            steps.push(Step {
                rule,
                outcome,
                detail,
            });
        }
    }

    /// The networks that were granted, and why others were not.
    fn show_memberships(&mut self, recognition: &Recognition) {
        if self.steps.is_none() {
            return;
        }
        for membership in &recognition.memberships {
            let detail = StepDetail::Membership(Box::new(membership.clone()));
            self.step_with(Rule::Grants, Outcome::Passed, detail);
        }
        let faults: Vec<_> = self.members().faults().cloned().collect();
        for Fault { reason, evidence } in faults {
            let detail = StepDetail::Evidence(Box::new(evidence));
            self.step_with(Rule::Grants, Outcome::Failed(reason), detail);
        }
    }
}

fn add(entry: Entry) -> Edit {
    Edit::Add(Box::new(entry))
}

/// What the peer's leaf must be for.
pub(crate) fn purpose_of(direction: Direction) -> Purpose {
    match direction {
        Direction::Dial => Purpose::Serve,
        Direction::Accept => Purpose::Dial,
    }
}

/// A label made of the peer's id, for peers that nobody named: as many groups of the id as it takes
/// to be free, the whole id in the end. A label that the peer claims is never used without the
/// operator.
pub fn free_label(known: &KnownPeers, peer: PeerId) -> Name {
    let id = peer.key_hash().to_string().to_ascii_lowercase();
    let groups: Vec<&str> = id.split('-').collect();
    let label = |count: usize| {
        Name::label(&format!("peer-{}", groups[..count].concat()))
            .expect("five letters and at most 56 of base32 are a label")
    };
    (1..groups.len())
        .map(label)
        .find(|label| !known.has_pin_named(label))
        .unwrap_or_else(|| label(groups.len()))
}
