use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};

use inborn_identity::UnixTime;

use super::{Bookmark, Found, Next, Place, Unread, bytes_of, parse, read};
use crate::compact::tests::{NOW, append};
use crate::log::frame::Head;
use crate::{Lake, Settings};

/// Of one call of [`append`].
const EVENTS: usize = 30;

fn settings() -> Settings {
    Settings { free_bytes_min: 0, ..Settings::default() }
}

/// The first uid of each batch, and the place behind it.
type Told = Arc<Mutex<Vec<(String, Place)>>>;

/// Opens a lake whose batches are observed.
fn open(place: &Path, settings: Settings) -> (Lake, Told) {
    let lake = Lake::open(place, settings, UnixTime::from_secs(NOW)).unwrap();
    let told = Told::default();
    let telling = Arc::clone(&told);
    lake.observe(Box::new(move |batch, place| {
        telling.lock().unwrap().push((batch.records[0].uid.to_string(), place));
    }));
    (lake, told)
}

async fn close(lake: Lake) {
    lake.close().await;
}

fn uids(unread: &mut Unread) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(next) = unread.read_next().unwrap() {
        let Next::Batch(batch, _) = next else { panic!("something is gone") };
        all.extend(batch.records.iter().map(|record| record.uid.to_string()));
    }
    all
}

/// What the next start finds unread.
async fn unread_at(place: &Path) -> Vec<String> {
    let (lake, _) = open(place, settings());
    let (_, mut unread) = lake.resume().unwrap();
    let all = uids(&mut unread);
    close(lake).await;
    all
}

#[test]
fn a_bookmark_is_read_as_it_was_written_or_is_damaged() {
    let place = Place { segment: 7, offset: u64::MAX };
    let bytes = bytes_of(place);
    assert_eq!(parse(&bytes), Some(place));
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert_eq!(parse(&changed), None, "byte {at}");
    }
    assert_eq!((parse(&bytes[..27]), parse(&[&bytes[..], &[0]].concat()), parse(&[])), (None, None, None));
}

#[tokio::test]
async fn what_is_appended_is_told_in_the_order_of_the_log_and_once() {
    let place = tempfile::tempdir().unwrap();
    let (lake, told) = open(place.path(), settings());
    for name in ["a", "b", "a"] {
        append(&lake, name).await;
    }
    let told = told.lock().unwrap();
    let names: Vec<_> = told.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a-0", "a-0", "a-0", "b-0", "b-0", "b-0"], "what was there already is not told again");
    assert!(told.windows(2).all(|pair| pair[0].1 < pair[1].1), "{told:?}");
    assert_eq!(told[5].1.offset, lake.segments()[0].end());
}

#[tokio::test]
async fn what_was_not_done_is_read_at_the_next_start() {
    let place = tempfile::tempdir().unwrap();
    let (lake, told) = open(place.path(), settings());
    append(&lake, "before").await;
    let (bookmark, unread) = lake.resume().unwrap();
    assert!(unread.is_empty(), "who reads for the first time begins with what comes");
    append(&lake, "a").await;
    let places: Vec<_> = told.lock().unwrap().iter().map(|(_, place)| *place).collect();
    bookmark.done(places[4]);
    assert_eq!(bookmark.lake(), lake.resume().unwrap().0.lake(), "a lake has one name");
    bookmark.keep().unwrap();
    close(lake).await;
    // The last of the three batches of "a". Nobody is done with it at the second start either.
    for _ in 0..2 {
        let unread = unread_at(place.path()).await;
        assert_eq!(unread.len(), EVENTS / 3, "{unread:?}");
        assert!(unread.iter().all(|uid| uid.starts_with("a-")));
    }
}

#[tokio::test]
async fn what_a_second_process_does_waits_for_what_the_first_left() {
    let place = tempfile::tempdir().unwrap();
    let (lake, _) = open(place.path(), settings());
    lake.resume().unwrap();
    append(&lake, "a").await;
    close(lake).await;
    let (lake, told) = open(place.path(), settings());
    let (bookmark, mut unread) = lake.resume().unwrap();
    append(&lake, "b").await;
    bookmark.done(told.lock().unwrap()[2].1);
    let Some(Next::Batch(first, behind)) = unread.read_next().unwrap() else { panic!("nothing is unread") };
    assert_eq!(&*first.records[0].uid, "a-0");
    assert!(behind.segment < bookmark.live_from());
    bookmark.done(behind);
    bookmark.keep().unwrap();
    close(lake).await;
    assert_eq!(unread_at(place.path()).await.len(), EVENTS * 2 - EVENTS / 3, "all but the first batch of the first");
    // Once the first is done with, what the second did counts.
    let (lake, _) = open(place.path(), settings());
    let (bookmark, _) = lake.resume().unwrap();
    bookmark.done_with_earlier();
    bookmark.keep().unwrap();
    close(lake).await;
    assert!(unread_at(place.path()).await.is_empty());
}

