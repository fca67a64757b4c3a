//! Makes the vectors in `tests/vectors/bundle/` anew, after the format changed:
//! `cargo test -p comity-record --test record -- --ignored makes_the_bundle_vectors`. The ordinary tests
//! replay them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use comity_identity::{KeyHash, NodeId, UnixTime};
use comity_record::{
    Bundle, BundleRequest, Charter, CharterKey, KeyState, Withdrawal, WithdrawnWhat,
};
use data_encoding::HEXLOWER;

use crate::certificates::{DAY, TODAY};
use crate::raw::{BUNDLE, CHARTER, Raw, bytes, encoded, number};
use crate::vectors::describe;
use crate::world::{
    ACTIVE, FURTHEST, Held, Org, RETIRING, REVOKED, SECOND, bundle, charter, charter_request,
    request,
};

#[test]
#[ignore = "writes the vectors"]
fn makes_the_bundle_vectors() {
    let vectors = Vectors::new();
    vectors.of_bundles();
    vectors.of_bytes();
    vectors.of_histories();
    vectors.of_following();
}

/// Whose bundles they are.
struct Vectors {
    org: Org,
    one: Held,
    two: Held,
    /// From root one to root two.
    rolled: Vec<Charter>,
}

impl Vectors {
    fn new() -> Self {
        let (one, two) = (Held::root(), Held::root());
        let steps = [
            charter(&one, 1, &[(&one, ACTIVE)], &[&one]),
            charter(&one, 2, &[(&one, ACTIVE), (&two, ACTIVE)], &[&one, &two]),
            charter(&one, 3, &[(&one, RETIRING), (&two, ACTIVE)], &[&two]),
            charter(&one, 4, &[(&one, REVOKED), (&two, ACTIVE)], &[&two]),
        ];
        Self {
            org: Org::new(),
            one,
            two,
            rolled: steps.to_vec(),
        }
    }

    fn of_bundles(&self) {
        let org = &self.org;
        let one =
            |name, comment, bundle: &Bundle| write(name, comment, "bundle", &[bundle.bytes()]);
        one(
            "simple",
            "a root, an issuing key that signs, nothing withdrawn",
            &org.bundle(1),
        );
        let by_root = bundle(1, &[&org.founding], &org.root, &[]);
        one("by-root", "signed by the root", &by_root);
        let history: Vec<&Charter> = self.rolled.iter().collect();
        let rolled = bundle(4, &history, &self.two, &[]);
        one(
            "rollover",
            "from one root to another in four charters",
            &rolled,
        );
        let withdrawn = bundle(2, &[&org.founding], &org.issuing, &withdrawals(org));
        one(
            "withdrawn",
            "a certificate and a key are withdrawn",
            &withdrawn,
        );
        let last = org.bundle(FURTHEST);
        one(
            "sequence-ahead",
            "the last sequence that this time of issue permits",
            &last,
        );
        let mut long = org.request();
        long.expires = TODAY + 90 * DAY;
        one("90-days", "the longest life", &signed(&long, &org.issuing));
    }

