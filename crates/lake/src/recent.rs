//! Which events were seen lately: a window of bounded memory over (machine, uid), which machines share fairly.
//!
//! While there is room, everything is remembered for as long as the window is. When there is none, a machine that has its
//! share (the window divided by the machines that are in it) or more forgets its own oldest event for its newest; one that
//! has less takes the place of the oldest of a machine that has more. So none can push out what is known of others below
//! their share. Memory is taken as it is needed.

use std::collections::HashMap;

use inborn_identity::{InstanceId, UnixTime};

/// What is remembered of an event, under a key that no machine knows, so that none can make two events meet: 48 bits of its
/// machine, and 80 of the machine and the uid, by which alone events are told apart.
pub(crate) type Digest = u128;

/// The key of the digests.
pub(crate) type Key = [u8; 32];

const SECONDS_PER_MARK: u64 = 60;

/// Bits of a digest that are of machine and uid.
const EVENT_BITS: u32 = 80;

/// The most machines that have a share of their own, at about 60 bytes each; those beyond have one together.
pub(crate) const MACHINES_MAX: usize = 1 << 16;

/// The share of those: no machine has this number, which has more than 48 bits.
const OTHERS: u64 = u64::MAX;

/// So many entries more are made room for at a time: 256 KiB.
const ENTRIES_STEP: usize = 1 << 14;

/// The shortest table.
const TABLE_MIN: usize = 1 << 10;

/// Makes the digests of the events of one machine.
pub(crate) struct Digester<'a> {
    key: &'a Key,
    instance: InstanceId,
    machine: u128,
}

impl<'a> Digester<'a> {
    pub(crate) fn new(key: &'a Key, instance: InstanceId) -> Self {
        Self { key, instance, machine: keyed(key, instance, "") << EVENT_BITS }
    }

    pub(crate) fn digest(&self, uid: &str) -> Digest {
        self.machine | (keyed(self.key, self.instance, uid) >> (u128::BITS - EVENT_BITS))
    }
}

/// 128 bits of a machine and a text that nobody foresees who has not the key.
pub(crate) fn keyed(key: &Key, instance: InstanceId, text: &str) -> u128 {
    let (low, high) = key.split_at(16);
    (u128::from(half(high, instance, text)) << 64) | u128::from(half(low, instance, text))
}

