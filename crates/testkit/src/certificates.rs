//! A factory of certificates: nodes of our own, foreign peers of every kind, and certificates
//! written field by field so that each field can be wrong.
//!
//! Everything is minted for one fixed day, [`TODAY`]. Keys are random: no test may depend on them.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use comity_certs::{
    LEAF_LIFETIME, LeafRequest, Metadata, Purpose, RootRequest, mint_leaf, mint_root,
};
use comity_identity::{Algorithm, KeyHash, NodeId, SignError, Signer, UnixTime, verify};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, NameConstraints, RsaKeySize, SanType,
    SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

/// 2026-03-01T00:00:00Z, the day on which all tests take place.
pub const TODAY: UnixTime = UnixTime::from_secs(1_772_323_200);

/// One day.
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// An identity key in memory.
pub struct TestKey {
    kind: Kind,
    spki: Vec<u8>,
}

enum Kind {
    EcdsaP256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Certificates, leaf first, and the private key of the leaf as PKCS#8 DER.
#[derive(Clone)]
pub struct Credential {
    /// What is presented, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8 DER.
    pub key: Vec<u8>,
}

/// A whole node: identity key, committed next key, root, and a leaf for each direction.
pub struct Node {
    /// The identity key.
    pub identity: TestKey,
    /// The key to which the root commits.
    pub next: TestKey,
    /// The root certificate.
    pub root: Vec<u8>,
    /// Leaf for accepting, with its root.
    pub serve: Credential,
    /// Leaf for dialling, with its root.
    pub dial: Credential,
}

/// What a node's leaf shall say. The default: valid from [`TODAY`] for [`LEAF_LIFETIME`], no names.
#[derive(Clone, Debug)]
pub struct LeafOptions {
    /// First second of validity.
    pub not_before: UnixTime,
    /// Last second of validity.
    pub not_after: UnixTime,
    /// DNS names.
    pub dns: Vec<String>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// URIs.
    pub uris: Vec<String>,
    /// The metadata extension.
    pub metadata: Metadata,
    /// The succession extension; none when empty.
    pub succession: Vec<u8>,
}

impl Default for LeafOptions {
    fn default() -> Self {
        Self {
            not_before: TODAY,
            not_after: TODAY + LEAF_LIFETIME,
            dns: Vec::new(),
            ips: Vec::new(),
            uris: Vec::new(),
            metadata: Metadata::default(),
            succession: Vec::new(),
        }
    }
}

impl TestKey {
    /// A new random key.
    pub fn generate(algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::EcdsaP256 => Kind::EcdsaP256(
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("entropy"),
            ),
            Algorithm::Ed25519 => Kind::Ed25519(Ed25519KeyPair::generate().expect("entropy")),
        };
        let spki = match &kind {
            Kind::EcdsaP256(pair) => algorithm.spki(pair.public_key().as_ref()),
            Kind::Ed25519(pair) => algorithm.spki(pair.public_key().as_ref()),
        };
        Self { kind, spki }
    }

