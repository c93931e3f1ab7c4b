//! Where telemetry rests. What is acknowledged is on disk: batches are appended to a log and synced in groups. From time
//! to time the log becomes OCSF 1.3 Parquet in the layout that Amazon Security Lake asks of custom sources.
#![forbid(unsafe_code)]

mod bookmark;
mod bucket;
mod compact;
mod delivery;
mod files;
mod lake;
mod layout;
mod log;
mod parquet;
mod query;
mod recent;
mod settings;
mod shelf;
mod tally;

pub use bookmark::{Bookmark, Next, Observer, Place, Unread};
pub use bucket::Bucket;
pub use lake::{AppendError, Appended, Lake, OpenError};
pub use query::{
    Cursor, Event, Events, Filter, FilterError, Follow, Followed, Order, QUERY_BYTES_MAX, QUERY_EVENTS_MAX,
    QUERY_FILTERS_MAX, Query, QueryError, Test, UNREADABLE_NAMED_MAX,
};
pub use settings::*;
pub use shelf::Waiting;
pub use tally::Counts;

/// What a fuzzer calls.
#[doc(hidden)]
pub mod parts {
    pub use crate::log::frame;
}
