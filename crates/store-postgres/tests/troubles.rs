//! A database whose disk is full, one that takes no writes, and a standby in its place: what was answered is there, what was refused is
//! not, and the same store goes on once the trouble is over.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it saw"
)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::Cluster;
use common::room::{Little, LittleRoom};
use inborn_store::conformance::samples::{LAUNCHED_AT, bare, change, id, launch, terminate};
use inborn_store::{Beat, CutOff, Heard, Store, StoreError, Topic};
use inborn_store_postgres::{PostgresOptions, PostgresStore};

/// Longer than any machine needs, however loaded.
const PATIENCE: Duration = Duration::from_secs(60);

fn options() -> PostgresOptions {
    PostgresOptions { connections: 4, wait: Duration::from_secs(5), statement: Duration::from_secs(5) }
}

fn beat(seconds: u64) -> Beat {
    Beat { name: "node".into(), at: LAUNCHED_AT.plus(seconds), verifies: 0, address: String::new() }
}

/// What was asked for, by what is known of it.
#[derive(Default)]
struct Asked {
    answered: BTreeSet<u32>,
    /// It was said that nothing has happened.
    refused: BTreeSet<u32>,
}

impl Asked {
    /// Launches until it is refused; gives why.
    async fn until_refused(&mut self, store: &PostgresStore, first: u32) -> StoreError {
        for number in first..first + 20_000 {
            match store.launch(launch(vec![bare(number)])).await {
                Ok(_) => _ = self.answered.insert(number),
                Err(error) => {
                    self.note(number, &error);
                    return error;
                }
            }
        }
        panic!("there was room for everything");
    }

    fn note(&mut self, number: u32, error: &StoreError) {
        match error {
            StoreError::Full | StoreError::Unavailable(_) | StoreError::Busy => _ = self.refused.insert(number),
            // It may have happened.
            StoreError::Io(_) => {}
            error => panic!("{error}"),
        }
    }

    /// Looks whether it is as it was said.
    async fn check(&self, store: &PostgresStore) {
        let found = async |numbers: &BTreeSet<u32>| {
            let mut found = 0;
            for part in numbers.iter().copied().collect::<Vec<_>>().chunks(1000) {
                found += store.instances_by_id(part.iter().copied().map(id).collect()).await.unwrap().len();
            }
            found
        };
        assert_eq!(found(&self.answered).await, self.answered.len(), "a launch that was answered is lost");
        assert_eq!(found(&self.refused).await, 0, "a launch that was refused is there");
    }
}

/// The disk of the tables is full: what needs room is refused, all else goes on, and with room everything does.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_loses_nothing() {
    let Some(_) = common::cluster() else { return };
    let Some(database) = LittleRoom::start(&common::programs().unwrap(), Little::Tables) else { return };
    let store = Arc::new(PostgresStore::open_with(&database.database(), options()).await.unwrap());
    store.beat(beat(0)).await.unwrap();
    let mut asked = Asked::default();
    for number in 1..=50 {
        store.launch(launch(vec![bare(number)])).await.unwrap();
        asked.answered.insert(number);
    }
    database.fill();
    assert_eq!(asked.until_refused(&store, 1000).await, StoreError::Full);
    eprintln!("{} launches had room in what was there", asked.answered.len() - 50);

    // Several at once, on all connections: each is whole, or not there.
    let mut many = tokio::task::JoinSet::new();
    for first in (50_000..50_320).step_by(20) {
        let (store, numbers) = (Arc::clone(&store), first..first + 20);
        many.spawn(async move { (numbers.clone(), store.launch(launch(numbers.map(bare).collect())).await.map(drop)) });
    }
    while let Some(done) = many.join_next().await {
        match done.unwrap() {
            (numbers, Ok(())) => asked.answered.extend(numbers),
            (numbers, Err(error)) => {
                assert_eq!(error, StoreError::Full);
                asked.refused.extend(numbers);
            }
        }
    }
    assert!(asked.refused.len() > 20, "none of them was refused");
    // All of a change or nothing of it.
    let changed = store.change(change(&[1], terminate(9))).await.map(drop);
    assert!(matches!(changed, Ok(()) | Err(StoreError::Full)), "{changed:?}");
    assert_eq!(store.instance(id(1)).await.unwrap().unwrap().terminated_at.is_some(), changed.is_ok());
    let cut_offs = store.cut_offs().await.unwrap();
    let is_dead = cut_offs.iter().any(|recorded| matches!(recorded.cut_off, CutOff::Dead { .. }));
    assert_eq!(is_dead, changed.is_ok());
    // Servers go on to read, to hear, and to say that they live.
    asked.check(&store).await;
    store.beat(beat(1)).await.unwrap();
    store.news(Heard::default()).await.unwrap();

    database.make_room();
    store.launch(launch(vec![bare(60_000)])).await.unwrap();
    asked.answered.insert(60_000);
    store.change(change(&[2], terminate(9))).await.unwrap();
    asked.check(&store).await;
    // And everything that was answered is told.
    let mut told = BTreeSet::new();
    for entry in store.news(Heard::default()).await.unwrap().entries {
        if let Topic::Instances(ids) = entry.topic {
            told.extend(ids);
        }
    }
    assert_eq!(told, asked.answered.iter().copied().map(id).collect());
}

