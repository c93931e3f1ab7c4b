//! Commands and invocations as the operations on them show them. Source: botocore's model, 2014-11-06.

use inborn_identity::{InstanceId, UnixTime};
use inborn_store::{Command, CommandState, CommandStep, Invocation, InvocationState};
use inborn_wire::constraint;
use inborn_wire::error::Problem;
use inborn_wire::json::Object;
use inborn_wire::message_gateway::report::OUTPUT_CHARS_MAX;
use inborn_wire::uuid::Uuid;
use serde_json::{Map, Value, json};

use super::refusal;
use crate::run_command::is_over;

/// Most commands on a page, and as many as there are if the caller does not say. Source: botocore's model.
pub(super) const PAGE_MAX: u32 = 50;
/// What a command whose document has one version says of it.
const DOCUMENT_VERSION: &str = "$DEFAULT";

/// `CommandId`, which has 36 characters.
pub(super) fn id(input: &Object) -> Result<Option<String>, Problem> {
    let Some(id) = input.text("CommandId")? else { return Ok(None) };
    constraint::length("CommandId", id, 36..=36)?;
    let id: Uuid = id.parse().map_err(|_| refusal::command_id())?;
    Ok(Some(id.to_string()))
}

/// `InstanceId`.
pub(super) fn instance(input: &Object) -> Result<Option<InstanceId>, Problem> {
    let Some(id) = input.text("InstanceId")? else { return Ok(None) };
    id.parse().map(Some).map_err(|_| refusal::not_registered(id))
}

/// `MaxResults`, 1 to 50.
pub(super) fn page(input: &Object) -> Result<usize, Problem> {
    let most = input.integer("MaxResults")?.unwrap_or(PAGE_MAX.into());
    constraint::range("MaxResults", most, 1..=PAGE_MAX.into())?;
    Ok(usize::try_from(most).unwrap_or(1))
}

/// The status that goes with the details of a command.
pub(super) const fn status_of_command(state: CommandState) -> &'static str {
    match state {
        CommandState::ExecutionTimedOut | CommandState::DeliveryTimedOut => "TimedOut",
        // Not everybody has done it, or nobody was there to do it: that is no success.
        CommandState::Incomplete | CommandState::NoInstancesInTag => "Failed",
        state => state.as_str(),
    }
}

/// The status that goes with the details of an invocation.
pub(super) const fn status_of_invocation(state: InvocationState) -> &'static str {
    match state {
        InvocationState::ExecutionTimedOut | InvocationState::DeliveryTimedOut => "TimedOut",
        InvocationState::Undeliverable | InvocationState::InvalidPlatform => "Failed",
        InvocationState::Terminated => "Cancelled",
        state => state.as_str(),
    }
}

/// `Command`.
pub(super) fn shown(command: &Command) -> Value {
    let progress = &command.progress;
    let total = u64::from(command.delivery_seconds) + u64::from(command.execution_seconds);
    let mut shown = json!({
        "CommandId": command.id,
        "DocumentName": command.document_name,
        "DocumentVersion": DOCUMENT_VERSION,
        "Comment": command.comment,
        "ExpiresAfter": command.requested_at.plus(total).as_secs(),
        "RequestedDateTime": command.requested_at.as_secs(),
        "Status": status_of_command(progress.state),
        "StatusDetails": progress.state.as_str(),
        "OutputS3BucketName": "",
        "OutputS3KeyPrefix": "",
        "MaxConcurrency": command.concurrency_max,
        "MaxErrors": command.errors_max,
        "TargetCount": progress.targets,
        "CompletedCount": progress.completed,
        "ErrorCount": progress.errors,
        "DeliveryTimedOutCount": progress.delivery_timed_out,
        "ServiceRole": "",
        "NotificationConfig": no_notification(),
        "CloudWatchOutputConfig": no_log_group(),
        "TimeoutSeconds": command.delivery_seconds,
    });
    let members = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
    if let Some(shown) = shown.as_object_mut() {
        let parameters = members(&command.parameters).into_iter().map(|(name, value)| (name, texts(value)));
        shown.insert("Parameters".to_owned(), Value::Object(parameters.collect()));
        shown.extend(members(&command.targets));
    }
    shown
}

/// The value of a parameter as the list of texts that calls give.
fn texts(value: Value) -> Value {
    let text = |value: Value| match value {
        Value::String(text) => Value::String(text),
        other => Value::String(other.to_string()),
    };
    match value {
        Value::Array(list) => list.into_iter().map(text).collect(),
        one => Value::Array(vec![text(one)]),
    }
}

/// `CommandInvocation`.
pub(super) fn shown_invocation(command: &Command, invocation: &Invocation, with_details: bool) -> Value {
    let plugins: Vec<Value> = invocation.steps.iter().filter(|_| with_details).map(plugin).collect();
    json!({
        "CommandId": command.id,
        "InstanceId": invocation.instance.to_string(),
        "InstanceName": invocation.instance_name,
        "Comment": command.comment,
        "DocumentName": command.document_name,
        "DocumentVersion": DOCUMENT_VERSION,
        "RequestedDateTime": command.requested_at.as_secs(),
        "Status": status_of_invocation(invocation.state),
        "StatusDetails": invocation.state.as_str(),
        "TraceOutput": invocation.trace,
        "StandardOutputUrl": "",
        "StandardErrorUrl": "",
        "CommandPlugins": plugins,
        "ServiceRole": "",
        "NotificationConfig": no_notification(),
        "CloudWatchOutputConfig": no_log_group(),
    })
}

