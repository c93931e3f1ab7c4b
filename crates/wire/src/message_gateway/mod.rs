//! What agents and the message gateway of Systems Manager (ssmmessages) say to each other: binary frames and the JSON in
//! them. Source: the agent's own code, `aws/amazon-ssm-agent`, and what it was seen to send.

mod frame;
pub mod payload;
pub mod report;

pub use frame::{FRAME_BYTES_MAX, Frame, FrameError, HEADER_BYTES, MESSAGE_TYPE_BYTES_MAX, REPLY_BYTES_MAX};
