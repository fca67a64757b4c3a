//! The sealed form against the vectors of `docs/formats.md`. Each file opens with its expected
//! outcome, then a blank line, then the text of the key.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use comity_identity::KeyHash;
use comity_keys::{KeyError, SoftwareKey};
use zeroize::Zeroizing;

#[test]
fn every_vector_has_the_outcome_in_its_header() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/sealed-key");
    let mut outcomes = Vec::new();
    for entry in fs::read_dir(folder).expect("the vectors") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("a vector");
        outcomes.push(check(&text, &path.display().to_string()));
    }
    outcomes.sort();
    outcomes.dedup();
    // A folder that lost its files must not pass.
    assert_eq!(
        outcomes,
        [
            "malformed",
            "opens",
            "too-costly",
            "unsupported-version",
            "wrong-passphrase"
        ]
    );
}

/// Checks one vector and returns its outcome.
fn check(vector: &str, name: &str) -> String {
    let (header, key) = vector.split_once("\n\n").expect("header and key");
    let header: BTreeMap<&str, &str> = header
        .lines()
        .map(|line| line.split_once(": ").expect("name: value"))
        .collect();
    let passphrase = || Ok(Zeroizing::new(header["passphrase"].to_owned()));
    let found = match SoftwareKey::decode(key, &mut { passphrase }) {
        Ok(key) => {
            assert_eq!(KeyHash::of_spki(key.spki()).to_hex(), header["key-hash"]);
            "opens"
        }
        Err(KeyError::WrongPassphrase) => "wrong-passphrase",
        Err(KeyError::TooCostly { .. }) => "too-costly",
        Err(KeyError::UnsupportedVersion { .. }) => "unsupported-version",
        Err(KeyError::Malformed { .. }) => "malformed",
        Err(error) => panic!("{name}: {error}"),
    };
    assert_eq!(found, header["outcome"], "{name}");
    found.to_owned()
}
