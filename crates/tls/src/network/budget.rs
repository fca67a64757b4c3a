//! A token bucket on a clock that is an argument.

use std::time::{Duration, Instant};

/// So many at once, and one more each time.
#[derive(Debug)]
pub(crate) struct Bucket {
    left: u32,
    burst: u32,
    every: Duration,
    /// Tokens up to here have been given.
    since: Instant,
}

impl Bucket {
    pub(crate) fn full((burst, every): (u32, Duration), now: Instant) -> Self {
        Self {
            left: burst,
            burst,
            every,
            since: now,
        }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        while self.left < self.burst && self.since + self.every <= now {
            self.left += 1;
            self.since += self.every;
        }
        if self.left == self.burst {
            self.since = now;
        }
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_then_one_at_a_time() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut bucket = Bucket::full((2, second), start);
        assert!(bucket.take(start) && bucket.take(start) && !bucket.take(start));
        assert!(!bucket.take(start + second - Duration::from_nanos(1)));
        assert!(bucket.take(start + second) && !bucket.take(start + second));
        let much_later = start + 1000 * second;
        assert!(bucket.take(much_later) && bucket.take(much_later) && !bucket.take(much_later));
    }
}
