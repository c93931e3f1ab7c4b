//! `inborn events`: what machines told of themselves.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use inborn_identity::{Clock, UnixTime};
use serde_json::{Map, Value, json};

use super::findings::instance;
use super::{Events, cell};
use crate::arguments::{Output, Since};
use crate::clock::SystemClock;
use crate::operator::Operator;
use crate::output::{Json, printable};

/// Events of one call.
const PAGE: u64 = 500;
/// How often to look for new events.
const FOLLOW_ROUND: Duration = Duration::from_millis(500);
/// How late an event may come and still be shown when following: machines send in batches, and have clocks of their own.
const LATE_MS: i64 = 60_000;

pub(crate) async fn events(arguments: &Events) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let mut question = Map::new();
    if let Some(name) = &arguments.instance {
        question.insert("instances".to_owned(), json!([instance(&operator, name).await?]));
    }
    if !arguments.class.is_empty() {
        question.insert("classes".to_owned(), json!(arguments.class));
    }
    if !arguments.filters.is_empty() {
        question.insert("filters".to_owned(), json!(arguments.filters));
    }
    if let Some(text) = &arguments.text {
        question.insert("text".to_owned(), json!(text));
    }
    if let Some(until) = arguments.until {
        question.insert("until".to_owned(), json!(milliseconds(until)));
    }
    let asked = arguments.since.map(milliseconds);
    // Who follows without saying since when wants what is new.
    let since = asked.or_else(|| arguments.follow.then(|| milliseconds(Since::Ago(0)))).unwrap_or(0);
    let mut printer = Printer { output: arguments.output, has_heading: false, seen: BTreeMap::new(), latest: since };
    let shown = show(&operator, &mut printer, question, since, arguments).await;
    match shown {
        // Whoever reads this has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        outcome => outcome,
    }
}

