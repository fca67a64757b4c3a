//! Wall time, which judges validity. Timers use `std::time::Instant`; the two never mix.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Seconds since 1970-01-01T00:00:00Z, without leap seconds. Prints as RFC 3339 in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct UnixTime(u64);

/// Why a text is not a time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected a time such as 2026-03-02T09:14:07Z")]
pub struct ParseTimeError;

impl UnixTime {
    /// 9999-12-31T23:59:59Z: RFC 5280 section 4.1.2.5 for "no well-defined expiration".
    pub const NEVER: Self = Self(253_402_300_799);

    /// A time by its seconds since the epoch. Later than [`Self::NEVER`] becomes `NEVER`.
    pub const fn from_secs(seconds: u64) -> Self {
        if seconds > Self::NEVER.0 {
            Self::NEVER
        } else {
            Self(seconds)
        }
    }

    /// Seconds since the epoch.
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// How long until `later`; zero when it has passed.
    pub const fn until(self, later: Self) -> Duration {
        Duration::from_secs(later.0.saturating_sub(self.0))
    }
}

/// Times before the epoch become the epoch. A clock that far off finds every certificate not yet
/// valid, but an end is never reached by it: an entry whose `not-after=` has long passed counts.
impl From<SystemTime> for UnixTime {
    fn from(time: SystemTime) -> Self {
        Self::from_secs(
            time.duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |d| d.as_secs()),
        )
    }
}

impl Add<Duration> for UnixTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self::from_secs(self.0.saturating_add(duration.as_secs()))
    }
}

impl Sub<Duration> for UnixTime {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration.as_secs()))
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0).map_err(|_| fmt::Error)?;
        let time = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| fmt::Error)?;
        f.write_str(&time.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for UnixTime {
    type Err = ParseTimeError;

    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| ParseTimeError)?;
        u64::try_from(time.unix_timestamp())
            .map(Self::from_secs)
            .map_err(|_| ParseTimeError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_rfc_3339_and_are_read_back() {
        let time = UnixTime::from_secs(1_772_442_847);
        assert_eq!(time.to_string(), "2026-03-02T09:14:07Z");
        assert_eq!("2026-03-02T09:14:07Z".parse(), Ok(time));
        assert_eq!("2026-03-02T10:14:07+01:00".parse(), Ok(time));
        assert_eq!(UnixTime::NEVER.to_string(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn arithmetic_stops_at_both_ends() {
        assert_eq!(UnixTime::NEVER + Duration::from_secs(1), UnixTime::NEVER);
        assert_eq!(
            UnixTime::from_secs(5) - Duration::from_secs(9),
            UnixTime::from_secs(0)
        );
        assert_eq!(
            UnixTime::from_secs(9).until(UnixTime::from_secs(5)),
            Duration::ZERO
        );
    }

    #[test]
    fn times_before_the_epoch_are_refused() {
        assert_eq!(
            "1969-12-31T23:59:59Z".parse::<UnixTime>(),
            Err(ParseTimeError)
        );
    }
}
