//! A budget for log lines that strangers cause.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Lines at once after a pause: enough to see who knocks.
const BURST: f64 = 50.0;

/// Lines per second, sustained: a hundred megabytes a day at worst.
const RATE: f64 = 5.0;

/// Lets some lines through and counts the rest.
#[derive(Debug, Default)]
pub(crate) struct LogBudget(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    used: f64,
    at: Option<Instant>,
    suppressed: u64,
}

impl LogBudget {
    /// Whether another line may be written. After a time of too many, the first that may says how
    /// many were not.
    pub(crate) fn allows(&self, now: Instant) -> bool {
        let Some(suppressed) = self.take(now) else {
            return false;
        };
        if suppressed > 0 {
            tracing::info!(suppressed, "more refusals were not written down");
        }
        true
    }

    /// How many lines were left out before this one, or `None` if this one is left out.
    fn take(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = state
            .at
            .map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        state.at = Some(now);
        state.used = (state.used - passed * RATE).max(0.0);
        if state.used + 1.0 > BURST {
            state.suppressed += 1;
            return None;
        }
        state.used += 1.0;
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_counted_instead_of_written() {
        let budget = LogBudget::default();
        let start = Instant::now();
        let written = (0..1000).filter(|_| budget.take(start).is_some()).count();
        assert_eq!(written, 50);
        let later = start + Duration::from_secs(1);
        assert_eq!(budget.take(later), Some(950));
        let written = (0..1000).filter(|_| budget.take(later).is_some()).count();
        assert_eq!(written, 4, "five lines a second");
    }
}
