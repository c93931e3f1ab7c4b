//! Virtual machines that ask over vsock: one socket hears them all, and the context id at the other end of a connection
//! says which one it is.

use std::sync::{Arc, Mutex};

use inborn_listener::back_off;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{Attached, Host, Kind, Machines, lock};
use crate::metadata::{self, Service};
use crate::place::{Place, PlaceError, VsockSocket};

/// A task that ends with its owner.
#[derive(Debug)]
pub(super) struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Host {
    /// Listens for virtual machines, if that is not done already. Called in turn.
    pub(super) fn hear_virtual_machines(&self) -> Result<(), PlaceError> {
        if self.places.virtual_machines.get().is_none() {
            let hearing = hear(VsockSocket::open()?, Arc::clone(&self.attached), Arc::clone(&self.service));
            let _ = self.places.virtual_machines.set(AbortOnDrop(tokio::spawn(hearing)));
        }
        Ok(())
    }
}

async fn hear(socket: VsockSocket, attached: Arc<Mutex<Machines>>, service: Arc<Service>) {
    loop {
        match socket.accept().await {
            Ok((stream, cid)) => admit(stream, cid, &attached, &service),
            Err(error) => back_off(&error).await,
        }
    }
}

/// Answers a connection as the machine with this context id; one that is no machine's is closed.
fn admit(stream: TcpStream, cid: u32, attached: &Mutex<Machines>, service: &Arc<Service>) {
    let machine = lock(attached).values().find(|attached| is_at(attached, cid)).cloned();
    let stopping = machine.as_ref().and_then(|machine| Some(machine.serving().stop.as_ref()?.subscribe()));
    let (Some(machine), Some(stopping)) = (machine, stopping) else {
        tracing::debug!(cid, "a virtual machine that is not attached");
        return;
    };
    tokio::spawn(metadata::serve_stream(stream, machine, Arc::clone(service), stopping));
}

fn is_at(attached: &Attached, cid: u32) -> bool {
    attached.kind == Kind::At(Place::Vsock { cid })
}

#[cfg(test)]
mod tests {
    use super::*;
    use inborn_identity::{HttpTokens, InstanceId, MetadataOptions};
    use inborn_testkit::ManualClock;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use crate::Metrics;
    use crate::machine::tests::{NOW, numbered, region};

    /// What a virtual machine with this context id is answered. Only the address of a virtual socket differs from others
    /// here, and a kernel without a loopback of virtual sockets cannot be asked at one.
    async fn ask(host: &Host, cid: u32) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        admit(stream, cid, &host.attached, &host.service);
        let request = b"GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let _ = client.write_all(request).await;
        let mut answer = String::new();
        let _ = client.read_to_string(&mut answer).await;
        answer
    }

    #[tokio::test]
    async fn a_context_id_is_one_machine_and_others_are_nobody() {
        let host = Host::new(Arc::new(ManualClock::new(NOW)), Arc::new(region()), Metrics::default()).unwrap();
        let attach = |n: u8, cid: u32| {
            let options = MetadataOptions { http_tokens: HttpTokens::Optional, ..MetadataOptions::default() };
            let attached = host.insert(numbered(n, options), Kind::At(Place::Vsock { cid }), false);
            attached.serve([], None, &host.service);
        };
        attach(1, 3);
        attach(2, 4);
        let id = |n: u8| InstanceId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, n]);
        for (cid, n) in [(3, 1), (4, 2)] {
            assert!(ask(&host, cid).await.ends_with(&format!("\r\n\r\n{}", id(n))), "context {cid}");
        }
        assert_eq!(ask(&host, 5).await, "", "nobody's");
        host.detach(id(1));
        assert_eq!(ask(&host, 3).await, "", "detached");
        attach(2, 3);
        assert!(ask(&host, 3).await.ends_with(&id(2).to_string()), "another machine's now");
        assert_eq!(ask(&host, 4).await, "", "a machine has one attachment");
    }
}
