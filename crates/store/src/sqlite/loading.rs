//! A new file that rows are put into: beside its place until it is whole, then moved there.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params_from_iter};

use super::fault::{self, Outcome};
use super::snapshot::{Parameter, SqliteSnapshot, count, origin, page};
use super::{file, schema};
use crate::dump::{Loading, Origin, Row, Snapshot, TABLES, Table};
use crate::{Conflict, Future, StoreError};

/// Behind the name of the file: what is not whole yet. A killed restore leaves it; the next one takes it away.
const UNFINISHED: &str = ".restoring";

/// A SQLite store that is being filled. The file is at its place once it is whole and on disk, and not before.
pub struct SqliteLoading {
    connection: Option<Connection>,
    path: PathBuf,
    unfinished: PathBuf,
    _lock: File,
}

impl SqliteLoading {
    /// Begins a store that is to be at `path`, where there is none, or an empty one that nobody has open.
    ///
    /// # Errors
    /// `InUse`, `Conflict`, `Newer`, `Foreign`, `Full`, `Io`.
    pub fn begin(path: &Path) -> Result<Self, StoreError> {
        file::must_be_no_link(path)?;
        let lock = file::lock(path)?;
        if path.exists() {
            must_be_empty(path)?;
        }
        let unfinished = beside(path, UNFINISHED);
        for name in with_logs(&unfinished) {
            remove(&name)?;
        }
        file::create_new(&unfinished)?;
        let mut connection = file::connect_to_fill(&unfinished)?;
        schema::migrate(&mut connection)?;
        fault::run(&connection, "BEGIN IMMEDIATE")?;
        Ok(Self { connection: Some(connection), path: path.to_owned(), unfinished, _lock: lock })
    }

    fn connection(&self) -> Outcome<&Connection> {
        self.connection.as_ref().ok_or(StoreError::Closed)
    }

    fn put_all(&self, table: &Table, rows: &[Row]) -> Outcome<()> {
        let mut statement = self.connection()?.prepare_cached(&table.insert('?')).map_err(fault::from_sqlite)?;
        for row in rows {
            let values = params_from_iter(row.iter().map(Parameter));
            statement.execute(values).map_err(|error| fault::from_insertion(error, "a row"))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Outcome<()> {
        let Some(connection) = self.connection.take() else { return Err(StoreError::Closed) };
        fault::run(&connection, "COMMIT")?;
        connection.close().map_err(|(_, error)| fault::from_sqlite(error))?;
        // An empty store that was there is replaced, and a log of it must not be read into the new one.
        for name in with_logs(&self.path).into_iter().skip(1) {
            remove(&name)?;
        }
        fs::rename(&self.unfinished, &self.path).map_err(|error| file::at(&self.path, &error))?;
        file::sync_directory(&self.path)
    }
}

impl Drop for SqliteLoading {
    fn drop(&mut self) {
        // After `finish` there is none of this name; before it, nobody wants what there is.
        drop(self.connection.take());
        for name in with_logs(&self.unfinished) {
            let _ = fs::remove_file(name);
        }
    }
}

/// The file, and those that SQLite makes beside it.
fn with_logs(path: &Path) -> [PathBuf; 4] {
    ["", "-wal", "-shm", "-journal"].map(|end| beside(path, end))
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

fn remove(path: &Path) -> Outcome<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(file::at(path, &error)),
        _ => Ok(()),
    }
}

fn must_be_empty(path: &Path) -> Outcome<()> {
    let found = SqliteSnapshot::open(path)?;
    for table in TABLES {
        // Of an older version there may be fewer tables; what is there has rows, or has not.
        let is_there = format!("SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = '{}'", table.name);
        if found.count_now(&is_there)? > 0 && found.count_now(&table.count())? > 0 {
            return Err(Conflict::NotEmpty(table.name).into());
        }
    }
    Ok(())
}

impl Snapshot for SqliteLoading {
    fn origin(&self) -> Origin {
        origin(schema::known())
    }

    fn page<'a>(&'a mut self, table: &'static Table, after: Option<Row>) -> Future<'a, Vec<Row>> {
        let rows = self.connection().and_then(|connection| page(connection, table, after));
        Box::pin(core::future::ready(rows))
    }

    fn count<'a>(&'a mut self, sql: String) -> Future<'a, u64> {
        let number = self.connection().and_then(|connection| count(connection, &sql));
        Box::pin(core::future::ready(number))
    }
}

impl Loading for SqliteLoading {
    fn put<'a>(&'a mut self, table: &'static Table, rows: Vec<Row>) -> Future<'a, ()> {
        let done = self.put_all(table, &rows);
        Box::pin(core::future::ready(done))
    }

    fn commit(self: Box<Self>) -> Future<'static, ()> {
        let done = self.finish();
        Box::pin(core::future::ready(done))
    }
}
