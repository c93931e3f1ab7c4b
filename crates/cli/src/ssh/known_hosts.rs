//! `inborn known-hosts`: which host keys a machine has, for ssh.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use inborn_guest::http::HttpError;
use inborn_identity::Clock;
use inborn_ssh::{HostKeySet, PublicKey, cert_authority_line, known_hosts_line, sshfp_records};
use serde_json::json;

use super::arguments::{Format, KnownHosts};
use super::cache::{AWAY_SECONDS_MAX, Cache, FRESH_SECONDS};
use super::names::{is_host, is_own, is_plain};
use crate::clock::SystemClock;
use crate::deployment;
use crate::directory;
use crate::operator::{Operator, Refusal};
use crate::output::printable;

/// How long a region may take to answer before it counts as away: a person waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What all ids of machines are like, as patterns of ssh go.
const ALL_IDS: &str = "i-*";

pub(crate) async fn known_hosts(arguments: &KnownHosts) -> anyhow::Result<()> {
    // Machines are known by their names: what address one has today says nothing about it.
    if arguments.invocation.as_deref() == Some("ADDRESS") {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    if arguments.authority {
        return authority(&mut out, arguments).await;
    }
    let Some(name) = arguments.host.as_deref() else {
        return all(&mut out, arguments).await;
    };
    let shown = arguments.shown.as_deref().unwrap_or(name);
    if !is_plain(name) || !is_host(shown) {
        bail!("{} is no name of a machine", printable(name));
    }
    let keys = keys_of(arguments, name).await?;
    print(&mut out, arguments.format, shown, &keys)
}

/// The keys of one machine: from the cache if it is fresh, else from the region, else from the cache if the region is away.
async fn keys_of(arguments: &KnownHosts, name: &str) -> anyhow::Result<HostKeySet> {
    let data = deployment::named_directory(&arguments.region)?;
    let data = data.as_deref();
    let cache = Cache::of_user(data)?;
    let now = SystemClock.now();
    let learned = cache.read(name, now);
    if let Some(learned) = learned.as_ref().filter(|learned| learned.age <= FRESH_SECONDS) {
        return parse(&learned.lines);
    }
    let asked = match tokio::time::timeout(ANSWER_TIMEOUT, ask(data, name)).await {
        Ok(asked) => asked,
        Err(_) => Err(Unanswered::Away(anyhow!("the region did not answer in time"))),
    };
    match asked {
        Ok(lines) => {
            let keys = parse(&lines)?;
            cache.write(name, &lines, now)?;
            Ok(keys)
        }
        Err(Unanswered::Refused(error)) => {
            // It is known that the machine is gone, or has no keys: that counts from now on.
            cache.forget(name);
            Err(error)
        }
        Err(Unanswered::Away(error)) => match learned.filter(|learned| learned.age <= AWAY_SECONDS_MAX) {
            Some(learned) => parse(&learned.lines),
            None => Err(error.context(format!("the host keys of {name} are not known"))),
        },
    }
}

/// Why a question has no answer: the difference decides whether what was learned before still counts.
enum Unanswered {
    Refused(anyhow::Error),
    Away(anyhow::Error),
}

impl From<anyhow::Error> for Unanswered {
    fn from(error: anyhow::Error) -> Self {
        let is_failing = error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.status >= 500);
        if is_failing || error.downcast_ref::<HttpError>().is_some() { Self::Away(error) } else { Self::Refused(error) }
    }
}

async fn ask(data: Option<&std::path::Path>, name: &str) -> Result<Vec<String>, Unanswered> {
    let found = directory::find(data).map_err(Unanswered::Refused)?;
    let ready = found.ok_or_else(|| Unanswered::Away(anyhow!("no `inborn up` is running")))?;
    let operator = Operator::of(&ready)?;
    let machine = operator.machine(name).await?;
    if machine.state == "terminated" {
        return Err(Unanswered::Refused(anyhow!("{name} is terminated")));
    }
    lines_of(&operator, &machine.id).await.map_err(Unanswered::from).and_then(|lines| {
        let none =
            || Unanswered::Refused(anyhow!("{name} has published no host keys: see `inborn host-keys show {name}`"));
        if lines.is_empty() { Err(none()) } else { Ok(lines) }
    })
}

async fn lines_of(operator: &Operator, id: &str) -> anyhow::Result<Vec<String>> {
    let answer = operator.instance_connect("GetEC2HostKeys", &json!({ "InstanceId": id })).await?;
    let lines = answer.get("HostKeys").and_then(serde_json::Value::as_array);
    let lines = lines.context("the region's answer has no host keys")?;
    Ok(lines.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect())
}

fn parse(lines: &[String]) -> anyhow::Result<HostKeySet> {
    HostKeySet::parse(lines.iter().map(String::as_str)).context("what is known of the host keys cannot be read")
}

/// The line that makes certificates known: for ids only, which are never given twice, as names and addresses are.
async fn authority(out: &mut impl Write, arguments: &KnownHosts) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let answer = operator.instance_connect("Inborn.GetHostKeyPolicy", &json!({})).await?;
    let line = answer.get("CertificateAuthority").and_then(serde_json::Value::as_str);
    let key = PublicKey::parse(line.context("the region names no authority of certificates")?)?;
    writeln!(out, "{}", cert_authority_line(ALL_IDS, &key))?;
    Ok(())
}

/// Every machine that runs and has keys, by its id, and by its name if that is its own.
async fn all(out: &mut impl Write, arguments: &KnownHosts) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let mut machines = operator.machines(&[]).await?;
    machines.retain(|machine| machine.state != "terminated");
    machines.sort_by(|a, b| a.id.cmp(&b.id));
    for machine in &machines {
        let lines = lines_of(&operator, &machine.id).await?;
        if lines.is_empty() {
            continue;
        }
        let keys = parse(&lines)?;
        let is_only_one = machines.iter().filter(|other| other.name == machine.name).count() == 1;
        let named = is_own(&machine.name) && is_only_one;
        if arguments.format == Format::Sshfp {
            print(out, arguments.format, if named { &machine.name } else { &machine.id }, &keys)?;
        } else {
            let names: Vec<&str> =
                [machine.id.as_str(), &machine.name].into_iter().take(1 + usize::from(named)).collect();
            print(out, arguments.format, &names.join(","), &keys)?;
        }
    }
    Ok(())
}

fn print(out: &mut impl Write, format: Format, names: &str, keys: &HostKeySet) -> anyhow::Result<()> {
    match format {
        Format::KnownHosts => keys.iter().try_for_each(|key| writeln!(out, "{}", known_hosts_line(names, key)))?,
        Format::Sshfp => sshfp_records(names, keys).iter().try_for_each(|record| writeln!(out, "{record}"))?,
    }
    Ok(())
}
