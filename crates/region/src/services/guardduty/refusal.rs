//! What GuardDuty answers when a request cannot be done: one code for all that is the caller's fault, the rest is in the text.
//!
//! Sources of the texts: answers of AWS in hashicorp/terraform-provider-aws#11780 and in that project's tests, and the
//! reference of the API's first version.

use inborn_store::StoreError;
use inborn_wire::error::Problem;

use crate::guardduty::ChangeError;

pub(super) fn rejected(why: impl core::fmt::Display) -> Problem {
    let message = format!("The request is rejected {why}.");
    Problem::Service { status: 400, code: "BadRequestException", message }
}

/// A parameter that is not as it must be.
pub(super) fn invalid(name: &str) -> Problem {
    rejected(format_args!("because the parameter {name} has an invalid value"))
}

/// A parameter that must be there. The words are ours.
pub(super) fn missing(name: &str) -> Problem {
    rejected(format_args!("because the required parameter {name} is not specified"))
}

pub(super) fn out_of_range() -> Problem {
    rejected("because an invalid or out-of-range value is specified as an input parameter")
}

pub(super) fn not_owned() -> Problem {
    rejected("because the input detectorId is not owned by the current account")
}

pub(super) fn exists() -> Problem {
    rejected("because a detector already exists for the current account")
}

/// No such filter, set or finding.
pub(super) fn not_found() -> Problem {
    rejected("since no such resource found")
}

/// More than there may be. The words are ours.
pub(super) fn too_many(what: &str, most: usize) -> Problem {
    rejected(format_args!("because a detector has at most {most} {what}"))
}

/// A store's refusal. What only the operator of the region can mend is logged.
pub(super) fn of_store(error: StoreError) -> Problem {
    match error {
        StoreError::Full => {
            let message = "The region cannot store this: its disk is full. Free some space in its data directory, or where its database is, and try again.";
            Problem::Service { status: 500, code: "InternalServerErrorException", message: message.to_owned() }
        }
        StoreError::Busy | StoreError::Unavailable(_) | StoreError::ReadOnly(_) => Problem::Unavailable,
        error => {
            tracing::error!(%error, "the store failed");
            Problem::Internal
        }
    }
}

/// Why a change was not made.
pub(super) fn of_change(error: ChangeError<Problem>) -> Problem {
    match error {
        ChangeError::NoDetector => not_owned(),
        ChangeError::Store(error) => of_store(error),
        ChangeError::List(why) => rejected(format_args!("because the parameter location has an invalid value: {why}")),
        ChangeError::Refused(problem) => problem,
    }
}
