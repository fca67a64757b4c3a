//! Mutual TLS between peers that recognise each other by key.
//!
//! A [`Dialer`] opens connections and an [`Acceptor`] takes them; both work over any tokio stream,
//! and both say who is there in a [`PeerInfo`] that keeps attested facts apart from claims. What
//! they share is an [`Endpoint`]: the node's [`Credentials`], its memory, and the registry of open
//! connections that ends them when the peer's authority ends.
//!
//! The module documentation of [`frame`] tells what is said after the handshake, and by whom.
//!
//! This is the only crate that names rustls.

mod acceptor;
mod clock;
mod config;
mod credentials;
mod dialer;
mod endpoint;
mod enrolment;
pub mod frame;
mod gate;
pub mod hello;
mod limits;
pub mod live;
mod peer;
mod session;
mod stream;
mod verifier;

pub use acceptor::{AcceptError, Acceptor, AcceptorConfig, Incoming, Request};
pub use clock::Clock;
pub use config::{ALPN_COMITY, ALPN_HTTP1, Versions};
pub use credentials::{Credentials, CredentialsError, LeafProfile};
pub use dialer::{Alpn, Connection, DialError, DialRequest, Dialer, Wish, alert_of};
pub use endpoint::Endpoint;
pub use enrolment::{Admittance, free_label};
pub use hello::ServiceName;
pub use limits::Limits;
pub use peer::{Claims, PeerInfo};
pub use session::{Ended, Registry};
pub use stream::PeerStream;
