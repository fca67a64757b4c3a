//! One to three changes to a good chain. Whatever is changed is signed again by the right key, so
//! that the verdict depends on what the certificates say.

use crate::corpus::{Chain, Corpus, Link};
use crate::der::{Certificate, Extension, content, elements, tlv};
use crate::random::Random;

const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 14];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 30];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 35];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
/// `1.3.6.1.4.1.99999.1`, which nobody knows.
const UNKNOWN: &[u8] = &[0x2b, 6, 1, 4, 1, 0x86, 0x8d, 0x1f, 1];

/// A chain and what was done to it.
pub(crate) struct Mutant {
    pub(crate) chain: Chain,
    pub(crate) changes: Vec<&'static str>,
}

/// A change: what it is called, and how it is made.
type Change = (&'static str, fn(&mut Chain, &Corpus, &mut Random));

const CHANGES: &[Change] = &[
    ("drop an extension", |chain, _, random| {
        let extensions = &mut any(chain, random).certificate.extensions;
        if !extensions.is_empty() {
            extensions.remove(random.below(extensions.len()));
        }
    }),
    ("duplicate an extension", |chain, _, random| {
        let extensions = &mut any(chain, random).certificate.extensions;
        if !extensions.is_empty() {
            let copy = random.pick(extensions).clone();
            extensions.insert(random.below(extensions.len() + 1), copy);
        }
    }),
    ("reorder the extensions", |chain, _, random| {
        let extensions = &mut any(chain, random).certificate.extensions;
        if !extensions.is_empty() {
            let place = random.below(extensions.len());
            extensions.rotate_left(place);
            extensions.reverse();
        }
    }),
    ("flip a criticality", |chain, _, random| {
        let extensions = &mut any(chain, random).certificate.extensions;
        let place = random.below(extensions.len());
        if let Some(extension) = extensions.get_mut(place) {
            extension.critical = !extension.critical;
        }
    }),
    ("an unknown extension", |chain, _, random| {
        any(chain, random).certificate.extensions.push(Extension {
            oid: UNKNOWN.to_vec(),
            critical: random.once_in(2),
            boolean: None,
            value: vec![5, 0],
        });
    }),
    ("edit one name", |chain, _, random| {
        let certificate = &mut any(chain, random).certificate;
        match random.below(2) {
            0 => certificate.subject = edited(&certificate.subject, random),
            _ => certificate.issuer = edited(&certificate.issuer, random),
        }
    }),
    ("edit the constraint's name", |chain, _, random| {
        let certificate = &mut upper(chain, random).certificate;
        let name = edited(&certificate.subject, random);
        certificate.set(NAME_CONSTRAINTS, true, permitted(&[directory(&name)]));
    }),
    ("rename the node everywhere", |chain, _, random| {
        let old = chain.leaf.certificate.subject.clone();
        let new = edited(&old, random);
        rename(chain, &old, &new);
    }),
    ("rename the authority everywhere", |chain, _, random| {
        let old = chain.root.certificate.subject.clone();
        let new = edited(&old, random);
        rename(chain, &old, &new);
    }),
    ("constraints", constraints),
    ("constraints of the root", |chain, _, random| {
        let leaf = chain.leaf.certificate.subject.clone();
        let value = subtrees(&leaf, random);
        let critical = !random.once_in(4);
        chain
            .root
            .certificate
            .set(NAME_CONSTRAINTS, critical, value);
    }),
    ("validity", |chain, _, random| {
        let certificate = &mut any(chain, random).certificate;
        // The verdict is for midnight: a second before and after it, the past and the future.
        let times: [&[u8]; 4] = [
            b"261130235959Z",
            b"261201000001Z",
            b"200101000000Z",
            b"491231235959Z",
        ];
        let time = tlv(0x17, &[*random.pick(&times)]);
        match random.below(3) {
            0 => certificate.not_before = time,
            1 => certificate.not_after = time,
            _ => certificate.not_after = tlv(0x17, &[b"261201000000Z"]),
        }
    }),
    ("key usage", |chain, _, random| {
        let bits = *random.pick(&[0x80, 0xa0, 0x20, 0x04, 0x06, 0x02, 0x84, 0x86, 0x00]);
        any(chain, random)
            .certificate
            .set(KEY_USAGE, true, vec![3, 2, 1, bits]);
    }),
    ("key usage in unused bits", |chain, _, random| {
        let choices: [&[u8]; 6] = [
            &[3, 2, 7, 0xff],
            &[3, 2, 7, 0x84],
            &[3, 2, 3, 0x04],
            &[3, 2, 3, 0x84],
            &[3, 3, 7, 0x86, 0],
            &[3, 3, 0, 0x86, 0],
        ];
        let value = random.pick(&choices).to_vec();
        any(chain, random).certificate.set(KEY_USAGE, true, value);
    }),
    ("not quite DER", not_quite_der),
    ("extended key usage", |chain, _, random| {
        let usages = |last: &[u8]| -> Vec<u8> {
            let usage = |last: &u8| tlv(6, &[&[0x2b, 6, 1, 5, 5, 7, 3, *last]]);
            tlv(0x30, &[&last.iter().flat_map(usage).collect::<Vec<u8>>()])
        };
        let any_usage = tlv(0x30, &[&tlv(6, &[&[0x55, 0x1d, 37, 0]])]);
        let choices = [
            usages(&[1]),
            usages(&[2]),
            usages(&[1, 2]),
            usages(&[3]),
            any_usage,
        ];
        let value = random.pick(&choices).clone();
        let critical = random.once_in(2);
        any(chain, random)
            .certificate
            .set(EXTENDED_KEY_USAGE, critical, value);
    }),
    ("basic constraints", |chain, _, random| {
        let choices: [&[u8]; 11] = [
            &[0x30, 6, 1, 1, 0, 2, 1, 0],
            &[0x30, 3, 1, 1, 1],
            &[0x30, 6, 1, 1, 0x7f, 2, 1, 0],
            &[0x30, 0],
            &[0x30, 3, 1, 1, 0xff],
            &[0x30, 6, 1, 1, 0xff, 2, 1, 0],
            &[0x30, 6, 1, 1, 0xff, 2, 1, 1],
            &[0x30, 6, 1, 1, 0xff, 2, 1, 5],
            &[0x30, 6, 1, 1, 0xff, 2, 1, 0xff],
            &[0x30, 3, 1, 1, 0],
            &[0x30, 3, 2, 1, 0],
        ];
        let value = random.pick(&choices).to_vec();
        any(chain, random)
            .certificate
            .set(BASIC_CONSTRAINTS, true, value);
    }),
    ("alternative names", |chain, _, random| {
        let own = chain.leaf.certificate.subject.clone();
        let choices = [
            directory(&own),
            directory(&edited(&own, random)),
            tlv(0x82, &[b"node.example"]),
            tlv(0x82, &[b"other.test"]),
            tlv(0x86, &[b"spiffe://example/node"]),
            tlv(0x81, &[b"node@example"]),
            tlv(0x87, &[&[192, 0, 2, 1]]),
        ];
        let count = 1 + random.below(2);
        let names: Vec<u8> = (0..count)
            .flat_map(|_| random.pick(&choices).clone())
            .collect();
        any(chain, random)
            .certificate
            .set(SUBJECT_ALT_NAME, false, tlv(0x30, &[&names]));
    }),
    ("key identifiers", key_identifiers),
    ("serial number", |chain, _, random| {
        let choices: [&[u8]; 4] = [&[2, 1, 0], &[2, 1, 0xff], &[2, 1, 7], &[2, 2, 0, 0x80]];
        any(chain, random).certificate.serial = random.pick(&choices).to_vec();
    }),
    ("another signer", |chain, corpus, random| {
        any(chain, random).signer = random.below(corpus.nodes.len());
    }),
    ("reorder what is presented", |chain, _, random| {
        let presented = &mut chain.intermediates;
        let place = random.below(presented.len());
        if !presented.is_empty() {
            presented.rotate_left(place);
            presented.reverse();
        }
    }),
    ("drop a certificate", |chain, _, random| {
        let place = random.below(chain.intermediates.len());
        if !chain.intermediates.is_empty() {
            chain.intermediates.remove(place);
        }
    }),
    ("present one more", |chain, corpus, random| {
        let more = match random.below(3) {
            0 => Link::new(random.pick(&corpus.nodes).root.clone(), chain.leaf.signer),
            1 => chain.root.clone(),
            _ => random.pick(&corpus.chains).leaf.clone(),
        };
        let place = random.below(chain.intermediates.len() + 1);
        chain.intermediates.insert(place, more);
    }),
    ("replace the node's key", replace_key),
    ("an issuing certificate", issuing),
    ("a CA below the node", sub_ca),
];

impl Mutant {
    /// The same with a SubjectKeyIdentifier in the leaf, if it has none.
    pub(crate) fn with_leaf_identifier(&self) -> Option<Self> {
        let leaf = &self.chain.leaf.certificate;
        if leaf.extension(SUBJECT_KEY_IDENTIFIER).is_some() {
            return None;
        }
        let mut chain = self.chain.clone();
        let identifier = tlv(4, &[&[0x5a; 20]]);
        let leaf = &mut chain.leaf.certificate;
        leaf.set(SUBJECT_KEY_IDENTIFIER, false, identifier);
        let changes = self.changes.clone();
        Some(Self { chain, changes })
    }
}

/// The mutant with this number.
pub(crate) fn mutant(corpus: &Corpus, seed: u64, number: u32) -> Mutant {
    let mut random = Random::new(seed, number);
    let mut chain = random.pick(&corpus.chains).clone();
    let mut changes = Vec::new();
    for _ in 0..=random.below(3) {
        let (name, change) = random.pick(CHANGES);
        change(&mut chain, corpus, &mut random);
        changes.push(*name);
    }
    Mutant { chain, changes }
}

fn any<'c>(chain: &'c mut Chain, random: &mut Random) -> &'c mut Link {
    let count = chain.intermediates.len();
    match random.below(count + 2) {
        0 => &mut chain.root,
        1 => &mut chain.leaf,
        place => &mut chain.intermediates[place - 2],
    }
}

