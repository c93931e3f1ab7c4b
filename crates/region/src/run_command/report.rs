//! What an agent tells of a command: the payload of `SendReply`, and the content of `agent_job_reply`. Source: seen on the wire.

use std::collections::BTreeMap;

use inborn_store::{CommandStep, Invocation, InvocationState};
use serde::Deserialize;

/// Most characters of standard output, of standard error, and of both in short. Source: botocore's model,
/// `GetCommandInvocation` and `CommandPlugin`.
pub(crate) const STANDARD_OUTPUT_CHARS_MAX: usize = 24_000;
pub(crate) const STANDARD_ERROR_CHARS_MAX: usize = 8_000;
pub(crate) const OUTPUT_CHARS_MAX: usize = 2_500;
/// Most characters of what an agent says beside its steps. Source: the same, `InvocationTraceOutput`.
const TRACE_CHARS_MAX: usize = 2_500;
/// Most characters of each of the other texts.
const TEXT_CHARS_MAX: usize = 256;
/// The longest report that is read.
pub(crate) const REPORT_BYTES_MAX: usize = Invocation::STEPS_BYTES_MAX;

/// How far an agent is with a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Report {
    pub(super) outcome: Outcome,
    /// What it says beside its steps.
    pub(super) trace: String,
    pub(super) steps: Vec<CommandStep>,
}

/// The same in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    InProgress,
    Ended(InvocationState),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    document_status: String,
    #[serde(default)]
    document_trace_output: Option<String>,
    #[serde(default)]
    runtime_status: Option<BTreeMap<String, WireStep>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireStep {
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    code: Option<i32>,
    #[serde(default)]
    start_date_time: Option<String>,
    #[serde(default)]
    end_date_time: Option<String>,
    #[serde(default)]
    output: Option<String>,
    #[serde(default)]
    standard_output: Option<String>,
    #[serde(default)]
    standard_error: Option<String>,
}

impl Report {
    /// Reads a report; `None` if it is none. Members that nobody knows are passed over: later agents say more.
    pub(crate) fn read(text: &str) -> Option<Self> {
        if text.len() > REPORT_BYTES_MAX {
            return None;
        }
        let wire: Wire = serde_json::from_str(text).ok()?;
        let outcome = match wire.document_status.as_str() {
            "Success" | "Skipped" | "TestPass" => Outcome::Ended(InvocationState::Success),
            "Failed" | "TestFailure" => Outcome::Ended(InvocationState::Failed),
            "TimedOut" => Outcome::Ended(InvocationState::ExecutionTimedOut),
            "Cancelled" => Outcome::Ended(InvocationState::Cancelled),
            // What goes on after the machine has booted again.
            "NotStarted" | "InProgress" | "SuccessAndReboot" | "PassedAndReboot" => Outcome::InProgress,
            _ => return None,
        };
        let mut steps: Vec<CommandStep> =
            wire.runtime_status.unwrap_or_default().into_iter().take(Invocation::STEPS_MAX).map(step).collect();
        // They come in no order; they were done in one.
        steps.sort_by(|a, b| (&a.started, &a.name).cmp(&(&b.started, &b.name)));
        Some(Self { outcome, trace: cut(wire.document_trace_output, TRACE_CHARS_MAX), steps })
    }
}

fn step((name, wire): (String, WireStep)) -> CommandStep {
    CommandStep {
        name: cut(Some(name), TEXT_CHARS_MAX),
        status: cut(wire.status, TEXT_CHARS_MAX),
        code: wire.code.unwrap_or(-1),
        started: cut(wire.start_date_time, TEXT_CHARS_MAX),
        finished: cut(wire.end_date_time, TEXT_CHARS_MAX),
        output: cut(wire.output, OUTPUT_CHARS_MAX),
        standard_output: cut(wire.standard_output, STANDARD_OUTPUT_CHARS_MAX),
        standard_error: cut(wire.standard_error, STANDARD_ERROR_CHARS_MAX),
    }
}

fn cut(text: Option<String>, chars_max: usize) -> String {
    let text = text.unwrap_or_default();
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn text(status: &str, step: Value) -> String {
        json!({
            "additionalInfo": {"agent": {"lang": "en-US"}}, "documentStatus": status, "documentTraceOutput": "",
            "runtimeStatus": {"aws:runShellScript": step},
        })
        .to_string()
    }

    #[test]
    fn reads_what_agents_send() {
        let step = json!({
            "status": "Failed", "code": 3, "name": "aws:runShellScript", "output": "o\n----------ERROR-------\ne",
            "startDateTime": "2026-11-23T02:00:01.500Z", "endDateTime": "2026-11-23T02:00:02.000Z",
            "outputS3BucketName": "", "outputS3KeyPrefix": "", "stepName": "", "standardOutput": "o", "standardError": "e",
        });
        let report = Report::read(&text("Failed", step)).unwrap();
        assert_eq!(report.outcome, Outcome::Ended(InvocationState::Failed));
        let expected = CommandStep {
            name: "aws:runShellScript".into(),
            status: "Failed".into(),
            code: 3,
            started: "2026-11-23T02:00:01.500Z".into(),
            finished: "2026-11-23T02:00:02.000Z".into(),
            output: "o\n----------ERROR-------\ne".into(),
            standard_output: "o".into(),
            standard_error: "e".into(),
        };
        assert_eq!(report.steps, [expected]);
    }

    #[test]
    fn statuses() {
        use InvocationState as State;
        for (status, outcome) in [
            ("InProgress", Outcome::InProgress),
            ("SuccessAndReboot", Outcome::InProgress),
            ("Success", Outcome::Ended(State::Success)),
            ("TimedOut", Outcome::Ended(State::ExecutionTimedOut)),
            ("Cancelled", Outcome::Ended(State::Cancelled)),
        ] {
            assert_eq!(Report::read(&text(status, json!({}))).unwrap().outcome, outcome, "{status}");
        }
        for bad in ["", "{}", "[]", r#"{"documentStatus":"Odd"}"#, r#"{"documentStatus":1}"#] {
            assert_eq!(Report::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn outputs_below_at_and_above_the_most() {
        for (member, most) in [
            ("standardOutput", STANDARD_OUTPUT_CHARS_MAX),
            ("standardError", STANDARD_ERROR_CHARS_MAX),
            ("output", OUTPUT_CHARS_MAX),
        ] {
            for (count, kept) in [(most - 1, most - 1), (most, most), (most + 1, most)] {
                let report = Report::read(&text("Success", json!({member: "é".repeat(count)}))).unwrap();
                let step = &report.steps[0];
                let texts = [&step.standard_output, &step.standard_error, &step.output];
                assert_eq!(texts.iter().map(|text| text.chars().count()).sum::<usize>(), kept, "{member} {count}");
            }
        }
        for (bytes, is_read) in [(REPORT_BYTES_MAX - 1, true), (REPORT_BYTES_MAX, true), (REPORT_BYTES_MAX + 1, false)]
        {
            let mut text = text("Success", json!({}));
            text.push_str(&" ".repeat(bytes - text.len()));
            assert_eq!(Report::read(&text).is_some(), is_read, "{bytes}");
        }
        let many: BTreeMap<String, Value> = (0..150).map(|n| (format!("s{n}"), json!({}))).collect();
        let text = json!({"documentStatus": "Success", "runtimeStatus": many}).to_string();
        assert_eq!(Report::read(&text).unwrap().steps.len(), Invocation::STEPS_MAX);
    }

    proptest! {
        #[test]
        fn never_panics(text in "[{}\\[\\]\",:a-zA-Z0-9 ]{0,120}") {
            let _ = Report::read(&text);
        }
    }
}
