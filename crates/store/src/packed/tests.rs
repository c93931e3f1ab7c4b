use std::collections::BTreeMap;

use inborn_identity::{HttpEndpoint, HttpTokens, MacAddress, MetadataOptions};
use proptest::prelude::*;

use super::*;
use crate::conformance::samples::{bare, full};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-c]{1,3}", "\\PC{0,12}", "[a-z]{120,140}"]
}

fn maybe_text() -> impl Strategy<Value = Option<String>> {
    prop::option::of(text())
}

fn reservation() -> impl Strategy<Value = String> {
    prop_oneof!["r-[0-9a-f]{17}", "r-[0-9A-F]{17}", "r-[0-9a-f]{16}", "i-[0-9a-f]{17}", text()]
}

fn time() -> impl Strategy<Value = UnixTime> {
    (0..=UnixTime::MAX.as_secs()).prop_map(UnixTime::from_secs)
}

fn attachment() -> impl Strategy<Value = Attachment> {
    prop_oneof![
        any::<u16>().prop_map(Attachment::LoopbackPort),
        (text(), maybe_text()).prop_map(|(path, mark)| Attachment::Namespace { path, mark }),
        (any::<u32>(), text()).prop_map(|(pid, mark)| Attachment::Process { pid, mark }),
        (text(), maybe_text()).prop_map(|(name, mark)| Attachment::Interface { name, mark }),
        any::<u32>().prop_map(Attachment::Vsock),
    ]
}

fn mac() -> impl Strategy<Value = OwnMac> {
    any::<bool>().prop_map(|told| {
        let address: MacAddress = "02:00:5e:00:53:ff".parse().unwrap();
        if told { OwnMac::Told(address) } else { OwnMac::Found(address) }
    })
}

fn metadata_options() -> impl Strategy<Value = MetadataOptions> {
    (any::<[bool; 4]>(), 1..=64u8).prop_map(|([required, enabled, ipv6, tags], hops)| MetadataOptions {
        http_tokens: if required { HttpTokens::Required } else { HttpTokens::Optional },
        http_endpoint: if enabled { HttpEndpoint::Enabled } else { HttpEndpoint::Disabled },
        hop_limit: hops,
        ipv6,
        tags,
    })
}

fn state() -> impl Strategy<Value = InstanceState> {
    prop::sample::select(vec![InstanceState::Running, InstanceState::Stopped, InstanceState::Terminated])
}

prop_compose! {
    fn common()(
        account in 0..=999_999_999_999u64,
        zone in "[a-z]{2}-[a-z]{4}-[1-9][a-z]",
        texts in [text(), text()],
        optional in [maybe_text(), maybe_text(), maybe_text()],
        placement_partition in prop::option::of(any::<u32>()),
        metadata_options in metadata_options(),
        user_data in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        lease in any::<bool>(),
    ) -> Instance {
        let [image_id, instance_type] = texts;
        let [placement_group, key_name, public_key] = optional;
        Instance {
            account: AccountId::new(account).unwrap(),
            zone: zone.parse().unwrap(),
            image_id, instance_type, placement_group, key_name, public_key, placement_partition, metadata_options, lease,
            user_data: user_data.map(|data| UserData::new(data).unwrap()),
            ..bare(0)
        }
    }
}

prop_compose! {
    fn instance()(
        common in common().boxed(),
        ids in any::<([u8; 9], Option<[u8; 9]>)>(),
        addresses in any::<([u8; 4], Option<[u8; 16]>)>(),
        numbers in any::<[u32; 2]>(),
        state in state(),
        times in [time(), time()],
        terminated_at in prop::option::of(time()),
        reason in prop::option::of((text(), text())),
        reservation_id in reservation(),
        client_token in maybe_text(),
        tags in prop::collection::btree_map(text(), text(), 0..5),
        attached in (prop::option::of(attachment()), prop::option::of(mac())),
    ) -> Instance {
        let [boot_generation, ami_launch_index] = numbers;
        let [launch_time, boot_time] = times;
        Instance {
            id: InstanceId::from_bytes(ids.0),
            host: ids.1.map(HostId::from_bytes),
            private_address: addresses.0.into(),
            ipv6_address: addresses.1.map(Into::into),
            state, launch_time, boot_time, boot_generation, terminated_at, ami_launch_index, reservation_id, client_token, tags,
            state_reason: reason.map(|(code, message)| StateReason { code, message }),
            attachment: attached.0,
            mac: attached.1,
            ..common
        }
    }
}

/// On the heap: what proptest makes of so many fields is more than a thread's stack holds, unoptimised.
fn boxed() -> BoxedStrategy<Box<Instance>> {
    instance().prop_map(Box::new).boxed()
}

