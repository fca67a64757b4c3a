//! What a PEER on the command line means: a label, a full id, `host:port` or an invitation, tried
//! in that order.

use comity_identity::{ParseHashError, PeerId};
use thiserror::Error;

use crate::entry::{Entry, Pin};
use crate::invitation::{self, Invitation, InvitationError};
use crate::known_peers::KnownPeers;
use crate::mode::Direction;
use crate::name::{Name, NameError};
use crate::nearest::nearest;
use crate::verdict::Expectation;

/// The port at which nodes listen. It is suggested, never assumed: identities are remembered per
/// port.
pub const DEFAULT_PORT: u16 = 7117;

/// Whom to dial, and where we know to find them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// A peer we know by label.
    Known {
        /// Its label.
        label: Name,
        /// Where it can be dialled, in order of preference; empty if we never knew.
        addresses: Vec<Name>,
    },
    /// A peer by its id, known or not.
    Id {
        /// The only id that is accepted.
        id: PeerId,
        /// Where it can be dialled; empty if we never knew.
        addresses: Vec<Name>,
    },
    /// Whoever answers there.
    Address(Name),
    /// The inviter.
    Invitation(Box<Invitation>),
}

/// Why a PEER is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TargetError {
    /// A label that nobody has.
    #[error("no known peer has the label {label}{}", .nearest.as_ref().map(|n| format!(", did you mean {n}?")).unwrap_or_else(|| format!("; if it is a host, write {label}:{DEFAULT_PORT}")))]
    UnknownLabel {
        /// The label.
        label: Name,
        /// The label it resembles.
        nearest: Option<String>,
    },
    /// An id that was mistyped.
    #[error("not an id: {0}")]
    Id(ParseHashError),
    /// Neither a label nor a `host:port`.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An invitation that cannot be read.
    #[error(transparent)]
    Invitation(#[from] InvitationError),
}

impl Target {
    /// What a decision expects of whoever answers. The server name of a known peer depends on the
    /// address that is dialled and is left to the caller ([`Name::server_name`]).
    ///
    /// A label stands for whatever its entries say at the time of the decision, so no id is taken
    /// from them here: a removed entry must end the connection.
    pub fn expectation(&self) -> Expectation {
        match self {
            Self::Known { label, .. } => Expectation {
                name: Some(label.clone()),
                ..Expectation::default()
            },
            Self::Id { id, .. } => Expectation {
                id: Some(*id),
                ..Expectation::default()
            },
            Self::Address(name) => Expectation {
                name: Some(name.clone()),
                server_name: name.server_name(),
                ..Expectation::default()
            },
            Self::Invitation(invitation) => Expectation {
                id: Some(PeerId::Node(invitation.inviter)),
                ..Expectation::default()
            },
        }
    }

    /// Where to dial, in order of preference.
    pub fn addresses(&self) -> &[Name] {
        match self {
            Self::Known { addresses, .. } | Self::Id { addresses, .. } => addresses,
            Self::Address(name) => std::slice::from_ref(name),
            Self::Invitation(invitation) => &invitation.addresses,
        }
    }
}

/// Says what a PEER means.
///
/// # Errors
/// When it is a label that nobody has, a host without a port, a mistyped id or invitation, or
/// nothing of the kind.
pub fn resolve(text: &str, known: &KnownPeers) -> Result<Target, TargetError> {
    let text = text.trim();
    let label = Name::label(text);
    if let Ok(label) = &label
        && known.has_pin_named(label)
    {
        return Ok(Target::Known {
            addresses: addresses(known.pins_named(label, Some(Direction::Dial))),
            label: label.clone(),
        });
    }
    match text.parse::<PeerId>() {
        Ok(id) => return Ok(id_target(id, known)),
        Err(error @ (ParseHashError::CheckCharacter { .. } | ParseHashError::TrailingBits)) => {
            return Err(TargetError::Id(error));
        }
        Err(_) => {}
    }
    if invitation::has_prefix(text) {
        return Ok(Target::Invitation(Box::new(Invitation::parse(text)?)));
    }
    match Name::parse(text)? {
        name if !name.is_label() => Ok(Target::Address(name)),
        label => Err(unknown_label(label, known)),
    }
}

fn id_target(id: PeerId, known: &KnownPeers) -> Target {
    let entries = known.pins_of(id);
    let dialled = entries.filter(|(_, entry)| entry.side.covers(Direction::Dial));
    Target::Id {
        id,
        addresses: addresses(dialled.collect()),
    }
}

