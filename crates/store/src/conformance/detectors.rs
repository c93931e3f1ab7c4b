//! Cases: detectors, their parts, and the agents that send them telemetry.

use std::sync::Arc;

use super::samples::{
    LAUNCHED_AT, account, agent_report, bare, change, detector, detector_part, finding, launch, other_account,
    part_change, terminate,
};
use crate::{
    AgentReport, Beat, Conflict, Detector, DetectorChange, DetectorPart, Heard, PartChange, PartKind, Store,
    StoreError, Topic,
};

async fn put(store: &dyn Store, detector: Detector) -> Result<(), StoreError> {
    store.put_detector(DetectorChange::new(detector)).await
}

/// An account has one detector, which is changed by its id and by whoever knows it as it is.
pub async fn an_account_has_one_detector(store: Arc<dyn Store>) {
    let (first, other) = (detector(2, account()), detector(1, other_account()));
    for one in [&first, &other] {
        assert_eq!(put(&*store, one.clone()).await, Ok(()));
    }
    for second in [detector(3, account()), first.clone()] {
        let second = put(&*store, second).await;
        assert!(matches!(second, Err(StoreError::Conflict(Conflict::Exists(_)))), "{second:?}");
    }
    let changed = Detector { document: "{}".into(), updated_at: LAUNCHED_AT.plus(9), ..first.clone() };
    let change = |expected: &str, detector: &Detector| {
        store.put_detector(DetectorChange {
            expected: Some(expected.to_owned()),
            detector: detector.clone(),
            part: None,
        })
    };
    assert_eq!(change(&first.document, &changed).await, Ok(()));
    let lost = Err(StoreError::Conflict(Conflict::DetectorChanged(first.id.clone())));
    assert_eq!(change(&first.document, &first).await, lost, "it is another one by now");
    let of_other = Detector { account: other_account(), ..changed.clone() };
    assert_eq!(change("{}", &of_other).await, lost, "it changes no hands");
    let absent = change("{}", &detector(4, account())).await;
    assert_eq!(absent, Err(StoreError::Conflict(Conflict::Absent("a detector"))));
    assert_eq!(store.detectors().await, Ok(vec![other.clone(), changed.clone()]));
    assert_eq!(store.detector_of(account()).await, Ok(Some((changed.clone(), vec![]))));
    assert_eq!(store.delete_detector(other_account(), changed.id.clone()).await, Ok(false));
    assert_eq!(store.delete_detector(account(), changed.id.clone()).await, Ok(true));
    assert_eq!(store.delete_detector(account(), changed.id).await, Ok(false));
    assert_eq!((store.detectors().await, store.detector_of(account()).await), (Ok(vec![other]), Ok(None)));
    assert_eq!(put(&*store, detector(3, account())).await, Ok(()));
}

/// Parts are changed with their detector or not at all, deleted one by one, and go with it; so do findings.
pub async fn parts_go_with_their_detector(store: Arc<dyn Store>) {
    let absent = part_change(detector(1, account()), detector_part(1, PartKind::Filter, 1, 1));
    assert_eq!(store.put_detector(absent).await, Err(StoreError::Conflict(Conflict::Absent("a detector"))));
    for (number, whose) in [(1, account()), (2, other_account())] {
        put(&*store, detector(number, whose)).await.unwrap();
        for kind in PartKind::ALL {
            let change = part_change(detector(number, whose), detector_part(number, kind, 1, 1));
            store.put_detector(change).await.unwrap();
        }
    }
    store.put_findings(vec![finding(1, 1, 1), finding(2, 2, 1)]).await.unwrap();
    let first = Detector { document: "{}".into(), ..detector(1, account()) };
    let changed = detector_part(1, PartKind::IpSet, 1, 2);
    let change = DetectorChange { detector: first.clone(), ..part_change(detector(1, account()), changed.clone()) };
    assert_eq!(store.put_detector(change.clone()).await, Ok(()));
    let lost = Err(StoreError::Conflict(Conflict::DetectorChanged(first.id.clone())));
    assert_eq!(store.put_detector(change).await, lost);
    let deletes = PartChange { kind: PartKind::Filter, id: changed.id.clone(), document: None };
    let change = DetectorChange { expected: Some("{}".into()), detector: first.clone(), part: Some(deletes) };
    for _ in 0..2 {
        assert_eq!(store.put_detector(change.clone()).await, Ok(()));
    }
    let of_first = vec![changed, detector_part(1, PartKind::ThreatIntelSet, 1, 1)];
    assert_eq!(store.detector_of(account()).await, Ok(Some((first, of_first.clone()))));
    let of_second = PartKind::ALL.map(|kind| detector_part(2, kind, 1, 1));
    assert_eq!(store.detector_parts().await, Ok([&of_first[..], &of_second].concat()));
    assert_eq!(store.delete_detector(account(), detector(1, account()).id).await, Ok(true));
    assert_eq!(store.detector_parts().await, Ok(of_second.to_vec()));
    let ids = vec![finding(1, 1, 1).id, finding(2, 2, 1).id];
    assert_eq!(store.findings_by_id(detector(1, account()).id, ids.clone()).await, Ok(vec![]));
    assert_eq!(store.findings_by_id(detector(2, account()).id, ids).await, Ok(vec![finding(2, 2, 1)]));
}

