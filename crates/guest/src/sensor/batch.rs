//! Events that are sent together, and how they are written: OTLP's JSON, a log record for each, with the OCSF object as its body.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

/// Events of one batch.
pub const BATCH_EVENTS_MAX: usize = 500;
/// Bytes of one batch before it is compressed; the last event may go over it.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Who sends, as OTLP's resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Resource {
    pub(crate) instance: String,
    pub(crate) region: String,
    pub(crate) hostname: Option<String>,
}

impl Resource {
    fn json(&self) -> Value {
        let mut attributes = vec![
            ("service.name", "inborn-sensor"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("host.id", &self.instance),
            ("cloud.region", &self.region),
        ];
        attributes.extend(self.hostname.as_deref().map(|name| ("host.name", name)));
        let attributes: Vec<Value> =
            attributes.iter().map(|(key, value)| json!({ "key": key, "value": { "stringValue": value } })).collect();
        json!({ "attributes": attributes })
    }

    /// That this sensor is there, and nothing else.
    pub(crate) fn heartbeat(&self) -> io::Result<Vec<u8>> {
        gzip(json!({ "resourceLogs": [{ "resource": self.json(), "scopeLogs": [] }] }).to_string().as_bytes())
    }

    /// The body of a request with these events.
    pub(crate) fn body(&self, lines: &[String]) -> io::Result<Vec<u8>> {
        let records: Vec<Value> = lines.iter().map(|line| json!({ "body": { "stringValue": line } })).collect();
        let scope = json!({ "scope": { "name": "inborn.sensor" }, "logRecords": records });
        gzip(json!({ "resourceLogs": [{ "resource": self.json(), "scopeLogs": [scope] }] }).to_string().as_bytes())
    }
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Events in the order in which they were seen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Batch {
    lines: Vec<String>,
    bytes: usize,
}

impl Batch {
    pub(crate) fn push(&mut self, line: String) {
        self.bytes = self.bytes.saturating_add(line.len());
        self.lines.push(line);
    }

    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }

    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether nothing more should come in.
    pub(crate) fn is_full(&self) -> bool {
        self.lines.len() >= BATCH_EVENTS_MAX || self.bytes >= BATCH_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;

    #[test]
    fn events_and_bytes_below_at_and_above_the_limit() {
        for (count, full) in [(BATCH_EVENTS_MAX - 1, false), (BATCH_EVENTS_MAX, true), (BATCH_EVENTS_MAX + 1, true)] {
            let mut batch = Batch::default();
            (0..count).for_each(|_| batch.push("{}".into()));
            assert_eq!((batch.is_full(), batch.len()), (full, count));
        }
        for (bytes, full) in [(BATCH_BYTES_MAX - 1, false), (BATCH_BYTES_MAX, true), (BATCH_BYTES_MAX + 1, true)] {
            let mut batch = Batch::default();
            batch.push("x".repeat(bytes));
            assert_eq!(batch.is_full(), full);
        }
    }

    #[test]
    fn bodies() {
        let resource = Resource { instance: "i-1".into(), region: "us-east-1".into(), hostname: Some("web".into()) };
        let read = |body: Vec<u8>| -> Value { serde_json::from_reader(GzDecoder::new(body.as_slice())).unwrap() };
        let body = read(resource.body(&[r#"{"time":1}"#.into()]).unwrap());
        let logs = &body["resourceLogs"][0];
        assert_eq!(logs["scopeLogs"][0]["logRecords"][0]["body"]["stringValue"], r#"{"time":1}"#);
        let has = |key: &str, value: &str| {
            let wanted = json!({ "key": key, "value": { "stringValue": value } });
            logs["resource"]["attributes"].as_array().unwrap().contains(&wanted)
        };
        assert!(has("service.name", "inborn-sensor") && has("host.id", "i-1") && has("host.name", "web"));
        assert!(has("service.version", env!("CARGO_PKG_VERSION")));
        let heartbeat = read(resource.heartbeat().unwrap());
        assert_eq!(heartbeat["resourceLogs"][0]["scopeLogs"], json!([]));
        assert_eq!(heartbeat["resourceLogs"][0]["resource"], logs["resource"]);
    }
}
