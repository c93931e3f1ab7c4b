//! The side of `inborn up`.

use std::fs::{self, File, Permissions};
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use inborn_identity::{InstanceId, MacAddress};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::message::{Answer, Attachment, HostStatus, PocketRequest, Request};
use super::{CONNECTIONS_MAX, REQUEST_BYTES_MAX, REQUEST_TIMEOUT, SOCKET_NAME, open_directory, path_in};
use crate::passing::Channel;
use crate::place::Place;
use crate::pocket::Sockets;

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a request was not granted: a sentence for the person at the command line. It may hold no secret.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// What serves the requests. Each future may be dropped when the client goes away or the server stops.
pub trait Handler: Send + Sync + 'static {
    /// Gives a launched instance this metadata port on 127.0.0.1, or any, and answers which.
    fn attach_loopback(&self, instance: InstanceId, port: Option<u16>) -> BoxFuture<'_, Result<u16, Refusal>>;

    /// Answers for a launched instance at the place where it is; with `once`, until what is there now has gone. Its
    /// own interface is looked for there, unless it is told.
    fn attach(
        &self,
        instance: InstanceId,
        place: Place,
        once: bool,
        mac: Option<MacAddress>,
    ) -> BoxFuture<'_, Result<(), Refusal>>;

    /// Serves the sockets of a pocket as the machine that they belong to.
    fn attach_pocket(&self, pocket: PocketRequest, sockets: Sockets) -> BoxFuture<'_, Result<Box<dyn Lease>, Refusal>>;

    /// All machines that are attached.
    fn attachments(&self) -> BoxFuture<'_, Vec<Attachment>>;

    /// What a host apart from its region knows of it.
    fn status(&self) -> BoxFuture<'_, Result<HostStatus, Refusal>> {
        Box::pin(async { Err(Refusal("this is no host apart from its region: see `inborn ps`".to_owned())) })
    }

    /// Stops answering for a machine.
    fn detach(&self, instance: InstanceId) -> BoxFuture<'_, Result<(), Refusal>>;
}

/// A machine whose life is that of a connection.
pub trait Lease: Send {
    /// Terminates the machine. Called exactly once, when the connection has ended or the server stops.
    fn end(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// The listening control socket of a data directory. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    directory: File,
}

/// How long to wait when a connection cannot be taken for a reason that passes.
const BACK_OFF: Duration = Duration::from_millis(50);

impl ControlSocket {
    /// Listens in `directory`, in place of a socket that a dead server may have left there. The caller holds the lock of
    /// the data directory, so that there is no living one.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn bind(directory: &Path) -> io::Result<Self> {
        let directory = open_directory(directory)?;
        // Under another name until its mode is right: nobody can connect before.
        let fresh = path_in(&directory, &format!("{SOCKET_NAME}.new"));
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&fresh)?;
        fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
        fs::rename(&fresh, path_in(&directory, SOCKET_NAME))?;
        Ok(Self { listener, directory })
    }

    /// Serves requests until `stop` turns true or its sender is gone; returns when every lease has been ended.
    pub async fn serve(self, handler: Arc<dyn Handler>, mut stop: watch::Receiver<bool>) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                // Takes the results of connections that have ended.
                Some(_) = connections.join_next() => continue,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(BACK_OFF).await;
                continue;
            };
            let (handler, stop, permit) = (Arc::clone(&handler), stop.clone(), Arc::clone(&room).try_acquire_owned());
            if is_own(&stream) {
                connections.spawn(async move {
                    let full = permit.is_err();
                    converse(Channel::new(stream), handler, stop, full).await;
                    drop(permit);
                });
            }
        }
        drop(self);
        while connections.join_next().await.is_some() {}
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(path_in(&self.directory, SOCKET_NAME));
    }
}

/// Whether the other side is this user or root. Others are not answered at all.
fn is_own(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

/// One request, one answer, and for a pocket the rest of its life.
async fn converse(mut channel: Channel, handler: Arc<dyn Handler>, mut stop: watch::Receiver<bool>, full: bool) {
    let (answer, lease) = tokio::select! {
        answered = answer(&mut channel, handler.as_ref(), full) => match answered {
            Some(answered) => answered,
            None => return,
        },
        _ = stop.wait_for(|stop| *stop) => return,
    };
    let sent = matches!(timeout(REQUEST_TIMEOUT, channel.send(&answer, &[])).await, Ok(Ok(())));
    if let Some(lease) = lease {
        if sent {
            tokio::select! {
                () = channel.closed() => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
        lease.end().await;
    }
}

/// What to answer to the request on the channel; nothing to a client that has said nothing.
async fn answer(channel: &mut Channel, handler: &dyn Handler, full: bool) -> Option<(Answer, Option<Box<dyn Lease>>)> {
    let refused = |reason: String| Some((Answer::Refused { reason }, None));
    let (request, descriptors) = match timeout(REQUEST_TIMEOUT, channel.receive(REQUEST_BYTES_MAX)).await {
        Ok(Ok(Some(request))) => request,
        Ok(Ok(None)) => return None,
        Ok(Err(error)) => return refused(error.to_string()),
        Err(_) => return refused("the request did not come in time".to_owned()),
    };
    if full {
        return refused(format!("more than {CONNECTIONS_MAX} connections: end some `inborn run` first"));
    }
    if !matches!(request, Request::AttachPocket(_)) && !descriptors.is_empty() {
        return refused("this request carries no file descriptors".to_owned());
    }
    let answer = match request {
        Request::AttachPocket(pocket) => {
            let sockets = match Sockets::from_descriptors(descriptors) {
                Ok(sockets) => sockets,
                Err(error) => return refused(error.to_string()),
            };
            return match handler.attach_pocket(pocket, sockets).await {
                Ok(lease) => Some((Answer::Attached, Some(lease))),
                Err(Refusal(reason)) => refused(reason),
            };
        }
        Request::AttachLoopback { instance, port } => {
            handler.attach_loopback(instance, port).await.map(|port| Answer::Loopback { port })
        }
        Request::Attach { instance, place, once, mac } => {
            handler.attach(instance, place, once, mac).await.map(|()| Answer::Attached)
        }
        Request::Attachments {} => Ok(Answer::Attachments { attachments: handler.attachments().await }),
        Request::Status {} => handler.status().await.map(Answer::Status),
        Request::Detach { instance } => handler.detach(instance).await.map(|()| Answer::Detached),
    };
    Some((answer.unwrap_or_else(|Refusal(reason)| Answer::Refused { reason }), None))
}
