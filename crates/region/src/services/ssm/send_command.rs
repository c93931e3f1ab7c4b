//! `SendCommand`: something is to be done on machines.

use std::collections::BTreeSet;
use std::sync::Arc;

use inborn_identity::InstanceId;
use inborn_store::{Command, CommandStep, Instance, InstanceState, Invocation, InvocationState, Node, SentCommand};
use inborn_wire::error::Problem;
use inborn_wire::json::Object;
use inborn_wire::{constraint, success};
use serde_json::{Map, Value, json};

use super::{command, document, refusal};
use crate::documents::Document;
use crate::gateway::new_uuid;
use crate::operation::{JsonCall, Outcome, Reply};
use crate::run_command::{self, PAYLOAD_BYTES_MAX, SendError};

/// Most ids and targets of a call, and most values of a target. Source: botocore's model.
const INSTANCE_IDS_MAX: usize = 50;
const TARGETS_MAX: usize = 5;
const VALUES_MAX: usize = 50;
/// Longest comment. Source: the same.
const COMMENT_LENGTH_MAX: usize = 100;
/// How long machines have to take a command, in seconds. Source: the same; the other is AWS's default.
const TIMEOUT_SECONDS_MIN: i64 = 30;
const TIMEOUT_SECONDS_MAX: i64 = 2_592_000;
const TIMEOUT_SECONDS: i64 = 3600;
/// Where the call does not say. Source: AWS's reference.
const CONCURRENCY: &str = "50";
const ERRORS: &str = "0";

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        hear_of_agents(&call).await?;
        let sent = read(&call)?;
        let shown = command::shown(&sent.command);
        let response_elements = json!({"command": {
            "commandId": sent.command.id,
            "documentName": sent.command.document_name,
            "targetCount": sent.command.progress.targets,
        }});
        match call.region.run_command().send(sent).await {
            Ok(()) => {}
            Err(SendError::TooMany) => return Err(Problem::Throttled),
            Err(SendError::Store(error)) => return Err(refusal::of_store(error)),
        }
        let answer = success::aws_json(call.request_id, &json!({"Command": shown}));
        Ok(Reply { answer, response_elements })
    })
}

fn read(call: &JsonCall<'_>) -> Result<SentCommand, Problem> {
    let input = call.parameters;
    refuse_what_is_not_here(input)?;
    let name = input.require_text("DocumentName")?;
    if !document::is_name(name, true) {
        return Err(constraint::pattern("DocumentName", name, "^[a-zA-Z0-9_\\-.:/]{3,128}$"));
    }
    let document = document::find(call, name)?;
    document::check_version(input, &document)?;
    check_hash(input, &document)?;
    let given = input.object("Parameters")?;
    let values = document.content.values(given.as_ref()).map_err(|error| refusal::parameters(error.to_string()))?;
    let comment = input.text("Comment")?.unwrap_or_default();
    constraint::length("Comment", comment, 0..=COMMENT_LENGTH_MAX)?;
    let timeout = input.integer("TimeoutSeconds")?.unwrap_or(TIMEOUT_SECONDS);
    constraint::range("TimeoutSeconds", timeout, TIMEOUT_SECONDS_MIN..=TIMEOUT_SECONDS_MAX)?;
    let (machines, targets) = machines(call, input)?;
    let is_by_id = input.texts("InstanceIds")?.is_some_and(|ids| !ids.is_empty());
    let id = new_uuid().to_string();
    let mut invocations = Vec::with_capacity(machines.len());
    for (machine, node) in &machines {
        let platform = node.fact("PlatformType");
        let is_for = platform.is_empty() || document.content.platforms().contains(&platform);
        if !is_for && is_by_id {
            return Err(refusal::platform(machine.id, platform));
        }
        invocations.push(invocation(&id, machine.id, node, &document, is_for));
    }
    let command = Command {
        id,
        account: call.account(),
        requested_at: call.now,
        document_name: document.stored.name.clone(),
        parameters: Value::Object(values.clone()).to_string(),
        targets: Value::Object(targets).to_string(),
        comment: comment.to_owned(),
        delivery_seconds: u32::try_from(timeout).unwrap_or(u32::MAX),
        execution_seconds: document.content.execution_seconds(&values),
        concurrency_max: share(input, "MaxConcurrency", CONCURRENCY, 1)?,
        errors_max: share(input, "MaxErrors", ERRORS, 0)?,
        progress: run_command::first_progress(invocations.iter().map(|invocation| invocation.state)),
    };
    let sent = SentCommand { command, content: document.stored.content.clone(), invocations };
    if run_command::payload_bytes(&sent) > PAYLOAD_BYTES_MAX {
        return Err(refusal::document_too_large("The document and its parameters are too large for an agent."));
    }
    Ok(sent)
}

