//! Events that become Parquet per second, beside what can be done with neither less (each event is read as JSON, and its text is
//! compressed as Parquet is) and what comes in (the same events appended, one sync for all): compaction must not be slower than
//! what it is to keep up with. Files are in the target directory, not in a memory disk.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark fails by panicking, and divan makes undocumented items"
)]

mod support;

use divan::Bencher;
use divan::counter::ItemsCount;
use inborn_identity::UnixTime;
use inborn_lake::{Lake, Settings};
use serde_json::Value;
use support::{BATCHES, EVENTS, NOW, Numbers, batches, directory, filled};

fn main() {
    divan::main();
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn bare_json_and_zstd(bencher: Bencher<'_, '_>) {
    let all = batches(&mut Numbers(7));
    bencher.counter(ItemsCount::new(EVENTS * BATCHES)).bench_local(|| {
        let mut text = String::new();
        for record in all.iter().flat_map(|batch| &batch.records) {
            assert!(serde_json::from_str::<Value>(&record.json).unwrap().is_object());
            text.push_str(&record.json);
        }
        zstd::bulk::compress(text.as_bytes(), 3).unwrap().len()
    });
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn ingest(bencher: Bencher<'_, '_>) {
    let directory = directory();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let lake = Lake::open(directory.path(), Settings::default(), UnixTime::from_secs(NOW)).unwrap();
    let mut numbers = Numbers(1);
    bencher.counter(ItemsCount::new(EVENTS * BATCHES)).with_inputs(|| batches(&mut numbers)).bench_local_values(
        |batches| {
            runtime.block_on(async {
                for appended in
                    futures_util::future::join_all(batches.into_iter().map(|batch| lake.append(batch))).await
                {
                    assert_eq!(appended.unwrap().kept, EVENTS);
                }
            });
        },
    );
    runtime.block_on(lake.close());
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn compaction(bencher: Bencher<'_, '_>) {
    bencher
        .counter(ItemsCount::new(EVENTS * BATCHES))
        .with_inputs(|| {
            let directory = directory();
            (filled(directory.path()), directory)
        })
        .bench_local_refs(|(lake, _)| lake.compact().unwrap());
}
