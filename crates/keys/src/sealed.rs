//! The sealed form: a PKCS#8 key under a passphrase.
//!
//! 1. A header names the format version, the cost of the password hash, a salt and a nonce. The
//!    cost travels with the file so that it can grow without breaking old files.
//! 2. Argon2id turns passphrase and salt into 32 bytes: each guess costs the memory in the header.
//! 3. XChaCha20-Poly1305 encrypts the PKCS#8 DER. A domain string and the header are authenticated
//!    with it, so nobody can lower the cost or pass another program's ciphertext off as a key.
//!
//! `docs/formats.md` has the layout byte by byte.

use argon2::{Argon2, Block};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::{Zeroize, Zeroizing};

use crate::error::KeyError;
use crate::pem::{self, Form};

/// PEM label of the sealed form.
pub(crate) const LABEL: &str = "COMITY SEALED KEY";

/// Separates this use of the cipher from any other under the same passphrase.
const DOMAIN: &[u8] = b"comity sealed key v1\0";

const VERSION: u8 = 1;
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;
/// version, memory, passes, lanes, salt, nonce
const HEADER_BYTES: usize = 1 + 3 * 4 + SALT_BYTES + NONCE_BYTES;
const TAG_BYTES: usize = 16;

/// What guessing costs. RFC 9106 section 4 recommends 64 MiB, 3 passes and 4 lanes where memory is
/// short; one lane here, because this implementation computes lanes one after another, and more
/// of them would only help the guesser.
const DEFAULT_COST: Cost = Cost {
    memory_kib: 64 * 1024,
    passes: 3,
    lanes: 1,
};

/// 1 GiB: sixteen times the default, and still there on the smallest machine that runs a service.
/// A hostile file must not be able to ask for all memory.
const MAX_MEMORY_KIB: u32 = 1024 * 1024;
/// With the most memory this takes some ten seconds: slow, but it ends.
const MAX_PASSES: u32 = 16;
/// Lanes cost nothing by themselves; more than 16 is no honest file.
const MAX_LANES: u32 = 16;

/// Argon2id parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// A sealed key whose header was checked: opening it costs no more than the limits.
#[derive(Debug)]
pub(crate) struct Sealed<'a> {
    cost: Cost,
    header: &'a [u8; HEADER_BYTES],
    ciphertext: &'a [u8],
}

/// Whether the text is a sealed key. Looks at the label only.
pub fn is_sealed(text: &str) -> bool {
    matches!(pem::form(text), Ok(Form::Sealed))
}

/// Seals PKCS#8 DER under `passphrase`, with fresh salt and nonce.
pub(crate) fn seal(der: &[u8], passphrase: &str) -> Result<Zeroizing<String>, KeyError> {
    let mut random = [0; SALT_BYTES + NONCE_BYTES];
    getrandom::fill(&mut random).map_err(|_| KeyError::Provider {
        what: "get randomness",
    })?;
    pem::encode(LABEL, &seal_with(der, passphrase, DEFAULT_COST, random)?)
}

fn seal_with(
    der: &[u8],
    passphrase: &str,
    cost: Cost,
    salt_and_nonce: [u8; SALT_BYTES + NONCE_BYTES],
) -> Result<Vec<u8>, KeyError> {
    if passphrase.is_empty() {
        return Err(KeyError::EmptyPassphrase);
    }
    let mut sealed = vec![VERSION];
    for parameter in [cost.memory_kib, cost.passes, cost.lanes] {
        sealed.extend(parameter.to_be_bytes());
    }
    sealed.extend(salt_and_nonce);
    let (salt, nonce) = salt_and_nonce.split_at(SALT_BYTES);
    let ciphertext = cost
        .cipher(passphrase, salt)?
        .encrypt(
            XNonce::from_slice(nonce),
            Payload {
                msg: der,
                aad: &[DOMAIN, &sealed].concat(),
            },
        )
        .map_err(|_| KeyError::Provider {
            what: "encrypt the key",
        })?;
    sealed.extend(ciphertext);
    Ok(sealed)
}

