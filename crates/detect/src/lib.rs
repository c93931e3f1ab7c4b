//! What an event means. Rules in Sigma, and rules of our own for what Sigma cannot say, turn events into findings. A rule
//! that cannot be read is named with its file and line, and stops nothing.
//!
//! The crate is pure: no sockets, no files, no clocks.
#![forbid(unsafe_code)]

pub mod finding;

pub use finding::{Finding, FindingKey, FindingType, Recorded, Severity};
