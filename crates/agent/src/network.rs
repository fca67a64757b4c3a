//! Networks, from the side of a node that is in them.
//!
//! What this node knows of a network is in its home (`networks`), and is judged elsewhere, on every
//! connection. Here is what keeps it true while the node runs, and what gives it to others.

mod enter;
mod follow;
mod issuer;
mod own;
mod pause;
mod places;
#[cfg(test)]
mod tests;
mod upkeep;

pub use enter::{Entered, Entry, enter_bundle, enter_membership};
pub use issuer::HomeIssuer;
pub use own::{keep_authorities, renew_own};
pub(crate) use places::name_ourselves;
pub use places::{location_at, places};
pub use upkeep::{
    MEMBERSHIP_WARNING, OwnMembership, Refreshed, concerns, follow_networks, refresh_network,
};
