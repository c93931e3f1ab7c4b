//! What only the SQLite store promises: its file, its commits, its limits.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and so does what it calls"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inborn_store::conformance::samples::{
    LAUNCHED_AT, account, bare, change, epoch, full, id, launch, launch_with_token, operator, terminate,
};
use inborn_store::{
    Change, EpochState, Instance, InstanceQuery, LaunchOutcome, SettingChange, SqliteOptions, SqliteStore, Store,
    StoreError, UserData,
};
use rusqlite::Connection;

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("region.db")
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.path()).unwrap()
    }
}

fn integrity(path: &Path) -> String {
    let connection = Connection::open(path).unwrap();
    connection.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let place = Place::new();
    let store = place.open();
    let request = launch_with_token(vec![full(1), bare(2)], "token", 1);
    store.launch(request.clone()).await.unwrap();
    store.change(change(&[2], terminate(9))).await.unwrap();
    store.put_operator(operator(1)).await.unwrap();
    store.put_epoch(epoch(1, EpochState::Sealing)).await.unwrap();
    store.put_setting(SettingChange { name: "n".into(), expected: None, value: vec![1] }).await.unwrap();
    let query = InstanceQuery { account: None, after: None, limit: 10 };
    let (page, cut_offs) = (store.instances(query).await.unwrap(), store.cut_offs().await.unwrap());
    assert_eq!((page.instances.len(), cut_offs.len()), (2, 1));
    store.close().await.unwrap();
    assert!(!place.directory.path().join("region.db-wal").exists(), "a clean close folds the log into the file");

    let store = place.open();
    assert_eq!(store.instances(query).await, Ok(page.clone()));
    assert_eq!(store.cut_offs().await, Ok(cut_offs));
    assert_eq!(store.operators().await, Ok(vec![operator(1)]));
    assert_eq!(store.epochs().await, Ok(vec![epoch(1, EpochState::Sealing)]));
    assert_eq!(store.setting("n").await, Ok(Some(vec![1])));
    assert_eq!(store.launch(request).await, Ok(LaunchOutcome::Replayed(page.instances)));
    store.close().await.unwrap();
    assert_eq!(integrity(&place.path()), "ok");
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let place = Place::new();
    std::fs::write(place.path(), b"").unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let store = place.open();
    store.put_operator(operator(1)).await.unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(place.directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort_unstable();
    assert_eq!(names, ["region.db", "region.db-shm", "region.db-wal", "region.db.lock"]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_second_opener_is_refused_until_the_first_has_closed() {
    let place = Place::new();
    let first = place.open();
    let second = SqliteStore::open(&place.path()).map(drop);
    assert_eq!(second, Err(StoreError::InUse(place.path().display().to_string())));
    first.close().await.unwrap();
    place.open().close().await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let place = Place::new();
    place.open().close().await.unwrap();
    let connection = Connection::open(place.path()).unwrap();
    connection.execute("UPDATE schema_version SET version = 1000", ()).unwrap();
    connection.execute_batch("PRAGMA journal_mode = DELETE").unwrap();
    connection.close().unwrap();
    let before = std::fs::read(place.path()).unwrap();
    let refused = SqliteStore::open(&place.path()).map(drop).unwrap_err();
    assert!(matches!(refused, StoreError::Newer { found: 1000, known } if known < 1000), "{refused:?}");
    assert!(refused.to_string().contains("use the newer program"), "{refused}");
    assert_eq!(std::fs::read(place.path()).unwrap(), before);
}

#[test]
fn what_is_not_ours_is_refused_and_left_alone() {
    let place = Place::new();
    let foreign = || Err(StoreError::Foreign(place.path().display().to_string()));
    std::fs::write(place.path(), "a text that is longer than the header of a database, ".repeat(20)).unwrap();
    let before = std::fs::read(place.path()).unwrap();
    assert_eq!(SqliteStore::open(&place.path()).map(drop), foreign());
    assert_eq!(std::fs::read(place.path()).unwrap(), before);

    std::fs::remove_file(place.path()).unwrap();
    let connection = Connection::open(place.path()).unwrap();
    connection.execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();
    connection.close().unwrap();
    let before = std::fs::read(place.path()).unwrap();
    assert_eq!(SqliteStore::open(&place.path()).map(drop), foreign());
    assert_eq!(std::fs::read(place.path()).unwrap(), before);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let place = Place::new();
    let path = place.directory.path().join("absent").join("region.db");
    let Err(StoreError::Io(text)) = SqliteStore::open(&path).map(drop) else { panic!("it was opened") };
    assert!(text.contains("absent/region.db"), "{text}");
}

#[test]
fn reader_limits() {
    for (readers, fits) in [(0, false), (1, true), (16, true), (17, false)] {
        let place = Place::new();
        let options = SqliteOptions { readers, ..SqliteOptions::default() };
        assert_eq!(SqliteStore::open_with(&place.path(), options).is_ok(), fits, "{readers}");
    }
}

/// A file whose pages are not what they were is found out by reading it; then nothing more is written.
#[tokio::test]
async fn damage_is_told_and_stops_writing() {
    let place = Place::new();
    let store = place.open();
    for number in 0..200 {
        store.launch(launch(vec![full(number + 1)])).await.unwrap();
    }
    store.close().await.unwrap();
    let connection = Connection::open(place.path()).unwrap();
    let roots = connection.query_row("SELECT MAX(rootpage) FROM sqlite_schema", (), |row| row.get(0));
    let roots: u32 = roots.unwrap();
    connection.close().unwrap();
    let mut bytes = std::fs::read(place.path()).unwrap();
    // Everything after the schema and the roots of the tables becomes noise.
    bytes.iter_mut().skip((roots as usize + 2) * 4096).for_each(|byte| *byte = 0xa5);
    std::fs::write(place.path(), bytes).unwrap();

    let store = place.open();
    assert!(matches!(store.instance(id(100)).await, Err(StoreError::Corrupt(_))));
    assert!(matches!(store.launch(launch(vec![bare(1000)])).await, Err(StoreError::Corrupt(_))));
    assert!(matches!(store.put_operator(operator(1)).await, Err(StoreError::Corrupt(_))));
    store.close().await.unwrap();
}

/// With as many writers as fit in one transaction, there are far fewer commits than writes; alone, one for each.
#[tokio::test]
async fn writes_that_wait_are_committed_together() {
    let place = Place::new();
    let store = Arc::new(place.open());
    for number in 0..10 {
        store.launch(launch(vec![bare(number)])).await.unwrap();
    }
    let alone = store.statistics();
    assert_eq!((alone.writes, alone.commits), (10, 10));

    let launches: Vec<_> = (100..356)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.launch(launch(vec![bare(number)])).await })
        })
        .collect();
    for launched in launches {
        assert!(matches!(launched.await.unwrap(), Ok(LaunchOutcome::New(_))));
    }
    let together = store.statistics();
    assert_eq!(together.writes, 266);
    let commits = together.commits - alone.commits;
    assert!((1..=128).contains(&commits), "{commits} commits for 256 writes");
    store.close().await.unwrap();
}

