//! `inborn nodes`: the machines whose agents have spoken. Operations of Systems Manager, signed by the operator.

use std::io::Write;

use inborn_identity::UnixTime;
use serde_json::{Map, Value, json};

use super::arguments::{Forget, Nodes, NodesCommand};
use crate::arguments::Output;
use crate::operator::Operator;
use crate::output;

/// Nodes of one call: the most there may be.
const PAGE: u32 = 1000;

pub(crate) async fn nodes(arguments: &Nodes) -> anyhow::Result<()> {
    match &arguments.command {
        Some(NodesCommand::Forget(arguments)) => forget(arguments).await,
        None => list(arguments).await,
    }
}

async fn list(arguments: &Nodes) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let (mut all, mut question) = (Vec::new(), json!({ "MaxResults": PAGE }));
    loop {
        let mut answer = operator.ssm("DescribeInstanceProperties", &question).await?;
        if let Some(Value::Array(page)) = answer.get_mut("InstanceProperties").map(Value::take) {
            all.extend(page.iter().map(shown));
        }
        match answer.get("NextToken") {
            Some(token) if token.is_string() => question = json!({ "MaxResults": PAGE, "NextToken": token }),
            _ => break,
        }
    }
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Json => {
            writeln!(out, "{:#}", output::Json(&Value::Array(all.into_iter().map(Value::Object).collect())))?
        }
        Output::Table if all.is_empty() => writeln!(out, "no nodes: no agent of a machine has been heard")?,
        Output::Table => {
            let rows: Vec<_> = all.iter().map(row).collect();
            let heading = ["INSTANCE", "STATUS", "LAST PING", "AGENT", "PLATFORM", "ROLE", "NAME"];
            output::table(&mut out, heading, &rows)?;
        }
    }
    Ok(())
}

async fn forget(arguments: &Forget) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let machine = operator.machine(&arguments.machine).await?;
    operator.ssm("DeregisterManagedInstance", &json!({ "InstanceId": machine.id })).await.map(drop)
}

/// What `--output json` tells of a node; a member that is not known is null.
fn shown(node: &Value) -> Map<String, Value> {
    let text = |name: &str| node.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let pinged = node.get("LastPingDateTime").and_then(Value::as_u64).map(|at| UnixTime::from_secs(at).rfc3339());
    let mut facts = Map::new();
    for (name, value) in [
        ("instance_id", json!(text("InstanceId"))),
        ("name", json!(text("Name"))),
        ("state", json!(text("InstanceState"))),
        ("ping_status", json!(text("PingStatus"))),
        ("last_ping", json!(pinged)),
        ("agent_version", json!(text("AgentVersion"))),
        ("platform_type", json!(text("PlatformType"))),
        ("platform_name", json!(text("PlatformName"))),
        ("platform_version", json!(text("PlatformVersion"))),
        ("computer_name", json!(text("ComputerName"))),
        ("role", json!(text("IamRole"))),
    ] {
        facts.insert(name.to_owned(), value);
    }
    facts
}

fn row(node: &Map<String, Value>) -> [String; 7] {
    let text = |name: &str| node.get(name).and_then(Value::as_str);
    let cell = |name: &str| text(name).unwrap_or("-").to_owned();
    let platform = match (text("platform_name"), text("platform_version")) {
        (Some(name), Some(version)) => format!("{name} {version}"),
        _ => cell("platform_type"),
    };
    let name = text("name").unwrap_or_default().to_owned();
    // The path of a role says nothing here.
    let role = cell("role").rsplit('/').next().unwrap_or("-").to_owned();
    [cell("instance_id"), cell("ping_status"), cell("last_ping"), cell("agent_version"), platform, role, name]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_which_little_is_known_has_all_its_columns() {
        let node = json!({"InstanceId": "i-1", "PingStatus": "Online", "Name": "", "LastPingDateTime": 1_800_000_000});
        assert_eq!(row(&shown(&node)), ["i-1", "Online", "2027-01-15T08:00:00Z", "-", "-", "-", ""]);
        let node = json!({
            "InstanceId": "i-1", "PingStatus": "ConnectionLost", "Name": "web", "AgentVersion": "3.3.0.0",
            "PlatformType": "Linux", "PlatformName": "Debian GNU/Linux", "PlatformVersion": "12", "IamRole": "fleet/R",
        });
        let expected = ["i-1", "ConnectionLost", "-", "3.3.0.0", "Debian GNU/Linux 12", "R", "web"];
        assert_eq!(row(&shown(&node)), expected);
    }
}
