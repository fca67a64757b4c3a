//! An authority and its keys, and identities that follow each other.

use std::time::Duration;

use comity_certs::{
    AuthorityRootRequest, IssuingRequest, Metadata, mint_authority_root, mint_issuing,
};
use comity_identity::{Algorithm, KeyHash, NodeId, Signer, UnixTime};
use comity_record::{
    Bundle, BundleRequest, Charter, CharterError, CharterKey, CharterRequest, KeyState,
    SigningError, Succession, SuccessionRequest, Withdrawal,
};

use crate::certificates::{DAY, TODAY, TestKey, random_serial};

/// A key of an authority and its certificate.
pub(crate) struct Held {
    pub(crate) key: TestKey,
    pub(crate) der: Vec<u8>,
}

impl Held {
    pub(crate) fn root() -> Self {
        Self::root_with(Algorithm::EcdsaP256)
    }

    pub(crate) fn root_with(algorithm: Algorithm) -> Self {
        let key = TestKey::generate(algorithm);
        let request = AuthorityRootRequest {
            serial: random_serial(),
            not_before: TODAY,
            not_after: TODAY + 20 * 365 * DAY,
        };
        let der = mint_authority_root(&key, &request).expect("a sound request");
        Self { key, der }
    }

    pub(crate) fn issuing_below(root: &Self) -> Self {
        let key = TestKey::generate(Algorithm::EcdsaP256);
        let der = Self::certified(&key, root);
        Self { key, der }
    }

    fn certified(key: &TestKey, root: &Self) -> Vec<u8> {
        let request = IssuingRequest {
            spki: key.spki(),
            serial: random_serial(),
            not_before: TODAY,
            not_after: TODAY + 2 * 365 * DAY,
            path_length: 1,
            scope: &Metadata::default(),
            dns: &[],
        };
        mint_issuing(&root.der, &root.key, &request).expect("a sound request")
    }

    pub(crate) fn hash(&self) -> KeyHash {
        KeyHash::of_spki(self.key.spki())
    }

    pub(crate) fn network(&self) -> NodeId {
        NodeId::of_spki(self.key.spki())
    }
}

pub(crate) const ACTIVE: KeyState = KeyState::Active;
/// The last sequence that what is made today may have.
pub(crate) const FURTHEST: u64 = TODAY.as_secs() + comity_record::limits::MAX_SEQUENCE_LEAD;
pub(crate) const NEXT: KeyState = KeyState::Next;
pub(crate) const REVOKED: KeyState = KeyState::Revoked;
pub(crate) const RETIRING: KeyState = KeyState::Retiring {
    until: UnixTime::from_secs(TODAY.as_secs() + 30 * 24 * 3600),
};

/// A charter of the network that `founder` founded.
pub(crate) fn charter(
    founder: &Held,
    sequence: u64,
    keys: &[(&Held, KeyState)],
    signers: &[&Held],
) -> Charter {
    try_charter(founder, sequence, keys, signers).expect("a sound charter")
}

pub(crate) fn try_charter(
    founder: &Held,
    sequence: u64,
    keys: &[(&Held, KeyState)],
    signers: &[&Held],
) -> Result<Charter, CharterError> {
    let signers: Vec<&dyn Signer> = signers.iter().map(|s| &s.key as &dyn Signer).collect();
    match charter_request(founder, sequence, keys).sign(&signers) {
        Ok(charter) => Ok(charter),
        Err(SigningError::Refused(error)) => Err(error),
        Err(SigningError::Sign(error)) => panic!("{error}"),
    }
}

pub(crate) fn charter_request(
    founder: &Held,
    sequence: u64,
    keys: &[(&Held, KeyState)],
) -> CharterRequest {
    let key = |(held, state): &(&Held, KeyState)| CharterKey {
        state: *state,
        certificate: held.der.clone(),
        proof: CharterKey::proof(&held.key, &founder.network()).expect("a software key"),
    };
    CharterRequest {
        network: founder.network(),
        sequence,
        issued: TODAY,
        keys: keys.iter().map(key).collect(),
    }
}

/// A root, an issuing key and the founding charter.
pub(crate) struct Org {
    pub(crate) root: Held,
    pub(crate) issuing: Held,
    pub(crate) founding: Charter,
}

impl Org {
    pub(crate) fn new() -> Self {
        let root = Held::root();
        let issuing = Held::issuing_below(&root);
        let keys = [(&root, ACTIVE), (&issuing, ACTIVE)];
        let founding = charter(&root, 1, &keys, &[&root]);
        Self {
            root,
            issuing,
            founding,
        }
    }

    /// The bundle with this sequence and the founding charter only.
    pub(crate) fn bundle(&self, sequence: u64) -> Bundle {
        self.bundle_with(sequence, &[&self.founding], &self.issuing, &[])
    }

    pub(crate) fn bundle_with(
        &self,
        sequence: u64,
        charters: &[&Charter],
        signer: &Held,
        withdrawn: &[Withdrawal],
    ) -> Bundle {
        bundle(sequence, charters, signer, withdrawn)
    }

    pub(crate) fn request(&self) -> BundleRequest {
        request(1, &[&self.founding], &[])
    }
}

pub(crate) fn bundle(
    sequence: u64,
    charters: &[&Charter],
    signer: &Held,
    withdrawn: &[Withdrawal],
) -> Bundle {
    request(sequence, charters, withdrawn)
        .sign(&signer.key)
        .expect("a sound bundle")
}

pub(crate) fn request(
    sequence: u64,
    charters: &[&Charter],
    withdrawn: &[Withdrawal],
) -> BundleRequest {
    BundleRequest {
        name: "fleet".to_owned(),
        sequence,
        issued: TODAY,
        expires: TODAY + 30 * DAY,
        refresh: DAY,
        locations: vec!["https://ca.example/bundle".parse().expect("a location")],
        charters: charters.iter().map(|c| (*c).clone()).collect(),
        withdrawn: withdrawn.to_vec(),
    }
}

pub(crate) fn key() -> TestKey {
    TestKey::generate(Algorithm::EcdsaP256)
}

pub(crate) fn first() -> SuccessionRequest {
    SuccessionRequest {
        network: None,
        sequence: 1,
        previous: None,
        issued: TODAY,
        overlap_end: TODAY + 30 * DAY,
        next: None,
        reason: Some("routine".to_owned()),
    }
}

/// What follows `before`.
pub(crate) fn after(before: &Succession) -> SuccessionRequest {
    SuccessionRequest {
        sequence: before.sequence() + 1,
        previous: Some(before.digest()),
        issued: before.issued() + DAY,
        overlap_end: before.issued() + 31 * DAY,
        ..first()
    }
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);
