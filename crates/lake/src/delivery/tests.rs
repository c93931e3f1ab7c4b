//! A bucket in memory that fails when a test wants it, and what the lake makes of it.

use core::ops::Range;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Mutex;

use bytes::Bytes;

use super::*;
use crate::compact::tests::{NOW, all, append, batches};
use crate::log::frame::Head;
use crate::{AppendError, Event, Lake, OpenError, Order, Query, Waiting};

const DAY: u64 = 24 * 3600;

#[derive(Debug, Default)]
pub(super) struct Memory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    /// Calls that still succeed.
    calls_left: Option<u32>,
    /// What fails has happened all the same: its answer was lost.
    has_happened: bool,
    /// Objects that are missing are forbidden.
    may_not_list: bool,
    puts: u32,
    gets: u32,
    /// Puts over something else.
    overwritten: u32,
}

impl State {
    /// Whether a call happens, and whether it is answered.
    fn call(&mut self) -> (bool, io::Result<()>) {
        match &mut self.calls_left {
            Some(0) => (self.has_happened, Err(io::ErrorKind::ConnectionRefused.into())),
            Some(left) => {
                *left -= 1;
                (true, Ok(()))
            }
            None => (true, Ok(())),
        }
    }
}

impl Memory {
    /// From now on so many calls succeed.
    fn fail_after(&self, calls: Option<u32>, has_happened: bool) {
        let mut state = self.state.lock().unwrap();
        (state.calls_left, state.has_happened) = (calls, has_happened);
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }
}

impl Bucket for Memory {
    fn address(&self) -> &str {
        "memory://bucket"
    }

    fn put(&self, key: &str, mut file: File) -> io::Result<()> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut state = self.state.lock().unwrap();
        let (happens, answer) = state.call();
        state.puts += 1;
        if happens {
            let before = state.objects.insert(key.to_owned(), bytes.clone().into());
            state.overwritten += u32::from(before.is_some_and(|before| before != bytes));
        }
        answer
    }

    fn get(&self, key: &str, range: Range<u64>) -> io::Result<Bytes> {
        let mut state = self.state.lock().unwrap();
        state.gets += 1;
        state.call().1?;
        let missing = if state.may_not_list { io::ErrorKind::PermissionDenied } else { io::ErrorKind::NotFound };
        let object = state.objects.get(key).ok_or(missing)?;
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        object.get(range).map(Bytes::copy_from_slice).ok_or(io::ErrorKind::UnexpectedEof.into())
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let (happens, answer) = state.call();
        if happens {
            state.objects.remove(key);
        }
        answer
    }
}

pub(super) fn now() -> UnixTime {
    UnixTime::from_secs(NOW)
}

pub(super) fn settings() -> Settings {
    Settings { free_bytes_min: 0, ..Settings::default() }
}

pub(super) fn open_as(place: &Path, bucket: &Arc<Memory>, settings: Settings) -> Lake {
    Lake::open_with(place, settings, Some(Arc::clone(bucket) as _), now()).unwrap()
}

/// One that keeps nothing on the local disk that was delivered.
pub(super) fn open(place: &Path, bucket: &Arc<Memory>) -> Lake {
    open_as(place, bucket, Settings { local_bytes_max: 0, ..settings() })
}

