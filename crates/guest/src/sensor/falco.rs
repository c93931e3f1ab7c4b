//! What Falco writes with `json_output: true`: an alert of one of its rules as one line of JSON.

use std::net::IpAddr;

use inborn_identity::UnixTime;
use serde_json::Value;

use super::event::{Event, Process, Provider, User, What};
use super::proc::{COMMAND_LINE_BYTES_MAX, PATH_BYTES_MAX};
use super::text::cut;

/// Bytes of the name of a rule, of Falco's sentence, and of a tag; tags.
const RULE_BYTES_MAX: usize = 256;
const TEXT_BYTES_MAX: usize = 4096;
const TAG_BYTES_MAX: usize = 64;
const TAGS_MAX: usize = 32;
/// Answers of one look-up.
const ANSWERS_MAX: usize = 16;

/// Reads a line: the alert, and the name that was looked up if its rule has put that into its fields. Nothing if it is none
/// of Falco's.
pub(crate) fn parse(line: &[u8]) -> Vec<Event> {
    let Ok(alert) = serde_json::from_slice::<Value>(line) else { return Vec::new() };
    read(&alert).unwrap_or_default()
}

fn read(alert: &Value) -> Option<Vec<Event>> {
    let rule = alert.get("rule")?.as_str()?;
    let text = alert.get("output").and_then(Value::as_str).unwrap_or_default();
    let fields = alert.get("output_fields").unwrap_or(&Value::Null);
    let time_ms = time(alert, fields)?;
    let severity = alert.get("priority").and_then(Value::as_str).map_or(0, severity);
    let tags = alert.get("tags").and_then(Value::as_array).into_iter().flatten();
    let tags = tags.filter_map(|tag| Some(cut(tag.as_str()?, TAG_BYTES_MAX))).take(TAGS_MAX).collect();
    let actor = process(fields);
    let looked_up = look_up(fields, actor.clone());
    let what =
        What::Alerted { rule: cut(rule, RULE_BYTES_MAX), text: cut(text, TEXT_BYTES_MAX), severity, tags, actor };
    let event = |what| Event { time_ms, provider: Provider::Falco, what };
    Some(std::iter::once(what).chain(looked_up).map(event).collect())
}

/// `evt.time` counts nanoseconds; `time` is a text with them.
fn time(alert: &Value, fields: &Value) -> Option<i64> {
    if let Some(nanoseconds) = fields.get("evt.time").and_then(Value::as_i64) {
        return Some(nanoseconds / 1_000_000);
    }
    let text = alert.get("time")?.as_str()?;
    let (seconds, fraction) = text.trim_end_matches('Z').split_once('.').unwrap_or((text.trim_end_matches('Z'), ""));
    let whole = i64::try_from(UnixTime::parse_rfc3339(format!("{seconds}Z").as_bytes()).ok()?.as_secs()).ok()?;
    let milliseconds: i64 = fraction.get(..3).and_then(|digits| digits.parse().ok()).unwrap_or(0);
    Some(whole * 1000 + milliseconds)
}

/// Falco's priorities are those of syslog; OCSF's severities end with 6, fatal.
fn severity(priority: &str) -> u8 {
    match priority.to_ascii_lowercase().as_str() {
        "emergency" => 6,
        "alert" | "critical" => 5,
        "error" => 4,
        "warning" => 3,
        "notice" => 2,
        "informational" | "info" | "debug" => 1,
        _ => 0,
    }
}

