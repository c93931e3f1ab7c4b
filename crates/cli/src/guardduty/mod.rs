//! `inborn findings`, `inborn coverage` and `inborn events`: operations of GuardDuty, signed by the operator.

mod arguments;
mod coverage;
mod events;
mod findings;

use inborn_identity::UnixTime;
use serde_json::{Value, json};

use crate::operator::Operator;

pub(crate) use arguments::{COVERAGE_HELP, Coverage, EVENTS_HELP, Events, FINDINGS_HELP, Findings};
pub(crate) use coverage::coverage;
pub(crate) use events::events;
pub(crate) use findings::findings;

/// Entries of one call: the most there may be.
const PAGE: usize = 50;

/// A detector of the region, and who asks it.
struct Detector<'a> {
    operator: &'a Operator,
    id: String,
}

impl<'a> Detector<'a> {
    /// The detector of the operator's account, if it has one: it has from its first telemetry on.
    async fn find(operator: &'a Operator) -> anyhow::Result<Option<Self>> {
        let answer = operator.guardduty("GET", "/detector", None).await?;
        let first = answer.get("detectorIds").and_then(|ids| ids.get(0)?.as_str());
        Ok(first.map(|id| Self { operator, id: id.to_owned() }))
    }

    async fn post(&self, path: &str, input: &Value) -> anyhow::Result<Value> {
        self.operator.guardduty("POST", &format!("/detector/{}/{path}", self.id), Some(input)).await
    }

    /// The entries of a list, all pages of it.
    async fn all(&self, path: &str, name: &str, mut input: Value) -> anyhow::Result<Vec<Value>> {
        let mut all = Vec::new();
        loop {
            let mut answer = self.post(path, &input).await?;
            if let Some(Value::Array(mut page)) = answer.get_mut(name).map(Value::take) {
                all.append(&mut page);
            }
            match answer.get("nextToken").and_then(Value::as_str).filter(|token| !token.is_empty()) {
                Some(token) => {
                    if let Some(members) = input.as_object_mut() {
                        members.insert("nextToken".to_owned(), json!(token));
                    }
                }
                None => return Ok(all),
            }
        }
    }
}

/// A text at a place in an answer; a dash if there is none.
fn cell(value: &Value, place: &str) -> String {
    match value.pointer(place) {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
        _ => "-".to_owned(),
    }
}

/// A moment without its fraction, which is always nothing.
fn moment(text: &str) -> String {
    let moment = UnixTime::parse_rfc3339(text.as_bytes());
    moment.map_or_else(|_| text.to_owned(), UnixTime::rfc3339)
}
