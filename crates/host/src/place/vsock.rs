//! Virtual sockets: one listening socket for all virtual machines of this computer. Which one asks is told by the context
//! id at the other end, which the hypervisor gives and a guest cannot choose.

use std::io;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::error::NEEDS_VSOCK;
use super::namespace::BACKLOG;
use super::{PlaceError, VSOCK_PORT};

/// `VMADDR_CID_ANY`. Source: vsock(7).
const ANY: u32 = u32::MAX;

/// The listening socket.
///
/// Tokio knows no virtual sockets. Its TCP stream asks nothing of the address family: it waits, reads and writes, which is
/// the same for every stream socket.
#[derive(Debug)]
pub(crate) struct VsockSocket(TcpStream);

impl VsockSocket {
    /// Listens at [`VSOCK_PORT`].
    pub(crate) fn open() -> Result<Self, PlaceError> {
        let what = format!("cannot listen at vsock port {VSOCK_PORT}");
        let address = SockAddr::vsock(ANY, VSOCK_PORT);
        listen(Domain::VSOCK, &address).map(Self).map_err(|error| PlaceError::of(what, NEEDS_VSOCK, error))
    }

    /// The next connection, and the context id at its other end.
    pub(crate) async fn accept(&self) -> io::Result<(TcpStream, u32)> {
        let (stream, peer) = accept(&self.0).await?;
        let (cid, _port) = peer.as_vsock_address().ok_or(io::ErrorKind::InvalidData)?;
        Ok((stream, cid))
    }
}

fn listen(domain: Domain, address: &SockAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?;
    adopt(socket)
}

async fn accept(listening: &TcpStream) -> io::Result<(TcpStream, SockAddr)> {
    let (socket, peer) = listening.async_io(Interest::READABLE, || SockRef::from(listening).accept()).await?;
    Ok((adopt(socket)?, peer))
}

fn adopt(socket: Socket) -> io::Result<TcpStream> {
    socket.set_nonblocking(true)?;
    TcpStream::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Only a virtual machine can ask at a virtual socket, unless the kernel has a loopback of them. Over Unix sockets, which
    /// tokio's TCP stream knows as little of, everything but the address is the same.
    #[tokio::test]
    async fn connections_are_accepted_and_carry_bytes_both_ways() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listening = listen(Domain::UNIX, &SockAddr::unix(&path).unwrap()).unwrap();
        let large = vec![7; 1_000_000];
        let sent = large.clone();
        let asking = tokio::spawn(async move {
            let mut client = tokio::net::UnixStream::connect(path).await.unwrap();
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        });
        let (mut stream, peer) = accept(&listening).await.unwrap();
        assert!(peer.as_vsock_address().is_none());
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        assert!(received == large);
        stream.write_all(b"done").await.unwrap();
        drop(stream);
        assert_eq!(asking.await.unwrap(), "done");
    }

    #[tokio::test]
    async fn one_process_listens_at_the_port() {
        let Ok(listening) = VsockSocket::open() else {
            // A kernel without virtual sockets, or a user who may not use low ports.
            return;
        };
        let error = VsockSocket::open().unwrap_err().to_string();
        assert!(error.starts_with("cannot listen at vsock port 80: "), "{error}");
        drop(listening);
    }
}
