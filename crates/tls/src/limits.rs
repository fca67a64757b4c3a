//! What a stranger may cost an acceptor before the gate has recognised anybody.
//!
//! A handshake costs us about half a millisecond of CPU, two kilobytes of answer, a socket and a
//! task. Three budgets bound that:
//!
//! - **time**: a handshake with everything up to ACCEPT has [`Limits::handshake_timeout`];
//! - **number**: at most [`Limits::pending`] handshakes at once, [`Limits::pending_per_prefix`] of
//!   them from one address prefix. When a budget is used up the *oldest* pending handshake goes,
//!   not the newest: an honest handshake takes milliseconds, so the oldest is the stalled one, and
//!   a thousand stalled connections do not delay an honest one;
//! - **rate**: new connections per prefix and second, in a sketch of constant size.
//!
//! A connection that stays open to exchange bundles ([`crate::network`]) needs a recognised peer, and
//! costs a socket, a task and at most two bundles in flight: [`MAX_SUBSCRIBERS`] of them at once, and
//! [`MAX_SUBSCRIBERS_PER_PEER`] of one peer.
//!
//! A prefix is what one party typically controls: a /24 of IPv4, a /48 of IPv6.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use comity_identity::PeerId;
use tokio_util::sync::CancellationToken;

/// Connections of one endpoint that stay open to exchange bundles. A network of any size does with
/// fewer: news are relayed by whoever has them. At worst each holds one megabyte in each direction.
pub(crate) const MAX_SUBSCRIBERS: usize = 256;

/// Of these, connections of one peer: one that is used, one that it opened after it lost that, and
/// as many again for a second process.
pub(crate) const MAX_SUBSCRIBERS_PER_PEER: usize = 4;

/// The budgets of an acceptor.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the first byte to ACCEPT or REFUSE. Default 10 s: ten round trips of the slowest
    /// satellite link.
    pub handshake_timeout: Duration,
    /// Handshakes in flight. Default 512: about 25 MB of buffers at worst.
    pub pending: usize,
    /// Handshakes in flight from one prefix. Default 64.
    pub pending_per_prefix: usize,
    /// New connections per second from one prefix, sustained. Default 50: a tenth of a core.
    pub rate_per_prefix: f64,
    /// New connections at once from one prefix after a pause. Default 200: a rack that reboots.
    pub burst_per_prefix: f64,
    /// Whether loopback is exempt from the rate. Default true: local processes, such as a load
    /// balancer in front, are not strangers.
    pub exempt_loopback: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            pending: 512,
            pending_per_prefix: 64,
            rate_per_prefix: 50.0,
            burst_per_prefix: 200.0,
            exempt_loopback: true,
        }
    }
}

/// Hands out places for pending handshakes.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: Limits,
    pending: Arc<Mutex<VecDeque<Slot>>>,
    next_id: AtomicU64,
    rates: Mutex<RateSketch>,
}

#[derive(Debug)]
struct Slot {
    id: u64,
    prefix: u64,
    evicted: CancellationToken,
}

/// A place for one pending handshake; dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Place {
    id: u64,
    pending: Arc<Mutex<VecDeque<Slot>>>,
    /// Cancelled when the place was needed for somebody newer.
    pub(crate) evicted: CancellationToken,
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            pending: Arc::default(),
            next_id: AtomicU64::new(0),
            rates: Mutex::new(RateSketch::new()),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A place for a connection from `remote`, or `None` when its prefix comes too often.
    pub(crate) fn admit(&self, remote: Option<IpAddr>, now: Instant) -> Option<Place> {
        let prefix = remote.map_or(0, prefix_of);
        let exempt = remote.is_none_or(|ip| self.limits.exempt_loopback && ip.is_loopback());
        if !exempt && !lock(&self.rates).allow(prefix, &self.limits, now) {
            return None;
        }
        let mut pending = lock(&self.pending);
        let crowded =
            pending.iter().filter(|s| s.prefix == prefix).count() >= self.limits.pending_per_prefix;
        if crowded {
            let oldest = pending.iter().position(|s| s.prefix == prefix);
            evict(&mut pending, oldest);
        } else if pending.len() >= self.limits.pending {
            evict(&mut pending, Some(0));
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let evicted = CancellationToken::new();
        pending.push_back(Slot {
            id,
            prefix,
            evicted: evicted.clone(),
        });
        Some(Place {
            id,
            pending: Arc::clone(&self.pending),
            evicted,
        })
    }

    #[cfg(test)]
    fn in_flight(&self) -> usize {
        lock(&self.pending).len()
    }
}

