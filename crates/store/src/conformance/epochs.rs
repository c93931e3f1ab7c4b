//! Cases: epochs that follow each other.

use std::sync::Arc;

use super::samples::{LAUNCHED_AT, epoch, operator};
use crate::{
    Beat, Conflict, CutOff, CutOffScope, EpochChange, EpochState, Heard, RecordedCutOff, Resealing, Sealed,
    SealedEpoch, SealedPlace, SettingChange, Store, StoreError, Topic,
};

fn change(expected: &SealedEpoch, after: &SealedEpoch) -> EpochChange {
    EpochChange { expected: expected.clone(), after: after.clone() }
}

/// Epochs go from stage to stage, several at once with what they cut off, and only from how they are.
pub async fn epochs_go_on_and_never_back(store: Arc<dyn Store>) {
    store.beat(Beat { name: "one".into(), at: LAUNCHED_AT, verifies: 1, address: String::new() }).await.unwrap();
    let (first, second) = (epoch(1, EpochState::Sealing), epoch(2, EpochState::Published));
    for epoch in [&first, &second] {
        store.put_epoch(epoch.clone()).await.unwrap();
    }
    let at = LAUNCHED_AT.plus(60);
    let sealing = SealedEpoch { state: EpochState::Sealing, seals_from: Some(at), ..second.clone() };
    let ended = SealedEpoch {
        state: EpochState::Retired,
        ended_at: Some(at),
        revoked: true,
        blob: Sealed::new(vec![]),
        ..first.clone()
    };
    let cut_off = CutOff::IssuedBefore { scope: CutOffScope::All, before: at };
    let cut_off = RecordedCutOff { cut_off, at };
    // One of two is not as expected: nothing is done.
    let published = SealedEpoch { created_at: at, ..second.clone() };
    let wrong = change(&published, &SealedEpoch { state: EpochState::Acknowledged, ..published.clone() });
    let refused = store.change_epochs(vec![change(&first, &ended), wrong], vec![cut_off]).await;
    assert_eq!(refused, Err(Conflict::EpochChanged(2).into()));
    assert_eq!(store.epochs().await, Ok(vec![first.clone(), second.clone()]));
    assert_eq!(store.cut_offs().await, Ok(vec![]));

    let changes = vec![change(&first, &ended), change(&second, &sealing)];
    assert_eq!(store.change_epochs(changes.clone(), vec![cut_off]).await, Ok(()));
    assert_eq!(store.epochs().await, Ok(vec![ended.clone(), sealing.clone()]));
    assert_eq!(store.cut_offs().await, Ok(vec![cut_off]));
    assert_eq!(store.change_epochs(changes, vec![]).await, Err(Conflict::EpochChanged(1).into()), "it is done");
    assert!(matches!(store.change_epochs(vec![change(&ended, &first)], vec![]).await, Err(StoreError::Invalid(_))));
    assert!(matches!(store.change_epochs(vec![change(&sealing, &second)], vec![]).await, Err(StoreError::Invalid(_))));
    let told: Vec<Topic> =
        store.news(Heard::default()).await.unwrap().entries.into_iter().map(|entry| entry.topic).collect();
    assert_eq!(told, [Topic::Epochs, Topic::Epochs, Topic::CutOff(cut_off), Topic::Epochs]);
    let many = |count| vec![change(&sealing, &sealing); count];
    assert_eq!(store.change_epochs(many(EpochChange::TOGETHER_MAX), vec![]).await, Ok(()));
    let too_many = store.change_epochs(many(EpochChange::TOGETHER_MAX + 1), vec![]).await;
    assert!(matches!(too_many, Err(StoreError::Invalid(_))));
}

/// Of many who take an epoch to its next stage at once, one does.
pub async fn one_of_many_changes_an_epoch(store: Arc<dyn Store>) {
    let published = epoch(1, EpochState::Published);
    store.put_epoch(published.clone()).await.unwrap();
    let all: Vec<_> = (0..8)
        .map(|_| {
            let after = SealedEpoch { state: EpochState::Acknowledged, ..published.clone() };
            let (store, change) = (Arc::clone(&store), change(&published, &after));
            tokio::spawn(async move { store.change_epochs(vec![change], vec![]).await })
        })
        .collect();
    let mut done = 0;
    for one in all {
        match one.await.unwrap() {
            Ok(()) => done += 1,
            Err(error) => assert_eq!(error, Conflict::EpochChanged(1).into()),
        }
    }
    assert_eq!(done, 1);
}

/// Every secret is replaced where it is as expected, and nothing else of its record; where one is not, none is.
pub async fn secrets_are_sealed_anew_together_or_not_at_all(store: Arc<dyn Store>) {
    let (epoch, operator) = (epoch(7, EpochState::Sealing), operator(1));
    store.put_epoch(epoch.clone()).await.unwrap();
    store.put_operator(operator.clone()).await.unwrap();
    for (name, value) in [("b ☃", vec![2]), ("a", vec![1])] {
        store.put_setting(SettingChange { name: name.into(), expected: None, value }).await.unwrap();
    }
    assert_eq!(store.setting_names().await, Ok(vec!["a".into(), "b ☃".into()]));
    let anew = Sealed::new(vec![9; 99]);
    let resealing = |place, expected: &Sealed| Resealing { place, expected: expected.clone(), after: anew.clone() };
    let setting = |value| resealing(SealedPlace::Setting("b ☃".into()), &Sealed::new(vec![value]));
    let others = [
        resealing(SealedPlace::Epoch(7), &epoch.blob),
        resealing(SealedPlace::Operator(operator.access_key_id), &operator.secret),
    ];
    let with = |last| others.iter().cloned().chain([last]).collect::<Vec<_>>();
    assert_eq!(store.reseal(with(setting(3))).await, Err(Conflict::SecretChanged.into()));
    assert_eq!(store.epochs().await, Ok(vec![epoch.clone()]));
    assert_eq!(store.operators().await, Ok(vec![operator.clone()]));
    assert_eq!(store.reseal(with(setting(2))).await, Ok(()));
    assert_eq!(store.epochs().await, Ok(vec![SealedEpoch { blob: anew.clone(), ..epoch }]));
    assert_eq!(store.operators().await, Ok(vec![crate::Operator { secret: anew.clone(), ..operator }]));
    assert_eq!(store.setting("b ☃").await, Ok(Some(anew.as_bytes().to_vec())));
    assert_eq!(store.setting("a").await, Ok(Some(vec![1])));
}
