//! What Instance Connect answers when a request cannot be done: the codes of its public model (2018-04-02).

use inborn_identity::InstanceId;
use inborn_store::StoreError;
use inborn_wire::error::Problem;

use crate::user_keys::SendKeyError;

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

/// A key for logins that is none. Source of the beginning: an answer of AWS in danmx/sigil#116.
pub(super) fn bad_key(why: &str) -> Problem {
    invalid(format!(
        "Invalid input parameter received for Illegal argument exception: RSA - SSH Public key is invalid: {why}"
    ))
}

/// No instance of that id, account and zone.
pub(super) fn no_such_instance(id: &str) -> Problem {
    refuse("EC2InstanceNotFoundException", format!("The specified instance '{id}' was not found."))
}

/// Source: API reference, `SendSSHPublicKey`.
pub(super) fn not_running() -> Problem {
    let message = "Unable to connect because the instance is not in a valid state. Connecting to a stopped or terminated \
                   instance is not supported. If the instance is stopped, start your instance, and try to connect again.";
    refuse("EC2InstanceStateInvalidException", message)
}

/// Source: API reference, `SendSerialConsoleSSHPublicKey`.
pub(super) fn no_serial_console() -> Problem {
    let message = "Your account is not authorized to use the EC2 Serial Console. To authorize your account, run the \
                   EnableSerialConsoleAccess API. For more information, see EnableSerialConsoleAccess in the Amazon EC2 API \
                   Reference.";
    refuse("SerialConsoleAccessDisabledException", message)
}

/// A key that is good, but cannot be sent now.
pub(super) fn not_sent(error: SendKeyError) -> Problem {
    match error {
        SendKeyError::TooMany(why) => refuse("ThrottlingException", why.to_string()),
        SendKeyError::NoSigner => Problem::Unavailable,
        SendKeyError::Signer(error) => {
            tracing::error!(%error, "a user's key could not be signed");
            Problem::Internal
        }
    }
}

/// A store's refusal. What only the operator of the region can mend is logged.
pub(super) fn of_store(error: StoreError) -> Problem {
    match error {
        StoreError::NotFound(ids) if !ids.is_empty() => ids.first().map_or(Problem::Internal, |id| not_found(*id)),
        StoreError::Full => {
            let message = "The region cannot store this: its disk is full. Free some space in its data directory, or where its database is, and try again.";
            Problem::Service { status: 503, code: "ServiceException", message: message.to_owned() }
        }
        StoreError::Busy | StoreError::Unavailable(_) | StoreError::ReadOnly(_) => Problem::Unavailable,
        error => {
            tracing::error!(%error, "the store failed");
            Problem::Internal
        }
    }
}