fn evict(pending: &mut VecDeque<Slot>, position: Option<usize>) {
    if let Some(slot) = position.and_then(|p| pending.remove(p)) {
        slot.evicted.cancel();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.pending).retain(|s| s.id != self.id);
    }
}

/// Hands out seats to peers whose connections stay.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subscribers(Arc<Mutex<HashMap<PeerId, usize>>>);

/// One seat; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Seat {
    peer: PeerId,
    subscribers: Subscribers,
}

impl Subscribers {
    /// A seat for `peer`, or `None` when it or everybody has too many.
    pub(crate) fn seat(&self, peer: PeerId) -> Option<Seat> {
        let mut taken = lock(&self.0);
        let all: usize = taken.values().sum();
        let of_peer = taken.get(&peer).copied().unwrap_or(0);
        if all >= MAX_SUBSCRIBERS || of_peer >= MAX_SUBSCRIBERS_PER_PEER {
            return None;
        }
        taken.insert(peer, of_peer + 1);
        Some(Seat {
            peer,
            subscribers: self.clone(),
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Entry::Occupied(mut seats) = lock(&self.subscribers.0).entry(self.peer) {
            *seats.get_mut() -= 1;
            if *seats.get() == 0 {
                seats.remove();
            }
        }
    }
}

/// The guarded values stay consistent at every step, so a panic elsewhere does not poison them.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn prefix_of(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            u64::from(u32::from_be_bytes([0, a, b, c]))
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            1 << 63 | u64::from(a) << 32 | u64::from(b) << 16 | u64::from(c)
        }
    }
}

/// Buckets per row. Two rows of 2,048 buckets of 16 bytes: 64 kB, whoever comes.
const BUCKETS: usize = 2048;

/// Token buckets indexed by two keyed hashes of the prefix. A connection passes when either of its
/// two buckets has a token, so that an honest prefix is only held back when it collides with
/// attackers in both rows; the keys are random, so nobody can arrange that.
#[derive(Debug)]
struct RateSketch {
    keys: [RandomState; 2],
    rows: [Vec<Bucket>; 2],
    start: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Tokens taken and not yet refilled.
    used: f64,
    /// Seconds after the sketch's start of the last change.
    at: f64,
}

impl RateSketch {
    fn new() -> Self {
        Self {
            keys: [RandomState::new(), RandomState::new()],
            rows: [
                vec![Bucket::default(); BUCKETS],
                vec![Bucket::default(); BUCKETS],
            ],
            start: None,
        }
    }