#[tokio::test]
async fn a_damaged_bookmark_costs_reading_again_and_one_that_is_ahead_nothing_later() {
    let place = tempfile::tempdir().unwrap();
    let (lake, told) = open(place.path(), settings());
    let (bookmark, _) = lake.resume().unwrap();
    append(&lake, "a").await;
    bookmark.done(told.lock().unwrap()[2].1);
    bookmark.keep().unwrap();
    close(lake).await;
    assert!(unread_at(place.path()).await.is_empty());
    std::fs::write(place.path().join("judged"), b"INBREAD1 and so on").unwrap();
    assert_eq!(read(place.path()).unwrap(), Found::Damaged);
    assert_eq!(unread_at(place.path()).await.len(), EVENTS);
    let ahead = Place { segment: u64::MAX, offset: 5 };
    std::fs::write(place.path().join("judged"), bytes_of(ahead)).unwrap();
    let (lake, _) = open(place.path(), settings());
    let (_, unread) = lake.resume().unwrap();
    assert!(unread.is_empty());
    append(&lake, "b").await;
    close(lake).await;
    let unread = unread_at(place.path()).await;
    assert_eq!((unread.len(), &unread[0][..2]), (EVENTS, "b-"), "what came after is not taken for done");
}

#[tokio::test]
async fn nothing_becomes_parquet_before_it_is_read() {
    let place = tempfile::tempdir().unwrap();
    let (lake, told) = open(place.path(), settings());
    let (bookmark, _) = lake.resume().unwrap();
    append(&lake, "a").await;
    let places: Vec<_> = told.lock().unwrap().iter().map(|(_, place)| *place).collect();
    bookmark.done(places[1]);
    lake.compact().unwrap();
    assert_eq!(lake.log_records(), 30, "the last batch is unread");
    bookmark.done(places[2]);
    lake.compact().unwrap();
    assert_eq!(lake.log_records(), 0);
    close(lake).await;
    // The bookmark on the disk is behind: what it says is left is in Parquet, and read.
    assert!(unread_at(place.path()).await.is_empty());
}

#[tokio::test]
async fn an_older_copy_that_is_put_back_gives_no_number_again() {
    let place = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let append_at = async |place: &Path, name: &str, seconds: u64| {
        let lake = Lake::open(place, settings(), UnixTime::from_secs(NOW + seconds)).unwrap();
        let (bookmark, _) = lake.resume().unwrap();
        append(&lake, name).await;
        let number = lake.segments().last().unwrap().number;
        close(lake).await;
        (bookmark.lake(), number)
    };
    append_at(place.path(), "a", 0).await;
    std::fs::create_dir(copy.path().join("log")).unwrap();
    for from in [place.path().to_owned(), place.path().join("log")] {
        let files = std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        for file in files {
            std::fs::copy(&file, copy.path().join(file.strip_prefix(place.path()).unwrap())).unwrap();
        }
    }
    let (lake, later) = append_at(place.path(), "b", 60).await;
    let (same, later_still) = append_at(place.path(), "c", 60).await;
    assert_eq!((lake, later + 1), (same, later_still), "within one moment they follow each other");
    let (put_back, number) = append_at(copy.path(), "d", 61).await;
    assert_eq!(put_back, lake, "it is the same lake");
    assert!(number > later_still, "{number} was given already");
}

#[tokio::test]
async fn who_has_no_reader_forgets_the_bookmark() {
    let place = tempfile::tempdir().unwrap();
    let (lake, _) = open(place.path(), settings());
    lake.resume().unwrap();
    append(&lake, "a").await;
    lake.forget_bookmark().unwrap();
    close(lake).await;
    assert!(unread_at(place.path()).await.is_empty());
}

/// Three segments that nobody has read.
async fn three(place: &Path) -> u64 {
    let mut bytes = 0;
    for name in ["a", "b", "c"] {
        let (lake, _) = open(place, settings());
        lake.resume().unwrap();
        append(&lake, name).await;
        bytes = lake.segments().last().unwrap().end();
        close(lake).await;
    }
    bytes
}

