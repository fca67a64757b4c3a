//! Keys through their public face: text forms, signatures, and what must never be printed.

use comity_identity::{Algorithm, KeyHash, Signer, has_low_s, verify};
use comity_keys::{KeyError, LeafKey, MAX_TEXT_BYTES, NoPassphrase, SoftwareKey};
use comity_keys::{is_sealed, needs_passphrase};
use zeroize::Zeroizing;

const BOTH: [Algorithm; 2] = [Algorithm::EcdsaP256, Algorithm::Ed25519];

fn generate(algorithm: Algorithm) -> SoftwareKey {
    SoftwareKey::generate(algorithm).expect("a key")
}

fn with_passphrase(text: &str, passphrase: &str) -> Result<SoftwareKey, KeyError> {
    SoftwareKey::decode(text, &mut || Ok(Zeroizing::new(passphrase.to_owned())))
}

/// Decodes a text for which nobody may be asked anything.
fn without_asking(text: &str) -> Result<SoftwareKey, KeyError> {
    SoftwareKey::decode(text, &mut || panic!("asked for a passphrase"))
}

#[test]
fn signatures_verify_under_the_public_key() {
    for algorithm in BOTH {
        let key = generate(algorithm);
        assert_eq!(Signer::algorithm(&key), algorithm);
        assert_eq!(Algorithm::of_spki(key.spki()), Ok(algorithm));
        let signature = key.sign(b"statement").expect("signed");
        assert_eq!(verify(key.spki(), b"statement", &signature), Ok(()));
    }
}

#[test]
fn ecdsa_signatures_always_have_low_s() {
    let key = generate(Algorithm::EcdsaP256);
    // Without signing again, 64 of them would all be low once in 2^64.
    for number in 0_u8..64 {
        assert!(has_low_s(&key.sign(&[number]).expect("signed")));
    }
}

#[test]
fn two_new_keys_differ() {
    for algorithm in BOTH {
        assert_ne!(generate(algorithm).spki(), generate(algorithm).spki());
    }
    let leaves = [(); 2].map(|()| LeafKey::generate().expect("a key"));
    assert_ne!(leaves[0].spki(), leaves[1].spki());
}

#[test]
fn every_text_form_gives_the_same_key_back() {
    for algorithm in BOTH {
        let key = generate(algorithm);
        let plain = key.encode_plain().expect("encoded");
        let sealed = key.seal("correct").expect("sealed");
        let exported = key.encode_pbes2("correct").expect("exported");
        assert_eq!(without_asking(&plain).expect("decoded").spki(), key.spki());
        for text in [&sealed, &exported] {
            let again = with_passphrase(text, "correct").expect("decoded");
            assert_eq!(again.spki(), key.spki());
            let signature = again.sign(b"statement").expect("signed");
            assert_eq!(verify(key.spki(), b"statement", &signature), Ok(()));
            assert!(matches!(
                with_passphrase(text, "wrong"),
                Err(KeyError::WrongPassphrase)
            ));
        }
    }
}

#[test]
fn the_label_tells_whether_a_passphrase_is_needed() {
    let key = generate(Algorithm::Ed25519);
    let plain = key.encode_plain().expect("encoded");
    let sealed = key.seal("correct").expect("sealed");
    let exported = key.encode_pbes2("correct").expect("exported");
    for (text, is, needs) in [
        (plain.as_str(), false, false),
        (&sealed, true, true),
        (&exported, false, true),
        ("no key", false, false),
        ("", false, false),
    ] {
        assert_eq!((is_sealed(text), needs_passphrase(text)), (is, needs));
    }
}

#[test]
fn the_passphrase_is_asked_for_once_and_its_failure_is_passed_on() {
    let sealed = generate(Algorithm::Ed25519)
        .seal("correct")
        .expect("sealed");
    let mut asked = 0;
    let wrong = SoftwareKey::decode(&sealed, &mut || {
        asked += 1;
        Ok(Zeroizing::new("wrong".to_owned()))
    });
    assert!(matches!(wrong, Err(KeyError::WrongPassphrase)));
    assert_eq!(asked, 1);

    let cause = NoPassphrase {
        cause: "no terminal".into(),
    };
    let refused = SoftwareKey::decode(&sealed, &mut || Err(cause.clone()));
    assert!(matches!(refused, Err(KeyError::NoPassphrase(found)) if found == cause));
}

#[test]
fn an_empty_passphrase_protects_nothing_and_is_refused() {
    let key = generate(Algorithm::Ed25519);
    assert!(matches!(key.seal(""), Err(KeyError::EmptyPassphrase)));
    assert!(matches!(
        key.encode_pbes2(""),
        Err(KeyError::EmptyPassphrase)
    ));
}

