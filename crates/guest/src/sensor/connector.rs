//! The kernel's proc connector: it tells at once who started a program and who ended. It takes `CAP_NET_ADMIN` in the kernel's
//! first user namespace, and is heard in its first network namespace only.

use std::io;

use netlink_sys::protocols::NETLINK_CONNECTOR;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

/// `CN_IDX_PROC` and `CN_VAL_PROC` of `linux/connector.h`: index, value, and the group of the same number.
const PROC_INDEX: u32 = 1;
const PROC_VALUE: u32 = 1;
/// `PROC_CN_MCAST_LISTEN` of `linux/cn_proc.h`.
const LISTEN: u32 = 1;
/// Of a netlink message: its head, and the head of a connector message behind it.
const NETLINK_HEAD: usize = 16;
const CONNECTOR_HEAD: usize = 20;
/// `NLMSG_DONE`, as every message of a connector is.
const DONE: u16 = 3;
/// What happened, of `enum proc_cn_event`.
const EXEC: u32 = 0x0000_0002;
const EXIT: u32 = 0x8000_0000;
/// Bytes for what the kernel says while the sensor is busy.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// What the kernel told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hint {
    Started(u32),
    Ended { pid: u32, code: i32 },
}

/// The open ear.
pub(crate) struct Connector(TokioSocket);

impl Connector {
    /// Asks the kernel to tell.
    ///
    /// # Errors
    /// It does not, or not here.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_CONNECTOR)?;
        socket.socket_mut().bind(&SocketAddr::new(0, PROC_INDEX))?;
        // Without the privilege for more, the usual size has to do.
        let _ = socket.socket_mut().set_rx_buf_sz(BUFFER_BYTES);
        socket.socket_mut().send_to(&listen(), &SocketAddr::new(0, 0), 0)?;
        Ok(Self(socket))
    }

    /// The next that the kernel tells; without a connector, never anything.
    pub(crate) async fn hear(connector: &mut Option<Self>) -> io::Result<Vec<Hint>> {
        let Some(Self(socket)) = connector else { return std::future::pending().await };
        let (message, from) = socket.recv_from_full().await?;
        // Anybody may send to a netlink socket; the kernel has number 0.
        Ok(if from.port_number() == 0 { parse(&message) } else { Vec::new() })
    }
}

/// The message that asks.
fn listen() -> Vec<u8> {
    let mut message = Vec::new();
    let length = u32::try_from(NETLINK_HEAD + CONNECTOR_HEAD + 4).unwrap_or_default();
    message.extend(length.to_ne_bytes());
    message.extend(DONE.to_ne_bytes());
    message.extend(0u16.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    message.extend(PROC_INDEX.to_ne_bytes());
    message.extend(PROC_VALUE.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(4u16.to_ne_bytes());
    message.extend(0u16.to_ne_bytes());
    message.extend(LISTEN.to_ne_bytes());
    message
}

/// Reads what came: netlink head, connector head, then `struct proc_event`: what, processor, time (8), and what it is about.
fn parse(mut bytes: &[u8]) -> Vec<Hint> {
    let mut hints = Vec::new();
    while let Some(length) =
        word(bytes, 0).and_then(|length| usize::try_from(length).ok()).filter(|length| *length >= NETLINK_HEAD)
    {
        let Some(message) = bytes.get(..length.min(bytes.len())) else { break };
        hints.extend(hint(message.get(NETLINK_HEAD + CONNECTOR_HEAD..).unwrap_or_default()));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    hints
}

fn hint(event: &[u8]) -> Option<Hint> {
    const ABOUT: usize = 16;
    let (pid, group) = (word(event, ABOUT)?, word(event, ABOUT + 4)?);
    match word(event, 0)? {
        EXEC => Some(Hint::Started(group)),
        // The end of a thread that is not the first is not the end of the process.
        EXIT if pid == group => {
            let status = word(event, ABOUT + 8)?;
            let signal = i32::try_from(status & 0x7f).ok()?;
            let code = i32::try_from(status >> 8 & 0xff).ok()?;
            Some(Hint::Ended { pid, code: if signal == 0 { code } else { 128 + signal } })
        }
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(what: u32, about: &[u32]) -> Vec<u8> {
        let length = u32::try_from(NETLINK_HEAD + CONNECTOR_HEAD + 16 + about.len() * 4).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend([0; NETLINK_HEAD - 4 + CONNECTOR_HEAD]);
        bytes.extend(what.to_ne_bytes());
        bytes.extend([0; 12]);
        about.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
        bytes
    }

    #[test]
    fn what_the_kernel_tells() {
        let exec = message(EXEC, &[11, 10]);
        let exit = message(EXIT, &[10, 10, 3 << 8, 17]);
        let killed = message(EXIT, &[10, 10, 9, 17]);
        assert_eq!(parse(&[exec, exit].concat()), [Hint::Started(10), Hint::Ended { pid: 10, code: 3 }]);
        assert_eq!(parse(&killed), [Hint::Ended { pid: 10, code: 137 }]);
        assert_eq!(parse(&message(EXIT, &[11, 10, 0, 17])), [], "a thread");
        assert_eq!(parse(&message(1, &[11, 10, 12, 12])), [], "a fork");
    }

    #[test]
    fn no_bytes_panic() {
        let whole = message(EXEC, &[11, 10]);
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), []);
        }
        assert_eq!(parse(&[0xff; 64]), []);
        assert_eq!(parse(&[0; 64]), []);
        assert_eq!(listen().len(), 40);
    }
}