/// There is no room for the log: PostgreSQL stops at once, and may not come up by itself. Nothing that was answered is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_stops_the_database_and_loses_nothing() {
    let Some(_) = common::cluster() else { return };
    let Some(mut database) = LittleRoom::start(&common::programs().unwrap(), Little::Log) else { return };
    let store = PostgresStore::open_with(&database.cluster.database(), options()).await.unwrap();
    let mut asked = Asked::default();
    for number in 1..=50 {
        store.launch(launch(vec![bare(number)])).await.unwrap();
        asked.answered.insert(number);
    }
    database.fill();
    let error = asked.until_refused(&store, 1000).await;
    eprintln!("{} launches had room in the log; then: {error}", asked.answered.len() - 50);
    for number in 50_000..50_003 {
        match store.launch(launch(vec![bare(number)])).await {
            Ok(_) => _ = asked.answered.insert(number),
            Err(error) => asked.note(number, &error),
        }
    }
    database.make_room();
    tokio::task::block_in_place(|| database.come_back());
    let begun = Instant::now();
    for number in 60_000.. {
        match store.launch(launch(vec![bare(number)])).await {
            Ok(_) => {
                asked.answered.insert(number);
                break;
            }
            Err(error) => asked.note(number, &error),
        }
        assert!(begun.elapsed() < PATIENCE, "the store does not go on");
    }
    asked.check(&store).await;
}

