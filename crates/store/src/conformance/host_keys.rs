//! Cases: the host keys of machines.

use std::sync::Arc;

use super::samples::{LAUNCHED_AT, bare, host_keys, id, launch, terminate};
use super::samples::{account, change};
use crate::{Conflict, HostKeys, HostKeysChange, Store, StoreError};

fn put(number: u32, revision: u64, keys: HostKeys) -> HostKeysChange {
    HostKeysChange { instance: id(number), revision, keys }
}

/// A record comes back as given, and takes the place of the one that it was decided by.
pub async fn host_keys_are_kept_and_compared(store: Arc<dyn Store>) {
    store.launch(launch(vec![bare(1), bare(2)])).await.unwrap();
    assert_eq!(store.host_keys(id(1)).await, Ok((0, HostKeys::default())));
    let lost = || Err(Conflict::HostKeysChanged(id(1)).into());
    assert_eq!(store.put_host_keys(put(1, 1, host_keys(1))).await, lost());
    assert_eq!(store.put_host_keys(put(1, 0, host_keys(1))).await, Ok(()));
    assert_eq!(store.host_keys(id(1)).await, Ok((1, host_keys(1))));
    assert_eq!(store.put_host_keys(put(1, 0, host_keys(2))).await, lost());
    assert_eq!(store.host_keys(id(1)).await, Ok((1, host_keys(1))));
    let fewer = HostKeys { pending: None, past: vec![], ..host_keys(3) };
    assert_eq!(store.put_host_keys(put(1, 1, fewer.clone())).await, Ok(()));
    assert_eq!(store.host_keys(id(1)).await, Ok((2, fewer)));
    assert_eq!(store.host_keys(id(2)).await, Ok((0, HostKeys::default())));
    assert_eq!(store.host_keys(id(9)).await, Ok((0, HostKeys::default())));
    assert_eq!(store.put_host_keys(put(9, 0, host_keys(1))).await, Err(StoreError::NotFound(vec![id(9)])));
}

/// Host keys go with their machine, and not before.
pub async fn host_keys_are_forgotten_with_their_machine(store: Arc<dyn Store>) {
    store.launch(launch(vec![bare(1)])).await.unwrap();
    store.put_host_keys(put(1, 0, host_keys(1))).await.unwrap();
    assert_eq!(account(), bare(1).account);
    store.change(change(&[1], terminate(1))).await.unwrap();
    assert_eq!(store.host_keys(id(1)).await, Ok((1, host_keys(1))));
    assert_eq!(store.purge(LAUNCHED_AT.plus(2)).await, Ok(1));
    assert_eq!(store.host_keys(id(1)).await, Ok((0, HostKeys::default())));
}

/// Sets of the past, and bytes of a set, below, at and above their limits.
pub async fn host_key_limits(store: Arc<dyn Store>) {
    store.launch(launch(vec![bare(1)])).await.unwrap();
    let mut revision = 0;
    let mut attempt = async |keys: HostKeys| match store.put_host_keys(put(1, revision, keys)).await {
        Ok(()) => {
            revision += 1;
            true
        }
        Err(StoreError::Invalid(_)) => false,
        Err(error) => panic!("{error}"),
    };
    let set = host_keys(1).current.unwrap();
    for (count, fits) in [(HostKeys::PAST_MAX - 1, true), (HostKeys::PAST_MAX, true), (HostKeys::PAST_MAX + 1, false)] {
        let keys = HostKeys { past: vec![set.clone(); count], ..host_keys(1) };
        assert_eq!(attempt(keys).await, fits, "{count}");
    }
    // Each line counts with its line feed.
    for (length, fits) in [
        (0, false),
        (1, true),
        (HostKeys::LINES_BYTES_MAX - 2, true),
        (HostKeys::LINES_BYTES_MAX - 1, true),
        (HostKeys::LINES_BYTES_MAX, false),
    ] {
        let pending = crate::HostKeySet { lines: vec!["k".repeat(length)], ..set.clone() };
        assert_eq!(attempt(HostKeys { pending: Some(pending), ..host_keys(1) }).await, fits, "{length}");
    }
    for lines in [vec![], vec!["a\nb".to_owned()]] {
        let pending = crate::HostKeySet { lines, ..set.clone() };
        assert!(!attempt(HostKeys { pending: Some(pending), ..host_keys(1) }).await);
    }
}
