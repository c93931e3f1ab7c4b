//! The schema, as numbered migrations that are never edited once released.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior};

use super::fault::{self, Outcome};
use crate::StoreError;

/// Migration `n` (from 1) leads from version `n - 1` to version `n`.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/0001.sql"),
    include_str!("../../migrations/0002.sql"),
    include_str!("../../migrations/0003.sql"),
    include_str!("../../migrations/0004.sql"),
    include_str!("../../migrations/0005.sql"),
    include_str!("../../migrations/0006.sql"),
    include_str!("../../migrations/0007.sql"),
    include_str!("../../migrations/0008.sql"),
    include_str!("../../migrations/0009.sql"),
    include_str!("../../migrations/0010.sql"),
    include_str!("../../migrations/0011.sql"),
    include_str!("../../migrations/0012.sql"),
    include_str!("../../migrations/0013.sql"),
    include_str!("../../migrations/0014.sql"),
    include_str!("../../migrations/0015.sql"),
    include_str!("../../migrations/0016.sql"),
    include_str!("../../migrations/0017.sql"),
];

/// The version that [`migrate`] leads to.
pub(super) fn known() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

/// Refuses a file that is not ours or from the future, and changes nothing.
pub(super) fn check(connection: &Connection, path: &Path) -> Outcome<()> {
    match version(connection) {
        Ok(Some(found)) if found > known() => Err(StoreError::Newer { found, known: known() }),
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(StoreError::Foreign(path.display().to_string())),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            Err(StoreError::Foreign(path.display().to_string()))
        }
        Err(error) => Err(fault::from_sqlite(error)),
    }
}

/// Brings a database that [`check`] has let through to the newest version, in one transaction.
pub(super) fn migrate(connection: &mut Connection) -> Outcome<()> {
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault::from_sqlite)?;
    let found = version(&transaction).map_err(fault::from_sqlite)?.unwrap_or(0);
    if found == known() {
        return Ok(());
    }
    if found == 0 {
        transaction
            .execute_batch(
                "CREATE TABLE schema_version (version INTEGER NOT NULL) STRICT;
                 INSERT INTO schema_version (version) VALUES (0);",
            )
            .map_err(fault::from_sqlite)?;
    }
    for migration in MIGRATIONS.iter().skip(found as usize) {
        transaction.execute_batch(migration).map_err(fault::from_sqlite)?;
    }
    transaction.execute("UPDATE schema_version SET version = ?1", (known(),)).map_err(fault::from_sqlite)?;
    transaction.commit().map_err(fault::from_sqlite)
}

/// The version in the file: 0 if it holds nothing at all, `None` if it holds something else.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<Option<u32>> {
    let count = |sql: &str| connection.query_row(sql, (), |row| row.get::<_, i64>(0));
    if count("SELECT COUNT(*) FROM sqlite_schema")? == 0 {
        return Ok(Some(0));
    }
    if count("SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = 'schema_version'")? == 0 {
        return Ok(None);
    }
    connection.query_row("SELECT version FROM schema_version", (), |row| row.get(0)).optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrating_twice_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert_eq!(version(&connection), Ok(Some(0)));
        migrate(&mut connection).unwrap();
        assert_eq!(version(&connection), Ok(Some(known())));
        migrate(&mut connection).unwrap();
        assert_eq!(check(&connection, Path::new("x")), Ok(()));
    }

    /// Every table is STRICT: a column holds what its type says, or the write fails.
    #[test]
    fn every_table_is_strict() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        let loose: Vec<String> = connection
            .prepare("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND strict = 0 AND name NOT LIKE 'sqlite_%'")
            .unwrap()
            .query_map((), |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(loose, Vec::<String>::new());
    }

    #[test]
    fn versions_that_cannot_be_are_not_ours() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE schema_version (version INTEGER)").unwrap();
        assert_eq!(check(&connection, Path::new("x")), Err(StoreError::Foreign("x".into())));
        connection.execute_batch("INSERT INTO schema_version VALUES (1000)").unwrap();
        assert_eq!(check(&connection, Path::new("x")), Err(StoreError::Newer { found: 1000, known: known() }));
    }
}