/// In one transaction, what fails takes nothing of its neighbours with it.
#[tokio::test]
async fn a_failing_write_does_not_harm_its_neighbours() {
    let place = Place::new();
    let store = Arc::new(place.open());
    store.launch(launch(vec![bare(0)])).await.unwrap();
    // Every third launch has an instance of its own and one that is there already.
    let request = |number: u32| match number % 3 {
        0 => launch(vec![bare(number), bare(0)]),
        _ => launch(vec![bare(number)]),
    };
    let launches: Vec<_> = (1..=90)
        .map(|number| {
            let (store, request) = (Arc::clone(&store), request(number));
            tokio::spawn(async move { (number, store.launch(request).await.is_ok()) })
        })
        .collect();
    for launched in launches {
        let (number, ok) = launched.await.unwrap();
        assert_eq!(ok, number % 3 != 0, "{number}");
        assert_eq!(store.instance(id(number)).await.unwrap().is_some(), ok, "{number}");
    }
    store.close().await.unwrap();
}

/// A launch with its whole user data: needs pages of its own.
fn heavy(number: u32) -> Instance {
    Instance { user_data: Some(UserData::new(vec![7; UserData::BYTES_MAX]).unwrap()), ..bare(number) }
}

/// Full: launches are refused, reads and small changes go on, and room that is made is used.
#[tokio::test]
async fn a_full_store_serves_reads_and_takes_writes_again() {
    let place = Place::new();
    let options = SqliteOptions { pages_max: Some(120), ..SqliteOptions::default() };
    let store = Arc::new(SqliteStore::open_with(&place.path(), options).unwrap());
    let mut number = 1;
    while store.launch(launch(vec![heavy(number)])).await.is_ok() {
        number += 1;
        assert!(number < 100, "the limit does not hold");
    }
    assert!(number > 5, "{number}");
    assert_eq!(store.launch(launch(vec![heavy(number)])).await, Err(StoreError::Full));
    assert_eq!(store.instance(id(number)).await, Ok(None));
    assert_eq!(store.instance(id(1)).await, Ok(Some(heavy(1))));
    let page = store.instances(InstanceQuery { account: Some(account()), after: None, limit: 1000 }).await.unwrap();
    assert_eq!(page.instances.len(), number as usize - 1);

    // Neighbours of a launch that does not fit: small changes succeed in the same breath.
    let mut together = Vec::new();
    for round in 0..20 {
        let heavy = launch(vec![heavy(number + round)]);
        let reboot = change(&[1], Change::Reboot { at: LAUNCHED_AT, cut_off: false });
        let (first, second) = (Arc::clone(&store), Arc::clone(&store));
        together.push(tokio::spawn(async move { first.launch(heavy).await.map(drop) == Err(StoreError::Full) }));
        together.push(tokio::spawn(async move { second.change(reboot).await.is_ok() }));
    }
    for (index, outcome) in together.into_iter().enumerate() {
        assert!(outcome.await.unwrap(), "{index}");
    }
    assert_eq!(store.instance(id(1)).await.unwrap().unwrap().boot_generation, 21);

    store.change(change(&[1, 2], terminate(1))).await.unwrap();
    assert_eq!(store.purge(LAUNCHED_AT.plus(2)).await, Ok(2));
    assert!(matches!(store.launch(launch(vec![heavy(number)])).await, Ok(LaunchOutcome::New(_))));
    store.close().await.unwrap();
    assert_eq!(integrity(&place.path()), "ok");
}

