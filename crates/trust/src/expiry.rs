//! What ends, and when: for `comity trust check`.

use comity_identity::{KeyHash, NodeId, UnixTime};
use comity_record::{Freshness, KeyRole, KeyState};

use crate::entry::{CaState, Entry, What};
use crate::known_peers::KnownPeers;
use crate::name::Name;
use crate::networks::{Authority, Networks};

/// Who listed a CA or an entry with an end is told this long before.
pub const WARN_BEFORE: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 3600);

/// Something that ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expiry {
    /// Its last second.
    pub at: UnixTime,
    /// What ends.
    pub what: Ending,
    /// Whether somebody must do something about it.
    pub severity: Severity,
}

/// What ends.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Ending {
    /// The certificate of a listed CA, or its line, whichever ends first.
    Ca {
        /// The line.
        line: usize,
        /// Its subject, escaped and bounded.
        subject: String,
        /// Where it stands in a rotation.
        state: CaState,
    },
    /// An entry with an end that somebody set.
    Entry {
        /// The line.
        line: usize,
        /// Its first name.
        name: Option<Name>,
    },
    /// The overlap of a key that named a successor.
    Overlap {
        /// The line.
        line: usize,
        /// Its first name.
        name: Option<Name>,
        /// The successor.
        successor: NodeId,
    },
    /// The bundle of an authority.
    Bundle {
        /// The network.
        network: NodeId,
        /// What it is called here.
        label: String,
        /// How fresh it is.
        freshness: Freshness,
    },
    /// The certificate of one of an authority's keys, or its retirement, whichever ends first.
    AuthorityKey {
        /// The network.
        network: NodeId,
        /// What it is called here.
        label: String,
        /// The key.
        key: KeyHash,
        /// What it is for.
        role: KeyRole,
        /// Where it is in its life.
        state: KeyState,
    },
    /// Our own membership of a network.
    Membership {
        /// The network.
        network: NodeId,
        /// What it is called here.
        label: String,
    },
}

/// Whether somebody must do something about an [`Expiry`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// It ends as it should: nothing depends on it by then, or there is plenty of time.
    Notice,
    /// It ends soon, or was not renewed when it should have been.
    Warning,
    /// It is over, and what depends on it is refused.
    Over,
}

impl Severity {
    /// `notice`, `warning` or `over`.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Over => "over",
        }
    }
}

/// Our own membership of a network, as the store has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnMembership {
    /// The network.
    pub network: NodeId,
    /// First second of the cross-certificate.
    pub not_before: UnixTime,
    /// Its last second.
    pub not_after: UnixTime,
}

/// Everything that we remember or hold and that ends, by its time.
pub fn expiries(
    known: &KnownPeers,
    networks: &Networks,
    own: &[OwnMembership],
    now: UnixTime,
) -> Vec<Expiry> {
    let mut found = Vec::new();
    for (line, entry) in known.entries() {
        found.extend(of_entry(known, line, entry, now));
    }
    for authority in networks.iter() {
        found.push(of_bundle(authority, now));
        found.extend(of_keys(authority, now));
    }
    for membership in own {
        found.push(of_membership(membership, networks, now));
    }
    found.sort_by_key(|expiry| expiry.at);
    found
}

fn of_entry(known: &KnownPeers, line: usize, entry: &Entry, now: UnixTime) -> Option<Expiry> {
    let set = entry.attributes.not_after;
    let name = entry.display_name().cloned();
    match (&entry.what, entry.attributes.successor) {
        (What::Ca(anchor), _) if known.revocation_of_anchor(anchor).is_none() => {
            let at = set.map_or(anchor.not_after(), |end| end.min(anchor.not_after()));
            let state = entry.attributes.state.unwrap_or_default();
            // Whoever retires a CA has set its end, and something else in its place.
            let severity = match state {
                CaState::Retiring => Severity::Notice,
                CaState::Next | CaState::Active => before(at, now),
            };
            let subject = anchor.subject().to_owned();
            let what = Ending::Ca {
                line,
                subject,
                state,
            };
            Some(Expiry { at, what, severity })
        }
        (What::Pin(_), Some(successor)) => set.map(|at| Expiry {
            at,
            what: Ending::Overlap {
                line,
                name,
                successor,
            },
            severity: Severity::Notice,
        }),
        (What::Pin(_), None) => set.map(|at| Expiry {
            at,
            what: Ending::Entry { line, name },
            severity: before(at, now),
        }),
        _ => None,
    }
}

fn of_bundle(authority: &Authority, now: UnixTime) -> Expiry {
    let bundle = &authority.bundle;
    let freshness = bundle.standing(now);
    Expiry {
        at: bundle.expires(),
        what: Ending::Bundle {
            network: authority.id(),
            label: authority.label.clone(),
            freshness,
        },
        severity: match freshness {
            Freshness::Fresh => Severity::Notice,
            // Made every day: at half of its life nobody has for a fortnight.
            Freshness::PastHalf | Freshness::NotYetValid => Severity::Warning,
            Freshness::Expired => Severity::Over,
        },
    }
}

fn of_keys(authority: &Authority, now: UnixTime) -> impl Iterator<Item = Expiry> {
    let keys = authority.bundle.charter().keys().iter();
    let living = keys.filter(|key| key.state != KeyState::Revoked);
    living.map(move |key| {
        let certificate = key.certificate.not_after();
        let (at, severity) = match key.state {
            KeyState::Retiring { until } => (until.min(certificate), Severity::Notice),
            _ => (certificate, before(certificate, now)),
        };
        let what = Ending::AuthorityKey {
            network: authority.id(),
            label: authority.label.clone(),
            key: key.key(),
            role: key.role,
            state: key.state,
        };
        Expiry { at, what, severity }
    })
}

/// Memberships are renewed at two thirds of their life; later than that something is wrong.
fn of_membership(own: &OwnMembership, networks: &Networks, now: UnixTime) -> Expiry {
    let at = own.not_after;
    let life = own.not_before.until(at);
    let severity = if at < now {
        Severity::Over
    } else if now.until(at) < life / 4 {
        Severity::Warning
    } else {
        Severity::Notice
    };
    let label = networks.get(&own.network).map(|known| known.label.clone());
    let what = Ending::Membership {
        network: own.network,
        label: label.unwrap_or_else(|| own.network.to_string()),
    };
    Expiry { at, what, severity }
}

fn before(at: UnixTime, now: UnixTime) -> Severity {
    if at < now {
        Severity::Over
    } else if now.until(at) <= WARN_BEFORE {
        Severity::Warning
    } else {
        Severity::Notice
    }
}
