//! Who asks to be known: the queue of an acceptor in mode `enroll`.
//!
//! Everybody on the internet may knock, so the queue is built for the flood:
//!
//! - It holds [`MAX_WAITING`] requests. When it is full, new ones are refused and the old ones
//!   stay: if the oldest went, a flood would push out the one that the operator is waiting for.
//! - One address prefix has [`MAX_PER_PREFIX`] of them and one network [`MAX_PER_NETWORK`], so that a
//!   flood from one place leaves room for everybody else, also where that place has as many prefixes
//!   as it likes.
//! - A request ends after [`LIFETIME`], however often it is repeated, so no one keeps a place for ever.
//! - When [`CROWDED`] requests wait, a new one takes the place of one that is older than
//!   [`CROWDED_LIFETIME`], of these the one that has not come back for longest. So a flood blocks the
//!   queue for a day and not for a week, and no flood pushes out a request within its first day.
//! - A repeated request changes the file at most once in [`REPEAT_AFTER`]; in between it costs
//!   neither a lock nor a write. New requests are bounded by the places. So a stranger cannot make
//!   us write at the rate of their packets.
//! - What a stranger says of itself is cut and escaped before it is stored, and is marked as a claim.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use comity_identity::{PeerId, UnixTime};
use serde::{Deserialize, Serialize};

use crate::audit::{AuditLog, Deed};
use crate::claim::harmless;
use crate::error::StoreError;
use crate::home::{Home, HomeFile};
use crate::ledger::Ledger;

/// Requests in the queue: more than a person would go through, in a file of a few hundred kilobytes.
pub const MAX_WAITING: usize = 256;

/// Requests from one IPv4 /24 or IPv6 /48, what one customer usually gets: a sixteenth of the
/// queue.
pub const MAX_PER_PREFIX: usize = 16;

/// Requests from one IPv4 /16 or IPv6 /32: a quarter of the queue. A provider gets a /32, and whoever
/// rents a /44 of it has sixteen /48s, enough to fill the queue alone.
pub const MAX_PER_NETWORK: usize = 64;

/// From this many waiting requests on, three quarters of the queue, the old ones make room.
pub const CROWDED: usize = MAX_WAITING / 4 * 3;

/// How long a request has its place for certain in a crowded queue: the operator looks once a day.
pub const CROWDED_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Remembered refusals by the operator; the oldest goes when there are more. It is then asked about
/// again, which is the worst that can happen.
pub const MAX_DENIED: usize = 256;

/// How long a request, or the refusal of one, is kept; but see [`CROWDED_LIFETIME`].
pub const LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How often a repeated request is written down.
pub const REPEAT_AFTER: Duration = Duration::from_secs(60);

/// Characters kept of a claimed label and of the name of a service.
const MAX_CLAIM: usize = 64;

/// The queue of a home.
#[derive(Debug)]
pub struct Pending {
    ledger: Ledger<PendingRequest>,
    audit: AuditLog,
}

/// A stranger who completed a handshake and is not known.
#[derive(Clone, Copy, Debug)]
pub struct Knock<'a> {
    /// The key that the stranger proved to own.
    pub peer: PeerId,
    /// What it calls itself.
    pub label: Option<&'a str>,
    /// Where it came from.
    pub address: IpAddr,
    /// Which service it asked for.
    pub service: Option<&'a str>,
}

/// One request in the queue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingRequest {
    /// Whose request it is.
    #[serde(with = "crate::as_text")]
    pub peer: PeerId,
    /// What it called itself first, escaped. A claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_label: Option<String>,
    /// The service it asked for first, escaped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Where it came from first.
    pub address: IpAddr,
    /// When it came first.
    #[serde(with = "crate::as_text")]
    pub first_seen: UnixTime,
    /// When it came last, within [`REPEAT_AFTER`].
    #[serde(with = "crate::as_text")]
    pub last_seen: UnixTime,
    /// In how many periods of [`REPEAT_AFTER`] it came.
    pub count: u64,
    /// The operator said no.
    #[serde(default)]
    pub denied: bool,
}

/// What became of a [`Knock`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// It is in the queue now.
    Queued,
    /// It was in the queue already.
    Waiting,
    /// The operator has said no.
    Denied,
    /// There are [`MAX_WAITING`] requests, and none of them makes room.
    QueueFull,
    /// There are [`MAX_PER_PREFIX`] requests from its address prefix, or [`MAX_PER_NETWORK`] from its
    /// network.
    PrefixFull,
}

impl Pending {
    /// The queue of `home`; the operator's refusals are logged on behalf of `command`.
    pub fn new(home: &Home, command: &str) -> Self {
        Self {
            ledger: Ledger::new(home, HomeFile::Pending),
            audit: AuditLog::new(home, command),
        }
    }

    /// Enters a request, durably, or says why not.
    ///
    /// # Errors
    /// When the queue cannot be read or written; the request is then not in it.
    pub fn ask(&self, knock: &Knock<'_>, now: UnixTime) -> Result<Asked, StoreError> {
        if let Standing::Settled(asked) = Standing::of(&self.ledger.entries()?, knock, now) {
            return Ok(asked);
        }
        self.ledger.update(|_, requests| {
            requests.retain(|request| request.lives(now));
            Ok(match Standing::of(requests, knock, now) {
                Standing::Settled(asked) => asked,
                Standing::New { instead_of } => {
                    if let Some(index) = instead_of {
                        requests.remove(index);
                    }
                    requests.push(PendingRequest::new(knock, now));
                    Asked::Queued
                }
                Standing::Repeated(index) => {
                    let request = &mut requests[index];
                    request.last_seen = now;
                    request.count = request.count.saturating_add(1);
                    Asked::Waiting
                }
            })
        })
    }

