//! Who a node is: the hash of its identity key, the ways people write that hash down, and the
//! [`Signer`] that proves possession of the key.
//!
//! Everything here is pure: no clock, no files, no entropy. The three kinds of hash are three
//! types, because confusing them is how a certificate hash ends up granting what a key hash
//! should:
//!
//! - [`NodeId`]: SHA-256 over the DER SubjectPublicKeyInfo of a node's *identity* key. It survives
//!   the renewal of leaves.
//! - [`KeyHash`]: SHA-256 over the DER SubjectPublicKeyInfo of any key, such as the one in a
//!   foreign peer's certificate.
//! - [`Fingerprint`]: SHA-256 over one whole certificate. It changes at every renewal.
//!
//! All three share the text forms of [`text`].

mod hash;
mod sign;
pub mod text;
mod time;
mod words;

pub use hash::{Fingerprint, KeyHash, NodeId, PeerId};
pub use sign::{Algorithm, SignError, Signer, VerifyError, has_low_s, verify};
pub use text::ParseHashError;
pub use time::{ParseTimeError, UnixTime};
pub use words::{ParseWordsError, Words, four_words};
