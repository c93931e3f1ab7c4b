//! The connections, and what each is told when it is made.

use core::time::Duration;
use std::sync::Arc;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, QueueMode, RecyclingMethod, Runtime};
use inborn_store::StoreError;
use tokio::time::Instant;

use crate::address::Address;
use crate::feed::Node;

/// How a store uses its database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PostgresOptions {
    /// How many connections at most: 1 to [`PostgresOptions::CONNECTIONS_MAX`]. Beyond that verbs wait for each other.
    pub connections: usize,
    /// How long a verb waits for a connection before it finds the store busy.
    pub wait: Duration,
    /// How long the database may take for one statement before it gives it up.
    pub statement: Duration,
}

impl PostgresOptions {
    /// The most connections of one program. PostgreSQL lets in a hundred unless it is told otherwise.
    pub const CONNECTIONS_MAX: usize = 64;

    /// How long one attempt of a transaction may take in all, for the case that nothing comes back at all.
    pub(crate) fn patience(&self) -> Duration {
        self.statement.saturating_mul(2)
    }
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { connections: 8, wait: Duration::from_secs(5), statement: Duration::from_secs(10) }
    }
}

/// Makes the pool. It connects when it is first asked.
pub(crate) fn new(address: Address, options: &PostgresOptions) -> Result<Pool, StoreError> {
    build(address, options, false, None)
}

/// As [`new`], for a node: what it connects to must know its beats.
pub(crate) fn of_node(address: Address, options: &PostgresOptions, node: Arc<Node>) -> Result<Pool, StoreError> {
    build(address, options, false, Some(node))
}

/// Makes a pool whose connections only read, from a standby if that is what answers.
pub(crate) fn to_read(address: Address, options: &PostgresOptions) -> Result<Pool, StoreError> {
    build(address.for_reading(), options, true, None)
}

fn build(
    address: Address,
    options: &PostgresOptions,
    only_reads: bool,
    node: Option<Arc<Node>>,
) -> Result<Pool, StoreError> {
    if !(1..=PostgresOptions::CONNECTIONS_MAX).contains(&options.connections) {
        return Err(StoreError::Invalid("a store has 1 to 64 connections"));
    }
    let statement = options.statement.as_millis();
    let connect = address.config.get_connect_timeout().copied();
    let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(address.config, address.tls, manager_config);
    let prepare = Hook::async_fn(move |client: &mut deadpool_postgres::ClientWrapper, _| {
        let node = node.clone();
        Box::pin(async move {
            prepare(client, statement, only_reads).await.map_err(HookError::Backend)?;
            match node {
                Some(node) => must_know(client, &node).await,
                None => Ok(()),
            }
        })
    });
    Pool::builder(manager)
        .max_size(options.connections)
        .runtime(Runtime::Tokio1)
        // Beats and questions for news, four a second, so go over each connection in turn: none lies idle for long, and one that was
        // ended, or leads to a database that was replaced, is found by them. The other way round one would be kept warm, and those
        // that only a rush needs would be left to whatever cuts idle connections.
        .queue_mode(QueueMode::Fifo)
        .wait_timeout(Some(options.wait))
        .create_timeout(connect)
        .post_create(prepare)
        .build()
        .map_err(|error| StoreError::Unfit(error.to_string()))
}

/// What is said of such a database.
const UNKNOWN: &str = "it does not know what it has answered to this server: a primary that was replaced, or a database that was put \
    back. Keep it off, so that the URL leads to the one that is used; if it is the one, start this server again, which says what to do";

/// Refuses a database that has forgotten what it has answered: a primary that was replaced and has come back by itself, or one that was
/// put back while the server runs.
///
/// It is asked once, when a connection is made. One that was open when another primary took over is asked nothing any more, and is read
/// from as ever. A region server finds that out by its beats, which that primary does not acknowledge (`region/src/lease.rs`).
async fn must_know(client: &deadpool_postgres::ClientWrapper, node: &Node) -> Result<(), HookError> {
    let Some(least) = node.beats_to_be_known(Instant::now()) else { return Ok(()) };
    let sql = "SELECT beats FROM region_nodes WHERE id = $1";
    let found = client.query_opt(sql, &[&node.id.to_string()]).await.map_err(HookError::Backend)?;
    let found = found.map(|row| row.try_get::<_, i64>(0)).transpose().map_err(HookError::Backend)?;
    if found.is_some_and(|found| found >= least) {
        return Ok(());
    }
    if node.says_unknown(Instant::now()) {
        tracing::error!(found, least, "a connection to the database was given up: {UNKNOWN}");
    }
    Err(HookError::message(UNKNOWN))
}

/// A statement that runs on for nobody is ended, and so is a transaction that was left open. What a role or database has
/// for `synchronous_commit` stays, unless it is `off`: a write that has answered is on stable storage.
async fn prepare(
    client: &deadpool_postgres::ClientWrapper,
    statement: u128,
    only_reads: bool,
) -> Result<(), tokio_postgres::Error> {
    let limits = format!(
        "SET statement_timeout = {statement}; SET idle_in_transaction_session_timeout = {}",
        statement.saturating_mul(3)
    );
    client.batch_execute(&limits).await?;
    if only_reads {
        client.batch_execute("SET default_transaction_read_only = 'on'").await?;
    }
    let commits = client.query_one("SHOW synchronous_commit", &[]).await?;
    if commits.try_get::<_, String>(0)? == "off" {
        client.batch_execute("SET synchronous_commit = 'on'").await?;
    }
    Ok(())
}
