//! What peers present in a handshake, and what operators list as authorities.

use comity_certs::limits::{MAX_CA_FILE_CERTIFICATES, MAX_SANS, MAX_SHOWN_NAME};
use comity_certs::{
    Anchor, AuthorityCertificate, AuthorityKind, Form, Metadata, PresentedChain, Purpose, SanName,
    describe, read_csr, read_root, verify_ca_path,
};
use comity_identity::{KeyHash, PeerId};
use rustls_pki_types::ServerName;

use super::{assert_printable, split, text};
use crate::certificates::TODAY;

/// A presented chain: certificates as of [`super::join`].
pub fn chain(data: &[u8]) {
    let certificates = split(data);
    let chain = match PresentedChain::parse(&certificates) {
        Ok(chain) => chain,
        Err(error) => return assert_printable(&error),
    };
    assert_eq!(chain.der(), certificates);
    assert_eq!(chain.keys().len(), certificates.len());
    assert_eq!(chain.fingerprints().len(), certificates.len());
    let leaf = chain.leaf();
    assert_eq!(
        (chain.keys()[0], chain.fingerprints()[0]),
        (leaf.key, leaf.fingerprint)
    );
    assert!(leaf.names.len() <= MAX_SANS);
    leaf.names.iter().for_each(assert_canonical);
    leaf.common_name.iter().for_each(|name| assert_shown(name));
    if let Some(metadata) = &leaf.metadata {
        let der = metadata
            .to_der()
            .expect("within the limits it was read with");
        assert_eq!(Metadata::from_der(&der).as_ref(), Ok(metadata));
    }
    match chain.form() {
        Form::Native => assert_native(&chain),
        Form::Foreign => {
            assert_eq!(chain.peer_id(), PeerId::Key(leaf.key));
            assert_eq!(chain.next(), None);
        }
    }
    judge(&chain);
}

/// The identity of a native chain is that of its root, and the root is one by itself.
fn assert_native(chain: &PresentedChain) {
    let root = chain.der().last().expect("never empty");
    let (node, next) = read_root(root).expect("checked when the chain was read");
    assert_eq!(chain.peer_id(), PeerId::Node(node));
    assert_eq!(chain.keys().last(), Some(&node.key_hash()));
    assert_eq!(chain.next(), next);
}

/// What is decided about a chain: names, and paths to an authority that it brought along.
fn judge(chain: &PresentedChain) {
    for name in ["db.example", "192.0.2.1", "2001:db8::1"] {
        let name = ServerName::try_from(name).expect("a server name");
        if chain.matches_name(&name) {
            assert!(!chain.leaf().names.is_empty(), "only SubjectAltNames match");
        }
    }
    let anchors: Vec<Anchor> = chain
        .der()
        .iter()
        .filter_map(|der| Anchor::from_der(der).ok())
        .collect();
    for purpose in [Purpose::Serve, Purpose::Dial] {
        match verify_ca_path(chain, &anchors, purpose, TODAY) {
            Ok(path) => {
                assert_eq!(path.keys.first(), Some(&chain.leaf().key));
                let anchor = anchors.iter().find(|a| a.fingerprint() == path.anchor);
                let anchor = anchor.expect("one of those that were given");
                assert!(path.not_after >= TODAY && path.not_after <= anchor.not_after());
                assert!(path.not_after <= chain.leaf().not_after);
                assert!(chain.leaf().usages.allows(purpose));
            }
            Err(error) => assert_printable(&error),
        }
        assert!(verify_ca_path(chain, [], purpose, TODAY).is_err());
    }
}

/// A certificate that somebody lists as an authority.
pub fn anchor(data: &[u8]) {
    match Anchor::from_der(data) {
        Ok(anchor) => assert_anchor(&anchor, data),
        Err(error) => assert_printable(&error),
    }
}

fn assert_anchor(anchor: &Anchor, der: &[u8]) {
    assert_eq!(anchor.der(), der);
    // Sixteen attributes, each with its kind.
    assert!(anchor.subject().len() <= 16 * (2 * MAX_SHOWN_NAME + 64));
    assert!(!anchor.subject().contains(char::is_control));
    assert_eq!(Anchor::from_der(der).as_ref(), Ok(anchor));
}

