//! Dialling a place where bundles are handed out, which was written down with the id of its server.
//!
//! The server may have another key by now. But whoever is let in here learns who we are, and what
//! the network's bundle says, and could keep news from us for as long as it likes. So it is not
//! enough that the peer is somebody we know: somebody who stands in the way may be a member of
//! another network of ours. It has to be the server, by its own word or by a person's.

use comity_certs::PresentedChain;
use comity_identity::{NodeId, PeerId};
use comity_record::{SuccessionChain, UnverifiedSuccessionChain};
use comity_trust::{Expectation, KnownPeers, Mode, Reason, Target};
use tokio::net::TcpStream;

use crate::dialer::{Connection, DialError, DialRequest, Dialer};

impl Dialer {
    /// Dials the place where `server` handed out bundles when somebody wrote that down, for what
    /// `request` wishes; its expectation and mode do not count.
    ///
    /// Whoever answers with another key is accepted only if it shows that `server` handed over to that
    /// key, or is pinned here under the name that `server` has.
    ///
    /// # Errors
    /// As [`Dialer::dial`].
    pub async fn dial_place(
        &self,
        (host, port): (&str, u16),
        server: NodeId,
        mut request: DialRequest,
    ) -> Result<Connection<TcpStream>, DialError> {
        request.mode = Mode::Pin;
        request.expectation = by_id(server);
        let refused = match self.dial(host, port, request.clone()).await {
            Err(refused @ DialError::Refused { .. }) => refused,
            other => return other,
        };
        let DialError::Refused { refusal, chain } = &refused else {
            return Err(refused);
        };
        if !matches!(refusal.reason, Reason::Changed | Reason::Unknown) {
            return Err(refused);
        }
        let snapshot = self.endpoint().latest().await;
        let Some(expectation) = successor(&snapshot.known, chain, server) else {
            return Err(refused);
        };
        request.expectation = expectation;
        self.dial(host, port, request).await
    }
}

fn by_id(node: NodeId) -> Expectation {
    Expectation {
        id: Some(PeerId::Node(node)),
        ..Expectation::default()
    }
}

/// Whom to expect where `server` was, and this chain was presented. Nobody proved yet to have its
/// key: the next handshake does.
fn successor(known: &KnownPeers, chain: &PresentedChain, server: NodeId) -> Option<Expectation> {
    let history = history(chain, server);
    if let Some(history) = history.filter(|history| counts(known, history, server)) {
        return Some(by_id(history.current()));
    }
    let mut pins = known.pins_of(PeerId::Node(server));
    let name = pins.find_map(|(_, entry)| entry.display_name().cloned())?;
    Some(match name.is_label() {
        true => Expectation {
            name: Some(name),
            ..Expectation::default()
        },
        false => Target::Address(name).expectation(),
    })
}

/// The verified statements by which `server` became whoever presents this chain.
fn history(chain: &PresentedChain, server: NodeId) -> Option<SuccessionChain> {
    let staple = chain.leaf().succession.as_deref()?;
    // What costs no signature comes first.
    let history = UnverifiedSuccessionChain::parse(staple).ok()?;
    if PeerId::Node(history.current()) != chain.peer_id() {
        return None;
    }
    let history = history.verify(|key| *key == server).ok()?;
    history.since(&server).is_some().then_some(history)
}

/// Whether nothing that we know speaks against the statements since `server`.
fn counts(known: &KnownPeers, history: &SuccessionChain, server: NodeId) -> bool {
    let steps = history.since(&server).unwrap_or_default();
    steps.iter().all(|step| {
        let keys = [step.old(), step.new()];
        let revoked = |key: &NodeId| known.revocation_of_key(&key.key_hash()).is_some();
        let mut lines = known.pins_of(PeerId::Node(step.old()));
        let contradicted = lines.any(|(_, entry)| {
            let attributes = &entry.attributes;
            let other = attributes.successor.is_some_and(|new| new != step.new());
            let committed = attributes
                .next
                .is_some_and(|next| next != step.new().key_hash());
            attributes.forked.is_some() || other || committed
        });
        step.network().is_none() && !keys.iter().any(revoked) && !contradicted
    })
}