/// `addr=` first, then the names under which the peer was dialled.
fn addresses(entries: Vec<(usize, &Entry)>) -> Vec<Name> {
    let given = entries.iter().flat_map(|(_, e)| e.attributes.addr.iter());
    let names = entries.iter().flat_map(|(_, e)| e.names.exact());
    let mut addresses: Vec<Name> = Vec::new();
    for name in given.chain(names.filter(|name| !name.is_label())) {
        if !addresses.contains(name) {
            addresses.push(name.clone());
        }
    }
    addresses
}

fn unknown_label(label: Name, known: &KnownPeers) -> TargetError {
    let labels: Vec<&str> = known
        .entries()
        .filter(|(_, entry)| matches!(entry.pin(), Some(Pin::Node(_) | Pin::Key(_) | Pin::Cert(_))))
        .flat_map(|(_, entry)| entry.names.exact())
        .filter(|name| name.is_label())
        .map(Name::as_str)
        .collect();
    let nearest = nearest(label.as_str(), &labels).map(str::to_owned);
    TargetError::UnknownLabel { label, nearest }
}

#[cfg(test)]
mod tests {
    use comity_identity::NodeId;

    use super::*;

    fn known() -> KnownPeers {
        let id = NodeId::from_bytes([7; 32]);
        KnownPeers::parse(&format!(
            "comity-known-peers v1\n\
             dial ops-db,db1.example:5432 node {id} addr=192.0.2.1:7117,db1.example:5432\n\
             accept laptop key {}\n",
            "ab".repeat(32)
        ))
        .expect("document")
    }

    fn name(text: &str) -> Name {
        Name::parse(text).expect("name")
    }

    #[test]
    fn a_known_label_comes_first_and_carries_its_addresses() {
        assert_eq!(
            resolve("OPS-DB", &known()),
            Ok(Target::Known {
                label: name("ops-db"),
                addresses: vec![name("192.0.2.1:7117"), name("db1.example:5432")],
            })
        );
        let laptop = resolve("laptop", &known()).expect("target");
        assert!(laptop.addresses().is_empty());
    }

    #[test]
    fn a_full_id_is_found_in_any_spelling() {
        let id = NodeId::from_bytes([7; 32]);
        for text in [id.to_string(), id.to_hex(), id.to_string().to_lowercase()] {
            let target = resolve(&text, &known()).expect("target");
            assert_eq!(target.expectation().id, Some(PeerId::Node(id)));
            assert_eq!(target.addresses().len(), 2);
        }
        let stranger = NodeId::from_bytes([8; 32]);
        let target = resolve(&stranger.to_string(), &known()).expect("target");
        assert_eq!(
            target,
            Target::Id {
                id: PeerId::Node(stranger),
                addresses: vec![]
            }
        );
    }

    #[test]
    fn a_mistyped_id_is_not_taken_for_a_label() {
        let mut text = NodeId::from_bytes([7; 32]).to_string();
        let wrong = if text.starts_with('A') { "B" } else { "A" };
        text.replace_range(0..1, wrong);
        assert_eq!(
            resolve(&text, &known()),
            Err(TargetError::Id(ParseHashError::CheckCharacter { group: 1 }))
        );
    }

    #[test]
    fn a_host_needs_its_port() {
        assert_eq!(
            resolve("New.Example.:443", &known()),
            Ok(Target::Address(name("new.example:443")))
        );
        let error = resolve("new.example", &known()).expect_err("no port");
        assert_eq!(
            error.to_string(),
            "new.example has no port, write new.example:7117"
        );
    }

    #[test]
    fn a_host_and_port_is_never_taken_for_an_id() {
        // 60 digits and 4 are as many as an id has, 54 and 2 as many as its grouped form.
        for text in [
            format!("{}:{}", "ab".repeat(30), 7117),
            format!("{}:{}", "a".repeat(54), 44),
        ] {
            assert_eq!(resolve(&text, &known()), Ok(Target::Address(name(&text))));
        }
    }

    #[test]
    fn an_unknown_label_gets_a_suggestion() {
        let error = resolve("opsdb", &known()).expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "no known peer has the label opsdb, did you mean ops-db?"
        );
        let error = resolve("localhost", &known()).expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "no known peer has the label localhost; if it is a host, write localhost:7117"
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", " ", "a b", "comity-invite-", "@ca", "a\nb"] {
            assert!(resolve(text, &known()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_address_expects_its_host_in_a_certificate() {
        for (text, host) in [
            ("db1.example:1", "db1.example"),
            ("[2001:db8::1]:1", "2001:db8::1"),
        ] {
            let expectation = Target::Address(name(text)).expectation();
            let server_name = expectation.server_name.expect("server name");
            assert_eq!(server_name.to_str(), host);
        }
    }
}
