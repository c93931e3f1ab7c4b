//! Tunnels: TCP connections to machines that clients reach by a WebSocket.
//!
//! A region does not know where machines are. Whoever attaches them does, and tells it by [`Reach`]: the region names a
//! machine and a port, never an address, so that a tunnel leads to that machine or nowhere.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use inborn_identity::InstanceId;
use inborn_store::Instance;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::RegionServer;
use crate::gateway::{Handshake, Socket};

/// The longest message of a client. Source: what the AWS CLI sends at most.
const MESSAGE_BYTES_MAX: usize = 65_000;
/// Tunnels to one machine at a time. Source: EC2 user guide; there it is for each endpoint.
const OF_MACHINE_MAX: usize = 20;
/// Tunnels at a time: each takes two descriptors and some [`WINDOW_BYTES`] of memory for each way.
const TUNNELS_MAX: usize = 2_000;
/// Bytes that are read from a machine at a time, and of what waits to be written to a client.
const WINDOW_BYTES: usize = 32 * 1024;
/// How long a machine may take to accept the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an end may take to learn that the other one has ended.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);
/// What somebody is told whose server reaches no machine.
const NO_WAY: &str = "this server reaches no machines. Use `inborn shell`, or your own network";
/// Bytes of the reason in a close frame. Source: RFC 6455, section 5.5: 125 with the code.
const REASON_BYTES_MAX: usize = 123;

/// A connection to a machine.
pub struct Reached {
    /// The connection.
    pub stream: TcpStream,
    /// Completes when the machine is no longer where it was reached.
    pub gone: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl core::fmt::Debug for Reached {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Reached").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// Why a machine is not reached, for the person who asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(pub String);

/// Knows the way to machines.
pub trait Reach: Send + Sync + 'static {
    /// Connects to a TCP port of a machine that runs: at its own address, by the way that leads to nothing else.
    fn reach(
        &self,
        instance: InstanceId,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = Result<Reached, Unreachable>> + Send + '_>>;
}

/// The tunnels of a region.
#[derive(Default)]
pub(crate) struct Tunnels {
    reach: OnceLock<Arc<dyn Reach>>,
    open: Arc<Mutex<HashMap<InstanceId, usize>>>,
}

/// A place among the tunnels, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    open: Arc<Mutex<HashMap<InstanceId, usize>>>,
    instance: InstanceId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        if let Some(count) = open.get_mut(&self.instance) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.instance);
            }
        }
    }
}

impl Tunnels {
    pub(crate) fn reach_by(&self, reach: Arc<dyn Reach>) {
        let _ = self.reach.set(reach);
    }

    /// A place for one more tunnel to this machine, if there is one.
    pub(crate) fn place(&self, instance: InstanceId) -> Option<Place> {
        let mut open = lock(&self.open);
        if open.values().sum::<usize>() >= TUNNELS_MAX {
            return None;
        }
        let count = open.entry(instance).or_default();
        if *count >= OF_MACHINE_MAX {
            return None;
        }
        *count += 1;
        Some(Place { open: Arc::clone(&self.open), instance })
    }

    async fn connect(&self, instance: InstanceId, port: u16) -> Result<Reached, Unreachable> {
        let reach = self.reach.get().ok_or_else(|| Unreachable(NO_WAY.to_owned()))?;
        match tokio::time::timeout(CONNECT_TIMEOUT, reach.reach(instance, port)).await {
            Ok(reached) => reached,
            Err(_) => Err(Unreachable("the instance does not answer".to_owned())),
        }
    }
}

fn lock(open: &Mutex<HashMap<InstanceId, usize>>) -> MutexGuard<'_, HashMap<InstanceId, usize>> {
    // Counts: consistent between any two statements that can panic.
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A tunnel that was granted.
pub(crate) struct Tunnel {
    pub(crate) machine: Arc<Instance>,
    pub(crate) port: u16,
    pub(crate) duration: Duration,
    pub(crate) place: Place,
}

/// Why a tunnel ends.
#[derive(Debug)]
enum End {
    /// One of the two sides has said all it wanted to.
    Done,
    /// The client does not speak as it should.
    Client(CloseCode, &'static str),
    /// The machine broke the connection off.
    Broken,
    /// The time is up.
    TimeUp,
    /// The machine is not what it was when the tunnel was opened.
    Gone,
    /// The machine is in quarantine.
    Quarantine,
    Unreachable(Unreachable),
}

impl End {
    fn frame(&self) -> CloseFrame {
        let (code, reason) = match self {
            Self::Done => (CloseCode::Normal, String::new()),
            Self::Client(code, reason) => (*code, (*reason).to_owned()),
            Self::Broken => (CloseCode::Error, "The instance broke the connection off".to_owned()),
            Self::TimeUp => (CloseCode::Policy, "The maximum duration of the tunnel has passed".to_owned()),
            Self::Gone => (CloseCode::Away, "The instance is no longer running where it was".to_owned()),
            Self::Quarantine => (CloseCode::Policy, "The instance is in quarantine".to_owned()),
            Self::Unreachable(why) => (CloseCode::Error, format!("Unable to connect to target: {why}")),
        };
        let mut end = reason.len().min(REASON_BYTES_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        CloseFrame { code, reason: reason.get(..end).unwrap_or_default().into() }
    }
}

impl Tunnel {
    /// Waits for the client to take the WebSocket, connects to the machine, and carries bytes until one of them ends.
    pub(crate) async fn run(self, region: Arc<RegionServer>, handshake: Handshake) {
        let config = WebSocketConfig::default()
            .read_buffer_size(WINDOW_BYTES)
            .write_buffer_size(WINDOW_BYTES)
            .max_write_buffer_size(4 * WINDOW_BYTES)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let Some(mut socket) = handshake.socket(config).await else { return };
        let deadline = tokio::time::sleep(self.duration);
        let end = tokio::select! {
            end = self.carry(&region, &mut socket) => end,
            () = region.machines().end_of_boot(&self.machine) => End::Gone,
            () = region.quarantines().beginning(&self.machine) => End::Quarantine,
            () = deadline => End::TimeUp,
        };
        tracing::debug!(instance = %self.machine.id, port = self.port, ?end, "a tunnel has ended");
        let _ = tokio::time::timeout(FAREWELL_TIMEOUT, close(&mut socket, end.frame())).await;
        drop(self.place);
    }

