//! The schema, as numbered migrations that are never edited once released.
//!
//! Programs of two versions may work on one database while a fleet is upgraded. So the database says two numbers: the
//! version it is at, and the oldest program that may still use it. A migration that only adds leaves the second as it is.

use core::hash::{BuildHasher, Hasher};
use std::hash::RandomState;

use deadpool_postgres::Object;
use inborn_store::StoreError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::fault::{self, Fault, Outcome};
use crate::transaction::Session;

/// A step from version `n - 1` to version `n`, where `n` is its place, from 1.
struct Migration {
    /// Statements that may each be done again.
    sql: &'static str,
    /// The oldest version whose programs can work with what the step leads to.
    usable_from: u32,
}

const MIGRATIONS: &[Migration] = &[
    Migration { sql: include_str!("../migrations/0001.sql"), usable_from: 1 },
    Migration { sql: include_str!("../migrations/0002.sql"), usable_from: 2 },
    // A program that knows no hosts would go on serving the machines of one that was evicted.
    Migration { sql: include_str!("../migrations/0003.sql"), usable_from: 3 },
    // A program that knows no quarantine would let in who is in it.
    Migration { sql: include_str!("../migrations/0004.sql"), usable_from: 4 },
    // A program that reads its epochs once would seal with one that is over.
    Migration { sql: include_str!("../migrations/0005.sql"), usable_from: 5 },
    // A program that knows one account would show its operators what is another's.
    Migration { sql: include_str!("../migrations/0006.sql"), usable_from: 6 },
    Migration { sql: include_str!("../migrations/0007.sql"), usable_from: 6 },
    Migration { sql: include_str!("../migrations/0008.sql"), usable_from: 6 },
];

/// What `usable_from` is while a restore is under way: no program of any version opens such a database.
pub(crate) const HALF_RESTORED: u32 = 4_000_000_000;

/// How often a migration is begun again, when another program migrates at the same time.
const ATTEMPTS_MAX: u32 = 10;

/// What a database says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SchemaVersion {
    /// The version it is at; 0: there is nothing in it.
    pub version: u32,
    /// The oldest version whose programs may use it.
    pub usable_from: u32,
}

/// The version that [`migrate`] leads to.
pub(crate) fn known() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

/// What the database says of itself. Refuses one that is not ours, from the future or not fit, and changes nothing.
pub(crate) async fn check(client: &Object) -> Result<SchemaVersion, StoreError> {
    fit(client).await?;
    let found = version(client).await?;
    if found.usable_from == HALF_RESTORED {
        return Err(StoreError::HalfRestored);
    }
    if found.usable_from > known() {
        return Err(StoreError::Newer { found: found.version, known: known() });
    }
    Ok(found)
}

/// Brings a database that [`check`] has let through to the newest version that is known. Several programs may do so at once.
pub(crate) async fn migrate(client: &Object) -> Result<(), StoreError> {
    let mut attempt = 1;
    loop {
        match steps(client).await {
            Ok(()) => return Ok(()),
            Err(error) if attempt < ATTEMPTS_MAX && is_of_another(&error) => {
                tokio::time::sleep(core::time::Duration::from_millis(50 * u64::from(attempt))).await;
                attempt += 1;
            }
            Err(error) => return Err(told(&error)),
        }
    }
}

/// One statement at a time, each on its own: CockroachDB changes no schema inside of a larger transaction.
async fn steps(client: &Object) -> Result<(), Error> {
    let table = "CREATE TABLE IF NOT EXISTS schema_version (one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1), \
        version BIGINT NOT NULL, usable_from BIGINT NOT NULL)";
    client.execute(table, &[]).await?;
    let row = "INSERT INTO schema_version (one, version, usable_from) VALUES (1, 0, 0) ON CONFLICT (one) DO NOTHING";
    client.execute(row, &[]).await?;
    let found: i64 = client.query_one("SELECT version FROM schema_version", &[]).await?.try_get(0)?;
    for (number, migration) in (1_i64..).zip(MIGRATIONS).filter(|(number, _)| *number > found) {
        for statement in statements(migration.sql) {
            client.batch_execute(&statement).await?;
        }
        // Never backwards: another program may be ahead.
        let done = "UPDATE schema_version SET version = $1, usable_from = $2 WHERE version < $1";
        client.execute(done, &[&number, &i64::from(migration.usable_from)]).await?;
    }
    Ok(())
}

/// The statements of a migration, without its comments. No text in it holds a semicolon or two dashes: a test looks.
pub(crate) fn statements(sql: &str) -> Vec<String> {
    let lines = sql.lines().map(|line| line.split_once("--").map_or(line, |(code, _)| code));
    let code: String = lines.flat_map(|line| [line, "\n"]).collect();
    code.split(';').map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}

/// Two programs made the same thing at once: PostgreSQL finds out by its own catalogue's keys.
fn is_of_another(error: &Error) -> bool {
    error.code().is_some_and(|code| {
        [
            SqlState::UNIQUE_VIOLATION,
            SqlState::DUPLICATE_TABLE,
            SqlState::DUPLICATE_OBJECT,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::INTERNAL_ERROR,
        ]
        .contains(code)
    })
}

/// A number that is none of before.
pub(crate) fn another_filled() -> i64 {
    i64::try_from(RandomState::new().build_hasher().finish() >> 1).unwrap_or(i64::MAX)
}

