//! Private keys, up to the point where a passphrase would be needed.

use comity_identity::Signer;
use comity_identity::verify;
use comity_keys::{
    KeyError, MAX_TEXT_BYTES, NoPassphrase, SoftwareKey, is_sealed, needs_passphrase,
};

use super::{assert_printable, text};
use crate::certificates::pem;

/// A key file of any form.
pub fn key_file(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let mut asked = 0;
    let outcome = SoftwareKey::decode(text, &mut || {
        asked += 1;
        Err(nobody_knows())
    });
    assert!(asked <= 1, "asked {asked} times");
    if asked == 1 {
        assert!(needs_passphrase(text));
        assert!(text.trim_end().len() <= MAX_TEXT_BYTES);
    }
    assert!(needs_passphrase(text) || !is_sealed(text));
    match outcome {
        Ok(key) => {
            assert_eq!(asked, 0, "nobody knew the passphrase");
            assert_same(&key);
        }
        Err(error) => assert_printable(&error),
    }
}

/// The bytes inside a sealed key. Whoever is asked for a passphrase will pay no more than the
/// limits of `docs/formats.md`.
pub fn sealed_key(data: &[u8]) {
    if !asks(&pem("COMITY SEALED KEY", data)) {
        return;
    }
    let number = |at: usize| u32::from_be_bytes(data[at..at + 4].try_into().expect("a header"));
    let (memory_kib, passes, lanes) = (number(1), number(5), number(9));
    assert_eq!(data[0], 1, "the only version");
    assert!(
        (8 * lanes..=1024 * 1024).contains(&memory_kib),
        "{memory_kib} KiB"
    );
    assert!((1..=16).contains(&passes), "{passes} passes");
    assert!((1..=16).contains(&lanes), "{lanes} lanes");
    assert!(data.len() > 53 + 16, "a ciphertext and its tag");
}

/// The DER inside a PKCS#8 file that other programs encrypted.
pub fn pbes2_key(data: &[u8]) {
    asks(&pem("ENCRYPTED PRIVATE KEY", data));
}

/// A PKCS#8 key in the clear.
pub fn pkcs8_key(data: &[u8]) {
    match SoftwareKey::from_pkcs8_der(data) {
        Ok(key) => assert_same(&key),
        Err(error) => assert_printable(&error),
    }
}

/// Whether reading this key gets as far as the passphrase, which nobody knows.
fn asks(text: &str) -> bool {
    let mut asked = false;
    let outcome = SoftwareKey::decode(text, &mut || {
        asked = true;
        Err(nobody_knows())
    });
    let error = outcome.expect_err("a key without its passphrase");
    assert_eq!(asked, matches!(error, KeyError::NoPassphrase(_)), "{error}");
    assert_printable(&error);
    asked
}

/// A key that was read works, and is the same key after it was written.
fn assert_same(key: &SoftwareKey) {
    let text = key.encode_plain().expect("a software key");
    let again = SoftwareKey::decode(&text, &mut || Err(nobody_knows())).expect("our own text");
    assert_eq!(again.spki(), key.spki());
    let signature = Signer::sign(key, b"message").expect("a software key");
    verify(key.spki(), b"message", &signature).expect("its own signature");
    let shown = format!("{key:?}");
    assert!(shown.len() < 256, "{shown}");
}

fn nobody_knows() -> NoPassphrase {
    NoPassphrase {
        cause: "nobody knows it".into(),
    }
}
