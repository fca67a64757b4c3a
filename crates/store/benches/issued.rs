//! A ledger of 1,000,000 certificates: finding one of them by serial number or key (at most 50 µs),
//! what ends next, opening it, and issuing one more. It is built first, which takes some minutes, in
//! `TMPDIR`: about 2 GB.

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::Duration;

use comity_identity::{KeyHash, NodeId, UnixTime};
use comity_store::{
    AuthorityFiles, Home, IssuedCertificate, IssuedSession, IssuedState, NewAuthorityFiles,
    Reservation, Serial,
};
use divan::Bencher;
use tempfile::TempDir;

const CERTIFICATES: u32 = 1_000_000;

/// How many are entered in one step.
const BATCH: u32 = 20_000;

/// Bytes of a cross-certificate.
const DER: usize = 800;

/// 2026-03-01T12:00:00Z.
const NOW: UnixTime = UnixTime::from_secs(1_772_366_400);

fn main() {
    let folder = TempDir::new().expect("a temporary directory");
    FILES.get_or_init(|| build(&folder));
    divan::main();
}

static FILES: OnceLock<AuthorityFiles> = OnceLock::new();

fn build(folder: &TempDir) -> AuthorityFiles {
    let home = Home::create(&folder.path().join("home")).expect("a home");
    let new = NewAuthorityFiles {
        state: Vec::new(),
        keys: Vec::new(),
    };
    let lock = home.lock().expect("the lock");
    let network = NodeId::of_spki(b"authority");
    let files = AuthorityFiles::create(&home, &lock, network, &new).expect("an authority");
    let session = files.issued().open().expect("a new ledger");
    for first in (0..CERTIFICATES).step_by(BATCH as usize) {
        let batch: Vec<_> = (first..first + BATCH).map(certificate).collect();
        session.import(&batch).expect("entered");
    }
    drop(session);
    files
}

/// Which certificates are asked for: all over the ledger, and in no order.
fn some(session: usize) -> impl FnMut() -> u32 {
    let mut state = u32::try_from(session).unwrap_or(1) | 1;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % CERTIFICATES
    }
}

fn open() -> IssuedSession {
    let files = FILES.get().expect("it was built first");
    files.issued().open().expect("the ledger")
}

#[divan::bench]
fn by_serial(bencher: Bencher) {
    let session = open();
    let mut next = some(1);
    bencher
        .with_inputs(|| serial(next()))
        .bench_local_values(|serial| {
            let found = session.by_serial(black_box(&serial)).expect("read");
            assert!(found.is_some());
        });
}

#[divan::bench]
fn by_key(bencher: Bencher) {
    let session = open();
    let mut next = some(3);
    bencher
        .with_inputs(|| key(next()))
        .bench_local_values(|key| {
            assert_eq!(session.by_key(black_box(&key)).expect("read").len(), 1);
        });
}

#[divan::bench]
fn by_serial_opened_each_time(bencher: Bencher) {
    let mut next = some(5);
    bencher
        .with_inputs(|| serial(next()))
        .bench_local_values(|serial| {
            let found = open().by_serial(black_box(&serial)).expect("read");
            assert!(found.is_some());
        });
}

#[divan::bench]
fn the_hundred_that_end_next(bencher: Bencher) {
    let session = open();
    bencher.bench_local(|| {
        let ending = session.ending(NOW, UnixTime::NEVER, 100).expect("read");
        assert_eq!(ending.len(), 100);
    });
}

#[divan::bench]
fn reserve_and_record_one(bencher: Bencher) {
    let session = open();
    bencher.bench_local(|| {
        let serial = session.reserve(&certificate(0).about).expect("a serial");
        session.record(&serial, &[7; DER]).expect("recorded");
    });
}

fn certificate(number: u32) -> IssuedCertificate {
    IssuedCertificate {
        serial: serial(number),
        about: Reservation {
            template: "member".into(),
            key: key(number),
            issuer: KeyHash::of_spki(b"issuing key"),
            label: format!("node-{number}"),
            not_before: NOW,
            not_after: NOW + Duration::from_secs(u64::from(number) * 30),
            attested: vec![7; 40],
            next: None,
        },
        state: IssuedState::Issued,
        der: vec![7; DER],
    }
}

fn serial(number: u32) -> Serial {
    let hash = *KeyHash::of_spki(&number.to_le_bytes()).as_bytes();
    let mut serial: Serial = hash[..16].try_into().expect("half of a hash");
    serial[0] = serial[0] & 0x3f | 0x40;
    serial
}

fn key(number: u32) -> KeyHash {
    KeyHash::of_spki(&number.to_be_bytes())
}
