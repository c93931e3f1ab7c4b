//! The listening sockets of a pocket.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::SocketType;
use rustix::net::sockopt::{socket_acceptconn, socket_type};

use super::{ENDPOINTS_ADDRESS, METADATA_ADDRESS, METADATA_ADDRESS_IPV6, RESOLVER_ADDRESS, network};

/// The sockets that were opened inside and are served from outside. They do not block.
#[derive(Debug)]
pub struct Sockets {
    /// 169.254.169.254:80, the metadata service.
    pub metadata: TcpListener,
    /// 169.254.169.253:53.
    pub dns_udp: UdpSocket,
    /// 169.254.169.253:53.
    pub dns_tcp: TcpListener,
    /// 169.254.169.252:443, the region's endpoints.
    pub tls: TcpListener,
    /// 169.254.169.252:80, the region's endpoints.
    pub plain: TcpListener,
    /// `[fd00:ec2::254]:80`, the metadata service; none where the kernel has no IPv6.
    pub metadata_ipv6: Option<TcpListener>,
}

/// Descriptors that are not the sockets of a pocket.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// Too few or too many.
    #[error("a pocket has {min} sockets, or {max} with IPv6, and {count} came", min = Sockets::COUNT_MAX - 1, max = Sockets::COUNT_MAX)]
    Count {
        /// How many came.
        count: usize,
    },
    /// One is something else.
    #[error("the socket for {expected} is not what listens there")]
    Foreign {
        /// Where it should be bound.
        expected: SocketAddr,
    },
    /// One cannot be examined.
    #[error("a socket of the pocket cannot be used: {0}")]
    Io(#[from] io::Error),
}

impl Sockets {
    /// How many there are where there is IPv6; elsewhere one less.
    pub const COUNT_MAX: usize = 6;

    const METADATA: SocketAddr = SocketAddr::V4(SocketAddrV4::new(METADATA_ADDRESS, 80));
    const DNS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(RESOLVER_ADDRESS, 53));
    const TLS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(ENDPOINTS_ADDRESS, 443));
    const PLAIN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(ENDPOINTS_ADDRESS, 80));
    const METADATA_IPV6: SocketAddr = SocketAddr::V6(SocketAddrV6::new(METADATA_ADDRESS_IPV6, 80, 0, 0));

    /// Opens them where this thread is.
    pub(super) fn open() -> Result<Self, (SocketAddr, io::Error)> {
        let tcp = |address: SocketAddr| TcpListener::bind(address).map_err(|error| (address, error));
        Ok(Self {
            metadata: tcp(Self::METADATA)?,
            dns_udp: UdpSocket::bind(Self::DNS).map_err(|error| (Self::DNS, error))?,
            dns_tcp: tcp(Self::DNS)?,
            tls: tcp(Self::TLS)?,
            plain: tcp(Self::PLAIN)?,
            metadata_ipv6: if network::has_ipv6() { Some(tcp(Self::METADATA_IPV6)?) } else { None },
        })
    }

    /// In the order in which they travel.
    #[must_use]
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let Self { metadata, dns_udp, dns_tcp, tls, plain, metadata_ipv6 } = self;
        let always = [metadata.as_fd(), dns_udp.as_fd(), dns_tcp.as_fd(), tls.as_fd(), plain.as_fd()];
        always.into_iter().chain(metadata_ipv6.as_ref().map(AsFd::as_fd)).collect()
    }

    /// From descriptors that came from another process, each checked to be what its place says.
    ///
    /// # Errors
    /// See [`SocketsError`].
    pub fn from_descriptors(mut descriptors: Vec<OwnedFd>) -> Result<Self, SocketsError> {
        let count = descriptors.len();
        let metadata_ipv6 = if count == Self::COUNT_MAX { descriptors.pop() } else { None };
        let Ok([metadata, dns_udp, dns_tcp, tls, plain]) = <[OwnedFd; Self::COUNT_MAX - 1]>::try_from(descriptors)
        else {
            return Err(SocketsError::Count { count });
        };
        Ok(Self {
            metadata: tcp(metadata, Self::METADATA)?,
            dns_udp: udp(dns_udp, Self::DNS)?,
            dns_tcp: tcp(dns_tcp, Self::DNS)?,
            tls: tcp(tls, Self::TLS)?,
            plain: tcp(plain, Self::PLAIN)?,
            metadata_ipv6: metadata_ipv6.map(|socket| tcp(socket, Self::METADATA_IPV6)).transpose()?,
        })
    }
}

fn tcp(descriptor: OwnedFd, expected: SocketAddr) -> Result<TcpListener, SocketsError> {
    let listens = socket_type(&descriptor).is_ok_and(|kind| kind == SocketType::STREAM)
        && socket_acceptconn(&descriptor).unwrap_or(false);
    let listener = TcpListener::from(descriptor);
    if !listens || listener.local_addr().ok() != Some(expected) {
        return Err(SocketsError::Foreign { expected });
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn udp(descriptor: OwnedFd, expected: SocketAddr) -> Result<UdpSocket, SocketsError> {
    let datagrams = socket_type(&descriptor).is_ok_and(|kind| kind == SocketType::DGRAM);
    let socket = UdpSocket::from(descriptor);
    if !datagrams || socket.local_addr().ok() != Some(expected) {
        return Err(SocketsError::Foreign { expected });
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anything(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap())).collect()
    }

    #[test]
    fn five_or_six_and_no_other_number() {
        for count in [0, 4, 7] {
            assert!(
                matches!(Sockets::from_descriptors(anything(count)), Err(SocketsError::Count { count: c }) if c == count)
            );
        }
    }

    #[test]
    fn sockets_bound_elsewhere_and_files_are_refused() {
        for count in [5, 6] {
            let error = Sockets::from_descriptors(anything(count)).unwrap_err();
            assert_eq!(error.to_string(), "the socket for 169.254.169.254:80 is not what listens there");
        }
        let files = (0..5).map(|_| OwnedFd::from(std::fs::File::open("/dev/null").unwrap())).collect();
        assert!(matches!(Sockets::from_descriptors(files), Err(SocketsError::Foreign { .. })));
    }

    #[test]
    fn a_socket_must_be_of_its_kind_and_listen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let client_address = client.local_addr().unwrap();
        assert!(tcp(client.into(), client_address).is_err(), "connected, not listening");
        assert!(udp(listener.try_clone().unwrap().into(), address).is_err(), "a stream socket");
        assert!(tcp(listener.into(), address).is_ok());
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = datagrams.local_addr().unwrap();
        assert!(tcp(datagrams.try_clone().unwrap().into(), address).is_err());
        assert!(udp(datagrams.into(), address).is_ok());
    }
}
