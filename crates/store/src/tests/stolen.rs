//! An issuing key is stolen, and heals as soon as a charter revokes it: sequences, forks, withdrawals.

use std::time::Duration;

use comity_certs::{
    AuthorityRootRequest, IssuingRequest, Metadata, mint_authority_root, mint_issuing,
};
use comity_identity::{Algorithm, KeyHash, NodeId, Signer, UnixTime};
use comity_keys::SoftwareKey;
use comity_record::limits::{MAX_REMEMBERED_WITHDRAWALS, MAX_SEQUENCE_LEAD, MAX_WITHDRAWALS};
use comity_record::{
    BundleRequest, Charter, CharterKey, CharterRequest, FollowError, KeyState, Withdrawal,
    Withdrawn, WithdrawnWhat,
};
use comity_trust::Standing;

use super::support::{DAY, TestHome};
use crate::home::Home;
use crate::networks::{NetworkError, NetworkRecord, NetworkStore, Updated};

const HOUR: Duration = Duration::from_secs(3600);

/// The last sequence that a bundle of the day may have.
const FURTHEST: u64 = DAY.as_secs() + MAX_SEQUENCE_LEAD;

#[test]
fn a_thief_who_used_the_sequences_up_is_forgotten_when_his_key_is_revoked() {
    let org = Robbed::new();
    let (test, store) = org.reader();
    assert_eq!(
        org.offer(&store, &org.by_thief(FURTHEST, &[])),
        Ok(Updated::Newer)
    );
    assert_eq!(org.offer(&store, &org.honest(2, &[])), Ok(Updated::Newer));
    assert_eq!(org.offer(&store, &org.honest(3, &[])), Ok(Updated::Newer));
    assert!(org.offer(&store, &org.by_thief(FURTHEST, &[])).is_err());
    drop(test);
}

#[test]
fn a_fork_by_a_stolen_key_ends_when_a_charter_revokes_it() {
    let org = Robbed::new();
    let mine = [key_withdrawn(1)];
    // The other key goes on. Whichever of the two bundles of one sequence came first is held.
    let (by_thief, by_other) = (org.by_thief(5, &mine), org.by_other(5));
    for (first, second) in [(&by_thief, &by_other), (&by_other, &by_thief)] {
        let (test, store) = org.reader();
        assert_eq!(org.offer(&store, first), Ok(Updated::Newer));
        let frozen = "frozen".to_owned();
        assert_eq!(org.offer(&store, second), Err(frozen.clone()));
        // Nothing else ends it: not a newer bundle by either of them.
        assert_eq!(org.offer(&store, &org.by_other(6)), Err(frozen.clone()));
        assert_eq!(org.offer(&store, &org.by_thief(7, &mine)), Err(frozen));
        assert_eq!(org.offer(&store, &org.honest(8, &[])), Ok(Updated::Newer));
        let record = org.record(&test.home);
        assert_eq!((record.forked, record.rival), (None, None));
        assert!(record.withdrawn.by(&org.stolen_hash()).next().is_none());
        assert_eq!(org.offer(&store, &org.honest(9, &[])), Ok(Updated::Newer));
    }
}

#[test]
fn a_fork_of_charters_is_for_a_person_only() {
    let org = Robbed::new();
    let (test, store) = org.reader();
    assert_eq!(org.offer(&store, &org.honest(5, &[])), Ok(Updated::Newer));
    // The root signed two charters of one sequence.
    let other = org.charter(2, KeyState::Active, KeyState::Revoked);
    let other = org.bundle(6, &[&org.founding, &other], &org.stolen, &[]);
    assert_eq!(org.offer(&store, &other), Err("frozen".to_owned()));
    let third = org.charter(3, KeyState::Revoked, KeyState::Revoked);
    let third = org.bundle(7, &[&org.founding, &org.revoking, &third], &org.root, &[]);
    assert_eq!(org.offer(&store, &third), Err("frozen".to_owned()));
    let record = org.record(&test.home);
    assert_eq!((record.forked, record.rival), (Some(DAY), None));
}

#[test]
fn what_a_thief_withdrew_is_forgotten_with_his_key_and_nothing_else_is() {
    let org = Robbed::new();
    let (test, store) = org.reader();
    let (honest, mine) = (key_withdrawn(1), key_withdrawn(2));
    let both = [honest.clone(), mine.clone()];
    let offers = [
        org.bundle(
            3,
            &[&org.founding],
            &org.fresh,
            std::slice::from_ref(&honest),
        ),
        org.by_thief(4, &both),
        org.by_thief(5, &[]),
    ];
    for offered in offers {
        assert_eq!(org.offer(&store, &offered), Ok(Updated::Newer));
    }
    assert_eq!(org.withdrawn(&test.home), [true, true]);
    assert_eq!(
        org.offer(&store, &org.honest(6, &[honest])),
        Ok(Updated::Newer)
    );
    assert_eq!(org.withdrawn(&test.home), [true, false]);
}

