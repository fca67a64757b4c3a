//! Keys exchanged with OpenSSL, both ways.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use comity_identity::{Algorithm, Signer, verify};
use comity_keys::{KeyError, SoftwareKey};
use tempfile::TempDir;
use zeroize::Zeroizing;

const BOTH: [Algorithm; 2] = [Algorithm::EcdsaP256, Algorithm::Ed25519];
const PASSPHRASE: &str = "correct horse";

/// Whether OpenSSL is there. Without it the test passes and says so, unless `COMITY_REQUIRE=all`.
fn openssl_is_there() -> bool {
    let there = Command::new("openssl")
        .arg("version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !there {
        assert_ne!(
            std::env::var("COMITY_REQUIRE").as_deref(),
            Ok("all"),
            "openssl is missing"
        );
        #[expect(
            clippy::print_stdout,
            reason = "a test that did not run says so in its output"
        )]
        {
            println!("skipped: openssl is missing");
        }
    }
    there
}

/// Runs `openssl` with `input`; its output, or `None` when it refused.
fn openssl(arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl starts");
    // A refusal may come before all input was read.
    let written = child.stdin.take().expect("a pipe").write_all(input);
    let output = child.wait_with_output().expect("openssl ends");
    (output.status.success() && written.is_ok()).then_some(output.stdout)
}

fn made(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    openssl(arguments, input).unwrap_or_else(|| panic!("openssl {arguments:?}"))
}

fn text(arguments: &[&str], input: &[u8]) -> String {
    String::from_utf8(made(arguments, input)).expect("PEM")
}

fn decode(text: &str) -> Result<SoftwareKey, KeyError> {
    SoftwareKey::decode(text, &mut || Ok(Zeroizing::new(PASSPHRASE.to_owned())))
}

fn new_key(algorithm: Algorithm) -> String {
    let arguments: &[&str] = match algorithm {
        Algorithm::EcdsaP256 => &[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ],
        Algorithm::Ed25519 => &["genpkey", "-algorithm", "ED25519"],
    };
    text(arguments, b"")
}

#[test]
fn openssl_reads_plain_and_exported_keys() {
    if !openssl_is_there() {
        return;
    }
    for algorithm in BOTH {
        let key = SoftwareKey::generate(algorithm).expect("a key");
        let plain = key.encode_plain().expect("encoded");
        let exported = key.encode_pbes2(PASSPHRASE).expect("exported");
        let public = ["pkey", "-pubout", "-outform", "DER", "-passin"];
        for text in [&plain, &exported] {
            let found = made(
                &[&public[..], &["pass:correct horse"]].concat(),
                text.as_bytes(),
            );
            assert_eq!(found, key.spki());
        }
        let wrong = [&public[..], &["pass:wrong"]].concat();
        assert_eq!(openssl(&wrong, exported.as_bytes()), None);
    }
}

#[test]
fn plain_and_encrypted_keys_of_openssl_are_read() {
    if !openssl_is_there() {
        return;
    }
    let encrypt = ["pkcs8", "-topk8", "-passout", "pass:correct horse"];
    for algorithm in BOTH {
        let plain = new_key(algorithm);
        let spki = made(&["pkey", "-pubout", "-outform", "DER"], plain.as_bytes());
        assert_eq!(decode(&plain).expect("decoded").spki(), spki);
        for how in [
            &["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA256"][..],
            &[
                "-v2",
                "aes-128-cbc",
                "-v2prf",
                "hmacWithSHA512",
                "-iter",
                "1000",
            ],
            &["-scrypt"],
        ] {
            let encrypted = text(&[&encrypt[..], how].concat(), plain.as_bytes());
            let key = decode(&encrypted).unwrap_or_else(|e| panic!("{how:?}: {e}"));
            assert_eq!(key.spki(), spki);
            let wrong = SoftwareKey::decode(&encrypted, &mut || Ok(Zeroizing::new("x".into())));
            assert!(matches!(wrong, Err(KeyError::WrongPassphrase)), "{how:?}");
        }
    }
}

#[test]
fn encryption_that_is_too_old_is_refused_without_asking() {
    if !openssl_is_there() {
        return;
    }
    let plain = new_key(Algorithm::EcdsaP256);
    let encrypt = ["pkcs8", "-topk8", "-passout", "pass:correct horse"];
    for how in [
        &["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA1"][..],
        &["-v2", "des3"],
        &["-v1", "PBE-SHA1-3DES"],
    ] {
        let encrypted = text(&[&encrypt[..], how].concat(), plain.as_bytes());
        let refused = SoftwareKey::decode(&encrypted, &mut || panic!("asked for a passphrase"));
        assert!(
            matches!(refused, Err(KeyError::UnsupportedEncryption)),
            "{how:?}: {refused:?}"
        );
    }
}

#[test]
fn keys_of_other_kinds_are_refused() {
    if !openssl_is_there() {
        return;
    }
    for arguments in [
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"][..],
        &[
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:secp256k1",
        ],
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        &["-algorithm", "ED448"],
        &["-algorithm", "X25519"],
    ] {
        let plain = text(&[&["genpkey"], arguments].concat(), b"");
        assert!(
            matches!(decode(&plain), Err(KeyError::UnsupportedKey)),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_traditional_ec_key_is_named_in_the_refusal() {
    if !openssl_is_there() {
        return;
    }
    let traditional = text(
        &["pkey", "-traditional"],
        new_key(Algorithm::EcdsaP256).as_bytes(),
    );
    assert!(matches!(
        decode(&traditional),
        Err(KeyError::OtherBlock { label, .. }) if label == "EC PRIVATE KEY"
    ));
}

#[test]
fn openssl_verifies_our_signatures_and_we_verify_those_with_low_s() {
    if !openssl_is_there() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path_text(&path)
    };
    for algorithm in BOTH {
        let key = SoftwareKey::generate(algorithm).expect("a key");
        let private = write("key.pem", key.encode_plain().expect("encoded").as_bytes());
        let message = write("message", b"statement");
        let ours = write("signature", &key.sign(b"statement").expect("signed"));
        // Ed25519 signs the message itself, ECDSA its hash.
        let raw: &[&str] = match algorithm {
            Algorithm::EcdsaP256 => &["-rawin", "-digest", "sha256"],
            Algorithm::Ed25519 => &["-rawin"],
        };
        let common = [&["pkeyutl", "-inkey", &private, "-in", &message], raw].concat();
        made(
            &[&common[..], &["-verify", "-sigfile", &ours]].concat(),
            b"",
        );
        let theirs = made(&[&common[..], &["-sign"]].concat(), b"");
        let low = algorithm == Algorithm::Ed25519 || comity_identity::has_low_s(&theirs);
        assert_eq!(
            verify(key.spki(), b"statement", &theirs).is_ok(),
            low,
            "{algorithm:?}"
        );
    }
}

fn path_text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}
