//! Cases: the change feed and its nodes.

use std::sync::Arc;

use inborn_identity::{RoleName, UnixTime};

use super::samples::{
    LAUNCHED_AT, account, bare, change, command, command_change, document, ended, epoch, host_id, host_join, id,
    invocation, join_token, launch, launch_with_token, operator, sent, session, terminate,
};
use crate::{
    Beat, Change, CommandChange, CommandState, CutOff, CutOffScope, EpochState, Heard, HostChange, InvocationState,
    News, Node, NodeId, RecordedCutOff, RegionNode, RegistrationChange, Role, SettingChange, Store, StoreError, Topic,
};

async fn beat(store: &Arc<dyn Store>, at: UnixTime) {
    assert_eq!(store.beat(Beat { name: "one ☃".into(), at, verifies: 7, address: "https://é:1".into() }).await, Ok(()));
}

/// What is told behind these positions, and the positions behind it.
async fn hear(store: &Arc<dyn Store>, heard: &mut Heard) -> Vec<Topic> {
    let news: News = store.news(heard.clone()).await.unwrap();
    assert!(!news.missed);
    *heard = news.heard(None);
    news.entries.into_iter().map(|entry| entry.topic).collect()
}

/// Before its first beat a program is no node: nobody hears of what it does, and so all is read after it.
pub async fn nobody_hears_of_who_has_not_beaten(store: Arc<dyn Store>) {
    store.launch(launch(vec![bare(1)])).await.unwrap();
    assert_eq!(store.news(Heard::default()).await, Ok(News::default()));
}

/// A node is known from its first beat on, by the latest thing it said.
pub async fn nodes_beat(store: Arc<dyn Store>) {
    beat(&store, LAUNCHED_AT).await;
    beat(&store, LAUNCHED_AT.plus(7)).await;
    let nodes = store.news(Heard::default()).await.unwrap().nodes;
    let node = RegionNode {
        id: store.node(),
        name: "one ☃".into(),
        started_at: LAUNCHED_AT,
        beaten_at: LAUNCHED_AT.plus(7),
        verifies: 7,
        settled: 0,
        forgotten: 0,
        address: "https://é:1".into(),
    };
    assert_eq!(nodes, [node]);
    let long = Beat { name: "n".repeat(Beat::NAME_MAX + 1), at: LAUNCHED_AT, verifies: 0, address: String::new() };
    assert!(matches!(store.beat(long).await, Err(StoreError::Invalid(_))));
}

/// Every change that other nodes hold in memory is told, once it is settled only once, and what came to nothing is not told.
pub async fn changes_are_told(store: Arc<dyn Store>) {
    beat(&store, LAUNCHED_AT).await;
    let mut heard = Heard::default();
    store.launch(launch(vec![bare(1), bare(2)])).await.unwrap();
    store.launch(launch_with_token(vec![bare(3)], "token", 1)).await.unwrap();
    let told = [Topic::Instances(vec![id(1), id(2)]), Topic::Instances(vec![id(3)])];
    assert_eq!(hear(&store, &mut heard).await, told);
    assert_eq!(hear(&store, &mut heard).await, told, "nobody has said yet that it is settled");
    beat(&store, LAUNCHED_AT.plus(1)).await;
    hear(&store, &mut heard).await;
    assert_eq!(hear(&store, &mut heard).await, []);

    // What comes to nothing.
    store.launch(launch_with_token(vec![bare(3)], "token", 1)).await.unwrap();
    store.launch(launch_with_token(vec![bare(4)], "token", 2)).await.unwrap();
    store.launch(launch(vec![bare(1)])).await.unwrap_err();
    store.change(change(&[1], Change::Detach)).await.unwrap();
    store.change(change(&[9], Change::Detach)).await.unwrap_err();
    assert_eq!(hear(&store, &mut heard).await, []);

    let at = LAUNCHED_AT.plus(60);
    store.change(change(&[1, 2], terminate(60))).await.unwrap();
    store.change(change(&[3], Change::Stop { at, reason: None, cut_off: true })).await.unwrap();
    let older = RecordedCutOff { cut_off: CutOff::OlderBoot { instance: id(3), below: 2 }, at };
    let told = [Topic::Instances(vec![id(1), id(2)]), Topic::Instances(vec![id(3)]), Topic::CutOff(older)];
    assert_eq!(hear(&store, &mut heard).await, told);
    beat(&store, at).await;
    hear(&store, &mut heard).await;

    let all = RecordedCutOff { cut_off: CutOff::IssuedBefore { scope: CutOffScope::All, before: at }, at };
    let name: RoleName = "managed".parse().unwrap();
    let role = Role {
        account: account(),
        name: name.clone(),
        path: "/".into(),
        role_id: "AROA00000000000000001".into(),
        description: String::new(),
        created_at: at,
    };
    let registration =
        RegistrationChange { instance: id(3), expected: None, public_key: Some(vec![1]), at, basis: None };
    store.put_cut_off(all).await.unwrap();
    store.put_epoch(epoch(1, EpochState::Sealing)).await.unwrap();
    store.put_operator(operator(1)).await.unwrap();
    store.put_role(role).await.unwrap();
    store.delete_role(account(), name.clone()).await.unwrap();
    store.delete_role(account(), name).await.unwrap();
    store.change_registration(registration).await.unwrap();
    store.put_setting(SettingChange { name: "s".into(), expected: None, value: vec![] }).await.unwrap();
    store.put_document(document("d", 1)).await.unwrap();
    store.delete_document(account(), "d".into()).await.unwrap();
    store.put_join_token(join_token(1, 60)).await.unwrap();
    store.join_host(host_join(1, 1, 0)).await.unwrap();
    store.change_host(host_id(1), HostChange::Seen(LAUNCHED_AT.plus(9))).await.unwrap();
    store.change_host(host_id(2), HostChange::Evict).await.unwrap();
    store.change_host(host_id(1), HostChange::Evict).await.unwrap();
    store.delete_document(account(), "d".into()).await.unwrap();
    let told = [
        Topic::CutOff(all),
        Topic::Epochs,
        Topic::Operators,
        Topic::Roles,
        Topic::Roles,
        Topic::Registration(id(3)),
        Topic::Setting("s".into()),
        Topic::Documents,
        Topic::Documents,
        Topic::Hosts,
        Topic::Hosts,
    ];
    assert_eq!(hear(&store, &mut heard).await, told);
    let own = Heard { except: Some(store.node()), ..Heard::default() };
    assert_eq!(store.news(own).await.unwrap().entries, [], "nobody has to hear of its own");
}

