//! Stops between the steps of a job, and what the next start makes of it.

use std::path::Path;

use inborn_identity::{AccountId, InstanceId, UnixTime};
use inborn_telemetry::{Batch, ClassUid, Record, Source};
use serde_json::json;

use crate::layout;
use crate::parquet::read::{self, Wanted};
use crate::{Appended, Event, Lake, Order, Query, Settings};

const NOW: u64 = 1_800_000_000;
const STEPS: usize = 6;

fn open(place: &Path) -> Lake {
    let settings = Settings { free_bytes_min: 0, ..Settings::default() };
    Lake::open(place, settings, UnixTime::from_secs(NOW)).unwrap()
}

/// Thirty events of two accounts, three classes and two days, not in the order of time.
fn batches(name: &str) -> Vec<Batch> {
    let batch = |machine: u8| {
        let records = (0..10_i64).map(|number| {
            let class = [1007, 1001, 424_242][usize::try_from(number % 3).unwrap()];
            let time_ms = i64::try_from(NOW).unwrap() * 1000 - (number * 7 % 10) * 12_000_000 + i64::from(machine);
            let uid = format!("{name}-{number}");
            let json = json!({"class_uid": class, "time": time_ms, "metadata": {"uid": uid},
                "device": {"uid": InstanceId::from_bytes([machine; 9]).to_string()}, "made_up": {"number": number}});
            Record { uid: uid.into(), time_ms, class: ClassUid(class), json: json.to_string().into() }
        });
        let source = Source {
            account: AccountId::new(u64::from(machine % 2) + 1).unwrap(),
            instance: InstanceId::from_bytes([machine; 9]),
            region: "eu-west-1".parse().unwrap(),
        };
        Batch { source, received_at: UnixTime::from_secs(NOW), records: records.collect() }
    };
    (1..=3).map(batch).collect()
}

async fn append(lake: &Lake, name: &str) -> Appended {
    let mut sum = Appended::default();
    for batch in batches(name) {
        let appended = lake.append(batch).await.unwrap();
        sum.kept += appended.kept;
        sum.duplicates += appended.duplicates;
    }
    sum
}

/// How many rows all files of the tree have. Each must be in order.
fn rows(place: &Path) -> usize {
    let mut rows = 0;
    for directory in layout::directories(place, &|_| true, &|_| true).unwrap() {
        for (_, path) in layout::files(&directory.path).unwrap() {
            let wanted = Wanted { first_ms: i64::MIN, last_ms: i64::MAX, instances: &[] };
            let mut last = i64::MIN;
            let file = std::fs::File::open(path).unwrap();
            read::read(file, &wanted, false, &mut |_, _| true, &mut |found| {
                assert!(found.time_ms >= last, "in the order of time");
                last = found.time_ms;
                rows += 1;
            })
            .unwrap();
        }
    }
    rows
}

fn all(lake: &Lake, order: Order) -> Vec<Event> {
    let answer = lake.query(&Query { order, ..Query::default() }).unwrap();
    assert_eq!((answer.next, answer.unreadable), (None, 0));
    answer.events
}

