//! Cases: what can be done to instances, and what cannot.

use std::collections::BTreeMap;
use std::sync::Arc;

use inborn_identity::{HttpEndpoint, HttpTokens, MacAddress, MetadataOptions};

use super::samples::{
    LAUNCHED_AT, account, bare, change, id, launch, launch_with_token, other_account, reboot, start, stop, terminate,
};
use crate::{
    Attachment, Change, ChangeRequest, Conflict, CutOff, Instance, InstanceState, LaunchOutcome, MetadataOptionsChange,
    OwnMac, RecordedCutOff, Store, StoreError, TagRemoval, UserData,
};

async fn launched(store: &Arc<dyn Store>, numbers: impl IntoIterator<Item = u32>) {
    for number in numbers {
        store.launch(launch(vec![bare(number)])).await.unwrap();
    }
}

/// Does one change to instance 1 and gives it as it is after, having checked that the store gives the same.
async fn changed(store: &Arc<dyn Store>, what: Change) -> Instance {
    let before = store.instance(id(1)).await.unwrap().unwrap();
    let changes = store.change(change(&[1], what)).await.unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].before, before);
    assert_eq!(store.instance(id(1)).await.as_ref(), Ok(&Some(changes[0].after.clone())));
    changes[0].after.clone()
}

/// Running, rebooted, stopped, started, terminated: times and generations on the way, and what repeats do.
pub async fn the_life_of_an_instance(store: Arc<dyn Store>) {
    let instance = Instance { attachment: Some(Attachment::LoopbackPort(4000)), ..bare(1) };
    store.launch(launch(vec![instance.clone()])).await.unwrap();
    let at = |seconds| LAUNCHED_AT.plus(seconds);

    let rebooted = Instance { boot_generation: 2, boot_time: at(10), ..instance.clone() };
    assert_eq!(changed(&store, reboot(10)).await, rebooted);
    assert_eq!(changed(&store, start(15)).await, rebooted, "starting what runs changes nothing");
    let stopped = Instance { boot_generation: 3, state: InstanceState::Stopped, ..rebooted };
    assert_eq!(changed(&store, stop(20)).await, stopped);
    assert_eq!(changed(&store, stop(25)).await, stopped, "stopping what is stopped changes nothing");
    let started = Instance {
        boot_generation: 4,
        state: InstanceState::Running,
        launch_time: at(30),
        boot_time: at(30),
        ..stopped.clone()
    };
    assert_eq!(changed(&store, start(30)).await, started);

    let Change::Terminate { reason, .. } = terminate(40) else { unreachable!() };
    let terminated = Instance {
        state: InstanceState::Terminated,
        terminated_at: Some(at(40)),
        state_reason: reason,
        attachment: None,
        ..started
    };
    assert_eq!(changed(&store, terminate(40)).await, terminated);
    assert_eq!(changed(&store, terminate(50)).await, terminated, "the first end is the end");
}

/// The conflicts name the instance, its state and the change; nothing changes.
pub async fn states_that_forbid_a_change(store: Arc<dyn Store>) {
    launched(&store, [1, 2]).await;
    store.change(change(&[1], stop(1))).await.unwrap();
    store.change(change(&[2], terminate(1))).await.unwrap();
    let options = Change::MetadataOptions(MetadataOptionsChange { tags: Some(true), ..Default::default() });
    let attach = Change::Attach(Attachment::LoopbackPort(4000), None);
    for (number, state, forbidden, word) in [
        (1, InstanceState::Stopped, reboot(2), "reboot"),
        (2, InstanceState::Terminated, reboot(2), "reboot"),
        (2, InstanceState::Terminated, start(2), "start"),
        (2, InstanceState::Terminated, stop(2), "stop"),
        (2, InstanceState::Terminated, options, "a change of its metadata options"),
        (2, InstanceState::Terminated, attach, "attach"),
    ] {
        let before = store.instance(id(number)).await;
        let conflict = Conflict::WrongState { instance: id(number), state, change: word };
        assert_eq!(store.change(change(&[number], forbidden)).await, Err(conflict.into()), "{word}");
        assert_eq!(store.instance(id(number)).await, before);
    }
}

/// The highest generation is the last: a stop beyond it is refused, a termination is not.
pub async fn boot_generations_grow_and_never_wrap(store: Arc<dyn Store>) {
    store.launch(launch(vec![Instance { boot_generation: u32::MAX - 1, ..bare(1) }])).await.unwrap();
    assert_eq!(changed(&store, reboot(1)).await.boot_generation, u32::MAX);
    for more in [reboot(2), stop(2)] {
        assert!(matches!(store.change(change(&[1], more)).await, Err(StoreError::Invalid(_))));
    }
    assert_eq!(changed(&store, terminate(3)).await.state, InstanceState::Terminated);
}

