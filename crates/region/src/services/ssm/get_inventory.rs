//! `GetInventory`: what is on the machines, one type of it, for those that filters let through.

use inborn_identity::InstanceId;
use inborn_store::{InstanceState, InventoryKind, InventoryQuery, Node};
use inborn_wire::error::Problem;
use inborn_wire::json::Object;
use inborn_wire::{constraint, success};
use serde_json::{Map, Value, json};

use super::comparison::Comparison;
use super::describe_instance_information::{entry, read_token, write_token};
use super::{inventory, refusal};
use crate::operation::{JsonCall, Outcome};

/// Most machines on a page, and as many as there are if the caller does not say. Source: botocore's model, `MaxResults`.
const PAGE_MAX: usize = 50;
/// Most bytes on a page: a machine may have a megabyte of one type. A page has at least one machine.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most machines that one call looks at, found or not. A page may be shorter for it, and say that there is more.
const EXAMINED_MAX: usize = 500;
/// Most filters, and most values of one. Source: botocore's model.
const FILTERS_MAX: usize = 5;
pub(super) const VALUES_MAX: usize = 40;
/// Longest key of a filter. Source: the same.
const KEY_MAX: usize = 200;
/// What every node has, whether it was collected or not: what its agent says of itself.
const INSTANCE_INFORMATION: &str = "AWS:InstanceInformation";

/// What must be so of an attribute of a type.
struct Filter {
    type_name: String,
    attribute: String,
    comparison: Comparison,
    values: Vec<String>,
}

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = call.parameters;
        if input.objects("Aggregators")?.is_some() {
            return Err(refusal::aggregator());
        }
        let wanted = wanted(input)?;
        let filters = filters(input)?;
        let limit = match input.integer("MaxResults")? {
            Some(most) => {
                constraint::range("MaxResults", most, 1..=50)?;
                usize::try_from(most).unwrap_or(PAGE_MAX)
            }
            None => PAGE_MAX,
        };
        let after = input.text("NextToken")?.map(read_token).transpose()?;
        let nodes = call.nodes(after);
        let (mut entities, mut bytes, mut last) = (Vec::new(), 0, None);
        for node in nodes.iter().take(EXAMINED_MAX) {
            if entities.len() == limit || bytes >= PAGE_BYTES_MAX {
                break;
            }
            last = Some(node.instance);
            if let Some((found, size)) = found(&call, node, &wanted, &filters).await? {
                bytes += size;
                entities.push(json!({"Id": node.instance.to_string(), "Data": {&wanted: found}}));
            }
        }
        let mut output = json!({"Entities": entities});
        let is_more = nodes.last().map(|node| node.instance) > last;
        if let (true, Some(last), Some(output)) = (is_more, last, output.as_object_mut()) {
            output.insert("NextToken".to_owned(), write_token(last).into());
        }
        Ok(success::aws_json(call.request_id, &output).into())
    })
}

/// The one type that is asked for.
fn wanted(input: &Object) -> Result<String, Problem> {
    let attributes = input.objects("ResultAttributes")?.unwrap_or_default();
    match attributes.as_slice() {
        [] => Ok(INSTANCE_INFORMATION.to_owned()),
        [one] => {
            let name = one.require_text("TypeName")?;
            inventory::type_name(name)?;
            Ok(name.to_owned())
        }
        _ => Err(refusal::result_attribute()),
    }
}

fn filters(input: &Object) -> Result<Vec<Filter>, Problem> {
    let given = input.objects("Filters")?.unwrap_or_default();
    if given.len() > FILTERS_MAX {
        return Err(refusal::filter("there are too many of them"));
    }
    given
        .iter()
        .map(|filter| {
            let key = filter.require_text("Key")?;
            constraint::length("Key", key, 1..=KEY_MAX)?;
            let (type_name, attribute) = key.rsplit_once('.').ok_or_else(|| refusal::filter(key))?;
            inventory::type_name(type_name).map_err(|_| refusal::filter(key))?;
            let (comparison, values) = comparison(filter, key)?;
            Ok(Filter { type_name: type_name.to_owned(), attribute: attribute.to_owned(), comparison, values })
        })
        .collect()
}

