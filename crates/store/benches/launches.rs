//! Durable launches a second with 1, 16 and 64 clients waiting, beside the floor in the same run: bare SQLite, one connection, one insert
//! per transaction, `synchronous=FULL`. Each round asks both, one after the other, so that what else the machine does meets both. Files
//! are in the target directory, not in a memory disk.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark")]
#![allow(clippy::cast_precision_loss, reason = "figures")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use inborn_store::conformance::rates::{compared, launches_a_second, new_number};
use inborn_store::conformance::samples::bare;
use inborn_store::{SqliteStore, Store};
use rusqlite::Connection;

const ROUNDS: usize = 5;
/// Launches, and inserts, of one round: seconds of it, on a disk that takes a millisecond for one write.
const OF_ONE_CLIENT: u32 = 512;
const OF_MANY_CLIENTS: u32 = 4096;

fn main() {
    // `cargo test --benches` only wants to see that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    println!("SQLite {}", rusqlite::version());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    for clients in [1, 16, 64] {
        compare(&runtime, clients);
    }
}

fn compare(runtime: &tokio::runtime::Runtime, clients: u32) {
    let all = if clients == 1 { OF_ONE_CLIENT } else { OF_MANY_CLIENTS };
    let directory = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let connection = Connection::open(directory.path().join("bare.db")).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE instances (id TEXT NOT NULL PRIMARY KEY, record TEXT NOT NULL) STRICT;",
        )
        .unwrap();
    let store = Arc::new(SqliteStore::open(&directory.path().join("region.db")).unwrap());
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        // As many inserts as one client has launches: bare SQLite has one writer, whoever waits for it.
        let bare = inserts(&connection, OF_ONE_CLIENT);
        rates.push((bare, runtime.block_on(launches_a_second(&store, clients, all))));
    }
    runtime.block_on(store.close()).unwrap();
    println!("{}", compared(clients, &rates));
}

/// The floor: what a disk and SQLite do without us.
fn inserts(connection: &Connection, all: u32) -> f64 {
    let record = "x".repeat(300);
    let begun = Instant::now();
    for _ in 0..all {
        let id = bare(new_number()).id.to_string();
        let mut insert = connection.prepare_cached("INSERT INTO instances VALUES (?1, ?2)").unwrap();
        insert.execute((id, &record)).unwrap();
    }
    f64::from(all) / begun.elapsed().as_secs_f64()
}
