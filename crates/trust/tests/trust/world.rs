//! Certificates on a fixed day, and short ways to ask for a verdict.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use comity_certs::{
    Anchor, LeafRequest, Metadata, PresentedChain, Purpose, RootRequest, mint_leaf, mint_root, oid,
};
use comity_identity::{Algorithm, KeyHash, NodeId, PeerId, SignError, Signer, UnixTime};
use comity_trust::{
    Direction, Edit, Entry, Expectation, Invited, KnownPeers, Mode, Name, Networks, Phase, Query,
    Recognition, Refusal, SuccessionPolicy, Verdict, decide,
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, PublicKeyData, SanType, SubjectPublicKeyInfo, date_time_ymd,
};

/// 2026-03-01T12:00:00Z.
pub(crate) const NOW: UnixTime = UnixTime::from_secs(1_772_366_400);

/// 2026-04-01T00:00:00Z, when the certificates of this world end.
pub(crate) const END: UnixTime = UnixTime::from_secs(1_775_001_600);

/// 2026-02-01T00:00:00Z, when they begin.
pub(crate) const BEGIN: UnixTime = UnixTime::from_secs(1_769_904_000);

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// The name that every test dials.
pub(crate) const HOST: &str = "db.example";
pub(crate) const DIALLED: &str = "db.example:7117";

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("name")
}

/// A node's identity key, the same for the same number.
struct Identity {
    pair: Ed25519KeyPair,
    spki: Vec<u8>,
}

impl Identity {
    fn new(number: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[number; 32]).expect("seed");
        let spki = Algorithm::Ed25519.spki(pair.public_key().as_ref());
        Self { pair, spki }
    }
}

impl Signer for Identity {
    fn algorithm(&self) -> Algorithm {
        Algorithm::Ed25519
    }

    fn spki(&self) -> &[u8] {
        &self.spki
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        Ok(self.pair.sign(message).as_ref().to_vec())
    }
}

/// A native chain for either purpose, valid from [`BEGIN`] to 30 days later.
pub(crate) fn native(number: u8, purpose: Purpose) -> PresentedChain {
    native_with(number, purpose, &Metadata::default())
}

pub(crate) fn native_with(number: u8, purpose: Purpose, metadata: &Metadata) -> PresentedChain {
    let [leaf, root] = native_der(number, purpose, &[], metadata);
    PresentedChain::parse(&[leaf, root]).expect("chain")
}

/// A node whose root a CA cross-certified without any constraint, and what its leaf says.
pub(crate) fn cross_certified(ca: &Ca, purpose: Purpose, says: &Says) -> PresentedChain {
    let dns: Vec<String> = says.dns.iter().map(|name| (*name).to_owned()).collect();
    let metadata = metadata(says.networks, says.roles);
    let [leaf, root] = native_der(1, purpose, &dns, &metadata);
    PresentedChain::parse(&[leaf, ca.cross(&Identity::new(1)), root]).expect("chain")
}

/// Leaf and root of a node.
fn native_der(number: u8, purpose: Purpose, dns: &[String], metadata: &Metadata) -> [Vec<u8>; 2] {
    let identity = Identity::new(number);
    let root_request = RootRequest {
        next: Some(KeyHash::from_bytes([number; 32])),
        serial: [1; 16],
        not_before: BEGIN,
    };
    let root = mint_root(&identity, &root_request).expect("root");
    let leaf_key = KeyPair::generate().expect("key");
    let request = LeafRequest {
        spki: &leaf_key.subject_public_key_info(),
        purpose,
        serial: [2; 16],
        not_before: BEGIN,
        not_after: BEGIN + DAY * 30,
        dns,
        ips: &[],
        uris: &[],
        metadata,
        succession: &[],
    };
    let leaf = mint_leaf(&root, &identity, &request).expect("leaf");
    [leaf, root]
}

/// What a foreign leaf says.
#[derive(Clone, Default)]
pub(crate) struct Says {
    pub(crate) dns: &'static [&'static str],
    pub(crate) uris: &'static [&'static str],
    pub(crate) networks: &'static [&'static str],
    pub(crate) roles: &'static [&'static str],
    pub(crate) usage: Option<ExtendedKeyUsagePurpose>,
}

impl Says {
    pub(crate) fn name(dns: &'static [&'static str]) -> Self {
        Self {
            dns,
            ..Self::default()
        }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) =
            (date_time_ymd(2026, 2, 1), date_time_ymd(2026, 4, 1));
        params.distinguished_name = distinguished("leaf");
        for dns in self.dns {
            let dns = (*dns).try_into().expect("ascii");
            params.subject_alt_names.push(SanType::DnsName(dns));
        }
        for uri in self.uris {
            let uri = (*uri).try_into().expect("ascii");
            params.subject_alt_names.push(SanType::URI(uri));
        }
        params.extended_key_usages.extend(self.usage.clone());
        let metadata = metadata(self.networks, self.roles);
        if !metadata.is_empty() {
            params
                .custom_extensions
                .push(CustomExtension::from_oid_content(
                    &arcs(),
                    metadata.to_der().expect("metadata"),
                ));
        }
        params
    }
}

