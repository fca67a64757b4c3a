//! The `comity` binary from outside, as people and other programs meet it.
//!
//! Each test makes its own homes and its own ports, and nothing leaves loopback. A wait is always
//! for a line, a connection or an end, never for a time. The binary looks at the real clock, and so
//! do foreign programs: their certificates are valid for a century.

mod answers;
mod approval;
mod authorities;
mod authority_certify;
mod authority_founding;
mod authority_inspect;
mod authority_issue;
mod authority_keys;
mod backend;
mod demo;
mod first_use;
mod foreign_clients;
mod foreign_servers;
mod home;
mod identity;
mod invitations;
mod live;
mod memory;
mod middle;
mod network;
mod networks;
mod p2pfl_style;
mod readme;
mod revocation;
mod rotation;
mod serving;
mod streams;
mod succession;
mod terminal;
mod two_organisations;
