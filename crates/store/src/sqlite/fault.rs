//! What SQLite's errors mean to the callers of a store.

use core::fmt::Display;

use rusqlite::{Connection, ErrorCode, ffi};

use crate::{Conflict, StoreError};

/// What a job on a connection gives.
pub(super) type Outcome<T> = Result<T, StoreError>;

/// Runs a statement without parameters or rows, kept prepared.
pub(super) fn run(connection: &Connection, sql: &'static str) -> Outcome<()> {
    connection.prepare_cached(sql).and_then(|mut statement| statement.execute(())).map_err(from_sqlite)?;
    Ok(())
}

/// A failure of the operating system.
pub(super) fn io(error: std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::StorageFull => StoreError::Full,
        _ => StoreError::Io(error.to_string()),
    }
}

/// A value that is not what was written.
pub(super) fn corrupt(what: impl Display) -> StoreError {
    StoreError::Corrupt(what.to_string())
}

/// An error of SQLite. Its texts name tables and columns, never values.
pub(super) fn from_sqlite(error: rusqlite::Error) -> StoreError {
    let Some(code) = error.sqlite_error_code() else {
        // Everything else comes from reading a column that is absent or of another type.
        return corrupt(error);
    };
    match code {
        ErrorCode::DiskFull => StoreError::Full,
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => StoreError::Busy,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => corrupt(error),
        _ => StoreError::Io(error.to_string()),
    }
}

/// An error of an insertion or update of `what`, which tells a key that is taken from other troubles.
pub(super) fn from_insertion(error: rusqlite::Error, what: &'static str) -> StoreError {
    match error.sqlite_error().map(|error| error.extended_code) {
        Some(ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_UNIQUE) => Conflict::Exists(what).into(),
        _ => from_sqlite(error),
    }
}
