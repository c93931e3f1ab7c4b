//! Commands that are known to be over, or not to be there: what agents say of them again costs no look into the store.

use std::collections::HashSet;

use inborn_identity::UnixTime;

/// How many are remembered at most, in each of two generations.
const GENERATION_MAX: usize = 2048;
/// How long a generation is added to; it is remembered as long again.
const GENERATION_SECONDS: u64 = 30;
/// Longer names are not remembered: those that commands are given are shorter.
const NAME_BYTES_MAX: usize = 64;

/// Names of commands, for half a minute at least and a minute at most.
#[derive(Debug)]
pub(super) struct Over {
    since: UnixTime,
    young: HashSet<String>,
    old: HashSet<String>,
}

impl Over {
    pub(super) fn new() -> Self {
        Self { since: UnixTime::from_secs(0), young: HashSet::new(), old: HashSet::new() }
    }

    /// Forgets what is too old.
    pub(super) fn pass_time(&mut self, now: UnixTime) {
        if now < self.since || now.since(self.since) >= GENERATION_SECONDS {
            self.since = now;
            self.old = core::mem::take(&mut self.young);
        }
    }

    pub(super) fn add(&mut self, command: &str) {
        if command.len() > NAME_BYTES_MAX {
            return;
        }
        if self.young.len() >= GENERATION_MAX {
            self.old = core::mem::take(&mut self.young);
        }
        self.young.insert(command.to_owned());
    }

    pub(super) fn contains(&self, command: &str) -> bool {
        self.young.contains(command) || self.old.contains(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    #[test]
    fn commands_are_remembered_for_a_while() {
        let mut over = Over::new();
        over.pass_time(NOW);
        over.add("a");
        for (seconds, expected) in [(0, true), (29, true), (30, true), (59, true), (60, false)] {
            over.pass_time(NOW.plus(seconds));
            assert_eq!(over.contains("a"), expected, "{seconds}");
        }
    }

    #[test]
    fn remembered_commands_below_at_and_above_the_most() {
        let mut over = Over::new();
        for number in 0..2 * GENERATION_MAX {
            over.add(&number.to_string());
        }
        assert!(over.contains("0") && over.young.len() + over.old.len() == 2 * GENERATION_MAX);
        over.add("one more");
        assert!(!over.contains("0") && over.contains("one more") && over.contains(&GENERATION_MAX.to_string()));
        for (bytes, expected) in [(NAME_BYTES_MAX - 1, true), (NAME_BYTES_MAX, true), (NAME_BYTES_MAX + 1, false)] {
            let name = "n".repeat(bytes);
            over.add(&name);
            assert_eq!(over.contains(&name), expected, "{bytes}");
        }
    }
}
