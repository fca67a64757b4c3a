//! What a home must look like before anything in it is relied upon.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, chown, mkfifo};

use super::support::{TestHome, child, child_task, left_out, names, os_disk, succeeded};
use crate::disk::{Access, Disk};
use crate::error::{Flaw, StoreError};
use crate::fault::{Call, Fault, FaultDisk, ModelDisk};
use crate::home::{Home, HomeFile};

#[test]
fn a_new_home_is_for_its_owner_alone_and_is_opened_the_next_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a/b/home");
    let home = Home::create(&path).expect("a home");
    for made in ["a", "a/b", "a/b/home"] {
        assert_eq!(mode(&directory.path().join(made)), 0o700, "{made}");
    }
    assert_eq!(Home::create(&path).expect("a home").root(), home.root());
    assert_eq!(Home::open(&path).expect("a home").root(), home.root());
}

#[test]
fn a_home_that_another_process_is_making_survives_power_loss_all_the_same() {
    for steps_of_the_other in 0..20 {
        let disk = ModelDisk::new();
        let path = Path::new("/var/home");
        let other = FaultDisk::new(Arc::new(disk.clone()));
        other.fault_at(steps_of_the_other, Fault::Stop);
        // However far it came.
        drop(Home::create_on(Arc::new(other), path));
        let home = Home::create_on(Arc::new(disk.clone()), path).expect("a home");
        let lock = home.lock().expect("the lock");
        home.replace(&lock, HomeFile::KnownPeers, b"x")
            .expect("a write");
        for found in disk.after_power_loss() {
            let file = home.path(HomeFile::KnownPeers);
            assert_eq!(
                found.content(&file).as_deref(),
                Some(&b"x"[..]),
                "acknowledged and lost after {steps_of_the_other} steps of the other"
            );
        }
    }
}

#[test]
fn a_directory_that_appears_while_it_is_made_is_made_durable() {
    let disk = ModelDisk::new();
    let racing = FaultDisk::new(Arc::new(disk.clone()));
    let other = disk.clone();
    racing.follow(move |_, call| {
        if call == Call::MakeDir {
            Disk::make_dir(&other, Path::new("/home")).expect("made");
        }
        Fault::None
    });
    Home::create_on(Arc::new(racing), Path::new("/home")).expect("a home");
    for found in disk.after_power_loss() {
        assert!(Home::open_on(Arc::new(found), Path::new("/home")).is_ok());
    }
}

#[test]
fn a_home_below_a_directory_that_may_not_be_read_is_opened() {
    for error in [nix::libc::EACCES, nix::libc::EROFS] {
        let disk = ModelDisk::new();
        Home::create_on(Arc::new(disk.clone()), Path::new("/home")).expect("a home");
        let strict = FaultDisk::new(Arc::new(disk));
        strict.follow(move |number, call| match (number, call) {
            (1, Call::Open(Access::Directory)) => Fault::Error(error),
            _ => Fault::None,
        });
        Home::create_on(Arc::new(strict.clone()), Path::new("/home")).expect("the home");
        assert_eq!(strict.calls()[1], Call::Open(Access::Directory));
    }
}

#[test]
fn a_home_that_is_not_there_is_named_with_the_command_that_makes_one() {
    let directory = tempfile::tempdir().expect("a directory");
    for missing in ["home", "a/b/home"] {
        let path = directory.path().join(missing);
        let error = Home::open(&path).expect_err("no home");
        assert!(matches!(&error, StoreError::NoHome { path: named } if *named == path));
        let remedy = error.remedy().expect("a remedy");
        assert_eq!(
            remedy,
            format!("run `comity init --home {}`", path.display())
        );
    }
}

// T70
#[test]
fn a_home_that_others_can_write_to_is_refused_with_the_remedy() {
    for mode in [0o770, 0o720, 0o702, 0o777, 0o1777] {
        let test = TestHome::new();
        chmod(test.path(), mode);
        for error in [Home::open(test.path()), Home::create(test.path())] {
            let error = error.expect_err("a writable home");
            assert_eq!(flaw(&error), Flaw::WritableByOthers { mode });
            let remedy = error.remedy().expect("a remedy");
            assert_eq!(remedy, format!("chmod 700 {}", test.path().display()));
        }
    }
    let test = TestHome::new();
    chmod(test.path(), 0o755);
    assert!(Home::open(test.path()).is_ok(), "others may look at it");
}

// T70
#[test]
fn a_parent_that_others_can_write_to_is_refused_unless_it_is_sticky() {
    let directory = tempfile::tempdir().expect("a directory");
    let parent = directory.path().join("parent");
    let path = parent.join("between/home");
    Home::create(&path).expect("a home");
    for mode in [0o777, 0o775, 0o757] {
        chmod(&parent, mode);
        let error = Home::open(&path).expect_err("a writable parent");
        assert!(matches!(&error, StoreError::Insecure { path, .. } if path.ends_with("parent")));
        assert_eq!(flaw(&error), Flaw::WritableByOthers { mode });
        let other = parent.join("other");
        Home::create(&other).expect_err("a writable parent");
        assert!(!other.exists(), "nothing is made there");
    }
    chmod(&parent, 0o1777);
    Home::open(&path).expect("a sticky parent");
}