    /// What cannot be made by a request.
    fn of_bytes(&self) {
        let org = &self.org;
        let raw = || Raw::of(org.bundle(1).bytes());
        let key = &org.issuing.key;
        let one = |name, comment, key: &_, raw: Raw| {
            write(name, comment, "bundle", &[&raw.signed(BUNDLE, &[key])]);
        };
        let expires = TODAY + 90 * DAY + SECOND;
        let longer = raw().with(6, number(expires.as_secs()));
        one(
            "longer",
            "one second more than the longest life",
            key,
            longer,
        );
        one(
            "refresh-299",
            "asks to be fetched too often",
            key,
            raw().with(7, number(299)),
        );
        one(
            "version-2",
            "another version",
            key,
            raw().with(1, number(2)),
        );
        one(
            "unknown-127",
            "a field that must not be ignored",
            key,
            raw().with(127, number(1)),
        );
        one(
            "unknown-128",
            "a field that may be ignored",
            key,
            raw().with(128, number(1)),
        );
        let ahead = raw().with(4, number(FURTHEST + 1));
        one(
            "sequence-too-far-ahead",
            "the first sequence that is refused",
            key,
            ahead,
        );
        let spelling =
            encoded(|e| drop(e.array(1).and_then(|e| e.str("https://CA.example/bundle"))));
        let comment = "a location that is not in its one spelling";
        one("location-spelling", comment, key, raw().with(8, spelling));
        let other = raw().with(2, bytes(Held::root().network().as_bytes()));
        one(
            "other-network",
            "its id is not that of its charters",
            key,
            other,
        );
        let comment = "signed by another key than the one it names";
        one("other-signer", comment, &org.root.key, raw());
        let domain = raw().signed(CHARTER, &[key]);
        write("other-domain", "signed as a charter", "bundle", &[&domain]);
        let entry = |byte: u8| {
            [
                &[0x83, 1][..],
                &bytes(&[byte; 32]),
                &number(TODAY.as_secs()),
            ]
            .concat()
        };
        for (name, comment, entries) in [
            (
                "withdrawn-order",
                "withdrawals that are not in ascending order",
                [2, 1],
            ),
            ("withdrawn-twice", "a key that is withdrawn twice", [1, 1]),
        ] {
            let list = [vec![0x82], entry(entries[0]), entry(entries[1])].concat();
            one(name, comment, key, raw().with(10, list));
        }
    }

    fn of_histories(&self) {
        let (org, one, two) = (&self.org, &self.one, &self.two);
        let [founding, both, retired, revoked] = self.rolled.as_slice() else {
            panic!("four charters");
        };
        let mine = Held::root();
        let by_old = charter(one, 4, &[(one, ACTIVE), (two, ACTIVE)], &[one]);
        let comment = "a charter by a root that was retiring";
        self.with(
            "charter-by-retiring-root",
            comment,
            &[founding, both, retired, &by_old],
            two,
        );
        let back = charter(one, 5, &[(one, RETIRING), (two, ACTIVE)], &[two]);
        self.with(
            "state-goes-back",
            "a revoked key is retiring again",
            &[founding, both, revoked, &back],
            two,
        );
        let dropped = charter(one, 5, &[(two, ACTIVE)], &[two]);
        let comment = "a revoked key is missing";
        self.with(
            "revocation-dropped",
            comment,
            &[founding, both, revoked, &dropped],
            two,
        );
        let skipped = charter(one, 3, &[(one, REVOKED), (two, ACTIVE)], &[two]);
        let comment = "a charter by a root that the one before does not have";
        self.with("step-missing", comment, &[founding, &skipped], two);
        let taken = charter(one, 1, &[(one, ACTIVE), (&mine, ACTIVE)], &[&mine]);
        self.with(
            "not-founded",
            "the first charter is not by the founding root",
            &[&taken],
            &mine,
        );
        for (name, comment, state) in [
            (
                "signer-retiring",
                "signed by an issuing key that is retiring",
                RETIRING,
            ),
            (
                "signer-revoked",
                "signed by an issuing key that is revoked",
                REVOKED,
            ),
        ] {
            let keys = [(&org.root, ACTIVE), (&org.issuing, state)];
            let second = charter(&org.root, 2, &keys, &[&org.root]);
            self.with(name, comment, &[&org.founding, &second], &org.issuing);
        }
        self.of_keys();
    }

    /// A bundle with these charters, whatever is wrong with them.
    fn with(&self, name: &str, comment: &str, charters: &[&Charter], signer: &Held) {
        let list = encoded(|e| {
            drop(e.array(charters.len() as u64));
            for charter in charters {
                drop(e.bytes(charter.bytes()));
            }
        });
        let network = bytes(charters[0].network().as_bytes());
        let raw = Raw::of(self.org.bundle(1).bytes());
        let raw = raw.with(2, network).with(9, list);
        let raw = raw.with(11, bytes(signer.hash().as_bytes()));
        write(
            name,
            comment,
            "bundle",
            &[&raw.signed(BUNDLE, &[&signer.key])],
        );
    }

