//! PKCS#8 `EncryptedPrivateKeyInfo` with PBES2 (RFC 8018), the form other programs read and write.

use der::asn1::OctetStringRef;
use der::{Decode, ErrorKind, Sequence};
use pkcs8::PrivateKeyInfoRef;
use pkcs8::pkcs5;
use pkcs8::pkcs5::pbes2::{Kdf, PBES2_OID, Parameters, Pbkdf2Params, Pbkdf2Prf, ScryptParams};
use spki::AlgorithmIdentifierRef;
use zeroize::Zeroizing;

use crate::error::KeyError;
use crate::pem;

/// PEM label of the form.
pub(crate) const LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// OWASP's figure for PBKDF2-HMAC-SHA-256. PBKDF2 rather than scrypt, because GnuTLS and Java
/// read no other, and OpenSSL refuses scrypt above 32 MiB.
const EXPORT_ITERATIONS: u32 = 600_000;

/// Sixteen times what is written here: some seconds.
const MAX_ITERATIONS: u32 = 10_000_000;
/// 1 GiB of working memory (128 r (N + p) bytes), as for sealed keys.
const MAX_SCRYPT_BYTES: u64 = 1 << 30;
/// 4 GiB written in all (128 N r p bytes): some ten seconds.
const MAX_SCRYPT_WORK: u64 = 4 << 30;

/// An encrypted key whose parameters were checked: opening it costs no more than the limits.
#[derive(Debug)]
pub(crate) struct Encrypted<'a> {
    parameters: Parameters,
    ciphertext: &'a [u8],
}

/// `EncryptedPrivateKeyInfo` under any algorithm, so that an old one is named as such.
#[derive(Sequence)]
struct Outer<'a> {
    algorithm: AlgorithmIdentifierRef<'a>,
    ciphertext: &'a OctetStringRef,
}

impl<'a> Encrypted<'a> {
    /// Reads the parameters and refuses what this program does not know or will not pay for.
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, KeyError> {
        let outer = Outer::from_der(der).map_err(|_| NOT_ENCRYPTED)?;
        if outer.algorithm.oid != PBES2_OID {
            return Err(KeyError::UnsupportedEncryption);
        }
        let parameters = outer.algorithm.parameters.ok_or(NOT_ENCRYPTED)?;
        let parameters = Parameters::try_from(parameters).map_err(|error| match error.kind() {
            ErrorKind::OidUnknown { .. } => KeyError::UnsupportedEncryption,
            _ => NOT_ENCRYPTED,
        })?;
        match &parameters.kdf {
            Kdf::Pbkdf2(pbkdf2) => check_pbkdf2(pbkdf2)?,
            Kdf::Scrypt(scrypt) => check_scrypt(scrypt)?,
            _ => return Err(KeyError::UnsupportedEncryption),
        }
        Ok(Self {
            parameters,
            ciphertext: outer.ciphertext.as_bytes(),
        })
    }

    /// Decrypts to PKCS#8 DER.
    pub(crate) fn open(&self, passphrase: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let mut buffer = Zeroizing::new(self.ciphertext.to_vec());
        let length = self
            .parameters
            .decrypt_in_place(passphrase, &mut buffer)
            .map_err(|error| match error {
                pkcs5::Error::DecryptFailed => KeyError::WrongPassphrase,
                pkcs5::Error::UnsupportedAlgorithm { .. } => KeyError::UnsupportedEncryption,
                _ => KeyError::Malformed {
                    what: "impossible encryption parameters",
                },
            })?
            .len();
        buffer.truncate(length);
        // CBC authenticates nothing: one wrong passphrase in 256 leaves valid padding. That what
        // comes out is PKCS#8 is the only check there is.
        if PrivateKeyInfoRef::from_der(&buffer).is_err() {
            return Err(KeyError::WrongPassphrase);
        }
        Ok(buffer)
    }
}

/// Encrypts PKCS#8 DER under `passphrase`.
pub(crate) fn encode(der: &[u8], passphrase: &str) -> Result<Zeroizing<String>, KeyError> {
    if passphrase.is_empty() {
        return Err(KeyError::EmptyPassphrase);
    }
    let failed = KeyError::Provider {
        what: "encrypt the key",
    };
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    for random in [&mut salt, &mut iv] {
        getrandom::fill(random).map_err(|_| KeyError::Provider {
            what: "get randomness",
        })?;
    }
    let encrypted = Parameters::generate_pbkdf2_sha256_aes256cbc(EXPORT_ITERATIONS, &salt, iv)
        .ok()
        .and_then(|parameters| {
            let info = PrivateKeyInfoRef::from_der(der).ok()?;
            info.encrypt_with_params(parameters, passphrase).ok()
        })
        .ok_or(failed)?;
    pem::encode(LABEL, encrypted.as_bytes())
}

fn check_pbkdf2(parameters: &Pbkdf2Params) -> Result<(), KeyError> {
    if parameters.prf == Pbkdf2Prf::HmacWithSha1 {
        return Err(KeyError::UnsupportedEncryption);
    }
    if parameters.iteration_count == 0 {
        return Err(IMPOSSIBLE);
    }
    at_most(
        "the number of iterations",
        parameters.iteration_count.into(),
        MAX_ITERATIONS.into(),
    )
}

