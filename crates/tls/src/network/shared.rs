//! Which bundles may be talked of with whom.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use comity_identity::NodeId;
use comity_store::Snapshot;
use comity_trust::{Authority, How, Recognition};

use crate::network::exchange::Holding;

/// Whether a peer is a member of a network, by a certificate that counts.
pub(crate) fn is_member(recognition: &Recognition, network: &NodeId) -> bool {
    let mut memberships = recognition.memberships.iter();
    memberships.any(|membership| membership.network == *network)
}

/// The bundles that we hold, each copied once, however many connections there are.
#[derive(Debug, Default)]
pub(crate) struct Holdings(Mutex<HashMap<NodeId, Holding>>);

impl Holdings {
    /// What may be talked of with a peer: the networks that it is in, and the one that a dial is
    /// about, if the peer is the one that was meant and not just anybody who is known.
    pub(crate) fn shared_with(
        &self,
        recognition: &Recognition,
        about: Option<NodeId>,
        snapshot: &Snapshot,
    ) -> Vec<Holding> {
        let is_meant = matches!(recognition.how, How::Pin { .. } | How::Expected);
        let about = about.filter(|_| is_meant);
        let authorities = snapshot.networks.iter();
        let mut shared: Vec<Holding> = authorities
            .filter(|authority| {
                let network = authority.bundle.network();
                about == Some(network) || is_member(recognition, &network)
            })
            .map(|authority| self.of(authority))
            .collect();
        // The one that it is about is never among those that have no room.
        shared.sort_by_key(|holding| about != Some(holding.network()));
        shared
    }

    /// The bundle of one network.
    pub(crate) fn get(&self, network: &NodeId, snapshot: &Snapshot) -> Option<Holding> {
        let authority = snapshot.networks.get(network)?;
        Some(self.of(authority))
    }

    fn of(&self, authority: &Authority) -> Holding {
        let bundle = &authority.bundle;
        let (network, charter) = (bundle.network(), bundle.charter().sequence());
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holding) = held.get(&network)
            && holding.bundle() == bundle.bytes()
        {
            return holding.clone();
        }
        let holding = Holding::new(
            network,
            charter,
            bundle.sequence(),
            Arc::from(bundle.bytes()),
        );
        held.insert(network, holding.clone());
        holding
    }
}
