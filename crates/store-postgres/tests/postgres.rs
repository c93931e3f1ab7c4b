//! The suite over a real PostgreSQL.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and so does what it calls"
)]

mod common;

use std::sync::Arc;

use inborn_store::Store;
use inborn_store_postgres::PostgresStore;

inborn_store::conformance_tests!({
    let Some(cluster) = common::cluster() else { return };
    let store: Arc<dyn Store> = Arc::new(PostgresStore::open(&cluster.database()).await.unwrap());
    (store, ())
});
