//! `inborn launch`: a machine with a metadata endpoint of its own.

use std::io::Write;

use inborn_host::control::ControlClient;
use serde_json::json;

use crate::arguments::{Launch, Output};
use crate::attach;
use crate::directory::Ready;
use crate::operator::Operator;
use crate::output;

pub(crate) async fn launch(arguments: &Launch) -> anyhow::Result<()> {
    let place = attach::place(&arguments.place)?;
    let operator = Operator::find(&arguments.region).await?;
    let ready = operator.ready();
    let instance = operator.launch(&arguments.machine, false).await?;
    let wanted = attach::Wanted { place, once: arguments.place.once, mac: arguments.place.mac, port: None };
    let kind = match attach::request(&ControlClient::new(&ready.data), instance, wanted).await {
        Ok(kind) => kind,
        Err(error) => {
            // A machine that nobody can ask is of no use, and nobody knows of it.
            operator.change("TerminateInstances", &[instance.to_string()]).await?;
            return Err(error.into());
        }
    };
    let metadata = kind.endpoint();
    let id = instance.to_string();
    let mut out = std::io::stdout().lock();
    if arguments.export {
        return Ok(export(&mut out, ready, &id, &metadata)?);
    }
    match arguments.output {
        Output::Json => {
            let facts = json!({
                "instance_id": id,
                "name": arguments.machine.name,
                "metadata_endpoint": metadata,
                "endpoint": ready.endpoint,
                "region": ready.region,
            });
            writeln!(out, "{:#}", output::Json(&facts))?;
        }
        Output::Table => {
            let name = arguments.machine.name.as_deref().unwrap_or("-");
            output::fields(&mut out, &[("instance", &id), ("name", name), ("metadata", &metadata)])?;
        }
    }
    Ok(())
}

/// Lines for a shell. Nothing in them needs quoting: ids, region names and addresses.
fn export(out: &mut impl Write, ready: &Ready, id: &str, metadata: &str) -> std::io::Result<()> {
    writeln!(out, "export INSTANCE_ID={id}")?;
    writeln!(out, "export AWS_EC2_METADATA_SERVICE_ENDPOINT={metadata}")?;
    writeln!(out, "export AWS_ENDPOINT_URL={}", ready.endpoint)?;
    writeln!(out, "export AWS_REGION={}", ready.region)?;
    // What version 1 of the AWS CLI and boto3 read.
    writeln!(out, "export AWS_DEFAULT_REGION={}", ready.region)
}
