//! Staying in touch with a network: one task that subscribes, and one that asks.
//!
//! The bundle of a network is good for weeks and refreshed every day, but a withdrawal counts within
//! a second where it is known. So a member keeps one connection to an issuing node open, on which
//! new bundles and a renewed membership arrive by themselves. Where no such connection is to be had,
//! it asks over HTTPS as often as the bundle says.
//!
//! Both tasks know nothing of connections or files: these are behind [`Reach`] and [`Memory`].

use std::fmt;
use std::future::Future;
use std::time::Duration;

use comity_identity::UnixTime;
use comity_record::Location;
use tokio::time::{Instant, sleep};

use super::pause::{Pauses, random};

/// A subscription that stayed this long has worked: when it ends, the server was probably restarted.
const STEADY: Duration = Duration::from_secs(60);

/// Between two looks at whether the bundle has to be asked for: others may have brought a newer one,
/// and the machine may have slept.
const LOOK: Duration = Duration::from_secs(3600);

/// Failures are written down this often. They repeat, and nothing is lost by them yet: that a bundle
/// grows old is said elsewhere.
const SAY_EVERY: Duration = Duration::from_secs(3600);

/// How a network's nodes are reached.
pub(crate) trait Reach: Send + Sync {
    /// Exchanges bundles with the node at a place until the connection ends, and says why it did.
    fn subscribe(&self, place: &Location) -> impl Future<Output = Subscribed> + Send;

    /// Asks once for the bundle, and takes it.
    fn pull(&self, place: &Location) -> impl Future<Output = Result<(), String>> + Send;
}

/// How a subscription ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Subscribed {
    /// We have another membership than we showed, and are told of withdrawals once we show it.
    Renewed,
    /// The connection did not come about or is gone, for this reason.
    Lost(String),
}

/// What is known of a network here.
pub(crate) trait Memory: Send + Sync {
    /// Where it can be reached.
    fn places(&self) -> Vec<Location>;

    /// When its bundle should be asked for.
    fn due(&self) -> UnixTime;

    /// The wall time.
    fn now(&self) -> UnixTime;
}

/// Keeps a subscription to one of the nodes of a network, for ever: all places in turn, then a pause.
pub(crate) async fn subscribe(name: &str, reach: &impl Reach, memory: &impl Memory) {
    let mut pauses = Pauses::default();
    let mut said = Said::default();
    loop {
        let mut worked = false;
        for place in memory
            .places()
            .iter()
            .filter(|place| place.node().is_some())
        {
            let began = Instant::now();
            let mut subscribed = reach.subscribe(place).await;
            if subscribed == Subscribed::Renewed {
                // At once, but once: a node may give out memberships that want renewal again.
                subscribed = reach.subscribe(place).await;
            }
            let why = match subscribed {
                Subscribed::Lost(why) => why,
                Subscribed::Renewed => "it renews our membership again and again".to_owned(),
            };
            worked |= began.elapsed() >= STEADY;
            said.say(name, "no subscription to a network", place, &why);
        }
        if worked {
            pauses.worked();
        }
        sleep(pauses.next(random())).await;
    }
}

/// Asks for a network's bundle whenever that is due, for ever.
pub(crate) async fn pull(name: &str, reach: &impl Reach, memory: &impl Memory) {
    let mut pauses = Pauses::default();
    let mut said = Said::default();
    loop {
        let (now, due) = (memory.now(), memory.due());
        if now < due {
            pauses.worked();
            let left = Duration::from_secs(due.as_secs().saturating_sub(now.as_secs()));
            sleep(left.min(LOOK)).await;
            continue;
        }
        let mut pulled = false;
        for place in memory.places() {
            match reach.pull(&place).await {
                Ok(()) => {
                    pulled = true;
                    break;
                }
                Err(why) => said.say(name, "a network's bundle cannot be fetched", &place, &why),
            }
        }
        // What was pulled may be the bundle that we had, and due again at once.
        match pulled {
            true => sleep(LOOK).await,
            false => sleep(pauses.next(random())).await,
        }
    }
}

/// When something was said last.
#[derive(Debug, Default)]
struct Said(Option<Instant>);

