//! Power cuts, full disks and other processes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use comity_identity::UnixTime;
use comity_record::Bundle;
use comity_store::fault::{Fault, FaultDisk, ModelDisk};
use comity_store::{Home, NetworkStore};

use super::world::{
    DAY, HOUR, MODEL_HOME, NOW, Node, World, admission, model, network, open, open_on, signer,
};
use crate::{Authority, AuthorityError, KeyOrder, MemberState, NewAuthority, Selector};

/// Of many disks that a power cut may leave, so many are looked at.
const LOOKED_AT: usize = 3;

#[test]
fn power_loss_at_every_step_of_founding_leaves_no_authority_or_one_that_works() {
    let found = |home: &Home| {
        let new = NewAuthority::named("example");
        Authority::create(home, &new, signer(), NOW, "test")
    };
    let ready = || {
        let disk = ModelDisk::new();
        let path = PathBuf::from(MODEL_HOME);
        Home::create_on(Arc::new(disk.clone()), &path).expect("a home");
        let faulty = FaultDisk::new(Arc::new(disk.clone()));
        let home = open_on(faulty.clone());
        faulty.heal();
        (disk, faulty, home)
    };
    let steps = {
        let (_, counting, home) = ready();
        found(&home).expect("founded");
        counting.calls().len()
    };
    for step in (0..=steps).step_by(3) {
        let (disk, faulty, home) = ready();
        faulty.fault_at(step, Fault::Stop);
        let acknowledged = found(&home).is_ok();
        for disk in some(disk.after_power_loss()) {
            let home = open_on(disk);
            if Authority::list(&home).expect("a list").is_empty() {
                assert!(!acknowledged, "acknowledged and lost at {step}");
                found(&home).expect("it goes on");
            }
            let mut authority = open(&home);
            authority.refresh(NOW + DAY).expect("it works");
            let networks = NetworkStore::new(&home, "test")
                .networks()
                .expect("networks");
            assert!(networks.get(&network()).is_some(), "step {step}");
        }
    }
}

#[test]
fn power_loss_at_every_step_of_admitting_loses_no_member_that_was_told() {
    let node = Node::new();
    each_step(
        |authority| {
            let grant = authority.certify(&node.root, &admission("one"), NOW + HOUR)?;
            Ok(Some(grant.serial))
        },
        |authority, acknowledged| {
            if let Some(Some(serial)) = acknowledged {
                let found = authority.find(&Selector::Serial(serial)).expect("found");
                assert!(!found[0].der.is_empty(), "acknowledged and lost");
            }
            let grant = authority.certify(&node.root, &admission("one"), NOW + HOUR);
            node.path(&grant.expect("it goes on"), NOW + HOUR);
        },
    );
}

#[test]
fn power_loss_at_every_step_of_a_withdrawal_never_takes_it_back() {
    let node = Node::new();
    each_step_after(
        |authority| {
            authority
                .certify(&node.root, &admission("one"), NOW)
                .expect("a grant");
        },
        |authority| authority.withdraw(&Selector::Key(node.hash()), "left", NOW + HOUR),
        |authority, acknowledged| {
            let bundle = authority.bundle().expect("a bundle").clone();
            if acknowledged.is_some() {
                assert_eq!(
                    bundle.withdrawn().len(),
                    1,
                    "acknowledged and not published"
                );
            }
            // Once a withdrawal is on the disk it is completed, whatever was cut off.
            let members = authority.members(NOW + HOUR).expect("members");
            let bundle = authority.bundle().expect("a bundle");
            match members[0].state {
                MemberState::Withdrawn => {
                    assert_eq!(bundle.withdrawn().len(), 1);
                    let networks = authority.networks.networks().expect("networks");
                    let known = networks.get(&network()).expect("there");
                    assert_eq!(known.bundle.withdrawn().len(), 1, "this machine knows");
                }
                _ => {
                    let selector = Selector::Key(node.hash());
                    authority
                        .withdraw(&selector, "left", NOW + HOUR)
                        .expect("it goes on");
                }
            }
        },
    );
}

#[test]
fn power_loss_at_every_step_of_rolling_a_key_leaves_one_that_signs() {
    let node = Node::new();
    each_step(
        |authority| authority.roll_issuing(signer(), &KeyOrder::default(), DAY, NOW + HOUR),
        |authority, acknowledged| {
            if let Some(key) = acknowledged {
                assert!(
                    authority.charter().key(&key).is_some(),
                    "acknowledged and lost"
                );
            }
            let grant = authority.certify(&node.root, &admission("one"), NOW + HOUR * 2);
            node.path(&grant.expect("a key that signs"), NOW + HOUR * 2);
            authority
                .roll_issuing(signer(), &KeyOrder::default(), DAY, NOW + HOUR * 3)
                .expect("it goes on");
        },
    );
}

