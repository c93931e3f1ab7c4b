//! Cases: inventory.

use std::sync::Arc;

use super::samples::{LAUNCHED_AT, bare, change, id, inventory_record, launch, terminate};
use crate::{Conflict, InventoryChange, InventoryKind, InventoryQuery, InventoryRecord, Store, StoreError};

fn put(number: u32, records: Vec<InventoryRecord>) -> InventoryChange {
    InventoryChange { instance: id(number), records, unchanged: Vec::new() }
}

fn unchanged(number: u32, record: InventoryRecord) -> InventoryChange {
    InventoryChange { instance: id(number), records: Vec::new(), unchanged: vec![record] }
}

fn of(number: u32, kind: InventoryKind, type_name: Option<&str>) -> InventoryQuery {
    InventoryQuery { instance: id(number), kind, type_name: type_name.map(str::to_owned), with_content: true }
}

use InventoryKind::{Compliance, Item};

/// A record takes the place of that of its kind and type; kinds and machines are apart; records are ordered by type.
pub async fn inventory_is_replaced_by_type(store: Arc<dyn Store>) {
    let record = inventory_record;
    assert_eq!(store.put_inventory(put(1, vec![record(Item, 1, 1)])).await, Err(StoreError::NotFound(vec![id(1)])));
    store.launch(launch(vec![bare(1)])).await.unwrap();
    store.launch(launch(vec![bare(2)])).await.unwrap();
    let first = vec![record(Item, 2, 1), record(Item, 1, 1), record(Compliance, 1, 1)];
    assert_eq!(store.put_inventory(put(1, first)).await, Ok(()));
    assert_eq!(store.put_inventory(put(1, vec![record(Item, 2, 2)])).await, Ok(()));
    assert_eq!(store.inventory(of(1, Item, None)).await, Ok(vec![record(Item, 1, 1), record(Item, 2, 2)]));
    assert_eq!(store.inventory(of(1, Item, Some("AWS:é'2"))).await, Ok(vec![record(Item, 2, 2)]));
    let heads = InventoryQuery { with_content: false, ..of(1, Item, Some("AWS:é'2")) };
    let expected = InventoryRecord { content: String::new(), ..record(Item, 2, 2) };
    assert_eq!(store.inventory(heads).await, Ok(vec![expected]));
    assert_eq!(store.inventory(of(1, Item, Some("AWS:absent"))).await, Ok(vec![]));
    assert_eq!(store.inventory(of(1, Compliance, None)).await, Ok(vec![record(Compliance, 1, 1)]));
    assert_eq!(store.inventory(of(2, Item, None)).await, Ok(vec![]));
    store.change(change(&[1], terminate(1))).await.unwrap();
    assert_eq!(store.put_inventory(put(1, vec![record(Item, 1, 3)])).await, Err(StoreError::NotFound(vec![id(1)])));
    assert_eq!(store.purge(LAUNCHED_AT.plus(1000)).await, Ok(1));
    assert_eq!(store.inventory(of(1, Item, None)).await, Ok(vec![]));
}

/// A record without content keeps what is there, if the hashes are the same; a change is whole or not at all.
pub async fn inventory_without_content_is_what_it_was(store: Arc<dyn Store>) {
    let record = inventory_record;
    store.launch(launch(vec![bare(1)])).await.unwrap();
    let bare_of = |number, version| InventoryRecord { content: String::new(), ..record(Item, number, version) };
    let absent = |number: u8| Err(StoreError::from(Conflict::ContentAbsent(record(Item, number, 1).type_name)));
    assert_eq!(store.put_inventory(unchanged(1, bare_of(1, 1))).await, absent(1));
    store.put_inventory(put(1, vec![record(Item, 1, 1)])).await.unwrap();
    let later = LAUNCHED_AT.plus(99);
    let same = InventoryRecord { captured_at: "later".into(), received_at: later, ..bare_of(1, 1) };
    assert_eq!(store.put_inventory(unchanged(1, same)).await, Ok(()));
    let expected = InventoryRecord { captured_at: "later".into(), received_at: later, ..record(Item, 1, 1) };
    assert_eq!(store.inventory(of(1, Item, None)).await, Ok(vec![expected.clone()]));
    let both = InventoryChange { records: vec![record(Item, 2, 1)], ..unchanged(1, bare_of(1, 2)) };
    assert_eq!(store.put_inventory(both).await, absent(1));
    assert_eq!(store.inventory(of(1, Item, None)).await, Ok(vec![expected]));
    // None is no hash.
    let unhashed = InventoryRecord { content_hash: String::new(), ..record(Item, 3, 1) };
    store.put_inventory(put(1, vec![unhashed.clone()])).await.unwrap();
    assert_eq!(store.put_inventory(unchanged(1, unhashed)).await, absent(3));
}

