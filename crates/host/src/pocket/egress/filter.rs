//! Which packets of a pocket may leave it. Pure.
//!
//! The packets that pass are made again by sockets of this computer, so whatever this computer can reach could be reached,
//! its loopback and the metadata service of its own cloud included. Routes inside the pocket cannot keep a command from
//! them: one that binds to the device has every address on link (`fib_lookup` is ignored for a bound socket), and root
//! may change routes. So the packets themselves are judged, outside.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{GUEST_V4, GUEST_V6, NETWORK_BITS_V4};

const ETHERNET_BYTES: usize = 14;
const ETHERTYPE_V4: u16 = 0x0800;
const ETHERTYPE_V6: u16 = 0x86dd;
const HEADER_BYTES_V4: usize = 20;
const HEADER_BYTES_V6: usize = 40;

/// What a cloud tells a machine about itself outside 169.254.0.0/16: Alibaba Cloud's metadata, Azure's wire server,
/// Oracle's classic metadata (each in the vendor's guide).
const CLOUD_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
/// Google Compute Engine's metadata.
const CLOUD_V6: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);

/// Whether a frame may leave: an IP packet from the pocket's own address to an address that is neither this computer
/// (`own` are its addresses) nor something that only this computer should reach. Anything else is dropped, ARP included:
/// the pocket knows its neighbour.
#[must_use]
pub fn passes(frame: &[u8], own: &BTreeSet<IpAddr>) -> bool {
    let Some((header, packet)) = frame.split_at_checked(ETHERNET_BYTES) else { return false };
    let Some(&[high, low]) = header.get(12..) else { return false };
    match u16::from_be_bytes([high, low]) {
        ETHERTYPE_V4 => {
            let addresses = version(packet, 4, HEADER_BYTES_V4)
                .and_then(|header| Some((bytes::<4>(header, 12)?, bytes::<4>(header, 16)?)));
            addresses.is_some_and(|(source, destination)| {
                let destination = Ipv4Addr::from(destination);
                Ipv4Addr::from(source) == GUEST_V4 && may_reach_v4(destination) && !own.contains(&destination.into())
            })
        }
        ETHERTYPE_V6 => {
            let addresses = version(packet, 6, HEADER_BYTES_V6)
                .and_then(|header| Some((bytes::<16>(header, 8)?, bytes::<16>(header, 24)?)));
            addresses.is_some_and(|(source, destination)| {
                let destination = Ipv6Addr::from(destination);
                Ipv6Addr::from(source) == GUEST_V6
                    && may_reach_v6(destination)
                    && !own.contains(&destination.into())
                    && embedded(destination).is_none_or(|inner| !own.contains(&inner.into()))
            })
        }
        _ => false,
    }
}

/// The fixed header of a packet of this IP version.
fn version(packet: &[u8], number: u8, header_bytes: usize) -> Option<&[u8]> {
    packet.get(..header_bytes).filter(|header| header.first().is_some_and(|first| first >> 4 == number))
}

fn bytes<const N: usize>(header: &[u8], at: usize) -> Option<[u8; N]> {
    header.get(at..at + N)?.try_into().ok()
}

fn may_reach_v4(address: Ipv4Addr) -> bool {
    let own_network = u32::from(address) >> (32 - NETWORK_BITS_V4) == u32::from(GUEST_V4) >> (32 - NETWORK_BITS_V4);
    let [first, ..] = address.octets();
    let special = first == 0
        || address.is_loopback()
        || address.is_link_local()
        // Multicast, reserved, broadcast.
        || first >= 224;
    !(special || own_network || CLOUD_V4.contains(&address))
}

fn may_reach_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    // Unspecified, loopback, IPv4-compatible and IPv4-mapped addresses, and the rest of ::/8 but for the translators'.
    let low = first & 0xff00 == 0 && first != 0x64;
    let amazon = first == 0xfd00 && second == 0xec2;
    let special = low || address.is_unicast_link_local() || address.is_multicast() || amazon || address == CLOUD_V6;
    let own_network = address.segments().get(..4) == GUEST_V6.segments().get(..4);
    !(special || own_network) && embedded(address).is_none_or(may_reach_v4)
}

