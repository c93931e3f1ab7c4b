//! Files of every schema version that was released must open for ever. `fixtures/schema-N.sql` is `.dump` of a store
//! that version N wrote; it is never edited.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and so does what it calls"
)]

use std::path::Path;

use inborn_identity::{AccountId, MacAddress};
use inborn_store::conformance::samples::{
    LAUNCHED_AT, account, agent_report, bare, detector, detector_part, document, epoch, finding, full, host_keys, id,
    key_pair, launch_with_token, operator, part_change, sent, session,
};
use inborn_store::{
    Account, Attachment, Change, ChangeRequest, CommandQuery, CutOff, CutOffScope, DetectorChange, Document,
    EpochState, HostKeys, Instance, InstanceQuery, InstanceState, KeyPair, LaunchOutcome, Node, Operator,
    OperatorChange, OwnMac, PartKind, RecordedCutOff, Registration, Role, Session, SessionQuery, SettingChange,
    SqliteStore, StateReason, Store,
};
use rusqlite::Connection;

fn restore(dump: &str, path: &Path) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(dump).unwrap();
    connection.close().unwrap();
}

/// The full sample, as far as schema 1 could hold it.
fn full_1() -> Instance {
    let none = bare(1);
    Instance {
        public_key: none.public_key,
        ipv6_address: none.ipv6_address,
        placement_group: none.placement_group,
        placement_partition: none.placement_partition,
        ..full_3()
    }
}

/// As far as schema 3 could, and 5 too.
fn full_3() -> Instance {
    Instance { mac: None, ..full(1) }
}

#[tokio::test]
async fn schema_1_opens_with_all_it_holds() {
    opens_with_all_it_holds(include_str!("fixtures/schema-1.sql"), full_1(), &[], (0, HostKeys::default())).await;
}

#[tokio::test]
async fn schema_3_opens_with_all_it_holds() {
    let key_pairs = [key_pair(1), key_pair(2)];
    opens_with_all_it_holds(include_str!("fixtures/schema-3.sql"), full_3(), &key_pairs, (1, host_keys(1))).await;
}

#[tokio::test]
async fn schema_5_opens_with_all_it_holds() {
    let dump = include_str!("fixtures/schema-5.sql");
    let attachment = Some(Attachment::Interface { name: "tap0".into(), mark: Some("boot/if7".into()) });
    let full = Instance { attachment, ..full_3() };
    opens_with_all_it_holds(dump, full, &[key_pair(1), key_pair(2)], (1, host_keys(1))).await;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("region.db");
    restore(dump, &path);
    let store = SqliteStore::open(&path).unwrap();
    let role = Role {
        account: account(),
        name: "managed".parse().unwrap(),
        path: "/service-role/".into(),
        role_id: "AROA00000000000000001".into(),
        description: "for 'agents' ☃".into(),
        created_at: LAUNCHED_AT,
    };
    assert_eq!(store.roles().await, Ok(vec![role]));
    let registration = Registration {
        instance: id(1),
        public_key: vec![48, 130, 1, 10],
        registered_at: LAUNCHED_AT.plus(1),
        key_changed_at: LAUNCHED_AT.plus(2),
    };
    assert_eq!(store.registrations().await, Ok(vec![registration]));
    let facts = std::array::from_fn(|number| format!("fact {number} ☃"));
    assert_eq!(store.nodes().await, Ok(vec![Node { instance: id(1), pinged_at: LAUNCHED_AT.plus(3), facts }]));
    // Interfaces are what schema 6 has more.
    let mac = Some(OwnMac::Found(MacAddress::local([1, 2, 3, 4, 5])));
    let attach = Change::Attach(Attachment::Vsock(3), mac);
    let change = ChangeRequest { account: account(), instances: vec![id(1)], change: attach };
    assert_eq!(store.change(change).await.unwrap()[0].after.mac, mac);
    store.close().await.unwrap();
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.instance(id(1)).await.unwrap().unwrap().mac, mac);
    store.close().await.unwrap();
}