    fn allow(&mut self, prefix: u64, limits: &Limits, now: Instant) -> bool {
        let start = *self.start.get_or_insert(now);
        let at = now.saturating_duration_since(start).as_secs_f64();
        let mut allowed = false;
        for (key, row) in self.keys.iter().zip(&mut self.rows) {
            let index = usize::try_from(key.hash_one(prefix) % BUCKETS as u64).unwrap_or(0);
            let bucket = &mut row[index];
            let refilled = (at - bucket.at) * limits.rate_per_prefix;
            bucket.used = (bucket.used - refilled).max(0.0);
            bucket.at = at;
            if bucket.used + 1.0 <= limits.burst_per_prefix {
                bucket.used += 1.0;
                allowed = true;
            }
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    fn small() -> Limits {
        Limits {
            pending: 4,
            pending_per_prefix: 2,
            rate_per_prefix: 1.0,
            burst_per_prefix: 3.0,
            ..Limits::default()
        }
    }

    #[test]
    fn a_prefix_gets_its_burst_then_its_rate() {
        let admission = Admission::new(small());
        let start = Instant::now();
        for _ in 0..3 {
            assert!(admission.admit(ip("192.0.2.1"), start).is_some());
        }
        assert!(admission.admit(ip("192.0.2.200"), start).is_none());
        assert!(admission.admit(ip("198.51.100.1"), start).is_some());
        let later = start + Duration::from_secs(1);
        assert!(admission.admit(ip("192.0.2.1"), later).is_some());
        assert!(admission.admit(ip("192.0.2.1"), later).is_none());
    }

    #[test]
    fn a_v6_site_is_one_prefix_and_mapped_v4_is_v4() {
        assert_eq!(
            prefix_of("2001:db8:1:2::3".parse().expect("v6")),
            prefix_of("2001:db8:1:ffff::1".parse().expect("v6"))
        );
        assert_ne!(
            prefix_of("2001:db8:1::".parse().expect("v6")),
            prefix_of("2001:db8:2::".parse().expect("v6"))
        );
        assert_eq!(
            prefix_of("::ffff:192.0.2.1".parse().expect("v6")),
            prefix_of("192.0.2.9".parse().expect("v4"))
        );
    }

    #[test]
    fn the_oldest_handshake_of_a_crowded_prefix_makes_room() {
        let admission = Admission::new(small());
        let now = Instant::now();
        let first = admission.admit(ip("127.0.0.1"), now).expect("room");
        let other = admission.admit(ip("10.0.0.1"), now).expect("room");
        let second = admission.admit(ip("127.0.0.1"), now).expect("room");
        let third = admission.admit(ip("127.0.0.2"), now).expect("evicts");
        assert!(first.evicted.is_cancelled());
        assert!(!other.evicted.is_cancelled());
        assert!(!second.evicted.is_cancelled());
        assert!(!third.evicted.is_cancelled());
        drop(first);
        assert_eq!(admission.in_flight(), 3);
    }

    fn peer(number: usize) -> PeerId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        PeerId::Node(comity_identity::NodeId::from_bytes(bytes))
    }

    #[test]
    fn a_peer_subscribes_four_times_and_no_more() {
        let subscribers = Subscribers::default();
        let seats: Vec<_> = (0..MAX_SUBSCRIBERS_PER_PEER)
            .map(|_| subscribers.seat(peer(1)).expect("a seat"))
            .collect();
        assert!(subscribers.seat(peer(1)).is_none());
        assert!(subscribers.seat(peer(2)).is_some());
        drop(seats);
        assert!(subscribers.seat(peer(1)).is_some());
    }

    #[test]
    fn subscribers_are_bounded_over_all_peers() {
        let subscribers = Subscribers::default();
        let mut seats: Vec<_> = (0..MAX_SUBSCRIBERS)
            .map(|number| subscribers.seat(peer(number)).expect("a seat"))
            .collect();
        assert!(subscribers.seat(peer(MAX_SUBSCRIBERS)).is_none());
        drop(seats.pop());
        assert!(subscribers.seat(peer(MAX_SUBSCRIBERS)).is_some());
        drop(seats);
        assert!(lock(&subscribers.0).is_empty());
    }

    #[test]
    fn the_total_is_bounded_over_all_prefixes() {
        let admission = Admission::new(small());
        let now = Instant::now();
        let places: Vec<Place> = (0..9)
            .map(|n| {
                admission
                    .admit(ip(&format!("10.0.{n}.1")), now)
                    .expect("own rate")
            })
            .collect();
        assert_eq!(admission.in_flight(), 4);
        let evicted = places.iter().filter(|p| p.evicted.is_cancelled()).count();
        assert_eq!(evicted, 5);
        assert!(!places[8].evicted.is_cancelled());
        drop(places);
        assert_eq!(admission.in_flight(), 0);
    }
}