/// How a filter compares. `Exists` is for aggregations alone.
pub(super) fn comparison(filter: &Object, key: &str) -> Result<(Comparison, Vec<String>), Problem> {
    let name = filter.text("Type")?.unwrap_or("Equal");
    let comparison = Comparison::parse(name).ok_or_else(|| refusal::filter(key))?;
    let values = filter.texts("Values")?.unwrap_or_default();
    if !(1..=VALUES_MAX).contains(&values.len()) {
        return Err(refusal::filter(key));
    }
    Ok((comparison, values.into_iter().map(str::to_owned).collect()))
}

/// What a node has of a type, and how large that is; `None` if it has nothing, or a filter is in the way.
async fn found(
    call: &JsonCall<'_>,
    node: &Node,
    wanted: &str,
    filters: &[Filter],
) -> Result<Option<(Value, usize)>, Problem> {
    for filter in filters {
        let item = item(call, node, &filter.type_name).await?;
        let entries = item.as_ref().and_then(|(item, _)| item.get("Content")).and_then(Value::as_array);
        let values = entries.into_iter().flatten().filter_map(|entry| entry.get(&filter.attribute)?.as_str());
        if !filter.comparison.holds(values, &filter.values) {
            return Ok(None);
        }
    }
    item(call, node, wanted).await
}

/// One type of what a node has, and how large that is.
async fn item(call: &JsonCall<'_>, node: &Node, type_name: &str) -> Result<Option<(Value, usize)>, Problem> {
    let Some(shown) = entry(call, node) else { return Ok(None) };
    let collected = collected(call, node.instance, type_name).await?;
    if type_name != INSTANCE_INFORMATION {
        return Ok(collected);
    }
    let told = information(call, node, &shown);
    // What was collected adds to what is known.
    let more = collected.as_ref().and_then(|(item, _)| item.pointer("/Content/0")).and_then(Value::as_object);
    let mut all = more.cloned().unwrap_or_default();
    all.extend(told);
    let item = json!({
        "TypeName": type_name,
        "SchemaVersion": "1.0",
        "CaptureTime": node.pinged_at.rfc3339(),
        "Content": [all],
    });
    let bytes = item.to_string().len();
    Ok(Some((item, bytes)))
}

async fn collected(
    call: &JsonCall<'_>,
    instance: InstanceId,
    type_name: &str,
) -> Result<Option<(Value, usize)>, Problem> {
    let query = InventoryQuery {
        instance,
        kind: InventoryKind::Item,
        type_name: Some(type_name.to_owned()),
        with_content: true,
    };
    let records = call.region.store().inventory(query).await.map_err(inventory::of_store)?;
    let Some(record) = records.into_iter().next() else { return Ok(None) };
    let mut item = json!({
        "TypeName": record.type_name,
        "SchemaVersion": record.schema_version,
        "CaptureTime": record.captured_at,
        "Content": inventory::from_json(&record.content)?,
    });
    if let (false, Some(item)) = (record.content_hash.is_empty(), item.as_object_mut()) {
        item.insert("ContentHash".to_owned(), record.content_hash.into());
    }
    Ok(Some((item, record.content.len())))
}

/// What every node says of itself, under the names that inventory has for it.
fn information(call: &JsonCall<'_>, node: &Node, shown: &Map<String, Value>) -> Map<String, Value> {
    let text = |name: &str| shown.get(name).and_then(Value::as_str).unwrap_or_default();
    let state = call.machine(node.instance).map(|machine| machine.state);
    let status = match state {
        Some(InstanceState::Stopped) => "Stopped",
        Some(InstanceState::Terminated) => "Terminated",
        _ if text("PingStatus") == "Online" => "Active",
        _ => "ConnectionLost",
    };
    let mut told = Map::new();
    for (name, value) in [
        ("AgentType", node.fact("AgentName")),
        ("AgentVersion", text("AgentVersion")),
        ("ComputerName", text("ComputerName")),
        ("InstanceId", text("InstanceId")),
        ("InstanceStatus", status),
        ("IpAddress", text("IPAddress")),
        ("PlatformName", text("PlatformName")),
        ("PlatformType", text("PlatformType")),
        ("PlatformVersion", text("PlatformVersion")),
        ("ResourceType", text("ResourceType")),
    ] {
        if !value.is_empty() {
            told.insert(name.to_owned(), value.into());
        }
    }
    told
}
