//! The vectors for other implementations hold for this one. `docs/formats.md` explains them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use comity_certs::{AuthorityCertificate, AuthorityKind, Form, Metadata, PresentedChain, read_csr};
use comity_identity::KeyHash;
use data_encoding::HEXLOWER;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

pub(crate) type Header = BTreeMap<String, String>;

#[test]
fn certificate_vectors_have_their_stated_outcome() {
    let vectors = read("certificate");
    assert_eq!(vectors.len(), 31);
    for (file, header, body) in vectors {
        let chain: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(body.as_bytes())
            .collect::<Result<_, _>>()
            .expect("PEM");
        let found = match PresentedChain::parse(&chain) {
            Ok(chain) => describe_chain(&chain),
            Err(error) => refused(&error),
        };
        compare(&file, header, &found);
    }
}

#[test]
fn metadata_vectors_have_their_stated_outcome() {
    let vectors = read("metadata");
    assert_eq!(vectors.len(), 15);
    for (file, header, body) in vectors {
        let digits: String = body.split_whitespace().collect();
        let der = HEXLOWER.decode(digits.as_bytes()).expect("hexadecimal");
        let found = match Metadata::from_der(&der) {
            Ok(metadata) => {
                assert_eq!(metadata.to_der().as_ref(), Ok(&der), "{}", file.display());
                describe_metadata(&metadata)
            }
            Err(error) => refused(&error),
        };
        compare(&file, header, &found);
    }
}

#[test]
fn authority_certificate_vectors_have_their_stated_outcome() {
    let vectors = read("authority-certificate");
    assert_eq!(vectors.len(), 22);
    for (file, header, body) in vectors {
        let found = describe_authority(&certificates(&body));
        compare(&file, header, &found);
    }
}

#[test]
fn csr_vectors_have_their_stated_outcome() {
    let vectors = read("csr");
    assert_eq!(vectors.len(), 13);
    for (file, header, body) in vectors {
        compare(&file, header, &describe_csr(body.as_bytes()));
    }
}

fn certificates(body: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(body.as_bytes())
        .collect::<Result<_, _>>()
        .expect("PEM")
}

/// The first certificate, and that it was issued by the second, if there is one.
pub(crate) fn describe_authority<C: AsRef<[u8]>>(chain: &[C]) -> Header {
    let certificate = match AuthorityCertificate::from_der(chain[0].as_ref()) {
        Ok(certificate) => certificate,
        Err(error) => return refused(&error),
    };
    if let Some(issuer) = chain.get(1) {
        let issuer = AuthorityCertificate::from_der(issuer.as_ref()).expect("a sound issuer");
        if let Err(error) = certificate.check_issued_by(&issuer) {
            return refused(&error);
        }
    }
    let mut header = match certificate.kind() {
        AuthorityKind::Issuing {
            path_length,
            scope,
            dns,
        } => {
            let mut header = describe_metadata(scope);
            put(&mut header, "path-length", &path_length.to_string());
            put(&mut header, "dns", &dns.join(" "));
            header
        }
        AuthorityKind::Root | AuthorityKind::Rollover => accepted(),
    };
    let kind = match certificate.kind() {
        AuthorityKind::Root => "root",
        AuthorityKind::Rollover => "rollover",
        AuthorityKind::Issuing { .. } => "issuing",
    };
    put(&mut header, "kind", kind);
    put(&mut header, "key", &certificate.key().to_hex());
    put(
        &mut header,
        "issuer-key",
        &certificate.issuer_key().to_hex(),
    );
    put(
        &mut header,
        "serial",
        &HEXLOWER.encode(certificate.serial()),
    );
    put(
        &mut header,
        "not-before",
        &certificate.not_before().to_string(),
    );
    put(
        &mut header,
        "not-after",
        &certificate.not_after().to_string(),
    );
    header
}

pub(crate) fn describe_csr(request: &[u8]) -> Header {
    let csr = match read_csr(request) {
        Ok(csr) => csr,
        Err(error) => return refused(&error),
    };
    let mut header = accepted();
    let ips: Vec<String> = csr.ips.iter().map(ToString::to_string).collect();
    put(&mut header, "subject", &csr.subject);
    put(&mut header, "key", &KeyHash::of_spki(&csr.spki).to_hex());
    put(&mut header, "dns", &csr.dns.join(" "));
    put(&mut header, "ips", &ips.join(" "));
    put(&mut header, "uris", &csr.uris.join(" "));
    header
}

fn describe_chain(chain: &PresentedChain) -> Header {
    let leaf = chain.leaf();
    let form = match chain.form() {
        Form::Native => "native",
        Form::Foreign => "foreign",
    };
    let names: Vec<String> = leaf.names.iter().map(ToString::to_string).collect();
    let mut header = match &leaf.metadata {
        Some(metadata) => describe_metadata(metadata),
        None => accepted(),
    };
    put(&mut header, "form", form);
    put(&mut header, "peer", &chain.peer_id().to_string());
    put(
        &mut header,
        "next",
        &chain.next().map(|n| n.to_hex()).unwrap_or_default(),
    );
    put(&mut header, "not-before", &leaf.not_before.to_string());
    put(&mut header, "not-after", &leaf.not_after.to_string());
    put(&mut header, "names", &names.join(" "));
    header
}

fn describe_metadata(metadata: &Metadata) -> Header {
    let pairs: Vec<String> = metadata
        .pairs()
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    let mut header = accepted();
    put(&mut header, "networks", &metadata.networks().join(" "));
    put(&mut header, "roles", &metadata.roles().join(" "));
    put(&mut header, "pairs", &pairs.join(" "));
    header
}

fn accepted() -> Header {
    Header::from([("outcome".to_owned(), "accept".to_owned())])
}

fn refused(error: &impl std::error::Error) -> Header {
    let mut header = Header::new();
    put(&mut header, "outcome", "refuse");
    put(&mut header, "why", &error.to_string());
    header
}

/// Empty values are left out of the vectors.
fn put(header: &mut Header, name: &str, value: &str) {
    if !value.is_empty() {
        header.insert(name.to_owned(), value.to_owned());
    }
}

fn compare(file: &Path, mut stated: Header, found: &Header) {
    assert!(
        stated.remove("comment").is_some(),
        "{}: no comment",
        file.display()
    );
    assert_eq!(&stated, found, "{}", file.display());
}

fn read(folder: &str) -> Vec<(PathBuf, Header, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors")
        .join(folder);
    let entries = fs::read_dir(folder).expect("the vectors");
    let files = entries.map(|entry| entry.expect("a readable folder").path());
    files.map(read_vector).collect()
}

/// Header lines `name: value`, an empty line, the body.
fn read_vector(file: PathBuf) -> (PathBuf, Header, String) {
    let text = fs::read_to_string(&file).expect("a readable vector");
    let (header, body) = text.split_once("\n\n").expect("a header and a body");
    let header = header
        .lines()
        .map(|line| line.split_once(": ").expect("a header line"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    (file, header, body.to_owned())
}
