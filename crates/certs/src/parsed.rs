//! One certificate, taken apart strictly and without copying.
//!
//! The bytes that were signed stay as they arrived: what we verify is what we read, and nothing is
//! ever encoded again for a signature check. X.509 allows many things that nobody needs; whatever
//! is not understood exactly is a [`CertificateFault`].

use comity_identity::UnixTime;
use const_oid::ObjectIdentifier;
use der::asn1::{AnyRef, BitStringRef, UintRef};
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use thiserror::Error;
use x509_cert::time::Time;

use crate::keys::KeyFault;
use crate::limits::{MAX_EXTENSIONS, MAX_NAME_ATTRIBUTES, MAX_SANS, MAX_SUCCESSION_BYTES};
use crate::metadata::MetadataError;
use crate::oid;

/// Why one certificate was refused, whatever role it plays.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CertificateFault {
    /// Not the DER of a certificate.
    #[error("its {part} is not valid DER")]
    Malformed {
        /// The first part that could not be read.
        part: &'static str,
    },
    /// X.509 version 1 or 2, which cannot say what a certificate is for.
    #[error("it is not X.509 version 3")]
    Version,
    /// The algorithm inside the signed part differs from the one beside the signature.
    #[error("it names two different signature algorithms")]
    AlgorithmMismatch,
    /// An extension that appears twice (RFC 5280 section 4.2 forbids it): two readers could each
    /// see another one.
    #[error("it has the extension {oid} twice")]
    DuplicateExtension {
        /// Which one.
        oid: String,
    },
    /// A critical extension that we do not understand.
    #[error("it has the unknown critical extension {oid}")]
    UnknownCritical {
        /// Which one.
        oid: String,
    },
    /// More than [`MAX_EXTENSIONS`] extensions.
    #[error("it has more than {MAX_EXTENSIONS} extensions")]
    TooManyExtensions,
    /// More than [`MAX_SANS`] names.
    #[error("it has {found} names, and {MAX_SANS} are accepted")]
    TooManyNames {
        /// How many.
        found: usize,
    },
    /// A distinguished name of more than [`MAX_NAME_ATTRIBUTES`] attributes.
    #[error("a name in it has more than {MAX_NAME_ATTRIBUTES} attributes")]
    NameTooLong,
    /// A limit on the CAs below something that is not a CA (RFC 5280 section 4.2.1.9).
    #[error("it limits the CAs below itself but is not a CA's")]
    PathLengthWithoutCa,
    /// A key of a kind or size that is not accepted.
    #[error("its key is not accepted: {0}")]
    UnsupportedKey(#[from] KeyFault),
    /// A signature algorithm that is not accepted, such as any with SHA-1.
    #[error("its signature algorithm {oid} is not accepted")]
    UnsupportedSignature {
        /// Which one.
        oid: String,
    },
    /// A metadata extension that breaks its schema or limits.
    #[error("its metadata extension is not valid: {0}")]
    Metadata(#[from] MetadataError),
    /// More succession statements than [`MAX_SUCCESSION_BYTES`].
    #[error(
        "its succession statements have {bytes} bytes, and {MAX_SUCCESSION_BYTES} are accepted"
    )]
    SuccessionTooLarge {
        /// Their size.
        bytes: usize,
    },
    /// The TLS library could not use it.
    #[error("the TLS library refuses it: {cause}")]
    Unusable {
        /// What it said.
        cause: String,
    },
}

impl CertificateFault {
    /// Whether a limit was exceeded, rather than a rule broken.
    pub fn is_limit(&self) -> bool {
        matches!(
            self,
            Self::TooManyExtensions
                | Self::TooManyNames { .. }
                | Self::NameTooLong
                | Self::SuccessionTooLarge { .. }
                | Self::Metadata(MetadataError::Limit { .. })
        )
    }
}

/// A certificate whose structure was read completely. Slices point into the input.
#[derive(Clone, Debug)]
pub(crate) struct Parsed<'a> {
    /// The signed bytes, with their header.
    pub(crate) tbs: &'a [u8],
    /// The content of the serial number's INTEGER.
    pub(crate) serial: &'a [u8],
    /// The content of the AlgorithmIdentifier SEQUENCE.
    pub(crate) signature_algorithm: &'a [u8],
    /// Names and key with their headers, for comparing and hashing.
    pub(crate) issuer: &'a [u8],
    pub(crate) subject: &'a [u8],
    pub(crate) spki: &'a [u8],
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    /// Whether both times are UTCTime up to 2049 and GeneralizedTime from 2050 on.
    times_in_their_form: bool,
    pub(crate) extensions: Vec<Extension<'a>>,
    pub(crate) signature: &'a [u8],
}

