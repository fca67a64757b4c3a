//! Why a key could not be made, read, sealed or exported. No variant holds secret bytes.

use thiserror::Error;

/// A key that could not be made, read, sealed or exported.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// More text than any key file has. Refused before anything is decoded.
    #[error("the key file is too large: {found} bytes, at most {limit}")]
    TooLarge {
        /// Bytes there are.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The text is not one PEM block.
    #[error("the key file is not a single PEM block")]
    NotPem,
    /// A PEM block of another kind, such as a certificate or a traditional `EC PRIVATE KEY`.
    #[error("the key file holds {label:?}, expected {expected:?}")]
    OtherBlock {
        /// What the block calls itself, at most 32 characters of it.
        label: String,
        /// The label of a plain key; sealed and encrypted ones are read as well.
        expected: &'static str,
    },
    /// The bytes inside the PEM block are not what its label says.
    #[error("the key file is damaged: {what}")]
    Malformed {
        /// Which part does not parse.
        what: &'static str,
    },
    /// A private key, but neither P-256 nor Ed25519.
    #[error("the key is neither P-256 nor Ed25519")]
    UnsupportedKey,
    /// A sealed key of a later format.
    #[error("the sealed key has format version {found}, this program knows version {known}")]
    UnsupportedVersion {
        /// Version in the file.
        found: u8,
        /// The only version read here.
        known: u8,
    },
    /// A PKCS#8 file encrypted with something other than PBES2 of PBKDF2 (SHA-2) or scrypt with AES.
    #[error(
        "the key is encrypted in an old way; convert it with `openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256`"
    )]
    UnsupportedEncryption,
    /// The file demands more work of its password hash than any honest one. Refused before any of
    /// that work is done.
    #[error(
        "the key file demands too much of its password hash: {what} is {found}, at most {limit}"
    )]
    TooCostly {
        /// Which parameter.
        what: &'static str,
        /// What the file demands.
        found: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The passphrase is wrong, or the file was changed: the two cannot be told apart.
    #[error("the passphrase is wrong, or the key file was changed")]
    WrongPassphrase,
    /// An empty passphrase would seal nothing.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// Nobody could be asked for the passphrase.
    #[error(transparent)]
    NoPassphrase(#[from] NoPassphrase),
    /// The machine cannot spare the memory for the password hash.
    #[error("not enough memory to hash the passphrase: {kib} KiB")]
    OutOfMemory {
        /// KiB that were asked for.
        kib: u32,
    },
    /// The system gave no randomness, or the cryptographic provider failed.
    #[error("cannot {what}")]
    Provider {
        /// What was being done.
        what: &'static str,
    },
}

/// Why a passphrase could not be had: no terminal, an unreadable file, an interrupted prompt.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cannot get the passphrase: {cause}")]
pub struct NoPassphrase {
    /// What the prompt said.
    pub cause: String,
}
