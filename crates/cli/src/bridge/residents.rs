//! Of which region of the deployment a machine is that is attached on this computer.
//!
//! The host knows machines by their ids alone. Two regions that, by forgery in a store, have a machine of one id must not be taken for each
//! other: the first that attaches it has it until it is detached.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use inborn_identity::{InstanceId, Region};

/// The machines that are attached, by region; clones are the same list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Residents(Arc<Mutex<HashMap<InstanceId, Region>>>);

impl Residents {
    /// Takes a machine for a region; whether that region has it now.
    pub(crate) fn take(&self, instance: InstanceId, region: &Region) -> bool {
        match self.lock().entry(instance) {
            Entry::Vacant(vacant) => {
                vacant.insert(region.clone());
                true
            }
            Entry::Occupied(taken) => taken.get() == region,
        }
    }

    /// Lets it go, if it is that region's.
    pub(crate) fn leave(&self, instance: InstanceId, region: &Region) {
        let mut all = self.lock();
        if all.get(&instance) == Some(region) {
            all.remove(&instance);
        }
    }

    /// The region of a machine.
    pub(crate) fn region(&self, instance: InstanceId) -> Option<Region> {
        self.lock().get(&instance).cloned()
    }

    /// Whether another region has a machine. One that nobody has any more was given up while it was being attached.
    pub(crate) fn is_of_another(&self, instance: InstanceId, region: &Region) -> bool {
        self.lock().get(&instance).is_some_and(|found| found != region)
    }

    /// Whether a machine is of this region.
    pub(crate) fn is_of(&self, instance: InstanceId, region: &Region) -> bool {
        self.lock().get(&instance) == Some(region)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<InstanceId, Region>> {
        // A map of values: consistent between any two statements that can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_of_the_first_region_that_takes_it() {
        let (residents, id) = (Residents::default(), InstanceId::from_bytes([1; 9]));
        let (a, b): (Region, Region) = ("a-1".parse().unwrap(), "b-1".parse().unwrap());
        assert_eq!(residents.region(id), None);
        assert!(residents.take(id, &a) && residents.take(id, &a) && !residents.take(id, &b));
        residents.leave(id, &b);
        assert!(residents.is_of(id, &a) && !residents.is_of(id, &b));
        assert!(!residents.is_of_another(id, &a) && residents.is_of_another(id, &b));
        residents.leave(id, &a);
        assert!(!residents.is_of_another(id, &a) && !residents.is_of_another(id, &b), "nobody has it");
        assert!(residents.clone().take(id, &b));
        assert_eq!(residents.region(id), Some(b));
    }
}
