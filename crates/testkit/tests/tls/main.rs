//! Dialer, acceptor, gate and live connections against peers that are strange, broken or hostile.
//!
//! Pure decisions are tested in `comity-trust` and parsing in `comity-certs`. What matters here is
//! that the real handshake comes to the same end: the right reason on our side, nothing more than
//! that on the other, no application byte, and nothing in memory.

mod certificates;
mod exchange;
mod hostile_names;
mod join;
mod limits;
mod live;
mod membership;
mod middle;
mod possession;
mod privacy;
mod protocol;
mod resumption;
mod store;
mod succession;
mod validity;