impl<'a> Sealed<'a> {
    /// Reads the header and refuses what this program does not know or will not pay for.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, KeyError> {
        match bytes.first() {
            Some(&VERSION) => {}
            Some(&found) => {
                return Err(KeyError::UnsupportedVersion {
                    found,
                    known: VERSION,
                });
            }
            None => return Err(KeyError::Malformed { what: "no header" }),
        }
        let (header, ciphertext) =
            bytes
                .split_first_chunk::<HEADER_BYTES>()
                .ok_or(KeyError::Malformed {
                    what: "cut off in the header",
                })?;
        if ciphertext.len() <= TAG_BYTES {
            return Err(KeyError::Malformed {
                what: "no ciphertext",
            });
        }
        Ok(Self {
            cost: Cost::read(header)?,
            header,
            ciphertext,
        })
    }

    /// Decrypts to PKCS#8 DER.
    pub(crate) fn open(&self, passphrase: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let salt = &self.header[13..13 + SALT_BYTES];
        let nonce = &self.header[13 + SALT_BYTES..];
        self.cost
            .cipher(passphrase, salt)?
            .decrypt(
                XNonce::from_slice(nonce),
                Payload {
                    msg: self.ciphertext,
                    aad: &[DOMAIN, self.header.as_slice()].concat(),
                },
            )
            .map(Zeroizing::new)
            .map_err(|_| KeyError::WrongPassphrase)
    }
}

impl Cost {
    fn read(header: &[u8; HEADER_BYTES]) -> Result<Self, KeyError> {
        let number = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let cost = Self {
            memory_kib: number(1),
            passes: number(5),
            lanes: number(9),
        };
        for (what, found, limit) in [
            ("memory in KiB", cost.memory_kib, MAX_MEMORY_KIB),
            ("the number of passes", cost.passes, MAX_PASSES),
            ("the number of lanes", cost.lanes, MAX_LANES),
        ] {
            if found > limit {
                return Err(KeyError::TooCostly {
                    what,
                    found: found.into(),
                    limit: limit.into(),
                });
            }
        }
        // Refused here rather than after the passphrase was asked for.
        cost.parameters()?;
        Ok(cost)
    }

    fn parameters(self) -> Result<argon2::Params, KeyError> {
        argon2::Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).map_err(|_| {
            KeyError::Malformed {
                what: "impossible parameters of the password hash",
            }
        })
    }

    /// Hashes the passphrase and keys the cipher with it. The working memory is wiped as well:
    /// with it, a guess would cost next to nothing.
    fn cipher(self, passphrase: &str, salt: &[u8]) -> Result<XChaCha20Poly1305, KeyError> {
        let parameters = self.parameters()?;
        let mut memory = Memory(Vec::new());
        memory
            .0
            .try_reserve_exact(parameters.block_count())
            .map_err(|_| KeyError::OutOfMemory {
                kib: self.memory_kib,
            })?;
        memory.0.resize(parameters.block_count(), Block::new());
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(
            argon2::Algorithm::Argon2id,
            argon2::Version::V0x13,
            parameters,
        )
        .hash_password_into_with_memory(passphrase.as_bytes(), salt, &mut *key, &mut memory.0)
        .map_err(|_| KeyError::Provider {
            what: "hash the passphrase",
        })?;
        Ok(XChaCha20Poly1305::new((&*key).into()))
    }
}

/// Argon2's working memory, wiped on every way out.
struct Memory(Vec<Block>);