#[tokio::test]
async fn a_crash_after_any_step_loses_nothing_and_leaves_nothing_twice() {
    for step in 1..=STEPS {
        let place = tempfile::tempdir().unwrap();
        let lake = open(place.path());
        // Two segments, so that a job can stop between removing the one and the other.
        append(&lake, "first").await;
        lake.close().await;
        let lake = open(place.path());
        append(&lake, "second").await;
        let before = all(&lake, Order::OldestFirst);
        assert_eq!(before.len(), 60);

        lake.stop_after(step);
        assert_eq!(lake.compact().unwrap_err().to_string(), "stopped by a test", "step {step}");
        lake.close().await;
        let lake = open(place.path());
        let (in_log, in_tree) = (lake.log_records(), rows(place.path()));
        assert_eq!(in_log + in_tree as u64, 60, "step {step}: {in_log} in the log, {in_tree} in the tree");
        assert_eq!(append(&lake, "first").await, Appended { kept: 0, duplicates: 30 }, "step {step}");
        assert_eq!(append(&lake, "third").await.kept, 30, "step {step}");

        lake.compact().unwrap();
        assert_eq!((lake.log_records(), rows(place.path())), (0, 90), "step {step}");
        let after = all(&lake, Order::OldestFirst);
        assert_eq!(after.len(), 90);
        for event in &before {
            let same = after.iter().find(|other| other.cursor() == event.cursor()).unwrap();
            let json = |event: &Event| serde_json::from_str::<serde_json::Value>(&event.record.json).unwrap();
            assert_eq!((json(same), &same.source, same.record.class), (json(event), &event.source, event.record.class));
        }
        lake.close().await;
        let lake = open(place.path());
        assert_eq!(
            append(&lake, "second").await,
            Appended { kept: 0, duplicates: 30 },
            "step {step}: known from the job"
        );
        assert_eq!(all(&lake, Order::NewestFirst).len(), 90);
    }
}

#[tokio::test]
async fn a_job_that_fails_leaves_the_log_and_the_next_is_whole() {
    let place = tempfile::tempdir().unwrap();
    let lake = open(place.path());
    append(&lake, "first").await;
    // Where a directory has to be there is a file.
    let tree = place.path().join(layout::ROOT).join("inborn-process");
    std::fs::create_dir_all(tree.parent().unwrap()).unwrap();
    std::fs::write(&tree, "in the way").unwrap();
    assert!(lake.compact().is_err());
    assert_eq!((lake.log_records(), rows(place.path())), (30, 0), "and nothing is left of what was done");
    assert_eq!(all(&lake, Order::NewestFirst).len(), 30);
    append(&lake, "second").await;
    std::fs::remove_file(&tree).unwrap();
    lake.compact().unwrap();
    assert_eq!((lake.log_records(), rows(place.path())), (0, 60));
}

#[tokio::test]
async fn a_start_forgets_files_of_a_job_that_was_not_done() {
    let place = tempfile::tempdir().unwrap();
    let lake = open(place.path());
    append(&lake, "first").await;
    lake.compact().unwrap();
    append(&lake, "second").await;
    lake.stop_after(4);
    lake.compact().unwrap_err();
    assert_eq!(rows(place.path()), 60);
    assert_eq!(all(&lake, Order::NewestFirst).len(), 60, "from the log, and from files of the first job only");
    lake.close().await;
    let lake = open(place.path());
    assert_eq!((lake.log_records(), rows(place.path())), (30, 30));
}

#[tokio::test]
async fn more_than_fits_into_memory_is_sorted_too() {
    let place = tempfile::tempdir().unwrap();
    let lake = open(place.path());
    let mut expected = Vec::new();
    for round in 0..7_i64 {
        let mut batch = batches("x").remove(0);
        batch.records.clear();
        for number in 0..40 {
            // Interleaved over all rounds, so that every run has a part of every file.
            let time_ms = 86_400_000 * 20_000 + (number * 7 + round) % 280;
            let uid = format!("{round}-{number}");
            let text = "text ".repeat(20_000);
            let json = json!({"class_uid": 1007, "time": time_ms, "message": text}).to_string().into();
            batch.records.push(Record { uid: uid.as_str().into(), time_ms, class: ClassUid(1007), json });
            expected.push((time_ms, uid));
        }
        lake.append(batch).await.unwrap();
    }
    lake.compact().unwrap();
    assert_eq!(rows(place.path()), 280);
    expected.sort();
    let mut found = Vec::new();
    let mut query = Query { order: Order::OldestFirst, ..Query::default() };
    loop {
        let answer = lake.query(&query).unwrap();
        assert!(answer.events.len() < 280, "an answer is bounded");
        found.extend(answer.events.iter().map(|event| (event.record.time_ms, event.record.uid.to_string())));
        query.after = answer.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(found, expected);
}
