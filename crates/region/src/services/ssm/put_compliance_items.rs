//! `PutComplianceItems`: how far a machine complies, as its agent or an operator found out.

use std::collections::HashSet;

use inborn_store::{InventoryChange, InventoryKind, InventoryQuery, InventoryRecord};
use inborn_wire::error::Problem;
use inborn_wire::json::Object;
use inborn_wire::{constraint, success};
use serde_json::{Value, json};

use super::{inventory, refusal};
use crate::operation::{JsonCall, Outcome};

/// The one type of resource that there is. Source: the API reference, `ResourceType`.
pub(super) const RESOURCE_TYPE: &str = "ManagedInstance";
const SEVERITIES: [&str; 6] = ["CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", "UNSPECIFIED"];
const STATUSES: [&str; 2] = ["COMPLIANT", "NON_COMPLIANT"];
/// Lengths. Source: botocore's model.
const TYPE_MAX: usize = 100;
const TITLE_MAX: usize = 500;
const EXECUTION_ID_MAX: usize = 100;
const EXECUTION_TYPE_MAX: usize = 50;
const HASH_MAX: usize = 256;
/// Longest `Id`, of which the model says nothing.
const ID_MAX: usize = 500;

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        if call.parameters.require_text("ResourceType")? != RESOURCE_TYPE {
            return Err(refusal::resource_type());
        }
        let instance = inventory::subject(&call, "PutComplianceItems", "ResourceId", |_| refusal::resource_id())?;
        let record = read(&call)?;
        let query = InventoryQuery { instance, kind: InventoryKind::Compliance, type_name: None, with_content: false };
        let known = call.region.store().inventory(query).await.map_err(inventory::of_store)?;
        let found = known.iter().find(|found| found.type_name == record.type_name);
        if found.is_some_and(|found| !found.content_hash.is_empty() && found.content_hash == record.content_hash) {
            // "If the content hashes match, the request to put compliance information is ignored."
            return Ok(success::aws_json(call.request_id, &json!({})).into());
        }
        let custom = known.iter().chain([&record]).map(|record| record.type_name.as_str());
        let custom: HashSet<&str> = custom.filter(|name| name.starts_with(inventory::CUSTOM)).collect();
        if custom.len() > inventory::CUSTOM_COMPLIANCE_TYPES_MAX {
            return Err(refusal::compliance_types());
        }
        let change = InventoryChange { instance, records: vec![record], unchanged: Vec::new() };
        call.region.store().put_inventory(change).await.map_err(inventory::of_store)?;
        Ok(success::aws_json(call.request_id, &json!({})).into())
    })
}

fn read(call: &JsonCall<'_>) -> Result<InventoryRecord, Problem> {
    let input = call.parameters;
    let name = input.require_text("ComplianceType")?;
    constraint::length("ComplianceType", name, 1..=TYPE_MAX)?;
    if !is_type(name) {
        let pattern = r"^([A-Za-z0-9_\-]\w+|Custom:[a-zA-Z0-9_\-]\w+)$";
        return Err(constraint::pattern("ComplianceType", name, pattern));
    }
    match input.text("UploadType")? {
        None | Some("COMPLETE") => {}
        Some("PARTIAL") => return Err(refusal::item_content(name, "parts of associations are not served here")),
        Some(other) => constraint::one_of("UploadType", other, &["COMPLETE", "PARTIAL"])?,
    }
    let summary = input.object("ExecutionSummary")?.ok_or_else(|| Problem::Validation {
        message:
            "1 validation error detected: Value null at 'executionSummary' failed to satisfy constraint: Member must \
                  not be null"
                .to_owned(),
    })?;
    let hash = input.text("ItemContentHash")?.unwrap_or_default();
    constraint::length("ItemContentHash", hash, 0..=HASH_MAX)?;
    let items = input.objects("Items")?.unwrap_or_default();
    if items.len() > inventory::ENTRIES_MAX {
        return Err(refusal::item_content(name, &format!("it has more than {} items", inventory::ENTRIES_MAX)));
    }
    items.iter().try_for_each(|one| check_item(name, one))?;
    let (captured_at, context) = execution(&summary)?;
    let content = inventory::as_json(&items);
    if content.len() > inventory::CALL_BYTES_MAX {
        return Err(refusal::total_size());
    }
    Ok(InventoryRecord {
        kind: InventoryKind::Compliance,
        type_name: name.to_owned(),
        schema_version: "1.0".to_owned(),
        captured_at,
        content_hash: hash.to_owned(),
        context,
        content,
        received_at: call.now,
    })
}

/// When it was found out, and all there is to say of that, as JSON.
fn execution(summary: &Object) -> Result<(String, String), Problem> {
    let time = summary.members().get("ExecutionTime").and_then(Value::as_f64).filter(|time| time.is_finite());
    let time = time.ok_or_else(|| Problem::Validation {
        message: "ExecutionTime is a number of seconds since 1970.".to_owned(),
    })?;
    let mut told = json!({"ExecutionTime": time});
    for (name, most) in [("ExecutionId", EXECUTION_ID_MAX), ("ExecutionType", EXECUTION_TYPE_MAX)] {
        if let (Some(text), Some(told)) = (summary.text(name)?, told.as_object_mut()) {
            constraint::length(name, text, 0..=most)?;
            told.insert(name.to_owned(), text.into());
        }
    }
    Ok((time.to_string(), told.to_string()))
}

fn check_item(of: &str, item: &Object) -> Result<(), Problem> {
    constraint::one_of("Severity", item.require_text("Severity")?, &SEVERITIES)?;
    constraint::one_of("Status", item.require_text("Status")?, &STATUSES)?;
    constraint::length("Id", item.text("Id")?.unwrap_or_default(), 0..=ID_MAX)?;
    constraint::length("Title", item.text("Title")?.unwrap_or_default(), 0..=TITLE_MAX)?;
    if let Some(details) = item.object("Details")? {
        inventory::attributes(of, details.members())?;
    }
    let known = ["Id", "Title", "Severity", "Status", "Details"];
    match item.members().keys().find(|name| !known.contains(&name.as_str())) {
        Some(_) => Err(refusal::item_content(of, "an item has a member that is not known")),
        None => Ok(()),
    }
}

fn is_type(name: &str) -> bool {
    let name = name.strip_prefix(inventory::CUSTOM).unwrap_or(name);
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut characters = name.chars();
    let begins_well = characters.next().is_some_and(|first| is_word(first) || first == '-');
    let rest = characters.as_str();
    begins_well && !rest.is_empty() && rest.chars().all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_compliance() {
        for (name, is_good) in [
            ("Patch", true),
            ("Association", true),
            ("Custom:Virus", true),
            ("-a", true),
            ("a", false),
            ("Custom:", false),
            ("Custom:a", false),
            ("Custom:a-b", false),
            ("a b", false),
            ("", false),
        ] {
            assert_eq!(is_type(name), is_good, "{name}");
        }
    }
}
