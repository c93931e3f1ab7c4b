//! The tree: values, listings, slashes, versions, HEAD.

use bytes::Bytes;
use inborn_imds::VERSIONS;

use crate::lab::{full_lab, lab};

const DATES: &str = "last-modified: Wed, 18 Nov 2026 10:06:40 GMT\naccept-ranges: none\n";

#[test]
fn values() {
    for (leaf, expected) in [
        ("ami-id", "ami-0123456789abcdef0"),
        ("ami-launch-index", "0"),
        ("ami-manifest-path", "(unknown)"),
        ("block-device-mapping/ami", "/dev/xvda"),
        ("block-device-mapping/root", "/dev/xvda"),
        ("events/maintenance/history", "[]"),
        ("events/maintenance/scheduled", "[]"),
        ("hibernation/configured", "false"),
        ("hostname", "ip-10-0-0-5.ec2.internal"),
        ("instance-action", "none"),
        ("instance-id", "i-0123456789abcdef0"),
        ("instance-life-cycle", "on-demand"),
        ("instance-type", "t3.micro"),
        ("ipv6", "fd00:1::5"),
        ("local-hostname", "ip-10-0-0-5.ec2.internal"),
        ("local-ipv4", "10.0.0.5"),
        ("mac", "02:29:96:8f:6a:2d"),
        ("metrics/vhostmd", "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"),
        ("placement/availability-zone", "us-east-1a"),
        ("placement/availability-zone-id", "use1-az1"),
        ("placement/group-name", "spread"),
        ("placement/partition-number", "3"),
        ("placement/region", "us-east-1"),
        ("profile", "default-hvm"),
        ("public-keys/0/openssh-key", "ssh-ed25519 AAAA laptop\n"),
        ("reservation-id", "r-0123456789abcdef0"),
        ("security-groups", "default\nweb"),
        ("services/domain", "amazonaws.com"),
        ("services/partition", "aws"),
        ("system", "nitro"),
        ("tags/instance/Name", "web 1"),
        ("tags/instance/empty", ""),
        ("tags/instance/a@b=c", "é"),
        ("tags/instance/a%40b%3Dc", "é"),
    ] {
        let path = format!("/latest/meta-data/{leaf}");
        full_lab().check(&format!("GET {path}"), &format!("200 text/plain\n{DATES}\n{expected}"));
    }
    for leaf in ["tags/instance/not/shown", "tags/instance/not%2Fshown", "tags/instance/name", "public-keys/0=laptop"] {
        assert_eq!(full_lab().status(&format!("GET /latest/meta-data/{leaf}")), 404, "{leaf}");
    }
}

const INTERFACE: &str = "/latest/meta-data/network/interfaces/macs/02:29:96:8f:6a:2d";

#[test]
fn values_of_the_network_interface() {
    for (leaf, expected) in [
        ("device-number", "0"),
        ("interface-id", "eni-0123456789abcdef0"),
        ("ipv6s", "fd00:1::5"),
        ("local-hostname", "ip-10-0-0-5.ec2.internal"),
        ("local-ipv4s", "10.0.0.5"),
        ("mac", "02:29:96:8f:6a:2d"),
        ("network-card", "0"),
        ("network-card-index", "0"),
        ("owner-id", "123456789012"),
        ("security-group-ids", "sg-0123456789abcdef0\nsg-0123456789abcdef1"),
        ("security-groups", "default\nweb"),
        ("subnet-id", "subnet-0123456789abcdef0"),
        ("subnet-ipv4-cidr-block", "10.0.0.0/20"),
        ("subnet-ipv6-cidr-blocks", "fd00:1::/64"),
        ("vpc-id", "vpc-0123456789abcdef0"),
        ("vpc-ipv4-cidr-block", "10.0.0.0/16"),
        ("vpc-ipv4-cidr-blocks", "10.0.0.0/16\n192.168.0.0/16"),
        ("vpc-ipv6-cidr-blocks", "fd00:1::/64"),
    ] {
        // Bottlerocket puts a slash between the listed `MAC/` and the name.
        for path in [format!("{INTERFACE}/{leaf}"), format!("{INTERFACE}//{leaf}"), format!("{INTERFACE}/{leaf}/")] {
            full_lab().check(&format!("GET {path}"), &format!("200 text/plain\n{DATES}\n{expected}"));
        }
    }
    for path in [
        format!("{INTERFACE}/public-ipv4s"),
        format!("{INTERFACE}/device-number/x"),
        format!("{INTERFACE}0/mac"),
        INTERFACE.to_uppercase(),
        INTERFACE.replace("02:29", "02:28"),
    ] {
        full_lab().check(&format!("GET {path}"), "404 text/html\n\n<404 - Not Found>");
    }
    assert_eq!(full_lab().get(&format!("{}/mac", INTERFACE.replace(':', "%3A"))), "02:29:96:8f:6a:2d");
}

