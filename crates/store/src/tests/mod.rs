//! Tests of the store as a whole, by subject.

mod audit;
mod first_use;
mod homes;
mod identity;
mod invitations;
mod peers;
mod pending;
mod support;
mod vectors;
mod writes;
