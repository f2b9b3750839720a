//! The minimum rate of clients (`--min-rate`), of bodies that they send and of responses that they take.

use std::time::Duration;

/// Below the minimum rate a client has this long to catch up.
const RATE_GRACE: Duration = Duration::from_secs(10);

/// Whether a client is slower than the minimum rate, after [`RATE_GRACE`].
pub(crate) fn too_slow(bytes: u64, rate: u64, time: Duration) -> bool {
    rate > 0 && time > rate_allows(bytes, rate)
}

/// How long a client may take for that many bytes.
pub(crate) fn rate_allows(bytes: u64, rate: u64) -> Duration {
    Duration::try_from_secs_f64(bytes as f64 / rate as f64).unwrap_or(Duration::MAX).max(RATE_GRACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_client_has_time_to_show_its_rate() {
        let seconds = Duration::from_secs;
        assert!(!too_slow(0, 240, RATE_GRACE));
        assert!(too_slow(11 * 240 - 1, 240, seconds(11)));
        assert!(!too_slow(11 * 240, 240, seconds(11)));
        assert!(!too_slow(0, 0, seconds(1000)), "no bound");
    }
}