#[test]
fn listings() {
    for (path, expected) in [
        ("/latest", "dynamic\nmeta-data"),
        ("/latest/dynamic", "fws/\ninstance-identity/"),
        ("/latest/dynamic/fws", "instance-monitoring"),
        ("/latest/dynamic/instance-identity", "document\npkcs7\nrsa2048\nsignature"),
        (
            "/latest/meta-data",
            "ami-id\nami-launch-index\nami-manifest-path\nblock-device-mapping/\nevents/\nhibernation/\n\
             hostname\nidentity-credentials/\ninstance-action\n\
             instance-id\ninstance-life-cycle\ninstance-type\nlocal-hostname\nlocal-ipv4\nmac\nmetrics/\nnetwork/\n\
             placement/\nprofile\n\
             reservation-id\nsecurity-groups\nservices/\nsystem",
        ),
        ("/latest/meta-data/identity-credentials", "ec2/"),
        ("/latest/meta-data/identity-credentials/ec2", "info\nsecurity-credentials/"),
        ("/latest/meta-data/identity-credentials/ec2/security-credentials", "ec2-instance"),
        ("/latest/meta-data/block-device-mapping", "ami\nroot"),
        ("/latest/meta-data/events", "maintenance/"),
        ("/latest/meta-data/events/maintenance", "history\nscheduled"),
        ("/latest/meta-data/network", "interfaces/"),
        ("/latest/meta-data/network/interfaces", "macs/"),
        ("/latest/meta-data/network/interfaces/macs", "02:29:96:8f:6a:2d/"),
        (
            INTERFACE,
            "device-number\ninterface-id\nlocal-hostname\nlocal-ipv4s\nmac\nnetwork-card\nnetwork-card-index\nowner-id\nsecurity-group-ids\n\
             security-groups\nsubnet-id\nsubnet-ipv4-cidr-block\nvpc-id\nvpc-ipv4-cidr-block\nvpc-ipv4-cidr-blocks",
        ),
        ("/latest/meta-data/placement", "availability-zone\navailability-zone-id\nregion"),
        ("/latest/meta-data/services", "domain\npartition"),
    ] {
        for path in [path.to_owned(), format!("{path}/")] {
            lab().check(&format!("GET {path}"), &format!("200 text/plain\n{DATES}\n{expected}"));
        }
    }
    for path in ["/", "//"] {
        lab().check(&format!("GET {path}"), &format!("200 text/plain\n{DATES}\n{}", VERSIONS.join("\n")));
    }
}

#[test]
fn listings_of_what_an_instance_may_have() {
    for (path, expected) in [
        ("/latest", "dynamic\nmeta-data\nuser-data"),
        ("/latest/meta-data/public-keys", "0=laptop"),
        ("/latest/meta-data/public-keys/0", "openssh-key"),
        ("/latest/meta-data/tags", "instance/"),
        ("/latest/meta-data/tags/instance", "Name\na@b=c\nempty"),
    ] {
        assert_eq!(full_lab().get(path), expected);
        assert_eq!(full_lab().get(&format!("{path}/")), expected);
    }
    let top = full_lab().get("/latest/meta-data/");
    assert!(top.contains("profile\npublic-keys/\nreservation-id") && top.ends_with("system\ntags/"), "{top}");
}

#[test]
fn what_is_absent_is_not_listed() {
    let mut bare = lab();
    bare.facts.private_ip = None;
    bare.facts.interface = None;
    bare.facts.security_groups.clear();
    bare.facts.user_data = Some(Bytes::new());
    bare.options.tags = true;
    let top = bare.get("/latest/meta-data/");
    for leaf in [
        "local-ipv4",
        "ipv6",
        "mac",
        "network",
        "security-groups",
        "tags",
        "public-keys",
        "iam",
        "spot",
        "autoscaling",
        "public-ipv4",
        "public-hostname",
        "placement/group-name",
        "placement/partition-number",
    ] {
        assert_eq!(bare.status(&format!("GET /latest/meta-data/{leaf}")), 404, "{leaf}");
        assert!(!top.lines().any(|line| line.trim_end_matches('/') == leaf), "{leaf}");
    }
    assert_eq!(bare.status("GET /latest/user-data"), 404);
    assert_eq!(bare.get("/latest"), "dynamic\nmeta-data");
    let mut off = full_lab();
    off.options.tags = false;
    for path in ["tags", "tags/instance", "tags/instance/Name"] {
        assert_eq!(off.status(&format!("GET /latest/meta-data/{path}")), 404, "{path}");
    }
}

#[test]
fn user_data_is_raw_bytes() {
    full_lab().ask("GET /latest/user-data", |response| {
        assert_eq!((response.status, response.content_type), (200, "application/octet-stream"));
        assert_eq!((&*response.body, response.accept_ranges), (&b"#!/bin/sh\n\xff"[..], Some("bytes")));
    });
}

#[test]
fn a_key_that_ends_its_line_gets_no_second_newline() {
    let mut lab = full_lab();
    lab.facts.key_pair.as_mut().unwrap().openssh_key.push('\n');
    assert_eq!(lab.get("/latest/meta-data/public-keys/0/openssh-key"), "ssh-ed25519 AAAA laptop\n");
}

#[test]
fn slashes() {
    for path in [
        "/latest/meta-data/placement/availability-zone",
        "/latest/meta-data/placement/availability-zone/",
        "/latest/meta-data/placement/availability-zone//",
        "/latest/meta-data/placement//availability-zone",
        "/latest//meta-data///placement/availability-zone",
        "//latest/meta-data/placement/availability-zone/",
    ] {
        assert_eq!(lab().get(path), "us-east-1a", "{path}");
    }
}

#[test]
fn every_version_is_the_same_tree() {
    let lab = full_lab();
    for version in VERSIONS {
        for path in ["", "/meta-data/", "/meta-data/instance-id", "/dynamic/instance-identity/document", "/user-data"] {
            assert_eq!(lab.get(&format!("/{version}{path}")), lab.get(&format!("/latest{path}")), "{version}{path}");
        }
    }
    for version in ["2", "1.1", "2009-04-05", "2099-01-01", "latest2", "meta-data", "0"] {
        assert_eq!(lab.status(&format!("GET /{version}/meta-data/")), 404, "{version}");
        assert_eq!(lab.status(&format!("GET /{version}")), 404, "{version}");
    }
}
