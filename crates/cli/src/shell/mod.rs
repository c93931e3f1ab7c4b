//! `inborn shell`: a shell or a command on a machine, by Session Manager as any client of it would.

mod stream;
mod terminal;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::{SinkExt, StreamExt};
use inborn_guest::http::Switched;
use inborn_identity::Clock;
use inborn_wire::message_gateway::Frame;
use inborn_wire::message_gateway::payload::{self, ACKNOWLEDGE, CHANNEL_CLOSED, ChannelClosed, OUTPUT_STREAM_DATA};
use inborn_wire::uuid::Uuid;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::arguments::shell::Shell;
use crate::clock::SystemClock;
use crate::exec::quoted;
use crate::operator::Operator;
use crate::output::printable;
use stream::{Incoming, Outgoing, acknowledgement};
use terminal::RawTerminal;

/// Bytes of input in one piece: as many as AWS's plugin sends.
const PIECE_BYTES: usize = 1024;
/// How long a piece may wait to be acknowledged before it is sent again.
const SEND_AGAIN: Duration = Duration::from_secs(2);
/// How often somebody says something on a connection where nobody does.
const KEEP_ALIVE: Duration = Duration::from_secs(54);
/// What ends the input of a shell.
const END_OF_INPUT: u8 = 4;

/// What a piece of a stream is. Source: the agent's `PayloadType`.
mod kind {
    pub(super) const OUTPUT: u32 = 1;
    pub(super) const SIZE: u32 = 3;
    pub(super) const HANDSHAKE_REQUEST: u32 = 5;
    pub(super) const HANDSHAKE_RESPONSE: u32 = 6;
    pub(super) const STANDARD_ERROR: u32 = 11;
    pub(super) const EXIT_CODE: u32 = 12;
}

pub(crate) async fn shell(arguments: &Shell) -> anyhow::Result<ExitCode> {
    let operator = Operator::find(&arguments.region).await?;
    let machine = operator.machine(&arguments.machine).await?;
    let mut input = json!({"Target": machine.id});
    if let (false, Some(input)) = (arguments.command.is_empty(), input.as_object_mut()) {
        let words: Vec<String> = arguments.command.iter().map(|word| quoted(word)).collect();
        input.insert("DocumentName".to_owned(), "AWS-StartInteractiveCommand".into());
        input.insert("Parameters".to_owned(), json!({"command": [words.join(" ")]}));
    }
    if let (Some(reason), Some(input)) = (&arguments.reason, input.as_object_mut()) {
        input.insert("Reason".to_owned(), reason.as_str().into());
    }
    let started = operator.ssm("StartSession", &input).await?;
    let text = |name: &str| started.get(name).and_then(Value::as_str).map(str::to_owned);
    let session = text("SessionId").context("the region's answer has no session")?;
    let token = text("TokenValue").context("the region's answer has no token")?;
    let ended = match operator.open_data_channel(&session).await {
        Ok(stream) => Conversation::begin(stream, &token).await?.hold().await,
        Err(error) => Err(error),
    };
    // It has ended already if the machine ended it.
    let _ = operator.ssm("TerminateSession", &json!({"SessionId": session})).await;
    ended
}

/// A session, as the person at this terminal has it.
struct Conversation {
    socket: WebSocketStream<Switched>,
    outgoing: Outgoing,
    incoming: Incoming,
    exit_code: u8,
    /// Why nothing more can be said. What the other side said before that can still be heard.
    unsaid: Option<tungstenite::Error>,
}

impl Conversation {
    async fn begin(stream: Switched, token: &str) -> anyhow::Result<Self> {
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
        let first = json!({
            "MessageSchemaVersion": "1.0",
            "RequestId": new_uuid()?.to_string(),
            "TokenValue": token,
            "ClientId": new_uuid()?.to_string(),
            "ClientVersion": env!("CARGO_PKG_VERSION"),
        });
        socket.send(Message::text(first.to_string())).await.context("the session broke off")?;
        Ok(Self { socket, outgoing: Outgoing::default(), incoming: Incoming::default(), exit_code: 0, unsaid: None })
    }

