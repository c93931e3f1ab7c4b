//! Any bytes as a frame of the message gateway: read or refused, never a panic, and what is read is written the same, but
//! for the padding of its type.
#![no_main]

use inborn_wire::message_gateway::payload::{self, AgentJobAck, AgentJobReply, AgentTaskComplete, OpenChannel};
use inborn_wire::message_gateway::{FRAME_BYTES_MAX, Frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = payload::decode::<OpenChannel>(bytes);
    let Ok(frame) = Frame::decode(bytes) else { return };
    assert!(bytes.len() <= FRAME_BYTES_MAX);
    let written = frame.encode().expect("what was read can be written");
    assert_eq!(written.len(), bytes.len());
    assert_eq!(Frame::decode(&written), Ok(frame));
    let _ = payload::decode::<AgentJobAck>(frame.payload);
    let _ = payload::decode::<AgentJobReply>(frame.payload);
    let _ = payload::decode::<AgentTaskComplete>(frame.payload);
});
