//! Cases: quarantines.

use std::sync::Arc;

use inborn_identity::{InstanceId, UnixTime};

use super::samples::{LAUNCHED_AT, account, host_id, id};
use crate::{
    Beat, Conflict, CutOff, CutOffScope, Heard, Quarantine, QuarantineBasis, QuarantineScope, RecordedCutOff, Store,
    StoreError, Topic,
};

fn quarantine(scope: QuarantineScope, seconds: u64) -> Quarantine {
    let (reason, by) = (format!("because 'so' ☃ {seconds}"), "arn:aws:iam::123456789012:user/operator".to_owned());
    Quarantine { scope, reason, by, since: LAUNCHED_AT.plus(seconds) }
}

fn cut_off(instance: InstanceId, before: UnixTime) -> RecordedCutOff {
    let scope = CutOffScope::Instance(instance);
    RecordedCutOff { cut_off: CutOff::IssuedBefore { scope, before }, at: LAUNCHED_AT.plus(60) }
}

async fn told(store: &dyn Store) -> Vec<Topic> {
    store.news(Heard::default()).await.unwrap().entries.into_iter().map(|entry| entry.topic).collect()
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
        assert_eq!(store.put_quarantine(quarantine(*scope, 1), QuarantineBasis::Any).await, Ok(()));
    }
    let all = scopes.map(|scope| quarantine(scope, 1));
    assert_eq!(store.quarantines().await, Ok(all.to_vec()));
    let again = quarantine(QuarantineScope::Instance(id(1)), 9);
    assert_eq!(store.put_quarantine(again.clone(), QuarantineBasis::Any).await, Ok(()));
    let kept = Quarantine { since: LAUNCHED_AT.plus(1), ..again };
    assert_eq!(store.quarantines().await.unwrap().last(), Some(&kept));
    for found in store.quarantines().await.unwrap() {
        assert_eq!(store.end_quarantine(found.clone(), vec![]).await, Ok(true));
        assert_eq!(store.end_quarantine(found, vec![]).await, Ok(false));
    }
    assert_eq!(store.quarantines().await, Ok(vec![]));
}

/// Who is released has lost what it had before; where there was no quarantine nothing is lost. Others are told of both.
pub async fn the_end_of_a_quarantine_cuts_off_in_the_same_step(store: Arc<dyn Store>) {
    store.beat(Beat { name: "one".into(), at: LAUNCHED_AT, verifies: 0, address: String::new() }).await.unwrap();
    let scope = QuarantineScope::Instance(id(1));
    let at = LAUNCHED_AT.plus(60);
    let cut_off = |instance| cut_off(instance, at);
    let found = quarantine(scope, 1);
    assert_eq!(store.end_quarantine(found.clone(), vec![cut_off(id(1))]).await, Ok(false));
    assert_eq!(store.cut_offs().await, Ok(vec![]));
    assert_eq!(store.news(Heard::default()).await.unwrap().entries, []);
    store.put_quarantine(found.clone(), QuarantineBasis::Absent).await.unwrap();
    assert_eq!(store.end_quarantine(found, vec![cut_off(id(1)), cut_off(id(2))]).await, Ok(true));
    assert_eq!(store.cut_offs().await, Ok(vec![cut_off(id(1)), cut_off(id(2))]));
    let [first, second] = [cut_off(id(1)), cut_off(id(2))].map(Topic::CutOff);
    assert_eq!(told(&*store).await, [Topic::Quarantines, first, second, Topic::Quarantines]);
}

