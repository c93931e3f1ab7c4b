//! Stops between the steps of a job, and what the next start makes of it.

use std::path::Path;

use inborn_identity::{AccountId, InstanceId, UnixTime};
use inborn_telemetry::{Batch, ClassUid, Record, Source};
use serde_json::json;

use super::Faults;
use crate::layout;
use crate::parquet::read::{self, Wanted};
use crate::parquet::sealed::{Seal, Sealed};
use crate::{Appended, Counts, Event, Lake, Order, Query, Settings};

pub(crate) const NOW: u64 = 1_800_000_000;
/// Of a job: see [`super`].
const STEPS: usize = 8;

fn open(place: &Path) -> Lake {
    let settings = Settings { free_bytes_min: 0, ..Settings::default() };
    Lake::open(place, settings, UnixTime::from_secs(NOW)).unwrap()
}

/// Thirty events of two accounts, three classes and two days, not in the order of time.
pub(crate) fn batches(name: &str) -> Vec<Batch> {
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

pub(crate) async fn append(lake: &Lake, name: &str) -> Appended {
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
            let key = std::fs::read(place.join("key")).unwrap().try_into().unwrap();
            let seal = Seal::new(&key, path.file_name().unwrap().to_str().unwrap());
            let length = std::fs::metadata(&path).unwrap().len();
            let file = Sealed::open(Box::new(std::fs::File::open(&path).unwrap()), length, seal).unwrap();
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

pub(crate) fn all(lake: &Lake, order: Order) -> Vec<Event> {
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

        lake.fail(Faults::power(step));
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
    lake.fail(Faults::power(4));
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

/// Every file of the log that ends so.
fn in_log(place: &Path, suffix: &str) -> Vec<std::path::PathBuf> {
    super::named(&place.join("log"), suffix).unwrap().into_iter().map(|(_, path)| path).collect()
}

#[tokio::test]
async fn a_disk_that_fails_at_any_step_costs_nothing_and_leaves_nothing_twice() {
    // With 10 the disk does not even take back what the manifest says.
    for steps in (1..=STEPS).map(|step| vec![step]).chain([vec![4, 10], vec![6, 10]]) {
        for restart in [false, true] {
            let place = tempfile::tempdir().unwrap();
            let mut lake = open(place.path());
            append(&lake, "first").await;
            lake.close().await;
            lake = open(place.path());
            append(&lake, "second").await;
            let case = format!("{steps:?} {restart}");
            lake.fail(Faults::disk(&steps));
            assert_eq!(lake.compact().unwrap_err().to_string(), "stopped by a test", "{case}");
            assert_eq!(all(&lake, Order::OldestFirst).len(), 60, "{case}: as before for who asks");
            append(&lake, "third").await;
            assert!(lake.compact().is_err(), "{case}: and again, of more");
            assert_eq!(all(&lake, Order::OldestFirst).len(), 90, "{case}");
            if restart {
                lake.close().await;
                lake = open(place.path());
            }
            lake.fail(Faults::default());
            append(&lake, "fourth").await;
            lake.compact().unwrap();
            assert_eq!((lake.log_records(), rows(place.path())), (0, 120), "{case}");
            assert_eq!(in_log(place.path(), "log"), Vec::<std::path::PathBuf>::new(), "{case}");
            assert_eq!(append(&lake, "first").await.kept, 0, "{case}");
        }
    }
}

#[tokio::test]
async fn no_job_begins_while_segments_of_the_last_may_come_back() {
    let place = tempfile::tempdir().unwrap();
    let lake = open(place.path());
    append(&lake, "first").await;
    let segment = in_log(place.path(), "log").remove(0);
    let copy = place.path().join("copy");
    std::fs::copy(&segment, &copy).unwrap();
    // Removed, and nobody knows whether on the disk as well.
    lake.fail(Faults::disk(&[8]));
    lake.compact().unwrap_err();
    assert!(!segment.exists());
    append(&lake, "second").await;
    lake.compact().unwrap_err();
    assert_eq!(rows(place.path()), 30, "nothing was begun");
    lake.close().await;

    // It was not. The manifest still knows it.
    std::fs::copy(&copy, &segment).unwrap();
    let lake = open(place.path());
    assert!(!segment.exists());
    assert_eq!((lake.log_records(), rows(place.path())), (30, 30));
    assert_eq!(append(&lake, "first").await.kept, 0);
    lake.compact().unwrap();
    assert_eq!((lake.log_records(), rows(place.path())), (0, 60));
}

/// Changes a byte of a file.
fn damage(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// Where the last frame of a segment begins, and how many there are.
fn last_frame(lake: &Lake) -> (u64, usize) {
    let segment = lake.segments().pop().unwrap();
    let mut frames = segment.frames(crate::log::segment::HEADER_BYTES);
    let (mut last, mut count) = (0, 0);
    while let Some(crate::log::frame::Step::Frame { position, .. }) = frames.next(|_| true).unwrap() {
        (last, count) = (position, count + 1);
    }
    (last, count)
}

#[tokio::test]
async fn a_segment_that_was_damaged_under_way_is_kept_counted_and_costs_only_what_was_hit() {
    // In the first frame, and in the last one, behind which no other shows that one is missing.
    for is_last in [false, true] {
        for power in [None, Some(6), Some(7)] {
            let place = tempfile::tempdir().unwrap();
            let lake = open(place.path());
            append(&lake, "first").await;
            let (last, count) = last_frame(&lake);
            assert_eq!(count, 3);
            let segment = in_log(place.path(), "log").remove(0);
            damage(&segment, if is_last { last } else { 64 } + 60);
            let case = format!("{is_last} {power:?}");
            assert_eq!(lake.counts(), Counts::default());
            lake.fail(power.map(Faults::power).unwrap_or_default());
            assert_eq!(lake.compact().is_ok(), power.is_none(), "{case}");
            let counts = lake.counts();
            assert_eq!((counts.damaged_places, counts.not_ocsf), (1, 0), "{case}");
            assert!(counts.damaged_bytes > 100, "{case}: {counts:?}");
            lake.close().await;
            let lake = open(place.path());
            assert_eq!((lake.log_records(), rows(place.path())), (0, 20), "{case}: the other two frames");
            assert_eq!(in_log(place.path(), "damaged"), [segment.with_extension("damaged")], "{case}");
            let kept = append(&lake, "first").await;
            assert_eq!(kept, Appended { kept: 10, duplicates: 20 }, "{case}: what is lost may be sent again");
        }
    }
}

#[tokio::test]
async fn the_last_frame_of_a_segment_that_was_ended_does_not_go_unseen() {
    for zeros in [0, 1 << 20] {
        let place = tempfile::tempdir().unwrap();
        let lake = open(place.path());
        append(&lake, "first").await;
        let (last, _) = last_frame(&lake);
        lake.close().await;
        let segment = in_log(place.path(), "log").remove(0);
        damage(&segment, last + 60);
        // With zeros behind it, it looks like one that was being written when the process was killed: nobody was told of it.
        let length = std::fs::metadata(&segment).unwrap().len();
        std::fs::File::options().write(true).open(&segment).unwrap().set_len(length + zeros).unwrap();
        let is_damage = zeros == 0;
        let lake = open(place.path());
        assert_eq!(lake.counts().damaged_places, u64::from(is_damage), "{zeros}");
        lake.compact().unwrap();
        assert_eq!(lake.counts().damaged_places, u64::from(is_damage), "{zeros}: counted once");
        assert_eq!((lake.log_records(), rows(place.path())), (0, 20), "{zeros}");
        let kept = in_log(place.path(), "damaged");
        assert_eq!(kept.len(), usize::from(is_damage), "{zeros}");
        if is_damage {
            assert_eq!(std::fs::metadata(&kept[0]).unwrap().len(), length, "as it is");
        }
    }
}

#[tokio::test]
async fn an_event_that_is_no_object_is_kept_whole_and_counted() {
    let place = tempfile::tempdir().unwrap();
    let lake = open(place.path());
    let mut batch = batches("x").remove(0);
    let deep = "[".repeat(200);
    for (record, json) in batch.records.iter_mut().zip(["no JSON", "[1]", deep.as_str(), "{}"]) {
        record.json = json.into();
    }
    lake.append(batch).await.unwrap();
    lake.compact().unwrap();
    assert_eq!(lake.counts(), Counts { not_ocsf: 3, ..Counts::default() });
    let found = all(&lake, Order::OldestFirst);
    assert_eq!(found.len(), 10);
    for text in ["no JSON", "[1]", deep.as_str()] {
        let raw =
            |event: &Event| serde_json::from_str::<serde_json::Value>(&event.record.json).unwrap()["raw_data"] == text;
        assert_eq!(found.iter().filter(|event| raw(event)).count(), 1);
    }
}
