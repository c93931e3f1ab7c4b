//! One moment of a file, beside whoever has it open.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, params_from_iter};

use super::fault::{self, Outcome};
use super::{file, schema};
use crate::dump::{Cell, CellKind, Origin, Row, Snapshot, Table};
use crate::{Future, StoreError};

/// What is wrong with a file is told up to so many lines.
const FAULTS_MAX: u32 = 20;

/// One moment of a SQLite store: read without changing anything, also while a region has it open. What is read blocks the task that
/// asks, so this is for commands, not for servers.
pub struct SqliteSnapshot {
    connection: Connection,
    path: PathBuf,
    schema: u32,
    _lock: Option<File>,
}

impl SqliteSnapshot {
    /// Opens the file at `path`, of whatever version.
    ///
    /// # Errors
    /// `Absent`, `Newer`, `Foreign`, `Io`.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = file::connect_to_read(path)?;
        // Whatever is read from here on is of one moment.
        fault::run(&connection, "BEGIN")?;
        schema::check(&connection, path)?;
        let schema = schema::version(&connection).map_err(fault::from_sqlite)?.unwrap_or(0);
        Ok(Self { connection, path: path.to_owned(), schema, _lock: None })
    }

    /// As [`SqliteSnapshot::open`], and keeps everybody else from opening the store for as long as it lives.
    ///
    /// # Errors
    /// As [`SqliteSnapshot::open`]; `InUse`.
    pub fn open_alone(path: &Path) -> Result<Self, StoreError> {
        file::must_be_there(path)?;
        let lock = file::lock(path)?;
        Ok(Self { _lock: Some(lock), ..Self::open(path)? })
    }

    /// The version of its schema; 0: there is nothing in it.
    #[must_use]
    pub const fn schema(&self) -> u32 {
        self.schema
    }

    /// The version that this program works with.
    #[must_use]
    pub fn known_schema() -> u32 {
        schema::known()
    }

    /// Refuses a store of another version than this program's.
    ///
    /// # Errors
    /// `Older`.
    pub fn must_be_current(&self) -> Result<(), StoreError> {
        if self.schema == schema::known() {
            return Ok(());
        }
        Err(StoreError::Older { found: self.schema, known: schema::known() })
    }

    /// What SQLite itself finds wrong with the file: pages, indexes, and rows that belong to nothing.
    ///
    /// # Errors
    /// `Io`.
    pub fn faults(&self) -> Result<Vec<String>, StoreError> {
        let mut faults = Vec::new();
        let sql = format!("PRAGMA integrity_check({FAULTS_MAX})");
        let found = self.connection.prepare(&sql).and_then(|mut statement| {
            statement.query_map((), |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<String>>>()
        });
        faults.extend(or_damage(found)?.into_iter().filter(|line| line != "ok"));
        let orphans = self.connection.prepare("PRAGMA foreign_key_check").and_then(|mut statement| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(2)?));
            let told = |(table, parent)| format!("a row of {table} belongs to none of {parent}");
            let found = statement.query_map((), read)?.take(FAULTS_MAX as usize);
            found.map(|orphan| orphan.map(told)).collect::<rusqlite::Result<Vec<String>>>()
        });
        faults.extend(or_damage(orphans)?);
        Ok(faults)
    }

    pub(super) fn count_now(&self, sql: &str) -> Outcome<u64> {
        count(&self.connection, sql)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What was found; if the file is too damaged for that, that it is.
fn or_damage(found: rusqlite::Result<Vec<String>>) -> Result<Vec<String>, StoreError> {
    found.or_else(|error| match fault::from_sqlite(error) {
        StoreError::Corrupt(what) => Ok(vec![what]),
        other => Err(other),
    })
}

impl Snapshot for SqliteSnapshot {
    fn origin(&self) -> Origin {
        origin(self.schema)
    }

    fn page<'a>(&'a mut self, table: &'static Table, after: Option<Row>) -> Future<'a, Vec<Row>> {
        Box::pin(core::future::ready(page(&self.connection, table, after)))
    }

    fn count<'a>(&'a mut self, sql: String) -> Future<'a, u64> {
        Box::pin(core::future::ready(count(&self.connection, &sql)))
    }
}

pub(super) fn origin(schema: u32) -> Origin {
    Origin { kind: "sqlite".to_owned(), schema }
}

pub(super) fn count(connection: &Connection, sql: &str) -> Outcome<u64> {
    let count: i64 = connection.query_row(sql, (), |row| row.get(0)).map_err(fault::from_sqlite)?;
    u64::try_from(count).map_err(fault::corrupt)
}

pub(super) fn page(connection: &Connection, table: &Table, after: Option<Row>) -> Outcome<Vec<Row>> {
    let sql = table.select('?', after.is_some());
    let mut statement = connection.prepare_cached(&sql).map_err(fault::from_sqlite)?;
    let key = after.unwrap_or_default();
    let mut rows = statement.query(params_from_iter(key.iter().map(Parameter))).map_err(fault::from_sqlite)?;
    let mut page = table.new_page();
    while let Some(row) = rows.next().map_err(fault::from_sqlite)? {
        let mut cells = Row::with_capacity(table.columns.len());
        for (at, column) in table.columns.iter().enumerate() {
            let strange =
                || StoreError::Corrupt(format!("{}.{} holds what was never written there", table.name, column.name));
            cells.push(match (row.get_ref(at).map_err(fault::from_sqlite)?, column.kind) {
                (ValueRef::Null, _) => Cell::Null,
                (ValueRef::Integer(0), CellKind::Flag) => Cell::Flag(false),
                (ValueRef::Integer(1), CellKind::Flag) => Cell::Flag(true),
                (ValueRef::Integer(number), CellKind::Number) => Cell::Number(number),
                (ValueRef::Text(text), CellKind::Text) => {
                    Cell::Text(core::str::from_utf8(text).map_err(|_| strange())?.to_owned())
                }
                (ValueRef::Blob(bytes), CellKind::Bytes) => Cell::Bytes(bytes.to_vec()),
                _ => return Err(strange()),
            });
        }
        if !page.push(cells) {
            break;
        }
    }
    Ok(page.into_rows())
}

/// A cell as SQLite takes it.
pub(super) struct Parameter<'a>(pub(super) &'a Cell);

impl rusqlite::ToSql for Parameter<'_> {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(rusqlite::types::ToSqlOutput::Borrowed(match self.0 {
            Cell::Null => ValueRef::Null,
            Cell::Flag(flag) => ValueRef::Integer(i64::from(*flag)),
            Cell::Number(number) => ValueRef::Integer(*number),
            Cell::Text(text) => ValueRef::Text(text.as_bytes()),
            Cell::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