/// `sqlite3` beside us: it reads while we write, and when it holds the write lock we wait for it.
#[tokio::test]
async fn another_program_may_look_and_for_a_moment_write() {
    let place = Place::new();
    let store = place.open();
    store.launch(launch(vec![bare(1)])).await.unwrap();
    let other = Connection::open(place.path()).unwrap();
    let count = || other.query_row("SELECT COUNT(*) FROM instances", (), |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count(), 1);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let launching = store.launch(launch(vec![bare(2)]));
    let releasing = async {
        tokio::time::sleep(core::time::Duration::from_millis(50)).await;
        assert_eq!(store.instance(id(1)).await, Ok(Some(bare(1))), "reads do not wait");
        other.execute_batch("COMMIT").unwrap();
    };
    let (launched, ()) = tokio::join!(launching, releasing);
    assert!(launched.is_ok());
    assert_eq!(count(), 2);
    store.close().await.unwrap();
}

/// A write that was asked for and not waited for is still done before the store closes.
#[tokio::test]
async fn close_finishes_what_was_begun() {
    let place = Place::new();
    let store = Arc::new(place.open());
    let launches: Vec<_> = (0..50)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.launch(launch(vec![bare(number)])).await })
        })
        .collect();
    tokio::task::yield_now().await;
    store.close().await.unwrap();
    let mut launched = Vec::new();
    for (number, outcome) in (0..).zip(launches) {
        match outcome.await.unwrap() {
            Ok(_) => launched.push(id(number)),
            Err(error) => assert_eq!(error, StoreError::Closed),
        }
    }
    let store = place.open();
    let page = store.instances(InstanceQuery { account: None, after: None, limit: 1000 }).await.unwrap();
    assert_eq!(page.instances.iter().map(|instance| instance.id).collect::<Vec<_>>(), launched);
    store.close().await.unwrap();
}
