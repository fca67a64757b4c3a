//! Two sides and what is between them, on a clock that stands until it is moved.

use super::*;
use crate::network::wire::MAX_BUNDLE;

const SECOND: Duration = Duration::from_secs(1);

fn network(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 32])
}

/// A bundle of `length` bytes. Its content tells its network and sequence.
fn bundle(of: u8, sequence: u64, length: usize) -> Holding {
    let mut bytes = vec![of; length];
    bytes[..8].copy_from_slice(&sequence.to_be_bytes());
    Holding::new(network(of), 1, sequence, bytes.into())
}

fn small(of: u8, sequence: u64) -> Holding {
    bundle(of, sequence, 100)
}

/// Both sides of one connection. A side takes over the newer bundles that it receives, as a store
/// would.
struct World {
    now: Instant,
    dialer: Side,
    acceptor: Side,
}

struct Side {
    exchange: Exchange,
    holdings: Vec<Holding>,
    /// What arrived, and ended.
    seen: Vec<Event>,
    sent: Vec<FrameType>,
}

impl Side {
    fn new(exchange: Exchange, holdings: Vec<Holding>) -> Self {
        Self {
            exchange,
            holdings,
            seen: Vec::new(),
            sent: Vec::new(),
        }
    }

    fn learn(&mut self, newer: Holding, now: Instant) {
        let of = newer.network();
        self.holdings.retain(|held| held.network() != of);
        self.holdings.push(newer);
        let input = Input::Holdings(self.holdings.clone());
        self.exchange.handle_input(input, now);
    }

    fn send_to(&mut self, other: &mut Self, now: Instant) -> bool {
        let mut any = false;
        while let Some((kind, body)) = self.exchange.poll_transmit() {
            any = true;
            self.sent.push(kind);
            other.exchange.handle_input(Input::Frame(kind, body), now);
            other.note(now);
        }
        any
    }

    fn note(&mut self, now: Instant) {
        while let Some(event) = self.exchange.poll_event() {
            if let Event::Bundle { network, bytes } = &event {
                let sequence = u64::from_be_bytes(*bytes.first_chunk().expect("long enough"));
                let ours = self.sequence(*network);
                if sequence > ours {
                    let newer = Holding::new(*network, 1, sequence, bytes.clone().into());
                    self.learn(newer, now);
                }
            }
            self.seen.push(event);
        }
    }

    fn sequence(&self, network: NodeId) -> u64 {
        let held = self.holdings.iter().find(|held| held.network() == network);
        held.map_or(0, |held| held.standing.sequence)
    }

    fn bundles_seen(&self) -> usize {
        let is_bundle = |event: &&Event| matches!(event, Event::Bundle { .. });
        self.seen.iter().filter(is_bundle).count()
    }

    fn closed(&self) -> Option<&Violation> {
        self.seen.iter().find_map(|event| match event {
            Event::Closed(violation) => Some(violation),
            _ => None,
        })
    }
}

impl World {
    fn new(dialer: Vec<Holding>, acceptor: Vec<Holding>) -> Self {
        let now = Instant::now();
        let mut world = Self {
            now,
            dialer: Side::new(Exchange::dialing(dialer.clone(), now), dialer),
            acceptor: Side::new(Exchange::accepting(acceptor.clone(), now), acceptor),
        };
        world.settle();
        world
    }

    /// Carries frames until there are none.
    fn settle(&mut self) {
        while self.dialer.send_to(&mut self.acceptor, self.now)
            | self.acceptor.send_to(&mut self.dialer, self.now)
        {}
        self.dialer.note(self.now);
        self.acceptor.note(self.now);
    }

    /// Lets time pass, from timer to timer.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let sides = [&self.dialer, &self.acceptor];
            let next = sides.iter().filter_map(|s| s.exchange.poll_timeout()).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            self.dialer.exchange.handle_timeout(self.now);
            self.acceptor.exchange.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    fn is_open(&self) -> bool {
        self.dialer.closed().is_none() && self.acceptor.closed().is_none()
    }
}