/// A database that is made read-only is not written to, whoever has it open; it is read on, and written to when it is released.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_becomes_read_only_is_left_alone() {
    let Some(_) = common::cluster() else { return };
    let cluster = Cluster::start(&common::programs().unwrap(), "");
    let url = cluster.database();
    let store = PostgresStore::open_with(&url, options()).await.unwrap();
    store.launch(launch(vec![bare(1)])).await.unwrap();
    let say = |what: &str| {
        cluster.sql(&url, &format!("ALTER SYSTEM {what}"));
        cluster.sql(&url, "SELECT pg_reload_conf()");
    };
    say("SET default_transaction_read_only = on");
    let (begun, mut number) = (Instant::now(), 100);
    let error = loop {
        number += 1;
        match store.launch(launch(vec![bare(number)])).await {
            // Its connections have not been told yet.
            Ok(_) => assert!(begun.elapsed() < PATIENCE, "it is written to"),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, StoreError::ReadOnly(why) if why.contains("25006")), "{error}");
    assert_eq!(store.instance(id(number)).await, Ok(None));
    assert!(store.instance(id(1)).await.unwrap().is_some(), "it is read");
    // A store that is opened now is told at once.
    assert!(matches!(PostgresStore::open(&url).await.err(), Some(StoreError::Unavailable(_))));
    say("RESET default_transaction_read_only");
    let begun = Instant::now();
    while let Err(error) = store.launch(launch(vec![bare(number)])).await {
        assert!(
            matches!(error, StoreError::ReadOnly(_) | StoreError::Unavailable(_)) && begun.elapsed() < PATIENCE,
            "{error}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(store.instance(id(number)).await.unwrap().is_some());
}

/// A URL that leads to a standby alone, as after a mistake or a move of a name: nothing opens it to write, and it is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_no_primary() {
    let Some(_) = common::cluster() else { return };
    let primary = Cluster::start(&common::programs().unwrap(), "");
    let url = primary.database();
    let store = PostgresStore::open_with(&url, options()).await.unwrap();
    store.launch(launch(vec![bare(1)])).await.unwrap();
    let standby = primary.standby();
    let name = url.rsplit_once('/').unwrap().1;
    let found = PostgresStore::open_with(&standby.url(name), options()).await.err();
    assert!(matches!(found, Some(StoreError::Unavailable(_))), "{found:?}");
    let reading = PostgresStore::open_to_read(&standby.url(name)).await.unwrap();
    assert!(reading.instance(id(1)).await.unwrap().is_some());
    assert!(matches!(reading.launch(launch(vec![bare(2)])).await, Err(StoreError::Unavailable(_))));
    // Named first, it is passed over.
    let either = PostgresStore::open_with(&standby.url_of_either(&primary, name), options()).await.unwrap();
    either.launch(launch(vec![bare(2)])).await.unwrap();
    assert!(store.instance(id(2)).await.unwrap().is_some());
}

/// A commit that waits for a standby that is gone is ended by no timeout: nobody knows what becomes of the change until it is over, and
/// then its own node is told of it, as others are.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_takes_effect_late_is_told_to_its_own_node() {
    const STATEMENT: Duration = Duration::from_secs(1);
    let Some(_) = common::cluster() else { return };
    let cluster = Cluster::start(&common::programs().unwrap(), "");
    let url = cluster.database();
    let options = PostgresOptions { statement: STATEMENT, ..options() };
    let own = PostgresStore::open_with(&url, options).await.unwrap();
    let other = PostgresStore::open_with(&url, options).await.unwrap();
    for store in [&own, &other] {
        store.beat(beat(0)).await.unwrap();
    }
    own.launch(launch(vec![bare(1), bare(2), bare(3)])).await.unwrap();
    own.beat(beat(1)).await.unwrap();
    let mut heard = Vec::new();
    for store in [&own, &other] {
        let except = Some(store.node());
        heard.push(store.news(Heard { except, ..Heard::default() }).await.unwrap().heard(except));
    }

    cluster.hold_commits();
    let outcome = own.change(change(&[1], terminate(9))).await;
    assert!(matches!(&outcome, Err(StoreError::Io(why)) if why.contains("may have taken effect")), "{outcome:?}");
    // Its caller goes away.
    assert!(tokio::time::timeout(STATEMENT / 4, own.change(change(&[2], terminate(9)))).await.is_err());
    // It is asked for again and again how that ended, longer than anything is waited for.
    let begun = Instant::now();
    let mut seconds = 2;
    while begun.elapsed() < STATEMENT * 10 {
        seconds += 1;
        assert!(matches!(own.beat(beat(seconds)).await, Err(StoreError::Io(_) | StoreError::Busy)));
        for (store, heard) in [&own, &other].into_iter().zip(&heard) {
            assert_eq!(store.news(heard.clone()).await.unwrap().entries, [], "nothing is known yet");
        }
    }
    assert!(own.instance(id(1)).await.unwrap().unwrap().terminated_at.is_none());

    cluster.release_commits();
    let told = |entries: &[inborn_store::Entry]| -> BTreeSet<_> {
        let ids = entries.iter().filter_map(|entry| match &entry.topic {
            Topic::Instances(ids) => Some(ids.clone()),
            _ => None,
        });
        ids.flatten().collect()
    };
    let begun = Instant::now();
    let mut known = [BTreeSet::new(), BTreeSet::new()];
    loop {
        seconds += 1;
        own.beat(beat(seconds)).await.unwrap();
        let mut settled = 0;
        for ((store, heard), known) in [&own, &other].into_iter().zip(&mut heard).zip(&mut known) {
            let news = store.news(heard.clone()).await.unwrap();
            assert!(!news.missed);
            known.extend(told(&news.entries));
            settled = news.nodes.iter().find(|node| node.id == own.node()).unwrap().settled;
            *heard = news.heard(Some(store.node()));
        }
        // The launch, two changes, and whatever was begun again.
        if settled >= 3 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "it is never settled: {settled}, {known:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut changed = BTreeSet::new();
    for number in [1, 2] {
        if own.instance(id(number)).await.unwrap().unwrap().terminated_at.is_some() {
            changed.insert(id(number));
        }
    }
    assert!(changed.contains(&id(1)));
    assert_eq!(known, [changed.clone(), changed], "what has happened is told, and nothing else");
    // Once.
    own.change(change(&[3], terminate(9))).await.unwrap();
    own.beat(beat(seconds + 1)).await.unwrap();
    assert_eq!(own.news(heard[0].clone()).await.unwrap().entries, [], "it knows what it was answered");
    assert_eq!(told(&other.news(heard[1].clone()).await.unwrap().entries), BTreeSet::from([id(3)]));
}