/// One extension; at most one of each kind is in a [`Parsed`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extension<'a> {
    pub(crate) oid: &'a [u8],
    pub(crate) critical: bool,
    /// A FALSE for `critical` that is written out.
    explicit_false: bool,
    pub(crate) value: &'a [u8],
}

/// The content of BasicConstraints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BasicConstraints {
    pub(crate) ca: bool,
    pub(crate) path_len: Option<u32>,
}

/// The bits of KeyUsage that decide anything here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyUsage {
    pub(crate) digital_signature: bool,
    pub(crate) key_cert_sign: bool,
}

type Result<T> = std::result::Result<T, CertificateFault>;

impl<'a> Parsed<'a> {
    pub(crate) fn from_der(certificate: &'a [u8]) -> Result<Self> {
        let [tbs, algorithm, signature] = parts(certificate, "outer structure")?;
        let algorithm = content(algorithm, Tag::Sequence, "signature algorithm")?;
        let signature = BitStringRef::from_der(signature)
            .ok()
            .and_then(|bits| bits.as_bytes())
            .ok_or_else(|| malformed("signature"))?;
        Self::from_tbs(tbs, algorithm, signature)
    }

    fn from_tbs(tbs: &'a [u8], algorithm: &'a [u8], signature: &'a [u8]) -> Result<Self> {
        let mut reader = reader(content(tbs, Tag::Sequence, "signed part")?, "signed part")?;
        version_3(&mut reader)?;
        let serial = field(&mut reader, Tag::Integer, "serial number")?;
        let inner_algorithm = field(&mut reader, Tag::Sequence, "signature algorithm")?;
        if inner_algorithm != algorithm {
            return Err(CertificateFault::AlgorithmMismatch);
        }
        let issuer = element(&mut reader, "issuer")?;
        let validity = element(&mut reader, "validity")?;
        let subject = element(&mut reader, "subject")?;
        let spki = element(&mut reader, "public key")?;
        // Unique identifiers ([1] and [2]) are from 1993 and in no certificate: they are refused
        // together with anything else that is not the list of extensions.
        let extensions = match reader.is_finished() {
            true => Vec::new(),
            false => extensions(element(&mut reader, "extensions")?)?,
        };
        reader.finish().map_err(|_| malformed("signed part"))?;
        let [not_before, not_after] = parts(validity, "validity")?;
        let times_in_their_form = is_in_its_form(not_before)? && is_in_its_form(not_after)?;
        let (not_before, not_after) = (time(not_before)?, time(not_after)?);
        Ok(Self {
            tbs,
            serial,
            signature_algorithm: algorithm,
            issuer,
            subject,
            spki,
            not_before,
            not_after,
            times_in_their_form,
            extensions,
            signature,
        })
    }

    /// Refuses what DER or RFC 5280 forbid although it can mean one thing only, and which therefore
    /// passes where certificates that nobody made for us are read: a FALSE that is written out, times
    /// in the other form, a path length of something that is not a CA, a KeyUsage that ends with an
    /// octet of zeros (X.690 section 11.2.2; two public roots have that). A number of unused bits that
    /// is too small passes even so, because mbed TLS writes it.
    pub(crate) fn refuse_lenient_forms(&self) -> Result<()> {
        if !self.times_in_their_form {
            return Err(malformed("validity"));
        }
        if self.extensions.iter().any(|e| e.explicit_false) {
            return Err(malformed("extensions"));
        }
        let what = "basic constraints";
        if let Some(extension) = self.extension(&oid::BASIC_CONSTRAINTS)
            && content(extension.value, Tag::Sequence, what)?.starts_with(&[1, 1, 0])
        {
            return Err(malformed(what));
        }
        if let Some(extension) = self.extension(&oid::KEY_USAGE)
            && let [_, .., 0] = key_usage_bits(extension.value)?.raw_bytes()
        {
            return Err(malformed("key usage"));
        }
        let constraints = self.basic_constraints()?;
        match !constraints.ca && constraints.path_len.is_some() {
            true => Err(CertificateFault::PathLengthWithoutCa),
            false => Ok(()),
        }
    }

