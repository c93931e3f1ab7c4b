//! `inborn findings`: what was found.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use inborn_identity::{Clock, UnixTime};
use serde_json::{Map, Value, json};

use super::arguments::{FindingsCommand, Named};
use super::{Detector, Findings, PAGE, cell, moment};
use crate::arguments::{Output, Since};
use crate::clock::SystemClock;
use crate::operator::Operator;
use crate::output::{self, Json, printable};

/// How often to look for new findings.
const FOLLOW_ROUND: Duration = Duration::from_millis(500);
/// How far back a look goes that follows another: whole seconds are what moments have, and clocks are not the same.
const OVERLAP_SECONDS: u64 = 5;

pub(crate) async fn findings(arguments: &Findings) -> anyhow::Result<()> {
    match &arguments.command {
        Some(FindingsCommand::Show(named)) => show(named).await,
        Some(FindingsCommand::Archive(named)) => archive(named).await,
        None => list(arguments).await,
    }
}

async fn list(arguments: &Findings) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let instance = match &arguments.instance {
        Some(name) => Some(instance(&operator, name).await?),
        None => None,
    };
    let since = match arguments.since {
        None => UnixTime::from_secs(0),
        Some(Since::Ago(seconds)) => SystemClock.now().minus(seconds),
        Some(Since::At(time)) => time,
    };
    let mut found = look(&operator, criteria(arguments, instance.as_deref(), since)).await?;
    if !arguments.follow {
        // What was seen last comes first.
        found.reverse();
        return print_all(&found, arguments.output);
    }
    let mut follower = Follower::default();
    loop {
        // Whoever reads this has seen enough.
        match follower.print(&found, arguments.output) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            outcome => outcome?,
        }
        tokio::time::sleep(FOLLOW_ROUND).await;
        let from = follower.latest.max(since).minus(OVERLAP_SECONDS).max(since);
        found = look(&operator, criteria(arguments, instance.as_deref(), from)).await?;
    }
}

/// The id of a machine; that of one that is long gone is good, too.
pub(super) async fn instance(operator: &Operator, name_or_id: &str) -> anyhow::Result<String> {
    if name_or_id.parse::<inborn_identity::InstanceId>().is_ok() {
        return Ok(name_or_id.to_owned());
    }
    Ok(operator.machine(name_or_id).await?.id)
}

fn criteria(arguments: &Findings, instance: Option<&str>, since: UnixTime) -> Value {
    let mut criterion = Map::new();
    let mut put = |place: &str, condition: Value| criterion.insert(place.to_owned(), condition);
    if let Some(instance) = instance {
        put("resource.instanceDetails.instanceId", json!({ "equals": [instance] }));
    }
    if let Some(kind) = &arguments.kind {
        put("type", json!({ "matches": [kind] }));
    }
    if let Some(level) = arguments.severity {
        put("severity", json!({ "greaterThanOrEqual": level.from() }));
    }
    if !arguments.archived {
        put("service.archived", json!({ "equals": ["false"] }));
    }
    if since > UnixTime::from_secs(0) {
        put("updatedAt", json!({ "greaterThanOrEqual": since.as_secs().saturating_mul(1000) }));
    }
    Value::Object(criterion)
}

/// The findings that meet criteria, those first that were seen least lately.
async fn look(operator: &Operator, criterion: Value) -> anyhow::Result<Vec<Value>> {
    let Some(detector) = Detector::find(operator).await? else { return Ok(Vec::new()) };
    let sort = json!({ "attributeName": "updatedAt", "orderBy": "ASC" });
    let input = json!({ "findingCriteria": { "criterion": criterion }, "sortCriteria": sort, "maxResults": PAGE });
    let ids = detector.all("findings", "findingIds", input).await?;
    let mut found = Vec::with_capacity(ids.len());
    for some in ids.chunks(PAGE) {
        let mut answer = detector.post("findings/get", &json!({ "findingIds": some, "sortCriteria": sort })).await?;
        if let Some(Value::Array(mut some)) = answer.get_mut("findings").map(Value::take) {
            found.append(&mut some);
        }
    }
    Ok(found)
}

const HEADING: [&str; 6] = ["FINDING", "SEEN", "SEVERITY", "COUNT", "INSTANCE", "TYPE"];

fn row(finding: &Value) -> [String; 6] {
    let severity =
        finding.get("severity").and_then(Value::as_f64).map_or_else(|| "-".to_owned(), |it| format!("{it:.1}"));
    let mut kind = cell(finding, "/type");
    if finding.pointer("/service/archived") == Some(&Value::Bool(true)) {
        kind.push_str(" (archived)");
    }
    [
        short(&cell(finding, "/id")),
        moment(&cell(finding, "/updatedAt")),
        severity,
        cell(finding, "/service/count"),
        cell(finding, "/resource/instanceDetails/instanceId"),
        kind,
    ]
}

