//! How long to wait between attempts.

use std::time::Duration;

/// How often a push is tried: with the pauses between, for some four minutes.
pub const ATTEMPTS_MAX: u32 = 8;
const SHORTEST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(64);

/// The pause after attempt number `attempt` (from 1) failed: it doubles up to a longest, and `random` makes it shorter by up
/// to a half, so that a thousand machines that booted together do not come back together.
#[must_use]
pub fn pause(attempt: u32, random: u64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    let whole = SHORTEST.saturating_mul(1 << doublings).min(LONGEST);
    let half = whole / 2;
    let milliseconds = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_millis(random % milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_differ_by_half() {
        let least = (1..=9).map(|attempt| pause(attempt, 0).as_secs()).collect::<Vec<_>>();
        assert_eq!(least, [1, 2, 4, 8, 16, 32, 32, 32, 32]);
        for attempt in [0, 1, 5, 100, u32::MAX] {
            for random in [0, 1, 999, u64::MAX] {
                let pause = pause(attempt, random);
                assert!((SHORTEST / 2..LONGEST).contains(&pause), "{attempt} {random} {pause:?}");
            }
        }
    }
}
