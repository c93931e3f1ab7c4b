//! Bytes as a request to the metadata service: first line `METHOD TARGET`, then lines of `name: value`.
#![no_main]

use inborn_identity::{HttpTokens, MetadataOptions, Partition, UnixTime};
use inborn_imds::{
    DocumentSignatures, Facts, Interface, KeyPair, ManagedKey, ManagedKeys, PreparedCredential, PreparedCredentials,
    Request, TokenKey, TokenTtl, View, identity_document, respond,
};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

const NOW: UnixTime = UnixTime::from_secs(1_795_000_000);

struct Lab {
    facts: Facts,
    document: bytes::Bytes,
    signatures: DocumentSignatures,
    tags: Vec<(String, String)>,
    credentials: PreparedCredentials,
    managed_keys: ManagedKeys,
    key: TokenKey,
    token: Vec<u8>,
}

static LAB: LazyLock<Lab> = LazyLock::new(|| {
    let instance = "i-0123456789abcdef0".parse().unwrap();
    let facts = Facts {
        zone_id: "use1-az1".into(),
        domain: "amazonaws.com".into(),
        image_id: "ami-0123456789abcdef0".into(),
        instance_type: "t3.micro".into(),
        architecture: "x86_64".into(),
        reservation_id: "r-0123456789abcdef0".into(),
        local_hostname: "ip-10-0-0-5.ec2.internal".into(),
        private_ip: Some([10, 0, 0, 5].into()),
        security_groups: vec!["default".into()],
        key_pair: Some(KeyPair { name: "laptop".into(), openssh_key: "ssh-ed25519 AAAA".into() }),
        user_data: Some(bytes::Bytes::from_static(b"#!/bin/sh\n")),
        root_device: "/dev/xvda".into(),
        placement_group: Some("spread".into()),
        placement_partition: Some(3),
        interface: Some(Interface {
            id: "eni-0123456789abcdef0".into(),
            mac: "02:29:96:8f:6a:2d".into(),
            subnet_id: "subnet-0123456789abcdef0".into(),
            subnet_cidr: "10.0.0.0/20".into(),
            vpc_id: "vpc-0123456789abcdef0".into(),
            vpc_cidrs: vec!["10.0.0.0/16".into(), "192.168.0.0/16".into()],
            security_group_ids: vec!["sg-0123456789abcdef0".into()],
            ipv6: Some("fd00:1::5".parse().unwrap()),
            ipv6_cidr: Some("fd00:1::/64".into()),
        }),
        ..Facts::bare(
            "123456789012".parse().unwrap(),
            Partition::Aws,
            "us-east-1".parse().unwrap(),
            "us-east-1a".parse().unwrap(),
            NOW,
        )
    };
    let prepared = || PreparedCredential::render("ASIA", "secret", "token", NOW, NOW.plus(22_000));
    let key = TokenKey::from_bytes(&[7; TokenKey::BYTES]).unwrap();
    let token = key.mint(instance, TokenTtl::from_secs(60).unwrap(), NOW).unwrap().as_bytes().to_vec();
    Lab {
        document: identity_document(instance, &facts),
        signatures: DocumentSignatures { signature: "c2ln".into(), pkcs7: "cGtjczc=".into() },
        tags: vec![("Name".into(), "web".into()), ("a@b".into(), String::new()), ("not/shown".into(), "x".into())],
        credentials: PreparedCredentials::new(facts.account, prepared(), prepared()),
        managed_keys: ManagedKeys {
            keys: vec![ManagedKey { user: "root@a".into(), block: "ssh-ed25519 AAAA\n\n".into(), expires_at: NOW.plus(60) }],
            signer_chain: bytes::Bytes::from_static(b"PEM"),
            staples: vec![("0123456789ABCDEF".into(), bytes::Bytes::from_static(b"c3RhcGxl"))],
        },
        facts,
        key,
        token,
    }
});

fuzz_target!(|bytes: &[u8]| {
    let lab = &*LAB;
    let Some((flags, bytes)) = bytes.split_first() else { return };
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let mut words = first.splitn(2, |byte| *byte == b' ');
    let Ok(method) = std::str::from_utf8(words.next().unwrap_or_default()) else { return };
    let path = words.next().unwrap_or_default();
    let mut headers: Vec<(Vec<u8>, Vec<u8>)> = lines
        .filter_map(|line| {
            let at = line.windows(2).position(|pair| pair == b": ")?;
            Some((line[..at].to_vec(), line[at + 2..].to_vec()))
        })
        .collect();
    if flags & 1 != 0 {
        // No mutation finds a good token: give it one.
        headers.push((b"x-aws-ec2-metadata-token".to_vec(), lab.token.clone()));
    }
    let required = flags & 2 != 0;
    let http_tokens = if required { HttpTokens::Required } else { HttpTokens::Optional };
    let view = View {
        instance: "i-0123456789abcdef0".parse().unwrap(),
        options: MetadataOptions { http_tokens, tags: flags & 4 != 0, ..MetadataOptions::default() },
        tags: &lab.tags,
        facts: &lab.facts,
        document: &lab.document,
        signatures: (flags & 16 == 0).then_some(&lab.signatures),
        credentials: (flags & 8 == 0).then_some(&lab.credentials),
        is_withheld: flags & 64 != 0,
        managed_keys: if flags & 32 == 0 { lab.managed_keys.at(NOW) } else { None },
    };
    let response = respond(&Request { method, path, headers: &headers }, &view, &lab.key, NOW);
    assert!([200, 400, 401, 403, 404, 405, 503].contains(&response.status));
    assert_eq!(response.close, response.hop_limit.is_some());
    if required && response.delivery.is_some() {
        assert!(response.token_ttl.is_some(), "credentials left without a token");
    }
    if method == "HEAD" {
        assert!(response.body.is_empty());
    }
});
