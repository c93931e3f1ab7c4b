//! The stages of a rotation: what is to be done next, as a function of how things are.
//!
//! ```text
//! published ──every live server verifies with it──▶ acknowledged ──▶ sealing, from a moment ahead ──▶ retired
//! ```
//!
//! What seals is decided by the moment of issue alone. So all servers give the same bytes, whenever each of them hears of the
//! next epoch, if it hears before that moment.

use inborn_credential::{Keyring, LIFE_MAX_SECONDS};
use inborn_identity::UnixTime;
use inborn_store::{EpochChange, EpochState, Sealed, SealedEpoch};

/// How far ahead an epoch is said to seal. Hosts are given credentials up to 360 s ahead of their time, and clocks may differ by 900 s.
pub(crate) const SEALS_AHEAD_SECONDS: u64 = 1260;
/// How long after the next one has begun to seal an epoch is retired: all that it sealed has expired, by any clock.
pub(crate) const RETIRED_AFTER_SECONDS: u64 = LIFE_MAX_SECONDS + 900;

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// An epoch of this number is to be made.
    Publish(u32),
    /// One goes on to its next stage.
    Change(EpochChange),
}

/// Why there is no rotation now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NoRotation {
    /// One is on its way.
    #[error("epoch {0} is on its way already: see `inborn epoch list`")]
    UnderWay(u32),
    /// As many epochs are in use as there may be.
    #[error(
        "{} epochs are in use, and no more may be: wait until the oldest is retired, or revoke it",
        Keyring::EPOCHS_MAX
    )]
    TooMany,
    /// All numbers are used up.
    #[error("there are no numbers left for epochs")]
    Numbers,
}

/// The number that the next epoch has, if there may be one now.
pub(super) fn next_id(epochs: &[SealedEpoch], now: UnixTime) -> Result<u32, NoRotation> {
    let is_on_its_way = |epoch: &&SealedEpoch| match epoch.state {
        EpochState::Published | EpochState::Acknowledged => true,
        EpochState::Sealing => epoch.seals_from.is_some_and(|from| from > now),
        EpochState::Retired => false,
    };
    if let Some(epoch) = epochs.iter().find(is_on_its_way) {
        return Err(NoRotation::UnderWay(epoch.id));
    }
    if epochs.iter().filter(|epoch| epoch.state != EpochState::Retired).count() >= Keyring::EPOCHS_MAX {
        return Err(NoRotation::TooMany);
    }
    // Rows are never deleted: a number is used once.
    let last = epochs.iter().map(|epoch| epoch.id).max().unwrap_or(0);
    last.checked_add(1).ok_or(NoRotation::Numbers)
}

/// The next step of all, if any is due. `all_verify` says whether every live server verifies with an epoch.
pub(super) fn next(
    epochs: &[SealedEpoch],
    all_verify: impl Fn(u32) -> bool,
    rotate_after_seconds: Option<u64>,
    now: UnixTime,
) -> Option<Step> {
    let advanced = |epoch: &SealedEpoch| match epoch.state {
        EpochState::Published if all_verify(epoch.id) => {
            Some(SealedEpoch { state: EpochState::Acknowledged, ..epoch.clone() })
        }
        EpochState::Acknowledged => {
            let seals_from = Some(now.plus(SEALS_AHEAD_SECONDS));
            Some(SealedEpoch { state: EpochState::Sealing, seals_from, ..epoch.clone() })
        }
        EpochState::Sealing => {
            let begin = |epoch: &SealedEpoch| epoch.seals_from.unwrap_or_default();
            let later = epochs.iter().filter(|other| other.state == EpochState::Sealing && other.id > epoch.id);
            let ends = later.map(begin).min()?;
            (now >= ends.plus(RETIRED_AFTER_SECONDS)).then(|| retired(epoch, now))
        }
        EpochState::Published | EpochState::Retired => None,
    };
    let change = epochs.iter().find_map(|epoch| Some(EpochChange { expected: epoch.clone(), after: advanced(epoch)? }));
    if let Some(change) = change {
        return Some(Step::Change(change));
    }
    let newest = epochs.iter().filter(|epoch| epoch.state == EpochState::Sealing).max_by_key(|epoch| epoch.id)?;
    let is_due = rotate_after_seconds.is_some_and(|seconds| now >= newest.created_at.plus(seconds));
    if is_due { next_id(epochs, now).ok().map(Step::Publish) } else { None }
}