/// An acceptor that shares networks 1 and 2 with a dialer that named 1.
fn accepting() -> (Exchange, Instant) {
    let now = Instant::now();
    let mut exchange = Exchange::accepting(vec![small(1, 5), small(2, 5)], now);
    let sync = encode_sync(&[small(1, 5).standing]);
    exchange.handle_input(Input::Frame(FrameType::Sync, sync), now);
    assert!(matches!(exchange.poll_event(), Some(Event::Named(_))));
    assert!(matches!(
        exchange.poll_transmit(),
        Some((FrameType::Sync, _))
    ));
    (exchange, now)
}

fn end_after(exchange: &mut Exchange, kind: FrameType, body: Vec<u8>, now: Instant) -> Violation {
    exchange.handle_input(Input::Frame(kind, body), now);
    match exchange.poll_event() {
        Some(Event::Closed(violation)) => {
            assert_eq!(exchange.poll_transmit(), None);
            assert_eq!(exchange.poll_timeout(), None);
            violation
        }
        other => panic!("{other:?}"),
    }
}

fn part(of: u8, whole: &[u8], offset: usize) -> Vec<u8> {
    Chunk::of(network(of), whole, offset).encode()
}

#[test]
fn whoever_holds_the_newer_bundle_sends_it() {
    for (dialer, acceptor) in [(5, 7), (7, 5)] {
        let world = World::new(vec![small(1, dialer)], vec![small(1, acceptor)]);
        assert_eq!(world.dialer.sequence(network(1)), 7);
        assert_eq!(world.acceptor.sequence(network(1)), 7);
        assert_eq!(
            world.dialer.bundles_seen() + world.acceptor.bundles_seen(),
            1
        );
        assert!(world.is_open());
    }
}

#[test]
fn a_newer_charter_counts_more_than_any_sequence() {
    // What a thief signed last is replaced by what the roots say since.
    let stolen = |charter, sequence| Holding::new(network(1), charter, sequence, [0; 8][..].into());
    let now = Instant::now();
    let mut acceptor = Exchange::accepting(vec![stolen(2, 7)], now);
    let sync = encode_sync(&[stolen(1, u64::MAX).standing]);
    acceptor.handle_input(Input::Frame(FrameType::Sync, sync), now);
    acceptor.poll_transmit().expect("the answer");
    assert!(matches!(
        acceptor.poll_transmit(),
        Some((FrameType::Bundle, _))
    ));
    let mut thief = Exchange::accepting(vec![stolen(1, u64::MAX)], now);
    let sync = encode_sync(&[stolen(2, 7).standing]);
    thief.handle_input(Input::Frame(FrameType::Sync, sync), now);
    thief.poll_transmit().expect("the answer");
    assert_eq!(thief.poll_transmit(), None);
}

#[test]
fn sides_that_hold_the_same_send_no_bundle() {
    let world = World::new(vec![small(1, 5)], vec![small(1, 5)]);
    assert_eq!(world.dialer.sent, [FrameType::Sync]);
    assert_eq!(world.acceptor.sent, [FrameType::Sync]);
}

#[test]
fn two_bundles_of_one_sequence_are_shown_to_both_sides() {
    let other = bundle(1, 5, 101);
    let mut world = World::new(vec![small(1, 5)], vec![other]);
    world.pass(60 * SECOND);
    // Once each, although neither takes the other's.
    assert_eq!(world.dialer.bundles_seen(), 1);
    assert_eq!(world.acceptor.bundles_seen(), 1);
    assert!(world.is_open());
}

#[test]
fn a_bundle_as_large_as_they_may_be_arrives() {
    let world = World::new(vec![small(1, 5)], vec![bundle(1, 6, MAX_BUNDLE)]);
    assert_eq!(world.dialer.sequence(network(1)), 6);
    assert!(world.acceptor.sent.len() > MAX_BUNDLE / CHUNK);
}

#[test]
fn news_arrive_at_once_in_both_directions() {
    let mut world = World::new(vec![small(1, 5)], vec![small(1, 5)]);
    let now = world.now;
    world.acceptor.learn(small(1, 6), now);
    world.settle();
    assert_eq!(world.dialer.sequence(network(1)), 6);
    world.dialer.learn(small(1, 7), now);
    world.settle();
    assert_eq!(world.acceptor.sequence(network(1)), 7);
    // Nothing goes back to where it came from.
    assert_eq!(
        world.dialer.bundles_seen() + world.acceptor.bundles_seen(),
        2
    );
}

