//! Everything Comity keeps on disk. This is the only crate that writes files.
//!
//! A [`Home`] is a directory that was checked: nobody but its owner (and root) can change what is in
//! it. In it live the identity ([`Home::establish_identity`]), the peers we know ([`PeerStore`]), those
//! who ask to be known ([`Pending`]), what we gave out for joining ([`Invitations`]), and the log of
//! every change of trust ([`AuditLog`]).
//!
//! What holds for all of them:
//!
//! - A file has its old content or the new one, whatever happens to the process or the power, and
//!   whatever returned `Ok` is durable.
//! - Several processes may use one home: every change is made under its lock, starting from
//!   what the file says then.
//! - A file that others could have changed, or that is not understood, is refused, with its path and,
//!   where there is one, a command that puts it right ([`StoreError::remedy`]).
//! - Whatever a stranger can make grow is bounded, and text of theirs is escaped.
//!
//! All of it blocks, except [`PeerStore::snapshot`] and [`PeerStore::watch`]: from asynchronous code,
//! use `spawn_blocking`.
//!
//! ```
//! use comity_identity::{NodeId, PeerId};
//! use comity_store::{Change, Deed, Home, PeerStore, UpdateError};
//! use comity_trust::{Edit, Entry, Name, Names, Pin, Side, What};
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("home");
//! let home = Home::create(&path)?;
//! let store = PeerStore::open(&home, "example")?;
//! let id = NodeId::of_spki(b"the key of ops-db");
//! let snapshot = store.update(|known| {
//!     // What follows is decided on what the file says now.
//!     let name = Name::label("ops-db").expect("a label");
//!     let entry = Entry::new(Side::Dial, Names::one(name), What::Pin(Pin::Node(id)));
//!     Ok::<_, UpdateError>(Change {
//!         edit: Edit::Add(Box::new(entry)),
//!         deed: Deed {
//!             action: "add".into(),
//!             peer: Some(PeerId::Node(id)),
//!             detail: "ops-db".into(),
//!         },
//!     })
//! })?;
//! assert_eq!(snapshot.known.entries().count(), 1);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod as_text;
mod atomic;
mod audit;
mod authority_files;
mod check;
mod claim;
pub mod disk;
mod error;
mod export;
#[cfg(any(test, feature = "faults"))]
pub mod fault;
mod first_use;
mod home;
mod identity_files;
mod invitations;
mod issued;
mod issued_file;
mod ledger;
mod lock;
mod networks;
mod peers;
mod pending;
mod stamp;
#[cfg(test)]
mod tests;

pub use audit::{AuditLine, AuditLog, AuditTail, Deed};
pub use authority_files::{AuthorityFiles, MAX_AUTHORITIES, MAX_STATE_BYTES, NewAuthorityFiles};
pub use error::{Flaw, StoreError};
pub use export::{Exported, export};
pub use first_use::{FIRST_USE_RESERVE, MAX_FIRST_USES};
pub use home::{FileContent, Home, HomeFile};
pub use identity_files::{Established, IdentityFiles};
pub use invitations::{
    Consumed, Consumption, Invitation, InvitationId, InvitationKey, Invitations, InviteError,
    InviteRefusal, KEPT_AFTER_EXPIRY, MAX_GRANTS, MAX_INVITATIONS, MAX_NAME, ParseHexError,
};
pub use issued::{
    IssuedCertificate, IssuedLedger, IssuedSession, IssuedState, LedgerError, MAX_ATTESTED,
    MAX_ISSUED_DER, MAX_ISSUED_LABEL, MAX_WORD, Reservation, SERIAL_BYTES, Serial,
};
pub use lock::{HomeLock, LOCK_WAIT};
pub use networks::{
    MAX_MEMBERSHIP, MAX_MEMBERSHIP_DER, MAX_NETWORKS, NetworkError, NetworkRecord, NetworkStore,
    Updated,
};
pub use peers::{ATTEMPTS, Change, Health, POLL_EVERY, PeerStore, Snapshot, UpdateError};
pub use pending::{
    Asked, CROWDED, CROWDED_LIFETIME, Knock, LIFETIME, MAX_DENIED, MAX_PER_NETWORK, MAX_PER_PREFIX,
    MAX_WAITING, Pending, PendingRequest, REPEAT_AFTER,
};
