//! A second opinion: OpenSSL accepts what we mint.

use std::fs;
use std::path::Path;
use std::process::Command;

use comity_certs::{
    CrossRequest, DirectLeafRequest, LeafSubject, Metadata, Purpose, RolloverRequest, mint_cross,
    mint_csr, mint_direct_leaf, mint_rollover, read_csr,
};
use comity_identity::Algorithm;

use crate::authority::{Held, scope};
use crate::certificates::{
    DAY, Foreign, ForeignKey, LeafOptions, Node, RawCertificate, TODAY, TestKey, pem, random_serial,
};

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

#[test]
fn openssl_verifies_what_an_authority_signs() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let verify = |root: &Held, chain: &[&[u8]], purpose| {
        verify_chain(directory.path(), &root.der, chain, purpose)
    };
    for algorithm in ALGORITHMS {
        let (old, new) = (Held::root(algorithm), Held::root(algorithm));
        let scope = scope(&["fleet"], &["writer"]);
        let issuing = new.issuing_with(algorithm, 1, &scope, &[]);
        let rollover = rollover(&old, &new);
        assert_eq!(verify(&new, &[&issuing.der], "any"), Ok(()));
        assert_eq!(verify(&old, &[&rollover], "any"), Ok(()));
        assert_eq!(verify(&old, &[&issuing.der, &rollover], "any"), Ok(()));
        let node = Node::with_algorithm(algorithm);
        let cross = cross(&issuing, &node.root);
        for (leaf, purpose) in [(&node.serve, "sslserver"), (&node.dial, "sslclient")] {
            // As a member presents them, its own root last; then also from the old root on.
            let chain = [&leaf.chain[0][..], &cross, &issuing.der, &node.root];
            assert_eq!(verify(&new, &chain, purpose), Ok(()));
            let chain = [
                &leaf.chain[0][..],
                &cross,
                &issuing.der,
                &rollover,
                &node.root,
            ];
            assert_eq!(verify(&old, &chain, purpose), Ok(()));
        }
        // Nobody else is a member, whatever it presents.
        let other = Node::new();
        let chain = [&other.serve.chain[0][..], &cross, &issuing.der, &other.root];
        assert!(verify(&new, &chain, "sslserver").is_err());
    }
}

#[test]
fn openssl_holds_a_member_to_its_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = Held::root(Algorithm::EcdsaP256);
    let node = Node::new();
    let cross = cross(&root, &node.root);
    let other = RawCertificate::of(&Node::new().root).subject;
    // Signed by the member's key, in another name: only the constraint is in the way.
    let mut raw = RawCertificate::of(&node.serve.chain[0]);
    let own = raw.subject.clone();
    let verify = |raw: &RawCertificate| {
        let leaf = raw.sign(&node.identity);
        verify_chain(directory.path(), &root.der, &[&leaf, &cross], "sslserver")
    };
    assert_eq!(verify(&raw), Ok(()));
    raw.subject = other;
    let refused = verify(&raw).expect_err("another name");
    assert!(refused.contains("permitted subtree violation"), "{refused}");
    raw.subject = own;
    assert_eq!(verify(&raw), Ok(()));
}

#[test]
fn openssl_verifies_leaves_that_an_authority_signs_directly() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let purposes = [Purpose::Serve, Purpose::Dial];
    for algorithm in ALGORITHMS {
        let root = Held::root(algorithm);
        let domain = ["corp.example".to_owned()];
        let leaves = root.issuing_with(algorithm, 0, &Metadata::default(), &domain);
        let metadata = scope(&["fleet"], &[]);
        for key in [ForeignKey::P256, ForeignKey::Ed25519, ForeignKey::Rsa2048] {
            let key = Foreign {
                key,
                ..Foreign::default()
            };
            let spki = RawCertificate::of(&key.self_signed().chain[0]).spki;
            for subject in [LeafSubject::AsIssuer, LeafSubject::CommonName("db")] {
                let dns = ["db.corp.example".to_owned()];
                let request = DirectLeafRequest {
                    subject,
                    spki: &spki,
                    purposes: &purposes,
                    serial: random_serial(),
                    not_before: TODAY,
                    not_after: TODAY + 30 * DAY,
                    dns: &dns,
                    ips: &["192.0.2.7".parse().expect("v4")],
                    uris: &["spiffe://fleet/db".to_owned()],
                    metadata: &metadata,
                };
                let below_issuing = mint_direct_leaf(&leaves.der, &leaves.key, &request);
                let below_issuing = below_issuing.expect("sound");
                let below_root = mint_direct_leaf(&root.der, &root.key, &request).expect("sound");
                for purpose in ["sslserver", "sslclient"] {
                    let chain = [&below_issuing[..], &leaves.der];
                    let verified = verify_chain(directory.path(), &root.der, &chain, purpose);
                    assert_eq!(verified, Ok(()));
                    let verified = verify(directory.path(), &root.der, &below_root, purpose);
                    assert_eq!(verified, Ok(()));
                }
            }
        }
    }
}