// T70
#[test]
fn a_home_that_is_a_link_or_no_directory_is_refused() {
    let test = TestHome::new();
    let link = test.path().with_file_name("link");
    symlink(test.path(), &link).expect("a link");
    assert_eq!(flaw(&Home::open(&link).expect_err("a link")), Flaw::Symlink);
    assert_eq!(
        flaw(&Home::create(&link).expect_err("a link")),
        Flaw::Symlink
    );
    let file = test.path().with_file_name("file");
    fs::write(&file, "").expect("a file");
    assert_eq!(
        flaw(&Home::open(&file).expect_err("a file")),
        Flaw::NotADirectory
    );
    for odd in [Path::new("/"), &test.path().join("..")] {
        assert!(Home::open(odd).is_err(), "{}", odd.display());
    }
}

// T70
#[test]
fn a_link_on_the_way_is_followed_once_and_its_target_checked() {
    let directory = tempfile::tempdir().expect("a directory");
    let real = directory.path().join("real");
    Home::create(&real.join("home")).expect("a home");
    let link = directory.path().join("link");
    symlink(&real, &link).expect("a link");
    let home = Home::open(&link.join("home")).expect("a home behind a link");
    assert!(
        home.root().ends_with("real/home"),
        "{}",
        home.root().display()
    );
    chmod(&real, 0o777);
    assert!(Home::open(&link.join("home")).is_err());
}

// T70
#[test]
fn a_file_that_others_can_write_to_is_refused_with_the_remedy() {
    for mode in [0o660, 0o620, 0o602, 0o666] {
        let test = TestHome::new();
        let path = put(&test, HomeFile::KnownPeers, mode);
        let error = test.home.read(HomeFile::KnownPeers).err().expect("refused");
        assert_eq!(flaw(&error), Flaw::WritableByOthers { mode });
        assert_eq!(error.remedy(), Some(format!("chmod go-w {path}")));
    }
    let test = TestHome::new();
    put(&test, HomeFile::KnownPeers, 0o644);
    assert!(test.home.read(HomeFile::KnownPeers).is_ok());
}

// T70
#[test]
fn a_key_that_others_can_read_or_that_has_a_second_name_is_refused() {
    for key in [HomeFile::IdentityKey, HomeFile::NextKey] {
        let test = TestHome::new();
        let path = put(&test, key, 0o640);
        let error = test.home.read(key).err().expect("refused");
        assert_eq!(flaw(&error), Flaw::ReadableByOthers { mode: 0o640 });
        assert_eq!(error.remedy(), Some(format!("chmod 600 {path}")));
        chmod(Path::new(&path), 0o600);
        assert!(test.home.read(key).is_ok());
        fs::hard_link(&path, test.path().join("second")).expect("a link");
        let error = test.home.read(key).err().expect("refused");
        assert_eq!(flaw(&error), Flaw::HardLinked { links: 2 });
    }
}

// T70
#[test]
fn links_fifos_and_directories_are_refused_where_a_file_belongs_and_nothing_blocks() {
    for file in [HomeFile::KnownPeers, HomeFile::Lock, HomeFile::AuditLog] {
        let test = TestHome::new();
        let path = test.home.path(file);
        let elsewhere = test.path().join("elsewhere");
        fs::write(&elsewhere, "").expect("a file");

        symlink(&elsewhere, &path).expect("a link");
        assert_eq!(flaw(&attempt(&test.home, file)), Flaw::Symlink);
        fs::remove_file(&path).expect("removed");

        mkfifo(&path, Mode::from_bits_truncate(0o600)).expect("a fifo");
        assert_eq!(flaw(&attempt(&test.home, file)), Flaw::NotAFile);
        fs::remove_file(&path).expect("removed");

        let _socket = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        assert_eq!(flaw(&attempt(&test.home, file)), Flaw::NotAFile);
        fs::remove_file(&path).expect("removed");

        fs::create_dir(&path).expect("a directory");
        assert_eq!(flaw(&attempt(&test.home, file)), Flaw::NotAFile);
        assert_eq!(fs::read(&elsewhere).expect("a file"), b"", "untouched");
    }
}

