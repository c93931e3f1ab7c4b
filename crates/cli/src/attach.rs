//! `inborn attach` and `inborn detach`: where a machine is heard.

use std::io::Write;

use anyhow::Context;
use inborn_host::AttachmentKind;
use inborn_host::control::{ControlClient, ControlError};
use inborn_host::place::{NamespacePath, Place};
use inborn_identity::{InstanceId, MacAddress};
use serde_json::json;

use crate::arguments::{self, Attach, Detach, Output};
use crate::directory;
use crate::host_agent::{self, HostIdentity};
use crate::operator::Operator;
use crate::output;

/// Where `ip netns` keeps the files of namespaces. Source: ip-netns(8).
const NAMED_NAMESPACES: &str = "/run/netns";

/// How a machine shall be attached: at a place, else at a port of 127.0.0.1.
pub(crate) struct Wanted {
    pub(crate) place: Option<Place>,
    pub(crate) once: bool,
    /// The machine's own interface, if it is known.
    pub(crate) mac: Option<MacAddress>,
    /// The port, if it matters.
    pub(crate) port: Option<u16>,
}

/// The place that the flags name.
pub(crate) fn place(flags: &arguments::Place) -> anyhow::Result<Option<Place>> {
    let arguments::Place { netns, pid, interface, vsock, .. } = flags;
    if let Some(text) = netns {
        let path = if text.contains('/') {
            std::path::absolute(text)?.into_os_string().into_string().ok().context("its path is not UTF-8")?
        } else {
            format!("{NAMED_NAMESPACES}/{text}")
        };
        let path: NamespacePath = path.try_into().with_context(|| format!("--netns {text}"))?;
        return Ok(Some(Place::of_namespace(path)));
    }
    if let Some(text) = interface {
        return Ok(Some(Place::Interface { name: text.parse().with_context(|| format!("--interface {text}"))? }));
    }
    Ok(pid.map(|pid| Place::Process { pid }).or_else(|| vsock.map(|cid| Place::Vsock { cid })))
}

/// Has a running `up` attach a launched machine.
pub(crate) async fn request(
    control: &ControlClient,
    instance: InstanceId,
    wanted: Wanted,
) -> Result<AttachmentKind, ControlError> {
    match wanted.place {
        Some(place) => {
            control.attach(instance, place.clone(), wanted.once, wanted.mac).await?;
            Ok(AttachmentKind::At(place))
        }
        None => {
            let port = control.attach_loopback(instance, wanted.port).await?;
            Ok(AttachmentKind::Loopback { port })
        }
    }
}

pub(crate) async fn attach(arguments: &Attach) -> anyhow::Result<()> {
    let wanted = Wanted {
        place: place(&arguments.place)?,
        once: arguments.place.once,
        mac: arguments.place.mac,
        port: arguments.loopback.filter(|port| *port != 0),
    };
    let (control, instance) = find(&arguments.region, &arguments.machine).await?;
    let kind = request(&control, instance, wanted).await?;
    let (endpoint, worth) = (kind.endpoint(), format!("{}: {}", kind.strength(), kind.meaning()));
    let id = instance.to_string();
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Json => {
            let facts = json!({ "instance_id": id, "metadata_endpoint": endpoint, "attachment": worth });
            writeln!(out, "{:#}", output::Json(&facts))?;
        }
        Output::Table => {
            output::fields(&mut out, &[("instance", &id), ("metadata", &endpoint), ("attachment", &worth)])?
        }
    }
    Ok(())
}

pub(crate) async fn detach(arguments: &Detach) -> anyhow::Result<()> {
    let (control, instance) = find(&arguments.region, &arguments.machine).await?;
    Ok(control.detach(instance).await?)
}

/// The machine that is meant, and who attaches it: a running `up`, which its operator asks, or a host apart from its region,
/// which knows the machines that were placed on it.
async fn find(region: &arguments::Region, name_or_id: &str) -> anyhow::Result<(ControlClient, InstanceId)> {
    let data = match arguments::named(region.data.as_ref()) {
        Some(data) => data.to_owned(),
        None => directory::default_path()?,
    };
    if HostIdentity::is_in(&data) {
        let control = ControlClient::new(&data);
        let instance = host_agent::find(&control, name_or_id).await?;
        return Ok((control, instance));
    }
    let operator = Operator::find(region).await?;
    let machine = operator.machine(name_or_id).await?;
    let instance = machine.id.parse().context("the region's answer names no instance")?;
    Ok((ControlClient::new(&operator.ready().data), instance))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(set: impl FnOnce(&mut arguments::Place)) -> anyhow::Result<Option<Place>> {
        let mut flags = arguments::Place::default();
        set(&mut flags);
        place(&flags)
    }

    #[test]
    fn a_namespace_by_name_by_path_and_by_its_process() {
        let netns = |text: &str| flags(|flags| flags.netns = Some(text.to_owned()));
        let namespace = |path: &str| Some(Place::Namespace { path: path.parse().unwrap() });
        assert_eq!(netns("web").unwrap(), namespace("/run/netns/web"));
        assert_eq!(netns("/var/run/docker/netns/0f1e").unwrap(), namespace("/var/run/docker/netns/0f1e"));
        assert_eq!(netns("/proc/7/ns/net").unwrap(), Some(Place::Process { pid: 7 }));
        assert!(netns("./web").unwrap().unwrap().to_string().ends_with("/web"));
        assert!(netns(&"x".repeat(2000)).is_err());
    }

    #[test]
    fn an_interface_is_checked_here() {
        let interface = |text: &str| flags(|flags| flags.interface = Some(text.to_owned()));
        assert_eq!(interface("tap0").unwrap(), Some(Place::Interface { name: "tap0".parse().unwrap() }));
        let error = format!("{:#}", interface("../x").unwrap_err());
        assert!(error.starts_with("--interface ../x: an interface's name is"), "{error}");
        assert_eq!(flags(|_| {}).unwrap(), None);
    }
}
