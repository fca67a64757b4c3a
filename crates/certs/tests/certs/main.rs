//! What this crate accepts and refuses, seen from outside.
//! T numbers in comments refer to the project's security test list.

#![allow(
    clippy::disallowed_methods,
    reason = "the crate is pure; its tests make keys, read vectors and run openssl"
)]

// By path instead of a dependency: the testkit needs every crate above this one to compile.
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a factory for all crates; no single one uses all of it"
)]
#[path = "../../../testkit/src/certificates.rs"]
mod certificates;

mod anchors;
mod authority;
mod cross;
mod crossing;
mod describing;
mod direct;
mod encoding;
mod federation;
mod foreign;
mod hostile;
mod lineage;
mod links;
mod metadata;
mod minting;
mod names;
mod native;
mod openssl;
mod paths;
mod requests;
mod twins;
mod vectors;
