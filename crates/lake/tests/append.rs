//! What is appended, once, and what is refused.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and so does what it calls"
)]

mod support;

use inborn_identity::UnixTime;
use inborn_lake::{AppendError, Appended, BYTES_IN_FLIGHT_MAX, Lake, OpenError, RECORD_BYTES_MAX, Settings};
use inborn_telemetry::Batch;
use support::{NOW, batch, launch, open, settings, source};

fn names(from: u32, to: u32) -> impl Iterator<Item = String> {
    (from..to).map(|number| format!("event-{number}"))
}

#[tokio::test]
async fn an_event_is_kept_once_over_restarts() {
    let place = tempfile::tempdir().unwrap();
    let lake = open(place.path());
    assert_eq!(lake.append(batch(1, names(0, 10))).await, Ok(Appended { kept: 10, duplicates: 0 }));
    assert_eq!(lake.append(batch(1, names(5, 12))).await, Ok(Appended { kept: 2, duplicates: 5 }));
    assert_eq!(lake.append(batch(2, names(0, 1))).await, Ok(Appended { kept: 1, duplicates: 0 }), "another machine's");
    let twice = batch(3, ["same", "same"].map(String::from));
    assert_eq!(lake.append(twice).await, Ok(Appended { kept: 1, duplicates: 1 }), "within a batch");
    lake.close().await;

    let lake = open(place.path());
    assert_eq!(lake.append(batch(1, names(0, 13))).await, Ok(Appended { kept: 1, duplicates: 12 }));
}

#[tokio::test]
async fn what_is_new_of_a_batch_is_given_back() {
    let place = tempfile::tempdir().unwrap();
    let lake = open(place.path());
    let uids = |batch: &Batch| -> Vec<String> { batch.records.iter().map(|record| record.uid.to_string()).collect() };
    let (appended, new) = lake.take(batch(1, names(0, 4))).await.unwrap();
    assert_eq!((appended.kept, uids(&new)), (4, names(0, 4).collect::<Vec<String>>()));
    let mixed = batch(1, names(2, 4).chain(names(6, 8)).chain(names(0, 1)).chain(names(9, 10)).chain(names(6, 7)));
    let (appended, new) = lake.take(mixed.clone()).await.unwrap();
    assert_eq!(appended, Appended { kept: 3, duplicates: 4 });
    assert_eq!(uids(&new), names(6, 8).chain(names(9, 10)).collect::<Vec<String>>());
    assert_eq!(new.source, mixed.source);
    let (appended, new) = lake.take(mixed).await.unwrap();
    assert_eq!((appended, new.records.len()), (Appended { kept: 0, duplicates: 7 }, 0), "sent again");
    assert!(lake.take(batch(1, [])).await.unwrap().1.records.is_empty());
}

#[tokio::test]
async fn a_batch_of_nothing_is_nothing() {
    let place = tempfile::tempdir().unwrap();
    assert_eq!(open(place.path()).append(batch(1, [])).await, Ok(Appended::default()));
}

#[tokio::test]
async fn two_at_once_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let lake = open(place.path());
    let second = Lake::open(place.path(), settings(), UnixTime::from_secs(NOW));
    assert!(matches!(second, Err(OpenError::InUse(_))));
    lake.close().await;
    open(place.path()).close().await;
}

#[tokio::test]
async fn nothing_is_taken_after_the_end() {
    let place = tempfile::tempdir().unwrap();
    let lake = open(place.path());
    lake.clone().close().await;
    assert_eq!(lake.append(batch(1, names(0, 1))).await, Err(AppendError::Closed));
}

