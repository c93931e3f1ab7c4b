//! From an event that a rule matched to a finding: who did it, to what, and how that is said.

use crate::category::Category;
use crate::event::Event;
use crate::finding::{
    Action, ContainerDetails, DnsRequest, Finding, FindingType, InstanceDetails, IpDetails, NetworkConnection,
    PortDetails, ProcessDetails, Resource, RuleReference, RuntimeContext, RuntimeDetails, Severity, cut,
};
use crate::rules::{Place, RuleFacts};
use inborn_identity::{Partition, UnixTime};
use inborn_telemetry::Source;
use serde_json::Value;
use std::sync::Arc;

/// How many ancestors of a process a finding names.
const LINEAGE_MAX: usize = 8;

/// The finding of one event that one rule matched.
///
/// Every text in it that comes from the event was chosen by the machine: who shows it escapes it.
#[must_use]
pub fn describe(rule: &RuleFacts, event: &Event<'_>, source: &Source, partition: Partition, now: UnixTime) -> Finding {
    Finding {
        kind: rule.kind,
        severity: rule.severity,
        title: format!("{} on {}", rule.title, source.instance),
        description: description(rule, event, source),
        rule: Some(RuleReference { id: rule.id.clone(), title: rule.title.clone() }),
        subject: subject(rule, event),
        ..described(event, source, partition, now)
    }
}

/// What of a finding the event alone tells: its type, words and subject are for others to say.
pub(crate) fn described(event: &Event<'_>, source: &Source, partition: Partition, now: UnixTime) -> Finding {
    // A clock that is ahead must not make a finding that is newer than everything.
    let seen = event.time_ms().map_or(now, |milliseconds| UnixTime::from_secs(milliseconds / 1000).min(now));
    let process = event.process().map(|process| details(process, LINEAGE_MAX));
    let context = context(event);
    Finding {
        kind: FindingType::RULE_MATCHED,
        severity: Severity::Medium,
        title: String::new(),
        description: String::new(),
        partition,
        account: source.account,
        region: source.region.clone(),
        resource: Resource {
            instance: Some(InstanceDetails::of(source.instance)),
            access_key: None,
            container: container(event.process()),
        },
        action: action(event),
        runtime: Some(RuntimeDetails { process, context: (context != RuntimeContext::default()).then_some(context) }),
        threat_lists: Vec::new(),
        rule: None,
        subject: String::new(),
        count: 1,
        first_seen: seen,
        last_seen: seen,
    }
}

/// The finding that another tool on the machine made and sent as an event (Detection Finding, as for an alert of Falco's). It
/// keeps the tool's words, and claims no type of GuardDuty's for them.
#[must_use]
pub fn ready_made(event: &Event<'_>, source: &Source, partition: Partition, now: UnixTime) -> Option<Finding> {
    if event.categories() != [Category::DetectionFinding] {
        return None;
    }
    let title = event.text("finding_info.title")?.into_owned();
    let tool = event.text("metadata.product.name").unwrap_or_default().into_owned();
    let rule = RuleFacts {
        id: format!("{tool}: {title}"),
        description: event.text("finding_info.desc").unwrap_or_default().into_owned(),
        kind: FindingType::TOOL_FOUND,
        severity: Severity::of_ocsf(
            event.number("severity_id").and_then(|id| u64::try_from(id).ok()).unwrap_or_default(),
        ),
        place: Place { file: Arc::from(""), line: 0 },
        title,
    };
    let mut finding = describe(&rule, event, source, partition, now);
    finding.rule = None;
    finding.subject = rule.id;
    Some(finding)
}

/// What of the machine: the rule, the program, and what it touched. Not the process: a program that is started each minute is
/// one finding that is counted up.
fn subject(rule: &RuleFacts, event: &Event<'_>) -> String {
    let mut subject = rule.id.clone();
    for name in [
        "Image",
        "TargetFilename",
        "TargetImage",
        "ImageLoaded",
        "driver.file.name",
        "DestinationIp",
        "QueryName",
        "unmapped.socket.path",
    ] {
        subject.push('|');
        subject.push_str(event.text(name).as_deref().unwrap_or_default());
    }
    subject
}

fn description(rule: &RuleFacts, event: &Event<'_>, source: &Source) -> String {
    let mut text = rule.description.split_whitespace().collect::<Vec<_>>().join(" ");
    text.push_str(&format!(" Machine {}", source.instance));
    let facts = [
        ("program", "Image"),
        ("process", "ProcessId"),
        ("user", "User"),
        ("file", "TargetFilename"),
        ("other program", "TargetImage"),
        ("module", "driver.file.name"),
        ("remote address", "DestinationIp"),
        ("remote port", "DestinationPort"),
        ("name", "QueryName"),
        ("socket", "unmapped.socket.path"),
    ];
    for (what, name) in facts {
        if let Some(value) = event.text(name) {
            text.push_str(&format!(", {what} {}", cut(&value)));
        }
    }
    text.push('.');
    text
}

