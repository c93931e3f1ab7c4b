//! `ListInventoryEntries`: all of one type that is on one machine.

use inborn_store::{InventoryKind, InventoryQuery};
use inborn_wire::error::Problem;
use inborn_wire::json::Object;
use inborn_wire::success;
use serde_json::{Value, json};

use super::comparison::Comparison;
use super::get_inventory::comparison;
use super::page::Page;
use super::{inventory, refusal};
use crate::operation::{JsonCall, Outcome};

/// Most filters. Source: botocore's model.
const FILTERS_MAX: usize = 5;

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let id = call.parameters.require_text("InstanceId")?;
        let instance = inventory::node(&call, id).ok_or_else(|| refusal::not_registered(id))?;
        let type_name = call.parameters.require_text("TypeName")?;
        inventory::type_name(type_name)?;
        let page = Page::read(call.parameters, "entries")?;
        let filters = filters(call.parameters)?;
        let query = InventoryQuery {
            instance,
            kind: InventoryKind::Item,
            type_name: Some(type_name.to_owned()),
            with_content: true,
        };
        let mut output = json!({"TypeName": type_name, "InstanceId": instance.to_string(), "Entries": []});
        let records = call.region.store().inventory(query).await.map_err(inventory::of_store)?;
        if let (Some(record), Some(output)) = (records.into_iter().next(), output.as_object_mut()) {
            let Value::Array(mut entries) = inventory::from_json(&record.content)? else {
                return Err(Problem::Internal);
            };
            entries.retain(|entry| {
                filters.iter().all(|(attribute, comparison, values)| {
                    comparison.holds(entry.get(attribute).and_then(Value::as_str).into_iter(), values)
                })
            });
            let (entries, next) = page.of(entries);
            output.insert("SchemaVersion".to_owned(), record.schema_version.into());
            output.insert("CaptureTime".to_owned(), record.captured_at.into());
            output.insert("Entries".to_owned(), entries.into());
            output.extend(next.map(|next| ("NextToken".to_owned(), next.into())));
        }
        Ok(success::aws_json(call.request_id, &output).into())
    })
}

/// An attribute each, and what must be so of it.
fn filters(input: &Object) -> Result<Vec<(String, Comparison, Vec<String>)>, Problem> {
    let given = input.objects("Filters")?.unwrap_or_default();
    if given.len() > FILTERS_MAX {
        return Err(refusal::filter("there are too many of them"));
    }
    given
        .iter()
        .map(|filter| {
            let key = filter.require_text("Key")?;
            let (comparison, values) = comparison(filter, key)?;
            Ok((key.to_owned(), comparison, values))
        })
        .collect()
}
