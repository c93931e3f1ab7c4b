//! Memory that many share so that none can take it from the others.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Memory of a fixed size. Whoever holds none of it may have all that is free; whoever holds some, as much in all as is then
/// still free to others. So one alone has half of it at most, beside the first thing it brings.
#[derive(Debug)]
pub(crate) struct SharedRoom<K>(Arc<Mutex<State<K>>>);

#[derive(Debug)]
struct State<K> {
    /// Bytes.
    free: usize,
    held: HashMap<K, Held>,
}

/// What one of those who share holds.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    bytes: usize,
    shares: usize,
}

/// Memory that somebody holds; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Share<K: Copy + Eq + Hash> {
    of: Arc<Mutex<State<K>>>,
    holder: K,
    bytes: usize,
}

impl<K: Copy + Eq + Hash> SharedRoom<K> {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(State { free: bytes, held: HashMap::new() })))
    }

    /// The same memory for others too.
    pub(crate) fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// So many bytes for `holder`, if they are there and it may have them. Never waits.
    pub(crate) fn take(&self, holder: K, bytes: usize) -> Option<Share<K>> {
        let mut state = lock(&self.0);
        let left = state.free.checked_sub(bytes)?;
        let held = state.held.get(&holder).copied().unwrap_or_default();
        if held.shares > 0 && held.bytes + bytes > left {
            return None;
        }
        state.free = left;
        state.held.insert(holder, Held { bytes: held.bytes + bytes, shares: held.shares + 1 });
        Some(Share { of: Arc::clone(&self.0), holder, bytes })
    }
}

impl<K: Copy + Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut state = lock(&self.of);
        state.free += self.bytes;
        let Some(held) = state.held.get_mut(&self.holder) else { return };
        held.bytes -= self.bytes;
        held.shares -= 1;
        if held.shares == 0 {
            state.held.remove(&self.holder);
        }
    }
}

/// Counters: consistent between any two statements that can panic.
fn lock<K>(state: &Mutex<State<K>>) -> MutexGuard<'_, State<K>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_alone_has_half() {
        let room = SharedRoom::new(100);
        let first = room.take('a', 49).unwrap();
        assert!(room.take('a', 2).is_none(), "above");
        let second = room.take('a', 1).expect("at");
        drop(first);
        let third = room.take('a', 48).expect("below");
        assert!(room.take('a', 1).is_some(), "what was given back is there again");
        drop((second, third));
        assert_eq!(lock(&room.0).free, 100);
        assert!(lock(&room.0).held.is_empty(), "nobody is remembered who holds nothing");
    }

    #[test]
    fn who_holds_none_has_what_is_free() {
        let room = SharedRoom::new(100);
        assert!(room.take('a', 101).is_none(), "above");
        let all = room.take('a', 100).expect("at");
        assert!(room.take('b', 1).is_none() && room.take('a', 1).is_none());
        drop(all);
        let _all_but_one = room.take('a', 99).expect("below");
        assert!(room.take('a', 1).is_none());
        assert!(room.take('b', 1).is_some());
    }

    #[test]
    fn a_flood_leaves_others_theirs() {
        let room = SharedRoom::new(1000);
        let flood: Vec<_> = std::iter::from_fn(|| room.take('a', 10)).collect();
        assert_eq!(flood.len(), 50);
        let others: Vec<_> = std::iter::from_fn(|| room.take('b', 10)).collect();
        assert_eq!(others.len(), 25);
        assert!(room.take('c', 250).is_some());
        // A share of nothing is one, too.
        let nothing = room.take('d', 0).unwrap();
        assert!(room.take('d', 250).is_none() && room.take('d', 125).is_some());
        drop(nothing);
    }

    proptest! {
        #[test]
        fn what_is_given_back_is_what_was_taken(
            steps in proptest::collection::vec((0_u8..4, 0_usize..60, any::<prop::sample::Index>(), any::<bool>()), 0..100),
        ) {
            let room = SharedRoom::new(100);
            let mut shares: Vec<Share<u8>> = Vec::new();
            for (holder, bytes, index, is_return) in steps {
                if is_return && !shares.is_empty() {
                    shares.swap_remove(index.index(shares.len()));
                } else {
                    shares.extend(room.take(holder, bytes));
                }
                let taken: usize = shares.iter().map(|share| share.bytes).sum();
                prop_assert_eq!(lock(&room.0).free, 100 - taken);
            }
            shares.clear();
            prop_assert!(lock(&room.0).held.is_empty());
        }
    }
}