#[test]
fn power_loss_at_every_step_of_rolling_the_root_leaves_a_root_that_goes_on() {
    let new = super::world::key();
    each_step(
        |authority| authority.roll_root(signer(), &new, DAY * 30, NOW + HOUR),
        |authority, acknowledged| {
            let rolled = authority.charter().keys().len() == 3;
            assert!(rolled || acknowledged.is_none(), "acknowledged and lost");
            if !rolled {
                let again = authority.roll_root(signer(), &new, DAY * 30, NOW + HOUR * 2);
                again.expect("it goes on");
            }
            authority
                .announce_key(&new, &KeyOrder::default(), NOW + HOUR * 3)
                .expect("the new root signs");
        },
    );
}

#[test]
fn an_error_at_every_step_of_a_withdrawal_is_said_and_the_next_refresh_completes_it() {
    let node = Node::new();
    let prepare = || {
        let (disk, home) = model();
        open(&home)
            .certify(&node.root, &admission("one"), NOW)
            .expect("a grant");
        let faulty = FaultDisk::new(Arc::new(disk.clone()));
        let home = open_on(faulty.clone());
        let authority = open(&home);
        faulty.heal();
        (disk, faulty, authority)
    };
    let withdraw = |authority: &mut Authority| {
        authority.withdraw(&Selector::Key(node.hash()), "left", NOW + HOUR)
    };
    let steps = {
        let (_, counting, mut authority) = prepare();
        withdraw(&mut authority).expect("withdrawn");
        counting.calls().len()
    };
    for step in 0..steps {
        let (disk, faulty, mut authority) = prepare();
        faulty.fault_at(step, Fault::Error(28));
        let acknowledged = withdraw(&mut authority).is_ok();
        drop(authority);
        let mut authority = open(&open_on(disk));
        authority.refresh(NOW + HOUR).expect("completed");
        let withdrawn = authority.bundle().expect("a bundle").withdrawn().len();
        assert!(withdrawn == 1 || !acknowledged, "step {step}");
    }
}

#[test]
fn an_error_at_every_step_of_rolling_the_root_says_whether_it_is_done() {
    let new = super::world::key();
    let ready = || {
        let (disk, _) = model();
        let faulty = FaultDisk::new(Arc::new(disk.clone()));
        let authority = open(&open_on(faulty.clone()));
        faulty.heal();
        (disk, faulty, authority)
    };
    let roll = |authority: &mut Authority| authority.roll_root(signer(), &new, DAY, NOW + HOUR);
    let steps = {
        let (_, counting, mut authority) = ready();
        roll(&mut authority).expect("rolled");
        counting.calls().len()
    };
    let mut unfinished = 0;
    for step in 0..steps {
        let (disk, faulty, mut authority) = ready();
        faulty.fault_at(step, Fault::Error(28));
        let said = roll(&mut authority).map(drop);
        drop(authority);
        let mut authority = open(&open_on(disk));
        let rolled = authority.charter().keys().len() == 3;
        let is_done = matches!(said, Ok(()) | Err(AuthorityError::Unfinished { .. }));
        assert_eq!(is_done, rolled, "step {step}: {said:?}");
        unfinished += usize::from(said.is_err() && rolled);
        authority.refresh(NOW + HOUR).expect("completed");
        let networks = authority.networks.networks().expect("networks");
        let known = networks.get(&network()).expect("there");
        assert_eq!(
            known.bundle.charter().keys().len() == 3,
            rolled,
            "step {step}"
        );
    }
    assert!(
        unfinished > 0,
        "the home's own copy is made after the state"
    );
}

#[test]
fn a_state_from_an_old_copy_never_says_a_second_thing_under_an_old_number() {
    let mut world = World::new();
    let old = world.authority.files().state().expect("a state");
    let node = Node::new();
    world
        .authority
        .certify(&node.root, &admission("one"), NOW)
        .expect("a grant");
    // Published in the future, as seen from the copy.
    let selector = Selector::Key(node.hash());
    world
        .authority
        .withdraw(&selector, "left", NOW + DAY)
        .expect("withdrawn");
    let published = world.authority.bundle().expect("a bundle").clone();
    let restore = |bytes: &[u8]| {
        let lock = world.home.lock().expect("the lock");
        world
            .authority
            .files()
            .replace_state(&lock, bytes)
            .expect("restored");
    };
    restore(&old);
    let mut copy = world.again();
    copy.refresh(NOW).expect("completed");
    copy.set_locations(Vec::new(), NOW).expect("a change");
    let bundle = copy.bundle().expect("a bundle");
    assert!(bundle.sequence() > published.sequence());
    assert_eq!(
        bundle.withdrawn(),
        published.withdrawn(),
        "what was withdrawn is known from here"
    );

    // Its keys are another matter: the root may have revoked one of them.
    copy.announce_key(signer(), &KeyOrder::default(), NOW + DAY * 2)
        .expect("announced");
    restore(&old);
    assert!(matches!(
        Authority::open(&world.home, network(), "test"),
        Err(AuthorityError::OldCopy { .. })
    ));
}

