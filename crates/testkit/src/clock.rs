//! A clock that stands still until it is told otherwise.

use core::sync::atomic::{AtomicU64, Ordering};

use inborn_identity::{Clock, UnixTime};

/// A [`Clock`] that shows what it was set to. Share it in an `Arc`; all see the same time.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub const fn new(now: UnixTime) -> Self {
        Self(AtomicU64::new(now.as_secs()))
    }

    /// Sets it, forwards or back.
    pub fn set(&self, now: UnixTime) {
        self.0.store(now.as_secs(), Ordering::SeqCst);
    }

    /// Moves it forwards, at most to [`UnixTime::MAX`]; gives the new time.
    pub fn advance(&self, seconds: u64) -> UnixTime {
        let later = |now| Some(UnixTime::from_secs(now).plus(seconds).as_secs());
        let before = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, later).unwrap_or_else(|same| same);
        UnixTime::from_secs(before).plus(seconds)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixTime {
        UnixTime::from_secs(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stands_still_and_moves_when_told() {
        let clock = ManualClock::new(UnixTime::from_secs(100));
        assert_eq!(clock.now().as_secs(), 100);
        assert_eq!(clock.advance(5).as_secs(), 105);
        assert_eq!(clock.now().as_secs(), 105);
        clock.set(UnixTime::from_secs(7));
        assert_eq!(clock.now().as_secs(), 7);
        assert_eq!(clock.advance(u64::MAX), UnixTime::MAX);
        assert_eq!(clock.now(), UnixTime::MAX);
    }
}
