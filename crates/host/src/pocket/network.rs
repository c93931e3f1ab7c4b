//! The network of a pocket: the loopback interface and three addresses.

use std::net::{IpAddr, Ipv4Addr};

use rtnetlink::{LinkUnspec, new_connection};

use super::{ENDPOINTS_ADDRESS, METADATA_ADDRESS, RESOLVER_ADDRESS};

/// The loopback interface is the first of every network namespace, and in a new one the only.
const LOOPBACK_INDEX: u32 = 1;
const ADDRESSES: [Ipv4Addr; 3] = [METADATA_ADDRESS, RESOLVER_ADDRESS, ENDPOINTS_ADDRESS];

/// Brings the loopback interface up, with the pocket's addresses on it.
pub(super) async fn bring_up() -> Result<(), String> {
    let (connection, handle, _) = new_connection().map_err(|error| format!("netlink: {error}"))?;
    let driver = tokio::spawn(connection);
    let up = LinkUnspec::new_with_index(LOOPBACK_INDEX).up().build();
    handle.link().set(up).execute().await.map_err(|error| format!("loopback interface: {error}"))?;
    for address in ADDRESSES {
        let adding = handle.address().add(LOOPBACK_INDEX, IpAddr::V4(address), 32).execute();
        adding.await.map_err(|error| format!("address {address}: {error}"))?;
    }
    driver.abort();
    Ok(())
}
