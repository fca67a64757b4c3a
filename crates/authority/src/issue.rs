//! Leaves that an authority's key signs directly: for Go, SPIFFE and gRPC peers, which refuse
//! cross-certificates with constraints for names of directories, and for organisations.

use std::net::IpAddr;
use std::time::Duration;

use comity_certs::{
    AuthorityCertificate, Csr, DirectLeafRequest, LeafSubject, Metadata, MintError, Purpose,
    mint_direct_leaf,
};
use comity_identity::{Algorithm, KeyHash, NodeId, SignError, Signer, UnixTime};
use comity_keys::LeafKey;
use comity_store::{IssuedCertificate, Reservation, SERIAL_BYTES, Serial};
use std::sync::Arc;
use zeroize::Zeroizing;

use crate::admit::{end, not_before, sign_reserved};
use crate::authority::{Authority, Issuer};
use crate::error::AuthorityError;
use crate::{LEAF_LIFETIME, ORGANISATION_LEAF_LIFETIME, pem};

/// The names of the files that P2PFL looks for in its certificates folder.
pub const P2PFL_FILES: [&str; 5] = [
    "ca.crt",
    "server.crt",
    "server.key",
    "client.crt",
    "client.key",
];

/// Whose name a leaf carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// A common name.
    CommonName(String),
    /// A node's id.
    Node(NodeId),
}

/// A leaf that is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeafOrder {
    /// Its name.
    pub subject: Subject,
    /// What it is called in the ledger.
    pub label: String,
    /// The DER SubjectPublicKeyInfo of its key; `None` to have one made.
    pub spki: Option<Vec<u8>>,
    /// What it is for; at least one.
    pub purposes: Vec<Purpose>,
    /// DNS names.
    pub dns: Vec<String>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// URIs.
    pub uris: Vec<String>,
    /// Roles that are attested.
    pub roles: Vec<String>,
    /// How long: [`LEAF_LIFETIME`] by default, at most until the issuer's end.
    pub lifetime: Option<Duration>,
}

/// A leaf as it is handed out.
#[derive(Clone)]
pub struct IssuedLeaf {
    /// Its serial number.
    pub serial: Serial,
    /// Its last second.
    pub not_after: UnixTime,
    /// The leaf and the certificates above it without the root, in DER.
    pub chain: Vec<Vec<u8>>,
    /// The root that it is below, in DER.
    pub root: Vec<u8>,
    /// The key, PKCS#8 PEM in the clear, if it was made here. It is kept nowhere.
    pub key: Option<Zeroizing<Vec<u8>>>,
}

/// A file to be written.
#[derive(Clone)]
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// What is in it.
    pub content: Zeroizing<Vec<u8>>,
    /// Whether nobody else may read it.
    pub secret: bool,
}

impl LeafOrder {
    /// A leaf for serving and dialling, with a key made here.
    pub fn named(name: &str) -> Self {
        Self {
            subject: Subject::CommonName(name.to_owned()),
            label: name.to_owned(),
            spki: None,
            purposes: vec![Purpose::Serve, Purpose::Dial],
            dns: Vec::new(),
            ips: Vec::new(),
            uris: Vec::new(),
            roles: Vec::new(),
            lifetime: None,
        }
    }

    /// The leaf that a request asks for, with all its names: whoever signs has looked at them.
    #[must_use]
    pub fn for_request(mut self, request: &Csr) -> Self {
        self.spki = Some(request.spki.clone());
        self.dns.clone_from(&request.dns);
        self.ips.clone_from(&request.ips);
        self.uris.clone_from(&request.uris);
        self
    }

    /// The names by which Go, SPIFFE and gRPC know a node of a network:
    /// `spiffe://<network>/node/<node id>`.
    #[must_use]
    pub fn for_node(mut self, network: &str, node: NodeId) -> Self {
        self.subject = Subject::Node(node);
        self.uris
            .push(format!("spiffe://{network}/node/{}", node.to_hex()));
        self
    }
}

impl Authority {
    /// Signs a leaf with an issuing key.
    ///
    /// # Errors
    /// When a name or the key is not acceptable or out of the issuing key's scope, the issuer ends
    /// before, no issuing key is at hand, or something cannot be written.
    pub fn issue(
        &mut self,
        order: &LeafOrder,
        now: UnixTime,
    ) -> Result<IssuedLeaf, AuthorityError> {
        self.reload()?;
        let issuer = self.issuer()?;
        let subject = match &order.subject {
            Subject::CommonName(name) => LeafSubject::CommonName(name),
            Subject::Node(node) => LeafSubject::Node(*node),
        };
        let template = Template {
            name: "leaf",
            subject,
            lifetime: LEAF_LIFETIME,
        };
        self.sign_leaf(&issuer, &template, order, now)
    }

    /// Signs a leaf of an organisation: it has the same name as the root, which signs it, so that the
    /// constraints of whoever cross-certified that root permit it. Other software presents it.
    ///
    /// # Errors
    /// [`AuthorityError::NotOurRoot`] if the signer is no active root; or as [`Authority::issue`].
    pub fn issue_organisation_leaf(
        &mut self,
        root: Arc<dyn Signer>,
        order: &LeafOrder,
        now: UnixTime,
    ) -> Result<IssuedLeaf, AuthorityError> {
        self.reload()?;
        self.active_root(&*root)?;
        let issuer = self.issuer_with(root)?;
        let template = Template {
            name: "organisation-leaf",
            subject: LeafSubject::AsIssuer,
            lifetime: ORGANISATION_LEAF_LIFETIME,
        };
        self.sign_leaf(&issuer, &template, order, now)
    }

