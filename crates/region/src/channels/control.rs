//! One control channel, from its first word to its last.

use std::sync::Arc;
use std::time::Duration;

use inborn_credential::Claims;
use inborn_wire::message_gateway::Frame;
use inborn_wire::message_gateway::payload::{self, OpenChannel};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::incoming;
use super::socket::{Ended, Message, Size, close, receive, send, socket};
use crate::RegionServer;
use crate::gateway::{Handshake, Socket};

/// How long a client may take to say with which token it opens a channel.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an agent may say nothing. It sends a ping every 54 seconds.
const SILENCE_MAX: Duration = Duration::from_secs(180);
/// Messages of any kind that may come at once after a pause.
const BURST: u32 = 1000;
/// Messages a second that may go on for ever.
const PER_SECOND: u32 = 100;

/// Why a channel ends.
enum End {
    /// The agent has closed it, or is not there any more.
    Gone,
    /// It has another, or its session has ended.
    Over,
    /// What it says cannot be understood.
    Malformed,
    /// It is longer than any frame.
    TooLong,
    /// It says too much.
    Flood,
}

/// Serves a channel that the session of `claims` asked for.
pub(crate) async fn converse(region: Arc<RegionServer>, handshake: Handshake, claims: Arc<Claims>) {
    let instance = claims.instance;
    let Some(mut socket) = socket(handshake, Size::Idle).await else { return };
    if !is_opened(&region, &mut socket, &claims).await {
        return close(socket, CloseCode::Policy, "the channel was not opened with its token").await;
    }
    let (serial, mut outgoing) = region.channels.enter(&claims);
    tracing::debug!(%instance, "control channel opened");
    let mut pace = Pace::new(Instant::now());
    let mut silent_since = Instant::now();
    let left = claims.expires_at.since(region.now());
    let expiry = Instant::now() + Duration::from_secs(left);
    // What cuts a session off closes the channels that it finds. One that was being opened finds out by itself.
    if region.holds(&claims) {
        incoming::connected(&region, instance).await;
    } else {
        region.channels.leave(instance, serial);
    }
    let end = loop {
        tokio::select! {
            message = receive(&mut socket) => {
                let message = match message {
                    Ok(message) => message,
                    Err(Ended::Closed) => break End::Gone,
                    Err(Ended::TooLong) => break End::TooLong,
                };
                silent_since = Instant::now();
                if !pace.admits(silent_since) {
                    break End::Flood;
                }
                if !region.holds(&claims) {
                    break End::Over;
                }
                // Pings are answered by the socket itself; a text has no meaning here, and later agents may give it one.
                let Message::Binary(bytes) = message else { continue };
                match Frame::decode(&bytes) {
                    Ok(frame) => incoming::hear(&region, instance, frame).await,
                    Err(error) => {
                        tracing::debug!(%instance, %error, "a frame cannot be read");
                        break End::Malformed;
                    }
                }
            }
            frame = outgoing.recv() => {
                let Some(frame) = frame.filter(|_| region.holds(&claims)) else { break End::Over };
                if !send(&mut socket, Message::Binary(frame)).await {
                    break End::Gone;
                }
            }
            () = sleep_until(silent_since + SILENCE_MAX) => break End::Gone,
            () = sleep_until(expiry) => break End::Over,
        }
    };
    region.channels.leave(instance, serial);
    drop(outgoing);
    tracing::debug!(%instance, "control channel ended");
    match end {
        End::Gone | End::Over => close(socket, CloseCode::Normal, "").await,
        End::Malformed => close(socket, CloseCode::Invalid, "a frame cannot be read").await,
        End::TooLong => close(socket, CloseCode::Size, "a frame is too long").await,
        End::Flood => close(socket, CloseCode::Policy, "too many messages").await,
    }
}

/// Waits for the first word of a channel, and tells whether it is the right one.
async fn is_opened(region: &RegionServer, socket: &mut Socket, claims: &Claims) -> bool {
    let instance = claims.instance;
    let Some(_place) = region.channels.openings.take(instance) else {
        tracing::warn!(%instance, "a control channel was refused: too many are being opened");
        return false;
    };
    let Some(opening) = opening(socket).await else { return false };
    region.redeem_control_channel(claims, &opening.token_value, region.now())
}

/// The text with which a channel begins; `None` if nothing of the kind comes in time.
pub(crate) async fn opening(socket: &mut Socket) -> Option<OpenChannel> {
    match timeout(OPENING_TIMEOUT, receive(socket)).await {
        Ok(Ok(Message::Text(text))) => payload::decode(text.as_bytes()),
        _ => None,
    }
}

/// How fast messages come: a bucket that fills up with time.
pub(crate) struct Pace {
    left: f64,
    filled: Instant,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: f64::from(BURST), filled: now }
    }

    /// Whether one more may come now.
    pub(crate) fn admits(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.left = (self.left + passed * f64::from(PER_SECOND)).min(f64::from(BURST));
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_below_at_and_above_the_most() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for nth in 1..=BURST {
            assert!(pace.admits(start), "{nth}");
        }
        assert!(!pace.admits(start));
        let later = start + Duration::from_secs(1);
        for nth in 1..=PER_SECOND {
            assert!(pace.admits(later), "{nth}");
        }
        assert!(!pace.admits(later));
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..=BURST).filter(|_| pace.admits(much_later)).count(), BURST as usize, "a pause fills no more");
    }
}
