//! What an agent tells of a command: the content of `agent_job_reply`, and the payload of `SendReply` of ec2messages. Source: seen
//! on the wire.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Most characters of standard output that are kept. Source: botocore's model,
/// `GetCommandInvocation` and `CommandPlugin`.
pub const STANDARD_OUTPUT_CHARS_MAX: usize = 24_000;
/// Of standard error, likewise.
pub const STANDARD_ERROR_CHARS_MAX: usize = 8_000;
/// Of both in short, likewise.
pub const OUTPUT_CHARS_MAX: usize = 2_500;
/// Most characters of what an agent says beside its steps. Source: the same, `InvocationTraceOutput`.
pub const TRACE_CHARS_MAX: usize = 2_500;
/// Most characters of each of the other texts.
pub const TEXT_CHARS_MAX: usize = 256;
/// Most steps that are kept.
pub const STEPS_MAX: usize = 100;
/// The longest report that is read. Agents drop longer ones than half of this themselves.
pub const REPORT_BYTES_MAX: usize = 256 * 1024;

/// How far an agent is with a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// In one word.
    pub outcome: Outcome,
    /// What it says beside its steps.
    pub trace: String,
    /// The steps that it tells of, at most [`STEPS_MAX`], in the order in which they began.
    pub steps: Vec<Step>,
}

/// How far a command is, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It goes on.
    InProgress,
    /// It was done.
    Success,
    /// It was done, and failed.
    Failed,
    /// It took too long.
    TimedOut,
    /// It was ended.
    Cancelled,
}

/// How far one step is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Its name in the document.
    pub name: String,
    /// In one word of the agent's.
    pub status: String,
    /// The exit code; -1: there is none.
    pub code: i32,
    /// When it began, as agents write times; empty: it has not.
    pub started: String,
    /// When it ended, likewise.
    pub finished: String,
    /// Its output in short, as the agent puts it together.
    pub output: String,
    /// What it wrote to standard output.
    pub standard_output: String,
    /// What it wrote to standard error.
    pub standard_error: String,
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
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        if text.len() > REPORT_BYTES_MAX {
            return None;
        }
        let wire: Wire = serde_json::from_str(text).ok()?;
        let outcome = match wire.document_status.as_str() {
            "Success" | "Skipped" | "TestPass" => Outcome::Success,
            "Failed" | "TestFailure" => Outcome::Failed,
            "TimedOut" => Outcome::TimedOut,
            "Cancelled" => Outcome::Cancelled,
            // What goes on after the machine has booted again.
            "NotStarted" | "InProgress" | "SuccessAndReboot" | "PassedAndReboot" => Outcome::InProgress,
            _ => return None,
        };
        let mut steps: Vec<Step> =
            wire.runtime_status.unwrap_or_default().into_iter().take(STEPS_MAX).map(step).collect();
        // They come in no order; they were done in one.
        steps.sort_by(|a, b| (&a.started, &a.name).cmp(&(&b.started, &b.name)));
        Some(Self { outcome, trace: cut(wire.document_trace_output, TRACE_CHARS_MAX), steps })
    }
}

fn step((name, wire): (String, WireStep)) -> Step {
    Step {
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
        assert_eq!(report.outcome, Outcome::Failed);
        let expected = Step {
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
        for (status, outcome) in [
            ("InProgress", Outcome::InProgress),
            ("SuccessAndReboot", Outcome::InProgress),
            ("Success", Outcome::Success),
            ("TimedOut", Outcome::TimedOut),
            ("Cancelled", Outcome::Cancelled),
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
        assert_eq!(Report::read(&text).unwrap().steps.len(), STEPS_MAX);
    }

    proptest! {
        #[test]
        fn never_panics(text in "[{}\\[\\]\",:a-zA-Z0-9 ]{0,120}") {
            let _ = Report::read(&text);
        }
    }
}
