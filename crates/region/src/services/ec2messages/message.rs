//! What the operations on messages have in common: which message, and whose.

use inborn_identity::InstanceId;
use inborn_store::StoreError;
use inborn_wire::constraint;
use inborn_wire::error::Problem;

use crate::operation::JsonCall;
use crate::run_command::read_job_id;

/// Longest `MessageId`, `MessagesRequestId` and `ReplyId`.
pub(super) const ID_LENGTH_MAX: usize = 128;

/// The command that the message in `MessageId` is about, and the machine that calls, whose message it must be.
pub(super) fn own(call: &JsonCall<'_>, operation: &str) -> Result<(String, InstanceId), Problem> {
    let id = call.parameters.require_text("MessageId")?;
    constraint::length("MessageId", id, 1..=ID_LENGTH_MAX)?;
    let own = call.caller.principal.instance().ok_or(Problem::Internal)?;
    match read_job_id(id) {
        Some((command, instance)) if instance == own => Ok((command.to_owned(), own)),
        Some((_, other)) => {
            let identity = call.region.identity();
            Err(Problem::AccessDenied {
                principal: call.caller.principal.arn(),
                action: format!("ec2messages:{operation}"),
                resource: Some(format!(
                    "arn:{}:ec2:{}:{}:instance/{other}",
                    identity.partition,
                    identity.region,
                    call.account()
                )),
            })
        }
        None => Err(constraint::pattern("MessageId", id, "aws\\.ssm\\.[^.]+\\.i-[0-9a-f]{17}")),
    }
}

/// What agents are told when the store fails: they say it again.
pub(super) fn of_store(error: StoreError) -> Problem {
    match error {
        StoreError::Busy | StoreError::Unavailable(_) | StoreError::ReadOnly(_) | StoreError::Full => {
            Problem::Unavailable
        }
        error => {
            tracing::error!(%error, "the store failed");
            Problem::Internal
        }
    }
}
