//! `PutInventory`: what is on a machine, as its agent or an operator collected it.

use std::collections::HashSet;

use inborn_store::{InventoryChange, InventoryKind, InventoryQuery, InventoryRecord};
use inborn_wire::error::Problem;
use inborn_wire::json::Object;
use inborn_wire::{constraint, success};
use serde_json::json;

use super::{inventory, refusal};
use crate::operation::{JsonCall, Outcome};

/// Longest hash. Source: botocore's model.
const HASH_MAX: usize = 256;
/// The one type whose items say more than what was found.
const WITH_CONTEXT: &str = "AWS:ComplianceItem";

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let instance = inventory::subject(&call, "PutInventory", "InstanceId", refusal::not_registered)?;
        let items = call.parameters.objects("Items")?.unwrap_or_default();
        if !(1..=InventoryChange::RECORDS_MAX).contains(&items.len()) {
            let message = format!("A call has 1 to {} items.", InventoryChange::RECORDS_MAX);
            return Err(Problem::Validation { message });
        }
        let mut change = InventoryChange { instance, records: Vec::new(), unchanged: Vec::new() };
        let mut seen = HashSet::new();
        for item in &items {
            let (record, has_content) = read(&call, item)?;
            if !seen.insert(record.type_name.clone()) {
                return Err(refusal::item_content(&record.type_name, "it comes more than once"));
            }
            if has_content { change.records.push(record) } else { change.unchanged.push(record) }
        }
        let bytes: usize = change.records.iter().map(|record| record.content.len() + record.context.len()).sum();
        if bytes > inventory::CALL_BYTES_MAX {
            return Err(refusal::total_size());
        }
        leave_what_is_the_same(&call, &mut change).await?;
        call.region.store().put_inventory(change).await.map_err(inventory::of_store)?;
        Ok(success::aws_json(call.request_id, &json!({})).into())
    })
}

/// An item, and whether it has content: agents leave that out when its hash is the one they sent before.
fn read(call: &JsonCall<'_>, item: &Object) -> Result<(InventoryRecord, bool), Problem> {
    let name = item.require_text("TypeName")?;
    inventory::type_name(name)?;
    let version = item.require_text("SchemaVersion")?;
    if !is_version(version) {
        return Err(constraint::pattern("SchemaVersion", version, r"^([0-9]{1,6})(\.[0-9]{1,6})$"));
    }
    let captured = item.require_text("CaptureTime")?;
    if !is_time(captured) {
        return Err(constraint::pattern("CaptureTime", captured, "^(20)YY-MM-DD(T)HH:MM:SS(Z)$"));
    }
    let hash = item.text("ContentHash")?.unwrap_or_default();
    constraint::length("ContentHash", hash, 0..=HASH_MAX)?;
    let context = item.object("Context")?;
    if context.is_some() && name != WITH_CONTEXT {
        return Err(refusal::item_context(name));
    }
    if let Some(context) = &context {
        inventory::attributes(name, context.members())?;
    }
    let content = item.objects("Content")?;
    let entries = content.as_deref().unwrap_or_default();
    inventory::entries(name, entries)?;
    let record = InventoryRecord {
        kind: InventoryKind::Item,
        type_name: name.to_owned(),
        schema_version: version.to_owned(),
        captured_at: captured.to_owned(),
        content_hash: hash.to_owned(),
        context: context.map_or_else(|| "{}".to_owned(), |context| json!(context.members()).to_string()),
        content: inventory::as_json(entries),
        received_at: call.now,
    };
    if name.starts_with(inventory::CUSTOM) && record.content.len() > inventory::CUSTOM_TYPE_BYTES_MAX {
        return Err(refusal::item_size(name));
    }
    Ok((record, content.is_some()))
}

/// "The PutInventory API doesn't update the inventory item type contents if the MD5 hash hasn't changed since last update." And
/// new types of the caller's own are counted.
async fn leave_what_is_the_same(call: &JsonCall<'_>, change: &mut InventoryChange) -> Result<(), Problem> {
    let query =
        InventoryQuery { instance: change.instance, kind: InventoryKind::Item, type_name: None, with_content: false };
    let known = call.region.store().inventory(query).await.map_err(inventory::of_store)?;
    let is_same = |record: &InventoryRecord| {
        let same =
            |found: &&InventoryRecord| found.type_name == record.type_name && found.content_hash == record.content_hash;
        !record.content_hash.is_empty() && known.iter().any(|found| same(&found))
    };
    let (same, new): (Vec<_>, Vec<_>) = change.records.drain(..).partition(is_same);
    change.records = new;
    change.unchanged.extend(same);
    let custom = known.iter().chain(&change.records).map(|record| record.type_name.as_str());
    let custom: HashSet<&str> = custom.filter(|name| name.starts_with(inventory::CUSTOM)).collect();
    if custom.len() > inventory::CUSTOM_TYPES_MAX { Err(refusal::custom_types()) } else { Ok(()) }
}

/// `NUMBER.NUMBER`, of one to six digits each.
fn is_version(text: &str) -> bool {
    let is_number = |part: &str| (1..=6).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.').is_some_and(|(major, minor)| is_number(major) && is_number(minor))
}

/// `20YY-MM-DDTHH:MM:SSZ`, as far as the pattern goes: it knows nothing of the length of months.
fn is_time(text: &str) -> bool {
    let form = "dddd-dd-ddTdd:dd:ddZ";
    let fits = text.len() == form.len()
        && text
            .bytes()
            .zip(form.bytes())
            .all(|(byte, form)| if form == b'd' { byte.is_ascii_digit() } else { byte == form });
    let part = |range: core::ops::Range<usize>| text.get(range).and_then(|digits| digits.parse::<u8>().ok());
    fits && text.starts_with("20")
        && part(5..7).is_some_and(|month| (1..=12).contains(&month))
        && part(8..10).is_some_and(|day| (1..=31).contains(&day))
        && part(11..13).is_some_and(|hour| hour < 24)
        && part(14..16).is_some_and(|minute| minute < 60)
        && part(17..19).is_some_and(|second| second < 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_times() {
        for (text, is_good) in [
            ("1.0", true),
            ("123456.123456", true),
            ("1234567.0", false),
            ("1", false),
            ("1.", false),
            ("1.0.0", false),
        ] {
            assert_eq!(is_version(text), is_good, "{text}");
        }
        for (text, is_good) in [
            ("2026-11-26T23:59:59Z", true),
            ("2026-02-31T00:00:00Z", true),
            ("2026-13-01T00:00:00Z", false),
            ("2026-00-01T00:00:00Z", false),
            ("2026-01-32T00:00:00Z", false),
            ("2026-01-01T24:00:00Z", false),
            ("2026-01-01T00:60:00Z", false),
            ("2026-01-01T00:00:60Z", false),
            ("1999-01-01T00:00:00Z", false),
            ("2026-01-01T00:00:00+00:00", false),
            ("2026-01-01T00:00:0éZ", false),
            ("", false),
        ] {
            assert_eq!(is_time(text), is_good, "{text}");
        }
    }
}