    fn of_keys(&self) {
        let (founding, one) = (&self.rolled[0], &self.one);
        let (mine, late) = (Held::root(), TODAY + 2 * 365 * DAY + SECOND);
        let with_proof = |proof: Vec<u8>, state| {
            let list = encoded(|e| {
                let mut keys = [(one, 1), (&mine, state)];
                keys.sort_unstable_by_key(|(held, _)| held.hash());
                drop(e.array(2));
                for (held, state) in keys {
                    let own = CharterKey::proof(&held.key, &one.network()).expect("a request");
                    let proof = if held.hash() == mine.hash() {
                        &proof
                    } else {
                        &own
                    };
                    let e = e.array(5).and_then(|e| e.u8(0)?.u8(state)?.u64(0));
                    drop(e.and_then(|e| e.bytes(&held.der)?.bytes(proof)));
                }
            });
            let both = charter(one, 2, &[(one, ACTIVE), (&mine, ACTIVE)], &[one]);
            let history = encoded(|e| {
                let charter = Raw::of(both.bytes()).with(5, list.clone());
                let charter = charter.signed_charter(&[&one.key]);
                drop(
                    e.array(2)
                        .and_then(|e| e.bytes(founding.bytes())?.bytes(&charter)),
                );
            });
            let bundle = Raw::of(bundle(1, &[founding], one, &[]).bytes());
            bundle.with(9, history).signed(BUNDLE, &[&one.key])
        };
        let proof =
            |key: &Held, network: NodeId| CharterKey::proof(&key.key, &network).expect("a request");
        let sound = with_proof(proof(&mine, one.network()), 1);
        write(
            "possession",
            "a new root that asked for it",
            "bundle",
            &[&sound],
        );
        let elsewhere = with_proof(proof(&mine, mine.network()), 1);
        let comment = "a new root that asked to be one of another network";
        write("no-possession", comment, "bundle", &[&elsewhere]);
        let revoked = with_proof(proof(one, one.network()), 3);
        let comment = "a key that somebody else lists as revoked";
        write("no-possession-revoked", comment, "bundle", &[&revoked]);
        self.of_lives(late);
    }

    fn of_lives(&self, late: UnixTime) {
        let org = &self.org;
        let root = &org.root;
        let until = |seconds| KeyState::Retiring {
            until: TODAY + SECOND * seconds,
        };
        let second = |sequence, state, issued| {
            let keys = [(root, ACTIVE), (&org.issuing, state)];
            let keys = if issued == late || sequence == 4 {
                &keys[..1]
            } else {
                &keys
            };
            let mut request = charter_request(root, sequence, keys);
            request.issued = issued;
            request.sign(&[&root.key]).expect("sound")
        };
        let retiring = second(2, until(100), TODAY);
        let later = second(3, until(101), TODAY);
        let comment = "the end of an overlap is put off";
        self.with(
            "overlap-put-off",
            comment,
            &[&org.founding, &retiring, &later],
            root,
        );
        let dropped = second(4, ACTIVE, TODAY);
        let comment = "a key is missing whose certificate is not over";
        self.with("key-dropped", comment, &[&org.founding, &dropped], root);
        let over = second(4, ACTIVE, late);
        let comment = "a key is missing whose certificate is over";
        self.with("key-over", comment, &[&org.founding, &over], root);
    }

    fn of_following(&self) {
        let org = &self.org;
        two(
            "follow-newer",
            "the next sequence",
            &org.bundle(1),
            &org.bundle(2),
        );
        two(
            "follow-same",
            "the same content, signed twice",
            &org.bundle(1),
            &org.bundle(1),
        );
        two(
            "follow-rollback",
            "a lower sequence",
            &org.bundle(5),
            &org.bundle(4),
        );
        let other = bundle(5, &[&org.founding], &org.issuing, &withdrawals(org));
        two(
            "follow-fork",
            "two contents of one sequence",
            &org.bundle(5),
            &other,
        );
        let comment = "another network of the same name";
        two(
            "follow-other-network",
            comment,
            &org.bundle(1),
            &Org::new().bundle(2),
        );
        let fresh = Held::issuing_below(&org.root);
        let keys = [
            (&org.root, ACTIVE),
            (&org.issuing, REVOKED),
            (&fresh, ACTIVE),
        ];
        let revoking = charter(&org.root, 2, &keys, &[&org.root]);
        let after = |sequence| bundle(sequence, &[&org.founding, &revoking], &fresh, &[]);
        let comment = "a stolen issuing key, after it was revoked";
        two(
            "follow-charter-rollback",
            comment,
            &after(10),
            &org.bundle(11),
        );
        let comment = "the key that used all sequences up is revoked";
        two("follow-used-up", comment, &org.bundle(FURTHEST), &after(2));
        self.of_forks();
    }