#[tokio::test]
async fn schema_6_opens_with_all_it_holds() {
    let dump = include_str!("fixtures/schema-6.sql");
    let attachment = Some(Attachment::Interface { name: "tap0".into(), mark: Some("boot/if7".into()) });
    let mac = Some(OwnMac::Found(MacAddress::local([1, 2, 3, 4, 5])));
    let full = Instance { attachment, mac, ..full_3() };
    opens_with_all_it_holds(dump, full, &[key_pair(1), key_pair(2)], (1, host_keys(1))).await;

    // Documents and commands are what schema 7 has more.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("region.db");
    restore(dump, &path);
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!((store.documents().await, store.open_commands().await), (Ok(vec![]), Ok(vec![])));
    store.put_document(document("d", 1)).await.unwrap();
    store.put_command(sent(1, 0, &[1])).await.unwrap();
    store.close().await.unwrap();
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.documents().await, Ok(vec![document("d", 1)]));
    assert_eq!(store.open_commands().await, Ok(vec![sent(1, 0, &[1])]));
    store.close().await.unwrap();
}

#[tokio::test]
async fn schema_7_opens_with_all_it_holds() {
    let dump = include_str!("fixtures/schema-7.sql");
    let attachment = Some(Attachment::Interface { name: "tap0".into(), mark: Some("boot/if7".into()) });
    let mac = Some(OwnMac::Found(MacAddress::local([1, 2, 3, 4, 5])));
    let full = Instance { attachment, mac, ..full_3() };
    opens_with_all_it_holds(dump, full, &[key_pair(1), key_pair(2)], (1, host_keys(1))).await;

    // Sessions are what schema 9 has more.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("region.db");
    restore(dump, &path);
    let store = SqliteStore::open(&path).unwrap();
    // Of no region that opened it: whose they are is not known.
    let nobody = AccountId::new(0).unwrap();
    assert_eq!(store.documents().await, Ok(vec![Document { account: nobody, ..document("d", 1) }]));
    let mut of_nobody = sent(1, 0, &[1]);
    of_nobody.command.account = nobody;
    assert_eq!(store.open_commands().await, Ok(vec![of_nobody]));
    let open = SessionQuery { account: None, has_ended: false, after: None, limit: 10 };
    assert_eq!(store.sessions(open.clone()).await, Ok(vec![]));
    store.put_session(session(1, 0)).await.unwrap();
    store.close().await.unwrap();
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.sessions(open).await, Ok(vec![session(1, 0)]));
    store.close().await.unwrap();
}

#[tokio::test]
async fn schema_9_opens_with_all_it_holds() {
    let dump = include_str!("fixtures/schema-9.sql");
    let attachment = Some(Attachment::Interface { name: "tap0".into(), mark: Some("boot/if7".into()) });
    let mac = Some(OwnMac::Found(MacAddress::local([1, 2, 3, 4, 5])));
    let full = Instance { attachment, mac, ..full_3() };
    opens_with_all_it_holds(dump, full, &[key_pair(1), key_pair(2)], (1, host_keys(1))).await;

    // Detectors and what belongs to them are what schema 10 has more.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("region.db");
    restore(dump, &path);
    let store = SqliteStore::open(&path).unwrap();
    let open = SessionQuery { account: None, has_ended: false, after: None, limit: 10 };
    assert_eq!(store.sessions(open).await, Ok(vec![Session { carrier: None, ..session(1, 0) }]));
    assert_eq!((store.detectors().await, store.agent_reports().await), (Ok(vec![]), Ok(vec![])));
    let part = detector_part(1, PartKind::Filter, 1, 1);
    store.put_detector(DetectorChange::new(detector(1, account()))).await.unwrap();
    store.put_detector(part_change(detector(1, account()), part.clone())).await.unwrap();
    store.put_findings(vec![finding(1, 1, 1)]).await.unwrap();
    store.put_agent_reports(vec![agent_report(1, 1)]).await.unwrap();
    store.close().await.unwrap();
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.detectors().await, Ok(vec![detector(1, account())]));
    assert_eq!(store.detector_parts().await, Ok(vec![part]));
    let ids = vec![finding(1, 1, 1).id];
    assert_eq!(store.findings_by_id(detector(1, account()).id, ids).await, Ok(vec![finding(1, 1, 1)]));
    assert_eq!(store.agent_reports().await, Ok(vec![agent_report(1, 1)]));
    store.close().await.unwrap();
}

