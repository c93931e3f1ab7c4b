//! Files and connections: how they are made, locked and set.

use core::time::Duration;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::fault::{self, Outcome};
use crate::StoreError;

/// Only the owner: launches hold user data, and sealed keys are still keys.
const MODE: u32 = 0o600;
/// How long another program (`sqlite3`, a backup) may keep us waiting.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Statements kept prepared in each connection: more than there are.
const STATEMENTS_MAX: usize = 64;
/// What is left of the log file after a checkpoint, in bytes: a burst of writes does not keep the disk for ever.
const LOG_BYTES_MAX: i64 = 16 * 1024 * 1024;
/// Pages in the log after which it goes into the file. A page that was changed many times goes there once, and both are made durable for
/// that, so that it is worth to wait (SQLite's own default is 1,000); but it all fits in what is left of the log.
const LOG_PAGES: i64 = 3500;
/// Each connection's page cache, in KiB. The state of a region is small, and `up` is to be a small process.
const CACHE_KIB: i64 = 1024;

/// Takes the lock that keeps a second writer out. A file of its own: closing any descriptor of the database file would
/// drop the locks that SQLite holds on it.
pub(super) fn lock(path: &Path) -> Outcome<File> {
    // SQLite follows links too: whichever name a file is opened by, it is one file and has one lock.
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            must_be_no_link(path)?;
            path.to_owned()
        }
        Err(error) => return Err(at(path, &error)),
    };
    let mut name = OsString::from(real);
    name.push(".lock");
    let name = PathBuf::from(name);
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(MODE).open(&name);
    let file = file.map_err(|error| at(&name, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.display().to_string())),
        Err(TryLockError::Error(error)) => Err(at(&name, &error)),
    }
}

/// Makes the database file if it is not there, and its mode 0600 in any case. SQLite gives its log the same mode.
pub(super) fn create(path: &Path) -> Outcome<()> {
    let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(MODE).open(path);
    let file = opened.map_err(|error| at(path, &error))?;
    file.set_permissions(fs::Permissions::from_mode(MODE)).map_err(|error| at(path, &error))?;
    sync_directory(path)
}

/// Makes a file that is not there, with mode 0600: what is there, a link too, is refused.
pub(super) fn create_new(path: &Path) -> Outcome<()> {
    let made = OpenOptions::new().create_new(true).write(true).mode(MODE).open(path);
    made.map(drop).map_err(|error| at(path, &error))?;
    sync_directory(path)
}

/// Refuses a symbolic link: what is made by that name would replace the link, or be made where it leads.
pub(super) fn must_be_no_link(path: &Path) -> Outcome<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => {
            Err(StoreError::Io(format!("{} is a symbolic link: name the file itself", path.display())))
        }
        _ => Ok(()),
    }
}

/// A new file whose directory entry is lost in a power cut is lost with all that was acknowledged.
pub(super) fn sync_directory(path: &Path) -> Outcome<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(|error| at(parent, &error))
}

/// Refuses a path at which there is nothing.
pub(super) fn must_be_there(path: &Path) -> Outcome<()> {
    match fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(StoreError::Absent(path.display().to_string()))
        }
        Err(error) => Err(at(path, &error)),
    }
}

pub(super) fn at(path: &Path, error: &std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::StorageFull => StoreError::Full,
        _ => StoreError::Io(format!("{}: {error}", path.display())),
    }
}

/// The connection that writes. `check` looks at the file before anything in it is touched.
pub(super) fn connect_writer(
    path: &Path,
    pages_max: Option<u32>,
    check: impl FnOnce(&Connection) -> Outcome<()>,
) -> Outcome<Connection> {
    let connection = connect(path)?;
    check(&connection)?;
    tune(&connection)?;
    let mode: String = pragma(&connection, "journal_mode", "WAL")?;
    if mode != "wal" {
        return Err(StoreError::Io(format!("{}: this file system has no shared memory for a log", path.display())));
    }
    set(&connection, "synchronous", "FULL")?;
    set(&connection, "foreign_keys", true)?;
    let _: i64 = pragma(&connection, "journal_size_limit", LOG_BYTES_MAX)?;
    let _: i64 = pragma(&connection, "wal_autocheckpoint", LOG_PAGES)?;
    if let Some(pages) = pages_max {
        let _: i64 = pragma(&connection, "max_page_count", i64::from(pages))?;
    }
    Ok(connection)
}

