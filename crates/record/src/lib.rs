//! Signed statements about keys: successions and revocations of an identity, and the charters and
//! bundles of an authority.
//!
//! Everything is verified where it is made: holding a value means that its signatures hold and that
//! it says nothing that such an object may not say. What it means for somebody who knew an older
//! one is a comparison of two such values ([`Bundle::follow`], [`Charter::check_follows`],
//! [`SuccessionChain::push`]). Nothing here reads a clock, a file or a socket.
//!
//! - [`Succession`], [`SuccessionChain`], [`KeyRevocation`]: one identity key follows another, or
//!   ends.
//! - [`Charter`]: an authority's keys and what each is for, signed by its roots.
//! - [`Bundle`]: what an authority publishes: its charters from the founding root on, what it
//!   withdrew, and for how long that is fresh.
//!
//! `docs/formats.md` describes the bytes for other implementations.

mod bundle;
mod cbor;
mod chain;
mod charter;
mod envelope;
mod follow;
pub mod limits;
mod location;
mod revocation;
mod succession;
mod withdrawal;

pub use bundle::{Bundle, BundleError, BundleRequest, Freshness};
pub use cbor::{FormatError, MapWriter, VecEncoder, Written, has_shortest_heads};
pub use chain::{LinkFault, SuccessionChain, SuccessionChainError, UnverifiedSuccessionChain};
pub use charter::{
    AuthorityKey, Charter, CharterError, CharterKey, CharterRequest, KeyRole, KeyState,
    SuccessorFault,
};
pub use envelope::SigningError;
pub use follow::{Follow, FollowError, Fork};
pub use location::{Location, ParseLocationError};
pub use revocation::{KeyRevocation, KeyRevocationRequest};
pub use succession::{StatementError, Succession, SuccessionRequest};
pub use withdrawal::{Withdrawal, Withdrawn, WithdrawnWhat};