/// The Parquet files of the tree, as keys.
pub(super) fn local(place: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for day in layout::directories(place, &|_| true, &|_| true).unwrap() {
        for (_, path) in layout::files(&day.path).unwrap() {
            found.push(path.strip_prefix(place).unwrap().to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

fn listed(place: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for day in layout::directories(place, &|_| true, &|_| true).unwrap() {
        for entry in index::read(&day.path).unwrap() {
            let path = day.path.join(&*entry.name);
            found.push(path.strip_prefix(place).unwrap().to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

fn cursors(events: &[Event]) -> Vec<crate::Cursor> {
    events.iter().map(Event::cursor).collect()
}

#[tokio::test]
async fn what_is_in_the_bucket_is_found_as_if_it_were_here() {
    let place = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Memory::default());
    // At first everything may stay.
    let lake = open_as(place.path(), &bucket, settings());
    append(&lake, "first").await;
    lake.compact().unwrap();
    append(&lake, "second").await;
    lake.compact().unwrap();
    let before = [all(&lake, Order::OldestFirst), all(&lake, Order::NewestFirst)];
    let files = local(place.path());
    let bytes = files.iter().map(|key| length(&place.path().join(key))).sum();
    assert_eq!(lake.waiting(), Some(Waiting { files: files.len() as u64, bytes }));
    lake.deliver(now());
    assert_eq!(lake.waiting(), Some(Waiting::default()));
    assert_eq!((bucket.keys(), local(place.path())), (files.clone(), files.clone()), "a copy of each stays");
    let counts = lake.counts();
    assert_eq!((counts.delivered_files, counts.delivered_bytes), (files.len() as u64, bytes));
    for (order, before) in [Order::OldestFirst, Order::NewestFirst].into_iter().zip(&before) {
        assert_eq!(all(&lake, order), *before);
    }
    assert_eq!(bucket.state.lock().unwrap().gets, 0, "and is what is read");
    lake.close().await;

    let lake = open(place.path(), &bucket);
    lake.deliver(now());
    assert_eq!((local(place.path()), listed(place.path())), (vec![], files));
    for (order, before) in [Order::OldestFirst, Order::NewestFirst].into_iter().zip(&before) {
        assert_eq!(all(&lake, order), *before);
    }
    let last = before[1][0].clone();
    let query = Query { since_ms: Some(last.record.time_ms), ..Query::default() };
    let asked = bucket.state.lock().unwrap().gets;
    assert_eq!(cursors(&lake.query(&query).unwrap().events), [last.cursor(), before[1][1].cursor()]);
    assert!(bucket.state.lock().unwrap().gets - asked <= 4, "no file is fetched that has nothing of those times");
    append(&lake, "third").await;
    lake.tidy(UnixTime::from_secs(NOW + 400));
    assert_eq!(lake.log_records(), 0, "though nothing may stay here, it becomes Parquet");
    let again = append(&lake, "first").await;
    assert_eq!((again.kept, again.duplicates), (0, 30), "what was delivered is known");
}

#[tokio::test]
async fn a_bucket_that_fails_at_any_call_costs_nothing_and_has_nothing_twice() {
    let made = tempfile::tempdir().unwrap();
    let lake = Lake::open(made.path(), settings(), now()).unwrap();
    append(&lake, "first").await;
    lake.compact().unwrap();
    append(&lake, "second").await;
    lake.compact().unwrap();
    let before = all(&lake, Order::OldestFirst);
    lake.close().await;
    let files = local(made.path());
    // The first and last calls, and those around the end of the first job.
    let half = files.len() / 2;
    for calls in [0, 1, half - 1, half, half + 1, files.len() - 1, files.len()] {
        let calls = u32::try_from(calls).unwrap();
        for (has_happened, restart) in [(false, false), (false, true), (true, false), (true, true)] {
            let place = tempfile::tempdir().unwrap();
            let bucket = Arc::new(Memory::default());
            copy(made.path(), place.path());
            let mut lake = open(place.path(), &bucket);
            bucket.fail_after(Some(calls), has_happened);
            lake.deliver(now());
            let case = format!("{calls} {has_happened} {restart}");
            let is_enough = calls as usize >= files.len();
            assert_eq!(lake.undelivered().is_none(), is_enough, "{case}");
            assert_eq!(lake.waiting().unwrap().files, (files.len() as u64).saturating_sub(calls.into()), "{case}");
            if restart {
                lake.close().await;
                lake = open(place.path(), &bucket);
                let count = (files.len() as u64).saturating_sub(calls.into());
                assert_eq!(lake.waiting().unwrap().files, count, "{case}");
            }
            bucket.fail_after(None, false);
            if restart && has_happened {
                assert_eq!(all(&lake, Order::OldestFirst), before, "{case}: some is here, some there");
            }
            lake.deliver_at_once(now());
            assert_eq!((lake.undelivered(), lake.waiting()), (None, Some(Waiting::default())), "{case}");
            assert_eq!((bucket.keys(), local(place.path())), (files.clone(), vec![]), "{case}");
            assert_eq!(listed(place.path()), files, "{case}");
            assert_eq!(all(&lake, Order::OldestFirst), before, "{case}");
            let state = bucket.state.lock().unwrap();
            let puts = files.len() + usize::from(!is_enough);
            assert_eq!((state.overwritten, state.puts as usize), (0, puts), "{case}: only what failed is put again");
        }
    }
}

/// Copies a directory, as a backup does.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { assert!(fs::copy(&path, target).is_ok()) }
    }
}

#[tokio::test]
async fn a_crash_before_the_mark_or_the_list_puts_the_same_again_and_a_restored_lake_puts_nothing_over_others() {
    let place = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Memory::default());
    let lake = open(place.path(), &bucket);
    append(&lake, "first").await;
    lake.close().await;
    let lake = open(place.path(), &bucket);
    let backup = tempfile::tempdir().unwrap();
    lake.compact().unwrap();
    copy(place.path(), backup.path());
    let before = all(&lake, Order::OldestFirst);
    lake.deliver(now());
    let keys = bucket.keys();
    lake.close().await;

    // Everything was put, and nothing of it is on this disk: neither lists nor mark.
    let lake = open(backup.path(), &bucket);
    assert_eq!(lake.waiting().unwrap().files, keys.len() as u64);
    lake.deliver(now());
    assert_eq!((bucket.keys(), listed(backup.path())), (keys.clone(), keys.clone()));
    assert_eq!(bucket.state.lock().unwrap().overwritten, 0);
    assert_eq!(all(&lake, Order::OldestFirst), before);
    append(&lake, "second").await;
    let older = tempfile::tempdir().unwrap();
    copy(backup.path(), older.path());
    lake.compact().unwrap();
    lake.deliver(now());
    let keys = bucket.keys();
    lake.close().await;

    // And the same job a second time, from a backup that does not know of the first.
    let lake = open(older.path(), &bucket);
    lake.compact().unwrap();
    lake.deliver(now());
    assert!(keys.iter().all(|key| bucket.keys().contains(key)) && bucket.keys().len() > keys.len());
    assert_eq!(bucket.state.lock().unwrap().overwritten, 0);
    assert_eq!(all(&lake, Order::OldestFirst).len(), 60);
}

#[tokio::test]
async fn after_a_pause_no_more_is_made_than_may_wait() {
    let place = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Memory::default());
    let few = || Settings { local_bytes_max: 1, ..settings() };
    for name in ["a", "b", "c"] {
        let lake = open_as(place.path(), &bucket, few());
        append(&lake, name).await;
        lake.close().await;
    }
    let lake = open_as(place.path(), &bucket, few());
    for segment in lake.segments() {
        segment.note(&Head { raw: u32::MAX, ..Head::EMPTY });
    }
    let later = UnixTime::from_secs(NOW + 400);
    for left in [60, 30, 0] {
        lake.tidy(later);
        assert_eq!(lake.log_records(), left);
        lake.deliver_at_once(later);
    }
}

#[tokio::test]
async fn while_the_bucket_is_away_the_disk_fills_to_its_limit_and_then_telemetry_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Memory::default());
    bucket.fail_after(Some(0), false);
    let few = Settings { local_bytes_max: 1, log_bytes_max: 1 << 20, ..settings() };
    let lake = open_as(place.path(), &bucket, few);
    let later = |rounds: u64| UnixTime::from_secs(NOW + 400 * rounds);
    append(&lake, "first").await;
    lake.tidy(later(1));
    lake.deliver_at_once(later(1));
    assert_eq!(lake.log_records(), 0);
    let waiting = lake.waiting().unwrap();
    assert!(waiting.files > 0 && waiting.bytes >= 1);
    let reason = lake.undelivered().unwrap();
    assert!(reason.contains("wait for memory://bucket: connection refused"), "{reason}");
    append(&lake, "second").await;
    lake.tidy(later(2));
    assert_eq!((lake.log_records(), lake.waiting()), (30, Some(waiting)), "no more Parquet is made");
    let mut batch = batches("noise").remove(0);
    let mut state = 1_u64;
    let mut refused = false;
    for number in 0..64 {
        for record in &mut batch.records {
            let text: String = (0..4096)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    char::from(b'a' + u8::try_from(state >> 60).unwrap())
                })
                .collect();
            record.uid = format!("{number} {text}").get(..20).unwrap().into();
            record.json = format!("{{\"message\":\"{text}\"}}").into();
        }
        match lake.append(batch.clone()).await {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error, AppendError::Full);
                refused = true;
                break;
            }
        }
    }
    assert!(refused);
    bucket.fail_after(None, false);
    lake.deliver_at_once(later(3));
    assert_eq!((lake.waiting(), lake.undelivered()), (Some(Waiting::default()), None));
    lake.tidy(later(3));
    assert_eq!(lake.log_records(), 0);
    assert_eq!(append(&lake, "third").await.kept, 30, "and it goes on");
}

