//! The authorities that a node knows: those whose cross-certificates recognise members here, and
//! those of other organisations whose withdrawals count for what they issued.

use std::sync::Arc;

use comity_certs::{AuthorityKind, Issued, Metadata};
use comity_identity::{KeyHash, NodeId, UnixTime};
use comity_record::{Bundle, Freshness, KeyState, Withdrawn};

/// What an authority is to this node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Standing {
    /// Its cross-certificates recognise members here: ours, and those of networks that we joined.
    Recognised,
    /// It recognises nobody here. What it withdraws and which of its keys it revokes counts for the
    /// certificates that its own keys issued.
    Followed,
}

impl Standing {
    /// `recognised` or `followed`.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Recognised => "recognised",
            Self::Followed => "followed",
        }
    }
}

/// An authority as this node knows it.
#[derive(Clone, Debug)]
pub struct Authority {
    /// What the network is called here. The identity is that of its bundle.
    pub label: String,
    /// What it is to this node.
    pub standing: Standing,
    /// The last good one.
    pub bundle: Arc<Bundle>,
    /// What it withdrew in bundles before this one.
    pub withdrawn: Arc<Withdrawn>,
    /// Since when two of its bundles or charters contradict each other. It recognises no new member
    /// until a person decides.
    pub forked: Option<UnixTime>,
}

/// Why an authority recognises nobody at the moment, or one of its keys does not count.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum AuthorityDoubt {
    /// Its bundle is over. Who is connected stays, and withdrawals go on.
    BundleExpired {
        /// Its last second.
        expires: UnixTime,
    },
    /// Its bundle is from the future.
    BundleNotYetValid {
        /// When it says that it was made.
        issued: UnixTime,
    },
    /// Two of its bundles or charters contradict each other.
    Forked {
        /// Since when.
        since: UnixTime,
    },
    /// The key that issued the certificate is none of its own, or not any more.
    KeyUnknown {
        /// That key.
        key: KeyHash,
    },
    /// It revoked the key that issued the certificate.
    KeyRevoked {
        /// That key.
        key: KeyHash,
    },
    /// The key that issued the certificate was retired, and the overlap is over.
    KeyRetired {
        /// That key.
        key: KeyHash,
        /// The last second of the overlap.
        until: UnixTime,
    },
    /// The certificate that it lists for the key that issued the certificate does not let that key
    /// say this. The peer may still show a wider one, from before.
    KeyLimited {
        /// That key.
        key: KeyHash,
    },
}

impl Authority {
    /// The id of its network.
    pub fn id(&self) -> NodeId {
        self.bundle.network()
    }

    /// Whether it recognises somebody who was not recognised before.
    ///
    /// # Errors
    /// When its bundle is too old or from the future, or contradicts another one.
    pub fn recognises_newcomers(&self, now: UnixTime) -> Result<(), AuthorityDoubt> {
        if let Some(since) = self.forked {
            return Err(AuthorityDoubt::Forked { since });
        }
        match self.bundle.standing(now) {
            Freshness::Fresh | Freshness::PastHalf => Ok(()),
            Freshness::Expired => Err(AuthorityDoubt::BundleExpired {
                expires: self.bundle.expires(),
            }),
            Freshness::NotYetValid => Err(AuthorityDoubt::BundleNotYetValid {
                issued: self.bundle.issued(),
            }),
        }
    }

    /// Whether what the key signed counts at the time `now`.
    ///
    /// # Errors
    /// When it is none of the authority's keys, or one that it gave up.
    pub fn key_counts(&self, key: KeyHash, now: UnixTime) -> Result<(), AuthorityDoubt> {
        match self.bundle.key_state(&key) {
            None => Err(AuthorityDoubt::KeyUnknown { key }),
            Some(KeyState::Revoked) => Err(AuthorityDoubt::KeyRevoked { key }),
            Some(KeyState::Retiring { until }) if until < now => {
                Err(AuthorityDoubt::KeyRetired { key, until })
            }
            Some(KeyState::Next | KeyState::Active | KeyState::Retiring { .. }) => Ok(()),
        }
    }

    /// The last second for which what the key signed counts, as far as its state in the charter says:
    /// the end of its overlap if it is being retired. A connection must not outlive it, since nothing
    /// in the bundle changes at that second which would have it looked at again.
    pub fn key_ends(&self, key: KeyHash) -> UnixTime {
        match self.bundle.key_state(&key) {
            Some(KeyState::Retiring { until }) => until,
            _ => UnixTime::NEVER,
        }
    }

