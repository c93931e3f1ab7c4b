//! Cases: quarantines.

use std::sync::Arc;

use super::samples::{LAUNCHED_AT, account, host_id, id};
use crate::{Beat, CutOff, CutOffScope, Heard, Quarantine, QuarantineScope, RecordedCutOff, Store, StoreError, Topic};

fn quarantine(scope: QuarantineScope, seconds: u64) -> Quarantine {
    let (reason, by) = (format!("because 'so' ☃ {seconds}"), "arn:aws:iam::123456789012:user/operator".to_owned());
    Quarantine { scope, reason, by, since: LAUNCHED_AT.plus(seconds) }
}

/// Quarantines come back as given; one that is there keeps its beginning; one that was ended is gone.
pub async fn quarantines_last_until_they_are_ended(store: Arc<dyn Store>) {
    assert_eq!(store.quarantines().await, Ok(vec![]));
    let scopes = [
        QuarantineScope::All,
        QuarantineScope::Account(account()),
        QuarantineScope::Host(host_id(1)),
        QuarantineScope::Instance(id(1)),
    ];
    for scope in scopes.iter().rev() {
        assert_eq!(store.put_quarantine(quarantine(*scope, 1)).await, Ok(()));
    }
    let all = scopes.map(|scope| quarantine(scope, 1));
    assert_eq!(store.quarantines().await, Ok(all.to_vec()));
    let again = quarantine(QuarantineScope::Instance(id(1)), 9);
    assert_eq!(store.put_quarantine(again.clone()).await, Ok(()));
    let kept = Quarantine { since: LAUNCHED_AT.plus(1), ..again };
    assert_eq!(store.quarantines().await.unwrap().last(), Some(&kept));
    for scope in scopes {
        assert_eq!(store.end_quarantine(scope, vec![]).await, Ok(true));
        assert_eq!(store.end_quarantine(scope, vec![]).await, Ok(false));
    }
    assert_eq!(store.quarantines().await, Ok(vec![]));
}

/// Who is released has lost what it had before; where there was no quarantine nothing is lost. Others are told of both.
pub async fn the_end_of_a_quarantine_cuts_off_in_the_same_step(store: Arc<dyn Store>) {
    store.beat(Beat { name: "one".into(), at: LAUNCHED_AT, verifies: 0, address: String::new() }).await.unwrap();
    let scope = QuarantineScope::Instance(id(1));
    let at = LAUNCHED_AT.plus(60);
    let cut_off = |instance| RecordedCutOff {
        cut_off: CutOff::IssuedBefore { scope: CutOffScope::Instance(instance), before: at },
        at,
    };
    assert_eq!(store.end_quarantine(scope, vec![cut_off(id(1))]).await, Ok(false));
    assert_eq!(store.cut_offs().await, Ok(vec![]));
    assert_eq!(store.news(Heard::default()).await.unwrap().entries, []);
    store.put_quarantine(quarantine(scope, 1)).await.unwrap();
    assert_eq!(store.end_quarantine(scope, vec![cut_off(id(1)), cut_off(id(2))]).await, Ok(true));
    assert_eq!(store.cut_offs().await, Ok(vec![cut_off(id(1)), cut_off(id(2))]));
    let told: Vec<Topic> =
        store.news(Heard::default()).await.unwrap().entries.into_iter().map(|entry| entry.topic).collect();
    let cut_offs = [cut_off(id(1)), cut_off(id(2))].map(Topic::CutOff);
    let [first, second] = cut_offs;
    assert_eq!(told, [Topic::Quarantines, first, second, Topic::Quarantines]);
}

/// A quarantine whose words are too long is refused whole.
pub async fn quarantine_limits(store: Arc<dyn Store>) {
    for (length, is_good) in [(Quarantine::REASON_BYTES_MAX, true), (Quarantine::REASON_BYTES_MAX + 1, false)] {
        let long = Quarantine { reason: "r".repeat(length), ..quarantine(QuarantineScope::All, 1) };
        let outcome = store.put_quarantine(long).await;
        assert_eq!(outcome.is_ok(), is_good, "{length}");
        assert!(is_good || matches!(outcome, Err(StoreError::Invalid(_))));
    }
    assert_eq!(store.quarantines().await.unwrap().len(), 1);
}
