//! An issuing key is stolen: what the thief publishes hinders nobody once the key is revoked.

use std::sync::Arc;

use comity_identity::{KeyHash, Signer};
use comity_record::limits::{MAX_SEQUENCE_LEAD, MAX_WITHDRAWALS};
use comity_record::{Bundle, BundleRequest, Withdrawal, WithdrawnWhat};
use comity_store::{Home, NetworkError, NetworkRecord, NetworkStore, Updated};
use comity_trust::Standing;
use tempfile::TempDir;

use super::world::{DAY, HOUR, NOW, Node, World, admission, network, signer};
use crate::{Authority, AuthorityError, KeyOrder, Selector};

#[test]
fn after_a_thief_used_the_sequences_up_the_authority_goes_on_for_days() {
    let mut robbed = Robbed::new();
    let furthest = NOW.as_secs() + MAX_SEQUENCE_LEAD;
    let taken = robbed.publish(furthest, &[]);
    robbed.everybody_takes(&taken);
    // The authority sees that it cannot go on with this key.
    let failed = robbed.world.authority.refresh(NOW);
    assert!(
        matches!(failed, Err(AuthorityError::Bundle(_))),
        "{failed:?}"
    );
    robbed.revoke();
    robbed.everybody_follows(NOW);
    for day in 2..5 {
        let now = NOW + DAY * day;
        let made = robbed.world.authority.refresh(now).expect("published");
        assert_eq!(made.expect("time").sequence(), now.as_secs());
        robbed.everybody_follows(now);
    }
}

#[test]
fn a_fork_by_a_thief_is_over_for_everybody_when_his_key_is_revoked() {
    let mut robbed = Robbed::new();
    let honest = robbed.world.authority.bundle().expect("a bundle").clone();
    let other = robbed.publish(honest.sequence(), &[key_withdrawn(1)]);
    for store in [&robbed.home(), &robbed.reader] {
        let refused = store.update_bundle(&network(), other.bytes(), NOW);
        assert!(matches!(refused, Err(NetworkError::Frozen { .. })));
    }
    robbed.revoke();
    robbed.everybody_follows(NOW);
    let now = NOW + DAY;
    robbed.world.authority.refresh(now).expect("published");
    robbed.everybody_follows(now);
}

#[test]
fn junk_by_a_thief_stops_no_change_and_is_repeated_by_nobody() {
    let mut robbed = Robbed::new();
    let node = Node::new();
    let grant = robbed
        .world
        .authority
        .certify(&node.root, &admission("one"), NOW);
    grant.expect("a grant");
    let (mut sequence, mut number) = (NOW.as_secs() + 10, 0_u64);
    for _ in 0..2 {
        let junk: Vec<Withdrawal> = (0..MAX_WITHDRAWALS)
            .map(|_| {
                number += 1;
                junk(number)
            })
            .collect();
        sequence += 10;
        let taken = robbed.publish(sequence, &junk);
        robbed.everybody_takes(&taken);
    }
    // A member leaves while the thief goes on; there is always room for what the authority says.
    let left = robbed
        .world
        .authority
        .withdraw(&Selector::Key(node.hash()), "left", NOW);
    assert_eq!(left.expect("withdrawn").len(), 1);
    let bundle = robbed.world.authority.bundle().expect("a bundle").clone();
    assert_eq!(bundle.withdrawn().len(), MAX_WITHDRAWALS);
    robbed.revoke();
    let bundle = robbed.world.authority.bundle().expect("a bundle").clone();
    assert_eq!(bundle.withdrawn().len(), 1, "the member only");
    robbed.everybody_follows(NOW);
    for store in [&robbed.home(), &robbed.reader] {
        let record = store.find(&network()).expect("read").expect("there");
        assert!(
            record
                .withdrawn
                .iter()
                .all(|(signer, _)| signer != robbed.hash())
        );
    }
}

