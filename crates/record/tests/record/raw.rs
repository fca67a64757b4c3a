//! Signed objects taken apart and put together again, so that each field can be wrong while the
//! signatures are right.

use std::collections::BTreeMap;

use comity_identity::{KeyHash, Signer};
use minicbor::{Decoder, Encoder};

use crate::certificates::TestKey;

pub(crate) const SUCCESSION: &str = "comity succession v1";
pub(crate) const REVOCATION: &str = "comity key revocation v1";
pub(crate) const CHARTER: &str = "comity charter v1";
pub(crate) const BUNDLE: &str = "comity bundle v1";

/// The fields of a payload: key and encoded value.
#[derive(Clone)]
pub(crate) struct Raw(pub(crate) BTreeMap<u64, Vec<u8>>);

impl Raw {
    /// The fields of a sound object.
    pub(crate) fn of(object: &[u8]) -> Self {
        let payload = payload(object);
        let mut decoder = Decoder::new(payload);
        let mut fields = BTreeMap::new();
        for _ in 0..decoder.map().expect("a map").expect("a length") {
            let key = decoder.u64().expect("a key");
            let start = decoder.position();
            decoder.skip().expect("a value");
            fields.insert(key, payload[start..decoder.position()].to_vec());
        }
        Self(fields)
    }

    pub(crate) fn with(mut self, key: u64, value: Vec<u8>) -> Self {
        self.0.insert(key, value);
        self
    }

    pub(crate) fn without(mut self, key: u64) -> Self {
        self.0.remove(&key);
        self
    }

    pub(crate) fn payload(&self) -> Vec<u8> {
        let mut payload = encoded(|e| drop(e.map(self.0.len() as u64)));
        for (key, value) in &self.0 {
            payload.extend(encoded(|e| drop(e.u64(*key))));
            payload.extend_from_slice(value);
        }
        payload
    }

    /// With signatures one after the other, as successions, revocations and bundles have them.
    pub(crate) fn signed(&self, domain: &str, signers: &[&TestKey]) -> Vec<u8> {
        signed(domain, &self.payload(), signers)
    }

    /// With a list of keys and signatures, as charters have it.
    pub(crate) fn signed_charter(&self, signers: &[&TestKey]) -> Vec<u8> {
        let payload = self.payload();
        let mut signers = signers.to_vec();
        signers.sort_unstable_by_key(|signer| KeyHash::of_spki(signer.spki()));
        charter_envelope(&payload, &signers)
    }
}

/// The signers in the order in which they are given.
pub(crate) fn charter_envelope(payload: &[u8], signers: &[&TestKey]) -> Vec<u8> {
    let mut bytes = encoded(|e| {
        drop(e.array(2).and_then(|e| e.bytes(payload)));
        drop(e.array(signers.len() as u64));
    });
    for signer in signers {
        let signature = signer
            .sign(&message(CHARTER, payload))
            .expect("a software key");
        bytes.extend(encoded(|e| {
            let e = e.array(2).and_then(|e| e.bytes(signer.spki()));
            drop(e.and_then(|e| e.bytes(&signature)));
        }));
    }
    bytes
}

pub(crate) fn signed(domain: &str, payload: &[u8], signers: &[&TestKey]) -> Vec<u8> {
    let message = message(domain, payload);
    let signatures: Vec<Vec<u8>> = signers
        .iter()
        .map(|signer| signer.sign(&message).expect("a software key"))
        .collect();
    envelope(payload, &signatures)
}

pub(crate) fn envelope(payload: &[u8], signatures: &[Vec<u8>]) -> Vec<u8> {
    encoded(|e| {
        drop(
            e.array(1 + signatures.len() as u64)
                .and_then(|e| e.bytes(payload)),
        );
        for signature in signatures {
            drop(e.bytes(signature));
        }
    })
}

pub(crate) fn message(domain: &str, payload: &[u8]) -> Vec<u8> {
    [domain.as_bytes(), &[0], payload].concat()
}

pub(crate) fn payload(object: &[u8]) -> &[u8] {
    let mut decoder = Decoder::new(object);
    decoder.array().expect("an array");
    decoder.bytes().expect("a payload")
}

pub(crate) fn encoded(write: impl FnOnce(&mut Encoder<Vec<u8>>)) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder);
    encoder.into_writer()
}

pub(crate) fn number(value: u64) -> Vec<u8> {
    encoded(|e| drop(e.u64(value)))
}

pub(crate) fn bytes(value: &[u8]) -> Vec<u8> {
    encoded(|e| drop(e.bytes(value)))
}

pub(crate) fn text(value: &str) -> Vec<u8> {
    encoded(|e| drop(e.str(value)))
}
