//! How long something goes on, in words.

use comity_identity::UnixTime;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// `2026-03-31T00:00:00Z (30 days left)`.
pub(crate) fn until(end: UnixTime, now: UnixTime) -> String {
    match end == UnixTime::NEVER {
        true => "for ever".to_owned(),
        false => format!("{end} ({})", remaining(end, now)),
    }
}

/// `30 days left`, `5 hours left`, `ended 3 days ago`.
pub(crate) fn remaining(end: UnixTime, now: UnixTime) -> String {
    match end < now {
        true => format!("ended {} ago", rounded(end.until(now).as_secs())),
        false => format!("{} left", rounded(now.until(end).as_secs())),
    }
}

/// Whole days that are left, for programs; less than zero when it has ended.
pub(crate) fn days_left(end: UnixTime, now: UnixTime) -> i64 {
    let days = |seconds: u64| i64::try_from(seconds / DAY).unwrap_or(i64::MAX);
    match end < now {
        true => -1 - days(end.until(now).as_secs()),
        false => days(now.until(end).as_secs()),
    }
}

/// `90 minutes`, `24 hours`, `30 days`: rounded down.
pub(crate) fn rounded(seconds: u64) -> String {
    let (number, unit) = match seconds {
        _ if seconds >= 3 * 365 * DAY => (seconds / (365 * DAY), "year"),
        _ if seconds >= 2 * DAY => (seconds / DAY, "day"),
        _ if seconds >= 2 * HOUR => (seconds / HOUR, "hour"),
        _ => (seconds / 60, "minute"),
    };
    match number {
        1 => format!("1 {unit}"),
        _ => format!("{number} {unit}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_772_323_200);

    fn at(seconds: i64) -> UnixTime {
        UnixTime::from_secs(NOW.as_secs().saturating_add_signed(seconds))
    }

    #[test]
    fn what_is_left_is_never_rounded_up() {
        let day = 86_400;
        for (seconds, words, days) in [
            (0, "0 minutes left", 0),
            (60, "1 minute left", 0),
            (2 * 3600 - 1, "119 minutes left", 0),
            (2 * 3600, "2 hours left", 0),
            (2 * day - 1, "47 hours left", 1),
            (30 * day, "30 days left", 30),
            (3 * 365 * day, "3 years left", 1095),
            (-1, "ended 0 minutes ago", -1),
            (-3 * day, "ended 3 days ago", -4),
        ] {
            assert_eq!(remaining(at(seconds), NOW), words);
            assert_eq!(days_left(at(seconds), NOW), days, "{words}");
        }
    }

    #[test]
    fn what_never_ends_has_no_date() {
        assert_eq!(until(UnixTime::NEVER, NOW), "for ever");
    }
}
