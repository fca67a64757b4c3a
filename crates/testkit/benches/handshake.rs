//! What recognition costs a handshake: between two members of a network, who verify a path below
//! its issuing key on both sides, and between two nodes that have pinned each other.
//!
//! CPU time of the whole process, both ends included, over pipes in memory: from the first byte to
//! ACCEPT. The two kinds take turns, so that whatever else the machine does meets both alike; what
//! counts is the median of the ratios of neighbours.

#![allow(
    clippy::print_stdout,
    reason = "a bench says what it measured, and nothing else"
)]

use std::time::Duration;

use comity_identity::PeerId;
use comity_testkit::world::{Machine, Network, by_name, meet, pin_line};
use comity_tls::{Acceptor, AcceptorConfig, DialRequest, Dialer, Limits};
use comity_trust::Mode;
use nix::sys::resource::{UsageWho, getrusage};
use tokio::runtime::Runtime;

/// Handshakes in one turn.
const HANDSHAKES: u32 = 100;

/// Turns of each kind.
const PAIRS: usize = 21;

/// What the ratio shall not pass.
const GOAL: f64 = 1.25;

fn main() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    let (pinned, certified) = (pinned(), certified());
    // Caches, lazy statics, the first page faults.
    for kind in [&pinned, &certified] {
        kind.turn(&runtime);
    }
    let mut turns: Vec<(Duration, Duration)> = (0..PAIRS)
        .map(|_| (pinned.turn(&runtime), certified.turn(&runtime)))
        .collect();
    let ratio =
        |(pinned, certified): &(Duration, Duration)| certified.as_secs_f64() / pinned.as_secs_f64();
    turns.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    let ratios: Vec<f64> = turns.iter().map(ratio).collect();
    let middle = PAIRS / 2;
    println!("pinned           {}", micros(turns.iter().map(|t| t.0)));
    println!("cross-certified  {}", micros(turns.iter().map(|t| t.1)));
    println!(
        "ratio            {:.3}, half of them from {:.3} to {:.3} (goal {GOAL})",
        ratios[middle],
        ratios[PAIRS / 4],
        ratios[PAIRS - 1 - PAIRS / 4]
    );
}

/// The median, for one handshake.
fn micros(turns: impl Iterator<Item = Duration>) -> String {
    let mut turns: Vec<Duration> = turns.collect();
    turns.sort();
    let one = turns[turns.len() / 2] / HANDSHAKES;
    format!("{:.0} µs of CPU", one.as_secs_f64() * 1e6)
}

/// Two nodes that recognise each other.
struct Pair {
    dialer: Dialer,
    acceptor: Acceptor,
    request: DialRequest,
    _machines: [Machine; 2],
}

impl Pair {
    fn new(alice: Machine, bob: Machine, request: DialRequest) -> Self {
        Self {
            dialer: alice.dialer(),
            acceptor: tireless(&bob),
            request,
            _machines: [alice, bob],
        }
    }

    fn turn(&self, runtime: &Runtime) -> Duration {
        let before = cpu();
        runtime.block_on(async {
            for _ in 0..HANDSHAKES {
                let meeting = meet(&self.dialer, self.request.clone(), &self.acceptor).await;
                drop(meeting.open());
            }
        });
        cpu() - before
    }
}

/// An acceptor that never finds that somebody comes too often.
fn tireless(machine: &Machine) -> Acceptor {
    let limits = Limits {
        burst_per_prefix: f64::MAX,
        ..Limits::default()
    };
    let config = AcceptorConfig {
        mode: Mode::Enroll,
        limits,
        ..AcceptorConfig::default()
    };
    Acceptor::new(machine.endpoint.clone(), config)
}

fn pinned() -> Pair {
    let (alice, bob) = (Machine::new(), Machine::new());
    alice.write_known(&pin_line("both", "bob", PeerId::Node(bob.id()), ""));
    bob.write_known(&pin_line("both", "alice", PeerId::Node(alice.id()), ""));
    Pair::new(
        alice.restarted(),
        bob.restarted(),
        by_name("bob", Mode::CaOrPin),
    )
}

fn certified() -> Pair {
    let network = Network::new("fleet");
    let (alice, bob) = (Machine::new(), Machine::new());
    alice.becomes_member(&network, "mesh", &["reader"]);
    bob.becomes_member(&network, "mesh", &["server"]);
    let mut request = by_name("db.example:7117", Mode::CaOrPin);
    request.expectation.network = Some(network.id());
    Pair::new(alice, bob, request)
}

fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a figure");
    [usage.user_time(), usage.system_time()]
        .map(|time| {
            let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
            Duration::from_micros(micros.try_into().expect("not negative"))
        })
        .iter()
        .sum()
}