async fn show(
    operator: &Operator,
    printer: &mut Printer,
    mut question: Map<String, Value>,
    since: i64,
    arguments: &Events,
) -> anyhow::Result<()> {
    question.insert("order".to_owned(), json!("ASC"));
    question.insert("maxResults".to_owned(), json!(PAGE));
    let mut from = since;
    loop {
        question.insert("since".to_owned(), json!(from));
        question.remove("nextToken");
        loop {
            let answer = operator.guardduty("POST", "/inborn/events", Some(&Value::Object(question.clone()))).await?;
            for event in answer.get("events").and_then(Value::as_array).into_iter().flatten() {
                printer.print(event)?;
            }
            if let Some(count @ 1..) = answer.get("unreadable").and_then(Value::as_u64) {
                let files = answer.get("unreadableFiles").and_then(Value::as_array);
                let names: Vec<_> = files.into_iter().flatten().filter_map(Value::as_str).map(printable).collect();
                let names = names.join(", ");
                writeln!(
                    io::stderr(),
                    "inborn: {count} files of the region could not be read, events are missing: {names}"
                )?;
            }
            match answer.get("nextToken") {
                Some(token) if token.is_string() => question.insert("nextToken".to_owned(), token.clone()),
                _ => break,
            };
        }
        if !arguments.follow {
            return printer.end();
        }
        tokio::time::sleep(FOLLOW_ROUND).await;
        from = printer.forget_old(since);
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn milliseconds(since: Since) -> i64 {
    let at = match since {
        Since::Ago(seconds) => SystemClock.now().minus(seconds),
        Since::At(time) => time,
    };
    i64::try_from(at.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000)
}

/// Prints events, each once.
struct Printer {
    output: Output,
    has_heading: bool,
    /// What was printed lately, by machine and uid, with its time.
    seen: BTreeMap<(String, String), i64>,
    latest: i64,
}

impl Printer {
    fn print(&mut self, event: &Value) -> anyhow::Result<()> {
        let time = event.pointer("/event/time").and_then(Value::as_i64).unwrap_or_default();
        let key = (cell(event, "/instanceId"), cell(event, "/event/metadata/uid"));
        if self.seen.insert(key, time).is_some() {
            return Ok(());
        }
        // A clock that is ahead must not make us look away from what is now.
        let now = milliseconds(Since::Ago(0)).saturating_add(1000);
        self.latest = self.latest.max(time.min(now));
        let mut out = io::stdout().lock();
        if let Output::Json = self.output {
            return Ok(writeln!(out, "{}", Json(event.get("event").unwrap_or(&Value::Null)))?);
        }
        if !self.has_heading {
            self.has_heading = true;
            writeln!(out, "{}", line("TIME", "INSTANCE", "EVENT", "PROCESS", "WHAT"))?;
        }
        let what = what(event);
        let process = ["/event/process/name", "/event/actor/process/name"].map(|place| cell(event, place));
        let process = process.into_iter().find(|name| name != "-").unwrap_or_else(|| "-".to_owned());
        Ok(writeln!(out, "{}", line(&moment(time), &cell(event, "/instanceId"), &kind(event), &process, &what))?)
    }

    fn end(&self) -> anyhow::Result<()> {
        if self.seen.is_empty() && matches!(self.output, Output::Table) {
            writeln!(io::stdout().lock(), "no events")?;
        }
        Ok(())
    }

    /// Forgets what is too old to come again; gives since when to look.
    fn forget_old(&mut self, since: i64) -> i64 {
        let from = self.latest.saturating_sub(LATE_MS).max(since);
        self.seen.retain(|_, time| *time >= from);
        from
    }
}

fn line(time: &str, instance: &str, kind: &str, process: &str, what: &str) -> String {
    let [time, instance, kind, process, what] = [time, instance, kind, process, what].map(printable);
    format!("{time:24}  {instance:19}  {kind:22}  {process:15}  {what}")
}

/// `2026-11-23T05:29:00.123Z`
fn moment(time_ms: i64) -> String {
    let seconds = u64::try_from(time_ms.div_euclid(1000)).unwrap_or_default();
    let mut text = UnixTime::from_secs(seconds).rfc3339();
    text.pop();
    format!("{text}.{:03}Z", time_ms.rem_euclid(1000))
}

/// Class and activity in words, as far as they are known. Source: OCSF 1.3.
fn kind(event: &Value) -> String {
    let number = |place: &str| event.pointer(place).and_then(Value::as_u64).unwrap_or_default();
    let (class, activity) = (number("/event/class_uid"), number("/event/activity_id"));
    let word = match (class, activity) {
        (1007, 1) => "process launch",
        (1007, 2) => "process end",
        (1007, 3) => "process open",
        (1007, 4) => "process inject",
        (1007, 5) => "set user id",
        (1001, 1) => "file create",
        (1001, 3) => "file change",
        (1001, 4) => "file delete",
        (1001, 5) => "file rename",
        (1001, 7) => "file mode",
        (1001, 12) => "mount",
        (1001, 14) => "file open",
        (1002, 1) => "module load",
        (1003, _) => "system call",
        (1004, _) => "memory",
        (1005, _) => "library load",
        (4001, 1) => "connect",
        (4001, 4) => "connect fail",
        (4001, 7) => "listen",
        (4003, 1) => "dns query",
        (4003, 2) => "dns answer",
        (2004, _) => "finding",
        _ => return format!("{class}/{activity}"),
    };
    word.to_owned()
}

/// The one thing of an event that says most.
fn what(event: &Value) -> String {
    let places = [
        "/event/process/cmd_line",
        "/event/process/file/path",
        "/event/file/path",
        "/event/driver/file/name",
        "/event/module/file/path",
        "/event/query/hostname",
        "/event/finding_info/title",
        "/event/unmapped/socket/path",
        "/event/kernel/name",
    ];
    let endpoint = |place: &str| {
        let end = event.pointer(place)?;
        Some(format!("{}:{}", end.get("ip")?.as_str()?, end.get("port")?))
    };
    let endpoint = || endpoint("/event/dst_endpoint").or_else(|| endpoint("/event/src_endpoint"));
    let text = places.iter().map(|place| cell(event, place)).find(|text| text != "-");
    text.or_else(endpoint).unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line_that_drives_no_terminal() {
        let event = json!({
            "instanceId": "i-0123456789abcdef0",
            "event": {"class_uid": 1007, "activity_id": 1, "process": {"name": "sh\u{1b}[2J", "cmd_line": "sh\n-c"}},
        });
        assert_eq!((kind(&event), what(&event)), ("process launch".to_owned(), "sh\n-c".to_owned()));
        let shown =
            line(&moment(1_800_000_000_123), "i-0123456789abcdef0", &kind(&event), "sh\u{1b}[2J", &what(&event));
        assert!(!shown.contains(char::is_control), "{shown:?}");
        assert!(shown.starts_with("2027-01-15T08:00:00.123Z  i-0123456789abcdef0  process launch "));
        let event =
            json!({"event": {"class_uid": 4001, "activity_id": 1, "dst_endpoint": {"ip": "192.0.2.1", "port": 443}}});
        assert_eq!((kind(&event), what(&event)), ("connect".to_owned(), "192.0.2.1:443".to_owned()));
        assert_eq!((kind(&json!({})), what(&json!({}))), ("0/0".to_owned(), "-".to_owned()));
    }

    #[test]
    fn each_event_is_shown_once_and_late_ones_too() {
        let event =
            |uid: &str, time: i64| json!({"instanceId": "i", "event": {"time": time, "metadata": {"uid": uid}}});
        let mut printer = Printer { output: Output::Json, has_heading: false, seen: BTreeMap::new(), latest: 0 };
        for (uid, time) in [("a", 1_000_000), ("b", 1_100_000), ("a", 1_000_000)] {
            printer.print(&event(uid, time)).unwrap();
        }
        assert_eq!(printer.forget_old(0), 1_100_000 - LATE_MS);
        assert_eq!(printer.seen.len(), 1, "what cannot come again is forgotten");
        printer.print(&event("c", i64::MAX)).unwrap();
        assert!(printer.latest < i64::MAX, "a clock that is ahead");
    }
}
