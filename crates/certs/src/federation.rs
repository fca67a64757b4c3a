//! The profile of the networks of Swaptacular nodes (seed 004), which other programs speak too.
//!
//! Every node has its own root. Nodes that deal with each other certify each other's roots by
//! cross-certificates; a node is one name:
//!
//! ```text
//! O  = Swaptacular Nodes Registry                                             UTF8String
//! OU = Accounting Authorities | Creditors Agents | Debtors Agents             UTF8String
//! serialNumber = 8 hexadecimal digits for the first kind, 32 for the others   PrintableString
//! ```
//!
//! in this order, one attribute in each RDN, nothing else. The 32 digits are the first half of the
//! SHA-256 of the root's SubjectPublicKeyInfo; the 8 are assigned. A valid path alone does not say
//! who somebody is: names that two readers understand differently, and a second key under a known
//! name, are valid X.509. So both functions here ask for the exact form, and [`check_registered`]
//! for the key that is already known.

use comity_identity::{KeyHash, UnixTime};
use der::{Tag, Tagged};
use thiserror::Error;

use crate::anchor::Anchor;
use crate::chain::{PresentedChain, Purpose};
use crate::cross::{
    CrossError, CrossPath, OwnPath, Rollover, relative_names, verify_cross_path, verify_own_path,
};
use crate::oid;
use crate::parsed::{CertificateFault, Parsed};

const ORGANIZATION: &str = "Swaptacular Nodes Registry";

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Keeps accounts; deals with the two others.
    AccountingAuthority,
    /// Acts for creditors.
    CreditorsAgent,
    /// Acts for debtors.
    DebtorsAgent,
}

impl Kind {
    const ALL: [Self; 3] = [
        Self::AccountingAuthority,
        Self::CreditorsAgent,
        Self::DebtorsAgent,
    ];

    /// The organisational unit in the name.
    pub fn unit(self) -> &'static str {
        match self {
            Self::AccountingAuthority => "Accounting Authorities",
            Self::CreditorsAgent => "Creditors Agents",
            Self::DebtorsAgent => "Debtors Agents",
        }
    }

    /// Whether nodes of these kinds certify each other: exactly one of them keeps accounts.
    pub fn deals_with(self, other: Self) -> bool {
        (self == Self::AccountingAuthority) != (other == Self::AccountingAuthority)
    }

    fn id_digits(self) -> usize {
        match self {
            Self::AccountingAuthority => 8,
            Self::CreditorsAgent | Self::DebtorsAgent => 32,
        }
    }
}

/// The name of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeName {
    kind: Kind,
    id: String,
}

impl NodeName {
    /// Reads the DER of a distinguished name.
    ///
    /// # Errors
    /// When it is not exactly the name of a node.
    pub fn from_der(name: &[u8]) -> Result<Self, NameFault> {
        let names = relative_names(name).map_err(|_| NameFault::Malformed)?;
        let attributes: Vec<_> = names
            .iter()
            .map(|relative| match relative.as_slice() {
                [(kind, value)] => Ok((*kind, value.tag(), value.value())),
                _ => Err(NameFault::Shape),
            })
            .collect::<Result<_, _>>()?;
        let [organization, unit, serial] = attributes.as_slice() else {
            return Err(NameFault::Shape);
        };
        let expected = (
            oid::ORGANIZATION.as_bytes(),
            Tag::Utf8String,
            ORGANIZATION.as_bytes(),
        );
        if *organization != expected {
            return Err(NameFault::Organization);
        }
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| {
                let oid = oid::ORGANIZATIONAL_UNIT.as_bytes();
                *unit == (oid, Tag::Utf8String, kind.unit().as_bytes())
            })
            .ok_or(NameFault::Unit)?;
        let (oid, tag, id) = *serial;
        if oid != oid::SERIAL_NUMBER.as_bytes() || tag != Tag::PrintableString {
            return Err(NameFault::Id);
        }
        let is_digit = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        match id.len() == kind.id_digits() && id.iter().all(is_digit) {
            true => Ok(Self {
                kind,
                id: id.iter().copied().map(char::from).collect(),
            }),
            false => Err(NameFault::Id),
        }
    }

    /// What the node does.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its id: 8 or 32 lower-case hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the name may belong to the root key: an id of 32 digits is the first half of its
    /// hash, one of 8 digits says nothing about a key.
    pub fn fits(&self, key: &KeyHash) -> bool {
        match self.kind {
            Kind::AccountingAuthority => true,
            Kind::CreditorsAgent | Kind::DebtorsAgent => {
                let digits = key.as_bytes().iter().take(16).map(|b| format!("{b:02x}"));
                self.id == digits.collect::<String>()
            }
        }
    }
}

/// How a name is not that of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum NameFault {
    /// Not the DER of a name.
    #[error("it is not a name")]
    Malformed,
    /// Not three RDNs with one attribute each.
    #[error("it is not an organisation, a unit and a serial number, one each")]
    Shape,
    /// The first is not the organisation, as UTF8String.
    #[error("its organisation is not {ORGANIZATION:?}")]
    Organization,
    /// The second is not one of the units, as UTF8String.
    #[error("its unit is none of the three kinds of node")]
    Unit,
    /// The third is not an id of the right length, as PrintableString.
    #[error("its serial number is not an id of that kind of node")]
    Id,
}