#[test]
fn of_many_changes_only_the_newest_is_sent() {
    let mut world = World::new(vec![small(1, 5)], vec![small(1, 5)]);
    for sequence in 6..1000 {
        let now = world.now;
        world.acceptor.learn(small(1, sequence), now);
        world.settle();
    }
    assert_eq!(world.dialer.bundles_seen(), 1);
    world.pass(PUSH_GAP);
    assert_eq!(world.dialer.bundles_seen(), 2);
    assert_eq!(world.dialer.sequence(network(1)), 999);
}

#[test]
fn an_honest_peer_is_never_taken_for_a_storm() {
    let mut world = World::new(vec![small(1, 5)], vec![small(1, 5)]);
    for sequence in 6..600 {
        let now = world.now;
        world.acceptor.learn(small(1, sequence), now);
        world.settle();
        world.pass(SECOND / 3);
    }
    world.pass(PUSH_GAP);
    assert!(world.is_open());
    assert_eq!(world.dialer.sequence(network(1)), 599);
}

#[test]
fn nothing_is_said_about_a_network_that_is_not_shared() {
    // The dialer names 1 and 3; the acceptor holds 2 and 3 for it.
    let mut world = World::new(
        vec![small(1, 5), small(3, 5)],
        vec![small(2, 9), small(3, 9)],
    );
    world.pass(KEEP_ALIVE * 3);
    assert_eq!(world.dialer.sequence(network(3)), 9);
    assert_eq!(world.dialer.sequence(network(2)), 0);
    assert_eq!(world.acceptor.sequence(network(1)), 0);
    assert!(world.is_open());
    // The answer names 3 alone.
    let mut acceptor = Exchange::accepting(vec![small(2, 9), small(3, 9)], world.now);
    let sync = encode_sync(&[small(1, 5).standing, small(2, 9).standing]);
    acceptor.handle_input(Input::Frame(FrameType::Sync, sync), world.now);
    let (_, answer) = acceptor.poll_transmit().expect("the answer");
    assert_eq!(decode_sync(&answer), Ok(vec![small(2, 9).standing]));
}

#[test]
fn a_network_that_the_dialer_did_not_name_is_not_pushed() {
    let mut world = World::new(vec![small(1, 5)], vec![small(1, 5), small(2, 5)]);
    let now = world.now;
    world.acceptor.learn(small(2, 6), now);
    world.pass(10 * SECOND);
    assert_eq!(world.dialer.bundles_seen(), 0);
    assert!(world.is_open());
}

#[test]
fn a_network_that_is_not_shared_any_more_is_not_talked_of() {
    let mut world = World::new(vec![small(1, 5)], vec![small(1, 5)]);
    let now = world.now;
    world
        .acceptor
        .exchange
        .handle_input(Input::Holdings(vec![]), now);
    world.dialer.learn(small(1, 6), now);
    world.settle();
    assert_eq!(world.acceptor.closed(), Some(&Violation::NotShared));
    assert_eq!(world.acceptor.bundles_seen(), 0);
}

#[test]
fn a_bundle_on_its_way_to_somebody_who_left_is_not_finished() {
    let now = Instant::now();
    let mut acceptor = Exchange::accepting(vec![bundle(1, 6, 10 * CHUNK)], now);
    let sync = encode_sync(&[small(1, 5).standing]);
    acceptor.handle_input(Input::Frame(FrameType::Sync, sync), now);
    for _ in 0..3 {
        assert!(acceptor.poll_transmit().is_some());
    }
    acceptor.handle_input(Input::Holdings(vec![]), now);
    assert_eq!(acceptor.poll_transmit(), None);
}

#[test]
fn an_open_connection_is_kept_and_a_silent_one_is_not() {
    let mut world = World::new(vec![small(1, 5)], vec![small(1, 5)]);
    world.pass(KEEP_ALIVE * 10);
    assert!(world.is_open());
    assert_eq!(world.dialer.sent.len(), 11);
    assert_eq!(world.acceptor.sent.len(), 11);
    // Frames are lost from now on.
    let last = world.now;
    for (side, patience) in [
        (&mut world.acceptor, SILENCE),
        (&mut world.dialer, KEEP_ALIVE + ANSWER),
    ] {
        while let Some(at) = side.exchange.poll_timeout() {
            assert!(at <= last + patience);
            side.exchange.handle_timeout(at);
            while side.exchange.poll_transmit().is_some() {}
        }
        side.note(last);
        assert_eq!(side.closed(), Some(&Violation::Silent));
    }
}