/// One cut-off for each instance that ended, made at its end; none for what had ended before.
pub async fn termination_cuts_off_in_the_same_step(store: Arc<dyn Store>) {
    launched(&store, [1, 2, 3]).await;
    store.change(change(&[2], terminate(10))).await.unwrap();
    store.change(change(&[1, 2], terminate(20))).await.unwrap();
    let dead = |number, seconds| RecordedCutOff {
        cut_off: CutOff::Dead { instance: id(number) },
        at: LAUNCHED_AT.plus(seconds),
    };
    assert_eq!(store.cut_offs().await, Ok(vec![dead(1, 20), dead(2, 10)]));
    // One that is absent: nobody ends, nothing is cut off.
    assert_eq!(store.change(change(&[3, 9], terminate(30))).await, Err(StoreError::NotFound(vec![id(9)])));
    assert_eq!(store.cut_offs().await.unwrap().len(), 2);
}

/// Stop, start and reboot cut off earlier boots if they are told to, and only if they do anything.
pub async fn boots_cut_off_when_told(store: Arc<dyn Store>) {
    launched(&store, [1]).await;
    let at = |seconds| LAUNCHED_AT.plus(seconds);
    changed(&store, reboot(1)).await;
    changed(&store, Change::Start { at: at(2), cut_off: true }).await;
    assert_eq!(store.cut_offs().await, Ok(vec![]));
    for (what, below, seconds) in [
        (Change::Reboot { at: at(3), cut_off: true }, 3, 3),
        (Change::Stop { at: at(4), reason: None, cut_off: true }, 4, 4),
        (Change::Stop { at: at(5), reason: None, cut_off: true }, 4, 4),
        (Change::Start { at: at(6), cut_off: true }, 5, 6),
    ] {
        changed(&store, what).await;
        let cut_off = CutOff::OlderBoot { instance: id(1), below };
        assert_eq!(store.cut_offs().await, Ok(vec![RecordedCutOff { cut_off, at: at(seconds) }]));
    }
}

/// A change of several: in the order named, each once; if one cannot, none is changed.
pub async fn changes_are_for_all_or_none(store: Arc<dyn Store>) {
    launched(&store, [1, 2, 3]).await;
    let changes = store.change(change(&[3, 1, 3], reboot(1))).await.unwrap();
    let after: Vec<_> = changes.iter().map(|changed| (changed.after.id, changed.after.boot_generation)).collect();
    assert_eq!(after, [(id(3), 2), (id(1), 2)]);

    store.change(change(&[2], stop(2))).await.unwrap();
    let conflict = Conflict::WrongState { instance: id(2), state: InstanceState::Stopped, change: "reboot" };
    assert_eq!(store.change(change(&[1, 2, 3], reboot(3))).await, Err(conflict.into()));
    let absent = store.change(change(&[9, 1, 8, 9], reboot(3))).await;
    assert_eq!(absent, Err(StoreError::NotFound(vec![id(9), id(8)])));
    for number in [1, 3] {
        assert_eq!(store.instance(id(number)).await.unwrap().unwrap().boot_generation, 2);
    }
}

/// Who asks for another account's instance hears that there is none.
pub async fn other_accounts_instances_are_absent(store: Arc<dyn Store>) {
    launched(&store, [1]).await;
    let request = ChangeRequest { account: other_account(), ..change(&[1], terminate(1)) };
    assert_eq!(store.change(request).await, Err(StoreError::NotFound(vec![id(1)])));
    assert_eq!(store.instance(id(1)).await, Ok(Some(bare(1))));
}

/// A change names 1 to 1000 instances.
pub async fn change_limits(store: Arc<dyn Store>) {
    store.launch(launch((0..1000).map(bare).collect())).await.unwrap();
    let numbers: Vec<u32> = (0..1001).collect();
    for (count, fits) in [(0, false), (1, true), (999, true), (1000, true), (1001, false)] {
        let outcome = store.change(change(&numbers[..count], reboot(1))).await;
        assert_eq!(outcome.is_ok(), fits, "{count}");
        assert!(fits || matches!(outcome, Err(StoreError::Invalid(_))), "{count}");
    }
}

