//! A home with an authority, and nodes that become its members.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use comity_certs::{
    CrossPath, LeafRequest, Metadata, PresentedChain, Purpose, Rollover, RootRequest, mint_leaf,
    mint_root, verify_cross_path,
};
use comity_identity::{Algorithm, KeyHash, NodeId, Signer, UnixTime};
use comity_keys::{LeafKey, SoftwareKey};
use comity_store::disk::Disk;
use comity_store::fault::ModelDisk;
use comity_store::{Home, NetworkStore};
use tempfile::TempDir;

use crate::{Admission, Authority, Grant, NewAuthority};

/// 2026-03-01T12:00:00Z.
pub(super) const NOW: UnixTime = UnixTime::from_secs(1_772_366_400);

pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

pub(super) const MODEL_HOME: &str = "/home";

/// The key of the root of every test: it is nowhere on a disk.
pub(super) static ROOT: LazyLock<SoftwareKey> = LazyLock::new(key);

/// A home on the real disk with an authority called `example`.
pub(super) struct World {
    pub(super) home: Home,
    pub(super) authority: Authority,
    _folder: TempDir,
}

impl World {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = folder.expect("a temporary directory");
        let home = Home::create(&folder.path().join("home")).expect("a home");
        let authority = found(&home);
        Self {
            home,
            authority,
            _folder: folder,
        }
    }

    /// What another process sees.
    pub(super) fn again(&self) -> Authority {
        open(&self.home)
    }

    /// What decisions on this machine read.
    pub(super) fn networks(&self) -> Arc<comity_trust::Networks> {
        NetworkStore::new(&self.home, "test")
            .networks()
            .expect("networks")
    }
}

/// A disk in memory with a home and an authority, all of it durable.
pub(super) fn model() -> (ModelDisk, Home) {
    let disk = ModelDisk::new();
    let home = Home::create_on(Arc::new(disk.clone()), Path::new(MODEL_HOME)).expect("a home");
    found(&home);
    (disk, home)
}

pub(super) fn open_on(disk: impl Disk + 'static) -> Home {
    Home::open_on(Arc::new(disk), Path::new(MODEL_HOME)).expect("the home")
}

pub(super) fn found(home: &Home) -> Authority {
    let new = NewAuthority::named("example");
    Authority::create(home, &new, &*ROOT, NOW, "test").expect("an authority")
}

pub(super) fn open(home: &Home) -> Authority {
    Authority::open(home, network(), "another test").expect("the authority")
}

pub(super) fn network() -> NodeId {
    NodeId::of_spki(ROOT.spki())
}

pub(super) fn key() -> SoftwareKey {
    SoftwareKey::generate(Algorithm::EcdsaP256).expect("a key")
}

/// A node with its root certificate.
pub(super) struct Node {
    pub(super) key: SoftwareKey,
    pub(super) next: SoftwareKey,
    pub(super) root: Vec<u8>,
}

impl Node {
    pub(super) fn new() -> Self {
        Self::with_key(key())
    }

    /// Whose root commits to another key.
    pub(super) fn with_key(key: SoftwareKey) -> Self {
        let next = self::key();
        let request = RootRequest {
            next: Some(KeyHash::of_spki(next.spki())),
            serial: [0x42; 16],
            not_before: NOW - DAY,
        };
        let root = mint_root(&key, &request).expect("a root");
        Self { key, next, root }
    }

    pub(super) fn id(&self) -> NodeId {
        NodeId::of_spki(self.key.spki())
    }

    pub(super) fn hash(&self) -> KeyHash {
        self.id().key_hash()
    }

    /// What it presents with a membership.
    pub(super) fn chain(&self, membership: &[Vec<u8>], now: UnixTime) -> Vec<Vec<u8>> {
        let leaf_key = LeafKey::generate().expect("a key");
        let leaf = mint_leaf(
            &self.root,
            &self.key,
            &LeafRequest {
                spki: leaf_key.spki(),
                purpose: Purpose::Serve,
                serial: [0x43; 16],
                not_before: now - HOUR,
                not_after: now + DAY * 20,
                dns: &[],
                ips: &[],
                uris: &[],
                metadata: &Metadata::default(),
                succession: &[],
            },
        )
        .expect("a leaf");
        [&[leaf], membership, std::slice::from_ref(&self.root)].concat()
    }

    /// The path that a reader of the bundle finds to it.
    pub(super) fn path(&self, grant: &Grant, now: UnixTime) -> CrossPath {
        let bundle = comity_record::Bundle::parse(&grant.bundle).expect("a bundle");
        self.path_below(&grant.membership, &bundle, now)
            .expect("a path")
    }

    pub(super) fn path_below(
        &self,
        membership: &[Vec<u8>],
        bundle: &comity_record::Bundle,
        now: UnixTime,
    ) -> Result<CrossPath, comity_certs::CrossError> {
        let chain = self.chain(membership, now);
        let chain = PresentedChain::parse(&chain).expect("a chain");
        let anchors = bundle.anchors(now);
        verify_cross_path(&chain, anchors, Purpose::Serve, Rollover::Refused, now)
    }
}

pub(super) fn admission(label: &str) -> Admission {
    Admission {
        label: Some(label.to_owned()),
        roles: vec!["backup".to_owned()],
        ..Admission::default()
    }
}

pub(super) fn signer() -> &'static dyn Signer {
    &*ROOT
}
