//! See the crate description; filled in step by step.

pub mod authorities;
pub mod certificates;
pub mod foreign;
pub mod fuzzing;
pub mod world;