/// What the database says of its last restore, or of its last sealing anew: another number after each.
pub(crate) async fn filled(client: &Object) -> Result<i64, StoreError> {
    let row = client.query_one("SELECT filled FROM schema_version WHERE one = 1", &[]).await;
    row.and_then(|row| row.try_get(0)).map_err(|error| told(&error))
}

/// Whether a transaction that writes is in the database that was opened: not in one that was restored since, or is just being, nor in
/// one that a later program has made its own.
pub(crate) async fn must_be_as_opened(session: &Session<'_>, filled: i64) -> Outcome<()> {
    let sql = "SELECT version, usable_from, filled FROM schema_version WHERE one = 1";
    let row = session.row(sql, &[]).await?.ok_or(StoreError::Replaced)?;
    let (version, usable_from): (u32, u32) = (row.number("version")?, row.number("usable_from")?);
    if usable_from == HALF_RESTORED {
        return Err(StoreError::Unavailable("a restore into it is under way".to_owned()).into());
    }
    if usable_from > known() {
        return Err(StoreError::Newer { found: version, known: known() }.into());
    }
    if row.number::<i64>("filled")? != filled {
        return Err(StoreError::Replaced.into());
    }
    Ok(())
}

/// The oldest program that may use a database of the version that is known.
pub(crate) fn usable_from() -> u32 {
    MIGRATIONS.last().map_or(0, |migration| migration.usable_from)
}

/// What a store takes for granted: texts are Unicode and ordered by their bytes, as in SQLite.
pub(crate) async fn fit(client: &Object) -> Result<(), StoreError> {
    let encoding = one_text(client, "SHOW server_encoding").await?;
    if !matches!(encoding.to_ascii_uppercase().as_str(), "UTF8" | "UTF-8") {
        return Err(StoreError::Unfit(format!(
            "its encoding is {encoding}: create it with ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )));
    }
    let ordered = "SELECT CASE WHEN 'B' < 'a' AND 'a-z' < 'aa' THEN 'bytes' ELSE 'words' END";
    if one_text(client, ordered).await? != "bytes" {
        return Err(StoreError::Unfit(
            "it orders texts by a language: create it with ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
                .to_owned(),
        ));
    }
    Ok(())
}

async fn one_text(client: &Object, sql: &str) -> Result<String, StoreError> {
    let row = client.query_one(sql, &[]).await.map_err(|error| told(&error))?;
    row.try_get(0).map_err(|error| told(&error))
}

/// What the database says of itself, whatever that is.
pub(crate) async fn version(client: &Object) -> Result<SchemaVersion, StoreError> {
    match client.query_opt("SELECT version, usable_from FROM schema_version WHERE one = 1", &[]).await {
        Ok(Some(row)) => {
            let number = |column| {
                let number: i64 = row.try_get(column).map_err(|error| told(&error))?;
                u32::try_from(number).map_err(|_| StoreError::Corrupt("the schema version".to_owned()))
            };
            Ok(SchemaVersion { version: number("version")?, usable_from: number("usable_from")? })
        }
        // A migration was begun and has not come to the row.
        Ok(None) => Ok(SchemaVersion { version: 0, usable_from: 0 }),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_COLUMN) => foreign(client).await,
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
            let tables = "SELECT table_name FROM information_schema.tables \
                WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'";
            let rows = client.query(tables, &[]).await.map_err(|error| told(&error))?;
            let is_ours = |row: &tokio_postgres::Row| row.try_get(0).is_ok_and(|name: &str| name == "schema_version");
            // Ours is there after all: another program has just begun to make them.
            if rows.is_empty() || rows.iter().any(is_ours) {
                return Ok(SchemaVersion { version: 0, usable_from: 0 });
            }
            foreign(client).await
        }
        Err(error) => Err(told(&error)),
    }
}

async fn foreign<T>(client: &Object) -> Result<T, StoreError> {
    Err(StoreError::Foreign(one_text(client, "SELECT current_database()").await?))
}

fn told(error: &Error) -> StoreError {
    match fault::from_statement(error) {
        Fault::Final(error) | Fault::Again(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_read_statement_by_statement() {
        let sql = "-- A comment; with a semicolon.\nCREATE TABLE a (b TEXT); -- c\n\nCREATE INDEX d\n ON a (b);\n";
        assert_eq!(statements(sql), ["CREATE TABLE a (b TEXT)", "CREATE INDEX d\n ON a (b)"]);
        assert!(statements(MIGRATIONS[0].sql).len() > 20);
        assert_eq!(statements(MIGRATIONS[1].sql).len(), 3);
    }

    /// What broke off is begun again, and two may do it at once.
    #[test]
    fn every_step_can_be_done_again() {
        for migration in MIGRATIONS {
            for statement in statements(migration.sql) {
                let words = ["IF NOT EXISTS", "IF EXISTS", "DO NOTHING", "WHERE account = ''"];
                let repeatable = words.iter().any(|word| statement.contains(word));
                assert!(repeatable, "{statement}");
            }
            assert!(migration.usable_from >= 1);
        }
        let oldest: Vec<_> = MIGRATIONS.iter().map(|migration| migration.usable_from).collect();
        assert!(oldest.is_sorted(), "a program that was too old does not become fit again");
    }
}
