//! What is wrong on the disk, and costs nothing of the rest.

use super::tests::{Memory, local, now, open, open_as, settings};
use super::*;
use crate::Waiting;
use crate::compact::tests::append;

#[tokio::test]
async fn a_damaged_list_costs_its_own_day_only_and_holds_the_mark_until_it_is_mended() {
    let place = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Memory::default());
    let lake = open(place.path(), &bucket);
    append(&lake, "first").await;
    lake.compact().unwrap();
    let files = local(place.path());
    let (day, _) = files[0].rsplit_once('/').unwrap();
    let list = place.path().join(day).join(".delivered");
    fs::write(&list, "damaged\n").unwrap();
    let waiting = files.iter().filter(|key| key.starts_with(day)).count();
    assert!(waiting < files.len());
    for _ in 0..2 {
        lake.deliver_at_once(now());
        let said = lake.undelivered().unwrap();
        assert!(said.contains("of 1 days nothing is delivered") && said.contains(day), "{said}");
        assert_eq!((bucket.keys().len(), lake.waiting().unwrap().files), (files.len() - waiting, waiting as u64));
        assert_eq!(lake.counts().unreadable_files, 1, "told of once");
    }
    assert_eq!(Mark::read(place.path()).unwrap().unwrap().job, 0);
    lake.close().await;

    // What came later is delivered as well, and not counted again.
    let lake = open_as(place.path(), &bucket, settings());
    assert_eq!(lake.waiting().unwrap().files, waiting as u64);
    fs::remove_file(&list).unwrap();
    lake.deliver_at_once(now());
    assert_eq!((bucket.keys(), lake.waiting()), (files.clone(), Some(Waiting::default())));
    assert_eq!(lake.undelivered(), None);
    assert_eq!(Mark::read(place.path()).unwrap().unwrap().job, 1);

    // Damaged again, and removed by somebody with all that is there.
    fs::write(&list, "damaged\n").unwrap();
    lake.deliver_at_once(now());
    assert!(lake.undelivered().unwrap().contains(day));
    fs::remove_dir_all(place.path().join(day)).unwrap();
    lake.deliver_at_once(now());
    assert_eq!(lake.undelivered(), None);
}

/// What a mark that is put back says is delivered does not wait.
#[tokio::test]
async fn what_waits_is_counted_again_once_the_mark_can_be_read() {
    let place = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Memory::default());
    let path = place.path().join("delivered");
    fs::write(&path, "damaged").unwrap();
    let lake = open(place.path(), &bucket);
    append(&lake, "first").await;
    lake.compact().unwrap();
    let before = local(place.path());
    append(&lake, "second").await;
    lake.compact().unwrap();
    let later: Vec<String> = local(place.path()).into_iter().filter(|key| !before.contains(key)).collect();
    lake.deliver_at_once(now());
    assert_eq!(lake.waiting().unwrap().files, (before.len() + later.len()) as u64);
    // Only the second job waits, and a day of it whose list is damaged goes on to.
    let (day, _) = later[0].rsplit_once('/').unwrap();
    fs::write(place.path().join(day).join(".delivered"), "damaged\n").unwrap();
    Mark { bucket: bucket.address().into(), job: 1 }.write(place.path()).unwrap();
    lake.deliver_at_once(now());
    let of_the_day = later.iter().filter(|key| key.starts_with(day)).count();
    let found = (bucket.keys().len(), lake.waiting().unwrap().files);
    assert_eq!(found, (later.len() - of_the_day, of_the_day as u64));
}

/// Telemetry is taken and found; nothing is delivered to where it may not belong, and it goes on without a restart.
#[tokio::test]
async fn a_damaged_mark_holds_up_delivery_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Memory::default());
    let path = place.path().join("delivered");
    fs::write(&path, "damaged").unwrap();
    let lake = open(place.path(), &bucket);
    append(&lake, "first").await;
    lake.compact().unwrap();
    let files = local(place.path());
    lake.deliver_at_once(now());
    let said = lake.undelivered().unwrap();
    assert!(said.contains("does not say what was delivered") && said.contains("put it back"), "{said}");
    assert_eq!((bucket.keys().len(), lake.waiting().unwrap().files), (0, files.len() as u64));
    assert_eq!(fs::read(&path).unwrap(), b"damaged");
    Mark { bucket: "memory://another".into(), job: 0 }.write(place.path()).unwrap();
    lake.deliver_at_once(now());
    assert!(lake.undelivered().unwrap().contains("memory://another") && bucket.keys().is_empty());
    Mark { bucket: bucket.address().into(), job: 0 }.write(place.path()).unwrap();
    lake.deliver_at_once(now());
    assert_eq!((bucket.keys(), lake.undelivered()), (files, None));
}

#[tokio::test]
async fn a_mark_ahead_of_the_jobs_is_put_back_and_new_jobs_are_delivered() {
    let place = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Memory::default());
    Mark { bucket: bucket.address().into(), job: 9 }.write(place.path()).unwrap();
    let lake = open(place.path(), &bucket);
    assert_eq!(Mark::read(place.path()).unwrap().unwrap().job, 0);
    append(&lake, "first").await;
    lake.compact().unwrap();
    let files = local(place.path());
    lake.deliver_at_once(now());
    assert!(!files.is_empty());
    assert_eq!(bucket.keys(), files);
}

#[tokio::test]
async fn a_bucket_into_which_nothing_was_put_is_not_marked() {
    let place = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Memory::default());
    let lake = open(place.path(), &bucket);
    append(&lake, "first").await;
    lake.compact().unwrap();
    for key in local(place.path()) {
        fs::remove_file(place.path().join(key)).unwrap();
    }
    lake.deliver_at_once(now());
    assert_eq!((lake.undelivered(), Mark::read(place.path()).unwrap()), (None, None));
}

#[tokio::test]
async fn what_was_to_go_before_a_crash_goes_from_the_disk_and_a_list_that_cannot_be_written_stops_no_other() {
    let place = tempfile::tempdir().unwrap();
    let bucket = Arc::new(Memory::default());
    let lake = open_as(place.path(), &bucket, settings());
    append(&lake, "first").await;
    lake.compact().unwrap();
    lake.deliver_at_once(now());
    let files = local(place.path());
    let day = place.path().join(files[0].rsplit_once('/').unwrap().0);
    let mut entries = index::read(&day).unwrap();
    entries[0].is_going = true;
    let going = day.join(&*entries[0].name);
    index::write(&day, &entries).unwrap();
    assert!(going.exists());
    lake.deliver_at_once(now());
    assert!(!going.exists());
    assert_eq!((local(place.path()).len(), bucket.keys().len()), (files.len() - 1, files.len() - 1));
    lake.close().await;

    // No list can be written: a directory is where the new one is made. Copies go all the same, and no object does.
    for day in layout::directories(place.path(), &|_| true, &|_| true).unwrap() {
        fs::create_dir(day.path.join(".delivered.new")).unwrap();
    }
    let few = Settings { local_bytes_max: 0, parquet_bytes_max: 0, ..settings() };
    let lake = open_as(place.path(), &bucket, few);
    lake.deliver_at_once(now());
    assert!(lake.undelivered().is_some());
    assert_eq!((local(place.path()).len(), bucket.keys().len()), (0, files.len() - 1));
}
