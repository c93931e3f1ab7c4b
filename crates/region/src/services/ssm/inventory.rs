//! What the operations about inventory have in common: whose it is, what a type is called, and the limits.
//!
//! Limits that the models do not state are those of the Systems Manager quotas in AWS's General Reference.

use inborn_identity::InstanceId;
use inborn_store::{Conflict, InstanceState, StoreError};
use inborn_wire::constraint;
use inborn_wire::error::Problem;
use inborn_wire::json::Object;
use serde_json::{Map, Value};

use super::{agent, refusal};
use crate::operation::JsonCall;

/// Most bytes of inventory in one call: "1 MB per instance per call".
pub(super) const CALL_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of a type of the caller's own.
pub(super) const CUSTOM_TYPE_BYTES_MAX: usize = 200 * 1024;
/// Most types of the caller's own, of inventory and of compliance. AWS counts those of the account, we those of the machine.
pub(super) const CUSTOM_TYPES_MAX: usize = 20;
pub(super) const CUSTOM_COMPLIANCE_TYPES_MAX: usize = 10;
/// Most entries of a type, most attributes of an entry, and how long those are. Source: botocore's model.
pub(super) const ENTRIES_MAX: usize = 10_000;
const ATTRIBUTES_MAX: usize = 50;
const ATTRIBUTE_NAME_MAX: usize = 64;
const ATTRIBUTE_VALUE_MAX: usize = 4096;
/// Longest name of a type. Source: the same.
const TYPE_NAME_MAX: usize = 100;
/// What types of the caller's own begin with.
pub(super) const CUSTOM: &str = "Custom:";
/// The types that AWS knows. Source: the user guide, "Metadata collected by inventory", and what agents report of patches and
/// associations.
const AWS_TYPES: [&str; 17] = [
    "AWS:AWSComponent",
    "AWS:Application",
    "AWS:BillingInfo",
    "AWS:ComplianceItem",
    "AWS:ComplianceSummary",
    "AWS:File",
    "AWS:InstanceDetailedInformation",
    "AWS:InstanceInformation",
    "AWS:Network",
    "AWS:PatchCompliance",
    "AWS:PatchSummary",
    "AWS:ResourceGroup",
    "AWS:Service",
    "AWS:Tag",
    "AWS:WindowsRegistry",
    "AWS:WindowsRole",
    "AWS:WindowsUpdate",
];

/// The machine that `member` names: an agent's own, or for an operator one whose agent has been heard.
pub(super) fn subject(
    call: &JsonCall<'_>,
    operation: &str,
    member: &str,
    absent: fn(&str) -> Problem,
) -> Result<InstanceId, Problem> {
    if call.caller.principal.instance().is_some() {
        return agent::own_target(call, "ssm", operation, member);
    }
    node(call, call.parameters.require_text(member)?).ok_or_else(|| absent(member_text(call, member)))
}

fn member_text<'a>(call: &'a JsonCall<'_>, member: &str) -> &'a str {
    call.parameters.text(member).ok().flatten().unwrap_or_default()
}

/// The living machine of this id in the caller's account, if its agent has been heard.
pub(super) fn node(call: &JsonCall<'_>, id: &str) -> Option<InstanceId> {
    let instance: InstanceId = id.parse().ok()?;
    let machine = call.machine(instance)?;
    call.region.nodes().get(instance)?;
    (machine.state != InstanceState::Terminated).then_some(instance)
}

/// A type's name: one that AWS knows, or one of the caller's own.
pub(super) fn type_name(name: &str) -> Result<(), Problem> {
    constraint::length("TypeName", name, 1..=TYPE_NAME_MAX)?;
    if !name.starts_with("AWS:") && !name.starts_with(CUSTOM) {
        return Err(constraint::pattern("TypeName", name, "^(AWS|Custom):.*$"));
    }
    if AWS_TYPES.contains(&name) || name.len() > CUSTOM.len() && name.starts_with(CUSTOM) {
        return Ok(());
    }
    Err(refusal::type_name(name))
}

/// Entries are flat: attributes and their values, all of them texts.
pub(super) fn entries(of: &str, entries: &[Object]) -> Result<(), Problem> {
    if entries.len() > ENTRIES_MAX {
        return Err(refusal::item_content(of, &format!("it has more than {ENTRIES_MAX} entries")));
    }
    entries.iter().try_for_each(|entry| attributes(of, entry.members()))
}

/// See [`entries`].
pub(super) fn attributes(of: &str, attributes: &Map<String, Value>) -> Result<(), Problem> {
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(refusal::item_content(of, &format!("an entry has more than {ATTRIBUTES_MAX} attributes")));
    }
    for (name, value) in attributes {
        let Some(value) = value.as_str() else {
            return Err(refusal::item_content(of, "the value of an attribute is no text"));
        };
        constraint::length("AttributeName", name, 1..=ATTRIBUTE_NAME_MAX)?;
        constraint::length("AttributeValue", value, 0..=ATTRIBUTE_VALUE_MAX)?;
    }
    Ok(())
}

/// Objects of a call as JSON.
pub(super) fn as_json(objects: &[Object]) -> String {
    Value::Array(objects.iter().map(|object| Value::Object(object.members().clone())).collect()).to_string()
}

/// What was stored as JSON.
pub(super) fn from_json(text: &str) -> Result<Value, Problem> {
    serde_json::from_str(text).map_err(|error| {
        tracing::error!(%error, "stored inventory cannot be read");
        Problem::Internal
    })
}

/// A store's refusal of inventory.
pub(super) fn of_store(error: StoreError) -> Problem {
    match error {
        StoreError::Conflict(Conflict::ContentAbsent(of)) => refusal::content_mismatch(&of),
        StoreError::Conflict(Conflict::InventoryFull(_)) => refusal::total_size(),
        error => refusal::of_store(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_aws_s_or_the_callers_own() {
        for (name, is_good) in [
            ("AWS:Application", true),
            ("Custom:Rack", true),
            ("Custom:", false),
            ("AWS:Rack", false),
            ("Rack", false),
            ("", false),
            (&format!("Custom:{}", "r".repeat(93)), true),
            (&format!("Custom:{}", "r".repeat(94)), false),
        ] {
            assert_eq!(type_name(name).is_ok(), is_good, "{name}");
        }
    }

    #[test]
    fn entries_below_at_and_above_their_limits() {
        let object = |text: String| inborn_wire::json::decode(text.as_bytes()).unwrap();
        let many = |count: usize| {
            let members: Vec<String> = (0..count).map(|number| format!(r#""a{number}":"""#)).collect();
            object(format!("{{{}}}", members.join(",")))
        };
        for (count, fits) in [(0, true), (49, true), (50, true), (51, false)] {
            assert_eq!(entries("AWS:File", &[many(count)]).is_ok(), fits, "{count} attributes");
        }
        for (count, fits) in [(9_999, true), (10_000, true), (10_001, false)] {
            assert_eq!(entries("AWS:File", &vec![many(1); count]).is_ok(), fits, "{count} entries");
        }
        for (name, value, fits) in [(63, 4095, true), (64, 4096, true), (65, 0, false), (1, 4097, false), (0, 1, false)]
        {
            let entry = object(format!(r#"{{"{}":"{}"}}"#, "n".repeat(name), "v".repeat(value)));
            assert_eq!(entries("AWS:File", &[entry]).is_ok(), fits, "{name} {value}");
        }
        assert!(entries("AWS:File", &[object(r#"{"a":1}"#.to_owned())]).is_err());
    }
}
