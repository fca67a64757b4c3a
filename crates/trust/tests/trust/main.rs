//! The crate seen from outside: every mode, rule and reason against real certificates.

mod document;
mod grants;
mod modes;
mod properties;
mod rules;
mod vectors;
mod world;
