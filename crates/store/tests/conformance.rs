//! The suite over the SQLite store, on disk and in memory.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and so does what it calls"
)]

use std::sync::Arc;

use inborn_store::{SqliteStore, Store};

mod on_disk {
    use super::*;

    fn store() -> (Arc<dyn Store>, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        (Arc::new(SqliteStore::open(&directory.path().join("region.db")).unwrap()), directory)
    }

    inborn_store::conformance_tests!(store());
}

mod in_memory {
    use super::*;

    inborn_store::conformance_tests!({
        let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
        (store, ())
    });
}
