//! Events that are durable per second, with 1, 8 and 32 batches of 500 waiting at a time, beside the floor in the same run:
//! the same bytes, compressed in the same way, appended to a file that was set aside, and one `fdatasync` for each so many.
//! And what a question and compaction cost. Files are in the target directory, not in a memory disk.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark fails by panicking, and divan makes undocumented items"
)]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use divan::Bencher;
use divan::counter::ItemsCount;
use inborn_identity::{AccountId, InstanceId, UnixTime};
use inborn_lake::{Lake, Query, Settings};
use inborn_telemetry::{Batch, ClassUid, Record, Source};

const NOW: u64 = 1_800_000_000;
/// Events of one batch.
const EVENTS: usize = 500;
/// Batches of one iteration.
const BATCHES: usize = 32;

fn main() {
    divan::main();
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap()
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// An event of about 780 bytes, of which a third is different each time.
fn record(numbers: &mut Numbers) -> Record {
    let time_ms = i64::try_from(NOW * 1000 + numbers.next() % 60_000).unwrap();
    let uid = format!("{:016x}-{:016x}", numbers.next(), numbers.next());
    let (pid, parent) = (numbers.next() % 99_999, numbers.next() % 99_999);
    let [a, b, c, d, e, f] = [(); 6].map(|()| numbers.next());
    let json = format!(
        r#"{{"class_uid":1007,"category_uid":1,"activity_id":1,"type_uid":100701,"severity_id":1,"time":{time_ms},"metadata":{{"version":"1.3.0","uid":"{uid}","log_provider":"audit","product":{{"name":"sensor","vendor_name":"Inborn"}}}},"device":{{"type_id":6,"uid":"i-0909090909090909","hostname":"web-1"}},"cloud":{{"provider":"AWS","region":"eu-west-1","account":{{"uid":"123456789012"}}}},"actor":{{"process":{{"pid":{parent},"uid":"{a:016x}-{parent}","name":"sh","file":{{"path":"/usr/bin/sh","name":"sh","type_id":1}}}}}},"process":{{"pid":{pid},"uid":"{b:016x}-{pid}","name":"worker","cmd_line":"worker --job {c:016x} --out /var/tmp/{d:016x} --key {e:016x}{f:016x}","created_time":{time_ms},"file":{{"path":"/usr/lib/worker/worker","name":"worker","type_id":1}},"user":{{"uid":"1000","name":"anna"}}}}}}"#
    );
    Record { uid: uid.into(), time_ms, class: ClassUid(1007), json: json.into() }
}

fn batches(numbers: &mut Numbers) -> Vec<Batch> {
    let batch = |machine: usize| Batch {
        source: Source {
            account: AccountId::new(123_456_789_012).unwrap(),
            instance: InstanceId::from_bytes([u8::try_from(machine).unwrap(); 9]),
            region: "eu-west-1".parse().unwrap(),
        },
        received_at: UnixTime::from_secs(NOW),
        records: (0..EVENTS).map(|_| record(numbers)).collect(),
    };
    (0..BATCHES).map(batch).collect()
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

fn filled(directory: &Path) -> Lake {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let lake = Lake::open(directory, Settings::default(), UnixTime::from_secs(NOW)).unwrap();
    for batch in batches(&mut Numbers(7)) {
        runtime.block_on(lake.append(batch)).unwrap();
    }
    lake
}

/// How many events become Parquet in a second: what compaction can keep up with.
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