    /// Whether both are one certificate.
    pub(crate) fn is_copy_of(&self, other: &Self) -> bool {
        self.tbs == other.tbs && self.signature == other.signature
    }

    /// Refuses critical extensions other than the `known` ones (RFC 5280 section 4.2).
    pub(crate) fn refuse_unknown_critical(&self, known: &[ObjectIdentifier]) -> Result<()> {
        let unknown = self
            .extensions
            .iter()
            .find(|e| e.critical && !known.iter().any(|k| k.as_bytes() == e.oid));
        match unknown {
            None => Ok(()),
            Some(extension) => Err(CertificateFault::UnknownCritical {
                oid: oid::display(extension.oid),
            }),
        }
    }

    pub(crate) fn extension(&self, oid: &ObjectIdentifier) -> Option<&Extension<'a>> {
        self.extensions.iter().find(|e| e.oid == oid.as_bytes())
    }

    /// BasicConstraints; not a CA when absent.
    pub(crate) fn basic_constraints(&self) -> Result<BasicConstraints> {
        let Some(extension) = self.extension(&oid::BASIC_CONSTRAINTS) else {
            return Ok(BasicConstraints::default());
        };
        basic_constraints(extension.value).ok_or_else(|| malformed("basic constraints"))
    }

    /// KeyUsage; `None` when absent, which allows every use. Bits that are declared unused but set
    /// are refused: some readers take them for permissions.
    pub(crate) fn key_usage(&self) -> Result<Option<KeyUsage>> {
        let Some(extension) = self.extension(&oid::KEY_USAGE) else {
            return Ok(None);
        };
        let bits = key_usage_bits(extension.value)?;
        let first = bits.raw_bytes().first().copied().unwrap_or_default();
        Ok(Some(KeyUsage {
            digital_signature: first & 0x80 != 0,
            key_cert_sign: first & 0x04 != 0,
        }))
    }

    /// The object identifiers in ExtendedKeyUsage; `None` when the extension is absent.
    pub(crate) fn extended_key_usage(&self) -> Result<Option<Vec<&'a [u8]>>> {
        let Some(extension) = self.extension(&oid::EXTENDED_KEY_USAGE) else {
            return Ok(None);
        };
        let what = "extended key usage";
        let usages = elements(extension.value, Tag::Sequence, what)?
            .into_iter()
            .map(|usage| content(usage, Tag::ObjectIdentifier, what))
            .collect::<Result<Vec<_>>>()?;
        match usages.is_empty() {
            true => Err(malformed(what)),
            false => Ok(Some(usages)),
        }
    }

    /// Whether the key identifiers say that `issuer` did not sign this: both have one, and they
    /// differ (RFC 5280 sections 4.2.1.1 and 4.2.1.2). They are a hint and prove nothing, because
    /// whoever signs chooses them; one that cannot be read says nothing.
    pub(crate) fn names_another_key_than(&self, issuer: &Self) -> bool {
        match (self.authority_key_identifier(), issuer.key_identifier()) {
            (Some(wanted), Some(found)) => wanted != found,
            _ => false,
        }
    }

    /// The content of SubjectKeyIdentifier.
    pub(crate) fn key_identifier(&self) -> Option<&'a [u8]> {
        let extension = self.extension(&oid::SUBJECT_KEY_IDENTIFIER)?;
        content(extension.value, Tag::OctetString, "key identifier").ok()
    }

    /// The key identifier in AuthorityKeyIdentifier, `keyIdentifier [0] IMPLICIT OCTET STRING`.
    pub(crate) fn authority_key_identifier(&self) -> Option<&'a [u8]> {
        let what = "authority key identifier";
        let extension = self.extension(&oid::AUTHORITY_KEY_IDENTIFIER)?;
        let elements = elements(extension.value, Tag::Sequence, what).ok()?;
        let first = elements.first().filter(|e| e.first() == Some(&0x80))?;
        any(first, what).ok().map(|id| id.value())
    }

    /// The entries of SubjectAltName; none when the extension is absent.
    pub(crate) fn general_names(&self) -> Result<Vec<AnyRef<'a>>> {
        let Some(extension) = self.extension(&oid::SUBJECT_ALT_NAME) else {
            return Ok(Vec::new());
        };
        general_names(extension.value)
    }
}

