//! Minting native certificates. Entropy and time come in as arguments.

use std::net::IpAddr;
use std::time::Duration;

use comity_identity::{Algorithm, KeyHash, NodeId, SignError, Signer, UnixTime};
use const_oid::ObjectIdentifier;
use der::asn1::{BitString, GeneralizedTime, Ia5String, OctetString};
use der::{DateTime, Decode, Document, Encode};
use spki::{
    AlgorithmIdentifierOwned, DynSignatureAlgorithmIdentifier, EncodePublicKey,
    SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef,
};
use thiserror::Error;
use x509_cert::TbsCertificate;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::{Time, Validity};

use crate::authority::{AuthorityFault, IssuerFault};
use crate::chain::{ChainError, PresentedChain, Purpose};
use crate::limits::MAX_SANS;
use crate::metadata::{Metadata, MetadataError};
use crate::mint_cross::SubjectFault;
use crate::names::SanName;
use crate::native::{self, Expected, ProfileFault};
use crate::oid;
use crate::parsed::{CertificateFault, Parsed};
use crate::path::CaError;

/// What a root certificate is made of, besides the identity key.
#[derive(Clone, Copy, Debug)]
pub struct RootRequest {
    /// Hash of the next identity key, to which the root commits.
    pub next: Option<KeyHash>,
    /// Random bytes for the serial number; the top bit is cleared.
    pub serial: [u8; 16],
    /// First second at which the root is valid.
    pub not_before: UnixTime,
}

/// What a leaf is made of, besides the root.
#[derive(Clone, Copy, Debug)]
pub struct LeafRequest<'a> {
    /// The DER SubjectPublicKeyInfo of the leaf's own P-256 key.
    pub spki: &'a [u8],
    /// What the leaf is for.
    pub purpose: Purpose,
    /// Random bytes for the serial number; the top bit is cleared.
    pub serial: [u8; 16],
    /// First second at which it is valid.
    pub not_before: UnixTime,
    /// Last second at which it is valid, at most [`crate::MAX_LEAF_VALIDITY`] later.
    pub not_after: UnixTime,
    /// DNS names it claims.
    pub dns: &'a [String],
    /// Addresses it claims.
    pub ips: &'a [IpAddr],
    /// URIs it claims. A SPIFFE id must be `spiffe://<network>/node/<id>` with the node's own id.
    pub uris: &'a [String],
    /// Metadata it claims; no extension is written for empty metadata.
    pub metadata: &'a Metadata,
    /// Succession statements of the identity key, at most
    /// [`MAX_SUCCESSION_BYTES`](crate::limits::MAX_SUCCESSION_BYTES); no extension is
    /// written for none.
    pub succession: &'a [u8],
}

