//! The authorities that a node knows: those whose cross-certificates recognise members here, and
//! those of other organisations whose withdrawals count for what they issued.

/// Every authority that counts. Empty by default.
#[derive(Clone, Debug, Default)]
pub struct Networks(());

impl Networks {
    /// No authority at all.
    pub const fn empty() -> Self {
        Self(())
    }
}
