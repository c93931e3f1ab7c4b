//! Durable launches a second with 1, 16 and 64 clients waiting, beside the floor in the same run: bare SQLite, one connection, one insert
//! per transaction, `synchronous=FULL`. Each round asks both, one after the other, so that what else the machine does meets both. Files
//! are in the target directory, not in a memory disk.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark")]
#![allow(clippy::cast_precision_loss, reason = "figures")]

use core::sync::atomic::{AtomicU32, Ordering};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use inborn_store::conformance::samples::{bare, launch_with_token};
use inborn_store::{SqliteStore, Store};
use rusqlite::Connection;

const ROUNDS: usize = 5;
/// Launches, and inserts, of one round: seconds of it, on a disk that takes a millisecond for one write.
const OF_ONE_CLIENT: u32 = 512;
const OF_MANY_CLIENTS: u32 = 4096;
/// Numbers are never used twice.
static NUMBERS: AtomicU32 = AtomicU32::new(0);

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
        rates.push((bare, runtime.block_on(launches(&store, clients, all))));
    }
    runtime.block_on(store.close()).unwrap();
    let sorted = |of: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = rates.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let ratios = sorted(|rates| rates.1 / rates.0);
    println!(
        "{clients:>3} clients: {:>6.0} launches a second, {:>6.0} bare inserts: {:.0} % ({:.0} to {:.0})",
        sorted(|rates| rates.1)[ROUNDS / 2],
        sorted(|rates| rates.0)[ROUNDS / 2],
        100.0 * ratios[ROUNDS / 2],
        100.0 * ratios[0],
        100.0 * ratios[ROUNDS - 1],
    );
}

/// The floor: what a disk and SQLite do without us.
fn inserts(connection: &Connection, all: u32) -> f64 {
    let record = "x".repeat(300);
    let begun = Instant::now();
    for _ in 0..all {
        let id = bare(NUMBERS.fetch_add(1, Ordering::Relaxed)).id.to_string();
        let mut insert = connection.prepare_cached("INSERT INTO instances VALUES (?1, ?2)").unwrap();
        insert.execute((id, &record)).unwrap();
    }
    f64::from(all) / begun.elapsed().as_secs_f64()
}

/// Launches with a client token, one instance each, so many of them waiting at a time.
async fn launches(store: &Arc<SqliteStore>, clients: u32, all: u32) -> f64 {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                for _ in 0..all / clients {
                    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
                    store.launch(launch_with_token(vec![bare(number)], &number.to_string(), 1)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    f64::from(all) / begun.elapsed().as_secs_f64()
}
