use inborn_identity::UnixTime;
use inborn_store::conformance::samples::{account, bare, full, id, other_account};
use proptest::prelude::*;

use super::*;

fn at(number: u32, account: AccountId, address: [u8; 4]) -> Instance {
    Instance { account, private_address: address.into(), ..bare(number) }
}

fn put(registry: &Registry, instance: &Instance) -> Option<Instance> {
    let before = registry.put(Arc::new(registry.pack(instance)));
    before.map(|before| before.unpack())
}

fn ids(machines: impl IntoIterator<Item = Arc<PackedInstance>>) -> BTreeSet<InstanceId> {
    machines.into_iter().map(|machine| machine.id()).collect()
}

#[test]
fn machines_are_found_by_id_account_and_address() {
    let registry = Registry::default();
    let (a, b) = (account(), other_account());
    let v6 = full(5).ipv6_address.unwrap();
    let all = [
        at(1, a, [10, 0, 0, 1]),
        at(2, a, [10, 0, 0, 2]),
        at(3, a, [10, 0, 0, 1]),
        at(4, b, [10, 0, 0, 1]),
        Instance { account: a, ..full(5) },
        Instance { ipv6_address: Some(v6), ..at(6, b, [192, 168, 7, 9]) },
    ];
    for instance in &all {
        assert_eq!(put(&registry, instance), None);
    }
    assert_eq!((registry.count(), registry.count_of(a), registry.count_of(b)), (6, 4, 2));
    assert_eq!(registry.get(id(2)).unwrap().unpack(), all[1]);
    assert!(registry.get(id(7)).is_none());
    assert_eq!(ids(registry.at(a, [10, 0, 0, 1].into())), [id(1), id(3)].into());
    assert_eq!(ids(registry.at(b, [10, 0, 0, 1].into())), [id(4)].into());
    assert_eq!(ids(registry.at(b, [10, 0, 0, 2].into())), BTreeSet::new());
    assert_eq!(ids(registry.at_ipv6(a, v6)), [id(5)].into());
    assert_eq!((registry.count_at([10, 0, 0, 1].into()), registry.count_at_ipv6(v6)), (3, 2));
    assert_eq!(ids(registry.of_account(a)), [id(1), id(2), id(3), id(5)].into());
    assert_eq!(ids(registry.iter()).len(), 6);

    let stopped = Instance { state: inborn_store::InstanceState::Stopped, ..all[2].clone() };
    assert_eq!(put(&registry, &stopped).as_ref(), Some(&all[2]));
    assert_eq!((registry.count(), registry.count_of(a)), (6, 4));
    assert_eq!(registry.remove(id(3)).unwrap().unpack(), stopped);
    assert!(registry.remove(id(3)).is_none());
    registry.remove(id(5));
    assert_eq!(ids(registry.at(a, [10, 0, 0, 1].into())), [id(1)].into());
    assert!(registry.at_ipv6(a, v6).is_empty());
    assert_eq!((registry.count(), registry.count_of(a), registry.count_at_ipv6(v6)), (4, 2, 1));
}

#[test]
fn each_block_is_named_once() {
    let registry = Registry::default();
    let addresses =
        [[0, 0, 0, 0], [10, 0, 0, 1], [10, 0, 255, 255], [10, 1, 0, 0], [172, 16, 3, 4], [255, 255, 255, 255]];
    for (number, address) in (0..).zip(addresses) {
        put(&registry, &at(number, account(), address));
    }
    put(&registry, &at(99, other_account(), [10, 9, 0, 0]));
    let blocks = |bits| registry.blocks(account(), bits).len();
    assert_eq!((blocks(16), blocks(8), blocks(32), blocks(0)), (5, 4, 6, 1));
    assert_eq!(registry.blocks(other_account(), 16), [Ipv4Addr::new(10, 9, 0, 0)]);
    assert!(registry.blocks(AccountId::new(7).unwrap(), 16).is_empty());
}

#[test]
fn an_account_below_at_and_above_what_is_looked_up_together() {
    for count in [TOGETHER - 1, TOGETHER, TOGETHER + 1, 2 * TOGETHER + 1] {
        let registry = Registry::default();
        for number in 0..u32::try_from(count).unwrap() {
            put(&registry, &at(number, account(), [10, 0, 0, 1]));
        }
        put(&registry, &at(u32::MAX, other_account(), [10, 0, 0, 1]));
        let found: Vec<_> = registry.of_account(account()).map(|machine| machine.id()).collect();
        assert_eq!(found.len(), count);
        assert!(found.is_sorted_by(|a, b| a < b), "each once");
    }
}

