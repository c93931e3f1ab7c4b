//! Several programs over one database, and a database that goes away: what one has answered, all see.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and so does what it calls"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use inborn_store::conformance::samples::*;
use inborn_store::{
    Beat, Change, ChangeRequest, Conflict, CutOff, Heard, HostChange, HostState, Instance, InstanceQuery,
    LaunchOutcome, PURGE_MAX, RegistrationChange, SettingBasis, SettingChange, Store, StoreError, Topic,
};
use inborn_store_postgres::{PostgresOptions, PostgresStore};

/// How many programs work on one database.
const STORES: u32 = 4;
/// How many calls each has under way.
const CALLS: u32 = 8;

async fn stores(url: &str) -> Vec<Arc<PostgresStore>> {
    let opening = (0..STORES).map(|_| {
        let url = url.to_owned();
        tokio::spawn(async move { PostgresStore::open(&url).await })
    });
    let mut stores = Vec::new();
    for opened in opening.collect::<Vec<_>>() {
        stores.push(Arc::new(opened.await.unwrap().unwrap()));
    }
    stores
}

fn setting(expected: Option<u32>, value: u32) -> SettingChange {
    let bytes = |number: u32| number.to_be_bytes().to_vec();
    SettingChange { name: "count".into(), expected: expected.map(bytes), value: bytes(value) }
}

async fn count(store: &PostgresStore) -> Option<u32> {
    let bytes = store.setting("count").await.unwrap();
    bytes.map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap()))
}

/// While somebody else changes what a registration was decided by, it waits, and then it is not written.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_registers_by_what_somebody_changes() {
    let Some(cluster) = common::cluster() else { return };
    let url = cluster.database();
    let store = Arc::new(PostgresStore::open(&url).await.unwrap());
    store.launch(launch(vec![bare(1)])).await.unwrap();
    store.put_setting(setting(None, 1)).await.unwrap();
    let changing = {
        let url = url.clone();
        std::thread::spawn(move || {
            let change = "UPDATE settings SET value = decode('00000002', 'hex') WHERE name = 'count'";
            cluster.sql(&url, &format!("BEGIN; {change}; SELECT pg_sleep(3); COMMIT"));
        })
    };
    let has_changed =
        "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
    while cluster.sql(&url, has_changed) != "1" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let basis = Some(SettingBasis { name: "count".to_owned(), value: vec![0, 0, 0, 1] });
    let change =
        RegistrationChange { instance: id(1), expected: None, public_key: Some(vec![1]), at: LAUNCHED_AT, basis };
    let passed_by = Err(Conflict::SettingChanged("count".to_owned()).into());
    assert_eq!(store.change_registration(change).await, passed_by);
    assert_eq!(store.registration(id(1)).await, Ok(None));
    tokio::task::block_in_place(|| changing.join().unwrap());
}

