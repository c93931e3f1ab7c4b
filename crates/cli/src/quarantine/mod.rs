//! `inborn quarantine` and `inborn release`: operations of ours, of EC2, signed by the operator.

mod arguments;

use std::io::Write;

use anyhow::Context;
use inborn_identity::{AccountId, HostId, InstanceId};
use roxmltree::Document;
use serde_json::{Value, json};

use crate::arguments::Output;
use crate::operator::{Local, Operator};
use crate::output;

pub(crate) use arguments::{QUARANTINE_HELP, Quarantine, RELEASE_HELP, Release, Subjects};

/// What stands for all machines.
const ALL: &str = "*";

pub(crate) async fn quarantine(arguments: &Quarantine) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    if arguments.list {
        return list(&operator, arguments.output).await;
    }
    let mut parameters = named(&operator, &arguments.subjects).await?;
    parameters.extend(arguments.reason.iter().map(|reason| ("Reason".to_owned(), reason.clone())));
    operator.call("Inborn.PutQuarantine", &parameters).await.map(drop)
}

pub(crate) async fn release(arguments: &Release) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let parameters = named(&operator, &arguments.subjects).await?;
    operator.call("Inborn.EndQuarantine", &parameters).await.map(drop)
}

/// `Subject.1`, … of a call.
async fn named(operator: &Operator, subjects: &Subjects) -> anyhow::Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for machine in &subjects.machines {
        // An id is taken as it stands: whoever is in quarantine may be gone.
        all.push(match machine.parse::<InstanceId>() {
            Ok(id) => id.to_string(),
            Err(_) => operator.machine(machine).await?.id,
        });
    }
    for host in &subjects.host {
        all.push(host.parse::<HostId>().with_context(|| format!("--host {host}"))?.to_string());
    }
    for account in &subjects.account {
        all.push(account.parse::<AccountId>().with_context(|| format!("--account {account}"))?.to_string());
    }
    all.extend(subjects.all.then(|| ALL.to_owned()));
    Ok(all.into_iter().zip(1..).map(|(subject, number)| (format!("Subject.{number}"), subject)).collect())
}

async fn list(operator: &Operator, output: Output) -> anyhow::Result<()> {
    let answer = operator.call("Inborn.DescribeQuarantines", &[]).await?;
    let document = Document::parse(&answer).context("the region's answer is not XML")?;
    let rows: Vec<[String; 4]> = document
        .descendants()
        .filter(|node| node.has_tag_name_local("item"))
        .map(|item| {
            let since = item.child_text("since").replace(".000Z", "Z");
            [item.child_text("subject"), since, item.child_text("by"), item.child_text("reason")]
        })
        .collect();
    let mut out = std::io::stdout().lock();
    match output {
        Output::Json => {
            let shown = |[subject, since, by, reason]: &[String; 4]| json!({ "subject": subject, "since": since, "by": by, "reason": reason });
            writeln!(out, "{:#}", output::Json(&Value::Array(rows.iter().map(shown).collect())))?;
        }
        Output::Table if rows.is_empty() => writeln!(out, "nobody is in quarantine")?,
        Output::Table => output::table(&mut out, ["SUBJECT", "SINCE", "BY", "REASON"], &rows)?,
    }
    Ok(())
}
