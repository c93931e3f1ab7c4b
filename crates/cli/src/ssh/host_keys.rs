//! `inborn host-keys`: what machines publish, and what operators decide about it.

use std::hash::{BuildHasher, RandomState};
use std::io::Write;

use anyhow::Context;
use inborn_guest::Settings;
use inborn_guest::host_keys::{ATTEMPTS_MAX, Certificates, LocalKeys, Pushed, pause, push};
use inborn_identity::Clock;
use serde_json::{Value, json};

use super::arguments::{Decide, HostKeys, HostKeysCommand, PolicyArguments, Push, Show};
use super::installed;
use crate::arguments::Output;
use crate::clock::SystemClock;
use crate::operator::Operator;
use crate::output::{Json, printable};

pub(crate) async fn host_keys(arguments: &HostKeys) -> anyhow::Result<()> {
    match &arguments.command {
        HostKeysCommand::Push(arguments) => publish(arguments).await,
        HostKeysCommand::Show(arguments) => show(arguments).await,
        HostKeysCommand::Approve(arguments) => decide(arguments, "approve").await,
        HostKeysCommand::Reject(arguments) => decide(arguments, "reject").await,
        HostKeysCommand::Policy(arguments) => policy(arguments).await,
    }
}

async fn publish(arguments: &Push) -> anyhow::Result<()> {
    let settings = Settings::read(|name| std::env::var(name).ok())?;
    let wanted = if arguments.certificates { Certificates::Wanted } else { Certificates::Unwanted };
    let mut errors = std::io::stderr().lock();
    let mut attempt = 1;
    let pushed = loop {
        // Read anew each time: at first boot the keys may be in the making.
        let keys = LocalKeys::read(&arguments.directory, &arguments.old_keys)?;
        match push(&settings, &keys, wanted, SystemClock.now()).await {
            Ok(pushed) => break pushed,
            Err(error) if !arguments.once && error.is_transient() && attempt < ATTEMPTS_MAX => {
                let pause = pause(attempt, RandomState::new().hash_one(attempt));
                writeln!(errors, "inborn: {error}; trying again in {} s", pause.as_secs())?;
                tokio::time::sleep(pause).await;
                attempt += 1;
            }
            Err(error) => return Err(error.into()),
        }
    };
    report(&mut errors, &pushed)?;
    if arguments.certificates {
        installed::install(&mut errors, &arguments.config, &pushed.certificates)?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}  {}", pushed.digest, pushed.outcome.as_deref().unwrap_or("published"))?;
    Ok(())
}

fn report(errors: &mut impl Write, pushed: &Pushed) -> std::io::Result<()> {
    for key in &pushed.left_out {
        writeln!(errors, "inborn: not published: {}", printable(key))?;
    }
    for key in &pushed.unproven {
        writeln!(errors, "inborn: not proven: {}", printable(key))?;
    }
    if pushed.is_pending() {
        writeln!(
            errors,
            "inborn: an operator has to approve these keys (`inborn host-keys approve`); until then the old ones are served"
        )?;
    }
    Ok(())
}

async fn show(arguments: &Show) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let machine = operator.machine(&arguments.machine).await?;
    let record = operator.instance_connect("Inborn.DescribeHostKeys", &json!({ "InstanceId": machine.id })).await?;
    let mut out = std::io::stdout().lock();
    if arguments.output == Output::Json {
        writeln!(out, "{:#}", Json(&record))?;
        return Ok(());
    }
    let text = |value: &Value, name: &str| printable(value.get(name).and_then(Value::as_str).unwrap_or("-"));
    writeln!(out, "instance  {}", machine.id)?;
    writeln!(out, "policy    {}", text(&record, "Policy"))?;
    let is_served = record.get("Served").and_then(Value::as_bool).unwrap_or(false);
    let current = if is_served { "served" } else { "not served: the policy demands proof" };
    let past = record.get("Past").and_then(Value::as_array).cloned().unwrap_or_default();
    let single = |name| record.get(name).filter(|set| !set.is_null());
    let sets = [(current, single("Current")), ("waits for a decision", single("Pending"))];
    let sets = sets.into_iter().filter_map(|(state, set)| Some((state, set?)));
    let mut count = 0;
    for (state, set) in sets.chain(past.iter().map(|set| ("served before", set))) {
        count += 1;
        let proven = if set.get("Proven").and_then(Value::as_bool) == Some(true) { "proven" } else { "not proven" };
        writeln!(out, "\n{state}: {}", text(set, "Digest"))?;
        let (basis, first, last) = (text(set, "Basis"), text(set, "FirstSeen"), text(set, "LastSeen"));
        writeln!(out, "  {basis}, {proven}, first seen {first}, last {last}, from {}", text(set, "SourceAddress"))?;
        for key in set.get("Keys").and_then(Value::as_array).into_iter().flatten() {
            let kind = text(key, "Line");
            writeln!(out, "  {}  {}", text(key, "Fingerprint"), kind.split(' ').next().unwrap_or_default())?;
        }
    }
    if count == 0 {
        writeln!(out, "\nno host keys: `inborn host-keys push` inside the machine publishes them")?;
    }
    Ok(())
}

async fn decide(arguments: &Decide, decision: &str) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let machine = operator.machine(&arguments.machine).await?;
    let body = json!({ "InstanceId": machine.id, "Digest": arguments.digest, "Decision": decision });
    operator.instance_connect("Inborn.DecideHostKeys", &body).await?;
    Ok(())
}

async fn policy(arguments: &PolicyArguments) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let mut wanted = serde_json::Map::new();
    let said = [("Policy", &arguments.policy), ("Certificates", &arguments.certificates)];
    wanted.extend(said.into_iter().filter_map(|(name, word)| Some((name.to_owned(), json!(word.as_ref()?)))));
    let operation = if wanted.is_empty() { "Inborn.GetHostKeyPolicy" } else { "Inborn.PutHostKeyPolicy" };
    let answer = operator.instance_connect(operation, &Value::Object(wanted)).await?;
    let text = |name: &str| {
        let found = answer.get(name).and_then(Value::as_str).with_context(|| format!("the region names no {name}"));
        found.map(printable)
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}\ncertificates {}", text("Policy")?, text("Certificates")?)?;
    Ok(())
}
