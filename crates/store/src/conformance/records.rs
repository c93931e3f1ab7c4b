//! Cases: operators, epochs, cut-offs, settings, contention, the end.

use std::sync::Arc;

use inborn_identity::UnixTime;

use super::samples::{
    LAUNCHED_AT, account, bare, change, epoch, id, key_pair, launch, launch_with_token, operator, other_account,
    terminate,
};
use crate::{
    Conflict, CutOff, CutOffScope, EpochState, HostKeys, HostKeysChange, InstanceQuery, KeyPair, LaunchOutcome,
    RecordedCutOff, SettingChange, Store, StoreError,
};

/// Operators come back as given, ordered by key id; a second one with the same key id is refused.
pub async fn operators_are_kept_and_never_replaced(store: Arc<dyn Store>) {
    assert_eq!(store.operators().await, Ok(vec![]));
    for number in [2, 1] {
        assert_eq!(store.put_operator(operator(number)).await, Ok(()));
    }
    let impostor = crate::Operator { access_key_id: operator(1).access_key_id, ..operator(3) };
    let refused = Err(Conflict::Exists("an operator").into());
    assert_eq!(store.put_operator(impostor).await, refused);
    assert_eq!(store.operators().await, Ok(vec![operator(1), operator(2)]));
}

/// Key pairs come back as given, ordered by name; a name is taken once in an account, an id once; forgetting is for good.
pub async fn key_pairs_are_their_accounts_own(store: Arc<dyn Store>) {
    assert_eq!(store.key_pairs(account()).await, Ok(vec![]));
    for number in [3, 1, 2] {
        assert_eq!(store.put_key_pair(key_pair(number)).await, Ok(()));
    }
    let refused = || Err(Conflict::Exists("a key pair").into());
    let same_name = KeyPair { id: key_pair(4).id, ..key_pair(1) };
    let same_id = KeyPair { id: key_pair(1).id, ..key_pair(4) };
    assert_eq!(store.put_key_pair(same_name).await, refused());
    assert_eq!(store.put_key_pair(same_id).await, refused());
    let others = KeyPair { account: other_account(), id: key_pair(4).id, ..key_pair(1) };
    assert_eq!(store.put_key_pair(others.clone()).await, Ok(()));
    assert_eq!(store.key_pairs(account()).await, Ok(vec![key_pair(1), key_pair(2), key_pair(3)]));

    let name = |number| key_pair(number).name;
    assert_eq!(store.remove_key_pair(account(), name(4)).await, Ok(false));
    assert_eq!(store.remove_key_pair(account(), name(1)).await, Ok(true));
    assert_eq!(store.remove_key_pair(account(), name(1)).await, Ok(false));
    assert_eq!(store.key_pairs(account()).await, Ok(vec![key_pair(2), key_pair(3)]));
    assert_eq!(store.key_pairs(other_account()).await, Ok(vec![others]));
    assert_eq!(store.put_key_pair(key_pair(1)).await, Ok(()), "name, id and tags are free again");
}

/// Epochs come back as given, ordered by id, with ids up to the highest; a second one with the same id is refused.
pub async fn epochs_are_kept_and_never_replaced(store: Arc<dyn Store>) {
    assert_eq!(store.epochs().await, Ok(vec![]));
    let epochs = [
        epoch(0, EpochState::Retired),
        epoch(1, EpochState::Sealing),
        epoch(2, EpochState::Acknowledged),
        epoch(u32::MAX, EpochState::Published),
    ];
    for epoch in epochs.iter().rev() {
        assert_eq!(store.put_epoch(epoch.clone()).await, Ok(()));
    }
    let refused = Err(Conflict::Exists("an epoch").into());
    assert_eq!(store.put_epoch(epoch(1, EpochState::Published)).await, refused);
    assert_eq!(store.epochs().await, Ok(epochs.to_vec()));
}