#[test]
fn an_old_copy_repeats_nothing_in_the_name_of_another_key_than_the_one_that_said_it() {
    // Another machine's key is stolen; ours must not lend its name to what the thief withdraws.
    let mut robbed = Robbed::new();
    let delegated = super::world::key();
    let order = KeyOrder::default();
    robbed
        .world
        .authority
        .delegate(
            signer(),
            &comity_record::CharterKey::proof(&delegated, &network()).expect("a request"),
            &order,
            NOW,
        )
        .expect("delegated");
    robbed.key = Arc::new(delegated);
    let taken = robbed.publish(NOW.as_secs() + 10, &[key_withdrawn(1)]);
    robbed.everybody_takes(&taken);
    let made = robbed
        .world
        .authority
        .refresh(NOW + HOUR)
        .expect("published");
    assert_eq!(made.expect("it is behind").withdrawn(), []);
}

/// An authority, a reader of it elsewhere, and its issuing key in the hands of a thief.
struct Robbed {
    world: World,
    reader: NetworkStore,
    key: Arc<dyn Signer>,
    _folder: TempDir,
}

impl Robbed {
    fn new() -> Self {
        let mut world = World::new();
        let key = world.authority.issuer().expect("a key").signer;
        let folder = tempfile::tempdir().expect("a temporary directory");
        let home = Home::create(&folder.path().join("home")).expect("a home");
        let reader = NetworkStore::new(&home, "test");
        let bundle = world.authority.bundle().expect("a bundle");
        let record = NetworkRecord {
            network: network(),
            label: "example".into(),
            standing: Standing::Recognised,
            bundle: bundle.bytes().to_vec(),
            membership: Vec::new(),
            withdrawn: comity_record::Withdrawn::new(),
            forked: None,
            rival: None,
            added: NOW,
            refreshed: NOW,
            source: None,
        };
        reader.add(record).expect("entered");
        Self {
            world,
            reader,
            key,
            _folder: folder,
        }
    }

    fn hash(&self) -> KeyHash {
        KeyHash::of_spki(self.key.spki())
    }

    /// The authority's own home, as a reader.
    fn home(&self) -> NetworkStore {
        NetworkStore::new(&self.world.home, "test")
    }

    /// What the thief says, with the charters that are public.
    fn publish(&self, sequence: u64, withdrawn: &[Withdrawal]) -> Bundle {
        let honest = self.world.authority.bundle().expect("a bundle");
        let request = BundleRequest {
            name: honest.name().to_owned(),
            sequence,
            issued: NOW,
            expires: NOW + DAY,
            refresh: HOUR,
            locations: Vec::new(),
            charters: honest.charters().to_vec(),
            withdrawn: withdrawn.to_vec(),
        };
        request.sign(&*self.key).expect("a sound bundle")
    }

    fn everybody_takes(&self, bundle: &Bundle) {
        for store in [&self.home(), &self.reader] {
            let taken = store.update_bundle(&network(), bundle.bytes(), NOW);
            assert_eq!(taken.expect("newer"), Updated::Newer);
        }
    }

    /// What an operator does: another key, and then the end of the stolen one.
    fn revoke(&mut self) {
        let stolen = self.hash();
        let authority: &mut Authority = &mut self.world.authority;
        authority
            .roll_issuing(signer(), &KeyOrder::default(), DAY, NOW)
            .expect("rolled");
        authority
            .revoke_key(signer(), &stolen, NOW)
            .expect("revoked");
    }

    /// The newest bundle of the authority is held by its own home, and taken elsewhere.
    fn everybody_follows(&self, now: comity_identity::UnixTime) {
        let newest = self.world.authority.bundle().expect("a bundle");
        let record = self.home().find(&network()).expect("read").expect("there");
        assert_eq!(record.bundle, newest.bytes());
        assert_eq!(record.forked, None);
        let taken = self.reader.update_bundle(&network(), newest.bytes(), now);
        assert_eq!(taken.expect("newer"), Updated::Newer);
        let record = self.reader.find(&network()).expect("read").expect("there");
        assert_eq!(record.forked, None);
    }
}

fn key_withdrawn(byte: u8) -> Withdrawal {
    Withdrawal {
        what: WithdrawnWhat::Key(KeyHash::from_bytes([byte; 32])),
        at: NOW,
    }
}

fn junk(number: u64) -> Withdrawal {
    let what = WithdrawnWhat::Certificate {
        issuer: KeyHash::from_bytes([9; 32]),
        serial: number.to_be_bytes().to_vec(),
    };
    Withdrawal { what, at: NOW }
}
