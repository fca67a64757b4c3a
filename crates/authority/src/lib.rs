//! Being a certificate authority: the founder and keeper of a network.
//!
//! An [`Authority`] lives in `authorities/<network id>/` of a home. Its root key need not be there
//! and usually is not: whoever calls brings it as a [`Signer`](comity_identity::Signer) where a root
//! must sign, which is when keys change ([`Authority::announce_key`] and what follows it). Everything
//! of every day is done by an issuing key: members are admitted ([`Authority::certify`]), leaves
//! signed for software that knows no cross-certificates ([`Authority::issue`]), certificates withdrawn
//! ([`Authority::withdraw`]), and a bundle published that says so ([`Authority::refresh`]).
//!
//! What holds for all of it:
//!
//! - A serial number is durable before anything is signed with it, and a certificate is durable
//!   before it is handed out.
//! - A withdrawal is durable before anybody is told of it. The state is written first; what was cut
//!   off by a crash is completed by the next call that changes anything, or by
//!   [`Authority::refresh`].
//! - Sequences of bundles and charters only rise, and never stay behind the clock: a state that was
//!   restored from an old copy does not say a second thing under an old number.
//! - Several processes may work on one authority: what must not happen twice happens under the
//!   home's lock, starting from what the files say then.
//!
//! All of it blocks.

mod admit;
mod authority;
mod error;
mod found;
mod issue;
mod keys;
mod members;
mod pem;
mod publish;
mod state;
#[cfg(test)]
mod tests;
mod withdraw;

pub use admit::{Admission, Grant};
pub use authority::Authority;
pub use error::AuthorityError;
pub use found::NewAuthority;
pub use issue::{File, IssuedLeaf, LeafOrder, P2PFL_FILES, Subject};
pub use keys::{Affected, KeyOrder};
pub use members::{ISSUING, MEMBER, Member, MemberState};
pub use state::{StateError, check_state};
pub use withdraw::Selector;

use std::time::Duration;

/// A day.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a root certificate is valid, unless told otherwise: longer than any machine, because
/// whoever is a member starts from it.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);

/// How long the certificate of an issuing key is valid, unless told otherwise.
pub const ISSUING_LIFETIME: Duration = Duration::from_secs(2 * 365 * 24 * 60 * 60);

/// How long a membership is valid, unless told otherwise.
pub const MEMBER_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How often within a year an authority follows a member to another key. Each change costs every
/// reader a withdrawal, and a member can make as many keys as it likes. Whoever needs more is invited
/// again.
pub const MAX_SUCCESSIONS: usize = 8;

/// How long a leaf is valid, unless told otherwise.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How long an organisation's own leaf is valid, unless told otherwise: other software has nothing
/// that renews it.
pub const ORGANISATION_LEAF_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How long a bundle recognises new members.
pub const BUNDLE_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How often a bundle should be fetched, and is made anew.
pub const BUNDLE_REFRESH: Duration = DAY;

/// By how much certificates begin before they are made, for clocks that are behind.
pub const BACKDATED: Duration = Duration::from_secs(60 * 60);