/// Options that are not named stay as they are.
pub async fn metadata_options_change_one_by_one(store: Arc<dyn Store>) {
    launched(&store, [1]).await;
    let none = MetadataOptionsChange::default();
    let mut expected = MetadataOptions::default();
    assert_eq!(changed(&store, Change::MetadataOptions(none)).await.metadata_options, expected);
    expected.http_tokens = HttpTokens::Optional;
    let step = MetadataOptionsChange { http_tokens: Some(HttpTokens::Optional), ..none };
    assert_eq!(changed(&store, Change::MetadataOptions(step)).await.metadata_options, expected);
    expected.http_endpoint = HttpEndpoint::Disabled;
    let step = MetadataOptionsChange { http_endpoint: Some(HttpEndpoint::Disabled), ..none };
    assert_eq!(changed(&store, Change::MetadataOptions(step)).await.metadata_options, expected);
    (expected.hop_limit, expected.ipv6, expected.tags) = (64, true, true);
    let step = MetadataOptionsChange { hop_limit: Some(64), ipv6: Some(true), tags: Some(true), ..none };
    assert_eq!(changed(&store, Change::MetadataOptions(step)).await.metadata_options, expected);
    assert_eq!(changed(&store, stop(1)).await.metadata_options, expected);
}

/// User data changes while the instance is stopped, and only then; empty is not none.
pub async fn user_data_changes_while_stopped(store: Arc<dyn Store>) {
    launched(&store, [1]).await;
    let data = |bytes: &[u8]| Some(UserData::new(bytes.to_vec()).unwrap());
    let refused = |state| {
        let change = "a change of its user data";
        Err(Conflict::WrongState { instance: id(1), state, change }.into())
    };
    let ask = async |data| store.change(change(&[1], Change::UserData(data))).await.map(drop);
    assert_eq!(ask(data(b"x")).await, refused(InstanceState::Running));
    changed(&store, stop(1)).await;
    for wanted in [data(b"first"), data(&[7; UserData::BYTES_MAX]), data(b""), None, None, data(b"last")] {
        assert_eq!(changed(&store, Change::UserData(wanted.clone())).await.user_data, wanted);
    }
    assert_eq!(changed(&store, start(2)).await.user_data, data(b"last"));
    changed(&store, terminate(3)).await;
    assert_eq!(ask(None).await, refused(InstanceState::Terminated));
}

/// Tags are taken away (by key, or by key and value), then set, also on what is terminated.
pub async fn tags_are_set_and_removed(store: Arc<dyn Store>) {
    launched(&store, [1]).await;
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let removal = |key: &str, value: Option<&str>| TagRemoval { key: key.into(), value: value.map(Into::into) };
    let set = |pairs| Change::Tags { set: map(pairs), remove: vec![] };
    let tags = changed(&store, set(&[("a", "1"), ("b", ""), ("c", "3")])).await.tags;
    assert_eq!(tags, map(&[("a", "1"), ("b", ""), ("c", "3")]));
    let tags = changed(&store, set(&[("a", "2"), ("A", "other")])).await.tags;
    assert_eq!(tags, map(&[("A", "other"), ("a", "2"), ("b", ""), ("c", "3")]));
    let remove = vec![removal("a", Some("1")), removal("b", Some("")), removal("c", None), removal("absent", None)];
    let tags = changed(&store, Change::Tags { set: BTreeMap::new(), remove }).await.tags;
    assert_eq!(tags, map(&[("A", "other"), ("a", "2")]));
    changed(&store, terminate(1)).await;
    let both = Change::Tags { set: map(&[("a", "new")]), remove: vec![removal("a", None), removal("A", None)] };
    assert_eq!(changed(&store, both).await.tags, map(&[("a", "new")]));
}

/// The interface that an attachment tells of goes with it, and two instances may have the same: networks differ.
pub async fn interfaces_go_with_attachments(store: Arc<dyn Store>) {
    launched(&store, [1, 2]).await;
    let mac = |last| Some(OwnMac::Told(MacAddress::local([0, 0x5e, 0, 0x53, last])));
    let attach = |port, mac| Change::Attach(Attachment::LoopbackPort(port), mac);
    assert_eq!(changed(&store, attach(4000, mac(1))).await.mac, mac(1));
    assert_eq!(changed(&store, attach(4000, mac(2))).await.mac, mac(2));
    store.change(change(&[2], attach(4001, mac(2)))).await.unwrap();
    let taken = Err(StoreError::Conflict(Conflict::AttachmentTaken));
    assert_eq!(store.change(change(&[2], attach(4000, mac(3)))).await, taken, "whatever its interface");
    assert_eq!(changed(&store, Change::Detach).await.mac, None);
    assert_eq!(changed(&store, attach(4000, mac(1))).await.mac, mac(1));
    assert_eq!(changed(&store, attach(4000, None)).await.mac, None);
    assert_eq!(store.change(change(&[2], terminate(1))).await.unwrap()[0].after.mac, None);
}