#[test]
fn who_never_says_anything_is_left_after_the_time_for_an_answer() {
    let now = Instant::now();
    for mut exchange in [
        Exchange::dialing(vec![small(1, 5)], now),
        Exchange::accepting(vec![small(1, 5)], now),
    ] {
        assert_eq!(exchange.poll_timeout(), Some(now + ANSWER));
        exchange.handle_timeout(now + ANSWER - Duration::from_nanos(1));
        assert_eq!(exchange.poll_event(), None);
        exchange.handle_timeout(now + ANSWER);
        assert_eq!(
            exchange.poll_event(),
            Some(Event::Closed(Violation::Silent))
        );
    }
}

#[test]
fn a_dribbled_bundle_is_given_up() {
    let (mut exchange, now) = accepting();
    let whole = vec![0; 3 * CHUNK];
    exchange.handle_input(Input::Frame(FrameType::Bundle, part(1, &whole, 0)), now);
    let later = now + ASSEMBLY - SECOND;
    exchange.handle_input(
        Input::Frame(FrameType::Bundle, part(1, &whole, CHUNK)),
        later,
    );
    assert_eq!(exchange.poll_event(), None);
    // A part does not win time for the next one.
    assert_eq!(exchange.poll_timeout(), Some(now + ASSEMBLY));
    exchange.handle_timeout(now + ASSEMBLY);
    assert_eq!(exchange.poll_event(), Some(Event::Closed(Violation::Slow)));
}

#[test]
fn more_bundles_than_an_honest_peer_sends_are_a_storm() {
    let (mut exchange, now) = accepting();
    let whole = vec![0; 100];
    for _ in 0..BUNDLES.0 {
        exchange.handle_input(Input::Frame(FrameType::Bundle, part(1, &whole, 0)), now);
        assert!(matches!(exchange.poll_event(), Some(Event::Bundle { .. })));
    }
    let later = now + BUNDLES.1;
    exchange.handle_input(Input::Frame(FrameType::Bundle, part(1, &whole, 0)), later);
    assert!(matches!(exchange.poll_event(), Some(Event::Bundle { .. })));
    let violation = end_after(&mut exchange, FrameType::Bundle, part(1, &whole, 0), later);
    assert_eq!(violation, Violation::Storm);
}

#[test]
fn more_questions_than_an_honest_dialer_asks_are_a_storm() {
    let (mut exchange, now) = accepting();
    let sync = encode_sync(&[]);
    for _ in 1..SYNCS.0 {
        exchange.handle_input(Input::Frame(FrameType::Sync, sync.clone()), now);
        assert!(matches!(exchange.poll_event(), Some(Event::Named(_))));
    }
    let violation = end_after(&mut exchange, FrameType::Sync, sync, now);
    assert_eq!(violation, Violation::Storm);
}

#[test]
fn frames_out_of_place_end_the_connection() {
    let unexpected = |kind| Violation::Unexpected(kind);
    let sync = || encode_sync(&[]);
    for kind in [
        FrameType::Hello,
        FrameType::Accept,
        FrameType::Refuse,
        FrameType::Live,
        // Nobody grants anything to an acceptor.
        FrameType::Grant,
    ] {
        let (mut exchange, now) = accepting();
        let body = part(1, &[0; 10], 0);
        assert_eq!(end_after(&mut exchange, kind, body, now), unexpected(kind));
    }
    // An answer that nobody asked for.
    let now = Instant::now();
    let mut dialer = Exchange::dialing(vec![small(1, 5)], now);
    dialer.handle_input(Input::Frame(FrameType::Sync, sync()), now);
    assert_eq!(dialer.poll_event(), None);
    assert_eq!(
        end_after(&mut dialer, FrameType::Sync, sync(), now),
        unexpected(FrameType::Sync)
    );
}