/// All of them open an empty database at once, count in one setting, and no count is lost.
#[tokio::test(flavor = "multi_thread")]
async fn no_count_is_lost() {
    let Some(cluster) = common::cluster() else { return };
    let stores = stores(&cluster.database()).await;
    let counters = stores.iter().cloned().map(|store| {
        tokio::spawn(async move {
            let mut done = 0;
            while done < CALLS {
                let before = count(&store).await;
                match store.put_setting(setting(before, before.unwrap_or(0) + 1)).await {
                    Ok(()) => done += 1,
                    Err(StoreError::Conflict(Conflict::SettingChanged(_)) | StoreError::Busy) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    for counter in counters.collect::<Vec<_>>() {
        counter.await.unwrap();
    }
    for store in &stores {
        assert_eq!(count(store).await, Some(STORES * CALLS));
    }
}

/// One token, launched with by all at once: one launch, and everybody is given its instances.
#[tokio::test(flavor = "multi_thread")]
async fn one_token_launches_once() {
    let Some(cluster) = common::cluster() else { return };
    let stores = stores(&cluster.database()).await;
    let calls = (0..STORES * CALLS).map(|number| {
        let store = Arc::clone(&stores[(number % STORES) as usize]);
        tokio::spawn(async move { store.launch(launch_with_token(vec![bare(number)], "token", 1)).await })
    });
    let (mut new, mut all) = (0, Vec::new());
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap().unwrap() {
            LaunchOutcome::New(instances) => {
                new += 1;
                all.push(instances);
            }
            LaunchOutcome::Replayed(instances) => all.push(instances),
            LaunchOutcome::Mismatch => panic!("the parameters are the same"),
        }
    }
    assert_eq!(new, 1);
    assert!(all.iter().all(|instances| *instances == all[0]));
    let query = InstanceQuery { account: None, after: None, limit: 1000 };
    assert_eq!(stores[1].instances(query).await.unwrap().instances, all[0]);
}

/// Those who ask at the same time are launched by one statement: there is one entry of news for all that waited.
#[tokio::test]
async fn who_waits_is_launched_together() {
    const LAUNCHES: u32 = 64;
    let Some(cluster) = common::cluster() else { return };
    let url = cluster.database();
    let store = PostgresStore::open(&url).await.unwrap();
    store.beat(Beat { name: "node".into(), at: LAUNCHED_AT, verifies: 0, address: String::new() }).await.unwrap();
    let launches =
        (0..LAUNCHES).map(|number| store.launch(launch_with_token(vec![bare(number)], &number.to_string(), 1)));
    for (number, launched) in (0..).zip(futures_util::future::join_all(launches).await) {
        let instance = Instance { client_token: Some(number.to_string()), ..bare(number) };
        assert_eq!(launched, Ok(LaunchOutcome::New(vec![instance])));
    }
    let entries: u32 = cluster.sql(&url, "SELECT COUNT(1) FROM feed").parse().unwrap();
    assert_eq!(entries, 2, "the first goes at once, all others when that is over");
    assert_eq!(cluster.sql(&url, "SELECT COUNT(1) FROM launches"), LAUNCHES.to_string());
    store.close().await.unwrap();
    assert_eq!(store.launch(launch(vec![bare(LAUNCHES)])).await, Err(StoreError::Closed));
}

/// Launches on one host that never end, from two programs, do not keep out who evicts it; after that none of them launches.
#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_is_not_kept_out_by_launches() {
    let Some(cluster) = common::cluster() else { return };
    let stores = stores(&cluster.database()).await;
    stores[0].put_join_token(join_token(1, 60)).await.unwrap();
    stores[0].join_host(host_join(1, 1, 0)).await.unwrap();
    let refused = StoreError::from(Conflict::HostRefused(host_id(1)));
    let mut launching = tokio::task::JoinSet::new();
    for number in 0..2 * CALLS {
        let (store, refused) = (Arc::clone(&stores[(number % 2) as usize]), refused.clone());
        launching.spawn(async move {
            for launched in 0.. {
                let placed = Instance { host: Some(host_id(1)), ..bare(number * 10_000 + launched) };
                match store.launch(launch(vec![placed])).await {
                    Ok(_) | Err(StoreError::Busy) => {}
                    Err(error) => {
                        assert_eq!(error, refused);
                        return launched;
                    }
                }
            }
            0
        });
    }
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let evicted = stores[2].change_host(host_id(1), HostChange::Evict).await.unwrap().unwrap();
    assert_eq!(evicted.state, HostState::Evicted);
    let on_it: u32 = launching.join_all().await.into_iter().sum();
    assert!(on_it > 0, "some were launched before");
}

/// A database may be told to see all transactions as one after the other, and launches are as good there.
#[tokio::test(flavor = "multi_thread")]
async fn launches_do_not_depend_on_how_a_database_isolates() {
    let Some(cluster) = common::cluster() else { return };
    for level in ["serializable", "repeatable read"] {
        let url = cluster.database();
        let name = url.rsplit('/').next().unwrap();
        cluster.sql(
            &cluster.url("postgres"),
            &format!("ALTER DATABASE {name} SET default_transaction_isolation = '{level}'"),
        );
        let store: Arc<dyn Store> = Arc::new(PostgresStore::open(&url).await.unwrap());
        inborn_store::conformance::launches_at_once_are_answered_one_by_one(store).await;
    }
}

/// All of them terminate and reboot one machine at once: it dies once, and nothing that comes after revives it. What one
/// has answered, another reads at once.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_revives_the_dead() {
    let Some(cluster) = common::cluster() else { return };
    let stores = stores(&cluster.database()).await;
    stores[0].launch(launch(vec![bare(1)])).await.unwrap();
    let calls = (0..STORES * CALLS).map(|number| {
        let store = Arc::clone(&stores[(number % STORES) as usize]);
        let other = Arc::clone(&stores[((number + 1) % STORES) as usize]);
        tokio::spawn(async move {
            let at = LAUNCHED_AT.plus(u64::from(number));
            let is_end = number == STORES * CALLS / 2;
            let what = if is_end { terminate(9) } else { Change::Reboot { at, cut_off: true } };
            match store.change(change(&[1], what)).await {
                Ok(changed) => {
                    let seen = other.instance(id(1)).await.unwrap().unwrap();
                    assert!(seen.boot_generation >= changed[0].after.boot_generation);
                    if is_end {
                        assert!(seen.terminated_at.is_some());
                        assert!(
                            other
                                .cut_offs()
                                .await
                                .unwrap()
                                .iter()
                                .any(|found| matches!(found.cut_off, CutOff::Dead { .. }))
                        );
                    }
                    u32::from(!is_end)
                }
                Err(StoreError::Conflict(Conflict::WrongState { .. })) => 0,
                // Too many at once: it has not happened.
                Err(StoreError::Busy) if !is_end => 0,
                Err(error) => panic!("{error}"),
            }
        })
    });
    let mut reboots = 0;
    for call in calls.collect::<Vec<_>>() {
        reboots += call.await.unwrap();
    }
    let instance = stores[3].instance(id(1)).await.unwrap().unwrap();
    assert!(instance.terminated_at.is_some());
    assert_eq!(instance.boot_generation, bare(1).boot_generation + reboots);
}

/// Two purges at once, each of one machine of a launch, do not leave its token behind.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_go_with_the_last_of_two_purges() {
    let Some(cluster) = common::cluster() else { return };
    let url = cluster.database();
    let stores = stores(&url).await;
    stores[0].launch(launch_with_token(vec![bare(1), bare(2)], "token", 1)).await.unwrap();
    let request = |number| ChangeRequest { account: account(), instances: vec![id(number)], change: terminate(1) };
    stores[0].change(request(1)).await.unwrap();
    stores[1].change(request(2)).await.unwrap();
    let purges = stores
        .iter()
        .cloned()
        .map(|store| tokio::spawn(async move { store.purge(LAUNCHED_AT.plus(1_000_000)).await.unwrap() }));
    let mut purged = 0;
    for purge in purges.collect::<Vec<_>>() {
        purged += purge.await.unwrap();
    }
    assert_eq!(purged, 2);
    assert!(purged < u64::from(PURGE_MAX));
    assert_eq!(cluster.sql(&url, "SELECT COUNT(*) FROM launches"), "0");
}

/// Connections that are ended from the other side, in the middle of work: nothing that was answered is lost, nothing is
/// done twice, and the store goes on.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_ended_are_made_again() {
    let Some(cluster) = common::cluster() else { return };
    let url = cluster.database();
    let store = Arc::new(PostgresStore::open(&url).await.unwrap());
    let end_all = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let writers = (0..CALLS).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut answered = Vec::new();
            for round in 0..20 {
                let number = number * 100 + round;
                match store.launch(launch(vec![bare(number)])).await {
                    Ok(_) => answered.push(number),
                    // It may have happened, and that is what was said.
                    Err(StoreError::Io(_) | StoreError::Unavailable(_) | StoreError::Busy) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            answered
        })
    });
    let writers: Vec<_> = writers.collect();
    for _ in 0..5 {
        cluster.sql(&url, end_all);
    }
    let mut answered = Vec::new();
    for writer in writers {
        answered.extend(writer.await.unwrap());
    }
    assert!(!answered.is_empty());
    for number in answered {
        assert!(store.instance(id(number)).await.unwrap().is_some(), "{number}");
    }
    cluster.sql(&url, end_all);
    // Over a connection whose end may not have been noticed yet.
    store.launch(launch(vec![bare(99_999)])).await.unwrap();
}

