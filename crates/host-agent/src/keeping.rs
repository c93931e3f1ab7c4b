//! When a host keeps what it knows: soon after anything has changed, but never more than a part of the time.

use core::time::Duration;

/// How often it is looked whether there is something to keep, if nothing says so.
pub const KEEP_ROUND: Duration = Duration::from_secs(1);
/// How often it is kept only for when the region was last heard.
const QUIET_ROUND: Duration = Duration::from_secs(300);
/// No more than one part in so many of the time goes into keeping.
const SHARE: u32 = 20;
/// But for a disk that was slow once nothing is older than this.
const REST_MAX: Duration = Duration::from_secs(60);

/// What of an agent's knowledge was kept last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Keeping {
    /// Its revision, and when.
    last: Option<(u64, Duration)>,
}

impl Keeping {
    /// Whether what the agent knows at this revision is to be kept, `up` after some moment that is the same for all calls.
    #[must_use]
    pub fn is_due(&self, revision: u64, up: Duration) -> bool {
        self.last.is_none_or(|(last, at)| last != revision || up.saturating_sub(at) >= QUIET_ROUND)
    }

    /// This revision was kept.
    pub const fn has_kept(&mut self, revision: u64, up: Duration) {
        self.last = Some((revision, up));
    }

    /// How long nothing is kept after what took so long.
    #[must_use]
    pub fn rest_after(taken: Duration) -> Duration {
        taken.saturating_mul(SHARE).min(REST_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_is_due_and_what_has_not_now_and_then() {
        let mut keeping = Keeping::default();
        let at = Duration::from_secs;
        assert!(keeping.is_due(0, at(0)));
        keeping.has_kept(0, at(10));
        for (revision, up, is_due) in [(0, 10, false), (1, 10, true), (0, 309, false), (0, 310, true), (0, 311, true)] {
            assert_eq!(keeping.is_due(revision, at(up)), is_due, "{revision} after {up} s");
        }
        keeping.has_kept(1, at(310));
        assert!(!keeping.is_due(1, at(310)) && !keeping.is_due(1, at(3)) && keeping.is_due(0, at(310)));
    }

    #[test]
    fn a_disk_that_was_slow_once_does_not_make_what_is_kept_old() {
        for (taken, rest) in [(0, 0), (50, 1000), (2999, 59_980), (3000, 60_000), (3001, 60_000), (600_000, 60_000)] {
            let (taken, rest) = (Duration::from_millis(taken), Duration::from_millis(rest));
            assert_eq!(Keeping::rest_after(taken), rest, "{taken:?}");
        }
        assert_eq!(Keeping::rest_after(Duration::MAX), REST_MAX);
    }
}
