//! `inborn coverage`: which machines send telemetry.

use std::collections::HashMap;
use std::io::Write;

use inborn_identity::UnixTime;
use serde_json::{Value, json};

use super::{Coverage, Detector, PAGE, cell};
use crate::arguments::Output;
use crate::operator::Operator;
use crate::output;

pub(crate) async fn coverage(arguments: &Coverage) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let resources = match Detector::find(&operator).await? {
        Some(detector) => detector.all("coverage", "resources", json!({ "maxResults": PAGE })).await?,
        None => Vec::new(),
    };
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Json => writeln!(out, "{:#}", output::Json(&Value::Array(resources)))?,
        Output::Table if resources.is_empty() => {
            writeln!(out, "no coverage: no machine has sent telemetry")?;
        }
        Output::Table => {
            let machines = operator.machines(&[]).await?;
            let names: HashMap<&str, &str> = machines.iter().map(|one| (one.id.as_str(), one.name.as_str())).collect();
            let rows: Vec<_> = resources.iter().map(|resource| row(resource, &names)).collect();
            output::table(&mut out, ["INSTANCE", "STATUS", "UPDATED", "AGENT", "ISSUE", "NAME"], &rows)?;
        }
    }
    Ok(())
}

fn row(resource: &Value, names: &HashMap<&str, &str>) -> [String; 6] {
    let id = cell(resource, "/resourceId");
    let updated = resource.get("updatedAt").and_then(Value::as_u64).map(|at| UnixTime::from_secs(at).rfc3339());
    let name = names.get(id.as_str()).map_or_else(String::new, |name| (*name).to_owned());
    let agent = cell(resource, "/resourceDetails/ec2InstanceDetails/agentDetails/version");
    let (status, issue) = (cell(resource, "/coverageStatus"), cell(resource, "/issue"));
    [id, status, updated.unwrap_or_else(|| "-".to_owned()), agent, issue, name]
}
