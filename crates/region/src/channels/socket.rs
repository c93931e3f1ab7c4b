//! The sockets that channels are: every wait and every message is bounded.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use inborn_wire::message_gateway::FRAME_BYTES_MAX;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};

use crate::gateway::{Handshake, Socket};

pub(crate) use tokio_tungstenite::tungstenite::Message;

/// How long a client may take to go on over the connection that it asked to become a WebSocket.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(20);
/// How much a socket is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Size {
    /// Idle most of the time, one of many.
    Idle,
    /// For a person or a stream of data.
    Busy,
}

impl Size {
    /// Bytes that are read at once.
    const fn read_bytes(self) -> usize {
        match self {
            Self::Idle => 4 * 1024,
            Self::Busy => 64 * 1024,
        }
    }

    /// Bytes that are gathered before they are written, unless nothing more comes.
    const fn write_bytes(self) -> usize {
        match self {
            Self::Idle => 0,
            Self::Busy => 64 * 1024,
        }
    }
}

/// Bytes that may wait for the client to take them: a message and a little.
const WRITE_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;
/// How long a client may take to take a message.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a client may take to agree to the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The socket of a connection that has become one; `None` if its client did not wait for it.
pub(crate) async fn socket(handshake: Handshake, size: Size) -> Option<Socket> {
    let config = WebSocketConfig::default()
        .read_buffer_size(size.read_bytes())
        .write_buffer_size(size.write_bytes())
        .max_write_buffer_size(WRITE_BYTES_MAX)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    tokio::time::timeout(UPGRADE_TIMEOUT, handshake.socket(config)).await.ok()?
}

/// Why no more messages come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// The client has closed, or is not there any more.
    Closed,
    /// It sent a message that is longer than any frame.
    TooLong,
}

/// The next message.
pub(super) async fn receive(socket: &mut Socket) -> Result<Message, Ended> {
    match socket.next().await {
        None | Some(Ok(Message::Close(_))) => Err(Ended::Closed),
        Some(Ok(message)) => Ok(message),
        Some(Err(Error::Capacity(_))) => Err(Ended::TooLong),
        Some(Err(error)) => {
            tracing::debug!(%error, "a WebSocket ended");
            Err(Ended::Closed)
        }
    }
}

/// Sends a message; `false` if the client does not take it.
pub(super) async fn send(socket: &mut Socket, message: Message) -> bool {
    let sent: Result<Result<(), Error>, _> = tokio::time::timeout(WRITE_TIMEOUT, socket.send(message)).await;
    matches!(sent, Ok(Ok(())))
}

/// Closes a socket and says why. What the client still sends is thrown away until it agrees: if the connection went with anything unread,
/// TCP would reset it, and the client could lose what it was told last (RFC 9293, section 3.6.1).
pub(crate) async fn close(mut socket: Socket, code: CloseCode, reason: &'static str) {
    let frame = CloseFrame { code, reason: reason.into() };
    let farewell = async {
        if socket.close(Some(frame)).await.is_ok() {
            while receive(&mut socket).await.is_ok() {}
        }
    };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, farewell).await;
}
