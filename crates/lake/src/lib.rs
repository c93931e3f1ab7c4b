//! Where telemetry rests. What is acknowledged is on disk: batches are appended to a log and synced in groups. From time
//! to time the log becomes OCSF 1.3 Parquet in the layout that Amazon Security Lake asks of custom sources.
#![forbid(unsafe_code)]

#[allow(dead_code, reason = "for compaction and queries")]
mod files;
#[allow(dead_code, reason = "for compaction and queries")]
mod lake;
#[allow(dead_code, reason = "for compaction and queries")]
mod log;
#[allow(dead_code, reason = "for compaction and queries")]
mod recent;
mod settings;
#[allow(dead_code, reason = "for compaction and queries")]
mod shelf;

pub use lake::{AppendError, Appended, Lake, OpenError};
pub use settings::*;

/// What a fuzzer calls.
#[doc(hidden)]
pub mod parts {
    pub use crate::log::frame;
}
