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
    is_ipv6: bool,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, peer: SocketAddr) -> Self {
        // An IPv4 packet on a socket of both kinds is an IPv4 packet, and obeys the options of that.
        Self { stream: Arc::new(stream), is_ipv6: peer.ip().to_canonical().is_ipv6() }
    }

    /// Whether its packets are those of IPv6.
    pub(super) const fn is_ipv6(&self) -> bool {
        self.is_ipv6
    }

    /// From now on, what is sent gets over so many hops. It holds for whatever is sent, also again, so nothing but an
    /// answer that ends the connection may follow; and it is never set on a listening socket, whose SYN-ACKs it would hold
    /// back.
    pub(super) fn set_hop_limit(&self, hops: u8) -> io::Result<()> {
        if self.is_ipv6 {
            sockopt::set_ipv6_unicast_hops(&*self.stream, Some(hops))?;
        } else {
            sockopt::set_ip_ttl(&*self.stream, hops.into())?;
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
