//! The crate seen from outside: every mode, rule and reason against real certificates.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the crate is pure; its tests make keys and read vectors"
)]

// By path instead of a dependency: the testkit needs every crate above this one to compile.
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a factory for all crates; no single one uses all of it"
)]
#[path = "../../../testkit/src/authorities.rs"]
mod authorities;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a factory for all crates; no single one uses all of it"
)]
#[path = "../../../testkit/src/certificates.rs"]
mod certificates;

mod document;
mod endings;
mod grants;
mod members;
mod modes;
mod properties;
mod rules;
mod successions;
mod vectors;
mod world;
