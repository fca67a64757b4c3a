//! Mutual TLS between peers that recognise each other by key.
//!
//! A [`Dialer`] opens connections and an [`Acceptor`] takes them; both work over any tokio stream,
//! and both say who is there in a [`PeerInfo`] that keeps attested facts apart from claims. What
//! they share is an [`Endpoint`]: the node's [`Credentials`], its memory, and the registry of open
//! connections that ends them when the peer's authority ends.
//!
//! The module documentation of [`frame`] tells what is said after the handshake, and by whom.
//!
//! ```
//! use comity_tls::{Acceptor, DialRequest, Dialer, Endpoint, Wish};
//! use comity_trust::{Expectation, Mode, Name, Reason};
//! use tokio::net::TcpStream;
//!
//! /// Opens a connection to whom we call `db`, wherever it is.
//! async fn open(endpoint: Endpoint, host: &str) -> Result<(), Box<dyn std::error::Error>> {
//!     let db = Expectation {
//!         name: Some(Name::label("db")?),
//!         ..Expectation::default()
//!     };
//!     let wish = Wish::Service(Some("postgres".parse()?));
//!     let request = DialRequest::new(db, Mode::Pin, wish);
//!     let connection = Dialer::new(endpoint).dial(host, 7117, request).await?;
//!     println!("{} is there", connection.peer.display());
//!     // `connection.stream` is an ordinary tokio stream.
//!     Ok(())
//! }
//!
//! /// Takes one connection, if the peer was granted what it does here.
//! async fn take(acceptor: &Acceptor, tcp: TcpStream) -> Result<(), Box<dyn std::error::Error>> {
//!     let remote = tcp.peer_addr()?;
//!     let incoming = acceptor.accept(tcp, Some(remote)).await?;
//!     // Asked now, and again at every change of what we remember while the connection is open.
//!     let (stream, peer) = incoming
//!         .accept(|peer| match peer.grants.service("postgres") {
//!             true => Ok(()),
//!             false => Err(Reason::NotAuthorised),
//!         })
//!         .await?;
//!     println!("{} may use it: {:?}", peer.display(), stream.ended());
//!     Ok(())
//! }
//! ```
//!
//! `examples/` has a server and a client over plain tokio, an axum application whose handlers see
//! the [`PeerInfo`], and a hyper client.
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
mod memberships;
pub mod network;
mod peer;
mod place;
mod session;
mod stream;
mod verifier;

pub use acceptor::{AcceptError, Acceptor, AcceptorConfig, Incoming, Request};
pub use clock::Clock;
pub use config::{ALPN_COMITY, ALPN_HTTP1, Versions};
pub use credentials::{Credentials, CredentialsError, LeafProfile};
pub use dialer::{
    Alpn, Connection, DialError, DialRequest, Dialer, Joined, Wish, alert_of, expectation_at,
};
pub use endpoint::Endpoint;
pub use enrolment::{Admittance, free_label};
pub use hello::ServiceName;
pub use limits::Limits;
pub use memberships::{MAX_PRESENTED, Membership};
pub use peer::{Claims, PeerInfo};
pub use session::{EndWatch, Ended, Recognised, Registry};
pub use stream::PeerStream;
