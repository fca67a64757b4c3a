//! Keys of TLS leaves: always P-256, always software, made afresh for every certificate.

use std::fmt;

use comity_identity::Algorithm;
use zeroize::Zeroizing;

use crate::error::KeyError;
use crate::software::SoftwareKey;

/// A leaf's private key, in the form a TLS stack takes. Wiped when dropped, never printed.
pub struct LeafKey {
    pkcs8: Zeroizing<Vec<u8>>,
    spki: Vec<u8>,
}

impl LeafKey {
    /// Makes a new P-256 key.
    ///
    /// # Errors
    /// [`KeyError::Provider`] when the system has no randomness to give.
    pub fn generate() -> Result<Self, KeyError> {
        let key = SoftwareKey::generate(Algorithm::EcdsaP256)?;
        Ok(Self {
            pkcs8: key.to_pkcs8_der()?,
            spki: key.spki().to_vec(),
        })
    }

    /// The private key in PKCS#8 DER.
    pub fn pkcs8_der(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Gives the private key away.
    pub fn into_pkcs8_der(self) -> Zeroizing<Vec<u8>> {
        self.pkcs8
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }
}

impl fmt::Debug for LeafKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeafKey")
            .field("key", &comity_identity::KeyHash::of_spki(&self.spki))
            .finish_non_exhaustive()
    }
}