#[test]
fn what_an_older_bundle_withdraws_counts_and_what_a_revoked_key_signed_does_not() {
    let org = Robbed::new();
    let (test, store) = org.reader();
    // A thief publishes the next sequence first: the honest bundle is an older one.
    assert_eq!(org.offer(&store, &org.by_thief(9, &[])), Ok(Updated::Newer));
    let honest = org.bundle(8, &[&org.founding], &org.fresh, &[key_withdrawn(1)]);
    let refused = org.offer(&store, &honest);
    assert_eq!(refused, Err("older".to_owned()));
    assert_eq!(org.withdrawn(&test.home), [true, false]);
    // After the revocation the thief's old bundles teach nobody anything, frozen or not.
    assert_eq!(org.offer(&store, &org.honest(10, &[])), Ok(Updated::Newer));
    assert_eq!(org.withdrawn(&test.home), [true, false]);
    let thief = org.by_thief(11, &[key_withdrawn(2)]);
    assert!(org.offer(&store, &thief).is_err());
    let other = org.honest(10, &[key_withdrawn(3)]);
    assert_eq!(org.offer(&store, &other), Err("frozen".to_owned()));
    assert_eq!(org.offer(&store, &thief), Err("frozen".to_owned()));
    assert_eq!(org.withdrawn(&test.home), [true, false]);
}

#[test]
fn junk_by_a_stolen_key_does_not_take_the_newest_withdrawal_back() {
    let org = Robbed::new();
    let (test, store) = org.reader();
    // What ten bundles of ten thousand entries come to.
    let many: Vec<Withdrawal> = (0..MAX_REMEMBERED_WITHDRAWALS)
        .map(|number| certificate_withdrawn(number as u64))
        .collect();
    let mut full = Withdrawn::new();
    full.extend(org.stolen_hash(), &many).expect("at the limit");
    let mut record = store.remove(&org.id).expect("there");
    record.withdrawn = full;
    store.add(record).expect("entered");
    let honest = [key_withdrawn(1)];
    assert_eq!(
        org.offer(&store, &org.by_thief(2, &honest)),
        Ok(Updated::Newer)
    );
    let refused = org.offer(&store, &org.by_thief(3, &[]));
    assert_eq!(refused, Err("limit".to_owned()));
    assert_eq!(org.withdrawn(&test.home), [true, false]);
    // The charter that revokes the key makes room.
    assert_eq!(
        org.offer(&store, &org.honest(4, &honest)),
        Ok(Updated::Newer)
    );
    assert_eq!(org.withdrawn(&test.home), [true, false]);
    assert!(org.record(&test.home).withdrawn.is_empty());
    assert!(many.len() > MAX_WITHDRAWALS);
}

/// An authority with two issuing keys, one of which is stolen.
struct Robbed {
    id: NodeId,
    root: SoftwareKey,
    stolen: SoftwareKey,
    fresh: SoftwareKey,
    certificates: [Vec<u8>; 3],
    founding: Charter,
    revoking: Charter,
}

impl Robbed {
    fn new() -> Self {
        let [root, stolen, fresh] =
            [(); 3].map(|()| SoftwareKey::generate(Algorithm::EcdsaP256).expect("a key"));
        let year = Duration::from_secs(365 * 86_400);
        let request = AuthorityRootRequest {
            serial: [0x41; 16],
            not_before: DAY,
            not_after: DAY + year * 20,
        };
        let root_der = mint_authority_root(&root, &request).expect("a root");
        let issuing = |key: &SoftwareKey, number| {
            let request = IssuingRequest {
                spki: key.spki(),
                serial: [number; 16],
                not_before: DAY,
                not_after: DAY + year,
                path_length: 1,
                scope: &Metadata::default(),
                dns: &[],
            };
            mint_issuing(&root_der, &root, &request).expect("an issuing key")
        };
        let certificates = [
            root_der.clone(),
            issuing(&stolen, 0x42),
            issuing(&fresh, 0x43),
        ];
        let id = NodeId::of_spki(root.spki());
        let charter = |sequence, first, second| {
            charter(
                &root,
                &certificates,
                [&stolen, &fresh],
                sequence,
                [first, second],
            )
        };
        let founding = charter(1, KeyState::Active, KeyState::Active);
        let revoking = charter(2, KeyState::Revoked, KeyState::Active);
        Self {
            id,
            root,
            stolen,
            fresh,
            certificates,
            founding,
            revoking,
        }
    }

    fn charter(&self, sequence: u64, stolen: KeyState, fresh: KeyState) -> Charter {
        let keys = [&self.stolen, &self.fresh];
        charter(
            &self.root,
            &self.certificates,
            keys,
            sequence,
            [stolen, fresh],
        )
    }

