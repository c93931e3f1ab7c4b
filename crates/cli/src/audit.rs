//! `inborn audit`: the region's audit, read from its files, so that it can be read without a region, too.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use inborn_identity::{Clock, InstanceId, UnixTime};
use inborn_region::{AuditEntry, AuditReader};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Deserialize;
use serde_json::{Map, Value};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::arguments::{Audit, Output, Since, named};
use crate::clock::SystemClock;
use crate::directory::{self, Ready};
use crate::operator::Operator;
use crate::output::{escaped, printable};
use crate::serving::{AUDIT_DIRECTORY, AUDIT_FILE};

/// How often to look for new lines.
const FOLLOW_ROUND: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// Most notes about what could not be read; after these they are only counted.
const NOTES_MAX: u64 = 10;
/// What a shell says of a command that SIGINT ended.
const EXIT_INTERRUPTED: i32 = 130;

pub(crate) async fn audit(arguments: &Audit) -> anyhow::Result<()> {
    let ready = directory::find(named(arguments.data.as_ref()))?;
    let data = match (&ready, named(arguments.data.as_ref())) {
        (Some(ready), _) => ready.data.clone(),
        (None, Some(data)) => data.to_owned(),
        (None, None) => directory::default_path()?,
    };
    let path = data.join(AUDIT_DIRECTORY).join(AUDIT_FILE);
    let since = match arguments.since {
        None => UnixTime::from_secs(0),
        Some(Since::Ago(seconds)) => SystemClock.now().minus(seconds),
        Some(Since::At(time)) => time,
    };
    let mut notes = Notes::default();
    let instances = match &arguments.instance {
        None => None,
        Some(instance) => Some(instances(instance, ready.as_ref(), &path).await?),
    };
    let reader = open(&path, since, arguments.follow)?;
    let filter = Filter { since, instances };
    let stop = Arc::new(AtomicBool::new(false));
    if arguments.follow {
        for signal in [SIGINT, SIGTERM] {
            // Asked a second time, when the first is stuck in a write, the program ends at once.
            signal_hook::flag::register_conditional_shutdown(signal, EXIT_INTERRUPTED, Arc::clone(&stop))?;
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
    }
    let mut printer = Printer::new(BufWriter::new(io::stdout().lock()), arguments.output);
    match show(reader, &filter, &mut printer, &mut notes, || pause(arguments.follow, &stop, &path)) {
        // Whoever reads this has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        outcome => outcome.and(notes.finish()),
    }
}

fn open(path: &Path, since: UnixTime, follows: bool) -> anyhow::Result<AuditReader> {
    AuditReader::open(path, since, follows).with_context(|| {
        format!("there is no audit to read in {}: name a data directory with --data or INBORN_DATA", path.display())
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Shows what the filter lets pass, until there is no more and `goes_on` says that this is the end.
fn show(
    mut reader: AuditReader,
    filter: &Filter,
    printer: &mut Printer<impl Write>,
    notes: &mut Notes,
    mut goes_on: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    let mut line = Vec::new();
    loop {
        match reader.next(&mut line).context("cannot read the audit")? {
            AuditEntry::Line if !filter.may_pass(&line) => {}
            AuditEntry::Line => match Event::parse(&line) {
                Some((event, time)) if filter.passes(&event, time) => printer.print(&line, &event, time)?,
                Some(_) => {}
                None => notes.add("a line that is no record"),
            },
            AuditEntry::Skipped { path, reason } => notes.add(&format!("{}: {reason}", path.display())),
            AuditEntry::End => {
                printer.out.flush()?;
                if !goes_on() {
                    return Ok(());
                }
            }
        }
    }
}

/// Waits for lines to come; false when there is no use in waiting.
fn pause(follows: bool, stop: &AtomicBool, path: &Path) -> bool {
    if !follows || stop.load(Ordering::Relaxed) {
        return false;
    }
    // A reader that goes away while nothing happens is noticed, too.
    let stdout = io::stdout();
    let mut watched = [PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty())];
    let has_reader = !matches!(poll(&mut watched, Some(&FOLLOW_ROUND)), Ok(1..));
    // An ephemeral region takes its audit with it.
    let is_there = path.parent().is_some_and(Path::exists);
    has_reader && is_there && !stop.load(Ordering::Relaxed)
}

/// What could not be read, told on standard error.
#[derive(Default)]
struct Notes(u64);

impl Notes {
    fn add(&mut self, what: &str) {
        self.0 += 1;
        if self.0 <= NOTES_MAX {
            let _ = writeln!(io::stderr(), "inborn: skipped {what}");
        }
    }

    fn finish(&self) -> anyhow::Result<()> {
        if self.0 > NOTES_MAX {
            let _ = writeln!(io::stderr(), "inborn: skipped {} more", self.0 - NOTES_MAX);
        }
        Ok(())
    }
}

/// The part of a record that this program looks at.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Event {
    event_time: String,
    event_source: String,
    event_name: String,
    #[serde(rename = "sourceIPAddress")]
    source: String,
    error_code: Option<String>,
    user_identity: UserIdentity,
    request_parameters: Value,
    response_elements: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UserIdentity {
    principal_id: String,
    user_name: Option<String>,
}

impl Event {
    fn parse(line: &[u8]) -> Option<(Self, UnixTime)> {
        let event: Self = serde_json::from_slice(line).ok()?;
        let time = UnixTime::parse_rfc3339(event.event_time.as_bytes()).ok()?;
        Some((event, time))
    }

    /// The instance whose session called.
    fn caller_instance(&self) -> Option<&str> {
        let session = self.user_identity.principal_id.rsplit(':').next()?;
        session.parse::<InstanceId>().is_ok().then_some(session)
    }

    fn who(&self) -> &str {
        self.caller_instance().or(self.user_identity.user_name.as_deref()).unwrap_or("unknown")
    }

    fn what(&self) -> String {
        format!("{}:{}", self.event_source.split('.').next().unwrap_or_default(), self.event_name)
    }

    /// The error's code as the client saw it.
    fn result(&self) -> &str {
        let code = self.error_code.as_deref().unwrap_or("ok");
        code.strip_prefix("Client.").or_else(|| code.strip_prefix("Server.")).unwrap_or(code)
    }

    /// The instances that got the tag `Name` with this value in this call.
    fn instances_named(&self, name: &str) -> Vec<String> {
        let Some(parameters) = self.request_parameters.as_object().filter(|_| self.error_code.is_none()) else {
            return Vec::new();
        };
        let text = |key: &str| parameters.get(key).and_then(Value::as_str);
        let is_named = parameters
            .keys()
            .filter_map(|key| key.strip_suffix(".Key"))
            .any(|tag| text(&format!("{tag}.Key")) == Some("Name") && text(&format!("{tag}.Value")) == Some(name));
        match self.event_name.as_str() {
            "RunInstances" if is_named => ids_in(&self.response_elements),
            "CreateTags" if is_named => resources(parameters),
            _ => Vec::new(),
        }
    }
}

fn resources(parameters: &Map<String, Value>) -> Vec<String> {
    parameters.iter().filter(|(key, _)| key.starts_with("ResourceId.")).flat_map(|(_, id)| ids_in(id)).collect()
}

/// Every instance id in a value, however deep: serde_json has bounded how deep that is.
fn ids_in(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) if text.parse::<InstanceId>().is_ok() => vec![text.clone()],
        Value::Array(all) => all.iter().flat_map(ids_in).collect(),
        Value::Object(all) => all.values().flat_map(ids_in).collect(),
        _ => Vec::new(),
    }
}

/// Which calls are shown.
struct Filter {
    since: UnixTime,
    instances: Option<BTreeSet<String>>,
}

impl Filter {
    /// A quick look, before the line is parsed.
    fn may_pass(&self, line: &[u8]) -> bool {
        let Some(instances) = &self.instances else { return true };
        // What is no text is no record, which must be said.
        std::str::from_utf8(line)
            .map_or(true, |line| !line.ends_with('}') || instances.iter().any(|id| line.contains(id)))
    }

    fn passes(&self, event: &Event, time: UnixTime) -> bool {
        let concerns = |instances: &BTreeSet<String>| {
            event.caller_instance().is_some_and(|id| instances.contains(id))
                || ids_in(&event.request_parameters).iter().any(|id| instances.contains(id))
                || ids_in(&event.response_elements).iter().any(|id| instances.contains(id))
        };
        time >= self.since && self.instances.as_ref().is_none_or(concerns)
    }
}

/// The ids that are meant: one that was given as such, or those of all machines that have or had this name. Names of the
/// past are in the audit itself.
async fn instances(name_or_id: &str, ready: Option<&Ready>, path: &Path) -> anyhow::Result<BTreeSet<String>> {
    if name_or_id.parse::<InstanceId>().is_ok() {
        return Ok(BTreeSet::from([name_or_id.to_owned()]));
    }
    let mut found = BTreeSet::new();
    if let Some(ready) = ready {
        let machines = Operator::of(ready)?.machines(&[]).await?;
        found.extend(machines.into_iter().filter(|machine| machine.name == name_or_id).map(|machine| machine.id));
    }
    let mut reader = open(path, UnixTime::from_secs(0), false)?;
    let mut line = Vec::new();
    loop {
        match reader.next(&mut line)? {
            AuditEntry::Line => {
                if let Some((event, _)) = Event::parse(&line) {
                    found.extend(event.instances_named(name_or_id));
                }
            }
            // It is told when the lines are shown.
            AuditEntry::Skipped { .. } => {}
            AuditEntry::End if found.is_empty() => {
                bail!("no machine was called {name_or_id}, as far as the audit goes back")
            }
            AuditEntry::End => return Ok(found),
        }
    }
}

/// Prints records as they come, so that columns cannot be as wide as their widest cell: what is longer than its column is
/// cut, but for the result, which comes last and whole. What was done fits into 80 columns. The date stands on a line of
/// its own when it changes.
struct Printer<W> {
    out: W,
    output: Output,
    date: String,
}

/// `hh:mm:ss`
const TIME_WIDTH: usize = 8;
/// An instance id.
const WHO_WIDTH: usize = 19;
/// `ec2:TerminateInstances`
const WHAT_WIDTH: usize = 22;
/// An IPv4 address.
const SOURCE_WIDTH: usize = 15;

impl<W: Write> Printer<W> {
    const fn new(out: W, output: Output) -> Self {
        Self { out, output, date: String::new() }
    }

    fn print(&mut self, line: &[u8], event: &Event, time: UnixTime) -> io::Result<()> {
        if self.output == Output::Json {
            // A line is JSON, and what clients said of themselves is in it.
            return writeln!(self.out, "{}", escaped(&String::from_utf8_lossy(line)));
        }
        let text = time.rfc3339();
        let (date, time) = text.split_once('T').unwrap_or_default();
        if self.date.is_empty() {
            writeln!(self.out, "{}", row("TIME", "WHO", "WHAT", "SOURCE", "RESULT"))?;
        }
        if self.date != date {
            writeln!(self.out, "{date} UTC")?;
            date.clone_into(&mut self.date);
        }
        let time = time.strip_suffix('Z').unwrap_or(time);
        writeln!(self.out, "{}", row(time, event.who(), &event.what(), &event.source, event.result()))
    }
}

fn row(time: &str, who: &str, what: &str, source: &str, result: &str) -> String {
    let [who, what, source] = [cut(who, WHO_WIDTH), cut(what, WHAT_WIDTH), cut(source, SOURCE_WIDTH)];
    let result = printable(result);
    format!("{time:TIME_WIDTH$}  {who:WHO_WIDTH$}  {what:WHAT_WIDTH$}  {source:SOURCE_WIDTH$}  {result}")
}

/// At most `width` characters that a terminal can be shown.
fn cut(text: &str, width: usize) -> String {
    let text = printable(text);
    match text.char_indices().nth(width) {
        None => text,
        Some(_) => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests;