    /// The files of one P2PFL node: a root, and a certificate with a key for each of its roles,
    /// named as it looks for them ([`P2PFL_FILES`]).
    ///
    /// # Errors
    /// As [`Authority::issue`]. P2PFL names no key types; the keys are P-256, which gRPC takes in
    /// both directions.
    pub fn issue_p2pfl_pair(
        &mut self,
        order: &LeafOrder,
        now: UnixTime,
    ) -> Result<Vec<File>, AuthorityError> {
        let mut files = Vec::new();
        let [
            ca,
            server_certificate,
            server_key,
            client_certificate,
            client_key,
        ] = P2PFL_FILES;
        for (purpose, certificate, key) in [
            (Purpose::Serve, server_certificate, server_key),
            (Purpose::Dial, client_certificate, client_key),
        ] {
            let order = LeafOrder {
                purposes: vec![purpose],
                spki: None,
                ..order.clone()
            };
            let leaf = self.issue(&order, now)?;
            if files.is_empty() {
                files.push(public(
                    ca,
                    pem::certificates(std::slice::from_ref(&leaf.root)),
                ));
            }
            files.push(public(certificate, pem::certificates(&leaf.chain)));
            files.push(File {
                name: key,
                content: leaf.key.unwrap_or_default(),
                secret: true,
            });
        }
        Ok(files)
    }

    fn sign_leaf(
        &self,
        issuer: &Issuer,
        template: &Template<'_>,
        order: &LeafOrder,
        now: UnixTime,
    ) -> Result<IssuedLeaf, AuthorityError> {
        let made = match order.spki {
            None => Some(LeafKey::generate()?),
            Some(_) => None,
        };
        let spki = match (&order.spki, &made) {
            (Some(spki), _) => spki.as_slice(),
            (None, Some(key)) => key.spki(),
            (None, None) => &[],
        };
        let key = KeyHash::of_spki(spki);
        if self.state.withdrew_key(&key) {
            return Err(AuthorityError::Withdrawn(key));
        }
        let networks = vec![self.state.name.clone()];
        let metadata = Metadata::new(networks, order.roles.clone(), Vec::new())?;
        let about = Reservation {
            template: template.name.to_owned(),
            key,
            issuer: issuer.certificate.key(),
            label: order.label.clone(),
            not_before: not_before(issuer, now),
            not_after: end(order.lifetime, template.lifetime, issuer, now)?,
            attested: metadata.to_der()?,
            next: None,
        };
        let mint = |signer: &dyn Signer, serial: Serial, about: &Reservation| {
            let request = DirectLeafRequest {
                subject: template.subject,
                spki,
                purposes: &order.purposes,
                serial,
                not_before: about.not_before,
                not_after: about.not_after,
                dns: &order.dns,
                ips: &order.ips,
                uris: &order.uris,
                metadata: &metadata,
            };
            mint_direct_leaf(issuer.certificate.der(), signer, &request)
        };
        let unsigned = Unsigned(&*issuer.signer);
        match mint(&unsigned, [SERIAL_OF_NONE; SERIAL_BYTES], &about) {
            Ok(_) | Err(MintError::Sign(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let session = self.files.issued().open()?;
        let leaf = sign_reserved(&session, about, |serial, about| {
            mint(&*issuer.signer, serial, about)
        })?;
        drop(session);
        let key = made.as_ref().map(pem::key).transpose()?;
        Ok(self.leaf(issuer, leaf, key, now))
    }

    /// The certificates that lead from roots that still count to those after them: whoever starts
    /// from an old one, and reads no bundles, needs them beside a leaf.
    fn links_in_force(&self, now: UnixTime) -> impl Iterator<Item = Vec<u8>> {
        let links = self.links().iter().filter(move |link| {
            let link = AuthorityCertificate::from_der(link);
            let root = link
                .ok()
                .and_then(|link| self.charter().key(&link.issuer_key()));
            root.is_some_and(|root| root.state.counts(now))
        });
        links.cloned()
    }

    fn leaf(
        &self,
        issuer: &Issuer,
        leaf: IssuedCertificate,
        key: Option<Zeroizing<Vec<u8>>>,
        now: UnixTime,
    ) -> IssuedLeaf {
        let certificate = &issuer.certificate;
        let mut chain = vec![leaf.der];
        let root = self.charter().key(&certificate.issuer_key());
        let root = root.map(|root| root.details().der().to_vec());
        if certificate.issuer_key() != certificate.key() {
            chain.push(certificate.der().to_vec());
        }
        chain.extend(self.links_in_force(now));
        IssuedLeaf {
            serial: leaf.serial,
            not_after: leaf.about.not_after,
            chain,
            root: root.unwrap_or_default(),
            key,
        }
    }
}

/// A key that signs nothing: a certificate is made with it up to its signature, so that a name that is
/// refused takes no serial number, and stands in no ledger.
struct Unsigned<'a>(&'a dyn Signer);

/// Any byte that makes a serial number.
const SERIAL_OF_NONE: u8 = 0x4f;

impl Signer for Unsigned<'_> {
    fn algorithm(&self) -> Algorithm {
        self.0.algorithm()
    }

    fn spki(&self) -> &[u8] {
        self.0.spki()
    }

    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignError> {
        Err(SignError {
            cause: "nothing is to be signed yet".to_owned(),
        })
    }
}

struct Template<'a> {
    name: &'static str,
    subject: LeafSubject<'a>,
    lifetime: Duration,
}

fn public(name: &'static str, content: Vec<u8>) -> File {
    File {
        name,
        content: Zeroizing::new(content),
        secret: false,
    }
}
