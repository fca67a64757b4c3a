//! Everything Comity keeps on disk. This is the only crate that writes files.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that cannot go on fails")
)]

mod as_text;
mod atomic;
mod audit;
mod check;
mod claim;
pub mod disk;
mod error;
#[cfg(any(test, feature = "faults"))]
pub mod fault;
mod home;
mod identity_files;
mod invitations;
mod ledger;
mod lock;
mod peers;
mod pending;
mod stamp;
#[cfg(test)]
mod tests;

pub use audit::{AuditLine, AuditLog, AuditTail, Deed};
pub use error::{Flaw, StoreError};
pub use home::{FileContent, Home, HomeFile};
pub use identity_files::{Established, IdentityFiles};
pub use invitations::{
    Consumed, Consumption, Invitation, InvitationId, InvitationKey, Invitations, InviteError,
    InviteRefusal, KEPT_AFTER_EXPIRY, MAX_GRANTS, MAX_INVITATIONS, MAX_NAME, ParseHexError,
};
pub use lock::{HomeLock, LOCK_WAIT};
pub use peers::{ATTEMPTS, Change, Health, POLL_EVERY, PeerStore, Snapshot, UpdateError};
pub use pending::{
    Asked, Knock, LIFETIME, MAX_DENIED, MAX_PER_PREFIX, MAX_WAITING, Pending, PendingRequest,
    REPEAT_AFTER,
};
