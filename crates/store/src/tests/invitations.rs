//! An invitation is good for one key, whatever happens.

use std::sync::Arc;
use std::time::Duration;

use super::support::{
    DAY, TestHome, child, child_task, model_home, names, node, open_on, succeeded,
};
use crate::audit::AuditLog;
use crate::error::StoreError;
use crate::fault::{Fault, FaultDisk};
use crate::home::{Home, HomeFile};
use crate::invitations::{
    Consumed, Consumption, Invitation, InvitationId, InvitationKey, Invitations, InviteError,
    InviteRefusal, KEPT_AFTER_EXPIRY, MAX_GRANTS, MAX_INVITATIONS, MAX_NAME,
};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn an_invitation_keeps_what_the_inviter_decided() {
    let test = TestHome::new();
    let invitations = Invitations::new(&test.home, "comity invite");
    let given = invitation(1);
    invitations.create(given.clone(), DAY).expect("created");
    let again = Invitations::new(&test.home, "test");
    assert_eq!(
        again.list().expect("the list"),
        std::slice::from_ref(&given)
    );
    assert_eq!(again.find(&given.id).expect("found"), Some(given));
    assert_eq!(again.find(&InvitationId([9; 16])).expect("no error"), None);
}

#[test]
fn the_first_key_may_retry_and_every_other_is_refused() {
    let test = TestHome::new();
    let invitations = Invitations::new(&test.home, "test");
    let given = invitation(1);
    invitations.create(given.clone(), DAY).expect("created");
    let at = DAY + HOUR / 2;
    let consumed = Invitation {
        consumed: Some(Consumption {
            by: node(1),
            at,
            entered: false,
        }),
        ..given.clone()
    };
    let consume = |number, now| {
        invitations
            .consume(&given.id, &node(number), now)
            .expect("no error")
    };
    assert_eq!(consume(1, at), Consumed::First(consumed.clone()));
    assert_eq!(consume(1, at + HOUR / 4), Consumed::Retry(consumed));
    let used = InviteRefusal::Used { by: node(1), at };
    assert_eq!(consume(2, at), Consumed::Refused(used));
    // A second process knows it, too.
    let again = Invitations::new(&test.home, "test");
    assert_eq!(
        again.consume(&given.id, &node(2), at).expect("no error"),
        Consumed::Refused(used)
    );
}

#[test]
fn an_invitation_is_good_until_the_second_it_expires() {
    let (_, home) = model_home();
    let invitations = Invitations::new(&home, "test");
    for (number, offset, good) in [(1, 3599, true), (2, 3600, false), (3, 3601, false)] {
        let given = invitation(number);
        invitations.create(given.clone(), DAY).expect("created");
        let now = DAY + Duration::from_secs(offset);
        let outcome = invitations
            .consume(&given.id, &node(1), now)
            .expect("no error");
        assert_eq!(matches!(outcome, Consumed::First(_)), good);
        if !good {
            let at = given.expires;
            assert_eq!(outcome, Consumed::Refused(InviteRefusal::Expired { at }));
        }
    }
    let used = invitation(1).id;
    let retry = invitations
        .consume(&used, &node(1), DAY + HOUR)
        .expect("no error");
    assert!(matches!(
        retry,
        Consumed::Refused(InviteRefusal::Expired { .. })
    ));
}

#[test]
fn an_unknown_or_withdrawn_invitation_is_refused() {
    let test = TestHome::new();
    let invitations = Invitations::new(&test.home, "test");
    let given = invitation(1);
    let unknown = Consumed::Refused(InviteRefusal::Unknown);
    assert_eq!(
        invitations
            .consume(&given.id, &node(1), DAY)
            .expect("no error"),
        unknown
    );
    invitations.create(given.clone(), DAY).expect("created");
    assert_eq!(
        invitations.withdraw(&given.id).expect("withdrawn"),
        Some(given.clone())
    );
    assert_eq!(invitations.withdraw(&given.id).expect("no error"), None);
    assert_eq!(
        invitations
            .consume(&given.id, &node(1), DAY)
            .expect("no error"),
        unknown
    );
}

