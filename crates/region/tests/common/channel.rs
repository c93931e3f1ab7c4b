//! What an SSM agent does on the message gateway: WebSockets, as far as tests need them.

use futures_util::{SinkExt, StreamExt};
use inborn_identity::InstanceId;
use inborn_wire::message_gateway::Frame;
use inborn_wire::uuid::Uuid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::{Call, Reply, Running, Signer, between, call};

/// Nothing in these tests takes longer, however loaded the machine.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// A WebSocket as a client has it.
pub struct Socket(pub WebSocketStream<TcpStream>);

/// A frame, with a payload of its own.
#[derive(Debug)]
pub struct Received {
    pub message_type: String,
    pub id: Uuid,
    pub payload: String,
}

/// What asks for a channel's token.
pub fn create(kind: &str, id: &str, body: &str) -> Call {
    Call {
        target: format!("/v1/{kind}-channel/{id}"),
        headers: vec![("content-type", "application/json".to_owned())],
        ..call("ssmmessages", body)
    }
}

pub const BODY: &str = r#"{"MessageSchemaVersion":"1.0","RequestId":"1b6eb6d4-9b0c-4d61-b1f0-1fc5f2f1c3a5"}"#;

/// What opens a channel.
pub fn open(target: &str) -> Call {
    Call { method: "GET", target: target.to_owned(), headers: vec![], ..call("ssmmessages", "") }
}

/// What asks for a WebSocket, beside `Connection`.
pub const HANDSHAKE: [(&str, &str); 3] =
    [("upgrade", "websocket"), ("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")];

/// A request that is signed already, as one that asks for a WebSocket.
pub fn upgrading(text: &str) -> String {
    let more: String = HANDSHAKE.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    text.replacen("connection: close\r\n", &format!("connection: Upgrade\r\n{more}"), 1)
}

/// Makes a WebSocket of a connection; what was answered instead, if it was refused.
pub async fn connect(address: std::net::SocketAddr, text: &str) -> Result<Socket, Reply> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    if status == 101 {
        assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        return Ok(Socket(WebSocketStream::from_raw_socket(stream, Role::Client, None).await));
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    Err(Reply { status, head, body: String::from_utf8(body).unwrap() })
}

/// The text with which an agent begins.
pub fn opening(token: &str) -> String {
    format!(
        r#"{{"Cookie":null,"MessageSchemaVersion":"1.0","RequestId":"r","TokenValue":"{token}","AgentVersion":"3.3.0.0","PlatformType":"linux"}}"#
    )
}

impl Running {
    /// The token for a machine's control channel.
    pub async fn control_token(&self, role: &Signer, id: InstanceId) -> String {
        let reply = self.send(role, &create("control", &id.to_string(), BODY)).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
        between(&reply.body, "<TokenValue>", "</TokenValue>").to_owned()
    }

    /// The socket of a machine's control channel, before its first word.
    pub async fn control_socket(&self, role: &Signer, id: InstanceId) -> Socket {
        let call = open(&format!("/v1/control-channel/{id}?role=subscribe&stream=input"));
        connect(self.address, &upgrading(&self.signed(role, &call)))
            .await
            .unwrap_or_else(|reply| panic!("{}", reply.body))
    }

    /// The same, without waiting until the region has understood: what it has to say may come first.
    pub async fn control_channel_at_once(&self, role: &Signer, id: InstanceId) -> Socket {
        let token = self.control_token(role, id).await;
        let mut socket = self.control_socket(role, id).await;
        socket.say(Message::text(opening(&token))).await;
        socket
    }

    /// A machine's control channel, as its agent opens it.
    pub async fn control_channel(&self, role: &Signer, id: InstanceId) -> Socket {
        let mut socket = self.control_channel_at_once(role, id).await;
        // Whatever was sent before a ping has been understood when its answer comes.
        socket.ping().await;
        socket
    }
}

impl Socket {
    pub async fn say(&mut self, message: Message) {
        self.0.send(message).await.unwrap();
    }

    /// Sends a frame, and gives its name.
    pub async fn frame(&mut self, message_type: &str, payload: &str) -> Uuid {
        let id = Uuid::from_random(core::array::from_fn(|at| u8::try_from(at).unwrap()));
        let payload = payload.as_bytes();
        let frame = Frame { message_type, created_ms: 1, sequence: 0, flags: 0, id, payload_type: 0, payload };
        self.say(Message::binary(frame.encode().unwrap())).await;
        id
    }

    /// The next message; how it ended, if it did.
    pub async fn next(&mut self) -> Result<Message, Option<CloseFrame>> {
        match tokio::time::timeout(PATIENCE, self.0.next()).await.unwrap() {
            Some(Ok(Message::Close(frame))) => Err(frame),
            Some(Ok(message)) => Ok(message),
            Some(Err(_)) | None => Err(None),
        }
    }

    pub async fn ping(&mut self) {
        self.say(Message::Ping("keepalive".into())).await;
        assert_eq!(self.next().await, Ok(Message::Pong("keepalive".into())));
    }

    /// The next frame.
    pub async fn receive(&mut self) -> Received {
        tokio::time::timeout(PATIENCE, self.receive_ever()).await.unwrap()
    }

    /// The next frame, however long it takes.
    pub async fn receive_ever(&mut self) -> Received {
        let message = self.0.next().await.unwrap().unwrap();
        let Message::Binary(bytes) = message else { panic!("{message:?}") };
        let frame = Frame::decode(&bytes).unwrap();
        let payload = String::from_utf8(frame.payload.to_vec()).unwrap();
        Received { message_type: frame.message_type.to_owned(), id: frame.id, payload }
    }

    /// The code with which the other side has closed; 1006 if it just went away.
    pub async fn closed(&mut self) -> u16 {
        loop {
            match self.next().await {
                Ok(_) => {}
                Err(frame) => return frame.map_or(1006, |frame| frame.code.into()),
            }
        }
    }
}
