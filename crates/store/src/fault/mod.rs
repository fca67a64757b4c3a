//! Disks for tests: one that counts calls and fails at a chosen one, and one that loses power.

mod model;
mod steps;

pub use model::ModelDisk;
pub use steps::{Call, Fault, FaultDisk};