proptest! {
    #[test]
    fn what_is_packed_comes_back(instance in boxed()) {
        let packed = Packer::default().pack(&instance);
        prop_assert_eq!(packed.unpack(), Instance::clone(&instance));
        prop_assert_eq!(packed.id(), instance.id);
        prop_assert_eq!(packed.account(), instance.account);
        prop_assert_eq!(packed.state(), instance.state);
        prop_assert_eq!(packed.is_running(), instance.state == InstanceState::Running);
        prop_assert_eq!(packed.launch_time(), instance.launch_time);
        prop_assert_eq!(packed.boot_time(), instance.boot_time);
        prop_assert_eq!(packed.boot_generation(), instance.boot_generation);
        prop_assert_eq!(packed.private_address(), instance.private_address);
        prop_assert_eq!(packed.ipv6_address(), instance.ipv6_address);
        prop_assert_eq!(packed.host(), instance.host);
        prop_assert_eq!(packed.instance_type(), &instance.instance_type);
        prop_assert_eq!(packed.is_leased(), instance.lease);
        prop_assert_eq!(packed.attachment(), instance.attachment.as_ref());
        let tags: BTreeMap<String, String> = packed.tags().map(|(key, value)| (key.into(), value.into())).collect();
        prop_assert_eq!(&tags, &instance.tags);
    }

    #[test]
    fn packed_are_equal_exactly_if_instances_are(one in boxed(), other in boxed()) {
        let packer = Packer::default();
        prop_assert!(packer.pack(&one) == packer.pack(&one));
        prop_assert_eq!(packer.pack(&one) == packer.pack(&other), one == other);
        // Another packer's is the same too: what is shared is compared by what it is.
        prop_assert!(packer.pack(&one) == Packer::default().pack(&one));
    }
}

/// The property above draws whole instances, which differ in everything; each field alone makes a difference too.
#[test]
fn one_field_makes_a_difference() {
    let packer = Packer::default();
    let (bare, full) = (bare(1), full(1));
    let packed = packer.pack(&bare);
    let others: Vec<(&str, Instance)> = vec![
        ("key_name", Instance { key_name: full.key_name.clone(), ..bare.clone() }),
        ("public_key", Instance { public_key: full.public_key.clone(), ..bare.clone() }),
        ("ipv6_address", Instance { ipv6_address: full.ipv6_address, ..bare.clone() }),
        ("placement_group", Instance { placement_group: full.placement_group.clone(), ..bare.clone() }),
        ("placement_partition", Instance { placement_partition: full.placement_partition, ..bare.clone() }),
        ("user_data", Instance { user_data: full.user_data.clone(), ..bare.clone() }),
        ("state_reason", Instance { state_reason: full.state_reason.clone(), ..bare.clone() }),
        ("tags", Instance { tags: full.tags.clone(), ..bare.clone() }),
        ("lease", Instance { lease: true, ..bare.clone() }),
        ("attachment", Instance { attachment: full.attachment.clone(), ..bare.clone() }),
        ("mac", Instance { mac: full.mac, ..bare.clone() }),
        ("host", Instance { host: Some(HostId::from_bytes([0; 9])), ..bare.clone() }),
        ("boot_generation", Instance { boot_generation: 2, ..bare.clone() }),
        ("boot_time", Instance { boot_time: UnixTime::MAX, ..bare.clone() }),
        ("metadata_options", Instance { metadata_options: full.metadata_options, ..bare.clone() }),
        ("state", Instance { state: InstanceState::Stopped, ..bare.clone() }),
        ("client_token", Instance { client_token: Some(String::new()), ..bare.clone() }),
        ("reservation_id", Instance { reservation_id: "r-00000000000000000".to_owned(), ..bare.clone() }),
    ];
    for (field, other) in others {
        assert!(packer.pack(&other) != packed, "{field}");
        assert_eq!(packer.pack(&other).unpack(), other, "{field}");
    }
}

#[test]
fn tags_and_user_data_that_come_later_are_as_if_they_had_been_there() {
    let packer = Packer::default();
    let full = full(1);
    let without = Instance { tags: BTreeMap::new(), user_data: None, ..full.clone() };
    let mut packed = packer.with_user_data(&packer.pack(&without), full.user_data.as_ref().unwrap());
    packed.set_tags(&full.tags.iter().collect());
    assert!(packed == packer.pack(&full));
    assert_eq!(packed.unpack(), full);
}

#[test]
fn it_takes_little_memory() {
    // With the counts of an `Arc` and what the allocator adds, 112 bytes; one more field makes 128 of it.
    assert_eq!(size_of::<PackedInstance>(), 88);
}

#[test]
fn debug_shows_no_tags_and_no_user_data() {
    let packed = Packer::default().pack(&full(1));
    assert_eq!(format!("{packed:?}"), format!("PackedInstance {{ id: {:?}, state: Running, .. }}", packed.id()));
}
