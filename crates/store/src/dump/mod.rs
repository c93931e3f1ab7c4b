//! A store as rows: what is copied from one database to another, and kept in files.
//!
//! [`TABLES`] says which rows there are. A [`Snapshot`] gives the rows of one moment, a [`Loading`] takes rows into an empty
//! store; both go through [`copy`], [`dump`] and [`load`], in pages, so that no store has to fit into memory. What is sealed
//! stays sealed: neither knows a key.

mod catalogue;
mod cell;
mod error;
mod file;
mod frames;
mod rows;
mod table;

pub use catalogue::{CATALOGUE, INVARIANTS, NOT_DUMPED, TABLES};
pub use cell::{Cell, CellKind, Row};
pub use error::DumpError;
pub use file::{DumpFile, MAGIC, dump};
pub use frames::{FrameReader, FrameWriter, Part, ROW_BYTES_MAX};
pub use rows::{Loading, Snapshot, Summary, TableSummary, copy, copy_if, digests, load, must_be_empty};
pub use table::{Column, Earlier, Page, Parent, Table};

/// What a dump says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct About {
    /// The version of the catalogue it was made by.
    pub catalogue: u32,
    /// The version of the program that made it.
    pub program: String,
    /// What kind of store it was made of, and at which version of its schema.
    pub origin: Origin,
    /// When it was made.
    pub made_at: inborn_identity::UnixTime,
}

/// A kind of store, and the version of its schema.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// `sqlite`, `postgres`.
    pub kind: String,
    /// The version.
    pub schema: u32,
}
