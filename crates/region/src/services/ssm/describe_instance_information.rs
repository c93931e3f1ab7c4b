//! `DescribeInstanceInformation`: the nodes, as operators look for them.

use inborn_identity::InstanceId;
use inborn_store::{InstanceState, Node};
use inborn_wire::error::Problem;
use inborn_wire::json::Object;
use inborn_wire::{constraint, success};
use serde_json::{Map, Value, json};

use super::refusal;
use crate::RegionServer;
use crate::nodes::ONLINE_SECONDS;
use crate::operation::{JsonCall, Outcome};

/// Most nodes on a page, and as many as there are if the caller does not say. Source: botocore's model, `MaxResultsEC2Compatible`.
const PAGE_MAX: usize = 50;
/// Most filters of a call, and most values of one. Source: the same.
const FILTERS_MAX: usize = 40;
const VALUES_MAX: usize = 100;

/// Filters as `Filters` names them; the older list says `PlatformTypes`.
const KEYS: [&str; 13] = [
    "ActivationIds",
    "AgentVersion",
    "AssociationStatus",
    "IamRole",
    "InstanceIds",
    "PingStatus",
    "PlatformType",
    "PlatformTypes",
    "ResourceType",
    "SourceIds",
    "SourceTypes",
    "tag-key",
    "tag:",
];

struct Filter {
    key: String,
    values: Vec<String>,
}

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let filters = filters(call.parameters)?;
        let limit = match call.parameters.integer("MaxResults")? {
            Some(most) => {
                constraint::range("MaxResults", most, 5..=50)?;
                usize::try_from(most).unwrap_or(PAGE_MAX)
            }
            None => PAGE_MAX,
        };
        let after = call.parameters.text("NextToken")?.map(read_token).transpose()?;
        let nodes = call.region.nodes().after(after).into_iter();
        let mut shown = nodes.filter_map(|node| {
            let entry = entry(&call, &node)?;
            filters.iter().all(|filter| filter.matches(&call, &node, &entry)).then_some((node.instance, entry))
        });
        let page: Vec<(InstanceId, Map<String, Value>)> = shown.by_ref().take(limit).collect();
        let next = shown.next().and_then(|_| page.last()).map(|(last, _)| write_token(*last));
        let list: Vec<Value> = page.into_iter().map(|(_, entry)| Value::Object(entry)).collect();
        let mut output = json!({"InstanceInformationList": list});
        if let (Some(next), Some(output)) = (next, output.as_object_mut()) {
            output.insert("NextToken".to_owned(), next.into());
        }
        Ok(success::aws_json(call.request_id, &output).into())
    })
}

/// A node as AWS shows it; `None` if its machine is gone.
fn entry(call: &JsonCall<'_>, node: &Node) -> Option<Map<String, Value>> {
    let machine = call.region.machines().get(node.instance)?;
    let is_heard =
        call.now.since(node.pinged_at) <= ONLINE_SECONDS || call.region.channels().is_connected(node.instance);
    let is_online = machine.state == InstanceState::Running && is_heard;
    let mut entry = Map::new();
    let mut put = |name: &str, value: Value| entry.insert(name.to_owned(), value);
    put("InstanceId", node.instance.to_string().into());
    put("PingStatus", if is_online { "Online" } else { "ConnectionLost" }.into());
    put("LastPingDateTime", node.pinged_at.as_secs().into());
    put("IsLatestVersion", false.into());
    put("ResourceType", "EC2Instance".into());
    put("SourceId", node.instance.to_string().into());
    put("SourceType", "AWS::EC2::Instance".into());
    for name in ["AgentVersion", "PlatformType", "PlatformName", "PlatformVersion", "IPAddress", "ComputerName"] {
        let fact = node.fact(name);
        if !fact.is_empty() {
            put(name, fact.into());
        }
    }
    if let Some(role) = passed(call.region, node.instance) {
        put("IamRole", role.into());
    }
    Some(entry)
}

/// The role that the machine was passed, as AWS's model says of machines that host management set up.
fn passed(region: &RegionServer, instance: InstanceId) -> Option<String> {
    let value = region.host_management().setting().value.clone()?;
    region.agents().since(instance).map(|_| value)
}

fn filters(input: &Object) -> Result<Vec<Filter>, Problem> {
    let new = input.objects("Filters")?;
    let old = input.objects("InstanceInformationFilterList")?;
    let mut filters = Vec::new();
    for (list, key, values) in [(new, "Key", "Values"), (old, "key", "valueSet")] {
        for filter in list.unwrap_or_default() {
            filters.push(Filter::read(filter.require_text(key)?, filter.texts(values)?.unwrap_or_default())?);
        }
    }
    if filters.len() > FILTERS_MAX {
        return Err(refusal::filter_value(format!("A request has at most {FILTERS_MAX} filters.")));
    }
    Ok(filters)
}

impl Filter {
    fn read(key: &str, values: Vec<&str>) -> Result<Self, Problem> {
        let is_tag = key.strip_prefix("tag:").is_some_and(|rest| !rest.is_empty());
        if !is_tag && (key == "tag:" || !KEYS.contains(&key)) {
            return Err(refusal::filter_key(key));
        }
        if values.is_empty() || values.len() > VALUES_MAX || values.iter().any(|value| value.is_empty()) {
            return Err(refusal::filter_value(format!(
                "A filter has 1 to {VALUES_MAX} values, and none of them is empty."
            )));
        }
        if matches!(key, "InstanceIds" | "SourceIds") {
            for value in &values {
                value.parse::<InstanceId>().map_err(|_| refusal::not_registered(value))?;
            }
        }
        if key == "PingStatus" && values.iter().any(|value| !matches!(*value, "Online" | "ConnectionLost" | "Inactive"))
        {
            return Err(refusal::filter_value("PingStatus is Online, ConnectionLost or Inactive.".to_owned()));
        }
        Ok(Self { key: key.to_owned(), values: values.into_iter().map(str::to_owned).collect() })
    }

    fn matches(&self, call: &JsonCall<'_>, node: &Node, entry: &Map<String, Value>) -> bool {
        let is_one = |text: &str| self.values.iter().any(|value| value == text);
        let shows = |name: &str| entry.get(name).and_then(Value::as_str).is_some_and(is_one);
        let machine = || call.region.machines().get(node.instance);
        match self.key.as_str() {
            "AgentVersion" => shows("AgentVersion"),
            "IamRole" => shows("IamRole"),
            "InstanceIds" => shows("InstanceId"),
            "PingStatus" => shows("PingStatus"),
            "PlatformType" | "PlatformTypes" => shows("PlatformType"),
            "ResourceType" => shows("ResourceType"),
            "SourceIds" => shows("SourceId"),
            "SourceTypes" => shows("SourceType"),
            "tag-key" => machine().is_some_and(|machine| machine.tags.keys().any(|key| is_one(key))),
            key => match key.strip_prefix("tag:") {
                Some(tag) => machine().is_some_and(|machine| machine.tags.get(tag).is_some_and(|value| is_one(value))),
                // Activations and associations: no node has one.
                None => false,
            },
        }
    }
}

/// A page's token is the id it continues after: nothing to keep, nothing to leak that the caller has not seen.
fn write_token(after: InstanceId) -> String {
    format!("nodes-1-{after}")
}

fn read_token(token: &str) -> Result<InstanceId, Problem> {
    token.strip_prefix("nodes-1-").and_then(|id| id.parse().ok()).ok_or_else(refusal::next_token)
}
