//! What an operator names as the backend of a service.

use comity_tunnel::Target;

use super::text;

/// A backend: its text is read back as the same one.
pub fn tunnel_target(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match text.parse::<Target>() {
        Ok(target) => {
            if let Target::Tcp { host, port } = &target {
                assert!(*port != 0 && !host.is_empty());
                assert!(!host.contains(char::is_whitespace));
            }
            assert_eq!(target.to_string().parse(), Ok(target));
        }
        Err(error) => assert!(error.text.chars().count() <= 100),
    }
}
