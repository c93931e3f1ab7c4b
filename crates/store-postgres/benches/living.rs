//! How long all machines take to come out of a database, as at a start of a region server, beside the same page after page, where there
//! are not too many for that. Its arguments: how many machines there are, 100,000 without it; each has a tag. And the URL of a database that
//! is empty, or was filled by this with as many: two builds can be measured in turn over the same.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use inborn_store::conformance::samples::{bare, launch, spread_id};
use inborn_store::{Instance, InstanceQuery, Living, Packer, Store as _};
use inborn_store_postgres::PostgresStore;
use tokio::sync::mpsc;

const ROUNDS: usize = 7;
const MACHINES: u32 = 100_000;
const TOGETHER: u32 = 1000;
/// More are not read page after page: that takes minutes.
const IN_PAGES_MAX: u32 = 100_000;

fn main() {
    // `cargo test --benches` only wants to see that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let argument = |is_it: fn(&str) -> bool| std::env::args().skip(1).find(|argument| is_it(argument));
    let machines = argument(|text| text.parse::<u32>().is_ok()).map_or(MACHINES, |number| number.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Some(url) = argument(|text| text.starts_with("postgres")) {
        return runtime.block_on(measure(&url, machines, || ()));
    }
    let Some(programs) = common::programs() else {
        println!("no PostgreSQL here (on Debian: apt-get install postgresql)");
        return;
    };
    let cluster = common::Cluster::start(&programs, "");
    let url = cluster.database();
    runtime.block_on(measure(&url, machines, || drop(cluster.sql(&url, "VACUUM ANALYZE"))));
}

/// A machine as it was launched. Ids are spread as real ones are.
fn machine(number: u32) -> Instance {
    Instance { id: spread_id(number), tags: [("Name".to_owned(), format!("web {number}"))].into(), ..bare(number) }
}

async fn measure(url: &str, machines: u32, tidy: impl FnOnce()) {
    let store = Arc::new(PostgresStore::open(url).await.unwrap());
    let first = InstanceQuery { account: None, after: None, limit: 1 };
    if store.instances(first).await.unwrap().instances.is_empty() {
        for first in (0..machines).step_by(TOGETHER as usize) {
            store.launch(launch((first..machines.min(first + TOGETHER)).map(machine).collect())).await.unwrap();
        }
        tidy();
    }
    let (mut once, mut pages) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        once.push(at_once(&store, machines).await);
        if machines <= IN_PAGES_MAX {
            pages.push(in_pages(&store, machines).await);
        }
    }
    for (what, mut times) in [("at once", once), ("page after page", pages)] {
        times.sort_unstable();
        if let (Some(first), Some(last)) = (times.first(), times.last()) {
            println!("{machines} machines {what}: {:?} ({first:?} to {last:?})", times[times.len() / 2]);
        }
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
