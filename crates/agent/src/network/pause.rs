//! How long to wait before trying again.

use std::time::Duration;

/// The first pause, and the one after something that worked: a server that is restarted is back by
/// then.
pub(super) const SHORTEST: Duration = Duration::from_secs(1);

/// The longest: whoever comes back after a night hears of withdrawals within five minutes.
pub(super) const LONGEST: Duration = Duration::from_secs(300);

/// Pauses that double from [`SHORTEST`] to [`LONGEST`]. Each is shortened by up to half at random:
/// the members of a network that lost one issuing node do not come back to it as one.
#[derive(Debug)]
pub(super) struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: SHORTEST }
    }
}

impl Pauses {
    /// The next pause. `random` is a number from 0 to 1.
    pub(super) fn next(&mut self, random: f64) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        whole.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
    }

    /// Begins anew: what was tried has worked.
    pub(super) fn worked(&mut self) {
        *self = Self::default();
    }
}

/// A random number from 0 to 1. Without entropy everybody waits equally long, which is only less
/// polite.
pub(super) fn random() -> f64 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_minutes_and_begin_anew() {
        let mut pauses = Pauses::default();
        let seconds: Vec<u64> = (0..11).map(|_| pauses.next(0.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        pauses.worked();
        assert_eq!(pauses.next(0.0), SHORTEST);
    }

    #[test]
    fn chance_shortens_a_pause_by_at_most_half() {
        for (random, expected) in [
            (0.0, 1000),
            (0.5, 750),
            (1.0, 500),
            (7.0, 500),
            (-7.0, 1000),
        ] {
            let pause = Pauses::default().next(random);
            assert_eq!(pause.as_millis(), expected, "{random}");
        }
        assert!((0.0..=1.0).contains(&super::random()));
    }
}
