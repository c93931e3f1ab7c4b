//! A generation of root key material, sealed: the store never sees a key.

use core::fmt;
use core::str::FromStr;

use inborn_identity::UnixTime;

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
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_bytes_are_not_shown() {
        assert_eq!(format!("{:?}", Sealed::new(vec![0xab, 0xcd])), "Sealed(2 bytes)");
    }

    #[test]
    fn states_round_trip() {
        for state in [EpochState::Published, EpochState::Acknowledged, EpochState::Sealing, EpochState::Retired] {
            assert_eq!(state.to_string().parse(), Ok(state));
        }
        assert_eq!("Retired".parse::<EpochState>(), Err(()));
    }
}
