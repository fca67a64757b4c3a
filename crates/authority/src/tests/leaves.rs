//! Leaves that an authority signs directly.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use comity_certs::{Anchor, PresentedChain, Purpose, mint_csr, read_csr, verify_ca_path};
use comity_identity::{KeyHash, Signer};
use comity_keys::{NoPassphrase, SoftwareKey};

use super::world::{DAY, NOW, Node, ROOT, World, admission, key, network};
use crate::{AuthorityError, IssuedLeaf, LEAF_LIFETIME, LeafOrder, P2PFL_FILES};

#[test]
fn a_leaf_for_grpc_verifies_below_the_root_in_both_roles() {
    let mut world = World::new();
    let order = LeafOrder {
        dns: vec!["db1.example".into()],
        ips: vec!["192.0.2.1".parse().expect("an address")],
        ..LeafOrder::named("db1")
    };
    let leaf = world.authority.issue(&order, NOW).expect("a leaf");
    assert_eq!(leaf.not_after, NOW + LEAF_LIFETIME);
    for purpose in [Purpose::Serve, Purpose::Dial] {
        verify(&leaf, purpose).expect("a path");
    }
    let text = leaf.key.as_ref().expect("made here");
    let text = std::str::from_utf8(text).expect("text");
    let no_passphrase = || {
        Err(NoPassphrase {
            cause: "plain".into(),
        })
    };
    let key = SoftwareKey::decode(text, &mut { no_passphrase }).expect("a key");
    let found = world
        .authority
        .find(&crate::Selector::Key(KeyHash::of_spki(key.spki())));
    assert_eq!(found.expect("found")[0].serial, leaf.serial);
}

#[test]
fn a_leaf_for_one_role_is_refused_in_the_other() {
    let mut world = World::new();
    let order = LeafOrder {
        purposes: vec![Purpose::Dial],
        ..LeafOrder::named("client")
    };
    let leaf = world.authority.issue(&order, NOW).expect("a leaf");
    verify(&leaf, Purpose::Dial).expect("a path");
    assert!(verify(&leaf, Purpose::Serve).is_err());
    let none = LeafOrder {
        purposes: Vec::new(),
        ..LeafOrder::named("none")
    };
    assert!(world.authority.issue(&none, NOW).is_err());
}

#[test]
fn a_nodes_leaf_carries_its_spiffe_id() {
    let mut world = World::new();
    let node = Node::new();
    let order = LeafOrder::named("db1").for_node("example", node.id());
    assert_eq!(
        order.uris,
        [format!("spiffe://example/node/{}", node.id().to_hex())]
    );
    let leaf = world.authority.issue(&order, NOW).expect("a leaf");
    let text = String::from_utf8_lossy(&leaf.chain[0]).into_owned();
    assert!(text.contains(&order.uris[0]) && text.contains(&node.id().to_hex()));
}

#[test]
fn a_request_brings_its_key_and_names_and_keeps_its_private_half() {
    let mut world = World::new();
    let key = key();
    let request = mint_csr(&key, "db1.example").expect("a request");
    let request = read_csr(&request).expect("a request");
    let order = LeafOrder::named("db1").for_request(&request);
    let leaf = world.authority.issue(&order, NOW).expect("a leaf");
    assert!(leaf.key.is_none());
    let found = world
        .authority
        .find(&crate::Selector::Key(KeyHash::of_spki(key.spki())));
    assert_eq!(found.expect("found").len(), 1);
}

#[test]
fn a_name_that_cannot_stand_in_a_certificate_uses_no_serial_number_up() {
    let mut world = World::new();
    let order = LeafOrder {
        dns: vec!["not a name".into()],
        ..LeafOrder::named("bad")
    };
    assert!(matches!(
        world.authority.issue(&order, NOW),
        Err(AuthorityError::Mint(_))
    ));
    let found = world
        .authority
        .find(&crate::Selector::Label("bad".into()))
        .expect("found");
    assert!(found.is_empty(), "nothing was reserved");
}

