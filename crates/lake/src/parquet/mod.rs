//! Parquet: events to columns and back.

mod assemble;
pub(crate) mod classes;
mod event;
mod objects;
pub(crate) mod read;
pub(crate) mod schema;
pub(crate) mod sealed;
mod shred;
pub(crate) mod write;