impl Drop for Memory {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(Zeroize::zeroize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cheapest cost Argon2 has, for tests that are not about cost.
    const CHEAP: Cost = Cost {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
    };

    fn sealed() -> Vec<u8> {
        seal_with(b"secret", "correct", CHEAP, [7; 40]).expect("sealed")
    }

    fn with_cost(memory_kib: u32, passes: u32, lanes: u32) -> Vec<u8> {
        let mut bytes = sealed();
        bytes[1..5].copy_from_slice(&memory_kib.to_be_bytes());
        bytes[5..9].copy_from_slice(&passes.to_be_bytes());
        bytes[9..13].copy_from_slice(&lanes.to_be_bytes());
        bytes
    }

    #[test]
    fn the_same_passphrase_opens_what_it_sealed() {
        let bytes = sealed();
        let opened = Sealed::parse(&bytes).expect("parsed").open("correct");
        assert_eq!(*opened.expect("opened"), b"secret");
    }

    #[test]
    fn a_wrong_passphrase_is_told_apart_from_a_damaged_file() {
        let bytes = sealed();
        let parsed = Sealed::parse(&bytes).expect("parsed");
        for wrong in ["", "Correct", "correct "] {
            assert!(matches!(parsed.open(wrong), Err(KeyError::WrongPassphrase)));
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let bytes = sealed();
        for position in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[position] ^= 1;
            let opened = Sealed::parse(&changed).and_then(|s| s.open("correct"));
            assert!(opened.is_err(), "byte {position}");
        }
    }

    #[test]
    fn every_shortened_file_is_noticed() {
        let bytes = sealed();
        for length in 0..bytes.len() {
            let opened = Sealed::parse(&bytes[..length]).and_then(|s| s.open("correct"));
            assert!(opened.is_err(), "{length} bytes");
        }
    }

    #[test]
    fn costs_are_taken_up_to_the_limit_and_refused_one_past_it() {
        for (memory, passes, lanes) in [
            (MAX_MEMORY_KIB, 1, 1),
            (8, MAX_PASSES, 1),
            (8 * MAX_LANES, 1, MAX_LANES),
        ] {
            let bytes = with_cost(memory, passes, lanes);
            let parsed = Sealed::parse(&bytes).expect("within the limits");
            assert_eq!(parsed.cost.memory_kib, memory);
        }
        for (memory, passes, lanes) in [
            (MAX_MEMORY_KIB + 1, 1, 1),
            (8, MAX_PASSES + 1, 1),
            (8 * 17, 1, MAX_LANES + 1),
            (64 * 1024 * 1024, 3, 1),
            (u32::MAX, u32::MAX, u32::MAX),
        ] {
            let refused = Sealed::parse(&with_cost(memory, passes, lanes))
                .map(|_| ())
                .expect_err("past a limit");
            assert!(
                matches!(refused, KeyError::TooCostly { .. }),
                "{memory} {passes} {lanes}: {refused}"
            );
        }
    }

    #[test]
    fn costs_that_argon2_cannot_have_are_refused_before_the_passphrase() {
        for (memory, passes, lanes) in [(0, 1, 1), (7, 1, 1), (8, 0, 1), (8, 1, 0), (15, 1, 2)] {
            let bytes = with_cost(memory, passes, lanes);
            assert!(
                matches!(Sealed::parse(&bytes), Err(KeyError::Malformed { .. })),
                "{memory} {passes} {lanes}"
            );
        }
    }

    #[test]
    fn a_later_format_is_named() {
        let mut bytes = sealed();
        bytes[0] = 2;
        assert!(matches!(
            Sealed::parse(&bytes),
            Err(KeyError::UnsupportedVersion { found: 2, known: 1 })
        ));
    }

    #[test]
    fn new_files_cost_64_mib_and_no_two_are_alike() {
        let [one, two] = [(); 2].map(|()| {
            let text = seal(b"secret", "correct").expect("sealed");
            pem::decode(&text).expect("PEM").bytes
        });
        let parsed = Sealed::parse(&one).expect("parsed");
        assert_eq!(parsed.cost, DEFAULT_COST);
        assert_eq!(*parsed.open("correct").expect("opened"), b"secret");
        assert_ne!(one[13..53], two[13..53]);
    }

    #[test]
    fn an_empty_passphrase_seals_nothing() {
        assert!(matches!(
            seal(b"secret", ""),
            Err(KeyError::EmptyPassphrase)
        ));
    }
}