#[test]
fn two_processes_that_admit_at_once_never_share_a_serial_number() {
    let mut world = World::new();
    let children: Vec<Child> = (0..2).map(|n| child(&world.home, n)).collect();
    for child in children {
        let output = child.wait_with_output().expect("a child process");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
    }
    let members = world.authority.members(NOW).expect("members");
    assert_eq!(members.len(), 2 * PER_CHILD);
    let mut serials: Vec<_> = members.iter().map(|member| member.serial).collect();
    serials.sort_unstable();
    serials.dedup();
    assert_eq!(serials.len(), 2 * PER_CHILD);
    // Each also withdrew one of its own: neither forgot the other's.
    let bundle = world.authority.bundle().expect("a bundle");
    assert_eq!(bundle.withdrawn().len(), 2);
}

const PER_CHILD: usize = 8;
const CHILD_HOME: &str = "COMITY_AUTHORITY_TEST_HOME";
const CHILD_NUMBER: &str = "COMITY_AUTHORITY_TEST_NUMBER";

fn child(home: &Home, number: usize) -> Child {
    let name = "tests::crashes::child_that_admits";
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", name, "--ignored", "--test-threads=1"])
        .env(CHILD_HOME, home.root())
        .env(CHILD_NUMBER, number.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a child process")
}

#[test]
#[ignore = "runs as a child process of two_processes_that_admit_at_once"]
fn child_that_admits() {
    let (Some(path), Ok(child)) = (std::env::var_os(CHILD_HOME), std::env::var(CHILD_NUMBER))
    else {
        return;
    };
    let home = Home::open(&PathBuf::from(path)).expect("the home");
    let network = Authority::list(&home).expect("a list")[0];
    let mut authority = Authority::open(&home, network, "test").expect("the authority");
    for number in 0..PER_CHILD {
        let label = format!("c{child}-{number}");
        let root = Node::new().root;
        authority
            .certify(&root, &admission(&label), NOW)
            .expect("a grant");
    }
    let first = Selector::Label(format!("c{child}-0"));
    authority.withdraw(&first, "left", NOW).expect("withdrawn");
}

/// Stops `act` at every step and cuts the power; `check` then looks at what is left, and whether
/// it was acknowledged.
fn each_step<R>(
    act: impl Fn(&mut Authority) -> Result<R, AuthorityError>,
    check: impl Fn(&mut Authority, Option<R>),
) where
    R: Clone,
{
    each_step_after(|_| {}, act, check);
}

fn each_step_after<R: Clone>(
    prepare: impl Fn(&mut Authority),
    act: impl Fn(&mut Authority) -> Result<R, AuthorityError>,
    check: impl Fn(&mut Authority, Option<R>),
) {
    let (before, home) = model();
    prepare(&mut open(&home));
    let ready = || {
        let disk = before.after_power_loss().pop().expect("everything");
        let faulty = FaultDisk::new(Arc::new(disk.clone()));
        let authority = open(&open_on(faulty.clone()));
        faulty.heal();
        (disk, faulty, authority)
    };
    let steps = {
        let (_, counting, mut authority) = ready();
        act(&mut authority).expect("done");
        counting.calls().len()
    };
    for step in 0..=steps {
        let (disk, faulty, mut authority) = ready();
        faulty.fault_at(step, Fault::Stop);
        let acknowledged = act(&mut authority).ok();
        let told: Option<Bundle> = acknowledged.as_ref().and(authority.bundle().cloned());
        drop(authority);
        for found in some(disk.after_power_loss()) {
            let mut authority = open(&open_on(found));
            refresh(&mut authority, NOW + HOUR, told.as_ref());
            check(&mut authority, acknowledged.clone());
        }
    }
}

/// What the next process does first. What was told never becomes something else under its number.
fn refresh(authority: &mut Authority, now: UnixTime, told: Option<&Bundle>) {
    authority.refresh(now).expect("completed");
    let Some(told) = told else { return };
    let now = authority.bundle().expect("a bundle");
    let mut known: HashMap<u64, [u8; 32]> = HashMap::new();
    for bundle in [told, now] {
        let digest = *known.entry(bundle.sequence()).or_insert(bundle.digest());
        assert_eq!(digest, bundle.digest(), "one number, two bundles");
    }
    assert!(now.sequence() >= told.sequence());
}

/// Some of many, the first and the last among them.
fn some(mut disks: Vec<ModelDisk>) -> Vec<ModelDisk> {
    let last = disks.pop();
    let every = disks.len().div_ceil(LOOKED_AT).max(1);
    disks.into_iter().step_by(every).chain(last).collect()
}