#[test]
fn every_change_is_in_the_audit_log() {
    let test = TestHome::new();
    let invitations = Invitations::new(&test.home, "test");
    let given = invitation(1);
    invitations.create(given.clone(), DAY).expect("created");
    invitations
        .consume(&given.id, &node(1), DAY)
        .expect("consumed");
    invitations
        .consume(&given.id, &node(1), DAY)
        .expect("a retry");
    invitations
        .consume(&given.id, &node(2), DAY)
        .expect("a refusal");
    invitations.withdraw(&given.id).expect("withdrawn");
    let log = AuditLog::new(&test.home, "test").tail(10).expect("the log");
    let actions: Vec<_> = log.lines.iter().map(|l| l.action.as_str()).collect();
    assert_eq!(actions, ["invite", "use-invitation", "withdraw-invitation"]);
    assert!(
        log.lines
            .iter()
            .all(|l| l.detail.contains(&given.id.to_string()))
    );
    assert_eq!(log.lines[1].peer, Some(node(1).to_string()));
}

#[test]
fn the_file_holds_a_bounded_number_and_forgets_the_long_expired() {
    let (_, home) = model_home();
    let last = u32::try_from(MAX_INVITATIONS).expect("small");
    let entries: Vec<_> = (1..last).map(invitation).collect();
    let text = serde_json::json!({ "version": 1, "entries": entries }).to_string();
    let lock = home.lock().expect("the lock");
    home.replace(&lock, HomeFile::Invitations, text.as_bytes())
        .expect("written");
    drop(lock);
    let invitations = Invitations::new(&home, "test");
    invitations.create(invitation(last), DAY).expect("created");
    let one_more = invitation(u32::MAX);
    let almost = DAY + HOUR + KEPT_AFTER_EXPIRY - Duration::from_secs(1);
    for now in [DAY, almost] {
        assert!(matches!(
            invitations.create(one_more.clone(), now),
            Err(InviteError::Store(StoreError::Full {
                limit: MAX_INVITATIONS,
                ..
            }))
        ));
    }
    let end = DAY + HOUR + KEPT_AFTER_EXPIRY;
    invitations.create(one_more, end).expect("created");
    assert_eq!(invitations.list().expect("the list").len(), 1);
}

#[test]
fn the_largest_file_can_be_read_back() {
    let largest = Invitation {
        label: Some("x".repeat(MAX_NAME)),
        services: vec!["x".repeat(MAX_NAME); MAX_GRANTS],
        roles: vec!["x".repeat(MAX_NAME); MAX_GRANTS],
        networks: vec!["x".repeat(MAX_NAME); MAX_GRANTS],
        consumed: Some(Consumption {
            by: node(1),
            at: DAY,
            entered: true,
        }),
        ..invitation(1)
    };
    let size = serde_json::to_vec_pretty(&largest).expect("json").len();
    // 8 more spaces at the beginning of each of some 120 lines.
    let limit = usize::try_from(crate::HomeFile::Invitations.limit()).expect("a size");
    assert!(
        (size + 120 * 8) * MAX_INVITATIONS < limit,
        "{size} bytes each"
    );
}

#[test]
fn names_and_lists_are_limited() {
    let test = TestHome::new();
    let invitations = Invitations::new(&test.home, "test");
    let create = |number, change: &dyn Fn(&mut Invitation)| {
        let mut changed = invitation(number);
        change(&mut changed);
        invitations.create(changed, DAY)
    };
    create(1, &|i| i.label = Some("x".repeat(MAX_NAME))).expect("at the limit");
    create(2, &|i| i.roles = vec!["r".into(); MAX_GRANTS]).expect("at the limit");
    for bad in [
        "",
        "a b",
        "a\nb",
        "a\0",
        "\u{e9}",
        &"x".repeat(MAX_NAME + 1),
    ] {
        for field in [
            (|i, s| i.label = Some(s)) as fn(&mut Invitation, String),
            |i, s| i.services = vec![s],
            |i, s| i.roles = vec![s],
            |i, s| i.networks = vec![s],
        ] {
            let result = create(3, &|i| field(i, bad.to_owned()));
            assert!(matches!(result, Err(InviteError::Name { .. })), "{bad:?}");
        }
    }
    let result = create(3, &|i| i.services = vec!["s".into(); MAX_GRANTS + 1]);
    assert!(matches!(
        result,
        Err(InviteError::TooMany {
            what: "services",
            found: 33
        })
    ));
    assert!(matches!(create(1, &|_| ()), Err(InviteError::Duplicate(_))));
}

