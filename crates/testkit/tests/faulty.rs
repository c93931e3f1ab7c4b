//! The fault-injecting store: invisible without faults, exact with them, and what a caller can do about each.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and so does what it calls"
)]

use std::sync::Arc;

use inborn_store::conformance::samples::{
    LAUNCHED_AT, bare, change, epoch, id, launch_with_token, operator, terminate,
};
use inborn_store::{
    Conflict, CutOff, EpochState, InstanceState, LaunchOutcome, RecordedCutOff, SettingChange, SqliteStore, Store,
    StoreError,
};
use inborn_testkit::{Fault, FaultyStore};

fn store() -> Arc<FaultyStore> {
    Arc::new(FaultyStore::new(Arc::new(SqliteStore::in_memory().unwrap())))
}

mod without_faults {
    use super::*;

    inborn_store::conformance_tests!({
        let store: Arc<dyn Store> = store();
        (store, ())
    });
}

#[tokio::test]
async fn the_chosen_write_fails_and_no_other() {
    let store = store();
    store.fail(1, Fault::full());
    assert_eq!(store.put_operator(operator(0)).await, Ok(()));
    assert_eq!(store.put_operator(operator(1)).await, Err(StoreError::Full));
    assert_eq!(store.put_operator(operator(1)).await, Ok(()));
    store.fail_next(Fault::io_after());
    assert!(matches!(store.put_operator(operator(2)).await, Err(StoreError::Io(_))));
    assert_eq!(store.operators().await, Ok(vec![operator(0), operator(1), operator(2)]));
    assert_eq!(store.writes(), 4);
    // A write that fails of itself says so, whatever was planned.
    store.fail_next(Fault::io_after());
    assert_eq!(store.put_operator(operator(2)).await, Err(Conflict::Exists("an operator").into()));
}

/// A launch with a token whose answer was lost is asked for again: it happens once, whichever side of the commit failed.
#[tokio::test]
async fn a_launch_with_a_token_is_safe_to_repeat() {
    for (fault, took_effect) in [(Fault::full(), false), (Fault::io_before(), false), (Fault::io_after(), true)] {
        let store = store();
        store.fail_next(fault.clone());
        let request = launch_with_token(vec![bare(1), bare(2)], "token", 1);
        assert!(store.launch(request.clone()).await.is_err());
        assert_eq!(store.instance(id(1)).await.unwrap().is_some(), took_effect);
        let expected = match took_effect {
            true => LaunchOutcome::Replayed(request.instances.clone()),
            false => LaunchOutcome::New(request.instances.clone()),
        };
        assert_eq!(store.launch(request).await, Ok(expected), "{fault:?}");
    }
}

/// A caller that repeats each write until it is done, or is told that it was done before.
async fn region_day(store: &FaultyStore) {
    let day = LAUNCHED_AT.plus(60);
    let request = launch_with_token(vec![bare(1), bare(2)], "token", 1);
    while store.launch(request.clone()).await.is_err() {}
    let done = |outcome: Result<(), StoreError>| matches!(outcome, Ok(()) | Err(StoreError::Conflict(_)));
    while !done(store.put_operator(operator(1)).await) {}
    while !done(store.put_epoch(epoch(1, EpochState::Sealing)).await) {}
    let setting = SettingChange { name: "region".into(), expected: None, value: vec![1] };
    while !done(store.put_setting(setting.clone()).await) {}
    while store.change(change(&[1], terminate(60))).await.is_err() {}
    let cut_off = RecordedCutOff { cut_off: CutOff::OlderBoot { instance: id(2), below: 2 }, at: day };
    while store.put_cut_off(cut_off).await.is_err() {}
    while store.forget_cut_offs(day).await.is_err() {}
    while store.purge(LAUNCHED_AT).await.is_err() {}
}

/// Whichever write of the day fails, in whichever way, the day ends in the same state.
#[tokio::test]
async fn every_write_may_fail_once_and_the_end_is_the_same() {
    const WRITES: u64 = 8;
    for fault in [None, Some(Fault::full()), Some(Fault::io_before()), Some(Fault::io_after())] {
        for write in 0..WRITES {
            let store = store();
            if let Some(fault) = fault.clone() {
                store.fail(write, fault);
            }
            region_day(&store).await;
            assert_eq!(store.writes(), WRITES + u64::from(fault.is_some()), "{fault:?} at {write}");
            assert_eq!(store.instance(id(1)).await.unwrap().unwrap().state, InstanceState::Terminated);
            assert_eq!(store.instance(id(2)).await.unwrap().unwrap().state, InstanceState::Running);
            assert_eq!(store.operators().await, Ok(vec![operator(1)]));
            assert_eq!(store.epochs().await, Ok(vec![epoch(1, EpochState::Sealing)]));
            assert_eq!(store.setting("region").await, Ok(Some(vec![1])));
            assert_eq!(store.cut_offs().await.unwrap().len(), 2, "{fault:?} at {write}");
        }
    }
}
