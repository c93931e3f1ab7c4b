//! The sockets of a network namespace, as /proc/net/{tcp,tcp6,udp,udp6} list them: who listens, who is connected, by inode.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::event::{Endpoint, Protocol};

/// Bytes of a table that are read, and sockets that are known at a time.
pub(crate) const TABLE_BYTES_MAX: u64 = 8 * 1024 * 1024;
pub(crate) const SOCKETS_MAX: usize = 65_536;

/// The states of a TCP socket (`net/tcp_states.h`); a UDP socket that is connected is in the first one too.
const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;

/// Whether a socket waits for others or is connected to one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Listening,
    Connected,
}

/// A socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Socket {
    pub(crate) protocol: Protocol,
    pub(crate) state: State,
    pub(crate) local: Endpoint,
    pub(crate) remote: Endpoint,
}

/// The tables of a process's network namespace, and the protocol of each.
pub(crate) const TABLES: [(&str, Protocol); 4] =
    [("net/tcp", Protocol::Tcp), ("net/tcp6", Protocol::Tcp), ("net/udp", Protocol::Udp), ("net/udp6", Protocol::Udp)];

/// Reads a table into `sockets`, by inode.
pub(crate) fn parse(table: &[u8], protocol: Protocol, sockets: &mut HashMap<u64, Socket>) {
    let text = String::from_utf8_lossy(table);
    for line in text.lines().skip(1) {
        if sockets.len() >= SOCKETS_MAX {
            return;
        }
        if let Some((inode, socket)) = parse_line(line, protocol) {
            sockets.insert(inode, socket);
        }
    }
}

fn parse_line(line: &str, protocol: Protocol) -> Option<(u64, Socket)> {
    let mut fields = line.split_whitespace();
    let local = endpoint(fields.nth(1)?)?;
    let remote = endpoint(fields.next()?)?;
    let state = match u8::from_str_radix(fields.next()?, 16).ok()? {
        LISTEN => State::Listening,
        ESTABLISHED => State::Connected,
        _ => return None,
    };
    let inode = fields.nth(5)?.parse().ok().filter(|inode| *inode != 0)?;
    Some((inode, Socket { protocol, state, local, remote }))
}

/// `0100007F:1F90`: each word of the address as the processor has it in memory.
fn endpoint(text: &str) -> Option<Endpoint> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut octets = [0; 16];
            for (at, place) in octets.chunks_exact_mut(4).enumerate() {
                place.copy_from_slice(&word(at)?);
            }
            // An IPv4 peer of a socket for both is what anybody would call it.
            Ipv6Addr::from(octets).to_canonical()
        }
        _ => return None,
    };
    Some(Endpoint { ip, port })
}

/// The inode in what a descriptor's link says, as in `socket:[4711]`.
pub(crate) fn inode_of(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1 0 100 0 0 10 0
   1: 0100007F:C822 0100007F:115C 01 00000000:00000000 00:00000000 00000000  1000        0 102 1 0 20 4 30 10 -1
   2: 0100007F:C823 0100007F:115C 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0
   3: 0100007F:C823 0100007F:115C 08 00000000:00000000 03:00000000 00000000     0        0 103 3 0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn tables() {
        let mut sockets = HashMap::new();
        parse(TCP.as_bytes(), Protocol::Tcp, &mut sockets);
        assert_eq!(sockets.len(), 2, "what is closing is neither");
        let at = |text: &str, port| Endpoint { ip: text.parse().unwrap(), port };
        assert_eq!((sockets[&101].state, sockets[&101].local), (State::Listening, at("127.0.0.1", 8080)));
        assert_eq!(sockets[&102].remote, at("127.0.0.1", 4444));
        assert_eq!(sockets[&102].local, at("127.0.0.1", 51234));
        assert_eq!(endpoint("0000000000000000FFFF00000100007F:0016"), Some(at("127.0.0.1", 22)));
        assert_eq!(endpoint("00000000000000000000000001000000:0016"), Some(at("::1", 22)));
        for bad in ["", ":", "0100007F", "0100007:1", "zz00007F:1", "0100007F:10000", "é100007:1"] {
            assert_eq!(endpoint(bad), None, "{bad}");
        }
    }

    #[test]
    fn descriptors() {
        assert_eq!(
            [inode_of("socket:[4711]"), inode_of("pipe:[1]"), inode_of("socket:[x]"), inode_of("/x")],
            [Some(4711), None, None, None]
        );
    }

    #[test]
    fn sockets_below_at_and_above_the_limit() {
        let mut table = String::from("head\n");
        for inode in 1..=SOCKETS_MAX + 1 {
            table.push_str(&format!(" 0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 {inode} 1\n"));
            if [SOCKETS_MAX - 1, SOCKETS_MAX, SOCKETS_MAX + 1].contains(&inode) {
                let mut sockets = HashMap::new();
                parse(table.as_bytes(), Protocol::Tcp, &mut sockets);
                assert_eq!(sockets.len(), inode.min(SOCKETS_MAX));
            }
        }
    }
}
