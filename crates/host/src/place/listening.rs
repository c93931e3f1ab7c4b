//! The listening sockets of a place.

use std::net::TcpListener as StdTcpListener;

use tokio::net::TcpListener;

use super::{Holder, Mark, Place, PlaceError, Traces, VSOCK_CID_MIN, interface, namespace};

/// What listens at a place, and which thing of its name that is.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) mark: Mark,
    /// IPv4 first; IPv6 where the place has it.
    pub(crate) listeners: Vec<TcpListener>,
}

/// Listens at `place` for the machine `holder`. What it had to add to the kernel's network state is in `traces`, also if
/// it fails.
pub(crate) async fn open(place: &Place, holder: &Holder, traces: &Traces) -> Result<Listening, PlaceError> {
    let absent = || PlaceError::Absent { place: place.clone() };
    let mark = place.mark()?.ok_or_else(absent)?;
    let listeners = match place {
        Place::Namespace { .. } | Place::Process { .. } => namespace::open(place, holder, traces).await?,
        Place::Interface { name } => interface::open(name, holder, traces).await?,
        // The ids below are the hypervisor's, this computer's loopback and its host.
        Place::Vsock { cid } if *cid < VSOCK_CID_MIN => return Err(PlaceError::Own { place: place.clone() }),
        // One socket hears all virtual machines; see `VsockSocket`.
        Place::Vsock { .. } => Vec::new(),
    };
    // The name may have come to mean another thing meanwhile, and nobody knows which of the two was opened.
    if place.mark()? != Some(mark.clone()) {
        return Err(absent());
    }
    let adopt = |listener: StdTcpListener| {
        TcpListener::from_std(listener)
            .map_err(|source| PlaceError::Io { what: format!("cannot listen at {place}"), source })
    };
    let listeners = listeners.into_iter().map(adopt).collect::<Result<_, _>>()?;
    Ok(Listening { mark, listeners })
}

#[cfg(test)]
mod tests {
    use super::*;
    use inborn_identity::InstanceId;

    #[tokio::test]
    async fn context_ids_below_at_and_above_the_first_of_a_virtual_machine() {
        for cid in 0..=VSOCK_CID_MIN + 1 {
            let place = Place::Vsock { cid };
            let holder = Holder { instance: InstanceId::from_bytes([1; 9]), place: place.clone() };
            match open(&place, &holder, &Traces::default()).await {
                Ok(_) => assert!(cid >= VSOCK_CID_MIN, "{cid}"),
                Err(error) => assert!(cid < VSOCK_CID_MIN && matches!(error, PlaceError::Own { .. }), "{cid}: {error}"),
            }
        }
    }
}
