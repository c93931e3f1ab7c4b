//! The SSH host keys of a machine: what is served, what waits for a decision, and what was served before.

use core::fmt;
use core::str::FromStr;

use inborn_identity::{InstanceId, UnixTime};

use crate::StoreError;

/// On what ground a set of host keys stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum HostKeyBasis {
    /// On none: it waits for a decision.
    Offered,
    /// The machine had no other.
    First,
    /// A key of the set before has signed it.
    OldKey,
    /// The machine had just booted.
    FreshBoot,
    /// An operator has approved it.
    Approved,
}

impl HostKeyBasis {
    const ALL: [Self; 5] = [Self::Offered, Self::First, Self::OldKey, Self::FreshBoot, Self::Approved];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::First => "first",
            Self::OldKey => "old-key",
            Self::FreshBoot => "fresh-boot",
            Self::Approved => "approved",
        }
    }
}

impl fmt::Display for HostKeyBasis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for HostKeyBasis {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|basis| basis.as_str() == text).ok_or(())
    }
}

/// A set of host keys as a machine published it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostKeySet {
    /// The keys, one line of a `.pub` file each, without line feeds.
    pub lines: Vec<String>,
    /// On what ground it stands.
    pub basis: HostKeyBasis,
    /// Whether every key has signed the set.
    pub proven: bool,
    /// When it was published first.
    pub first_seen: UnixTime,
    /// When it was published last.
    pub last_seen: UnixTime,
    /// The boot in which it was published last.
    pub boot_generation: u32,
    /// The credential that published it last.
    pub access_key_id: String,
    /// Where it came from.
    pub source_address: String,
}

/// All that is remembered of the host keys of one machine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostKeys {
    /// No proof by an old key that was made up to this moment counts.
    pub proofs_until: UnixTime,
    /// What is served.
    pub current: Option<HostKeySet>,
    /// What waits for a decision.
    pub pending: Option<HostKeySet>,
    /// What was served before, the latest first: at most [`HostKeys::PAST_MAX`].
    pub past: Vec<HostKeySet>,
}

impl HostKeys {
    /// The most sets of the past that are kept.
    pub const PAST_MAX: usize = 16;
    /// The most bytes of the lines of one set.
    pub const LINES_BYTES_MAX: usize = 64 * 1024;

    /// Puts `set` in the place of what is served, which becomes the latest of the past; the oldest beyond the most that are
    /// kept goes.
    pub fn serve(&mut self, set: HostKeySet) {
        if let Some(before) = self.current.replace(set) {
            self.past.insert(0, before);
            self.past.truncate(Self::PAST_MAX);
        }
    }

    /// The sets, each with its place in the store.
    pub fn places(&self) -> impl Iterator<Item = (u8, &HostKeySet)> {
        let single = |place, set: &'_ Option<HostKeySet>| set.as_ref().map(|_| place);
        let current = single(0, &self.current).zip(self.current.as_ref());
        let pending = single(1, &self.pending).zip(self.pending.as_ref());
        current.into_iter().chain(pending).chain((2..).zip(&self.past))
    }
}

/// A new record of a machine's host keys, written only if nobody else has written one meanwhile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostKeysChange {
    /// Whose.
    pub instance: InstanceId,
    /// The revision that the change was decided by; 0: there was none.
    pub revision: u64,
    /// The record.
    pub keys: HostKeys,
}

impl HostKeysChange {
    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.keys.past.len() > HostKeys::PAST_MAX {
            return Err(StoreError::Invalid("a record of host keys has at most 16 sets of the past"));
        }
        let fits = |set: &HostKeySet| {
            !set.lines.is_empty()
                && set.lines.iter().all(|line| !line.is_empty() && !line.contains('\n'))
                && set.lines.iter().map(|line| line.len() + 1).sum::<usize>() <= HostKeys::LINES_BYTES_MAX
        };
        if !self.keys.places().all(|(_, set)| fits(set)) {
            return Err(StoreError::Invalid("a set of host keys has lines, of at most 65536 bytes together"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_round_trip() {
        for basis in HostKeyBasis::ALL {
            assert_eq!(basis.to_string().parse(), Ok(basis));
        }
        assert_eq!("".parse::<HostKeyBasis>(), Err(()));
    }
}