#[test]
fn text_around_the_block_is_tolerated_before_it_and_refused_after_it() {
    let text = generate(Algorithm::EcdsaP256)
        .encode_plain()
        .expect("encoded");
    let windows = text.replace('\n', "\r\n");
    let noted = format!("made on a fixed day\n{}\n\n", *text);
    for good in [&windows, &noted] {
        assert!(without_asking(good).is_ok(), "{good}");
    }
    let twice = format!("{0}{0}", *text);
    let trailed = format!("{}and more\n", *text);
    let cut = &text[..text.len() / 2];
    for bad in [
        &twice,
        &trailed,
        cut,
        "",
        "\n",
        "-----BEGIN PRIVATE KEY-----",
    ] {
        assert!(
            matches!(without_asking(bad), Err(KeyError::NotPem)),
            "{bad}"
        );
    }
}

#[test]
fn a_text_at_the_limit_is_read_and_one_past_it_refused() {
    let text = generate(Algorithm::EcdsaP256)
        .encode_plain()
        .expect("encoded");
    let block = text.trim_end();
    let padded = |length: usize| format!("{}\n{block}", "x".repeat(length - 1 - block.len()));
    assert!(without_asking(&padded(MAX_TEXT_BYTES)).is_ok());
    assert!(matches!(
        without_asking(&padded(MAX_TEXT_BYTES + 1)),
        Err(KeyError::TooLarge { found, limit }) if found == limit + 1
    ));
}

#[test]
fn damaged_and_swapped_contents_are_refused_without_asking() {
    let key = generate(Algorithm::EcdsaP256);
    let plain = key.encode_plain().expect("encoded");
    for label in ["COMITY SEALED KEY", "ENCRYPTED PRIVATE KEY"] {
        let swapped = plain.replace("PRIVATE KEY", label);
        assert!(without_asking(&swapped).is_err(), "{label}");
    }
    let other = plain.replace("PRIVATE KEY", "CERTIFICATE");
    assert!(matches!(
        without_asking(&other),
        Err(KeyError::OtherBlock { label, .. }) if label == "CERTIFICATE"
    ));
}

#[test]
fn pkcs8_with_any_byte_cut_off_or_added_is_refused() {
    for algorithm in BOTH {
        let der = generate(algorithm).to_pkcs8_der().expect("exported");
        for length in 0..der.len() {
            assert!(
                SoftwareKey::from_pkcs8_der(&der[..length]).is_err(),
                "{algorithm:?}: {length} bytes"
            );
        }
        let long = [der.as_slice(), &[0]].concat();
        assert!(SoftwareKey::from_pkcs8_der(&long).is_err());
    }
}

#[test]
fn a_public_half_of_another_key_is_refused() {
    let [one, two] = [(); 2].map(|()| generate(Algorithm::EcdsaP256));
    let mut der = one.to_pkcs8_der().expect("exported").to_vec();
    let point = &one.spki()[26..];
    let at = der
        .windows(point.len())
        .position(|w| w == point)
        .expect("PKCS#8 carries the public half");
    der[at..at + point.len()].copy_from_slice(&two.spki()[26..]);
    assert!(matches!(
        SoftwareKey::from_pkcs8_der(&der),
        Err(KeyError::Malformed { .. })
    ));
}

#[test]
fn leaf_keys_are_p256_keys_in_pkcs8() {
    let leaf = LeafKey::generate().expect("a key");
    let key = SoftwareKey::from_pkcs8_der(leaf.pkcs8_der()).expect("PKCS#8");
    assert_eq!(Signer::algorithm(&key), Algorithm::EcdsaP256);
    assert_eq!(key.spki(), leaf.spki());
}

#[test]
fn debug_output_holds_the_public_half_only() {
    for algorithm in BOTH {
        let key = generate(algorithm);
        let id = KeyHash::of_spki(key.spki());
        assert_eq!(
            format!("{key:?}"),
            format!("SoftwareKey {{ algorithm: {algorithm:?}, key: {id:?}, .. }}")
        );
    }
    let leaf = LeafKey::generate().expect("a key");
    let id = KeyHash::of_spki(leaf.spki());
    assert_eq!(
        format!("{leaf:?}"),
        format!("LeafKey {{ key: {id:?}, .. }}")
    );
}

#[test]
fn errors_repeat_neither_passphrase_nor_contents() {
    let key = generate(Algorithm::EcdsaP256);
    let sealed = key.seal("hunter2").expect("sealed");
    let error = with_passphrase(&sealed, "hunter3").expect_err("wrong passphrase");
    let damaged = key.encode_plain().expect("encoded").replace(
        "-----BEGIN PRIVATE KEY-----\nM",
        "-----BEGIN PRIVATE KEY-----\nN",
    );
    let secret_line = damaged.lines().nth(1).expect("a line").to_owned();
    let other = without_asking(&damaged).expect_err("damaged");
    for (error, secret) in [(error, "hunter"), (other, &secret_line[..8])] {
        assert!(!format!("{error} {error:?}").contains(secret));
    }
}
