//! Which events were seen lately: a window of bounded memory over (machine, uid).

use std::collections::VecDeque;

use inborn_identity::{InstanceId, UnixTime};

/// What is remembered of an event: 128 bits under a key that no machine knows, so that none can make two events meet.
pub(crate) type Digest = u128;

/// The key of the digests.
pub(crate) type Key = [u8; 32];

const SECONDS_PER_MARK: u64 = 60;

/// The digest of an event.
pub(crate) fn digest(key: &Key, instance: InstanceId, uid: &str) -> Digest {
    let (low, high) = key.split_at(16);
    (u128::from(half(high, instance, uid)) << 64) | u128::from(half(low, instance, uid))
}

/// The keyed hash that std has; it is deprecated in favour of one whose algorithm may change, and this one is stored.
#[expect(deprecated, reason = "SipHash-2-4 with keys, the same in every version")]
fn half(key: &[u8], instance: InstanceId, uid: &str) -> u64 {
    use core::hash::{Hasher as _, SipHasher};
    let word = |from: usize| {
        let bytes = key.get(from..from + 8).and_then(|bytes| bytes.first_chunk::<8>());
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    let mut hasher = SipHasher::new_with_keys(word(0), word(8));
    // The id has a fixed length: what follows is the uid and nothing else.
    hasher.write(&instance.to_bytes());
    hasher.write(uid.as_bytes());
    hasher.finish()
}

/// The window: a ring in the order of arrival, and a table of open addressing over it. Nothing grows.
pub(crate) struct Recent {
    ring: Vec<Digest>,
    /// Places of the ring plus one; 0 is empty. At most half full.
    table: Vec<u32>,
    /// How many were ever let in; the newest is at `count - 1`.
    count: u64,
    /// The oldest that is remembered.
    oldest: u64,
    /// For each minute, what `count` was when it began.
    marks: VecDeque<(u64, u64)>,
    seconds: u64,
}

impl Recent {
    /// An empty window of `entries` and `seconds`.
    pub(crate) fn new(entries: usize, seconds: u64) -> Self {
        let entries = entries.clamp(1, 1 << 30);
        let table = (entries * 2).next_power_of_two();
        Self { ring: vec![0; entries], table: vec![0; table], count: 0, oldest: 0, marks: VecDeque::new(), seconds }
    }

    /// Remembers an event. `false`: it is remembered already.
    pub(crate) fn insert(&mut self, digest: Digest, now: UnixTime) -> bool {
        self.expire(now);
        if self.find(digest).is_some() {
            return false;
        }
        if self.count - self.oldest == self.ring.len() as u64 {
            self.forget_oldest();
        }
        let place = self.place(self.count);
        if let Some(slot) = self.ring.get_mut(place) {
            *slot = digest;
        }
        let mut at = self.home(digest);
        while self.entry(at) != 0 {
            at = self.next(at);
        }
        self.set(at, u32::try_from(place + 1).unwrap_or(0));
        self.count += 1;
        true
    }

    /// What to give to [`Recent::roll_back`].
    pub(crate) fn position(&self) -> u64 {
        self.count
    }

    /// Forgets what was let in since `position`. What had to go for it does not come back.
    pub(crate) fn roll_back(&mut self, position: u64) {
        while self.count > position.max(self.oldest) {
            self.count -= 1;
            self.remove(self.count);
        }
        while self.marks.back().is_some_and(|(_, count)| *count > self.count) {
            self.marks.pop_back();
        }
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.count - self.oldest).unwrap_or(usize::MAX)
    }

    /// Forgets what is older than the window.
    pub(crate) fn expire(&mut self, now: UnixTime) {
        let minute = now.as_secs() / SECONDS_PER_MARK;
        // A clock that went back adds to the last minute: what is remembered longer than it must be does no harm.
        if self.marks.back().is_none_or(|(last, _)| *last < minute) {
            self.marks.push_back((minute, self.count));
        }
        let first = now.as_secs().saturating_sub(self.seconds) / SECONDS_PER_MARK;
        // The minute that begins next tells where the first one ends.
        while self.marks.front().is_some_and(|(minute, _)| *minute < first) {
            self.marks.pop_front();
            let until = self.marks.front().map_or(self.count, |(_, count)| *count);
            while self.oldest < until {
                self.forget_oldest();
            }
        }
    }

    fn forget_oldest(&mut self) {
        self.remove(self.oldest);
        self.oldest += 1;
    }

    fn find(&self, digest: Digest) -> Option<usize> {
        let mut at = self.home(digest);
        loop {
            match self.entry(at) {
                0 => return None,
                place if self.ring.get(place as usize - 1) == Some(&digest) => return Some(at),
                _ => at = self.next(at),
            }
        }
    }

    /// Takes what is at `count` out of the table, and moves up what stood behind it only because of it.
    fn remove(&mut self, count: u64) {
        let Some(digest) = self.ring.get(self.place(count)).copied() else { return };
        let Some(mut hole) = self.find(digest) else { return };
        let mut at = hole;
        loop {
            at = self.next(at);
            let entry = self.entry(at);
            let Some(digest) = (entry as usize).checked_sub(1).and_then(|place| self.ring.get(place)) else { break };
            let mask = self.table.len() - 1;
            let distance = |from: usize, to: usize| to.wrapping_sub(from) & mask;
            if distance(self.home(*digest), at) >= distance(hole, at) {
                self.set(hole, entry);
                hole = at;
            }
        }
        self.set(hole, 0);
    }

    fn place(&self, count: u64) -> usize {
        usize::try_from(count % self.ring.len() as u64).unwrap_or(0)
    }

    /// The low bits of a digest are as good as any.
    fn home(&self, digest: Digest) -> usize {
        digest as usize & (self.table.len() - 1)
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.table.len() - 1)
    }

    fn entry(&self, at: usize) -> u32 {
        self.table.get(at).copied().unwrap_or(0)
    }

    fn set(&mut self, at: usize, entry: u32) {
        if let Some(slot) = self.table.get_mut(at) {
            *slot = entry;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(seconds)
    }

    #[test]
    fn as_many_are_remembered_as_there_is_room_for() {
        let mut recent = Recent::new(3, 3600);
        for digest in [1, 2, 3] {
            assert!(recent.insert(digest, at(0)));
        }
        assert!(!recent.insert(1, at(0)), "at the limit");
        assert!(recent.insert(4, at(0)));
        assert_eq!(recent.len(), 3);
        assert!(!recent.insert(2, at(0)));
        assert!(recent.insert(1, at(0)), "the oldest went for the fourth");
    }

    #[test]
    fn as_long_as_was_said() {
        let mut recent = Recent::new(8, 3600);
        assert!(recent.insert(1, at(60)));
        assert!(!recent.insert(1, at(60 + 3600)), "an hour later");
        assert!(!recent.insert(1, at(60 + 3600 + 59)), "within the minute");
        assert!(recent.insert(1, at(60 + 3600 + 60)), "and no longer");
        assert!(!recent.insert(1, at(0)), "a clock that goes back forgets nothing");
    }

    #[test]
    fn digests_differ_by_machine_uid_and_key() {
        let (one, other) = (InstanceId::from_bytes([1; 9]), InstanceId::from_bytes([2; 9]));
        let all = [
            digest(&[0; 32], one, "a"),
            digest(&[0; 32], one, "b"),
            digest(&[0; 32], other, "a"),
            digest(&[1; 32], one, "a"),
        ];
        for (index, digest) in all.iter().enumerate() {
            assert!(!all[..index].contains(digest));
        }
        // Stored beside the log: must stay what it is. SipHash-2-4 of nine zeros and "x" under zero keys, twice.
        let stored = digest(&[0; 32], InstanceId::from_bytes([0; 9]), "x");
        assert_eq!(stored >> 64, stored & u128::from(u64::MAX));
    }

    #[derive(Clone, Debug)]
    enum Act {
        Insert(u8),
        RollBack(u8),
    }

    proptest! {
        /// Beside a list that is searched from end to end. Digests share few homes, so that they push each other about.
        #[test]
        fn as_a_plain_list_would(acts in prop::collection::vec(
            prop_oneof![4 => any::<u8>().prop_map(Act::Insert), 1 => (0_u8..6).prop_map(Act::RollBack)], 0..300,
        )) {
            let mut recent = Recent::new(16, 3600);
            let mut model: VecDeque<u128> = VecDeque::new();
            for act in acts {
                match act {
                    Act::Insert(number) => {
                        let digest = (u128::from(number % 40) << 64) | u128::from(number % 3 + 30);
                        let new = !model.contains(&digest);
                        prop_assert_eq!(recent.insert(digest, at(0)), new);
                        if new {
                            model.push_back(digest);
                            if model.len() > 16 {
                                model.pop_front();
                            }
                        }
                    }
                    Act::RollBack(by) => {
                        let by = usize::from(by).min(model.len());
                        recent.roll_back(recent.position() - by as u64);
                        model.truncate(model.len() - by);
                    }
                }
                prop_assert_eq!(recent.len(), model.len());
            }
        }
    }
}
