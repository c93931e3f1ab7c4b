//! `inborn quarantine` and `inborn release`: operations of ours, of EC2, signed by the operator.

mod arguments;

use std::collections::HashSet;
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
/// Whom one call may name.
const SUBJECTS_MAX: usize = 100;

pub(crate) async fn quarantine(arguments: &Quarantine) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    if arguments.list {
        return list(&operator, arguments.output).await;
    }
    let reason = arguments.reason.iter().map(|reason| ("Reason".to_owned(), reason.clone())).collect();
    call_of_all(&operator, "Inborn.PutQuarantine", &arguments.subjects, reason).await
}

pub(crate) async fn release(arguments: &Release) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    call_of_all(&operator, "Inborn.EndQuarantine", &arguments.subjects, Vec::new()).await
}

/// Calls as often as it takes to name all subjects.
async fn call_of_all(
    operator: &Operator,
    action: &str,
    subjects: &Subjects,
    others: Vec<(String, String)>,
) -> anyhow::Result<()> {
    let all = named(operator, subjects).await?;
    for (index, some) in all.chunks(SUBJECTS_MAX).enumerate() {
        let mut parameters = numbered(some);
        parameters.extend(others.iter().cloned());
        let outcome = operator.call(action, &parameters).await;
        // Which are left to be done, is to be told.
        if index > 0 {
            let done = index * SUBJECTS_MAX;
            outcome
                .with_context(|| format!("the first {done} of {} are done, and not all of the others", all.len()))?;
        } else {
            outcome?;
        }
    }
    Ok(())
}

/// `Subject.1`, … of a call.
fn numbered(subjects: &[String]) -> Vec<(String, String)> {
    subjects.iter().zip(1..).map(|(subject, number)| (format!("Subject.{number}"), subject.clone())).collect()
}

/// Each once, in the order in which they were named.
async fn named(operator: &Operator, subjects: &Subjects) -> anyhow::Result<Vec<String>> {
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
    let mut seen = HashSet::new();
    all.retain(|subject| seen.insert(subject.clone()));
    Ok(all)
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
