//! Everything is sealed anew under another key: nothing is lost, and the old key opens nothing any more.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

mod common;

use std::sync::Arc;

use common::*;
use inborn_credential::Delivery;
use inborn_identity::Clock;
use inborn_region::{
    EpochSettings, KeySource, OpenError, Opening, Rates, RegionServer, Rewrapped, TelemetrySettings, rewrap,
};
use inborn_store::{SqliteStore, Store};
use inborn_testkit::{Fault, FaultyStore, ManualClock};

#[tokio::test]
async fn nothing_is_lost_and_the_old_key_opens_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (directory.path().join("epoch.key"), directory.path().join("new.key"));
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let running = start_on(Arc::clone(&store), KeySource::File(old.clone())).await;
    running.region.complete_signers().await.unwrap();
    let id = running.launch().await;
    assert_eq!(running.send(&running.operator(), &ec2("Action=Inborn.RotateEpoch")).await.status, 200);
    let issued = |running: &Running| running.region.issue(id, Delivery::V2, NOW).unwrap().credential;
    let (before, operator) = (issued(&running), running.operator());
    let document = running.region.document_signer().unwrap().certificate_pem().to_owned();
    drop(running);

    let faulty = Arc::new(FaultyStore::new(Arc::clone(&store)));
    let source = KeySource::File(old.clone());
    for (fault, expected) in [(Fault::io_before(), None), (Fault::io_after(), None)] {
        faulty.fail_next(fault);
        let through: Arc<dyn Store> = Arc::clone(&faulty) as _;
        assert_eq!(rewrap(&through, &source, &new).await.ok(), expected);
    }
    // The second attempt had taken effect: it is told as done.
    assert_eq!(rewrap(&store, &source, &new).await.unwrap(), Rewrapped::Before);

    let clock = Arc::new(ManualClock::new(NOW)) as Arc<dyn Clock>;
    let opening = Opening {
        identity: identity(),
        key_source: source,
        audit_file: directory.path().join("audit.jsonl"),
        rates: Rates::default(),
        telemetry: TelemetrySettings::default(),
        epochs: EpochSettings::DEFAULT,
        accept_older_store: false,
        fleet: None,
    };
    assert!(matches!(RegionServer::open(Arc::clone(&store), opening, clock).await, Err(OpenError::KeyFile(_))));
    let again = start_on(Arc::clone(&store), KeySource::File(new.clone())).await;
    assert_eq!(issued(&again), before);
    assert_eq!(again.operator().secret, operator.secret);
    assert_eq!(again.region.document_signer().unwrap().certificate_pem(), document);
    drop(again);

    let third = directory.path().join("third.key");
    let done = rewrap(&store, &KeySource::File(new), &third).await.unwrap();
    // Two epochs, an operator, the authorities of machines, of hosts and of SSH, and two signers.
    assert_eq!(done, Rewrapped::Done(8));
    assert!(rewrap(&store, &KeySource::File(old), &directory.path().join("fourth.key")).await.is_err());
    assert_eq!(issued(&start_on(store, KeySource::File(third)).await), before);
}
