//! The commands that look at machines and change them: all of them EC2 operations, signed by the operator.

use std::collections::HashMap;
use std::io::Write;

use inborn_host::control::{Attachment, ControlClient, ControlError};
use serde_json::{Value, json};

use crate::arguments::{Describe, Output, Ps, Targets};
use crate::deployment;
use crate::operator::{Machine, Operator};
use crate::output;

/// A machine as `ps` shows it, with its region and its attachment.
struct Listed {
    region: String,
    machine: Machine,
    attachment: &'static str,
    facts: Value,
}

pub(crate) async fn ps(arguments: &Ps) -> anyhow::Result<()> {
    let first = Operator::find(&arguments.region).await?;
    let mut operators = Vec::new();
    // All regions, unless one is named.
    if arguments.region.region_name.is_none() {
        for name in first.ready().regions.iter().skip(1) {
            operators.push(Operator::of(&deployment::find(first.ready().clone(), name)?)?);
        }
    }
    let is_several = !operators.is_empty();
    operators.insert(0, first);
    let mut all = Vec::new();
    for operator in &operators {
        let (machines, attachments) = (operator.machines(&[]).await?, Attachments::of(operator).await?);
        all.extend(machines.into_iter().map(|machine| Listed {
            region: operator.ready().region.clone(),
            attachment: attachments.word(&machine.id),
            facts: attachments.added_to(&machine),
            machine,
        }));
    }
    all.retain(|one| arguments.all || one.machine.state != "terminated");
    let order = |machine: &Machine| (machine.name.clone(), machine.id.clone());
    all.sort_by(|a, b| {
        let latest_first = b.machine.launched.cmp(&a.machine.launched);
        latest_first.then_with(|| order(&a.machine).cmp(&order(&b.machine)))
    });
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Json => {
            let facts = all.into_iter().map(|one| {
                let mut facts = one.facts;
                if let Some(object) = facts.as_object_mut() {
                    object.insert("region".to_owned(), json!(one.region));
                }
                facts
            });
            writeln!(out, "{:#}", output::Json(&Value::Array(facts.collect())))?;
        }
        Output::Table if all.is_empty() => writeln!(out, "no machines: `inborn launch` makes one")?,
        // The name last: it may be as long as a tag.
        Output::Table if is_several => {
            let row = |one: &Listed| {
                let Machine { id, state, launched, name, .. } = &one.machine;
                let attachment = one.attachment.to_owned();
                [id.clone(), state.clone(), launched.clone(), one.region.clone(), attachment, name.clone()]
            };
            let rows: Vec<_> = all.iter().map(row).collect();
            output::table(&mut out, ["INSTANCE", "STATE", "LAUNCHED", "REGION", "ATTACHMENT", "NAME"], &rows)?;
        }
        Output::Table => {
            let row = |one: &Listed| {
                let Machine { id, state, launched, name, .. } = &one.machine;
                [id.clone(), state.clone(), launched.clone(), one.attachment.to_owned(), name.clone()]
            };
            let rows: Vec<_> = all.iter().map(row).collect();
            output::table(&mut out, ["INSTANCE", "STATE", "LAUNCHED", "ATTACHMENT", "NAME"], &rows)?;
        }
    }
    Ok(())
}

/// How machines are attached, as their host tells it; `None`: a region server, which has no host of its own, and does not know.
struct Attachments(Option<HashMap<String, Attachment>>);

impl Attachments {
    async fn of(operator: &Operator) -> anyhow::Result<Self> {
        let all = match ControlClient::new(&operator.ready().data).attachments().await {
            Ok(all) => all,
            // It runs: its announcement was found, and the lock is held.
            Err(ControlError::NotRunning { .. }) => return Ok(Self(None)),
            Err(error) => return Err(error.into()),
        };
        let of = |attachment: Attachment| (attachment.instance.to_string(), attachment);
        Ok(Self(Some(all.into_iter().map(of).collect())))
    }

    fn get(&self, id: &str) -> Option<&Attachment> {
        self.0.as_ref()?.get(id)
    }

    /// One word for the strength of a machine's attachment.
    fn word(&self, id: &str) -> &'static str {
        match self.get(id) {
            Some(attachment) if attachment.trouble.is_some() => "waiting",
            Some(attachment) => attachment.kind.strength(),
            None => "-",
        }
    }

    /// Where the machine asks, and what its attachment is worth.
    fn words(&self, id: &str) -> (Option<String>, String) {
        let Some(Attachment { kind, trouble, .. }) = self.get(id) else {
            let why = match self.0 {
                Some(_) => "none: nobody can ask in its name",
                None => {
                    "not known here: this is a region server; the machine's host knows (`inborn host status` there)"
                }
            };
            return (None, why.to_owned());
        };
        let worth = format!("{}: {}", kind.strength(), kind.meaning());
        (Some(kind.endpoint()), trouble.as_ref().map_or(worth, |trouble| format!("waiting: {trouble}")))
    }

    /// What `--output json` tells of a machine.
    fn added_to(&self, machine: &Machine) -> Value {
        let (endpoint, attachment) = self.words(&machine.id);
        let mut facts = machine.to_json();
        if let Some(object) = facts.as_object_mut() {
            object.insert("metadata_endpoint".to_owned(), json!(endpoint));
            object.insert("attachment".to_owned(), json!(attachment));
        }
        facts
    }
}

pub(crate) async fn describe(arguments: &Describe) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let machine = operator.machine(&arguments.machine).await?;
    let attachments = Attachments::of(&operator).await?;
    let (endpoint, attachment) = attachments.words(&machine.id);
    let mut out = std::io::stdout().lock();
    if arguments.output == Output::Json {
        writeln!(out, "{:#}", output::Json(&attachments.added_to(&machine)))?;
        return Ok(());
    }
    let ready = operator.ready();
    let identity =
        format!("arn:{}:sts::{}:assumed-role/aws:ec2-instance/{}", ready.partition, machine.account, machine.id);
    let tags: Vec<String> = machine.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut fields = vec![
        ("instance", machine.id.as_str()),
        ("name", &machine.name),
        ("state", &machine.state),
        ("reason", &machine.reason),
        ("launched", &machine.launched),
        ("identity", &identity),
        ("metadata", endpoint.as_deref().unwrap_or("-")),
        ("attachment", &attachment),
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
        Output::Json => {
            writeln!(out, "{:#}", output::Json(&Value::Array(after.iter().map(Machine::to_json).collect())))?
        }
        Output::Table => {
            let rows: Vec<_> = after.into_iter().map(|machine| [machine.id, machine.state, machine.name]).collect();
            output::table(&mut out, ["INSTANCE", "STATE", "NAME"], &rows)?;
        }
    }
    Ok(())
}
