//! Cases: hosts, the tokens they join with, machines that are placed on them.

use std::sync::Arc;

use super::samples::{
    LAUNCHED_AT, account, bare, change, host_id, host_join, id, join_token, launch, launch_with_token, other_account,
    terminate,
};
use crate::{
    Attachment, Change, Conflict, Host, HostChange, HostJoin, HostState, Instance, JoinToken, LaunchOutcome, Store,
    StoreError,
};

async fn joined(store: &Arc<dyn Store>, number: u8) -> Host {
    store.put_join_token(join_token(number, 60)).await.unwrap();
    store.join_host(host_join(number, number, 0)).await.unwrap()
}

fn on_host(number: u32, host: u8) -> Instance {
    Instance { host: Some(host_id(host)), ..bare(number) }
}

/// A host has the accounts of its token, and no second one joins with it.
pub async fn a_token_lets_one_host_join(store: Arc<dyn Store>) {
    let refused = || Err(Conflict::JoinTokenRefused.into());
    assert_eq!(store.join_host(host_join(1, 1, 0)).await, refused(), "there is none");
    assert_eq!(store.put_join_token(join_token(1, 60)).await, Ok(()));
    assert_eq!(store.put_join_token(join_token(1, 70)).await, Err(Conflict::Exists("a join token").into()));
    let host = store.join_host(host_join(1, 1, 0)).await.unwrap();
    assert_eq!((host.id, host.state, &host.accounts), (host_id(1), HostState::Active, &join_token(1, 60).accounts));
    assert_eq!(store.hosts().await, Ok(vec![host]));
    assert_eq!(store.join_host(host_join(1, 2, 0)).await, refused(), "it was used");
    // An id that is taken uses nothing up.
    store.put_join_token(join_token(2, 60)).await.unwrap();
    assert_eq!(store.join_host(host_join(2, 1, 0)).await, Err(Conflict::Exists("a host").into()));
    let second = store.join_host(host_join(2, 2, 0)).await.unwrap();
    assert_eq!(store.hosts().await.unwrap().last(), Some(&second));
}

/// Good before its end, and forgotten after it.
pub async fn a_token_has_an_end(store: Arc<dyn Store>) {
    for (number, seconds, is_good) in [(1, 59, true), (2, 60, false), (3, 61, false)] {
        store.put_join_token(join_token(number, 60)).await.unwrap();
        assert_eq!(store.join_host(host_join(number, number, seconds)).await.is_ok(), is_good, "{seconds}");
    }
    assert_eq!(store.forget_join_tokens(LAUNCHED_AT.plus(60)).await, Ok(0));
    assert_eq!(store.forget_join_tokens(LAUNCHED_AT.plus(61)).await, Ok(2));
    assert_eq!(store.join_host(host_join(2, 2, 0)).await, Err(Conflict::JoinTokenRefused.into()));
}

/// Of many who come with one token at once, one joins.
pub async fn one_of_many_joins_with_a_token(store: Arc<dyn Store>) {
    store.put_join_token(join_token(1, 60)).await.unwrap();
    let all: Vec<_> = (1..=8)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.join_host(host_join(1, number, 0)).await })
        })
        .collect();
    let mut joined = 0;
    for one in all {
        match one.await.unwrap() {
            Ok(_) => joined += 1,
            Err(error) => assert_eq!(error, Conflict::JoinTokenRefused.into()),
        }
    }
    assert_eq!((joined, store.hosts().await.unwrap().len()), (1, 1));
}

/// Evicted is the end; what is seen of a host never moves back.
pub async fn hosts_are_drained_and_evicted(store: Arc<dyn Store>) {
    assert_eq!(store.change_host(host_id(1), HostChange::Evict).await, Ok(None));
    let host = joined(&store, 1).await;
    let seen = |seconds| HostChange::Seen(LAUNCHED_AT.plus(seconds));
    assert_eq!(store.change_host(host.id, seen(9)).await.unwrap().unwrap().seen_at, LAUNCHED_AT.plus(9));
    assert_eq!(store.change_host(host.id, seen(3)).await.unwrap().unwrap().seen_at, LAUNCHED_AT.plus(9));
    for (change, state) in [
        (HostChange::Drain, HostState::Draining),
        (HostChange::Drain, HostState::Draining),
        (HostChange::Evict, HostState::Evicted),
        (HostChange::Drain, HostState::Evicted),
        (seen(20), HostState::Evicted),
        (HostChange::Evict, HostState::Evicted),
    ] {
        let after = store.change_host(host.id, change).await.unwrap().unwrap();
        assert_eq!(after.state, state, "{change:?}");
        assert_eq!(store.hosts().await, Ok(vec![after]));
    }
}