/// Every kind of attachment comes back as it went in.
pub async fn attachments_come_back(store: Arc<dyn Store>) {
    store.launch(launch(vec![bare(1)])).await.unwrap();
    let mark = || Some("boot/1.2".to_owned());
    let mac = MacAddress::local([0, 0x5e, 0, 0x53, 1]);
    for attachment in [
        Attachment::LoopbackPort(u16::MAX),
        Attachment::Namespace { path: "/run/netns/web 1".into(), mark: None },
        Attachment::Namespace { path: "/run/netns/web 1".into(), mark: mark() },
        Attachment::Process { pid: u32::MAX, mark: "boot/1".into() },
        Attachment::Interface { name: "tap0".into(), mark: None },
        Attachment::Interface { name: "tap0".into(), mark: mark() },
        Attachment::Vsock(3),
    ] {
        for mac in [None, Some(OwnMac::Found(mac)), Some(OwnMac::Told(mac))] {
            changed(&store, Change::Attach(attachment.clone(), mac)).await;
            let found = store.instance(id(1)).await.unwrap().unwrap();
            assert_eq!((found.attachment.as_ref(), found.mac), (Some(&attachment), mac));
        }
    }
}

/// Two instances never share an attachment; one that is let go, or whose instance ended, is free.
pub async fn attachments_are_nobody_elses(store: Arc<dyn Store>) {
    launched(&store, [1, 2]).await;
    let attach = |port| Change::Attach(Attachment::LoopbackPort(port), None);
    let taken = || Err(StoreError::Conflict(Conflict::AttachmentTaken));
    assert_eq!(changed(&store, attach(4000)).await.attachment, Some(Attachment::LoopbackPort(4000)));
    assert_eq!(changed(&store, attach(4000)).await.attachment, Some(Attachment::LoopbackPort(4000)));
    assert_eq!(store.change(change(&[2], attach(4000))).await, taken());
    assert_eq!(store.change(change(&[1, 2], attach(4001))).await, taken());
    let third = Instance { attachment: Some(Attachment::LoopbackPort(4000)), ..bare(3) };
    assert_eq!(store.launch(launch(vec![third.clone()])).await.map(drop), Err(Conflict::AttachmentTaken.into()));
    assert_eq!(store.instance(id(3)).await, Ok(None));

    assert_eq!(changed(&store, attach(4001)).await.attachment, Some(Attachment::LoopbackPort(4001)));
    store.change(change(&[2], attach(4000))).await.unwrap();
    assert_eq!(changed(&store, Change::Detach).await.attachment, None);
    assert_eq!(changed(&store, Change::Detach).await.attachment, None);
    store.change(change(&[2], terminate(1))).await.unwrap();
    store.launch(launch(vec![third])).await.unwrap();
    changed(&store, attach(4001)).await;
}

/// Only what ended before the moment goes, a thousand at a time.
pub async fn purge_forgets_what_ended_long_ago(store: Arc<dyn Store>) {
    launched(&store, [1, 2, 3, 4]).await;
    for (number, seconds) in [(1, 10), (2, 11), (3, 12)] {
        store.change(change(&[number], terminate(seconds))).await.unwrap();
    }
    assert_eq!(store.purge(LAUNCHED_AT.plus(10)).await, Ok(0));
    assert_eq!(store.purge(LAUNCHED_AT.plus(12)).await, Ok(2));
    assert_eq!(store.purge(LAUNCHED_AT.plus(12)).await, Ok(0));
    for (number, remains) in [(1, false), (2, false), (3, true), (4, true)] {
        assert_eq!(store.instance(id(number)).await.unwrap().is_some(), remains, "{number}");
    }
    // The dead stay cut off: their credentials may outlive their record.
    assert_eq!(store.cut_offs().await.unwrap().len(), 3);

    for batch in [1000..2000, 2000..2001] {
        let numbers: Vec<u32> = batch.clone().collect();
        store.launch(launch(batch.map(bare).collect())).await.unwrap();
        store.change(change(&numbers, terminate(20))).await.unwrap();
    }
    for expected in [1000, 2, 0] {
        assert_eq!(store.purge(LAUNCHED_AT.plus(21)).await, Ok(expected));
    }
}

/// A client token lives as long as one of its instances is remembered.
pub async fn purge_forgets_tokens_with_their_last_instance(store: Arc<dyn Store>) {
    let request = launch_with_token(vec![bare(1), bare(2)], "token", 1);
    store.launch(request).await.unwrap();
    let again = launch_with_token(vec![bare(3)], "token", 2);
    store.change(change(&[1], terminate(1))).await.unwrap();
    assert_eq!(store.purge(LAUNCHED_AT.plus(100)).await, Ok(1));
    assert_eq!(store.launch(again.clone()).await, Ok(LaunchOutcome::Mismatch));
    store.change(change(&[2], terminate(1))).await.unwrap();
    assert_eq!(store.purge(LAUNCHED_AT.plus(100)).await, Ok(1));
    assert_eq!(store.launch(again.clone()).await, Ok(LaunchOutcome::New(again.instances)));
    assert_eq!(store.instance(id(3)).await.unwrap().unwrap().account, account());
}
