//! The pocket's end of the way out: a tap device with an address, a route and a neighbour.

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use rustix::ioctl::{Setter, ioctl, opcode};

use super::{
    DEVICE, GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, GUEST_MAC, GUEST_V4, GUEST_V6, MTU, NETWORK_BITS_V4, NETWORK_BITS_V6,
};

const TUN: &str = "/dev/net/tun";
/// `TUNSETIFF` of `linux/if_tun.h`.
const SET_INTERFACE: rustix::ioctl::Opcode = opcode::write::<c_int>(b'T', 202);
const IFF_TAP: u16 = 0x0002;
/// Frames without a header of the driver's before them.
const IFF_NO_PI: u16 = 0x1000;

/// `struct ifreq`, as far as the driver reads it: name, flags, and the rest of the union.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// Makes the device where this thread is. It lives as long as the descriptor, which does not block.
pub(crate) async fn bring_up(handle: &Handle, ipv6: bool) -> Result<OwnedFd, String> {
    let tap = open().map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "let this user have it, as most systems do (`chmod 666`)",
            _ => "load the module `tun`, or let the container have the device",
        };
        format!("cannot make the command's network by {TUN}: {error}; {remedy}, or leave --net host-egress away")
    })?;
    let failed = |what: &'static str| move |error: rtnetlink::Error| format!("{DEVICE}: {what}: {error}");
    let index = index_of(DEVICE).map_err(|error| format!("{DEVICE}: {error}"))?;
    let link = LinkUnspec::new_with_index(index).address(GUEST_MAC.to_vec()).mtu(MTU).up().build();
    handle.link().set(link).execute().await.map_err(failed("link"))?;
    handle.address().add(index, IpAddr::V4(GUEST_V4), NETWORK_BITS_V4).execute().await.map_err(failed("address"))?;
    neighbour(handle, index, IpAddr::V4(GATEWAY_V4)).await.map_err(failed("neighbour"))?;
    let route = RouteMessageBuilder::<std::net::Ipv4Addr>::new().gateway(GATEWAY_V4).output_interface(index);
    handle.route().add(route.build()).execute().await.map_err(failed("route"))?;
    if ipv6 {
        let mut address = handle.address().add(index, IpAddr::V6(GUEST_V6), NETWORK_BITS_V6);
        // There is nobody else on this link who could have the address, and asking takes a second.
        address.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        address.execute().await.map_err(failed("IPv6 address"))?;
        neighbour(handle, index, IpAddr::V6(GATEWAY_V6)).await.map_err(failed("IPv6 neighbour"))?;
        let route = RouteMessageBuilder::<std::net::Ipv6Addr>::new().gateway(GATEWAY_V6).output_interface(index);
        handle.route().add(route.build()).execute().await.map_err(failed("IPv6 route"))?;
    }
    Ok(tap)
}

/// The gateway answers for everybody, so nobody needs to ask for it.
async fn neighbour(handle: &Handle, index: u32, gateway: IpAddr) -> Result<(), rtnetlink::Error> {
    let adding = handle.neighbours().add(index, gateway);
    adding.link_layer_address(&GATEWAY_MAC).state(NeighbourState::Permanent).replace().execute().await
}

fn open() -> io::Result<OwnedFd> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let tun: File = OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(TUN)?;
    let mut request = InterfaceRequest { name: [0; 16], flags: IFF_TAP | IFF_NO_PI, rest: [0; 22] };
    // The last byte stays 0.
    for (to, from) in request.name.iter_mut().take(15).zip(DEVICE.bytes()) {
        *to = from;
    }
    #[allow(unsafe_code, reason = "rustix has no safe form of this request")]
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq` (40 bytes), which is the size of the request, and keeps no
    // pointer to it.
    unsafe {
        ioctl(&tun, Setter::<SET_INTERFACE, InterfaceRequest>::new(request))?;
    }
    Ok(tun.into())
}

fn index_of(name: &str) -> io::Result<u32> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    Ok(rustix::net::netdevice::name_to_index(&socket, name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_the_size_of_the_kernels() {
        assert_eq!((size_of::<InterfaceRequest>(), SET_INTERFACE), (40, 0x4004_54ca));
        assert!(DEVICE.len() < 16);
    }
}
