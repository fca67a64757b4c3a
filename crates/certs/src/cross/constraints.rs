//! Name constraints (RFC 5280 section 4.2.1.10), read strictly and compared so that doubt refuses.
//!
//! Directory names are compared by whole RDNs from the left. Two values are equal when their bytes
//! are, or when both are PrintableString or UTF8String and agree after folding ASCII case and
//! squeezing spaces, as RFC 5280 section 7.1 asks in effect. Where neither equality nor difference
//! is certain, a permitted subtree does not match and an excluded one does.
//!
//! Host names are compared by labels from the right. Of all other forms nothing is compared: a
//! constraint on such a form is violated by every name of it. That is stricter than RFC 5280, and
//! no authority here needs more.

use der::asn1::AnyRef;
use der::{Decode, Tag, TagNumber, Tagged};

use crate::limits::{MAX_NAME_ATTRIBUTES, MAX_SUBTREES};
use crate::oid;
use crate::parsed::{CertificateFault, Parsed, elements, malformed};

const WHAT: &str = "name constraints";

/// The forms of GeneralName that matter here, by their tag.
const RFC822_NAME: u32 = 1;
const DNS_NAME: u32 = 2;
const DIRECTORY_NAME: u32 = 4;
const LAST_FORM: u32 = 8;

/// The content of a NameConstraints extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NameConstraints<'a> {
    permitted: Vec<Subtree<'a>>,
    excluded: Vec<Subtree<'a>>,
}

/// The base of one GeneralSubtree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Subtree<'a> {
    form: u32,
    /// The Name with its header for a directory name, the content for other forms.
    base: &'a [u8],
}

impl<'a> NameConstraints<'a> {
    /// Reads the value of the extension. `minimum` and `maximum`, empty lists and anything left
    /// over are refused.
    pub(super) fn from_der(value: &'a [u8]) -> Result<Self, CertificateFault> {
        let mut constraints = Self {
            permitted: Vec::new(),
            excluded: Vec::new(),
        };
        let lists = elements(value, Tag::Sequence, WHAT)?;
        let mut next = 0;
        for list in &lists {
            let number = match list.first() {
                Some(0xa0) => 0,
                Some(0xa1) => 1,
                _ => return Err(malformed(WHAT)),
            };
            if number < next {
                return Err(malformed(WHAT));
            }
            next = number + 1;
            let subtrees = subtrees(list)?;
            match number {
                0 => constraints.permitted = subtrees,
                _ => constraints.excluded = subtrees,
            }
        }
        match lists.is_empty() {
            true => Err(malformed(WHAT)),
            false => Ok(constraints),
        }
    }

    /// The one name with which everything below has to begin: there is exactly one permitted
    /// subtree, it is a directory name, and nothing is excluded.
    pub(super) fn only_directory_name(&self) -> Option<&'a [u8]> {
        match (self.permitted.as_slice(), self.excluded.is_empty()) {
            ([only], true) if only.form == DIRECTORY_NAME => Some(only.base),
            _ => None,
        }
    }

    /// Whether subject and SubjectAltName of a certificate are certainly within the constraints.
    pub(super) fn permit(
        &self,
        certificate: &Parsed<'_>,
        is_leaf: bool,
    ) -> Result<bool, CertificateFault> {
        for (form, name) in names(certificate, is_leaf)? {
            if !self.permits(form, name)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn permits(&self, form: u32, name: &[u8]) -> Result<bool, CertificateFault> {
        let mut constrained = false;
        let mut inside = false;
        for subtree in self.permitted.iter().filter(|s| s.form == form) {
            constrained = true;
            inside |= subtree.contains(name)? == Answer::Yes;
        }
        for subtree in self.excluded.iter().filter(|s| s.form == form) {
            if subtree.contains(name)? != Answer::No {
                return Ok(false);
            }
        }
        Ok(inside || !constrained)
    }
}

impl Subtree<'_> {
    /// For a name of the same form.
    fn contains(&self, name: &[u8]) -> Result<Answer, CertificateFault> {
        match self.form {
            DIRECTORY_NAME => begins(name, self.base),
            DNS_NAME => Ok(ends(name, self.base)),
            _ => Ok(Answer::Unclear),
        }
    }
}

