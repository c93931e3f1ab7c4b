//! The filters of the operations that list nodes.

use inborn_identity::InstanceId;
use inborn_store::Node;
use inborn_wire::error::Problem;
use serde_json::{Map, Value};

use super::comparison::Comparison;
use super::refusal;
use crate::operation::JsonCall;

/// What an operation takes for a filter.
pub(super) struct Rules {
    /// Its keys, besides `tag-key` and `tag:KEY`.
    pub(super) keys: &'static [&'static str],
    /// Most filters of a call, and most values of one.
    pub(super) filters_max: usize,
    pub(super) values_max: usize,
    /// How it refuses a value.
    pub(super) refuse_value: fn(String) -> Problem,
}

/// One filter.
pub(super) struct Filter {
    key: String,
    comparison: Comparison,
    values: Vec<String>,
}

impl Filter {
    /// Reads one; `operator` is `Equal` where the operation knows no others.
    pub(super) fn read(rules: &Rules, key: &str, operator: &str, values: &[&str]) -> Result<Self, Problem> {
        let is_tag = key == "tag-key" || key.strip_prefix("tag:").is_some_and(|rest| !rest.is_empty());
        if !is_tag && !rules.keys.contains(&key) {
            return Err(refusal::filter_key(key));
        }
        if !(1..=rules.values_max).contains(&values.len()) || values.iter().any(|value| value.is_empty()) {
            let message = format!("A filter has 1 to {} values, and none of them is empty.", rules.values_max);
            return Err((rules.refuse_value)(message));
        }
        let comparison = Comparison::parse(operator)
            .ok_or_else(|| (rules.refuse_value)("The operator of a filter is not known.".to_owned()))?;
        if matches!(key, "InstanceIds" | "SourceIds") && comparison == Comparison::Equal {
            for value in values {
                value.parse::<InstanceId>().map_err(|_| refusal::not_registered(value))?;
            }
        }
        let is_status = |value: &&str| matches!(*value, "Online" | "ConnectionLost" | "Inactive");
        if key == "PingStatus" && comparison == Comparison::Equal && !values.iter().all(is_status) {
            return Err((rules.refuse_value)("PingStatus is Online, ConnectionLost or Inactive.".to_owned()));
        }
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Ok(Self { key: key.to_owned(), comparison, values })
    }

    /// The machines that it names.
    pub(super) fn named(&self) -> impl Iterator<Item = InstanceId> {
        let is_by_id = matches!(self.key.as_str(), "InstanceIds" | "SourceIds") && self.comparison == Comparison::Equal;
        self.values.iter().filter(move |_| is_by_id).filter_map(|value| value.parse().ok())
    }

    /// Whether it asks for nodes by whether their agents spoke lately.
    pub(super) fn is_about_status(&self) -> bool {
        self.key == "PingStatus"
    }

    /// Whether a node that is shown so is asked for.
    pub(super) fn matches(&self, call: &JsonCall<'_>, node: &Node, entry: &Map<String, Value>) -> bool {
        let shown =
            |name: &str| self.comparison.holds(entry.get(name).and_then(Value::as_str).into_iter(), &self.values);
        let machine = call.machine(node.instance);
        let tags = machine.as_deref().map(|machine| &machine.tags);
        match self.key.as_str() {
            "InstanceIds" => shown("InstanceId"),
            "PlatformTypes" => shown("PlatformType"),
            "SourceIds" => shown("SourceId"),
            "SourceTypes" => shown("SourceType"),
            "tag-key" => {
                let keys = tags.into_iter().flat_map(|tags| tags.keys()).map(String::as_str);
                self.comparison.holds(keys, &self.values)
            }
            // No node was activated, and nothing is associated with any.
            "ActivationIds" | "AssociationStatus" | "DocumentName" => {
                self.comparison.holds(core::iter::empty(), &self.values)
            }
            key => match key.strip_prefix("tag:") {
                Some(tag) => {
                    let value = tags.and_then(|tags| tags.get(tag)).map(String::as_str);
                    self.comparison.holds(value.into_iter(), &self.values)
                }
                None => shown(key),
            },
        }
    }
}
