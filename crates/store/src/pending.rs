//! Who asks to be known: the queue of an acceptor in mode `enroll`.
//!
//! Everybody on the internet may knock, so the queue is built for the flood:
//!
//! - It holds [`MAX_WAITING`] requests. When it is full, new ones are refused and the old ones
//!   stay: if the oldest went, a flood would push out the one that the operator is waiting for.
//! - One address prefix has [`MAX_PER_PREFIX`] of them, so that a flood from one place leaves room for
//!   everybody else.
//! - A request ends after [`LIFETIME`], however often it is repeated, so no one keeps a place for ever.
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

/// Remembered refusals by the operator; the oldest goes when there are more. It is then asked about
/// again, which is the worst that can happen.
pub const MAX_DENIED: usize = 256;

/// How long a request, or the refusal of one, is kept.
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
    /// There are [`MAX_WAITING`] requests.
    QueueFull,
    /// There are [`MAX_PER_PREFIX`] requests from its address prefix.
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
                Standing::New => {
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
        Ok(requests
            .iter()
            .filter(|r| !r.denied && r.lives(now))
            .cloned()
            .collect())
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
            let waiting = |r: &PendingRequest| r.peer == *peer && !r.denied && r.lives(now);
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

    fn lives(&self, now: UnixTime) -> bool {
        now < self.first_seen + LIFETIME
    }
}

/// What a knock calls for.
enum Standing {
    /// Nothing needs to be written.
    Settled(Asked),
    /// A new request.
    New,
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
        let prefix = prefix(knock.address);
        let waiting = || requests.iter().filter(|r| !r.denied && r.lives(now));
        if waiting().count() >= MAX_WAITING {
            Self::Settled(Asked::QueueFull)
        } else if waiting()
            .filter(|r| self::prefix(r.address) == prefix)
            .count()
            >= MAX_PER_PREFIX
        {
            Self::Settled(Asked::PrefixFull)
        } else {
            Self::New
        }
    }
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

/// The address with all but its first 24 (IPv4) or 48 (IPv6) bits cleared.
fn prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & (u32::MAX << 8)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 80)).into(),
    }
}
