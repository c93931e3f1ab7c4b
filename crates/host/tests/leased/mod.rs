//! A pocket whose sockets are handed to another process's server, here one of this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use inborn_host::control::{
    Attachment, BoxFuture, ControlClient, ControlError, ControlSocket, Handler, Lease, PocketRequest, Refusal,
};
use inborn_host::place::Place;
use inborn_host::pocket::signals::Signals;
use inborn_host::pocket::{Network, Pocket, Sockets};
use inborn_identity::{InstanceId, MacAddress};
use tokio::sync::watch;

use crate::{block_on, inside_command, plan, serve, this_program};

/// Serves the sockets that it is given; knows one instance.
struct Host {
    ended: Arc<AtomicBool>,
}

struct Served {
    ended: Arc<AtomicBool>,
    _serving: watch::Sender<bool>,
}

impl Handler for Host {
    fn attach_loopback(&self, _: InstanceId, _: Option<u16>) -> BoxFuture<'_, Result<u16, Refusal>> {
        Box::pin(async { Err(Refusal("not here".to_owned())) })
    }

    fn attach(&self, _: InstanceId, _: Place, _: bool, _: Option<MacAddress>) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async { Err(Refusal("not here".to_owned())) })
    }

    fn attach_pocket(&self, pocket: PocketRequest, sockets: Sockets) -> BoxFuture<'_, Result<Box<dyn Lease>, Refusal>> {
        Box::pin(async move {
            if pocket.instance != plan(vec![]).instance {
                return Err(Refusal(format!("there is no machine {}", pocket.instance)));
            }
            Ok(Box::new(Served { ended: Arc::clone(&self.ended), _serving: serve(sockets) }) as Box<dyn Lease>)
        })
    }

    fn attachments(&self) -> BoxFuture<'_, Vec<Attachment>> {
        Box::pin(async { Vec::new() })
    }

    fn detach(&self, _: InstanceId) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async { Ok(()) })
    }
}

impl Lease for Served {
    fn end(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.ended.store(true, Ordering::SeqCst) })
    }
}

fn request(instance: InstanceId) -> PocketRequest {
    PocketRequest { instance, region: plan(vec![]).region, domain: "amazonaws.com".to_owned(), world: false }
}

pub(crate) fn a_pocket_on_a_lease() {
    let directory = tempfile::tempdir().unwrap();
    block_on(async {
        let ended = Arc::new(AtomicBool::new(false));
        let has_ended = || ended.load(Ordering::SeqCst);
        let (stop, stopping) = watch::channel(false);
        let socket = ControlSocket::bind(directory.path()).unwrap();
        let serving = tokio::spawn(socket.serve(Arc::new(Host { ended: Arc::clone(&ended) }), stopping));

        let client = ControlClient::new(directory.path());
        let (pocket, sockets) =
            Pocket::open(&this_program(), &inside_command(&["metadata"]), Network::None, None).await.unwrap();
        let unknown = client.attach_pocket(request(InstanceId::from_bytes([1; 9])), &sockets).await.unwrap_err();
        assert!(matches!(unknown, ControlError::Refused { .. }), "{unknown}");
        let lease = client.attach_pocket(request(plan(vec![]).instance), &sockets).await.unwrap();
        drop(sockets);
        let mut running = pocket.go(&plan(vec![])).await.unwrap();
        let status = running.wait(&mut Signals::catch(false).unwrap(), None).await.unwrap();
        assert_eq!(status.code(), Some(42), "the checks inside failed: {status}");
        assert!(!has_ended(), "the lease outlives the command");
        drop(lease);
        for _ in 0..500 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if has_ended() {
                break;
            }
        }
        assert!(has_ended(), "the machine outlives its lease");

        // A server that stops ends its leases, and their holders notice.
        ended.store(false, Ordering::SeqCst);
        let (_pocket, sockets) =
            Pocket::open(&this_program(), &inside_command(&["metadata"]), Network::None, None).await.unwrap();
        let mut lease = client.attach_pocket(request(plan(vec![]).instance), &sockets).await.unwrap();
        stop.send(true).unwrap();
        tokio::time::timeout(Duration::from_secs(5), lease.lost()).await.unwrap();
        serving.await.unwrap();
        assert!(has_ended());
    });
}
