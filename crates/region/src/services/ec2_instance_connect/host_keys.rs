//! The record of a machine's host keys and what may be done to it: a pure step from one record to the next, and the loop
//! that lets nobody's step be lost.

use inborn_identity::{InstanceId, UnixTime};
use inborn_ssh::{Current, HostKeySet as Keys, Offer, Policy, Verdict, decide, is_served};
use inborn_store::{Conflict, HostKeyBasis, HostKeySet, HostKeys, HostKeysChange, StoreError};
use inborn_wire::error::Problem;

use super::refusal;
use crate::RegionServer;

/// How often a step is taken again because the record was changed meanwhile.
const TRIES: u32 = 8;

/// Reads the record of a machine, takes a step, and writes it, until nobody was in between.
pub(super) async fn update<T>(
    region: &RegionServer,
    instance: InstanceId,
    mut step: impl FnMut(&mut HostKeys) -> Result<T, Problem>,
) -> Result<T, Problem> {
    for _ in 0..TRIES {
        let (revision, mut keys) = region.store().host_keys(instance).await.map_err(refusal::of_store)?;
        let outcome = step(&mut keys)?;
        match region.store().put_host_keys(HostKeysChange { instance, revision, keys }).await {
            Ok(()) => return Ok(outcome),
            Err(StoreError::Conflict(Conflict::HostKeysChanged(_))) => {}
            Err(error) => return Err(refusal::of_store(error)),
        }
    }
    Err(Problem::Unavailable)
}

/// A set that a machine publishes, with where it came from.
pub(super) struct Published<'a> {
    pub(super) offer: Offer<'a>,
    pub(super) access_key_id: &'a str,
    pub(super) source_address: String,
}

/// What became of a set that was published.
pub(super) struct Applied {
    pub(super) verdict: Verdict,
    /// Whether it waits for an operator and has not done so before.
    pub(super) is_new_pending: bool,
    /// The name of the set that served before and, while this one waits, still does.
    pub(super) served: Option<String>,
}

impl Published<'_> {
    /// Decides about it and changes the record accordingly.
    pub(super) fn apply(&self, policy: Policy, record: &mut HostKeys) -> Result<Applied, Problem> {
        let mut is_new_pending = false;
        let served_set = served(policy, record).map(keys).transpose()?;
        let current_keys = record.current.as_ref().map(keys).transpose()?;
        let current = current_keys.as_ref().zip(record.current.as_ref());
        let current = current.map(|(keys, set)| Current {
            keys,
            is_vouched_for: set.proven || set.basis == HostKeyBasis::Approved,
            boot_generation: set.boot_generation,
        });
        let offer = Offer { proofs_until: record.proofs_until, ..self.offer };
        let verdict = decide(policy, current, &offer);
        match verdict {
            Verdict::Same => {
                if let Some(current) = &mut record.current {
                    self.seen_again(current);
                }
            }
            Verdict::First => self.take(record, HostKeyBasis::First),
            Verdict::ProvenByOldKey => {
                record.proofs_until = offer.proved_at.unwrap_or(record.proofs_until);
                self.take(record, HostKeyBasis::OldKey);
            }
            Verdict::FreshBoot => {
                record.proofs_until = record.proofs_until.max(offer.now);
                self.take(record, HostKeyBasis::FreshBoot);
            }
            Verdict::Pending(_) => {
                let is_known = record.pending.as_ref().map(keys).transpose()?.is_some_and(|keys| keys == *offer.keys);
                is_new_pending = !is_known;
                match &mut record.pending {
                    Some(pending) if is_known => self.seen_again(pending),
                    pending => *pending = Some(self.set(HostKeyBasis::Offered)),
                }
            }
        }
        Ok(Applied { verdict, is_new_pending, served: served_set.map(|keys| keys.digest()) })
    }

    fn take(&self, record: &mut HostKeys, basis: HostKeyBasis) {
        record.serve(self.set(basis));
        // Whatever waited was a change of a set that is no more.
        record.pending = None;
    }

    fn set(&self, basis: HostKeyBasis) -> HostKeySet {
        HostKeySet {
            lines: self.offer.keys.lines(),
            basis,
            proven: self.offer.is_proven(),
            first_seen: self.offer.now,
            last_seen: self.offer.now,
            boot_generation: self.offer.boot_generation,
            access_key_id: self.access_key_id.to_owned(),
            source_address: self.source_address.clone(),
        }
    }

    /// A set that was proven once stays so: the same keys without a proof say nothing against it.
    fn seen_again(&self, set: &mut HostKeySet) {
        let before = set.clone();
        *set = HostKeySet {
            lines: before.lines,
            basis: before.basis,
            proven: before.proven || self.offer.is_proven(),
            first_seen: before.first_seen,
            boot_generation: before.boot_generation.max(self.offer.boot_generation),
            ..self.set(before.basis)
        };
    }
}

/// An operator's decision about the set that waits, if it is still the one that was looked at.
pub(super) fn decide_pending(
    record: &mut HostKeys,
    digest: &str,
    is_approved: bool,
    now: UnixTime,
) -> Result<(), Problem> {
    let pending = record.pending.take().ok_or_else(|| refusal::invalid("No set of host keys waits for a decision"))?;
    if keys(&pending)?.digest() != digest {
        return Err(refusal::invalid("Another set of host keys waits for a decision by now: look at it first"));
    }
    if is_approved {
        record.proofs_until = record.proofs_until.max(now);
        record.serve(HostKeySet { basis: HostKeyBasis::Approved, ..pending });
    }
    Ok(())
}

/// The set that may be shown to those who trust it.
pub(super) fn served(policy: Policy, record: &HostKeys) -> Option<&HostKeySet> {
    let current = record.current.as_ref()?;
    is_served(policy, current.proven, current.basis == HostKeyBasis::Approved).then_some(current)
}

/// The keys of a stored set.
pub(super) fn keys(set: &HostKeySet) -> Result<Keys, Problem> {
    Keys::parse(set.lines.iter().map(String::as_str)).map_err(|error| {
        tracing::error!(%error, "host keys in the store are damaged: restore the data directory from a backup");
        Problem::Internal
    })
}
