//! Cases: launch, find, list.

use std::collections::BTreeMap;
use std::sync::Arc;

use inborn_identity::{HttpEndpoint, HttpTokens, InstanceId};
use tokio::sync::mpsc;

use super::samples::{
    LAUNCHED_AT, account, bare, change, full, host_id, host_join, id, join_token, launch, launch_with_token,
    other_account, terminate,
};
use crate::{
    Attachment, Beat, Change, Conflict, Heard, HostChange, Instance, InstanceQuery, InstanceState, LaunchOutcome,
    LaunchRequest, Living, PackedInstance, PackedTags, Packer, Store, StoreError, TagRemoval, Topic,
};

/// What is asked for in [`launches_at_once_are_answered_one_by_one`], and what is answered.
fn of_every_kind(round: u32) -> Vec<(LaunchRequest, Result<LaunchOutcome, StoreError>)> {
    let new = |request: LaunchRequest| {
        let instances = request.instances.clone();
        (request, Ok(LaunchOutcome::New(instances)))
    };
    let on_host = |number: u32, host: u8| Instance { host: Some(host_id(host)), ..bare(number) };
    let mut all = Vec::new();
    for number in (1..=12).map(|number| 1000 * round + 10 * number) {
        all.push(new(launch(vec![full(number), bare(number + 1)])));
        all.push(new(launch_with_token(vec![full(number + 2), bare(number + 3)], &format!("token {number}"), 1)));
        all.push(new(launch_with_token(vec![on_host(number + 4, 1)], &format!("placed {number}"), 1)));
        if number % 40 == 0 {
            let early = launch_with_token(vec![bare(1)], "early", 1);
            all.push((early.clone(), Ok(LaunchOutcome::Replayed(early.instances))));
            all.push((launch_with_token(vec![bare(number + 5)], "early", 2), Ok(LaunchOutcome::Mismatch)));
            let twice = launch_with_token(vec![bare(number + 6), bare(2)], &format!("never {number}"), 1);
            all.push((twice, Err(Conflict::Exists("an instance").into())));
            let taken = Instance { attachment: Some(Attachment::LoopbackPort(4000)), ..bare(number + 7) };
            all.push((launch(vec![taken]), Err(Conflict::AttachmentTaken.into())));
            all.push((launch(vec![on_host(number + 8, 2)]), Err(Conflict::HostRefused(host_id(2)).into())));
        }
    }
    all
}

/// Many launches at once, some of them out of the ordinary: each has its own answer, and what is launched is there and told once.
pub async fn launches_at_once_are_answered_one_by_one(store: Arc<dyn Store>) {
    let beat = Beat { name: "node".into(), at: LAUNCHED_AT, verifies: 0, address: String::new() };
    store.beat(beat.clone()).await.unwrap();
    for number in [1, 2] {
        store.put_join_token(join_token(number, 60)).await.unwrap();
        store.join_host(host_join(number, number, 0)).await.unwrap();
    }
    store.change_host(host_id(2), HostChange::Drain).await.unwrap();
    store.launch(launch_with_token(vec![bare(1)], "early", 1)).await.unwrap();
    store.launch(launch(vec![bare(2)])).await.unwrap();
    store.change(change(&[2], Change::Attach(Attachment::LoopbackPort(4000), None))).await.unwrap();
    let mut expected: Vec<InstanceId> = vec![id(1), id(2)];
    for round in 1..=3 {
        let all = of_every_kind(round);
        let mut calls = tokio::task::JoinSet::new();
        for (request, answer) in all {
            if let Ok(LaunchOutcome::New(instances)) = &answer {
                expected.extend(instances.iter().map(|instance| instance.id));
            }
            let store = Arc::clone(&store);
            calls.spawn(async move { assert_eq!(store.launch(request.clone()).await, answer, "{request:?}") });
        }
        while let Some(called) = calls.join_next().await {
            called.unwrap();
        }
    }
    expected.sort_unstable();
    let page = store.instances(InstanceQuery { account: None, after: None, limit: 1000 }).await.unwrap();
    let found: Vec<InstanceId> = page.instances.iter().map(|instance| instance.id).collect();
    assert_eq!(found, expected);
    for instance in page.instances.into_iter().filter(|instance| !instance.tags.is_empty()) {
        let as_launched = Instance { reservation_id: String::new(), client_token: None, ..full(0) };
        let found = Instance {
            id: id(0),
            attachment: as_launched.attachment.clone(),
            reservation_id: String::new(),
            client_token: None,
            ..instance
        };
        assert_eq!(found, as_launched);
    }
    store.beat(beat).await.unwrap();
    let mut told: Vec<InstanceId> = Vec::new();
    for entry in store.news(Heard::default()).await.unwrap().entries {
        if let Topic::Instances(ids) = entry.topic {
            told.extend(ids);
        }
    }
    told.sort_unstable();
    // The second was attached.
    expected.insert(2, id(2));
    assert_eq!(told, expected);
}