    async fn carry(&self, region: &RegionServer, socket: &mut Socket) -> End {
        let Reached { stream, gone } = match region.tunnels().connect(self.machine.id, self.port).await {
            Ok(reached) => reached,
            Err(why) => return End::Unreachable(why),
        };
        let _ = stream.set_nodelay(true);
        let (mut from_machine, mut to_machine) = stream.into_split();
        let (to_client, from_client) = socket.split();
        let end = tokio::select! {
            end = upstream(from_client, &mut to_machine) => end,
            end = downstream(&mut from_machine, to_client) => end,
            () = gone => End::Gone,
        };
        if matches!(end, End::Done) {
            tokio::spawn(part(from_machine, to_machine));
        }
        end
    }
}

/// Lets the machine read to the end. A connection on which something comes that nobody reads is broken off by the kernel, with
/// what the machine has not read yet.
async fn part(mut from_machine: OwnedReadHalf, to_machine: OwnedWriteHalf) {
    let mut nobody = tokio::io::sink();
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, tokio::io::copy(&mut from_machine, &mut nobody)).await;
    drop(to_machine);
}

/// What the client says goes to the machine.
async fn upstream(
    mut from_client: impl Stream<Item = Result<Message, SocketError>> + Unpin,
    to_machine: &mut OwnedWriteHalf,
) -> End {
    loop {
        match from_client.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                if to_machine.write_all(&bytes).await.is_err() {
                    return End::Broken;
                }
            }
            Some(Ok(Message::Text(_))) => return End::Client(CloseCode::Unsupported, "A tunnel takes binary frames"),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Err(SocketError::Capacity(_))) => {
                return End::Client(CloseCode::Size, "A message has at most 65000 bytes");
            }
            Some(Err(SocketError::Protocol(_) | SocketError::Utf8(_))) => {
                return End::Client(CloseCode::Protocol, "These are no frames of a WebSocket");
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => {
                // What was said before is with the kernel; the machine learns that it was all.
                let _ = to_machine.shutdown().await;
                return End::Done;
            }
        }
    }
}

/// What the machine says goes to the client. It is not read faster than the client takes it.
async fn downstream(
    from_machine: &mut OwnedReadHalf,
    mut to_client: impl Sink<Message, Error = SocketError> + Unpin,
) -> End {
    let mut bytes = BytesMut::new();
    loop {
        bytes.reserve(WINDOW_BYTES);
        match from_machine.read_buf(&mut bytes).await {
            Ok(0) => return End::Done,
            Ok(_) => {
                if to_client.send(Message::Binary(bytes.split().freeze())).await.is_err() {
                    return End::Done;
                }
            }
            Err(_) => return End::Broken,
        }
    }
}

/// Says farewell, and waits for the client to say it too: only then has it read all that came before.
async fn close(socket: &mut Socket, frame: CloseFrame) {
    if socket.close(Some(frame)).await.is_ok() {
        while let Some(Ok(_)) = socket.next().await {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(last: u8) -> InstanceId {
        InstanceId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, last])
    }

    #[test]
    fn places_of_a_machine_below_at_and_above_their_limit() {
        let tunnels = Tunnels::default();
        let mut places: Vec<_> = (1..OF_MACHINE_MAX).map(|_| tunnels.place(instance(1)).unwrap()).collect();
        places.push(tunnels.place(instance(1)).unwrap());
        assert!(tunnels.place(instance(1)).is_none());
        assert!(tunnels.place(instance(2)).is_some(), "another machine has its own");
        places.pop();
        assert!(tunnels.place(instance(1)).is_some());
        places.clear();
        assert!(lock(&tunnels.open).is_empty(), "nothing is kept of tunnels that have ended");
    }

    #[test]
    fn all_places_below_at_and_above_their_limit() {
        let tunnels = Tunnels::default();
        let id = |number: usize| {
            let [.., a, b] = (number / OF_MACHINE_MAX).to_be_bytes();
            InstanceId::from_bytes([0, 0, 0, 0, 0, 0, 1, a, b])
        };
        let mut places: Vec<_> = (0..TUNNELS_MAX).map(|number| tunnels.place(id(number)).unwrap()).collect();
        assert!(tunnels.place(instance(1)).is_none());
        places.pop();
        assert!(tunnels.place(instance(1)).is_some());
    }

    #[test]
    fn a_reason_fits_its_frame() {
        let frame = End::Unreachable(Unreachable("é".repeat(200))).frame();
        assert!(frame.reason.len() <= REASON_BYTES_MAX && frame.reason.ends_with('é'), "{}", frame.reason);
        let no_way = End::Unreachable(Unreachable(NO_WAY.to_owned())).frame();
        assert!(no_way.reason.ends_with("your own network"), "it is told to its end: {}", no_way.reason);
        assert_eq!(End::Done.frame(), CloseFrame { code: CloseCode::Normal, reason: "".into() });
    }
}
