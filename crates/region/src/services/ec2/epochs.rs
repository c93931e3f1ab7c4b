//! What the operations about epochs have in common: who may use them, and what they are refused.

use inborn_wire::error::Problem;

use super::refusal;
use crate::OpenError;
use crate::epochs::EpochError;
use crate::operation::Call;

/// Epochs are the region's, and so for operators of its own account.
pub(super) fn check(call: &Call<'_>) -> Result<(), Problem> {
    if call.caller.principal.account() == call.region.identity().account {
        return Ok(());
    }
    Err(refusal::unsupported("Only operators of the region's own account decide about epochs"))
}

pub(super) fn refused(error: EpochError) -> Problem {
    match error {
        EpochError::NoRotation(_) | EpochError::Unknown(_) | EpochError::Over(_) => {
            Problem::Service { status: 400, code: "InvalidEpoch", message: capitalized(&error.to_string()) }
        }
        EpochError::Stale => Problem::Unavailable,
        EpochError::Open(OpenError::Store(error)) => refusal::of_store(error),
        EpochError::Open(error) => {
            tracing::error!(%error, "an epoch cannot be made or ended");
            Problem::Internal
        }
    }
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
