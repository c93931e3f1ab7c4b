//! The hook of libvirt's QEMU driver. Source: <https://libvirt.org/hooks.html> and <https://libvirt.org/formatdomain.html>.
//!
//! A domain whose `sysinfo` has an asset tag `i-…` is that machine: the guest sees the same id in its DMI tables, as on EC2.
//! Any other is launched at its first start. Both keep their identity while they are off.

use anyhow::{Context, bail};
use inborn_host::place::Place;
use inborn_identity::InstanceId;
use roxmltree::{Document, Node};

use super::{Key, Where, begin, rest, start, stop};
use crate::arguments;
use crate::arguments::hook::Libvirt;
use crate::operator::Operator;

/// The alias by which a domain marks the interface for its metadata. Names of users' own begin with `ua-`.
const ALIAS: &str = "ua-inborn";

/// What matters of a domain.
#[derive(Debug, PartialEq, Eq)]
struct Domain {
    uuid: String,
    asset: Option<InstanceId>,
    place: Option<Where>,
}

pub(super) async fn run(arguments: &Libvirt, input: &str) -> anyhow::Result<()> {
    let has_started = match (arguments.operation.as_str(), arguments.step.as_str()) {
        ("started" | "reconnect", "begin") => true,
        ("stopped", "end") => false,
        _ => return Ok(()),
    };
    let domain = Domain::read(input).with_context(|| format!("domain {}", arguments.domain))?;
    let Libvirt { region, machine, .. } = arguments;
    let key = format!("libvirt/{}", domain.uuid);
    if has_started {
        let place = domain.place.with_context(|| {
            format!("domain {} has neither an interface with the alias {ALIAS} nor a vsock device", arguments.domain)
        })?;
        let machine = named(machine, &arguments.domain);
        return match domain.asset {
            Some(asset) => {
                let operator = Operator::find(region).await?;
                let known = operator.machine(&asset.to_string()).await?;
                begin(&operator, &known.id, &known.state, place).await
            }
            None => start(region, &key, &machine, place).await.map(drop),
        };
    }
    match domain.asset {
        Some(asset) => {
            let operator = Operator::find(region).await?;
            let known = operator.machine(&asset.to_string()).await?;
            if known.state == "terminated" { Ok(()) } else { rest(&operator, &known).await }
        }
        None => stop(&Key { region: region.clone(), key }).await,
    }
}

fn named(flags: &arguments::Machine, domain: &str) -> arguments::Machine {
    arguments::Machine { name: flags.name.clone().or_else(|| Some(domain.to_owned())), ..flags.clone() }
}

impl Domain {
    fn read(text: &str) -> anyhow::Result<Self> {
        let document = Document::parse(text).context("standard input is not XML")?;
        let root = document.root_element();
        if !root.has_tag_name("domain") {
            bail!("standard input is not the XML of a domain");
        }
        let uuid = child(root, "uuid").and_then(|node| node.text()).unwrap_or_default().trim().to_owned();
        if uuid.is_empty() {
            bail!("it has no uuid");
        }
        let devices = child(root, "devices");
        let marked = devices.into_iter().flat_map(|devices| devices.children()).find(is_marked);
        let place = match marked {
            Some(interface) => Some(interface_of(interface)?),
            None => devices.and_then(|devices| child(devices, "vsock")).and_then(cid_of),
        };
        Ok(Self { uuid, asset: asset_of(root)?, place })
    }
}

fn is_marked(node: &Node<'_, '_>) -> bool {
    let alias = child(*node, "alias").and_then(|alias| alias.attribute("name"));
    node.has_tag_name("interface") && alias == Some(ALIAS)
}

fn interface_of(interface: Node<'_, '_>) -> anyhow::Result<Where> {
    let name = child(interface, "target").and_then(|target| target.attribute("dev"));
    let name = name.context("its interface has no target device yet")?;
    let place = Place::Interface { name: name.parse().with_context(|| format!("its interface {name}"))? };
    let mac = child(interface, "mac").and_then(|mac| mac.attribute("address")).map(str::parse).transpose();
    Ok(Where { place, mac: mac.with_context(|| format!("the MAC of its interface {name}"))? })
}

fn cid_of(vsock: Node<'_, '_>) -> Option<Where> {
    let cid = child(vsock, "cid")?.attribute("address")?.parse().ok()?;
    Some(Where { place: Place::Vsock { cid }, mac: None })
}

/// The asset tag of the base board, if it is an instance id. Any other is the operator's own.
fn asset_of(domain: Node<'_, '_>) -> anyhow::Result<Option<InstanceId>> {
    let board = child(domain, "sysinfo").and_then(|sysinfo| child(sysinfo, "baseBoard"));
    let entries = board.into_iter().flat_map(|board| board.children());
    let asset = entries.filter(|entry| entry.attribute("name") == Some("asset")).find_map(|entry| entry.text());
    match asset.map(str::trim).filter(|text| text.starts_with("i-")) {
        Some(text) => Ok(Some(text.parse().with_context(|| format!("its asset tag {text}"))?)),
        None => Ok(None),
    }
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.has_tag_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "c7a5fdbd-cdaf-9455-926a-d65c16db1809";

    fn domain(sysinfo: &str, devices: &str) -> String {
        format!(
            "<domain type='kvm' id='1'><name>web-17</name><uuid>{UUID}</uuid>{sysinfo}<devices>\
             <interface type='bridge'><target dev='vnet0'/><alias name='net0'/></interface>{devices}</devices></domain>"
        )
    }

    #[test]
    fn the_marked_interface_is_the_place() {
        let text = domain("", "<interface type='ethernet'><target dev='vnet1'/><alias name='ua-inborn'/></interface>");
        let vnet1 = |mac| Where { place: Place::Interface { name: "vnet1".parse().unwrap() }, mac };
        let read = Domain { uuid: UUID.into(), asset: None, place: Some(vnet1(None)) };
        assert_eq!(Domain::read(&text).unwrap(), read);
        let with = |mac| text.replace("<target", &format!("<mac address='{mac}'/><target"));
        let mac = Some("52:54:00:12:34:56".parse().unwrap());
        assert_eq!(Domain::read(&with("52:54:00:12:34:56")).unwrap().place, Some(vnet1(mac)));
        assert!(Domain::read(&with("52:54:00")).is_err());
        let text = domain("", "<vsock model='virtio'><cid auto='yes' address='3'/></vsock>");
        let vsock = Where { place: Place::Vsock { cid: 3 }, mac: None };
        assert_eq!(Domain::read(&text).unwrap().place, Some(vsock));
        assert_eq!(Domain::read(&domain("", "")).unwrap().place, None, "a port of a bridge is nobody's alone");
    }

    #[test]
    fn an_asset_tag_that_is_an_instance_id_is_the_machine() {
        let asset = |tag: &str| {
            let board =
                format!("<baseBoard><entry name='product'>x</entry><entry name='asset'>{tag}</entry></baseBoard>");
            Domain::read(&domain(&format!("<sysinfo type='smbios'>{board}</sysinfo>"), "")).map(|domain| domain.asset)
        };
        assert_eq!(asset("i-0123456789abcdef0").unwrap(), Some("i-0123456789abcdef0".parse().unwrap()));
        assert_eq!(asset("Rack 7").unwrap(), None);
        assert!(asset("i-what").is_err(), "meant as one, and is none");
    }

    #[test]
    fn what_is_no_domain() {
        for text in ["", "x", "<network/>", "<domain/>", "<domain><uuid> </uuid></domain>"] {
            assert!(Domain::read(text).is_err(), "{text}");
        }
    }
}
