//! Places for sockets that have not said yet with which token they were opened. Whoever opens them has proved little or
//! nothing, and may be silent for a while: no one of them may keep the others out.

use core::hash::Hash;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Places that one and the same may take.
pub(crate) const OF_EACH_MAX: usize = 4;

/// The places that are taken, so many by each and so many in all.
#[derive(Debug)]
pub(crate) struct Openings<K: Eq + Hash> {
    all_max: usize,
    each_max: usize,
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    by: HashMap<K, usize>,
    all: usize,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a, K: Eq + Hash> {
    openings: &'a Openings<K>,
    key: K,
}

impl<K: Eq + Hash + Clone> Openings<K> {
    pub(crate) fn new(all_max: usize) -> Self {
        Self::sharing(all_max, OF_EACH_MAX)
    }

    /// Of which one and the same may take so many.
    pub(crate) fn sharing(all_max: usize, each_max: usize) -> Self {
        Self { all_max, each_max, taken: Mutex::new(Taken { by: HashMap::new(), all: 0 }) }
    }

    /// Takes a place, if there is one for `key`.
    pub(crate) fn take(&self, key: K) -> Option<Place<'_, K>> {
        let mut taken = self.taken();
        let own = taken.by.get(&key).copied().unwrap_or_default();
        if own >= self.each_max || taken.all >= self.all_max {
            return None;
        }
        taken.by.insert(key.clone(), own + 1);
        taken.all += 1;
        Some(Place { openings: self, key })
    }
}

impl<K: Eq + Hash> Openings<K> {
    fn taken(&self) -> MutexGuard<'_, Taken<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Place<'_, K> {
    fn drop(&mut self) {
        let mut taken = self.openings.taken();
        taken.all = taken.all.saturating_sub(1);
        match taken.by.get_mut(&self.key) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.by.remove(&self.key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_one_below_at_and_above_the_most() {
        let openings = Openings::new(100);
        let mut places: Vec<_> = (0..OF_EACH_MAX).map(|_| openings.take("one").unwrap()).collect();
        assert!(openings.take("one").is_none());
        assert!(openings.take("other").is_some(), "who keeps nobody out");
        places.pop();
        places.push(openings.take("one").unwrap());
        assert!(openings.take("one").is_none());
        drop(places);
        assert!(openings.taken().by.is_empty() && openings.taken().all == 0, "nothing is kept of who has gone");
    }

    #[test]
    fn places_of_all_below_at_and_above_the_most() {
        let openings = Openings::new(5);
        let mut places: Vec<_> = (0..5).map(|key| openings.take(key).unwrap()).collect();
        assert!(openings.take(5).is_none());
        assert!(openings.take(0).is_none());
        places.pop();
        assert!(openings.take(5).is_some());
    }
}