/// What is launched is found, by id and in the list, exactly as it was given.
pub async fn launches_are_found_again(store: Arc<dyn Store>) {
    assert_eq!(store.instance(id(1)).await, Ok(None));
    let instances = vec![full(1), bare(2)];
    let request = launch(instances);
    let expected = request.instances.clone();
    assert_eq!(store.launch(request).await, Ok(LaunchOutcome::New(expected.clone())));
    for instance in &expected {
        assert_eq!(store.instance(instance.id).await.as_ref(), Ok(&Some(instance.clone())));
    }
    let page = store.instances(InstanceQuery { account: Some(account()), after: None, limit: 1000 }).await.unwrap();
    assert_eq!((page.instances, page.next), (expected, None));
}

/// A launch in which one id is taken launches none, and takes no token.
pub async fn a_launch_is_whole_or_not_at_all(store: Arc<dyn Store>) {
    store.launch(launch(vec![bare(2)])).await.unwrap();
    let request = launch_with_token(vec![bare(1), bare(2), bare(3)], "again", 1);
    let taken = StoreError::Conflict(Conflict::Exists("an instance"));
    assert_eq!(store.launch(request).await, Err(taken.clone()));
    assert_eq!(store.instance(id(1)).await, Ok(None));
    assert_eq!(store.instance(id(2)).await, Ok(Some(bare(2))));
    assert_eq!(store.instance(id(3)).await, Ok(None));
    // The token is free, even for other parameters.
    let request = launch_with_token(vec![bare(4)], "again", 2);
    assert!(matches!(store.launch(request).await, Ok(LaunchOutcome::New(_))));
    // The same id twice in one launch.
    assert_eq!(store.launch(launch(vec![bare(5), bare(5)])).await, Err(taken));
    assert_eq!(store.instance(id(5)).await, Ok(None));
}

/// A repeated token gives the instances as they are now; with other parameters, nothing.
pub async fn a_token_launches_once(store: Arc<dyn Store>) {
    let first = launch_with_token(vec![bare(1), bare(2)], "token", 1);
    assert_eq!(store.launch(first.clone()).await, Ok(LaunchOutcome::New(first.instances.clone())));
    store.change(change(&[2], terminate(5))).await.unwrap();
    let second = launch_with_token(vec![bare(3), bare(4)], "token", 1);
    let Ok(LaunchOutcome::Replayed(instances)) = store.launch(second).await else {
        panic!("the launch was not replayed");
    };
    assert_eq!(instances[0], first.instances[0]);
    assert_eq!((instances[1].id, instances[1].state), (id(2), InstanceState::Terminated));
    assert_eq!(instances.len(), 2);
    let third = launch_with_token(vec![bare(5)], "token", 2);
    assert_eq!(store.launch(third).await, Ok(LaunchOutcome::Mismatch));
    for number in [3, 4, 5] {
        assert_eq!(store.instance(id(number)).await, Ok(None));
    }
    // Another token is another launch, and letter case counts.
    let fourth = launch_with_token(vec![bare(6)], "Token", 1);
    assert!(matches!(store.launch(fourth).await, Ok(LaunchOutcome::New(_))));
}

/// The same token of two accounts makes two launches, even under one reservation id.
pub async fn a_token_is_its_accounts_own(store: Arc<dyn Store>) {
    store.launch(launch_with_token(vec![bare(1)], "token", 1)).await.unwrap();
    let others = Instance { account: other_account(), reservation_id: bare(1).reservation_id, ..bare(2) };
    let request = launch_with_token(vec![others], "token", 9);
    assert_eq!(store.launch(request.clone()).await, Ok(LaunchOutcome::New(request.instances.clone())));
    assert_eq!(store.launch(request.clone()).await, Ok(LaunchOutcome::Replayed(request.instances)));
}

