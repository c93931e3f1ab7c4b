//! Events that are durable per second, with 1, 8 and 32 batches of 500 waiting at a time, beside the floor in the same run:
//! the same bytes, compressed in the same way, appended to a file that was set aside, and one `fdatasync` for each so many.
//! And what a question costs. Files are in the target directory, not in a memory disk.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark fails by panicking, and divan makes undocumented items"
)]

mod support;

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use divan::Bencher;
use divan::counter::ItemsCount;
use inborn_identity::{InstanceId, UnixTime};
use inborn_lake::{Lake, Query, Settings};
use inborn_telemetry::Batch;
use support::{BATCHES, EVENTS, NOW, Numbers, batches, directory, filled};

fn main() {
    divan::main();
}

/// The floor: what zstd and a disk do without us.
#[divan::bench(args = [1, 8, 32], sample_count = 10, sample_size = 1)]
fn bare_appends(bencher: Bencher<'_, '_>, per_sync: usize) {
    let directory = directory();
    let file = File::create(directory.path().join("bare")).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 256 << 20).unwrap();
    let mut numbers = Numbers(1);
    let mut zstd = zstd::bulk::Compressor::new(1).unwrap();
    let mut end = 0;
    bencher
        .counter(ItemsCount::new(EVENTS * BATCHES))
        .with_inputs(|| {
            let text = |batch: &Batch| batch.records.iter().map(|record| record.json.as_ref()).collect::<String>();
            batches(&mut numbers).iter().map(text).collect::<Vec<_>>()
        })
        .bench_local_values(|texts| {
            for group in texts.chunks(per_sync) {
                for text in group {
                    let stored = zstd.compress(text.as_bytes()).unwrap();
                    file.write_all_at(&stored, end).unwrap();
                    end += stored.len() as u64;
                }
                file.sync_data().unwrap();
            }
        });
}

#[divan::bench(args = [1, 8, 32], sample_count = 10, sample_size = 1)]
fn appends(bencher: Bencher<'_, '_>, waiting: usize) {
    let directory = directory();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let lake = Lake::open(directory.path(), Settings::default(), UnixTime::from_secs(NOW)).unwrap();
    let mut numbers = Numbers(1);
    bencher.counter(ItemsCount::new(EVENTS * BATCHES)).with_inputs(|| batches(&mut numbers)).bench_local_values(
        |batches| {
            runtime.block_on(async {
                let mut batches = batches.into_iter();
                while batches.len() > 0 {
                    let group = batches.by_ref().take(waiting).map(|batch| lake.append(batch));
                    for appended in futures_util::future::join_all(group).await {
                        assert_eq!(appended.unwrap().kept, EVENTS);
                    }
                }
            });
        },
    );
    runtime.block_on(lake.close());
}

/// The last ten events of one machine, in the log and in Parquet.
#[divan::bench(args = [false, true], sample_count = 10, sample_size = 1)]
fn last_ten(bencher: Bencher<'_, '_>, parquet: bool) {
    let directory = directory();
    let lake = filled(directory.path());
    if parquet {
        lake.compact().unwrap();
    }
    let query = Query { instances: vec![InstanceId::from_bytes([3; 9])], limit: 10, ..Query::default() };
    bencher.bench_local(|| assert_eq!(lake.query(&query).unwrap().events.len(), 10));
}