/// Something above the leaf, mostly the certificates that were presented.
fn upper<'c>(chain: &'c mut Chain, random: &mut Random) -> &'c mut Link {
    let or_root = usize::from(random.once_in(4));
    let place = random.below(chain.intermediates.len() + or_root);
    match chain.intermediates.get_mut(place) {
        Some(link) => link,
        None => &mut chain.root,
    }
}

fn rename(chain: &mut Chain, old: &[u8], new: &[u8]) {
    let links = std::iter::once(&mut chain.root)
        .chain(&mut chain.intermediates)
        .chain(std::iter::once(&mut chain.leaf));
    for link in links {
        let certificate = &mut link.certificate;
        for name in [&mut certificate.subject, &mut certificate.issuer] {
            if name == old {
                *name = new.to_vec();
            }
        }
        let constrained = permitted(&[directory(old)]);
        for extension in &mut certificate.extensions {
            if extension.oid == NAME_CONSTRAINTS && extension.value == constrained {
                extension.value = permitted(&[directory(new)]);
            }
        }
    }
}

/// A name that differs, for some readers only in how it is written.
fn edited(name: &[u8], random: &mut Random) -> Vec<u8> {
    let mut relative: Vec<Vec<u8>> = elements(content(name)).iter().map(|e| e.to_vec()).collect();
    let attribute = |kind: u8, text: &[u8]| {
        let attribute = [tlv(6, &[&[0x55, 4, kind]]), tlv(0x13, &[text])].concat();
        tlv(0x30, &[&attribute])
    };
    let place = random.below(relative.len());
    match random.below(9) {
        0 => relative.push(tlv(0x31, &[&attribute(3, b"more")])),
        1 => relative.insert(0, tlv(0x31, &[&attribute(3, b"more")])),
        2 => drop(relative.pop()),
        3 => relative.reverse(),
        4 => relative.clear(),
        _ if relative.is_empty() => {}
        5 => relative[place] = with_value(&relative[place], |tag, text| (other_type(tag), text)),
        6 => {
            relative[place] = with_value(&relative[place], |tag, text| {
                (tag, text.to_ascii_uppercase())
            });
        }
        7 => {
            relative[place] = with_value(&relative[place], |tag, text| {
                let spaced = [b" ", text.as_slice(), b" "].concat();
                (tag, spaced)
            });
        }
        _ => {
            let first = content(&relative[place]).to_vec();
            relative[place] = tlv(0x31, &[&attribute(3, b"more"), &first]);
        }
    }
    tlv(0x30, &[&relative.concat()])
}

