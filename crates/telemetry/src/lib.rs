//! What machines tell of themselves, as values. Bytes in, events out: every event is one OCSF 1.3 object, bounded, and
//! stamped with the identity that signed the request, whatever the request itself claimed.
//!
//! The crate is pure: no sockets, no files, no clocks.
#![forbid(unsafe_code)]

mod event;

pub use event::{Batch, ClassUid, Record, Source};
