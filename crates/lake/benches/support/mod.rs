//! Events as a sensor sends them, and a lake with some.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "each benchmark uses its part, and fails by panicking"
)]

use std::path::Path;

use inborn_identity::{AccountId, InstanceId, UnixTime};
use inborn_lake::{Lake, Settings};
use inborn_telemetry::{Batch, ClassUid, Record, Source};

pub(crate) const NOW: u64 = 1_800_000_000;
/// Events of one batch.
pub(crate) const EVENTS: usize = 500;
/// Batches of one iteration.
pub(crate) const BATCHES: usize = 32;

pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap()
}

/// Numbers that look random and are the same in every run.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// An event of about 780 bytes, of which a third is different each time.
pub(crate) fn record(numbers: &mut Numbers) -> Record {
    let time_ms = i64::try_from(NOW * 1000 + numbers.next() % 60_000).unwrap();
    let uid = format!("{:016x}-{:016x}", numbers.next(), numbers.next());
    let (pid, parent) = (numbers.next() % 99_999, numbers.next() % 99_999);
    let [a, b, c, d, e, f] = [(); 6].map(|()| numbers.next());
    let json = format!(
        r#"{{"class_uid":1007,"category_uid":1,"activity_id":1,"type_uid":100701,"severity_id":1,"time":{time_ms},"metadata":{{"version":"1.3.0","uid":"{uid}","log_provider":"audit","product":{{"name":"sensor","vendor_name":"Inborn"}}}},"device":{{"type_id":6,"uid":"i-0909090909090909","hostname":"web-1"}},"cloud":{{"provider":"AWS","region":"eu-west-1","account":{{"uid":"123456789012"}}}},"actor":{{"process":{{"pid":{parent},"uid":"{a:016x}-{parent}","name":"sh","file":{{"path":"/usr/bin/sh","name":"sh","type_id":1}}}}}},"process":{{"pid":{pid},"uid":"{b:016x}-{pid}","name":"worker","cmd_line":"worker --job {c:016x} --out /var/tmp/{d:016x} --key {e:016x}{f:016x}","created_time":{time_ms},"file":{{"path":"/usr/lib/worker/worker","name":"worker","type_id":1}},"user":{{"uid":"1000","name":"anna"}}}}}}"#
    );
    Record { uid: uid.into(), time_ms, class: ClassUid(1007), json: json.into() }
}

pub(crate) fn batches(numbers: &mut Numbers) -> Vec<Batch> {
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

pub(crate) fn filled(directory: &Path) -> Lake {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let lake = Lake::open(directory, Settings::default(), UnixTime::from_secs(NOW)).unwrap();
    for batch in batches(&mut Numbers(7)) {
        runtime.block_on(lake.append(batch)).unwrap();
    }
    lake
}
