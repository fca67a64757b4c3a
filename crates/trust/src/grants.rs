//! What a recognised peer may do, and who may use a service.

use std::collections::BTreeSet;
use std::fmt;

use comity_identity::{NodeId, PeerId};
use thiserror::Error;

use crate::entry::Entry;
use crate::known_peers::KnownPeers;
use crate::membership::Membership;
use crate::name::{Name, NameError};
use crate::networks::{Authority, Networks};
use crate::reason::Reason;
use crate::verdict::Recognition;

/// Stands for every service in `for=`, and for every network or role in the scope of an authority.
pub(crate) const EVERYTHING: &str = "*";

/// What a peer may do: attested by an authority listed for it, or granted by a local entry. What
/// the peer says of itself is never in here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Grants {
    /// Services by local entries; `*` stands for all.
    pub services: BTreeSet<String>,
    /// Roles, from any source.
    pub roles: BTreeSet<String>,
    /// Networks, from any source.
    pub networks: BTreeSet<String>,
    /// Pairs of network and role that one and the same source stated. A role from one authority
    /// says nothing about the network of another.
    pub memberships: BTreeSet<(String, String)>,
}

impl Grants {
    /// Whether local entries grant this service.
    pub fn service(&self, service: &str) -> bool {
        self.services.contains(service) || self.services.contains(EVERYTHING)
    }

    /// Whether the peer is in the network, in this role if one is asked for.
    pub fn membership(&self, network: &str, role: Option<&str>) -> bool {
        match role {
            None => self.networks.contains(network),
            Some(role) => self
                .memberships
                .contains(&(network.to_owned(), role.to_owned())),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.roles.is_empty() && self.networks.is_empty()
    }

    /// Adds what a local pin grants.
    pub(crate) fn add_local(&mut self, entry: &Entry, reserved: &Networks) {
        let attributes = &entry.attributes;
        self.add_services(&attributes.services);
        let networks: Vec<&str> = attributes.networks.iter().map(String::as_str).collect();
        let roles: Vec<&str> = attributes.roles.iter().map(String::as_str).collect();
        self.add_statement(&networks, &roles, reserved);
    }

    /// Adds what an authority attests of its own network, under its label, if that means one network
    /// here, and its id.
    pub(crate) fn add_membership(&mut self, membership: &Membership, networks: &Networks) {
        let labelled = networks
            .by_label(&membership.label)
            .map(|_| membership.label.clone());
        let id = membership.network.to_string();
        for network in labelled.into_iter().chain([id]) {
            for role in &membership.roles {
                self.memberships.insert((network.clone(), role.clone()));
            }
            self.networks.insert(network);
        }
        self.roles.extend(membership.roles.iter().cloned());
    }

    pub(crate) fn add_services(&mut self, services: &[String]) {
        self.services.extend(services.iter().cloned());
    }

    /// Adds what one source states of networks that have no authority here.
    pub(crate) fn add_statement(&mut self, networks: &[&str], roles: &[&str], reserved: &Networks) {
        for network in networks.iter().filter(|word| !reserved.reserves(word)) {
            self.networks.insert((*network).to_owned());
            for role in roles {
                let membership = ((*network).to_owned(), (*role).to_owned());
                self.memberships.insert(membership);
            }
        }
        self.roles.extend(roles.iter().map(|r| (*r).to_owned()));
    }
}

/// Who may use a service: the WHO of `--allow NAME=WHO`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum AllowRule {
    /// Whoever a local entry grants the service to with `for=`. The default.
    #[default]
    Granted,
    /// The peer whose entry has this label.
    Label(Name),
    /// The peer with this id.
    Id(PeerId),
    /// Members of a network, in a role if one is given.
    Network {
        /// The network.
        network: String,
        /// The role.
        role: Option<String>,
    },
}

/// Why a WHO is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AllowRuleError {
    /// Not a label, and nothing else either.
    #[error("expected a label, a full id or network[/role]: {0}")]
    Label(#[from] NameError),
    /// A network or role without a name.
    #[error("expected network or network/role")]
    Network,
    /// Both a peer and a network have this name; guessing would let the wrong ones in.
    #[error("{0} is a peer's label and a network: write label:{0} or network:{0}")]
    Ambiguous(Name),
}

