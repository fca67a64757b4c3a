//! Certificates taken apart and put together again without any opinion on what they say.

/// A certificate's signed part, field by field. Fields are complete DER elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) serial: Vec<u8>,
    pub(crate) algorithm: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) not_before: Vec<u8>,
    pub(crate) not_after: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) spki: Vec<u8>,
    pub(crate) extensions: Vec<Extension>,
}

/// One extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extension {
    /// The content of the object identifier.
    pub(crate) oid: Vec<u8>,
    pub(crate) critical: bool,
    /// The content of the BOOLEAN, where it is written in another way than DER has it.
    pub(crate) boolean: Option<u8>,
    /// The content of the OCTET STRING.
    pub(crate) value: Vec<u8>,
}

impl Certificate {
    /// Takes a sound certificate of version 3 apart.
    pub(crate) fn of(der: &[u8]) -> Self {
        let outer = elements(content(der));
        let fields = elements(content(outer[0]));
        let validity = elements(content(fields[4]));
        let extensions = elements(content(content(fields[7])));
        Self {
            serial: fields[1].to_vec(),
            algorithm: fields[2].to_vec(),
            issuer: fields[3].to_vec(),
            not_before: validity[0].to_vec(),
            not_after: validity[1].to_vec(),
            subject: fields[5].to_vec(),
            spki: fields[6].to_vec(),
            extensions: extensions.into_iter().map(Extension::of).collect(),
        }
    }

    /// The bytes to sign.
    pub(crate) fn tbs(&self) -> Vec<u8> {
        let extensions: Vec<u8> = self.extensions.iter().flat_map(Extension::der).collect();
        let fields = [
            vec![0xa0, 3, 2, 1, 2],
            self.serial.clone(),
            self.algorithm.clone(),
            self.issuer.clone(),
            tlv(0x30, &[&self.not_before, &self.not_after]),
            self.subject.clone(),
            self.spki.clone(),
            tlv(0xa3, &[&tlv(0x30, &[&extensions])]),
        ];
        tlv(0x30, &[&fields.concat()])
    }

    /// The certificate with this signature over [`Self::tbs`].
    pub(crate) fn with_signature(&self, tbs: &[u8], signature: &[u8]) -> Vec<u8> {
        tlv(0x30, &[tbs, &self.algorithm, &tlv(3, &[&[0], signature])])
    }

    pub(crate) fn extension(&self, oid: &[u8]) -> Option<&Extension> {
        self.extensions.iter().find(|e| e.oid == oid)
    }

    /// Replaces the value of an extension, or appends the extension.
    pub(crate) fn set(&mut self, oid: &[u8], critical: bool, value: Vec<u8>) {
        match self.extensions.iter_mut().find(|e| e.oid == oid) {
            Some(extension) => extension.value = value,
            None => self.extensions.push(Extension {
                oid: oid.to_vec(),
                critical,
                boolean: None,
                value,
            }),
        }
    }
}

impl Extension {
    fn of(der: &[u8]) -> Self {
        let parts = elements(content(der));
        Self {
            oid: content(parts[0]).to_vec(),
            critical: parts.len() == 3,
            boolean: None,
            value: content(parts[parts.len() - 1]).to_vec(),
        }
    }

    fn der(&self) -> Vec<u8> {
        let critical = match (self.boolean, self.critical) {
            (Some(other), _) => tlv(1, &[&[other]]),
            (None, true) => tlv(1, &[&[0xff]]),
            (None, false) => Vec::new(),
        };
        let (oid, value) = (tlv(6, &[&self.oid]), tlv(4, &[&self.value]));
        tlv(0x30, &[&oid, &critical, &value])
    }
}

/// An element: tag, length, and the parts of its content.
pub(crate) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len().to_be_bytes();
    let used = length
        .iter()
        .position(|b| *b != 0)
        .unwrap_or(length.len() - 1);
    let mut der = vec![tag];
    match &length[used..] {
        [short @ 0..0x80] => der.push(*short),
        long => {
            der.extend(u8::try_from(0x80 | long.len()));
            der.extend_from_slice(long);
        }
    }
    der.extend(content);
    der
}

/// The content of the first element of sound DER.
pub(crate) fn content(der: &[u8]) -> &[u8] {
    let (start, end) = range(der);
    &der[start..end]
}

/// The elements that follow one another in `content`, with their headers.
pub(crate) fn elements(mut content: &[u8]) -> Vec<&[u8]> {
    let mut elements = Vec::new();
    while !content.is_empty() {
        let (element, rest) = content.split_at(range(content).1);
        elements.push(element);
        content = rest;
    }
    elements
}

fn range(der: &[u8]) -> (usize, usize) {
    match der[1] {
        short @ 0..0x80 => (2, 2 + usize::from(short)),
        long => {
            let bytes = 2 + usize::from(long & 0x7f);
            let length = der[2..bytes]
                .iter()
                .fold(0, |n, b| n << 8 | usize::from(*b));
            (bytes, bytes + length)
        }
    }
}
