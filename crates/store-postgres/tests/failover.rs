//! A primary that is killed under load, and its synchronous standby that is promoted: what was answered is there, nothing goes
//! back, and who writes goes on. And databases that are slow, or full of somebody else's locks.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says how long things took"
)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::Cluster;
use inborn_store::conformance::samples::{LAUNCHED_AT, bare, change, epoch, id, launch, terminate};
use inborn_store::{Beat, CutOff, EpochState, Fence, NodeId, SettingChange, Store, StoreError};
use inborn_store_postgres::{PostgresOptions, PostgresStore};

/// Programs that write, and tasks of each.
const STORES: u32 = 3;
const TASKS: u32 = 4;
/// How long after a standby was promoted everybody writes again, at the latest.
const GOES_ON_WITHIN: Duration = Duration::from_secs(15);

/// Longer than any machine needs, however loaded.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was answered.
#[derive(Default)]
struct Answered {
    launched: BTreeSet<u32>,
    terminated: BTreeSet<u32>,
    epochs: BTreeSet<u32>,
    count: u64,
    /// The first answer to each task after the standby was promoted.
    went_on: Option<Duration>,
}

/// Nothing has happened, or nobody knows: the one and the other may be after a primary was lost.
fn is_outage(error: &StoreError) -> bool {
    matches!(error, StoreError::Io(_) | StoreError::Unavailable(_) | StoreError::Busy)
}

fn options() -> PostgresOptions {
    PostgresOptions { connections: 4, wait: Duration::from_secs(2), statement: Duration::from_secs(2) }
}

/// What those who write are told, and tell.
#[derive(Default)]
struct Told {
    promoted: std::sync::OnceLock<Instant>,
    /// How many have been answered since then.
    went_on: AtomicU32,
    stop: AtomicBool,
}

/// Writes until it is told to stop.
async fn write(store: Arc<PostgresStore>, first: u32, told: Arc<Told>) -> Answered {
    let mut answered = Answered::default();
    for number in first.. {
        if told.stop.load(Ordering::SeqCst) {
            break;
        }
        let outcome = async {
            store.launch(launch(vec![bare(number)])).await?;
            answered.launched.insert(number);
            if number % 3 == 0 {
                store.change(change(&[number], terminate(9))).await?;
                answered.terminated.insert(number);
            }
            Ok(())
        };
        match outcome.await {
            Ok(()) => {
                if let Some(at) = told.promoted.get().filter(|_| answered.went_on.is_none()) {
                    answered.went_on = Some(at.elapsed());
                    told.went_on.fetch_add(1, Ordering::SeqCst);
                }
            }
            Err(error) if is_outage(&error) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => panic!("{error}"),
        }
    }
    answered
}

/// One epoch after the other, and a count that only grows, as a region counts what has ended.
async fn go_on(store: Arc<PostgresStore>, told: Arc<Told>) -> Answered {
    let mut answered = Answered::default();
    let mut next = 1;
    while !told.stop.load(Ordering::SeqCst) {
        let outcome = async {
            let there = store.epochs().await?;
            next = there.last().map_or(1, |epoch| epoch.id + 1);
            store.put_epoch(epoch(next, EpochState::Published)).await?;
            answered.epochs.insert(next);
            let before = store.setting("count").await?;
            let count = before.as_deref().map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap())) + 1;
            let value = count.to_be_bytes().to_vec();
            store.put_setting(SettingChange { name: "count".into(), expected: before, value }).await?;
            answered.count = count;
            Ok(())
        };
        match outcome.await {
            Ok(()) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) if is_outage(&error) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => panic!("{error}"),
        }
    }
    answered
}

/// A primary that was killed under load, the standby that was promoted, and who has written.
struct Failover {
    primary: Cluster,
    standby: Cluster,
    /// The database at the primary, its name, and it at either.
    url: String,
    name: String,
    either: String,
    stores: Vec<Arc<PostgresStore>>,
    /// One that knows only the new primary.
    store: PostgresStore,
    /// When the last of those who write was answered again, after the promotion.
    longest: Duration,
}

