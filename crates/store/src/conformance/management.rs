//! Cases: roles, registrations.

use std::sync::Arc;

use super::samples::{LAUNCHED_AT, account, bare, change, id, launch, other_account, terminate};
use crate::{Conflict, Registration, RegistrationChange, Role, SettingBasis, SettingChange, Store, StoreError};

fn role(name: &str, number: u32) -> Role {
    Role {
        account: account(),
        name: name.parse().unwrap(),
        path: "/service-role/".into(),
        role_id: format!("AROA{number:017}"),
        description: "für Agenten".into(),
        created_at: LAUNCHED_AT,
    }
}

/// Roles come back as given, ordered by name; none is replaced; one that is gone may come again.
pub async fn roles_are_kept_until_they_are_deleted(store: Arc<dyn Store>) {
    assert_eq!(store.roles().await, Ok(vec![]));
    for one in [role("b", 2), role("a", 1)] {
        assert_eq!(store.put_role(one).await, Ok(()));
    }
    let refused = Err(Conflict::Exists("a role").into());
    assert_eq!(store.put_role(role("a", 3)).await, refused, "the same name");
    assert_eq!(store.put_role(role("c", 1)).await, refused, "the same id");
    let elsewhere = Role { account: other_account(), ..role("a", 4) };
    assert_eq!(store.put_role(elsewhere.clone()).await, Ok(()));
    assert_eq!(store.delete_role(account(), "a".parse().unwrap()).await, Ok(true));
    assert_eq!(store.delete_role(account(), "a".parse().unwrap()).await, Ok(false));
    assert_eq!(store.put_role(role("a", 5)).await, Ok(()));
    let mut expected = vec![role("a", 5), role("b", 2), elsewhere];
    expected.sort_by_key(|role| (role.account.to_string(), role.name.as_str().to_owned()));
    assert_eq!(store.roles().await, Ok(expected));
}

fn key(number: u32, expected: Option<u8>, new: Option<u8>, seconds: u64) -> RegistrationChange {
    let bytes = |byte: u8| vec![byte; 294];
    RegistrationChange {
        instance: id(number),
        expected: expected.map(bytes),
        public_key: new.map(bytes),
        at: LAUNCHED_AT.plus(seconds),
        basis: None,
    }
}

/// A key is set, changed and removed only from the one that was expected.
pub async fn registrations_are_compared_and_changed(store: Arc<dyn Store>) {
    store.launch(launch(vec![bare(1)])).await.unwrap();
    assert_eq!(store.registration(id(1)).await, Ok(None));
    let lost = || Err(Conflict::KeyChanged(id(1)).into());
    assert_eq!(store.change_registration(key(1, Some(1), Some(2), 0)).await, lost());
    assert_eq!(store.change_registration(key(1, None, Some(1), 1)).await, Ok(()));
    assert_eq!(store.change_registration(key(1, None, Some(2), 2)).await, lost());
    assert_eq!(store.change_registration(key(1, Some(1), Some(2), 3)).await, Ok(()));
    let expected = Registration {
        instance: id(1),
        public_key: vec![2; 294],
        registered_at: LAUNCHED_AT.plus(1),
        key_changed_at: LAUNCHED_AT.plus(3),
    };
    assert_eq!(store.registration(id(1)).await, Ok(Some(expected.clone())));
    assert_eq!(store.registrations().await, Ok(vec![expected]));
    assert_eq!(store.change_registration(key(1, Some(1), None, 4)).await, lost());
    assert_eq!(store.change_registration(key(1, Some(2), None, 5)).await, Ok(()));
    assert_eq!(store.registration(id(1)).await, Ok(None));
    // What was decided by a setting holds only while that is as it was.
    let by = |value: &[u8]| {
        let basis = SettingBasis { name: "ended".to_owned(), value: value.to_vec() };
        RegistrationChange { basis: Some(basis), ..key(1, None, Some(1), 6) }
    };
    let passed_by = || Err(Conflict::SettingChanged("ended".to_owned()).into());
    assert_eq!(store.change_registration(by(b"1")).await, passed_by());
    let setting = SettingChange { name: "ended".to_owned(), expected: None, value: b"1".to_vec() };
    store.put_setting(setting).await.unwrap();
    assert_eq!(store.change_registration(by(b"2")).await, passed_by());
    assert_eq!(store.registration(id(1)).await, Ok(None));
    assert_eq!(store.change_registration(by(b"1")).await, Ok(()));
    assert_eq!(store.change_registration(key(1, Some(1), None, 7)).await, Ok(()));
    for (length, fits) in [(0, false), (1, true), (2047, true), (2048, true), (2049, false)] {
        let expected = store.registration(id(1)).await.unwrap().map(|found| found.public_key);
        let change = RegistrationChange { public_key: Some(vec![7; length]), expected, ..key(1, None, None, 6) };
        assert_eq!(store.change_registration(change).await.is_ok(), fits, "{length}");
    }
}

/// Only machines that live are registered, and what is forgotten of a machine is forgotten whole.
pub async fn registrations_end_with_their_machine(store: Arc<dyn Store>) {
    let absent = |number| Err(StoreError::NotFound(vec![id(number)]));
    assert_eq!(store.change_registration(key(1, None, Some(1), 0)).await, absent(1));
    store.launch(launch(vec![bare(1)])).await.unwrap();
    store.change_registration(key(1, None, Some(1), 0)).await.unwrap();
    store.change(change(&[1], terminate(1))).await.unwrap();
    assert_eq!(store.change_registration(key(1, Some(1), Some(2), 2)).await, absent(1));
    assert_eq!(store.purge(LAUNCHED_AT.plus(1000)).await, Ok(1));
    assert_eq!(store.registration(id(1)).await, Ok(None));
}
