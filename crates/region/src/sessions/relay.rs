//! One data channel: what this side sends goes to the other, what the other sends comes here.

use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::sync::atomic::Ordering;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{Sink, SinkExt, StreamExt};
use inborn_credential::{Caller, Claims};
use inborn_wire::message_gateway::payload::{
    self, AGENT_SESSION_STATE, AgentSessionState, CHANNEL_CLOSED, ChannelClosed, SCHEMA,
};
use inborn_wire::message_gateway::{Frame, MESSAGE_TYPE_BYTES_MAX};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::queue::Waiting;
use super::{End, Half, LAST_WORD, Session, Side};
use crate::RegionServer;
use crate::channels::socket::{self, Message, Size};
use crate::channels::{Pace, opening};
use crate::gateway::{Handshake, Socket, new_uuid};
use crate::throttle::Source;

/// How long a side may take to take what it is sent. A person who has stopped the output of a terminal still reads: the
/// plugin keeps what comes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Messages that are sent together, if they are there.
const BATCH: usize = 64;

/// Who opens a data channel, as far as that is known.
pub(crate) struct Joiner {
    /// Where it comes from.
    pub(crate) address: IpAddr,
    /// As what it is limited.
    pub(crate) source: Source,
    /// Who signed, if anybody did. An agent has to; its claims let it in.
    pub(crate) caller: Option<Caller>,
}

/// Why a data channel ends.
enum Cause {
    /// This side has closed it, or does not take what it is sent.
    Gone,
    /// The side has another.
    Replaced,
    /// The session is another server's.
    Moved,
    /// It says what no data channel says.
    Malformed,
    /// The session is over.
    Over(End),
}

/// Serves a data channel of one side of a session.
pub(crate) async fn relay(
    region: Arc<RegionServer>,
    handshake: Handshake,
    session: Arc<Session>,
    side: Side,
    joiner: Joiner,
) {
    let Some(mut socket) = socket::socket(handshake, Size::Busy).await else { return };
    if !is_opened(&region, &mut socket, &session, side, &joiner).await {
        return socket::close(socket, CloseCode::Policy, "the channel was not opened with its token").await;
    }
    let claims = joiner.caller.and_then(|caller| caller.claims);
    let half = session.side(side);
    *half.claims.lock().unwrap_or_else(PoisonError::into_inner) = claims.clone();
    let (own, mut newest) = attach(half);
    session.heard(region.now());
    // What cuts a session off ends what it finds. One that was being opened finds out by itself.
    if claims.as_deref().is_some_and(|claims| !region.stands(claims)) {
        session.close(End::cut_off());
    }
    tracing::debug!(session = %session.record.id, ?side, "data channel opened");
    let (mut sink, mut stream) = socket.split();
    let cause = tokio::select! {
        cause = read(&region, &session, side, claims.as_deref(), &mut stream) => cause,
        cause = write(&session, side, &mut sink) => cause,
        () = replaced(&mut newest, own) => Cause::Replaced,
        () = session.moved() => Cause::Moved,
    };
    half.leave(own);
    tracing::debug!(session = %session.record.id, ?side, "data channel ended");
    let Ok(mut socket) = stream.reunite(sink) else { return };
    let code = match cause {
        // It is not over: whoever is told nothing of the kind comes back, and finds it where it is.
        Cause::Over(end) if end.is_move() => CloseCode::Away,
        Cause::Moved => CloseCode::Away,
        Cause::Over(end) => {
            let _ = timeout(WRITE_TIMEOUT, socket.send(closed(&region, &session, &end))).await;
            CloseCode::Normal
        }
        Cause::Gone | Cause::Replaced => CloseCode::Normal,
        Cause::Malformed => CloseCode::Policy,
    };
    socket::close(socket, code, "").await;
}

/// Takes the place of the channel that the side had.
pub(super) fn attach(half: &Half) -> (u64, watch::Receiver<u64>) {
    let mut own = 0;
    half.channels.send_modify(|newest| {
        *newest += 1;
        own = *newest;
    });
    half.open.store(own, Ordering::SeqCst);
    (own, half.channels.subscribe())
}

/// Waits until the side has another channel.
pub(super) async fn replaced(newest: &mut watch::Receiver<u64>, own: u64) {
    let _ = newest.wait_for(|newest| *newest != own).await;
}

/// Waits for the first word of the channel, and tells whether it is the right one. That is recorded: a token may be all that
/// is known of who comes in.
async fn is_opened(region: &RegionServer, socket: &mut Socket, session: &Session, side: Side, joiner: &Joiner) -> bool {
    let Some(_place) = region.sessions().openings(side).take(session.record.id.clone()) else {
        tracing::warn!(session = %session.record.id, ?side, "a data channel was refused: too many are being opened");
        return false;
    };
    let Some(opening) = opening(socket).await else { return false };
    let now = region.now();
    let is_good = region.sessions().grants(side).redeem(&session.record.id, &opening.token_value, now);
    region.record_joining(&session.record, side, joiner, is_good, now);
    is_good
}

