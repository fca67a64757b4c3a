//! The three kinds of SHA-256 value, and the identity of any peer made of two of them.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;

use crate::text::{self, ParseHashError};
use crate::words::Words;

macro_rules! hash_type {
    ($(#[$meta:meta])* $name:ident, $of:ident, $input:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 32]);

        impl $name {
            #[doc = concat!("Hashes ", $input, ".")]
            pub fn $of(der: &[u8]) -> Self {
                let digest = digest::digest(&digest::SHA256, der);
                let mut bytes = [0; 32];
                bytes.copy_from_slice(digest.as_ref());
                Self(bytes)
            }

            /// Wraps a hash that was computed elsewhere.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes of the hash.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// 64 lower-case hexadecimal digits, as other tools print a SHA-256.
            pub fn to_hex(&self) -> String {
                text::to_hex(&self.0)
            }

            /// The first group of the text form, for logs and tables. It never grants anything.
            pub fn short(&self) -> String {
                text::to_groups(&self.0)[..7].to_owned()
            }

            /// The 12-word form, for comparison by people only.
            pub fn words(&self) -> Words {
                Words::of_hash(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&text::to_groups(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseHashError;

            fn from_str(s: &str) -> Result<Self, ParseHashError> {
                text::parse_hash(s).map(Self)
            }
        }
    };
}

hash_type!(
    /// The identity of a node: SHA-256 over the DER SubjectPublicKeyInfo of its identity key.
    NodeId, of_spki, "a DER SubjectPublicKeyInfo"
);

hash_type!(
    /// SHA-256 over the DER SubjectPublicKeyInfo of any key.
    KeyHash, of_spki, "a DER SubjectPublicKeyInfo"
);

hash_type!(
    /// SHA-256 over one whole DER certificate.
    Fingerprint, of_certificate, "a whole DER certificate"
);

impl NodeId {
    /// The same hash as a plain key hash, for rules that hold for any key, such as revocation.
    pub const fn key_hash(&self) -> KeyHash {
        KeyHash(self.0)
    }
}

/// Who a peer is, whatever it runs: a native node by its identity key, anybody else by the key in
/// their certificate.
///
/// The two never compare equal, even with the same hash inside: a native identity key that
/// is presented directly as a TLS key is a different peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum PeerId {
    /// A native node.
    Node(NodeId),
    /// A foreign peer, known by the key in its certificate.
    Key(KeyHash),
}

impl PeerId {
    /// The hash of the key that this identity stands on.
    pub const fn key_hash(&self) -> KeyHash {
        match self {
            Self::Node(id) => id.key_hash(),
            Self::Key(hash) => *hash,
        }
    }

    /// The first group of the text form, for logs and tables.
    pub fn short(&self) -> String {
        self.key_hash().short()
    }
}

/// Nodes print as their id; foreign keys carry the prefix `key:`.
impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => id.fmt(f),
            Self::Key(hash) => write!(f, "key:{hash}"),
        }
    }
}

impl FromStr for PeerId {
    type Err = ParseHashError;

    fn from_str(s: &str) -> Result<Self, ParseHashError> {
        match s.strip_prefix("key:") {
            Some(hash) => hash.parse().map(Self::Key),
            None => s.strip_prefix("node:").unwrap_or(s).parse().map(Self::Node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_and_a_foreign_key_with_one_hash_are_two_peers() {
        let id = NodeId::of_spki(b"spki");
        assert_ne!(PeerId::Node(id), PeerId::Key(id.key_hash()));
    }

    #[test]
    fn peer_ids_survive_their_text_form() {
        for id in [
            PeerId::Node(NodeId::of_spki(b"a")),
            PeerId::Key(KeyHash::of_spki(b"b")),
        ] {
            assert_eq!(id.to_string().parse::<PeerId>().as_ref(), Ok(&id));
        }
    }

    #[test]
    fn debug_output_is_short() {
        let id = NodeId::of_spki(b"a");
        assert_eq!(format!("{id:?}"), format!("NodeId({})", id.short()));
    }
}
