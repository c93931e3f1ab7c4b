//! What could not be read is left alone for a while, each for itself: it must not hold up what can be read.

use std::collections::HashMap;

use inborn_identity::UnixTime;

/// How long something is left alone at first, and at most; twice as long after each failure.
const SECONDS_MIN: u64 = 1;
const SECONDS_MAX: u64 = 30;

#[derive(Clone, Copy, Debug)]
struct Wait {
    since: UnixTime,
    seconds: u64,
}

/// What is left alone; nothing is also what has no name: all of it.
#[derive(Debug, Default)]
pub(super) struct Waits(HashMap<Option<String>, Wait>);

impl Waits {
    /// Whether it is to be left alone still. Where time has been set back nothing waits for it to come again.
    pub(super) fn is_waiting(&self, name: Option<&str>, now: UnixTime) -> bool {
        self.0
            .get(&name.map(str::to_owned))
            .is_some_and(|wait| now >= wait.since && now.since(wait.since) < wait.seconds)
    }

    /// It could not be read.
    pub(super) fn failed(&mut self, name: Option<&str>, now: UnixTime) {
        let name = name.map(str::to_owned);
        let seconds = self.0.get(&name).map_or(SECONDS_MIN, |wait| (wait.seconds * 2).min(SECONDS_MAX));
        self.0.insert(name, Wait { since: now, seconds });
    }

    /// It was read.
    pub(super) fn end(&mut self, name: Option<&str>) {
        if !self.0.is_empty() {
            self.0.remove(&name.map(str::to_owned));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_below_at_and_above_the_most() {
        let (mut waits, mut now) = (Waits::default(), UnixTime::from_secs(1_800_000_000));
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            assert!(!waits.is_waiting(Some("a"), now));
            waits.failed(Some("a"), now);
            assert!(waits.is_waiting(Some("a"), now.plus(seconds - 1)), "{seconds}");
            assert!(!waits.is_waiting(Some("a"), now.minus(1)), "time was set back");
            assert!(!waits.is_waiting(Some("b"), now) && !waits.is_waiting(None, now));
            now = now.plus(seconds);
        }
        waits.end(Some("a"));
        waits.failed(Some("a"), now);
        assert!(waits.is_waiting(Some("a"), now) && !waits.is_waiting(Some("a"), now.plus(1)));
    }
}
