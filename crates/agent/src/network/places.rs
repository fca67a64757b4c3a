//! Where the bundle of a network can be had.

use comity_authority::{Authority, AuthorityError};
use comity_identity::{NodeId, UnixTime};
use comity_record::{Bundle, Location, ParseLocationError, SuccessionChain};
use comity_store::NetworkRecord;
use comity_trust::Name;

use crate::peers::host_and_port;

/// Where the node `server`, reached at `address`, hands out the bundle of a network.
///
/// # Errors
/// For an address that has no place in a URL, or is too long for one.
pub fn location_at(
    address: &Name,
    network: &NodeId,
    server: &NodeId,
) -> Result<Location, ParseLocationError> {
    let (host, port) = host_and_port(address).ok_or(ParseLocationError)?;
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_lowercase(),
    };
    let hex = network.to_hex();
    format!("https://{host}:{port}/comity/networks/{hex}/bundle#{server}").parse()
}

/// The places to ask for a network's bundle, without those that are ourselves: where the bundle says,
/// then where it came from.
pub fn places(record: &NetworkRecord, ourselves: &NodeId) -> Vec<Location> {
    let named = Bundle::parse_of(&record.network, &record.bundle)
        .map(|bundle| bundle.locations().to_vec())
        .unwrap_or_default();
    let mut places: Vec<Location> = Vec::with_capacity(named.len() + 1);
    for place in named.into_iter().chain(record.source.clone()) {
        if place.node() != Some(*ourselves) && !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// Lets the bundle of an authority of this home say the present id of this node where it says one that
/// the node had before its identity was rolled: who joins after that knows no other.
pub(crate) fn name_ourselves(
    authority: &mut Authority,
    history: &SuccessionChain,
    now: UnixTime,
) -> Result<(), AuthorityError> {
    let current = followed(authority.locations(), history);
    match current == authority.locations() {
        true => Ok(()),
        false => authority.set_locations(current, now),
    }
}

/// The same places, with the last id of a history in place of those before.
fn followed(places: &[Location], history: &SuccessionChain) -> Vec<Location> {
    let current = history.current();
    let is_past = |id: NodeId| history.statements().iter().any(|s| s.old() == id);
    let moved = places.iter().map(|place| match place.node() {
        Some(id) if is_past(id) => {
            let text = place
                .to_string()
                .replace(&id.to_string(), &current.to_string());
            text.parse().unwrap_or_else(|_| place.clone())
        }
        _ => place.clone(),
    });
    moved.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_made_of_every_kind_of_address() {
        let (network, server) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let (hex, id) = ("01".repeat(32), server.to_string());
        for (address, written) in [
            ("hub.example:7117", "https://hub.example:7117"),
            ("Hub.Example:443", "https://hub.example"),
            ("192.0.2.1:7117", "https://192.0.2.1:7117"),
            ("[2001:db8::1]:7117", "https://[2001:db8::1]:7117"),
        ] {
            let address = Name::parse(address).expect("an address");
            let location = location_at(&address, &network, &server).expect("a location");
            let expected = format!("{written}/comity/networks/{hex}/bundle#{id}");
            assert_eq!(location.to_string(), expected);
            assert_eq!(location.node(), Some(server));
        }
    }
}