    /// Whether the key may attest `said` at the time `now`, by the certificate that the authority
    /// lists for it today. Returns the last second of that certificate.
    ///
    /// # Errors
    /// When it is none of its keys, its certificate is over, or allows something else.
    pub fn key_attests(
        &self,
        key: KeyHash,
        said: Option<&Metadata>,
        now: UnixTime,
    ) -> Result<UnixTime, AuthorityDoubt> {
        let Some(listed) = self.bundle.key(&key) else {
            return Err(AuthorityDoubt::KeyUnknown { key });
        };
        let until = listed.details().not_after();
        if until < now {
            return Err(AuthorityDoubt::KeyRetired { key, until });
        }
        let is_within = |allowed: &[String], found: &[String]| {
            allowed.is_empty() || found.iter().all(|name| allowed.contains(name))
        };
        let is_allowed = match listed.details().kind() {
            AuthorityKind::Root | AuthorityKind::Rollover => true,
            AuthorityKind::Issuing {
                path_length, scope, ..
            } => {
                let fits = |said: &Metadata| {
                    is_within(scope.networks(), said.networks())
                        && is_within(scope.roles(), said.roles())
                };
                *path_length > 0 && said.is_none_or(fits)
            }
        };
        match is_allowed {
            true => Ok(until),
            false => Err(AuthorityDoubt::KeyLimited { key }),
        }
    }

    /// Whether it withdrew a certificate, or any for its key, in whatever bundle. What its keys did
    /// not issue is not for it to withdraw: that is for the caller to ask.
    pub fn withdrew(&self, issued: &Issued) -> bool {
        let Issued {
            issuer_key,
            serial,
            key,
        } = issued;
        self.withdrawn.contains(issuer_key, serial, key)
            || self.bundle.is_withdrawn(issuer_key, serial, key)
    }
}

/// Every authority that counts: an immutable snapshot. Empty by default, and cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    authorities: Option<Arc<[Authority]>>,
}

impl Networks {
    /// No authority at all.
    pub const fn empty() -> Self {
        Self { authorities: None }
    }

    /// These authorities. Of two for one network only the first counts; of two with one label,
    /// neither is found by it: a label must not mean the one today and the other tomorrow.
    pub fn new(authorities: Vec<Authority>) -> Self {
        let mut kept: Vec<Authority> = Vec::with_capacity(authorities.len());
        for authority in authorities {
            if !kept.iter().any(|known| known.id() == authority.id()) {
                kept.push(authority);
            }
        }
        Self {
            authorities: Some(kept.into()),
        }
    }

    /// Every authority, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &Authority> {
        self.authorities.iter().flat_map(|all| all.iter())
    }

    /// Those whose cross-certificates recognise members.
    pub fn recognised(&self) -> impl Iterator<Item = &Authority> {
        self.iter()
            .filter(|authority| authority.standing == Standing::Recognised)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The authority of a network.
    pub fn get(&self, network: &NodeId) -> Option<&Authority> {
        self.iter().find(|authority| authority.id() == *network)
    }

    /// The authority that is called so here, if there is exactly one.
    pub fn by_label(&self, label: &str) -> Option<&Authority> {
        let mut named = self.iter().filter(|authority| authority.label == label);
        named.next().filter(|_| named.next().is_none())
    }

    /// Whether a word may be granted as a network by these authorities only: the label of one of
    /// them, and the id of any network. Whoever writes `networks=` on a line, or issues leaves below
    /// a listed CA, says nothing about their members.
    pub fn reserves(&self, word: &str) -> bool {
        self.iter().any(|authority| authority.label == word) || word.parse::<NodeId>().is_ok()
    }

    /// The authorities whose word counts for what `key` issued, where it is not about their own
    /// members. Nobody but its own network speaks about a founding root. Another key may be listed by
    /// several, since each of them has the word of its holder; any that says it is lost is believed.
    pub(crate) fn owners(&self, key: KeyHash) -> impl Iterator<Item = &Authority> {
        let founded = self.get(&NodeId::from_bytes(*key.as_bytes()));
        let claimed = self
            .iter()
            .filter(move |authority| founded.is_none() && authority.bundle.key(&key).is_some());
        founded.into_iter().chain(claimed)
    }
}