    fn bundle(
        &self,
        sequence: u64,
        charters: &[&Charter],
        signer: &SoftwareKey,
        withdrawn: &[Withdrawal],
    ) -> Vec<u8> {
        let request = BundleRequest {
            name: "ops".into(),
            sequence,
            issued: DAY,
            expires: DAY + Duration::from_secs(30 * 86_400),
            refresh: Duration::from_secs(86_400),
            locations: Vec::new(),
            charters: charters.iter().map(|c| (*c).clone()).collect(),
            withdrawn: withdrawn.to_vec(),
        };
        request.sign(signer).expect("a bundle").bytes().to_vec()
    }

    fn by_thief(&self, sequence: u64, withdrawn: &[Withdrawal]) -> Vec<u8> {
        self.bundle(sequence, &[&self.founding], &self.stolen, withdrawn)
    }

    /// By the other key, before the authority knows of the theft.
    fn by_other(&self, sequence: u64) -> Vec<u8> {
        self.bundle(sequence, &[&self.founding], &self.fresh, &[])
    }

    /// After the authority revoked the stolen key.
    fn honest(&self, sequence: u64, withdrawn: &[Withdrawal]) -> Vec<u8> {
        let charters = [&self.founding, &self.revoking];
        self.bundle(sequence, &charters, &self.fresh, withdrawn)
    }

    fn stolen_hash(&self) -> KeyHash {
        KeyHash::of_spki(self.stolen.spki())
    }

    /// A home that holds the first bundle.
    fn reader(&self) -> (TestHome, NetworkStore) {
        let test = TestHome::in_memory();
        let store = NetworkStore::new(&test.home, "test");
        let record = NetworkRecord {
            network: self.id,
            label: "ops".into(),
            standing: Standing::Recognised,
            bundle: self.by_other(1),
            membership: Vec::new(),
            withdrawn: Withdrawn::new(),
            forked: None,
            rival: None,
            added: DAY,
            refreshed: DAY,
            source: None,
        };
        store.add(record).expect("entered");
        (test, store)
    }

    fn offer(&self, store: &NetworkStore, bytes: &[u8]) -> Result<Updated, String> {
        store.update_bundle(&self.id, bytes, DAY).map_err(|error| {
            let word = match &error {
                NetworkError::Frozen { .. } => "frozen",
                NetworkError::Follow { error, .. } => match **error {
                    FollowError::Rollback { .. } => "older",
                    FollowError::CharterRollback { .. } => "older charter",
                    FollowError::Limit(_) => "limit",
                    _ => panic!("{error}"),
                },
                error => panic!("{error}"),
            };
            word.to_owned()
        })
    }

    /// As another process reads it.
    fn record(&self, home: &Home) -> NetworkRecord {
        let store = NetworkStore::new(home, "another test");
        store.find(&self.id).expect("read").expect("there")
    }

    /// Whether decisions know that the keys 1 and 2 are withdrawn.
    fn withdrawn(&self, home: &Home) -> [bool; 2] {
        let networks = NetworkStore::new(home, "another test").networks();
        let networks = networks.expect("read");
        let authority = networks.get(&self.id).expect("there");
        [1, 2].map(|byte| {
            authority.withdrew(&comity_certs::Issued {
                issuer_key: self.stolen_hash(),
                serial: vec![1],
                key: KeyHash::from_bytes([byte; 32]),
            })
        })
    }
}

fn charter(
    root: &SoftwareKey,
    certificates: &[Vec<u8>; 3],
    issuing: [&SoftwareKey; 2],
    sequence: u64,
    states: [KeyState; 2],
) -> Charter {
    let states = [KeyState::Active, states[0], states[1]];
    let signers = [root, issuing[0], issuing[1]];
    let keys = certificates.iter().zip(signers).zip(states);
    let request = CharterRequest {
        network: NodeId::of_spki(root.spki()),
        sequence,
        issued: DAY,
        keys: keys
            .map(|((certificate, key), state)| CharterKey {
                state,
                certificate: certificate.clone(),
                proof: CharterKey::proof(key, &NodeId::of_spki(root.spki())).expect("a proof"),
            })
            .collect(),
    };
    request.sign(&[root as &dyn Signer]).expect("a charter")
}

fn key_withdrawn(byte: u8) -> Withdrawal {
    Withdrawal {
        what: WithdrawnWhat::Key(KeyHash::from_bytes([byte; 32])),
        at: DAY,
    }
}

fn certificate_withdrawn(number: u64) -> Withdrawal {
    let what = WithdrawnWhat::Certificate {
        issuer: KeyHash::from_bytes([9; 32]),
        serial: number.to_be_bytes().to_vec(),
    };
    let at: UnixTime = DAY + HOUR;
    Withdrawal { what, at }
}
