//! A cut-off: what ends credentials before their own expiration.

use inborn_identity::{AccountId, InstanceId, UnixTime};

/// Whose credentials an `issued before` cut-off ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CutOffScope {
    /// One instance's.
    Instance(InstanceId),
    /// Those of an account's instances.
    Account(AccountId),
    /// Everybody's.
    All,
}

/// What is refused from now on. The same shapes as in the `credential` crate, which the store does not know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CutOff {
    /// The instance is gone: everything issued to it is unknown.
    Dead {
        /// The instance.
        instance: InstanceId,
    },
    /// What was issued to earlier boots of the instance is expired.
    OlderBoot {
        /// The instance.
        instance: InstanceId,
        /// The first generation that is still good.
        below: u32,
    },
    /// What was issued before a moment is expired.
    IssuedBefore {
        /// To whom.
        scope: CutOffScope,
        /// The first moment that is still good.
        before: UnixTime,
    },
}

/// A cut-off and when it was made, which tells when it may be forgotten.
///
/// There is at most one of each kind for each subject: of two, the one that ends more stays.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RecordedCutOff {
    /// What is refused.
    pub cut_off: CutOff,
    /// Since when.
    pub at: UnixTime,
}