async fn fail_over(programs: &Path) -> Failover {
    let primary = Cluster::start(programs, "");
    let url = primary.database();
    let name = url.rsplit_once('/').unwrap().1.to_owned();
    let standby = primary.standby();
    primary.wait_for_standby("standby");
    let either = primary.url_of_either(&standby, &name);
    let told = Arc::new(Told::default());
    let mut writing = tokio::task::JoinSet::new();
    let mut stores = Vec::new();
    for number in 0..STORES {
        let store = Arc::new(PostgresStore::open_with(&either, options()).await.unwrap());
        for task in 0..TASKS {
            let first = (number * TASKS + task + 1) * 100_000;
            writing.spawn(write(Arc::clone(&store), first, Arc::clone(&told)));
        }
        stores.push(store);
    }
    writing.spawn(go_on(Arc::clone(&stores[0]), Arc::clone(&told)));
    tokio::time::sleep(Duration::from_secs(2)).await;

    let lost_at = Instant::now();
    tokio::task::block_in_place(|| {
        primary.kill();
        standby.promote();
    });
    told.promoted.set(Instant::now()).unwrap();
    eprintln!("the standby took writes {:?} after the primary was killed", lost_at.elapsed());
    tokio::time::sleep(GOES_ON_WITHIN).await;
    // Who is late is waited for, so that it is known how late.
    while told.went_on.load(Ordering::SeqCst) < STORES * TASKS {
        assert!(told.promoted.get().unwrap().elapsed() < PATIENCE, "somebody does not go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    told.stop.store(true, Ordering::SeqCst);
    let mut all = Answered::default();
    let mut longest = Duration::ZERO;
    while let Some(answered) = writing.join_next().await {
        let answered = answered.unwrap();
        longest = longest.max(answered.went_on.unwrap_or_default());
        all.launched.extend(answered.launched);
        all.terminated.extend(answered.terminated);
        all.epochs.extend(answered.epochs);
        all.count = all.count.max(answered.count);
    }
    eprintln!("{} launches were answered; every task wrote again {longest:?} after the promotion", all.launched.len());

    // Asked of somebody who knows only the new primary.
    let store = PostgresStore::open(&standby.url(&name)).await.unwrap();
    assert!(all.launched.len() > 100 && !all.terminated.is_empty() && !all.epochs.is_empty());
    for numbers in all.launched.iter().copied().collect::<Vec<_>>().chunks(1000) {
        let found = store.instances_by_id(numbers.iter().copied().map(id).collect()).await.unwrap();
        assert_eq!(found.len(), numbers.len(), "a launch that was answered is lost");
    }
    let dead: BTreeSet<_> = store
        .cut_offs()
        .await
        .unwrap()
        .into_iter()
        .filter_map(|recorded| match recorded.cut_off {
            CutOff::Dead { instance } => Some(instance),
            _ => None,
        })
        .collect();
    assert!(all.terminated.iter().all(|number| dead.contains(&id(*number))), "a cut-off that was answered is lost");
    let epochs: BTreeSet<u32> = store.epochs().await.unwrap().into_iter().map(|epoch| epoch.id).collect();
    assert!(all.epochs.is_subset(&epochs), "an epoch went back");
    let count = store.setting("count").await.unwrap().unwrap();
    assert!(u64::from_be_bytes(count.try_into().unwrap()) >= all.count, "the count went back");
    Failover { primary, standby, url, name, either, stores, store, longest }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_answered_is_lost_with_the_primary() {
    // The server that all tests share says whether there is PostgreSQL here.
    let Some(_) = common::cluster() else { return };
    let programs = common::programs().unwrap();
    let mut after = fail_over(&programs).await;
    if after.longest >= GOES_ON_WITHIN {
        // A busy computer is slow now and then; who does not look for the new primary always is.
        after = fail_over(&programs).await;
    }
    assert!(after.longest < GOES_ON_WITHIN, "{:?}", after.longest);
    let Failover { mut primary, standby, url, name, either, stores, store, .. } = after;

    // The old primary comes back by itself, takes writes as it believes, and is named first. It still waits for a standby that
    // it no longer has, and so answers nobody.
    tokio::task::block_in_place(|| primary.start_again());
    let fooled = PostgresStore::open_with(&either, options()).await.unwrap();
    let outcome = fooled.launch(launch(vec![bare(99)])).await;
    assert!(matches!(outcome, Err(StoreError::Io(_))), "no answer, and that is what is said: {outcome:?}");
    assert_eq!(store.instance(id(99)).await, Ok(None));
    assert_eq!(stores[0].fence(), None, "it was answered no beat yet");
    // Whoever has a connection to the new one keeps it.
    stores[0].launch(launch(vec![bare(98)])).await.unwrap();
    assert!(store.instance(id(98)).await.unwrap().is_some());

    // One that has beaten since knows the old one by that, when it has to connect anew: it neither reads there nor writes. What waits
    // for a standby no longer does, as when somebody has set that back.
    primary.sql(&url, "ALTER SYSTEM RESET synchronous_standby_names");
    primary.sql(&url, "SELECT pg_reload_conf()");
    for number in 0..30 {
        let beat = Beat { name: "one".into(), at: LAUNCHED_AT.plus(number), verifies: 0, address: String::new() };
        stores[0].beat(beat).await.unwrap();
    }
    let fence = stores[0].fence().unwrap();
    assert_eq!(fence.beats, 30);
    let end_connections = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    standby.sql(&standby.url(&name), end_connections);
    for outcome in [
        stores[0].launch(launch(vec![bare(97)])).await.map(drop),
        stores[0].instance(id(98)).await.map(drop),
        stores[0].instances_by_id(vec![id(98)]).await.map(drop),
    ] {
        let error = outcome.unwrap_err();
        assert!(matches!(&error, StoreError::Unavailable(why) if why.contains("does not know")), "{error}");
    }
    // So does one that is started, by what was noted of those beats: the last twenty may have been forgotten, and no more. Of another
    // filling of the database it asks nothing.
    assert!(fooled.has_forgotten(fence).await.unwrap());
    for (beats, expected) in [(30, false), (50, false), (51, true)] {
        assert_eq!(store.has_forgotten(Fence { beats, ..fence }).await, Ok(expected), "{beats}");
    }
    let none = Fence { node: NodeId::new(7), beats: 1, ..fence };
    assert_eq!(store.has_forgotten(none).await, Ok(true));
    assert_eq!(store.has_forgotten(Fence { filled: fence.filled + 1, ..none }).await, Ok(false));
    // Once the old one is kept off, it goes on with the new one.
    tokio::task::block_in_place(|| primary.kill());
    stores[0].launch(launch(vec![bare(97)])).await.unwrap();
    assert!(store.instance(id(97)).await.unwrap().is_some());
}

/// Beats that nobody answered count for nothing: after an outage of many, a database that lacks only the one that was answered since is
/// the one that has answered, to a server that runs and to one that is started.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_uses_up_nothing_of_what_may_be_forgotten() {
    let Some(cluster) = common::cluster() else { return };
    let (url, elsewhere) = (cluster.database(), cluster.url("postgres"));
    let name = url.rsplit_once('/').unwrap().1;
    let store = PostgresStore::open_with(&url, options()).await.unwrap();
    let beat = || store.beat(Beat { name: "one".into(), at: LAUNCHED_AT, verifies: 0, address: String::new() });
    let begun = Instant::now();
    let is_over = |outcome: Result<(), StoreError>| match outcome {
        Ok(()) => true,
        // It had no time to connect.
        Err(error) => {
            assert!(begun.elapsed() < PATIENCE, "{error}");
            assert!(!error.to_string().contains("does not know"), "{error}");
            false
        }
    };
    while !is_over(beat().await) {}
    assert_eq!(store.fence().unwrap().beats, 1);

    let end_connections =
        format!("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = '{name}'");
    cluster.sql(&elsewhere, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"));
    cluster.sql(&elsewhere, &end_connections);
    for _ in 0..30 {
        assert!(beat().await.is_err());
    }
    cluster.sql(&elsewhere, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"));
    while !is_over(beat().await) {}
    let fence = store.fence().unwrap();

    cluster.sql(&url, "UPDATE region_nodes SET beats = 1");
    cluster.sql(&elsewhere, &end_connections);
    while !is_over(store.instance(id(1)).await.map(drop)) {}
    let started = PostgresStore::open(&url).await.unwrap();
    assert_eq!(started.has_forgotten(fence).await, Ok(false), "{fence:?}");
}

/// Somebody keeps a row locked: a verb that waits for it is busy after the time that a statement may take, not for ever, and
/// what does not need the row goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_slow_keeps_nobody_for_ever() {
    let Some(cluster) = common::cluster() else { return };
    let url = cluster.database();
    let options = PostgresOptions { statement: Duration::from_millis(500), ..PostgresOptions::default() };
    let hurried = PostgresStore::open_with(&url, options).await.unwrap();
    let store = PostgresStore::open(&url).await.unwrap();
    store.launch(launch(vec![bare(1), bare(2)])).await.unwrap();
    let locking = {
        let url = url.clone();
        std::thread::spawn(move || {
            let sleep = "DO $$ BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN NULL; END $$";
            let sql = format!("BEGIN; UPDATE instances SET zone = zone WHERE id = '{}'; {sleep}; COMMIT", id(1));
            cluster.sql(&url, &sql);
        })
    };
    let begun = Instant::now();
    let of_who_sleeps = "FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
    while cluster.sql(&url, &format!("SELECT COUNT(*) {of_who_sleeps}")) != "1" {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut times = Vec::new();
    // A busy computer is slow now and then; who waits for the lock always is.
    while times.last().is_none_or(|took| *took >= Duration::from_secs(3)) {
        assert!(times.len() < 3, "{times:?}");
        let begun = Instant::now();
        assert_eq!(hurried.change(change(&[1], terminate(1))).await, Err(StoreError::Busy));
        times.push(begun.elapsed());
    }
    store.change(change(&[2], terminate(1))).await.unwrap();
    cluster.sql(&url, &format!("SELECT pg_cancel_backend(pid) {of_who_sleeps}"));
    tokio::task::block_in_place(|| locking.join().unwrap());
    store.change(change(&[1], terminate(1))).await.unwrap();
}
