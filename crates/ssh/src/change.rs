//! When a set of host keys may take the place of another: a pure function, so that every case can be tried.
//!
//! Who trusts a machine by its host keys trusts whoever may change them. The machine's own credentials are not enough for
//! that: every local user in it can read them.

use core::fmt;
use core::str::FromStr;

use inborn_identity::UnixTime;

use crate::{HostKeySet, PublicKey};

/// How long after a boot a machine may publish new keys unasked: images make theirs at first boot, in the minute that
/// cloud-init takes.
pub const FRESH_BOOT_SECONDS: u64 = 600;

/// What an account demands of its machines.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Policy {
    /// A set is taken although nobody has shown that the machine holds the private keys: all that the scripts of AWS's
    /// package can do.
    #[default]
    AcceptUnproven,
    /// Every key of a set must have proved itself, else an operator must have approved it.
    RequireProof,
}

/// Not the name of a policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a policy of host keys is accept-unproven or require-proof")]
pub struct PolicyError;

impl Policy {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AcceptUnproven => "accept-unproven",
            Self::RequireProof => "require-proof",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Policy {
    type Err = PolicyError;
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        [Self::AcceptUnproven, Self::RequireProof].into_iter().find(|policy| policy.as_str() == text).ok_or(PolicyError)
    }
}

/// The set that is served for a machine now.
#[derive(Clone, Copy, Debug)]
pub struct Current<'a> {
    /// Its keys.
    pub keys: &'a HostKeySet,
    /// Whether every key of it has proved itself, or an operator has approved it.
    pub is_vouched_for: bool,
    /// The boot in which it was published last.
    pub boot_generation: u32,
}

/// A set that a machine publishes.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// Its keys.
    pub keys: &'a HostKeySet,
    /// Keys, new or old, that have signed this very set.
    pub proven_by: &'a [PublicKey],
    /// When they say that they signed; something only if there is a proof.
    pub proved_at: Option<UnixTime>,
    /// No proof up to this moment counts: it may be one that was sent before.
    pub proofs_until: UnixTime,
    /// The boot that the caller's credential belongs to.
    pub boot_generation: u32,
    /// When that boot was.
    pub boot_time: UnixTime,
    /// The present moment.
    pub now: UnixTime,
}

impl Offer<'_> {
    /// Whether every key of the set has signed it.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.keys.iter().all(|key| self.proven_by.contains(key))
    }

    fn is_proven_by_one_of(&self, old: &HostKeySet) -> bool {
        self.proved_at.is_some_and(|at| at > self.proofs_until) && self.proven_by.iter().any(|key| old.contains(key))
    }

    fn is_of_a_fresh_boot(&self, current: &Current<'_>) -> bool {
        self.boot_generation > current.boot_generation && self.now.since(self.boot_time) <= FRESH_BOOT_SECONDS
    }
}

/// What becomes of an offer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// The machine had none: these are its keys from now on.
    First,
    /// These are its keys already.
    Same,
    /// One of its old keys has signed the new set: these are its keys from now on.
    ProvenByOldKey,
    /// It has just booted, and in this boot has said nothing else yet: these are its keys from now on. Not where proof is
    /// demanded and the old set is vouched for: any local user can be the first to speak, with keys of his own that he proves.
    FreshBoot,
    /// An operator must decide. Until then the old set stays, or none.
    Pending(PendingReason),
}

/// Why an operator must decide.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PendingReason {
    /// The policy demands that every new key proves itself.
    Unproven,
    /// It is a change that no old key has signed.
    NotByOldKey,
}

/// Decides about an offer.
#[must_use]
pub fn decide(policy: Policy, current: Option<Current<'_>>, offer: &Offer<'_>) -> Verdict {
    let Some(current) = current else {
        return if policy == Policy::RequireProof && !offer.is_proven() {
            Verdict::Pending(PendingReason::Unproven)
        } else {
            Verdict::First
        };
    };
    if current.keys == offer.keys {
        Verdict::Same
    } else if policy == Policy::RequireProof && !offer.is_proven() {
        Verdict::Pending(PendingReason::Unproven)
    } else if offer.is_proven_by_one_of(current.keys) {
        Verdict::ProvenByOldKey
    } else if offer.is_of_a_fresh_boot(&current) && !(policy == Policy::RequireProof && current.is_vouched_for) {
        Verdict::FreshBoot
    } else {
        Verdict::Pending(PendingReason::NotByOldKey)
    }
}

/// Whether a current set may be shown to those who trust it: a policy that has grown stricter holds for sets that were
/// taken before, too.
#[must_use]
pub const fn is_served(policy: Policy, is_proven: bool, is_approved: bool) -> bool {
    match policy {
        Policy::AcceptUnproven => true,
        Policy::RequireProof => is_proven || is_approved,
    }
}

#[cfg(test)]
mod tests;
