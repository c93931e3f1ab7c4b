//! `inborn host status`, and machines of a host by name: asked of the host itself, which works while the region is away.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use inborn_host::control::{Attachment, ControlClient, HostStatus, PlacedMachine};
use inborn_identity::{InstanceId, UnixTime};
use serde_json::{Value, json};

use super::HostIdentity;
use crate::arguments::{self, Output, path};
use crate::directory;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// The data directory of the host
    #[arg(long, env = "INBORN_DATA", value_name = "DIR", value_parser = path())]
    data: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// The machine of this name or id on the running host of a data directory.
pub(crate) async fn find(control: &ControlClient, name_or_id: &str) -> anyhow::Result<InstanceId> {
    if let Ok(id) = name_or_id.parse() {
        return Ok(id);
    }
    named(&control.status().await?.machines, name_or_id)
}

/// The machine of this name. Accounts name their machines as they like: where there are machines of several, a name may be somebody's who
/// waits to be taken for another.
fn named(machines: &[PlacedMachine], name: &str) -> anyhow::Result<InstanceId> {
    let found: Vec<&PlacedMachine> = machines.iter().filter(|machine| machine.name == name).collect();
    match found.as_slice() {
        [] => bail!("there is no machine {name} on this host: see `inborn host status`"),
        [one] if machines.iter().all(|other| other.account == one.account) => Ok(one.instance),
        [one] => bail!(
            "machines of several accounts are on this host, and each may call its own {name}: name it by its id, if it is {} of account {}",
            one.instance,
            one.account
        ),
        several => {
            let ids: Vec<String> = several.iter().map(|machine| machine.instance.to_string()).collect();
            bail!("{} machines are called {name}: name one by its id ({})", several.len(), ids.join(", "))
        }
    }
}

pub(crate) async fn status(arguments: &Status) -> anyhow::Result<()> {
    let data = match arguments::named(arguments.data.as_ref()) {
        Some(path) => path.to_owned(),
        None => directory::default_path()?,
    };
    let identity = read(&data)?;
    let control = ControlClient::new(&data);
    let (status, attachments) = (control.status().await?, control.attachments().await?);
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Json => writeln!(out, "{:#}", output::Json(&to_json(&identity, &status, &attachments)))?,
        Output::Table => {
            let region = if status.is_connected { "is there" } else { "is away" };
            let kept = if status.is_kept { "all of it is kept over a restart" } else { "not all of it is kept yet" };
            let heard = status.heard_at.map_or_else(|| "never".to_owned(), time);
            output::fields(
                &mut out,
                &[
                    ("host", &identity.host.to_string()),
                    ("name", &identity.name),
                    ("region", &format!("{} {region}", identity.region)),
                    ("last heard", &heard),
                    ("cache", kept),
                    ("certificate", &format!("until {}", identity.certificate_ends().rfc3339())),
                ],
            )?;
            writeln!(out)?;
            let rows: Vec<[String; 6]> = status.machines.iter().map(|machine| to_row(machine, &attachments)).collect();
            output::table(&mut out, ["MACHINE", "ACCOUNT", "NAME", "STATE", "CREDENTIALS UNTIL", "METADATA"], &rows)?;
        }
    }
    Ok(())
}

fn read(data: &Path) -> anyhow::Result<HostIdentity> {
    let none = || format!("{} is not that of a host: name its data directory with --data", data.display());
    HostIdentity::read(data)?.with_context(none)
}

fn time(seconds: u64) -> String {
    UnixTime::from_secs(seconds).rfc3339()
}

fn attachment(machine: &PlacedMachine, all: &[Attachment]) -> Option<String> {
    let found = all.iter().find(|attachment| attachment.instance == machine.instance)?;
    Some(match &found.trouble {
        Some(trouble) => format!("not at present: {trouble}"),
        None => found.kind.endpoint(),
    })
}

const fn state(machine: &PlacedMachine) -> &'static str {
    if machine.is_running { "running" } else { "stopped" }
}

fn to_row(machine: &PlacedMachine, attachments: &[Attachment]) -> [String; 6] {
    [
        machine.instance.to_string(),
        machine.account.to_string(),
        machine.name.clone(),
        state(machine).to_owned(),
        machine.credentials_until.map(time).unwrap_or_default(),
        attachment(machine, attachments).unwrap_or_else(|| "not attached".to_owned()),
    ]
}

fn to_json(identity: &HostIdentity, status: &HostStatus, attachments: &[Attachment]) -> Value {
    let machine = |machine: &PlacedMachine| {
        json!({
            "instance_id": machine.instance.to_string(),
            "account_id": machine.account.to_string(),
            "name": machine.name,
            "state": state(machine),
            "credentials_until": machine.credentials_until.map(time),
            "metadata_endpoint": attachment(machine, attachments),
        })
    };
    json!({
        "host_id": identity.host.to_string(),
        "name": identity.name,
        "region": identity.region.to_string(),
        "is_connected": status.is_connected,
        "last_heard": status.heard_at.map(time),
        "is_kept": status.is_kept,
        "certificate_until": identity.certificate_ends().rfc3339(),
        "machines": status.machines.iter().map(machine).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(number: u8, account: &str, name: &str) -> PlacedMachine {
        PlacedMachine {
            instance: InstanceId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, number]),
            account: account.parse().unwrap(),
            name: name.to_owned(),
            is_running: true,
            credentials_until: None,
        }
    }

    /// Who may launch onto a host must not be taken for another account's machine by calling its own so.
    #[test]
    fn a_name_is_nobodys_where_there_are_machines_of_several_accounts() {
        let (own, other) = ("123456789012", "000000000002");
        let (web, db) = (machine(1, own, "web-1"), machine(2, own, "db"));
        assert_eq!(named(&[web.clone(), db.clone()], "web-1").unwrap(), web.instance);
        assert!(
            named(core::slice::from_ref(&db), "web-1").unwrap_err().to_string().contains("there is no machine web-1")
        );
        let twice = named(&[web.clone(), machine(3, own, "web-1")], "web-1").unwrap_err().to_string();
        assert!(twice.contains("2 machines are called web-1"), "{twice}");
        for others in [machine(4, other, "web-1"), machine(4, other, "")] {
            let error = named(&[db.clone(), web.clone(), others], "web-1").unwrap_err().to_string();
            assert!(error.contains("by its id"), "{error}");
        }
        let error = named(&[db, machine(4, other, "web-1")], "web-1").unwrap_err().to_string();
        assert!(error.contains("of account 000000000002"), "{error}");
    }
}
