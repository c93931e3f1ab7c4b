//! What the errors of the wire mean: to the helper that tries again, and to the callers of a store.

use core::fmt::Display;

use deadpool_postgres::{HookError, PoolError, TimeoutType};
use inborn_store::{Conflict, StoreError};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// What a job in a transaction gives.
pub(crate) type Outcome<T> = Result<T, Fault>;

/// Why a transaction did not come to its end.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It would come to the same again.
    Final(StoreError),
    /// Nothing of it happened, and another attempt may go well. The error is for when there is none left.
    Again(StoreError),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Final(error)
    }
}

impl From<Conflict> for Fault {
    fn from(conflict: Conflict) -> Self {
        Self::Final(conflict.into())
    }
}

/// A value that is not what was written.
pub(crate) fn corrupt(what: impl Display) -> Fault {
    Fault::Final(StoreError::Corrupt(what.to_string()))
}

/// An error of a statement before the end of its transaction, of which nothing will have happened.
pub(crate) fn from_statement(error: &Error) -> Fault {
    let Some(code) = error.code() else {
        // A column that is absent or of another type comes with a source; so does a connection that broke.
        return match error.is_closed() || is_of_the_wire(error) {
            true => Fault::Again(unavailable(error)),
            false => corrupt(says(error)),
        };
    };
    match code {
        // 23503: what the record belongs to was deleted meanwhile; the rule of the verb says what that means.
        &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED | &SqlState::FOREIGN_KEY_VIOLATION => {
            Fault::Again(StoreError::Busy)
        }
        &SqlState::QUERY_CANCELED | &SqlState::LOCK_NOT_AVAILABLE => Fault::Final(StoreError::Busy),
        // A text that is longer than an entry of an index: a third of a page.
        &SqlState::PROGRAM_LIMIT_EXCEEDED => {
            Fault::Final(StoreError::Invalid("a text is longer than the database can look it up by"))
        }
        &SqlState::DISK_FULL => Fault::Final(StoreError::Full),
        &SqlState::DATA_CORRUPTED | &SqlState::INDEX_CORRUPTED => corrupt(says(error)),
        code if is_interruption(code) => Fault::Again(unavailable(error)),
        // Read-only: a standby, or a primary that was told so.
        &SqlState::READ_ONLY_SQL_TRANSACTION => Fault::Final(unavailable(error)),
        _ => Fault::Final(StoreError::Io(says(error))),
    }
}

/// An error of an insertion or update of `what`, which tells a key that is taken from other troubles.
pub(crate) fn from_insertion(error: &Error, what: &'static str) -> Fault {
    match error.code() {
        Some(&SqlState::UNIQUE_VIOLATION) => Conflict::Exists(what).into(),
        _ => from_statement(error),
    }
}

/// An error of COMMIT. Beyond a refusal that says it was rolled back, nobody knows what has happened.
pub(crate) fn from_commit(error: &Error) -> Fault {
    match error.code() {
        Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED) => Fault::Again(StoreError::Busy),
        _ => Fault::Final(StoreError::Io(format!("{}; the commit may have taken effect", says(error)))),
    }
}

/// An error of the pool, with no transaction begun.
pub(crate) fn from_pool(error: &PoolError) -> StoreError {
    match error {
        PoolError::Closed => StoreError::Closed,
        PoolError::Timeout(TimeoutType::Wait) => StoreError::Busy,
        PoolError::Timeout(_) => StoreError::Unavailable("it did not answer in time".to_owned()),
        PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => unavailable(error),
        PoolError::PostCreateHook(HookError::Message(text)) => StoreError::Unavailable(text.to_string()),
        error => StoreError::Unavailable(error.to_string()),
    }
}

/// The server is going down, coming up, or has no room for another connection; classes 08 and 57P, and 53300.
fn is_interruption(code: &SqlState) -> bool {
    let code = code.code();
    code.starts_with("08") || code.starts_with("57P") || code == SqlState::TOO_MANY_CONNECTIONS.code()
}

fn is_of_the_wire(error: &Error) -> bool {
    core::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

fn unavailable(error: &Error) -> StoreError {
    StoreError::Unavailable(says(error))
}

/// The code and the message. Not the detail, which quotes values.
pub(crate) fn says(error: &Error) -> String {
    match (error.as_db_error(), core::error::Error::source(error)) {
        (Some(told), _) => format!("{} {}", told.code().code(), told.message()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}
