//! An identity or authority key held in memory.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use comity_identity::{Algorithm, SignError, Signer, has_low_s};
use der::Decode;
use pkcs8::{ObjectIdentifier, PrivateKeyInfoRef};
use zeroize::Zeroizing;

use crate::error::{KeyError, NoPassphrase};
use crate::pem::{self, Form};
use crate::{pbes2, sealed};

/// A private key in this process's memory.
///
/// The memory is wiped when the key is dropped; `Debug` shows the public half only.
pub struct SoftwareKey {
    pair: Pair,
    spki: Vec<u8>,
}

enum Pair {
    EcdsaP256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// id-ecPublicKey (RFC 5480).
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// prime256v1 (RFC 5480).
const PRIME256V1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// id-Ed25519 (RFC 8410).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Every second signature has low s, so this many tries fail once in 2^128.
const LOW_S_TRIES: u32 = 128;

impl SoftwareKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`KeyError::Provider`] when the system has no randomness to give.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        let failed = |_| KeyError::Provider { what: "make a key" };
        let pair = match algorithm {
            Algorithm::EcdsaP256 => Pair::EcdsaP256(
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(failed)?,
            ),
            Algorithm::Ed25519 => Pair::Ed25519(Ed25519KeyPair::generate().map_err(failed)?),
        };
        Ok(Self::from_pair(pair))
    }

    /// Takes a key in PKCS#8 DER (RFC 5958, either version).
    ///
    /// # Errors
    /// [`KeyError::UnsupportedKey`] for other kinds of key, [`KeyError::Malformed`] for bytes that
    /// are not PKCS#8 or whose halves do not belong together.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        let info = PrivateKeyInfoRef::from_der(der)
            .map_err(|_| KeyError::Malformed { what: "not PKCS#8" })?;
        let rejected = |_| KeyError::Malformed {
            what: "not a valid private key",
        };
        let pair = match algorithm(&info)? {
            Algorithm::EcdsaP256 => Pair::EcdsaP256(
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der).map_err(rejected)?,
            ),
            Algorithm::Ed25519 => Pair::Ed25519(Ed25519KeyPair::from_pkcs8(der).map_err(rejected)?),
        };
        Ok(Self::from_pair(pair))
    }

    /// Reads a key in any of the three text forms. Asks for the passphrase only when the form
    /// needs one, at most once, and only after the file passed every check that needs none.
    ///
    /// # Errors
    /// [`KeyError::WrongPassphrase`] lets the caller ask again; every other error is final for
    /// this text.
    pub fn decode(
        text: &str,
        passphrase: &mut dyn FnMut() -> Result<Zeroizing<String>, NoPassphrase>,
    ) -> Result<Self, KeyError> {
        let block = pem::decode(text)?;
        let der = match block.form {
            Form::Plain => block.bytes,
            Form::Sealed => sealed::Sealed::parse(&block.bytes)?.open(&passphrase()?)?,
            Form::Pbes2 => pbes2::Encrypted::parse(&block.bytes)?.open(&passphrase()?)?,
        };
        Self::from_pkcs8_der(&der)
    }

    /// The key in the clear: PKCS#8 PEM. Whoever reads it has the key.
    ///
    /// # Errors
    /// [`KeyError::Provider`] when the provider cannot export the key.
    pub fn encode_plain(&self) -> Result<Zeroizing<String>, KeyError> {
        pem::encode(pem::PLAIN_LABEL, &self.to_pkcs8_der()?)
    }

    /// The key sealed under a passphrase: Argon2id (64 MiB, 3 passes) and XChaCha20-Poly1305.
    /// Blocks for a tenth of a second or so.
    ///
    /// The passphrase counts byte for byte, in UTF-8.
    ///
    /// # Errors
    /// [`KeyError::EmptyPassphrase`], [`KeyError::OutOfMemory`], [`KeyError::Provider`].
    pub fn seal(&self, passphrase: &str) -> Result<Zeroizing<String>, KeyError> {
        sealed::seal(&self.to_pkcs8_der()?, passphrase)
    }

    /// The key encrypted with PBES2 (PBKDF2 with HMAC-SHA-256, AES-256-CBC), which other programs
    /// read; `openssl pkey` does. For exchange: [`Self::seal`] costs a guesser far more.
    ///
    /// # Errors
    /// [`KeyError::EmptyPassphrase`], [`KeyError::Provider`].
    pub fn encode_pbes2(&self, passphrase: &str) -> Result<Zeroizing<String>, KeyError> {
        pbes2::encode(&self.to_pkcs8_der()?, passphrase)
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// PKCS#8 version 1 in DER.
    ///
    /// # Errors
    /// [`KeyError::Provider`] when the provider cannot export the key.
    pub fn to_pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let document = match &self.pair {
            Pair::EcdsaP256(pair) => pair.to_pkcs8v1(),
            Pair::Ed25519(pair) => pair.to_pkcs8v1(),
        };
        let document = document.map_err(|_| KeyError::Provider {
            what: "export the key",
        })?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    fn from_pair(pair: Pair) -> Self {
        let spki = match &pair {
            Pair::EcdsaP256(pair) => Algorithm::EcdsaP256.spki(pair.public_key().as_ref()),
            Pair::Ed25519(pair) => Algorithm::Ed25519.spki(pair.public_key().as_ref()),
        };
        Self { pair, spki }
    }
}

/// Which of the two kinds a PKCS#8 key is, by its exact algorithm identifier.
fn algorithm(info: &PrivateKeyInfoRef<'_>) -> Result<Algorithm, KeyError> {
    let parameters = info.algorithm.parameters;
    if info.algorithm.oid == EC_PUBLIC_KEY {
        let curve = parameters.and_then(|p| p.decode_as::<ObjectIdentifier>().ok());
        if curve == Some(PRIME256V1) {
            return Ok(Algorithm::EcdsaP256);
        }
    } else if info.algorithm.oid == ED25519 && parameters.is_none() {
        return Ok(Algorithm::Ed25519);
    }
    Err(KeyError::UnsupportedKey)
}

impl Signer for SoftwareKey {
    fn algorithm(&self) -> Algorithm {
        match self.pair {
            Pair::EcdsaP256(_) => Algorithm::EcdsaP256,
            Pair::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// ECDSA signatures have low s: [`comity_identity::verify`] refuses the others.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match &self.pair {
            Pair::EcdsaP256(pair) => sign_low_s(pair, message),
            Pair::Ed25519(pair) => pair
                .try_sign(message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| provider_failed()),
        }
    }
}

/// Signs again until s is low: each try takes a fresh nonce, and negating s instead would need
/// arithmetic on big numbers that has no place here.
fn sign_low_s(pair: &EcdsaKeyPair, message: &[u8]) -> Result<Vec<u8>, SignError> {
    let random = SystemRandom::new();
    for _ in 0..LOW_S_TRIES {
        let signature = pair.sign(&random, message).map_err(|_| provider_failed())?;
        if has_low_s(signature.as_ref()) {
            return Ok(signature.as_ref().to_vec());
        }
    }
    Err(SignError {
        cause: format!("no signature with low s in {LOW_S_TRIES} tries"),
    })
}

fn provider_failed() -> SignError {
    SignError {
        cause: "the cryptographic provider failed".into(),
    }
}

impl fmt::Debug for SoftwareKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoftwareKey")
            .field("algorithm", &Signer::algorithm(self))
            .field("key", &comity_identity::KeyHash::of_spki(&self.spki))
            .finish_non_exhaustive()
    }
}