/// A connection that only reads.
pub(super) fn connect_reader(path: &Path) -> Outcome<Connection> {
    // Opened for writing because a reader may have to make the shared memory of the log; `query_only` keeps it honest.
    let connection = connect(path)?;
    tune(&connection)?;
    set(&connection, "query_only", true)?;
    Ok(connection)
}

/// A connection that changes nothing, to a file that may be of any version and that others may have open.
pub(super) fn connect_to_read(path: &Path) -> Outcome<Connection> {
    must_be_there(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags).map_err(fault::from_sqlite)?;
    tune(&connection)?;
    set(&connection, "query_only", true)?;
    Ok(connection)
}

/// A connection to a file that nobody else knows yet: all of it is one transaction, and its log ends with it.
pub(super) fn connect_to_fill(path: &Path) -> Outcome<Connection> {
    let connection = connect(path)?;
    tune(&connection)?;
    let _: String = pragma(&connection, "journal_mode", "DELETE")?;
    set(&connection, "synchronous", "FULL")?;
    set(&connection, "foreign_keys", true)?;
    Ok(connection)
}

/// The only connection of a store in memory.
pub(super) fn connect_memory() -> Outcome<Connection> {
    let connection = Connection::open_in_memory().map_err(fault::from_sqlite)?;
    tune(&connection)?;
    set(&connection, "foreign_keys", true)?;
    Ok(connection)
}

fn connect(path: &Path) -> Outcome<Connection> {
    // Each connection stays on its thread, so SQLite needs no locks of its own. Paths are never read as URIs.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    Connection::open_with_flags(path, flags).map_err(fault::from_sqlite)
}

fn tune(connection: &Connection) -> Outcome<()> {
    connection.busy_timeout(BUSY_TIMEOUT).map_err(fault::from_sqlite)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    set(connection, "cache_size", -CACHE_KIB)?;
    // A schema that was tampered with runs no functions of its own.
    set(connection, "trusted_schema", false)
}

fn set(connection: &Connection, name: &str, value: impl rusqlite::ToSql) -> Outcome<()> {
    connection.pragma_update(None, name, value).map_err(fault::from_sqlite)
}

/// Sets a pragma that answers with what it is now.
fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str, value: impl rusqlite::ToSql) -> Outcome<T> {
    connection.pragma_update_and_check(None, name, value, |row| row.get(0)).map_err(fault::from_sqlite)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> T {
        connection.pragma_query_value(None, name, |row| row.get(0)).unwrap()
    }

    /// Whoever finds a name free and makes a link there leads nobody elsewhere.
    #[test]
    fn new_files_are_new() {
        let directory = tempfile::tempdir().unwrap();
        let [link, other] = ["link", "other"].map(|name| directory.path().join(name));
        std::os::unix::fs::symlink(&other, &link).unwrap();
        assert!(create_new(&link).is_err());
        assert!(!other.exists());
        create_new(&other).unwrap();
        assert_eq!(fs::metadata(&other).unwrap().permissions().mode() & 0o777, MODE);
        assert!(create_new(&other).is_err());
    }

    /// What durability rests on. 2 is FULL: the log is flushed at each commit.
    #[test]
    fn connections_are_set_as_they_must_be() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("region.db");
        create(&path).unwrap();
        let writer = connect_writer(&path, Some(100), |_| Ok(())).unwrap();
        assert_eq!(get::<String>(&writer, "journal_mode"), "wal");
        assert_eq!(get::<i64>(&writer, "synchronous"), 2);
        assert!(get::<bool>(&writer, "foreign_keys"));
        assert_eq!(get::<i64>(&writer, "max_page_count"), 100);
        assert_eq!(get::<i64>(&writer, "journal_size_limit"), LOG_BYTES_MAX);
        assert_eq!(get::<i64>(&writer, "wal_autocheckpoint"), LOG_PAGES);
        let reader = connect_reader(&path).unwrap();
        assert!(get::<bool>(&reader, "query_only"));
        for connection in [&writer, &reader] {
            assert_eq!(get::<i64>(connection, "cache_size"), -CACHE_KIB);
            assert_eq!(get::<i64>(connection, "busy_timeout"), 5000);
            assert!(!get::<bool>(connection, "trusted_schema"));
        }
        assert!(reader.execute_batch("CREATE TABLE intruder (a)").is_err());
    }
}
