//! Replays the seed corpus of the fuzz targets, and mutations of it, with the ordinary test command.
//!
//! No new inputs are invented here: the mutations come from a generator with a fixed seed, so that
//! a failure comes again. Inventing is libFuzzer's work (`fuzz/README.md`).

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;

use comity_testkit::fuzzing::{Body, TARGETS};

/// Mutations of each target's corpus: a few seconds for all of them, without optimisation.
const MUTATIONS: usize = 5000;

/// Mutations where each input becomes a file that is synchronised to disk.
const FILE_MUTATIONS: usize = 100;

/// Seeds of each target at the least: something valid, something nearly valid, something else.
const MIN_SEEDS: usize = 3;

/// The corpus stays small enough for a clone to be quick.
const MAX_CORPUS_BYTES: usize = 300_000;

/// Inputs do not grow beyond what a seed has: an initial certificate chain is the largest.
const MAX_INPUT: usize = 20_000;

#[test]
fn every_target_has_seeds_a_binary_and_a_body() {
    let bodies: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(bodies.len(), TARGETS.len(), "a name twice");
    assert_eq!(
        names_in(&fuzz().join("corpus")),
        bodies,
        "folders in fuzz/corpus"
    );
    let sources = names_in(&fuzz().join("fuzz_targets"));
    let expected = bodies.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(sources, expected, "files in fuzz/fuzz_targets");
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("fuzz/Cargo.toml");
    for name in &bodies {
        assert!(
            manifest.contains(&format!("name = \"{name}\"\n")),
            "{name} in fuzz/Cargo.toml"
        );
        let source = fuzz().join("fuzz_targets").join(format!("{name}.rs"));
        let source = fs::read_to_string(source).expect("a source file");
        assert!(
            source.contains(&format!("fuzzing::{name}(data)")),
            "{name} calls another body"
        );
        let seeds = corpus(name).len();
        assert!(seeds >= MIN_SEEDS, "{name} has {seeds} seeds");
    }
}

#[test]
fn the_corpus_stays_small() {
    let inputs = TARGETS.iter().flat_map(|(name, _)| corpus(name));
    let bytes: usize = inputs.map(|(_, data)| data.len()).sum();
    assert!(bytes <= MAX_CORPUS_BYTES, "{bytes} bytes");
}

#[test]
fn every_seed_keeps_the_promises_of_its_parser() {
    on_every_target(|name, body| {
        for (path, data) in corpus(name) {
            run(name, body, &data, &path.display().to_string());
        }
    });
}

#[test]
fn mutated_seeds_keep_the_promises_of_their_parser() {
    on_every_target(|name, body| {
        let seeds: Vec<Vec<u8>> = corpus(name).into_iter().map(|(_, data)| data).collect();
        let mut random = Random::seeded(name);
        let in_files = name.ends_with("_file") && name != "ca_file" && name != "key_file";
        let count = match in_files || name == "audit_log" {
            true => FILE_MUTATIONS,
            false => MUTATIONS,
        };
        for number in 0..count {
            let data = random.mutated(&seeds);
            run(name, body, &data, &format!("mutation {number}"));
        }
    });
}

fn on_every_target(work: impl Fn(&str, Body) + Sync) {
    thread::scope(|scope| {
        for (name, body) in TARGETS {
            let work = &work;
            scope.spawn(move || work(name, *body));
        }
    });
}

/// Runs one input; a panic is repeated with the input, in a form that can be pasted into a test.
fn run(name: &str, body: Body, data: &[u8], what: &str) {
    if catch_unwind(AssertUnwindSafe(|| body(data))).is_err() {
        panic!("{name}, {what}: b\"{}\"", data.escape_ascii());
    }
}

/// The inputs of a target in the order of their names.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = fuzz().join("corpus").join(target);
    let files = names_in(&folder).into_iter().map(|name| folder.join(name));
    files
        .map(|path| {
            let data = fs::read(&path).expect("a seed");
            (path, data)
        })
        .collect()
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("an ASCII name");
    entries
        .map(|entry| name(entry.expect("an entry")))
        .collect()
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// SplitMix64: the same numbers in every run and on every machine.
struct Random(u64);

impl Random {
    /// Every target has a sequence of its own (FNV-1a of its name).
    fn seeded(name: &str) -> Self {
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        Self(name.bytes().fold(0xcbf2_9ce4_8422_2325, mix))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`, or 0 if there is none.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).expect("64 bits");
        usize::try_from(self.next() % bound).expect("below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// A seed with one to four changes.
    fn mutated(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut data = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut data, seeds);
        }
        data.truncate(MAX_INPUT);
        data
    }

    fn change(&mut self, data: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(data.len());
        let end = at + self.below((data.len() - at).min(64) + 1);
        match self.below(8) {
            0 if !data.is_empty() => data[at] ^= 1 << self.below(8),
            1 if !data.is_empty() => data[at] = self.byte(),
            // Lengths and separators one off, and the ends of the range of a byte.
            2 if !data.is_empty() => data[at] = data[at].wrapping_add(1),
            3 => {
                let edges = [0x00, 0x7f, 0x80, 0xff, b'\n', b' ', b',', b'%', b':', b'='];
                data.insert(at, edges[self.below(edges.len())]);
            }
            4 => data.truncate(at),
            5 => drop(data.drain(at..end)),
            6 => {
                let again = data[at..end].to_vec();
                data.splice(at..at, again);
            }
            _ => {
                let other = &seeds[self.below(seeds.len())];
                data.truncate(at);
                data.extend_from_slice(&other[self.below(other.len())..]);
            }
        }
    }
}