/// Why a certificate was not made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MintError {
    /// The serial number is zero: the caller's entropy does not work.
    #[error("the serial number is zero")]
    ZeroSerial,
    /// A name that cannot stand in a certificate.
    #[error("{name:?} is not a valid {kind}")]
    Name {
        /// `DNS name` or `URI`.
        kind: &'static str,
        /// The name, escaped and bounded.
        name: String,
    },
    /// More than [`MAX_SANS`] names.
    #[error("{found} names, and {MAX_SANS} are accepted")]
    TooManyNames {
        /// How many.
        found: usize,
    },
    /// The metadata is not acceptable.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The root certificate cannot be read.
    #[error("cannot read the root certificate: {0}")]
    Root(CertificateFault),
    /// The root, or what would have been made, does not fit the profile.
    #[error("the certificate does not fit the profile: {0}")]
    Profile(#[from] ProfileFault),
    /// The signer does not hold the root's key.
    #[error("the key does not belong to the root certificate")]
    WrongSigner,
    /// The signer failed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// Something that cannot be written as DER, such as a malformed public key.
    #[error("cannot encode the certificate: {cause}")]
    Encode {
        /// What the encoder said.
        cause: String,
    },
    /// The issuer is not one that may make this certificate.
    #[error("the issuer cannot make it: {0}")]
    Issuer(#[from] IssuerFault),
    /// The root to be certified is not one that can be cross-certified.
    #[error("the root cannot be cross-certified: {0}")]
    Subject(#[from] SubjectFault),
    /// A leaf that would be for nothing.
    #[error("the leaf has no purpose")]
    NoPurpose,
    /// It ends before it begins, or after its issuer.
    #[error("it would be valid from {not_before} to {not_after}, and its issuer ends at {issuer}")]
    Validity {
        /// When it would begin.
        not_before: UnixTime,
        /// When it would end.
        not_after: UnixTime,
        /// When the issuer ends.
        issuer: UnixTime,
    },
    /// What would have been made does not hold below its issuer.
    #[error("the new certificate does not hold below its issuer: {0}")]
    Path(#[from] CaError),
    /// What would have been made is not an authority certificate.
    #[error("the new certificate is no authority certificate: {0}")]
    Authority(#[from] AuthorityFault),
    /// We would refuse our own certificate.
    #[error("the new certificate does not pass our own checks: {0}")]
    SelfCheck(ChainError),
}

/// Makes the self-signed root of a node. Returns its DER.
///
/// # Errors
/// When the signer fails, or signs with another key than it says.
pub fn mint_root(signer: &dyn Signer, request: &RootRequest) -> Result<Vec<u8>, MintError> {
    let node = NodeId::of_spki(signer.spki());
    let mut extensions = native::root_extensions(&node);
    if let Some(next) = request.next {
        extensions.push((oid::NEXT_KEY, false, native::commitment_value(&next)));
    }
    let template = Template {
        issuer: native::subject(&node),
        subject: native::subject(&node),
        spki: signer.spki(),
        serial: request.serial,
        validity: (request.not_before, UnixTime::NEVER),
        extensions,
    };
    let root = template.sign(signer)?;
    let parsed = Parsed::from_der(&root).map_err(MintError::Root)?;
    native::check_root(&parsed)?;
    Ok(root)
}

/// Makes a leaf below the given root, which must be of the signer's key. Returns its DER.
///
/// The result was parsed together with its root like a stranger's chain.
///
/// # Errors
/// When a name, the key, the validity or the metadata does not fit the profile, the root is not
/// that of the signer, or the signer fails.
pub fn mint_leaf(
    root_der: &[u8],
    signer: &dyn Signer,
    request: &LeafRequest<'_>,
) -> Result<Vec<u8>, MintError> {
    let root = Parsed::from_der(root_der).map_err(MintError::Root)?;
    if root.spki != signer.spki() {
        return Err(MintError::WrongSigner);
    }
    native::check_validity(request.not_before, request.not_after)?;
    let node = NodeId::of_spki(root.spki);
    let template = Template {
        issuer: root.subject.to_vec(),
        subject: root.subject.to_vec(),
        spki: request.spki,
        serial: request.serial,
        validity: (request.not_before, request.not_after),
        extensions: leaf_extensions(&node, request)?,
    };
    let leaf = template.sign(signer)?;
    PresentedChain::parse(&[leaf.as_slice(), root_der]).map_err(MintError::SelfCheck)?;
    Ok(leaf)
}

fn leaf_extensions(node: &NodeId, request: &LeafRequest<'_>) -> Result<Vec<Expected>, MintError> {
    let key = KeyHash::of_spki(request.spki);
    let mut extensions = native::leaf_extensions(node, &key, request.purpose);
    extensions.extend(alternative_names(request.dns, request.ips, request.uris)?);
    extensions.extend(metadata_extension(request.metadata)?);
    if !request.succession.is_empty() {
        // Whether it is too large is found by the check of the finished leaf.
        extensions.push((oid::SUCCESSION, false, request.succession.to_vec()));
    }
    Ok(extensions)
}

/// The metadata extension; none for empty metadata.
pub(crate) fn metadata_extension(metadata: &Metadata) -> Result<Option<Expected>, MintError> {
    match metadata.is_empty() {
        true => Ok(None),
        false => Ok(Some((oid::METADATA, false, metadata.to_der()?))),
    }
}

/// SubjectAltName; none without names.
pub(crate) fn alternative_names(
    dns: &[String],
    ips: &[IpAddr],
    uris: &[String],
) -> Result<Option<Expected>, MintError> {
    let names = general_names(dns, ips, uris)?;
    if names.is_empty() {
        return Ok(None);
    }
    let value = SubjectAltName(names).to_der().map_err(encode_error)?;
    Ok(Some((oid::SUBJECT_ALT_NAME, false, value)))
}

fn general_names(
    dns: &[String],
    ips: &[IpAddr],
    uris: &[String],
) -> Result<Vec<GeneralName>, MintError> {
    let found = dns.len() + ips.len() + uris.len();
    if found > MAX_SANS {
        return Err(MintError::TooManyNames { found });
    }
    let mut names = Vec::with_capacity(found);
    for name in dns {
        let Some(SanName::Dns(name)) = SanName::dns(name) else {
            return Err(invalid("DNS name", name));
        };
        names.push(GeneralName::DnsName(ia5(&name)?));
    }
    for address in ips {
        let bytes = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let bytes = OctetString::new(bytes).map_err(encode_error)?;
        names.push(GeneralName::IpAddress(bytes));
    }
    for uri in uris {
        let Some(SanName::Uri(uri)) = SanName::uri(uri) else {
            return Err(invalid("URI", uri));
        };
        names.push(GeneralName::UniformResourceIdentifier(ia5(&uri)?));
    }
    Ok(names)
}

fn ia5(text: &str) -> Result<Ia5String, MintError> {
    Ia5String::new(text).map_err(encode_error)
}

pub(crate) fn invalid(kind: &'static str, name: &str) -> MintError {
    let name = crate::names::escape(name);
    MintError::Name { kind, name }
}

pub(crate) fn encode_error(error: impl std::fmt::Display) -> MintError {
    MintError::Encode {
        cause: error.to_string(),
    }
}

/// A certificate before it is signed.
pub(crate) struct Template<'a> {
    pub(crate) issuer: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) spki: &'a [u8],
    pub(crate) serial: [u8; 16],
    pub(crate) validity: (UnixTime, UnixTime),
    pub(crate) extensions: Vec<Expected>,
}

impl Template<'_> {
    pub(crate) fn sign(self, signer: &dyn Signer) -> Result<Vec<u8>, MintError> {
        let serial = serial_number(self.serial)?;
        let validity = Validity::new(time(self.validity.0)?, time(self.validity.1)?);
        let spki = SubjectPublicKeyInfoOwned::from_der(self.spki).map_err(encode_error)?;
        let profile = Profile {
            issuer: Name::from_der(&self.issuer).map_err(encode_error)?,
            subject: Name::from_der(&self.subject).map_err(encode_error)?,
            extensions: self.extensions,
        };
        let mut builder =
            CertificateBuilder::new(profile, serial, validity, spki).map_err(encode_error)?;
        let key = SigningKey(signer);
        let tbs = builder.finalize(&key).map_err(encode_error)?;
        let signature = signer.sign(&tbs)?;
        let signature = BitString::from_bytes(&signature).map_err(encode_error)?;
        let certificate = builder.assemble(signature, &key).map_err(encode_error)?;
        certificate.to_der().map_err(encode_error)
    }
}

/// 16 random bytes as a positive number.
fn serial_number(mut bytes: [u8; 16]) -> Result<SerialNumber, MintError> {
    bytes[0] &= 0x7f;
    if bytes == [0; 16] {
        return Err(MintError::ZeroSerial);
    }
    SerialNumber::new(&bytes).map_err(encode_error)
}

fn time(time: UnixTime) -> Result<Time, MintError> {
    let time = DateTime::from_unix_duration(Duration::from_secs(time.as_secs()));
    // The builder turns years before 2050 into UTCTime, as RFC 5280 section 4.1.2.5 asks.
    time.map(|t| Time::GeneralTime(GeneralizedTime::from_date_time(t)))
        .map_err(encode_error)
}

/// Our profile in the form that the builder takes.
struct Profile {
    issuer: Name,
    subject: Name,
    extensions: Vec<Expected>,
}

impl BuilderProfile for Profile {
    fn get_issuer(&self, _: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        _: SubjectPublicKeyInfoRef<'_>,
        _: SubjectPublicKeyInfoRef<'_>,
        _: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        let extension = |(oid, critical, value): &Expected| {
            Ok(Extension {
                extn_id: *oid,
                critical: *critical,
                extn_value: OctetString::new(value.as_slice())?,
            })
        };
        self.extensions.iter().map(extension).collect()
    }
}

/// Our signer in the form that the builder asks for algorithm and public key. It never signs
/// through the builder, whose error type has no room for what the key store says.
struct SigningKey<'a>(&'a dyn Signer);

#[derive(Clone)]
struct VerifyingKey(Vec<u8>);

impl signature::Keypair for SigningKey<'_> {
    type VerifyingKey = VerifyingKey;

    fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.spki().to_vec())
    }
}

impl EncodePublicKey for VerifyingKey {
    fn to_public_key_der(&self) -> spki::Result<Document> {
        Ok(Document::try_from(self.0.as_slice())?)
    }
}

impl DynSignatureAlgorithmIdentifier for SigningKey<'_> {
    fn signature_algorithm_identifier(&self) -> spki::Result<AlgorithmIdentifierOwned> {
        Ok(AlgorithmIdentifierOwned {
            oid: algorithm_oid(self.0.algorithm()),
            parameters: None,
        })
    }
}

pub(crate) fn algorithm_oid(algorithm: Algorithm) -> ObjectIdentifier {
    native::signature_algorithm(algorithm).0
}
