//! Network interfaces: a listening socket that is bound to one hears what arrives there and nothing else, whatever
//! addresses the guests behind it have.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use socket2::{Domain, SockFilter, Socket, Type};

use super::error::NEEDS_INTERFACE;
use super::namespace::BACKLOG;
use super::netlink::{Link, Netlink};
use super::trace::{Holder, Trace, Traces};
use super::{ADDRESS_V4, ADDRESS_V6, InterfaceName, PORT, Place, PlaceError};

const LOOPBACK: &str = "lo";
const LOOPBACK_INDEX: u32 = 1;
/// Routes of this computer, as text. Source: proc(5).
const ROUTES: &str = "/proc/net/route";
/// And those of IPv6, of all tables.
const ROUTES_V6: &str = "/proc/net/ipv6_route";

/// The number of the interface that has this name now.
pub(super) fn index(name: &InterfaceName) -> Result<Option<u32>, PlaceError> {
    let failed = |error: Errno| {
        PlaceError::of(format!("cannot look at network interface {name}"), NEEDS_INTERFACE, error.into())
    };
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).map_err(failed)?;
    match name_to_index(&socket, name.as_str()) {
        Ok(index) => Ok(Some(index)),
        Err(Errno::NODEV) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Makes the listening sockets that hear what arrives at the interface.
pub(super) async fn open(
    name: &InterfaceName,
    holder: &Holder,
    traces: &Traces,
) -> Result<Vec<TcpListener>, PlaceError> {
    let place = Place::Interface { name: name.clone() };
    let failed = |error| PlaceError::of(format!("cannot set up {place}"), NEEDS_INTERFACE, error);
    let netlink = Netlink::open().map_err(failed)?;
    let link = netlink.link(name.as_str()).await.map_err(failed)?;
    let link = link.ok_or_else(|| PlaceError::Absent { place: place.clone() })?;
    if let Some(reason) = unfit(name, &link) {
        return Err(PlaceError::Unfit { place, reason });
    }
    if !link.is_up {
        tracing::info!(%place, "it is down: the machine is heard once it is up");
    }
    let index = link.index;
    set_up_v4(&netlink, holder, traces).await.map_err(failed)?;
    relax_source_check(name, holder, traces).map_err(failed)?;
    let mut listeners = vec![listen(&place, index, ADDRESS_V4.into())?];
    match set_up_v6(&netlink, name, index, holder, traces).await {
        Ok(()) => listeners.push(listen(&place, index, ADDRESS_V6.into())?),
        // Hypervisors switch IPv6 off on the interfaces of their guests.
        Err(error) => tracing::debug!(%place, %error, "no IPv6 there"),
    }
    Ok(listeners)
}

/// A socket from where whatever is behind the interface is reached at `address`, and nothing else: it is bound to the
/// interface, where Linux takes for a neighbour what no route leads to.
pub(super) async fn socket(name: &InterfaceName, address: Ipv4Addr) -> Result<Socket, PlaceError> {
    let place = || Place::Interface { name: name.clone() };
    let failed = |error| PlaceError::of(format!("cannot reach through {}", place()), NEEDS_INTERFACE, error);
    let netlink = Netlink::open().map_err(failed)?;
    let link = netlink.link(name.as_str()).await.map_err(failed)?;
    let link = link.ok_or_else(|| PlaceError::Absent { place: place() })?;
    // It may have become a port of a bridge, or the way out, since the machine was attached to it.
    if let Some(reason) = unfit(name, &link) {
        return Err(PlaceError::Unfit { place: place(), reason });
    }
    let index = NonZeroU32::new(link.index).ok_or_else(|| PlaceError::Absent { place: place() })?;
    if netlink.is_own(address).await.map_err(failed)? {
        let reason = format!("this computer itself has the machine's address {address}");
        return Err(PlaceError::Unfit { place: place(), reason });
    }
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).map_err(failed)?;
    socket.bind_device_by_index_v4(Some(index)).map_err(failed)?;
    Ok(socket)
}

