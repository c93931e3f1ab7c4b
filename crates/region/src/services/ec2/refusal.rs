//! What EC2 answers when a request cannot be done: codes and sentences of its API reference and of captures.

use inborn_identity::{HostId, InstanceId};
use inborn_store::{Conflict, StoreError};
use inborn_wire::error::Problem;

fn refuse(status: u16, code: &'static str, message: impl Into<String>) -> Problem {
    Problem::Service { status, code, message: message.into() }
}

pub(super) fn missing_parameter(name: &str) -> Problem {
    refuse(400, "MissingParameter", format!("The request must contain the parameter {name}"))
}

pub(super) fn invalid_value(message: impl Into<String>) -> Problem {
    refuse(400, "InvalidParameterValue", message)
}

pub(super) fn invalid_combination(message: impl Into<String>) -> Problem {
    refuse(400, "InvalidParameterCombination", message)
}

pub(super) fn malformed_id(id: &str, prefix: &str) -> Problem {
    let code = if prefix == "ami-" { "InvalidAMIID.Malformed" } else { "InvalidInstanceID.Malformed" };
    let shown = shown(id);
    let message = if id.starts_with(prefix) {
        format!("Invalid id: \"{shown}\"")
    } else {
        format!("Invalid id: \"{shown}\" (expecting \"{prefix}...\")")
    };
    refuse(400, code, message)
}

pub(super) fn not_found(ids: &[InstanceId]) -> Problem {
    let list = ids.iter().map(InstanceId::to_string).collect::<Vec<_>>().join(", ");
    let message = match ids {
        [_] => format!("The instance ID '{list}' does not exist"),
        _ => format!("The instance IDs '{list}' do not exist"),
    };
    refuse(400, "InvalidInstanceID.NotFound", message)
}

pub(super) fn connect_endpoint_not_found(id: &str) -> Problem {
    let message = format!("The instance connect endpoint ID '{}' does not exist", shown(id));
    refuse(400, "InvalidInstanceConnectEndpointId.NotFound", message)
}

pub(super) fn malformed_host_id(id: &str) -> Problem {
    refuse(400, "InvalidHostID.Malformed", format!("Invalid id: \"{}\" (expecting \"h-...\")", shown(id)))
}

pub(super) fn host_not_found(id: HostId) -> Problem {
    refuse(400, "InvalidHostID.NotFound", format!("The host ID '{id}' does not exist"))
}

pub(super) fn host_state(id: HostId) -> Problem {
    refuse(400, "InvalidHostState", format!("The host '{id}' takes no more instances: it is drained or evicted"))
}

pub(super) fn host_capacity(id: HostId) -> Problem {
    refuse(400, "InsufficientCapacityOnHost", format!("There is not enough capacity on host '{id}' for the instances"))
}

pub(super) fn dry_run() -> Problem {
    refuse(412, "DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
}

pub(super) fn token_mismatch() -> Problem {
    let message = "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).";
    refuse(400, "IdempotentParameterMismatch", message)
}

pub(super) fn tag_limit() -> Problem {
    refuse(400, "TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
}

pub(super) fn unsupported(message: &str) -> Problem {
    refuse(400, "UnsupportedOperation", message)
}

pub(super) fn tokens_enforced_at_launch() -> Problem {
    let message = "You can't launch instances with IMDSv1 because httpTokensEnforced is enabled for this account. Either \
                   launch the instance with httpTokens=required or contact your account owner to disable \
                   httpTokensEnforced using the ModifyInstanceMetadataDefaults API or the account settings in the EC2 \
                   console.";
    unsupported(message)
}

pub(super) fn tokens_enforced() -> Problem {
    unsupported("You can't set httpTokens to 'optional' because httpTokensEnforced is enabled for this account.")
}

pub(super) fn key_pair_not_found(name: &str) -> Problem {
    refuse(400, "InvalidKeyPair.NotFound", format!("The key pair '{}' does not exist", shown(name)))
}

pub(super) fn key_pair_id_not_found(id: &str) -> Problem {
    refuse(400, "InvalidKeyPair.NotFound", format!("The key pair ID '{}' does not exist", shown(id)))
}

pub(super) fn key_pair_exists(name: &str) -> Problem {
    refuse(400, "InvalidKeyPair.Duplicate", format!("The keypair already exists: '{}'", shown(name)))
}

pub(super) fn key_pair_limit() -> Problem {
    refuse(
        400,
        "KeyPairLimitExceeded",
        "The maximum number of key pairs has been reached: delete some that are not used.",
    )
}

pub(super) fn key_format(message: &str) -> Problem {
    refuse(400, "InvalidKey.Format", message)
}

/// The client's own text, cut so that the answer stays an answer.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

/// A store's refusal. What only an operator of the region can mend is said in words of the region.
pub(super) fn of_store(error: StoreError) -> Problem {
    match error {
        StoreError::NotFound(ids) => not_found(&ids),
        StoreError::Conflict(Conflict::WrongState { instance, change, .. }) => {
            let participle = match change {
                "stop" => "stopped",
                "start" => "started",
                "reboot" => "rebooted",
                _ => "modified",
            };
            let message = format!("The instance '{instance}' is not in a state from which it can be {participle}.");
            refuse(400, "IncorrectInstanceState", message)
        }
        StoreError::Conflict(Conflict::HostRefused(id)) => host_state(id),
        StoreError::Full => {
            let message = "The region cannot store this: its disk is full. Free some space in its data directory, or where its database is, and try again.";
            refuse(503, "InsufficientInstanceCapacity", message)
        }
        StoreError::Busy | StoreError::Unavailable(_) | StoreError::ReadOnly(_) => Problem::Unavailable,
        // Others were faster: who tries again loses nothing.
        StoreError::Conflict(Conflict::QuarantineChanged(_)) => Problem::Unavailable,
        error => {
            tracing::error!(%error, "the store failed");
            Problem::Internal
        }
    }
}

/// The same for a change of an attribute, which wants the instance stopped.
pub(super) fn of_attribute(error: StoreError, attribute: &str) -> Problem {
    match error {
        StoreError::Conflict(Conflict::WrongState { instance, .. }) => {
            let message =
                format!("The instance '{instance}' must be in the 'stopped' state to modify its '{attribute}'.");
            refuse(400, "IncorrectInstanceState", message)
        }
        error => of_store(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(problem: &Problem) -> (u16, &'static str, &str) {
        match problem {
            Problem::Service { status, code, message } => (*status, code, message),
            _ => panic!("{problem:?}"),
        }
    }

    #[test]
    fn says_what_ec2_says() {
        let id: InstanceId = "i-0123456789abcdef0".parse().unwrap();
        let cases = [
            (malformed_id("x-1", "i-"), "InvalidInstanceID.Malformed", "Invalid id: \"x-1\" (expecting \"i-...\")"),
            (malformed_id("i-1", "i-"), "InvalidInstanceID.Malformed", "Invalid id: \"i-1\""),
            (not_found(&[id]), "InvalidInstanceID.NotFound", "The instance ID 'i-0123456789abcdef0' does not exist"),
            (
                not_found(&[id, id]),
                "InvalidInstanceID.NotFound",
                "The instance IDs 'i-0123456789abcdef0, i-0123456789abcdef0' do not exist",
            ),
        ];
        for (problem, code, message) in cases {
            assert_eq!(text(&problem), (400, code, message));
        }
        assert!(text(&malformed_id(&"é".repeat(1000), "i-")).2.len() < 200);
    }
}
