//! The state file.

use comity_record::limits::MAX_LOCATIONS;

use super::world::{NOW, Node, World, admission};
use crate::{Selector, check_state};

#[test]
fn a_state_is_read_back_as_it_was_written() {
    let mut world = World::new();
    let node = Node::new();
    world
        .authority
        .certify(&node.root, &admission("one"), NOW)
        .expect("a grant");
    world
        .authority
        .withdraw(&Selector::Key(node.hash()), "left", NOW)
        .expect("withdrawn");
    world
        .authority
        .withdraw_key(&node.hash(), "stolen", NOW)
        .expect("withdrawn");
    let location = "https://ca.example/bundle".parse().expect("a location");
    world
        .authority
        .set_locations(vec![location], NOW)
        .expect("changed");
    let text = world.authority.files().state().expect("a state");
    check_state(&text).expect("our own writing");
    let again = world.again();
    assert_eq!(again.state, world.authority.state);
    assert_eq!(again.state.encode().expect("text"), text.to_vec());
}

#[test]
fn what_is_not_understood_in_a_state_refuses_it() {
    let world = World::new();
    let text = world.authority.files().state().expect("a state");
    let text = String::from_utf8(text.to_vec()).expect("text");
    let sequence = format!("\"sequence\": {}", NOW.as_secs());
    for (from, to) in [
        ("\"version\": 1", "\"version\": 2"),
        ("\"name\": \"example\"", "\"name\": \"Example\""),
        ("\"name\"", "\"nickname\""),
        (sequence.as_str(), "\"sequence\": 1"),
        (sequence.as_str(), "\"sequence\": -1"),
        ("\"charters\": [", "\"charters\": [\"AAAA\","),
        ("\"links\": []", "\"links\": [\"?\"]"),
        (
            "\"withdrawn\": []",
            "\"withdrawn\": [{\"at\": \"2026-03-01T00:00:00Z\"}]",
        ),
        ("\"unsettled\": []", "\"unsettled\": [\"00\"]"),
        ("\"locations\": []", "\"locations\": [\"http://a/\"]"),
    ] {
        let bad = text.replacen(from, to, 1);
        assert_ne!(bad, text, "{from}");
        check_state(bad.as_bytes()).expect_err(to);
    }
    let empty = text.split_once("\"charters\": [").expect("charters").0;
    check_state(empty.as_bytes()).expect_err("cut off");
    check_state(b"\xff\0").expect_err("not text");
}

#[test]
fn a_state_has_so_many_locations_and_no_more() {
    let mut world = World::new();
    let locations = |count: usize| -> Vec<_> {
        (0..count)
            .map(|n| {
                format!("https://ca{n}.example/bundle")
                    .parse()
                    .expect("a location")
            })
            .collect()
    };
    world
        .authority
        .set_locations(locations(MAX_LOCATIONS), NOW)
        .expect("at the limit");
    world
        .authority
        .set_locations(locations(MAX_LOCATIONS + 1), NOW)
        .expect_err("one past it");
    assert_eq!(world.again().locations().len(), MAX_LOCATIONS);
}

#[test]
fn what_is_said_about_a_bad_state_is_short_and_printable() {
    let bad = format!("{{\"version\": \"{}\\u001b[2J\"}}", "x".repeat(1000));
    let error = check_state(bad.as_bytes()).expect_err("bad").to_string();
    assert!(
        error.len() <= 256 * 10 && error.chars().all(|c| !c.is_control()),
        "{error}"
    );
}
