//! The socket of a connection, which stays in reach while HTTP is spoken over it: the hop limit of an answer is set on it.

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::sockopt;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// How long what was sent may stay unacknowledged. An answer that its hop limit did not let through would otherwise be sent
/// again and again for a quarter of an hour, and a container that asks in a loop would pile up such sockets.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Sets what the accepted sockets inherit: two system calls less for each connection.
pub(super) fn prepare(listener: &TcpListener) -> io::Result<()> {
    // Answers are one write each: waiting to fill a segment only delays them.
    sockopt::set_tcp_nodelay(listener, true)?;
    let milliseconds = u32::try_from(ACKNOWLEDGE_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(listener, milliseconds)?;
    Ok(())
}

/// An accepted socket; clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    stream: Arc<TcpStream>,
    packets: Packets,
    /// Hops between the machine and the other end that the kernel will not count.
    hops_so_far: u8,
}

/// What the packets of a socket are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Packets {
    V4,
    V6,
    /// A virtual socket has none that could be forwarded.
    None,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, peer: SocketAddr) -> Self {
        // An IPv4 packet on a socket of both kinds is an IPv4 packet, and obeys the options of that.
        let packets = if peer.ip().to_canonical().is_ipv6() { Packets::V6 } else { Packets::V4 };
        Self { stream: Arc::new(stream), packets, hops_so_far: 0 }
    }

    /// It was accepted inside its machine. The machine's own programs connect from the very address that they connect to;
    /// what comes from elsewhere the machine has let in, which would be a hop if the service were outside.
    pub(super) fn inside(self, peer: SocketAddr) -> Self {
        let is_own = self.stream.local_addr().is_ok_and(|local| local.ip() == peer.ip());
        Self { hops_so_far: u8::from(!is_own), ..self }
    }

    /// How many hops of a limit are used up before the kernel counts.
    pub(super) const fn hops_so_far(&self) -> u8 {
        self.hops_so_far
    }

    /// One whose other end is not on a network.
    pub(super) fn without_hops(stream: TcpStream) -> Self {
        Self { stream: Arc::new(stream), packets: Packets::None, hops_so_far: 0 }
    }

    /// Whether its packets are those of IPv6.
    pub(super) const fn is_ipv6(&self) -> bool {
        matches!(self.packets, Packets::V6)
    }

    /// From now on, what is sent gets over so many hops. It holds for whatever is sent, also again, so nothing but an
    /// answer that ends the connection may follow; and it is never set on a listening socket, whose SYN-ACKs it would hold
    /// back.
    pub(super) fn set_hop_limit(&self, hops: u8) -> io::Result<()> {
        let hops = hops.saturating_sub(self.hops_so_far);
        match self.packets {
            Packets::V4 => sockopt::set_ip_ttl(&*self.stream, hops.into())?,
            Packets::V6 => sockopt::set_ipv6_unicast_hops(&*self.stream, Some(hops))?,
            Packets::None => {}
        }
        Ok(())
    }

    /// Closes it so that the other side sees what it would see if nothing listened here.
    pub(super) fn refuse(self) {
        let _ = sockopt::set_socket_linger(&*self.stream, Some(Duration::ZERO));
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            match self.stream.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(drop)),
            }
        }
    }
}

impl Socket {
    fn poll_try<T>(
        &self,
        context: &mut Context<'_>,
        attempt: impl Fn(&TcpStream) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match attempt(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_try(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try(context, |stream| stream.try_write_vectored(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is held back here.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.stream).shutdown(Shutdown::Write))
    }
}
