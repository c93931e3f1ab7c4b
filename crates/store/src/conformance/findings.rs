//! Cases: findings.

use std::sync::Arc;

use super::samples::{LAUNCHED_AT, account, detector, finding, other_account};
use crate::{DetectorChange, Finding, FindingPlace, FindingQuery, FindingRetention, Store, StoreError};

fn query() -> FindingQuery {
    FindingQuery { detector: detector(1, account()).id, key: None, after: None, limit: FindingQuery::LIMIT_MAX }
}

/// Findings are replaced by their ids, all or none, and belong to a detector.
pub async fn findings_are_replaced_by_their_ids(store: Arc<dyn Store>) {
    store.put_detector(DetectorChange::new(detector(1, account()))).await.unwrap();
    let put = store.put_findings(vec![finding(1, 1, 1), finding(2, 2, 1)]).await;
    assert!(matches!(put, Err(StoreError::Conflict(_))), "{put:?}");
    assert_eq!(store.findings(query()).await, Ok(vec![]));
    store.put_findings(vec![finding(1, 1, 1), finding(1, 2, 2), finding(1, 1, 3)]).await.unwrap();
    assert_eq!(store.findings(query()).await, Ok(vec![finding(1, 1, 3), finding(1, 2, 2)]));
    let ids = ["finding-2", "nobody", "finding-1"].map(str::to_owned).to_vec();
    let found = store.findings_by_id(query().detector, ids.clone()).await;
    assert_eq!(found, Ok(vec![finding(1, 2, 2), finding(1, 1, 3)]));
    assert_eq!(store.findings_by_id(detector(2, account()).id, ids).await, Ok(vec![]));
}

/// The latest first, one detector's, page by page, and by key.
pub async fn findings_are_listed_in_pages(store: Arc<dyn Store>) {
    store.put_detector(DetectorChange::new(detector(1, account()))).await.unwrap();
    store.put_detector(DetectorChange::new(detector(2, other_account()))).await.unwrap();
    let all = [(1, 5), (2, 7), (3, 5), (4, 1)].map(|(number, at)| finding(1, number, at));
    store.put_findings(all.iter().cloned().chain([finding(2, 5, 6)]).collect()).await.unwrap();
    let order = [1, 0, 2, 3].map(|at: usize| all[at].clone());
    assert_eq!(store.findings(query()).await.unwrap(), order);
    let of_key = FindingQuery { key: Some("key-1".into()), ..query() };
    assert_eq!(store.findings(of_key).await.unwrap(), [all[0].clone(), all[3].clone()]);
    let mut after = None;
    for expected in &order {
        let page = store.findings(FindingQuery { after, limit: 1, ..query() }).await.unwrap();
        assert_eq!(page, core::slice::from_ref(expected));
        after = Some(FindingPlace { updated_at: expected.updated_at, id: expected.id.clone() });
    }
    assert_eq!(store.findings(FindingQuery { after, ..query() }).await, Ok(vec![]));
}

/// Findings are forgotten by age, and by number within each detector.
pub async fn findings_are_forgotten(store: Arc<dyn Store>) {
    store.put_detector(DetectorChange::new(detector(1, account()))).await.unwrap();
    store.put_detector(DetectorChange::new(detector(2, other_account()))).await.unwrap();
    let all = (1..=5).map(|number| finding(1, number, number)).chain([finding(2, 9, 1)]);
    store.put_findings(all.collect()).await.unwrap();
    let keep = |seconds, findings_max| FindingRetention { updated_since: LAUNCHED_AT.plus(seconds), findings_max };
    assert_eq!(store.forget_findings(keep(1, 5)).await, Ok(0));
    assert_eq!(store.forget_findings(keep(2, 5)).await, Ok(2), "by age");
    assert_eq!(store.forget_findings(keep(0, 3)).await, Ok(1), "by number");
    let left: Vec<String> = store.findings(query()).await.unwrap().into_iter().map(|finding| finding.id).collect();
    assert_eq!(left, ["finding-5", "finding-4", "finding-3"]);
}

/// A machine that has many findings of a type, all of them newer, pushes out neither others' nor its own of another type.
pub async fn findings_are_forgotten_where_there_are_most(store: Arc<dyn Store>) {
    store.put_detector(DetectorChange::new(detector(1, account()))).await.unwrap();
    let flood = (10..=20).map(|number| Finding { instance: finding(1, 2, 0).instance, ..finding(1, number, number) });
    let kind = "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS".to_owned();
    let other_type = Finding { kind, instance: finding(1, 2, 0).instance, ..finding(1, 4, 2) };
    let others = [finding(1, 1, 1), finding(1, 3, 1), other_type];
    store.put_findings(flood.chain(others).collect()).await.unwrap();
    let keep = |findings_max| FindingRetention { updated_since: LAUNCHED_AT, findings_max };
    let mut left = Vec::new();
    for (findings_max, forgotten) in [(14, 0), (13, 1), (5, 8), (4, 1), (3, 1)] {
        assert_eq!(store.forget_findings(keep(findings_max)).await, Ok(forgotten), "{findings_max}");
        let ids = store.findings(query()).await.unwrap().into_iter().map(|finding| finding.id).collect::<Vec<_>>();
        left.push(ids);
    }
    assert_eq!(left[2], ["finding-20", "finding-19", "finding-4", "finding-1", "finding-3"]);
    assert_eq!(left[3], ["finding-20", "finding-4", "finding-1", "finding-3"]);
    assert_eq!(left[4], ["finding-20", "finding-4", "finding-1"]);
}

/// Below, at and above each limit.
pub async fn finding_limits(store: Arc<dyn Store>) {
    store.put_detector(DetectorChange::new(detector(1, account()))).await.unwrap();
    let long = |length| "x".repeat(length);
    for (length, is_good) in [(0, false), (1, true), (300, true), (301, false)] {
        for named in
            [Finding { id: long(length), ..finding(1, 1, 1) }, Finding { kind: long(length), ..finding(1, 1, 1) }]
        {
            assert_eq!(store.put_findings(vec![named]).await.is_ok(), is_good, "{length}");
        }
    }
    for (length, is_good) in [(0, false), (1, true), (Finding::KEY_MAX, true), (Finding::KEY_MAX + 1, false)] {
        let put = store.put_findings(vec![Finding { key: long(length), ..finding(1, 1, 1) }]).await;
        assert_eq!(put.is_ok(), is_good, "{length}");
    }
    for (length, is_good) in [(Finding::DOCUMENT_MAX, true), (Finding::DOCUMENT_MAX + 1, false)] {
        let put = store.put_findings(vec![Finding { document: long(length), ..finding(1, 1, 1) }]).await;
        assert_eq!(put.is_ok(), is_good, "{length}");
    }
    for (count, is_good) in [(i64::MAX as u64, true), (i64::MAX as u64 + 1, false)] {
        let put = store.put_findings(vec![Finding { count, ..finding(1, 1, 1) }]).await;
        assert_eq!(put.is_ok(), is_good, "{count}");
    }
    for (count, is_good) in [(Finding::WRITTEN_MAX, true), (Finding::WRITTEN_MAX + 1, false)] {
        assert_eq!(store.put_findings(vec![finding(1, 1, 1); count]).await.is_ok(), is_good, "{count}");
    }
    for (limit, is_good) in [(0, false), (1, true), (500, true), (501, false)] {
        assert_eq!(store.findings(FindingQuery { limit, ..query() }).await.is_ok(), is_good, "{limit}");
    }
}