/// The keyed hash that std has; it is deprecated in favour of one whose algorithm may change, and this one is stored.
#[expect(deprecated, reason = "SipHash-2-4 with keys, the same in every version")]
fn half(key: &[u8], instance: InstanceId, text: &str) -> u64 {
    use core::hash::{Hasher as _, SipHasher};
    let word = |from: usize| {
        let bytes = key.get(from..from + 8).and_then(|bytes| bytes.first_chunk::<8>());
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    let mut hasher = SipHasher::new_with_keys(word(0), word(8));
    // The id has a fixed length: what follows is the text and nothing else.
    hasher.write(&instance.to_bytes());
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// A place in the list of entries plus one; 0 is none.
type Place = u32;

/// An event that is remembered: 16 bytes.
#[derive(Clone, Copy, Default)]
struct Entry {
    event: [u8; 10],
    /// When it came, in minutes; only differences count.
    minute: u16,
    /// The next of its machine, or of those that are not used.
    next: Place,
}

/// The events of one machine, from the oldest to the newest.
#[derive(Clone, Copy)]
struct Machine {
    tag: u64,
    oldest: Place,
    newest: Place,
    count: usize,
}

/// What takes back that an event was let in.
struct Undo {
    machine: usize,
    newest_before: Place,
}

/// The window: a list for each machine, and a table of open addressing over all of them.
pub(crate) struct Recent {
    entries: Vec<Entry>,
    entries_max: usize,
    unused: Place,
    /// At most half full.
    table: Vec<Place>,
    /// How many are remembered.
    count: usize,
    machines: Vec<Machine>,
    by_tag: HashMap<u64, usize>,
    unused_machines: Vec<usize>,
    /// Machines of which anything is remembered.
    active: usize,
    /// The machine that was asked for last: events come in batches.
    last: Option<(u64, usize)>,
    /// The machine that gave up an event last.
    giving: usize,
    /// The latest minute that was heard of.
    minute: u64,
    minutes_max: u64,
    undo: Vec<Undo>,
    is_undoable: bool,
}

impl Recent {
    /// An empty window of `entries` and `seconds`.
    pub(crate) fn new(entries: usize, seconds: u64) -> Self {
        Self {
            entries: Vec::new(),
            entries_max: entries.clamp(1, 1 << 30),
            unused: 0,
            table: vec![0; TABLE_MIN],
            count: 0,
            machines: Vec::new(),
            by_tag: HashMap::new(),
            unused_machines: Vec::new(),
            active: 0,
            last: None,
            giving: 0,
            minute: 0,
            // Minutes are remembered by 16 bits of them.
            minutes_max: (seconds / SECONDS_PER_MARK).min(u64::from(u16::MAX / 2)),
            undo: Vec::new(),
            is_undoable: false,
        }
    }

    /// Remembers an event. `false`: it is remembered already.
    pub(crate) fn insert(&mut self, digest: Digest, now: UnixTime) -> bool {
        self.expire(now);
        let event = event(digest);
        if self.find(event).is_some() {
            return false;
        }
        let machine = self.machine(tag(digest));
        if self.count >= self.entries_max {
            self.make_room(machine);
        }
        let place = self.place();
        self.put(place, Entry { event, minute: low_bits(self.minute), next: 0 });
        let Some(list) = self.machines.get_mut(machine) else { return true };
        let newest_before = list.newest;
        (list.newest, list.count) = (place, list.count + 1);
        if list.count == 1 {
            list.oldest = place;
            self.active += 1;
        } else {
            let before = self.entry(newest_before);
            self.put(newest_before, Entry { next: place, ..before });
        }
        if self.is_undoable {
            self.undo.push(Undo { machine, newest_before });
        }
        self.count += 1;
        if self.count * 2 > self.table.len() {
            self.grow_table();
        } else {
            self.link(place);
        }
        true
    }

    /// From here on what is let in can be taken back.
    pub(crate) fn begin(&mut self) {
        self.undo.clear();
        self.is_undoable = true;
    }

    /// What was let in stays.
    pub(crate) fn settle(&mut self) {
        self.undo.clear();
        self.is_undoable = false;
    }

    /// Forgets what was let in since [`Recent::begin`]. What had to go for it does not come back.
    pub(crate) fn roll_back(&mut self) {
        while let Some(Undo { machine, newest_before }) = self.undo.pop() {
            // A machine of which nothing is left has given up this event, too: the oldest go first.
            let Some(list) = self.machines.get_mut(machine).filter(|list| list.count > 0) else { continue };
            let place = list.newest;
            (list.newest, list.count) = (newest_before, list.count - 1);
            if list.count == 0 {
                (list.oldest, list.newest) = (0, 0);
                self.active -= 1;
            } else {
                let before = self.entry(newest_before);
                self.put(newest_before, Entry { next: 0, ..before });
            }
            self.forget(place);
        }
        self.is_undoable = false;
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Forgets what is older than the window.
    pub(crate) fn expire(&mut self, now: UnixTime) {
        let minute = now.as_secs() / SECONDS_PER_MARK;
        // A clock that went back adds to the last minute: what is remembered longer than it must be does no harm.
        if minute <= self.minute {
            return;
        }
        let all_are_old = minute - self.minute > self.minutes_max;
        self.minute = minute;
        for machine in 0..self.machines.len() {
            while let Some(oldest) = self.machines.get(machine).map(|list| list.oldest).filter(|oldest| *oldest != 0) {
                let age = low_bits(minute).wrapping_sub(self.entry(oldest).minute);
                if !all_are_old && u64::from(age) <= self.minutes_max {
                    break;
                }
                self.forget_oldest(machine);
            }
        }
        // What is to be taken back names machines by their number.
        if !self.is_undoable {
            self.forget_machines();
        }
    }

    /// Lets numbers of machines of which nothing is left be given again.
    fn forget_machines(&mut self) {
        self.last = None;
        for (index, list) in self.machines.iter().enumerate() {
            if list.count == 0 && self.by_tag.get(&list.tag) == Some(&index) {
                self.by_tag.remove(&list.tag);
                self.unused_machines.push(index);
            }
        }
    }

    /// The number of the machine that has this tag.
    fn machine(&mut self, tag: u64) -> usize {
        if let Some((_, index)) = self.last.filter(|(last, _)| *last == tag) {
            return index;
        }
        let known = self.by_tag.get(&tag).copied();
        let index = known.unwrap_or_else(|| {
            let tag = if self.by_tag.len() < MACHINES_MAX { tag } else { OTHERS };
            *self.by_tag.entry(tag).or_insert_with(|| {
                let list = Machine { tag, oldest: 0, newest: 0, count: 0 };
                let index = self.unused_machines.pop().unwrap_or(self.machines.len());
                match self.machines.get_mut(index) {
                    Some(unused) => *unused = list,
                    None => self.machines.push(list),
                }
                index
            })
        });
        self.last = Some((tag, index));
        index
    }

    /// Forgets one event for one of this machine.
    fn make_room(&mut self, machine: usize) {
        let own = self.machines.get(machine).map_or(0, |list| list.count);
        let share = (self.entries_max / (self.active + usize::from(own == 0))).max(1);
        let giving = if own >= share { Some(machine) } else { self.above(share) };
        if let Some(giving) = giving {
            self.forget_oldest(giving);
        }
    }

    /// A machine that has more than its share. There is one where the window is full and a machine has less, unless there are
    /// more machines than places: then it is any.
    fn above(&mut self, share: usize) -> Option<usize> {
        let all = self.machines.len();
        let from_the_last = (self.giving..all).chain(0..self.giving.min(all));
        let mut any = None;
        for index in from_the_last {
            let count = self.machines.get(index).map_or(0, |list| list.count);
            if count > share {
                self.giving = index;
                return Some(index);
            }
            any = any.or_else(|| (count > 0).then_some(index));
        }
        // The next one, the next time.
        self.giving = any.map_or(0, |index| index + 1);
        any
    }

    fn forget_oldest(&mut self, machine: usize) {
        let Some(place) = self.machines.get(machine).map(|list| list.oldest).filter(|place| *place != 0) else {
            return;
        };
        let next = self.entry(place).next;
        if let Some(list) = self.machines.get_mut(machine) {
            (list.oldest, list.count) = (next, list.count - 1);
            if list.count == 0 {
                list.newest = 0;
                self.active -= 1;
            }
        }
        self.forget(place);
    }

    /// Gives back a place that is in no list any more.
    fn forget(&mut self, place: Place) {
        self.unlink(place);
        self.put(place, Entry { next: self.unused, ..Entry::default() });
        self.unused = place;
        self.count -= 1;
    }

    /// A place that is not used.
    fn place(&mut self) -> Place {
        if self.unused != 0 {
            let place = self.unused;
            self.unused = self.entry(place).next;
            return place;
        }
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(ENTRIES_STEP.min(self.entries_max - self.entries.len().min(self.entries_max)));
        }
        self.entries.push(Entry::default());
        Place::try_from(self.entries.len()).unwrap_or(0)
    }

    fn entry(&self, place: Place) -> Entry {
        (place as usize).checked_sub(1).and_then(|index| self.entries.get(index)).copied().unwrap_or_default()
    }

    fn put(&mut self, place: Place, entry: Entry) {
        if let Some(slot) = (place as usize).checked_sub(1).and_then(|index| self.entries.get_mut(index)) {
            *slot = entry;
        }
    }

    /// Where in the table an event is.
    fn find(&self, event: [u8; 10]) -> Option<usize> {
        let mut at = self.home(event);
        loop {
            match self.slot(at) {
                0 => return None,
                place if self.entry(place).event == event => return Some(at),
                _ => at = self.next(at),
            }
        }
    }

    fn link(&mut self, place: Place) {
        let mut at = self.home(self.entry(place).event);
        while self.slot(at) != 0 {
            at = self.next(at);
        }
        self.set(at, place);
    }

    /// Takes a place out of the table, and moves up what stood behind it only because of it.
    fn unlink(&mut self, place: Place) {
        let Some(mut hole) = self.find(self.entry(place).event) else { return };
        let mut at = hole;
        loop {
            at = self.next(at);
            let behind = self.slot(at);
            if behind == 0 {
                break;
            }
            let mask = self.table.len() - 1;
            let distance = |from: usize, to: usize| to.wrapping_sub(from) & mask;
            if distance(self.home(self.entry(behind).event), at) >= distance(hole, at) {
                self.set(hole, behind);
                hole = at;
            }
        }
        self.set(hole, 0);
    }

    /// A table of twice the size, with everything in it.
    fn grow_table(&mut self) {
        self.table = vec![0; self.table.len() * 2];
        for machine in 0..self.machines.len() {
            let mut place = self.machines.get(machine).map_or(0, |list| list.oldest);
            while place != 0 {
                self.link(place);
                place = self.entry(place).next;
            }
        }
    }

    /// The low bits of an event are as good as any.
    fn home(&self, event: [u8; 10]) -> usize {
        let low = event.first_chunk::<4>().map_or(0, |low| u32::from_le_bytes(*low));
        low as usize & (self.table.len() - 1)
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.table.len() - 1)
    }

    fn slot(&self, at: usize) -> Place {
        self.table.get(at).copied().unwrap_or(0)
    }

    fn set(&mut self, at: usize, place: Place) {
        if let Some(slot) = self.table.get_mut(at) {
            *slot = place;
        }
    }
}

fn event(digest: Digest) -> [u8; 10] {
    digest.to_le_bytes().first_chunk::<10>().copied().unwrap_or_default()
}

fn tag(digest: Digest) -> u64 {
    u64::try_from(digest >> EVENT_BITS).unwrap_or(OTHERS)
}

fn low_bits(minute: u64) -> u16 {
    u16::try_from(minute & u64::from(u16::MAX)).unwrap_or(0)
}

#[cfg(test)]
#[path = "recent_tests.rs"]
mod tests;
