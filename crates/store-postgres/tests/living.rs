//! All that live, read over several connections: each machine once and whole, whatever is changed meanwhile is heard of, and a connection
//! that ends is replaced only as long as nothing has come over it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::collections::BTreeMap;
use std::sync::Arc;

use inborn_identity::InstanceId;
use inborn_store::conformance::samples::{LAUNCHED_AT, bare, full, launch, spread_id, terminate};
use inborn_store::{
    Beat, Change, ChangeRequest, Heard, Instance, InstanceState, Living, PackedInstance, PackedTags, Packer, Store,
    StoreError, Topic,
};
use inborn_store_postgres::{PostgresOptions, PostgresStore};
use tokio::sync::mpsc;

async fn open(url: &str, connections: usize) -> Arc<PostgresStore> {
    let options = PostgresOptions { connections, ..PostgresOptions::default() };
    Arc::new(PostgresStore::open_with(url, options).await.unwrap())
}

/// What is sent, put together. What comes must be new, or belong to what came before.
#[derive(Default)]
struct Mirror {
    packer: Arc<Packer>,
    found: BTreeMap<InstanceId, PackedInstance>,
    user_data: usize,
}

impl Mirror {
    fn take(&mut self, part: Living) {
        match part {
            Living::Expected(_) => {}
            Living::Instances(all) => {
                for machine in all {
                    assert!(self.found.insert(machine.id(), machine).is_none(), "each comes once");
                }
            }
            Living::Tags(all) => {
                for (id, more) in all {
                    let Some(machine) = self.found.get_mut(&id) else { continue };
                    let mut tags: PackedTags = machine.tags().collect();
                    tags.extend(&more);
                    machine.set_tags(&tags);
                }
            }
            Living::UserData(all) => {
                for (id, data) in all {
                    self.user_data += 1;
                    let Some(machine) = self.found.get_mut(&id) else { continue };
                    *machine = self.packer.with_user_data(machine, &data);
                }
            }
        }
    }

    fn machines(&self) -> Vec<Instance> {
        self.found.values().map(PackedInstance::unpack).collect()
    }
}

async fn read(store: &PostgresStore) -> Mirror {
    let mut mirror = Mirror::default();
    let (sender, mut parts) = mpsc::channel(1);
    let (sent, ()) = tokio::join!(store.living(Arc::clone(&mirror.packer), sender), async {
        while let Some(part) = parts.recv().await {
            mirror.take(part);
        }
    });
    sent.unwrap();
    mirror
}

fn at(first: u8, rest: u8, last: u8) -> InstanceId {
    let mut bytes = [rest; InstanceId::BYTES];
    let [begin, .., end] = &mut bytes;
    (*begin, *end) = (first, last);
    InstanceId::from_bytes(bytes)
}