#[tokio::test]
async fn schema_14_opens_with_all_it_holds() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("region.db");
    restore(include_str!("fixtures/schema-14.sql"), &path);
    let store = SqliteStore::open(&path).unwrap();
    // Accounts are what schema 15 has more; what there was is the region's own.
    assert_eq!(store.accounts().await, Ok(vec![]));
    assert_eq!(store.operators().await, Ok(vec![operator(1)]));
    assert_eq!(store.documents().await, Ok(vec![document("d", 1)]));
    assert_eq!(store.open_commands().await, Ok(vec![sent(1, 0, &[1])]));
    let query = CommandQuery { account: Some(account()), limit: 10, ..CommandQuery::default() };
    assert_eq!(store.commands(query).await, Ok(vec![sent(1, 0, &[1]).command]));
    assert_eq!(store.change_operator(operator(1).access_key_id, OperatorChange::Disable).await, Ok(true));
    let own = Account { id: account(), name: "own".into(), created_at: LAUNCHED_AT, closed_at: None };
    assert_eq!(store.put_account(own.clone()).await, Ok(()));
    store.close().await.unwrap();
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.accounts().await, Ok(vec![own]));
    assert_eq!(store.operators().await, Ok(vec![Operator { disabled: true, ..operator(1) }]));
    store.close().await.unwrap();
}

async fn opens_with_all_it_holds(dump: &str, full: Instance, key_pairs: &[KeyPair], of_host: (u64, HostKeys)) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("region.db");
    restore(dump, &path);
    let store = SqliteStore::open(&path).unwrap();

    let token = |instance| Instance { client_token: Some("token".into()), ..instance };
    let page = store.instances(InstanceQuery { account: Some(account()), after: None, limit: 10 }).await.unwrap();
    let terminated = Instance {
        state: InstanceState::Terminated,
        terminated_at: Some(LAUNCHED_AT.plus(60)),
        state_reason: Some(StateReason { code: "Client.UserInitiatedShutdown".into(), message: "asked to".into() }),
        ami_launch_index: 1,
        reservation_id: full.reservation_id.clone(),
        ..token(bare(2))
    };
    assert_eq!(page.instances, [token(full), terminated]);
    assert_eq!(store.host_keys(id(1)).await, Ok(of_host));
    assert_eq!(store.key_pairs(account()).await, Ok(key_pairs.to_vec()));
    assert_eq!(store.operators().await, Ok(vec![operator(1)]));
    assert_eq!(store.epochs().await, Ok(vec![epoch(1, EpochState::Sealing)]));
    let before = LAUNCHED_AT.plus(5);
    let expected = [
        CutOff::Dead { instance: id(2) },
        CutOff::IssuedBefore { scope: CutOffScope::All, before },
        CutOff::IssuedBefore { scope: CutOffScope::Account(account()), before },
        CutOff::IssuedBefore { scope: CutOffScope::Instance(id(1)), before },
        CutOff::OlderBoot { instance: id(1), below: 3 },
    ];
    let expected = expected.map(|cut_off| RecordedCutOff { cut_off, at: LAUNCHED_AT.plus(60) });
    assert_eq!(store.cut_offs().await, Ok(expected.to_vec()));
    assert_eq!(store.setting("region").await, Ok(Some(b"us-east-1".to_vec())));

    // And it takes writes that build on what it holds.
    let again = store.launch(launch_with_token(vec![bare(3)], "token", 7)).await;
    assert!(matches!(again, Ok(LaunchOutcome::Replayed(instances)) if instances.len() == 2));
    let change = SettingChange { name: "region".into(), expected: Some(b"us-east-1".to_vec()), value: vec![1] };
    assert_eq!(store.put_setting(change).await, Ok(()));
    assert_eq!(store.put_key_pair(key_pair(3)).await, Ok(()));
    store.close().await.unwrap();
}
