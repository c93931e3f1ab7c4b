//! The AWS wire forms: awsQuery, ec2Query, awsJson 1.1, restJson, the frames of the message gateway, and every error
//! dialect in one table.
//!
//! Bytes in, values out; values in, bytes out. The crate opens no socket, reads no file and no clock, and knows
//! no service: what an operation means is not written here.
#![forbid(unsafe_code)]

mod answer;
pub mod constraint;
pub mod error;
pub mod json;
pub mod message_gateway;
mod percent;
pub mod query;
pub mod success;
pub mod uuid;
pub mod xml;

pub use answer::{Answer, ERROR_TYPE_HEADER, REQUEST_ID_HEADER, REQUEST_ID_HEADER_S3};
