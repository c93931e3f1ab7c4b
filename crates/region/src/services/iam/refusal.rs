//! What IAM answers when a request cannot be done. Source: IAM API reference, and captures of its texts.

use inborn_store::StoreError;
use inborn_wire::error::Problem;

use crate::roles::{ROLES_MAX, RoleError};

fn refuse(status: u16, code: &'static str, message: impl Into<String>) -> Problem {
    Problem::Service { status, code, message: message.into() }
}

pub(super) fn no_such_role(name: &str) -> Problem {
    let shown: String = name.chars().take(64).collect();
    refuse(404, "NoSuchEntity", format!("The role with name {shown} cannot be found."))
}

pub(super) fn invalid(message: impl Into<String>) -> Problem {
    Problem::Validation { message: message.into() }
}

pub(super) fn policy(message: &str) -> Problem {
    refuse(400, "MalformedPolicyDocument", message)
}

pub(super) fn protected(name: &str) -> Problem {
    let message =
        format!("Cannot perform the operation on the protected role '{name}' - this role is only modifiable by AWS");
    refuse(400, "UnmodifiableEntity", message)
}

pub(super) fn passed(name: &str) -> Problem {
    let message = format!(
        "Default Host Management passes the role {name} to machines. Reset the service setting, or pass another role, first."
    );
    refuse(409, "DeleteConflict", message)
}

pub(super) fn unread(name: &str) -> Problem {
    let shown: String = name.chars().take(128).collect();
    invalid(format!(
        "{shown} is not served here: roles have a name, a path, a description and the trust of Systems Manager."
    ))
}

pub(super) fn of_role(error: RoleError, name: &str) -> Problem {
    match error {
        RoleError::Exists => refuse(409, "EntityAlreadyExists", format!("Role with name {name} already exists.")),
        RoleError::TooMany => {
            refuse(409, "LimitExceeded", format!("Cannot exceed quota for RolesPerAccount: {ROLES_MAX}"))
        }
        RoleError::Store(error) => of_store(error),
    }
}

pub(super) fn of_store(error: StoreError) -> Problem {
    match error {
        StoreError::Full => {
            let message = "The region cannot store this: its disk is full. Free some space in its data directory, or where its database is, and try again.";
            refuse(500, "ServiceFailure", message)
        }
        StoreError::Busy | StoreError::Unavailable(_) | StoreError::ReadOnly(_) => Problem::Unavailable,
        error => {
            tracing::error!(%error, "the store failed");
            Problem::Internal
        }
    }
}
