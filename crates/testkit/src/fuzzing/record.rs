//! Signed statements about keys.
//!
//! Signatures keep inventions out, so each body reads its input twice: as it is, and as a payload
//! that the keys of [`signer`] sign.

use comity_identity::{Algorithm, NodeId, SignError, Signer};
use comity_record::limits::{MAX_CHARTERS, MAX_STATEMENTS, MAX_SUCCESSION_BYTES};
use comity_record::{
    Bundle, Charter, Follow, KeyRevocation, KeyState, Location, Succession, SuccessionChain,
    Withdrawn,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

use super::{assert_printable, text};
use crate::certificates::TODAY;

/// The keys with which payloads are signed: Ed25519, of a fixed seed each. Number 1 is the founding
/// root of the network in the seeds.
pub fn signer(number: u8) -> impl Signer {
    Fixed::of(number)
}

struct Fixed {
    pair: Ed25519KeyPair,
    spki: Vec<u8>,
}

impl Fixed {
    fn of(number: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[number; 32]).expect("32 bytes");
        let spki = Algorithm::Ed25519.spki(pair.public_key().as_ref());
        Self { pair, spki }
    }
}

impl Signer for Fixed {
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

/// A history of successions.
pub fn succession_chain(data: &[u8]) {
    let chain = match SuccessionChain::parse(data) {
        Ok(chain) => chain,
        Err(error) => return assert_printable(&error),
    };
    assert_eq!(chain.encode(), data);
    assert!(data.len() <= MAX_SUCCESSION_BYTES);
    let statements = chain.statements();
    assert!((1..=MAX_STATEMENTS).contains(&statements.len()));
    for pair in statements.windows(2) {
        assert_eq!(pair[0].new(), pair[1].old());
        assert_eq!(Some(pair[0].digest()), pair[1].previous());
    }
    assert_eq!(chain.since(&statements[0].old()), Some(statements));
    assert_eq!(chain.since(&chain.current()), None);
}

/// A statement that one key follows another.
pub fn succession(data: &[u8]) {
    let signed = envelope("comity succession v1", data, &[1, 2]);
    for bytes in [data, &signed] {
        let statement = match Succession::parse(bytes) {
            Ok(statement) => statement,
            Err(error) => {
                assert_printable(&error);
                continue;
            }
        };
        assert_eq!(statement.bytes(), bytes);
        assert_ne!(statement.old(), statement.new());
        assert!(statement.issued() <= statement.overlap_end());
        assert_eq!(statement.sequence() == 1, statement.previous().is_none());
        let chain = SuccessionChain::new(statement);
        assert_eq!(SuccessionChain::parse(&chain.encode()), Ok(chain));
    }
}

/// A statement that a key ends.
pub fn key_revocation(data: &[u8]) {
    let signed = envelope("comity key revocation v1", data, &[1]);
    for bytes in [data, &signed] {
        match KeyRevocation::parse(bytes) {
            Ok(revocation) => {
                assert_eq!(revocation.bytes(), bytes);
                assert!(revocation.counts(Some(revocation.signer())));
            }
            Err(error) => assert_printable(&error),
        }
    }
}

/// An authority's keys.
pub fn charter(data: &[u8]) {
    let root = Fixed::of(1);
    let signature = sign(&root, "comity charter v1", data);
    let mut encoder = minicbor::Encoder::new(Vec::new());
    encoder
        .array(2)
        .and_then(|e| {
            e.bytes(data)?
                .array(1)?
                .array(2)?
                .bytes(root.spki())?
                .bytes(&signature)
        })
        .expect("a Vec");
    for bytes in [data, &encoder.into_writer()] {
        match Charter::parse(bytes) {
            Ok(charter) => assert_charter(&charter, bytes),
            Err(error) => assert_printable(&error),
        }
    }
}

fn assert_charter(charter: &Charter, bytes: &[u8]) {
    assert_eq!(charter.bytes(), bytes);
    assert!(charter.check_follows(charter).is_err(), "it follows itself");
    for key in charter.keys() {
        assert_eq!(charter.key(&key.key()), Some(key));
        assert_eq!(key.certificate.key(), key.key());
    }
    let history = Charter::append(&[], charter.clone());
    assert_eq!(history.is_ok(), charter.check_founding().is_ok());
}

/// What an authority publishes.
pub fn bundle(data: &[u8]) {
    let signed = envelope("comity bundle v1", data, &[2]);
    for bytes in [data, &signed] {
        match Bundle::parse(bytes) {
            Ok(bundle) => assert_bundle(&bundle, bytes),
            Err(error) => assert_printable(&error),
        }
    }
}

fn assert_bundle(bundle: &Bundle, bytes: &[u8]) {
    assert_eq!(bundle.bytes(), bytes);
    assert!((1..=MAX_CHARTERS).contains(&bundle.charters().len()));
    assert_eq!(bundle.charters()[0].check_founding(), Ok(()));
    assert_eq!(bundle.key_state(&bundle.signer()), Some(KeyState::Active));
    assert_eq!(Bundle::follow(bundle, bundle), Ok(Follow::Same));
    let other = NodeId::from_bytes([0; 32]);
    assert!(Bundle::parse_of(&other, bytes).is_err());
    assert!(Bundle::parse_of(&bundle.network(), bytes).is_ok());
    let mut all = Withdrawn::new();
    all.extend(bundle.signer(), bundle.withdrawn())
        .expect("fewer than are remembered");
    assert!(
        all.by(&bundle.signer())
            .eq(bundle.withdrawn().iter().cloned())
    );
    for anchor in bundle.anchors(TODAY) {
        assert!(bundle.key(&anchor.key()).is_some());
    }
    bundle.locations().iter().for_each(assert_location);
}

/// Where a bundle can be fetched.
pub fn location(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match text.parse::<Location>() {
        Ok(location) => assert_location(&location),
        Err(error) => assert_printable(&error),
    }
}

fn assert_location(location: &Location) {
    assert_printable(location);
    assert_eq!(location.to_string().parse().as_ref(), Ok(location));
    assert!(location.path().starts_with('/'));
    assert_ne!(location.port(), 0);
}

/// `[payload, signature, …]`, signed by these keys.
fn envelope(domain: &str, payload: &[u8], signers: &[u8]) -> Vec<u8> {
    let mut encoder = minicbor::Encoder::new(Vec::new());
    encoder
        .array(1 + signers.len() as u64)
        .and_then(|e| e.bytes(payload))
        .expect("a Vec");
    for signer in signers {
        let signature = sign(&Fixed::of(*signer), domain, payload);
        encoder.bytes(&signature).expect("a Vec");
    }
    encoder.into_writer()
}

fn sign(signer: &Fixed, domain: &str, payload: &[u8]) -> Vec<u8> {
    let message = [domain.as_bytes(), &[0], payload].concat();
    signer.sign(&message).expect("a software key")
}
