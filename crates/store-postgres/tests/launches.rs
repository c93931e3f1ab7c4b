//! Launches that go together when many of them are out of the ordinary, and launches whose connection ends before it has answered.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod common;

use core::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::Cluster;
use futures_util::future::join_all;
use inborn_store::conformance::samples::*;
use inborn_store::{
    Attachment, Beat, Change, Conflict, Heard, Instance, LaunchOutcome, LaunchRequest, Store, StoreError, Topic,
};
use inborn_store_postgres::PostgresStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_postgres::{Client, NoTls};

/// How long a loaded machine may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody who has used a token in a transaction that is not over: a launch with that token waits for its end.
async fn holder(url: &str, token: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("BEGIN").await.unwrap();
    let sql = "INSERT INTO launches (account, client_token, fingerprint, reservation_id) VALUES ($1, $2, '', 'r-1')";
    client.execute(sql, &[&account().to_string(), &token]).await.unwrap();
    client
}

/// Those of our launches that wait for a lock.
fn waiting(cluster: &Cluster, url: &str) -> String {
    let sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    cluster.sql(url, sql)
}

/// While one is under way, many come, most of which are out of the ordinary. They cost few statements, and each has its own answer.
#[tokio::test(flavor = "multi_thread")]
async fn many_that_are_refused_cost_few_statements() {
    /// Of each kind.
    const EACH: u32 = 12;
    /// The one that was under way; all together; five reads in a transaction, the begin and the end of that; those that are left.
    const STATEMENTS_MAX: usize = 1 + 1 + 9 + 1;
    let Some(_) = common::cluster() else { return };
    let cluster = Cluster::start(&common::programs().unwrap(), "-c log_statement=all");
    let url = cluster.database();
    let store = PostgresStore::open(&url).await.unwrap();
    let early = |number: u32| launch_with_token(vec![bare(number)], &format!("early {number}"), 1);
    for number in 1..=2 * EACH {
        store.launch(early(number)).await.unwrap();
    }
    let attach = |number: u16| Change::Attach(Attachment::LoopbackPort(number), None);
    store.change(change(&[1], attach(4000))).await.unwrap();
    let mut expected: Vec<(LaunchRequest, Result<LaunchOutcome, StoreError>)> = Vec::new();
    for number in 1..=EACH {
        let replayed = store.instance(id(number)).await.unwrap().unwrap();
        expected.push((early(number), Ok(LaunchOutcome::Replayed(vec![replayed]))));
        let other = launch_with_token(vec![bare(number + 100)], &format!("early {}", EACH + number), 2);
        expected.push((other, Ok(LaunchOutcome::Mismatch)));
        let twice = launch(vec![bare(number + 200), bare(number)]);
        expected.push((twice, Err(Conflict::Exists("an instance").into())));
        let taken = Instance { attachment: Some(Attachment::LoopbackPort(4000)), ..bare(number + 300) };
        expected.push((launch(vec![taken]), Err(Conflict::AttachmentTaken.into())));
        let placed = Instance { host: Some(host_id(9)), ..bare(number + 400) };
        let refused = Err(Conflict::HostRefused(host_id(9)).into());
        // These have a queue of their own: see below.
        expected.push((launch(vec![placed]), refused));
        let new = launch_with_token(vec![bare(number + 500)], &format!("new {number}"), 1);
        expected.push((new.clone(), Ok(LaunchOutcome::New(new.instances))));
    }
    let (placed, expected): (Vec<_>, Vec<_>) =
        expected.into_iter().partition(|(request, _)| request.instances[0].host.is_some());

    let holder = holder(&url, "held").await;
    let mut first = Box::pin(store.launch(launch_with_token(vec![bare(999)], "held", 1)));
    while waiting(&cluster, &url).is_empty() {
        assert!(futures_util::poll!(&mut first).is_pending());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (requests, answers): (Vec<_>, Vec<_>) = expected.into_iter().unzip();
    let mut calls: Vec<_> = requests.into_iter().map(|request| store.launch(request)).collect();
    for call in &mut calls {
        assert!(futures_util::poll!(call).is_pending());
    }
    let statements = || {
        let log = cluster.log();
        log.lines().filter(|line| line.contains("LOG:  execute ") || line.contains("LOG:  statement: ")).count()
    };
    let before = statements();
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert!(matches!(first.await, Ok(LaunchOutcome::New(_))));
    assert_eq!(join_all(calls).await, answers);
    // The holder's own is one.
    let counted = statements() - before - 1;
    assert!((3..=STATEMENTS_MAX).contains(&counted), "{counted} statements");

    // Those on a host that takes nobody wait for each other alone. The first finds out by itself, the others together.
    let before = statements();
    let count = placed.len();
    let (requests, answers): (Vec<_>, Vec<_>) = placed.into_iter().unzip();
    assert_eq!(join_all(requests.into_iter().map(|request| store.launch(request))).await, answers);
    let counted = statements() - before;
    assert!(counted < 3 * count, "{counted} statements for {count} launches");
}

type Call = Pin<Box<dyn Future<Output = Result<LaunchOutcome, StoreError>> + Send>>;

/// A launch that goes on whoever waits for it.
fn call(store: &Arc<PostgresStore>, request: LaunchRequest) -> Call {
    let store = Arc::clone(store);
    Box::pin(async move { store.launch(request).await })
}

/// Polls launches until one waits for a lock; gives the process of the server that does so for it, if it is another one than that.
async fn until_one_waits(cluster: &Cluster, url: &str, calls: &mut [Call], but: &str) -> String {
    let begun = Instant::now();
    loop {
        for call in &mut *calls {
            assert!(futures_util::poll!(call).is_pending());
        }
        match waiting(cluster, url) {
            found if !found.is_empty() && found != but => return found,
            _ => assert!(begun.elapsed() < PATIENCE, "none of them waits"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The connection is ended while a launch is under way, by itself or with others: each of them is launched, once.
#[tokio::test(flavor = "multi_thread")]
async fn launches_whose_connection_is_ended_are_tried_again() {
    let Some(cluster) = common::cluster() else { return };
    let url = cluster.database();
    let store = Arc::new(PostgresStore::open(&url).await.unwrap());
    let of = |number: u32| launch_with_token(vec![bare(number)], &format!("token {number}"), 1);
    let end = |server: &str| assert_eq!(cluster.sql(&url, &format!("SELECT pg_terminate_backend({server})")), "t");

    let by_itself = holder(&url, "token 1").await;
    let mut calls = [call(&store, of(1))];
    let ended = until_one_waits(cluster, &url, &mut calls, "").await;
    end(&ended);
    until_one_waits(cluster, &url, &mut calls, &ended).await;
    by_itself.batch_execute("ROLLBACK").await.unwrap();
    let [call_of_one] = calls;
    assert_eq!(call_of_one.await, Ok(LaunchOutcome::New(of(1).instances)));

    let (first, third) = (holder(&url, "token 10").await, holder(&url, "token 13").await);
    let mut calls: Vec<Call> = (10..16).map(|number| call(&store, of(number))).collect();
    until_one_waits(cluster, &url, &mut calls, "").await;
    first.batch_execute("ROLLBACK").await.unwrap();
    let mut others = calls.split_off(1);
    assert_eq!(calls.remove(0).await, Ok(LaunchOutcome::New(of(10).instances)));
    let mut ended = waiting(cluster, &url);
    while ended.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        ended = waiting(cluster, &url);
    }
    end(&ended);
    let mut held = [others.remove(2)];
    let at_once = tokio::spawn(join_all(others));
    until_one_waits(cluster, &url, &mut held, &ended).await;
    for (number, outcome) in [11, 12, 14, 15].into_iter().zip(at_once.await.unwrap()) {
        assert_eq!(outcome, Ok(LaunchOutcome::New(of(number).instances)), "{number}");
    }
    third.batch_execute("ROLLBACK").await.unwrap();
    let [held] = held;
    assert_eq!(held.await, Ok(LaunchOutcome::New(of(13).instances)));
    assert_eq!(cluster.sql(&url, "SELECT COUNT(*), COUNT(DISTINCT id) FROM instances"), "7|7");
}

/// A launch is broken off, and is found under way when it is tried again, first of all at its place: it is not refused by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_launch_is_not_refused_by_its_own_attachment() {
    let Some(cluster) = common::cluster() else { return };
    let url = cluster.database();
    let store = Arc::new(PostgresStore::open(&url).await.unwrap());
    let at = |number: u32| Instance { attachment: Some(Attachment::LoopbackPort(4000)), ..bare(number) };
    // Indexes are looked at in the order of their making, and this one is made anew.
    cluster.sql(&url, "REINDEX INDEX CONCURRENTLY instances_pkey");

    let (held, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(store.launch(launch(vec![at(1)])).await, Ok(LaunchOutcome::New(vec![at(1)])));
    held.batch_execute("CREATE TEMP TABLE kept AS SELECT * FROM instances; DELETE FROM instances").await.unwrap();
    held.batch_execute("BEGIN; INSERT INTO instances SELECT * FROM kept").await.unwrap();
    let mut calls = [call(&store, launch(vec![at(1)]))];
    let ended = until_one_waits(cluster, &url, &mut calls, "").await;
    assert_eq!(cluster.sql(&url, &format!("SELECT pg_terminate_backend({ended})")), "t");
    until_one_waits(cluster, &url, &mut calls, &ended).await;
    held.batch_execute("COMMIT").await.unwrap();
    let [again] = calls;
    assert_eq!(again.await, Ok(LaunchOutcome::New(vec![at(1)])));

    // By another one's it is.
    held.batch_execute("BEGIN; DELETE FROM instances; INSERT INTO instances SELECT * FROM kept").await.unwrap();
    let mut calls = [call(&store, launch(vec![at(2)]))];
    let ended = until_one_waits(cluster, &url, &mut calls, "").await;
    assert_eq!(cluster.sql(&url, &format!("SELECT pg_terminate_backend({ended})")), "t");
    let [again] = calls;
    assert_eq!(again.await, Err(Conflict::AttachmentTaken.into()));
}

/// What lies between a store and its database, and can keep an answer to itself.
struct Between {
    keeps: Arc<AtomicBool>,
    kept: Arc<AtomicBool>,
    port: u16,
}

impl Between {
    async fn start(socket: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (keeps, kept) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let between = Self { keeps: Arc::clone(&keeps), kept: Arc::clone(&kept), port };
        tokio::spawn(async move {
            while let Ok((store, _)) = listener.accept().await {
                let database = UnixStream::connect(&socket).await.unwrap();
                tokio::spawn(carry(store, database, Arc::clone(&keeps), Arc::clone(&kept)));
            }
        });
        between
    }
}

/// Carries bytes both ways. An answer that is to be kept ends both.
async fn carry(store: TcpStream, database: UnixStream, keeps: Arc<AtomicBool>, kept: Arc<AtomicBool>) {
    let (mut from_store, mut to_store) = store.into_split();
    let (mut from_database, mut to_database) = database.into_split();
    let asking = tokio::spawn(async move { tokio::io::copy(&mut from_store, &mut to_database).await });
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count) = from_database.read(&mut bytes).await
        && count > 0
    {
        if keeps.swap(false, Ordering::SeqCst) {
            kept.store(true, Ordering::SeqCst);
            break;
        }
        if to_store.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    asking.abort();
}

/// A launch takes effect, and the connection ends before it is answered: it is answered all the same, is there once, and is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_launch_whose_answer_is_lost_has_happened_once() {
    let Some(cluster) = common::cluster() else { return };
    let url = cluster.database();
    let between = Between::start(cluster.socket()).await;
    let name = url.rsplit_once('/').unwrap().1;
    let through = format!("postgres://inborn@127.0.0.1:{}/{name}?sslmode=disable", between.port);
    let store = PostgresStore::open(&through).await.unwrap();
    store.beat(Beat { name: "a".into(), at: LAUNCHED_AT, verifies: 0, address: String::new() }).await.unwrap();
    let of = |number: u32| launch_with_token(vec![bare(number)], &format!("token {number}"), 1);
    for number in 1..=20 {
        // Prepared, so that the next answer is that of the launch.
        store.launch(of(1000 + number)).await.unwrap();
        between.keeps.store(true, Ordering::SeqCst);
        assert_eq!(store.launch(of(number)).await, Ok(LaunchOutcome::New(of(number).instances)));
        assert!(between.kept.swap(false, Ordering::SeqCst), "its answer was not lost");
        assert_eq!(
            cluster.sql(&url, &format!("SELECT COUNT(*) FROM launches WHERE client_token = 'token {number}'")),
            "1"
        );
    }
    let mut told: Vec<_> =
        store.news(Heard::default()).await.unwrap().entries.into_iter().map(|entry| entry.topic).collect();
    told.retain(|topic| *topic == Topic::Instances(vec![id(7)]));
    assert!(!told.is_empty(), "others hear of it");
    // Of one without a token, too: its ids are its own.
    between.keeps.store(true, Ordering::SeqCst);
    assert!(matches!(store.launch(launch(vec![bare(99)])).await, Ok(LaunchOutcome::New(_))));
    // One that somebody else has taken is refused as ever.
    let taken = store.launch(launch_with_token(vec![bare(99)], "another", 1)).await;
    assert_eq!(taken, Err(Conflict::Exists("an instance").into()));
}