/// Whoever else has the store open hears whose detector has changed, and of nothing that has not.
pub async fn changes_of_detectors_are_told(store: Arc<dyn Store>) {
    let beat = Beat { name: "region".into(), at: LAUNCHED_AT, verifies: 0, address: String::new() };
    store.beat(beat).await.unwrap();
    put(&*store, detector(1, account())).await.unwrap();
    put(&*store, detector(2, other_account())).await.unwrap();
    assert!(put(&*store, detector(3, account())).await.is_err());
    let part = part_change(detector(1, account()), detector_part(1, PartKind::Filter, 1, 1));
    store.put_detector(part).await.unwrap();
    for _ in 0..2 {
        store.delete_detector(other_account(), detector(2, other_account()).id).await.unwrap();
    }
    let news = store.news(Heard::default()).await.unwrap();
    let told: Vec<_> = news.entries.into_iter().map(|entry| entry.topic).collect();
    assert_eq!(told, [account(), other_account(), account(), other_account()].map(Topic::Detector));
}

/// The last word about an agent counts; it goes with the machine.
pub async fn agent_reports_are_replaced_and_go_with_their_machine(store: Arc<dyn Store>) {
    store.launch(launch(vec![bare(1)])).await.unwrap();
    store.launch(launch(vec![bare(2)])).await.unwrap();
    let all = vec![agent_report(2, 1), agent_report(1, 2), agent_report(3, 3)];
    assert_eq!(store.put_agent_reports(all).await, Ok(()));
    assert_eq!(store.put_agent_reports(vec![agent_report(2, 4)]).await, Ok(()));
    assert_eq!(store.agent_reports().await, Ok(vec![agent_report(1, 2), agent_report(2, 4)]));
    store.change(change(&[1], terminate(1))).await.unwrap();
    assert_eq!(store.purge(LAUNCHED_AT.plus(1000)).await, Ok(1));
    assert_eq!(store.agent_reports().await, Ok(vec![agent_report(2, 4)]));
}

/// Below, at and above each limit.
pub async fn detector_limits(store: Arc<dyn Store>) {
    let long = |length| "x".repeat(length);
    for (length, is_good) in [(0, false), (1, true), (300, true), (301, false)] {
        let done = put(&*store, Detector { id: long(length), ..detector(1, account()) }).await;
        assert_eq!(done.is_ok(), is_good, "{length}");
        let _ = store.delete_detector(account(), long(length)).await;
    }
    put(&*store, detector(1, account())).await.unwrap();
    for (length, is_good) in [(Detector::DOCUMENT_MAX, true), (Detector::DOCUMENT_MAX + 1, false)] {
        let part = DetectorPart { document: long(length), ..detector_part(1, PartKind::Filter, 1, 1) };
        let done = store.put_detector(part_change(detector(1, account()), part)).await;
        assert_eq!(done.is_ok(), is_good, "{length}");
    }
    for (length, is_good) in [(Detector::DOCUMENT_MAX + 1, false), (Detector::DOCUMENT_MAX, true)] {
        let long = Detector { document: long(length), ..detector(1, account()) };
        let expected = Some(detector(1, account()).document);
        let done = store.put_detector(DetectorChange { expected, detector: long, part: None }).await;
        assert_eq!(done.is_ok(), is_good, "{length}");
    }
    for (length, is_good) in [(0, true), (AgentReport::TEXT_MAX, true), (AgentReport::TEXT_MAX + 1, false)] {
        let put = store.put_agent_reports(vec![AgentReport { agent_name: long(length), ..agent_report(1, 1) }]).await;
        assert_eq!(put.is_ok(), is_good, "{length}");
    }
    for (count, is_good) in [(AgentReport::WRITTEN_MAX, true), (AgentReport::WRITTEN_MAX + 1, false)] {
        assert_eq!(store.put_agent_reports(vec![agent_report(1, 1); count]).await.is_ok(), is_good, "{count}");
    }
}
