//! The store of a fleet: over the wire of PostgreSQL, in the SQL that CockroachDB and YugabyteDB share with it.
//!
//! Any number of programs may have one database open. Nothing is remembered between two verbs: what one of them has
//! answered, all see. `tests/portable.rs` refuses SQL that one of the three databases does not have.
#![forbid(unsafe_code)]

mod accounts;
mod address;
mod commands;
mod detectors;
mod documents;
mod dump;
mod fault;
mod feed;
mod findings;
mod host_keys;
mod hosts;
mod instances;
mod inventory;
mod key_pairs;
mod launches;
mod living;
mod management;
mod nodes;
mod pool;
mod quarantines;
mod records;
mod schema;
mod sessions;
mod store;
mod transaction;
mod value;

pub use dump::{PostgresLoading, PostgresSnapshot};
pub use pool::PostgresOptions;
pub use schema::SchemaVersion;
pub use store::PostgresStore;
