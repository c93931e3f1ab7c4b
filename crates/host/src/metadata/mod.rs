//! The metadata service of one machine, on the listening sockets of its attachment.
//!
//! Each socket has an accept loop ([`serve`]), and each connection a task. How much one machine may ask is counted for all
//! its sockets together, in its [`Load`]: a machine that asks for more waits, first for its turns, then in the queue of the
//! kernel, and no other machine waits with it.

mod answer;
mod load;
mod socket;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use inborn_identity::Clock;
use inborn_imds::TokenKey;
use inborn_listener::{HeaderNames, Limits, back_off, stopped};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::attachment::Attached;
use answer::Dates;
pub(crate) use load::Load;
pub use load::MetadataLimits;
use load::Turn;
use socket::Socket;

/// Header fields of a request; more is 431.
const HEADER_COUNT_MAX: usize = 64;
/// Bytes of a request's line and header fields; more is 431.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long a guest may take to send the head of a request, or to begin another one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What the machines of a host have in common.
pub(crate) struct Service {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) token_key: TokenKey,
    dates: Dates,
}

impl Service {
    pub(crate) fn new(clock: Arc<dyn Clock>, token_key: TokenKey) -> Self {
        Self { clock, token_key, dates: Dates::default() }
    }
}

/// Serves one listening socket of an attachment until `stopping` turns true or its sender is gone. An attachment may have
/// several, one for each address family; what is counted for a machine is counted in its [`Attached`], for all of them.
pub(crate) async fn serve(
    listener: TcpListener,
    attached: Arc<Attached>,
    service: Arc<Service>,
    mut stopping: watch::Receiver<bool>,
) {
    if let Err(error) = socket::prepare(&listener) {
        tracing::error!(instance = %attached.machine().id(), %error, "the metadata socket cannot be used");
        return;
    }
    loop {
        let (socket, place) = tokio::select! {
            biased;
            () = stopped(&mut stopping) => break,
            admitted = admit(&listener, &attached) => admitted,
        };
        if socket.is_ipv6() && !attached.machine().answers_over_ipv6() {
            socket.refuse();
            continue;
        }
        let conversation = Conversation { socket, attached: Arc::clone(&attached), service: Arc::clone(&service) };
        tokio::spawn(conversation.hold(stopping.clone(), place));
    }
}

/// Serves a connection that was accepted elsewhere and knows no hops: that of a virtual machine.
pub(crate) async fn serve_stream(
    stream: TcpStream,
    attached: Arc<Attached>,
    service: Arc<Service>,
    stopping: watch::Receiver<bool>,
) {
    // All virtual machines have one queue in the kernel, so nobody may wait there for others.
    let place = tokio::select! {
        biased;
        place = attached.load().place() => place,
        () = std::future::ready(()) => return,
    };
    if turn(&attached).await.is_ok() {
        Conversation { socket: Socket::without_hops(stream), attached, service }.hold(stopping, place).await;
    }
}

/// Takes the next connection when the machine has a place for it and its turn has come. Until then it waits in the queue of
/// the kernel, which drops what does not fit: to a guest that asks too much this looks as it does on EC2.
async fn admit(listener: &TcpListener, attached: &Attached) -> (Socket, OwnedSemaphorePermit) {
    loop {
        let place = attached.load().place().await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                // The turn of the first request, and of a connection that asks nothing.
                while turn(attached).await.is_err() {}
                let socket = Socket::new(stream, peer);
                return (if attached.is_inside() { socket.inside(peer) } else { socket }, place);
            }
            Err(error) => back_off(&error).await,
        }
    }
}

/// A request whose turn would come too late.
struct TooMany;

/// Waits for the turn of the machine's next request.
async fn turn(attached: &Attached) -> Result<(), TooMany> {
    let (wait, turn) = match attached.load().turn() {
        Turn::Now => return Ok(()),
        Turn::After(wait) => (wait, Ok(())),
        Turn::RefusedAfter(wait) => (wait, Err(TooMany)),
    };
    attached.metrics().count_throttled(turn.is_err());
    tokio::time::sleep(wait).await;
    turn
}

/// One connection of one machine.
struct Conversation {
    socket: Socket,
    attached: Arc<Attached>,
    service: Arc<Service>,
}

impl Conversation {
    /// Answers until the guest has no more to ask.
    async fn hold(self, stopping: watch::Receiver<bool>, place: OwnedSemaphorePermit) {
        const LIMITS: Limits = Limits {
            header_count_max: HEADER_COUNT_MAX,
            head_bytes_max: HEAD_BYTES_MAX,
            head_timeout: HEAD_TIMEOUT,
            ..Limits::DEFAULT
        };
        let _open = self.attached.metrics().open_connection();
        let conversation = Arc::new(self);
        let socket = conversation.socket.clone();
        let is_first = Cell::new(true);
        let respond = move |request: Request<Incoming>| {
            let (conversation, is_first) = (Arc::clone(&conversation), is_first.replace(false));
            async move {
                if !is_first && turn(&conversation.attached).await.is_err() {
                    return Ok(conversation.too_many());
                }
                // A machine's first program may ask for a signature while it is being made.
                if request.uri().path().contains("/instance-identity/") {
                    conversation.attached.machine().document().is_signed_soon().await;
                }
                conversation.answer(&request)
            }
        };
        if let Err(error) = inborn_listener::exchange(socket, &LIMITS, HeaderNames::TitleCase, stopping, respond).await
        {
            tracing::debug!(%error, "metadata connection ended");
        }
        drop(place);
    }
}
