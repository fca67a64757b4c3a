//! Tests of the store as a whole, by subject.

mod audit;
mod authority_files;
mod first_use;
mod homes;
mod identity;
mod invitations;
mod issued;
mod networks;
mod peers;
mod pending;
mod stolen;
mod support;
mod vectors;
mod writes;