/// Requests that contradict themselves, and the limits of a launch.
pub async fn a_launch_that_makes_no_sense_is_refused(store: Arc<dyn Store>) {
    let good = launch(vec![bare(1)]);
    let altered = |alter: fn(&mut Instance)| {
        let mut request = good.clone();
        alter(&mut request.instances[0]);
        request
    };
    for request in [
        LaunchRequest { instances: vec![], ..good.clone() },
        LaunchRequest { account: other_account(), ..good.clone() },
        LaunchRequest { client_token: Some("token".into()), ..good.clone() },
        altered(|instance| instance.state = InstanceState::Stopped),
        altered(|instance| instance.terminated_at = Some(instance.launch_time)),
        altered(|instance| instance.reservation_id.push('x')),
        altered(|instance| instance.client_token = Some("token".into())),
        launch((0..1001).map(bare).collect()),
    ] {
        assert!(matches!(store.launch(request).await, Err(StoreError::Invalid(_))));
    }
    assert_eq!(store.instance(id(1)).await, Ok(None));
    for count in [999, 1000] {
        let request = launch((0..count).map(|number| bare(count * 1000 + number)).collect());
        assert!(matches!(store.launch(request).await, Ok(LaunchOutcome::New(_))), "{count}");
    }
}

/// Instances of one launch come back by their index, whatever their ids.
pub async fn a_launch_is_ordered_by_its_index(store: Arc<dyn Store>) {
    let request = launch_with_token(vec![bare(9), bare(3), bare(6)], "token", 1);
    let expected = request.instances.clone();
    let backwards = LaunchRequest { instances: expected.iter().rev().cloned().collect(), ..request.clone() };
    assert_eq!(store.launch(backwards).await, Ok(LaunchOutcome::New(expected.clone())));
    assert_eq!(store.launch(request).await, Ok(LaunchOutcome::Replayed(expected)));
}

/// Pages of any size give every instance once, in order, each account its own.
pub async fn pages_have_no_gaps(store: Arc<dyn Store>) {
    for number in [5, 1, 4, 2, 3] {
        store.launch(launch(vec![bare(number)])).await.unwrap();
    }
    store.launch(launch(vec![Instance { account: other_account(), ..bare(6) }])).await.unwrap();
    for limit in 1..=7 {
        for (whose, expected) in [(Some(account()), 1..=5), (Some(other_account()), 6..=6), (None, 1..=6)] {
            let mut query = InstanceQuery { account: whose, after: None, limit };
            let mut ids = Vec::new();
            loop {
                let page = store.instances(query).await.unwrap();
                assert!(page.instances.len() <= limit as usize);
                ids.extend(page.instances.iter().map(|instance| instance.id));
                if page.next.is_none() {
                    break;
                }
                assert_eq!(page.next.as_ref(), ids.last());
                query.after = page.next;
            }
            assert_eq!(ids, expected.map(id).collect::<Vec<_>>(), "{whose:?} by {limit}");
        }
    }
}

/// A page has 1 to 1000 instances.
pub async fn page_limits(store: Arc<dyn Store>) {
    for (limit, fits) in [(0, false), (1, true), (999, true), (1000, true), (1001, false), (u32::MAX, false)] {
        let page = store.instances(InstanceQuery { account: None, after: None, limit }).await;
        assert_eq!(page.is_ok(), fits, "{limit}");
    }
}

/// Those that are there come back once each, ordered by id.
pub async fn instances_are_found_by_their_ids(store: Arc<dyn Store>) {
    store.launch(launch(vec![full(2), bare(1)])).await.unwrap();
    let whole = async |number| store.instance(id(number)).await.unwrap().unwrap();
    let expected = vec![whole(1).await, whole(2).await];
    assert_eq!(store.instances_by_id(vec![id(2), id(9), id(1), id(2)]).await, Ok(expected));
    assert_eq!(store.instances_by_id(vec![]).await, Ok(vec![]));
    for (count, is_good) in [(999, true), (1000, true), (1001, false)] {
        assert_eq!(store.instances_by_id((0..count).map(id).collect()).await.is_ok(), is_good, "{count}");
    }
}

/// What a store sends of all that live, put together again.
async fn living(store: &Arc<dyn Store>) -> Vec<Instance> {
    let packer = Arc::new(Packer::default());
    let (sender, mut parts) = mpsc::channel(1);
    let mut found: BTreeMap<InstanceId, PackedInstance> = BTreeMap::new();
    let (sent, ()) = tokio::join!(store.living(Arc::clone(&packer), sender), async {
        while let Some(part) = parts.recv().await {
            match part {
                Living::Expected(_) => {}
                Living::Instances(all) => {
                    for instance in all {
                        assert!(found.insert(instance.id(), instance).is_none(), "each comes once");
                    }
                }
                Living::Tags(all) => {
                    for (id, more) in all {
                        let Some(instance) = found.get_mut(&id) else { continue };
                        let mut tags: PackedTags = instance.tags().collect();
                        tags.extend(&more);
                        instance.set_tags(&tags);
                    }
                }
                Living::UserData(all) => {
                    for (id, data) in all {
                        let Some(instance) = found.get_mut(&id) else { continue };
                        *instance = packer.with_user_data(instance, &data);
                    }
                }
            }
        }
    });
    assert_eq!(sent, Ok(()));
    found.values().map(PackedInstance::unpack).collect()
}