/// Of two cut-offs of one kind for one subject the one that ends more stays, with the later age.
pub async fn cut_offs_only_grow_stronger(store: Arc<dyn Store>) {
    assert_eq!(store.cut_offs().await, Ok(vec![]));
    let at = |seconds| LAUNCHED_AT.plus(seconds);
    let scopes = [CutOffScope::Instance(id(1)), CutOffScope::Account(account()), CutOffScope::All];
    let put = async |cut_off, at| assert_eq!(store.put_cut_off(RecordedCutOff { cut_off, at }).await, Ok(()));
    put(CutOff::Dead { instance: id(1) }, at(1)).await;
    put(CutOff::Dead { instance: id(1) }, at(0)).await;
    for (below, seconds) in [(2, 1), (u32::MAX, 2), (3, 3)] {
        put(CutOff::OlderBoot { instance: id(1), below }, at(seconds)).await;
    }
    for scope in scopes {
        for (before, made) in [(at(5), at(5)), (at(7), at(7)), (at(6), at(6))] {
            put(CutOff::IssuedBefore { scope, before }, made).await;
        }
    }
    put(CutOff::IssuedBefore { scope: CutOffScope::All, before: UnixTime::MAX }, at(8)).await;

    let mut expected = vec![
        RecordedCutOff { cut_off: CutOff::Dead { instance: id(1) }, at: at(1) },
        RecordedCutOff { cut_off: CutOff::OlderBoot { instance: id(1), below: u32::MAX }, at: at(3) },
        RecordedCutOff { cut_off: CutOff::IssuedBefore { scope: scopes[0], before: at(7) }, at: at(7) },
        RecordedCutOff { cut_off: CutOff::IssuedBefore { scope: scopes[1], before: at(7) }, at: at(7) },
        RecordedCutOff { cut_off: CutOff::IssuedBefore { scope: scopes[2], before: UnixTime::MAX }, at: at(8) },
    ];
    let mut found = store.cut_offs().await.unwrap();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

/// Those of before a moment, of it, and of after it: by the last time that one was made.
pub async fn cut_offs_since_a_moment(store: Arc<dyn Store>) {
    let at = |seconds| LAUNCHED_AT.plus(seconds);
    let dead =
        |number: u32, seconds| RecordedCutOff { cut_off: CutOff::Dead { instance: id(number) }, at: at(seconds) };
    let all = CutOff::IssuedBefore { scope: CutOffScope::All, before: at(900) };
    let (early, last) = (dead(1, 10), dead(2, 11));
    // One that was made before, and again.
    for recorded in
        [early, last, RecordedCutOff { cut_off: all, at: at(9) }, RecordedCutOff { cut_off: all, at: at(12) }]
    {
        store.put_cut_off(recorded).await.unwrap();
    }
    let again = RecordedCutOff { cut_off: all, at: at(12) };
    let everything = store.cut_offs().await.unwrap();
    assert_eq!(everything, [early, last, again]);
    for (seconds, expected) in
        [(0, 3), (10, 3), (11, 2), (12, 1), (13, 0)].map(|(seconds, count)| (seconds, &everything[3 - count..]))
    {
        assert_eq!(store.cut_offs_since(at(seconds)).await.as_deref(), Ok(expected), "{seconds}");
    }
    assert_eq!(store.cut_offs_since(UnixTime::from_secs(0)).await, Ok(everything));
    assert_eq!(store.cut_offs_since(UnixTime::MAX).await, Ok(vec![]));
}

/// A cut-off goes when it was made before the moment.
pub async fn cut_offs_are_forgotten_by_age(store: Arc<dyn Store>) {
    let dead = |number: u32| RecordedCutOff {
        cut_off: CutOff::Dead { instance: id(number) },
        at: LAUNCHED_AT.plus(u64::from(number)),
    };
    for number in 1..=3 {
        store.put_cut_off(dead(number)).await.unwrap();
    }
    assert_eq!(store.forget_cut_offs(LAUNCHED_AT.plus(1)).await, Ok(0));
    assert_eq!(store.forget_cut_offs(LAUNCHED_AT.plus(3)).await, Ok(2));
    assert_eq!(store.cut_offs().await, Ok(vec![dead(3)]));
}

fn set(name: &str, expected: Option<&[u8]>, value: &[u8]) -> SettingChange {
    SettingChange { name: name.into(), expected: expected.map(Into::into), value: value.into() }
}

/// A setting changes only from the value that was expected; empty is not absent.
pub async fn settings_are_compared_and_set(store: Arc<dyn Store>) {
    let lost = || Err(Conflict::SettingChanged("region".into()).into());
    assert_eq!(store.setting("region").await, Ok(None));
    assert_eq!(store.put_setting(set("region", Some(b""), b"x")).await, lost());
    assert_eq!(store.put_setting(set("region", None, b"")).await, Ok(()));
    assert_eq!(store.setting("region").await, Ok(Some(vec![])));
    assert_eq!(store.put_setting(set("region", None, b"x")).await, lost());
    assert_eq!(store.put_setting(set("region", Some(b""), b"\x00\xff")).await, Ok(()));
    assert_eq!(store.put_setting(set("region", Some(b"\x00"), b"x")).await, lost());
    assert_eq!(store.setting("region").await, Ok(Some(vec![0, 255])));
    assert_eq!(store.setting("Region").await, Ok(None));
}

/// Names of 1 to 128 bytes, values of at most 65 536.
pub async fn setting_limits(store: Arc<dyn Store>) {
    for (length, fits) in [(0, false), (1, true), (127, true), (128, true), (129, false)] {
        let outcome = store.put_setting(set(&"n".repeat(length), None, b"")).await;
        assert_eq!(outcome.is_ok(), fits, "{length}");
    }
    for (length, fits) in [(65_535, true), (65_536, true), (65_537, false)] {
        let outcome = store.put_setting(set(&format!("v{length}"), None, &vec![7; length])).await;
        assert_eq!(outcome.is_ok(), fits, "{length}");
        assert!(fits || matches!(outcome, Err(StoreError::Invalid(_))), "{length}");
    }
}

/// How many writers contend in a case.
const CONTENDERS: u32 = 32;

/// Many set one setting at once, all expecting it to be absent: one wins, and its value stays.
pub async fn one_of_many_wins_a_setting(store: Arc<dyn Store>) {
    let contenders = (0..CONTENDERS).map(|contender| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let value = contender.to_be_bytes();
            (value, store.put_setting(set("leader", None, &value)).await)
        })
    });
    let mut winners = Vec::new();
    for contender in contenders.collect::<Vec<_>>() {
        match contender.await.unwrap() {
            (value, Ok(())) => winners.push(value.to_vec()),
            (_, lost) => assert_eq!(lost, Err(Conflict::SettingChanged("leader".into()).into())),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(store.setting("leader").await, Ok(winners.pop()));
}

/// Many launch with one token at once: one launch happens, the others are given its instances.
pub async fn one_of_many_wins_a_token(store: Arc<dyn Store>) {
    let contenders = (0..CONTENDERS).map(|contender| {
        let store = Arc::clone(&store);
        let request = launch_with_token(vec![bare(contender)], "token", 1);
        tokio::spawn(async move { store.launch(request).await })
    });
    let (mut new, mut replayed) = (Vec::new(), Vec::new());
    for contender in contenders.collect::<Vec<_>>() {
        match contender.await.unwrap().unwrap() {
            LaunchOutcome::New(instances) => new.push(instances),
            LaunchOutcome::Replayed(instances) => replayed.push(instances),
            LaunchOutcome::Mismatch => panic!("the parameters are the same"),
        }
    }
    assert_eq!((new.len(), replayed.len()), (1, CONTENDERS as usize - 1));
    assert!(replayed.iter().all(|instances| *instances == new[0]));
    let page = store.instances(InstanceQuery { account: None, after: None, limit: 1000 }).await.unwrap();
    assert_eq!(page.instances, new[0]);
}

/// After `close`, every verb says that the store is closed, and `close` itself may be repeated.
pub async fn a_closed_store_says_so(store: Arc<dyn Store>) {
    store.launch(launch(vec![bare(1)])).await.unwrap();
    assert_eq!(store.close().await, Ok(()));
    assert_eq!(store.close().await, Ok(()));
    let closed = || Err(StoreError::Closed);
    assert_eq!(store.launch(launch(vec![bare(2)])).await.map(drop), closed());
    assert_eq!(store.instance(id(1)).await.map(drop), closed());
    let query = InstanceQuery { account: None, after: None, limit: 1 };
    assert_eq!(store.instances(query).await.map(drop), closed());
    assert_eq!(store.change(change(&[1], terminate(1))).await.map(drop), closed());
    assert_eq!(store.purge(LAUNCHED_AT).await.map(drop), closed());
    assert_eq!(store.operators().await.map(drop), closed());
    assert_eq!(store.put_operator(operator(1)).await, closed());
    let key = operator(1).access_key_id;
    assert_eq!(store.change_operator(key, crate::OperatorChange::Delete).await.map(drop), closed());
    assert_eq!(store.accounts().await.map(drop), closed());
    assert_eq!(store.close_account(account(), LAUNCHED_AT).await.map(drop), closed());
    assert_eq!(store.key_pairs(account()).await.map(drop), closed());
    assert_eq!(store.put_key_pair(key_pair(1)).await, closed());
    assert_eq!(store.remove_key_pair(account(), "key".into()).await.map(drop), closed());
    assert_eq!(store.epochs().await.map(drop), closed());
    assert_eq!(store.put_epoch(epoch(1, EpochState::Sealing)).await, closed());
    assert_eq!(store.cut_offs().await.map(drop), closed());
    assert_eq!(store.cut_offs_since(LAUNCHED_AT).await.map(drop), closed());
    let cut_off = RecordedCutOff { cut_off: CutOff::Dead { instance: id(1) }, at: LAUNCHED_AT };
    assert_eq!(store.put_cut_off(cut_off).await, closed());
    assert_eq!(store.forget_cut_offs(LAUNCHED_AT).await.map(drop), closed());
    assert_eq!(store.host_keys(id(1)).await.map(drop), closed());
    let keys = HostKeysChange { instance: id(1), revision: 0, keys: HostKeys::default() };
    assert_eq!(store.put_host_keys(keys).await, closed());
    assert_eq!(store.setting("name").await.map(drop), closed());
    assert_eq!(store.put_setting(set("name", None, b"")).await, closed());
    assert_eq!(store.roles().await.map(drop), closed());
    assert_eq!(store.delete_role(account(), "a".parse().unwrap()).await.map(drop), closed());
    assert_eq!(store.registration(id(1)).await.map(drop), closed());
    assert_eq!(store.registrations().await.map(drop), closed());
    assert_eq!(store.forget_inventory(LAUNCHED_AT).await.map(drop), closed());
    assert_eq!(store.nodes().await.map(drop), closed());
}
