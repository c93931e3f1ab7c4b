//! An event as rules see it: parsed, and under the names that Sigma has for its parts.

use crate::category::{Category, Product};
use rsigma_eval::{Event as Fields, EventValue, JsonEvent};
use serde_json::Value;
use std::borrow::Cow;

/// How many elements of a list a rule looks at.
const LIST_LENGTH_MAX: usize = 64;

/// How many names a path into an event has at most: as deep as telemetry lets an event be.
const PATH_DEPTH_MAX: usize = 32;

/// One event of OCSF.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    value: &'a Value,
    categories: &'static [Category],
    product: Product,
    /// The process that acts, or that was started.
    process: Option<&'a Value>,
    parent: Option<&'a Value>,
    /// The process that something is done to.
    target: Option<&'a Value>,
    renamed: bool,
}

/// Process Activity: the process that an event is about is a member of its own there.
const PROCESS_ACTIVITY: u64 = 1007;

impl<'a> Event<'a> {
    /// An event, unless it is none of OCSF: without a class it cannot be routed to rules.
    #[must_use]
    pub fn of(value: &'a Value) -> Option<Self> {
        let class = value.get("class_uid")?.as_u64()?;
        let activity = value.get("activity_id").and_then(Value::as_u64).unwrap_or_default();
        let actor = value.get("actor").and_then(|actor| actor.get("process"));
        let subject = value.get("process");
        let (process, parent, target) = match (class, activity) {
            (PROCESS_ACTIVITY, 1 | 2) => {
                (subject, subject.and_then(|process| process.get("parent_process")).or(actor), None)
            }
            _ => (actor, actor.and_then(|process| process.get("parent_process")), subject),
        };
        let writes = value.get("unmapped").and_then(|own| own.get("open")).and_then(|open| open.get("write"));
        let categories = Category::of(class, activity, writes.and_then(Value::as_bool).unwrap_or(false));
        let product = Product::of(value);
        let renamed = class == 1001 && activity == 5;
        Some(Self { value, categories, product, process, parent, target, renamed })
    }

