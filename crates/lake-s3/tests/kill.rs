//! A process that appends, makes Parquet and delivers it is killed with SIGKILL at moments nobody chose, many times, on one lake
//! and one bucket. What it had acknowledged is found afterwards, once, and the bucket has no object that the lake does not know.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking; what it signs is judged by the computer's clock"
)]

mod double;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use double::{Double, Fault, KEY_ID, SECRET, TOKEN};
use inborn_identity::{AccountId, InstanceId, UnixTime};
use inborn_lake::{Lake, Order, Query, Settings};
use inborn_lake_s3::{Credentials, S3};
use inborn_telemetry::{Batch, ClassUid, Record, Source};

const PLACE: &str = "INBORN_S3_KILL_TEST_LAKE";
const URL: &str = "INBORN_S3_KILL_TEST_URL";
const FIRST: &str = "INBORN_S3_KILL_TEST_FIRST";
const ROUNDS: u32 = 10;
/// Numbers set aside for one round: more than a round can append.
const ROUND: u32 = 10_000;
const NOW: u64 = 1_800_000_000;

fn now() -> UnixTime {
    UnixTime::from_secs(NOW)
}

fn open(place: &Path, url: &str) -> Lake {
    let bucket = S3::open(&url.parse().unwrap(), Credentials::fixed(KEY_ID, SECRET, Some(TOKEN))).unwrap();
    let settings = Settings { free_bytes_min: 0, local_bytes_max: 0, ..Settings::default() };
    Lake::open_with(place, settings, Some(Arc::new(bucket)), now()).unwrap()
}

/// Two events, of two classes.
fn batch(number: u32) -> Batch {
    let records = [1007, 4001].map(|class| {
        let uid = format!("{number}-{class}");
        let time_ms = i64::try_from(NOW * 1000).unwrap() + i64::from(number);
        let json = serde_json::json!({"class_uid": class, "time": time_ms, "metadata": {"uid": uid}});
        Record { uid: uid.into(), time_ms, class: ClassUid(class), json: json.to_string().into() }
    });
    let source = Source {
        account: AccountId::new(1).unwrap(),
        instance: InstanceId::from_bytes([1; 9]),
        region: "eu-west-1".parse().unwrap(),
    };
    Batch { source, received_at: now(), records: records.into() }
}

/// The child. Never returns.
fn work_until_killed(place: &Path, url: &str, first: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let lake = open(place, url);
    for number in first.. {
        assert_eq!(runtime.block_on(lake.append(batch(number))).unwrap().kept, 2);
        // One write per line: a torn line would be a batch that was not acknowledged.
        std::io::stdout().write_all(format!("appended {number}\n").as_bytes()).unwrap();
        std::io::stdout().flush().unwrap();
        lake.compact().unwrap();
        lake.deliver(now());
    }
}

fn run_and_kill(place: &Path, url: &str, first: u32, lifetime: Duration) -> Vec<u32> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "what_was_acknowledged_is_in_the_bucket_once", "--nocapture"])
        .env(PLACE, place)
        .env(URL, url)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.filter_map(|line| line.strip_prefix("appended ")?.parse().ok()).collect::<Vec<u32>>()
    });
    std::thread::sleep(lifetime);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "the child ended by itself: {status}");
    reading.join().unwrap()
}

/// Every uid, and how often it is found.
fn found(lake: &Lake) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    let mut query = Query { order: Order::OldestFirst, ..Query::default() };
    loop {
        let answer = lake.query(&query).unwrap();
        assert_eq!(answer.unreadable, 0, "{:?}", answer.unreadable_files);
        for event in answer.events {
            *found.entry(event.record.uid.to_string()).or_default() += 1;
        }
        query.after = answer.next;
        if query.after.is_none() {
            return found;
        }
    }
}

/// The lists of all days: what they name.
fn listed(place: &Path, found: &mut BTreeSet<String>, root: &Path) {
    for entry in std::fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            listed(&path, found, root);
        } else if path.file_name().unwrap() == ".delivered" {
            // The last line says how many there are, and what they add up to.
            for line in std::fs::read_to_string(&path).unwrap().lines().filter(|line| !line.starts_with('#')) {
                let file = path.parent().unwrap().join(line.split(' ').next().unwrap());
                found.insert(format!("lake/{}", file.strip_prefix(root).unwrap().display()));
            }
        }
    }
}

#[test]
fn what_was_acknowledged_is_in_the_bucket_once() {
    if let (Some(place), Ok(url), Ok(first)) = (env::var_os(PLACE), env::var(URL), env::var(FIRST)) {
        return work_until_killed(Path::new(&place), &url, first.parse().unwrap());
    }
    let double = Double::start();
    let place = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        // Slow enough that most kills meet an upload: before it is done there, or before the answer.
        double.fail((0..1000).map(|step| match step % 3 {
            0 => Fault::Slow(Duration::from_millis(25)),
            1 => Fault::SlowAnswer(Duration::from_millis(25)),
            _ => Fault::Slow(Duration::ZERO),
        }));
        let lifetime = Duration::from_millis(u64::from(300 + round * 97 % 400));
        acknowledged.extend(run_and_kill(place.path(), &double.url(), round * ROUND, lifetime));
    }
    assert!(acknowledged.len() >= 5, "{} batches", acknowledged.len());
    double.fail([]);

    let lake = open(place.path(), &double.url());
    let expected: BTreeSet<String> =
        acknowledged.iter().flat_map(|number| [1007, 4001].map(|class| format!("{number}-{class}"))).collect();
    let before = found(&lake);
    lake.compact().unwrap();
    lake.deliver(now());
    assert_eq!((lake.undelivered(), lake.waiting().unwrap().files), (None, 0));
    let after = found(&lake);
    assert_eq!(before, after, "wherever they are");
    assert!(expected.iter().all(|uid| after.contains_key(uid)), "lost");
    assert!(after.values().all(|count| *count == 1), "twice");
    // The last batch of a round may be there without having been acknowledged.
    assert!(after.len() <= expected.len() + 2 * ROUNDS as usize);
    let mut names = BTreeSet::new();
    listed(&place.path().join("ext"), &mut names, place.path());
    assert_eq!(double.state().objects.keys().cloned().collect::<BTreeSet<_>>(), names);
    assert_eq!(double.state().refused, Vec::<String>::new());
}
