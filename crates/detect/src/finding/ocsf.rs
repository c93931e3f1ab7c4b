//! A finding as an event of OCSF 1.3: Detection Finding.
//!
//! Source: OCSF schema 1.3, `events/findings/detection_finding.json`, `objects/finding_info.json`.

use super::{Action, Finding, ProcessDetails, Recorded, cut};
use inborn_identity::UnixTime;
use serde_json::{Map, Value, json};

const CLASS_UID: u32 = 2004;
const CATEGORY_UID: u32 = 2;
const VERSION: &str = "1.3.0";

impl Finding {
    /// Detection Finding, 2004: Create for the first occurrence, Update for later ones, Close for one that was put away.
    #[must_use]
    pub fn to_ocsf(&self, recorded: &Recorded) -> Value {
        let (activity_id, activity_name, status_id, status) = match recorded {
            Recorded { archived: true, .. } => (3, "Close", 3, "Suppressed"),
            Recorded { first: true, .. } => (1, "Create", 1, "New"),
            Recorded { .. } => (2, "Update", 1, "New"),
        };
        let (severity_id, severity) = self.severity.ocsf();
        let mut event = json!({
            "activity_id": activity_id,
            "activity_name": activity_name,
            "category_name": "Findings",
            "category_uid": CATEGORY_UID,
            "class_name": "Detection Finding",
            "class_uid": CLASS_UID,
            "type_name": format!("Detection Finding: {activity_name}"),
            "type_uid": CLASS_UID * 100 + activity_id,
            "severity_id": severity_id,
            "severity": severity,
            "status_id": status_id,
            "status": status,
            "time": milliseconds(recorded.updated_at),
            "start_time": milliseconds(self.first_seen),
            "end_time": milliseconds(self.last_seen),
            "count": self.count,
            "message": cut(&self.title),
            "metadata": {
                "version": VERSION,
                "product": { "name": "Inborn", "vendor_name": "Inborn", "feature": { "name": "Detection" } },
                "profiles": ["cloud"],
                "uid": format!("{}/{}", recorded.id, self.count),
            },
            "cloud": {
                "provider": "Inborn",
                "region": self.region.as_str(),
                "account": { "uid": self.account.to_string() },
            },
            "finding_info": self.finding_info(recorded),
        });
        let Some(members) = event.as_object_mut() else { return event };
        if let Some(instance) = &self.resource.instance {
            let mut resource = json!({ "uid": instance.instance.to_string(), "type": "Instance" });
            if let (Some(key), Some(members)) = (&self.resource.access_key, resource.as_object_mut()) {
                members.insert("data".to_owned(), json!({ "access_key_id": key.access_key_id }));
            }
            members.insert("resources".to_owned(), json!([resource]));
        }
        let evidence = self.evidence();
        if !evidence.is_empty() {
            members.insert("evidences".to_owned(), json!([evidence]));
        }
        event
    }

    fn finding_info(&self, recorded: &Recorded) -> Value {
        let mut info = json!({
            "uid": &*recorded.id,
            "title": cut(&self.title),
            "desc": cut(&self.description),
            "types": [self.kind.as_str()],
            "created_time": milliseconds(recorded.created_at),
            "modified_time": milliseconds(recorded.updated_at),
            "first_seen_time": milliseconds(self.first_seen),
            "last_seen_time": milliseconds(self.last_seen),
        });
        if let (Some(rule), Some(members)) = (&self.rule, info.as_object_mut()) {
            let (uid, name) = (cut(&rule.id), cut(&rule.title));
            members.insert("analytic".to_owned(), json!({ "uid": uid, "name": name, "type": "Rule", "type_id": 1 }));
        }
        info
    }

    fn evidence(&self) -> Map<String, Value> {
        let mut evidence = Map::new();
        if let Some(process) = self.runtime.as_ref().and_then(|runtime| runtime.process.as_ref()) {
            evidence.insert("process".to_owned(), process_object(process));
        }
        if let Some(context) = self.runtime.as_ref().and_then(|runtime| runtime.context.as_ref()) {
            evidence.insert("data".to_owned(), serde_json::to_value(context).unwrap_or_default());
        }
        match &self.action {
            Some(Action::AwsApiCall(call)) => {
                let api = json!({ "operation": cut(&call.api), "service": { "name": cut(&call.service) } });
                evidence.insert("api".to_owned(), api);
                evidence.insert("src_endpoint".to_owned(), json!({ "ip": call.remote.0.to_string() }));
            }
            Some(Action::DnsRequest(request)) => {
                evidence.insert("query".to_owned(), json!({ "hostname": cut(&request.domain) }));
            }
            Some(Action::NetworkConnection(connection)) => {
                for (name, (address, port)) in [("src_endpoint", connection.local), ("dst_endpoint", connection.remote)]
                {
                    let mut endpoint = Map::new();
                    if let Some(address) = address {
                        endpoint.insert("ip".to_owned(), Value::from(address.0.to_string()));
                    }
                    if let Some(port) = port {
                        endpoint.insert("port".to_owned(), Value::from(port.0));
                    }
                    if !endpoint.is_empty() {
                        evidence.insert(name.to_owned(), Value::Object(endpoint));
                    }
                }
            }
            None => {}
        }
        evidence
    }
}

fn process_object(process: &ProcessDetails) -> Value {
    let mut object = Map::new();
    if let Some(pid) = process.pid {
        object.insert("pid".to_owned(), Value::from(pid));
    }
    if let Some(name) = &process.name {
        object.insert("name".to_owned(), Value::from(cut(name)));
    }
    if let Some(path) = &process.executable_path {
        let name = path.rsplit('/').next().unwrap_or(path);
        object.insert("file".to_owned(), json!({ "path": cut(path), "name": cut(name), "type_id": 1 }));
    }
    if process.user.is_some() || process.user_id.is_some() {
        let mut user = Map::new();
        if let Some(name) = &process.user {
            user.insert("name".to_owned(), Value::from(cut(name)));
        }
        if let Some(id) = process.user_id {
            user.insert("uid".to_owned(), Value::from(id.to_string()));
        }
        object.insert("user".to_owned(), Value::Object(user));
    }
    if let Some(started) = process.start_time {
        object.insert("created_time".to_owned(), Value::from(started.saturating_mul(1000)));
    }
    Value::Object(object)
}

fn milliseconds(time: UnixTime) -> u64 {
    time.as_secs().saturating_mul(1000)
}