    /// What rules may be about it.
    #[must_use]
    pub fn categories(&self) -> &'static [Category] {
        self.categories
    }

    /// What its machine runs.
    #[must_use]
    pub fn product(&self) -> Product {
        self.product
    }

    /// When it happened, in milliseconds since 1970.
    #[must_use]
    pub fn time_ms(&self) -> Option<u64> {
        self.value.get("time")?.as_u64()
    }

    /// The process that acts, or that was started.
    #[must_use]
    pub fn process(&self) -> Option<&'a Value> {
        self.process
    }

    /// The process above it.
    #[must_use]
    pub fn parent(&self) -> Option<&'a Value> {
        self.parent
    }

    /// The process that something is done to.
    #[must_use]
    pub fn target(&self) -> Option<&'a Value> {
        self.target
    }

    /// A text of the event under Sigma's name for it, or by its path in OCSF.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        match self.lookup(name)? {
            EventValue::Str(text) => Some(text),
            EventValue::Int(number) => Some(Cow::Owned(number.to_string())),
            EventValue::Array(items) => items.into_iter().find_map(|item| match item {
                EventValue::Str(text) => Some(text),
                _ => None,
            }),
            _ => None,
        }
    }

    /// A number of the event, in the same way.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        self.lookup(name)?.as_i64()
    }

    /// Source of the names: Sigma's taxonomy, "Process Creation Events" and its neighbours. A name that is none of Sigma's is
    /// a path into the event. There is no precedence of keys with dots in them, so that no event can shadow its own parts.
    fn lookup(&self, name: &str) -> Option<EventValue<'a>> {
        match name {
            "Image" | "ProcessName" => at(self.process, "file.path").or_else(|| at(self.process, "path")),
            "CommandLine" => at(self.process, "cmd_line"),
            "CurrentDirectory" => at(self.process, "working_directory"),
            "User" => at(self.process, "user.name"),
            "ProcessId" => at(self.process, "pid"),
            "ProcessGuid" => at(self.process, "uid"),
            "Hashes" => at(self.process, "file.hashes.value"),
            "ParentImage" => at(self.parent, "file.path").or_else(|| at(self.parent, "path")),
            "ParentCommandLine" => at(self.parent, "cmd_line"),
            "ParentProcessId" => at(self.parent, "pid"),
            "ParentProcessGuid" => at(self.parent, "uid"),
            "ParentUser" => at(self.parent, "user.name"),
            "SourceImage" => at(self.process, "file.path"),
            "SourceProcessId" => at(self.process, "pid"),
            "TargetImage" => at(self.target, "file.path"),
            "TargetProcessId" => at(self.target, "pid"),
            "TargetFilename" if self.renamed => self.path("file_result.path").or_else(|| self.path("file.path")),
            "TargetFilename" => self.path("file.path"),
            "SourceFilename" => self.path("file.path"),
            "ImageLoaded" => self.path("driver.file.path").or_else(|| self.path("module.file.path")),
            "DestinationIp" => self.endpoint("dst_endpoint.ip", "unmapped.dup.dst_endpoint.ip"),
            "DestinationPort" => self.endpoint("dst_endpoint.port", "unmapped.dup.dst_endpoint.port"),
            "DestinationHostname" => self.path("dst_endpoint.hostname"),
            "SourceIp" => self.endpoint("src_endpoint.ip", "unmapped.dup.src_endpoint.ip"),
            "SourcePort" => self.endpoint("src_endpoint.port", "unmapped.dup.src_endpoint.port"),
            "Protocol" => self.path("connection_info.protocol_name"),
            "Initiated" => {
                let outbound = self.value.get("connection_info")?.get("direction_id")?.as_u64()? == 2;
                Some(EventValue::Str(Cow::Borrowed(if outbound { "true" } else { "false" })))
            }
            "QueryName" => self.path("query.hostname"),
            "QueryResults" | "answer" => self.path("answers.rdata"),
            "record_type" => self.path("query.type"),
            path => self.path(path),
        }
    }

    fn path(&self, path: &str) -> Option<EventValue<'a>> {
        at(Some(self.value), path)
    }

    fn endpoint(&self, path: &str, duplicated: &str) -> Option<EventValue<'a>> {
        self.path(path).or_else(|| self.path(duplicated))
    }
}

fn at<'a>(value: Option<&'a Value>, path: &str) -> Option<EventValue<'a>> {
    descend(value?, path, PATH_DEPTH_MAX)
}

/// Follows a path. A list on the way stands for each of its elements.
fn descend<'a>(value: &'a Value, path: &str, depth: usize) -> Option<EventValue<'a>> {
    let depth = depth.checked_sub(1)?;
    match value {
        Value::Object(members) => match path.split_once('.') {
            Some((name, rest)) => descend(members.get(name)?, rest, depth),
            None => members.get(path).map(flat),
        },
        Value::Array(items) => {
            let found =
                items.iter().take(LIST_LENGTH_MAX).filter_map(|item| descend(item, path, depth)).collect::<Vec<_>>();
            (!found.is_empty()).then_some(EventValue::Array(found))
        }
        _ => None,
    }
}

/// A value as rules compare it: texts, numbers and lists of them. What is below an object is reached by its own path.
fn flat(value: &Value) -> EventValue<'_> {
    match value {
        Value::String(text) => EventValue::Str(Cow::Borrowed(text)),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => EventValue::Int(integer),
            None => EventValue::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::Bool(truth) => EventValue::Bool(*truth),
        Value::Null => EventValue::Null,
        Value::Array(items) => EventValue::Array(
            items.iter().take(LIST_LENGTH_MAX).filter(|item| !item.is_object() && !item.is_array()).map(flat).collect(),
        ),
        Value::Object(_) => EventValue::Map(Vec::new()),
    }
}

impl Fields for Event<'_> {
    fn get_field(&self, path: &str) -> Option<EventValue<'_>> {
        self.lookup(path)
    }

    fn any_string_value(&self, pred: &dyn Fn(&str) -> bool) -> bool {
        JsonEvent::borrow(self.value).any_string_value(pred)
    }

    fn all_string_values(&self) -> Vec<Cow<'_, str>> {
        let mut found = Vec::new();
        gather(self.value, &mut found, PATH_DEPTH_MAX);
        found
    }

    fn to_json(&self) -> Value {
        self.value.clone()
    }
}

