//! When to ask again after a failure.

use std::time::Duration;

/// Where chance comes from: fixed in tests.
pub trait Dice: Send {
    /// A number from 0 to `most`, each as likely.
    fn up_to(&mut self, most: u64) -> u64;
}

/// The operating system's chance.
#[derive(Clone, Copy, Default, Debug)]
pub struct SystemDice;

impl Dice for SystemDice {
    fn up_to(&mut self, most: u64) -> u64 {
        let mut bytes = [0; 8];
        // Without chance all come at the end of their window: late, and together.
        if aws_lc_rs::rand::fill(&mut bytes).is_err() {
            return most;
        }
        most.checked_add(1).map_or_else(|| u64::from_le_bytes(bytes), |sides| u64::from_le_bytes(bytes) % sides)
    }
}

/// The widest window that is not asked for by the region, in seconds: a host is back this long after its region at the latest.
pub const WINDOW_SECONDS_MAX: u64 = 60;
/// The narrowest.
pub(crate) const WINDOW_SECONDS_MIN: u64 = 1;
/// The widest window that a region may ask for.
pub(crate) const SPREAD_SECONDS_MAX: u64 = 600;

/// Exponential backoff with full jitter: after each failure a moment anywhere in a window that doubles.
///
/// The first window is the `spread` that the region has named, by how many hosts it has: where a server goes away with ten
/// thousand connections, all of these begin at the same moment, and only the first window spreads them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(crate) fn succeed(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after a failure.
    pub(crate) fn fail(&mut self, spread: u64, retry_after: Option<u64>, dice: &mut dyn Dice) -> Duration {
        let first = spread.clamp(WINDOW_SECONDS_MIN, SPREAD_SECONDS_MAX);
        let widest = WINDOW_SECONDS_MAX.max(first.saturating_mul(2));
        let window = first.saturating_mul(1 << self.failures.min(16)).min(widest);
        self.failures = self.failures.saturating_add(1);
        // A region that names a moment does not mean the same one for everybody.
        let asked = Duration::from_secs(retry_after.unwrap_or(0).min(SPREAD_SECONDS_MAX));
        asked + Duration::from_millis(dice.up_to(window.saturating_mul(1000)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Always the same side, in thousandths of the most.
    pub(crate) struct Loaded(pub(crate) u64);

    impl Dice for Loaded {
        fn up_to(&mut self, most: u64) -> u64 {
            most * self.0 / 1000
        }
    }

    #[test]
    fn windows_double_up_to_the_widest() {
        for (spread, expected) in [
            (0, [1, 2, 4, 8, 16, 32, 60, 60]),
            (1, [1, 2, 4, 8, 16, 32, 60, 60]),
            (20, [20, 40, 60, 60, 60, 60, 60, 60]),
            (50, [50, 100, 100, 100, 100, 100, 100, 100]),
            (100_000, [600, 1200, 1200, 1200, 1200, 1200, 1200, 1200]),
        ] {
            let mut backoff = Backoff::default();
            let windows = expected.map(|_| backoff.fail(spread, None, &mut Loaded(1000)).as_secs());
            assert_eq!(windows, expected, "{spread}");
            backoff.succeed();
            assert_eq!(backoff.fail(spread, None, &mut Loaded(0)), Duration::ZERO);
        }
    }

    #[test]
    fn what_the_region_asks_for_is_honoured_within_bounds() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.fail(1, Some(7), &mut Loaded(0)).as_secs(), 7);
        assert_eq!(backoff.fail(1, Some(7), &mut Loaded(1000)).as_secs(), 9);
        assert_eq!(backoff.fail(1, Some(599), &mut Loaded(0)).as_secs(), 599);
        assert_eq!(backoff.fail(1, Some(600), &mut Loaded(0)).as_secs(), 600);
        assert_eq!(backoff.fail(1, Some(u64::MAX), &mut Loaded(0)).as_secs(), 600);
    }

    #[test]
    fn the_systems_dice_have_all_sides() {
        let mut seen = [false; 3];
        for _ in 0..200 {
            seen[usize::try_from(SystemDice.up_to(2)).unwrap()] = true;
        }
        assert_eq!(seen, [true; 3]);
        assert_eq!(SystemDice.up_to(0), 0);
        let _ = SystemDice.up_to(u64::MAX);
    }
}
