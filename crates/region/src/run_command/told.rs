//! What other servers have told of commands, until it is read.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};

use inborn_identity::InstanceId;

/// Which commands are to be read again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Told {
    /// All of them.
    pub(super) everything: bool,
    /// These, each on these machines; on all if none is named.
    pub(super) commands: BTreeMap<String, BTreeSet<InstanceId>>,
}

impl Told {
    /// Adds that a command has changed on these machines, or on any if none is named.
    pub(super) fn add(&mut self, command: &str, machines: &[InstanceId]) {
        match self.commands.entry(command.to_owned()) {
            Entry::Vacant(new) => _ = new.insert(machines.iter().copied().collect()),
            Entry::Occupied(mut known) if machines.is_empty() => known.get_mut().clear(),
            Entry::Occupied(known) if known.get().is_empty() => {}
            Entry::Occupied(mut known) => known.get_mut().extend(machines),
        }
    }

    /// Adds all of another.
    pub(super) fn append(&mut self, other: Self) {
        self.everything |= other.everything;
        for (command, machines) in other.commands {
            self.add(&command, &machines.into_iter().collect::<Vec<_>>());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u8]) -> Vec<InstanceId> {
        numbers.iter().map(|number| InstanceId::from_bytes([*number; 9])).collect()
    }

    #[test]
    fn all_machines_stay_all() {
        for (first, second, expected) in
            [(&[1][..], &[2, 1][..], &[1, 2][..]), (&[1], &[], &[]), (&[], &[1], &[]), (&[], &[], &[])]
        {
            let mut told = Told::default();
            told.add("c", &ids(first));
            let mut other = Told::default();
            other.add("c", &ids(second));
            told.append(other);
            assert_eq!(told.commands["c"], ids(expected).into_iter().collect(), "{first:?} {second:?}");
            assert!(!told.everything);
        }
    }
}
