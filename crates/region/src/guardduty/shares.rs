//! How many findings there are of each machine and type: what is over its share is counted in one finding, so that no machine can
//! fill a detector and push out what others do.

use std::collections::HashMap;

use inborn_detect::finding::{FINDINGS_OF_A_TYPE_MAX, counts_further};
use inborn_identity::InstanceId;
use inborn_store as store;

/// Whose share a finding counts in: the machine, the type, and whether it was put aside.
type Share = (Option<InstanceId>, String, bool);

/// The findings of one detector, counted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Shares {
    of: HashMap<Share, usize>,
    total: usize,
}

impl Shares {
    /// Counts a finding that is new to the store.
    pub(super) fn add(&mut self, finding: &store::Finding) {
        self.total += 1;
        if counts_further(&finding.key) {
            return;
        }
        *self.of.entry((finding.instance, finding.kind.clone(), finding.is_archived)).or_default() += 1;
    }

    /// Whether further findings are to be counted together.
    pub(super) fn is_used_up(&self, instance: Option<InstanceId>, kind: &str, is_archived: bool) -> bool {
        let share = (instance, kind.to_owned(), is_archived);
        self.of.get(&share).is_some_and(|count| *count >= FINDINGS_OF_A_TYPE_MAX)
    }

    /// How many there are.
    pub(super) const fn total(&self) -> usize {
        self.total
    }
}
