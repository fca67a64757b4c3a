//! The queue keeps what matters in a flood, and costs little.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use comity_identity::UnixTime;

use super::support::{DAY, TestHome, model_home, open_on, peer};
use crate::audit::AuditLog;
use crate::disk::Access;
use crate::error::StoreError;
use crate::fault::{Call, FaultDisk};
use crate::home::{Home, HomeFile};
use crate::pending::{
    Asked, CROWDED, CROWDED_LIFETIME, Knock, LIFETIME, MAX_DENIED, MAX_PER_NETWORK, MAX_PER_PREFIX,
    MAX_WAITING, Pending, PendingRequest, REPEAT_AFTER,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_stranger_is_queued_with_what_it_claims() {
    let test = TestHome::new();
    let queue = Pending::new(&test.home, "test");
    let knock = Knock {
        label: Some("ops\n\u{202e}db"),
        service: Some("ssh"),
        ..knock(1, "::ffff:192.0.2.1")
    };
    assert_eq!(queue.ask(&knock, DAY).expect("asked"), Asked::Queued);
    let requests = queue.list(DAY).expect("the queue");
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!(request.peer, peer(1));
    assert_eq!(request.claimed_label.as_deref(), Some("ops\\n\\u{202e}db"));
    assert_eq!(request.service.as_deref(), Some("ssh"));
    assert_eq!(request.address, address("192.0.2.1"));
    assert_eq!(
        (request.first_seen, request.last_seen, request.count),
        (DAY, DAY, 1)
    );
    // It survives the process.
    assert_eq!(
        Pending::new(&test.home, "test")
            .list(DAY)
            .expect("the queue"),
        requests
    );
}

#[test]
fn a_repeated_request_is_written_once_a_minute_and_costs_no_lock_in_between() {
    let (disk, _) = model_home();
    let counting = FaultDisk::new(Arc::new(disk));
    let home = open_on(counting.clone());
    let queue = Pending::new(&home, "test");
    queue.ask(&knock(1, "192.0.2.1"), DAY).expect("asked");
    counting.heal();
    for second in 0..60 {
        let now = DAY + second * SECOND;
        assert_eq!(
            queue.ask(&knock(1, "192.0.2.9"), now).expect("asked"),
            Asked::Waiting
        );
    }
    let calls = counting.calls();
    assert!(
        !calls.contains(&Call::Lock) && !calls.iter().any(|c| c.changes()),
        "{calls:?}"
    );
    let later = DAY + REPEAT_AFTER;
    assert_eq!(
        queue.ask(&knock(1, "192.0.2.9"), later).expect("asked"),
        Asked::Waiting
    );
    assert_eq!(
        counting
            .calls()
            .iter()
            .filter(|c| **c == Call::Rename)
            .count(),
        1
    );
    let request = &queue.list(later).expect("the queue")[0];
    assert_eq!(
        (request.first_seen, request.last_seen, request.count),
        (DAY, later, 2)
    );
    assert_eq!(
        request.address,
        address("192.0.2.1"),
        "where it came from first"
    );
}

#[test]
fn a_clock_that_goes_back_writes_nothing() {
    let test = TestHome::new();
    let queue = Pending::new(&test.home, "test");
    queue.ask(&knock(1, "192.0.2.1"), DAY).expect("asked");
    let before = queue.list(DAY).expect("the queue");
    let earlier = DAY - LIFETIME;
    assert_eq!(
        queue.ask(&knock(1, "192.0.2.1"), earlier).expect("asked"),
        Asked::Waiting
    );
    assert_eq!(queue.list(DAY).expect("the queue"), before);
}

#[test]
fn a_full_queue_refuses_the_new_and_keeps_the_old() {
    let (_, home) = model_home();
    let queue = Pending::new(&home, "test");
    for number in 0..MAX_WAITING {
        assert_eq!(
            ask_from_own_prefix(&queue, number),
            Asked::Queued,
            "{number}"
        );
    }
    assert_eq!(ask_from_own_prefix(&queue, MAX_WAITING), Asked::QueueFull);
    assert_eq!(ask_from_own_prefix(&queue, 0), Asked::Waiting);
    assert_eq!(queue.list(DAY).expect("the queue").len(), MAX_WAITING);
    // A place that becomes free is given away again.
    queue
        .remove(&peer(7))
        .expect("removed")
        .expect("it was there");
    assert_eq!(ask_from_own_prefix(&queue, MAX_WAITING), Asked::Queued);
}

#[test]
fn a_refusal_for_lack_of_room_costs_no_lock_and_no_write() {
    let (disk, _) = model_home();
    let counting = FaultDisk::new(Arc::new(disk));
    let home = open_on(counting.clone());
    fill(&home, MAX_WAITING, false);
    let queue = Pending::new(&home, "test");
    counting.heal();
    assert_eq!(ask_from_own_prefix(&queue, MAX_WAITING), Asked::QueueFull);
    assert!(
        !counting
            .calls()
            .iter()
            .any(|c| c.changes() || *c == Call::Lock)
    );
}

#[test]
fn a_flood_of_knocks_reads_a_queue_that_was_just_written_a_few_times_and_then_never() {
    let (disk, _) = model_home();
    let counting = FaultDisk::new(Arc::new(disk.clone()));
    let home = open_on(counting.clone());
    fill(&home, MAX_WAITING - 1, false);
    let queue = Pending::new(&home, "test");
    assert_eq!(ask_from_own_prefix(&queue, MAX_WAITING), Asked::Queued);
    let reads_of = |knocks: usize| {
        counting.heal();
        for number in 0..knocks {
            let asked = ask_from_own_prefix(&queue, MAX_WAITING + 1 + number);
            assert_eq!(asked, Asked::QueueFull);
        }
        let opened = Call::Open(Access::Read);
        counting.calls().iter().filter(|c| **c == opened).count()
    };
    assert_eq!(reads_of(500), 0, "what was written need not be read");
    for _ in 0..9 {
        counting.pass(Duration::from_millis(200));
        assert_eq!(reads_of(100), 1);
    }
    counting.pass(Duration::from_millis(200));
    assert_eq!(reads_of(100), 1, "two seconds after the change");
    for _ in 0..10 {
        counting.pass(SECOND);
        assert_eq!(reads_of(100), 0);
    }
    // What another process does is seen.
    let other = Pending::new(&open_on(disk), "test");
    other.remove(&peer(7)).expect("removed").expect("it waits");
    assert_eq!(ask_from_own_prefix(&queue, MAX_WAITING + 1), Asked::Queued);
}

#[test]
fn a_flood_of_knocks_reads_a_damaged_queue_no_more_often_than_a_good_one() {
    let (disk, home) = model_home();
    disk.put(&home.path(HomeFile::Pending), b"{")
        .expect("edited");
    let counting = FaultDisk::new(Arc::new(disk));
    let queue = Pending::new(&open_on(counting.clone()), "test");
    counting.heal();
    for _ in 0..100 {
        queue.ask(&knock(1, "192.0.2.1"), DAY).expect_err("damaged");
    }
    let opened = Call::Open(Access::Read);
    let reads = counting.calls().iter().filter(|c| **c == opened).count();
    assert_eq!(reads, 1);
}

#[test]
fn one_prefix_cannot_take_the_whole_queue() {
    for (inside, outside) in [("192.0.2", "192.0.3.1"), ("2001:db8:0:1:", "2001:db8:1::1")] {
        let (_, home) = model_home();
        let queue = Pending::new(&home, "test");
        let separator = if inside.contains(':') { ":" } else { "." };
        for number in 0..=MAX_PER_PREFIX {
            let from = format!("{inside}{separator}{number}");
            let expected = if number < MAX_PER_PREFIX {
                Asked::Queued
            } else {
                Asked::PrefixFull
            };
            let number = u32::try_from(number).expect("small");
            assert_eq!(
                queue.ask(&knock(number, &from), DAY).expect("asked"),
                expected
            );
        }
        let other = knock(1000, outside);
        assert_eq!(queue.ask(&other, DAY).expect("asked"), Asked::Queued);
    }
}

#[test]
fn one_network_cannot_take_the_whole_queue_with_many_prefixes() {
    let v4 = |n: usize| format!("198.51.{n}.1");
    let v6 = |n: usize| format!("2001:db8:{n:x}::1");
    let places: [(&dyn Fn(usize) -> String, &str); 2] = [(&v4, "198.52.0.1"), (&v6, "2001:db9::1")];
    for (inside, outside) in places {
        let (_, home) = model_home();
        let queue = Pending::new(&home, "test");
        let ask = |number: usize, from: &str| {
            let number = u32::try_from(number).expect("small");
            queue.ask(&knock(number, from), DAY).expect("asked")
        };
        for number in 0..MAX_PER_NETWORK {
            assert_eq!(ask(number, &inside(number)), Asked::Queued, "{number}");
        }
        let next = MAX_PER_NETWORK;
        assert_eq!(ask(next, &inside(next)), Asked::PrefixFull);
        assert_eq!(ask(0, &inside(0)), Asked::Waiting);
        assert_eq!(ask(next, outside), Asked::Queued);
    }
}

#[test]
fn a_crowded_queue_makes_room_after_a_day_and_never_before() {
    for (waiting, makes_room) in [(CROWDED - 1, false), (CROWDED, true), (MAX_WAITING, true)] {
        let (_, home) = model_home();
        fill(&home, waiting, false);
        let queue = Pending::new(&home, "test");
        let day_after = DAY + CROWDED_LIFETIME;
        let last_second = day_after - SECOND;
        let peers = |now| -> Vec<_> {
            let list = queue.list(now).expect("the queue").into_iter();
            list.map(|request| request.peer).collect()
        };
        // The first of them comes back.
        assert_eq!(ask_at(&queue, 0, last_second), Asked::Waiting);
        let expected = if waiting < MAX_WAITING {
            Asked::Queued
        } else {
            Asked::QueueFull
        };
        assert_eq!(ask_at(&queue, 1000, last_second), expected);
        queue.remove(&peer(1000)).expect("no error");
        assert_eq!(peers(last_second).len(), waiting, "nobody had to go");

        assert_eq!(ask_at(&queue, 1001, day_after), Asked::Queued);
        let after = peers(day_after);
        assert_eq!(after.len(), waiting + usize::from(!makes_room));
        assert!(after.contains(&peer(0)), "whoever comes back stays longest");
        assert_eq!(after.contains(&peer(1)), !makes_room);
        assert!(after.contains(&peer(2)));
    }
}

#[test]
fn a_flood_that_lasts_never_pushes_out_a_request_within_its_first_day() {
    let (_, home) = model_home();
    let queue = Pending::new(&home, "test");
    fill(&home, MAX_WAITING - 1, false);
    let start = DAY + 2 * CROWDED_LIFETIME;
    assert_eq!(ask_at(&queue, 5000, start), Asked::Queued);
    let end = start + CROWDED_LIFETIME - SECOND;
    for number in 0..2 * MAX_WAITING {
        ask_at(&queue, 1000 + number, end);
    }
    assert_eq!(queue.list(end).expect("the queue").len(), MAX_WAITING);
    assert_eq!(ask_at(&queue, 5000, end), Asked::Waiting);
    assert_eq!(ask_at(&queue, 4999, end), Asked::QueueFull);
}

#[test]
fn whoever_has_no_share_left_makes_nobody_go() {
    let (_, home) = model_home();
    fill(&home, MAX_WAITING, false);
    let queue = Pending::new(&home, "test");
    let later = DAY + CROWDED_LIFETIME;
    // From a /24 with one request, in turn; then its share is used up.
    for number in 0..=MAX_PER_PREFIX {
        let expected = if number < MAX_PER_PREFIX {
            Asked::Queued
        } else {
            Asked::PrefixFull
        };
        let from = format!("203.0.113.{number}");
        let number = u32::try_from(1000 + number).expect("small");
        assert_eq!(
            queue.ask(&knock(number, &from), later).expect("asked"),
            expected
        );
    }
    let left = queue.list(later).expect("the queue");
    let old = left.iter().filter(|r| r.first_seen == DAY).count();
    assert_eq!(old, MAX_WAITING - MAX_PER_PREFIX);
}

#[test]
fn a_request_ends_after_a_week_however_often_it_is_repeated() {
    let test = TestHome::new();
    let queue = Pending::new(&test.home, "test");
    queue.ask(&knock(1, "192.0.2.1"), DAY).expect("asked");
    let last = DAY + LIFETIME - SECOND;
    queue.ask(&knock(1, "192.0.2.1"), last).expect("asked");
    assert_eq!(queue.list(last).expect("the queue").len(), 1);
    let end = DAY + LIFETIME;
    assert!(queue.list(end).expect("the queue").is_empty());
    assert_eq!(
        queue.ask(&knock(1, "192.0.2.1"), end).expect("asked"),
        Asked::Queued
    );
    assert_eq!(queue.list(end).expect("the queue")[0].first_seen, end);
}

#[test]
fn whoever_was_denied_leaves_the_list_and_does_not_come_back() {
    let test = TestHome::new();
    let queue = Pending::new(&test.home, "comity trust deny");
    queue.ask(&knock(1, "192.0.2.1"), DAY).expect("asked");
    assert!(queue.deny(&peer(1), DAY).expect("denied").is_some());
    assert!(
        queue.deny(&peer(1), DAY).expect("no error").is_none(),
        "once"
    );
    assert!(
        queue.deny(&peer(2), DAY).expect("no error").is_none(),
        "never asked"
    );
    assert!(queue.list(DAY).expect("the queue").is_empty());
    assert_eq!(
        queue.ask(&knock(1, "192.0.2.1"), DAY).expect("asked"),
        Asked::Denied
    );
    let log = AuditLog::new(&test.home, "test").tail(10).expect("the log");
    assert_eq!(log.lines.len(), 1);
    assert_eq!(log.lines[0].action, "deny");
    // Until the operator changes their mind, or a week has passed.
    let end = DAY + LIFETIME;
    assert_eq!(
        queue.ask(&knock(1, "192.0.2.1"), end).expect("asked"),
        Asked::Queued
    );
}

#[test]
fn refusals_take_no_place_in_the_queue_and_are_bounded() {
    let (_, home) = model_home();
    fill(&home, MAX_DENIED, true);
    let queue = Pending::new(&home, "test");
    assert_eq!(ask_from_own_prefix(&queue, 0), Asked::Denied);
    assert_eq!(ask_from_own_prefix(&queue, MAX_DENIED), Asked::Queued);
    let id = peer(u32::try_from(MAX_DENIED).expect("small"));
    queue.deny(&id, DAY).expect("denied").expect("it was there");
    assert_eq!(ask_from_own_prefix(&queue, MAX_DENIED), Asked::Denied);
    assert_eq!(ask_from_own_prefix(&queue, 1), Asked::Denied);
    assert_eq!(
        ask_from_own_prefix(&queue, 0),
        Asked::Queued,
        "the oldest is forgotten"
    );
}

#[test]
fn a_damaged_queue_is_refused_and_named() {
    let request = serde_json::to_string(&request(1, false)).expect("json");
    let with = |entry: &str| format!("{{\"version\":1,\"entries\":[{entry}]}}");
    assert!(damage(&with(&request)).is_none(), "this one is good");
    for content in [
        String::new(),
        "{".to_owned(),
        "\0".repeat(1000),
        "[".repeat(100_000),
        "{\"version\":2,\"entries\":[]}".to_owned(),
        "{\"version\":1,\"entries\":[],\"x\":1}".to_owned(),
        with(&request.replace("\"count\":1", "\"count\":-1")),
        with(&request.replace("2026-03-01", "2026-13-01")),
        with(&request.replace("10.0.1.1", "10.0.1")),
        with(&request.replacen('}', ",\"unknown\":1}", 1)),
        with(&request[..request.len() / 2]),
    ] {
        let error = damage(&content).unwrap_or_else(|| panic!("accepted: {content:.80}"));
        assert!(matches!(error, StoreError::Damaged { path, .. } if path.ends_with("pending")));
    }
}

#[test]
fn a_damaged_queue_is_described_in_a_short_line_without_control_characters() {
    for field in [
        "\u{7f}\u{85}entries",
        "\u{1b}[2J\u{202e}",
        &"x".repeat(100_000),
    ] {
        let content = format!(
            "{{\"version\":1,\"{}\":[]}}",
            field.replace('\u{1b}', "\\u001b")
        );
        let message = damage(&content).expect("no such field").to_string();
        assert!(
            message.chars().all(|c| matches!(c, ' '..='~')),
            "{message:?}"
        );
        assert!(message.contains("unknown field"), "{message}");
        assert!(message.len() < 1000, "{} bytes", message.len());
    }
}

/// What is wrong with this content.
fn damage(content: &str) -> Option<StoreError> {
    let test = TestHome::new();
    std::fs::write(test.home.path(HomeFile::Pending), content).expect("a file");
    let queue = Pending::new(&test.home, "test");
    queue.ask(&knock(1, "192.0.2.1"), DAY).err()
}

#[test]
fn the_largest_queue_can_be_read_back() {
    let test = TestHome::new();
    let queue = Pending::new(&test.home, "test");
    let worst = "\u{10ffff}".repeat(1000);
    let knock = Knock {
        label: Some(&worst),
        service: Some(&worst),
        ..knock(1, "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")
    };
    assert_eq!(queue.ask(&knock, DAY).expect("asked"), Asked::Queued);
    let path = test.home.path(HomeFile::Pending);
    let size = std::fs::metadata(path).expect("a file").len();
    let largest = size * (MAX_WAITING + MAX_DENIED) as u64;
    assert!(largest < HomeFile::Pending.limit(), "{size} bytes each");
}

/// Puts requests from as many prefixes into the queue at once.
fn fill(home: &Home, count: usize, denied: bool) {
    let entries: Vec<_> = (0..count).map(|n| request(n, denied)).collect();
    let text = serde_json::json!({ "version": 1, "entries": entries }).to_string();
    let lock = home.lock().expect("the lock");
    home.replace(&lock, HomeFile::Pending, text.as_bytes())
        .expect("written");
}

fn request(number: usize, denied: bool) -> PendingRequest {
    PendingRequest {
        peer: peer(u32::try_from(number).expect("small")),
        claimed_label: None,
        service: None,
        address: address(&own_prefix(number)),
        first_seen: DAY,
        last_seen: DAY,
        count: 1,
        denied,
    }
}

fn knock(number: u32, from: &str) -> Knock<'static> {
    Knock {
        peer: peer(number),
        label: None,
        address: address(from),
        service: None,
    }
}

fn ask_from_own_prefix(queue: &Pending, number: usize) -> Asked {
    ask_at(queue, number, DAY)
}

fn ask_at(queue: &Pending, number: usize, now: UnixTime) -> Asked {
    let from = own_prefix(number);
    let number = u32::try_from(number).expect("small");
    queue.ask(&knock(number, &from), now).expect("asked")
}

fn own_prefix(number: usize) -> String {
    format!("10.{}.{}.1", number / 32, number % 32)
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
