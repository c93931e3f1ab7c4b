//! One instance to ask, and a way to write requests and answers as texts.

use bytes::Bytes;
use inborn_identity::{HttpEndpoint, HttpTokens, InstanceId, MetadataOptions, Partition, UnixTime};
use inborn_imds::{
    DocumentSignatures, Facts, Interface, KeyPair, ManagedKey, ManagedKeys, PreparedCredential, PreparedCredentials,
    Request, Response, TokenKey, TokenTtl, View, identity_document, respond,
};

/// 2026-11-18T11:06:40Z.
pub(crate) const NOW: UnixTime = UnixTime::from_secs(1_795_000_000);

pub(crate) struct Lab {
    pub(crate) instance: InstanceId,
    pub(crate) options: MetadataOptions,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) facts: Facts,
    pub(crate) signatures: Option<DocumentSignatures>,
    pub(crate) credentials: Option<PreparedCredentials>,
    pub(crate) is_withheld: bool,
    pub(crate) managed_keys: ManagedKeys,
    pub(crate) key: TokenKey,
    pub(crate) now: UnixTime,
    document: Bytes,
}

pub(crate) fn facts() -> Facts {
    Facts {
        account: "123456789012".parse().unwrap(),
        partition: Partition::Aws,
        region: "us-east-1".parse().unwrap(),
        zone: "us-east-1a".parse().unwrap(),
        zone_id: "use1-az1".into(),
        domain: "amazonaws.com".into(),
        image_id: "ami-0123456789abcdef0".into(),
        instance_type: "t3.micro".into(),
        architecture: "x86_64".into(),
        launch_index: 0,
        reservation_id: "r-0123456789abcdef0".into(),
        local_hostname: "ip-10-0-0-5.ec2.internal".into(),
        private_ip: Some([10, 0, 0, 5].into()),
        interface: Some(interface()),
        security_groups: vec!["default".into()],
        key_pair: None,
        user_data: None,
        root_device: "/dev/xvda".into(),
        placement_group: None,
        placement_partition: None,
        launch_time: NOW.minus(3600),
    }
}

fn interface() -> Interface {
    Interface {
        id: "eni-0123456789abcdef0".into(),
        mac: "02:29:96:8f:6a:2d".into(),
        subnet_id: "subnet-0123456789abcdef0".into(),
        subnet_cidr: "10.0.0.0/20".into(),
        vpc_id: "vpc-0123456789abcdef0".into(),
        vpc_cidrs: vec!["10.0.0.0/16".into()],
        security_group_ids: vec!["sg-0123456789abcdef0".into()],
        ipv6: None,
        ipv6_cidr: None,
    }
}

pub(crate) fn credentials() -> PreparedCredentials {
    let prepared = |name: &str| {
        PreparedCredential::render(
            &format!("ASIA{name}"),
            &format!("secret{name}"),
            &format!("token{name}"),
            NOW.minus(60),
            NOW.plus(22_000),
        )
    };
    PreparedCredentials::new("123456789012".parse().unwrap(), prepared("V1"), prepared("V2"))
}

/// Version 1 and 2, signatures and credentials ready, no tags, no key pair, no user data.
pub(crate) fn lab() -> Lab {
    let instance = "i-0123456789abcdef0".parse().unwrap();
    let facts = facts();
    Lab {
        instance,
        options: MetadataOptions { http_tokens: HttpTokens::Optional, ..MetadataOptions::default() },
        tags: Vec::new(),
        document: identity_document(instance, &facts),
        facts,
        signatures: Some(DocumentSignatures { signature: "c2ln\nbmF0".into(), pkcs7: "cGtj\nczc=".into() }),
        credentials: Some(credentials()),
        is_withheld: false,
        managed_keys: ManagedKeys::default(),
        key: TokenKey::from_bytes(&[7; TokenKey::BYTES]).unwrap(),
        now: NOW,
    }
}

/// The same with everything that an instance can have.
pub(crate) fn full_lab() -> Lab {
    let mut lab = lab();
    lab.options.tags = true;
    for (key, value) in [("Name", "web 1"), ("empty", ""), ("a@b=c", "é"), ("not/shown", "x")] {
        lab.tags.push((key.into(), value.into()));
    }
    lab.facts.security_groups.push("web".into());
    lab.facts.placement_group = Some("spread".into());
    lab.facts.placement_partition = Some(3);
    if let Some(interface) = &mut lab.facts.interface {
        interface.security_group_ids.push("sg-0123456789abcdef1".into());
        interface.vpc_cidrs.push("192.168.0.0/16".into());
        interface.ipv6 = Some("fd00:1::5".parse().unwrap());
        interface.ipv6_cidr = Some("fd00:1::/64".into());
    }
    lab.facts.key_pair = Some(KeyPair { name: "laptop".into(), openssh_key: "ssh-ed25519 AAAA laptop".into() });
    lab.facts.user_data = Some(Bytes::from_static(b"#!/bin/sh\n\xff"));
    lab
}