#[test]
fn what_is_loaded_is_as_if_it_had_been_put() {
    let mut loading = Loading::default();
    let host = HostId::from_bytes([7; 9]);
    let all = [full(1), Instance { host: Some(host), ..bare(2) }, at(3, other_account(), [10, 0, 0, 9])];
    let packer = Arc::clone(loading.packer());
    let without = |instance: &Instance| {
        packer.pack(&Instance { tags: std::collections::BTreeMap::new(), user_data: None, ..instance.clone() })
    };
    loading.take(Living::Instances(all.iter().map(without).collect()));
    // One that comes again changes nothing, and of one that is not there nothing is kept.
    loading.take(Living::Instances(vec![packer.pack(&Instance { launch_time: UnixTime::MAX, ..bare(2) })]));
    let elsewhere = Instance {
        host: Some(HostId::from_bytes([8; 9])),
        ipv6_address: Some(Ipv6Addr::LOCALHOST),
        ..at(2, other_account(), [10, 0, 0, 77])
    };
    loading.take(Living::Instances(vec![packer.pack(&elsewhere)]));
    let (some, others): (Vec<_>, Vec<_>) = all[0].tags.iter().partition(|(key, _)| key.is_empty());
    for tags in [others, some] {
        let tags: PackedTags = tags.into_iter().collect();
        loading.take(Living::Tags(vec![(id(1), tags.clone()), (id(77), tags)]));
    }
    let data = all[0].user_data.clone().unwrap();
    loading.take(Living::UserData(vec![(id(1), data.clone()), (id(77), data)]));
    loading.take(Living::Instances(vec![packer.pack(&elsewhere)]));
    let (registry, on_hosts) = loading.finish();
    assert_eq!(on_hosts, [(host, vec![id(2)])]);
    assert_eq!((registry.count(), registry.count_of(account()), registry.count_of(other_account())), (3, 2, 1));
    assert!(registry.at(other_account(), [10, 0, 0, 77].into()).is_empty());
    assert!(registry.at_ipv6(other_account(), Ipv6Addr::LOCALHOST).is_empty());
    for instance in &all {
        assert_eq!(&registry.get(instance.id).unwrap().unpack(), instance);
        assert!(ids(registry.at(instance.account, instance.private_address)).contains(&instance.id));
    }
    assert_eq!(ids(registry.at_ipv6(all[0].account, all[0].ipv6_address.unwrap())), [id(1)].into());
}

proptest! {
    /// Whatever comes, changes and goes, all ways to find a machine agree with a plain map.
    #[test]
    fn all_ways_agree(steps in prop::collection::vec((0..12u32, 0..3u8, any::<bool>(), any::<bool>()), 0..60)) {
        let registry = Registry::default();
        let mut model: BTreeMap<InstanceId, Instance> = BTreeMap::new();
        for (number, last, is_other, goes) in steps {
            let account = if is_other { other_account() } else { account() };
            let ipv6_address = (last == 2).then_some(Ipv6Addr::LOCALHOST);
            let instance = Instance { ipv6_address, ..at(number, account, [10, 0, 0, last]) };
            if goes {
                let before = registry.remove(instance.id).map(|before| before.unpack());
                prop_assert_eq!(before, model.remove(&instance.id));
            } else {
                prop_assert_eq!(put(&registry, &instance), model.insert(instance.id, instance));
            }
        }
        prop_assert_eq!(registry.count(), model.len());
        prop_assert_eq!(ids(registry.iter()), model.keys().copied().collect());
        for account in [account(), other_account()] {
            let own = || model.values().filter(|one| one.account == account);
            prop_assert_eq!(registry.count_of(account), own().count());
            prop_assert_eq!(ids(registry.of_account(account)), own().map(|one| one.id).collect());
            for last in 0..3 {
                let address = Ipv4Addr::new(10, 0, 0, last);
                let there = own().filter(|one| one.private_address == address).map(|one| one.id).collect();
                prop_assert_eq!(ids(registry.at(account, address)), there);
            }
            let there = own().filter(|one| one.ipv6_address.is_some()).map(|one| one.id).collect();
            prop_assert_eq!(ids(registry.at_ipv6(account, Ipv6Addr::LOCALHOST)), there);
        }
    }
}

#[test]
fn what_is_expected_is_a_guess() {
    for expected in [0, 1, 20, 40, 4_000_000, usize::MAX] {
        let mut loading = Loading::default();
        loading.take(Living::Expected(expected));
        loading.take(Living::Expected(expected));
        let packer = Arc::clone(loading.packer());
        loading.take(Living::Instances((0..40).map(|number| packer.pack(&bare(number))).collect()));
        let (registry, on_hosts) = loading.finish();
        assert_eq!((registry.count(), on_hosts), (40, Vec::new()), "{expected}");
        let room: usize = registry.shards.iter().map(|shard| read(shard).capacity()).sum();
        assert!(room <= 40 * 4 + SHARDS * 4, "{room} for {expected}");
        assert!((0..40).all(|number| registry.get(id(number)).is_some()));
    }
}