fn other_type(tag: u8) -> u8 {
    match tag {
        0x13 => 0x0c,
        0x0c => 0x13,
        tag => tag,
    }
}

/// An RDN of one attribute with another value.
fn with_value(relative: &[u8], change: impl Fn(u8, Vec<u8>) -> (u8, Vec<u8>)) -> Vec<u8> {
    let attribute = elements(content(relative))[0];
    let parts = elements(content(attribute));
    let (tag, text) = change(parts[1][0], content(parts[1]).to_vec());
    tlv(0x31, &[&tlv(0x30, &[parts[0], &tlv(tag, &[&text])])])
}

fn directory(name: &[u8]) -> Vec<u8> {
    tlv(0xa4, &[name])
}

/// `NameConstraints` with these names permitted.
fn permitted(names: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &[&list(0xa0, names)])
}

fn list(tag: u8, names: &[Vec<u8>]) -> Vec<u8> {
    let subtrees: Vec<u8> = names.iter().flat_map(|name| tlv(0x30, &[name])).collect();
    tlv(tag, &[&subtrees])
}

fn constraints(chain: &mut Chain, _: &Corpus, random: &mut Random) {
    let link = upper(chain, random);
    let value = subtrees(&link.certificate.subject, random);
    link.certificate.set(NAME_CONSTRAINTS, true, value);
}