/// An epoch that is over: nothing is left of its root.
pub(crate) fn retired(epoch: &SealedEpoch, now: UnixTime) -> SealedEpoch {
    SealedEpoch { state: EpochState::Retired, ended_at: Some(now), blob: Sealed::new(Vec::new()), ..epoch.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EpochState::{Acknowledged, Published, Retired, Sealing};

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
    const DAY: u64 = 24 * 3600;

    fn epoch(id: u32, state: EpochState, seals_from: Option<UnixTime>) -> SealedEpoch {
        let blob = Sealed::new(vec![1]);
        SealedEpoch { id, blob, created_at: NOW, state, seals_from, ended_at: None, revoked: false }
    }

    fn step(epochs: &[SealedEpoch], all_verify: bool, now: UnixTime) -> Option<Step> {
        next(epochs, |_| all_verify, Some(90 * DAY), now)
    }

    fn after(step: Option<Step>) -> SealedEpoch {
        match step {
            Some(Step::Change(change)) => change.after,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_epoch_goes_from_stage_to_stage() {
        let first = epoch(1, Sealing, None);
        let published = [first.clone(), epoch(2, Published, None)];
        assert_eq!(step(&published, false, NOW), None, "somebody does not verify with it yet");
        let acknowledged = after(step(&published, true, NOW));
        assert_eq!((acknowledged.id, acknowledged.state), (2, Acknowledged));
        let sealing = after(step(&[first.clone(), acknowledged], false, NOW));
        assert_eq!((sealing.state, sealing.seals_from), (Sealing, Some(NOW.plus(SEALS_AHEAD_SECONDS))));
        let both = [first, sealing.clone()];
        let end = NOW.plus(SEALS_AHEAD_SECONDS + RETIRED_AFTER_SECONDS);
        assert_eq!(step(&both, true, end.minus(1)), None);
        let over = after(step(&both, true, end));
        assert_eq!((over.id, over.state, over.ended_at), (1, Retired, Some(end)));
        assert!(over.blob.as_bytes().is_empty(), "nothing is left of its root");
        assert_eq!(step(&[over, sealing], true, end), None);
    }

    #[test]
    fn the_age_of_the_newest_is_what_counts() {
        let epochs = [epoch(1, Sealing, None)];
        assert_eq!(step(&epochs, true, NOW.plus(90 * DAY - 1)), None);
        assert_eq!(step(&epochs, true, NOW.plus(90 * DAY)), Some(Step::Publish(2)));
        assert_eq!(next(&epochs, |_| true, None, NOW.plus(900 * DAY)), None, "never by itself");
        assert_eq!(next(&epochs, |_| true, Some(1), NOW.plus(1)), Some(Step::Publish(2)));
        let both = [epoch(1, Sealing, None), SealedEpoch { created_at: NOW.plus(DAY), ..epoch(2, Sealing, Some(NOW)) }];
        assert_ne!(step(&both, true, NOW.plus(90 * DAY)), Some(Step::Publish(3)));
    }

    #[test]
    fn one_rotation_at_a_time() {
        let first = epoch(1, Sealing, None);
        for second in [epoch(2, Published, None), epoch(2, Acknowledged, None), epoch(2, Sealing, Some(NOW.plus(1)))] {
            assert_eq!(next_id(&[first.clone(), second], NOW), Err(NoRotation::UnderWay(2)));
        }
        assert_eq!(next_id(&[first.clone(), epoch(2, Sealing, Some(NOW))], NOW), Ok(3));
        assert_eq!(next_id(&[first.clone(), epoch(2, Retired, None)], NOW), Ok(3), "a number is used once");
        assert_eq!(next_id(&[first, epoch(u32::MAX, Retired, None)], NOW), Err(NoRotation::Numbers));
    }

    #[test]
    fn epochs_below_at_and_above_the_most() {
        let many = |count: u32| {
            let epochs: Vec<_> = (1..=count).map(|id| epoch(id, Sealing, Some(NOW))).collect();
            next_id(&epochs, NOW)
        };
        assert_eq!((many(14), many(15), many(16)), (Ok(15), Ok(16), Err(NoRotation::TooMany)));
    }

    /// Whatever happens to come first, each epoch goes one way, and there is always one that seals now.
    #[test]
    fn whatever_the_clock_does_there_is_one_that_seals() {
        let mut epochs = vec![epoch(1, Sealing, None)];
        let mut now = NOW;
        for round in 0..2000_u64 {
            now = now.plus(round * 7919 % (3 * DAY));
            if let Some(step) = next(&epochs, |_| round % 3 != 0, Some(5 * DAY), now) {
                match step {
                    Step::Publish(id) => epochs.push(SealedEpoch { created_at: now, ..epoch(id, Published, None) }),
                    Step::Change(change) => {
                        assert_eq!(change.check(), Ok(()));
                        let at = epochs.iter().position(|epoch| epoch.id == change.after.id).unwrap();
                        assert_eq!(epochs[at], change.expected);
                        epochs[at] = change.after;
                    }
                }
            }
            let seals = |epoch: &&SealedEpoch| epoch.state == Sealing && epoch.seals_from.unwrap_or_default() <= now;
            assert!(epochs.iter().any(|epoch| seals(&epoch)), "round {round}");
            assert!(epochs.iter().filter(|epoch| epoch.state != Retired).count() <= Keyring::EPOCHS_MAX);
        }
        assert!(epochs.len() > 100 && epochs[0].state == Retired);
    }
}
