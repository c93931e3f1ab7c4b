//! Looking up the host keys of one machine among those of a million, beside the floor in the same file: bare SQLite, one row by
//! its key. What is promised is a millisecond. The million is made once, in the target directory, and removed at the end: some
//! 2 GB.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark fails by panicking, and divan makes undocumented items"
)]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use divan::Bencher;
use inborn_identity::InstanceId;
use inborn_store::conformance::samples::{bare, host_keys, id, launch};
use inborn_store::{HostKeys, HostKeysChange, SqliteStore, Store};
use rusqlite::Connection;
use tokio::runtime::Runtime;

const MACHINES: u64 = 1_000_000;
/// As long as the lines of an Ed25519, an ECDSA and an RSA key of 3072 bits.
const KEY_LINES_BYTES: usize = 830;

fn main() {
    let directory = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    FILE.set(directory.path().join("region.db")).unwrap();
    divan::main();
}

static FILE: OnceLock<PathBuf> = OnceLock::new();

/// The file with the million, made when it is asked for first.
fn million() -> &'static Path {
    static MADE: OnceLock<()> = OnceLock::new();
    let file = FILE.get().unwrap();
    MADE.get_or_init(|| make(file));
    file
}

/// One machine as the store writes it, and then copies of its rows.
fn make(file: &Path) {
    runtime().block_on(async {
        let store = SqliteStore::open(file).unwrap();
        store.launch(launch(vec![bare(1)])).await.unwrap();
        let keys = HostKeys { pending: None, past: Vec::new(), ..host_keys(1) };
        store.put_host_keys(HostKeysChange { instance: id(1), revision: 0, keys }).await.unwrap();
        store.close().await.unwrap();
    });
    let connection = Connection::open(file).unwrap();
    connection.execute_batch("PRAGMA synchronous = OFF; BEGIN;").unwrap();
    // Before it is copied: a million rows that are changed are written twice.
    let lines = "x".repeat(KEY_LINES_BYTES);
    connection.execute("UPDATE host_key_sets SET key_lines = ?1", (lines,)).unwrap();
    for (table, key) in [("instances", "id"), ("host_key_records", "instance_id"), ("host_key_sets", "instance_id")] {
        copy(&connection, table, key);
    }
    connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE); ANALYZE;").unwrap();
}

/// Makes a million rows of the one that there is, each with an id of its own.
fn copy(connection: &Connection, table: &str, key: &str) {
    let mut statement = connection.prepare(&format!("SELECT name FROM pragma_table_info('{table}')")).unwrap();
    let columns: Vec<String> = statement.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let values: Vec<&str> =
        columns.iter().map(|name| if name == key { "printf('i-%017x', n)" } else { name.as_str() }).collect();
    let sql = format!(
        "WITH RECURSIVE numbers (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM numbers WHERE n < {MACHINES})
         INSERT INTO {table} ({}) SELECT {} FROM numbers, (SELECT * FROM {table} LIMIT 1)",
        columns.join(", "),
        values.join(", ")
    );
    assert_eq!(u64::try_from(connection.execute(&sql, ()).unwrap()).unwrap(), MACHINES);
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap()
}

/// Ids in an order that no cache foresees: a full cycle of a congruential generator modulo 2^20, those above the million left out.
fn ids() -> impl FnMut() -> InstanceId {
    let mut state: u64 = 1;
    move || loop {
        state = (state * 1_664_525 + 1_013_904_223) % (1 << 20);
        if (1..=MACHINES).contains(&state) {
            return format!("i-{state:017x}").parse().unwrap();
        }
    }
}

/// The floor: one row by its key.
#[divan::bench(sample_count = 100, sample_size = 100)]
fn bare_sqlite_row(bencher: Bencher<'_, '_>) {
    let connection = Connection::open(million()).unwrap();
    let mut next = ids();
    let sql = "SELECT key_lines FROM host_key_sets WHERE instance_id = ?1 AND place = 0";
    bencher.bench_local(|| {
        let mut statement = connection.prepare_cached(sql).unwrap();
        statement.query_row((next().to_string(),), |row| row.get::<_, String>(0)).unwrap()
    });
}

/// The whole record by the store, as `GetEC2HostKeys` reads it.
#[divan::bench(sample_count = 100, sample_size = 100)]
fn of_one_machine_among_a_million(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let store = SqliteStore::open(million()).unwrap();
    let mut next = ids();
    bencher.bench_local(|| {
        let (revision, keys) = runtime.block_on(store.host_keys(next())).unwrap();
        assert!(revision == 1 && keys.current.is_some());
    });
    runtime.block_on(store.close()).unwrap();
}
