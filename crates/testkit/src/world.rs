//! A small world for tests of connections: nodes in temporary homes on a clock set by hand,
//! counterparts made of bare rustls that may cheat, a tap on the wire, and somebody in the middle.
//!
//! Nothing here sleeps. Connections run over in-memory pipes unless a test is about sockets.

mod bare;
mod machine;
mod middle;
mod network;
mod wire;

pub use bare::{
    Call, Face, Saw, accept_frame, bare_client, bare_client_with, bare_server, bare_server_with,
    call, call_with, dial_bare, dial_bare_with, hello_frame, refuse_frame, speaking_comity,
};
pub use machine::{
    CALLER, HandClock, LISTENER, Machine, Meeting, NOW, accept_reason, accepting, anchor_line,
    by_id, by_name, dial_reason, in_time, meet, meet_over, pin_line,
};
pub use middle::{Middle, Overheard};
pub use network::{Network, record_of};
pub use wire::{ClientHello, Limit, Tapped, client_hello, tap};