/// Constraints around a name: wider, narrower, of other forms, or written wrongly.
fn subtrees(name: &[u8], random: &mut Random) -> Vec<u8> {
    let own = directory(name);
    let mut shorter = elements(content(name));
    shorter.pop();
    let wider = directory(&tlv(0x30, &[&shorter.concat()]));
    let dns = tlv(0x82, &[b"example"]);
    let others = [
        dns.clone(),
        tlv(0x86, &[b"example"]),
        tlv(0x81, &[b"example"]),
        tlv(0x87, &[&[192, 0, 2, 0, 255, 255, 255, 0]]),
    ];
    let other = random.pick(&others).clone();
    let edited = directory(&edited(name, random));
    match random.below(14) {
        0 => permitted(&[wider]),
        1 => permitted(&[edited]),
        2 => permitted(&[own, edited]),
        3 => permitted(&[own, other]),
        4 => permitted(&[other]),
        5 => tlv(0x30, &[]),
        6 => tlv(0x30, &[&tlv(0xa0, &[])]),
        7 => tlv(
            0x30,
            &[&list(0xa0, std::slice::from_ref(&own)), &list(0xa1, &[own])],
        ),
        8 => tlv(0x30, &[&list(0xa1, &[edited])]),
        9 => tlv(0x30, &[&list(0xa1, &[other])]),
        10 => permitted(&[[own, vec![0x80, 1, 0]].concat()]),
        11 => permitted(&[[own, vec![0x81, 1, 5]].concat()]),
        12 => [permitted(&[own]), vec![5, 0]].concat(),
        _ => permitted(&[directory(&tlv(0x30, &[]))]),
    }
}

/// What DER or RFC 5280 forbid and some readers let pass.
fn not_quite_der(chain: &mut Chain, _: &Corpus, random: &mut Random) {
    let certificate = &mut any(chain, random).certificate;
    match random.below(6) {
        0 => certificate.not_before = tlv(0x18, &[b"20251201000000Z"]),
        1 => certificate.not_after = tlv(0x18, &[b"20491201000000Z"]),
        2 => certificate.not_after = tlv(0x17, &[b"4912010000Z"]),
        3 => certificate.not_after = tlv(0x17, &[b"491201010000+0100"]),
        4 => certificate.not_after = tlv(0x18, &[b"20511201000000.5Z"]),
        _ => {
            let place = random.below(certificate.extensions.len());
            if let Some(extension) = certificate.extensions.get_mut(place) {
                extension.boolean = Some(*random.pick(&[0x00, 0x01, 0x7f, 0xfe]));
            }
        }
    }
}

fn key_identifiers(chain: &mut Chain, corpus: &Corpus, random: &mut Random) {
    let above = chain.root.certificate.clone();
    let own = identifier(&random.pick(&corpus.nodes).root);
    let certificate = &mut any(chain, random).certificate;
    let serial = tlv(0x82, &[content(&above.serial)]);
    let issuer = tlv(0xa1, &[&directory(&above.issuer)]);
    match random.below(7) {
        0 => certificate
            .extensions
            .retain(|e| e.oid != AUTHORITY_KEY_IDENTIFIER),
        1 => certificate
            .extensions
            .retain(|e| e.oid != SUBJECT_KEY_IDENTIFIER),
        2 => certificate.set(SUBJECT_KEY_IDENTIFIER, false, tlv(4, &[&own])),
        3 => authority(certificate, &[&tlv(0x80, &[&own])]),
        4 => authority(certificate, &[]),
        5 => authority(certificate, &[&issuer, &serial]),
        _ => authority(certificate, &[&tlv(0x80, &[&own]), &issuer, &serial]),
    }
}

fn authority(certificate: &mut Certificate, fields: &[&[u8]]) {
    certificate.set(AUTHORITY_KEY_IDENTIFIER, false, tlv(0x30, fields));
}