/// The bits in a KeyUsage with this value.
pub(crate) fn key_usage_bits(value: &[u8]) -> Result<BitStringRef<'_>> {
    let what = "key usage";
    let bits = BitStringRef::from_der(value).map_err(|_| malformed(what))?;
    let unused = (1_u8 << bits.unused_bits()) - 1;
    match bits.raw_bytes() {
        [.., last] if last & unused != 0 => Err(malformed(what)),
        _ => Ok(bits),
    }
}

/// The entries of a SubjectAltName with this value.
pub(crate) fn general_names(value: &[u8]) -> Result<Vec<AnyRef<'_>>> {
    let what = "subject alternative name";
    let names = elements(value, Tag::Sequence, what)?;
    if names.len() > MAX_SANS {
        return Err(CertificateFault::TooManyNames { found: names.len() });
    }
    names.into_iter().map(|name| any(name, what)).collect()
}

/// The attributes of a distinguished name, in order: type and value.
pub(crate) fn attributes<'a>(
    name: &'a [u8],
    what: &'static str,
) -> Result<Vec<(&'a [u8], AnyRef<'a>)>> {
    let mut attributes = Vec::new();
    for relative in elements(name, Tag::Sequence, what)? {
        for der in elements(relative, Tag::Set, what)? {
            attributes.push(attribute(der, what)?);
        }
    }
    Ok(attributes)
}

/// One attribute of a distinguished name: type and value.
pub(crate) fn attribute<'a>(der: &'a [u8], what: &'static str) -> Result<(&'a [u8], AnyRef<'a>)> {
    let [kind, value] = parts(der, what)?;
    Ok((
        content(kind, Tag::ObjectIdentifier, what)?,
        any(value, what)?,
    ))
}

/// The content of one element with the given tag that fills `der` completely.
pub(crate) fn content<'a>(der: &'a [u8], tag: Tag, what: &'static str) -> Result<&'a [u8]> {
    let any = any(der, what)?;
    match any.tag() == tag {
        true => Ok(any.value()),
        false => Err(malformed(what)),
    }
}

/// The elements inside a constructed element that fills `der` completely, with their headers.
pub(crate) fn elements<'a>(der: &'a [u8], tag: Tag, what: &'static str) -> Result<Vec<&'a [u8]>> {
    elements_of(content(der, tag, what)?, what)
}

/// The same for an element whose first byte, such as that of an implicit tag, is `tag`.
pub(crate) fn tagged_elements<'a>(
    der: &'a [u8],
    tag: u8,
    what: &'static str,
) -> Result<Vec<&'a [u8]>> {
    let element = any(der, what)?;
    match der.first() == Some(&tag) {
        true => elements_of(element.value(), what),
        false => Err(malformed(what)),
    }
}

fn elements_of<'a>(content: &'a [u8], what: &'static str) -> Result<Vec<&'a [u8]>> {
    let mut reader = reader(content, what)?;
    let mut elements = Vec::new();
    while !reader.is_finished() {
        elements.push(element(&mut reader, what)?);
    }
    Ok(elements)
}

/// The `N` elements of a SEQUENCE that fills `der` completely, with their headers.
pub(crate) fn parts<'a, const N: usize>(
    der: &'a [u8],
    what: &'static str,
) -> Result<[&'a [u8]; N]> {
    let mut reader = reader(content(der, Tag::Sequence, what)?, what)?;
    let mut parts = [[].as_slice(); N];
    for part in &mut parts {
        *part = element(&mut reader, what)?;
    }
    reader.finish().map_err(|_| malformed(what))?;
    Ok(parts)
}

pub(crate) const fn malformed(part: &'static str) -> CertificateFault {
    CertificateFault::Malformed { part }
}

fn any<'a>(der: &'a [u8], what: &'static str) -> Result<AnyRef<'a>> {
    AnyRef::from_der(der).map_err(|_| malformed(what))
}

fn reader<'a>(bytes: &'a [u8], what: &'static str) -> Result<SliceReader<'a>> {
    SliceReader::new(bytes).map_err(|_| malformed(what))
}

/// The next element with its header.
fn element<'a>(reader: &mut SliceReader<'a>, what: &'static str) -> Result<&'a [u8]> {
    reader.tlv_bytes().map_err(|_| malformed(what))
}