/// The IPv4 address that a translator or a tunnel would make of it: NAT64 (RFC 6052, 8215), 6to4 (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [first, second, third, .., seventh, eighth] = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match first {
        0x64 => Some(of(seventh, eighth)),
        0x2002 => Some(of(second, third)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame_v4(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0, 0, 20, 0, 0, 0, 0, 64, 6, 0, 0]);
        frame.extend(source.octets());
        frame.extend(destination.octets());
        frame
    }

    fn frame_v6(source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 6, 64]);
        frame.extend(source.octets());
        frame.extend(destination.octets());
        frame
    }

    fn leaves(destination: &str, own: &[&str]) -> bool {
        let own = own.iter().map(|address| address.parse().unwrap()).collect();
        match destination.parse().unwrap() {
            IpAddr::V4(destination) => passes(&frame_v4(GUEST_V4, destination), &own),
            IpAddr::V6(destination) => passes(&frame_v6(GUEST_V6, destination), &own),
        }
    }

    #[test]
    fn the_world_is_reachable() {
        for address in [
            "1.1.1.1",
            "10.0.0.1",
            "172.17.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "198.18.1.1",
            "198.17.255.255",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "169.255.0.0",
            "223.255.255.255",
            "2001:db8::1",
            "fd00:ec1::254",
            "fd00:ec3::254",
            "fc00::1",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert!(leaves(address, &["192.0.2.9", "2001:db8::9"]), "{address}");
        }
    }

    #[test]
    fn this_computer_and_what_it_alone_may_ask_are_not() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.0",
            "169.254.169.254",
            "169.254.170.2",
            "169.254.255.255",
            "198.18.0.2",
            "198.18.0.255",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "192.0.2.9",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:1.1.1.1",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "2001:db8::9",
            "64:ff9b::169.254.169.254",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::169.254.169.254",
            "64:ff9b::192.0.2.9",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::1",
            "2002:c000:209::1",
        ] {
            assert!(!leaves(address, &["192.0.2.9", "2001:db8::9"]), "{address}");
        }
        assert!(!leaves(&super::super::GATEWAY_V6.to_string(), &[]));
        assert!(!leaves(&GUEST_V6.to_string(), &[]));
    }

    #[test]
    fn only_the_pocket_itself_speaks() {
        let (own, world) = (BTreeSet::new(), Ipv4Addr::new(192, 0, 2, 1));
        assert!(passes(&frame_v4(GUEST_V4, world), &own));
        assert!(!passes(&frame_v4(Ipv4Addr::new(10, 0, 0, 1), world), &own));
        assert!(!passes(&frame_v6(Ipv6Addr::LOCALHOST, "2001:db8::1".parse().unwrap()), &own));
    }

    #[test]
    fn what_is_no_whole_ip_packet_stays() {
        let own = BTreeSet::new();
        for whole in
            [frame_v4(GUEST_V4, Ipv4Addr::new(192, 0, 2, 1)), frame_v6(GUEST_V6, "2001:db8::1".parse().unwrap())]
        {
            assert!(passes(&whole, &own));
            for length in 0..whole.len() {
                assert!(!passes(&whole[..length], &own), "{length}");
            }
            // ARP, a VLAN, the other version's type, the other version's number.
            for kind in [[0x08, 0x06], [0x81, 0x00], if whole[12] == 8 { [0x86, 0xdd] } else { [0x08, 0x00] }] {
                let mut frame = whole.clone();
                frame[12..14].copy_from_slice(&kind);
                assert!(!passes(&frame, &own), "{kind:?}");
            }
            let mut frame = whole.clone();
            frame[ETHERNET_BYTES] ^= 0x20;
            assert!(!passes(&frame, &own));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(frame in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = passes(&frame, &BTreeSet::new());
        }

        #[test]
        fn no_packet_reaches_loopback_or_link_local(last in any::<[u8; 3]>(), first in prop_oneof![Just(127u8), Just(169)]) {
            let second = if first == 169 { 254 } else { last[0] };
            let frame = frame_v4(GUEST_V4, Ipv4Addr::new(first, second, last[1], last[2]));
            prop_assert!(!passes(&frame, &BTreeSet::new()));
        }
    }
}
