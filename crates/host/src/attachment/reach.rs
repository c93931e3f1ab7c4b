//! The way to a machine for those who are let in: from where it is attached, to the address that it has, and to nothing else.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use inborn_identity::InstanceId;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Host;
use crate::place::{PlaceError, socket};

/// How long a machine may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// A connection to a machine.
#[derive(Debug)]
pub struct Reached {
    /// The connection.
    pub stream: TcpStream,
    attached: watch::Receiver<bool>,
}

impl Reached {
    /// The connection, and what completes when the machine is no longer attached where it was.
    pub fn into_parts(self) -> (TcpStream, impl Future<Output = ()> + Send + use<>) {
        let Self { stream, mut attached } = self;
        (stream, async move { inborn_listener::stopped(&mut attached).await })
    }
}

/// Why a machine is not reached.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// It is attached to nothing, or in no way by which it could be reached.
    #[error("the instance is not attached to a network namespace or an interface")]
    NoWay,
    /// Its private address means something else wherever it is used: this computer, everybody, nobody.
    #[error("the private address {address} is not one that a machine can have")]
    Address {
        /// The address.
        address: Ipv4Addr,
    },
    /// Its place cannot be used.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// It does not take the connection.
    #[error("port {port}: {source}")]
    Connect {
        /// The port.
        port: u16,
        /// The kernel's word.
        source: std::io::Error,
    },
    /// It says nothing.
    #[error("port {port}: no answer from the instance; does it have its private address?")]
    Silent {
        /// The port.
        port: u16,
    },
}

/// Whether an address leads to one machine. A launcher chooses it, and `0.0.0.0` would be this computer itself.
const fn is_for_machines(address: Ipv4Addr) -> bool {
    let is_special = address.is_unspecified() || address.is_loopback() || address.is_link_local();
    !(is_special || address.is_multicast() || address.is_broadcast() || address.octets()[0] == 0)
}

impl Host {
    /// Connects to a TCP port of a machine that runs, at the private address that its region gave it.
    ///
    /// # Errors
    /// See [`Unreachable`].
    pub async fn reach(&self, instance: InstanceId, port: u16) -> Result<Reached, Unreachable> {
        let (socket, address, attached) = {
            // In turn: what a place is given is taken away by whoever comes after.
            let _turn = self.places.turn.lock().await;
            let attachment = self.lock().get(&instance).cloned().ok_or(Unreachable::NoWay)?;
            let machine = attachment.machine();
            let holder = attachment.holder().ok_or(Unreachable::NoWay)?;
            let (mark, attached) = {
                let serving = attachment.serving();
                (serving.mark.clone(), serving.stop.as_ref().map(watch::Sender::subscribe))
            };
            let (Some(mark), Some(attached), Some(address)) = (mark, attached, machine.address()) else {
                return Err(Unreachable::NoWay);
            };
            if !is_for_machines(address) {
                return Err(Unreachable::Address { address });
            }
            let socket = socket(address, &mark, &holder, &self.places.traces).await?;
            (socket, SocketAddr::from((address, port)), attached)
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, socket.connect(address)).await {
            Ok(Ok(stream)) => Ok(Reached { stream, attached }),
            Ok(Err(source)) => Err(Unreachable::Connect { port, source }),
            Err(_) => Err(Unreachable::Silent { port }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_mean_something_else_are_no_machines() {
        for address in ["10.0.0.1", "172.16.0.1", "192.168.7.7", "100.64.0.1", "203.0.113.9"] {
            assert!(is_for_machines(address.parse().unwrap()), "{address}");
        }
        for address in
            ["0.0.0.0", "0.0.0.1", "127.0.0.1", "127.9.9.9", "169.254.169.254", "224.0.0.1", "255.255.255.255"]
        {
            assert!(!is_for_machines(address.parse().unwrap()), "{address}");
        }
    }
}
