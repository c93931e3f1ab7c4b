//! The sockets from where a machine at a place is reached.

use std::net::Ipv4Addr;

use tokio::net::TcpSocket;

use super::{Holder, Mark, Place, PlaceError, Traces, interface, namespace};

/// A socket from where the machine `holder` is reached at `address`, if the thing at its place still has this mark. It leads
/// to nobody else. What it had to add to the kernel's network state is in `traces`, also if it fails.
pub(crate) async fn socket(
    address: Ipv4Addr,
    mark: &Mark,
    holder: &Holder,
    traces: &Traces,
) -> Result<TcpSocket, PlaceError> {
    let place = &holder.place;
    let absent = || PlaceError::Absent { place: place.clone() };
    let is_there = || Ok::<_, PlaceError>(place.mark()?.as_ref() == Some(mark));
    if !is_there()? {
        return Err(absent());
    }
    let socket = match place {
        Place::Namespace { .. } | Place::Process { .. } => namespace::socket(place, address, holder, traces).await?,
        Place::Interface { name } => interface::socket(name, address).await?,
        Place::Vsock { .. } => {
            let reason = "vsock has no addresses of TCP".to_owned();
            return Err(PlaceError::Unfit { place: place.clone(), reason });
        }
    };
    // The name may have come to mean another thing meanwhile, and nobody knows which of the two was entered.
    if !is_there()? {
        return Err(absent());
    }
    let failed = |source| PlaceError::Io { what: format!("cannot reach {place}"), source };
    socket.set_nonblocking(true).map_err(failed)?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}
