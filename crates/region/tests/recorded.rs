//! Sessions between AWS's own session-manager-plugin and an agent, as they were recorded by `compat/record_session.py`, played
//! again through a region; and whatever else two sides may send, while they come and go.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::channel::*;
use common::session::*;
use inborn_wire::message_gateway::Frame;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json as value;
use tokio_tungstenite::tungstenite::Message;

const RECORDED: [(&str, &str); 2] =
    [("command", include_str!("recorded/command.frames")), ("port", include_str!("recorded/port.frames"))];

/// Who sent a frame, and the frame.
fn frames(text: &str) -> Vec<(&str, Vec<u8>)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (who, hex) = line.split_once(' ').unwrap();
            let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            (who, (0..hex.len()).step_by(2).map(digits).collect())
        })
        .collect()
}

#[tokio::test]
async fn recorded_sessions_are_carried_as_they_were() {
    for (name, text) in RECORDED {
        let Scene { running, role, session, token, .. } = scene().await;
        let mut client = running.client_side(&session, &token).await;
        let mut agent = running.agent_side(&role, &session).await;
        let frames = frames(text);
        assert!(
            frames.iter().any(|(who, _)| *who == "client") && frames.iter().any(|(who, _)| *who == "agent"),
            "{name}"
        );
        for (who, frame) in frames {
            let (from, to) = if who == "client" { (&mut client, &mut agent) } else { (&mut agent, &mut client) };
            from.say(Message::binary(frame.clone())).await;
            assert_eq!(to.next().await, Ok(Message::binary(frame)), "{name}");
        }
    }
}

/// What the plugin writes is what we understand by a frame, to the last byte.
#[test]
fn recorded_frames_are_read_and_written_the_same() {
    for (name, text) in RECORDED {
        for (who, bytes) in frames(text) {
            let frame = Frame::decode(&bytes).unwrap();
            assert_eq!(frame.encode().unwrap(), bytes, "{name}: {who} {}", frame.message_type);
            let is_known = ["input_stream_data", "output_stream_data", "acknowledge"].contains(&frame.message_type);
            assert!(is_known, "{name}: {}", frame.message_type);
        }
    }
}

/// What happens to one side of a session.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// It sends a message of so many bytes, or the same one twice.
    Say { is_agent: bool, bytes: usize, is_twice: bool },
    /// It comes back with a new channel; before that it has read what there is, or its channel just breaks.
    Return { is_agent: bool, is_drained: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let say = (any::<bool>(), 0..3000_usize, prop::bool::weighted(0.2));
    prop_oneof![
        4 => say.prop_map(|(is_agent, bytes, is_twice)| Step::Say { is_agent, bytes, is_twice }),
        1 => any::<(bool, bool)>().prop_map(|(is_agent, is_drained)| Step::Return { is_agent, is_drained }),
    ]
}

/// One side of a session, what it was sent, and what of that it has.
struct End {
    socket: Socket,
    sent: Vec<Vec<u8>>,
    /// The place in `sent` of the next that can come, and whether all before that has come.
    next: usize,
    /// How many of the first in `sent` may have been lost with a channel.
    doubtful: usize,
}

impl End {
    /// Takes the next message: one that was sent, in its turn, once; none is left out but what may be lost.
    async fn take(&mut self) {
        let Ok(Message::Binary(bytes)) = self.socket.next().await else { panic!("no message") };
        let place = self.sent[self.next..].iter().position(|sent| *sent == bytes[..]);
        let place = place.unwrap_or_else(|| panic!("nobody sent it, or it comes again: {bytes:?}"));
        assert!(place == 0 || self.next + place <= self.doubtful, "{place} are missing");
        self.next += place + 1;
    }
}

/// Sends a message that must come, and takes all that comes up to it.
async fn drain(from: &mut End, to: &mut End, serial: &mut u32) {
    *serial += 1;
    let mark = serial.to_be_bytes().to_vec();
    from.socket.say(Message::binary(mark.clone())).await;
    to.sent.push(mark);
    while to.next < to.sent.len() {
        to.take().await;
    }
}

/// Orderings, duplicates and losses, as many as there is time for: whatever both sides send comes once, in its order and as it
/// was, and nothing is lost but what was on its way over a channel that broke.
#[tokio::test]
async fn whatever_is_sent_comes_once_and_in_order() {
    let Scene { running, role, id, mut control, .. } = scene().await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..24 {
        let steps = prop::collection::vec(step(), 1..40).new_tree(&mut runner).unwrap().current();
        let started = running.done("StartSession", value!({"Target": id.to_string()})).await;
        assert_eq!(control.receive().await.message_type, "interactive_shell");
        let session = started["SessionId"].as_str().unwrap();
        let end = |socket| End { socket, sent: Vec::new(), next: 0, doubtful: 0 };
        let mut agent = end(running.agent_side(&role, session).await);
        let mut client = end(running.client_side(session, started["TokenValue"].as_str().unwrap()).await);
        let mut serial = 0_u32;
        for step in steps {
            match step {
                Step::Say { is_agent, bytes, is_twice } => {
                    let (from, to) = if is_agent { (&mut agent, &mut client) } else { (&mut client, &mut agent) };
                    serial += 1;
                    let mut message = serial.to_be_bytes().to_vec();
                    message.resize(4 + bytes, 7);
                    for _ in 0..=u8::from(is_twice) {
                        from.socket.say(Message::binary(message.clone())).await;
                        to.sent.push(message.clone());
                    }
                }
                Step::Return { is_agent, is_drained } => {
                    let (side, other) = if is_agent { (&mut agent, &mut client) } else { (&mut client, &mut agent) };
                    if is_drained {
                        drain(other, side, &mut serial).await;
                        // What it has sent itself has been read when this is answered.
                        side.socket.ping().await;
                    } else {
                        (side.doubtful, other.doubtful) = (side.sent.len(), other.sent.len());
                    }
                    side.socket = if is_agent {
                        running.agent_side_at_once(&role, session).await
                    } else {
                        let resumed = running.done("ResumeSession", value!({"SessionId": session})).await;
                        running.client_side_at_once(session, resumed["TokenValue"].as_str().unwrap()).await
                    };
                }
            }
        }
        drain(&mut agent, &mut client, &mut serial).await;
        drain(&mut client, &mut agent, &mut serial).await;
        running.done("TerminateSession", value!({"SessionId": session})).await;
    }
}