/// Why this interface is not one machine's.
fn unfit(name: &InterfaceName, link: &Link) -> Option<String> {
    if name.as_str() == LOOPBACK {
        return Some("every process of this computer is behind it".to_owned());
    }
    if link.is_bridge {
        return Some("it is a bridge, and whatever is on it could ask in the machine's name".to_owned());
    }
    if let Some(owner) = &link.is_port_of {
        return Some(format!(
            "it is a port of a {owner}, which takes all that arrives there; give the machine an interface of its own for \
             its metadata, or attach its network namespace"
        ));
    }
    let [routes, routes_v6] = [ROUTES, ROUTES_V6].map(|file| fs::read_to_string(file).unwrap_or_default());
    if is_way_out(&routes, name.as_str()) || is_way_out_v6(&routes_v6, name.as_str()) {
        return Some("this computer's default route leads there, and whoever is on that network could ask".to_owned());
    }
    None
}

/// Whether a default route leads through the interface. The columns are interface, destination, …, and the eighth is the mask.
fn is_way_out(routes: &str, name: &str) -> bool {
    routes.lines().any(|line| {
        let mut columns = line.split_ascii_whitespace();
        let interface = columns.next();
        let (destination, mask) = (columns.next(), columns.nth(5));
        interface == Some(name) && destination == Some("00000000") && mask == Some("00000000")
    })
}

/// The same for IPv6. The columns are destination, its length, source, its length, next hop, …, and the last is the interface.
/// Routes for answers to guests, which are ours, have no next hop.
fn is_way_out_v6(routes: &str, name: &str) -> bool {
    routes.lines().any(|line| {
        let mut columns = line.split_ascii_whitespace();
        let (length, hop) = (columns.nth(1), columns.nth(2));
        length == Some("00")
            && hop.is_some_and(|hop| hop.bytes().any(|digit| digit != b'0'))
            && columns.last() == Some(name)
    })
}

/// The IPv4 address goes on the loopback interface, once for all machines. On the machine's interface it would make the
/// kernel deliver this computer's own connections as if they came from there, and with the last address of an
/// interface go the routes through it. Linux answers ARP on every interface for what is on this one.
async fn set_up_v4(netlink: &Netlink, holder: &Holder, traces: &Traces) -> io::Result<()> {
    let address = IpAddr::V4(ADDRESS_V4);
    let interface: InterfaceName = LOOPBACK.parse().map_err(io::Error::other)?;
    let trace = Trace::Address { interface, index: LOOPBACK_INDEX, address };
    let is_there = netlink.has_address(LOOPBACK_INDEX, address).await?;
    if is_there && !traces.is_noted(&trace) {
        return Ok(());
    }
    traces.note(holder, trace)?;
    if is_there { Ok(()) } else { netlink.add_address(LOOPBACK_INDEX, address).await }
}

/// The IPv6 address goes on the machine's interface: neighbours are told only of addresses that are on the interface they
/// ask at. What this computer itself sends there is kept out by the filter of the socket.
async fn set_up_v6(
    netlink: &Netlink,
    name: &InterfaceName,
    index: u32,
    holder: &Holder,
    traces: &Traces,
) -> io::Result<()> {
    let address = IpAddr::V6(ADDRESS_V6);
    if !netlink.has_address(index, address).await? {
        let trace = Trace::Address { interface: name.clone(), index, address };
        traces.note(holder, trace.clone())?;
        netlink.add_address(index, address).await.inspect_err(|_| traces.forget(holder, &trace))?;
    }
    let trace = Trace::Rule { interface: name.clone(), index };
    traces.note(holder, trace)?;
    netlink.add_rule_v6(name.as_str(), index).await
}

/// Guests may have addresses that are routed elsewhere, or nowhere. An interface without an address of its own drops what
/// comes from them even in the loose mode (2) that distributions set; the strict mode (1) is somebody's decision.
fn relax_source_check(name: &InterfaceName, holder: &Holder, traces: &Traces) -> io::Result<()> {
    let path = |interface: &str| PathBuf::from(format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter"));
    let read = |interface: &str| fs::read_to_string(path(interface)).map(|text| text.trim().to_owned());
    let (of_all, before) = (read("all")?, read(name.as_str())?);
    if of_all != "0" || before == "1" {
        tracing::warn!(
            interface = %name,
            "rp_filter is on, for all interfaces or strictly for this one: the machine gets answers only if its address \
             is routed through its interface"
        );
    }
    if before != "2" {
        return Ok(());
    }
    let after = "0".to_owned();
    traces.note(holder, Trace::Setting { path: path(name.as_str()), before, after: after.clone() })?;
    fs::write(path(name.as_str()), after)
}

fn listen(place: &Place, index: u32, address: IpAddr) -> Result<TcpListener, PlaceError> {
    let address = SocketAddr::new(address, PORT);
    let bind = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        let device = NonZeroU32::new(index);
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
            socket.bind_device_by_index_v6(device)?;
        } else {
            socket.bind_device_by_index_v4(device)?;
        }
        socket.attach_filter(&arrived_at(index))?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    bind().map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => PlaceError::InUse { place: place.clone() },
        _ => PlaceError::of(format!("cannot listen at {place}"), NEEDS_INTERFACE, error),
    })
}

