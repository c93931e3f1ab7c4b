//! Who signs for machines: made once, sealed, the same after every restart, whatever the store does.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::Arc;

use common::*;
use inborn_region::{KeySource, RegionServer};
use inborn_store::{SqliteStore, Store};
use inborn_testkit::{Fault, FaultyStore};

const DAY: u64 = 86_400;

/// The certificate that verifies documents, and the chain of Instance Connect.
fn certificates(region: &RegionServer) -> Option<(String, String)> {
    let documents = region.document_signer()?.certificate_pem().to_owned();
    Some((documents, region.instance_connect_signer()?.chain_pem().to_owned()))
}

fn key_source() -> (tempfile::TempDir, KeySource) {
    let directory = tempfile::tempdir().unwrap();
    let source = KeySource::File(directory.path().join("epoch.key"));
    (directory, source)
}

#[tokio::test]
async fn a_region_has_one_of_each_however_often_it_is_asked_and_restarted() {
    let (_directory, source) = key_source();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let running = start_on(Arc::clone(&store), source.clone()).await;
    assert!(running.region.document_signer().is_none(), "a region starts without waiting for its keys");
    let (one, two) = tokio::join!(running.region.complete_signers(), running.region.complete_signers());
    one.and(two).unwrap();
    let made = certificates(&running.region).unwrap();
    let restarted = start_on(Arc::clone(&store), source).await;
    assert_eq!(certificates(&restarted.region).unwrap(), made, "there from the first moment");
    restarted.region.complete_signers().await.unwrap();
    assert_eq!(certificates(&restarted.region).unwrap(), made);
    for name in ["document-signer", "instance-connect amazonaws.com"] {
        let blob = store.setting(name).await.unwrap().unwrap();
        assert!(!blob.windows(5).any(|bytes| bytes == b"BEGIN"), "{name} rests sealed");
    }
}

#[tokio::test]
async fn the_signer_of_instance_connect_is_renewed_and_its_root_stays() {
    let (_directory, source) = key_source();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let running = start_on(Arc::clone(&store), source.clone()).await;
    running.region.complete_signers().await.unwrap();
    let (documents, chain) = certificates(&running.region).unwrap();
    let root = running.region.instance_connect_signer().unwrap().root_pem().to_owned();
    running.clock.advance(45 * DAY);
    running.region.complete_signers().await.unwrap();
    let renewed = certificates(&running.region).unwrap();
    assert_eq!(renewed.0, documents);
    assert!(renewed.1 != chain && renewed.1.ends_with(&root));
    assert_eq!(certificates(&start_on(store, source).await.region).unwrap(), renewed);
}

/// A signer whose key is lost would have signed what nobody can verify: it signs nothing before it is stored.
#[tokio::test]
async fn what_cannot_be_stored_signs_nothing_and_is_tried_again() {
    for (fault, write) in [(Fault::io_before(), 0), (Fault::io_after(), 0), (Fault::full(), 1), (Fault::io_after(), 1)]
    {
        let (_directory, source) = key_source();
        let store = Arc::new(FaultyStore::new(Arc::new(SqliteStore::in_memory().unwrap())));
        let running = start_on(Arc::clone(&store) as Arc<dyn Store>, source.clone()).await;
        store.fail(store.writes() + write, fault.clone());
        assert!(running.region.complete_signers().await.is_err(), "{fault:?}");
        assert_eq!(running.region.document_signer().is_some(), write == 1);
        assert!(running.region.instance_connect_signer().is_none());
        running.region.complete_signers().await.unwrap();
        let made = certificates(&running.region).unwrap();
        assert_eq!(certificates(&start_on(store, source).await.region).unwrap(), made, "{fault:?} at write {write}");
    }
}
