//! What is asked of the kernel's routing sockets, in the network namespace of the calling thread.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use inborn_identity::MacAddress;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType};
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleMessage};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use rustix::io::Errno;
use tokio::task::JoinHandle;

/// Consulted after the main table, so that a route that the operator has made comes first.
const RULE_PRIORITY: u32 = 32_800;
/// Our routing tables are numbered from here, one for each interface by its index.
const TABLE_BASE: u32 = 0x1b0e_0000;

/// A routing socket.
pub(super) struct Netlink {
    handle: Handle,
    driver: JoinHandle<()>,
}

/// An interface, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) is_up: bool,
    /// What owns what arrives here, if something does: a bridge, a bond.
    pub(super) is_port_of: Option<String>,
    pub(super) is_bridge: bool,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Netlink {
    /// Opens one.
    pub(super) fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        Ok(Self { handle, driver: tokio::spawn(connection) })
    }

    /// The interface of this name.
    pub(super) async fn link(&self, name: &str) -> io::Result<Option<Link>> {
        let mut found = self.handle.link().get().match_name(name.to_owned()).execute();
        let message = match found.try_next().await.map_err(explain) {
            Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => return Ok(None),
            other => other?,
        };
        let Some(message) = message else { return Ok(None) };
        let mut link = Link {
            index: message.header.index,
            is_up: message.header.flags.contains(LinkFlags::Up),
            is_port_of: None,
            is_bridge: false,
        };
        for info in message.attributes.iter().filter_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        }) {
            for part in info {
                match part {
                    LinkInfo::Kind(InfoKind::Bridge) => link.is_bridge = true,
                    LinkInfo::PortKind(kind) => link.is_port_of = Some(kind.to_string()),
                    _ => {}
                }
            }
        }
        Ok(Some(link))
    }

    /// The MAC of the Ethernet interface that leads out of here, else of the first there is.
    pub(super) async fn own_mac(&self) -> io::Result<Option<MacAddress>> {
        let mut ports = Vec::new();
        let mut links = self.handle.link().get().execute();
        while let Some(message) = links.try_next().await.map_err(explain)? {
            let header = &message.header;
            if header.link_layer_type == LinkLayerType::Ether && !header.flags.contains(LinkFlags::Loopback) {
                ports.extend(mac_of(&message.attributes).map(|mac| (header.index, mac)));
            }
        }
        ports.sort_unstable();
        if ports.len() > 1 {
            let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
            let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
            for family in [v4, v6] {
                if let Some(index) = self.default_route(family).await?
                    && let Some((_, mac)) = ports.iter().find(|(port, _)| *port == index)
                {
                    return Ok(Some(*mac));
                }
            }
        }
        Ok(ports.first().map(|(_, mac)| *mac))
    }

    /// The interface that the default route of the main table leads to; of several, the preferred one.
    async fn default_route(&self, family: RouteMessage) -> io::Result<Option<u32>> {
        let mut found = Vec::new();
        let mut routes = self.handle.route().get(family).execute();
        while let Some(message) = routes.try_next().await.map_err(explain)? {
            let header = &message.header;
            if (header.destination_prefix_length, header.table) != (0, RouteHeader::RT_TABLE_MAIN)
                || header.kind != RouteType::Unicast
            {
                continue;
            }
            let (mut metric, mut index) = (0, None);
            for attribute in &message.attributes {
                match attribute {
                    RouteAttribute::Priority(value) => metric = *value,
                    RouteAttribute::Oif(value) => index = Some(*value),
                    _ => {}
                }
            }
            found.extend(index.map(|index| (metric, index)));
        }
        Ok(found.into_iter().min().map(|(_, index)| index))
    }

    /// Sets an interface up.
    pub(super) async fn bring_up(&self, index: u32) -> io::Result<()> {
        self.handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await.map_err(explain)
    }

    /// Whether an interface has an address.
    pub(super) async fn has_address(&self, index: u32, address: IpAddr) -> io::Result<bool> {
        let mut found = self.handle.address().get().set_link_index_filter(index).set_address_filter(address).execute();
        Ok(found.try_next().await.map_err(explain)?.is_some())
    }

    /// Whether an address is one of this namespace itself, on whatever interface. Asked of the routes: a whole block may be
    /// local, and of an interface that leads to one neighbour the neighbour's address is listed beside its own.
    pub(super) async fn is_own(&self, address: Ipv4Addr) -> io::Result<bool> {
        let asked = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, 32).build();
        let mut found = self.handle.route().get(asked).execute();
        let nowhere = [Errno::NETUNREACH, Errno::HOSTUNREACH].map(Errno::raw_os_error);
        match found.try_next().await.map_err(explain) {
            Ok(route) => Ok(route.is_some_and(|route| route.header.kind == RouteType::Local)),
            Err(error) if error.raw_os_error().is_some_and(|errno| nowhere.contains(&errno)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives an interface an address that is for itself alone.
    pub(super) async fn add_address(&self, index: u32, address: IpAddr) -> io::Result<()> {
        use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
        let mut request = self.handle.address().add(index, address, prefix(address));
        if address.is_ipv6() {
            // Nobody else can have it on a link of one machine: to look for duplicates would only take a second.
            let message = request.message_mut();
            message.header.flags |= AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        request.execute().await.map_err(explain)
    }

    /// Takes an address away, if it is there.
    pub(super) async fn remove_address(&self, index: u32, address: IpAddr) -> io::Result<()> {
        let mut found = self.handle.address().get().set_link_index_filter(index).set_address_filter(address).execute();
        while let Some(message) = found.try_next().await.map_err(explain)? {
            gone_is_well(self.handle.address().del(message).execute().await.map_err(explain))?;
        }
        Ok(())
    }

    /// Sends what a socket bound to this interface says out through it, wherever no other route does: the guests' own
    /// addresses need not be known here, and two guests may have the same. (For IPv4 the kernel assumes as much by itself.)
    pub(super) async fn add_rule_v6(&self, name: &str, index: u32) -> io::Result<()> {
        let table = TABLE_BASE.wrapping_add(index);
        let route = RouteMessageBuilder::<Ipv6Addr>::new().output_interface(index).table_id(table).build();
        self.handle.route().add(route).execute().await.map_err(explain)?;
        let rule = self.handle.rule().add().v6().output_interface(name).table_id(table).priority(RULE_PRIORITY);
        rule.action(RuleAction::ToTable).execute().await.map_err(explain)
    }

    /// Takes that rule away; its route goes with the interface, or now.
    pub(super) async fn remove_rule_v6(&self, name: &str, index: u32) -> io::Result<()> {
        let table = TABLE_BASE.wrapping_add(index);
        let mut rule: RuleMessage = self
            .handle
            .rule()
            .add()
            .v6()
            .output_interface(name)
            .table_id(table)
            .priority(RULE_PRIORITY)
            .message_mut()
            .clone();
        rule.header.action = RuleAction::ToTable;
        gone_is_well(self.handle.rule().del(rule).execute().await.map_err(explain))?;
        let route = RouteMessageBuilder::<Ipv6Addr>::new().output_interface(index).table_id(table).build();
        gone_is_well(self.handle.route().del(route).execute().await.map_err(explain))
    }
}

fn mac_of(attributes: &[LinkAttribute]) -> Option<MacAddress> {
    attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(octets) => MacAddress::new(octets.as_slice().try_into().ok()?).ok(),
        _ => None,
    })
}

const fn prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// What is to be taken away and is not there is as it should be.
fn gone_is_well(result: io::Result<()>) -> io::Result<()> {
    let gone = [Errno::NODEV, Errno::NOENT, Errno::SRCH, Errno::ADDRNOTAVAIL].map(Errno::raw_os_error);
    match result {
        Err(error) if error.raw_os_error().is_some_and(|errno| gone.contains(&errno)) => Ok(()),
        other => other,
    }
}

fn explain(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}
