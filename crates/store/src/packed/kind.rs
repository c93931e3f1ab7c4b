//! What many instances have in common, held once.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashTable;
use inborn_identity::{AccountId, MetadataOptions, Zone};

use crate::UserData;

/// Kinds that nobody has any more are looked for when there are twice as many as were in use at the last look, and not before
/// there are so many.
const LOOK_MIN: usize = 1024;

/// What instances of one kind have in common.
#[derive(PartialEq, Eq)]
pub struct Kind {
    pub(super) account: AccountId,
    pub(super) zone: Zone,
    pub(super) image_id: Box<str>,
    pub(super) instance_type: Box<str>,
    pub(super) placement_group: Option<Box<str>>,
    pub(super) placement_partition: Option<u32>,
    pub(super) metadata_options: MetadataOptions,
    pub(super) key_name: Option<Box<str>>,
    pub(super) public_key: Option<Box<str>>,
    pub(super) user_data: Option<UserData>,
    pub(super) lease: bool,
}

/// The same, borrowed: to look for a kind without making one. The fields are those of an [`Instance`](crate::Instance).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "they are told where an instance has them")]
pub struct Parts<'a> {
    pub account: AccountId,
    pub zone: &'a str,
    pub image_id: &'a str,
    pub instance_type: &'a str,
    pub placement_group: Option<&'a str>,
    pub placement_partition: Option<u32>,
    pub metadata_options: MetadataOptions,
    pub key_name: Option<&'a str>,
    pub public_key: Option<&'a str>,
    pub user_data: Option<&'a UserData>,
    pub lease: bool,
}

impl<'a> Parts<'a> {
    pub(super) const fn with_user_data(self, user_data: &'a UserData) -> Self {
        Self { user_data: Some(user_data), ..self }
    }

    fn to_kind(self, zone: Zone) -> Kind {
        Kind {
            account: self.account,
            zone,
            image_id: self.image_id.into(),
            instance_type: self.instance_type.into(),
            placement_group: self.placement_group.map(Into::into),
            placement_partition: self.placement_partition,
            metadata_options: self.metadata_options,
            key_name: self.key_name.map(Into::into),
            public_key: self.public_key.map(Into::into),
            user_data: self.user_data.cloned(),
            lease: self.lease,
        }
    }
}

impl Kind {
    pub(super) fn parts(&self) -> Parts<'_> {
        Parts {
            account: self.account,
            zone: self.zone.as_str(),
            image_id: &self.image_id,
            instance_type: &self.instance_type,
            placement_group: self.placement_group.as_deref(),
            placement_partition: self.placement_partition,
            metadata_options: self.metadata_options,
            key_name: self.key_name.as_deref(),
            public_key: self.public_key.as_deref(),
            user_data: self.user_data.as_ref(),
            lease: self.lease,
        }
    }
}

/// Shares of a kind that are taken together. Each is counted where all who read have to look: one at a time, readers would wait for
/// each other's counting.
const SHARES: usize = 64;

/// A kind, for one instance after the other that is of it.
pub struct Shares {
    kind: Arc<Kind>,
    /// To give away.
    taken: Vec<Arc<Kind>>,
}

impl Shares {
    /// Of this kind.
    #[must_use]
    pub const fn new(kind: Arc<Kind>) -> Self {
        Self { kind, taken: Vec::new() }
    }

    /// One more.
    #[must_use]
    pub fn take(&mut self) -> Arc<Kind> {
        if let Some(share) = self.taken.pop() {
            return share;
        }
        self.taken.extend(core::iter::repeat_n(&self.kind, SHARES).map(Arc::clone));
        Arc::clone(&self.kind)
    }
}

struct Kinds {
    table: HashTable<Arc<Kind>>,
    /// The one that was found last: machines that were launched together are read together.
    last: Option<Arc<Kind>>,
    look_at: usize,
}

/// Packs instances, and knows what those have in common that it has packed. There are at most twice as many kinds as are in use,
/// or `LOOK_MIN`.
pub struct Packer {
    // Operators choose what is in a kind: the hash is keyed.
    hasher: RandomState,
    kinds: Mutex<Kinds>,
}

impl Default for Packer {
    fn default() -> Self {
        let kinds = Mutex::new(Kinds { table: HashTable::new(), last: None, look_at: LOOK_MIN });
        Self { hasher: RandomState::new(), kinds }
    }
}

impl core::fmt::Debug for Packer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Packer").field("kinds", &self.kinds()).finish_non_exhaustive()
    }
}

impl Packer {
    /// How many kinds it knows.
    #[must_use]
    pub fn kinds(&self) -> usize {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).table.len()
    }

    pub(super) fn kind(&self, parts: &Parts<'_>, zone: impl FnOnce() -> Zone) -> Arc<Kind> {
        let Ok(kind) = self.try_kind(parts, || Ok::<_, core::convert::Infallible>(zone()));
        kind
    }

    pub(super) fn try_kind<E>(
        &self,
        parts: &Parts<'_>,
        zone: impl FnOnce() -> Result<Zone, E>,
    ) -> Result<Arc<Kind>, E> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = kinds.last.as_ref().filter(|last| last.parts() == *parts) {
            return Ok(Arc::clone(last));
        }
        let hash = self.hasher.hash_one(parts);
        if let Some(known) = kinds.table.find(hash, |kind| kind.parts() == *parts).map(Arc::clone) {
            kinds.last = Some(Arc::clone(&known));
            return Ok(known);
        }
        let kind = Arc::new(parts.to_kind(zone()?));
        if kinds.table.len() >= kinds.look_at {
            kinds.last = None;
            kinds.table.retain(|kind| Arc::strong_count(kind) > 1);
            kinds.look_at = (2 * kinds.table.len()).max(LOOK_MIN);
        }
        let rehash = |kind: &Arc<Kind>| self.hasher.hash_one(kind.parts());
        kinds.table.insert_unique(hash, Arc::clone(&kind), rehash);
        kinds.last = Some(Arc::clone(&kind));
        Ok(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::samples::bare;

    #[test]
    fn kinds_below_at_and_above_the_look() {
        let packer = Packer::default();
        let mut kept = Vec::new();
        for number in 0..LOOK_MIN {
            let mut instance = bare(1);
            instance.image_id = format!("ami-{number}");
            let packed = packer.pack(&instance);
            if number < 10 {
                kept.push((instance, packed));
            }
            assert_eq!(packer.kinds(), number + 1, "nobody has looked yet");
        }
        drop(packer.pack(&bare(1)));
        assert_eq!(packer.kinds(), 11, "those that are in use, and the new one");
        for (instance, packed) in kept {
            assert_eq!(packed.unpack(), instance);
            assert!(packer.pack(&instance) == packed);
        }
        assert_eq!(packer.kinds(), 11);
    }

    #[test]
    fn those_of_one_kind_share_it() {
        let packer = Packer::default();
        let all: Vec<_> = (0..100).map(|number| packer.pack(&bare(number))).collect();
        assert_eq!(packer.kinds(), 1);
        assert!(all.windows(2).all(|two| Arc::ptr_eq(&two[0].kind, &two[1].kind)));
    }
}