#[tokio::test]
async fn the_longest_event_is_taken_and_no_longer_one() {
    let place = tempfile::tempdir().unwrap();
    let lake = open(place.path());
    for (length, taken) in [(RECORD_BYTES_MAX - 1, true), (RECORD_BYTES_MAX, true), (RECORD_BYTES_MAX + 1, false)] {
        let mut batch = batch(1, []);
        batch.records.push(launch(1, &format!("long-{length}"), 0));
        batch.records[0].json = "x".repeat(length).into();
        let expected = if taken { Ok(Appended { kept: 1, duplicates: 0 }) } else { Err(AppendError::TooLarge) };
        assert_eq!(lake.append(batch).await, expected, "{length}");
    }
    lake.close().await;
    let longest = format!("long-{RECORD_BYTES_MAX}");
    let again = open(place.path()).append(batch(1, [longest])).await;
    assert_eq!(again, Ok(Appended { kept: 0, duplicates: 1 }), "and read back");
}

/// Each of `count` events of a megabyte.
fn large(name: &str, count: usize) -> inborn_telemetry::Batch {
    let mut batch = batch(1, (0..count).map(|number| format!("{name}-{number}")));
    for record in &mut batch.records {
        record.json = "x".repeat(1 << 20).into();
    }
    batch
}

#[tokio::test]
async fn what_is_more_than_may_be_in_flight_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let lake = open(place.path());
    let most = BYTES_IN_FLIGHT_MAX >> 20;
    assert_eq!(lake.append(large("never", most)).await, Err(AppendError::TooLarge));
    // Nothing is awaited between the calls: the first is in flight when the second comes.
    let (first, second) = tokio::join!(lake.append(large("first", most - 1)), lake.append(large("second", most / 2)));
    assert_eq!(first.map(|appended| appended.kept), Ok(most - 1));
    assert_eq!(second, Err(AppendError::Busy));
    assert_eq!(lake.append(large("second", most / 2)).await.map(|appended| appended.kept), Ok(most / 2), "afterwards");
}

#[tokio::test]
async fn a_log_as_long_as_may_be_takes_no_more() {
    let place = tempfile::tempdir().unwrap();
    let limited = Settings { log_bytes_max: 64 << 10, ..settings() };
    let lake = Lake::open(place.path(), limited, UnixTime::from_secs(NOW)).unwrap();
    let mut kept = 0;
    let refused = loop {
        match lake.append(batch(1, names(kept, kept + 20))).await {
            Ok(_) => kept += 20,
            Err(error) => break error,
        }
        assert!(kept < 100_000);
    };
    assert_eq!(refused, AppendError::Full);
    assert!(kept > 20, "{kept}");
    // Nothing of what was refused is remembered as if it were there.
    lake.close().await;
    let lake = open(place.path());
    assert_eq!(lake.append(batch(1, names(kept, kept + 20))).await, Ok(Appended { kept: 20, duplicates: 0 }));
}

#[tokio::test]
async fn a_disk_that_must_keep_more_free_than_it_has_is_full() {
    let place = tempfile::tempdir().unwrap();
    let greedy = Settings { free_bytes_min: u64::MAX, ..settings() };
    let lake = Lake::open(place.path(), greedy, UnixTime::from_secs(NOW)).unwrap();
    assert_eq!(lake.append(batch(1, names(0, 1))).await, Err(AppendError::Full));
}

#[tokio::test]
async fn damage_costs_what_it_hit_and_a_torn_end_is_cut() {
    let place = tempfile::tempdir().unwrap();
    let lake = open(place.path());
    for number in 0..5 {
        lake.append(batch(1, names(number, number + 1))).await.unwrap();
    }
    lake.close().await;
    let segment = std::fs::read_dir(place.path().join("log")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&segment).unwrap();
    let frame = (bytes.len() - 64) / 5;
    bytes[64 + 2 * frame + frame / 2] ^= 4;
    bytes.truncate(bytes.len() - 3);
    std::fs::write(&segment, bytes).unwrap();

    let lake = open(place.path());
    let again = lake.append(batch(1, names(0, 5))).await;
    assert_eq!(again, Ok(Appended { kept: 2, duplicates: 3 }), "the third and the fifth are gone, the fourth is not");
    let _ = source(1);
}