    /// A P-256 key again.
    pub fn of_pkcs8(der: &[u8]) -> Self {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der);
        let pair = pair.expect("a P-256 key");
        let spki = Algorithm::EcdsaP256.spki(pair.public_key().as_ref());
        Self {
            kind: Kind::EcdsaP256(pair),
            spki,
        }
    }

    /// The private key as PKCS#8 DER (version 1, which every tool reads).
    pub fn pkcs8(&self) -> Vec<u8> {
        let document = match &self.kind {
            Kind::EcdsaP256(pair) => pair.to_pkcs8v1(),
            Kind::Ed25519(pair) => pair.to_pkcs8v1(),
        };
        document.expect("a software key").as_ref().to_vec()
    }

    /// One signature with whatever s comes out, low or high.
    pub fn sign_once(&self, message: &[u8]) -> Vec<u8> {
        match &self.kind {
            Kind::EcdsaP256(pair) => pair
                .sign(&SystemRandom::new(), message)
                .expect("a software key")
                .as_ref()
                .to_vec(),
            Kind::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

impl Signer for TestKey {
    fn algorithm(&self) -> Algorithm {
        match self.kind {
            Kind::EcdsaP256(_) => Algorithm::EcdsaP256,
            Kind::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    fn spki(&self) -> &[u8] {
        &self.spki
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        // About every second ECDSA signature has low s.
        loop {
            let signature = self.sign_once(message);
            if verify(&self.spki, message, &signature).is_ok() {
                return Ok(signature);
            }
        }
    }
}

impl Node {
    /// A node with a P-256 identity.
    pub fn new() -> Self {
        Self::with_algorithm(Algorithm::EcdsaP256)
    }

    /// A node with the given kind of identity key.
    pub fn with_algorithm(algorithm: Algorithm) -> Self {
        Self::with_options(algorithm, &LeafOptions::default())
    }

    /// A node with the given kind of identity key and the given leaves.
    pub fn with_options(algorithm: Algorithm, options: &LeafOptions) -> Self {
        let (identity, next) = (TestKey::generate(algorithm), TestKey::generate(algorithm));
        Self::of_keys(identity, next, options)
    }

    /// A node with the given identity key, which commits to the given next one.
    pub fn of_keys(identity: TestKey, next: TestKey, options: &LeafOptions) -> Self {
        let request = RootRequest {
            next: Some(KeyHash::of_spki(next.spki())),
            serial: random_serial(),
            not_before: TODAY,
        };
        let root = mint_root(&identity, &request).expect("a sound request");
        let serve = leaf_below(&root, &identity, Purpose::Serve, options);
        let dial = leaf_below(&root, &identity, Purpose::Dial, options);
        Self {
            identity,
            next,
            root,
            serve,
            dial,
        }
    }

    /// The node's id.
    pub fn id(&self) -> NodeId {
        NodeId::of_spki(self.identity.spki())
    }

    /// One more leaf of this node, with a fresh key.
    pub fn leaf(&self, purpose: Purpose, options: &LeafOptions) -> Credential {
        leaf_below(&self.root, &self.identity, purpose, options)
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

fn leaf_below(
    root: &[u8],
    identity: &TestKey,
    purpose: Purpose,
    options: &LeafOptions,
) -> Credential {
    let key = TestKey::generate(Algorithm::EcdsaP256);
    let request = LeafRequest {
        spki: key.spki(),
        purpose,
        serial: random_serial(),
        not_before: options.not_before,
        not_after: options.not_after,
        dns: &options.dns,
        ips: &options.ips,
        uris: &options.uris,
        metadata: &options.metadata,
        succession: &options.succession,
    };
    let leaf = mint_leaf(root, identity, &request).expect("a sound request");
    Credential {
        chain: vec![leaf, root.to_vec()],
        key: key.pkcs8(),
    }
}

/// 16 random bytes for a serial number.
pub fn random_serial() -> [u8; 16] {
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).expect("entropy");
    serial
}

/// The key of a foreign certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignKey {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on P-521, which is not accepted.
    P521,
    /// Ed25519.
    Ed25519,
    /// RSA with 2048 bits; slow to make.
    Rsa2048,
    /// RSA with 4096 bits; very slow to make.
    Rsa4096,
}

/// A foreign certificate to be made. The default is what `openssl req -x509` makes in spirit: no
/// names, common name `foreign`, valid from a day before [`TODAY`] for a year, no key usage.
#[derive(Clone)]
pub struct Foreign {
    /// The key to make.
    pub key: ForeignKey,
    /// The common name; an empty subject when `None`.
    pub common_name: Option<String>,
    /// DNS names.
    pub dns: Vec<String>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// URIs.
    pub uris: Vec<String>,
    /// First second of validity.
    pub not_before: UnixTime,
    /// Last second of validity.
    pub not_after: UnixTime,
    /// Extended key usage; no such extension when empty.
    pub purposes: Vec<Purpose>,
    /// Key usage; no such extension when empty.
    pub key_usages: Vec<KeyUsagePurpose>,
    /// CA:TRUE, with a path length if one is given.
    pub ca: Option<Option<u8>>,
    /// Name constraints.
    pub name_constraints: Option<NameConstraints>,
    /// Further extensions.
    pub extensions: Vec<CustomExtension>,
}

impl Default for Foreign {
    fn default() -> Self {
        Self {
            key: ForeignKey::P256,
            common_name: Some("foreign".to_owned()),
            dns: Vec::new(),
            ips: Vec::new(),
            uris: Vec::new(),
            not_before: TODAY - DAY,
            not_after: TODAY + 365 * DAY,
            purposes: Vec::new(),
            key_usages: Vec::new(),
            ca: None,
            name_constraints: None,
            extensions: Vec::new(),
        }
    }
}

/// A CA that issues foreign certificates.
pub struct Authority {
    /// Its certificate.
    pub der: Vec<u8>,
    issuer: Issuer<'static, rcgen::KeyPair>,
}

impl Foreign {
    /// A leaf for a host: its name, and `serverAuth`.
    pub fn server(name: &str) -> Self {
        Self {
            common_name: Some(name.to_owned()),
            dns: vec![name.to_owned()],
            purposes: vec![Purpose::Serve],
            ..Self::default()
        }
    }

    /// A leaf for a client: `clientAuth` only.
    pub fn client(name: &str) -> Self {
        Self {
            common_name: Some(name.to_owned()),
            purposes: vec![Purpose::Dial],
            ..Self::default()
        }
    }

    /// A CA: CA:TRUE and keyCertSign, for ten years.
    pub fn authority(name: &str) -> Self {
        Self {
            common_name: Some(name.to_owned()),
            not_after: TODAY + 3650 * DAY,
            key_usages: vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
            ca: Some(None),
            ..Self::default()
        }
    }

    /// The certificate signed with its own key.
    pub fn self_signed(&self) -> Credential {
        let key = self.key.generate();
        let certificate = self.params().self_signed(&key).expect("sound parameters");
        Credential {
            chain: vec![certificate.der().to_vec()],
            key: key.serialize_der(),
        }
    }

    /// The certificate signed by `authority`; its chain has only the leaf.
    pub fn issued_by(&self, authority: &Authority) -> Credential {
        let key = self.key.generate();
        let certificate = self
            .params()
            .signed_by(&key, &authority.issuer)
            .expect("sound parameters");
        Credential {
            chain: vec![certificate.der().to_vec()],
            key: key.serialize_der(),
        }
    }

    /// A CA with these properties that signed itself.
    pub fn root(&self) -> Authority {
        let key = self.key.generate();
        let certificate = self.params().self_signed(&key).expect("sound parameters");
        Authority {
            der: certificate.der().to_vec(),
            issuer: Issuer::new(self.params(), key),
        }
    }

    /// A CA with these properties below another one.
    pub fn intermediate(&self, above: &Authority) -> Authority {
        let key = self.key.generate();
        let certificate = self
            .params()
            .signed_by(&key, &above.issuer)
            .expect("sound parameters");
        Authority {
            der: certificate.der().to_vec(),
            issuer: Issuer::new(self.params(), key),
        }
    }

    /// Another certificate for the key of `authority`, signed by `above`: cross-signing.
    pub fn cross(&self, authority: &Authority, above: &Authority) -> Vec<u8> {
        self.params()
            .signed_by(authority.issuer.key(), &above.issuer)
            .expect("sound parameters")
            .der()
            .to_vec()
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.not_before = date(self.not_before);
        params.not_after = date(self.not_after);
        params.serial_number = Some(SerialNumber::from_slice(&positive(random_serial())));
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = &self.common_name {
            params
                .distinguished_name
                .push(DnType::CommonName, name.as_str());
        }
        params.subject_alt_names = self.names();
        params.is_ca = match self.ca {
            None => IsCa::NoCa,
            Some(None) => IsCa::Ca(BasicConstraints::Unconstrained),
            Some(Some(length)) => IsCa::Ca(BasicConstraints::Constrained(length)),
        };
        params.extended_key_usages = self.purposes.iter().map(|p| usage(*p)).collect();
        params.key_usages = self.key_usages.clone();
        params.name_constraints = self.name_constraints.clone();
        params.custom_extensions = self.extensions.clone();
        params
    }

    fn names(&self) -> Vec<SanType> {
        let ia5 = |text: &String| text.as_str().try_into().expect("an ASCII name");
        let dns = self.dns.iter().map(|name| SanType::DnsName(ia5(name)));
        let ips = self.ips.iter().map(|ip| SanType::IpAddress(*ip));
        let uris = self.uris.iter().map(|uri| SanType::URI(ia5(uri)));
        dns.chain(ips).chain(uris).collect()
    }
}

impl Credential {
    /// Certificates and key of a vector in `tests/vectors/certificate`, such as
    /// `foreign-rsa-1024`: keys that no library of ours would make.
    pub fn of_vector(name: &str) -> Self {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/vectors/certificate"
        );
        let text = std::fs::read(format!("{folder}/{name}.txt")).expect("a vector of this name");
        let chain = CertificateDer::pem_slice_iter(&text).map(|c| c.expect("PEM").to_vec());
        let key = PrivatePkcs8KeyDer::from_pem_slice(&text).expect("a vector with a key");
        Self {
            chain: chain.collect(),
            key: key.secret_pkcs8_der().to_vec(),
        }
    }

    /// The same with further certificates after those that are there.
    pub fn followed_by(mut self, certificates: &[&[u8]]) -> Self {
        self.chain.extend(certificates.iter().map(|c| c.to_vec()));
        self
    }

    /// The chain as PEM, leaf first.
    pub fn chain_pem(&self) -> String {
        self.chain
            .iter()
            .map(|der| pem("CERTIFICATE", der))
            .collect()
    }

    /// The private key as PEM.
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }
}

impl ForeignKey {
    fn generate(self) -> rcgen::KeyPair {
        let rsa = |size| rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
        let key = match self {
            Self::P256 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::P384 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            Self::P521 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
            Self::Ed25519 => ed25519(),
            Self::Rsa2048 => rsa(RsaKeySize::_2048),
            Self::Rsa4096 => rsa(RsaKeySize::_4096),
        };
        key.expect("entropy")
    }
}

/// Through PKCS#8 version 1: OpenSSL 3.0 does not read version 2, which is what rcgen writes.
fn ed25519() -> Result<rcgen::KeyPair, rcgen::Error> {
    let der = TestKey::generate(Algorithm::Ed25519).pkcs8();
    let der = PrivatePkcs8KeyDer::from(der);
    rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519)
}

/// Some DER as PEM.
pub fn pem(label: &str, der: &[u8]) -> String {
    use std::fmt::Write as _;
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----");
    for (index, group) in der.chunks(3).enumerate() {
        if index % 16 == 0 {
            text.push('\n');
        }
        let value =
            group.iter().fold(0_usize, |v, b| v << 8 | usize::from(*b)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let character = match place <= group.len() {
                true => ALPHABET[value >> (18 - 6 * place) & 63],
                false => b'=',
            };
            text.push(char::from(character));
        }
    }
    writeln!(text, "\n-----END {label}-----").expect("a String");
    text
}

fn date(time: UnixTime) -> OffsetDateTime {
    let seconds = i64::try_from(time.as_secs()).expect("before the year 10000");
    OffsetDateTime::from_unix_timestamp(seconds).expect("before the year 10000")
}

fn positive(mut serial: [u8; 16]) -> [u8; 16] {
    // Between 1 and 0x7f, so that every encoder keeps all bytes.
    serial[0] = serial[0] & 0x3f | 0x40;
    serial
}

fn usage(purpose: Purpose) -> ExtendedKeyUsagePurpose {
    match purpose {
        Purpose::Serve => ExtendedKeyUsagePurpose::ServerAuth,
        Purpose::Dial => ExtendedKeyUsagePurpose::ClientAuth,
    }
}

/// A certificate written field by field, so that each of them can be wrong while the signature is
/// right. Fields are complete DER elements unless they say otherwise.
#[derive(Clone)]
pub struct RawCertificate {
    /// `[0] EXPLICIT INTEGER`, or nothing for version 1.
    pub version: Vec<u8>,
    /// The serial number.
    pub serial: Vec<u8>,
    /// The AlgorithmIdentifier inside the signed part.
    pub inner_algorithm: Vec<u8>,
    /// The AlgorithmIdentifier beside the signature.
    pub outer_algorithm: Vec<u8>,
    /// The issuer.
    pub issuer: Vec<u8>,
    /// First second of validity.
    pub not_before: Vec<u8>,
    /// Last second of validity.
    pub not_after: Vec<u8>,
    /// The subject.
    pub subject: Vec<u8>,
    /// The SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    /// Content of the object identifier, critical, content of the OCTET STRING.
    pub extensions: Vec<(Vec<u8>, bool, Vec<u8>)>,
    /// What follows the extensions in the signed part.
    pub rest: Vec<u8>,
}

impl RawCertificate {
    /// Takes a sound certificate apart.
    pub fn of(certificate: &[u8]) -> Self {
        let [tbs, outer_algorithm, _] = children(certificate);
        let fields = elements(tbs);
        let [
            version,
            serial,
            inner_algorithm,
            issuer,
            validity,
            subject,
            spki,
        ] = fields[..7].try_into().expect("a sound certificate");
        let [not_before, not_after] = children(validity);
        let list = fields.get(7).map(|explicit| content(explicit));
        Self {
            version: version.to_vec(),
            serial: serial.to_vec(),
            inner_algorithm: inner_algorithm.to_vec(),
            outer_algorithm: outer_algorithm.to_vec(),
            issuer: issuer.to_vec(),
            not_before: not_before.to_vec(),
            not_after: not_after.to_vec(),
            subject: subject.to_vec(),
            spki: spki.to_vec(),
            extensions: list
                .map(elements)
                .unwrap_or_default()
                .into_iter()
                .map(extension)
                .collect(),
            rest: Vec::new(),
        }
    }

    /// The value of the extension with this object identifier (its content bytes).
    pub fn extension_mut(&mut self, oid: &[u8]) -> &mut (Vec<u8>, bool, Vec<u8>) {
        let found = self.extensions.iter_mut().find(|(kind, ..)| kind == oid);
        found.expect("the certificate has this extension")
    }

    /// The signed part.
    pub fn tbs(&self) -> Vec<u8> {
        let validity = tlv(0x30, &[&self.not_before, &self.not_after]);
        let extensions: Vec<Vec<u8>> = self.extensions.iter().map(write_extension).collect();
        let extensions: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
        let extensions = match extensions.is_empty() {
            true => Vec::new(),
            false => tlv(0xa3, &[&tlv(0x30, &extensions)]),
        };
        let fields: [&[u8]; 9] = [
            &self.version,
            &self.serial,
            &self.inner_algorithm,
            &self.issuer,
            &validity,
            &self.subject,
            &self.spki,
            &extensions,
            &self.rest,
        ];
        tlv(0x30, &fields)
    }

    /// The certificate, signed.
    pub fn sign(&self, signer: &dyn Signer) -> Vec<u8> {
        let tbs = self.tbs();
        let signature = signer.sign(&tbs).expect("a software key");
        self.with_signature(&signature)
    }

    /// The certificate with the given signature.
    pub fn with_signature(&self, signature: &[u8]) -> Vec<u8> {
        let signature = tlv(0x03, &[&[0], signature]);
        tlv(0x30, &[&self.tbs(), &self.outer_algorithm, &signature])
    }
}

/// A DER element: tag, length, and the parts of its content.
pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u32::try_from(content.len()).expect("a short element");
    let bytes = length.to_be_bytes();
    let used = &bytes[(length.leading_zeros() / 8) as usize..];
    let mut der = vec![tag];
    match content.len() {
        short @ 0..0x80 => der.push(u8::try_from(short).expect("below 128")),
        _ => {
            der.push(0x80 | u8::try_from(used.len()).expect("at most 4"));
            der.extend_from_slice(used);
        }
    }
    der.extend_from_slice(&content);
    der
}

