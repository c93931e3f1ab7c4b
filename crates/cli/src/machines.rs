//! The commands that look at machines and change them: all of them EC2 operations, signed by the operator.

use std::io::Write;

use inborn_host::control::{AttachmentKind, ControlClient};
use serde_json::{Value, json};

use crate::arguments::{Describe, Output, Ps, Targets};
use crate::operator::{Machine, Operator};
use crate::output;

pub(crate) async fn ps(arguments: &Ps) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let mut machines = operator.machines(&[]).await?;
    machines.retain(|machine| arguments.all || machine.state != "terminated");
    machines.sort_by(|a, b| (&b.launched, &a.name, &a.id).cmp(&(&a.launched, &b.name, &b.id)));
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Json => writeln!(out, "{:#}", Value::Array(machines.iter().map(Machine::to_json).collect()))?,
        Output::Table if machines.is_empty() => writeln!(out, "no machines: `inborn launch` makes one")?,
        Output::Table => {
            let row = |machine: &Machine| {
                [machine.id.clone(), machine.state.clone(), machine.launched.clone(), machine.name.clone()]
            };
            let rows: Vec<_> = machines.iter().map(row).collect();
            // The name last: it may be as long as a tag.
            output::table(&mut out, ["INSTANCE", "STATE", "LAUNCHED", "NAME"], &rows)?;
        }
    }
    Ok(())
}

pub(crate) async fn describe(arguments: &Describe) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let machine = operator.machine(&arguments.machine).await?;
    let attachments = ControlClient::new(&operator.ready().data).attachments().await?;
    let attachment = attachments.into_iter().find(|attachment| attachment.instance.to_string() == machine.id);
    let (endpoint, strength) = match attachment.map(|attachment| attachment.kind) {
        None => (None, "not attached: nobody can ask in its name"),
        Some(AttachmentKind::Loopback { port }) => {
            (Some(format!("http://127.0.0.1:{port}")), "development: any process on this computer can ask in its name")
        }
        Some(AttachmentKind::Pocket) => (
            Some("http://169.254.169.254 inside its pocket".to_owned()),
            "namespace: only processes inside its network namespace can ask",
        ),
    };
    let mut out = std::io::stdout().lock();
    if arguments.output == Output::Json {
        let mut facts = machine.to_json();
        if let Some(object) = facts.as_object_mut() {
            object.insert("metadata_endpoint".to_owned(), json!(endpoint));
            object.insert("attachment".to_owned(), json!(strength));
        }
        writeln!(out, "{facts:#}")?;
        return Ok(());
    }
    let ready = operator.ready();
    let identity =
        format!("arn:{}:sts::{}:assumed-role/aws:ec2-instance/{}", ready.partition, ready.account, machine.id);
    let tags: Vec<String> = machine.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut fields = vec![
        ("instance", machine.id.as_str()),
        ("name", &machine.name),
        ("state", &machine.state),
        ("launched", &machine.launched),
        ("identity", &identity),
        ("metadata", endpoint.as_deref().unwrap_or("-")),
        ("attachment", strength),
        ("http tokens", &machine.http_tokens),
        ("http endpoint", &machine.http_endpoint),
        ("hop limit", &machine.hop_limit),
        ("image", &machine.image_id),
        ("type", &machine.instance_type),
        ("zone", &machine.zone),
        ("private ip", &machine.private_ip),
    ];
    fields.extend(tags.iter().map(|tag| ("tag", tag.as_str())));
    fields.retain(|(_, value)| !value.is_empty());
    output::fields(&mut out, &fields)?;
    Ok(())
}

pub(crate) async fn change(action: &str, arguments: &Targets) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let mut ids = Vec::new();
    for machine in &arguments.machines {
        ids.push(operator.machine(machine).await?.id);
    }
    operator.change(action, &ids).await?;
    let after = operator.machines(&ids).await?;
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Json => writeln!(out, "{:#}", Value::Array(after.iter().map(Machine::to_json).collect()))?,
        Output::Table => {
            let rows: Vec<_> = after.into_iter().map(|machine| [machine.id, machine.state, machine.name]).collect();
            output::table(&mut out, ["INSTANCE", "STATE", "NAME"], &rows)?;
        }
    }
    Ok(())
}
