use super::{AwayCall, AwaySettings, Place, Policy, Replayer, Use, network};
use crate::finding::FindingType;
use inborn_identity::{InstanceId, Partition, UnixTime};
use proptest::prelude::*;
use std::net::IpAddr;

fn machine(number: u8) -> InstanceId {
    InstanceId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, number])
}

fn settings(networks: &[&str], replayers: &[&str]) -> AwaySettings {
    AwaySettings {
        policy: Policy::Detect,
        networks: networks.iter().map(|text| network(text).unwrap()).collect(),
        replayers: replayers.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

fn used(source: &str) -> Use {
    Use {
        instance: machine(1),
        private_address: "172.31.0.10".parse().unwrap(),
        ipv6_address: None,
        listener: None,
        source: source.parse().unwrap(),
        may_be_sent_on: true,
    }
}

/// Machine 2 runs at 172.31.0.20 and nobody elsewhere.
fn at(address: IpAddr) -> Option<InstanceId> {
    (address == IpAddr::from([172, 31, 0, 20])).then(|| machine(2))
}

#[test]
fn another_address_is_another_place_where_the_operator_says_that_addresses_tell() {
    let told = settings(&["172.31.0.0/16"], &[]);
    for (source, place) in [
        ("172.31.0.10", Place::Home),
        ("::ffff:172.31.0.10", Place::Home),
        ("172.31.0.20", Place::Inside(machine(2))),
        ("::ffff:172.31.0.20", Place::Inside(machine(2))),
        ("172.31.0.30", Place::Outside),
        ("192.0.2.1", Place::Outside),
        // What tells nothing, whatever the operator says.
        ("127.0.0.1", Place::Untold),
        ("127.3.2.1", Place::Untold),
        ("169.254.1.1", Place::Untold),
        ("0.0.0.0", Place::Untold),
        ("::1", Place::Untold),
        ("fe80::1", Place::Untold),
        // A machine without an IPv6 address may have one that nobody knows of; nobody can show it.
        ("2001:db8::1", Place::Unshown),
    ] {
        assert_eq!(told.place(&used(source), at), place, "{source}");
    }
}

#[test]
fn where_nobody_says_so_an_address_tells_nothing() {
    for networks in [&[][..], &["10.0.0.0/8"], &["172.31.0.0/29"], &["2001:db8::/32"]] {
        for source in ["172.31.0.20", "172.31.0.30", "192.0.2.1", "127.0.0.1"] {
            assert_eq!(settings(networks, &[]).place(&used(source), at), Place::Untold, "{networks:?} {source}");
        }
        assert_eq!(settings(networks, &[]).place(&used("172.31.0.10"), at), Place::Home);
    }
}

#[test]
fn addresses_of_ipv6_tell_for_machines_that_have_one() {
    let told = settings(&["2001:db8::/32"], &[]);
    let mut by = used("2001:db8::9");
    by.ipv6_address = Some("2001:db8::1".parse().unwrap());
    assert_eq!(told.place(&by, at), Place::Outside);
    by.source = "2001:db8::1".parse().unwrap();
    assert_eq!(told.place(&by, at), Place::Home);
    // Its IPv4 address is in no network that was named: it is home, and nothing else can be shown to be.
    by.source = "172.31.0.10".parse().unwrap();
    assert_eq!(told.place(&by, at), Place::Home);
    by.source = "192.0.2.1".parse().unwrap();
    assert_eq!(told.place(&by, at), Place::Unshown);
    by.source = "172.31.0.20".parse().unwrap();
    assert_eq!(told.place(&by, at), Place::Inside(machine(2)));
}

/// Else who took credentials would only have to come by the other family of addresses.
#[test]
fn the_other_family_of_addresses_is_no_way_around() {
    let told = settings(&["172.31.0.0/16"], &["2001:db8:7::/48"]);
    let known = Some("2001:db8::1".parse().unwrap());
    let by = |ipv6_address, source: &str| Use { ipv6_address, ..used(source) };
    for ipv6_address in [None, known] {
        assert_eq!(told.place(&by(ipv6_address, "2001:db8::9"), at), Place::Unshown);
        // What tells nothing of anybody, and who may send on, are as they were.
        assert_eq!(told.place(&by(ipv6_address, "::1"), at), Place::Untold);
        assert_eq!(told.place(&by(ipv6_address, "fe80::9"), at), Place::Untold);
        assert_eq!(told.place(&by(ipv6_address, "2001:db8:7::9"), at), Place::Replayer);
        assert_eq!(settings(&[], &[]).place(&by(ipv6_address, "2001:db8::9"), at), Place::Untold);
        assert_eq!(settings(&["10.0.0.0/8"], &[]).place(&by(ipv6_address, "2001:db8::9"), at), Place::Untold);
    }
    // Its own is at home, and one of another machine's is there.
    assert_eq!(told.place(&by(known, "2001:db8::1"), at), Place::Home);
    assert_eq!(told.place(&by(None, "2001:db8::9"), |_| Some(machine(2))), Place::Inside(machine(2)));
    assert!(Place::Unshown.is_away());
}

#[test]
fn what_cannot_be_shown_is_said_so() {
    let outside = call(Place::Outside, "192.0.2.1").finding().unwrap();
    let unshown = call(Place::Unshown, "2001:db8::9").finding().unwrap();
    assert_eq!((unshown.kind, unshown.severity.value()), (FindingType::EXFILTRATION_OUTSIDE, 5.0));
    assert_eq!(outside.severity.value(), 8.0);
    assert!(unshown.description.contains("cannot be shown to be the machine"), "{}", unshown.description);
}

#[test]
fn a_listener_of_one_machine_tells_whatever_the_address_is() {
    for networks in [&[][..], &["172.31.0.0/16"]] {
        let told = settings(networks, &[]);
        for source in ["127.0.0.1", "172.31.0.10", "192.0.2.1"] {
            let mut by = used(source);
            by.listener = Some(machine(1));
            assert_eq!(told.place(&by, at), Place::Home);
            by.listener = Some(machine(2));
            assert_eq!(told.place(&by, at), Place::Inside(machine(2)));
        }
    }
}

#[test]
fn who_may_send_on_may_send_nothing_else() {
    let told = settings(&["172.31.0.0/16"], &["192.0.2.0/24", &machine(2).to_string()]);
    let other = |source: &str| Use { may_be_sent_on: false, ..used(source) };
    assert_eq!(told.place(&other("192.0.2.77"), at), Place::Outside);
    assert_eq!(told.place(&other("172.31.0.20"), at), Place::Inside(machine(2)));
    let by = Use { listener: Some(machine(2)), ..other("127.0.0.1") };
    assert_eq!(told.place(&by, at), Place::Inside(machine(2)));
}

#[test]
fn who_may_send_on_is_never_away() {
    let told = settings(&["172.31.0.0/16"], &["192.0.2.0/24", "198.51.100.7", &machine(2).to_string()]);
    assert_eq!(told.place(&used("192.0.2.77"), at), Place::Replayer);
    assert_eq!(told.place(&used("198.51.100.7"), at), Place::Replayer);
    assert_eq!(told.place(&used("198.51.100.8"), at), Place::Outside);
    assert_eq!(told.place(&used("172.31.0.20"), at), Place::Replayer);
    let mut by = used("10.0.0.1");
    by.listener = Some(machine(2));
    assert_eq!(told.place(&by, at), Place::Replayer);
    by.listener = Some(machine(3));
    // Who comes by another machine's listener is not believed for the address it shows there.
    by.source = "192.0.2.77".parse().unwrap();
    assert_eq!(told.place(&by, at), Place::Inside(machine(3)));
}

#[test]
fn off_looks_at_nothing() {
    let off = AwaySettings { policy: Policy::Off, ..settings(&["172.31.0.0/16"], &[]) };
    let mut by = used("192.0.2.1");
    assert_eq!(off.place(&by, at), Place::Untold);
    by.listener = Some(machine(2));
    assert_eq!(off.place(&by, at), Place::Untold);
}

#[test]
fn words_of_settings_are_read() {
    assert_eq!("10.1.2.3".parse(), Ok(Replayer::Network(network("10.1.2.3/32").unwrap())));
    assert_eq!("10.1.2.3/8".parse(), Ok(Replayer::Network(network("10.0.0.0/8").unwrap())));
    assert!(["", "10.0.0.0/33", "i-1", "example.com"].iter().all(|text| text.parse::<Replayer>().is_err()));
    for policy in [Policy::Off, Policy::Detect, Policy::Enforce] {
        assert_eq!(policy.to_string().parse(), Ok(policy));
    }
    assert!("on".parse::<Policy>().is_err());
}

fn call(place: Place, source: &str) -> AwayCall {
    AwayCall {
        partition: Partition::Aws,
        account: "123456789012".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        instance: machine(1),
        access_key_id: "ASIAIOSFODNN7EXAMPLE".to_owned(),
        principal_id: format!("123456789012:aws:ec2-instance:{}", machine(1)),
        role: "aws:ec2-instance".to_owned(),
        service: "sts.amazonaws.com".to_owned(),
        api: "GetCallerIdentity".to_owned(),
        user_agent: None,
        error_code: None,
        source: source.parse().unwrap(),
        place,
        at: UnixTime::from_secs(1_700_000_000),
    }
}

#[test]
fn only_what_was_away_is_found() {
    for place in [Place::Home, Place::Replayer, Place::Untold] {
        assert!(!place.is_away());
        assert_eq!(call(place, "192.0.2.1").finding(), None);
    }
    let outside = call(Place::Outside, "192.0.2.1").finding().unwrap();
    assert_eq!(outside.kind, FindingType::EXFILTRATION_OUTSIDE);
    assert_eq!(outside.resource.type_name(), "AccessKey");
    let inside = call(Place::Inside(machine(2)), "127.0.0.1").finding().unwrap();
    assert_eq!(inside.kind, FindingType::EXFILTRATION_INSIDE);
    // Each place is a finding of its own; the same place, by another key, is the same.
    assert_ne!(outside.key(), call(Place::Outside, "192.0.2.2").finding().unwrap().key());
    let other_key = AwayCall { access_key_id: "ASIAOTHER".to_owned(), ..call(Place::Outside, "192.0.2.1") };
    assert_eq!(outside.key(), other_key.finding().unwrap().key());
}

proptest! {
    /// No false alarm: without a network that was named, and without a listener of its own, nothing is ever away.
    #[test]
    fn silence_without_knowledge(source in any::<IpAddr>(), home in any::<std::net::Ipv4Addr>()) {
        let by = Use { source, private_address: home, ..used("192.0.2.1") };
        prop_assert!(!settings(&[], &[]).place(&by, |_| Some(machine(2))).is_away());
    }

    #[test]
    fn a_machine_is_at_home_at_its_own_address(home in any::<std::net::Ipv4Addr>()) {
        let by = Use { source: IpAddr::V4(home), private_address: home, ..used("192.0.2.1") };
        prop_assert_eq!(settings(&["0.0.0.0/0"], &[]).place(&by, |_| None), Place::Home);
    }
}
