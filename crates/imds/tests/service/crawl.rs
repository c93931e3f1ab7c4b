//! The tree as cloud-init walks it: from the listings to the leaves. One that is listed and does not answer would cost it
//! the whole tree.

use inborn_imds::{Facts, VERSIONS};
use proptest::prelude::*;

use crate::lab::{Lab, full_lab, lab};

/// Every path that the listings lead to, directories with their slash.
fn crawl(lab: &Lab, root: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        let listing = lab.get(&directory);
        assert!(!listing.is_empty() && !listing.ends_with('\n'), "{directory}");
        for entry in listing.lines() {
            // Names at the top and of the parts of a version carry no slash; a key pair is listed by number and name.
            let unmarked = directory == "/" || ["dynamic", "meta-data"].contains(&entry);
            let path = match entry.split_once('=') {
                Some((number, _)) if directory.ends_with("public-keys/") => format!("{directory}{number}/"),
                _ if unmarked => format!("{directory}{entry}/"),
                _ => format!("{directory}{entry}"),
            };
            if path.ends_with('/') {
                open.push(path.clone());
            }
            found.push(path);
        }
    }
    found
}

#[test]
fn all_that_is_listed_answers_to_get_and_head_with_and_without_slash() {
    let (mut bare, mut loopback) = (lab(), lab());
    let Facts { account, partition, region, zone, launch_time, .. } = bare.facts.clone();
    bare.facts = Facts::bare(account, partition, region, zone, launch_time);
    loopback.facts.interface = None;
    for (lab, leaves_of_a_version) in [(bare, 21), (loopback, 32), (lab(), 48), (full_lab(), 59)] {
        let found = crawl(&lab, "/");
        let leaves = found.iter().filter(|path| !path.ends_with('/')).count();
        assert_eq!(leaves, leaves_of_a_version * VERSIONS.len());
        for path in found.iter().filter(|path| path.starts_with("/latest") || path.starts_with("/2018-09-24")) {
            let bare = path.trim_end_matches('/');
            for path in [bare.to_owned(), format!("{bare}/")] {
                let (body, headers) = lab.ask(&format!("GET {path}"), |get| {
                    assert_eq!(get.status, 200, "{path}");
                    (get.body.to_vec(), (get.content_type, get.content_length, get.last_modified, get.accept_ranges))
                });
                lab.ask(&format!("HEAD {path}"), |head| {
                    assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
                    assert_eq!(
                        (head.content_type, head.content_length, head.last_modified, head.accept_ranges),
                        headers
                    );
                    assert_eq!(head.content_length, body.len(), "{path}");
                });
            }
        }
    }
}

/// An instance that has some of what an instance can have, and lacks the rest.
fn some_lab(has: [bool; 12]) -> Lab {
    let mut lab = full_lab();
    let [tags, user_data, key, interface, address, ipv6, groups, group, partition, root, credentials, signatures] = has;
    lab.options.tags = tags;
    lab.facts.user_data = lab.facts.user_data.filter(|_| user_data);
    lab.facts.key_pair = lab.facts.key_pair.filter(|_| key);
    lab.facts.private_ip = lab.facts.private_ip.filter(|_| address);
    lab.facts.placement_group = lab.facts.placement_group.filter(|_| group);
    lab.facts.placement_partition = lab.facts.placement_partition.filter(|_| partition);
    lab.credentials = lab.credentials.filter(|_| credentials);
    lab.signatures = lab.signatures.filter(|_| signatures);
    if !root {
        lab.facts.root_device.clear();
    }
    if !groups {
        lab.facts.security_groups.clear();
    }
    lab.facts.interface = lab.facts.interface.filter(|_| interface).map(|mut interface| {
        interface.ipv6 = interface.ipv6.filter(|_| ipv6);
        interface.ipv6_cidr = interface.ipv6_cidr.filter(|_| ipv6);
        interface.security_group_ids.retain(|_| groups);
        interface
    });
    lab
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn whatever_an_instance_has_its_listings_are_true(has: [bool; 12]) {
        let lab = some_lab(has);
        for path in crawl(&lab, "/latest/") {
            prop_assert_eq!(lab.status(&format!("GET {path}")), 200, "{}", path);
        }
        let [tags, user_data, key, interface, ..] = has;
        for (path, is_there) in [
            ("meta-data/tags/instance/Name", tags),
            ("user-data", user_data),
            ("meta-data/public-keys/0/openssh-key", key),
            ("meta-data/network/interfaces/macs/", interface),
            ("meta-data/mac", interface),
        ] {
            let expected = if is_there { 200 } else { 404 };
            prop_assert_eq!(lab.status(&format!("GET /latest/{path}")), expected, "{}", path);
        }
    }
}