/// What AWS would do with the output and tell others of it. Whoever asks for it must not believe that it is done.
fn refuse_what_is_not_here(input: &Object) -> Result<(), Problem> {
    if input.text("OutputS3BucketName")?.is_some_and(|bucket| !bucket.is_empty()) {
        return Err(refusal::output_folder());
    }
    let notification = input.object("NotificationConfig")?;
    let arn = notification.as_ref().map(|config| config.text("NotificationArn")).transpose()?.flatten();
    if arn.is_some_and(|arn| !arn.is_empty()) || input.text("ServiceRoleArn")?.is_some_and(|arn| !arn.is_empty()) {
        return Err(refusal::notification());
    }
    let logs = input.object("CloudWatchOutputConfig")?;
    let logs = logs.as_ref().map(|config| config.boolean("CloudWatchOutputEnabled")).transpose()?.flatten();
    if logs == Some(true) || input.object("AlarmConfiguration")?.is_some() {
        let message = "CloudWatch is not here: no output is sent there, and no alarm is asked.".to_owned();
        return Err(Problem::Validation { message });
    }
    Ok(())
}

/// A document that is named with its hash must have it.
fn check_hash(input: &Object, document: &Document) -> Result<(), Problem> {
    let Some(hash) = input.text("DocumentHash")? else { return Ok(()) };
    let kind = input.text("DocumentHashType")?.unwrap_or("Sha256");
    constraint::one_of("DocumentHashType", kind, &["Sha256", "Sha1"])?;
    // Of SHA-1 nobody should be told that it holds.
    if kind == "Sha256" && hash.eq_ignore_ascii_case(&document::hash(document)) {
        return Ok(());
    }
    Err(refusal::document_hash())
}

fn invocation(command: &str, instance: InstanceId, node: &Node, document: &Document, is_for: bool) -> Invocation {
    let state = if is_for { InvocationState::Pending } else { InvocationState::InvalidPlatform };
    let step = |name: &str| CommandStep {
        name: name.to_owned(),
        status: command::status_of_invocation(state).to_owned(),
        code: -1,
        ..CommandStep::default()
    };
    Invocation {
        command: command.to_owned(),
        instance,
        instance_name: node.fact("ComputerName").to_owned(),
        state,
        acknowledged_at: None,
        trace: String::new(),
        steps: document.content.steps().map(step).collect(),
    }
}

type Managed = (Arc<Instance>, Arc<Node>);

/// The machines that are meant, and the words that meant them.
fn machines(call: &JsonCall<'_>, input: &Object) -> Result<(Vec<Managed>, Map<String, Value>), Problem> {
    let ids = input.texts("InstanceIds")?.unwrap_or_default();
    let targets = input.objects("Targets")?.unwrap_or_default();
    let said = json!({
        "InstanceIds": ids,
        "Targets": targets.iter().map(|target| Value::Object(target.members().clone())).collect::<Vec<_>>(),
    });
    if said.to_string().len() > SentCommand::TEXT_BYTES_MAX {
        let message = format!("The Targets of a command have at most {} bytes.", SentCommand::TEXT_BYTES_MAX);
        return Err(Problem::Validation { message });
    }
    let Value::Object(said) = said else { return Err(Problem::Internal) };
    if ids.is_empty() == targets.is_empty() {
        let message = "A command is either for InstanceIds or for Targets, and not for nobody.".to_owned();
        return Err(Problem::Validation { message });
    }
    if ids.len() > INSTANCE_IDS_MAX || targets.len() > TARGETS_MAX {
        let message = format!("A command has at most {INSTANCE_IDS_MAX} InstanceIds or {TARGETS_MAX} Targets.");
        return Err(Problem::Validation { message });
    }
    if !ids.is_empty() {
        return Ok((by_ids(call, &ids)?, said));
    }
    let targets = targets.iter().map(Target::read).collect::<Result<Vec<_>, _>>()?;
    let nodes = call.nodes(None).into_iter();
    let registered = nodes.filter(|node| call.region.agents().since(node.instance).is_some());
    let managed = registered.filter_map(|node| Some((call.machine(node.instance)?, node)));
    let meant = managed.filter(|(machine, _)| targets.iter().all(|target| target.matches(machine)));
    let found: Vec<Managed> = meant.take(SentCommand::INVOCATIONS_MAX + 1).collect();
    if found.len() > SentCommand::INVOCATIONS_MAX {
        let message = format!("A command is for at most {} machines.", SentCommand::INVOCATIONS_MAX);
        return Err(Problem::Validation { message });
    }
    Ok((found, said))
}