/// As much of an id as tells it from others, and `show` takes.
fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

fn print_all(found: &[Value], format: Output) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        Output::Json => writeln!(out, "{:#}", Json(&Value::from(found)))?,
        Output::Table if found.is_empty() => writeln!(out, "no findings")?,
        Output::Table => output::table(&mut out, HEADING, &found.iter().map(row).collect::<Vec<_>>())?,
    }
    Ok(())
}

/// Prints findings as they come: each when it is new, and again when it was counted up.
#[derive(Default)]
struct Follower {
    has_heading: bool,
    latest: UnixTime,
    /// How often each was seen when it was printed.
    counts: HashMap<String, u64>,
}

impl Follower {
    fn print(&mut self, found: &[Value], format: Output) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let mut counts = HashMap::new();
        for finding in found {
            let id = cell(finding, "/id");
            let count = finding.pointer("/service/count").and_then(Value::as_u64).unwrap_or_default();
            let seen = UnixTime::parse_rfc3339(cell(finding, "/updatedAt").as_bytes()).unwrap_or_default();
            self.latest = self.latest.max(seen);
            if self.counts.get(&id) != Some(&count) {
                self.line(&mut out, finding, format)?;
            }
            counts.insert(id, count);
        }
        // What a look no longer shows was not changed lately; it is as long as a look.
        self.counts = counts;
        out.flush()
    }

    fn line(&mut self, out: &mut impl Write, finding: &Value, format: Output) -> io::Result<()> {
        if let Output::Json = format {
            return writeln!(out, "{}", Json(finding));
        }
        if !self.has_heading {
            self.has_heading = true;
            writeln!(out, "{}", columns(&HEADING.map(str::to_owned)))?;
        }
        writeln!(out, "{}", columns(&row(finding)))
    }
}

fn columns([id, seen, severity, count, instance, kind]: &[String; 6]) -> String {
    let [id, seen, severity, count, instance, kind] =
        [id, seen, severity, count, instance, kind].map(|it| printable(it));
    format!("{id:12}  {seen:20}  {severity:8}  {count:5}  {instance:19}  {kind}")
}

/// The whole ids of findings that are named by their beginnings.
async fn named(detector: &Detector<'_>, named: &Named) -> anyhow::Result<Vec<String>> {
    let all = detector.all("findings", "findingIds", json!({ "maxResults": PAGE })).await?;
    let all: Vec<&str> = all.iter().filter_map(Value::as_str).collect();
    let one = |start: &String| {
        let mut found = all.iter().filter(|id| id.starts_with(start.as_str()));
        match (found.next(), found.next()) {
            (Some(id), None) => Ok((*id).to_owned()),
            (None, _) => bail!("there is no finding {start}: see `inborn findings --archived`"),
            (Some(_), Some(_)) => bail!("more than one finding begins with {start}: give more of its id"),
        }
    };
    named.ids.iter().map(one).collect()
}

async fn show(arguments: &Named) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let detector = Detector::find(&operator).await?.context("there are no findings: no machine has sent telemetry")?;
    let ids = named(&detector, arguments).await?;
    let answer = detector.post("findings/get", &json!({ "findingIds": ids })).await?;
    let mut out = io::stdout().lock();
    for finding in answer.get("findings").and_then(Value::as_array).into_iter().flatten() {
        // Line by line: what could drive a terminal is not escaped by JSON alone.
        for line in format!("{finding:#}").lines() {
            writeln!(out, "{}", printable(line))?;
        }
    }
    Ok(())
}

async fn archive(arguments: &Named) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let detector = Detector::find(&operator).await?.context("there are no findings: no machine has sent telemetry")?;
    let ids = named(&detector, arguments).await?;
    detector.post("findings/archive", &json!({ "findingIds": ids })).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_that_drives_no_terminal() {
        let finding = json!({
            "id": "0123456789abcdef0123456789abcdef",
            "updatedAt": "2027-01-15T08:00:00.000Z",
            "severity": 8.0,
            "type": "Execution:Runtime/Reverse\u{1b}[31mShell",
            "service": {"count": 3, "archived": true},
            "resource": {"instanceDetails": {"instanceId": "i-0123456789abcdef0"}},
        });
        assert_eq!(
            columns(&row(&finding)),
            "0123456789ab  2027-01-15T08:00:00Z  8.0       3      i-0123456789abcdef0  \
             Execution:Runtime/Reverse\u{fffd}[31mShell (archived)"
        );
        assert_eq!(row(&json!({})), ["-", "-", "-", "-", "-", "-"]);
    }
}
