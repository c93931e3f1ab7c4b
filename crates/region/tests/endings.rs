//! What has ended stays ended: after a clock that was wrong, after writes of which nobody knows, and in races.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use std::sync::Arc;

use common::verdict::*;
use common::*;
use inborn_identity::InstanceId;
use inborn_region::KeySource;
use inborn_store::{Change, ChangeRequest, Instance, LaunchRequest, SqliteStore, Store};
use inborn_testkit::{Fault, FaultyStore};

#[tokio::test]
async fn a_clock_that_was_far_ahead_for_a_while_brings_nobody_back() {
    let running = start().await;
    let id = running.launch().await;
    let machine = running.machine(id);
    assert_eq!(whoami(&running, &machine).await, good());
    let end = ec2(&format!("Action=TerminateInstances&InstanceId.1={id}"));
    assert_eq!(running.send(&running.operator(), &end).await.status, 200);
    assert_eq!(whoami(&running, &machine).await, unknown());
    // Everything that remembers the end is forgotten in a future that was none.
    running.clock.advance(7 * 86_400);
    running.region.tidy().await;
    running.clock.set(NOW);
    assert_eq!(whoami(&running, &machine).await, unknown());
}

/// One server dates a launch, another, whose clock lags behind, a reboot.
#[tokio::test]
async fn a_reboot_by_a_clock_that_lags_leaves_a_machine_its_credentials() {
    let running = start().await;
    let id = running.launch().await;
    running.clock.set(NOW.minus(276));
    let reboot = ec2(&format!("Action=RebootInstances&InstanceId.1={id}"));
    assert_eq!(running.send(&running.operator(), &reboot).await.status, 200);
    assert_eq!(whoami(&running, &running.machine(id)).await, good());
}

/// What a machine held before it was off is not good again because it is on again.
#[tokio::test]
async fn a_clock_that_was_far_ahead_for_a_while_brings_no_earlier_boot_back() {
    let running = start().await;
    let id = running.launch().await;
    let first = running.machine(id);
    running.clock.advance(60);
    for action in ["StopInstances", "StartInstances"] {
        let change = ec2(&format!("Action={action}&InstanceId.1={id}"));
        assert_eq!(running.send(&running.operator(), &change).await.status, 200);
    }
    let second = running.machine(id);
    running.clock.advance(60);
    let reboot = ec2(&format!("Action=RebootInstances&InstanceId.1={id}"));
    assert_eq!(running.send(&running.operator(), &reboot).await.status, 200);
    running.clock.advance(7 * 86_400);
    running.region.tidy().await;
    running.clock.set(NOW.plus(120));
    assert_eq!(whoami(&running, &first).await, expired());
    assert_eq!(whoami(&running, &second).await, good(), "a reboot ends nothing");
    assert_eq!(whoami(&running, &running.machine(id)).await, good());
}

#[tokio::test]
async fn after_writes_of_which_nobody_knows_memory_is_what_the_store_is() {
    let store = Arc::new(FaultyStore::new(Arc::new(SqliteStore::in_memory().unwrap())));
    let running = start_on(Arc::clone(&store) as Arc<dyn Store>, KeySource::Ephemeral).await;
    store.fail_next(Fault::io_after());
    let launch = ec2("Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1");
    assert_eq!(running.send(&running.operator(), &launch).await.status, 500);
    let all: Vec<_> = running.region.machines().iter().map(|machine| machine.id()).collect();
    assert_eq!(all.len(), 1, "the machine is there, and its host knows it");

    let machine = running.machine(all[0]);
    store.fail_next(Fault::io_after());
    let stop = ec2(&format!("Action=StopInstances&InstanceId.1={}", all[0]));
    assert_eq!(running.send(&running.operator(), &stop).await.status, 500);
    assert_eq!(whoami(&running, &machine).await, expired());
}

/// A machine can be seen in the store a moment before its launch has returned, and be terminated in that moment.
#[tokio::test]
async fn a_machine_that_is_terminated_while_it_is_launched_stays_so() {
    let running = start().await;
    let model = running.region.machines().get(running.launch().await).unwrap();
    let (account, id) = (model.account, InstanceId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 7]));
    let reservation_id = "r-0123456789abcdef0".to_owned();
    let instances = vec![Instance { id, reservation_id: reservation_id.clone(), ..(*model).clone() }];
    let request = LaunchRequest { account, client_token: None, fingerprint: [0; 32], reservation_id, instances };
    let mut launching = pin!(running.region.machines().launch(request));
    // The store is asked, and its answer waits for somebody to come back to it.
    let first = poll_fn(|context| Poll::Ready(launching.as_mut().poll(context))).await;
    while running.region.store().instance(id).await.unwrap().is_none() {}

    let change = Change::Terminate { at: NOW, reason: None };
    let ending = running.region.machines().change(ChangeRequest { account, instances: vec![id], change });
    let (launched, ended) = tokio::join!(
        async {
            // A quick store leaves no moment in between.
            if let Poll::Ready(launched) = first {
                return launched;
            }
            // As long as an end that does not wait for its turn would need.
            tokio::time::sleep(Duration::from_millis(50)).await;
            launching.await
        },
        ending
    );
    assert!(launched.is_ok() && ended.is_ok());
    assert!(running.region.machines().get(id).is_none(), "back to life");
}

#[tokio::test]
async fn the_audit_keeps_neither_secrets_nor_what_strangers_send() {
    let running = start().await;
    let id = running.launch().await;
    let unknown = ec2(&format!("Action=ModifyInstancePlacement&InstanceId={id}&UserData.Value=c2VjcmV0"));
    assert_eq!(running.send(&running.operator(), &unknown).await.status, 400);
    let known = ec2(&format!("Action=RebootInstances&InstanceId.1={id}&Extra.userdata=c2VjcmV0&SecurityToken=t"));
    assert_eq!(running.send(&running.operator(), &known).await.status, 400);
    let stranger = Signer { secret: "x".repeat(40), ..running.operator() };
    let forged = ec2(&format!("Action=RebootInstances&InstanceId.1={id}&Filler={}", "f".repeat(1000)));
    assert_eq!(running.send(&stranger, &forged).await.status, 401);
    let lines = running.audit();
    let [.., unknown, known, forged] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(unknown["requestParameters"], serde_json::Value::Null);
    for name in ["Extra.userdata", "SecurityToken"] {
        assert_eq!(known["requestParameters"][name], "<sensitiveDataRemoved>", "{name}");
    }
    assert_eq!(
        (&forged["requestParameters"], &forged["userIdentity"]["type"]),
        (&serde_json::Value::Null, &"Unknown".into())
    );
}
