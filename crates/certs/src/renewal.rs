//! How long a native leaf lives and when it is replaced.

use std::time::Duration;

use comity_identity::UnixTime;

/// How long a native leaf is meant to live: long enough that a node that was off for a holiday
/// still connects, short enough that a stolen leaf key is of little use.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// The part of a leaf's life after which it is renewed: ten days remain for whatever
/// prevents it.
pub const LEAF_RENEW_AT: f64 = 2.0 / 3.0;

/// How far a peer's clock may be off before its leaf counts as expired or not yet valid: a wrong
/// time zone, or a summer time applied twice, and a day lost on a machine without battery.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(48 * 3600);

/// The part of a leaf's life over which renewals are spread, so that nodes made together do not
/// all renew together.
const JITTER: f64 = 0.1;

/// When to renew a leaf: after two thirds of its life, or up to a tenth of its life earlier.
///
/// `jitter` is a random number from 0 to 1; what is outside is taken as the nearest end.
pub fn renewal_time(not_before: UnixTime, not_after: UnixTime, jitter: f64) -> UnixTime {
    let life = not_before.until(not_after);
    let jitter = if jitter.is_finite() {
        jitter.clamp(0.0, 1.0)
    } else {
        0.0
    };
    not_before + life.mul_f64(LEAF_RENEW_AT - JITTER * jitter)
}
