//! `inborn hook`: a hypervisor or container runtime says that a machine has started or stopped.

mod libvirt;
mod oci;

use std::io::{Read, Write};

use anyhow::{Context, bail};
use inborn_host::control::ControlClient;
use inborn_host::place::Place;
use inborn_identity::{InstanceId, MacAddress};

use crate::arguments::hook::{Event, Hook, Key, Start};
use crate::arguments::{self, Region};
use crate::attach;
use crate::operator::{Machine, Operator};

/// The tag that holds a machine's key.
const ORIGIN: &str = "inborn:origin";
/// Bytes of what a hook is told on standard input: many times what runtimes and libvirt send.
const INPUT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Carries an event out.
pub(crate) async fn hook(arguments: &Hook) -> anyhow::Result<()> {
    match &arguments.event {
        Event::Start(Start { key, machine, place }) => {
            let mac = place.mac;
            let place =
                attach::place(place)?.context("say where the machine is: --netns, --pid, --interface or --vsock")?;
            let id = start(&key.region, &key.key, machine, Where { place, mac }).await?;
            Ok(writeln!(std::io::stdout(), "{id}")?)
        }
        Event::Stop(key) => stop(key).await,
        Event::End(key) => end(key).await,
        Event::Oci(oci) => oci::run(oci, &told(std::io::stdin())?).await,
        Event::Libvirt(libvirt) => libvirt::run(libvirt, &told(std::io::stdin())?).await,
    }
}

/// What the caller says on standard input. One byte over the limit is read, and no more.
fn told(input: impl Read) -> anyhow::Result<String> {
    let mut text = String::new();
    let reading = input.take(INPUT_BYTES_MAX.saturating_add(1)).read_to_string(&mut text);
    reading.context("cannot read standard input")?;
    if text.len() as u64 > INPUT_BYTES_MAX {
        bail!("standard input is longer than {INPUT_BYTES_MAX} bytes");
    }
    Ok(text)
}

/// Where a machine is, and its own interface there, if its hypervisor says which that is.
#[derive(Debug, PartialEq, Eq)]
struct Where {
    place: Place,
    mac: Option<MacAddress>,
}

/// Has the machine of this key running and attached: launches it if there is none.
async fn start(region: &Region, key: &str, machine: &arguments::Machine, place: Where) -> anyhow::Result<String> {
    let operator = Operator::find(region).await?;
    let found = find(&operator, key).await?;
    let is_new = found.is_none();
    let (id, state) = match found {
        Some(machine) => (machine.id, machine.state),
        None => {
            let mut machine = machine.clone();
            machine.tags.push((ORIGIN.to_owned(), key.to_owned()));
            (operator.launch(&machine, false).await?.to_string(), "running".to_owned())
        }
    };
    let started = begin(&operator, &id, &state, place).await;
    if started.is_err() && is_new {
        // Nobody knows of it, and nobody can ask in its name.
        operator.change("TerminateInstances", std::slice::from_ref(&id)).await?;
    }
    started.map(|()| id)
}

/// Has a machine that exists running and attached. What its hypervisor made for it this time ends with it.
async fn begin(operator: &Operator, id: &str, state: &str, Where { place, mac }: Where) -> anyhow::Result<()> {
    if state == "stopped" {
        operator.change("StartInstances", &[id.to_owned()]).await?;
    }
    let instance: InstanceId = id.parse().context("the region's answer names no instance")?;
    Ok(ControlClient::new(&operator.ready().data).attach(instance, place, true, mac).await?)
}

/// Has the machine of this key stopped and detached; nothing if there is none.
async fn stop(key: &Key) -> anyhow::Result<()> {
    let operator = Operator::find(&key.region).await?;
    match find(&operator, &key.key).await? {
        Some(machine) => rest(&operator, &machine).await,
        None => Ok(()),
    }
}

/// Stops a machine and detaches it.
async fn rest(operator: &Operator, machine: &Machine) -> anyhow::Result<()> {
    if machine.state == "running" {
        operator.change("StopInstances", std::slice::from_ref(&machine.id)).await?;
    }
    let instance: InstanceId = machine.id.parse().context("the region's answer names no instance")?;
    Ok(ControlClient::new(&operator.ready().data).detach(instance).await?)
}

/// Terminates the machine of this key; nothing if there is none.
async fn end(key: &Key) -> anyhow::Result<()> {
    let operator = Operator::find(&key.region).await?;
    match find(&operator, &key.key).await? {
        Some(machine) => operator.change("TerminateInstances", &[machine.id]).await,
        None => Ok(()),
    }
}

/// The machine of this key that is not terminated.
async fn find(operator: &Operator, key: &str) -> anyhow::Result<Option<Machine>> {
    let all = operator.machines(&[]).await?;
    let is_it = |machine: &Machine| {
        machine.state != "terminated" && machine.tags.get(ORIGIN).is_some_and(|origin| origin == key)
    };
    Ok(all.into_iter().find(is_it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hook_is_told_below_at_and_above_the_limit() {
        for (length, fits) in [(INPUT_BYTES_MAX - 1, true), (INPUT_BYTES_MAX, true), (INPUT_BYTES_MAX + 1, false)] {
            let read = told(std::io::repeat(b' ').take(length));
            assert_eq!(read.is_ok_and(|text| text.len() as u64 == length), fits, "{length}");
        }
        assert!(told(std::io::repeat(b' ')).is_err(), "without an end");
        assert!(told(&b"\xff"[..]).is_err(), "not UTF-8");
    }
}