#[test]
fn openssl_verifies_our_requests_and_we_read_its_own() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl")
            .args(args)
            .current_dir(directory.path())
            .output()
            .expect("openssl is installed");
        assert!(output.status.success(), "{args:?}: {output:?}");
    };
    for algorithm in ALGORITHMS {
        let request = mint_csr(&TestKey::generate(algorithm), "db").expect("sound");
        let file = directory.path().join("ours.csr");
        fs::write(&file, pem("CERTIFICATE REQUEST", &request)).expect("a temporary file");
        openssl(&["req", "-in", "ours.csr", "-verify", "-noout"]);
    }
    for algorithm in ["ec:p256.pem", "ed25519", "rsa:2048"] {
        let mut args = vec![
            "req",
            "-new",
            "-nodes",
            "-keyout",
            "k.pem",
            "-out",
            "theirs.csr",
        ];
        args.extend([
            "-subj",
            "/O=Corp/CN=db",
            "-addext",
            "subjectAltName=DNS:db.example",
        ]);
        if algorithm == "ec:p256.pem" {
            let curve = ["ecparam", "-name", "prime256v1", "-out", "p256.pem"];
            openssl(&curve);
        }
        args.extend(["-newkey", algorithm]);
        openssl(&args);
        let text = fs::read(directory.path().join("theirs.csr")).expect("just written");
        let csr = read_csr(&text).expect("sound");
        assert_eq!((csr.subject.as_str(), csr.dns.len()), ("O=Corp, CN=db", 1));
    }
}

const ALGORITHMS: [Algorithm; 2] = [Algorithm::EcdsaP256, Algorithm::Ed25519];

fn cross(issuer: &Held, root: &[u8]) -> Vec<u8> {
    let request = CrossRequest {
        root,
        serial: random_serial(),
        not_before: TODAY,
        not_after: TODAY + 365 * DAY,
        metadata: &scope(&["fleet"], &["writer"]),
    };
    mint_cross(&issuer.der, &issuer.key, &request).expect("a sound request")
}

fn rollover(old: &Held, new: &Held) -> Vec<u8> {
    let request = RolloverRequest {
        new_root_der: &new.der,
        serial: random_serial(),
        not_before: TODAY,
        not_after: TODAY + 365 * DAY,
    };
    mint_rollover(&old.der, &old.key, &request).expect("a sound request")
}

fn everything() -> LeafOptions {
    LeafOptions {
        dns: vec!["db1.example".into(), "*.db1.example".into()],
        ips: vec![
            "192.0.2.7".parse().expect("v4"),
            "2001:db8::7".parse().expect("v6"),
        ],
        uris: vec!["https://db1.example/".into()],
        succession: vec![0x80; 8192],
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
    verify_chain(directory, root, &[leaf], purpose)
}

/// Leaf first; what follows it is untrusted.
fn verify_chain(
    directory: &Path,
    root: &[u8],
    chain: &[&[u8]],
    purpose: &str,
) -> Result<(), String> {
    let [root_file, leaf_file, others_file] =
        ["root.pem", "leaf.pem", "others.pem"].map(|name| directory.join(name));
    let others: String = chain[1..]
        .iter()
        .map(|der| pem("CERTIFICATE", der))
        .collect();
    fs::write(&root_file, pem("CERTIFICATE", root)).expect("a temporary file");
    fs::write(&leaf_file, pem("CERTIFICATE", chain[0])).expect("a temporary file");
    fs::write(&others_file, others).expect("a temporary file");
    let mut command = Command::new("openssl");
    command
        .args(["verify", "-x509_strict", "-no-CApath", "-no-CAstore"])
        .args(["-purpose", purpose])
        .arg("-attime")
        .arg((TODAY + DAY).as_secs().to_string())
        .arg("-CAfile")
        .arg(&root_file);
    if chain.len() > 1 {
        command.arg("-untrusted").arg(&others_file);
    }
    let output = command
        .arg(&leaf_file)
        .output()
        .expect("openssl is installed");
    match output.status.success() && output.stdout.ends_with(b": OK\n") {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
