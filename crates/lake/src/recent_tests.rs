use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_secs(seconds)
}

/// An event of a machine.
fn of(machine: u64, number: u64) -> Digest {
    u128::from(machine) << EVENT_BITS | u128::from(machine) << 40 | u128::from(number)
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
    assert!(!recent.insert(1, at(60 + 3600 + 60)), "and comes back");
    for years in [1, 2] {
        assert!(recent.insert(1, at(years * 365 * 24 * 3600)), "after a long time");
        assert_eq!(recent.len(), 1);
    }
}

#[test]
fn no_machine_pushes_out_what_is_known_of_others_within_their_share() {
    let mut recent = Recent::new(90, 3600);
    for number in 0..10 {
        assert!(recent.insert(of(1, number), at(0)));
        assert!(recent.insert(of(2, number), at(0)));
    }
    for number in 0..10_000 {
        assert!(recent.insert(of(3, number), at(0)));
    }
    assert_eq!(recent.len(), 90);
    for number in 0..10 {
        assert!(!recent.insert(of(1, number), at(0)), "{number}");
        assert!(!recent.insert(of(2, number), at(0)), "{number}");
    }
    for number in 10_000 - 70..10_000 {
        assert!(!recent.insert(of(3, number), at(0)), "the noisy one has what the others leave: {number}");
    }
    // What one has beyond its share is given up to those who have less.
    for number in 10..30 {
        assert!(recent.insert(of(1, number), at(0)));
    }
    for number in 0..30 {
        assert!(!recent.insert(of(1, number), at(0)), "at its share: {number}");
    }
    assert!(recent.insert(of(1, 30), at(0)));
    assert!(recent.insert(of(1, 0), at(0)), "above it: its own oldest");
    for number in 0..10 {
        assert!(!recent.insert(of(2, number), at(0)), "{number}");
    }
    for number in 10_000 - 50..10_000 {
        assert!(!recent.insert(of(3, number), at(0)), "{number}");
    }
}

#[test]
fn more_machines_than_places_have_the_places_in_turn() {
    let mut recent = Recent::new(4, 3600);
    for machine in 1..100 {
        assert!(recent.insert(of(machine, 0), at(0)));
        assert!(!recent.insert(of(machine, 0), at(0)));
        assert!(recent.len() <= 4);
    }
}

#[test]
fn machines_are_forgotten_with_their_events() {
    let mut recent = Recent::new(1000, 3600);
    for machine in 1..500 {
        recent.insert(of(machine, 0), at(machine * 60));
    }
    assert!(recent.by_tag.len() <= 61 && recent.machines.len() <= 62, "{}", recent.machines.len());
    recent.expire(at(10_000 * 60));
    assert_eq!((recent.len(), recent.by_tag.len(), recent.active), (0, 0, 0));
}

#[test]
fn so_many_machines_have_a_share_of_their_own_below_at_and_above_the_limit() {
    let mut recent = Recent::new(1 << 17, 3600);
    for machine in 0..MACHINES_MAX as u64 + 2 {
        assert!(recent.insert(of(machine, machine), at(0)));
        let machines = usize::try_from(machine).unwrap() + 1;
        if machines.abs_diff(MACHINES_MAX) < 2 {
            assert_eq!(recent.machines.len(), machines);
        }
    }
    assert_eq!(recent.machines.len(), MACHINES_MAX + 1, "the others have one together");
    for machine in 0..MACHINES_MAX as u64 + 2 {
        assert!(!recent.insert(of(machine, machine), at(0)), "and are remembered");
    }
}

#[test]
fn memory_is_taken_as_it_is_needed() {
    let mut recent = Recent::new(1 << 20, 3600);
    assert_eq!((recent.entries.capacity(), recent.table.len()), (0, TABLE_MIN));
    for number in 0..=ENTRIES_STEP as u64 {
        recent.insert(of(1, number), at(0));
    }
    assert!(recent.entries.capacity() <= 2 * ENTRIES_STEP, "{}", recent.entries.capacity());
    assert!(recent.table.len() <= 4 * ENTRIES_STEP, "{}", recent.table.len());
    assert_eq!(size_of::<Entry>(), 16);
}

