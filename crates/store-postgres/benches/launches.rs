//! Durable launches a second with 1, 16 and 64 clients waiting, beside the floor in the same run: as many connections of
//! PostgreSQL, each with one insert per transaction. The server is one of the benchmark's own, with `fsync` on, and each round
//! asks both, one after the other.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark")]
#![allow(clippy::cast_precision_loss, reason = "figures")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::Instant;

use inborn_store::Store as _;
use inborn_store::conformance::rates::{compared, launches_a_second, new_number};
use inborn_store::conformance::samples::bare;
use inborn_store_postgres::PostgresStore;
use tokio_postgres::NoTls;

/// Enough that what else the computer does meets both alike.
const ROUNDS: usize = 15;
/// Launches, and inserts, of one round: seconds of it, on a disk that takes a millisecond for one write.
const OF_ONE_CLIENT: u32 = 512;
const OF_MANY_CLIENTS: u32 = 4096;

fn main() {
    // `cargo test --benches` only wants to see that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let Some(programs) = common::programs() else {
        println!("no PostgreSQL here (on Debian: apt-get install postgresql)");
        return;
    };
    // Of two words about one setting the server takes the later.
    let cluster = common::Cluster::start(&programs, "-c fsync=on");
    println!("{}", cluster.sql(&cluster.url("postgres"), "SELECT version()"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for clients in [1, 16, 64] {
        runtime.block_on(compare(&cluster, clients));
    }
}

async fn compare(cluster: &common::Cluster, clients: u32) {
    let all = if clients == 1 { OF_ONE_CLIENT } else { OF_MANY_CLIENTS };
    let url = cluster.database();
    let store = Arc::new(PostgresStore::open(&url).await.unwrap());
    // After it was opened: a database with tables of others is refused.
    cluster.sql(&url, "CREATE TABLE bare (id text NOT NULL PRIMARY KEY, record text NOT NULL)");
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        rates.push((inserts(&url, clients, all).await, launches_a_second(&store, clients, all).await));
    }
    store.close().await.unwrap();
    let sql = "SELECT round(sum(pg_total_relation_size(name::regclass)) / (SELECT count(*) FROM instances)) \
        FROM unnest(ARRAY['instances', 'instance_tags', 'launches']) AS name";
    let row_bytes = cluster.sql(&url, sql);
    println!("{}; {row_bytes} bytes of tables and indexes a machine", compared(clients, &rates));
}

/// The floor.
async fn inserts(url: &str, clients: u32, all: u32) -> f64 {
    let mut connections = Vec::new();
    for _ in 0..clients {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        let insert = client.prepare("INSERT INTO bare VALUES ($1, $2)").await.unwrap();
        connections.push((client, insert));
    }
    let record = "x".repeat(300);
    let begun = Instant::now();
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|(client, insert)| {
            let record = record.clone();
            tokio::spawn(async move {
                for _ in 0..all / clients {
                    let id = bare(new_number()).id.to_string();
                    client.execute(&insert, &[&id, &record]).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    f64::from(all) / begun.elapsed().as_secs_f64()
}