/// Every name of a certificate that a constraint could be about. An empty subject is no name
/// (RFC 5280 section 4.2.1.10). A mail address in the subject counts as one, and so does a common
/// name in a leaf, which others still take for a host name.
fn names<'a>(
    certificate: &Parsed<'a>,
    is_leaf: bool,
) -> Result<Vec<(u32, &'a [u8])>, CertificateFault> {
    let mut names = Vec::new();
    let subject = relative_names(certificate.subject)?;
    if !subject.is_empty() {
        names.push((DIRECTORY_NAME, certificate.subject));
    }
    for (kind, value) in subject.iter().flatten() {
        if *kind == oid::EMAIL_ADDRESS.as_bytes() {
            names.push((RFC822_NAME, value.value()));
        } else if is_leaf && *kind == oid::COMMON_NAME.as_bytes() {
            names.push((DNS_NAME, value.value()));
        }
    }
    for name in certificate.general_names()? {
        let (form, value) = general_name(name)?;
        names.push((form, value));
    }
    Ok(names)
}

/// The directory names in the SubjectAltName of a certificate.
pub(super) fn alternative_directory_names<'a>(
    certificate: &Parsed<'a>,
) -> Result<Vec<&'a [u8]>, CertificateFault> {
    let mut found = Vec::new();
    for name in certificate.general_names()? {
        let (form, value) = general_name(name)?;
        if form == DIRECTORY_NAME {
            found.push(value);
        }
    }
    Ok(found)
}

fn subtrees(list: &[u8]) -> Result<Vec<Subtree<'_>>, CertificateFault> {
    let tag = AnyRef::from_der(list).map_err(|_| malformed(WHAT))?.tag();
    let list = elements(list, tag, WHAT)?;
    if list.is_empty() {
        return Err(malformed(WHAT));
    }
    if list.len() > MAX_SUBTREES {
        return Err(CertificateFault::TooManyNames { found: list.len() });
    }
    list.into_iter().map(subtree).collect()
}

/// `GeneralSubtree ::= SEQUENCE { base GeneralName, minimum [0] .., maximum [1] .. }`, of which
/// RFC 5280 allows only the base.
fn subtree(der: &[u8]) -> Result<Subtree<'_>, CertificateFault> {
    let fields = elements(der, Tag::Sequence, WHAT)?;
    let [base] = fields.as_slice() else {
        return Err(malformed(WHAT));
    };
    let base = AnyRef::from_der(base).map_err(|_| malformed(WHAT))?;
    let (form, base) = general_name(base)?;
    Ok(Subtree { form, base })
}

/// Form and content of a GeneralName; a directory name is an explicit `[4]` around a Name.
fn general_name(name: AnyRef<'_>) -> Result<(u32, &[u8]), CertificateFault> {
    let what = "general name";
    let Tag::ContextSpecific {
        constructed,
        number: TagNumber(form),
    } = name.tag()
    else {
        return Err(malformed(what));
    };
    if form > LAST_FORM || constructed != matches!(form, 0 | 3..=5) {
        return Err(malformed(what));
    }
    if form == DIRECTORY_NAME {
        relative_names(name.value())?;
    }
    Ok((form, name.value()))
}

/// Whether something holds, where that can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    Unclear,
}

/// Whether `name` begins with all RDNs of `base`.
fn begins(name: &[u8], base: &[u8]) -> Result<Answer, CertificateFault> {
    let (name, base) = (relative_names(name)?, relative_names(base)?);
    if name.len() < base.len() {
        return Ok(Answer::No);
    }
    let mut answer = Answer::Yes;
    for (left, right) in name.iter().zip(&base) {
        match same_relative_name(left, right) {
            Answer::No => return Ok(Answer::No),
            Answer::Unclear => answer = Answer::Unclear,
            Answer::Yes => {}
        }
    }
    Ok(answer)
}

