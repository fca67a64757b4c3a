//! How many tunnels a process may hold open.
//!
//! Each takes two descriptors. A process that has used up its descriptors can neither accept nor
//! look at its own files, and would not even notice that a peer was revoked; so tunnels get a part
//! of the descriptors, and one peer a part of the tunnels.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comity_identity::PeerId;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors kept for files, listeners, the log and the runtime.
const RESERVE: u64 = 128;

/// Most tunnels, whatever the system allows: at some forty kilobytes each, under a gigabyte.
const MOST_TUNNELS: u64 = 20_000;

/// What a process without a known limit is taken to have.
const USUAL_DESCRIPTORS: u64 = 1024;

/// How much a server takes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Handshakes in flight, at one descriptor each.
    pub pending: usize,
    /// Open tunnels.
    pub tunnels: usize,
    /// Open tunnels of one peer: half of all, so that nobody shuts out everybody else.
    pub per_peer: usize,
}

impl Capacity {
    /// Raises the process's soft limit of descriptors to its hard one, and shares them out.
    pub fn of_process() -> Self {
        let descriptors = match getrlimit(Resource::RLIMIT_NOFILE) {
            Ok((soft, hard)) if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() => {
                hard.max(soft)
            }
            Ok((soft, _)) => soft,
            Err(_) => USUAL_DESCRIPTORS,
        };
        Self::of_descriptors(descriptors)
    }

    fn of_descriptors(descriptors: u64) -> Self {
        let free = descriptors.saturating_sub(RESERVE);
        let pending = (free / 4).clamp(1, 512);
        let tunnels = (free.saturating_sub(pending) / 2).clamp(1, MOST_TUNNELS);
        let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Self {
            pending: count(pending),
            tunnels: count(tunnels),
            per_peer: count(tunnels.div_ceil(2)),
        }
    }
}

/// The places of open tunnels.
#[derive(Debug)]
pub(crate) struct Seats {
    capacity: Capacity,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_peer: HashMap<PeerId, usize>,
}

/// One place; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Seat {
    peer: PeerId,
    taken: Arc<Mutex<Taken>>,
}

impl Seats {
    pub(crate) fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            taken: Arc::default(),
        }
    }

    /// A place for another tunnel of `peer`, if one is free.
    pub(crate) fn take(&self, peer: PeerId) -> Option<Seat> {
        let mut taken = lock(&self.taken);
        let of_peer = taken.by_peer.get(&peer).copied().unwrap_or(0);
        if taken.total >= self.capacity.tunnels || of_peer >= self.capacity.per_peer {
            return None;
        }
        taken.total += 1;
        taken.by_peer.insert(peer, of_peer + 1);
        Some(Seat {
            peer,
            taken: Arc::clone(&self.taken),
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.total = taken.total.saturating_sub(1);
        if let Entry::Occupied(mut count) = taken.by_peer.entry(self.peer) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// The counts are consistent at every step, so a panic elsewhere does not spoil them.
fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use comity_identity::NodeId;

    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::Node(NodeId::from_bytes([n; 32]))
    }

    #[test]
    fn descriptors_are_never_promised_twice() {
        for descriptors in [0, 1, 128, 256, 1024, 4096, 1 << 20, u64::MAX] {
            let capacity = Capacity::of_descriptors(descriptors);
            let used = capacity.pending as u64 + 2 * capacity.tunnels as u64 + RESERVE;
            assert!(
                used <= descriptors.max(RESERVE + 3),
                "{descriptors}: {capacity:?}"
            );
        }
        assert_eq!(Capacity::of_descriptors(u64::MAX).tunnels, 20_000);
    }

    #[test]
    fn one_peer_leaves_room_for_others_and_seats_come_back() {
        let seats = Seats::new(Capacity {
            pending: 1,
            tunnels: 4,
            per_peer: 2,
        });
        let first = seats.take(peer(1)).expect("free");
        let _second = seats.take(peer(1)).expect("free");
        assert!(seats.take(peer(1)).is_none(), "one peer has half");
        let _third = seats.take(peer(2)).expect("free");
        let _fourth = seats.take(peer(3)).expect("free");
        assert!(seats.take(peer(4)).is_none(), "all are taken");
        drop(first);
        assert!(seats.take(peer(4)).is_some());
        assert_eq!(lock(&seats.taken).by_peer.len(), 3);
    }
}