#[test]
fn a_retry_tells_whether_its_node_was_entered_already() {
    let test = TestHome::new();
    let invitations = Invitations::new(&test.home, "test");
    let id = invitation(1).id;
    invitations.create(invitation(1), DAY).expect("created");
    invitations.consume(&id, &node(1), DAY).expect("consumed");
    // Only for the node that used it; for others, and without an invitation, nothing happens.
    invitations.settle(&id, &node(2)).expect("no error");
    invitations
        .settle(&invitation(2).id, &node(1))
        .expect("no error");
    let entered = || match invitations.consume(&id, &node(1), DAY) {
        Ok(Consumed::Retry(invitation)) => invitation.consumed.expect("used").entered,
        other => panic!("{other:?}"),
    };
    assert!(!entered());
    invitations.settle(&id, &node(1)).expect("written");
    assert!(entered());
}

// T69
#[test]
fn power_loss_while_an_invitation_is_used_never_lets_two_nodes_in() {
    for step in 0..64 {
        let (disk, home) = model_home();
        let given = invitation(1);
        Invitations::new(&home, "test")
            .create(given.clone(), DAY)
            .expect("created");
        let faulty = FaultDisk::new(Arc::new(disk.clone()));
        let stopping = Invitations::new(&open_on(faulty.clone()), "test");
        faulty.fault_at(step, Fault::Stop);
        let told = matches!(
            stopping.consume(&given.id, &node(1), DAY),
            Ok(Consumed::First(_))
        );
        for found in disk.after_power_loss() {
            let invitations = Invitations::new(&open_on(found), "test");
            let other = invitations
                .consume(&given.id, &node(2), DAY)
                .expect("no error");
            if told {
                assert!(matches!(other, Consumed::Refused(_)), "two nodes are in");
            }
        }
    }
}

#[test]
fn of_many_processes_that_use_one_invitation_one_is_the_first() {
    let test = TestHome::new();
    Invitations::new(&test.home, "test")
        .create(invitation(1), DAY)
        .expect("created");
    let children: Vec<_> = (1..=8)
        .map(|n| child("tests::invitations::child_that_joins", test.path(), n))
        .collect();
    children.into_iter().for_each(succeeded);
    let joined = names(test.path())
        .into_iter()
        .filter(|n| n.starts_with("joined-"));
    assert_eq!(joined.count(), 1);
}

#[test]
#[ignore = "runs as a child process of of_many_processes_that_use_one_invitation"]
fn child_that_joins() {
    let Some((path, number)) = child_task() else {
        return;
    };
    let home = Home::open(&path).expect("the home");
    let invitations = Invitations::new(&home, "test");
    let number = u32::try_from(number).expect("small");
    let outcome = invitations
        .consume(&invitation(1).id, &node(number), DAY)
        .expect("no error");
    match outcome {
        Consumed::First(_) => {
            std::fs::write(path.join(format!("joined-{number}")), "").expect("a file");
        }
        other => assert!(matches!(
            other,
            Consumed::Refused(InviteRefusal::Used { .. })
        )),
    }
}

#[test]
fn ids_and_keys_are_read_back() {
    let id = InvitationId([0xab; 16]);
    assert_eq!(id.to_string().parse(), Ok(id));
    let key = InvitationKey([0xcd; 32]);
    assert_eq!(key.to_string().parse(), Ok(key));
    for bad in [
        "",
        "ab",
        &"AB".repeat(16),
        &"ab".repeat(17),
        &"zz".repeat(16),
    ] {
        assert!(bad.parse::<InvitationId>().is_err(), "{bad}");
    }
}

fn invitation(number: u32) -> Invitation {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    Invitation {
        id: InvitationId(id),
        key: InvitationKey([7; 32]),
        label: Some("ops-db".into()),
        services: vec!["ssh".into()],
        roles: vec!["backup".into()],
        networks: vec!["north".into()],
        network_id: None,
        created: DAY,
        expires: DAY + HOUR,
        consumed: None,
    }
}
