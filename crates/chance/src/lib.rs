//! Numbers that are nobody's secret: ids, and moments that spread load.
//!
//! They come from the system's source of random bytes, as keys and secrets do. What sets them apart is that a simulation may
//! draw them from a seed (feature `seeded`, in no program that is shipped), so that the same seed brings about the same again.
//! Keys, tokens and nonces are never drawn here.
#![forbid(unsafe_code)]

#[cfg(feature = "seeded")]
mod seeded;

#[cfg(feature = "seeded")]
pub use seeded::{Seeded, seed};

/// This computer has no source of random bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this computer has no source of random bytes")]
pub struct NoChance;

/// Fills `bytes` with what nobody can foresee; or by the seed of a simulation, if the thread runs one.
///
/// # Errors
/// [`NoChance`].
pub fn fill(bytes: &mut [u8]) -> Result<(), NoChance> {
    #[cfg(feature = "seeded")]
    if seeded::fill(bytes) {
        return Ok(());
    }
    aws_lc_rs::rand::fill(bytes).map_err(|_| NoChance)
}

/// Whether the thread runs a simulation, in which nothing may depend on other threads.
#[must_use]
pub fn is_seeded() -> bool {
    #[cfg(feature = "seeded")]
    return seeded::is_running();
    #[cfg(not(feature = "seeded"))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        let (mut one, mut other) = ([0; 16], [0; 16]);
        fill(&mut one).unwrap();
        fill(&mut other).unwrap();
        assert_ne!(one, other);
        assert!(!is_seeded());
    }
}