// T70
#[test]
fn what_belongs_to_another_user_is_refused() {
    // As root, everything can be given away; otherwise, pretend to be somebody else.
    let test = TestHome::new();
    let path = put(&test, HomeFile::KnownPeers, 0o600);
    let stranger = Uid::from_raw(54_321);
    if Uid::effective().is_root() {
        chown(Path::new(&path), Some(stranger), None).expect("given away");
        let error = test.home.read(HomeFile::KnownPeers).err().expect("refused");
        assert_eq!(
            flaw(&error),
            Flaw::ForeignOwner {
                owner: 54_321,
                user: 0
            }
        );
        chown(test.path(), Some(stranger), None).expect("given away");
        let error = Home::open(test.path()).expect_err("refused");
        assert_eq!(
            flaw(&error),
            Flaw::ForeignOwner {
                owner: 54_321,
                user: 0
            }
        );
    } else {
        let disk = FaultDisk::new(os_disk()).running_as(54_321);
        let error = Home::open_on(Arc::new(disk), test.path()).expect_err("refused");
        let owner = Uid::effective().as_raw();
        assert_eq!(
            flaw(&error),
            Flaw::ForeignOwner {
                owner,
                user: 54_321
            }
        );
    }
}

#[test]
fn what_belongs_to_root_is_relied_upon_by_everybody() {
    if !Uid::effective().is_root() {
        return left_out("only root has files of root");
    }
    let test = TestHome::new();
    put(&test, HomeFile::KnownPeers, 0o644);
    let disk = FaultDisk::new(os_disk()).running_as(54_321);
    let home = Home::open_on(Arc::new(disk), test.path()).expect("root's home");
    assert!(home.read(HomeFile::KnownPeers).is_ok());
}

#[test]
fn a_file_is_read_up_to_its_limit_and_not_one_byte_further() {
    let test = TestHome::new();
    for file in [HomeFile::Config, HomeFile::KnownPeers] {
        let limit = usize::try_from(file.limit()).expect("a size");
        fs::write(test.home.path(file), vec![b'#'; limit]).expect("a file");
        let content = test.home.read(file).expect("read").expect("there");
        assert_eq!(content.bytes.len(), limit);
        fs::write(test.home.path(file), vec![b'#'; limit + 1]).expect("a file");
        assert!(matches!(
            test.home.read(file),
            Err(StoreError::TooLarge { limit: named, .. }) if named == file.limit()
        ));
    }
}

// T65; root reads everything, so the refusal comes from the fault layer.
#[test]
fn an_unreadable_file_is_an_error_and_not_an_empty_file() {
    let test = TestHome::new();
    put(&test, HomeFile::KnownPeers, 0o600);
    let disk = FaultDisk::new(os_disk());
    let home = Home::open_on(Arc::new(disk.clone()), test.path()).expect("the home");
    for step in 0..3 {
        disk.fault_at(step, Fault::Error(nix::libc::EACCES));
        assert!(matches!(
            home.read(HomeFile::KnownPeers),
            Err(StoreError::Io { .. })
        ));
    }
}

// T71
#[test]
fn whatever_the_umask_files_are_0600_and_directories_0700() {
    for mask in [0o000, 0o077, 0o277] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a/home");
        succeeded(child("tests::homes::child_with_a_umask", &path, mask));
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(path.parent().expect("a parent")), 0o700);
        for name in names(&path) {
            let expected = if name == "identity" { 0o700 } else { 0o600 };
            assert_eq!(mode(&path.join(&name)), expected, "{name} under {mask:03o}");
        }
        for name in names(&path.join("identity")) {
            assert_eq!(mode(&path.join("identity").join(&name)), 0o600, "{name}");
        }
        assert!(names(&path).len() >= 4, "{:?}", names(&path));
    }
}

#[test]
#[ignore = "runs as a child process of whatever_the_umask_files_are_0600_and_directories_0700"]
fn child_with_a_umask() {
    let Some((path, mask)) = child_task() else {
        return;
    };
    umask(Mode::from_bits_truncate(
        u32::try_from(mask).expect("a mask"),
    ));
    let home = Home::create(&path).expect("a home");
    super::identity::establish(&home, 1).expect("an identity");
    let lock = home.lock().expect("the lock");
    home.replace(&lock, HomeFile::KnownPeers, b"x")
        .expect("a write");
    let deed = super::audit::deed("umask");
    crate::AuditLog::new(&home, "test")
        .append(&lock, &deed)
        .expect("a line");
}

/// Reads or writes a file, whichever is done with it.
fn attempt(home: &Home, file: HomeFile) -> StoreError {
    match file {
        HomeFile::Lock => home.lock().map(drop),
        HomeFile::AuditLog => crate::AuditLog::new(home, "test").tail(1).map(drop),
        file => home.read(file).map(drop),
    }
    .expect_err("refused")
}

fn put(test: &TestHome, file: HomeFile, mode: u32) -> String {
    let path = test.home.path(file);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    fs::write(&path, "content").expect("a file");
    chmod(&path, mode);
    path.display().to_string()
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("a file").mode() & 0o7777
}

fn flaw(error: &StoreError) -> Flaw {
    match error {
        StoreError::Insecure { flaw, .. } => *flaw,
        other => panic!("{other}"),
    }
}