fn details(process: &Value, ancestors: usize) -> ProcessDetails {
    let text = |pointer: &str| process.pointer(pointer).and_then(Value::as_str).map(|text| cut(text).to_owned());
    let number = |pointer: &str| {
        let value = process.pointer(pointer)?;
        let number = value.as_i64().or_else(|| value.as_str()?.parse().ok())?;
        i32::try_from(number).ok()
    };
    let hashes = process.pointer("/file/hashes").and_then(Value::as_array);
    // OCSF 1.3, `objects/fingerprint.json`: algorithm 3 is SHA-256.
    let sha256 =
        hashes.and_then(|list| list.iter().find(|hash| hash.get("algorithm_id").and_then(Value::as_u64) == Some(3)));
    let parent = process.get("parent_process");
    ProcessDetails {
        name: text("/name"),
        executable_path: text("/file/path"),
        executable_sha256: sha256
            .and_then(|hash| hash.get("value"))
            .and_then(Value::as_str)
            .map(|text| cut(text).to_owned()),
        namespace_pid: number("/namespace_pid"),
        pwd: text("/working_directory"),
        pid: number("/pid"),
        start_time: process.get("created_time").and_then(Value::as_u64).map(|milliseconds| milliseconds / 1000),
        uuid: text("/uid"),
        parent_uuid: parent
            .and_then(|parent| parent.get("uid"))
            .and_then(Value::as_str)
            .map(|text| cut(text).to_owned()),
        user: text("/user/name"),
        user_id: number("/user/uid"),
        euid: number("/euid"),
        lineage: lineage(parent, ancestors),
    }
}

fn lineage(mut above: Option<&Value>, ancestors: usize) -> Vec<ProcessDetails> {
    let mut found = Vec::new();
    while let Some(process) = above.filter(|_| found.len() < ancestors) {
        let mut ancestor = details(process, 0);
        // What `LineageObject` has no member for.
        ancestor.pwd = None;
        ancestor.user = None;
        ancestor.executable_sha256 = None;
        found.push(ancestor);
        above = process.get("parent_process");
    }
    found
}

fn context(event: &Event<'_>) -> RuntimeContext {
    let text = |name: &str| event.text(name).map(|text| cut(&text).to_owned());
    let file = text("TargetFilename");
    let ends_with = |end: &str| file.clone().filter(|path| path.ends_with(end));
    RuntimeContext {
        target_process: event.target().map(|target| details(target, 0)),
        socket_path: text("unmapped.socket.path"),
        runc_binary_path: ends_with("/runc"),
        release_agent_path: ends_with("/release_agent"),
        mount_source: text("unmapped.mount.source"),
        mount_target: text("unmapped.mount.source").and(file.clone()),
        file_system_type: text("unmapped.mount.type"),
        flags: flags(event),
        module_name: text("driver.file.name"),
        module_file_path: text("driver.file.path"),
        module_sha256: None,
        address_family: text("DestinationIp")
            .map(|address| if address.contains(':') { "IPv6" } else { "IPv4" }.to_owned()),
        iana_protocol_number: event
            .number("connection_info.protocol_num")
            .and_then(|number| i32::try_from(number).ok()),
        tool_name: None,
        command_line_example: text("CommandLine"),
        file_operation: text("activity_name"),
        file_path: file,
        threat_file_path: None,
    }
}

/// What a call was told beside its objects: the request of ptrace, the flags of a mount.
fn flags(event: &Event<'_>) -> Vec<String> {
    ["unmapped.ptrace.request", "unmapped.mount.flags"]
        .into_iter()
        .filter_map(|name| event.text(name))
        .map(|text| cut(&text).to_owned())
        .collect()
}

fn container(process: Option<&Value>) -> Option<ContainerDetails> {
    let container = process?.get("container")?;
    let text = |pointer: &str| container.pointer(pointer).and_then(Value::as_str).map(|text| cut(text).to_owned());
    let found = ContainerDetails {
        id: text("/uid"),
        name: text("/name"),
        image: text("/image/name"),
        runtime: text("/runtime"),
    };
    (found != ContainerDetails::default()).then_some(found)
}

fn action(event: &Event<'_>) -> Option<Action> {
    if let Some(domain) = event.text("QueryName") {
        let protocol = event.text("connection_info.protocol_name").map(|name| name.to_uppercase());
        return Some(Action::DnsRequest(DnsRequest { domain: domain.into_owned(), protocol }));
    }
    let address = |name: &str| event.text(name).and_then(|text| text.parse().ok()).map(IpDetails);
    let port = |name: &str| event.number(name).and_then(|port| u16::try_from(port).ok()).map(PortDetails);
    let destination = (address("DestinationIp"), port("DestinationPort"));
    let source = (address("SourceIp"), port("SourcePort"));
    // Who began is the source: of a connection that came in, that is the other side.
    let is_inbound = event.number("connection_info.direction_id") == Some(1);
    let (local, remote) = if is_inbound { (destination, source) } else { (source, destination) };
    remote.0?;
    let direction = match event.number("connection_info.direction_id") {
        Some(1) => "INBOUND",
        Some(2) => "OUTBOUND",
        _ => "UNKNOWN",
    };
    let protocol = event.text("Protocol").map(|name| name.to_uppercase());
    Some(Action::NetworkConnection(NetworkConnection { direction, protocol, local, remote }))
}
