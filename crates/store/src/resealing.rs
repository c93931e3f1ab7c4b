//! What rests sealed is sealed anew: under another key-encryption key, without a change of what is inside.

use inborn_identity::AccessKeyId;

use crate::{Sealed, StoreError};

/// Where something sealed is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SealedPlace {
    /// The root of an epoch.
    Epoch(u32),
    /// The secret of an operator.
    Operator(AccessKeyId),
    /// A setting.
    Setting(String),
}

/// Something sealed, as it is and as it will be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resealing {
    /// Where it is.
    pub place: SealedPlace,
    /// What it must be now.
    pub expected: Sealed,
    /// What it will be.
    pub after: Sealed,
}

impl Resealing {
    /// The most that is sealed anew at once.
    pub const TOGETHER_MAX: usize = 10_000;

    /// Whether so many may be sealed anew at once: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check_all(all: &[Self]) -> Result<(), StoreError> {
        if all.len() > Self::TOGETHER_MAX {
            return Err(StoreError::Invalid("at most 10000 secrets are sealed anew at once"));
        }
        Ok(())
    }
}
