//! Questions, of the log and of Parquet alike.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and so does what it calls"
)]

mod support;

use inborn_identity::{AccountId, UnixTime};
use inborn_lake::{Event, Lake, Order, QUERY_EVENTS_MAX, QUERY_FILTERS_MAX, Query, QueryError, Settings};
use inborn_telemetry::{Batch, ClassUid};
use support::{NOW, batch, launch, open, settings, source};

const DAY: i64 = 86_400_000;

fn now_ms() -> i64 {
    i64::try_from(NOW).unwrap() * 1000
}

/// Events of machines 1 to 3, one each day, the last one today.
async fn fill(lake: &Lake) {
    for machine in 1..=3 {
        let mut batch = batch(machine, []);
        batch.records = (0..4).map(|day| launch(machine, &format!("m{machine}-d{day}"), -day * DAY)).collect();
        batch.records[0].class = ClassUid(1001);
        if machine == 3 {
            batch.source.account = AccountId::new(5).unwrap();
        }
        lake.append(batch).await.unwrap();
    }
}

fn uids(lake: &Lake, query: Query) -> Vec<String> {
    let answer = lake.query(&query).unwrap();
    assert_eq!(answer.unreadable, 0);
    answer.events.iter().map(|event| event.record.uid.to_string()).collect()
}

/// Asks in the log, in Parquet, and with a part in each.
async fn everywhere(check: impl Fn(&Lake, &str)) {
    let place = tempfile::tempdir().unwrap();
    let lake = open(place.path());
    fill(&lake).await;
    check(&lake, "in the log");
    lake.compact().unwrap();
    check(&lake, "in Parquet");
    lake.close().await;
    check(&open(place.path()), "after a restart");
}

#[tokio::test]
async fn events_are_found_by_time_class_account_and_machine() {
    everywhere(|lake, place| {
        let newest = uids(lake, Query { limit: 4, ..Query::default() });
        assert_eq!(newest, ["m3-d0", "m2-d0", "m1-d0", "m3-d1"], "{place}");
        let oldest = uids(lake, Query { limit: 2, order: Order::OldestFirst, ..Query::default() });
        assert_eq!(oldest, ["m1-d3", "m2-d3"], "{place}");
        let of_class = uids(lake, Query { classes: vec![ClassUid(1001)], ..Query::default() });
        assert_eq!(of_class, ["m3-d0", "m2-d0", "m1-d0"], "{place}");
        let account = AccountId::new(5).unwrap();
        let of_account = uids(lake, Query { accounts: vec![account], ..Query::default() });
        assert_eq!(of_account, ["m3-d0", "m3-d1", "m3-d2", "m3-d3"], "{place}");
        let instances = vec![source(2).instance, source(9).instance];
        let of_machine = uids(lake, Query { instances, order: Order::OldestFirst, ..Query::default() });
        assert_eq!(of_machine, ["m2-d3", "m2-d2", "m2-d1", "m2-d0"], "{place}");
        let none = uids(lake, Query { instances: vec![source(9).instance], ..Query::default() });
        assert_eq!(none, Vec::<String>::new(), "{place}");
    })
    .await;
}

#[tokio::test]
async fn the_first_moment_is_in_and_the_last_is_not() {
    everywhere(|lake, place| {
        for (since, until, expected) in [
            (now_ms() - DAY, now_ms(), vec!["m1-d1"]),
            (now_ms() - DAY + 1, now_ms(), vec![]),
            (now_ms() - DAY, now_ms() + 1, vec!["m1-d0", "m1-d1"]),
            (now_ms(), now_ms(), vec![]),
            (now_ms(), now_ms() - DAY, vec![]),
        ] {
            let instances = vec![source(1).instance];
            let query = Query { since_ms: Some(since), until_ms: Some(until), instances, ..Query::default() };
            assert_eq!(uids(lake, query), expected, "{place}: {since} {until}");
        }
    })
    .await;
}

