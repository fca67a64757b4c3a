//! Homes to try things in, and the child processes that try them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use comity_identity::{NodeId, PeerId, UnixTime};
use tempfile::TempDir;

use crate::disk::{Disk, OsDisk};
use crate::fault::ModelDisk;
use crate::home::Home;

/// A home on the real disk, gone when dropped.
pub(super) struct TestHome {
    pub(super) home: Home,
    _directory: TempDir,
}

impl TestHome {
    pub(super) fn new() -> Self {
        Self::below(tempfile::tempdir().expect("a temporary directory"))
    }

    /// Where `fsync` costs nothing, if there is such a place: for tests of many writes that are not
    /// about durability.
    pub(super) fn in_memory() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self::below(directory.expect("a temporary directory"))
    }

    fn below(directory: TempDir) -> Self {
        let home = Home::create(&directory.path().join("home")).expect("a home");
        Self {
            home,
            _directory: directory,
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.home.root()
    }
}

/// Where the home is on every model disk.
pub(super) const MODEL_HOME: &str = "/home";

/// A model disk with an empty home.
pub(super) fn model_home() -> (ModelDisk, Home) {
    let disk = ModelDisk::new();
    let home = Home::create_on(Arc::new(disk.clone()), Path::new(MODEL_HOME)).expect("a home");
    (disk, home)
}

pub(super) fn open_on(disk: impl Disk + 'static) -> Home {
    Home::open_on(Arc::new(disk), Path::new(MODEL_HOME)).expect("the home")
}

pub(super) fn os_disk() -> Arc<dyn Disk> {
    Arc::new(OsDisk)
}

/// 2026-03-01T00:00:00Z.
pub(super) const DAY: UnixTime = UnixTime::from_secs(1_772_323_200);

pub(super) fn node(number: u32) -> NodeId {
    NodeId::of_spki(&number.to_be_bytes())
}

pub(super) fn peer(number: u32) -> PeerId {
    PeerId::Node(node(number))
}

/// The names in a directory, sorted.
pub(super) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// Tells a child process which home to work in; without it the child's test does nothing.
const CHILD_HOME: &str = "COMITY_STORE_TEST_HOME";

/// Tells a child process its number.
const CHILD_NUMBER: &str = "COMITY_STORE_TEST_NUMBER";

/// Runs the test `name` of this binary as another process, in `home`.
pub(super) fn child(name: &str, home: &Path, number: usize) -> Child {
    command(name, home, number)
        .spawn()
        .expect("a child process")
}

pub(super) fn command(name: &str, home: &Path, number: usize) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command
        .args(["--exact", name, "--ignored", "--test-threads=1"])
        .env(CHILD_HOME, home)
        .env(CHILD_NUMBER, number.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// In a child process, its home and number.
pub(super) fn child_task() -> Option<(PathBuf, usize)> {
    let home = std::env::var_os(CHILD_HOME)?;
    let number = std::env::var(CHILD_NUMBER).ok()?.parse().ok()?;
    Some((home.into(), number))
}

/// Waits for a child and passes on its failure.
pub(super) fn succeeded(child: Child) {
    let output = child.wait_with_output().expect("a child process");
    assert!(
        output.status.success(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Says that something was not tried; fails where nothing may be left out.
pub(super) fn left_out(why: &str) {
    let required = std::env::var_os("COMITY_REQUIRE").is_some_and(|v| v == "all");
    assert!(!required, "left out: {why}");
    // Not `eprintln`, which the test harness would keep to itself.
    writeln!(std::io::stderr(), "left out: {why}").expect("standard error");
}
