//! `DescribeInstanceProperties`: the nodes with what EC2 knows of their machines.

use inborn_store::Node;
use inborn_wire::error::Problem;
use inborn_wire::json::Object;
use inborn_wire::{constraint, success};
use serde_json::{Map, Value, json};

use super::describe_instance_information::{entry, hear_of_named, page, read_token};
use super::node_filter::{Filter, Rules};
use super::refusal;
use crate::operation::{JsonCall, Outcome};
use crate::services::ARCHITECTURE;

/// Most nodes on a page. Source: botocore's model, `DescribeInstancePropertiesMaxResults`.
const PAGE_MAX: i64 = 1000;
/// As many there are if the caller does not say.
const PAGE_DEFAULT: usize = 50;

/// Source: botocore's model, `InstancePropertyFilterKey`; the filters with operators also take those of
/// `DescribeInstanceInformation`.
const RULES: Rules = Rules {
    keys: &[
        "ActivationIds",
        "AgentVersion",
        "AssociationStatus",
        "DocumentName",
        "IamRole",
        "InstanceIds",
        "PingStatus",
        "PlatformType",
        "PlatformTypes",
        "ResourceType",
        "SourceIds",
        "SourceTypes",
    ],
    filters_max: 40,
    values_max: 40,
    refuse_value: refusal::property_filter_value,
};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let filters = filters(call.parameters)?;
        let limit = match call.parameters.integer("MaxResults")? {
            Some(most) => {
                constraint::range("MaxResults", most, 5..=PAGE_MAX)?;
                usize::try_from(most).unwrap_or(PAGE_DEFAULT)
            }
            None => PAGE_DEFAULT,
        };
        let after = call.parameters.text("NextToken")?.map(read_token).transpose()?;
        hear_of_named(&call, &filters).await?;
        let (list, next) = page(&call, &filters, after, limit, properties).await;
        let mut output = json!({"InstanceProperties": list});
        if let (Some(next), Some(output)) = (next, output.as_object_mut()) {
            output.insert("NextToken".to_owned(), next.into());
        }
        Ok(success::aws_json(call.request_id, &output).into())
    })
}

/// A node and its machine. What a machine has not is blank, as the model says.
fn properties(call: &JsonCall<'_>, node: &Node) -> Option<Map<String, Value>> {
    let machine = call.machine(node.instance)?;
    let mut entry = entry(call, node)?;
    let name = machine.tags.get("Name").cloned().unwrap_or_default();
    for (member, value) in [
        ("Name", name.into()),
        ("InstanceType", machine.instance_type.clone().into()),
        ("InstanceRole", "".into()),
        ("KeyName", machine.key_name.clone().unwrap_or_default().into()),
        ("InstanceState", machine.state.as_str().into()),
        ("Architecture", ARCHITECTURE.into()),
        // Here it is the public one, and machines have none.
        ("IPAddress", "".into()),
        ("LaunchTime", machine.launch_time.as_secs().into()),
        ("AvailabilityZone", machine.zone.to_string().into()),
    ] {
        entry.insert(member.to_owned(), value);
    }
    Some(entry)
}

fn filters(input: &Object) -> Result<Vec<Filter>, Problem> {
    let mut filters = Vec::new();
    for filter in input.objects("FiltersWithOperator")?.unwrap_or_default() {
        let values = filter.texts("Values")?.unwrap_or_default();
        let operator = filter.text("Operator")?.unwrap_or("Equal");
        filters.push(Filter::read(&RULES, filter.require_text("Key")?, operator, &values)?);
    }
    for filter in input.objects("InstancePropertyFilterList")?.unwrap_or_default() {
        let values = filter.texts("valueSet")?.unwrap_or_default();
        filters.push(Filter::read(&RULES, filter.require_text("key")?, "Equal", &values)?);
    }
    if filters.len() > RULES.filters_max {
        return Err(refusal::property_filter_value(format!("A request has at most {} filters.", RULES.filters_max)));
    }
    Ok(filters)
}
