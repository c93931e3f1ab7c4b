//! How long a region server that was killed takes until it is ready again: from the start of the process until `/readyz` says 200,
//! over SQLite and over PostgreSQL, with few machines and with many. SIGKILL comes while launches are under way, so that what was
//! being written, locks and the connections of the one that was killed are there when the next one starts.
//!
//! And how long a host takes that was killed, while its region is away, until its machines have credentials again, from what it keeps.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark")]

#[path = "../../store-postgres/tests/common/mod.rs"]
mod postgres;

#[path = "../tests/calls/mod.rs"]
mod calls;
#[path = "../tests/hosts/mod.rs"]
mod hosts;
#[path = "../tests/patience/mod.rs"]
mod patience;
#[path = "../tests/servers/mod.rs"]
mod servers;
mod support;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use inborn_identity::AccountId;
use inborn_store::conformance::samples::{bare, spread_id};
use inborn_store::{Instance, LaunchRequest, SqliteStore, Store};
use inborn_store_postgres::PostgresStore;
use patience::until;
use servers::{LAUNCH, REGION, Server};
use support::{Spread, is_only_asked, millis};

/// Machines that the store has.
const MACHINES: [u32; 2] = [1_000, 100_000];
const TOGETHER: u32 = 1_000;
/// Machines of the host that is killed.
const ON_HOST: usize = 10;
const ROUNDS: usize = 10;
/// Answered launches after which the kill comes.
const LAUNCHES: usize = 5;
/// A host writes what it keeps a moment after it has it.
const KEPT_AFTER: Duration = Duration::from_secs(3);
/// What is promised of a store of a modest region: the first of [`MACHINES`].
const GOAL: Duration = Duration::from_secs(1);

fn main() {
    if is_only_asked() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    println!("restart of a killed `inborn region` until it is ready, {ROUNDS} rounds: fastest / median / 90 % within");
    for machines in MACHINES {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = directory.path().join("region.db");
        let url = format!("sqlite:{}", path.display());
        restarts(&url, "SQLite", machines, |account| {
            let store = SqliteStore::open(&path).unwrap();
            runtime.block_on(fill(&store, account, machines));
        });
    }
    host_restarts();
    let Some(programs) = postgres::programs() else {
        println!("!! NOT MEASURED: PostgreSQL is not here (on Debian: apt-get install postgresql)");
        return;
    };
    // Of two words about one setting the server takes the later.
    let cluster = postgres::Cluster::start(&programs, "-c fsync=on");
    for machines in MACHINES {
        let url = cluster.database();
        restarts(&url, "PostgreSQL", machines, |account| {
            runtime.block_on(async { fill(&PostgresStore::open(&url).await.unwrap(), account, machines).await });
        });
    }
}

async fn fill(store: &dyn Store, account: AccountId, machines: u32) {
    for first in (0..machines).step_by(TOGETHER as usize) {
        let reservation_id = format!("r-{first:017x}");
        let instances = (first..first + TOGETHER).zip(0..).map(|(number, ami_launch_index)| Instance {
            id: spread_id(number),
            account,
            tags: BTreeMap::from([("Name".to_owned(), format!("web-{number}"))]),
            reservation_id: reservation_id.clone(),
            private_address: Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 10).to_bits() + number),
            ami_launch_index,
            ..bare(number)
        });
        let (instances, fingerprint) = (instances.collect(), [0; 32]);
        store
            .launch(LaunchRequest { account, client_token: None, fingerprint, reservation_id, instances })
            .await
            .unwrap();
    }
    store.close().await.unwrap();
}

/// Measures over one store, which `fill` fills once a server has made it.
fn restarts(url: &str, name: &str, machines: u32, fill: impl FnOnce(AccountId)) {
    let data = tempfile::tempdir().unwrap();
    let settings = [("INBORN_STORE", url), ("RUST_LOG", "warn")];
    let (first, new) = start(data.path(), &settings);
    let account = first.ready["account"].as_str().unwrap().parse().unwrap();
    drop(first);
    fill(account);
    kill_at_work(start(data.path(), &settings).0);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let (server, took) = start(data.path(), &settings);
        times.push(took);
        kill_at_work(server);
    }
    let spread = Spread::of(times);
    let verdict = match machines {
        _ if machines != MACHINES[0] => String::new(),
        _ if spread.most <= GOAL => format!("; the goal of {} ms is kept", GOAL.as_millis()),
        _ => format!("; the goal of {} ms is missed", GOAL.as_millis()),
    };
    println!("  {name}, {machines:>6} machines: {spread}{verdict}; the very first start took {:.0} ms", millis(new));
}

fn host_restarts() {
    let mut region = hosts::Region::start();
    let mut host = hosts::Host::start(&region);
    let ports: Vec<u16> = (0..ON_HOST).map(|_| host.attach(&region.launch_on(&host.id).to_string())).collect();
    let has_all = || ports.iter().all(|port| hosts::credential(*port).is_some()).then_some(());
    until("all machines have credentials", has_all);
    until("they are kept", || host.data().join("cache.sealed").exists().then_some(()));
    std::thread::sleep(KEPT_AFTER);
    region.go_away();
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        host.go_away();
        let begun = Instant::now();
        host.come_back();
        until("all machines have credentials", has_all);
        times.push(begun.elapsed());
    }
    println!("  a host without its region, {ON_HOST} machines, until each has its credential: {}", Spread::of(times));
}

fn start(data: &Path, settings: &[(&str, &str)]) -> (Server, Duration) {
    let begun = Instant::now();
    let server = Server::start_with("a", data, settings);
    until("it is ready", || (server.readiness().0 == 200).then_some(()));
    (server, begun.elapsed())
}

/// Kills a server that has answered some launches, with the next ones under way.
fn kill_at_work(server: Server) {
    let address = server.ready["endpoint"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    let operator = server.operator.clone();
    let (sender, answered) = mpsc::channel();
    let launching = std::thread::spawn(move || {
        let host = format!("ec2.{REGION}.amazonaws.com");
        while let Ok((status, body)) = calls::call(&address, &host, &operator, ("ec2", REGION), LAUNCH) {
            // The last answers come from nobody who listens any more.
            let _ = sender.send((status, body));
        }
    });
    for _ in 0..LAUNCHES {
        let (status, body) = answered.recv().unwrap();
        assert_eq!(status, 200, "{body}");
    }
    drop(server);
    launching.join().unwrap();
}