fn plugin(step: &CommandStep) -> Value {
    let mut shown = json!({
        "Name": step.name,
        "Status": step.status,
        "StatusDetails": step.status,
        "ResponseCode": step.code,
        "Output": output(step),
        "StandardOutputUrl": "",
        "StandardErrorUrl": "",
        "OutputS3BucketName": "",
        "OutputS3KeyPrefix": "",
    });
    for (name, time) in [("ResponseStartDateTime", &step.started), ("ResponseFinishDateTime", &step.finished)] {
        if let (Some(ms), Some(shown)) = (milliseconds(time), shown.as_object_mut()) {
            // Seconds as a number with a fraction: exact for some hundred thousand years.
            let (seconds, rest) = (ms / 1000, ms % 1000);
            let value = format!("{seconds}.{rest:03}").parse::<f64>().unwrap_or_default();
            shown.insert(name.to_owned(), value.into());
        }
    }
    shown
}

/// The output in short: as the agent puts it together, or else what it wrote.
fn output(step: &CommandStep) -> String {
    let text = if step.output.is_empty() { &step.standard_output } else { &step.output };
    text.chars().take(OUTPUT_CHARS_MAX).collect()
}

/// `GetCommandInvocationResult`.
pub(super) fn result(command: &Command, invocation: &Invocation, step: &CommandStep) -> Value {
    let elapsed = match (milliseconds(&step.started), milliseconds(&step.finished)) {
        (Some(started), Some(finished)) if is_over(&step.status) => duration(finished.saturating_sub(started)),
        _ => String::new(),
    };
    json!({
        "CommandId": command.id,
        "InstanceId": invocation.instance.to_string(),
        "Comment": command.comment,
        "DocumentName": command.document_name,
        "DocumentVersion": DOCUMENT_VERSION,
        "PluginName": step.name,
        "ResponseCode": step.code,
        "ExecutionStartDateTime": step.started,
        "ExecutionElapsedTime": elapsed,
        "ExecutionEndDateTime": step.finished,
        "Status": status_of_invocation(invocation.state),
        "StatusDetails": invocation.state.as_str(),
        "StandardOutputContent": step.standard_output,
        "StandardOutputUrl": "",
        "StandardErrorContent": if step.standard_error.is_empty() { &invocation.trace } else { &step.standard_error },
        "StandardErrorUrl": "",
        "CloudWatchOutputConfig": no_log_group(),
    })
}

fn no_notification() -> Value {
    json!({"NotificationArn": "", "NotificationEvents": [], "NotificationType": ""})
}

fn no_log_group() -> Value {
    json!({"CloudWatchLogGroupName": "", "CloudWatchOutputEnabled": false})
}

/// The milliseconds since the epoch of a time as agents write it.
fn milliseconds(text: &str) -> Option<u64> {
    let seconds = UnixTime::parse_rfc3339(text.as_bytes()).ok()?.as_secs();
    let fraction = text.split_once('.').map(|(_, rest)| rest.trim_end_matches('Z')).unwrap_or_default();
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    Some(seconds.saturating_mul(1000).saturating_add(digits.parse().ok()?))
}

/// A duration as ISO 8601 writes it.
fn duration(milliseconds: u64) -> String {
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    let fraction = if rest == 0 { String::new() } else { format!(".{rest:03}").trim_end_matches('0').to_owned() };
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("PT{seconds}{fraction}S"),
        (0, minutes, seconds) => format!("PT{minutes}M{seconds}{fraction}S"),
        (hours, minutes, seconds) => format!("PT{hours}H{minutes}M{seconds}{fraction}S"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_agents() {
        assert_eq!(milliseconds("1970-01-01T00:00:01Z"), Some(1000));
        assert_eq!(milliseconds("1970-01-01T00:00:01.5Z"), Some(1500));
        assert_eq!(milliseconds("1970-01-01T00:00:01.123456Z"), Some(1123));
        for bad in ["", "0001-01-01T00:00:00Z", "yesterday"] {
            assert_eq!(milliseconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations() {
        for (ms, text) in
            [(0, "PT0S"), (5, "PT0.005S"), (1500, "PT1.5S"), (60_000, "PT1M0S"), (3_661_010, "PT1H1M1.01S")]
        {
            assert_eq!(duration(ms), text);
        }
    }

    /// Clients know no other statuses, and take each for what it is.
    #[test]
    fn statuses_are_those_of_the_model() {
        let of_commands = ["Pending", "InProgress", "Success", "Cancelled", "Failed", "TimedOut", "Cancelling"];
        for state in CommandState::ALL {
            let status = status_of_command(*state);
            assert!(of_commands.contains(&status), "{status}");
            assert_eq!(status == "Success", *state == CommandState::Success);
        }
        for state in InvocationState::ALL {
            let status = status_of_invocation(*state);
            assert!(of_commands.contains(&status) || status == "Delayed", "{status}");
            assert_eq!(status == "Success", *state == InvocationState::Success);
        }
    }
}
