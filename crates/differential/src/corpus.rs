//! The chains and keys that mutants are made of.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use comity_certs::{Purpose, certificates_in_pem};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use openssl::x509::X509;

use crate::der::Certificate;

/// Good chains, each with the purpose of its leaf.
const CHAINS: [(&str, Purpose); 7] = [
    ("g01-client-ca-to-aa", Purpose::Dial),
    ("g03-client-da-to-aa", Purpose::Dial),
    ("g04-client-aa-to-ca", Purpose::Dial),
    ("g07-junk-inter-after", Purpose::Dial),
    ("g06-extra-junk-inter", Purpose::Dial),
    ("g02-server-ca", Purpose::Serve),
    ("g05-server-aa", Purpose::Serve),
];

/// The registered nodes, whose root keys sign.
const NODES: [&str; 4] = ["aa", "ca", "ca2", "da"];

/// The passphrase of all keys of the corpus.
const PASSPHRASE: &[u8] = b"test-passphrase";

/// What mutants are made of.
pub struct Corpus {
    pub(crate) chains: Vec<Chain>,
    pub(crate) nodes: Vec<Node>,
}

/// A chain as it is presented, and the anchor.
#[derive(Clone)]
pub(crate) struct Chain {
    pub(crate) purpose: Purpose,
    pub(crate) root: Link,
    pub(crate) intermediates: Vec<Link>,
    pub(crate) leaf: Link,
}

/// A certificate and the node whose key signs it.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) certificate: Certificate,
    pub(crate) signer: usize,
    /// What the certificate was before it was changed, so that it need not be signed again.
    original: Option<(Certificate, usize, Vec<u8>)>,
}

pub(crate) struct Node {
    key: PKey<Private>,
    /// The node's own root.
    pub(crate) root: Certificate,
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

impl Corpus {
    /// Reads the copy of the corpus in this workspace.
    ///
    /// # Errors
    /// When it is not there or not whole.
    pub fn read() -> Result<Self> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/federation");
        let nodes = NODES.map(|name| read_node(&dir.join("nodes").join(name)));
        let nodes = nodes.into_iter().collect::<Result<Vec<_>>>()?;
        let chains = CHAINS.map(|(id, purpose)| {
            let read = |file| certificates(&dir.join("cases").join(id).join(file));
            let links = |found: Vec<Vec<u8>>| -> Result<Vec<Link>> {
                found.iter().map(|der| Link::of(der, &nodes)).collect()
            };
            let one =
                |file| -> Result<Link> { Ok(links(read(file)?)?.pop().ok_or("no certificate")?) };
            Ok(Chain {
                purpose,
                root: one("root.pem")?,
                // A chain of a leaf alone has no such file.
                intermediates: links(read("inter.pem").unwrap_or_default())?,
                leaf: one("leaf.pem")?,
            })
        });
        let chains = chains.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(Self { chains, nodes })
    }

    /// The certificate as DER, signed again unless nothing was changed.
    pub(crate) fn sign(&self, link: &Link) -> Vec<u8> {
        let Link {
            certificate,
            signer,
            original,
        } = link;
        match original {
            Some((same, by, der)) if (same, by) == (certificate, signer) => der.clone(),
            _ => {
                let tbs = certificate.tbs();
                let signature = self.nodes[*signer].sign(&tbs);
                certificate.with_signature(&tbs, &signature)
            }
        }
    }
}

impl Link {
    fn of(der: &[u8], nodes: &[Node]) -> Result<Self> {
        let parsed = X509::from_der(der)?;
        let signed = |node: &Node| parsed.verify(&node.key).unwrap_or(false);
        let signer = nodes.iter().position(signed).ok_or("a stranger's key")?;
        let certificate = Certificate::of(der);
        Ok(Self {
            original: Some((certificate.clone(), signer, der.to_vec())),
            certificate,
            signer,
        })
    }

    /// A certificate that does not exist yet.
    pub(crate) fn new(certificate: Certificate, signer: usize) -> Self {
        Self {
            certificate,
            signer,
            original: None,
        }
    }
}

impl Node {
    fn sign(&self, tbs: &[u8]) -> Vec<u8> {
        let sign = || Signer::new(MessageDigest::sha256(), &self.key)?.sign_oneshot_to_vec(tbs);
        sign().expect("a key in memory signs")
    }
}

fn read_node(dir: &Path) -> Result<Node> {
    let key = fs::read(dir.join("root-ca.key.encrypted"))?;
    let root = certificates(&dir.join("root-ca.pem"))?;
    Ok(Node {
        key: PKey::private_key_from_pem_passphrase(&key, PASSPHRASE)?,
        root: Certificate::of(root.first().ok_or("no root")?),
    })
}

fn certificates(file: &PathBuf) -> Result<Vec<Vec<u8>>> {
    Ok(certificates_in_pem(&fs::read_to_string(file)?)?)
}