fn process(fields: &Value) -> Option<Process> {
    let text = |name: &str, bytes_max| fields.get(name)?.as_str().map(|text| cut(text, bytes_max));
    let number = |name: &str| fields.get(name)?.as_u64().and_then(|number| u32::try_from(number).ok());
    let parent = number("proc.ppid").map(|pid| {
        let (name, line) = (text("proc.pname", 64), text("proc.pcmdline", COMMAND_LINE_BYTES_MAX));
        Box::new(Process {
            pid,
            name,
            command_line: line,
            path: text("proc.pexepath", PATH_BYTES_MAX),
            ..Process::default()
        })
    });
    Some(Process {
        pid: number("proc.pid")?,
        name: text("proc.name", 64),
        command_line: text("proc.cmdline", COMMAND_LINE_BYTES_MAX),
        path: text("proc.exepath", PATH_BYTES_MAX),
        user: number("user.uid").map(|id| User { id, name: text("user.name", 64) }),
        parent,
        ..Process::default()
    })
}

fn look_up(fields: &Value, actor: Option<Process>) -> Option<What> {
    let name =
        fields.get("dns.name").or_else(|| fields.get("fd.sip.name"))?.as_str().filter(|name| !name.is_empty())?;
    let answers = fields.get("fd.sip").and_then(Value::as_str).into_iter();
    let answers: Vec<String> =
        answers.filter(|ip| ip.parse::<IpAddr>().is_ok()).map(str::to_owned).take(ANSWERS_MAX).collect();
    let is_answer = !answers.is_empty();
    Some(What::LookedUp { actor, name: cut(name, 255), kind: None, answers, is_answer })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALERT: &str = r#"{"hostname":"web","output":"Shell \"x\"","priority":"Notice","rule":"Terminal shell in container","source":"syscall",
        "tags":["container","T1059"],"time":"2026-11-26T21:00:00.123456789Z","output_fields":{"evt.time":1795726800123456789,
        "proc.pid":4711,"proc.name":"bash","proc.cmdline":"bash -i","proc.exepath":"/usr/bin/bash","proc.ppid":12,"proc.pname":"runc",
        "user.uid":0,"user.name":"root"}}"#;

    #[test]
    fn an_alert() {
        let events = parse(ALERT.as_bytes());
        assert_eq!((events.len(), events[0].time_ms), (1, 1_795_726_800_123));
        let What::Alerted { rule, text, severity, tags, actor } = &events[0].what else { panic!() };
        assert_eq!((rule.as_str(), text.as_str(), *severity), ("Terminal shell in container", "Shell \"x\"", 2));
        assert_eq!(tags.as_slice(), ["container", "T1059"]);
        let actor = actor.as_ref().unwrap();
        assert_eq!((actor.pid, actor.parent.as_ref().unwrap().name.as_deref()), (4711, Some("runc")));
    }

    #[test]
    fn the_time_of_the_text_counts_where_there_is_no_other() {
        let events = parse(ALERT.replace("evt.time", "other").as_bytes());
        assert_eq!(events[0].time_ms, 1_795_726_800_123);
        assert!(parse(ALERT.replace("evt.time", "other").replace("2026-11-26T21", "never").as_bytes()).is_empty());
    }

    #[test]
    fn a_name_that_was_looked_up() {
        let events = parse(
            ALERT
                .replace(
                    r#""proc.pid":4711"#,
                    r#""proc.pid":4711,"fd.sip.name":"evil.example","fd.sip":"169.254.169.254""#,
                )
                .as_bytes(),
        );
        let What::LookedUp { name, answers, is_answer, .. } = &events[1].what else { panic!() };
        assert_eq!(
            (name.as_str(), answers.as_slice(), *is_answer),
            ("evil.example", &["169.254.169.254".to_owned()][..], true)
        );
    }

    #[test]
    fn priorities_and_lines_that_are_none() {
        let all = ["Emergency", "Alert", "Critical", "Error", "Warning", "Notice", "Informational", "Debug", "?"];
        assert_eq!(all.map(severity), [6, 5, 5, 4, 3, 2, 1, 1, 0]);
        for bad in ["", "{}", "[1]", r#"{"rule":1}"#, r#"{"rule":"x"}"#] {
            assert!(parse(bad.as_bytes()).is_empty(), "{bad}");
        }
    }
}