/// Why a chain is not that of a node.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FederationError {
    /// There is no valid path.
    #[error(transparent)]
    Path(#[from] CrossError),
    /// The leaf cannot be read.
    #[error("the leaf is refused: {0}")]
    Leaf(#[from] CertificateFault),
    /// The name is not that of a node.
    #[error("its name is not that of a node: {0}")]
    Name(#[from] NameFault),
    /// The name of the authority is not that of a node.
    #[error("the name of its issuer is not that of a node: {0}")]
    IssuerName(NameFault),
    /// The leaf has a SubjectAltName, which nobody would look at.
    #[error("it has alternative names")]
    AlternativeNames,
    /// The id is not the one of the certified root key.
    #[error("its id {id} does not belong to its root key")]
    OtherKey {
        /// The id.
        id: String,
    },
    /// Nodes of these kinds do not certify each other.
    #[error("{} and {} do not deal with each other", peer.unit(), issuer.unit())]
    NoDealings {
        /// The kind of the node.
        peer: Kind,
        /// The kind of the node that certified it.
        issuer: Kind,
    },
    /// Another root key is registered under this name.
    #[error("another root key is registered for {id}")]
    SecondKey {
        /// The id.
        id: String,
        /// The registered key.
        registered: KeyHash,
        /// The one on the path.
        found: KeyHash,
    },
}

/// A node that one of our roots certified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: NodeName,
    /// Hash of its root key: the first one, where keys were replaced.
    pub root: KeyHash,
    /// The path.
    pub path: CrossPath,
}

/// A node whose own root is the anchor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: NodeName,
    /// Hash of its root key: the first one, where keys were replaced.
    pub root: KeyHash,
    /// The path.
    pub path: OwnPath,
}

/// Verifies a node that connects, below our own roots.
///
/// # Errors
/// When there is no valid path, or what it proves is not exactly one node.
pub fn verify_peer<'a>(
    chain: &PresentedChain,
    anchors: impl IntoIterator<Item = &'a Anchor>,
    purpose: Purpose,
    rollover: Rollover,
    now: UnixTime,
) -> Result<Peer, FederationError> {
    let path = verify_cross_path(chain, anchors, purpose, rollover, now)?;
    let name = leaf_name(chain, &path.cross.key)?;
    let issuer = issuer_of(chain, &path)?;
    let issuer = NodeName::from_der(issuer).map_err(FederationError::IssuerName)?;
    if !name.kind.deals_with(issuer.kind) {
        return Err(FederationError::NoDealings {
            peer: name.kind,
            issuer: issuer.kind,
        });
    }
    Ok(Peer {
        name,
        root: path.cross.key,
        path,
    })
}

/// Verifies a node that we connect to, below the root registered for it.
///
/// # Errors
/// As [`verify_peer`].
pub fn verify_server<'a>(
    chain: &PresentedChain,
    anchors: impl IntoIterator<Item = &'a Anchor>,
    purpose: Purpose,
    rollover: Rollover,
    now: UnixTime,
) -> Result<Server, FederationError> {
    let path = verify_own_path(chain, anchors, purpose, rollover, now)?;
    // The path ends at the root, whose key is the last one.
    let root = path.keys.last().copied().unwrap_or(chain.leaf().key);
    let name = leaf_name(chain, &root)?;
    Ok(Server { name, root, path })
}

/// The registry check: where the name is registered, it must be with this root key. `registered`
/// are the names and root keys of the nodes we know; a name that is not among them passes.
///
/// # Errors
/// When another key is registered under the name.
pub fn check_registered<'a>(
    name: &NodeName,
    root: KeyHash,
    registered: impl IntoIterator<Item = (&'a NodeName, KeyHash)>,
) -> Result<(), FederationError> {
    let mut found = registered.into_iter().filter(|(known, _)| *known == name);
    match found.find(|(_, key)| *key != root) {
        None => Ok(()),
        Some((_, key)) => Err(FederationError::SecondKey {
            id: name.id.clone(),
            registered: key,
            found: root,
        }),
    }
}

/// Name and key of a root certificate, for the registry.
///
/// # Errors
/// When it cannot be read, is not self-issued, or its name is not that of a node.
pub fn read_root(certificate: &[u8]) -> Result<(NodeName, KeyHash), FederationError> {
    let root = Parsed::from_der(certificate)?;
    let name = NodeName::from_der(root.subject)?;
    NodeName::from_der(root.issuer).map_err(FederationError::IssuerName)?;
    Ok((name, KeyHash::of_spki(root.spki)))
}

fn leaf_name(chain: &PresentedChain, root: &KeyHash) -> Result<NodeName, FederationError> {
    let leaf = Parsed::from_der(&chain.der()[0])?;
    if leaf.extension(&oid::SUBJECT_ALT_NAME).is_some() {
        return Err(FederationError::AlternativeNames);
    }
    let name = NodeName::from_der(leaf.subject)?;
    match name.fits(root) {
        true => Ok(name),
        false => Err(FederationError::OtherKey { id: name.id }),
    }
}

/// The issuer that the cross-certificate on the path names.
fn issuer_of<'c>(chain: &'c PresentedChain, path: &CrossPath) -> Result<&'c [u8], FederationError> {
    let place = chain
        .fingerprints()
        .iter()
        .position(|f| *f == path.cross.fingerprint);
    let cross = Parsed::from_der(&chain.der()[place.unwrap_or_default()])?;
    Ok(cross.issuer)
}