fn arcs() -> Vec<u64> {
    oid::METADATA.arcs().map(u64::from).collect()
}

pub(crate) fn metadata(networks: &[&str], roles: &[&str]) -> Metadata {
    let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    Metadata::new(owned(networks), owned(roles), vec![]).expect("metadata")
}

fn distinguished(common_name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, common_name);
    distinguished
}

/// A self-signed foreign certificate, valid from [`BEGIN`] to [`END`].
pub(crate) fn foreign(says: &Says) -> PresentedChain {
    let key = KeyPair::generate().expect("key");
    let certificate = says.params().self_signed(&key).expect("certificate");
    PresentedChain::parse(&[certificate.der()]).expect("chain")
}

/// A foreign CA.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) anchor: Anchor,
}

impl Ca {
    pub(crate) fn new(common_name: &str) -> Self {
        Self::until(common_name, 2036)
    }

    fn params(common_name: &str, year: i32) -> CertificateParams {
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) =
            (date_time_ymd(2020, 1, 1), date_time_ymd(year, 3, 15));
        params.distinguished_name = distinguished(common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    }

    pub(crate) fn until(common_name: &str, year: i32) -> Self {
        let params = Self::params(common_name, year);
        let key = KeyPair::generate().expect("key");
        let certificate = params.self_signed(&key).expect("certificate");
        let anchor = Anchor::from_der(certificate.der()).expect("anchor");
        Self {
            issuer: Issuer::new(params, key),
            anchor,
        }
    }

    /// A leaf below it, alone on the wire.
    pub(crate) fn leaf(&self, says: &Says) -> PresentedChain {
        let leaf = self.leaf_der(says);
        PresentedChain::parse(&[leaf]).expect("chain")
    }

    /// A leaf below it, with the CA's certificate behind it.
    pub(crate) fn leaf_with_root(&self, says: &Says) -> PresentedChain {
        let leaf = self.leaf_der(says);
        PresentedChain::parse(&[leaf.as_slice(), self.anchor.der()]).expect("chain")
    }

    /// A certificate for another CA, by its name and key.
    pub(crate) fn certify(&self, other: &Ca) -> Vec<u8> {
        let params = Self::params(other.anchor.subject().trim_start_matches("CN="), 2036);
        let certificate = params.signed_by(other.issuer.key(), &self.issuer);
        certificate.expect("cross").der().to_vec()
    }

    /// A leaf below a further CA that this one certified, for the names below `constraint` only if
    /// there is one.
    pub(crate) fn leaf_below_another(
        &self,
        constraint: Option<&str>,
        says: &Says,
    ) -> PresentedChain {
        let mut params = Self::params("below", 2036);
        params.name_constraints = constraint.map(|names| NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(names.to_owned())],
            excluded_subtrees: vec![],
        });
        let key = KeyPair::generate().expect("key");
        let middle = params.signed_by(&key, &self.issuer).expect("CA");
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().expect("key");
        let leaf = says.params().signed_by(&key, &issuer).expect("leaf");
        PresentedChain::parse(&[leaf.der(), middle.der()]).expect("chain")
    }

    /// A CA certificate for a node's root key, with the node's name.
    fn cross(&self, node: &Identity) -> Vec<u8> {
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) =
            (date_time_ymd(2026, 2, 1), date_time_ymd(2026, 4, 1));
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, "Comity Nodes");
        let id = NodeId::of_spki(&node.spki).to_hex();
        let id = DnValue::PrintableString(id.as_str().try_into().expect("printable"));
        name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), id);
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = SubjectPublicKeyInfo::from_der(&node.spki).expect("key");
        let cross = params.signed_by(&key, &self.issuer).expect("cross");
        cross.der().to_vec()
    }

    fn leaf_der(&self, says: &Says) -> Vec<u8> {
        let key = KeyPair::generate().expect("key");
        let leaf = says.params().signed_by(&key, &self.issuer).expect("leaf");
        leaf.der().to_vec()
    }

    /// Its line, with what stands before and after the certificate.
    pub(crate) fn line(&self, side: &str, names: &str, attributes: &str) -> String {
        let der = data_encoding_base64(self.anchor.der());
        format!("@ca {side} {names} ca {der} {attributes}")
    }
}

fn data_encoding_base64(der: &[u8]) -> String {
    data_encoding::BASE64.encode(der)
}

/// The kind and value of a pin on a chain's identity.
pub(crate) fn pin(chain: &PresentedChain) -> String {
    comity_trust::Pin::from(chain.peer_id()).to_string()
}

