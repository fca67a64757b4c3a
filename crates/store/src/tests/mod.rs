//! Tests of the store as a whole, by subject.

mod audit;
mod homes;
mod identity;
mod invitations;
mod peers;
mod pending;
mod support;
mod writes;
