//! What signed statements are accepted and followed, seen from outside.
//! T numbers in comments refer to the project's security test list.

#![allow(
    clippy::disallowed_methods,
    reason = "the crate is pure; its tests make keys and read vectors"
)]

// By path instead of a dependency: the testkit needs every crate above this one to compile.
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a factory for all crates; no single one uses all of it"
)]
#[path = "../../../testkit/src/certificates.rs"]
mod certificates;

mod bundles;
mod charters;
mod following;
mod histories;
mod locations;
mod making;
mod properties;
mod raw;
mod revocations;
mod successions;
mod vectors;
mod withdrawals;
mod world;