impl Said {
    fn say(&mut self, network: &str, what: &str, place: &Location, why: &impl fmt::Display) {
        let due = self.0.is_none_or(|at| at.elapsed() >= SAY_EVERY);
        if due {
            self.0 = Some(Instant::now());
            tracing::info!(network, host = place.host(), port = place.port(), %why, "{what}");
        } else {
            tracing::debug!(network, host = place.host(), port = place.port(), %why, "{what}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use comity_identity::NodeId;

    use super::*;

    const DAY: u64 = 24 * 3600;

    /// A network whose nodes do what the test says. Its wall clock follows the virtual time.
    struct Fake {
        places: Vec<Location>,
        began: Instant,
        /// How long a subscription stays.
        stays: Duration,
        /// Whether a pull brings anything.
        answers: bool,
        /// Seconds since the beginning, and the port that was asked.
        asked: Mutex<Vec<(u64, u16)>>,
        /// How many of the next subscriptions bring a new membership.
        renewals: Mutex<usize>,
        /// When the bundle was had last, in seconds since the beginning.
        had: Mutex<u64>,
    }

    impl Fake {
        fn new(ports: &[u16]) -> Self {
            let id = NodeId::from_bytes([7; 32]);
            let place = |port| format!("https://hub.example:{port}/bundle#{id}").parse();
            Self {
                places: ports
                    .iter()
                    .map(|port| place(port).expect("a location"))
                    .collect(),
                began: Instant::now(),
                stays: Duration::ZERO,
                answers: true,
                asked: Mutex::default(),
                renewals: Mutex::default(),
                had: Mutex::default(),
            }
        }

        fn ask(&self, place: &Location) {
            let at = self.began.elapsed().as_secs();
            self.asked.lock().expect("asked").push((at, place.port()));
        }

        fn asked(&self) -> Vec<(u64, u16)> {
            self.asked.lock().expect("asked").clone()
        }
    }

    impl Reach for Fake {
        async fn subscribe(&self, place: &Location) -> Subscribed {
            self.ask(place);
            {
                let mut renewals = self.renewals.lock().expect("renewals");
                if let Some(left) = renewals.checked_sub(1) {
                    *renewals = left;
                    return Subscribed::Renewed;
                }
            }
            sleep(self.stays).await;
            Subscribed::Lost("it ended".to_owned())
        }

        async fn pull(&self, place: &Location) -> Result<(), String> {
            self.ask(place);
            match self.answers && place.port() != 1 {
                true => {
                    *self.had.lock().expect("had") = self.began.elapsed().as_secs();
                    Ok(())
                }
                false => Err("nobody is there".to_owned()),
            }
        }
    }

    impl Memory for Fake {
        fn places(&self) -> Vec<Location> {
            self.places.clone()
        }

        fn due(&self) -> UnixTime {
            UnixTime::from_secs(*self.had.lock().expect("had") + DAY)
        }

        fn now(&self) -> UnixTime {
            UnixTime::from_secs(self.began.elapsed().as_secs())
        }
    }

    async fn run_for(time: Duration, task: impl Future<Output = ()>) {
        let ended = tokio::time::timeout(time, task).await;
        assert!(ended.is_err(), "such a task never ends");
    }

    #[tokio::test(start_paused = true)]
    async fn every_place_is_tried_before_each_pause() {
        let fake = Fake::new(&[1, 2]);
        run_for(Duration::from_secs(3600), subscribe("acme", &fake, &fake)).await;
        let asked = fake.asked();
        let ports: Vec<u16> = asked.iter().map(|(_, port)| *port).collect();
        assert!(
            ports.chunks_exact(2).all(|pair| pair == [1, 2]),
            "{asked:?}"
        );
        let pauses: Vec<u64> = asked.windows(2).map(|two| two[1].0 - two[0].0).collect();
        assert!(*pauses.iter().max().expect("some") <= 300, "{pauses:?}");
        // Pauses of five minutes, each shortened by half at most, after some that double.
        assert!((24..=64).contains(&asked.len()), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscription_that_stayed_is_resumed_at_once() {
        let mut fake = Fake::new(&[2]);
        fake.stays = STEADY;
        run_for(STEADY * 100, subscribe("acme", &fake, &fake)).await;
        let asked = fake.asked();
        // A minute each, and a second at most in between.
        assert!(asked.len() >= 98, "{asked:?}");
        fake.stays = STEADY - Duration::from_millis(1);
        fake.asked.lock().expect("asked").clear();
        run_for(STEADY * 100, subscribe("acme", &fake, &fake)).await;
        assert!(fake.asked().len() < 60, "{:?}", fake.asked());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_a_new_membership_subscribes_with_it_at_once() {
        let mut fake = Fake::new(&[2]);
        fake.stays = Duration::from_secs(1000);
        *fake.renewals.lock().expect("renewals") = 1;
        run_for(Duration::from_secs(10), subscribe("acme", &fake, &fake)).await;
        assert_eq!(fake.asked(), [(0, 2), (0, 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_renews_for_ever_is_asked_with_growing_pauses() {
        let fake = Fake::new(&[2]);
        *fake.renewals.lock().expect("renewals") = usize::MAX;
        run_for(Duration::from_secs(3600), subscribe("acme", &fake, &fake)).await;
        assert!(fake.asked().len() <= 80, "{:?}", fake.asked());
    }

    #[tokio::test(start_paused = true)]
    async fn places_without_an_id_are_not_subscribed_to() {
        let mut fake = Fake::new(&[2]);
        fake.places = vec!["https://hub.example/bundle".parse().expect("a location")];
        run_for(Duration::from_secs(600), subscribe("acme", &fake, &fake)).await;
        assert_eq!(fake.asked(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bundle_is_asked_for_when_it_is_due_and_not_before() {
        let fake = Fake::new(&[1, 2, 3]);
        run_for(Duration::from_secs(3 * DAY - 1), pull("acme", &fake, &fake)).await;
        // The first place does not answer, and the third is not needed.
        let asked = [(DAY, 1), (DAY, 2), (2 * DAY, 1), (2 * DAY, 2)];
        assert_eq!(fake.asked(), asked);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unanswered_question_is_repeated_with_growing_pauses() {
        let mut fake = Fake::new(&[2]);
        fake.answers = false;
        run_for(Duration::from_secs(2 * DAY), pull("acme", &fake, &fake)).await;
        let asked = fake.asked();
        assert_eq!(asked[0].0, DAY);
        let after_an_hour = asked.iter().filter(|(at, _)| *at < DAY + 3600).count();
        assert!((15..=40).contains(&after_an_hour), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_bundle_that_came_by_itself_is_not_asked_for() {
        let fake = Fake::new(&[2]);
        let pushed = async {
            loop {
                sleep(Duration::from_secs(DAY / 2)).await;
                *fake.had.lock().expect("had") = fake.began.elapsed().as_secs();
            }
        };
        let both = async {
            tokio::join!(pull("acme", &fake, &fake), pushed);
        };
        run_for(Duration::from_secs(10 * DAY), both).await;
        assert_eq!(fake.asked(), []);
    }
}
