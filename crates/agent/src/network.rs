//! Networks, from the side of a node that is in them.
//!
//! What this node knows of a network is in its home (`networks`), and is judged elsewhere, on every
//! connection. Here is what keeps it true while the node runs, and what gives it to others.

mod follow;
mod pause;
mod places;
mod upkeep;

pub use places::{location_at, places};
pub use upkeep::{
    MEMBERSHIP_WARNING, Refreshed, concerns, follow_networks, own_certificate, refresh_network,
};