/// The content of the next element, which must have the given tag.
fn field<'a>(reader: &mut SliceReader<'a>, tag: Tag, what: &'static str) -> Result<&'a [u8]> {
    content(element(reader, what)?, tag, what)
}

/// `version [0] EXPLICIT INTEGER`: 2 means version 3, absent means version 1.
fn version_3(reader: &mut SliceReader<'_>) -> Result<()> {
    const V3: [u8; 5] = [0xa0, 0x03, 0x02, 0x01, 0x02];
    match reader.peek_byte() {
        Some(0xa0) if element(reader, "version")? == V3 => Ok(()),
        _ => Err(CertificateFault::Version),
    }
}

/// Whether a time is UTCTime up to 2049 and GeneralizedTime from then on (RFC 5280 section 4.1.2.5).
/// UTCTime cannot name a later one.
fn is_in_its_form(der: &[u8]) -> Result<bool> {
    const YEAR_2050: UnixTime = UnixTime::from_secs(2_524_608_000);
    Ok(any(der, "validity")?.tag() == Tag::UtcTime || time(der)? >= YEAR_2050)
}

fn time(der: &[u8]) -> Result<UnixTime> {
    Time::from_der(der)
        .map(|time| UnixTime::from_secs(time.to_unix_duration().as_secs()))
        .map_err(|_| malformed("validity"))
}

/// `extensions [3] EXPLICIT SEQUENCE OF Extension`.
fn extensions(der: &[u8]) -> Result<Vec<Extension<'_>>> {
    let what = "extensions";
    let explicit = any(der, what)?;
    if der.first() != Some(&0xa3) {
        return Err(malformed(what));
    }
    extension_list(explicit.value())
}

/// `SEQUENCE OF Extension` that fills `der` completely, without duplicates.
pub(crate) fn extension_list(der: &[u8]) -> Result<Vec<Extension<'_>>> {
    let elements = elements(der, Tag::Sequence, "extensions")?;
    if elements.len() > MAX_EXTENSIONS {
        return Err(CertificateFault::TooManyExtensions);
    }
    let extensions: Vec<_> = elements.into_iter().map(extension).collect::<Result<_>>()?;
    refuse_duplicates(&extensions)?;
    Ok(extensions)
}

fn refuse_duplicates(extensions: &[Extension<'_>]) -> Result<()> {
    for (index, extension) in extensions.iter().enumerate() {
        if extensions[..index].iter().any(|e| e.oid == extension.oid) {
            return Err(CertificateFault::DuplicateExtension {
                oid: oid::display(extension.oid),
            });
        }
    }
    Ok(())
}

fn extension(der: &[u8]) -> Result<Extension<'_>> {
    let what = "extensions";
    let mut reader = reader(content(der, Tag::Sequence, what)?, what)?;
    let oid = field(&mut reader, Tag::ObjectIdentifier, what)?;
    // An explicit FALSE breaks DER (it is the default) but is harmless and in old certificates.
    let critical = match reader.peek_byte() {
        Some(0x01) => Some(bool::decode(&mut reader).map_err(|_| malformed(what))?),
        _ => None,
    };
    let value = field(&mut reader, Tag::OctetString, what)?;
    reader.finish().map_err(|_| malformed(what))?;
    Ok(Extension {
        oid,
        critical: critical == Some(true),
        explicit_false: critical == Some(false),
        value,
    })
}

fn basic_constraints(value: &[u8]) -> Option<BasicConstraints> {
    AnyRef::from_der(value)
        .ok()?
        .sequence(|reader| {
            let ca = match reader.peek_byte() {
                Some(0x01) => bool::decode(reader)?,
                _ => false,
            };
            let path_len = match reader.is_finished() {
                true => None,
                false => Some(saturating(UintRef::decode(reader)?)),
            };
            Ok::<_, der::Error>(BasicConstraints { ca, path_len })
        })
        .ok()
}

/// A path length as a number; one that is too large for the type limits nothing.
fn saturating(integer: UintRef<'_>) -> u32 {
    integer
        .as_bytes()
        .iter()
        .fold(0_u32, |value, &byte| match value.checked_mul(256) {
            Some(value) => value | u32::from(byte),
            None => u32::MAX,
        })
}