#[tokio::test]
async fn what_is_old_or_too_much_goes_from_the_bucket_and_what_is_not_ours_stays() {
    let place = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Memory::default());
    let lake = open_as(place.path(), &bucket, settings());
    append(&lake, "first").await;
    lake.compact().unwrap();
    lake.deliver_at_once(now());
    let (first, _) = bucket.keys()[0].rsplit_once('/').map(|(day, name)| (day.to_owned(), name.to_owned())).unwrap();
    let foreign = [format!("{first}/00000000-0001-8000-8000-000000000000.parquet"), "ext/readme".to_owned()];
    for key in &foreign {
        bucket.state.lock().unwrap().objects.insert(key.clone(), Bytes::new());
    }
    let ours = listed(place.path());
    let days: BTreeSet<_> = ours.iter().map(|key| key.split("eventDay=").nth(1).unwrap()[..8].to_owned()).collect();
    let [older, newer] = days.into_iter().collect::<Vec<_>>().try_into().unwrap();
    let of = |day: &str| ours.iter().filter(|key| key.contains(day)).cloned().collect::<Vec<_>>();

    // The end of the older day is in the past already: a second before it is old, and then.
    let end = NOW - NOW % DAY;
    lake.deliver_at_once(UnixTime::from_secs(end + 30 * DAY - 1));
    assert_eq!(listed(place.path()), ours);
    bucket.fail_after(Some(1), false);
    lake.deliver_at_once(UnixTime::from_secs(end + 30 * DAY));
    assert!(lake.undelivered().is_some());
    assert_eq!(local(place.path()), of(&newer), "here it goes even so");
    let found = all(&lake, Order::OldestFirst);
    assert!(!found.is_empty() && found.iter().all(|event| event.record.time_ms >= i64::try_from(end).unwrap() * 1000));
    bucket.fail_after(None, false);
    lake.deliver_at_once(UnixTime::from_secs(end + 30 * DAY));
    let mut expected = [of(&newer), foreign.to_vec()].concat();
    expected.sort();
    assert_eq!((bucket.keys(), listed(place.path())), (expected, of(&newer)));
    lake.tidy(UnixTime::from_secs(end + 30 * DAY));
    assert!(
        !layout::directories(place.path(), &|_| true, &|_| true).unwrap().iter().any(|day| day.day.name() == older)
    );
    lake.close().await;

    // And by size: exactly as much as there is, and a byte less.
    let bytes = of(&newer).iter().map(|key| length(&place.path().join(key))).sum::<u64>();
    for (most, gone) in [(bytes + 1, 0), (bytes, 0), (bytes - 1, 1)] {
        let lake = open_as(place.path(), &bucket, Settings { parquet_bytes_max: most, ..settings() });
        lake.deliver_at_once(now());
        assert_eq!(listed(place.path()).len(), of(&newer).len() - gone);
        assert_eq!(bucket.keys().len(), of(&newer).len() + foreign.len() - gone);
        assert_eq!(local(place.path()), listed(place.path()));
        lake.close().await;
    }
}

