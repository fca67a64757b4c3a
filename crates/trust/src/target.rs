//! What a PEER on the command line means.

/// The port at which nodes listen.
pub const DEFAULT_PORT: u16 = 7117;