/// Below, at and above where ids are parted, and at both ends.
fn around_bounds() -> Vec<InstanceId> {
    let around = [4, 8, 12].into_iter().flat_map(|digit| [at(digit - 1, 0xff, 0xff), at(digit, 0, 0), at(digit, 0, 1)]);
    around.chain([at(0, 0, 0), at(0, 0, 1), at(15, 0xff, 0xfe), at(15, 0xff, 0xff)]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_machine_comes_once_and_whole_over_any_number_of_connections() {
    let Some(cluster) = common::cluster() else { return };
    let url = cluster.database();
    let writer = open(&url, 2).await;
    let ids = around_bounds();
    let launched: Vec<Instance> = (1..)
        .zip(&ids)
        .map(|(number, id)| Instance {
            id: *id,
            attachment: None,
            mac: None,
            client_token: None,
            tags: [("n".to_owned(), number.to_string()), ("Name".to_owned(), id.to_string())].into(),
            ..full(number)
        })
        .collect();
    writer.launch(launch(launched)).await.unwrap();
    let mut expected = writer.instances_by_id(ids.clone()).await.unwrap();
    assert_eq!(expected.len(), 13);
    for connections in [1, 2, 3, 4, 5, 8] {
        let mirror = read(&*open(&url, connections).await).await;
        assert_eq!((mirror.machines(), mirror.user_data), (expected.clone(), 13), "{connections}");
    }
    // Those that are no more are not sent, in whatever range.
    let account = expected.first().unwrap().account;
    let gone: Vec<InstanceId> = ids.iter().step_by(2).copied().collect();
    writer.change(ChangeRequest { account, instances: gone.clone(), change: terminate(5) }).await.unwrap();
    expected.retain(|machine| !gone.contains(&machine.id));
    assert_eq!(read(&*open(&url, 8).await).await.machines(), expected);
}

fn tagged(number: u32) -> Instance {
    Instance { id: spread_id(number), tags: [("n".to_owned(), "0".to_owned())].into(), ..bare(number) }
}

/// Whoever reads while others change, and then looks again at what the feed names, has what there is.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_meanwhile_is_heard_of() {
    const MACHINES: u32 = 6000;
    let Some(cluster) = common::cluster() else { return };
    let url = cluster.database();
    let [changing, reading] = [open(&url, 4).await, open(&url, 8).await];
    for first in (0..MACHINES).step_by(1000) {
        changing.launch(launch((first..first + 1000).map(tagged).collect())).await.unwrap();
    }
    let account = bare(0).account;
    let beat = |name: &str| Beat { name: name.to_owned(), at: LAUNCHED_AT, verifies: 0, address: String::new() };
    changing.beat(beat("changing")).await.unwrap();
    // From here on it hears.
    reading.beat(beat("reading")).await.unwrap();
    let first = reading.news(Heard { except: Some(reading.node()), ..Heard::default() }).await.unwrap();
    let heard = first.heard(Some(reading.node()));

    let (changed, is_over) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let (counted, stopped) = (Arc::clone(&changed), Arc::clone(&is_over));
    let changes = tokio::spawn(async move {
        for round in 1.. {
            let some = |step: u32| (0..4).map(|k| spread_id((round * step + k * 1501) % MACHINES)).collect::<Vec<_>>();
            let set = [("n".to_owned(), round.to_string()), ("more".to_owned(), round.to_string())].into();
            for (instances, change) in [(some(7), Change::Tags { set, remove: Vec::new() }), (some(11), terminate(5))] {
                match changing.change(ChangeRequest { account, instances, change }).await {
                    Ok(_) | Err(StoreError::Conflict(_) | StoreError::Busy) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            changing.launch(launch((0..4).map(|k| tagged(MACHINES + round * 4 + k)).collect())).await.unwrap();
            counted.store(round, Ordering::SeqCst);
            if stopped.load(Ordering::SeqCst) {
                return;
            }
        }
    });
    // One that was read while others changed, however slow they are.
    let mirror = loop {
        let before = changed.load(Ordering::SeqCst);
        let mirror = read(&reading).await;
        if before > 0 && changed.load(Ordering::SeqCst) > before {
            break mirror;
        }
        assert!(!changes.is_finished(), "it goes on");
    };
    is_over.store(true, Ordering::SeqCst);
    changes.await.unwrap();

    // As a region server follows what it hears.
    let news = reading.news(heard).await.unwrap();
    assert!(!news.missed);
    let mut named: Vec<InstanceId> = Vec::new();
    for entry in &news.entries {
        if let Topic::Instances(ids) = &entry.topic {
            named.extend(ids);
        }
    }
    let mut followed: BTreeMap<InstanceId, Instance> =
        mirror.machines().into_iter().map(|machine| (machine.id, machine)).collect();
    for ids in named.chunks(1000) {
        for machine in reading.instances_by_id(ids.to_vec()).await.unwrap() {
            match machine.state {
                InstanceState::Terminated => drop(followed.remove(&machine.id)),
                _ => drop(followed.insert(machine.id, machine)),
            }
        }
    }
    assert_eq!(followed.into_values().collect::<Vec<_>>(), read(&reading).await.machines());
}

/// Connections that were ended while they lay idle are replaced; one that ends when machines have come over it ends the reading, and who
/// reads is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_is_replaced_before_anything_came() {
    // More than can be on their way to one who takes nothing.
    const MACHINES: u32 = 60_000;
    let Some(cluster) = common::cluster() else { return };
    let url = cluster.database();
    let store = open(&url, 8).await;
    store.launch(launch(vec![bare(1)])).await.unwrap();
    let end_all = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let all = futures_util::future::join_all((0..8).map(|number| store.instance(bare(number).id))).await;
    assert!(all.iter().all(Result::is_ok));
    cluster.sql(&url, end_all);
    assert_eq!(read(&store).await.machines(), [bare(1)]);

    for first in (100..100 + MACHINES).step_by(1000) {
        store.launch(launch((first..first + 1000).map(bare).collect())).await.unwrap();
    }
    let (sender, mut parts) = mpsc::channel(1);
    let reading = Arc::clone(&store);
    let sent = tokio::spawn(async move { reading.living(Arc::default(), sender).await });
    let mut mirror = Mirror::default();
    mirror.take(parts.recv().await.unwrap());
    cluster.sql(&url, end_all);
    while let Some(part) = parts.recv().await {
        mirror.take(part);
    }
    let error = sent.await.unwrap().unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(mirror.found.len() < MACHINES as usize);
    // And nothing of it is left on the way.
    assert_eq!(read(&store).await.found.len(), MACHINES as usize + 1);
}
