//! A store that has something of everything.

use super::samples::*;
use crate::{
    Account, CutOff, CutOffScope, DetectorChange, EpochState, HostKeysChange, InventoryChange, InventoryKind,
    InvocationState, Node, PartKind, Quarantine, QuarantineBasis, QuarantineScope, RecordedCutOff, RegistrationChange,
    Role, SettingChange, Store,
};

/// Fills a store that is empty, so that every table of [`crate::dump::TABLES`] has rows, some of them with all that is hard to
/// carry: quotes, U+0000, nothing at all, the largest numbers.
pub async fn fill(store: &dyn Store) {
    store.put_join_token(join_token(1, 100)).await.unwrap();
    store.join_host(host_join(1, 1, 1)).await.unwrap();
    store.put_join_token(join_token(2, 100)).await.unwrap();
    let placed = crate::Instance { host: Some(host_id(1)), ..bare(3) };
    store.launch(launch_with_token(vec![full(1), bare(2)], "token", 7)).await.unwrap();
    store.launch(launch(vec![placed, bare(4)])).await.unwrap();
    store.change(change(&[2], terminate(60))).await.unwrap();
    store.change(change(&[4], stop(61))).await.unwrap();
    for (id, name) in [(account(), "'Räume' ☃"), (other_account(), "")] {
        store.put_account(Account { id, name: name.into(), created_at: LAUNCHED_AT, closed_at: None }).await.unwrap();
    }
    store.close_account(other_account(), LAUNCHED_AT.plus(9)).await.unwrap();
    store.put_operator(operator(1)).await.unwrap();
    store.put_key_pair(key_pair(1)).await.unwrap();
    store.put_epoch(epoch(1, EpochState::Sealing)).await.unwrap();
    store.put_epoch(epoch(2, EpochState::Published)).await.unwrap();
    let before = LAUNCHED_AT.plus(5);
    for scope in [CutOffScope::All, CutOffScope::Account(account()), CutOffScope::Instance(id(1))] {
        let cut_off = CutOff::IssuedBefore { scope, before };
        store.put_cut_off(RecordedCutOff { cut_off, at: LAUNCHED_AT.plus(60) }).await.unwrap();
    }
    let quarantine = Quarantine {
        scope: QuarantineScope::Host(host_id(1)),
        reason: "'because' ☃".into(),
        by: "arn:aws:iam::123456789012:user/operator".into(),
        since: LAUNCHED_AT,
    };
    store.put_quarantine(quarantine, QuarantineBasis::Any).await.unwrap();
    let keys = HostKeysChange { instance: id(1), revision: 0, keys: host_keys(1) };
    store.put_host_keys(keys).await.unwrap();
    for (name, value) in [("region", b"{}".to_vec()), ("\u{1}odd ☃", (0..=255).collect()), ("none", vec![])] {
        store.put_setting(SettingChange { name: name.into(), expected: None, value }).await.unwrap();
    }
    let role = Role {
        account: account(),
        name: "managed".parse().unwrap(),
        path: "/service-role/".into(),
        role_id: "AROA00000000000000001".into(),
        description: "for 'agents' ☃".into(),
        created_at: LAUNCHED_AT,
    };
    store.put_role(role).await.unwrap();
    let registration = RegistrationChange {
        instance: id(1),
        expected: None,
        public_key: Some(vec![48; 294]),
        at: LAUNCHED_AT,
        basis: None,
    };
    store.change_registration(registration).await.unwrap();
    let facts = core::array::from_fn(|at| if at == 3 { String::new() } else { format!("fact {at} ☃\u{0}") });
    store.put_node(Node { instance: id(1), pinged_at: LAUNCHED_AT.plus(3), facts }, true).await.unwrap();
    store.put_document(document("d", 1)).await.unwrap();
    store.put_command(sent(1, 0, &[1])).await.unwrap();
    store.put_command(sent(2, 1, &[1, 3])).await.unwrap();
    let pending = invocation(2, 1, InvocationState::Pending, 0);
    let done = command_change(2, vec![(pending, invocation(2, 1, InvocationState::Success, 2))]);
    store.change_commands(vec![done]).await.unwrap();
    let inventory = InventoryChange {
        instance: id(1),
        records: vec![
            inventory_record(InventoryKind::Item, 1, 1),
            inventory_record(InventoryKind::Item, 2, 1),
            inventory_record(InventoryKind::Compliance, 1, 2),
        ],
        unchanged: vec![],
    };
    store.put_inventory(inventory).await.unwrap();
    store.put_session(session(1, 0)).await.unwrap();
    store.put_session(session(2, 1)).await.unwrap();
    store.end_session(session(2, 1).id, ended(9), None).await.unwrap();
    store.put_detector(DetectorChange::new(detector(1, account()))).await.unwrap();
    store.put_detector(DetectorChange::new(detector(2, other_account()))).await.unwrap();
    for kind in [PartKind::Filter, PartKind::IpSet] {
        store.put_detector(part_change(detector(1, account()), detector_part(1, kind, 1, 1))).await.unwrap();
    }
    store.put_findings(vec![finding(1, 1, 1), finding(1, 2, 3)]).await.unwrap();
    store.put_agent_reports(vec![agent_report(1, 1)]).await.unwrap();
}
