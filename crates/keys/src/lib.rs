//! Private keys in software, behind [`comity_identity::Signer`], and the text forms they are kept in.
//!
//! Bytes in, bytes out: reading and writing files belongs to `comity-store`, asking for a
//! passphrase to whoever talks to people. Three forms are read:
//!
//! | PEM label | form | written by |
//! |---|---|---|
//! | `PRIVATE KEY` | PKCS#8, in the clear (RFC 5958) | [`SoftwareKey::encode_plain`] |
//! | `COMITY SEALED KEY` | Argon2id and XChaCha20-Poly1305, `docs/formats.md` | [`SoftwareKey::seal`] |
//! | `ENCRYPTED PRIVATE KEY` | PKCS#8 with PBES2 (RFC 8018), for exchange | [`SoftwareKey::encode_pbes2`] |
//!
//! Everything secret is wiped when it is dropped and never printed: not by `Debug`, not in errors.
//!
//! ```
//! use comity_identity::{Algorithm, Signer, verify};
//! use comity_keys::{NoPassphrase, SoftwareKey};
//!
//! let key = SoftwareKey::generate(Algorithm::EcdsaP256)?;
//! let text = key.encode_plain()?;
//! let no_terminal = || Err(NoPassphrase { cause: "no terminal".into() });
//! let again = SoftwareKey::decode(&text, &mut { no_terminal })?;
//! let signature = again.sign(b"statement")?;
//! verify(key.spki(), b"statement", &signature)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod leaf;
mod pbes2;
mod pem;
mod sealed;
mod software;

pub use error::{KeyError, NoPassphrase};
pub use leaf::LeafKey;
pub use pem::{MAX_TEXT_BYTES, needs_passphrase};
pub use sealed::is_sealed;
pub use software::SoftwareKey;