/// Whether the host name is `base` or has more labels on the left; below a `base` that begins with a
/// dot it must have more. A wildcard stands for names inside and, maybe, outside of a longer base.
fn ends(name: &[u8], base: &[u8]) -> Answer {
    let is_host = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    let (wildcard, host) = match name.strip_prefix(b"*.") {
        Some(host) => (true, host),
        None => (false, name),
    };
    let plain = |host: &[u8]| host.iter().all(is_host) && !host.ends_with(b".");
    if host.is_empty() || !plain(host) || !plain(base) {
        return Answer::Unclear;
    }
    let dotted = |host: &[u8]| [b".", host].concat().to_ascii_lowercase();
    let is_below = match base.strip_prefix(b".") {
        Some(base) => {
            dotted(host).ends_with(&dotted(base)) && (wildcard || host.len() > base.len())
        }
        None => base.is_empty() || dotted(host).ends_with(&dotted(base)),
    };
    match (is_below, wildcard) {
        (true, _) => Answer::Yes,
        (false, true) => Answer::Unclear,
        (false, false) => Answer::No,
    }
}

type Attribute<'a> = (&'a [u8], AnyRef<'a>);

/// The RDNs of a Name, each with its attributes, of which there are at most
/// [`MAX_NAME_ATTRIBUTES`]. Attributes of one RDN are in the order of their bytes, as DER demands of a
/// SET: in another one, a name that is the same for some readers has other bytes.
pub(crate) fn relative_names(name: &[u8]) -> Result<Vec<Vec<Attribute<'_>>>, CertificateFault> {
    let what = "name";
    let mut found = 0;
    let mut names = Vec::new();
    for relative in elements(name, Tag::Sequence, what)? {
        let attributes = elements(relative, Tag::Set, what)?;
        if attributes.is_empty() || !attributes.is_sorted() {
            return Err(malformed(what));
        }
        found += attributes.len();
        if found > MAX_NAME_ATTRIBUTES {
            return Err(CertificateFault::NameTooLong);
        }
        names.push(
            attributes
                .into_iter()
                .map(attribute)
                .collect::<Result<_, _>>()?,
        );
    }
    Ok(names)
}

fn attribute(der: &[u8]) -> Result<Attribute<'_>, CertificateFault> {
    crate::parsed::attribute(der, "name")
}

/// RDNs with several attributes are sets, whose order DER fixes by their bytes: after folding it
/// may differ, so that only an exact match is certain.
fn same_relative_name(left: &[Attribute<'_>], right: &[Attribute<'_>]) -> Answer {
    if left == right {
        return Answer::Yes;
    }
    match (left, right) {
        ([(kind, _)], [(other, _)]) if kind != other => Answer::No,
        ([(_, value)], [(_, other)]) => same_value(*value, *other),
        _ if left.len() != right.len() => Answer::No,
        _ => Answer::Unclear,
    }
}

fn same_value(left: AnyRef<'_>, right: AnyRef<'_>) -> Answer {
    let (Some(left), Some(right)) = (text(left), text(right)) else {
        return Answer::Unclear;
    };
    if fold(left) == fold(right) {
        return Answer::Yes;
    }
    match left.is_ascii() && right.is_ascii() {
        true => Answer::No,
        // Letters outside ASCII have cases and compositions that are not folded here.
        false => Answer::Unclear,
    }
}

fn text(value: AnyRef<'_>) -> Option<&str> {
    match value.tag() {
        Tag::PrintableString | Tag::Utf8String => std::str::from_utf8(value.value()).ok(),
        _ => None,
    }
}

/// Lower case in ASCII, no spaces at the ends, single spaces inside.
fn fold(text: &str) -> String {
    let words: Vec<String> = text
        .split(' ')
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    words.join(" ")
}
