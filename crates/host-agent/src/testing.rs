//! What tests of this crate stand on.

use inborn_fleet::{DocumentSigned, GivenCredential, GivenMachine, MachineRecord, MetadataOptions};
use inborn_identity::{HttpEndpoint, HttpTokens, InstanceId, Partition, UnixTime, Zone};
use zeroize::Zeroizing;

use crate::facts::document_of;

/// When every machine was booted: long ago.
pub(crate) const BOOT: u64 = 1_790_000_000;

pub(crate) fn id(n: u8) -> InstanceId {
    InstanceId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, n])
}

pub(crate) fn record(n: u8) -> MachineRecord {
    let region: inborn_identity::Region = "us-east-1".parse().unwrap();
    MachineRecord {
        instance: id(n),
        account: "123456789012".parse().unwrap(),
        is_running: true,
        boot_generation: 1,
        options: MetadataOptions {
            http_tokens: HttpTokens::Required,
            http_endpoint: HttpEndpoint::Enabled,
            hop_limit: 1,
            ipv6: false,
            tags: false,
        },
        tags: [("Name".to_owned(), format!("web-{n}"))].into(),
        partition: Partition::Aws,
        zone: Zone::new(&region, 'a').unwrap(),
        region,
        zone_id: "use1-az1".to_owned(),
        domain: "amazonaws.com".to_owned(),
        image_id: "ami-0123456789abcdef0".to_owned(),
        instance_type: "m5.large".to_owned(),
        architecture: "x86_64".to_owned(),
        launch_index: 0,
        reservation_id: "r-0123456789abcdef0".to_owned(),
        local_hostname: "ip-10-0-0-5.ec2.internal".to_owned(),
        private_ip: Some([10, 0, 0, n].into()),
        interface: None,
        security_groups: vec!["default".to_owned()],
        key_pair: None,
        user_data: Some(b"hunter2".to_vec()),
        root_device: "/dev/xvda".to_owned(),
        placement_group: None,
        placement_partition: None,
        launch_time: BOOT,
        is_withheld: false,
        credentials_since: 0,
    }
}

pub(crate) fn given(machine: MachineRecord, version: &str) -> GivenMachine {
    GivenMachine { version: version.to_owned(), machine }
}

pub(crate) fn signed_of(instance: InstanceId) -> DocumentSigned {
    let [.., n] = instance.to_bytes();
    let document = String::from_utf8(document_of(&record(n)).to_vec()).unwrap();
    DocumentSigned { document, signature: "s".to_owned(), pkcs7: "p".to_owned() }
}

pub(crate) fn token_of(instance: InstanceId, issued_at: UnixTime) -> GivenCredential {
    GivenCredential {
        access_key_id: "ASIARZPUZDIKL7X6FZCX".parse().unwrap(),
        secret_access_key: Zeroizing::new("a".repeat(40)),
        session_token: Zeroizing::new(format!("{instance}-{}", issued_at.as_secs())),
    }
}