/// Carries what this side sends to the other, for as long as it sends.
async fn read(
    region: &RegionServer,
    session: &Arc<Session>,
    side: Side,
    claims: Option<&Claims>,
    stream: &mut SplitStream<Socket>,
) -> Cause {
    let other = session.side(if side == Side::Agent { Side::Client } else { Side::Agent });
    let mut pace = Pace::new(Instant::now());
    loop {
        let bytes = match stream.next().await {
            Some(Ok(Message::Binary(bytes))) => bytes,
            None | Some(Ok(Message::Close(_)) | Err(_)) => return Cause::Gone,
            // Pings are answered by the socket itself. What carries nothing may not come without end.
            Some(Ok(_)) if pace.admits(Instant::now()) => continue,
            Some(Ok(_)) => return Cause::Malformed,
        };
        if claims.is_some_and(|claims| !region.stands(claims)) {
            session.close(End::cut_off());
            return Cause::Gone;
        }
        session.heard(region.now());
        // The agent says so to us, not to the client.
        if side == Side::Agent && message_type(&bytes) == Some(AGENT_SESSION_STATE) {
            // Nobody else has to take it, who would slow the agent down.
            if !pace.admits(Instant::now()) {
                return Cause::Malformed;
            }
            hear_state(session, &bytes);
            continue;
        }
        other.queue.push(bytes).await;
    }
}

/// The message type of a frame, without a look at anything else: what goes from one side to the other is not ours to judge.
fn message_type(bytes: &[u8]) -> Option<&str> {
    let field = bytes.get(4..4 + MESSAGE_TYPE_BYTES_MAX)?;
    core::str::from_utf8(field).ok().map(|text| text.trim_end_matches([' ', '\0']))
}

/// The agent's side has ended. What the person should be told comes over the control channel, or not at all.
fn hear_state(session: &Arc<Session>, bytes: &[u8]) {
    let Ok(frame) = Frame::decode(bytes) else { return };
    let state: Option<AgentSessionState> = payload::decode(frame.payload);
    let is_ending = state.is_some_and(|state| state.session_state == "Terminating");
    // It may say so more than once.
    if is_ending && !session.is_ending.swap(true, Ordering::SeqCst) {
        let session = Arc::clone(session);
        tokio::spawn(async move {
            if timeout(LAST_WORD, session.ended()).await.is_err() {
                session.close(End::terminated("The agent ended the session.", ""));
            }
        });
    }
}

/// Carries what the other side sent to this one. At the end of the session the client is still given what there is.
async fn write(session: &Session, side: Side, sink: &mut SplitSink<Socket, Message>) -> Cause {
    let half = session.side(side);
    let mut waiting = half.queue.far_end().await;
    let mut ended = pin!(session.ended());
    loop {
        if side == Side::Agent && session.has_ended() {
            return Cause::Over(ended.await);
        }
        tokio::select! {
            biased;
            message = waiting.recv() => {
                let Some(message) = message else { return Cause::Gone };
                if !matches!(timeout(WRITE_TIMEOUT, send_batch(sink, message, &mut waiting)).await, Ok(Ok(()))) {
                    return Cause::Gone;
                }
            }
            end = &mut ended => return Cause::Over(end),
        }
    }
}

/// Sends a message and those behind it that are there already, in one go.
async fn send_batch(
    sink: &mut SplitSink<Socket, Message>,
    first: Waiting,
    waiting: &mut mpsc::Receiver<Waiting>,
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    let mut message = Some(first);
    for _ in 0..BATCH {
        let Some(next) = message else { break };
        poll_fn(|context| Pin::new(&mut *sink).poll_ready(context)).await?;
        Pin::new(&mut *sink).start_send(Message::Binary(next.bytes))?;
        message = waiting.try_recv().ok();
    }
    if let Some(last) = message {
        sink.feed(Message::Binary(last.bytes)).await?;
    }
    sink.flush().await
}

/// What tells a side that the session is over.
fn closed(region: &RegionServer, session: &Session, end: &End) -> Message {
    let (id, now) = (new_uuid(), region.now());
    let said = ChannelClosed {
        message_type: CHANNEL_CLOSED.to_owned(),
        message_id: id.to_string(),
        destination_id: session.record.instance.to_string(),
        session_id: session.record.id.clone(),
        schema_version: SCHEMA,
        created_date: now.rfc3339(),
        output: end.output.clone(),
    };
    let payload = payload::encode(&said);
    let created_ms = now.as_secs().saturating_mul(1000);
    let frame = Frame {
        message_type: CHANNEL_CLOSED,
        created_ms,
        sequence: 0,
        flags: 0,
        id,
        payload_type: 0,
        payload: &payload,
    };
    // The texts are bounded where they come from.
    Message::binary(frame.encode().unwrap_or_default())
}