/// The key identifier in a node's root.
fn identifier(root: &Certificate) -> Vec<u8> {
    let found = root.extension(SUBJECT_KEY_IDENTIFIER);
    found.map_or(Vec::new(), |e| content(&e.value).to_vec())
}

/// The node's old key certifies a new one, which signs the leaf.
fn replace_key(chain: &mut Chain, corpus: &Corpus, random: &mut Random) {
    let new = random.below(corpus.nodes.len());
    let old = chain.leaf.signer;
    let name = chain.leaf.certificate.issuer.clone();
    let mut between = ca(chain, corpus, new, &name, &name);
    between.set(BASIC_CONSTRAINTS, true, vec![0x30, 6, 1, 1, 0xff, 2, 1, 0]);
    if !random.once_in(3) {
        between.set(NAME_CONSTRAINTS, true, permitted(&[directory(&name)]));
    }
    let key = identifier(&corpus.nodes[old].root);
    authority(&mut between, &[&tlv(0x80, &[&key])]);
    let place = random.below(chain.intermediates.len() + 1);
    chain.intermediates.insert(place, Link::new(between, old));
    chain.leaf.signer = new;
    let key = identifier(&corpus.nodes[new].root);
    authority(&mut chain.leaf.certificate, &[&tlv(0x80, &[&key])]);
}

/// The authority certifies an issuing key, which certifies the node instead.
fn issuing(chain: &mut Chain, corpus: &Corpus, random: &mut Random) {
    let key = random.below(corpus.nodes.len());
    let name = match random.once_in(4) {
        true => chain.root.certificate.subject.clone(),
        false => edited(&chain.root.certificate.subject, random),
    };
    let root = chain.root.certificate.subject.clone();
    let mut middle = ca(chain, corpus, key, &name, &root);
    let length = u8::from(!random.once_in(4));
    middle.set(
        BASIC_CONSTRAINTS,
        true,
        vec![0x30, 6, 1, 1, 0xff, 2, 1, length],
    );
    if random.once_in(2) {
        let node = chain.leaf.certificate.subject.clone();
        middle.set(NAME_CONSTRAINTS, true, subtrees(&node, random));
    }
    let above = identifier(&corpus.nodes[chain.root.signer].root);
    authority(&mut middle, &[&tlv(0x80, &[&above])]);
    if !random.once_in(4) {
        let long = vec![0x30, 6, 1, 1, 0xff, 2, 1, 2];
        chain.root.certificate.set(BASIC_CONSTRAINTS, true, long);
    }
    let id = identifier(&corpus.nodes[key].root);
    if let Some(cross) = chain
        .intermediates
        .iter_mut()
        .find(|c| c.certificate.issuer == root)
    {
        cross.certificate.issuer = name;
        cross.signer = key;
        authority(&mut cross.certificate, &[&tlv(0x80, &[&id])]);
    }
    let signer = chain.root.signer;
    let place = random.below(chain.intermediates.len() + 1);
    chain.intermediates.insert(place, Link::new(middle, signer));
}

/// The node certifies another CA, which signs a leaf of its own or of the node's name.
fn sub_ca(chain: &mut Chain, corpus: &Corpus, random: &mut Random) {
    let key = random.below(corpus.nodes.len());
    let issuer = chain.leaf.certificate.issuer.clone();
    let name = edited(&issuer, random);
    let mut sub = ca(chain, corpus, key, &name, &issuer);
    let above = identifier(&corpus.nodes[chain.leaf.signer].root);
    authority(&mut sub, &[&tlv(0x80, &[&above])]);
    let signer = chain.leaf.signer;
    chain.intermediates.push(Link::new(sub, signer));
    let id = identifier(&corpus.nodes[key].root);
    let leaf = &mut chain.leaf;
    leaf.signer = key;
    leaf.certificate.issuer = name.clone();
    if random.once_in(2) {
        leaf.certificate.subject = name;
    }
    authority(&mut leaf.certificate, &[&tlv(0x80, &[&id])]);
}

/// A CA certificate for a node's key.
fn ca(chain: &Chain, corpus: &Corpus, key: usize, subject: &[u8], issuer: &[u8]) -> Certificate {
    let key = &corpus.nodes[key].root;
    Certificate {
        subject: subject.to_vec(),
        issuer: issuer.to_vec(),
        serial: vec![
            2,
            2,
            0x42,
            u8::try_from(chain.intermediates.len()).unwrap_or(0),
        ],
        ..key.clone()
    }
}