    /// Passes keys and output on until the session ends; gives what the command exited with, if that is told.
    async fn hold(mut self) -> anyhow::Result<ExitCode> {
        let terminal = RawTerminal::open().context("cannot use this terminal")?;
        let mut resized = signal(SignalKind::window_change())?;
        let mut stops =
            [signal(SignalKind::terminate())?, signal(SignalKind::hangup())?, signal(SignalKind::interrupt())?];
        self.resize(terminal.as_ref()).await?;
        let (mut keys, mut buffer, mut has_input) = (tokio::io::stdin(), [0; PIECE_BYTES], true);
        let (mut again, mut keep_alive) = (tokio::time::interval(SEND_AGAIN), tokio::time::interval(KEEP_ALIVE));
        let mut stuck = None;
        let end = loop {
            tokio::select! {
                message = self.socket.next() => match message {
                    Some(Ok(Message::Binary(bytes))) => {
                        if let Some(closed) = self.hear(&bytes).await? {
                            break closed;
                        }
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(self.broken_off()),
                    Some(Ok(_)) => {}
                },
                read = keys.read(&mut buffer), if has_input && !self.outgoing.is_full() => {
                    let read = read.context("cannot read standard input")?;
                    has_input = read > 0;
                    let typed = if has_input { buffer.get(..read).unwrap_or_default() } else { &[END_OF_INPUT][..] };
                    self.send(kind::OUTPUT, typed).await?;
                }
                _ = resized.recv() => self.resize(terminal.as_ref()).await?,
                () = stopped(&mut stops) => break String::new(),
                _ = again.tick() => {
                    let oldest = self.outgoing.oldest().map(|(sequence, frame)| (*sequence, frame.clone()));
                    let sequence = oldest.as_ref().map(|(sequence, _)| *sequence);
                    // It was there at the last look too.
                    if let (Some((_, frame)), true) = (oldest, stuck == sequence) {
                        self.say(frame).await;
                    }
                    stuck = sequence;
                }
                _ = keep_alive.tick() => self.put(Message::Ping("keepalive".into())).await,
            }
        };
        drop(terminal);
        if !end.is_empty() {
            writeln!(std::io::stderr(), "inborn: {}", printable(&end))?;
        }
        Ok(ExitCode::from(self.exit_code))
    }

    /// Takes a message of the other side; what it says at the end of the session.
    async fn hear(&mut self, bytes: &[u8]) -> anyhow::Result<Option<String>> {
        let frame = Frame::decode(bytes).context("the agent sent what cannot be read")?;
        match frame.message_type {
            OUTPUT_STREAM_DATA => {
                let (is_acknowledged, ready) = self.incoming.take(&frame);
                if is_acknowledged {
                    self.say(acknowledgement(&frame, new_uuid()?, now_ms())?).await;
                }
                for (payload_type, payload) in ready {
                    self.show(payload_type, &payload).await?;
                }
                Ok(None)
            }
            ACKNOWLEDGE => {
                let said: Value = payload::decode(frame.payload).unwrap_or_default();
                if let Some(sequence) = said.get("AcknowledgedMessageSequenceNumber").and_then(Value::as_i64) {
                    self.outgoing.acknowledged(sequence);
                }
                Ok(None)
            }
            CHANNEL_CLOSED => {
                Ok(Some(payload::decode::<ChannelClosed>(frame.payload).map_or_else(String::new, |said| said.output)))
            }
            _ => Ok(None),
        }
    }

    async fn show(&mut self, payload_type: u32, payload: &[u8]) -> anyhow::Result<()> {
        match payload_type {
            kind::OUTPUT => {
                let mut output = std::io::stdout().lock();
                output.write_all(payload).and_then(|()| output.flush()).context("cannot write standard output")
            }
            kind::STANDARD_ERROR => std::io::stderr().write_all(payload).context("cannot write standard error"),
            kind::EXIT_CODE => {
                let text = String::from_utf8_lossy(payload);
                self.exit_code = text.trim().parse::<i64>().map_or(1, |code| u8::try_from(code & 0xff).unwrap_or(1));
                Ok(())
            }
            kind::HANDSHAKE_REQUEST => {
                let answer = handshake(&payload::decode(payload).unwrap_or_default());
                self.send(kind::HANDSHAKE_RESPONSE, answer.to_string().as_bytes()).await
            }
            _ => Ok(()),
        }
    }

    async fn resize(&mut self, terminal: Option<&RawTerminal>) -> anyhow::Result<()> {
        match terminal.and_then(RawTerminal::size) {
            Some((columns, rows)) => {
                let size = json!({"cols": columns, "rows": rows}).to_string();
                self.send(kind::SIZE, size.as_bytes()).await
            }
            None => Ok(()),
        }
    }

    async fn send(&mut self, payload_type: u32, payload: &[u8]) -> anyhow::Result<()> {
        let piece = self.outgoing.piece(payload_type, payload, new_uuid()?, now_ms())?;
        self.say(piece).await;
        Ok(())
    }

    async fn say(&mut self, frame: Vec<u8>) {
        self.put(Message::binary(frame)).await;
    }

    /// That it cannot be sent is not the end: the other side may have ended the session, and how it did is still to be heard.
    async fn put(&mut self, message: Message) {
        if let Err(error) = self.socket.send(message).await {
            self.unsaid.get_or_insert(error);
        }
    }

    fn broken_off(&mut self) -> anyhow::Error {
        let remedy = "the session broke off: see `inborn audit`";
        self.unsaid.take().map_or_else(|| anyhow!(remedy), |error| anyhow!(error).context(remedy))
    }
}

/// What the agent asks for before it begins: a kind of session is no trouble, a key that only AWS has is.
fn handshake(request: &Value) -> Value {
    let asked = request.get("RequestedClientActions").and_then(Value::as_array).cloned().unwrap_or_default();
    let done: Vec<Value> = asked
        .iter()
        .map(|action| {
            let name = action.get("ActionType").and_then(Value::as_str).unwrap_or_default();
            let (status, error) = if name == "SessionType" { (1, "") } else { (3, "not supported") };
            json!({"ActionType": name, "ActionStatus": status, "ActionResult": null, "Error": error})
        })
        .collect();
    json!({"ClientVersion": env!("CARGO_PKG_VERSION"), "ProcessedClientActions": done, "Errors": []})
}

/// Waits until this program is to stop.
async fn stopped(signals: &mut [Signal; 3]) {
    let [first, second, third] = signals;
    tokio::select! {
        _ = first.recv() => {}
        _ = second.recv() => {}
        _ = third.recv() => {}
    }
}

fn now_ms() -> u64 {
    SystemClock.now().as_secs().saturating_mul(1000)
}

fn new_uuid() -> anyhow::Result<Uuid> {
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).ok().context("this computer has no source of random bytes")?;
    Ok(Uuid::from_random(random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_session_is_agreed_to_and_encryption_by_kms_is_not() {
        let request = json!({"AgentVersion": "3.3", "RequestedClientActions": [
            {"ActionType": "SessionType", "ActionParameters": {"SessionType": "InteractiveCommands"}},
            {"ActionType": "KMSEncryption", "ActionParameters": {"KMSKeyId": "k"}},
        ]});
        let answer = handshake(&request);
        let statuses: Vec<&Value> =
            answer["ProcessedClientActions"].as_array().unwrap().iter().map(|done| &done["ActionStatus"]).collect();
        assert_eq!(statuses, [&json!(1), &json!(3)]);
        assert_eq!(handshake(&json!({}))["ProcessedClientActions"], json!([]));
    }
}