#[test]
fn parts_that_do_not_fit_end_the_connection() {
    let whole = vec![0; 3 * CHUNK];
    let first = || Input::Frame(FrameType::Bundle, part(1, &whole, 0));
    let cases: [(bool, Vec<u8>, Violation); 6] = [
        (false, part(1, &whole, CHUNK), Violation::Parts),
        (true, part(1, &whole, 2 * CHUNK), Violation::Parts),
        (true, part(1, &whole, 0), Violation::Parts),
        (true, part(2, &whole, CHUNK), Violation::Parts),
        (false, part(7, &whole, 0), Violation::NotShared),
        (true, part(7, &whole, CHUNK), Violation::NotShared),
    ];
    for (begun, body, violation) in cases {
        let (mut exchange, now) = accepting();
        if begun {
            exchange.handle_input(first(), now);
        }
        let ended = end_after(&mut exchange, FrameType::Bundle, body, now);
        assert_eq!(ended, violation);
    }
}

#[test]
fn what_is_too_large_is_refused_at_its_first_part() {
    let (mut exchange, now) = accepting();
    let whole = vec![0; MAX_BUNDLE + 1];
    let violation = end_after(&mut exchange, FrameType::Bundle, part(1, &whole, 0), now);
    assert!(matches!(violation, Violation::Malformed(_)));
}

#[test]
fn garbage_ends_the_connection() {
    for kind in [FrameType::Sync, FrameType::Bundle] {
        for body in [&[][..], &[0xa0], &[0xff; 40], &[0xa1, 1, 0x80, 0]] {
            let (mut exchange, now) = accepting();
            let violation = end_after(&mut exchange, kind, body.to_vec(), now);
            assert!(matches!(violation, Violation::Malformed(_)));
        }
    }
}

fn grant(of: u8) -> Grant {
    Grant {
        network: network(of),
        membership: vec![vec![1; 700]],
        bundle: vec![2; 2 * CHUNK],
    }
}

#[test]
fn a_grant_reaches_a_dialer_that_named_its_network() {
    let mut world = World::new(vec![small(1, 5)], vec![small(1, 5)]);
    assert!(
        world
            .acceptor
            .seen
            .contains(&Event::Named(vec![network(1)]))
    );
    let now = world.now;
    world
        .acceptor
        .exchange
        .handle_input(Input::Grant(grant(1)), now);
    world.settle();
    assert!(world.dialer.seen.contains(&Event::Grant(grant(1))));
    world
        .acceptor
        .exchange
        .handle_input(Input::Grant(grant(2)), now);
    world.settle();
    assert_eq!(world.dialer.closed(), Some(&Violation::NotShared));
}

#[test]
fn a_grant_of_another_network_than_its_parts_say_is_refused() {
    let now = Instant::now();
    let mut dialer = Exchange::dialing(vec![small(1, 5)], now);
    let whole = grant(2).encode();
    dialer.handle_input(Input::Frame(FrameType::Grant, part(1, &whole, 0)), now);
    dialer.handle_input(Input::Frame(FrameType::Grant, part(1, &whole, CHUNK)), now);
    let violation = end_after(
        &mut dialer,
        FrameType::Grant,
        part(1, &whole, 2 * CHUNK),
        now,
    );
    assert_eq!(violation, Violation::Parts);
}

#[test]
fn grants_have_a_budget() {
    let now = Instant::now();
    let mut dialer = Exchange::dialing(vec![small(1, 5)], now);
    let short = Grant {
        bundle: vec![1],
        ..grant(1)
    };
    let body = part(1, &short.encode(), 0);
    for _ in 0..GRANTS.0 {
        dialer.handle_input(Input::Frame(FrameType::Grant, body.clone()), now);
        assert!(matches!(dialer.poll_event(), Some(Event::Grant(_))));
    }
    let violation = end_after(&mut dialer, FrameType::Grant, body, now);
    assert_eq!(violation, Violation::Storm);
}

#[test]
fn a_dialer_names_sixteen_networks_at_most() {
    let now = Instant::now();
    let holdings = (0..=16).map(|of| small(of, 5)).collect();
    let mut dialer = Exchange::dialing(holdings, now);
    let (_, body) = dialer.poll_transmit().expect("a SYNC");
    assert_eq!(decode_sync(&body).expect("sound").len(), MAX_SHARED);
}
