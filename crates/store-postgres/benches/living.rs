//! How long all machines take to come out of a database, as at a start of a region server, beside the same page after page. Its argument
//! is how many machines there are, 100,000 without it; each has a tag.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use inborn_store::conformance::samples::{bare, launch};
use inborn_store::{Instance, InstanceQuery, Living, Packer, Store as _};
use inborn_store_postgres::PostgresStore;
use tokio::sync::mpsc;

const ROUNDS: usize = 7;
const MACHINES: u32 = 100_000;
const TOGETHER: u32 = 1000;

fn main() {
    // `cargo test --benches` only wants to see that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let Some(programs) = common::programs() else {
        println!("no PostgreSQL here (on Debian: apt-get install postgresql)");
        return;
    };
    let machines = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(MACHINES);
    let cluster = common::Cluster::start(&programs, "");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure(&cluster, machines));
}

async fn measure(cluster: &common::Cluster, machines: u32) {
    let url = cluster.database();
    let store = Arc::new(PostgresStore::open(&url).await.unwrap());
    let of = |number: u32| Instance { tags: [("Name".to_owned(), format!("web {number}"))].into(), ..bare(number) };
    for first in (0..machines).step_by(TOGETHER as usize) {
        store.launch(launch((first..machines.min(first + TOGETHER)).map(of).collect())).await.unwrap();
    }
    cluster.sql(&url, "VACUUM ANALYZE");
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push((at_once(&store, machines).await, in_pages(&store, machines).await));
    }
    for (what, of) in [("at once", 0), ("page after page", 1)] {
        let mut times: Vec<Duration> = rounds.iter().map(|(once, pages)| [*once, *pages][of]).collect();
        times.sort_unstable();
        println!("{machines} machines {what}: {:?} ({:?} to {:?})", times[ROUNDS / 2], times[0], times[ROUNDS - 1]);
    }
}

async fn at_once(store: &PostgresStore, machines: u32) -> Duration {
    let begun = Instant::now();
    let (sender, mut parts) = mpsc::channel(4);
    let (sent, (instances, tags)) = tokio::join!(store.living(Arc::default(), sender), async {
        let (mut instances, mut tags) = (0, 0);
        while let Some(part) = parts.recv().await {
            match part {
                Living::Instances(some) => instances += some.len(),
                Living::Tags(some) => tags += some.len(),
                Living::Expected(_) | Living::UserData(_) => {}
            }
        }
        (instances, tags)
    });
    sent.unwrap();
    assert_eq!((instances, tags), (machines as usize, machines as usize));
    begun.elapsed()
}

async fn in_pages(store: &PostgresStore, machines: u32) -> Duration {
    let begun = Instant::now();
    let packer = Packer::default();
    let (mut after, mut packed) = (None, Vec::new());
    loop {
        let query = InstanceQuery { account: None, after, limit: InstanceQuery::LIMIT_MAX };
        let page = store.instances(query).await.unwrap();
        packed.extend(page.instances.iter().map(|instance| packer.pack(instance)));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(packed.len(), machines as usize);
    begun.elapsed()
}