pub(crate) fn known(lines: &[String]) -> KnownPeers {
    let text = format!("comity-known-peers v1\n{}\n", lines.join("\n"));
    KnownPeers::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

pub(crate) fn nobody() -> KnownPeers {
    KnownPeers::empty()
}

/// A question under construction. Dialling expects [`DIALLED`].
#[derive(Clone)]
pub(crate) struct Ask<'a> {
    pub(crate) direction: Direction,
    pub(crate) mode: Mode,
    pub(crate) phase: Phase,
    pub(crate) chain: &'a PresentedChain,
    pub(crate) expectation: Expectation,
    pub(crate) known: Arc<KnownPeers>,
    pub(crate) roots: &'a [Anchor],
    pub(crate) own: Vec<KeyHash>,
    pub(crate) networks: Networks,
    pub(crate) succession: SuccessionPolicy,
    pub(crate) invited: Invited<'a>,
    pub(crate) now: UnixTime,
}

impl<'a> Ask<'a> {
    pub(crate) fn dial(mode: Mode, chain: &'a PresentedChain, known: KnownPeers) -> Self {
        let name = name(DIALLED);
        Self {
            direction: Direction::Dial,
            expectation: Expectation {
                server_name: name.server_name(),
                name: Some(name),
                ..Expectation::default()
            },
            ..Self::accept(mode, chain, known)
        }
    }

    pub(crate) fn accept(mode: Mode, chain: &'a PresentedChain, known: KnownPeers) -> Self {
        Self {
            direction: Direction::Accept,
            mode,
            phase: Phase::Gate,
            chain,
            expectation: Expectation::default(),
            known: Arc::new(known),
            roots: &[],
            own: Vec::new(),
            networks: Networks::empty(),
            succession: SuccessionPolicy::default(),
            invited: Invited::No,
            now: NOW,
        }
    }

    pub(crate) fn roots(mut self, roots: &'a [Anchor]) -> Self {
        self.roots = roots;
        self
    }

    pub(crate) fn own(mut self, key: KeyHash) -> Self {
        self.own.push(key);
        self
    }

    pub(crate) fn phase(mut self, phase: Phase) -> Self {
        self.phase = phase;
        self
    }

    pub(crate) fn at(mut self, now: UnixTime) -> Self {
        self.now = now;
        self
    }

    pub(crate) fn named(mut self, label: &str) -> Self {
        self.expectation.name = Some(name(label));
        self
    }

    pub(crate) fn id(mut self, id: PeerId) -> Self {
        self.expectation.id = Some(id);
        self
    }

    pub(crate) fn networks(mut self, networks: &Networks) -> Self {
        self.networks = networks.clone();
        self
    }

    pub(crate) fn demanding(mut self, network: NodeId) -> Self {
        self.expectation.network = Some(network);
        self
    }

    pub(crate) fn succession(mut self, policy: SuccessionPolicy) -> Self {
        self.succession = policy;
        self
    }

    pub(crate) fn invited(mut self, invited: Invited<'a>) -> Self {
        self.invited = invited;
        self
    }

    pub(crate) fn query(&self) -> Query<'_> {
        Query {
            direction: self.direction,
            mode: self.mode,
            phase: self.phase,
            chain: self.chain,
            expectation: &self.expectation,
            known: &self.known,
            system_roots: self.roots,
            own: &self.own,
            networks: &self.networks,
            succession: self.succession,
            invited: self.invited,
            now: self.now,
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        decide(&self.query())
    }

    /// How the peer is recognised, or the reason why not, in a word.
    pub(crate) fn word(&self) -> &'static str {
        match self.verdict() {
            Verdict::Accept(recognition) => recognition.how.token(),
            Verdict::Refuse(refusal) => refusal.reason.token(),
        }
    }

    pub(crate) fn accepted(&self) -> Recognition {
        match self.verdict() {
            Verdict::Accept(recognition) => recognition,
            Verdict::Refuse(refusal) => panic!("refused: {refusal:?}"),
        }
    }

    pub(crate) fn refused(&self) -> Refusal {
        match self.verdict() {
            Verdict::Accept(recognition) => panic!("accepted: {recognition:?}"),
            Verdict::Refuse(refusal) => refusal,
        }
    }
}

/// Short enough to read when a property fails.
impl fmt::Debug for Ask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {:?}, {:?} in {} certificates (leaf {}), expecting {:?}, at {}\n{}",
            self.direction,
            self.mode,
            self.phase,
            self.chain.peer_id(),
            self.chain.der().len(),
            self.chain.leaf().fingerprint,
            self.expectation,
            self.now,
            self.known.to_text()
        )
    }
}

/// The entry that the gate must add.
pub(crate) fn added(recognition: &Recognition) -> Option<Entry> {
    match recognition.record.as_deref()? {
        Edit::Add(entry) => Some(Entry::clone(entry)),
        other => panic!("{other:?}"),
    }
}
