//! A generation of root key material, sealed: the store never sees a key.

use core::fmt;
use core::str::FromStr;

use inborn_identity::UnixTime;

use crate::StoreError;

/// Bytes that were sealed elsewhere. `Debug` shows only their length, so that a log cannot be a copy.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// From bytes that are sealed already.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The sealed bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// How far an epoch is in its rotation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum EpochState {
    /// Verifiers have it or are getting it; nothing is sealed with it yet.
    Published,
    /// Every verifier has said that it has it.
    Acknowledged,
    /// New credentials are sealed with it.
    Sealing,
    /// Nothing new is sealed with it, and nothing old is accepted once the longest life is over.
    Retired,
}

impl EpochState {
    /// The word it is stored as.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Acknowledged => "acknowledged",
            Self::Sealing => "sealing",
            Self::Retired => "retired",
        }
    }
}

impl fmt::Display for EpochState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EpochState {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Published, Self::Acknowledged, Self::Sealing, Self::Retired]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(())
    }
}

/// One epoch at rest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedEpoch {
    /// Its number, never used twice.
    pub id: u32,
    /// The root, sealed under the key-encryption key.
    pub blob: Sealed,
    /// When it was made.
    pub created_at: UnixTime,
    /// How far it is in its rotation.
    pub state: EpochState,
    /// The first moment of issue that it seals; `None`: of the first epoch, or not known yet.
    pub seals_from: Option<UnixTime>,
    /// When it was retired. Its root is empty from then on.
    pub ended_at: Option<UnixTime>,
    /// Whether it was cut off before its time.
    pub revoked: bool,
}

/// A change of an epoch, made only if it is still as expected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EpochChange {
    /// As it must be now.
    pub expected: SealedEpoch,
    /// As it will be.
    pub after: SealedEpoch,
}

impl EpochChange {
    /// The most changes that are made at once.
    pub const TOGETHER_MAX: usize = 64;

    /// Whether it leads on: what every store asks before it does anything. No epoch goes back to an earlier stage, none that is
    /// retired comes back, and what it seals from is never put off.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        let Self { expected, after } = self;
        let is_same = expected.id == after.id && expected.created_at == after.created_at;
        let is_onward = expected.state <= after.state
            && expected.revoked <= after.revoked
            && expected.seals_from.is_none_or(|from| after.seals_from.is_some_and(|after| after <= from))
            && expected.ended_at.is_none_or(|at| after.ended_at == Some(at));
        let is_retired = after.state == EpochState::Retired;
        let is_whole = is_retired == after.blob.as_bytes().is_empty() && (is_retired || !after.revoked);
        // One that was retired by an earlier program may have kept its root.
        let is_kept = expected == after;
        if is_kept || (is_same && is_onward && is_whole) {
            return Ok(());
        }
        Err(StoreError::Invalid("an epoch does not go back"))
    }

    /// Whether so many may be made at once, and each leads on.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check_all(changes: &[Self]) -> Result<(), StoreError> {
        if changes.len() > Self::TOGETHER_MAX {
            return Err(StoreError::Invalid("at most 64 epochs are changed at once"));
        }
        changes.iter().try_for_each(Self::check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_bytes_are_not_shown() {
        assert_eq!(format!("{:?}", Sealed::new(vec![0xab, 0xcd])), "Sealed(2 bytes)");
    }

    #[test]
    fn an_epoch_goes_one_way() {
        use EpochState::{Acknowledged, Published, Retired, Sealing};
        let at = UnixTime::from_secs;
        let epoch = |state, seals_from: Option<u64>| SealedEpoch {
            id: 1,
            blob: Sealed::new(if state == Retired { vec![] } else { vec![1] }),
            created_at: at(1),
            state,
            seals_from: seals_from.map(at),
            ended_at: (state == Retired).then_some(at(9)),
            revoked: false,
        };
        let leads = |expected: &SealedEpoch, after: &SealedEpoch| {
            EpochChange { expected: expected.clone(), after: after.clone() }.check().is_ok()
        };
        let stages =
            [epoch(Published, None), epoch(Acknowledged, None), epoch(Sealing, Some(5)), epoch(Retired, Some(5))];
        for (from, expected) in stages.iter().enumerate() {
            for (to, after) in stages.iter().enumerate() {
                assert_eq!(leads(expected, after), from <= to, "{from} {to}");
            }
        }
        let sealing = epoch(Sealing, Some(5));
        assert!(leads(&sealing, &epoch(Sealing, Some(4))) && !leads(&sealing, &epoch(Sealing, Some(6))));
        assert!(!leads(&sealing, &epoch(Sealing, None)) && !leads(&sealing, &SealedEpoch { id: 2, ..sealing.clone() }));
        assert!(!leads(&sealing, &SealedEpoch { revoked: true, ..sealing.clone() }), "it would still verify");
        let revoked = SealedEpoch { revoked: true, ..epoch(Retired, Some(5)) };
        assert!(leads(&sealing, &revoked) && !leads(&revoked, &epoch(Retired, Some(5))));
        let with_root = SealedEpoch { blob: Sealed::new(vec![1]), ..epoch(Retired, Some(5)) };
        assert!(!leads(&sealing, &with_root), "a root that is over is forgotten");
        assert!(leads(&with_root, &with_root) && leads(&with_root, &epoch(Retired, Some(5))));
    }

    #[test]
    fn states_round_trip() {
        for state in [EpochState::Published, EpochState::Acknowledged, EpochState::Sealing, EpochState::Retired] {
            assert_eq!(state.to_string().parse(), Ok(state));
        }
        assert_eq!("Retired".parse::<EpochState>(), Err(()));
    }
}
