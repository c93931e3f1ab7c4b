//! `inborn exec`: a command on machines, by Run Command as any client of Systems Manager would.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use inborn_host::pocket;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::arguments::Output;
use crate::arguments::exec::Exec;
use crate::operator::Operator;
use crate::output;

/// How long a machine has to take the command: it is there, or it is not.
const DELIVERY_SECONDS: u32 = 60;
/// The first wait before it is asked what has become of a command, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(1);
/// What is kept of standard output, in characters. Source: Systems Manager.
const OUTPUT_CHARS_MAX: usize = 24_000;
/// The step that runs scripts, by which its output is asked for.
const STEP: &str = "aws:runShellScript";

/// What has become of the command on one machine.
struct Outcome {
    id: String,
    /// In one word, as `StatusDetails` has it.
    details: String,
    exit_code: i64,
    standard_output: String,
    standard_error: String,
}

pub(crate) async fn exec(arguments: &Exec) -> anyhow::Result<ExitCode> {
    let operator = Operator::find(&arguments.region).await?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, i32::from(pocket::EXIT_FAILED), Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let command = send(&operator, arguments).await?;
    wait(&operator, &command, &stop).await?;
    let outcomes = outcomes(&operator, &command).await?;
    match (arguments.output, &arguments.machine, outcomes.as_slice()) {
        (Output::Table, Some(machine), [outcome]) => print_one(machine, outcome),
        (Output::Table, ..) => print_all(&outcomes),
        (Output::Json, ..) => {
            let all: Vec<Value> = outcomes.iter().map(Outcome::to_json).collect();
            writeln!(std::io::stdout().lock(), "{:#}", output::Json(&Value::Array(all)))?;
            Ok(())
        }
    }?;
    Ok(exit_code(arguments.machine.is_some(), &outcomes))
}

/// Sends the command, and gives its id.
async fn send(operator: &Operator, arguments: &Exec) -> anyhow::Result<String> {
    let script: Vec<String> = arguments.command.iter().map(|word| quoted(word)).collect();
    let mut input = json!({
        "DocumentName": "AWS-RunShellScript",
        "Parameters": {"commands": [script.join(" ")], "executionTimeout": [arguments.timeout.to_string()]},
        "TimeoutSeconds": DELIVERY_SECONDS,
    });
    let whom = match &arguments.machine {
        Some(machine) => ("InstanceIds", json!([operator.machine(machine).await?.id])),
        None => {
            let target = |(key, value): &(String, String)| json!({"Key": format!("tag:{key}"), "Values": [value]});
            ("Targets", arguments.tag.iter().map(target).collect())
        }
    };
    if let Some(input) = input.as_object_mut() {
        input.insert(whom.0.to_owned(), whom.1);
        // Several machines run it side by side, and one that fails does not keep it from the others.
        if arguments.machine.is_none() {
            input.insert("MaxConcurrency".to_owned(), "100%".into());
            input.insert("MaxErrors".to_owned(), "100%".into());
        }
    }
    let sent = operator.ssm("SendCommand", &input).await?;
    let command = sent.get("Command").context("the region's answer has no command")?;
    if command.get("TargetCount").and_then(Value::as_u64) == Some(0) {
        bail!("no machine with an agent has these tags: see `inborn nodes`");
    }
    Ok(text(command, "CommandId"))
}