/// Instances each of which differs from the one before in something that many have in common.
fn of_many_kinds() -> Vec<Instance> {
    let changes: [fn(&mut Instance); 14] = [
        |one| one.zone = "us-east-1f".parse().unwrap(),
        |one| one.image_id = "ami-other".to_owned(),
        |one| one.instance_type = "m5.large".to_owned(),
        |one| one.placement_group = Some(String::new()),
        |one| one.placement_group = Some("group".to_owned()),
        |one| one.placement_partition = Some(7),
        |one| one.metadata_options.http_tokens = HttpTokens::Optional,
        |one| one.metadata_options.http_endpoint = HttpEndpoint::Disabled,
        |one| one.metadata_options.hop_limit = 2,
        |one| one.metadata_options.ipv6 = true,
        |one| one.metadata_options.tags = true,
        |one| one.key_name = Some("key".to_owned()),
        |one| one.public_key = Some("ssh-ed25519 key".to_owned()),
        |one| one.lease = true,
    ];
    let of = |(number, change): (u32, fn(&mut Instance))| {
        let mut changed = bare(200 + 2 * number);
        change(&mut changed);
        [changed, bare(201 + 2 * number)]
    };
    (0..).zip(changes).flat_map(of).collect()
}

/// All that are not terminated are sent, whole, whatever has become of them since their launch.
pub async fn all_that_live_are_sent(store: Arc<dyn Store>) {
    assert_eq!(living(&store).await, []);
    let other = Instance { account: other_account(), ..bare(9) };
    let tagged = |number: u32| Instance { tags: [("k".to_owned(), number.to_string())].into(), ..bare(number) };
    for launched in [vec![full(1), bare(2), tagged(3), tagged(4)], vec![other], (10..60).map(tagged).collect()] {
        store.launch(launch(launched)).await.unwrap();
    }
    store.launch(launch_with_token(vec![bare(7)], "token ☃", 1)).await.unwrap();
    // One after the other that differ in one thing, and one that does not.
    let kinds = of_many_kinds();
    store.launch(launch(kinds.clone())).await.unwrap();
    store.change(change(&[4], terminate(5))).await.unwrap();
    // Tags that are written anew lie elsewhere than those that were there from the beginning.
    let tags = [("k".to_owned(), "new".to_owned()), ("a".to_owned(), String::new())];
    store.change(change(&[3, 12, 59], Change::Tags { set: tags.into(), remove: Vec::new() })).await.unwrap();
    store.change(change(&[10], Change::Detach)).await.unwrap();
    let mut expected =
        store.instances(InstanceQuery { account: None, after: None, limit: 1000 }).await.unwrap().instances;
    expected.retain(|instance| instance.state != InstanceState::Terminated);
    assert_eq!(expected.len(), 55 + kinds.len());
    assert_eq!(living(&store).await, expected);
    // Many, of which some have no tags, some others than at first, and some are gone.
    let more = |number: u32| Instance {
        tags: (0..number % 4).map(|key| (format!("k{key}"), number.to_string())).collect(),
        ..bare(number)
    };
    for first in [1000, 1100, 1300] {
        store.launch(launch((first..first + 100).map(more).collect())).await.unwrap();
    }
    let every = |step: usize| -> Vec<u32> { (1000..1100).chain(1300..1400).step_by(step).collect() };
    let set = |key: &str| Change::Tags { set: [(key.to_owned(), "later".to_owned())].into(), remove: Vec::new() };
    store.change(change(&every(7), set("k1"))).await.unwrap();
    store.change(change(&every(11), set("a"))).await.unwrap();
    store
        .change(change(
            &every(5),
            Change::Tags { set: [].into(), remove: vec![TagRemoval { key: "k0".to_owned(), value: None }] },
        ))
        .await
        .unwrap();
    store.change(change(&every(3), terminate(6))).await.unwrap();
    let mut expected =
        store.instances(InstanceQuery { account: None, after: None, limit: 1000 }).await.unwrap().instances;
    expected.retain(|instance| instance.state != InstanceState::Terminated);
    assert_eq!(expected.len(), 55 + kinds.len() + 300 - every(3).len());
    assert_eq!(living(&store).await, expected);
    // Who stops listening stops it, and nothing is wrong.
    let (sender, parts) = mpsc::channel(1);
    drop(parts);
    assert_eq!(store.living(Arc::default(), sender).await, Ok(()));
}