/// What becomes of commands is told with the machines on which it has changed; what an agent says, if it is something else than before.
pub async fn changes_of_commands_and_agents_are_told(store: Arc<dyn Store>) {
    beat(&store, LAUNCHED_AT).await;
    store.launch(launch(vec![bare(1)])).await.unwrap();
    beat(&store, LAUNCHED_AT.plus(1)).await;
    let mut heard = Heard::default();
    hear(&store, &mut heard).await;

    let one = sent(1, 10, &[1, 2]);
    store.put_command(one.clone()).await.unwrap();
    store.put_command(one.clone()).await.unwrap_err();
    let mut over = sent(2, 10, &[1]);
    over.command.progress.state = CommandState::Success;
    store.put_command(over).await.unwrap();
    let running = |machine| invocation(1, machine, InvocationState::InProgress, 0);
    let [first, second] = [one.invocations[0].clone(), one.invocations[1].clone()];
    let taken = command_change(1, vec![(first, running(1)), (running(2), running(2))]);
    store.change_commands(vec![taken]).await.unwrap();
    let refused = command_change(1, vec![(running(2), running(2))]);
    let of_nobody = command_change(9, vec![(second.clone(), second)]);
    let of_nobody = CommandChange { invocations: vec![], ..of_nobody };
    let cancelled = CommandChange { is_cancelled: true, ..command_change(1, vec![]) };
    store.change_commands(vec![refused, of_nobody, cancelled.clone()]).await.unwrap();
    // What is so already nobody has to hear of.
    let again = command_change(1, vec![(running(1), running(1))]);
    store.change_commands(vec![cancelled.clone(), again]).await.unwrap();
    store.change_commands(vec![CommandChange { invocations: vec![], ..cancelled }]).await.unwrap();

    let facts = |fact: &str| core::array::from_fn(|index| format!("{fact}{index}"));
    for (fact, seconds, is_told) in [("a", 1, true), ("a", 2, true), ("b", 3, true), ("b", 4, true), ("c", 5, false)] {
        let node = Node { instance: id(1), pinged_at: LAUNCHED_AT.plus(seconds), facts: facts(fact) };
        store.put_node(node.clone(), is_told).await.unwrap();
        assert_eq!(store.nodes_by_id(vec![id(2), id(1), id(1)]).await, Ok(vec![node]));
    }
    store.tell_of_node(id(2)).await.unwrap();
    let open = session(1, 0);
    store.put_session(open.clone()).await.unwrap();
    for is_carried in [true, false] {
        let (from, to) = (open.carrier, NodeId::new(u64::MAX));
        assert_eq!(store.carry_session(open.id.clone(), from, to).await, Ok(is_carried));
    }
    for was_open in [true, false] {
        assert_eq!(store.end_session(open.id.clone(), ended(5), None).await, Ok(was_open));
    }
    let told = |instances| Topic::Command { id: command(1, 0).id, instances };
    let of_session = [Topic::SessionCarried(open.id.clone()), Topic::SessionEnded(open.id)];
    let nodes = [1, 1, 2].map(|number| Topic::Node(id(number)));
    let told = [told(vec![]), told(vec![id(1)]), told(vec![])].into_iter().chain(nodes).chain(of_session);
    let told: Vec<Topic> = told.collect();
    assert_eq!(hear(&store, &mut heard).await, told);
}

/// Who comes back after what it has not heard was forgotten is told that it has missed something.
pub async fn what_is_forgotten_was_missed(store: Arc<dyn Store>) {
    beat(&store, LAUNCHED_AT).await;
    store.launch(launch(vec![bare(1)])).await.unwrap();
    beat(&store, LAUNCHED_AT.plus(100)).await;
    let news = store.news(Heard::default()).await.unwrap();
    let before = Heard::default();
    let after = news.heard(None);
    let forget = |entries, nodes| store.forget_news(LAUNCHED_AT.plus(entries), LAUNCHED_AT.plus(nodes));
    assert_eq!(forget(0, 0).await, Ok(0));
    assert!(!store.news(before.clone()).await.unwrap().missed);
    assert_eq!(forget(1, 100).await, Ok(1));
    assert!(store.news(before.clone()).await.unwrap().missed);
    assert!(!store.news(after.clone()).await.unwrap().missed);
    // A node that is gone is one of which nobody knows what it did last.
    assert_eq!(forget(1, 101).await, Ok(0));
    assert!(!store.news(before).await.unwrap().missed, "who has read everything since has missed nothing");
    assert!(store.news(after).await.unwrap().missed);
}
