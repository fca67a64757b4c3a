//! Bundles and memberships on connections: the sub-protocol `network`.
//!
//! A bundle proves itself: whoever holds one may hand it on, and needs no trust for it. So members
//! of a network tell each other what is new, and a withdrawal that one of them has heard of ends
//! connections between two others as soon as it has arrived there. After ACCEPT:
//!
//! 1. The dialer sends SYNC: the networks whose bundles it wants to talk of, each with the sequence
//!    and digest of the bundle that it holds. It names only networks that it is in, which its
//!    certificates have told already.
//! 2. The acceptor answers SYNC with what it holds of those that *both* are in. Of the others it
//!    says nothing, not even whether it knows them.
//! 3. Each side sends the other what that one does not have: a newer bundle, or a different one of
//!    the same sequence. The latter is a fork, and both sides must see it. A bundle comes in BUNDLE
//!    frames, each a part of it.
//! 4. An acceptor that issues for a network that the dialer named looks whether the dialer's
//!    membership wants renewal, and sends a new one, in GRANT frames. The dialer keeps it, closes, and
//!    dials again to present it: only then has the acceptor seen that it is a member.
//! 5. The connection stays. Whoever learns of a newer bundle sends it at once, but not two of one
//!    network within [`PUSH_GAP`]. Every [`KEEP_ALIVE`] the dialer sends SYNC again, which is
//!    answered as in 2; who falls silent is taken for gone.
//!
//! Whatever does not fit ends the connection: a frame out of place, a network that is not shared, a
//! part that does not follow, more than an honest peer sends, and a bundle that cannot be verified.

mod budget;
mod driver;
mod exchange;
mod grant;
mod https;
mod shared;
mod transfer;
mod wire;

pub use driver::{ExchangeError, Farewell};
pub use exchange::{
    ANSWER, ASSEMBLY, Event, Exchange, Holding, Input, KEEP_ALIVE, PUSH_GAP, SILENCE, Violation,
};
pub use grant::{GrantError, Issuer, VerifiedGrant};
pub use https::{FetchError, Fetched, answer_http, fetch_bundle, is_bundle_request};
pub use wire::{
    CHUNK, Chunk, Grant, MAX_BUNDLE, MAX_GRANT, MAX_MEMBERSHIP, MAX_SHARED, Standing, decode_sync,
    encode_sync,
};

pub(crate) use driver::root_of;
pub(crate) use grant::Issuers;
pub(crate) use shared::Holdings;
pub(crate) use transfer::{receive_grant, send_grant};