/// A host takes machines of its accounts while it is active; a launch that it does not take launches nothing.
pub async fn machines_are_placed_on_hosts_that_take_them(store: Arc<dyn Store>) {
    let refused = |number| StoreError::from(Conflict::HostRefused(host_id(number)));
    assert_eq!(store.launch(launch(vec![on_host(1, 1)])).await, Err(refused(1)), "there is no such host");
    joined(&store, 1).await;
    joined(&store, 2).await;
    let request = launch(vec![on_host(1, 1)]);
    assert_eq!(store.launch(request.clone()).await, Ok(LaunchOutcome::New(request.instances.clone())));
    assert_eq!(store.instance(id(1)).await.unwrap().unwrap().host, Some(host_id(1)));
    let others = Instance { account: other_account(), ..on_host(2, 1) };
    assert_eq!(store.launch(launch(vec![others])).await, Err(refused(1)), "an account that is not its own");
    store.change_host(host_id(2), HostChange::Drain).await.unwrap();
    let mixed = launch_with_token(vec![on_host(3, 1), on_host(4, 2)], "token", 1);
    assert_eq!(store.launch(mixed).await, Err(refused(2)), "one that is draining");
    assert_eq!(store.instance(id(3)).await, Ok(None));
    assert!(store.launch(launch_with_token(vec![on_host(3, 1)], "token", 2)).await.is_ok(), "the token is free");
    store.change_host(host_id(1), HostChange::Evict).await.unwrap();
    assert_eq!(store.launch(launch(vec![on_host(5, 1)])).await, Err(refused(1)), "one that is evicted");
    // What is there stays, and can be changed.
    let changed = store.change(change(&[1], terminate(1))).await.unwrap();
    assert_eq!(changed[0].after.host, Some(host_id(1)));
}

/// What is one port on one host is another on the next.
pub async fn attachments_are_a_hosts_own(store: Arc<dyn Store>) {
    joined(&store, 1).await;
    joined(&store, 2).await;
    for (number, instance) in [(1, bare(1)), (2, on_host(2, 1)), (3, on_host(3, 2)), (4, on_host(4, 2))] {
        store.launch(launch(vec![instance])).await.unwrap();
        let attach = Change::Attach(Attachment::LoopbackPort(4000), None);
        let expected = if number == 4 { Err(Conflict::AttachmentTaken.into()) } else { Ok(()) };
        assert_eq!(store.change(change(&[number], attach)).await.map(drop), expected, "{number}");
    }
}

/// Accounts, names and keys below, at and above their limits.
pub async fn host_limits(store: Arc<dyn Store>) {
    let accounts = |count: usize| (1..).take(count).map(|n| inborn_identity::AccountId::new(n).unwrap()).collect();
    for (number, count, fits) in [(1, 0, false), (2, 1, true), (3, 99, true), (4, 100, true), (5, 101, false)] {
        let token = JoinToken { accounts: accounts(count), ..join_token(number, 60) };
        assert_eq!(store.put_join_token(token).await.is_ok(), fits, "{count}");
    }
    store.put_join_token(join_token(9, 60)).await.unwrap();
    for (name, key, fits) in [
        (0, 1, false),
        (254, 1, false),
        (1, 0, false),
        (1, 513, false),
        (252, 511, true),
        (253, 512, true),
        (1, 1, true),
    ] {
        let number = u8::try_from(name % 200 + key % 50).unwrap();
        store.put_join_token(join_token(number.saturating_add(10), 60)).await.ok();
        let join = HostJoin {
            name: "n".repeat(name),
            public_key: vec![1; key],
            ..host_join(number.saturating_add(10), number, 0)
        };
        assert_eq!(store.join_host(join).await.is_ok(), fits, "{name} {key}");
    }
    assert!(store.hosts().await.unwrap().iter().all(|host| host.accounts.contains(&account())));
}