#[tokio::test]
async fn attributes_and_texts_are_looked_at() {
    everywhere(|lake, place| {
        let filters = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        for (given, expected) in [
            (vec!["process.cmd_line=run m1-d2"], vec!["m1-d2"]),
            (
                vec!["process.cmd_line~M1-", "process.file.path=/bin/run", "process.pid!=0"],
                vec!["m1-d1", "m1-d2", "m1-d3"],
            ),
            (vec!["process.file.path=/bin/other"], vec![]),
        ] {
            let query = Query { filters: filters(&given), ..Query::default() };
            assert_eq!(uids(lake, query), expected, "{place}: {given:?}");
        }
        let text = |text: &str| uids(lake, Query { text: Some(text.into()), ..Query::default() });
        assert_eq!(text("RUN m2-D1"), ["m2-d1"], "{place}");
        assert_eq!(text("cmd_line"), Vec::<String>::new(), "{place}: names are not texts");
    })
    .await;
}

#[tokio::test]
async fn pages_go_through_everything_once() {
    everywhere(|lake, place| {
        for order in [Order::NewestFirst, Order::OldestFirst] {
            let whole = uids(lake, Query { order, ..Query::default() });
            assert_eq!(whole.len(), 12);
            for limit in [1, 5, 11, 12, 13] {
                let mut query = Query { order, limit, ..Query::default() };
                let mut found: Vec<Event> = Vec::new();
                loop {
                    let answer = lake.query(&query).unwrap();
                    assert!(answer.events.len() <= limit);
                    found.extend(answer.events);
                    query.after = answer.next;
                    if query.after.is_none() {
                        break;
                    }
                }
                let found: Vec<_> = found.iter().map(|event| event.record.uid.to_string()).collect();
                assert_eq!(found, whole, "{place}: {order:?} {limit}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_has_a_limit_and_so_has_a_question() {
    let place = tempfile::tempdir().unwrap();
    let lake = open(place.path());
    lake.append(batch(1, (0..QUERY_EVENTS_MAX + 1).map(|number| number.to_string()))).await.unwrap();
    for limit in [0, QUERY_EVENTS_MAX, QUERY_EVENTS_MAX + 1, usize::MAX] {
        let answer = lake.query(&Query { limit, ..Query::default() }).unwrap();
        assert_eq!((answer.events.len(), answer.next.is_some()), (QUERY_EVENTS_MAX, true), "{limit}");
    }
    for (count, good) in [(QUERY_FILTERS_MAX - 1, true), (QUERY_FILTERS_MAX, true), (QUERY_FILTERS_MAX + 1, false)] {
        let query = Query { filters: vec!["time!=0".parse().unwrap(); count], limit: 1, ..Query::default() };
        let answer = lake.query(&query);
        assert_eq!(!matches!(answer, Err(QueryError::TooManyFilters)), good, "{count}");
        assert_eq!(lake.follow(query).is_ok(), good, "{count}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_said() {
    let place = tempfile::tempdir().unwrap();
    let lake = open(place.path());
    fill(&lake).await;
    lake.compact().unwrap();
    let files = support::files(place.path());
    std::fs::write(&files[0], "destroyed").unwrap();
    let answer = lake.query(&Query::default()).unwrap();
    let named = files[0].strip_prefix(place.path()).unwrap().to_str().unwrap();
    assert_eq!((answer.unreadable, answer.unreadable_files), (1, vec![named.into()]));
    assert_eq!(lake.counts().unreadable_files, 1);
    assert!(!answer.events.is_empty() && answer.events.len() < 12);
}

#[tokio::test]
async fn who_follows_sees_what_comes_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let lake = open(place.path());
    let mut early = lake.follow(Query { instances: vec![source(2).instance], ..Query::default() }).unwrap();
    fill(&lake).await;
    let mut late = lake.follow(Query::default()).unwrap();
    assert!(early.wait().await);
    let names = |events: Vec<Event>| events.iter().map(|event| event.record.uid.to_string()).collect::<Vec<_>>();
    assert_eq!(names(early.read().unwrap().events), ["m2-d0", "m2-d1", "m2-d2", "m2-d3"]);
    assert_eq!(late.read().unwrap().events, []);

    // What becomes Parquet while somebody reads it is still there for him.
    lake.append(batch(2, ["a".to_owned()])).await.unwrap();
    lake.compact().unwrap();
    lake.append(batch(2, ["b".to_owned()])).await.unwrap();
    assert!(early.wait().await && late.wait().await);
    let (early_read, late_read) = (early.read().unwrap(), late.read().unwrap());
    assert_eq!((names(early_read.events), early_read.missed), (vec!["a".into(), "b".into()], false));
    assert_eq!((names(late_read.events), late_read.missed), (vec!["a".into(), "b".into()], false));

    for name in ["c", "d", "e"] {
        lake.append(batch(2, [name.to_owned()])).await.unwrap();
        if name != "e" {
            lake.compact().unwrap();
        }
    }
    let read = early.read().unwrap();
    assert_eq!((names(read.events), read.missed), (vec!["c".into(), "e".into()], true), "d came and went");

    drop(lake);
    while early.wait().await {
        early.read().unwrap();
    }
}

fn at(days: u64) -> UnixTime {
    UnixTime::from_secs(NOW / 86_400 * 86_400 + days * 86_400)
}

fn at_day(machine: u8, uid: &str, day: i64) -> Batch {
    let mut batch = batch(machine, []);
    batch.records.push(launch(machine, uid, day * DAY));
    batch
}

#[tokio::test]
async fn a_day_is_kept_as_long_as_was_said() {
    let place = tempfile::tempdir().unwrap();
    let kept = Settings { retention_seconds: 2 * 86_400, ..settings() };
    let lake = Lake::open(place.path(), kept, UnixTime::from_secs(NOW)).unwrap();
    for day in 0..3 {
        lake.append(at_day(1, &format!("d{day}"), day)).await.unwrap();
    }
    lake.compact().unwrap();
    // The first day ends when day 1 begins, and is kept for two days from then.
    lake.tidy(at(3).minus(1));
    assert_eq!(uids(&lake, Query::default()), ["d2", "d1", "d0"]);
    lake.tidy(at(3));
    assert_eq!(uids(&lake, Query::default()), ["d2", "d1"]);
    lake.tidy(at(0));
    lake.tidy(at(100));
    assert_eq!(uids(&lake, Query::default()), Vec::<String>::new());
    assert_eq!(support::files(place.path()), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn what_is_more_than_was_said_goes_the_oldest_first() {
    let place = tempfile::tempdir().unwrap();
    let lake = open(place.path());
    for day in [1, 0, 2] {
        lake.append(at_day(1, &format!("d{day}"), day)).await.unwrap();
        lake.compact().unwrap();
    }
    lake.close().await;
    let total: u64 = support::files(place.path()).iter().map(|file| std::fs::metadata(file).unwrap().len()).sum();
    for (limit, expected) in [(total, vec!["d2", "d1", "d0"]), (total - 1, vec!["d2", "d1"]), (1, vec![])] {
        let limited = Settings { parquet_bytes_max: limit, ..settings() };
        let lake = Lake::open(place.path(), limited, UnixTime::from_secs(NOW)).unwrap();
        lake.tidy(UnixTime::from_secs(NOW));
        assert_eq!(uids(&lake, Query::default()), expected, "{limit}");
        lake.close().await;
    }
}

#[tokio::test]
async fn a_log_becomes_parquet_when_it_is_five_minutes_old() {
    let place = tempfile::tempdir().unwrap();
    let lake = open(place.path());
    fill(&lake).await;
    let seconds = inborn_lake::COMPACT_SECONDS;
    lake.tidy(UnixTime::from_secs(NOW + seconds - 1));
    assert_eq!(support::files(place.path()).len(), 0);
    lake.tidy(UnixTime::from_secs(NOW + seconds));
    // Two accounts; on the last day a class of its own.
    assert_eq!(support::files(place.path()).len(), 8);
}