/// What was received long ago is forgotten.
pub async fn inventory_is_forgotten_by_age(store: Arc<dyn Store>) {
    store.launch(launch(vec![bare(1)])).await.unwrap();
    let record = |number, seconds| InventoryRecord {
        received_at: LAUNCHED_AT.plus(seconds),
        ..inventory_record(Item, number, 1)
    };
    store.put_inventory(put(1, vec![record(1, 10), record(2, 20)])).await.unwrap();
    assert_eq!(store.forget_inventory(LAUNCHED_AT.plus(10)).await, Ok(0));
    assert_eq!(store.forget_inventory(LAUNCHED_AT.plus(11)).await, Ok(1));
    assert_eq!(store.inventory(of(1, Item, None)).await, Ok(vec![record(2, 20)]));
}

/// Names, records, records of a change, types and bytes of a machine.
pub async fn inventory_limits(store: Arc<dyn Store>) {
    store.launch(launch(vec![bare(1)])).await.unwrap();
    store.launch(launch(vec![bare(2)])).await.unwrap();
    let named = |name: String| InventoryRecord { type_name: name, ..inventory_record(Item, 1, 1) };
    for (length, fits) in [(0, false), (1, true), (511, true), (512, true), (513, false)] {
        let answer = store.put_inventory(put(2, vec![named("n".repeat(length))])).await;
        assert_eq!(answer.is_ok(), fits, "{length}");
    }
    let sized = |name: &str, bytes: usize| {
        let mut record = InventoryRecord { content: String::new(), ..named(name.to_owned()) };
        record.content = "c".repeat(bytes - record.bytes());
        record
    };
    let most = InventoryRecord::BYTES_MAX;
    for (bytes, fits) in [(most - 1, true), (most, true), (most + 1, false)] {
        let answer = store.put_inventory(put(2, vec![sized("n", bytes)])).await;
        assert_eq!(answer.is_ok(), fits, "{bytes}");
    }
    for (count, fits) in [(0, false), (1, true), (29, true), (30, true), (31, false)] {
        let records = (0..count).map(|number| named(format!("type {number}"))).collect();
        assert_eq!(store.put_inventory(put(1, records)).await.is_ok(), fits, "{count}");
    }
    let full = Err(StoreError::from(Conflict::InventoryFull(id(1))));
    for number in 30..InventoryChange::TYPES_MAX {
        assert_eq!(store.put_inventory(put(1, vec![named(format!("type {number}"))])).await, Ok(()));
    }
    assert_eq!(store.put_inventory(put(1, vec![named("one more".into())])).await, full);
    // Of another kind there is room.
    let other = InventoryRecord { kind: Compliance, ..named("one more".into()) };
    assert_eq!(store.put_inventory(put(1, vec![other])).await, Ok(()));
    let held: usize = store.inventory(of(1, Item, None)).await.unwrap().iter().map(InventoryRecord::bytes).sum();
    let (replaced, room) = (named("type 0".into()).bytes(), InventoryChange::BYTES_MAX - held);
    store.put_inventory(put(1, vec![sized("type 1", most)])).await.unwrap();
    store.put_inventory(put(1, vec![sized("type 2", most)])).await.unwrap();
    let left = room + replaced * 3 - 2 * most;
    for (bytes, answer) in [(left - 1, Ok(())), (left, Ok(())), (left + 1, full)] {
        assert_eq!(store.put_inventory(put(1, vec![sized("type 0", bytes)])).await, answer, "{bytes}");
    }
}
