//! What Instance Connect answers when a request cannot be done: the codes of its public model (2018-04-02).

use inborn_identity::InstanceId;
use inborn_store::StoreError;
use inborn_wire::error::Problem;

fn refuse(code: &'static str, message: impl Into<String>) -> Problem {
    Problem::Service { status: 400, code, message: message.into() }
}

pub(super) fn invalid(message: impl Into<String>) -> Problem {
    refuse("InvalidArgsException", message)
}

pub(super) fn not_allowed(message: impl Into<String>) -> Problem {
    refuse("AuthException", message)
}

pub(super) fn not_found(instance: InstanceId) -> Problem {
    refuse("EC2InstanceNotFoundException", format!("The instance '{instance}' does not exist"))
}

/// A store's refusal. What only the operator of the region can mend is logged.
pub(super) fn of_store(error: StoreError) -> Problem {
    match error {
        StoreError::NotFound(ids) if !ids.is_empty() => ids.first().map_or(Problem::Internal, |id| not_found(*id)),
        StoreError::Full => {
            let message =
                "The region cannot store this: its disk is full. Free some space in its data directory and try again.";
            Problem::Service { status: 503, code: "ServiceException", message: message.to_owned() }
        }
        StoreError::Busy => Problem::Unavailable,
        error => {
            tracing::error!(%error, "the store failed");
            Problem::Internal
        }
    }
}