/// An agent that is not known here may have registered at another server a moment ago: who cannot tell says no such thing.
async fn hear_of_agents(call: &JsonCall<'_>) -> Result<(), Problem> {
    let ids = call.parameters.texts("InstanceIds")?.unwrap_or_default();
    call.region.hear_of_missing(|| ids.iter().any(|id| managed(call, id).is_none())).await
}

/// A machine that has an agent which has registered and spoken.
fn managed(call: &JsonCall<'_>, id: &str) -> Option<Managed> {
    let id: InstanceId = id.parse().ok()?;
    call.region.agents().since(id)?;
    Some((call.machine(id)?, call.region.nodes().get(id)?))
}

/// Machines by their ids: each must be there, and have an agent that has registered and spoken. It may be away.
fn by_ids(call: &JsonCall<'_>, ids: &[&str]) -> Result<Vec<Managed>, Problem> {
    let (mut seen, mut found, mut missing) = (BTreeSet::new(), Vec::new(), Vec::new());
    for id in ids {
        match managed(call, id).filter(|(machine, _)| machine.state != InstanceState::Terminated) {
            Some(managed) if seen.insert(managed.0.id) => found.push(managed),
            Some(_) => return Err(refusal::duplicate_instance()),
            None => missing.push(*id),
        }
    }
    if missing.is_empty() { Ok(found) } else { Err(refusal::not_valid(&missing, call.account())) }
}

/// What machines have in common.
struct Target {
    key: String,
    values: Vec<String>,
}

impl Target {
    fn read(target: &Object) -> Result<Self, Problem> {
        let key = target.require_text("Key")?;
        let values = target.texts("Values")?.unwrap_or_default();
        let is_tag = key.strip_prefix("tag:").is_some_and(|rest| !rest.is_empty());
        if !is_tag && !matches!(key, "tag-key" | "InstanceIds") {
            let shown: String = key.chars().take(128).collect();
            let message = format!("The target key {shown} is not served here: use InstanceIds, tag:KEY or tag-key.");
            return Err(Problem::Validation { message });
        }
        if !(1..=VALUES_MAX).contains(&values.len()) {
            let message = format!("A target has 1 to {VALUES_MAX} values.");
            return Err(Problem::Validation { message });
        }
        Ok(Self { key: key.to_owned(), values: values.into_iter().map(str::to_owned).collect() })
    }

    fn matches(&self, machine: &Instance) -> bool {
        let is_one = |text: &str| self.values.iter().any(|value| value == text);
        match self.key.as_str() {
            "InstanceIds" => is_one(&machine.id.to_string()),
            "tag-key" => machine.tags.keys().any(|key| is_one(key)),
            key => key.strip_prefix("tag:").and_then(|tag| machine.tags.get(tag)).is_some_and(|value| is_one(value)),
        }
    }
}

/// A number from `least`, or a percentage from `least`, as a text.
fn share(input: &Object, member: &str, otherwise: &str, least: u32) -> Result<String, Problem> {
    let Some(text) = input.text(member)? else { return Ok(otherwise.to_owned()) };
    constraint::length(member, text, 1..=7)?;
    let (digits, most) = text.strip_suffix('%').map_or((text, u32::MAX), |digits| (digits, 100));
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    match digits.parse::<u32>() {
        Ok(number) if is_plain && (least..=most).contains(&number) => Ok(text.to_owned()),
        _ => Err(constraint::pattern(member, text, "^([1-9][0-9]*|[1-9][0-9]%|[1-9]%|100%)$")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_below_at_and_above() {
        let read = |text: &str, least| {
            let input = inborn_wire::json::decode(json!({"M": text}).to_string().as_bytes()).unwrap();
            share(&input, "M", "7", least).is_ok()
        };
        for (text, least, is_good) in [
            ("0", 0, true),
            ("0", 1, false),
            ("1", 1, true),
            ("9999999", 1, true),
            ("10000000", 1, false),
            ("0%", 0, true),
            ("0%", 1, false),
            ("99%", 1, true),
            ("100%", 1, true),
            ("101%", 1, false),
            ("01", 0, false),
            ("+1", 0, false),
            ("", 0, false),
            ("%", 0, false),
        ] {
            assert_eq!(read(text, least), is_good, "{text} {least}");
        }
        assert_eq!(share(&inborn_wire::json::decode(b"").unwrap(), "M", "7", 0), Ok("7".to_owned()));
    }
}