fn check_scrypt(parameters: &ScryptParams) -> Result<(), KeyError> {
    let (n, r, p) = (
        parameters.cost_parameter,
        u64::from(parameters.block_size),
        u64::from(parameters.parallelization),
    );
    // The pkcs5 crate takes the logarithm of N unchecked, and panics at zero.
    if n < 2 || !n.is_power_of_two() || r == 0 || p == 0 {
        return Err(IMPOSSIBLE);
    }
    let memory = n.saturating_add(p).saturating_mul(128 * r);
    at_most("memory in bytes", memory, MAX_SCRYPT_BYTES)?;
    let work = n.saturating_mul(128 * r).saturating_mul(p);
    at_most("work in bytes", work, MAX_SCRYPT_WORK)
}

const NOT_ENCRYPTED: KeyError = KeyError::Malformed {
    what: "not encrypted PKCS#8",
};

const IMPOSSIBLE: KeyError = KeyError::Malformed {
    what: "impossible parameters of the password hash",
};

fn at_most(what: &'static str, found: u64, limit: u64) -> Result<(), KeyError> {
    if found > limit {
        return Err(KeyError::TooCostly { what, found, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use der::Encode;
    use pkcs8::EncryptedPrivateKeyInfoRef;
    use pkcs8::pkcs5::pbes2::EncryptionScheme;

    use super::*;

    fn pbkdf2(iterations: u32) -> Kdf {
        let mut parameters = Pbkdf2Params::hmac_sha256(1, &[7; 16]).expect("parameters");
        parameters.iteration_count = iterations;
        parameters.into()
    }

    fn scrypt(n: u64, r: u16, p: u16) -> Kdf {
        ScryptParams {
            salt: [7; 16].as_slice().try_into().expect("salt"),
            cost_parameter: n,
            block_size: r,
            parallelization: p,
            key_length: None,
        }
        .into()
    }

    fn encrypted(kdf: Kdf) -> Vec<u8> {
        let encryption = EncryptionScheme::Aes256Cbc { iv: [7; 16] };
        EncryptedPrivateKeyInfoRef {
            encryption_algorithm: Parameters { kdf, encryption }.into(),
            encrypted_data: OctetStringRef::new(&[7; 32]).expect("octets"),
        }
        .to_der()
        .expect("DER")
    }

    #[test]
    fn costs_are_taken_up_to_the_limit_and_refused_one_past_it() {
        for kdf in [
            pbkdf2(MAX_ITERATIONS),
            // N is a power of two and p adds to it, so the limit itself is never met: 2^19 is the last.
            scrypt(1 << 19, 8, 8),
            scrypt(1 << 14, 8, 256),
        ] {
            let der = encrypted(kdf.clone());
            assert!(Encrypted::parse(&der).is_ok(), "{kdf:?}");
        }
        for kdf in [
            pbkdf2(MAX_ITERATIONS + 1),
            pbkdf2(u32::MAX),
            scrypt(1 << 20, 8, 1),
            scrypt(1 << 14, 8, 257),
            scrypt(1 << 63, 8, 1),
            scrypt(2, u16::MAX, u16::MAX),
            scrypt(1 << 63, u16::MAX, u16::MAX),
        ] {
            let der = encrypted(kdf.clone());
            let refused = Encrypted::parse(&der).expect_err("past a limit");
            assert!(
                matches!(refused, KeyError::TooCostly { .. }),
                "{kdf:?}: {refused}"
            );
        }
    }

    #[test]
    fn impossible_parameters_are_refused_before_the_passphrase() {
        for kdf in [
            pbkdf2(0),
            scrypt(0, 8, 1),
            scrypt(1, 8, 1),
            scrypt(3, 8, 1),
            scrypt(16, 0, 1),
            scrypt(16, 8, 0),
        ] {
            let der = encrypted(kdf.clone());
            assert!(
                matches!(Encrypted::parse(&der), Err(KeyError::Malformed { .. })),
                "{kdf:?}"
            );
        }
    }

    #[test]
    fn valid_padding_around_something_else_is_a_wrong_passphrase() {
        let parameters =
            Parameters::generate_pbkdf2_sha256_aes256cbc(1, &[7; 16], [7; 16]).expect("parameters");
        let ciphertext = parameters.encrypt("right", b"no key").expect("encrypted");
        let encrypted = Encrypted {
            parameters,
            ciphertext: &ciphertext,
        };
        assert!(matches!(
            encrypted.open("right"),
            Err(KeyError::WrongPassphrase)
        ));
    }

    #[test]
    fn every_shortened_and_changed_file_is_refused() {
        let der = encrypted(pbkdf2(1));
        for length in 0..der.len() {
            assert!(Encrypted::parse(&der[..length]).is_err(), "{length} bytes");
        }
        for position in 0..der.len() {
            for bit in 0..8 {
                let mut changed = der.clone();
                changed[position] ^= 1 << bit;
                // Some changes only alter the salt or the count; a count that grew is not hashed.
                if let Ok(parsed) = Encrypted::parse(&changed)
                    && matches!(&parsed.parameters.kdf, Kdf::Pbkdf2(p) if p.iteration_count < 1000)
                {
                    assert!(parsed.open("x").is_err(), "byte {position} bit {bit}");
                }
            }
        }
    }
}