/// The elements inside a constructed element of sound DER, with their headers.
pub fn elements(der: &[u8]) -> Vec<&[u8]> {
    let (start, end) = content_range(der);
    let mut content = &der[start..end];
    let mut elements = Vec::new();
    while !content.is_empty() {
        let (_, end) = content_range(content);
        let (element, rest) = content.split_at(end);
        elements.push(element);
        content = rest;
    }
    elements
}

/// The content of one element of sound DER.
pub fn content(der: &[u8]) -> &[u8] {
    let (start, end) = content_range(der);
    &der[start..end]
}

fn children<const N: usize>(der: &[u8]) -> [&[u8]; N] {
    elements(der).try_into().expect("a sound certificate")
}

fn content_range(der: &[u8]) -> (usize, usize) {
    match der[1] {
        short @ 0..0x80 => (2, 2 + usize::from(short)),
        long => {
            let bytes = usize::from(long & 0x7f);
            let length = der[2..2 + bytes]
                .iter()
                .fold(0, |length, b| length << 8 | usize::from(*b));
            (2 + bytes, 2 + bytes + length)
        }
    }
}

fn extension(der: &[u8]) -> (Vec<u8>, bool, Vec<u8>) {
    let parts = elements(der);
    let (oid, value) = (parts[0], parts[parts.len() - 1]);
    (
        content(oid).to_vec(),
        parts.len() == 3,
        content(value).to_vec(),
    )
}

fn write_extension((oid, critical, value): &(Vec<u8>, bool, Vec<u8>)) -> Vec<u8> {
    let oid = tlv(0x06, &[oid]);
    let critical: &[u8] = match critical {
        true => &[0x01, 0x01, 0xff],
        false => &[],
    };
    tlv(0x30, &[&oid, critical, &tlv(0x04, &[value])])
}