fn gather<'a>(value: &'a Value, found: &mut Vec<Cow<'a, str>>, depth: usize) {
    let Some(depth) = depth.checked_sub(1) else { return };
    match value {
        Value::String(text) => found.push(Cow::Borrowed(text)),
        Value::Array(items) => items.iter().for_each(|item| gather(item, found, depth)),
        Value::Object(members) => members.values().for_each(|item| gather(item, found, depth)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::Event;
    use crate::category::Category;
    use serde_json::json;

    #[test]
    fn sigma_names_of_a_start_are_of_the_process_that_was_started() {
        let value = json!({
            "class_uid": 1007, "activity_id": 1,
            "process": { "pid": 7, "cmd_line": "bash -i", "file": { "path": "/usr/bin/bash" }, "user": { "name": "anna" },
                "parent_process": { "pid": 6, "file": { "path": "/usr/sbin/sshd" } } },
            "actor": { "process": { "pid": 5, "file": { "path": "/other" } } },
        });
        let event = Event::of(&value).unwrap();
        assert_eq!(event.categories(), [Category::ProcessCreation]);
        for (name, expected) in [
            ("Image", "/usr/bin/bash"),
            ("CommandLine", "bash -i"),
            ("User", "anna"),
            ("ProcessId", "7"),
            ("ParentImage", "/usr/sbin/sshd"),
            ("ParentProcessId", "6"),
            ("actor.process.file.path", "/other"),
        ] {
            assert_eq!(event.text(name).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(event.text("TargetImage"), None);
        assert_eq!(event.text("process.file"), None);
    }

    #[test]
    fn sigma_names_elsewhere_are_of_the_process_that_acts() {
        let value = json!({
            "class_uid": 1007, "activity_id": 4,
            "process": { "pid": 7, "file": { "path": "/usr/bin/victim" } },
            "actor": { "process": { "pid": 5, "file": { "path": "/tmp/x" }, "parent_process": { "file": { "path": "/p" } } } },
        });
        let event = Event::of(&value).unwrap();
        for (name, expected) in [
            ("Image", "/tmp/x"),
            ("SourceImage", "/tmp/x"),
            ("TargetImage", "/usr/bin/victim"),
            ("TargetProcessId", "7"),
            ("ParentImage", "/p"),
        ] {
            assert_eq!(event.text(name).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn a_file_that_was_renamed_is_known_by_its_new_name() {
        let value = json!({
            "class_uid": 1001, "activity_id": 5, "file": { "path": "/etc/passwd+" }, "file_result": { "path": "/etc/passwd" },
        });
        let event = Event::of(&value).unwrap();
        assert_eq!(event.text("TargetFilename").as_deref(), Some("/etc/passwd"));
        assert_eq!(event.text("SourceFilename").as_deref(), Some("/etc/passwd+"));
    }

    #[test]
    fn no_key_with_dots_shadows_a_path() {
        let value = json!({
            "class_uid": 1001, "activity_id": 1, "file.path": "/harmless", "file": { "path": "/etc/shadow" },
        });
        assert_eq!(Event::of(&value).unwrap().text("TargetFilename").as_deref(), Some("/etc/shadow"));
    }

    #[test]
    fn a_list_on_the_way_stands_for_its_elements() {
        let value = json!({
            "class_uid": 4003, "activity_id": 2, "answers": [{ "type": "A" }, { "rdata": "192.0.2.1" }, { "rdata": "192.0.2.2" }],
        });
        assert_eq!(Event::of(&value).unwrap().text("QueryResults").as_deref(), Some("192.0.2.1"));
    }

    #[test]
    fn what_has_no_class_is_no_event() {
        for value in [json!({}), json!([]), json!(null), json!("x"), json!({ "class_uid": "1007" })] {
            assert!(Event::of(&value).is_none(), "{value}");
        }
    }
}
