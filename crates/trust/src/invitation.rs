//! placeholder while the grammar is built
/// Whether a label would be read as an invitation.
pub(crate) fn has_prefix(label: &str) -> bool {
    label.starts_with("comity-invite")
}