#[test]
fn digests_differ_by_machine_uid_and_key() {
    let (one, other) = (InstanceId::from_bytes([1; 9]), InstanceId::from_bytes([2; 9]));
    let digest = |key: &Key, instance, uid| Digester::new(key, instance).digest(uid);
    let all = [
        digest(&[0; 32], one, "a"),
        digest(&[0; 32], one, "b"),
        digest(&[0; 32], other, "a"),
        digest(&[1; 32], one, "a"),
    ];
    for (index, digest) in all.iter().enumerate() {
        assert!(!all[..index].iter().any(|other| event(*other) == event(*digest)));
    }
    assert_eq!(tag(all[0]), tag(all[1]), "of the same machine");
    assert_ne!(tag(all[0]), tag(all[2]));
    // Stored beside the log: must stay what it is. SipHash-2-4 of nine zeros and "x" under zero keys, twice.
    let stored = keyed(&[0; 32], InstanceId::from_bytes([0; 9]), "x");
    assert_eq!(stored >> 64, stored & u128::from(u64::MAX));
}

#[derive(Clone, Debug)]
enum Act {
    Insert(u64, u8),
    Begin,
    Settle,
    RollBack,
}

/// What the window should do, the slow way.
#[derive(Clone, Default)]
struct Model {
    lists: BTreeMap<u64, VecDeque<u128>>,
}

impl Model {
    fn count(&self) -> usize {
        self.lists.values().map(VecDeque::len).sum()
    }

    fn holds(&self, digest: u128) -> bool {
        self.lists.values().any(|list| list.contains(&digest))
    }
}

proptest! {
    /// Beside lists that are searched from end to end. Digests share few homes, so that they push each other about.
    #[test]
    fn as_plain_lists_would(acts in prop::collection::vec(
        prop_oneof![
            9 => (0_u64..4, any::<u8>()).prop_map(|(machine, number)| Act::Insert(machine, number)),
            1 => Just(Act::Begin), 1 => Just(Act::Settle), 1 => Just(Act::RollBack),
        ], 0..300,
    )) {
        const MAX: usize = 16;
        let mut recent = Recent::new(MAX, 3600);
        let mut model = Model::default();
        let mut since: Option<Vec<u128>> = None;
        for act in acts {
            match act {
                Act::Insert(machine, number) => {
                    let home = u128::from(number % 3 + 30);
                    let digest = of(machine, 0) | u128::from(number % 40) << 72 | home;
                    let is_new = !model.holds(digest);
                    prop_assert_eq!(recent.insert(digest, at(0)), is_new);
                    if !is_new {
                        continue;
                    }
                    if model.count() == MAX {
                        // Which of several that have too much gives up one is the window's to choose.
                        let active = model.lists.values().filter(|list| !list.is_empty()).count();
                        let own = model.lists.get(&machine).map_or(0, VecDeque::len);
                        let share = MAX / (active + usize::from(own == 0));
                        let gone: Vec<_> = model.lists.iter().filter_map(|(machine, list)| {
                            let oldest = list.front().copied()?;
                            recent.find(event(oldest)).is_none().then_some((*machine, list.len()))
                        }).collect();
                        prop_assert_eq!(gone.len(), 1);
                        let (giving, had) = gone[0];
                        let is_fair = if own >= share { giving == machine } else { had > share };
                        prop_assert!(is_fair, "{} of {} gave for {} of {}", had, giving, own, machine);
                        model.lists.get_mut(&gone[0].0).unwrap().pop_front();
                    }
                    model.lists.entry(machine).or_default().push_back(digest);
                    if let Some(since) = &mut since {
                        since.push(digest);
                    }
                }
                Act::Begin => {
                    recent.begin();
                    since = Some(Vec::new());
                }
                Act::Settle => {
                    recent.settle();
                    since = None;
                }
                Act::RollBack => {
                    recent.roll_back();
                    for digest in since.take().unwrap_or_default() {
                        model.lists.values_mut().for_each(|list| list.retain(|other| *other != digest));
                    }
                }
            }
            prop_assert_eq!(recent.len(), model.count());
            for list in model.lists.values() {
                for digest in list {
                    prop_assert!(recent.find(event(*digest)).is_some());
                }
            }
        }
    }
}