/// Two keys for one user, and one for another.
pub(crate) fn managed_keys() -> ManagedKeys {
    let key = |user: &str, name: &str, seconds| ManagedKey {
        user: user.into(),
        block: format!("#Timestamp={}\nssh-ed25519 AAAA {name}\nc2ln\n\n", NOW.plus(seconds).as_secs()),
        expires_at: NOW.plus(seconds),
    };
    ManagedKeys {
        keys: vec![key("root", "first", 20), key("a.user@realm", "other", 60), key("root", "second", 40)],
        signer_chain: Bytes::from_static(b"-----BEGIN CERTIFICATE-----\n"),
        staples: vec![("0123456789ABCDEF0123456789ABCDEF01234567".into(), Bytes::from_static(b"c3RhcGxl"))],
    }
}

impl Lab {
    pub(crate) fn required(mut self) -> Self {
        self.options.http_tokens = HttpTokens::Required;
        self
    }

    pub(crate) fn disabled(mut self) -> Self {
        self.options.http_endpoint = HttpEndpoint::Disabled;
        self
    }

    pub(crate) fn at(mut self, now: UnixTime) -> Self {
        self.now = now;
        self
    }

    /// A token of this instance, minted at [`NOW`].
    pub(crate) fn token(&self, seconds: u32) -> String {
        let token = self.key.mint(self.instance, TokenTtl::from_secs(seconds).unwrap(), NOW).unwrap();
        String::from_utf8(token.as_bytes().to_vec()).unwrap()
    }

    /// Sends a request written as `METHOD PATH`, then lines of `Name: value`. `{token}` stands for a good token.
    pub(crate) fn ask<T>(&self, request: &str, with: impl FnOnce(Response) -> T) -> T {
        let request = request.replace("{token}", &self.token(21_600));
        let mut lines = request.lines();
        let (method, path) = lines.next().unwrap().split_once(' ').unwrap();
        let headers: Vec<(Vec<u8>, Vec<u8>)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.trim().as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        let view = View {
            instance: self.instance,
            options: self.options,
            tags: &self.tags,
            facts: &self.facts,
            document: &self.document,
            signatures: self.signatures.as_ref(),
            credentials: self.credentials.as_ref(),
            is_withheld: self.is_withheld,
            managed_keys: self.managed_keys.at(self.now),
        };
        with(respond(&Request { method, path: path.as_bytes(), headers: &headers }, &view, &self.key, self.now))
    }

    pub(crate) fn status(&self, request: &str) -> u16 {
        self.ask(request, |response| response.status)
    }

    /// The body of a GET without a token, which must answer 200.
    pub(crate) fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path}"), |response| {
            assert_eq!(response.status, 200, "{path}");
            String::from_utf8_lossy(&response.body).into_owned()
        })
    }

    /// The whole answer as text: status and type, the other headers, and after an empty line the body. `Server` is
    /// checked here; of a page only the title is shown.
    pub(crate) fn answer(&self, request: &str) -> String {
        self.ask(request, |response| {
            assert_eq!(response.close, response.hop_limit.is_some(), "what carries a hop limit closes, nothing else");
            let mut text = response.status.to_string();
            response.for_each_header(|name, value| match name {
                "server" => assert_eq!(value.to_string(), "EC2ws"),
                "content-type" => text.push_str(&format!(" {value}\n")),
                _ => text.push_str(&format!("{name}: {value}\n")),
            });
            if let Some(hops) = response.hop_limit {
                text.push_str(&format!("(hop limit {hops})\n"));
            }
            if !request.starts_with("HEAD") {
                assert_eq!(response.content_length, response.body.len());
            }
            let body = String::from_utf8_lossy(&response.body);
            match body.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>")) {
                Some((title, _)) => text + "\n<" + title + ">",
                None => text + "\n" + &body,
            }
        })
    }

    /// Asserts the whole answer.
    #[track_caller]
    pub(crate) fn check(&self, request: &str, expected: &str) {
        assert_eq!(self.answer(request), expected, "\n--- asked:\n{request}");
    }
}