    /// The requests that wait for an answer, oldest first.
    ///
    /// # Errors
    /// When the queue cannot be read.
    pub fn list(&self, now: UnixTime) -> Result<Vec<PendingRequest>, StoreError> {
        let requests = self.ledger.entries()?;
        Ok(requests.iter().filter(|r| r.waits(now)).cloned().collect())
    }

    /// Removes a request, or the refusal of one: after its peer became known, or to let it
    /// ask again. Returns what was there.
    ///
    /// # Errors
    /// When the queue cannot be read or written.
    pub fn remove(&self, peer: &PeerId) -> Result<Option<PendingRequest>, StoreError> {
        self.ledger.update(|_, requests| {
            let index = requests.iter().position(|r| r.peer == *peer);
            Ok(index.map(|index| requests.remove(index)))
        })
    }

    /// Refuses a request, so that it leaves the list and may not come back for [`LIFETIME`]. Returns
    /// it, or `None` if that peer does not wait.
    ///
    /// # Errors
    /// When the queue cannot be read or written, or the audit log not be written.
    pub fn deny(&self, peer: &PeerId, now: UnixTime) -> Result<Option<PendingRequest>, StoreError> {
        self.ledger.update(|lock, requests| {
            let waiting = |r: &PendingRequest| r.peer == *peer && r.waits(now);
            let Some(index) = requests.iter().position(waiting) else {
                return Ok(None);
            };
            let request = requests.remove(index);
            self.audit.append(
                lock,
                &Deed {
                    action: "deny".into(),
                    peer: Some(*peer),
                    detail: request.claimed_label.clone().unwrap_or_default(),
                },
            )?;
            requests.push(PendingRequest {
                denied: true,
                // From now on, this is when the refusal began.
                first_seen: now,
                last_seen: now,
                ..request.clone()
            });
            forget_oldest_denied(requests);
            Ok(Some(request))
        })
    }
}

impl PendingRequest {
    fn new(knock: &Knock<'_>, now: UnixTime) -> Self {
        Self {
            peer: knock.peer,
            claimed_label: knock.label.map(|label| harmless(label, MAX_CLAIM)),
            service: knock.service.map(|service| harmless(service, MAX_CLAIM)),
            address: knock.address.to_canonical(),
            first_seen: now,
            last_seen: now,
            count: 1,
            denied: false,
        }
    }

    fn waits(&self, now: UnixTime) -> bool {
        !self.denied && self.lives(now)
    }

    fn lives(&self, now: UnixTime) -> bool {
        now < self.first_seen + LIFETIME
    }
}

/// What a knock calls for.
enum Standing {
    /// Nothing needs to be written.
    Settled(Asked),
    /// A new request, perhaps in the place of the one at this index.
    New { instead_of: Option<usize> },
    /// A newer time on the request at this index.
    Repeated(usize),
}

impl Standing {
    fn of(requests: &[PendingRequest], knock: &Knock<'_>, now: UnixTime) -> Self {
        let known = requests
            .iter()
            .position(|r| r.peer == knock.peer && r.lives(now));
        if let Some(index) = known {
            let request = &requests[index];
            if request.denied {
                return Self::Settled(Asked::Denied);
            }
            // A clock that went back does not write either.
            if now < request.last_seen + REPEAT_AFTER {
                return Self::Settled(Asked::Waiting);
            }
            return Self::Repeated(index);
        }
        if place_is_taken(requests, knock.address, now) {
            return Self::Settled(Asked::PrefixFull);
        }
        let waiting = requests.iter().filter(|r| r.waits(now)).count();
        let instead_of = match waiting {
            ..CROWDED => None,
            _ => first_to_go(requests, now),
        };
        if waiting >= MAX_WAITING && instead_of.is_none() {
            return Self::Settled(Asked::QueueFull);
        }
        Self::New { instead_of }
    }
}

/// Whether the address comes from a place that has its share of the queue.
fn place_is_taken(requests: &[PendingRequest], address: IpAddr, now: UnixTime) -> bool {
    let taken = |place: fn(IpAddr) -> IpAddr, limit| {
        let same = |r: &&PendingRequest| r.waits(now) && place(r.address) == place(address);
        requests.iter().filter(same).count() >= limit
    };
    taken(prefix, MAX_PER_PREFIX) || taken(network, MAX_PER_NETWORK)
}

/// The request that makes room in a crowded queue, if there is one.
fn first_to_go(requests: &[PendingRequest], now: UnixTime) -> Option<usize> {
    let had_its_day = |r: &PendingRequest| r.waits(now) && now >= r.first_seen + CROWDED_LIFETIME;
    requests
        .iter()
        .enumerate()
        .filter(|(_, request)| had_its_day(request))
        .min_by_key(|(_, request)| request.last_seen)
        .map(|(index, _)| index)
}

fn forget_oldest_denied(requests: &mut Vec<PendingRequest>) {
    // Refusals are appended, so the first is the oldest.
    let denied = requests.iter().filter(|r| r.denied).count();
    if denied > MAX_DENIED
        && let Some(oldest) = requests.iter().position(|r| r.denied)
    {
        requests.remove(oldest);
    }
}

/// What one customer usually gets: the first 24 (IPv4) or 48 (IPv6) bits.
fn prefix(address: IpAddr) -> IpAddr {
    first_bits(address, 24, 48)
}

/// What one provider usually gets: the first 16 (IPv4) or 32 (IPv6) bits.
fn network(address: IpAddr) -> IpAddr {
    first_bits(address, 16, 32)
}

/// The address with all but its first bits cleared.
fn first_bits(address: IpAddr, v4_bits: u32, v6_bits: u32) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & !(u32::MAX >> v4_bits)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !(u128::MAX >> v6_bits)).into(),
    }
}