/// Waits until nothing more becomes of the command. When told to stop, has it cancelled first.
async fn wait(operator: &Operator, command: &str, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut pause = FIRST_WAIT;
    let mut is_cancelled = false;
    loop {
        if stop.load(Ordering::SeqCst) && !is_cancelled {
            operator.ssm("CancelCommand", &json!({"CommandId": command})).await?;
            is_cancelled = true;
        }
        let found = operator.ssm("ListCommands", &json!({"CommandId": command})).await?;
        let found = found.get("Commands").and_then(|list| list.get(0)).context("the region has lost the command")?;
        if !matches!(text(found, "Status").as_str(), "Pending" | "InProgress" | "Cancelling") {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(WAIT_MAX);
    }
}

/// What has become of it on each machine, by id.
async fn outcomes(operator: &Operator, command: &str) -> anyhow::Result<Vec<Outcome>> {
    let mut found = BTreeMap::new();
    let mut input = json!({"CommandId": command});
    loop {
        let page = operator.ssm("ListCommandInvocations", &input).await?;
        for invocation in page.get("CommandInvocations").and_then(Value::as_array).into_iter().flatten() {
            let id = text(invocation, "InstanceId");
            let whose = json!({"CommandId": command, "InstanceId": id, "PluginName": STEP});
            let result = operator.ssm("GetCommandInvocation", &whose).await?;
            let outcome = Outcome {
                id: id.clone(),
                details: text(&result, "StatusDetails"),
                exit_code: result.get("ResponseCode").and_then(Value::as_i64).unwrap_or(-1),
                standard_output: text(&result, "StandardOutputContent"),
                standard_error: text(&result, "StandardErrorContent"),
            };
            found.insert(id, outcome);
        }
        match page.get("NextToken").and_then(Value::as_str) {
            Some(token) => input = json!({"CommandId": command, "NextToken": token}),
            None => return Ok(found.into_values().collect()),
        }
    }
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl Outcome {
    fn has_run(&self) -> bool {
        matches!(self.details.as_str(), "Success" | "Failed") && self.exit_code >= 0
    }

    /// Why it did not come to its end, and what to do.
    fn trouble(&self) -> String {
        match self.details.as_str() {
            "DeliveryTimedOut" => {
                format!("was not taken within {DELIVERY_SECONDS} seconds: is the agent running? see `inborn nodes`")
            }
            "ExecutionTimedOut" => "took too long and was ended: see --timeout".to_owned(),
            "Undeliverable" => "could not be delivered: the machine is gone".to_owned(),
            "InvalidPlatform" => "is for machines with a POSIX shell".to_owned(),
            "Cancelled" => "was cancelled".to_owned(),
            _ => format!("did not come to its end ({})", self.details),
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "instance_id": self.id,
            "status": self.details,
            "exit_code": self.has_run().then_some(self.exit_code),
            "stdout": self.standard_output,
            "stderr": self.standard_error,
        })
    }
}

/// One machine: its output is this command's.
fn print_one(machine: &str, outcome: &Outcome) -> anyhow::Result<()> {
    let mut errors = std::io::stderr().lock();
    std::io::stdout().lock().write_all(outcome.standard_output.as_bytes())?;
    errors.write_all(outcome.standard_error.as_bytes())?;
    if outcome.standard_output.chars().count() >= OUTPUT_CHARS_MAX {
        writeln!(errors, "inborn: of the output, {OUTPUT_CHARS_MAX} characters were kept")?;
    }
    if !outcome.has_run() {
        if !outcome.standard_error.is_empty() && !outcome.standard_error.ends_with('\n') {
            writeln!(errors)?;
        }
        writeln!(errors, "inborn: on {machine} the command {}", outcome.trouble())?;
    }
    Ok(())
}

/// Several machines: each under its name.
fn print_all(outcomes: &[Outcome]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for outcome in outcomes {
        let how = if outcome.has_run() { format!("exit status {}", outcome.exit_code) } else { outcome.trouble() };
        writeln!(out, "== {}: {how}", outcome.id)?;
        for line in outcome.standard_output.lines().chain(outcome.standard_error.lines()) {
            writeln!(out, "{}", output::printable(line))?;
        }
    }
    Ok(())
}

fn exit_code(is_one: bool, outcomes: &[Outcome]) -> ExitCode {
    match outcomes {
        [outcome] if is_one && outcome.has_run() => {
            // Agents of other platforms have codes that no process here can end with.
            ExitCode::from(u8::try_from(outcome.exit_code).unwrap_or(1))
        }
        outcomes if outcomes.iter().any(|outcome| !outcome.has_run()) => ExitCode::from(pocket::EXIT_FAILED),
        outcomes => ExitCode::from(u8::from(outcomes.iter().any(|outcome| outcome.exit_code != 0))),
    }
}

/// A word as a POSIX shell reads it back.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_command_as_they_are() {
        for (word, expected) in [
            ("ls", "ls"),
            ("--a=b", "--a=b"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("{{ x }}", "'{{ x }}'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}