/// What has come to nothing keeps nobody from hearing: its number is used up.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_broken_off_is_settled() {
    let Some(_) = common::cluster() else { return };
    let cluster = Arc::new(Cluster::start(&common::programs().unwrap(), ""));
    let url = cluster.database();
    let store = PostgresStore::open_with(&url, options()).await.unwrap();
    store.beat(beat(0)).await.unwrap();
    store.launch(launch(vec![bare(1)])).await.unwrap();
    let changes = "SELECT COUNT(1) FROM pg_locks WHERE NOT granted";
    // Somebody else has the machines, so that the change waits.
    let holding = tokio::task::spawn_blocking({
        let (cluster, url) = (Arc::clone(&cluster), url.clone());
        move || cluster.sql(&url, "BEGIN; LOCK TABLE instances IN EXCLUSIVE MODE; SELECT pg_sleep(3); COMMIT")
    });
    let begun = Instant::now();
    while cluster.sql(&url, "SELECT COUNT(1) FROM pg_locks WHERE mode = 'ExclusiveLock' AND relation IS NOT NULL")
        == "0"
    {
        assert!(begun.elapsed() < PATIENCE, "nobody locks anything");
    }
    tokio::select! {
        outcome = store.change(change(&[1], terminate(9))) => panic!("it did not wait: {outcome:?}"),
        () = async {
            while cluster.sql(&url, changes) == "0" {
                assert!(begun.elapsed() < PATIENCE, "it does not wait");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        } => {}
    }
    holding.await.unwrap();
    let begun = Instant::now();
    let settled = async |seconds| {
        store.beat(beat(seconds)).await.unwrap();
        let nodes = store.news(Heard::default()).await.unwrap().nodes;
        nodes.first().unwrap().settled
    };
    let mut seconds = 1;
    while settled(seconds).await < 2 {
        assert!(begun.elapsed() < PATIENCE, "it is never settled");
        seconds += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(store.instance(id(1)).await.unwrap().unwrap().terminated_at.is_none());
    let entry = "SELECT number, topic FROM feed ORDER BY number";
    assert_eq!(cluster.sql(&url, entry), "1|instances\n2|setting");
    store.change(change(&[1], terminate(9))).await.unwrap();
    assert_eq!(settled(seconds + 1).await, 3);
}