impl AllowRule {
    /// Reads a label, a full id or `network[/role]`, a network being called by its label or its full
    /// id. What we remember, and the networks that we know, say what a word or id means; `label:`
    /// and `network:` in front say it outright. An unknown word is a label, an unknown id a peer's.
    /// The label of a network that we know stands for its id from then on.
    ///
    /// # Errors
    /// When it is none of these, or the word is both a label and a network.
    pub fn parse(
        text: &str,
        known: &KnownPeers,
        networks: &Networks,
    ) -> Result<Self, AllowRuleError> {
        if let Some(label) = text.strip_prefix("label:") {
            return Ok(Self::Label(Name::label(label)?));
        }
        if let Some(network) = text.strip_prefix("network:") {
            return Self::network(network, networks);
        }
        match text.parse() {
            Ok(PeerId::Node(id)) if networks.get(&id).is_some() => {
                return Self::network(text, networks);
            }
            Ok(id) => return Ok(Self::Id(id)),
            Err(_) if text.contains('/') => return Self::network(text, networks),
            Err(_) => {}
        }
        let is_network =
            known.names_network(text) || networks.iter().any(|known| known.label == text);
        match Name::label(text) {
            Ok(label) if is_network && known.has_pin_named(&label) => {
                Err(AllowRuleError::Ambiguous(label))
            }
            _ if is_network => Self::network(text, networks),
            label => Ok(Self::Label(label?)),
        }
    }

    /// A label is resolved to the id of its network here and now: what it means may change while the
    /// rule is in force, when a network is renamed or left and another one gets its word.
    fn network(text: &str, networks: &Networks) -> Result<Self, AllowRuleError> {
        let (network, role) = match text.split_once('/') {
            Some((network, role)) => (network, Some(role)),
            None => (text, None),
        };
        if network.is_empty() || role.is_some_and(|role| role.is_empty() || role.contains('/')) {
            return Err(AllowRuleError::Network);
        }
        // One spelling of an id, the one under which it is granted.
        let id = network.parse::<NodeId>().ok();
        let id = id.or_else(|| networks.by_label(network).map(Authority::id));
        Ok(Self::Network {
            network: id.map_or_else(|| network.to_owned(), |id| id.to_string()),
            role: role.map(str::to_owned),
        })
    }
}

impl fmt::Display for AllowRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted => f.write_str("entries granted it"),
            Self::Label(label) => write!(f, "label:{label}"),
            Self::Id(id) => id.fmt(f),
            Self::Network { network, role } => {
                write!(f, "network:{network}")?;
                role.iter().try_for_each(|role| write!(f, "/{role}"))
            }
        }
    }
}

/// Whether a recognised peer may use a service.
///
/// First use, `record` and `insecure` grant nothing, except to the one id that the operator wrote
/// into the rule: there the operator names the key, and the handshake proves it.
///
/// # Errors
/// [`Reason::NotAuthorised`], or [`Reason::WrongNetwork`] and [`Reason::WrongRole`] where the rule
/// asks for membership.
pub fn authorise(service: &str, rule: &AllowRule, recognition: &Recognition) -> Result<(), Reason> {
    if let AllowRule::Id(id) = rule {
        let proven = recognition.how != crate::How::Provisional;
        return allow_if(proven && recognition.peer == *id, Reason::NotAuthorised);
    }
    allow_if(recognition.how.may_grant(), Reason::NotAuthorised)?;
    let grants = &recognition.grants;
    match rule {
        AllowRule::Granted => allow_if(grants.service(service), Reason::NotAuthorised),
        AllowRule::Label(label) => allow_if(
            recognition
                .labels
                .iter()
                .any(|known| known == label.as_str()),
            Reason::NotAuthorised,
        ),
        AllowRule::Id(_) => Err(Reason::NotAuthorised),
        AllowRule::Network { network, role } => {
            allow_if(grants.membership(network, None), Reason::WrongNetwork)?;
            let role = role.as_deref();
            allow_if(grants.membership(network, role), Reason::WrongRole)
        }
    }
}

fn allow_if(allowed: bool, reason: Reason) -> Result<(), Reason> {
    allowed.then_some(()).ok_or(reason)
}
