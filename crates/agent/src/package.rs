//! What one authority hands to those it certified: a membership package.
//!
//! PEM blocks: the certificates that the member presents (its cross-certificate first, then those of
//! the keys above it), and the authority's bundle last. Without certificates it is the bundle alone, for
//! those who follow the authority. Nothing in it is secret.

use comity_record::{Bundle, BundleError};
use thiserror::Error;

use crate::armour::{ArmourError, BUNDLE, CERTIFICATE, read_blocks, write_block};

/// Certificates in one package: a cross-certificate for each of a few keys of the authority and what is
/// above them. What is presented on a connection is bounded again.
pub const MAX_PACKAGE_CERTIFICATES: usize = 16;

/// A membership package, or a bundle alone. Holding one means that the bundle verified itself; whose
/// the certificates are, and whether they hold, is for the reader to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// DER certificates for the member to present, cross-certificates first; empty for a bundle alone.
    pub certificates: Vec<Vec<u8>>,
    /// The authority's bundle.
    pub bundle: Bundle,
}

/// Why a text is no package.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PackageError {
    /// Its PEM blocks cannot be read.
    #[error(transparent)]
    Armour(#[from] ArmourError),
    /// A block that has no place in a package.
    #[error("a PEM block `{label}` has no place in it")]
    Stranger {
        /// Its label.
        label: String,
    },
    /// More than [`MAX_PACKAGE_CERTIFICATES`].
    #[error("it has more than {MAX_PACKAGE_CERTIFICATES} certificates")]
    TooMany,
    /// Not exactly one bundle, or not at the end.
    #[error("it has no bundle as its last PEM block, or more than one")]
    NotOneBundle,
    /// The bundle does not hold.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

impl Package {
    /// Reads a package and verifies the bundle in it.
    ///
    /// # Errors
    /// When it is not in this form, past a limit, or the bundle does not hold.
    pub fn parse(text: &str) -> Result<Self, PackageError> {
        let mut certificates = Vec::new();
        let mut bundle = None;
        for block in read_blocks(text)? {
            match block.label.as_str() {
                _ if bundle.is_some() => return Err(PackageError::NotOneBundle),
                CERTIFICATE if certificates.len() == MAX_PACKAGE_CERTIFICATES => {
                    return Err(PackageError::TooMany);
                }
                CERTIFICATE => certificates.push(block.content),
                BUNDLE => bundle = Some(block.content),
                _ => return Err(PackageError::Stranger { label: block.label }),
            }
        }
        let bundle = bundle.ok_or(PackageError::NotOneBundle)?;
        Ok(Self {
            certificates,
            bundle: Bundle::parse(&bundle)?,
        })
    }

    /// The text of it.
    pub fn encode(&self) -> String {
        let certificates = self.certificates.iter();
        let mut text: String = certificates
            .map(|der| write_block(CERTIFICATE, der))
            .collect();
        text.push_str(&write_block(BUNDLE, self.bundle.bytes()));
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use comity_certs::{AuthorityRootRequest, mint_authority_root};
    use comity_identity::{Algorithm, NodeId, UnixTime};
    use comity_keys::SoftwareKey;
    use comity_record::{BundleRequest, CharterKey, CharterRequest, KeyState};

    use super::*;
    use crate::armour::SUCCESSION;

    /// 2026-03-01.
    const TODAY: u64 = 1_772_323_200;

    fn bundle() -> Bundle {
        let root = SoftwareKey::generate(Algorithm::EcdsaP256).expect("a key");
        let now = UnixTime::from_secs(TODAY);
        let request = AuthorityRootRequest {
            serial: [1; 16],
            not_before: now,
            not_after: now + Duration::from_secs(86_400),
        };
        let certificate = mint_authority_root(&root, &request).expect("a root");
        let charter = CharterRequest {
            network: NodeId::of_spki(root.spki()),
            sequence: 1,
            issued: now,
            keys: vec![CharterKey {
                state: KeyState::Active,
                certificate,
                proof: CharterKey::proof(&root, &NodeId::of_spki(root.spki())).expect("a proof"),
            }],
        };
        let charter = charter.sign(&[&root]).expect("a charter");
        let request = BundleRequest {
            name: "acme".to_owned(),
            sequence: 1,
            issued: now,
            expires: now + Duration::from_secs(86_400),
            refresh: Duration::from_secs(3600),
            locations: Vec::new(),
            charters: vec![charter],
            withdrawn: Vec::new(),
        };
        request.sign(&root).expect("a bundle")
    }

    fn package(certificates: usize) -> Package {
        Package {
            certificates: vec![b"a certificate".to_vec(); certificates],
            bundle: bundle(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for certificates in [0, 1, MAX_PACKAGE_CERTIFICATES] {
            let package = package(certificates);
            assert_eq!(Package::parse(&package.encode()), Ok(package));
        }
        let more = package(MAX_PACKAGE_CERTIFICATES + 1).encode();
        assert_eq!(Package::parse(&more), Err(PackageError::TooMany));
    }

    #[test]
    fn a_package_ends_with_its_only_bundle() {
        let package = package(1);
        let bundle = write_block(BUNDLE, package.bundle.bytes());
        let certificate = write_block(CERTIFICATE, b"a certificate");
        for text in [
            certificate.clone(),
            bundle.clone() + &bundle,
            bundle + &certificate,
        ] {
            assert_eq!(Package::parse(&text), Err(PackageError::NotOneBundle));
        }
    }

    #[test]
    fn blocks_of_other_kinds_are_refused() {
        let text = write_block(SUCCESSION, b"a statement") + &package(0).encode();
        let label = SUCCESSION.to_owned();
        assert_eq!(Package::parse(&text), Err(PackageError::Stranger { label }));
    }

    #[test]
    fn a_bundle_that_was_changed_on_the_way_is_refused() {
        let mut bytes = package(0).bundle.bytes().to_vec();
        let last = bytes.last_mut().expect("bytes");
        *last ^= 1;
        let refused = Package::parse(&write_block(BUNDLE, &bytes));
        assert!(
            matches!(refused, Err(PackageError::Bundle(_))),
            "{refused:?}"
        );
    }
}
