//! Durable launches per second with 1, 16 and 64 writers waiting, beside the floor in the same run: bare SQLite, one
//! connection, one insert per transaction, `synchronous=FULL`. Files are in the target directory, not in a memory disk.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark fails by panicking, and divan makes undocumented items"
)]

use core::sync::atomic::{AtomicU32, Ordering};
use std::path::Path;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use inborn_store::conformance::samples::{bare, launch_with_token};
use inborn_store::{SqliteStore, Store};
use rusqlite::Connection;

fn main() {
    divan::main();
}

/// Launches or inserts in one iteration.
const BATCH: u32 = 256;
/// Numbers are never used twice, in no iteration and no benchmark.
static NUMBERS: AtomicU32 = AtomicU32::new(0);

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap()
}

/// The floor: what a disk and SQLite do without us.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn bare_sqlite_inserts(bencher: Bencher<'_, '_>) {
    let directory = directory();
    let connection = Connection::open(directory.path().join("bare.db")).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE instances (id TEXT NOT NULL PRIMARY KEY, record TEXT NOT NULL) STRICT;",
        )
        .unwrap();
    let record = "x".repeat(300);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for _ in 0..BATCH {
            let id = bare(NUMBERS.fetch_add(1, Ordering::Relaxed)).id.to_string();
            let mut insert = connection.prepare_cached("INSERT INTO instances VALUES (?1, ?2)").unwrap();
            insert.execute((id, &record)).unwrap();
        }
    });
}

/// Launches with a client token, one instance each, so many of them waiting at a time.
#[divan::bench(args = [1, 16, 64], sample_count = 10, sample_size = 1)]
fn launches(bencher: Bencher<'_, '_>, writers: u32) {
    let directory = directory();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let store = Arc::new(SqliteStore::open(&directory.path().join("region.db")).unwrap());
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        runtime.block_on(async {
            let tasks: Vec<_> = (0..writers)
                .map(|_| {
                    let store = Arc::clone(&store);
                    tokio::spawn(async move {
                        for _ in 0..BATCH / writers {
                            let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
                            store.launch(launch_with_token(vec![bare(number)], &number.to_string(), 1)).await.unwrap();
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
    });
    runtime.block_on(store.close()).unwrap();
}