/// Who decides by what is no longer so changes nothing, and tells nobody; who does not mind is never refused.
pub async fn changes_of_quarantines_are_compared(store: Arc<dyn Store>) {
    store.beat(Beat { name: "one".into(), at: LAUNCHED_AT, verifies: 0, address: String::new() }).await.unwrap();
    let scope = QuarantineScope::Account(account());
    let lost = || StoreError::from(Conflict::QuarantineChanged(scope));
    let put = async |quarantine: &Quarantine, basis| store.put_quarantine(quarantine.clone(), basis).await;
    let end = async |found: &Quarantine| store.end_quarantine(found.clone(), vec![cut_off(id(1), LAUNCHED_AT)]).await;
    let first = quarantine(scope, 1);
    assert_eq!(put(&first, QuarantineBasis::Found(first.clone())).await, Err(lost()), "there is none");
    assert_eq!(store.quarantines().await, Ok(vec![]));
    assert_eq!(put(&first, QuarantineBasis::Absent).await, Ok(()));
    let second =
        Quarantine { reason: "another".into(), by: "another".into(), since: LAUNCHED_AT.plus(9), ..first.clone() };
    assert_eq!(put(&second, QuarantineBasis::Absent).await, Err(lost()), "there is one");
    for other in [
        Quarantine { reason: second.reason.clone(), ..first.clone() },
        Quarantine { by: second.by.clone(), ..first.clone() },
        Quarantine { since: second.since, ..first.clone() },
    ] {
        assert_eq!(put(&second, QuarantineBasis::Found(other.clone())).await, Err(lost()), "{other:?}");
        assert_eq!(end(&other).await, Err(lost()), "{other:?}");
    }
    assert_eq!(store.quarantines().await, Ok(vec![first.clone()]));
    assert_eq!(put(&second, QuarantineBasis::Found(first.clone())).await, Ok(()));
    let second = Quarantine { since: first.since, ..second };
    assert_eq!(store.quarantines().await, Ok(vec![second.clone()]));
    assert_eq!(end(&first).await, Err(lost()));
    assert_eq!(put(&first, QuarantineBasis::Any).await, Ok(()));
    assert_eq!(end(&second).await, Err(lost()));
    assert_eq!(store.cut_offs().await, Ok(vec![]));
    assert_eq!(end(&first).await, Ok(true));
    assert_eq!(end(&first).await, Ok(false));
    let cut_off = Topic::CutOff(cut_off(id(1), LAUNCHED_AT));
    let begun = [Topic::Quarantines, Topic::Quarantines, Topic::Quarantines];
    assert_eq!(told(&*store).await, begun.into_iter().chain([cut_off, Topic::Quarantines]).collect::<Vec<_>>());
}

/// A release that ends no more than was ended before was decided by what is no longer so, though the quarantine looks the same.
pub async fn each_release_cuts_off_more_than_the_one_before(store: Arc<dyn Store>) {
    let found = quarantine(QuarantineScope::Host(host_id(1)), 1);
    let at = LAUNCHED_AT.plus(60);
    let put = async || store.put_quarantine(found.clone(), QuarantineBasis::Absent).await;
    let end = async |cut_offs| store.end_quarantine(found.clone(), cut_offs).await;
    assert_eq!(put().await, Ok(()));
    assert_eq!(end(vec![cut_off(id(1), at)]).await, Ok(true));
    assert_eq!(put().await, Ok(()));
    for before in [at.minus(1), at] {
        let lost = Err(StoreError::from(Conflict::QuarantineChanged(found.scope)));
        assert_eq!(end(vec![cut_off(id(2), at), cut_off(id(1), before)]).await, lost);
        assert_eq!(store.quarantines().await, Ok(vec![found.clone()]));
        assert_eq!(store.cut_offs().await, Ok(vec![cut_off(id(1), at)]), "all of it or nothing");
    }
    let cut_offs = vec![cut_off(id(1), at.plus(1)), cut_off(id(2), at)];
    assert_eq!(end(cut_offs.clone()).await, Ok(true));
    assert_eq!(store.cut_offs().await, Ok(cut_offs));
    assert_eq!(store.quarantines().await, Ok(vec![]));
}

/// A quarantine whose words are too long is refused whole.
pub async fn quarantine_limits(store: Arc<dyn Store>) {
    for (length, is_good) in [(Quarantine::REASON_BYTES_MAX, true), (Quarantine::REASON_BYTES_MAX + 1, false)] {
        let long = Quarantine { reason: "r".repeat(length), ..quarantine(QuarantineScope::All, 1) };
        let outcome = store.put_quarantine(long, QuarantineBasis::Any).await;
        assert_eq!(outcome.is_ok(), is_good, "{length}");
        assert!(is_good || matches!(outcome, Err(StoreError::Invalid(_))));
    }
    assert_eq!(store.quarantines().await.unwrap().len(), 1);
}