#[test]
fn an_organisations_leaf_has_the_name_of_its_root_and_needs_its_key() {
    let mut world = World::new();
    let order = LeafOrder::named("gateway");
    let root: Arc<dyn Signer> = Arc::new(copy_of_root());
    let leaf = world
        .authority
        .issue_organisation_leaf(root, &order, NOW)
        .expect("a leaf");
    assert_eq!(leaf.chain.len(), 1);
    verify(&leaf, Purpose::Serve).expect("a path");
    let stranger: Arc<dyn Signer> = Arc::new(key());
    assert!(matches!(
        world
            .authority
            .issue_organisation_leaf(stranger, &order, NOW),
        Err(AuthorityError::NotOurRoot(_))
    ));
}

#[test]
fn a_p2pfl_pair_has_the_files_that_it_looks_for_and_each_certificate_one_role() {
    let mut world = World::new();
    let order = LeafOrder {
        ips: vec!["127.0.0.1".parse().expect("an address")],
        ..LeafOrder::named("node-1")
    };
    let files = world
        .authority
        .issue_p2pfl_pair(&order, NOW)
        .expect("files");
    let mut names: Vec<&str> = files.iter().map(|f| f.name).collect();
    names.sort_unstable();
    let mut expected = P2PFL_FILES;
    expected.sort_unstable();
    assert_eq!(names, expected);
    for file in &files {
        assert_eq!(file.secret, file.name.ends_with(".key"), "{}", file.name);
        assert!(!file.content.is_empty());
    }
    let content = |name: &str| {
        let file = files.iter().find(|f| f.name == name).expect("there");
        String::from_utf8(file.content.to_vec()).expect("text")
    };
    let anchors = Anchor::read_pem(&content("ca.crt")).expect("a CA file");
    for (name, good, bad) in [
        ("server.crt", Purpose::Serve, Purpose::Dial),
        ("client.crt", Purpose::Dial, Purpose::Serve),
    ] {
        let chain = comity_certs::certificates_in_pem(&content(name)).expect("certificates");
        let chain = PresentedChain::parse(&chain).expect("a chain");
        verify_ca_path(&chain, &anchors, good, NOW).expect("a path");
        verify_ca_path(&chain, &anchors, bad, NOW).expect_err("the other role");
    }
}

#[test]
fn openssl_accepts_what_we_made_strictly() {
    let mut world = World::new();
    let node = Node::new();
    let grant = world
        .authority
        .certify(&node.root, &admission("one"), NOW)
        .expect("a grant");
    let leaf = world
        .authority
        .issue(&LeafOrder::named("db1"), NOW)
        .expect("a leaf");
    let root = world.authority.root().details().der().to_vec();
    // leaf, then what is between, below the root
    let member = node.chain(&grant.membership, NOW);
    for (leaf, between) in [
        (&leaf.chain[0], &leaf.chain[1..]),
        (&member[0], &member[1..member.len() - 1]),
    ] {
        if !openssl_verifies(&root, between, leaf) {
            return;
        }
    }
}

/// Whether `openssl verify` was there; it must accept then.
fn openssl_verifies(root: &[u8], between: &[Vec<u8>], leaf: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, list: &[Vec<u8>]| {
        let path = folder.path().join(name);
        std::fs::write(&path, crate::pem::certificates(list)).expect("written");
        path
    };
    let output = Command::new("openssl")
        .args([
            "verify",
            "-x509_strict",
            "-attime",
            &NOW.as_secs().to_string(),
        ])
        .arg("-CAfile")
        .arg(write("root.pem", &[root.to_vec()]))
        .arg("-untrusted")
        .arg(write("between.pem", between))
        .arg(write("leaf.pem", &[leaf.to_vec()]))
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        let required = std::env::var_os("COMITY_REQUIRE").is_some_and(|v| v == "all");
        assert!(!required, "left out: openssl is not installed");
        writeln!(std::io::stderr(), "left out: openssl is not installed").expect("standard error");
        return false;
    };
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    true
}

fn verify(leaf: &IssuedLeaf, purpose: Purpose) -> Result<(), comity_certs::CaError> {
    let chain = PresentedChain::parse(&leaf.chain).expect("a chain");
    let root = Anchor::from_der(&leaf.root).expect("a root");
    assert_eq!(root.key(), network().key_hash());
    verify_ca_path(&chain, [&root], purpose, NOW + DAY).map(|_| ())
}

fn copy_of_root() -> SoftwareKey {
    SoftwareKey::from_pkcs8_der(&ROOT.to_pkcs8_der().expect("the key")).expect("a key")
}
