//! `ListComplianceItems`: how far one machine complies.

use inborn_store::{InventoryKind, InventoryQuery};
use inborn_wire::error::Problem;
use inborn_wire::json::Object;
use inborn_wire::success;
use serde_json::{Map, Value, json};

use super::comparison::Comparison;
use super::page::Page;
use super::put_compliance_items::RESOURCE_TYPE;
use super::{inventory, refusal};
use crate::operation::{JsonCall, Outcome};

/// Of AWS's filters those whose members an item has.
const KEYS: [&str; 6] = ["ComplianceType", "ExecutionType", "Id", "Severity", "Status", "Title"];
/// Most values of a filter. Source: botocore's model.
const VALUES_MAX: usize = 20;
/// Most filters, of which the model says nothing.
const FILTERS_MAX: usize = 10;

struct Filter {
    key: String,
    comparison: Comparison,
    values: Vec<String>,
}

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let page = Page::read(call.parameters, "compliance")?;
        let types = call.parameters.texts("ResourceTypes")?.unwrap_or_default();
        if types.iter().any(|one| *one != RESOURCE_TYPE) {
            return Err(refusal::resource_type());
        }
        let ids = call.parameters.texts("ResourceIds")?.unwrap_or_default();
        // "Currently, you can only specify one resource ID."
        let [id] = ids.as_slice() else { return Err(refusal::resource_id()) };
        let instance = inventory::node(&call, id).ok_or_else(refusal::resource_id)?;
        let given = call.parameters.objects("Filters")?.unwrap_or_default();
        let filters = given.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if filters.len() > FILTERS_MAX {
            return Err(refusal::filter("there are too many of them"));
        }
        let query = InventoryQuery { instance, kind: InventoryKind::Compliance, type_name: None, with_content: true };
        let mut items = Vec::new();
        for record in call.region.store().inventory(query).await.map_err(inventory::of_store)? {
            let summary = inventory::from_json(&record.context)?;
            let Value::Array(list) = inventory::from_json(&record.content)? else { continue };
            for item in list {
                let Value::Object(mut item) = item else { continue };
                item.insert("ComplianceType".to_owned(), record.type_name.clone().into());
                item.insert("ResourceType".to_owned(), RESOURCE_TYPE.into());
                item.insert("ResourceId".to_owned(), instance.to_string().into());
                item.insert("ExecutionSummary".to_owned(), summary.clone());
                if filters.iter().all(|filter| filter.matches(&item)) {
                    items.push(Value::Object(item));
                }
            }
        }
        let (items, next) = page.of(items);
        let mut output = json!({"ComplianceItems": items});
        if let (Some(next), Some(output)) = (next, output.as_object_mut()) {
            output.insert("NextToken".to_owned(), next.into());
        }
        Ok(success::aws_json(call.request_id, &output).into())
    })
}

fn read(filter: &Object) -> Result<Filter, Problem> {
    let key = filter.require_text("Key")?;
    let values = filter.texts("Values")?.unwrap_or_default();
    let comparison = Comparison::parse(filter.text("Type")?.unwrap_or("EQUAL"));
    match comparison {
        Some(comparison) if KEYS.contains(&key) && (1..=VALUES_MAX).contains(&values.len()) => {
            let values = values.into_iter().map(str::to_owned).collect();
            Ok(Filter { key: key.to_owned(), comparison, values })
        }
        _ => Err(refusal::filter(key)),
    }
}

impl Filter {
    fn matches(&self, item: &Map<String, Value>) -> bool {
        let holder = match self.key.as_str() {
            "ExecutionType" => item.get("ExecutionSummary").and_then(Value::as_object),
            _ => Some(item),
        };
        let found = holder.and_then(|holder| holder.get(&self.key)).and_then(Value::as_str);
        self.comparison.holds(found.into_iter(), &self.values)
    }
}
