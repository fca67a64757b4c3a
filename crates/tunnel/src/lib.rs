//! Any TCP service behind mutual TLS: the serving side and the dialling side of a tunnel.

mod capacity;
mod forward;
mod logging;
mod pipe;
mod proxy;
mod serve;
mod target;

pub use capacity::Capacity;
pub use forward::{LocalListener, Route, forward};
pub use pipe::{Copied, pipe_peer, pipe_peer_standard};
pub use proxy::ProxyHeader;
pub use serve::{DEFAULT_SERVICE, DRAIN, Service, Services, ServicesError, serve};
pub use target::{Backend, Target, TargetError};
