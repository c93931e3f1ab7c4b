//! The log: segments of frames, written by one thread.

pub mod frame;
pub(crate) mod payload;
pub(crate) mod read;
pub(crate) mod recover;
pub(crate) mod segment;
pub(crate) mod writer;
