//! A second opinion: OpenSSL accepts what we mint.

use std::fs;
use std::path::Path;
use std::process::Command;

use comity_certs::{Metadata, Purpose};
use comity_identity::Algorithm;

use crate::certificates::{DAY, LeafOptions, Node, TODAY, pem};

#[test]
fn openssl_verifies_every_chain_we_mint() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
        for (purpose, name) in [(Purpose::Serve, "sslserver"), (Purpose::Dial, "sslclient")] {
            for options in [LeafOptions::default(), everything()] {
                let node = Node::with_algorithm(algorithm);
                let leaf = node.leaf(purpose, &options);
                let said = verify(directory.path(), &node.root, &leaf.chain[0], name);
                assert_eq!(said, Ok(()), "{algorithm:?} {purpose:?}");
            }
        }
    }
}

#[test]
fn openssl_refuses_what_we_refuse() {
    // Otherwise the test above would show little.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (node, other) = (Node::new(), Node::new());
    let leaf = &node.serve.chain[0];
    assert!(verify(directory.path(), &node.root, leaf, "sslclient").is_err());
    assert!(verify(directory.path(), &other.root, leaf, "sslserver").is_err());
}

fn everything() -> LeafOptions {
    LeafOptions {
        dns: vec!["db1.example".into(), "*.db1.example".into()],
        ips: vec![
            "192.0.2.7".parse().expect("v4"),
            "2001:db8::7".parse().expect("v6"),
        ],
        uris: vec!["https://db1.example/".into()],
        metadata: Metadata::new(
            vec!["fleet".into()],
            vec!["writer".into()],
            vec![("site".into(), "Zürich".into())],
        )
        .expect("within limits"),
        ..LeafOptions::default()
    }
}

fn verify(directory: &Path, root: &[u8], leaf: &[u8], purpose: &str) -> Result<(), String> {
    let [root_file, leaf_file] = ["root.pem", "leaf.pem"].map(|name| directory.join(name));
    fs::write(&root_file, pem("CERTIFICATE", root)).expect("a temporary file");
    fs::write(&leaf_file, pem("CERTIFICATE", leaf)).expect("a temporary file");
    let output = Command::new("openssl")
        .args([
            "verify",
            "-x509_strict",
            "-no-CApath",
            "-no-CAstore",
            "-purpose",
            purpose,
        ])
        .arg("-attime")
        .arg((TODAY + DAY).as_secs().to_string())
        .arg("-CAfile")
        .args([&root_file, &leaf_file])
        .output()
        .expect("openssl is installed");
    match output.status.success() && output.stdout.ends_with(b": OK\n") {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
