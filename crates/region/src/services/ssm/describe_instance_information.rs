//! `DescribeInstanceInformation`: the nodes, as operators look for them.

use inborn_identity::InstanceId;
use inborn_store::{InstanceState, Node};
use inborn_wire::error::Problem;
use inborn_wire::json::Object;
use inborn_wire::{constraint, success};
use serde_json::{Map, Value, json};

use super::node_filter::{Filter, Rules};
use super::refusal;
use crate::nodes::ONLINE_SECONDS;
use crate::operation::{JsonCall, Outcome};

/// Most nodes on a page, and as many as there are if the caller does not say. Source: botocore's model, `MaxResultsEC2Compatible`.
const PAGE_MAX: usize = 50;
/// How many nodes are looked at together, and so read together from the store.
const READ_AT_ONCE: usize = 200;
/// Filters as `Filters` names them; the older list says `PlatformTypes`. Limits from the same source.
const RULES: Rules = Rules {
    keys: &[
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
    ],
    filters_max: 40,
    values_max: 100,
    refuse_value: refusal::filter_value,
};

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
        hear_of_named(&call, &filters).await?;
        let (list, next) = page(&call, &filters, after, limit, entry).await;
        let mut output = json!({"InstanceInformationList": list});
        if let (Some(next), Some(output)) = (next, output.as_object_mut()) {
            output.insert("NextToken".to_owned(), next.into());
        }
        Ok(success::aws_json(call.request_id, &output).into())
    })
}

/// A node that is asked for by its id, and is not known here, may have spoken at another server for the first time a moment ago.
pub(super) async fn hear_of_named(call: &JsonCall<'_>, filters: &[Filter]) -> Result<(), Problem> {
    let is_known = |id| call.machine(id).is_some() && call.region.nodes().get(id).is_some();
    call.region.hear_of_missing(|| !filters.iter().flat_map(Filter::named).all(is_known)).await
}

/// The nodes behind this one that are asked for, as `show` has them, and the token of the next page if there is one.
pub(super) async fn page(
    call: &JsonCall<'_>,
    filters: &[Filter],
    after: Option<InstanceId>,
    limit: usize,
    show: fn(&JsonCall<'_>, &Node) -> Option<Map<String, Value>>,
) -> (Vec<Value>, Option<String>) {
    let is_asked = |node: &Node, entry: &Map<String, Value>, is_fresh: bool| {
        let mut filters = filters.iter().filter(|filter| is_fresh || !filter.is_about_status());
        filters.all(|filter| filter.matches(call, node, entry))
    };
    let (mut list, mut last) = (Vec::new(), None);
    for nodes in call.nodes(after).chunks(READ_AT_ONCE) {
        let mut nodes = nodes.to_vec();
        if call.region.fleet().is_some() {
            // When agents spoke last may be known to other servers alone. Where the store is away it is shown as it was heard.
            nodes.retain(|node| show(call, node).is_some_and(|entry| is_asked(node, &entry, false)));
            if let Err(error) = call.region.nodes().refresh(&nodes, call.now).await {
                tracing::debug!(%error, "nodes are shown as they were");
            }
        }
        for node in nodes {
            let node = call.region.nodes().get(node.instance).unwrap_or(node);
            let Some(entry) = show(call, &node).filter(|entry| is_asked(&node, entry, true)) else { continue };
            if list.len() == limit {
                return (list, last.map(write_token));
            }
            list.push(Value::Object(entry));
            last = Some(node.instance);
        }
    }
    (list, None)
}

/// A node as AWS shows it; `None` if its machine is gone.
pub(super) fn entry(call: &JsonCall<'_>, node: &Node) -> Option<Map<String, Value>> {
    let machine = call.machine(node.instance)?;
    let role = passed(call, node.instance);
    // What was said before this boot, or by an agent that may no longer speak, says nothing about now.
    let is_heard =
        role.is_some() && node.pinged_at >= machine.launch_time && call.now.since(node.pinged_at) <= ONLINE_SECONDS;
    let is_online =
        machine.state == InstanceState::Running && (is_heard || call.region.channels().is_connected(node.instance));
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
    if let Some(role) = role {
        put("IamRole", role.into());
    }
    Some(entry)
}

/// The role that the machine was passed, as AWS's model says of machines that host management set up.
fn passed(call: &JsonCall<'_>, instance: InstanceId) -> Option<String> {
    let value = call.region.host_management().of(call.account()).setting().value.clone()?;
    call.region.agents().since(instance).map(|_| value)
}

fn filters(input: &Object) -> Result<Vec<Filter>, Problem> {
    let new = input.objects("Filters")?;
    let old = input.objects("InstanceInformationFilterList")?;
    let mut filters = Vec::new();
    for (list, key, values) in [(new, "Key", "Values"), (old, "key", "valueSet")] {
        for filter in list.unwrap_or_default() {
            let values = filter.texts(values)?.unwrap_or_default();
            filters.push(Filter::read(&RULES, filter.require_text(key)?, "Equal", &values)?);
        }
    }
    if filters.len() > RULES.filters_max {
        return Err(refusal::filter_value(format!("A request has at most {} filters.", RULES.filters_max)));
    }
    Ok(filters)
}

/// A page's token is the id it continues after: nothing to keep, nothing to leak that the caller has not seen.
pub(super) fn write_token(after: InstanceId) -> String {
    format!("nodes-1-{after}")
}

pub(super) fn read_token(token: &str) -> Result<InstanceId, Problem> {
    token.strip_prefix("nodes-1-").and_then(|id| id.parse().ok()).ok_or_else(refusal::next_token)
}