#[tokio::test]
async fn what_is_old_is_looked_for_every_minute() {
    let place = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Memory::default());
    let lake = open_as(place.path(), &bucket, settings());
    append(&lake, "first").await;
    lake.compact().unwrap();
    lake.deliver(now());
    let all = listed(place.path()).len();
    // Looked for half a minute before a day is old.
    let old = NOW - NOW % DAY + 30 * DAY;
    for (at, is_removed) in [(old - 30, false), (old, false), (old + 29, false), (old + 30, true)] {
        lake.deliver(UnixTime::from_secs(at));
        assert_eq!(listed(place.path()).len() < all, is_removed, "{at}");
        assert_eq!(bucket.keys(), listed(place.path()));
    }
}

#[tokio::test]
async fn local_copies_go_when_there_are_more_than_may_be_and_what_waits_never_does() {
    let place = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Memory::default());
    let lake = open_as(place.path(), &bucket, settings());
    append(&lake, "first").await;
    lake.compact().unwrap();
    lake.deliver_at_once(now());
    lake.close().await;
    let files = local(place.path());
    let bytes = files.iter().map(|key| length(&place.path().join(key))).sum::<u64>();
    for (most, gone) in [(bytes + 1, 0), (bytes, 0), (bytes - 1, 1)] {
        let lake = open_as(place.path(), &bucket, Settings { local_bytes_max: most, ..settings() });
        lake.deliver_at_once(now());
        assert_eq!(local(place.path()).len(), files.len() - gone, "{most}");
        lake.close().await;
    }
    let lake = open(place.path(), &bucket);
    bucket.fail_after(Some(0), false);
    append(&lake, "second").await;
    lake.compact().unwrap();
    lake.deliver_at_once(now());
    let waiting = local(place.path());
    assert_eq!(waiting.len() as u64, lake.waiting().unwrap().files, "copies have gone, and nothing else");
    assert!(!waiting.is_empty());
}

