//! Cases: nodes.

use std::sync::Arc;

use super::samples::{LAUNCHED_AT, bare, change, id, launch, terminate};
use crate::{Node, Store, StoreError};

fn node(number: u32, seconds: u64, fact: &str) -> Node {
    let facts = core::array::from_fn(|index| if index == 0 { String::new() } else { format!("{fact}{index}") });
    Node { instance: id(number), pinged_at: LAUNCHED_AT.plus(seconds), facts }
}

/// The last word of an agent replaces the one before; nodes are ordered by instance, and go with their machine.
pub async fn nodes_are_replaced_and_go_with_their_machine(store: Arc<dyn Store>) {
    assert_eq!(store.put_node(node(1, 0, "a"), true).await, Err(StoreError::NotFound(vec![id(1)])));
    store.launch(launch(vec![bare(1)])).await.unwrap();
    store.launch(launch(vec![bare(2)])).await.unwrap();
    for (one, is_new) in
        [(node(2, 1, "é'"), true), (node(1, 2, "b"), true), (node(1, 3, "c"), true), (node(1, 3, "c"), false)]
    {
        for is_told in [false, true] {
            assert_eq!(store.put_node(one.clone(), is_told).await, Ok(is_new && !is_told));
        }
    }
    assert_eq!(store.nodes().await, Ok(vec![node(1, 3, "c"), node(2, 1, "é'")]));
    store.change(change(&[1], terminate(1))).await.unwrap();
    assert_eq!(store.put_node(node(1, 4, "d"), true).await, Err(StoreError::NotFound(vec![id(1)])));
    assert_eq!(store.purge(LAUNCHED_AT.plus(1000)).await, Ok(1));
    assert_eq!(store.nodes().await, Ok(vec![node(2, 1, "é'")]));
}

/// Facts of at most 1024 bytes.
pub async fn node_limits(store: Arc<dyn Store>) {
    store.launch(launch(vec![bare(1)])).await.unwrap();
    for (length, fits) in [(0, true), (1023, true), (1024, true), (1025, false)] {
        let mut node = node(1, 0, "");
        node.facts[3] = "f".repeat(length);
        assert_eq!(store.put_node(node, true).await.is_ok(), fits, "{length}");
    }
}