#[tokio::test]
async fn room_for_what_is_unread_below_at_and_above_the_limit() {
    let place = tempfile::tempdir().unwrap();
    three(place.path()).await;
    let (lake, _) = open(place.path(), settings());
    let (_, unread) = lake.resume().unwrap();
    assert!(!unread.is_empty());
    let segments = lake.segments();
    let bytes: Vec<u64> = segments.iter().map(|segment| segment.end()).collect();
    let ripe = |room| {
        let ripe = lake.ripe(room);
        assert!(ripe.iter().eq(segments.iter().map(|segment| &segment.number).take(ripe.len())), "the oldest");
        ripe.len()
    };
    let all = bytes.iter().sum::<u64>();
    assert_eq!((ripe(all), ripe(all - 1), ripe(all + 1)), (0, 1, 0));
    assert_eq!((ripe(bytes[1] + bytes[2] - 1), ripe(bytes[2]), ripe(bytes[2] - 1), ripe(0)), (2, 2, 3, 3));
}

#[tokio::test]
async fn what_had_to_become_parquet_unread_is_counted_and_the_rest_is_read() {
    let place = tempfile::tempdir().unwrap();
    let bytes = three(place.path()).await;
    let tight = Settings { log_bytes_max: 2 * bytes + 2 * bytes / 2, ..settings() };
    let (lake, _) = open(place.path(), tight);
    let (bookmark, mut unread) = lake.resume().unwrap();
    let Some(Next::Batch(batch, behind)) = unread.read_next().unwrap() else { panic!("nothing is unread") };
    bookmark.done(behind);
    lake.compact().unwrap();
    assert_eq!(lake.log_records(), 30, "there is room for one");
    let mut gone = Vec::new();
    let mut read = 0;
    while let Some(next) = unread.read_next().unwrap() {
        match next {
            Next::Gone(events, behind) => {
                bookmark.done(behind);
                gone.push(events);
            }
            Next::Batch(batch, _) => read += batch.records.len(),
        }
    }
    assert_eq!((batch.records.len(), gone, read), (10, vec![20, 30], 30));
}

#[tokio::test]
async fn a_segment_that_cannot_be_read_is_tried_again_or_given_up_and_its_events_are_counted() {
    let place = tempfile::tempdir().unwrap();
    three(place.path()).await;
    let (lake, _) = open(place.path(), settings());
    let (_, mut unread) = lake.resume().unwrap();
    assert!(matches!(unread.read_next(), Ok(Some(Next::Batch(..)))), "the first batch of three");
    let of_one = EVENTS as u64;
    assert_eq!(unread.left(), 3 * of_one - 10);
    let whole = unread.segments.pop().unwrap();
    // Reading a directory fails.
    let broken = Arc::new(whole.with_file(File::open(place.path()).unwrap()));
    unread.segments.push(broken);
    for _ in 0..2 {
        assert!(unread.read_next().is_err());
        assert_eq!(unread.left(), 3 * of_one - 10, "nothing is passed over");
    }
    let broken = core::mem::replace(unread.segments.last_mut().unwrap(), whole);
    let Ok(Some(Next::Batch(second, _))) = unread.read_next() else { panic!("it is not tried again") };
    assert_eq!((second.records.len(), unread.left()), (10, 3 * of_one - 20));
    *unread.segments.last_mut().unwrap() = broken;
    assert!(unread.read_next().is_err());
    assert_eq!((unread.skip(), unread.left()), (of_one - 20, 2 * of_one));
    assert_eq!(uids(&mut unread).len(), 2 * EVENTS, "the others are read");
    assert_eq!((unread.skip(), unread.left()), (0, 0));
}

#[tokio::test]
async fn a_log_whose_reader_stands_still_is_ended_once_and_not_every_minute() {
    let place = tempfile::tempdir().unwrap();
    let (lake, told) = open(place.path(), settings());
    let (bookmark, _) = lake.resume().unwrap();
    for (minute, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        append(&lake, name).await;
        lake.tidy(UnixTime::from_secs(NOW + 3600 + 60 * minute as u64));
    }
    assert_eq!(lake.segments().len(), 2, "the first was old, and what it holds is waited for");
    bookmark.done(told.lock().unwrap()[11].1);
    lake.tidy(UnixTime::from_secs(NOW + 7200));
    assert_eq!((lake.log_records(), lake.segments().len()), (0, 0));
}

#[tokio::test]
async fn a_round_of_compaction_is_bounded() {
    let place = tempfile::tempdir().unwrap();
    three(place.path()).await;
    let (lake, _) = open(place.path(), settings());
    // As long as a job may be.
    for segment in lake.segments() {
        segment.note(&Head { raw: u32::MAX, ..Head::EMPTY });
    }
    lake.tidy(UnixTime::from_secs(NOW + 300));
    assert_eq!(lake.log_records(), 30);
    lake.tidy(UnixTime::from_secs(NOW + 300));
    assert_eq!(lake.log_records(), 0);
}

#[test]
fn a_bookmark_can_be_shared() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<Bookmark>();
    sent::<Unread>();
}