/// A classic BPF program that lets pass what has come in by an interface. To the binding of a socket, what this computer
/// sends to an address on the interface has come from there too: it is delivered by the loopback interface on behalf of
/// that one (`ip6_rcv` and `ip_route_output_key_hash_rcu` in Linux). The filter sees the interface that it really came by.
const fn arrived_at(index: u32) -> [SockFilter; 4] {
    const LOAD_WORD_ABSOLUTE: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    /// `SKF_AD_OFF + SKF_AD_IFINDEX`. Source: linux/filter.h.
    const INTERFACE_INDEX: u32 = 0xffff_f008;
    [
        SockFilter::new(LOAD_WORD_ABSOLUTE, 0, 0, INTERFACE_INDEX),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, index),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// Takes an address away, if the interface is still the one that it was put on.
pub(super) async fn remove_address(name: &InterfaceName, number: u32, address: IpAddr) -> Result<(), PlaceError> {
    if index(name)? != Some(number) {
        return Ok(());
    }
    let failed = |error| PlaceError::of(format!("cannot take {address} off {name}"), NEEDS_INTERFACE, error);
    let netlink = Netlink::open().map_err(failed)?;
    netlink.remove_address(number, address).await.map_err(failed)
}

/// Takes the rule for answers over IPv6 away. It stays when its interface goes, and would be that of the next of its name.
pub(super) async fn remove_rule(name: &InterfaceName, number: u32) -> Result<(), PlaceError> {
    let failed = |error| PlaceError::of(format!("cannot take the rule for {name} away"), NEEDS_INTERFACE, error);
    let netlink = Netlink::open().map_err(failed)?;
    netlink.remove_rule_v6(name.as_str(), number).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_there_and_is_no_place_for_a_machine() {
        assert_eq!(index(&LOOPBACK.parse().unwrap()).unwrap(), Some(1));
        assert_eq!(index(&"none-of-this".parse().unwrap()).unwrap(), None);
        let link = || Link { index: 7, is_up: true, is_port_of: None, is_bridge: false };
        assert!(unfit(&LOOPBACK.parse().unwrap(), &link()).is_some());
        let name = "none-of-this".parse().unwrap();
        assert_eq!(unfit(&name, &link()), None);
        assert!(unfit(&name, &Link { is_bridge: true, ..link() }).unwrap().contains("a bridge"));
        let port = Link { is_port_of: Some("bridge".to_owned()), ..link() };
        assert!(unfit(&name, &port).unwrap().contains("a port of a bridge"));
    }

    #[test]
    fn the_way_out_is_the_interface_of_a_default_route() {
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            tap0\t0200000A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n";
        assert!(is_way_out(routes, "eth0"));
        assert!(!is_way_out(routes, "tap0") && !is_way_out(routes, "eth") && !is_way_out("", "eth0"));
    }

    #[test]
    fn the_way_out_over_ipv6_has_a_next_hop() {
        let zeros = "0".repeat(32);
        let route = |length: &str, hop: &str, name: &str| {
            format!("{zeros} {length} {zeros} 00 {hop} 00000400 00000002 00000000 00000003     {name}\n")
        };
        let hop = "fe800000000000000000000000000001";
        let routes = [route("00", hop, "eth0"), route("00", &zeros, "tap0"), route("40", hop, "tap1")].concat();
        assert!(is_way_out_v6(&routes, "eth0"));
        for name in ["tap0", "tap1", "eth", ""] {
            assert!(!is_way_out_v6(&routes, name), "{name}");
        }
    }
}
