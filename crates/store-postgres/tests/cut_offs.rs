//! As many cut-offs as there may be are read at a start, page by page: none is missing where a page ends.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use inborn_identity::UnixTime;
use inborn_store::{CutOff, Store};
use inborn_store_postgres::PostgresStore;

/// What `records.rs` reads at a time.
const PAGE: usize = 4096;

#[tokio::test]
async fn all_cut_offs_are_read_wherever_pages_end() {
    let Some(cluster) = common::cluster() else { return };
    let url = cluster.database();
    let store = PostgresStore::open(&url).await.unwrap();
    assert_eq!(store.cut_offs().await, Ok(vec![]));
    let mut there = 0;
    for count in [PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 2 * PAGE + 1] {
        // Of two kinds, so that a page ends within either.
        let more = format!(
            "INSERT INTO cut_offs (kind, subject, threshold, made_at) \
             SELECT CASE WHEN n % 3 = 0 THEN 'dead' ELSE 'older-boot' END, 'i-0' || LPAD(TO_HEX(n * 7919 % 1000003), 16, '0'), n % 3, n \
             FROM generate_series({}, {count}) AS n",
            there + 1
        );
        cluster.sql(&url, &more);
        there = count;
        let found = store.cut_offs().await.unwrap();
        assert_eq!(found.len(), count);
        assert_eq!(Ok(found.clone()), store.cut_offs_since(UnixTime::from_secs(0)).await);
        let dead = found.iter().filter(|recorded| matches!(recorded.cut_off, CutOff::Dead { .. })).count();
        assert_eq!(dead, count / 3);
    }
}