    fn of_forks(&self) {
        let (org, mine) = (&self.org, Held::root());
        let root = &org.root;
        let second = |sequence, keys: &[(&Held, KeyState)], signers: &[&Held], by: &Held| {
            let second = charter(root, sequence, keys, signers);
            bundle(sequence, &[&org.founding, &second], by, &[])
        };
        let honest = second(
            5,
            &[(root, ACTIVE), (&org.issuing, RETIRING)],
            &[root],
            root,
        );
        let keys = [(root, ACTIVE), (&org.issuing, REVOKED), (&mine, ACTIVE)];
        let taken = |sequence| second(sequence, &keys, &[root, &mine], &mine);
        two(
            "follow-charter-fork",
            "one root signed two charters of one sequence",
            &honest,
            &taken(5),
        );
        let comment = "one root signed a charter that the next one held does not follow";
        two("follow-charter-fork-between", comment, &honest, &taken(3));
        let history: Vec<&Charter> = self.rolled.iter().collect();
        let rolled = |count: usize| bundle(9, &history[..count], &self.two, &[]);
        let founding = bundle(1, &history[..1], &self.one, &[]);
        two(
            "follow-rollover",
            "from the founding charter to the fourth",
            &founding,
            &rolled(4),
        );
        let keys = [(&self.one, ACTIVE), (&self.two, RETIRING), (&mine, ACTIVE)];
        let stolen = charter(&self.one, 9, &keys, &[&self.one, &mine]);
        let stolen = bundle(99, &[history[0], history[1], &stolen], &mine, &[]);
        let comment = "a root that was revoked goes on from the charter before";
        two("follow-stolen-root", comment, &rolled(4), &stolen);
        let again = charter(
            &self.one,
            1,
            &[(&self.one, ACTIVE), (&mine, ACTIVE)],
            &[&self.one, &mine],
        );
        let again = bundle(99, &[&again], &mine, &[]);
        let comment = "a founding root that was revoked founds the network again";
        two("follow-stolen-founder", comment, &rolled(4), &again);
        let mut late = request(9, &history[..3], &[]);
        (late.issued, late.expires) = (TODAY + 31 * DAY, TODAY + 32 * DAY);
        let comment = "a founding root whose time is over founds the network again";
        two(
            "follow-retired-founder",
            comment,
            &signed(&late, &self.two),
            &again,
        );
        let comment = "a founding root that is retiring founds the network again";
        two("follow-retiring-founder", comment, &rolled(3), &again);
    }
}

fn two(name: &str, comment: &str, held: &Bundle, offered: &Bundle) {
    write(name, comment, "following", &[held.bytes(), offered.bytes()]);
}

fn signed(request: &BundleRequest, signer: &Held) -> Bundle {
    request.sign(&signer.key).expect("a sound bundle")
}

fn withdrawals(org: &Org) -> Vec<Withdrawal> {
    let certificate = WithdrawnWhat::Certificate {
        issuer: org.issuing.hash(),
        serial: vec![0x41; 16],
    };
    let key = WithdrawnWhat::Key(KeyHash::from_bytes([7; 32]));
    let hour = Duration::from_secs(3600);
    [(certificate, TODAY), (key, TODAY + hour)]
        .map(|(what, at)| Withdrawal { what, at })
        .to_vec()
}

fn write(name: &str, comment: &str, kind: &str, objects: &[&[u8]]) {
    let owned: Vec<Vec<u8>> = objects.iter().map(|o| o.to_vec()).collect();
    let mut text = format!("comment: {comment}\n");
    for (name, value) in describe(kind, &owned) {
        text.push_str(&format!("{name}: {value}\n"));
    }
    text.push('\n');
    for object in &owned {
        text.push_str(&HEXLOWER.encode(object));
        text.push('\n');
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/bundle");
    fs::write(folder.join(name).with_extension("txt"), text).expect("written");
}