/// A file of authorities.
pub fn ca_file(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match Anchor::read_pem(text) {
        Ok(anchors) => {
            assert!((1..=MAX_CA_FILE_CERTIFICATES).contains(&anchors.len()));
            for anchor in &anchors {
                assert_anchor(anchor, anchor.der());
            }
        }
        Err(error) => assert_printable(&error),
    }
}

/// The metadata extension: one set of facts has one encoding.
pub fn metadata(data: &[u8]) {
    let metadata = match Metadata::from_der(data) {
        Ok(metadata) => metadata,
        Err(error) => return assert_printable(&error),
    };
    assert_eq!(metadata.to_der().as_deref(), Ok(data));
    let again = Metadata::new(
        metadata.networks().to_vec(),
        metadata.roles().to_vec(),
        metadata.pairs().to_vec(),
    );
    assert_eq!(again, Ok(metadata));
}

/// A node's root by itself, as the home keeps it.
pub fn root(data: &[u8]) {
    match read_root(data) {
        Ok((node, next)) => {
            // Whatever is read as a root is never read as a foreign authority's leaf.
            if let Ok(chain) = PresentedChain::parse(&[data]) {
                panic!("a root alone is no chain: {:?}", chain.peer_id());
            }
            assert_ne!(next, Some(node.key_hash()), "a key cannot succeed itself");
            assert_ne!(node.key_hash(), KeyHash::from_bytes([0; 32]));
        }
        Err(error) => assert_printable(&error),
    }
}

/// The certificate of one of an authority's keys.
pub fn authority(data: &[u8]) {
    let authority = match AuthorityCertificate::from_der(data) {
        Ok(authority) => authority,
        Err(error) => return assert_printable(&error),
    };
    assert_eq!(authority.der(), data);
    assert!(authority.not_before() <= authority.not_after());
    // It can be listed as an authority, and is never taken for a node.
    let anchor = Anchor::from_der(data).expect("a CA certificate");
    assert_eq!(anchor.key(), authority.key());
    assert!(read_root(data).is_err());
    let is_root = *authority.kind() == AuthorityKind::Root;
    assert_eq!(authority.check_issued_by(&authority).is_ok(), is_root);
    assert_eq!(authority.issuer_key() == authority.key(), is_root);
}

/// A certificate signing request, as text or DER.
pub fn csr(data: &[u8]) {
    let csr = match read_csr(data) {
        Ok(csr) => csr,
        Err(error) => return assert_printable(&error),
    };
    assert!(csr.dns.len() + csr.ips.len() + csr.uris.len() <= MAX_SANS);
    for name in &csr.dns {
        assert_eq!(SanName::dns(name), Some(SanName::Dns(name.clone())));
    }
    for uri in &csr.uris {
        assert_eq!(SanName::uri(uri), Some(SanName::Uri(uri.clone())));
    }
    assert_printable(&csr.subject);
}

/// Any certificate in words.
pub fn description(data: &[u8]) {
    let description = match describe(data) {
        Ok(description) => description,
        Err(error) => return assert_printable(&error),
    };
    for (name, value) in description.lines() {
        assert!(!name.is_empty());
        let control = value.chars().find(|c| c.is_control());
        assert_eq!(control, None, "{name}: {value:?}");
        // As many names as a certificate may have, each as long as it is shown.
        assert!(
            value.len() <= 2 * MAX_SANS * 4096,
            "{name}: {} bytes",
            value.len()
        );
    }
    if let Ok(authority) = AuthorityCertificate::from_der(data) {
        let kind = comity_certs::CertificateKind::Authority(authority.kind().clone());
        assert_eq!(description.kind, kind);
    }
}

/// Names are compared as they stand, so each has one spelling, and all can be printed.
fn assert_canonical(name: &SanName) {
    let again = match name {
        SanName::Dns(text) => SanName::dns(text),
        SanName::Uri(text) => SanName::uri(text),
        SanName::Ip(_) => return,
    };
    assert_eq!(again.as_ref(), Some(name));
    assert_printable(name);
}

fn assert_shown(name: &str) {
    assert!(name.len() <= MAX_SHOWN_NAME + '…'.len_utf8());
    assert!(name.chars().all(|c| matches!(c, ' '..='~' | '…')));
}
