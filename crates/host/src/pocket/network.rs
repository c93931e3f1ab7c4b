//! The network of a pocket: the loopback interface with the pocket's addresses, and a way out if one is asked for.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::{LinkUnspec, new_connection};

use super::egress::tap;
use super::message::WayOut;
use super::{ENDPOINTS_ADDRESS, METADATA_ADDRESS, METADATA_ADDRESS_IPV6, RESOLVER_ADDRESS};

/// The loopback interface is the first of every network namespace, and in a new one the only.
const LOOPBACK_INDEX: u32 = 1;
const ADDRESSES: [Ipv4Addr; 3] = [METADATA_ADDRESS, RESOLVER_ADDRESS, ENDPOINTS_ADDRESS];

/// What could not be set up.
pub(super) enum NetworkError {
    /// What every pocket has: the kernel does not let it.
    Namespace(String),
    /// The device of the way out; the sentence says what to do.
    WayOut(String),
}

impl From<String> for NetworkError {
    fn from(message: String) -> Self {
        Self::Namespace(message)
    }
}

/// Brings the loopback interface up, with the pocket's addresses on it, and makes the device of the way out.
pub(super) async fn bring_up(way_out: Option<WayOut>) -> Result<Option<OwnedFd>, NetworkError> {
    let (connection, handle, _) = new_connection().map_err(|error| format!("netlink: {error}"))?;
    let driver = tokio::spawn(connection);
    let up = LinkUnspec::new_with_index(LOOPBACK_INDEX).up().build();
    handle.link().set(up).execute().await.map_err(|error| format!("loopback interface: {error}"))?;
    for address in ADDRESSES {
        let adding = handle.address().add(LOOPBACK_INDEX, IpAddr::V4(address), 32).execute();
        adding.await.map_err(|error| format!("address {address}: {error}"))?;
    }
    if has_ipv6() {
        let mut adding = handle.address().add(LOOPBACK_INDEX, IpAddr::V6(METADATA_ADDRESS_IPV6), 128);
        // Without a look for duplicates, which cannot be here and would keep the address from being used for a moment.
        adding.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        adding.execute().await.map_err(|error| format!("address {METADATA_ADDRESS_IPV6}: {error}"))?;
    }
    let tap = match way_out {
        Some(WayOut { ipv6 }) => Some(tap::bring_up(&handle, ipv6).await.map_err(NetworkError::WayOut)?),
        None => None,
    };
    driver.abort();
    Ok(tap)
}

/// Whether this network namespace has IPv6. A kernel may be without it, and then a pocket is too.
pub(super) fn has_ipv6() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6").is_ok_and(|disabled| disabled.trim() == "0")
}
