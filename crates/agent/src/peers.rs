//! From a PEER on the command line to a route: whom we expect, and where we dial.

use std::sync::Arc;

use comity_identity::PeerId;
use comity_tls::{Alpn, DialRequest, Versions, Wish};
use comity_trust::{Expectation, KnownPeers, Mode, Name, NameError, Target, TargetError, resolve};
use comity_tunnel::Route;
use thiserror::Error;

/// What the user said besides the PEER.
#[derive(Clone, Debug, Default)]
pub struct Planning<'a> {
    /// `--as`: the label under which the peer is remembered, or looked up.
    pub label: Option<&'a str>,
    /// `--addr`: dial this address instead of the known ones.
    pub address: Option<&'a str>,
    /// Which ALPN is offered.
    pub alpn: Alpn,
    /// Which protocol versions.
    pub versions: Versions,
}

/// A peer that can be dialled.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What the PEER meant.
    pub target: Target,
    /// The name under which the peer is remembered; none for an id without a label.
    pub name: Option<Name>,
    /// Where and how to dial.
    pub route: Route,
}

/// Why a peer cannot be dialled.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The PEER means nothing.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// `--as` or `--addr` is not a name of the right kind.
    #[error("`{text}`: {cause}")]
    Name {
        /// What was typed.
        text: String,
        /// What is wrong with it.
        cause: NameError,
    },
    /// `--addr` with a label.
    #[error("`{0}` is a label; --addr takes HOST:PORT")]
    NotAnAddress(String),
    /// Nobody ever said where the peer is.
    #[error("no address of {0} is known")]
    NoAddress(String),
}

impl Planned {
    /// Says where and how the PEER in `text` is dialled.
    ///
    /// A label is dialled at the addresses of its entries, and SNI is sent only where the user
    /// typed the address: a known peer's host name is nobody's business on the wire.
    ///
    /// # Errors
    /// When the text is no PEER, or no address is known.
    pub fn of(
        text: &str,
        known: &KnownPeers,
        mode: Mode,
        wish: Wish,
        planning: &Planning<'_>,
    ) -> Result<Self, PlanError> {
        let target = resolve(text, known)?;
        let mut expectation = target.expectation();
        let label = planning.label.map(label_of).transpose()?;
        // Whoever is named by id is expected by nothing else: its label is for afterwards.
        if label.is_some() && !matches!(target, Target::Id { .. }) {
            expectation.name.clone_from(&label);
        }
        let given = planning.address.map(address_of).transpose()?;
        let addresses = match &given {
            Some(address) => std::slice::from_ref(address),
            None => target.addresses(),
        };
        if addresses.is_empty() {
            return Err(PlanError::NoAddress(text.to_owned()));
        }
        let addresses = addresses.iter().filter_map(host_and_port).collect();
        Ok(Self {
            name: label.or_else(|| expectation.name.clone()),
            route: Route {
                addresses,
                request: DialRequest {
                    alpn: planning.alpn.clone(),
                    versions: planning.versions,
                    ..DialRequest::new(expectation, mode, wish)
                },
            },
            target,
        })
    }

    /// The route of an invitation: the inviter's id and nothing else is accepted.
    pub fn of_invitation(
        invitation: Arc<comity_trust::invitation::Invitation>,
        suggested_name: Option<String>,
        address: Option<&str>,
    ) -> Result<Route, PlanError> {
        let given = address.map(address_of).transpose()?;
        let addresses = match &given {
            Some(address) => std::slice::from_ref(address),
            None => &invitation.addresses,
        };
        let expectation = Expectation {
            id: Some(PeerId::Node(invitation.inviter)),
            ..Expectation::default()
        };
        Ok(Route {
            addresses: addresses.iter().filter_map(host_and_port).collect(),
            request: DialRequest::new(
                expectation,
                Mode::Pin,
                Wish::Join(invitation, suggested_name),
            ),
        })
    }
}

/// Splits `PEER[/SERVICE]`. Invitations, ids and addresses contain no slash.
pub fn split_service(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((peer, service)) => (peer, Some(service)),
        None => (text, None),
    }
}

/// The two parts of an address, IPv6 without brackets; `None` for a label.
pub fn host_and_port(name: &Name) -> Option<(String, u16)> {
    let host = name.host()?.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), name.port()?))
}

fn label_of(text: &str) -> Result<Name, PlanError> {
    Name::label(text).map_err(|cause| PlanError::Name {
        text: text.to_owned(),
        cause,
    })
}

fn address_of(text: &str) -> Result<Name, PlanError> {
    let name = Name::parse(text).map_err(|cause| PlanError::Name {
        text: text.to_owned(),
        cause,
    })?;
    match name.is_label() {
        true => Err(PlanError::NotAnAddress(text.to_owned())),
        false => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use comity_identity::NodeId;

    use super::*;

    fn known() -> KnownPeers {
        let id = NodeId::from_bytes([7; 32]);
        let text = format!("comity-known-peers v1\nboth db1 node {id} addr=[2001:db8::1]:7117\n");
        KnownPeers::parse(&text).expect("valid")
    }

    fn planned(text: &str, planning: &Planning<'_>) -> Result<Planned, PlanError> {
        let wish = Wish::Service(None);
        Planned::of(text, &known(), Mode::CaOrPin, wish, planning)
    }

    #[test]
    fn a_label_is_dialled_at_its_address_without_sni() {
        let plan = planned("db1", &Planning::default()).expect("a route");
        assert_eq!(plan.route.addresses, [("2001:db8::1".to_owned(), 7117)]);
        assert!(plan.route.request.expectation.server_name.is_none());
    }

    #[test]
    fn an_address_expects_its_own_name_and_can_be_remembered_under_a_label() {
        let plan = planned("web.example:443", &Planning::default()).expect("a route");
        assert!(plan.route.request.expectation.server_name.is_some());
        let planning = Planning {
            label: Some("web"),
            ..Planning::default()
        };
        let plan = planned("web.example:443", &planning).expect("a route");
        assert_eq!(plan.name, Some(Name::label("web").expect("a label")));
    }

    #[test]
    fn what_cannot_be_dialled_is_refused() {
        let label_as_address = Planning {
            address: Some("db1"),
            ..Planning::default()
        };
        assert!(matches!(
            planned("db1", &label_as_address),
            Err(PlanError::NotAnAddress(_))
        ));
        let stranger = NodeId::from_bytes([9; 32]).to_string();
        assert!(matches!(
            planned(&stranger, &Planning::default()),
            Err(PlanError::NoAddress(_))
        ));
    }

    #[test]
    fn the_service_follows_a_slash() {
        assert_eq!(split_service("db1/metrics"), ("db1", Some("metrics")));
        assert_eq!(split_service("db1"), ("db1", None));
    }
}
