//! Cases: detectors, their parts, and the agents that send them telemetry.

use std::sync::Arc;

use super::samples::{
    LAUNCHED_AT, account, agent_report, bare, change, detector, detector_part, finding, launch, other_account,
    terminate,
};
use crate::{AgentReport, Detector, DetectorPart, PartKind, Store, StoreError};

/// An account has one detector, which is replaced by its id.
pub async fn an_account_has_one_detector(store: Arc<dyn Store>) {
    let (first, other) = (detector(2, account()), detector(1, other_account()));
    for one in [&first, &other] {
        assert_eq!(store.put_detector(one.clone()).await, Ok(()));
    }
    let second = store.put_detector(detector(3, account())).await;
    assert!(matches!(second, Err(StoreError::Conflict(_))), "{second:?}");
    let changed = Detector { document: "{}".into(), updated_at: LAUNCHED_AT.plus(9), ..first };
    assert_eq!(store.put_detector(changed.clone()).await, Ok(()));
    assert_eq!(store.detectors().await, Ok(vec![other.clone(), changed.clone()]));
    assert_eq!(store.delete_detector(changed.id.clone()).await, Ok(true));
    assert_eq!(store.delete_detector(changed.id).await, Ok(false));
    assert_eq!(store.detectors().await, Ok(vec![other]));
    assert_eq!(store.put_detector(detector(3, account())).await, Ok(()));
}

/// Parts are replaced, deleted one by one, and go with their detector; so do findings.
pub async fn parts_go_with_their_detector(store: Arc<dyn Store>) {
    let absent = store.put_detector_part(detector_part(1, PartKind::Filter, 1, 1)).await;
    assert!(matches!(absent, Err(StoreError::Conflict(_))), "{absent:?}");
    for (number, whose) in [(1, account()), (2, other_account())] {
        store.put_detector(detector(number, whose)).await.unwrap();
        for kind in PartKind::ALL {
            store.put_detector_part(detector_part(number, kind, 1, 1)).await.unwrap();
        }
    }
    store.put_findings(vec![finding(1, 1, 1), finding(2, 2, 1)]).await.unwrap();
    let changed = detector_part(1, PartKind::IpSet, 1, 2);
    store.put_detector_part(changed.clone()).await.unwrap();
    let deleted = changed.id.clone();
    assert_eq!(store.delete_detector_part(changed.detector.clone(), PartKind::Filter, deleted.clone()).await, Ok(true));
    assert_eq!(store.delete_detector_part(changed.detector.clone(), PartKind::Filter, deleted).await, Ok(false));
    let of_second = PartKind::ALL.map(|kind| detector_part(2, kind, 1, 1));
    let mut expected = vec![changed, detector_part(1, PartKind::ThreatIntelSet, 1, 1)];
    expected.extend(of_second.clone());
    assert_eq!(store.detector_parts().await, Ok(expected));
    assert_eq!(store.delete_detector(detector(1, account()).id).await, Ok(true));
    assert_eq!(store.detector_parts().await, Ok(of_second.to_vec()));
    let ids = vec![finding(1, 1, 1).id, finding(2, 2, 1).id];
    assert_eq!(store.findings_by_id(detector(1, account()).id, ids.clone()).await, Ok(vec![]));
    assert_eq!(store.findings_by_id(detector(2, account()).id, ids).await, Ok(vec![finding(2, 2, 1)]));
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
        let put = store.put_detector(Detector { id: long(length), ..detector(1, account()) }).await;
        assert_eq!(put.is_ok(), is_good, "{length}");
        let _ = store.delete_detector(long(length)).await;
    }
    store.put_detector(detector(1, account())).await.unwrap();
    for (length, is_good) in [(Detector::DOCUMENT_MAX, true), (Detector::DOCUMENT_MAX + 1, false)] {
        let put = store.put_detector(Detector { document: long(length), ..detector(1, account()) }).await;
        assert_eq!(put.is_ok(), is_good, "{length}");
        let part = detector_part(1, PartKind::Filter, 1, 1);
        let put = store.put_detector_part(DetectorPart { document: long(length), ..part }).await;
        assert_eq!(put.is_ok(), is_good, "{length}");
    }
    for (length, is_good) in [(0, true), (AgentReport::TEXT_MAX, true), (AgentReport::TEXT_MAX + 1, false)] {
        let put = store.put_agent_reports(vec![AgentReport { agent_name: long(length), ..agent_report(1, 1) }]).await;
        assert_eq!(put.is_ok(), is_good, "{length}");
    }
    for (count, is_good) in [(AgentReport::WRITTEN_MAX, true), (AgentReport::WRITTEN_MAX + 1, false)] {
        assert_eq!(store.put_agent_reports(vec![agent_report(1, 1); count]).await.is_ok(), is_good, "{count}");
    }
}