/// Whoever goes away in the midst of a write leaves it under way on its connection: who comes next does not wait behind it, while another
/// connection is free, and nothing of it is committed with what comes next.
#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_keeps_nobody_waiting() {
    let Some(cluster) = common::cluster() else { return };
    let url = cluster.database();
    let options = PostgresOptions { connections: 2, ..PostgresOptions::default() };
    let store = PostgresStore::open_with(&url, options).await.unwrap();
    store.put_setting(setting(None, 1)).await.unwrap();
    let (other, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    other.batch_execute("BEGIN; SELECT * FROM settings WHERE name = 'count' FOR UPDATE").await.unwrap();
    let write = store.put_setting(setting(Some(1), 2));
    assert!(tokio::time::timeout(Duration::from_millis(500), write).await.is_err(), "it waits for the other");
    for _ in 0..6 {
        let answered = tokio::time::timeout(Duration::from_secs(5), store.setting("another")).await;
        assert_eq!(answered.expect("nobody waits for one who has gone").unwrap(), None);
    }
    // What was under way has come to nothing, and the connection is used again: there are no more of them than there may be.
    other.batch_execute("COMMIT").await.unwrap();
    let both = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
        AND state = 'idle'";
    for round in 0.. {
        let found: i64 = other.query_one(both, &[]).await.unwrap().get(0);
        if found == 2 {
            break;
        }
        assert!(round < 100, "{found} connections are idle");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(count(&store).await, Some(1));
    for value in 1..5 {
        store.put_setting(setting(Some(value), value + 1)).await.unwrap();
    }
    drop(other);
    connection.await.unwrap().unwrap();
}

/// Somebody else takes two machines in the opposite order: the database ends one of the two, and if that is ours it begins again.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_tried_again() {
    /// How often it may be the other that the database ends: on a machine so slow that it was late to close the circle.
    const ROUNDS: u32 = 10;
    let Some(cluster) = common::cluster() else { return };
    let url = cluster.database();
    let name = url.rsplit_once('/').unwrap().1;
    // Whose time is over first finds the circle, and is ended.
    cluster.sql(&url, &format!("ALTER DATABASE {name} SET deadlock_timeout = '2s'"));
    let options = PostgresOptions { statement: std::time::Duration::from_secs(60), ..PostgresOptions::default() };
    let store = Arc::new(PostgresStore::open_with(&url, options).await.unwrap());
    store.launch(launch(vec![bare(1), bare(2)])).await.unwrap();
    let (other, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    other.batch_execute("SET deadlock_timeout = '20s'").await.unwrap();
    let take = |number| format!("UPDATE instances SET lease = lease WHERE id = '{}'", id(number));
    let waits_for_us =
        "SELECT COUNT(1) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))";
    let mut generation = bare(1).boot_generation;
    for round in 1.. {
        other.batch_execute(&format!("BEGIN; {}", take(2))).await.unwrap();
        let changing = Arc::clone(&store);
        let changing = tokio::spawn(async move { changing.change(change(&[1, 2], reboot(1))).await });
        while other.query_one(waits_for_us, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            assert!(!changing.is_finished(), "it has the second machine, which is taken");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let closed = other.batch_execute(&take(1)).await;
        // Either way only one of the two has both.
        other.batch_execute(if closed.is_ok() { "COMMIT" } else { "ROLLBACK" }).await.unwrap();
        let changed = changing.await.unwrap().unwrap();
        generation += 1;
        assert!(changed.iter().all(|changed| changed.after.boot_generation == generation), "it was done once");
        match closed {
            Ok(()) => break,
            Err(error) => assert!(error.code().unwrap().code() == "40P01" && round < ROUNDS, "{error}"),
        }
    }
    let log = cluster.log();
    assert!(log.contains("deadlock detected"), "{log}");
    let machine = store.instance(id(1)).await.unwrap().unwrap();
    assert_eq!(machine.boot_generation, generation);
}

/// Texts with U+0000 come back, which PostgreSQL has none of.
#[tokio::test]
async fn texts_hold_every_character() {
    let Some(cluster) = common::cluster() else { return };
    let store = PostgresStore::open(&cluster.database()).await.unwrap();
    let mut instance = bare(1);
    instance.tags.insert("a\0b".into(), "\u{1}0\0\u{1}".into());
    store.launch(launch(vec![instance.clone()])).await.unwrap();
    assert_eq!(store.instance(id(1)).await, Ok(Some(instance)));
}

/// Databases that a store must not use are refused, and left as they are.
#[tokio::test]
async fn databases_that_are_not_fit_are_refused() {
    let Some(cluster) = common::cluster() else { return };
    let url = cluster.database();
    drop(PostgresStore::open(&url).await.unwrap());
    cluster.sql(&url, "UPDATE schema_version SET version = 9");
    // Ahead, but nothing in it is beyond this program: a fleet in the middle of an upgrade.
    drop(PostgresStore::open(&url).await.unwrap());
    assert_eq!(cluster.sql(&url, "SELECT version FROM schema_version"), "9");
    cluster.sql(&url, "UPDATE schema_version SET usable_from = 9");
    assert_eq!(PostgresStore::open(&url).await.err(), Some(StoreError::Newer { found: 9, known: 8 }));

    let url = cluster.database();
    cluster.sql(&url, "CREATE TABLE orders (id BIGINT)");
    let name = url.rsplit_once('/').unwrap().1.to_owned();
    assert_eq!(PostgresStore::open(&url).await.err(), Some(StoreError::Foreign(name)));
    assert_eq!(cluster.sql(&url, "SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'"), "1");

    let url = cluster.database_with("ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    assert!(matches!(PostgresStore::open(&url).await.err(), Some(StoreError::Unfit(_))));
    let options = PostgresOptions { connections: 0, ..PostgresOptions::default() };
    assert!(matches!(PostgresStore::open_with(&url, options).await.err(), Some(StoreError::Invalid(_))));
    let options = PostgresOptions { connections: PostgresOptions::CONNECTIONS_MAX + 1, ..options };
    assert!(matches!(PostgresStore::open_with(&url, options).await.err(), Some(StoreError::Invalid(_))));
}

/// A database that is not there is unavailable, and a read-only one takes no writes.
#[tokio::test]
async fn databases_that_do_not_answer_are_unavailable() {
    let Some(cluster) = common::cluster() else { return };
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let found = PostgresStore::open(&format!("postgres://inborn@{nobody}/inborn")).await.err();
    assert!(matches!(found, Some(StoreError::Unavailable(_))), "{found:?}");
    let url = cluster.database();
    let store = PostgresStore::open(&url).await.unwrap();
    let name = url.rsplit_once('/').unwrap().1;
    cluster.sql(&url, &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    store.close().await.unwrap();
    let found = PostgresStore::open(&url).await.err();
    assert!(matches!(found, Some(StoreError::Unavailable(_))), "{found:?}");
}

/// Several write at once, and beat while they do; who listens meanwhile has heard of every change in the end, and of none
/// that is settled twice.
#[tokio::test(flavor = "multi_thread")]
async fn no_change_goes_unheard() {
    const LAUNCHES: u32 = 20;
    let Some(cluster) = common::cluster() else { return };
    let stores = stores(&cluster.database()).await;
    let beat =
        |seconds| Beat { name: "node".into(), at: LAUNCHED_AT.plus(seconds), verifies: 0, address: String::new() };
    for store in &stores {
        store.beat(beat(0)).await.unwrap();
    }
    let mut writing = tokio::task::JoinSet::new();
    for number in 0..STORES * CALLS {
        let store = Arc::clone(&stores[(number % STORES) as usize]);
        writing.spawn(async move {
            for launched in 0..LAUNCHES {
                store.launch(launch(vec![bare(number * LAUNCHES + launched)])).await.unwrap();
                if launched % 4 == 0 {
                    store
                        .beat(Beat { name: "node".into(), at: LAUNCHED_AT, verifies: 0, address: String::new() })
                        .await
                        .unwrap();
                }
            }
        });
    }
    let mut heard = Heard::default();
    let mut known = std::collections::BTreeSet::new();
    let mut rounds = 0;
    loop {
        let is_over = writing.is_empty();
        if is_over {
            for store in &stores {
                store.beat(beat(1)).await.unwrap();
            }
        }
        let news = stores[0].news(heard.clone()).await.unwrap();
        assert!(!news.missed);
        for entry in &news.entries {
            if let Topic::Instances(ids) = &entry.topic {
                known.extend(ids.iter().copied());
            }
        }
        heard = news.heard(None);
        rounds += 1;
        if is_over {
            break;
        }
        while let Some(done) = writing.try_join_next() {
            done.unwrap();
        }
    }
    let expected: std::collections::BTreeSet<_> = (0..STORES * CALLS * LAUNCHES).map(id).collect();
    assert_eq!(known, expected, "after {rounds} rounds");
    assert_eq!(stores[0].news(heard.clone()).await.unwrap().entries, [], "all is settled");
}