#[tokio::test]
async fn a_question_says_what_it_did_not_find_and_asks_a_bucket_that_is_away_once() {
    let place = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Memory::default());
    let lake = open(place.path(), &bucket);
    append(&lake, "first").await;
    lake.compact().unwrap();
    lake.deliver_at_once(now());
    let keys = bucket.keys();
    append(&lake, "second").await;
    bucket.fail_after(Some(0), false);
    let asked = bucket.state.lock().unwrap().gets;
    let answer = lake.query(&Query::default()).unwrap();
    assert_eq!((answer.events.len(), answer.unreadable), (30, keys.len()));
    let mut names: Vec<_> = answer.unreadable_files.iter().map(ToString::to_string).collect();
    names.sort();
    assert_eq!(names, keys);
    assert_eq!(bucket.state.lock().unwrap().gets - asked, 1);

    // One that somebody removed, and one that somebody changed, cost nothing of the others.
    bucket.fail_after(None, false);
    {
        let mut state = bucket.state.lock().unwrap();
        state.objects.remove(&keys[0]);
        let mut changed = state.objects[&keys[1]].to_vec();
        let last = changed.len() - 20;
        changed[last] ^= 1;
        state.objects.insert(keys[1].clone(), changed.into());
    }
    for may_not_list in [false, true] {
        bucket.state.lock().unwrap().may_not_list = may_not_list;
        let answer = lake.query(&Query::default()).unwrap();
        assert_eq!(answer.unreadable, 2);
        assert!(answer.events.len() > 30 && answer.events.len() < 60);
    }
    lake.close().await;

    // Without the bucket, what is only there is said to be missing.
    let lake = Lake::open(place.path(), settings(), now()).unwrap();
    let answer = lake.query(&Query::default()).unwrap();
    assert_eq!((answer.events.len(), answer.unreadable), (30, keys.len()));
    assert_eq!((lake.waiting(), lake.undelivered()), (None, None));
}

#[tokio::test]
async fn a_lake_that_was_here_before_the_bucket_is_delivered_and_another_bucket_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let lake = Lake::open(place.path(), settings(), now()).unwrap();
    append(&lake, "first").await;
    lake.compact().unwrap();
    lake.close().await;
    let files = local(place.path());
    let bucket = Arc::new(Memory::default());
    let lake = open(place.path(), &bucket);
    let file = place.path().join("delivered");
    bucket.fail_after(Some(0), false);
    lake.deliver_at_once(now());
    assert!(!file.exists(), "as long as nothing is there, it may be another");
    bucket.fail_after(Some(1), false);
    lake.deliver_at_once(now());
    assert!(file.exists());
    bucket.fail_after(None, false);
    lake.deliver_at_once(now());
    assert_eq!(bucket.keys(), files);
    lake.close().await;

    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("memory:", "elsewhere:")).unwrap();
    let refused = Lake::open_with(place.path(), settings(), Some(Arc::clone(&bucket) as _), now());
    let Err(error @ OpenError::OtherBucket { .. }) = refused.map(|_| ()) else { panic!() };
    let text = error.to_string();
    assert!(text.contains("elsewhere://bucket, not in memory://bucket") && text.contains("/delivered"), "{text}");

    // Moved, and said so.
    fs::remove_file(&file).unwrap();
    let lake = open(place.path(), &bucket);
    assert_eq!(all(&lake, Order::OldestFirst).len(), 30);
}

#[test]
fn who_fails_waits_twice_as_long_each_time_up_to_a_minute() {
    let waits: Vec<_> = [1, 2, 3, 6, 7, 8, 65, u32::MAX].map(|failures| retry_after(failures).as_secs()).into();
    assert_eq!(waits, [1, 2, 4, 32, 60, 60, 60, 60]);
}
